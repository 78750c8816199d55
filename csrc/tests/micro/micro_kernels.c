/*
 * micro_kernels.c - the distance kernels of every SIMD level: ns per distance of one query to 500 rows
 * that are in the second-level cache.
 */
#include "index/lvq.h"
#include "tests/micro/micro.h"

#include <stdio.h>
#include <stdlib.h>

#define ROWS 500u
#define CALLS 20u

typedef struct kernel_run {
    vex_row_kernel kernel;
    vex_lvq_kernel sums;
    const void *rows;
    const uint8_t *const *places;
    size_t stride;
    const float *query;
    const int8_t *codes;
    uint32_t dim;
    float *out;
    int32_t *whole;
} kernel_run;

static void run_kernel(void *context) {
    const kernel_run *run = context;
    for (uint32_t i = 0; i < CALLS; i++) {
        run->kernel(run->rows, run->stride, ROWS, run->query, run->dim, run->out);
        micro_use(run->out);
    }
}

static void run_sums(void *context) {
    const kernel_run *run = context;
    for (uint32_t i = 0; i < CALLS; i++) {
        run->sums(run->codes, run->places, ROWS, run->stride, run->whole);
        micro_use(run->whole);
    }
}

static void report(const char *level, const char *what, uint32_t dim, double seconds) {
    char name[64];
    snprintf(name, sizeof name, "%s %u-d %s", what, (unsigned)dim, level);
    micro_report("kernels", name, seconds / CALLS / ROWS * 1e9, "ns");
}

static void float_kernels(uint32_t dim) {
    const vex_kernels *levels[4];
    const uint32_t n = vex_kernels_available(levels);
    float *rows = micro_room((size_t)ROWS * dim * sizeof *rows);
    float *query = micro_room(dim * sizeof *query);
    kernel_run run = {.rows = rows,
                      .stride = dim * sizeof *rows,
                      .query = query,
                      .dim = dim,
                      .out = micro_room(ROWS * sizeof(float))};
    micro_rows(rows, ROWS, dim, 1);
    micro_rows(query, 1, dim, 2);
    for (uint32_t i = 0; i < n; i++) {
        run.kernel = levels[i]->l2[VEX_F32];
        report(levels[i]->name, "l2 float32", dim, micro_time(run_kernel, &run));
        run.kernel = levels[i]->dot[VEX_F32];
        report(levels[i]->name, "dot float32", dim, micro_time(run_kernel, &run));
    }
    free(run.out);
    free(query);
    free(rows);
}

static void code_kernels(uint32_t dim) {
    vex_lvq_level levels[4];
    const uint32_t n = vex_lvq_levels(levels);
    uint64_t state = 3;
    int8_t *codes = micro_room(dim);
    uint8_t *rows = micro_room((size_t)ROWS * dim);
    const uint8_t **places = micro_room(ROWS * sizeof *places);
    for (size_t i = 0; i < (size_t)ROWS * dim; i++) {
        rows[i] = (uint8_t)(micro_random(&state) >> 56);
    }
    for (uint32_t i = 0; i < dim; i++) {
        codes[i] = (int8_t)(micro_random(&state) >> 56);
    }
    for (uint32_t i = 0; i < ROWS; i++) {
        places[i] = rows + (size_t)i * dim;
    }
    kernel_run run = {.places = places,
                      .stride = dim,
                      .codes = codes,
                      .whole = micro_room(ROWS * sizeof(int32_t))};
    for (uint32_t i = 0; i < n; i++) {
        run.sums = levels[i].sums;
        report(levels[i].name, "dot of 8-bit codes", dim, micro_time(run_sums, &run));
    }
    free(run.whole);
    free(places);
    free(rows);
    free(codes);
}

void micro_kernels(void) {
    static const uint32_t dims[] = {128, 384, 768};
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
        float_kernels(dims[i]);
        code_kernels(dims[i]);
    }
}
