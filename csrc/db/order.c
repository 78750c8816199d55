/*
 * order.c - vex_get_ordered: selected records in the order of what they have under a metadata key.
 *
 * The first so many of all selected rows are kept, in a heap, and sorted at the end; values come from
 * columns where a file has them.  A column that turns out to be damaged on the way has all of it begin
 * anew: from then on that file is asked by its rows.
 */
#include "base/bits.h"
#include "db/db.h"
#include "db/result.h"
#include "filter/match.h"

#include "base/poison.h"

#define ARENA_CHUNK ((size_t)64 << 10)

typedef struct placed_row {
    vex_value value; /* a scalar, or ABSENT                                             */
    vex_row_ref ref;
} placed_row;

typedef struct ordering {
    const vex_snapshot *snapshot;
    const vex_order *order;
    vex_snapshot_reader *reader;
    placed_row after;      /* only what comes after it, if `has_after`                        */
    bool has_after, again; /* again: a column was found damaged                               */
    placed_row *rows;      /* a heap: the last one is at the top                              */
    size_t n, capacity, most;
    vex_arena *arena; /* strings of rows that were read                                  */
} ordering;

/* ---- order ---- */

/* Numbers that are equal are ties, whatever their types. */
static int compare_values(const vex_value *a, const vex_value *b) {
    return vex_value_is_number(a) && vex_value_is_number(b) ? vex_number_compare(a, b)
                                                            : vex_value_order(a, b);
}

/* Records without a value come last, whichever the direction, and ties are by insertion. */
static int compare(const ordering *o, const placed_row *a, const placed_row *b) {
    const bool a_has = a->value.type != VEX_VALUE_ABSENT, b_has = b->value.type != VEX_VALUE_ABSENT;
    const int by_seq = a->ref.seq < b->ref.seq ? -1 : a->ref.seq > b->ref.seq;
    if (o->order->key == NULL) {
        return o->order->descending ? -by_seq : by_seq;
    }
    if (a_has != b_has) {
        return a_has ? -1 : 1;
    }
    const int by_value = a_has ? compare_values(&a->value, &b->value) : 0;
    return by_value == 0 ? by_seq : o->order->descending ? -by_value : by_value;
}

static void swap(ordering *o, size_t i, size_t j) {
    const placed_row row = o->rows[i];
    o->rows[i] = o->rows[j];
    o->rows[j] = row;
}

static void sift_down(ordering *o, size_t at, size_t n) {
    for (;;) {
        size_t last = at;
        for (size_t child = 2 * at + 1; child < n && child <= 2 * at + 2; child++) {
            last = compare(o, &o->rows[last], &o->rows[child]) < 0 ? child : last;
        }
        if (last == at) {
            return;
        }
        swap(o, at, last);
        at = last;
    }
}

static void make_heap(ordering *o) {
    for (size_t at = o->n / 2; at-- > 0;) {
        sift_down(o, at, o->n);
    }
}

/* Merge neighbouring runs of `width` rows into `to`. */
static void merge_runs(const ordering *o, const placed_row *from, size_t width, placed_row *to) {
    for (size_t start = 0; start < o->n; start += 2 * width) {
        const size_t left = o->n - start;
        size_t i = start, j = start + (width < left ? width : left);
        const size_t middle = j, end = start + (2 * width < left ? 2 * width : left);
        for (size_t at = start; at < end; at++) {
            const bool first = j == end || (i < middle && compare(o, &from[i], &from[j]) < 0);
            to[at] = first ? from[i++] : from[j++];
        }
    }
}

static vex_status sort(ordering *o) {
    if (o->n < 2) {
        return VEX_OK;
    }
    placed_row *room = vex_calloc(o->n, sizeof *room);
    if (room == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to put %zu records in order", o->n);
    }
    for (size_t width = 1; width < o->n; width *= 2) {
        placed_row *sorted = room;
        merge_runs(o, o->rows, width, sorted);
        room = o->rows;
        o->rows = sorted;
    }
    vex_free(room);
    return VEX_OK;
}

/* `kept`: the value's bytes stay where they are for as long as the snapshot. */
static vex_status offer(ordering *o, placed_row row, bool kept) {
    const bool full = o->n == o->most;
    if (row.value.type > VEX_VALUE_STRING ||
        (row.value.type == VEX_VALUE_FLOAT && row.value.number != row.value.number)) {
        row.value = (vex_value){.type = VEX_VALUE_ABSENT}; /* lists have no order; NaN is refused */
    }
    if ((o->has_after && compare(o, &row, &o->after) <= 0) || o->most == 0 ||
        (full && compare(o, &row, &o->rows[0]) >= 0)) {
        return VEX_OK;
    }
    if (row.value.type == VEX_VALUE_STRING && !kept) {
        uint8_t *copy = vex_arena_alloc(o->arena, row.value.len + 1, 1);
        if (copy == NULL) {
            return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to put records in order");
        }
        memcpy(copy, row.value.bytes, row.value.len);
        row.value.bytes = copy;
    }
    if (full) {
        o->rows[0] = row;
        sift_down(o, 0, o->n);
        return VEX_OK;
    }
    VEX_TRY(vex_grow((void **)&o->rows, &o->capacity, o->n + 1, sizeof *o->rows));
    o->rows[o->n++] = row;
    if (o->n == o->most) {
        make_heap(o);
    }
    return VEX_OK;
}

/* ---- rows ---- */

static vex_status value_of_row(ordering *o, const vex_row_ref *ref, vex_value *out) {
    vex_payload row;
    VEX_TRY(vex_snapshot_read_payload(o->reader, ref, VEX_PAYLOAD_METADATA, &row));
    *out = vex_metadata_find(row.metadata, row.metadata_len, o->order->key, o->order->key_len);
    return VEX_OK;
}

static uint64_t seq_of(const ordering *o, const vex_row_ref *ref) {
    return ref->in_memory
               ? vex_memtable_payload(o->snapshot->mems[ref->source].table, ref->row)->payload.seq
               : o->snapshot->pays[ref->source].file->seqs[ref->row];
}

/* `column` NULL: by the rows. */
static vex_status offer_source(ordering *o, vex_row_ref ref, const uint64_t *words, uint32_t n_rows,
                               vex_column_cursor *column) {
    for (uint32_t at = 0; words != NULL && at < vex_bit_words(n_rows); at++) {
        for (uint64_t word = words[at]; word != 0; word &= word - 1) {
            placed_row row = {.ref = ref};
            row.ref.row = at * 64 + (uint32_t)__builtin_ctzll(word);
            row.ref.seq = seq_of(o, &row.ref);
            if (column != NULL) {
                vex_status status = vex_column_cursor_value(column, row.ref.row, &row.value);
                o->again = status == VEX_ERR_CORRUPT;
                VEX_TRY(status);
            } else if (o->order->key != NULL) {
                VEX_TRY(value_of_row(o, &row.ref, &row.value));
            }
            VEX_TRY(offer(o, row, column != NULL));
        }
    }
    return VEX_OK;
}

static vex_status offer_file(ordering *o, uint32_t source, const uint64_t *words) {
    const vex_payfile *file = o->snapshot->pays[source].file;
    const vex_columns *columns = o->order->key ? vex_columns_of(file) : NULL;
    const vex_row_ref ref = {.found = true, .source = source};
    vex_column_cursor cursor;
    if (columns != NULL) {
        vex_status status =
            vex_column_cursor_open(columns, o->order->key, o->order->key_len, &cursor);
        if (status != VEX_ERR_CORRUPT) {
            return status == VEX_OK ? offer_source(o, ref, words, file->rows, &cursor) : status;
        }
    }
    return offer_source(o, ref, words, file->rows, NULL);
}

static vex_status offer_all(ordering *o, const vex_matches *matches) {
    vex_status status = VEX_OK;
    do {
        o->n = 0;
        o->again = false;
        for (uint32_t i = 0; i < matches->n_pays && status == VEX_OK; i++) {
            status = offer_file(o, i, matches->pays[i]);
        }
        for (uint32_t i = 0; i < matches->n_mems && status == VEX_OK; i++) {
            const vex_row_ref ref = {.found = true, .in_memory = true, .source = i};
            status = offer_source(o, ref, matches->mems[i], o->snapshot->mems[i].n_payloads, NULL);
        }
        status = o->again ? VEX_OK : status;
    } while (o->again);
    return status;
}

/* ---- where an earlier call ended ---- */

static vex_status read_after(ordering *o) {
    if (o->order->after == NULL) {
        return VEX_OK;
    }
    vex_mp_reader reader = vex_mp_reader_make(o->order->after, o->order->after_len);
    const vex_mp_value list = vex_mp_next(&reader);
    o->after.value = vex_value_read(&reader);
    const vex_mp_value seq = vex_mp_next(&reader);
    if (list.kind != VEX_MP_ARRAY || list.count != 2 || o->after.value.type > VEX_VALUE_STRING ||
        seq.kind != VEX_MP_INT || seq.integer < 0 || !vex_mp_at_end(&reader) ||
        (o->after.value.type == VEX_VALUE_FLOAT &&
         o->after.value.number != o->after.value.number)) {
        return VEX_FAIL(VEX_ERR_INVALID, "`after` is not what an earlier call gave");
    }
    o->after.ref.seq = (uint64_t)seq.integer;
    o->has_after = true;
    return VEX_OK;
}

static vex_status write_last(const ordering *o, vex_buf *out) {
    const placed_row *last = &o->rows[o->n - 1];
    VEX_TRY(vex_mp_put_array(out, 2));
    VEX_TRY(vex_value_write(out, &last->value));
    return vex_mp_put_uint(out, last->ref.seq);
}

/* ---- the call ---- */

static vex_status select_rows(ordering *o, const vex_selection *selection) {
    static const vex_selection everything;
    vex_matches matches = {0};
    VEX_TRY(vex_matches_find(o->snapshot, selection ? selection : &everything, &matches));
    vex_status status = vex_snapshot_reader_create(o->snapshot, &o->reader);
    if (status == VEX_OK) {
        status = vex_arena_create(&o->arena, ARENA_CHUNK);
    }
    if (status == VEX_OK) {
        status = offer_all(o, &matches);
    }
    vex_matches_clear(&matches);
    return status == VEX_OK ? sort(o) : status;
}

static vex_status build(const ordering *o, size_t skip, uint32_t include, vex_result **out,
                        vex_buf *last) {
    const size_t n = o->n > skip ? o->n - skip : 0;
    vex_result_builder builder;
    vex_status status = vex_result_builder_init(&builder, o->snapshot, include, n, false);
    for (size_t i = 0; i < n && status == VEX_OK; i++) {
        status = vex_result_builder_add(&builder, &o->rows[skip + i].ref, NULL, 0);
    }
    if (status == VEX_OK && n > 0) {
        status = write_last(o, last);
    }
    if (status == VEX_OK) {
        status = vex_result_builder_finish(&builder, &builder.n_rows, 1, out);
    }
    vex_result_builder_clear(&builder);
    return status;
}

vex_status vex_get_ordered(vex_collection *collection, const vex_selection *selection,
                           const vex_order *order, uint64_t offset, int64_t limit, uint32_t include,
                           vex_result **out, uint8_t **last, size_t *last_len) {
    vex_snapshot *snapshot = NULL;
    vex_buf end = {0};
    VEX_TRY(vex_read_begin(collection, &snapshot));
    ordering o = {.snapshot = snapshot, .order = order, .most = SIZE_MAX};
    const size_t skip = offset < SIZE_MAX / 2 ? (size_t)offset : SIZE_MAX / 2;
    if (limit >= 0 && (uint64_t)limit < SIZE_MAX / 2) {
        o.most = limit == 0 ? 0 : skip + (size_t)limit;
    }
    vex_status status = read_after(&o);
    if (status == VEX_OK) {
        status = select_rows(&o, selection);
    }
    if (status == VEX_OK) {
        status = build(&o, skip, include, out, &end);
    }
    vex_snapshot_reader_destroy(o.reader);
    vex_arena_destroy(o.arena);
    vex_free(o.rows);
    status = vex_read_end(collection, snapshot, status);
    if (status != VEX_OK) {
        vex_buf_clear(&end);
        return status;
    }
    *last = end.data;
    *last_len = end.len;
    return VEX_OK;
}
