// Blocks of 2 MiB, allocated, touched and freed again and again by several threads: the pages stay, so that a cycle
// costs less than one page fault; and when the threads have ended, most of it is given back. Arguments: threads,
// cycles of each.
#include "check.h"
#include <pthread.h>
#include <sys/resource.h>

enum { THREADS = 8 };
static long cycles;

static void *work(void *argument) {
    for (long i = 0; i < cycles; i++) {
        char *block = malloc(2 * MIB);
        CHECK(block != NULL);
        for (size_t at = 0; at < 2 * MIB; at += 4096) block[at] = (char)i;
        free(hide(block));
    }
    return argument;
}

static long faults(void) {
    struct rusage usage;
    CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
    return usage.ru_minflt;
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    CHECK(argc == 4);
    long threads = atol(argv[2]);
    cycles = atol(argv[3]);
    CHECK(threads >= 1 && threads <= THREADS);
    free(malloc(10));
    size_t before = resident();
    long faults_before = faults();
    pthread_t thread[THREADS];
    for (long i = 0; i < threads; i++) CHECK(pthread_create(&thread[i], NULL, work, NULL) == 0);
    for (long i = 0; i < threads; i++) CHECK(pthread_join(thread[i], NULL) == 0);
    long all = faults() - faults_before;
    size_t after = resident();
    CHECKF(!ours || all < threads * cycles, "%ld faults in %ld cycles", all, threads * cycles);
    CHECKF(!ours || after <= before + 24 * MIB, "%zu KiB before, %zu after", before / KIB, after / KIB);
    printf("%ld %zu\n", all, after / KIB);
    return 0;
}
