// How much stack the allocator takes. Argument: where it runs.
//
//   small     threads with the smallest stack there may be
//   measured  a painted stack: allocating and freeing takes less than 4 KiB of it
//   signal    a handler on an alternate stack, while the thread is outside the allocator
#include "check.h"
#include <limits.h>
#include <pthread.h>
#include <signal.h>

// All paths: small and large, hit and miss, refill and drain, realloc, purge. The table is static, so that
// this function's own frame is small.
static char *block[3000];

static void exercise(size_t count) {
    for (size_t i = 0; i < count; i++) {
        size_t size = i % 50 == 49 ? i * 400 : i % 1500;
        block[i] = i % 5 == 4 ? calloc(1, size) : i % 7 == 6 ? memalign(256, size) : malloc(size);
        if (!block[i]) _exit(4);
    }
    for (size_t i = 0; i < count; i += 3) {
        block[i] = realloc(block[i], i * 30 + 1);
        if (!block[i]) _exit(4);
    }
    for (size_t i = 0; i < count; i++) free(block[i]);
    free(realloc(malloc(MIB), 40 * MIB));
    malloc_trim(0);
}

static char *frame;

static void *life(void *argument) {
    frame = __builtin_frame_address(0);
    if (argument) exercise(COUNT(block));
    return NULL;
}

// How far below the frame of `life` its thread wrote to the stack, its own end included.
static size_t depth_of(void *argument) {
    enum { SIZE = 256 * 1024, PAINT = 0xC3 };
    static unsigned char *stack;
    if (!stack) {
        stack = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(stack != MAP_FAILED);
    }
    memset(stack, PAINT, SIZE);
    pthread_attr_t attributes;
    pthread_t thread;
    CHECK(pthread_attr_init(&attributes) == 0);
    CHECK(pthread_attr_setstack(&attributes, stack, SIZE) == 0);
    CHECK(pthread_create(&thread, &attributes, life, argument) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    size_t untouched = 0;
    while (stack[untouched] == PAINT) untouched++;
    return (size_t)(frame - (char *)stack) - untouched;
}

static void small(void) {
    pthread_attr_t attributes;
    CHECK(pthread_attr_init(&attributes) == 0);
    CHECK(pthread_attr_setstacksize(&attributes, (size_t)PTHREAD_STACK_MIN) == 0);
    for (int i = 0; i < 20; i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, &attributes, life, block) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
}

static volatile sig_atomic_t handled;

static void in_handler(int signal) {
    (void)signal;
    exercise(300);
    handled++;
}

static void on_alternate_stack(void) {
    stack_t alternate = {.ss_sp = malloc(16 * KIB), .ss_size = 16 * KIB};
    CHECK(alternate.ss_sp && sigaltstack(&alternate, NULL) == 0);
    struct sigaction action = {.sa_handler = in_handler, .sa_flags = SA_ONSTACK};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    for (int i = 0; i < 20; i++) CHECK(raise(SIGUSR1) == 0);
    CHECK(handled == 20);
    stack_t none = {.ss_flags = SS_DISABLE};
    CHECK(sigaltstack(&none, NULL) == 0);
    free(alternate.ss_sp);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    CHECK(argc == 3);
    if (strcmp(argv[2], "small") == 0) small();
    if (strcmp(argv[2], "signal") == 0) on_alternate_stack();
    if (strcmp(argv[2], "measured") == 0) {
        size_t without = depth_of(NULL), with = depth_of(block);
        CHECKF(without > 0 && without < 4 * KIB, "a thread that does nothing takes %zu bytes", without);
        CHECKF(with < 4 * KIB, "%zu bytes with the allocator, %zu without", with, without);
    }
    return 0;
}
