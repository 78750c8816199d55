/*
 * retrieve_text.c - full text by BM25 (retrieve.h), over the words of all sources of a snapshot.
 *
 * The words of the query are looked up in every source; with what all sources have together, each
 * gets its weight; then the sources are pruned one after the other, with one list of the best.
 */
#include "rank/prune.h"
#include "rank/tokens.h"
#include "rank/words_source.h"

#include <math.h>
#include <stdlib.h>

#include "base/poison.h"

typedef struct query_word {
    uint8_t bytes[VEX_TOKEN_BYTES_MAX];
    uint32_t len, times;
    uint64_t df;
} query_word;

typedef struct text_search {
    const vex_snapshot *snapshot;
    const vex_matches *matches;
    const vex_text_query *query;
    query_word *words;
    size_t n_words, words_capacity;
    vex_words_source *sources; /* files, then memtables */
    uint32_t n_sources;
    vex_word_list *found; /* of every source, for every word */
    vex_rank_list *lists;
    uint64_t documents, tokens;
} text_search;

/* What the scores of one source are made of. */
typedef struct text_model {
    const vex_words_source *source;
    float base, per_token; /* k1 (1 - b + b dl / avgdl) = base + per_token dl */
} text_model;

static vex_status no_memory(void) {
    return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to search documents");
}

/* ---- the query ---- */

static int compare_words(const void *a, const void *b) {
    const query_word *x = a, *y = b;
    const int order = memcmp(x->bytes, y->bytes, x->len < y->len ? x->len : y->len);
    return order != 0 ? order : (int)x->len - (int)y->len;
}

/* Ascending, each once. */
static void merge_words(text_search *s) {
    size_t n = 0;
    if (s->n_words > 1) {
        qsort(s->words, s->n_words, sizeof *s->words, compare_words);
    }
    for (size_t i = 0; i < s->n_words; i++) {
        if (n > 0 && compare_words(&s->words[n - 1], &s->words[i]) == 0) {
            s->words[n - 1].times += s->words[i].times;
        } else {
            s->words[n++] = s->words[i];
        }
    }
    s->n_words = n;
}

static vex_status read_query(text_search *s) {
    const vex_text_query *query = s->query;
    if (!(query->k1 >= 0) || !isfinite(query->k1) || !(query->b >= 0 && query->b <= 1)) {
        return VEX_FAIL(VEX_ERR_INVALID, "BM25 needs k1 >= 0 and b from 0 to 1, not %g and %g",
                        (double)query->k1, (double)query->b);
    }
    vex_tokens tokens;
    vex_tokens_start(&tokens, query->text, query->len);
    while (vex_tokens_next(&tokens)) {
        if (s->n_words == 2 * (size_t)VEX_TEXT_WORDS_MAX) {
            merge_words(s);
        }
        if (s->n_words > 2 * (size_t)VEX_TEXT_WORDS_MAX - 1) {
            break;
        }
        VEX_TRY(vex_grow((void **)&s->words, &s->words_capacity, s->n_words + 1, sizeof *s->words));
        query_word *word = &s->words[s->n_words++];
        *word = (query_word){.len = tokens.len, .times = 1};
        memcpy(word->bytes, tokens.bytes, tokens.len);
    }
    merge_words(s);
    return s->n_words <= VEX_TEXT_WORDS_MAX
               ? VEX_OK
               : VEX_FAIL(VEX_ERR_INVALID, "a query has at most %u different words",
                          VEX_TEXT_WORDS_MAX);
}

/* ---- sources ---- */

static vex_status open_sources(text_search *s) {
    const vex_snapshot *snapshot = s->snapshot;
    const uint32_t n = snapshot->n_pays + snapshot->n_mems;
    s->sources = vex_calloc((size_t)n + 1, sizeof *s->sources);
    s->found = vex_calloc((size_t)n * s->n_words + 1, sizeof *s->found);
    s->lists = vex_calloc(s->n_words + 1, sizeof *s->lists);
    if (s->sources == NULL || s->found == NULL || s->lists == NULL) {
        return no_memory();
    }
    for (uint32_t i = 0; i < n; i++) {
        const bool in_memory = i >= snapshot->n_pays;
        const uint32_t number = in_memory ? i - snapshot->n_pays : i;
        VEX_TRY(vex_words_source_open(snapshot, in_memory, number, &s->sources[s->n_sources]));
        s->n_sources++;
    }
    return VEX_OK;
}

static vex_status find_words(text_search *s) {
    for (uint32_t i = 0; i < s->n_sources; i++) {
        const vex_words_source *source = &s->sources[i];
        s->documents += source->live->documents;
        s->tokens += source->live->tokens;
        for (size_t k = 0; k < s->n_words; k++) {
            query_word *word = &s->words[k];
            vex_word_list *list = &s->found[i * s->n_words + k];
            uint32_t count;
            VEX_TRY(vex_words_source_find(source, word->bytes, word->len, list));
            VEX_TRY(vex_words_source_count(source, list, &count));
            word->df += count;
        }
    }
    return VEX_OK;
}

/* ---- scores ---- */

/* Written so that rounding keeps the order: more often, or shorter, is never less. */
static inline float score_of(const text_model *model, float weight, uint32_t times,
                             uint32_t length) {
    const float norm = model->base + model->per_token * (float)length;
    return weight / (1.0f + norm / (float)times);
}

static vex_status get_block(const vex_rank_list *list, uint32_t b, vex_block *out) {
    return vex_words_block(list->list, b, out);
}

static void get_scores(const vex_rank_list *list, vex_block *block, float *scores) {
    const text_model *model = list->context;
    uint32_t lengths[VEX_BLOCK_ROWS];
    vex_block_unpack_values(block);
    for (uint32_t i = 0; i < block->n; i++) {
        lengths[i] = vex_words_source_length(model->source, block->rows[i]) - 1;
    }
    for (uint32_t i = 0; i < block->n; i++) {
        scores[i] = score_of(model, list->weight, block->values[i], lengths[i]);
    }
}

static float get_score(const vex_rank_list *list, const vex_block *block, uint32_t i) {
    const text_model *model = list->context;
    return score_of(model, list->weight, vex_block_value(block, i),
                    vex_words_source_length(model->source, block->rows[i]) - 1);
}

static float get_bound(const vex_rank_list *list, uint32_t b) {
    const uint8_t *impacts = vex_words_impacts(list->list, b);
    float most = 0;
    if (impacts == NULL) {
        return list->weight;
    }
    for (uint32_t i = 0; i < impacts[0]; i++) {
        const uint8_t times = impacts[1 + 2 * i], length = impacts[2 + 2 * i];
        const float score = times == VEX_IMPACT_TIMES_ANY ? list->weight
                                                          : score_of(list->context, list->weight,
                                                                     times, vex_length_of(length));
        most = score > most ? score : most;
    }
    return most;
}

static uint32_t get_last_row(const vex_rank_list *list, uint32_t b) {
    return vex_words_last_row(list->list, b);
}

static const vex_rank_kind text_kind = {get_block, get_scores, get_score, get_bound, get_last_row};

/* ---- ranking ---- */

static float weight_of(const text_search *s, const query_word *word) {
    const double n = (double)s->documents, df = (double)word->df;
    return (float)(log1p((n - df + 0.5) / (df + 0.5)) * word->times);
}

static vex_status rank_source(text_search *s, uint32_t number, vex_best *best) {
    const vex_words_source *source = &s->sources[number];
    const vex_matches *matches = s->matches;
    const double k1 = (double)s->query->k1, b = (double)s->query->b;
    const double mean = (double)s->tokens / (double)s->documents;
    const text_model model = {source, (float)(k1 * (1 - b)), (float)(k1 * b / mean)};
    uint32_t n_lists = 0;
    for (size_t k = 0; k < s->n_words; k++) {
        const vex_word_list *list = &s->found[number * s->n_words + k];
        if (list->n > 0 && s->words[k].df > 0) {
            const float weight = weight_of(s, &s->words[k]);
            s->lists[n_lists++] = (vex_rank_list){.kind = &text_kind,
                                                  .context = &model,
                                                  .list = list,
                                                  .weight = weight,
                                                  .n = list->n,
                                                  .n_blocks = list->n_blocks,
                                                  .most = weight};
        }
    }
    vex_rank_rows rows = {.snapshot = s->snapshot,
                          .in_memory = source->in_memory,
                          .number = source->number,
                          .n_rows = source->n_rows,
                          .wanted = source->live->rows,
                          .n_wanted = source->n_rows};
    if (matches != NULL) {
        rows.wanted = (source->in_memory ? matches->mems : matches->pays)[source->number];
        if (rows.wanted == NULL) {
            return VEX_OK;
        }
        rows.n_wanted = matches->count; /* at most */
    }
    return vex_rank_source(best, &rows, s->lists, n_lists);
}

static void close_search(text_search *s) {
    for (uint32_t i = 0; i < s->n_sources; i++) {
        vex_words_source_close(&s->sources[i]);
    }
    vex_free(s->sources);
    vex_free(s->found);
    vex_free(s->lists);
    vex_free(s->words);
}

static vex_status search(text_search *s, uint32_t limit, vex_scored_list *out) {
    vex_best best;
    vex_best_init(&best, limit);
    vex_status status;
    VEX_TRY_DONE(status, read_query(s));
    if (s->n_words > 0) {
        VEX_TRY_DONE(status, open_sources(s));
        VEX_TRY_DONE(status, find_words(s));
    }
    for (uint32_t i = 0; i < s->n_sources && s->tokens > 0; i++) {
        VEX_TRY_DONE(status, rank_source(s, i, &best));
    }
    vex_scored_sort(&best.list);
    *out = best.list;
    best.list = (vex_scored_list){0};
done:
    vex_scored_list_clear(&best.list);
    close_search(s);
    return status;
}

/* Files whose sections of words are known to be damaged. */
static uint32_t count_damaged(const vex_snapshot *snapshot) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < snapshot->n_pays; i++) {
        const vex_words *words = vex_words_of(snapshot->pays[i].file);
        n += words != NULL && vex_words_is_damaged(words);
    }
    return n;
}

vex_status vex_retrieve_text(const vex_snapshot *snapshot, const vex_matches *matches,
                             const vex_text_query *query, uint32_t limit, vex_scored_list *out) {
    for (;;) {
        const uint32_t n_damaged = count_damaged(snapshot);
        text_search s = {.snapshot = snapshot, .matches = matches, .query = query};
        const vex_status status = search(&s, limit, out);
        if (status != VEX_ERR_CORRUPT || count_damaged(snapshot) == n_damaged) {
            return status;
        }
        /* a section was found damaged on the way: now it is done without */
    }
}
