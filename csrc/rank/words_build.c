/*
 * words_build.c - making the section of words (layout in words.h).
 *
 * Every document is taken apart once: its words are numbered and noted with how often they come.
 * The notes, which are in the order of the rows, are then put in the order of the terms by counting.
 */
#include "rank/words.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/hash.h"
#include "rank/tokens.h"

#include "base/poison.h"

#define SLOTS_MIN 1024u
#define TERMS_PER_BUCKET 8u
#define ARENA_BYTES ((size_t)256 << 10)

typedef struct term {
    uint64_t hash;
    const uint8_t *bytes;
    uint32_t n_rows, last_row; /* last_row + 1 */
    size_t note;               /* of last_row */
    uint8_t len;
} term;

typedef struct note {
    uint32_t term, times;
} note;

typedef struct row_notes {
    uint32_t row, length;
    size_t end;
} row_notes;

struct vex_words_builder {
    vex_arena *arena;
    term *terms;
    size_t n_terms, terms_capacity;
    uint32_t *slots; /* open addressing: term number + 1 */
    size_t n_slots;
    note *notes;
    size_t n_notes, notes_capacity;
    row_notes *rows;
    size_t n_rows, rows_capacity;
    uint64_t n_tokens;
};

static vex_status no_memory(void) {
    return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for an index of words");
}

static vex_status too_big(void) {
    return VEX_FAIL(VEX_ERR_TOO_BIG, "an index of words passes 4 GiB");
}

/* ---- notes ---- */

vex_status vex_words_builder_create(vex_words_builder **out) {
    vex_words_builder *builder = vex_calloc(1, sizeof *builder);
    if (builder == NULL) {
        return no_memory();
    }
    vex_status status = vex_arena_create(&builder->arena, ARENA_BYTES);
    if (status != VEX_OK) {
        vex_free(builder);
        return status;
    }
    *out = builder;
    return VEX_OK;
}

void vex_words_builder_destroy(vex_words_builder *builder) {
    if (builder == NULL) {
        return;
    }
    vex_arena_destroy(builder->arena);
    vex_free(builder->terms);
    vex_free(builder->slots);
    vex_free(builder->notes);
    vex_free(builder->rows);
    vex_free(builder);
}

static vex_status grow_slots(vex_words_builder *builder) {
    const size_t n_slots = builder->n_slots ? builder->n_slots * 2 : SLOTS_MIN;
    uint32_t *slots = vex_calloc(n_slots, sizeof *slots);
    if (slots == NULL) {
        return no_memory();
    }
    for (size_t i = 0; i < builder->n_terms; i++) {
        size_t at = builder->terms[i].hash & (n_slots - 1);
        while (slots[at] != 0) {
            at = (at + 1) & (n_slots - 1);
        }
        slots[at] = (uint32_t)i + 1;
    }
    vex_free(builder->slots);
    builder->slots = slots;
    builder->n_slots = n_slots;
    return VEX_OK;
}

static vex_status find_term(vex_words_builder *builder, const uint8_t *bytes, uint32_t len,
                            uint32_t *number) {
    if (2 * (builder->n_terms + 1) > builder->n_slots) {
        VEX_TRY(grow_slots(builder));
    }
    const uint64_t hash = vex_hash64(bytes, len);
    size_t at = hash & (builder->n_slots - 1);
    for (; builder->slots[at] != 0; at = (at + 1) & (builder->n_slots - 1)) {
        const term *known = &builder->terms[builder->slots[at] - 1];
        if (known->hash == hash && known->len == len && memcmp(known->bytes, bytes, len) == 0) {
            *number = builder->slots[at] - 1;
            return VEX_OK;
        }
    }
    if (builder->n_terms >= UINT32_MAX / 2) {
        return too_big();
    }
    VEX_TRY(vex_grow((void **)&builder->terms, &builder->terms_capacity, builder->n_terms + 1,
                     sizeof *builder->terms));
    uint8_t *copy = vex_arena_alloc(builder->arena, len, 1);
    if (copy == NULL) {
        return no_memory();
    }
    memcpy(copy, bytes, len);
    builder->terms[builder->n_terms] = (term){.hash = hash, .bytes = copy, .len = (uint8_t)len};
    *number = (uint32_t)builder->n_terms++;
    builder->slots[at] = *number + 1;
    return VEX_OK;
}

static vex_status take_note(vex_words_builder *builder, uint32_t row, const vex_tokens *tokens) {
    uint32_t number = 0;
    VEX_TRY(find_term(builder, tokens->bytes, tokens->len, &number));
    term *found = &builder->terms[number];
    if (found->last_row == row + 1) {
        builder->notes[found->note].times++;
        return VEX_OK;
    }
    VEX_TRY(vex_grow((void **)&builder->notes, &builder->notes_capacity, builder->n_notes + 1,
                     sizeof *builder->notes));
    builder->notes[builder->n_notes] = (note){number, 1};
    found->last_row = row + 1;
    found->n_rows++;
    found->note = builder->n_notes++;
    return VEX_OK;
}

vex_status vex_words_builder_add(vex_words_builder *builder, uint32_t row, const uint8_t *text,
                                 size_t len) {
    vex_tokens tokens;
    uint32_t length = 0;
    vex_tokens_start(&tokens, text, len);
    while (vex_tokens_next(&tokens)) {
        VEX_TRY(take_note(builder, row, &tokens));
        length += length < UINT32_MAX - 1;
    }
    VEX_TRY(vex_grow((void **)&builder->rows, &builder->rows_capacity, builder->n_rows + 1,
                     sizeof *builder->rows));
    builder->rows[builder->n_rows++] = (row_notes){row, length, builder->n_notes};
    builder->n_tokens += length;
    return VEX_OK;
}

/* ---- order ---- */

typedef struct posting {
    uint32_t row, times, length;
} posting;

typedef struct words_parts {
    vex_buf lengths, buckets, terms, postings, list;
    term **order;
    posting *all; /* term by term in the order they were met */
    size_t *ends;
    uint32_t bits;
    uint32_t length_bytes;
} words_parts;

static void clear_parts(words_parts *parts) {
    vex_buf_clear(&parts->lengths);
    vex_buf_clear(&parts->buckets);
    vex_buf_clear(&parts->terms);
    vex_buf_clear(&parts->postings);
    vex_buf_clear(&parts->list);
    vex_free(parts->order);
    vex_free(parts->all);
    vex_free(parts->ends);
}

static int compare_terms(const void *a, const void *b) {
    const term *x = *(term *const *)a, *y = *(term *const *)b;
    if (x->hash != y->hash) {
        return x->hash < y->hash ? -1 : 1;
    }
    const int order = memcmp(x->bytes, y->bytes, x->len < y->len ? x->len : y->len);
    return order != 0 ? order : (int)x->len - (int)y->len;
}

/* The postings of term t end at ends[t], and begin where those of t - 1 end. */
static vex_status put_in_order(const vex_words_builder *builder, words_parts *parts) {
    parts->all = vex_malloc((builder->n_notes + 1) * sizeof *parts->all);
    parts->ends = vex_malloc((builder->n_terms + 1) * sizeof *parts->ends);
    parts->order = vex_malloc((builder->n_terms + 1) * sizeof *parts->order);
    if (parts->all == NULL || parts->ends == NULL || parts->order == NULL) {
        return no_memory();
    }
    size_t begin = 0;
    for (size_t t = 0; t < builder->n_terms; t++) {
        parts->order[t] = &builder->terms[t];
        parts->ends[t] = begin;
        begin += builder->terms[t].n_rows;
    }
    size_t at = 0;
    for (size_t i = 0; i < builder->n_rows; i++) {
        const row_notes *row = &builder->rows[i];
        for (; at < row->end; at++) {
            const note *n = &builder->notes[at];
            parts->all[parts->ends[n->term]++] = (posting){row->row, n->times, row->length};
        }
    }
    qsort(parts->order, builder->n_terms, sizeof *parts->order, compare_terms);
    return VEX_OK;
}

/* ---- impacts ---- */

uint8_t vex_length_code(uint32_t length) {
    if (length < 128) {
        return (uint8_t)length;
    }
    const uint32_t shift = 28 - (uint32_t)__builtin_clz(length);
    return shift > 19 ? UINT8_MAX : (uint8_t)((shift + 12) * 8 + (length >> shift) % 8);
}

/* Append the pairs that cover all these postings. */
static vex_status put_impacts(vex_buf *out, const posting *list, size_t n) {
    uint32_t shortest[VEX_IMPACT_TIMES_ANY + 1]; /* by times */
    uint8_t pairs[VEX_IMPACT_TIMES_ANY + 1][2];
    uint32_t most = 0, n_pairs = 0;
    memset(shortest, 0xFF, sizeof shortest);
    for (size_t i = 0; i < n; i++) {
        const uint32_t times =
            list[i].times < VEX_IMPACT_TIMES_ANY ? list[i].times : VEX_IMPACT_TIMES_ANY;
        shortest[times] = list[i].length < shortest[times] ? list[i].length : shortest[times];
        most = times > most ? times : most;
    }
    uint32_t least = UINT32_MAX; /* of the pairs with more times */
    for (uint32_t times = most; times > 0; times--) {
        if (shortest[times] < least) {
            least = shortest[times];
            pairs[n_pairs][0] = (uint8_t)times;
            pairs[n_pairs++][1] = vex_length_code(least);
        }
    }
    if (n_pairs > VEX_IMPACTS_MAX) { /* the last covers what is left out */
        pairs[VEX_IMPACTS_MAX - 1][1] = pairs[n_pairs - 1][1];
        n_pairs = VEX_IMPACTS_MAX;
    }
    const uint8_t head = (uint8_t)n_pairs;
    VEX_TRY(vex_buf_append(out, &head, 1));
    for (uint32_t i = n_pairs; i > 0; i--) {
        VEX_TRY(vex_buf_append(out, pairs[i - 1], 2));
    }
    return VEX_OK;
}

/* ---- postings ---- */

static vex_status put_full_block(vex_buf *out, const posting *list, uint32_t next) {
    uint32_t gaps[VEX_BLOCK_ROWS], times[VEX_BLOCK_ROWS];
    for (uint32_t i = 0; i < VEX_BLOCK_ROWS; i++) {
        gaps[i] = list[i].row - next;
        times[i] = list[i].times - 1;
        next = list[i].row + 1;
    }
    const uint32_t width = vex_pack_width(gaps, VEX_BLOCK_ROWS);
    const uint32_t times_width = vex_pack_width(times, VEX_BLOCK_ROWS);
    const uint8_t head[2] = {(uint8_t)width, (uint8_t)times_width};
    VEX_TRY(vex_buf_append(out, head, sizeof head));
    const size_t at = out->len, gap_bytes = vex_packed_bytes(width);
    VEX_TRY(vex_buf_append_zeros(out, gap_bytes + vex_packed_bytes(times_width)));
    vex_pack(gaps, width, out->data + at);
    vex_pack(times, times_width, out->data + at + gap_bytes);
    return VEX_OK;
}

static vex_status put_short_block(vex_buf *out, const posting *list, size_t n, uint32_t next) {
    for (size_t i = 0; i < n; i++) {
        /* rows are below 2^31: twice a gap is a 32-bit number */
        VEX_TRY(vex_leb_append(out, (list[i].row - next) * 2 + (list[i].times > 1)));
        if (list[i].times > 1) {
            VEX_TRY(vex_leb_append(out, list[i].times - 2));
        }
        next = list[i].row + 1;
    }
    return VEX_OK;
}

/* The list of a term with several rows. */
static vex_status put_list(words_parts *parts, const posting *list, size_t n) {
    vex_buf *out = &parts->postings;
    const size_t n_blocks = (n + VEX_BLOCK_ROWS - 1) / VEX_BLOCK_ROWS;
    parts->list.len = 0;
    if (n_blocks > 1) {
        VEX_TRY(put_impacts(out, list, n));
    }
    for (size_t b = 0; b < n_blocks; b++) {
        const posting *block = list + b * VEX_BLOCK_ROWS;
        const size_t left = n - b * VEX_BLOCK_ROWS;
        const size_t in_block = left < VEX_BLOCK_ROWS ? left : VEX_BLOCK_ROWS;
        const uint32_t next = b > 0 ? block[-1].row + 1 : 0;
        if (n_blocks > 1) {
            uint8_t skip[8];
            vex_put32(skip, block[in_block - 1].row);
            vex_put32(skip + 4, (uint32_t)parts->list.len);
            VEX_TRY(vex_buf_append(out, skip, sizeof skip));
        }
        VEX_TRY(put_impacts(&parts->list, block, in_block));
        VEX_TRY(in_block == VEX_BLOCK_ROWS ? put_full_block(&parts->list, block, next)
                                           : put_short_block(&parts->list, block, in_block, next));
    }
    VEX_TRY(vex_buf_append(out, parts->list.data, parts->list.len));
    return out->len > UINT32_MAX ? too_big() : VEX_OK;
}

/* ---- terms and their buckets ---- */

static vex_status put_term(const vex_words_builder *builder, words_parts *parts, const term *t) {
    const posting *list = parts->all + parts->ends[t - builder->terms] - t->n_rows;
    VEX_TRY(vex_buf_append(&parts->terms, &t->len, 1));
    VEX_TRY(vex_buf_append(&parts->terms, t->bytes, t->len));
    VEX_TRY(vex_leb_append(&parts->terms, t->n_rows));
    if (t->n_rows == 1) {
        VEX_TRY(vex_leb_append(&parts->terms, list[0].row));
        return vex_leb_append(&parts->terms, list[0].times);
    }
    VEX_TRY(vex_leb_append(&parts->terms, (uint32_t)parts->postings.len));
    return put_list(parts, list, t->n_rows);
}

static vex_status put_offset(vex_buf *out, size_t offset) {
    uint8_t bytes[4];
    vex_put32(bytes, (uint32_t)offset);
    return vex_buf_append(out, bytes, sizeof bytes);
}

static uint64_t bucket_of(uint64_t hash, uint32_t bits) {
    return bits == 0 ? 0 : hash >> (64 - bits);
}

static vex_status put_terms(const vex_words_builder *builder, words_parts *parts) {
    uint64_t next = 0; /* the first bucket whose begin is not known */
    while (((size_t)TERMS_PER_BUCKET << parts->bits) < builder->n_terms) {
        parts->bits++;
    }
    for (size_t i = 0; i < builder->n_terms; i++) {
        const term *t = parts->order[i];
        for (; next <= bucket_of(t->hash, parts->bits); next++) {
            VEX_TRY(put_offset(&parts->buckets, parts->terms.len));
        }
        VEX_TRY(put_term(builder, parts, t));
        if (parts->terms.len > UINT32_MAX) {
            return too_big();
        }
    }
    for (; next <= (uint64_t)1 << parts->bits; next++) {
        VEX_TRY(put_offset(&parts->buckets, parts->terms.len));
    }
    return VEX_OK;
}

static vex_status put_lengths(const vex_words_builder *builder, uint32_t n_rows,
                              words_parts *parts) {
    uint32_t longest = 0;
    for (size_t i = 0; i < builder->n_rows; i++) {
        longest = builder->rows[i].length > longest ? builder->rows[i].length : longest;
    }
    const uint32_t width = longest < UINT8_MAX ? 1 : longest < UINT16_MAX ? 2 : 4;
    VEX_TRY(vex_buf_append_zeros(&parts->lengths, vex_align_up((uint64_t)n_rows * width, 4)));
    for (size_t i = 0; i < builder->n_rows; i++) {
        uint8_t number[4];
        vex_put32(number, builder->rows[i].length + 1);
        memcpy(parts->lengths.data + (size_t)builder->rows[i].row * width, number, width);
    }
    parts->length_bytes = width;
    return VEX_OK;
}

/* ---- the section ---- */

static vex_status write_section(const vex_words_builder *builder, uint32_t n_rows,
                                const words_parts *parts, vex_buf *out) {
    const size_t start = out->len;
    VEX_TRY(vex_buf_append_zeros(out, VEX_WORDS_HEADER_BYTES));
    VEX_TRY(vex_buf_append(out, parts->lengths.data, parts->lengths.len));
    VEX_TRY(vex_buf_append(out, parts->buckets.data, parts->buckets.len));
    VEX_TRY(vex_buf_append(out, parts->terms.data, parts->terms.len));
    VEX_TRY(vex_buf_append(out, parts->postings.data, parts->postings.len));
    uint8_t *header = out->data + start;
    vex_put32(header, VEX_WORDS_MAGIC);
    vex_put32(header + 4, n_rows);
    vex_put32(header + 8, (uint32_t)builder->n_rows);
    vex_put32(header + 12, (uint32_t)builder->n_terms);
    vex_put64(header + 16, builder->n_tokens);
    vex_put32(header + 24, (uint32_t)parts->terms.len);
    vex_put32(header + 28, (uint32_t)parts->postings.len);
    header[32] = (uint8_t)parts->bits;
    header[33] = (uint8_t)parts->length_bytes;
    vex_put32(header + 36, vex_crc32c(0, header + VEX_WORDS_HEADER_BYTES,
                                      out->len - start - VEX_WORDS_HEADER_BYTES));
    vex_put32(header + VEX_WORDS_HEADER_CRC, vex_crc32c(0, header, VEX_WORDS_HEADER_CRC));
    return VEX_OK;
}

vex_status vex_words_builder_finish(vex_words_builder *builder, uint32_t n_rows, vex_buf *out) {
    words_parts parts = {0};
    vex_status status;
    VEX_TRY_DONE(status, put_in_order(builder, &parts));
    VEX_TRY_DONE(status, put_lengths(builder, n_rows, &parts));
    VEX_TRY_DONE(status, put_terms(builder, &parts));
    status = write_section(builder, n_rows, &parts, out);
done:
    clear_parts(&parts);
    return status;
}
