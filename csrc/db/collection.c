/*
 * collection.c - creating, opening, closing, dropping and describing collections.
 */
#include "db/index_internal.h"

#include "base/poison.h"

/* A clean close seals a memtable of at least this size, so that the next open replays little. */
#define CLOSE_FLUSH_BYTES ((uint64_t)1 << 20)

#define NEW_BYTES ((uint64_t)8 << 10) /* of a collection: a directory and a manifest */

vex_status vex_collection_path(const char *path, const uint8_t uuid[16], char *out) {
    static const char digits[] = "0123456789abcdef";
    char name[48] = "collections/";
    size_t at = strlen(name);
    for (int i = 0; i < 16; i++) {
        name[at++] = digits[uuid[i] >> 4];
        name[at++] = digits[uuid[i] & 15];
    }
    name[at] = '\0';
    return vex_path_join(out, path, name);
}

const char *vex_path_below(const char *path, const char *file) {
    size_t len = strlen(path);
    return strncmp(file, path, len) == 0 && file[len] == '/' ? file + len + 1 : file;
}

vex_status vex_collection_directory(const vex_db *db, const uint8_t uuid[16], char **out) {
    char path[VEX_PATH_MAX];
    VEX_TRY(vex_collection_path(db->path, uuid, path));
    *out = vex_strdup(path);
    return *out ? VEX_OK : VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a path");
}

vex_status vex_db_sync_collections(vex_db *db) {
    char path[VEX_PATH_MAX];
    VEX_TRY(vex_path_join(path, db->path, "collections"));
    return db->vfs->dir_sync(db->vfs, path);
}

vex_status vex_collection_sync_names(const vex_collection *collection) {
    vex_db *db = collection->db;
    if (!vex_db_syncs(db)) {
        return VEX_OK;
    }
    VEX_TRY(db->vfs->dir_sync(db->vfs, collection->dir));
    return vex_db_sync_collections(db);
}

static vex_status no_such_collection(const char *dir) {
    return VEX_FAIL_AT(VEX_ERR_NOT_FOUND, dir, 0, 0, "the collection does not exist");
}

/* ---- create ---- */

/* Whoever made the database may have been killed before its names were durable, and a collection
 * without a superblock is damage. */
static vex_status sync_names(vex_db *db) {
    if (vex_db_volatile(db) || atomic_load(&db->names_synced)) {
        return VEX_OK;
    }
    VEX_TRY(db->vfs->dir_sync(db->vfs, db->path));
    atomic_store(&db->names_synced, true);
    return VEX_OK;
}

static vex_status create_in(vex_db *db, const char *dir, const uint8_t *uuid, uint32_t space) {
    uint64_t newest = 0;
    VEX_TRY(sync_names(db));
    vex_status status = db->vfs->dir_create(db->vfs, dir);
    if (status != VEX_OK && status != VEX_ERR_EXISTS) {
        return status;
    }
    VEX_TRY(vex_manifest_newest(db->vfs, dir, &newest));
    if (newest != 0) {
        return VEX_FAIL_AT(VEX_ERR_EXISTS, dir, 0, 0, "the collection exists already");
    }
    vex_manifest manifest = {.generation = 1, .space = space, .wal_first = 1, .next_file_no = 1};
    memcpy(manifest.collection, uuid, sizeof manifest.collection);
    memcpy(manifest.lineage, uuid, sizeof manifest.lineage);
    bool sync = vex_db_syncs(db);
    VEX_TRY(vex_manifest_write(db->vfs, dir, db->uuid, &manifest, sync));
    return sync ? vex_db_sync_collections(db) : VEX_OK;
}

vex_status vex_collection_create(vex_db *db, const uint8_t *uuid, uint32_t space) {
    if (space > VEX_SPACE_L1) {
        return VEX_FAIL(VEX_ERR_INVALID, "unknown space %u", (unsigned)space);
    }
    char *dir = NULL;
    VEX_TRY(vex_db_enter(db));
    vex_status status = vex_collection_directory(db, uuid, &dir);
    if (status == VEX_OK) {
        status = vex_space_for_write(db, NULL, NEW_BYTES);
    }
    if (status == VEX_OK) {
        status = vex_lease_acquire(db);
        if (status == VEX_OK) {
            status = create_in(db, dir, uuid, space);
            vex_lease_release(db);
        }
    }
    vex_free(dir);
    vex_db_leave(db);
    return status;
}

/* ---- open and close ---- */

static void unlink_from_db(vex_collection *collection) {
    vex_collection **place = &collection->db->collections;
    while (*place != NULL && *place != collection) {
        place = &(*place)->next;
    }
    if (*place != NULL) {
        *place = collection->next;
    }
}

void vex_collection_free(vex_collection *collection) {
    vex_vfs *vfs = collection->db->vfs;
    vex_wal_writer_close(collection->wal);
    vex_wal_reader_close(collection->tail);
    if (collection->head_file != NULL) {
        vfs->file_close(vfs, collection->head_file);
    }
    vex_snapshot_release(collection->published);
    vex_snapshot_release(collection->sealed);
    vex_snapshot_release(collection->latest);
    vex_manifest_clear(&collection->manifest);
    vex_key_set_clear(&collection->keys);
    vex_index_drop_turn(collection);
    vex_index_clear(&collection->index);
    pthread_cond_destroy(&collection->syncs_done);
    pthread_mutex_destroy(&collection->publish_mu);
    pthread_mutex_destroy(&collection->write_mu);
    vex_free(collection->dir);
    vex_free(collection);
}

/* Leave things tidy; nothing here is needed for safety, so failures do not matter. */
static void close_cleanly(vex_collection *collection) {
    vex_db *db = collection->db;
    if (atomic_load(&collection->dropped) || vex_db_volatile(db) || db->read_only) {
        return;
    }
    pthread_mutex_lock(&collection->write_mu); /* it may be opened again meanwhile, and written */
    const vex_snapshot *latest = collection->latest;
    bool wrote = collection->wal != NULL;
    bool much = wrote && !collection->poisoned &&
                (vex_memtable_bytes(latest->mems[latest->n_mems - 1].table) >= CLOSE_FLUSH_BYTES ||
                 vex_collection_wants_flush(collection));
    pthread_mutex_unlock(&collection->write_mu);
    if (much) {
        (void)vex_collection_flush_now(collection, true);
    }
    vex_index_save(collection);
    if (wrote) {
        (void)vex_collection_sync(collection);
        vex_collection_seal_log(collection);
    }
}

void vex_collection_destroy(vex_collection *collection) {
    vex_db *db = collection->db;
    close_cleanly(collection);
    pthread_mutex_lock(&db->collections_mu);
    unlink_from_db(collection);
    pthread_mutex_unlock(&db->collections_mu);
    vex_collection_free(collection);
}

void vex_collection_release(vex_collection *collection) {
    vex_db *db = collection->db;
    pthread_mutex_lock(&db->collections_mu);
    bool last = collection->handles == 1;
    if (!last) {
        collection->handles--;
    }
    pthread_mutex_unlock(&db->collections_mu);
    if (!last) {
        return;
    }
    /* Tidy up while the collection can still be found: whoever opens it meanwhile shares it. */
    close_cleanly(collection);
    pthread_mutex_lock(&db->collections_mu);
    last = --collection->handles == 0;
    if (vex_db_volatile(db) && !atomic_load(&collection->dropped)) {
        last = false; /* in memory this is the only copy: it lives until it is dropped */
    }
    if (last) {
        unlink_from_db(collection);
    }
    pthread_mutex_unlock(&db->collections_mu);
    if (last) {
        vex_collection_free(collection);
    }
}

static vex_collection *find_open(vex_db *db, const uint8_t *uuid) {
    for (vex_collection *c = db->collections; c != NULL; c = c->next) {
        if (memcmp(c->uuid, uuid, 16) == 0 && !atomic_load(&c->dropped)) {
            return c;
        }
    }
    return NULL;
}

vex_status vex_collection_make(vex_db *db, const uint8_t *uuid, vex_collection **out) {
    vex_collection *collection = vex_calloc(1, sizeof *collection);
    if (collection == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a collection handle");
    }
    collection->db = db;
    memcpy(collection->uuid, uuid, 16);
    pthread_mutex_init(&collection->write_mu, NULL);
    pthread_mutex_init(&collection->publish_mu, NULL);
    pthread_cond_init(&collection->syncs_done, NULL);
    vex_index_init(&collection->index, db->options.index_rows);
    vex_status status = vex_collection_directory(db, uuid, &collection->dir);
    if (status == VEX_OK) {
        status = vex_collection_load(collection);
    }
    if (status != VEX_OK) {
        vex_collection_free(collection);
        return status;
    }
    *out = collection;
    return VEX_OK;
}

static vex_status open_new(vex_db *db, const uint8_t *uuid, vex_collection **out) {
    VEX_TRY(vex_collection_make(db, uuid, out));
    (*out)->handles = 1;
    (*out)->next = db->collections;
    db->collections = *out;
    return VEX_OK;
}

static vex_status settle_opened(vex_collection *collection) {
    vex_status status = vex_collection_settle(collection, true);
    if (status != VEX_OK) {
        const vex_error failure = *vex_last_error();
        vex_collection_release(collection);
        return vex_fail_at(status, failure.path, failure.offset, failure.sys_errno, "%s",
                           failure.message);
    }
    return VEX_OK;
}

/* Was it dropped by another process?  Then it is not found here any more.  Of anything else that is
 * wrong the next call tells. */
static bool is_gone(vex_collection *collection) {
    (void)vex_collection_refresh(collection);
    const bool gone = atomic_load(&collection->dropped);
    if (gone) {
        vex_collection_release(collection);
    }
    return gone;
}

static vex_status open_once(vex_db *db, const uint8_t *uuid, vex_collection **out, bool *again) {
    pthread_mutex_lock(&db->collections_mu);
    vex_collection *there = find_open(db, uuid), *opened = there;
    vex_status status = VEX_OK;
    if (there != NULL) {
        there->handles++;
    } else {
        status = open_new(db, uuid, &opened);
    }
    pthread_mutex_unlock(&db->collections_mu);
    *again = there != NULL && is_gone(there);
    if (status == VEX_OK && there == NULL) {
        status = settle_opened(opened); /* takes the lease, which comes before collections_mu */
    }
    if (status == VEX_OK) {
        *out = opened;
    }
    return status;
}

vex_status vex_collection_open(vex_db *db, const uint8_t *uuid, vex_collection **out) {
    vex_collection *opened = NULL;
    bool again = true;
    vex_status status = vex_db_enter(db);
    VEX_TRY(status);
    while (status == VEX_OK && again) {
        status = open_once(db, uuid, &opened, &again);
    }
    if (status == VEX_OK) {
        *out = opened;
    }
    vex_db_leave(db);
    return status;
}

vex_status vex_collection_close(vex_collection *collection) {
    if (collection != NULL) {
        vex_db *db = collection->db;
        VEX_TRY(vex_db_enter(db));
        vex_collection_release(collection);
        vex_db_leave(db);
    }
    return VEX_OK;
}

/* ---- drop ---- */

vex_status vex_collection_announce_gone(vex_vfs *vfs, const uint8_t uuid[16], const char *dir) {
    char path[VEX_PATH_MAX];
    vex_file *head = NULL;
    VEX_TRY(vex_path_join(path, dir, "head"));
    vex_status status = vfs->file_open(vfs, path, VEX_FILE_WRITE, &head);
    if (status == VEX_ERR_NOT_FOUND || status == VEX_ERR_CORRUPT) {
        return VEX_OK; /* never written, or no file: who has it open looks for the directory */
    }
    VEX_TRY(status);
    status = vex_head_write(vfs, head, uuid, &(vex_head){.generation = VEX_HEAD_DROPPED});
    vfs->file_close(vfs, head);
    /* On a full disk it was never written whole; then nobody goes by it either. */
    return status == VEX_ERR_NO_SPACE ? VEX_OK : status;
}

/* Nothing of a collection goes before its new name is durable, whoever gave it: under the old one it
 * would be damaged. */
static vex_status remove_aside(vex_db *db, const char *aside) {
    vex_file_stat stat;
    if (db->vfs->path_stat(db->vfs, aside, &stat) == VEX_ERR_NOT_FOUND) {
        return VEX_OK;
    }
    if (vex_db_syncs(db)) {
        VEX_TRY(vex_db_sync_collections(db));
    }
    return vex_dir_remove_all(db->vfs, aside);
}

static vex_status drop_in(vex_db *db, const uint8_t uuid[16], const char *dir) {
    vex_file_stat stat;
    if (db->vfs->path_stat(db->vfs, dir, &stat) == VEX_ERR_NOT_FOUND) {
        return no_such_collection(dir);
    }
    char aside[VEX_PATH_MAX];
    size_t len = strlen(dir);
    if (len + sizeof VEX_DROPPED_SUFFIX > sizeof aside) {
        return VEX_FAIL(VEX_ERR_TOO_BIG, "the database path is too long");
    }
    memcpy(aside, dir, len);
    memcpy(aside + len, VEX_DROPPED_SUFFIX, sizeof VEX_DROPPED_SUFFIX);
    VEX_TRY(remove_aside(db, aside));
    VEX_TRY(vex_collection_announce_gone(db->vfs, uuid, dir));
    /* Renamed it is gone, however far the removal gets; opening the database finishes it. */
    VEX_TRY(db->vfs->path_rename(db->vfs, dir, aside));
    return remove_aside(db, aside);
}

/* No call of this process may be between append and acknowledgement in a directory that goes. */
static vex_status drop_open(vex_db *db, const uint8_t uuid[16], const char *dir,
                            vex_collection *there) {
    if (there == NULL) {
        return drop_in(db, uuid, dir);
    }
    pthread_mutex_lock(&there->write_mu);
    while (there->syncing > 0) {
        pthread_cond_wait(&there->syncs_done, &there->write_mu);
    }
    vex_status status = drop_in(db, uuid, dir);
    if (status == VEX_OK) {
        atomic_store(&there->dropped, true);
    }
    pthread_mutex_unlock(&there->write_mu);
    if (status == VEX_OK && there->handles == 0) { /* kept in memory without a handle */
        unlink_from_db(there);
        vex_collection_free(there);
    }
    return status;
}

vex_status vex_collection_drop(vex_db *db, const uint8_t *uuid) {
    char *dir = NULL;
    VEX_TRY(vex_db_enter(db));
    vex_status status = vex_collection_directory(db, uuid, &dir);
    if (status == VEX_OK) {
        status = vex_maintenance_acquire_soon(db);
    }
    if (status == VEX_OK) {
        status = vex_lease_acquire(db);
        if (status == VEX_OK) {
            pthread_mutex_lock(&db->collections_mu);
            vex_collection *there = find_open(db, uuid);
            status = drop_open(db, uuid, dir, there);
            pthread_mutex_unlock(&db->collections_mu);
            vex_lease_release(db);
        }
        vex_maintenance_release(db);
    }
    vex_free(dir);
    vex_db_leave(db);
    return status;
}

/* ---- list ---- */

static int hex_value(char digit) {
    return digit >= '0' && digit <= '9'   ? digit - '0'
           : digit >= 'a' && digit <= 'f' ? digit - 'a' + 10
                                          : -1;
}

static vex_status note_directory(void *context, const char *name) {
    uint8_t uuid[16];
    if (strlen(name) != 32) {
        return VEX_OK;
    }
    for (int i = 0; i < 16; i++) {
        int high = hex_value(name[2 * i]), low = hex_value(name[2 * i + 1]);
        if (high < 0 || low < 0) {
            return VEX_OK;
        }
        uuid[i] = (uint8_t)(high << 4 | low);
    }
    return vex_buf_append(context, uuid, sizeof uuid);
}

static int compare_uuids(const void *a, const void *b) {
    return memcmp(a, b, 16);
}

/* Keep the directories that have a manifest. */
static vex_status keep_complete(vex_db *db, vex_buf *uuids) {
    size_t kept = 0;
    for (size_t at = 0; at < uuids->len; at += 16) {
        char *dir = NULL;
        uint64_t generation = 0;
        VEX_TRY(vex_collection_directory(db, uuids->data + at, &dir));
        vex_status status = vex_manifest_newest(db->vfs, dir, &generation);
        vex_free(dir);
        if (status == VEX_ERR_PERMISSION) { /* it is there: nobody may take it for lost */
            return status;
        }
        if (status == VEX_OK && generation != 0) {
            memmove(uuids->data + kept, uuids->data + at, 16);
            kept += 16;
        }
    }
    uuids->len = kept;
    return VEX_OK;
}

/* Every database has the directory of its collections from the beginning. */
static vex_status explain_no_directory(vex_status status, const char *path) {
    const int why = vex_last_error()->sys_errno;
    if (status == VEX_OK || (why != ENOENT && why != ENOTDIR && why != ELOOP)) {
        return status;
    }
    return VEX_FAIL_AT(VEX_ERR_CORRUPT, path, 0, why,
                       "the directory of the collections is %s; restore it from a backup, or have "
                       "`vexctl repair` make an empty one",
                       why == ENOENT ? "missing" : "no directory");
}

vex_status vex_collection_list(vex_db *db, uint8_t **uuids, uint32_t *n) {
    vex_buf found = {0};
    char path[VEX_PATH_MAX];
    VEX_TRY(vex_db_enter(db));
    vex_status status = vex_path_join(path, db->path, "collections");
    if (status == VEX_OK) {
        status = vex_buf_reserve(&found, 16);
    }
    if (status == VEX_OK) {
        status = db->vfs->dir_list(db->vfs, path, note_directory, &found);
    }
    status = explain_no_directory(status, path);
    if (status == VEX_OK) {
        status = keep_complete(db, &found);
    }
    vex_db_leave(db);
    if (status != VEX_OK) {
        vex_buf_clear(&found);
        return status;
    }
    qsort(found.data, found.len / 16, 16, compare_uuids);
    *uuids = found.data;
    *n = (uint32_t)(found.len / 16);
    return VEX_OK;
}

void vex_bytes_free(void *bytes) {
    vex_free(bytes);
}

/* ---- describe ---- */

vex_snapshot *vex_collection_snapshot(vex_collection *collection) {
    pthread_mutex_lock(&collection->publish_mu);
    vex_snapshot *snapshot = vex_snapshot_acquire(collection->published);
    pthread_mutex_unlock(&collection->publish_mu);
    return snapshot;
}

static void describe(const vex_snapshot *snapshot, const vex_index_view *view,
                     vex_collection_info *out) {
    *out = (vex_collection_info){.rows = snapshot->live_rows,
                                 .lsn = snapshot->lsn,
                                 .next_seq = snapshot->next_seq,
                                 .dimension = snapshot->dimension,
                                 .space = snapshot->space,
                                 .vector_files = snapshot->n_vecs,
                                 .payload_files = snapshot->n_pays};
    for (uint32_t i = 0; i < snapshot->n_vecs; i++) {
        out->disk_bytes += snapshot->vecs[i].entry.size + snapshot->vecs[i].entry.tombs_size;
    }
    for (uint32_t i = 0; i < snapshot->n_pays; i++) {
        const vex_payfile *file = snapshot->pays[i].file;
        out->disk_bytes += snapshot->pays[i].entry.size + snapshot->pays[i].entry.tombs_size;
        out->raw_document_bytes += file->raw_document_bytes;
        out->stored_document_bytes += file->stored_document_bytes;
        out->raw_metadata_bytes += file->raw_metadata_bytes;
        out->stored_metadata_bytes += file->stored_metadata_bytes;
    }
    out->unindexed_rows = snapshot->live_rows;
    for (uint32_t i = 0; view != NULL && i < view->n; i++) {
        out->indexed_rows += view->sources[i].file->rows;
    }
    for (uint32_t i = 0; i < snapshot->n_vecs; i++) {
        if (vex_index_has_file(view, snapshot->vecs[i].entry.file_no)) {
            out->unindexed_rows -= snapshot->vecs[i].file->rows - snapshot->vecs[i].tombs->dead;
        }
    }
    out->quantization = vex_snapshot_code_tag(snapshot);
    if (view != NULL) {
        const vex_container *file = vex_graph_file(view->owner->graph);
        out->index_bytes = vex_graph_bytes(view->owner->graph) + (file != NULL ? file->size : 0);
    }
    for (uint32_t i = 0; i < snapshot->n_mems; i++) {
        out->memtable_rows += snapshot->mems[i].n_vectors;
        out->memtable_bytes += vex_memtable_bytes(snapshot->mems[i].table);
    }
}

vex_status vex_collection_get_info(vex_collection *collection, vex_collection_info *out) {
    vex_db *db = collection->db;
    VEX_TRY(vex_db_enter(db));
    vex_status status = vex_collection_refresh(collection);
    if (status == VEX_OK) {
        vex_snapshot *snapshot = vex_collection_snapshot(collection);
        vex_index_view *view = vex_collection_index_view(collection);
        describe(snapshot, view, out);
        out->index_rows = atomic_load(&collection->index.rows_min);
        vex_index_view_release(view);
        vex_snapshot_release(snapshot);
        pthread_mutex_lock(&collection->publish_mu);
        out->disk_bytes += collection->published_head.wal_end;
        pthread_mutex_unlock(&collection->publish_mu);
    }
    vex_db_leave(db);
    return status;
}

vex_status vex_collection_keys(vex_collection *collection, uint8_t **msgpack, size_t *len) {
    vex_db *db = collection->db;
    vex_buf encoded = {0};
    VEX_TRY(vex_db_enter(db));
    vex_status status = vex_collection_refresh(collection);
    if (status == VEX_OK) {
        pthread_mutex_lock(&collection->write_mu);
        status = vex_key_set_encode(&collection->keys, &encoded);
        pthread_mutex_unlock(&collection->write_mu);
    }
    vex_db_leave(db);
    if (status != VEX_OK) {
        vex_buf_clear(&encoded);
        return status;
    }
    *msgpack = encoded.data;
    *len = encoded.len;
    return VEX_OK;
}

vex_status vex_collection_flush(vex_collection *collection) {
    vex_db *db = collection->db;
    VEX_TRY(vex_db_enter(db));
    vex_status status = vex_collection_flush_now(collection, true);
    vex_db_leave(db);
    return status;
}
