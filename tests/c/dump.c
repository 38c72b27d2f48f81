// What a core dump holds: 64 MiB in use, after 256 MiB were freed. Arguments: `all` or `used`, as PCPMALLOC_DUMP has it,
// and a folder for the dump.
//
// A child fills the blocks, looks at what its mappings say, and aborts. Everything in use must be in its dump, and under
// `used` most of the rest must not.
#include "check.h"
#include <elf.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { SIZE = 64 * 1024, USED = 1024, FREED = 4096 };
static char *used[USED], *freed[FREED];

// A mark that is nowhere in the program: it is put together here.
static void mark(char *at, uint32_t number) {
    uint64_t words[2] = {0x9e3779b97f4a7c15u * (hide_size(12345) + 1), number};
    memcpy(at, words, sizeof words);
}

static void work(void) {
    for (int i = 0; i < FREED; i++) {
        CHECK((freed[i] = malloc(SIZE)) != NULL);
        memset(freed[i], 1, SIZE);
    }
    for (int i = 0; i < USED; i++) {
        CHECK((used[i] = malloc(SIZE)) != NULL);
        memset(used[i], 2, SIZE);
        mark(used[i], (uint32_t)i);
        mark(used[i] + SIZE - 16, (uint32_t)i);
    }
    for (int i = 0; i < FREED; i++) free(freed[i]);
    // What was given back comes into use again.
    for (int i = 0; i < USED; i += 2) {
        char *block = malloc(SIZE);
        CHECK(block != NULL);
        memcpy(block, used[i], SIZE);
        memset(used[i], 3, SIZE);
        free(used[i]);
        used[i] = block;
    }
    malloc_trim(0);
    // Blocks that grow by realloc are in use too.
    for (int i = 1; i < USED; i += 256) {
        char *block = malloc(300 * KIB);
        CHECK(block != NULL);
        block = realloc(block, 3 * MIB);
        CHECK(block != NULL);
        memset(block, 4, 3 * MIB);
        memcpy(block, used[i], SIZE);
        free(used[i]);
        used[i] = block;
    }
}

// Bytes of anonymous mappings that dumps leave out; no block in use may be in one.
static size_t left_out(void) {
    static char line[512];
    FILE *file = fopen("/proc/self/smaps", "r");
    CHECK(file != NULL);
    size_t from = 0, to = 0, sum = 0;
    int anonymous = 0;
    while (fgets(line, sizeof line, file)) {
        size_t start, end;
        if (sscanf(line, "%zx-%zx ", &start, &end) == 2) {
            from = start, to = end;
            anonymous = !strchr(line, '[') && !strchr(line, '/');
        }
        if (!anonymous || strncmp(line, "VmFlags:", 8) != 0 || !strstr(line, " dd")) continue;
        sum += to - from;
        for (int i = 0; i < USED; i++) {
            size_t at = (size_t)used[i];
            CHECKF(at + SIZE <= from || at >= to, "%zx in use, %zx-%zx left out", at, from, to);
        }
    }
    fclose(file);
    return sum;
}

static size_t count_marks(const char *core, size_t size) {
    char wanted[16];
    mark(wanted, 0);
    static unsigned char found[USED];
    size_t count = 0;
    // Blocks are aligned to pages, and dumped pages are too.
    for (size_t at = 0; at + 16 <= size; at += 16) {
        uint32_t number;
        memcpy(&number, core + at + 8, sizeof number);
        if (memcmp(core + at, wanted, 8) != 0 || number >= USED || at % 4096 % 4080 != 0) continue;
        if (!(found[number] & (at % 4096 ? 2 : 1))) count++;
        found[number] |= at % 4096 ? 2 : 1;
    }
    return count;
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    CHECK(argc == 4);
    int all = strcmp(argv[2], "all") == 0;
    CHECK(chdir(argv[3]) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        struct rlimit most;
        CHECK(getrlimit(RLIMIT_CORE, &most) == 0);
        most.rlim_cur = most.rlim_max;
        CHECK(setrlimit(RLIMIT_CORE, &most) == 0);
        work();
        size_t bytes = left_out();
        CHECKF(all ? bytes == 0 : bytes >= 200 * MIB, "%zu KiB left out", bytes / KIB);
        abort();
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECKF(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "status %x", status);
    if (!WCOREDUMP(status)) skip("no core is dumped here; the mappings are as promised");
    char name[64];
    snprintf(name, sizeof name, "core.%d", child);
    int fd = open("core", O_RDONLY);
    if (fd < 0) fd = open(name, O_RDONLY);
    if (fd < 0) skip("cores go elsewhere here; the mappings are as promised");
    struct stat about;
    CHECK(fstat(fd, &about) == 0);
    size_t size = (size_t)about.st_size;
    const char *core = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    CHECK(core != MAP_FAILED && memcmp(core, ELFMAG, SELFMAG) == 0);
    CHECKF(all ? size >= 300 * MIB : size >= 64 * MIB && size <= 110 * MIB, "a core of %zu KiB", size / KIB);
    size_t marks = count_marks(core, size);
    CHECKF(marks == 2 * USED, "%zu marks of %d", marks, 2 * USED);
    return 0;
}
