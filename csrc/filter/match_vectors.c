/*
 * match_vectors.c - from matching payload rows to the vector rows of the same records
 * (see match.h).
 *
 * A record's two rows were usually written together: as rows of the same number in files that
 * have the same records, which are taken 64 at a time, or in a memtable at the same distance as the
 * last pair, which counts only when seq and liveness agree.
 */
#include "base/bits.h"
#include "filter/match.h"

#include "base/poison.h"

static vex_status make_bitmap(uint64_t **words, size_t rows) {
    if (*words == NULL) {
        *words = vex_calloc(vex_bit_words(rows) + 1, sizeof **words);
    }
    return *words ? VEX_OK : VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a row bitmap");
}

static vex_status set_bit(uint64_t **words, size_t rows, uint32_t row) {
    VEX_TRY(make_bitmap(words, rows));
    vex_bit_set(*words, row);
    return VEX_OK;
}

static vex_status place(const vex_snapshot *snapshot, const vex_row_ref *ref,
                        vex_vector_matches *out) {
    out->count++;
    return ref->in_memory
               ? set_bit(&out->mems[ref->source], snapshot->mems[ref->source].n_vectors, ref->row)
               : set_bit(&out->vecs[ref->source], snapshot->vecs[ref->source].file->rows, ref->row);
}

/* The vector file written together with payload file `number`, or UINT32_MAX. */
static uint32_t twin_of(const vex_snapshot *snapshot, uint32_t number) {
    const vex_pay_source *pay = &snapshot->pays[number];
    for (uint32_t i = 0; i < snapshot->n_vecs; i++) {
        const vex_vec_source *vec = &snapshot->vecs[i];
        if (vec->file->rows == pay->file->rows && vec->entry.seq_lo == pay->entry.seq_lo &&
            vec->entry.seq_hi == pay->entry.seq_hi) {
            return i;
        }
    }
    return UINT32_MAX;
}

static vex_status follow(const vex_snapshot *snapshot, uint64_t seq, vex_vector_matches *out,
                         uint32_t *row) {
    vex_row_ref ref;
    vex_snapshot_find_vector(snapshot, seq, &ref);
    if (!ref.found) {
        return VEX_FAIL(VEX_ERR_CORRUPT, "record %llu has no vector", (unsigned long long)seq);
    }
    *row = ref.row;
    return place(snapshot, &ref, out);
}

/* Do row n of one and row n of the other belong to one record, for all n?  Files never change, so
 * they are compared once. */
static bool are_twins(vex_payfile *pay, const vex_vecfile *vec) {
    const uint64_t number = vec->container.file_no;
    if (atomic_load_explicit(&pay->twin, memory_order_relaxed) == number) {
        return true;
    }
    if (memcmp(pay->seqs, vec->seqs, (size_t)pay->rows * sizeof *pay->seqs) != 0) {
        return false;
    }
    atomic_store_explicit(&pay->twin, number, memory_order_relaxed);
    return true;
}

static vex_status follow_file(const vex_snapshot *snapshot, uint32_t number, const uint64_t *words,
                              vex_vector_matches *out) {
    vex_payfile *file = snapshot->pays[number].file;
    const uint32_t twin = twin_of(snapshot, number), n_words = (uint32_t)vex_bit_words(file->rows);
    uint32_t unused;
    const vex_tombs *tombs = NULL; /* of the twin */
    if (twin != UINT32_MAX && are_twins(file, snapshot->vecs[twin].file)) {
        tombs = snapshot->vecs[twin].tombs;
    }
    for (uint32_t at = 0; at < n_words; at++) {
        const uint64_t together = tombs ? words[at] & ~vex_tombs_dead_word(tombs, at) : 0;
        if (together != 0) {
            VEX_TRY(make_bitmap(&out->vecs[twin], file->rows));
            out->vecs[twin][at] |= together;
            out->count += (uint64_t)__builtin_popcountll(together);
        }
        for (uint64_t word = words[at] & ~together; word != 0; word &= word - 1) {
            const uint32_t row = at * 64 + (uint32_t)__builtin_ctzll(word);
            VEX_TRY(follow(snapshot, file->seqs[row], out, &unused));
        }
    }
    return VEX_OK;
}

static vex_status follow_memtable(const vex_snapshot *snapshot, uint32_t number,
                                  const uint64_t *words, vex_vector_matches *out) {
    const vex_mem_source *source = &snapshot->mems[number];
    int64_t shift = 0; /* vector row - payload row of the last pair */
    for (size_t at = 0; at < vex_bit_words(source->n_payloads); at++) {
        for (uint64_t word = words[at]; word != 0; word &= word - 1) {
            uint32_t row = (uint32_t)(at * 64) + (uint32_t)__builtin_ctzll(word), found = 0;
            uint64_t seq = vex_memtable_payload(source->table, row)->payload.seq;
            int64_t guess = (int64_t)row + shift;
            if (guess >= 0 && guess < (int64_t)source->n_vectors) {
                const vex_mem_vector *vector = vex_memtable_vector(source->table, (uint32_t)guess);
                if (vector->seq == seq && vex_mem_vector_live(vector, snapshot->lsn)) {
                    VEX_TRY(set_bit(&out->mems[number], source->n_vectors, (uint32_t)guess));
                    out->count++;
                    continue;
                }
            }
            VEX_TRY(follow(snapshot, seq, out, &found));
            shift = (int64_t)found - (int64_t)row;
        }
    }
    return VEX_OK;
}

vex_status vex_vector_matches_find(const vex_snapshot *snapshot, const vex_matches *matches,
                                   vex_vector_matches *out) {
    vex_vector_matches found = {.n_vecs = snapshot->n_vecs, .n_mems = snapshot->n_mems};
    found.vecs = vex_calloc(found.n_vecs + 1, sizeof *found.vecs);
    found.mems = vex_calloc(found.n_mems + 1, sizeof *found.mems);
    vex_status status = found.vecs && found.mems
                            ? VEX_OK
                            : VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to evaluate a selection");
    for (uint32_t i = 0; i < matches->n_pays && status == VEX_OK; i++) {
        if (matches->pays[i] != NULL) {
            status = follow_file(snapshot, i, matches->pays[i], &found);
        }
    }
    for (uint32_t i = 0; i < matches->n_mems && status == VEX_OK; i++) {
        if (matches->mems[i] != NULL) {
            status = follow_memtable(snapshot, i, matches->mems[i], &found);
        }
    }
    if (status != VEX_OK) {
        vex_vector_matches_clear(&found);
        return status;
    }
    *out = found;
    return VEX_OK;
}

void vex_vector_matches_clear(vex_vector_matches *matches) {
    for (uint32_t i = 0; matches->vecs != NULL && i < matches->n_vecs; i++) {
        vex_free(matches->vecs[i]);
    }
    for (uint32_t i = 0; matches->mems != NULL && i < matches->n_mems; i++) {
        vex_free(matches->mems[i]);
    }
    vex_free(matches->vecs);
    vex_free(matches->mems);
    *matches = (vex_vector_matches){0};
}
