// Sizes that no address space holds and products that overflow: null and ENOMEM from every entry, never a
// wrapped size, and whatever the caller had stays as it was.
#include "check.h"

static char *old;
enum { OLD = 1000 };

static void refused(const char *entry, void *block, size_t size, size_t alignment) {
    int error = errno;
    CHECKF(block == NULL, "%s(%#zx), alignment %#zx", entry, size, alignment);
    CHECKF(error == ENOMEM, "%s(%#zx), alignment %#zx: errno %d", entry, size, alignment, error);
    CHECKF(intact(old, OLD, OLD, 7), "%s(%#zx) touched the old block", entry, size);
    errno = 0;
}

static void refused_aligned(size_t alignment, size_t size) {
    refused("aligned_alloc", aligned_alloc(alignment, size), size, alignment);
    refused("memalign", memalign(alignment, size), size, alignment);
    void *kept = &old;
    int error = posix_memalign(&kept, alignment, size);
    CHECKF(error == ENOMEM, "posix_memalign(%#zx, %#zx) is %d", alignment, size, error);
    CHECKF(kept == &old, "posix_memalign(%#zx, %#zx) changed *memptr", alignment, size);
    errno = 0;
}

static void refused_everywhere(size_t size) {
    size = hide_size(size);
    refused("malloc", malloc(size), size, 0);
    refused("calloc n,1", calloc(size, 1), size, 0);
    refused("calloc 1,n", calloc(1, size), size, 0);
    refused("realloc null", realloc(NULL, size), size, 0);
    refused("realloc", realloc(old, size), size, 0);
    refused("reallocarray n,1", reallocarray(old, size, 1), size, 0);
    refused("reallocarray 1,n", reallocarray(old, 1, size), size, 0);
    refused("reallocarray null", reallocarray(NULL, 1, size), size, 0);
    refused("valloc", valloc(size), size, 0);
    refused("pvalloc", pvalloc(size), size, 0);
    for (size_t alignment = 8; alignment <= (size_t)1 << 40; alignment <<= 1)
        refused_aligned(alignment, size);
}

static void refused_product(size_t count, size_t size) {
    count = hide_size(count);
    refused("calloc product", calloc(count, size), count, size);
    refused("reallocarray product", reallocarray(old, count, size), count, size);
    refused("reallocarray null product", reallocarray(NULL, count, size), count, size);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    old = malloc(OLD);
    CHECK(old != NULL);
    fill(old, OLD, 7);
    errno = 0;

    // SIZE_MAX and PTRDIFF_MAX, and what comes near them by rounding to 16, pages, pageblocks and sections.
    size_t below[] = {0,    1,     7,       8,           15,      16,          17,        23,   24,
                      31,   32,    63,      64,          4094,    4095,        4096,      4097, 8191,
                      8192, 65535, 1 * MIB, 2 * MIB - 1, 2 * MIB, 2 * MIB + 1, 256 * MIB, GIB,  128 * GIB};
    for (size_t i = 0; i < COUNT(below); i++) {
        refused_everywhere(SIZE_MAX - below[i]);
        refused_everywhere((size_t)PTRDIFF_MAX - below[i]);
        refused_everywhere((size_t)PTRDIFF_MAX + 1 + below[i]);
    }
    for (int bit = 48; bit < 64; bit++) refused_everywhere((size_t)1 << bit);

    // A size and an alignment that are fine alone and overflow together.
    for (int bit = 16; bit < 63; bit++) {
        size_t alignment = (size_t)1 << bit;
        refused_aligned(alignment, SIZE_MAX - alignment);
        refused_aligned(alignment, SIZE_MAX - alignment + 1);
        refused_aligned(alignment, (size_t)PTRDIFF_MAX - alignment + 1);
    }
    refused_aligned((size_t)1 << 62, (size_t)1 << 62);

    size_t half = SIZE_MAX / 2 + 1;
    refused_product(half, 2);
    refused_product(2, half);
    refused_product((size_t)1 << 32, (size_t)1 << 32);
    refused_product(SIZE_MAX, SIZE_MAX);
    refused_product(SIZE_MAX / 16 + 2, 16); // wraps to 16
    refused_product(SIZE_MAX / 64 + 2, 64); // wraps to 64
    refused_product(half / 4 + 1, 4);       // no wrap, above PTRDIFF_MAX
    refused_product(3, SIZE_MAX / 3 + 1);

    CHECK(intact(old, OLD, OLD, 7));
    free(old);
    return 0;
}
