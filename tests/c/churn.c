// Random work on a table of blocks that all threads share: blocks are freed and resized by other threads
// than took them, and each carries a checksum of itself. Arguments: threads, steps of each.
#include "check.h"
#include <pthread.h>
#include <stdatomic.h>

// The head of every block; the rest is filled from the seed.
struct head {
    size_t size;
    uint64_t seed;
    struct head *self;
};

enum { SLOTS = 4096 };
static _Atomic(struct head *) table[SLOTS];
static long steps;

static void write_block(struct head *block, size_t size, uint64_t seed) {
    block->size = size;
    block->seed = seed;
    block->self = block;
    fill(block + 1, size - sizeof *block, seed);
}

static void check_block(struct head *block) {
    CHECKF(block->self == block, "%p says it is %p", (void *)block, (void *)block->self);
    CHECKF(malloc_usable_size(block) >= block->size, "%p", (void *)block);
    size_t rest = block->size - sizeof *block;
    CHECKF(intact(block + 1, rest, rest, block->seed), "%p of %zu bytes", (void *)block, block->size);
}

static struct head *take_block(uint64_t *random, size_t size) {
    switch (next_random(random) % 8) {
    case 0: {
        struct head *block = calloc(1, size);
        CHECK(block && all_zero(block, size));
        return block;
    }
    case 1: return memalign((size_t)16 << (next_random(random) % 9), size);
    default: return malloc(size);
    }
}

static void *work(void *argument) {
    uint64_t random = 0x9E3779B97F4A7C15u * ((uintptr_t)argument + 1);
    for (long step = 0; step < steps; step++) {
        size_t at = next_random(&random) % SLOTS;
        size_t size = sizeof(struct head) + random_size(&random, 2 * MIB);
        struct head *block = atomic_exchange(&table[at], NULL);
        if (block) check_block(block);
        if (block && next_random(&random) % 4 == 0) {
            struct head *moved = realloc(block, size);
            CHECK(moved != NULL);
            size_t kept = moved->size < size ? moved->size : size;
            CHECK(intact(moved + 1, kept - sizeof *moved, moved->size - sizeof *moved, moved->seed));
            block = moved;
        } else {
            free(block);
            block = take_block(&random, size);
            CHECK(block != NULL);
        }
        write_block(block, size, next_random(&random));
        block = atomic_exchange(&table[at], block);
        if (block) {
            check_block(block);
            free(block);
        }
    }
    return NULL;
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    CHECK(argc == 4);
    pthread_t thread[16];
    long threads = atol(argv[2]);
    steps = atol(argv[3]);
    CHECK(threads <= (long)COUNT(thread));
    for (long i = 1; i < threads; i++) CHECK(pthread_create(&thread[i], NULL, work, (void *)i) == 0);
    work(NULL);
    for (long i = 1; i < threads; i++) CHECK(pthread_join(thread[i], NULL) == 0);
    for (size_t at = 0; at < SLOTS; at++) {
        if (!table[at]) continue;
        check_block(table[at]);
        free(table[at]);
    }
    return 0;
}
