/*
 * index_remap.c - a new graph out of the old one, after files were replaced or many rows died.
 */
#include "db/index_internal.h"

#include "base/bits.h"

#include "base/poison.h"

#define DEAD_SHARE 5 /* remap when one row in so many is dead */

/* Dead rows and rows of files that are gone. */
bool vex_index_holds_gone(const vex_index_view *view, const vex_snapshot *snapshot) {
    for (uint32_t i = 0; i < view->owner->n_files; i++) {
        if (vex_index_file_of(snapshot, view->owner->files[i]->container.file_no) == NULL) {
            return true;
        }
    }
    return false;
}

bool vex_index_needs_remap(const vex_index *index, const vex_index_view *view,
                           const vex_snapshot *snapshot) {
    uint64_t rows = 0, dead = 0;
    bool gone = false;
    for (uint32_t i = 0; i < view->n; i++) {
        const vex_vecfile *file = view->sources[i].file;
        bool found = false;
        for (uint32_t k = 0; k < snapshot->n_vecs && !found; k++) {
            if (snapshot->vecs[k].entry.file_no == file->container.file_no) {
                found = true;
                dead += snapshot->vecs[k].tombs->dead;
            }
        }
        rows += file->rows;
        gone = gone || !found;
    }
    dead -= dead < index->dead_at_remap ? dead : index->dead_at_remap;
    return gone || dead > rows / DEAD_SHARE;
}

/* Where the live row of a seq is, by node of `owner`; VEX_GRAPH_NONE when nowhere. */
static uint32_t node_of_seq(const vex_index_graph *owner, const vex_snapshot *snapshot,
                            uint64_t seq) {
    const vex_graph_source *sources = NULL;
    vex_row_ref ref;
    uint32_t n = vex_graph_sources(owner->graph, &sources);
    vex_snapshot_find_vector(snapshot, seq, &ref);
    for (uint32_t i = 0; ref.found && !ref.in_memory && i < n; i++) {
        if (sources[i].file_no == snapshot->vecs[ref.source].entry.file_no) {
            return sources[i].first + ref.row;
        }
    }
    return VEX_GRAPH_NONE;
}

/* The new node of every old one.  A seq that moved on within files that stay has another vector;
 * one in a file that is gone was copied, if its code row is the same.  Of rows that are one by now,
 * as the vector changed and changed back, the first is it: `taken` is a bitmap over new nodes. */
static void fill_table(const vex_index_view *view, const vex_index_graph *fresh,
                       const vex_snapshot *snapshot, uint64_t *taken, uint32_t *table) {
    for (uint32_t i = 0; i < view->end; i++) {
        table[i] = VEX_GRAPH_NONE;
    }
    for (uint32_t i = 0; i < view->n; i++) {
        const vex_vecfile *file = view->sources[i].file;
        for (uint32_t row = 0; row < file->rows; row++) {
            const uint8_t *codes = file->codes + (size_t)row * file->code_form.stride;
            uint32_t node = node_of_seq(fresh, snapshot, file->seqs[row]);
            if (node != VEX_GRAPH_NONE && !vex_bit_get(taken, node) &&
                memcmp(vex_graph_row(fresh->graph, node), codes, file->code_form.stride) == 0) {
                vex_bit_set(taken, node);
                table[view->sources[i].first + row] = node;
            }
        }
    }
}

/* Files that stay first, as all their live rows are kept; then those that took others' rows. */
static vex_status add_files(vex_index_graph *fresh, const vex_index_view *view,
                            const vex_snapshot *snapshot, uint32_t *complete) {
    uint32_t first = 0;
    for (int stays = 1; stays >= 0; stays--) {
        for (uint32_t i = 0; i < snapshot->n_vecs; i++) {
            vex_vecfile *file = snapshot->vecs[i].file;
            if (vex_index_has_file(view, file->container.file_no) == (stays == 1) &&
                vex_index_usable(snapshot, file) && vex_index_codes_sound(file)) {
                VEX_TRY(vex_index_add_file(fresh, file, &first));
                *complete += (uint32_t)stays;
            }
        }
    }
    return VEX_OK;
}

static uint32_t dead_rows(const vex_index_view *view, const vex_snapshot *snapshot) {
    uint32_t dead = 0;
    for (uint32_t i = 0; i < snapshot->n_vecs; i++) {
        dead += vex_index_has_file(view, snapshot->vecs[i].entry.file_no)
                    ? snapshot->vecs[i].tombs->dead
                    : 0;
    }
    return dead;
}

/* It may take long: does somebody wait for it to end? */
static bool gives_way(void *context) {
    vex_collection *collection = context;
    return vex_fork_waits() || vex_worker_stopping(collection->db) ||
           atomic_load(&collection->dropped);
}

static vex_status remap_into(vex_collection *collection, const vex_index_view *view,
                             const vex_snapshot *snapshot, vex_index_graph *fresh) {
    uint32_t complete = 0;
    vex_index_view *remapped = NULL;
    VEX_TRY(add_files(fresh, view, snapshot, &complete));
    uint32_t *table = vex_malloc(((size_t)view->end + 1) * sizeof *table);
    uint64_t *taken = vex_calloc(vex_bit_words(vex_graph_end(fresh->graph)) + 1, sizeof *taken);
    vex_status status = table != NULL && taken != NULL
                            ? VEX_OK
                            : VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to remap an index");
    if (status == VEX_OK) {
        fill_table(view, fresh, snapshot, taken, table);
        const vex_graph_pace pace = {collection->db->options.index_threads, gives_way, collection};
        status = vex_graph_remap(view->owner->graph, table, view->end, &pace, fresh->graph);
    }
    vex_free(table);
    vex_free(taken);
    VEX_TRY(status);
    VEX_TRY(vex_index_make_view(fresh, complete, &remapped));
    collection->index.building = false;
    collection->index.dead_at_remap = dead_rows(remapped, snapshot);
    collection->index.unsaved += remapped->end;
    collection->index.swept = 0;
    collection->index.sweeps = 0;
    collection->index.changed = 0;
    vex_index_publish(collection, remapped);
    return VEX_OK;
}

vex_status vex_index_remap(vex_collection *collection, const vex_index_view *view,
                           const vex_snapshot *snapshot) {
    vex_graph_params params = *vex_graph_get_params(view->owner->graph);
    vex_graph_stats stats;
    vex_graph *graph = NULL;
    vex_index_graph *fresh = NULL;
    vex_graph_get_stats(view->owner->graph, &stats);
    params.phi = stats.phi;
    VEX_TRY(vex_graph_create(&params, &graph));
    vex_status status = vex_index_graph_create(graph, &fresh);
    if (status != VEX_OK) {
        vex_graph_destroy(graph);
        return status;
    }
    status = remap_into(collection, view, snapshot, fresh);
    vex_index_graph_release(fresh);
    return status;
}
