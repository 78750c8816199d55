/*
 * index.c - the graph of a collection: what searches see of it, whose turn it is to be worked on, and
 * the public functions (index.h).
 */
#include "db/index_internal.h"

#include "store/section.h"

#include "base/poison.h"

#define SAVE_ROWS_MIN 10000u
#define LOOK_EVERY_MS 1000
#define QUERIED_TAIL_MS 5000
#define BUILDER_WAIT_MS 10000 /* at most, whatever the builder does */
#define BUILDER_POLL_MS 2
#define CHECK_DELAY_MS 50 /* after a graph was mapped for a query */

/* ---- views and what they stand on ---- */

void vex_index_graph_release(vex_index_graph *owner) {
    if (owner == NULL || !vex_refs_drop(&owner->refs)) {
        return;
    }
    vex_graph_destroy(owner->graph); /* before the rows that it reads */
    for (uint32_t i = 0; i < owner->n_files; i++) {
        vex_vecfile_release(owner->files[i]);
    }
    vex_free(owner->files);
    vex_free(owner);
}

vex_index_view *vex_index_view_acquire(vex_index_view *view) {
    if (view != NULL) {
        vex_refs_take(&view->refs);
    }
    return view;
}

void vex_index_view_release(vex_index_view *view) {
    if (view != NULL && vex_refs_drop(&view->refs)) {
        vex_index_graph_release(view->owner);
        vex_free(view);
    }
}

vex_index_view *vex_collection_index_view(vex_collection *collection) {
    pthread_mutex_lock(&collection->publish_mu);
    vex_index_view *view = vex_index_view_acquire(collection->index.view);
    pthread_mutex_unlock(&collection->publish_mu);
    return view;
}

static bool of_such_rows(const vex_index_view *view, const vex_snapshot *snapshot) {
    const vex_codes *codes = &vex_graph_get_params(view->owner->graph)->codes;
    return codes->space == snapshot->space && codes->dim == snapshot->dimension;
}

vex_index_view *vex_index_view_for(vex_collection *collection, const vex_snapshot *snapshot) {
    vex_index_view *view = vex_collection_index_view(collection);
    if (view != NULL && !of_such_rows(view, snapshot)) {
        vex_index_view_release(view);
        return NULL;
    }
    return view;
}

void vex_index_publish(vex_collection *collection, vex_index_view *view) {
    pthread_mutex_lock(&collection->publish_mu);
    vex_index_view *old = collection->index.view;
    collection->index.view = view;
    pthread_mutex_unlock(&collection->publish_mu);
    vex_index_view_release(old);
}

/* A view of the first n files of the graph. */
vex_status vex_index_make_view(vex_index_graph *owner, uint32_t n, vex_index_view **out) {
    const vex_graph_source *sources = NULL;
    (void)vex_graph_sources(owner->graph, &sources);
    vex_index_view *view = vex_calloc(1, sizeof *view + n * sizeof view->sources[0]);
    if (view == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for an index");
    }
    atomic_init(&view->refs, 1);
    view->n = n;
    for (uint32_t i = 0; i < n; i++) {
        view->sources[i] = (vex_index_source){owner->files[i], sources[i].first};
        view->end = sources[i].first + sources[i].rows;
    }
    vex_refs_take(&owner->refs);
    view->owner = owner;
    *out = view;
    return VEX_OK;
}

vex_status vex_index_graph_create(vex_graph *graph, vex_index_graph **out) {
    vex_index_graph *owner = vex_calloc(1, sizeof *owner);
    if (owner == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for an index");
    }
    atomic_init(&owner->refs, 1);
    owner->graph = graph;
    *out = owner;
    return VEX_OK;
}

/* Takes its own reference of the file. */
vex_status vex_index_add_file(vex_index_graph *owner, vex_vecfile *file, uint32_t *first) {
    vex_vecfile **files =
        vex_realloc(owner->files, ((size_t)owner->n_files + 1) * sizeof *owner->files);
    if (files == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for an index");
    }
    owner->files = files;
    VEX_TRY(vex_graph_add_source(owner->graph, file->container.file_no, file->codes, file->rows,
                                 first));
    files[owner->n_files++] = vex_vecfile_acquire(file);
    return VEX_OK;
}

vex_vecfile *vex_index_file_of(const vex_snapshot *snapshot, uint64_t file_no) {
    for (uint32_t i = 0; i < snapshot->n_vecs; i++) {
        if (snapshot->vecs[i].entry.file_no == file_no) {
            return snapshot->vecs[i].file;
        }
    }
    return NULL;
}

bool vex_index_has_file(const vex_index_view *view, uint64_t file_no) {
    for (uint32_t i = 0; view != NULL && i < view->n; i++) {
        if (view->sources[i].file->container.file_no == file_no) {
            return true;
        }
    }
    return false;
}

bool vex_index_usable(const vex_snapshot *snapshot, const vex_vecfile *file) {
    return file->codes != NULL && file->code_form.tag == vex_snapshot_code_tag(snapshot) &&
           !atomic_load_explicit(&file->codes_damaged, memory_order_relaxed);
}

vex_status vex_index_codes(const vex_snapshot *snapshot, vex_codes *codes) {
    return vex_codes_init(codes, (vex_code_kind)vex_snapshot_code_tag(snapshot), snapshot->space,
                          snapshot->dimension);
}

/* ---- steps ---- */

/* Too few rows are left for the graph, or it is of others. */
vex_status vex_index_forget(vex_collection *collection) {
    collection->index.building = false;
    collection->index.dead_at_remap = 0;
    collection->index.unsaved = 0;
    vex_index_publish(collection, NULL);
    return vex_index_remove_files(collection);
}

/* The newest graph file is looked for anew. */
static void let_go(vex_collection *collection) {
    vex_index *index = &collection->index;
    index->building = false;
    index->dead_at_remap = 0;
    index->unsaved = 0;
    index->loaded = 0;
    atomic_store(&index->load_tried, false);
    atomic_store(&index->queries, 0);
    vex_index_publish(collection, NULL);
}

static bool of_its_kind(const vex_index_view *view, const vex_snapshot *snapshot) {
    const vex_graph_params *params = vex_graph_get_params(view->owner->graph);
    return (uint32_t)params->codes.kind == vex_snapshot_code_tag(snapshot) &&
           of_such_rows(view, snapshot);
}

/* Long building is saved now and then, for other processes and for who is killed: when half as much again
 * was inserted. */
static bool worth_saving(const vex_index *index, const vex_index_view *view) {
    return index->unsaved > SAVE_ROWS_MIN && index->unsaved > view->end / 3;
}

/* One that had to give way is done again. */
static vex_status remap(vex_collection *collection, const vex_index_view *view,
                        const vex_snapshot *snapshot) {
    vex_status status = vex_index_remap(collection, view, snapshot);
    return status == VEX_ERR_BUSY ? VEX_OK : status;
}

/* Is something to be added to a graph that is mapped? */
static bool needs_copy(vex_index *index, const vex_index_view *view, const vex_snapshot *snapshot,
                       bool enough) {
    return view != NULL && vex_graph_is_mapped(view->owner->graph) &&
           (view->owner->n_files > view->n || vex_index_needs_sweep(index, view) ||
            (enough && vex_index_next_file(view, snapshot) != NULL));
}

/* Is the graph, which is asked often, not yet where walks are fastest? */
static bool needs_holding(const vex_collection *collection, const vex_index_view *view) {
    return view != NULL && atomic_load(&collection->index.queries) >= VEX_INDEX_QUERIES_HELD &&
           vex_index_may_hold(collection) &&
           (vex_graph_is_mapped(view->owner->graph) || !vex_graph_holds_rows(view->owner->graph));
}

static vex_status step(vex_collection *collection, const vex_index_view *view,
                       vex_snapshot *snapshot, bool *more) {
    vex_index *index = &collection->index;
    *more = true;
    if (view == NULL && !atomic_load(&index->load_tried)) {
        return vex_index_load(collection, snapshot);
    }
    if (view != NULL && !vex_graph_is_verified(view->owner->graph)) {
        return vex_index_verify(collection, view);
    }
    if (collection->db->read_only) {
        const uint64_t before = index->loaded;
        VEX_TRY(vex_index_load(collection, snapshot));
        *more = index->loaded != before; /* to be checked */
        return needs_holding(collection, view) ? vex_index_hold(collection, view, snapshot)
                                               : VEX_OK;
    }
    bool enough = vex_index_rows(snapshot) >= index->options.rows;
    if (view != NULL && !of_its_kind(view, snapshot)) {
        let_go(collection); /* another process may have saved one that is */
        return VEX_OK;
    }
    if (enough && vex_index_next_file(view, snapshot) != NULL) {
        bool wait = false;
        VEX_TRY(vex_index_await_turn(collection, view, snapshot, &wait));
        if (wait) {
            return VEX_OK;
        }
    }
    const bool mapped = view != NULL && vex_graph_is_mapped(view->owner->graph);
    if (view != NULL && view->owner->n_files > view->n && !mapped) {
        return vex_index_insert_slice(collection, view);
    }
    if (view != NULL && vex_index_needs_remap(index, view, snapshot)) {
        return enough ? remap(collection, view, snapshot) : vex_index_forget(collection);
    }
    if (needs_copy(index, view, snapshot, enough)) {
        return vex_index_copy(collection, snapshot);
    }
    if (needs_holding(collection, view)) {
        return vex_index_hold(collection, view, snapshot);
    }
    vex_vecfile *file = vex_index_next_file(view, snapshot);
    *more = enough && file != NULL;
    if (view == NULL && !enough) {
        vex_collection_note_files(collection); /* codes of another kind have to be written first */
        return vex_index_remove_files(collection);
    }
    if (view != NULL && !*more && vex_index_needs_sweep(index, view)) {
        *more = true;
        return vex_index_sweep_slice(collection, view);
    }
    if (vex_index_may_write(collection, view) && index->unsaved > index->refused &&
        (!*more || worth_saving(index, view))) {
        vex_status status = vex_index_write(collection, view);
        index->refused = status == VEX_ERR_NO_SPACE ? index->unsaved : 0;
        return index->refused > 0 ? VEX_OK : status; /* it serves from memory all the same */
    }
    return *more ? vex_index_begin_file(collection, view, snapshot, file) : VEX_OK;
}

/* Codes that searches go through one by one and that the graph will have. */
static uint64_t waiting_bytes(const vex_index *index, const vex_index_view *view,
                              const vex_snapshot *snapshot) {
    return vex_index_rows(snapshot) >= index->options.rows ? vex_index_lack_of(view, snapshot).bytes
                                                           : 0;
}

vex_status vex_index_step(vex_collection *collection, bool *more) {
    vex_index *index = &collection->index;
    uint64_t waiting = 0;
    *more = false;
    pthread_mutex_lock(&index->mu);
    vex_snapshot *snapshot = vex_collection_snapshot(collection);
    vex_index_view *view = vex_collection_index_view(collection);
    vex_status status = VEX_OK;
    atomic_store(&index->seen, snapshot->generation);
    if (snapshot->dimension != 0 && snapshot->space != VEX_SPACE_L1 &&
        index->options.rows != UINT32_MAX && !atomic_load(&collection->dropped)) {
        status = step(collection, view, snapshot, more);
        waiting = status == VEX_OK ? waiting_bytes(index, view, snapshot) : 0;
    }
    if (*more && status == VEX_OK) {
        vex_index_keep_turn(collection);
    } else {
        vex_index_end_turn(collection);
        index->patience_ends_ms = 0;
    }
    atomic_store(&index->waiting_bytes, waiting); /* nobody waits for a builder that fails */
    vex_index_view_release(view);
    vex_snapshot_release(snapshot);
    pthread_mutex_unlock(&index->mu);
    return status;
}

void vex_index_save(vex_collection *collection) {
    vex_index *index = &collection->index;
    pthread_mutex_lock(&index->mu);
    vex_snapshot *snapshot = vex_collection_snapshot(collection);
    vex_index_view *view = vex_collection_index_view(collection);
    if (view != NULL && vex_index_needs_remap(index, view, snapshot)) {
        if (vex_index_rows(snapshot) < index->options.rows) {
            (void)vex_index_forget(collection);
        }
    } else if (vex_index_may_write(collection, view)) {
        (void)vex_index_write(collection, view);
    }
    vex_index_view_release(view);
    vex_snapshot_release(snapshot);
    pthread_mutex_unlock(&index->mu);
}

bool vex_index_let_go(vex_collection *collection) {
    vex_index *index = &collection->index;
    pthread_mutex_lock(&index->mu); /* while it is made anew, that is waited for */
    vex_snapshot *snapshot = vex_collection_snapshot(collection);
    vex_index_view *view = vex_collection_index_view(collection);
    bool gone = view != NULL && vex_index_holds_gone(view, snapshot);
    vex_index_view_release(view);
    vex_snapshot_release(snapshot);
    if (gone) {
        (void)vex_index_forget(collection);
    }
    pthread_mutex_unlock(&index->mu);
    return gone;
}

/* Is everything that the graph has in its file? */
static bool is_stored(vex_collection *collection, const vex_index_view *view,
                      const vex_snapshot *snapshot) {
    vex_index *index = &collection->index;
    if (!collection->db->read_only && vex_index_needs_remap(index, view, snapshot)) {
        return false; /* the file is of rows that are gone */
    }
    if (vex_index_may_write(collection, view) && vex_index_write(collection, view) != VEX_OK) {
        return false;
    }
    return index->loaded != 0;
}

bool vex_index_unload(vex_collection *collection, bool wait) {
    vex_index *index = &collection->index;
    if (vex_db_volatile(collection->db)) {
        return false;
    }
    if (wait) {
        pthread_mutex_lock(&index->mu);
    } else if (pthread_mutex_trylock(&index->mu) != 0) {
        return false;
    }
    vex_snapshot *snapshot = vex_collection_snapshot(collection);
    vex_index_view *view = vex_collection_index_view(collection);
    bool stored = view != NULL && is_stored(collection, view, snapshot);
    vex_index_view_release(view);
    vex_snapshot_release(snapshot);
    if (stored) {
        let_go(collection);
        vex_stat_add(VEX_STAT_GRAPHS_UNLOADED, 1);
    }
    pthread_mutex_unlock(&index->mu);
    return stored;
}

void vex_index_want(vex_collection *collection) {
    if (atomic_load_explicit(&collection->index.rows_min, memory_order_relaxed) != UINT32_MAX &&
        !atomic_exchange(&collection->index_wanted, true)) {
        vex_worker_wake(collection->db, VEX_WORKER_GRAPHS);
    }
}

void vex_index_load_for_query(vex_collection *collection, vex_snapshot *snapshot) {
    vex_index *index = &collection->index;
    vex_vfs *vfs = collection->db->vfs;
    if (VEX_LIKELY(atomic_load_explicit(&index->load_tried, memory_order_relaxed)) ||
        snapshot->dimension == 0 || snapshot->space == VEX_SPACE_L1 ||
        snapshot->live_rows < atomic_load(&index->rows_min) ||
        atomic_load(&index->rows_min) == UINT32_MAX || pthread_mutex_trylock(&index->mu) != 0) {
        return; /* the worker is at it, or there is nothing to load */
    }
    if (!atomic_load(&index->load_tried)) {
        (void)vex_index_load(collection, snapshot); /* what fails is built, as always */
        /* What is there is to be checked, and may lack rows: but queries come first. */
        atomic_store(&collection->index_after_ms, vfs->clock_ms(vfs) + CHECK_DELAY_MS);
        vex_index_want(collection);
    }
    pthread_mutex_unlock(&index->mu);
}

void vex_index_note_query(vex_collection *collection, const vex_index_view *view,
                          const vex_snapshot *snapshot) {
    vex_index *index = &collection->index;
    if (view == NULL && !atomic_load_explicit(&index->load_tried, memory_order_relaxed)) {
        vex_index_want(collection);
    }
    if (view != NULL &&
        atomic_load_explicit(&index->queries, memory_order_relaxed) < VEX_INDEX_QUERIES_HELD &&
        atomic_fetch_add_explicit(&index->queries, 1, memory_order_relaxed) + 1 ==
            VEX_INDEX_QUERIES_HELD) {
        vex_index_want(collection);
    }
    if (snapshot->generation > atomic_load_explicit(&index->seen, memory_order_relaxed)) {
        vex_index_want(collection); /* another process may have flushed */
    }
    if (!collection->db->read_only) {
        if (vex_collection_note_tail(collection, snapshot, QUERIED_TAIL_MS)) {
            vex_worker_wake(
                collection->db,
                VEX_WORKER_FILES); /* after a crash, say: writers see to it themselves */
        }
    } else {
        vex_vfs *vfs = collection->db->vfs;
        uint64_t now = vfs->clock_ms(vfs), due = atomic_load(&index->look_ms);
        if (now >= due &&
            atomic_compare_exchange_strong(&index->look_ms, &due, now + LOOK_EVERY_MS)) {
            vex_index_want(collection);
        }
    }
}

void vex_index_wait_for_builder(vex_collection *collection, uint32_t n) {
    vex_index *index = &collection->index;
    vex_vfs *vfs = collection->db->vfs;
    if (VEX_LIKELY(atomic_load(&index->waiting_bytes) <= VEX_TAIL_BYTES)) {
        return;
    }
    vex_worker_wake(collection->db, VEX_WORKER_GRAPHS); /* a forked child has none yet */
    pthread_mutex_lock(&index->turnstile);
    uint64_t until = vfs->clock_ms(vfs) + BUILDER_WAIT_MS;
    uint64_t target = atomic_load(&index->inserted) + n;
    while (atomic_load(&index->waiting_bytes) > VEX_TAIL_BYTES &&
           atomic_load(&index->inserted) < target && vfs->clock_ms(vfs) < until &&
           !atomic_load(&collection->dropped) && !vex_fork_waits()) {
        vfs->sleep_ms(vfs, BUILDER_POLL_MS);
    }
    pthread_mutex_unlock(&index->turnstile);
}

void vex_index_init(vex_index *index, uint32_t rows) {
    pthread_mutex_init(&index->mu, NULL);
    pthread_mutex_init(&index->turnstile, NULL);
    index->options = (vex_index_options){.rows = rows, .m = 16, .ef_construction = 100, .ef = 100};
    atomic_init(&index->rows_min, rows);
    atomic_init(&index->ef, index->options.ef);
    atomic_init(&index->load_tried, false);
    index->wait_bytes = VEX_WAIT_BYTES;
    index->patience_ms = VEX_WAIT_MS;
}

void vex_index_clear(vex_index *index) {
    vex_index_view_release(index->view);
    pthread_mutex_destroy(&index->mu);
    pthread_mutex_destroy(&index->turnstile);
}

/* ---- the public functions ---- */

static vex_status check_options(const vex_index_options *options) {
    if (options->m == 1 || options->m > VEX_GRAPH_M_MAX || options->ef_construction > 65535) {
        return VEX_FAIL(VEX_ERR_INVALID, "a graph needs m in 2..%u and ef_construction in 1..65535",
                        VEX_GRAPH_M_MAX);
    }
    return VEX_OK;
}

vex_status vex_collection_set_index(vex_collection *collection, const vex_index_options *options) {
    vex_index *index = &collection->index;
    VEX_TRY(check_options(options));
    VEX_TRY(vex_db_enter(collection->db));
    pthread_mutex_lock(&index->mu);
    vex_index_options *now = &index->options;
    now->rows = options->rows ? options->rows : now->rows;
    now->m = options->m ? options->m : now->m;
    now->ef_construction =
        options->ef_construction ? options->ef_construction : now->ef_construction;
    now->ef = options->ef ? options->ef : now->ef;
    atomic_store(&index->ef, now->ef);
    atomic_store(&index->rows_min, now->rows);
    pthread_mutex_unlock(&index->mu);
    vex_db_leave(collection->db);
    return VEX_OK;
}

static uint32_t rows_in_memory(const vex_snapshot *snapshot) {
    uint32_t rows = 0;
    for (uint32_t i = 0; i < snapshot->n_mems; i++) {
        rows += snapshot->mems[i].n_vectors;
    }
    return rows;
}

static bool all_in_graph(const vex_index_view *view, const vex_snapshot *snapshot) {
    bool all = view != NULL;
    for (uint32_t i = 0; i < snapshot->n_vecs && all; i++) {
        all = vex_index_has_file(view, snapshot->vecs[i].entry.file_no);
    }
    return all;
}

static vex_status start_index(vex_collection *collection, uint32_t flags) {
    vex_db *db = collection->db;
    VEX_TRY(vex_collection_refresh(collection));
    vex_snapshot *snapshot = vex_collection_snapshot(collection);
    vex_index_view *view = vex_collection_index_view(collection);
    bool flush = (flags & VEX_INDEX_FLUSH) != 0 && !db->read_only && rows_in_memory(snapshot) > 0 &&
                 snapshot->space != VEX_SPACE_L1 &&
                 snapshot->live_rows >= atomic_load(&collection->index.rows_min);
    bool ready = !flush && all_in_graph(view, snapshot);
    vex_index_view_release(view);
    vex_snapshot_release(snapshot);
    vex_status status = flush ? vex_collection_flush_now(collection, true) : VEX_OK;
    if (!ready) {
        vex_index_want(collection);
    }
    return status;
}

vex_status vex_collection_start_index(vex_collection *collection, uint32_t flags) {
    if ((flags & ~(uint32_t)VEX_INDEX_FLUSH) != 0) {
        return VEX_FAIL(VEX_ERR_INVALID, "unknown flags %u", (unsigned)flags);
    }
    VEX_TRY(vex_db_enter(collection->db));
    vex_status status = start_index(collection, flags);
    vex_db_leave(collection->db);
    return status;
}

vex_status vex_collection_wait_index(vex_collection *collection, uint32_t timeout_ms) {
    VEX_TRY(vex_collection_start_index(collection, VEX_INDEX_FLUSH));
    return vex_collection_wait_idle(collection, timeout_ms);
}

vex_status vex_collection_check_index(vex_collection *collection, vex_index_check *out) {
    vex_status status = VEX_OK;
    vex_index_check check = {0};
    VEX_TRY(vex_db_enter(collection->db));
    pthread_mutex_lock(&collection->index.mu); /* no inserting: links would be on their way */
    vex_index_view *view = vex_collection_index_view(collection);
    if (view != NULL) {
        status = vex_index_verify(collection, view);
    }
    if (view != NULL && status == VEX_OK && vex_graph_is_verified(view->owner->graph)) {
        vex_graph_stats stats;
        uint32_t unreachable = 0;
        status = vex_graph_unreachable(view->owner->graph, &unreachable);
        vex_graph_get_stats(view->owner->graph, &stats);
        check = (vex_index_check){.linked = stats.linked,
                                  .duplicates = stats.duplicates,
                                  .unreachable = unreachable,
                                  .links = stats.edges,
                                  .max_level = stats.max_level,
                                  .m = vex_graph_get_params(view->owner->graph)->m};
    }
    vex_index_view_release(view);
    pthread_mutex_unlock(&collection->index.mu);
    vex_db_leave(collection->db);
    if (status == VEX_OK) {
        *out = check;
    }
    return status;
}
