/*
 * keys.h - the metadata keys a collection has ever seen, with the types of their values.
 */
#ifndef VEX_DB_KEYS_H
#define VEX_DB_KEYS_H

#include "base/mem.h"

/* Type bits, as vex_collection_keys() documents them. */
#define VEX_KEY_BOOL 1u
#define VEX_KEY_INT 2u
#define VEX_KEY_FLOAT 4u
#define VEX_KEY_STRING 8u
#define VEX_KEY_LIST_OF(type) ((type) << 4)
#define VEX_KEY_SPARSE 256u

typedef struct vex_key_entry {
    uint8_t *name;
    size_t len;
    uint64_t hash;
    uint32_t mask;
} vex_key_entry;

typedef struct vex_key_set {
    vex_key_entry *entries;
    size_t n, capacity;
    uint32_t *slots;          /* open addressing: entry number + 1, 0 = free                      */
    size_t n_slots;
} vex_key_set;

void vex_key_set_clear(vex_key_set *set);
/* Note the keys of one metadata map (NULL: nothing). */
vex_status vex_key_set_note(vex_key_set *set, const uint8_t *metadata, size_t len);
/* Merge an encoded set. */
vex_status vex_key_set_decode(vex_key_set *set, const uint8_t *msgpack, size_t len);
/* Append as a MessagePack map key -> mask. */
vex_status vex_key_set_encode(const vex_key_set *set, vex_buf *out);

#endif
