// Every byte up to malloc_usable_size belongs to the block, and blocks that live together do not overlap.
#include "check.h"

enum { LIVE = 2000 };
static unsigned char *block[LIVE];
static size_t usable[LIVE];

static void put(size_t at, size_t size) {
    switch (at % 4) {
    case 0: block[at] = calloc(1, size); break;
    case 1: block[at] = memalign((size_t)16 << (at % 9), size); break;
    case 2: block[at] = realloc(malloc(size / 3), size ? size : 1); break;
    default: block[at] = malloc(size);
    }
    CHECK(block[at] != NULL);
    usable[at] = malloc_usable_size(block[at]);
    CHECKF(usable[at] >= size, "%zu bytes asked for, %zu usable", size, usable[at]);
    memset(block[at], (int)(at % 251) + 1, usable[at]);
}

static void take(size_t at) {
    CHECKF(malloc_usable_size(block[at]) == usable[at], "block %zu", at);
    for (size_t i = 0; i < usable[at]; i++) {
        CHECKF(block[at][i] == at % 251 + 1, "block %zu of %zu bytes overlaps at byte %zu", at, usable[at],
               i);
    }
    free(block[at]);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    CHECK(malloc_usable_size(NULL) == 0);
    for (size_t base = 0; base < 20000; base += LIVE) {
        for (size_t at = 0; at < LIVE; at++) put(at, base + at);
        for (size_t at = 0; at < LIVE; at++) take(at);
    }
    uint64_t random = 42;
    for (size_t at = 0; at < LIVE; at++) put(at, random_size(&random, 4 * MIB));
    for (int step = 0; step < 20000; step++) {
        size_t at = next_random(&random) % LIVE;
        take(at);
        put(at, random_size(&random, 4 * MIB));
    }
    for (size_t at = 0; at < LIVE; at++) take(at);
    return 0;
}
