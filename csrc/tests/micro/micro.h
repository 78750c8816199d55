/*
 * micro.h - the micro-benchmarks: what each design choice of the engine is worth by itself, with it and
 * without.  `make micro` builds and runs them; tools/micro.py shows the figures.
 *
 * A figure is the median of REPEATS runs; each prints one line: suite, name, value, unit, by tabs.
 * Data are random with fixed seeds.
 */
#ifndef VEX_TESTS_MICRO_H
#define VEX_TESTS_MICRO_H

#include "base/mem.h"

#include <stdint.h>

#define MICRO_REPEATS 7

/* Seconds that one call of `work` takes: the median. */
typedef void (*micro_work)(void *context);
double micro_time(micro_work work, void *context);
/* The same with `begin` before each, outside of the time. */
double micro_time_after(micro_work begin, micro_work work, void *context);

void micro_report(const char *suite, const char *name, double value, const char *unit);
/* End the program: a benchmark that fails has no figures. */
void micro_need(vex_status status, const char *what);
void *micro_room(size_t bytes); /* zeroed, never NULL */

/* xorshift64*, uniform. */
uint64_t micro_random(uint64_t *state);
/* Clustered rows: n * dim floats around 64 centres. */
void micro_rows(float *rows, uint32_t n, uint32_t dim, uint64_t seed);

/* Keep a result from being optimised away. */
static inline void micro_use(const void *p) {
    __asm__ volatile("" : : "r"(p) : "memory");
}

void micro_kernels(void);   /* SIMD levels against scalar */
void micro_layout(void);    /* code rows apart from links, or beside them */
void micro_memory(void);    /* bulk buffers, allocation by rows, pools of buffers */
void micro_snapshots(void); /* how readers get at the state that is read */
void micro_blocks(void);    /* zstd levels, and none */
void micro_engine(void);    /* the whole engine in memory: threads; builds with LTO and PGO */

#endif
