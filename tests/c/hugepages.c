// What backs the heap. Argument: MiB to allocate in blocks of 100 KiB and to touch.
//
// Prints three numbers of KiB: resident, of that in transparent hugepages, and from the hugepage pool.
#include "check.h"

// A number of KiB from a file of "Name: number kB" lines; none of this allocates.
static long kib_of(const char *file, const char *name) {
    static char text[16384];
    int fd = open(file, O_RDONLY);
    CHECK(fd >= 0);
    ssize_t length = 0, more;
    while ((more = read(fd, text + length, sizeof text - 1 - (size_t)length)) > 0) length += more;
    close(fd);
    text[length] = 0;
    char *line = strstr(text, name);
    return line ? atol(line + strlen(name)) : 0;
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    CHECK(argc == 3);
    enum { SIZE = 100 * 1024 };
    long blocks = atol(argv[2]) * (long)MIB / SIZE;
    for (long i = 0; i < blocks; i++) {
        char *block = malloc(SIZE);
        CHECK(block != NULL);
        memset(block, 1, SIZE);
    }
    printf("%ld %ld %ld\n", kib_of("/proc/self/smaps_rollup", "Rss:"),
           kib_of("/proc/self/smaps_rollup", "AnonHugePages:"), kib_of("/proc/self/status", "HugetlbPages:"));
    return 0;
}
