/*
 * slabs.c - see slabs.h.
 */
#include "store/slabs.h"

#include "base/poison.h"

#define SLAB_BYTES_MIN ((size_t)16 << 10)
/* Pieces above this have their own block, so that at most a quarter of a slab is left unused. */
#define PIECE_BYTES_MAX (VEX_SLAB_BYTES / 4)

static vex_status add_slab(vex_slabs *slabs, size_t bytes, size_t *held) {
    size_t size = slabs->slab_bytes ? slabs->slab_bytes * 2 : SLAB_BYTES_MIN;
    while (size < bytes * 4) {
        size *= 2;
    }
    size = size < VEX_SLAB_BYTES ? size : VEX_SLAB_BYTES;
    vex_bulk slab = {0};
    VEX_TRY(vex_bulk_create(&slab, size));
    slabs->blocks[slabs->n_blocks++] = slab;
    slabs->slab_bytes = size;
    slabs->next = slab.data;
    slabs->left = size;
    *held += size;
    return VEX_OK;
}

vex_status vex_slabs_reserve(vex_slabs *slabs, size_t bytes, uint8_t **out, size_t *held) {
    vex_bulk_destroy(&slabs->own);
    slabs->own = (vex_bulk){0};
    slabs->reserved = 0;
    void *blocks = slabs->blocks;
    VEX_TRY(vex_grow(&blocks, &slabs->capacity, slabs->n_blocks + 1, sizeof *slabs->blocks));
    slabs->blocks = blocks;
    if (bytes > PIECE_BYTES_MAX) {
        VEX_TRY(vex_bulk_create(&slabs->own, bytes));
        *out = slabs->own.data;
        return VEX_OK;
    }
    if (slabs->next == NULL || bytes > slabs->left) {
        VEX_TRY(add_slab(slabs, bytes, held));
    }
    slabs->reserved = bytes;
    *out = slabs->next;
    return VEX_OK;
}

size_t vex_slabs_keep(vex_slabs *slabs) {
    size_t kept = slabs->own.bytes;
    if (slabs->own.data != NULL) {
        slabs->blocks[slabs->n_blocks++] = slabs->own; /* room was made when it was reserved */
        slabs->own = (vex_bulk){0};
    } else {
        slabs->next += slabs->reserved;
        slabs->left -= slabs->reserved;
    }
    slabs->reserved = 0;
    return kept;
}

void vex_slabs_destroy(vex_slabs *slabs) {
    vex_bulk_destroy(&slabs->own);
    for (size_t i = 0; i < slabs->n_blocks; i++) {
        vex_bulk_destroy(&slabs->blocks[i]);
    }
    vex_free(slabs->blocks);
    *slabs = (vex_slabs){0};
}
