/*
 * graph_remap.c - the graph of the rows that a compaction kept.
 *
 * Dead nodes were ways, too.  A node that lost neighbours looks through the dead ones at what lies
 * behind them, and chooses anew among that and what it still has.
 */
#include "base/bits.h"
#include "base/hash.h"
#include "index/graph_internal.h"

#include "base/poison.h"

#define LOOKS_MAX 100u /* dead nodes to look through for one that lost links */
#define MET_SLOTS 4096u
#define MET_MAX 3000u
#define UPROOTED_SHARE 4u /* one in so many links lost: searching finds better ones than healing */

typedef struct remap {
    const vex_graph *old;
    const graph_tables *tables; /* of the old graph */
    vex_graph *fresh;
    vex_graph_scratch *scratch;
    const uint32_t *old_to_new;
    uint32_t n_old, end;
    uint32_t *stands; /* per old node: the new one that takes its place in the graph */
    vex_bulk memory;
} remap;

static graph_tables *tables_of(const vex_graph *g) {
    return atomic_load_explicit(&g->tables, memory_order_acquire);
}

static uint32_t new_of(const remap *r, uint32_t id) {
    return id < r->n_old ? r->old_to_new[id] : VEX_GRAPH_NONE;
}

static vex_status check_table(const remap *r) {
    const uint32_t n_new = vex_graph_end(r->fresh);
    uint64_t *named = vex_calloc(vex_bit_words(n_new) + 1, sizeof *named);
    if (named == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: cannot compact a graph");
    }
    bool good = r->n_old <= r->end;
    for (uint32_t id = 0; good && id < r->n_old; id++) {
        const uint32_t to = r->old_to_new[id];
        if (to != VEX_GRAPH_NONE) {
            good = to < n_new && !vex_bit_get(named, to) && graph_source_of(r->fresh, to) != NULL;
            if (good) {
                vex_bit_set(named, to);
            }
        }
    }
    vex_free(named);
    if (!good || r->old->params.m != r->fresh->params.m || atomic_load(&r->fresh->n_linked) != 0) {
        return VEX_FAIL(VEX_ERR_INVALID, "graph: impossible table of new row numbers");
    }
    return VEX_OK;
}

/* ---- nodes ---- */

static uint32_t chain_of(const remap *r, uint32_t id) {
    return atomic_load_explicit(&node_at(r->old, r->tables, id)->chain, memory_order_relaxed);
}

/* The new representative of an old one and of its duplicates, which are chained to it. */
static vex_status carry_row(remap *r, uint32_t id, uint32_t to, uint32_t *representative) {
    vex_graph *g = r->fresh;
    const uint32_t hash = graph_row_hash(vex_graph_row(g, to), g->params.codes.stride);
    atomic_store_explicit(&node_at(g, tables_of(g), to)->hash, hash, memory_order_relaxed);
    if (*representative != VEX_GRAPH_NONE) {
        graph_duplicates_chain(g, *representative, to);
        return VEX_OK;
    }
    *representative = to;
    atomic_fetch_or_explicit(&node_at(g, tables_of(g), to)->flags, NODE_LINKED,
                             memory_order_release);
    atomic_fetch_add_explicit(&g->n_linked, 1, memory_order_relaxed);
    VEX_TRY(graph_give_level(g, to, level_of(node_at(r->old, r->tables, id))));
    return graph_duplicates_note(g, to);
}

static vex_status carry_node(remap *r, uint32_t id) {
    uint32_t representative = VEX_GRAPH_NONE, to = new_of(r, id);
    if (to != VEX_GRAPH_NONE) {
        VEX_TRY(carry_row(r, id, to, &representative));
    }
    const uint32_t last = chain_of(r, id);
    for (uint32_t next = last; next != 0;) {
        next = chain_of(r, next - 1);
        to = new_of(r, next - 1);
        if (to != VEX_GRAPH_NONE) {
            VEX_TRY(carry_row(r, id, to, &representative));
        }
        next = next == last ? 0 : next;
    }
    r->stands[id] = representative;
    return VEX_OK;
}

static vex_status carry_nodes(remap *r) {
    graph_reset_levels(r->fresh);
    for (uint32_t id = 0; id < r->end; id++) {
        r->stands[id] = VEX_GRAPH_NONE;
        if (is_linked(node_at(r->old, r->tables, id))) {
            VEX_TRY(carry_node(r, id));
        }
    }
    return VEX_OK;
}

/* ---- links ---- */

/* Links among the living, as they are. */
static void carry_links(remap *r, uint32_t id) {
    const uint32_t to = r->stands[id];
    const graph_tables *t = tables_of(r->fresh);
    for (uint32_t level = level_of(node_at(r->old, r->tables, id)) + 1; level-- > 0;) {
        const graph_list from = list_at(r->old, r->tables, id, level);
        const uint32_t n = list_length(from);
        uint32_t *ids = r->scratch->ids, kept = 0;
        for (uint32_t i = 0; i < n; i++) {
            const uint32_t other = r->stands[list_get(from, i)];
            ids[kept] = other;
            kept += other != VEX_GRAPH_NONE;
        }
        list_set(list_at(r->fresh, t, to, level), ids, kept);
    }
}

/* A candidate for the node in scratch->query: into the pool of the nearest. */
static void offer(const remap *r, graph_walk *walk, uint32_t id) {
    vex_graph_scratch *s = walk->scratch;
    const uint32_t most = r->fresh->params.ef_construction;
    if (graph_walk_mark(walk, id)) {
        return;
    }
    const uint64_t key = key_make(graph_walk_distance(walk, id), id);
    if (s->n_pool == most && key > s->pool[most - 1]) {
        return;
    }
    const uint32_t place = graph_pool_place(s->pool, s->n_pool, key);
    s->n_pool += s->n_pool < most;
    memmove(s->pool + place + 1, s->pool + place, (s->n_pool - 1 - place) * sizeof *s->pool);
    s->pool[place] = key;
}

/* Dead nodes that were met while one that lost links is healed: a small table of ids + 1. */
typedef struct met {
    uint32_t slots[MET_SLOTS];
    uint32_t stack[MET_MAX]; /* those to go on from */
    uint32_t n, n_stack;
} met;

/* A node that was not met before is put on the stack, as long as there is room. */
static void meet(met *m, uint32_t id) {
    uint32_t slot = (uint32_t)vex_mix64(id) % MET_SLOTS;
    for (; m->slots[slot] != 0; slot = (slot + 1) % MET_SLOTS) {
        if (m->slots[slot] == id + 1) {
            return;
        }
    }
    if (m->n < MET_MAX) {
        m->slots[slot] = id + 1;
        m->stack[m->n_stack++] = id;
        m->n++;
    }
}

/* Offer what can be reached from the old node through dead ones.  Always on from the last that was
 * met: that leads away, so that the candidates are not all near by, and far parts of the graph stay
 * linked (recall of queries between clusters after half of the rows died: 0.91; going on from the
 * first: 0.85). */
static void offer_behind(const remap *r, graph_walk *walk, uint32_t id, uint32_t level) {
    met m = {0};
    meet(&m, id);
    for (uint32_t looks = 0; m.n_stack > 0 && looks < LOOKS_MAX; looks++) {
        const graph_list list = list_at(r->old, r->tables, m.stack[--m.n_stack], level);
        const uint32_t n_links = list_length(list);
        for (uint32_t i = 0; i < n_links; i++) {
            const uint32_t next = list_get(list, i);
            if (r->stands[next] != VEX_GRAPH_NONE) {
                offer(r, walk, r->stands[next]);
            } else {
                meet(&m, next);
            }
        }
    }
}

/* How many links of a list are gone. */
static uint32_t count_lost(const remap *r, uint32_t id, uint32_t level) {
    const graph_list list = list_at(r->old, r->tables, id, level);
    const uint32_t n = list_length(list);
    uint32_t lost = 0;
    for (uint32_t i = 0; i < n; i++) {
        lost += r->stands[list_get(list, i)] == VEX_GRAPH_NONE;
    }
    return lost;
}

/* Did the node lose so much on level 0 that its neighbourhood is best searched for? */
static bool is_uprooted(const remap *r, uint32_t id) {
    const uint32_t had = list_length(list_at(r->old, r->tables, id, 0));
    return count_lost(r, id, 0) * UPROOTED_SHARE > had;
}

/* Give a node that lost links others, to what lies behind the dead.  What it has stays: these links
 * were chosen among more than can be seen from here, and some are the only way to far parts. */
static void heal(const remap *r, graph_walk *walk, uint32_t id, uint32_t level) {
    vex_graph_scratch *s = walk->scratch;
    vex_graph *g = r->fresh;
    const uint32_t to = r->stands[id], capacity = list_capacity(g, level);
    const graph_list list = list_at(g, walk->tables, to, level);
    const uint32_t n = list_length(list), had = list_length(list_at(r->old, r->tables, id, level));
    const uint32_t wanted = had > g->params.m ? had : g->params.m;
    const uint32_t most = wanted < capacity ? wanted : capacity;
    vex_code_query_row(&s->query, row_at(g, walk->tables, to), phi_of(g));
    graph_walk_forget(walk);
    graph_walk_mark(walk, to);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t stays = list_get(list, i);
        graph_walk_mark(walk, stays);
        s->kept[i] = key_make(graph_walk_distance(walk, stays), stays);
    }
    s->n_pool = 0;
    offer_behind(r, walk, id, level);
    const uint32_t more =
        graph_select_more(walk, n, s->pool, s->n_pool, n < most ? most - n : 0, s->chosen);
    for (uint32_t i = 0; i < more; i++) {
        graph_link(walk, to, level, s->chosen[i]);
        graph_link(walk, s->chosen[i], level, to);
    }
}

/* ---- the whole ---- */

static uint32_t degree(const vex_graph *g, uint32_t id) {
    return list_length(list_at(g, tables_of(g), id, 0));
}

/* Set the entry: the highest node, of those that have neighbours where some have. */
static void choose_entry(vex_graph *g) {
    const uint32_t n = vex_graph_end(g);
    uint64_t best = 0;
    for (uint32_t id = 0; id < n; id++) {
        const graph_node *node = node_at(g, tables_of(g), id);
        if (is_linked(node)) {
            const uint64_t rank =
                ((uint64_t)(degree(g, id) > 0) << 6 | level_of(node)) << 32 | (UINT32_MAX - id);
            best = rank > best ? rank : best;
        }
    }
    if (best != 0) {
        const uint32_t id = UINT32_MAX - (uint32_t)best;
        graph_set_entry(g, id, level_of(node_at(g, tables_of(g), id)));
    }
}

static void carry_all_links(remap *r) {
    for (uint32_t id = 0; id < r->end; id++) {
        if (r->stands[id] != VEX_GRAPH_NONE) {
            carry_links(r, id);
        }
    }
}

static vex_status heal_visit(void *context, vex_graph_scratch *s, uint32_t id) {
    const remap *r = context;
    graph_walk walk;
    uint64_t entry;
    if (r->stands[id] == VEX_GRAPH_NONE) {
        return VEX_OK;
    }
    VEX_TRY(graph_scratch_for_building(r->fresh, s));
    VEX_TRY(graph_walk_begin(&walk, r->fresh, s, &entry));
    for (uint32_t l = level_of(node_at(r->old, r->tables, id)) + 1; l-- > 0;) {
        if (count_lost(r, id, l) > 0) {
            heal(r, &walk, id, l);
        }
    }
    vex_stat_add(VEX_STAT_DISTANCES, (int64_t)walk.distances);
    return VEX_OK;
}

static vex_status root_visit(void *context, vex_graph_scratch *s, uint32_t id) {
    const remap *r = context;
    return r->stands[id] != VEX_GRAPH_NONE && is_uprooted(r, id)
               ? graph_link_anew(r->fresh, s, r->stands[id])
               : VEX_OK;
}

static vex_status for_old(remap *r, const vex_graph_pace *pace, graph_visit visit) {
    vex_graph_batch batch;
    vex_graph_batch_init(&batch, 0, r->end);
    batch.pause = pace->pause;
    batch.context = pace->context;
    VEX_TRY(graph_for_batch(r->fresh, &batch, pace->threads, visit, r));
    return atomic_load(&batch.next) >= r->end
               ? VEX_OK
               : VEX_FAIL(VEX_ERR_BUSY, "making a graph anew was interrupted; it is done later");
}

/* Nodes that have hardly a neighbour left search for some. */
static vex_status link_strays(remap *r) {
    vex_graph *g = r->fresh;
    const uint32_t n = vex_graph_end(g), linked = atomic_load(&g->n_linked);
    const uint32_t least = linked - 1 < DEGREE_MIN ? linked - 1 : DEGREE_MIN;
    for (uint32_t id = 0; id < n; id++) {
        if (is_linked(node_at(g, tables_of(g), id)) && degree(g, id) < least) {
            VEX_TRY(graph_link_anew(g, r->scratch, id));
        }
    }
    return VEX_OK;
}

static vex_status run(remap *r, const vex_graph_pace *pace) {
    vex_graph *g = r->fresh;
    vex_graph_repair_stats repair;
    VEX_TRY(check_table(r));
    VEX_TRY(graph_scratch_for_building(g, r->scratch));
    const uint32_t phi = atomic_load_explicit(&r->old->phi, memory_order_relaxed);
    atomic_store_explicit(&g->phi, phi, memory_order_relaxed);
    VEX_TRY(carry_nodes(r));
    if (atomic_load(&g->n_linked) == 0) {
        return VEX_OK;
    }
    carry_all_links(r);
    choose_entry(g);
    VEX_TRY(for_old(r, pace, heal_visit));
    VEX_TRY(for_old(r, pace, root_visit)); /* by searching what is sound again */
    VEX_TRY(link_strays(r));
    choose_entry(g);
    return vex_graph_repair(g, &repair);
}

vex_status vex_graph_remap(const vex_graph *old, const uint32_t *old_to_new, uint32_t n_old,
                           const vex_graph_pace *pace, vex_graph *fresh) {
    remap r = {.old = old,
               .tables = tables_of(old),
               .fresh = fresh,
               .old_to_new = old_to_new,
               .n_old = n_old,
               .end = vex_graph_end(old)};
    const size_t n = (size_t)r.end + 1;
    VEX_TRY(vex_bulk_create(&r.memory, n * sizeof(uint32_t)));
    r.stands = r.memory.data;
    vex_status status = vex_graph_scratch_acquire(fresh, &r.scratch);
    if (status == VEX_OK) {
        status = run(&r, pace);
    }
    vex_graph_scratch_release(fresh, r.scratch);
    vex_bulk_destroy(&r.memory);
    return status;
}
