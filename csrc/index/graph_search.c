/*
 * graph_search.c - finding the rows nearest to a query.
 *
 * The walk goes through all nodes; what may be found decides how long.  Without a filter, or with
 * one that lets much through, the pool is candidates and results in one: it holds as many nodes as
 * are needed to have ef in it that may be found.  With a filter that lets little through such a
 * pool would be long, so candidates are a heap then, and results a pool of their own.  Where it lets so
 * little through that a walk would meet as many other rows, each row that may be found is looked at.
 */
#include "base/bits.h"
#include "index/graph_internal.h"

#include "base/poison.h"

#define LONGEST 16u /* times ef: a longer pool becomes a heap */
#define SPARSE 8u   /* one in so many, or fewer, may be found: candidates become a heap */
/* A walk without a filter takes about 13 ef distances, and one that may find a share of the rows as
 * many times more, of 30 to 50 ns; looking at a row that is fetched ahead takes 18 (384 dimensions).
 * Measured, both take as long at 18 (20,000 rows) to 29 (100,000). */
#define EACH 22u

typedef struct search {
    graph_walk walk;
    const vex_graph_search_args *args;
    bool chains; /* there are duplicates */
    bool exhausted;
} search;

/* ---- what may be found ---- */

static inline bool is_allowed(const search *f, uint32_t id) {
    return f->args->allowed == NULL ||
           (id < f->args->allowed_end && vex_bit_get(f->args->allowed, id));
}

/* The duplicates of a representative that may be found, in id order. */
typedef struct chain_cursor {
    uint32_t representative;
    uint32_t next, last; /* id + 1; 0: none */
} chain_cursor;

static uint32_t chain_of(const search *f, uint32_t id) {
    return atomic_load_explicit(&node_at(f->walk.graph, f->walk.tables, id)->chain,
                                memory_order_acquire);
}

static bool has_chain(search *f, uint32_t id) {
    return f->chains &&
           (f->walk.guarded ? graph_guard_linked(&f->walk, id) : is_chained(f->walk.tables, id));
}

/* Is there one of this number? */
static bool has_duplicate(search *f, const chain_cursor *c, uint32_t number) {
    return number != 0 && number - 1 < f->walk.end &&
           (!f->walk.guarded || graph_guard_duplicate(&f->walk, number - 1, c->representative));
}

static chain_cursor chain_begin(search *f, uint32_t id) {
    chain_cursor c = {id, 0, 0};
    if (has_chain(f, id)) {
        c.last = chain_of(f, id);
        c.next = has_duplicate(f, &c, c.last) ? chain_of(f, c.last - 1) : 0;
    }
    return c;
}

/* The next one that may be found, or VEX_GRAPH_NONE. */
static uint32_t chain_next(search *f, chain_cursor *c) {
    while (has_duplicate(f, c, c->next)) {
        const uint32_t id = c->next - 1;
        const uint32_t next = c->next == c->last ? 0 : chain_of(f, id);
        c->next = next > c->next ? next : 0; /* they ascend */
        if (is_allowed(f, id)) {
            return id;
        }
    }
    c->next = 0; /* the rest was added after this search began */
    return VEX_GRAPH_NONE;
}

/* May the node or one of its duplicates be found? */
static bool may_be_found(search *f, uint32_t id) {
    if (is_allowed(f, id)) {
        return true;
    }
    chain_cursor c = chain_begin(f, id);
    return chain_next(f, &c) != VEX_GRAPH_NONE;
}

static bool is_over(search *f) {
    f->exhausted = f->walk.damaged || (f->args->budget > 0 && f->walk.distances >= f->args->budget);
    return f->exhausted;
}

/* ---- candidates and results in one pool ---- */

static uint32_t next_open(const uint64_t *pool, uint32_t at, uint32_t n) {
    while (at < n && (pool[at] & KEY_DONE) != 0) {
        at++;
    }
    return at;
}

/* Put a key in; *found counts the nodes of the pool that may be found, at most ef: what lies
 * behind the last of them is cut off.  Returns its place, or UINT32_MAX. */
static uint32_t pool_add(search *f, uint64_t key, uint32_t *found) {
    vex_graph_scratch *s = f->walk.scratch;
    uint64_t *pool = s->pool;
    const uint32_t ef = f->args->ef;
    if (*found == ef && key > pool[s->n_pool - 1]) {
        return UINT32_MAX;
    }
    const uint32_t place = graph_pool_place(pool, s->n_pool, key);
    memmove(pool + place + 1, pool + place, (s->n_pool - place) * sizeof *pool);
    pool[place] = key;
    s->n_pool++;
    if (!may_be_found(f, key_id(key))) {
        return place;
    }
    if (*found < ef) {
        ++*found;
    } else {
        s->n_pool--; /* the last, which counted */
    }
    while (*found == ef && !may_be_found(f, key_id(pool[s->n_pool - 1]))) {
        s->n_pool--;
    }
    return place;
}

static vex_status search_heap(search *f, uint32_t n_heap);
static vex_status heap_reserve(vex_graph_scratch *s, size_t n);

/* Go on with a heap: the sorted candidates are one already. */
static vex_status continue_with_heap(search *f) {
    vex_graph_scratch *s = f->walk.scratch;
    uint32_t n_heap = 0, n_found = 0;
    VEX_TRY(heap_reserve(s, s->n_pool));
    for (uint32_t i = 0; i < s->n_pool; i++) {
        const uint64_t key = s->pool[i];
        if ((key & KEY_DONE) == 0) {
            s->heap[n_heap++] = key;
        }
        if (may_be_found(f, key_id(key))) {
            s->pool[n_found++] = key;
        }
    }
    s->n_pool = n_found;
    return search_heap(f, n_heap);
}

static vex_status search_pool(search *f, uint64_t start) {
    vex_graph_scratch *s = f->walk.scratch;
    uint32_t at = 0, found = 0;
    const uint32_t most = 2 * f->walk.graph->params.m;
    const uint64_t longest = (uint64_t)LONGEST * f->args->ef + 1024;
    VEX_TRY(graph_pool_reserve(s, (size_t)most + 2));
    s->n_pool = 0;
    pool_add(f, start, &found);
    while (at < s->n_pool && !is_over(f)) {
        if (s->n_pool > longest) { /* what may be found is not where the filter promised it */
            return continue_with_heap(f);
        }
        VEX_TRY(graph_pool_reserve(s, (size_t)s->n_pool + most + 1));
        const uint32_t id = key_id(s->pool[at]);
        s->pool[at] |= KEY_DONE;
        at = next_open(s->pool, at + 1, s->n_pool);
        const uint32_t ahead = at < s->n_pool ? key_id(s->pool[at]) : VEX_GRAPH_NONE;
        uint32_t m = graph_walk_expand(&f->walk, id, 0, ahead);
        m = found == f->args->ef ? graph_walk_near(&f->walk, m, s->pool[s->n_pool - 1]) : m;
        for (uint32_t i = 0; i < m; i++) {
            const uint32_t place = pool_add(f, key_make(s->distances[i], s->ids[i]), &found);
            at = place < at ? place : at;
        }
        at = next_open(s->pool, at, s->n_pool);
    }
    return VEX_OK;
}

/* All may be found: the pool holds the ef nearest. */
static vex_status search_all(search *f, uint64_t start) {
    vex_graph_scratch *s = f->walk.scratch;
    VEX_TRY(graph_pool_reserve(s, (size_t)f->args->ef + 1));
    s->pool[0] = start;
    s->n_pool = 1;
    graph_walk_beam(&f->walk, 0, f->args->ef);
    return VEX_OK;
}

/* ---- candidates in a heap ---- */

static void heap_push(uint64_t *heap, uint32_t n, uint64_t key) {
    uint32_t i = n;
    while (i > 0 && heap[(i - 1) / 2] > key) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = key;
}

static uint64_t heap_pop(uint64_t *heap, uint32_t *n) {
    const uint64_t top = heap[0], last = heap[--*n];
    uint32_t i = 0;
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= *n) {
            break;
        }
        child += child + 1 < *n && heap[child + 1] < heap[child];
        if (heap[child] >= last) {
            break;
        }
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
    return top;
}

static vex_status heap_reserve(vex_graph_scratch *s, size_t n) {
    void *heap = s->heap;
    VEX_TRY(vex_grow(&heap, &s->heap_capacity, n, sizeof *s->heap));
    s->heap = heap;
    return VEX_OK;
}

static void heap_offer(search *f, uint64_t key, uint32_t *n_heap) {
    vex_graph_scratch *s = f->walk.scratch;
    const uint32_t ef = f->args->ef;
    if (s->n_pool == ef && key > s->pool[ef - 1]) {
        return;
    }
    heap_push(s->heap, (*n_heap)++, key);
    if (!may_be_found(f, key_id(key))) {
        return;
    }
    const uint32_t place = graph_pool_place(s->pool, s->n_pool, key);
    s->n_pool += s->n_pool < ef;
    memmove(s->pool + place + 1, s->pool + place, (s->n_pool - 1 - place) * sizeof *s->pool);
    s->pool[place] = key;
}

/* n_heap candidates are there, and in the pool those of what was seen that may be found. */
static vex_status search_heap(search *f, uint32_t n_heap) {
    vex_graph_scratch *s = f->walk.scratch;
    const uint32_t most = 2 * f->walk.graph->params.m, ef = f->args->ef;
    while (n_heap > 0 && !is_over(f)) {
        VEX_TRY(heap_reserve(s, (size_t)n_heap + most));
        VEX_TRY(graph_pool_reserve(s, (size_t)s->n_pool + most + 1));
        const uint64_t key = heap_pop(s->heap, &n_heap);
        if (s->n_pool == ef && key > s->pool[ef - 1]) {
            break;
        }
        const uint32_t ahead = n_heap > 0 ? key_id(s->heap[0]) : VEX_GRAPH_NONE;
        uint32_t m = graph_walk_expand(&f->walk, key_id(key), 0, ahead);
        m = s->n_pool == ef ? graph_walk_near(&f->walk, m, s->pool[ef - 1]) : m;
        for (uint32_t i = 0; i < m; i++) {
            heap_offer(f, key_make(s->distances[i], s->ids[i]), &n_heap);
        }
    }
    return VEX_OK;
}

static vex_status start_heap(search *f, uint64_t start) {
    vex_graph_scratch *s = f->walk.scratch;
    uint32_t n_heap = 0;
    VEX_TRY(graph_pool_reserve(s, 2));
    VEX_TRY(heap_reserve(s, 1));
    s->n_pool = 0;
    heap_offer(f, start, &n_heap);
    return search_heap(f, n_heap);
}

/* ---- each of those that may be found ---- */

/* Is that less than walking?  What is not checked yet tells no equal rows. */
static bool each_is_less(const search *f) {
    const uint64_t n = f->args->n_allowed;
    return f->args->allowed != NULL && f->walk.by_short && !f->walk.guarded &&
           n * n <= (uint64_t)EACH * f->args->ef * f->walk.end;
}

/* Which of equal rows is linked; VEX_GRAPH_NONE: the row is not inserted yet. */
static uint32_t representative_of(const search *f, uint32_t id) {
    const graph_node *node = node_at(f->walk.graph, f->walk.tables, id);
    const uint32_t flags = flags_of(node);
    if ((flags & NODE_DUPLICATE) == 0) {
        return (flags & NODE_LINKED) != 0 ? id : VEX_GRAPH_NONE;
    }
    const uint32_t linked = atomic_load_explicit(&node->neighbours[1], memory_order_relaxed);
    return linked < f->walk.end ? linked : VEX_GRAPH_NONE;
}

/* Of n keys those of rows that no equal one stands for yet. */
static uint32_t drop_equal(search *f, uint64_t *keys, uint32_t n) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t id = representative_of(f, key_id(keys[i]));
        keys[kept] = key_make(key_distance(keys[i]), id);
        kept += id != VEX_GRAPH_NONE && !graph_walk_mark(&f->walk, id);
    }
    return kept;
}

typedef struct row_cursor {
    uint32_t at, end; /* words of the bitmap */
    uint64_t word;    /* what is left of the one before `at` */
} row_cursor;

/* The next ids, at most m, to scratch->ids from `first` on; asks for them. */
static uint32_t ask_some(search *f, row_cursor *c, uint32_t first, uint32_t m) {
    uint32_t *ids = f->walk.scratch->ids + first, n = 0;
    while (n < m && (c->word != 0 || c->at < c->end)) {
        if (c->word == 0) {
            c->word = f->args->allowed[c->at++];
            continue;
        }
        ids[n] = (c->at - 1) * 64 + (uint32_t)__builtin_ctzll(c->word);
        n += ids[n] < f->walk.end;
        c->word &= c->word - 1;
    }
    graph_walk_ask(&f->walk, first, n);
    return n;
}

/* While some are measured the next ones are fetched. */
static vex_status search_each(search *f) {
    vex_graph_scratch *s = f->walk.scratch;
    const uint32_t half = f->walk.graph->params.m, ef = f->args->ef;
    row_cursor cursor = {.end = (uint32_t)vex_bit_words(f->args->allowed_end)};
    VEX_TRY(graph_pool_reserve(s, (size_t)ef + 1));
    s->n_pool = 0;
    uint32_t first = 0, n = ask_some(f, &cursor, first, half);
    while (n > 0) {
        const uint32_t next = ask_some(f, &cursor, half - first, half);
        const uint64_t limit = s->n_pool == ef ? s->pool[ef - 1] : UINT64_MAX;
        uint32_t near = graph_walk_near_keys(&f->walk, first, n, limit);
        near = f->chains ? drop_equal(f, s->keys, near) : near;
        f->walk.graph->take(s->pool, &s->n_pool, ef, s->keys, near);
        first = half - first;
        n = next;
    }
    return VEX_OK;
}

/* ---- results ---- */

static int by_id(const void *a, const void *b) {
    const uint32_t x = ((const vex_graph_hit *)a)->id, y = ((const vex_graph_hit *)b)->id;
    return x < y ? -1 : x > y;
}

static void sort_by_id(vex_graph_hit *hits, uint32_t n) {
    if (n > 1) {
        qsort(hits, n, sizeof *hits, by_id);
    }
}

/* Rows of one distance that were collected. */
typedef struct tie {
    uint32_t first, nodes; /* hits from here on; of how many nodes */
} tie;

/* Order them, and leave as many as there are nodes, and of *more: what is left for equal rows. */
static uint32_t end_tie(vex_graph_scratch *s, const tie *t, uint32_t n, uint32_t *more) {
    const uint32_t rows = n - t->first;
    sort_by_id(s->hits + t->first, rows);
    const uint32_t equal = rows - t->nodes, kept = equal < *more ? equal : *more;
    *more -= kept;
    return t->first + t->nodes + kept;
}

/* Nodes of the pool and their duplicates, as far as they may be found, by (distance, id): as many
 * rows as nodes, so that many equal rows do not hide others that are nearer in truth, and ef more of
 * the nearest.  Nodes of one distance are taken together, each with its first ef duplicates. */
static vex_status collect(search *f, uint32_t *n_hits) {
    vex_graph_scratch *s = f->walk.scratch;
    const uint32_t ef = f->args->ef;
    uint32_t n = 0, more = ef;
    tie t = {0, 0};
    for (uint32_t i = 0; i < s->n_pool; i++) {
        const uint32_t id = key_id(s->pool[i]);
        const float distance = key_distance(s->pool[i]);
        if (n > t.first && s->hits[n - 1].distance < distance) {
            n = end_tie(s, &t, n, &more);
            t = (tie){n, 0};
        }
        chain_cursor c = chain_begin(f, id);
        uint32_t next = is_allowed(f, id) ? id : chain_next(f, &c);
        t.nodes += next != VEX_GRAPH_NONE;
        for (uint32_t taken = 0; next != VEX_GRAPH_NONE && taken <= ef; taken++) {
            void *hits = s->hits;
            VEX_TRY(vex_grow(&hits, &s->hits_capacity, (size_t)n + 1, sizeof *s->hits));
            s->hits = hits;
            s->hits[n++] = (vex_graph_hit){distance, next};
            next = chain_next(f, &c);
        }
    }
    *n_hits = end_tie(s, &t, n, &more);
    return VEX_OK;
}

/* Nothing is found in a graph that turns out to be damaged. */
static void check_found(search *f, uint32_t *n_hits) {
    for (uint32_t i = 0; i < f->walk.scratch->n_pool; i++) {
        (void)graph_guard_linked(&f->walk, key_id(f->walk.scratch->pool[i]));
    }
    if (f->walk.damaged) {
        f->exhausted = true;
        *n_hits = 0;
    }
}

static vex_status search_by_links(search *f, uint64_t entry) {
    const vex_graph_search_args *args = f->args;
    const uint32_t start = (uint32_t)entry;
    uint64_t key = key_make(graph_walk_distance(&f->walk, start), start);
    graph_walk_descend(&f->walk, (uint32_t)(entry >> 32), 0, &key);
    graph_walk_mark(&f->walk, key_id(key));
    if (args->allowed != NULL && args->n_allowed < f->walk.end / SPARSE) {
        return start_heap(f, key);
    }
    return args->allowed == NULL && args->budget == 0 ? search_all(f, key) : search_pool(f, key);
}

vex_status vex_graph_search(vex_graph *graph, vex_graph_scratch *scratch,
                            const vex_graph_search_args *args, vex_graph_found *out) {
    search f = {.args = args};
    uint64_t entry;
    uint32_t n = 0;
    if (args->ef == 0) {
        return VEX_FAIL(VEX_ERR_INVALID, "graph: ef is 0");
    }
    VEX_TRY(graph_walk_begin_short(&f.walk, graph, scratch, &entry));
    if (entry != NO_ENTRY && (args->allowed == NULL || args->n_allowed > 0)) {
        f.chains = atomic_load_explicit(&graph->n_duplicates, memory_order_acquire) > 0;
        vex_code_query_vector(&scratch->query, args->query);
        VEX_TRY(each_is_less(&f) ? search_each(&f) : search_by_links(&f, entry));
        VEX_TRY(collect(&f, &n));
        if (f.walk.guarded) {
            check_found(&f, &n);
        }
        vex_stat_add(VEX_STAT_DISTANCES, (int64_t)f.walk.distances);
    }
    *out = (vex_graph_found){.hits = scratch->hits,
                             .n = n,
                             .distances = f.walk.distances,
                             .hops = f.walk.hops,
                             .exhausted = f.exhausted,
                             .by_short = f.walk.by_short};
    return VEX_OK;
}

vex_status vex_graph_sharpen(vex_graph *graph, vex_graph_scratch *s, vex_graph_hit *hits,
                             uint32_t n) {
    graph_walk walk;
    uint64_t entry;
    uint32_t held = 0;
    const uint32_t most = 2 * graph->params.m;
    VEX_TRY(graph_walk_begin(&walk, graph, s, &entry));
    VEX_TRY(graph_pool_reserve(s, (size_t)n + 1));
    for (uint32_t i = 0; i < n; i += most) {
        const uint32_t m = n - i < most ? n - i : most;
        for (uint32_t j = 0; j < m; j++) {
            s->ids[j] = hits[i + j].id;
        }
        graph_walk_distances(&walk, m);
        for (uint32_t j = 0; j < m; j++) {
            s->keys[j] = key_make(s->distances[j], s->ids[j]);
        }
        graph->take(s->pool, &held, n, s->keys, m);
    }
    for (uint32_t i = 0; i < n; i++) {
        hits[i] = (vex_graph_hit){key_distance(s->pool[i]), key_id(s->pool[i])};
    }
    vex_stat_add(VEX_STAT_DISTANCES, (int64_t)walk.distances);
    return VEX_OK;
}
