/*
 * columns_match.c - evaluating a leaf on a metadata column (layout in columns.h).
 *
 * For every type that a column has, the leaf becomes a test of codes (code_test.h):
 *   comparison   codes have the order of their values, so the codes that pass are a range (or all
 *                others, for NE); its ends are found by bisection with vex_value_order's kin,
 *                which keeps one definition of the order
 *   membership   the operands' codes
 *   lists, text  the leaf's answer for every dictionary entry, as a bitmap
 * A leaf that does not look at the type's values (another type's operand, a list operator on a
 * scalar) has one answer for all of them, that for any one.
 * Then blocks of 64 entries are tested, one type after the other.
 */
#include "filter/code_test.h"
#include "filter/columns_format.h"

#include "base/bits.h"

#include "base/poison.h"

#define N_TYPES (VEX_VALUE_SPARSE + 1)

/* A leaf on its way over one column. */
typedef struct evaluation {
    const vex_columns *columns;
    const vex_column *column;
    const vex_expr *leaf;
    uint32_t used; /* bit t: entries of type t occur, tests[t] is made */
    vex_code_test tests[N_TYPES];
} evaluation;

/* ---- values of codes ---- */

static vex_status dictionary_entry(const evaluation *e, uint64_t code, vex_value *out) {
    return vex_column_text(e->columns, e->column, code, out);
}

/* `code` is below dict_count for strings. */
static vex_status value_of(const evaluation *e, vex_value_type type, uint64_t code,
                           vex_value *out) {
    *out = (vex_value){.type = type};
    switch (type) {
    case VEX_VALUE_BOOL:
        out->boolean = code != 0;
        return VEX_OK;
    case VEX_VALUE_INT:
        out->integer = (int64_t)(code + (uint64_t)e->column->base);
        return VEX_OK;
    case VEX_VALUE_FLOAT:
        out->number = vex_float_of_code(code);
        return VEX_OK;
    default:
        return dictionary_entry(e, code, out);
    }
}

/* Codes that values of an ordered type can have, NaN aside: it is in no range. */
typedef struct code_domain {
    vex_value_type type;
    uint64_t first, last;
} code_domain;

static code_domain domain_of(const evaluation *e, vex_value_type type) {
    const vex_column *column = e->column;
    if (type == VEX_VALUE_FLOAT) {
        return (code_domain){type, vex_float_code(-__builtin_inf()),
                             vex_float_code(__builtin_inf())};
    }
    if (type == VEX_VALUE_STRING) {
        return (code_domain){type, 0, column->dict_count - 1};
    }
    uint64_t fits = column->width == 0 ? 0 : UINT64_MAX >> (64 - 8 * column->width);
    uint64_t to_maximum = (uint64_t)INT64_MAX - (uint64_t)column->base;
    return (code_domain){type, 0, fits < to_maximum ? fits : to_maximum};
}

/* ---- comparisons: ranges of codes ---- */

/* A place between codes; past the last one when there is none. */
typedef struct code_bound {
    bool exists;
    uint64_t code;
} code_bound;

static vex_status reaches(const evaluation *e, vex_value_type type, uint64_t code,
                          const vex_value *operand, bool beyond, bool *out) {
    vex_value value;
    VEX_TRY(value_of(e, type, code, &value));
    int order = vex_value_is_number(operand) ? vex_number_compare(&value, operand)
                                             : vex_value_order(&value, operand);
    *out = beyond ? order > 0 : order >= 0;
    return VEX_OK;
}

/* The first code of the domain whose value is >= the operand, or > when `beyond`.  The steps
 * grow from the domain's begin, so a bound that is near is found soon. */
static vex_status find_bound(const evaluation *e, code_domain domain, const vex_value *operand,
                             bool beyond, code_bound *out) {
    uint64_t low = domain.first, high = domain.last;
    bool found = false;
    for (uint64_t step = 1; !found && low < high; step *= 2) {
        uint64_t probe = step <= high - low ? low + step - 1 : high;
        VEX_TRY(reaches(e, domain.type, probe, operand, beyond, &found));
        if (found) {
            high = probe;
        } else if (probe == high) {
            *out = (code_bound){false, 0};
            return VEX_OK;
        } else {
            low = probe + 1;
        }
    }
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        bool reached = false;
        VEX_TRY(reaches(e, domain.type, middle, operand, beyond, &reached));
        if (reached) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    if (!found) {
        VEX_TRY(reaches(e, domain.type, low, operand, beyond, &found));
    }
    *out = (code_bound){found, low};
    return VEX_OK;
}

static vex_status make_range(const evaluation *e, vex_value_type type, vex_code_test *test) {
    const code_domain domain = domain_of(e, type);
    const uint32_t op = e->leaf->op;
    const vex_value *operand = &e->leaf->operand;
    code_bound from = {true, domain.first}, until = {false, 0};
    if (op != VEX_F_LT && op != VEX_F_LE) {
        VEX_TRY(find_bound(e, domain, operand, op == VEX_F_GT, &from));
    }
    if (op != VEX_F_GT && op != VEX_F_GE) {
        VEX_TRY(find_bound(e, domain, operand, op != VEX_F_LT, &until));
    }
    bool empty = !from.exists || (until.exists && until.code <= from.code);
    *test = empty ? vex_code_test_all(false)
                  : vex_code_test_range(from.code, until.exists ? until.code - 1 : domain.last);
    test->negated = op == VEX_F_NE;
    return VEX_OK;
}

/* ---- membership: sets of codes ---- */

/* Append the codes that are equal to a number: none, one, or two (zero has two as a float). */
static size_t append_codes(const evaluation *e, code_domain domain, const vex_value *number,
                           uint64_t *codes) {
    vex_value same;
    if (!vex_number_as(number, domain.type, &same)) {
        return 0;
    }
    if (domain.type == VEX_VALUE_FLOAT) {
        codes[0] = vex_float_code(same.number);
        codes[1] = vex_float_code(-same.number);
        return same.number == 0 ? 2 : 1;
    }
    codes[0] = (uint64_t)same.integer - (uint64_t)e->column->base;
    return codes[0] <= domain.last; /* an int below the base wraps to beyond the last code */
}

static vex_status make_number_set(const evaluation *e, vex_value_type type, vex_code_test *test) {
    const vex_expr *leaf = e->leaf;
    const code_domain domain = domain_of(e, type);
    size_t n = 0;
    uint64_t *codes = vex_calloc((size_t)leaf->n_operands * 2 + 1, sizeof *codes);
    if (codes == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to evaluate a filter");
    }
    for (uint32_t i = 0; i < leaf->n_operands; i++) {
        if (vex_value_is_number(&leaf->operands[i])) {
            n += append_codes(e, domain, &leaf->operands[i], codes + n);
        }
    }
    vex_status status = vex_code_test_set(codes, n, test);
    test->negated = leaf->op == VEX_F_NIN;
    vex_free(codes);
    return status;
}

/* Operands and dictionary are both sorted: each operand is looked for after the one before. */
static vex_status find_strings(const evaluation *e, uint64_t *codes, size_t *n) {
    const vex_expr *leaf = e->leaf;
    code_domain domain = domain_of(e, VEX_VALUE_STRING);
    for (uint32_t i = 0; i < leaf->n_operands; i++) {
        const vex_value *operand = &leaf->operands[i];
        code_bound at;
        vex_value value;
        if (operand->type != VEX_VALUE_STRING) {
            continue;
        }
        VEX_TRY(find_bound(e, domain, operand, false, &at));
        if (!at.exists) {
            break;
        }
        VEX_TRY(value_of(e, VEX_VALUE_STRING, at.code, &value));
        if (vex_value_order(&value, operand) == 0) {
            codes[(*n)++] = at.code;
        }
        domain.first = at.code;
    }
    return VEX_OK;
}

static vex_status make_string_set(const evaluation *e, vex_code_test *test) {
    const vex_expr *leaf = e->leaf;
    size_t n = 0;
    uint64_t *codes = vex_calloc((size_t)leaf->n_operands + 1, sizeof *codes);
    if (codes == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to evaluate a filter");
    }
    vex_status status = find_strings(e, codes, &n);
    if (status == VEX_OK) {
        status = vex_code_test_set(codes, n, test);
        test->negated = leaf->op == VEX_F_NIN;
    }
    vex_free(codes);
    return status;
}

/* ---- lists, and everything else: by the leaf's own answers ---- */

static vex_status make_dictionary_bitmap(const evaluation *e, vex_code_test *test) {
    VEX_TRY(vex_code_test_bitmap(e->column->dict_count, test));
    for (uint32_t i = 0; i < e->column->dict_count; i++) {
        vex_value value;
        VEX_TRY(dictionary_entry(e, i, &value));
        if (vex_leaf_matches(e->leaf, &value)) {
            vex_bit_set(test->table, i);
        }
    }
    return vex_code_test_simplify(test);
}

/* A list that holds a string has its bytes in the dictionary: only lists where they are found are
 * gone through. */
static vex_status make_string_in_list(const evaluation *e, vex_code_test *test) {
    const vex_column *column = e->column;
    const vex_value *operand = &e->leaf->operand;
    const bool negated = e->leaf->op == VEX_F_NOT_CONTAINS;
    const uint8_t *offsets = column->dictionary;
    const uint8_t *bytes = offsets + ((size_t)column->dict_count + 1) * 4;
    size_t len = vex_get32(offsets + (size_t)column->dict_count * 4), from = 0;
    if (len > column->dict_room) {
        return vex_column_damaged(e->columns, column, offsets);
    }
    VEX_TRY(vex_code_test_bitmap(column->dict_count, test));
    test->negated = negated;
    for (uint32_t i = 0; i < column->dict_count; i++) {
        size_t hit = vex_text_find(bytes, len, from, operand->bytes, operand->len);
        if (hit == SIZE_MAX) {
            break;
        }
        while (i + 1 < column->dict_count && vex_get32(offsets + ((size_t)i + 1) * 4) <= hit) {
            i++;
        }
        vex_value value;
        VEX_TRY(dictionary_entry(e, i, &value));
        if (vex_leaf_matches(e->leaf, &value) != negated) {
            vex_bit_set(test->table, i);
        }
        from = vex_get32(offsets + ((size_t)i + 1) * 4);
        if (from > len) {
            return vex_column_damaged(e->columns, column, offsets);
        }
    }
    return vex_code_test_simplify(test);
}

static vex_code_test make_bool(const vex_expr *leaf) {
    const vex_value no = {.type = VEX_VALUE_BOOL}, yes = {.type = VEX_VALUE_BOOL, .boolean = true};
    bool at_no = vex_leaf_matches(leaf, &no), at_yes = vex_leaf_matches(leaf, &yes);
    return at_no == at_yes ? vex_code_test_all(at_no) : vex_code_test_range(at_yes, at_yes);
}

static vex_status make_test(const evaluation *e, vex_value_type type, vex_code_test *test) {
    const vex_expr *leaf = e->leaf;
    const vex_value any = {.type = type};
    bool is_number = vex_value_is_number(&any), is_string = type == VEX_VALUE_STRING;
    bool is_list = type == VEX_VALUE_LIST;
    switch (leaf->op) {
    case VEX_F_IN:
    case VEX_F_NIN:
        if (is_number) {
            return make_number_set(e, type, test);
        }
        if (is_string) {
            return leaf->n_operands < e->column->dict_count ? make_string_set(e, test)
                                                            : make_dictionary_bitmap(e, test);
        }
        break;
    case VEX_F_CONTAINS:
    case VEX_F_NOT_CONTAINS:
        if (is_list) {
            return leaf->operand.type == VEX_VALUE_STRING && leaf->operand.len > 0
                       ? make_string_in_list(e, test)
                       : make_dictionary_bitmap(e, test);
        }
        break;
    case VEX_F_EXISTS:
    case VEX_F_NOT_EXISTS:
        break;
    default:
        if (is_string && leaf->op >= VEX_F_TEXT_CONTAINS) {
            return make_dictionary_bitmap(e, test);
        }
        if ((is_number && vex_value_is_number(&leaf->operand)) ||
            (is_string && leaf->operand.type == type && e->column->dict_count > 0)) {
            return make_range(e, type, test);
        }
        break;
    }
    *test =
        type == VEX_VALUE_BOOL ? make_bool(leaf) : vex_code_test_all(vex_leaf_matches(leaf, &any));
    return VEX_OK;
}

/* ---- entries ---- */

/* Which of the candidates match?  64 entries; `tags` NULL when they are uniform. */
static uint64_t match_entries(const evaluation *e, const uint8_t *codes, const uint8_t *tags,
                              uint64_t candidates) {
    const vex_column *column = e->column;
    if (tags == NULL) {
        return vex_code_test_block(&e->tests[column->uniform], codes, column->width, candidates);
    }
    uint64_t hits = 0;
    for (unsigned type = 0; type < N_TYPES && candidates != 0; type++) {
        if (e->used >> type & 1u) {
            const vex_code_test is_type = vex_code_test_range(type, type);
            uint64_t same = vex_code_test_block(&is_type, tags, 1, candidates);
            hits |= same ? vex_code_test_block(&e->tests[type], codes, column->width, same) : 0;
            candidates &= ~same;
        }
    }
    return hits;
}

/* The last block is short, but tests look at whole ones. */
static uint64_t match_last_entries(const evaluation *e, const uint8_t *codes, const uint8_t *tags,
                                   size_t n, uint64_t candidates) {
    uint8_t whole_codes[64 * 8] = {0}, whole_tags[64] = {0};
    memcpy(whole_codes, codes, n * e->column->width);
    if (tags != NULL) {
        memcpy(whole_tags, tags, n);
    }
    return match_entries(e, whole_codes, tags ? whole_tags : NULL, candidates);
}

/* Which of the candidates among entries [64 * block, ...) match? */
static uint64_t match_block(const evaluation *e, size_t block, uint64_t candidates) {
    const vex_column *column = e->column;
    const uint8_t *codes = column->codes + block * 64 * column->width;
    const uint8_t *tags = column->tags ? column->tags + block * 64 : NULL;
    const size_t n = column->n_entries - block * 64;
    return n < 64 ? match_last_entries(e, codes, tags, n, candidates)
                  : match_entries(e, codes, tags, candidates);
}

/* A value that the column does not have costs no look at the rows. */
static void match_dense(const evaluation *e, uint64_t *matches) {
    const vex_code_test *only = e->column->tags ? NULL : &e->tests[e->column->uniform];
    if (only != NULL && only->kind == VEX_CODES_NONE) {
        if (!only->negated) {
            memset(matches, 0, vex_bit_words(e->columns->n_rows) * sizeof *matches);
        }
        return;
    }
    for (size_t at = 0; at < vex_bit_words(e->columns->n_rows); at++) {
        if (matches[at] != 0) {
            matches[at] = match_block(e, at, matches[at]);
        }
    }
}

/* Rows without an entry have the answer for absence.  Where that is yes, entries that do not
 * match are cleared; where it is no, entries that match are all that remains. */
static vex_status match_sparse(const evaluation *e, bool absent, uint64_t *matches) {
    const vex_column *column = e->column;
    uint32_t n_rows = e->columns->n_rows;
    size_t bytes = vex_bit_words(n_rows) * sizeof *matches;
    uint64_t *kept = vex_calloc(vex_bit_words(n_rows) + 1, sizeof *kept);
    vex_status status = VEX_OK;
    if (kept == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to evaluate a filter");
    }
    if (absent) {
        memcpy(kept, matches, bytes);
    }
    for (size_t block = 0; block < vex_bit_words(column->n_entries); block++) {
        size_t n = column->n_entries - block * 64;
        uint64_t entries = n < 64 ? ((uint64_t)1 << n) - 1 : UINT64_MAX;
        uint64_t hits = match_block(e, block, entries);
        for (uint64_t word = absent ? entries & ~hits : hits; word != 0; word &= word - 1) {
            const uint8_t *place = column->rows + (block * 64 + (size_t)__builtin_ctzll(word)) * 4;
            uint32_t row = vex_get32(place);
            if (row >= n_rows) {
                status = vex_column_damaged(e->columns, column, place);
                goto done;
            }
            if (absent) {
                vex_bit_clear(kept, row);
            } else if (vex_bit_get(matches, row)) {
                vex_bit_set(kept, row);
            }
        }
    }
    memcpy(matches, kept, bytes);
done:
    vex_free(kept);
    return status;
}

static bool any_bit(const uint64_t *words, size_t n) {
    uint64_t all = 0;
    for (size_t i = 0; i < n && all == 0; i++) {
        all |= words[i];
    }
    return all != 0;
}

vex_status vex_columns_match(const vex_columns *columns, const vex_expr *leaf, uint64_t *matches) {
    const vex_value nothing = {.type = VEX_VALUE_ABSENT};
    const size_t n_words = vex_bit_words(columns->n_rows);
    bool absent = vex_leaf_matches(leaf, &nothing);
    evaluation e = {.columns = columns, .leaf = leaf};
    if (!any_bit(matches, n_words)) {
        return VEX_OK;
    }
    VEX_TRY(vex_columns_find(columns, leaf->key, leaf->key_len, &e.column));
    if (e.column == NULL) {
        if (!absent) {
            memset(matches, 0, n_words * sizeof *matches);
        }
        return VEX_OK;
    }
    vex_status status = VEX_OK;
    e.used = e.column->mask | 1u << VEX_VALUE_ABSENT;
    e.tests[VEX_VALUE_ABSENT] = vex_code_test_all(absent);
    for (unsigned type = VEX_VALUE_BOOL; type < N_TYPES; type++) {
        if (e.used >> type & 1u) {
            VEX_TRY_DONE(status, make_test(&e, (vex_value_type)type, &e.tests[type]));
        }
    }
    if (e.column->rows == NULL) {
        match_dense(&e, matches);
    } else {
        status = match_sparse(&e, absent, matches);
    }
done:
    for (unsigned type = 0; type < N_TYPES; type++) {
        vex_code_test_clear(&e.tests[type]);
    }
    return status;
}
