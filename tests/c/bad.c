// One misuse of the allocator, named by the argument. Before it, the pointer that is misused is printed, so
// that the harness knows which address the message must name; after it the program ends with status 5.
#include "check.h"

static void announce(void *pointer) {
    char text[40];
    int length = snprintf(text, sizeof text, "%p\n", pointer);
    CHECK(write(1, text, (size_t)length) == length);
}

static void *some_memory(void) {
    void *pages = mmap(NULL, 64 * KIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(pages != MAP_FAILED);
    announce((char *)pages + 64);
    return (char *)pages + 64;
}

// Frees a pointer `offset` bytes into a block.
static void free_inside(size_t size, size_t offset) {
    char *block = malloc(size);
    CHECK(block != NULL);
    memset(block, 1, size);
    announce(block + offset);
    free(hide(block + offset));
    // What is not found at once is found when caches are flushed.
    malloc_trim(0);
}

static void free_twice(size_t size, int between) {
    char *block = malloc(size), *other[20];
    CHECK(block != NULL);
    memset(block, 1, size);
    for (size_t i = 0; i < COUNT(other); i++) CHECK((other[i] = malloc(size > MIB ? 1 : size)) != NULL);
    announce(block);
    block = hide(block);
    free(block);
    for (int i = 0; i < between; i++) free(other[i]);
    free(hide(block));
    malloc_trim(0);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    CHECK(argc == 3);
    const char *what = argv[2];
    static char variable[256] __attribute__((aligned(64)));
    char local[256] __attribute__((aligned(64)));
    memset(local, 1, sizeof local);
    free(malloc(100));

    if (strcmp(what, "free-stack") == 0) announce(local), free(hide(local));
    if (strcmp(what, "free-static") == 0) announce(variable), free(hide(variable));
    if (strcmp(what, "free-mapped") == 0) free(some_memory());
    if (strcmp(what, "free-nowhere") == 0) announce((void *)0x10), free(hide((void *)0x10));
    if (strcmp(what, "free-beyond") == 0)
        announce((void *)(UINTPTR_MAX - 15)), free(hide((void *)(UINTPTR_MAX - 15)));
    if (strcmp(what, "realloc-stack") == 0) announce(local), hide(realloc(hide(local), 500));
    if (strcmp(what, "realloc-mapped") == 0) hide(realloc(some_memory(), 500));
    if (strcmp(what, "usable-stack") == 0) announce(local), hide_size(malloc_usable_size(hide(local)));
    if (strcmp(what, "usable-mapped") == 0) hide_size(malloc_usable_size(some_memory()));
    if (strcmp(what, "inside-64K-page") == 0) free_inside(64 * KIB, 4096);
    if (strcmp(what, "inside-64K-16") == 0) free_inside(64 * KIB, 16);
    if (strcmp(what, "inside-64K-again") == 0) {
        // No flush finds it: the next allocation of the size does.
        char *block = malloc(64 * KIB);
        CHECK(block != NULL);
        announce(block + 16);
        free(hide(block + 16));
        hide(malloc(64 * KIB));
    }
    if (strcmp(what, "inside-8M") == 0) free_inside(8 * MIB, 3 * MIB);
    if (strcmp(what, "inside-8M-end") == 0) free_inside(8 * MIB, 8 * MIB - 4096);
    if (strcmp(what, "inside-small") == 0) free_inside(64, 8);
    if (strcmp(what, "inside-small-16") == 0) free_inside(96, 16);
    if (strcmp(what, "twice-64K") == 0) free_twice(64 * KIB, 0);
    if (strcmp(what, "twice-4M") == 0) free_twice(4 * MIB, 0);
    if (strcmp(what, "twice-64M") == 0) free_twice(64 * MIB, 0);
    if (strcmp(what, "twice-64K-later") == 0) free_twice(64 * KIB, 10);
    if (strcmp(what, "twice-small") == 0) free_twice(64, 0);
    if (strcmp(what, "twice-small-later") == 0) free_twice(64, 10);
    if (strcmp(what, "twice-1K") == 0) free_twice(KIB, 3);
    _exit(5);
}
