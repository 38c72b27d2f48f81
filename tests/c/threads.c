// Threads coming and going. Argument: what they do.
//
//   sequence  20,000 short threads one after another; memory stays bounded
//   detached  4,800 detached threads that never allocate; the C library still frees as they end
//   together  1,000 threads at once, whose objects others free after they are gone
//   keys      every pthread key is taken before the first thread starts; then 2,000 threads
//   rounds    destructors that allocate in all four rounds, after the allocator's own teardown
//   cancel    threads cancelled at any point of their work
#include "check.h"
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>

// Some blocks of each kind, of which one is left to whoever joins the thread.
static void *short_life(void *argument) {
    uint64_t random = (uintptr_t)argument + 1;
    char *block[40];
    for (size_t i = 0; i < COUNT(block); i++) {
        size_t size = 1 + random_size(&random, 300 * KIB);
        block[i] = malloc(size);
        CHECK(block[i] != NULL);
        block[i][0] = block[i][size - 1] = 1;
    }
    for (size_t i = 1; i < COUNT(block); i++) free(block[i]);
    return block[0];
}

static void one_after_another(int threads) {
    size_t before = 0;
    for (int i = 0; i < threads; i++) {
        pthread_t thread;
        void *left = NULL;
        CHECKF(pthread_create(&thread, NULL, short_life, (void *)(uintptr_t)(i % 500)) == 0, "thread %d", i);
        CHECK(pthread_join(thread, &left) == 0);
        free(left);
        if (i == threads / 2) malloc_trim(0), before = resident();
    }
    // A thread has a MiB at most, and they come one by one: the rest is what is kept for later.
    CHECKF(resident() < 64 * MIB, "%zu KiB", resident() / KIB);
    CHECKF(address_space() < 256 * MIB, "%zu KiB", address_space() / KIB);
    // Trimmed, nothing of the second half of the threads is left.
    malloc_trim(0);
    CHECKF(resident() < before + 4 * MIB, "%zu KiB more", (resident() - before) / KIB);
}

static pthread_barrier_t barrier;

static void *kept_alive(void *argument) {
    void *left = short_life(argument);
    pthread_barrier_wait(&barrier);
    void *more = short_life(argument);
    free(left);
    return more;
}

static void together(void) {
    enum { THREADS = 1000, ROUNDS = 4 };
    static pthread_t thread[THREADS];
    pthread_attr_t attributes;
    CHECK(pthread_attr_init(&attributes) == 0);
    CHECK(pthread_attr_setstacksize(&attributes, 64 * KIB) == 0);
    CHECK(pthread_barrier_init(&barrier, NULL, THREADS) == 0);
    size_t before = 0;
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < THREADS; i++) {
            int error = pthread_create(&thread[i], &attributes, kept_alive, (void *)i);
            if (i == 0 && error == EAGAIN) skip("no thread can be created here");
            CHECKF(error == 0, "thread %zu of round %d: %d", i, round, error);
        }
        for (size_t i = 0; i < THREADS; i++) {
            void *left;
            CHECK(pthread_join(thread[i], &left) == 0);
            free(left);
        }
        if (round == 1) before = resident();
    }
    CHECKF(resident() < before + 32 * MIB, "%zu KiB more", (resident() - before) / KIB);
}

static size_t use_up_the_keys(void) {
    pthread_key_t key;
    size_t count = 0;
    while (pthread_key_create(&key, free) == 0) {
        CHECK(pthread_setspecific(key, malloc(10)) == 0);
        CHECK(count++ < PTHREAD_KEYS_MAX);
    }
    return count;
}

enum { KEYS = 40 };
static pthread_key_t key[KEYS];
static int rounds_seen[KEYS + 1];

// What a key holds: which key it is, which round comes next, and blocks of earlier rounds.
struct held {
    size_t which;
    int round;
    char *block[PTHREAD_DESTRUCTOR_ITERATIONS];
};

// Takes more in every round and frees what the round before took; on the last it frees all.
static void at_thread_exit(void *value) {
    struct held *held = value;
    int round = held->round++;
    __atomic_add_fetch(&rounds_seen[round], 1, __ATOMIC_RELAXED);
    for (size_t size = 1; size < 100000; size = size * 5 + held->which) free(malloc(size));
    if (round > 0) {
        CHECK(intact(held->block[round - 1], 1000, 1000, held->which));
        free(held->block[round - 1]);
    }
    if (round == PTHREAD_DESTRUCTOR_ITERATIONS - 1) {
        free(held);
        return;
    }
    held->block[round] = realloc(malloc(100), 1000);
    CHECK(held->block[round] != NULL);
    fill(held->block[round], 1000, held->which);
    CHECK(pthread_setspecific(key[held->which], held) == 0);
}

static void *with_destructors(void *argument) {
    for (size_t i = 0; i < KEYS; i++) {
        struct held *held = calloc(1, sizeof *held);
        CHECK(held != NULL);
        held->which = i;
        CHECK(pthread_setspecific(key[i], held) == 0);
    }
    return short_life(argument);
}

static void all_rounds(void) {
    enum { THREADS = 2000 };
    size_t before = 0;
    for (size_t i = 0; i < KEYS; i++) CHECK(pthread_key_create(&key[i], at_thread_exit) == 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_t thread;
        void *left;
        CHECK(pthread_create(&thread, NULL, with_destructors, (void *)(uintptr_t)(i % 100)) == 0);
        CHECK(pthread_join(thread, &left) == 0);
        free(left);
        if (i == THREADS / 10) before = resident();
    }
    for (int round = 0; round < PTHREAD_DESTRUCTOR_ITERATIONS; round++) {
        CHECKF(rounds_seen[round] == THREADS * KEYS, "round %d ran %d times", round, rounds_seen[round]);
    }
    CHECKF(resident() < before + 8 * MIB, "%zu KiB more", (resident() - before) / KIB);
}

static void *until_cancelled(void *argument) {
    for (;;) {
        free(short_life(argument));
        pthread_testcancel();
    }
    return NULL;
}

static void cancelled(void) {
    for (int i = 0; i < 300; i++) {
        pthread_t thread;
        void *result;
        CHECK(pthread_create(&thread, NULL, until_cancelled, (void *)(uintptr_t)i) == 0);
        if (i % 3) usleep(100 * (unsigned)(i % 7));
        CHECK(pthread_cancel(thread) == 0);
        CHECK(pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
        free(short_life(NULL));
    }
}

static atomic_int up, go, down;

static void *no_life(void *argument) {
    up++;
    while (!go) usleep(200);
    down++;
    return argument;
}

// As detached threads end, the C library frees what it kept of older ones' stacks, after all exit handlers. It
// keeps 40 MiB of stacks, hence as many threads at once.
static void detached(void) {
    pthread_attr_t attributes;
    CHECK(pthread_attr_init(&attributes) == 0);
    CHECK(pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED) == 0);
    size_t before = 0;
    for (int round = 0; round < 120; round++) {
        enum { THREADS = 40 };
        up = go = down = 0;
        for (int i = 0; i < THREADS; i++) {
            pthread_t thread;
            CHECK(pthread_create(&thread, &attributes, no_life, NULL) == 0);
        }
        while (up < THREADS) usleep(100);
        go = 1;
        while (down < THREADS) usleep(100);
        usleep(2000);
        if (round == 20) before = resident();
    }
    size_t grown = resident() > before ? resident() - before : 0;
    CHECKF(grown < 4 * MIB, "%zu KiB more resident after 4,800 threads than after 840", grown / KIB);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    CHECK(argc == 3);
    if (strcmp(argv[2], "sequence") == 0) one_after_another(20000);
    if (strcmp(argv[2], "detached") == 0) detached();
    if (strcmp(argv[2], "together") == 0) together();
    if (strcmp(argv[2], "keys") == 0) {
        CHECKF(use_up_the_keys() > 1000, "few keys");
        one_after_another(2000);
    }
    if (strcmp(argv[2], "rounds") == 0) all_rounds();
    if (strcmp(argv[2], "cancel") == 0) cancelled();
    return 0;
}
