/*
 * t_filter_match.c - selections on snapshots: random writes, seals and flushes beside a plain
 * list of records, and every selection's rows and vectors against a scan of that list.
 */
#include "base/bits.h"
#include "filter/match.h"
#include "filter/text_index.h"
#include "tests/filter_kit.h"
#include "tests/filter_world.h"

/* ---- selections ---- */

static void put_random_ids(const world *w, vex_buf *out, uint32_t n) {
    kit_put(out, "a", n);
    for (uint32_t i = 0; i < n; i++) {
        char unknown[16];
        snprintf(unknown, sizeof unknown, "none%u", (unsigned)test_random_below(5));
        bool known = w->n > 0 && test_random_below(6);
        kit_str(out, known ? w->records[test_random_below((uint32_t)w->n)]->id : unknown);
    }
}

/* Patterns, which the test's provider takes as text, now and then with what they require. */
static void put_random_text_test(vex_buf *out, long long op) {
    static const char *const texts[] = {"alpha",   "alb",      "a",        "tab",
                                        "",        "GAMMA al", "zzz",      "\xc3\xa9",
                                        "ta beta", "ta ",      "\xc3\x89", "Al"};
    const char *text = texts[test_random_below(12)];
    bool is_regex = op == VEX_F_DOC_REGEX || op == VEX_F_DOC_NOT_REGEX;
    if (op == VEX_F_DOC_ICONTAINS || op == VEX_F_DOC_NOT_ICONTAINS) {
        kit_put(out, "ais", 2u, op, text);
        return;
    }
    uint32_t required = is_regex ? test_random_below(4) : 0;
    kit_put(out, "ais", required ? 3u : 2u, op, text);
    if (required == 1) {
        kit_put(out, "ais", 2u, (long long)VEX_F_DOC_CONTAINS, text);
    } else if (required == 2) { /* two parts of it */
        kit_put(out, "aia", 2u, (long long)VEX_F_AND, 2u);
        kit_put(out, "ais", 2u, (long long)VEX_F_DOC_CONTAINS, text + strlen(text) / 2);
        kit_put(out, "ais", 2u, (long long)VEX_F_DOC_CONTAINS, *text == 'a' ? "a" : "");
    } else if (required == 3) {
        kit_put(out, "aiaais", 2u, (long long)VEX_F_OR, 2u, 2u, (long long)VEX_F_DOC_CONTAINS,
                "beta");
        kit_put(out, "ais", 2u, (long long)VEX_F_DOC_CONTAINS, text);
    }
}

static void put_random_filter(const world *w, vex_buf *out, uint32_t depth) {
    uint32_t kind = test_random_below(8);
    if (depth > 0 && kind < 4) {
        uint32_t n = 2 + test_random_below(3);
        kit_put(out, "aia", 2u, kind % 2 ? (long long)VEX_F_AND : (long long)VEX_F_OR, n);
        for (; n > 0; n--) {
            put_random_filter(w, out, depth - 1);
        }
    } else if (kind == 4 || kind == 5) {
        put_random_text_test(out, VEX_F_DOC_CONTAINS + test_random_below(6));
    } else if (kind == 6) {
        kit_put(out, "ai", 2u, (long long)VEX_F_ID_IN + test_random_below(2));
        put_random_ids(w, out, test_random_below(60));
    } else {
        kit_random_leaf(out);
    }
}

static bool scan_text(const record *r, const vex_value *needle) {
    for (size_t i = 0; r->has_document && i + needle->len <= r->document.len; i++) {
        if (needle->len == 0 || memcmp(r->document.data + i, needle->bytes, needle->len) == 0) {
            return true;
        }
    }
    return false;
}

/* By folding all of the document first. */
static bool scan_folded(const record *r, const vex_needle *needle) {
    vex_buf folded = {0};
    uint8_t more[VEX_FOLD_BYTES_MAX];
    for (size_t at = 0; r->has_document && at < r->document.len;) {
        size_t n = vex_fold_next(r->document.data, r->document.len, &at, more);
        CHECK_OK(vex_buf_append(&folded, more, n));
    }
    bool found =
        r->has_document && vex_text_contains(folded.data, folded.len, needle->bytes, needle->len);
    vex_buf_clear(&folded);
    return found;
}

static bool is_listed(const record *r, const vex_value *ids, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        if (ids[i].len == strlen(r->id) && memcmp(ids[i].bytes, r->id, ids[i].len) == 0) {
            return true;
        }
    }
    return false;
}

static bool holds(const vex_expr *node, const record *r) {
    bool result = node->op == VEX_F_AND;
    switch (node->op) {
    case VEX_F_AND:
    case VEX_F_OR:
        for (uint32_t i = 0; i < node->n_children; i++) {
            bool child = holds(node->children[i], r);
            result = node->op == VEX_F_AND ? result && child : result || child;
        }
        return result;
    case VEX_F_DOC_CONTAINS:
    case VEX_F_DOC_REGEX: /* the test's provider takes patterns as text */
        return scan_text(r, &node->operand);
    case VEX_F_DOC_NOT_CONTAINS:
    case VEX_F_DOC_NOT_REGEX:
        return !scan_text(r, &node->operand);
    case VEX_F_DOC_ICONTAINS:
        return scan_folded(r, &node->needle);
    case VEX_F_DOC_NOT_ICONTAINS:
        return !scan_folded(r, &node->needle);
    case VEX_F_ID_IN:
        return is_listed(r, node->operands, node->n_operands);
    case VEX_F_ID_NOT_IN:
        return !is_listed(r, node->operands, node->n_operands);
    default: {
        vex_value value =
            vex_metadata_find(r->metadata.data, r->metadata.len, node->key, node->key_len);
        return vex_leaf_matches(node, &value);
    }
    }
}

/* Ids of a selection as operands, by the filter parser. */
static vex_filter parse_ids(const vex_buf *ids) {
    vex_filter filter = {0};
    vex_buf bytes = {0};
    kit_put(&bytes, "ai", 2u, (long long)VEX_F_ID_IN);
    CHECK_OK(vex_buf_append(&bytes, ids->data, ids->len));
    CHECK_OK(kit_parse(&bytes, &filter));
    vex_buf_clear(&bytes);
    return filter;
}

/* ---- results ---- */

/* selected[seq] of the rows set in the bitmaps; each seq once, and only live rows. */
static void check_rows(const world *w, const vex_matches *matches, const bool *expected,
                       uint64_t n_expected) {
    const vex_snapshot *snapshot = w->snapshot;
    bool *selected = calloc(w->n + 2, 1);
    uint64_t count = 0;
    CHECK_EQ(matches->n_pays, snapshot->n_pays);
    CHECK_EQ(matches->n_mems, snapshot->n_mems);
    for (uint32_t s = 0; s < snapshot->n_pays + snapshot->n_mems; s++) {
        bool file = s < snapshot->n_pays;
        uint32_t number = file ? s : s - snapshot->n_pays;
        uint32_t rows =
            file ? snapshot->pays[number].file->rows : snapshot->mems[number].n_payloads;
        const uint64_t *words = file ? matches->pays[number] : matches->mems[number];
        for (uint32_t row = 0; words != NULL && row < vex_bit_words(rows) * 64; row++) {
            if (!vex_bit_get(words, row)) {
                continue;
            }
            CHECK(row < rows);
            uint64_t seq =
                file ? snapshot->pays[number].file->seqs[row]
                     : vex_memtable_payload(snapshot->mems[number].table, row)->payload.seq;
            CHECK(seq >= 1 && seq <= w->n && !selected[seq]);
            selected[seq] = true;
            count++;
        }
    }
    CHECK_EQ(matches->count, n_expected);
    CHECK_EQ(count, n_expected);
    CHECK(memcmp(selected, expected, w->n + 2) == 0);
    free(selected);
}

/* The same for vectors, which must be the newest ones. */
static void check_vectors(const world *w, const vex_vector_matches *matches, const bool *expected,
                          uint64_t n_expected) {
    const vex_snapshot *snapshot = w->snapshot;
    bool *selected = calloc(w->n + 2, 1);
    CHECK_EQ(matches->n_vecs, snapshot->n_vecs);
    CHECK_EQ(matches->n_mems, snapshot->n_mems);
    for (uint32_t s = 0; s < snapshot->n_vecs + snapshot->n_mems; s++) {
        bool file = s < snapshot->n_vecs;
        uint32_t number = file ? s : s - snapshot->n_vecs;
        uint32_t rows = file ? snapshot->vecs[number].file->rows : snapshot->mems[number].n_vectors;
        const uint64_t *words = file ? matches->vecs[number] : matches->mems[number];
        for (uint32_t row = 0; words != NULL && row < vex_bit_words(rows) * 64; row++) {
            if (vex_bit_get(words, row)) {
                const vex_row_ref ref = {.in_memory = !file, .source = number, .row = row};
                float vector[WORLD_DIMENSION];
                CHECK(row < rows);
                vex_snapshot_read_vector(snapshot, &ref, vector);
                size_t seq = (size_t)vector[0];
                CHECK(seq >= 1 && seq <= w->n && !selected[seq]);
                CHECK(memcmp(vector, w->records[seq - 1]->vector, sizeof vector) == 0);
                selected[seq] = true;
            }
        }
    }
    CHECK_EQ(matches->count, n_expected);
    CHECK(memcmp(selected, expected, w->n + 2) == 0);
    free(selected);
}

/* One selection against the list; returns how many records match. */
static uint64_t check_selection(const world *w, const vex_buf *ids, const vex_buf *filter_bytes) {
    const vex_selection selection = {ids ? ids->data : NULL, ids ? ids->len : 0,
                                     filter_bytes ? filter_bytes->data : NULL,
                                     filter_bytes ? filter_bytes->len : 0};
    vex_filter filter = {0}, listed = {0};
    bool *expected = calloc(w->n + 2, 1);
    uint64_t n_expected = 0, n_missing = 0;
    if (filter_bytes != NULL) {
        CHECK_OK(kit_parse(filter_bytes, &filter));
    }
    if (ids != NULL) {
        listed = parse_ids(ids);
        n_missing = listed.root->n_operands;
    }
    for (size_t i = 0; i < w->n; i++) {
        const record *r = w->records[i];
        for (uint32_t k = 0; ids != NULL && r->live && k < listed.root->n_operands; k++) {
            n_missing -= is_listed(r, &listed.root->operands[k], 1);
        }
        expected[r->seq] = r->live && (ids == NULL || holds(listed.root, r)) &&
                           (filter_bytes == NULL || holds(filter.root, r));
        n_expected += expected[r->seq];
    }
    vex_matches matches = {0};
    vex_vector_matches vectors = {0};
    CHECK_OK(vex_matches_find(w->snapshot, &selection, &matches));
    check_rows(w, &matches, expected, n_expected);
    CHECK_EQ(matches.ids_missing, n_missing);
    CHECK_OK(vex_vector_matches_find(w->snapshot, &matches, &vectors));
    check_vectors(w, &vectors, expected, n_expected);
    vex_matches_clear(&matches);
    vex_vector_matches_clear(&vectors);
    vex_filter_clear(&filter);
    vex_filter_clear(&listed);
    free(expected);
    return n_expected;
}

static uint64_t check_random_selections(const world *w, uint32_t n) {
    uint64_t n_matches = 0;
    for (; n > 0; n--) {
        vex_buf ids = {0}, filter = {0};
        bool by_ids = test_random_below(4) == 0;
        put_random_ids(w, &ids, test_random_below(40));
        put_random_filter(w, &filter, 3);
        n_matches += check_selection(w, by_ids ? &ids : NULL, &filter);
        if (by_ids) {
            n_matches += check_selection(w, &ids, NULL);
        }
        vex_buf_clear(&ids);
        vex_buf_clear(&filter);
    }
    return n_matches;
}

/* Take a derived section from all files: as when it was refused, or (`damage`) as when bytes behind
 * its header are found damaged once they are used.  `copies` gets the damaged bytes. */
static uint32_t spoil(const world *w, const vex_section_plugin *plugin, bool damage,
                      vex_buf *copies) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < w->snapshot->n_pays; i++) {
        vex_payfile *file = w->snapshot->pays[i].file;
        const vex_section *section = vex_container_find(&file->container, plugin->section_kind);
        void *state = vex_payfile_plugin(file, plugin->section_kind), *spoiled = NULL;
        if (state == NULL) {
            continue;
        }
        if (damage) {
            CHECK_OK(vex_buf_append(&copies[n], section->data, section->len));
            copies[n].data[64 + test_random_below((uint32_t)section->len - 64)] ^= 1;
            if (plugin->load(copies[n].data, copies[n].len, file->rows, file->container.path,
                             section->offset, &spoiled) != VEX_OK) {
                spoiled = NULL;
            }
        }
        for (size_t p = 0; p < VEX_PLUGINS_MAX; p++) {
            if (file->plugin_state[p] == state) {
                plugin->unload(state);
                file->plugin_state[p] = spoiled;
            }
        }
        n++;
    }
    return n;
}

static world random_world(uint32_t n_steps) {
    world w = world_make();
    for (; n_steps > 0; n_steps--) {
        world_random_step(&w);
    }
    return w;
}

TEST(match_agrees_with_a_scan) {
    kit_regex regex;
    kit_regex_install(&regex);
    uint64_t n_matches = 0, n_files = 0, n_memtables = 0, n_indexes = 0;
    for (int round = 0; round < 12; round++) {
        world w = world_make();
        check_random_selections(&w, 3); /* nothing there yet */
        for (int step = 0; step < 60; step++) {
            world_random_step(&w);
            CHECK_EQ(check_selection(&w, NULL, NULL), w.snapshot->live_rows);
            n_matches += check_random_selections(&w, 4);
        }
        n_files += w.snapshot->n_pays;
        n_memtables += w.snapshot->n_mems;
        const vex_section_plugin *plugins[] = {vex_text_plugin(), vex_columns_plugin()};
        vex_buf copies[2][64] = {{{0}}};
        CHECK(w.snapshot->n_pays <= 64);
        for (int i = 0; i < 4; i++) {
            uint32_t n = spoil(&w, plugins[i % 2], i < 2, copies[i % 2]);
            n_indexes += i == 0 ? n : 0;
            check_random_selections(&w, 40);
        }
        world_free(&w);
        for (size_t i = 0; i < 128; i++) {
            vex_buf_clear(&copies[i / 64][i % 64]);
        }
    }
    CHECK(n_matches > 1000 && n_files > 12 && n_memtables > 12 && n_indexes > 12);
    CHECK_EQ(regex.live, 0);
    CHECK(regex.calls > 0);
}

/* A snapshot keeps its answers while records are written, changed, flushed and deleted. */
TEST(match_on_an_old_snapshot) {
    kit_regex regex;
    kit_regex_install(&regex);
    world w = random_world(30);
    vex_snapshot *old = vex_snapshot_acquire(w.snapshot);
    vex_buf filters[20] = {{0}};
    vex_matches before[20] = {{0}};
    for (int i = 0; i < 20; i++) {
        put_random_filter(&w, &filters[i], 2);
        const vex_selection selection = {NULL, 0, filters[i].data, filters[i].len};
        CHECK_OK(vex_matches_find(old, &selection, &before[i]));
    }
    for (int step = 0; step < 20; step++) {
        world_random_batch(&w);
        if (step % 5 == 4) {
            world_seal(&w);
            world_flush(&w, 1);
        }
    }
    for (int i = 0; i < 20; i++) {
        const vex_selection selection = {NULL, 0, filters[i].data, filters[i].len};
        vex_matches after = {0}, newest = {0};
        vex_vector_matches vectors = {0};
        CHECK_OK(vex_matches_find(w.snapshot, &selection, &newest)); /* files remember that */
        vex_matches_clear(&newest);
        CHECK_OK(vex_matches_find(old, &selection, &after));
        CHECK_EQ(after.count, before[i].count);
        for (uint32_t s = 0; s < old->n_pays; s++) {
            CHECK(memcmp(after.pays[s], before[i].pays[s],
                         vex_bit_words(old->pays[s].file->rows) * 8) == 0);
        }
        for (uint32_t s = 0; s < old->n_mems; s++) {
            CHECK(old->mems[s].n_payloads == 0 ||
                  memcmp(after.mems[s], before[i].mems[s],
                         vex_bit_words(old->mems[s].n_payloads) * 8) == 0);
        }
        CHECK_OK(vex_vector_matches_find(old, &after, &vectors));
        CHECK_EQ(vectors.count, after.count);
        vex_matches_clear(&after);
        vex_matches_clear(&before[i]);
        vex_vector_matches_clear(&vectors);
        vex_buf_clear(&filters[i]);
    }
    vex_snapshot_release(old);
    world_free(&w);
}

/* More documents than one call of the regex provider takes, by number and by bytes. */
TEST(match_regex_in_batches) {
    kit_regex regex;
    kit_regex_install(&regex);
    world w = world_make();
    vex_batch batch = {0};
    for (int i = 0; i < 800; i++) {
        record *r = world_new_record(&w);
        if (i % 100 == 50 && i < 400) {
            r->has_document = true;
            CHECK_OK(vex_buf_append_zeros(&r->document, (size_t)3 << 20));
            CHECK_OK(vex_buf_append(&r->document, "end", i % 200 == 50 ? 3 : 2));
        }
        world_put(&batch, VEX_OP_PUT, r);
    }
    world_commit(&w, &batch);
    for (int flushed = 0; flushed < 2; flushed++) {
        for (long long op = VEX_F_DOC_REGEX; op <= VEX_F_DOC_NOT_REGEX; op++) {
            vex_buf filter = {0};
            regex.calls = 0;
            kit_put(&filter, "ais", 2u, op, "end");
            check_selection(&w, NULL, &filter);
            CHECK_EQ(regex.calls, 4);
            vex_buf_clear(&filter);
        }
        if (!flushed) {
            world_seal(&w);
            world_flush(&w, 0);
        }
    }
    world_free(&w);
}

TEST(match_reports_errors) {
    kit_regex regex;
    kit_regex_install(&regex);
    world w = random_world(40);
    vex_buf bytes = {0};
    vex_matches matches = {0};
    kit_put(&bytes, "ais", 2u, (long long)VEX_F_DOC_REGEX, "?"); /* matching fails */
    vex_selection selection = {NULL, 0, bytes.data, bytes.len};
    CHECK_STATUS(vex_matches_find(w.snapshot, &selection, &matches), VEX_ERR_REGEX);
    CHECK_EQ(regex.live, 0);
    selection.filter_len--;
    CHECK_STATUS(vex_matches_find(w.snapshot, &selection, &matches), VEX_ERR_INVALID);
    vex_buf_clear(&bytes);
    for (int i = 0; i < 6; i++) { /* ids: no list, no strings, cut short, bytes after */
        i == 0   ? kit_put(&bytes, "n")
        : i == 1 ? kit_put(&bytes, "s", "id1")
        : i == 2 ? kit_put(&bytes, "msn", 1u, "id1")
        : i == 3 ? kit_put(&bytes, "asi", 2u, "id1", 1LL)
        : i == 4 ? kit_put(&bytes, "ass", 2u, "id1", "id2")
                 : kit_put(&bytes, "asn", 1u, "id1");
        bytes.len -= i == 4;
        selection = (vex_selection){bytes.data, bytes.len, NULL, 0};
        CHECK_STATUS(vex_matches_find(w.snapshot, &selection, &matches), VEX_ERR_INVALID);
        CHECK(matches.pays == NULL && matches.mems == NULL);
        vex_buf_clear(&bytes);
    }
    world_free(&w);
}

/* A live record whose vector is gone is damage, not a record to pass over. */
TEST(match_notices_a_missing_vector) {
    world w = world_make();
    vex_batch batch = {0};
    vex_snapshot *damaged = NULL;
    for (int i = 0; i < 100; i++) {
        world_put(&batch, VEX_OP_PUT, world_new_record(&w));
    }
    world_commit(&w, &batch);
    world_seal(&w);
    world_flush(&w, 0);
    CHECK_OK(vex_snapshot_copy(w.snapshot, &damaged));
    bool was_live = false;
    CHECK_OK(vex_tombs_kill(&damaged->vecs[0].tombs, 17, &was_live));
    CHECK(was_live);
    const vex_selection all = {0};
    vex_matches matches = {0};
    vex_vector_matches vectors = {0};
    CHECK_OK(vex_matches_find(damaged, &all, &matches));
    CHECK_EQ(matches.count, 100);
    CHECK_STATUS(vex_vector_matches_find(damaged, &matches, &vectors), VEX_ERR_CORRUPT);
    CHECK(vectors.vecs == NULL && vectors.mems == NULL);
    CHECK_OK(vex_vector_matches_find(w.snapshot, &matches, &vectors));
    vex_vector_matches_clear(&vectors);
    vex_matches_clear(&matches);
    vex_snapshot_release(damaged);
    world_free(&w);
}

/* Memory in use, but for what files remember. */
static uint64_t blocks_in_use(const world *w) {
    uint64_t blocks = vex_stat_get(VEX_STAT_HEAP_BLOCKS);
    for (uint32_t i = 0; i < w->snapshot->n_pays; i++) {
        for (uint32_t k = 0; k < VEX_MEMO_VALUES; k++) {
            blocks -= w->snapshot->pays[i].file->memo.values[k].bytes != NULL;
        }
    }
    return blocks;
}

TEST(match_without_memory) {
    kit_regex regex;
    kit_regex_install(&regex);
    world w = random_world(40);
    for (int i = 0; i < 12; i++) {
        vex_buf filter = {0};
        put_random_filter(&w, &filter, 3);
        const vex_selection selection = {NULL, 0, filter.data, filter.len};
        uint64_t blocks = blocks_in_use(&w);
        bool done = false;
        for (uint64_t n = 1; !done && n < 400; n++) {
            vex_matches matches = {0};
            vex_vector_matches vectors = {0};
            vex_mem_fail_at(n, true);
            vex_status status = vex_matches_find(w.snapshot, &selection, &matches);
            if (status == VEX_OK) {
                status = vex_vector_matches_find(w.snapshot, &matches, &vectors);
            }
            vex_mem_fail_at(0, false);
            done = status == VEX_OK;
            CHECK(done || status == VEX_ERR_NO_MEMORY);
            vex_matches_clear(&matches);
            vex_vector_matches_clear(&vectors);
            CHECK_EQ(blocks_in_use(&w), blocks);
        }
        vex_buf_clear(&filter);
    }
    CHECK_EQ(regex.live, 0);
    world_free(&w);
}
