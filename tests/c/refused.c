// System calls that fail, by a seccomp filter that is put in place for all threads. Argument: which.
//
//   mmap        mmap and brk: ENOMEM from some moment on
//   madvise     madvise and process_madvise: EINVAL always
//   mremap      ENOMEM always
//   munmap      ENOMEM always
//   mprotect    ENOMEM always
//   barrier     membarrier: ENOSYS always
//   start       what a container or an old kernel may refuse, before the program starts
#include "check.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

// Answers the `count` calls of `numbers` with `error`, and lets every other pass.
static void refuse(const int *numbers, size_t count, int error) {
    struct sock_filter filter[64];
    size_t length = 0;
    filter[length++] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < count; i++) {
        // brk answers with an address, so its failure is an old break of zero.
        unsigned answer = SECCOMP_RET_ERRNO | (numbers[i] == SYS_brk ? 0u : (unsigned)error);
        filter[length++] =
            (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)numbers[i], 0, 1);
        filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, answer);
    }
    filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = (unsigned short)length, .filter = filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) skip("no PR_SET_NO_NEW_PRIVS");
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) != 0)
        skip("no seccomp filters");
}

static atomic_int refusals, nothing_fails = 1;

// Random work in which null with ENOMEM is an answer, but wrong contents are none.
static void *work(void *argument) {
    uint64_t random = (uintptr_t)argument + 1;
    enum { SLOTS = 300, STEPS = 15000 };
    char *block[SLOTS] = {NULL};
    size_t size[SLOTS] = {0};
    for (int step = 0; step < STEPS; step++) {
        size_t at = next_random(&random) % SLOTS, bytes = random_size(&random, 3 * MIB) + 1;
        unsigned kind = (unsigned)(next_random(&random) % 4);
        CHECKF(intact(block[at], size[at], size[at], at), "block of %zu bytes at step %d", size[at], step);
        errno = 4711;
        char *fresh;
        if (kind == 0) {
            fresh = realloc(block[at], bytes);
            if (fresh) {
                CHECK(intact(fresh, size[at] < bytes ? size[at] : bytes, size[at], at));
            } else {
                CHECK(errno == ENOMEM);
                CHECK(intact(block[at], size[at], size[at], at));
                free(block[at]);
            }
        } else {
            free(block[at]);
            CHECK(errno == 4711);
            fresh = kind == 1   ? calloc(1, bytes)
                    : kind == 2 ? memalign((size_t)64 << (step % 8), bytes)
                                : malloc(bytes);
            CHECK(fresh || errno == ENOMEM);
            if (fresh && kind == 1) CHECKF(all_zero(fresh, bytes), "calloc(%zu) at step %d", bytes, step);
        }
        if (!fresh) atomic_fetch_add(&refusals, 1);
        block[at] = fresh;
        size[at] = fresh ? bytes : 0;
        if (fresh) fill(fresh, bytes, at);
        if (step % 3000 == 2999) malloc_trim(0);
    }
    for (size_t at = 0; at < SLOTS; at++) free(block[at]);
    return NULL;
}

static pthread_barrier_t barrier;

static void *work_before_and_after(void *argument) {
    work(argument);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return work(argument);
}

// Large blocks freed and taken again: what could not be given back must not be taken for zero.
static void large_blocks(void) {
    for (size_t size = 100 * KIB; size <= 70 * MIB; size *= 3) {
        for (int round = 0; round < 3; round++) {
            char *block = malloc(size);
            CHECK(block != NULL || !nothing_fails);
            if (block) memset(block, 0xEE, size);
            errno = 4711;
            free(block);
            CHECK(errno == 4711);
            malloc_trim(0);
            block = calloc(1, size);
            CHECK(block != NULL || !nothing_fails);
            CHECKF(!block || all_zero(block, size), "calloc(%zu)", size);
            if (block) memset(block, 0xDD, size);
            char *larger = realloc(block, size * 2);
            CHECK(larger != NULL || !nothing_fails);
            if (larger && block) {
                for (size_t i = 0; i < size; i++)
                    CHECKF((unsigned char)larger[i] == 0xDD, "realloc to %zu, byte %zu", size * 2, i);
            }
            free(larger ? larger : block);
        }
    }
}

// With no new memory at all: what was freed can be had again, and what was not is null.
static void without_new_memory(void) {
    static char *block[4000];
    size_t count = 0;
    for (; count < COUNT(block); count++) {
        errno = 0;
        block[count] = malloc(100 * KIB);
        if (!block[count]) break;
        fill(block[count], 100 * KIB, count);
    }
    CHECKF(count < COUNT(block) && errno == ENOMEM, "400 MB without mmap");
    CHECKF(count >= 40, "only %zu blocks of 100 KiB from the 8 MiB that were freed before", count);
    errno = 0;
    CHECK(malloc(GIB) == NULL && errno == ENOMEM);
    for (size_t i = 0; i < count; i++) {
        CHECK(intact(block[i], 100 * KIB, 100 * KIB, i));
        free(block[i]);
    }
    size_t again = 0;
    while (again < count && (block[again] = malloc(100 * KIB))) again++;
    CHECKF(again >= count - count / 10, "%zu blocks, then only %zu", count, again);
    for (size_t i = 0; i < again; i++) free(block[i]);
    for (size_t size = 1; size < 100 * KIB; size += 1 + size / 8) {
        char *small = calloc(1, size);
        CHECKF(small && all_zero(small, size), "calloc(%zu)", size);
        free(small);
    }
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    CHECK(argc == 3);
    const char *what = argv[2];
    static const int mmap_calls[] = {SYS_mmap, SYS_brk},
                     madvise_calls[] = {SYS_madvise, 440 /* process_madvise */},
                     mremap_calls[] = {SYS_mremap}, munmap_calls[] = {SYS_munmap},
                     mprotect_calls[] = {SYS_mprotect}, barrier_calls[] = {SYS_membarrier},
                     modern_calls[] = {SYS_membarrier,
                                       SYS_rseq,
                                       SYS_getrandom,
                                       SYS_sched_getaffinity,
                                       SYS_getcpu,
                                       SYS_memfd_create,
                                       SYS_userfaultfd,
                                       SYS_set_mempolicy,
                                       SYS_mbind,
                                       SYS_get_mempolicy,
                                       440,
                                       SYS_mlock2,
                                       SYS_prctl,
                                       SYS_set_robust_list};
    if (strcmp(what, "start") == 0) {
        refuse(modern_calls, COUNT(modern_calls), ENOSYS);
        char started[] = "started";
        char *arguments[] = {argv[0], argv[1], started, NULL};
        execv("/proc/self/exe", arguments);
        CHECKF(0, "exec failed");
    }
    pthread_t thread;
    CHECK(pthread_barrier_init(&barrier, NULL, 2) == 0);
    CHECK(pthread_create(&thread, NULL, work_before_and_after, (void *)1) == 0);
    if (strcmp(what, "mmap") == 0) {
        // 8 MiB in one piece, and nothing may give it back: it is what there will be.
        mallopt(M_TRIM_THRESHOLD, GIB);
        mallopt(M_MMAP_THRESHOLD, 32 * MIB);
        char *block[80];
        for (size_t i = 0; i < COUNT(block); i++) CHECK((block[i] = malloc(100 * KIB)) != NULL);
        pthread_barrier_wait(&barrier);
        for (size_t i = 0; i < COUNT(block); i++) free(block[i]);
        refuse(mmap_calls, COUNT(mmap_calls), ENOMEM);
        nothing_fails = 0;
        without_new_memory();
    } else {
        pthread_barrier_wait(&barrier);
        if (strcmp(what, "madvise") == 0) refuse(madvise_calls, COUNT(madvise_calls), EINVAL);
        else if (strcmp(what, "mremap") == 0) refuse(mremap_calls, COUNT(mremap_calls), ENOMEM);
        else if (strcmp(what, "munmap") == 0) refuse(munmap_calls, COUNT(munmap_calls), ENOMEM);
        else if (strcmp(what, "mprotect") == 0) refuse(mprotect_calls, COUNT(mprotect_calls), ENOMEM);
        else if (strcmp(what, "barrier") == 0) refuse(barrier_calls, COUNT(barrier_calls), ENOSYS);
        else CHECKF(strcmp(what, "started") == 0, "%s", what);
    }
    atomic_store(&refusals, 0);
    pthread_barrier_wait(&barrier);
    work(NULL);
    CHECK(pthread_join(thread, NULL) == 0);
    // Only mmap can be missed; glibc's arenas of other threads also need mprotect to grow.
    if (nothing_fails && (ours || strcmp(what, "mprotect") != 0))
        CHECKF(refusals == 0, "%d refusals", refusals);
    large_blocks();
    return 0;
}
