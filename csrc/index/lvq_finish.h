/*
 * lvq_finish.h - from dot products to distances, for the files that compile it for a SIMD level.
 *
 * Each distance takes the same float64 operations in the same order everywhere; the loops have no
 * branches, so that compilers make vectors of them.
 */
#ifndef VEX_INDEX_LVQ_FINISH_H
#define VEX_INDEX_LVQ_FINISH_H

#include "index/lvq.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define LVQ_INLINE static inline __attribute__((always_inline))

LVQ_INLINE float lvq_bounded(double d) {
    d = d < (double)FLT_MAX ? d : (double)FLT_MAX; /* NaN too */
    return (float)(d > -(double)FLT_MAX ? d : -(double)FLT_MAX);
}

/* 2 - 2 (x.q/phi^2 + ...), see vex_code_query_row. */
LVQ_INLINE float lvq_phi_distance(const vex_code_query *query, double dot, float norm2) {
    const double rest = 1 - (double)norm2 / (double)query->phi2;
    const double root = sqrt(rest > 0 ? rest : 0);
    return lvq_bounded(2 - 2 * (dot / (double)query->phi2 + root * query->phi_rest));
}

/* x.q -> distance, for a row whose |x|^2 is norm2. */
LVQ_INLINE float lvq_cosine(const vex_code_query *query, double dot, float norm2) {
    const double norm = (double)sqrtf(norm2 > 0 ? norm2 : 1);
    const double cosine =
        norm2 == 0.0f || query->norm2 == 0.0f ? 0 : dot * query->inverse_norm / norm;
    return lvq_bounded(1 - cosine);
}

LVQ_INLINE float lvq_l2(const vex_code_query *query, double dot, float norm2) {
    return lvq_bounded((double)norm2 + (double)query->norm2 - 2 * dot);
}

LVQ_INLINE float lvq_distance(const vex_code_query *query, double dot, float norm2) {
    const uint32_t space = query->codes->space;
    return space == VEX_SPACE_L2       ? lvq_l2(query, dot, norm2)
           : space == VEX_SPACE_COSINE ? lvq_cosine(query, dot, norm2)
           : query->phi2 > 0           ? lvq_phi_distance(query, dot, norm2)
                                       : lvq_bounded(1 - dot);
}

#define LVQ_LANES 8u

/* Whole lanes, so that no distance is left for a loop without vectors: what is behind the n rows of the
 * group is computed, too, and left out. */
LVQ_INLINE void lvq_finish(const vex_code_query *query, const vex_lvq_group *restrict group,
                           uint32_t n, float *restrict out) {
    const double a = query->a, b = query->b, c = query->c;
    const uint32_t space = query->codes->space;
    for (uint32_t first = 0; first < n; first += LVQ_LANES) {
        const uint32_t left = n - first < LVQ_LANES ? n - first : LVQ_LANES;
        const float *lo = group->lo + first, *s = group->s + first, *norm2 = group->norm2 + first;
        const int32_t *codes = group->codes + first, *sums = group->sums + first;
        double dots[LVQ_LANES];
        float lanes[LVQ_LANES];
        for (uint32_t i = 0; i < LVQ_LANES; i++) {
            dots[i] =
                (double)lo[i] * a + (double)s[i] * (b * (double)codes[i] + c * (double)sums[i]);
        }
        if (space == VEX_SPACE_L2) {
            for (uint32_t i = 0; i < LVQ_LANES; i++) {
                lanes[i] = lvq_l2(query, dots[i], norm2[i]);
            }
        } else if (space == VEX_SPACE_COSINE) {
            for (uint32_t i = 0; i < LVQ_LANES; i++) {
                lanes[i] = lvq_cosine(query, dots[i], norm2[i]);
            }
        } else if (query->phi2 > 0) {
            for (uint32_t i = 0; i < LVQ_LANES; i++) {
                lanes[i] = lvq_phi_distance(query, dots[i], norm2[i]);
            }
        } else {
            for (uint32_t i = 0; i < LVQ_LANES; i++) {
                lanes[i] = lvq_bounded(1 - dots[i]);
            }
        }
        memcpy(out + first, lanes, left * sizeof *out);
    }
}

#endif
