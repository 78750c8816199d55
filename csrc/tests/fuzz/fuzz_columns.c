/*
 * fuzz_columns.c - the typed metadata columns of a payload file, of any bytes.
 *
 * Target "columns": the input is the section, opened as that of a file of ROWS rows; then filter
 * leaves of every operator are evaluated over it.
 */
#include "filter/columns_format.h"

#include "base/bits.h"
#include "base/crc32c.h"
#include "base/msgpack.h"
#include "tests/fuzz/fuzz.h"

#define ROWS 100u
#define WORDS 2u
#define PATH "a file"

#define AT_N_KEYS 8u
#define AT_KEYS_LEN 12u
#define AT_DIRECTORY 16u
#define AT_DIRECTORY_CRC 24u
#define AT_HEADER_CRC 28u
#define AT_END 56u
#define AT_COLUMN_CRC 68u
#define AT_START 72u

/* ---- checksums and changes ---- */

static uint8_t *find_directory(uint8_t *data, size_t len, uint32_t *n, size_t *bytes) {
    if (len < VEX_COLUMNS_HEADER_BYTES) {
        return NULL;
    }
    const uint64_t at = vex_get64(data + AT_DIRECTORY);
    *n = vex_get32(data + AT_N_KEYS);
    if (at > len || *n > (len - at) / VEX_COLUMN_ENTRY_BYTES) {
        return NULL;
    }
    *bytes = *n * (size_t)VEX_COLUMN_ENTRY_BYTES + vex_get32(data + AT_KEYS_LEN);
    return *bytes <= len - at ? data + at : NULL;
}

void fuzz_fix_columns(uint8_t *data, size_t len) {
    uint32_t n = 0;
    size_t bytes = 0;
    uint8_t *directory = find_directory(data, len, &n, &bytes);
    if (directory == NULL) {
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        uint8_t *entry = directory + (size_t)i * VEX_COLUMN_ENTRY_BYTES;
        const uint64_t start = vex_get64(entry + AT_START), end = vex_get64(entry + AT_END);
        if (start <= end && end <= len) {
            vex_put32(entry + AT_COLUMN_CRC, vex_crc32c(0, data + start, (size_t)(end - start)));
        }
    }
    vex_put32(data + AT_DIRECTORY_CRC, vex_crc32c(0, directory, bytes));
    vex_put32(data + AT_HEADER_CRC, vex_crc32c(0, data, AT_HEADER_CRC));
}

void fuzz_change_columns(fuzz_input *input) {
    static const fuzz_field header[] = {{0, 4}, {4, 4}, {8, 4}, {12, 4}, {16, 8}};
    static const fuzz_field fields[] = {{0, 4},  {4, 4},  {8, 2},  {10, 1}, {11, 1},
                                        {12, 4}, {16, 8}, {24, 8}, {32, 8}, {40, 8},
                                        {48, 8}, {56, 8}, {64, 4}, {72, 8}};
    const uint32_t what = test_random_below(12);
    uint32_t n = 0;
    size_t bytes = 0;
    uint8_t *directory = find_directory(input->data, input->len, &n, &bytes);
    if (directory == NULL || n == 0 || what == 0) {
        fuzz_change(input);
        return;
    }
    uint8_t *entry = directory + (size_t)test_random_below(n) * VEX_COLUMN_ENTRY_BYTES;
    const uint64_t start = vex_get64(entry + AT_START), end = vex_get64(entry + AT_END);
    if (what == 1) {
        FUZZ_CHANGE_FIELD(input->data, input->len, header, ROWS);
    } else if (what < 6 || start >= end || end > input->len) {
        FUZZ_CHANGE_FIELD(entry, VEX_COLUMN_ENTRY_BYTES, fields, input->len);
    } else { /* offsets, rows and codes in a column */
        const uint32_t width = 1u << test_random_below(4);
        const uint64_t at = start + test_random() % (end - start);
        if (at - at % width + width <= input->len) {
            fuzz_change_number(input->data + at - at % width, width, end - start);
        }
    }
}

/* ---- seeds ---- */

static void put_text(vex_buf *out, const char *text) {
    CHECK_OK(vex_mp_put_str(out, text, strlen(text)));
}

/* The value of key `kind` in a row. */
static void put_value(vex_buf *out, uint32_t kind, uint32_t row) {
    static const uint8_t sparse[] = {1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 128, 63};
    char text[16];
    snprintf(text, sizeof text, "text %u", (unsigned)(row % 13));
    switch (kind) {
    case 0:
        CHECK_OK(vex_mp_put_int(out, (int64_t)row * 3 - 20));
        break;
    case 1:
        CHECK_OK(vex_mp_put_double(out, row / 4.0 - 3));
        break;
    case 2:
        put_text(out, text);
        break;
    case 3:
        CHECK_OK(vex_mp_put_bool(out, row % 3 == 0));
        break;
    case 4:
        CHECK_OK(vex_mp_put_array(out, 2));
        CHECK_OK(vex_mp_put_int(out, row % 5));
        CHECK_OK(vex_mp_put_int(out, 70000));
        break;
    case 5:
        put_value(out, row % 5, row);
        break;
    case 6:
        CHECK_OK(vex_mp_put_ext(out, 1, sparse, sizeof sparse));
        break;
    default:
        CHECK_OK(vex_mp_put_int(out, 7));
    }
}

#define KEYS 9u
static const char *const keys[KEYS] = {"int",   "float",  "text", "bool", "list",
                                       "mixed", "sparse", "rare", "one"};

static void seed(const fuzz_seeds *seeds, const bool has[KEYS]) {
    vex_buf maps[ROWS] = {{0}}, section = {0};
    vex_payload rows[ROWS] = {{0}};
    for (uint32_t row = 0; row < ROWS; row++) {
        vex_buf pairs = {0};
        uint32_t n = 0;
        for (uint32_t key = 0; key < KEYS; key++) {
            const bool rare = key == 7 && row % 20 != 3;
            if (has[key] && !rare && (key == 8 || (row + key) % 7 != 0)) {
                put_text(&pairs, keys[key]);
                put_value(&pairs, key, row);
                n++;
            }
        }
        CHECK_OK(vex_mp_put_map(&maps[row], n));
        CHECK_OK(vex_buf_append(&maps[row], pairs.data, pairs.len));
        vex_buf_clear(&pairs);
        rows[row].metadata = maps[row].data;
        rows[row].metadata_len = (uint32_t)maps[row].len;
    }
    CHECK_OK(vex_columns_build(rows, ROWS, &section));
    if (section.len > 0) {
        seeds->take(seeds->context, section.data, section.len);
    }
    vex_buf_clear(&section);
    for (uint32_t row = 0; row < ROWS; row++) {
        vex_buf_clear(&maps[row]);
    }
}

static void seeds(const fuzz_seeds *seeds) {
    for (uint32_t key = 0; key < KEYS; key++) {
        bool has[KEYS] = {false};
        has[key] = true;
        seed(seeds, has);
    }
    seed(seeds, (const bool[KEYS]){true, true, true, true, true, true, true, true, true});
}

/* ---- a run ---- */

static const uint32_t ops[] = {VEX_F_EQ, VEX_F_NE, VEX_F_GT,  VEX_F_GE,       VEX_F_LT,
                               VEX_F_LE, VEX_F_IN, VEX_F_NIN, VEX_F_CONTAINS, VEX_F_NOT_CONTAINS};
#define OPS (sizeof ops / sizeof ops[0])

static const vex_value operands[] = {
    {.type = VEX_VALUE_BOOL, .boolean = true},
    {.type = VEX_VALUE_INT, .integer = -5},
    {.type = VEX_VALUE_INT, .integer = 70000},
    {.type = VEX_VALUE_FLOAT, .number = 0.25},
    {.type = VEX_VALUE_STRING, .bytes = (const uint8_t *)"", .len = 0},
    {.type = VEX_VALUE_STRING, .bytes = (const uint8_t *)"text 3", .len = 6},
};
#define OPERANDS (sizeof operands / sizeof operands[0])

/* NOT_X matches what X does not; a damaged column leaves the bitmap as it was. */
static void match(const vex_columns *columns, vex_expr *leaf, uint64_t out[WORDS]) {
    uint64_t before[WORDS];
    vex_bits_fill(out, ROWS);
    memcpy(before, out, sizeof before);
    vex_status status = vex_columns_match(columns, leaf, out);
    if (status != VEX_OK) {
        fuzz_check_error(status, PATH);
        CHECK(memcmp(out, before, sizeof before) == 0);
    }
    CHECK(out[1] >> (ROWS - 64) == 0);
}

static void match_all(const vex_columns *columns, const uint8_t *key, size_t key_len) {
    for (size_t o = 0; o < OPS; o++) {
        for (size_t v = 0; v < OPERANDS; v++) {
            const bool ordering = ops[o] >= VEX_F_GT && ops[o] <= VEX_F_LE;
            uint64_t matches[WORDS];
            if (ordering && !vex_value_is_number(&operands[v])) {
                continue;
            }
            vex_expr leaf = {.op = ops[o], .key = key, .key_len = key_len, .operand = operands[v]};
            if (ops[o] == VEX_F_IN || ops[o] == VEX_F_NIN) {
                leaf.operands = (vex_value *)(uintptr_t)operands; /* is in order */
                leaf.n_operands = (uint32_t)v;
            }
            match(columns, &leaf, matches);
        }
    }
}

static void run(const uint8_t *data, size_t len) {
    void *state = NULL;
    vex_status status = vex_columns_plugin()->load(data, len, ROWS, PATH, 0, &state);
    if (status != VEX_OK) {
        fuzz_check_error(status, PATH);
        return;
    }
    const vex_columns *columns = state;
    fuzz_accept();
    CHECK_EQ(columns->n_rows, ROWS);
    for (uint32_t i = 0; i < columns->n_columns && i < 16; i++) {
        match_all(columns, columns->columns[i].key, columns->columns[i].key_len);
    }
    match_all(columns, (const uint8_t *)"no such key", 11);
    vex_columns_plugin()->unload(state);
}

const fuzz_target fuzz_columns = {.name = "columns",
                                  .seeds = seeds,
                                  .run = run,
                                  .change = fuzz_change_columns,
                                  .fix = fuzz_fix_columns,
                                  .rounds = 8000};
