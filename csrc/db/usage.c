/*
 * usage.c - what the files of a collection take and hold: looked up in its directory, beside whoever
 * writes it.
 */
#include "db/index_internal.h"

#include "base/poison.h"

#define TRIES 10 /* another process may commit while we look                                  */

typedef struct looking {
    vex_collection *collection;
    vex_manifest manifest;
    uint64_t graph; /* number of the newest                                            */
    vex_collection_usage usage;
} looking;

/* Which sum the bytes of a file belong to. */
static uint64_t *sum_of(looking *l, const char *name) {
    vex_collection_usage *usage = &l->usage;
    uint64_t number;
    if (vex_manifest_is_leftover(&l->manifest, name, true)) {
        return &usage->leftover_bytes;
    }
    if (vex_file_number(name, VEX_KIND_GRAPH, &number)) {
        l->graph = number > l->graph ? number : l->graph;
        return &usage->graph_bytes;
    }
    return vex_file_number(name, VEX_KIND_VECTORS, &number)   ? &usage->vector_bytes
           : vex_file_number(name, VEX_KIND_PAYLOAD, &number) ? &usage->payload_bytes
           : vex_file_number(name, VEX_KIND_TOMBS, &number)   ? &usage->tombstone_bytes
           : vex_wal_parse_name(name, &number)                ? &usage->log_bytes
                                                              : &usage->other_bytes;
}

static vex_status add_file(void *context, const char *name) {
    looking *l = context;
    vex_vfs *vfs = l->collection->db->vfs;
    char path[VEX_PATH_MAX];
    vex_file_stat stat;
    VEX_TRY(vex_path_join(path, l->collection->dir, name));
    vex_status status = vfs->path_stat(vfs, path, &stat);
    if (status == VEX_OK) {
        *sum_of(l, name) += stat.size;
    }
    return status == VEX_ERR_NOT_FOUND ? VEX_OK : status;
}

static bool is_listed(void *context, uint64_t file_no, uint32_t rows) {
    const looking *l = context;
    for (uint32_t i = 0; i < l->manifest.n_files; i++) {
        const vex_file_entry *entry = &l->manifest.files[i];
        if (entry->kind == VEX_KIND_VECTORS && entry->file_no == file_no) {
            return entry->rows == rows;
        }
    }
    return false;
}

/* A graph that is damaged, or being replaced, is none. */
static void look_at_graph(looking *l) {
    const vex_collection *collection = l->collection;
    vex_db *db = collection->db;
    if (l->graph == 0 || vex_graph_count_stored(db->vfs, collection->dir, db->uuid, l->graph,
                                                is_listed, l, &l->usage.graph_rows) != VEX_OK) {
        l->usage.graph_rows = 0;
    }
}

static void count_rows(looking *l) {
    vex_snapshot *snapshot = vex_collection_snapshot(l->collection);
    for (uint32_t i = 0; i < snapshot->n_vecs; i++) {
        const vex_vecfile *file = snapshot->vecs[i].file;
        l->usage.vector_rows += file->rows;
        l->usage.code_bytes += (uint64_t)file->rows * file->code_form.stride;
        l->usage.dead_vector_rows += snapshot->vecs[i].tombs->dead;
    }
    for (uint32_t i = 0; i < snapshot->n_pays; i++) {
        l->usage.payload_rows += snapshot->pays[i].file->rows;
        l->usage.dead_payload_rows += snapshot->pays[i].tombs->dead;
    }
    vex_snapshot_release(snapshot);
}

static vex_status look_once(looking *l, uint64_t generation) {
    const vex_collection *collection = l->collection;
    vex_db *db = collection->db;
    l->usage = (vex_collection_usage){.generation = generation};
    l->graph = 0;
    vex_manifest_clear(&l->manifest);
    VEX_TRY(vex_manifest_read(db->vfs, collection->dir, db->uuid, generation, &l->manifest));
    return db->vfs->dir_list(db->vfs, collection->dir, add_file, l);
}

/* By one manifest: else what a commit just added would seem to be left over. */
static vex_status look(looking *l) {
    vex_collection *collection = l->collection;
    vex_vfs *vfs = collection->db->vfs;
    uint64_t before = 0, after = 0;
    vex_status status = VEX_OK;
    VEX_TRY(vex_collection_refresh(collection));
    VEX_TRY(vex_manifest_newest(vfs, collection->dir, &after));
    for (int i = 0; i < TRIES && before != after; i++) {
        before = after;
        status = look_once(l, before);
        VEX_TRY(vex_manifest_newest(vfs, collection->dir, &after));
    }
    VEX_TRY(status);
    look_at_graph(l);
    count_rows(l);
    return VEX_OK;
}

vex_status vex_collection_get_usage(vex_collection *collection, vex_collection_usage *out) {
    looking l = {.collection = collection};
    VEX_TRY(vex_db_enter(collection->db));
    vex_status status = look(&l);
    vex_db_leave(collection->db);
    vex_manifest_clear(&l.manifest);
    if (status == VEX_OK) {
        *out = l.usage;
    }
    return status;
}
