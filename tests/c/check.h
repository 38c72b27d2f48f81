// What every program here shares: CHECK, the proof of which allocator is in use, block patterns, and a few
// helpers. None of them allocates, so that a program sees only the allocations it makes itself.
//
// Every program is called `PROGRAM glibc|ours [arguments]`. Under "ours" malloc must come from
// libpcpmalloc.so, under "glibc" from the C library: a run that tests the wrong allocator fails.
#ifndef CHECK_H
#define CHECK_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define UNUSED __attribute__((unused))

// Where failures are reported; the program that closes its first file descriptors moves it.
static int check_fd = 2;
// Whether the preloaded library is under test, for the few checks in which glibc differs.
static int ours UNUSED;

#define CHECK(condition) ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, #condition, " "))
#define CHECKF(condition, ...)                                                                               \
    ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, #condition, __VA_ARGS__))

// Prints `file:line: what` and ends the process at once: no exit handler, which could hang, hides it.
__attribute__((noreturn, cold, format(printf, 4, 5))) static void
check_failed(const char *file, int line, const char *what, const char *format, ...) {
    char text[512];
    int error = errno;
    int length = snprintf(text, sizeof text, "%s:%d: %s (errno %d) ", file, line, what, error);
    va_list arguments;
    va_start(arguments, format);
    length += vsnprintf(text + length, sizeof text - (size_t)length - 1, format, arguments);
    va_end(arguments);
    if (length > (int)sizeof text - 2) length = sizeof text - 2;
    text[length++] = '\n';
    if (write(check_fd, text, (size_t)length) < 0) _exit(2);
    _exit(1);
}

// The file name of the object that defines `name`, or null.
UNUSED static const char *object_of(const char *name) {
    Dl_info info;
    void *entry = dlsym(RTLD_DEFAULT, name);
    if (!entry || !dladdr(entry, &info) || !info.dli_fname) return NULL;
    const char *slash = strrchr(info.dli_fname, '/');
    return slash ? slash + 1 : info.dli_fname;
}

UNUSED static void check_start(int argc, char **argv) {
    CHECKF(argc >= 2, "usage: PROGRAM glibc|ours [arguments]");
    ours = strcmp(argv[1], "ours") == 0;
    CHECKF(ours || strcmp(argv[1], "glibc") == 0, "%s", argv[1]);
    const char *object = object_of("malloc");
    CHECK(object != NULL);
    CHECKF(strcmp(object, ours ? "libpcpmalloc.so" : "libc.so.6") == 0, "malloc comes from %s", object);
}

// Ends a program that cannot test anything here; the harness prints the reason.
__attribute__((noreturn, unused)) static void skip(const char *reason) {
    char text[256];
    int length = snprintf(text, sizeof text, "skipped: %s\n", reason);
    if (write(1, text, (size_t)length) < 0) _exit(2);
    _exit(77);
}

// Hides where a pointer comes from, so that the compiler neither removes nor warns about what follows.
UNUSED static void *hide(void *pointer) {
    __asm__ volatile("" : "+r"(pointer) : : "memory");
    return pointer;
}

UNUSED static size_t hide_size(size_t size) {
    __asm__ volatile("" : "+r"(size));
    return size;
}

// The start of a file as a string, without an allocation.
UNUSED static void read_start(const char *name, char *text, size_t size) {
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    ssize_t length = read(fd, text, size - 1);
    CHECK(length > 0);
    close(fd);
    text[length] = 0;
}

// Field `index` of /proc/self/statm in bytes: 0 is the address space, 1 is what is resident.
UNUSED static size_t statm(int index) {
    char text[256];
    read_start("/proc/self/statm", text, sizeof text);
    char *at = text;
    for (int i = 0; i < index; i++) at = strchr(at, ' ') + 1;
    return strtoul(at, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE);
}

UNUSED static size_t address_space(void) { return statm(0); }
UNUSED static size_t resident(void) { return statm(1); }

// xorshift64*: the same numbers on every run, a state for each thread.
UNUSED static uint64_t next_random(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545F4914F6CDD1Du;
}

// Sizes as programs ask for them: mostly small, some pages, now and then a large block below `largest`.
UNUSED static size_t random_size(uint64_t *state, size_t largest) {
    uint64_t r = next_random(state);
    unsigned shift = (unsigned)(r % 100) < 80 ? 9 : (r % 100) < 97 ? 14 : 18;
    size_t limit = (r % 1000) == 999 ? largest : (size_t)1 << shift;
    return (size_t)(next_random(state) % (limit < largest ? limit : largest));
}

// Fills a block with bytes that depend on `seed`; above a MiB only a word in every page.
UNUSED static void fill(void *block, size_t size, uint64_t seed) {
    unsigned char *bytes = (unsigned char *)block;
    if (size > MIB) {
        for (size_t at = 0; at + 8 <= size; at += 4096) {
            uint64_t word = seed ^ at;
            memcpy(bytes + at, &word, 8);
        }
        bytes[size - 1] = (unsigned char)seed;
    } else {
        for (size_t at = 0; at < size; at++) bytes[at] = (unsigned char)(seed + at + (at >> 8));
    }
}

// Whether the first `size` bytes of a block that was filled with `filled` bytes are unchanged.
UNUSED static int intact(const void *block, size_t size, size_t filled, uint64_t seed) {
    const unsigned char *bytes = (const unsigned char *)block;
    if (filled > MIB) {
        for (size_t at = 0; at + 8 <= size; at += 4096) {
            uint64_t word;
            memcpy(&word, bytes + at, 8);
            if (word != (seed ^ at)) return 0;
        }
        return size < filled || bytes[size - 1] == (unsigned char)seed;
    }
    for (size_t at = 0; at < size; at++) {
        if (bytes[at] != (unsigned char)(seed + at + (at >> 8))) return 0;
    }
    return 1;
}

UNUSED static int all_zero(const void *block, size_t size) {
    const unsigned char *bytes = (const unsigned char *)block;
    return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

UNUSED static int aligned_to(const void *block, size_t alignment) {
    return ((uintptr_t)block & (alignment - 1)) == 0;
}

#endif
