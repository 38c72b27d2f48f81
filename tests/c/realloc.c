// realloc: contents survive growing, shrinking and moving, for plain and aligned blocks.
#include "check.h"

static const size_t small[] = {0,     1,     7,     8,     15,    16,    17,     24,     25,     32,
                               33,    48,    64,    100,   128,   129,   255,    256,    500,    512,
                               1000,  1024,  2000,  2048,  2049,  4000,  4096,   4097,   8192,   10000,
                               16384, 20000, 32768, 32769, 65536, 65537, 100000, 131072, 131073, 262144};
static const size_t large[] = {64 * KIB, 128 * KIB + 1, MIB, 2 * MIB, 3 * MIB - 8, 17 * MIB, 64 * MIB};

static void *resized(void *block, size_t from, size_t to, uint64_t seed) {
    size_t kept = from < to ? from : to;
    char *moved = realloc(block, to);
    CHECKF(moved != NULL, "realloc(%zu -> %zu)", from, to);
    CHECKF(aligned_to(moved, 16), "realloc(%zu -> %zu) is %p", from, to, (void *)moved);
    CHECKF(malloc_usable_size(moved) >= to, "realloc(%zu -> %zu)", from, to);
    CHECKF(intact(moved, kept, from, seed), "realloc(%zu -> %zu) lost contents", from, to);
    return moved;
}

static void every_pair(const size_t *sizes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < count; j++) {
            // realloc(p, 0) frees, so zero is only a place to start from.
            if (sizes[j] == 0) continue;
            char *block = malloc(sizes[i]);
            CHECK(block != NULL);
            fill(block, sizes[i], i * 100 + j);
            block = resized(block, sizes[i], sizes[j], i * 100 + j);
            fill(block, sizes[j], j);
            free(block);
        }
    }
}

static void in_small_steps(size_t step) {
    char *block = NULL, *neighbour[8];
    size_t size = 0;
    for (size_t next = 1; next < MIB; next += step + next / 16) {
        for (size_t i = 0; i < COUNT(neighbour); i++) {
            neighbour[i] = malloc(next);
            CHECK(neighbour[i] != NULL);
            fill(neighbour[i], next, i);
        }
        block = resized(block, size, next, size);
        size = next;
        fill(block, size, size);
        for (size_t i = 0; i < COUNT(neighbour); i++) {
            CHECKF(intact(neighbour[i], next, next, i), "growing to %zu touched a neighbour", next);
            free(neighbour[i]);
        }
    }
    while (size > 1) {
        size_t next = size - (size / 16 + 1);
        block = resized(block, size, next, size);
        size = next;
        fill(block, size, size);
    }
    free(block);
}

static void aligned_blocks(void) {
    for (size_t alignment = 32; alignment <= 4 * MIB; alignment <<= 1) {
        size_t sizes[] = {1, 100, alignment - 1, alignment, alignment + 1};
        for (size_t i = 0; i < COUNT(sizes); i++) {
            size_t targets[] = {1, 50, sizes[i], sizes[i] / 2 + 1, sizes[i] * 2, sizes[i] + 100000};
            for (size_t j = 0; j < COUNT(targets); j++) {
                char *block = memalign(alignment, sizes[i]);
                CHECK(block && aligned_to(block, alignment));
                fill(block, sizes[i], j);
                block = resized(block, sizes[i], targets[j], j);
                fill(block, targets[j], j);
                free(resized(block, targets[j], targets[j] + 1, j));
            }
        }
    }
}

// A caller that asks for what the block already has gets the block back.
static void to_the_usable_size(size_t size) {
    char *block = malloc(size);
    CHECK(block != NULL);
    size_t usable = malloc_usable_size(block);
    fill(block, usable, size);
    char *same = realloc(hide(block), usable ? usable : 1);
    // glibc 2.36 counts a mapped block's header in and may move it by a page.
    if (ours || usable < 128 * KIB) CHECKF(same == block, "size %zu, usable %zu", size, usable);
    CHECKF(intact(same, usable, usable, size), "size %zu, usable %zu", size, usable);
    free(same);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    char *block = realloc(NULL, 100);
    CHECK(block != NULL);
    fill(block, 100, 1);
    CHECK(intact(block, 100, 100, 1));
    free(block);
    block = reallocarray(NULL, 10, 10);
    CHECK(block != NULL);
    fill(block, 100, 1);
    block = reallocarray(block, 100, 100);
    CHECK(block && intact(block, 100, 100, 1));
    free(block);

    // realloc(p, 0) frees: a million blocks of 64 bytes and 20 GiB in larger ones pass through bounded memory.
    size_t before = resident();
    for (int i = 0; i < 1000000; i++) CHECK(realloc(malloc(64), hide_size(0)) == NULL);
    for (int i = 0; i < 20000; i++) {
        block = malloc(MIB);
        CHECK(block != NULL);
        block[0] = block[MIB / 2] = 1;
        CHECK(realloc(block, hide_size(0)) == NULL);
    }
    CHECKF(resident() < before + 16 * MIB, "realloc(p, 0) leaks: %zu KiB", (resident() - before) / KIB);

    every_pair(small, COUNT(small));
    every_pair(large, COUNT(large));
    in_small_steps(1);
    in_small_steps(997);
    aligned_blocks();
    for (size_t size = 0; size < 70000; size += 1 + size / 64) to_the_usable_size(size);
    for (size_t size = 70000; size < 70 * MIB; size += size / 5) to_the_usable_size(size);
    return 0;
}
