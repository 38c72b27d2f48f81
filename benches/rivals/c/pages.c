/* Whole pages: large blocks that nobody writes to, and on several threads blocks with one byte of each page written,
   page faults included. */
#include "suite.h"

#include <pthread.h>

static void large(size_t size, long pairs)
{
    meter_start();
    for (long i = 0; i < pairs; i++)
        free(malloc(size));
    meter_stop(pairs);
}

static void large_4k(void) { large(4 << 10, 4000000); }
static void large_32k(void) { large(32 << 10, 3000000); }
static void large_256k(void) { large(256 << 10, 100000); }

/* The oldest of so many blocks goes when a new one comes. */
enum { HELD = 16, MOST_THREADS = 8 };

static pthread_barrier_t start;
static long work_each;

static void *replace_oldest(void *seed)
{
    struct random random = random_from((uintptr_t)seed);
    void *ring[HELD] = { NULL };
    pthread_barrier_wait(&start);
    for (long i = 0; i < work_each; i++) {
        size_t size = below(&random, 64) == 0 ? 2 << 20 : (size_t)4096 << below(&random, 4);
        void **oldest = &ring[i % HELD];
        free(*oldest);
        *oldest = touched(size);
    }
    return NULL;
}

/* Blocks of 4 to 32 KiB on each thread, and one of 2 MiB among 64. */
static void touched_by(int threads, long work)
{
    pthread_t workers[MOST_THREADS];
    work_each = work / threads;
    pthread_barrier_init(&start, NULL, threads + 1);
    for (int i = 0; i < threads; i++)
        pthread_create(&workers[i], NULL, replace_oldest, (void *)(uintptr_t)i);
    meter_start();
    pthread_barrier_wait(&start);
    for (int i = 0; i < threads; i++)
        pthread_join(workers[i], NULL);
    meter_stop(work);
}

static void pages_2t(void) { touched_by(2, 300000); }
static void pages_8t(void) { touched_by(8, 200000); }

const struct workload pages[] = {
    { "large-4k", "pages", large_4k },
    { "large-32k", "pages", large_32k },
    { "large-256k", "pages", large_256k },
    { "pages-2t", "pages", pages_2t },
    { "pages-8t", "pages", pages_8t },
    { NULL, NULL, NULL },
};
