/*
 * lvq.h - code rows: the short form of the vectors that a graph is built and walked on.
 *
 * Row of `stride` = align64(dim * element bytes + 16) bytes:
 *   off 0          the elements          LVQ8 u8, F16 binary16, F32 float32
 *   ...            zeros
 *   off stride-16  f32 s, f32 lo, f32 norm2 (|x|^2 of the vector itself), u32 sum of the codes
 * LVQ8: x ~ lo + s * code, with lo = min x and s = (max x - min x) / 255 of that vector alone, so
 * a row never depends on other rows.  A vector of integers 0..255 has lo = 0, s = 1 and loses
 * nothing: its distances are exact while they and the norms stay below 2^24.
 * F16 and F32: s = 1, lo = 0, sum = 0.  F16 is for values within +-65504.
 *
 * A query is quantised like a row.  Distances of LVQ8 are made of one integer sum per pair, the
 * same on every SIMD level, and of float64 arithmetic in one order: bit-identical everywhere.
 * Those of F16 and F32 come from the kernels of dist.h.  They are always finite: what overflows
 * or is NaN counts as FLT_MAX.
 *
 * Rows are 64-byte multiples, but need no alignment.  L1 has no code rows: it is searched exactly.
 */
#ifndef VEX_INDEX_LVQ_H
#define VEX_INDEX_LVQ_H

#include "index/dist.h"

#include <stdbool.h>

typedef enum vex_code_kind { VEX_CODE_LVQ8 = 1, VEX_CODE_F16 = 2, VEX_CODE_F32 = 3 } vex_code_kind;

#define VEX_CODE_TAIL_BYTES 16u

typedef struct vex_code_tail {
    float s, lo, norm2;
    uint32_t sum;
} vex_code_tail;

/* What the rows of one collection are.  All members are constant, so it may be shared freely. */
typedef struct vex_codes {
    vex_code_kind kind;
    uint32_t space, dim; /* VEX_SPACE_L2, _IP or _COSINE; 1..VEX_DIMENSION_MAX                */
    uint32_t stride;     /* bytes of a row                                                    */
    uint32_t short_stride; /* of a short row; 0: there are none                               */
} vex_codes;

/* VEX_ERR_INVALID for l1, an unknown space or kind, or a dimension out of range. */
vex_status vex_codes_init(vex_codes *codes, vex_code_kind kind, uint32_t space, uint32_t dim);
const char *vex_code_kind_name(vex_code_kind kind); /* "lvq8", "f16", "f32"                       */

/* Write the row of x (finite), whose |x|^2 is norm2.  Every byte of the row is written. */
void vex_codes_encode(const vex_codes *codes, const float *x, float norm2, void *row);
/* x as the row has it. */
void vex_codes_decode(const vex_codes *codes, const void *row, float *x);
vex_code_tail vex_codes_tail(const vex_codes *codes, const void *row);

/* ---- distances ---- */

/* One side of many distances. */
typedef struct vex_code_query {
    const vex_codes *codes;
    int8_t *bytes;       /* LVQ8: codes - 128, zeros behind them as far as kernels read       */
    float *own;          /* F16, F32: room for dim floats                                     */
    const float *vector; /* F16, F32: the floats in use                                       */
    double a, b, c;      /* LVQ8: dot = lo a + s (b sum + c * integer sum)                    */
    float norm2;
    double inverse_norm; /* 1/|q|, 0 when |q| is 0                                            */
    float phi2;          /* > 0: distances in the form below, else 0                          */
    double phi_rest;     /* sqrt(1 - norm2/phi2)                                              */
} vex_code_query;

vex_status vex_code_query_create(vex_code_query *query, const vex_codes *codes);
void vex_code_query_destroy(vex_code_query *query); /* zeroed is fine */
/* The query for a search: distances as in vexfs.h.  `vector` must outlive its use; it may hold
 * anything, NaN too (all distances are then FLT_MAX or meaningless, but finite). */
void vex_code_query_vector(vex_code_query *query, const float *vector);
/* A row as the query, for building.  phi > 0 (ip only): distances between rows take the form
 * 2 - 2 (x.y/phi^2 + sqrt(1-|x|^2/phi^2) sqrt(1-|y|^2/phi^2)), half the squared distance on a
 * sphere of radius phi, under which ip search is search of the nearest. */
void vex_code_query_row(vex_code_query *query, const void *row, float phi);
/* out[i]: distance to rows[i]. */
void vex_code_distances(const vex_code_query *query, const uint8_t *const *rows, uint32_t n,
                        float *out);

/* ---- short rows ---- */

/* An LVQ8 row cut to 4 bits an element, for what only has to tell which rows are near: two thirds
 * of the bytes or less.  The codes' range in the row is divided into 16 equal parts.
 *   off 64 b + i       code of element 128 b + i, and of 128 b + 64 + i in the upper half
 *   ...                anything: what is behind the elements meets zeros of the query
 *   off stride-16      f32 s, lo, s * sum of the codes, and what adds to distances: |x|^2 with l2, else
 *                      0; a code stands for the middle of its part.  With cosine all are of x/|x| */
void vex_codes_shorten(const vex_codes *codes, const void *row, void *out);
/* vex_code_distances of short rows, in float32: good enough for their codes.  Not with phi. */
void vex_short_distances(const vex_code_query *query, const uint8_t *const *rows, uint32_t n,
                         float *out);

#define VEX_SHORT_LEAST 2000u
/* Do walks over these code rows find by short rows what they find by the rows themselves?  True when in
 * a sample distances by short rows are off by less than a tenth of what lies between the 10th and the
 * 50th nearest row: takes about 5 ms.  False for fewer than VEX_SHORT_LEAST rows, which tell too little. */
vex_status vex_short_serves(const vex_codes *codes, const void *rows, uint32_t n, bool *serves);

/* Is ip over rows of these norms so far from a metric that rows are to be linked by the phi form?
 * True when the norms differ by more than 5 %. */
bool vex_codes_uneven(float norm2_min, float norm2_max);

/* ---- the integer kernels ---- */

/* out[i] = sum of rows[i][k] * query[k] over k < bytes, a multiple of 64 up to 65536 + 64. */
typedef void (*vex_lvq_kernel)(const int8_t *query, const uint8_t *const *rows, uint32_t n,
                               size_t bytes, int32_t *out);
/* The same of short rows, whose byte k has codes for query[128 b + i] and query[128 b + 64 + i], where
 * k = 64 b + i; the query has 2 * bytes. */
typedef vex_lvq_kernel vex_short_kernel;
/* What the distances of some rows are made of: the tails, and the sums of a kernel. */
#define VEX_LVQ_GROUP 64u
typedef struct vex_lvq_group {
    float s[VEX_LVQ_GROUP], lo[VEX_LVQ_GROUP], norm2[VEX_LVQ_GROUP];
    int32_t codes[VEX_LVQ_GROUP], sums[VEX_LVQ_GROUP];
} vex_lvq_group;
typedef void (*vex_lvq_finisher)(const vex_code_query *query, const vex_lvq_group *group,
                                 uint32_t n, float *out);
/* The same of short rows, whose sums are in an array of VEX_LVQ_GROUP. */
typedef void (*vex_short_finisher)(const vex_code_query *query, const uint8_t *const *rows,
                                   uint32_t n, const int32_t *restrict sums, float *restrict out);
typedef struct vex_lvq_level {
    const char *name; /* "scalar", "avx2", "vnni", "neon", "dotprod"                       */
    vex_lvq_kernel sums;
    vex_short_kernel short_sums;
    vex_lvq_finisher finish; /* distances of n <= VEX_LVQ_GROUP rows                              */
    vex_short_finisher short_finish;
} vex_lvq_level;

/* Best first; returns how many (<= 4).  VEXFS_SIMD limits which one is in use, not this list. */
uint32_t vex_lvq_levels(vex_lvq_level out[4]);
const char *vex_lvq_level_name(void); /* the one in use */

/* ---- choosing the kind ---- */

/* What was measured on a sample: for the true k nearest of 99 % of the queries to be in the pool
 * of the nearest by code, the pool must hold `need_p99` rows. */
typedef struct vex_codes_health {
    uint32_t k, queries, rows;
    uint32_t need_p99, need_max;
    double error_max; /* largest |approximate - exact| distance                            */
} vex_codes_health;

typedef struct vex_codes_choice {
    vex_code_kind kind;
    vex_codes_health lvq8, f16; /* queries == 0: was not needed                                   */
} vex_codes_choice;

/* Row i (< n) of the vectors, widened, to x[dim]. */
typedef void (*vex_vector_source)(void *context, uint32_t i, float *x);

#define VEX_CODES_SAMPLE_QUERIES 256u
#define VEX_CODES_SAMPLE_ROWS 10000u

#define VEX_CODES_F16_MAX 65504.0f /* the largest value that F16 can tell */

/* The kind for these n vectors, from a sample that depends on n and seed only: LVQ8 when
 * need_p99 <= 3k for k = 10, else F16 when that holds for it and no value of the sample is near the
 * end of its range, else F32; kinds below `least` are not considered.  Half of the queries will do
 * when none of them needs more than 15.  Takes about 30 ms for 384 dimensions.  VEX_ERR_INVALID for l1. */
vex_status vex_codes_choose(uint32_t space, uint32_t dim, vex_code_kind least, uint32_t n,
                            vex_vector_source source, void *context, uint64_t seed,
                            vex_codes_choice *out);

#endif
