/*
 * code_rows.h - the section VEX_SECTION_CODES of vector files: code rows (lvq.h), and exact search
 * that reads those of LVQ-8 instead of the vectors.
 *
 * An LVQ-8 row tells each element of its vector to within half a step, so it gives an interval
 * that the exact distance lies in.  Scanning keeps the rows whose interval begins before the end
 * of the k-th nearest one; only those need their vectors.  Results are those of a scan of the
 * vectors, bit for bit, at a fraction of the bytes read.
 */
#ifndef VEX_INDEX_CODE_ROWS_H
#define VEX_INDEX_CODE_ROWS_H

#include "index/flat.h"
#include "index/lvq.h"
#include "store/vecfile.h"

/* Writes rows of the least kind that serves the file's vectors (vex_codes_choose); none for l1.
 * The tags of forms are kinds of codes: 1 LVQ8, 2 F16 (where a value is beyond it, F32), 3 F32. */
const vex_code_plugin *vex_code_rows_plugin(void);

/* A row that may be among the k nearest: its distance is at least `lower`. */
typedef struct vex_near_row {
    float lower;
    uint32_t source, row;
} vex_near_row;

/* What one query's scan found so far. */
typedef struct vex_near {
    vex_near_row *rows;
    size_t n, capacity;
    float *uppers;            /* max-heap of the k smallest upper ends                            */
    size_t uppers_capacity;
    uint32_t k, n_uppers;
    const float *query;
    uint32_t dim, space;
    double sum, norm1, norm, norm2; /* of the query: sum, |q|_1, |q|_2 and its square             */
    double root_dim;                /* square root of the dimension                               */
} vex_near;

/* Can this query be answered from code rows?  Not l1, and not with NaN or huge numbers. */
bool vex_near_possible(uint32_t space, const float *query, uint32_t dim);
void vex_near_init(vex_near *near, uint32_t space, const float *query, uint32_t dim, uint32_t k);
/* The same for one that was used, or is zeroed: its memory is used again. */
void vex_near_again(vex_near *near, uint32_t space, const float *query, uint32_t dim, uint32_t k);
void vex_near_clear(vex_near *near); /* a zeroed one is fine */

/* Offer the rows first..end-1 of a source whose code rows begin at `codes`; `selected`: bitmap over
 * its row numbers, NULL: all.  Each row of a source is offered once.  VEX_ERR_NO_MEMORY. */
vex_status vex_near_scan(vex_near *near, const vex_kernels *kernels, const uint8_t *codes,
                         uint32_t stride, uint32_t source, uint32_t first, uint32_t end,
                         const uint64_t *selected);
/* The k-th smallest upper end so far: rows that begin beyond it are not among the nearest. */
static inline float vex_near_limit(const vex_near *near) {
    return near->n_uppers == near->k ? near->uppers[0] : __builtin_inff();
}
/* Used by vex_near_offer. */
vex_status vex_near_grow(vex_near *near);
vex_status vex_near_add_upper(vex_near *near, float upper);
/* Offer one row whose distance lies in [lower, upper]. */
static inline vex_status vex_near_offer(vex_near *near, float lower, float upper, uint32_t source,
                                        uint32_t row) {
    if (VEX_LIKELY(lower > vex_near_limit(near))) {
        return VEX_OK;
    }
    if (VEX_UNLIKELY(near->n == near->capacity)) {
        VEX_TRY(vex_near_grow(near));
    }
    near->rows[near->n++] = (vex_near_row){lower, source, row};
    return upper < vex_near_limit(near) ? vex_near_add_upper(near, upper) : VEX_OK;
}
/* Order the rows by `lower` and drop those that cannot be among the k nearest. */
void vex_near_sort(vex_near *near);

#endif
