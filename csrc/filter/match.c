/*
 * match.c - evaluating a selection on every payload source of a snapshot (see match.h).
 *
 * One evaluator serves files and memtables: it works on a bitmap of candidate rows of one
 * source and clears the rows that do not match.  Only reading a row's metadata or document
 * differs, and metadata leaves on files go to the typed columns.
 */
#include "filter/match_source.h"

#include "base/hash.h"

#include "base/poison.h"

#ifdef VEX_TESTING
#define MEMO_ROWS_MIN 1u
#else
#define MEMO_ROWS_MIN 1024u /* fewer are read again in no time */
#endif

/* Row of an id in this source, dead or (in memory: only) live, or UINT32_MAX. */
static vex_status find_id(const vex_row_source *source, const uint8_t *id, size_t len,
                          uint32_t *row) {
    const vex_snapshot *snapshot = source->snapshot;
    uint64_t hash = vex_hash64(id, len);
    if (!source->in_memory) {
        return vex_payfile_find_id(snapshot->pays[source->number].file, id, len, hash, row);
    }
    *row = vex_memtable_find_id(snapshot->mems[source->number].table, id, len, hash, snapshot->lsn);
    return VEX_OK;
}

/* ---- leaves ---- */

static vex_status match_metadata(const vex_row_source *source, const vex_expr *leaf,
                                 uint64_t *words) {
    if (source->columns != NULL) {
        vex_status status = vex_columns_match(source->columns, leaf, words);
        if (status != VEX_ERR_CORRUPT) { /* else the rows tell */
            return status;
        }
    }
    for (size_t at = 0; at < vex_source_words(source); at++) {
        for (uint64_t word = words[at]; word != 0; word &= word - 1) {
            uint32_t row = (uint32_t)(at * 64) + (uint32_t)__builtin_ctzll(word);
            vex_payload payload;
            VEX_TRY(vex_source_read(source, row, VEX_PAYLOAD_METADATA, &payload));
            vex_value value =
                vex_metadata_find(payload.metadata, payload.metadata_len, leaf->key, leaf->key_len);
            if (!vex_leaf_matches(leaf, &value)) {
                vex_bit_clear(words, row);
            }
        }
    }
    return VEX_OK;
}

/* An id has at most one live row in all sources, and `words` has only live rows: so the row that
 * this source knows for it is enough. */
static vex_status match_ids(const vex_row_source *source, const vex_expr *leaf, uint64_t *words) {
    uint64_t *listed = NULL;
    vex_status status = VEX_OK;
    VEX_TRY(vex_source_bitmap(source, &listed));
    for (uint32_t i = 0; i < leaf->n_operands && status == VEX_OK; i++) {
        uint32_t row = UINT32_MAX;
        status = find_id(source, leaf->operands[i].bytes, leaf->operands[i].len, &row);
        if (status == VEX_OK && row < source->n_rows) {
            vex_bit_set(listed, row);
        }
    }
    for (size_t at = 0; at < vex_source_words(source); at++) {
        words[at] &= leaf->op == VEX_F_ID_IN ? listed[at] : ~listed[at];
    }
    vex_free(listed);
    return status;
}

/* ---- nodes ---- */

static vex_status evaluate(const vex_row_source *source, const vex_expr *node, uint64_t *words);

/* Children are evaluated in this order, so that cheap ones leave the others less to look at. */
typedef enum node_cost { COST_COLUMNS, COST_SUBSTRINGS, COST_REST } node_cost;

static node_cost cost_of(const vex_expr *node) {
    return !node->needs_document ? COST_COLUMNS
                                 : (node->only_substrings ? COST_SUBSTRINGS : COST_REST);
}

static uint32_t count_children(const vex_expr *node, node_cost cost) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < node->n_children; i++) {
        n += cost_of(node->children[i]) == cost;
    }
    return n;
}

/* Children of one cost, one after the other; all substring tests are one step. */
static vex_status evaluate_each(const vex_row_source *source, const vex_expr *node, node_cost cost,
                                uint64_t *words) {
    for (uint32_t i = 0; i < node->n_children; i++) {
        if (cost_of(node->children[i]) == cost) {
            VEX_TRY(evaluate(source, node->children[i], words));
            if (!vex_source_any(source, words)) {
                return VEX_OK;
            }
        }
    }
    return VEX_OK;
}

static vex_status evaluate_and(const vex_row_source *source, const vex_expr *node,
                               uint64_t *words) {
    const uint32_t n_rest = count_children(node, COST_REST);
    const uint32_t n_substrings = count_children(node, COST_SUBSTRINGS);
    VEX_TRY(evaluate_each(source, node, COST_COLUMNS, words));
    for (uint32_t i = 0; i < node->n_children && n_rest + (n_substrings > 0) > 1; i++) {
        if (cost_of(node->children[i]) == COST_REST) {
            VEX_TRY(vex_match_narrow(source, node->children[i], words));
        }
    }
    if (n_substrings > 0 && vex_source_any(source, words)) {
        VEX_TRY(vex_match_substrings(source, node, words));
    }
    return n_rest > 0 && vex_source_any(source, words)
               ? evaluate_each(source, node, COST_REST, words)
               : VEX_OK;
}

/* One step of an OR: what child `i`, or all substring tests, accept of the rows that nothing has
 * accepted yet. */
typedef struct or_step {
    uint64_t *hits, *left;
} or_step;

static vex_status accept(const vex_row_source *source, const vex_expr *node, const vex_expr *child,
                         const uint64_t *words, or_step *step) {
    const size_t n_words = vex_source_words(source);
    for (size_t at = 0; at < n_words; at++) {
        step->left[at] = words[at] & ~step->hits[at];
    }
    if (!vex_source_any(source, step->left)) {
        return VEX_OK;
    }
    VEX_TRY(child ? evaluate(source, child, step->left)
                  : vex_match_substrings(source, node, step->left));
    for (size_t at = 0; at < n_words; at++) {
        step->hits[at] |= step->left[at];
    }
    return VEX_OK;
}

static vex_status accept_each(const vex_row_source *source, const vex_expr *node, node_cost cost,
                              const uint64_t *words, or_step *step) {
    for (uint32_t i = 0; i < node->n_children; i++) {
        if (cost_of(node->children[i]) == cost) {
            VEX_TRY(accept(source, node, node->children[i], words, step));
        }
    }
    return VEX_OK;
}

static vex_status evaluate_or(const vex_row_source *source, const vex_expr *node, uint64_t *words) {
    or_step step = {0};
    vex_status status;
    VEX_TRY_DONE(status, vex_source_bitmap(source, &step.hits));
    VEX_TRY_DONE(status, vex_source_bitmap(source, &step.left));
    VEX_TRY_DONE(status, accept_each(source, node, COST_COLUMNS, words, &step));
    if (count_children(node, COST_SUBSTRINGS) > 0) {
        VEX_TRY_DONE(status, accept(source, node, NULL, words, &step));
    }
    VEX_TRY_DONE(status, accept_each(source, node, COST_REST, words, &step));
    memcpy(words, step.hits, vex_source_words(source) * sizeof *words);
done:
    vex_free(step.hits);
    vex_free(step.left);
    return status;
}

/* Depth is bounded by the parser (64 levels of AND and OR). */
static vex_status evaluate(const vex_row_source *source, const vex_expr *node, uint64_t *words) {
    if (node->only_substrings) {
        return vex_match_substrings(source, node, words);
    }
    switch (node->op) {
    case VEX_F_AND:
        return evaluate_and(source, node, words);
    case VEX_F_OR:
        return evaluate_or(source, node, words);
    case VEX_F_DOC_REGEX:
    case VEX_F_DOC_NOT_REGEX:
        return vex_match_regex(source, node, words);
    case VEX_F_ID_IN:
    case VEX_F_ID_NOT_IN:
        return match_ids(source, node, words);
    default:
        return match_metadata(source, node, words);
    }
}

/* ---- candidates ---- */

static void live_rows(const vex_row_source *source, uint64_t *words) {
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

static vex_row_source source_at(const vex_snapshot *snapshot, vex_snapshot_reader *reader,
                                bool in_memory, uint32_t number) {
    vex_row_source out = {
        .snapshot = snapshot, .reader = reader, .in_memory = in_memory, .number = number};
    if (in_memory) {
        out.n_rows = snapshot->mems[number].n_payloads;
    } else {
        out.n_rows = snapshot->pays[number].file->rows;
        out.columns = vex_columns_of(snapshot->pays[number].file);
        out.text = vex_text_index_of(snapshot->pays[number].file);
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
        vex_row_source source = source_at(snapshot, NULL, ref.in_memory, ref.source);
        VEX_TRY(vex_source_bitmap(&source, words));
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

/* Whether a row of a file matches never changes, so what reading documents told is kept with the
 * file: how many rows were dead, and the bitmap of those that matched and were not.  Rows only die,
 * so it holds wherever as many are dead; a reader of an older state has to look itself. */
static vex_status evaluate_live(const vex_row_source *source, const vex_selection *selection,
                                const vex_filter *filter, uint64_t *words) {
    const size_t n = vex_source_words(source), bytes = (n + 1) * sizeof *words;
    if (source->in_memory || !filter->root->needs_document || source->n_rows < MEMO_ROWS_MIN) {
        return evaluate(source, filter->root, words);
    }
    const vex_pay_source *file = &source->snapshot->pays[source->number];
    uint64_t *known = NULL;
    VEX_TRY(vex_source_bitmap(source, &known)); /* which has a word to spare */
    vex_status status = VEX_OK;
    const bool hit =
        vex_memo_get(&file->file->memo, selection->filter, selection->filter_len, known, bytes) &&
        known[0] <= file->tombs->dead;
    vex_stat_add(hit ? VEX_STAT_FILTER_HITS : VEX_STAT_FILTER_MISSES, 1);
    if (hit) {
        for (size_t at = 0; at < n; at++) {
            words[at] &= known[at + 1];
        }
    } else {
        status = evaluate(source, filter->root, words);
        if (status == VEX_OK) {
            known[0] = file->tombs->dead;
            memcpy(known + 1, words, n * sizeof *words);
            vex_memo_put(&file->file->memo, selection->filter, selection->filter_len, known, bytes);
        }
    }
    vex_free(known);
    return status;
}

static vex_status match_source(const vex_row_source *source, const vex_selection *selection,
                               const vex_filter *filter, vex_matches *out) {
    uint64_t **words = place_of(out, source->in_memory, source->number);
    if (selection->ids == NULL && source->n_rows > 0) {
        VEX_TRY(vex_source_bitmap(source, words));
        live_rows(source, *words);
    }
    if (*words == NULL) {
        return VEX_OK;
    }
    if (filter->root != NULL && vex_source_any(source, *words)) {
        VEX_TRY(selection->ids == NULL ? evaluate_live(source, selection, filter, *words)
                                       : evaluate(source, filter->root, *words));
    }
    out->count += vex_bits_count(*words, vex_source_words(source));
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
        vex_row_source source = source_at(snapshot, reader, false, i);
        status = match_source(&source, selection, filter, out);
    }
    for (uint32_t i = 0; i < snapshot->n_mems && status == VEX_OK; i++) {
        vex_row_source source = source_at(snapshot, reader, true, i);
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
