/*
 * memory.c - what a database has in memory: the report, giving it back, and the limit.
 *
 * Mapped files count as memory of the process as far as their pages were used.  A collection that
 * nobody has read or written for VEX_REST_MS gives back all but its code rows, which the next walk
 * needs.  Under a limit the worker looks ten times a second, while there is use, what there is, and
 * gives back in this order until it is below, those used least recently first: pages of vectors,
 * documents and metadata; graphs, caches and code rows of all collections but the one used last; and
 * then its code rows.  What was given back is had again by whoever needs it, so a limit that is too
 * small costs time and nothing else.
 */
#include "db/index_internal.h"
#include "store/residence.h"

#include "base/poison.h"

#define REST_MS 2000u
#define TICK_MS 100u
#define TICK_SHARE 20u /* looking takes one part in so many of the time */
#define FOR_EVER UINT64_MAX

#ifdef VEX_TESTING
_Atomic uint32_t vex_memory_test_rest_ms;
#endif

static uint32_t rest_ms(void) {
#ifdef VEX_TESTING
    if (vex_memory_test_rest_ms != 0) {
        return vex_memory_test_rest_ms;
    }
#endif
    return REST_MS;
}

static uint64_t now_ms(const vex_db *db) {
    return db->vfs->clock_ms(db->vfs);
}

/* ---- who was used ---- */

static void touch(vex_collection *collection) {
    if (!atomic_load_explicit(&collection->touched, memory_order_relaxed) &&
        !atomic_exchange(&collection->touched, true)) {
        vex_worker_wake(collection->db, VEX_WORKER_FILES);
    }
}

void vex_memory_note_use(vex_collection *collection) {
    atomic_store_explicit(&collection->used_ms, now_ms(collection->db), memory_order_relaxed);
    touch(collection);
}

void vex_memory_note_work(vex_collection *collection) {
    touch(collection);
}

static uint64_t ms_to_rest(const vex_collection *collection, uint64_t now) {
    const uint64_t rests = atomic_load(&collection->used_ms) + rest_ms();
    return rests > now ? rests - now : 0;
}

uint64_t vex_memory_ms_to_next(const vex_db *db) {
    const uint64_t now = now_ms(db);
    uint64_t least = FOR_EVER;
    for (const vex_collection *c = db->collections; c != NULL; c = c->next) {
        if (atomic_load(&c->touched) && !atomic_load(&c->dropped)) {
            const uint64_t ms = ms_to_rest(c, now);
            least = ms < least ? ms : least;
        }
    }
    if (least != FOR_EVER && db->options.memory_limit > 0) {
        const uint64_t ms = db->memory_due_ms > now ? db->memory_due_ms - now : 0;
        least = ms < least ? ms : least;
    }
    return least;
}

/* ---- what there is ---- */

/* The files of a snapshot, and those that only a graph stands on any more. */
static void add_files(const vex_snapshot *snapshot, const vex_index_view *view,
                      vex_residence *out) {
    for (uint32_t i = 0; i < snapshot->n_vecs; i++) {
        vex_vecfile_residence(snapshot->vecs[i].file, out);
    }
    for (uint32_t i = 0; i < snapshot->n_pays; i++) {
        vex_payfile_residence(snapshot->pays[i].file, out);
    }
    for (uint32_t i = 0; view != NULL && i < view->n; i++) {
        const vex_vecfile *file = view->sources[i].file;
        if (vex_index_file_of(snapshot, file->container.file_no) != file) {
            vex_vecfile_residence(file, out);
        }
    }
}

static void describe(vex_collection *collection, vex_collection_memory *out) {
    vex_snapshot *snapshot = vex_collection_snapshot(collection);
    vex_index_view *view = vex_collection_index_view(collection);
    vex_residence files = {0};
    add_files(snapshot, view, &files);
    out->collections++;
    out->vector_bytes += files.vectors;
    out->code_bytes += files.codes;
    out->key_bytes += files.keys;
    out->document_bytes += files.documents;
    out->column_bytes += files.columns;
    out->text_bytes += files.text;
    out->mapped_bytes += files.mapped;
    for (uint32_t i = 0; i < snapshot->n_mems; i++) {
        vex_memtable *table = snapshot->mems[i].table;
        out->memtable_bytes += vex_memtable_bytes(table);
        out->cache_bytes += vex_annexes_bytes(vex_memtable_annexes(table));
    }
    for (uint32_t i = 0; i < snapshot->n_pays; i++) {
        vex_payfile *file = snapshot->pays[i].file;
        out->cache_bytes += vex_memo_bytes(&file->memo) + vex_annexes_bytes(&file->annexes) +
                            file->id_filter_words * sizeof *file->id_filter;
    }
    if (view != NULL) {
        const vex_container *file = vex_graph_file(view->owner->graph);
        out->graph_bytes += vex_graph_bytes(view->owner->graph);
        out->held_bytes += vex_graph_held_bytes(view->owner->graph);
        out->link_bytes += file != NULL ? vex_container_residence(file) : 0;
        out->mapped_bytes += file != NULL ? file->size : 0;
        out->search_bytes += vex_graph_idle_bytes(view->owner->graph);
    }
    vex_index_view_release(view);
    vex_snapshot_release(snapshot);
}

static uint64_t in_files(const vex_collection_memory *m) {
    return m->vector_bytes + m->code_bytes + m->key_bytes + m->document_bytes + m->column_bytes +
           m->text_bytes + m->link_bytes;
}

vex_status vex_collection_get_memory(vex_collection *collection, vex_collection_memory *out) {
    vex_collection_memory found = {0};
    VEX_TRY(vex_db_enter(collection->db));
    describe(collection, &found);
    vex_db_leave(collection->db);
    *out = found;
    return VEX_OK;
}

/* ---- all collections that are open ---- */

typedef struct member {
    vex_collection *collection; /* with a handle on it */
    uint64_t used_ms;
    vex_collection_memory memory;
} member;

typedef struct members {
    member *list; /* used least recently first */
    uint32_t n;
} members;

static int by_use(const void *a, const void *b) {
    const uint64_t x = ((const member *)a)->used_ms, y = ((const member *)b)->used_ms;
    return x < y ? -1 : x > y;
}

static vex_status members_find(vex_db *db, members *out) {
    uint32_t n = 0;
    *out = (members){0};
    pthread_mutex_lock(&db->collections_mu);
    for (vex_collection *c = db->collections; c != NULL; c = c->next) {
        n++;
    }
    out->list = vex_calloc(n + 1, sizeof *out->list);
    for (vex_collection *c = db->collections; c != NULL && out->list != NULL; c = c->next) {
        if (!atomic_load(&c->dropped)) {
            c->handles++;
            out->list[out->n++] = (member){c, atomic_load(&c->used_ms), {0}};
        }
    }
    pthread_mutex_unlock(&db->collections_mu);
    if (out->list == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to list the open collections");
    }
    if (out->n > 1) {
        qsort(out->list, out->n, sizeof *out->list, by_use);
    }
    return VEX_OK;
}

static void members_release(members *all) {
    for (uint32_t i = 0; i < all->n; i++) {
        vex_collection_release(all->list[i].collection);
    }
    vex_free(all->list);
}

vex_status vex_db_get_memory(vex_db *db, vex_collection_memory *out) {
    members all;
    vex_collection_memory found = {0};
    VEX_TRY(vex_db_enter(db));
    vex_status status = members_find(db, &all);
    for (uint32_t i = 0; i < all.n; i++) {
        describe(all.list[i].collection, &found);
    }
    members_release(&all);
    vex_db_leave(db);
    if (status == VEX_OK) {
        *out = found;
    }
    return status;
}

/* ---- giving it back ---- */

static void give_back_pages(vex_collection *collection, bool codes) {
    vex_snapshot *snapshot = vex_collection_snapshot(collection);
    vex_index_view *view = vex_collection_index_view(collection);
    for (uint32_t i = 0; i < snapshot->n_vecs; i++) {
        vex_vecfile_give_back(snapshot->vecs[i].file, codes);
    }
    for (uint32_t i = 0; i < snapshot->n_pays; i++) {
        vex_payfile_give_back(snapshot->pays[i].file);
    }
    for (uint32_t i = 0; view != NULL && i < view->n; i++) {
        vex_vecfile_give_back(view->sources[i].file, codes);
    }
    vex_index_view_release(view);
    vex_snapshot_release(snapshot);
}

static void forget_caches(vex_collection *collection) {
    vex_snapshot *snapshot = vex_collection_snapshot(collection);
    vex_index_view *view = vex_collection_index_view(collection);
    for (uint32_t i = 0; i < snapshot->n_pays; i++) {
        vex_memo_forget(&snapshot->pays[i].file->memo);
        vex_annexes_forget(&snapshot->pays[i].file->annexes);
        vex_payfile_forget_blocks(snapshot->pays[i].file);
    }
    for (uint32_t i = 0; i < snapshot->n_mems; i++) {
        vex_annexes_forget(vex_memtable_annexes(snapshot->mems[i].table));
    }
    if (view != NULL) {
        vex_graph_free_idle(view->owner->graph);
    }
    vex_index_view_release(view);
    vex_snapshot_release(snapshot);
}

/* True: the graph, too. */
static bool unload(vex_collection *collection, bool wait) {
    forget_caches(collection);
    const bool unloaded = vex_index_unload(collection, wait);
    give_back_pages(collection, true);
    return unloaded;
}

vex_status vex_collection_unload(vex_collection *collection) {
    VEX_TRY(vex_db_enter(collection->db));
    (void)unload(collection, true);
    vex_mem_trim();
    vex_db_leave(collection->db);
    return VEX_OK;
}

vex_status vex_db_unload(vex_db *db) {
    members all;
    VEX_TRY(vex_db_enter(db));
    vex_status status = members_find(db, &all);
    for (uint32_t i = 0; i < all.n; i++) {
        (void)unload(all.list[i].collection, true);
    }
    members_release(&all);
    vex_mem_trim();
    vex_db_leave(db);
    return status;
}

/* ---- by the worker ---- */

/* A handle on a collection that has come to rest, NULL: none. */
static vex_collection *next_at_rest(vex_db *db) {
    const uint64_t now = now_ms(db);
    pthread_mutex_lock(&db->collections_mu);
    vex_collection *c = db->collections;
    while (c != NULL &&
           (atomic_load(&c->dropped) || !atomic_load(&c->touched) || ms_to_rest(c, now) > 0)) {
        c = c->next;
    }
    if (c != NULL) {
        c->handles++;
        atomic_store(&c->touched, false); /* who uses it from now on sets it again */
    }
    pthread_mutex_unlock(&db->collections_mu);
    return c;
}

static uint64_t allocated(void) {
    return vex_stat_get(VEX_STAT_HEAP_BYTES) + vex_stat_get(VEX_STAT_BULK_BYTES);
}

/* Bytes above the limit. */
static uint64_t excess(const vex_db *db, members *all) {
    uint64_t used = allocated();
    for (uint32_t i = 0; i < all->n; i++) {
        member *m = &all->list[i];
        m->memory = (vex_collection_memory){0};
        describe(m->collection, &m->memory);
        used += vex_db_volatile(db) ? 0 : in_files(&m->memory);
    }
    return used > db->options.memory_limit ? used - db->options.memory_limit : 0;
}

static void subtract(uint64_t *from, uint64_t n) {
    *from -= n < *from ? n : *from;
}

static void enforce_limit(vex_db *db) {
    members all;
    if (members_find(db, &all) != VEX_OK) {
        return;
    }
    uint64_t above = excess(db, &all), before = allocated();
    for (uint32_t i = 0; i < all.n && above > 0; i++) {
        give_back_pages(all.list[i].collection, false);
        const vex_collection_memory *m = &all.list[i].memory;
        subtract(&above, in_files(m) - m->code_bytes - m->link_bytes);
    }
    for (uint32_t i = 0; i < all.n && above > 0; i++) {
        const vex_collection_memory *m = &all.list[i].memory;
        const uint64_t had = allocated();
        bool unloaded = false;
        if (i + 1 < all.n) {
            unloaded = unload(all.list[i].collection, false);
        } else {
            give_back_pages(all.list[i].collection, true);
        }
        const uint64_t has = allocated(), links = unloaded ? m->link_bytes : 0;
        subtract(&above, m->code_bytes + links + (had > has ? had - has : 0));
    }
    members_release(&all);
    if (allocated() < before) {
        vex_mem_trim();
    }
}

void vex_memory_keep(vex_db *db) {
    bool rested = false;
    for (vex_collection *c; (c = next_at_rest(db)) != NULL; rested = true) {
        give_back_pages(c, false);
        vex_collection_release(c);
    }
    if (rested) {
        vex_mem_trim();
    }
    const uint64_t began = now_ms(db);
    if (db->options.memory_limit > 0 && (rested || began >= db->memory_due_ms)) {
        enforce_limit(db);
        const uint64_t now = now_ms(db), pause = (now - began) * TICK_SHARE;
        db->memory_due_ms = now + (pause > TICK_MS ? pause : TICK_MS);
    }
}
