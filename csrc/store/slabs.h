/*
 * slabs.h - memory for the contents of a memtable: handed out batch by batch, freed all at once.
 *
 * Small pieces lie one after the other in slabs, without gaps, so that consecutive batches of
 * vectors are contiguous too; a larger piece has a block of its own.  A piece is first reserved
 * and then kept; one that was not kept (its batch failed) is taken back by the next reservation.
 */
#ifndef VEX_STORE_SLABS_H
#define VEX_STORE_SLABS_H

#include "base/mem.h"

#define VEX_SLAB_BYTES ((size_t)256 << 10) /* the first slabs are smaller                          */

typedef struct vex_slabs {
    vex_bulk *blocks;         /* slabs and kept blocks                                            */
    size_t n_blocks, capacity;
    uint8_t *next;            /* free part of the newest slab                                     */
    size_t left, slab_bytes;
    size_t reserved;          /* of the slab, not kept yet                                        */
    vex_bulk own;             /* reserved block, not kept yet                                     */
} vex_slabs; /* zeroed: empty */

/* `bytes` in a row, aligned to 4 when only multiples of 4 are asked for; own blocks to 64.
 * *held grows by what a new slab takes. */
vex_status vex_slabs_reserve(vex_slabs *slabs, size_t bytes, uint8_t **out, size_t *held);
/* Keep what was reserved last; returns the size of the block that now counts as held. */
size_t vex_slabs_keep(vex_slabs *slabs);
void vex_slabs_destroy(vex_slabs *slabs);

#endif
