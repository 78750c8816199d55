/*
 * commit.c - how a write becomes durable and visible (the sequence is described in db.h).
 *
 * Everything that can fail comes before the log record: resolving, memory, the next snapshot.
 * After the record is appended nothing can fail but the sync; when that does, the state in
 * memory is ahead of what is known to be on disk, so the writer is poisoned: it publishes
 * nothing and refuses to write until the database is reopened, which re-reads the truth.
 */
#include "db/commit.h"
#include "db/compact_plan.h"

#include "base/clock.h"
#include "base/poison.h"

/* Writers wait when the memtable grew to this many times its limit and flushing goes on. */
#define BACK_PRESSURE_FACTOR 4
#define BACK_PRESSURE_PAUSE_MS 2
#define TAIL_FLUSH_MS 1000
/* What adds to the log leaves so much of it reserved: some hundred deletes find room on a full disk. */
#define LOG_SPARE ((uint64_t)16 << 10)

/* A void head stays void, when its writer does not know why: a sync failed in another process, and
 * whoever writes next reads the logs. */
static vex_status write_head(vex_collection *collection, const vex_head *head, bool anew) {
    vex_vfs *vfs = collection->db->vfs;
    vex_head there;
    bool valid = anew;
    if (collection->head_file == NULL || collection->wal == NULL || collection->head_void) {
        return VEX_OK;
    }
    if (!anew) {
        VEX_TRY(vex_head_read(vfs, collection->head_file, collection->uuid, &there, &valid));
    }
    return valid ? vex_head_write(vfs, collection->head_file, collection->uuid, head) : VEX_OK;
}

static vex_status publish(vex_collection *collection, vex_snapshot *snapshot, const vex_head *head,
                          bool anew) {
    vex_status status = VEX_OK;
    vex_snapshot *old = NULL;
    pthread_mutex_lock(&collection->publish_mu);
    const vex_snapshot *current = collection->published;
    if (current == NULL || head->recovery != collection->published_head.recovery ||
        snapshot->lsn > current->lsn ||
        (snapshot->lsn == current->lsn && snapshot->generation >= current->generation)) {
        old = collection->published;
        collection->published = vex_snapshot_acquire(snapshot);
        collection->published_head = *head;
        status = write_head(collection, head, anew);
    }
    pthread_mutex_unlock(&collection->publish_mu);
    vex_snapshot_release(old);
    return status;
}

vex_status vex_publish(vex_collection *collection, vex_snapshot *snapshot, const vex_head *head) {
    return publish(collection, snapshot, head, false);
}

vex_status vex_publish_first(vex_collection *collection) {
    return publish(collection, collection->latest, &collection->known, true);
}

void vex_collection_void_head(vex_collection *collection) {
    if (collection->head_file != NULL) {
        (void)vex_head_void(collection->db->vfs, collection->head_file);
    }
}

void vex_collection_commit_failed(vex_collection *collection) {
    collection->poisoned = true;
    vex_collection_void_head(collection);
}

/* A sync failed without the lease: somebody may have published on top of what is lost. */
void vex_collection_void_head_again(vex_collection *collection, uint32_t wait_ms) {
    vex_db *db = collection->db;
    const vex_error failure = *vex_last_error();
    bool lease = vex_lease_acquire_within(db, wait_ms) == VEX_OK;
    pthread_mutex_lock(&collection->publish_mu);
    vex_collection_void_head(collection);
    pthread_mutex_unlock(&collection->publish_mu);
    if (lease) {
        vex_lease_release(db);
    }
    (void)vex_fail_at(failure.code, failure.path, failure.offset, failure.sys_errno, "%s",
                      failure.message);
}

void vex_collection_sync_failed(vex_collection *collection) {
    collection->poisoned = true;
    collection->stale = true; /* it is ahead of what is published: reading goes on from the files */
    pthread_mutex_lock(&collection->publish_mu);
    collection->head_void = true;
    vex_collection_void_head(collection);
    pthread_mutex_unlock(&collection->publish_mu);
}

/* Rows of the memtable being written. */
static vex_memtable *active_table(const vex_snapshot *snapshot) {
    return snapshot->mems[snapshot->n_mems - 1].table;
}

uint64_t vex_collection_ms_to_tail_flush(const vex_collection *collection) {
    vex_vfs *vfs = collection->db->vfs;
    uint64_t due = atomic_load(&collection->tail_due_ms), now = vfs->clock_ms(vfs);
    return due == 0 ? UINT64_MAX : due > now ? due - now : 0;
}

bool vex_collection_has_tail(const vex_collection *collection, const vex_snapshot *snapshot) {
    return snapshot->mems[snapshot->n_mems - 1].n_vectors >= VEX_TAIL_ROWS &&
           snapshot->live_rows >= atomic_load(&collection->index.rows_min) &&
           snapshot->space != VEX_SPACE_L1;
}

bool vex_collection_note_tail(vex_collection *collection, const vex_snapshot *snapshot,
                              uint32_t ms) {
    vex_vfs *vfs = collection->db->vfs;
    uint64_t unset = 0;
    return vex_collection_has_tail(collection, snapshot) &&
           atomic_compare_exchange_strong(&collection->tail_due_ms, &unset,
                                          vfs->clock_ms(vfs) + ms);
}

void vex_collection_renew_tail(vex_collection *collection) {
    if (atomic_exchange(&collection->tail_due_ms, 0) != 0) {
        (void)vex_collection_note_tail(collection, collection->latest, TAIL_FLUSH_MS);
    }
}

void vex_collection_settle_tail(vex_collection *collection) {
    pthread_mutex_lock(&collection->write_mu);
    if (vex_collection_ms_to_tail_flush(collection) == 0 &&
        !vex_collection_has_tail(collection, collection->latest)) {
        atomic_store(&collection->tail_due_ms, 0);
    }
    pthread_mutex_unlock(&collection->write_mu);
}

bool vex_collection_wants_flush(const vex_collection *collection) {
    const vex_snapshot *latest = collection->latest;
    const vex_memtable *table = active_table(latest);
    const vex_db_options *options = &collection->db->options;
    bool tail = vex_collection_ms_to_tail_flush(collection) == 0 &&
                vex_collection_has_tail(collection, latest);
    return latest->n_mems > 1 || tail || vex_memtable_vectors(table) >= options->memtable_rows ||
           vex_memtable_payloads(table) >= options->memtable_rows ||
           vex_memtable_bytes(table) >= options->memtable_bytes ||
           collection->known.wal_end >= options->memtable_bytes || /* deletes fill only the log */
           collection->known.wal_number - collection->manifest.wal_first >= VEX_LOGS_MAX ||
           vex_plan_reclaimable(latest, collection->known.wal_end) >= VEX_RECLAIM_BYTES;
}

/* Hold a writer back while flushing cannot keep up; never when flushing fails, nor when nobody flushes:
 * a fork that waits for us keeps the worker out. */
void vex_commit_wait_for_room(vex_collection *collection) {
    vex_db *db = collection->db;
    uint64_t most = db->options.memtable_bytes * BACK_PRESSURE_FACTOR;
    for (;;) {
        pthread_mutex_lock(&collection->write_mu);
        bool full = vex_memtable_bytes(active_table(collection->latest)) > most &&
                    atomic_load(&collection->flush_wanted) &&
                    atomic_load(&collection->flush_failures) == 0 && !vex_fork_waits() &&
                    vex_worker_runs(db, VEX_WORKER_FILES);
        pthread_mutex_unlock(&collection->write_mu);
        if (!full) {
            return;
        }
        db->vfs->sleep_ms(db->vfs, BACK_PRESSURE_PAUSE_MS);
    }
}

static vex_status note_keys(vex_collection *collection, const vex_batch *batch) {
    for (size_t i = 0; i < batch->n_ops; i++) {
        const vex_op *op = &batch->ops[i];
        if (op->kind == VEX_OP_PUT || op->kind == VEX_OP_PAYLOAD) {
            VEX_TRY(vex_key_set_note(&collection->keys, op->payload.metadata,
                                     op->payload.metadata_len));
        }
    }
    return VEX_OK;
}

static bool only_deletes(const vex_batch *batch) {
    bool only = true;
    for (size_t i = 0; i < batch->n_ops && only; i++) {
        only = batch->ops[i].kind == VEX_OP_DELETE;
    }
    return only;
}

uint64_t vex_change_bytes(const vex_change *change) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < change->n_parts; i++) {
        bytes += change->parts[i].len;
    }
    return bytes;
}

uint64_t vex_change_test_max;

/* Under write_mu: all that can fail before the log. */
vex_status vex_change_prepare(vex_collection *collection, vex_change *change) {
    vex_snapshot *latest = collection->latest;
    change->lsn = latest->lsn + 1;
    VEX_TRY(note_keys(collection, &change->batch));
    VEX_TRY(vex_memtable_prepare(active_table(latest), &change->batch));
    VEX_TRY(vex_snapshot_copy(latest, &change->next));
    VEX_TRY(vex_snapshot_apply(change->next, &change->batch, change->lsn));
    if (collection->wal == NULL) {
        return VEX_OK; /* in memory */
    }
    VEX_TRY(vex_batch_encode(&change->batch, &change->meta, &change->parts, &change->n_parts));
    if (vex_change_bytes(change) >
        (vex_change_test_max != 0 ? vex_change_test_max : VEX_WAL_RECORD_MAX)) {
        return VEX_FAIL(VEX_ERR_TOO_BIG, "a batch holds at most 4 GiB; write smaller ones");
    }
    return only_deletes(&change->batch)
               ? VEX_OK
               : vex_wal_make_room(collection->wal, vex_change_bytes(change), LOG_SPARE);
}

vex_status vex_change_log(vex_collection *collection, const vex_change *change) {
    if (collection->wal == NULL) {
        return VEX_OK;
    }
    vex_status status =
        vex_wal_append(collection->wal, change->lsn, change->parts, change->n_parts);
    if (status == VEX_ERR_POISONED) {
        collection->poisoned = true;
    }
    return status;
}

void vex_change_adopt(vex_collection *collection, vex_change *change) {
    vex_snapshot *latest = collection->latest;
    vex_snapshot_commit(change->next, &change->batch, change->lsn);
    collection->latest = change->next;
    change->next = NULL;
    vex_snapshot_release(latest);
    collection->known.lsn = change->lsn;
    if (collection->wal != NULL) {
        collection->known.wal_end = vex_wal_end(collection->wal);
    }
}

void vex_change_clear(vex_change *change) {
    vex_snapshot_release(change->next);
    vex_batch_clear(&change->batch);
    vex_buf_clear(&change->meta);
    vex_free(change->parts);
    *change = (vex_change){0};
}

void vex_pending_begin(vex_collection *collection, vex_pending *pending) {
    pending->snapshot = vex_snapshot_acquire(collection->latest);
    pending->wal = collection->wal;
    pending->head = collection->known;
    collection->syncing++;
    collection->committing++;
}

static vex_status resolve_and_apply(vex_collection *collection, vex_resolver resolve, void *context,
                                    vex_pending *pending) {
    vex_change change = {0};
    vex_status status = vex_collection_take_over(collection);
    if (status == VEX_OK) {
        change.batch.next_seq = collection->latest->next_seq;
        status =
            vex_collection_place(collection, resolve(context, collection->latest, &change.batch));
    }
    if (status == VEX_OK && change.batch.n_ops > 0) {
        status = vex_change_prepare(collection, &change);
        if (status == VEX_OK) {
            status = vex_change_log(collection, &change);
        }
        if (status == VEX_OK) {
            vex_change_adopt(collection, &change);
        }
    }
    vex_change_clear(&change);
    if (status == VEX_OK) {
        vex_pending_begin(collection, pending);
    }
    return status;
}

/* Under write_mu. */
static void end_sync(vex_collection *collection, bool failed, bool commit) {
    collection->committing -= commit;
    if (failed) {
        vex_collection_sync_failed(collection);
    }
    if (--collection->syncing == 0) {
        pthread_cond_broadcast(&collection->syncs_done);
    }
}

void vex_pending_abandon(vex_collection *collection, const vex_pending *pending) {
    pthread_mutex_lock(&collection->write_mu);
    end_sync(collection, true, true);
    pthread_mutex_unlock(&collection->write_mu);
    vex_snapshot_release(pending->snapshot);
}

/* Outside write_mu: make it durable, then visible. */
vex_status vex_pending_finish(vex_collection *collection, const vex_pending *pending) {
    vex_db *db = collection->db;
    vex_status status = VEX_OK;
    uint32_t durability = vex_db_durability(db);
    if (pending->wal != NULL && durability == VEX_DURABILITY_FULL) {
        status = vex_wal_sync_to(pending->wal, pending->head.wal_end);
    }
    if (status == VEX_OK) {
        status = vex_publish(collection, pending->snapshot, &pending->head);
    }
    pthread_mutex_lock(&collection->write_mu);
    end_sync(collection, status != VEX_OK, true);
    bool tail = vex_collection_note_tail(collection, collection->latest, TAIL_FLUSH_MS);
    bool flush = vex_collection_wants_flush(collection);
    pthread_mutex_unlock(&collection->write_mu);
    vex_snapshot_release(pending->snapshot);
    bool sync = durability == VEX_DURABILITY_NORMAL && pending->wal != NULL &&
                (!atomic_exchange(&collection->sync_wanted, true) ||
                 !vex_worker_runs(db, VEX_WORKER_SYNCS));
    flush = flush && (!atomic_exchange(&collection->flush_wanted, true) ||
                      !vex_worker_runs(db, VEX_WORKER_FILES));
    if (sync) {
        vex_worker_wake(db, VEX_WORKER_SYNCS);
    }
    if (flush || tail) {
        vex_worker_wake(db, VEX_WORKER_FILES);
    }
    return status;
}

/* Since `from_us`; returns the time. */
static uint64_t note_wait(vex_counter counter, uint64_t from_us) {
    const uint64_t now_us = vex_now_us();
    vex_stat_add(counter, (int64_t)(now_us - from_us));
    return now_us;
}

vex_status vex_commit(vex_collection *collection, vex_resolver resolve, void *context) {
    vex_db *db = collection->db;
    vex_pending pending = {0};
    vex_commit_wait_for_room(collection);
    uint64_t at_us = vex_now_us();
    vex_status status = vex_lease_acquire(db);
    at_us = note_wait(VEX_STAT_LEASE_WAIT_US, at_us);
    VEX_TRY(status);
    pthread_mutex_lock(&collection->write_mu);
    (void)note_wait(VEX_STAT_WRITER_WAIT_US, at_us);
    status = resolve_and_apply(collection, resolve, context, &pending);
    pthread_mutex_unlock(&collection->write_mu);
    if (status == VEX_OK) {
        status = vex_pending_finish(collection, &pending);
    }
    vex_lease_release(db);
    vex_memory_note_use(collection);
    return status;
}

static vex_status sync_log(vex_collection *collection) {
    pthread_mutex_lock(&collection->write_mu);
    /* Poisoned by anything else, it still owes the syncs of what was acknowledged. */
    vex_wal_writer *wal = collection->head_void ? NULL : collection->wal;
    uint64_t end = wal ? vex_wal_end(wal) : 0;
    bool needed = wal != NULL && vex_db_syncs(collection->db) && vex_wal_synced_end(wal) < end;
    if (needed) {
        collection->syncing++;
    }
    pthread_mutex_unlock(&collection->write_mu);
    if (!needed) {
        return VEX_OK;
    }
    vex_status status = vex_wal_sync_to(wal, end);
    pthread_mutex_lock(&collection->write_mu);
    end_sync(collection, status != VEX_OK, false);
    pthread_mutex_unlock(&collection->write_mu);
    return status;
}

/* Not the whole busy timeout: what is acknowledged should be on the disk soon. */
#define SYNC_WAIT_MS 1000

vex_status vex_collection_sync(vex_collection *collection) {
    vex_db *db = collection->db;
    /* Nobody else must be between append and publishing: should the sync fail, that head would vouch
     * for records that the failure took, and the next writer would build on them. */
    bool lease = vex_lease_acquire_within(db, SYNC_WAIT_MS) == VEX_OK;
    vex_status status = sync_log(collection);
    if (lease) {
        vex_lease_release(db);
    } else if (status != VEX_OK) {
        vex_collection_void_head_again(collection, db->options.busy_timeout_ms);
    }
    return status;
}
