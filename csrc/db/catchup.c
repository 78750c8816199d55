/*
 * catchup.c - bringing a collection's state in memory up to what is on disk: loading it, and
 * following other processes.
 *
 * Whatever is replayed goes through the same calls as a fresh write (prepare, apply), so there
 * is one meaning of a batch.  Replay stops where the head says committed data ends; without a
 * valid head (first use since boot) it goes by the log's own tail rule.
 */
#include "db/catchup.h"

#include "base/poison.h"

#define VOID_WAIT_MS 100
#define LOAD_TRIES 10 /* another process may flush while we open its files          */

vex_status vex_collection_gone(vex_collection *collection) {
    atomic_store(&collection->dropped, true);
    return VEX_FAIL_AT(VEX_ERR_NOT_FOUND, collection->dir, 0, 0, "the collection was deleted");
}

vex_status vex_collection_open_head(vex_collection *collection, bool create) {
    vex_db *db = collection->db;
    if (vex_db_volatile(db) || collection->head_file != NULL) {
        return VEX_OK;
    }
    char path[VEX_PATH_MAX];
    VEX_TRY(vex_path_join(path, collection->dir, "head"));
    vex_file_mode mode = create ? VEX_FILE_CREATE : db->read_only ? VEX_FILE_READ : VEX_FILE_WRITE;
    vex_file *opened = NULL, *nothing = NULL;
    vex_status status = db->vfs->file_open(db->vfs, path, mode, &opened);
    if (status == VEX_OK &&
        !atomic_compare_exchange_strong(&collection->head_file, &nothing, opened)) {
        db->vfs->file_close(db->vfs, opened); /* another thread was faster */
    }
    if (status != VEX_ERR_NOT_FOUND) {
        return status;
    }
    vex_file_stat stat;
    status = db->vfs->path_stat(db->vfs, collection->dir, &stat);
    return status == VEX_ERR_NOT_FOUND ? vex_collection_gone(collection) : status;
}

vex_status vex_collection_read_head(vex_collection *collection, vex_head *head, bool *valid) {
    vex_vfs *vfs = collection->db->vfs;
    *valid = false;
    if (collection->head_file == NULL) {
        return VEX_OK;
    }
    VEX_TRY(vex_head_read(vfs, collection->head_file, collection->uuid, head, valid));
    if (*valid && head->generation == VEX_HEAD_DROPPED) {
        bool replaced = false;
        VEX_TRY(vex_head_is_replaced(vfs, collection->head_file, collection->dir, &replaced));
        if (replaced) {
            return vex_collection_gone(collection);
        }
        *valid = false; /* about to be removed, or its remover died before it could */
    }
    return VEX_OK;
}

/* ---- replay ---- */

static vex_status note_keys(vex_key_set *keys, const vex_batch *batch) {
    for (size_t i = 0; i < batch->n_ops; i++) {
        const vex_payload *payload = &batch->ops[i].payload;
        if (batch->ops[i].kind == VEX_OP_PUT || batch->ops[i].kind == VEX_OP_PAYLOAD) {
            VEX_TRY(vex_key_set_note(keys, payload->metadata, payload->metadata_len));
        }
    }
    return VEX_OK;
}

static vex_status replay_record(vex_collection *collection, vex_snapshot *snapshot,
                                const vex_wal_body *body, uint64_t lsn) {
    vex_batch batch = {0};
    vex_status status = vex_batch_decode(body->data, body->len, &batch);
    vex_memtable *active = snapshot->mems[snapshot->n_mems - 1].table;
    if (status == VEX_OK) {
        status = vex_memtable_prepare(active, &batch);
    }
    if (status == VEX_OK) {
        status = note_keys(&collection->keys, &batch);
    }
    if (status == VEX_OK) {
        status = vex_snapshot_apply(snapshot, &batch, lsn);
    }
    if (status == VEX_OK) {
        vex_snapshot_commit(snapshot, &batch, lsn);
    }
    vex_batch_clear(&batch);
    return status;
}

vex_status vex_collection_log_exists(const vex_collection *collection, uint64_t number,
                                     bool *exists) {
    char name[VEX_WAL_NAME_MAX], path[VEX_PATH_MAX];
    vex_file_stat stat;
    vex_vfs *vfs = collection->db->vfs;
    vex_wal_name(name, number);
    VEX_TRY(vex_path_join(path, collection->dir, name));
    vex_status status = vfs->path_stat(vfs, path, &stat);
    *exists = status == VEX_OK;
    return status == VEX_ERR_NOT_FOUND ? VEX_OK : status;
}

static vex_status torn_in_the_middle(const vex_wal_reader *log) {
    return VEX_FAIL_AT(VEX_ERR_CORRUPT, vex_wal_reader_path(log), vex_wal_reader_offset(log), 0,
                       "the log is damaged before its committed end; restore the collection "
                       "from a backup");
}

/* What no writer logs is damage, whatever it is to who finds it; a lack of memory is none. */
static vex_status refuse_record(vex_status status, const vex_wal_reader *log, uint64_t at) {
    return status == VEX_ERR_NO_MEMORY || status == VEX_ERR_VERSION
               ? vex_fail_place(status, vex_wal_reader_path(log), at)
               : vex_fail_place(VEX_ERR_CORRUPT, vex_wal_reader_path(log), at);
}

static vex_status missing_records(const vex_collection *collection, uint64_t lsn, uint64_t after) {
    return VEX_FAIL_AT(VEX_ERR_CORRUPT, collection->dir, 0, 0,
                       "the logs go from record %llu to %llu: what lay between is lost; restore "
                       "the collection from a backup",
                       (unsigned long long)after, (unsigned long long)lsn);
}

static vex_status missing_log(const vex_collection *collection) {
    char name[VEX_WAL_NAME_MAX], path[VEX_PATH_MAX];
    vex_wal_name(name, collection->known.wal_number);
    VEX_TRY(vex_path_join(path, collection->dir, name));
    return VEX_FAIL_AT(VEX_ERR_CORRUPT, path, 0, 0,
                       "the log is missing; restore the collection from a backup");
}

/* Open the reader behind `known`; it stays NULL when the collection was never written. */
static vex_status open_tail(vex_collection *collection, vex_replay_limit limit) {
    vex_db *db = collection->db;
    vex_head *known = &collection->known;
    bool exists = false;
    VEX_TRY(vex_collection_log_exists(collection, known->wal_number, &exists));
    if (!exists) {
        VEX_TRY(vex_collection_log_exists(collection, known->wal_number + 1, &exists));
        bool expected =
            exists || known->generation > 1 || (limit.known && known->wal_end < limit.wal_end);
        return expected ? missing_log(collection) : VEX_OK;
    }
    VEX_TRY(vex_wal_reader_open(db->vfs, collection->dir, collection->manifest.lineage,
                                known->wal_number, &collection->tail));
    if (known->wal_end > vex_wal_reader_offset(collection->tail)) {
        VEX_TRY(vex_wal_reader_seek(collection->tail, known->wal_end, known->lsn));
    }
    known->wal_end = vex_wal_reader_offset(collection->tail);
    return VEX_OK;
}

static vex_status next_log(vex_collection *collection, vex_replay_limit limit) {
    vex_wal_reader_close(collection->tail);
    collection->tail = NULL;
    collection->known.wal_number++;
    collection->known.wal_end = 0;
    return open_tail(collection, limit);
}

/* Replay what the open log has, up to `end`. */
static vex_status replay_log(vex_collection *collection, vex_snapshot *snapshot, uint64_t end,
                             vex_wal_step *step) {
    vex_head *known = &collection->known;
    vex_wal_body body = {0};
    vex_status status = VEX_OK;
    do {
        uint64_t lsn = 0;
        status = vex_wal_reader_next(collection->tail, end, step, &body, &lsn);
        if (status == VEX_OK && *step == VEX_WAL_RECORD) {
            if (lsn > snapshot->lsn + 1) {
                status = missing_records(collection, lsn, snapshot->lsn);
            } else if (lsn > snapshot->lsn) { /* else it is in the files already */
                status = replay_record(collection, snapshot, &body, lsn);
                status = status ? refuse_record(status, collection->tail, known->wal_end) : status;
            }
            known->wal_end = vex_wal_reader_offset(collection->tail);
            known->lsn = snapshot->lsn;
        }
    } while (status == VEX_OK && *step == VEX_WAL_RECORD);
    return status;
}

/* Apply the records behind `known` to the private snapshot, up to `limit`; moves `known`. */
static vex_status replay(vex_collection *collection, vex_snapshot *snapshot,
                         vex_replay_limit limit) {
    vex_head *known = &collection->known;
    if (collection->tail == NULL) {
        VEX_TRY(open_tail(collection, limit));
    }
    while (collection->tail != NULL) {
        vex_wal_step step = VEX_WAL_END;
        bool last_log = known->wal_number >= limit.wal_number;
        if (!limit.known) {
            bool newer = false;
            VEX_TRY(vex_collection_log_exists(collection, known->wal_number + 1, &newer));
            last_log = !newer;
        }
        VEX_TRY(replay_log(collection, snapshot,
                           limit.known && last_log ? limit.wal_end : UINT64_MAX, &step));
        if (last_log && (!limit.known || known->wal_end >= limit.wal_end)) {
            break;
        }
        if (last_log || step == VEX_WAL_TORN) {
            return torn_in_the_middle(collection->tail);
        }
        VEX_TRY(next_log(collection, limit));
    }
    return VEX_OK;
}

/* ---- loading ---- */

static void replace_state(vex_collection *collection, vex_snapshot *snapshot,
                          vex_manifest *manifest, vex_key_set *keys) {
    vex_snapshot_release(collection->sealed);
    collection->sealed = NULL;
    vex_snapshot_release(collection->latest);
    collection->latest = snapshot;
    vex_manifest_clear(&collection->manifest);
    collection->manifest = *manifest;
    *manifest = (vex_manifest){0};
    vex_key_set_clear(&collection->keys);
    collection->keys = *keys;
    *keys = (vex_key_set){0};
}

static vex_status add_memtable(vex_snapshot *snapshot) {
    vex_memtable *table = NULL;
    VEX_TRY(vex_memtable_create(&table));
    snapshot->mems[snapshot->n_mems++] = (vex_mem_source){.table = table};
    return VEX_OK;
}

/* The forms of code rows that an option allows: their tags are VEX_QUANTIZE_*.  None for l1. */
static vex_code_range codes_for(uint32_t quantization, uint32_t space) {
    if (space == VEX_SPACE_L1) {
        return (vex_code_range){0};
    }
    return quantization == VEX_QUANTIZE_AUTO ? (vex_code_range){VEX_QUANTIZE_SQ8, VEX_QUANTIZE_NONE}
                                             : (vex_code_range){quantization, quantization};
}

/* Build the state of the newest manifest plus its logs. */
static vex_status load_once(vex_collection *collection, vex_replay_limit limit) {
    vex_db *db = collection->db;
    vex_manifest manifest = {0};
    vex_key_set keys = {0};
    vex_snapshot *snapshot = NULL;
    uint64_t generation = 0;
    vex_status status = vex_manifest_newest(db->vfs, collection->dir, &generation);
    if (status == VEX_OK && generation == 0) {
        status =
            VEX_FAIL_AT(VEX_ERR_NOT_FOUND, collection->dir, 0, 0, "the collection does not exist");
    }
    VEX_TRY_DONE(status, status);
    VEX_TRY_DONE(status,
                 vex_manifest_read(db->vfs, collection->dir, db->uuid, generation, &manifest));
    if (memcmp(manifest.collection, collection->uuid, sizeof collection->uuid) != 0) {
        status = vex_manifest_is_foreign(collection->dir, generation);
        goto done;
    }
    VEX_TRY_DONE(status, vex_snapshot_open(db->vfs, collection->dir, db->uuid, &manifest,
                                           collection->latest, &snapshot));
    VEX_TRY_DONE(status, vex_key_set_decode(&keys, manifest.keys.data, manifest.keys.len));
    VEX_TRY_DONE(status, add_memtable(snapshot));
    snapshot->codes = codes_for(db->options.quantization, snapshot->space);

    vex_wal_reader_close(collection->tail);
    collection->tail = NULL;
    vex_wal_writer_close(collection->wal);
    collection->wal = NULL;
    collection->known = (vex_head){generation, manifest.wal_first, 0, manifest.lsn, limit.recovery};
    if (limit.known && limit.wal_number < manifest.wal_first) {
        limit.wal_number = manifest.wal_first; /* a flush overtook the head we read */
        limit.wal_end = 0;
    }
    vex_snapshot *state = snapshot;
    snapshot = NULL;
    replace_state(collection, state, &manifest, &keys);
    status = replay(collection, state, limit);
done:
    vex_snapshot_release(snapshot);
    vex_manifest_clear(&manifest);
    vex_key_set_clear(&keys);
    return status;
}

/* A file that the newest manifest lists is not there. */
static vex_status missing_file(void) {
    char path[sizeof vex_last_error()->path];
    memcpy(path, vex_last_error()->path, sizeof path);
    return VEX_FAIL_AT(VEX_ERR_CORRUPT, path, 0, 0,
                       "the file is missing; restore the collection from a backup");
}

/* Without any manifest the creator died, or is just at it; or the manifest was lost. */
static vex_status check_written(const vex_collection *collection) {
    bool never = false;
    VEX_TRY(vex_manifest_never_written(collection->db->vfs, collection->dir, &never));
    return never ? VEX_FAIL_AT(VEX_ERR_NOT_FOUND, collection->dir, 0, 0,
                               "the collection does not exist")
                 : VEX_OK;
}

/* *vouched: a head told how far to go. */
static vex_status load(vex_collection *collection, bool *vouched) {
    vex_vfs *vfs = collection->db->vfs;
    vex_status status = VEX_OK;
    for (int attempt = 0; attempt < LOAD_TRIES; attempt++) {
        vex_head head;
        bool valid = false;
        uint64_t before = 0, after = 0;
        VEX_TRY(vex_collection_read_head(collection, &head, &valid));
        VEX_TRY(vex_manifest_newest(vfs, collection->dir, &before));
        if (before == 0) {
            VEX_TRY(check_written(collection));
        }
        *vouched = valid;
        status = load_once(collection, valid ? vex_limit_of(&head) : (vex_replay_limit){0});
        if (status == VEX_OK && !valid) { /* another process may have begun to write since */
            VEX_TRY(vex_collection_open_head(collection, false));
            VEX_TRY(vex_collection_read_head(collection, &head, &valid));
            if (valid) {
                continue;
            }
        }
        if (status != VEX_ERR_NOT_FOUND && status != VEX_ERR_CORRUPT) {
            break;
        }
        status = status == VEX_ERR_NOT_FOUND ? missing_file() : status;
        /* Files of an older generation may have been removed under us, or records that a failed sync
         * took: a failure counts only when there was nothing new all the time. */
        vex_head now = {0};
        bool still = false;
        const vex_error failure = *vex_last_error();
        vex_file_stat stat;
        if (vfs->path_stat(vfs, collection->dir, &stat) == VEX_ERR_NOT_FOUND) {
            return vex_collection_gone(collection);
        }
        VEX_TRY(vex_manifest_newest(vfs, collection->dir, &after));
        VEX_TRY(vex_collection_read_head(collection, &now, &still));
        if (before == after && valid == still && (!valid || now.recovery == head.recovery)) {
            return VEX_FAIL_AT(failure.code, failure.path, failure.offset, failure.sys_errno, "%s",
                               failure.message);
        }
    }
    return status;
}

/* What a flush, or the first write, that was killed left behind; another time when busy.  The manifest
 * may have been committed by who was killed before its name was durable: what it replaces goes only
 * when it is. */
static void remove_leftovers(vex_collection *collection) {
    vex_db *db = collection->db;
    if (!vex_manifest_has_leftovers(db->vfs, collection->dir, &collection->manifest) ||
        vex_maintenance_try(db) != VEX_OK) {
        return;
    }
    if (vex_db_syncs(db) && db->vfs->dir_sync(db->vfs, collection->dir) != VEX_OK) {
        vex_maintenance_release(db);
        return;
    }
    bool lease = vex_lease_try(db) == VEX_OK; /* logs begin under it */
    vex_manifest_remove_leftovers(db->vfs, collection->dir, &collection->manifest, lease);
    if (lease) {
        vex_lease_release(db);
    }
    vex_maintenance_release(db);
}

vex_status vex_collection_load(vex_collection *collection) {
    vex_db *db = collection->db;
    vex_file_stat stat;
    if (db->vfs->path_stat(db->vfs, collection->dir, &stat) == VEX_ERR_NOT_FOUND) {
        return VEX_FAIL_AT(VEX_ERR_NOT_FOUND, collection->dir, 0, 0,
                           "the collection does not exist");
    }
    VEX_TRY(vex_collection_open_head(collection, false));
    bool vouched = false;
    VEX_TRY(load(collection, &vouched));
    collection->published = vex_snapshot_acquire(collection->latest);
    collection->published_head = collection->known;
    if (!db->read_only && !vex_db_volatile(db)) {
        remove_leftovers(collection);
    }
    return VEX_OK;
}

/* ---- following other processes ---- */

/* Replay the log behind `known`. */
static vex_status follow_log(vex_collection *collection, vex_replay_limit limit) {
    vex_snapshot *next = NULL;
    VEX_TRY(vex_snapshot_copy(collection->latest, &next));
    vex_status status = replay(collection, next, limit);
    if (status != VEX_OK) {
        vex_snapshot_release(next);
        return status;
    }
    vex_snapshot_release(collection->latest);
    collection->latest = next;
    return VEX_OK;
}

vex_status vex_collection_close_log(vex_collection *collection) {
    vex_wal_writer *wal = collection->wal;
    vex_status status = VEX_OK;
    if (wal != NULL && !collection->head_void && vex_db_syncs(collection->db)) {
        status = vex_wal_sync_to(wal, vex_wal_end(wal));
    }
    if (status != VEX_OK) {
        vex_collection_sync_failed(collection);
    }
    vex_wal_writer_close(wal);
    collection->wal = NULL;
    return status;
}

vex_status vex_collection_follow(vex_collection *collection, uint64_t generation,
                                 vex_replay_limit limit) {
    VEX_TRY(vex_collection_close_log(collection));
    bool anew = collection->stale || generation > collection->known.generation;
    collection->stale = true;
    bool vouched = limit.known;
    vex_status status = anew ? load(collection, &vouched) : follow_log(collection, limit);
    if (!anew && limit.known && (status == VEX_ERR_CORRUPT || status == VEX_ERR_NOT_FOUND)) {
        /* A flush may have removed the log since the head was read. */
        status = load(collection, &vouched);
    }
    VEX_TRY(status);
    collection->stale = false;
    if (anew) {
        vex_collection_renew_tail(collection);
    }
    /* What no head vouches for is shown once it was written again. */
    return limit.known && vouched ? vex_publish(collection, collection->latest, &collection->known)
                                  : VEX_OK;
}

/* A head may tell of an older generation: who flushed was killed before it wrote the head. */
bool vex_collection_is_behind(const vex_collection *collection, const vex_head *head) {
    const vex_head *known = &collection->known;
    return collection->stale || head->generation > known->generation || head->lsn > known->lsn ||
           head->wal_number > known->wal_number || head->recovery != known->recovery;
}

vex_status vex_collection_look(vex_collection *collection, vex_head *head, bool *valid,
                               bool *behind) {
    for (;;) {
        VEX_TRY(vex_collection_read_head(collection, head, valid));
        *behind = collection->stale || (*valid && vex_collection_is_behind(collection, head));
        if (!*behind || collection->syncing == 0) {
            /* Of what was shown, some may be gone. */
            collection->stale =
                collection->stale || (*valid && head->recovery != collection->known.recovery);
            return VEX_OK;
        }
        vex_collection_wait_for_syncs(collection);
    }
}

vex_status vex_collection_refresh(vex_collection *collection) {
    if (atomic_load(&collection->dropped)) {
        return vex_collection_gone(collection);
    }
    vex_head head;
    bool valid = false;
    VEX_TRY(vex_collection_open_head(collection, false));
    VEX_TRY(vex_collection_read_head(collection, &head, &valid));
    if (!valid && collection->head_file != NULL) { /* a sync failed: the head is void */
        (void)vex_collection_settle(collection, false);
        VEX_TRY(vex_collection_read_head(collection, &head, &valid));
    }
    if (!valid) {
        return VEX_OK; /* nobody wrote since boot */
    }
    pthread_mutex_lock(&collection->publish_mu);
    bool current = head.generation <= collection->published_head.generation &&
                   head.lsn <= collection->published_head.lsn &&
                   head.recovery == collection->published_head.recovery;
    pthread_mutex_unlock(&collection->publish_mu);
    if (current) {
        return VEX_OK;
    }
    pthread_mutex_lock(&collection->write_mu);
    bool behind = false, sync_failed = false;
    vex_status status = VEX_OK;
    if (!collection->poisoned || collection->syncing == 0) { /* threads have the log open */
        status = vex_collection_look(collection, &head, &valid, &behind);
    }
    if (status == VEX_OK && valid && behind) {
        const bool was_void = collection->head_void;
        status = vex_collection_follow(collection, head.generation, vex_limit_of(&head));
        sync_failed = collection->head_void && !was_void;
    }
    pthread_mutex_unlock(&collection->write_mu);
    if (sync_failed) { /* told by the next write; reading goes on with what was shown */
        vex_collection_void_head_again(collection, VOID_WAIT_MS);
        return VEX_OK;
    }
    return status;
}
