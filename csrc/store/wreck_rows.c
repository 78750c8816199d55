/*
 * wreck_rows.c - see wreck_rows.h.
 */
#include "store/wreck_rows.h"

#include "base/bits.h"
#include "codec/narrow.h"
#include "store/payfile_format.h"
#include "store/tombs.h"

#include "base/poison.h"

static const uint32_t section_of[VEX_WRECK_PARTS] = {VEX_SECTION_DOCUMENTS, VEX_SECTION_METADATA,
                                                     VEX_SECTION_URIS};

/* ---- opening ---- */

static void read_vec_info(vex_wreck_rows *rows, const vex_wreck_section *info) {
    if (vex_vec_shape_parse(info->is.data, (size_t)info->is.len, &rows->shape)) {
        rows->rows = rows->shape.rows;
    }
    rows->vectors = vex_wreck_find(&rows->wreck, VEX_SECTION_VECTORS);
}

static vex_status open_column(vex_wreck_rows *rows, vex_wreck_part part) {
    vex_wreck_column *column = &rows->columns[part];
    const vex_wreck_section *section = vex_wreck_find(&rows->wreck, section_of[part]);
    if (section == NULL) {
        return VEX_OK;
    }
    column->there = true;
    column->offset = section->is.offset;
    vex_status status =
        vex_block_column_open(&column->column, section->is.data, (size_t)section->is.len,
                              rows->wreck.path, section->is.offset);
    column->lost = status != VEX_OK || column->column.n_values != rows->rows;
    vex_block_reader_init(&column->reader, &column->column);
    return status == VEX_ERR_CORRUPT ? VEX_OK : status;
}

static vex_status read_pay_info(vex_wreck_rows *rows, const vex_wreck_section *info) {
    if (info->is.len != INFO_BYTES) {
        return VEX_OK;
    }
    uint32_t n = vex_get32(info->is.data + AT_ROWS);
    rows->rows = n <= VEX_ROWS_MAX ? n : 0;
    rows->ids = vex_wreck_find(&rows->wreck, VEX_SECTION_IDS);
    for (vex_wreck_part part = 0; part < VEX_WRECK_PARTS && rows->rows > 0; part++) {
        VEX_TRY(open_column(rows, part));
    }
    return VEX_OK;
}

vex_status vex_wreck_rows_open(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                               const vex_file_entry *entry, bool listed, vex_wreck_rows *out) {
    *out = (vex_wreck_rows){.kind = (vex_file_kind)entry->kind, .file_no = entry->file_no};
    VEX_TRY(vex_wreck_open(vfs, dir, uuid, out->kind, entry->file_no, listed ? entry : NULL,
                           VEX_WRECK_DEEP, &out->wreck));
    out->lsn_hi = listed ? entry->lsn_hi : out->wreck.lsn_hi;
    out->seqs = vex_wreck_find(&out->wreck, VEX_SECTION_SEQS);
    const vex_wreck_section *info = vex_wreck_find(&out->wreck, VEX_SECTION_INFO);
    if (info == NULL || !vex_wreck_intact(&out->wreck, info, 0, info->is.len)) {
        return VEX_OK;
    }
    vex_status status = VEX_OK;
    if (out->kind == VEX_KIND_VECTORS) {
        read_vec_info(out, info);
    } else {
        status = read_pay_info(out, info);
    }
    if (status != VEX_OK) {
        vex_wreck_rows_close(out);
    }
    return status;
}

void vex_wreck_rows_close(vex_wreck_rows *rows) {
    for (vex_wreck_part part = 0; part < VEX_WRECK_PARTS; part++) {
        vex_block_reader_clear(&rows->columns[part].reader);
        vex_block_column_close(&rows->columns[part].column);
    }
    vex_free(rows->dead);
    vex_wreck_close(&rows->wreck);
    *rows = (vex_wreck_rows){0};
}

/* ---- tombstones ---- */

vex_status vex_wreck_tombs_of(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                              uint64_t tombs_file_no, uint64_t *file_no) {
    vex_wreck wreck;
    *file_no = 0;
    VEX_TRY(vex_wreck_open(vfs, dir, uuid, VEX_KIND_TOMBS, tombs_file_no, NULL, VEX_WRECK_DEEP,
                           &wreck));
    const vex_wreck_section *info = vex_wreck_find(&wreck, VEX_SECTION_INFO);
    if (info != NULL && info->is.len == VEX_TOMBS_INFO_BYTES &&
        vex_wreck_intact(&wreck, info, 0, info->is.len)) {
        *file_no = vex_get64(info->is.data);
    }
    vex_wreck_close(&wreck);
    return VEX_OK;
}

/* The words that are intact. */
static void take_words(vex_wreck_rows *rows, const vex_wreck *wreck) {
    const vex_wreck_section *tombs = vex_wreck_find(wreck, VEX_SECTION_TOMBS);
    for (size_t word = 0; word < vex_bit_words(rows->rows); word++) {
        if (vex_wreck_intact(wreck, tombs, word * 8, 8)) {
            rows->dead[word] = vex_get64(tombs->is.data + word * 8);
        } else {
            rows->dead_unknown = true;
        }
    }
}

vex_status vex_wreck_rows_read_dead(vex_wreck_rows *rows, const char *dir, const uint8_t uuid[16],
                                    uint64_t tombs_file_no, const vex_file_entry *entry) {
    vex_wreck wreck;
    const vex_file_entry tombs = {.kind = VEX_KIND_TOMBS,
                                  .file_no = tombs_file_no,
                                  .size = entry != NULL ? entry->tombs_size : 0,
                                  .crc = entry != NULL ? entry->tombs_crc : 0};
    vex_free(rows->dead);
    rows->dead = vex_calloc(vex_bit_words(rows->rows) + 1, sizeof *rows->dead);
    if (rows->dead == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for the deleted rows of %s",
                        rows->wreck.path);
    }
    VEX_TRY(vex_wreck_open(rows->wreck.vfs, dir, uuid, VEX_KIND_TOMBS, tombs_file_no,
                           entry != NULL ? &tombs : NULL, VEX_WRECK_DEEP, &wreck));
    rows->dead_unknown = wreck.n_sections == 0;
    if (wreck.n_sections > 0) {
        take_words(rows, &wreck);
    }
    vex_wreck_close(&wreck);
    return VEX_OK;
}

/* ---- rows ---- */

bool vex_wreck_rows_dead(const vex_wreck_rows *rows, uint32_t row) {
    return rows->dead != NULL && vex_bit_get(rows->dead, row);
}

bool vex_wreck_rows_live(const vex_wreck_rows *rows, uint32_t row, uint64_t *seq) {
    if (!vex_wreck_intact(&rows->wreck, rows->seqs, (uint64_t)row * 8, 8) ||
        vex_wreck_rows_dead(rows, row)) {
        return false;
    }
    *seq = vex_get64(rows->seqs->is.data + (size_t)row * 8);
    return true;
}

bool vex_wreck_rows_has_vector(const vex_wreck_rows *rows, uint32_t row) {
    const uint32_t stride = rows->shape.stride;
    return vex_wreck_intact(&rows->wreck, rows->vectors, (uint64_t)row * stride, stride);
}

void vex_wreck_rows_vector(const vex_wreck_rows *rows, uint32_t row, float *dst) {
    vex_narrow_decode(rows->shape.element, dst,
                      rows->vectors->is.data + (size_t)row * rows->shape.stride,
                      rows->shape.dimension);
}

bool vex_wreck_rows_id(const vex_wreck_rows *rows, uint32_t row, const uint8_t **id, size_t *len) {
    if (!vex_wreck_intact(&rows->wreck, rows->ids, (uint64_t)row * 4, 8)) {
        return false;
    }
    const uint8_t *offsets = rows->ids->is.data + (size_t)row * 4;
    const uint32_t from = vex_get32(offsets), to = vex_get32(offsets + 4);
    const uint64_t bytes_at = id_offsets_bytes(rows->rows);
    if (from > to || to - from > VEX_ID_BYTES_MAX ||
        !vex_wreck_intact(&rows->wreck, rows->ids, bytes_at + from, to - from)) {
        return false;
    }
    *id = rows->ids->is.data + bytes_at + from;
    *len = to - from;
    return true;
}

vex_status vex_wreck_rows_value(vex_wreck_rows *rows, uint32_t row, vex_wreck_part part,
                                const uint8_t **bytes, size_t *len, bool *lost) {
    vex_wreck_column *column = &rows->columns[part];
    *bytes = NULL;
    *len = 0;
    *lost = column->lost;
    if (!column->there || column->lost) {
        return VEX_OK;
    }
    vex_status status = vex_block_reader_get(&column->reader, row, bytes, len);
    if (status == VEX_ERR_CORRUPT) {
        *bytes = NULL;
        *len = 0;
        *lost = true;
        return VEX_OK;
    }
    return status;
}
