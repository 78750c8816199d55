/*
 * graph.c - what a graph consists of: sources, tables, records, scratches, statistics.
 */
#include "index/graph.h"

#include "base/bytes.h"
#include "base/cpu.h"
#include "base/hash.h"
#include "index/graph_internal.h"

#include <sched.h>

#include "base/poison.h"

#define IDLE_MAX 64u
#define SPINS 64
#define N_TABLES 5

/* ---- making one ---- */

static vex_status check_params(const vex_graph_params *p) {
    if (p->m < 2 || p->m > VEX_GRAPH_M_MAX) {
        return VEX_FAIL(VEX_ERR_INVALID, "graph: %u neighbours are not in 2..%u", p->m,
                        VEX_GRAPH_M_MAX);
    }
    if (p->ef_construction == 0 || p->ef_construction > 65535) {
        return VEX_FAIL(VEX_ERR_INVALID, "graph: ef_construction %u is not in 1..65535",
                        p->ef_construction);
    }
    if (!(p->phi >= 0) || (p->phi > 0 && p->codes.space != VEX_SPACE_IP)) {
        return VEX_FAIL(VEX_ERR_INVALID, "graph: phi is for inner products, and positive");
    }
    vex_codes codes;
    return vex_codes_init(&codes, p->codes.kind, p->codes.space, p->codes.dim);
}

static void set_phi(vex_graph *g, float phi) {
    uint32_t bits;
    memcpy(&bits, &phi, sizeof bits);
    atomic_store_explicit(&g->phi, bits, memory_order_relaxed);
}

vex_status vex_graph_create(const vex_graph_params *params, vex_graph **out) {
    VEX_TRY(check_params(params));
    vex_graph *g = vex_calloc(1, sizeof *g);
    if (g == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: cannot create a graph");
    }
    g->params = *params;
    (void)vex_codes_init(&g->params.codes, params->codes.kind, params->codes.space,
                         params->codes.dim);
    if (g->params.ef_construction < params->m) {
        g->params.ef_construction = params->m;
    }
    g->record_bytes = (uint32_t)vex_align_up(sizeof(graph_node) + 8 * (size_t)params->m, 64);
    g->upper_bytes = (uint32_t)sizeof(graph_upper) + 4 * params->m;
    g->shorts = g->params.codes.short_stride == 0 ? SHORTS_UNFIT : SHORTS_UNKNOWN;
    g->take = graph_pool_best_taker();
    g->rows_near = vex_cpu()->few_far_requests;
    atomic_init(&g->entry, NO_ENTRY);
    set_phi(g, params->phi);
    pthread_mutex_init(&g->structure, NULL);
    pthread_mutex_init(&g->duplicates, NULL);
    pthread_mutex_init(&g->scratches, NULL);
    *out = g;
    return VEX_OK;
}

static void scratch_destroy(vex_graph_scratch *s) {
    vex_code_query_destroy(&s->query);
    vex_code_query_destroy(&s->pivot);
    vex_free(s->visited);
    vex_free(s->pool);
    vex_free(s->heap);
    vex_free(s->ranked);
    vex_free(s->hits);
    vex_bulk_destroy(&s->arrays);
    vex_free(s);
}

static void tables_destroy(graph_tables *t) {
    while (t != NULL) {
        graph_tables *older = t->older;
        vex_free(t);
        t = older;
    }
}

void vex_graph_destroy(vex_graph *g) {
    if (g == NULL) {
        return;
    }
    vex_graph_free_idle(g);
    vex_free(g->page_rows);
    if (vex_graph_is_mapped(g)) {
        vex_container_close(&g->file);
    }
    for (size_t i = 0; i < g->n_memory; i++) {
        vex_bulk_destroy(&g->memory[i]);
    }
    vex_free(g->memory);
    vex_free(g->sources);
    vex_free(g->rows_by_hash);
    tables_destroy(atomic_load_explicit(&g->tables, memory_order_acquire));
    pthread_mutex_destroy(&g->structure);
    pthread_mutex_destroy(&g->duplicates);
    pthread_mutex_destroy(&g->scratches);
    vex_free(g);
}

const vex_graph_params *vex_graph_get_params(const vex_graph *graph) {
    return &graph->params;
}

bool vex_graph_is_mapped(const vex_graph *graph) {
    return graph->file.map != NULL;
}

const vex_container *vex_graph_file(const vex_graph *graph) {
    return vex_graph_is_mapped(graph) ? &graph->file : NULL;
}

/* ---- storage ---- */

static graph_tables *tables_of(const vex_graph *g) {
    return atomic_load_explicit(&g->tables, memory_order_acquire);
}

vex_status graph_reserve_tables(vex_graph *g, size_t n) {
    graph_tables *old = tables_of(g);
    const size_t had = old != NULL ? old->capacity : 0;
    if (n <= had) {
        return VEX_OK;
    }
    const size_t capacity = n > 2 * had ? n + 62 : 2 * had;
    graph_tables *t = vex_calloc(1, sizeof *t + N_TABLES * capacity * sizeof(void *));
    if (t == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: cannot grow a graph");
    }
    t->older = old;
    t->capacity = capacity;
    t->pages = (void *)(t + 1);
    t->shorts = (void *)(t->pages + capacity);
    t->chunks = (void *)(t->shorts + capacity);
    t->uppers = t->chunks + capacity;
    t->chained = (void *)(t->uppers + capacity);
    if (old != NULL) {
        memcpy(t->pages, old->pages, had * sizeof *t->pages);
        memcpy(t->shorts, old->shorts, had * sizeof *t->shorts);
        memcpy(t->chunks, old->chunks, had * sizeof *t->chunks);
        memcpy(t->uppers, old->uppers, had * sizeof *t->uppers);
        memcpy(t->chained, old->chained, had * sizeof *t->chained);
    }
    g->bytes += sizeof *t + N_TABLES * capacity * sizeof(void *);
    atomic_store_explicit(&g->tables, t, memory_order_release);
    return VEX_OK;
}

vex_status graph_add_memory(vex_graph *g, size_t bytes, uint8_t **out) {
    void *array = g->memory;
    VEX_TRY(vex_grow(&array, &g->memory_capacity, g->n_memory + 1, sizeof *g->memory));
    g->memory = array;
    vex_bulk *block = &g->memory[g->n_memory];
    VEX_TRY(vex_bulk_create(block, bytes));
    memset(block->data, 0, bytes);
    g->n_memory++;
    g->bytes += block->bytes;
    *out = block->data;
    return VEX_OK;
}

/* Those that are needed lie in one block: a chunk ends with some small pages, a block of many hardly. */
vex_status graph_reserve_chunks(vex_graph *g, uint64_t end) {
    const uint64_t chunks = (end + CHUNK_NODES - 1) >> CHUNK_SHIFT;
    const size_t chunk_bytes = sizeof(graph_chunk) + (size_t)CHUNK_NODES * g->record_bytes;
    uint8_t *block = NULL;
    if (chunks <= g->n_chunks) {
        return VEX_OK;
    }
    VEX_TRY(graph_add_memory(g, (size_t)(chunks - g->n_chunks) * chunk_bytes, &block));
    for (; g->n_chunks < chunks; g->n_chunks++, block += chunk_bytes) {
        tables_of(g)->chained[g->n_chunks] = (void *)block;
        tables_of(g)->chunks[g->n_chunks] = block + sizeof(graph_chunk);
    }
    return VEX_OK;
}

uint32_t graph_level(const vex_graph *g, uint32_t id) {
    uint64_t draw = vex_mix64(g->params.seed ^ vex_mix64(id + 0x9E3779B97F4A7C15u));
    uint32_t level = 0;
    /* Each further digit to base M that is 0 is a level more. */
    while (level < LEVEL_MAX) {
        const unsigned __int128 product = (unsigned __int128)draw * g->params.m;
        if ((uint64_t)(product >> 64) != 0) {
            break;
        }
        draw = (uint64_t)product;
        level++;
    }
    return level;
}

vex_status graph_reserve_lists(vex_graph *g, uint64_t n) {
    while ((uint64_t)g->n_uppers << UPPER_SHIFT < n) {
        VEX_TRY(graph_reserve_tables(g, (size_t)g->n_uppers + 1));
        VEX_TRY(graph_add_memory(g, (size_t)UPPER_LISTS * g->upper_bytes,
                                 &tables_of(g)->uppers[g->n_uppers]));
        g->n_uppers++;
    }
    return VEX_OK;
}

vex_status graph_give_level(vex_graph *g, uint32_t id, uint32_t level) {
    if (level > 0) {
        const uint32_t used = g->n_lists & (UPPER_LISTS - 1);
        const uint32_t first =
            used + level > UPPER_LISTS ? g->n_lists - used + UPPER_LISTS : g->n_lists;
        VEX_TRY(graph_reserve_lists(g, (uint64_t)first + level));
        g->n_lists = first + level;
        graph_node *node = node_at(g, tables_of(g), id);
        atomic_store_explicit(&node->upper, first, memory_order_relaxed);
        atomic_store_explicit(&node->level, (uint8_t)level, memory_order_relaxed);
    }
    return VEX_OK;
}

void graph_reset_levels(vex_graph *g) {
    const uint32_t n = vex_graph_end(g);
    for (uint32_t id = 0; id < n; id++) {
        graph_node *node = node_at(g, tables_of(g), id);
        atomic_store_explicit(&node->upper, 0, memory_order_relaxed);
        atomic_store_explicit(&node->level, 0, memory_order_relaxed);
    }
    g->n_lists = 0;
}

/* Where a new source begins. */
static uint64_t next_first(const vex_graph *g) {
    return vex_align_up(vex_graph_end(g), VEX_GRAPH_PAGE);
}

vex_status graph_note_source(vex_graph *g, uint64_t file_no, const void *rows, uint32_t n) {
    const uint64_t begin = next_first(g), end = begin + n;
    void *array = g->sources;
    VEX_TRY(vex_grow(&array, &g->sources_capacity, (size_t)g->n_sources + 1, sizeof *g->sources));
    g->sources = array;
    const size_t pages = (size_t)((end + VEX_GRAPH_PAGE - 1) >> PAGE_SHIFT);
    VEX_TRY(graph_reserve_tables(g, pages > g->n_uppers ? pages : g->n_uppers));
    const size_t page_bytes = (size_t)VEX_GRAPH_PAGE * g->params.codes.stride;
    graph_tables *t = tables_of(g);
    for (size_t page = begin >> PAGE_SHIFT; page < pages; page++) {
        atomic_store_explicit(&t->pages[page],
                              (const uint8_t *)rows + (page - (begin >> PAGE_SHIFT)) * page_bytes,
                              memory_order_release);
    }
    g->sources[g->n_sources++] = (vex_graph_source){file_no, n, (uint32_t)begin};
    atomic_store_explicit(&g->n_ids, (uint32_t)end, memory_order_release);
    return VEX_OK;
}

/* With the structure locked. */
static vex_status add_source(vex_graph *g, uint64_t file_no, const uint8_t *rows, uint32_t n,
                             uint32_t *first) {
    const uint64_t begin = next_first(g), end = begin + n;
    if (vex_graph_is_mapped(g)) {
        return VEX_FAIL(VEX_ERR_INVALID, "graph: nothing can be added to one that is mapped");
    }
    if (end > VEX_GRAPH_IDS_MAX) {
        return VEX_FAIL(VEX_ERR_TOO_BIG, "graph: more than %u rows", VEX_GRAPH_IDS_MAX);
    }
    const size_t pages = (size_t)((end + VEX_GRAPH_PAGE - 1) >> PAGE_SHIFT);
    VEX_TRY(graph_reserve_tables(g, pages > g->n_uppers ? pages : g->n_uppers));
    VEX_TRY(graph_reserve_chunks(g, end));
    for (uint64_t id = begin; id < end; id++) {
        VEX_TRY(graph_give_level(g, (uint32_t)id, graph_level(g, (uint32_t)id)));
    }
    *first = (uint32_t)begin;
    return graph_note_source(g, file_no, rows, n);
}

vex_status vex_graph_add_source(vex_graph *graph, uint64_t file_no, const void *rows, uint32_t n,
                                uint32_t *first) {
    pthread_mutex_lock(&graph->structure);
    const vex_status status = add_source(graph, file_no, rows, n, first);
    pthread_mutex_unlock(&graph->structure);
    return status;
}

uint32_t vex_graph_sources(const vex_graph *graph, const vex_graph_source **out) {
    *out = graph->sources;
    return graph->n_sources;
}

const vex_graph_source *graph_source_of(const vex_graph *g, uint32_t id) {
    uint32_t low = 0, high = g->n_sources;
    while (low < high) { /* the first that begins after id */
        const uint32_t middle = low + (high - low) / 2;
        if (g->sources[middle].first <= id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    /* Sources without rows share their first id with the next one. */
    for (; low > 0; low--) {
        const vex_graph_source *s = &g->sources[low - 1];
        if (s->rows > 0) {
            return id - s->first < s->rows ? s : NULL;
        }
    }
    return NULL;
}

uint32_t vex_graph_end(const vex_graph *graph) {
    return atomic_load_explicit(&graph->n_ids, memory_order_acquire);
}

uint64_t vex_graph_inserted(const vex_graph *graph) {
    return (uint64_t)atomic_load(&graph->n_linked) + atomic_load(&graph->n_duplicates);
}

bool vex_graph_has(const vex_graph *graph, uint32_t id) {
    return id < vex_graph_end(graph) &&
           (flags_of(node_at(graph, tables_of(graph), id)) & NODE_PRESENT) != 0;
}

const void *vex_graph_row(const vex_graph *graph, uint32_t id) {
    return row_at(graph, tables_of(graph), id);
}

void graph_set_entry(vex_graph *g, uint32_t id, uint32_t level) {
    atomic_store_explicit(&g->entry, (uint64_t)level << 32 | id, memory_order_release);
}

/* ---- locks of nodes ---- */

void graph_node_lock(graph_node *node) {
    int spins = 0;
    while ((atomic_fetch_or_explicit(&node->flags, NODE_LOCK, memory_order_acquire) & NODE_LOCK) !=
           0) {
        if (++spins % SPINS == 0) {
            sched_yield();
        }
    }
}

void graph_node_unlock(graph_node *node) {
    atomic_fetch_and_explicit(&node->flags, (uint8_t)~NODE_LOCK, memory_order_release);
}

/* ---- scratches ---- */

/* The arrays of fixed size, in one block. */
static vex_status scratch_arrays(const vex_graph *g, vex_graph_scratch *s) {
    const size_t one = 2 * (size_t)g->params.m + 1, levels = LEVEL_MAX + 1;
    const size_t chosen = levels * g->params.m;
    VEX_TRY(vex_bulk_create(&s->arrays, one * (2 * sizeof(uint64_t) + sizeof(void *) +
                                               sizeof(uint32_t) + sizeof(float)) +
                                            (chosen + levels) * sizeof(uint32_t)));
    s->keys = s->arrays.data;
    s->kept = s->keys + one;
    s->rows = (void *)(s->kept + one);
    s->ids = (void *)(s->rows + one);
    s->distances = (void *)(s->ids + one);
    s->chosen = (void *)(s->distances + one);
    s->n_chosen = s->chosen + chosen;
    return VEX_OK;
}

static vex_status scratch_create(const vex_graph *g, vex_graph_scratch **out) {
    vex_graph_scratch *s = vex_calloc(1, sizeof *s);
    if (s == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: cannot search a graph");
    }
    vex_status status = vex_code_query_create(&s->query, &g->params.codes);
    if (status == VEX_OK) {
        status = vex_code_query_create(&s->pivot, &g->params.codes);
    }
    if (status == VEX_OK) {
        status = scratch_arrays(g, s);
    }
    if (status != VEX_OK) {
        scratch_destroy(s);
        return status;
    }
    *out = s;
    return VEX_OK;
}

vex_status vex_graph_scratch_acquire(vex_graph *graph, vex_graph_scratch **out) {
    pthread_mutex_lock(&graph->scratches);
    vex_graph_scratch *s = graph->idle;
    if (s != NULL) {
        graph->idle = s->next;
        graph->n_idle--;
    }
    pthread_mutex_unlock(&graph->scratches);
    if (s == NULL) {
        return scratch_create(graph, out);
    }
    *out = s;
    return VEX_OK;
}

void vex_graph_scratch_release(vex_graph *graph, vex_graph_scratch *scratch) {
    if (scratch == NULL) {
        return;
    }
    pthread_mutex_lock(&graph->scratches);
    const bool keep = graph->n_idle < IDLE_MAX;
    if (keep) {
        scratch->next = graph->idle;
        graph->idle = scratch;
        graph->n_idle++;
    }
    pthread_mutex_unlock(&graph->scratches);
    if (!keep) {
        scratch_destroy(scratch);
    }
}

uint64_t vex_graph_idle_bytes(vex_graph *graph) {
    uint64_t bytes = 0;
    pthread_mutex_lock(&graph->scratches);
    for (const vex_graph_scratch *s = graph->idle; s != NULL; s = s->next) {
        bytes += sizeof *s + s->n_visited / 8 + s->pool_capacity * sizeof *s->pool +
                 s->heap_capacity * sizeof *s->heap + s->hits_capacity * sizeof *s->hits +
                 s->arrays.bytes;
    }
    pthread_mutex_unlock(&graph->scratches);
    return bytes;
}

void vex_graph_free_idle(vex_graph *graph) {
    pthread_mutex_lock(&graph->scratches);
    vex_graph_scratch *idle = graph->idle;
    graph->idle = NULL;
    graph->n_idle = 0;
    pthread_mutex_unlock(&graph->scratches);
    while (idle != NULL) {
        vex_graph_scratch *next = idle->next;
        scratch_destroy(idle);
        idle = next;
    }
}

/* ---- statistics ---- */

uint64_t vex_graph_bytes(const vex_graph *graph) {
    /* The mutex is of the graph's state, which does not change by locking it. */
    vex_graph *g = (vex_graph *)(uintptr_t)graph;
    pthread_mutex_lock(&g->structure);
    uint64_t bytes = graph->bytes + graph->sources_capacity * sizeof *graph->sources;
    pthread_mutex_unlock(&g->structure);
    pthread_mutex_lock(&g->duplicates);
    bytes += graph->hash_capacity * sizeof *graph->rows_by_hash;
    pthread_mutex_unlock(&g->duplicates);
    return bytes;
}

void vex_graph_get_stats(const vex_graph *graph, vex_graph_stats *out) {
    const uint64_t entry = atomic_load_explicit(&graph->entry, memory_order_acquire);
    vex_graph_stats s = {.ids = vex_graph_end(graph),
                         .linked = atomic_load(&graph->n_linked),
                         .duplicates = atomic_load(&graph->n_duplicates),
                         .entry = entry == NO_ENTRY ? VEX_GRAPH_NONE : (uint32_t)entry,
                         .max_level = entry == NO_ENTRY ? 0 : (uint32_t)(entry >> 32),
                         .bytes = vex_graph_bytes(graph),
                         .phi = phi_of(graph)};
    const graph_tables *t = tables_of(graph);
    for (uint32_t id = 0; id < s.ids; id++) {
        const graph_node *node = node_at(graph, t, id);
        if (!is_linked(node)) {
            continue;
        }
        s.edges += list_length(list_at(graph, t, id, 0));
        for (uint32_t level = level_of(node); level > 0; level--) {
            s.upper_edges += list_length(list_at(graph, t, id, level));
        }
    }
    *out = s;
}
