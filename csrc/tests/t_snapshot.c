/*
 * t_snapshot.c - states of a collection made by batches, looked at while and after they change.
 */
#include "store/snapshot.h"
#include "tests/store_model.h"
#include "tests/vfs_suite.h"

#include <pthread.h>

#define KEPT 6

/* Batches in memory only: every state stays as it was when it was made. */
VFS_TEST(snapshot_batches) {
    model_store store;
    vex_snapshot *kept[KEPT] = {NULL};
    model expected[KEPT];
    model_store_start(&store, vfs, root);
    CHECK_MODEL(store.latest, &store.now);
    for (uint32_t round = 0; round < 150; round++) {
        model_store_batch(&store, round % 7 == 0 ? 100 : 5);
        if (test_random_below(8) == 0) {
            model_store_fail_batch(&store, 30);
        }
        if (test_random_below(30) == 0 && store.latest->n_mems < VEX_MEMTABLES_MAX) {
            CHECK_OK(model_store_seal(&store));
        }
        if (round % 10 == 0) {
            CHECK_MODEL(store.latest, &store.now);
            uint32_t i = test_random_below(KEPT);
            if (kept[i] != NULL) {
                CHECK_MODEL(kept[i], &expected[i]);
            }
            vex_snapshot_release(kept[i]);
            kept[i] = vex_snapshot_acquire(store.latest);
            expected[i] = store.now;
        }
    }
    CHECK_OK(model_store_reopen(&store)); /* all of it from the log */
    CHECK_MODEL(store.latest, &store.now);
    for (uint32_t i = 0; i < KEPT; i++) {
        if (kept[i] != NULL) {
            CHECK_MODEL(kept[i], &expected[i]);
        }
        vex_snapshot_release(kept[i]);
    }
    model_store_end(&store);
}

VFS_TEST(snapshot_refuses) {
    model_store store;
    vex_snapshot *next;
    model_store_start(&store, vfs, root);
    model_store_batch(&store, 20);
    const float vector[MODEL_DIMENSION + 1] = {0};
    vex_batch batch = {.dimension = MODEL_DIMENSION + 1, .next_seq = 1000};
    const vex_op op = {.kind = VEX_OP_PUT,
                       .vector = vector,
                       .payload = {.seq = 999, .id = (const uint8_t *)"x", .id_len = 1}};
    CHECK_OK(vex_batch_add(&batch, &op));
    CHECK_OK(vex_snapshot_copy(store.latest, &next));
    CHECK_STATUS(vex_snapshot_apply(next, &batch, next->lsn + 1), VEX_ERR_DIMENSION);
    CHECK_STATUS(vex_snapshot_apply(next, &batch, next->lsn), VEX_ERR_INVALID);
    vex_snapshot_release(next);
    vex_batch_clear(&batch);
    CHECK_MODEL(store.latest, &store.now);
    model_store_end(&store);
}

/* Deleting what is not there, or twice in one batch, counts once or not at all. */
VFS_TEST(snapshot_unknown_seqs) {
    model_store store;
    vex_snapshot *next;
    model_store_start(&store, vfs, root);
    model_store_batch(&store, 200);
    for (int place = 0; place < 3; place++) { /* newest memtable, sealed one, file */
        uint32_t number = 0;
        while (store.now.records[number].seq == 0) {
            number++;
        }
        vex_op op = {.kind = VEX_OP_DELETE,
                     .payload = {.seq = store.now.records[number].seq,
                                 .id = (const uint8_t *)"ignored",
                                 .id_len = 7}};
        vex_batch batch = {.next_seq = store.latest->next_seq};
        CHECK_OK(vex_batch_add(&batch, &op));
        CHECK_OK(vex_batch_add(&batch, &op));
        op.payload.seq = UINT64_MAX / 2;
        CHECK_OK(vex_batch_add(&batch, &op));
        vex_snapshot *latest = store.latest;
        CHECK_OK(vex_memtable_prepare(latest->mems[latest->n_mems - 1].table, &batch));
        CHECK_OK(vex_snapshot_copy(latest, &next));
        CHECK_OK(vex_snapshot_apply(next, &batch, next->lsn + 1));
        vex_snapshot_commit(next, &batch, next->lsn + 1);
        vex_snapshot_release(latest);
        store.latest = next;
        store.now.records[number].seq = 0;
        store.now.live--;
        store.now.lsn++;
        CHECK_MODEL(store.latest, &store.now);
        vex_batch_clear(&batch);
        if (place == 0) {
            CHECK_OK(model_store_seal(&store));
        } else if (place == 1) {
            vex_flush_result result = {0};
            CHECK_OK(model_store_seal(&store));
            CHECK_OK(model_store_flush_write(&store, &result));
            CHECK_OK(model_store_flush_commit(&store, &result));
            CHECK(store.latest->n_pays == 1);
        }
    }
    model_store_end(&store);
}

/* ---- readers beside the writer ---- */

static pthread_mutex_t published_mu = PTHREAD_MUTEX_INITIALIZER;
static vex_snapshot *published;
static model published_model;
static bool published_last;
static _Atomic(const char *) first_wrong;

static void publish(const model_store *store, bool last) {
    pthread_mutex_lock(&published_mu);
    vex_snapshot *old = published;
    published = vex_snapshot_acquire(store->latest);
    published_model = store->now;
    published_last = last;
    pthread_mutex_unlock(&published_mu);
    vex_snapshot_release(old);
}

static void *check_published(void *unused) {
    (void)unused;
    for (bool last = false; !last;) {
        pthread_mutex_lock(&published_mu);
        vex_snapshot *snapshot = vex_snapshot_acquire(published);
        model expected = published_model;
        last = published_last;
        pthread_mutex_unlock(&published_mu);
        const char *wrong = model_check(snapshot, &expected);
        if (wrong != NULL) {
            atomic_store(&first_wrong, wrong);
        }
        vex_snapshot_release(snapshot);
    }
    return NULL;
}

TEST(snapshot_readers_beside_the_writer) {
    model_store store;
    vex_vfs *vfs;
    pthread_t readers[3];
    CHECK_OK(vex_vfs_memory_create(&vfs));
    model_store_start(&store, vfs, "/");
    publish(&store, false);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(pthread_create(&readers[i], NULL, check_published, NULL), 0);
    }
    for (uint32_t round = 0; round < 600; round++) {
        model_store_batch(&store, 20);
        publish(&store, false);
        if (round % 50 == 49) {
            vex_flush_result result = {0};
            CHECK_OK(model_store_seal(&store));
            publish(&store, false);
            model_store_batch(&store, 20);
            publish(&store, false);
            CHECK_OK(model_store_flush_write(&store, &result));
            model_store_batch(&store, 20);
            CHECK_OK(model_store_flush_commit(&store, &result));
            publish(&store, false);
            vex_manifest_remove_leftovers(vfs, "/", &store.manifest, true);
        }
    }
    publish(&store, true);
    for (int i = 0; i < 3; i++) {
        pthread_join(readers[i], NULL);
    }
    vex_snapshot_release(published);
    published = NULL;
    const char *wrong = atomic_load(&first_wrong);
    if (wrong != NULL) {
        test_failed(__FILE__, __LINE__, "%s", wrong);
    }
    model_store_end(&store);
    vex_vfs_memory_destroy(vfs);
}

#ifdef VEX_TESTING
/* Each allocation of a batch failing once: the state stays, and the next attempt works. */
TEST(snapshot_without_memory) {
    model_store store;
    vex_vfs *vfs;
    CHECK_OK(vex_vfs_memory_create(&vfs));
    model_store_start(&store, vfs, "/");
    uint32_t failed = 0;
    for (uint32_t round = 0; round < 40; round++) {
        model_store_batch(&store, 50);
        vex_status status = VEX_ERR_NO_MEMORY;
        for (uint64_t n = 1; status != VEX_OK; n++) {
            status = model_store_try_batch(&store, 50, n);
            if (status != VEX_OK) {
                CHECK_EQ(status, VEX_ERR_NO_MEMORY);
                CHECK_MODEL(store.latest, &store.now);
                failed++;
            }
        }
        if (round % 10 == 9) {
            CHECK_OK(model_store_seal(&store));
        }
        if (round == 20) {
            vex_flush_result result = {0};
            CHECK_OK(model_store_flush_write(&store, &result));
            CHECK_OK(model_store_flush_commit(&store, &result));
        }
    }
    CHECK(failed > 60);
    CHECK_MODEL(store.latest, &store.now);
    model_store_end(&store);
    vex_vfs_memory_destroy(vfs);
}
#endif
