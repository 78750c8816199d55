/*
 * columns_tally.c - counting a column's values (layout in columns.h).
 *
 * Codes are counted, not values: a counter for every code where there are few, which is the case
 * for bools, texts and ints that lie close together, so a value is looked at once, however many
 * rows have it.  Other numbers are counted one by one.
 */
#include "filter/columns_format.h"
#include "filter/tally.h"

#include "base/bits.h"

#include "base/poison.h"

#define COUNTED_INTS ((size_t)1 << 16) /* codes of ints below this have counters */

typedef struct column_counts {
    const vex_columns *columns;
    const vex_column *column;
    uint64_t bools[2], sparse;
    uint32_t *texts; /* strings and lists: dict_count                                   */
    uint32_t *ints;  /* COUNTED_INTS or 0                                               */
    bool others;     /* there are numbers without counters                              */
} column_counts;

/* The entries of the rows of a bitmap, one after the other. */
typedef struct entry_walk {
    const vex_columns *columns;
    const vex_column *column;
    const uint64_t *rows;
    size_t next, word_at;
    uint64_t word;
} entry_walk;

static entry_walk walk_entries(const column_counts *c, const uint64_t *rows) {
    return (entry_walk){.columns = c->columns,
                        .column = c->column,
                        .rows = rows,
                        .word = c->column->rows == NULL && c->columns->n_rows > 0 ? rows[0] : 0};
}

/* *entry SIZE_MAX at the end. */
static vex_status next_entry(entry_walk *walk, size_t *entry) {
    const uint32_t n_rows = walk->columns->n_rows;
    *entry = SIZE_MAX;
    if (walk->column->rows == NULL) {
        while (walk->word == 0 && walk->word_at + 1 < vex_bit_words(n_rows)) {
            walk->word = walk->rows[++walk->word_at];
        }
        if (walk->word != 0) {
            *entry = walk->word_at * 64 + (size_t)__builtin_ctzll(walk->word);
            walk->word &= walk->word - 1;
        }
        return VEX_OK;
    }
    while (walk->next < walk->column->n_entries) {
        const uint8_t *place = walk->column->rows + walk->next * 4;
        const uint32_t row = vex_get32(place);
        if (row >= n_rows) {
            return vex_column_damaged(walk->columns, walk->column, place);
        }
        walk->next++;
        if (vex_bit_get(walk->rows, row)) {
            *entry = walk->next - 1;
            return VEX_OK;
        }
    }
    return VEX_OK;
}

static vex_status count_entry(column_counts *c, size_t entry) {
    const vex_column *column = c->column;
    const uint64_t code = vex_column_code(column, entry);
    switch (vex_column_type(column, entry)) {
    case VEX_VALUE_BOOL:
        c->bools[code != 0]++;
        break;
    case VEX_VALUE_INT:
        if (c->ints != NULL && code < COUNTED_INTS) {
            c->ints[code]++;
            break;
        }
        c->others = true;
        break;
    case VEX_VALUE_FLOAT:
        c->others = true;
        break;
    case VEX_VALUE_STRING:
    case VEX_VALUE_LIST:
        if (code >= column->dict_count) {
            return vex_column_damaged(c->columns, column, column->codes + entry * column->width);
        }
        c->texts[code]++;
        break;
    case VEX_VALUE_SPARSE:
        c->sparse++;
        break;
    default:
        break;
    }
    return VEX_OK;
}

/* Count all, and make sure that every text can be read. */
static vex_status count_all(column_counts *c, const uint64_t *rows) {
    const vex_column *column = c->column;
    size_t entry;
    c->texts = vex_calloc((size_t)column->dict_count + 1, sizeof *c->texts);
    c->ints = column->mask >> VEX_VALUE_INT & 1u ? vex_calloc(COUNTED_INTS, sizeof *c->ints) : NULL;
    if (c->texts == NULL || (c->ints == NULL && column->mask >> VEX_VALUE_INT & 1u)) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to count metadata values");
    }
    entry_walk walk = walk_entries(c, rows);
    for (;;) {
        VEX_TRY(next_entry(&walk, &entry));
        if (entry == SIZE_MAX) {
            break;
        }
        VEX_TRY(count_entry(c, entry));
    }
    for (uint32_t code = 0; code < column->dict_count; code++) {
        vex_value value;
        if (c->texts[code] > 0) {
            VEX_TRY(vex_column_text(c->columns, column, code, &value));
        }
    }
    return VEX_OK;
}

static vex_status add_others(const column_counts *c, const uint64_t *rows, vex_tally *tally) {
    const vex_column *column = c->column;
    entry_walk walk = walk_entries(c, rows);
    for (;;) {
        size_t entry;
        VEX_TRY(next_entry(&walk, &entry));
        if (entry == SIZE_MAX) {
            return VEX_OK;
        }
        const uint64_t code = vex_column_code(column, entry);
        const vex_value_type type = vex_column_type(column, entry);
        vex_value value = vex_column_int(column, code);
        if (type == VEX_VALUE_FLOAT) {
            value = (vex_value){.type = type, .number = vex_float_of_code(code)};
        } else if (type != VEX_VALUE_INT || code < COUNTED_INTS) {
            continue;
        }
        VEX_TRY(vex_tally_add(tally, &value, 1));
    }
}

static vex_status add_counts(const column_counts *c, vex_tally *tally) {
    const vex_value vector = {.type = VEX_VALUE_SPARSE};
    for (unsigned i = 0; i < 2; i++) {
        const vex_value value = {.type = VEX_VALUE_BOOL, .boolean = i != 0};
        if (c->bools[i] > 0) {
            VEX_TRY(vex_tally_add(tally, &value, c->bools[i]));
        }
    }
    for (size_t code = 0; c->ints != NULL && code < COUNTED_INTS; code++) {
        if (c->ints[code] > 0) {
            const vex_value value = vex_column_int(c->column, code);
            VEX_TRY(vex_tally_add(tally, &value, c->ints[code]));
        }
    }
    for (uint32_t code = 0; code < c->column->dict_count; code++) {
        if (c->texts[code] > 0) {
            vex_value value;
            VEX_TRY(vex_column_text(c->columns, c->column, code, &value));
            VEX_TRY(vex_tally_add(tally, &value, c->texts[code]));
        }
    }
    return c->sparse > 0 ? vex_tally_add(tally, &vector, c->sparse) : VEX_OK;
}

vex_status vex_tally_column(vex_tally *tally, const vex_columns *columns, const uint8_t *key,
                            size_t key_len, const uint64_t *rows) {
    column_counts c = {.columns = columns};
    VEX_TRY(vex_columns_find(columns, key, key_len, &c.column));
    if (c.column == NULL) {
        return VEX_OK;
    }
    vex_status status = VEX_OK;
    VEX_TRY_DONE(status, count_all(&c, rows));
    VEX_TRY_DONE(status, add_counts(&c, tally));
    if (c.others) {
        status = add_others(&c, rows, tally);
    }
done:
    vex_free(c.texts);
    vex_free(c.ints);
    return status;
}
