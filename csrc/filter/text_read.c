/*
 * text_read.c - opening the text index and looking for needles in it (layout in text_index.h).
 *
 * Opening checks the header; the rest is checked as a whole before the first needle is looked
 * for, so that opening a file does not read it.  Bytes with a right checksum are still not
 * trusted as sizes or offsets.
 */
#include "filter/text_format.h"

#include "base/bits.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "filter/expr.h"

#include <stdatomic.h>

#include "base/poison.h"

/* Conditions that one needle is looked for by: of a longer one the first so many. */
#define CONDITIONS_MAX 16

/* Found at the first use; damage stays found. */
typedef enum index_health { INDEX_UNKNOWN, INDEX_GOOD, INDEX_BAD } index_health;

struct vex_text_index {
    uint32_t n_rows, n_terms, n_groups, n_unread;
    uint32_t terms_len, postings_len, crc;
    const uint8_t *groups, *unread, *terms, *postings;
    size_t body_len;
    const char *path; /* for errors; the file's, borrowed like the bytes */
    uint64_t offset;
    atomic_uchar health; /* an index_health */
};

/* ---- opening ---- */

static vex_status damaged(const char *path, uint64_t offset) {
    return VEX_FAIL_AT(VEX_ERR_CORRUPT, path, offset, 0, "the text index is damaged");
}

static void unload_index(void *state) {
    vex_free(state);
}

static vex_status load_index(const uint8_t *data, size_t len, uint32_t rows, const char *path,
                             uint64_t offset, void **state) {
    if (len < VEX_TEXT_HEADER_BYTES || vex_get32(data) != VEX_TEXT_MAGIC ||
        vex_get32(data + VEX_TEXT_HEADER_CRC) != vex_crc32c(0, data, VEX_TEXT_HEADER_CRC) ||
        vex_get32(data + 4) != rows) {
        return damaged(path, offset);
    }
    vex_text_index index = {
        .n_rows = rows,
        .n_terms = vex_get32(data + 8),
        .n_unread = vex_get32(data + 12),
        .terms_len = vex_get32(data + 16),
        .postings_len = vex_get32(data + 20),
        .crc = vex_get32(data + 24),
        .groups = data + VEX_TEXT_HEADER_BYTES,
        .path = path,
        .offset = offset,
    };
    index.n_groups =
        index.n_terms / VEX_TEXT_GROUP_TERMS + (index.n_terms % VEX_TEXT_GROUP_TERMS != 0);
    const uint64_t groups_len = (uint64_t)index.n_groups * VEX_TEXT_GROUP_BYTES;
    const uint64_t unread_len = (uint64_t)index.n_unread * 4;
    const uint64_t body_len = groups_len + unread_len + index.terms_len + index.postings_len;
    if (body_len > len - VEX_TEXT_HEADER_BYTES || index.n_terms == 0) {
        return damaged(path, offset);
    }
    index.body_len = (size_t)body_len;
    index.unread = index.groups + groups_len;
    index.terms = index.unread + unread_len;
    index.postings = index.terms + index.terms_len;
    vex_text_index *opened = vex_malloc(sizeof *opened);
    if (opened == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a text index");
    }
    memcpy(opened, &index, sizeof index);
    *state = opened;
    return VEX_OK;
}

const vex_section_plugin *vex_text_plugin(void) {
    static const vex_section_plugin plugin = {VEX_SECTION_TEXT, vex_text_build, load_index,
                                              unload_index};
    return &plugin;
}

const vex_text_index *vex_text_index_of(const vex_payfile *file) {
    return vex_payfile_plugin(file, VEX_SECTION_TEXT);
}

static atomic_uchar *health_of(const vex_text_index *index) {
    return (atomic_uchar *)(uintptr_t)&index->health; /* a cache */
}

static vex_status damaged_at(const vex_text_index *index, const uint8_t *where) {
    if (atomic_exchange(health_of(index), INDEX_BAD) != INDEX_BAD) {
        vex_stat_add(VEX_STAT_DAMAGED_PARTS, 1);
    }
    return damaged(index->path,
                   index->offset + VEX_TEXT_HEADER_BYTES + (uint64_t)(where - index->groups));
}

/* Two threads may both do it the first time; the bytes do not change, so no order is needed. */
static vex_status verify(const vex_text_index *index) {
    unsigned char health = atomic_load_explicit(health_of(index), memory_order_relaxed);
    if (health == INDEX_UNKNOWN && vex_crc32c(0, index->groups, index->body_len) == index->crc) {
        health = INDEX_GOOD;
        atomic_store_explicit(health_of(index), health, memory_order_relaxed);
    }
    return health == INDEX_GOOD ? VEX_OK : damaged_at(index, index->groups);
}

/* ---- rows of a term ---- */

static bool get_number(const uint8_t **at, const uint8_t *end, uint64_t *number) {
    uint64_t value = 0;
    const uint8_t *p = *at;
    for (unsigned shift = 0; p < end && shift < 63; shift += 7) {
        const uint8_t byte = *p++;
        value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) {
            *at = p;
            *number = value;
            return true;
        }
    }
    return false;
}

static size_t bitmap_bytes(const vex_text_index *index) {
    return ((size_t)index->n_rows + 7) / 8;
}

/* Step over the rows at *at, and set them in `rows` when it is given. */
static bool read_rows(const vex_text_index *index, const uint8_t **at, uint64_t *rows) {
    const uint8_t *end = index->postings + index->postings_len;
    uint64_t head = 0;
    if (!get_number(at, end, &head)) {
        return false;
    }
    if (head % 2 == 0) {
        if (rows != NULL && head / 2 < index->n_rows) {
            vex_bit_set(rows, (size_t)(head / 2));
        }
        return head / 2 < index->n_rows;
    }
    const bool is_bitmap = head == 1;
    const uint64_t len = is_bitmap ? bitmap_bytes(index) : head / 2;
    if (len > (uint64_t)(end - *at)) {
        return false;
    }
    const uint8_t *p = *at;
    *at = end = p + len;
    if (rows == NULL) {
        return true;
    }
    if (is_bitmap) {
        const size_t whole = (size_t)len / 8, rest = (size_t)len % 8;
        for (size_t i = 0; i < whole; i++) {
            rows[i] |= vex_get64(p + i * 8);
        }
        for (size_t i = 0; i < rest; i++) {
            rows[whole] |= (uint64_t)p[whole * 8 + i] << (8 * i);
        }
        return true;
    }
    for (uint64_t next = 0; p < end;) {
        uint64_t gap = *p;
        if (gap < 0x80) {
            p++;
        } else if (!get_number(&p, end, &gap)) {
            return false;
        }
        next += gap;
        if (next >= index->n_rows) {
            return false;
        }
        vex_bit_set(rows, (size_t)next++);
    }
    return true;
}

/* ---- terms ---- */

static uint32_t group_terms_at(const vex_text_index *index, uint32_t group) {
    return vex_get32(index->groups + (size_t)group * VEX_TEXT_GROUP_BYTES);
}

static uint32_t group_rows_at(const vex_text_index *index, uint32_t group) {
    return vex_get32(index->groups + (size_t)group * VEX_TEXT_GROUP_BYTES + 4);
}

/* A place in the terms that only moves ahead, and one in the postings that follows it when the
 * rows of a term are wanted. */
typedef struct walker {
    const vex_text_index *index;
    uint32_t group, in_group; /* the term */
    uint32_t at;              /* of its length byte; terms_len at the end */
    uint32_t rows_group, rows_in_group;
    const uint8_t *rows_at; /* of the rows of that term; NULL at first */
} walker;

static const uint8_t *term_of(const walker *w, size_t *len) {
    *len = w->index->terms[w->at];
    return w->index->terms + w->at + 1;
}

/* False at a length that cannot be. */
static bool is_term(const walker *w) {
    const vex_text_index *index = w->index;
    return w->at < index->terms_len && index->terms[w->at] > 0 &&
           index->terms[w->at] <= VEX_TERM_BYTES_MAX &&
           index->terms[w->at] < index->terms_len - w->at;
}

static void to_group(walker *w, uint32_t group) {
    w->group = group;
    w->in_group = 0;
    w->at = group_terms_at(w->index, group);
}

static void to_next(walker *w) {
    w->at += 1u + w->index->terms[w->at];
    if (++w->in_group == VEX_TEXT_GROUP_TERMS) {
        w->in_group = 0;
        w->group++;
    }
}

static vex_status add_rows(walker *w, uint64_t *rows) {
    const vex_text_index *index = w->index;
    if (w->group >= index->n_groups) {
        return damaged_at(index, index->terms + w->at);
    }
    if (w->rows_at == NULL || w->rows_group != w->group) {
        const uint32_t start = group_rows_at(index, w->group);
        if (start > index->postings_len) {
            return damaged_at(index, index->groups + (size_t)w->group * VEX_TEXT_GROUP_BYTES);
        }
        w->rows_at = index->postings + start;
        w->rows_group = w->group;
        w->rows_in_group = 0;
    }
    for (; w->rows_in_group <= w->in_group; w->rows_in_group++) {
        if (!read_rows(index, &w->rows_at, w->rows_in_group == w->in_group ? rows : NULL)) {
            return damaged_at(index, w->rows_at);
        }
    }
    return VEX_OK;
}

/* Move to the term that byte `place` of the terms belongs to. */
static bool walk_to(walker *w, size_t place) {
    uint32_t group = w->group;
    while (group + 1 < w->index->n_groups && group_terms_at(w->index, group + 1) <= place) {
        group++;
    }
    if (group != w->group) {
        to_group(w, group);
    }
    while (is_term(w) && w->at <= place) {
        if (place - w->at <= w->index->terms[w->at]) {
            return true;
        }
        to_next(w);
    }
    return false;
}

/* ---- terms like a piece of the needle ---- */

typedef enum piece_place { ANYWHERE, AT_END, AT_START, WHOLE } piece_place;

typedef struct condition {
    const uint8_t *bytes;
    size_t len;
    piece_place place;
} condition;

static bool fits(const condition *c, const uint8_t *term, size_t len) {
    if (len < c->len || (c->place == WHOLE && len != c->len)) {
        return false;
    }
    return memcmp(c->place == AT_END ? term + len - c->len : term, c->bytes, c->len) == 0;
}

/* Go through all terms at once: a hit that lies in one term is a term that contains the piece. */
static vex_status scan_terms(const vex_text_index *index, const condition *c, uint64_t *rows) {
    walker w = {.index = index};
    size_t from = 0;
    to_group(&w, 0);
    for (;;) {
        size_t hit = vex_text_find(index->terms, index->terms_len, from, c->bytes, c->len);
        if (hit == SIZE_MAX) {
            return VEX_OK;
        }
        if (!walk_to(&w, hit)) {
            return damaged_at(index, index->terms + hit);
        }
        size_t len;
        const uint8_t *term = term_of(&w, &len);
        const size_t start = w.at + 1u;
        from = hit + 1;
        if (hit >= start && hit + c->len <= start + len) {
            from = start + len;
            if (c->place == ANYWHERE || fits(c, term, len)) {
                VEX_TRY(add_rows(&w, rows));
            }
        }
    }
}

static int compare_bytes(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len) {
    int order = memcmp(a, b, a_len < b_len ? a_len : b_len);
    return order != 0 ? order : (a_len < b_len ? -1 : a_len > b_len);
}

/* Terms that begin with the piece follow each other. */
static vex_status seek_terms(const vex_text_index *index, const condition *c, uint64_t *rows) {
    walker w = {.index = index};
    uint32_t low = 0, high = index->n_groups; /* groups before `low` begin below the piece */
    size_t len;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        to_group(&w, middle);
        if (!is_term(&w)) {
            return damaged_at(index, index->groups + (size_t)middle * VEX_TEXT_GROUP_BYTES);
        }
        const uint8_t *term = term_of(&w, &len);
        if (compare_bytes(term, len, c->bytes, c->len) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    to_group(&w, low > 0 ? low - 1 : 0);
    for (; w.at < index->terms_len; to_next(&w)) {
        if (!is_term(&w)) {
            return damaged_at(index, index->terms + (w.at < index->terms_len ? w.at : 0));
        }
        const uint8_t *term = term_of(&w, &len);
        if (fits(c, term, len)) {
            VEX_TRY(add_rows(&w, rows));
        } else if (compare_bytes(term, len, c->bytes, c->len) > 0) {
            break;
        }
    }
    return VEX_OK;
}

static vex_status find_terms(const vex_text_index *index, const condition *c, uint64_t *rows) {
    memset(rows, 0, vex_bit_words(index->n_rows) * sizeof *rows);
    return c->place == AT_START || c->place == WHOLE ? seek_terms(index, c, rows)
                                                     : scan_terms(index, c, rows);
}

/* ---- needles ---- */

typedef struct conditions {
    condition list[CONDITIONS_MAX];
    uint32_t n;
    bool exact; /* they hold only for documents that contain the needle */
} conditions;

static void add_condition(conditions *out, const uint8_t *bytes, size_t len, piece_place place) {
    if (out->n < CONDITIONS_MAX) {
        out->list[out->n++] = (condition){bytes, len, place};
    }
}

static void add_run(conditions *out, const vex_text_run *run, bool is_first, bool is_last) {
    const uint8_t *bytes = run->bytes, *end = run->bytes + run->len;
    const size_t len = run->len < VEX_TERM_STEP ? run->len : VEX_TERM_STEP;
    if (run->class == VEX_CHAR_SINGLE) {
        for (size_t at = 0; at < run->len;) {
            const size_t start = at, term_len = vex_text_term_next(run, &at);
            add_condition(out, bytes + start, term_len, ANYWHERE);
        }
    } else if (is_first && is_last) {
        add_condition(out, bytes, len, ANYWHERE);
        if (run->len > len) {
            add_condition(out, end - len, len, ANYWHERE);
        }
    } else if (is_first) {
        add_condition(out, end - len, len, AT_END);
    } else if (is_last || run->len > VEX_TERM_BYTES_MAX) {
        add_condition(out, bytes, len, AT_START);
    } else {
        add_condition(out, bytes, run->len, WHOLE);
    }
}

/* A letter or a space at an edge, or a space between: so many documents have it that the rows of
 * its terms take longer to go through than they save. */
static bool is_weak(const condition *c) {
    return c->place != ANYWHERE && c->len == 1 &&
           (c->bytes[0] == ' ' || c->bytes[0] == '_' || (uint8_t)(c->bytes[0] - '0') < 10 ||
            (uint8_t)((c->bytes[0] | 0x20) - 'a') < 26);
}

static void drop_weak(conditions *wanted) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < wanted->n; i++) {
        if (!is_weak(&wanted->list[i])) {
            wanted->list[n++] = wanted->list[i];
        }
    }
    wanted->n = n;
}

/* No conditions for a needle that the terms cannot help with: not whole characters, or weak ones
 * only. */
static void take_apart(const uint8_t *needle, size_t len, conditions *out) {
    *out = (conditions){0};
    for (size_t at = 0; at < len;) {
        const bool is_first = at == 0;
        const vex_text_run run = vex_text_run_next(needle, len, &at);
        if (run.damaged) {
            out->n = 0;
            return;
        }
        add_run(out, &run, is_first, at == len);
        out->exact = is_first && at == len && out->n == 1;
    }
    drop_weak(out);
}

/* Narrow `maybe` by each condition, which `find` gives the rows of. */
typedef vex_status (*find_rows)(const vex_text_index *index, const void *wanted, uint32_t i,
                                uint64_t *rows);

static vex_status meet_conditions(const vex_text_index *index, find_rows find, const void *wanted,
                                  uint32_t n, uint64_t *maybe) {
    const size_t n_words = vex_bit_words(index->n_rows);
    VEX_TRY(find(index, wanted, 0, maybe));
    if (n == 1) {
        return VEX_OK;
    }
    uint64_t *rows = vex_calloc(n_words + 1, sizeof *rows);
    if (rows == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to evaluate a filter");
    }
    vex_status status = VEX_OK;
    bool any = true;
    for (uint32_t i = 1; i < n && any && status == VEX_OK; i++) {
        status = find(index, wanted, i, rows);
        any = false;
        for (size_t at = 0; at < n_words; at++) {
            maybe[at] &= rows[at];
            any |= maybe[at] != 0;
        }
    }
    vex_free(rows);
    return status;
}

/* Rows that meet all n conditions (none: all rows), and those that the index does not have. */
static vex_status find_documents(const vex_text_index *index, find_rows find, const void *wanted,
                                 uint32_t n, bool exact, uint64_t *sure, uint64_t *maybe) {
    const size_t n_words = vex_bit_words(index->n_rows);
    VEX_TRY(verify(index));
    memset(sure, 0, n_words * sizeof *sure);
    if (n == 0) {
        vex_bits_fill(maybe, index->n_rows);
        return VEX_OK;
    }
    VEX_TRY(meet_conditions(index, find, wanted, n, maybe));
    if (exact) {
        memcpy(sure, maybe, n_words * sizeof *sure);
    }
    for (uint32_t i = 0; i < index->n_unread; i++) {
        const uint32_t row = vex_get32(index->unread + (size_t)i * 4);
        if (row >= index->n_rows) {
            return damaged_at(index, index->unread + (size_t)i * 4);
        }
        vex_bit_set(maybe, row);
    }
    return VEX_OK;
}

static vex_status find_condition(const vex_text_index *index, const void *wanted, uint32_t i,
                                 uint64_t *rows) {
    return find_terms(index, &((const conditions *)wanted)->list[i], rows);
}

vex_status vex_text_index_find(const vex_text_index *index, const uint8_t *needle, size_t len,
                               uint64_t *sure, uint64_t *maybe) {
    conditions wanted;
    take_apart(needle, len, &wanted);
    return find_documents(index, find_condition, &wanted, wanted.n, wanted.exact, sure, maybe);
}

/* ---- needles whose case does not count ---- */

/* Folding keeps the class of every character but four: the Kelvin, Angstrom, ohm and micro signs
 * become letters.  So a piece of the needle that is within a run of letters, and has none of what
 * those become, is within one run wherever it occurs.  No other character folds to less than half
 * its bytes, so a piece of 14 bytes comes from at most 32 (of the characters at its edges it may
 * have one byte of three), which lie in one term. */
#define PIECES_MAX 4
#define PIECE_BYTES_MAX 14u

typedef struct pieces {
    vex_needle list[PIECES_MAX];
    uint32_t next[PIECES_MAX][PIECE_BYTES_MAX];
    uint32_t n;
} pieces;

static bool folds_from_sign(const uint8_t *text, size_t char_len) {
    const uint32_t code = vex_char_code(text, char_len);
    return code == 'k' || code == 0xE5 || code == 0x3C9 || code == 0x3BC;
}

/* One byte alone is in too many documents. */
static void add_piece(pieces *out, const uint8_t *bytes, size_t len) {
    if (len > 1 && out->n < PIECES_MAX) {
        vex_needle_prepare(bytes, (uint32_t)len, out->next[out->n], &out->list[out->n]);
        out->n++;
    }
}

static void add_pieces(pieces *out, const vex_text_run *run) {
    size_t start = 0, at = 0;
    while (at < run->len) {
        const size_t n = vex_char_len(run->bytes + at, run->len - at);
        const bool is_sign = folds_from_sign(run->bytes + at, n);
        if (is_sign || at + n - start > PIECE_BYTES_MAX) {
            add_piece(out, run->bytes + start, at - start);
            start = is_sign ? at + n : at;
        }
        at += n;
    }
    add_piece(out, run->bytes + start, at - start);
}

/* Terms that contain the piece. */
static vex_status find_piece(const vex_text_index *index, const void *wanted, uint32_t i,
                             uint64_t *rows) {
    const vex_needle *piece = &((const pieces *)wanted)->list[i];
    walker w = {.index = index};
    memset(rows, 0, vex_bit_words(index->n_rows) * sizeof *rows);
    for (to_group(&w, 0); w.at < index->terms_len; to_next(&w)) {
        size_t len;
        if (!is_term(&w)) {
            return damaged_at(index, index->terms + w.at);
        }
        const uint8_t *term = term_of(&w, &len);
        if (vex_needle_in(piece, term, len)) {
            VEX_TRY(add_rows(&w, rows));
        }
    }
    return VEX_OK;
}

vex_status vex_text_index_find_folded(const vex_text_index *index, const vex_needle *needle,
                                      uint64_t *sure, uint64_t *maybe) {
    pieces wanted = {.n = 0};
    for (size_t at = 0; at < needle->len;) {
        const vex_text_run run = vex_text_run_next(needle->bytes, needle->len, &at);
        if (run.class == VEX_CHAR_WORD && !run.damaged) {
            add_pieces(&wanted, &run);
        }
    }
    const bool exact = wanted.n == 1 && wanted.list[0].len == needle->len;
    return find_documents(index, find_piece, &wanted, wanted.n, exact, sure, maybe);
}
