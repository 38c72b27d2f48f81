// A heap of 2 GiB of mixed sizes, all of it touched, a part of it freed and allocated anew, has fewer than 1,000 mappings
// of the system's, and so it has when all is freed.
#include "check.h"

enum { MOST = 1 << 19, LEAST = 256 };
static struct { char *address; size_t size; } block[MOST];

// Lines of /proc/self/maps; nothing of this allocates.
static size_t mappings(void) {
    static char text[65536];
    size_t lines = 0;
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    for (ssize_t length; (length = read(fd, text, sizeof text)) > 0;)
        for (ssize_t i = 0; i < length; i++) lines += text[i] == '\n';
    close(fd);
    return lines;
}

static void check_mappings(const char *when) {
    size_t lines = mappings();
    CHECKF(!ours || lines < 1000, "%zu mappings %s", lines, when);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    uint64_t random = 3;
    size_t total = 0, count = 0;
    for (int round = 0; round < 3; round++) {
        while (total < 2 * GIB && count < MOST) {
            // By sizes that double, up to 512 KiB, and now and then a block of 2 to 40 MiB.
            size_t size = (size_t)LEAST << next_random(&random) % 12;
            if (next_random(&random) % 2000 == 0) size = 2 * MIB + next_random(&random) % (38 * MIB);
            size -= next_random(&random) % (size / 2);
            char *address = malloc(size);
            CHECK(address != NULL);
            for (size_t at = 0; at < size; at += 4096) address[at] = (char)count;
            block[count].address = address;
            block[count++].size = size;
            total += size;
        }
        check_mappings("of a heap of 2 GiB");
        // Half of it goes, here and there; in the end all of it.
        size_t kept = 0;
        for (size_t i = 0; i < count; i++) {
            if (round == 2 || next_random(&random) % 2) {
                free(block[i].address);
                total -= block[i].size;
            } else {
                block[kept++] = block[i];
            }
        }
        count = kept;
        check_mappings("after a part of it was freed");
    }
    CHECK(total == 0);
    return 0;
}
