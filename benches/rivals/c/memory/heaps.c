/* One thread: heaps that grow, shrink, and are looked at. */
#include "memory.h"

enum { MIB = 1 << 20 };

/* Small blocks, most of them freed in random order, then all, then nothing happens. */
void burst(const size_t *arguments)
{
    struct blocks blocks = blocks_between(16, 2048, SIZE_MAX, arguments[0] * MIB);
    struct resident start = resident_now();
    size_t live = blocks.bytes, most = blocks.count * 95 / 100;
    double cpu = cpu_seconds();
    fill(&blocks);
    cpu = cpu_seconds() - cpu;
    figure_resident("full", start, live);
    double before = cpu_seconds();
    for (size_t i = 0; i < most; i++) {
        live -= blocks.size[blocks.shuffled[i]];
        free(blocks.block[blocks.shuffled[i]]);
    }
    cpu += cpu_seconds() - before;
    figure_resident("5% left", start, live);
    before = cpu_seconds();
    for (size_t i = most; i < blocks.count; i++)
        free(blocks.block[blocks.shuffled[i]]);
    cpu += cpu_seconds() - before;
    figure_resident_after("empty", start, 0);
    figure("", "CPU s", cpu);
}

/* Few blocks stay, spread over all the memory that there was. */
void survivors(const size_t *arguments)
{
    enum { ALL = 1000000, EVERY = 64 };
    struct blocks blocks = blocks_between(arguments[0], arguments[1], ALL, SIZE_MAX);
    struct resident start = resident_now();
    size_t live = blocks.bytes;
    double cpu = cpu_seconds();
    fill(&blocks);
    for (size_t i = 0; i < blocks.count; i++) {
        if (i % EVERY == 0)
            continue;
        live -= blocks.size[i];
        free(blocks.block[i]);
    }
    cpu = cpu_seconds() - cpu;
    figure_resident_after("1 in 64 left", start, live);
    figure("", "CPU s", cpu);
}

/* Blocks of which only the beginning is used, and some of which are replaced. */
void sparse(const size_t *arguments)
{
    (void)arguments;
    enum { BLOCKS = 2000, TIMES = 10, REPLACED = 200, LOW = 64 << 10, HIGH = 256 << 10 };
    void **blocks = table(BLOCKS * sizeof *blocks);
    struct random random = random_from(BLOCKS);
    struct resident start = resident_now();
    for (int i = 0; i < BLOCKS; i++)
        blocks[i] = written(LOW + below(&random, HIGH - LOW + 1));
    figure_resident("allocated", start, 0);
    for (int i = 0; i < TIMES * REPLACED; i++) {
        void **place = &blocks[below(&random, BLOCKS)];
        free(*place);
        *place = written(LOW + below(&random, HIGH - LOW + 1));
    }
    figure_resident("after replacing", start, 0);
}

/* A large heap: is it in hugepages, and what does the kernel do for it? */
void cover(const size_t *arguments)
{
    struct blocks blocks = blocks_between(64, 64 << 10, SIZE_MAX, arguments[0] * MIB);
    struct resident start = resident_now();
    long mappings = mappings_now(), faults = faults_now();
    double cpu = cpu_seconds();
    fill(&blocks);
    cpu = cpu_seconds() - cpu;
    faults = faults_now() - faults;
    struct resident end = resident_now();
    figure("", "huge % of RSS", 100.0 * (end.huge_kib - start.huge_kib) / (end.kib - start.kib));
    figure("", "faults/GiB", faults * 1024.0 * MIB / blocks.bytes);
    figure("", "new mappings", mappings_now() - mappings);
    figure_resident("", start, blocks.bytes);
    figure("", "CPU s", cpu);
}
