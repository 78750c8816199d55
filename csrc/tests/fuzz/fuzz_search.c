/*
 * fuzz_search.c - ranked searches of any bytes, on a small collection in memory and in files.
 *
 * Target "search": a request of one search.  What is accepted must give rows in order of their
 * scores, every record at most once, and not more than the limit.
 */
#include "rank/program.h"
#include "tests/db_kit.h"
#include "tests/filter_kit.h"
#include "tests/fuzz/fuzz.h"

#define ROWS 60u

static vex_db *db;
static vex_collection *records;

static void put_sparse(vex_buf *out, uint32_t index, float value) {
    uint8_t payload[20] = {2};
    const float values[2] = {value, 0.5f};
    vex_put32(payload + 4, index);
    vex_put32(payload + 8, index + 3);
    memcpy(payload + 12, values, sizeof values);
    CHECK_OK(vex_mp_put_ext(out, 1, payload, sizeof payload));
}

static void write_records(uint32_t first, uint32_t n) {
    vex_buf bytes = {0};
    float vectors[2 * ROWS];
    kit_put(&bytes, "aa", 4u, n);
    for (uint32_t i = 0; i < n; i++) {
        char id[12];
        (void)snprintf(id, sizeof id, "id%u", (unsigned)(first + i));
        kit_str(&bytes, id);
        vectors[2 * i] = (float)((first + i) % 7);
        vectors[2 * i + 1] = 1;
    }
    kit_put(&bytes, "a", n);
    for (uint32_t i = 0; i < n; i++) {
        kit_str(&bytes, i % 4 ? (i % 3 ? "some word" : "other words, and some") : "nothing");
    }
    kit_put(&bytes, "a", n);
    for (uint32_t i = 0; i < n; i++) {
        kit_put(&bytes, "msis", 2u, "g", (long long)(i % 3), "s");
        put_sparse(&bytes, i % 5, (float)i);
    }
    kit_put(&bytes, "n");
    const vex_write_request request = {.op = VEX_WRITE_ADD,
                                       .n = n,
                                       .dimension = 2,
                                       .vectors = vectors,
                                       .records = bytes.data,
                                       .records_len = bytes.len};
    CHECK_OK(vex_write(records, &request, NULL));
    vex_buf_clear(&bytes);
}

static void prepare(void) {
    if (db != NULL) {
        return;
    }
    db = open_db(NULL, 1000);
    records = open_collection(db, VEX_SPACE_L2);
    write_records(0, ROWS / 2);
    CHECK_OK(vex_collection_flush(records));
    write_records(ROWS / 2, ROWS / 2);
    delete_id(records, "id3", 1);
    delete_id(records, "id44", 1);
}

/* ---- seeds ---- */

static void put_leaf_end(vex_buf *out) {
    kit_put(out, "i", 1LL + test_random_below(70));
    kit_put(out, test_random_below(2) ? "n" : "d", 1.5);
    kit_put(out, "b", (int)test_random_below(2));
}

static void put_leaf(vex_buf *out) {
    static const uint8_t vector[] = {0xc4, 8, 0, 0, 128, 63, 0, 0, 0, 64};
    const uint32_t kind = test_random_below(4);
    if (kind == 0) {
        kit_put(out, "aid", 2u, (long long)VEX_R_VAL, (double)test_random_below(4));
    } else if (kind == 1) {
        kit_put(out, "ai", 5u, (long long)VEX_R_NEAREST);
        CHECK_OK(vex_buf_append(out, vector, sizeof vector));
        put_leaf_end(out);
    } else if (kind == 2) {
        kit_put(out, "aisdd", 7u, (long long)VEX_R_TEXT, "word some", 1.2, 0.75);
        put_leaf_end(out);
    } else {
        kit_put(out, "ais", 7u, (long long)VEX_R_SPARSE, "s");
        put_sparse(out, test_random_below(6), 2);
        kit_put(out, "b", (int)test_random_below(2));
        put_leaf_end(out);
    }
}

static void put_program(vex_buf *out) {
    const uint32_t n = 1 + test_random_below(5);
    kit_put(out, "a", 3 * n - 1);
    for (uint32_t i = 0; i < n; i++) {
        put_leaf(out);
        kit_put(out, "ai", 1u, (long long)VEX_R_ABS + test_random_below(3));
        if (i > 0) {
            kit_put(out, "ai", 1u, (long long)VEX_R_ADD + test_random_below(6));
        }
    }
}

static void seeds(const fuzz_seeds *seeds) {
    vex_buf input = {0};
    for (uint32_t i = 0; i < 30; i++) {
        input.len = 0;
        kit_put(&input, "aan", 1u, 7u);
        if (i % 3 == 0) {
            kit_put(&input, "aisi", 3u, (long long)VEX_F_NE, "g", 1LL);
        } else {
            kit_put(&input, "n");
        }
        if (i % 10 == 9) {
            kit_put(&input, "nn");
        } else {
            put_program(&input);
            kit_put(&input, i % 2 ? "n" : "aasiani", 4u, 1u, "g", (long long)(i % 4 / 2), 1u, 2LL);
        }
        kit_put(&input, "iii", (long long)test_random_below(3), (long long)test_random_below(9) - 1,
                (long long)test_random_below(32));
        seeds->take(seeds->context, input.data, input.len);
    }
    vex_buf_clear(&input);
}

/* ---- a run ---- */

static void run(const uint8_t *data, size_t len) {
    vex_result *result = NULL;
    const vex_status status = vex_search_ranked(records, data, len, 1, &result);
    CHECK_OK(vex_collection_unload(records)); /* what reading has left in caches */
    if (status != VEX_OK) {
        CHECK(status == VEX_ERR_INVALID || status == VEX_ERR_TOO_BIG ||
              status == VEX_ERR_DIMENSION || status == VEX_ERR_REGEX);
        CHECK(vex_last_error()->message[0] != '\0');
        return;
    }
    fuzz_accept();
    CHECK(result->n_rows <= ROWS - 2 && result->n_queries == 1);
    CHECK_EQ(result->row_counts[0], result->n_rows);
    for (uint32_t i = 1; i < result->n_rows; i++) {
        CHECK(vex_score_order(result->distances[i - 1], result->distances[i]) <= 0);
        for (uint32_t j = 0; j < i && result->seqs != NULL; j++) {
            CHECK(result->seqs[i] != result->seqs[j]);
        }
    }
    vex_result_free(result);
}

const fuzz_target fuzz_search = {
    .name = "search", .prepare = prepare, .seeds = seeds, .run = run, .rounds = 10000};
