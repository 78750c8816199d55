/*
 * catchup.h - what following other processes (catchup.c) and taking over their logs (takeover.c)
 * share.
 */
#ifndef VEX_DB_CATCHUP_H
#define VEX_DB_CATCHUP_H

#include "db/db.h"

/* Where replay must stop; not known: where the log's own tail rule says. */
typedef struct vex_replay_limit {
    bool known;
    uint64_t wal_number, wal_end;
    uint64_t recovery;
} vex_replay_limit;

/* Of a valid head. */
static inline vex_replay_limit vex_limit_of(const vex_head *head) {
    return (vex_replay_limit){true, head->wal_number, head->wal_end, head->recovery};
}

/* Note that the collection was dropped: VEX_ERR_NOT_FOUND. */
vex_status vex_collection_gone(vex_collection *collection);

/* The first writer makes the head; before, there is nothing that it could tell but that the whole
 * collection is gone. */
vex_status vex_collection_open_head(vex_collection *collection, bool create);
vex_status vex_collection_read_head(vex_collection *collection, vex_head *head, bool *valid);

/* That a log cannot be examined must not pass for its absence: its records would be missing. */
vex_status vex_collection_log_exists(const vex_collection *collection, uint64_t number,
                                     bool *exists);

/* Has another process committed more than `known`? */
bool vex_collection_is_behind(const vex_collection *collection, const vex_head *head);
/* Under write_mu: the head, and whether there is more than we know.  Then threads that sync are waited
 * for, since vex_collection_follow closes the log that they have open: nobody else can have written but
 * while they did without the lease (vex_collection_sync). */
vex_status vex_collection_look(vex_collection *collection, vex_head *head, bool *valid,
                               bool *behind);

/* Under write_mu, while nobody syncs: another process goes on in the log, or in another.  What is to be
 * synced later is synced now: nobody else knows of it.  VEX_ERR_IO poisons. */
vex_status vex_collection_close_log(vex_collection *collection);

/* Under write_mu: move `latest` to what is committed, and publish it.  A failure leaves `known`
 * and the memtable ahead of `latest`, so the next use loads everything anew.  Without a limit it is
 * not published: first it has to be written again. */
vex_status vex_collection_follow(vex_collection *collection, uint64_t generation,
                                 vex_replay_limit limit);

#endif
