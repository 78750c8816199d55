/*
 * lvq_kernels.h - the integer kernels of each SIMD level (see lvq.h), for lvq.c alone.
 */
#ifndef VEX_INDEX_LVQ_KERNELS_H
#define VEX_INDEX_LVQ_KERNELS_H

#include "index/lvq.h"

void vex_lvq_sums_scalar(const int8_t *query, const uint8_t *const *rows, uint32_t n, size_t bytes,
                         int32_t *out);
void vex_short_finish(const vex_code_query *query, const uint8_t *const *rows, uint32_t n,
                      const int32_t *restrict sums, float *restrict out);
/* What all short rows have in common: distance = more + all - (lo a + (s_sum b + s (sum c))). */
typedef struct short_terms {
    float all, a, b, c;
} short_terms;
short_terms vex_short_terms(const vex_code_query *query);
void vex_short_sums_scalar(const int8_t *query, const uint8_t *const *rows, uint32_t n,
                           size_t bytes, int32_t *out);
void vex_lvq_finish(const vex_code_query *query, const vex_lvq_group *group, uint32_t n,
                    float *out);
#if defined(__x86_64__)
void vex_short_finish_x86(const vex_code_query *query, const uint8_t *const *rows, uint32_t n,
                          const int32_t *restrict sums, float *restrict out);
void vex_lvq_finish_avx2(const vex_code_query *query, const vex_lvq_group *group, uint32_t n,
                         float *out);
void vex_lvq_finish_avx512(const vex_code_query *query, const vex_lvq_group *group, uint32_t n,
                           float *out);
void vex_lvq_sums_avx2(const int8_t *query, const uint8_t *const *rows, uint32_t n, size_t bytes,
                       int32_t *out);
void vex_lvq_sums_vnni(const int8_t *query, const uint8_t *const *rows, uint32_t n, size_t bytes,
                       int32_t *out);
void vex_short_sums_avx2(const int8_t *query, const uint8_t *const *rows, uint32_t n, size_t bytes,
                         int32_t *out);
void vex_short_sums_vnni(const int8_t *query, const uint8_t *const *rows, uint32_t n, size_t bytes,
                         int32_t *out);
#elif defined(__aarch64__)
void vex_lvq_sums_neon(const int8_t *query, const uint8_t *const *rows, uint32_t n, size_t bytes,
                       int32_t *out);
void vex_lvq_sums_dotprod(const int8_t *query, const uint8_t *const *rows, uint32_t n, size_t bytes,
                          int32_t *out);
void vex_short_sums_neon(const int8_t *query, const uint8_t *const *rows, uint32_t n, size_t bytes,
                         int32_t *out);
void vex_short_sums_dotprod(const int8_t *query, const uint8_t *const *rows, uint32_t n,
                            size_t bytes, int32_t *out);
#endif

#endif
