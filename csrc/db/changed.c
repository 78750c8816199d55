/*
 * changed.c - see changed.h.  A table with linear probing, at most half full.
 */
#include "db/changed.h"

#include <string.h>

#include "base/poison.h"

#define SLOTS_MIN ((size_t)64)

void vex_changed_clear(vex_changed *changed) {
    vex_free(changed->records);
    vex_free(changed->slots);
    *changed = (vex_changed){0};
}

static uint32_t *slot_of(const vex_changed *changed, const void *id, size_t len, uint64_t hash) {
    for (size_t at = hash & (changed->n_slots - 1);; at = (at + 1) & (changed->n_slots - 1)) {
        uint32_t *slot = &changed->slots[at];
        const vex_changed_record *there = *slot == 0 ? NULL : &changed->records[*slot - 1];
        if (there == NULL || (there->hash == hash && there->id_len == len &&
                              (len == 0 || memcmp(there->id, id, len) == 0))) {
            return slot;
        }
    }
}

vex_changed_record *vex_changed_find(const vex_changed *changed, const void *id, size_t len,
                                     uint64_t hash) {
    const uint32_t *slot = changed->n_slots == 0 ? NULL : slot_of(changed, id, len, hash);
    return slot == NULL || *slot == 0 ? NULL : &changed->records[*slot - 1];
}

static vex_status grow_slots(vex_changed *changed) {
    const size_t n = changed->n_slots == 0 ? SLOTS_MIN : 2 * changed->n_slots;
    uint32_t *slots = vex_calloc(n, sizeof *slots);
    if (slots == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for the ids of a transaction");
    }
    vex_free(changed->slots);
    changed->slots = slots;
    changed->n_slots = n;
    for (size_t i = 0; i < changed->n; i++) {
        const vex_changed_record *record = &changed->records[i];
        *slot_of(changed, record->id, record->id_len, record->hash) = (uint32_t)i + 1;
    }
    return VEX_OK;
}

vex_status vex_changed_add(vex_changed *changed, const void *id, size_t len, uint64_t hash,
                           uint64_t seq, vex_changed_record **out) {
    if (changed->n >= UINT32_MAX / 2) {
        return VEX_FAIL(VEX_ERR_TOO_BIG, "too many records for one transaction");
    }
    if (2 * (changed->n + 1) > changed->n_slots) {
        VEX_TRY(grow_slots(changed));
    }
    void *records = changed->records;
    VEX_TRY(vex_grow(&records, &changed->capacity, changed->n + 1, sizeof *changed->records));
    changed->records = records;
    *slot_of(changed, id, len, hash) = (uint32_t)changed->n + 1;
    *out = &changed->records[changed->n++];
    **out = (vex_changed_record){.hash = hash,
                                 .seq = seq,
                                 .id = id,
                                 .id_len = (uint32_t)len,
                                 .put = VEX_NO_OP,
                                 .vector = VEX_NO_OP,
                                 .payload = VEX_NO_OP};
    return VEX_OK;
}
