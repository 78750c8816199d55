/*
 * graph_load.c - reading graph files (graph_format.h).
 *
 * Checksums find damage; the checks here make sure that no graph that passes them, whatever its
 * bytes, leads a walk out of bounds or round in circles.  A graph that is mapped is checked later:
 * until then walks check what they meet (graph_guard.c).
 */
#include "base/bits.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "index/graph_format.h"
#include "index/graph_internal.h"
#include "store/section.h"

#include <math.h>

#include "base/poison.h"

#define STEP_BYTES 65536u

typedef struct loading {
    const vex_container *container;
    const vex_section *info, *sources, *links, *upper;
    vex_graph *graph;
    const graph_tables *tables;
    bool in_place;         /* use the records where they are mapped */
    uint64_t *lists_taken; /* bit per upper list */
    uint64_t *linked;      /* bit per id: has links */
    uint8_t *targets;      /* byte per id: is linked to.  Marking one need not read it before */
    uint8_t *levels;       /* per id */
    bool has_chains;
    uint32_t ids, lists, n_linked, n_duplicates, n_chained;
} loading;

static vex_status damaged(const loading *l, const vex_section *section, const char *what) {
    return VEX_FAIL_AT(VEX_ERR_CORRUPT, l->container->path, section->offset, 0,
                       "the graph is damaged and must be built anew: %s", what);
}

/* ---- sections ---- */

static float get_float(const uint8_t *from) {
    float value;
    memcpy(&value, from, sizeof value);
    return value;
}

static vex_status read_params(loading *l, const vex_codes *codes, vex_graph_params *params) {
    VEX_TRY(vex_section_need(l->container, VEX_SECTION_INFO, GRAPH_INFO_BYTES, &l->info));
    const uint8_t *info = l->info->data;
    if (vex_get32(info + AT_VERSION) != GRAPH_VERSION ||
        vex_get32(info + AT_CODE_KIND) != codes->kind ||
        vex_get32(info + AT_SPACE) != codes->space || vex_get32(info + AT_DIM) != codes->dim ||
        vex_get32(info + AT_STRIDE) != codes->stride) {
        return VEX_FAIL(VEX_ERR_NOT_FOUND, "%s is a graph of other rows", l->container->path);
    }
    *params = (vex_graph_params){.codes = *codes,
                                 .m = vex_get32(info + AT_M),
                                 .ef_construction = vex_get32(info + AT_EF),
                                 .seed = vex_get64(info + AT_SEED),
                                 .phi = get_float(info + AT_PHI_CREATED)};
    l->ids = vex_get32(info + AT_IDS);
    l->lists = vex_get32(info + AT_LISTS);
    const float phi = get_float(info + AT_PHI);
    if (params->m < 2 || params->m > VEX_GRAPH_M_MAX || params->ef_construction < params->m ||
        params->ef_construction > 65535 || !(params->phi >= 0) || !isfinite(params->phi) ||
        !(phi >= params->phi) || !isfinite(phi) || (phi > 0 && codes->space != VEX_SPACE_IP) ||
        l->ids > VEX_GRAPH_IDS_MAX) {
        return damaged(l, l->info, "impossible parameters");
    }
    return VEX_OK;
}

static vex_status read_sections(loading *l) {
    vex_graph *g = l->graph;
    const uint8_t *info = l->info->data;
    if (vex_get32(info + AT_RECORD) != g->record_bytes) {
        return damaged(l, l->info, "impossible size of a record");
    }
    const uint64_t n_sources = vex_get32(info + AT_SOURCES);
    VEX_TRY(vex_section_need(l->container, GRAPH_SECTION_SOURCES, n_sources * GRAPH_SOURCE_BYTES,
                             &l->sources));
    VEX_TRY(vex_container_need(l->container, GRAPH_SECTION_LINKS,
                               (uint64_t)l->ids * g->record_bytes, &l->links)); /* check_nodes */
    VEX_TRY(vex_container_need(l->container, GRAPH_SECTION_UPPER,
                               (uint64_t)l->lists * g->upper_bytes, &l->upper)); /* check_upper */
    memcpy(&g->phi, info + AT_PHI, sizeof g->phi);
    return VEX_OK;
}

static vex_status read_sources(loading *l, vex_graph_rows_of rows_of, void *context) {
    vex_graph *g = l->graph;
    const uint32_t n = vex_get32(l->info->data + AT_SOURCES);
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *source = l->sources->data + (size_t)i * GRAPH_SOURCE_BYTES;
        const uint64_t file_no = vex_get64(source);
        const uint32_t rows = vex_get32(source + 8), first = vex_get32(source + 12);
        if ((uint64_t)first + rows > l->ids ||
            first != vex_align_up(vex_graph_end(g), VEX_GRAPH_PAGE)) {
            return damaged(l, l->sources, "impossible rows of a source");
        }
        const void *data = rows_of(context, file_no, rows);
        if (data == NULL) {
            return VEX_FAIL(VEX_ERR_NOT_FOUND, "%s is a graph over rows that are gone",
                            l->container->path);
        }
        VEX_TRY(graph_note_source(g, file_no, data, rows));
    }
    if (vex_graph_end(g) != l->ids) {
        return damaged(l, l->sources, "more rows than sources");
    }
    return VEX_OK;
}

/* Nobody writes to them: is_mapped() says so. */
static uint8_t *in_map(const uint8_t *data) {
    return (uint8_t *)(uintptr_t)data;
}

static vex_status use_links(loading *l) {
    vex_graph *g = l->graph;
    const uint32_t n_chunks = (uint32_t)(((uint64_t)l->ids + CHUNK_NODES - 1) >> CHUNK_SHIFT);
    const uint32_t n_uppers = (uint32_t)(((uint64_t)l->lists + UPPER_LISTS - 1) >> UPPER_SHIFT);
    uint8_t *chained = NULL;
    VEX_TRY(graph_reserve_tables(g, n_chunks > n_uppers ? n_chunks : n_uppers));
    VEX_TRY(graph_add_memory(g, n_chunks * sizeof(graph_chunk) + 1, &chained));
    graph_tables *t = atomic_load_explicit(&g->tables, memory_order_acquire);
    for (uint32_t i = 0; i < n_chunks; i++) {
        t->chained[i] = (graph_chunk *)(void *)chained + i;
        t->chunks[i] = in_map(l->links->data + (((size_t)i << CHUNK_SHIFT) * g->record_bytes));
    }
    for (uint32_t i = 0; i < n_uppers; i++) {
        t->uppers[i] = in_map(l->upper->data + (((size_t)i << UPPER_SHIFT) * g->upper_bytes));
    }
    g->n_lists = l->lists;
    l->tables = t;
    return VEX_OK;
}

static vex_status copy_links(loading *l) {
    vex_graph *g = l->graph;
    VEX_TRY(graph_reserve_lists(g, l->lists));
    VEX_TRY(graph_reserve_chunks(g, l->ids));
    g->n_lists = l->lists;
    l->tables = atomic_load_explicit(&g->tables, memory_order_acquire);
    for (uint32_t id = 0; id < l->ids; id += CHUNK_NODES) {
        const uint32_t n = l->ids - id < CHUNK_NODES ? l->ids - id : CHUNK_NODES;
        memcpy(node_at(g, l->tables, id), l->links->data + (size_t)id * g->record_bytes,
               (size_t)n * g->record_bytes);
    }
    for (uint32_t list = 0; list < l->lists; list += UPPER_LISTS) {
        const uint32_t n = l->lists - list < UPPER_LISTS ? l->lists - list : UPPER_LISTS;
        memcpy(upper_at(g, l->tables, list), l->upper->data + (size_t)list * g->upper_bytes,
               (size_t)n * g->upper_bytes);
    }
    return VEX_OK;
}

/* ---- checks ---- */

/* The upper lists of a node lie where they may. */
static vex_status check_level(loading *l, const graph_node *node, uint32_t level) {
    const uint64_t first = atomic_load_explicit(&node->upper, memory_order_relaxed);
    if (level > LEVEL_MAX || first + level > l->lists ||
        (first & (UPPER_LISTS - 1)) + level > UPPER_LISTS) {
        return damaged(l, l->links, "impossible level of a node");
    }
    for (uint64_t list = first; list < first + level; list++) {
        if (vex_bit_get(l->lists_taken, list)) {
            return damaged(l, l->links, "two nodes share a list");
        }
        vex_bit_set(l->lists_taken, list);
    }
    return VEX_OK;
}

/* Ids in [0, ids), none of them `id`; notes which they are. */
static bool note_targets(loading *l, uint32_t id, graph_list list, uint32_t n) {
    bool good = true; /* without a branch per link: they are most of the file */
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t to = list_get(list, i), known = to < l->ids ? to : l->ids;
        good &= (to == known) & (to != id);
        l->targets[known] = 1; /* there is room for one more */
    }
    return good;
}

/* One record by itself.  `row`: a source has the id. */
static vex_status check_node(loading *l, uint32_t id, bool row) {
    graph_node *node = node_at(l->graph, l->tables, id);
    const uint32_t level = level_of(node), flags = flags_of(node);
    const graph_list list = {&node->n, node->neighbours};
    const uint32_t n = list_length(list);
    if (flags != 0 && flags != NODE_LINKED && flags != NODE_DUPLICATE) {
        return damaged(l, l->links, "impossible state of a node");
    }
    if (flags != 0 && (!row || atomic_load_explicit(&node->hash, memory_order_relaxed) == 0)) {
        return damaged(l, l->links, "a node of no row");
    }
    if (atomic_load_explicit(&node->chain, memory_order_relaxed) != 0) {
        l->has_chains = true;
        if (flags == 0) {
            return damaged(l, l->links, "a broken chain of duplicates");
        }
    }
    if (n > (flags == NODE_LINKED ? list_capacity(l->graph, 0) : 0)) {
        return damaged(l, l->links, "impossible number of links");
    }
    if (level > 0) {
        VEX_TRY(check_level(l, node, level));
    }
    l->levels[id] = (uint8_t)level;
    l->n_linked += flags == NODE_LINKED;
    l->n_duplicates += flags == NODE_DUPLICATE;
    if (flags == NODE_LINKED) {
        vex_bit_set(l->linked, id);
    }
    return note_targets(l, id, list, n) ? VEX_OK : damaged(l, l->links, "a link leads nowhere");
}

/* All records, and their checksum: each is read once, which is what loading takes. */
static vex_status check_nodes(loading *l) {
    const uint32_t bytes = l->graph->record_bytes, step = STEP_BYTES / bytes + 1;
    uint32_t source = 0, crc = 0;
    for (uint32_t id = 0; id < l->ids;) {
        const uint32_t end = l->ids - id < step ? l->ids : id + step;
        crc = vex_crc32c(crc, l->links->data + (size_t)id * bytes, (size_t)(end - id) * bytes);
        for (; id < end; id++) {
            const vex_graph_source *s = &l->graph->sources[source];
            while (id >= s->first + s->rows) { /* the last one ends with the ids: read_sources */
                s = &l->graph->sources[++source];
            }
            VEX_TRY(check_node(l, id, id >= s->first));
        }
    }
    return crc == l->links->crc ? VEX_OK : damaged(l, l->links, "wrong checksum of its links");
}

/* Every link leads to a linked node. */
static vex_status check_targets(const loading *l) {
    bool good = true;
    for (uint32_t id = 0; id < l->ids; id++) {
        good &= l->targets[id] <= (uint8_t)vex_bit_get(l->linked, id);
    }
    return good ? VEX_OK : damaged(l, l->links, "a link leads nowhere");
}

/* ... and on the upper levels to one that has the level. */
static vex_status check_upper(loading *l) {
    if (vex_crc32c(0, l->upper->data, (size_t)l->upper->len) != l->upper->crc) {
        return damaged(l, l->upper, "wrong checksum of its upper links");
    }
    for (uint32_t id = 0; id < l->ids; id++) {
        for (uint32_t level = l->levels[id]; level > 0; level--) {
            const graph_list list = list_at(l->graph, l->tables, id, level);
            const uint32_t n = list_length(list);
            if (n > (vex_bit_get(l->linked, id) ? list_capacity(l->graph, level) : 0)) {
                return damaged(l, l->links, "impossible number of links");
            }
            bool good = note_targets(l, id, list, n);
            for (uint32_t i = 0; i < n && good; i++) {
                good = l->levels[list_get(list, i)] >= level;
            }
            if (!good) {
                return damaged(l, l->links, "a link leads nowhere");
            }
        }
    }
    return VEX_OK;
}

/* Duplicates ascend, so a chain ends. */
static vex_status check_chain(loading *l, uint32_t id) {
    const graph_node *head = node_at(l->graph, l->tables, id);
    const uint32_t last = atomic_load(&head->chain);
    if (last == 0) {
        return VEX_OK;
    }
    uint32_t before = 0, next = last <= l->ids
                                    ? atomic_load(&node_at(l->graph, l->tables, last - 1)->chain)
                                    : 0;
    for (;;) {
        if (next <= before || next > last) {
            return damaged(l, l->links, "a broken chain of duplicates");
        }
        const graph_node *node = node_at(l->graph, l->tables, next - 1);
        if (flags_of(node) != NODE_DUPLICATE || atomic_load(&node->neighbours[0]) != before ||
            atomic_load(&node->neighbours[1]) != id) {
            return damaged(l, l->links, "a broken chain of duplicates");
        }
        l->n_chained++;
        if (next == last) {
            break;
        }
        before = next;
        next = atomic_load(&node->chain);
    }
    const uint32_t bit = id & (CHUNK_NODES - 1);
    atomic_fetch_or(&chunk_at(l->tables, id)->chained[bit / 64], 1ULL << (bit % 64));
    return VEX_OK;
}

/* Where searches begin, and what the graph is said to have. */
static vex_status read_entry(const loading *l) {
    const uint64_t entry = vex_get64(l->info->data + AT_ENTRY);
    if (entry != NO_ENTRY &&
        (entry >> 32 > LEVEL_MAX || graph_source_of(l->graph, (uint32_t)entry) == NULL)) {
        return damaged(l, l->info, "impossible entry");
    }
    atomic_store_explicit(&l->graph->n_linked, vex_get32(l->info->data + AT_LINKED),
                          memory_order_relaxed);
    atomic_store_explicit(&l->graph->n_duplicates, vex_get32(l->info->data + AT_DUPLICATES),
                          memory_order_relaxed);
    atomic_store_explicit(&l->graph->entry, entry, memory_order_release);
    return VEX_OK;
}

/* That is what it has. */
static vex_status check_entry(const loading *l) {
    const uint64_t entry = atomic_load(&l->graph->entry);
    const graph_node *node =
        entry == NO_ENTRY ? NULL : node_at(l->graph, l->tables, (uint32_t)entry);
    const bool fits =
        node == NULL ? l->n_linked == 0 : is_linked(node) && level_of(node) == entry >> 32;
    if (!fits || l->n_linked != atomic_load(&l->graph->n_linked) ||
        l->n_duplicates != atomic_load(&l->graph->n_duplicates) ||
        l->n_chained != l->n_duplicates) {
        return damaged(l, l->info, "its counts do not fit");
    }
    return VEX_OK;
}

/* Chains, and the table of equal rows, which only inserting needs. */
static vex_status check_duplicates(loading *l) {
    for (uint32_t id = 0; id < l->ids && (l->has_chains || !l->in_place); id++) {
        if (vex_bit_get(l->linked, id)) {
            VEX_TRY(check_chain(l, id));
            if (!l->in_place) {
                VEX_TRY(graph_duplicates_note(l->graph, id));
            }
        }
    }
    return VEX_OK;
}

static vex_status check_each(loading *l) {
    VEX_TRY(check_nodes(l));
    VEX_TRY(check_upper(l));
    VEX_TRY(check_targets(l));
    VEX_TRY(check_duplicates(l));
    return check_entry(l);
}

static vex_status check_all(loading *l) {
    vex_status status;
    l->lists_taken = vex_calloc(vex_bit_words(l->lists) + 1, sizeof *l->lists_taken);
    l->linked = vex_calloc(vex_bit_words(l->ids) + 1, sizeof *l->linked);
    l->targets = vex_calloc((size_t)l->ids + 1, sizeof *l->targets);
    l->levels = vex_calloc((size_t)l->ids + 1, sizeof *l->levels);
    if (l->lists_taken == NULL || l->linked == NULL || l->targets == NULL || l->levels == NULL) {
        status = VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: cannot load a graph");
    } else {
        status = check_each(l);
    }
    vex_free(l->lists_taken);
    vex_free(l->linked);
    vex_free(l->targets);
    vex_free(l->levels);
    return status;
}

/* ---- the whole ---- */

/* Everything but the links, which are where they lie or copied. */
static vex_status load(loading *l, const vex_codes *codes, vex_graph_rows_of rows_of,
                       void *context) {
    vex_graph_params params;
    VEX_TRY(read_params(l, codes, &params));
    VEX_TRY(vex_graph_create(&params, &l->graph));
    VEX_TRY(read_sections(l));
    VEX_TRY(read_sources(l, rows_of, context));
    VEX_TRY(read_entry(l));
    return l->in_place ? use_links(l) : copy_links(l);
}

vex_status vex_graph_load(vex_vfs *vfs, const char *dir, const uint8_t uuid[16], uint64_t file_no,
                          const vex_file_entry *entry, const vex_codes *codes,
                          vex_graph_rows_of rows_of, void *context, vex_graph **out) {
    vex_container container;
    VEX_TRY(vex_container_open(vfs, dir, uuid, VEX_KIND_GRAPH, file_no, entry, &container));
    loading l = {.container = &container};
    vex_status status = load(&l, codes, rows_of, context);
    if (status == VEX_OK) {
        status = check_all(&l);
    }
    vex_container_close(&container);
    if (status != VEX_OK) {
        vex_graph_destroy(l.graph);
        return status;
    }
    *out = l.graph;
    return VEX_OK;
}

vex_status vex_graph_map(vex_vfs *vfs, const char *dir, const uint8_t uuid[16], uint64_t file_no,
                         const vex_file_entry *entry, const vex_codes *codes,
                         vex_graph_rows_of rows_of, void *context, vex_graph **out) {
    vex_container container;
    VEX_TRY(vex_container_open(vfs, dir, uuid, VEX_KIND_GRAPH, file_no, entry, &container));
    loading l = {.container = &container, .in_place = true};
    vex_status status = load(&l, codes, rows_of, context);
    if (status == VEX_OK) {
        status = graph_guard_create(l.graph, &l.graph->page_rows);
    }
    if (status != VEX_OK) {
        vex_container_close(&container);
        vex_graph_destroy(l.graph);
        return status;
    }
    l.graph->file = container;
    *out = l.graph;
    return VEX_OK;
}

bool vex_graph_is_verified(const vex_graph *graph) {
    return graph->page_rows == NULL || atomic_load_explicit(&graph->verified, memory_order_acquire);
}

vex_status vex_graph_verify(vex_graph *graph) {
    if (vex_graph_is_verified(graph)) {
        return VEX_OK;
    }
    const vex_container *file = &graph->file;
    loading l = {.container = file,
                 .info = vex_container_find(file, VEX_SECTION_INFO),
                 .links = vex_container_find(file, GRAPH_SECTION_LINKS),
                 .upper = vex_container_find(file, GRAPH_SECTION_UPPER),
                 .graph = graph,
                 .tables = atomic_load_explicit(&graph->tables, memory_order_acquire),
                 .in_place = true,
                 .ids = vex_graph_end(graph),
                 .lists = graph->n_lists};
    VEX_TRY(check_all(&l));
    atomic_store_explicit(&graph->verified, true, memory_order_release);
    return VEX_OK;
}

static vex_status count_stored(loading *l, vex_graph_knows knows, void *context, uint64_t *rows) {
    VEX_TRY(vex_section_need(l->container, VEX_SECTION_INFO, GRAPH_INFO_BYTES, &l->info));
    const uint8_t *info = l->info->data;
    const uint32_t n = vex_get32(info + AT_SOURCES);
    VEX_TRY(vex_section_need(l->container, GRAPH_SECTION_SOURCES, (uint64_t)n * GRAPH_SOURCE_BYTES,
                             &l->sources));
    bool known = vex_get32(info + AT_VERSION) == GRAPH_VERSION;
    for (uint32_t i = 0; i < n && known; i++) {
        const uint8_t *source = l->sources->data + (size_t)i * GRAPH_SOURCE_BYTES;
        known = knows(context, vex_get64(source), vex_get32(source + 8));
    }
    *rows = known ? (uint64_t)vex_get32(info + AT_LINKED) + vex_get32(info + AT_DUPLICATES) : 0;
    return VEX_OK;
}

vex_status vex_graph_count_stored(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                                  uint64_t file_no, vex_graph_knows knows, void *context,
                                  uint64_t *rows) {
    vex_container container;
    VEX_TRY(vex_container_open(vfs, dir, uuid, VEX_KIND_GRAPH, file_no, NULL, &container));
    loading l = {.container = &container};
    const vex_status status = count_stored(&l, knows, context, rows);
    vex_container_close(&container);
    return status;
}
