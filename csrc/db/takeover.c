/*
 * takeover.c - making a log one's own: before the first append, after its writer died, and at a
 * clean close.
 *
 * A writer may have been killed between logging a batch and acknowledging it.  Whoever comes next
 * with the lease finds bytes behind the committed end: whole records stay, a torn one is cut, and
 * the log is written again before anything is acknowledged on top of it.
 */
#include "db/catchup.h"

#include "base/poison.h"

#define PERSIST_STEP ((size_t)1 << 20)

/* Does the log end where we know?  Without a valid head only its CLOSE frame can say so; and not
 * even that, when another log follows. */
static vex_status check_end(const vex_collection *collection, bool head_valid, bool *clean,
                            bool *sealed) {
    const vex_head *known = &collection->known;
    VEX_TRY(vex_wal_check_end(collection->db->vfs, collection->dir, collection->manifest.lineage,
                              known->wal_number, known->wal_end, known->lsn, clean, sealed));
    if (*clean) { /* whoever began another log may have been killed before the head told of it */
        bool newer = false;
        VEX_TRY(vex_collection_log_exists(collection, known->wal_number + 1, &newer));
        *clean = !newer;
        *sealed = *sealed && !newer;
    }
    *clean = *clean && (head_valid || *sealed);
    return VEX_OK;
}

static vex_status log_path(const vex_collection *collection, char path[VEX_PATH_MAX]) {
    char name[VEX_WAL_NAME_MAX];
    vex_wal_name(name, collection->known.wal_number);
    return vex_path_join(path, collection->dir, name);
}

/* Write [0, len) again in place, cut the rest, sync: after a failed sync the page cache may show
 * bytes that the disk never got, so what was only read is not yet safe to build on. */
static vex_status persist_again(vex_vfs *vfs, const char *path, uint64_t len) {
    vex_file *file = NULL;
    uint8_t *step = vex_malloc(PERSIST_STEP);
    if (step == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to recover a log");
    }
    vex_status status = vfs->file_open(vfs, path, VEX_FILE_WRITE, &file);
    for (uint64_t at = 0; status == VEX_OK && at < len;) {
        size_t want = len - at < PERSIST_STEP ? (size_t)(len - at) : PERSIST_STEP;
        status = vex_file_read_exact(vfs, file, path, step, want, at);
        if (status == VEX_OK) {
            const vex_iovec part = {step, want};
            status = vfs->file_write(vfs, file, &part, 1, at);
        }
        at += want;
    }
    if (status == VEX_OK) {
        status = vfs->file_truncate(vfs, file, len);
    }
    if (status == VEX_OK) {
        status = vfs->file_sync(vfs, file);
    }
    if (file != NULL) {
        vfs->file_close(vfs, file);
    }
    vex_free(step);
    return status;
}

/* Does the log, read from its beginning, end where we know?  After a failed sync the system may have
 * dropped pages that were read before. */
static vex_status read_again(const vex_collection *collection, bool *same) {
    const vex_head *known = &collection->known;
    vex_wal_reader *reader = NULL;
    vex_wal_body body = {0};
    vex_wal_step step = VEX_WAL_RECORD;
    uint64_t lsn = 0;
    VEX_TRY(vex_wal_reader_open(collection->db->vfs, collection->dir, collection->manifest.lineage,
                                known->wal_number, &reader));
    vex_status status = VEX_OK;
    while (status == VEX_OK && step == VEX_WAL_RECORD &&
           vex_wal_reader_offset(reader) < known->wal_end) {
        status = vex_wal_reader_next(reader, known->wal_end, &step, &body, &lsn);
    }
    /* Damage aside, the last record is the newest; there may be none behind the files. */
    *same = vex_wal_reader_offset(reader) == known->wal_end &&
            vex_wal_reader_last_lsn(reader) <= known->lsn;
    vex_wal_reader_close(reader);
    return status;
}

/* Others read everything anew: what they were shown may be gone. */
static vex_status draw_recovery(vex_collection *collection) {
    vex_vfs *vfs = collection->db->vfs;
    return vfs->random_bytes(vfs, &collection->known.recovery, sizeof collection->known.recovery);
}

#define RECOVERY_TRIES 5

/* One attempt; *same: what was written again can be read. */
static vex_status recover_once(vex_collection *collection, bool *same) {
    char path[VEX_PATH_MAX];
    VEX_TRY(vex_collection_follow(collection, collection->known.generation, (vex_replay_limit){0}));
    VEX_TRY(log_path(collection, path));
    vex_status status = persist_again(collection->db->vfs, path, collection->known.wal_end);
    if (status != VEX_OK) {
        vex_collection_void_head(collection);
    }
    VEX_TRY(status);
    return read_again(collection, same);
}

/* A writer died in the log, or the machine restarted, or a sync failed: keep the whole records, cut a
 * torn one.  While that goes on, the system may drop pages of a sync that fails elsewhere. */
static vex_status recover_log(vex_collection *collection, bool head_valid) {
    bool same = false, gone = !head_valid;
    /* Without a head, the log may hold others of the same length in place of records that we know. */
    collection->stale = collection->stale || !head_valid;
    for (int attempt = 0; attempt < RECOVERY_TRIES && !same; attempt++) {
        VEX_TRY(recover_once(collection, &same));
        if (!same) { /* nor does the head count that told of them */
            gone = collection->stale = true;
            vex_collection_void_head(collection);
        }
    }
    if (!same) {
        return VEX_FAIL_AT(VEX_ERR_IO, collection->dir, 0, 0,
                           "the log reads otherwise each time; look at the disk");
    }
    return gone ? draw_recovery(collection) : VEX_OK;
}

static vex_status begin_log(vex_collection *collection, uint64_t number) {
    const vex_db *db = collection->db;
    VEX_TRY(vex_wal_create(db->vfs, collection->dir, collection->manifest.lineage, number,
                           collection->known.lsn + 1, vex_db_syncs(db), &collection->wal));
    collection->known.wal_number = number;
    return VEX_OK;
}

/* Is the log a file of another collection, too?  Its own that followed is lost. */
static vex_status is_shared(const vex_collection *collection, bool *shared) {
    char path[VEX_PATH_MAX];
    vex_vfs *vfs = collection->db->vfs;
    vex_file_stat stat;
    VEX_TRY(log_path(collection, path));
    VEX_TRY(vfs->path_stat(vfs, path, &stat));
    *shared = stat.names > 1;
    return VEX_OK;
}

/* The log does not fit: an empty one left by who began it, and then went on in the log before?  One that
 * begins behind its turn tells that records before it are missing. */
static vex_status replace_left_over(vex_collection *collection) {
    const vex_error misfit = *vex_last_error();
    const vex_head *known = &collection->known;
    vex_wal_reader *reader = NULL;
    VEX_TRY(vex_wal_reader_open(collection->db->vfs, collection->dir, collection->manifest.lineage,
                                known->wal_number, &reader));
    bool left_over = known->wal_end == VEX_WAL_EMPTY_END &&
                     vex_wal_reader_seek(reader, known->wal_end, known->lsn) == VEX_OK;
    vex_wal_reader_close(reader);
    vex_status status = left_over ? begin_log(collection, known->wal_number) : VEX_ERR_EXISTS;
    /* EXISTS: it is closed behind a record that it does not hold. */
    return status != VEX_ERR_EXISTS ? status
                                    : VEX_FAIL_AT(misfit.code, misfit.path, misfit.offset,
                                                  misfit.sys_errno, "%s", misfit.message);
}

static vex_status resume_log(vex_collection *collection, uint64_t synced_lsn) {
    const vex_head *known = &collection->known;
    vex_status status =
        vex_wal_resume(collection->db->vfs, collection->dir, collection->manifest.lineage,
                       known->wal_number, known->wal_end, known->lsn, synced_lsn, &collection->wal);
    return status == VEX_ERR_CORRUPT ? replace_left_over(collection) : status;
}

/* Of a sync that fails from now on whoever has the log open is told; of one that has failed the void head
 * tells. */
static vex_status is_head_voided(vex_collection *collection, bool *voided) {
    vex_head head;
    bool valid = false;
    VEX_TRY(vex_collection_read_head(collection, &head, &valid));
    *voided = !valid;
    return VEX_OK;
}

/* The log is closed, so all of it is durable; but without a head others may be in the place of records
 * that we know. */
static vex_status load_closed_log(vex_collection *collection, bool *clean, bool *sealed) {
    collection->stale = true;
    VEX_TRY(vex_collection_follow(collection, collection->known.generation, (vex_replay_limit){0}));
    VEX_TRY(check_end(collection, false, clean, sealed));
    return *clean ? draw_recovery(collection) : VEX_OK;
}

/* Make the log that is there one to add to.  *anew: it was written again, or is closed. */
static vex_status go_on_in_log(vex_collection *collection, bool head_valid, bool *anew) {
    bool clean = false, sealed = false, shared = false, voided = false;
    *anew = !head_valid;
    VEX_TRY(is_shared(collection, &shared));
    VEX_TRY(check_end(collection, head_valid, &clean, &sealed));
    if (clean && !head_valid) {
        VEX_TRY(load_closed_log(collection, &clean, &sealed));
        VEX_TRY(is_shared(collection, &shared));
    }
    if (head_valid && !clean) { /* another process may have found out that records are lost */
        VEX_TRY(is_head_voided(collection, &voided));
        head_valid = !voided;
        voided = false;
    }
    if (!clean || (shared && !sealed)) { /* shared: another log follows, so it must be durable */
        VEX_TRY(vex_collection_sync_names(collection)); /* of a log just begun */
        vex_status status = recover_log(collection, head_valid);
        /* The end in memory may be ahead of what was written again: look from the head's anew. */
        collection->stale = status != VEX_OK;
        VEX_TRY(status);
        VEX_TRY(is_shared(collection, &shared)); /* it may be a later log */
        *anew = true;
    }
    if (shared) {
        return begin_log(collection, collection->known.wal_number + 1);
    }
    /* Another process may have published without syncing (durability normal). */
    VEX_TRY(resume_log(collection, clean && !sealed ? 0 : collection->known.lsn));
    vex_status status = *anew ? VEX_OK : is_head_voided(collection, &voided);
    if (status == VEX_OK && !voided) {
        return VEX_OK;
    }
    vex_wal_writer_close(collection->wal);
    collection->wal = NULL;
    VEX_TRY(status);
    return go_on_in_log(collection, false, anew);
}

static vex_status open_log(vex_collection *collection, bool head_valid, bool *anew) {
    bool exists = false;
    *anew = !head_valid;
    VEX_TRY(vex_collection_log_exists(collection, collection->known.wal_number, &exists));
    VEX_TRY(exists ? go_on_in_log(collection, head_valid, anew)
                   : begin_log(collection, collection->known.wal_number));
    collection->known.wal_end = vex_wal_end(collection->wal);
    vex_wal_reader_close(collection->tail);
    collection->tail = NULL;
    return VEX_OK;
}

/* Whoever flushed may have been killed between the manifest and the head, or the head is void: then
 * the logs that we know are the past, and nobody would read what is added to them. */
static vex_status follow_manifest(vex_collection *collection, bool head_valid,
                                  const vex_head *head) {
    uint64_t newest = 0;
    VEX_TRY(vex_manifest_newest(collection->db->vfs, collection->dir, &newest));
    if (newest == collection->known.generation) {
        return VEX_OK;
    }
    collection->stale = true; /* it may be an older one: what we know was taken back */
    return vex_collection_follow(collection, newest,
                                 head_valid ? vex_limit_of(head) : (vex_replay_limit){0});
}

vex_status vex_collection_take_over(vex_collection *collection) {
    if (atomic_load(&collection->dropped)) {
        return vex_collection_gone(collection);
    }
    if (collection->poisoned) {
        return VEX_FAIL_AT(VEX_ERR_POISONED, collection->dir, 0, 0,
                           "an earlier write could not be made durable; close and reopen the "
                           "database to write again (everything acknowledged is safe)");
    }
    if (vex_db_volatile(collection->db)) {
        return VEX_OK;
    }
    vex_head head = {0};
    bool valid = false, behind = false;
    VEX_TRY(vex_collection_open_head(collection, false));
    /* Threads of this process may be between append and publishing: then `known` is ahead. */
    VEX_TRY(vex_collection_look(collection, &head, &valid, &behind));
    if (collection->poisoned) { /* a sync failed that was waited for */
        return vex_collection_take_over(collection);
    }
    if (behind) {
        VEX_TRY(vex_collection_follow(collection, head.generation,
                                      valid ? vex_limit_of(&head) : (vex_replay_limit){0}));
    }
    /* A delayed sync is no reason to trust the end of the log: others may have written since. */
    bool ours = collection->wal != NULL && collection->committing > 0;
    bool clean = ours, sealed = false;
    if (collection->wal != NULL && !ours && valid) {
        vex_status status = check_end(collection, valid, &clean, &sealed);
        if (status != VEX_ERR_NOT_FOUND) { /* else a flush removed the log: see follow_manifest */
            VEX_TRY(status);
        }
    }
    if (collection->wal != NULL && clean) {
        return VEX_OK;
    }
    if (collection->syncing > 0) { /* they have the log open; all may be different afterwards */
        vex_collection_wait_for_syncs(collection);
        return vex_collection_take_over(collection);
    }
    VEX_TRY(vex_collection_close_log(collection));
    VEX_TRY(follow_manifest(collection, valid, &head));
    /* The head is written when the names of the files that it stands for are durable. */
    if (!valid || head.generation != collection->known.generation ||
        head.wal_number != collection->known.wal_number) {
        VEX_TRY(vex_collection_sync_names(collection));
    }
    VEX_TRY(vex_collection_open_head(collection, true));
    bool anew = false;
    VEX_TRY(open_log(collection, valid, &anew));
    atomic_store(&collection->unsettled, false);
    return anew ? vex_publish_first(collection)
                : vex_publish(collection, collection->latest, &collection->known);
}

vex_status vex_collection_take_over_files(vex_collection *collection) {
    uint64_t newest = 0;
    if (!vex_db_volatile(collection->db) && !atomic_load(&collection->dropped)) {
        VEX_TRY(vex_manifest_newest(collection->db->vfs, collection->dir, &newest));
        if (newest != collection->known.generation) {
            vex_collection_wait_for_syncs(collection); /* they have the log open */
            collection->stale = true;
        }
    }
    return vex_collection_take_over(collection);
}

vex_status vex_collection_take_over_quiet(vex_collection *collection) {
    for (;;) {
        VEX_TRY(vex_collection_take_over_files(collection));
        if (collection->syncing == 0) {
            return VEX_OK;
        }
        vex_collection_wait_for_syncs(collection);
    }
}

/* ---- opening ---- */

/* Whoever has the lease gives it up after some milliseconds, unless it hangs. */
#define SETTLE_WAIT_MS 100

/* Under write_mu: are there bytes behind the end that the head tells, or might there be, since no
 * head does? */
static bool has_unsettled(vex_collection *collection, bool *head_valid) {
    vex_head head;
    bool clean = true, sealed = false;
    return !collection->poisoned && !atomic_load(&collection->unsettled) &&
           vex_collection_read_head(collection, &head, head_valid) == VEX_OK &&
           !(*head_valid && vex_collection_is_behind(collection, &head)) &&
           check_end(collection, *head_valid, &clean, &sealed) == VEX_OK && !clean;
}

/* Not when somebody is at work, who writes one. */
static vex_status write_first_head(vex_collection *collection) {
    vex_db *db = collection->db;
    if (vex_lease_try(db) == VEX_OK) {
        pthread_mutex_lock(&collection->write_mu);
        if (vex_collection_take_over(collection) != VEX_OK) {
            atomic_store(&collection->unsettled, true); /* left to the next write, which tells */
        }
        pthread_mutex_unlock(&collection->write_mu);
        vex_lease_release(db);
    }
    return VEX_OK;
}

vex_status vex_collection_settle(vex_collection *collection, bool opening) {
    vex_db *db = collection->db;
    bool head_valid = false;
    if (db->read_only || vex_db_volatile(db)) {
        return VEX_OK;
    }
    pthread_mutex_lock(&collection->write_mu);
    bool needed = has_unsettled(collection, &head_valid);
    /* Without a head that counts, every read would look for one, and at the log. */
    bool wanted = !head_valid && collection->head_file != NULL && !collection->poisoned &&
                  !atomic_load(&collection->unsettled);
    pthread_mutex_unlock(&collection->write_mu);
    if (!needed) {
        return wanted ? write_first_head(collection) : VEX_OK;
    }
    /* Without a head, whoever has the lease is about to write one: what it has not acknowledged must
     * not be shown meanwhile. */
    vex_status status = opening && !head_valid ? vex_lease_acquire(db)
                                               : vex_lease_acquire_within(db, SETTLE_WAIT_MS);
    if (status != VEX_OK) {
        return VEX_OK;
    }
    pthread_mutex_lock(&collection->write_mu);
    status = vex_collection_take_over(collection);
    if (status != VEX_OK) {
        atomic_store(&collection->unsettled, true); /* left to the next write */
    }
    pthread_mutex_unlock(&collection->write_mu);
    vex_lease_release(db);
    return status != VEX_ERR_IO
               ? VEX_OK
               : vex_fail_context(status, "the log of a killed writer cannot be made durable; open "
                                          "the database read-only to read what is there");
}

/* ---- closing ---- */

/* Sealing is worth a moment, not the whole busy timeout. */
#define SEAL_WAIT_MS 1000

void vex_collection_seal_log(vex_collection *collection) {
    vex_db *db = collection->db;
    vex_head head;
    bool ready = false, clean = false, sealed = false;
    if (!vex_db_syncs(db) || vex_lease_acquire_within(db, SEAL_WAIT_MS) != VEX_OK) {
        return;
    }
    pthread_mutex_lock(&collection->write_mu);
    /* Only who wrote the last record may say that nothing follows it. */
    if (collection->wal != NULL && !collection->poisoned && !collection->stale &&
        collection->syncing == 0 && vex_collection_read_head(collection, &head, &ready) == VEX_OK &&
        ready && vex_head_equal(&head, &collection->known) &&
        check_end(collection, true, &clean, &sealed) == VEX_OK && clean) {
        vex_status status = vex_wal_seal(collection->wal);
        if (status != VEX_OK && status != VEX_ERR_NO_SPACE) {
            vex_collection_sync_failed(collection);
        }
    }
    pthread_mutex_unlock(&collection->write_mu);
    vex_lease_release(db);
}
