/* What programs build of blocks: buffers that grow, zeroed tables, texts cut into strings, and trees. */
#include "suite.h"

#include <stdio.h>
#include <string.h>

/* One of many buffers grows by half; one that has become large starts anew. */
static void realloc_growth(void)
{
    enum { BUFFERS = 64, WORK = 250000, LARGEST = 32 << 10 };
    struct {
        char *start;
        size_t length;
    } buffers[BUFFERS] = { { NULL, 0 } };
    struct random random = random_from(3);
    meter_start();
    for (long i = 0; i < WORK; i++) {
        size_t at = below(&random, BUFFERS), length = buffers[at].length;
        if (length > LARGEST) {
            free(buffers[at].start);
            buffers[at].start = NULL;
            length = 0;
        }
        length += length / 2 + 16;
        buffers[at].start = realloc(buffers[at].start, length);
        if (!buffers[at].start)
            abort();
        buffers[at].start[length - 1] = 1;
        buffers[at].length = length;
    }
    meter_stop(WORK);
}

static void calloc_mixed(void)
{
    enum { LIVE = 256, WORK = 1500000 };
    static uint64_t volatile *blocks[LIVE];
    struct sizes sizes = sizes_log_uniform(16, 8192);
    struct random random = random_from(4);
    meter_start();
    for (long i = 0; i < WORK; i++) {
        size_t at = below(&random, LIVE), size = next_size(&sizes);
        free((void *)blocks[at]);
        blocks[at] = calloc(1, size);
        if (!blocks[at] || blocks[at][0])
            abort();
        blocks[at][0] = size;
    }
    meter_stop(WORK);
}

/* --- A text of records becomes lists of strings: a node for each record and field, a copy of each name and value. */
struct field {
    struct field *next;
    char *name, *value;
};

struct record {
    struct record *next;
    struct field *fields;
};

enum { RECORDS = 400, LINE = 128 };

static char *make_text(void)
{
    char *text = malloc(RECORDS * LINE), *end = text;
    struct random random = random_from(5);
    for (int record = 0; record < RECORDS; record++) {
        end += sprintf(end, "id=%d;name=%.*s;", record, (int)below(&random, 24), "abcdefghijklmnopqrstuvwxyz");
        end += sprintf(end, "mail=user%zu@example.org;note=%.*s\n", below(&random, 100000), (int)below(&random, 40),
                       "the quick brown fox jumps over the lazy dog");
    }
    return text;
}

static struct field *parse_fields(char *line)
{
    struct field *fields = NULL;
    char *rest = NULL;
    for (char *pair = strtok_r(line, ";", &rest); pair; pair = strtok_r(NULL, ";", &rest)) {
        const char *equals = strchr(pair, '=');
        struct field *field = malloc(sizeof *field);
        field->name = strndup(pair, equals - pair);
        field->value = strdup(equals + 1);
        field->next = fields;
        fields = field;
    }
    return fields;
}

static struct record *parse_text(const char *text)
{
    struct record *records = NULL;
    for (const char *end; (end = strchr(text, '\n')); text = end + 1) {
        char *line = strndup(text, end - text);
        struct record *record = malloc(sizeof *record);
        record->fields = parse_fields(line);
        record->next = records;
        records = record;
        free(line);
    }
    return records;
}

static void free_records(struct record *records)
{
    while (records) {
        struct record *next = records->next;
        for (struct field *field = records->fields; field;) {
            struct field *after = field->next;
            free(field->name);
            free(field->value);
            free(field);
            field = after;
        }
        free(records);
        records = next;
    }
}

static void parse(void)
{
    enum { TIMES = 200 };
    char *text = make_text();
    meter_start();
    for (int i = 0; i < TIMES; i++)
        free_records(parse_text(text));
    meter_stop((uint64_t)TIMES * RECORDS);
}

/* --- Binary trees, built, walked and dropped. */
struct tree {
    struct tree *left, *right;
    uint64_t value;
};

static struct tree *build(int depth, uint64_t value)
{
    struct tree *tree = malloc(sizeof *tree);
    tree->left = depth ? build(depth - 1, 2 * value) : NULL;
    tree->right = depth ? build(depth - 1, 2 * value + 1) : NULL;
    tree->value = value;
    return tree;
}

static uint64_t sum(const struct tree *tree)
{
    return tree ? tree->value + sum(tree->left) + sum(tree->right) : 0;
}

static void drop(struct tree *tree)
{
    if (!tree)
        return;
    drop(tree->left);
    drop(tree->right);
    free(tree);
}

static void trees(void)
{
    enum { DEPTH = 15, TIMES = 30 };
    uint64_t total = 0;
    meter_start();
    for (int i = 0; i < TIMES; i++) {
        struct tree *tree = build(DEPTH, 1);
        total += sum(tree);
        drop(tree);
    }
    meter_stop(((UINT64_C(2) << DEPTH) - 1) * TIMES);
    if (total == 0)
        abort();
}

const struct workload shapes[] = {
    { "realloc-growth", "growth", realloc_growth },
    { "calloc-mixed", "growth", calloc_mixed },
    { "parse", "collections", parse },
    { "trees", "collections", trees },
    { NULL, NULL, NULL },
};
