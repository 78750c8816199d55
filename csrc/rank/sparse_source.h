/*
 * sparse_source.h - the sparse vectors of one payload source of a snapshot, indexed: by the section
 * of a file, or by an index made in memory of a file that has none, or of most rows of a memtable.
 */
#ifndef VEX_RANK_SPARSE_SOURCE_H
#define VEX_RANK_SPARSE_SOURCE_H

#include "rank/sparse_index.h"
#include "store/snapshot.h"

typedef struct vex_sparse_source {
    bool in_memory;
    uint32_t number, n_rows;    /* as in vex_row_ref                                              */
    uint32_t indexed;           /* rows before it are in the index, others are to be read         */
    vex_sparse_lists *lists;    /* NULL: none are                                                 */
    vex_annex *made;            /* what `lists` stands on, or NULL                                */
    uint64_t *live;             /* bitmap; NULL: all rows are alive                               */
} vex_sparse_source;

vex_status vex_sparse_source_open(const vex_snapshot *snapshot, bool in_memory, uint32_t number,
                                  vex_sparse_source *out);
void vex_sparse_source_close(vex_sparse_source *source); /* a zeroed one is fine */

#endif
