/*
 * prune.c - see prune.h.
 */
#include "rank/prune.h"

#include "base/bits.h"

#include <math.h>

#include "base/poison.h"

#define WINDOW 4096u
#define NO_BLOCK UINT32_MAX
/* A window with more blocks of a list than this has about the maximum of the whole list. */
#define BLOCKS_TO_BOUND 4u
#define LOOK_UP_COSTS 8 /* a row looked up in a list: so many postings gone through */
/* Rows are scored one by one when there are so many postings to each. */
#define POSTINGS_PER_ROW 16u

typedef struct walk {
    vex_best *best;
    const vex_rank_rows *rows;
    vex_rank_list *lists;
    uint32_t n_lists, n_spared; /* the first of `order` are not gone through */
    uint32_t *order;            /* lists by their bound in the window, the smallest first */
    float *before;              /* bounds of those before each in that order, summed up */
    float slack;                /* what sums in another order may differ by */
    vex_rank_block *blocks;
    float sums[WINDOW];
    uint64_t touched[WINDOW / 64];
} walk;

/* ---- the best ---- */

void vex_best_update(vex_best *best) {
    if (best->limit == 0) {
        best->worst = INFINITY;
    } else if (best->list.n == best->limit) {
        best->worst = best->list.items[0].score;
        best->worst_seq = best->list.items[0].row.seq;
    }
}

void vex_best_init(vex_best *best, uint32_t limit) {
    *best = (vex_best){.limit = limit, .worst = -INFINITY, .worst_seq = UINT64_MAX};
    vex_best_update(best);
}

/* Every score is good enough beside one that is no number. */
static bool would_take(const vex_best *best, float score, uint64_t seq) {
    return !(score < best->worst) && (score != best->worst || seq < best->worst_seq);
}

/* ---- rows ---- */

static vex_row_ref ref_of(const vex_rank_rows *rows, uint32_t row) {
    vex_row_ref ref = {
        .found = true, .in_memory = rows->in_memory, .source = rows->number, .row = row};
    ref.seq = rows->in_memory
                  ? vex_memtable_payload(rows->snapshot->mems[rows->number].table, row)->payload.seq
                  : rows->snapshot->pays[rows->number].file->seqs[row];
    return ref;
}

static vex_status take(walk *w, float score, uint32_t row) {
    if (score < w->best->worst) {
        return VEX_OK;
    }
    const vex_scored item = {.row = ref_of(w->rows, row), .score = score};
    VEX_TRY(vex_scored_offer(&w->best->list, w->best->limit, item));
    vex_best_update(w->best);
    return VEX_OK;
}

static bool is_wanted(const vex_rank_rows *rows, uint32_t row) {
    return rows->wanted == NULL || vex_bit_get(rows->wanted, row);
}

/* ---- looking a row up ---- */

/* The first place from `at` on with a row that is not below `row`. */
static uint32_t find_row(const vex_block *block, uint32_t at, uint32_t row) {
    uint32_t low = at, high = block->n;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (block->rows[middle] < row) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* The first block from `b` on that does not end before `row`; n_blocks: none. */
static uint32_t find_block(const vex_rank_list *list, uint32_t b, uint32_t row) {
    uint32_t step = 1, low = b;
    if (b >= list->n_blocks || list->kind->last_row(list, b) >= row) {
        return b;
    }
    while (list->n_blocks - low > step && list->kind->last_row(list, low + step) < row) {
        low += step;
        step *= 2;
    }
    uint32_t high = list->n_blocks - low > step ? low + step : list->n_blocks - 1;
    while (high - low > 1) { /* low ends before the row, high does not */
        const uint32_t middle = low + (high - low) / 2;
        if (list->kind->last_row(list, middle) < row) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return high;
}

/* What the list adds to a row; rows ascend from call to call. */
static vex_status look_up(vex_rank_list *list, uint32_t row, bool *found, float *score) {
    vex_rank_block *walked = list->walked, *probed = list->probed;
    *found = false;
    if (walked->number != NO_BLOCK && row >= walked->block.rows[0] &&
        row <= walked->block.rows[walked->block.n - 1]) {
        const uint32_t i = find_row(&walked->block, 0, row);
        *found = walked->block.rows[i] == row;
        *score = walked->scores[i];
        return VEX_OK;
    }
    list->probe_block = find_block(list, list->probe_block, row);
    if (list->probe_block >= list->n_blocks) {
        return VEX_OK;
    }
    if (probed->number != list->probe_block) {
        probed->number = NO_BLOCK;
        VEX_TRY(list->kind->block(list, list->probe_block, &probed->block));
        probed->number = list->probe_block;
        probed->at = 0;
    }
    const uint32_t i = find_row(&probed->block, probed->at, row);
    probed->at = i;
    if (i < probed->block.n && probed->block.rows[i] == row) {
        *found = true;
        *score = list->kind->score(list, &probed->block, i);
    }
    return VEX_OK;
}

/* Score a row list by list, in their order. */
static vex_status score_row(walk *w, uint32_t row) {
    float sum = 0;
    bool any = false;
    for (uint32_t i = 0; i < w->n_lists; i++) {
        bool found;
        float score;
        VEX_TRY(look_up(&w->lists[i], row, &found, &score));
        if (found) {
            sum += score;
            any = true;
        }
    }
    return any ? take(w, sum, row) : VEX_OK;
}

static vex_status score_wanted_rows(walk *w) {
    for (size_t at = 0; at < vex_bit_words(w->rows->n_rows); at++) {
        for (uint64_t bits = w->rows->wanted[at]; bits != 0; bits &= bits - 1) {
            const uint32_t row = (uint32_t)(at * 64) + (uint32_t)__builtin_ctzll(bits);
            VEX_TRY(score_row(w, row));
        }
    }
    return VEX_OK;
}

/* ---- windows ---- */

/* A row below which the list has none from `from` on. */
static uint32_t next_row(vex_rank_list *list, uint32_t from) {
    list->next_block = find_block(list, list->next_block, from);
    if (list->next_block >= list->n_blocks) {
        return UINT32_MAX;
    }
    const uint32_t begin =
        list->next_block > 0 ? list->kind->last_row(list, list->next_block - 1) + 1 : 0;
    const vex_rank_block *walked = list->walked;
    if (walked->number == list->next_block) {
        const bool is_through = walked->at == walked->block.n;
        const uint32_t row = is_through ? UINT32_MAX : walked->block.rows[walked->at];
        return is_through && list->next_block + 1 < list->n_blocks ? from : row > from ? row : from;
    }
    return begin > from ? begin : from;
}

static float bound_of_block(vex_rank_list *list, uint32_t b) {
    if (list->bound_block != b) {
        list->block_bound = list->kind->bound(list, b);
        list->bound_block = b;
    }
    return list->block_bound;
}

/* The most that a list adds to a row of [from, end), whose first block is known. */
static float bound_of_window(vex_rank_list *list, uint32_t from, uint32_t end) {
    if (next_row(list, from) >= end) {
        return 0;
    }
    float most = 0;
    uint32_t b = list->next_block, n = 0;
    do {
        if (++n > BLOCKS_TO_BOUND) {
            return list->bound;
        }
        const float bound = bound_of_block(list, b);
        most = bound > most ? bound : most;
        b++;
    } while (b < list->n_blocks && list->kind->last_row(list, b - 1) + 1 < end);
    return most;
}

/* The first row from `from` on that may come in; lists that cannot bring one in are not asked. */
static uint32_t next_window(walk *w, uint32_t from) {
    float sum = 0;
    uint32_t next = UINT32_MAX;
    for (uint32_t i = 0; i < w->n_lists; i++) {
        vex_rank_list *list = &w->lists[w->order[i]];
        sum += list->bound;
        if (!(sum + w->slack < w->best->worst)) {
            const uint32_t row = next_row(list, from);
            next = row < next ? row : next;
        }
    }
    return next;
}

static void sort_lists(walk *w) {
    for (uint32_t i = 1; i < w->n_lists; i++) {
        const uint32_t moved = w->order[i];
        const float bound = w->lists[moved].window_bound;
        uint32_t at = i;
        for (; at > 0 && w->lists[w->order[at - 1]].window_bound > bound; at--) {
            w->order[at] = w->order[at - 1];
        }
        w->order[at] = moved;
    }
}

static void spare_none(walk *w) {
    for (uint32_t i = 0; i < w->n_lists; i++) {
        w->lists[i].wanted = true;
    }
    w->n_spared = 0;
}

/* Which lists have to be gone through?  False: no row of the window can come in. */
static bool plan_window(walk *w, uint32_t from, uint32_t end) {
    float sum = 0;
    for (uint32_t i = 0; i < w->n_lists; i++) {
        vex_rank_list *list = &w->lists[i];
        list->window_bound = bound_of_window(list, from, end);
        sum += list->window_bound; /* in the order of scores, so no row of the window has more */
    }
    const vex_rank_rows *rows = w->rows;
    const uint64_t seq = rows->in_memory ? 0 : rows->snapshot->pays[rows->number].file->seqs[from];
    if (!would_take(w->best, sum, seq)) {
        return false;
    }
    sort_lists(w);
    float before = 0;
    uint64_t n_spared = 0, n_wanted = 0; /* postings */
    w->n_spared = 0;
    for (uint32_t i = 0; i < w->n_lists; i++) {
        vex_rank_list *list = &w->lists[w->order[i]];
        w->before[i] = before;
        before += list->window_bound;
        list->wanted = !(before + w->slack < w->best->worst);
        w->n_spared += !list->wanted;
        *(list->wanted ? &n_wanted : &n_spared) += list->n;
    }
    if (n_spared < LOOK_UP_COSTS * n_wanted) { /* of queries with many words or indices */
        spare_none(w);
    }
    return true;
}

static vex_status add_list(walk *w, vex_rank_list *list, uint32_t from, uint32_t end) {
    vex_rank_block *walked = list->walked;
    for (uint32_t b = list->next_block; b < list->n_blocks; b++) {
        if (b > 0 && list->kind->last_row(list, b - 1) + 1 >= end) {
            break;
        }
        if (walked->number != b) {
            walked->number = NO_BLOCK;
            VEX_TRY(list->kind->block(list, b, &walked->block));
            list->kind->scores(list, &walked->block, walked->scores);
            walked->number = b;
            walked->at = 0;
        }
        uint32_t at = find_row(&walked->block, walked->at, from);
        for (; at < walked->block.n && walked->block.rows[at] < end; at++) {
            const uint32_t place = walked->block.rows[at] - from;
            w->sums[place] += walked->scores[at];
            w->touched[place / 64] |= 1ULL << place % 64;
        }
        walked->at = at;
        if (at < walked->block.n) {
            break;
        }
    }
    return VEX_OK;
}

/* A row with the sum of the lists that were gone through: look the others up, those that add most
 * first, for as long as it can come in. */
static vex_status finish_row(walk *w, uint32_t row, float sum) {
    if (w->n_spared == 0) {
        return take(w, sum, row);
    }
    float at_most = w->before[w->n_spared - 1] + w->lists[w->order[w->n_spared - 1]].window_bound;
    for (uint32_t i = w->n_spared; i > 0; i--) {
        if (sum + at_most + w->slack < w->best->worst) {
            return VEX_OK;
        }
        bool found;
        float score;
        VEX_TRY(look_up(&w->lists[w->order[i - 1]], row, &found, &score));
        sum += found ? score : 0;
        at_most = w->before[i - 1];
    }
    return sum + w->slack < w->best->worst ? VEX_OK : score_row(w, row);
}

static vex_status finish_window(walk *w, uint32_t from, uint32_t end) {
    const size_t n_words = vex_bit_words(end - from);
    vex_status status = VEX_OK;
    for (size_t at = 0; at < n_words; at++) {
        for (uint64_t bits = w->touched[at]; bits != 0; bits &= bits - 1) {
            const uint32_t place = (uint32_t)(at * 64) + (uint32_t)__builtin_ctzll(bits);
            const float sum = w->sums[place];
            w->sums[place] = 0;
            if (status == VEX_OK && is_wanted(w->rows, from + place)) {
                status = finish_row(w, from + place, sum);
            }
        }
        w->touched[at] = 0;
    }
    return status;
}

static vex_status walk_windows(walk *w) {
    const uint32_t n_rows = w->rows->n_rows;
    uint32_t from = 0;
    while (from < n_rows && (from = next_window(w, from)) < n_rows) {
        from &= ~63u;
        const uint32_t end = n_rows - from > WINDOW ? from + WINDOW : n_rows;
        const bool any_wanted = w->rows->wanted == NULL || vex_bits_any(w->rows->wanted, from, end);
        if (any_wanted && plan_window(w, from, end)) {
            for (uint32_t i = 0; i < w->n_lists; i++) {
                if (w->lists[i].wanted) {
                    VEX_TRY(add_list(w, &w->lists[i], from, end));
                }
            }
            VEX_TRY(finish_window(w, from, end));
        }
        from = end;
    }
    return VEX_OK;
}

/* ---- sources ---- */

static vex_status prepare(walk *w) {
    const size_t n = w->n_lists;
    w->order = vex_calloc(n, sizeof *w->order);
    w->before = vex_calloc(n, sizeof *w->before);
    w->blocks = vex_malloc(2 * n * sizeof *w->blocks);
    if (w->order == NULL || w->before == NULL || w->blocks == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to rank rows");
    }
    float most = 0;
    for (uint32_t i = 0; i < n; i++) {
        vex_rank_list *list = &w->lists[i];
        const float bound = list->kind->bound(list, UINT32_MAX);
        list->bound = list->window_bound = bound > 0 ? bound : 0;
        list->next_block = list->probe_block = 0;
        list->bound_block = NO_BLOCK;
        list->walked = &w->blocks[2 * i];
        list->probed = &w->blocks[2 * i + 1];
        list->walked->number = list->probed->number = NO_BLOCK;
        w->order[i] = i;
        most += list->most;
    }
    sort_lists(w);
    w->slack = n > 1 ? most * (float)(n + 2) * 0x1p-22f : 0;
    return VEX_OK;
}

vex_status vex_rank_source(vex_best *best, const vex_rank_rows *rows, vex_rank_list *lists,
                           uint32_t n_lists) {
    uint64_t n_postings = 0;
    for (uint32_t i = 0; i < n_lists; i++) {
        n_postings += lists[i].n;
    }
    if (n_lists == 0 || rows->n_rows == 0 || (rows->wanted != NULL && rows->n_wanted == 0)) {
        return VEX_OK;
    }
    walk *w = vex_calloc(1, sizeof *w);
    if (w == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to rank rows");
    }
    w->best = best;
    w->rows = rows;
    w->lists = lists;
    w->n_lists = n_lists;
    vex_status status = prepare(w);
    if (status == VEX_OK) {
        const bool few = rows->wanted != NULL && rows->n_wanted < n_postings / POSTINGS_PER_ROW;
        status = few ? score_wanted_rows(w) : walk_windows(w);
    }
    vex_free(w->order);
    vex_free(w->before);
    vex_free(w->blocks);
    vex_free(w);
    return status;
}
