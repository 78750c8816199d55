/*
 * transaction.c - vex_transact: see transaction.h.
 */
#include "db/transaction.h"
#include "db/records.h"
#include "db/write.h"

#include "base/poison.h"

#define ARENA_CHUNK ((size_t)256 << 10)
#define LOG_ROOM ((uint64_t)64 << 10) /* that each log may take in advance */

typedef struct transaction {
    vex_db *db;
    vex_step *steps;
    vex_record **records; /* of each step                                                    */
    vex_share *shares;    /* in the order of their collections' addresses                    */
    uint32_t n_steps, n_shares;
    vex_arena *arena;
} transaction;

/* ---- before any lock ---- */

static vex_status check_step(const vex_db *db, const vex_step *step) {
    const vex_selection *selection = step->selection;
    if (step->collection == NULL || step->collection->db != db) {
        return VEX_FAIL(VEX_ERR_INVALID, "a step is of a collection of another database");
    }
    if (step->write == NULL &&
        (selection == NULL || (selection->ids == NULL && selection->filter == NULL))) {
        return VEX_FAIL(VEX_ERR_INVALID, "delete needs ids or a filter");
    }
    return VEX_OK;
}

static int compare_shares(const void *a, const void *b) {
    const uintptr_t x = (uintptr_t)((const vex_share *)a)->collection;
    const uintptr_t y = (uintptr_t)((const vex_share *)b)->collection;
    return x < y ? -1 : x > y;
}

static vex_share *share_of(const transaction *t, vex_collection *collection) {
    const vex_share key = {.collection = collection};
    return bsearch(&key, t->shares, t->n_shares, sizeof key, compare_shares);
}

static vex_status list_shares(transaction *t) {
    t->shares = vex_calloc(t->n_steps ? t->n_steps : 1, sizeof *t->shares);
    if (t->shares == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a transaction");
    }
    for (uint32_t i = 0; i < t->n_steps; i++) {
        t->shares[i].collection = t->steps[i].collection;
    }
    qsort(t->shares, t->n_steps, sizeof *t->shares, compare_shares);
    for (uint32_t i = 0; i < t->n_steps; i++) {
        if (i == 0 || t->shares[i].collection != t->shares[t->n_shares - 1].collection) {
            t->shares[t->n_shares++] = t->shares[i];
        }
    }
    return VEX_OK;
}

static uint64_t bytes_of(const vex_step *step) {
    const vex_write_request *request = step->write;
    if (request == NULL) {
        return 0;
    }
    const uint64_t vectors =
        request->vectors != NULL ? (uint64_t)request->n * request->dimension : 0;
    return vectors * sizeof(float) + request->records_len;
}

/* Parse everything, and wait for whom writers wait for. */
static vex_status begin(transaction *t) {
    uint64_t bytes = 0;
    t->records = vex_calloc(t->n_steps ? t->n_steps : 1, sizeof *t->records);
    if (t->records == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a transaction");
    }
    for (uint32_t i = 0; i < t->n_steps; i++) {
        const vex_step *step = &t->steps[i];
        VEX_TRY(check_step(t->db, step));
        if (step->write != NULL) {
            VEX_TRY(vex_records_parse(step->write, &t->records[i]));
            vex_index_wait_for_builder(step->collection,
                                       step->write->vectors != NULL ? step->write->n : 0);
        }
        bytes += bytes_of(step);
    }
    VEX_TRY(list_shares(t));
    VEX_TRY(vex_arena_create(&t->arena, ARENA_CHUNK));
    const uint64_t room = 2 * bytes + t->n_shares * LOG_ROOM;
    for (uint32_t i = 0; i < t->n_shares; i++) {
        if (bytes > 0) { /* deleting is never refused; all is written twice, to the file, too */
            VEX_TRY(vex_space_for_write(t->db, t->shares[i].collection, room));
        }
        vex_commit_wait_for_room(t->shares[i].collection);
    }
    return VEX_OK;
}

static void end(transaction *t) {
    for (uint32_t i = 0; t->records != NULL && i < t->n_steps; i++) {
        vex_free(t->records[i]);
    }
    for (uint32_t i = 0; t->shares != NULL && i < t->n_shares; i++) {
        vex_changed_clear(&t->shares[i].records);
        vex_change_clear(&t->shares[i].change);
    }
    vex_free(t->records);
    vex_free(t->shares);
    if (t->arena != NULL) {
        vex_arena_destroy(t->arena);
    }
}

/* ---- under the lease and all write_mu ---- */

static vex_status resolve(transaction *t) {
    for (uint32_t i = 0; i < t->n_shares; i++) {
        VEX_TRY(vex_collection_take_over(t->shares[i].collection));
    }
    for (uint32_t i = 0; i < t->n_steps; i++) {
        vex_share *share = share_of(t, t->steps[i].collection);
        VEX_TRY(vex_share_resolve(share, t->records[i], t->arena, &t->steps[i]));
    }
    return VEX_OK;
}

/* Leaves only the shares that change something: they come first. */
static vex_status prepare(transaction *t) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < t->n_shares; i++) {
        vex_share *share = &t->shares[i];
        vex_share_settle(share);
        if (share->change.batch.n_ops > 0) {
            VEX_TRY(vex_change_prepare(share->collection, &share->change));
            const vex_share moved = t->shares[kept];
            t->shares[kept++] = *share;
            if (share != &t->shares[kept - 1]) {
                *share = moved;
            }
        }
    }
    return VEX_OK;
}

static uint32_t count_changes(const transaction *t) {
    uint32_t n = 0;
    while (n < t->n_shares && t->shares[n].change.batch.n_ops > 0) {
        n++;
    }
    return n;
}

/* Nothing is in a log yet: as if it had not been stored, but for a power failure that brings the name
 * back. */
static bool take_back(const transaction *t) {
    const vex_error failure = *vex_last_error();
    const vex_status status = vex_transaction_remove(t->db);
    const bool taken = status == VEX_OK || status == VEX_ERR_NOT_FOUND;
    if (status == VEX_OK && vex_db_syncs(t->db)) {
        (void)t->db->vfs->dir_sync(t->db->vfs, t->db->path);
    }
    (void)vex_fail_at(failure.code, failure.path, failure.offset, failure.sys_errno, "%s",
                      failure.message);
    return taken;
}

/* Whatever the error just recorded asks for, such as to try again: the next writer carries it out. */
static vex_status will_happen(void) {
    const vex_error failure = *vex_last_error();
    return vex_fail_at(failure.code, failure.path, failure.offset, failure.sys_errno,
                       "the transaction is stored, and is carried out before the next write, or "
                       "when the database is opened; its logs could not be written: %s",
                       failure.message);
}

/* The file vouches for what follows in the logs, so it must not be there before they are: a batch that
 * was acknowledged in durability normal, and is not yet on the disk, would be missing behind it. */
static vex_status store(transaction *t, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        vex_collection *collection = t->shares[i].collection;
        vex_status status = vex_db_syncs(t->db)
                                ? vex_wal_sync_to(collection->wal, vex_wal_end(collection->wal))
                                : VEX_OK;
        if (status != VEX_OK) {
            vex_collection_sync_failed(collection);
            return status;
        }
        /* Deletions, too, which otherwise use what others have left: the file may take the last room. */
        VEX_TRY(vex_wal_make_room(collection->wal, vex_change_bytes(&t->shares[i].change), 0));
    }
    vex_status status = vex_transaction_store(t->db, t->shares, n);
    if (status == VEX_OK || take_back(t)) {
        return status;
    }
    for (uint32_t i = 0; i < n; i++) {
        vex_collection_sync_failed(t->shares[i].collection);
    }
    return will_happen();
}

/* Stored: what cannot be carried out now is by the next writer, and nobody writes here meanwhile. */
static vex_status carry_out(transaction *t, uint32_t n) {
    vex_status status = VEX_OK;
    uint32_t logged = 0;
    while (logged < n && status == VEX_OK) {
        status = vex_change_log(t->shares[logged].collection, &t->shares[logged].change);
        logged += status == VEX_OK;
    }
    const bool stays = n > 1 && (logged > 0 || status == VEX_ERR_POISONED ||
                                 vex_db_volatile(t->db) || !take_back(t));
    for (uint32_t i = 0; i < n; i++) {
        vex_share *share = &t->shares[i];
        if (status == VEX_OK) {
            vex_change_adopt(share->collection, &share->change);
            vex_pending_begin(share->collection, &share->pending);
        } else if (stays) {
            vex_collection_sync_failed(share->collection);
        }
    }
    return status != VEX_OK && stays ? will_happen() : status;
}

static vex_status write_shares(transaction *t, uint32_t *n) {
    VEX_TRY(resolve(t));
    VEX_TRY(prepare(t));
    *n = count_changes(t);
    if (*n > 1 && !vex_db_volatile(t->db)) {
        VEX_TRY(store(t, *n));
    }
    return carry_out(t, *n);
}

/* ---- after that ---- */

static vex_status sync_logs(const transaction *t, uint32_t n) {
    for (uint32_t i = 0; i < n && n > 1 && vex_db_syncs(t->db); i++) {
        const vex_pending *pending = &t->shares[i].pending;
        VEX_TRY(vex_wal_sync_to(pending->wal, pending->head.wal_end));
    }
    return VEX_OK;
}

/* All logs are on the disk before the first is shown; when one is not, none is. */
static vex_status finish(transaction *t, uint32_t n) {
    const bool synced = sync_logs(t, n) == VEX_OK;
    vex_error failure = {.code = VEX_OK};
    if (!synced) {
        failure = *vex_last_error();
    }
    for (uint32_t i = 0; i < n; i++) {
        const vex_share *share = &t->shares[i];
        if (!synced) {
            vex_pending_abandon(share->collection, &share->pending);
        } else if (vex_pending_finish(share->collection, &share->pending) != VEX_OK &&
                   failure.code == VEX_OK) {
            failure = *vex_last_error();
        }
    }
    if (failure.code != VEX_OK) {
        return vex_fail_at(failure.code, failure.path, failure.offset, failure.sys_errno, "%s",
                           failure.message);
    }
    if (n > 1 && !vex_db_volatile(t->db)) {
        (void)vex_transaction_remove(t->db); /* else the next who gets the lease does */
    }
    return VEX_OK;
}

static vex_status commit(transaction *t) {
    uint32_t n = 0;
    VEX_TRY(t->n_shares > 1 ? vex_lease_acquire_alone(t->db) : vex_lease_acquire(t->db));
    for (uint32_t i = 0; i < t->n_shares; i++) {
        pthread_mutex_lock(&t->shares[i].collection->write_mu);
    }
    vex_status status = write_shares(t, &n);
    for (uint32_t i = 0; i < t->n_shares; i++) {
        pthread_mutex_unlock(&t->shares[i].collection->write_mu);
    }
    if (status == VEX_OK) {
        status = finish(t, n);
    }
    vex_lease_release(t->db);
    for (uint32_t i = 0; i < t->n_shares; i++) {
        vex_memory_note_use(t->shares[i].collection);
    }
    return status;
}

vex_status vex_transact(vex_db *db, vex_step *steps, uint32_t n) {
    transaction t = {.db = db, .steps = steps, .n_steps = n};
    VEX_TRY(vex_db_enter(db));
    vex_status status = begin(&t);
    if (status == VEX_OK) {
        status = commit(&t);
    }
    end(&t);
    vex_db_leave(db);
    return status;
}
