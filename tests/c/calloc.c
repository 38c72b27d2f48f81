// calloc's memory is zero whatever was there before, and a fresh large block costs no memory until touched.
#include "check.h"

static void dirty_then_zero(size_t size, size_t blocks) {
    char *block[64];
    CHECK(blocks <= COUNT(block));
    for (size_t i = 0; i < blocks; i++) {
        block[i] = malloc(size);
        CHECK(block[i] != NULL);
        memset(block[i], 0xA5, malloc_usable_size(block[i]));
    }
    for (size_t i = 0; i < blocks; i++) free(block[i]);
    for (size_t i = 0; i < blocks; i++) {
        block[i] = i % 2 ? calloc(1, size) : calloc(size, 1);
        CHECK(block[i] != NULL);
        CHECKF(all_zero(block[i], size), "calloc(%zu), block %zu of %zu", size, i, blocks);
    }
    for (size_t i = 0; i < blocks; i++) free(block[i]);
}

// Mixed lives: what was a part of larger, aligned, shrunk or purged blocks must come back as zero as well.
static void mixed(void) {
    enum { SLOTS = 400 };
    static char *slot[SLOTS];
    uint64_t random = 88172645463325252u;
    for (int step = 0; step < 60000; step++) {
        size_t at = next_random(&random) % SLOTS;
        size_t size = random_size(&random, 3 * MIB);
        free(slot[at]);
        switch (next_random(&random) % 4) {
        case 0: slot[at] = memalign((size_t)16 << (next_random(&random) % 10), size); break;
        case 1: slot[at] = realloc(malloc(size), size / 2); break;
        default:
            slot[at] = calloc(1, size);
            CHECKF(slot[at] && all_zero(slot[at], size), "calloc(%zu) at step %d", size, step);
        }
        if (slot[at]) memset(slot[at], 0x5A, malloc_usable_size(slot[at]));
        if (step % 10000 == 0) malloc_trim(0);
    }
    for (size_t at = 0; at < SLOTS; at++) free(slot[at]);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    for (size_t size = 1; size <= 1100; size += 3) dirty_then_zero(size, 64);
    for (size_t size = 1100; size <= 300 * KIB; size += size / 7) dirty_then_zero(size, 16);
    for (size_t size = 300 * KIB; size <= 9 * MIB; size += size / 3) dirty_then_zero(size, 4);
    mixed();

    // Dirty, given back to the system, taken again.
    char *block = malloc(64 * MIB);
    CHECK(block != NULL);
    memset(block, 0xFF, 64 * MIB);
    free(block);
    malloc_trim(0);
    block = calloc(64, MIB);
    CHECK(block && all_zero(block, 64 * MIB));
    free(block);
    malloc_trim(0);

    size_t before = resident();
    block = calloc(512, MIB);
    CHECK(block != NULL);
    size_t after = resident();
    CHECKF(after < before + 4 * MIB, "calloc(512 MiB) touched %zu KiB", (after - before) / KIB);
    for (size_t at = 0; at < 512 * MIB; at += 37 * MIB + 4321) {
        CHECK(block[at] == 0);
        block[at] = 1;
    }
    CHECK(block[512 * MIB - 1] == 0);
    free(block);

    // 3 GiB with both ends used; 100 GiB is granted untouched or refused, by the system's rules.
    block = malloc(3 * GIB);
    CHECK(block != NULL);
    block[0] = block[3 * GIB - 1] = 1;
    free(block);
    errno = 0;
    block = malloc(100 * GIB);
    CHECK(block != NULL || errno == ENOMEM);
    if (block) block[0] = block[100 * GIB - 1] = 1;
    free(block);
    return 0;
}
