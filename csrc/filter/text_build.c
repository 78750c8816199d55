/*
 * text_build.c - making the text index from documents (layout in text_index.h).
 *
 * Every document is taken apart once: its terms, each once, are numbered and noted.  The notes,
 * which are in the order of the rows, are then put in the order of the terms by counting.  That
 * takes 8 bytes for every note and 24 for every term: a few times the documents' bytes, while it
 * lasts.
 */
#include "filter/text_format.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/hash.h"

#include "base/poison.h"

#define SLOTS_MIN 1024u
/* A document with more windows in long runs is not taken apart: base64, sequences of genes. */
#define WINDOWS_MAX 1024u

typedef struct term {
    const uint8_t *bytes; /* in the first document that has it */
    uint32_t hash;
    uint32_t n_rows;
    uint32_t last_row; /* + 1 */
    uint8_t len;
} term;

typedef struct text_builder {
    term *terms;
    size_t n_terms, terms_capacity;
    uint32_t *slots; /* open addressing: term number + 1 */
    size_t n_slots;
    uint32_t *notes; /* terms of the rows, row after row */
    size_t n_notes, notes_capacity;
    size_t *note_ends; /* of each row */
    vex_buf unread;
    uint32_t n_unread;
} text_builder;

static vex_status no_memory(void) {
    return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a text index");
}

/* ---- terms ---- */

static vex_status grow_slots(text_builder *builder) {
    size_t n_slots = builder->n_slots ? builder->n_slots * 2 : SLOTS_MIN;
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

static vex_status find_term(text_builder *builder, const uint8_t *bytes, size_t len,
                            uint32_t *number) {
    if (2 * (builder->n_terms + 1) > builder->n_slots) {
        VEX_TRY(grow_slots(builder));
    }
    const uint32_t hash = (uint32_t)vex_hash64(bytes, len);
    size_t at = hash & (builder->n_slots - 1);
    for (; builder->slots[at] != 0; at = (at + 1) & (builder->n_slots - 1)) {
        const term *known = &builder->terms[builder->slots[at] - 1];
        if (known->hash == hash && known->len == len && memcmp(known->bytes, bytes, len) == 0) {
            *number = builder->slots[at] - 1;
            return VEX_OK;
        }
    }
    if (builder->n_terms >= UINT32_MAX / 2) {
        return VEX_FAIL(VEX_ERR_TOO_BIG, "more terms than a text index can hold");
    }
    VEX_TRY(vex_grow((void **)&builder->terms, &builder->terms_capacity, builder->n_terms + 1,
                     sizeof *builder->terms));
    builder->terms[builder->n_terms] = (term){.bytes = bytes, .hash = hash, .len = (uint8_t)len};
    *number = (uint32_t)builder->n_terms++;
    builder->slots[at] = *number + 1;
    return VEX_OK;
}

/* ---- documents ---- */

static bool has_many_windows(const uint8_t *text, size_t len) {
    size_t windows = 0;
    if (len <= (size_t)WINDOWS_MAX * VEX_TERM_STEP) {
        return false;
    }
    for (size_t at = 0; at < len && windows <= WINDOWS_MAX;) {
        vex_text_run run = vex_text_run_next(text, len, &at);
        if (run.class != VEX_CHAR_SINGLE && run.len > VEX_TERM_BYTES_MAX) {
            windows += run.len / VEX_TERM_STEP;
        }
    }
    return windows > WINDOWS_MAX;
}

static vex_status note(text_builder *builder, uint32_t row, const uint8_t *bytes, size_t len) {
    uint32_t number = 0;
    VEX_TRY(find_term(builder, bytes, len, &number));
    term *found = &builder->terms[number];
    if (found->last_row == row + 1) {
        return VEX_OK;
    }
    found->last_row = row + 1;
    found->n_rows++;
    VEX_TRY(vex_grow((void **)&builder->notes, &builder->notes_capacity, builder->n_notes + 1,
                     sizeof *builder->notes));
    builder->notes[builder->n_notes++] = number;
    return VEX_OK;
}

static vex_status add_document(text_builder *builder, uint32_t row, const uint8_t *text,
                               size_t len) {
    if (has_many_windows(text, len)) {
        uint8_t number[4];
        vex_put32(number, row);
        builder->n_unread++;
        return vex_buf_append(&builder->unread, number, sizeof number);
    }
    for (size_t at = 0; at < len;) {
        vex_text_run run = vex_text_run_next(text, len, &at);
        for (size_t in_run = 0; in_run < run.len;) {
            const uint8_t *bytes = run.bytes + in_run;
            VEX_TRY(note(builder, row, bytes, vex_text_term_next(&run, &in_run)));
        }
    }
    return VEX_OK;
}

/* ---- order ---- */

static int compare_terms(const void *a, const void *b) {
    const term *x = *(term *const *)a, *y = *(term *const *)b;
    int order = memcmp(x->bytes, y->bytes, x->len < y->len ? x->len : y->len);
    return order != 0 ? order : (int)x->len - (int)y->len;
}

/* The rows of every term: those of term t end at ends[t], and begin where those of t - 1 end. */
static vex_status rows_by_term(const text_builder *builder, uint32_t n_rows, uint32_t **rows,
                               size_t **ends) {
    *rows = vex_malloc((builder->n_notes + 1) * sizeof **rows);
    *ends = vex_malloc((builder->n_terms + 1) * sizeof **ends);
    if (*rows == NULL || *ends == NULL) {
        return no_memory();
    }
    size_t begin = 0;
    for (size_t t = 0; t < builder->n_terms; t++) {
        (*ends)[t] = begin;
        begin += builder->terms[t].n_rows;
    }
    size_t at = 0;
    for (uint32_t row = 0; row < n_rows; row++) {
        for (; at < builder->note_ends[row]; at++) {
            (*rows)[(*ends)[builder->notes[at]]++] = row;
        }
    }
    return VEX_OK;
}

/* ---- writing ---- */

static size_t put_number(uint8_t *out, uint64_t number) {
    size_t n = 0;
    for (; number >= 0x80; number >>= 7) {
        out[n++] = (uint8_t)number | 0x80;
    }
    out[n++] = (uint8_t)number;
    return n;
}

static vex_status append_number(vex_buf *out, uint64_t number) {
    uint8_t bytes[10];
    return vex_buf_append(out, bytes, put_number(bytes, number));
}

static vex_status put_bitmap(vex_buf *out, const uint32_t *rows, uint32_t n, size_t bytes) {
    VEX_TRY(append_number(out, 1));
    size_t start = out->len;
    VEX_TRY(vex_buf_append_zeros(out, bytes));
    for (uint32_t i = 0; i < n; i++) {
        out->data[start + rows[i] / 8] |= (uint8_t)(1u << rows[i] % 8);
    }
    return VEX_OK;
}

static vex_status put_rows(vex_buf *out, vex_buf *scratch, const uint32_t *rows, uint32_t n,
                           uint32_t n_rows) {
    const size_t bitmap_bytes = ((size_t)n_rows + 7) / 8;
    if (n == 1) {
        return append_number(out, (uint64_t)rows[0] * 2);
    }
    if (n > bitmap_bytes) {
        return put_bitmap(out, rows, n, bitmap_bytes);
    }
    scratch->len = 0;
    VEX_TRY(vex_buf_reserve(scratch, (size_t)n * 5));
    uint32_t next = 0;
    for (uint32_t i = 0; i < n; i++) {
        scratch->len += put_number(scratch->data + scratch->len, rows[i] - next);
        next = rows[i] + 1;
    }
    if (scratch->len > bitmap_bytes) {
        return put_bitmap(out, rows, n, bitmap_bytes);
    }
    VEX_TRY(append_number(out, (uint64_t)scratch->len * 2 + 1));
    return vex_buf_append(out, scratch->data, scratch->len);
}

typedef struct text_parts {
    vex_buf groups, terms, postings, scratch;
    term **order;
    uint32_t *rows;
    size_t *ends;
} text_parts;

static void clear_parts(text_parts *parts) {
    vex_buf_clear(&parts->groups);
    vex_buf_clear(&parts->terms);
    vex_buf_clear(&parts->postings);
    vex_buf_clear(&parts->scratch);
    vex_free(parts->order);
    vex_free(parts->rows);
    vex_free(parts->ends);
}

static vex_status make_parts(const text_builder *builder, uint32_t n_rows, text_parts *parts) {
    VEX_TRY(rows_by_term(builder, n_rows, &parts->rows, &parts->ends));
    parts->order = vex_malloc((builder->n_terms + 1) * sizeof *parts->order);
    if (parts->order == NULL) {
        return no_memory();
    }
    for (size_t t = 0; t < builder->n_terms; t++) {
        parts->order[t] = &builder->terms[t];
    }
    qsort(parts->order, builder->n_terms, sizeof *parts->order, compare_terms);
    for (size_t i = 0; i < builder->n_terms; i++) {
        const term *next = parts->order[i];
        if (i % VEX_TEXT_GROUP_TERMS == 0) {
            uint8_t group[VEX_TEXT_GROUP_BYTES];
            vex_put32(group, (uint32_t)parts->terms.len);
            vex_put32(group + 4, (uint32_t)parts->postings.len);
            VEX_TRY(vex_buf_append(&parts->groups, group, sizeof group));
        }
        VEX_TRY(vex_buf_append(&parts->terms, &next->len, 1));
        VEX_TRY(vex_buf_append(&parts->terms, next->bytes, next->len));
        const size_t end = parts->ends[next - builder->terms];
        VEX_TRY(put_rows(&parts->postings, &parts->scratch, parts->rows + end - next->n_rows,
                         next->n_rows, n_rows));
        if (parts->terms.len > UINT32_MAX || parts->postings.len > UINT32_MAX) {
            return VEX_FAIL(VEX_ERR_TOO_BIG, "a text index passes 4 GiB");
        }
    }
    return VEX_OK;
}

static vex_status write_section(const text_builder *builder, uint32_t n_rows,
                                const text_parts *parts, vex_buf *out) {
    VEX_TRY(vex_buf_append_zeros(out, VEX_TEXT_HEADER_BYTES));
    VEX_TRY(vex_buf_append(out, parts->groups.data, parts->groups.len));
    VEX_TRY(vex_buf_append(out, builder->unread.data, builder->unread.len));
    VEX_TRY(vex_buf_append(out, parts->terms.data, parts->terms.len));
    VEX_TRY(vex_buf_append(out, parts->postings.data, parts->postings.len));
    uint8_t *header = out->data;
    vex_put32(header, VEX_TEXT_MAGIC);
    vex_put32(header + 4, n_rows);
    vex_put32(header + 8, (uint32_t)builder->n_terms);
    vex_put32(header + 12, builder->n_unread);
    vex_put32(header + 16, (uint32_t)parts->terms.len);
    vex_put32(header + 20, (uint32_t)parts->postings.len);
    vex_put32(header + 24,
              vex_crc32c(0, header + VEX_TEXT_HEADER_BYTES, out->len - VEX_TEXT_HEADER_BYTES));
    vex_put32(header + VEX_TEXT_HEADER_CRC, vex_crc32c(0, header, VEX_TEXT_HEADER_CRC));
    return VEX_OK;
}

static vex_status add_documents(text_builder *builder, const vex_payload *rows, uint32_t n) {
    builder->note_ends = vex_calloc((size_t)n + 1, sizeof *builder->note_ends);
    if (builder->note_ends == NULL) {
        return no_memory();
    }
    for (uint32_t row = 0; row < n; row++) {
        if (rows[row].document != NULL) {
            VEX_TRY(add_document(builder, row, rows[row].document, rows[row].document_len));
        }
        builder->note_ends[row] = builder->n_notes;
    }
    return VEX_OK;
}

/* No section when there is little to read, or when the index would be larger than the documents. */
vex_status vex_text_build(const vex_payload *rows, uint32_t n, vex_buf *out) {
    text_builder builder = {0};
    text_parts parts = {0};
    uint64_t document_bytes = 0;
    for (uint32_t row = 0; row < n; row++) {
        document_bytes += rows[row].document ? rows[row].document_len : 0;
    }
    if (document_bytes < VEX_TEXT_DOCUMENTS_MIN) {
        return VEX_OK;
    }
    vex_status status = add_documents(&builder, rows, n);
    if (status == VEX_OK) {
        status = make_parts(&builder, n, &parts);
    }
    if (status == VEX_OK && builder.n_terms > 0 &&
        parts.groups.len + parts.terms.len + parts.postings.len < document_bytes) {
        status = write_section(&builder, n, &parts, out);
    }
    clear_parts(&parts);
    vex_free(builder.terms);
    vex_free(builder.slots);
    vex_free(builder.notes);
    vex_free(builder.note_ends);
    vex_buf_clear(&builder.unread);
    return status == VEX_ERR_TOO_BIG ? VEX_OK : status; /* no section */
}
