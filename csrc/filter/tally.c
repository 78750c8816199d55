/*
 * tally.c - see tally.h: a hash table of values.
 */
#include "filter/tally.h"

#include "base/hash.h"

#include "base/poison.h"

#define ARENA_CHUNK ((size_t)64 << 10)
#define TYPE_SPARSE                                                                                \
    256u /* of vex_collection_keys: 1 << (type - 1), of list elements << 4, or this */

vex_status vex_tally_init(vex_tally *tally, vex_tally_kind kind) {
    *tally = (vex_tally){.kind = kind};
    return vex_arena_create(&tally->arena, ARENA_CHUNK);
}

void vex_tally_clear(vex_tally *tally) {
    vex_free(tally->entries);
    vex_free(tally->slots);
    vex_arena_destroy(tally->arena);
    *tally = (vex_tally){0};
}

static vex_status no_memory(void) {
    return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to count metadata values");
}

/* ---- entries ---- */

static uint64_t hash_of(const vex_value *value) {
    uint64_t bits = 0;
    switch (value->type) {
    case VEX_VALUE_STRING:
        return vex_hash64(value->bytes, value->len);
    case VEX_VALUE_BOOL:
        return vex_mix64(value->boolean + 1u);
    default:
        memcpy(&bits, &value->integer, sizeof bits); /* or the number's */
        return vex_mix64(bits ^ (uint64_t)value->type << 60);
    }
}

/* A copy that outlives what the value points into. */
static vex_status keep(vex_tally *tally, const vex_value *value, vex_value *out) {
    *out = *value;
    if (value->type == VEX_VALUE_STRING) {
        uint8_t *bytes = vex_arena_alloc(tally->arena, value->len + 1, 1);
        if (bytes == NULL) {
            return no_memory();
        }
        if (value->len > 0) {
            memcpy(bytes, value->bytes, value->len);
        }
        out->bytes = bytes;
    }
    return VEX_OK;
}

static vex_status grow_slots(vex_tally *tally) {
    size_t n_slots = tally->n_slots ? tally->n_slots * 2 : 64;
    uint32_t *slots = vex_calloc(n_slots, sizeof *slots);
    if (slots == NULL) {
        return no_memory();
    }
    for (size_t i = 0; i < tally->n; i++) {
        size_t at = tally->entries[i].hash & (n_slots - 1);
        while (slots[at] != 0) {
            at = (at + 1) & (n_slots - 1);
        }
        slots[at] = (uint32_t)i + 1;
    }
    vex_free(tally->slots);
    tally->slots = slots;
    tally->n_slots = n_slots;
    return VEX_OK;
}

static vex_status push(vex_tally *tally, const vex_value *value, uint64_t hash) {
    VEX_TRY(
        vex_grow((void **)&tally->entries, &tally->capacity, tally->n + 1, sizeof *tally->entries));
    vex_tally_entry entry = {.hash = hash};
    VEX_TRY(keep(tally, value, &entry.value));
    tally->entries[tally->n++] = entry;
    return VEX_OK;
}

static vex_status find_entry(vex_tally *tally, const vex_value *value, vex_tally_entry **out) {
    if (2 * (tally->n + 1) > tally->n_slots) {
        VEX_TRY(grow_slots(tally));
    }
    const uint64_t hash = hash_of(value);
    size_t at = hash & (tally->n_slots - 1);
    for (; tally->slots[at] != 0; at = (at + 1) & (tally->n_slots - 1)) {
        vex_tally_entry *entry = &tally->entries[tally->slots[at] - 1];
        if (entry->hash == hash && vex_value_order(&entry->value, value) == 0) {
            *out = entry;
            return VEX_OK;
        }
    }
    if (tally->n >= UINT32_MAX - 1) {
        return VEX_FAIL(VEX_ERR_TOO_BIG, "more than 2^32 different metadata values");
    }
    VEX_TRY(push(tally, value, hash));
    tally->slots[at] = (uint32_t)tally->n;
    *out = &tally->entries[tally->n - 1];
    return VEX_OK;
}

static vex_status widen_range(vex_tally *tally, const vex_value *value) {
    if (tally->n == 0) {
        VEX_TRY(push(tally, value, 0));
        return push(tally, value, 0);
    }
    if (vex_value_collate(value, &tally->entries[0].value) < 0) {
        return keep(tally, value, &tally->entries[0].value);
    }
    return vex_value_collate(value, &tally->entries[1].value) > 0
               ? keep(tally, value, &tally->entries[1].value)
               : VEX_OK;
}

/* ---- values ---- */

/* `list`: number of the list that the value is an element of, 0: it is none. */
static vex_status add_scalar(vex_tally *tally, const vex_value *value, uint64_t times,
                             uint64_t list) {
    vex_value plain = *value;
    if (value->type == VEX_VALUE_FLOAT && value->number == 0) {
        plain.number = 0;
    }
    if (plain.type == VEX_VALUE_FLOAT && plain.number != plain.number) {
        return VEX_OK; /* NaN, which db refuses, is equal to nothing */
    }
    if (tally->kind != VEX_TALLY_VALUES) {
        return tally->kind == VEX_TALLY_RANGE ? widen_range(tally, &plain) : VEX_OK;
    }
    vex_tally_entry *entry = NULL;
    VEX_TRY(find_entry(tally, &plain, &entry));
    if (list == 0 || entry->list != list) {
        entry->count += times;
        entry->list = list;
    }
    return VEX_OK;
}

static bool is_scalar(const vex_value *value) {
    return value->type >= VEX_VALUE_BOOL && value->type <= VEX_VALUE_STRING;
}

static uint32_t type_bit(const vex_value *value) {
    return is_scalar(value) ? 1u << (value->type - 1) : 0;
}

static vex_status add_list(vex_tally *tally, const vex_value *list, uint64_t times) {
    vex_mp_reader reader = vex_mp_reader_make(list->bytes, list->len);
    const vex_mp_value header = vex_mp_next(&reader);
    tally->lists++;
    for (uint32_t i = 0; header.kind == VEX_MP_ARRAY && i < header.count; i++) {
        const vex_value element = vex_value_read(&reader);
        if (is_scalar(&element)) {
            tally->types |= type_bit(&element) << 4;
            VEX_TRY(add_scalar(tally, &element, times, tally->lists));
        }
    }
    return VEX_OK;
}

vex_status vex_tally_add(vex_tally *tally, const vex_value *value, uint64_t times) {
    if (value->type == VEX_VALUE_ABSENT) {
        return VEX_OK;
    }
    tally->rows += times;
    tally->types |= value->type == VEX_VALUE_SPARSE ? TYPE_SPARSE : type_bit(value);
    if (value->type == VEX_VALUE_LIST) {
        return add_list(tally, value, times);
    }
    return is_scalar(value) ? add_scalar(tally, value, times, 0) : VEX_OK;
}

/* ---- order ---- */

static int compare_values(const void *a, const void *b) {
    const vex_tally_entry *x = a, *y = b;
    return vex_value_collate(&x->value, &y->value);
}

static int compare_counts(const void *a, const void *b) {
    const vex_tally_entry *x = a, *y = b;
    return x->count != y->count ? (x->count < y->count ? 1 : -1)
                                : vex_value_collate(&x->value, &y->value);
}

void vex_tally_sort(vex_tally *tally, bool by_count) {
    if (tally->n > 1 && tally->kind == VEX_TALLY_VALUES) {
        qsort(tally->entries, tally->n, sizeof *tally->entries,
              by_count ? compare_counts : compare_values);
    }
}
