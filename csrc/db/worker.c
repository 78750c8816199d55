/*
 * worker.c - one background thread per database: flushes memtables that grew full, and syncs
 * logs in durability "normal".
 *
 * The thread starts with the first request and works inside the gate, so fork() waits for it;
 * the child starts its own when it needs one.  It never decides anything: losing it costs
 * memory and recovery time, never data.
 */
#include "db/db.h"

#include "base/poison.h"

#define SYNC_DELAY_MS 50
#define RETRY_DELAY_MS 1000 /* after a failed flush (a full disk, say) */

/* Next collection that wants something, with a handle on it; NULL when none. */
static vex_collection *next_job(vex_db *db) {
    vex_collection *found = NULL;
    pthread_mutex_lock(&db->collections_mu);
    for (vex_collection *c = db->collections; c != NULL && found == NULL; c = c->next) {
        if (atomic_load(&c->flush_wanted) || atomic_load(&c->sync_wanted)) {
            c->handles++;
            found = c;
        }
    }
    pthread_mutex_unlock(&db->collections_mu);
    return found;
}

static bool do_job(vex_collection *collection) {
    vex_status status = VEX_OK;
    if (atomic_exchange(&collection->sync_wanted, false)) {
        status = vex_collection_sync(collection);
    }
    if (status == VEX_OK && atomic_exchange(&collection->flush_wanted, false) &&
        !atomic_load(&collection->dropped)) {
        status = vex_collection_flush_now(collection, false);
        if (status != VEX_OK) {
            collection->flush_failures++;
            atomic_store(&collection->flush_wanted, true);
        } else {
            collection->flush_failures = 0;
        }
    }
    return status == VEX_OK;
}

/* Sleep on the wake condition; false when the database is closing. */
static bool pause_ms(vex_db *db, uint32_t ms) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (long)(ms % 1000) * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
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
    bool fine = true;
    for (bool more = true; more && fine;) {
        more = false;
        if (vex_db_enter(db) == VEX_OK) {
            vex_collection *collection = next_job(db);
            if (collection != NULL) {
                more = true;
                fine = do_job(collection);
                vex_collection_release(collection);
            }
            vex_db_leave(db);
        }
    }
    return fine;
}

static void *run(void *argument) {
    vex_db *db = argument;
    pthread_mutex_lock(&db->worker_mu);
    while (!db->worker_stop) {
        if (!db->worker_pending) {
            pthread_cond_wait(&db->worker_wake, &db->worker_mu);
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
