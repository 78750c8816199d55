/*
 * t_compact.c - files are merged while batches, seals and flushes go on, beside a model.
 */
#include "store/compact.h"
#include "tests/store_kit.h"
#include "tests/store_model.h"
#include "tests/vfs_suite.h"

#include <stdlib.h>

/* A store, and what its newest manifest must hold. */
typedef struct world {
    model_store store;
    model durable;
} world;

static void flush(world *w) {
    vex_flush_result result = {0};
    if (w->store.sealed == NULL) {
        CHECK_OK(model_store_seal(&w->store));
    }
    model at_seal = w->store.at_seal;
    CHECK_OK(model_store_flush_write(&w->store, &result));
    CHECK_OK(model_store_flush_commit(&w->store, &result));
    w->durable = at_seal;
}

/* ---- one compaction ---- */

static const vex_pace no_pace = {.level = VEX_BLOCK_LEVEL_COMPACT};

static void plan_all(const model_store *store, vex_compact_plan *plan) {
    *plan = (vex_compact_plan){0};
    for (uint32_t i = 0; i < store->manifest.n_files; i++) {
        const vex_file_entry *entry = &store->manifest.files[i];
        if (entry->kind == VEX_KIND_VECTORS && plan->n_vecs < VEX_COMPACT_FILES_MAX) {
            plan->vecs[plan->n_vecs++] = entry->file_no;
        } else if (entry->kind == VEX_KIND_PAYLOAD && plan->n_pays < VEX_COMPACT_FILES_MAX) {
            plan->pays[plan->n_pays++] = entry->file_no;
        }
    }
}

static uint32_t keep_some(uint64_t *file_nos, uint32_t n) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (test_random_below(3) != 0) {
            file_nos[kept++] = file_nos[i];
        }
    }
    return kept;
}

static void plan_some(const model_store *store, vex_compact_plan *plan) {
    plan_all(store, plan);
    if (test_random_below(4) != 0) {
        plan->n_vecs = keep_some(plan->vecs, plan->n_vecs);
        plan->n_pays = keep_some(plan->pays, plan->n_pays);
    }
}

static vex_status write_files(model_store *store, const vex_compact_plan *plan,
                              vex_compaction *compaction) {
    uint64_t first = store->manifest.next_file_no;
    VEX_TRY(vex_compact_begin(store->vfs, store->dir, kit_uuid, store->latest, &store->manifest,
                              plan, compaction));
    return vex_compact_write(compaction, store->vfs, store->dir, kit_uuid, &store->manifest, first,
                             false, &no_pace);
}

static vex_status carried(const vex_compaction *compaction, const vex_manifest *manifest,
                          const vex_snapshot *from, vex_snapshot **out) {
    VEX_TRY(vex_snapshot_copy(from, out));
    vex_status status = vex_compact_carry(compaction, manifest, *out);
    if (status != VEX_OK) {
        vex_snapshot_release(*out);
        *out = NULL;
    }
    return status;
}

static vex_status commit(model_store *store, vex_compaction *compaction) {
    vex_manifest manifest = {0};
    vex_snapshot *latest = NULL, *sealed = NULL;
    vex_status status = vex_compact_manifest(compaction, store->vfs, store->dir, kit_uuid, false,
                                             &store->manifest, &manifest);
    if (status == VEX_OK) {
        status = carried(compaction, &manifest, store->latest, &latest);
    }
    if (status == VEX_OK && store->sealed != NULL) {
        status = carried(compaction, &manifest, store->sealed, &sealed);
    }
    if (status == VEX_OK) {
        status = vex_manifest_write(store->vfs, store->dir, kit_uuid, &manifest, false);
    }
    if (status != VEX_OK) {
        vex_snapshot_release(latest);
        vex_snapshot_release(sealed);
        vex_manifest_clear(&manifest);
        return status;
    }
    vex_snapshot_release(store->latest);
    vex_snapshot_release(store->sealed);
    store->latest = latest;
    store->sealed = sealed;
    vex_manifest_clear(&store->manifest);
    store->manifest = manifest;
    return VEX_OK;
}

/* ---- what is there afterwards ---- */

static void check_tombs(const vex_tombs *tombs, const vex_file_entry *entry, bool changed) {
    CHECK_EQ(tombs->rows, entry->rows);
    CHECK(tombs->dead >= entry->dead_rows);
    CHECK_EQ(changed, tombs->dead != entry->dead_rows);
}

static void check_entries(const vex_snapshot *snapshot, const vex_manifest *manifest) {
    uint32_t vec = 0, pay = 0;
    CHECK_EQ(snapshot->generation, manifest->generation);
    CHECK_EQ(manifest->n_files, snapshot->n_vecs + snapshot->n_pays);
    for (uint32_t i = 0; i < manifest->n_files; i++) {
        const vex_file_entry *entry = &manifest->files[i];
        if (entry->kind == VEX_KIND_VECTORS) {
            const vex_vec_source *source = &snapshot->vecs[vec++];
            CHECK(memcmp(&source->entry, entry, sizeof *entry) == 0);
            check_tombs(source->tombs, entry, source->tombs_changed);
        } else {
            const vex_pay_source *source = &snapshot->pays[pay++];
            CHECK(memcmp(&source->entry, entry, sizeof *entry) == 0);
            check_tombs(source->tombs, entry, source->tombs_changed);
        }
        CHECK(entry->dead_rows < entry->rows);
        CHECK(entry->file_no < manifest->next_file_no);
        CHECK(entry->tombs_file_no < manifest->next_file_no);
    }
}

/* The newest manifest alone, without any log. */
static void check_durable(const world *w) {
    const model_store *store = &w->store;
    vex_manifest manifest = {0};
    vex_snapshot *snapshot = NULL;
    uint64_t generation;
    CHECK_OK(vex_manifest_newest(store->vfs, store->dir, &generation));
    CHECK_OK(vex_manifest_read(store->vfs, store->dir, kit_uuid, generation, &manifest));
    CHECK_OK(vex_snapshot_open(store->vfs, store->dir, kit_uuid, &manifest, NULL, &snapshot));
    CHECK_MODEL(snapshot, &w->durable);
    check_entries(snapshot, &manifest);
    for (uint32_t i = 0; i < snapshot->n_vecs; i++) {
        CHECK_OK(vex_vecfile_verify(snapshot->vecs[i].file));
    }
    for (uint32_t i = 0; i < snapshot->n_pays; i++) {
        CHECK_OK(vex_payfile_verify(snapshot->pays[i].file));
    }
    vex_snapshot_release(snapshot);
    vex_manifest_clear(&manifest);
}

static void check_world(const world *w) {
    CHECK_MODEL(w->store.latest, &w->store.now);
    check_entries(w->store.latest, &w->store.manifest);
    check_durable(w);
}

/* ---- the model ---- */

static void some_batches(model_store *store) {
    for (uint32_t n = test_random_below(4); n > 0; n--) {
        model_store_batch(store, test_random_below(4) ? 6 : 150);
    }
}

static void one_compaction(world *w) {
    model_store *store = &w->store;
    vex_compact_plan plan;
    vex_compaction compaction = {0};
    if (test_random_below(3) == 0 && store->latest->n_mems < VEX_MEMTABLES_MAX) {
        CHECK_OK(model_store_seal(store)); /* as after a failed flush */
    }
    some_batches(store);
    plan_some(store, &plan);
    CHECK_OK(write_files(store, &plan, &compaction));
    some_batches(store);
    for (uint32_t n = test_random_below(3); n > 0; n--) { /* flushes meanwhile */
        store->manifest.next_file_no += 10;
        flush(w);
        some_batches(store);
    }
    if (test_random_below(6) != 0) {
        CHECK_OK(commit(store, &compaction));
    }
    vex_compaction_clear(&compaction);
    check_world(w);
}

VFS_TEST(compact_model) {
    world w = {0};
    model_store *store = &w.store;
    model_store_start(store, vfs, root);
    for (uint32_t round = 0; round < 40; round++) {
        store->whole_numbers = round % 5 < 2;
        some_batches(store);
        if (test_random_below(3) != 0) {
            flush(&w);
        }
        if (test_random_below(2) == 0) {
            one_compaction(&w);
        }
        vex_snapshot *kept = vex_snapshot_acquire(store->latest);
        model kept_model = store->now;
        if (test_random_below(3) == 0) {
            one_compaction(&w);
            vex_manifest_remove_leftovers(vfs, root, &store->manifest, true);
        }
        CHECK_MODEL(kept, &kept_model); /* its files are mapped still */
        vex_snapshot_release(kept);
        if (test_random_below(5) == 0) {
            CHECK_OK(model_store_reopen(store));
            check_world(&w);
        }
    }
    model_store_end(store);
}

static void compact_all(world *w) {
    vex_compact_plan plan;
    vex_compaction compaction = {0};
    plan_all(&w->store, &plan);
    CHECK_OK(write_files(&w->store, &plan, &compaction));
    CHECK_OK(commit(&w->store, &compaction));
    vex_compaction_clear(&compaction);
    vex_manifest_remove_leftovers(w->store.vfs, w->store.dir, &w->store.manifest, true);
    check_world(w);
}

/* Of many files, one of each kind, with the rows that are alive and no others. */
VFS_TEST(compact_everything) {
    world w = {0};
    model_store_start(&w.store, vfs, root);
    compact_all(&w); /* nothing there */
    for (uint32_t i = 0; i < 12; i++) {
        w.store.whole_numbers = i % 2;
        model_store_batch(&w.store, 200);
        flush(&w);
    }
    CHECK(w.store.latest->n_vecs > 3);
    compact_all(&w);
    CHECK_EQ(w.store.latest->n_vecs, 1);
    CHECK_EQ(w.store.latest->n_pays, 1);
    CHECK_EQ(w.store.manifest.files[0].rows, w.store.now.live);
    CHECK_EQ(w.store.manifest.files[1].rows, w.store.now.live);
    CHECK_EQ(w.store.manifest.files[0].tombs_file_no, 0);
    CHECK_EQ(w.store.latest->vecs[0].file->element, VEX_ELEMENT_F32);
    model_store_end(&w.store);
}

/* Rows that fit fewer bits once others are gone are stored in fewer. */
VFS_TEST(compact_narrows) {
    world w = {0};
    model_store_start(&w.store, vfs, root);
    model_store_batch(&w.store, 100);
    flush(&w);
    CHECK_EQ(w.store.latest->vecs[0].file->element, VEX_ELEMENT_F32);
    w.store.whole_numbers = true;
    for (bool mixed = true; mixed;) {
        model_store_batch(&w.store, 280);
        mixed = false;
        for (uint32_t i = 0; i < MODEL_IDS; i++) {
            const model_record *record = &w.store.now.records[i];
            mixed = mixed || (record->seq != 0 && record->vector >> 31 == 0);
        }
    }
    flush(&w);
    compact_all(&w);
    CHECK_EQ(w.store.latest->n_vecs, 1);
    CHECK_EQ(w.store.latest->vecs[0].file->element, VEX_ELEMENT_U8);
    model_store_end(&w.store);
}

static void delete_all(model_store *store) {
    vex_batch batch = {.next_seq = store->latest->next_seq};
    vex_snapshot *next, *latest = store->latest;
    for (uint32_t i = 0; i < MODEL_IDS; i++) {
        if (store->now.records[i].seq != 0) {
            vex_op op = {.kind = VEX_OP_DELETE, .payload = {.seq = store->now.records[i].seq}};
            op.payload.id = (const uint8_t *)"any";
            op.payload.id_len = 3;
            CHECK_OK(vex_batch_add(&batch, &op));
            store->now.records[i].seq = 0;
            store->now.live--;
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

/* Everything dies while it is copied: in the log only, or by a flush that drops the old files. */
VFS_TEST(compact_of_what_dies_meanwhile) {
    for (int flushed = 0; flushed < 2; flushed++) {
        world w = {0};
        vex_compact_plan plan;
        vex_compaction compaction = {0};
        const char *dir = in(root, flushed ? "flushed" : "logged");
        CHECK_OK(vfs->dir_create(vfs, dir));
        model_store_start(&w.store, vfs, dir);
        model_store_batch(&w.store, 250);
        flush(&w);
        model_store_batch(&w.store, 250);
        flush(&w);
        plan_all(&w.store, &plan);
        CHECK_OK(write_files(&w.store, &plan, &compaction));
        delete_all(&w.store);
        if (flushed) {
            w.store.manifest.next_file_no += 10;
            flush(&w);
            CHECK_EQ(w.store.manifest.n_files, 0);
        }
        CHECK_OK(commit(&w.store, &compaction));
        vex_compaction_clear(&compaction);
        CHECK_EQ(w.store.manifest.n_files, flushed ? 0 : 2);
        CHECK_EQ(w.store.latest->n_vecs, flushed ? 0 : 1);
        check_world(&w);
        model_store_end(&w.store);
    }
}

VFS_TEST(compact_refuses) {
    world w = {0}, other = {0};
    vex_compaction compaction = {0};
    vex_compact_plan plan = {.vecs = {77}, .n_vecs = 1};
    model_store_start(&w.store, vfs, root);
    model_store_batch(&w.store, 50);
    flush(&w);
    CHECK_STATUS(write_files(&w.store, &plan, &compaction), VEX_ERR_INVALID);
    plan_all(&w.store, &plan);
    CHECK_OK(write_files(&w.store, &plan, &compaction));
    const char *dir = in(root, "other"); /* a snapshot with other rows in a file of that number */
    CHECK_OK(vfs->dir_create(vfs, dir));
    model_store_start(&other.store, vfs, dir);
    do {
        model_store_batch(&other.store, 200);
    } while (other.store.now.live == w.store.now.live);
    flush(&other);
    delete_all(&other.store);
    vex_snapshot *next;
    CHECK_OK(vex_snapshot_copy(other.store.latest, &next));
    CHECK_STATUS(vex_compact_carry(&compaction, &w.store.manifest, next), VEX_ERR_INVALID);
    vex_snapshot_release(next);
    model_store_end(&other.store);
    vex_compaction_clear(&compaction);
    check_world(&w);
    model_store_end(&w.store);
}

/* A damaged row is not copied under a fresh checksum. */
TEST(compact_refuses_damage) {
    static const vex_file_kind kinds[] = {VEX_KIND_VECTORS, VEX_KIND_PAYLOAD};
    for (uint32_t k = 0; k < 2; k++) {
        vex_vfs *vfs;
        world w = {0};
        vex_compaction compaction = {0};
        vex_compact_plan plan;
        CHECK_OK(vex_vfs_memory_create(&vfs));
        model_store_start(&w.store, vfs, "/");
        model_store_batch(&w.store, 250);
        flush(&w);
        const vex_container *container = k == 0 ? &w.store.latest->vecs[0].file->container
                                                : &w.store.latest->pays[0].file->container;
        const vex_section *section =
            vex_container_find(container, k == 0 ? VEX_SECTION_VECTORS : VEX_SECTION_DOCUMENTS);
        CHECK(section != NULL);
        kit_xor_byte(vfs, kit_path("/", kinds[k], container->file_no),
                     section->offset + section->len / 2, 1);
        CHECK_OK(model_store_reopen(&w.store));
        plan_all(&w.store, &plan);
        CHECK_STATUS(write_files(&w.store, &plan, &compaction), VEX_ERR_CORRUPT);
        vex_compaction_clear(&compaction);
        model_store_end(&w.store);
        vex_vfs_memory_destroy(vfs);
    }
}

static vex_status stop_at(void *context) {
    uint32_t *left = context;
    return *left == 0 ? vex_fail(VEX_ERR_BUSY, "enough") : ((*left)--, VEX_OK);
}

TEST(compact_stops_where_it_pauses) {
    vex_vfs *vfs;
    world w = {0};
    vex_compact_plan plan;
    CHECK_OK(vex_vfs_memory_create(&vfs));
    model_store_start(&w.store, vfs, "/");
    model_store_batch(&w.store, 250);
    flush(&w);
    plan_all(&w.store, &plan);
    vex_status status = VEX_ERR_BUSY;
    uint32_t pauses = 0;
    for (; status != VEX_OK; pauses++) {
        vex_compaction compaction = {0};
        uint32_t left = pauses;
        const vex_pace pace = {VEX_BLOCK_LEVEL_COMPACT, stop_at, &left};
        CHECK_OK(vex_compact_begin(vfs, "/", kit_uuid, w.store.latest, &w.store.manifest, &plan,
                                   &compaction));
        status = vex_compact_write(&compaction, vfs, "/", kit_uuid, &w.store.manifest,
                                   w.store.manifest.next_file_no, false, &pace);
        CHECK(status == VEX_OK || status == VEX_ERR_BUSY);
        vex_compaction_clear(&compaction);
        check_world(&w);
    }
    CHECK(pauses > 2);
    model_store_end(&w.store);
    vex_vfs_memory_destroy(vfs);
}

#ifdef VEX_TESTING
/* One thread's program is nothing for ThreadSanitizer, and slow under it. */
#ifdef __SANITIZE_THREAD__
#define FAIL_STEP 9
#else
#define FAIL_STEP 1
#endif

/* Each call of the system and each allocation of a compaction failing once: the store is as it
 * was, and the next attempt succeeds. */
TEST(compact_every_failure) {
    vex_vfs *memory, *vfs;
    CHECK_OK(vex_vfs_memory_create(&memory));
    CHECK_OK(vex_vfs_fault_create(memory, &vfs));
    world w = {0};
    model_store *store = &w.store;
    model_store_start(store, vfs, "/");
    uint32_t failed[2] = {0};
    for (uint32_t kind = 0; kind < 2; kind++) {
        vex_status status = VEX_ERR_IO;
        for (uint32_t i = 0; i < 3; i++) {
            model_store_batch(store, 200);
            flush(&w);
        }
        for (uint64_t n = 1; status != VEX_OK; n += FAIL_STEP) {
            vex_compaction compaction = {0};
            vex_compact_plan plan;
            if (n % 4 == 1) {
                model_store_batch(store, 100);
                flush(&w); /* tombstones that the merge must leave out */
            }
            model_store_batch(store, 5);
            plan_all(store, &plan);
            uint64_t generation = store->latest->generation;
            vex_vfs_fault_arm(vfs, kind == 0 ? n : 0, EIO, false, false);
            vex_mem_fail_at(kind == 1 ? n : 0, false);
            status = write_files(store, &plan, &compaction);
            if (status == VEX_OK) {
                status = commit(store, &compaction);
            }
            vex_vfs_fault_arm(vfs, 0, 0, false, false);
            vex_mem_fail_at(0, false);
            vex_compaction_clear(&compaction);
            failed[kind] += status != VEX_OK;
            CHECK_EQ(store->latest->generation, generation + (status == VEX_OK));
            vex_manifest_remove_leftovers(vfs, "/", &store->manifest, true);
            check_world(&w);
        }
        CHECK_OK(model_store_reopen(store));
        check_world(&w);
    }
    CHECK(failed[0] > 15 / FAIL_STEP && failed[1] > 40 / FAIL_STEP);
    model_store_end(store);
    vex_vfs_fault_destroy(vfs);
    vex_vfs_memory_destroy(memory);
}
#endif
