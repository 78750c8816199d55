/*
 * match.c - evaluating a selection on every payload source of a snapshot (see match.h).
 *
 * One evaluator serves files and memtables: it works on a bitmap of candidate rows of one
 * source and clears the rows that do not match.  Only reading a row's metadata or document
 * differs, and metadata leaves on files go to the typed columns.
 */
#include "filter/match.h"

#include "base/bits.h"
#include "base/hash.h"

#include "base/poison.h"

#define TEXTS_PER_CALL 256 /* documents handed to the regex provider at once */
#define TEXT_BYTES_PER_CALL ((size_t)4 << 20)

/* One payload source under evaluation. */
typedef struct row_source {
    const vex_snapshot *snapshot;
    vex_snapshot_reader *reader;
    const vex_columns *columns; /* of a file, or NULL */
    bool in_memory;
    uint32_t number, n_rows;
} row_source;

static size_t words_of(const row_source *source) {
    return vex_bit_words(source->n_rows);
}

static vex_status new_words(const row_source *source, uint64_t **out) {
    *out = vex_calloc(words_of(source) + 1, sizeof **out);
    return *out ? VEX_OK : VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a row bitmap");
}

static vex_status read_row(const row_source *source, uint32_t row, uint32_t parts,
                           vex_payload *out) {
    const vex_row_ref ref = {
        .found = true, .in_memory = source->in_memory, .source = source->number, .row = row};
    return vex_snapshot_read_payload(source->reader, &ref, parts, out);
}

/* Row of an id in this source, dead or (in memory: only) live, or UINT32_MAX. */
static vex_status find_id(const row_source *source, const uint8_t *id, size_t len, uint32_t *row) {
    const vex_snapshot *snapshot = source->snapshot;
    uint64_t hash = vex_hash64(id, len);
    if (!source->in_memory) {
        return vex_payfile_find_id(snapshot->pays[source->number].file, id, len, hash, row);
    }
    *row = vex_memtable_find_id(snapshot->mems[source->number].table, id, len, hash, snapshot->lsn);
    return VEX_OK;
}

static bool any_bit(const row_source *source, const uint64_t *words) {
    for (size_t at = 0; at < words_of(source); at++) {
        if (words[at] != 0) {
            return true;
        }
    }
    return false;
}

/* ---- leaves ---- */

static vex_status match_metadata(const row_source *source, const vex_expr *leaf, uint64_t *words) {
    if (source->columns != NULL) {
        vex_status status = vex_columns_match(source->columns, leaf, words);
        if (status != VEX_ERR_CORRUPT) { /* else the rows tell */
            return status;
        }
    }
    for (size_t at = 0; at < words_of(source); at++) {
        for (uint64_t word = words[at]; word != 0; word &= word - 1) {
            uint32_t row = (uint32_t)(at * 64) + (uint32_t)__builtin_ctzll(word);
            vex_payload payload;
            VEX_TRY(read_row(source, row, VEX_PAYLOAD_METADATA, &payload));
            vex_value value =
                vex_metadata_find(payload.metadata, payload.metadata_len, leaf->key, leaf->key_len);
            if (!vex_leaf_matches(leaf, &value)) {
                vex_bit_clear(words, row);
            }
        }
    }
    return VEX_OK;
}

static vex_status match_text(const row_source *source, const vex_expr *leaf, uint64_t *words) {
    bool negated = leaf->op == VEX_F_DOC_NOT_CONTAINS;
    for (size_t at = 0; at < words_of(source); at++) {
        for (uint64_t word = words[at]; word != 0; word &= word - 1) {
            uint32_t row = (uint32_t)(at * 64) + (uint32_t)__builtin_ctzll(word);
            vex_payload payload;
            VEX_TRY(read_row(source, row, VEX_PAYLOAD_DOCUMENT, &payload));
            bool hit = payload.document != NULL &&
                       vex_text_contains(payload.document, payload.document_len,
                                         leaf->operand.bytes, leaf->operand.len);
            if (hit == negated) {
                vex_bit_clear(words, row);
            }
        }
    }
    return VEX_OK;
}

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

static vex_status add_text(const row_source *source, const vex_expr *leaf, text_batch *batch,
                           uint32_t row, uint64_t *words) {
    vex_payload payload;
    VEX_TRY(read_row(source, row, VEX_PAYLOAD_DOCUMENT, &payload));
    if (payload.document == NULL) {
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

static vex_status match_regex(const row_source *source, const vex_expr *leaf, uint64_t *words) {
    text_batch batch = {0};
    vex_status status = VEX_OK;
    for (size_t at = 0; at < words_of(source) && status == VEX_OK; at++) {
        for (uint64_t word = words[at]; word != 0 && status == VEX_OK; word &= word - 1) {
            uint32_t row = (uint32_t)(at * 64) + (uint32_t)__builtin_ctzll(word);
            status = add_text(source, leaf, &batch, row, words);
        }
    }
    if (status == VEX_OK) {
        status = flush_texts(leaf, &batch, words);
    }
    vex_buf_clear(&batch.bytes);
    return status;
}

/* An id has at most one live row in all sources, and `words` has only live rows: so the row that
 * this source knows for it is enough. */
static vex_status match_ids(const row_source *source, const vex_expr *leaf, uint64_t *words) {
    uint64_t *listed = NULL;
    vex_status status = VEX_OK;
    VEX_TRY(new_words(source, &listed));
    for (uint32_t i = 0; i < leaf->n_operands && status == VEX_OK; i++) {
        uint32_t row = UINT32_MAX;
        status = find_id(source, leaf->operands[i].bytes, leaf->operands[i].len, &row);
        if (status == VEX_OK && row < source->n_rows) {
            vex_bit_set(listed, row);
        }
    }
    for (size_t at = 0; at < words_of(source); at++) {
        words[at] &= leaf->op == VEX_F_ID_IN ? listed[at] : ~listed[at];
    }
    vex_free(listed);
    return status;
}

/* ---- nodes ---- */

static vex_status evaluate(const row_source *source, const vex_expr *node, uint64_t *words);

/* 0: ids and metadata, 1: substrings, 2: regular expressions. */
static int cost_of(const vex_expr *node) {
    if (!node->needs_document) {
        return 0;
    }
    return node->op == VEX_F_DOC_CONTAINS || node->op == VEX_F_DOC_NOT_CONTAINS ? 1 : 2;
}

static vex_status evaluate_and(const row_source *source, const vex_expr *node, uint64_t *words) {
    for (int cost = 0; cost <= 2; cost++) {
        for (uint32_t i = 0; i < node->n_children; i++) {
            if (cost_of(node->children[i]) != cost) {
                continue;
            }
            VEX_TRY(evaluate(source, node->children[i], words));
            if (!any_bit(source, words)) {
                return VEX_OK;
            }
        }
    }
    return VEX_OK;
}

static vex_status evaluate_or(const row_source *source, const vex_expr *node, uint64_t *words) {
    size_t n_words = words_of(source);
    uint64_t *hits = NULL, *left = NULL; /* `left`: rows that no child has accepted yet */
    vex_status status = new_words(source, &hits);
    if (status == VEX_OK) {
        status = new_words(source, &left);
    }
    for (int cost = 0; cost <= 2 && status == VEX_OK; cost++) {
        for (uint32_t i = 0; i < node->n_children && status == VEX_OK; i++) {
            if (cost_of(node->children[i]) != cost) {
                continue;
            }
            for (size_t at = 0; at < n_words; at++) {
                left[at] = words[at] & ~hits[at];
            }
            status = evaluate(source, node->children[i], left);
            for (size_t at = 0; at < n_words; at++) {
                hits[at] |= left[at];
            }
        }
    }
    if (status == VEX_OK) {
        memcpy(words, hits, n_words * sizeof *words);
    }
    vex_free(hits);
    vex_free(left);
    return status;
}

/* Depth is bounded by the parser (64 levels of AND and OR). */
static vex_status evaluate(const row_source *source, const vex_expr *node, uint64_t *words) {
    switch (node->op) {
    case VEX_F_AND:
        return evaluate_and(source, node, words);
    case VEX_F_OR:
        return evaluate_or(source, node, words);
    case VEX_F_DOC_CONTAINS:
    case VEX_F_DOC_NOT_CONTAINS:
        return match_text(source, node, words);
    case VEX_F_DOC_REGEX:
    case VEX_F_DOC_NOT_REGEX:
        return match_regex(source, node, words);
    case VEX_F_ID_IN:
    case VEX_F_ID_NOT_IN:
        return match_ids(source, node, words);
    default:
        return match_metadata(source, node, words);
    }
}

/* ---- candidates ---- */

static void live_rows(const row_source *source, uint64_t *words) {
    const vex_snapshot *snapshot = source->snapshot;
    if (!source->in_memory) {
        vex_tombs_live_words(snapshot->pays[source->number].tombs, words);
        return;
    }
    const vex_memtable *table = snapshot->mems[source->number].table;
    for (uint32_t row = 0; row < source->n_rows; row++) {
        if (vex_mem_payload_live(vex_memtable_payload(table, row), snapshot->lsn)) {
            vex_bit_set(words, row);
        }
    }
}

static row_source source_at(const vex_snapshot *snapshot, vex_snapshot_reader *reader,
                            bool in_memory, uint32_t number) {
    row_source out = {
        .snapshot = snapshot, .reader = reader, .in_memory = in_memory, .number = number};
    if (in_memory) {
        out.n_rows = snapshot->mems[number].n_payloads;
    } else {
        out.n_rows = snapshot->pays[number].file->rows;
        out.columns = vex_columns_of(snapshot->pays[number].file);
    }
    return out;
}

static uint64_t **place_of(vex_matches *matches, bool in_memory, uint32_t number) {
    return in_memory ? &matches->mems[number] : &matches->pays[number];
}

static vex_status place_id(const vex_snapshot *snapshot, const vex_mp_value *id, vex_matches *out) {
    vex_row_ref ref;
    VEX_TRY(
        vex_snapshot_find_id(snapshot, id->bytes, id->len, vex_hash64(id->bytes, id->len), &ref));
    if (!ref.found) {
        out->ids_missing++;
        return VEX_OK;
    }
    uint64_t **words = place_of(out, ref.in_memory, ref.source);
    if (*words == NULL) {
        row_source source = source_at(snapshot, NULL, ref.in_memory, ref.source);
        VEX_TRY(new_words(&source, words));
    }
    vex_bit_set(*words, ref.row);
    return VEX_OK;
}

/* Set the bits of the given ids; other sources stay NULL. */
static vex_status place_ids(const vex_snapshot *snapshot, const vex_selection *selection,
                            vex_matches *out) {
    vex_mp_reader reader = vex_mp_reader_make(selection->ids, selection->ids_len);
    vex_mp_value list = vex_mp_next(&reader);
    bool fine = list.kind == VEX_MP_ARRAY;
    for (uint32_t i = 0; fine && i < list.count; i++) {
        vex_mp_value id = vex_mp_next(&reader);
        fine = id.kind == VEX_MP_STR;
        if (fine) {
            VEX_TRY(place_id(snapshot, &id, out));
        }
    }
    return fine && vex_mp_at_end(&reader)
               ? VEX_OK
               : VEX_FAIL(VEX_ERR_INVALID, "ids must be a MessagePack array of strings");
}

static vex_status match_source(const row_source *source, const vex_selection *selection,
                               const vex_filter *filter, vex_matches *out) {
    uint64_t **words = place_of(out, source->in_memory, source->number);
    if (selection->ids == NULL && source->n_rows > 0) {
        VEX_TRY(new_words(source, words));
        live_rows(source, *words);
    }
    if (*words == NULL) {
        return VEX_OK;
    }
    if (filter->root != NULL && any_bit(source, *words)) {
        VEX_TRY(evaluate(source, filter->root, *words));
    }
    out->count += vex_bits_count(*words, words_of(source));
    return VEX_OK;
}

static vex_status match_all(const vex_snapshot *snapshot, const vex_selection *selection,
                            const vex_filter *filter, vex_matches *out) {
    vex_snapshot_reader *reader = NULL;
    out->n_pays = snapshot->n_pays;
    out->n_mems = snapshot->n_mems;
    out->pays = vex_calloc(out->n_pays + 1, sizeof *out->pays);
    out->mems = vex_calloc(out->n_mems + 1, sizeof *out->mems);
    if (out->pays == NULL || out->mems == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to evaluate a selection");
    }
    if (selection->ids != NULL) {
        VEX_TRY(place_ids(snapshot, selection, out));
    }
    VEX_TRY(vex_snapshot_reader_create(snapshot, &reader));
    vex_status status = VEX_OK;
    for (uint32_t i = 0; i < snapshot->n_pays && status == VEX_OK; i++) {
        row_source source = source_at(snapshot, reader, false, i);
        status = match_source(&source, selection, filter, out);
    }
    for (uint32_t i = 0; i < snapshot->n_mems && status == VEX_OK; i++) {
        row_source source = source_at(snapshot, reader, true, i);
        status = match_source(&source, selection, filter, out);
    }
    vex_snapshot_reader_destroy(reader);
    return status;
}

vex_status vex_matches_find(const vex_snapshot *snapshot, const vex_selection *selection,
                            vex_matches *out) {
    vex_filter filter = {0};
    vex_matches found = {0};
    if (selection->filter != NULL) {
        VEX_TRY(vex_filter_parse(&filter, selection->filter, selection->filter_len));
    }
    vex_status status = match_all(snapshot, selection, &filter, &found);
    vex_filter_clear(&filter);
    if (status != VEX_OK) {
        vex_matches_clear(&found);
        return status;
    }
    *out = found;
    return VEX_OK;
}

void vex_matches_clear(vex_matches *matches) {
    for (uint32_t i = 0; matches->pays != NULL && i < matches->n_pays; i++) {
        vex_free(matches->pays[i]);
    }
    for (uint32_t i = 0; matches->mems != NULL && i < matches->n_mems; i++) {
        vex_free(matches->mems[i]);
    }
    vex_free(matches->pays);
    vex_free(matches->mems);
    *matches = (vex_matches){0};
}
