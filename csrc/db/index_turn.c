/*
 * index_turn.c - which of several processes inserts rows into the graph of a collection.
 *
 * Inserting is most of what a record costs, and every process has a graph of its own.  So while one has
 * the turn, the others search what their graphs lack exactly, and load what it saves.  Two things are
 * inserted without a turn: few rows, since loading would be more work, and so many that searches would
 * feel them, or four times as many where none comes.
 *
 * The turn outlasts the work by TURN_MS, so that a steady stream of writes is one process' work, whoever
 * writes: to go on where another has stopped its graph has to be loaded, and copied.  For the same reason
 * who has the graph in memory goes first when the turn is free.
 *
 * The turn is a flock on `head`, which the kernel frees when its holder dies.  It is opened for that, as a
 * forked process closes its copy, which would hold the lock, too.  A holder that is stopped, or hangs, is
 * not waited for beyond PATIENCE.  Nothing but work depends on any of it.
 */
#include "db/index_internal.h"

#include "base/poison.h"

#define LOAD_SHARE 256u /* one row is inserted in the time in which so many are loaded, about */
#define LOOK_EVERY_MS 100
#define TURN_MS 2000 /* longer than from one flush of a tail to the next */
#define UNASKED_BYTES                                                                              \
    4u /* times as many may wait where no query comes: less than has writers wait */

vex_index_lack vex_index_lack_of(const vex_index_view *view, const vex_snapshot *snapshot) {
    vex_index_lack lack = {0};
    for (uint32_t i = 0; i < snapshot->n_vecs; i++) {
        const vex_vecfile *file = snapshot->vecs[i].file;
        if (vex_index_usable(snapshot, file) &&
            !vex_index_has_file(view, file->container.file_no)) {
            lack.rows += file->rows;
            lack.bytes += (uint64_t)file->rows * file->code_form.stride;
        }
    }
    return lack;
}

/* Where locks do not work every process does its own work. */
static void take_turn(vex_collection *collection) {
    vex_index *index = &collection->index;
    vex_vfs *vfs = collection->db->vfs;
    char path[VEX_PATH_MAX];
    vex_file *file = NULL;
    bool locked = true;
    vex_status status = vex_path_join(path, collection->dir, "head");
    if (status == VEX_OK) {
        status = vfs->file_open(vfs, path, VEX_FILE_WRITE, &file);
    }
    if (status == VEX_OK) {
        status = vfs->file_try_lock(vfs, file, &locked);
    }
    index->has_turn = status != VEX_OK || locked;
    if (index->has_turn) {
        index->turn = file;
    } else {
        vfs->file_close(vfs, file);
    }
}

void vex_index_drop_turn(vex_collection *collection) {
    vex_index *index = &collection->index;
    vex_vfs *vfs = collection->db->vfs;
    if (index->turn != NULL) {
        vfs->file_close(vfs, index->turn);
    }
    index->turn = NULL;
    index->has_turn = false;
    atomic_store(&index->turn_ends_ms, 0);
}

void vex_index_keep_turn(vex_collection *collection) {
    vex_index *index = &collection->index;
    vex_vfs *vfs = collection->db->vfs;
    atomic_store(&index->turn_ends_ms, index->has_turn ? vfs->clock_ms(vfs) + TURN_MS : 0);
}

void vex_index_end_turn(vex_collection *collection) {
    vex_index *index = &collection->index;
    vex_vfs *vfs = collection->db->vfs;
    const uint64_t ends = atomic_load(&index->turn_ends_ms);
    if (!index->has_turn || (ends != 0 && vfs->clock_ms(vfs) < ends)) {
        return;
    }
    if (index->turn != NULL) {
        vfs->file_unlock(vfs, index->turn);
    }
    vex_index_drop_turn(collection);
}

/* Others have the turn, or go first: may the rows wait? */
static bool is_patient(vex_collection *collection, const vex_index_view *view,
                       vex_index_lack lack) {
    vex_index *index = &collection->index;
    vex_vfs *vfs = collection->db->vfs;
    const uint64_t now = vfs->clock_ms(vfs);
    if (index->patience_ends_ms == 0) {
        index->patience_ends_ms = now + index->patience_ms;
    }
    /* Queries count since the graph was loaded, so without one nobody knows. */
    const bool asked = view == NULL || atomic_load(&index->queries) > 0;
    const uint64_t most = index->wait_bytes * (asked ? 1 : UNASKED_BYTES);
    return lack.bytes <= most && now < index->patience_ends_ms;
}

static void look_later(vex_collection *collection) {
    vex_vfs *vfs = collection->db->vfs;
    atomic_store(&collection->index_after_ms, vfs->clock_ms(vfs) + LOOK_EVERY_MS);
}

/* Would the graph have to be copied first?  Another process may have it in memory. */
static bool lets_others_go_first(const vex_index *index, const vex_index_view *view) {
    return index->patience_ends_ms == 0 && view != NULL && vex_graph_is_mapped(view->owner->graph);
}

vex_status vex_index_await_turn(vex_collection *collection, const vex_index_view *view,
                                vex_snapshot *snapshot, bool *wait) {
    vex_index *index = &collection->index;
    const vex_index_lack lack = vex_index_lack_of(view, snapshot);
    const bool few = view != NULL && lack.rows < view->end / LOAD_SHARE;
    *wait = false;
    if (index->has_turn || few || vex_db_volatile(collection->db)) {
        return VEX_OK;
    }
    if (lets_others_go_first(index, view) && is_patient(collection, view, lack)) {
        look_later(collection);
        *wait = true;
        return VEX_OK;
    }
    take_turn(collection);
    VEX_TRY(vex_index_load_more(collection, snapshot, wait));
    if (*wait) {
        index->patience_ends_ms = 0;
    } else if (!index->has_turn && is_patient(collection, view, lack)) {
        look_later(collection);
        *wait = true;
    }
    return VEX_OK;
}
