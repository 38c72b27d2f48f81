// Objects that one thread allocates and another frees, 1.5 million of them: memory stays bounded.
// Argument: pairs of threads.
#include "check.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { RING = 1024, OBJECTS = 1500000 };

struct channel {
    _Alignas(64) atomic_size_t written;
    _Alignas(64) atomic_size_t read;
    char *slot[RING];
    size_t objects;
};

static struct channel channels[4];

static size_t size_of(size_t i) { return 16 + (i * 2654435761u) % 1000; }

static void *produce(void *argument) {
    struct channel *channel = argument;
    for (size_t i = 0; i < channel->objects; i++) {
        size_t size = size_of(i);
        char *object = malloc(size);
        CHECK(object != NULL);
        object[0] = (char)i;
        object[size - 1] = (char)i;
        while (i - atomic_load(&channel->read) >= RING) sched_yield();
        channel->slot[i % RING] = object;
        atomic_store(&channel->written, i + 1);
    }
    return NULL;
}

static void *consume(void *argument) {
    struct channel *channel = argument;
    for (size_t i = 0; i < channel->objects; i++) {
        while (atomic_load(&channel->written) <= i) sched_yield();
        char *object = channel->slot[i % RING];
        CHECKF(object[0] == (char)i && object[size_of(i) - 1] == (char)i, "object %zu", i);
        free(object);
        atomic_store(&channel->read, i + 1);
    }
    return NULL;
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    CHECK(argc == 3);
    size_t pairs = strtoul(argv[2], NULL, 10);
    CHECK(pairs >= 1 && pairs <= COUNT(channels));
    pthread_t producer[4], consumer[4];
    size_t before = resident();
    for (size_t i = 0; i < pairs; i++) {
        channels[i].objects = OBJECTS / pairs;
        CHECK(pthread_create(&producer[i], NULL, produce, &channels[i]) == 0);
        CHECK(pthread_create(&consumer[i], NULL, consume, &channels[i]) == 0);
    }
    size_t most = 0;
    for (size_t i = 0; i < pairs; i++) {
        while (atomic_load(&channels[i].read) < channels[i].objects) {
            size_t now = resident();
            if (now > most) most = now;
            usleep(2000);
        }
        CHECK(pthread_join(producer[i], NULL) == 0);
        CHECK(pthread_join(consumer[i], NULL) == 0);
    }
    // In flight are at most 1,024 objects of half a KiB a pair; caches may hold some MiB on both sides.
    CHECKF(most < before + 24 * MIB + pairs * 4 * MIB, "%zu KiB more", (most - before) / KIB);
    return 0;
}
