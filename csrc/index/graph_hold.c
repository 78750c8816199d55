/*
 * graph_hold.c - copies of code rows in large pages, and short rows.
 *
 * A walk reads rows at random.  Where they are mapped from files, in pages of 4 KiB, about every
 * row costs a walk through the page tables, too; from pages of 2 MiB walks are up to twice as fast.
 * Most of their time still is that of fetching cache lines: short rows have about half as many.
 */
#include "index/graph_internal.h"

#include "base/poison.h"

/* The place of the copy replaces that of the rows in the newest tables.  Who has older ones, or took
 * the address of a row, goes on reading the row itself. */
static void swap_pages(vex_graph *g, const vex_graph_source *source, const uint8_t *copy) {
    const size_t page_bytes = (size_t)VEX_GRAPH_PAGE * g->params.codes.stride;
    const size_t first = source->first >> PAGE_SHIFT;
    const size_t n = (source->rows + VEX_GRAPH_PAGE - 1) >> PAGE_SHIFT;
    const graph_tables *t = atomic_load_explicit(&g->tables, memory_order_acquire);
    for (size_t i = 0; i < n; i++) {
        atomic_store_explicit(&t->pages[first + i], copy + i * page_bytes, memory_order_release);
    }
}

static vex_status hold(vex_graph *g, const vex_graph_source *source) {
    const size_t bytes = (size_t)source->rows * g->params.codes.stride;
    const void *rows = vex_graph_row(g, source->first);
    vex_bulk copy = {0};
    void *array = g->memory;
    VEX_TRY(vex_grow(&array, &g->memory_capacity, g->n_memory + 1, sizeof *g->memory));
    g->memory = array;
    VEX_TRY(vex_bulk_create(&copy, bytes));
    memcpy(copy.data, rows, bytes);
    g->memory[g->n_memory++] = copy;
    swap_pages(g, source, copy.data);
    return VEX_OK;
}

/* ---- short rows ---- */

/* Short rows of a source, the first one that has none. */
static vex_status shorten(vex_graph *g, const vex_graph_source *source) {
    const size_t stride = g->params.codes.short_stride;
    const size_t page_bytes = VEX_GRAPH_PAGE * stride, first = source->first >> PAGE_SHIFT;
    const size_t n = (source->rows + VEX_GRAPH_PAGE - 1) >> PAGE_SHIFT;
    vex_bulk shorts = {0};
    void *array = g->memory;
    VEX_TRY(vex_grow(&array, &g->memory_capacity, g->n_memory + 1, sizeof *g->memory));
    g->memory = array;
    VEX_TRY(vex_bulk_create(&shorts, source->rows * stride));
    g->memory[g->n_memory++] = shorts;
    uint8_t *to = shorts.data;
    for (uint32_t i = 0; i < source->rows; i++) {
        vex_codes_shorten(&g->params.codes, vex_graph_row(g, source->first + i), to + i * stride);
    }
    const graph_tables *t = atomic_load_explicit(&g->tables, memory_order_acquire);
    for (size_t i = 0; i < n; i++) {
        t->shorts[first + i] = to + i * page_bytes;
    }
    return VEX_OK;
}

/* All sources get short rows, or walks go by the code rows.  What large sources are decides; until there
 * is one, small ones get theirs for the case that they serve. */
static vex_status hold_short(vex_graph *g, const vex_graph_source *source, uint64_t most) {
    const vex_codes *codes = &g->params.codes;
    const uint64_t bytes = (uint64_t)source->rows * codes->short_stride;
    if (g->shorts == SHORTS_UNFIT) {
        return VEX_OK;
    }
    if (source->rows >= VEX_SHORT_LEAST) {
        bool serve;
        VEX_TRY(vex_short_serves(codes, vex_graph_row(g, source->first), source->rows, &serve));
        g->shorts = serve ? SHORTS_FIT : SHORTS_UNFIT;
    }
    if (g->shorts == SHORTS_UNFIT || g->held_bytes + bytes > most) {
        g->shorts = SHORTS_UNFIT;
        return VEX_OK;
    }
    VEX_TRY(shorten(g, source));
    g->held_bytes += bytes;
    if (g->shorts == SHORTS_FIT) {
        atomic_store_explicit(&g->n_short, source->first + source->rows, memory_order_release);
    }
    return VEX_OK;
}

/* ---- all of them ---- */

static vex_status hold_source(vex_graph *g, const vex_graph_source *source, uint64_t most) {
    const uint64_t bytes = (uint64_t)source->rows * g->params.codes.stride;
    if (bytes >= VEX_BULK_MAP_MIN && g->held_bytes + bytes <= most) {
        VEX_TRY(hold(g, source));
        g->held_bytes += bytes;
    }
    return hold_short(g, source, most);
}

vex_status vex_graph_hold_rows(vex_graph *graph, uint64_t most) {
    vex_status status = VEX_OK;
    pthread_mutex_lock(&graph->structure);
    for (; graph->n_held < graph->n_sources && status == VEX_OK; graph->n_held++) {
        status = hold_source(graph, &graph->sources[graph->n_held], most);
    }
    graph->shorts = status == VEX_OK ? graph->shorts : SHORTS_UNFIT; /* one has none */
    pthread_mutex_unlock(&graph->structure);
    return status;
}

uint64_t vex_graph_held_bytes(vex_graph *graph) {
    pthread_mutex_lock(&graph->structure);
    const uint64_t bytes = graph->held_bytes;
    pthread_mutex_unlock(&graph->structure);
    return bytes;
}

bool vex_graph_holds_rows(vex_graph *graph) {
    pthread_mutex_lock(&graph->structure);
    const bool all = graph->n_held == graph->n_sources;
    pthread_mutex_unlock(&graph->structure);
    return all;
}

bool vex_graph_has_shorts(const vex_graph *graph) {
    const uint32_t end = vex_graph_end(graph);
    return end > 0 && atomic_load_explicit(&graph->n_short, memory_order_acquire) >= end;
}
