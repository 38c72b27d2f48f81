// Memory that the C library allocates and the program frees or resizes, and memory that the C library frees.
#include "check.h"
#include <dirent.h>
#include <glob.h>
#include <locale.h>
#include <netdb.h>
#include <regex.h>
#include <search.h>

static int compare(const void *left, const void *right) { return strcmp(left, right); }

// The keys live in a static array.
static void keep_key(void *key) { (void)key; }

static void lines(void) {
    char text[3000];
    memset(text, 'x', sizeof text);
    for (size_t i = 100; i < sizeof text; i += 100) text[i] = '\n';
    FILE *stream = fmemopen(text, sizeof text, "r");
    CHECK(stream != NULL);
    char *line = malloc(1);
    size_t capacity = 1, count = 0;
    while (getline(&line, &capacity, stream) > 0) count++;
    CHECK(count == 30 && malloc_usable_size(line) >= capacity);
    free(line);
    rewind(stream);
    line = NULL;
    capacity = 0;
    CHECK(getdelim(&line, &capacity, 0, stream) == (ssize_t)sizeof text);
    free(line);
    CHECK(fclose(stream) == 0);
}

static void strings(int round) {
    char *text = NULL;
    CHECK(asprintf(&text, "%d %s %0500d", round, "text", 5) > 500);
    char *twin = strdup(text), *part = strndup(text, 7), *word = NULL;
    CHECK(twin && part && strcmp(twin, text) == 0 && strncmp(part, text, 7) == 0);
    CHECK(sscanf("hello world", "%ms", &word) == 1 && strcmp(word, "hello") == 0);
    twin = realloc(twin, 5000);
    CHECK(twin && strcmp(twin, text) == 0);
    free(text);
    free(twin);
    free(part);
    free(word);

    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    CHECK(stream != NULL);
    for (int i = 0; i < 2000; i++) fprintf(stream, "%d,", i);
    CHECK(fclose(stream) == 0);
    CHECK(strlen(text) == length && malloc_usable_size(text) > length);
    free(text);
}

static void paths(void) {
    char *here = getcwd(NULL, 0), *real = realpath(".", NULL);
    CHECK(here && real && strcmp(here, real) == 0);
    free(here);
    free(real);
    here = get_current_dir_name();
    CHECK(here != NULL);
    free(here);
    struct dirent **entries;
    int count = scandir("/", &entries, NULL, alphasort);
    CHECK(count > 2);
    for (int i = 0; i < count; i++) free(entries[i]);
    free(entries);
    glob_t found;
    CHECK(glob("/*", 0, NULL, &found) == 0 && found.gl_pathc > 2);
    globfree(&found);
    DIR *folder = opendir("/");
    CHECK(folder && readdir(folder));
    CHECK(closedir(folder) == 0);
}

static void structures(void) {
    void *root = NULL;
    static char key[300][8];
    for (int i = 0; i < 300; i++) {
        snprintf(key[i], sizeof key[i], "%d", i * 7919 % 1000);
        CHECK(tsearch(key[i], &root, compare) != NULL);
    }
    for (int i = 0; i < 100; i++) CHECK(tdelete(key[i], &root, compare) != NULL);
    tdestroy(root, keep_key);
    regex_t pattern;
    regmatch_t match[3];
    CHECK(regcomp(&pattern, "^(a|b)*[0-9]+(x{1,9}|y)$", REG_EXTENDED) == 0);
    CHECK(regexec(&pattern, "abab123xxx", 3, match, 0) == 0);
    CHECK(regexec(&pattern, "abab123xyz", 3, match, 0) == REG_NOMATCH);
    regfree(&pattern);
    CHECK(hcreate(100) != 0);
    hdestroy();
    struct addrinfo *address = NULL, hints = {.ai_flags = AI_NUMERICHOST};
    CHECK(getaddrinfo("127.0.0.1", "80", &hints, &address) == 0);
    freeaddrinfo(address);
}

static void environment(int round) {
    char name[32], value[200];
    for (int i = 0; i < 50; i++) {
        snprintf(name, sizeof name, "CHECK_%d", i);
        snprintf(value, sizeof value, "%*d", 1 + (round * 50 + i) % 150, i);
        CHECK(setenv(name, value, 1) == 0);
        CHECK(strcmp(getenv(name), value) == 0);
    }
    CHECK(unsetenv("CHECK_7") == 0 && getenv("CHECK_7") == NULL);
    if (round % 10 == 9) CHECK(clearenv() == 0 && getenv("CHECK_8") == NULL);
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    size_t before = 0;
    for (int round = 0; round < 200; round++) {
        lines();
        strings(round);
        paths();
        structures();
        environment(round);
        CHECK(setlocale(LC_ALL, round % 2 ? "C" : "C.UTF-8") != NULL || round % 2 == 0);
        CHECK(dlopen("/nonexistent/library.so", RTLD_NOW) == NULL && dlerror() != NULL);
        FILE *file = fopen("/dev/null", "w");
        CHECK(file != NULL);
        fprintf(file, "%d\n", round);
        CHECK(fclose(file) == 0);
        if (round == 50) before = resident();
    }
    CHECKF(resident() < before + 8 * MIB, "%zu KiB more", (resident() - before) / KIB);
    return 0;
}
