// Resource limits. Arguments: what is limited, and a number.
//
//   start MIB     the program starts in an address space of that size, and works
//   full          RLIMIT_AS is hit: null and ENOMEM, everything freed, then as much again
//   full-threads  the same with 8 threads, and with threads that start at the limit
//   maps          all mappings that a process may have are used up
//   stack         started with an unlimited stack, that is with the legacy layout of mappings
#include "check.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>

static void limit_to(int resource, rlim_t bytes) {
    struct rlimit limit = {bytes, bytes};
    CHECK(setrlimit(resource, &limit) == 0);
}

static void again_as(char **argv, const char *what) {
    char *arguments[] = {argv[0], argv[1], (char *)what, NULL};
    execv("/proc/self/exe", arguments);
    CHECKF(0, "exec failed");
}

static void *some_life(void *argument) {
    uint64_t random = (uintptr_t)argument + 1;
    char *block[200] = {NULL};
    size_t size[200] = {0};
    for (int i = 0; i < 5000; i++) {
        size_t at = next_random(&random) % COUNT(block);
        CHECK(intact(block[at], size[at], size[at], at));
        free(block[at]);
        size[at] = random_size(&random, 100 * KIB) / 4 + 1;
        block[at] = malloc(size[at]);
        CHECKF(block[at] != NULL, "%zu bytes after %d steps", size[at], i);
        fill(block[at], size[at], at);
    }
    for (size_t at = 0; at < COUNT(block); at++) free(block[at]);
    return NULL;
}

static void started(void) {
    some_life(NULL);
    pthread_attr_t attributes;
    CHECK(pthread_attr_init(&attributes) == 0);
    CHECK(pthread_attr_setstacksize(&attributes, 64 * KIB) == 0);
    for (size_t i = 0; i < 8; i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, &attributes, some_life, (void *)i) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
    char *block = calloc(1, 3 * MIB);
    CHECK(block && all_zero(block, 3 * MIB));
    free(block);
}

// Blocks linked through their own memory: a program at its limit has no room for a table.
struct link {
    struct link *next;
    size_t size;
};

static size_t fill_up(struct link **list, size_t size) {
    size_t total = 0;
    for (;;) {
        errno = 0;
        struct link *block = malloc(size);
        if (!block) break;
        ((char *)block)[size - 1] = 1;
        block->next = *list;
        block->size = size;
        *list = block;
        total += size;
    }
    CHECKF(errno == ENOMEM, "malloc(%zu)", size);
    return total;
}

static void free_all(struct link **list) {
    while (*list) {
        struct link *next = (*list)->next;
        errno = 4711;
        free(*list);
        CHECK(errno == 4711);
        *list = next;
    }
}

static void full(void) {
    static const size_t sizes[] = {16, 100, 1000, 4096, 10000, 100 * KIB, MIB, 5 * MIB, 40 * MIB};
    limit_to(RLIMIT_AS, address_space() + 256 * MIB);
    struct link *list = NULL;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        size_t first = fill_up(&list, sizes[i]);
        CHECKF(first >= 120 * MIB, "%zu KiB in blocks of %zu bytes", first / KIB, sizes[i]);
        errno = 0;
        CHECK(calloc(1, 64 * MIB) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(memalign(2 * MIB, 64 * MIB) == NULL && errno == ENOMEM);
        struct link *head = list;
        errno = 0;
        CHECK(realloc(head, 80 * MIB) == NULL && errno == ENOMEM);
        CHECK(head->size == sizes[i]);
        free_all(&list);
        size_t second = fill_up(&list, sizes[i]);
        CHECKF(second >= first / 10 * 9, "%zu KiB, then only %zu KiB in blocks of %zu bytes", first / KIB,
               second / KIB, sizes[i]);
        free_all(&list);
    }
    // From the largest to the smallest: what is free may be in pieces of another size.
    for (size_t i = COUNT(sizes); i-- > 0;) {
        size_t total = fill_up(&list, sizes[i]);
        CHECKF(total >= 100 * MIB, "%zu KiB in blocks of %zu bytes", total / KIB, sizes[i]);
        free_all(&list);
        malloc_trim(0);
    }
    some_life(NULL);
}

enum { THREADS = 8 };
static pthread_barrier_t barrier;
static size_t totals[2][THREADS];

static void *take_one(void *argument) { return malloc((size_t)argument); }

static void *fill_twice(void *argument) {
    size_t which = (uintptr_t)argument;
    struct link *list = NULL;
    pthread_barrier_wait(&barrier);
    for (int round = 0; round < 2; round++) {
        totals[round][which] = fill_up(&list, 500 + 700 * which);
        pthread_barrier_wait(&barrier);
        pthread_t thread;
        // A thread at the limit: it cannot start, or it starts and lives with null.
        if (pthread_create(&thread, NULL, take_one, (void *)10000) == 0) {
            void *result;
            CHECK(pthread_join(thread, &result) == 0);
            free(result);
        }
        pthread_barrier_wait(&barrier);
        free_all(&list);
        pthread_barrier_wait(&barrier);
    }
    return NULL;
}

static void full_threads(void) {
    pthread_t thread[THREADS];
    CHECK(pthread_barrier_init(&barrier, NULL, THREADS + 1) == 0);
    for (size_t i = 0; i < THREADS; i++) CHECK(pthread_create(&thread[i], NULL, fill_twice, (void *)i) == 0);
    limit_to(RLIMIT_AS, address_space() + 256 * MIB);
    for (int i = 0; i < 7; i++) pthread_barrier_wait(&barrier);
    for (size_t i = 0; i < THREADS; i++) CHECK(pthread_join(thread[i], NULL) == 0);
    size_t sum[2] = {0, 0};
    for (size_t i = 0; i < THREADS; i++) sum[0] += totals[0][i], sum[1] += totals[1][i];
    CHECKF(sum[0] >= 120 * MIB, "%zu KiB", sum[0] / KIB);
    CHECKF(sum[1] >= sum[0] / 4 * 3, "%zu KiB, then only %zu KiB", sum[0] / KIB, sum[1] / KIB);
    some_life(NULL);
}

static void maps_used_up(void) {
    enum { MAPS = 200000 };
    static void *map[MAPS];
    size_t count = 0;
    some_life(NULL);
    // Neighbours of different protection do not merge into one mapping.
    while (count < MAPS) {
        void *page = mmap(NULL, 4096, count % 2 ? PROT_READ : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED) break;
        map[count++] = page;
    }
    if (count == MAPS) skip("no limit on the number of mappings");
    static char *block[3000];
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < COUNT(block); i++) {
            size_t size = (i * 7919) % (600 * KIB) + 1;
            errno = 0;
            block[i] = malloc(size);
            CHECK(block[i] != NULL || errno == ENOMEM);
            if (block[i]) block[i][0] = block[i][size - 1] = 1;
        }
        errno = 4711;
        for (size_t i = 0; i < COUNT(block); i++) free(block[i]);
        CHECK(errno == 4711);
    }
    malloc_trim(0);
    for (size_t i = 0; i < count; i++) CHECK(munmap(map[i], 4096) == 0);
    for (size_t i = 0; i < COUNT(block); i++) CHECK((block[i] = malloc(100 * KIB)) != NULL);
    for (size_t i = 0; i < COUNT(block); i++) free(block[i]);
    some_life(NULL);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    CHECK(argc >= 3);
    const char *what = argv[2];
    if (strcmp(what, "start") == 0) {
        limit_to(RLIMIT_AS, (rlim_t)atol(argv[3]) * MIB);
        again_as(argv, "started");
    }
    if (strcmp(what, "stack") == 0) {
        struct rlimit now;
        CHECK(getrlimit(RLIMIT_STACK, &now) == 0);
        if (now.rlim_max != RLIM_INFINITY && geteuid() != 0) skip("the stack's hard limit is finite");
        limit_to(RLIMIT_STACK, RLIM_INFINITY);
        again_as(argv, "started");
    }
    if (strcmp(what, "started") == 0) started();
    if (strcmp(what, "full") == 0) full();
    if (strcmp(what, "full-threads") == 0) full_threads();
    if (strcmp(what, "maps") == 0) maps_used_up();
    return 0;
}
