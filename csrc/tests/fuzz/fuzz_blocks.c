/*
 * fuzz_blocks.c - columns of byte strings in compressed blocks, of any bytes.
 *
 * Target "blocks": the input is the encoded column.  zstd frames in it are changed, too, behind
 * right checksums.
 */
#include "codec/block_format.h"

#include "base/crc32c.h"
#include "tests/fuzz/fuzz.h"
#include "tests/zstd_provider.h"

#include <stdlib.h>

#define PATH "a file"

typedef struct table {
    uint32_t n;
    size_t dict_at, dict_len, blocks_at;
} table;

static bool find_table(const uint8_t *data, size_t len, table *out) {
    if (len < HEADER_BYTES) {
        return false;
    }
    out->n = vex_get32(data + AT_N_BLOCKS);
    out->dict_len = vex_get32(data + AT_DICT_LEN);
    if (out->n > (len - HEADER_BYTES) / ENTRY_BYTES) {
        return false;
    }
    out->dict_at = HEADER_BYTES + (size_t)out->n * ENTRY_BYTES;
    out->blocks_at = out->dict_at + out->dict_len;
    return out->blocks_at <= len;
}

/* Stored bytes of a block; false when they are not inside. */
static bool find_block(const uint8_t *data, size_t len, const table *t, uint32_t block, size_t *at,
                       size_t *bytes) {
    const uint8_t *entry = data + HEADER_BYTES + (size_t)block * ENTRY_BYTES;
    const uint64_t from = vex_get64(entry + AT_OFFSET);
    const uint64_t to = block + 1 < t->n ? vex_get64(entry + ENTRY_BYTES + AT_OFFSET)
                                         : vex_get64(data + AT_TOTAL_LEN);
    *at = (size_t)from;
    *bytes = (size_t)(to - from);
    return from <= to && to <= len;
}

void fuzz_fix_blocks(uint8_t *data, size_t len) {
    table t;
    if (!find_table(data, len, &t)) {
        return;
    }
    for (uint32_t block = 0; block < t.n; block++) {
        size_t at, bytes;
        if (find_block(data, len, &t, block, &at, &bytes)) {
            vex_put32(data + HEADER_BYTES + (size_t)block * ENTRY_BYTES + AT_STORED_CRC,
                      vex_crc32c(0, data + at, bytes));
        }
    }
    vex_put32(data + AT_DICT_CRC, vex_crc32c(0, data + t.dict_at, t.dict_len));
    vex_put32(data + AT_TABLE_CRC, vex_crc32c(0, data + HEADER_BYTES, (size_t)t.n * ENTRY_BYTES));
    vex_put32(data + AT_HEADER_CRC, vex_crc32c(0, data, AT_HEADER_CRC));
}

/* In a block or the dictionary, whose length stays. */
static void change_inside(fuzz_input *input, size_t at, size_t bytes) {
    fuzz_input part = {.data = input->data + at, .len = bytes, .capacity = bytes};
    if (bytes > 0) {
        fuzz_change(&part);
    }
}

void fuzz_change_blocks(fuzz_input *input) {
    static const fuzz_field header[] = {{AT_MAGIC, 4},     {AT_N_VALUES, 4},  {AT_N_BLOCKS, 4},
                                        {AT_N_PRESENT, 4}, {AT_RAW_BYTES, 8}, {AT_TOTAL_LEN, 8},
                                        {AT_DICT_LEN, 4}};
    static const fuzz_field entry[] = {{AT_OFFSET, 8}, {AT_FIRST, 4}, {AT_RAW_LEN, 4}};
    const uint32_t what = test_random_below(10);
    table t;
    size_t at, bytes;
    if (!find_table(input->data, input->len, &t) || what == 0) {
        fuzz_change(input);
    } else if (what < 3 || t.n == 0) {
        FUZZ_CHANGE_FIELD(input->data, input->len, header, input->len);
    } else if (what == 3) {
        change_inside(input, t.dict_at, t.dict_len);
    } else {
        const uint32_t block = test_random_below(t.n);
        if (what < 7) {
            FUZZ_CHANGE_FIELD(input->data + HEADER_BYTES + (size_t)block * ENTRY_BYTES, ENTRY_BYTES,
                              entry, input->len);
        } else if (find_block(input->data, input->len, &t, block, &at, &bytes)) {
            change_inside(input, at, bytes);
        }
    }
}

/* ---- seeds ---- */

/* Every third value is absent, every fifth empty. */
static void seed(const fuzz_seeds *seeds, uint32_t n, size_t value_len, bool compressible) {
    vex_block_writer *writer = NULL;
    vex_buf column = {0};
    uint8_t *value = malloc(value_len + 1);
    uint64_t state = 1;
    CHECK_OK(vex_block_writer_create(&writer, VEX_BLOCK_LEVEL_FLUSH));
    for (uint32_t i = 0; i < n; i++) {
        for (size_t b = 0; b < value_len; b++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            value[b] = (uint8_t)(compressible ? 'a' + b % 7 + i % 3 : state >> 56);
        }
        CHECK_OK(vex_block_writer_add(writer, i % 3 == 2 ? NULL : value, i % 5 ? value_len : 0));
    }
    CHECK_OK(vex_block_writer_finish(writer, &column));
    vex_block_writer_destroy(writer);
    seeds->take(seeds->context, column.data, column.len);
    vex_buf_clear(&column);
    free(value);
}

#define GREETINGS 20

/* A raw block: the lengths of `n` values, of which the second is absent, and the values. */
static size_t make_raw_block(uint8_t *raw, uint32_t n) {
    static const char greeting[] = "hello ";
    const size_t bytes = GREETINGS * (sizeof greeting - 1);
    size_t at = 0;
    for (uint32_t i = 0; i < n; i++) {
        raw[at++] = (uint8_t)(i == 1 ? 0 : 1 + bytes);
    }
    for (size_t i = 0; i < (n - (n > 1)) * bytes; i++) {
        raw[at++] = (uint8_t)greeting[i % (sizeof greeting - 1)];
    }
    return at;
}

/* Blocks of one and of three values with a dictionary, which the writer gives to columns of more
 * than a MiB only. */
static void seed_with_dictionary(const fuzz_seeds *seeds) {
    static const char dictionary[] = "hello hello hello hello hello hello";
    static const uint32_t counts[] = {1, 3};
    const size_t blocks_at = HEADER_BYTES + 2 * ENTRY_BYTES + sizeof dictionary;
    vex_codec_dict *dict = NULL;
    vex_buf column = {0};
    CHECK_OK(vex_codec_dict_create(&dict, dictionary, sizeof dictionary));
    CHECK_OK(vex_buf_append_zeros(&column, HEADER_BYTES + 2 * ENTRY_BYTES));
    CHECK_OK(vex_buf_append(&column, dictionary, sizeof dictionary));
    for (uint32_t i = 0; i < 2; i++) {
        uint8_t raw[512], *entry;
        vex_codec_id id;
        const size_t raw_len = make_raw_block(raw, counts[i]), at = column.len;
        CHECK_OK(vex_codec_compress(&column, raw, raw_len, dict, 3, &id));
        CHECK_EQ(id, VEX_CODEC_ZSTD);
        entry = column.data + HEADER_BYTES + (size_t)i * ENTRY_BYTES;
        vex_put64(entry + AT_OFFSET, at);
        vex_put32(entry + AT_FIRST, i);
        vex_put32(entry + AT_RAW_LEN, (uint32_t)id << RAW_LEN_BITS | (uint32_t)raw_len);
    }
    CHECK(column.len > blocks_at);
    vex_put32(column.data + AT_MAGIC, COLUMN_MAGIC);
    vex_put32(column.data + AT_N_VALUES, 4);
    vex_put32(column.data + AT_N_BLOCKS, 2);
    vex_put32(column.data + AT_N_PRESENT, 3);
    vex_put64(column.data + AT_RAW_BYTES, 3 * 6 * GREETINGS);
    vex_put64(column.data + AT_TOTAL_LEN, column.len);
    vex_put32(column.data + AT_DICT_LEN, sizeof dictionary);
    fuzz_fix_blocks(column.data, column.len);
    seeds->take(seeds->context, column.data, column.len);
    vex_codec_dict_destroy(dict);
    vex_buf_clear(&column);
}

static void prepare(void) {
    CHECK_OK(test_register_zstd());
}

static void seeds(const fuzz_seeds *seeds) {
    seed(seeds, 0, 1, true);
    seed(seeds, 1, 3, true);
    seed(seeds, 40, 30, true);
    seed(seeds, 40, 60, false);
    seed(seeds, 6, 20000, true);
    seed_with_dictionary(seeds);
}

/* ---- a run ---- */

/* Every byte of a value is there to be read. */
static uint64_t touch(const uint8_t *value, size_t len) {
    uint64_t sum = 0;
    for (size_t i = 0; i < len; i++) {
        sum += value[i];
    }
    return sum;
}

/* All values, forwards or backwards; how many bytes and how many present.  The status of the last
 * failure. */
static vex_status read_values(const vex_block_column *column, bool backwards, uint64_t *bytes,
                              uint64_t *present) {
    vex_block_reader reader;
    vex_status failure = VEX_OK;
    const uint32_t n = column->n_values < 5000 ? column->n_values : 5000;
    vex_block_reader_init(&reader, column);
    *bytes = *present = 0;
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *value = NULL;
        size_t len = 0;
        vex_status status = vex_block_reader_get(&reader, backwards ? n - 1 - i : i, &value, &len);
        if (status != VEX_OK) {
            fuzz_check_error(status, PATH);
            failure = status;
        } else if (value != NULL) {
            CHECK(touch(value, len) <= 255 * len);
            *bytes += len;
            (*present)++;
        }
    }
    vex_block_reader_clear(&reader);
    return failure;
}

static void run(const uint8_t *data, size_t len) {
    vex_block_column column = {0};
    uint64_t bytes[2], present[2];
    vex_status status = vex_block_column_open(&column, data, len, PATH, 0);
    if (status != VEX_OK) {
        fuzz_check_error(status, PATH);
        return;
    }
    CHECK(column.stored_bytes <= len && column.n_present <= column.n_values);
    const vex_status forwards = read_values(&column, false, &bytes[0], &present[0]);
    const vex_status backwards = read_values(&column, true, &bytes[1], &present[1]);
    CHECK_EQ(forwards, backwards);
    CHECK(bytes[0] == bytes[1] && present[0] == present[1]);
    status = vex_block_column_verify(&column);
    if (status != VEX_OK) {
        fuzz_check_error(status, PATH);
    } else if (column.n_values <= 5000) {
        fuzz_accept();
        CHECK_OK(forwards);
        CHECK(bytes[0] == column.raw_bytes && present[0] == column.n_present);
    }
    uint64_t past[2];
    const uint8_t *value = NULL;
    vex_block_reader reader;
    vex_block_reader_init(&reader, &column);
    CHECK_STATUS(vex_block_reader_get(&reader, column.n_values, &value, &past[0]), VEX_ERR_INVALID);
    vex_block_reader_clear(&reader);
    vex_block_column_close(&column);
}

/* A zstd frame may stand for 32,768 times its length. */
const fuzz_target fuzz_blocks = {.name = "blocks",
                                 .prepare = prepare,
                                 .seeds = seeds,
                                 .run = run,
                                 .change = fuzz_change_blocks,
                                 .fix = fuzz_fix_blocks,
                                 .rounds = 8000,
                                 .expansion = 32768};
