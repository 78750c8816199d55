/*
 * worker.c - three background threads per database: one flushes memtables that grew full and merges
 * files, one builds graphs, and one syncs logs in durability "normal", so that nothing else is waited for.
 *
 * They start with the first request and work inside the gate, so fork() waits for them; the child
 * starts its own when it needs them.  They never decide anything: losing them costs memory and
 * recovery time, never data.
 */
#include "db/db.h"

#include "base/clock.h"
#include "base/poison.h"

#define SYNC_DELAY_MS 50
#define RETRY_DELAY_MS 1000 /* after a failed flush (a full disk, say) */
#define YIELD_MS 1
#define YIELD_PROCESSES_MS 12 /* longer than lease.c's polls are apart */
#define FLUSHES_IN_A_ROW 4u
#define FOR_EVER UINT64_MAX

/* Until something that failed may be tried again. */
static uint64_t ms_until(const vex_db *db, const atomic_uint_least64_t *time_ms) {
    uint64_t now = db->vfs->clock_ms(db->vfs), then = atomic_load(time_ms);
    return then > now ? then - now : 0;
}

static uint64_t least_of(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

typedef struct job {
    vex_collection *collection; /* with a handle on it; NULL: nothing to do */
    bool compact;
} job;

/* Who is written all the time keeps nobody else from being synced. */
static vex_collection *find_sync(const vex_worker *worker) {
    vex_collection *c = worker->db->collections;
    while (c != NULL && (!atomic_load(&c->sync_wanted) || c->sync_round == worker->round)) {
        c = c->next;
    }
    if (c != NULL) {
        c->sync_round = worker->round;
    }
    return c;
}

static vex_collection *find_flush(const vex_db *db) {
    vex_collection *c = db->collections;
    for (; c != NULL; c = c->next) {
        if (vex_collection_ms_to_tail_flush(c) == 0) {
            atomic_store(&c->flush_wanted, true);
        }
        if (atomic_load(&c->flush_wanted) && ms_until(db, &c->flush_after_ms) == 0) {
            break;
        }
    }
    return c;
}

static vex_collection *find_compaction(const vex_db *db) {
    vex_collection *c = db->collections;
    while (c != NULL && (!atomic_load(&c->compact_wanted) || atomic_load(&c->dropped) ||
                         ms_until(db, &c->compact_after_ms) > 0)) {
        c = c->next;
    }
    return c;
}

/* A turn ends without being asked for. */
static uint64_t ms_to_index(const vex_db *db, const vex_collection *c) {
    const uint64_t wanted =
        atomic_load(&c->index_wanted) ? ms_until(db, &c->index_after_ms) : FOR_EVER;
    const bool turn = atomic_load(&c->index.turn_ends_ms) != 0;
    return turn ? least_of(wanted, ms_until(db, &c->index.turn_ends_ms)) : wanted;
}

static vex_collection *find_index(const vex_db *db) {
    vex_collection *c = db->collections;
    while (c != NULL && (atomic_load(&c->dropped) || ms_to_index(db, c) > 0)) {
        c = c->next;
    }
    return c;
}

/* Flushes come first; but when they do not end, a step of a compaction comes in between (and does
 * the flushes that become due meanwhile), or files would become ever more. */
static job next_files_job(vex_db *db, uint32_t *flushes_in_a_row) {
    job next = {0};
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
    *flushes_in_a_row = next.compact ? 0 : *flushes_in_a_row + 1;
    return next;
}

static job next_job(const vex_worker *worker, uint32_t *flushes_in_a_row) {
    vex_db *db = worker->db;
    pthread_mutex_lock(&db->collections_mu);
    job next = {0};
    if (worker->kind == VEX_WORKER_FILES) {
        next = next_files_job(db, flushes_in_a_row);
    } else {
        next.collection = worker->kind == VEX_WORKER_SYNCS ? find_sync(worker) : find_index(db);
    }
    if (next.collection != NULL) {
        next.collection->handles++;
        atomic_fetch_add(&next.collection->jobs, 1);
    }
    pthread_mutex_unlock(&db->collections_mu);
    return next;
}

/* How long until something that failed may be tried again, or rows in memory are to be flushed; FOR_EVER
 * when nothing waits. */
static uint64_t ms_to_next_of(const vex_worker *worker, const vex_collection *c) {
    const vex_db *db = worker->db;
    uint64_t least = FOR_EVER;
    if (worker->kind == VEX_WORKER_GRAPHS) {
        return ms_to_index(db, c);
    }
    if (atomic_load(&c->flush_wanted)) {
        least = ms_until(db, &c->flush_after_ms);
    } else {
        least = vex_collection_ms_to_tail_flush(c);
    }
    return atomic_load(&c->compact_wanted) ? least_of(least, ms_until(db, &c->compact_after_ms))
                                           : least;
}

static uint64_t ms_to_next(const vex_worker *worker) {
    vex_db *db = worker->db;
    uint64_t least = FOR_EVER;
    pthread_mutex_lock(&db->collections_mu);
    for (vex_collection *c = db->collections; c != NULL; c = c->next) {
        least = atomic_load(&c->dropped) ? least : least_of(least, ms_to_next_of(worker, c));
    }
    if (worker->kind == VEX_WORKER_FILES) {
        least = least_of(least, vex_memory_ms_to_next(db));
    }
    pthread_mutex_unlock(&db->collections_mu);
    return least;
}

static void try_later(const vex_db *db, atomic_uint_least64_t *time_ms) {
    atomic_store(time_ms, db->vfs->clock_ms(db->vfs) + RETRY_DELAY_MS);
}

void vex_worker_flush_later(vex_collection *collection) {
    atomic_fetch_add(&collection->flush_failures, 1);
    try_later(collection->db, &collection->flush_after_ms);
    atomic_store(&collection->flush_wanted, true);
    vex_worker_wake(collection->db, VEX_WORKER_FILES);
}

static void flush(vex_collection *collection) {
    if (atomic_load(&collection->dropped)) {
        atomic_store(&collection->flush_wanted, false);
        atomic_store(&collection->tail_due_ms, 0);
    } else if (vex_collection_flush_wanted(collection) != VEX_OK) {
        vex_worker_flush_later(collection);
    } else {
        atomic_store(&collection->flush_failures, 0);
        vex_collection_settle_tail(collection);
    }
    vex_memory_note_work(collection);
}

static void index_step(vex_collection *collection) {
    bool more = false;
    atomic_store(&collection->index_wanted, false);
    vex_status status = vex_index_step(collection, &more);
    if (status != VEX_OK) {
        try_later(collection->db, &collection->index_after_ms);
    }
    if (more || status != VEX_OK) {
        atomic_store(&collection->index_wanted, true);
    } else {
        vex_memory_note_work(collection);
    }
}

/* What fails is tried again later, and nothing else waits for it. */
static void do_job(const vex_worker *worker, const job *next) {
    vex_collection *collection = next->collection;
    if (next->compact) {
        vex_collection_compact_step(collection);
        vex_index_want(collection);
        vex_memory_note_work(collection);
    } else if (worker->kind == VEX_WORKER_GRAPHS) {
        index_step(collection);
    } else if (worker->kind == VEX_WORKER_FILES) {
        flush(collection);
    } else if (atomic_exchange(&collection->sync_wanted, false)) {
        (void)vex_collection_sync(collection); /* a failure poisons: the next write tells */
    }
}

/* Sleep on the wake condition; false when the database is closing. */
static bool pause_ms(vex_db *db, uint32_t ms) {
    const struct timespec until = vex_from_now(ms);
    pthread_mutex_lock(&db->worker_mu);
    int timed_out = 0;
    while (!db->worker_stop && timed_out == 0) {
        timed_out = pthread_cond_timedwait(&db->worker_wake, &db->worker_mu, &until);
    }
    bool go_on = !db->worker_stop;
    pthread_mutex_unlock(&db->worker_mu);
    return go_on;
}

/* Work until nothing is wanted, but what has just failed. */
static void do_all_jobs(const vex_worker *worker) {
    vex_db *db = worker->db;
    uint32_t flushes_in_a_row = 0;
    for (bool more = true; more && !vex_worker_stopping(db);) {
        job next = {0};
        more = false;
        if (vex_db_enter(db) == VEX_OK) {
            next = next_job(worker, &flushes_in_a_row);
            if (next.collection != NULL) {
                more = true;
                do_job(worker, &next);
                atomic_fetch_sub(&next.collection->jobs, 1);
                vex_collection_release(next.collection);
            }
            vex_db_leave(db);
        }
        if (next.compact) { /* let others have MAINT: threads, and processes that poll its lock */
            pause_ms(db, vex_db_volatile(db) ? YIELD_MS : YIELD_PROCESSES_MS);
        }
    }
}

/* Under worker_mu: until somebody wakes the worker, or something is due. */
static void sleep_until_wanted(vex_worker *worker) {
    vex_db *db = worker->db;
    uint64_t ms = FOR_EVER;
    pthread_mutex_unlock(&db->worker_mu);
    if (worker->kind != VEX_WORKER_SYNCS && vex_db_enter(db) == VEX_OK) {
        if (worker->kind == VEX_WORKER_FILES) {
            vex_memory_keep(db);
        }
        ms = ms_to_next(worker);
        vex_db_leave(db);
    }
    pthread_mutex_lock(&db->worker_mu);
    if (worker->pending || db->worker_stop) {
        return;
    }
    if (ms == FOR_EVER) {
        pthread_cond_wait(&db->worker_wake, &db->worker_mu);
    } else {
        const struct timespec until = vex_from_now(ms + 1);
        worker->pending = pthread_cond_timedwait(&db->worker_wake, &db->worker_mu, &until) != 0 ||
                          worker->pending;
    }
}

static void *run(void *argument) {
    vex_worker *worker = argument;
    vex_db *db = worker->db;
    pthread_mutex_lock(&db->worker_mu);
    while (!db->worker_stop) {
        if (!worker->pending) {
            sleep_until_wanted(worker);
            continue;
        }
        worker->pending = false;
        pthread_mutex_unlock(&db->worker_mu);
        if (worker->kind == VEX_WORKER_SYNCS) {
            pause_ms(db, SYNC_DELAY_MS);
            worker->round++;
        }
        do_all_jobs(worker);
        pthread_mutex_lock(&db->worker_mu);
    }
    pthread_mutex_unlock(&db->worker_mu);
    return NULL;
}

void vex_worker_init(vex_db *db) {
    for (int kind = 0; kind < VEX_WORKERS; kind++) {
        db->workers[kind] = (vex_worker){.db = db, .kind = (vex_worker_kind)kind};
    }
}

void vex_worker_wake(vex_db *db, vex_worker_kind kind) {
    vex_worker *worker = &db->workers[kind];
    pthread_mutex_lock(&db->worker_mu);
    worker->pending = true;
    if (!worker->running && !db->worker_stop) {
        worker->running = pthread_create(&worker->thread, NULL, run, worker) == 0;
    }
    pthread_cond_broadcast(&db->worker_wake);
    pthread_mutex_unlock(&db->worker_mu);
}

bool vex_worker_runs(const vex_db *db, vex_worker_kind kind) {
    return atomic_load(&db->workers[kind].running);
}

bool vex_worker_stopping(vex_db *db) {
    pthread_mutex_lock(&db->worker_mu);
    bool stop = db->worker_stop;
    pthread_mutex_unlock(&db->worker_mu);
    return stop;
}

void vex_worker_stop(vex_db *db) {
    bool running[VEX_WORKERS];
    pthread_mutex_lock(&db->worker_mu);
    db->worker_stop = true;
    for (int kind = 0; kind < VEX_WORKERS; kind++) {
        running[kind] = db->workers[kind].running;
        db->workers[kind].running = false;
    }
    pthread_cond_broadcast(&db->worker_wake);
    pthread_mutex_unlock(&db->worker_mu);
    for (int kind = 0; kind < VEX_WORKERS; kind++) {
        if (running[kind]) {
            pthread_join(db->workers[kind].thread, NULL);
        }
    }
}
