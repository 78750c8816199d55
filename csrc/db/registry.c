/*
 * registry.c - the databases open in this process: one engine per directory, the gate, fork().
 *
 * A directory is identified by device and inode, so two paths to it share one vex_db.  A
 * read-only opening never shares with a writing one: it behaves like another process.
 */
#include "db/db.h"
#include "db/transaction.h"
#include "filter/columns.h"
#include "filter/text_index.h"
#include "index/code_rows.h"
#include "rank/sparse_index.h"
#include "rank/words.h"

#include "base/cpu.h"
#include "base/pool.h"

#include "base/clock.h"
#include "base/poison.h"

static pthread_mutex_t registry_mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t registry_once = PTHREAD_ONCE_INIT;
static vex_db *databases;
static atomic_uint fork_epoch, forks_waiting;

#define DEFAULT_MEMTABLE_ROWS 50000u
#define DEFAULT_INDEX_ROWS 10000u
#define DEFAULT_MEMTABLE_BYTES ((uint64_t)64 << 20)
#define MEMTABLE_SHARE 4u /* of a memory limit */
#define TRANSACTION_WAIT_MS 100

/* ---- fork ---- */

static void count_fork(void) {
    atomic_fetch_add(&fork_epoch, 1);
}

static void set_up_process(void) {
    pthread_atfork(NULL, NULL, count_fork);
    (void)vex_payfile_register(vex_columns_plugin());
    (void)vex_payfile_register(vex_text_plugin());
    (void)vex_payfile_register(vex_words_plugin());
    (void)vex_payfile_register(vex_sparse_plugin());
    vex_vecfile_register(vex_code_rows_plugin());
}

/* 0: VEXFS_THREADS is no number of threads. */
static uint32_t threads_wanted(void) {
    const char *text = vex_environment("VEXFS_THREADS");
    uint32_t n = 0;
    if (text == NULL || text[0] == '\0') {
        n = vex_cpu_count();
        return n < VEX_POOL_THREADS_MAX ? n : VEX_POOL_THREADS_MAX;
    }
    for (; *text >= '0' && *text <= '9' && n <= VEX_POOL_THREADS_MAX; text++) {
        n = n * 10 + (uint32_t)(*text - '0');
    }
    return *text == '\0' && n <= VEX_POOL_THREADS_MAX ? n : 0;
}

uint32_t vex_query_threads(void) {
    const uint32_t n = threads_wanted();
    return n > 0 ? n : 1;
}

void vex_db_set_up_process(void) {
    pthread_once(&registry_once, set_up_process);
}

static void init_gate(vex_db *db) {
    pthread_rwlockattr_t attributes;
    pthread_rwlockattr_init(&attributes);
#if defined(__GLIBC__)
    /* or a stream of readers would keep fork() waiting for ever */
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
#endif
    pthread_rwlock_init(&db->gate, &attributes);
    pthread_rwlockattr_destroy(&attributes);
}

void vex_fork_prepare(void) {
    pthread_mutex_lock(&registry_mu);
    atomic_store(&forks_waiting, 1);
    for (vex_db *db = databases; db != NULL; db = db->next) {
        pthread_rwlock_wrlock(&db->gate);
    }
    atomic_store(&forks_waiting, 0);
}

bool vex_fork_waits(void) {
    return atomic_load(&forks_waiting) != 0;
}

void vex_fork_parent(void) {
    for (vex_db *db = databases; db != NULL; db = db->next) {
        pthread_rwlock_unlock(&db->gate);
    }
    pthread_mutex_unlock(&registry_mu);
}

void vex_fork_child(void) {
    for (vex_db *db = databases; db != NULL; db = db->next) {
        /* Unlocked and made anew: it may count waiters that do not exist in this process. */
        pthread_rwlock_unlock(&db->gate);
        init_gate(db);
        vex_lock_file_forked(db, &db->lease);
        vex_lock_file_forked(db, &db->maintenance);
        pthread_mutex_init(&db->worker_mu, NULL);
        vex_cond_init(&db->worker_wake);
        vex_worker_init(db);
        for (vex_collection *c = db->collections; c != NULL; c = c->next) {
            atomic_store(&c->jobs,
                         0); /* a vacuum between two steps, in a thread that is not here */
            /* The next use, or write, starts the workers of this process; the parent does what it has
             * been asked for. */
            atomic_store(&c->touched, false);
            atomic_store(&c->flush_wanted, false);
            atomic_store(&c->sync_wanted, false);
            c->sync_round = 0;
            atomic_store(&c->index_wanted, false);
            vex_index_drop_turn(c); /* the parent's */
        }
        db->epoch = atomic_load(&fork_epoch);
    }
    pthread_mutex_init(&registry_mu, NULL);
}

vex_status vex_db_enter(vex_db *db) {
    if (VEX_UNLIKELY(db->epoch != atomic_load_explicit(&fork_epoch, memory_order_relaxed))) {
        return VEX_FAIL_AT(VEX_ERR_FORKED, db->path, 0, 0,
                           "this process was forked without vex_fork_prepare(); open the "
                           "database again in it");
    }
    pthread_rwlock_rdlock(&db->gate);
    return VEX_OK;
}

void vex_db_leave(vex_db *db) {
    pthread_rwlock_unlock(&db->gate);
}

/* ---- opening ---- */

#ifdef VEX_TESTING
vex_vfs *vex_db_test_files;
#endif

vex_vfs *vex_db_files(void) {
#ifdef VEX_TESTING
    if (vex_db_test_files != NULL) {
        return vex_db_test_files;
    }
#endif
    return vex_vfs_posix();
}

static void free_db(vex_db *db) {
    if (db->vfs != NULL && db->vfs->is_volatile) {
        vex_vfs_memory_destroy(db->vfs);
    }
    vex_free(db->path);
    vex_free(db);
}

static vex_status make_directories(vex_vfs *vfs, const char *path) {
    char partial[VEX_PATH_MAX];
    size_t len = strlen(path);
    if (len >= sizeof partial) {
        return VEX_FAIL(VEX_ERR_TOO_BIG, "path of %zu bytes is longer than %d", len,
                        VEX_PATH_MAX - 1);
    }
    for (size_t i = 1; i <= len; i++) {
        if (path[i] == '/' || path[i] == '\0') {
            memcpy(partial, path, i);
            partial[i] = '\0';
            vex_file_stat there;
            if (vfs->path_stat(vfs, partial, &there) == VEX_OK) {
                continue;
            }
            vex_status status = vfs->dir_create(vfs, partial);
            if (status != VEX_OK && status != VEX_ERR_EXISTS) {
                return status;
            }
        }
    }
    return VEX_OK;
}

static vex_status refuse_chroma(vex_vfs *vfs, const char *path) {
    char name[VEX_PATH_MAX];
    vex_file_stat there;
    VEX_TRY(vex_path_join(name, path, "chroma.sqlite3"));
    vex_status status = vfs->path_stat(vfs, name, &there);
    if (status == VEX_OK) {
        return VEX_FAIL_AT(VEX_ERR_FOREIGN, path, 0, 0,
                           "the directory holds a Chroma database (chroma.sqlite3); choose an "
                           "empty directory and copy the data over");
    }
    return status == VEX_ERR_NOT_FOUND ? VEX_OK : status;
}

static vex_status note_entry(void *context, const char *name) {
    (void)name;
    *(bool *)context = true;
    return VEX_OK;
}

/* A directory with collections but without its superblock is a damaged database, not a new one. */
static vex_status refuse_orphans(const vex_db *db) {
    char path[VEX_PATH_MAX];
    bool holds_something = false;
    VEX_TRY(vex_path_join(path, db->path, "collections"));
    vex_status status = db->vfs->dir_list(db->vfs, path, note_entry, &holds_something);
    if (status == VEX_ERR_NOT_FOUND || (status == VEX_OK && !holds_something)) {
        return VEX_OK;
    }
    VEX_TRY(status);
    return VEX_FAIL_AT(VEX_ERR_CORRUPT, db->path, 0, 0,
                       "there are collections, but the file " VEX_SUPERBLOCK_NAME
                       " is missing; restore it from a backup");
}

static vex_status make_collections_directory(vex_db *db) {
    char path[VEX_PATH_MAX];
    VEX_TRY(vex_path_join(path, db->path, "collections"));
    vex_status status = db->vfs->dir_create(db->vfs, path);
    return status == VEX_ERR_EXISTS ? VEX_OK : status;
}

/* The name of the directory, and of those above it, may be as new as the database.  Of those that may
 * not be read none was made by us. */
static vex_status sync_ancestors(vex_db *db) {
    char parent[VEX_PATH_MAX];
    vex_status status = db->path[0] == '/' ? VEX_OK : db->vfs->dir_sync(db->vfs, ".");
    for (size_t i = 0; db->path[i] != '\0' && status == VEX_OK; i++) {
        size_t len = i > 0 ? i : 1; /* "/" */
        if (db->path[i] == '/' && len < sizeof parent) {
            memcpy(parent, db->path, len);
            parent[len] = '\0';
            status = db->vfs->dir_sync(db->vfs, parent);
            status = status == VEX_ERR_PERMISSION ? VEX_OK : status;
        }
    }
    return status;
}

/* While there is room for its name: dropping a collection needs it, on a full disk, too. */
static vex_status make_maintenance_file(vex_db *db) {
    char path[VEX_PATH_MAX];
    vex_file *file = NULL;
    VEX_TRY(vex_path_join(path, db->path, "MAINT"));
    VEX_TRY(db->vfs->file_open(db->vfs, path, VEX_FILE_CREATE, &file));
    db->vfs->file_close(db->vfs, file);
    return VEX_OK;
}

/* The superblock says that the rest is there: it comes last, behind everything that is durable. */
static vex_status create_database(vex_db *db, vex_superblock *super) {
    VEX_TRY(refuse_orphans(db));
    VEX_TRY(make_collections_directory(db));
    if (!db->vfs->is_volatile) {
        VEX_TRY(make_maintenance_file(db));
        VEX_TRY(sync_ancestors(db));
        VEX_TRY(db->vfs->dir_sync(db->vfs, db->path));
    }
    VEX_TRY(vex_superblock_create(db->vfs, db->path, super));
    atomic_store(&db->names_synced, true);
    return VEX_OK;
}

/* ---- what was interrupted ---- */

typedef struct cleanup {
    vex_db *db;
    bool remove; /* else only look                                                   */
    bool needed;
} cleanup;

static bool ends_with(const char *name, const char *suffix) {
    size_t len = strlen(name), suffix_len = strlen(suffix);
    return len > suffix_len && strcmp(name + len - suffix_len, suffix) == 0;
}

static bool is_collection(const char *name) {
    return strlen(name) == 32 && strspn(name, "0123456789abcdef") == 32;
}

/* A repair was killed between moving a collection away and moving its copy here?  Where the collection
 * is in its place, the copy is for the next repair to judge. */
static vex_status finish_repair(cleanup *c, const char *name, const char *copy) {
    char place[VEX_PATH_MAX];
    vex_file_stat stat;
    size_t len = strlen(copy) - strlen(VEX_REPAIRED_SUFFIX);
    if (!ends_with(name, VEX_REPAIRED_SUFFIX)) {
        return VEX_OK;
    }
    memcpy(place, copy, len);
    place[len] = '\0';
    if (c->db->vfs->path_stat(c->db->vfs, place, &stat) != VEX_ERR_NOT_FOUND) {
        return VEX_OK;
    }
    c->needed = true;
    return c->remove ? c->db->vfs->path_rename(c->db->vfs, copy, place) : VEX_OK;
}

/* One entry of collections/: something whose removal, or whose creation, was interrupted? */
static vex_status clean_up_entry(void *context, const char *name) {
    cleanup *c = context;
    vex_vfs *vfs = c->db->vfs;
    char relative[VEX_PATH_MAX], path[VEX_PATH_MAX];
    VEX_TRY(vex_path_join(relative, "collections", name));
    VEX_TRY(vex_path_join(path, c->db->path, relative));
    bool interrupted = ends_with(name, VEX_DROPPED_SUFFIX) || ends_with(name, VEX_FORKING_SUFFIX);
    if (is_collection(name) && vex_manifest_never_written(vfs, path, &interrupted) != VEX_OK) {
        return VEX_OK; /* gone, or unreadable */
    }
    VEX_TRY(finish_repair(c, name, path));
    c->needed = c->needed || interrupted;
    return interrupted && c->remove ? vex_dir_remove_all(vfs, path) : VEX_OK;
}

/* Creating and dropping are done under the lease, so what looks interrupted while it is held was.
 * When somebody else holds it now, the next opening will do. */
static void clean_up(vex_db *db) {
    char path[VEX_PATH_MAX];
    cleanup c = {.db = db};
    if (db->read_only || db->vfs->is_volatile ||
        vex_path_join(path, db->path, "collections") != VEX_OK) {
        return;
    }
    (void)db->vfs->dir_list(db->vfs, path, clean_up_entry, &c);
    if (c.needed && vex_lease_try(db) == VEX_OK) {
        /* Who renamed a collection to drop it may have been killed before that was durable. */
        c.remove = !vex_db_syncs(db) || vex_db_sync_collections(db) == VEX_OK;
        (void)db->vfs->dir_list(db->vfs, path, clean_up_entry, &c);
        vex_lease_release(db);
    }
}

static bool is_there(const vex_db *db, const char *name) {
    char path[VEX_PATH_MAX];
    vex_file_stat stat;
    return vex_path_join(path, db->path, name) == VEX_OK &&
           db->vfs->path_stat(db->vfs, path, &stat) == VEX_OK;
}

/* Whoever was at it died: what it left shows as a whole or not at all.  Who hangs is not waited for long,
 * nor who is at work, and finishes it.  Only what the disk does not take is told: VEX_ERR_IO. */
static vex_status finish_transaction(vex_db *db) {
    char path[VEX_PATH_MAX];
    if (db->read_only || db->vfs->is_volatile ||
        !(is_there(db, VEX_TRANSACTION_NAME) || is_there(db, VEX_TRANSACTION_NAME ".tmp"))) {
        return VEX_OK;
    }
    vex_status status = vex_lease_acquire_within(db, TRANSACTION_WAIT_MS);
    if (status != VEX_OK) {
        return status == VEX_ERR_IO ? status : VEX_OK;
    }
    if (vex_path_join(path, db->path, VEX_TRANSACTION_NAME ".tmp") == VEX_OK) {
        (void)db->vfs->path_remove(db->vfs, path); /* it was not stored */
    }
    vex_lease_release(db);
    return VEX_OK;
}

/* Read the superblock, or make a new database of the directory. */
static vex_status read_or_create(vex_db *db) {
    vex_superblock super;
    vex_status status = vex_superblock_read(db->vfs, db->path, &super);
    if (status == VEX_ERR_NOT_FOUND) {
        if (db->read_only || (db->options.flags & VEX_OPEN_NO_CREATE)) {
            VEX_TRY(refuse_orphans(db));
            return VEX_FAIL_AT(VEX_ERR_NOT_FOUND, db->path, 0, 0,
                               "there is no vexfs database in this directory");
        }
        VEX_TRY(refuse_chroma(db->vfs, db->path));
        /* Two processes may create it at once: the lock decides, the loser reads. */
        VEX_TRY(vex_lease_acquire(db));
        status = vex_superblock_read(db->vfs, db->path, &super);
        if (status == VEX_ERR_NOT_FOUND) {
            status = create_database(db, &super);
        }
        vex_lease_release(db);
    }
    VEX_TRY(status);
    memcpy(db->uuid, super.uuid, sizeof db->uuid);
    if (super.writer_flags != 0) {
        db->read_only = true; /* a later release stores something we must not disturb */
    }
    return VEX_OK;
}

/* Whether it can be written, and which file it is.  It stays open, so that no other file gets the
 * number of its inode when somebody removes it. */
static vex_status probe_lock_file(vex_db *db, vex_lock_file *lock, const char *name) {
    char path[VEX_PATH_MAX];
    VEX_TRY(vex_path_join(path, db->path, name));
    return vex_lock_file_open(db, lock, path);
}

static void fall_back_to_reading(vex_db *db, const char *name, int sys_errno) {
    db->read_only = true;
    db->not_writable = name;
    db->not_writable_errno = sys_errno;
}

/* Media that cannot be written make the database read-only, not unusable. */
static vex_status probe_writable(vex_db *db) {
    if (db->read_only || db->vfs->is_volatile) {
        return VEX_OK;
    }
    vex_status status = probe_lock_file(db, &db->lease, "LOCK");
    if (status == VEX_ERR_PERMISSION) {
        int sys_errno = vex_last_error()->sys_errno;
        vex_superblock super;
        if (vex_superblock_read(db->vfs, db->path, &super) == VEX_OK) {
            fall_back_to_reading(db, "LOCK", sys_errno);
            return VEX_OK;
        }
        return vex_fail_at(VEX_ERR_PERMISSION, db->path, 0, EACCES,
                           "the directory cannot be written, so no database can be made in it");
    }
    return status;
}

/* Who may write records but not flush them would let memory and logs grow without end.  Anything but
 * permission may pass: whoever needs the file meets it again. */
static void probe_maintenance(vex_db *db) {
    if (!db->read_only && !db->vfs->is_volatile &&
        probe_lock_file(db, &db->maintenance, "MAINT") == VEX_ERR_PERMISSION) {
        fall_back_to_reading(db, "MAINT", vex_last_error()->sys_errno);
    }
}

static vex_status open_new(const char *path, const vex_db_options *options, vex_db **out) {
    vex_db *db = vex_calloc(1, sizeof *db);
    if (db == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a database handle");
    }
    db->options = *options;
    db->read_only = (options->flags & VEX_OPEN_READ_ONLY) != 0;
    db->epoch = atomic_load(&fork_epoch);
    vex_status status = VEX_OK;
    vex_lock_file_init(&db->lease);
    vex_lock_file_init(&db->maintenance);
    init_gate(db);
    pthread_mutex_init(&db->collections_mu, NULL);
    pthread_mutex_init(&db->worker_mu, NULL);
    vex_cond_init(&db->worker_wake);
    vex_worker_init(db);
    db->path = vex_strdup(path == NULL ? "/" : path);
    if (db->path == NULL) {
        status = VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a path");
    } else if (path == NULL) {
        db->read_only = false;
        status = vex_vfs_memory_create(&db->vfs);
    } else {
        db->vfs = vex_db_files();
        vex_file_stat identity;
        status = db->vfs->path_stat(db->vfs, path, &identity);
        db->device = identity.device;
        db->inode = identity.inode;
    }
    if (status == VEX_OK) {
        status = probe_writable(db);
    }
    if (status == VEX_OK) {
        status = read_or_create(db);
    }
    if (status == VEX_OK) {
        vex_space_set_limits(db);
        status = finish_transaction(db);
    }
    if (status != VEX_OK) {
        vex_lock_file_destroy(db, &db->lease);
        vex_lock_file_destroy(db, &db->maintenance);
        free_db(db);
        return status;
    }
    probe_maintenance(db);
    clean_up(db);
    db->handles = 1;
    db->next = databases;
    databases = db;
    *out = db;
    return VEX_OK;
}

/* A database already open on the same directory, or NULL. */
static vex_db *find_open(const vex_file_stat *identity, bool read_only) {
    for (vex_db *db = databases; db != NULL; db = db->next) {
        bool asked_read_only = (db->options.flags & VEX_OPEN_READ_ONLY) != 0;
        if (!db->vfs->is_volatile && db->device == identity->device &&
            db->inode == identity->inode && asked_read_only == read_only &&
            db->epoch == atomic_load(&fork_epoch)) {
            return db;
        }
    }
    return NULL;
}

static vex_status open_path(const char *path, const vex_db_options *options, vex_db **out) {
    vex_vfs *vfs = vex_db_files();
    bool read_only = (options->flags & VEX_OPEN_READ_ONLY) != 0;
    vex_file_stat identity;
    vex_status status = vfs->path_stat(vfs, path, &identity);
    if (status == VEX_ERR_NOT_FOUND && !read_only && !(options->flags & VEX_OPEN_NO_CREATE)) {
        VEX_TRY(make_directories(vfs, path));
        status = vfs->path_stat(vfs, path, &identity);
    }
    VEX_TRY(status);
    if (!identity.is_directory) {
        return VEX_FAIL_AT(VEX_ERR_FOREIGN, path, 0, 0,
                           "this is a file; a database is a directory");
    }
    vex_db *shared = find_open(&identity, read_only);
    if (shared == NULL) {
        return open_new(path, options, out);
    }
    if (options->durability < vex_db_durability(shared)) {
        __atomic_store_n(&shared->options.durability, options->durability, __ATOMIC_RELAXED);
    }
    shared->handles++;
    *out = shared;
    return VEX_OK;
}

vex_status vex_db_open(const char *path, const vex_db_options *options, vex_db **out) {
    vex_db_options chosen = options ? *options : (vex_db_options){0};
    if (chosen.durability > VEX_DURABILITY_OFF || (path != NULL && path[0] == '\0')) {
        return VEX_FAIL(VEX_ERR_INVALID, path && !path[0]
                                             ? "the database path is empty"
                                             : "durability must be full, normal or off");
    }
    if (chosen.quantization > VEX_QUANTIZE_NONE || chosen.quantization == VEX_QUANTIZE_F16) {
        return VEX_FAIL(VEX_ERR_INVALID, "quantization must be auto, sq8 or none");
    }
    if (threads_wanted() == 0) {
        return VEX_FAIL(
            VEX_ERR_INVALID,
            "VEXFS_THREADS=%.40s is no number of threads from 1 to %u; set it right, or "
            "unset it for as many as there are processors",
            vex_environment("VEXFS_THREADS"), VEX_POOL_THREADS_MAX);
    }
    chosen.index_threads = chosen.index_threads ? chosen.index_threads : vex_cpu_count();
    chosen.index_rows = chosen.index_rows ? chosen.index_rows : DEFAULT_INDEX_ROWS;
    chosen.memtable_rows = chosen.memtable_rows ? chosen.memtable_rows : DEFAULT_MEMTABLE_ROWS;
    chosen.memtable_bytes = chosen.memtable_bytes ? chosen.memtable_bytes : DEFAULT_MEMTABLE_BYTES;
    if (chosen.memory_limit > 0 && chosen.memtable_bytes > chosen.memory_limit / MEMTABLE_SHARE) {
        chosen.memtable_bytes = chosen.memory_limit / MEMTABLE_SHARE;
    }
    vex_db_set_up_process();
    pthread_mutex_lock(&registry_mu);
    vex_status status = path == NULL ? open_new(NULL, &chosen, out) : open_path(path, &chosen, out);
    pthread_mutex_unlock(&registry_mu);
    return status;
}

vex_status vex_db_close(vex_db *db) {
    if (db == NULL) {
        return VEX_OK;
    }
    pthread_mutex_lock(&registry_mu);
    bool last = --db->handles == 0;
    if (last) {
        vex_db **place = &databases;
        while (*place != db) {
            place = &(*place)->next;
        }
        *place = db->next;
    }
    bool none = databases == NULL;
    pthread_mutex_unlock(&registry_mu);
    if (none) {
        vex_pool_stop();
    }
    if (last && db->epoch == atomic_load(&fork_epoch)) {
        vex_worker_stop(db);
        while (db->collections != NULL) {
            vex_collection_destroy(db->collections);
        }
        vex_lock_file_destroy(db, &db->lease);
        vex_lock_file_destroy(db, &db->maintenance);
        pthread_mutex_destroy(&db->collections_mu);
        pthread_mutex_destroy(&db->worker_mu);
        pthread_cond_destroy(&db->worker_wake);
        pthread_rwlock_destroy(&db->gate);
        free_db(db);
    }
    return VEX_OK;
}

int32_t vex_db_is_read_only(const vex_db *db) {
    return db->read_only;
}

void vex_db_uuid(const vex_db *db, uint8_t *out) {
    memcpy(out, db->uuid, sizeof db->uuid); /* set before the handle was given out */
}
