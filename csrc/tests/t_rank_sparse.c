/*
 * t_rank_sparse.c - sparse vectors: their bytes, and the best ones for a query compared with a
 * plain loop over the records.
 */
#include "tests/rank_kit.h"

/* ---- bytes ---- */

static const char *problem_of(const char *bytes, size_t len) {
    const char *problem = vex_sparse_problem((const uint8_t *)bytes, len);
    return problem ? problem : "none";
}

#define PROBLEM(bytes) problem_of(bytes, sizeof(bytes) - 1)

TEST(sparse_vectors_are_checked) {
    CHECK(!strcmp(PROBLEM("\0\0\0\0"), "none"));
    CHECK(!strcmp(PROBLEM("\1\0\0\0\5\0\0\0\0\0\200\077"), "none"));
    CHECK(!strcmp(PROBLEM("\1\0\0\0\5\0\0\0\0\0\200\077\221\241x"), "none"));
    CHECK(strstr(PROBLEM(""), "shorter"));
    CHECK(strstr(PROBLEM("\1\0\0\0\5\0\0\0\0\0\200"), "shorter"));
    CHECK(strstr(PROBLEM("\377\377\377\377\5\0\0\0\0\0\200\077"), "shorter"));
    CHECK(strstr(PROBLEM("\2\0\0\0\5\0\0\0\5\0\0\0\0\0\200\077\0\0\200\077"), "ascending"));
    CHECK(strstr(PROBLEM("\2\0\0\0\6\0\0\0\5\0\0\0\0\0\200\077\0\0\200\077"), "ascending"));
    CHECK(strstr(PROBLEM("\1\0\0\0\5\0\0\0\0\0\200\177"), "finite"));
    CHECK(strstr(PROBLEM("\1\0\0\0\5\0\0\0\0\0\300\177"), "finite"));
    CHECK(strstr(PROBLEM("\1\0\0\0\5\0\0\0\0\0\200\077\220"), "labels"));
    CHECK(strstr(PROBLEM("\1\0\0\0\5\0\0\0\0\0\200\077\221\1"), "labels"));
    CHECK(strstr(PROBLEM("\1\0\0\0\5\0\0\0\0\0\200\077\221\241x\0"), "labels"));
    CHECK(strstr(PROBLEM("\1\0\0\0\5\0\0\0\0\0\200\077\221\241\377"), "labels"));
}

/* ---- the best rows ---- */

static vex_sparse_query query_of(const kit_sparse *vector, bool idf) {
    return (vex_sparse_query){.key = (const uint8_t *)"sv",
                              .key_len = 2,
                              .indices = vector->indices,
                              .values = vector->values,
                              .n = vector->n,
                              .idf = idf};
}

/* The sparse vector of a record, read anew; false: it has none. */
static bool vector_of(const record *r, vex_sparse_vector *out) {
    const vex_value value =
        vex_metadata_find(r->metadata.data, r->metadata.len, (const uint8_t *)"sv", 2);
    return value.type == VEX_VALUE_SPARSE && vex_sparse_read(value.bytes, value.len, out);
}

/* By double loops; true when they share an index. */
static bool plain_dot(const vex_sparse_vector *vector, const kit_sparse *query, float *dot) {
    bool shares = false;
    *dot = 0;
    for (uint32_t j = 0; j < query->n; j++) {
        for (uint32_t i = 0; i < vector->n; i++) {
            if (vex_sparse_index(vector, i) == query->indices[j]) {
                *dot += vex_sparse_value(vector, i) * query->values[j];
                shares = true;
            }
        }
    }
    return shares;
}

static void scale(const world *w, kit_sparse *query) {
    uint64_t live = 0;
    for (size_t i = 0; i < w->n; i++) {
        live += w->records[i]->live;
    }
    for (uint32_t j = 0; j < query->n; j++) {
        uint64_t having = 0;
        const kit_sparse one = {.n = 1, .indices = {query->indices[j]}, .values = {1}};
        for (size_t i = 0; i < w->n; i++) {
            vex_sparse_vector vector;
            float dot;
            having += w->records[i]->live && vector_of(w->records[i], &vector) &&
                      plain_dot(&vector, &one, &dot);
        }
        query->values[j] = vex_sparse_idf(query->values[j], live, having);
    }
}

static void check_best(const world *w, const vex_matches *matches, int64_t group, uint32_t limit,
                       bool idf) {
    kit_sparse query = kit_random_sparse(KIT_SPARSE_MAX);
    vex_scored_list found = {0};
    const vex_sparse_query asked = query_of(&query, idf);
    CHECK_OK(vex_retrieve_sparse(w->snapshot, matches, &asked, limit, &found));
    if (idf) {
        scale(w, &query);
    }
    size_t better = 0; /* rows before the next of `found`: counted anew for each */
    for (size_t at = 0; at <= found.n; at++) {
        better = 0;
        for (size_t i = 0; i < w->n; i++) {
            const record *r = w->records[i];
            vex_sparse_vector vector;
            float dot;
            const vex_value g =
                vex_metadata_find(r->metadata.data, r->metadata.len, (const uint8_t *)"g", 1);
            if (!r->live || !vector_of(r, &vector) || !plain_dot(&vector, &query, &dot) ||
                (matches && (g.type != VEX_VALUE_INT || g.integer != group))) {
                continue;
            }
            if (at == found.n) {
                better++; /* all of them */
            } else if (r->seq == found.items[at].row.seq) {
                CHECK(memcmp(&dot, &found.items[at].score, sizeof dot) == 0);
            } else {
                better += dot > found.items[at].score ||
                          (dot == found.items[at].score && r->seq < found.items[at].row.seq);
            }
        }
        if (at < found.n) {
            CHECK_EQ(better, at);
        }
    }
    CHECK_EQ(found.n, better < limit ? better : limit);
    vex_scored_list_clear(&found);
}

TEST(the_best_sparse_vectors_are_found) {
    world w = kit_ranked_world(3);
    for (int round = 0; round < 60; round++) {
        const uint32_t limit = round % 4 == 0 ? UINT32_MAX : test_random_below(20);
        vex_matches matches = {0};
        vex_buf filter = {0};
        const long long group = test_random_below(3);
        kit_put(&filter, "aisi", 3u, (long long)VEX_F_EQ, "g", group);
        const vex_selection selection = {.filter = filter.data, .filter_len = filter.len};
        CHECK_OK(vex_matches_find(w.snapshot, &selection, &matches));
        check_best(&w, round % 2 ? &matches : NULL, group, limit, round % 3 == 0);
        vex_matches_clear(&matches);
        vex_buf_clear(&filter);
    }
    world_free(&w);
}

TEST(a_key_without_sparse_vectors_finds_nothing) {
    world w = kit_ranked_world(1);
    vex_scored_list found = {0};
    kit_sparse query = {.n = 1, .indices = {1000}, .values = {1}};
    vex_sparse_query asked = query_of(&query, true);
    asked.key = (const uint8_t *)"g";
    asked.key_len = 1;
    CHECK_OK(vex_retrieve_sparse(w.snapshot, NULL, &asked, 10, &found));
    CHECK_EQ(found.n, 0);
    query.n = 0;
    asked = query_of(&query, false);
    CHECK_OK(vex_retrieve_sparse(w.snapshot, NULL, &asked, 10, &found));
    CHECK_EQ(found.n, 0);
    vex_scored_list_clear(&found);
    world_free(&w);
}

TEST(scores_of_all_kinds_are_put_in_order) {
    static const float scores[] = {1, NAN, -INFINITY, 0, INFINITY, -0.0f, NAN, 2, 1};
    vex_scored_list list = {0};
    for (uint32_t limit = 0; limit <= 10; limit++) {
        for (uint32_t i = 0; i < 9; i++) {
            const vex_scored item = {.row = {.seq = i}, .score = scores[i]};
            const bool wanted = vex_scored_wants(&list, limit, scores[i]);
            const size_t before = list.n;
            CHECK_OK(vex_scored_offer(&list, limit, item));
            CHECK(wanted || list.n == before);
        }
        vex_scored_sort(&list);
        static const uint64_t order[] = {4, 7, 0, 8, 3, 5, 2, 1, 6};
        CHECK_EQ(list.n, limit < 9 ? limit : 9);
        for (size_t i = 0; i < list.n; i++) {
            CHECK_EQ(list.items[i].row.seq, order[i]);
        }
        vex_scored_list_clear(&list);
    }
}
