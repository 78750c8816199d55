/*
 * ranked.c - vex_search_ranked: select, search for every leaf of the rank expression, evaluate it,
 * group, take a part, and build the result.
 */
#include "db/nearest.h"
#include "db/result.h"
#include "db/select.h"
#include "rank/group.h"
#include "rank/program.h"

#include "base/poison.h"

typedef struct ranked_search {
    vex_selection selection;
    bool has_program, has_group;
    vex_rank_program program;
    vex_group group;
    uint64_t offset;
    int64_t limit; /* negative: all                                                               */
    uint32_t include;
} ranked_search;

typedef struct ranked_run {
    vex_collection *collection;
    vex_snapshot *snapshot;
    ranked_search *searches;
    uint32_t n;
    bool nearest_used; /* some leaf searches for vectors                                          */
    vex_nearest nearest;
} ranked_run;

/* ---- the request ---- */

static vex_status malformed(const char *what) {
    return VEX_FAIL(VEX_ERR_INVALID, "a search is malformed: %s", what);
}

/* The next value whole, or NULL when it is nil. */
static const uint8_t *read_optional(vex_mp_reader *reader, size_t *len) {
    if (vex_mp_peek(reader) == VEX_MP_NIL) {
        (void)vex_mp_next(reader);
        *len = 0;
        return NULL;
    }
    return vex_mp_raw(reader, len);
}

static vex_status parse_search(vex_mp_reader *reader, ranked_search *search) {
    const vex_mp_value list = vex_mp_next(reader);
    if (list.kind != VEX_MP_ARRAY || list.count != 7) {
        return malformed("it must be an array of seven items");
    }
    search->selection.ids = read_optional(reader, &search->selection.ids_len);
    search->selection.filter = read_optional(reader, &search->selection.filter_len);
    search->has_program = vex_mp_peek(reader) != VEX_MP_NIL;
    if (search->has_program) {
        VEX_TRY(vex_rank_program_parse(&search->program, reader));
    } else {
        (void)vex_mp_next(reader);
    }
    search->has_group = vex_mp_peek(reader) != VEX_MP_NIL;
    if (search->has_group) {
        VEX_TRY(vex_group_parse(&search->group, reader));
    } else {
        (void)vex_mp_next(reader);
    }
    const vex_mp_value offset = vex_mp_next(reader), limit = vex_mp_next(reader);
    const vex_mp_value include = vex_mp_next(reader);
    if (offset.kind != VEX_MP_INT || offset.integer < 0 || limit.kind != VEX_MP_INT ||
        include.kind != VEX_MP_INT || include.integer < 0 || include.integer > UINT32_MAX) {
        return malformed("offset, limit and include must be integers");
    }
    search->offset = (uint64_t)offset.integer;
    search->limit = limit.integer;
    search->include = (uint32_t)include.integer;
    return search->has_group && !search->has_program ? malformed("a group needs a rank expression")
                                                     : VEX_OK;
}

static void free_searches(ranked_run *run) {
    for (uint32_t i = 0; run->searches != NULL && i < run->n; i++) {
        vex_rank_program_clear(&run->searches[i].program);
        vex_group_clear(&run->searches[i].group);
    }
    vex_free(run->searches);
}

static vex_status parse_searches(ranked_run *run, const uint8_t *bytes, size_t len) {
    vex_mp_reader reader = vex_mp_reader_make(bytes, len);
    const vex_mp_value list = vex_mp_next(&reader);
    if (list.kind != VEX_MP_ARRAY || list.count != run->n) {
        return malformed("searches must be an array of as many as there are results");
    }
    run->searches = vex_calloc((size_t)run->n + 1, sizeof *run->searches);
    if (run->searches == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for %u searches", (unsigned)run->n);
    }
    for (uint32_t i = 0; i < run->n; i++) {
        ranked_search *search = &run->searches[i];
        VEX_TRY(parse_search(&reader, search));
        for (size_t leaf = 0; leaf < search->program.n_leaves; leaf++) {
            run->nearest_used |= search->program.leaves[leaf].op == VEX_R_NEAREST;
        }
    }
    return vex_mp_at_end(&reader) ? VEX_OK : malformed("there is something behind it");
}

/* ---- leaves ---- */

/* What a search selects; NULL in the place of either: everything. */
typedef struct selected {
    vex_matches matches;
    vex_vector_matches vectors;
    bool all, vectors_known;
} selected;

static vex_status find_vectors(const ranked_run *run, selected *of) {
    if (of->all || of->vectors_known) {
        return VEX_OK;
    }
    VEX_TRY(vex_vector_matches_find(run->snapshot, &of->matches, &of->vectors));
    of->vectors_known = true;
    return VEX_OK;
}

static vex_status find_nearest(const ranked_run *run, const vex_rank_leaf *leaf, selected *of,
                               vex_scored_list *out) {
    vex_nearest nearest = run->nearest;
    VEX_TRY(find_vectors(run, of));
    nearest.queries = leaf->vector;
    nearest.n = 1;
    nearest.dimension = leaf->dimension;
    nearest.k = leaf->limit;
    nearest.matches = of->all ? NULL : &of->vectors;
    vex_status status = vex_nearest_find(&nearest);
    const uint32_t n = status == VEX_OK ? nearest.top[0].n : 0;
    void *items = out->items;
    if (status == VEX_OK) {
        status = vex_grow(&items, &out->capacity, n, sizeof *out->items);
        out->items = items;
    }
    for (uint32_t i = 0; i < n && status == VEX_OK; i++) {
        const vex_hit *hit = &nearest.top[0].hits[i];
        out->items[i].score = hit->distance;
        status = vex_nearest_payload(&nearest, hit, &out->items[i].row);
    }
    out->n = status == VEX_OK ? n : 0;
    vex_nearest_clear(&nearest);
    return status;
}

/* What matches best has the lowest measure, as for distances. */
static void turn_scores(vex_scored_list *list) {
    for (size_t i = 0; i < list->n; i++) {
        list->items[i].score = 1 - list->items[i].score;
    }
}

static vex_status find_leaf(const ranked_run *run, const vex_rank_leaf *leaf, selected *of,
                            vex_scored_list *out) {
    if (leaf->op == VEX_R_NEAREST) {
        return find_nearest(run, leaf, of, out);
    }
    const vex_matches *matches = of->all ? NULL : &of->matches;
    if (leaf->op == VEX_R_TEXT) {
        VEX_TRY(vex_retrieve_text(run->snapshot, matches, &leaf->text, leaf->limit, out));
    } else {
        VEX_TRY(vex_retrieve_sparse(run->snapshot, matches, &leaf->sparse, leaf->limit, out));
    }
    turn_scores(out);
    return VEX_OK;
}

/* ---- a search ---- */

static vex_status rank_selected(const ranked_run *run, const ranked_search *search, selected *of,
                                vex_scored_list *ranked) {
    const vex_rank_program *program = &search->program;
    vex_scored_list *found = vex_calloc(program->n_leaves + 1, sizeof *found);
    vex_status status =
        found ? VEX_OK : VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a rank expression");
    for (size_t i = 0; i < program->n_leaves && status == VEX_OK; i++) {
        status = find_leaf(run, &program->leaves[i], of, &found[i]);
    }
    if (status == VEX_OK) {
        status = vex_rank_evaluate(program, found, ranked);
    }
    for (size_t i = 0; found != NULL && i < program->n_leaves; i++) {
        vex_scored_list_clear(&found[i]);
    }
    vex_free(found);
    return status;
}

static vex_status rank_records(const ranked_run *run, const ranked_search *search,
                               vex_scored_list *ranked) {
    selected of = {.all = search->selection.ids == NULL && search->selection.filter == NULL};
    vex_status status =
        of.all ? VEX_OK : vex_matches_find(run->snapshot, &search->selection, &of.matches);
    if (status == VEX_OK) {
        status = rank_selected(run, search, &of, ranked);
    }
    if (status == VEX_OK && search->has_group) {
        status = vex_group_apply(&search->group, run->snapshot, ranked);
    }
    vex_vector_matches_clear(&of.vectors);
    vex_matches_clear(&of.matches);
    return status;
}

/* Without a rank expression: the selected records as they were inserted. */
static vex_status list_records(const ranked_run *run, const ranked_search *search,
                               vex_scored_list *listed) {
    vex_refs refs = {0};
    VEX_TRY(vex_select(run->snapshot, &search->selection, search->offset, search->limit, &refs));
    void *items = listed->items;
    vex_status status = vex_grow(&items, &listed->capacity, refs.n, sizeof *listed->items);
    listed->items = items;
    for (size_t i = 0; i < refs.n && status == VEX_OK; i++) {
        listed->items[listed->n++] = (vex_scored){.row = refs.rows[i], .score = (float)i};
    }
    vex_refs_clear(&refs);
    return status;
}

/* Rows [first, end) of the list. */
static vex_status build_rows(const ranked_run *run, const vex_scored_list *list, size_t first,
                             size_t end, uint32_t include, vex_result **out) {
    vex_result_builder builder = {0};
    vex_status status =
        vex_result_builder_init(&builder, run->snapshot, include, end - first, true);
    for (size_t i = first; i < end && status == VEX_OK; i++) {
        const vex_scored *item = &list->items[i];
        status = vex_result_builder_add(&builder, &item->row, NULL, item->score);
    }
    if (status == VEX_OK) {
        status = vex_result_builder_finish(&builder, &builder.n_rows, 1, out);
    }
    vex_result_builder_clear(&builder);
    return status;
}

static vex_status run_search(const ranked_run *run, const ranked_search *search, vex_result **out) {
    vex_scored_list list = {0};
    uint64_t offset = 0;
    vex_status status;
    if (search->has_program) {
        status = rank_records(run, search, &list);
        offset = search->offset;
    } else {
        status = list_records(run, search, &list);
    }
    if (status == VEX_OK) {
        const size_t first = offset < list.n ? (size_t)offset : list.n;
        const uint64_t left = list.n - first;
        const bool cut = search->limit >= 0 && (uint64_t)search->limit < left;
        const size_t end = cut ? first + (size_t)search->limit : list.n;
        status = build_rows(run, &list, first, end, search->include, out);
    }
    vex_scored_list_clear(&list);
    return status;
}

static vex_status run_searches(ranked_run *run, vex_result **results) {
    vex_status status = VEX_OK;
    uint32_t done = 0;
    if (run->nearest_used) {
        vex_nearest_begin(&run->nearest, run->collection, run->snapshot);
    }
    for (; done < run->n && status == VEX_OK; done++) {
        results[done] = NULL;
        status = run_search(run, &run->searches[done], &results[done]);
    }
    for (uint32_t i = 0; i < done && status != VEX_OK; i++) {
        vex_result_free(results[i]);
        results[i] = NULL;
    }
    if (run->nearest_used) {
        vex_nearest_end(&run->nearest);
    }
    return status;
}

vex_status vex_search_ranked(vex_collection *collection, const uint8_t *searches, size_t len,
                             uint32_t n, vex_result **results) {
    ranked_run run = {.collection = collection, .n = n};
    vex_status status = n <= len || n == 0 ? parse_searches(&run, searches, len)
                                           : malformed("fewer searches than results");
    if (status == VEX_OK) {
        status = vex_read_begin(collection, &run.snapshot);
    }
    if (status == VEX_OK) {
        status = vex_read_end(collection, run.snapshot, run_searches(&run, results));
    }
    free_searches(&run);
    return status;
}
