/*
 * fuzz_batch.c - the content of a log record, of any bytes.
 *
 * Target "batch": what decodes is encoded again and decoded to the same, and can be applied to a
 * collection of some rows.
 */
#include "store/batch.h"
#include "store/snapshot.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>

#define HEADER_BYTES 48u
#define ENTRY_BYTES 24u
#define AT_N_COLUMNS 12u

void fuzz_change_batch(fuzz_input *input) {
    static const fuzz_field header[] = {{4, 4},  {8, 4},  {12, 4}, {16, 8},
                                        {24, 8}, {32, 4}, {36, 4}};
    static const fuzz_field entry[] = {{0, 4}, {4, 4}, {8, 8}, {16, 8}};
    const uint32_t what = test_random_below(6);
    if (input->len < HEADER_BYTES || what < 2) {
        fuzz_change(input);
        return;
    }
    const size_t room = (input->len - HEADER_BYTES) / ENTRY_BYTES;
    const uint32_t n = vex_get32(input->data + AT_N_COLUMNS);
    if (what == 2 || n == 0 || n > room) {
        FUZZ_CHANGE_FIELD(input->data, input->len, header, input->len);
    } else if (what < 5) {
        uint8_t *at = input->data + HEADER_BYTES + (size_t)test_random_below(n) * ENTRY_BYTES;
        FUZZ_CHANGE_FIELD(at, ENTRY_BYTES, entry, input->len);
    } else { /* in a column */
        const uint8_t *at = input->data + HEADER_BYTES + (size_t)test_random_below(n) * ENTRY_BYTES;
        const uint64_t offset = vex_get64(at + 8), len = vex_get64(at + 16);
        if (offset < input->len && input->len - offset >= 8 && len >= 8) {
            fuzz_change_number(input->data + offset, test_random_below(2) ? 4 : 1, len);
        }
    }
}

/* ---- seeds ---- */

static const float vectors[4][3] = {{1, 2, 3}, {-1, 0.5f, 0}, {9, 9, 9}, {0, 0, 0}};
static const uint8_t map[] = {0x82, 0xa1, 'n', 7, 0xa1, 't', 0xa3, 'x', 'y', 'z'};

static vex_op an_op(vex_op_kind kind, uint64_t seq, const char *id) {
    vex_op op = {.kind = kind, .payload = {.seq = seq}};
    if (kind != VEX_OP_VECTOR) {
        op.payload.id = (const uint8_t *)id;
        op.payload.id_len = (uint32_t)strlen(id);
    }
    if (kind == VEX_OP_PUT || kind == VEX_OP_VECTOR) {
        op.vector = vectors[seq % 4];
    }
    if (kind == VEX_OP_PUT || kind == VEX_OP_PAYLOAD) {
        op.payload.document = (const uint8_t *)"a document";
        op.payload.document_len = seq % 2 ? 10 : 0;
        op.payload.metadata = seq % 3 ? map : NULL;
        op.payload.metadata_len = seq % 3 ? sizeof map : 0;
    }
    return op;
}

/* The encoded bytes in one piece, aligned to 8; free() them. */
static uint8_t *encode(const vex_batch *batch, size_t *len) {
    vex_buf meta = {0};
    vex_iovec *parts = NULL;
    uint32_t n_parts = 0;
    size_t at = 0;
    CHECK_OK(vex_batch_encode(batch, &meta, &parts, &n_parts));
    *len = 0;
    for (uint32_t i = 0; i < n_parts; i++) {
        *len += parts[i].len;
    }
    uint8_t *bytes = malloc(*len);
    for (uint32_t i = 0; i < n_parts; i++) {
        memcpy(bytes + at, parts[i].data, parts[i].len);
        at += parts[i].len;
    }
    vex_free(parts);
    vex_buf_clear(&meta);
    return bytes;
}

static void seeds(const fuzz_seeds *seeds) {
    static const char *const forms[] = {"", "P", "PPPPP", "PVLD", "D", "V", "L", "PPDLVPPPDDVL"};
    for (size_t f = 0; f < sizeof forms / sizeof forms[0]; f++) {
        vex_batch batch = {.next_seq = 100, .dimension = 3};
        char ids[16][8];
        for (size_t i = 0; forms[f][i] != '\0'; i++) {
            const char letter = forms[f][i];
            const vex_op_kind kind = letter == 'P'   ? VEX_OP_PUT
                                     : letter == 'V' ? VEX_OP_VECTOR
                                     : letter == 'L' ? VEX_OP_PAYLOAD
                                                     : VEX_OP_DELETE;
            snprintf(ids[i], sizeof ids[i], "id%u", (unsigned)i);
            const vex_op op = an_op(kind, i + 1, ids[i]);
            CHECK_OK(vex_batch_add(&batch, &op));
        }
        size_t len = 0;
        uint8_t *bytes = encode(&batch, &len);
        seeds->take(seeds->context, bytes, len);
        free(bytes);
        vex_batch_clear(&batch);
    }
}

/* ---- a run ---- */

static bool same_bytes(const uint8_t *a, uint32_t a_len, const uint8_t *b, uint32_t b_len) {
    return (a == NULL) == (b == NULL) && a_len == b_len && (a == NULL || memcmp(a, b, a_len) == 0);
}

static bool same_op(const vex_op *a, const vex_op *b, uint32_t dimension) {
    const vex_payload *p = &a->payload, *q = &b->payload;
    return a->kind == b->kind && p->seq == q->seq && (a->vector == NULL) == (b->vector == NULL) &&
           (a->vector == NULL || memcmp(a->vector, b->vector, dimension * sizeof(float)) == 0) &&
           same_bytes(p->id, p->id_len, q->id, q->id_len) &&
           same_bytes(p->document, p->document_len, q->document, q->document_len) &&
           same_bytes(p->metadata, p->metadata_len, q->metadata, q->metadata_len) &&
           same_bytes(p->uri, p->uri_len, q->uri, q->uri_len);
}

static void check_round_trip(const vex_batch *batch) {
    for (size_t i = 0; i < batch->n_ops; i++) {
        CHECK(batch->ops[i].payload.seq < batch->next_seq);
    }
    size_t len = 0;
    uint8_t *bytes = encode(batch, &len);
    vex_batch again = {0};
    CHECK_OK(vex_batch_decode(bytes, len, &again));
    CHECK_EQ(again.n_ops, batch->n_ops);
    CHECK_EQ(again.dimension, batch->dimension);
    CHECK_EQ(again.next_seq, batch->next_seq);
    for (size_t i = 0; i < batch->n_ops; i++) {
        CHECK(same_op(&batch->ops[i], &again.ops[i], batch->dimension));
    }
    vex_batch_clear(&again);
    free(bytes);
}

/* The seqs of new records ascend. */
static bool is_in_order(const vex_batch *batch, uint64_t next_seq) {
    for (size_t i = 0; i < batch->n_ops; i++) {
        if (batch->ops[i].kind == VEX_OP_PUT) {
            if (batch->ops[i].payload.seq < next_seq) {
                return false;
            }
            next_seq = batch->ops[i].payload.seq + 1;
        }
    }
    return true;
}

/* On nothing, and once more on what that gave, where nothing is new. */
static void apply(const vex_batch *batch) {
    static const uint8_t uuid[16] = {1};
    const vex_manifest manifest = {
        .generation = 1, .next_seq = 0, .next_file_no = 1, .wal_first = 1};
    vex_vfs *files = fuzz_files_create();
    vex_snapshot *snapshot = NULL;
    CHECK_OK(vex_snapshot_open(files, "/", uuid, &manifest, NULL, &snapshot));
    CHECK_OK(vex_memtable_create(&snapshot->mems[0].table));
    snapshot->n_mems = 1;
    for (uint64_t lsn = 1; lsn <= 2; lsn++) {
        vex_snapshot *next = NULL;
        CHECK_OK(vex_memtable_prepare(snapshot->mems[0].table, batch));
        CHECK_OK(vex_snapshot_copy(snapshot, &next));
        vex_status status = vex_snapshot_apply(next, batch, lsn);
        CHECK_EQ(status, is_in_order(batch, snapshot->next_seq) ? VEX_OK : VEX_ERR_CORRUPT);
        if (status == VEX_OK) {
            vex_snapshot_commit(next, batch, lsn);
            vex_snapshot_release(snapshot);
            snapshot = next;
        } else {
            vex_snapshot_release(next);
        }
    }
    vex_seq_cursor *cursor = NULL;
    vex_row_ref ref;
    uint64_t rows = 0, before = 0;
    CHECK_OK(vex_seq_cursor_create(snapshot, &cursor));
    while (vex_seq_cursor_next(cursor, &ref)) {
        CHECK(ref.row < snapshot->mems[0].n_payloads);
        CHECK(rows == 0 || ref.seq >= before);
        before = ref.seq;
        rows++;
    }
    CHECK(rows <= 2 * batch->n_ops);
    vex_seq_cursor_destroy(cursor);
    vex_snapshot_release(snapshot);
    vex_vfs_memory_destroy(files);
}

static void run(const uint8_t *data, size_t len) {
    uint8_t *aligned = malloc(len + 1);
    vex_batch batch = {0};
    memcpy(aligned, data, len);
    vex_status status = vex_batch_decode(aligned, len, &batch);
    if (status == VEX_OK) {
        fuzz_accept();
        check_round_trip(&batch);
        apply(&batch);
        vex_batch_clear(&batch);
    } else {
        fuzz_check_error(status, NULL);
    }
    free(aligned);
}

const fuzz_target fuzz_batch = {
    .name = "batch", .seeds = seeds, .run = run, .change = fuzz_change_batch, .rounds = 10000};
