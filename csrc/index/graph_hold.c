/*
 * graph_hold.c - copies of code rows in large pages.
 *
 * A walk reads rows at random.  Where they are mapped from files, in pages of 4 KiB, about every
 * row costs a walk through the page tables, too; from pages of 2 MiB walks are up to twice as fast.
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

vex_status vex_graph_hold_rows(vex_graph *graph, uint64_t most) {
    vex_status status = VEX_OK;
    pthread_mutex_lock(&graph->structure);
    for (; graph->n_held < graph->n_sources && status == VEX_OK; graph->n_held++) {
        const vex_graph_source *source = &graph->sources[graph->n_held];
        const uint64_t bytes = (uint64_t)source->rows * graph->params.codes.stride;
        if (bytes >= VEX_BULK_MAP_MIN && graph->held_bytes + bytes <= most) {
            status = hold(graph, source);
            graph->held_bytes += status == VEX_OK ? bytes : 0;
        }
    }
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
