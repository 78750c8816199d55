/*
 * t_rank_sparse_index.c - sparse vectors by their index: the same rows, scores (bit for bit) and
 * order as reading every row gives, whatever the signs, wherever rows are.
 */
#include "base/bits.h"
#include "rank/sparse_index.h"
#include "rank/sparse_scan.h"
#include "tests/rank_kit.h"

#define ENTRIES_MAX 40u

typedef struct wide_sparse {
    uint32_t n, indices[ENTRIES_MAX];
    float values[ENTRIES_MAX];
} wide_sparse;

/* Small indices are frequent.  Signs: 0 positive, 1 both, 2 few different values of both. */
static wide_sparse random_vector(uint32_t n, int signs) {
    wide_sparse out = {.n = 0};
    uint32_t index = 0;
    while (out.n < n) {
        index += 1 + test_random_below(1 + test_random_below(1 + index));
        out.indices[out.n] = index;
        const float value = test_random_float();
        out.values[out.n++] = signs == 0   ? fabsf(value)
                              : signs == 1 ? value * value * value
                                           : (float)test_random_below(5) / 2 - 1;
    }
    return out;
}

static void put_vector(record *r, const char *key, const wide_sparse *vector) {
    uint8_t payload[4 + 8 * ENTRIES_MAX];
    vex_put32(payload, vector->n);
    for (uint32_t i = 0; i < vector->n; i++) {
        uint32_t bits;
        memcpy(&bits, &vector->values[i], sizeof bits);
        vex_put32(payload + 4 + 4 * (size_t)i, vector->indices[i]);
        vex_put32(payload + 4 + 4 * (size_t)(vector->n + i), bits);
    }
    kit_str(&r->metadata, key);
    CHECK_OK(vex_mp_put_ext(&r->metadata, 1, payload, 4 + 8 * (size_t)vector->n));
}

static void random_metadata(record *r, int signs) {
    vex_buf_clear(&r->metadata);
    const bool with = test_random_below(8) != 0;
    const wide_sparse vector = random_vector(test_random_below(ENTRIES_MAX), signs);
    const wide_sparse other = random_vector(3, signs);
    kit_put(&r->metadata, "m", with ? 3u : 1u);
    kit_put(&r->metadata, "si", "n", 5LL);
    if (with) {
        put_vector(r, "other", &other);
        put_vector(r, "sv", &vector);
    }
}

static void write_batch(world *w, uint32_t n_new, uint32_t share, int signs) {
    vex_batch batch = {0};
    const size_t n_old = w->n;
    for (uint32_t i = 0; i < n_new; i++) {
        record *r = world_new_record(w);
        random_metadata(r, signs);
        world_put(&batch, VEX_OP_PUT, r);
    }
    for (size_t i = 0; i < n_old && share > 0; i++) {
        record *r = w->records[i];
        if (!r->live || test_random_below(share)) {
            continue;
        }
        if (test_random_below(2)) {
            r->live = false;
            world_put(&batch, VEX_OP_DELETE, r);
        } else {
            random_metadata(r, signs);
            world_put(&batch, VEX_OP_PAYLOAD, r);
        }
    }
    world_commit(w, &batch);
}

static void check_same(const world *w, const vex_matches *matches, int signs) {
    static const uint32_t limits[] = {1, 10, 10, 10, 200, 1000000, 0};
    const uint32_t limit = limits[test_random_below(7)];
    const wide_sparse query =
        random_vector(1 + test_random_below(test_random_below(3) ? 5 : ENTRIES_MAX), signs);
    const vex_sparse_query asked = {.key = (const uint8_t *)"sv",
                                    .key_len = 2,
                                    .indices = query.indices,
                                    .values = query.values,
                                    .n = query.n,
                                    .idf = test_random_below(3) == 0};
    vex_scored_list found = {0}, expected = {0};
    CHECK_OK(vex_retrieve_sparse(w->snapshot, matches, &asked, limit, &found));
    CHECK_OK(vex_retrieve_sparse_by_scan(w->snapshot, matches, &asked, limit, &expected));
    CHECK_EQ(found.n, expected.n);
    for (size_t i = 0; i < found.n; i++) {
        const vex_scored *a = &found.items[i], *b = &expected.items[i];
        if (a->row.seq != b->row.seq || memcmp(&a->score, &b->score, sizeof a->score) != 0 ||
            a->row.row != b->row.row || a->row.source != b->row.source ||
            a->row.in_memory != b->row.in_memory) {
            test_failed(__FILE__, __LINE__, "place %zu of %u: %llu with %.9g, expected %llu, %.9g",
                        i, limit, (unsigned long long)a->row.seq, (double)a->score,
                        (unsigned long long)b->row.seq, (double)b->score);
        }
    }
    vex_scored_list_clear(&found);
    vex_scored_list_clear(&expected);
}

static void check_queries(const world *w, uint32_t n, int signs) {
    for (uint32_t i = 0; i < n; i++) {
        vex_matches matches = {0};
        vex_buf ids = {0};
        const vex_selection selection = {0};
        const uint32_t share = 1 + test_random_below(test_random_below(2) ? 3 : 100);
        CHECK_OK(vex_matches_find(w->snapshot, &selection, &matches));
        for (uint32_t k = 0; k < matches.n_pays; k++) { /* some of the living rows */
            const uint32_t n_rows = w->snapshot->pays[k].file->rows;
            for (uint32_t row = 0; matches.pays[k] != NULL && row < n_rows; row++) {
                if (test_random_below(share) && vex_bit_get(matches.pays[k], row)) {
                    vex_bit_clear(matches.pays[k], row);
                    matches.count--;
                }
            }
        }
        check_same(w, test_random_below(3) ? NULL : &matches, signs);
        vex_matches_clear(&matches);
        vex_buf_clear(&ids);
    }
}

TEST(sparse_index_agrees_with_a_scan) {
    for (int signs = 0; signs < 3; signs++) {
        world w = world_make();
        check_queries(&w, 3, signs); /* nothing there yet */
        for (int step = 0; step < 6; step++) {
            write_batch(&w, step % 3 == 0 ? 3000 : test_random_below(300), 0, signs);
            check_queries(&w, 12, signs);
            write_batch(&w, 20, 2 + test_random_below(30), signs);
            check_queries(&w, 12, signs);
            if (step % 2) {
                world_seal(&w);
                world_flush(&w, test_random_below(2));
                check_queries(&w, 20, signs);
            }
        }
        CHECK(w.snapshot->n_pays > 2);
        CHECK(vex_sparse_lists_of(w.snapshot->pays[0].file) != NULL);
        world_free(&w);
    }
}

/* The rows of an older snapshot, by an index of a memtable that has newer rows. */
TEST(sparse_index_of_an_older_snapshot) {
    world w = world_make();
    write_batch(&w, 900, 0, 1);
    vex_snapshot *old = vex_snapshot_acquire(w.snapshot);
    write_batch(&w, 2000, 3, 1);
    check_queries(&w, 10, 1);
    vex_snapshot *newest = w.snapshot;
    w.snapshot = old;
    check_queries(&w, 40, 1);
    w.snapshot = newest;
    vex_snapshot_release(old);
    world_free(&w);
}

/* Take the section from a file, or damage a byte of it. */
static uint32_t spoil(const world *w, bool damage, vex_buf *copies) {
    const vex_section_plugin *plugin = vex_sparse_plugin();
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
            CHECK_OK(plugin->load(copies[n].data, copies[n].len, file->rows, file->container.path,
                                  section->offset, &spoiled));
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

TEST(sparse_without_sections_and_with_damaged_ones) {
    world w = world_make();
    vex_buf copies[8] = {{0}};
    for (int i = 0; i < 3; i++) {
        write_batch(&w, 500, 0, 1);
        world_seal(&w);
        world_flush(&w, 0);
    }
    write_batch(&w, 10, 10, 1);
    CHECK(spoil(&w, true, copies) >= 3);
    const uint64_t damaged = vex_stat_get(VEX_STAT_DAMAGED_PARTS);
    check_queries(&w, 20, 1);
    CHECK(vex_stat_get(VEX_STAT_DAMAGED_PARTS) > damaged);
    CHECK(spoil(&w, false, NULL) >= 3);
    check_queries(&w, 20, 1);
    for (uint32_t i = 0; i < w.snapshot->n_pays; i++) { /* what was made in memory goes */
        CHECK(vex_annexes_bytes(&w.snapshot->pays[i].file->annexes) > 0);
        vex_annexes_forget(&w.snapshot->pays[i].file->annexes);
    }
    check_queries(&w, 20, 1);
    world_free(&w);
    for (int i = 0; i < 8; i++) {
        vex_buf_clear(&copies[i]);
    }
}
