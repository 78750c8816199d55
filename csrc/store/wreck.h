/*
 * wreck.h - a container file (container.h) read without trusting any byte of it: for checking, and for
 * taking out of a damaged file what is intact.
 *
 * All is read with file_read, so that a disk that cannot read says so instead of killing the
 * process; the mapping is touched only where reading went well.  Every checksum is compared, and
 * every difference is a fault.  A byte counts as intact when the checksum of its section holds, or
 * that of its 64 KiB chunk.
 *
 * A single flipped bit is put right in memory where two checksums agree on it: of the tables, the one
 * over them and what it makes of them; of a section, its own and that of the chunk.  It stays a fault.
 */
#ifndef VEX_STORE_WRECK_H
#define VEX_STORE_WRECK_H

#include "store/container.h"

typedef struct vex_wreck_fault {
    uint64_t offset;
    uint32_t section;          /* the kind of section it lies in; 0: none                         */
    const char *what;          /* "its footer is damaged"; static                                 */
} vex_wreck_fault;

typedef struct vex_wreck_section {
    vex_section is;            /* `data` is in the mapping, or in `copy`                          */
    bool whole;                /* every byte is as it was written                                 */
    vex_bulk copy;             /* put right, or with zeros where the disk does not read           */
} vex_wreck_section;

typedef struct vex_wreck {
    vex_vfs *vfs;
    char *path;
    uint64_t size;             /* bytes of the container; what lies behind is not its             */
    uint64_t read_bytes;
    uint64_t lsn_hi;           /* by its header; UINT64_MAX when that is damaged                  */
    const uint8_t *map;
    uint64_t table;            /* where the sections end and the tables begin                     */
    uint8_t *tables;           /* a copy, put right: section table and chunk table                */
    vex_wreck_section *sections;
    uint32_t n_sections;       /* 0: nothing can be read                                          */
    const uint8_t *chunk_crcs; /* in `tables`; NULL: damaged                                      */
    uint32_t n_chunks;
    uint64_t *bad_chunks, *unread_chunks;   /* a bit each                                         */
    vex_wreck_fault *faults;
    size_t n_faults, faults_capacity;
} vex_wreck;

/* How much is read: what opening the file would check, or every byte. */
typedef enum vex_wreck_depth { VEX_WRECK_SHALLOW, VEX_WRECK_DEEP } vex_wreck_depth;

/* Read the file of that kind and number.  `entry` as in a manifest, with its size and checksum; NULL:
 * none is known, and what the file says of itself must do.  Damage is no failure: it is in `faults`,
 * a file that is not there included when there is an entry.  Failures: VEX_ERR_VERSION, NO_MEMORY, and
 * whatever opening the file fails with. */
vex_status vex_wreck_open(vex_vfs *vfs, const char *dir, const uint8_t uuid[16], vex_file_kind kind,
                          uint64_t file_no, const vex_file_entry *entry, vex_wreck_depth depth,
                          vex_wreck *out);
void vex_wreck_close(vex_wreck *wreck); /* a zeroed one is fine */

/* The section of that kind, or NULL. */
const vex_wreck_section *vex_wreck_find(const vex_wreck *wreck, uint32_t kind);
/* Are the bytes [at, at + len) of the section there and intact?  After a deep reading only. */
bool vex_wreck_intact(const vex_wreck *wreck, const vex_wreck_section *section, uint64_t at,
                      uint64_t len);
/* Is this kind of section made from others, so that nothing is lost with it? */
bool vex_wreck_is_derived(uint32_t section_kind);

#endif
