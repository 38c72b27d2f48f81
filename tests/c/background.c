// The background thread, with PCPMALLOC_BACKGROUND set to a short time by whoever runs this. Argument: what to do.
//
//   idle     100 MiB of small objects are freed; then the program does nothing, and its memory goes
//   busy     the same while the program goes on allocating a little: what is above half of a slack of 150 MiB goes
//   alone    as idle, without the setting: nothing goes, and there is one thread
//   fork     a child has no such thread, gets its own with its next work, and its memory goes; and so its own child
//   leaves   the main thread ends by pthread_exit, another goes on for a while, and then the process ends
//   watch    with PCPMALLOC_WATCH: the descriptors of the library close on exec, and a fork's child has its own
//   short    with PCPMALLOC_WATCH, in a cgroup: its limit, in the file named next, falls below what is resident
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
    read_start("/proc/self/status", text, sizeof text);
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

// Descriptors above those of the standard streams; each must close on exec.
static int descriptors(void) {
    int count = 0;
    for (int fd = 3; fd < 1000; fd++) {
        int flags = fcntl(fd, F_GETFD);
        CHECKF(flags < 0 || flags & FD_CLOEXEC, "%d stays open on exec", fd);
        count += flags >= 0;
    }
    return count;
}

static int comes_to(int wanted) {
    for (int i = 0; i < 200 && descriptors() != wanted; i++) pause_ms(10);
    return descriptors() == wanted;
}

static void watches(int generation) {
    // Whoever runs this may have left some open.
    if (generation == 0) CHECK(close_range(3, 1000, 0) == 0);
    CHECKF(descriptors() == 0, "%d descriptors after a fork", descriptors());
    burst();
    for (int i = 0; i < 200 && descriptors() == 0; i++) pause_ms(10);
    pause_ms(50);
    int kept = descriptors();
    CHECKF(kept >= 3 && kept <= 5, "%d descriptors", kept);
    if (generation < 2) in_child(watches, generation + 1);
    CHECK(comes_to(kept) && threads() == 2);
    if (generation == 0) {
        // A program that closes what it does not know, and uses the numbers itself.
        int mine[8], theirs[2];
        CHECK(pipe2(theirs, O_CLOEXEC) == 0 && close_range(3, 1000, 0) == 0);
        for (size_t i = 0; i < COUNT(mine); i++) CHECK((mine[i] = open("/dev/null", O_RDWR | O_CLOEXEC)) >= 0);
        pid_t child = fork();
        CHECK(child >= 0);
        for (size_t i = 0; i < COUNT(mine); i++) CHECK(fcntl(mine[i], F_GETFD) >= 0);
        if (child == 0) _exit(0);
        int status;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
        pause_ms(100);
        burst();
    }
}

static void grows_short(const char *limit_file) {
    size_t before = resident();
    burst();
    CHECKF(resident() > before + 80 * MIB, "%zu KiB before, %zu after", before / KIB, resident() / KIB);
    int fd = open(limit_file, O_WRONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    size_t after = 0;
    for (int i = 0; i < 20; i++) {
        // The kernel looks for memory before it answers.
        (void)!write(fd, "67108864", 8);
        if ((after = falls_below(before + 6 * MIB, 0)) <= before + 6 * MIB) break;
    }
    CHECKF(after <= before + 6 * MIB, "%zu KiB before, %zu after", before / KIB, after / KIB);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    CHECK(argc >= 3);
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
    if (strcmp(what, "watch") == 0) watches(0);
    if (strcmp(what, "short") == 0) grows_short(argv[3]);
    if (strcmp(what, "unused") == 0) {
        free(hide(malloc(100 * KIB)));
        CHECK(threads() == 1);
    }
    return 0;
}
