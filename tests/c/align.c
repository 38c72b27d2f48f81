// Alignment: what is wrong is EINVAL, what is possible is exact, what is too large is ENOMEM, and every
// plain block is 16-aligned.
#include "check.h"

static const size_t none_of_two[] = {
    0, 3, 5, 6, 7, 9, 12, 24, 48, 100, 4095, 4097, ((size_t)1 << 63) + 1, SIZE_MAX};

static void wrong_alignments(void) {
    for (size_t i = 0; i < COUNT(none_of_two); i++) {
        size_t alignment = hide_size(none_of_two[i]);
        for (size_t size = 0; size <= 100; size += 50) {
            void *kept = &wrong_alignments;
            CHECKF(posix_memalign(&kept, alignment, size) == EINVAL, "alignment %#zx", alignment);
            CHECKF(kept == &wrong_alignments, "alignment %#zx changed *memptr", alignment);
            // glibc rounds a wrong alignment up before 2.38 (aligned_alloc) and to this day (memalign).
            if (!ours) continue;
            errno = 0;
            CHECKF(aligned_alloc(alignment, size) == NULL && errno == EINVAL, "alignment %#zx", alignment);
            errno = 0;
            CHECKF(memalign(alignment, size) == NULL && errno == EINVAL, "alignment %#zx", alignment);
        }
    }
    // Powers of two below a pointer's size: wrong for posix_memalign only.
    for (size_t alignment = 1; alignment < sizeof(void *); alignment <<= 1) {
        void *kept = &wrong_alignments;
        CHECKF(posix_memalign(&kept, alignment, 10) == EINVAL, "alignment %zu", alignment);
        CHECK(kept == &wrong_alignments);
        void *block = aligned_alloc(alignment, 10);
        CHECKF(block && aligned_to(block, 16), "alignment %zu", alignment);
        free(block);
        block = memalign(alignment, 10);
        CHECKF(block && aligned_to(block, 16), "alignment %zu", alignment);
        free(block);
    }
}

static void *aligned_by(int entry, size_t alignment, size_t size) {
    void *block = NULL;
    switch (entry) {
    case 0: return aligned_alloc(alignment, size);
    case 1: return memalign(alignment, size);
    default: return posix_memalign(&block, alignment, size) == 0 ? block : NULL;
    }
}

static void every_alignment(int entry) {
    for (size_t alignment = 8; alignment <= 64 * MIB; alignment <<= 1) {
        size_t sizes[] = {0, 1, alignment - 1, alignment, alignment + 1};
        char *block[COUNT(sizes)];
        for (size_t i = 0; i < COUNT(sizes); i++) {
            block[i] = aligned_by(entry, alignment, sizes[i]);
            CHECKF(block[i] != NULL, "alignment %zu, size %zu", alignment, sizes[i]);
            CHECKF(aligned_to(block[i], alignment) && aligned_to(block[i], 16), "alignment %zu, size %zu: %p",
                   alignment, sizes[i], (void *)block[i]);
            CHECKF(malloc_usable_size(block[i]) >= sizes[i], "alignment %zu, size %zu", alignment, sizes[i]);
            fill(block[i], sizes[i], i);
        }
        for (size_t i = 0; i < COUNT(sizes); i++) {
            CHECKF(intact(block[i], sizes[i], sizes[i], i), "alignment %zu, size %zu", alignment, sizes[i]);
            free(block[i]);
        }
    }
}

static void enormous_alignments(int entry) {
    for (int bit = 27; bit <= 63; bit++) {
        size_t alignment = (size_t)1 << bit;
        size_t sizes[] = {0, 1, 4096, MIB, alignment};
        for (size_t i = 0; i < COUNT(sizes); i++) {
            errno = 0;
            char *block = aligned_by(entry, alignment, sizes[i]);
            if (block) {
                CHECKF(aligned_to(block, alignment), "alignment 2^%d: %p", bit, (void *)block);
                CHECKF(malloc_usable_size(block) >= sizes[i], "alignment 2^%d", bit);
                if (sizes[i]) block[0] = block[sizes[i] - 1] = 1;
                free(block);
            } else if (entry < 2) {
                CHECKF(errno == ENOMEM, "alignment 2^%d, size %zu", bit, sizes[i]);
            }
        }
        void *kept = &kept;
        int error = posix_memalign(&kept, alignment, alignment);
        CHECKF(error == 0 || (error == ENOMEM && kept == &kept), "alignment 2^%d: %d", bit, error);
        if (error == 0) free(kept);
    }
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    wrong_alignments();
    for (int entry = 0; entry < 3; entry++) {
        every_alignment(entry);
        enormous_alignments(entry);
    }
    for (size_t size = 1; size <= 20000; size++) {
        char *plain = malloc(size), *zeroed = calloc(1, size), *grown = realloc(malloc(1), size);
        CHECKF(plain && aligned_to(plain, 16), "malloc(%zu) is %p", size, (void *)plain);
        CHECKF(zeroed && aligned_to(zeroed, 16), "calloc(%zu) is %p", size, (void *)zeroed);
        CHECKF(grown && aligned_to(grown, 16), "realloc(%zu) is %p", size, (void *)grown);
        free(zeroed);
        free(plain);
        free(grown);
    }
    // A size that is no multiple of the alignment is fine (C17, DR 460).
    for (size_t size = 1; size < 600; size += 7) {
        char *block = aligned_alloc(256, size);
        CHECKF(block && aligned_to(block, 256), "aligned_alloc(256, %zu)", size);
        memset(block, 1, size);
        free(block);
    }
    return 0;
}
