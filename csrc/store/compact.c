/*
 * compact.c - collecting and writing the rows of a compaction (compact.h).
 */
#include "store/compact.h"

#include "base/poison.h"

#define ARENA_CHUNK ((size_t)1 << 20)

static vex_status no_memory(void) {
    return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to merge files");
}

static vex_status not_there(uint64_t file_no) {
    return VEX_FAIL(VEX_ERR_INVALID, "file %llu, to be merged, is not in the collection",
                    (unsigned long long)file_no);
}

/* ---- collecting ---- */

typedef struct place {
    vex_vfs *vfs;
    const char *dir;
    const uint8_t *uuid;
    const vex_snapshot *snapshot;
    const vex_manifest *manifest;
} place;

static const vex_file_entry *entry_of(const vex_manifest *manifest, uint32_t kind,
                                      uint64_t file_no) {
    for (uint32_t i = 0; i < manifest->n_files; i++) {
        if (manifest->files[i].kind == kind && manifest->files[i].file_no == file_no) {
            return &manifest->files[i];
        }
    }
    return NULL;
}

static vex_status collect_vectors(const place *from, uint64_t file_no, vex_compaction *out) {
    const vex_file_entry *entry = entry_of(from->manifest, VEX_KIND_VECTORS, file_no);
    vex_vec_source *source = &out->vecs[out->n_vecs];
    for (uint32_t i = 0; entry != NULL && i < from->snapshot->n_vecs; i++) {
        if (from->snapshot->vecs[i].entry.file_no == file_no) {
            VEX_TRY(vex_tombs_read(from->vfs, from->dir, from->uuid, entry, &source->tombs));
            source->file = vex_vecfile_acquire(from->snapshot->vecs[i].file);
            source->entry = *entry;
            out->n_vecs++;
            return VEX_OK;
        }
    }
    return not_there(file_no);
}

static vex_status collect_payloads(const place *from, uint64_t file_no, vex_compaction *out) {
    const vex_file_entry *entry = entry_of(from->manifest, VEX_KIND_PAYLOAD, file_no);
    vex_pay_source *source = &out->pays[out->n_pays];
    for (uint32_t i = 0; entry != NULL && i < from->snapshot->n_pays; i++) {
        if (from->snapshot->pays[i].entry.file_no == file_no) {
            VEX_TRY(vex_tombs_read(from->vfs, from->dir, from->uuid, entry, &source->tombs));
            source->file = vex_payfile_acquire(from->snapshot->pays[i].file);
            source->entry = *entry;
            out->n_pays++;
            return VEX_OK;
        }
    }
    return not_there(file_no);
}

vex_status vex_compact_begin(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                             const vex_snapshot *snapshot, const vex_manifest *manifest,
                             const vex_compact_plan *plan, vex_compaction *out) {
    const place from = {vfs, dir, uuid, snapshot, manifest};
    vex_compaction compaction = {.codes = vex_snapshot_code_range(snapshot)};
    compaction.vecs = vex_calloc((size_t)plan->n_vecs + 1, sizeof *compaction.vecs);
    compaction.pays = vex_calloc((size_t)plan->n_pays + 1, sizeof *compaction.pays);
    vex_status status = compaction.vecs && compaction.pays ? VEX_OK : no_memory();
    for (uint32_t i = 0; i < plan->n_vecs && status == VEX_OK; i++) {
        status = collect_vectors(&from, plan->vecs[i], &compaction);
    }
    for (uint32_t i = 0; i < plan->n_pays && status == VEX_OK; i++) {
        status = collect_payloads(&from, plan->pays[i], &compaction);
    }
    if (status != VEX_OK) {
        vex_compaction_clear(&compaction);
        return status;
    }
    *out = compaction;
    return VEX_OK;
}

static uint64_t live_bytes(const vex_file_entry *entry) {
    return entry->size / entry->rows * (entry->rows - entry->dead_rows);
}

uint64_t vex_compact_estimate(const vex_compaction *compaction) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < compaction->n_vecs; i++) {
        bytes += live_bytes(&compaction->vecs[i].entry);
    }
    for (uint32_t i = 0; i < compaction->n_pays; i++) {
        bytes += live_bytes(&compaction->pays[i].entry);
    }
    return bytes;
}

void vex_compaction_clear(vex_compaction *compaction) {
    for (uint32_t i = 0; i < compaction->n_vecs; i++) {
        vex_vecfile_release(compaction->vecs[i].file);
        vex_tombs_release(compaction->vecs[i].tombs);
    }
    for (uint32_t i = 0; i < compaction->n_pays; i++) {
        vex_payfile_release(compaction->pays[i].file);
        vex_tombs_release(compaction->pays[i].tombs);
    }
    for (uint32_t i = 0; i < compaction->n_new_pays; i++) {
        vex_payfile_release(compaction->new_pays[i].file);
        vex_tombs_release(compaction->new_pays[i].tombs);
    }
    vex_vecfile_release(compaction->vec.file);
    vex_tombs_release(compaction->vec.tombs);
    vex_free(compaction->vecs);
    vex_free(compaction->pays);
    vex_free(compaction->new_pays);
    *compaction = (vex_compaction){0};
}

/* ---- writing ---- */

typedef struct writing {
    vex_vfs *vfs;
    const char *dir;
    const uint8_t *uuid;
    uint32_t dimension, space;
    bool sync;
    const vex_pace *pace;
    vex_compaction *compaction;
} writing;

/* The lsn range of the new files is that of the old ones. */
static void widen(uint64_t range[2], const vex_file_entry *entry, bool first) {
    range[0] = first || entry->lsn_lo < range[0] ? entry->lsn_lo : range[0];
    range[1] = first || entry->lsn_hi > range[1] ? entry->lsn_hi : range[1];
}

/* Both kinds of rows begin with their seq. */
static int compare_seqs(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Files of successive flushes mostly follow each other. */
static void sort_by_seq(void *rows, size_t n, size_t row_bytes) {
    const char *row = rows;
    size_t i = 1;
    while (i < n && compare_seqs(row + (i - 1) * row_bytes, row + i * row_bytes) < 0) {
        i++;
    }
    if (i < n) {
        qsort(rows, n, row_bytes, compare_seqs);
    }
}

static vex_status pause_between(const vex_pace *pace) {
    return pace->pause != NULL ? pace->pause(pace->context) : VEX_OK;
}

/* ---- vectors ---- */

static vex_status gather_vectors(const vex_vec_source *source, vex_vector_row *rows, uint32_t *n) {
    vex_vecfile *file = source->file;
    for (uint32_t row = 0; row < file->rows; row++) {
        if (vex_tombs_dead(source->tombs, row)) {
            continue;
        }
        VEX_TRY(vex_vecfile_check_rows(file, row, 1));
        const uint8_t *stored = file->vectors + (size_t)row * file->stride;
        vex_vector_row *to = &rows[(*n)++];
        *to = (vex_vector_row){.seq = file->seqs[row], .norm2 = file->norms[row]};
        if (file->element == VEX_ELEMENT_F32) {
            to->vector = (const float *)(const void *)stored;
        } else {
            to->stored = stored;
            to->element = file->element;
        }
    }
    return VEX_OK;
}

static vex_status write_vector_rows(const writing *w, const vex_vector_row *rows, uint32_t n,
                                    const uint64_t lsn[2]) {
    vex_compaction *c = w->compaction;
    VEX_TRY(vex_vecfile_write(w->vfs, w->dir, w->uuid, c->next_file_no++, rows, n, w->dimension,
                              w->space, c->codes, lsn[0], lsn[1], w->sync, &c->vec.entry));
    VEX_TRY(vex_tombs_create(n, &c->vec.tombs));
    VEX_TRY(vex_vecfile_open(w->vfs, w->dir, w->uuid, &c->vec.entry, &c->vec.file));
    c->bytes += c->vec.entry.size;
    return VEX_OK;
}

static vex_status write_vectors(const writing *w) {
    const vex_compaction *c = w->compaction;
    uint64_t most = 0, lsn[2] = {0};
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n_vecs; i++) {
        most += c->vecs[i].tombs->rows - c->vecs[i].tombs->dead;
        widen(lsn, &c->vecs[i].entry, i == 0);
    }
    if (most == 0) {
        return VEX_OK;
    }
    if (most > VEX_ROWS_MAX) {
        return VEX_FAIL(VEX_ERR_TOO_BIG, "more rows than a file can hold");
    }
    vex_vector_row *rows = vex_calloc((size_t)most, sizeof *rows);
    vex_status status = rows != NULL ? VEX_OK : no_memory();
    for (uint32_t i = 0; i < c->n_vecs && status == VEX_OK; i++) {
        status = gather_vectors(&c->vecs[i], rows, &n);
    }
    if (status == VEX_OK) {
        sort_by_seq(rows, n, sizeof *rows);
        status = write_vector_rows(w, rows, n, lsn);
    }
    vex_free(rows);
    return status;
}

/* ---- payloads ---- */

typedef struct merged_row {
    uint64_t seq;
    uint32_t source, row;
} merged_row;

/* Rows of the next new payload file, copied out of their blocks. */
typedef struct portion {
    vex_payload *rows;
    size_t capacity;
    uint32_t n;
    uint64_t bytes;
    vex_arena *arena;
} portion;

static vex_status copy_bytes(vex_arena *arena, const uint8_t **bytes, uint32_t len) {
    if (*bytes != NULL) {
        uint8_t *copy = vex_arena_alloc(arena, len ? len : 1, 1);
        if (copy == NULL) {
            return no_memory();
        }
        memcpy(copy, *bytes, len);
        *bytes = copy;
    }
    return VEX_OK;
}

static vex_status add_to_portion(portion *p, const vex_payload *payload) {
    vex_payload copy = *payload; /* the id lies in the map */
    if (p->arena == NULL) {
        VEX_TRY(vex_arena_create(&p->arena, ARENA_CHUNK));
    }
    VEX_TRY(copy_bytes(p->arena, &copy.document, copy.document_len));
    VEX_TRY(copy_bytes(p->arena, &copy.metadata, copy.metadata_len));
    VEX_TRY(copy_bytes(p->arena, &copy.uri, copy.uri_len));
    VEX_TRY(vex_grow((void **)&p->rows, &p->capacity, (size_t)p->n + 1, sizeof *p->rows));
    p->rows[p->n++] = copy;
    p->bytes += (uint64_t)copy.id_len + copy.document_len + copy.metadata_len + copy.uri_len;
    return VEX_OK;
}

static vex_status write_portion(const writing *w, portion *p, const uint64_t lsn[2]) {
    vex_compaction *c = w->compaction;
    vex_pay_source *pays =
        vex_realloc(c->new_pays, ((size_t)c->n_new_pays + 1) * sizeof *c->new_pays);
    if (pays == NULL) {
        return no_memory();
    }
    c->new_pays = pays;
    vex_pay_source *to = &pays[c->n_new_pays++];
    *to = (vex_pay_source){0};
    VEX_TRY(vex_payfile_write_paced(w->vfs, w->dir, w->uuid, c->next_file_no++, p->rows, p->n,
                                    lsn[0], lsn[1], w->sync, w->pace, &to->entry));
    VEX_TRY(vex_tombs_create(p->n, &to->tombs));
    VEX_TRY(vex_payfile_open(w->vfs, w->dir, w->uuid, &to->entry, &to->file));
    c->bytes += to->entry.size;
    vex_arena_destroy(p->arena);
    p->arena = NULL;
    p->n = 0;
    p->bytes = 0;
    return VEX_OK;
}

/* The live rows of all inputs in order of seq. */
static vex_status order_payloads(const vex_compaction *c, merged_row **out, uint32_t *n) {
    uint64_t most = 0;
    size_t at = 0;
    for (uint32_t i = 0; i < c->n_pays; i++) {
        most += c->pays[i].tombs->rows - c->pays[i].tombs->dead;
    }
    if (most > VEX_ROWS_MAX) {
        return VEX_FAIL(VEX_ERR_TOO_BIG, "more rows than a file can hold");
    }
    merged_row *rows = vex_calloc((size_t)most + 1, sizeof *rows);
    if (rows == NULL) {
        return no_memory();
    }
    for (uint32_t i = 0; i < c->n_pays; i++) {
        for (uint32_t row = 0; row < c->pays[i].tombs->rows; row++) {
            if (!vex_tombs_dead(c->pays[i].tombs, row)) {
                rows[at++] = (merged_row){c->pays[i].file->seqs[row], i, row};
            }
        }
    }
    sort_by_seq(rows, at, sizeof *rows);
    *out = rows;
    *n = (uint32_t)at;
    return VEX_OK;
}

static vex_status copy_payloads(const writing *w, const merged_row *rows, uint32_t n,
                                vex_payload_reader *readers) {
    const vex_compaction *c = w->compaction;
    portion next = {0};
    uint64_t lsn[2] = {0};
    vex_status status = VEX_OK;
    for (uint32_t i = 0; i < c->n_pays; i++) {
        widen(lsn, &c->pays[i].entry, i == 0);
    }
    for (uint32_t i = 0; i < n && status == VEX_OK; i++) {
        vex_payload payload;
        status = vex_payload_read(&readers[rows[i].source], rows[i].row,
                                  VEX_PAYLOAD_DOCUMENT | VEX_PAYLOAD_METADATA | VEX_PAYLOAD_URI,
                                  &payload);
        if (status == VEX_OK) {
            status = add_to_portion(&next, &payload);
        }
        if (status == VEX_OK && (i + 1 == n || next.bytes >= VEX_COMPACT_PAYLOAD_BYTES)) {
            status = write_portion(w, &next, lsn);
        }
    }
    vex_free(next.rows);
    vex_arena_destroy(next.arena);
    return status;
}

static vex_status write_payloads(const writing *w) {
    const vex_compaction *c = w->compaction;
    merged_row *rows = NULL;
    uint32_t n = 0;
    VEX_TRY(order_payloads(c, &rows, &n));
    vex_payload_reader *readers = vex_calloc((size_t)c->n_pays + 1, sizeof *readers);
    vex_status status = readers != NULL ? VEX_OK : no_memory();
    if (status == VEX_OK) {
        for (uint32_t i = 0; i < c->n_pays; i++) {
            vex_payload_reader_init(&readers[i], c->pays[i].file);
        }
        status = copy_payloads(w, rows, n, readers);
        for (uint32_t i = 0; i < c->n_pays; i++) {
            vex_payload_reader_clear(&readers[i]);
        }
    }
    vex_free(readers);
    vex_free(rows);
    return status;
}

vex_status vex_compact_write(vex_compaction *compaction, vex_vfs *vfs, const char *dir,
                             const uint8_t uuid[16], const vex_manifest *manifest,
                             uint64_t first_file_no, bool sync, const vex_pace *pace) {
    const writing w = {vfs,  dir,  uuid,      manifest->dimension, manifest->space,
                       sync, pace, compaction};
    compaction->next_file_no = first_file_no;
    VEX_TRY(write_vectors(&w));
    VEX_TRY(pause_between(pace));
    VEX_TRY(write_payloads(&w));
    return sync ? vfs->dir_sync(vfs, dir) : VEX_OK;
}
