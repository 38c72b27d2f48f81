/* Workloads for preloaded allocators: `suite NAME` does a fixed amount of work and prints what it cost, `suite list`
   prints the names with their groups. `compare preload` runs it. What lives here: the command line, the meter, and
   drawing sizes. Compile with -fno-builtin, or the compiler removes what is to be measured. */
#include "suite.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const struct workload *const all[] = { singles, pages, threads, shapes };

static uint64_t cpu_ns, wall_ns, operations;

static uint64_t now(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * UINT64_C(1000000000) + time.tv_nsec;
}

void meter_start(void)
{
    wall_ns = now(CLOCK_MONOTONIC);
    cpu_ns = now(CLOCK_PROCESS_CPUTIME_ID);
}

void meter_stop(uint64_t work)
{
    cpu_ns = now(CLOCK_PROCESS_CPUTIME_ID) - cpu_ns;
    wall_ns = now(CLOCK_MONOTONIC) - wall_ns;
    operations = work;
}

/* The peak of resident memory. Not ru_maxrss, which starts at the parent's. */
static long peak_kib(void)
{
    char status[4096];
    int file = open("/proc/self/status", O_RDONLY);
    ssize_t length = read(file, status, sizeof status - 1);
    close(file);
    status[length > 0 ? length : 0] = 0;
    const char *line = strstr(status, "VmHWM:");
    return line ? atol(line + strlen("VmHWM:")) : 0;
}

struct sizes sizes_between(size_t low, size_t high)
{
    struct sizes sizes = { .next = 0 };
    struct random random = random_from(low + high);
    for (int i = 0; i < SIZES; i++)
        sizes.size[i] = low + below(&random, high - low + 1);
    return sizes;
}

struct sizes sizes_log_uniform(size_t low, size_t high)
{
    struct sizes sizes = { .next = 0 };
    struct random random = random_from(low + high);
    double span = log2((double)high / low);
    for (int i = 0; i < SIZES; i++)
        sizes.size[i] = low * exp2(span * next_random(&random) / UINT32_MAX);
    return sizes;
}

int main(int argc, char **argv)
{
    const char *wanted = argc == 2 ? argv[1] : "";
    bool list = strcmp(wanted, "list") == 0;
    for (size_t file = 0; file < COUNT(all); file++) {
        for (const struct workload *workload = all[file]; workload->name; workload++) {
            if (list) {
                printf("%s %s\n", workload->name, workload->group);
            } else if (strcmp(wanted, workload->name) == 0) {
                workload->run();
                printf("cpu_ns=%lu wall_ns=%lu peak_kib=%ld work=%lu\n", cpu_ns, wall_ns, peak_kib(), operations);
                return 0;
            }
        }
    }
    if (list)
        return 0;
    fprintf(stderr, "suite: no workload `%s`; `suite list` names them\n", wanted);
    return 2;
}
