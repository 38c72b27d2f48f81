/* Whole pages: large blocks that nobody writes to, and on several threads blocks with one byte of each page written,
   page faults included. */
#include "suite.h"

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
enum { HELD = 16 };

static long work_each;

/* Blocks of 4 to 32 KiB, and one of 2 MiB among 256. */
static void replace_oldest(int member)
{
    struct random random = random_from(member);
    void *ring[HELD] = { NULL };
    for (long i = 0; i < work_each; i++) {
        size_t size = below(&random, 256) == 0 ? 2 << 20 : (size_t)4096 << below(&random, 4);
        void **oldest = &ring[i % HELD];
        free(*oldest);
        *oldest = touched(size);
    }
}

static void touched_by(int threads, long work)
{
    work_each = work / threads;
    measure_crew(threads, replace_oldest, work);
}

static void pages_2t(void) { touched_by(2, 600000); }
static void pages_8t(void) { touched_by(8, 600000); }

const struct workload pages[] = {
    { "large-4k", "pages", large_4k },
    { "large-32k", "pages", large_32k },
    { "large-256k", "pages", large_256k },
    { "pages-2t", "pages", pages_2t },
    { "pages-8t", "pages", pages_8t },
    { NULL, NULL, NULL },
};
