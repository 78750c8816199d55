/*
 * fuzz_payload.c - payload files of any bytes: opening, every row, finding ids, and filters over
 * the file.
 *
 * Target "payload": the input is the file.
 */
#include "store/payfile.h"

#include "base/bits.h"
#include "base/hash.h"
#include "base/msgpack.h"
#include "filter/columns.h"
#include "filter/match.h"
#include "filter/text_index.h"
#include "tests/fuzz/fuzz.h"
#include "tests/zstd_provider.h"

#include <stdlib.h>

#define FILE_NO 1u
#define PATH "/pay-000000000001.vxp"
#define ROWS_READ 3000u

static void prepare(void) {
    CHECK_OK(test_register_zstd());
    CHECK_OK(vex_payfile_register(vex_columns_plugin()));
    CHECK_OK(vex_payfile_register(vex_text_plugin()));
}

/* ---- seeds ---- */

typedef struct shape {
    uint32_t n, document_len;
    bool documents, metadata, uris;
} shape;

static void put_text(vex_buf *out, const char *text) {
    CHECK_OK(vex_mp_put_str(out, text, strlen(text)));
}

static void put_metadata(vex_buf *out, uint32_t row) {
    char text[16];
    snprintf(text, sizeof text, "t%u", (unsigned)(row % 5));
    CHECK_OK(vex_mp_put_map(out, 3));
    put_text(out, "n");
    CHECK_OK(vex_mp_put_int(out, row));
    put_text(out, "text");
    put_text(out, text);
    put_text(out, "list");
    CHECK_OK(vex_mp_put_array(out, 2));
    put_text(out, "always");
    put_text(out, text);
}

typedef struct row_bytes {
    char id[16], uri[16];
    uint8_t *document;
    vex_buf metadata;
} row_bytes;

static void make_row(const shape *s, uint32_t i, row_bytes *bytes, vex_payload *row) {
    snprintf(bytes->id, sizeof bytes->id, "id%u", (unsigned)i);
    *row = (vex_payload){.seq = 10 + i + i / 3,
                         .id = (const uint8_t *)bytes->id,
                         .id_len = (uint32_t)strlen(bytes->id)};
    if (s->documents && i % 4 != 1) {
        static const char text[] = "words of a document, common ones ";
        bytes->document = malloc(s->document_len + 1);
        for (uint32_t b = 0; b < s->document_len; b++) {
            bytes->document[b] = b % 40 == 39 ? (uint8_t)('a' + i % 26) : (uint8_t)text[b % 33];
        }
        row->document = bytes->document;
        row->document_len = s->document_len;
    }
    if (s->metadata && i % 5 != 2) {
        put_metadata(&bytes->metadata, i);
        row->metadata = bytes->metadata.data;
        row->metadata_len = (uint32_t)bytes->metadata.len;
    }
    if (s->uris && i % 2 == 0) {
        row->uri_len = (uint32_t)snprintf(bytes->uri, sizeof bytes->uri, "file:/%u", (unsigned)i);
        row->uri = (const uint8_t *)bytes->uri;
    }
}

static void seed(const fuzz_seeds *seeds, const shape *s) {
    vex_vfs *files = fuzz_files_create();
    row_bytes *bytes = calloc(s->n, sizeof *bytes);
    vex_payload *rows = calloc(s->n, sizeof *rows);
    vex_buf file = {0};
    vex_file_entry entry;
    for (uint32_t i = 0; i < s->n; i++) {
        make_row(s, i, &bytes[i], &rows[i]);
    }
    CHECK_OK(
        vex_payfile_write(files, "/", FUZZ_DATABASE, FILE_NO, rows, s->n, 1, 1, false, &entry));
    fuzz_file_get(files, PATH, &file);
    seeds->take(seeds->context, file.data, file.len);
    for (uint32_t i = 0; i < s->n; i++) {
        vex_buf_clear(&bytes[i].metadata);
        free(bytes[i].document);
    }
    vex_buf_clear(&file);
    free(rows);
    free(bytes);
    vex_vfs_memory_destroy(files);
}

static void seeds(const fuzz_seeds *seeds) {
    static const shape shapes[] = {{1, 0, false, false, false}, {1, 20, true, true, true},
                                   {40, 10, false, true, true}, {60, 150, true, false, false},
                                   {90, 100, true, true, true}, {3, 0, true, false, true}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        seed(seeds, &shapes[i]);
    }
}

/* ---- rows ---- */

static void check_found(const vex_payfile *file, uint32_t i, const vex_payload *row) {
    uint32_t found = 0;
    vex_status status =
        vex_payfile_find_id(file, row->id, row->id_len, vex_hash64(row->id, row->id_len), &found);
    if (status != VEX_OK) {
        fuzz_check_error(status, PATH);
    } else if (found != UINT32_MAX) {
        const uint8_t *id = NULL;
        size_t len = 0;
        CHECK(found < file->rows);
        CHECK_OK(vex_payfile_id(file, found, &id, &len));
        CHECK(len == row->id_len && memcmp(id, row->id, len) == 0);
    }
    CHECK_EQ(vex_payfile_find_seq(file, row->seq), i);
}

static uint64_t sum_of(const uint8_t *bytes, uint32_t len) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < len; i++) {
        sum += bytes[i];
    }
    return sum;
}

static void read_rows(const vex_payfile *file) {
    const uint32_t n = file->rows < ROWS_READ ? file->rows : ROWS_READ;
    vex_payload_reader reader;
    uint64_t sum = 0;
    vex_payload_reader_init(&reader, file);
    for (uint32_t i = 0; i < n; i++) {
        vex_payload row = {0};
        vex_status status = vex_payload_read(
            &reader, i, VEX_PAYLOAD_DOCUMENT | VEX_PAYLOAD_METADATA | VEX_PAYLOAD_URI, &row);
        if (status != VEX_OK) {
            fuzz_check_error(status, PATH);
            continue;
        }
        sum += sum_of(row.id, row.id_len) + sum_of(row.document, row.document_len) +
               sum_of(row.metadata, row.metadata_len) + sum_of(row.uri, row.uri_len);
        check_found(file, i, &row);
    }
    CHECK(sum < UINT64_MAX / 2);
    vex_payload_reader_clear(&reader);
}

/* ---- filters ---- */

typedef struct leaf {
    uint32_t op;
    const char *key, *text;
} leaf;

static void put_leaf(vex_buf *out, const leaf *l) {
    CHECK_OK(vex_mp_put_array(out, l->key ? 3 : 2));
    CHECK_OK(vex_mp_put_int(out, l->op));
    if (l->key != NULL) {
        put_text(out, l->key);
    }
    if (l->text != NULL) {
        put_text(out, l->text);
    } else {
        CHECK_OK(vex_mp_put_int(out, 7));
    }
}

/* Rows that are matched are rows of the file. */
static void filter(const vex_snapshot *snapshot, const leaf *l) {
    vex_buf bytes = {0};
    vex_matches matches;
    put_leaf(&bytes, l);
    const vex_selection selection = {.filter = bytes.data, .filter_len = bytes.len};
    vex_status status = vex_matches_find(snapshot, &selection, &matches);
    if (status == VEX_OK) {
        const uint32_t rows = snapshot->pays[0].file->rows;
        const size_t words = vex_bit_words(rows);
        uint64_t n = matches.pays[0] ? vex_bits_count(matches.pays[0], words) : 0;
        CHECK_EQ(n, matches.count);
        CHECK(matches.pays[0] == NULL || rows % 64 == 0 ||
              matches.pays[0][words - 1] >> rows % 64 == 0);
        vex_matches_clear(&matches);
    } else {
        fuzz_check_error(status, PATH);
    }
    vex_buf_clear(&bytes);
}

static void filter_all(const vex_file_entry *entry, vex_vfs *files) {
    static const leaf leaves[] = {{VEX_F_GE, "n", NULL},
                                  {VEX_F_EQ, "text", "t3"},
                                  {VEX_F_NE, "list", "t3"},
                                  {VEX_F_CONTAINS, "list", "always"},
                                  {VEX_F_DOC_CONTAINS, NULL, "document"},
                                  {VEX_F_DOC_NOT_CONTAINS, NULL, "common on"}};
    vex_file_entry listed = *entry;
    const vex_manifest manifest = {.generation = 1,
                                   .next_seq = UINT64_MAX,
                                   .live_rows = entry->rows,
                                   .next_file_no = 2,
                                   .wal_first = 1,
                                   .files = &listed,
                                   .n_files = 1};
    vex_snapshot *snapshot = NULL;
    CHECK_OK(vex_snapshot_open(files, "/", FUZZ_DATABASE, &manifest, NULL, &snapshot));
    for (size_t i = 0; i < sizeof leaves / sizeof leaves[0]; i++) {
        filter(snapshot, &leaves[i]);
    }
    vex_snapshot_release(snapshot);
}

/* ---- a run ---- */

static void run(const uint8_t *data, size_t len) {
    vex_vfs *files = fuzz_files_create();
    vex_file_entry entry = fuzz_entry_of(VEX_KIND_PAYLOAD, FILE_NO, data, len);
    vex_payfile *file = NULL;
    fuzz_file_put(files, PATH, data, len);
    fuzz_rows_of(files, &entry);
    vex_status status = vex_payfile_open(files, "/", FUZZ_DATABASE, &entry, &file);
    if (status == VEX_OK) {
        fuzz_accept();
        CHECK_EQ(file->rows, entry.rows);
        read_rows(file);
        status = vex_payfile_verify(file);
        if (status != VEX_OK) {
            fuzz_check_error(status, PATH);
        }
        vex_payfile_release(file);
        filter_all(&entry, files);
    } else {
        fuzz_check_error(status, PATH);
    }
    vex_vfs_memory_destroy(files);
}

/* A zstd frame may stand for 32,768 times its length. */
const fuzz_target fuzz_payload = {.name = "payload",
                                  .prepare = prepare,
                                  .seeds = seeds,
                                  .run = run,
                                  .change = fuzz_change_container,
                                  .fix = fuzz_fix_container,
                                  .rounds = 8000,
                                  .expansion = 32768};
