/*
 * snapshot_cursor.c - all live payload rows of a snapshot in seq order (snapshot.h).
 *
 * A merge over runs that are each in order, by a heap of their current rows.  A payload file is
 * one run.  A memtable's rows are mostly in order as they lie: those whose seq is not below that
 * of all rows before make one run; updates of older records, the others, are sorted into another.
 */
#include "store/snapshot.h"

#include "store/section.h"

#include "base/poison.h"

typedef struct sorted_row {
    uint64_t seq;
    uint32_t row;
} sorted_row;

typedef struct run {
    bool in_memory;
    uint32_t source;    /* in pays or mems                                                      */
    uint32_t next, end; /* positions: rows, or places in `sorted`                               */
    sorted_row *sorted; /* NULL: rows as they lie                                               */
    uint64_t highest;   /* memtables: seq of all rows passed is at most this                    */
    uint64_t seq;       /* of the current row                                                   */
    uint32_t row;
} run;

struct vex_seq_cursor {
    const vex_snapshot *snapshot;
    run *runs;
    uint32_t n_runs;
    run **heap; /* runs that have a current row; the least seq first                    */
    uint32_t n_heap;
};

/* ---- runs ---- */

static bool advance_file(const vex_snapshot *snapshot, run *r) {
    const vex_pay_source *source = &snapshot->pays[r->source];
    while (r->next < r->end && vex_tombs_dead(source->tombs, r->next)) {
        r->next++;
    }
    if (r->next == r->end) {
        return false;
    }
    r->row = r->next++;
    r->seq = source->file->seqs[r->row];
    return true;
}

static bool advance_memory(const vex_snapshot *snapshot, run *r) {
    const vex_memtable *table = snapshot->mems[r->source].table;
    while (r->next < r->end) {
        const vex_mem_payload *payload = vex_memtable_payload(table, r->next);
        uint32_t row = r->next++;
        if (payload->payload.seq < r->highest) {
            continue;
        }
        r->highest = payload->payload.seq;
        if (vex_mem_payload_live(payload, snapshot->lsn)) {
            r->row = row;
            r->seq = payload->payload.seq;
            return true;
        }
    }
    return false;
}

/* Move to the run's next live row; false at its end. */
static bool advance(const vex_snapshot *snapshot, run *r) {
    if (!r->in_memory) {
        return advance_file(snapshot, r);
    }
    if (r->sorted == NULL) {
        return advance_memory(snapshot, r);
    }
    if (r->next == r->end) {
        return false;
    }
    r->row = r->sorted[r->next].row;
    r->seq = r->sorted[r->next++].seq;
    return true;
}

static int compare_rows(const void *a, const void *b) {
    uint64_t x = ((const sorted_row *)a)->seq, y = ((const sorted_row *)b)->seq;
    return x < y ? -1 : x > y;
}

/* The run of a memtable's live rows that are out of order. */
static vex_status sort_rest(const vex_snapshot *snapshot, run *r) {
    const vex_mem_source *source = &snapshot->mems[r->source];
    uint64_t highest = 0;
    void *sorted = NULL;
    size_t capacity = 0;
    for (uint32_t row = 0; row < source->n_payloads; row++) {
        const vex_mem_payload *payload = vex_memtable_payload(source->table, row);
        uint64_t seq = payload->payload.seq;
        if (seq >= highest) {
            highest = seq;
        } else if (vex_mem_payload_live(payload, snapshot->lsn)) {
            vex_status status = vex_grow(&sorted, &capacity, r->end + 1, sizeof(sorted_row));
            if (status != VEX_OK) {
                vex_free(sorted);
                return status;
            }
            ((sorted_row *)sorted)[r->end++] = (sorted_row){seq, row};
        }
    }
    r->sorted = sorted;
    if (r->end > 1) {
        qsort(r->sorted, r->end, sizeof *r->sorted, compare_rows);
    }
    return VEX_OK;
}

static vex_status make_runs(vex_seq_cursor *cursor) {
    const vex_snapshot *snapshot = cursor->snapshot;
    for (uint32_t i = 0; i < snapshot->n_pays; i++) {
        cursor->runs[cursor->n_runs++] = (run){.source = i, .end = snapshot->pays[i].file->rows};
    }
    for (uint32_t i = 0; i < snapshot->n_mems; i++) {
        const vex_mem_source *source = &snapshot->mems[i];
        cursor->runs[cursor->n_runs++] =
            (run){.in_memory = true, .source = i, .end = source->n_payloads};
        if (!vex_memtable_in_order(source->table)) {
            run *rest = &cursor->runs[cursor->n_runs];
            *rest = (run){.in_memory = true, .source = i};
            VEX_TRY(sort_rest(snapshot, rest));
            cursor->n_runs += rest->sorted != NULL;
        }
    }
    return VEX_OK;
}

/* ---- heap ---- */

static void sift_down(vex_seq_cursor *cursor, uint32_t at) {
    run *moving = cursor->heap[at];
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child + 1 < cursor->n_heap && cursor->heap[child + 1]->seq < cursor->heap[child]->seq) {
            child++;
        }
        if (child >= cursor->n_heap || cursor->heap[child]->seq >= moving->seq) {
            break;
        }
        cursor->heap[at] = cursor->heap[child];
        at = child;
    }
    cursor->heap[at] = moving;
}

/* The first run moved on, or ended. */
static void replace_first(vex_seq_cursor *cursor, bool ended) {
    if (ended) {
        cursor->heap[0] = cursor->heap[--cursor->n_heap];
    }
    if (cursor->n_heap > 0) {
        sift_down(cursor, 0);
    }
}

/* ---- cursor ---- */

vex_status vex_seq_cursor_create(const vex_snapshot *snapshot, vex_seq_cursor **out) {
    vex_seq_cursor *cursor = vex_calloc(1, sizeof *cursor);
    size_t most = (size_t)snapshot->n_pays + 2 * (size_t)snapshot->n_mems + 1;
    if (cursor == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to walk the records");
    }
    cursor->snapshot = snapshot;
    cursor->runs = vex_calloc(most, sizeof *cursor->runs);
    cursor->heap = vex_calloc(most, sizeof *cursor->heap);
    vex_status status = cursor->runs && cursor->heap
                            ? make_runs(cursor)
                            : VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to walk the records");
    if (status != VEX_OK) {
        vex_seq_cursor_destroy(cursor);
        return status;
    }
    for (uint32_t i = 0; i < cursor->n_runs; i++) {
        if (advance(snapshot, &cursor->runs[i])) {
            cursor->heap[cursor->n_heap++] = &cursor->runs[i];
        }
    }
    for (uint32_t i = cursor->n_heap / 2; i-- > 0;) {
        sift_down(cursor, i);
    }
    *out = cursor;
    return VEX_OK;
}

void vex_seq_cursor_destroy(vex_seq_cursor *cursor) {
    if (cursor == NULL) {
        return;
    }
    for (uint32_t i = 0; i < cursor->n_runs; i++) {
        vex_free(cursor->runs[i].sorted);
    }
    vex_free(cursor->runs);
    vex_free(cursor->heap);
    vex_free(cursor);
}

bool vex_seq_cursor_next(vex_seq_cursor *cursor, vex_row_ref *out) {
    if (cursor->n_heap == 0) {
        return false;
    }
    run *first = cursor->heap[0];
    *out = (vex_row_ref){true, first->in_memory, first->source, first->row, first->seq};
    replace_first(cursor, !advance(cursor->snapshot, first));
    return true;
}

/* Seq before which no run but the first has a row. */
static uint64_t second_seq(const vex_seq_cursor *cursor) {
    uint64_t seq = UINT64_MAX;
    for (uint32_t i = 1; i < 3 && i < cursor->n_heap; i++) {
        seq = cursor->heap[i]->seq < seq ? cursor->heap[i]->seq : seq;
    }
    return seq;
}

/* Skip up to `most` rows of the first run, a file, that lie before the first row of another run:
 * all of them by counting bits, fewer one by one. */
static uint64_t skip_in_file(vex_seq_cursor *cursor, uint64_t most) {
    run *first = cursor->heap[0];
    const vex_pay_source *source = &cursor->snapshot->pays[first->source];
    uint32_t end = vex_lower_bound_dense(source->file->seqs, first->end, second_seq(cursor));
    uint64_t live = 1; /* at least the current row */
    if (end > first->row) {
        live = end - first->row - vex_tombs_count(source->tombs, first->row, end);
        first->next = live <= most ? end : first->next;
    }
    for (uint64_t i = 0; live > most && i + 1 < most; i++) {
        advance_file(cursor->snapshot, first);
    }
    replace_first(cursor, !advance(cursor->snapshot, first));
    return live < most ? live : most;
}

uint64_t vex_seq_cursor_skip(vex_seq_cursor *cursor, uint64_t n) {
    uint64_t skipped = 0;
    while (skipped < n && cursor->n_heap > 0) {
        vex_row_ref unused;
        skipped += cursor->heap[0]->in_memory ? vex_seq_cursor_next(cursor, &unused)
                                              : skip_in_file(cursor, n - skipped);
    }
    return skipped;
}
