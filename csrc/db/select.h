/*
 * select.h - the records that a selection picks, as places in insertion order.
 */
#ifndef VEX_DB_SELECT_H
#define VEX_DB_SELECT_H

#include "store/snapshot.h"

typedef struct vex_refs {
    vex_row_ref *rows;       /* live payload rows, ascending by seq                               */
    size_t n, capacity;
} vex_refs;

void vex_refs_clear(vex_refs *refs);

/* Skip `offset` selected records, return at most `limit` (< 0: all).  selection NULL = all. */
vex_status vex_select(const vex_snapshot *snapshot, const vex_selection *selection,
                      uint64_t offset, int64_t limit, vex_refs *out);
/* How many are selected. */
vex_status vex_select_count(const vex_snapshot *snapshot, const vex_selection *selection,
                            uint64_t *out);

#endif
