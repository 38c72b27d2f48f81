/* Threads that take large blocks again and again, and threads that took a little and wait. They are all there before
   the start is looked at and after the end, so that what is seen between is not theirs but the allocator's. */
#include "memory.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static pthread_barrier_t meet;
static size_t cycles_each;

/* Starts threads that wait for `meet`, together with the caller. */
static void start_threads(size_t count, size_t stack, void *(*of_each)(void *))
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, stack);
    pthread_barrier_init(&meet, NULL, count + 1);
    for (size_t i = 0; i < count; i++) {
        pthread_t thread;
        if (pthread_create(&thread, &attributes, of_each, (void *)i) != 0) {
            fprintf(stderr, "memory: thread %zu does not start\n", i);
            abort();
        }
    }
    pthread_barrier_wait(&meet);
}

/* Ends the process while its threads still wait. */
static void end(void)
{
    fflush(stdout);
    _exit(0);
}

static void *cycle(void *number)
{
    enum { SIZE = 2 << 20 };
    pthread_barrier_wait(&meet);
    pthread_barrier_wait(&meet);
    for (size_t i = 0; i < cycles_each; i++)
        free(touched(SIZE));
    pthread_barrier_wait(&meet);
    pthread_barrier_wait(&meet);
    return number;
}

void cycles(const size_t *arguments)
{
    enum { STACK = 256 << 10 };
    size_t threads = arguments[0];
    cycles_each = arguments[1];
    start_threads(threads, STACK, cycle);
    struct resident start = resident_now();
    long faults = faults_now();
    double cpu = cpu_seconds(), all = threads * cycles_each;
    pthread_barrier_wait(&meet);
    pthread_barrier_wait(&meet);
    cpu = cpu_seconds() - cpu;
    faults = faults_now() - faults;
    figure("", "faults/cycle", faults / all);
    figure("", "CPU us/cycle", cpu * 1e6 / all);
    figure_resident("at the end", start, 0);
    idle();
    figure_resident("1 s later", start, 0);
    end();
}

enum { OBJECTS = 50, SMALLEST = 16, LARGEST = 4096 };

static size_t live_in_each;
static struct blocks some;

static void *take_a_little(void *number)
{
    /* What malloc will use of the stack is resident before the start, but for what the system needs of it. */
    char volatile stack[24 << 10];
    for (size_t i = 0; i < sizeof stack; i += 1024)
        stack[i] = 1;
    pthread_barrier_wait(&meet);
    pthread_barrier_wait(&meet);
    void *blocks[OBJECTS];
    for (int i = 0; i < OBJECTS; i++)
        blocks[i] = touched(some.size[i]);
    for (int i = 0; i < OBJECTS; i += 2)
        free(blocks[i]);
    pthread_barrier_wait(&meet);
    pthread_barrier_wait(&meet);
    return number;
}

static void figure_per_thread(const char *when, struct resident start, size_t threads)
{
    double kib = (double)(resident_now().kib - start.kib) / threads;
    figure(when, "KiB/thread", kib);
    figure(when, "RSS/live", kib * 1024 / live_in_each);
}

void idle_threads(const size_t *arguments)
{
    enum { STACK = 64 << 10 };
    size_t threads = arguments[0];
    some = blocks_between(SMALLEST, LARGEST, OBJECTS, SIZE_MAX);
    for (int i = 1; i < OBJECTS; i += 2)
        live_in_each += some.size[i];
    start_threads(threads, STACK, take_a_little);
    struct resident start = resident_now();
    pthread_barrier_wait(&meet);
    pthread_barrier_wait(&meet);
    figure_per_thread("at once", start, threads);
    idle();
    figure_per_thread("1 s later", start, threads);
    end();
}
