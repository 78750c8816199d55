/*
 * vecfile.c - see vecfile.h.
 */
#include "store/vecfile.h"

#include "base/bytes.h"
#include "codec/narrow.h"
#include "store/section.h"

#include "base/poison.h"

#define INFO_BYTES 16
#define AT_DIMENSION 0
#define AT_ELEMENT 4
#define AT_STRIDE 8
#define AT_ROWS 12

#define VECTORS_ALIGNMENT 4096
#define CODES_ALIGNMENT 4096
#define STAGE_BYTES ((size_t)64 << 10)
#define CHECK_BYTES ((uint64_t)64 << 10) /* what vex_vecfile_check_rows reads of the mapping */

/* Bytes of an element, 0 when there is no such kind. */
static uint32_t element_bytes(uint32_t element) {
    switch (element) {
    case VEX_ELEMENT_F32:
        return 4;
    case VEX_ELEMENT_F16:
        return 2;
    case VEX_ELEMENT_U8:
        return 1;
    default:
        return 0;
    }
}

/* Rows begin on cache lines where that costs at most an eighth more. */
static uint32_t stride_of(uint32_t element, uint32_t dimension) {
    uint32_t bytes = element_bytes(element) * dimension;
    uint32_t aligned = (uint32_t)vex_align_up(bytes, 64);
    return (aligned - bytes) * 8 <= bytes ? aligned : bytes;
}

static const vex_code_plugin *code_plugin;

void vex_vecfile_register(const vex_code_plugin *plugin) {
    code_plugin = plugin;
}

/* ---- writing ---- */

typedef struct shape {
    uint32_t n, dimension, space, element, stride;
    vex_code_form codes;
} shape;

static vex_status put_info(vex_container_writer *writer, const shape *s) {
    uint8_t info[INFO_BYTES];
    vex_put32(info + AT_DIMENSION, s->dimension);
    vex_put32(info + AT_ELEMENT, s->element);
    vex_put32(info + AT_STRIDE, s->stride);
    vex_put32(info + AT_ROWS, s->n);
    return vex_container_put(writer, VEX_SECTION_INFO, 0, 0, 0, info, sizeof info);
}

/* Sections are written through `stage`, STAGE_BYTES long. */
static vex_status put_seqs(vex_container_writer *writer, const vex_vector_row *rows, uint32_t n,
                           uint8_t *stage) {
    VEX_TRY(vex_container_begin(writer, VEX_SECTION_SEQS, 0, 64, n, 0));
    for (uint32_t row = 0; row < n;) {
        size_t len = 0;
        for (; row < n && len < STAGE_BYTES; row++, len += 8) {
            vex_put64(stage + len, rows[row].seq);
        }
        VEX_TRY(vex_container_append(writer, stage, len));
    }
    return vex_container_end(writer);
}

static vex_status put_norms(vex_container_writer *writer, const vex_vector_row *rows, uint32_t n,
                            uint8_t *stage) {
    VEX_TRY(vex_container_begin(writer, VEX_SECTION_NORMS, 0, 64, n, 0));
    for (uint32_t row = 0; row < n;) {
        size_t len = 0;
        for (; row < n && len < STAGE_BYTES; row++, len += sizeof(float)) {
            memcpy(stage + len, &rows[row].norm2, sizeof(float));
        }
        VEX_TRY(vex_container_append(writer, stage, len));
    }
    return vex_container_end(writer);
}

/* The row as float32: where it lies, or widened to `scratch`. */
static const float *widened(const vex_vector_row *row, uint32_t dimension, float *scratch) {
    if (row->vector != NULL) {
        return row->vector;
    }
    vex_narrow_decode(row->element, scratch, row->stored, dimension);
    return scratch;
}

void vex_vector_row_read(const vex_vector_row *row, uint32_t dimension, float *dst) {
    const float *vector = widened(row, dimension, dst);
    if (vector != dst) {
        memcpy(dst, vector, dimension * sizeof *dst);
    }
}

static void encode_row(const shape *s, const vex_vector_row *row, uint8_t *dst, float *scratch) {
    if (row->vector == NULL && row->element == s->element) {
        memcpy(dst, row->stored, (size_t)element_bytes(s->element) * s->dimension);
    } else {
        vex_narrow_encode(s->element, dst, widened(row, s->dimension, scratch), s->dimension);
    }
}

static vex_status put_vectors(vex_container_writer *writer, const vex_vector_row *rows,
                              const shape *s, uint8_t *stage, size_t stage_bytes, float *scratch) {
    VEX_TRY(vex_container_begin(writer, VEX_SECTION_VECTORS, 0, VECTORS_ALIGNMENT, s->n, 0));
    memset(stage, 0, stage_bytes); /* for the padding behind each row */
    for (uint32_t row = 0; row < s->n;) {
        size_t len = 0;
        for (; row < s->n && stage_bytes - len >= s->stride; row++, len += s->stride) {
            encode_row(s, &rows[row], stage + len, scratch);
        }
        VEX_TRY(vex_container_append(writer, stage, len));
    }
    return vex_container_end(writer);
}

static vex_status put_codes(vex_container_writer *writer, const vex_vector_row *rows,
                            const shape *s, uint8_t *stage, size_t stage_bytes, float *scratch) {
    if (s->codes.stride == 0) {
        return VEX_OK;
    }
    VEX_TRY(vex_container_begin(writer, VEX_SECTION_CODES, VEX_SECTION_OPTIONAL, CODES_ALIGNMENT,
                                s->n, s->codes.tag));
    for (uint32_t row = 0; row < s->n;) {
        size_t len = 0;
        for (; row < s->n && stage_bytes - len >= s->codes.stride; row++, len += s->codes.stride) {
            vex_vector_row wide = rows[row];
            wide.vector = widened(&rows[row], s->dimension, scratch);
            code_plugin->encode(&s->codes, s->dimension, s->space, &wide, stage + len);
        }
        VEX_TRY(vex_container_append(writer, stage, len));
    }
    return vex_container_end(writer);
}

static vex_status put_sections(vex_container_writer *writer, const vex_vector_row *rows,
                               const shape *s, float *scratch) {
    size_t stage_bytes = s->stride > STAGE_BYTES ? s->stride : STAGE_BYTES;
    stage_bytes = s->codes.stride > stage_bytes ? s->codes.stride : stage_bytes;
    uint8_t *stage = vex_malloc(stage_bytes);
    if (stage == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to write a vector file");
    }
    vex_status status = put_info(writer, s);
    if (status == VEX_OK) {
        status = put_seqs(writer, rows, s->n, stage);
    }
    if (status == VEX_OK) {
        status = put_norms(writer, rows, s->n, stage);
    }
    if (status == VEX_OK) {
        status = put_vectors(writer, rows, s, stage, stage_bytes, scratch);
    }
    if (status == VEX_OK) {
        status = put_codes(writer, rows, s, stage, stage_bytes, scratch);
    }
    vex_free(stage);
    return status;
}

static vex_status check_rows(const vex_vector_row *rows, uint32_t n, uint32_t dimension) {
    bool ascending = true;
    for (uint32_t i = 1; i < n && ascending; i++) {
        ascending = rows[i - 1].seq < rows[i].seq;
    }
    if (n == 0 || n > VEX_ROWS_MAX || dimension == 0 || dimension > VEX_DIMENSION_MAX ||
        !ascending) {
        return VEX_FAIL(VEX_ERR_INVALID, "a vector file needs rows with ascending seqs");
    }
    return VEX_OK;
}

static uint32_t narrowest(const vex_vector_row *rows, uint32_t n, uint32_t dimension,
                          float *scratch) {
    uint32_t element = VEX_ELEMENT_U8;
    for (uint32_t i = 0; i < n && element != VEX_ELEMENT_F32; i++) {
        if (rows[i].vector != NULL || rows[i].element != VEX_ELEMENT_U8) {
            element = vex_narrow_scan(element, widened(&rows[i], dimension, scratch), dimension);
        }
    }
    return element;
}

vex_status vex_vecfile_write(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                             uint64_t file_no, const vex_vector_row *rows, uint32_t n,
                             uint32_t dimension, uint32_t space, vex_code_range codes,
                             uint64_t lsn_lo, uint64_t lsn_hi, bool sync, vex_file_entry *entry) {
    VEX_TRY(check_rows(rows, n, dimension));
    float *scratch = vex_malloc(dimension * sizeof *scratch);
    if (scratch == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to write a vector file");
    }
    uint32_t element = narrowest(rows, n, dimension, scratch);
    shape s = {n, dimension, space, element, stride_of(element, dimension), {0}};
    vex_status status = code_plugin != NULL
                            ? code_plugin->choose(rows, n, dimension, space, codes, &s.codes)
                            : VEX_OK;
    vex_container_writer *writer = NULL;
    if (status == VEX_OK) {
        status = vex_container_create(vfs, dir, uuid, VEX_KIND_VECTORS, file_no, lsn_lo, lsn_hi,
                                      &writer);
    }
    if (status == VEX_OK) {
        status = put_sections(writer, rows, &s, scratch);
    }
    vex_free(scratch);
    if (status != VEX_OK) {
        vex_container_abort(writer);
        return status;
    }
    vex_file_entry written = {.rows = n, .seq_lo = rows[0].seq, .seq_hi = rows[n - 1].seq};
    VEX_TRY(vex_container_finish(writer, sync, &written));
    *entry = written;
    return VEX_OK;
}

/* ---- reading ---- */

bool vex_vec_shape_parse(const uint8_t *info, size_t len, vex_vec_shape *out) {
    if (len != INFO_BYTES) {
        return false;
    }
    *out = (vex_vec_shape){.rows = vex_get32(info + AT_ROWS),
                           .dimension = vex_get32(info + AT_DIMENSION),
                           .element = vex_get32(info + AT_ELEMENT),
                           .stride = vex_get32(info + AT_STRIDE)};
    return out->dimension != 0 && out->dimension <= VEX_DIMENSION_MAX && out->rows != 0 &&
           out->rows <= VEX_ROWS_MAX && element_bytes(out->element) != 0 &&
           out->stride == stride_of(out->element, out->dimension);
}

static vex_status read_info(vex_vecfile *file) {
    const vex_section *info = NULL;
    vex_vec_shape said;
    VEX_TRY(vex_section_need(&file->container, VEX_SECTION_INFO, INFO_BYTES, &info));
    if (!vex_vec_shape_parse(info->data, INFO_BYTES, &said)) {
        return vex_section_damaged(&file->container, info, "impossible row size or count");
    }
    file->dimension = said.dimension;
    file->element = said.element;
    file->stride = said.stride;
    file->rows = said.rows;
    return VEX_OK;
}

static vex_status read_sections(vex_vecfile *file) {
    const vex_section *section = NULL;
    uint64_t rows = file->rows; /* below 2^31, strides below 2^19: no product overflows */
    VEX_TRY(
        vex_section_need(&file->container, VEX_SECTION_SEQS, rows * sizeof(uint64_t), &section));
    file->seqs = (const void *)section->data;
    VEX_TRY(vex_section_check_seqs(&file->container, file->seqs, file->rows));
    VEX_TRY(vex_section_need(&file->container, VEX_SECTION_NORMS, rows * sizeof(float), &section));
    file->norms = (const void *)section->data;
    VEX_TRY(
        vex_container_need(&file->container, VEX_SECTION_VECTORS, rows * file->stride, &section));
    file->vectors = section->data;
    return vex_lazy_section_init(&file->lazy_vectors, &file->container, section);
}

/* Codes are derived data: what cannot be used counts as missing. */
static vex_status read_codes(vex_vecfile *file) {
    const vex_section *section = vex_container_find(&file->container, VEX_SECTION_CODES);
    if (section == NULL || code_plugin == NULL || section->len % file->rows != 0 ||
        section->len / file->rows > UINT32_MAX) {
        return VEX_OK;
    }
    const vex_code_form form = {section->tag, (uint32_t)(section->len / file->rows)};
    if (!code_plugin->knows(&form, file->dimension)) {
        return VEX_OK;
    }
    file->codes = section->data;
    file->code_form = form;
    return vex_lazy_section_init(&file->lazy_codes, &file->container, section);
}

static vex_status check_entry(const vex_vecfile *file, const vex_file_entry *entry) {
    if (file->rows != entry->rows || file->seqs[0] != entry->seq_lo ||
        file->seqs[file->rows - 1] != entry->seq_hi) {
        return VEX_FAIL_AT(VEX_ERR_CORRUPT, file->container.path, 0, 0,
                           "the file's rows are not those that the manifest lists; restore the "
                           "collection from a backup");
    }
    return VEX_OK;
}

vex_status vex_vecfile_open(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                            const vex_file_entry *entry, vex_vecfile **out) {
    vex_vecfile *file = vex_calloc(1, sizeof *file);
    if (file == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to open a vector file");
    }
    atomic_init(&file->refs, 1);
    vex_status status;
    VEX_TRY_DONE(status, vex_container_open(vfs, dir, uuid, VEX_KIND_VECTORS, entry->file_no, entry,
                                            &file->container));
    VEX_TRY_DONE(status, read_info(file));
    VEX_TRY_DONE(status, read_sections(file));
    VEX_TRY_DONE(status, read_codes(file));
    VEX_TRY_DONE(status, check_entry(file, entry));
    *out = file;
    return VEX_OK;
done:
    vex_vecfile_release(file);
    return status;
}

vex_status vex_vecfile_verify(const vex_vecfile *file) {
    VEX_TRY(vex_container_verify(&file->container));
    return vex_section_check_seqs(&file->container, file->seqs, file->rows);
}

vex_vecfile *vex_vecfile_acquire(vex_vecfile *file) {
    vex_refs_take(&file->refs);
    return file;
}

void vex_vecfile_release(vex_vecfile *file) {
    if (file == NULL || !vex_refs_drop(&file->refs)) {
        return;
    }
    if (file->container.path != NULL) {
        vex_vfs *vfs = file->container.vfs;
        vex_file *reader = atomic_load_explicit(&file->reader, memory_order_acquire);
        if (reader != NULL) {
            vfs->file_close(vfs, reader);
        }
        vex_container_close(&file->container);
    }
    vex_lazy_section_clear(&file->lazy_vectors);
    vex_lazy_section_clear(&file->lazy_codes);
    vex_free(file);
}

/* NULL when the file is gone, or no descriptor is left. */
static vex_file *reader_of(vex_vecfile *file) {
    vex_vfs *vfs = file->container.vfs;
    vex_file *reader = atomic_load_explicit(&file->reader, memory_order_acquire), *opened = NULL;
    if (reader != NULL ||
        vfs->file_open(vfs, file->container.path, VEX_FILE_READ, &opened) != VEX_OK) {
        return reader;
    }
    if (!atomic_compare_exchange_strong(&file->reader, &reader, opened)) {
        vfs->file_close(vfs, opened); /* another thread was faster */
        return reader;
    }
    return opened;
}

/* The same as vex_vecfile_check_rows, and what that read of the mapping is given back. */
static vex_status check_and_give_back(vex_vecfile *file, uint32_t row, uint64_t at) {
    const vex_container *container = &file->container;
    const uint64_t first = at & ~(CHECK_BYTES - 1), last = (at + file->stride) | (CHECK_BYTES - 1);
    const uint64_t end = last < container->size ? last + 1 : container->size;
    VEX_TRY(vex_vecfile_check_rows(file, row, 1));
    container->vfs->map_advise(container->vfs, container->map + first, end - first,
                               VEX_ADVISE_DONTNEED);
    return VEX_OK;
}

vex_status vex_vecfile_fetch(vex_vecfile *file, uint32_t row, void *dst) {
    const vex_container *container = &file->container;
    vex_vfs *vfs = container->vfs;
    const uint64_t at = (uint64_t)(file->vectors - container->map) + (uint64_t)row * file->stride;
    if (!vex_lazy_section_is_checked(&file->lazy_vectors)) {
        VEX_TRY(check_and_give_back(file, row, at));
    }
    vex_file *reader = vfs->is_volatile ? NULL : reader_of(file);
    if (reader == NULL) {
        memcpy(dst, container->map + at, file->stride);
        return VEX_OK;
    }
    vex_stat_add(VEX_STAT_ROWS_FETCHED, 1);
    return vex_file_read_exact(vfs, reader, container->path, dst, file->stride, at);
}

uint32_t vex_vecfile_find(const vex_vecfile *file, uint64_t seq) {
    uint32_t row = vex_lower_bound_dense(file->seqs, file->rows, seq);
    return row < file->rows && file->seqs[row] == seq ? row : UINT32_MAX;
}

void vex_vecfile_decode(const vex_vecfile *file, uint32_t row, float *dst) {
    vex_narrow_decode(file->element, dst, file->vectors + (size_t)row * file->stride,
                      file->dimension);
}
