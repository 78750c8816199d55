/*
 * space.c - keeping a disk from getting so full that deleting does not help.
 *
 * Deleting gives space back only after it was logged, flushed and merged, and each of these needs
 * some space first.  So what makes a database larger is refused while there still is room for that:
 * for what lies in memory to become files beside its log, for bitmaps of what died, a manifest, a new
 * log, and one file written anew, which gives space for the next.  Files are kept small in proportion
 * to the disk for that reason; it shows on disks below 32 GiB, and on those below 4 GiB memtables are
 * smaller, too.  Before a write is refused memtables are flushed, whose logs then give their space back.
 *
 * It is a look at the disk, not a lock on it: others may take the space all the same, and a quota is
 * seen only when it is reached.  Then writes fail where they are, which loses nothing either.
 */
#include "db/db.h"

#include "base/poison.h"

#define KEPT_BYTES ((uint64_t)64 << 10) /* new log, manifest, headers                       */
#define KEPT_PER_ROW 4u                 /* rows to a byte: bitmaps of a vec and a pay file  */
#define FILES_PER_DISK 32u              /* files are so much smaller than the disk, ...     */
#define FILE_MIN ((uint64_t)256 << 10)  /* ... though not smaller than this                 */
#define FILE_KEPT_MAX ((uint64_t)64 << 20)
#define FILES_PER_BYTE 2u                /* bytes of files for one in memory, at most        */
#define FLUSH_BYTES ((uint64_t)64 << 10) /* in memory that make a flush worth it             */
#define FLUSHES_MAX 16u                  /* others go on writing                             */
#define AMPLE_BYTES ((uint64_t)1 << 30)

/* False when it cannot be told, or does not matter. */
static bool look(const vex_db *db, vex_disk_space *out) {
    return !vex_db_volatile(db) && db->vfs->disk_space(db->vfs, db->path, out) == VEX_OK;
}

uint64_t vex_space_free(const vex_db *db) {
    vex_disk_space space;
    return look(db, &space) ? space.left : UINT64_MAX;
}

void vex_space_set_limits(vex_db *db) {
    vex_disk_space space;
    db->file_max = UINT64_MAX;
    if (look(db, &space)) {
        db->file_max = space.size / FILES_PER_DISK;
        db->file_max = db->file_max > FILE_MIN ? db->file_max : FILE_MIN;
        uint64_t memtable = db->file_max / FILES_PER_BYTE;
        db->options.memtable_bytes =
            db->options.memtable_bytes < memtable ? db->options.memtable_bytes : memtable;
    }
}

static uint64_t bytes_in_memory(vex_collection *collection) {
    vex_snapshot *snapshot = vex_collection_snapshot(collection);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < snapshot->n_mems; i++) {
        bytes += vex_memtable_bytes(snapshot->mems[i].table);
    }
    vex_snapshot_release(snapshot);
    return bytes;
}

/* The open collection with the most in memory, with a handle on it; one after the other is flushed, so
 * its files are the most that is needed at a time. */
static vex_collection *find_largest(vex_db *db, uint64_t *bytes) {
    vex_collection *largest = NULL;
    *bytes = 0;
    pthread_mutex_lock(&db->collections_mu);
    for (vex_collection *c = db->collections; c != NULL; c = c->next) {
        uint64_t held = atomic_load(&c->dropped) ? 0 : bytes_in_memory(c);
        if (held > *bytes) {
            *bytes = held;
            largest = c;
        }
    }
    if (largest != NULL) {
        largest->handles++;
    }
    pthread_mutex_unlock(&db->collections_mu);
    return largest;
}

/* What giving space back may need: bitmaps of all rows, and the largest file anew. */
static uint64_t kept_bytes(vex_collection *collection) {
    vex_snapshot *snapshot = vex_collection_snapshot(collection);
    uint64_t rows = snapshot->live_rows, largest = 0;
    for (uint32_t i = 0; i < snapshot->n_vecs; i++) {
        uint64_t size = snapshot->vecs[i].entry.size;
        largest = size > largest ? size : largest;
    }
    for (uint32_t i = 0; i < snapshot->n_pays; i++) {
        uint64_t size = snapshot->pays[i].entry.size;
        largest = size > largest ? size : largest;
    }
    vex_snapshot_release(snapshot);
    return rows / KEPT_PER_ROW + (largest < FILE_KEPT_MAX ? largest : FILE_KEPT_MAX);
}

void vex_space_settle(vex_db *db, vex_collection *collection) {
    if (collection != NULL) {
        (void)vex_index_let_go(collection);
    }
    if (vex_db_syncs(db)) {
        (void)(collection != NULL ? db->vfs->dir_sync(db->vfs, collection->dir)
                                  : vex_db_sync_collections(db));
    }
}

static vex_status refuse(const vex_db *db, uint64_t needed, uint64_t there) {
    return VEX_FAIL_AT(VEX_ERR_NO_SPACE, db->path, 0, ENOSPC,
                       "the disk is full: this write would leave too little for deleting to work "
                       "(%llu KiB are free, it needs %llu); free some space, or delete records or "
                       "collections, and try again",
                       (unsigned long long)(there >> 10), (unsigned long long)(needed >> 10));
}

bool vex_space_is_ample(vex_collection *collection, uint64_t bytes) {
    uint64_t there = vex_space_free(collection->db);
    uint64_t kept = KEPT_BYTES + kept_bytes(collection);
    return there > kept && there - kept > bytes;
}

vex_status vex_space_for_write(vex_db *db, vex_collection *collection, uint64_t bytes) {
    const uint64_t most_held = 8 * db->options.memtable_bytes; /* see BACK_PRESSURE_FACTOR */
    uint64_t there = vex_space_free(db);
    if (VEX_LIKELY(there >= AMPLE_BYTES && there / 4 >= bytes && there / 4 >= most_held)) {
        return VEX_OK;
    }
    uint64_t kept = KEPT_BYTES + (collection != NULL ? kept_bytes(collection) : 0);
    bool settled = false;
    for (uint32_t flushes = 0;; flushes++) {
        uint64_t held = 0;
        vex_collection *largest = find_largest(db, &held);
        uint64_t needed = kept + FILES_PER_BYTE * (held + bytes) + bytes;
        bool fits = there >= needed;
        bool flushed = !fits && held >= FLUSH_BYTES && flushes < FLUSHES_MAX &&
                       vex_collection_flush_now(largest, true) == VEX_OK;
        if (largest != NULL) {
            vex_collection_release(largest);
        }
        if (fits || (!flushed && settled)) {
            return fits ? VEX_OK : refuse(db, needed, there);
        }
        if (!flushed) {
            vex_space_settle(db, collection);
            settled = true;
        }
        there = vex_space_free(db);
    }
}
