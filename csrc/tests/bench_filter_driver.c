/*
 * bench_filter_driver.c - micro benchmark of metadata leaves on columns, beside what the answer
 * alone costs, and of the text index.
 *
 *   F="csrc/tests/bench_filter_driver.c $(ls csrc/{filter,store,wal,codec,io,base}/?*.c)"
 *   cc -std=gnu11 -O3 -fno-math-errno -Icsrc $F -o bench_filter -pthread -lm
 *   ./bench_filter [rows]        columns
 *   ./bench_filter FILE          text index of a file with a document per line
 *
 * For columns of several cardinalities: us per leaf, best of several, and how often it holds; then
 * "floor", the time to fill a bitmap and to go through it as every caller does, whatever an index
 * may save.
 */
#include "base/bits.h"
#include "base/msgpack.h"
#include "filter/columns_format.h"
#include "filter/text_format.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static void check(vex_status status) {
    if (status != VEX_OK) {
        fprintf(stderr, "%s\n", vex_last_error()->message);
        exit(1);
    }
}

typedef struct table {
    vex_buf maps, section;
    void *columns;
    uint32_t n;
} table;

/* One key "k": a string of `cardinality` different ones, an int, a float or a list of two. */
static table make_table(uint32_t n, uint32_t cardinality, char type) {
    table t = {.n = n};
    uint64_t state = 88172645463325252ULL;
    size_t *ends = calloc((size_t)n + 1, sizeof *ends);
    vex_payload *rows = calloc(n, sizeof *rows);
    for (uint32_t i = 0; i < n; i++) {
        char text[24];
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        uint32_t value = (uint32_t)((state >> 32) * cardinality >> 32);
        int len = snprintf(text, sizeof text, "value %u", value);
        check(vex_mp_put_map(&t.maps, 1));
        check(vex_mp_put_str(&t.maps, "k", 1));
        if (type == 'l') {
            check(vex_mp_put_array(&t.maps, 2));
            check(vex_mp_put_str(&t.maps, "always", 6));
        }
        check(type == 'i'   ? vex_mp_put_int(&t.maps, (int64_t)value)
              : type == 'f' ? vex_mp_put_double(&t.maps, value / 8.0)
                            : vex_mp_put_str(&t.maps, text, (size_t)len));
        ends[i + 1] = t.maps.len;
    }
    for (uint32_t i = 0; i < n; i++) {
        rows[i].metadata = t.maps.data + ends[i];
        rows[i].metadata_len = (uint32_t)(ends[i + 1] - ends[i]);
    }
    check(vex_columns_build(rows, n, &t.section));
    check(vex_columns_plugin()->load(t.section.data, t.section.len, n, "bench", 0, &t.columns));
    free(ends);
    free(rows);
    return t;
}

static void free_table(table *t) {
    vex_columns_plugin()->unload(t->columns);
    vex_buf_clear(&t->maps);
    vex_buf_clear(&t->section);
}

static void measure(const table *t, const char *name, uint32_t op, vex_value operand,
                    vex_value *operands, uint32_t n_operands) {
    const vex_expr leaf = {.op = op,
                           .key = (const uint8_t *)"k",
                           .key_len = 1,
                           .operand = operand,
                           .operands = operands,
                           .n_operands = n_operands};
    uint64_t *words = calloc(vex_bit_words(t->n) + 1, sizeof *words), hits = 0;
    double best = 1e30;
    for (int i = 0; i < 9; i++) {
        vex_bits_fill(words, t->n);
        double start = now();
        check(vex_columns_match(t->columns, &leaf, words));
        double took = now() - start;
        best = took < best ? took : best;
        hits = vex_bits_count(words, vex_bit_words(t->n));
    }
    printf("  %-28s %10.1f us %10llu rows\n", name, best, (unsigned long long)hits);
    free(words);
}

static void measure_floor(uint32_t n) {
    double best = 1e30;
    uint64_t total = 0;
    for (int i = 0; i < 9; i++) {
        double start = now();
        uint64_t *words = calloc(vex_bit_words(n) + 1, sizeof *words);
        vex_bits_fill(words, n);
        total += vex_bits_count(words, vex_bit_words(n));
        free(words);
        double took = now() - start;
        best = took < best ? took : best;
    }
    printf("  %-28s %10.1f us\n", total ? "floor" : "", best);
}

static vex_value text(const char *bytes) {
    return (vex_value){
        .type = VEX_VALUE_STRING, .bytes = (const uint8_t *)bytes, .len = strlen(bytes)};
}

static void run(uint32_t n) {
    static const uint32_t cardinalities[] = {20, 20000, 2000000};
    for (size_t c = 0; c < 3; c++) {
        table t = make_table(n, cardinalities[c], 's');
        printf("%u rows, strings, %u values, section %zu KB\n", n, cardinalities[c],
               t.section.len / 1024);
        vex_value some[] = {text("value 1"), text("value 13"), text("value 7")};
        measure(&t, "$eq", VEX_F_EQ, text("value 7"), NULL, 0);
        measure(&t, "$ne", VEX_F_NE, text("value 7"), NULL, 0);
        measure(&t, "$eq, absent", VEX_F_EQ, text("nothing"), NULL, 0);
        measure(&t, "$in, three", VEX_F_IN, (vex_value){0}, some, 3);
        free_table(&t);
    }
    table ints = make_table(n, 1u << 30, 'i'), floats = make_table(n, 1000, 'f');
    printf("%u rows, numbers\n", n);
    const vex_value million = {.type = VEX_VALUE_INT, .integer = 1000000};
    const vex_value half = {.type = VEX_VALUE_FLOAT, .number = 62.5};
    measure(&ints, "$eq, ints", VEX_F_EQ, million, NULL, 0);
    measure(&ints, "$lt, ints", VEX_F_LT, million, NULL, 0);
    measure(&floats, "$gte, floats", VEX_F_GE, half, NULL, 0);
    free_table(&ints);
    free_table(&floats);
    table lists = make_table(n, 1000, 'l'), many = make_table(n, 2000000, 'l');
    measure(&lists, "$contains, 1000 lists", VEX_F_CONTAINS, text("value 7"), NULL, 0);
    measure(&many, "$contains, 2,000,000 lists", VEX_F_CONTAINS, text("value 7"), NULL, 0);
    free_table(&lists);
    free_table(&many);
    measure_floor(n);
}

/* ---- text ---- */

static vex_payload *read_lines(FILE *file, uint32_t *n) {
    vex_buf bytes = {0};
    size_t capacity = 0;
    vex_payload *rows = NULL;
    uint8_t chunk[65536];
    for (size_t got; (got = fread(chunk, 1, sizeof chunk, file)) > 0;) {
        check(vex_buf_append(&bytes, chunk, got));
    }
    const uint8_t *line = bytes.data, *end = bytes.data + bytes.len, *stop;
    for (*n = 0; line < end && (stop = memchr(line, '\n', (size_t)(end - line))) != NULL;) {
        check(vex_grow((void **)&rows, &capacity, (size_t)*n + 1, sizeof *rows));
        rows[(*n)++] = (vex_payload){.document = line, .document_len = (uint32_t)(stop - line)};
        line = stop + 1;
    }
    return rows; /* and the bytes: until the end */
}

static void run_text(FILE *file) {
    static const char *const needles[] = {"e", "th", "person", "zebra", "of the", "red wine"};
    uint32_t n = 0;
    vex_payload *rows = read_lines(file, &n);
    size_t documents = 0;
    vex_buf section = {0};
    void *opened = NULL;
    double best = 1e30;
    for (uint32_t i = 0; i < n; i++) {
        documents += rows[i].document_len;
    }
    for (int i = 0; i < 5; i++) {
        vex_buf_clear(&section);
        double start = now();
        check(vex_text_build(rows, n, &section));
        best = now() - start < best ? now() - start : best;
    }
    printf("%u documents, %zu KB, index %zu KB, %.2f us per document\n", n, documents / 1024,
           section.len / 1024, best / n);
    check(vex_text_plugin()->load(section.data, section.len, n, "bench", 0, &opened));
    uint64_t *sure = calloc(vex_bit_words(n) + 1, 8), *maybe = calloc(vex_bit_words(n) + 1, 8);
    for (size_t k = 0; k < sizeof needles / sizeof needles[0]; k++) {
        best = 1e30;
        for (int i = 0; i < 9; i++) {
            double start = now();
            check(vex_text_index_find(opened, (const uint8_t *)needles[k], strlen(needles[k]), sure,
                                      maybe));
            best = now() - start < best ? now() - start : best;
        }
        printf("  %-28s %10.1f us %10llu rows, %llu to be read\n", needles[k], best,
               (unsigned long long)vex_bits_count(maybe, vex_bit_words(n)),
               (unsigned long long)(vex_bits_count(maybe, vex_bit_words(n)) -
                                    vex_bits_count(sure, vex_bit_words(n))));
    }
    vex_text_plugin()->unload(opened);
    vex_buf_clear(&section);
    free(sure);
    free(maybe);
}

int main(int argc, char **argv) {
    FILE *file = argc > 1 ? fopen(argv[1], "rb") : NULL;
    if (file != NULL) {
        run_text(file);
        fclose(file);
    } else {
        run(argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1000000);
    }
    return 0;
}
