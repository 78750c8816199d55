/*
 * compact_carry.c - putting the files of a compaction in the place of those it read (compact.h).
 */
#include "store/compact.h"

#include "store/section.h"

#include "base/poison.h"

static vex_status no_memory(void) {
    return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to merge files");
}

static vex_status unrelated(void) {
    return VEX_FAIL(VEX_ERR_INVALID, "the collection changed its files during a compaction");
}

/* ---- both kinds of files alike ---- */

/* A new file, and the tombstones that are being made for it. */
typedef struct new_file {
    const uint64_t *seqs;
    vex_tombs **tombs;
} new_file;

static vex_status kill_seq(const new_file *files, uint32_t n, uint64_t seq) {
    for (uint32_t i = 0; i < n; i++) {
        uint32_t rows = (*files[i].tombs)->rows;
        uint32_t row = vex_lower_bound_dense(files[i].seqs, rows, seq);
        if (row < rows && files[i].seqs[row] == seq) {
            bool was_live;
            return vex_tombs_kill(files[i].tombs, row, &was_live);
        }
    }
    return unrelated();
}

/* Kill in the new files the rows of an old one that died between `then` and `now` (NULL: all). */
static vex_status carry_deaths(const uint64_t *seqs, const vex_tombs *then, const vex_tombs *now,
                               const new_file *files, uint32_t n) {
    if (now != NULL && (now->rows != then->rows || now->dead < then->dead)) {
        return unrelated();
    }
    if (now != NULL && now->dead == then->dead) {
        return VEX_OK;
    }
    for (uint32_t row = 0; row < then->rows; row++) {
        if (!vex_tombs_dead(then, row) && (now == NULL || vex_tombs_dead(now, row))) {
            VEX_TRY(kill_seq(files, n, seqs[row]));
        }
    }
    return VEX_OK;
}

static bool is_input(const vex_compaction *c, uint32_t kind, uint64_t file_no) {
    bool found = false;
    for (uint32_t i = 0; kind == VEX_KIND_VECTORS && i < c->n_vecs; i++) {
        found = found || c->vecs[i].entry.file_no == file_no;
    }
    for (uint32_t i = 0; kind == VEX_KIND_PAYLOAD && i < c->n_pays; i++) {
        found = found || c->pays[i].entry.file_no == file_no;
    }
    return found;
}

/* ---- the next manifest ---- */

static const vex_file_entry *entry_of(const vex_manifest *manifest, const vex_file_entry *old) {
    for (uint32_t i = 0; i < manifest->n_files; i++) {
        if (manifest->files[i].kind == old->kind && manifest->files[i].file_no == old->file_no) {
            return &manifest->files[i];
        }
    }
    return NULL;
}

typedef struct bringing_up {
    vex_vfs *vfs;
    const char *dir;
    const uint8_t *uuid;
    bool sync;
    const vex_manifest *newest;
} bringing_up;

/* What died in one old file until `newest`. */
static vex_status carry_to_manifest(const bringing_up *b, const vex_file_entry *old,
                                    const uint64_t *seqs, const vex_tombs *then,
                                    const new_file *files, uint32_t n) {
    const vex_file_entry *entry = entry_of(b->newest, old);
    if (entry != NULL && entry->tombs_file_no == old->tombs_file_no) {
        return VEX_OK;
    }
    vex_tombs *now = NULL;
    if (entry != NULL) {
        VEX_TRY(vex_tombs_read(b->vfs, b->dir, b->uuid, entry, &now));
    }
    vex_status status = carry_deaths(seqs, then, now, files, n);
    vex_tombs_release(now);
    return status;
}

static vex_status carry_all_to_manifest(const bringing_up *b, vex_compaction *c) {
    const new_file vec = {c->vec.file ? c->vec.file->seqs : NULL, &c->vec.tombs};
    for (uint32_t i = 0; i < c->n_vecs; i++) {
        const vex_vec_source *old = &c->vecs[i];
        VEX_TRY(carry_to_manifest(b, &old->entry, old->file->seqs, old->tombs, &vec,
                                  c->vec.file != NULL));
    }
    new_file *pays = vex_calloc((size_t)c->n_new_pays + 1, sizeof *pays);
    vex_status status = pays != NULL ? VEX_OK : no_memory();
    for (uint32_t i = 0; i < c->n_new_pays && status == VEX_OK; i++) {
        pays[i] = (new_file){c->new_pays[i].file->seqs, &c->new_pays[i].tombs};
    }
    for (uint32_t i = 0; i < c->n_pays && status == VEX_OK; i++) {
        const vex_pay_source *old = &c->pays[i];
        status =
            carry_to_manifest(b, &old->entry, old->file->seqs, old->tombs, pays, c->n_new_pays);
    }
    vex_free(pays);
    return status;
}

static vex_status add_new_file(const bringing_up *b, vex_file_entry *entry, const vex_tombs *tombs,
                               vex_manifest *out, bool *wrote) {
    if (tombs->dead == tombs->rows) {
        return VEX_OK;
    }
    if (tombs->dead > 0) {
        VEX_TRY(vex_tombs_write(tombs, b->vfs, b->dir, b->uuid, out->next_file_no++, b->newest->lsn,
                                b->sync, entry));
        *wrote = true;
    }
    out->files[out->n_files++] = *entry;
    return VEX_OK;
}

static vex_status add_new_files(const bringing_up *b, vex_compaction *c, uint32_t kind,
                                vex_manifest *out, bool *wrote) {
    vex_status status = VEX_OK;
    if (kind == VEX_KIND_VECTORS && c->vec.file != NULL) {
        status = add_new_file(b, &c->vec.entry, c->vec.tombs, out, wrote);
    }
    for (uint32_t i = 0; kind == VEX_KIND_PAYLOAD && i < c->n_new_pays && status == VEX_OK; i++) {
        status = add_new_file(b, &c->new_pays[i].entry, c->new_pays[i].tombs, out, wrote);
    }
    return status;
}

/* Both kinds of new files stand where the first of their old files stood, or last when a flush
 * dropped all of these. */
static vex_status list_files(const bringing_up *b, vex_compaction *c, vex_manifest *out) {
    bool done[2] = {c->n_vecs == 0, c->n_pays == 0}, wrote = false;
    out->n_files = 0;
    for (uint32_t i = 0; i < b->newest->n_files; i++) {
        const vex_file_entry *entry = &b->newest->files[i];
        if (!is_input(c, entry->kind, entry->file_no)) {
            out->files[out->n_files++] = *entry;
        } else if (!done[entry->kind == VEX_KIND_PAYLOAD]) {
            done[entry->kind == VEX_KIND_PAYLOAD] = true;
            VEX_TRY(add_new_files(b, c, entry->kind, out, &wrote));
        }
    }
    if (!done[0]) {
        VEX_TRY(add_new_files(b, c, VEX_KIND_VECTORS, out, &wrote));
    }
    if (!done[1]) {
        VEX_TRY(add_new_files(b, c, VEX_KIND_PAYLOAD, out, &wrote));
    }
    return wrote && b->sync ? b->vfs->dir_sync(b->vfs, b->dir) : VEX_OK;
}

vex_status vex_compact_manifest(vex_compaction *compaction, vex_vfs *vfs, const char *dir,
                                const uint8_t uuid[16], bool sync, const vex_manifest *newest,
                                vex_manifest *out) {
    const bringing_up b = {vfs, dir, uuid, sync, newest};
    vex_manifest next = {0};
    VEX_TRY(carry_all_to_manifest(&b, compaction));
    VEX_TRY(vex_manifest_copy(&next, newest));
    size_t most = (size_t)newest->n_files + compaction->n_new_pays + 1;
    vex_file_entry *files = vex_realloc(next.files, most * sizeof *files);
    next.files = files != NULL ? files : next.files;
    next.generation++;
    if (next.next_file_no < compaction->next_file_no) {
        next.next_file_no = compaction->next_file_no;
    }
    vex_status status = files != NULL ? list_files(&b, compaction, &next) : no_memory();
    status = status == VEX_OK ? vex_manifest_check(&next, dir) : status;
    if (status != VEX_OK) {
        vex_manifest_clear(&next);
        return status;
    }
    *out = next;
    return VEX_OK;
}

/* ---- the next snapshot ---- */

static const vex_vec_source *vec_of(const vex_snapshot *snapshot, uint64_t file_no) {
    for (uint32_t i = 0; i < snapshot->n_vecs; i++) {
        if (snapshot->vecs[i].entry.file_no == file_no) {
            return &snapshot->vecs[i];
        }
    }
    return NULL;
}

static const vex_pay_source *pay_of(const vex_snapshot *snapshot, uint64_t file_no) {
    for (uint32_t i = 0; i < snapshot->n_pays; i++) {
        if (snapshot->pays[i].entry.file_no == file_no) {
            return &snapshot->pays[i];
        }
    }
    return NULL;
}

/* The new vector file as it is in `next`; its file stays NULL when the manifest does not list it. */
static vex_status make_vec(const vex_compaction *c, const vex_manifest *manifest,
                           const vex_snapshot *next, vex_vec_source *out) {
    if (c->vec.file == NULL || entry_of(manifest, &c->vec.entry) == NULL) {
        return VEX_OK;
    }
    *out = c->vec;
    vex_vecfile_acquire(out->file);
    vex_tombs_acquire(out->tombs);
    vex_tombs *fresh = NULL; /* killed from none on: what the manifest says is among it */
    VEX_TRY(vex_tombs_create(out->file->rows, &fresh));
    vex_tombs_release(out->tombs);
    out->tombs = fresh;
    const new_file file = {out->file->seqs, &out->tombs};
    for (uint32_t i = 0; i < c->n_vecs; i++) {
        const vex_vec_source *now = vec_of(next, c->vecs[i].entry.file_no);
        VEX_TRY(carry_deaths(c->vecs[i].file->seqs, c->vecs[i].tombs, now ? now->tombs : NULL,
                             &file, 1));
    }
    out->tombs_changed = out->tombs->dead != out->entry.dead_rows;
    return VEX_OK;
}

/* The same of the payload files; `out` has room for all. */
static vex_status make_pays(const vex_compaction *c, const vex_manifest *manifest,
                            const vex_snapshot *next, vex_pay_source *out, new_file *files) {
    for (uint32_t i = 0; i < c->n_new_pays; i++) {
        out[i].entry = c->new_pays[i].entry;
        VEX_TRY(vex_tombs_create(c->new_pays[i].tombs->rows, &out[i].tombs));
        files[i] = (new_file){c->new_pays[i].file->seqs, &out[i].tombs};
    }
    for (uint32_t i = 0; i < c->n_pays; i++) {
        const vex_pay_source *now = pay_of(next, c->pays[i].entry.file_no);
        VEX_TRY(carry_deaths(c->pays[i].file->seqs, c->pays[i].tombs, now ? now->tombs : NULL,
                             files, c->n_new_pays));
    }
    for (uint32_t i = 0; i < c->n_new_pays; i++) {
        out[i].tombs_changed = out[i].tombs->dead != out[i].entry.dead_rows;
        if (entry_of(manifest, &out[i].entry) != NULL) {
            out[i].file = vex_payfile_acquire(c->new_pays[i].file);
        }
    }
    return VEX_OK;
}

/* Cannot fail; `vecs` has room. */
static void place_vec(const vex_compaction *c, vex_snapshot *next, vex_vec_source *vecs,
                      vex_vec_source *made) {
    uint32_t n = 0;
    bool done = made->file == NULL;
    for (uint32_t i = 0; i < next->n_vecs; i++) {
        vex_vec_source *source = &next->vecs[i];
        if (!is_input(c, VEX_KIND_VECTORS, source->entry.file_no)) {
            vecs[n++] = *source;
            continue;
        }
        if (!done) {
            vecs[n++] = *made;
            done = true;
        }
        vex_vecfile_release(source->file);
        vex_tombs_release(source->tombs);
    }
    if (!done) {
        vecs[n++] = *made;
    }
    *made = (vex_vec_source){0};
    vex_free(next->vecs);
    next->vecs = vecs;
    next->n_vecs = n;
}

static void place_pays(const vex_compaction *c, vex_snapshot *next, vex_pay_source *pays,
                       vex_pay_source *made) {
    uint32_t n = 0;
    bool done = false;
    for (uint32_t i = 0; i <= next->n_pays; i++) {
        vex_pay_source *source = i < next->n_pays ? &next->pays[i] : NULL;
        bool input = source == NULL || is_input(c, VEX_KIND_PAYLOAD, source->entry.file_no);
        for (uint32_t k = 0; input && !done && k < c->n_new_pays; k++) {
            if (made[k].file != NULL) {
                pays[n++] = made[k];
                made[k] = (vex_pay_source){0};
            }
        }
        done = done || input;
        if (source != NULL && input) {
            vex_payfile_release(source->file);
            vex_tombs_release(source->tombs);
        } else if (source != NULL) {
            pays[n++] = *source;
        }
    }
    vex_free(next->pays);
    next->pays = pays;
    next->n_pays = n;
}

vex_status vex_compact_carry(const vex_compaction *compaction, const vex_manifest *manifest,
                             vex_snapshot *next) {
    uint32_t n_new = compaction->n_new_pays;
    vex_vec_source vec = {0};
    vex_vec_source *vecs = vex_calloc((size_t)next->n_vecs + 1, sizeof *vecs);
    vex_pay_source *pays = vex_calloc((size_t)next->n_pays + n_new + 1, sizeof *pays);
    vex_pay_source *made = vex_calloc((size_t)n_new + 1, sizeof *made);
    new_file *files = vex_calloc((size_t)n_new + 1, sizeof *files);
    vex_status status = vecs && pays && made && files ? VEX_OK : no_memory();
    if (status == VEX_OK) {
        status = make_vec(compaction, manifest, next, &vec);
    }
    if (status == VEX_OK) {
        status = make_pays(compaction, manifest, next, made, files);
    }
    if (status == VEX_OK) {
        place_vec(compaction, next, vecs, &vec);
        place_pays(compaction, next, pays, made);
        vecs = NULL;
        pays = NULL;
        next->generation = manifest->generation;
        status = next->n_vecs + next->n_pays == manifest->n_files ? VEX_OK : unrelated();
    }
    for (uint32_t i = 0; made != NULL && i < n_new; i++) {
        vex_payfile_release(made[i].file);
        vex_tombs_release(made[i].tombs);
    }
    vex_vecfile_release(vec.file);
    vex_tombs_release(vec.tombs);
    vex_free(files);
    vex_free(made);
    vex_free(pays);
    vex_free(vecs);
    return status;
}
