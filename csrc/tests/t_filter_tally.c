/*
 * t_filter_tally.c - counts of values: by columns the same as by every row's map, whatever the
 * data; safe on damaged bytes; and a column's values row by row.
 */
#include "base/bits.h"
#include "base/crc32c.h"
#include "filter/columns_format.h"
#include "filter/tally.h"
#include "tests/filter_kit.h"

typedef struct rows {
    uint32_t n;
    vex_buf *maps;
    vex_payload *payloads;
    uint64_t *selected;
    vex_buf section;
    void *opened;
} rows;

static rows random_rows(uint32_t n) {
    uint8_t density[KIT_KEYS];
    rows out = {.n = n};
    out.maps = calloc(n + 1, sizeof *out.maps);
    out.payloads = calloc(n + 1, sizeof *out.payloads);
    out.selected = calloc(vex_bit_words(n) + 1, 8);
    for (size_t key = 0; key < KIT_KEYS; key++) {
        density[key] = (uint8_t)(test_random_below(3) ? 8 : test_random_below(9));
    }
    for (uint32_t i = 0; i < n; i++) {
        if (test_random_below(32) > 0) {
            kit_random_metadata(&out.maps[i], density);
        }
        out.payloads[i] =
            (vex_payload){.metadata = out.maps[i].data, .metadata_len = (uint32_t)out.maps[i].len};
        if (test_random_below(4) > 0) {
            vex_bit_set(out.selected, i);
        }
    }
    CHECK_OK(vex_columns_plugin()->build(out.payloads, n, &out.section));
    CHECK_OK(vex_columns_plugin()->load(out.section.data, out.section.len, n, "test.vxp", 4096,
                                        &out.opened));
    return out;
}

static void free_rows(rows *r) {
    for (uint32_t i = 0; i < r->n; i++) {
        vex_buf_clear(&r->maps[i]);
    }
    if (r->opened != NULL) {
        vex_columns_plugin()->unload(r->opened);
    }
    vex_buf_clear(&r->section);
    free(r->maps);
    free(r->payloads);
    free(r->selected);
}

static vex_value value_of(const rows *r, uint32_t row, const char *key) {
    return vex_metadata_find(r->maps[row].data, r->maps[row].len, (const uint8_t *)key,
                             strlen(key));
}

static vex_status by_column(const rows *r, const char *key, vex_tally *tally) {
    return vex_tally_column(tally, r->opened, (const uint8_t *)key, strlen(key), r->selected);
}

static void by_rows(const rows *r, const char *key, vex_tally *tally) {
    for (uint32_t row = 0; row < r->n; row++) {
        if (vex_bit_get(r->selected, row)) {
            const vex_value value = value_of(r, row, key);
            CHECK_OK(vex_tally_add(tally, &value, 1));
        }
    }
}

static void check_equal(vex_tally *a, vex_tally *b, bool by_count) {
    vex_tally_sort(a, by_count);
    vex_tally_sort(b, by_count);
    CHECK_EQ(a->rows, b->rows);
    CHECK_EQ(a->types, b->types);
    CHECK_EQ(a->n, b->n);
    for (size_t i = 0; i < a->n; i++) {
        CHECK(vex_value_collate(&a->entries[i].value, &b->entries[i].value) == 0);
        CHECK_EQ(a->entries[i].count, b->entries[i].count);
        if (i > 0 && a->kind == VEX_TALLY_VALUES) {
            const vex_tally_entry *before = &a->entries[i - 1], *entry = &a->entries[i];
            CHECK(by_count ? before->count >= entry->count
                           : vex_value_collate(&before->value, &entry->value) < 0);
        }
    }
}

/* The ends of all values are the range. */
static void check_range(const rows *r, const char *key, vex_tally *all) {
    vex_tally range;
    CHECK_OK(vex_tally_init(&range, VEX_TALLY_RANGE));
    CHECK_OK(by_column(r, key, &range));
    vex_tally_sort(all, false);
    CHECK_EQ(range.n, all->n > 0 ? 2 : 0);
    if (range.n > 0) {
        const vex_value *last = &all->entries[all->n - 1].value;
        CHECK(vex_value_collate(&range.entries[0].value, &all->entries[0].value) == 0);
        CHECK(vex_value_collate(&range.entries[1].value, last) == 0);
    }
    vex_tally_clear(&range);
}

static void check_cursor(const rows *r, const char *key) {
    vex_column_cursor cursor;
    CHECK_OK(vex_column_cursor_open(r->opened, (const uint8_t *)key, strlen(key), &cursor));
    for (uint32_t row = 0; row < r->n; row++) {
        if (vex_bit_get(r->selected, row)) {
            const vex_value expected = value_of(r, row, key);
            vex_value found;
            CHECK_OK(vex_column_cursor_value(&cursor, row, &found));
            CHECK_EQ(found.type, expected.type);
            CHECK(found.type >= VEX_VALUE_LIST || found.type == VEX_VALUE_ABSENT ||
                  vex_value_collate(&found, &expected) == 0);
            CHECK(
                found.type != VEX_VALUE_LIST ||
                (found.len == expected.len && memcmp(found.bytes, expected.bytes, found.len) == 0));
        }
    }
}

TEST(tally_columns_agree_with_rows) {
    size_t n_values = 0;
    for (int round = 0; round < 60; round++) {
        static const uint32_t sizes[] = {0, 1, 63, 64, 65, 640};
        rows r = random_rows(round % 3 ? test_random_below(700) : sizes[test_random_below(6)]);
        for (size_t key = 0; key <= KIT_KEYS; key++) {
            const char *name = key < KIT_KEYS ? kit_keys[key] : "nowhere";
            vex_tally columns, plain;
            CHECK_OK(vex_tally_init(&columns, VEX_TALLY_VALUES));
            CHECK_OK(vex_tally_init(&plain, VEX_TALLY_VALUES));
            CHECK_OK(by_column(&r, name, &columns));
            by_rows(&r, name, &plain);
            check_equal(&columns, &plain, true);
            check_equal(&columns, &plain, false);
            check_range(&r, name, &columns);
            check_cursor(&r, name);
            n_values += columns.n;
            vex_tally_clear(&columns);
            vex_tally_clear(&plain);
        }
        free_rows(&r);
    }
    CHECK(n_values > 2000);
}

/* A list counts once for a value; ints and floats are two values; -0.0 is 0.0. */
TEST(tally_counts_records) {
    vex_buf list = {0};
    vex_tally tally;
    kit_put(&list, "aiidd", 4u, 1LL, 1LL, 1.0, -0.0);
    const vex_value values[] = {{.type = VEX_VALUE_LIST, .bytes = list.data, .len = list.len},
                                {.type = VEX_VALUE_INT, .integer = 1},
                                {.type = VEX_VALUE_FLOAT, .number = 0.0},
                                {.type = VEX_VALUE_ABSENT}};
    CHECK_OK(vex_tally_init(&tally, VEX_TALLY_VALUES));
    for (size_t i = 0; i < 4; i++) {
        CHECK_OK(vex_tally_add(&tally, &values[i], 2 + i));
    }
    vex_tally_sort(&tally, false);
    CHECK_EQ(tally.rows, 2 + 3 + 4);
    CHECK_EQ(tally.types, (2 | 4) << 4 | 2 | 4);
    CHECK_EQ(tally.n, 3);
    CHECK_EQ(tally.entries[0].count, 2 + 4); /* 0.0 */
    CHECK_EQ(tally.entries[1].count, 2 + 3); /* 1 */
    CHECK_EQ(tally.entries[2].count, 2);     /* 1.0 */
    vex_tally_clear(&tally);
    vex_buf_clear(&list);
}

/* Bytes changed behind right checksums: an error that leaves the tally alone, or counts of
 * something. */
TEST(tally_of_damaged_columns) {
    uint64_t n_refused = 0;
    for (int round = 0; round < 3000; round++) {
        rows r = random_rows(40);
        vex_columns_plugin()->unload(r.opened);
        r.opened = NULL;
        uint8_t *data = malloc(r.section.len); /* so that a read past the end shows */
        memcpy(data, r.section.data, r.section.len);
        const size_t directory = (size_t)vex_get64(data + 16);
        for (uint32_t i = 1 + test_random_below(3); i > 0 && directory > 32; i--) {
            data[32 + test_random_below((uint32_t)directory - 32)] ^= (uint8_t)test_random();
        }
        for (uint32_t i = 0; i < vex_get32(data + 8); i++) {
            uint8_t *entry = data + directory + (size_t)i * VEX_COLUMN_ENTRY_BYTES;
            const size_t start = (size_t)vex_get64(entry + 72), end = (size_t)vex_get64(entry + 56);
            vex_put32(entry + 68, vex_crc32c(0, data + start, end - start));
        }
        const size_t entries_len = (size_t)vex_get32(data + 8) * VEX_COLUMN_ENTRY_BYTES;
        vex_put32(data + 24, vex_crc32c(0, data + directory, entries_len + vex_get32(data + 12)));
        vex_put32(data + 28, vex_crc32c(0, data, 28));
        CHECK_OK(vex_columns_plugin()->load(data, r.section.len, r.n, "test.vxp", 0, &r.opened));
        for (size_t key = 0; key < KIT_KEYS; key++) {
            vex_tally tally;
            vex_column_cursor cursor;
            vex_value value;
            CHECK_OK(vex_tally_init(&tally, VEX_TALLY_VALUES));
            vex_status status = by_column(&r, kit_keys[key], &tally);
            CHECK(status == VEX_OK || status == VEX_ERR_CORRUPT);
            CHECK(status == VEX_OK || (tally.n == 0 && tally.rows == 0 && tally.types == 0));
            n_refused += status != VEX_OK;
            status = vex_column_cursor_open(r.opened, (const uint8_t *)kit_keys[key],
                                            strlen(kit_keys[key]), &cursor);
            for (uint32_t row = 0; row < r.n && status == VEX_OK; row++) {
                status = vex_column_cursor_value(&cursor, row, &value);
            }
            CHECK(status == VEX_OK || status == VEX_ERR_CORRUPT);
            vex_tally_clear(&tally);
        }
        free_rows(&r);
        free(data);
    }
    CHECK(n_refused > 100);
}
