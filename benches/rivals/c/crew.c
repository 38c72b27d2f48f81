/* Threads that start together under the meter, each bound to a CPU. Left alone, the scheduler at times runs two short
   ones on the same CPU, and then nothing of what they do meets. */
#define _GNU_SOURCE
#include "suite.h"

#include <pthread.h>
#include <sched.h>

static pthread_barrier_t start;
static void (*work)(int member);

static void bind_to_cpu(int number)
{
    cpu_set_t allowed, one;
    sched_getaffinity(0, sizeof allowed, &allowed);
    int left = number % CPU_COUNT(&allowed), cpu = 0;
    while (!CPU_ISSET(cpu, &allowed) || left-- > 0)
        cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof one, &one);
}

static void *join_in(void *number)
{
    bind_to_cpu((uintptr_t)number);
    pthread_barrier_wait(&start);
    work((uintptr_t)number);
    return NULL;
}

void measure_crew(int members, void (*of_each)(int member), uint64_t operations)
{
    pthread_t crew[MOST_THREADS];
    work = of_each;
    pthread_barrier_init(&start, NULL, members + 1);
    for (int i = 0; i < members; i++)
        pthread_create(&crew[i], NULL, join_in, (void *)(uintptr_t)i);
    meter_start();
    pthread_barrier_wait(&start);
    for (int i = 0; i < members; i++)
        pthread_join(crew[i], NULL);
    meter_stop(operations);
}
