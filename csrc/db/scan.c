/*
 * scan.c - see scan.h.
 */
#include "db/scan.h"

#include "base/bits.h"

#include "base/poison.h"

#define CHECKED_BYTES (256u << 10) /* a piece of a file that is checked and scanned in one go */

#define CODED_K_SHARE 16u
#define BATCHED_QUERIES 4u  /* from here on they are searched side by side (index/near_batch.h) */
#define JUDGED_ROWS 2048u   /* after so many codes have to have ruled out ... */
#define LEFT_SHARE 16u      /* all but one row of so many */
#define ENCODED_QUERIES 16u /* rows in memory have no codes: these many share encoding them, ... */
#define ENCODED_ROWS 512u   /* ... so many at a time */
#define SETTLED_AHEAD 4u    /* rows that are prefetched */

/* Live rows of a vector file as a bitmap; NULL when all are live. */
static vex_status live_words(const vex_vec_source *source, uint64_t **out) {
    *out = NULL;
    if (source->tombs == NULL || source->tombs->dead == 0) {
        return VEX_OK;
    }
    *out = vex_calloc(vex_bit_words(source->file->rows), sizeof **out);
    if (*out == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a row bitmap");
    }
    vex_tombs_live_words(source->tombs, *out);
    return VEX_OK;
}

/* Rows [first, end) of a file. */
static vex_status scan_rows(vex_scan *scan, uint32_t number, const uint64_t *selected,
                            uint32_t first, uint32_t end) {
    const vex_vecfile *file = scan->snapshot->vecs[number].file;
    const vex_row_run run = {.rows = file->vectors + (size_t)first * file->stride,
                             .stride = file->stride,
                             .norm2 = file->norms + first,
                             .norm2_stride = sizeof *file->norms,
                             .seqs = file->seqs + first,
                             .seq_stride = sizeof *file->seqs,
                             .n = end - first,
                             .first_row = first,
                             .source = number,
                             .element = (vex_element)file->element,
                             .selected = selected};
    return vex_flat_scan(scan->kernels, scan->snapshot->space, &run, scan->queries, scan->norm2,
                         scan->n, scan->dimension, scan->top);
}

/* The first scan of a file checks its vectors on the way, piece by piece, so that the scan finds
 * them in the processor's cache and memory is read once. */
static vex_status scan_and_check(vex_scan *scan, uint32_t number, const uint64_t *selected,
                                 uint32_t first) {
    vex_vecfile *file = scan->snapshot->vecs[number].file;
    uint32_t piece = CHECKED_BYTES / file->stride + 1;
    for (uint32_t row = first, end; row < file->rows; row = end) {
        end = file->rows - row > piece ? row + piece : file->rows;
        if (selected == NULL || vex_bits_any(selected, row, end)) {
            VEX_TRY(vex_vecfile_check_rows(file, row, end - row));
            VEX_TRY(scan_rows(scan, number, selected, row, end));
        }
    }
    return VEX_OK;
}

/* A file's rows to be scanned: `selected` as a bitmap, NULL for all.  *owned is to be freed. */
static vex_status select_rows(const vex_scan *scan, uint32_t number, const uint64_t **selected,
                              uint64_t **owned) {
    *owned = NULL;
    if (scan->matches != NULL) {
        *selected = scan->matches->vecs[number];
        return VEX_OK;
    }
    VEX_TRY(live_words(&scan->snapshot->vecs[number], owned));
    *selected = *owned;
    return VEX_OK;
}

static vex_status scan_vectors(vex_scan *scan, uint32_t number, const uint64_t *selected,
                               uint32_t first) {
    const vex_vecfile *file = scan->snapshot->vecs[number].file;
    return vex_lazy_section_is_checked(&file->lazy_vectors)
               ? scan_rows(scan, number, selected, first, file->rows)
               : scan_and_check(scan, number, selected, first);
}

/* ---- by code rows ---- */

/* Do code rows save work?  They are a fraction of the vectors, and integers, but what they leave is
 * read row by row: not where k is a large part of the rows, nor, for single queries, where vectors
 * are as small. */
static bool codes_pay(const vex_scan *scan, uint32_t number) {
    const vex_vecfile *file = scan->snapshot->vecs[number].file;
    uint64_t rows = scan->matches != NULL ? scan->matches->count : scan->snapshot->live_rows;
    if (file->codes == NULL || file->code_form.tag != VEX_CODE_LVQ8 ||
        atomic_load_explicit(&file->codes_damaged, memory_order_relaxed) ||
        scan->top[0].k > file->rows / CODED_K_SHARE) {
        return false;
    }
    return scan->top[0].k <= rows / CODED_K_SHARE &&
           (scan->batch != NULL || file->code_form.stride < file->stride);
}

/* Rows that codes have left over so far, of all queries. */
static uint64_t rows_left(const vex_scan *scan) {
    uint64_t left = 0;
    for (uint32_t q = 0; q < scan->n; q++) {
        left += scan->near[q].n;
    }
    return left;
}

static vex_status near_rows(vex_scan *scan, uint32_t number, const uint64_t *selected,
                            uint32_t first, uint32_t end) {
    const vex_vecfile *file = scan->snapshot->vecs[number].file;
    if (scan->batch != NULL) {
        return vex_near_batch_scan(scan->batch, file->codes, 0, number, first, end, selected);
    }
    for (uint32_t q = 0; q < scan->n; q++) {
        VEX_TRY(vex_near_scan(&scan->near[q], scan->kernels, file->codes, file->code_form.stride,
                              number, first, end, selected));
    }
    return VEX_OK;
}

/* Codes are derived data: where they are damaged, the vectors answer. */
static vex_status scan_codes(vex_scan *scan, uint32_t number, const uint64_t *selected) {
    vex_vecfile *file = scan->snapshot->vecs[number].file;
    bool checked = vex_lazy_section_is_checked(&file->lazy_codes);
    bool whole = checked && scan->n == 1; /* else: check, and let all queries share the cache */
    uint64_t before = rows_left(scan), most = 0;
    uint32_t piece = whole ? file->rows : CHECKED_BYTES / file->code_form.stride + 1;
    for (uint32_t row = 0, end; row < file->rows; row = end) {
        end = file->rows - row > piece ? row + piece : file->rows;
        if (selected != NULL && !vex_bits_any(selected, row, end)) {
            continue;
        }
        if (vex_vecfile_check_codes(file, row, end - row) != VEX_OK) {
            if (!atomic_exchange(&file->codes_damaged, true)) {
                vex_stat_add(VEX_STAT_DAMAGED_PARTS, 1);
            }
            return scan_vectors(scan, number, selected, row);
        }
        VEX_TRY(near_rows(scan, number, selected, row, end));
        most += (uint64_t)(end - row) * scan->n;
        if (scan->batch != NULL && row >= JUDGED_ROWS &&
            rows_left(scan) - before > most / LEFT_SHARE) {
            return scan_vectors(scan, number, selected, end);
        }
    }
    return VEX_OK;
}

/* The vector of a row that codes left, wherever it is. */
static vex_row_run vector_of(const vex_scan *scan, const vex_near_row *row) {
    const vex_snapshot *snapshot = scan->snapshot;
    if (row->source >= snapshot->n_vecs) {
        const vex_mem_source *source = &snapshot->mems[row->source - snapshot->n_vecs];
        const vex_mem_vector *found = vex_memtable_vector(source->table, row->row);
        return (vex_row_run){.rows = found->vector,
                             .stride = scan->dimension * sizeof(float),
                             .norm2 = &found->norm2,
                             .seqs = &found->seq,
                             .element = VEX_F32};
    }
    const vex_vecfile *file = snapshot->vecs[row->source].file;
    return (vex_row_run){.rows = file->vectors + (size_t)row->row * file->stride,
                         .stride = file->stride,
                         .norm2 = file->norms + row->row,
                         .seqs = file->seqs + row->row,
                         .element = (vex_element)file->element};
}

static void prefetch_vector(const vex_scan *scan, const vex_near_row *row) {
    const vex_row_run vector = vector_of(scan, row);
    for (size_t at = 0; at < vector.stride; at += 64) {
        __builtin_prefetch((const uint8_t *)vector.rows + at, 0, 3);
        __asm__ volatile(""); /* GCC 12.1 to 12.4 drop repeated prefetches of an inlined loop */
    }
}

/* The exact distances of what the codes left, nearest first, until no other can be near enough. */
static vex_status settle(vex_scan *scan, uint32_t q) {
    vex_near *near = &scan->near[q];
    vex_topk *top = &scan->top[q];
    const uint32_t space = scan->snapshot->space;
    const float *query = scan->queries + (size_t)q * scan->dimension;
    const bool l2 = space == VEX_SPACE_L2;
    size_t i = 0;
    vex_near_sort(near);
    for (size_t ahead = 0; ahead < near->n && ahead < SETTLED_AHEAD; ahead++) {
        prefetch_vector(scan, &near->rows[ahead]);
    }
    for (; i < near->n && vex_topk_wants(top, near->rows[i].lower); i++) {
        const vex_near_row *row = &near->rows[i];
        const vex_row_run vector = vector_of(scan, row);
        vex_hit hit = {
            .source = row->source, .seq = *(const uint64_t *)vector.seqs, .row = row->row};
        if (i + SETTLED_AHEAD < near->n) {
            prefetch_vector(scan, row + SETTLED_AHEAD);
        }
        if (row->source < scan->snapshot->n_vecs) {
            VEX_TRY(vex_vecfile_check_rows(scan->snapshot->vecs[row->source].file, row->row, 1));
        }
        (l2 ? scan->kernels->l2 : scan->kernels->dot)[vector.element](
            vector.rows, vector.stride, 1, query, scan->dimension, &hit.distance);
        if (!l2) {
            hit.distance = vex_dot_to_distance(space, hit.distance, *(const float *)vector.norm2,
                                               scan->norm2[q]);
        }
        VEX_TRY(vex_topk_push(top, hit));
    }
    vex_stat_add(VEX_STAT_DISTANCES, (int64_t)i);
    return VEX_OK;
}

static vex_status begin_codes(vex_scan *scan) {
    scan->near = scan->room ? scan->room : vex_calloc(scan->n, sizeof *scan->near);
    if (scan->near == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for %u queries", (unsigned)scan->n);
    }
    for (uint32_t q = 0; q < scan->n; q++) {
        vex_near_again(&scan->near[q], scan->snapshot->space,
                       scan->queries + (size_t)q * scan->dimension, scan->dimension,
                       scan->top[q].k);
    }
    if (scan->n < BATCHED_QUERIES) {
        return VEX_OK;
    }
    vex_codes codes;
    VEX_TRY(vex_codes_init(&codes, VEX_CODE_LVQ8, scan->snapshot->space, scan->dimension));
    scan->batch = vex_calloc(1, sizeof *scan->batch);
    if (scan->batch == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for %u queries", (unsigned)scan->n);
    }
    return vex_near_batch_init(scan->batch, scan->near, scan->n, codes.stride);
}

static void end_codes(vex_scan *scan) {
    for (uint32_t q = 0; scan->near != NULL && scan->room == NULL && q < scan->n; q++) {
        vex_near_clear(&scan->near[q]);
    }
    if (scan->batch != NULL) {
        vex_near_batch_clear(scan->batch);
    }
    vex_free(scan->batch);
    if (scan->room == NULL) {
        vex_free(scan->near);
    }
    scan->near = NULL;
    scan->batch = NULL;
}

static bool codes_help(const vex_scan *scan) {
    bool some = scan->n >= BATCHED_QUERIES && scan->snapshot->n_mems > 0;
    for (uint32_t i = 0; i < scan->snapshot->n_vecs && !some; i++) {
        some =
            (scan->skip == NULL || !scan->skip[i]) && scan->snapshot->vecs[i].file->codes != NULL;
    }
    if (!some) {
        return false;
    }
    for (uint32_t q = 0; q < scan->n; q++) {
        if (!vex_near_possible(scan->snapshot->space, scan->queries + (size_t)q * scan->dimension,
                               scan->dimension)) {
            return false;
        }
    }
    return scan->n > 0;
}

static vex_status scan_file(vex_scan *scan, uint32_t number) {
    uint64_t *owned = NULL;
    const uint64_t *selected = NULL;
    VEX_TRY(select_rows(scan, number, &selected, &owned));
    vex_status status = VEX_OK;
    if (scan->matches == NULL || selected != NULL) {
        status = scan->near != NULL && codes_pay(scan, number)
                     ? scan_codes(scan, number, selected)
                     : scan_vectors(scan, number, selected, 0);
    }
    vex_free(owned);
    return status;
}

/* ---- memtables ---- */

static vex_status live_memory_words(const vex_scan *scan, const vex_mem_source *source,
                                    uint64_t **out) {
    *out = vex_calloc(vex_bit_words(source->n_vectors) + 1, sizeof **out);
    if (*out == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a row bitmap");
    }
    for (uint32_t row = 0; row < source->n_vectors; row++) {
        if (vex_mem_vector_live(vex_memtable_vector(source->table, row), scan->snapshot->lsn)) {
            vex_bit_set(*out, row);
        }
    }
    return VEX_OK;
}

/* Do many queries share the encoding of these rows? */
static bool encoding_pays(const vex_scan *scan, const vex_mem_source *source) {
    const vex_snapshot *snapshot = scan->snapshot;
    uint64_t rows = scan->matches != NULL ? scan->matches->count : snapshot->live_rows;
    return scan->batch != NULL && scan->batch->level.encode != NULL && scan->n >= ENCODED_QUERIES &&
           source->n_vectors >= ENCODED_ROWS && scan->top[0].k <= rows / CODED_K_SHARE;
}

/* Encode rows piece by piece, and search them by that.  *reached: rows from there on are left, as the
 * codes do not rule out enough. */
static vex_status scan_encoded(vex_scan *scan, uint32_t number, const uint64_t *selected,
                               uint32_t *reached) {
    const vex_mem_source *source = &scan->snapshot->mems[number];
    const uint32_t stride = scan->batch->stride, rows = source->n_vectors;
    const uint64_t before = rows_left(scan);
    uint64_t most = 0;
    uint8_t *codes = vex_calloc(ENCODED_ROWS, stride);
    vex_status status =
        codes ? VEX_OK : VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for %u queries", scan->n);
    for (uint32_t row = 0; row < rows && status == VEX_OK; row = *reached) {
        const uint32_t end = rows - row > ENCODED_ROWS ? row + ENCODED_ROWS : rows;
        for (uint32_t i = row; i < end; i++) {
            if (vex_bit_get(selected, i)) {
                const vex_mem_vector *x = vex_memtable_vector(source->table, i);
                scan->batch->level.encode(x->vector, scan->dimension, x->norm2, stride,
                                          codes + (size_t)(i - row) * stride);
            }
        }
        status = vex_near_batch_scan(scan->batch, codes, row, scan->snapshot->n_vecs + number, row,
                                     end, selected);
        *reached = end;
        most += (uint64_t)(end - row) * scan->n;
        if (end >= JUDGED_ROWS && rows_left(scan) - before > most / LEFT_SHARE) {
            break;
        }
    }
    vex_free(codes);
    return status;
}

static vex_status scan_memory_rows(const vex_scan *scan, uint32_t number, const uint64_t *selected,
                                   uint32_t first) {
    const vex_mem_source *source = &scan->snapshot->mems[number];
    for (uint32_t row = first, end = 0; row < source->n_vectors; row = end) {
        const vex_mem_vector *at =
            vex_memtable_run(source->table, row, source->n_vectors, scan->dimension, &end);
        const vex_row_run run = {.rows = at->vector,
                                 .stride = scan->dimension * sizeof(float),
                                 .norm2 = &at->norm2,
                                 .norm2_stride = sizeof *at,
                                 .seqs = &at->seq,
                                 .seq_stride = sizeof *at,
                                 .n = end - row,
                                 .first_row = row,
                                 .source = scan->snapshot->n_vecs + number,
                                 .element = VEX_F32,
                                 .selected = selected};
        VEX_TRY(vex_flat_scan(scan->kernels, scan->snapshot->space, &run, scan->queries,
                              scan->norm2, scan->n, scan->dimension, scan->top));
    }
    return VEX_OK;
}

static vex_status scan_memtable(vex_scan *scan, uint32_t number) {
    const vex_mem_source *source = &scan->snapshot->mems[number];
    uint64_t *live = NULL;
    const uint64_t *selected = NULL;
    uint32_t reached = 0;
    if (source->n_vectors == 0) {
        return VEX_OK;
    }
    if (scan->matches != NULL) {
        selected = scan->matches->mems[number];
        if (selected == NULL) {
            return VEX_OK;
        }
    } else {
        VEX_TRY(live_memory_words(scan, source, &live));
        selected = live;
    }
    vex_status status = VEX_OK;
    if (encoding_pays(scan, source)) {
        status = scan_encoded(scan, number, selected, &reached);
    }
    if (status == VEX_OK) {
        status = scan_memory_rows(scan, number, selected, reached);
    }
    vex_free(live);
    return status;
}

static vex_status scan_group(vex_scan *scan) {
    const vex_snapshot *snapshot = scan->snapshot;
    vex_status status = codes_help(scan) ? begin_codes(scan) : VEX_OK;
    for (uint32_t i = 0; i < snapshot->n_mems && status == VEX_OK; i++) {
        status = scan_memtable(scan, i);
    }
    for (uint32_t i = 0; i < snapshot->n_vecs && status == VEX_OK; i++) {
        if (scan->skip == NULL || !scan->skip[i]) {
            status = scan_file(scan, i);
        }
    }
    for (uint32_t q = 0; q < scan->n && scan->near != NULL && status == VEX_OK; q++) {
        status = settle(scan, q);
    }
    end_codes(scan);
    return status;
}

vex_status vex_scan_run(const vex_scan *scan) {
    for (uint32_t first = 0; first < scan->n; first += VEX_NEAR_BATCH) {
        vex_scan group = *scan;
        group.n = scan->n - first < VEX_NEAR_BATCH ? scan->n - first : VEX_NEAR_BATCH;
        group.queries += (size_t)first * scan->dimension;
        group.norm2 += first;
        group.top += first;
        VEX_TRY(scan_group(&group));
    }
    return VEX_OK;
}
