/*
 * tally.h - which values some records have under a metadata key, and how many records have each.
 *
 * Values are bools, ints, floats and strings: those of a list count as if they were the record's,
 * each once.  Ints and floats are different values, even where they are equal; -0.0 is 0.0.
 */
#ifndef VEX_FILTER_TALLY_H
#define VEX_FILTER_TALLY_H

#include "filter/columns.h"
#include "filter/expr.h"

typedef enum vex_tally_kind {
    VEX_TALLY_KEYS,              /* only `rows` and `types`                                       */
    VEX_TALLY_RANGE,             /* ... and the least and the greatest value                      */
    VEX_TALLY_VALUES             /* ... and every value with its count                            */
} vex_tally_kind;

typedef struct vex_tally_entry {
    vex_value value;             /* a string is the tally's own                                   */
    uint64_t count, hash;
    uint64_t list;               /* the last list that had it                                     */
} vex_tally_entry;

typedef struct vex_tally {
    vex_tally_kind kind;
    uint64_t rows;               /* that have anything under the key                              */
    uint32_t types;              /* of what they have, as vex_collection_keys tells them          */
    vex_tally_entry *entries;    /* RANGE: none, or the least and the greatest                    */
    size_t n, capacity;
    uint32_t *slots;             /* open addressing: entry number + 1, 0 = free                   */
    size_t n_slots;
    uint64_t lists;              /* seen so far                                                   */
    vex_arena *arena;
} vex_tally;

vex_status vex_tally_init(vex_tally *tally, vex_tally_kind kind);
void vex_tally_clear(vex_tally *tally);   /* a zeroed one is fine */

/* `times` records have this value, which may be a list, or ABSENT: then nothing happens. */
vex_status vex_tally_add(vex_tally *tally, const vex_value *value, uint64_t times);

/* What the rows of the bitmap have, by the column of the key.  VEX_ERR_CORRUPT when it is damaged;
 * the tally is then as it was, so that the rows themselves can be asked. */
vex_status vex_tally_column(vex_tally *tally, const vex_columns *columns, const uint8_t *key,
                            size_t key_len, const uint64_t *rows);

/* In ascending order (vex_value_collate), or those of most records first and ties ascending. */
void vex_tally_sort(vex_tally *tally, bool by_count);

#endif
