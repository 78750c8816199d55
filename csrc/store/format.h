/*
 * format.h - constants of the on-disk format, version 1.  docs/format.md has the prose.
 *
 * <path>/VEXFS                        superblock (superblock.h)
 * <path>/LOCK, <path>/MAINT           flock targets: never written, renamed or removed
 * <path>/catalog.sqlite3              names (owned by the Python layer)
 * <path>/collections/<uuid hex>/
 *     manifest-%020u                  the commit point; the newest wins (manifest.h)
 *     head                            where committed data ends, for other processes (db/head.h)
 *     wal-%010u                       write-ahead log (wal/wal.h)
 *     vec-%012u.vxv                   vector rows: seq -> vector        (vecfile.h)
 *     pay-%012u.vxp                   payload rows: seq -> id, document, metadata, uri (payfile.h)
 *     del-%012u.vxd                   tombstones of one vec or pay file (tombs.h)
 * A file's number is unique within its collection over all kinds.  Immutable files are written
 * as NAME.tmp, synced, renamed, and never opened for writing again.
 *
 * All integers little-endian; hosts are little-endian (checked at compile time), so mapped
 * arrays are used as they lie.
 */
#ifndef VEX_STORE_FORMAT_H
#define VEX_STORE_FORMAT_H

#include <stdint.h>

#define VEX_FORMAT_MAJOR 1 /* unknown major: refuse                                               */
#define VEX_FORMAT_MINOR 0

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "mapped arrays are little-endian");

/* Kinds of container files (container.h). */
typedef enum vex_file_kind {
    VEX_KIND_VECTORS = 1,
    VEX_KIND_PAYLOAD = 2,
    VEX_KIND_TOMBS = 3,
    VEX_KIND_GRAPH = 4 /* reserved: graph over several vector files                               */
} vex_file_kind;

/* Kinds of sections inside containers. */
typedef enum vex_section_kind {
    VEX_SECTION_INFO = 1,       /* fixed struct of the file kind                                  */
    VEX_SECTION_SEQS = 2,       /* u64 per row, strictly ascending                                */
    VEX_SECTION_VECTORS = 3,    /* rows * stride, 4096-aligned                                    */
    VEX_SECTION_NORMS = 4,      /* f32 |x|^2 per row                                              */
    VEX_SECTION_IDS = 5,        /* u32 offsets[n+1] (padded to 8), then bytes                     */
    VEX_SECTION_ID_INDEX = 6,   /* u64 hash[n] ascending, then u32 row[n]                         */
    VEX_SECTION_DOCUMENTS = 7,  /* block column (codec/block.h)                                   */
    VEX_SECTION_METADATA = 8,   /* block column of MessagePack maps                               */
    VEX_SECTION_URIS = 9,       /* block column                                                   */
    VEX_SECTION_COLUMNS = 10,   /* typed metadata columns (filter/columns.h)                      */
    VEX_SECTION_TOMBS = 11,     /* bitmap words                                                   */
    VEX_SECTION_EXPIRES = 12,   /* reserved: u64 unix ms per row                                  */
    VEX_SECTION_CODES = 13,     /* the rows in a short form (index/lvq.h)                         */
    VEX_SECTION_SPARSE = 14,    /* sparse vectors by index (rank/sparse_index.h)                  */
    VEX_SECTION_TEXT = 15,      /* text index (filter/text_index.h)                               */
    VEX_SECTION_POSTINGS = 16,  /* reserved: metadata postings                                    */
    VEX_SECTION_WORDS = 17      /* words of documents (rank/words.h)                              */
} vex_section_kind;

/* Flag of a section entry: a reader that does not know the kind may ignore it. */
#define VEX_SECTION_OPTIONAL 1u

#define VEX_ROWS_MAX 0x7fffffffu /* rows of one file or memtable                                  */
#define VEX_ID_BYTES_MAX 65535u
#define VEX_DIMENSION_MAX 65536u

#endif
