// Processes that lack what a process usually has. Argument: what is missing.
//
//   descriptors  file descriptors 0 to 63 are closed at the start, and stay free
//   root         no /proc, no /sys, no rights: an empty root directory and another user
//   locked       all memory to come is locked: little more is populated than was asked for
#include "check.h"
#include <grp.h>
#include <pthread.h>
#include <sys/resource.h>

enum { REPORT = 100 };

static void *some_life(void *argument) {
    uint64_t random = (uintptr_t)argument + 1;
    char *block[500] = {NULL};
    size_t size[500] = {0};
    for (int i = 0; i < 20000; i++) {
        size_t at = next_random(&random) % COUNT(block);
        CHECK(intact(block[at], size[at], size[at], at));
        free(block[at]);
        size[at] = random_size(&random, 2 * MIB);
        block[at] = malloc(size[at]);
        CHECK(block[at] != NULL);
        fill(block[at], size[at], at);
    }
    for (size_t at = 0; at < COUNT(block); at++) free(block[at]);
    return NULL;
}

static void lives(void) {
    some_life(NULL);
    pthread_t thread[4];
    for (size_t i = 0; i < COUNT(thread); i++)
        CHECK(pthread_create(&thread[i], NULL, some_life, (void *)i) == 0);
    for (size_t i = 0; i < COUNT(thread); i++) CHECK(pthread_join(thread[i], NULL) == 0);
    malloc_trim(0);
}

static void without_descriptors(char **argv) {
    CHECK(dup2(2, REPORT) == REPORT);
    char closed[] = "closed";
    char *arguments[] = {argv[0], argv[1], closed, NULL};
    for (int fd = 0; fd < 64; fd++) close(fd);
    check_fd = REPORT;
    execv("/proc/self/exe", arguments);
    CHECKF(0, "exec failed");
}

static void closed(void) {
    lives();
    for (int fd = 0; fd < REPORT; fd++)
        CHECKF(fcntl(fd, F_GETFD) == -1 && errno == EBADF, "descriptor %d is open", fd);
}

static void without_root(void) {
    if (geteuid() != 0) skip("only root can change the root directory");
    char empty[] = "/tmp/pcpmalloc-empty-XXXXXX";
    CHECK(mkdtemp(empty) != NULL);
    // The folder goes while it is the root: nothing is left behind.
    CHECK(chdir(empty) == 0 && rmdir(empty) == 0);
    if (chroot(".") != 0) skip("no chroot here");
    CHECK(setgroups(0, NULL) == 0 && setgid(65534) == 0 && setuid(65534) == 0);
    CHECK(access("/proc", F_OK) != 0);
    lives();
}

static void locked(void) {
    enum { SMALL = 2000, BLOCKS = 10000 };
    static char *block[BLOCKS];
    if (mlockall(MCL_FUTURE) != 0) skip("memory cannot be locked here");
    size_t before = resident();
    for (size_t i = 0; i < SMALL; i++) CHECK((block[i] = malloc(64)) != NULL);
    size_t after = resident();
    // A pageblock of 2 MiB, and what describes it.
    CHECKF(after - before <= 6 * MIB, "%zu KiB for 2000 blocks of 64 bytes", (after - before) / KIB);
    for (size_t i = SMALL; i < BLOCKS; i++) CHECK((block[i] = malloc(8000)) != NULL);
    size_t asked = (BLOCKS - SMALL) * (size_t)8000;
    after = resident();
    CHECKF(after - before <= asked + asked / 3 + 10 * MIB, "%zu KiB for %zu", (after - before) / KIB,
           asked / KIB);
    for (size_t i = 0; i < BLOCKS; i++) {
        block[i][0] = 1;
        free(block[i]);
    }
    // Locked pages cannot be given back by advice; whatever comes of that, memory is right afterwards.
    malloc_trim(0);
    char *zeroed = calloc(1, 20 * MIB);
    CHECK(zeroed && all_zero(zeroed, 20 * MIB));
    memset(zeroed, 1, 20 * MIB);
    free(zeroed);
    some_life(NULL);
    zeroed = calloc(1, 20 * MIB);
    CHECK(zeroed && all_zero(zeroed, 20 * MIB));
    free(zeroed);
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[2], "closed") == 0) check_fd = REPORT;
    check_start(argc, argv);
    CHECK(argc == 3);
    if (strcmp(argv[2], "descriptors") == 0) without_descriptors(argv);
    if (strcmp(argv[2], "closed") == 0) closed();
    if (strcmp(argv[2], "root") == 0) without_root();
    if (strcmp(argv[2], "locked") == 0) locked();
    return 0;
}
