/*
 * words_read.c - opening the section of words and looking terms up in it (layout in words.h).
 *
 * Opening checks the header; the rest is checked as a whole before the first use.  Bytes with a right
 * checksum are still not trusted as sizes or offsets.
 */
#include "rank/words.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/hash.h"
#include "rank/tokens.h"

#include "base/poison.h"

#define BITS_MAX 28u

/* Found at the first use; damage stays found. */
typedef enum words_health { WORDS_UNKNOWN, WORDS_GOOD, WORDS_BAD } words_health;

/* ---- opening ---- */

static vex_status damaged(const char *path, uint64_t offset) {
    return VEX_FAIL_AT(VEX_ERR_CORRUPT, path, offset, 0, "the index of words is damaged");
}

static bool read_header(const uint8_t *data, size_t len, uint32_t rows, vex_words *out) {
    if (len < VEX_WORDS_HEADER_BYTES || vex_get32(data) != VEX_WORDS_MAGIC ||
        vex_get32(data + VEX_WORDS_HEADER_CRC) != vex_crc32c(0, data, VEX_WORDS_HEADER_CRC) ||
        vex_get32(data + 4) != rows) {
        return false;
    }
    out->n_rows = rows;
    out->n_documents = vex_get32(data + 8);
    out->n_terms = vex_get32(data + 12);
    out->n_tokens = vex_get64(data + 16);
    out->terms_len = vex_get32(data + 24);
    out->postings_len = vex_get32(data + 28);
    out->bits = data[32];
    out->length_bytes = data[33];
    out->crc = vex_get32(data + 36);
    const bool fine = out->bits <= BITS_MAX && out->n_documents <= rows &&
                      (out->length_bytes == 1 || out->length_bytes == 2 || out->length_bytes == 4);
    if (!fine) {
        return false;
    }
    const uint64_t lengths_len = vex_align_up((uint64_t)rows * out->length_bytes, 4);
    const uint64_t buckets_len = (((uint64_t)1 << out->bits) + 1) * 4;
    const uint64_t body_len = lengths_len + buckets_len + out->terms_len + out->postings_len;
    if (body_len > len - VEX_WORDS_HEADER_BYTES) {
        return false;
    }
    out->body_len = (size_t)body_len;
    out->lengths = data + VEX_WORDS_HEADER_BYTES;
    out->buckets = out->lengths + lengths_len;
    out->terms = out->buckets + buckets_len;
    out->postings = out->terms + out->terms_len;
    return true;
}

vex_status vex_words_open(const uint8_t *data, size_t len, uint32_t rows, const char *path,
                          uint64_t offset, vex_words **out) {
    vex_words *words = vex_calloc(1, sizeof *words);
    if (words == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for an index of words");
    }
    if (!read_header(data, len, rows, words)) {
        vex_free(words);
        return damaged(path, offset);
    }
    words->path = path;
    words->offset = offset;
    *out = words;
    return VEX_OK;
}

void vex_words_close(vex_words *words) {
    vex_free(words);
}

vex_status vex_words_damaged(vex_words *words, const uint8_t *where) {
    if (atomic_exchange(&words->health, WORDS_BAD) != WORDS_BAD) {
        vex_stat_add(VEX_STAT_DAMAGED_PARTS, 1);
    }
    return damaged(words->path,
                   words->offset + VEX_WORDS_HEADER_BYTES + (uint64_t)(where - words->lengths));
}

bool vex_words_is_damaged(const vex_words *words) {
    return atomic_load_explicit(&words->health, memory_order_relaxed) == WORDS_BAD;
}

/* Two threads may both do it the first time; the bytes do not change, so no order is needed. */
vex_status vex_words_verify(vex_words *words) {
    unsigned char health = atomic_load_explicit(&words->health, memory_order_relaxed);
    if (health == WORDS_UNKNOWN && vex_crc32c(0, words->lengths, words->body_len) == words->crc) {
        health = WORDS_GOOD;
        atomic_store_explicit(&words->health, health, memory_order_relaxed);
    }
    return health == WORDS_GOOD ? VEX_OK : vex_words_damaged(words, words->lengths);
}

/* ---- the plug-in ---- */

static vex_status build(const vex_payload *rows, uint32_t n, vex_buf *out) {
    vex_words_builder *builder = NULL;
    uint32_t row = 0;
    while (row < n && rows[row].document == NULL) {
        row++;
    }
    if (row == n) {
        return VEX_OK; /* no document, no section */
    }
    VEX_TRY(vex_words_builder_create(&builder));
    vex_status status = VEX_OK;
    for (; row < n && status == VEX_OK; row++) {
        if (rows[row].document != NULL) {
            status =
                vex_words_builder_add(builder, row, rows[row].document, rows[row].document_len);
        }
    }
    if (status == VEX_OK) {
        status = vex_words_builder_finish(builder, n, out);
    }
    vex_words_builder_destroy(builder);
    return status == VEX_ERR_TOO_BIG ? VEX_OK : status; /* no section */
}

static vex_status load(const uint8_t *data, size_t len, uint32_t rows, const char *path,
                       uint64_t offset, void **state) {
    vex_words *words = NULL;
    VEX_TRY(vex_words_open(data, len, rows, path, offset, &words));
    *state = words;
    return VEX_OK;
}

static void unload(void *state) {
    vex_words_close(state);
}

const vex_section_plugin *vex_words_plugin(void) {
    static const vex_section_plugin plugin = {VEX_SECTION_WORDS, build, load, unload};
    return &plugin;
}

vex_words *vex_words_of(const vex_payfile *file) {
    return vex_payfile_plugin(file, VEX_SECTION_WORDS);
}

/* ---- terms ---- */

/* Bytes of impacts at `at`, 0 when they are damaged. */
static size_t impacts_len(const uint8_t *at, const uint8_t *end) {
    const size_t n = at < end ? at[0] : 0;
    return n > 0 && n <= VEX_IMPACTS_MAX && 1 + n * 2 <= (size_t)(end - at) ? 1 + n * 2 : 0;
}

/* The list of n > 1 rows at `offset` of the postings. */
static vex_status open_list(vex_words *words, uint32_t offset, vex_word_list *out) {
    const uint8_t *at = words->postings + offset, *end = words->postings + words->postings_len;
    if (offset >= words->postings_len) {
        return vex_words_damaged(words, words->postings);
    }
    out->n_blocks = (out->n - 1) / VEX_BLOCK_ROWS + 1;
    out->end = end;
    if (out->n_blocks > 1) {
        const size_t len = impacts_len(at, end);
        if (len == 0 || (uint64_t)out->n_blocks * 8 > (uint64_t)(end - at) - len) {
            return vex_words_damaged(words, at);
        }
        out->impacts = at;
        out->skips = at + len;
        at = out->skips + (size_t)out->n_blocks * 8;
    }
    out->blocks = at;
    return VEX_OK;
}

/* Read what follows the bytes of a term at *at. */
static vex_status read_term(vex_words *words, const uint8_t **at, const uint8_t *end,
                            vex_word_list *out, uint32_t *offset) {
    const uint8_t *start = *at;
    bool fine = vex_leb_get(at, end, &out->n) && out->n > 0 && out->n <= words->n_rows;
    if (fine && out->n == 1) {
        fine = vex_leb_get(at, end, &out->only.row) && vex_leb_get(at, end, &out->only.times) &&
               out->only.row < words->n_rows && out->only.times > 0;
    } else if (fine) {
        fine = vex_leb_get(at, end, offset);
    }
    return fine ? VEX_OK : vex_words_damaged(words, start);
}

vex_status vex_words_find(vex_words *words, const uint8_t *term, size_t len, vex_word_list *out) {
    const uint64_t hash = vex_hash64(term, len);
    const size_t bucket = words->bits == 0 ? 0 : (size_t)(hash >> (64 - words->bits));
    const uint8_t *bounds = words->buckets + bucket * 4;
    const uint32_t first = vex_get32(bounds), last = vex_get32(bounds + 4);
    *out = (vex_word_list){0};
    if (first > last || last > words->terms_len) {
        return vex_words_damaged(words, bounds);
    }
    const uint8_t *at = words->terms + first, *end = words->terms + last;
    while (at < end) {
        const size_t here = *at;
        const uint8_t *bytes = at + 1;
        vex_word_list list = {0};
        uint32_t offset = 0;
        if (here == 0 || here > VEX_TOKEN_BYTES_MAX || here >= (size_t)(end - at)) {
            return vex_words_damaged(words, at);
        }
        at = bytes + here;
        VEX_TRY(read_term(words, &at, end, &list, &offset));
        if (here == len && memcmp(bytes, term, len) == 0) {
            *out = list;
            out->n_blocks = 1;
            out->words = words;
            out->number = offset;
            return list.n == 1 ? VEX_OK : open_list(words, offset, out);
        }
    }
    return VEX_OK;
}

/* ---- blocks ---- */

static const uint8_t *block_at(const vex_word_list *list, uint32_t b) {
    const uint32_t offset = list->skips ? vex_get32(list->skips + (size_t)b * 8 + 4) : 0;
    return offset < (size_t)(list->end - list->blocks) ? list->blocks + offset : list->end;
}

const uint8_t *vex_words_impacts(const vex_word_list *list, uint32_t b) {
    if (list->postings != NULL) {
        return b == UINT32_MAX ? list->impacts : list->blocks + (size_t)b * VEX_MEMORY_IMPACTS;
    }
    if (list->n == 1) {
        return NULL;
    }
    const uint8_t *at =
        b == UINT32_MAX && list->impacts ? list->impacts : block_at(list, b == UINT32_MAX ? 0 : b);
    return impacts_len(at, list->end) > 0 ? at : NULL;
}

static bool read_full_block(const uint8_t *at, const uint8_t *end, vex_block *out) {
    if (end - at < 2 || at[0] > 32 || at[1] > 31) {
        return false;
    }
    const size_t gap_bytes = vex_packed_bytes(at[0]);
    if (gap_bytes + vex_packed_bytes(at[1]) > (size_t)(end - at) - 2) {
        return false;
    }
    vex_unpack(at + 2, at[0], out->rows);
    out->packed = at + 2 + gap_bytes;
    out->width = at[1];
    return true;
}

static bool read_short_block(const uint8_t *at, const uint8_t *end, vex_block *out) {
    out->packed = NULL;
    for (uint32_t i = 0; i < out->n; i++) {
        uint32_t head, times = 0;
        if (!vex_leb_get(&at, end, &head) || (head % 2 && !vex_leb_get(&at, end, &times)) ||
            times > INT32_MAX) {
            return false;
        }
        out->rows[i] = head / 2;
        out->values[i] = head % 2 ? times + 2 : 1;
    }
    return true;
}

static vex_status read_block(const vex_word_list *list, uint32_t b, vex_block *out) {
    vex_words *words = list->words;
    const uint8_t *start = block_at(list, b), *end = list->end;
    const size_t head = impacts_len(start, end);
    const uint32_t first = b > 0 ? vex_words_last_row(list, b - 1) + 1 : 0;
    const bool fine =
        head > 0 &&
        (out->n == VEX_BLOCK_ROWS ? read_full_block(start + head, end, out)
                                  : read_short_block(start + head, end, out)) &&
        vex_gaps_to_rows(out->rows, out->n, first, words->n_rows) &&
        (b + 1 == list->n_blocks || out->rows[out->n - 1] == vex_words_last_row(list, b));
    return fine ? VEX_OK : vex_words_damaged(words, start < end ? start : list->blocks);
}

vex_status vex_words_block(const vex_word_list *list, uint32_t b, vex_block *out) {
    const uint32_t left = list->n - b * VEX_BLOCK_ROWS;
    out->n = left < VEX_BLOCK_ROWS ? left : VEX_BLOCK_ROWS;
    if (list->postings == NULL && list->n > 1) {
        return read_block(list, b, out);
    }
    const vex_word_posting *from =
        list->postings ? list->postings + (size_t)b * VEX_BLOCK_ROWS : &list->only;
    for (uint32_t i = 0; i < out->n; i++) {
        out->rows[i] = from[i].row;
        out->values[i] = from[i].times;
    }
    out->packed = NULL;
    return VEX_OK;
}
