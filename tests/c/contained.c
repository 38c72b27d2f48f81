// All the memory that there is, used up twice. Arguments: where the end comes from, the most and the least MiB that
// may be had, and for `self` the MiB of address space.
//
//   outside MOST LEAST        from the library's limit, a cgroup or the system
//   self MOST LEAST SPACE     from RLIMIT_AS, that many MiB more than the program has at its start
//
// Every block is written to its last byte, so that what cannot be backed is a kill. The end must be null and ENOMEM.
#include "check.h"
#include <sys/resource.h>

// Blocks linked through their own memory: a program at its limit has no room for a table.
struct link {
    struct link *next;
};

static size_t fill_up(struct link **list, size_t size, size_t most) {
    size_t total = 0;
    for (;;) {
        errno = 0;
        struct link *block = malloc(size);
        if (!block) break;
        memset(block, 1, size);
        block->next = *list;
        *list = block;
        total += size;
        CHECKF(total <= most, "more than %zu MiB in blocks of %zu bytes", most / MIB, size);
    }
    CHECKF(errno == ENOMEM, "malloc(%zu)", size);
    return total;
}

static void free_all(struct link **list) {
    while (*list) {
        struct link *next = (*list)->next;
        free(*list);
        *list = next;
    }
}

int main(int argc, char **argv) {
    static const size_t sizes[] = {100, 3000, 40 * KIB, 700 * KIB, 5 * MIB, 33 * MIB};
    check_start(argc, argv);
    CHECK(argc >= 5);
    size_t most = strtoul(argv[3], NULL, 10) * MIB, least = strtoul(argv[4], NULL, 10) * MIB;
    if (strcmp(argv[2], "self") == 0) {
        rlim_t bytes = address_space() + strtoul(argv[5], NULL, 10) * MIB;
        struct rlimit limit = {bytes, bytes};
        CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    }
    struct link *list = NULL;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        size_t allowed = least > sizes[i] ? least - sizes[i] : 0;
        for (int round = 0; round < 2; round++) {
            size_t total = fill_up(&list, sizes[i], most);
            CHECKF(total >= allowed, "only %zu KiB in blocks of %zu bytes", total / KIB, sizes[i]);
            free_all(&list);
        }
    }
    char *block = calloc(1, 10 * MIB);
    CHECK(block && all_zero(block, 10 * MIB));
    free(block);
    return 0;
}
