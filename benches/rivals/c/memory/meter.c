/* What the kernel says of this process, and the blocks that scenarios allocate. */
#define _GNU_SOURCE
#include "memory.h"

#include <fcntl.h>
#include <malloc.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static char text[1 << 16];

static int open_or_abort(const char *path)
{
    int file = open(path, O_RDONLY);
    if (file < 0) {
        perror(path);
        abort();
    }
    return file;
}

static long kib_after(const char *name)
{
    const char *line = strstr(text, name);
    return line ? atol(line + strlen(name)) : 0;
}

struct resident resident_now(void)
{
    int file = open_or_abort("/proc/self/smaps_rollup");
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    text[length > 0 ? length : 0] = 0;
    return (struct resident){ .kib = kib_after("\nRss:"), .huge_kib = kib_after("\nAnonHugePages:") };
}

long mappings_now(void)
{
    int file = open_or_abort("/proc/self/maps");
    long lines = 0;
    for (ssize_t length; (length = read(file, text, sizeof text)) > 0;)
        for (ssize_t i = 0; i < length; i++)
            lines += text[i] == '\n';
    close(file);
    return lines;
}

long faults_now(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt;
}

double cpu_seconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

void figure(const char *when, const char *what, double value)
{
    printf("%s%s%s\t%.3f\n", when, *when ? ": " : "", what, value);
}

void figure_resident(const char *when, struct resident start, size_t live)
{
    double kib = resident_now().kib - start.kib;
    figure(when, "RSS MiB", kib / 1024);
    if (live)
        figure(when, "RSS/live", kib * 1024 / live);
}

void figure_resident_after(const char *when, struct resident start, size_t live)
{
    figure_resident(when, start, live);
    idle();
    figure_resident("1 s later", start, live);
    /* The C library's own where the allocator brings none; then it does nothing. */
    malloc_trim(0);
    figure_resident("trimmed", start, live);
}

void idle(void)
{
    nanosleep(&(struct timespec){ .tv_sec = 1 }, NULL);
}

void *table(size_t bytes)
{
    void *memory =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) {
        perror("the scenario's own tables");
        abort();
    }
    return memory;
}

static size_t draw(struct random *random, size_t low, size_t high)
{
    return low * exp2(log2((double)high / low) * next_random(random) / UINT32_MAX);
}

static void shuffle(uint32_t *numbers, size_t count)
{
    struct random random = random_from(count);
    for (size_t i = 0; i < count; i++)
        numbers[i] = i;
    for (size_t last = count - 1; last > 0; last--) {
        size_t other = below(&random, last + 1);
        uint32_t kept = numbers[last];
        numbers[last] = numbers[other];
        numbers[other] = kept;
    }
}

struct blocks blocks_between(size_t low, size_t high, size_t count, size_t bytes)
{
    struct blocks blocks = { .count = 0 };
    struct random random = random_from(low + high);
    while (blocks.count < count && blocks.bytes < bytes) {
        blocks.bytes += draw(&random, low, high);
        blocks.count++;
    }
    blocks.size = table(blocks.count * sizeof *blocks.size);
    blocks.shuffled = table(blocks.count * sizeof *blocks.shuffled);
    blocks.block = table(blocks.count * sizeof *blocks.block);
    random = random_from(low + high);
    for (size_t i = 0; i < blocks.count; i++)
        blocks.size[i] = draw(&random, low, high);
    shuffle(blocks.shuffled, blocks.count);
    return blocks;
}

void fill(struct blocks *blocks)
{
    for (size_t i = 0; i < blocks->count; i++) {
        blocks->block[i] = malloc(blocks->size[i]);
        if (!blocks->block[i])
            abort();
        memset(blocks->block[i], 1, blocks->size[i]);
    }
}
