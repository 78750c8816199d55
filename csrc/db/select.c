/*
 * select.c - from a selection to row places (see select.h).
 *
 * Three ways: everything is a walk in seq order that stops early; ids alone are looked up one
 * by one; a filter is evaluated to bitmaps, whose rows are then put in order.
 */
#include "db/select.h"

#include "base/bits.h"
#include "base/hash.h"
#include "base/msgpack.h"
#include "filter/match.h"

#include "base/poison.h"

void vex_refs_clear(vex_refs *refs) {
    vex_free(refs->rows);
    *refs = (vex_refs){0};
}

static vex_status push(vex_refs *refs, const vex_row_ref *ref) {
    VEX_TRY(vex_grow((void **)&refs->rows, &refs->capacity, refs->n + 1, sizeof *refs->rows));
    refs->rows[refs->n++] = *ref;
    return VEX_OK;
}

static int compare_seq(const void *a, const void *b) {
    uint64_t x = ((const vex_row_ref *)a)->seq, y = ((const vex_row_ref *)b)->seq;
    return x < y ? -1 : x > y;
}

static void sort_by_seq(vex_refs *refs) {
    bool sorted = true;
    for (size_t i = 1; i < refs->n && sorted; i++) {
        sorted = refs->rows[i - 1].seq < refs->rows[i].seq;
    }
    if (!sorted) {
        qsort(refs->rows, refs->n, sizeof *refs->rows, compare_seq);
    }
}

/* Keep rows [offset, offset + limit). */
static void slice(vex_refs *refs, uint64_t offset, int64_t limit) {
    size_t skip = offset < refs->n ? (size_t)offset : refs->n;
    size_t keep = refs->n - skip;
    if (limit >= 0 && (uint64_t)limit < keep) {
        keep = (size_t)limit;
    }
    if (skip > 0 && keep > 0) {
        memmove(refs->rows, refs->rows + skip, keep * sizeof *refs->rows);
    }
    refs->n = keep;
}

static vex_status select_all(const vex_snapshot *snapshot, uint64_t offset, int64_t limit,
                             vex_refs *out) {
    vex_seq_cursor *cursor = NULL;
    vex_row_ref ref;
    uint64_t wanted = limit < 0 ? UINT64_MAX : (uint64_t)limit;
    if (offset >= snapshot->live_rows || limit == 0) {
        return VEX_OK;
    }
    VEX_TRY(vex_seq_cursor_create(snapshot, &cursor));
    vex_status status = VEX_OK;
    (void)vex_seq_cursor_skip(cursor, offset);
    while (status == VEX_OK && out->n < wanted && vex_seq_cursor_next(cursor, &ref)) {
        status = push(out, &ref);
    }
    vex_seq_cursor_destroy(cursor);
    return status;
}

static vex_status select_ids(const vex_snapshot *snapshot, const vex_selection *selection,
                             vex_refs *out) {
    vex_mp_reader reader = vex_mp_reader_make(selection->ids, selection->ids_len);
    vex_mp_value list = vex_mp_next(&reader);
    for (uint32_t i = 0; list.kind == VEX_MP_ARRAY && i < list.count; i++) {
        vex_mp_value id = vex_mp_next(&reader);
        if (id.kind != VEX_MP_STR) {
            list.kind = VEX_MP_BAD;
            break;
        }
        vex_row_ref ref;
        VEX_TRY(
            vex_snapshot_find_id(snapshot, id.bytes, id.len, vex_hash64(id.bytes, id.len), &ref));
        if (ref.found) {
            VEX_TRY(push(out, &ref));
        }
    }
    if (list.kind != VEX_MP_ARRAY || vex_mp_bad(&reader)) {
        return VEX_FAIL(VEX_ERR_INVALID, "ids must be a MessagePack array of strings");
    }
    sort_by_seq(out);
    size_t kept = 0; /* an id may be asked for twice */
    for (size_t i = 0; i < out->n; i++) {
        if (kept == 0 || out->rows[kept - 1].seq != out->rows[i].seq) {
            out->rows[kept++] = out->rows[i];
        }
    }
    out->n = kept;
    return VEX_OK;
}

/* Places of the set bits of one source. */
static vex_status collect(vex_refs *out, const uint64_t *words, uint32_t rows, bool in_memory,
                          uint32_t source, const vex_snapshot *snapshot) {
    for (uint32_t at = 0; words != NULL && at < vex_bit_words(rows); at++) {
        for (uint64_t word = words[at]; word != 0; word &= word - 1) {
            uint32_t row = at * 64 + (uint32_t)__builtin_ctzll(word);
            uint64_t seq =
                in_memory ? vex_memtable_payload(snapshot->mems[source].table, row)->payload.seq
                          : snapshot->pays[source].file->seqs[row];
            VEX_TRY(push(out, &(vex_row_ref){.found = true,
                                             .in_memory = in_memory,
                                             .source = source,
                                             .row = row,
                                             .seq = seq}));
        }
    }
    return VEX_OK;
}

static vex_status select_filtered(const vex_snapshot *snapshot, const vex_selection *selection,
                                  vex_refs *out) {
    vex_matches matches = {0};
    vex_status status = vex_matches_find(snapshot, selection, &matches);
    for (uint32_t i = 0; status == VEX_OK && i < matches.n_pays; i++) {
        status = collect(out, matches.pays[i], snapshot->pays[i].file->rows, false, i, snapshot);
    }
    for (uint32_t i = 0; status == VEX_OK && i < matches.n_mems; i++) {
        status = collect(out, matches.mems[i], snapshot->mems[i].n_payloads, true, i, snapshot);
    }
    vex_matches_clear(&matches);
    if (status == VEX_OK) {
        sort_by_seq(out);
    }
    return status;
}

vex_status vex_select(const vex_snapshot *snapshot, const vex_selection *selection, uint64_t offset,
                      int64_t limit, vex_refs *out) {
    vex_refs found = {0};
    vex_status status;
    if (selection == NULL || (selection->ids == NULL && selection->filter == NULL)) {
        status = select_all(snapshot, offset, limit, &found);
    } else {
        status = selection->filter == NULL ? select_ids(snapshot, selection, &found)
                                           : select_filtered(snapshot, selection, &found);
        if (status == VEX_OK) {
            slice(&found, offset, limit);
        }
    }
    if (status != VEX_OK) {
        vex_refs_clear(&found);
        return status;
    }
    *out = found;
    return VEX_OK;
}

vex_status vex_select_count(const vex_snapshot *snapshot, const vex_selection *selection,
                            uint64_t *out) {
    if (selection == NULL || (selection->ids == NULL && selection->filter == NULL)) {
        *out = snapshot->live_rows;
        return VEX_OK;
    }
    if (selection->filter == NULL) {
        vex_refs refs = {0};
        vex_status status = select_ids(snapshot, selection, &refs);
        *out = refs.n;
        vex_refs_clear(&refs);
        return status;
    }
    vex_matches matches = {0};
    vex_status status = vex_matches_find(snapshot, selection, &matches);
    *out = matches.count;
    vex_matches_clear(&matches);
    return status;
}
