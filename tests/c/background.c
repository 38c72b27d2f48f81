// The background thread, with PCPMALLOC_BACKGROUND set to a short time by whoever runs this. Argument: what to do.
//
//   idle     100 MiB of small objects are freed; then the program does nothing, and its memory goes
//   busy     the same while the program goes on allocating a little: what is above half of a slack of 150 MiB goes
//   alone    as idle, without the setting: nothing goes, and there is one thread
//   fork     a child has no such thread, gets its own with its next work, and its memory goes; and so its own child
//   leaves   the main thread ends by pthread_exit, another goes on for a while, and then the process ends
//   unused   a small program: one thread
#include "check.h"
#include <pthread.h>
#include <sys/wait.h>
#include <time.h>

enum { MOST = 1 << 20 };
static char *object[MOST];

static void pause_ms(long ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

// The process's threads, without an allocation.
static int threads(void) {
    char text[4096];
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    ssize_t length = read(fd, text, sizeof text - 1);
    CHECK(length > 0);
    close(fd);
    text[length] = 0;
    char *line = strstr(text, "Threads:");
    CHECK(line != NULL);
    return atoi(line + 8);
}

static void burst(void) {
    size_t count = 0, total = 0;
    uint64_t random = 5;
    while (total < 100 * MIB) {
        size_t size = 16 + next_random(&random) % 1000;
        CHECK(count < MOST && (object[count] = malloc(size)) != NULL);
        memset(object[count++], 1, size);
        total += size;
    }
    while (count > 0) free(object[--count]);
}

// Waits until at most `bytes` are resident, or until the time is over.
static size_t falls_below(size_t bytes, int busy) {
    for (int i = 0; i < 200 && resident() > bytes; i++) {
        pause_ms(25);
        // Half a MiB, so that it is no hit.
        for (int j = 0; busy && j < 3; j++) free(hide(malloc(512 * KIB)));
    }
    return resident();
}

static void idles(size_t before, size_t more, int busy) {
    burst();
    size_t after = falls_below(before + more, busy);
    CHECKF(after <= before + more, "%zu KiB before, %zu after", before / KIB, after / KIB);
}

static int in_child(void (*work)(int), int generation) {
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        work(generation);
        exit(generation);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECKF(WIFEXITED(status) && WEXITSTATUS(status) == generation, "status %x", status);
    return 0;
}

static void lives(int generation) {
    CHECKF(threads() == 1, "%d threads after a fork", threads());
    size_t before = resident();
    idles(before > 20 * MIB ? 20 * MIB : before, 10 * MIB, 0);
    CHECKF(threads() == 2, "%d threads", threads());
    if (generation < 3) in_child(lives, generation + 1);
    CHECKF(threads() == 2, "%d threads", threads());
}

static void *goes_on(void *argument) {
    pause_ms(200);
    burst();
    return argument;
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    CHECK(argc == 3);
    const char *what = argv[2];
    memset(object, 1, sizeof object);
    free(hide(malloc(10)));
    size_t before = resident();
    if (strcmp(what, "idle") == 0) idles(before, 6 * MIB, 0);
    if (strcmp(what, "busy") == 0) idles(before, 90 * MIB, 1);
    if (strcmp(what, "idle") == 0 || strcmp(what, "busy") == 0) CHECK(threads() == 2);
    if (strcmp(what, "alone") == 0) {
        burst();
        pause_ms(500);
        CHECKF(resident() > before + 80 * MIB, "%zu KiB before, %zu after", before / KIB, resident() / KIB);
        CHECK(threads() == 1);
    }
    if (strcmp(what, "fork") == 0) {
        burst();
        CHECK(threads() == 2);
        in_child(lives, 1);
    }
    if (strcmp(what, "leaves") == 0) {
        burst();
        CHECK(threads() == 2);
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, goes_on, NULL) == 0);
        pthread_exit(NULL);
    }
    if (strcmp(what, "unused") == 0) {
        free(hide(malloc(100 * KIB)));
        CHECK(threads() == 1);
    }
    return 0;
}
