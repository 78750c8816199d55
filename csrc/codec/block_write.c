/*
 * block_write.c - packs values into compressed blocks (format in block.h).
 *
 * Values wait, uncompressed, until there are 8 MiB of them or the column ends.  Then the writer
 * settles: it trains a dictionary on what waits, if that is >= 1 MiB, and with it chooses the
 * block size.  From there on blocks are cut and compressed as they fill, so a column of any size
 * needs about 8 MiB besides its compressed bytes.
 *
 * The dictionary is trained on whole raw blocks, not on single values: its entropy tables then
 * describe blocks, which measured 3 % smaller.  Its size grows with the column (1/64 of the raw
 * bytes, at most 64 KiB), because it is stored with it.
 */
#include "codec/block_format.h"

#include "base/crc32c.h"

#include "base/poison.h"

#define BLOCK_WITH_DICT ((size_t)4 << 10)
#define BLOCK_WITHOUT_DICT ((size_t)16 << 10)
#define SETTLE_BYTES ((size_t)8 << 20)
#define CUT_BYTES ((size_t)256 << 10) /* once settled, cut blocks when so much waits */

#define DICT_COLUMN_MIN ((size_t)1 << 20)
#define DICT_SHARE 64
#define DICT_MAX ((size_t)64 << 10)
#define SAMPLES_MAX 512u
#define SAMPLE_BYTES_MAX BLOCK_WITHOUT_DICT /* of a block made of one long value */

struct vex_block_writer {
    int level;
    bool settled;
    size_t block_bytes; /* when settled */
    uint32_t n_values, n_present;
    uint64_t raw_bytes;
    vex_buf codes;  /* waiting values: uint32_t length codes ... */
    vex_buf bytes;  /* ... and their bytes, end to end */
    vex_buf raw;    /* scratch: the raw block being compressed */
    vex_buf table;  /* entries of finished blocks, offsets from the first block */
    vex_buf stored; /* their stored bytes */
    uint32_t cut;   /* values in finished blocks */
    bool any_zstd;
    vex_buf dict_bytes;
    vex_codec_dict *dict;
};

vex_status vex_block_writer_create(vex_block_writer **out, int level) {
    vex_block_writer *w = vex_calloc(1, sizeof *w);
    if (w == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory for a column writer");
    }
    w->level = level;
    *out = w;
    return VEX_OK;
}

void vex_block_writer_destroy(vex_block_writer *w) {
    if (w != NULL) {
        vex_buf_clear(&w->codes);
        vex_buf_clear(&w->bytes);
        vex_buf_clear(&w->raw);
        vex_buf_clear(&w->table);
        vex_buf_clear(&w->stored);
        vex_codec_dict_destroy(w->dict);
        vex_buf_clear(&w->dict_bytes);
        vex_free(w);
    }
}

/* ---- raw blocks ---- */

/* Waiting values that make one raw block. */
typedef struct span {
    size_t value, n_values; /* index into codes, count */
    size_t byte, n_bytes;   /* of the values */
    size_t code_bytes;      /* of their length codes */
} span;

static size_t waiting(const vex_block_writer *w) {
    return w->codes.len / sizeof(uint32_t);
}

static uint32_t code_at(const vex_block_writer *w, size_t i) {
    uint32_t code;
    memcpy(&code, w->codes.data + i * sizeof code, sizeof code);
    return code;
}

static size_t varint_bytes(uint32_t v) {
    size_t n = 1;
    for (; v >= 0x80; v >>= 7) {
        n++;
    }
    return n;
}

/* Make *s the block after it: as many values as fit block_bytes, at least one.  False when the
 * waiting values end before the block is full, and it is not certain to be complete. */
static bool next_span(const vex_block_writer *w, span *s, size_t block_bytes) {
    s->value += s->n_values;
    s->byte += s->n_bytes;
    s->n_values = s->n_bytes = s->code_bytes = 0;
    for (size_t n = waiting(w); s->value + s->n_values < n; s->n_values++) {
        uint32_t code = code_at(w, s->value + s->n_values);
        size_t code_bytes = varint_bytes(code), n_bytes = code ? code - 1 : 0;
        if (s->n_values > 0 && s->code_bytes + s->n_bytes + code_bytes + n_bytes > block_bytes) {
            return true;
        }
        s->code_bytes += code_bytes;
        s->n_bytes += n_bytes;
    }
    return false;
}

/* Append the raw block of a span to `out`. */
static vex_status append_raw(const vex_block_writer *w, const span *s, vex_buf *out) {
    VEX_TRY(vex_buf_reserve(out, s->code_bytes + s->n_bytes));
    uint8_t *p = out->data + out->len;
    for (size_t i = 0; i < s->n_values; i++) {
        uint32_t code = code_at(w, s->value + i);
        for (; code >= 0x80; code >>= 7) {
            *p++ = (uint8_t)(code | 0x80);
        }
        *p++ = (uint8_t)code;
    }
    out->len += s->code_bytes;
    return s->n_bytes ? vex_buf_append(out, w->bytes.data + s->byte, s->n_bytes) : VEX_OK;
}

static vex_status emit(vex_block_writer *w, const span *s) {
    w->raw.len = 0;
    VEX_TRY(append_raw(w, s, &w->raw));
    size_t offset = w->stored.len;
    vex_codec_id id;
    VEX_TRY(vex_codec_compress(&w->stored, w->raw.data, w->raw.len, w->dict, w->level, &id));
    w->any_zstd |= id == VEX_CODEC_ZSTD;

    uint8_t entry[ENTRY_BYTES];
    vex_put64(entry + AT_OFFSET, offset);
    vex_put32(entry + AT_FIRST, w->cut);
    vex_put32(entry + AT_RAW_LEN, (uint32_t)w->raw.len | (uint32_t)id << RAW_LEN_BITS);
    vex_put32(entry + AT_STORED_CRC,
              vex_crc32c(0, w->stored.data + offset, w->stored.len - offset));
    w->cut += (uint32_t)s->n_values;
    return vex_buf_append(&w->table, entry, sizeof entry);
}

static void drop_front(vex_buf *buf, size_t len) {
    if (len > 0) {
        memmove(buf->data, buf->data + len, buf->len - len);
        buf->len -= len;
    }
}

/* Compress the waiting values that make full blocks, or all of them. */
static vex_status cut_blocks(vex_block_writer *w, bool all) {
    span s = {0};
    while (next_span(w, &s, w->block_bytes)) {
        VEX_TRY(emit(w, &s));
    }
    if (all && s.n_values > 0) {
        VEX_TRY(emit(w, &s));
        s.value += s.n_values;
        s.byte += s.n_bytes;
    }
    drop_front(&w->codes, s.value * sizeof(uint32_t));
    drop_front(&w->bytes, s.byte);
    return VEX_OK;
}

/* ---- dictionary ---- */

/* Gather up to SAMPLES_MAX raw blocks, evenly spread over the waiting values. */
static vex_status gather_samples(const vex_block_writer *w, vex_buf *samples, size_t *lens,
                                 uint32_t *n_samples) {
    size_t n_blocks = (w->bytes.len + waiting(w)) / BLOCK_WITH_DICT;
    size_t step = n_blocks / SAMPLES_MAX + 1;
    span s = {0};
    uint32_t n = 0;
    for (size_t i = 0; n < SAMPLES_MAX && next_span(w, &s, BLOCK_WITH_DICT); i++) {
        if (i % step == 0) {
            size_t start = samples->len;
            VEX_TRY(append_raw(w, &s, samples));
            if (samples->len - start > SAMPLE_BYTES_MAX) {
                samples->len = start + SAMPLE_BYTES_MAX;
            }
            lens[n++] = samples->len - start;
        }
    }
    *n_samples = n;
    return VEX_OK;
}

static vex_status train(vex_block_writer *w) {
    size_t dict_max = w->bytes.len / DICT_SHARE;
    if (dict_max > DICT_MAX) {
        dict_max = DICT_MAX;
    }
    vex_status status = VEX_OK;
    vex_buf samples = {0};
    uint32_t n_samples;
    size_t *lens = vex_calloc(SAMPLES_MAX, sizeof *lens);
    if (lens == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory for a dictionary's samples");
    }
    VEX_TRY_DONE(status, gather_samples(w, &samples, lens, &n_samples));
    VEX_TRY_DONE(status, vex_codec_train(&w->dict_bytes, dict_max, samples.data, lens, n_samples));
    if (w->dict_bytes.len > 0) {
        status = vex_codec_dict_create(&w->dict, w->dict_bytes.data, w->dict_bytes.len);
    }
done:
    vex_free(lens);
    vex_buf_clear(&samples);
    return status;
}

static vex_status settle(vex_block_writer *w) {
    bool ready = vex_codec_ready();
    if (ready && w->bytes.len >= DICT_COLUMN_MIN) {
        VEX_TRY(train(w));
    }
    /* Large blocks only serve the ratio. */
    w->block_bytes = ready && w->dict == NULL ? BLOCK_WITHOUT_DICT : BLOCK_WITH_DICT;
    w->settled = true;
    return VEX_OK;
}

/* ---- the writer's calls ---- */

vex_status vex_block_writer_add(vex_block_writer *w, const void *value, size_t len) {
    if (value != NULL && len > VEX_BLOCK_VALUE_MAX) {
        return VEX_FAIL(VEX_ERR_TOO_BIG, "a value of %zu bytes; the limit is %zu", len,
                        VEX_BLOCK_VALUE_MAX);
    }
    if (w->n_values == UINT32_MAX) {
        return VEX_FAIL(VEX_ERR_TOO_BIG, "a column holds at most %u values", UINT32_MAX);
    }
    uint32_t code = value ? (uint32_t)len + 1 : 0;
    VEX_TRY(vex_buf_append(&w->codes, &code, sizeof code));
    if (value != NULL && len > 0) {
        VEX_TRY(vex_buf_append(&w->bytes, value, len));
        w->raw_bytes += len;
    }
    w->n_values++;
    w->n_present += value != NULL;

    size_t held = w->bytes.len + w->codes.len;
    if (held < (w->settled ? CUT_BYTES : SETTLE_BYTES)) {
        return VEX_OK;
    }
    if (!w->settled) {
        VEX_TRY(settle(w));
    }
    return cut_blocks(w, false);
}

vex_status vex_block_writer_finish(vex_block_writer *w, vex_buf *out) {
    if (w->n_present == 0) { /* no blocks: every value is absent */
        w->codes.len = w->table.len = w->stored.len = 0;
    } else {
        if (!w->settled) {
            VEX_TRY(settle(w));
        }
        VEX_TRY(cut_blocks(w, true));
    }
    size_t dict_len = w->any_zstd && w->n_present > 0 ? w->dict_bytes.len : 0;
    size_t n_blocks = w->table.len / ENTRY_BYTES;
    uint64_t blocks_at = HEADER_BYTES + w->table.len + dict_len;
    for (size_t i = 0; i < n_blocks; i++) {
        uint8_t *at = w->table.data + i * ENTRY_BYTES + AT_OFFSET;
        vex_put64(at, vex_get64(at) + blocks_at);
    }
    uint8_t header[HEADER_BYTES] = {0};
    vex_put32(header + AT_MAGIC, COLUMN_MAGIC);
    vex_put32(header + AT_N_VALUES, w->n_values);
    vex_put32(header + AT_N_BLOCKS, (uint32_t)n_blocks);
    vex_put32(header + AT_N_PRESENT, w->n_present);
    vex_put64(header + AT_RAW_BYTES, w->raw_bytes);
    vex_put64(header + AT_TOTAL_LEN, blocks_at + w->stored.len);
    vex_put32(header + AT_DICT_LEN, (uint32_t)dict_len);
    vex_put32(header + AT_DICT_CRC, vex_crc32c(0, w->dict_bytes.data, dict_len));
    vex_put32(header + AT_TABLE_CRC, vex_crc32c(0, w->table.data, w->table.len));
    vex_put32(header + AT_HEADER_CRC, vex_crc32c(0, header, AT_HEADER_CRC));

    VEX_TRY(vex_buf_reserve(out, blocks_at + w->stored.len));
    VEX_TRY(vex_buf_append(out, header, sizeof header));
    VEX_TRY(vex_buf_append(out, w->table.data, w->table.len));
    VEX_TRY(vex_buf_append(out, w->dict_bytes.data, dict_len));
    return vex_buf_append(out, w->stored.data, w->stored.len);
}
