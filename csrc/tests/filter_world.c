/*
 * filter_world.c - see filter_world.h.
 */
#include "tests/filter_world.h"

#include "filter/columns.h"
#include "filter/text_index.h"
#include "rank/sparse_index.h"
#include "rank/words.h"
#include "store/flush.h"
#include "tests/filter_kit.h"
#include "tests/zstd_provider.h"

#define DIR_NAME "/collection"
static const uint8_t database[16] = "match test";

static void add_memtable(vex_snapshot *snapshot) {
    CHECK(snapshot->n_mems < VEX_MEMTABLES_MAX);
    CHECK_OK(vex_memtable_create(&snapshot->mems[snapshot->n_mems].table));
    snapshot->n_mems++;
}

world world_make(void) {
    world w = {.manifest = {.generation = 1, .next_seq = 1, .next_file_no = 1, .wal_first = 1}};
    CHECK_OK(test_register_zstd());
    CHECK_OK(vex_payfile_register(vex_columns_plugin()));
    CHECK_OK(vex_payfile_register(vex_text_plugin()));
    CHECK_OK(vex_payfile_register(vex_words_plugin()));
    CHECK_OK(vex_payfile_register(vex_sparse_plugin()));
    CHECK_OK(vex_vfs_memory_create(&w.vfs));
    CHECK_OK(w.vfs->dir_create(w.vfs, DIR_NAME));
    CHECK_OK(vex_snapshot_open(w.vfs, DIR_NAME, database, &w.manifest, NULL, &w.snapshot));
    add_memtable(w.snapshot);
    return w;
}

void world_free(world *w) {
    vex_snapshot_release(w->snapshot);
    vex_manifest_clear(&w->manifest);
    vex_vfs_memory_destroy(w->vfs);
    for (size_t i = 0; i < w->n; i++) {
        vex_buf_clear(&w->records[i]->document);
        vex_buf_clear(&w->records[i]->metadata);
        free(w->records[i]);
    }
    free(w->records);
}

void world_commit(world *w, vex_batch *batch) {
    vex_snapshot *next = NULL;
    uint64_t lsn = w->snapshot->lsn + 1;
    batch->next_seq = w->n + 1;
    CHECK_OK(vex_memtable_prepare(w->snapshot->mems[w->snapshot->n_mems - 1].table, batch));
    CHECK_OK(vex_snapshot_copy(w->snapshot, &next));
    CHECK_OK(vex_snapshot_apply(next, batch, lsn));
    vex_snapshot_commit(next, batch, lsn);
    vex_snapshot_release(w->snapshot);
    w->snapshot = next;
    vex_batch_clear(batch);
}

void world_put(vex_batch *batch, vex_op_kind kind, const record *r) {
    vex_op op = {.kind = kind, .payload = {.seq = r->seq}};
    if (kind != VEX_OP_VECTOR) {
        op.payload.id = (const uint8_t *)r->id;
        op.payload.id_len = (uint32_t)strlen(r->id);
    }
    if (kind == VEX_OP_PUT || kind == VEX_OP_VECTOR) {
        op.vector = r->vector;
        batch->dimension = WORLD_DIMENSION;
    }
    if (kind == VEX_OP_PUT || kind == VEX_OP_PAYLOAD) {
        if (r->has_document) {
            op.payload.document = r->document.data ? r->document.data : (const uint8_t *)"";
            op.payload.document_len = (uint32_t)r->document.len;
        }
        op.payload.metadata = r->metadata.data;
        op.payload.metadata_len = (uint32_t)r->metadata.len;
    }
    CHECK_OK(vex_batch_add(batch, &op));
}

static void random_payload(record *r) {
    static const char *const words[] = {"alpha ", "beta", "gamma ", " albet", "ta ", "\xc3\xa9"};
    static const uint8_t density[KIT_KEYS] = {8, 7, 6, 6, 5, 8, 4, 2, 3, 8};
    r->document.len = r->metadata.len = 0;
    r->has_document = test_random_below(5) != 0;
    uint32_t n_words = test_random_below(40) ? test_random_below(8) : 2000;
    for (uint32_t i = 0; r->has_document && i < n_words; i++) {
        const char *word = words[test_random_below(6)];
        CHECK_OK(vex_buf_append(&r->document, word, strlen(word)));
    }
    vex_buf_clear(&r->metadata);
    if (test_random_below(8)) {
        kit_random_metadata(&r->metadata, density);
    }
}

record *world_new_record(world *w) {
    record *r = calloc(1, sizeof *r);
    if (w->n == w->capacity) {
        w->capacity = 2 * w->capacity + 100;
        w->records = realloc(w->records, w->capacity * sizeof *w->records);
    }
    w->records[w->n++] = r;
    *r = (record){.seq = w->n, .live = true, .vector = {(float)w->n, 0, 1}};
    snprintf(r->id, sizeof r->id, "id%u", (unsigned)w->n);
    random_payload(r);
    return r;
}

void world_random_batch(world *w) {
    vex_batch batch = {0};
    size_t n_old = w->n;
    uint32_t n_changes = test_random_below(20);
    for (uint32_t n = test_random_below(n_old < 100 ? 60 : 12); n > 0; n--) {
        record *r = world_new_record(w);
        const record *other = w->records[test_random_below((uint32_t)w->n)];
        if (!other->live && other->id[0] == 'i') {
            memcpy(r->id, other->id, sizeof r->id);
            w->records[other->seq - 1]->id[0] = 'x'; /* used again once only */
        }
        world_put(&batch, VEX_OP_PUT, r);
    }
    bool *changed = calloc(n_old + 1, 1);
    for (uint32_t i = 0; i < n_changes && n_old > 0; i++) {
        record *r = w->records[test_random_below((uint32_t)n_old)];
        uint32_t what = test_random_below(8);
        if (!r->live || changed[r->seq - 1]) {
            continue;
        }
        changed[r->seq - 1] = true;
        if (what == 0) {
            world_put(&batch, VEX_OP_DELETE, r);
            r->live = false;
            continue;
        }
        if (what & 1) {
            r->vector[1]++;
            world_put(&batch, VEX_OP_VECTOR, r);
        }
        if (what & 2) {
            random_payload(r);
            world_put(&batch, VEX_OP_PAYLOAD, r);
        }
    }
    free(changed);
    world_commit(w, &batch);
}

void world_seal(world *w) {
    vex_snapshot *next = NULL;
    CHECK_OK(vex_snapshot_copy(w->snapshot, &next));
    add_memtable(next);
    vex_snapshot_release(w->snapshot);
    w->snapshot = next;
}

void world_flush(world *w, uint32_t n_batches) {
    vex_snapshot *sealed = vex_snapshot_acquire(w->snapshot), *next = NULL;
    vex_flush_result result = {0};
    vex_buf keys = {0};
    uint32_t n_flush = sealed->n_mems - 1;
    kit_put(&keys, "m", 0u);
    CHECK_OK(vex_flush_write(w->vfs, DIR_NAME, database, sealed, n_flush, &w->manifest, &keys, 1,
                             true, &result));
    for (; n_batches > 0; n_batches--) {
        world_random_batch(w);
    }
    CHECK_OK(vex_snapshot_copy(w->snapshot, &next));
    CHECK_OK(vex_flush_carry(&result, sealed, n_flush, next));
    vex_snapshot_release(w->snapshot);
    w->snapshot = next;
    vex_manifest_clear(&w->manifest);
    w->manifest = result.manifest;
    result.manifest = (vex_manifest){0};
    vex_flush_result_clear(&result);
    vex_snapshot_release(sealed);
    vex_buf_clear(&keys);
}

void world_random_step(world *w) {
    world_random_batch(w);
    uint32_t what = test_random_below(12);
    if (what < 3 && w->snapshot->n_mems < 4) {
        world_seal(w);
    } else if (what == 3) {
        world_seal(w);
        world_flush(w, test_random_below(4));
    }
}
