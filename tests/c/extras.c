// The GNU extensions: valloc and pvalloc, mallopt, mallinfo, malloc_trim, malloc_info, malloc_stats; alone
// and while other threads allocate.
#include "check.h"
#include <pthread.h>
#include <stdatomic.h>
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

static void page_blocks(void) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t size = 1; size < 3 * MIB; size += 1 + size / 3) {
        char *block = valloc(size);
        CHECKF(block && aligned_to(block, page), "valloc(%zu) is %p", size, (void *)block);
        memset(block, 1, size);
        free(block);
        size_t whole = (size + page - 1) / page * page;
        block = pvalloc(size);
        CHECKF(block && aligned_to(block, page), "pvalloc(%zu) is %p", size, (void *)block);
        CHECKF(malloc_usable_size(block) >= whole, "pvalloc(%zu)", size);
        memset(block, 1, whole);
        free(block);
    }
}

// Whether `text` is one <malloc ...>...</malloc> element whose tags nest.
static void check_xml(const char *text, size_t length) {
    static const char first[] = "<malloc", last[] = "</malloc>";
    CHECKF(strncmp(text, first, sizeof first - 1) == 0, "malloc_info starts %.40s", text);
    while (length && text[length - 1] == '\n') length--;
    CHECK(length > sizeof last && strncmp(text + length - (sizeof last - 1), last, sizeof last - 1) == 0);
    const char *open[32], *at = text, *end = text + length;
    size_t depth = 0;
    while ((at = memchr(at, '<', (size_t)(end - at)))) {
        const char *close = memchr(at, '>', (size_t)(end - at));
        CHECK(close != NULL);
        if (at[1] == '/') {
            size_t name = (size_t)(close - at) - 2;
            CHECKF(depth > 0 && strncmp(open[--depth], at + 2, name) == 0, "%.40s", at);
        } else if (close[-1] != '/' && at[1] != '?') {
            CHECK(depth < COUNT(open));
            open[depth++] = at + 1;
        }
        at = close + 1;
    }
    CHECK(depth == 0);
}

static void information(void) {
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    CHECK(stream != NULL);
    CHECK(malloc_info(0, stream) == 0);
    CHECK(fclose(stream) == 0);
    check_xml(text, length);
    free(text);
    stream = open_memstream(&text, &length);
    CHECK(stream && malloc_info(1, stream) != 0); // no other option is known
    CHECK(fclose(stream) == 0);
    free(text);
}

// malloc_stats writes to standard error: something, and nothing that is not text.
static void statistics(void) {
    int error = dup(2), file = memfd_create("stats", MFD_CLOEXEC);
    CHECK(error >= 0 && file >= 0);
    check_fd = error;
    CHECK(dup2(file, 2) == 2);
    malloc_stats();
    CHECK(dup2(error, 2) == 2);
    check_fd = 2;
    close(error);
    char text[4096];
    ssize_t got = pread(file, text, sizeof text, 0);
    close(file);
    CHECKF(got > 40, "malloc_stats wrote %zd bytes", got);
    for (ssize_t i = 0; i < got; i++)
        CHECK((unsigned char)text[i] >= ' ' || text[i] == '\n' || text[i] == '\t');
}

static void options(void) {
    static const int parameters[] = {M_MXFAST,    M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD,
                                     M_MMAP_MAX,  M_CHECK_ACTION,   M_PERTURB, M_ARENA_TEST,
                                     M_ARENA_MAX, -12345,           12345};
    for (size_t i = 0; i < COUNT(parameters); i++) {
        // The values are glibc's defaults, or harmless ones.
        int value = parameters[i] == M_MXFAST      ? 128
                    : parameters[i] == M_PERTURB   ? 0
                    : parameters[i] == M_ARENA_MAX ? 8
                                                   : 131072;
        int answer = mallopt(parameters[i], value);
        CHECKF(answer == 0 || answer == 1, "mallopt(%d, %d) is %d", parameters[i], value, answer);
    }
}

// What is in use shows in mallinfo, and goes again.
static void accounting(void) {
    enum { BLOCKS = 320 };
    static char *block[BLOCKS];
    struct mallinfo2 before = mallinfo2();
    for (size_t i = 0; i < BLOCKS; i++) {
        block[i] = malloc(100 * KIB);
        CHECK(block[i] != NULL);
        memset(block[i], 1, 100 * KIB);
    }
    struct mallinfo2 during = mallinfo2();
    struct mallinfo narrow = mallinfo();
    size_t used = during.uordblks + during.hblkhd, was = before.uordblks + before.hblkhd;
    CHECKF(used >= was + BLOCKS * 100 * KIB, "%zu bytes in use, %zu before", used, was);
    CHECKF(used <= was + BLOCKS * 140 * KIB, "%zu bytes in use, %zu before", used, was);
    CHECKF((size_t)narrow.uordblks + (size_t)narrow.hblkhd >= BLOCKS * 100 * KIB, "%d", narrow.uordblks);
    for (size_t i = 0; i < BLOCKS; i++) free(block[i]);
    struct mallinfo2 after = mallinfo2();
    CHECKF(after.uordblks + after.hblkhd <= was + MIB, "%zu bytes in use", after.uordblks + after.hblkhd);
    int trimmed = malloc_trim(0);
    CHECK(trimmed == 0 || trimmed == 1);
    CHECK(malloc_trim(1 * MIB) >= 0);
    CHECK(malloc_trim(SIZE_MAX / 2) >= 0);
}

static atomic_int done;

static void *churn(void *argument) {
    uint64_t random = (uintptr_t)argument + 1;
    void *block[64] = {NULL};
    while (!atomic_load(&done)) {
        size_t at = next_random(&random) % COUNT(block);
        free(block[at]);
        block[at] = malloc(random_size(&random, MIB));
        CHECK(block[at] != NULL);
    }
    for (size_t at = 0; at < COUNT(block); at++) free(block[at]);
    return NULL;
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    page_blocks();
    accounting();
    information();
    statistics();
    pthread_t thread[3];
    for (size_t i = 0; i < COUNT(thread); i++) CHECK(pthread_create(&thread[i], NULL, churn, (void *)i) == 0);
    for (int round = 0; round < 50; round++) {
        information();
        statistics();
        malloc_trim(0);
        mallinfo2();
    }
    atomic_store(&done, 1);
    for (size_t i = 0; i < COUNT(thread); i++) CHECK(pthread_join(thread[i], NULL) == 0);
    options();
    page_blocks();
    return 0;
}
