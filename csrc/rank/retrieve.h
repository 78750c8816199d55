/*
 * retrieve.h - the live records that score best for a sparse vector or for words: what rank
 * expressions are made of, besides the nearest vectors.
 */
#ifndef VEX_RANK_RETRIEVE_H
#define VEX_RANK_RETRIEVE_H

#include "filter/match.h"

typedef struct vex_scored {
    vex_row_ref row;        /* live payload row; its seq orders ties                              */
    float score;
} vex_scored;

typedef struct vex_scored_list {
    vex_scored *items;
    size_t n, capacity;
} vex_scored_list;

void vex_scored_list_clear(vex_scored_list *list);  /* frees; a zeroed one is fine                */

/* Collecting the best: offer each row once, then sort.  The list is a heap of at most `limit` items
 * in between, whose memory grows with the items held.  NaN counts as less than every number. */
vex_status vex_scored_offer(vex_scored_list *list, uint32_t limit, vex_scored item);
/* Would this score get in?  (Ties need the seq: true when it might.) */
bool vex_scored_wants(const vex_scored_list *list, uint32_t limit, float score);
void vex_scored_sort(vex_scored_list *list);        /* best first, ties by seq; no offer after it */

typedef struct vex_sparse_query {
    const uint8_t *key;     /* metadata key of the sparse vectors                                 */
    size_t key_len;
    const uint32_t *indices;  /* n, strictly ascending                                            */
    const float *values;      /* n, finite                                                        */
    uint32_t n;
    bool idf;
} vex_sparse_query;

/* The `limit` live rows of `matches` (NULL: all) with the highest dot product of the sparse vector
 * under the key with the query, best first, ties by seq.  Only rows that share an index with the
 * query.  Products are summed in float32, one after the other in ascending order of index, so that
 * every way to find them gives the same bits.
 * idf: the values of the query are scaled by vex_sparse_idf() first, with n = live records and
 * nt = live records whose vector under the key has the index.  Errors: CORRUPT, NO_MEMORY, IO. */
vex_status vex_retrieve_sparse(const vex_snapshot *snapshot, const vex_matches *matches,
                               const vex_sparse_query *query, uint32_t limit,
                               vex_scored_list *out);

/* A value of a query, scaled by ln(1 + (n - nt + .5) / (nt + .5)): rare indices count for more. */
float vex_sparse_idf(float value, uint64_t n, uint64_t nt);

typedef struct vex_text_query {
    const uint8_t *text;    /* UTF-8                                                              */
    size_t len;
    float k1, b;            /* usually 1.2 and 0.75                                               */
} vex_text_query;

/* The `limit` live rows of `matches` (NULL: all) whose documents have words of the query, those with
 * the highest scores, best first, ties by seq.  Words are tokens (tokens.h); the score is BM25 in the
 * variant of Lucene (Kamphuis et al., "Which BM25 do you mean?", ECIR 2020), the sum over the words
 * of the query, in ascending order of their bytes, each as often as it is in the query, of
 *   ln(1 + (N - df + 0.5) / (df + 0.5)) / (1 + k1 (1 - b + b dl / avgdl) / tf)
 * with N the live rows that have a document, df those whose document has the word, tf how often it
 * has it, dl the document's number of words and avgdl its mean over the N rows: exact, whatever was
 * deleted, so the scores do not depend on where rows are stored.  In float32, but for the logarithm.
 * VEX_ERR_INVALID when k1 is negative, b is not within 0 and 1, either is no number, or the query has
 * more than VEX_TEXT_WORDS_MAX different words. */
#define VEX_TEXT_WORDS_MAX 16384u
vex_status vex_retrieve_text(const vex_snapshot *snapshot, const vex_matches *matches,
                             const vex_text_query *query, uint32_t limit, vex_scored_list *out);

#endif
