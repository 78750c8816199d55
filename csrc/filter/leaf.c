/*
 * leaf.c - metadata values, and what each filter operator means for one of them: the single
 * definition that columns and memtable rows share (see expr.h).
 */
#include "filter/expr.h"

#include "base/poison.h"

#define SPARSE_EXT_TYPE 1 /* MessagePack ext type of a sparse vector (vexfs.h) */

/* int64 against double without rounding the integer: doubles beyond +-2^63 decide by sign,
 * others split into an exact whole part and a fraction. */
static int compare_int_float(int64_t a, double b) {
    if (b != b) {
        return 2;
    }
    if (b >= 9223372036854775808.0) {
        return -1;
    }
    if (b < -9223372036854775808.0) {
        return 1;
    }
    int64_t whole = (int64_t)b; /* toward zero */
    double fraction = b - (double)whole;
    if (a != whole) {
        return a < whole ? -1 : 1;
    }
    return fraction > 0 ? -1 : fraction < 0;
}

int vex_number_compare(const vex_value *a, const vex_value *b) {
    if (a->type == VEX_VALUE_INT && b->type == VEX_VALUE_INT) {
        return a->integer < b->integer ? -1 : a->integer > b->integer;
    }
    if (a->type == VEX_VALUE_INT) {
        return compare_int_float(a->integer, b->number);
    }
    if (b->type == VEX_VALUE_INT) {
        int order = compare_int_float(b->integer, a->number);
        return order == 2 ? 2 : -order;
    }
    if (a->number != a->number || b->number != b->number) {
        return 2;
    }
    return a->number < b->number ? -1 : a->number > b->number;
}

bool vex_number_as(const vex_value *number, vex_value_type type, vex_value *out) {
    vex_value same = {.type = type};
    if (type == VEX_VALUE_FLOAT) {
        same.number = number->type == VEX_VALUE_INT ? (double)number->integer : number->number;
    } else if (number->type == VEX_VALUE_INT) {
        same.integer = number->integer;
    } else if (number->number >= -9223372036854775808.0 && number->number < 9223372036854775808.0) {
        same.integer = (int64_t)number->number;
    } else {
        return false;
    }
    *out = same;
    return vex_number_compare(number, &same) == 0;
}

static int compare_bytes(const vex_value *a, const vex_value *b) {
    size_t shorter = a->len < b->len ? a->len : b->len;
    int order = shorter ? memcmp(a->bytes, b->bytes, shorter) : 0;
    return order != 0 ? (order < 0 ? -1 : 1) : (a->len < b->len ? -1 : a->len > b->len);
}

int vex_value_order(const vex_value *a, const vex_value *b) {
    if (a->type != b->type) {
        return a->type < b->type ? -1 : 1;
    }
    switch (a->type) {
    case VEX_VALUE_BOOL:
        return (int)a->boolean - (int)b->boolean;
    case VEX_VALUE_INT:
    case VEX_VALUE_FLOAT:
        return vex_number_compare(a, b);
    default:
        return compare_bytes(a, b);
    }
}

int vex_value_collate(const vex_value *a, const vex_value *b) {
    if (vex_value_is_number(a) && vex_value_is_number(b)) {
        int order = vex_number_compare(a, b);
        return order != 0 ? order : (int)a->type - (int)b->type;
    }
    return vex_value_order(a, b);
}

static bool is_scalar(const vex_value *value) {
    return value->type >= VEX_VALUE_BOOL && value->type <= VEX_VALUE_STRING;
}

/* The same type and value. */
static bool identical(const vex_value *a, const vex_value *b) {
    return is_scalar(a) && vex_value_order(a, b) == 0;
}

/* Equality of scalars; ints and floats by value. */
static bool equal(const vex_value *a, const vex_value *b) {
    return vex_value_is_number(a) && vex_value_is_number(b) ? vex_number_compare(a, b) == 0
                                                            : identical(a, b);
}

static bool orders(uint32_t op, int order) {
    switch (op) {
    case VEX_F_GT:
        return order == 1;
    case VEX_F_GE:
        return order == 0 || order == 1;
    case VEX_F_LT:
        return order == -1;
    default:
        return order == 0 || order == -1;
    }
}

static bool is_among(const vex_expr *leaf, const vex_value *value) {
    uint32_t low = 0, high = leaf->n_operands;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = vex_value_order(&leaf->operands[middle], value);
        if (order == 0) {
            return true;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return false;
}

/* IN: a number may be given as the other type, so it is looked for in both forms. */
static bool is_in(const vex_expr *leaf, const vex_value *value) {
    vex_value other;
    if (!is_scalar(value)) {
        return false;
    }
    if (is_among(leaf, value)) {
        return true;
    }
    vex_value_type other_type = value->type == VEX_VALUE_INT ? VEX_VALUE_FLOAT : VEX_VALUE_INT;
    return vex_value_is_number(value) && vex_number_as(value, other_type, &other) &&
           is_among(leaf, &other);
}

/* Membership in list metadata: exact element, types do not mix, not even numbers. */
static bool list_contains(const vex_value *list, const vex_value *item) {
    vex_mp_reader reader = vex_mp_reader_make(list->bytes, list->len);
    vex_mp_value header = vex_mp_next(&reader);
    for (uint32_t i = 0; header.kind == VEX_MP_ARRAY && i < header.count; i++) {
        vex_value element = vex_value_read(&reader);
        if (identical(&element, item)) {
            return true;
        }
    }
    return false;
}

/* Text tests of strings.  The operators are in pairs: a test, and its opposite. */
static bool text_holds(const vex_expr *leaf, const vex_value *value) {
    const vex_value *text = &leaf->operand;
    switch (leaf->op & ~1u) {
    case VEX_F_TEXT_CONTAINS:
        return vex_text_contains(value->bytes, value->len, text->bytes, text->len);
    case VEX_F_TEXT_STARTS:
        return value->len >= text->len &&
               (text->len == 0 || memcmp(value->bytes, text->bytes, text->len) == 0);
    case VEX_F_TEXT_ICONTAINS:
        return vex_needle_in(&leaf->needle, value->bytes, value->len);
    case VEX_F_TEXT_ISTARTS:
        return vex_needle_begins(&leaf->needle, value->bytes, value->len);
    default:
        return vex_needle_equals(&leaf->needle, value->bytes, value->len);
    }
}

bool vex_leaf_matches(const vex_expr *leaf, const vex_value *value) {
    if (leaf->op >= VEX_F_TEXT_CONTAINS) {
        return (value->type == VEX_VALUE_STRING && text_holds(leaf, value)) != (leaf->op % 2 != 0);
    }
    switch (leaf->op) {
    case VEX_F_EQ:
        return equal(value, &leaf->operand);
    case VEX_F_NE:
        return !equal(value, &leaf->operand);
    case VEX_F_GT:
    case VEX_F_GE:
    case VEX_F_LT:
    case VEX_F_LE:
        return value->type == VEX_VALUE_STRING
                   ? leaf->operand.type == VEX_VALUE_STRING &&
                         orders(leaf->op, vex_value_order(value, &leaf->operand))
                   : vex_value_is_number(value) && vex_value_is_number(&leaf->operand) &&
                         orders(leaf->op, vex_number_compare(value, &leaf->operand));
    case VEX_F_IN:
        return is_in(leaf, value);
    case VEX_F_NIN:
        return !is_in(leaf, value);
    case VEX_F_CONTAINS:
        return value->type == VEX_VALUE_LIST && list_contains(value, &leaf->operand);
    case VEX_F_NOT_CONTAINS:
        return value->type != VEX_VALUE_LIST || !list_contains(value, &leaf->operand);
    case VEX_F_EXISTS:
        return value->type != VEX_VALUE_ABSENT;
    case VEX_F_NOT_EXISTS:
        return value->type == VEX_VALUE_ABSENT;
    default:
        return false;
    }
}

vex_value vex_value_read(vex_mp_reader *reader) {
    vex_value out = {.type = VEX_VALUE_ABSENT};
    vex_mp_reader start = *reader;
    vex_mp_value value = vex_mp_next(reader);
    switch (value.kind) {
    case VEX_MP_BOOL:
        out.type = VEX_VALUE_BOOL;
        out.boolean = value.boolean;
        break;
    case VEX_MP_INT:
        out.type = VEX_VALUE_INT;
        out.integer = value.integer;
        break;
    case VEX_MP_FLOAT:
        out.type = VEX_VALUE_FLOAT;
        out.number = value.number;
        break;
    case VEX_MP_STR:
        out.type = VEX_VALUE_STRING;
        out.bytes = value.bytes;
        out.len = value.len;
        break;
    case VEX_MP_ARRAY:
        *reader = start;
        out.bytes = vex_mp_raw(reader, &out.len);
        out.type = out.bytes ? VEX_VALUE_LIST : VEX_VALUE_ABSENT;
        break;
    case VEX_MP_MAP:
        *reader = start;
        vex_mp_skip(reader);
        break;
    case VEX_MP_EXT:
        if (value.ext_type == SPARSE_EXT_TYPE) {
            out.type = VEX_VALUE_SPARSE;
            out.bytes = value.bytes;
            out.len = value.len;
        }
        break;
    default:
        break;
    }
    return out;
}

vex_status vex_value_write(vex_buf *out, const vex_value *value) {
    switch (value->type) {
    case VEX_VALUE_BOOL:
        return vex_mp_put_bool(out, value->boolean);
    case VEX_VALUE_INT:
        return vex_mp_put_int(out, value->integer);
    case VEX_VALUE_FLOAT:
        return vex_mp_put_double(out, value->number);
    case VEX_VALUE_STRING:
        return vex_mp_put_str(out, value->bytes, value->len);
    default:
        return vex_mp_put_nil(out);
    }
}

uint32_t vex_metadata_start(vex_mp_reader *reader, const uint8_t *map, size_t map_len) {
    *reader = vex_mp_reader_make(map, map ? map_len : 0);
    vex_mp_value header = vex_mp_next(reader);
    return header.kind == VEX_MP_MAP ? header.count : 0;
}

/* Length of a value that its first byte tells alone; 0: not so. */
static size_t length_by_tag(uint8_t tag) {
    if (tag <= 0x7f || tag >= 0xe0) {
        return 1;
    }
    if (tag >= 0xa0 && tag <= 0xbf) {
        return 1 + (size_t)(tag & 0x1f);
    }
    switch (tag) {
    case 0xc0: /* nil, bools */
    case 0xc2:
    case 0xc3:
        return 1;
    case 0xcc:
    case 0xd0:
        return 2;
    case 0xcd:
    case 0xd1:
        return 3;
    case 0xca:
    case 0xce:
    case 0xd2:
        return 5;
    case 0xcb:
    case 0xcf:
    case 0xd3:
        return 9;
    default:
        return 0;
    }
}

/* Skip the next value; mostly a step of known length. */
static void skip_value(vex_mp_reader *reader) {
    vex_cursor *in = &reader->in;
    size_t left = in->len - in->pos, len = left ? length_by_tag(in->data[in->pos]) : 0;
    if (len == 0 || len > left || in->bad) {
        vex_mp_skip(reader);
    } else {
        in->pos += len;
    }
}

/* The next key: its bytes, or NULL when it is no string.  Most are short strings, whose first
 * byte is 0xa0 + length. */
static const uint8_t *read_key(vex_mp_reader *reader, size_t *len) {
    const vex_mp_reader start = *reader;
    const uint8_t *at = start.in.data + start.in.pos;
    size_t left = start.in.len - start.in.pos;
    if (left > 0 && *at >= 0xa0 && *at <= 0xbf && (size_t)(*at & 0x1f) < left && !start.in.bad) {
        *len = *at & 0x1f;
        reader->in.pos += 1 + *len;
        return at + 1;
    }
    vex_mp_value key = vex_mp_next(reader);
    if (key.kind == VEX_MP_STR) {
        *len = key.len;
        return key.bytes;
    }
    *reader = start;
    vex_mp_skip(reader);
    return NULL;
}

bool vex_metadata_next(vex_mp_reader *reader, const uint8_t **key, size_t *key_len,
                       vex_value *value) {
    *key = read_key(reader, key_len);
    *value = vex_value_read(reader);
    return !vex_mp_bad(reader);
}

/* This is what a filter does for each record in memory: other keys' values are only skipped. */
vex_value vex_metadata_find(const uint8_t *map, size_t map_len, const uint8_t *key,
                            size_t key_len) {
    vex_mp_reader reader;
    uint32_t n = vex_metadata_start(&reader, map, map_len);
    for (uint32_t i = 0; i < n && !vex_mp_bad(&reader); i++) {
        size_t len = 0;
        const uint8_t *name = read_key(&reader, &len);
        if (name == NULL || len != key_len || memcmp(name, key, len) != 0) {
            skip_value(&reader);
            continue;
        }
        vex_value value = vex_value_read(&reader);
        if (value.type != VEX_VALUE_ABSENT) {
            return value;
        }
    }
    return (vex_value){.type = VEX_VALUE_ABSENT};
}
