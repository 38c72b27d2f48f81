// Size zero: every entry returns a block of its own that can be freed, and freeing null does nothing.
#include "check.h"

static int by_address(const void *left, const void *right) {
    uintptr_t a = *(const uintptr_t *)left, b = *(const uintptr_t *)right;
    return a < b ? -1 : a > b;
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    enum { ROUNDS = 1000, ENTRIES = 11 };
    static void *blocks[ROUNDS * ENTRIES];
    size_t count = 0;
    size_t zero = hide_size(0);
    for (int round = 0; round < ROUNDS; round++) {
        void *aligned = NULL;
        blocks[count++] = malloc(zero);
        blocks[count++] = calloc(zero, zero);
        blocks[count++] = calloc(zero, 8);
        blocks[count++] = calloc(8, zero);
        blocks[count++] = realloc(NULL, zero);
        blocks[count++] = reallocarray(NULL, zero, 8);
        blocks[count++] = aligned_alloc(64, zero);
        blocks[count++] = memalign(64, zero);
        CHECK(posix_memalign(&aligned, 64, zero) == 0);
        blocks[count++] = aligned;
        blocks[count++] = valloc(zero);
        blocks[count++] = pvalloc(zero);
    }
    for (size_t i = 0; i < count; i++) {
        CHECKF(blocks[i] != NULL, "entry %zu", i % ENTRIES);
        CHECKF(aligned_to(blocks[i], 16), "entry %zu: %p", i % ENTRIES, blocks[i]);
    }
    qsort(blocks, count, sizeof blocks[0], by_address);
    for (size_t i = 1; i < count; i++) CHECKF(blocks[i] != blocks[i - 1], "%p twice", blocks[i]);
    for (size_t i = 0; i < count; i++) free(blocks[i]);

    for (int round = 0; round < 1000; round++) free(hide(NULL));
    CHECK(malloc_usable_size(NULL) == 0);
    return 0;
}
