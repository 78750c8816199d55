/*
 * snapshot.c - making snapshots: from a manifest, from an older one, and by batches (snapshot.h).
 */
#include "store/snapshot.h"

#include "store/section.h"

#include "base/poison.h"

static vex_status no_memory(void) {
    return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a snapshot");
}

/* ---- references ---- */

static void release_sources(vex_snapshot *snapshot) {
    for (uint32_t i = 0; i < snapshot->n_vecs; i++) {
        vex_vecfile_release(snapshot->vecs[i].file);
        vex_tombs_release(snapshot->vecs[i].tombs);
    }
    for (uint32_t i = 0; i < snapshot->n_pays; i++) {
        vex_payfile_release(snapshot->pays[i].file);
        vex_tombs_release(snapshot->pays[i].tombs);
    }
    for (uint32_t i = 0; i < snapshot->n_mems; i++) {
        vex_memtable_release(snapshot->mems[i].table);
    }
}

vex_snapshot *vex_snapshot_acquire(vex_snapshot *snapshot) {
    vex_refs_take(&snapshot->refs);
    return snapshot;
}

void vex_snapshot_release(vex_snapshot *snapshot) {
    if (snapshot == NULL || !vex_refs_drop(&snapshot->refs)) {
        return;
    }
    release_sources(snapshot);
    vex_free(snapshot->vecs);
    vex_free(snapshot->pays);
    vex_free(snapshot->kills);
    vex_free(snapshot);
}

/* An empty snapshot with room for that many sources, referenced once. */
static vex_status create(uint32_t n_vecs, uint32_t n_pays, vex_snapshot **out) {
    vex_snapshot *snapshot = vex_calloc(1, sizeof *snapshot);
    if (snapshot == NULL) {
        return no_memory();
    }
    atomic_init(&snapshot->refs, 1);
    snapshot->vecs = vex_calloc(n_vecs > 0 ? n_vecs : 1, sizeof *snapshot->vecs);
    snapshot->pays = vex_calloc(n_pays > 0 ? n_pays : 1, sizeof *snapshot->pays);
    if (snapshot->vecs == NULL || snapshot->pays == NULL) {
        vex_snapshot_release(snapshot);
        return no_memory();
    }
    *out = snapshot;
    return VEX_OK;
}

vex_status vex_snapshot_copy(const vex_snapshot *from, vex_snapshot **out) {
    vex_snapshot *copy = NULL;
    VEX_TRY(create(from->n_vecs, from->n_pays, &copy));
    copy->lsn = from->lsn;
    copy->next_seq = from->next_seq;
    copy->live_rows = from->live_rows;
    copy->generation = from->generation;
    copy->dimension = from->dimension;
    copy->space = from->space;
    copy->codes = from->codes;
    for (uint32_t i = 0; i < from->n_vecs; i++) {
        copy->vecs[i] = from->vecs[i];
        vex_vecfile_acquire(copy->vecs[i].file);
        vex_tombs_acquire(copy->vecs[i].tombs);
    }
    for (uint32_t i = 0; i < from->n_pays; i++) {
        copy->pays[i] = from->pays[i];
        vex_payfile_acquire(copy->pays[i].file);
        vex_tombs_acquire(copy->pays[i].tombs);
    }
    for (uint32_t i = 0; i < from->n_mems; i++) {
        copy->mems[i] = from->mems[i];
        vex_memtable_acquire(copy->mems[i].table);
    }
    copy->n_vecs = from->n_vecs;
    copy->n_pays = from->n_pays;
    copy->n_mems = from->n_mems;
    *out = copy;
    return VEX_OK;
}

/* ---- code rows ---- */

uint32_t vex_snapshot_code_tag(const vex_snapshot *snapshot) {
    uint32_t tag = snapshot->n_vecs > 0 ? snapshot->codes.least : 0;
    for (uint32_t i = 0; i < snapshot->n_vecs; i++) {
        const uint32_t of_file = snapshot->vecs[i].file->code_form.tag;
        tag = of_file > tag ? of_file : tag;
    }
    return snapshot->codes.most != 0 && tag > snapshot->codes.most ? snapshot->codes.most : tag;
}

vex_code_range vex_snapshot_code_range(const vex_snapshot *snapshot) {
    const uint32_t tag = vex_snapshot_code_tag(snapshot);
    return (vex_code_range){tag > snapshot->codes.least ? tag : snapshot->codes.least,
                            snapshot->codes.most};
}

/* ---- from a manifest ---- */

typedef struct place {
    vex_vfs *vfs;
    const char *dir;
    const uint8_t *uuid;
    const vex_snapshot *known; /* or NULL */
} place;

/* Do they name the same file, of the same content?  A number is used again when the manifest that had it
 * was taken back. */
static bool is_same_file(const vex_file_entry *a, const vex_file_entry *b) {
    return a->file_no == b->file_no && a->size == b->size && a->crc == b->crc &&
           a->rows == b->rows && a->seq_lo == b->seq_lo && a->seq_hi == b->seq_hi &&
           a->lsn_lo == b->lsn_lo && a->lsn_hi == b->lsn_hi;
}

static vex_status open_vectors(const place *in, const vex_file_entry *entry,
                               vex_snapshot *snapshot) {
    vex_vec_source *source = &snapshot->vecs[snapshot->n_vecs];
    for (uint32_t i = 0; in->known != NULL && i < in->known->n_vecs; i++) {
        if (is_same_file(&in->known->vecs[i].entry, entry)) {
            source->file = vex_vecfile_acquire(in->known->vecs[i].file);
        }
    }
    if (source->file == NULL) {
        VEX_TRY(vex_vecfile_open(in->vfs, in->dir, in->uuid, entry, &source->file));
    }
    snapshot->n_vecs++;
    source->entry = *entry;
    if (source->file->dimension != snapshot->dimension) {
        return VEX_FAIL_AT(VEX_ERR_CORRUPT, source->file->container.path, 0, 0,
                           "vectors of dimension %u in a collection of dimension %u",
                           (unsigned)source->file->dimension, (unsigned)snapshot->dimension);
    }
    return vex_tombs_read(in->vfs, in->dir, in->uuid, entry, &source->tombs);
}

static vex_status open_payloads(const place *in, const vex_file_entry *entry,
                                vex_snapshot *snapshot) {
    vex_pay_source *source = &snapshot->pays[snapshot->n_pays];
    for (uint32_t i = 0; in->known != NULL && i < in->known->n_pays; i++) {
        if (is_same_file(&in->known->pays[i].entry, entry)) {
            source->file = vex_payfile_acquire(in->known->pays[i].file);
        }
    }
    if (source->file == NULL) {
        VEX_TRY(vex_payfile_open(in->vfs, in->dir, in->uuid, entry, &source->file));
    }
    snapshot->n_pays++;
    source->entry = *entry;
    return vex_tombs_read(in->vfs, in->dir, in->uuid, entry, &source->tombs);
}

vex_status vex_snapshot_open(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                             const vex_manifest *manifest, const vex_snapshot *known,
                             vex_snapshot **out) {
    const place in = {vfs, dir, uuid, known};
    vex_snapshot *snapshot = NULL;
    VEX_TRY(create(manifest->n_files, manifest->n_files, &snapshot));
    snapshot->lsn = manifest->lsn;
    snapshot->next_seq = manifest->next_seq;
    snapshot->live_rows = manifest->live_rows;
    snapshot->generation = manifest->generation;
    snapshot->dimension = manifest->dimension;
    snapshot->space = manifest->space;
    vex_status status = VEX_OK;
    for (uint32_t i = 0; i < manifest->n_files && status == VEX_OK; i++) {
        const vex_file_entry *entry = &manifest->files[i];
        if (entry->kind == VEX_KIND_VECTORS) {
            status = open_vectors(&in, entry, snapshot);
        } else if (entry->kind == VEX_KIND_PAYLOAD) {
            status = open_payloads(&in, entry, snapshot);
        } else {
            status = VEX_FAIL_AT(VEX_ERR_VERSION, dir, 0, 0,
                                 "the manifest lists files of a later release; upgrade "
                                 "vexfs_chroma");
        }
    }
    if (status != VEX_OK) {
        vex_snapshot_release(snapshot);
        return status;
    }
    *out = snapshot;
    return VEX_OK;
}

/* ---- batches ---- */

/* The newest memtable sees to its own rows; older ones wait for the commit. */
static vex_status kill_in_memory(vex_snapshot *snapshot, const vex_row_ref *ref, bool payload,
                                 bool deletes) {
    if (ref->source + 1 == snapshot->n_mems) {
        return VEX_OK;
    }
    void *kills = snapshot->kills;
    VEX_TRY(vex_grow(&kills, &snapshot->kills_capacity, snapshot->n_kills + 1,
                     sizeof *snapshot->kills));
    snapshot->kills = kills;
    snapshot->kills[snapshot->n_kills++] = (vex_mem_kill){ref->source, ref->row, payload, deletes};
    return VEX_OK;
}

static vex_status kill_vector(vex_snapshot *snapshot, uint64_t seq) {
    vex_row_ref ref;
    bool was_live;
    vex_snapshot_find_vector(snapshot, seq, &ref);
    if (!ref.found) {
        return VEX_OK;
    }
    if (ref.in_memory) {
        return kill_in_memory(snapshot, &ref, false, false);
    }
    snapshot->vecs[ref.source].tombs_changed = true;
    return vex_tombs_kill(&snapshot->vecs[ref.source].tombs, ref.row, &was_live);
}

static vex_status kill_payload(vex_snapshot *snapshot, uint64_t seq, bool deletes) {
    vex_row_ref ref;
    bool was_live;
    vex_snapshot_find_payload(snapshot, seq, &ref);
    if (!ref.found) {
        return VEX_OK;
    }
    if (ref.in_memory) {
        return kill_in_memory(snapshot, &ref, true, deletes);
    }
    snapshot->pays[ref.source].tombs_changed = true;
    snapshot->n_deleted += deletes;
    return vex_tombs_kill(&snapshot->pays[ref.source].tombs, ref.row, &was_live);
}

vex_status vex_snapshot_apply(vex_snapshot *snapshot, const vex_batch *batch, uint64_t lsn) {
    if (lsn <= snapshot->lsn || snapshot->n_mems == 0) {
        return VEX_FAIL(VEX_ERR_INVALID, "batch %llu does not follow state %llu",
                        (unsigned long long)lsn, (unsigned long long)snapshot->lsn);
    }
    if (batch->dimension != 0 && snapshot->dimension != 0 &&
        batch->dimension != snapshot->dimension) {
        return VEX_FAIL(VEX_ERR_DIMENSION,
                        "vectors of dimension %u for a collection of dimension "
                        "%u",
                        (unsigned)batch->dimension, (unsigned)snapshot->dimension);
    }
    uint64_t next_seq = snapshot->next_seq;
    for (size_t i = 0; i < batch->n_ops; i++) {
        const vex_op *op = &batch->ops[i];
        if (op->kind == VEX_OP_PUT && op->payload.seq < next_seq) {
            return VEX_FAIL(VEX_ERR_CORRUPT, "record %llu, said to be new, is there already",
                            (unsigned long long)op->payload.seq);
        }
        next_seq = op->kind == VEX_OP_PUT ? op->payload.seq + 1 : next_seq;
        bool deletes = op->kind == VEX_OP_DELETE;
        if (deletes || op->kind == VEX_OP_VECTOR) {
            VEX_TRY(kill_vector(snapshot, op->payload.seq));
        }
        if (deletes || op->kind == VEX_OP_PAYLOAD) {
            VEX_TRY(kill_payload(snapshot, op->payload.seq, deletes));
        }
    }
    return VEX_OK;
}

void vex_snapshot_commit(vex_snapshot *snapshot, const vex_batch *batch, uint64_t lsn) {
    vex_mem_source *newest = &snapshot->mems[snapshot->n_mems - 1];
    uint64_t deleted = snapshot->n_deleted, put = 0;
    for (size_t i = 0; i < snapshot->n_kills; i++) {
        const vex_mem_kill *kill = &snapshot->kills[i];
        vex_memtable *table = snapshot->mems[kill->source].table;
        if (kill->payload) {
            deleted += vex_memtable_kill_payload(table, kill->row, lsn) && kill->deletes;
        } else {
            vex_memtable_kill_vector(table, kill->row, lsn);
        }
    }
    vex_free(snapshot->kills);
    snapshot->kills = NULL;
    snapshot->n_kills = snapshot->kills_capacity = 0;
    snapshot->n_deleted = 0;

    deleted += vex_memtable_apply(newest->table, batch, lsn);
    for (size_t i = 0; i < batch->n_ops; i++) {
        put += batch->ops[i].kind == VEX_OP_PUT;
    }
    newest->n_vectors = vex_memtable_vectors(newest->table);
    newest->n_payloads = vex_memtable_payloads(newest->table);
    snapshot->live_rows += put - deleted;
    snapshot->lsn = lsn;
    if (batch->next_seq > snapshot->next_seq) {
        snapshot->next_seq = batch->next_seq;
    }
    if (snapshot->dimension == 0) {
        snapshot->dimension = batch->dimension;
    }
}

bool vex_snapshot_tombs_changed(const vex_snapshot *snapshot) {
    bool changed = false;
    for (uint32_t i = 0; i < snapshot->n_vecs; i++) {
        changed = changed || snapshot->vecs[i].tombs_changed;
    }
    for (uint32_t i = 0; i < snapshot->n_pays; i++) {
        changed = changed || snapshot->pays[i].tombs_changed;
    }
    return changed;
}
