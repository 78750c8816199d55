/*
 * store_model.c - see store_model.h.
 */
#include "tests/store_model.h"

#include "base/hash.h"
#include "tests/harness.h"
#include "tests/store_kit.h"

#include <stdlib.h>

/* ---- contents ---- */

typedef struct contents {
    char id[24], document[80], metadata[40], uri[40];
    float vector[MODEL_DIMENSION];
    vex_payload payload;
} contents;

static void set(char *to, size_t size, const char *what, uint32_t number, uint32_t version,
                const uint8_t **bytes, uint32_t *len) {
    int n = snprintf(to, size, "%s of %u, version %u%.*s", what, (unsigned)number,
                     (unsigned)version, (int)(version % 20), "....................");
    *bytes = (const uint8_t *)to;
    *len = (uint32_t)n < size ? (uint32_t)n : (uint32_t)size - 1;
}

static void make_payload(contents *c, uint32_t number, uint32_t version) {
    vex_payload *p = &c->payload;
    *p = (vex_payload){.id = (const uint8_t *)c->id};
    p->id_len = (uint32_t)snprintf(c->id, sizeof c->id, "record-%u", (unsigned)number);
    if (version % 4 != 0) {
        set(c->document, sizeof c->document, "document", number, version, &p->document,
            &p->document_len);
    }
    if (version % 3 != 0) {
        set(c->metadata, sizeof c->metadata, "metadata", number, version, &p->metadata,
            &p->metadata_len);
    }
    if (version % 5 == 0) {
        set(c->uri, sizeof c->uri, "uri", number, version, &p->uri, &p->uri_len);
        p->uri_len = version % 10 == 0 ? 0 : p->uri_len;
    }
}

/* Versions with the highest bit set are whole numbers. */
static void make_vector(contents *c, uint32_t number, uint32_t version) {
    for (uint32_t d = 0; d < MODEL_DIMENSION; d++) {
        uint64_t hash = vex_mix64((uint64_t)number << 40 | (uint64_t)version << 8 | d);
        c->vector[d] = version >> 31 ? (float)(hash % 256) : (float)(int32_t)hash / 1e9f;
    }
}

/* ---- batches ---- */

typedef struct drawn {
    vex_batch batch;
    contents *contents; /* of record i of the batch                                         */
    model next;
} drawn;

static void add(drawn *d, vex_op_kind kind, const contents *c, uint64_t seq) {
    vex_op op = {.kind = kind, .payload = {.seq = seq}};
    if (kind == VEX_OP_PUT || kind == VEX_OP_PAYLOAD) {
        op.payload = c->payload;
        op.payload.seq = seq;
    } else if (kind == VEX_OP_DELETE) {
        op.payload.id = c->payload.id;
        op.payload.id_len = c->payload.id_len;
    }
    if (kind == VEX_OP_PUT || kind == VEX_OP_VECTOR) {
        op.vector = c->vector;
        d->batch.dimension = MODEL_DIMENSION;
    }
    CHECK_OK(vex_batch_add(&d->batch, &op));
}

static void change_record(model_store *store, drawn *d, contents *c, uint32_t number) {
    model_record *record = &d->next.records[number];
    uint32_t version = ++store->version | (store->whole_numbers ? 1u << 31 : 0);
    make_payload(c, number, version);
    make_vector(c, number, version);
    uint32_t what = test_random_below(8);
    if (record->seq != 0 && what < 2) { /* gone, or replaced by a record of the same id */
        add(d, VEX_OP_DELETE, c, record->seq);
        record->seq = 0;
        d->next.live--;
        if (what == 0) {
            return;
        }
    }
    if (record->seq == 0) {
        *record = (model_record){d->batch.next_seq++, version, version};
        add(d, VEX_OP_PUT, c, record->seq);
        d->next.live++;
        return;
    }
    if (what % 3 != 0) {
        add(d, VEX_OP_VECTOR, c, record->seq);
        record->vector = version;
    }
    if (what % 3 != 1) {
        add(d, VEX_OP_PAYLOAD, c, record->seq);
        record->payload = version;
    }
}

static void draw(model_store *store, uint32_t max_records, drawn *d) {
    uint32_t n = 1 + test_random_below(max_records), first = test_random_below(MODEL_IDS);
    uint32_t step = 1 + test_random_below(5) * 2 * 3 * 5; /* prime to MODEL_IDS: no id twice */
    *d = (drawn){.contents = malloc(n * sizeof *d->contents), .next = store->now};
    d->batch.next_seq = store->latest->next_seq;
    for (uint32_t i = 0; i < n; i++) {
        change_record(store, d, &d->contents[i], (first + i * step) % MODEL_IDS);
    }
    d->next.lsn++;
}

static void clear_drawn(drawn *d) {
    vex_batch_clear(&d->batch);
    free(d->contents);
}

static void log_batch(model_store *store, const vex_batch *batch, uint64_t lsn) {
    vex_buf meta = {0}, body = {0};
    vex_iovec *parts = NULL;
    uint32_t n_parts = 0;
    CHECK_OK(vex_batch_encode(batch, &meta, &parts, &n_parts));
    for (uint32_t i = 0; i < n_parts; i++) {
        CHECK_OK(vex_buf_append(&body, parts[i].data, parts[i].len));
    }
    vex_free(parts);
    vex_buf_clear(&meta);
    if (store->n_log == store->log_capacity) {
        store->log_capacity = store->log_capacity * 2 + 16;
        store->log = realloc(store->log, store->log_capacity * sizeof *store->log);
    }
    store->log[store->n_log++] = (logged_batch){lsn, body};
}

static void trim_log(model_store *store, uint64_t lsn) {
    size_t kept = 0;
    for (size_t i = 0; i < store->n_log; i++) {
        if (store->log[i].lsn > lsn) {
            store->log[kept++] = store->log[i];
        } else {
            vex_buf_clear(&store->log[i].body);
        }
    }
    store->n_log = kept;
}

/* Everything up to the log record. */
static vex_status prepare(model_store *store, const vex_batch *batch, vex_snapshot **next) {
    vex_snapshot *latest = store->latest;
    VEX_TRY(vex_memtable_prepare(latest->mems[latest->n_mems - 1].table, batch));
    VEX_TRY(vex_snapshot_copy(latest, next));
    vex_status status = vex_snapshot_apply(*next, batch, latest->lsn + 1);
    if (status != VEX_OK) {
        vex_snapshot_release(*next);
    }
    return status;
}

static void replace_latest(model_store *store, vex_snapshot *next) {
    vex_snapshot_release(store->latest);
    store->latest = next;
}

static void fail_allocation(uint64_t n) {
#ifdef VEX_TESTING
    vex_mem_fail_at(n, false);
#else
    (void)n;
#endif
}

vex_status model_store_try_batch(model_store *store, uint32_t max_records, uint64_t fail_at) {
    drawn d;
    vex_snapshot *next = NULL;
    draw(store, max_records, &d);
    fail_allocation(fail_at);
    vex_status status = prepare(store, &d.batch, &next);
    fail_allocation(0);
    if (status == VEX_OK) {
        vex_snapshot_commit(next, &d.batch, next->lsn + 1);
        log_batch(store, &d.batch, next->lsn);
        replace_latest(store, next);
        store->now = d.next;
    }
    clear_drawn(&d);
    return status;
}

void model_store_batch(model_store *store, uint32_t max_records) {
    CHECK_OK(model_store_try_batch(store, max_records, 0));
}

void model_store_fail_batch(model_store *store, uint32_t max_records) {
    drawn d;
    vex_snapshot *next = NULL;
    draw(store, max_records, &d);
    CHECK_OK(prepare(store, &d.batch, &next));
    vex_snapshot_release(next);
    clear_drawn(&d);
}

/* ---- life ---- */

static vex_status add_memtable(vex_snapshot *snapshot) {
    vex_memtable *table = NULL;
    VEX_TRY(vex_memtable_create(&table));
    snapshot->mems[snapshot->n_mems++] = (vex_mem_source){.table = table};
    return VEX_OK;
}

void model_store_start(model_store *store, vex_vfs *vfs, const char *dir) {
    *store = (model_store){.vfs = vfs, .dir = dir};
    store->manifest =
        (vex_manifest){.generation = 1, .wal_first = 1, .next_file_no = 1, .next_seq = 1};
    CHECK_OK(vex_manifest_write(vfs, dir, kit_uuid, &store->manifest, false));
    CHECK_OK(vex_snapshot_open(vfs, dir, kit_uuid, &store->manifest, NULL, &store->latest));
    CHECK_OK(add_memtable(store->latest));
}

static void forget_seal(model_store *store) {
    vex_snapshot_release(store->sealed);
    store->sealed = NULL;
}

void model_store_end(model_store *store) {
    trim_log(store, UINT64_MAX);
    free(store->log);
    forget_seal(store);
    vex_snapshot_release(store->latest);
    vex_manifest_clear(&store->manifest);
}

vex_status model_store_seal(model_store *store) {
    vex_snapshot *next = NULL;
    VEX_TRY(vex_snapshot_copy(store->latest, &next));
    vex_status status = add_memtable(next);
    if (status != VEX_OK) {
        vex_snapshot_release(next);
        return status;
    }
    replace_latest(store, next);
    forget_seal(store);
    store->sealed = vex_snapshot_acquire(next);
    store->at_seal = store->now;
    return VEX_OK;
}

vex_status model_store_flush_write(model_store *store, vex_flush_result *result) {
    const vex_buf keys = {(uint8_t *)(uintptr_t)"\x80", 1, 0};
    return vex_flush_write(store->vfs, store->dir, kit_uuid, store->sealed,
                           store->sealed->n_mems - 1, &store->manifest, &keys, 1, false, result);
}

vex_status model_store_flush_commit(model_store *store, vex_flush_result *result) {
    vex_snapshot *next = NULL;
    vex_status status = vex_snapshot_copy(store->latest, &next);
    if (status == VEX_OK) {
        status = vex_flush_carry(result, store->sealed, store->sealed->n_mems - 1, next);
    }
    if (status == VEX_OK) {
        status = vex_manifest_write(store->vfs, store->dir, kit_uuid, &result->manifest, false);
    }
    if (status != VEX_OK) {
        vex_snapshot_release(next);
    } else {
        vex_manifest_clear(&store->manifest);
        store->manifest = result->manifest;
        result->manifest = (vex_manifest){0};
        replace_latest(store, next);
        trim_log(store, store->sealed->lsn);
        forget_seal(store);
    }
    vex_flush_result_clear(result);
    return status;
}

vex_status model_store_reopen(model_store *store) {
    vex_snapshot *snapshot = NULL;
    uint64_t generation;
    VEX_TRY(vex_manifest_newest(store->vfs, store->dir, &generation));
    vex_manifest manifest = {0};
    VEX_TRY(vex_manifest_read(store->vfs, store->dir, kit_uuid, generation, &manifest));
    vex_status status =
        vex_snapshot_open(store->vfs, store->dir, kit_uuid, &manifest, NULL, &snapshot);
    vex_manifest_clear(&manifest);
    if (status == VEX_OK) {
        status = add_memtable(snapshot);
    }
    for (size_t i = 0; i < store->n_log && status == VEX_OK; i++) {
        vex_batch batch = {0};
        const logged_batch *logged = &store->log[i];
        status = vex_batch_decode(logged->body.data, logged->body.len, &batch);
        if (status == VEX_OK) {
            status = vex_memtable_prepare(snapshot->mems[0].table, &batch);
        }
        if (status == VEX_OK) {
            status = vex_snapshot_apply(snapshot, &batch, logged->lsn);
        }
        if (status == VEX_OK) {
            vex_snapshot_commit(snapshot, &batch, logged->lsn);
        }
        vex_batch_clear(&batch);
    }
    if (status != VEX_OK) {
        vex_snapshot_release(snapshot);
        return status;
    }
    replace_latest(store, snapshot);
    forget_seal(store);
    return VEX_OK;
}

/* ---- checking ---- */

static bool same(const uint8_t *a, uint32_t a_len, const uint8_t *b, uint32_t b_len) {
    return (a == NULL) == (b == NULL) &&
           (a == NULL || (a_len == b_len && (a_len == 0 || memcmp(a, b, a_len) == 0)));
}

static bool same_ref(const vex_row_ref *a, const vex_row_ref *b) {
    return a->found && b->found && a->in_memory == b->in_memory && a->source == b->source &&
           a->row == b->row && a->seq == b->seq;
}

static const char *check_record(const vex_snapshot *snapshot, vex_snapshot_reader *reader,
                                uint32_t number, const model_record *record) {
    contents c;
    vex_row_ref ref, again;
    vex_payload payload;
    float vector[MODEL_DIMENSION];
    make_payload(&c, number, record->payload);
    make_vector(&c, number, record->vector);
    if (vex_snapshot_find_id(snapshot, c.payload.id, c.payload.id_len,
                             vex_hash64(c.payload.id, c.payload.id_len), &ref) != VEX_OK) {
        return "find_id failed";
    }
    if (ref.found != (record->seq != 0)) {
        return ref.found ? "a record that is gone is found" : "a record is not found";
    }
    if (!ref.found) {
        return NULL;
    }
    vex_snapshot_find_payload(snapshot, record->seq, &again);
    if (ref.seq != record->seq || !same_ref(&ref, &again)) {
        return "another payload row by seq than by id";
    }
    if (vex_snapshot_read_payload(reader, &ref, 7, &payload) != VEX_OK) {
        return "a payload cannot be read";
    }
    const vex_payload *p = &c.payload;
    if (payload.seq != record->seq || !same(payload.id, payload.id_len, p->id, p->id_len) ||
        !same(payload.document, payload.document_len, p->document, p->document_len) ||
        !same(payload.metadata, payload.metadata_len, p->metadata, p->metadata_len) ||
        !same(payload.uri, payload.uri_len, p->uri, p->uri_len)) {
        return "another payload than was stored last";
    }
    vex_snapshot_find_vector(snapshot, record->seq, &ref);
    if (!ref.found || ref.seq != record->seq) {
        return "no vector";
    }
    vex_snapshot_read_vector(snapshot, &ref, vector);
    return memcmp(vector, c.vector, sizeof vector) == 0 ? NULL : "another vector";
}

static int compare_seqs(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* The walk in order, from some place on. */
static const char *check_walk(const vex_snapshot *snapshot, const model *expected, uint64_t skip) {
    uint64_t seqs[MODEL_IDS], n = 0;
    for (uint32_t i = 0; i < MODEL_IDS; i++) {
        if (expected->records[i].seq != 0) {
            seqs[n++] = expected->records[i].seq;
        }
    }
    qsort(seqs, n, sizeof *seqs, compare_seqs);
    vex_seq_cursor *cursor = NULL;
    if (vex_seq_cursor_create(snapshot, &cursor) != VEX_OK) {
        return "no cursor";
    }
    uint64_t at = vex_seq_cursor_skip(cursor, skip);
    const char *wrong = at == (skip < n ? skip : n) ? NULL : "skipped another number of rows";
    vex_row_ref ref, found;
    while (wrong == NULL && vex_seq_cursor_next(cursor, &ref)) {
        vex_snapshot_find_payload(snapshot, ref.seq, &found);
        if (at == n || ref.seq != seqs[at] || !same_ref(&ref, &found)) {
            wrong = "a row out of order";
        }
        at++;
    }
    vex_seq_cursor_destroy(cursor);
    return wrong == NULL && at != n ? "the walk ended early" : wrong;
}

/* Exactly one live row of each kind per record. */
static const char *count_rows(const vex_snapshot *snapshot, const model *expected) {
    uint64_t vectors = 0, payloads = 0;
    for (uint32_t i = 0; i < snapshot->n_vecs; i++) {
        vectors += snapshot->vecs[i].file->rows - snapshot->vecs[i].tombs->dead;
    }
    for (uint32_t i = 0; i < snapshot->n_pays; i++) {
        payloads += snapshot->pays[i].file->rows - snapshot->pays[i].tombs->dead;
    }
    for (uint32_t i = 0; i < snapshot->n_mems; i++) {
        const vex_mem_source *source = &snapshot->mems[i];
        for (uint32_t row = 0; row < source->n_vectors; row++) {
            vectors += vex_mem_vector_live(vex_memtable_vector(source->table, row), snapshot->lsn);
        }
        for (uint32_t row = 0; row < source->n_payloads; row++) {
            payloads +=
                vex_mem_payload_live(vex_memtable_payload(source->table, row), snapshot->lsn);
        }
    }
    return vectors == expected->live && payloads == expected->live &&
                   snapshot->live_rows == expected->live
               ? NULL
               : "another number of live rows";
}

const char *model_check(const vex_snapshot *snapshot, const model *expected) {
    vex_snapshot_reader *reader = NULL;
    if (snapshot->lsn != expected->lsn) {
        return "another lsn";
    }
    const char *wrong = count_rows(snapshot, expected);
    if (wrong == NULL && vex_snapshot_reader_create(snapshot, &reader) != VEX_OK) {
        wrong = "no reader";
    }
    for (uint32_t i = 0; i < MODEL_IDS && wrong == NULL; i++) {
        wrong = check_record(snapshot, reader, i, &expected->records[i]);
    }
    vex_snapshot_reader_destroy(reader);
    for (uint64_t skip = 0; skip <= expected->live + 1 && wrong == NULL; skip = skip * 3 + 1) {
        wrong = check_walk(snapshot, expected, skip);
    }
    return wrong != NULL ? wrong : check_walk(snapshot, expected, 0);
}
