// What the environment asks for. Argument: what the program does.
//
//   work     some work with a known result on standard output
//   limit    PCPMALLOC_LIMIT=64M: beyond it null and ENOMEM, and on after freeing
//   secure   a set-group-ID program: the environment counts for nothing, not even a limit of 64 MiB
//   forward  memory of the C library's own malloc is freed, measured and resized through the public names
#include "check.h"
#include <pthread.h>
#include <sys/auxv.h>

static void *work(void *argument) {
    uint64_t random = (uintptr_t)argument + 1, sum = 0;
    char *block[300] = {NULL};
    for (int i = 0; i < 20000; i++) {
        size_t at = next_random(&random) % COUNT(block), size = random_size(&random, 4 * MIB) + 1;
        free(block[at]);
        block[at] = i % 2 ? malloc(size) : calloc(1, size);
        CHECK(block[at] != NULL);
        fill(block[at], size, at);
        sum += size + (unsigned char)block[at][0];
    }
    for (size_t at = 0; at < COUNT(block); at++) free(block[at]);
    return (void *)(uintptr_t)sum;
}

static void limited(void) {
    static const size_t sizes[] = {100, 10000, 100 * KIB, 3 * MIB};
    static char *block[1000000];
    for (size_t i = 0; i < COUNT(sizes); i++) {
        for (int round = 0; round < 2; round++) {
            size_t count = 0;
            errno = 0;
            while (count < COUNT(block) && (block[count] = malloc(sizes[i]))) {
                memset(block[count], 1, sizes[i]);
                count++;
            }
            CHECKF(count < COUNT(block) && errno == ENOMEM, "%zu blocks of %zu bytes", count, sizes[i]);
            CHECKF(count * sizes[i] <= 64 * MIB, "%zu blocks of %zu bytes", count, sizes[i]);
            CHECKF(count * sizes[i] >= 40 * MIB, "only %zu blocks of %zu bytes", count, sizes[i]);
            errno = 0;
            CHECK(malloc(65 * MIB) == NULL && errno == ENOMEM);
            errno = 0;
            CHECK(calloc(65, MIB) == NULL && errno == ENOMEM);
            errno = 0;
            CHECK(realloc(block[0], 65 * MIB) == NULL && errno == ENOMEM && block[0][0] == 1);
            while (count > 0) free(block[--count]);
        }
    }
    // With no memory left, a block still gets smaller.
    static char *rest[1000];
    size_t count = 0;
    char *shrinks = malloc(256 * KIB), *run = malloc(MIB);
    CHECK(shrinks != NULL && run != NULL);
    shrinks[0] = run[0] = 7;
    for (size_t size = MIB; size >= 4 * KIB; size /= 2)
        while (count < COUNT(rest) && (rest[count] = malloc(size))) count++;
    CHECK((shrinks = realloc(shrinks, 100 * KIB)) != NULL && shrinks[0] == 7);
    CHECK((run = realloc(run, 5000)) != NULL && run[0] == 7);
    free(shrinks);
    free(run);
    while (count > 0) free(rest[--count]);
    char *large = malloc(40 * MIB);
    CHECK(large != NULL);
    memset(large, 1, 40 * MIB);
    free(large);
}

static void secure(void) {
    if (getauxval(AT_SECURE) == 0) skip("set-group-ID programs do not work here");
    CHECK(getenv("PCPMALLOC_LIMIT") != NULL);
    char *block = malloc(100 * MIB);
    CHECK(block != NULL);
    memset(block, 1, 100 * MIB);
    free(block);
}

static void forwarded(void) {
    void *library = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
    CHECK(library != NULL);
    void *(*other)(size_t);
    *(void **)&other = dlsym(library, "__libc_malloc");
    Dl_info info;
    CHECK(other && dladdr(*(void **)&other, &info) && strstr(info.dli_fname, "libc.so"));
    static const size_t sizes[] = {1, 100, 5000, 100 * KIB, 3 * MIB};
    for (int round = 0; round < 100; round++) {
        for (size_t i = 0; i < COUNT(sizes); i++) {
            size_t size = sizes[i];
            char *block = other(size);
            CHECK(block != NULL);
            fill(block, size, i);
            CHECK(malloc_usable_size(block) >= size);
            errno = 4711;
            free(block);
            CHECK(errno == 4711);
            block = other(size);
            CHECK(block != NULL);
            fill(block, size, i);
            block = realloc(block, size + 50000);
            CHECK(block && intact(block, size, size, i));
            free(block);
        }
    }
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    CHECK(argc == 3);
    if (strcmp(argv[2], "limit") == 0) limited();
    if (strcmp(argv[2], "secure") == 0) secure();
    if (strcmp(argv[2], "forward") == 0) forwarded();
    pthread_t thread;
    void *result;
    CHECK(pthread_create(&thread, NULL, work, (void *)1) == 0 && pthread_join(thread, &result) == 0);
    if (strcmp(argv[2], "work") != 0) return 0;
    printf("%zu\n", (size_t)work(NULL) + (size_t)result);
    return 7;
}
