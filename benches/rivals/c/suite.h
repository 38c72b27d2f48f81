/* What the workloads of the suite share: how one is named, the meter around its measured part, random numbers that
   are the same every time, and blocks as a program would use them. */
#ifndef SUITE_H
#define SUITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* A workload sets up, then does a fixed amount of work between meter_start and meter_stop. */
struct workload {
    const char *name;
    const char *group;
    void (*run)(void);
};

/* The workloads of one file; a name of NULL ends them. */
extern const struct workload singles[], pages[], threads[], shapes[];

void meter_start(void);
void meter_stop(uint64_t work);

/* Measures what so many threads do, each of which gets its number. */
enum { MOST_THREADS = 8 };
void measure_crew(int members, void (*of_each)(int member), uint64_t operations);

/* A linear congruential generator with Knuth's constants; its upper half is good enough here. */
struct random {
    uint64_t state;
};

static inline struct random random_from(uint64_t seed)
{
    return (struct random){ (seed * 0x9e3779b97f4a7c15) | 1 };
}

static inline uint32_t next_random(struct random *random)
{
    random->state = random->state * 6364136223846793005 + 1442695040888963407;
    return random->state >> 32;
}

static inline size_t below(struct random *random, size_t end)
{
    return ((uint64_t)next_random(random) * end) >> 32;
}

/* Sizes drawn beforehand, so many that no allocator learns them and so few that they stay in the first-level cache. */
enum { SIZES = 2048 };
struct sizes {
    uint32_t size[SIZES];
    unsigned next;
};

struct sizes sizes_between(size_t low, size_t high);
/* Each power of two as likely as any other. */
struct sizes sizes_log_uniform(size_t low, size_t high);

static inline size_t next_size(struct sizes *sizes)
{
    return sizes->size[sizes->next++ % SIZES];
}

/* A block whose first word is written, as a user's would be. */
static inline void *written(size_t size)
{
    uint64_t volatile *block = malloc(size);
    if (!block)
        abort();
    *block = size;
    return (void *)block;
}

/* A block with one byte of each page written. */
static inline void *touched(size_t size)
{
    char volatile *block = malloc(size);
    if (!block)
        abort();
    for (size_t offset = 0; offset < size; offset += 4096)
        block[offset] = 1;
    return (void *)block;
}

#endif
