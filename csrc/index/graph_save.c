/*
 * graph_save.c - writing graph files (graph_format.h).
 */
#include "base/bytes.h"
#include "index/graph_format.h"
#include "index/graph_internal.h"
#include "store/container.h"

#include "base/poison.h"

#define STAGE_BYTES ((size_t)64 << 10)

static vex_status put_info(const vex_graph *g, vex_container_writer *writer) {
    uint8_t info[GRAPH_INFO_BYTES] = {0};
    const vex_graph_params *p = &g->params;
    const float phi = phi_of(g);
    vex_put32(info + AT_VERSION, GRAPH_VERSION);
    vex_put32(info + AT_CODE_KIND, p->codes.kind);
    vex_put32(info + AT_SPACE, p->codes.space);
    vex_put32(info + AT_DIM, p->codes.dim);
    vex_put32(info + AT_STRIDE, p->codes.stride);
    vex_put32(info + AT_M, p->m);
    vex_put32(info + AT_EF, p->ef_construction);
    vex_put32(info + AT_RECORD, g->record_bytes);
    vex_put64(info + AT_SEED, p->seed);
    memcpy(info + AT_PHI_CREATED, &p->phi, sizeof p->phi);
    memcpy(info + AT_PHI, &phi, sizeof phi);
    vex_put32(info + AT_IDS, vex_graph_end(g));
    vex_put32(info + AT_LINKED, atomic_load(&g->n_linked));
    vex_put32(info + AT_DUPLICATES, atomic_load(&g->n_duplicates));
    vex_put32(info + AT_LISTS, g->n_lists);
    vex_put64(info + AT_ENTRY, atomic_load(&g->entry));
    vex_put32(info + AT_SOURCES, g->n_sources);
    return vex_container_put(writer, VEX_SECTION_INFO, 0, 0, 0, info, sizeof info);
}

static vex_status put_sources(const vex_graph *g, vex_container_writer *writer) {
    VEX_TRY(vex_container_begin(writer, GRAPH_SECTION_SOURCES, VEX_SECTION_OPTIONAL, 64,
                                g->n_sources, 0));
    for (uint32_t i = 0; i < g->n_sources; i++) {
        uint8_t source[GRAPH_SOURCE_BYTES];
        vex_put64(source, g->sources[i].file_no);
        vex_put32(source + 8, g->sources[i].rows);
        vex_put32(source + 12, g->sources[i].first);
        VEX_TRY(vex_container_append(writer, source, sizeof source));
    }
    return vex_container_end(writer);
}

/* Through `stage`, which fits whole records; searchers may be reading them, no one writes. */
static vex_status put_links(const vex_graph *g, vex_container_writer *writer, uint8_t *stage,
                            size_t stage_bytes) {
    const uint32_t n = vex_graph_end(g);
    const graph_tables *t = atomic_load_explicit(&g->tables, memory_order_acquire);
    VEX_TRY(vex_container_begin(writer, GRAPH_SECTION_LINKS, VEX_SECTION_OPTIONAL, 64, n, 0));
    for (uint32_t id = 0; id < n;) {
        size_t len = 0;
        for (; id < n && stage_bytes - len >= g->record_bytes; id++, len += g->record_bytes) {
            memcpy(stage + len, node_at(g, t, id), g->record_bytes);
        }
        VEX_TRY(vex_container_append(writer, stage, len));
    }
    return vex_container_end(writer);
}

static vex_status put_upper(const vex_graph *g, vex_container_writer *writer) {
    const graph_tables *t = atomic_load_explicit(&g->tables, memory_order_acquire);
    VEX_TRY(
        vex_container_begin(writer, GRAPH_SECTION_UPPER, VEX_SECTION_OPTIONAL, 64, g->n_lists, 0));
    for (uint32_t list = 0; list < g->n_lists; list += UPPER_LISTS) {
        const uint32_t n = g->n_lists - list < UPPER_LISTS ? g->n_lists - list : UPPER_LISTS;
        VEX_TRY(vex_container_append(writer, upper_at(g, t, list), (size_t)n * g->upper_bytes));
    }
    return vex_container_end(writer);
}

static vex_status put_all(const vex_graph *g, vex_container_writer *writer) {
    const size_t bytes = g->record_bytes > STAGE_BYTES ? g->record_bytes : STAGE_BYTES;
    uint8_t *stage = vex_malloc(bytes);
    if (stage == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: cannot write a graph file");
    }
    vex_status status = put_info(g, writer);
    if (status == VEX_OK) {
        status = put_sources(g, writer);
    }
    if (status == VEX_OK) {
        status = put_links(g, writer, stage, bytes);
    }
    if (status == VEX_OK) {
        status = put_upper(g, writer);
    }
    vex_free(stage);
    return status;
}

vex_status vex_graph_save(const vex_graph *graph, vex_vfs *vfs, const char *dir,
                          const uint8_t uuid[16], uint64_t file_no, uint64_t lsn_lo,
                          uint64_t lsn_hi, bool sync, vex_file_entry *entry) {
    vex_container_writer *writer = NULL;
    VEX_TRY(vex_container_create(vfs, dir, uuid, VEX_KIND_GRAPH, file_no, lsn_lo, lsn_hi, &writer));
    const vex_status status = put_all(graph, writer);
    if (status != VEX_OK) {
        vex_container_abort(writer);
        return status;
    }
    vex_file_entry written = {.rows = atomic_load(&graph->n_linked) +
                                      atomic_load(&graph->n_duplicates)};
    VEX_TRY(vex_container_finish(writer, sync, &written));
    *entry = written;
    return VEX_OK;
}
