/*
 * near_batch.h - exact search of many queries at once by LVQ-8 code rows (code_rows.h).
 *
 * Queries are quantised, too, so that all products are of integers, and packed with 16 of them
 * side by side: one row meets 16 queries in one register, no sum is ever taken across a register,
 * and the test against the k-th nearest is done for 16 queries at once.  The interval that the
 * distance lies in is wider than that of vex_near_scan by the query's own rounding, which is known.
 */
#ifndef VEX_INDEX_NEAR_BATCH_H
#define VEX_INDEX_NEAR_BATCH_H

#include "index/code_rows.h"

#define VEX_NEAR_LANES 16u  /* queries side by side: a panel                                      */
#define VEX_NEAR_BATCH 128u /* queries at most                                                    */
#define VEX_NEAR_ROWS 32u   /* rows of a block                                                    */

/* What is known of one row of a block, or of one query; see near_batch.c. */
typedef struct vex_near_block {
    float s[VEX_NEAR_ROWS], low[VEX_NEAR_ROWS], sum[VEX_NEAR_ROWS], norm2[VEX_NEAR_ROWS],
        length[VEX_NEAR_ROWS], most[VEX_NEAR_ROWS];
    int32_t dots[2 * VEX_NEAR_LANES * VEX_NEAR_ROWS]; /* by row, of one or two panels             */
    uint32_t n;
} vex_near_block;

typedef struct vex_near_panel {
    float step[VEX_NEAR_LANES], row_error[VEX_NEAR_LANES], low[VEX_NEAR_LANES],
        middle[VEX_NEAR_LANES], own_error[VEX_NEAR_LANES], rounding[VEX_NEAR_LANES],
        limit[VEX_NEAR_LANES], base[VEX_NEAR_LANES], slack[VEX_NEAR_LANES];
} vex_near_panel;

/* dots[row * lanes + lane] of n <= VEX_NEAR_ROWS rows and 1 or 2 panels, lanes = 16 or 32.  A panel
 * is `quads` times 16 lanes of 4 bytes, elements 4 i to 4 i + 3 of the lane's query. */
typedef void (*vex_near_dots)(const uint8_t *rows, size_t stride, uint32_t n, const int8_t *packed,
                              uint32_t quads, uint32_t panels, int32_t *dots);
/* passed[row]: lanes whose interval begins before their limit, or is not a number. */
typedef void (*vex_near_test)(const vex_near_block *block, const vex_near_panel *panel,
                              const int32_t *dots, uint32_t lanes, uint16_t *passed);

/* Keep the k smallest upper ends of each lane, less the base: kept[i * 16 + lane], ascending. */
typedef void (*vex_near_seed)(const vex_near_block *block, const vex_near_panel *panel,
                              const int32_t *dots, uint32_t lanes, uint32_t k, float *kept);

/* The code row (lvq.h) of x, but its zeros; what is allowed for encoding holds for it, too. */
typedef void (*vex_near_encode)(const float *x, uint32_t dim, float norm2, uint32_t stride,
                                uint8_t *row);

typedef struct vex_near_level {
    const char *name;
    vex_near_dots dots;
    vex_near_test test;
    vex_near_seed seed;
    vex_near_encode encode; /* NULL: too slow to be done in passing                               */
} vex_near_level;

/* Best first; returns how many (<= 4), the last is plain C. */
uint32_t vex_near_levels(vex_near_level out[4]);

typedef struct vex_near_batch {
    vex_near *near; /* of each query, where the rows go                                           */
    uint32_t n, dim, space, panels, quads;
    vex_near_level level;
    vex_bulk packed;
    vex_near_panel *panel;
    vex_near_block *block;
    uint8_t *gathered; /* room for a block of rows                                                */
    bool seeded;       /* limits were set from a first look at some rows                          */
    uint32_t stride;
} vex_near_batch;

/* For n <= VEX_NEAR_BATCH queries that were begun by vex_near_init; code rows of `stride` bytes. */
vex_status vex_near_batch_init(vex_near_batch *batch, vex_near *near, uint32_t n, uint32_t stride);
void vex_near_batch_clear(vex_near_batch *batch); /* zeroed is fine */
/* As vex_near_scan, for all queries; the code row of row `base` is at `codes`. */
vex_status vex_near_batch_scan(vex_near_batch *batch, const uint8_t *codes, uint32_t base,
                               uint32_t source, uint32_t first, uint32_t end,
                               const uint64_t *selected);

#endif
