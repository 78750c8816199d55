/*
 * flat.h - exact search: the k nearest rows by scanning, for one or many queries.
 *
 * Results are ordered by (distance, seq).  A NaN distance (a query may hold NaN) sorts after
 * every number.
 */
#ifndef VEX_INDEX_FLAT_H
#define VEX_INDEX_FLAT_H

#include "index/dist.h"

#include <stdbool.h>

typedef struct vex_hit {
    float distance;
    uint32_t source;    /* caller's tag of the row run's origin (file or memtable)               */
    uint64_t seq;
    uint32_t row;       /* row number within the source                                          */
} vex_hit;

/* The k best hits so far: a max-heap, whose memory grows with the hits held, not with k. */
typedef struct vex_topk {
    vex_hit *hits;
    size_t capacity;
    uint32_t k, n;
} vex_topk;

vex_status vex_topk_init(vex_topk *top, uint32_t k);
void vex_topk_clear(vex_topk *top); /* frees; a zeroed vex_topk is fine */
/* Would a hit at `distance` get in?  (Ties need the seq: true when it might.) */
static inline bool vex_topk_wants(const vex_topk *top, float distance) {
    if (top->n < top->k) {
        return true;
    }
    if (top->k == 0) {
        return false;
    }
    const float worst = top->hits[0].distance;
    return distance <= worst || worst != worst;
}
/* Fails only when memory for a further hit cannot be had. */
vex_status vex_topk_push(vex_topk *top, vex_hit hit);
void vex_topk_sort(vex_topk *top); /* nearest first; no push after it */

/* A run of rows in memory: the unit of scanning.  Nothing needs to be aligned. */
typedef struct vex_row_run {
    const void *rows;         /* row i at rows + i*stride                                        */
    size_t stride;
    const void *norm2;        /* float |x|^2 per row, needed for cosine; stride in bytes below   */
    size_t norm2_stride;
    const void *seqs;         /* uint64_t seq per row; stride in bytes below                     */
    size_t seq_stride;
    uint32_t n;
    uint32_t first_row;       /* row number of rows[0] within the source                         */
    uint32_t source;
    vex_element element;
    const uint64_t *selected; /* bitmap over source row numbers (bit first_row+i), NULL = all    */
} vex_row_run;

/* Offer all selected rows of the run to top[j], for each of m queries (dim floats each, dense).
 * query_norm2[j] is |q|^2 (cosine only; may be NULL otherwise).  Works in cache-sized blocks,
 * rows x queries; its workspace is on the stack (below 20 KiB), only the heaps allocate. */
vex_status vex_flat_scan(const vex_kernels *kernels, uint32_t space, const vex_row_run *run,
                         const float *queries, const float *query_norm2, uint32_t m,
                         uint32_t dim, vex_topk *top);

#endif
