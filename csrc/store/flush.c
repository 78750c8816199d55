/*
 * flush.c - see flush.h.
 */
#include "store/flush.h"

#include "base/poison.h"

/* ---- rows of the sealed memtables ---- */

typedef struct gathered {
    vex_vector_row *vectors;
    vex_payload *payloads;
    uint32_t n_vectors, n_payloads;
    uint64_t vector_lsn[2], payload_lsn[2]; /* least and greatest lsn a row was born at */
} gathered;

static void clear_gathered(gathered *rows) {
    vex_free(rows->vectors);
    vex_free(rows->payloads);
    *rows = (gathered){0};
}

static void note_lsn(uint64_t range[2], uint64_t lsn, bool first) {
    range[0] = first || lsn < range[0] ? lsn : range[0];
    range[1] = first || lsn > range[1] ? lsn : range[1];
}

static void gather_from(const vex_mem_source *source, uint64_t lsn, gathered *out) {
    for (uint32_t row = 0; row < source->n_vectors; row++) {
        const vex_mem_vector *vector = vex_memtable_vector(source->table, row);
        if (vex_mem_vector_live(vector, lsn)) {
            note_lsn(out->vector_lsn, vector->born, out->n_vectors == 0);
            out->vectors[out->n_vectors++] = (vex_vector_row){
                .seq = vector->seq, .vector = vector->vector, .norm2 = vector->norm2};
        }
    }
    for (uint32_t row = 0; row < source->n_payloads; row++) {
        const vex_mem_payload *payload = vex_memtable_payload(source->table, row);
        if (vex_mem_payload_live(payload, lsn)) {
            note_lsn(out->payload_lsn, payload->born, out->n_payloads == 0);
            out->payloads[out->n_payloads++] = payload->payload;
        }
    }
}

/* Both kinds of rows begin with their seq. */
_Static_assert(offsetof(vex_vector_row, seq) == 0 && offsetof(vex_payload, seq) == 0,
               "rows are compared by their first field");

static int compare_seqs(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void sort_by_seq(void *rows, uint32_t n, size_t row_bytes) {
    const char *row = rows;
    uint32_t i = 1;
    while (i < n && compare_seqs(row + (i - 1) * row_bytes, row + i * row_bytes) < 0) {
        i++;
    }
    if (i < n) {
        qsort(rows, n, row_bytes, compare_seqs);
    }
}

static vex_status gather(const vex_snapshot *sealed, uint32_t n_flush, gathered *out) {
    uint64_t vectors = 0, payloads = 0;
    for (uint32_t i = 0; i < n_flush; i++) {
        vectors += sealed->mems[i].n_vectors;
        payloads += sealed->mems[i].n_payloads;
    }
    if (vectors > VEX_ROWS_MAX || payloads > VEX_ROWS_MAX) {
        return VEX_FAIL(VEX_ERR_TOO_BIG, "more rows than a file can hold");
    }
    out->vectors = vex_calloc((size_t)vectors + 1, sizeof *out->vectors);
    out->payloads = vex_calloc((size_t)payloads + 1, sizeof *out->payloads);
    if (out->vectors == NULL || out->payloads == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to flush %llu rows",
                        (unsigned long long)(vectors + payloads));
    }
    for (uint32_t i = 0; i < n_flush; i++) {
        gather_from(&sealed->mems[i], sealed->lsn, out);
    }
    sort_by_seq(out->vectors, out->n_vectors, sizeof *out->vectors);
    sort_by_seq(out->payloads, out->n_payloads, sizeof *out->payloads);
    return VEX_OK;
}

/* ---- writing ---- */

typedef struct flushing {
    vex_vfs *vfs;
    const char *dir;
    const uint8_t *uuid;
    bool sync;
    const vex_snapshot *sealed;
    vex_flush_result *result;
} flushing;

static vex_status write_vectors(const flushing *f, const gathered *rows) {
    vex_flush_result *result = f->result;
    vex_vec_source *source = &result->vec;
    if (rows->n_vectors == 0) {
        return VEX_OK;
    }
    VEX_TRY(vex_vecfile_write(f->vfs, f->dir, f->uuid, result->manifest.next_file_no++,
                              rows->vectors, rows->n_vectors, f->sealed->dimension,
                              f->sealed->space, vex_snapshot_code_range(f->sealed),
                              rows->vector_lsn[0], rows->vector_lsn[1], f->sync, &source->entry));
    result->has_rows = true;
    VEX_TRY(vex_tombs_create(rows->n_vectors, &source->tombs));
    return vex_vecfile_open(f->vfs, f->dir, f->uuid, &source->entry, &source->file);
}

static vex_status write_payloads(const flushing *f, const gathered *rows) {
    vex_flush_result *result = f->result;
    vex_pay_source *source = &result->pay;
    if (rows->n_payloads == 0) {
        return VEX_OK;
    }
    VEX_TRY(vex_payfile_write(f->vfs, f->dir, f->uuid, result->manifest.next_file_no++,
                              rows->payloads, rows->n_payloads, rows->payload_lsn[0],
                              rows->payload_lsn[1], f->sync, &source->entry));
    result->has_rows = true;
    VEX_TRY(vex_tombs_create(rows->n_payloads, &source->tombs));
    return vex_payfile_open(f->vfs, f->dir, f->uuid, &source->entry, &source->file);
}

/* ---- the next manifest ---- */

/* The tombstones of a listed file as of `sealed`; NULL when the snapshot does not have it. */
static const vex_tombs *tombs_of(const vex_snapshot *snapshot, const vex_file_entry *entry,
                                 bool *changed) {
    for (uint32_t i = 0; entry->kind == VEX_KIND_VECTORS && i < snapshot->n_vecs; i++) {
        if (snapshot->vecs[i].entry.file_no == entry->file_no) {
            *changed = snapshot->vecs[i].tombs_changed;
            return snapshot->vecs[i].tombs;
        }
    }
    for (uint32_t i = 0; entry->kind == VEX_KIND_PAYLOAD && i < snapshot->n_pays; i++) {
        if (snapshot->pays[i].entry.file_no == entry->file_no) {
            *changed = snapshot->pays[i].tombs_changed;
            return snapshot->pays[i].tombs;
        }
    }
    return NULL;
}

/* Bring the entries of older files up to `sealed`. */
static vex_status update_entries(const flushing *f) {
    vex_manifest *manifest = &f->result->manifest;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < manifest->n_files; i++) {
        vex_file_entry entry = manifest->files[i];
        bool changed = false;
        const vex_tombs *tombs = tombs_of(f->sealed, &entry, &changed);
        if (tombs == NULL) {
            return VEX_FAIL(VEX_ERR_INVALID, "file %llu of the manifest is not in the snapshot",
                            (unsigned long long)entry.file_no);
        }
        if (tombs->dead == tombs->rows) {
            continue;
        }
        if (changed) {
            VEX_TRY(vex_tombs_write(tombs, f->vfs, f->dir, f->uuid, manifest->next_file_no++,
                                    f->sealed->lsn, f->sync, &entry));
        }
        manifest->files[kept++] = entry;
    }
    manifest->n_files = kept;
    return VEX_OK;
}

static vex_status add_entries(vex_flush_result *result) {
    vex_manifest *manifest = &result->manifest;
    vex_file_entry *files =
        vex_realloc(manifest->files, ((size_t)manifest->n_files + 2) * sizeof *files);
    if (files == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a manifest");
    }
    manifest->files = files;
    if (result->vec.file != NULL) {
        files[manifest->n_files++] = result->vec.entry;
    }
    if (result->pay.file != NULL) {
        files[manifest->n_files++] = result->pay.entry;
    }
    return VEX_OK;
}

static vex_status start_manifest(const flushing *f, const vex_manifest *base, const vex_buf *keys,
                                 uint64_t wal_first) {
    vex_manifest *manifest = &f->result->manifest;
    VEX_TRY(vex_manifest_copy(manifest, base));
    manifest->generation++;
    manifest->lsn = f->sealed->lsn;
    manifest->next_seq = f->sealed->next_seq;
    manifest->live_rows = f->sealed->live_rows;
    manifest->dimension = f->sealed->dimension;
    manifest->wal_first = wal_first;
    manifest->keys.len = 0;
    return vex_buf_append(&manifest->keys, keys->data, keys->len);
}

static vex_status check_input(const vex_snapshot *sealed, uint32_t n_flush) {
    bool fine = n_flush <= sealed->n_mems;
    for (uint32_t i = n_flush; i < sealed->n_mems && fine; i++) {
        fine = sealed->mems[i].n_vectors == 0 && sealed->mems[i].n_payloads == 0;
    }
    return fine ? VEX_OK
                : VEX_FAIL(VEX_ERR_INVALID, "the snapshot to flush has rows beyond its sealed "
                                            "memtables");
}

vex_status vex_flush_write(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                           const vex_snapshot *sealed, uint32_t n_flush, const vex_manifest *base,
                           const vex_buf *keys, uint64_t wal_first, bool sync,
                           vex_flush_result *out) {
    vex_flush_result result = {0};
    gathered rows = {0};
    const flushing f = {vfs, dir, uuid, sync, sealed, &result};
    VEX_TRY(check_input(sealed, n_flush));
    vex_status status;
    VEX_TRY_DONE(status, start_manifest(&f, base, keys, wal_first));
    VEX_TRY_DONE(status, update_entries(&f));
    VEX_TRY_DONE(status, gather(sealed, n_flush, &rows));
    VEX_TRY_DONE(status, write_vectors(&f, &rows));
    VEX_TRY_DONE(status, write_payloads(&f, &rows));
    VEX_TRY_DONE(status, add_entries(&result));
    VEX_TRY_DONE(status, vex_manifest_check(&result.manifest, dir));
    if (sync) {
        VEX_TRY_DONE(status, vfs->dir_sync(vfs, dir));
    }
    *out = result;
    result = (vex_flush_result){0};
done:
    clear_gathered(&rows);
    vex_flush_result_clear(&result);
    return status;
}

void vex_flush_result_clear(vex_flush_result *result) {
    vex_manifest_clear(&result->manifest);
    vex_vecfile_release(result->vec.file);
    vex_tombs_release(result->vec.tombs);
    vex_payfile_release(result->pay.file);
    vex_tombs_release(result->pay.tombs);
    *result = (vex_flush_result){0};
}

/* ---- carrying over ---- */

static vex_status unrelated(void) {
    return VEX_FAIL(VEX_ERR_INVALID, "the collection changed its files during a flush");
}

static const vex_file_entry *entry_of(const vex_manifest *manifest, const vex_file_entry *old) {
    for (uint32_t i = 0; i < manifest->n_files; i++) {
        if (manifest->files[i].kind == old->kind && manifest->files[i].file_no == old->file_no) {
            return &manifest->files[i];
        }
    }
    return NULL;
}

/* Give the older files their new entries; those no longer listed have no live rows. */
static vex_status carry_vectors(const vex_manifest *manifest, vex_snapshot *next) {
    uint32_t kept = 0, n = next->n_vecs;
    for (uint32_t i = 0; i < n; i++) {
        vex_vec_source source = next->vecs[i];
        const vex_file_entry *entry = entry_of(manifest, &source.entry);
        if (entry == NULL && source.tombs->dead < source.tombs->rows) {
            return unrelated();
        }
        if (entry != NULL) {
            source.entry = *entry;
            source.tombs_changed = source.tombs->dead != entry->dead_rows;
        }
        next->vecs[i] = next->vecs[kept]; /* keep the array whole: it may be released half-way */
        next->vecs[kept] = source;
        kept += entry != NULL;
    }
    for (uint32_t i = kept; i < n; i++) {
        vex_vecfile_release(next->vecs[i].file);
        vex_tombs_release(next->vecs[i].tombs);
    }
    next->n_vecs = kept;
    return VEX_OK;
}

static vex_status carry_payloads(const vex_manifest *manifest, vex_snapshot *next) {
    uint32_t kept = 0, n = next->n_pays;
    for (uint32_t i = 0; i < n; i++) {
        vex_pay_source source = next->pays[i];
        const vex_file_entry *entry = entry_of(manifest, &source.entry);
        if (entry == NULL && source.tombs->dead < source.tombs->rows) {
            return unrelated();
        }
        if (entry != NULL) {
            source.entry = *entry;
            source.tombs_changed = source.tombs->dead != entry->dead_rows;
        }
        next->pays[i] = next->pays[kept];
        next->pays[kept] = source;
        kept += entry != NULL;
    }
    for (uint32_t i = kept; i < n; i++) {
        vex_payfile_release(next->pays[i].file);
        vex_tombs_release(next->pays[i].tombs);
    }
    next->n_pays = kept;
    return VEX_OK;
}

static vex_status add_sources(const vex_flush_result *result, vex_snapshot *next) {
    vex_vec_source *vecs = vex_realloc(next->vecs, ((size_t)next->n_vecs + 1) * sizeof *vecs);
    next->vecs = vecs ? vecs : next->vecs;
    vex_pay_source *pays = vex_realloc(next->pays, ((size_t)next->n_pays + 1) * sizeof *pays);
    next->pays = pays ? pays : next->pays;
    if (vecs == NULL || pays == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a snapshot");
    }
    if (result->vec.file != NULL) {
        vecs[next->n_vecs++] = result->vec;
        vex_vecfile_acquire(result->vec.file);
        vex_tombs_acquire(result->vec.tombs);
    }
    if (result->pay.file != NULL) {
        pays[next->n_pays++] = result->pay;
        vex_payfile_acquire(result->pay.file);
        vex_tombs_acquire(result->pay.tombs);
    }
    return next->n_vecs + next->n_pays == result->manifest.n_files ? VEX_OK : unrelated();
}

/* Rows of the memtable that are in the new files but dead in `next`. */
static vex_status carry_deaths(const vex_mem_source *source, uint64_t sealed_lsn,
                               vex_snapshot *next) {
    bool was_live;
    for (uint32_t row = 0; row < source->n_vectors; row++) {
        const vex_mem_vector *vector = vex_memtable_vector(source->table, row);
        if (vex_mem_vector_live(vector, sealed_lsn) && !vex_mem_vector_live(vector, next->lsn)) {
            vex_vec_source *vec = &next->vecs[next->n_vecs - 1];
            vec->tombs_changed = true;
            VEX_TRY(
                vex_tombs_kill(&vec->tombs, vex_vecfile_find(vec->file, vector->seq), &was_live));
        }
    }
    for (uint32_t row = 0; row < source->n_payloads; row++) {
        const vex_mem_payload *payload = vex_memtable_payload(source->table, row);
        if (vex_mem_payload_live(payload, sealed_lsn) &&
            !vex_mem_payload_live(payload, next->lsn)) {
            vex_pay_source *pay = &next->pays[next->n_pays - 1];
            pay->tombs_changed = true;
            VEX_TRY(vex_tombs_kill(
                &pay->tombs, vex_payfile_find_seq(pay->file, payload->payload.seq), &was_live));
        }
    }
    return VEX_OK;
}

vex_status vex_flush_carry(const vex_flush_result *result, const vex_snapshot *sealed,
                           uint32_t n_flush, vex_snapshot *next) {
    if (next->n_mems < n_flush || next->lsn < sealed->lsn) {
        return unrelated();
    }
    for (uint32_t i = 0; i < n_flush; i++) {
        if (next->mems[i].table != sealed->mems[i].table) {
            return unrelated();
        }
    }
    VEX_TRY(carry_vectors(&result->manifest, next));
    VEX_TRY(carry_payloads(&result->manifest, next));
    VEX_TRY(add_sources(result, next));
    for (uint32_t i = 0; i < n_flush; i++) {
        VEX_TRY(carry_deaths(&sealed->mems[i], sealed->lsn, next));
    }
    for (uint32_t i = 0; i < n_flush; i++) {
        vex_memtable_release(next->mems[i].table);
    }
    next->n_mems -= n_flush;
    memmove(next->mems, next->mems + n_flush, next->n_mems * sizeof next->mems[0]);
    next->generation = result->manifest.generation;
    return VEX_OK;
}
