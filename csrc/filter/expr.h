/*
 * expr.h - filter expressions: parsed once from MessagePack (the node form is documented in
 * vexfs.h), then evaluated over rows or columns.
 *
 * Parsing checks everything: operators, arity, operand types, nesting (64 AND/OR levels), node
 * count (2^20), and compiles regular expressions; errors are VEX_ERR_INVALID (VEX_ERR_REGEX for
 * a refused pattern).  Operands of IN/NIN are sorted for binary search.
 */
#ifndef VEX_FILTER_EXPR_H
#define VEX_FILTER_EXPR_H

#include "base/fold.h"
#include "base/mem.h"
#include "base/msgpack.h"

typedef enum vex_value_type {   /* also the tags of stored columns */
    VEX_VALUE_ABSENT = 0, VEX_VALUE_BOOL = 1, VEX_VALUE_INT = 2, VEX_VALUE_FLOAT = 3,
    VEX_VALUE_STRING = 4, VEX_VALUE_LIST = 5, VEX_VALUE_SPARSE = 6
} vex_value_type;

typedef struct vex_value {
    vex_value_type type;
    bool boolean;
    union {                 /* by type                                                            */
        int64_t integer;
        double number;
        const uint8_t *bytes;   /* string, the MessagePack array of a list, or the payload of a
                                   sparse vector (borrowed)                                       */
    };
    size_t len;             /* of bytes                                                           */
} vex_value;

/* A compiled pattern belongs to the provider that made it, whichever is registered later. */
typedef struct vex_regex {
    const vex_regex_provider *provider;
    void *handle;                    /* NULL: nothing to release                                  */
} vex_regex;

typedef struct vex_expr vex_expr;
struct vex_expr {
    uint32_t op;                     /* VEX_F_*                                                   */
    const uint8_t *key;              /* metadata leaves                                           */
    size_t key_len;
    vex_value operand;               /* comparison and CONTAINS leaves; text of DOC_ and TEXT_ ones */
    vex_needle needle;               /* the same folded, of leaves that fold case                 */
    vex_value *operands;             /* IN, NIN: sorted by vex_value_order; ID_IN, ID_NOT_IN: as
                                        given                                                     */
    uint32_t n_operands;
    vex_regex regex;                 /* DOC_REGEX, DOC_NOT_REGEX                                  */
    vex_expr **children;             /* AND, OR; DOC_REGEX, DOC_NOT_REGEX: what every document
                                        that matches the pattern meets, if given                  */
    uint32_t n_children;
    bool needs_document;             /* this node, or one below                                   */
    bool only_substrings;            /* this node and all below: DOC_[NOT_][I]CONTAINS, AND and OR
                                        only                                                      */
};

typedef struct vex_filter {
    vex_expr *root;
    vex_buf text;                    /* copy of the MessagePack that nodes point into             */
    vex_arena *arena;
} vex_filter;

vex_status vex_filter_parse(vex_filter *filter, const void *msgpack, size_t len);
void vex_filter_clear(vex_filter *filter);   /* a zeroed one is fine; releases regex handles      */

/* ---- values (leaf.c) ---- */

static inline bool vex_value_is_number(const vex_value *value) {
    return value->type == VEX_VALUE_INT || value->type == VEX_VALUE_FLOAT;
}

/* -1, 0, 1 for int/float by exact numeric value (no rounding through double); NaN is unordered
 * with everything: returns 2. */
int vex_number_compare(const vex_value *a, const vex_value *b);

/* The same number as an int or a float; false when that type cannot hold it exactly. */
bool vex_number_as(const vex_value *number, vex_value_type type, vex_value *out);

/* Order of scalars by type, then by value (strings bytewise): -1, 0 or 1; 2 for NaN. */
int vex_value_order(const vex_value *a, const vex_value *b);

/* One order of all scalars: false, true, numbers by value (an int before the float that equals it),
 * strings bytewise, which is by code point: -1, 0 or 1.  Not for NaN. */
int vex_value_collate(const vex_value *a, const vex_value *b);

/* Does one metadata leaf hold for a stored value (type VEX_VALUE_ABSENT when the key is not
 * there)?  The single definition of the operators' meaning: columns must agree with it. */
bool vex_leaf_matches(const vex_expr *leaf, const vex_value *value);

/* The next MessagePack value, whole, as a metadata value; ABSENT for nil, for kinds that are not
 * metadata, and for malformed bytes. */
vex_value vex_value_read(vex_mp_reader *reader);

/* Append a scalar as MessagePack; everything else as nil. */
vex_status vex_value_write(vex_buf *out, const vex_value *value);

/* Walk a metadata map (NULL = none): start gives the number of pairs, next reads one.  *key is
 * NULL when it is no string; false when the bytes are malformed. */
uint32_t vex_metadata_start(vex_mp_reader *reader, const uint8_t *map, size_t map_len);
bool vex_metadata_next(vex_mp_reader *reader, const uint8_t **key, size_t *key_len,
                       vex_value *value);

/* Value of `key` in a metadata map.  Should the key be there twice, the first that is not ABSENT
 * counts. */
vex_value vex_metadata_find(const uint8_t *map, size_t map_len, const uint8_t *key,
                            size_t key_len);

/* ---- documents (text.c, regex.c) ---- */

/* The first place of the needle in text[from..len), from <= len, or SIZE_MAX. */
size_t vex_text_find(const uint8_t *text, size_t len, size_t from, const uint8_t *needle,
                     size_t needle_len);
/* Does needle occur in text? */
static inline bool vex_text_contains(const uint8_t *text, size_t len, const uint8_t *needle,
                                     size_t needle_len) {
    return vex_text_find(text, len, 0, needle, needle_len) != SIZE_MAX;
}

/* Regular expressions by the registered provider (vex_set_regex). */
vex_status vex_regex_compile(const uint8_t *pattern, size_t len, vex_regex *out);
vex_status vex_regex_match(const vex_regex *regex, const char *const *texts, const size_t *lens,
                           uint32_t n, uint8_t *out);
void vex_regex_release(vex_regex *regex);   /* a zeroed one is fine */

#endif
