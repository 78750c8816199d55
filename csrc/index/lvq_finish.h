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

LVQ_INLINE void lvq_finish(const vex_code_query *query, const vex_lvq_group *restrict group,
                           uint32_t n, float *restrict out) {
    double dots[VEX_LVQ_GROUP];
    const double a = query->a, b = query->b, c = query->c;
    const uint32_t space = query->codes->space;
    for (uint32_t i = 0; i < n; i++) {
        dots[i] = (double)group->lo[i] * a +
                  (double)group->s[i] * (b * (double)group->codes[i] + c * (double)group->sums[i]);
    }
    if (space == VEX_SPACE_L2) {
        for (uint32_t i = 0; i < n; i++) {
            out[i] = lvq_l2(query, dots[i], group->norm2[i]);
        }
    } else if (space == VEX_SPACE_COSINE) {
        for (uint32_t i = 0; i < n; i++) {
            out[i] = lvq_cosine(query, dots[i], group->norm2[i]);
        }
    } else if (query->phi2 > 0) {
        for (uint32_t i = 0; i < n; i++) {
            out[i] = lvq_phi_distance(query, dots[i], group->norm2[i]);
        }
    } else {
        for (uint32_t i = 0; i < n; i++) {
            out[i] = lvq_bounded(1 - dots[i]);
        }
    }
}

#endif
