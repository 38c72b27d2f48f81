/* The loops whose instructions benches/icount.sh counts for preloaded allocators: `loops NAME ROUNDS`. Each does
   one malloc and one free a round, and as little beside them as can be. What stands before the loop and what
   warms the allocator up cancels out: the count is the difference of two numbers of rounds. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 1000, PLAN = 1 << 16 };

/* The random choices of a loop, made beforehand so that they cost one load a round. */
static struct choice {
    uint16_t slot;
    uint16_t size;
} plan[PLAN];

static void make_plan(unsigned smallest, unsigned largest)
{
    uint64_t state = 0x9e3779b97f4a7c15;
    for (int i = 0; i < PLAN; i++) {
        state = state * 6364136223846793005 + 1442695040888963407;
        plan[i].slot = (state >> 33) % BLOCKS;
        plan[i].size = smallest + (state >> 48) % (largest - smallest + 1);
    }
}

static void pair(size_t size, long rounds)
{
    for (long round = 0; round < rounds; round++) {
        void *volatile block = malloc(size);
        free(block);
    }
}

static void mixed(long rounds)
{
    make_plan(16, 1024);
    for (long round = 0; round < rounds; round++)
        free(malloc(plan[round & (PLAN - 1)].size));
}

/* 1,000 live blocks, of which a random one makes room for the next. */
static void lifetimes(long rounds)
{
    static void *blocks[BLOCKS];
    make_plan(16, 512);
    for (int i = 0; i < BLOCKS; i++)
        blocks[i] = malloc(plan[i].size);
    for (long round = 0; round < rounds; round++) {
        struct choice choice = plan[round & (PLAN - 1)];
        free(blocks[choice.slot]);
        blocks[choice.slot] = malloc(choice.size);
    }
}

int main(int argc, char **argv)
{
    const char *name = argc == 3 ? argv[1] : "";
    long rounds = argc == 3 ? atol(argv[2]) : 0;
    if (strcmp(name, "lifetimes") == 0)
        lifetimes(rounds);
    else if (strcmp(name, "mixed") == 0)
        mixed(rounds);
    else if (atol(name) > 0)
        pair(atol(name), rounds);
    else
        return fprintf(stderr, "usage: loops SIZE|mixed|lifetimes ROUNDS\n"), 2;
    return 0;
}
