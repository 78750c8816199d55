/*
 * t_wreck.c - damaged files give what is intact, and tell every difference.
 */
#include "io/vfs_fault.h"
#include "store/wreck_rows.h"
#include "tests/store_kit.h"
#include "tests/vfs_suite.h"

#include <errno.h>
#include <stdlib.h>

#define ROWS 1500u
#define DIMENSION 40u
#define CHUNK 65536u

static void fill(float *values) {
    for (uint32_t i = 0; i < ROWS * DIMENSION; i++) {
        values[i] = (float)((i * 2654435761u) >> 8) / 3.0f;
    }
}

/* A vector file of several chunks; its size. */
static uint64_t write_file(vex_vfs *vfs, const char *root, vex_file_entry *entry) {
    float *values = malloc(ROWS * DIMENSION * sizeof *values);
    vex_vector_row *rows = calloc(ROWS, sizeof *rows);
    fill(values);
    for (uint32_t i = 0; i < ROWS; i++) {
        rows[i] = (vex_vector_row){.seq = 10 + 2 * (uint64_t)i, .vector = values + i * DIMENSION};
    }
    CHECK_OK(vex_vecfile_write(vfs, root, kit_uuid, 1, rows, ROWS, DIMENSION, VEX_SPACE_L1,
                               (vex_code_range){0}, 5, 9, true, entry));
    free(rows);
    free(values);
    return entry->size;
}

/* Every row that is given out is right; returns how many have a seq and a vector. */
static uint32_t count_intact(const vex_wreck_rows *rows) {
    static float expected[ROWS * DIMENSION];
    float found[DIMENSION];
    uint32_t n = 0;
    fill(expected);
    for (uint32_t row = 0; row < rows->rows && row < ROWS; row++) {
        uint64_t seq;
        if (vex_wreck_rows_live(rows, row, &seq)) {
            CHECK_EQ(seq, 10 + 2 * (uint64_t)row);
            if (vex_wreck_rows_has_vector(rows, row)) {
                vex_wreck_rows_vector(rows, row, found);
                CHECK(memcmp(found, expected + row * DIMENSION, sizeof found) == 0);
                n++;
            }
        }
    }
    return n;
}

static uint32_t intact_in(vex_vfs *vfs, const char *root, const vex_file_entry *entry,
                          size_t *n_faults) {
    vex_wreck_rows rows;
    CHECK_OK(vex_wreck_rows_open(vfs, root, kit_uuid, entry, true, &rows));
    uint32_t n = count_intact(&rows);
    *n_faults = rows.wreck.n_faults;
    vex_wreck_rows_close(&rows);
    return n;
}

VFS_TEST(wreck_of_a_sound_file) {
    vex_file_entry entry;
    size_t n_faults;
    CHECK(write_file(vfs, root, &entry) > 3 * CHUNK);
    CHECK_EQ(intact_in(vfs, root, &entry, &n_faults), ROWS);
    CHECK_EQ(n_faults, 0);
    vex_wreck wreck;
    CHECK_OK(
        vex_wreck_open(vfs, root, kit_uuid, VEX_KIND_VECTORS, 1, NULL, VEX_WRECK_SHALLOW, &wreck));
    CHECK_EQ(wreck.n_faults, 0);
    CHECK(wreck.read_bytes < entry.size);
    vex_wreck_close(&wreck);
    CHECK_STATUS(
        vex_wreck_open(vfs, root, kit_uuid, VEX_KIND_VECTORS, 2, NULL, VEX_WRECK_DEEP, &wreck),
        VEX_ERR_NOT_FOUND);
}

/* One flipped bit costs no row, wherever it is. */
VFS_TEST(wreck_flipped_bits_are_put_right) {
    vex_file_entry entry;
    uint64_t size = write_file(vfs, root, &entry);
    const char *path = kit_path(root, VEX_KIND_VECTORS, 1);
    for (uint32_t i = 0; i < 150; i++) {
        size_t n_faults;
        /* a third of it in the header, the tables or the footer */
        uint64_t at = i % 6 == 0   ? test_random_below(64)
                      : i % 6 == 1 ? size - 1 - test_random_below(400)
                                   : test_random_below((uint32_t)size);
        uint8_t mask = (uint8_t)(1u << test_random_below(8));
        kit_xor_byte(vfs, path, at, mask);
        uint32_t n = intact_in(vfs, root, &entry, &n_faults);
        if (n != ROWS || n_faults == 0) {
            test_failed(__FILE__, __LINE__, "byte %llu by %u: %u rows, %zu faults",
                        (unsigned long long)at, (unsigned)mask, n, n_faults);
        }
        kit_xor_byte(vfs, path, at, mask);
    }
}

/* More damage costs the rows of the chunks that it is in. */
VFS_TEST(wreck_garbage_costs_its_chunk) {
    vex_file_entry entry;
    uint64_t size = write_file(vfs, root, &entry);
    const char *path = kit_path(root, VEX_KIND_VECTORS, 1);
    for (uint32_t i = 0; i < 60; i++) {
        size_t n_faults;
        uint64_t at = 2 * CHUNK + test_random_below((uint32_t)(size - 3 * CHUNK));
        for (uint64_t k = 0; k < 7; k++) {
            kit_xor_byte(vfs, path, at + k * 3, (uint8_t)(1 + 2 * k));
        }
        uint32_t n = intact_in(vfs, root, &entry, &n_faults);
        CHECK(n_faults > 0);
        CHECK(n >= ROWS - 2 * (CHUNK / (DIMENSION * 4) + 2));
        CHECK(n < ROWS);
        for (uint64_t k = 0; k < 7; k++) {
            kit_xor_byte(vfs, path, at + k * 3, (uint8_t)(1 + 2 * k));
        }
    }
}

TEST(wreck_of_a_file_that_cannot_be_read) {
    vex_vfs *files = NULL, *faulty = NULL;
    vex_file_entry entry;
    size_t n_faults;
    CHECK_OK(vex_vfs_memory_create(&files));
    CHECK_OK(vex_vfs_fault_create(files, &faulty));
    (void)write_file(faulty, "/", &entry);
    vex_vfs_fault_only(faulty, VEX_FAULT_OTHER, ".vxv");
    vex_vfs_fault_arm(faulty, 0, EIO, false, false);
    CHECK_EQ(intact_in(faulty, "/", &entry, &n_faults), ROWS);
    uint64_t calls = vex_vfs_fault_calls(faulty);
    uint32_t in_part = 0;
    for (uint64_t call = 1; call <= calls; call++) {
        vex_wreck_rows rows;
        vex_vfs_fault_arm(faulty, call, EIO, false, false);
        vex_status status = vex_wreck_rows_open(faulty, "/", kit_uuid, &entry, true, &rows);
        if (status == VEX_OK) {
            uint32_t n = count_intact(&rows);
            CHECK(rows.wreck.n_faults > 0);
            in_part += n > 0 && n < ROWS;
            vex_wreck_rows_close(&rows);
        } else {
            CHECK_EQ(status, VEX_ERR_IO);
        }
    }
    CHECK(in_part > 0);
    vex_vfs_fault_destroy(faulty);
    vex_vfs_memory_destroy(files);
}

/* Sections that are wrong behind right checksums lead nowhere. */
VFS_TEST(wreck_believes_nothing) {
    vex_file_entry entry;
    (void)write_file(vfs, root, &entry);
    vex_container container;
    CHECK_OK(vex_container_open(vfs, root, kit_uuid, VEX_KIND_VECTORS, 1, &entry, &container));
    for (uint64_t file_no = 2; file_no < 60; file_no++) {
        vex_file_entry changed = {.kind = VEX_KIND_VECTORS, .file_no = file_no};
        kit_rewrite_damaged(&container, root, VEX_SECTION_SEQS, file_no, &changed);
        vex_wreck_rows rows;
        CHECK_OK(vex_wreck_rows_open(vfs, root, kit_uuid, &changed, true, &rows));
        float vector[DIMENSION];
        for (uint32_t row = 0; row < rows.rows && row < 3 * ROWS; row++) {
            uint64_t seq;
            if (vex_wreck_rows_live(&rows, row, &seq) && rows.shape.dimension <= DIMENSION &&
                vex_wreck_rows_has_vector(&rows, row)) {
                vex_wreck_rows_vector(&rows, row, vector);
            }
        }
        vex_wreck_rows_close(&rows);
    }
    vex_container_close(&container);
}
