/*
 * backup.c - copies of a database that is in use (what they promise: vexfs.h).
 *
 * Under MAINT no manifest changes and no file goes, so the newest manifests say what to link and to
 * copy.  Under the lease, held alone, no log grows: for that moment it is noted where each one ends.
 * What is in front of that end never changes again, so the logs are copied after the lease was given
 * back, while writers append behind it.  The copy of the newest log gets a CLOSE frame: it is synced,
 * and damage of its last record is then told from a torn write.
 *
 * Copying files takes long, and MAINT keeps flushes waiting.  So calls with VEX_BACKUP_AHEAD come
 * first: without a lock they take what is listed now; what vanishes meanwhile is not needed any more,
 * and is removed from the backup in the end.
 *
 * A read-only database has no locks.  Then a collection is taken again when one of its files vanished
 * and there is a newer manifest; a log is read to the end that the head tells, and no further.
 */
#include "db/index_internal.h"

#include "base/poison.h"

#define TRIES 10 /* of a collection without locks */

typedef struct part { /* one collection */
    vex_backup_item *item;
    char *from, *to; /* its directories                                               */
    vex_manifest manifest;
    uint64_t last_log, log_end, lsn; /* last_log 0: it has none yet                   */
    bool linked;                     /* files whose syncing is due                    */
} part;

typedef struct backup {
    vex_db *db;
    vex_vfs *vfs;
    const char *dest;
    uint32_t flags;
    uint64_t most_bytes;
    part *parts;
    uint32_t n;
    vex_backup_result result;
} backup;

/* ---- files ---- */

/* A link needs no right to read; the copy that it then is would be read in vain. */
static vex_status may_read(vex_vfs *vfs, const char *path) {
    vex_file *file = NULL;
    VEX_TRY(vfs->file_open(vfs, path, VEX_FILE_READ, &file));
    vfs->file_close(vfs, file);
    return VEX_OK;
}

/* Have the file `name` in the backup.  Files of one name and size are the same. */
static vex_status take_file(backup *b, part *p, const char *name, uint64_t size, bool may_link) {
    char from[VEX_PATH_MAX], to[VEX_PATH_MAX];
    vex_file_stat there;
    bool linked = false;
    VEX_TRY(vex_path_join(from, p->from, name));
    VEX_TRY(vex_path_join(to, p->to, name));
    vex_status status = b->vfs->path_stat(b->vfs, to, &there);
    if (status == VEX_OK && there.size == size) {
        return VEX_OK;
    }
    if (status != VEX_ERR_NOT_FOUND) {
        VEX_TRY(status);
        VEX_TRY(b->vfs->path_remove(b->vfs, to));
    }
    bool ahead = (b->flags & VEX_BACKUP_AHEAD) != 0;
    if (ahead && b->result.copied_bytes >= b->most_bytes) {
        b->result.left_bytes += size;
        return VEX_OK;
    }
    if (may_link && !(b->flags & VEX_BACKUP_COPY)) {
        VEX_TRY(may_read(b->vfs, from));
        VEX_TRY(vex_file_share(b->vfs, from, to, size, true, &linked));
    } else {
        VEX_TRY(vex_file_copy(b->vfs, from, to, size, true));
    }
    p->linked = p->linked || linked;
    *(linked ? &b->result.linked_files : &b->result.copied_files) += 1;
    *(linked ? &b->result.linked_bytes : &b->result.copied_bytes) += size;
    return VEX_OK;
}

/* ---- the files of a collection ---- */

typedef vex_status (*file_visitor)(backup *b, part *p, const char *name, uint64_t size,
                                   bool may_link);

static vex_status each_file(backup *b, part *p, file_visitor visit) {
    char name[VEX_FILE_NAME_MAX];
    for (uint32_t i = 0; i < p->manifest.n_files; i++) {
        const vex_file_entry *entry = &p->manifest.files[i];
        vex_file_name(name, (vex_file_kind)entry->kind, entry->file_no);
        VEX_TRY(visit(b, p, name, entry->size, true));
        if (entry->tombs_file_no != 0) {
            vex_file_name(name, VEX_KIND_TOMBS, entry->tombs_file_no);
            VEX_TRY(visit(b, p, name, entry->tombs_size, false));
        }
    }
    return VEX_OK;
}

/* Ahead of time: what has vanished is not needed any more. */
static vex_status take_if_there(backup *b, part *p, const char *name, uint64_t size,
                                bool may_link) {
    vex_status status = take_file(b, p, name, size, may_link);
    return status == VEX_ERR_NOT_FOUND ? VEX_OK : status;
}

/* Linking changes the inode, so that the first sync commits it; the others find it done. */
static vex_status sync_linked(backup *b, part *p, const char *name, uint64_t size, bool may_link) {
    char path[VEX_PATH_MAX];
    (void)size;
    VEX_TRY(vex_path_join(path, p->to, name));
    vex_status status = may_link ? vex_file_sync(b->vfs, path) : VEX_OK;
    bool ahead = (b->flags & VEX_BACKUP_AHEAD) != 0;
    return ahead && status == VEX_ERR_NOT_FOUND ? VEX_OK : status;
}

/* A graph is derived: any one will do, and none. */
static vex_status take_graph(backup *b, part *p) {
    char name[VEX_FILE_NAME_MAX], path[VEX_PATH_MAX];
    uint64_t newest = 0, there = 0;
    vex_file_stat stat;
    VEX_TRY(vex_index_newest_file(b->db, p->to, &there));
    VEX_TRY(vex_index_newest_file(b->db, p->from, &newest));
    if (newest == 0 || there != 0) {
        return VEX_OK;
    }
    vex_file_name(name, VEX_KIND_GRAPH, newest);
    VEX_TRY(vex_path_join(path, p->from, name));
    vex_status status = b->vfs->path_stat(b->vfs, path, &stat);
    return status == VEX_OK              ? take_if_there(b, p, name, stat.size, true)
           : status == VEX_ERR_NOT_FOUND ? VEX_OK
                                         : status;
}

static vex_status read_newest_manifest(backup *b, part *p) {
    uint64_t generation = 0;
    vex_manifest_clear(&p->manifest);
    VEX_TRY(vex_manifest_newest(b->vfs, p->from, &generation));
    if (generation == 0) {
        return VEX_FAIL_AT(VEX_ERR_NOT_FOUND, p->from, 0, 0, "the collection does not exist");
    }
    return vex_manifest_read(b->vfs, p->from, b->db->uuid, generation, &p->manifest);
}

static vex_status take_files(backup *b, part *p, file_visitor take) {
    VEX_TRY(read_newest_manifest(b, p));
    VEX_TRY(each_file(b, p, take));
    VEX_TRY(take_graph(b, p));
    if (p->linked) {
        p->linked = false;
        VEX_TRY(each_file(b, p, sync_linked));
    }
    return VEX_OK;
}

/* ---- logs ---- */

static vex_status log_path(const char *dir, uint64_t number, char out[VEX_PATH_MAX]) {
    char name[VEX_WAL_NAME_MAX];
    vex_wal_name(name, number);
    return vex_path_join(out, dir, name);
}

static vex_status log_exists(const backup *b, const part *p, uint64_t number, bool *exists) {
    char path[VEX_PATH_MAX];
    vex_file_stat stat;
    VEX_TRY(log_path(p->from, number, path));
    vex_status status = b->vfs->path_stat(b->vfs, path, &stat);
    *exists = status == VEX_OK;
    return status == VEX_ERR_NOT_FOUND ? VEX_OK : status;
}

/* Where the records of a log end; its lsn, when there is one, becomes the collection's. */
static vex_status read_log(const backup *b, part *p, uint64_t number) {
    vex_wal_reader *reader = NULL;
    vex_wal_step step = VEX_WAL_RECORD;
    vex_wal_body body = {0};
    uint64_t lsn = 0;
    vex_status status = vex_wal_reader_open(b->vfs, p->from, p->manifest.lineage, number, &reader);
    while (status == VEX_OK && step == VEX_WAL_RECORD) {
        status = vex_wal_reader_next(reader, UINT64_MAX, &step, &body, &lsn);
    }
    if (status == VEX_OK) {
        p->last_log = number;
        p->log_end = vex_wal_reader_offset(reader);
        lsn = vex_wal_reader_last_lsn(reader);
        p->lsn = lsn > 0 ? lsn : p->lsn;
    }
    vex_wal_reader_close(reader);
    return status;
}

/* Without a head, as nobody wrote since the machine was started, the logs alone tell their end. */
static vex_status read_logs(const backup *b, part *p) {
    uint64_t number = p->manifest.wal_first;
    bool exists = false, next = false;
    VEX_TRY(log_exists(b, p, number, &exists));
    VEX_TRY(log_exists(b, p, number + 1, &next));
    if (!exists && !next && p->manifest.generation == 1) {
        return VEX_OK; /* never written */
    }
    do {
        VEX_TRY(read_log(b, p, number));
        VEX_TRY(log_exists(b, p, ++number, &next));
    } while (next);
    return VEX_OK;
}

static vex_status read_head(const backup *b, const part *p, vex_head *head, bool *valid) {
    char path[VEX_PATH_MAX];
    vex_file *file = NULL;
    *valid = false;
    VEX_TRY(vex_path_join(path, p->from, "head"));
    vex_status status = b->vfs->file_open(b->vfs, path, VEX_FILE_READ, &file);
    if (status != VEX_OK) {
        return status == VEX_ERR_NOT_FOUND ? VEX_OK : status;
    }
    status = vex_head_read(b->vfs, file, p->item->uuid, head, valid);
    b->vfs->file_close(b->vfs, file);
    *valid = *valid && head->generation != VEX_HEAD_DROPPED;
    return status;
}

/* How far is the collection committed? */
static vex_status find_end(const backup *b, part *p) {
    vex_head head = {0};
    bool valid = false;
    p->last_log = p->log_end = 0;
    p->lsn = p->manifest.lsn;
    VEX_TRY(read_head(b, p, &head, &valid));
    if (!valid) {
        return read_logs(b, p);
    }
    p->last_log = head.wal_number;
    p->log_end = head.wal_end;
    p->lsn = head.lsn > p->lsn ? head.lsn : p->lsn;
    if (p->last_log < p->manifest.wal_first) { /* a flush was killed before it told the head */
        p->last_log = p->manifest.wal_first;
        p->log_end = VEX_WAL_EMPTY_END;
        p->lsn = p->manifest.lsn;
    }
    return VEX_OK;
}

static vex_status copy_log(backup *b, const part *p, uint64_t number, uint64_t len) {
    char from[VEX_PATH_MAX], to[VEX_PATH_MAX];
    vex_file_stat copied;
    VEX_TRY(log_path(p->from, number, from));
    VEX_TRY(log_path(p->to, number, to));
    VEX_TRY(vex_file_copy(b->vfs, from, to, len, true));
    VEX_TRY(b->vfs->path_stat(b->vfs, to, &copied));
    b->result.copied_files++;
    b->result.copied_bytes += copied.size;
    return VEX_OK;
}

/* The records of all logs are in the backup, synced, and nothing follows them. */
static vex_status seal_last_log(backup *b, const part *p) {
    vex_wal_writer *writer = NULL;
    VEX_TRY(vex_wal_resume(b->vfs, p->to, p->manifest.lineage, p->last_log, p->log_end, p->lsn,
                           p->lsn, &writer));
    vex_status status = vex_wal_seal(writer);
    vex_wal_writer_close(writer);
    if (status == VEX_ERR_POISONED) { /* is about the copy alone, which is given up */
        const vex_error failure = *vex_last_error();
        bool full = failure.sys_errno == ENOSPC || failure.sys_errno == EDQUOT;
        return VEX_FAIL_AT(full ? VEX_ERR_NO_SPACE : VEX_ERR_IO, failure.path, failure.offset,
                           failure.sys_errno, "the copy of a log could not be ended");
    }
    return status;
}

static vex_status take_logs(backup *b, const part *p) {
    if (p->last_log == 0) {
        return VEX_OK;
    }
    for (uint64_t number = p->manifest.wal_first; number <= p->last_log; number++) {
        VEX_TRY(copy_log(b, p, number, number < p->last_log ? UINT64_MAX : p->log_end));
    }
    return seal_last_log(b, p);
}

/* What makes the directory a collection, at last. */
static vex_status take_rest(backup *b, part *p) {
    char name[VEX_FILE_NAME_MAX], from[VEX_PATH_MAX], to[VEX_PATH_MAX];
    VEX_TRY(take_logs(b, p));
    vex_manifest_name(name, p->manifest.generation);
    VEX_TRY(vex_path_join(from, p->from, name));
    VEX_TRY(vex_path_join(to, p->to, name));
    VEX_TRY(vex_file_copy(b->vfs, from, to, UINT64_MAX, true));
    vex_manifest_remove_leftovers(b->vfs, p->to, &p->manifest, true); /* of what was taken ahead */
    VEX_TRY(b->vfs->dir_sync(b->vfs, p->to));
    p->item->lsn = p->lsn;
    p->item->generation = p->manifest.generation;
    return VEX_OK;
}

/* ---- all collections ---- */

static vex_status find_ends(backup *b) {
    vex_status status = vex_lease_acquire_alone(b->db);
    uint64_t start = b->vfs->clock_ms(b->vfs);
    VEX_TRY(status);
    for (uint32_t i = 0; i < b->n && status == VEX_OK; i++) {
        status = find_end(b, &b->parts[i]);
    }
    vex_lease_release(b->db);
    b->result.one_moment = 1;
    b->result.held_ms = b->vfs->clock_ms(b->vfs) - start;
    return status;
}

/* Under MAINT nothing vanishes: what is missing was lost. */
static vex_status missing(vex_status status, const part *p) {
    const vex_error failure = *vex_last_error();
    if (status != VEX_ERR_NOT_FOUND || strcmp(failure.path, p->from) == 0) {
        return status;
    }
    return VEX_FAIL_AT(VEX_ERR_CORRUPT, failure.path, 0, 0,
                       "the file is missing; restore the collection from a backup");
}

static vex_status take_with_locks(backup *b) {
    VEX_TRY(vex_maintenance_acquire_soon(b->db));
    vex_status status = VEX_OK;
    for (uint32_t i = 0; i < b->n && status == VEX_OK; i++) {
        status = missing(take_files(b, &b->parts[i], take_file), &b->parts[i]);
    }
    if (status == VEX_OK) {
        status = find_ends(b);
    }
    for (uint32_t i = 0; i < b->n && status == VEX_OK; i++) {
        status = missing(take_rest(b, &b->parts[i]), &b->parts[i]);
    }
    vex_maintenance_release(b->db);
    return status;
}

static vex_status take_once(backup *b, part *p) {
    VEX_TRY(take_files(b, p, take_file));
    VEX_TRY(find_end(b, p));
    return take_rest(b, p);
}

static vex_status take_without_locks(backup *b, part *p) {
    for (int attempt = 1;; attempt++) {
        uint64_t newest = 0;
        vex_status status = take_once(b, p);
        if (status != VEX_ERR_NOT_FOUND && status != VEX_ERR_CORRUPT) {
            return status;
        }
        const vex_error failure = *vex_last_error();
        VEX_TRY(vex_manifest_newest(b->vfs, p->from, &newest));
        if (newest == p->manifest.generation || attempt == TRIES) {
            vex_fail_at(failure.code, failure.path, failure.offset, failure.sys_errno, "%s",
                        failure.message);
            return missing(status, p);
        }
    }
}

/* Collections that go meanwhile are none of a later call's. */
static vex_status take_ahead(backup *b) {
    for (uint32_t i = 0; i < b->n; i++) {
        part *p = &b->parts[i];
        vex_status status = take_files(b, p, take_if_there);
        if (status != VEX_OK && status != VEX_ERR_NOT_FOUND) {
            return status;
        }
    }
    return VEX_OK;
}

/* ---- the directory ---- */

static vex_status make_directory(vex_vfs *vfs, const char *path) {
    vex_status status = vfs->dir_create(vfs, path);
    return status == VEX_ERR_EXISTS ? VEX_OK : status;
}

static vex_status sync_parent(vex_vfs *vfs, const char *path) {
    char parent[VEX_PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t len = slash == NULL || slash == path ? 1 : (size_t)(slash - path);
    memcpy(parent, slash == NULL ? "." : path, len);
    parent[len] = '\0';
    return vfs->dir_sync(vfs, parent);
}

static vex_status begin(backup *b, vex_backup_item *items) {
    char collections[VEX_PATH_MAX], to[VEX_PATH_MAX];
    VEX_TRY(vex_path_join(collections, b->dest, "collections"));
    VEX_TRY(make_directory(b->vfs, b->dest));
    VEX_TRY(make_directory(b->vfs, collections));
    for (uint32_t i = 0; i < b->n; i++) {
        part *p = &b->parts[i];
        p->item = &items[i];
        VEX_TRY(vex_collection_directory(b->db, p->item->uuid, &p->from));
        VEX_TRY(vex_path_join(to, collections, strrchr(p->from, '/') + 1));
        p->to = vex_strdup(to);
        if (p->to == NULL) {
            return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a path");
        }
        VEX_TRY(make_directory(b->vfs, to));
    }
    return VEX_OK;
}

/* The superblock, and the names of everything. */
static vex_status finish(backup *b) {
    char from[VEX_PATH_MAX], to[VEX_PATH_MAX], collections[VEX_PATH_MAX];
    VEX_TRY(vex_path_join(from, b->db->path, VEX_SUPERBLOCK_NAME));
    VEX_TRY(vex_path_join(to, b->dest, VEX_SUPERBLOCK_NAME));
    VEX_TRY(vex_path_join(collections, b->dest, "collections"));
    VEX_TRY(vex_file_copy(b->vfs, from, to, UINT64_MAX, true));
    VEX_TRY(b->vfs->dir_sync(b->vfs, collections));
    VEX_TRY(b->vfs->dir_sync(b->vfs, b->dest));
    return sync_parent(b->vfs, b->dest);
}

static vex_status run(backup *b, vex_backup_item *items) {
    VEX_TRY(begin(b, items));
    if (b->flags & VEX_BACKUP_AHEAD) {
        return take_ahead(b);
    }
    if (!b->db->read_only) {
        VEX_TRY(take_with_locks(b));
    }
    for (uint32_t i = 0; i < b->n && b->db->read_only; i++) {
        VEX_TRY(take_without_locks(b, &b->parts[i]));
    }
    return finish(b);
}

vex_status vex_db_backup(vex_db *db, const char *dest, uint32_t flags, uint64_t most_bytes,
                         vex_backup_item *items, uint32_t n, vex_backup_result *out) {
    backup b = {db, db->vfs, dest, flags, most_bytes, .n = n};
    if (dest[0] == '\0' || flags > (VEX_BACKUP_COPY | VEX_BACKUP_AHEAD)) {
        return VEX_FAIL(VEX_ERR_INVALID,
                        dest[0] ? "unknown flags of a backup" : "the path of the backup is empty");
    }
    if (vex_db_volatile(db)) {
        return VEX_FAIL(VEX_ERR_INVALID, "a database in memory has no files to back up");
    }
    b.parts = vex_calloc((size_t)n + 1, sizeof *b.parts);
    if (b.parts == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a backup");
    }
    vex_status status = vex_db_enter(db);
    if (status == VEX_OK) {
        status = run(&b, items);
        vex_db_leave(db);
    }
    for (uint32_t i = 0; i < n; i++) {
        vex_manifest_clear(&b.parts[i].manifest);
        vex_free(b.parts[i].from);
        vex_free(b.parts[i].to);
    }
    vex_free(b.parts);
    if (status == VEX_OK) {
        *out = b.result;
    }
    return status;
}
