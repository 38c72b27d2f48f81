// free leaves errno alone: small, large and mapped blocks, plain and aligned, and null.
#include "check.h"

static void kept(const char *what, void *block, size_t size) {
    static const int errors[] = {0, EINTR, ENOMEM, 12345};
    for (size_t i = 0; i < COUNT(errors); i++) {
        void *fresh = i ? malloc(size) : block;
        CHECK(fresh != NULL);
        ((volatile char *)fresh)[0] = 1;
        errno = errors[i];
        free(fresh);
        CHECKF(errno == errors[i], "%s of %zu bytes changed errno from %d to %d", what, size, errors[i],
               errno);
    }
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    errno = 4711;
    free(hide(NULL));
    CHECK(errno == 4711);
    static const size_t sizes[] = {1,     64,     1000, 4096,    8192,     40000,
                                   65536, 262144, MIB,  3 * MIB, 64 * MIB, 300 * MIB};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        kept("free", malloc(sizes[i]), sizes[i]);
        kept("free of calloc", calloc(1, sizes[i]), sizes[i]);
        kept("free of memalign", memalign(8192, sizes[i]), sizes[i]);
    }
    // Freed in bulk, so that caches overflow and memory goes back to the system within some free.
    static char *block[20000];
    for (size_t i = 0; i < COUNT(block); i++) {
        block[i] = malloc(4000);
        CHECK(block[i] != NULL);
        block[i][0] = 1;
    }
    errno = 4711;
    for (size_t i = 0; i < COUNT(block); i++) free(block[i]);
    CHECK(errno == 4711);
    return 0;
}
