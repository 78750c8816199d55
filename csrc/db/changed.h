/*
 * changed.h - what the steps of a transaction have made of the records of one collection, by id: they
 * become one batch, and none of them is in a snapshot that could be asked.
 */
#ifndef VEX_DB_CHANGED_H
#define VEX_DB_CHANGED_H

#include "base/mem.h"

#define VEX_NO_OP SIZE_MAX

typedef struct vex_changed_record {
    uint64_t hash, seq;
    const uint8_t *id;         /* borrowed                                                        */
    uint32_t id_len;
    bool is_gone;
    size_t put, vector, payload; /* the batch's operations for it, or VEX_NO_OP                   */
} vex_changed_record;

typedef struct vex_changed {
    vex_changed_record *records;
    size_t n, capacity;
    uint32_t *slots;           /* 1 + place in `records`; 0: free                                 */
    size_t n_slots;            /* a power of two, or 0                                            */
} vex_changed; /* zeroed: empty */

void vex_changed_clear(vex_changed *changed);
/* The record of an id, or NULL. */
vex_changed_record *vex_changed_find(const vex_changed *changed, const void *id, size_t len,
                                     uint64_t hash);
/* A record that is not there yet; *out is valid until the next one is added. */
vex_status vex_changed_add(vex_changed *changed, const void *id, size_t len, uint64_t hash,
                           uint64_t seq, vex_changed_record **out);

#endif
