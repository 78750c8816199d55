/*
 * reindex.c - another space for a collection, and its graph anew.
 *
 * Vectors, norms and code rows are the same in every space: only the manifest says which distance is
 * meant.  So a new space is one commit of a manifest, whatever the number of rows.  The graph, which is of
 * the old distances (or has other parameters than it should), is given up, and built in the background;
 * meanwhile searches read all rows.
 */
#include "db/catchup.h"
#include "db/index_internal.h"

#include "base/poison.h"

/* Under lease and write_mu: readers see the new space from here on. */
static vex_status commit_space(vex_collection *collection, uint32_t space) {
    vex_db *db = collection->db;
    vex_snapshot *latest = collection->latest, *next = NULL;
    vex_manifest manifest = {0};
    VEX_TRY(vex_manifest_copy(&manifest, &collection->manifest));
    manifest.generation++;
    manifest.space = space;
    vex_status status = vex_snapshot_copy(latest, &next);
    if (status == VEX_OK) {
        next->space = space;
        next->generation = manifest.generation;
        status =
            vex_manifest_write(db->vfs, collection->dir, db->uuid, &manifest, vex_db_syncs(db));
        if (status != VEX_OK && status != VEX_ERR_NO_SPACE) {
            vex_collection_commit_failed(collection);
        }
    }
    if (status != VEX_OK) {
        vex_snapshot_release(next);
        vex_manifest_clear(&manifest);
        return status;
    }
    vex_manifest_clear(&collection->manifest);
    collection->manifest = manifest;
    collection->known.generation = manifest.generation;
    collection->latest = next;
    vex_snapshot_release(latest);
    return vex_publish(collection, next, &collection->known);
}

static vex_status change_space(vex_collection *collection, uint32_t space) {
    vex_db *db = collection->db;
    VEX_TRY(vex_lease_acquire(db));
    pthread_mutex_lock(&collection->write_mu);
    vex_status status = vex_collection_take_over_files(collection);
    if (status == VEX_OK && collection->manifest.space != space) {
        status = vex_collection_take_over_quiet(collection);
        status = status == VEX_OK && collection->manifest.space != space
                     ? commit_space(collection, space)
                     : status;
    }
    pthread_mutex_unlock(&collection->write_mu);
    vex_lease_release(db);
    return status;
}

static vex_status check_space(const vex_collection *collection, uint32_t space) {
    if (space > VEX_SPACE_COSINE) {
        return VEX_FAIL(VEX_ERR_INVALID, "a collection can have space %u no more", (unsigned)space);
    }
    return collection->latest->space != VEX_SPACE_L1
               ? VEX_OK
               : VEX_FAIL(VEX_ERR_INVALID, "a collection of space l1 keeps it"); /* no code rows */
}

/* Under index.mu: nobody builds.  Searches look which space a graph is of. */
static vex_status reindex(vex_collection *collection, uint32_t space) {
    vex_db *db = collection->db;
    VEX_TRY(vex_maintenance_acquire_soon(db));
    vex_status status = change_space(collection, space);
    if (status == VEX_OK && !vex_db_volatile(db)) {
        vex_collection_remove_leftovers(collection, status);
    }
    vex_maintenance_release(db);
    return status == VEX_OK ? vex_index_forget(collection) : status;
}

vex_status vex_collection_reindex(vex_collection *collection, uint32_t space) {
    vex_db *db = collection->db;
    VEX_TRY(vex_db_enter(db));
    vex_status status = vex_collection_refresh(collection);
    pthread_mutex_lock(&collection->index.mu);
    if (status == VEX_OK) {
        pthread_mutex_lock(&collection->write_mu);
        status = check_space(collection, space);
        pthread_mutex_unlock(&collection->write_mu);
    }
    if (status == VEX_OK) {
        status = reindex(collection, space);
    }
    pthread_mutex_unlock(&collection->index.mu);
    if (status == VEX_OK) {
        vex_index_want(collection);
    }
    vex_db_leave(db);
    return status;
}
