/* The smallest loop there is, for C: one malloc and one free of 64 bytes, as often as the first argument
   says. .ci/floor counts its instructions, as the difference of two loop lengths. */
#include <stdlib.h>

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? atol(argv[1]) : 1000;
    for (long round = 0; round < rounds; round++) {
        void *volatile block = malloc(64);
        free(block);
    }
    return 0;
}
