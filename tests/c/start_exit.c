// Before main and after it. Argument: how the process ends.
//
//   return        main returns; destructors and exit handlers allocate
//   exit          exit() while detached threads allocate
//   quick         quick_exit() while detached threads allocate
//   pthread_exit  main's thread ends first, another thread calls exit()
#include "check.h"
#include <pthread.h>

static char *early[100], *middle;

// Before any other constructor of the program: priorities up to 100 are the implementation's.
__attribute__((constructor(101))) static void first(void) {
    for (size_t i = 0; i < COUNT(early); i++) {
        early[i] = malloc(i * i * 10 + 1);
        CHECK(early[i] != NULL);
        fill(early[i], i * i * 10 + 1, i);
    }
    middle = realloc(calloc(1, 100), MIB);
    CHECK(middle && all_zero(middle, 100));
    CHECK(setenv("EARLY", "1", 1) == 0);
}

static void allocate_some(void) {
    for (size_t size = 1; size < 4 * MIB; size *= 3) {
        char *block = malloc(size);
        CHECK(block != NULL);
        fill(block, size, size);
        block = realloc(block, size * 2);
        CHECK(block && intact(block, size, size, size));
        free(block);
    }
}

static void at_exit(void) {
    allocate_some();
    if (write(1, "handler\n", 8) != 8) _exit(3);
}

__attribute__((destructor(101))) static void last(void) {
    allocate_some();
    for (size_t i = 0; i < COUNT(early); i++) free(early[i]);
    allocate_some();
    if (write(1, "destructor\n", 11) != 11) _exit(3);
}

static void *forever(void *argument) {
    uint64_t random = (uintptr_t)argument + 1;
    void *block[100] = {NULL};
    for (;;) {
        size_t at = next_random(&random) % COUNT(block);
        free(block[at]);
        block[at] = malloc(random_size(&random, MIB));
    }
    return NULL;
}

static void *exit_soon(void *argument) {
    CHECK(pthread_join(*(pthread_t *)argument, NULL) == 0);
    allocate_some();
    exit(0);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    CHECK(argc == 3);
    for (size_t i = 0; i < COUNT(early); i++) CHECK(intact(early[i], i * i * 10 + 1, i * i * 10 + 1, i));
    free(middle);
    CHECK(atexit(at_exit) == 0 && at_quick_exit(at_exit) == 0);
    allocate_some();
    if (strcmp(argv[2], "return") == 0) return 0;
    static pthread_t main_thread;
    main_thread = pthread_self();
    pthread_t thread;
    if (strcmp(argv[2], "pthread_exit") == 0) {
        CHECK(pthread_create(&thread, NULL, exit_soon, &main_thread) == 0);
        pthread_exit(NULL);
    }
    for (size_t i = 0; i < 4; i++) {
        CHECK(pthread_create(&thread, NULL, forever, (void *)i) == 0);
        CHECK(pthread_detach(thread) == 0);
    }
    usleep(20000);
    if (strcmp(argv[2], "quick") == 0) quick_exit(0);
    exit(0);
}
