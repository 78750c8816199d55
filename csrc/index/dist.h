/*
 * dist.h - distance kernels and their run-time choice.
 *
 * Rows are stored as float32, float16 (IEEE binary16) or uint8; queries are float32.  A kernel
 * widens each element to float32 exactly and accumulates in one canonical order that depends
 * only on the SIMD level: never on the element type, the number of rows or queries in the call,
 * or alignment.  So equal vectors get bit-equal distances wherever they are stored (ties!), and
 * the blocked kernels agree bit for bit with the single ones.
 *
 * Accuracy, against float64: |d - d64| <= 1e-5 d64 + 1e-6 s, where s = |x|^2+|q|^2 (l2),
 * |x||q| (ip), 1 (cosine), |x|_1+|q|_1 (l1).  A distance above FLT_MAX is infinity; where terms
 * of an inner product overflow on the way it may be NaN.
 */
#ifndef VEX_INDEX_DIST_H
#define VEX_INDEX_DIST_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

typedef enum vex_element {
    VEX_F32 = VEX_ELEMENT_F32, VEX_F16 = VEX_ELEMENT_F16, VEX_U8 = VEX_ELEMENT_U8
} vex_element;
#define VEX_ELEMENT_KINDS 3

/* Bytes of one element. */
size_t vex_element_bytes(vex_element element);

/* The three sums that the distances are made of: out[i] for rows i = 0..n-1 at
 * rows + i*stride (bytes; nothing needs to be aligned), against one query of dim floats. */
typedef void (*vex_row_kernel)(const void *rows, size_t stride, uint32_t n, const float *query,
                               uint32_t dim, float *out);
/* The same for m queries (query j at queries + j*query_stride floats);
 * out[j*out_stride + i]. */
typedef void (*vex_tile_kernel)(const void *rows, size_t stride, uint32_t n, const float *queries,
                                size_t query_stride, uint32_t m, uint32_t dim, float *out,
                                size_t out_stride);

typedef struct vex_kernels {
    const char *name;                          /* "scalar", "avx2", "avx512", "neon"             */
    vex_row_kernel dot[VEX_ELEMENT_KINDS];     /* sum x*q                                        */
    vex_row_kernel l2[VEX_ELEMENT_KINDS];      /* sum (x-q)^2                                    */
    vex_row_kernel l1[VEX_ELEMENT_KINDS];      /* sum |x-q|                                      */
    vex_tile_kernel dot_tile[VEX_ELEMENT_KINDS];
    vex_tile_kernel l2_tile[VEX_ELEMENT_KINDS];
} vex_kernels;

extern const vex_kernels vex_kernels_scalar;
#if defined(__x86_64__)
extern const vex_kernels vex_kernels_avx2, vex_kernels_avx512;
#elif defined(__aarch64__)
extern const vex_kernels vex_kernels_neon;
#endif

/* The kernels in use: best supported level, or the one that VEXFS_SIMD names.  An unknown or
 * unsupported value: scalar, and vex_simd_level() reports VEX_ERR_INVALID. */
const vex_kernels *vex_kernels_get(void);

/* All levels this machine can run; returns how many (<= 4).  For tests. */
uint32_t vex_kernels_available(const vex_kernels *out[4]);

/* |x|^2 accumulated in double in index order, rounded once to float: the same on every level. */
float vex_norm2(const float *x, uint32_t dim);

/* dot -> distance.  cosine: 1 - dot / (sqrt(norm2_x) sqrt(norm2_q)), 1 when a norm is 0;
 * clamped to [0, 2] as rounding may step outside. */
float vex_dot_to_distance(uint32_t space, float dot, float norm2_x, float norm2_q);

#endif
