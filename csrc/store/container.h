/*
 * container.h - an immutable file of typed, checksummed sections.
 *
 * Header, 64 B: magic 8 "VXSG\r\n\x1a\n"  u16 major, u16 minor  u32 kind  database uuid 16
 *   u64 file_no  u64 lsn_lo  u64 lsn_hi  u32 0  u32 crc32c of 0..59
 * Sections, each 64-byte aligned (vectors: 4096), zeros between them.
 * Section table: n * 48 B { u32 kind, u32 flags, u64 offset, u64 len, u64 rows, u32 tag,
 *   u32 crc32c of the section, 8 B 0 }; 8-aligned.
 * Chunk checksums: one u32 crc32c per 64 KiB of the file from 0 up to the section table.
 * The chunk table follows the section table directly; zeros fill it up to 8.
 * Footer, 64 B: u64 table offset, u32 n_sections, u32 table crc32c, u64 chunk table offset,
 *   u32 n_chunks, u32 chunk table crc32c, u64 file length, 12 B 0, u32 crc32c of footer[0..51]
 *   (at 52), reversed magic 8 (at 56).
 * A section of an unknown kind is VEX_ERR_VERSION unless it has VEX_SECTION_OPTIONAL.
 * Opening checks size, header, footer, tables and every section's bounds: O(sections).  Section
 * contents are checked by their readers when they are used for sizes or offsets, and completely
 * by vex_container_verify().  The footer's checksum covers the checksums of both tables, so it
 * stands for the whole file: the manifest records it.
 */
#ifndef VEX_STORE_CONTAINER_H
#define VEX_STORE_CONTAINER_H

#include "base/mem.h"
#include "io/vfs.h"
#include "store/format.h"
#include "store/manifest.h"

/* ---- writing: sections one after the other ---- */
typedef struct vex_container_writer vex_container_writer;

vex_status vex_container_create(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                                vex_file_kind kind, uint64_t file_no, uint64_t lsn_lo,
                                uint64_t lsn_hi, vex_container_writer **out);
/* `alignment`: a power of two; at least 64 is used. */
vex_status vex_container_begin(vex_container_writer *writer, uint32_t section_kind, uint32_t flags,
                               uint32_t alignment, uint64_t rows, uint32_t tag);
vex_status vex_container_append(vex_container_writer *writer, const void *bytes, size_t len);
vex_status vex_container_end(vex_container_writer *writer);
/* A whole section in one call. */
vex_status vex_container_put(vex_container_writer *writer, uint32_t section_kind, uint32_t flags,
                             uint64_t rows, uint32_t tag, const void *bytes, size_t len);
/* Tables, footer, sync (unless !sync), rename; fills kind, file_no, size, crc, lsn_* of *entry.
 * The caller syncs the directory.  The writer is freed either way; on failure the .tmp is
 * removed. */
vex_status vex_container_finish(vex_container_writer *writer, bool sync, vex_file_entry *entry);
void vex_container_abort(vex_container_writer *writer); /* NULL is fine */

/* ---- reading ---- */
typedef struct vex_section {
    uint32_t kind, flags, tag, crc;
    uint64_t offset, len, rows;
    const uint8_t *data;      /* in the mapping                                                   */
} vex_section;

typedef struct vex_container {
    vex_vfs *vfs;
    char *path;
    const uint8_t *map;
    uint64_t size;
    vex_file_kind kind;
    uint64_t file_no;
    vex_section *sections;
    uint32_t n_sections;
} vex_container;

/* Open and map.  `entry` gives the expected kind, number, size and crc (NULL: not checked, for
 * tools; a NULL uuid likewise). */
vex_status vex_container_open(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                              vex_file_kind kind, uint64_t file_no, const vex_file_entry *entry,
                              vex_container *out);
void vex_container_close(vex_container *container);
/* The first section of that kind, or NULL. */
const vex_section *vex_container_find(const vex_container *container, uint32_t kind);
/* The same, or VEX_ERR_CORRUPT when missing or its length is not `expected_len`
 * (UINT64_MAX: any). */
vex_status vex_container_need(const vex_container *container, uint32_t kind,
                              uint64_t expected_len, const vex_section **out);
/* Check one 64 KiB chunk of the mapping against its checksum. */
vex_status vex_container_check_chunk(const vex_container *container, uint32_t chunk);
/* Read the file with file_read (not the mapping) and check every chunk and section checksum. */
vex_status vex_container_verify(const vex_container *container);

#endif
