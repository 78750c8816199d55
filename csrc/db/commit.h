/*
 * commit.h - the steps of a commit (db.h), for who takes several collections through them together.
 */
#ifndef VEX_DB_COMMIT_H
#define VEX_DB_COMMIT_H

#include "db/db.h"

/* A resolved batch on its way into a collection.  All under write_mu: prepare may fail, and nothing
 * happened then; log, and adopt, which cannot fail, follow. */
typedef struct vex_change {
    vex_batch batch;           /* to be filled before                                             */
    uint64_t lsn;
    vex_snapshot *next;
    vex_buf meta;              /* the batch, encoded; nothing in memory                           */
    vex_iovec *parts;
    uint32_t n_parts;
} vex_change;

extern uint64_t vex_change_test_max; /* bytes of one, encoded; in place of 4 GiB, if not 0         */
vex_status vex_change_prepare(vex_collection *collection, vex_change *change);
uint64_t vex_change_bytes(const vex_change *change); /* encoded                                   */
vex_status vex_change_log(vex_collection *collection, const vex_change *change);
void vex_change_adopt(vex_collection *collection, vex_change *change);
void vex_change_clear(vex_change *change);

/* What a writer takes with it out of write_mu. */
typedef struct vex_pending {
    vex_snapshot *snapshot;
    vex_wal_writer *wal;
    vex_head head;
} vex_pending;

void vex_pending_begin(vex_collection *collection, vex_pending *pending); /* under write_mu       */
/* Outside write_mu: make it durable, then visible. */
vex_status vex_pending_finish(vex_collection *collection, const vex_pending *pending);
/* In its place, when it is not to be shown: as if its sync had failed. */
void vex_pending_abandon(vex_collection *collection, const vex_pending *pending);

/* Before the lease: hold a writer back while flushing cannot keep up; never when flushing fails. */
void vex_commit_wait_for_room(vex_collection *collection);

#endif
