/*
 * expr.h - filter expressions: parsed once from MessagePack (the node form is documented in
 * vexfs.h), then evaluated over rows or columns.
 *
 * Parsing checks everything: operators, arity, operand types, nesting (64 levels), node count
 * (2^20), and compiles regular expressions; errors are VEX_ERR_INVALID (VEX_ERR_REGEX for a
 * refused pattern).  Operands of IN/NIN are sorted for binary search.
 */
#ifndef VEX_FILTER_EXPR_H
#define VEX_FILTER_EXPR_H

#include "base/mem.h"
#include "base/msgpack.h"

typedef enum vex_value_type {   /* also the tags of stored columns */
    VEX_VALUE_ABSENT = 0, VEX_VALUE_BOOL = 1, VEX_VALUE_INT = 2, VEX_VALUE_FLOAT = 3,
    VEX_VALUE_STRING = 4, VEX_VALUE_LIST = 5, VEX_VALUE_SPARSE = 6
} vex_value_type;

typedef struct vex_value {
    vex_value_type type;
    bool boolean;
    int64_t integer;
    double number;
    const uint8_t *bytes;   /* string, or the MessagePack array of a list (borrowed)             */
    size_t len;
} vex_value;

typedef struct vex_expr vex_expr;
struct vex_expr {
    uint32_t op;                     /* VEX_F_*                                                   */
    const uint8_t *key;              /* metadata leaves                                           */
    size_t key_len;
    vex_value operand;               /* comparison and CONTAINS leaves; text of DOC_ leaves       */
    vex_value *operands;             /* IN, NIN, ID_IN: sorted                                    */
    uint32_t n_operands;
    void *regex;                     /* DOC_REGEX: provider's handle                              */
    vex_expr **children;             /* AND, OR                                                   */
    uint32_t n_children;
    bool needs_document, needs_metadata;   /* of this node or below                               */
};

typedef struct vex_filter {
    vex_expr *root;
    vex_buf text;                    /* copy of the MessagePack that nodes point into             */
    vex_arena *arena;
} vex_filter;

vex_status vex_filter_parse(vex_filter *filter, const void *msgpack, size_t len);
void vex_filter_clear(vex_filter *filter);   /* a zeroed one is fine; releases regex handles      */

/* -1, 0, 1 for int/float by exact numeric value (no rounding through double); NaN is unordered
 * with everything: returns 2. */
int vex_number_compare(const vex_value *a, const vex_value *b);

/* Does one metadata leaf hold for a stored value (type VEX_VALUE_ABSENT when the key is not
 * there)?  The single definition of the operators' meaning: columns must agree with it. */
bool vex_leaf_matches(const vex_expr *leaf, const vex_value *value);

/* Value of `key` in a MessagePack metadata map (NULL map = no metadata). */
vex_value vex_metadata_find(const uint8_t *map, size_t map_len, const uint8_t *key,
                            size_t key_len);

/* The next MessagePack value as a metadata value (nil and unknown kinds: ABSENT). */
vex_value vex_value_read(vex_mp_reader *reader);

/* Does needle occur in text?  (memmem; fast for short needles) */
bool vex_text_contains(const uint8_t *text, size_t len, const uint8_t *needle, size_t needle_len);

/* Regular expressions by the registered provider (vex_set_regex). */
vex_status vex_regex_compile(const uint8_t *pattern, size_t len, void **handle);
vex_status vex_regex_match(void *handle, const char *const *texts, const size_t *lens, uint32_t n,
                           uint8_t *out);
void vex_regex_release(void *handle);

#endif
