/*
 * flush.c - moving a collection's sealed memtables into files (the steps are in db.h).
 */
#include "db/db.h"

#include "base/poison.h"

vex_status vex_collection_rotate_log(vex_collection *collection) {
    vex_db *db = collection->db;
    if (collection->wal == NULL) {
        return VEX_OK;
    }
    if (vex_db_syncs(db)) {
        vex_status status = vex_wal_sync_to(collection->wal, vex_wal_end(collection->wal));
        bool synced = status == VEX_OK;
        status = synced ? vex_wal_seal(collection->wal) : status;
        if (status != VEX_OK && (!synced || status != VEX_ERR_NO_SPACE)) {
            vex_collection_sync_failed(collection);
        }
        VEX_TRY(status);
    }
    vex_wal_writer *next = NULL;
    vex_status status = vex_wal_create(db->vfs, collection->dir, collection->manifest.lineage,
                                       collection->known.wal_number + 1, collection->known.lsn + 1,
                                       vex_db_syncs(db), &next);
    if (status == VEX_ERR_POISONED) {
        vex_collection_sync_failed(collection);
    }
    VEX_TRY(status);
    vex_wal_writer_close(collection->wal);
    vex_wal_reader_close(collection->tail);
    collection->tail = NULL;
    collection->wal = next;
    collection->known.wal_number++;
    collection->known.wal_end = vex_wal_end(next);
    return VEX_OK;
}

static void remove_leftovers(vex_collection *collection, bool sync) {
    vex_vfs *vfs = collection->db->vfs;
    vex_manifest manifest = {0};
    if (sync && vfs->dir_sync(vfs, collection->dir) != VEX_OK) {
        return; /* a manifest that was taken back may be there again after a power failure */
    }
    pthread_mutex_lock(&collection->write_mu);
    vex_status status = vex_manifest_copy(&manifest, &collection->manifest);
    pthread_mutex_unlock(&collection->write_mu);
    if (status == VEX_OK) {
        vex_manifest_remove_leftovers(vfs, collection->dir, &manifest, false);
    }
    vex_manifest_clear(&manifest);
}

/* Under MAINT, so that no other process commits a manifest; this one may be loading it anew. */
void vex_collection_remove_leftovers(vex_collection *collection, vex_status step) {
    const vex_error failure = *vex_last_error();
    remove_leftovers(collection, step != VEX_OK && vex_db_syncs(collection->db));
    if (step != VEX_OK) {
        (void)vex_fail_at(failure.code, failure.path, failure.offset, failure.sys_errno, "%s",
                          failure.message);
    }
}

void vex_collection_wait_for_syncs(vex_collection *collection) {
    while (collection->syncing > 0) {
        pthread_cond_wait(&collection->syncs_done, &collection->write_mu);
    }
}

/* Under lease and write_mu: the active memtable becomes a sealed one, a fresh one follows. */
static vex_status seal(vex_collection *collection) {
    vex_snapshot *latest = collection->latest, *next = NULL;
    if (latest->n_mems == VEX_MEMTABLES_MAX) {
        return VEX_OK; /* earlier flushes failed: flush those first */
    }
    const vex_memtable *active = latest->mems[latest->n_mems - 1].table;
    if (vex_memtable_payloads(active) == 0 && vex_memtable_vectors(active) == 0 &&
        !vex_snapshot_tombs_changed(latest)) {
        atomic_store(&collection->tail_due_ms, 0);
        return VEX_OK;
    }
    vex_memtable *table = NULL;
    vex_status status = vex_snapshot_copy(latest, &next);
    if (status == VEX_OK) {
        status = vex_memtable_create(&table);
    }
    if (status == VEX_OK) {
        status = vex_collection_rotate_log(collection);
    }
    if (status != VEX_OK) {
        vex_memtable_release(table);
        vex_snapshot_release(next);
        return status;
    }
    collection->seal_wal[next->n_mems - 1] = collection->known.wal_number;
    atomic_store(&collection->tail_due_ms, 0);
    next->mems[next->n_mems++] = (vex_mem_source){.table = table};
    collection->latest = next;
    vex_snapshot_release(latest);
    vex_snapshot_release(collection->sealed);
    collection->sealed = vex_snapshot_acquire(next);
    return vex_publish(collection, next, &collection->known);
}

/* The first step: fix what is to be written: the state at the newest seal, not `latest`, which
 * may hold rows that only the log has.  *sealed NULL when there is nothing to do. */
static vex_status begin(vex_collection *collection, bool everything, vex_snapshot **sealed,
                        vex_manifest *base, vex_buf *keys, uint64_t *wal_first) {
    VEX_TRY(vex_lease_acquire(collection->db));
    pthread_mutex_lock(&collection->write_mu);
    vex_status status = vex_collection_take_over_files(collection);
    if (status == VEX_OK && (everything || vex_collection_wants_flush(collection))) {
        status = vex_collection_take_over_quiet(collection);
        status = status == VEX_OK ? seal(collection) : status;
        if (status == VEX_OK && collection->sealed != NULL) {
            status = vex_manifest_copy(base, &collection->manifest);
            if (status == VEX_OK) {
                status = vex_key_set_encode(&collection->keys, keys);
            }
            if (status == VEX_OK) {
                *wal_first = collection->seal_wal[collection->sealed->n_mems - 2];
                *sealed = vex_snapshot_acquire(collection->sealed);
            }
        }
    }
    pthread_mutex_unlock(&collection->write_mu);
    vex_lease_release(collection->db);
    return status;
}

/* Under lease and write_mu: the manifest is the commit; then everybody sees the files. */
static vex_status commit(vex_collection *collection, const vex_snapshot *sealed, uint32_t n_flush,
                         vex_flush_result *result) {
    vex_db *db = collection->db;
    vex_snapshot *latest = collection->latest, *next = NULL;
    VEX_TRY(vex_snapshot_copy(latest, &next));
    vex_status status = vex_flush_carry(result, sealed, n_flush, next);
    if (status == VEX_OK) {
        status = vex_manifest_write(db->vfs, collection->dir, db->uuid, &result->manifest,
                                    vex_db_syncs(db));
        if (status != VEX_OK && status != VEX_ERR_NO_SPACE) {
            vex_collection_commit_failed(collection);
        }
    }
    if (status != VEX_OK) {
        vex_snapshot_release(next);
        return status;
    }
    vex_snapshot_release(collection->sealed); /* seals happen under MAINT, so there is no newer */
    collection->sealed = NULL;
    memmove(collection->seal_wal, collection->seal_wal + n_flush,
            (VEX_MEMTABLES_MAX - n_flush) * sizeof collection->seal_wal[0]);
    vex_manifest_clear(&collection->manifest);
    collection->manifest = result->manifest;
    result->manifest = (vex_manifest){0};
    collection->known.generation = collection->manifest.generation;
    collection->latest = next;
    vex_snapshot_release(latest);
    return vex_publish(collection, next, &collection->known);
}

static vex_status end(vex_collection *collection, const vex_snapshot *sealed, uint32_t n_flush,
                      vex_flush_result *result) {
    VEX_TRY(vex_lease_acquire(collection->db));
    pthread_mutex_lock(&collection->write_mu);
    /* What is published must be durable, and `latest` may hold records still being synced. */
    vex_status status = vex_collection_take_over_quiet(collection);
    if (status == VEX_OK) {
        status = commit(collection, sealed, n_flush, result);
    }
    pthread_mutex_unlock(&collection->write_mu);
    vex_lease_release(collection->db);
    return status;
}

vex_status vex_collection_flush_held(vex_collection *collection, bool everything,
                                     const uint64_t *first_file_no) {
    vex_db *db = collection->db;
    vex_snapshot *sealed = NULL;
    vex_manifest base = {0};
    vex_buf keys = {0};
    vex_flush_result result = {0};
    uint64_t wal_first = 0;
    vex_status status = begin(collection, everything, &sealed, &base, &keys, &wal_first);
    if (status == VEX_OK && sealed != NULL) {
        uint32_t n_flush = sealed->n_mems - 1;
        if (first_file_no != NULL && base.next_file_no < *first_file_no) {
            base.next_file_no = *first_file_no;
        }
        status = vex_flush_write(db->vfs, collection->dir, db->uuid, sealed, n_flush, &base, &keys,
                                 wal_first, vex_db_syncs(db), &result);
        if (status == VEX_OK) {
            status = end(collection, sealed, n_flush, &result);
        }
        if (first_file_no == NULL && !atomic_load(&collection->dropped)) {
            vex_collection_remove_leftovers(collection, status);
        }
    }
    vex_flush_result_clear(&result);
    vex_buf_clear(&keys);
    vex_manifest_clear(&base);
    vex_snapshot_release(sealed);
    return status;
}

vex_status vex_collection_flush_now(vex_collection *collection, bool everything) {
    vex_db *db = collection->db;
    VEX_TRY(vex_maintenance_acquire(db));
    vex_status status = vex_collection_flush_held(collection, everything, NULL);
    vex_maintenance_release(db);
    if (status == VEX_OK) {
        vex_collection_note_files(collection);
        vex_index_want(collection);
    }
    return status;
}

vex_status vex_collection_flush_wanted(vex_collection *collection) {
    vex_db *db = collection->db;
    vex_status status = VEX_OK;
    VEX_TRY(vex_maintenance_acquire(db));
    if (atomic_exchange(&collection->flush_wanted, false)) {
        status = vex_collection_flush_held(collection, false, NULL);
    }
    vex_maintenance_release(db);
    if (status == VEX_OK) {
        vex_collection_note_files(collection);
        vex_index_want(collection);
    }
    return status;
}
