/* Scenarios of memory for preloaded allocators: `memory SCENARIO NUMBERS...` goes through one and prints its figures,
   `memory program LIBRARY COMMAND...` runs another program. `compare memory` runs it. Compile with -fno-builtin, or the
   compiler removes what is to be measured. */
#include "memory.h"

#include <stdio.h>
#include <string.h>

enum { MOST_ARGUMENTS = 2 };

static const struct {
    const char *name;
    void (*run)(const size_t *arguments);
    int arguments;
    const char *usage;
} scenarios[] = {
    { "burst", burst, 1, "MIB" },
    { "survivors", survivors, 2, "SMALLEST LARGEST" },
    { "sparse", sparse, 0, "" },
    { "cover", cover, 1, "MIB" },
    { "cycles", cycles, 2, "THREADS CYCLES" },
    { "idle-threads", idle_threads, 1, "THREADS" },
};

int main(int argc, char **argv)
{
    /* Otherwise the first line of output would allocate. */
    static char output[BUFSIZ];
    setvbuf(stdout, output, _IOFBF, sizeof output);
    if (argc > 3 && strcmp(argv[1], "program") == 0)
        return program(argv[2], argv + 3);
    for (size_t i = 0; argc > 1 && i < COUNT(scenarios); i++) {
        if (strcmp(argv[1], scenarios[i].name) != 0 || argc != 2 + scenarios[i].arguments)
            continue;
        size_t arguments[MOST_ARGUMENTS] = { 0 };
        for (int number = 0; number < scenarios[i].arguments; number++)
            arguments[number] = strtoul(argv[2 + number], NULL, 10);
        scenarios[i].run(arguments);
        return 0;
    }
    fprintf(stderr, "usage: memory program LIBRARY|- COMMAND...\n");
    for (size_t i = 0; i < COUNT(scenarios); i++)
        fprintf(stderr, "       memory %s %s\n", scenarios[i].name, scenarios[i].usage);
    return 2;
}
