/*
 * search.c - see search.h.
 */
#include "db/search.h"

#include "base/bits.h"
#include "base/bytes.h"
#include "base/pool.h"

#include <math.h>

#include "base/poison.h"

#define WALK_DISTANCES 1500.0 /* of a walk without a filter: grows very slowly with the rows */
#define CODED_ROWS_PER_DISTANCE 4.0
#define FEW_ROWS 5000u /* are read sooner than walked */
/* Many queries side by side read so many rows in the time that one of them walks with one candidate
 * (measured: 1.2 ns a row of 128 dimensions, 3 of 384, against 13 distances of 20 to 50 ns). */
#define BATCHED_ROWS_PER_EF 200u
#define BATCHED_QUERIES 16u /* from here on reading is shared well */
#define EF_SHARE 8u         /* a walk that wants one row in so many reads about all */
/* A walk by codes of 8 bits keeps one candidate in so many more: their order is a little less sharp than
 * that of vectors, and recall at a given ef_search must not be below that of Chroma's floats. */
#define EF_MORE_SHARE 8u
/* So many hits more than the least are looked up before code rows tell which are worth it. */
#define SHORT_FURTHER 16u

/* One run by the graph: what all its queries share. */
typedef struct walk {
    vex_search *search;
    const vex_index_view *view;
    uint32_t *numbers; /* source of the view -> vector file of the snapshot, UINT32_MAX: gone   */
    bool *in_graph;    /* vector file of the snapshot -> is the graph to find its rows?         */
    uint64_t *allowed; /* bitmap over nodes; NULL: all below view->end                          */
    uint64_t rows;     /* that may be found                                                     */
    uint32_t ef;       /* candidates that are kept                                              */
    vex_graph_scratch *scratch;
    vex_graph_hit *pool; /* 2 ef hits, then k                                                  */
    uint8_t *fetched;    /* room for one row; NULL: rows are read where they are mapped         */
    const float *query;  /* the one being searched, and its |q|^2                                 */
    float norm2;
} walk;

/* ---- the plan ---- */

static bool finite_queries(const vex_scan *scan) {
    for (size_t i = 0; i < (size_t)scan->n * scan->dimension; i++) {
        if (!isfinite(scan->queries[i])) {
            return false;
        }
    }
    return true;
}

static void match_files(walk *w) {
    const vex_snapshot *snapshot = w->search->scan.snapshot;
    for (uint32_t i = 0; i < w->view->n; i++) {
        w->numbers[i] = UINT32_MAX;
        for (uint32_t k = 0; k < snapshot->n_vecs; k++) {
            if (snapshot->vecs[k].entry.file_no == w->view->sources[i].file->container.file_no) {
                w->numbers[i] = k;
                w->in_graph[k] = true;
            }
        }
    }
}

/* Rows of a source that may be found, as words from its first node on (a multiple of 64). */
static void allow_rows(walk *w, uint32_t source, uint64_t *words) {
    const vex_scan *scan = &w->search->scan;
    uint32_t number = w->numbers[source];
    if (number == UINT32_MAX) {
        return;
    }
    const vex_vec_source *file = &scan->snapshot->vecs[number];
    size_t n_words = vex_bit_words(file->file->rows);
    if (scan->matches == NULL) {
        vex_tombs_live_words(file->tombs, words);
    } else if (scan->matches->vecs[number] != NULL) {
        memcpy(words, scan->matches->vecs[number], n_words * sizeof *words);
    }
    w->rows += vex_bits_count(words, n_words);
}

/* All rows of the view, without a bitmap? */
static bool all_allowed(const walk *w) {
    const vex_scan *scan = &w->search->scan;
    bool all = scan->matches == NULL;
    for (uint32_t i = 0; i < w->view->n && all; i++) {
        all = w->numbers[i] != UINT32_MAX && scan->snapshot->vecs[w->numbers[i]].tombs->dead == 0;
    }
    return all;
}

static vex_status find_allowed(walk *w) {
    w->rows = 0;
    if (all_allowed(w)) {
        for (uint32_t i = 0; i < w->view->n; i++) {
            w->rows += w->view->sources[i].file->rows;
        }
        return VEX_OK;
    }
    w->allowed = vex_calloc(vex_bit_words(w->view->end) + 1, sizeof *w->allowed);
    if (w->allowed == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a row bitmap");
    }
    for (uint32_t i = 0; i < w->view->n; i++) {
        allow_rows(w, i, w->allowed + w->view->sources[i].first / 64);
    }
    return VEX_OK;
}

/* Rows that a filter leaves are read sooner than walked for.  By code rows of bytes some are read in
 * the time of a distance, as they are fetched ahead; where walks have short rows, the graph knows
 * itself when to look at each, and does so faster. */
static double few_rows(const walk *w) {
    if (vex_graph_has_shorts(w->view->owner->graph)) {
        return FEW_ROWS;
    }
    const bool coded = w->search->plan->quantization == VEX_QUANTIZE_SQ8;
    const double met = sqrt(WALK_DISTANCES * (coded ? CODED_ROWS_PER_DISTANCE : 1) * w->view->end);
    return met > FEW_ROWS ? met : FEW_ROWS;
}

/* Can many queries be answered by reading code rows of bytes once? */
static bool reading_is_shared(const walk *w) {
    const vex_search *search = w->search;
    return search->scan.n >= BATCHED_QUERIES && search->plan->quantization == VEX_QUANTIZE_SQ8 &&
           search->k <= w->rows / EF_SHARE;
}

/* VEX_PLAN_WALK, or why not. */
static uint32_t choose_plan(const walk *w) {
    const vex_search *search = w->search;
    double few = 0;
    if (reading_is_shared(w)) {
        few = (double)BATCHED_ROWS_PER_EF * w->ef;
    }
    if (search->scan.matches != NULL) {
        const double filtered = few_rows(w);
        few = few > filtered ? few : filtered;
    }
    if ((search->flags & VEX_QUERY_GRAPH) != 0 && w->rows > 0) {
        return VEX_PLAN_WALK;
    }
    if (w->rows == 0 && search->scan.matches == NULL) {
        return VEX_PLAN_NO_GRAPH; /* it is of files that were merged meanwhile */
    }
    if ((double)w->rows <= few) {
        return VEX_PLAN_FEW_ROWS;
    }
    return search->ef < w->rows / EF_SHARE ? VEX_PLAN_WALK : VEX_PLAN_LARGE_K;
}

/* The same before anything is known of the rows. */
static uint32_t choose_early(const vex_search *search, uint64_t wanted) {
    if ((search->flags & VEX_QUERY_EXACT) != 0) {
        return VEX_PLAN_ASKED;
    }
    if (search->view == NULL || search->view->n == 0) {
        return VEX_PLAN_NO_GRAPH;
    }
    if (!finite_queries(&search->scan)) {
        return VEX_PLAN_NOT_FINITE;
    }
    return wanted > search->view->end ? VEX_PLAN_LARGE_K : VEX_PLAN_WALK;
}

/* ---- one query ---- */

static uint32_t source_of(const vex_index_view *view, uint32_t node) {
    uint32_t low = 0, high = view->n;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (view->sources[middle].first <= node) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

static vex_status exact_distances(void *context, const uint32_t *nodes, uint32_t n, float *out) {
    const walk *w = context;
    const vex_scan *scan = &w->search->scan;
    uint32_t space = scan->snapshot->space;
    for (uint32_t i = 0; i < n; i++) {
        const vex_index_source *source = &w->view->sources[source_of(w->view, nodes[i])];
        const vex_vecfile *file = source->file;
        const uint32_t number = nodes[i] - source->first;
        const uint8_t *row = file->vectors + (size_t)number * file->stride;
        __builtin_prefetch(&file->norms[number], 0, 3);
        __builtin_prefetch(&file->seqs[number], 0, 3); /* wanted where it is among the best */
        for (uint32_t at = 0; at < file->stride; at += 64) {
            __builtin_prefetch(row + at, 0, 2);
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t number = source_of(w->view, nodes[i]);
        uint32_t row = nodes[i] - w->view->sources[number].first;
        vex_vecfile *file = scan->snapshot->vecs[w->numbers[number]].file;
        const vex_kernels *kernels = scan->kernels;
        const vex_row_kernel kernel =
            (space == VEX_SPACE_L2 ? kernels->l2 : kernels->dot)[file->element];
        const uint8_t *vector = w->fetched;
        if (vector != NULL) {
            VEX_TRY(vex_vecfile_fetch(file, row, w->fetched));
        } else {
            VEX_TRY(vex_vecfile_check_rows(file, row, 1));
            vector = file->vectors + (size_t)row * file->stride;
        }
        kernel(vector, file->stride, 1, w->query, scan->dimension, &out[i]);
        if (space != VEX_SPACE_L2) {
            out[i] = vex_dot_to_distance(space, out[i], file->norms[row], w->norm2);
        }
    }
    vex_stat_add(VEX_STAT_DISTANCES, n);
    return VEX_OK;
}

/* Rows of files that are still being inserted are found exactly: leave them out here. */
static uint32_t keep_covered(const walk *w, const vex_graph_found *found) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < found->n; i++) {
        if (found->hits[i].id < w->view->end) {
            w->pool[kept++] = found->hits[i];
        }
    }
    return kept;
}

/* *enough false: the graph did not find what there is. */
static vex_status walk_query(walk *w, vex_topk *top, bool *enough) {
    vex_search *search = w->search;
    const vex_graph_search_args args = {.query = w->query,
                                        .ef = w->ef,
                                        .allowed = w->allowed,
                                        .allowed_end = w->view->end,
                                        .n_allowed = (uint32_t)w->rows,
                                        .budget = search->scan.matches != NULL ? w->rows : 0};
    vex_graph_found found;
    vex_rerank_stats reranked;
    vex_graph_hit *best = w->pool + 2 * (size_t)w->ef;
    uint32_t n = 0;
    VEX_TRY(vex_graph_search(w->view->owner->graph, w->scratch, &args, &found));
    uint32_t pooled = keep_covered(w, &found);
    VEX_TRY(vex_rerank(w->pool, pooled, search->k, found.by_short ? SHORT_FURTHER : UINT32_MAX,
                       exact_distances, w, best, &n, &reranked));
    search->plan->walk_distances += found.distances;
    search->plan->walk_hops += found.hops;
    search->plan->exact_distances += reranked.exact;
    if (!reranked.settled) {
        VEX_TRY(vex_graph_sharpen(w->view->owner->graph, w->scratch, w->pool, pooled));
        VEX_TRY(vex_rerank(w->pool, pooled, search->k, UINT32_MAX, exact_distances, w, best, &n,
                           &reranked));
        search->plan->walk_distances += pooled;
        search->plan->exact_distances += reranked.exact;
    }
    *enough = !found.exhausted && (found.n >= search->k || found.n >= w->rows);
    for (uint32_t i = 0; i < n && *enough; i++) {
        uint32_t source = source_of(w->view, best[i].id);
        uint32_t row = best[i].id - w->view->sources[source].first;
        const vex_hit hit = {.distance = best[i].distance,
                             .source = w->numbers[source],
                             .seq = w->view->sources[source].file->seqs[row],
                             .row = row};
        VEX_TRY(vex_topk_push(top, hit));
    }
    return VEX_OK;
}

/* ---- all queries ---- */

#define PART_QUERIES 16u    /* of walks, at most: a part that a thread takes */
#define PART_SHARE 4u       /* parts per thread, so that all end together */
#define ALONE_WORK 2000000u /* elements to read: less is not worth waking anybody */

/* Queries, to be searched for by some threads. */
typedef struct query_parts {
    const walk *whole;  /* scratch and pool are each thread's own; without `view`: exactly */
    uint32_t size;      /* of a part */
    pthread_mutex_t mu; /* held while a thread adds what it counted */
} query_parts;

/* A part of the queries, exactly; `skip`: files left out, may be NULL. */
static vex_status scan_queries(const vex_search *search, uint32_t first, uint32_t n,
                               const bool *skip) {
    vex_scan part = search->scan;
    part.queries += (size_t)first * part.dimension;
    part.norm2 += first;
    part.top += first;
    part.n = n;
    part.skip = skip;
    return vex_scan_run(&part);
}

/* Those whose walk found enough share one reading of what the graph does not have. */
static vex_status walk_queries(walk *w, uint32_t first, uint32_t n) {
    const vex_scan *scan = &w->search->scan;
    vex_query_plan *plan = w->search->plan;
    uint32_t waiting = 0; /* of the queries before q */
    for (uint32_t q = first; q < first + n; q++) {
        bool enough = false;
        w->query = scan->queries + (size_t)q * scan->dimension;
        w->norm2 = scan->norm2[q];
        VEX_TRY(walk_query(w, &scan->top[q], &enough));
        plan->read_again += !enough;
        plan->read_rows += enough ? plan->rows - w->rows : plan->rows;
        waiting += enough;
        if (!enough) {
            VEX_TRY(scan_queries(w->search, q - waiting, waiting, w->in_graph));
            VEX_TRY(scan_queries(w->search, q, 1, NULL));
            waiting = 0;
        }
    }
    return scan_queries(w->search, first + n - waiting, waiting, w->in_graph);
}

static vex_status begin_part(walk *w) {
    w->pool = vex_calloc(2 * (size_t)w->ef + w->search->k + 1, sizeof *w->pool);
    if (w->search->fetch) {
        w->fetched = vex_malloc(vex_align_up(sizeof(float) * w->search->scan.dimension, 64));
    }
    if (w->pool == NULL || (w->search->fetch && w->fetched == NULL)) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a search");
    }
    return vex_graph_scratch_acquire(w->view->owner->graph, &w->scratch);
}

static void add_counts(query_parts *parts, const vex_query_plan *counted) {
    vex_query_plan *plan = parts->whole->search->plan;
    pthread_mutex_lock(&parts->mu);
    plan->read_again += counted->read_again;
    plan->walk_distances += counted->walk_distances;
    plan->walk_hops += counted->walk_hops;
    plan->exact_distances += counted->exact_distances;
    plan->read_rows += counted->read_rows;
    pthread_mutex_unlock(&parts->mu);
}

/* What each thread does. */
static vex_status search_parts(void *context, vex_pool_job *job) {
    query_parts *parts = context;
    walk own = *parts->whole;
    vex_search search = *own.search;
    vex_query_plan counted = {.rows = search.plan->rows};
    vex_status status = VEX_OK;
    const uint32_t rooms = parts->size < VEX_NEAR_BATCH ? parts->size : VEX_NEAR_BATCH;
    search.plan = &counted;
    search.scan.room = vex_calloc(rooms, sizeof *search.scan.room);
    own.search = &search;
    if (search.scan.room == NULL) {
        status = VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a search");
    } else if (own.view != NULL) {
        status = begin_part(&own);
    }
    for (uint32_t part; status == VEX_OK && vex_pool_next(job, &part);) {
        const uint32_t first = part * parts->size, left = search.scan.n - first;
        const uint32_t n = left < parts->size ? left : parts->size;
        status =
            own.view != NULL ? walk_queries(&own, first, n) : scan_queries(&search, first, n, NULL);
    }
    if (own.view != NULL) {
        vex_graph_scratch_release(own.view->owner->graph, own.scratch);
        vex_free(own.pool);
        vex_free(own.fetched);
    }
    for (uint32_t q = 0; search.scan.room != NULL && q < rooms; q++) {
        vex_near_clear(&search.scan.room[q]);
    }
    vex_free(search.scan.room);
    add_counts(parts, &counted);
    return status;
}

/* Queries that are read for side by side share the reading; walks share nothing. */
static uint32_t part_size(const vex_search *search, bool walks) {
    const uint32_t n = search->scan.n, threads = search->threads;
    if (walks) {
        const uint32_t share = n / (threads * PART_SHARE);
        return share < 1 ? 1 : share < PART_QUERIES ? share : PART_QUERIES;
    }
    const uint32_t share = (n / threads + VEX_NEAR_LANES) / VEX_NEAR_LANES * VEX_NEAR_LANES;
    return share < VEX_NEAR_BATCH ? share : VEX_NEAR_BATCH;
}

static vex_status search_all(const walk *whole, bool walks) {
    const vex_search *search = whole->search;
    walk all = *whole;
    query_parts parts = {.whole = &all, .mu = PTHREAD_MUTEX_INITIALIZER};
    uint32_t threads = search->threads;
    const uint32_t n = search->scan.n;
    all.view = walks ? whole->view : NULL;
    parts.size = part_size(search, walks);
    if (!walks && (uint64_t)n * search->plan->rows * search->scan.dimension < ALONE_WORK) {
        threads = 1;
    }
    return vex_pool_run((n + parts.size - 1) / parts.size, threads, search_parts, &parts);
}

static vex_status begin_walk(walk *w) {
    uint32_t n_vecs = w->search->scan.snapshot->n_vecs;
    w->numbers = vex_calloc((size_t)w->view->n + 1, sizeof *w->numbers);
    w->in_graph = vex_calloc((size_t)n_vecs + 1, sizeof *w->in_graph);
    if (w->numbers == NULL || w->in_graph == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a search");
    }
    match_files(w);
    return find_allowed(w);
}

static void end_walk(walk *w) {
    vex_free(w->numbers);
    vex_free(w->in_graph);
    vex_free(w->allowed);
}

static vex_status read_all(const walk *w) {
    w->search->plan->read_rows += w->search->plan->rows * w->search->scan.n;
    return search_all(w, false);
}

static vex_status run_walk(walk *w) {
    vex_query_plan *plan = w->search->plan;
    VEX_TRY(begin_walk(w));
    plan->graph_rows = w->rows;
    plan->why = choose_plan(w);
    if (plan->why != VEX_PLAN_WALK) {
        return read_all(w);
    }
    plan->ef = w->search->ef;
    return search_all(w, true);
}

vex_status vex_search_run(vex_search *search) {
    walk w = {.search = search, .view = search->view};
    uint64_t wanted = (uint64_t)search->k * 2;
    search->plan->why = choose_early(search, wanted);
    if (search->plan->why != VEX_PLAN_WALK) {
        return read_all(&w);
    }
    search->plan->quantization = vex_graph_get_params(w.view->owner->graph)->codes.kind;
    search->ef = search->ef > wanted ? search->ef : (uint32_t)wanted;
    search->ef = search->ef < w.view->end ? search->ef : w.view->end;
    bool sharp = search->plan->quantization != VEX_QUANTIZE_SQ8;
    w.ef = search->ef + (sharp ? 0 : search->ef / EF_MORE_SHARE);
    vex_status status = run_walk(&w);
    end_walk(&w);
    return status;
}
