/*
 * match.h - which live records of a snapshot a selection picks.
 *
 * The result is one bitmap per payload source (payload files, then memtables), over that
 * source's row numbers; dead rows are never set.  Nodes are evaluated on a whole source at a
 * time; AND narrows what later children must look at, cheap children (ids, metadata columns)
 * first and document scans last.
 */
#ifndef VEX_FILTER_MATCH_H
#define VEX_FILTER_MATCH_H

#include "filter/columns.h"
#include "store/snapshot.h"

typedef struct vex_matches {
    uint64_t **pays;        /* n_pays bitmaps; NULL entry = no row of that source matches         */
    uint64_t **mems;        /* n_mems bitmaps                                                     */
    uint32_t n_pays, n_mems;
    uint64_t count;         /* rows set                                                           */
    uint64_t ids_missing;   /* ids of the selection that name no live record                      */
} vex_matches;

/* selection->ids / ->filter as documented in vexfs.h; both NULL selects everything. */
vex_status vex_matches_find(const vex_snapshot *snapshot, const vex_selection *selection,
                            vex_matches *out);
void vex_matches_clear(vex_matches *matches);

/* The same records as bitmaps over vector sources: vecs[i] (vex_bit_words(rows) words) for
 * every vector file and mems[i] for every memtable's vector rows; NULL = none. */
typedef struct vex_vector_matches {
    uint64_t **vecs, **mems;
    uint32_t n_vecs, n_mems;
    uint64_t count;
} vex_vector_matches;

/* Follow each matching record to its live vector row.  Files written together hold the same
 * seqs, so their bitmap is copied; only rows whose vector moved are looked up. */
vex_status vex_vector_matches_find(const vex_snapshot *snapshot, const vex_matches *matches,
                                   vex_vector_matches *out);
void vex_vector_matches_clear(vex_vector_matches *matches);

#endif
