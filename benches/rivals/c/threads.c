/* Several threads and small blocks: a server that passes blocks on, producers and consumers, threads that come and go,
   and objects of two threads that are written often. */
#include "suite.h"

#include <pthread.h>

/* Where threads wait for each other. */
static pthread_barrier_t meet;

/* --- A server, as in Larson and Krishnan's benchmark: each thread replaces blocks of a table at random, and after
   each round takes the next table, so that others free what it has allocated. */
enum { LIVE = 2000, ROUND = 10000, ROUNDS = 160 };

static void *tables[MOST_THREADS][LIVE];
static int servers;

static void serve(int member)
{
    struct random random = random_from(member);
    struct sizes sizes = sizes_between(16, 1024);
    for (int round = 0; round < ROUNDS / servers; round++) {
        void **table = tables[(member + round) % servers];
        for (int i = 0; i < ROUND; i++) {
            void **place = &table[below(&random, LIVE)];
            free(*place);
            *place = written(next_size(&sizes));
        }
        pthread_barrier_wait(&meet);
    }
}

static void server(int threads)
{
    struct sizes sizes = sizes_between(16, 1024);
    servers = threads;
    pthread_barrier_init(&meet, NULL, threads);
    for (int table = 0; table < threads; table++)
        for (int i = 0; i < LIVE; i++)
            tables[table][i] = written(next_size(&sizes));
    measure_crew(threads, serve, (uint64_t)ROUNDS * ROUND);
}

static void server_2(void) { server(2); }
static void server_8(void) { server(8); }

/* --- Producers and consumers: what passes between them is a crate of blocks at a time. There is a fixed number of
   crates, which come back empty, and a thread without one sleeps: the hand-over neither allocates nor spins. */
enum { CRATE = 2000, CRATES = 4, FILLED = 800 };

struct crate {
    void *blocks[CRATE];
};

/* A stack of crates that threads wait at. */
struct store {
    pthread_mutex_t lock;
    pthread_cond_t arrived;
    struct crate *crates[MOST_THREADS * CRATES];
    int count;
};

static struct crate crates[MOST_THREADS * CRATES];
static struct store empty = { .lock = PTHREAD_MUTEX_INITIALIZER, .arrived = PTHREAD_COND_INITIALIZER };
static struct store full = { .lock = PTHREAD_MUTEX_INITIALIZER, .arrived = PTHREAD_COND_INITIALIZER };
static int pairs;

static void put(struct store *store, struct crate *crate)
{
    pthread_mutex_lock(&store->lock);
    store->crates[store->count++] = crate;
    pthread_mutex_unlock(&store->lock);
    pthread_cond_signal(&store->arrived);
}

static struct crate *take(struct store *store)
{
    pthread_mutex_lock(&store->lock);
    while (store->count == 0)
        pthread_cond_wait(&store->arrived, &store->lock);
    struct crate *crate = store->crates[--store->count];
    pthread_mutex_unlock(&store->lock);
    return crate;
}

static void produce(void)
{
    struct sizes sizes = sizes_between(64, 512);
    for (int i = 0; i < FILLED / pairs; i++) {
        struct crate *crate = take(&empty);
        for (int block = 0; block < CRATE; block++)
            crate->blocks[block] = written(next_size(&sizes));
        put(&full, crate);
    }
}

static void consume(void)
{
    for (int i = 0; i < FILLED / pairs; i++) {
        struct crate *crate = take(&full);
        for (int block = 0; block < CRATE; block++)
            free(crate->blocks[block]);
        put(&empty, crate);
    }
}

/* Members are bound to CPUs in turn, so 4 + 4 of them have both kinds on every CPU. */
static void produce_or_consume(int member)
{
    if (member < pairs)
        produce();
    else
        consume();
}

static void prodcons(int count)
{
    pairs = count;
    for (int i = 0; i < pairs * CRATES; i++)
        put(&empty, &crates[i]);
    measure_crew(2 * pairs, produce_or_consume, (uint64_t)FILLED * CRATE);
}

static void prodcons_1_1(void) { prodcons(1); }
static void prodcons_4_4(void) { prodcons(4); }

/* --- Threads that come, allocate a little, and go. Starting the thread is part of the work, and most of it. */
static void *live_shortly(void *unused)
{
    enum { BLOCKS = 200 };
    void *blocks[BLOCKS];
    for (int i = 0; i < BLOCKS; i++)
        blocks[i] = written(16 + i * 37 % 1000);
    for (int i = 0; i < BLOCKS; i++)
        free(blocks[i]);
    return unused;
}

static void churn(int at_once)
{
    enum { STARTED = 1600 };
    pthread_t alive[MOST_THREADS];
    meter_start();
    for (int i = 0; i < STARTED / at_once; i++) {
        for (int thread = 0; thread < at_once; thread++)
            pthread_create(&alive[thread], NULL, live_shortly, NULL);
        for (int thread = 0; thread < at_once; thread++)
            pthread_join(alive[thread], NULL);
    }
    meter_stop(STARTED);
}

static void churn_1(void) { churn(1); }
static void churn_4(void) { churn(4); }

/* --- Small objects that are written often, as in the Hoard paper's cache-thrash and cache-scratch: slow where two
   threads get objects on one cache line. */
enum { SHARING = 2, MEETINGS = 50, OBJECTS = 60000, WRITES = 8 };

static uint64_t *given[SHARING];

static void write_and_free(uint64_t volatile *object)
{
    for (int i = 0; i < WRITES; i++)
        *object = i;
    free((void *)object);
}

static void write_own(int member)
{
    if (given[member])
        write_and_free(given[member]);
    /* The threads wait for each other, lest one has ended before a busy machine lets the other begin. */
    for (int round = 0; round < MEETINGS; round++) {
        pthread_barrier_wait(&meet);
        for (int i = 0; i < OBJECTS; i++)
            write_and_free(written(sizeof(uint64_t)));
    }
}

static void sharing(void)
{
    pthread_barrier_init(&meet, NULL, SHARING);
    measure_crew(SHARING, write_own, SHARING * MEETINGS * OBJECTS);
}

/* The allocator itself puts objects of two threads on one line. */
static void sharing_active(void) { sharing(); }

/* Each thread begins with an object beside the other's; freed, it may come back. */
static void sharing_passive(void)
{
    for (int i = 0; i < SHARING; i++)
        given[i] = written(sizeof(uint64_t));
    sharing();
}

const struct workload threads[] = {
    { "server-2", "threads", server_2 },
    { "server-8", "threads", server_8 },
    { "prodcons-1-1", "threads", prodcons_1_1 },
    { "prodcons-4-4", "threads", prodcons_4_4 },
    { "churn-1", "threads", churn_1 },
    { "churn-4", "threads", churn_4 },
    { "sharing-active", "threads", sharing_active },
    { "sharing-passive", "threads", sharing_passive },
    { NULL, NULL, NULL },
};
