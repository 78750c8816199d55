/*
 * index_save.c - graph files: the newest one counts, older ones are removed.
 */
#include "db/index_internal.h"

#include "base/poison.h"

typedef struct graph_files {
    vex_db *db;
    const char *dir;
    uint64_t newest;
} graph_files;

static vex_status note_newest(void *context, const char *name) {
    graph_files *files = context;
    uint64_t number;
    if (vex_file_number(name, VEX_KIND_GRAPH, &number) && number > files->newest) {
        files->newest = number;
    }
    return VEX_OK;
}

static vex_status remove_older(void *context, const char *name) {
    const graph_files *files = context;
    uint64_t number;
    char path[VEX_PATH_MAX];
    if (vex_file_number(name, VEX_KIND_GRAPH, &number) && number < files->newest &&
        vex_path_join(path, files->dir, name) == VEX_OK) {
        files->db->vfs->path_remove(files->db->vfs, path); /* tried again at the next saving */
    }
    return VEX_OK;
}

vex_status vex_index_newest_file(vex_db *db, const char *dir, uint64_t *number) {
    graph_files files = {.db = db, .dir = dir};
    VEX_TRY(db->vfs->dir_list(db->vfs, dir, note_newest, &files));
    *number = files.newest;
    return VEX_OK;
}

/* Under MAINT, so that two processes do not write the same number.  Nothing waits for a disk: a
 * graph that is lost is built anew. */
vex_status vex_index_write(vex_collection *collection, const vex_index_view *view) {
    vex_db *db = collection->db;
    graph_files files = {.db = db, .dir = collection->dir};
    vex_file_entry entry;
    if (!vex_space_is_ample(collection, vex_graph_bytes(view->owner->graph))) {
        return VEX_FAIL_AT(VEX_ERR_NO_SPACE, collection->dir, 0, ENOSPC,
                           "the disk is too full to save a graph; free some space");
    }
    VEX_TRY(vex_maintenance_acquire(db));
    vex_status status = vex_index_newest_file(db, collection->dir, &files.newest);
    if (status == VEX_OK && !atomic_load(&collection->dropped)) {
        files.newest++;
        status = vex_graph_save(view->owner->graph, db->vfs, collection->dir, db->uuid,
                                files.newest, 0, 0, false, &entry);
        if (status == VEX_OK) {
            collection->index.unsaved = 0;
            collection->index.refused = 0;
            collection->index.loaded = files.newest;
            collection->index.no_files = false;
            (void)db->vfs->dir_list(db->vfs, collection->dir, remove_older, &files);
        }
    }
    vex_maintenance_release(db);
    return status;
}

vex_status vex_index_store(vex_collection *collection) {
    vex_index *index = &collection->index;
    pthread_mutex_lock(&index->mu);
    vex_index_view *view = vex_collection_index_view(collection);
    bool wanted = view != NULL && view->owner->n_files > 0 && index->unsaved > 0;
    vex_status status = wanted ? vex_index_write(collection, view) : VEX_OK;
    vex_index_view_release(view);
    pthread_mutex_unlock(&index->mu);
    return status;
}

vex_status vex_index_remove_files(vex_collection *collection) {
    vex_db *db = collection->db;
    graph_files files = {.db = db, .dir = collection->dir, .newest = UINT64_MAX};
    if (collection->index.no_files || vex_db_volatile(db) || db->read_only ||
        atomic_load(&collection->dropped)) {
        return VEX_OK;
    }
    VEX_TRY(vex_maintenance_acquire(db));
    vex_status status = db->vfs->dir_list(db->vfs, collection->dir, remove_older, &files);
    vex_maintenance_release(db);
    collection->index.no_files = status == VEX_OK;
    return status;
}

bool vex_index_may_write(const vex_collection *collection, const vex_index_view *view) {
    return view != NULL && view->owner->n_files > 0 && collection->index.unsaved > 0 &&
           !vex_db_volatile(collection->db) && !collection->db->read_only &&
           !atomic_load(&collection->dropped);
}
