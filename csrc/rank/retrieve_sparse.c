/*
 * retrieve_sparse.c - the best sparse vectors (retrieve.h): rows that an index has by pruning its
 * lists, others by reading them, into one list of the best.
 */
#include "base/bits.h"
#include "rank/prune.h"
#include "rank/sparse_scan.h"
#include "rank/sparse_source.h"

#include <math.h>

#include "base/poison.h"

/* A query with more indices than that is answered by reading the rows: the lists that are gone
 * through side by side take 3 KiB each. */
#define LISTS_MAX 16384u

typedef struct sparse_search {
    const vex_snapshot *snapshot;
    const vex_matches *matches;
    vex_sparse_query query; /* with the values scaled */
    float *scaled;
    uint64_t *having;
    vex_sparse_source *sources; /* files, then memtables */
    uint32_t n_sources;
    vex_sparse_list *found; /* of one source, for every index of the query */
    vex_rank_list *lists;
} sparse_search;

static vex_status no_memory(void) {
    return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a sparse query");
}

/* ---- sources ---- */

static vex_status open_sources(sparse_search *s) {
    const vex_snapshot *snapshot = s->snapshot;
    const uint32_t n = snapshot->n_pays + snapshot->n_mems;
    const size_t n_lists = (size_t)s->query.n + 1;
    s->sources = vex_calloc((size_t)n + 1, sizeof *s->sources);
    s->found = vex_calloc(n_lists, sizeof *s->found);
    s->lists = vex_calloc(n_lists, sizeof *s->lists);
    s->scaled = vex_calloc(n_lists, sizeof *s->scaled);
    s->having = vex_calloc(n_lists, sizeof *s->having);
    if (!s->sources || !s->found || !s->lists || !s->scaled || !s->having) {
        return no_memory();
    }
    for (uint32_t i = 0; i < n; i++) {
        const bool in_memory = i >= snapshot->n_pays;
        const uint32_t number = in_memory ? i - snapshot->n_pays : i;
        VEX_TRY(vex_sparse_source_open(snapshot, in_memory, number, &s->sources[i]));
        s->n_sources++;
    }
    return VEX_OK;
}

static void close_search(sparse_search *s) {
    for (uint32_t i = 0; i < s->n_sources; i++) {
        vex_sparse_source_close(&s->sources[i]);
    }
    vex_free(s->sources);
    vex_free(s->found);
    vex_free(s->lists);
    vex_free(s->scaled);
    vex_free(s->having);
}

/* The lists of the query's indices in a source: found[i] of index i. */
static vex_status find_lists(sparse_search *s, const vex_sparse_source *source) {
    vex_sparse_key key = {0};
    if (source->lists != NULL) {
        VEX_TRY(vex_sparse_find_key(source->lists, s->query.key, s->query.key_len, &key));
    }
    for (uint32_t i = 0; i < s->query.n; i++) {
        s->found[i] = (vex_sparse_list){0};
        if (key.n > 0) {
            VEX_TRY(vex_sparse_find(source->lists, &key, s->query.indices[i], &s->found[i]));
        }
    }
    return VEX_OK;
}

/* Rows that are in no list: *rows; false when there are none. */
static bool rest_of(const vex_sparse_source *source, vex_scan_rows *rows) {
    *rows = (vex_scan_rows){
        .in_memory = source->in_memory, .number = source->number, .first = source->indexed};
    return source->indexed < source->n_rows;
}

/* ---- idf ---- */

static vex_status count_list(const vex_sparse_source *source, const vex_sparse_list *list,
                             uint64_t *count) {
    vex_block block;
    if (source->live == NULL && !source->in_memory) {
        *count += list->n;
        return VEX_OK;
    }
    for (uint32_t b = 0; b < list->n_blocks; b++) {
        VEX_TRY(vex_sparse_block(list, b, &block));
        for (uint32_t i = 0; i < block.n && block.rows[i] < source->n_rows; i++) {
            *count += source->live == NULL || vex_bit_get(source->live, block.rows[i]);
        }
    }
    return VEX_OK;
}

static vex_status scale_query(sparse_search *s) {
    vex_scan_rows rest;
    for (uint32_t k = 0; k < s->n_sources; k++) {
        const vex_sparse_source *source = &s->sources[k];
        VEX_TRY(find_lists(s, source));
        for (uint32_t i = 0; i < s->query.n; i++) {
            VEX_TRY(count_list(source, &s->found[i], &s->having[i]));
        }
        if (rest_of(source, &rest)) {
            VEX_TRY(vex_sparse_scan_count(s->snapshot, &rest, &s->query, s->having));
        }
    }
    for (uint32_t i = 0; i < s->query.n; i++) {
        s->scaled[i] = vex_sparse_idf(s->query.values[i], s->snapshot->live_rows, s->having[i]);
    }
    s->query.values = s->scaled;
    return VEX_OK;
}

/* ---- scores ---- */

static vex_status get_block(const vex_rank_list *list, uint32_t b, vex_block *out) {
    return vex_sparse_block(list->list, b, out);
}

static float get_score(const vex_rank_list *list, const vex_block *block, uint32_t i) {
    return vex_float_of_bits(block->values[i]) * list->weight;
}

static void get_scores(const vex_rank_list *list, vex_block *block, float *scores) {
    for (uint32_t i = 0; i < block->n; i++) {
        scores[i] = get_score(list, block, i);
    }
}

static float get_bound(const vex_rank_list *list, uint32_t b) {
    const vex_sparse_list *sparse = list->list;
    float least = sparse->least, greatest = sparse->greatest;
    if (b != UINT32_MAX && sparse->skips != NULL) {
        const uint8_t *skip = sparse->skips + (size_t)b * VEX_SPARSE_SKIP_BYTES;
        least = vex_float_of_bits(vex_get32(skip + 8));
        greatest = vex_float_of_bits(vex_get32(skip + 12));
    }
    return list->weight >= 0 ? greatest * list->weight : least * list->weight;
}

static uint32_t get_last_row(const vex_rank_list *list, uint32_t b) {
    return vex_sparse_last_row(list->list, b);
}

static const vex_rank_kind sparse_kind = {get_block, get_scores, get_score, get_bound,
                                          get_last_row};

/* ---- ranking ---- */

static vex_status rank_lists(sparse_search *s, const vex_sparse_source *source,
                             const uint64_t *wanted, vex_best *best) {
    uint32_t n_lists = 0;
    for (uint32_t i = 0; i < s->query.n; i++) {
        const vex_sparse_list *list = &s->found[i];
        const float weight = s->query.values[i];
        if (list->n > 0) {
            s->lists[n_lists++] = (vex_rank_list){
                .kind = &sparse_kind,
                .list = list,
                .weight = weight,
                .n = list->n,
                .n_blocks = list->n_blocks,
                .most = fmaxf(fabsf(list->least * weight), fabsf(list->greatest * weight))};
        }
    }
    const uint32_t n_rows = source->indexed < source->n_rows ? source->indexed : source->n_rows;
    vex_rank_rows rows = {.snapshot = s->snapshot,
                          .in_memory = source->in_memory,
                          .number = source->number,
                          .n_rows = n_rows,
                          .wanted = wanted ? wanted : source->live,
                          .n_wanted = wanted ? s->matches->count : n_rows}; /* at most */
    return vex_rank_source(best, &rows, s->lists, n_lists);
}

static vex_status rank_source(sparse_search *s, const vex_sparse_source *source, vex_best *best) {
    const uint64_t *wanted = NULL;
    vex_scan_rows rest;
    if (s->matches != NULL) {
        wanted = (source->in_memory ? s->matches->mems : s->matches->pays)[source->number];
        if (wanted == NULL) {
            return VEX_OK;
        }
    }
    VEX_TRY(find_lists(s, source));
    VEX_TRY(rank_lists(s, source, wanted, best));
    if (rest_of(source, &rest)) {
        rest.wanted = wanted;
        VEX_TRY(vex_sparse_scan(s->snapshot, &rest, &s->query, best->limit, &best->list));
        vex_best_update(best);
    }
    return VEX_OK;
}

static vex_status search(sparse_search *s, uint32_t limit, vex_scored_list *out) {
    vex_best best;
    vex_best_init(&best, limit);
    vex_status status;
    VEX_TRY_DONE(status, open_sources(s));
    if (s->query.idf) {
        VEX_TRY_DONE(status, scale_query(s));
    }
    for (uint32_t i = 0; i < s->n_sources; i++) {
        VEX_TRY_DONE(status, rank_source(s, &s->sources[i], &best));
    }
    vex_scored_sort(&best.list);
    *out = best.list;
    best.list = (vex_scored_list){0};
done:
    vex_scored_list_clear(&best.list);
    close_search(s);
    return status;
}

/* Files whose sections are known to be damaged. */
static uint32_t count_damaged(const vex_snapshot *snapshot) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < snapshot->n_pays; i++) {
        const vex_sparse_lists *lists = vex_sparse_lists_of(snapshot->pays[i].file);
        n += lists != NULL && vex_sparse_lists_is_damaged(lists);
    }
    return n;
}

vex_status vex_retrieve_sparse(const vex_snapshot *snapshot, const vex_matches *matches,
                               const vex_sparse_query *query, uint32_t limit,
                               vex_scored_list *out) {
    if (query->n > LISTS_MAX) {
        return vex_retrieve_sparse_by_scan(snapshot, matches, query, limit, out);
    }
    for (;;) {
        const uint32_t n_damaged = count_damaged(snapshot);
        sparse_search s = {.snapshot = snapshot, .matches = matches, .query = *query};
        const vex_status status = search(&s, limit, out);
        if (status != VEX_ERR_CORRUPT || count_damaged(snapshot) == n_damaged) {
            return status;
        }
        /* a section was found damaged on the way: now it is done without */
    }
}
