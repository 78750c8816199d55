/*
 * vecfile.h - an immutable file of vector rows, mapped read-only.
 *
 * INFO { u32 dimension, u32 element (VEX_ELEMENT_*), u32 stride bytes, u32 rows }
 * SEQS u64 per row ascending; NORMS f32 |x|^2; VECTORS rows * stride, 4096-aligned, stride =
 * element size * dimension rounded up to 64 when that costs at most 1/8, else to the element
 * size.  The element is the narrowest that holds every value exactly (codec/narrow.h).
 * CODES, where a plug-in gave them: the rows once more, in a short form for searching.  Derived
 * data; this layer does not know the form.
 */
#ifndef VEX_STORE_VECFILE_H
#define VEX_STORE_VECFILE_H

#include "store/lazy_section.h"

/* A short form of the rows of one file. */
typedef struct vex_code_form {
    uint32_t tag;             /* which form: the plug-in's, > 0; the tag of the section           */
    uint32_t stride;          /* bytes per row: a multiple of 64; 0: none                         */
} vex_code_form;

/* Which forms a new file may have: the higher the tag, the closer to the vectors. */
typedef struct vex_code_range {
    uint32_t least, most;     /* most 0: any                                                      */
} vex_code_range;

typedef struct vex_vector_row vex_vector_row;

/* Makes code rows: given by a higher layer. */
typedef struct vex_code_plugin {
    /* The form for these rows, in the range unless it cannot serve them.  A failure fails the
     * file. */
    vex_status (*choose)(const vex_vector_row *rows, uint32_t n, uint32_t dimension,
                         uint32_t space, vex_code_range range, vex_code_form *out);
    /* Write one row, every byte of it; its `vector` is there. */
    void (*encode)(const vex_code_form *form, uint32_t dimension, uint32_t space,
                   const vex_vector_row *row, void *out);
    /* Is this what a file of such vectors may hold?  Else its codes count as missing. */
    bool (*knows)(const vex_code_form *form, uint32_t dimension);
} vex_code_plugin;

/* Register (a static object) before the first vector file is written or opened. */
void vex_vecfile_register(const vex_code_plugin *plugin);

typedef struct vex_vecfile {
    atomic_uint refs;
    vex_container container;
    uint32_t rows, dimension, element, stride;
    const uint64_t *seqs;
    const float *norms;
    const uint8_t *vectors;
    vex_lazy_section lazy_vectors;
    const uint8_t *codes;     /* NULL: none                                                       */
    vex_code_form code_form;
    vex_lazy_section lazy_codes;
    atomic_bool codes_damaged; /* found out when they were used: then they are done without       */
    _Atomic(vex_file *) reader; /* see vex_vecfile_fetch; NULL until then                          */
} vex_vecfile;

/* What the INFO of a file says. */
typedef struct vex_vec_shape {
    uint32_t rows, dimension, element, stride;
} vex_vec_shape;
/* False: impossible. */
bool vex_vec_shape_parse(const uint8_t *info, size_t len, vex_vec_shape *out);

/* A row to write: float32, or as another vector file stores it. */
struct vex_vector_row {
    uint64_t seq;
    const float *vector;     /* NULL: `stored`                                                    */
    float norm2;
    uint32_t element;        /* VEX_ELEMENT_* of `stored`                                         */
    const void *stored;
};
/* Its vector as dst[dimension]. */
void vex_vector_row_read(const vex_vector_row *row, uint32_t dimension, float *dst);

/* Rows strictly ascending by seq, n >= 1.  Fills *entry except for tombstones.  The caller syncs
 * the directory. */
vex_status vex_vecfile_write(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                             uint64_t file_no, const vex_vector_row *rows, uint32_t n,
                             uint32_t dimension, uint32_t space, vex_code_range codes,
                             uint64_t lsn_lo, uint64_t lsn_hi, bool sync, vex_file_entry *entry);
/* Checks everything but the vectors themselves: that is for vex_vecfile_verify. */
vex_status vex_vecfile_open(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                            const vex_file_entry *entry, vex_vecfile **out);
/* Read the whole file again and check it: VEX_ERR_CORRUPT. */
vex_status vex_vecfile_verify(const vex_vecfile *file);
/* Check the bytes of rows [row, row + n) that were not checked before: VEX_ERR_CORRUPT.  To be
 * called before their vectors are used. */
static inline vex_status vex_vecfile_check_rows(vex_vecfile *file, uint32_t row, uint32_t n) {
    return vex_lazy_section_check(&file->lazy_vectors, (uint64_t)row * file->stride,
                                  (uint64_t)n * file->stride);
}
/* The same for their codes. */
static inline vex_status vex_vecfile_check_codes(vex_vecfile *file, uint32_t row, uint32_t n) {
    return vex_lazy_section_check(&file->lazy_codes, (uint64_t)row * file->code_form.stride,
                                  (uint64_t)n * file->code_form.stride);
}
/* The vector of a row as it is stored, checked as above, to dst[stride] by reading the file: the pages
 * of the mapping stay out of the process's memory.  By the mapping where the file cannot be opened any
 * more. */
vex_status vex_vecfile_fetch(vex_vecfile *file, uint32_t row, void *dst);
vex_vecfile *vex_vecfile_acquire(vex_vecfile *file);
void vex_vecfile_release(vex_vecfile *file); /* NULL is fine */

/* Row holding seq, or UINT32_MAX.  Interpolation search, as seqs are mostly dense. */
uint32_t vex_vecfile_find(const vex_vecfile *file, uint64_t seq);
/* Row widened to dst[dimension]. */
void vex_vecfile_decode(const vex_vecfile *file, uint32_t row, float *dst);

#endif
