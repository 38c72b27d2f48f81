// A program that replaces the functions of one number, REPLACE, counting its calls: the replacement is
// honoured directly and by every default operator that must go through it ([new.delete]), and by no other.
//
// The replacements take from malloc and aligned_alloc and give to free, as the defaults do, so each may be
// mixed with the defaults of the rest.
#include "check.h"
#include <new>

// The replaceable functions, in an order in which every default stands after the one that it calls.
// clang-format off
enum Operator {
    NEW, NEW_NOTHROW, NEW_ARRAY, NEW_ARRAY_NOTHROW,
    NEW_ALIGNED, NEW_ALIGNED_NOTHROW, NEW_ARRAY_ALIGNED, NEW_ARRAY_ALIGNED_NOTHROW,
    DELETE, DELETE_SIZED, DELETE_NOTHROW, DELETE_ARRAY, DELETE_ARRAY_SIZED, DELETE_ARRAY_NOTHROW,
    DELETE_ALIGNED, DELETE_SIZED_ALIGNED, DELETE_ALIGNED_NOTHROW,
    DELETE_ARRAY_ALIGNED, DELETE_ARRAY_SIZED_ALIGNED, DELETE_ARRAY_ALIGNED_NOTHROW,
    OPERATORS,
};

// What each default calls; itself where it calls malloc or free.
static const Operator calls[OPERATORS] = {
    NEW, NEW, NEW, NEW_ARRAY,
    NEW_ALIGNED, NEW_ALIGNED, NEW_ALIGNED, NEW_ARRAY_ALIGNED,
    DELETE, DELETE, DELETE, DELETE, DELETE_ARRAY, DELETE_ARRAY,
    DELETE_ALIGNED, DELETE_ALIGNED, DELETE_ALIGNED,
    DELETE_ALIGNED, DELETE_ARRAY_ALIGNED, DELETE_ARRAY_ALIGNED,
};
// clang-format on

static int count[OPERATORS];

using std::align_val_t;
using std::nothrow_t;

UNUSED static void *take(Operator which, size_t size) {
    count[which]++;
    return malloc(size);
}
UNUSED static void *take(Operator which, size_t size, align_val_t alignment) {
    count[which]++;
    return aligned_alloc(static_cast<size_t>(alignment), size);
}
UNUSED static void give(Operator which, void *block) {
    count[which]++;
    free(block);
}

#define REPLACED(which) (REPLACE == which || REPLACE == 20)
#pragma GCC diagnostic ignored "-Wsized-deallocation"
#if REPLACED(0)
void *operator new(size_t size) { return take(NEW, size); }
#endif
#if REPLACED(1)
void *operator new(size_t size, const nothrow_t &) noexcept { return take(NEW_NOTHROW, size); }
#endif
#if REPLACED(2)
void *operator new[](size_t size) { return take(NEW_ARRAY, size); }
#endif
#if REPLACED(3)
void *operator new[](size_t size, const nothrow_t &) noexcept { return take(NEW_ARRAY_NOTHROW, size); }
#endif
#if REPLACED(4)
void *operator new(size_t size, align_val_t al) { return take(NEW_ALIGNED, size, al); }
#endif
#if REPLACED(5)
void *operator new(size_t size, align_val_t al, const nothrow_t &) noexcept {
    return take(NEW_ALIGNED_NOTHROW, size, al);
}
#endif
#if REPLACED(6)
void *operator new[](size_t size, align_val_t al) { return take(NEW_ARRAY_ALIGNED, size, al); }
#endif
#if REPLACED(7)
void *operator new[](size_t size, align_val_t al, const nothrow_t &) noexcept {
    return take(NEW_ARRAY_ALIGNED_NOTHROW, size, al);
}
#endif
#if REPLACED(8)
void operator delete(void *block) noexcept { give(DELETE, block); }
#endif
#if REPLACED(9)
void operator delete(void *block, size_t) noexcept { give(DELETE_SIZED, block); }
#endif
#if REPLACED(10)
void operator delete(void *block, const nothrow_t &) noexcept { give(DELETE_NOTHROW, block); }
#endif
#if REPLACED(11)
void operator delete[](void *block) noexcept { give(DELETE_ARRAY, block); }
#endif
#if REPLACED(12)
void operator delete[](void *block, size_t) noexcept { give(DELETE_ARRAY_SIZED, block); }
#endif
#if REPLACED(13)
void operator delete[](void *block, const nothrow_t &) noexcept { give(DELETE_ARRAY_NOTHROW, block); }
#endif
#if REPLACED(14)
void operator delete(void *block, align_val_t) noexcept { give(DELETE_ALIGNED, block); }
#endif
#if REPLACED(15)
void operator delete(void *block, size_t, align_val_t) noexcept { give(DELETE_SIZED_ALIGNED, block); }
#endif
#if REPLACED(16)
void operator delete(void *block, align_val_t, const nothrow_t &) noexcept {
    give(DELETE_ALIGNED_NOTHROW, block);
}
#endif
#if REPLACED(17)
void operator delete[](void *block, align_val_t) noexcept { give(DELETE_ARRAY_ALIGNED, block); }
#endif
#if REPLACED(18)
void operator delete[](void *block, size_t, align_val_t) noexcept { give(DELETE_ARRAY_SIZED_ALIGNED, block); }
#endif
#if REPLACED(19)
void operator delete[](void *block, align_val_t, const nothrow_t &) noexcept {
    give(DELETE_ARRAY_ALIGNED_NOTHROW, block);
}
#endif

static const size_t SIZE = 1000;
static const align_val_t AL = static_cast<align_val_t>(128);

static void *call_new(int which) {
    switch (which) {
    case NEW: return ::operator new(SIZE);
    case NEW_NOTHROW: return ::operator new(SIZE, std::nothrow);
    case NEW_ARRAY: return ::operator new[](SIZE);
    case NEW_ARRAY_NOTHROW: return ::operator new[](SIZE, std::nothrow);
    case NEW_ALIGNED: return ::operator new(SIZE, AL);
    case NEW_ALIGNED_NOTHROW: return ::operator new(SIZE, AL, std::nothrow);
    case NEW_ARRAY_ALIGNED: return ::operator new[](SIZE, AL);
    default: return ::operator new[](SIZE, AL, std::nothrow);
    }
}

static void call_delete(int which, void *block) {
    switch (which) {
    case DELETE: return ::operator delete(block);
    case DELETE_SIZED: return ::operator delete(block, SIZE);
    case DELETE_NOTHROW: return ::operator delete(block, std::nothrow);
    case DELETE_ARRAY: return ::operator delete[](block);
    case DELETE_ARRAY_SIZED: return ::operator delete[](block, SIZE);
    case DELETE_ARRAY_NOTHROW: return ::operator delete[](block, std::nothrow);
    case DELETE_ALIGNED: return ::operator delete(block, AL);
    case DELETE_SIZED_ALIGNED: return ::operator delete(block, SIZE, AL);
    case DELETE_ALIGNED_NOTHROW: return ::operator delete(block, AL, std::nothrow);
    case DELETE_ARRAY_ALIGNED: return ::operator delete[](block, AL);
    case DELETE_ARRAY_SIZED_ALIGNED: return ::operator delete[](block, SIZE, AL);
    default: return ::operator delete[](block, AL, std::nothrow);
    }
}

// The replacement that a call of `which` must reach, or -1: the first on its way down.
static int reached(int which) {
    for (;;) {
        if (REPLACED(which)) return which;
        if (calls[which] == which) return -1;
        which = calls[which];
    }
}

static void *checked(int which, void *block) {
    memset(count, 0, sizeof count);
    void *result = NULL;
    if (which < DELETE) result = call_new(which);
    else call_delete(which, block);
    for (int i = 0; i < OPERATORS; i++) {
        int expected = i == reached(which);
        CHECKF(count[i] == expected, "operator %d reached replacement %d %d times, not %d", which, i,
               count[i], expected);
    }
    return result;
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    for (int take = NEW; take < DELETE; take++) {
        for (int give = DELETE; give < OPERATORS; give++) {
            // An aligned block goes to an aligned delete, an array's to an array's.
            if ((take >= NEW_ALIGNED) != (give >= DELETE_ALIGNED)) continue;
            void *block = checked(take, NULL);
            CHECK(block && aligned_to(block, take >= NEW_ALIGNED ? 128 : 16));
            memset(block, 1, SIZE);
            checked(give, block);
        }
    }
    return 0;
}
