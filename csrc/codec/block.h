/*
 * block.h - a column of byte strings (documents, metadata, uris) in compressed blocks.
 *
 * A column holds n values, each possibly absent, in order.  Values are packed into raw blocks of
 * about 4 KiB (a longer value has a block of its own), each compressed on its own with a
 * dictionary trained on the column; a column under 1 MiB has blocks of 16 KiB and no dictionary.
 * Small blocks make reading one value cheap, and the dictionary gives them the ratio of large
 * ones.
 *
 * Encoded column (little-endian; offsets from its start):
 *   header 64 B   u32 magic 'VXBC'       u32 n_values     u32 n_blocks    u32 n_present
 *                 u64 raw_bytes (of all values)           u64 total_len (of the encoded column)
 *                 u32 dict_len           u32 crc32c of the dictionary
 *                 u32 crc32c of the block table           16 B 0
 *                 u32 crc32c of the 60 bytes before
 *   block table   n_blocks * 20 B: u64 offset of the stored bytes (they end where the next
 *                 block's begin, the last at total_len), u32 index of the first value,
 *                 u32 raw_len | codec << 30, u32 crc32c of the stored bytes
 *   dictionary    dict_len bytes
 *   blocks        the stored bytes, without gaps
 *
 * A raw block of k values (k from the table) is k lengths, each a LEB128 number of at most 5
 * bytes: 0 = absent, else 1 + length; then the values' bytes, to the end of the block.  A column
 * without present values has no blocks.
 */
#ifndef VEX_CODEC_BLOCK_H
#define VEX_CODEC_BLOCK_H

#include "codec/block_cache.h"
#include "codec/codec.h"

/* A value, and so a raw block, is at most this long. */
#define VEX_BLOCK_VALUE_MAX (((size_t)1 << 30) - 16)

/* zstd levels: files that are rewritten soon, and files that stay. */
#define VEX_BLOCK_LEVEL_FLUSH 9
#define VEX_BLOCK_LEVEL_COMPACT 12

/* ---- writing ---- */
typedef struct vex_block_writer vex_block_writer;

vex_status vex_block_writer_create(vex_block_writer **out, int level);
/* Add the next value; NULL = absent (len ignored), which differs from present and empty.
 * VEX_ERR_TOO_BIG past VEX_BLOCK_VALUE_MAX bytes, or past 2^32 - 1 values.  After another error
 * the writer can only be destroyed. */
vex_status vex_block_writer_add(vex_block_writer *writer, const void *value, size_t len);
/* Append the encoded column to `out`.  Only destroy may follow. */
vex_status vex_block_writer_finish(vex_block_writer *writer, vex_buf *out);
void vex_block_writer_destroy(vex_block_writer *writer); /* NULL is fine */

/* ---- reading ---- */
typedef struct vex_block_column {
    const uint8_t *data;      /* encoded column, borrowed (usually from a mapping)                */
    const char *path;         /* of the file, for errors; borrowed                                */
    uint64_t file_offset;     /* of `data` in it, for errors                                      */
    uint64_t raw_bytes;       /* of all values                                                    */
    uint64_t stored_bytes;    /* of the encoded column                                            */
    uint32_t n_values, n_blocks, n_present;
    vex_codec_dict *dict;     /* owned; NULL when there is none                                   */
    uint64_t number;          /* in the cache of decoded blocks                                   */
} vex_block_column;

/* Check header, block table and dictionary (checksums and bounds); not the blocks, which are
 * checked when read.  `len` may exceed the column (padding).  The struct may be moved. */
vex_status vex_block_column_open(vex_block_column *column, const void *data, size_t len,
                                 const char *path, uint64_t file_offset);
/* No reader may be in a call; a zeroed column is fine. */
void vex_block_column_close(vex_block_column *column);
/* Check every block, and the header's sums (for `check --deep` and tests). */
vex_status vex_block_column_verify(const vex_block_column *column);

/* Keeps the last block it decoded; one that is `shared` looks into the cache of the process first, and
 * puts there what it decodes.  For one thread at a time; many may read one column. */
typedef struct vex_block_reader {
    const vex_block_column *column;
    vex_buf raw;              /* decoded block, when it is compressed                             */
    vex_buf ends;             /* uint32_t start of the first value << 1, then for each value its
                                 end << 1 | present                                               */
    vex_cached_block *cached; /* the block, when it came from the cache                           */
    bool shared;
    const uint8_t *block_data; /* raw block: in `raw`, `cached`, or in the column when stored raw */
    const uint32_t *block_ends; /* in `ends` or `cached`                                          */
    uint32_t first, count;    /* its values; count 0 when no block is decoded                     */
} vex_block_reader;

void vex_block_reader_init(vex_block_reader *reader, const vex_block_column *column);
/* From now on by the cache: for reads here and there; who reads all blocks would only fill it. */
void vex_block_reader_share(vex_block_reader *reader);
void vex_block_reader_clear(vex_block_reader *reader);
/* Value i: *value NULL when absent, else non-NULL and valid until the next call on this reader.
 * VEX_ERR_CORRUPT with file and offset: bad checksum or length.  VEX_ERR_CODEC: see codec.h. */
vex_status vex_block_reader_get(vex_block_reader *reader, uint32_t i, const uint8_t **value,
                                size_t *len);

#endif
