/*
 * t_vecfile.c - vector files: elements, strides, finding, damage.
 */
#include "codec/narrow.h"
#include "store/vecfile.h"
#include "tests/store_kit.h"
#include "tests/vfs_suite.h"

#include <stdlib.h>

typedef struct rows {
    vex_vector_row *rows;
    float *values;
    uint32_t n, dimension;
} rows;

/* Rows whose values need that element, with gaps between their seqs. */
static rows make_rows(uint32_t n, uint32_t dimension, uint32_t element, uint32_t max_gap) {
    rows made = {malloc(n * sizeof *made.rows), malloc((size_t)n * dimension * sizeof(float)), n,
                 dimension};
    uint64_t seq = test_random_below(1000);
    for (uint32_t i = 0; i < n; i++) {
        float *x = made.values + (size_t)i * dimension;
        for (uint32_t d = 0; d < dimension; d++) {
            x[d] = element == VEX_ELEMENT_U8 ? (float)test_random_below(256)
                   : element == VEX_ELEMENT_F16
                       ? vex_f16_to_f32(vex_f32_to_f16(test_random_float()))
                       : test_random_float();
        }
        made.rows[i] = (vex_vector_row){.seq = seq, .vector = x, .norm2 = (float)i + 0.5f};
        seq += 1 + test_random_below(max_gap);
    }
    return made;
}

static void free_rows(rows *made) {
    free(made->rows);
    free(made->values);
}

static void check_file(const vex_vecfile *file, const rows *expected) {
    float *x = malloc(expected->dimension * sizeof *x);
    CHECK_EQ(file->rows, expected->n);
    CHECK_EQ(file->dimension, expected->dimension);
    for (uint32_t i = 0; i < expected->n; i++) {
        const vex_vector_row *row = &expected->rows[i];
        CHECK_EQ(file->seqs[i], row->seq);
        CHECK(file->norms[i] == row->norm2);
        vex_vecfile_decode(file, i, x);
        CHECK(memcmp(x, row->vector, expected->dimension * sizeof *x) == 0);
        CHECK_EQ(vex_vecfile_find(file, row->seq), i);
        if (i > 0 && row->seq > expected->rows[i - 1].seq + 1) {
            CHECK_EQ(vex_vecfile_find(file, row->seq - 1), UINT32_MAX);
        }
    }
    CHECK_EQ(vex_vecfile_find(file, expected->rows[0].seq - 1), UINT32_MAX);
    CHECK_EQ(vex_vecfile_find(file, expected->rows[expected->n - 1].seq + 1), UINT32_MAX);
    free(x);
}

VFS_TEST(vecfile_round_trip) {
    static const uint32_t elements[] = {VEX_ELEMENT_F32, VEX_ELEMENT_F16, VEX_ELEMENT_U8};
    static const uint32_t dimensions[] = {1, 3, 16, 100, 129, 384, 1000};
    uint64_t file_no = 1;
    for (uint32_t e = 0; e < 3; e++) {
        for (uint32_t d = 0; d < 7; d++) {
            rows made = make_rows(1 + test_random_below(300), dimensions[d], elements[e],
                                  1 + test_random_below(9));
            vex_file_entry entry;
            vex_vecfile *file;
            CHECK_OK(vex_vecfile_write(vfs, root, kit_uuid, file_no, made.rows, made.n,
                                       made.dimension, 0, (vex_code_range){0}, 5, 9, true, &entry));
            CHECK_EQ(entry.rows, made.n);
            CHECK_EQ(entry.seq_lo, made.rows[0].seq);
            CHECK_EQ(entry.seq_hi, made.rows[made.n - 1].seq);
            CHECK_EQ(entry.lsn_hi, 9);
            CHECK_EQ(entry.dead_rows + entry.tombs_file_no, 0);
            CHECK_OK(vex_vecfile_open(vfs, root, kit_uuid, &entry, &file));
            if (made.n * made.dimension > 100) {
                CHECK_EQ(file->element, elements[e]);
            }
            check_file(file, &made);
            CHECK_OK(vex_vecfile_verify(file));
            vex_vecfile_release(vex_vecfile_acquire(file));
            vex_vecfile_release(file);
            free_rows(&made);
            file_no++;
        }
    }
}

TEST(vecfile_stride) {
    static const uint32_t cases[][3] = {/* element, dimension, stride */
                                        {VEX_ELEMENT_F32, 384, 1536},  {VEX_ELEMENT_F32, 3, 12},
                                        {VEX_ELEMENT_F32, 1000, 4032}, {VEX_ELEMENT_F32, 15, 64},
                                        {VEX_ELEMENT_F16, 100, 200},   {VEX_ELEMENT_U8, 960, 960},
                                        {VEX_ELEMENT_U8, 127, 128},    {VEX_ELEMENT_U8, 1, 1}};
    vex_vfs *vfs;
    CHECK_OK(vex_vfs_memory_create(&vfs));
    for (uint32_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rows made = make_rows(40, cases[i][1], cases[i][0], 1);
        vex_file_entry entry;
        vex_vecfile *file;
        CHECK_OK(vex_vecfile_write(vfs, "/", kit_uuid, i + 1, made.rows, made.n, made.dimension, 0,
                                   (vex_code_range){0}, 1, 1, false, &entry));
        CHECK_OK(vex_vecfile_open(vfs, "/", kit_uuid, &entry, &file));
        CHECK_EQ(file->element, cases[i][0]);
        CHECK_EQ(file->stride, cases[i][2]);
        CHECK_EQ((uint64_t)(file->vectors - file->container.map) % 4096, 0);
        static const uint8_t zeros[64];
        static const uint32_t element_bytes[] = {4, 2, 1};
        uint32_t used = file->dimension * element_bytes[file->element];
        for (uint32_t row = 0; row < file->rows; row++) { /* no leftovers of memory on disk */
            const uint8_t *padding = file->vectors + (size_t)row * file->stride + used;
            CHECK(memcmp(padding, zeros, file->stride - used) == 0);
        }
        vex_vecfile_release(file);
        free_rows(&made);
    }
    vex_vfs_memory_destroy(vfs);
}

/* Larger than every buffer on the way. */
VFS_TEST(vecfile_large) {
    rows made = make_rows(40000, 24, VEX_ELEMENT_F32, 2);
    vex_file_entry entry;
    vex_vecfile *file;
    CHECK_OK(vex_vecfile_write(vfs, root, kit_uuid, 1, made.rows, made.n, 24, 0,
                               (vex_code_range){0}, 1, 1, false, &entry));
    CHECK_OK(vex_vecfile_open(vfs, root, kit_uuid, &entry, &file));
    check_file(file, &made);
    CHECK_OK(vex_vecfile_verify(file));
    vex_vecfile_release(file);
    free_rows(&made);
}

VFS_TEST(vecfile_refused) {
    rows made = make_rows(10, 4, VEX_ELEMENT_F32, 1);
    vex_file_entry entry, other;
    vex_vecfile *file;
    CHECK_STATUS(vex_vecfile_write(vfs, root, kit_uuid, 1, made.rows, 0, 4, 0, (vex_code_range){0},
                                   1, 1, true, &entry),
                 VEX_ERR_INVALID);
    CHECK_STATUS(vex_vecfile_write(vfs, root, kit_uuid, 1, made.rows, 10, 0, 0, (vex_code_range){0},
                                   1, 1, true, &entry),
                 VEX_ERR_INVALID);
    made.rows[5].seq = made.rows[4].seq;
    CHECK_STATUS(vex_vecfile_write(vfs, root, kit_uuid, 1, made.rows, 10, 4, 0, (vex_code_range){0},
                                   1, 1, true, &entry),
                 VEX_ERR_INVALID);
    CHECK_OK(vex_vecfile_write(vfs, root, kit_uuid, 1, made.rows, 5, 4, 0, (vex_code_range){0}, 1,
                               1, true, &entry));
    other = entry;
    other.rows++;
    CHECK_STATUS(vex_vecfile_open(vfs, root, kit_uuid, &other, &file), VEX_ERR_CORRUPT);
    other = entry;
    other.seq_hi++;
    CHECK_STATUS(vex_vecfile_open(vfs, root, kit_uuid, &other, &file), VEX_ERR_CORRUPT);
    other = entry;
    other.file_no++;
    CHECK_STATUS(vex_vecfile_open(vfs, root, kit_uuid, &other, &file), VEX_ERR_NOT_FOUND);
    free_rows(&made);
}

/* ---- damage ---- */

/* Touch everything; true when all is as expected. */
static bool reads_right(const vex_vecfile *file, const rows *expected) {
    bool right = file->rows == expected->n && file->dimension == expected->dimension;
    float *x = malloc(file->dimension * sizeof *x);
    for (uint32_t i = 0; i < file->rows; i++) {
        vex_vecfile_decode(file, i, x);
        right = right && memcmp(x, expected->rows[i].vector, file->dimension * sizeof *x) == 0 &&
                file->seqs[i] == expected->rows[i].seq && file->norms[i] == expected->rows[i].norm2;
        uint32_t found = vex_vecfile_find(file, test_random() % 1100);
        CHECK(found == UINT32_MAX || found < file->rows);
    }
    free(x);
    return right;
}

TEST(vecfile_every_byte_damaged) {
    vex_vfs *vfs;
    CHECK_OK(vex_vfs_memory_create(&vfs));
    rows made = make_rows(20, 5, VEX_ELEMENT_F32, 3);
    vex_file_entry entry;
    vex_vecfile *file;
    CHECK_OK(vex_vecfile_write(vfs, "/", kit_uuid, 1, made.rows, made.n, 5, 0, (vex_code_range){0},
                               1, 1, true, &entry));
    const char *path = kit_path("/", VEX_KIND_VECTORS, 1);
    uint32_t opened = 0, wrong = 0;
    for (uint64_t at = 0; at < entry.size; at++) {
        uint8_t mask = (uint8_t)(1 + test_random_below(255));
        kit_xor_byte(vfs, path, at, mask);
        vex_status status = vex_vecfile_open(vfs, "/", kit_uuid, &entry, &file);
        if (status == VEX_OK) {
            opened++;
            wrong += !reads_right(file, &made);
            /* Opening leaves the vectors unchecked; verifying finds every change. */
            CHECK_STATUS(vex_vecfile_verify(file), VEX_ERR_CORRUPT);
            vex_vecfile_release(file);
        } else {
            CHECK(status == VEX_ERR_CORRUPT || status == VEX_ERR_VERSION);
        }
        kit_xor_byte(vfs, path, at, mask);
    }
    CHECK_EQ(wrong, 20 * 5 * 4); /* only the vectors */
    CHECK(opened > wrong);       /* and the padding */
    for (uint64_t size = 0; size < entry.size; size += 1 + test_random_below(30)) {
        vex_vfs *other;
        CHECK_OK(vex_vfs_memory_create(&other));
        CHECK_OK(vex_vecfile_write(other, "/", kit_uuid, 1, made.rows, made.n, 5, 0,
                                   (vex_code_range){0}, 1, 1, true, &entry));
        kit_truncate(other, path, size);
        CHECK_STATUS(vex_vecfile_open(other, "/", kit_uuid, &entry, &file), VEX_ERR_CORRUPT);
        vex_vfs_memory_destroy(other);
    }
    free_rows(&made);
    vex_vfs_memory_destroy(vfs);
}

TEST(vecfile_rows_are_checked_when_used) {
    enum { ROWS = 2000, DIMENSION = 100, CHUNK = 64 << 10 };
    vex_vfs *vfs;
    CHECK_OK(vex_vfs_memory_create(&vfs));
    rows made = make_rows(ROWS, DIMENSION, VEX_ELEMENT_F32, 1);
    vex_file_entry entry;
    vex_vecfile *file;
    CHECK_OK(vex_vecfile_write(vfs, "/", kit_uuid, 1, made.rows, ROWS, DIMENSION, 0,
                               (vex_code_range){0}, 1, 1, true, &entry));
    CHECK_OK(vex_vecfile_open(vfs, "/", kit_uuid, &entry, &file));
    uint64_t start = file->lazy_vectors.section->offset, stride = file->stride;
    uint64_t damaged_chunk = 3 + test_random_below(8);
    CHECK_OK(vex_vecfile_check_rows(file, 0, 10));
    CHECK(!vex_lazy_section_is_checked(&file->lazy_vectors));
    CHECK_OK(vex_vecfile_check_rows(file, 0, ROWS));
    CHECK(vex_lazy_section_is_checked(&file->lazy_vectors));
    vex_vecfile_release(file);
    kit_xor_byte(vfs, kit_path("/", VEX_KIND_VECTORS, 1),
                 damaged_chunk * CHUNK + test_random_below(CHUNK), 1);
    CHECK_OK(vex_vecfile_open(vfs, "/", kit_uuid, &entry, &file));
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t row = 0; row < ROWS; row++) {
            uint64_t first = (start + row * stride) / CHUNK;
            uint64_t last = (start + (row + 1) * stride - 1) / CHUNK;
            bool damaged = first <= damaged_chunk && damaged_chunk <= last;
            CHECK_STATUS(vex_vecfile_check_rows(file, row, 1), damaged ? VEX_ERR_CORRUPT : VEX_OK);
        }
    }
    CHECK_EQ(atomic_load(&file->lazy_vectors.unchecked), 1);
    CHECK_STATUS(vex_vecfile_check_rows(file, 0, ROWS), VEX_ERR_CORRUPT);
    CHECK_OK(vex_vecfile_check_rows(file, ROWS - 1, 0));
    vex_vecfile_release(file);
    free_rows(&made);
    vex_vfs_memory_destroy(vfs);
}

TEST(vecfile_damage_behind_checksums) {
    vex_vfs *vfs;
    CHECK_OK(vex_vfs_memory_create(&vfs));
    uint32_t opened = 0, refused = 0;
    for (int kind = 0; kind < 3; kind++) {
        rows made = make_rows(60, 7, (uint32_t)kind, 3);
        vex_file_entry entry;
        vex_vecfile *file, *damaged;
        CHECK_OK(vex_vecfile_write(vfs, "/", kit_uuid, 1, made.rows, made.n, 7, 0,
                                   (vex_code_range){0}, 1, 1, false, &entry));
        CHECK_OK(vex_vecfile_open(vfs, "/", kit_uuid, &entry, &file));
        for (int round = 0; round < 1000; round++) {
            vex_file_entry changed = entry;
            kit_rewrite_damaged(&file->container, "/", VEX_SECTION_IDS, 2, &changed);
            if (vex_vecfile_open(vfs, "/", kit_uuid, &changed, &damaged) == VEX_OK) {
                opened++;
                (void)reads_right(damaged, &made);
                (void)vex_vecfile_verify(damaged);
                vex_vecfile_release(damaged);
            } else {
                refused++;
                CHECK_EQ(vex_last_error()->code, VEX_ERR_CORRUPT);
            }
        }
        vex_vecfile_release(file);
        free_rows(&made);
    }
    CHECK(opened > 1000 && refused > 500);
    vex_vfs_memory_destroy(vfs);
}

#ifdef VEX_TESTING
TEST(vecfile_every_failure) {
    vex_vfs *memory, *vfs;
    CHECK_OK(vex_vfs_memory_create(&memory));
    CHECK_OK(vex_vfs_fault_create(memory, &vfs));
    rows made = make_rows(50, 6, VEX_ELEMENT_F16, 3);
    resources before = resources_now();
    for (int kind = 0; kind < 2; kind++) { /* calls of the system; allocations */
        vex_status status = VEX_ERR_IO;
        for (uint64_t n = 1; status != VEX_OK; n++) {
            CHECK(n < 200);
            vex_vecfile *file = NULL;
            vex_file_entry entry;
            vex_vfs_fault_arm(vfs, kind == 0 ? n : 0, EIO, false, false);
            vex_mem_fail_at(kind == 1 ? n : 0, false);
            status = vex_vecfile_write(vfs, "/", kit_uuid, 1, made.rows, made.n, 6, 0,
                                       (vex_code_range){0}, 1, 1, true, &entry);
            if (status == VEX_OK) {
                status = vex_vecfile_open(vfs, "/", kit_uuid, &entry, &file);
            }
            vex_vfs_fault_arm(vfs, 0, 0, false, false);
            vex_mem_fail_at(0, false);
            if (status == VEX_OK) {
                check_file(file, &made);
                vex_vecfile_release(file);
            } else {
                CHECK_EQ(status, kind == 0 ? VEX_ERR_IO : VEX_ERR_NO_MEMORY);
            }
            resources now = resources_now();
            CHECK_EQ(now.files, before.files);
            CHECK_EQ(now.mapped_files, before.mapped_files);
        }
    }
    free_rows(&made);
    vex_vfs_fault_destroy(vfs);
    vex_vfs_memory_destroy(memory);
}
#endif
