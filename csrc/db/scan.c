/*
 * scan.c - see scan.h.
 */
#include "db/scan.h"

#include "base/bits.h"

#include "base/poison.h"

#define CHECKED_BYTES (256u << 10) /* a piece of a file that is checked and scanned in one go */

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
static vex_status scan_and_check(vex_scan *scan, uint32_t number, const uint64_t *selected) {
    vex_vecfile *file = scan->snapshot->vecs[number].file;
    uint32_t piece = CHECKED_BYTES / file->stride + 1;
    for (uint32_t row = 0, end; row < file->rows; row = end) {
        end = file->rows - row > piece ? row + piece : file->rows;
        if (selected == NULL || vex_bits_any(selected, row, end)) {
            VEX_TRY(vex_vecfile_check_rows(file, row, end - row));
            VEX_TRY(scan_rows(scan, number, selected, row, end));
        }
    }
    return VEX_OK;
}

static vex_status scan_file(vex_scan *scan, uint32_t number) {
    const vex_vec_source *source = &scan->snapshot->vecs[number];
    uint64_t *live = NULL;
    const uint64_t *selected = NULL;
    if (scan->matches != NULL) {
        selected = scan->matches->vecs[number];
        if (selected == NULL) {
            return VEX_OK;
        }
    } else {
        VEX_TRY(live_words(source, &live));
        selected = live;
    }
    vex_status status = vex_lazy_section_is_checked(&source->file->lazy_vectors)
                            ? scan_rows(scan, number, selected, 0, source->file->rows)
                            : scan_and_check(scan, number, selected);
    vex_free(live);
    return status;
}

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

static vex_status scan_memtable(vex_scan *scan, uint32_t number) {
    const vex_mem_source *source = &scan->snapshot->mems[number];
    uint64_t *live = NULL;
    const uint64_t *selected = NULL;
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
    for (uint32_t row = 0, end = 0; row < source->n_vectors && status == VEX_OK; row = end) {
        const vex_mem_vector *first =
            vex_memtable_run(source->table, row, source->n_vectors, scan->dimension, &end);
        const vex_row_run run = {.rows = first->vector,
                                 .stride = scan->dimension * sizeof(float),
                                 .norm2 = &first->norm2,
                                 .norm2_stride = sizeof *first,
                                 .seqs = &first->seq,
                                 .seq_stride = sizeof *first,
                                 .n = end - row,
                                 .first_row = row,
                                 .source = scan->snapshot->n_vecs + number,
                                 .element = VEX_F32,
                                 .selected = selected};
        status = vex_flat_scan(scan->kernels, scan->snapshot->space, &run, scan->queries,
                               scan->norm2, scan->n, scan->dimension, scan->top);
    }
    vex_free(live);
    return status;
}

vex_status vex_scan_run(vex_scan *scan) {
    const vex_snapshot *snapshot = scan->snapshot;
    for (uint32_t i = 0; i < snapshot->n_vecs; i++) {
        VEX_TRY(scan_file(scan, i));
    }
    for (uint32_t i = 0; i < snapshot->n_mems; i++) {
        VEX_TRY(scan_memtable(scan, i));
    }
    return VEX_OK;
}
