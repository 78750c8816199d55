/*
 * db.h - the engine's top: databases, collections, and who may do what when.
 *
 * LOCKS, in the order they may be taken
 *   registry   process-wide list of open databases
 *   gate       (per database, reader-writer) held shared by every API call and by the worker
 *              while it works, exclusively across fork(): so a fork never sees a held lock
 *   MAINT      (flock + mutex) the right to change manifests: one flush or compaction at a time
 *   LOCK       (flock, counted in lease.c) the lease: the right to append to logs
 *   collections_mu  the database's table of open collections
 *   write_mu   (per collection) the writer's state: latest, log, memtable, catching up
 *   publish_mu (per collection) the published snapshot and index, and the head
 *
 * READING takes none of them but publish_mu for the moment of acquiring the snapshot.
 *
 * WRITING (commit.c): lease -> write_mu -> catch up with other processes -> resolve the request
 * against `latest` -> prepare memory -> append to the log -> apply -> `latest` = next; leave
 * write_mu; sync (shared by concurrent writers); publish; head; give the lease back.  `latest`
 * may be ahead of `published` by what is appended but not yet durable.
 *
 * FLUSHING (flush.c): MAINT -> seal the memtable under lease and write_mu (the log is synced
 * and a new one begun) -> write files under MAINT alone -> commit the manifest and publish under
 * lease and write_mu.  Manifests change only under MAINT, so nobody else can have moved on.
 *
 * FULL DISKS (space.c): what adds is refused while there still is room for what frees.
 *
 * COMPACTING (compact.c): the same, with files in the place of memtables; flushes that become due
 * meanwhile are done in between, by the same thread.
 *
 * OTHER PROCESSES (catchup.c): before each call the head is read (one pread).  When it differs
 * from what this process knows, the log's tail is replayed, or after another process's flush the
 * collection is loaded anew.  Opening, and the first write under a lease (takeover.c), also look whether
 * bytes lie behind the committed end: then a writer died, and its whole records are kept, the torn one
 * cut, and the log re-persisted before anything is acknowledged on top of it.
 */
#ifndef VEX_DB_DB_H
#define VEX_DB_DB_H

#include "db/head.h"
#include "db/index.h"
#include "db/keys.h"
#include "store/flush.h"
#include "store/snapshot.h"
#include "store/superblock.h"
#include "wal/wal.h"

#include <pthread.h>
#include <stdatomic.h>

typedef struct vex_lock_file {
    pthread_mutex_t mutex;
    pthread_cond_t freed;
    vex_file *file;            /* in a forked process NULL until it is needed                     */
    bool is_known;             /* which file it is, that is, `device` and `inode`: told once, when
                                  the database is opened, and true of forked processes, too         */
    uint64_t device, inode;
    uint32_t holders;          /* threads of this process holding it                              */
    uint64_t since_ms;         /* when the flock was taken                                        */
    uint64_t released_ms;      /* when it was given back ...                                       */
    bool was_long;             /* ... after a time that others should get a chance                 */
    bool draining;             /* held too long, or wanted alone: newcomers wait until it was
                                  given up once                                                   */
} vex_lock_file;

/* Background threads of a database: making a graph anew must not keep a flush waiting. */
typedef enum vex_worker_kind {
    VEX_WORKER_FILES,          /* flushes, compaction                                             */
    VEX_WORKER_GRAPHS,
    VEX_WORKER_SYNCS,          /* delayed ones                                                    */
    VEX_WORKERS
} vex_worker_kind;

typedef struct vex_worker {
    vex_db *db;
    vex_worker_kind kind;
    pthread_t thread;
    atomic_bool running;
    bool pending;
    uint64_t round;            /* of syncs: each collection has its turn once in it               */
} vex_worker;

struct vex_db {
    vex_vfs *vfs;
    char *path;
    uint64_t device, inode;
    uint8_t uuid[16];
    vex_db_options options;
    uint64_t file_max;         /* bytes that a file should have: a small part of the disk         */
    bool read_only;            /* asked for, or the medium is                                     */
    const char *not_writable;  /* the file for whose sake it is read-only unasked, or NULL ...    */
    int not_writable_errno;    /* ... and why                                                     */
    atomic_bool names_synced;  /* the names of superblock and collections/ are durable            */
    uint32_t handles;          /* vex_db_open calls not yet closed; guarded by the registry       */
    vex_db *next;              /* registry list                                                   */
    pthread_rwlock_t gate;
    uint32_t epoch;            /* fork epoch this state belongs to                                */
    vex_lock_file lease, maintenance;
    pthread_mutex_t collections_mu;
    vex_collection *collections;

    pthread_mutex_t worker_mu; /* of the workers                                                   */
    pthread_cond_t worker_wake;
    vex_worker workers[VEX_WORKERS];
    bool worker_stop;
    atomic_uint maintenance_wanted; /* by calls that compaction gives way to: a drop, a backup     */
    uint64_t memory_due_ms;    /* when to compare with the limit again; of the worker of files    */
};

struct vex_collection {
    vex_db *db;
    vex_collection *next;
    uint8_t uuid[16];
    char *dir;
    uint32_t handles;          /* guarded by collections_mu                                       */
    atomic_bool dropped;

    pthread_mutex_t write_mu;
    pthread_cond_t syncs_done;
    vex_snapshot *latest;      /* newest state, maybe not yet durable                             */
    vex_manifest manifest;     /* newest known                                                    */
    vex_key_set keys;
    vex_wal_writer *wal;       /* NULL until the first write here since catching up               */
    vex_wal_reader *tail;      /* where catching up goes on; NULL while this process writes        */
    vex_snapshot *sealed;      /* state when the newest sealed memtable was sealed; NULL if none  */
    uint64_t seal_wal[VEX_MEMTABLES_MAX]; /* first log after sealed memtable i                     */
    uint32_t syncing;          /* writers between append and end of sync, and delayed syncs       */
    uint32_t committing;       /* of these the former: they have the lease, and looked at the log */
    uint32_t batches_since_sync;
    bool poisoned;
    bool stale;                /* catching up failed half-way: load anew before the next use      */
    vex_head known;            /* state of `latest` in terms of files                             */

    pthread_mutex_t publish_mu;
    vex_snapshot *published;
    vex_head published_head;
    bool head_void;            /* by a failed sync: not written any more                          */
    atomic_bool unsettled;     /* taking a dead writer's log over failed: not tried for reading   */
    _Atomic(vex_file *) head_file; /* set once; NULL until somebody wrote the collection            */

    /* worker: what is wanted, and how many jobs run */
    atomic_bool flush_wanted, sync_wanted, compact_wanted, index_wanted;
    atomic_uint jobs, flush_failures;
    atomic_uint_least64_t tail_due_ms;      /* when rows in memory should be in files; 0: any time */
    atomic_uint_least64_t used_ms;          /* when it was read or written last                   */
    atomic_bool touched;                    /* since its pages were given back                    */
    uint32_t compact_failures;              /* in a row                                           */
    uint64_t sync_round;       /* of the worker of syncs: the last one that it had its turn in    */
    /* Not before, by the vfs's clock: what failed is tried again later. */
    atomic_uint_least64_t compact_after_ms, flush_after_ms, index_after_ms;
    vex_index index;
};

/* ---- registry.c ---- */
#ifdef VEX_TESTING
extern vex_vfs *vex_db_test_files; /* opened instead of real files when not NULL                  */
#endif
/* Real files, but in tests. */
vex_vfs *vex_db_files(void);
/* Register what the layers above store know of its files; once per process. */
void vex_db_set_up_process(void);
/* Enter and leave an API call on a database. */
vex_status vex_db_enter(vex_db *db);
void vex_db_leave(vex_db *db);
/* Threads that share a batch of queries: VEXFS_THREADS, else as many as there are processors. */
uint32_t vex_query_threads(void);
/* Is a thread about to fork, waiting for calls to end? */
bool vex_fork_waits(void);
static inline bool vex_db_volatile(const vex_db *db) {
    return db->vfs->is_volatile;
}
/* A later opening of the same directory may raise it. */
static inline uint32_t vex_db_durability(const vex_db *db) {
    return __atomic_load_n(&db->options.durability, __ATOMIC_RELAXED);
}
static inline bool vex_db_syncs(const vex_db *db) {
    return !db->vfs->is_volatile && vex_db_durability(db) != VEX_DURABILITY_OFF;
}

/* ---- lease.c ---- */
void vex_lock_file_init(vex_lock_file *lock);
void vex_lock_file_destroy(vex_db *db, vex_lock_file *lock);
/* Open it, unless it is, and make it where there is none.  VEX_ERR_IO when another file has taken
 * its place since the database was opened. */
vex_status vex_lock_file_open(vex_db *db, vex_lock_file *lock, const char *path);
/* After fork(): the inherited descriptor shares its flock with the parent; forget it. */
void vex_lock_file_forked(vex_db *db, vex_lock_file *lock);
/* The lease: many threads of this process hold it together.  VEX_ERR_BUSY when another process
 * keeps it past the busy timeout; VEX_ERR_READ_ONLY. */
vex_status vex_lease_acquire(vex_db *db);
vex_status vex_lease_acquire_within(vex_db *db, uint32_t ms); /* or the timeout, if shorter */
/* Without other threads of this process: then no write is anywhere between its beginning and its
 * acknowledgement, in any process. */
vex_status vex_lease_acquire_alone(vex_db *db);
vex_status vex_lease_try(vex_db *db); /* without waiting for anybody */
void vex_lease_release(vex_db *db);
/* The right to change manifests: one thread of one process. */
vex_status vex_maintenance_acquire(vex_db *db);
vex_status vex_maintenance_acquire_soon(vex_db *db); /* a compaction of this process gives way       */
vex_status vex_maintenance_try(vex_db *db);
void vex_maintenance_release(vex_db *db);

/* ---- collection.c ---- */
#define VEX_DROPPED_SUFFIX ".dropped" /* of directories whose removal has begun                   */
/* The directory of a collection of the database in `path`, into out[VEX_PATH_MAX]. */
vex_status vex_collection_path(const char *path, const uint8_t uuid[16], char *out);
/* `file` as a path below `path`, in itself; names in reports, as a path need not be UTF-8. */
const char *vex_path_below(const char *path, const char *file);
vex_status vex_collection_directory(const vex_db *db, const uint8_t uuid[16], char **out);
#define VEX_FORKING_SUFFIX ".forking" /* of forks that are not yet whole */
/* of a repaired copy, whole and durable, that takes the place of its collection when that was moved away */
#define VEX_REPAIRED_SUFFIX ".repaired"
/* By the head, tell who has the collection open that its directory goes. */
vex_status vex_collection_announce_gone(vex_vfs *vfs, const uint8_t uuid[16], const char *dir);
/* Make the names in collections/ durable. */
vex_status vex_db_sync_collections(vex_db *db);
/* Make the names of a collection's files, and its own, durable: a writer may have been killed between
 * giving a file its name and syncing it. */
vex_status vex_collection_sync_names(const vex_collection *collection);
/* Loaded from disk, in no table; and its end, without any tidying. */
vex_status vex_collection_make(vex_db *db, const uint8_t *uuid, vex_collection **out);
void vex_collection_free(vex_collection *collection);
/* Give a handle back; the last one syncs, maybe flushes, and frees. */
void vex_collection_release(vex_collection *collection);
/* Free whatever the handle count (closing the database). */
void vex_collection_destroy(vex_collection *collection);
/* Reference to the state readers see. */
vex_snapshot *vex_collection_snapshot(vex_collection *collection);

/* ---- read.c ---- */
/* Every read's frame: enter the database, see what other processes committed, take the snapshot
 * that readers see; and give both back, with the status of what was done in between. */
vex_status vex_read_begin(vex_collection *collection, vex_snapshot **snapshot);
vex_status vex_read_end(vex_collection *collection, vex_snapshot *snapshot, vex_status status);
/* Damage of which no single file could be named (files that contradict each other) is in the
 * collection's directory; returns `status`. */
vex_status vex_collection_place(const vex_collection *collection, vex_status status);

/* ---- catchup.c, takeover.c ---- */
/* Load from disk for the first time (write_mu not needed yet). */
vex_status vex_collection_load(vex_collection *collection);
/* Before a read: see what other processes committed. */
vex_status vex_collection_refresh(vex_collection *collection);
/* Before a write, under lease and write_mu: the same, and make the log ready to append. */
vex_status vex_collection_take_over(vex_collection *collection);
/* Before changing files, under MAINT besides: the same, on the newest manifest, even when whoever wrote
 * it was killed before the head told of it. */
vex_status vex_collection_take_over_files(vex_collection *collection);
/* The same, and no record is between append and end of sync: what is published from here is durable. */
vex_status vex_collection_take_over_quiet(vex_collection *collection);
/* After opening: a batch that a killed writer logged, but did not acknowledge, counts from the first
 * read on, or never: else get() would miss what an add() then finds there.  Best effort: when it is not
 * possible now (a hung lease holder, a full disk), the next write does it.  VEX_ERR_IO when the disk
 * fails: then nobody knows what counts.  Reading does the same when a failed sync has left no
 * head that counts. */
vex_status vex_collection_settle(vex_collection *collection, bool opening);
/* At a clean close: mark the end of the log, when it is ours, so that damage of its last record is
 * told from a torn write.  Without the mark all is safe, too. */
void vex_collection_seal_log(vex_collection *collection);

/* ---- commit.c ---- */
/* Fill `batch` from the state in `latest`; called under write_mu. */
typedef vex_status (*vex_resolver)(void *context, const vex_snapshot *latest, vex_batch *batch);
/* Resolve, log, apply, sync, publish: the one way that data changes. */
vex_status vex_commit(vex_collection *collection, vex_resolver resolve, void *context);
/* Make `snapshot` what readers see, if it is newer; tells other processes. */
vex_status vex_publish(vex_collection *collection, vex_snapshot *snapshot, const vex_head *head);
/* The newest state, after the logs were looked at; only this makes a head of a void one. */
vex_status vex_publish_first(vex_collection *collection);
/* A sync of the log failed, under write_mu: no more writes, and whatever the page cache shows of the
 * log is written again before anything is added, by whoever does so.  The head must not vouch for it:
 * in durability normal it is ahead of the syncs. */
void vex_collection_sync_failed(vex_collection *collection);
/* Have no head count, until somebody has taken the log over. */
void vex_collection_void_head(vex_collection *collection);
/* Under the lease, which is waited for so long; without it when that is over.  Keeps the error. */
void vex_collection_void_head_again(vex_collection *collection, uint32_t wait_ms);
/* A manifest could not be committed, under write_mu: it may or may not be on the disk, and others may
 * have seen it, so all of them read what is there. */
void vex_collection_commit_failed(vex_collection *collection);
/* Sync what is appended (durability normal; closing). */
vex_status vex_collection_sync(vex_collection *collection);

/* ---- flush.c ---- */
/* Seal and write out; `everything` also when the memtable is small. */
vex_status vex_collection_flush_now(vex_collection *collection, bool everything);
/* Under lease and write_mu, when no record is being synced: close the log and begin a new one. */
vex_status vex_collection_rotate_log(vex_collection *collection);
/* Whoever forks begins a log each time: so many are flushed. */
#define VEX_LOGS_MAX 32u
/* The same when it is still wanted once MAINT is there. */
vex_status vex_collection_flush_wanted(vex_collection *collection);
/* The same by who has MAINT.  A compaction of the collection that is under way gives the first
 * file number that it does not need; else NULL. */
vex_status vex_collection_flush_held(vex_collection *collection, bool everything,
                                     const uint64_t *first_file_no);
bool vex_collection_wants_flush(const vex_collection *collection);
/* The tail: rows in memory, which are searched one by one though there is a graph to be in.  Are
 * there many? */
bool vex_collection_has_tail(const vex_collection *collection, const vex_snapshot *snapshot);
/* Then have them flushed in so many ms, if that is not to be done anyway; true: wake the worker. */
bool vex_collection_note_tail(vex_collection *collection, const vex_snapshot *snapshot,
                              uint32_t ms);
/* Until that flush; UINT64_MAX: none is to be done. */
uint64_t vex_collection_ms_to_tail_flush(const vex_collection *collection);
/* Under write_mu, after another process flushed: what is due is due for what it left. */
void vex_collection_renew_tail(vex_collection *collection);
/* After a flush: none is, if no tail is left.  There may be one: of rows that came meanwhile. */
void vex_collection_settle_tail(vex_collection *collection);
/* Under write_mu: until no record is between append and end of sync. */
void vex_collection_wait_for_syncs(vex_collection *collection);
/* After a step that may have failed, whose error stays the thread's. */
void vex_collection_remove_leftovers(vex_collection *collection, vex_status step);

/* ---- space.c ---- */
/* Opening: keep files and memtables so small that one can be written anew on a full disk. */
void vex_space_set_limits(vex_db *db);
/* May the database become larger, by a write of so many bytes to the collection (NULL: by something
 * new)?  VEX_ERR_NO_SPACE when deleting might not find room then.  Flushes if that helps; no locks
 * may be held. */
vex_status vex_space_for_write(vex_db *db, vex_collection *collection, uint64_t bytes);
/* Free bytes of the disk; UINT64_MAX when that cannot be told, or does not matter. */
uint64_t vex_space_free(const vex_db *db);
/* On a full disk: have what was removed show as free.  Some file systems count it when the removal is
 * durable, and a graph keeps the files that were merged.  MAINT may not be held. */
void vex_space_settle(vex_db *db, vex_collection *collection);
/* Is there room for so many bytes of what can be done without? */
bool vex_space_is_ample(vex_collection *collection, uint64_t bytes);

/* ---- compact.c ---- */
/* After files were added or rows died: have the worker merge files, if that pays off. */
void vex_collection_note_files(vex_collection *collection);
/* One step in the background; a failure is tried again later, and ever later. */
void vex_collection_compact_step(vex_collection *collection);

/* ---- index.c ---- */
void vex_index_init(vex_index *index, uint32_t rows);
void vex_index_clear(vex_index *index);
/* Without unlocking it, as a forked process may have it open, too. */
void vex_index_drop_turn(vex_collection *collection);
/* One slice of work; *more says whether there is more to do. */
vex_status vex_index_step(vex_collection *collection, bool *more);
/* Closing: save what is complete; a failure costs building it again. */
void vex_index_save(vex_collection *collection);
/* The disk is full: do without a graph that keeps the space of files which were merged, until it is built
 * anew.  False: there is none.  MAINT may not be held. */
bool vex_index_let_go(vex_collection *collection);
/* Let the worker look what there is to do. */
void vex_index_want(vex_collection *collection);
/* Before the first query: have the graph that is stored, if there is one, which is sooner done than reading
 * all rows once. */
void vex_index_load_for_query(vex_collection *collection, vex_snapshot *snapshot);
/* A query sees this graph (NULL: none) and these rows: has the worker something to do for it? */
void vex_index_note_query(vex_collection *collection, const vex_index_view *view,
                          const vex_snapshot *snapshot);
/* Before writing n rows: while too much is not in the graph, until it has n more.  Writers go one by
 * one, so that all together are no faster than the builder.  At most ten seconds. */
void vex_index_wait_for_builder(vex_collection *collection, uint32_t n);
/* Reference to the graph as searches see it; NULL: none. */
vex_index_view *vex_collection_index_view(vex_collection *collection);

/* The same, if its distances are those of the snapshot: the space may have been changed between taking one
 * and the other. */
vex_index_view *vex_index_view_for(vex_collection *collection, const vex_snapshot *snapshot);

/* Give up a graph that its file has all of, or can be given all of now: the next query loads it.  False: it
 * stays, as it is being worked on (and `wait` is false), or cannot be had again. */
bool vex_index_unload(vex_collection *collection, bool wait);

/* ---- memory.c ---- */
#ifdef VEX_TESTING
extern _Atomic uint32_t vex_memory_test_rest_ms; /* in the place of VEX_REST_MS, if not 0          */
#endif
/* The collection is read or written: the pages that this uses are given back when it rests. */
void vex_memory_note_use(vex_collection *collection);
/* The background has used pages of it. */
void vex_memory_note_work(vex_collection *collection);
/* Give back pages of collections at rest, and what is above the limit; by the worker of files. */
void vex_memory_keep(vex_db *db);
/* Under collections_mu: until there may be something to give back; UINT64_MAX: nothing was used. */
uint64_t vex_memory_ms_to_next(const vex_db *db);

/* ---- worker.c ---- */
void vex_worker_init(vex_db *db);
void vex_worker_wake(vex_db *db, vex_worker_kind kind);
void vex_worker_stop(vex_db *db);
bool vex_worker_stopping(vex_db *db);
/* Else it starts when it is woken. */
bool vex_worker_runs(const vex_db *db, vex_worker_kind kind);
/* A flush failed: it is tried again after a while. */
void vex_worker_flush_later(vex_collection *collection);

#endif
