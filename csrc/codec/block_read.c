/*
 * block_read.c - reads columns of compressed blocks (format in block.h).
 *
 * Nothing in an encoded column is believed: opening checks the header, the table and the
 * dictionary as a whole, and reading a block checks its bounds again, since the bytes are mapped
 * and the file could change behind the mapping.  Sizes are bounded before memory is asked for.
 */
#include "codec/block_format.h"

#include "base/crc32c.h"

#include "base/poison.h"

/* A zstd block of >= 4 stored bytes gives <= 128 KiB, so no frame expands further than this. */
#define ZSTD_EXPANSION_MAX 32768u

typedef struct block_entry {
    uint64_t offset, end; /* of the stored bytes */
    uint32_t first, next; /* values [first, next) */
    uint32_t raw_len, crc;
    vex_codec_id codec;
} block_entry;

static const uint8_t *entry_at(const vex_block_column *column, uint32_t block) {
    return column->data + HEADER_BYTES + (size_t)block * ENTRY_BYTES;
}

static block_entry entry_get(const vex_block_column *column, uint32_t block) {
    const uint8_t *p = entry_at(column, block);
    bool last = block + 1 == column->n_blocks;
    uint32_t raw_len = vex_get32(p + AT_RAW_LEN);
    return (block_entry){
        .offset = vex_get64(p + AT_OFFSET),
        .end = last ? column->stored_bytes : vex_get64(p + ENTRY_BYTES + AT_OFFSET),
        .first = vex_get32(p + AT_FIRST),
        .next = last ? column->n_values : vex_get32(p + ENTRY_BYTES + AT_FIRST),
        .raw_len = raw_len & RAW_LEN_MASK,
        .crc = vex_get32(p + AT_STORED_CRC),
        .codec = (vex_codec_id)(raw_len >> RAW_LEN_BITS),
    };
}

static bool entry_valid(const vex_block_column *column, const block_entry *e) {
    uint64_t stored = e->end - e->offset;
    return e->offset >= HEADER_BYTES && e->offset < e->end && e->end <= column->stored_bytes &&
           e->first < e->next && e->next <= column->n_values &&
           e->next - e->first <= e->raw_len && /* a length takes a byte */
           (e->codec == VEX_CODEC_STORE
                ? stored == e->raw_len
                : e->codec == VEX_CODEC_ZSTD && e->raw_len / ZSTD_EXPANSION_MAX <= stored);
}

/* Fail about the bytes at `at` of the column. */
static vex_status damaged(const vex_block_column *column, uint64_t at, const char *what) {
    return VEX_FAIL_AT(VEX_ERR_CORRUPT, column->path, column->file_offset + at, 0,
                       "damaged column of values: %s; restore the file from a backup", what);
}

/* ---- opening ---- */

static vex_status check_table(const vex_block_column *column, uint64_t blocks_at) {
    for (uint32_t b = 0; b < column->n_blocks; b++) {
        block_entry e = entry_get(column, b);
        bool starts = b > 0 || (e.offset == blocks_at && e.first == 0);
        if (!starts || !entry_valid(column, &e)) {
            return damaged(column, HEADER_BYTES + (uint64_t)b * ENTRY_BYTES,
                           "impossible entry in the block table");
        }
    }
    return VEX_OK;
}

vex_status vex_block_column_open(vex_block_column *out, const void *data, size_t len,
                                 const char *path, uint64_t file_offset) {
    vex_block_column column = {.data = data, .path = path ? path : "", .file_offset = file_offset};
    if (len < HEADER_BYTES) {
        return damaged(&column, 0, "it ends inside its header");
    }
    const uint8_t *header = column.data;
    if (vex_get32(header + AT_MAGIC) != COLUMN_MAGIC) {
        return damaged(&column, 0, "wrong magic number");
    }
    if (vex_crc32c(0, header, AT_HEADER_CRC) != vex_get32(header + AT_HEADER_CRC)) {
        return damaged(&column, 0, "wrong checksum of its header");
    }
    column.n_values = vex_get32(header + AT_N_VALUES);
    column.n_blocks = vex_get32(header + AT_N_BLOCKS);
    column.n_present = vex_get32(header + AT_N_PRESENT);
    column.raw_bytes = vex_get64(header + AT_RAW_BYTES);
    column.stored_bytes = vex_get64(header + AT_TOTAL_LEN);
    uint64_t table_len = (uint64_t)column.n_blocks * ENTRY_BYTES;
    uint32_t dict_len = vex_get32(header + AT_DICT_LEN);
    uint64_t dict_at = HEADER_BYTES + table_len, blocks_at = dict_at + dict_len;
    bool no_blocks = column.n_blocks == 0;
    if (column.stored_bytes > len) {
        return damaged(&column, 0, "it is cut short");
    }
    if (blocks_at > column.stored_bytes || (no_blocks && blocks_at != column.stored_bytes) ||
        column.n_present > column.n_values || no_blocks != (column.n_present == 0)) {
        return damaged(&column, 0, "impossible sizes in its header");
    }
    if (vex_crc32c(0, header + HEADER_BYTES, table_len) != vex_get32(header + AT_TABLE_CRC)) {
        return damaged(&column, HEADER_BYTES, "wrong checksum of its block table");
    }
    if (vex_crc32c(0, header + dict_at, dict_len) != vex_get32(header + AT_DICT_CRC)) {
        return damaged(&column, dict_at, "wrong checksum of its dictionary");
    }
    VEX_TRY(check_table(&column, blocks_at));
    if (dict_len > 0) {
        VEX_TRY(vex_codec_dict_create(&column.dict, header + dict_at, dict_len));
    }
    column.number = vex_block_cache_column();
    *out = column;
    return VEX_OK;
}

void vex_block_column_close(vex_block_column *column) {
    vex_block_cache_forget(column->number);
    vex_codec_dict_destroy(column->dict);
    *column = (vex_block_column){0};
}

/* ---- reading ---- */

void vex_block_reader_init(vex_block_reader *reader, const vex_block_column *column) {
    *reader = (vex_block_reader){.column = column};
}

void vex_block_reader_share(vex_block_reader *reader) {
    reader->shared = true;
}

void vex_block_reader_clear(vex_block_reader *reader) {
    vex_block_cache_release(reader->cached);
    vex_buf_clear(&reader->raw);
    vex_buf_clear(&reader->ends);
    *reader = (vex_block_reader){.column = reader->column};
}

static uint32_t *ends_of(const vex_block_reader *reader) {
    return (uint32_t *)(void *)reader->ends.data;
}

/* Turn the length codes of a raw block into end offsets; false when they do not add up. */
static bool parse_lengths(vex_block_reader *reader, const uint8_t *raw, uint32_t raw_len,
                          uint32_t count) {
    uint32_t *ends = ends_of(reader);
    uint32_t pos = 0;
    uint64_t total = 0;
    ends[0] = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t code = 0, shift = 0;
        uint8_t byte;
        do {
            if (pos == raw_len || shift == 7 * LENGTH_CODE_BYTES) {
                return false;
            }
            byte = raw[pos++];
            code |= (uint32_t)(byte & 0x7F) << shift;
            shift += 7;
        } while (byte & 0x80);
        total += code ? code - 1 : 0;
        if (total > raw_len) {
            return false;
        }
        ends[i + 1] = (uint32_t)total << 1 | (code != 0);
    }
    if (total != raw_len - pos) {
        return false;
    }
    for (uint32_t i = 0; i <= count; i++) {
        ends[i] += pos << 1; /* the bytes begin behind the codes */
    }
    return true;
}

/* The raw bytes of a block, in reader->raw or in the column. */
static vex_status decode_block(vex_block_reader *reader, const block_entry *e) {
    const vex_block_column *column = reader->column;
    const uint8_t *stored = column->data + e->offset;
    size_t stored_len = (size_t)(e->end - e->offset);
    if (vex_crc32c(0, stored, stored_len) != e->crc) {
        return damaged(column, e->offset, "wrong checksum of a block");
    }
    if (e->codec == VEX_CODEC_STORE) {
        reader->block_data = stored;
        return VEX_OK;
    }
    reader->raw.len = 0;
    VEX_TRY(vex_buf_reserve(&reader->raw, e->raw_len));
    vex_status status = vex_codec_decompress(e->codec, reader->raw.data, e->raw_len, stored,
                                             stored_len, column->dict);
    if (status == VEX_ERR_CORRUPT) {
        return damaged(column, e->offset, "a block does not decompress");
    }
    reader->block_data = reader->raw.data;
    return status;
}

static bool take_cached(vex_block_reader *reader, uint32_t block) {
    vex_cached_block *found = vex_block_cache_get(reader->column->number, block);
    vex_stat_add(found != NULL ? VEX_STAT_BLOCK_HITS : VEX_STAT_BLOCK_MISSES, 1);
    if (found != NULL) {
        reader->cached = found;
        reader->block_data = found->raw;
        reader->block_ends = found->ends;
        reader->first = found->first;
        reader->count = found->count;
    }
    return found != NULL;
}

static vex_status load_block(vex_block_reader *reader, uint32_t block) {
    const vex_block_column *column = reader->column;
    reader->count = 0; /* nothing is decoded if this fails */
    vex_block_cache_release(reader->cached);
    reader->cached = NULL;
    if (reader->shared && take_cached(reader, block)) {
        return VEX_OK;
    }
    block_entry e = entry_get(column, block);
    if (!entry_valid(column, &e)) {
        return damaged(column, HEADER_BYTES + (uint64_t)block * ENTRY_BYTES,
                       "impossible entry in the block table");
    }
    VEX_TRY(decode_block(reader, &e));
    uint32_t count = e.next - e.first;
    reader->ends.len = 0;
    VEX_TRY(vex_buf_reserve(&reader->ends, ((size_t)count + 1) * sizeof(uint32_t)));
    if (!parse_lengths(reader, reader->block_data, e.raw_len, count)) {
        return damaged(column, e.offset, "the lengths in a block do not add up");
    }
    reader->block_ends = ends_of(reader);
    reader->first = e.first;
    reader->count = count;
    vex_stat_add(VEX_STAT_BLOCKS_READ, 1);
    if (reader->shared) {
        vex_block_cache_put(column->number, block, e.first, count, reader->block_ends,
                            reader->block_data, e.raw_len);
    }
    return VEX_OK;
}

/* The last block whose first value is <= i. */
static uint32_t find_block(const vex_block_column *column, uint32_t i) {
    uint32_t low = 0, high = column->n_blocks;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (vex_get32(entry_at(column, middle) + AT_FIRST) <= i) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Value i of the decoded block; NULL when absent. */
static const uint8_t *value_at(const vex_block_reader *reader, uint32_t i, size_t *len) {
    const uint32_t *ends = reader->block_ends;
    uint32_t start = ends[i] >> 1;
    *len = (ends[i + 1] >> 1) - start;
    return ends[i + 1] & 1 ? reader->block_data + start : NULL;
}

vex_status vex_block_reader_get(vex_block_reader *reader, uint32_t i, const uint8_t **value,
                                size_t *len) {
    const vex_block_column *column = reader->column;
    if (i >= column->n_values) {
        return VEX_FAIL(VEX_ERR_INVALID, "value %u of a column of %u", i, column->n_values);
    }
    if (column->n_blocks == 0) {
        *value = NULL;
        *len = 0;
        return VEX_OK;
    }
    if (i - reader->first >= reader->count) {
        VEX_TRY(load_block(reader, find_block(column, i)));
        if (i - reader->first >= reader->count) { /* the table changed behind the mapping */
            reader->count = 0;
            return damaged(column, HEADER_BYTES, "the block table is out of order");
        }
    }
    *value = value_at(reader, i - reader->first, len);
    return VEX_OK;
}

vex_status vex_block_column_verify(const vex_block_column *column) {
    vex_block_reader reader;
    vex_block_reader_init(&reader, column);
    vex_status status = VEX_OK;
    uint64_t raw_bytes = 0, n_present = 0;
    for (uint32_t b = 0; b < column->n_blocks; b++) {
        VEX_TRY_DONE(status, load_block(&reader, b));
        for (uint32_t i = 0; i < reader.count; i++) {
            size_t len;
            n_present += value_at(&reader, i, &len) != NULL;
            raw_bytes += len;
        }
    }
    if (n_present != column->n_present || raw_bytes != column->raw_bytes) {
        status = damaged(column, 0, "its header and its blocks disagree");
    }
done:
    vex_block_reader_clear(&reader);
    return status;
}
