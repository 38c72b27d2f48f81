// 300 MB of small objects of mixed sizes, of which 95% are freed in random order, and then all: with nothing asked for,
// what is resident comes back to at most 16 MiB above the start. Argument: threads that allocate; with more than one,
// others free what each allocated, and what their caches kept as the last ones ended may be half as much again. The tables are mapped, and not part of the account.
#include "check.h"
#include <pthread.h>

enum { THREADS = 8, TOTAL = 300 * 1000 * 1000, LEAST = 16, MOST = 2048 };

struct object {
    unsigned char *address;
    unsigned size;
    unsigned char seed;
};

static struct object *table[THREADS];
static size_t count[THREADS];
static long threads;
static pthread_barrier_t barrier;
static size_t peak, rest;

static void check_and_free(struct object *object) {
    unsigned char *end = object->address + object->size - 1;
    CHECKF(*object->address == object->seed && *end == object->seed, "an object of %u bytes", object->size);
    free(object->address);
    object->address = NULL;
}

static void wait_for_all(size_t *at) {
    if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD && at) *at = resident();
    pthread_barrier_wait(&barrier);
}

static void *work(void *argument) {
    long number = (long)(intptr_t)argument;
    uint64_t random = (uint64_t)number + 7;
    struct object *own = table[number];
    for (size_t total = 0; total < (size_t)(TOTAL / threads);) {
        // As many small ones as large ones, by sizes that double.
        unsigned size = LEAST << next_random(&random) % 7;
        size += (unsigned)(next_random(&random) % size);
        if (size > MOST) size = MOST;
        struct object object = {malloc(size), size, (unsigned char)size};
        CHECK(object.address != NULL);
        memset(object.address, object.seed, size);
        own[count[number]++] = object;
        total += size;
    }
    wait_for_all(&peak);
    // What the next thread allocated; in random order.
    long victim = (number + 1) % threads;
    struct object *other = table[victim];
    for (size_t i = count[victim]; i > 1; i--) {
        size_t j = next_random(&random) % i;
        struct object swapped = other[i - 1];
        other[i - 1] = other[j];
        other[j] = swapped;
    }
    size_t left = count[victim] / 20;
    for (size_t i = left; i < count[victim]; i++) check_and_free(&other[i]);
    wait_for_all(&rest);
    for (size_t i = 0; i < left; i++) check_and_free(&other[i]);
    return NULL;
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    CHECK(argc == 3);
    threads = atol(argv[2]);
    CHECK(threads >= 1 && threads <= THREADS);
    size_t length = TOTAL / (size_t)threads / LEAST * sizeof(struct object) / 8;
    for (long i = 0; i < threads; i++) {
        table[i] = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(table[i] != MAP_FAILED);
    }
    CHECK(pthread_barrier_init(&barrier, NULL, (unsigned)threads) == 0);
    free(malloc(10));
    size_t before = resident();
    pthread_t thread[THREADS];
    for (long i = 1; i < threads; i++) CHECK(pthread_create(&thread[i], NULL, work, (void *)(intptr_t)i) == 0);
    work(NULL);
    for (long i = 1; i < threads; i++) CHECK(pthread_join(thread[i], NULL) == 0);
    for (long i = 0; i < threads; i++) munmap(table[i], length);
    size_t after = resident();
    CHECKF(peak >= before + 280 * MIB, "the objects took only %zu KiB", (peak - before) / KIB);
    size_t most = threads > 1 ? 24 * MIB : 16 * MIB;
    CHECKF(!ours || after <= before + most, "%zu KiB before, %zu at the peak, %zu with a twentieth, %zu after",
           before / KIB, peak / KIB, rest / KIB, after / KIB);
    printf("%zu %zu %zu %zu\n", before / KIB, peak / KIB, rest / KIB, after / KIB);
    return 0;
}
