/*
 * records.h - the records of a write request, parsed and checked, and the merging of metadata.
 */
#ifndef VEX_DB_RECORDS_H
#define VEX_DB_RECORDS_H

#include "base/mem.h"

typedef struct vex_slice {
    const uint8_t *data; /* NULL = nil                                                            */
    uint32_t len;
} vex_slice;

typedef struct vex_record {
    vex_slice id, document, metadata, uri;
    uint64_t id_hash;
} vex_record;

/* Parse request->records; everything the engine relies on is checked: counts, types, UTF-8,
 * id length and uniqueness, metadata value kinds, finite vectors.  *out from vex_malloc, n
 * entries that point into the request. */
vex_status vex_records_parse(const vex_write_request *request, vex_record **out);

/* Metadata of a new record: `given` without its nil values (in the arena when it had any). */
vex_status vex_metadata_strip(vex_arena *arena, vex_slice given, vex_slice *out);
/* Metadata `old` updated by `given`: keys replaced, added, or removed by nil; old order kept,
 * new keys behind.  Nothing left: NULL, or the empty map when `old` was that. */
vex_status vex_metadata_merge(vex_arena *arena, vex_slice old, vex_slice given, vex_slice *out);

#endif
