/*
 * snapshot_find.c - finding and reading rows of a snapshot (snapshot.h).
 */
#include "store/snapshot.h"

#include "store/key_table.h"

#include "base/poison.h"

/* ---- find ---- */

vex_status vex_snapshot_find_id(const vex_snapshot *snapshot, const void *id, size_t len,
                                uint64_t hash, vex_row_ref *out) {
    for (uint32_t i = snapshot->n_mems; i-- > 0;) {
        const vex_memtable *table = snapshot->mems[i].table;
        uint32_t row = vex_memtable_find_id(table, id, len, hash, snapshot->lsn);
        if (row != VEX_NO_ROW) {
            uint64_t seq = vex_memtable_payload(table, row)->payload.seq;
            *out = (vex_row_ref){true, true, i, row, seq};
            return VEX_OK;
        }
    }
    for (uint32_t i = snapshot->n_pays; i-- > 0;) {
        const vex_pay_source *source = &snapshot->pays[i];
        uint32_t row = UINT32_MAX;
        VEX_TRY(vex_payfile_find_id(source->file, id, len, hash, &row));
        if (row != UINT32_MAX && !vex_tombs_dead(source->tombs, row)) {
            *out = (vex_row_ref){true, false, i, row, source->file->seqs[row]};
            return VEX_OK;
        }
    }
    *out = (vex_row_ref){0};
    return VEX_OK;
}

static bool in_range(const vex_file_entry *entry, uint64_t seq) {
    return entry->seq_lo <= seq && seq <= entry->seq_hi;
}

void vex_snapshot_find_payload(const vex_snapshot *snapshot, uint64_t seq, vex_row_ref *out) {
    for (uint32_t i = snapshot->n_mems; i-- > 0;) {
        uint32_t row = vex_memtable_find_payload(snapshot->mems[i].table, seq, snapshot->lsn);
        if (row != VEX_NO_ROW) {
            *out = (vex_row_ref){true, true, i, row, seq};
            return;
        }
    }
    for (uint32_t i = snapshot->n_pays; i-- > 0;) {
        const vex_pay_source *source = &snapshot->pays[i];
        uint32_t row =
            in_range(&source->entry, seq) ? vex_payfile_find_seq(source->file, seq) : UINT32_MAX;
        if (row != UINT32_MAX && !vex_tombs_dead(source->tombs, row)) {
            *out = (vex_row_ref){true, false, i, row, seq};
            return;
        }
    }
    *out = (vex_row_ref){0};
}

void vex_snapshot_find_vector(const vex_snapshot *snapshot, uint64_t seq, vex_row_ref *out) {
    for (uint32_t i = snapshot->n_mems; i-- > 0;) {
        uint32_t row = vex_memtable_find_vector(snapshot->mems[i].table, seq, snapshot->lsn);
        if (row != VEX_NO_ROW) {
            *out = (vex_row_ref){true, true, i, row, seq};
            return;
        }
    }
    for (uint32_t i = snapshot->n_vecs; i-- > 0;) {
        const vex_vec_source *source = &snapshot->vecs[i];
        uint32_t row =
            in_range(&source->entry, seq) ? vex_vecfile_find(source->file, seq) : UINT32_MAX;
        if (row != UINT32_MAX && !vex_tombs_dead(source->tombs, row)) {
            *out = (vex_row_ref){true, false, i, row, seq};
            return;
        }
    }
    *out = (vex_row_ref){0};
}

/* ---- read ---- */

struct vex_snapshot_reader {
    const vex_snapshot *snapshot;
    bool shared;
    vex_payload_reader files[]; /* one per payload file; `file` NULL: not used yet */
};

vex_status vex_snapshot_reader_create(const vex_snapshot *snapshot, vex_snapshot_reader **out) {
    vex_snapshot_reader *reader =
        vex_calloc(1, sizeof *reader + snapshot->n_pays * sizeof reader->files[0]);
    if (reader == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to read records");
    }
    reader->snapshot = snapshot;
    *out = reader;
    return VEX_OK;
}

void vex_snapshot_reader_share(vex_snapshot_reader *reader) {
    for (uint32_t i = 0; i < reader->snapshot->n_pays && !reader->shared; i++) {
        if (reader->files[i].file != NULL) {
            vex_payload_reader_share(&reader->files[i]);
        }
    }
    reader->shared = true;
}

void vex_snapshot_reader_destroy(vex_snapshot_reader *reader) {
    if (reader == NULL) {
        return;
    }
    for (uint32_t i = 0; i < reader->snapshot->n_pays; i++) {
        if (reader->files[i].file != NULL) {
            vex_payload_reader_clear(&reader->files[i]);
        }
    }
    vex_free(reader);
}

void vex_snapshot_expect_payload(const vex_snapshot *snapshot, const vex_row_ref *ref) {
    if (!ref->in_memory) {
        __builtin_prefetch(&snapshot->pays[ref->source].file->id_offsets[ref->row], 0, 3);
    }
}

vex_status vex_snapshot_read_payload(vex_snapshot_reader *reader, const vex_row_ref *ref,
                                     uint32_t parts, vex_payload *out) {
    const vex_snapshot *snapshot = reader->snapshot;
    if (ref->in_memory) {
        *out = vex_memtable_payload(snapshot->mems[ref->source].table, ref->row)->payload;
        return VEX_OK;
    }
    vex_payload_reader *file = &reader->files[ref->source];
    if (file->file == NULL) {
        vex_payload_reader_init(file, snapshot->pays[ref->source].file);
        if (reader->shared) {
            vex_payload_reader_share(file);
        }
    }
    return vex_payload_read(file, ref->row, parts, out);
}

void vex_snapshot_read_vector(const vex_snapshot *snapshot, const vex_row_ref *ref, float *dst) {
    if (ref->in_memory) {
        const vex_mem_vector *vector =
            vex_memtable_vector(snapshot->mems[ref->source].table, ref->row);
        memcpy(dst, vector->vector, snapshot->dimension * sizeof *dst);
    } else {
        vex_vecfile_decode(snapshot->vecs[ref->source].file, ref->row, dst);
    }
}
