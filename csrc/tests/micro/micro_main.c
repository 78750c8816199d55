/*
 * micro_main.c - run the micro-benchmarks named on the command line, or all (see micro.h).
 */
#include "tests/micro/micro.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct {
    const char *name;
    void (*run)(void);
} suites[] = {{"kernels", micro_kernels},     {"layout", micro_layout}, {"memory", micro_memory},
              {"snapshots", micro_snapshots}, {"blocks", micro_blocks}, {"engine", micro_engine}};

#define N_SUITES (sizeof suites / sizeof *suites)

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double micro_time_after(micro_work begin, micro_work work, void *context) {
    double took[MICRO_REPEATS];
    for (int i = 0; i < MICRO_REPEATS; i++) {
        if (begin != NULL) {
            begin(context);
        }
        const double start = now();
        work(context);
        took[i] = now() - start;
    }
    qsort(took, MICRO_REPEATS, sizeof *took, by_value);
    return took[MICRO_REPEATS / 2];
}

double micro_time(micro_work work, void *context) {
    return micro_time_after(NULL, work, context);
}

void micro_report(const char *suite, const char *name, double value, const char *unit) {
    printf("%s\t%s\t%.6g\t%s\n", suite, name, value, unit);
    fflush(stdout);
}

void micro_need(vex_status status, const char *what) {
    if (status != VEX_OK) {
        fprintf(stderr, "%s: %s\n", what, vex_last_error()->message);
        exit(1);
    }
}

void *micro_room(size_t bytes) {
    void *room = calloc(bytes, 1);
    micro_need(room != NULL ? VEX_OK : VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory"), "micro");
    return room;
}

uint64_t micro_random(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545F4914F6CDD1DULL;
}

static float uniform(uint64_t *state) {
    return (float)(micro_random(state) >> 40) / 16777216.0f - 0.5f;
}

void micro_rows(float *rows, uint32_t n, uint32_t dim, uint64_t seed) {
    enum { CENTRES = 64 };
    uint64_t state = seed * 2 + 1;
    float *centres = micro_room((size_t)CENTRES * dim * sizeof *centres);
    for (size_t i = 0; i < (size_t)CENTRES * dim; i++) {
        centres[i] = uniform(&state);
    }
    for (uint32_t i = 0; i < n; i++) {
        const float *centre = centres + micro_random(&state) % CENTRES * dim;
        for (uint32_t k = 0; k < dim; k++) {
            rows[(size_t)i * dim + k] = centre[k] + uniform(&state);
        }
    }
    free(centres);
}

int main(int argc, char **argv) {
    for (size_t i = 0; i < N_SUITES; i++) {
        int wanted = argc == 1;
        for (int k = 1; k < argc; k++) {
            wanted |= strcmp(argv[k], suites[i].name) == 0;
        }
        if (wanted) {
            suites[i].run();
        }
    }
    for (int k = 1; k < argc; k++) {
        size_t i = 0;
        while (i < N_SUITES && strcmp(argv[k], suites[i].name) != 0) {
            i++;
        }
        if (i == N_SUITES) {
            fprintf(stderr,
                    "there is no suite %s: kernels, layout, memory, snapshots, blocks, engine\n",
                    argv[k]);
            return 2;
        }
    }
    return 0;
}
