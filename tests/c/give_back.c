// 200 MB of small objects, freed: after malloc_trim(0) at least two thirds of what they took is returned.
// Argument: the order of freeing, forward, backward or random; with `thread`, another thread allocated them.
#include "check.h"
#include <pthread.h>

enum { MOST = 1 << 20 };
static char *object[MOST];
static size_t count;

static void *allocate(void *argument) {
    uint64_t random = 7;
    size_t total = 0;
    while (total < 200 * 1000 * 1000) {
        CHECK(count < MOST);
        size_t size = 16 + next_random(&random) % 500;
        object[count] = malloc(size);
        CHECK(object[count] != NULL);
        memset(object[count++], 1, size);
        total += size;
    }
    return argument;
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    CHECK(argc == 3);
    memset(object, 1, sizeof object); // the table is not part of the account
    free(malloc(10));
    size_t before = resident();
    if (strcmp(argv[2], "thread") == 0) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, allocate, NULL) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    } else {
        allocate(NULL);
    }
    size_t peak = resident();
    uint64_t random = 11;
    for (size_t i = count; strcmp(argv[2], "random") == 0 && i > 1; i--) {
        size_t j = next_random(&random) % i;
        char *swapped = object[i - 1];
        object[i - 1] = object[j];
        object[j] = swapped;
    }
    int backward = strcmp(argv[2], "backward") == 0;
    for (size_t i = 0; i < count; i++) free(object[backward ? count - 1 - i : i]);
    malloc_trim(0);
    size_t after = resident();
    CHECKF(peak >= before + 190 * MIB, "the objects took only %zu KiB", (peak - before) / KIB);
    CHECKF(after <= peak - (peak - before) / 3 * 2, "%zu KiB before, %zu at the peak, %zu after",
           before / KIB, peak / KIB, after / KIB);
    return 0;
}
