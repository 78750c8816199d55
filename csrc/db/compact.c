/*
 * compact.c - merging a collection's files, in the background and on demand.
 *
 * One step (what to merge: compact_plan.h) goes like a flush: MAINT for all of it; under lease and
 * write_mu only to look at the newest manifest and, at the end, to commit the next.  Writers are
 * never kept out, but a flush needs MAINT: so that none waits, the step itself does the flushes
 * that become due while it writes.  It reserves its file numbers first, and what the flushes
 * change is carried over at the commit (store/compact.h).
 *
 * A step gives up when it stands in somebody's way: fork(), closing, dropping a collection, a backup.
 */
#include "db/compact_plan.h"
#include "db/db.h"

#include "base/poison.h"

#define NUMBERS_RESERVED 4096u            /* file numbers; a step needs two or three */
#define SPACE_MARGIN ((uint64_t)32 << 10) /* tables, a manifest; and an eighth of the estimate */
#define HELD_MAX 16u
#define RETRY_MIN_MS 1000u
#define RETRY_MAX_MS 60000u

typedef vex_status (*planner)(const vex_snapshot *snapshot, uint64_t file_max,
                              vex_compact_plan *plan, bool *found);

typedef struct step {
    vex_collection *collection;
    planner plan;
    uint64_t within; /* what a file may take, where there is no room for `plan`; 0 */
    bool found, interrupted;
    uint64_t next_file_no;          /* flushes take theirs from here                        */
    vex_collection *held[HELD_MAX]; /* others that were flushed: released without MAINT     */
    uint32_t n_held;
} step;

/* ---- flushes meanwhile ---- */

static bool is_held(const step *s, const vex_collection *collection) {
    bool found = collection == s->collection;
    for (uint32_t i = 0; i < s->n_held; i++) {
        found = found || s->held[i] == collection;
    }
    return found;
}

static vex_collection *next_flush(step *s) {
    vex_db *db = s->collection->db;
    vex_collection *found = NULL;
    pthread_mutex_lock(&db->collections_mu);
    for (vex_collection *c = db->collections; c != NULL && found == NULL; c = c->next) {
        bool held = is_held(s, c);
        if (atomic_load(&c->flush_wanted) && c->flush_failures == 0 && !atomic_load(&c->dropped) &&
            (held || s->n_held < HELD_MAX)) {
            found = c;
            if (!held) {
                c->handles++;
                s->held[s->n_held++] = c;
            }
        }
    }
    pthread_mutex_unlock(&db->collections_mu);
    return found;
}

/* Those that failed are left to the worker. */
static void flush_what_is_due(step *s) {
    for (vex_collection *c = next_flush(s); c != NULL; c = next_flush(s)) {
        bool own = c == s->collection;
        atomic_store(&c->flush_wanted, false);
        if (vex_collection_flush_held(c, false, own ? &s->next_file_no : NULL) != VEX_OK) {
            vex_worker_flush_later(c);
        } else if (!own) {
            vex_collection_note_files(c);
        }
    }
}

static vex_status pause_step(void *context) {
    step *s = context;
    vex_db *db = s->collection->db;
    if (vex_worker_stopping(db) || vex_fork_waits() || atomic_load(&db->maintenance_wanted) > 0) {
        s->interrupted = true;
        return VEX_FAIL(VEX_ERR_BUSY, "a compaction was interrupted; it is done later");
    }
    flush_what_is_due(s);
    return VEX_OK;
}

/* ---- one step ---- */

static vex_status begin(step *s, vex_compaction *compaction, vex_manifest *shape) {
    vex_collection *collection = s->collection;
    vex_db *db = collection->db;
    vex_compact_plan plan;
    VEX_TRY(vex_lease_acquire(db));
    pthread_mutex_lock(&collection->write_mu);
    vex_status status = vex_collection_take_over_files(collection);
    if (status == VEX_OK && s->within > 0) {
        vex_plan_within(collection->latest, s->within, s->plan == vex_plan_vacuum, &plan,
                        &s->found);
    } else if (status == VEX_OK) {
        status = s->plan(collection->latest, db->file_max, &plan, &s->found);
    }
    if (status == VEX_OK && s->found) {
        status = vex_compact_begin(db->vfs, collection->dir, db->uuid, collection->latest,
                                   &collection->manifest, &plan, compaction);
        shape->dimension = collection->manifest.dimension;
        shape->space = collection->manifest.space;
        s->next_file_no = collection->manifest.next_file_no + NUMBERS_RESERVED;
    }
    pthread_mutex_unlock(&collection->write_mu);
    vex_lease_release(db);
    return status;
}

static vex_status check_space(const step *s, const vex_compaction *compaction) {
    uint64_t estimate = vex_compact_estimate(compaction), there = vex_space_free(s->collection->db);
    uint64_t needed = estimate + estimate / 8 + SPACE_MARGIN;
    if (there < needed) {
        return VEX_FAIL_AT(VEX_ERR_NO_SPACE, s->collection->dir, 0, ENOSPC,
                           "merging files needs %llu KiB of free space, there are %llu; free some "
                           "space and try again",
                           (unsigned long long)(needed >> 10), (unsigned long long)(there >> 10));
    }
    return VEX_OK;
}

/* Plan what there is room for.  VEX_ERR_NO_SPACE when that is nothing. */
static vex_status begin_within_space(step *s, vex_compaction *compaction, vex_manifest *shape) {
    VEX_TRY(begin(s, compaction, shape));
    vex_status status = s->found ? check_space(s, compaction) : VEX_OK;
    uint64_t there = vex_space_free(s->collection->db);
    if (status == VEX_ERR_NO_SPACE && there > SPACE_MARGIN) {
        const vex_error failure = *vex_last_error();
        vex_compaction_clear(compaction);
        *compaction = (vex_compaction){0};
        s->within = (there - SPACE_MARGIN) / 9 * 8;
        VEX_TRY(begin(s, compaction, shape));
        status = s->found ? check_space(s, compaction)
                          : VEX_FAIL_AT(failure.code, failure.path, 0, failure.sys_errno, "%s",
                                        failure.message);
    }
    return status;
}

/* A copy of `from` with the new files. */
static vex_status carry(const vex_compaction *compaction, const vex_manifest *manifest,
                        const vex_snapshot *from, vex_snapshot **out) {
    vex_snapshot *next = NULL;
    VEX_TRY(vex_snapshot_copy(from, &next));
    vex_status status = vex_compact_carry(compaction, manifest, next);
    if (status != VEX_OK) {
        vex_snapshot_release(next);
        return status;
    }
    *out = next;
    return VEX_OK;
}

/* Under lease and write_mu: the manifest is the commit. */
static vex_status commit(vex_collection *collection, vex_compaction *compaction) {
    vex_db *db = collection->db;
    vex_manifest manifest = {0};
    vex_snapshot *latest = NULL, *sealed = NULL;
    bool writing = false;
    vex_status status;
    VEX_TRY_DONE(status, vex_compact_manifest(compaction, db->vfs, collection->dir, db->uuid,
                                              vex_db_syncs(db), &collection->manifest, &manifest));
    VEX_TRY_DONE(status, carry(compaction, &manifest, collection->latest, &latest));
    if (collection->sealed != NULL) { /* a flush failed; its next attempt finds the new files */
        VEX_TRY_DONE(status, carry(compaction, &manifest, collection->sealed, &sealed));
    }
    writing = true;
    VEX_TRY_DONE(status, vex_manifest_write(db->vfs, collection->dir, db->uuid, &manifest,
                                            vex_db_syncs(db)));
    vex_manifest_clear(&collection->manifest);
    collection->manifest = manifest;
    manifest = (vex_manifest){0};
    collection->known.generation = collection->manifest.generation;
    vex_snapshot_release(collection->latest);
    vex_snapshot_release(collection->sealed);
    collection->latest = latest;
    collection->sealed = sealed;
    return vex_publish(collection, latest, &collection->known);
done:
    if (status == VEX_ERR_POISONED) {
        vex_collection_commit_failed(collection);
    } else if (writing && status != VEX_ERR_NO_SPACE) {
        vex_collection_void_head(collection);
    }
    vex_snapshot_release(latest);
    vex_snapshot_release(sealed);
    vex_manifest_clear(&manifest);
    return status;
}

/* Under lease and write_mu.  The merged files do without rows that the log's records replaced, so
 * these must not be lost after them: with durability "normal" they may not be on the disk yet. */
static vex_status sync_log(vex_collection *collection) {
    if (collection->wal == NULL || !vex_db_syncs(collection->db)) {
        return VEX_OK;
    }
    vex_status status = vex_wal_sync_to(collection->wal, vex_wal_end(collection->wal));
    if (status != VEX_OK) {
        vex_collection_sync_failed(collection);
    }
    return status;
}

static vex_status end(vex_collection *collection, vex_compaction *compaction) {
    VEX_TRY(vex_lease_acquire(collection->db));
    pthread_mutex_lock(&collection->write_mu);
    vex_status status = vex_collection_take_over_quiet(collection); /* all published is durable */
    if (status == VEX_OK) {
        status = sync_log(collection);
    }
    if (status == VEX_OK) {
        status = commit(collection, compaction);
    }
    pthread_mutex_unlock(&collection->write_mu);
    vex_lease_release(collection->db);
    return status;
}

static vex_status do_step(step *s) {
    vex_collection *collection = s->collection;
    vex_db *db = collection->db;
    vex_compaction compaction = {0};
    vex_manifest shape = {0};
    vex_status status = begin_within_space(s, &compaction, &shape);
    if (status != VEX_OK || !s->found) {
        vex_compaction_clear(&compaction);
        return status;
    }
    const vex_pace pace = {VEX_BLOCK_LEVEL_COMPACT, pause_step, s};
    status = vex_compact_write(&compaction, db->vfs, collection->dir, db->uuid, &shape,
                               s->next_file_no - NUMBERS_RESERVED, vex_db_syncs(db), &pace);
    if (status == VEX_OK) {
        status = end(collection, &compaction);
    }
    if (status == VEX_OK) {
        vex_stat_add(VEX_STAT_COMPACTIONS, 1);
        vex_stat_add(VEX_STAT_COMPACTED_BYTES, (int64_t)compaction.bytes);
    }
    vex_compaction_clear(&compaction);
    if (!atomic_load(&collection->dropped)) {
        vex_collection_remove_leftovers(collection, status);
    }
    return status;
}

static vex_status run_step(step *s) {
    vex_db *db = s->collection->db;
    VEX_TRY(vex_maintenance_acquire(db));
    vex_status status = do_step(s);
    vex_maintenance_release(db);
    const vex_error failure = *vex_last_error();
    for (uint32_t i = 0; i < s->n_held; i++) {
        vex_collection_release(s->held[i]);
    }
    return status == VEX_OK ? VEX_OK
                            : VEX_FAIL_AT(status, failure.path, failure.offset, failure.sys_errno,
                                          "%s", failure.message);
}

/* On a full disk what the last step freed may not show yet. */
static vex_status run_step_in_space(step *s) {
    const step fresh = *s;
    vex_status status = run_step(s);
    if (status == VEX_ERR_NO_SPACE) {
        vex_space_settle(s->collection->db, s->collection);
        *s = fresh;
        status = run_step(s);
    }
    return status;
}

/* ---- in the background ---- */

void vex_collection_note_files(vex_collection *collection) {
    vex_compact_plan plan;
    bool found = false;
    pthread_mutex_lock(&collection->write_mu);
    vex_status status =
        vex_plan_background(collection->latest, collection->db->file_max, &plan, &found);
    pthread_mutex_unlock(&collection->write_mu);
    if (status == VEX_OK && found && !atomic_exchange(&collection->compact_wanted, true)) {
        vex_worker_wake(collection->db, VEX_WORKER_FILES);
    }
}

void vex_collection_compact_step(vex_collection *collection) {
    vex_vfs *vfs = collection->db->vfs;
    step s = {.collection = collection, .plan = vex_plan_background};
    atomic_store(&collection->compact_wanted, false); /* a flush may ask again meanwhile */
    vex_status status = run_step_in_space(&s);
    if (status == VEX_OK) {
        collection->compact_failures = 0;
        atomic_store(&collection->compact_after_ms, 0);
        if (s.found) {
            atomic_store(&collection->compact_wanted, true);
        }
        return;
    }
    uint32_t delay = RETRY_MIN_MS;
    if (!s.interrupted) {
        for (uint32_t i = 0; i < collection->compact_failures && delay < RETRY_MAX_MS; i++) {
            delay *= 2;
        }
        collection->compact_failures++;
    }
    atomic_store(&collection->compact_after_ms, vfs->clock_ms(vfs) + delay);
    atomic_store(&collection->compact_wanted, true);
}

/* ---- on demand ---- */

static bool has_dead(vex_collection *collection) {
    vex_snapshot *snapshot = vex_collection_snapshot(collection);
    bool any = vex_plan_has_dead(snapshot);
    vex_snapshot_release(snapshot);
    return any;
}

static vex_status vacuum(vex_collection *collection) {
    vex_db *db = collection->db;
    uint64_t steps_left = 1; /* writers may go on making dead rows: that is for the next time */
    VEX_TRY(vex_db_enter(db));
    vex_status status = vex_collection_flush_now(collection, true);
    if (status == VEX_OK) {
        vex_snapshot *snapshot = vex_collection_snapshot(collection);
        steps_left += 2 * ((uint64_t)snapshot->n_vecs + snapshot->n_pays); /* alone, then merged */
        vex_snapshot_release(snapshot);
    }
    vex_db_leave(db);
    for (bool more = true; status == VEX_OK && more && steps_left > 0; steps_left--) {
        step s = {.collection = collection, .plan = vex_plan_vacuum};
        VEX_TRY(vex_db_enter(db)); /* a fork comes between steps */
        status = run_step_in_space(&s);
        vex_db_leave(db);
        more = s.found;
        if (status != VEX_OK && s.interrupted) {
            status = VEX_OK;
            steps_left++;
            db->vfs->sleep_ms(db->vfs, 1);
        }
        if (status == VEX_ERR_NO_SPACE && !has_dead(collection)) {
            return VEX_OK; /* fewer files would be faster, but give no space back */
        }
    }
    return status;
}

vex_status vex_collection_compact(vex_collection *collection, uint32_t flags) {
    if (flags != 0) {
        return VEX_FAIL(VEX_ERR_INVALID, "unknown flags %u", (unsigned)flags);
    }
    atomic_fetch_add(&collection->jobs, 1);
    vex_status status = vacuum(collection);
    vex_index_want(collection);
    atomic_fetch_sub(&collection->jobs, 1);
    return status;
}

/* ---- waiting ---- */

#define WAIT_STEP_MS 2

static bool is_idle(vex_collection *collection) {
    return !atomic_load(&collection->flush_wanted) && !atomic_load(&collection->sync_wanted) &&
           !atomic_load(&collection->compact_wanted) && !atomic_load(&collection->index_wanted) &&
           atomic_load(&collection->tail_due_ms) == 0 && atomic_load(&collection->jobs) == 0;
}

/* What would be done in a moment is done now. */
static void hurry(vex_collection *collection) {
    vex_vfs *vfs = collection->db->vfs;
    uint64_t now = vfs->clock_ms(vfs), due = atomic_load(&collection->tail_due_ms);
    if (due > now) {
        atomic_compare_exchange_strong(&collection->tail_due_ms, &due, now);
    }
}

static vex_status wait_idle(vex_db *db, vex_collection *only, uint32_t timeout_ms) {
    uint64_t start = db->vfs->clock_ms(db->vfs);
    for (bool woken = false;; woken = true) {
        bool idle = true;
        VEX_TRY(vex_db_enter(db));
        pthread_mutex_lock(&db->collections_mu);
        for (vex_collection *c = db->collections; c != NULL; c = c->next) {
            if ((only == NULL || c == only) && !atomic_load(&c->dropped)) {
                hurry(c);
                idle = idle && is_idle(c);
            }
        }
        pthread_mutex_unlock(&db->collections_mu);
        for (int kind = 0; kind < VEX_WORKERS && !idle; kind++) {
            if (!woken || !vex_worker_runs(db, (vex_worker_kind)kind)) {
                vex_worker_wake(db, (vex_worker_kind)kind); /* a forked child has none yet */
            }
        }
        vex_db_leave(db);
        if (only != NULL && atomic_load(&only->dropped)) {
            return VEX_FAIL_AT(VEX_ERR_NOT_FOUND, only->dir, 0, 0, "the collection was deleted");
        }
        if (idle) {
            return VEX_OK;
        }
        if (timeout_ms != UINT32_MAX && db->vfs->clock_ms(db->vfs) - start >= timeout_ms) {
            return VEX_FAIL_AT(VEX_ERR_BUSY, db->path, 0, 0, "background work goes on after %u ms",
                               (unsigned)timeout_ms);
        }
        db->vfs->sleep_ms(db->vfs, WAIT_STEP_MS);
    }
}

vex_status vex_collection_wait_idle(vex_collection *collection, uint32_t timeout_ms) {
    return wait_idle(collection->db, collection, timeout_ms);
}

vex_status vex_db_wait_idle(vex_db *db, uint32_t timeout_ms) {
    return wait_idle(db, NULL, timeout_ms);
}
