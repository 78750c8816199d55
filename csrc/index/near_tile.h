/*
 * near_tile.h - the kernels of each SIMD level for near_batch.c alone.
 */
#ifndef VEX_INDEX_NEAR_TILE_H
#define VEX_INDEX_NEAR_TILE_H

#include "index/near_batch.h"

#include <math.h>

#define NEAR_RELATIVE 2.5e-5 /* more than twice what dist.h promises of computed distances, */
#define NEAR_ABSOLUTE 3e-6   /* and of their scale */

/* The lower end less the base, of row r of a block and a lane. */
static inline __attribute__((always_inline)) float
near_lower(const vex_near_block *b, uint32_t r, const vex_near_panel *p, uint32_t lane,
           int32_t dot) {
    const float v = ((float)dot * p->step[lane] + p->row_error[lane]) * b->s[r] + b->norm2[r] +
                    b->low[r] * p->low[lane] + b->sum[r] * p->middle[lane];
    return v + (b->most[r] * p->rounding[lane] + b->length[r] * p->own_error[lane]);
}

/* How far the distance may be from near_lower() plus this, without what is allowed for computing. */
static inline __attribute__((always_inline)) float
near_error(const vex_near_block *b, uint32_t r, const vex_near_panel *p, uint32_t lane) {
    return -(b->s[r] * p->row_error[lane] + b->length[r] * p->own_error[lane] +
             b->most[r] * p->rounding[lane]);
}

/* All that the computed distance may be away from `middle`. */
static inline __attribute__((always_inline)) float
near_reach(const vex_near_block *b, uint32_t r, const vex_near_panel *p, uint32_t lane,
           float middle, float error) {
    return error * 1.0001f + (float)NEAR_RELATIVE * (fabsf(middle) + error) + p->slack[lane] +
           b->norm2[r] * (float)NEAR_ABSOLUTE;
}

/* The levels compile this with their instructions: all lanes do the same. */
static inline __attribute__((always_inline)) void
near_seed(const vex_near_block *b, const vex_near_panel *p, const int32_t *dots, uint32_t lanes,
          uint32_t k, float *kept) {
    for (uint32_t r = 0; r < b->n; r++) {
        float upper[VEX_NEAR_LANES];
        for (uint32_t lane = 0; lane < VEX_NEAR_LANES; lane++) {
            const float error = near_error(b, r, p, lane);
            const float middle = near_lower(b, r, p, lane, dots[r * lanes + lane]) + error +
                                 p->base[lane];
            const float to = middle + near_reach(b, r, p, lane, middle, error);
            upper[lane] = to < INFINITY ? to : INFINITY; /* NaN too */
        }
        for (uint32_t i = 0; i < k; i++) {
            float *at = kept + (size_t)i * VEX_NEAR_LANES;
            for (uint32_t lane = 0; lane < VEX_NEAR_LANES; lane++) {
                const float x = upper[lane], y = at[lane];
                at[lane] = x < y ? x : y;
                upper[lane] = x < y ? y : x;
            }
        }
    }
}

void vex_near_dots_scalar(const uint8_t *rows, size_t stride, uint32_t n, const int8_t *packed,
                          uint32_t quads, uint32_t panels, int32_t *dots);
void vex_near_test_scalar(const vex_near_block *block, const vex_near_panel *panel,
                          const int32_t *dots, uint32_t lanes, uint16_t *passed);
void vex_near_seed_scalar(const vex_near_block *block, const vex_near_panel *panel,
                          const int32_t *dots, uint32_t lanes, uint32_t k, float *kept);
#if defined(__x86_64__)
void vex_near_seed_avx2(const vex_near_block *block, const vex_near_panel *panel,
                          const int32_t *dots, uint32_t lanes, uint32_t k, float *kept);
void vex_near_seed_vnni(const vex_near_block *block, const vex_near_panel *panel,
                          const int32_t *dots, uint32_t lanes, uint32_t k, float *kept);
void vex_near_dots_avx2(const uint8_t *rows, size_t stride, uint32_t n, const int8_t *packed,
                        uint32_t quads, uint32_t panels, int32_t *dots);
void vex_near_test_avx2(const vex_near_block *block, const vex_near_panel *panel,
                        const int32_t *dots, uint32_t lanes, uint16_t *passed);
void vex_near_dots_vnni(const uint8_t *rows, size_t stride, uint32_t n, const int8_t *packed,
                        uint32_t quads, uint32_t panels, int32_t *dots);
void vex_near_test_vnni(const vex_near_block *block, const vex_near_panel *panel,
                        const int32_t *dots, uint32_t lanes, uint16_t *passed);
void vex_near_encode_vnni(const float *x, uint32_t dim, float norm2, uint32_t stride, uint8_t *row);
#elif defined(__aarch64__)
void vex_near_dots_dotprod(const uint8_t *rows, size_t stride, uint32_t n, const int8_t *packed,
                           uint32_t quads, uint32_t panels, int32_t *dots);
#endif

#endif
