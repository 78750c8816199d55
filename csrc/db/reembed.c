/*
 * reembed.c - other vectors, which may have another dimension, for all records of a collection at once.
 *
 * The log is flushed first, so that the new vectors are all there is; they go into files beside the old
 * ones, and one manifest changes over.  Who embeds saw the collection as of some lsn: what was written
 * after it has vectors of the old kind, so the commit is given up when there is any.  Writers are not
 * kept out for it; ids, documents and metadata stay where they are.
 */
#include "db/catchup.h"
#include "db/index_internal.h"

#include "index/dist.h"

#include <math.h>

#include "base/poison.h"

#define SPACE_MARGIN ((uint64_t)1 << 20)

typedef struct reembedding {
    vex_collection *collection;
    const vex_reembed_request *request;
    vex_vector_row *rows; /* of all records, by seq                                               */
    vex_manifest manifest;
    bool changed; /* by others, after request->lsn                                        */
} reembedding;

static vex_status check_request(const vex_reembed_request *request) {
    if (request->n > 0 && (request->vectors == NULL || request->dimension == 0 ||
                           request->dimension > VEX_DIMENSION_MAX)) {
        return VEX_FAIL(VEX_ERR_INVALID, "%llu vectors of dimension %u",
                        (unsigned long long)request->n, (unsigned)request->dimension);
    }
    return VEX_OK;
}

static int compare_seqs(const void *a, const void *b) {
    const uint64_t x = ((const vex_vector_row *)a)->seq, y = ((const vex_vector_row *)b)->seq;
    return x < y ? -1 : x > y;
}

/* The request has the vectors in this order. */
static vex_status order_rows(reembedding *r, const vex_snapshot *snapshot) {
    const vex_reembed_request *request = r->request;
    uint64_t n = 0;
    if (request->n != snapshot->live_rows) {
        return VEX_FAIL(VEX_ERR_INVALID, "%llu vectors for %llu records",
                        (unsigned long long)request->n, (unsigned long long)snapshot->live_rows);
    }
    r->rows = vex_calloc(request->n + 1, sizeof *r->rows);
    if (r->rows == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for %llu rows",
                        (unsigned long long)request->n);
    }
    for (uint32_t i = 0; i < snapshot->n_vecs; i++) {
        const vex_vec_source *source = &snapshot->vecs[i];
        for (uint32_t row = 0; row < source->file->rows && n <= request->n; row++) {
            if (!vex_tombs_dead(source->tombs, row)) {
                r->rows[n++].seq = source->file->seqs[row];
            }
        }
    }
    if (n != request->n) {
        return VEX_FAIL_AT(VEX_ERR_CORRUPT, r->collection->dir, 0, 0,
                           "the manifest counts %llu records, its files another number",
                           (unsigned long long)request->n);
    }
    qsort(r->rows, n, sizeof *r->rows, compare_seqs);
    for (uint64_t i = 0; i < n; i++) {
        const float *vector = request->vectors + i * request->dimension;
        r->rows[i].vector = vector;
        r->rows[i].norm2 = vex_norm2(vector, request->dimension);
        if (!isfinite(r->rows[i].norm2)) {
            return VEX_FAIL(VEX_ERR_INVALID,
                            "vector %llu has an element that is not finite, or too large",
                            (unsigned long long)i);
        }
    }
    return VEX_OK;
}

static vex_status check_room(const reembedding *r) {
    const uint64_t bytes = r->request->n * r->request->dimension * (sizeof(float) + 1);
    const uint64_t needed = bytes + bytes / 8 + SPACE_MARGIN;
    const uint64_t there = vex_space_free(r->collection->db);
    return there >= needed
               ? VEX_OK
               : VEX_FAIL_AT(VEX_ERR_NO_SPACE, r->collection->dir, 0, ENOSPC,
                             "other vectors need %llu KiB of free space, there are %llu; free some "
                             "space and try again",
                             (unsigned long long)(needed >> 10), (unsigned long long)(there >> 10));
}

/* Under MAINT, when all is flushed.  Nobody changes files meanwhile. */
static vex_status write_files(reembedding *r, const vex_manifest *from, vex_code_range codes) {
    vex_collection *collection = r->collection;
    vex_db *db = collection->db;
    vex_manifest *to = &r->manifest;
    const uint64_t row_bytes = (uint64_t)r->request->dimension * (sizeof(float) + 1) + 1;
    const uint64_t fits = db->file_max / row_bytes; /* in memory there is no limit */
    const uint32_t most = (uint32_t)(fits == 0 ? 1 : fits < VEX_ROWS_MAX ? fits : VEX_ROWS_MAX);
    const uint64_t n_files = (r->request->n + most - 1) / most;
    VEX_TRY(vex_manifest_copy(to, from));
    vex_file_entry *files = vex_calloc(from->n_files + n_files + 1, sizeof *files);
    if (files == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a manifest");
    }
    vex_free(to->files);
    to->files = files;
    to->n_files = 0;
    for (uint32_t i = 0; i < from->n_files; i++) {
        if (from->files[i].kind == VEX_KIND_PAYLOAD) {
            files[to->n_files++] = from->files[i];
        }
    }
    for (uint64_t first = 0; first < r->request->n; first += most) {
        const uint64_t rest = r->request->n - first;
        VEX_TRY(vex_vecfile_write(db->vfs, collection->dir, db->uuid, to->next_file_no++,
                                  r->rows + first, (uint32_t)(rest < most ? rest : most),
                                  r->request->dimension, to->space, codes, 1, to->lsn,
                                  vex_db_syncs(db), &files[to->n_files++]));
    }
    to->dimension = r->request->n > 0 ? r->request->dimension : 0;
    to->generation++;
    return vex_db_syncs(db) ? db->vfs->dir_sync(db->vfs, collection->dir) : VEX_OK;
}

static bool is_flushed(const vex_collection *collection, uint64_t lsn) {
    const vex_snapshot *latest = collection->latest;
    return latest->lsn == lsn && latest->n_mems == 1 && !vex_snapshot_tombs_changed(latest) &&
           vex_memtable_payloads(latest->mems[0].table) == 0 &&
           vex_memtable_vectors(latest->mems[0].table) == 0;
}

/* Under lease and write_mu. */
static vex_status open_next(reembedding *r, vex_snapshot **out) {
    vex_collection *collection = r->collection;
    vex_db *db = collection->db;
    vex_snapshot *next = NULL;
    VEX_TRY(vex_snapshot_open(db->vfs, collection->dir, db->uuid, &r->manifest, collection->latest,
                              &next));
    next->codes = collection->latest->codes;
    next->lsn = collection->latest->lsn;
    vex_status status = vex_memtable_create(&next->mems[0].table);
    if (status != VEX_OK) {
        vex_snapshot_release(next);
        return status;
    }
    next->n_mems = 1;
    *out = next;
    return VEX_OK;
}

/* Whoever has the log open would go on in it, with vectors of the old kind, if this process were killed
 * before the head tells of the manifest.  Another log makes everybody look for a newer one first. */
static vex_status begin_log(reembedding *r) {
    vex_collection *collection = r->collection;
    VEX_TRY(vex_collection_rotate_log(collection));
    r->manifest.wal_first = collection->known.wal_number;
    r->manifest.lsn = collection->latest->lsn;
    return vex_publish(collection, collection->latest, &collection->known);
}

/* Under lease and write_mu: readers see the new vectors from here on. */
static vex_status commit(reembedding *r) {
    vex_collection *collection = r->collection;
    vex_db *db = collection->db;
    vex_snapshot *next = NULL;
    VEX_TRY(begin_log(r));
    VEX_TRY(open_next(r, &next));
    vex_status status =
        vex_manifest_write(db->vfs, collection->dir, db->uuid, &r->manifest, vex_db_syncs(db));
    if (status != VEX_OK) {
        if (status != VEX_ERR_NO_SPACE) {
            vex_collection_commit_failed(collection);
        }
        vex_snapshot_release(next);
        return status;
    }
    vex_manifest_clear(&collection->manifest);
    collection->manifest = r->manifest;
    r->manifest = (vex_manifest){0};
    collection->known.generation = collection->manifest.generation;
    vex_snapshot_release(collection->latest);
    vex_snapshot_release(collection->sealed);
    collection->latest = next;
    collection->sealed = NULL;
    return vex_publish(collection, next, &collection->known);
}

/* Under MAINT: what is there now, for writing beside it. */
static vex_status begin(reembedding *r, vex_manifest *from, vex_code_range *codes) {
    vex_collection *collection = r->collection;
    VEX_TRY(vex_lease_acquire(collection->db));
    pthread_mutex_lock(&collection->write_mu);
    vex_status status = vex_collection_take_over_files(collection);
    if (status == VEX_OK) {
        r->changed = !is_flushed(collection, r->request->lsn);
        status = r->changed ? VEX_OK : order_rows(r, collection->latest);
    }
    if (status == VEX_OK && !r->changed) {
        *codes = collection->latest->codes;
        status = vex_manifest_copy(from, &collection->manifest);
    }
    pthread_mutex_unlock(&collection->write_mu);
    vex_lease_release(collection->db);
    return status;
}

static vex_status end(reembedding *r) {
    vex_collection *collection = r->collection;
    VEX_TRY(vex_lease_acquire(collection->db));
    pthread_mutex_lock(&collection->write_mu);
    vex_status status = vex_collection_take_over_quiet(collection);
    if (status == VEX_OK) {
        r->changed = !is_flushed(collection, r->request->lsn);
        status = r->changed ? VEX_OK : commit(r);
    }
    pthread_mutex_unlock(&collection->write_mu);
    vex_lease_release(collection->db);
    return status;
}

/* Under index.mu and MAINT. */
static vex_status reembed(reembedding *r) {
    vex_collection *collection = r->collection;
    vex_manifest from = {0};
    vex_code_range codes = {0};
    vex_status status = vex_collection_flush_held(collection, true, NULL);
    if (status == VEX_OK) {
        status = begin(r, &from, &codes);
    }
    if (status == VEX_OK && !r->changed) {
        status = check_room(r);
        status = status == VEX_OK ? write_files(r, &from, codes) : status;
        if (status == VEX_OK) {
            status = end(r);
        }
        if (!atomic_load(&collection->dropped)) {
            vex_collection_remove_leftovers(collection, status);
        }
    }
    vex_manifest_clear(&from);
    return status;
}

vex_status vex_collection_reembed(vex_collection *collection, const vex_reembed_request *request,
                                  uint32_t *changed) {
    vex_db *db = collection->db;
    reembedding r = {.collection = collection, .request = request};
    VEX_TRY(check_request(request));
    VEX_TRY(vex_db_enter(db));
    vex_status status = vex_collection_refresh(collection);
    if (status == VEX_OK) {
        pthread_mutex_lock(&collection->index.mu);
        status = vex_maintenance_acquire_soon(db);
        if (status == VEX_OK) {
            status = reembed(&r);
            vex_maintenance_release(db);
        }
        if (status == VEX_OK && !r.changed) {
            status = vex_index_forget(collection);
        }
        pthread_mutex_unlock(&collection->index.mu);
    }
    if (status == VEX_OK && !r.changed) {
        vex_index_want(collection);
    }
    vex_free(r.rows);
    vex_manifest_clear(&r.manifest);
    vex_db_leave(db);
    *changed = r.changed;
    return status;
}
