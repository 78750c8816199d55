/*
 * index_build.c - the graph of a collection: loading it, and inserting the rows of files.
 */
#include "db/index_internal.h"

#include "store/residence.h"

#include "base/poison.h"

#define SLICE_MS 50
#define HELD_SHARE 4u /* one part in so many of the memory of the machine for code rows, at most */
#define SEED 0x5eed6a9fULL

/* ---- loading ---- */

static const void *rows_of(void *context, uint64_t file_no, uint32_t rows) {
    vex_vecfile *file = vex_index_file_of(context, file_no);
    return file != NULL && vex_index_usable(context, file) && file->rows == rows ? file->codes
                                                                                 : NULL;
}

/* Are all rows in it? */
static bool is_complete(const vex_graph *graph) {
    const vex_graph_source *sources = NULL;
    const uint32_t n = vex_graph_sources(graph, &sources);
    uint64_t rows = 0;
    for (uint32_t i = 0; i < n; i++) {
        rows += sources[i].rows;
    }
    return vex_graph_inserted(graph) == rows;
}

/* How many of the sources, from the first on, are in the graph: one that was saved while it was
 * built lacks rows of the last ones. */
static uint32_t count_complete(const vex_graph *graph, const vex_graph_source *sources,
                               uint32_t n) {
    if (is_complete(graph)) {
        return n;
    }
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t row = 0; row < sources[i].rows; row++) {
            if (!vex_graph_has(graph, sources[i].first + row)) {
                return i;
            }
        }
    }
    return n;
}

/* Takes the graph. */
static vex_status view_of_loaded(const vex_snapshot *snapshot, vex_graph *graph,
                                 vex_index_view **view) {
    vex_index_graph *owner = NULL;
    const vex_graph_source *sources = NULL;
    uint32_t n = vex_graph_sources(graph, &sources);
    vex_status status = vex_index_graph_create(graph, &owner);
    if (status != VEX_OK) {
        vex_graph_destroy(graph);
        return status;
    }
    owner->files = vex_calloc(n + 1, sizeof *owner->files);
    status = owner->files ? VEX_OK : VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for an index");
    for (uint32_t i = 0; i < n && status == VEX_OK; i++) {
        owner->files[owner->n_files++] =
            vex_vecfile_acquire(vex_index_file_of(snapshot, sources[i].file_no));
    }
    if (status == VEX_OK) {
        status = vex_index_make_view(owner, count_complete(graph, sources, n), view);
    }
    vex_index_graph_release(owner); /* the view has its own reference */
    return status;
}

static void adopt_loaded(vex_collection *collection, vex_index_view *view, uint64_t number) {
    vex_index *index = &collection->index;
    index->building = false;
    index->dead_at_remap = 0;
    index->unsaved = 0;
    index->changed = 0;
    index->swept =
        view->n == view->owner->n_files ? view->end : 0; /* saved complete: it was swept */
    index->loaded = number;
    vex_index_publish(collection, view);
}

/* What cannot be loaded is built anew, so only running out of memory is a failure.  *view NULL then. */
static vex_status load_view(vex_collection *collection, vex_snapshot *snapshot, uint64_t number,
                            bool copy, vex_index_view **view) {
    vex_db *db = collection->db;
    vex_graph *graph = NULL;
    vex_codes codes;
    VEX_TRY(vex_index_codes(snapshot, &codes));
    vex_status status = (copy ? vex_graph_load : vex_graph_map)(
        db->vfs, collection->dir, db->uuid, number, NULL, &codes, rows_of, snapshot, &graph);
    if (status == VEX_OK && !is_complete(graph)) { /* which rows are in it is to be read */
        status = vex_graph_verify(graph);
        if (status != VEX_OK) {
            vex_graph_destroy(graph);
        }
    }
    if (status == VEX_ERR_CORRUPT) {
        collection->index.loaded = number; /* not again and again */
        vex_stat_add(VEX_STAT_DAMAGED_PARTS, 1);
    }
    if (status != VEX_OK) {
        return status == VEX_ERR_NO_MEMORY ? status : VEX_OK;
    }
    return view_of_loaded(snapshot, graph, view);
}

vex_status vex_index_verify(vex_collection *collection, const vex_index_view *view) {
    vex_status status = vex_graph_verify(view->owner->graph);
    if (status == VEX_ERR_CORRUPT) {
        vex_stat_add(VEX_STAT_DAMAGED_PARTS, 1);
        vex_index_publish(collection, NULL);
        status = VEX_OK;
    }
    return status;
}

static vex_status load_file(vex_collection *collection, vex_snapshot *snapshot, uint64_t number,
                            bool copy) {
    vex_index_view *view = NULL;
    VEX_TRY(load_view(collection, snapshot, number, copy, &view));
    if (view != NULL) {
        adopt_loaded(collection, view, number);
    }
    return VEX_OK;
}

vex_status vex_index_load(vex_collection *collection, vex_snapshot *snapshot) {
    vex_db *db = collection->db;
    uint64_t number = 0;
    atomic_store(&collection->index.load_tried, true);
    if (snapshot->n_vecs == 0 || vex_index_newest_file(db, collection->dir, &number) != VEX_OK ||
        number == 0 || number == collection->index.loaded) {
        return VEX_OK;
    }
    return load_file(collection, snapshot, number, false);
}

vex_status vex_index_load_more(vex_collection *collection, vex_snapshot *snapshot, bool *loaded) {
    vex_index *index = &collection->index;
    uint64_t number = 0;
    vex_index_view *view = NULL;
    VEX_TRY(vex_index_newest_file(collection->db, collection->dir, &number));
    const bool again = number == index->passed && snapshot->generation == index->passed_at;
    if (number == 0 || number == index->loaded || again) {
        return VEX_OK;
    }
    VEX_TRY(load_view(collection, snapshot, number, false, &view));
    vex_index_view *now = vex_collection_index_view(collection);
    *loaded = view != NULL &&
              vex_index_lack_of(view, snapshot).rows < vex_index_lack_of(now, snapshot).rows;
    vex_index_view_release(now);
    if (*loaded) {
        adopt_loaded(collection, view, number);
        atomic_store(&index->queries, 0); /* the next may be there before it is asked */
    } else {
        vex_index_view_release(view);
        index->passed = number;
        index->passed_at = snapshot->generation;
    }
    return VEX_OK;
}

vex_status vex_index_copy(vex_collection *collection, vex_snapshot *snapshot) {
    vex_index_view *mapped = vex_collection_index_view(collection);
    uint64_t number = 0;
    vex_status status = vex_index_newest_file(collection->db, collection->dir, &number);
    if (status == VEX_OK && number != 0) {
        status = load_file(collection, snapshot, number, true);
    }
    if (status == VEX_OK) {
        vex_index_view *now = vex_collection_index_view(collection);
        if (now == mapped) { /* its file is gone, or damaged by now */
            vex_index_publish(collection, NULL);
        }
        vex_index_view_release(now);
    }
    vex_index_view_release(mapped);
    return status;
}

bool vex_index_may_hold(const vex_collection *collection) {
    return collection->db->options.memory_limit == 0 && !vex_db_volatile(collection->db);
}

static void hold_rows(vex_index_graph *owner) {
    /* What there is no room for stays mapped, as it was. */
    (void)vex_graph_hold_rows(owner->graph, vex_mem_physical() / HELD_SHARE);
    const vex_graph_source *sources = NULL;
    const uint32_t n = vex_graph_sources(owner->graph, &sources);
    for (uint32_t i = 0; i < n && i < owner->n_files; i++) {
        if (sources[i].rows > 0 &&
            vex_graph_row(owner->graph, sources[i].first) != owner->files[i]->codes) {
            vex_vecfile_give_back_codes(owner->files[i]);
        }
    }
}

vex_status vex_index_hold(vex_collection *collection, const vex_index_view *view,
                          vex_snapshot *snapshot) {
    if (!vex_graph_is_mapped(view->owner->graph)) {
        hold_rows(view->owner);
        return VEX_OK;
    }
    /* Where no copy can be had (its file is gone, or memory is short) the mapped graph goes on serving;
     * so many more queries, and it is tried again. */
    uint64_t number = 0;
    vex_status status = vex_index_newest_file(collection->db, collection->dir, &number);
    if (status == VEX_OK && number != 0 && number == collection->index.loaded) {
        status = load_file(collection, snapshot, number, true);
    }
    vex_index_view *now = vex_collection_index_view(collection);
    if (now == view) {
        atomic_store(&collection->index.queries, 0);
    }
    vex_index_view_release(now);
    return status == VEX_ERR_NO_MEMORY ? VEX_OK : status;
}

/* ---- creating and extending ---- */

/* The first file that the graph has not, and that can be in it. */
vex_vecfile *vex_index_next_file(const vex_index_view *view, const vex_snapshot *snapshot) {
    for (uint32_t i = 0; i < snapshot->n_vecs; i++) {
        vex_vecfile *file = snapshot->vecs[i].file;
        if (vex_index_usable(snapshot, file) &&
            !vex_index_has_file(view, file->container.file_no)) {
            return file;
        }
    }
    return NULL;
}

uint64_t vex_index_rows(const vex_snapshot *snapshot) {
    uint64_t rows = 0;
    for (uint32_t i = 0; i < snapshot->n_vecs; i++) {
        rows += vex_index_usable(snapshot, snapshot->vecs[i].file)
                    ? snapshot->vecs[i].file->rows - snapshot->vecs[i].tombs->dead
                    : 0;
    }
    return rows;
}

static vex_status new_graph(const vex_index_options *options, const vex_snapshot *snapshot,
                            const vex_vecfile *sample, vex_index_graph **out) {
    vex_graph_params params = {
        .m = options->m, .ef_construction = options->ef_construction, .seed = SEED};
    vex_graph *graph = NULL;
    VEX_TRY(vex_index_codes(snapshot, &params.codes));
    if (snapshot->space == VEX_SPACE_IP) {
        VEX_TRY(vex_graph_choose_phi(&params, sample->codes, sample->rows, &params.phi));
    }
    VEX_TRY(vex_graph_create(&params, &graph));
    vex_status status = vex_index_graph_create(graph, out);
    if (status != VEX_OK) {
        vex_graph_destroy(graph);
    }
    return status;
}

/* Are the codes of the file as they were written?  If not, it is never in a graph. */
bool vex_index_codes_sound(vex_vecfile *file) {
    if (vex_vecfile_check_codes(file, 0, file->rows) == VEX_OK) {
        return true;
    }
    if (!atomic_exchange(&file->codes_damaged, true)) {
        vex_stat_add(VEX_STAT_DAMAGED_PARTS, 1);
    }
    return false;
}

/* One more file for the graph, which is created with the first one. */
vex_status vex_index_begin_file(vex_collection *collection, const vex_index_view *view,
                                const vex_snapshot *snapshot, vex_vecfile *file) {
    uint32_t first = 0;
    if (!vex_index_codes_sound(file)) {
        return VEX_OK;
    }
    if (view != NULL) {
        VEX_TRY(vex_index_add_file(view->owner, file, &first));
        if (vex_index_may_hold(collection)) {
            hold_rows(view->owner);
        }
        return VEX_OK;
    }
    vex_index_graph *owner = NULL;
    vex_index_view *empty = NULL;
    VEX_TRY(new_graph(&collection->index.options, snapshot, file, &owner));
    vex_status status = vex_index_add_file(owner, file, &first);
    if (status == VEX_OK) {
        status = vex_index_make_view(owner, 0, &empty);
    }
    if (status == VEX_OK && vex_index_may_hold(collection)) {
        hold_rows(owner);
    }
    vex_index_graph_release(owner); /* the view has its own reference */
    if (status == VEX_OK) {
        vex_index_publish(collection, empty);
    }
    return status;
}

typedef struct slice {
    vex_db *db;
    uint64_t until_ms;
} slice;

static bool slice_is_over(void *context) {
    const slice *s = context;
    return s->db->vfs->clock_ms(s->db->vfs) >= s->until_ms;
}

static uint64_t inserted_to(const vex_graph_batch *batch) {
    uint64_t next = atomic_load(&batch->next);
    return next < batch->end ? next : batch->end;
}

/* Go on inserting the first file that the view has not; when it is in, it is seen. */
vex_status vex_index_insert_slice(vex_collection *collection, const vex_index_view *view) {
    vex_index *index = &collection->index;
    vex_index_graph *owner = view->owner;
    vex_db *db = collection->db;
    slice s = {db, db->vfs->clock_ms(db->vfs) + SLICE_MS};
    if (!index->building) {
        const vex_graph_source *sources = NULL;
        (void)vex_graph_sources(owner->graph, &sources);
        vex_graph_batch_init(&index->batch, sources[view->n].first, sources[view->n].rows);
        index->building = true;
    }
    index->batch.pause = slice_is_over;
    index->batch.context = &s;
    atomic_store(&index->batch.stop, false);
    uint64_t from = inserted_to(&index->batch), n;
    vex_status status = vex_graph_insert_by(owner->graph, &index->batch, db->options.index_threads);
    n = inserted_to(&index->batch) - from;
    index->unsaved += n;
    index->changed += n;
    atomic_fetch_add(&index->inserted, n);
    if (status != VEX_OK) {
        index->building = false; /* the row that failed is not in: go through all of them again */
        return status;
    }
    if (inserted_to(&index->batch) < index->batch.end) {
        return VEX_OK;
    }
    vex_graph_repair_stats repaired;
    vex_index_view *grown = NULL;
    VEX_TRY(vex_graph_repair(owner->graph, &repaired));
    VEX_TRY(vex_index_make_view(owner, view->n + 1, &grown));
    index->building = false;
    vex_index_publish(collection, grown);
    return VEX_OK;
}

/* ---- sweeping ---- */

#define SWEEP_SHARE 16u
#define SWEEP_AGAIN_SHARE 2000u /* one link in so many rows was added */
#define SWEEPS_MAX 4u

bool vex_index_needs_sweep(vex_index *index, const vex_index_view *view) {
    if (index->changed * SWEEP_SHARE > view->end) {
        index->changed = 0;
        index->swept = 0;
        index->sweeps = 0;
    }
    if (index->swept == 0) {
        index->sweep_links = 0;
    }
    return index->swept < view->end;
}

vex_status vex_index_sweep_slice(vex_collection *collection, const vex_index_view *view) {
    vex_index *index = &collection->index;
    vex_db *db = collection->db;
    slice s = {db, db->vfs->clock_ms(db->vfs) + SLICE_MS};
    vex_graph_batch batch;
    uint64_t links = 0;
    vex_graph_batch_init(&batch, index->swept, view->end - index->swept);
    batch.pause = slice_is_over;
    batch.context = &s;
    VEX_TRY(vex_graph_sweep_by(view->owner->graph, &batch, db->options.index_threads, &links));
    index->sweep_links += links;
    index->unsaved += inserted_to(&batch) - index->swept;
    if (inserted_to(&batch) == view->end) { /* its links may be in the place of ways in */
        vex_graph_repair_stats repaired;
        VEX_TRY(vex_graph_repair(view->owner->graph, &repaired));
    }
    index->swept = (uint32_t)inserted_to(&batch);
    if (index->swept == view->end && index->sweep_links > view->end / SWEEP_AGAIN_SHARE &&
        ++index->sweeps < SWEEPS_MAX) {
        index->swept = 0;
    }
    return VEX_OK;
}
