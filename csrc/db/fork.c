/*
 * fork.c - a second collection with the records of another, which shares its files.
 *
 * Sealed files never change, and neither does a log that another one follows.  So the fork's directory
 * gets second names of them (hard links; copies only where a file system has none), a log of its own to
 * go on with, and a manifest that differs from the source's in its uuid.  Nothing is read, so a fork
 * takes as long whatever the number of records; and a file's space is free again when the last of its
 * names goes, which the file system sees to.
 *
 * What is only in the newest log must not be shared, as the source goes on in it: a new log is begun
 * first.  Under the lease and write_mu no manifest is committed, and what the newest one lists is never
 * removed, so MAINT is not needed: a fork does not wait for a flush or a merge that is under way.
 *
 * The directory is made under a name of its own and renamed when it is whole, as the last step.  All of
 * that is under the lease, so whoever opens the database and holds it may remove an unfinished one.
 */
#include "db/catchup.h"
#include "db/index_internal.h"

#include "base/poison.h"

#define NEW_BYTES ((uint64_t)64 << 10) /* of a fork: names, a manifest, a log         */

typedef struct forking {
    vex_collection *source;
    vex_vfs *vfs;
    const uint8_t *uuid;
    char *to, aside[VEX_PATH_MAX];
    vex_manifest manifest;
    uint64_t first_log, lsn; /* its first own log, and the newest batch before it          */
    bool named;
} forking;

/* ---- what is shared ---- */

static vex_status share(const forking *f, const char *name, uint64_t size) {
    char from[VEX_PATH_MAX], to[VEX_PATH_MAX];
    bool linked = false;
    VEX_TRY(vex_path_join(from, f->source->dir, name));
    VEX_TRY(vex_path_join(to, f->aside, name));
    return vex_file_share(f->vfs, from, to, size, vex_db_syncs(f->source->db), &linked);
}

static vex_status share_files(const forking *f) {
    char name[VEX_FILE_NAME_MAX];
    for (uint32_t i = 0; i < f->manifest.n_files; i++) {
        const vex_file_entry *entry = &f->manifest.files[i];
        vex_file_name(name, (vex_file_kind)entry->kind, entry->file_no);
        VEX_TRY(share(f, name, entry->size));
        if (entry->tombs_file_no != 0) {
            vex_file_name(name, VEX_KIND_TOMBS, entry->tombs_file_no);
            VEX_TRY(share(f, name, entry->tombs_size));
        }
    }
    return VEX_OK;
}

static vex_status share_logs(const forking *f) {
    char name[VEX_WAL_NAME_MAX];
    for (uint64_t n = f->manifest.wal_first; n < f->first_log; n++) {
        vex_wal_name(name, n);
        VEX_TRY(share(f, name, UINT64_MAX));
    }
    return VEX_OK;
}

/* A graph is derived: the newest one, unless it is replaced by a newer at this moment. */
static vex_status share_graph(const forking *f) {
    char name[VEX_FILE_NAME_MAX];
    uint64_t newest = 0;
    VEX_TRY(vex_index_newest_file(f->source->db, f->source->dir, &newest));
    if (newest == 0) {
        return VEX_OK;
    }
    vex_file_name(name, VEX_KIND_GRAPH, newest);
    vex_status status = share(f, name, UINT64_MAX);
    return status == VEX_ERR_NOT_FOUND ? VEX_OK : status;
}

/* ---- the source ---- */

/* Under lease and write_mu: the newest state of the source, with nothing in its newest log. */
static vex_status settle_source(forking *f) {
    vex_collection *source = f->source;
    VEX_TRY(vex_collection_take_over_quiet(source));
    if (source->wal != NULL && source->known.wal_end > VEX_WAL_EMPTY_END) {
        VEX_TRY(vex_collection_rotate_log(source));
        VEX_TRY(vex_publish(source, source->latest, &source->known));
    }
    VEX_TRY(vex_manifest_copy(&f->manifest, &source->manifest));
    f->manifest.generation = 1;
    memcpy(f->manifest.collection, f->uuid, sizeof f->manifest.collection);
    f->first_log = source->known.wal_number;
    f->lsn = source->known.lsn;
    return VEX_OK;
}

static vex_status share_all(forking *f) {
    pthread_mutex_lock(&f->source->write_mu);
    vex_status status = settle_source(f);
    if (status == VEX_OK) {
        status = f->vfs->dir_create(f->vfs, f->aside);
    }
    if (status == VEX_OK) {
        status = share_files(f);
    }
    if (status == VEX_OK && !vex_db_volatile(f->source->db)) {
        status = share_logs(f);
    }
    if (status == VEX_OK) {
        status = share_graph(f);
    }
    bool flush = vex_collection_wants_flush(f->source) &&
                 !atomic_exchange(&f->source->flush_wanted, true); /* of many small logs */
    pthread_mutex_unlock(&f->source->write_mu);
    if (flush) {
        vex_worker_wake(f->source->db, VEX_WORKER_FILES);
    }
    return status;
}

/* ---- the fork ---- */

/* Its names are synced with the manifest's. */
static vex_status begin_log(const forking *f) {
    char name[VEX_WAL_NAME_MAX], path[VEX_PATH_MAX];
    vex_wal_writer *log = NULL;
    if (vex_db_volatile(f->source->db)) {
        return VEX_OK;
    }
    VEX_TRY(vex_wal_create(f->vfs, f->aside, f->manifest.lineage, f->first_log, f->lsn + 1, false,
                           &log));
    vex_wal_writer_close(log);
    vex_wal_name(name, f->first_log);
    VEX_TRY(vex_path_join(path, f->aside, name));
    return vex_db_syncs(f->source->db) ? vex_file_sync(f->vfs, path) : VEX_OK;
}

static vex_status refuse_present(const forking *f) {
    vex_file_stat there;
    vex_status status = f->vfs->path_stat(f->vfs, f->to, &there);
    if (status == VEX_OK) {
        return VEX_FAIL_AT(VEX_ERR_EXISTS, f->to, 0, 0, "the collection exists already");
    }
    return status == VEX_ERR_NOT_FOUND ? VEX_OK : status;
}

/* Under the lease. */
static vex_status make(forking *f) {
    vex_db *db = f->source->db;
    VEX_TRY(refuse_present(f));
    VEX_TRY(vex_dir_remove_all(f->vfs, f->aside)); /* of a call that failed */
    VEX_TRY(share_all(f));
    VEX_TRY(begin_log(f));
    VEX_TRY(vex_manifest_write(f->vfs, f->aside, db->uuid, &f->manifest, vex_db_syncs(db)));
    VEX_TRY(f->vfs->path_rename(f->vfs, f->aside, f->to));
    f->named = true;
    return vex_db_syncs(db) ? vex_db_sync_collections(db) : VEX_OK;
}

/* Nothing stays of a fork that failed, whichever step it came to; the error does. */
static void take_back(const forking *f) {
    const vex_error failure = *vex_last_error();
    if (!f->named || f->vfs->path_rename(f->vfs, f->to, f->aside) == VEX_OK) {
        (void)vex_dir_remove_all(f->vfs, f->aside);
    }
    vex_fail_at(failure.code, failure.path, failure.offset, failure.sys_errno, "%s",
                failure.message);
}

static vex_status name_aside(forking *f) {
    size_t len = strlen(f->to);
    if (len + sizeof VEX_FORKING_SUFFIX > sizeof f->aside) {
        return VEX_FAIL(VEX_ERR_TOO_BIG, "the database path is too long");
    }
    memcpy(f->aside, f->to, len);
    memcpy(f->aside + len, VEX_FORKING_SUFFIX, sizeof VEX_FORKING_SUFFIX);
    return VEX_OK;
}

/* In memory there is no log to share, and a graph has no file. */
static vex_status store_source(vex_collection *source) {
    if (!vex_db_volatile(source->db)) {
        return VEX_OK;
    }
    VEX_TRY(vex_collection_flush_now(source, true));
    return vex_index_store(source);
}

static vex_status run(forking *f) {
    vex_db *db = f->source->db;
    VEX_TRY(vex_collection_directory(db, f->uuid, &f->to));
    VEX_TRY(name_aside(f));
    VEX_TRY(vex_space_for_write(db, f->source, NEW_BYTES));
    VEX_TRY(store_source(f->source));
    VEX_TRY(vex_lease_acquire(db));
    vex_status status = make(f);
    if (status != VEX_OK) {
        take_back(f);
    }
    vex_lease_release(db);
    return status;
}

vex_status vex_collection_fork(vex_collection *source, const uint8_t *uuid) {
    forking f = {.source = source, .vfs = source->db->vfs, .uuid = uuid};
    VEX_TRY(vex_db_enter(source->db));
    vex_status status = run(&f);
    vex_free(f.to);
    vex_manifest_clear(&f.manifest);
    vex_db_leave(source->db);
    return status;
}

/* ---- how many there are ---- */

typedef struct counting {
    vex_collection *member;
    uint8_t lineage[16];
    uint64_t forks;
} counting;

/* What is being dropped, or is damaged, is no fork that anybody could use. */
static vex_status count_fork(void *context, const char *name) {
    counting *c = context;
    vex_db *db = c->member->db;
    char relative[VEX_PATH_MAX], dir[VEX_PATH_MAX];
    vex_manifest manifest = {0};
    uint64_t newest = 0;
    if (strlen(name) != 32) {
        return VEX_OK;
    }
    VEX_TRY(vex_path_join(relative, "collections", name));
    VEX_TRY(vex_path_join(dir, db->path, relative));
    vex_status status = vex_manifest_newest(db->vfs, dir, &newest);
    if (status == VEX_OK && newest != 0) {
        status = vex_manifest_read(db->vfs, dir, db->uuid, newest, &manifest);
    }
    if (status == VEX_OK && vex_manifest_is_fork(&manifest) &&
        memcmp(manifest.lineage, c->lineage, sizeof c->lineage) == 0) {
        c->forks++;
    }
    vex_manifest_clear(&manifest);
    return status == VEX_ERR_NO_MEMORY ? status : VEX_OK;
}

vex_status vex_collection_count_forks(vex_collection *collection, uint64_t *out) {
    vex_db *db = collection->db;
    counting c = {.member = collection};
    char path[VEX_PATH_MAX];
    VEX_TRY(vex_db_enter(db));
    vex_status status = vex_collection_refresh(collection);
    pthread_mutex_lock(&collection->write_mu);
    memcpy(c.lineage, collection->manifest.lineage, sizeof c.lineage);
    pthread_mutex_unlock(&collection->write_mu);
    if (status == VEX_OK) {
        status = vex_path_join(path, db->path, "collections");
    }
    if (status == VEX_OK) {
        status = db->vfs->dir_list(db->vfs, path, count_fork, &c);
    }
    vex_db_leave(db);
    if (status == VEX_OK) {
        *out = c.forks;
    }
    return status;
}
