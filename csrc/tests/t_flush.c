/*
 * t_flush.c - memtables become files while batches go on, over and over, beside a model.
 */
#include "store/flush.h"
#include "tests/store_kit.h"
#include "tests/store_model.h"
#include "tests/vfs_suite.h"

#include <stdlib.h>

static void flush(model_store *store) {
    vex_flush_result result = {0};
    CHECK_OK(model_store_seal(store));
    CHECK_OK(model_store_flush_write(store, &result));
    CHECK_OK(model_store_flush_commit(store, &result));
}

/* Files that are open already are not opened once more, but if they are others of the same number. */
static void check_shared(model_store *store, vex_manifest *manifest, const vex_snapshot *known) {
    vex_snapshot *snapshot = NULL;
    CHECK_OK(vex_snapshot_open(store->vfs, store->dir, kit_uuid, manifest, known, &snapshot));
    for (uint32_t i = 0; i < snapshot->n_vecs; i++) {
        CHECK(snapshot->vecs[i].file == known->vecs[i].file);
    }
    for (uint32_t i = 0; i < snapshot->n_pays; i++) {
        CHECK(snapshot->pays[i].file == known->pays[i].file);
    }
    vex_snapshot_release(snapshot);
    for (uint32_t i = 0; i < manifest->n_files; i++) {
        manifest->files[i].crc ^= 1;
        CHECK_STATUS(
            vex_snapshot_open(store->vfs, store->dir, kit_uuid, manifest, known, &snapshot),
            VEX_ERR_CORRUPT);
        manifest->files[i].crc ^= 1;
    }
}

/* What the newest manifest says, without any log. */
static void check_files(model_store *store, const model *expected) {
    vex_manifest manifest = {0};
    vex_snapshot *snapshot = NULL;
    uint64_t generation;
    CHECK_OK(vex_manifest_newest(store->vfs, store->dir, &generation));
    CHECK_OK(vex_manifest_read(store->vfs, store->dir, kit_uuid, generation, &manifest));
    CHECK_OK(vex_snapshot_open(store->vfs, store->dir, kit_uuid, &manifest, NULL, &snapshot));
    CHECK_MODEL(snapshot, expected);
    CHECK_EQ(snapshot->generation, generation);
    for (uint32_t i = 0; i < snapshot->n_vecs; i++) {
        CHECK_OK(vex_vecfile_verify(snapshot->vecs[i].file));
        CHECK(snapshot->vecs[i].tombs->dead < snapshot->vecs[i].tombs->rows);
    }
    for (uint32_t i = 0; i < snapshot->n_pays; i++) {
        CHECK_OK(vex_payfile_verify(snapshot->pays[i].file));
        CHECK(snapshot->pays[i].tombs->dead < snapshot->pays[i].tombs->rows);
    }
    check_shared(store, &manifest, snapshot);
    CHECK_EQ(manifest.n_files, snapshot->n_vecs + snapshot->n_pays);
    CHECK(manifest.keys.len == 1 && manifest.keys.data[0] == 0x80);
    vex_snapshot_release(snapshot);
    vex_manifest_clear(&manifest);
}

#define KEPT 4

typedef struct kept_states {
    vex_snapshot *snapshots[KEPT];
    model models[KEPT];
} kept_states;

static void keep_one(kept_states *kept, const model_store *store) {
    uint32_t i = test_random_below(KEPT);
    vex_snapshot_release(kept->snapshots[i]);
    kept->snapshots[i] = vex_snapshot_acquire(store->latest);
    kept->models[i] = store->now;
}

static void check_kept(const kept_states *kept) {
    for (uint32_t i = 0; i < KEPT; i++) {
        if (kept->snapshots[i] != NULL) {
            CHECK_MODEL(kept->snapshots[i], &kept->models[i]);
        }
    }
}

static void some_batches(model_store *store, kept_states *kept) {
    for (uint32_t n = test_random_below(6); n > 0; n--) {
        model_store_batch(store, test_random_below(4) ? 6 : 120);
        if (test_random_below(4) == 0) {
            keep_one(kept, store);
        }
        if (test_random_below(8) == 0) {
            model_store_fail_batch(store, 20);
        }
    }
}

static void one_flush(model_store *store, kept_states *kept) {
    vex_flush_result result = {0};
    do {
        some_batches(store, kept);
        CHECK_OK(model_store_seal(store));
    } while (test_random_below(3) == 0 && store->latest->n_mems < VEX_MEMTABLES_MAX);
    model at_seal = store->at_seal;
    some_batches(store, kept);
    CHECK_OK(model_store_flush_write(store, &result));
    if (test_random_below(5) == 0) { /* it fails after all, and is tried again */
        vex_flush_result_clear(&result);
        vex_manifest_remove_leftovers(store->vfs, store->dir, &store->manifest, true);
        CHECK_OK(model_store_flush_write(store, &result));
    }
    CHECK_EQ(result.manifest.lsn, at_seal.lsn);
    CHECK_EQ(result.manifest.live_rows, at_seal.live);
    some_batches(store, kept);
    CHECK_OK(model_store_flush_commit(store, &result));
    CHECK_EQ(store->latest->n_mems, 1);
    CHECK_MODEL(store->latest, &store->now);
    check_files(store, &at_seal);
}

VFS_TEST(flush_model) {
    model_store store;
    kept_states kept = {0};
    model_store_start(&store, vfs, root);
    for (uint32_t round = 0; round < 40; round++) {
        store.whole_numbers = round % 5 == 0;
        one_flush(&store, &kept);
        if (round % 4 == 0) {
            check_kept(&kept);
        }
        if (test_random_below(3) == 0) {
            vex_manifest_remove_leftovers(vfs, root, &store.manifest, true);
        }
        if (test_random_below(4) == 0) {
            CHECK_OK(model_store_reopen(&store));
            CHECK_MODEL(store.latest, &store.now);
        }
    }
    CHECK(store.latest->n_pays > 3); /* many files, each with some rows alive */
    check_kept(&kept);
    for (uint32_t i = 0; i < KEPT; i++) {
        vex_snapshot_release(kept.snapshots[i]);
    }
    model_store_end(&store);
}

static void change_all(model_store *store, vex_op_kind kind) {
    vex_batch batch = {.next_seq = store->latest->next_seq};
    vex_snapshot *next, *latest = store->latest;
    static const float vector[MODEL_DIMENSION] = {1, 2, 3};
    for (uint32_t i = 0; i < MODEL_IDS; i++) {
        if (store->now.records[i].seq != 0) {
            vex_op op = {.kind = kind, .payload = {.seq = store->now.records[i].seq}};
            if (kind == VEX_OP_VECTOR) {
                op.vector = vector;
                batch.dimension = MODEL_DIMENSION;
            } else {
                op.payload.id = (const uint8_t *)"any";
                op.payload.id_len = 3;
            }
            CHECK_OK(vex_batch_add(&batch, &op));
            if (kind == VEX_OP_DELETE) {
                store->now.records[i].seq = 0;
                store->now.live--;
            }
        }
    }
    CHECK_OK(vex_memtable_prepare(latest->mems[latest->n_mems - 1].table, &batch));
    CHECK_OK(vex_snapshot_copy(latest, &next));
    CHECK_OK(vex_snapshot_apply(next, &batch, next->lsn + 1));
    vex_snapshot_commit(next, &batch, next->lsn + 1);
    store->now.lsn++;
    vex_snapshot_release(latest);
    store->latest = next;
    vex_batch_clear(&batch);
}

/* Files without a live row are dropped, here and from the manifest. */
VFS_TEST(flush_drops_dead_files) {
    model_store store;
    model_store_start(&store, vfs, root);
    model_store_batch(&store, 250);
    flush(&store);
    model_store_batch(&store, 250);
    flush(&store);
    CHECK_EQ(store.latest->n_vecs, 2);
    CHECK_EQ(store.latest->n_pays, 2);
    CHECK(!vex_snapshot_tombs_changed(store.latest));
    vex_snapshot *old = vex_snapshot_acquire(store.latest);
    model old_model = store.now;

    change_all(&store, VEX_OP_VECTOR); /* the payloads stay where they are */
    CHECK(vex_snapshot_tombs_changed(store.latest));
    flush(&store);
    CHECK_EQ(store.latest->n_vecs, 1);
    CHECK_EQ(store.latest->n_pays, 2);
    CHECK(!vex_snapshot_tombs_changed(store.latest));
    CHECK_EQ(store.manifest.n_files, 3);

    change_all(&store, VEX_OP_DELETE);
    CHECK_MODEL(store.latest, &store.now);
    CHECK(vex_snapshot_tombs_changed(store.latest));
    flush(&store);
    CHECK_EQ(store.latest->n_vecs + store.latest->n_pays, 0);
    CHECK_EQ(store.manifest.n_files, 0);
    check_files(&store, &store.now);
    vex_manifest_remove_leftovers(vfs, root, &store.manifest, true);
    CHECK(!exists(vfs, in(root, "vec-000000000001.vxv")));
    CHECK_MODEL(old, &old_model); /* its files are mapped still */
    vex_snapshot_release(old);
    model_store_batch(&store, 100);
    flush(&store);
    CHECK_MODEL(store.latest, &store.now);
    model_store_end(&store);
}

/* Everything dies between writing and committing: the new files come up with tombstones. */
VFS_TEST(flush_carries_deaths) {
    model_store store;
    vex_flush_result result = {0};
    model_store_start(&store, vfs, root);
    model_store_batch(&store, 250);
    CHECK_OK(model_store_seal(&store));
    CHECK_OK(model_store_flush_write(&store, &result));
    model at_seal = store.at_seal;
    CHECK(result.has_rows);
    change_all(&store, VEX_OP_DELETE);
    CHECK_OK(model_store_flush_commit(&store, &result));
    CHECK_EQ(store.latest->n_pays, 1);
    CHECK(store.latest->pays[0].tombs_changed);
    CHECK_MODEL(store.latest, &store.now);
    check_files(&store, &at_seal); /* a crash now would bring them back, and the log delete them */
    model_store_end(&store);
}

VFS_TEST(flush_of_nothing_alive) {
    model_store store;
    vex_flush_result result = {0};
    model_store_start(&store, vfs, root);
    model_store_batch(&store, 50);
    change_all(&store, VEX_OP_DELETE);
    CHECK_OK(model_store_seal(&store));
    CHECK_OK(model_store_flush_write(&store, &result));
    CHECK(!result.has_rows && result.vec.file == NULL && result.pay.file == NULL);
    CHECK_OK(model_store_flush_commit(&store, &result));
    CHECK_MODEL(store.latest, &store.now);
    check_files(&store, &store.now);
    model_store_end(&store);
}

VFS_TEST(flush_refuses) {
    model_store store, other;
    vex_flush_result result = {0};
    const vex_buf keys = {0};
    model_store_start(&store, vfs, root);
    model_store_batch(&store, 50);
    CHECK_OK(model_store_seal(&store));
    model_store_batch(&store, 50);
    /* Rows beyond the sealed memtables would be counted as written and be lost. */
    CHECK_STATUS(vex_flush_write(vfs, root, kit_uuid, store.latest, 1, &store.manifest, &keys, 1,
                                 false, &result),
                 VEX_ERR_INVALID);
    CHECK_OK(model_store_flush_write(&store, &result));
    CHECK_OK(vfs->dir_create(vfs, in(root, "other")));
    model_store_start(&other, vfs, in(root, "other"));
    vex_snapshot *next;
    CHECK_OK(model_store_seal(&other));
    CHECK_OK(vex_snapshot_copy(other.latest, &next));
    CHECK_STATUS(vex_flush_carry(&result, store.sealed, 1, next), VEX_ERR_INVALID);
    vex_snapshot_release(next);
    model_store_end(&other);
    CHECK_OK(model_store_flush_commit(&store, &result));
    CHECK_MODEL(store.latest, &store.now);
    model_store_end(&store);
}

#ifdef VEX_TESTING
/* Each call of the system and each allocation of a flush failing once. */
TEST(flush_every_failure) {
    vex_vfs *memory, *vfs;
    CHECK_OK(vex_vfs_memory_create(&memory));
    CHECK_OK(vex_vfs_fault_create(memory, &vfs));
    model_store store;
    model_store_start(&store, vfs, "/");
    model_store_batch(&store, 250);
    flush(&store);
    uint32_t failed[2] = {0};
    for (uint32_t kind = 0; kind < 2; kind++) {
        vex_status status = VEX_ERR_IO;
        model_store_batch(&store, 100);
        CHECK_OK(model_store_seal(&store));
        for (uint64_t n = 1; status != VEX_OK; n++) {
            vex_flush_result result = {0};
            model_store_batch(&store, 5);
            uint64_t generation = store.latest->generation;
            vex_vfs_fault_arm(vfs, kind == 0 ? n : 0, EIO, false, false);
            vex_mem_fail_at(kind == 1 ? n : 0, true);
            status = model_store_flush_write(&store, &result);
            if (status == VEX_OK) {
                status = model_store_flush_commit(&store, &result);
            }
            vex_vfs_fault_arm(vfs, 0, 0, false, false);
            vex_mem_fail_at(0, false);
            failed[kind] += status != VEX_OK;
            CHECK_EQ(store.latest->generation, generation + (status == VEX_OK));
            CHECK_MODEL(store.latest, &store.now);
        }
        CHECK_OK(model_store_reopen(&store));
        CHECK_MODEL(store.latest, &store.now);
    }
    CHECK(failed[0] > 15 && failed[1] > 40);
    model_store_end(&store);
    vex_vfs_fault_destroy(vfs);
    vex_vfs_memory_destroy(memory);
}
#endif
