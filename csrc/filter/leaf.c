/*
 * leaf.c - what each filter operator means for one value: the single definition that columns
 * and memtable rows share (see expr.h).
 */
#include "filter/expr.h"

#include "base/poison.h"

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

static bool is_number(const vex_value *value) {
    return value->type == VEX_VALUE_INT || value->type == VEX_VALUE_FLOAT;
}

static bool same_bytes(const vex_value *a, const vex_value *b) {
    return a->len == b->len && (a->len == 0 || memcmp(a->bytes, b->bytes, a->len) == 0);
}

/* Equality of scalars; ints and floats by value. */
static bool equal(const vex_value *a, const vex_value *b) {
    if (is_number(a) && is_number(b)) {
        return vex_number_compare(a, b) == 0;
    }
    if (a->type != b->type) {
        return false;
    }
    return a->type == VEX_VALUE_BOOL     ? a->boolean == b->boolean
           : a->type == VEX_VALUE_STRING ? same_bytes(a, b)
                                         : false;
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

/* Total order of operands as they are sorted: by type, then value. */
static int order_of(const vex_value *a, const vex_value *b) {
    if (a->type != b->type) {
        return a->type < b->type ? -1 : 1;
    }
    if (a->type == VEX_VALUE_BOOL) {
        return (int)a->boolean - (int)b->boolean;
    }
    if (a->type != VEX_VALUE_STRING) {
        return vex_number_compare(a, b);
    }
    size_t shorter = a->len < b->len ? a->len : b->len;
    int order = shorter ? memcmp(a->bytes, b->bytes, shorter) : 0;
    return order != 0 ? order : (a->len < b->len ? -1 : a->len > b->len);
}

static bool is_among(const vex_expr *leaf, const vex_value *value) {
    uint32_t low = 0, high = leaf->n_operands;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = order_of(&leaf->operands[middle], value);
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

/* IN: a number may be given as the other type, so a whole one is looked for in both forms. */
static bool is_in(const vex_expr *leaf, const vex_value *value) {
    if (is_among(leaf, value)) {
        return true;
    }
    vex_value other = *value;
    if (value->type == VEX_VALUE_INT) {
        other.type = VEX_VALUE_FLOAT;
        other.number = (double)value->integer;
    } else if (value->type == VEX_VALUE_FLOAT && value->number >= -9223372036854775808.0 &&
               value->number < 9223372036854775808.0) {
        other.type = VEX_VALUE_INT;
        other.integer = (int64_t)value->number;
    } else {
        return false;
    }
    return vex_number_compare(value, &other) == 0 && is_among(leaf, &other);
}

/* Membership in list metadata: exact element, types do not mix, not even numbers. */
static bool list_contains(const vex_value *list, const vex_value *item) {
    vex_mp_reader reader = vex_mp_reader_make(list->bytes, list->len);
    vex_mp_value header = vex_mp_next(&reader);
    for (uint32_t i = 0; header.kind == VEX_MP_ARRAY && i < header.count; i++) {
        vex_mp_value entry = vex_mp_next(&reader);
        bool same = false;
        switch (entry.kind) {
        case VEX_MP_BOOL:
            same = item->type == VEX_VALUE_BOOL && entry.boolean == item->boolean;
            break;
        case VEX_MP_INT:
            same = item->type == VEX_VALUE_INT && entry.integer == item->integer;
            break;
        case VEX_MP_FLOAT:
            same = item->type == VEX_VALUE_FLOAT && entry.number == item->number;
            break;
        case VEX_MP_STR:
            same = item->type == VEX_VALUE_STRING && entry.len == item->len &&
                   memcmp(entry.bytes, item->bytes, item->len) == 0;
            break;
        default:
            return false;
        }
        if (same) {
            return true;
        }
    }
    return false;
}

bool vex_leaf_matches(const vex_expr *leaf, const vex_value *value) {
    switch (leaf->op) {
    case VEX_F_EQ:
        return equal(value, &leaf->operand);
    case VEX_F_NE:
        return !equal(value, &leaf->operand);
    case VEX_F_GT:
    case VEX_F_GE:
    case VEX_F_LT:
    case VEX_F_LE:
        return is_number(value) && orders(leaf->op, vex_number_compare(value, &leaf->operand));
    case VEX_F_IN:
        return is_in(leaf, value);
    case VEX_F_NIN:
        return !is_in(leaf, value);
    case VEX_F_CONTAINS:
        return value->type == VEX_VALUE_LIST && list_contains(value, &leaf->operand);
    case VEX_F_NOT_CONTAINS:
        return value->type != VEX_VALUE_LIST || !list_contains(value, &leaf->operand);
    default:
        return false;
    }
}

vex_value vex_metadata_find(const uint8_t *map, size_t map_len, const uint8_t *key,
                            size_t key_len) {
    vex_value found = {.type = VEX_VALUE_ABSENT};
    if (map == NULL) {
        return found;
    }
    vex_mp_reader reader = vex_mp_reader_make(map, map_len);
    vex_mp_value header = vex_mp_next(&reader);
    for (uint32_t i = 0; header.kind == VEX_MP_MAP && i < header.count && !vex_mp_bad(&reader);
         i++) {
        vex_mp_value name = vex_mp_next(&reader);
        if (name.kind != VEX_MP_STR || name.len != key_len ||
            memcmp(name.bytes, key, key_len) != 0) {
            vex_mp_skip(&reader);
            continue;
        }
        return vex_value_read(&reader);
    }
    return found;
}

vex_value vex_value_read(vex_mp_reader *reader) {
    vex_value out = {.type = VEX_VALUE_ABSENT};
    if (vex_mp_peek(reader) == VEX_MP_ARRAY) {
        out.bytes = vex_mp_raw(reader, &out.len);
        out.type = out.bytes ? VEX_VALUE_LIST : VEX_VALUE_ABSENT;
        return out;
    }
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
    case VEX_MP_EXT:
        out.type = VEX_VALUE_SPARSE;
        break;
    default:
        break;
    }
    return out;
}

bool vex_text_contains(const uint8_t *text, size_t len, const uint8_t *needle,
                       size_t needle_len) {
    if (needle_len == 0) {
        return true;
    }
    const uint8_t *end = text + len;
    while (len >= needle_len) {
        const uint8_t *hit = memchr(text, needle[0], len - needle_len + 1);
        if (hit == NULL) {
            return false;
        }
        if (memcmp(hit, needle, needle_len) == 0) {
            return true;
        }
        text = hit + 1;
        len = (size_t)(end - text);
    }
    return false;
}
