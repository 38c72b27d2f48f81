// dlopen and dlclose of a library that holds memory, from one thread and from four, and of the preloaded
// library itself. Argument: the path of held_library.so.
#include "check.h"
#include <pthread.h>

static const char *path;
static int rounds;

// The library has one set of blocks, so only a thread that has it to itself takes them.
static void *load_and_unload(void *shared) {
    for (int i = 0; i < rounds; i++) {
        void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        CHECKF(library != NULL, "%s", dlerror());
        char **(*hand_over)(size_t *);
        *(void **)&hand_over = dlsym(library, "hand_over");
        CHECK(hand_over != NULL);
        size_t count = 0;
        char **list = hand_over(&count);
        CHECK(dlclose(library) == 0);
        for (size_t k = 0; !shared && k < count; k++) {
            CHECK(list[k][(2 * k + 1) * 50] == (char)(2 * k + 1));
            free(list[k]);
        }
        free(list);
    }
    return NULL;
}

static void the_library_itself(void) {
    const char *preload = getenv("LD_PRELOAD");
    CHECK(preload != NULL);
    for (int i = 0; i < 200; i++) {
        char *block = malloc(10000);
        CHECK(block != NULL);
        void *library = dlopen(preload, RTLD_NOW | RTLD_LOCAL);
        CHECKF(library != NULL, "%s", dlerror());
        CHECK(dlsym(library, "malloc") == dlsym(RTLD_DEFAULT, "malloc"));
        fill(block, 10000, 1);
        CHECK(dlclose(library) == 0);
        block = realloc(block, 20000);
        CHECK(block && intact(block, 10000, 10000, 1));
        free(block);
    }
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    CHECK(argc == 3);
    path = argv[2];
    rounds = 20;
    load_and_unload(NULL);
    size_t before = resident();
    rounds = 200;
    load_and_unload(NULL);
    CHECKF(resident() < before + 4 * MIB, "%zu KiB more", (resident() - before) / KIB);
    rounds = 50;
    pthread_t thread[4];
    for (size_t i = 0; i < COUNT(thread); i++)
        CHECK(pthread_create(&thread[i], NULL, load_and_unload, &path) == 0);
    for (size_t i = 0; i < COUNT(thread); i++) CHECK(pthread_join(thread[i], NULL) == 0);
    if (ours) the_library_itself();
    return 0;
}
