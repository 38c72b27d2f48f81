/* Another program, measured from outside. Started by this small process and not by `compare` itself: a new process
   begins with the peak of the one that it was forked from, and `compare` is larger than what is measured here. */
#define _DEFAULT_SOURCE
#include "memory.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double milliseconds(struct timeval time)
{
    return time.tv_sec * 1e3 + time.tv_usec / 1e3;
}

static void become(const char *library, char **command)
{
    int nowhere = open("/dev/null", O_RDWR);
    dup2(nowhere, STDIN_FILENO);
    dup2(nowhere, STDOUT_FILENO);
    if (strcmp(library, "-") != 0)
        setenv("LD_PRELOAD", library, 1);
    execv(command[0], command);
    perror(command[0]);
    _exit(127);
}

int program(const char *library, char **command)
{
    struct timespec start, end;
    struct rusage usage;
    int status;
    clock_gettime(CLOCK_MONOTONIC, &start);
    pid_t child = fork();
    if (child == 0)
        become(library, command);
    if (child < 0 || wait4(child, &status, 0, &usage) != child || status != 0) {
        fprintf(stderr, "memory: %s does not run or fails\n", command[0]);
        return 1;
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    figure("", "peak RSS KiB", usage.ru_maxrss);
    figure("", "wall ms", (end.tv_sec - start.tv_sec) * 1e3 + (end.tv_nsec - start.tv_nsec) / 1e6);
    figure("", "CPU ms", milliseconds(usage.ru_utime) + milliseconds(usage.ru_stime));
    return 0;
}
