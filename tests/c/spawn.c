// Children that share or replace this memory, started by threads while others allocate: vfork, posix_spawn,
// system and popen. No fork handler runs for them.
#include "check.h"
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/wait.h>

extern char **environ;
static atomic_int done;

static void *churn(void *argument) {
    uint64_t random = (uintptr_t)argument + 1;
    char *own[100] = {NULL};
    size_t size[100] = {0};
    while (!atomic_load(&done)) {
        size_t at = next_random(&random) % COUNT(own);
        CHECK(intact(own[at], size[at], size[at], at));
        free(own[at]);
        size[at] = random_size(&random, 200 * KIB);
        own[at] = malloc(size[at]);
        CHECK(own[at] != NULL);
        fill(own[at], size[at], at);
    }
    for (size_t at = 0; at < COUNT(own); at++) free(own[at]);
    return NULL;
}

static int status_of(pid_t child) {
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void *start_children(void *argument) {
    (void)argument;
    static char *const arguments[] = {(char *)"/bin/sh", (char *)"-c", (char *)"exit 5", NULL};
    for (volatile int i = 0; i < 12; i++) {
        char *kept = malloc(1000);
        CHECK(kept != NULL);
        fill(kept, 1000, 9);
        pid_t child = vfork();
        if (child == 0) {
            if (i % 2) _exit(4);
            execv(arguments[0], arguments);
            _exit(127);
        }
        CHECK(status_of(child) == (i % 2 ? 4 : 5));
        CHECK(posix_spawn(&child, arguments[0], NULL, NULL, arguments, environ) == 0);
        CHECK(status_of(child) == 5);
        CHECK(WEXITSTATUS(system("exit 3")) == 3);
        FILE *pipe = popen("echo hello", "r");
        CHECK(pipe != NULL);
        char *line = NULL;
        size_t capacity = 0;
        CHECK(getline(&line, &capacity, pipe) == 6 && strcmp(line, "hello\n") == 0);
        free(line);
        CHECK(pclose(pipe) == 0);
        CHECK(intact(kept, 1000, 1000, 9));
        free(kept);
    }
    return NULL;
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    if (access("/bin/sh", X_OK) != 0) skip("no /bin/sh");
    pthread_t worker[2], starter[4];
    for (size_t i = 0; i < COUNT(worker); i++) CHECK(pthread_create(&worker[i], NULL, churn, (void *)i) == 0);
    for (size_t i = 0; i < COUNT(starter); i++)
        CHECK(pthread_create(&starter[i], NULL, start_children, NULL) == 0);
    for (size_t i = 0; i < COUNT(starter); i++) CHECK(pthread_join(starter[i], NULL) == 0);
    atomic_store(&done, 1);
    for (size_t i = 0; i < COUNT(worker); i++) CHECK(pthread_join(worker[i], NULL) == 0);
    return 0;
}
