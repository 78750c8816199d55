/*
 * t_payfile.c - payload files: ids, columns, plug-in sections, damage.
 */
#include "base/hash.h"
#include "store/payfile.h"
#include "tests/store_kit.h"
#include "tests/vfs_suite.h"
#include "tests/zstd_provider.h"

#include <pthread.h>
#include <stdlib.h>

#define PLUGIN_SECTION VEX_SECTION_POSTINGS

typedef struct rows {
    vex_payload *rows;
    uint8_t *bytes;
    uint32_t n;
} rows;

static const uint8_t *make_text(uint8_t **at, const char *what, uint32_t i, uint32_t *len) {
    uint8_t *text = *at;
    *len = (uint32_t)snprintf((char *)text, 100, "%s number %u, %.*s", what, (unsigned)i,
                              (int)test_random_below(60),
                              "which goes on and on like a river that nobody ever saw the end of");
    *at += *len;
    return text;
}

/* Some rows lack some parts; `parts` says which exist at all. */
static rows make_rows(uint32_t n, uint32_t parts) {
    rows made = {calloc(n, sizeof *made.rows), malloc((size_t)n * 400), n};
    uint8_t *at = made.bytes;
    uint64_t seq = test_random_below(1000);
    for (uint32_t i = 0; i < n; i++) {
        vex_payload *row = &made.rows[i];
        row->seq = seq;
        row->id = make_text(&at, "id", i, &row->id_len);
        if ((parts & VEX_PAYLOAD_DOCUMENT) && test_random_below(4)) {
            row->document = make_text(&at, "document", i, &row->document_len);
        }
        if ((parts & VEX_PAYLOAD_METADATA) && test_random_below(4)) {
            row->metadata = make_text(&at, "metadata", i, &row->metadata_len);
        }
        if ((parts & VEX_PAYLOAD_URI) && test_random_below(4)) {
            row->uri = make_text(&at, "uri", i, &row->uri_len);
            row->uri_len = test_random_below(3) ? row->uri_len : 0; /* present and empty */
        }
        seq += 1 + test_random_below(5);
    }
    return made;
}

static void free_rows(rows *made) {
    free(made->rows);
    free(made->bytes);
}

static bool same(const uint8_t *a, uint32_t a_len, const uint8_t *b, uint32_t b_len) {
    return (a == NULL) == (b == NULL) && (a == NULL || a_len == b_len) &&
           (a == NULL || a_len == 0 || memcmp(a, b, a_len) == 0);
}

static bool same_row(const vex_payload *a, const vex_payload *b) {
    return a->seq == b->seq && same(a->id, a->id_len, b->id, b->id_len) &&
           same(a->document, a->document_len, b->document, b->document_len) &&
           same(a->metadata, a->metadata_len, b->metadata, b->metadata_len) &&
           same(a->uri, a->uri_len, b->uri, b->uri_len);
}

#define ALL_PARTS (VEX_PAYLOAD_DOCUMENT | VEX_PAYLOAD_METADATA | VEX_PAYLOAD_URI)

static uint32_t find(const vex_payfile *file, const void *id, size_t len) {
    uint32_t row = 0;
    CHECK_OK(vex_payfile_find_id(file, id, len, vex_hash64(id, len), &row));
    return row;
}

static void check_file(const vex_payfile *file, const rows *expected) {
    vex_payload_reader reader;
    vex_payload row;
    CHECK_EQ(file->rows, expected->n);
    vex_payload_reader_init(&reader, file);
    for (uint32_t i = 0; i < expected->n; i++) {
        const vex_payload *there = &expected->rows[i];
        CHECK_OK(vex_payload_read(&reader, i, ALL_PARTS, &row));
        CHECK(same_row(&row, there));
        CHECK_EQ(find(file, there->id, there->id_len), i);
        CHECK_EQ(find(file, there->id, there->id_len - 1), UINT32_MAX);
        CHECK_EQ(vex_payfile_find_seq(file, there->seq), i);
        if (i > 0 && there->seq > expected->rows[i - 1].seq + 1) {
            CHECK_EQ(vex_payfile_find_seq(file, there->seq - 1), UINT32_MAX);
        }
    }
    uint32_t i = test_random_below(expected->n);
    CHECK_OK(vex_payload_read(&reader, i, 0, &row));
    CHECK(row.seq == expected->rows[i].seq && row.document == NULL && row.metadata == NULL);
    CHECK_EQ(find(file, "", 0), UINT32_MAX);
    vex_payload_reader_clear(&reader);
}

static void round_trips(vex_vfs *vfs, const char *root) {
    static const uint32_t sizes[] = {1, 2, 50, 3000};
    uint64_t file_no = 1;
    for (uint32_t s = 0; s < 4; s++) {
        for (uint32_t parts = 0; parts <= ALL_PARTS; parts++) {
            rows made = make_rows(sizes[s], parts);
            vex_file_entry entry;
            vex_payfile *file;
            CHECK_OK(vex_payfile_write(vfs, root, kit_uuid, file_no, made.rows, made.n, 5, 9, true,
                                       &entry));
            CHECK_EQ(entry.rows, made.n);
            CHECK_EQ(entry.seq_hi, made.rows[made.n - 1].seq);
            CHECK_OK(vex_payfile_open(vfs, root, kit_uuid, &entry, &file));
            check_file(file, &made);
            CHECK_OK(vex_payfile_verify(file));
            uint64_t documents = 0;
            for (uint32_t i = 0; i < made.n; i++) {
                documents += made.rows[i].document_len;
            }
            CHECK_EQ(file->raw_document_bytes, documents);
            CHECK_EQ(file->has_documents, documents > 0);
            CHECK_EQ(file->stored_document_bytes > 0, documents > 0);
            CHECK(made.n < 3000 || documents == 0 || file->stored_document_bytes < documents);
            vex_payfile_release(vex_payfile_acquire(file));
            vex_payfile_release(file);
            free_rows(&made);
            file_no++;
        }
    }
}

/* Once before resources are counted: a registered codec and this thread's contexts stay. */
TEST(payfile_round_trips) {
    vex_vfs *vfs;
    CHECK_OK(test_register_zstd());
    CHECK_OK(vex_vfs_memory_create(&vfs));
    round_trips(vfs, "/");
    vex_vfs_memory_destroy(vfs);
    on_posix(round_trips);
    on_memory(round_trips);
}

VFS_TEST(payfile_refused) {
    rows made = make_rows(10, 0);
    vex_file_entry entry, other;
    vex_payfile *file;
    CHECK_STATUS(vex_payfile_write(vfs, root, kit_uuid, 1, made.rows, 0, 1, 1, true, &entry),
                 VEX_ERR_INVALID);
    made.rows[5].seq = made.rows[4].seq;
    CHECK_STATUS(vex_payfile_write(vfs, root, kit_uuid, 1, made.rows, 10, 1, 1, true, &entry),
                 VEX_ERR_INVALID);
    made.rows[4].id = NULL;
    CHECK_STATUS(vex_payfile_write(vfs, root, kit_uuid, 1, made.rows, 5, 1, 1, true, &entry),
                 VEX_ERR_INVALID);
    CHECK_OK(vex_payfile_write(vfs, root, kit_uuid, 1, made.rows, 4, 1, 1, true, &entry));
    other = entry;
    other.rows++;
    CHECK_STATUS(vex_payfile_open(vfs, root, kit_uuid, &other, &file), VEX_ERR_CORRUPT);
    other = entry;
    other.seq_lo--;
    CHECK_STATUS(vex_payfile_open(vfs, root, kit_uuid, &other, &file), VEX_ERR_CORRUPT);
    free_rows(&made);
}

/* ---- plug-ins ---- */

static uint32_t n_loaded;
static bool plugin_active; /* it stays registered for all other tests */

static vex_status build_count(const vex_payload *row, uint32_t n, vex_buf *out) {
    if (plugin_active && n == 13) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "unlucky");
    }
    return !plugin_active || n == 7 ? VEX_OK
                                    : vex_buf_append(out, &row[n - 1].seq, sizeof row->seq);
}

static vex_status load_count(const uint8_t *data, size_t len, uint32_t n, const char *path,
                             uint64_t offset, void **state) {
    if (len != sizeof(uint64_t) || n == 11) {
        return VEX_FAIL_AT(VEX_ERR_CORRUPT, path, offset, 0, "not this");
    }
    *state = malloc(len);
    memcpy(*state, data, len);
    n_loaded++;
    return VEX_OK;
}

static void unload_count(void *state) {
    free(state);
    n_loaded--;
}

static const vex_section_plugin count_plugin = {PLUGIN_SECTION, build_count, load_count,
                                                unload_count};

VFS_TEST(payfile_plugins) {
    CHECK_OK(vex_payfile_register(&count_plugin));
    CHECK_OK(vex_payfile_register(&count_plugin));
    plugin_active = true;
    for (uint32_t n = 1; n < 14; n++) {
        rows made = make_rows(n, ALL_PARTS);
        vex_file_entry entry;
        vex_payfile *file;
        vex_status status =
            vex_payfile_write(vfs, root, kit_uuid, n, made.rows, n, 1, 1, true, &entry);
        if (n == 13) {
            CHECK_EQ(status, VEX_ERR_NO_MEMORY);
            CHECK(!exists(vfs, in(root, "pay-000000000013.vxp.tmp")));
        } else {
            CHECK_OK(status);
            CHECK_OK(vex_payfile_open(vfs, root, kit_uuid, &entry, &file));
            uint64_t *state = vex_payfile_plugin(file, PLUGIN_SECTION);
            CHECK_EQ(state != NULL, n != 7 && n != 11); /* left out; refused */
            CHECK(state == NULL || *state == made.rows[n - 1].seq);
            CHECK(vex_payfile_plugin(file, VEX_SECTION_EXPIRES) == NULL);
            check_file(file, &made);
            vex_payfile_release(file);
        }
        CHECK_EQ(n_loaded, 0);
        free_rows(&made);
    }
    plugin_active = false;
}

/* ---- damage ---- */

/* Read everything: 0 an error was found, 1 all right; wrong data fails the test unless `any`. */
static bool reads_right(const vex_payfile *file, const rows *expected, bool any) {
    vex_payload_reader reader;
    bool right = file->rows == expected->n;
    vex_payload_reader_init(&reader, file);
    for (uint32_t i = 0; i < file->rows; i++) {
        vex_payload row;
        uint32_t found = 0;
        const vex_payload *there = &expected->rows[i % expected->n];
        vex_status status = vex_payload_read(&reader, i, ALL_PARTS, &row);
        if (status == VEX_OK) {
            CHECK(any || same_row(&row, there));
            uint32_t sum = 0; /* every byte can be touched */
            for (uint32_t b = 0; b < row.id_len; b++) {
                sum += row.id[b];
            }
            for (uint32_t b = 0; b < row.document_len; b++) {
                sum += row.document[b];
            }
            CHECK(sum < UINT32_MAX);
        }
        right = right && status == VEX_OK;
        status = vex_payfile_find_id(file, there->id, there->id_len,
                                     vex_hash64(there->id, there->id_len), &found);
        CHECK(status != VEX_OK || found == UINT32_MAX || found < file->rows);
        CHECK(any || (status == VEX_OK && found == i));
        found = vex_payfile_find_seq(file, there->seq);
        CHECK(found == UINT32_MAX || found < file->rows);
    }
    vex_payload_reader_clear(&reader);
    return right;
}

TEST(payfile_every_byte_damaged) {
    CHECK_OK(test_register_zstd());
    vex_vfs *vfs;
    CHECK_OK(vex_vfs_memory_create(&vfs));
    rows made = make_rows(25, ALL_PARTS);
    vex_file_entry entry;
    vex_payfile *file;
    CHECK_OK(vex_payfile_write(vfs, "/", kit_uuid, 1, made.rows, made.n, 1, 1, true, &entry));
    const char *path = kit_path("/", VEX_KIND_PAYLOAD, 1);
    uint32_t opened = 0, refused = 0;
    for (uint64_t at = 0; at < entry.size; at++) {
        uint8_t mask = (uint8_t)(1 + test_random_below(255));
        kit_xor_byte(vfs, path, at, mask);
        vex_status status = vex_payfile_open(vfs, "/", kit_uuid, &entry, &file);
        if (status == VEX_OK) {
            opened++;
            refused += !reads_right(file, &made, false);
            CHECK_STATUS(vex_payfile_verify(file), VEX_ERR_CORRUPT);
            vex_payfile_release(file);
        } else {
            CHECK(status == VEX_ERR_CORRUPT || status == VEX_ERR_VERSION);
        }
        kit_xor_byte(vfs, path, at, mask);
    }
    CHECK(refused > 500 && opened > refused && opened < entry.size / 2);
    CHECK_OK(vex_payfile_open(vfs, "/", kit_uuid, &entry, &file));
    CHECK(reads_right(file, &made, false));
    vex_payfile_release(file);
    for (uint64_t size = 0; size < entry.size; size += 1 + test_random_below(100)) {
        vex_vfs *other;
        CHECK_OK(vex_vfs_memory_create(&other));
        CHECK_OK(vex_payfile_write(other, "/", kit_uuid, 1, made.rows, made.n, 1, 1, true, &entry));
        kit_truncate(other, path, size);
        CHECK_STATUS(vex_payfile_open(other, "/", kit_uuid, &entry, &file), VEX_ERR_CORRUPT);
        vex_vfs_memory_destroy(other);
    }
    free_rows(&made);
    vex_vfs_memory_destroy(vfs);
}

TEST(payfile_damage_behind_checksums) {
    CHECK_OK(test_register_zstd());
    vex_vfs *vfs;
    CHECK_OK(vex_vfs_memory_create(&vfs));
    uint32_t opened = 0, refused = 0;
    rows made = make_rows(60, ALL_PARTS);
    vex_file_entry entry;
    vex_payfile *file, *damaged;
    CHECK_OK(vex_payfile_write(vfs, "/", kit_uuid, 1, made.rows, made.n, 1, 1, false, &entry));
    CHECK_OK(vex_payfile_open(vfs, "/", kit_uuid, &entry, &file));
    for (int round = 0; round < 4000; round++) {
        vex_file_entry changed = entry;
        kit_rewrite_damaged(&file->container, "/", VEX_SECTION_COLUMNS, 2, &changed);
        if (vex_payfile_open(vfs, "/", kit_uuid, &changed, &damaged) == VEX_OK) {
            opened++;
            (void)reads_right(damaged, &made, true);
            (void)vex_payfile_verify(damaged);
            vex_payfile_release(damaged);
        } else {
            refused++;
            CHECK_EQ(vex_last_error()->code, VEX_ERR_CORRUPT);
        }
    }
    CHECK(opened > 1000 && refused > 500);
    vex_payfile_release(file);
    free_rows(&made);
    vex_vfs_memory_destroy(vfs);
}

/* What bit flips never give: an index that is well-formed and wrong. */
TEST(payfile_verify_checks_the_index) {
    vex_vfs *vfs;
    CHECK_OK(vex_vfs_memory_create(&vfs));
    rows made = make_rows(30, 0);
    vex_file_entry entry;
    vex_payfile *file;
    CHECK_OK(vex_payfile_write(vfs, "/", kit_uuid, 1, made.rows, made.n, 1, 1, false, &entry));
    CHECK_OK(vex_payfile_open(vfs, "/", kit_uuid, &entry, &file));
    uint32_t *swapped = malloc(30 * sizeof *swapped);
    const uint32_t *original = file->id_rows;
    memcpy(swapped, original, 30 * sizeof *swapped);
    swapped[3] = original[4];
    swapped[4] = original[3];
    file->id_rows = swapped;
    CHECK_STATUS(vex_payfile_verify(file), VEX_ERR_CORRUPT);
    swapped[3] = swapped[4] = original[3];
    CHECK_STATUS(vex_payfile_verify(file), VEX_ERR_CORRUPT);
    file->id_rows = original;
    CHECK_OK(vex_payfile_verify(file));
    uint64_t *seqs = malloc(30 * sizeof *seqs);
    memcpy(seqs, file->seqs, 30 * sizeof *seqs);
    seqs[7] = seqs[8];
    file->seqs = seqs;
    CHECK_STATUS(vex_payfile_verify(file), VEX_ERR_CORRUPT);
    free(swapped);
    free(seqs);
    vex_payfile_release(file);
    free_rows(&made);
    vex_vfs_memory_destroy(vfs);
}

TEST(payfile_filter_knows_strangers) {
    vex_vfs *vfs;
    CHECK_OK(vex_vfs_memory_create(&vfs));
    rows made = make_rows(5000, 0);
    vex_file_entry entry;
    vex_payfile *file;
    CHECK_OK(vex_payfile_write(vfs, "/", kit_uuid, 1, made.rows, made.n, 1, 1, false, &entry));
    CHECK_OK(vex_payfile_open(vfs, "/", kit_uuid, &entry, &file));
    uint32_t strangers = 0;
    for (uint32_t i = 0; i < made.n; i++) {
        CHECK(vex_payfile_may_have(file, vex_hash64(made.rows[i].id, made.rows[i].id_len)));
        strangers += vex_payfile_may_have(file, test_random());
    }
    CHECK(strangers < made.n / 40);
    vex_payfile_release(file);
    free_rows(&made);
    vex_vfs_memory_destroy(vfs);
}

/* Ids whose hashes are equal are told apart by their bytes. */
TEST(payfile_equal_hashes) {
    vex_vfs *vfs;
    CHECK_OK(vex_vfs_memory_create(&vfs));
    rows made = make_rows(9, 0);
    vex_file_entry entry;
    vex_payfile *file;
    CHECK_OK(vex_payfile_write(vfs, "/", kit_uuid, 1, made.rows, made.n, 1, 1, false, &entry));
    CHECK_OK(vex_payfile_open(vfs, "/", kit_uuid, &entry, &file));
    const uint64_t *original = file->id_hashes, same_hashes[9] = {5, 5, 5, 5, 5, 5, 5, 5, 5};
    file->id_hashes = same_hashes;
    memset(file->id_filter, 0xff, file->id_filter_words * sizeof *file->id_filter);
    for (uint32_t i = 0; i < made.n; i++) {
        uint32_t row = 0;
        const vex_payload *there = &made.rows[i];
        CHECK_OK(vex_payfile_find_id(file, there->id, there->id_len, 5, &row));
        CHECK_EQ(row, i);
        char other[200];
        memcpy(other, there->id, there->id_len);
        other[0] = 'x';
        CHECK_OK(vex_payfile_find_id(file, other, there->id_len, 5, &row));
        CHECK_EQ(row, UINT32_MAX);
    }
    file->id_hashes = original;
    vex_payfile_release(file);
    free_rows(&made);
    vex_vfs_memory_destroy(vfs);
}

/* ---- threads ---- */

static const rows *shared_rows;
static vex_payfile *shared_file;
static _Atomic uint32_t n_wrong;

static void *read_many(void *argument) {
    uint32_t state = *(const uint32_t *)argument;
    vex_payload_reader reader;
    vex_payfile *file = vex_payfile_acquire(shared_file);
    vex_payload_reader_init(&reader, file);
    for (int round = 0; round < 3000; round++) {
        vex_payload row;
        state = state * 1664525u + 1013904223u;
        uint32_t i = (state >> 8) % shared_rows->n, found = 0;
        const vex_payload *there = &shared_rows->rows[i];
        if (vex_payload_read(&reader, i, ALL_PARTS, &row) != VEX_OK || !same_row(&row, there) ||
            vex_payfile_find_id(file, there->id, there->id_len,
                                vex_hash64(there->id, there->id_len), &found) != VEX_OK ||
            found != i) {
            n_wrong++;
        }
    }
    vex_payload_reader_clear(&reader);
    vex_payfile_release(file);
    return NULL;
}

TEST(payfile_threads) {
    CHECK_OK(test_register_zstd());
    rows made = make_rows(2000, ALL_PARTS);
    vex_vfs *vfs;
    vex_file_entry entry;
    CHECK_OK(vex_vfs_memory_create(&vfs));
    CHECK_OK(vex_payfile_write(vfs, "/", kit_uuid, 1, made.rows, made.n, 1, 1, false, &entry));
    CHECK_OK(vex_payfile_open(vfs, "/", kit_uuid, &entry, &shared_file));
    shared_rows = &made;
    n_wrong = 0;
    pthread_t threads[3];
    uint32_t seeds[3] = {1, 2, 3};
    for (int t = 0; t < 3; t++) {
        CHECK_EQ(pthread_create(&threads[t], NULL, read_many, &seeds[t]), 0);
    }
    for (int t = 0; t < 3; t++) {
        pthread_join(threads[t], NULL);
    }
    CHECK_EQ(n_wrong, 0);
    vex_payfile_release(shared_file);
    vex_vfs_memory_destroy(vfs);
    free_rows(&made);
}

#ifdef VEX_TESTING
TEST(payfile_every_failure) {
    CHECK_OK(test_register_zstd());
    vex_vfs *memory, *vfs;
    CHECK_OK(vex_vfs_memory_create(&memory));
    CHECK_OK(vex_vfs_fault_create(memory, &vfs));
    rows made = make_rows(70, ALL_PARTS);
    for (int kind = 0; kind < 2; kind++) { /* calls of the system; allocations */
        vex_status status = VEX_ERR_IO;
        for (uint64_t n = 1; status != VEX_OK; n++) {
            CHECK(n < 500);
            vex_payfile *file = NULL;
            vex_file_entry entry;
            resources before = resources_now();
            vex_vfs_fault_arm(vfs, kind == 0 ? n : 0, EIO, false, false);
            vex_mem_fail_at(kind == 1 ? n : 0, true);
            status =
                vex_payfile_write(vfs, "/", kit_uuid, 1, made.rows, made.n, 1, 1, true, &entry);
            if (status == VEX_OK) {
                status = vex_payfile_open(vfs, "/", kit_uuid, &entry, &file);
            }
            vex_vfs_fault_arm(vfs, 0, 0, false, false);
            vex_mem_fail_at(0, false);
            if (status == VEX_OK) {
                check_file(file, &made);
                vex_payfile_release(file);
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
