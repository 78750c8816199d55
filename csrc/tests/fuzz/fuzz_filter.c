/*
 * fuzz_filter.c - filter expressions of any bytes, on a small collection of files and memtables.
 *
 * Target "filter": the first byte says whether the rest is the filter (even) or the ids of a
 * selection (odd).  What parses must select the rows that testing one record after the other
 * selects, whose meaning is in leaf.c alone.
 */
#include "filter/expr.h"

#include "base/bits.h"
#include "filter/match.h"
#include "store/memo.h"
#include "tests/filter_kit.h"
#include "tests/filter_world.h"
#include "tests/fuzz/fuzz.h"

static world w;
static kit_regex regexes;

static void prepare(void) {
    if (w.vfs != NULL) {
        return;
    }
    w = world_make();
    kit_regex_install(&regexes);
    for (int i = 0; i < 3; i++) {
        world_random_batch(&w);
        world_random_batch(&w);
        world_seal(&w);
        if (i < 2) {
            world_flush(&w, 1);
        }
    }
    world_random_batch(&w);
}

/* ---- seeds ---- */

static void put_seed(vex_buf *out) {
    static const char *const texts[] = {"alpha", "ta", "", "zzz", "\xc3\xa9", "aLPHA BEta"};
    const uint32_t kind = test_random_below(6);
    if (kind == 0) {
        kit_put(out, "aia", 2u, (long long)VEX_F_AND + test_random_below(2), 2u);
        put_seed(out);
        put_seed(out);
    } else if (kind == 1) {
        kit_put(out, "ais", 2u, (long long)VEX_F_DOC_CONTAINS + test_random_below(6),
                texts[test_random_below(6)]);
    } else if (kind == 2) {
        kit_put(out, "aiass", 2u, (long long)VEX_F_ID_IN + test_random_below(2), 2u, "id3", "id40");
    } else if (kind == 3) {
        kit_put(out, "aisais", 3u, (long long)VEX_F_DOC_REGEX, "beta", 2u,
                (long long)VEX_F_DOC_CONTAINS, "beta");
    } else {
        kit_random_leaf(out);
    }
}

static void seeds(const fuzz_seeds *seeds) {
    vex_buf input = {0};
    for (uint8_t i = 0; i < 30; i++) {
        input.len = 0;
        uint8_t kind = i < 28 ? 0 : 1;
        CHECK_OK(vex_buf_append(&input, &kind, 1));
        if (kind == 0) {
            put_seed(&input);
        } else {
            kit_put(&input, "asss", 3u, "id1", "id7", i % 2 ? "nothing" : "id1");
        }
        seeds->take(seeds->context, input.data, input.len);
    }
    vex_buf_clear(&input);
}

/* ---- one record ---- */

static bool is_listed(const vex_payload *row, const vex_value *ids, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        if (ids[i].len == row->id_len && memcmp(ids[i].bytes, row->id, row->id_len) == 0) {
            return true;
        }
    }
    return false;
}

static bool contains(const vex_payload *row, const vex_value *needle) {
    return row->document != NULL &&
           vex_text_contains(row->document, row->document_len, needle->bytes, needle->len);
}

static bool contains_folded(const vex_payload *row, const vex_needle *needle) {
    return row->document != NULL && vex_needle_in(needle, row->document, row->document_len);
}

static bool holds(const vex_expr *node, const vex_payload *row) {
    bool result = node->op == VEX_F_AND;
    switch (node->op) {
    case VEX_F_AND:
    case VEX_F_OR:
        for (uint32_t i = 0; i < node->n_children; i++) {
            const bool child = holds(node->children[i], row);
            result = node->op == VEX_F_AND ? result && child : result || child;
        }
        return result;
    case VEX_F_DOC_CONTAINS:
        return contains(row, &node->operand);
    case VEX_F_DOC_NOT_CONTAINS:
        return !contains(row, &node->operand);
    case VEX_F_DOC_ICONTAINS:
        return contains_folded(row, &node->needle);
    case VEX_F_DOC_NOT_ICONTAINS:
        return !contains_folded(row, &node->needle);
    case VEX_F_ID_IN:
        return is_listed(row, node->operands, node->n_operands);
    case VEX_F_ID_NOT_IN:
        return !is_listed(row, node->operands, node->n_operands);
    default: {
        const vex_value value =
            vex_metadata_find(row->metadata, row->metadata_len, node->key, node->key_len);
        return vex_leaf_matches(node, &value);
    }
    }
}

/* What patterns require is for the caller to get right, so filters with patterns are only run. */
static bool has_regex(const vex_expr *node) {
    bool found = node->op == VEX_F_DOC_REGEX || node->op == VEX_F_DOC_NOT_REGEX;
    for (uint32_t i = 0; i < node->n_children && !found; i++) {
        found = has_regex(node->children[i]);
    }
    return found;
}

static bool is_matched(const vex_matches *matches, const vex_row_ref *ref) {
    const uint64_t *words =
        ref->in_memory ? matches->mems[ref->source] : matches->pays[ref->source];
    return words != NULL && vex_bit_get(words, ref->row);
}

/* ---- a run ---- */

static uint64_t count_words(const uint64_t *words, uint32_t rows) {
    const size_t n = vex_bit_words(rows);
    CHECK(words == NULL || rows % 64 == 0 || words[n - 1] >> rows % 64 == 0);
    return words ? vex_bits_count(words, n) : 0;
}

/* Only rows that are there. */
static void check_count(const vex_matches *matches) {
    uint64_t n = 0;
    CHECK(matches->n_pays == w.snapshot->n_pays && matches->n_mems == w.snapshot->n_mems);
    for (uint32_t i = 0; i < matches->n_pays; i++) {
        n += count_words(matches->pays[i], w.snapshot->pays[i].file->rows);
    }
    for (uint32_t i = 0; i < matches->n_mems; i++) {
        n += count_words(matches->mems[i], w.snapshot->mems[i].n_payloads);
    }
    CHECK_EQ(n, matches->count);
}

static void check_rows(const vex_matches *matches, const vex_expr *root, bool as_ids) {
    vex_seq_cursor *cursor = NULL;
    vex_snapshot_reader *reader = NULL;
    vex_row_ref ref;
    vex_payload row;
    CHECK_OK(vex_seq_cursor_create(w.snapshot, &cursor));
    CHECK_OK(vex_snapshot_reader_create(w.snapshot, &reader));
    while (vex_seq_cursor_next(cursor, &ref)) {
        CHECK_OK(vex_snapshot_read_payload(reader, &ref,
                                           VEX_PAYLOAD_DOCUMENT | VEX_PAYLOAD_METADATA, &row));
        const bool expected =
            as_ids ? is_listed(&row, root->operands, root->n_operands) : holds(root, &row);
        if (is_matched(matches, &ref) != expected) {
            test_failed(__FILE__, __LINE__, "record %.*s is %s", (int)row.id_len, row.id,
                        expected ? "not selected" : "selected");
        }
    }
    vex_snapshot_reader_destroy(reader);
    vex_seq_cursor_destroy(cursor);
}

/* What filters found in documents is kept with the files; not beyond this run. */
static void forget(void) {
    for (uint32_t i = 0; i < w.snapshot->n_pays; i++) {
        vex_memo_clear(&w.snapshot->pays[i].file->memo);
        vex_memo_init(&w.snapshot->pays[i].file->memo);
    }
}

static void select_rows(const vex_selection *selection, const vex_filter *filter, bool as_ids) {
    vex_matches matches = {0};
    vex_vector_matches vectors = {0};
    vex_status status = vex_matches_find(w.snapshot, selection, &matches);
    if (status != VEX_OK) {
        CHECK(status == VEX_ERR_INVALID || status == VEX_ERR_REGEX);
        CHECK(vex_last_error()->message[0] != '\0');
        CHECK(filter->root == NULL || status == VEX_ERR_REGEX);
        return;
    }
    fuzz_accept();
    check_count(&matches);
    if (filter->root != NULL && !has_regex(filter->root)) {
        check_rows(&matches, filter->root, as_ids);
    }
    CHECK_OK(vex_vector_matches_find(w.snapshot, &matches, &vectors));
    CHECK_EQ(vectors.count, matches.count);
    vex_vector_matches_clear(&vectors);
    vex_matches_clear(&matches);
}

static void run(const uint8_t *data, size_t len) {
    const bool as_ids = len > 0 && data[0] % 2 != 0;
    vex_buf bytes = {0};
    vex_filter filter = {0};
    vex_selection selection = {0};
    if (len == 0) {
        return;
    }
    if (as_ids) { /* by the parser of filters, for what is expected */
        kit_put(&bytes, "ai", 2u, (long long)VEX_F_ID_IN);
        selection.ids = data + 1;
        selection.ids_len = len - 1;
    } else {
        selection.filter = data + 1;
        selection.filter_len = len - 1;
    }
    CHECK_OK(vex_buf_append(&bytes, data + 1, len - 1));
    const vex_status status = vex_filter_parse(&filter, bytes.data, bytes.len);
    CHECK(status == VEX_OK || status == VEX_ERR_INVALID || status == VEX_ERR_REGEX);
    select_rows(&selection, &filter, as_ids);
    vex_filter_clear(&filter);
    vex_buf_clear(&bytes);
    forget();
    CHECK_EQ(regexes.live, 0);
}

const fuzz_target fuzz_filter = {
    .name = "filter", .prepare = prepare, .seeds = seeds, .run = run, .rounds = 10000};
