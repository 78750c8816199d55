/*
 * t_block.c - columns in compressed blocks: round trips, and everything that can be wrong with
 * the encoded bytes.
 */
#include "codec/block.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "codec/block_format.h"
#include "tests/harness.h"
#include "tests/zstd_provider.h"

#include <pthread.h>
#include <stdatomic.h>

/* ---- columns to store ---- */

typedef struct column_model {
    uint32_t n;
    size_t *offsets, *lens; /* len SIZE_MAX: absent */
    vex_buf bytes;
    size_t capacity_offsets, capacity_lens;
} column_model;

static void model_add(column_model *m, const void *value, size_t len) {
    CHECK_OK(vex_grow((void **)&m->offsets, &m->capacity_offsets, m->n + 1, sizeof(size_t)));
    CHECK_OK(vex_grow((void **)&m->lens, &m->capacity_lens, m->n + 1, sizeof(size_t)));
    m->offsets[m->n] = m->bytes.len;
    m->lens[m->n++] = value ? len : SIZE_MAX;
    CHECK_OK(vex_buf_reserve(&m->bytes, 1)); /* the empty value has an address too */
    if (value && len > 0) {
        CHECK_OK(vex_buf_append(&m->bytes, value, len));
    }
}

static void model_clear(column_model *m) {
    vex_free(m->offsets);
    vex_free(m->lens);
    vex_buf_clear(&m->bytes);
    *m = (column_model){0};
}

static const uint8_t *model_value(const column_model *m, uint32_t i, size_t *len) {
    *len = m->lens[i];
    return m->lens[i] == SIZE_MAX ? NULL : m->bytes.data + m->offsets[i];
}

/* Values of `kind` 0: sentences, 1: noise, 2: mostly absent or empty. */
static void model_fill(column_model *m, uint32_t n, uint32_t len_max, int kind) {
    static const char *const words[] = {
        "{\"page\": ", "17, ",       "\"author\": ", "\"someone\", ",
        "\"tags\": ",  "[\"red\", ", "\"green\"]}",  "gloss "};
    uint8_t *value = vex_malloc(len_max + 1u);
    for (uint32_t i = 0; i < n; i++) {
        size_t len = test_random_below(len_max + 1);
        for (size_t j = 0; j < len;) {
            const char *word = words[test_random_below(8)];
            for (; *word && j < len; word++) {
                value[j++] = kind == 1 ? (uint8_t)test_random() : (uint8_t)*word;
            }
        }
        bool absent = test_random_below(kind == 2 ? 2 : 10) == 0;
        model_add(m, absent ? NULL : value, kind == 2 && i % 3 ? 0 : len);
    }
    vex_free(value);
}

static void encode(const column_model *m, int level, vex_buf *out) {
    vex_block_writer *writer;
    CHECK_OK(vex_block_writer_create(&writer, level));
    for (uint32_t i = 0; i < m->n; i++) {
        size_t len;
        const uint8_t *value = model_value(m, i, &len);
        CHECK_OK(vex_block_writer_add(writer, value, len));
    }
    CHECK_OK(vex_block_writer_finish(writer, out));
    vex_block_writer_destroy(writer);
}

static bool same_value(const column_model *m, uint32_t i, const uint8_t *value, size_t len) {
    size_t expected_len;
    const uint8_t *expected = model_value(m, i, &expected_len);
    if (expected == NULL || value == NULL) {
        return expected == NULL && value == NULL && len == 0;
    }
    return len == expected_len && memcmp(value, expected, len) == 0;
}

static void check_column(const column_model *m, const uint8_t *data, size_t len) {
    vex_block_column column;
    CHECK_OK(vex_block_column_open(&column, data, len, "test", 0));
    CHECK_EQ(column.n_values, m->n);
    CHECK_EQ(column.raw_bytes, m->bytes.len);
    CHECK(column.stored_bytes <= len);
    CHECK_OK(vex_block_column_verify(&column));
    vex_block_reader reader, shared;
    vex_block_reader_init(&reader, &column);
    vex_block_reader_init(&shared, &column);
    vex_block_reader_share(&shared);
    const uint8_t *value;
    size_t value_len;
    uint32_t n_present = 0;
    for (uint32_t i = 0; i < m->n; i++) {
        CHECK_OK(vex_block_reader_get(&reader, i, &value, &value_len));
        CHECK(same_value(m, i, value, value_len));
        n_present += value != NULL;
    }
    CHECK_EQ(column.n_present, n_present);
    for (uint32_t round = 0; round < 500 && m->n > 0; round++) {
        uint32_t i = test_random_below(m->n);
        CHECK_OK(vex_block_reader_get(&reader, i, &value, &value_len));
        CHECK(same_value(m, i, value, value_len));
        CHECK_OK(vex_block_reader_get(&shared, i, &value, &value_len));
        CHECK(same_value(m, i, value, value_len));
    }
    vex_block_reader_clear(&shared);
    CHECK_STATUS(vex_block_reader_get(&reader, m->n, &value, &value_len), VEX_ERR_INVALID);
    vex_block_reader_clear(&reader);
    vex_block_column_close(&column);
}

static void round_trip(const column_model *m) {
    for (int codec = 0; codec < 2; codec++) {
        CHECK_OK(codec ? test_register_zstd() : vex_set_codec(NULL));
        vex_buf out = {0};
        CHECK_OK(vex_buf_append(&out, "before..", 8));
        encode(m, VEX_BLOCK_LEVEL_FLUSH, &out);
        size_t end = out.len;
        CHECK_OK(vex_buf_append_zeros(&out, 64)); /* padding behind it */
        check_column(m, out.data + 8, out.len - 8);
        check_column(m, out.data + 8, end - 8);
        vex_buf_clear(&out);
    }
}

/* ---- round trips ---- */

TEST(block_small_columns) {
    column_model m = {0};
    round_trip(&m); /* no values */
    model_add(&m, NULL, 0);
    round_trip(&m); /* only absent */
    model_clear(&m);
    model_add(&m, "", 0);
    round_trip(&m); /* present and empty */
    model_add(&m, NULL, 7);
    model_add(&m, "x", 1);
    model_add(&m, "", 0);
    round_trip(&m);
    model_clear(&m);
}

TEST(block_absent_column_is_small) {
    column_model m = {0};
    for (uint32_t i = 0; i < 100000; i++) {
        model_add(&m, NULL, 0);
    }
    round_trip(&m);
    CHECK_OK(test_register_zstd());
    vex_buf out = {0};
    encode(&m, 3, &out);
    CHECK_EQ(out.len, 64);
    vex_buf_clear(&out);
    model_clear(&m);
}

/* Lengths around every place where the format changes: length codes of 1, 2 and 3 bytes, block
 * sizes of 4 and 16 KiB, values that need a block of their own. */
TEST(block_boundary_lengths) {
    static const uint32_t lens[] = {0,    1,    126,   127,   128,   4000,  4093,    4094,
                                    4095, 4096, 4097,  16380, 16381, 16382, 16383,   16384,
                                    2,    2,    16385, 20000, 65536, 3,     3000000, 1};
    column_model m = {0};
    uint8_t *value = vex_calloc(3000000, 1);
    for (uint32_t i = 0; i < 3000000; i++) {
        value[i] = (uint8_t)(i % 251);
    }
    for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
        model_add(&m, value + i, lens[i] > 32 ? lens[i] - 32 : lens[i]);
        model_add(&m, value + i, lens[i] > 32 ? lens[i] - 24 : lens[i]);
        model_add(&m, i % 2 ? NULL : value, lens[i]);
    }
    vex_free(value);
    round_trip(&m);
    model_clear(&m);
}

TEST(block_random_columns) {
    for (int kind = 0; kind < 3; kind++) {
        for (uint32_t len_max = 1; len_max < 100000; len_max *= 9) {
            column_model m = {0};
            model_fill(&m, 1 + test_random_below(400), len_max, kind);
            round_trip(&m);
            model_clear(&m);
        }
    }
}

/* With a dictionary; and past the point where the writer starts to cut blocks early. */
TEST(block_large_columns) {
    static const uint32_t rows[] = {20000, 120000};
    for (size_t r = 0; r < 2; r++) {
        for (int kind = 0; kind < 3; kind++) {
            column_model m = {0};
            model_fill(&m, rows[r], 200, kind);
            round_trip(&m);
            if (kind == 0) {
                vex_buf out = {0};
                encode(&m, VEX_BLOCK_LEVEL_FLUSH, &out);
                CHECK(vex_get32(out.data + AT_DICT_LEN) > 0);
                CHECK(out.len * 2 < m.bytes.len);
                vex_buf_clear(&out);
            }
            model_clear(&m);
        }
    }
}

TEST(block_codec_is_needed) {
    column_model m = {0};
    model_fill(&m, 200, 100, 0);
    vex_buf out = {0};
    CHECK_OK(test_register_zstd());
    encode(&m, 3, &out);
    CHECK_OK(vex_set_codec(NULL));
    vex_block_column column;
    CHECK_OK(vex_block_column_open(&column, out.data, out.len, "segment", 4096));
    CHECK_STATUS(vex_block_column_verify(&column), VEX_ERR_CODEC);
    vex_codec_provider provider = test_zstd_provider(); /* another library's frames */
    CHECK_OK(vex_set_codec(&provider));
    CHECK_OK(vex_block_column_verify(&column));
    vex_block_column_close(&column);
    check_column(&m, out.data, out.len);
    vex_buf_clear(&out);
    model_clear(&m);
}

TEST(block_value_too_big) {
    vex_block_writer *writer;
    CHECK_OK(vex_block_writer_create(&writer, 3));
    CHECK_STATUS(vex_block_writer_add(writer, "x", VEX_BLOCK_VALUE_MAX + 1), VEX_ERR_TOO_BIG);
    CHECK_OK(vex_block_writer_add(writer, NULL, SIZE_MAX));
    vex_block_writer_destroy(writer);
    vex_block_writer_destroy(NULL);
}

/* ---- damage ---- */

/* Open and read everything: true when all of it is right.  An error must name file and place. */
static bool reads_right(const column_model *m, const uint8_t *data, size_t len) {
    vex_block_column column;
    vex_status status = vex_block_column_open(&column, data, len, "segment", 1000);
    if (status != VEX_OK) {
        CHECK_EQ(status, VEX_ERR_CORRUPT);
        CHECK(strcmp(vex_last_error()->path, "segment") == 0);
        CHECK(vex_last_error()->offset >= 1000 && vex_last_error()->offset <= 1000 + len);
        return false;
    }
    vex_block_reader reader;
    vex_block_reader_init(&reader, &column);
    bool right = column.n_values == m->n;
    for (uint32_t i = 0; right && i < m->n; i++) {
        const uint8_t *value;
        size_t value_len;
        status = vex_block_reader_get(&reader, i, &value, &value_len);
        if (status != VEX_OK) {
            CHECK_EQ(status, VEX_ERR_CORRUPT);
            CHECK(vex_last_error()->offset >= 1000 && vex_last_error()->offset < 1000 + len);
            right = false;
        } else {
            CHECK(same_value(m, i, value, value_len)); /* never wrong data */
        }
    }
    if (right) {
        CHECK_OK(vex_block_column_verify(&column));
    }
    vex_block_reader_clear(&reader);
    vex_block_column_close(&column);
    return right;
}

/* A copy of exactly that size, so that the sanitizer sees reads past the end. */
static uint8_t *exact_copy(const uint8_t *data, size_t len) {
    uint8_t *copy = vex_malloc(len ? len : 1);
    memcpy(copy, data, len);
    return copy;
}

TEST(block_truncated) {
    CHECK_OK(test_register_zstd());
    column_model m = {0};
    model_fill(&m, 300, 60, 0);
    vex_buf out = {0};
    encode(&m, 3, &out);
    for (size_t len = 0; len < out.len; len++) {
        uint8_t *copy = exact_copy(out.data, len);
        CHECK(!reads_right(&m, copy, len));
        vex_free(copy);
    }
    CHECK(reads_right(&m, out.data, out.len));
    vex_buf_clear(&out);
    model_clear(&m);
}

TEST(block_every_bit_flipped) {
    for (int codec = 0; codec < 2; codec++) {
        CHECK_OK(codec ? test_register_zstd() : vex_set_codec(NULL));
        column_model m = {0};
        model_fill(&m, 120, 40, 0);
        vex_buf out = {0};
        encode(&m, 3, &out);
        uint8_t *copy = exact_copy(out.data, out.len);
        for (size_t bit = 0; bit < out.len * 8; bit++) {
            copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
            CHECK(!reads_right(&m, copy, out.len)); /* every byte is covered by a checksum */
            copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        CHECK(reads_right(&m, copy, out.len));
        vex_free(copy);
        vex_buf_clear(&out);
        model_clear(&m);
    }
}

TEST(block_bits_flipped_with_dictionary) {
    CHECK_OK(test_register_zstd());
    column_model m = {0};
    model_fill(&m, 16000, 150, 0);
    vex_buf out = {0};
    encode(&m, 3, &out);
    CHECK(vex_get32(out.data + AT_DICT_LEN) > 0);
    for (int round = 0; round < 60; round++) {
        size_t bit = test_random() % (out.len * 8);
        out.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        CHECK(!reads_right(&m, out.data, out.len));
        out.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    CHECK(reads_right(&m, out.data, out.len));
    vex_buf_clear(&out);
    model_clear(&m);
}

/* Make every checksum right again, as far as the sizes allow. */
static void repair_checksums(uint8_t *data, size_t len) {
    uint64_t n_blocks = vex_get32(data + AT_N_BLOCKS);
    uint64_t dict_at = HEADER_BYTES + n_blocks * ENTRY_BYTES;
    uint64_t dict_len = vex_get32(data + AT_DICT_LEN);
    for (uint64_t b = 0; b < n_blocks && HEADER_BYTES + (b + 1) * ENTRY_BYTES <= len; b++) {
        uint8_t *entry = data + HEADER_BYTES + b * ENTRY_BYTES;
        bool last = b + 1 == n_blocks || HEADER_BYTES + (b + 2) * ENTRY_BYTES > len;
        uint64_t start = vex_get64(entry + AT_OFFSET);
        uint64_t end =
            last ? vex_get64(data + AT_TOTAL_LEN) : vex_get64(entry + ENTRY_BYTES + AT_OFFSET);
        if (start <= end && end <= len) {
            vex_put32(entry + AT_STORED_CRC, vex_crc32c(0, data + start, end - start));
        }
    }
    if (dict_at + dict_len <= len) {
        vex_put32(data + AT_TABLE_CRC, vex_crc32c(0, data + HEADER_BYTES, dict_at - HEADER_BYTES));
        vex_put32(data + AT_DICT_CRC, vex_crc32c(0, data + dict_at, dict_len));
    }
    vex_put32(data + AT_HEADER_CRC, vex_crc32c(0, data, AT_HEADER_CRC));
}

/* Change bytes and make the checksums agree: what is read may be wrong, but every answer is an
 * answer (the sanitizers watch the memory). */
TEST(block_damage_behind_checksums) {
    uint32_t opened = 0, read = 0;
    for (int codec = 0; codec < 2; codec++) {
        CHECK_OK(codec ? test_register_zstd() : vex_set_codec(NULL));
        column_model m = {0};
        model_fill(&m, codec ? 16000 : 800, codec ? 150 : 60, 0);
        vex_buf out = {0};
        encode(&m, 3, &out);
        size_t head = HEADER_BYTES + vex_get32(out.data + AT_N_BLOCKS) * ENTRY_BYTES;
        for (int round = 0; round < (codec ? 1500 : 20000); round++) {
            uint8_t *copy = exact_copy(out.data, out.len);
            for (uint32_t changes = 1 + test_random_below(3); changes > 0; changes--) {
                size_t where = test_random() % (test_random_below(2) ? head : out.len);
                uint32_t mask = 1 + test_random_below(255);
                copy[where] ^= (uint8_t)(test_random_below(2) ? mask : 1u << mask % 8);
            }
            repair_checksums(copy, out.len);
            vex_block_column column;
            if (vex_block_column_open(&column, copy, out.len, "segment", 0) == VEX_OK) {
                opened++;
                vex_block_reader reader;
                vex_block_reader_init(&reader, &column);
                uint64_t sum = 0;
                for (uint32_t i = 0; i < 100 && column.n_values > 0; i++) {
                    const uint8_t *value;
                    size_t len;
                    if (vex_block_reader_get(&reader, test_random_below(column.n_values), &value,
                                             &len) == VEX_OK) {
                        read++;
                        for (size_t j = 0; j < len; j++) {
                            sum += value[j]; /* every byte can be touched */
                        }
                    }
                }
                CHECK(sum < UINT64_MAX);
                vex_block_reader_clear(&reader);
                (void)vex_block_column_verify(&column);
                vex_block_column_close(&column);
            }
            vex_free(copy);
        }
        vex_buf_clear(&out);
        model_clear(&m);
    }
    CHECK(opened > 1000 && read > 10000); /* the damage reaches what lies behind the checksums */
}

/* A table that promises a gigabyte from a few bytes asks for no memory. */
TEST(block_bomb_refused) {
    CHECK_OK(test_register_zstd());
    column_model m = {0};
    model_fill(&m, 100, 60, 0);
    vex_buf out = {0};
    encode(&m, 3, &out);
    uint8_t *raw_len = out.data + HEADER_BYTES + AT_RAW_LEN;
    vex_put32(raw_len, vex_get32(raw_len) | RAW_LEN_MASK);
    repair_checksums(out.data, out.len);
    uint64_t before = vex_stat_get(VEX_STAT_HEAP_BYTES);
    vex_block_column column;
    CHECK_STATUS(vex_block_column_open(&column, out.data, out.len, "x", 0), VEX_ERR_CORRUPT);
    CHECK_EQ(vex_stat_get(VEX_STAT_HEAP_BYTES), before);
    vex_buf_clear(&out);
    model_clear(&m);
}

/* ---- threads ---- */

static vex_block_column shared_column;
static const column_model *shared_model;
static _Atomic uint32_t n_wrong;

static void *read_many(void *argument) {
    uint32_t state = *(const uint32_t *)argument;
    vex_block_reader reader;
    vex_block_reader_init(&reader, &shared_column);
    for (int round = 0; round < 2000; round++) {
        const uint8_t *value;
        size_t len;
        state = state * 1664525u + 1013904223u;
        uint32_t i = (state >> 8) % shared_model->n;
        if (vex_block_reader_get(&reader, i, &value, &len) != VEX_OK ||
            !same_value(shared_model, i, value, len)) {
            n_wrong++;
        }
    }
    vex_block_reader_clear(&reader);
    return NULL;
}

TEST(block_threads_share_a_column) {
    CHECK_OK(test_register_zstd());
    column_model m = {0};
    model_fill(&m, 16000, 150, 0);
    vex_buf out = {0};
    encode(&m, 3, &out);
    CHECK_OK(vex_block_column_open(&shared_column, out.data, out.len, "x", 0));
    CHECK(shared_column.dict != NULL);
    shared_model = &m;
    n_wrong = 0;
    pthread_t threads[4];
    uint32_t seeds[4] = {1, 2, 3, 4};
    for (int t = 0; t < 4; t++) {
        CHECK_EQ(pthread_create(&threads[t], NULL, read_many, &seeds[t]), 0);
    }
    for (int t = 0; t < 4; t++) {
        pthread_join(threads[t], NULL);
    }
    CHECK_EQ(n_wrong, 0);
    vex_block_column_close(&shared_column);
    vex_buf_clear(&out);
    model_clear(&m);
}

#ifdef VEX_TESTING
/* Write and read a column; the status of the first call that failed. */
static vex_status write_and_read(const column_model *m) {
    vex_status status = VEX_OK;
    vex_block_writer *writer = NULL;
    vex_buf out = {0};
    vex_block_column column = {0};
    vex_block_reader reader = {0};
    VEX_TRY_DONE(status, vex_block_writer_create(&writer, 3));
    for (uint32_t i = 0; i < m->n; i++) {
        size_t len;
        const uint8_t *value = model_value(m, i, &len);
        VEX_TRY_DONE(status, vex_block_writer_add(writer, value, len));
    }
    VEX_TRY_DONE(status, vex_block_writer_finish(writer, &out));
    VEX_TRY_DONE(status, vex_block_column_open(&column, out.data, out.len, "x", 0));
    vex_block_reader_init(&reader, &column);
    for (uint32_t i = 0; i < m->n; i += 997) {
        const uint8_t *value;
        size_t len;
        VEX_TRY_DONE(status, vex_block_reader_get(&reader, i, &value, &len));
        CHECK(same_value(m, i, value, len));
    }
done:
    vex_block_reader_clear(&reader);
    vex_block_column_close(&column);
    vex_block_writer_destroy(writer);
    vex_buf_clear(&out);
    return status;
}

TEST(block_without_memory) {
    CHECK_OK(test_register_zstd());
    column_model m = {0};
    model_fill(&m, 16000, 150, 0);
    CHECK_OK(write_and_read(&m)); /* this thread's contexts exist from here on */
    uint64_t before = vex_stat_get(VEX_STAT_HEAP_BYTES);
    vex_status status = VEX_ERR_NO_MEMORY;
    uint64_t n = 0;
    while (status != VEX_OK && n < 1000) {
        vex_mem_fail_at(++n, true); /* digests are optional: one failure alone may not show */
        status = write_and_read(&m);
        vex_mem_fail_at(0, false);
        CHECK(status == VEX_OK || status == VEX_ERR_NO_MEMORY);
        CHECK_EQ(vex_stat_get(VEX_STAT_HEAP_BYTES), before);
    }
    CHECK_OK(status);
    CHECK(n > 20);
    model_clear(&m);
}
#endif
