/*
 * prune.h - the best rows of one source by a sum over lists of postings, without scoring most of
 * them.
 *
 * Every list adds to the score of its rows; a row's score is the sum of what its lists add, in
 * float32, in the order of the lists.  Rows are taken in windows of 4096.  For each window every
 * list tells the most that it adds to any row of it, from the maxima of its blocks (block-max
 * indexes: Ding & Suel, "Faster top-k document retrieval using block-max indexes", SIGIR 2011).
 * Lists whose maxima, the smallest ones first, do not sum up to the score to beat cannot bring a row
 * in by themselves (MaxScore: Turtle & Flood, "Query evaluation: strategies and optimizations",
 * 1995), so only the others are gone through, into an array of sums, and those looked up for the
 * rows that can still come in.  A window in which all of them together are too little is passed over.
 *
 * The result is the same, bit for bit, as that of scoring every row.
 */
#ifndef VEX_RANK_PRUNE_H
#define VEX_RANK_PRUNE_H

#include "rank/packed.h"
#include "rank/retrieve.h"

/* The best rows so far, of all sources. */
typedef struct vex_best {
    vex_scored_list list;
    uint32_t limit;
    float worst;          /* score to reach; -INFINITY while there is room                        */
    uint64_t worst_seq;   /* of one that just reaches it, the seq to be below                     */
} vex_best;

void vex_best_init(vex_best *best, uint32_t limit);
/* After others have offered rows to its list. */
void vex_best_update(vex_best *best);

typedef struct vex_rank_list vex_rank_list;

/* What a list of postings can do; blocks are as in packed.h. */
typedef struct vex_rank_kind {
    vex_status (*block)(const vex_rank_list *list, uint32_t b, vex_block *out);
    /* What the list adds to the rows of a block. */
    void (*scores)(const vex_rank_list *list, vex_block *block, float *scores);
    float (*score)(const vex_rank_list *list, const vex_block *block, uint32_t i);
    /* At least what it adds to any row of block b, of all blocks for UINT32_MAX. */
    float (*bound)(const vex_rank_list *list, uint32_t b);
    /* The last row of block b; UINT32_MAX of the last block. */
    uint32_t (*last_row)(const vex_rank_list *list, uint32_t b);
} vex_rank_kind;

typedef struct vex_rank_block {
    uint32_t number;          /* of the block; UINT32_MAX: none                                   */
    uint32_t at;              /* rows before it are behind                                        */
    vex_block block;
    float scores[VEX_BLOCK_ROWS];
} vex_rank_block;

struct vex_rank_list {
    const vex_rank_kind *kind;
    const void *context, *list; /* the kind's                                                     */
    float weight;
    uint32_t n, n_blocks;
    float most;               /* at least the absolute value of all that it adds                  */
    /* while it is gone through */
    float bound;              /* of all blocks                                                    */
    uint32_t next_block;      /* the first that may have rows of the window                       */
    uint32_t bound_block;     /* whose bound is known                                             */
    float block_bound, window_bound;
    bool wanted;              /* in this window                                                   */
    uint32_t probe_block;     /* where the next look-up begins                                    */
    vex_rank_block *walked, *probed;
};

/* The rows that count. */
typedef struct vex_rank_rows {
    const vex_snapshot *snapshot;
    bool in_memory;
    uint32_t number, n_rows;
    const uint64_t *wanted;   /* bitmap; NULL: all                                                */
    uint64_t n_wanted;
} vex_rank_rows;

/* Take the rows of a source into `best`.  The lists have kind, context, list, weight, n, n_blocks
 * and most. */
vex_status vex_rank_source(vex_best *best, const vex_rank_rows *rows, vex_rank_list *lists,
                           uint32_t n_lists);

#endif
