/*
 * sparse_scan.h - sparse vectors found by reading the metadata of every row: of rows that no index
 * has, and as the reference for those that one has.
 */
#ifndef VEX_RANK_SPARSE_SCAN_H
#define VEX_RANK_SPARSE_SCAN_H

#include "rank/retrieve.h"

/* Rows of one payload source, as in vex_row_ref. */
typedef struct vex_scan_rows {
    bool in_memory;
    uint32_t number, first;     /* rows from `first` on                                           */
    const uint64_t *wanted;     /* bitmap of all rows; NULL: those that live                      */
} vex_scan_rows;

/* Offer the rows that share an index with the query, whose values count as they are. */
vex_status vex_sparse_scan(const vex_snapshot *snapshot, const vex_scan_rows *rows,
                           const vex_sparse_query *query, uint32_t limit, vex_scored_list *out);
/* Add to having[i] the rows that have entry i of the query. */
vex_status vex_sparse_scan_count(const vex_snapshot *snapshot, const vex_scan_rows *rows,
                                 const vex_sparse_query *query, uint64_t *having);

/* vex_retrieve_sparse without any index. */
vex_status vex_retrieve_sparse_by_scan(const vex_snapshot *snapshot, const vex_matches *matches,
                                       const vex_sparse_query *query, uint32_t limit,
                                       vex_scored_list *out);

#endif
