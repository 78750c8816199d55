/*
 * scan.h - exact search over a whole snapshot: every live row, or every selected one.  Files with
 * code rows are searched by them first (index/code_rows.h, near_batch.h); the results are the same.
 */
#ifndef VEX_DB_SCAN_H
#define VEX_DB_SCAN_H

#include "filter/match.h"
#include "index/near_batch.h"
#include "store/snapshot.h"

typedef struct vex_scan {
    const vex_snapshot *snapshot;
    const vex_kernels *kernels;
    const float *queries;              /* n * dimension, dense                                    */
    uint32_t n, dimension;
    const float *norm2;                /* |q|^2 per query                                         */
    const vex_vector_matches *matches; /* NULL: every live row                                    */
    vex_topk *top;                     /* one per query; hit.source is a vector file's number, or
                                          n_vecs + a memtable's                                   */
    const bool *skip;                  /* by number of the vector file: leave it out; NULL: none  */
    vex_near *room;                    /* zeroed ones, n or VEX_NEAR_BATCH, cleared by the caller; NULL:
                                          they are made anew for every call                       */
    vex_near *near;                    /* used inside: one per query, ...                         */
    vex_near_batch *batch;             /* ... and what they share when they are many              */
} vex_scan;

/* Offer every row to every query.  Errors: CORRUPT, NO_MEMORY. */
vex_status vex_scan_run(const vex_scan *scan);

#endif
