/*
 * salvage.c - choosing what is left of a damaged collection (salvage.h), and the public functions.
 */
#include "db/salvage.h"

#include "base/hash.h"
#include "base/msgpack.h"

#include "base/poison.h"

static vex_status no_memory(void) {
    return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to salvage a collection");
}

/* ---- for all of it ---- */

vex_status salvage_add(salvage_versions *versions, const salvage_version *version) {
    void *list = versions->list;
    VEX_TRY(vex_grow(&list, &versions->capacity, versions->n + 1, sizeof *versions->list));
    versions->list = list;
    versions->list[versions->n++] = *version;
    return VEX_OK;
}

vex_status salvage_lose(vex_salvage *s, const char *what, const uint8_t *id, size_t id_len,
                        uint64_t count, const char *path, uint64_t offset, const char *why) {
    vex_buf *out = &s->losses;
    VEX_TRY(vex_mp_put_array(out, 6));
    VEX_TRY(vex_mp_put_str(out, what, strlen(what)));
    VEX_TRY(id != NULL ? vex_mp_put_str(out, id, id_len) : vex_mp_put_nil(out));
    VEX_TRY(vex_mp_put_uint(out, count));
    const char *file = vex_path_below(s->path, path);
    VEX_TRY(vex_mp_put_str(out, file, strlen(file)));
    VEX_TRY(vex_mp_put_uint(out, offset));
    VEX_TRY(vex_mp_put_str(out, why, strlen(why)));
    s->n_losses++;
    return VEX_OK;
}

const vex_op *salvage_op(const vex_salvage *s, const salvage_version *version) {
    return version->source < s->n_files
               ? NULL
               : &s->batches[version->source - s->n_files].batch.ops[version->row];
}

bool salvage_id(const vex_salvage *s, const salvage_version *payload, const uint8_t **id,
                size_t *len) {
    const vex_op *op = salvage_op(s, payload);
    if (op == NULL) {
        return vex_wreck_rows_id(&s->files[payload->source], payload->row, id, len);
    }
    *id = op->payload.id;
    *len = op->payload.id_len;
    return true;
}

/* ---- the newest versions ---- */

/* By seq, then from old to new: of a file and a batch that it is not older than, the file is newer. */
static int compare_versions(const void *a, const void *b) {
    const salvage_version *x = a, *y = b;
    if (x->seq != y->seq) {
        return x->seq < y->seq ? -1 : 1;
    }
    if (x->lsn != y->lsn) {
        return x->lsn < y->lsn ? -1 : 1;
    }
    return 0;
}

static bool is_newer(const vex_salvage *s, const salvage_version *a, const salvage_version *b) {
    const bool a_file = a->source < s->n_files, b_file = b->source < s->n_files;
    if (a->lsn != b->lsn || (!a_file && !b_file)) {
        return a->lsn >= b->lsn;
    }
    return a_file && (!b_file || s->files[a->source].file_no > s->files[b->source].file_no);
}

static void keep_newest(const vex_salvage *s, salvage_versions *versions) {
    size_t kept = 0;
    if (versions->n > 0) {
        qsort(versions->list, versions->n, sizeof *versions->list, compare_versions);
    }
    for (size_t i = 0; i < versions->n;) {
        salvage_version newest = versions->list[i++];
        for (; i < versions->n && versions->list[i].seq == newest.seq; i++) {
            newest = is_newer(s, &versions->list[i], &newest) ? versions->list[i] : newest;
        }
        if (newest.row != SALVAGE_DELETED) {
            versions->list[kept++] = newest;
        }
    }
    versions->n = kept;
}

/* ---- records ---- */

static const char *path_of(const vex_salvage *s, const salvage_version *version) {
    return version->source < s->n_files ? s->files[version->source].wreck.path : s->dir;
}

static bool has_vector(const vex_salvage *s, const salvage_version *vector) {
    return salvage_op(s, vector) != NULL ||
           vex_wreck_rows_has_vector(&s->files[vector->source], vector->row);
}

/* A payload; `vector` NULL: there is none. */
static vex_status add_record(vex_salvage *s, const salvage_version *payload,
                             const salvage_version *vector) {
    const uint8_t *id = NULL;
    size_t len = 0;
    const bool known = salvage_id(s, payload, &id, &len);
    if (vector == NULL) { /* without a lost vector somewhere, it was deleted */
        return !s->vectors_lost ? VEX_OK
                                : salvage_lose(s, "record", known ? id : NULL, len, 1,
                                               path_of(s, payload), 0, "its vector is lost");
    }
    if (!known) {
        return salvage_lose(s, "record", NULL, 0, 1, path_of(s, payload), 0, "its id is lost");
    }
    if (!has_vector(s, vector)) {
        return salvage_lose(s, "record", id, len, 1, path_of(s, vector),
                            s->files[vector->source].vectors != NULL
                                ? s->files[vector->source].vectors->is.offset +
                                      (uint64_t)vector->row * s->files[vector->source].shape.stride
                                : 0,
                            "its vector is damaged");
    }
    s->records[s->n_records++] =
        (salvage_record){.payload = *payload, .vector = *vector, .id_hash = vex_hash64(id, len)};
    return VEX_OK;
}

static vex_status pair(vex_salvage *s) {
    const salvage_versions *payloads = &s->payloads, *vectors = &s->vectors;
    s->records = vex_calloc(payloads->n + 1, sizeof *s->records);
    if (s->records == NULL) {
        return no_memory();
    }
    for (size_t p = 0, v = 0; p < payloads->n; p++) {
        while (v < vectors->n && vectors->list[v].seq < payloads->list[p].seq) {
            v++;
        }
        const bool there = v < vectors->n && vectors->list[v].seq == payloads->list[p].seq;
        VEX_TRY(add_record(s, &payloads->list[p], there ? &vectors->list[v] : NULL));
    }
    return VEX_OK;
}

/* ---- records of one id ---- */

static int compare_hashes(const void *a, const void *b) {
    const salvage_record *x = *(salvage_record *const *)a, *y = *(salvage_record *const *)b;
    if (x->id_hash != y->id_hash) {
        return x->id_hash < y->id_hash ? -1 : 1;
    }
    return x->payload.seq < y->payload.seq ? -1 : x->payload.seq > y->payload.seq;
}

static bool have_same_id(const vex_salvage *s, const salvage_record *a, const salvage_record *b) {
    const uint8_t *x = NULL, *y = NULL;
    size_t x_len = 0, y_len = 0;
    return a->id_hash == b->id_hash && salvage_id(s, &a->payload, &x, &x_len) &&
           salvage_id(s, &b->payload, &y, &y_len) && x_len == y_len && memcmp(x, y, x_len) == 0;
}

/* Of records with one id the oldest were deleted, and only what said so is lost. */
static vex_status drop_replaced(vex_salvage *s) {
    salvage_record **by_id = vex_calloc(s->n_records + 1, sizeof *by_id);
    if (by_id == NULL) {
        return no_memory();
    }
    for (size_t i = 0; i < s->n_records; i++) {
        by_id[i] = &s->records[i];
    }
    if (s->n_records > 0) {
        qsort(by_id, s->n_records, sizeof *by_id, compare_hashes);
    }
    for (size_t i = 0; i < s->n_records; i++) {
        for (size_t k = i + 1; k < s->n_records && by_id[k]->id_hash == by_id[i]->id_hash; k++) {
            by_id[i]->replaced = by_id[i]->replaced || have_same_id(s, by_id[i], by_id[k]);
        }
    }
    vex_free(by_id);
    size_t kept = 0;
    for (size_t i = 0; i < s->n_records; i++) {
        if (!s->records[i].replaced) {
            s->records[kept++] = s->records[i];
        }
    }
    s->n_records = kept;
    return VEX_OK;
}

/* ---- the whole ---- */

static vex_status read_manifest(vex_salvage *s) {
    uint64_t generation = 0;
    char name[VEX_FILE_NAME_MAX], path[VEX_PATH_MAX];
    VEX_TRY(vex_manifest_newest(s->vfs, s->dir, &generation));
    vex_status status = generation != 0 ? vex_manifest_salvage(s->vfs, s->dir, s->database,
                                                               generation, &s->manifest)
                                        : VEX_ERR_NOT_FOUND;
    if (status == VEX_OK && memcmp(s->manifest.collection, s->collection, 16) != 0) {
        vex_manifest_clear(&s->manifest);
        status = VEX_ERR_CORRUPT;
    }
    if (status == VEX_OK) {
        s->space = s->manifest.space;
        s->dimension = s->manifest.dimension;
        return VEX_OK;
    }
    if (status != VEX_ERR_NOT_FOUND && status != VEX_ERR_CORRUPT && status != VEX_ERR_IO) {
        return status;
    }
    s->unlisted = true;
    s->space = UINT32_MAX;
    vex_manifest_name(name, generation);
    VEX_TRY(vex_path_join(path, s->dir, name));
    return salvage_lose(s, "deletion", NULL, 0, 0, path, 0,
                        "the manifest is lost: all files there are count, so deleted records may "
                        "be back");
}

static vex_status find_out(vex_salvage *s) {
    VEX_TRY(read_manifest(s));
    VEX_TRY(salvage_files(s));
    VEX_TRY(salvage_logs(s));
    keep_newest(s, &s->payloads);
    keep_newest(s, &s->vectors);
    VEX_TRY(pair(s));
    return drop_replaced(s);
}

vex_status vex_salvage_open(const char *path, const uint8_t *database, const uint8_t *collection,
                            vex_salvage **out) {
    vex_salvage *s = vex_calloc(1, sizeof *s);
    char dir[VEX_PATH_MAX];
    if (s == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to salvage %s", path);
    }
    vex_db_set_up_process();
    s->vfs = vex_db_files();
    memcpy(s->database, database, 16);
    memcpy(s->collection, collection, 16);
    vex_status status = vex_collection_path(path, collection, dir);
    if (status == VEX_OK) {
        s->path = vex_strdup(path);
        s->dir = vex_strdup(dir);
        status = s->path != NULL && s->dir != NULL ? find_out(s) : no_memory();
    }
    if (status != VEX_OK) {
        vex_salvage_close(s);
        return status;
    }
    *out = s;
    return VEX_OK;
}

void vex_salvage_get_info(const vex_salvage *s, vex_salvage_info *out) {
    *out = (vex_salvage_info){.records = s->n_records,
                              .bytes = s->bytes,
                              .dimension = s->dimension,
                              .space = s->space,
                              .manifest_lost = s->unlisted};
}

vex_status vex_salvage_take_losses(vex_salvage *s, uint8_t **msgpack, size_t *len) {
    vex_buf whole = {0};
    vex_status status = vex_mp_put_array(&whole, s->n_losses);
    if (status == VEX_OK && s->losses.len > 0) {
        status = vex_buf_append(&whole, s->losses.data, s->losses.len);
    }
    if (status != VEX_OK) {
        vex_buf_clear(&whole);
        return status;
    }
    vex_buf_clear(&s->losses);
    s->n_losses = 0;
    *msgpack = whole.data;
    *len = whole.len;
    return VEX_OK;
}

vex_status vex_salvage_announce(const char *path, const uint8_t *collection) {
    char dir[VEX_PATH_MAX];
    VEX_TRY(vex_collection_path(path, collection, dir));
    return vex_collection_announce_gone(vex_db_files(), collection, dir);
}

void vex_salvage_close(vex_salvage *s) {
    if (s == NULL) {
        return;
    }
    for (uint32_t i = 0; i < s->n_files; i++) {
        vex_wreck_rows_close(&s->files[i]);
    }
    for (size_t i = 0; i < s->n_batches; i++) {
        vex_batch_clear(&s->batches[i].batch);
        vex_buf_clear(&s->batches[i].body);
    }
    vex_manifest_clear(&s->manifest);
    vex_buf_clear(&s->losses);
    vex_free(s->files);
    vex_free(s->batches);
    vex_free(s->payloads.list);
    vex_free(s->vectors.list);
    vex_free(s->records);
    vex_free(s->path);
    vex_free(s->dir);
    vex_free(s);
}
