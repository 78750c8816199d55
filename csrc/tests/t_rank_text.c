/*
 * t_rank_text.c - full text by BM25: the same rows, scores (bit for bit) and order as scoring every
 * living document, wherever rows are: in memtables, many files, files that lost rows, files without
 * an index or with a damaged one.
 */
#include "rank/retrieve.h"

#include "base/bits.h"
#include "rank/check.h"
#include "rank/sparse_index.h"
#include "rank/tokens.h"
#include "rank/words.h"
#include "tests/filter_world.h"
#include "tests/harness.h"

#include <math.h>
#include <stdlib.h>

#define WORDS_MAX 64

/* ---- the reference ---- */

typedef struct query_words {
    char text[WORDS_MAX][VEX_TOKEN_BYTES_MAX + 1];
    uint32_t times[WORDS_MAX], n;
} query_words;

static int compare_text(const void *a, const void *b) {
    return strcmp(a, b);
}

static query_words words_of(const char *query) {
    query_words out = {.n = 0};
    static char all[WORDS_MAX][VEX_TOKEN_BYTES_MAX + 1];
    uint32_t n = 0;
    vex_tokens tokens;
    vex_tokens_start(&tokens, (const uint8_t *)query, strlen(query));
    while (vex_tokens_next(&tokens)) {
        CHECK(n < WORDS_MAX);
        memset(all[n], 0, sizeof all[n]);
        memcpy(all[n++], tokens.bytes, tokens.len);
    }
    qsort(all, n, sizeof all[0], compare_text);
    for (uint32_t i = 0; i < n; i++) {
        if (out.n > 0 && strcmp(out.text[out.n - 1], all[i]) == 0) {
            out.times[out.n - 1]++;
        } else {
            memcpy(out.text[out.n], all[i], sizeof all[i]);
            out.times[out.n++] = 1;
        }
    }
    return out;
}

/* How often each word of the query is in the document; returns its length. */
static uint32_t count_words(const record *r, const query_words *words, uint32_t *times) {
    uint32_t length = 0;
    vex_tokens tokens;
    memset(times, 0, WORDS_MAX * sizeof *times);
    vex_tokens_start(&tokens, r->document.data, r->document.len);
    for (; vex_tokens_next(&tokens); length++) {
        for (uint32_t i = 0; i < words->n; i++) {
            times[i] += strlen(words->text[i]) == tokens.len &&
                        memcmp(words->text[i], tokens.bytes, tokens.len) == 0;
        }
    }
    return length;
}

typedef struct expected_row {
    uint64_t seq;
    float score;
} expected_row;

static int compare_rows(const void *a, const void *b) {
    const expected_row *x = a, *y = b;
    if (x->score != y->score) {
        return x->score > y->score ? -1 : 1;
    }
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

/* `wanted`: of each record; NULL: all. */
static uint32_t score_all(const world *w, const query_words *words, const vex_text_query *query,
                          const bool *wanted, expected_row *out) {
    double documents = 0, tokens = 0, df[WORDS_MAX] = {0};
    uint32_t times[WORDS_MAX], n = 0;
    for (size_t i = 0; i < w->n; i++) {
        const record *r = w->records[i];
        if (r->live && r->has_document) {
            documents++;
            tokens += count_words(r, words, times);
            for (uint32_t k = 0; k < words->n; k++) {
                df[k] += times[k] > 0;
            }
        }
    }
    const double k1 = (double)query->k1, b = (double)query->b;
    const float base = (float)(k1 * (1 - b)), per_token = (float)(k1 * b / (tokens / documents));
    for (size_t i = 0; i < w->n; i++) {
        const record *r = w->records[i];
        if (!r->live || !r->has_document || (wanted != NULL && !wanted[i])) {
            continue;
        }
        const uint32_t length = count_words(r, words, times);
        float score = 0;
        bool any = false;
        for (uint32_t k = 0; k < words->n; k++) {
            if (times[k] > 0) {
                const float weight =
                    (float)(log1p((documents - df[k] + 0.5) / (df[k] + 0.5)) * words->times[k]);
                score += weight / (1.0f + (base + per_token * (float)length) / (float)times[k]);
                any = true;
            }
        }
        if (any) {
            out[n++] = (expected_row){r->seq, score};
        }
    }
    if (n > 1) {
        qsort(out, n, sizeof *out, compare_rows);
    }
    return n;
}

static void check_query(const world *w, const char *text, const vex_matches *matches,
                        const bool *wanted, uint32_t limit, float k1, float b) {
    const vex_text_query query = {(const uint8_t *)text, strlen(text), k1, b};
    const query_words words = words_of(text);
    expected_row *expected = calloc(w->n + 1, sizeof *expected);
    vex_scored_list found = {0};
    const uint32_t n = score_all(w, &words, &query, wanted, expected);
    CHECK_OK(vex_retrieve_text(w->snapshot, matches, &query, limit, &found));
    if (found.n != (n < limit ? n : limit)) {
        test_failed(__FILE__, __LINE__, "\"%s\": %zu rows, expected %u of %u", text, found.n,
                    n < limit ? n : limit, n);
    }
    for (size_t i = 0; i < found.n; i++) {
        const vex_scored *row = &found.items[i];
        if (row->row.seq != expected[i].seq ||
            memcmp(&row->score, &expected[i].score, sizeof row->score) != 0) {
            test_failed(__FILE__, __LINE__,
                        "\"%s\", limit %u, place %zu: %llu with %.9g, expected %llu with %.9g",
                        text, limit, i, (unsigned long long)row->row.seq, (double)row->score,
                        (unsigned long long)expected[i].seq, (double)expected[i].score);
        }
    }
    vex_scored_list_clear(&found);
    free(expected);
}

/* ---- documents ---- */

/* Words w0, w1, ... of which w<n> is about half as frequent as w<n/2>. */
static void random_document(record *r, uint32_t vocabulary) {
    vex_buf_clear(&r->document);
    r->has_document = test_random_below(30) != 0;
    const uint32_t n = test_random_below(200) ? test_random_below(24) : 400;
    for (uint32_t i = 0; r->has_document && i < n; i++) {
        char word[24];
        const uint32_t range = 1 + test_random_below(vocabulary);
        const int len = snprintf(word, sizeof word, "%sw%u", i ? " " : "",
                                 (unsigned)test_random_below(1 + test_random_below(range)));
        for (uint32_t times = test_random_below(12) ? 1 : test_random_below(5); times; times--) {
            CHECK_OK(vex_buf_append(&r->document, word, (size_t)len));
        }
    }
}

static void add_documents(world *w, uint32_t n, uint32_t vocabulary) {
    vex_batch batch = {0};
    for (; n > 0; n--) {
        record *r = world_new_record(w);
        random_document(r, vocabulary);
        world_put(&batch, VEX_OP_PUT, r);
    }
    world_commit(w, &batch);
}

/* Delete or rewrite one of `share` records. */
static void change_documents(world *w, uint32_t share, uint32_t vocabulary) {
    vex_batch batch = {0};
    for (size_t i = 0; i < w->n; i++) {
        record *r = w->records[i];
        if (!r->live || test_random_below(share)) {
            continue;
        }
        if (test_random_below(2)) {
            r->live = false;
            world_put(&batch, VEX_OP_DELETE, r);
        } else {
            random_document(r, vocabulary);
            world_put(&batch, VEX_OP_PAYLOAD, r);
        }
    }
    world_commit(w, &batch);
}

static const char *random_query(uint32_t vocabulary) {
    static char text[400];
    size_t at = 0;
    for (uint32_t n = 1 + test_random_below(test_random_below(4) ? 4 : 20); n > 0; n--) {
        at += (size_t)snprintf(text + at, sizeof text - at, "W%u ",
                               (unsigned)test_random_below(
                                   1 + test_random_below(test_random_below(3) ? 12 : vocabulary)));
    }
    return text;
}

/* A share of the living rows, as a filter would find them. */
static vex_matches random_matches(const world *w, bool *wanted) {
    const uint32_t share = 1 + test_random_below(test_random_below(2) ? 4 : 300);
    const vex_selection all = {0};
    vex_matches out;
    CHECK_OK(vex_matches_find(w->snapshot, &all, &out));
    memset(wanted, 0, w->n);
    for (size_t i = 0; i < w->n; i++) {
        wanted[i] = test_random_below(share) == 0;
    }
    out.count = 0;
    for (uint32_t i = 0; i < out.n_pays + out.n_mems; i++) {
        const bool in_memory = i >= out.n_pays;
        const uint32_t number = in_memory ? i - out.n_pays : i;
        uint64_t *words = in_memory ? out.mems[number] : out.pays[number];
        const uint32_t n_rows =
            in_memory ? w->snapshot->mems[number].n_payloads : w->snapshot->pays[number].file->rows;
        for (uint32_t row = 0; words != NULL && row < n_rows; row++) {
            const uint64_t seq =
                in_memory ? vex_memtable_payload(w->snapshot->mems[number].table, row)->payload.seq
                          : w->snapshot->pays[number].file->seqs[row];
            if (!wanted[seq - 1]) {
                vex_bit_clear(words, row);
            }
            out.count += vex_bit_get(words, row);
        }
    }
    return out;
}

static void check_queries(const world *w, uint32_t n, uint32_t vocabulary) {
    static const uint32_t limits[] = {1, 10, 10, 10, 100, 100000, 0};
    bool *wanted = calloc(w->n + 1, 1);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t limit = limits[test_random_below(7)];
        const bool usual = test_random_below(4) != 0;
        const float k1 = usual ? 1.2f : 3 * fabsf(test_random_float());
        const float b = usual ? 0.75f : fabsf(test_random_float());
        const char *text = random_query(vocabulary);
        if (test_random_below(3)) {
            check_query(w, text, NULL, NULL, limit, k1, b);
        } else {
            vex_matches matches = random_matches(w, wanted);
            check_query(w, text, &matches, wanted, limit, k1, b);
            vex_matches_clear(&matches);
        }
    }
    free(wanted);
}

/* ---- tests ---- */

TEST(text_retrieval_agrees_with_scoring_everything) {
    for (int round = 0; round < 4; round++) {
        const uint32_t vocabulary = round % 2 ? 2000 : 60;
        world w = world_make();
        check_queries(&w, 5, vocabulary); /* nothing there yet */
        for (int step = 0; step < 12; step++) {
            add_documents(&w, test_random_below(step % 4 ? 300 : 3000), vocabulary);
            check_queries(&w, 15, vocabulary);
            if (test_random_below(2)) {
                change_documents(&w, 1 + test_random_below(20), vocabulary);
                check_queries(&w, 15, vocabulary);
            }
            if (step % 3 == 2) {
                world_seal(&w);
                world_flush(&w, test_random_below(3));
                check_queries(&w, 30, vocabulary);
            }
        }
        CHECK(w.snapshot->n_pays > 2);
        world_free(&w);
    }
}

/* The same records in one memtable and in many files. */
TEST(text_scores_do_not_depend_on_where_rows_are) {
    const vex_text_query query = {(const uint8_t *)"w0 w1 w5 w9 w33", 15, 1.2f, 0.75f};
    vex_scored_list found[2] = {{0}};
    for (int i = 0; i < 2; i++) {
        world w = world_make();
        for (uint32_t n = 0; n < 2000; n++) {
            vex_batch batch = {0};
            record *r = world_new_record(&w);
            char text[64];
            const int len = snprintf(text, sizeof text, "w%u w%u w%u %.*s", n % 3, n % 7, n % 41,
                                     (int)(n % 20), "a b c d e f g h i j");
            vex_buf_clear(&r->document);
            CHECK_OK(vex_buf_append(&r->document, text, (size_t)len));
            r->has_document = true;
            world_put(&batch, VEX_OP_PUT, r);
            world_commit(&w, &batch);
            if (i == 1 && n % 300 == 299) {
                world_seal(&w);
                world_flush(&w, 0);
            }
        }
        CHECK(i == 0 || w.snapshot->n_pays > 5);
        CHECK_OK(vex_retrieve_text(w.snapshot, NULL, &query, 50, &found[i]));
        world_free(&w);
    }
    CHECK(found[0].n == 50 && found[1].n == 50);
    for (uint32_t i = 0; i < 50; i++) {
        CHECK_EQ(found[0].items[i].row.seq, found[1].items[i].row.seq);
        CHECK(memcmp(&found[0].items[i].score, &found[1].items[i].score, sizeof(float)) == 0);
    }
    vex_scored_list_clear(&found[0]);
    vex_scored_list_clear(&found[1]);
}

TEST(text_parameters_are_checked) {
    world w = world_make();
    vex_scored_list found = {0};
    static const float bad[][2] = {{-1, 0.5f}, {NAN, 0.5f}, {INFINITY, 0.5f},
                                   {1, -0.1f}, {1, 1.1f},   {1, NAN}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const vex_text_query query = {(const uint8_t *)"a", 1, bad[i][0], bad[i][1]};
        CHECK_STATUS(vex_retrieve_text(w.snapshot, NULL, &query, 10, &found), VEX_ERR_INVALID);
    }
    vex_buf text = {0};
    for (uint32_t i = 0; i < 3 * VEX_TEXT_WORDS_MAX; i++) {
        char word[16];
        const int len = snprintf(word, sizeof word, "%u ", i % (VEX_TEXT_WORDS_MAX + 1));
        CHECK_OK(vex_buf_append(&text, word, (size_t)len));
    }
    const vex_text_query query = {text.data, text.len, 1.2f, 0.75f};
    CHECK_STATUS(vex_retrieve_text(w.snapshot, NULL, &query, 10, &found), VEX_ERR_INVALID);
    vex_buf_clear(&text);
    world_free(&w);
}

/* Take the section from a file, or damage a byte of it. */
static uint32_t spoil(const world *w, bool damage, vex_buf *copies) {
    const vex_section_plugin *plugin = vex_words_plugin();
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

TEST(text_without_sections_and_with_damaged_ones) {
    world w = world_make();
    vex_buf copies[8] = {{0}};
    for (int i = 0; i < 4; i++) {
        add_documents(&w, 500, 100);
        world_seal(&w);
        world_flush(&w, 0);
    }
    change_documents(&w, 10, 100);
    check_queries(&w, 20, 100);
    CHECK(spoil(&w, true, copies) >= 4);
    const uint64_t damaged = vex_stat_get(VEX_STAT_DAMAGED_PARTS);
    check_queries(&w, 20, 100);
    CHECK(vex_stat_get(VEX_STAT_DAMAGED_PARTS) > damaged);
    CHECK(spoil(&w, false, NULL) >= 4);
    check_queries(&w, 20, 100);
    for (uint32_t i = 0; i < w.snapshot->n_pays; i++) { /* what was made in memory goes */
        CHECK(vex_annexes_bytes(&w.snapshot->pays[i].file->annexes) > 0);
        vex_annexes_forget(&w.snapshot->pays[i].file->annexes);
        CHECK_EQ(vex_annexes_bytes(&w.snapshot->pays[i].file->annexes), 0);
    }
    check_queries(&w, 20, 100);
    world_free(&w);
    for (int i = 0; i < 8; i++) {
        vex_buf_clear(&copies[i]);
    }
}

/* ---- checking ---- */

TEST(indexes_are_compared_with_the_rows) {
    world w = world_make();
    add_documents(&w, 400, 100);
    world_seal(&w);
    world_flush(&w, 0);
    vex_payfile *file = w.snapshot->pays[0].file;
    CHECK_OK(vex_rank_check(file));
    for (uint32_t kind = VEX_SECTION_SPARSE; kind <= VEX_SECTION_WORDS; kind += 3) {
        vex_section *section = NULL;
        for (uint32_t i = 0; i < file->container.n_sections; i++) {
            section =
                file->container.sections[i].kind == kind ? &file->container.sections[i] : section;
        }
        CHECK(section != NULL);
        const uint8_t *sound = section->data;
        uint8_t *changed = malloc(section->len);
        memcpy(changed, sound, section->len);
        changed[test_random_below((uint32_t)section->len)] ^= 4;
        section->data = changed;
        CHECK_STATUS(vex_rank_check(file), VEX_ERR_CORRUPT);
        CHECK_EQ(vex_last_error()->offset, section->offset);
        section->data = sound;
        free(changed);
        CHECK_OK(vex_rank_check(file));
    }
    world_free(&w);
}
