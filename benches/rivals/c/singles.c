/* One thread and small blocks: pairs of malloc and free, batches of a thousand, and random lifetimes. */
#include "suite.h"

/* Nothing is written: what the shortest path costs. */
static void pair_64(void)
{
    enum { PAIRS = 8000000 };
    meter_start();
    for (long i = 0; i < PAIRS; i++)
        free(malloc(64));
    meter_stop(PAIRS);
}

static void pair_mixed(void)
{
    enum { PAIRS = 8000000 };
    struct sizes sizes = sizes_between(16, 1024);
    meter_start();
    for (long i = 0; i < PAIRS; i++)
        free(malloc(next_size(&sizes)));
    meter_stop(PAIRS);
}

enum { BATCH = 1000 };

static void batches(struct sizes sizes, const int *order, long count)
{
    static void *batch[BATCH];
    meter_start();
    for (long round = 0; round < count; round++) {
        for (int i = 0; i < BATCH; i++)
            batch[i] = written(next_size(&sizes));
        for (int i = 0; i < BATCH; i++)
            free(batch[order[i]]);
    }
    meter_stop((uint64_t)count * BATCH);
}

static int order[BATCH];

static const int *forwards(void)
{
    for (int i = 0; i < BATCH; i++)
        order[i] = i;
    return order;
}

static const int *backwards(void)
{
    for (int i = 0; i < BATCH; i++)
        order[i] = BATCH - 1 - i;
    return order;
}

static const int *shuffled(void)
{
    struct random random = random_from(1);
    forwards();
    for (int last = BATCH - 1; last > 0; last--) {
        int other = below(&random, last + 1), kept = order[last];
        order[last] = order[other];
        order[other] = kept;
    }
    return order;
}

static void batch_fifo(void) { batches(sizes_between(64, 64), forwards(), 6000); }
static void batch_lifo(void) { batches(sizes_between(64, 64), backwards(), 6000); }
static void batch_random(void) { batches(sizes_between(64, 64), shuffled(), 6000); }
static void batch_mixed(void) { batches(sizes_between(16, 1024), shuffled(), 3000); }

/* One of many live blocks is freed, and another size allocated in its place. */
static void replace(size_t live, struct sizes sizes, long work)
{
    void **blocks = malloc(live * sizeof *blocks);
    struct random random = random_from(live);
    for (size_t i = 0; i < live; i++)
        blocks[i] = written(next_size(&sizes));
    meter_start();
    for (long i = 0; i < work; i++) {
        void **place = &blocks[below(&random, live)];
        free(*place);
        *place = written(next_size(&sizes));
    }
    meter_stop(work);
}

static void random_1k(void) { replace(1000, sizes_between(16, 512), 5000000); }
static void random_100k(void) { replace(100000, sizes_between(16, 512), 1200000); }
static void random_large(void) { replace(5000, sizes_log_uniform(16, 64 << 10), 1000000); }

const struct workload singles[] = {
    { "pair-64", "pairs", pair_64 },
    { "pair-mixed", "pairs", pair_mixed },
    { "batch-fifo-64", "batches", batch_fifo },
    { "batch-lifo-64", "batches", batch_lifo },
    { "batch-random-64", "batches", batch_random },
    { "batch-random-mixed", "batches", batch_mixed },
    { "random-1k", "lifetimes", random_1k },
    { "random-100k", "lifetimes", random_100k },
    { "random-large", "lifetimes", random_large },
    { NULL, NULL, NULL },
};
