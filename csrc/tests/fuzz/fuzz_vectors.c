/*
 * fuzz_vectors.c - vector files of any bytes: opening, every row, finding rows, and code
 * rows.
 *
 * Target "vectors": the input is the file.
 */
#include "index/code_rows.h"
#include "store/vecfile.h"
#include "tests/fuzz/fuzz.h"

#include <float.h>
#include <stdlib.h>

#define FILE_NO 1u
#define PATH "/vec-000000000001.vxv"
#define ROWS_READ 4096u

static void prepare(void) {
    vex_vecfile_register(vex_code_rows_plugin());
}

/* ---- seeds ---- */

typedef struct shape {
    uint32_t n, dimension, space;
    vex_code_range codes;
    float step; /* 1: integers 0..255, which narrow to u8; 0.5: to f16; 0.1: nothing */
} shape;

static void seed(const fuzz_seeds *seeds, const shape *s) {
    vex_vfs *files = fuzz_files_create();
    vex_vector_row *rows = calloc(s->n, sizeof *rows);
    float *values = calloc((size_t)s->n * s->dimension, sizeof *values);
    vex_buf bytes = {0};
    vex_file_entry entry;
    for (uint32_t i = 0; i < s->n; i++) {
        float *row = values + (size_t)i * s->dimension;
        for (uint32_t d = 0; d < s->dimension; d++) {
            row[d] = (float)((i * 7 + d * 5) % 200) * s->step;
        }
        rows[i] = (vex_vector_row){
            .seq = 3 + i + i / 5, .vector = row, .norm2 = vex_norm2(row, s->dimension)};
    }
    CHECK_OK(vex_vecfile_write(files, "/", FUZZ_DATABASE, FILE_NO, rows, s->n, s->dimension,
                               s->space, s->codes, 1, 1, false, &entry));
    fuzz_file_get(files, PATH, &bytes);
    seeds->take(seeds->context, bytes.data, bytes.len);
    vex_buf_clear(&bytes);
    free(values);
    free(rows);
    vex_vfs_memory_destroy(files);
}

static void seeds(const fuzz_seeds *seeds) {
    static const shape shapes[] = {
        {1, 1, VEX_SPACE_L2, {0, 0}, 1},         {7, 3, VEX_SPACE_L1, {0, 0}, 1},
        {30, 5, VEX_SPACE_L2, {1, 1}, 1},        {30, 5, VEX_SPACE_COSINE, {1, 1}, 0.5f},
        {50, 9, VEX_SPACE_IP, {1, 1}, 0.1f},     {20, 6, VEX_SPACE_L2, {2, 2}, 0.5f},
        {20, 17, VEX_SPACE_COSINE, {3, 3}, 0.1f}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        seed(seeds, &shapes[i]);
    }
}

/* ---- a run ---- */

static uint32_t rows_to_read(const vex_vecfile *file) {
    return file->rows < ROWS_READ ? file->rows : ROWS_READ;
}

static void read_vectors(vex_vecfile *file, float *row) {
    for (uint32_t i = 0; i < rows_to_read(file); i++) {
        vex_status status = vex_vecfile_check_rows(file, i, 1);
        if (status != VEX_OK) {
            fuzz_check_error(status, PATH);
            return;
        }
        vex_vecfile_decode(file, i, row);
        CHECK_EQ(vex_vecfile_find(file, file->seqs[i]), i);
    }
    CHECK(vex_vecfile_find(file, 0) == UINT32_MAX || file->seqs[0] == 0);
}

/* Search the code rows, as exact search does; the rows that it offers are there. */
static void search_codes(vex_vecfile *file, uint32_t space, const float *query) {
    vex_near near;
    if (file->code_form.tag != VEX_CODE_LVQ8 || !vex_near_possible(space, query, file->dimension)) {
        return;
    }
    vex_near_init(&near, space, query, file->dimension, 3);
    CHECK_OK(vex_near_scan(&near, vex_kernels_get(), file->codes, file->code_form.stride, 0, 0,
                           rows_to_read(file), NULL));
    vex_near_sort(&near);
    for (size_t i = 0; i < near.n; i++) {
        CHECK(near.rows[i].row < file->rows);
    }
    vex_near_clear(&near);
}

/* Distances of code rows, whatever is in them, are finite; a graph counts on that. */
static void measure_codes(vex_vecfile *file, float *row) {
    vex_codes codes;
    vex_code_query query;
    CHECK_OK(
        vex_codes_init(&codes, (vex_code_kind)file->code_form.tag, VEX_SPACE_L2, file->dimension));
    CHECK_EQ(codes.stride, file->code_form.stride);
    CHECK_OK(vex_code_query_create(&query, &codes));
    for (uint32_t i = 0; i < rows_to_read(file); i++) {
        const uint8_t *at = file->codes + (size_t)i * codes.stride;
        const uint8_t *first = file->codes;
        float distance = 0;
        vex_codes_decode(&codes, at, row);
        vex_code_query_row(&query, at, 0);
        vex_code_distances(&query, &first, 1, &distance);
        CHECK(distance >= -FLT_MAX && distance <= FLT_MAX);
    }
    vex_code_query_destroy(&query);
}

static void use(vex_vecfile *file) {
    float *row = calloc(file->dimension, sizeof *row);
    read_vectors(file, row);
    if (file->codes != NULL && vex_vecfile_check_codes(file, 0, rows_to_read(file)) == VEX_OK) {
        for (uint32_t space = VEX_SPACE_L2; space <= VEX_SPACE_COSINE; space++) {
            for (uint32_t d = 0; d < file->dimension; d++) {
                row[d] = (float)(d % 9);
            }
            search_codes(file, space, row);
        }
        measure_codes(file, row);
    }
    vex_status status = vex_vecfile_verify(file);
    if (status != VEX_OK) {
        fuzz_check_error(status, PATH);
    }
    free(row);
}

static void run(const uint8_t *data, size_t len) {
    vex_vfs *files = fuzz_files_create();
    vex_file_entry entry = fuzz_entry_of(VEX_KIND_VECTORS, FILE_NO, data, len);
    vex_vecfile *file = NULL;
    fuzz_file_put(files, PATH, data, len);
    fuzz_rows_of(files, &entry);
    vex_status status = vex_vecfile_open(files, "/", FUZZ_DATABASE, &entry, &file);
    if (status == VEX_OK) {
        fuzz_accept();
        use(file);
        vex_vecfile_release(file);
    } else {
        fuzz_check_error(status, PATH);
    }
    vex_vfs_memory_destroy(files);
}

const fuzz_target fuzz_vectors = {.name = "vectors",
                                  .prepare = prepare,
                                  .seeds = seeds,
                                  .run = run,
                                  .change = fuzz_change_container,
                                  .fix = fuzz_fix_container,
                                  .rounds = 8000};
