// Every name of the allocator's face leads to one and the same library, and the names work together: a block
// taken by one entry is freed by any other.
#include "check.h"

static const char *const names[] = {
    "malloc",
    "calloc",
    "realloc",
    "reallocarray",
    "free",
    "cfree",
    "posix_memalign",
    "aligned_alloc",
    "memalign",
    "valloc",
    "pvalloc",
    "malloc_usable_size",
    "malloc_trim",
    "mallinfo",
    "mallinfo2",
    "malloc_info",
    "malloc_stats",
    "mallopt",
    "__libc_malloc",
    "__libc_free",
    "__libc_calloc",
    "__libc_realloc",
    "__libc_memalign",
    "__libc_valloc",
    "__libc_pvalloc",
    "__posix_memalign",
    "free_sized",
    "free_aligned_sized",
    "nallocx",
    "sdallocx",
};

typedef void *one_size(size_t);
typedef void *two_sizes(size_t, size_t);
typedef void *resize(void *, size_t);
typedef void *resize_array(void *, size_t, size_t);
typedef int into(void **, size_t, size_t);
typedef void release(void *);

static void *find(const char *name) {
    const char *object = object_of(name);
    // glibc 2.36 keeps cfree and __posix_memalign for old programs only and has no sized faces.
    if (!ours && !object) return NULL;
    CHECKF(object != NULL, "%s does not resolve", name);
    CHECKF(strcmp(object, ours ? "libpcpmalloc.so" : "libc.so.6") == 0, "%s comes from %s", name, object);
    return dlsym(RTLD_DEFAULT, name);
}

static void *resized_by(const char *name, void *block) {
    resize *entry = (resize *)find(name);
    return entry ? entry(block, 300) : block;
}

// A block of 200 bytes, or more, from the named entry.
static void *taken_by(const char *name) {
    void *entry = find(name), *block = NULL;
    if (!entry) return malloc(200);
    if (strstr(name, "posix_memalign")) {
        CHECK(((into *)entry)(&block, 64, 200) == 0);
        return block;
    }
    if (strstr(name, "memalign") || !strcmp(name, "aligned_alloc")) return ((two_sizes *)entry)(64, 200);
    if (strstr(name, "calloc")) return ((two_sizes *)entry)(2, 100);
    if (!strcmp(name, "reallocarray")) return ((resize_array *)entry)(NULL, 2, 100);
    if (strstr(name, "realloc")) return ((resize *)entry)(NULL, 200);
    return ((one_size *)entry)(200);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    for (size_t i = 0; i < COUNT(names); i++) find(names[i]);

    static const char *const takers[] = {
        "malloc",          "calloc",        "realloc",        "reallocarray",
        "posix_memalign",  "aligned_alloc", "memalign",       "valloc",
        "pvalloc",         "__libc_malloc", "__libc_calloc",  "__libc_realloc",
        "__libc_memalign", "__libc_valloc", "__libc_pvalloc", "__posix_memalign"};
    static const char *const releasers[] = {"free", "cfree", "__libc_free"};
    static const char *const resizers[] = {"realloc", "__libc_realloc"};
    for (size_t t = 0; t < COUNT(takers); t++) {
        for (size_t f = 0; f < COUNT(releasers); f++) {
            release *entry = (release *)find(releasers[f]);
            if (!entry) continue;
            for (size_t r = 0; r < COUNT(resizers); r++) {
                void *block = taken_by(takers[t]);
                CHECKF(block && malloc_usable_size(block) >= 200, "%s", takers[t]);
                fill(block, 200, t);
                block = resized_by(resizers[r], block);
                CHECKF(block && intact(block, 200, 200, t), "%s after %s", resizers[r], takers[t]);
                entry(block);
            }
            entry(NULL);
        }
    }
    return 0;
}
