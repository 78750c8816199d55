/*
 * nearest.h - the k nearest records of some queries, in a snapshot: what vex_query and ranked
 * searches share.
 */
#ifndef VEX_DB_NEAREST_H
#define VEX_DB_NEAREST_H

#include "db/db.h"
#include "db/search.h"

typedef struct vex_nearest {
    const vex_snapshot *snapshot;
    const float *queries;              /* n * dimension, dense                                    */
    uint32_t n, dimension, k;
    const vex_vector_matches *matches; /* NULL: every live row                                    */
    const vex_index_view *view;        /* NULL: no graph                                          */
    vex_query_options options;         /* ef and threads are known                                */
    bool fetch;                        /* see vex_search                                          */
    vex_query_plan plan;               /* out, but for times                                      */
    vex_topk *top;                     /* out: one per query, sorted; hit.source is a vector file's
                                          number, or n_vecs + a memtable's                        */
    float *norm2;
} vex_nearest;

/* Fill in snapshot, view and options that are not given (zero), as the collection has them; after the
 * last search that uses them or a copy of them: end. */
void vex_nearest_begin(vex_nearest *nearest, vex_collection *collection, vex_snapshot *snapshot);
void vex_nearest_end(vex_nearest *nearest);

/* Search.  VEX_ERR_DIMENSION when the queries do not fit; a collection that never had a vector fits
 * all and finds nothing. */
vex_status vex_nearest_find(vex_nearest *nearest);
void vex_nearest_clear(vex_nearest *nearest); /* whatever find returned */

/* Its vector row, and its payload row: CORRUPT when it has none. */
vex_row_ref vex_nearest_vector(const vex_nearest *nearest, const vex_hit *hit);
vex_status vex_nearest_payload(const vex_nearest *nearest, const vex_hit *hit, vex_row_ref *out);

/* VEX_ERR_DIMENSION when queries of this dimension do not fit. */
vex_status vex_nearest_check(const vex_snapshot *snapshot, uint32_t dimension);

#endif
