/*
 * lease.c - the two locks between processes: LOCK (the lease to write) and MAINT (the right to
 * change manifests).
 *
 * Both are flock() on files that are never written, renamed or removed, so the kernel frees
 * them when a holder dies, however it dies.  Where somebody else did remove or replace one, or the
 * whole directory, two processes could each have "the" lock, and files that are open would be mixed
 * with others that are opened by path.  So whoever gets a lock looks whether its file is the one
 * that was there when the database was opened.  Within the process the lease is counted: the first
 * thread takes the flock, the last gives it back.  Threads that keep overlapping would never let
 * another process in, nor a thread that wants it for itself; so after LEASE_MAX_MS, or while such a
 * thread waits, newcomers wait until it was given back once.  Whoever waits in another process polls,
 * so the flock then stays free for a moment: it would hardly ever be met in the instant in between.
 *
 * Who gets the lease first finishes a transaction whose writer died (transaction.h).
 */
#include "db/db.h"
#include "db/transaction.h"

#include "base/poison.h"

#define LEASE_MAX_MS 20
#define POLL_MIN_MS 1
#define POLL_MAX_MS 5
/* More than half of the longest pause of who polls, and little beside LEASE_MAX_MS. */
#define LEAVE_FREE_MS 3

void vex_lock_file_init(vex_lock_file *lock) {
    *lock = (vex_lock_file){0};
    pthread_mutex_init(&lock->mutex, NULL);
    pthread_cond_init(&lock->freed, NULL);
}

static void close_file(vex_db *db, vex_lock_file *lock) {
    if (lock->file != NULL) {
        db->vfs->file_close(db->vfs, lock->file);
        lock->file = NULL;
    }
}

void vex_lock_file_destroy(vex_db *db, vex_lock_file *lock) {
    close_file(db, lock);
    pthread_cond_destroy(&lock->freed);
    pthread_mutex_destroy(&lock->mutex);
}

void vex_lock_file_forked(vex_db *db, vex_lock_file *lock) {
    /* Closing our copy of the descriptor leaves the parent's lock alone; unlocking would not. */
    close_file(db, lock);
    const vex_lock_file was = *lock;
    vex_lock_file_init(lock);
    lock->is_known = was.is_known;
    lock->device = was.device;
    lock->inode = was.inode;
}

/* `there`: what is at the path now. */
static vex_status check_identity(const vex_lock_file *lock, const vex_file_stat *there,
                                 const char *path) {
    if (lock->device == there->device && lock->inode == there->inode) {
        return VEX_OK;
    }
    return VEX_FAIL_AT(VEX_ERR_IO, path, 0, 0,
                       "the file was removed or replaced while the database was open, itself or "
                       "its directory, so nothing is written; close all clients of it, then open "
                       "it again");
}

vex_status vex_lock_file_open(vex_db *db, vex_lock_file *lock, const char *path) {
    vex_vfs *vfs = db->vfs;
    vex_file *file = NULL;
    vex_file_stat stat;
    if (lock->file != NULL) {
        return VEX_OK;
    }
    VEX_TRY(vfs->file_open(vfs, path, VEX_FILE_CREATE, &file));
    vex_status status = vfs->file_stat(vfs, file, &stat);
    if (status == VEX_OK && lock->is_known) {
        status = check_identity(lock, &stat, path);
    }
    if (status != VEX_OK) {
        vfs->file_close(vfs, file);
        return status;
    }
    lock->is_known = true;
    lock->device = stat.device;
    lock->inode = stat.inode;
    lock->file = file;
    return VEX_OK;
}

static vex_status check_present(vex_vfs *vfs, const vex_lock_file *lock, const char *path) {
    vex_file_stat there = {0};
    vex_status status = vfs->path_stat(vfs, path, &there);
    if (status != VEX_OK && status != VEX_ERR_NOT_FOUND) {
        return status;
    }
    return check_identity(lock, &there, path);
}

static vex_status is_locked(vex_db *db, const char *path, uint32_t timeout_ms, bool explain) {
    vex_lock_holder holder = {0};
    char who[80] = "another process";
    if (explain) { /* else nobody reads the message */
        db->vfs->path_lock_holder(db->vfs, path, &holder);
    }
    if (holder.pid != 0) {
        snprintf(who, sizeof who, "process %lld (%s)", (long long)holder.pid,
                 holder.name[0] != '\0' ? holder.name : "of unknown name");
    }
    return VEX_FAIL_AT(VEX_ERR_BUSY, path, 0, 0,
                       "the database is locked: %s has not given it free within %u ms; try "
                       "again, raise busy_timeout, or end that process if it hangs",
                       who, (unsigned)timeout_ms);
}

static vex_status take_flock(vex_db *db, vex_lock_file *lock, const char *name, uint32_t timeout_ms,
                             bool explain) {
    vex_vfs *vfs = db->vfs;
    char path[VEX_PATH_MAX];
    VEX_TRY(vex_path_join(path, db->path, name));
    VEX_TRY(vex_lock_file_open(db, lock, path));
    uint64_t start = vfs->clock_ms(vfs);
    for (uint32_t pause = POLL_MIN_MS;; pause = pause < POLL_MAX_MS ? pause * 2 : pause) {
        bool locked = false;
        VEX_TRY(vfs->file_try_lock(vfs, lock->file, &locked));
        if (locked) {
            vex_status status = check_present(vfs, lock, path);
            if (status != VEX_OK) {
                vfs->file_unlock(vfs, lock->file);
            }
            return status;
        }
        if (vfs->clock_ms(vfs) - start >= timeout_ms) {
            return is_locked(db, path, timeout_ms, explain);
        }
        vfs->sleep_ms(vfs, pause);
    }
}

static vex_status is_read_only(const vex_db *db) {
    char path[VEX_PATH_MAX];
    if (db->not_writable == NULL) {
        return VEX_FAIL_AT(VEX_ERR_READ_ONLY, db->path, 0, 0,
                           "the database is open read-only; open it without read_only, on "
                           "writable media, to change it");
    }
    VEX_TRY(vex_path_join(path, db->path, db->not_writable));
    return VEX_FAIL_AT(VEX_ERR_READ_ONLY, path, 0, db->not_writable_errno,
                       "the database is open read-only, because this process may not write the "
                       "file %s%s; make file and directory writable, then open it again",
                       db->not_writable,
                       db->not_writable_errno == EROFS ? ", which is on read-only media" : "");
}

/* For other processes, after this one had it for long. */
static void leave_free(vex_vfs *vfs, vex_lock_file *lock) {
    if (lock->was_long) {
        lock->was_long = false;
        if (vfs->clock_ms(vfs) - lock->released_ms < LEAVE_FREE_MS) {
            vfs->sleep_ms(vfs, LEAVE_FREE_MS);
        }
    }
}

/* `only_try`: do not wait for threads of this process either. */
static vex_status acquire(vex_db *db, vex_lock_file *lock, const char *name, bool shared,
                          uint32_t timeout_ms, bool only_try) {
    vex_vfs *vfs = db->vfs;
    if (db->read_only) {
        return is_read_only(db);
    }
    vex_status status = VEX_OK;
    if (!only_try) {
        pthread_mutex_lock(&lock->mutex);
    } else if (pthread_mutex_trylock(&lock->mutex) != 0) { /* somebody may be polling the flock */
        return VEX_FAIL(VEX_ERR_BUSY, "busy in another thread");
    }
    while (lock->holders > 0 && (!shared || lock->draining)) {
        if (only_try) {
            pthread_mutex_unlock(&lock->mutex);
            return VEX_FAIL(VEX_ERR_BUSY, "busy in another thread");
        }
        lock->draining = lock->draining || !shared;
        pthread_cond_wait(&lock->freed, &lock->mutex);
    }
    if (lock->holders == 0 && !vfs->is_volatile) {
        if (!only_try) {
            leave_free(vfs, lock);
        }
        status = take_flock(db, lock, name, timeout_ms, !only_try);
        if (status == VEX_OK && lock == &db->lease) {
            status = vex_transaction_finish(db);
            if (status != VEX_OK) {
                vfs->file_unlock(vfs, lock->file);
            }
        }
        lock->since_ms = vfs->clock_ms(vfs);
    }
    if (status == VEX_OK) {
        lock->holders++;
        lock->draining =
            !shared || (!vfs->is_volatile && vfs->clock_ms(vfs) - lock->since_ms > LEASE_MAX_MS);
    }
    pthread_mutex_unlock(&lock->mutex);
    return status;
}

static void release(vex_db *db, vex_lock_file *lock) {
    pthread_mutex_lock(&lock->mutex);
    if (--lock->holders == 0) {
        lock->draining = false;
        if (lock->file != NULL) {
            lock->released_ms = db->vfs->clock_ms(db->vfs);
            lock->was_long = lock->released_ms - lock->since_ms > LEASE_MAX_MS;
            db->vfs->file_unlock(db->vfs, lock->file);
        }
        pthread_cond_broadcast(&lock->freed);
    }
    pthread_mutex_unlock(&lock->mutex);
}

vex_status vex_lease_acquire(vex_db *db) {
    return acquire(db, &db->lease, "LOCK", true, db->options.busy_timeout_ms, false);
}

vex_status vex_lease_acquire_alone(vex_db *db) {
    return acquire(db, &db->lease, "LOCK", false, db->options.busy_timeout_ms, false);
}

vex_status vex_lease_acquire_within(vex_db *db, uint32_t ms) {
    uint32_t timeout = db->options.busy_timeout_ms;
    return acquire(db, &db->lease, "LOCK", true, ms < timeout ? ms : timeout, false);
}

vex_status vex_lease_try(vex_db *db) {
    return acquire(db, &db->lease, "LOCK", true, 0, true);
}

void vex_lease_release(vex_db *db) {
    release(db, &db->lease);
}

vex_status vex_maintenance_acquire(vex_db *db) {
    return acquire(db, &db->maintenance, "MAINT", false, db->options.busy_timeout_ms, false);
}

vex_status vex_maintenance_acquire_soon(vex_db *db) {
    atomic_fetch_add(&db->maintenance_wanted, 1);
    vex_status status = vex_maintenance_acquire(db);
    atomic_fetch_sub(&db->maintenance_wanted, 1);
    return status;
}

vex_status vex_maintenance_try(vex_db *db) {
    return acquire(db, &db->maintenance, "MAINT", false, 0, true);
}

void vex_maintenance_release(vex_db *db) {
    release(db, &db->maintenance);
}
