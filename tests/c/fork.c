// fork while other threads hold every lock there is. Argument: how.
//
//   contention  8 threads allocate; 200 children (50 on glibc) use everything, start a thread and fork
//               a grandchild
//   handlers    the same with atfork handlers of the program that allocate
//   signal      fork in a signal handler that interrupts malloc, single-threaded
//   signals     the same while other threads allocate
#include "check.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>

enum { BLOCKS = 200, WATCHDOG = 30 };
static char *block[BLOCKS];
static size_t size[BLOCKS];
static atomic_int done;

// Allocates until it is told to stop. It is nice to the forking thread, which else waits for its turn most of
// the time, and is preempted all the more often where it should not be: inside the allocator.
static void *churn(void *argument) {
    uint64_t random = (uintptr_t)argument + 1;
    CHECK(setpriority(PRIO_PROCESS, (id_t)gettid(), 5) == 0);
    void *own[200] = {NULL};
    while (!atomic_load(&done)) {
        size_t at = next_random(&random) % COUNT(own);
        switch (next_random(&random) % 4) {
        case 0: own[at] = realloc(own[at], 1 + random_size(&random, MIB)); break;
        default: free(own[at]); own[at] = malloc(random_size(&random, MIB));
        }
    }
    for (size_t at = 0; at < COUNT(own); at++) free(own[at]);
    return NULL;
}

// A range of the shared blocks, taken by whichever thread runs this.
static void *take_blocks(void *argument) {
    size_t first = (uintptr_t)argument;
    uint64_t random = first + 1;
    for (size_t i = first; i < first + BLOCKS / 4; i++) {
        size[i] = random_size(&random, 200 * KIB);
        block[i] = malloc(size[i]);
        CHECK(block[i] != NULL);
        fill(block[i], size[i], i);
    }
    return NULL;
}

static void *some_life(void *argument) {
    uint64_t random = (uintptr_t)argument + 77;
    for (int i = 0; i < 60; i++) {
        size_t bytes = 1 + random_size(&random, MIB);
        char *fresh = i % 3 ? malloc(bytes) : calloc(1, bytes);
        CHECK(fresh && (i % 3 || all_zero(fresh, bytes)));
        fresh[bytes - 1] = 1;
        free(fresh);
    }
    return NULL;
}

static void join_child(pid_t child, const char *who) {
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECKF(!WIFSIGNALED(status), "%s died of signal %d%s", who, WTERMSIG(status),
           WTERMSIG(status) == SIGALRM ? ": it hung" : "");
    CHECKF(WEXITSTATUS(status) == 0, "%s ended with %d", who, WEXITSTATUS(status));
}

// Everything a child may do with what it inherited.
static void child_life(int number) {
    alarm(WATCHDOG);
    for (size_t i = 0; i < BLOCKS; i++) {
        CHECKF(intact(block[i], size[i], size[i], i), "block %zu in child %d", i, number);
        if (i % 3 == 0) {
            block[i] = realloc(block[i], size[i] * 2 + 1);
            CHECK(block[i] && intact(block[i], size[i], size[i], i));
        }
    }
    for (size_t i = 0; i < BLOCKS; i++) free(block[i]);
    some_life(NULL);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, some_life, (void *)1) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    pid_t grandchild = fork();
    if (grandchild == 0) {
        alarm(WATCHDOG);
        some_life((void *)2);
        malloc_trim(0);
        _exit(0);
    }
    join_child(grandchild, "a grandchild");
    _exit(0);
}

static int prepared, returned;

static void in_handler(void) {
    for (size_t bytes = 1; bytes < MIB; bytes *= 7) {
        char *fresh = malloc(bytes);
        CHECK(fresh != NULL);
        fresh[0] = 1;
        fresh = realloc(fresh, bytes * 2);
        CHECK(fresh && fresh[0] == 1);
        free(fresh);
    }
}
static void before_fork(void) { in_handler(), prepared++; }
static void after_fork(void) { in_handler(), returned++; }

static void under_contention(int children) {
    pthread_t thread[8];
    for (size_t i = 0; i < 4; i++) {
        pthread_t taker;
        CHECK(pthread_create(&taker, NULL, take_blocks, (void *)(i * BLOCKS / 4)) == 0);
        CHECK(pthread_join(taker, NULL) == 0);
    }
    for (size_t i = 0; i < COUNT(thread); i++) CHECK(pthread_create(&thread[i], NULL, churn, (void *)i) == 0);
    for (int number = 0; number < children; number++) {
        pid_t child = fork();
        if (child == 0) child_life(number);
        some_life((void *)3);
        join_child(child, "a child");
    }
    atomic_store(&done, 1);
    for (size_t i = 0; i < COUNT(thread); i++) CHECK(pthread_join(thread[i], NULL) == 0);
    for (size_t i = 0; i < BLOCKS; i++) {
        CHECK(intact(block[i], size[i], size[i], i));
        free(block[i]);
    }
}

static atomic_int forks, failed;

// One signal in a millisecond: a timer that repeated would leave no time between two slow forks.
static void arm_timer(void) {
    struct itimerval soon = {{0, 0}, {0, 1000}};
    CHECK(setitimer(ITIMER_REAL, &soon, NULL) == 0);
}

static void fork_in_handler(int signal) {
    (void)signal;
    int error = errno;
    pid_t child = fork();
    if (child == 0) _exit(0);
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) atomic_fetch_add(&failed, 1);
    if (atomic_fetch_add(&forks, 1) < 300) arm_timer();
    errno = error;
}

static void from_a_signal_handler(int threads) {
    pthread_t thread[2];
    sigset_t alarm_only;
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    // The signal is for the main thread alone.
    CHECK(pthread_sigmask(SIG_BLOCK, &alarm_only, NULL) == 0);
    for (int i = 0; i < threads; i++)
        CHECK(pthread_create(&thread[i], NULL, churn, (void *)(uintptr_t)i) == 0);
    CHECK(pthread_sigmask(SIG_UNBLOCK, &alarm_only, NULL) == 0);
    struct sigaction action = {.sa_handler = fork_in_handler, .sa_flags = SA_RESTART};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    arm_timer();
    uint64_t random = 5;
    char *own[300] = {NULL};
    size_t bytes[300] = {0};
    while (atomic_load(&forks) <= 300) {
        size_t at = next_random(&random) % COUNT(own);
        CHECK(intact(own[at], bytes[at], bytes[at], at));
        free(own[at]);
        bytes[at] = random_size(&random, 2 * MIB) + 1;
        own[at] = malloc(bytes[at]);
        CHECK(own[at] != NULL);
        fill(own[at], bytes[at], at);
    }
    CHECKF(failed == 0, "%d children failed", failed);
    for (size_t at = 0; at < COUNT(own); at++) free(own[at]);
    atomic_store(&done, 1);
    for (int i = 0; i < threads; i++) CHECK(pthread_join(thread[i], NULL) == 0);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    CHECK(argc == 3);
    if (strcmp(argv[2], "contention") == 0) under_contention(ours ? 200 : 50);
    if (strcmp(argv[2], "handlers") == 0) {
        CHECK(pthread_atfork(before_fork, after_fork, after_fork) == 0);
        CHECK(pthread_atfork(before_fork, after_fork, after_fork) == 0);
        under_contention(50);
        CHECKF(prepared == 100 && returned == 100, "%d prepared, %d returned", prepared, returned);
    }
    if (strcmp(argv[2], "signal") == 0) from_a_signal_handler(0);
    if (strcmp(argv[2], "signals") == 0) {
        // glibc's fork waits for the arena lock that the interrupted malloc of its own thread holds.
        if (!ours) skip("fork in a signal handler of a threaded process hangs in glibc's own malloc");
        from_a_signal_handler(2);
    }
    return 0;
}
