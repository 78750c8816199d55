/*
 * transaction.h - several writes, to any collections of a database, of which all happen or none does.
 *
 * Under the lease, which no other thread shares as there is one file, and every write_mu, the steps of each collection become one batch (transaction_resolve.c)
 * and everything that can fail is done.  Then the batches are written to one file, <database>/transaction,
 * which is synced: from here on the transaction has happened.  They go to the logs, are synced and
 * published there, and the file is removed.  Whoever gets the lease and finds the file, because its
 * writer died, or a log failed, first appends what the logs lack (transaction_file.c).
 *
 * A batch of one collection alone needs none of this: a record of a log is all or nothing.  In durability
 * off the file is not synced, as nothing is.
 */
#ifndef VEX_DB_TRANSACTION_H
#define VEX_DB_TRANSACTION_H

#include "db/changed.h"
#include "db/commit.h"
#include "db/records.h"

#define VEX_TRANSACTION_NAME "transaction"

/* What a transaction does to one collection. */
typedef struct vex_share {
    vex_collection *collection;
    vex_changed records;
    vex_change change;
    vex_pending pending;
} vex_share;

/* Under write_mu, caught up: add what the step does to the share's batch. */
vex_status vex_share_resolve(vex_share *share, const vex_record *records, vex_arena *arena,
                             vex_step *step);
/* After the last step. */
void vex_share_settle(vex_share *share);

/* Under the lease and the write_mu of all: the commit point. */
vex_status vex_transaction_store(vex_db *db, const vex_share *shares, uint32_t n);
vex_status vex_transaction_remove(vex_db *db);
/* Under the lease, which is taken by this: finish a transaction that is there. */
vex_status vex_transaction_finish(vex_db *db);

#endif
