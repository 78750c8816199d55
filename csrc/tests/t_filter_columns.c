/*
 * t_filter_columns.c - metadata columns: equal to reading every row's map, whatever the data;
 * safe on damaged bytes.
 */
#include "base/bits.h"
#include "base/crc32c.h"
#include "filter/columns_format.h"
#include "tests/filter_kit.h"

/* ---- a section and the rows it was made of ---- */

typedef struct table {
    uint32_t n;
    vex_buf *maps; /* empty: no metadata */
    vex_payload *rows;
    vex_buf section;
    void *opened;
} table;

static vex_status open_section(const uint8_t *data, size_t len, uint32_t n, void **out) {
    return vex_columns_plugin()->load(data, len, n, "test.vxp", 4096, out);
}

static table make_table(uint32_t n) {
    table out = {.n = n};
    out.maps = calloc(n + 1, sizeof *out.maps);
    out.rows = calloc(n + 1, sizeof *out.rows);
    return out;
}

static void build_table(table *t) {
    for (uint32_t i = 0; i < t->n; i++) {
        t->rows[i] =
            (vex_payload){.metadata = t->maps[i].data, .metadata_len = (uint32_t)t->maps[i].len};
    }
    CHECK_OK(vex_columns_plugin()->build(t->rows, t->n, &t->section));
    CHECK_OK(open_section(t->section.data, t->section.len, t->n, &t->opened));
}

static void free_table(table *t) {
    for (uint32_t i = 0; i < t->n; i++) {
        vex_buf_clear(&t->maps[i]);
    }
    vex_columns_plugin()->unload(t->opened);
    vex_buf_clear(&t->section);
    free(t->maps);
    free(t->rows);
}

static table random_table(uint32_t n) {
    uint8_t density[KIT_KEYS];
    table t = make_table(n);
    for (size_t key = 0; key < KIT_KEYS; key++) {
        density[key] = (uint8_t)(test_random_below(3) ? 8 : test_random_below(9));
    }
    for (uint32_t i = 0; i < n; i++) {
        if (test_random_below(32) > 0) {
            kit_random_metadata(&t.maps[i], density);
        }
    }
    build_table(&t);
    return t;
}

static vex_filter parse_leaf(const vex_buf *bytes) {
    vex_filter filter = {0};
    CHECK_OK(vex_filter_parse(&filter, bytes->data, bytes->len));
    return filter;
}

static vex_filter random_leaf(void) {
    vex_buf bytes = {0};
    kit_random_leaf(&bytes);
    vex_filter filter = parse_leaf(&bytes);
    vex_buf_clear(&bytes);
    return filter;
}

static bool row_matches(const table *t, uint32_t row, const vex_expr *leaf) {
    vex_value value =
        vex_metadata_find(t->maps[row].data, t->maps[row].len, leaf->key, leaf->key_len);
    return vex_leaf_matches(leaf, &value);
}

/* The columns' answer for all rows against the maps' own; returns how many rows match. */
static uint64_t check_leaf(const table *t, const vex_expr *leaf, uint32_t candidates_of_4) {
    size_t n_words = vex_bit_words(t->n);
    uint64_t *candidates = calloc(n_words + 1, 8), *matches = calloc(n_words + 1, 8), count = 0;
    for (uint32_t i = 0; i < t->n; i++) {
        if (test_random_below(4) < candidates_of_4) {
            vex_bit_set(candidates, i);
        }
    }
    memcpy(matches, candidates, n_words * 8);
    CHECK_OK(vex_columns_match(t->opened, leaf, matches));
    for (uint32_t i = 0; i < t->n; i++) {
        bool expected = vex_bit_get(candidates, i) && row_matches(t, i, leaf);
        if (vex_bit_get(matches, i) != expected) {
            test_failed(__FILE__, __LINE__, "row %u of %u, operator %u, key '%.*s': expected %d", i,
                        t->n, leaf->op, (int)leaf->key_len, (const char *)leaf->key, expected);
        }
        count += expected;
    }
    CHECK_EQ(vex_bits_count(matches, n_words), count); /* nothing past the last row */
    free(candidates);
    free(matches);
    return count;
}

TEST(columns_agree_with_rows) {
    uint64_t n_matches = 0, n_checks = 0;
    for (int round = 0; round < 150; round++) {
        static const uint32_t sizes[] = {0, 1, 7, 8, 63, 64, 65, 127, 128, 129, 640};
        uint32_t n = round % 3 ? test_random_below(700) : sizes[test_random_below(11)];
        table t = random_table(n);
        for (int i = 0; i < 60; i++) {
            vex_filter filter = random_leaf();
            n_matches += check_leaf(&t, filter.root, 1 + test_random_below(4));
            n_checks += n;
            vex_filter_clear(&filter);
        }
        free_table(&t);
    }
    CHECK(n_matches > n_checks / 10 && n_matches < n_checks); /* the data is worth testing */
}

/* Columns of each width, with the comparisons next to every border. */
TEST(columns_of_each_width) {
    static const int64_t bases[] = {0, -5, INT64_MIN, INT64_MAX - 3, 1LL << 40};
    static const uint64_t spans[] = {0,     1,          255,        256,       65535,
                                     65536, UINT32_MAX, 1ULL << 32, UINT64_MAX};
    for (size_t b = 0; b < sizeof bases / sizeof bases[0]; b++) {
        for (size_t s = 0; s < sizeof spans / sizeof spans[0]; s++) {
            uint64_t room = (uint64_t)INT64_MAX - (uint64_t)bases[b];
            int64_t last = (int64_t)((uint64_t)bases[b] + (spans[s] < room ? spans[s] : room));
            table t = make_table(150);
            for (uint32_t i = 0; i < t.n; i++) {
                kit_put(&t.maps[i], "msi", 1u, "key",
                        (long long)(i == 70 ? last
                                    : i % 3 ? bases[b]
                                            : last - (last > bases[b])));
            }
            build_table(&t);
            for (int64_t near = -1; near <= 1; near++) {
                for (uint32_t op = VEX_F_EQ; op <= VEX_F_NIN; op++) {
                    for (int type = 0; type < 4; type++) {
                        vex_buf bytes = {0};
                        int64_t end = type % 2 ? last : bases[b];
                        int64_t operand = (int64_t)((uint64_t)end + (uint64_t)near);
                        kit_put(&bytes, "ais", 3u, (long long)op, "key");
                        if (op >= VEX_F_IN) {
                            kit_put(&bytes, "ai", 3u, (long long)last);
                            kit_put(&bytes, "d", (double)operand + 0.5);
                        }
                        type < 2 ? kit_put(&bytes, "i", (long long)operand)
                                 : kit_put(&bytes, "d", (double)operand);
                        vex_filter filter = parse_leaf(&bytes);
                        check_leaf(&t, filter.root, 4);
                        vex_filter_clear(&filter);
                        vex_buf_clear(&bytes);
                    }
                }
            }
            free_table(&t);
        }
    }
}

/* Many distinct values: codes of 2 and 4 bytes, hash sets, long searches in dictionaries. */
TEST(columns_with_many_values) {
    static const uint32_t sizes[] = {300, 70000};
    for (size_t s = 0; s < 2; s++) {
        table t = make_table(sizes[s]);
        for (uint32_t i = 0; i < t.n; i++) {
            char text[24];
            snprintf(text, sizeof text, "text %u", (unsigned)(i * 7919u % t.n));
            uint64_t wide = vex_get64((const uint8_t[8]){(uint8_t)i, (uint8_t)(i >> 8), 0, 0,
                                                         (uint8_t)(i >> 16), 0, 7, 200});
            kit_put(&t.maps[i], "msssisdsai", 4u, "s", text, "i", (long long)wide, "d",
                    (double)i / 8, "l", 1u, (long long)(i % 1000));
        }
        build_table(&t);
        for (int round = 0; round < 40; round++) {
            vex_buf bytes = {0};
            uint32_t n = test_random_below(round % 2 ? 2000 : 20);
            const char *key = (const char *[]){"s", "i", "d", "l"}[round % 4];
            bool in = key[0] != 'l' && test_random_below(2);
            kit_put(&bytes, "ais", 3u,
                    (long long)(in              ? VEX_F_IN + test_random_below(2)
                                : key[0] == 'l' ? VEX_F_CONTAINS + test_random_below(2)
                                : key[0] == 's' ? VEX_F_EQ + test_random_below(2)
                                                : VEX_F_EQ + test_random_below(6)),
                    key);
            if (in) {
                kit_put(&bytes, "a", n);
            }
            for (uint32_t i = 0; i < (in ? n : 1); i++) {
                uint32_t row = test_random_below(t.n + 20); /* some are no row's value */
                char text[24];
                snprintf(text, sizeof text, "text %u", row);
                vex_value value = {0};
                if (row < t.n) {
                    value = vex_metadata_find(t.maps[row].data, t.maps[row].len,
                                              (const uint8_t *)"i", 1);
                }
                switch (key[0]) {
                case 's':
                    kit_put(&bytes, "s", text);
                    break;
                case 'i':
                    kit_put(&bytes, "i", (long long)value.integer);
                    break;
                case 'd':
                    kit_put(&bytes, "d", (double)row / 8);
                    break;
                default:
                    kit_put(&bytes, "i", (long long)(row % 1100));
                    break;
                }
            }
            vex_filter filter = parse_leaf(&bytes);
            check_leaf(&t, filter.root, 4);
            vex_filter_clear(&filter);
            vex_buf_clear(&bytes);
        }
        free_table(&t);
    }
}

/* NaN and malformed maps are refused by db; should they be there, both readers agree. */
TEST(columns_of_strange_rows) {
    table t = make_table(200);
    for (uint32_t i = 0; i < t.n; i++) {
        vex_buf *map = &t.maps[i];
        switch (i % 8) {
        case 0:
            kit_put(map, "msd", 1u, "b", i % 3 ? (double)NAN : -(double)NAN);
            break;
        case 1:
            kit_put(map, "msmsisd", 2u, "a", 1u, "b", 5LL, "b", 0.5); /* a nested map */
            break;
        case 2:
            kit_put(map, "maiisi", 2u, 1u, 1LL, 2LL, "a", 1LL); /* a list as key */
            break;
        case 3:
            kit_put(map, "msid", 2u, "a", 2LL, 3.0); /* ends too early */
            break;
        case 4:
            kit_put(map, "asi", 2u, "a", 1LL); /* no map */
            break;
        case 5:
            kit_put(map, "m", 0u);
            break;
        case 6:
            for (uint32_t bytes = test_random_below(30); bytes > 0; bytes--) {
                uint8_t byte = (uint8_t)test_random();
                CHECK_OK(vex_buf_append(map, &byte, 1));
            }
            break;
        default:
            kit_put(map, "mnisnsi", 3u, 1LL, "a", "a", 1LL);
            break;
        }
    }
    build_table(&t);
    for (int i = 0; i < 2000; i++) {
        vex_filter filter = random_leaf();
        check_leaf(&t, filter.root, 4);
        vex_filter_clear(&filter);
    }
    free_table(&t);
}

TEST(columns_are_small) {
    table t = make_table(1000);
    for (uint32_t i = 0; i < t.n; i++) {
        if (i % 100 == 0) {
            kit_put(&t.maps[i], "mss", 1u, "rare", "value");
        } else {
            kit_put(&t.maps[i], "msisssb", 3u, "year", 1990LL + i % 30, "city",
                    i % 2 ? "Oslo" : "Bergen", "flag", (int)(i % 2));
        }
    }
    build_table(&t);
    CHECK(t.section.len < 3 * 2100 + 700); /* a byte per value, a tag where a key can be absent */
    free_table(&t);
}

/* ---- damage ---- */

static void put_crcs(uint8_t *data, size_t len) {
    uint64_t directory = vex_get64(data + 16);
    uint64_t n = vex_get32(data + 8);
    uint64_t directory_len = n * VEX_COLUMN_ENTRY_BYTES + vex_get32(data + 12);
    if (directory <= len && directory_len <= len - directory) {
        for (uint64_t i = 0; i < n; i++) {
            uint8_t *entry = data + directory + i * VEX_COLUMN_ENTRY_BYTES;
            uint64_t start = vex_get64(entry + 72), end = vex_get64(entry + 56);
            if (start <= end && end <= len) {
                vex_put32(entry + 68, vex_crc32c(0, data + start, (size_t)(end - start)));
            }
        }
        vex_put32(data + 24, vex_crc32c(0, data + directory, (size_t)directory_len));
    }
    vex_put32(data + 28, vex_crc32c(0, data, 28));
}

/* Use everything that opens: no access outside, no other error than CORRUPT. */
static void exercise(const uint8_t *data, size_t len, uint32_t n, int n_leaves) {
    uint64_t *matches = calloc(vex_bit_words(n) + 1, 8);
    void *opened = NULL;
    vex_status status = open_section(data, len, n, &opened);
    CHECK(status == VEX_OK || status == VEX_ERR_CORRUPT);
    for (int i = 0; status == VEX_OK && i < n_leaves; i++) {
        vex_filter filter = random_leaf();
        vex_bits_fill(matches, n);
        vex_status matched = vex_columns_match(opened, filter.root, matches);
        CHECK(matched == VEX_OK || matched == VEX_ERR_CORRUPT);
        CHECK_EQ(n % 64 ? matches[n / 64] >> n % 64 : 0, 0);
        vex_filter_clear(&filter);
    }
    if (status == VEX_OK) {
        vex_columns_plugin()->unload(opened);
    }
    free(matches);
}

TEST(columns_fuzz_with_right_checksums) {
    for (int round = 0; round < 60; round++) {
        table t = random_table(1 + test_random_below(200));
        uint8_t *data = malloc(t.section.len); /* exact: the sanitizer sees its end */
        uint64_t directory = vex_get64(t.section.data + 16);
        for (int i = 0; i < 120; i++) {
            memcpy(data, t.section.data, t.section.len);
            for (uint32_t times = 1 + test_random_below(4); times > 0; times--) {
                size_t at = test_random_below((uint32_t)t.section.len);
                if (test_random_below(2)) { /* aim at the directory */
                    at = directory + at % (t.section.len - directory);
                }
                uint64_t change = test_random();
                change = test_random_below(2) ? change : 1ull << (change % 8);
                data[at] = (uint8_t)(data[at] ^ change);
                if (test_random_below(8) == 0 && at + 4 <= t.section.len) {
                    vex_put32(data + at, (uint32_t)(test_random() >> test_random_below(32)));
                }
            }
            put_crcs(data, t.section.len);
            exercise(data, t.section.len, t.n, 20);
        }
        free(data);
        free_table(&t);
    }
}

/* A directory whose checksum is right but that contradicts itself does not open. */
TEST(columns_refuse_contradictions) {
    static const struct {
        unsigned at, width;
        uint64_t value;
    } changes[] = {
        {4, 4, 100}, /* key length past the keys */
        {0, 4, UINT32_MAX},
        {8, 2, 1 << 9},
        {8, 2, 1},      /* type masks */
        {8, 2, 1 << 3}, /* floats, but codes of one byte */
        {10, 1, 7},
        {10, 1, VEX_VALUE_STRING},
        {10, 1, 0}, /* uniform */
        {11, 1, 3},
        {11, 1, 16},
        {11, 1, 8}, /* width of the codes */
        {24, 8, 40},
        {24, 8, UINT64_MAX},
        {40, 8, UINT64_MAX - 7},
        {40, 8, 0},
        {48, 8, UINT64_MAX - 3},
        {48, 8, 31},
        {56, 8, 0},
        {56, 8, UINT64_MAX},
        {64, 4, UINT32_MAX},
        {64, 4, 1000},
        {72, 8, UINT64_MAX},
        {VEX_COLUMN_ENTRY_BYTES, 4, 0}, /* the second key is the first again */
    };
    table t = make_table(40);
    for (uint32_t i = 0; i < t.n; i++) {
        kit_put(&t.maps[i], "msisi", 2u, "k", 5LL + i, "l", 1LL);
    }
    build_table(&t);
    uint8_t *data = malloc(t.section.len);
    uint64_t directory = vex_get64(t.section.data + 16);
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        void *opened = NULL;
        uint8_t raw[8];
        memcpy(data, t.section.data, t.section.len);
        vex_put64(raw, changes[i].value);
        memcpy(data + directory + changes[i].at, raw, changes[i].width);
        put_crcs(data, t.section.len);
        if (open_section(data, t.section.len, t.n, &opened) != VEX_ERR_CORRUPT) {
            test_failed(__FILE__, __LINE__, "change %zu was not noticed", i);
        }
    }
    free(data);
    free_table(&t);
}

/* Offsets of a dictionary that do not ascend, or leave the column, are not followed. */
TEST(columns_damaged_dictionary) {
    table t = make_table(40);
    for (uint32_t i = 0; i < t.n; i++) {
        kit_put(&t.maps[i], "msai", 1u, "l", 1u, (long long)i);
    }
    build_table(&t);
    vex_buf leaf_bytes = {0};
    kit_put(&leaf_bytes, "aisi", 3u, (long long)VEX_F_CONTAINS, "l", 99LL);
    vex_filter filter = parse_leaf(&leaf_bytes);
    uint8_t *data = malloc(t.section.len);
    uint64_t entry = vex_get64(t.section.data + 16);
    uint64_t dictionary = vex_get64(t.section.data + entry + 48);
    for (int round = 0; round < 400; round++) {
        void *opened = NULL;
        uint64_t matches[1];
        uint32_t i = test_random_below(40);
        memcpy(data, t.section.data, t.section.len);
        uint8_t *from = data + dictionary + (size_t)i * 4;
        switch (round % 4) {
        case 0:
            vex_put32(from + 4, vex_get32(from)); /* an entry without even a tag */
            break;
        case 1:
            vex_put32(from + 4, 0);
            break;
        case 2:
            vex_put32(from + 4, UINT32_MAX - test_random_below(2));
            break;
        default: /* one byte past the column */
            vex_put32(from + 4, (uint32_t)(vex_get64(data + entry + 56) - dictionary - 41 * 4 + 1));
            break;
        }
        put_crcs(data, t.section.len);
        CHECK_OK(open_section(data, t.section.len, t.n, &opened));
        vex_bits_fill(matches, t.n);
        CHECK_STATUS(vex_columns_match(opened, filter.root, matches), VEX_ERR_CORRUPT);
        vex_columns_plugin()->unload(opened);
    }
    vex_filter_clear(&filter);
    vex_buf_clear(&leaf_bytes);
    free(data);
    free_table(&t);
}

TEST(columns_truncated) {
    table t = random_table(70);
    for (size_t len = 0; len < t.section.len; len++) {
        void *opened;
        uint8_t *data = malloc(len + !len);
        memcpy(data, t.section.data, len);
        CHECK_STATUS(open_section(data, len, t.n, &opened), VEX_ERR_CORRUPT);
        if (len >= VEX_COLUMNS_HEADER_BYTES) { /* with a header that says so, and checksums */
            vex_put64(data + 16, test_random_below((uint32_t)len + 1));
            put_crcs(data, len);
            exercise(data, len, t.n, 5);
        }
        free(data);
    }
    void *opened;
    CHECK_STATUS(open_section(t.section.data, t.section.len, t.n + 1, &opened), VEX_ERR_CORRUPT);
    free_table(&t);
}

/* Every byte is under some checksum: a flipped bit is found by the time the data is used. */
TEST(columns_notice_every_flipped_bit) {
    table t = random_table(40);
    uint64_t matches[1];
    for (size_t at = 0; at < t.section.len; at++) {
        void *opened = NULL;
        uint8_t bit = (uint8_t)(1u << test_random_below(8));
        t.section.data[at] ^= bit;
        vex_status status = open_section(t.section.data, t.section.len, t.n, &opened);
        for (size_t key = 0; status == VEX_OK && key < KIT_KEYS; key++) {
            const vex_expr leaf = {.op = VEX_F_EQ,
                                   .key = (const uint8_t *)kit_keys[key],
                                   .key_len = strlen(kit_keys[key]),
                                   .operand = {.type = VEX_VALUE_INT}};
            vex_bits_fill(matches, t.n);
            status = vex_columns_match(opened, &leaf, matches);
        }
        CHECK_STATUS(status, VEX_ERR_CORRUPT);
        CHECK_EQ(strcmp(vex_last_error()->path, "test.vxp"), 0);
        CHECK(vex_last_error()->offset >= 4096);
        vex_columns_plugin()->unload(opened);
        t.section.data[at] ^= bit;
    }
    free_table(&t);
}

TEST(columns_without_memory) {
    table t = random_table(200);
    uint64_t blocks = vex_stat_get(VEX_STAT_HEAP_BLOCKS);
    bool done = false;
    for (uint64_t n = 1; !done; n++) {
        vex_buf section = {0};
        vex_mem_fail_at(n, true);
        vex_status status = vex_columns_plugin()->build(t.rows, t.n, &section);
        vex_mem_fail_at(0, false);
        CHECK(status == VEX_OK || status == VEX_ERR_NO_MEMORY);
        done = status == VEX_OK;
        vex_buf_clear(&section);
        CHECK_EQ(vex_stat_get(VEX_STAT_HEAP_BLOCKS), blocks);
    }
    for (int i = 0; i < 300; i++) {
        uint64_t matches[4] = {UINT64_MAX, UINT64_MAX, UINT64_MAX, 255};
        vex_filter filter = random_leaf();
        uint64_t before = vex_stat_get(VEX_STAT_HEAP_BLOCKS);
        vex_mem_fail_at(1 + test_random_below(3), true);
        vex_status status = vex_columns_match(t.opened, filter.root, matches);
        vex_mem_fail_at(0, false);
        CHECK(status == VEX_OK || status == VEX_ERR_NO_MEMORY);
        CHECK_EQ(vex_stat_get(VEX_STAT_HEAP_BLOCKS), before);
        vex_filter_clear(&filter);
    }
    free_table(&t);
}
