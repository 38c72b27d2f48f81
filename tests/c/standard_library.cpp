// What C++ programs do all day: containers, strings, exceptions, shared pointers and threads that hand
// their objects to each other.
#include "check.h"
#include <algorithm>
#include <deque>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

namespace {

using Index = std::unordered_map<std::string, std::vector<std::string>>;

std::unique_ptr<Index> indexed(unsigned seed) {
    auto index = std::make_unique<Index>();
    uint64_t random = seed + 1;
    for (int i = 0; i < 30000; i++) {
        std::string word = "word" + std::to_string(next_random(&random) % 3000);
        (*index)[word].push_back(std::string(next_random(&random) % 200, static_cast<char>('a' + i % 26)));
    }
    return index;
}

size_t words(const Index &index) {
    size_t sum = 0;
    for (const auto &[word, list] : index) {
        CHECK(word.compare(0, 4, "word") == 0);
        for (const std::string &text : list)
            CHECK(std::all_of(text.begin(), text.end(), [&](char c) { return c == text[0]; }));
        sum += list.size();
    }
    return sum;
}

int thrown_through(int depth) {
    std::string local(static_cast<size_t>(depth) * 50, 'x');
    if (depth == 0) throw std::runtime_error(std::string(300, 'e'));
    return thrown_through(depth - 1) + static_cast<int>(local.size());
}

struct Node {
    std::vector<std::shared_ptr<Node>> children;
    std::weak_ptr<Node> parent;
};

std::shared_ptr<Node> tree(int depth) {
    auto node = std::make_shared<Node>();
    for (int i = 0; depth > 0 && i < 4; i++) {
        node->children.push_back(tree(depth - 1));
        node->children.back()->parent = node;
    }
    return node;
}

} // namespace

int main(int argc, char **argv) {
    check_start(argc, argv);
    std::vector<std::future<std::unique_ptr<Index>>> futures;
    for (unsigned i = 0; i < 4; i++) futures.push_back(std::async(std::launch::async, indexed, i));
    size_t sum = 0;
    for (auto &future : futures) sum += words(*future.get());
    CHECKF(sum == 4 * 30000, "%zu", sum);

    for (int i = 0; i < 500; i++) {
        try {
            thrown_through(20);
            CHECK(!"thrown");
        } catch (const std::exception &error) {
            CHECK(strlen(error.what()) == 300);
        }
    }
    std::exception_ptr carried;
    std::thread([&] {
        try {
            thrown_through(5);
        } catch (...) {
            carried = std::current_exception();
        }
    }).join();
    try {
        std::rethrow_exception(carried);
    } catch (const std::runtime_error &error) {
        CHECK(error.what()[299] == 'e');
    }

    CHECK(tree(7)->children.size() == 4);
    std::map<int, std::deque<std::function<int()>>> jobs;
    for (int i = 0; i < 20000; i++)
        jobs[i % 100].push_back(
            [i, text = std::string(50, 'j')] { return i + static_cast<int>(text.size()); });
    long total = 0;
    for (auto &[key, list] : jobs) {
        for (auto &job : list) total += job();
    }
    CHECKF(total == 20000L * 19999 / 2 + 20000L * 50, "%ld", total);
    return 0;
}
