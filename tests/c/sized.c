// The sized faces: C23's free_sized and free_aligned_sized, and jemalloc's nallocx and sdallocx, as
// libraries look them up at run time.
#include "check.h"

static void (*free_sized_)(void *, size_t);
static void (*free_aligned_sized_)(void *, size_t, size_t);
static size_t (*nallocx_)(size_t, int);
static void (*sdallocx_)(void *, size_t, int);

static void one_size(size_t size) {
    char *block = malloc(size);
    CHECK(block != NULL);
    memset(block, 1, size);
    free_sized_(block, size);
    block = calloc(1, size);
    CHECKF(block && all_zero(block, size), "calloc(%zu) after free_sized", size);
    free_sized_(block, size);
    block = realloc(malloc(size / 2), size ? size : 1);
    CHECK(block != NULL);
    free_sized_(block, size ? size : 1);

    size_t real = nallocx_(size ? size : 1, 0);
    CHECKF(real >= size, "nallocx(%zu) is %zu", size, real);
    block = malloc(size);
    CHECK(block != NULL);
    memset(block, 2, size);
    sdallocx_(block, size, 0);
}

static void one_alignment(int bit) {
    size_t alignment = (size_t)1 << bit;
    size_t sizes[] = {1, 100, alignment - 1, alignment, alignment + 1, alignment * 3};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        char *block = aligned_alloc(alignment, sizes[i]);
        CHECK(block && aligned_to(block, alignment));
        memset(block, 1, sizes[i]);
        free_aligned_sized_(block, alignment, sizes[i]);
        CHECKF(sizes[i] == 0 || nallocx_(sizes[i], bit) >= sizes[i], "alignment %zu, size %zu", alignment,
               sizes[i]);
        block = aligned_alloc(alignment, sizes[i]);
        CHECK(block && aligned_to(block, alignment));
        memset(block, 2, sizes[i]);
        sdallocx_(block, sizes[i], bit); // MALLOCX_LG_ALIGN(bit)
    }
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    *(void **)&free_sized_ = dlsym(RTLD_DEFAULT, "free_sized");
    *(void **)&free_aligned_sized_ = dlsym(RTLD_DEFAULT, "free_aligned_sized");
    *(void **)&nallocx_ = dlsym(RTLD_DEFAULT, "nallocx");
    *(void **)&sdallocx_ = dlsym(RTLD_DEFAULT, "sdallocx");
    if (!ours) skip("free_sized, nallocx and sdallocx: this glibc has not all of them");
    CHECK(free_sized_ && free_aligned_sized_ && nallocx_ && sdallocx_);

    free_sized_(NULL, 100);
    free_aligned_sized_(NULL, 64, 100);
    CHECK(nallocx_(SIZE_MAX, 0) == 0);
    CHECK(nallocx_((size_t)PTRDIFF_MAX + 1, 0) == 0);
    for (size_t size = 0; size < 20000; size++) one_size(size);
    for (size_t size = 20000; size < 70 * MIB; size += size / 4) one_size(size);
    for (int bit = 3; bit <= 23; bit++) one_alignment(bit);

    // Freed in bulk, with errno kept.
    static void *block[10000];
    for (size_t i = 0; i < COUNT(block); i++) CHECK((block[i] = malloc(i)) != NULL);
    errno = 4711;
    for (size_t i = 0; i < COUNT(block); i++) {
        if (i % 2) free_sized_(block[i], i);
        else sdallocx_(block[i], i, 0);
    }
    CHECK(errno == 4711);
    return 0;
}
