// A library that is loaded and unloaded again and again: it takes memory in its constructor, holds it, and
// frees half in its destructor. Its thread-local variable is of the kind that costs an allocation a thread.
#include <stdlib.h>
#include <string.h>

static char *held[200];
static __thread char buffer[3000];

__attribute__((constructor)) static void take(void) {
    for (size_t i = 0; i < 200; i++) {
        held[i] = malloc(i * 50 + 1);
        if (!held[i]) abort();
        memset(held[i], (int)i, i * 50 + 1);
    }
}

__attribute__((destructor)) static void give(void) {
    for (size_t i = 0; i < 200; i += 2) free(held[i]);
}

// Hands the other half to the caller, as an array of `*count` blocks.
char **hand_over(size_t *count) {
    char **list = malloc(100 * sizeof *list);
    if (!list) abort();
    buffer[2999]++;
    for (size_t i = 0; i < 100; i++) list[i] = held[2 * i + 1];
    *count = 100;
    return list;
}
