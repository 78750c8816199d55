/*
 * block.h - a column of byte strings (documents, metadata, uris) in compressed blocks.
 *
 * A column holds n values, each possibly absent.  Values are packed into raw blocks of about
 * 4 KiB (a longer value has a block of its own), each compressed on its own, with a dictionary
 * trained per column when it holds >= 1 MiB; else blocks of 16 KiB without one.
 *
 * Encoded column (little-endian; offsets from its start; see docs/format.md):
 *   header 64 B   u32 magic 'VXBC'  u32 n_values  u32 n_blocks  u32 n_present
 *                 u64 values_off (locator table)  u64 blocks_off (block table)
 *                 u64 dict_off  u32 dict_len  u32 0  u64 raw_bytes (of all values)
 *                 u32 crc32c of the 60 bytes before  (at 60)
 *   locators      n_values * 8 B: u32 block, u16.. packed as
 *                 u32 block (0xFFFFFFFF = absent), u32 offset inside the raw block
 *   block table   n_blocks * 24 B: u64 offset, u32 stored_len, u32 raw_len, u32 crc32c(stored),
 *                 u8 codec, 3 B 0
 *   dictionary    dict_len bytes, then u32 crc32c of it, padding to 8
 *   blocks        stored bytes; inside a raw block each value is u32 len + bytes
 */
#ifndef VEX_CODEC_BLOCK_H
#define VEX_CODEC_BLOCK_H

#include "codec/codec.h"

/* ---- writing ---- */
typedef struct vex_block_writer vex_block_writer;

/* level: zstd level (3 at flush, 6 at compaction). */
vex_status vex_block_writer_create(vex_block_writer **out, int level);
/* Add the next value; NULL = absent (len ignored), which differs from present and empty. */
vex_status vex_block_writer_add(vex_block_writer *writer, const void *value, size_t len);
/* Append the encoded column to `out` (its start must be 8-aligned in the file). */
vex_status vex_block_writer_finish(vex_block_writer *writer, vex_buf *out);
void vex_block_writer_destroy(vex_block_writer *writer);

/* ---- reading ---- */
typedef struct vex_block_column {
    const uint8_t *data;      /* encoded column, borrowed (usually from a mapping)                */
    size_t len;
    const char *path;         /* of the file, for errors; borrowed                                */
    uint64_t file_offset;     /* of `data` in it, for errors                                      */
    uint32_t n_values, n_blocks, n_present, dict_len;
    uint64_t values_off, blocks_off, dict_off, raw_bytes;
} vex_block_column;

/* Check header, tables' bounds and dictionary checksum; not the blocks (checked when read). */
vex_status vex_block_column_open(vex_block_column *column, const void *data, size_t len,
                                 const char *path, uint64_t file_offset);

/* One reader per thread and call: keeps the last blocks it decoded. */
typedef struct vex_block_reader {
    const vex_block_column *column;
    vex_buf raw;              /* decoded block                                                    */
    uint32_t block;           /* its number, UINT32_MAX when none                                 */
} vex_block_reader;

void vex_block_reader_init(vex_block_reader *reader, const vex_block_column *column);
void vex_block_reader_clear(vex_block_reader *reader);
/* Value i: *value NULL when absent, else valid until the next call on this reader.
 * A bad checksum or length is VEX_ERR_CORRUPT with file and offset. */
vex_status vex_block_reader_get(vex_block_reader *reader, uint32_t i, const uint8_t **value,
                                size_t *len);
/* Check every block (for `check --deep` and tests). */
vex_status vex_block_column_verify(const vex_block_column *column);

#endif
