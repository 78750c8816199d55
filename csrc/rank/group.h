/*
 * group.h - the best few of each group of records (vexfs.h, "ranked search").
 */
#ifndef VEX_RANK_GROUP_H
#define VEX_RANK_GROUP_H

#include "base/msgpack.h"
#include "rank/retrieve.h"

typedef struct vex_group_key {
    const uint8_t *name;        /* borrowed from the request; NULL: the score                     */
    size_t len;
} vex_group_key;

typedef struct vex_group {
    vex_group_key *keys;        /* n_by that make a group, then n_order that order its records    */
    uint32_t n_by, n_order;
    bool highest;
    uint64_t k;
} vex_group;

#define VEX_GROUP_KEYS_MAX 64u

/* Read the next value as a group; errors: INVALID, TOO_BIG, NO_MEMORY. */
vex_status vex_group_parse(vex_group *group, vex_mp_reader *reader);
void vex_group_clear(vex_group *group);  /* a zeroed one is fine                                  */

/* Keep in `ranked`, which is in order of scores and stays so, what is kept of each group. */
vex_status vex_group_apply(const vex_group *group, const vex_snapshot *snapshot,
                           vex_scored_list *ranked);

#endif
