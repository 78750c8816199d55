/*
 * program.h - rank expressions: parsed once from MessagePack (the form is documented in vexfs.h,
 * "ranked search"), then evaluated over what their leaves found.
 *
 * A value on the stack is a set of records, each with a float32 (its support), and maybe a default
 * for all others.  Two values are combined record by record.  The support of the result is
 *   both have a default   the union of theirs; the result has a default, too
 *   one has               that of the other one
 *   neither has           the intersection
 *
 * All supports lie within the records that some leaf found, so values are arrays over these.  Sums
 * and products are of float32; exp and log are computed in double precision and rounded.  NaN, however
 * it came about, is the positive quiet one, which comes last.
 */
#ifndef VEX_RANK_PROGRAM_H
#define VEX_RANK_PROGRAM_H

#include "base/msgpack.h"
#include "rank/retrieve.h"

#define VEX_RANK_STEPS_MAX 65536u
#define VEX_RANK_LEAVES_MAX 1024u  /* each is a search of its own                                 */
#define VEX_RANK_DEPTH_MAX 64u     /* values on the stack                                         */

typedef struct vex_rank_leaf {
    uint32_t op;                /* VEX_R_NEAREST, VEX_R_SPARSE, VEX_R_TEXT                        */
    uint32_t limit;             /* at least 1                                                     */
    bool by_rank;               /* the value is the place, 0 for the first, not the measure       */
    const float *vector;        /* NEAREST: dimension numbers, any                                */
    uint32_t dimension;
    vex_sparse_query sparse;
    vex_text_query text;
} vex_rank_leaf;

typedef struct vex_rank_step {
    uint32_t op;                /* VEX_R_*                                                        */
    uint32_t leaf;              /* of leaves                                                      */
    bool has_default;           /* leaves, VAL                                                    */
    float value;                /* the default                                                    */
} vex_rank_step;

typedef struct vex_rank_program {
    vex_rank_step *steps;
    vex_rank_leaf *leaves;
    size_t n_steps, n_leaves, steps_capacity, leaves_capacity;
    uint32_t depth;             /* values on the stack, at most                                   */
    vex_arena *arena;           /* numbers of queries; other bytes are borrowed from the request  */
} vex_rank_program;

/* Read the next value as a program.  Everything is checked: VEX_ERR_INVALID, VEX_ERR_TOO_BIG. */
vex_status vex_rank_program_parse(vex_rank_program *program, vex_mp_reader *reader);
void vex_rank_program_clear(vex_rank_program *program);  /* a zeroed one is fine                  */

/* found[i]: what leaf i found, in order, with its measure as the score.  Gives the support of the
 * result, lowest score first (-0 before 0), ties by seq. */
vex_status vex_rank_evaluate(const vex_rank_program *program, const vex_scored_list *found,
                             vex_scored_list *out);

/* Order of scores: lowest first, -0 before 0, NaN last.  -1, 0 or 1. */
int vex_score_order(float a, float b);

#endif
