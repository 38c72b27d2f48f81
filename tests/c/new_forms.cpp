// Every form of operator new and delete, as functions and as expressions, and the new-handler.
#include "check.h"
#include <new>
#include <stdexcept>
#include <sys/resource.h>

namespace {

struct alignas(256) Wide {
    char bytes[300];
};

struct Counted {
    static int live;
    char bytes[40];
    Counted() { live++; }
    ~Counted() { live--; }
};
int Counted::live = 0;

struct Throwing {
    char bytes[4000];
    Throwing() { throw std::runtime_error("constructor"); }
};

std::align_val_t align_of(size_t alignment) { return static_cast<std::align_val_t>(alignment); }

void functions(size_t size) {
    void *block = ::operator new(size);
    CHECK(block && aligned_to(block, 16));
    fill(block, size, 1);
    CHECK(intact(block, size, size, 1));
    ::operator delete(block);
    block = ::operator new(size);
    ::operator delete(block, size);
    block = ::operator new(size, std::nothrow);
    CHECK(block && aligned_to(block, 16));
    ::operator delete(block, std::nothrow);
    block = ::operator new[](size);
    CHECK(block && aligned_to(block, 16));
    fill(block, size, 2);
    ::operator delete[](block);
    block = ::operator new[](size);
    ::operator delete[](block, size);
    block = ::operator new[](size, std::nothrow);
    CHECK(block != nullptr);
    ::operator delete[](block, std::nothrow);
}

void aligned_functions(size_t alignment, size_t size) {
    std::align_val_t al = align_of(alignment);
    for (int release = 0; release < 3; release++) {
        void *plain = release ? ::operator new(size, al) : ::operator new(size, al, std::nothrow);
        void *array = release ? ::operator new[](size, al) : ::operator new[](size, al, std::nothrow);
        CHECKF(plain && aligned_to(plain, alignment), "alignment %zu, size %zu", alignment, size);
        CHECKF(array && aligned_to(array, alignment), "alignment %zu, size %zu", alignment, size);
        CHECK(plain != array);
        fill(plain, size, 3);
        fill(array, size, 4);
        CHECK(intact(plain, size, size, 3));
        switch (release) {
        case 0:
            ::operator delete(plain, al, std::nothrow);
            ::operator delete[](array, al, std::nothrow);
            break;
        case 1:
            ::operator delete(plain, al);
            ::operator delete[](array, al);
            break;
        default: ::operator delete(plain, size, al); ::operator delete[](array, size, al);
        }
    }
}

void expressions() {
    Counted *one = new Counted, *many = new Counted[1000], *quiet = new (std::nothrow) Counted;
    CHECK(Counted::live == 1002);
    hide(one), hide(many), hide(quiet);
    delete one;
    delete[] many;
    delete quiet;
    CHECK(Counted::live == 0);
    Wide *wide = new Wide, *wides = new Wide[7], *quiet_wide = new (std::nothrow) Wide;
    CHECK(aligned_to(hide(wide), 256) && aligned_to(hide(wides), 256) && aligned_to(hide(quiet_wide), 256));
    delete wide;
    delete[] wides;
    delete quiet_wide;
    // The constructor throws: the matching delete must run, or this leaks 80 MB of address space.
    size_t before = address_space();
    for (int i = 0; i < 20000; i++) {
        if (i == 1000) before = address_space();
        try {
            hide(i % 2 ? new Throwing : new (std::nothrow) Throwing);
            CHECK(!"thrown");
        } catch (const std::runtime_error &) {}
    }
    CHECK(address_space() < before + 8 * MIB);
    delete static_cast<Counted *>(hide(nullptr));
    delete[] static_cast<Counted *>(hide(nullptr));
}

template <typename Allocate> bool throws_bad_alloc(Allocate allocate) {
    try {
        hide(allocate());
    } catch (const std::bad_alloc &) {
        return true;
    }
    return false;
}

void too_large() {
    static const size_t sizes[] = {SIZE_MAX,     SIZE_MAX - 15,    SIZE_MAX - 8191,
                                   SIZE_MAX / 2, SIZE_MAX / 2 + 1, size_t{1} << 48};
    for (size_t huge : sizes) {
        huge = hide_size(huge);
        CHECK(throws_bad_alloc([=] { return ::operator new(huge); }));
        CHECK(throws_bad_alloc([=] { return ::operator new[](huge); }));
        CHECK(::operator new(huge, std::nothrow) == nullptr);
        CHECK(::operator new[](huge, std::nothrow) == nullptr);
        CHECK(throws_bad_alloc([=] { return new char[huge]; }));
        // libstdc++ 12 rounds an aligned size up without looking, and asks for nothing.
        if (huge > SIZE_MAX - 4096) continue;
        CHECK(throws_bad_alloc([=] { return ::operator new(huge, align_of(64)); }));
        CHECK(throws_bad_alloc([=] { return ::operator new[](huge, align_of(4096)); }));
        CHECK(::operator new(huge, align_of(64), std::nothrow) == nullptr);
        CHECK(::operator new[](huge, align_of(4096), std::nothrow) == nullptr);
    }
}

int handler_calls;
void *reserve;

void counts_then_gives_up() {
    if (++handler_calls == 5) std::set_new_handler(nullptr);
}

void throws() {
    handler_calls++;
    throw std::bad_alloc();
}

void frees_the_reserve() {
    handler_calls++;
    if (!reserve) throw std::bad_alloc();
    CHECK(munmap(reserve, 4 * GIB) == 0);
    reserve = nullptr;
}

void handlers() {
    size_t huge = hide_size(SIZE_MAX / 2 + 1);
    auto counted = [&](std::new_handler handler, auto allocate, int expected) {
        handler_calls = 0;
        std::set_new_handler(handler);
        allocate();
        std::set_new_handler(nullptr);
        CHECKF(handler_calls == expected, "%d calls, %d expected", handler_calls, expected);
    };
    counted(counts_then_gives_up, [&] { CHECK(throws_bad_alloc([=] { return ::operator new(huge); })); }, 5);
    counted(
        counts_then_gives_up, [&] { CHECK(throws_bad_alloc([=] { return ::operator new[](huge); })); }, 5);
    counted(counts_then_gives_up, [&] { CHECK(!::operator new(huge, std::nothrow)); }, 5);
    counted(counts_then_gives_up, [&] { CHECK(!::operator new[](huge, std::nothrow)); }, 5);
    counted(
        counts_then_gives_up,
        [&] { CHECK(throws_bad_alloc([=] { return ::operator new(huge, align_of(64)); })); }, 5);
    counted(counts_then_gives_up, [&] { CHECK(!::operator new[](huge, align_of(64), std::nothrow)); }, 5);
    counted(throws, [&] { CHECK(throws_bad_alloc([=] { return ::operator new(huge); })); }, 1);
    counted(throws, [&] { CHECK(!::operator new(huge, std::nothrow)); }, 1);
    counted(throws, [&] { CHECK(malloc(huge) == nullptr); }, 0);
}

// A handler that makes room: under an address-space limit it unmaps a reserve, and new succeeds.
void handler_makes_room() {
    CHECK(getenv("LIMITED") != nullptr);
    reserve = mmap(nullptr, 4 * GIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(reserve != MAP_FAILED);
    handler_calls = 0;
    std::set_new_handler(frees_the_reserve);
    char *block = static_cast<char *>(::operator new(2 * GIB));
    std::set_new_handler(nullptr);
    CHECKF(handler_calls == 1 && reserve == nullptr, "%d calls", handler_calls);
    block[0] = block[2 * GIB - 1] = 1;
    ::operator delete(block);
}

} // namespace

int main(int argc, char **argv) {
    check_start(argc, argv);
    if (argc == 3) {
        handler_makes_room();
        return 0;
    }
    for (size_t size = 0; size < 3000; size++) functions(size);
    for (size_t size = 3000; size < 20 * MIB; size += size / 2) functions(size);
    for (size_t alignment = 1; alignment <= 4 * MIB; alignment <<= 1) {
        size_t sizes[] = {0, 1, alignment - 1, alignment, alignment + 1, 3 * alignment + 5};
        for (size_t size : sizes) aligned_functions(alignment, size);
    }
    expressions();
    too_large();
    handlers();

    // Once more in an address space of 5 GiB, for the handler that makes room.
    struct rlimit limit = {5 * GIB, 5 * GIB};
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0 && setenv("LIMITED", "1", 1) == 0);
    char again[] = "again";
    char *arguments[] = {argv[0], argv[1], again, nullptr};
    execv("/proc/self/exe", arguments);
    CHECK(!"exec");
}
