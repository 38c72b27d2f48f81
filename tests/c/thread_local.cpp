// C++ thread_local objects whose destructors allocate, free and create further thread_local objects.
#include "check.h"
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace {

std::vector<std::string> made_late() {
    std::vector<std::string> strings;
    for (size_t i = 1; i < 50; i++) strings.emplace_back(i * 37, 'z');
    return strings;
}

struct Last {
    std::vector<std::string> strings = made_late();
    ~Last() {
        strings.resize(3);
        auto more = made_late();
        CHECK(more[10] == std::string(11 * 37, 'z') && strings[2] == std::string(3 * 37, 'z'));
    }
};

thread_local std::unique_ptr<Last> created_in_a_destructor;

struct First {
    std::unique_ptr<char[]> block{new char[5000]};
    std::vector<std::string> strings = made_late();
    ~First() {
        auto more = made_late();
        strings.swap(more);
        if (!created_in_a_destructor) created_in_a_destructor = std::make_unique<Last>();
        thread_local Last another;
        another.strings.push_back(strings.back());
    }
};

thread_local First first, second;
thread_local std::string text;

void life() {
    first.strings.push_back("first");
    second.block[4999] = 'x';
    text.assign(1000, 't');
}

} // namespace

int main(int argc, char **argv) {
    check_start(argc, argv);
    life();
    size_t before = 0;
    for (int i = 0; i < 3000; i++) {
        std::thread(life).join();
        if (i == 300) before = resident();
    }
    CHECKF(resident() < before + 8 * MIB, "%zu KiB more", (resident() - before) / KIB);
    return 0;
}
