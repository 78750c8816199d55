/*
 * keys.c - the set of metadata keys (see keys.h): a small hash table.
 */
#include "db/keys.h"

#include "base/hash.h"
#include "base/msgpack.h"

#include "base/poison.h"

void vex_key_set_clear(vex_key_set *set) {
    for (size_t i = 0; i < set->n; i++) {
        vex_free(set->entries[i].name);
    }
    vex_free(set->entries);
    vex_free(set->slots);
    *set = (vex_key_set){0};
}

static vex_status grow_slots(vex_key_set *set) {
    size_t n_slots = set->n_slots ? set->n_slots * 2 : 16;
    uint32_t *slots = vex_calloc(n_slots, sizeof *slots);
    if (slots == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for %zu metadata keys", n_slots);
    }
    for (size_t i = 0; i < set->n; i++) {
        size_t at = set->entries[i].hash & (n_slots - 1);
        while (slots[at] != 0) {
            at = (at + 1) & (n_slots - 1);
        }
        slots[at] = (uint32_t)i + 1;
    }
    vex_free(set->slots);
    set->slots = slots;
    set->n_slots = n_slots;
    return VEX_OK;
}

static vex_status add_mask(vex_key_set *set, const uint8_t *name, size_t len, uint32_t mask) {
    if (2 * (set->n + 1) > set->n_slots) {
        VEX_TRY(grow_slots(set));
    }
    uint64_t hash = vex_hash64(name, len);
    size_t at = hash & (set->n_slots - 1);
    for (; set->slots[at] != 0; at = (at + 1) & (set->n_slots - 1)) {
        vex_key_entry *entry = &set->entries[set->slots[at] - 1];
        if (entry->hash == hash && entry->len == len && memcmp(entry->name, name, len) == 0) {
            entry->mask |= mask;
            return VEX_OK;
        }
    }
    VEX_TRY(vex_grow((void **)&set->entries, &set->capacity, set->n + 1, sizeof *set->entries));
    uint8_t *copy = vex_malloc(len ? len : 1);
    if (copy == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a metadata key of %zu bytes", len);
    }
    memcpy(copy, name, len);
    set->entries[set->n] = (vex_key_entry){copy, len, hash, mask};
    set->slots[at] = (uint32_t)++set->n;
    return VEX_OK;
}

static uint32_t scalar_mask(vex_mp_kind kind) {
    switch (kind) {
    case VEX_MP_BOOL:
        return VEX_KEY_BOOL;
    case VEX_MP_INT:
        return VEX_KEY_INT;
    case VEX_MP_FLOAT:
        return VEX_KEY_FLOAT;
    case VEX_MP_STR:
        return VEX_KEY_STRING;
    default:
        return 0;
    }
}

vex_status vex_key_set_note(vex_key_set *set, const uint8_t *metadata, size_t len) {
    if (metadata == NULL) {
        return VEX_OK;
    }
    vex_mp_reader reader = vex_mp_reader_make(metadata, len);
    vex_mp_value map = vex_mp_next(&reader);
    for (uint32_t i = 0; map.kind == VEX_MP_MAP && i < map.count && !vex_mp_bad(&reader); i++) {
        vex_mp_value key = vex_mp_next(&reader);
        vex_mp_value value = vex_mp_next(&reader);
        uint32_t mask = scalar_mask(value.kind);
        if (value.kind == VEX_MP_ARRAY) {
            mask = VEX_KEY_LIST_OF(value.count ? scalar_mask(vex_mp_peek(&reader)) : 0u);
            for (uint32_t item = 0; item < value.count && !vex_mp_bad(&reader); item++) {
                vex_mp_skip(&reader);
            }
        } else if (value.kind == VEX_MP_EXT) {
            mask = VEX_KEY_SPARSE;
        }
        if (key.kind == VEX_MP_STR && mask != 0 && !vex_mp_bad(&reader)) {
            VEX_TRY(add_mask(set, key.bytes, key.len, mask));
        }
    }
    return VEX_OK;
}

vex_status vex_key_set_decode(vex_key_set *set, const uint8_t *msgpack, size_t len) {
    if (len == 0) {
        return VEX_OK;
    }
    vex_mp_reader reader = vex_mp_reader_make(msgpack, len);
    vex_mp_value map = vex_mp_next(&reader);
    for (uint32_t i = 0; map.kind == VEX_MP_MAP && i < map.count && !vex_mp_bad(&reader); i++) {
        vex_mp_value key = vex_mp_next(&reader);
        vex_mp_value mask = vex_mp_next(&reader);
        if (key.kind == VEX_MP_STR && mask.kind == VEX_MP_INT) {
            VEX_TRY(add_mask(set, key.bytes, key.len, (uint32_t)mask.integer));
        }
    }
    if (vex_mp_bad(&reader)) {
        return VEX_FAIL(VEX_ERR_CORRUPT, "the manifest's list of metadata keys is malformed");
    }
    return VEX_OK;
}

vex_status vex_key_set_encode(const vex_key_set *set, vex_buf *out) {
    VEX_TRY(vex_mp_put_map(out, (uint32_t)set->n));
    for (size_t i = 0; i < set->n; i++) {
        VEX_TRY(vex_mp_put_str(out, set->entries[i].name, set->entries[i].len));
        VEX_TRY(vex_mp_put_uint(out, set->entries[i].mask));
    }
    return VEX_OK;
}
