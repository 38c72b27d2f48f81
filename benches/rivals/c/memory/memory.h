/* What the scenarios of memory share: looking at the process from outside the allocator, blocks of sizes drawn
   beforehand, and saying what came out. Nothing here calls malloc, so that all that the figures show is the scenario's. */
#ifndef MEMORY_H
#define MEMORY_H

#include "../suite.h"

struct resident {
    long kib;      /* all of it */
    long huge_kib; /* of that, in hugepages */
};

/* From smaps_rollup, which counts pages; the counters of /proc/self/status lag behind on many cores. */
struct resident resident_now(void);
long mappings_now(void);
long faults_now(void);
double cpu_seconds(void);

/* A line of output: a name and a value, with a tab between. */
void figure(const char *when, const char *what, double value);

/* How much more is resident than at the start, in MiB, and, if `live` bytes are not 0, how many times them. */
void figure_resident(const char *when, struct resident start, size_t live);

/* The same at once, after a second without any call, and after malloc_trim. */
void figure_resident_after(const char *when, struct resident start, size_t live);

/* A second without any call. */
void idle(void);

/* Memory for the scenario's own tables, resident before the start is looked at. */
void *table(size_t bytes);

/* Blocks that a scenario will allocate: each power of two of their sizes as likely as any other. */
struct blocks {
    size_t count;
    size_t bytes; /* of all of them */
    uint32_t *size;
    uint32_t *shuffled; /* their numbers in random order */
    void **block;
};

/* So many blocks, or as many as have so many bytes; the other is SIZE_MAX. */
struct blocks blocks_between(size_t low, size_t high, size_t count, size_t bytes);

/* Allocates all of them and writes every byte. */
void fill(struct blocks *blocks);

/* The scenarios. */
void burst(const size_t *arguments);
void survivors(const size_t *arguments);
void sparse(const size_t *arguments);
void cover(const size_t *arguments);
void cycles(const size_t *arguments);
void idle_threads(const size_t *arguments);

/* Runs another program with a library preloaded, or none if it is "-", and says what the kernel says of it. */
int program(const char *library, char **command);

#endif
