/*
 * match_text.c - substrings and regular expressions of documents (see match_source.h).
 *
 * The text index answers first, by two bitmaps for every node: rows that match for sure, and rows
 * that may.  They go up through AND, OR and negation, so that in the end only rows between the
 * two have their documents read, each once for all tests.
 */
#include "filter/match_source.h"

#include "base/poison.h"

#define TEXTS_PER_CALL 256 /* documents handed to the regex provider at once */
#define TEXT_BYTES_PER_CALL ((size_t)4 << 20)
#define FEW_ROWS 4 /* are read sooner than a needle is looked for in all terms */

static bool folds_case(const vex_expr *leaf) {
    return leaf->op == VEX_F_DOC_ICONTAINS || leaf->op == VEX_F_DOC_NOT_ICONTAINS;
}

static bool is_opposite(const vex_expr *leaf) {
    return leaf->op == VEX_F_DOC_NOT_CONTAINS || leaf->op == VEX_F_DOC_NOT_REGEX ||
           leaf->op == VEX_F_DOC_NOT_ICONTAINS;
}

/* ---- what the index knows ---- */

typedef struct bounds {
    uint64_t *sure, *maybe; /* sure is within maybe; bits past the last row mean nothing */
} bounds;

static vex_status new_bounds(const vex_row_source *source, bounds *out) {
    *out = (bounds){0};
    VEX_TRY(vex_source_bitmap(source, &out->sure));
    return vex_source_bitmap(source, &out->maybe);
}

static void clear_bounds(bounds *b) {
    vex_free(b->sure);
    vex_free(b->maybe);
    *b = (bounds){0};
}

static void know_nothing(const vex_row_source *source, bounds *b) {
    memset(b->sure, 0, vex_source_words(source) * sizeof *b->sure);
    memset(b->maybe, 0xFF, vex_source_words(source) * sizeof *b->maybe);
}

static void negate(const vex_row_source *source, bounds *b) {
    for (size_t at = 0; at < vex_source_words(source); at++) {
        const uint64_t sure = ~b->maybe[at];
        b->maybe[at] = ~b->sure[at];
        b->sure[at] = sure;
    }
}

static vex_status bounds_of(const vex_row_source *source, const vex_expr *node, bool substrings,
                            bounds *out);

/* `substrings`: only of children that are substring tests. */
static vex_status bounds_of_children(const vex_row_source *source, const vex_expr *node,
                                     bool substrings, bounds *out) {
    bounds child;
    const bool is_and = node->op == VEX_F_AND;
    const size_t n_words = vex_source_words(source);
    vex_status status = new_bounds(source, &child);
    memset(out->sure, is_and ? 0xFF : 0, n_words * sizeof *out->sure);
    memset(out->maybe, is_and ? 0xFF : 0, n_words * sizeof *out->maybe);
    for (uint32_t i = 0; i < node->n_children && status == VEX_OK; i++) {
        if (substrings && !node->children[i]->only_substrings) {
            continue;
        }
        status = bounds_of(source, node->children[i], false, &child);
        for (size_t at = 0; at < n_words; at++) {
            if (is_and) {
                out->sure[at] &= child.sure[at];
                out->maybe[at] &= child.maybe[at];
            } else {
                out->sure[at] |= child.sure[at];
                out->maybe[at] |= child.maybe[at];
            }
        }
    }
    clear_bounds(&child);
    return status;
}

/* A damaged index knows nothing. */
static vex_status bounds_of_text(const vex_row_source *source, const vex_expr *leaf, bounds *out) {
    vex_status status =
        folds_case(leaf)
            ? vex_text_index_find_folded(source->text, &leaf->needle, out->sure, out->maybe)
            : vex_text_index_find(source->text, leaf->operand.bytes, leaf->operand.len, out->sure,
                                  out->maybe);
    if (status == VEX_ERR_CORRUPT) {
        know_nothing(source, out);
        return VEX_OK;
    }
    return status;
}

static vex_status bounds_of(const vex_row_source *source, const vex_expr *node, bool substrings,
                            bounds *out) {
    switch (node->op) {
    case VEX_F_AND:
    case VEX_F_OR:
        return bounds_of_children(source, node, substrings, out);
    case VEX_F_DOC_CONTAINS:
    case VEX_F_DOC_NOT_CONTAINS:
    case VEX_F_DOC_ICONTAINS:
    case VEX_F_DOC_NOT_ICONTAINS:
        VEX_TRY(bounds_of_text(source, node, out));
        break;
    case VEX_F_DOC_REGEX:
    case VEX_F_DOC_NOT_REGEX:
        know_nothing(source, out);
        if (node->n_children == 1) {
            VEX_TRY(bounds_of(source, node->children[0], false, out));
            memset(out->sure, 0, vex_source_words(source) * sizeof *out->sure);
        }
        break;
    default:
        know_nothing(source, out);
        break;
    }
    if (is_opposite(node)) {
        negate(source, out);
    }
    return VEX_OK;
}

/* What is known of the rows of `words`.  `out` is to be cleared in any case. */
static vex_status ask_index(const vex_row_source *source, const vex_expr *node, bool substrings,
                            const uint64_t *words, bounds *out) {
    VEX_TRY(new_bounds(source, out));
    if (source->text == NULL || vex_bits_count(words, vex_source_words(source)) <= FEW_ROWS) {
        know_nothing(source, out);
        return VEX_OK;
    }
    return bounds_of(source, node, substrings, out);
}

vex_status vex_match_narrow(const vex_row_source *source, const vex_expr *node, uint64_t *words) {
    bounds known;
    vex_status status = ask_index(source, node, false, words, &known);
    for (size_t at = 0; at < vex_source_words(source) && status == VEX_OK; at++) {
        words[at] &= known.maybe[at];
    }
    clear_bounds(&known);
    return status;
}

/* ---- what a document says ---- */

static bool document_contains(const vex_expr *leaf, const uint8_t *document, size_t len) {
    return folds_case(leaf)
               ? vex_needle_in(&leaf->needle, document, len)
               : vex_text_contains(document, len, leaf->operand.bytes, leaf->operand.len);
}

/* A node of substring tests only.  The parser bounds its depth. */
static bool document_holds(const vex_expr *node, const uint8_t *document, size_t len) {
    const bool is_and = node->op == VEX_F_AND;
    switch (node->op) {
    case VEX_F_AND:
    case VEX_F_OR:
        for (uint32_t i = 0; i < node->n_children; i++) {
            const vex_expr *child = node->children[i];
            if (child->only_substrings && document_holds(child, document, len) != is_and) {
                return !is_and;
            }
        }
        return is_and;
    default:
        return (document != NULL && document_contains(node, document, len)) != is_opposite(node);
    }
}

vex_status vex_match_substrings(const vex_row_source *source, const vex_expr *node,
                                uint64_t *words) {
    bounds known;
    vex_status status = ask_index(source, node, true, words, &known);
    for (size_t at = 0; at < vex_source_words(source) && status == VEX_OK; at++) {
        words[at] &= known.maybe[at];
        for (uint64_t word = words[at] & ~known.sure[at]; word != 0; word &= word - 1) {
            const uint32_t row = (uint32_t)(at * 64) + (uint32_t)__builtin_ctzll(word);
            vex_payload payload;
            status = vex_source_read(source, row, VEX_PAYLOAD_DOCUMENT, &payload);
            if (status != VEX_OK) {
                break;
            }
            if (!document_holds(node, payload.document, payload.document_len)) {
                vex_bit_clear(words, row);
            }
        }
    }
    clear_bounds(&known);
    return status;
}

/* ---- regular expressions ---- */

/* Documents gathered for one call of the regex provider. */
typedef struct text_batch {
    vex_buf bytes;
    size_t offsets[TEXTS_PER_CALL], lens[TEXTS_PER_CALL];
    uint32_t rows[TEXTS_PER_CALL];
    uint32_t n;
} text_batch;

static vex_status flush_texts(const vex_expr *leaf, text_batch *batch, uint64_t *words) {
    const char *texts[TEXTS_PER_CALL];
    uint8_t hits[TEXTS_PER_CALL];
    if (batch->n == 0) {
        return VEX_OK;
    }
    for (uint32_t i = 0; i < batch->n; i++) {
        texts[i] = (const char *)batch->bytes.data + batch->offsets[i];
    }
    VEX_TRY(vex_regex_match(&leaf->regex, texts, batch->lens, batch->n, hits));
    bool negated = leaf->op == VEX_F_DOC_NOT_REGEX;
    for (uint32_t i = 0; i < batch->n; i++) {
        if ((hits[i] != 0) == negated) {
            vex_bit_clear(words, batch->rows[i]);
        }
    }
    batch->n = 0;
    batch->bytes.len = 0;
    return VEX_OK;
}

/* What the pattern requires (the node's child, if any) is looked for first: it costs a small part
 * of the pattern itself. */
static vex_status add_text(const vex_row_source *source, const vex_expr *leaf, text_batch *batch,
                           uint32_t row, uint64_t *words) {
    vex_payload payload;
    VEX_TRY(vex_source_read(source, row, VEX_PAYLOAD_DOCUMENT, &payload));
    if (payload.document == NULL ||
        (leaf->n_children == 1 &&
         !document_holds(leaf->children[0], payload.document, payload.document_len))) {
        if (leaf->op == VEX_F_DOC_REGEX) {
            vex_bit_clear(words, row);
        }
        return VEX_OK;
    }
    batch->offsets[batch->n] = batch->bytes.len;
    batch->lens[batch->n] = payload.document_len;
    batch->rows[batch->n++] = row;
    VEX_TRY(vex_buf_append(&batch->bytes, payload.document, payload.document_len));
    VEX_TRY(vex_buf_append(&batch->bytes, "", 1)); /* never an empty buffer */
    bool full = batch->n == TEXTS_PER_CALL || batch->bytes.len >= TEXT_BYTES_PER_CALL;
    return full ? flush_texts(leaf, batch, words) : VEX_OK;
}

vex_status vex_match_regex(const vex_row_source *source, const vex_expr *leaf, uint64_t *words) {
    text_batch batch = {0};
    bounds known;
    vex_status status = ask_index(source, leaf, false, words, &known);
    for (size_t at = 0; at < vex_source_words(source) && status == VEX_OK; at++) {
        words[at] &= known.maybe[at];
        uint64_t word = words[at] & ~known.sure[at];
        for (; word != 0 && status == VEX_OK; word &= word - 1) {
            const uint32_t row = (uint32_t)(at * 64) + (uint32_t)__builtin_ctzll(word);
            status = add_text(source, leaf, &batch, row, words);
        }
    }
    if (status == VEX_OK) {
        status = flush_texts(leaf, &batch, words);
    }
    clear_bounds(&known);
    vex_buf_clear(&batch.bytes);
    return status;
}
