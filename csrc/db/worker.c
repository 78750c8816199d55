/*
 * worker.c - one background thread per database: flushes memtables that grew full, merges files,
 * builds graphs, and syncs logs in durability "normal".
 *
 * The thread starts with the first request and works inside the gate, so fork() waits for it;
 * the child starts its own when it needs one.  It never decides anything: losing it costs
 * memory and recovery time, never data.
 */
#include "db/db.h"

#include "base/poison.h"

#define SYNC_DELAY_MS 50
#define RETRY_DELAY_MS 1000 /* after a failed flush (a full disk, say) */
#define YIELD_MS 1
#define YIELD_PROCESSES_MS 12 /* longer than lease.c's polls are apart */
#define FLUSHES_IN_A_ROW 4u
#define FOR_EVER UINT64_MAX

/* Until the collection may be compacted. */
static uint64_t ms_to_wait(const vex_collection *collection) {
    vex_vfs *vfs = collection->db->vfs;
    uint64_t now = vfs->clock_ms(vfs), then = atomic_load(&collection->compact_after_ms);
    return then > now ? then - now : 0;
}

typedef struct job {
    vex_collection *collection; /* with a handle on it; NULL: nothing to do */
    bool compact, index;
} job;

static vex_collection *find_flush(const vex_db *db) {
    vex_collection *c = db->collections;
    for (; c != NULL; c = c->next) {
        if (vex_collection_ms_to_tail_flush(c) == 0) {
            atomic_store(&c->flush_wanted, true);
        }
        if (atomic_load(&c->flush_wanted) || atomic_load(&c->sync_wanted)) {
            break;
        }
    }
    return c;
}

static vex_collection *find_compaction(const vex_db *db) {
    vex_collection *c = db->collections;
    while (c != NULL &&
           (!atomic_load(&c->compact_wanted) || atomic_load(&c->dropped) || ms_to_wait(c) > 0)) {
        c = c->next;
    }
    return c;
}

static vex_collection *find_index(const vex_db *db) {
    vex_collection *c = db->collections;
    while (c != NULL && (!atomic_load(&c->index_wanted) || atomic_load(&c->dropped))) {
        c = c->next;
    }
    return c;
}

/* Flushes come first; but when they do not end, a step of a compaction comes in between (and does
 * the flushes that become due meanwhile), or files would become ever more.  Graphs are built when
 * nothing else is to be done. */
static job next_job(vex_db *db, uint32_t *flushes_in_a_row) {
    job next = {0};
    pthread_mutex_lock(&db->collections_mu);
    if (*flushes_in_a_row < FLUSHES_IN_A_ROW) {
        next.collection = find_flush(db);
    }
    if (next.collection == NULL) {
        next.collection = find_compaction(db);
        next.compact = next.collection != NULL;
    }
    if (next.collection == NULL) {
        next.collection = find_flush(db);
    }
    if (next.collection == NULL) {
        next.collection = find_index(db);
        next.index = next.collection != NULL;
    }
    *flushes_in_a_row = next.compact ? 0 : *flushes_in_a_row + 1;
    if (next.collection != NULL) {
        next.collection->handles++;
        atomic_fetch_add(&next.collection->jobs, 1);
    }
    pthread_mutex_unlock(&db->collections_mu);
    return next;
}

/* How long until a compaction that failed may be tried again, or rows in memory are to be flushed;
 * FOR_EVER when nothing waits. */
static uint64_t ms_to_next(vex_db *db) {
    uint64_t least = FOR_EVER;
    pthread_mutex_lock(&db->collections_mu);
    for (vex_collection *c = db->collections; c != NULL; c = c->next) {
        if (atomic_load(&c->dropped)) {
            continue;
        }
        uint64_t tail = vex_collection_ms_to_tail_flush(c);
        least = tail < least ? tail : least;
        if (atomic_load(&c->compact_wanted)) {
            uint64_t ms = ms_to_wait(c);
            least = ms < least ? ms : least;
        }
    }
    pthread_mutex_unlock(&db->collections_mu);
    return least;
}

static vex_status flush(vex_collection *collection) {
    if (atomic_load(&collection->dropped)) {
        atomic_store(&collection->flush_wanted, false);
        atomic_store(&collection->tail_due_ms, 0);
        return VEX_OK;
    }
    vex_status status = vex_collection_flush_wanted(collection);
    if (status != VEX_OK) {
        atomic_fetch_add(&collection->flush_failures, 1);
        atomic_store(&collection->flush_wanted, true);
    } else {
        atomic_store(&collection->flush_failures, 0);
        if (vex_collection_ms_to_tail_flush(collection) == 0) {
            atomic_store(&collection->tail_due_ms, 0); /* somebody else did it */
        }
    }
    return status;
}

static vex_status index_step(vex_collection *collection) {
    bool more = false;
    atomic_store(&collection->index_wanted, false);
    vex_status status = vex_index_step(collection, &more);
    if (more || status != VEX_OK) {
        atomic_store(&collection->index_wanted, true);
    }
    return status;
}

/* False when it failed. */
static bool do_job(const job *next) {
    vex_status status = VEX_OK;
    if (next->compact) {
        vex_collection_compact_step(next->collection);
        vex_index_want(next->collection);
        return true;
    }
    if (next->index) {
        return index_step(next->collection) == VEX_OK;
    }
    if (atomic_exchange(&next->collection->sync_wanted, false)) {
        status = vex_collection_sync(next->collection);
    }
    if (status == VEX_OK && atomic_load(&next->collection->flush_wanted)) {
        status = flush(next->collection);
    }
    return status == VEX_OK;
}

static struct timespec from_now(uint64_t ms) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += (time_t)(ms / 1000);
    until.tv_nsec += (long)(ms % 1000) * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    return until;
}

/* Sleep on the wake condition; false when the database is closing. */
static bool pause_ms(vex_db *db, uint32_t ms) {
    const struct timespec until = from_now(ms);
    pthread_mutex_lock(&db->worker_mu);
    int timed_out = 0;
    while (!db->worker_stop && timed_out == 0) {
        timed_out = pthread_cond_timedwait(&db->worker_wake, &db->worker_mu, &until);
    }
    bool go_on = !db->worker_stop;
    pthread_mutex_unlock(&db->worker_mu);
    return go_on;
}

/* Work until nothing is wanted; false when something failed. */
static bool do_all_jobs(vex_db *db) {
    uint32_t flushes_in_a_row = 0;
    bool fine = true;
    for (bool more = true; more && fine && !vex_worker_stopping(db);) {
        job next = {0};
        more = false;
        if (vex_db_enter(db) == VEX_OK) {
            next = next_job(db, &flushes_in_a_row);
            if (next.collection != NULL) {
                more = true;
                fine = do_job(&next);
                atomic_fetch_sub(&next.collection->jobs, 1);
                vex_collection_release(next.collection);
            }
            vex_db_leave(db);
        }
        if (next.compact) { /* let others have MAINT: threads, and processes that poll its lock */
            pause_ms(db, vex_db_volatile(db) ? YIELD_MS : YIELD_PROCESSES_MS);
        }
    }
    return fine;
}

/* Under worker_mu: until somebody wakes the worker, or something is due. */
static void sleep_until_wanted(vex_db *db) {
    pthread_mutex_unlock(&db->worker_mu);
    uint64_t ms = FOR_EVER;
    if (vex_db_enter(db) == VEX_OK) {
        ms = ms_to_next(db);
        vex_db_leave(db);
    }
    pthread_mutex_lock(&db->worker_mu);
    if (db->worker_pending || db->worker_stop) {
        return;
    }
    if (ms == FOR_EVER) {
        pthread_cond_wait(&db->worker_wake, &db->worker_mu);
    } else {
        const struct timespec until = from_now(ms + 1);
        db->worker_pending =
            pthread_cond_timedwait(&db->worker_wake, &db->worker_mu, &until) != 0 ||
            db->worker_pending;
    }
}

static void *run(void *argument) {
    vex_db *db = argument;
    pthread_mutex_lock(&db->worker_mu);
    while (!db->worker_stop) {
        if (!db->worker_pending) {
            sleep_until_wanted(db);
            continue;
        }
        db->worker_pending = false;
        pthread_mutex_unlock(&db->worker_mu);
        if (vex_db_durability(db) == VEX_DURABILITY_NORMAL && !vex_db_volatile(db)) {
            pause_ms(db, SYNC_DELAY_MS);
        }
        if (!do_all_jobs(db) && pause_ms(db, RETRY_DELAY_MS)) {
            vex_worker_wake(db);
        }
        pthread_mutex_lock(&db->worker_mu);
    }
    pthread_mutex_unlock(&db->worker_mu);
    return NULL;
}

void vex_worker_wake(vex_db *db) {
    pthread_mutex_lock(&db->worker_mu);
    db->worker_pending = true;
    if (!db->worker_running && !db->worker_stop) {
        db->worker_running = pthread_create(&db->worker, NULL, run, db) == 0;
    }
    pthread_cond_signal(&db->worker_wake);
    pthread_mutex_unlock(&db->worker_mu);
}

bool vex_worker_stopping(vex_db *db) {
    pthread_mutex_lock(&db->worker_mu);
    bool stop = db->worker_stop;
    pthread_mutex_unlock(&db->worker_mu);
    return stop;
}

void vex_worker_stop(vex_db *db) {
    pthread_mutex_lock(&db->worker_mu);
    bool running = db->worker_running;
    db->worker_stop = true;
    db->worker_running = false;
    pthread_cond_signal(&db->worker_wake);
    pthread_mutex_unlock(&db->worker_mu);
    if (running) {
        pthread_join(db->worker, NULL);
    }
}
