/*
 * index_turn.c - which of several processes inserts rows into the graph of a collection.
 *
 * Inserting is most of what a record costs, and every process has a graph of its own.  So while one has
 * the turn, the others search what their graphs lack exactly, and load what it saves.  Two things are
 * inserted without a turn: few rows, since loading would be more work, and so many that searches would
 * feel them.
 *
 * The turn outlasts the work by TURN_MS, so that a steady stream of writes is one process' work, whoever
 * writes: to go on where another has stopped its graph has to be loaded, and copied.
 *
 * The turn is a flock on `head`, which the kernel frees when its holder dies.  Nothing but work depends
 * on it.
 */
#include "db/index_internal.h"

#include "base/poison.h"

#define LOAD_SHARE 256u /* one row is inserted in the time in which so many are loaded, about */
#define LOOK_EVERY_MS 100
#define TURN_MS 2000 /* longer than from one flush of a tail to the next */

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
static bool take_turn(vex_collection *collection) {
    vex_index *index = &collection->index;
    vex_vfs *vfs = collection->db->vfs;
    vex_file *head = collection->head_file;
    if (!index->has_turn) {
        bool locked = true;
        index->has_turn =
            head == NULL || vfs->file_try_lock(vfs, head, &locked) != VEX_OK || locked;
    }
    return index->has_turn;
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
    if (collection->head_file != NULL) {
        vfs->file_unlock(vfs, collection->head_file);
    }
    index->has_turn = false;
    atomic_store(&index->turn_ends_ms, 0);
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
    const bool ours = take_turn(collection);
    VEX_TRY(vex_index_load_more(collection, snapshot, wait));
    if (!ours && !*wait && lack.bytes <= index->wait_bytes) {
        vex_vfs *vfs = collection->db->vfs;
        atomic_store(&collection->index_after_ms, vfs->clock_ms(vfs) + LOOK_EVERY_MS);
        *wait = true;
    }
    return VEX_OK;
}
