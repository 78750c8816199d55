/*
 * salvage_files.c - the versions that vec and pay files hold (salvage.h): of the files that the
 * manifest lists, or, when that is lost, of all there are.
 */
#include "db/salvage.h"

#include "base/poison.h"

/* ---- without a manifest ---- */

typedef struct file_list {
    vex_file_entry *entries; /* kind and file_no; of tombstones, tombs_file_no too              */
    size_t n, capacity;
} file_list;

static vex_status note_file(void *context, const char *name) {
    static const vex_file_kind kinds[] = {VEX_KIND_VECTORS, VEX_KIND_PAYLOAD, VEX_KIND_TOMBS};
    file_list *files = context;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        uint64_t number;
        if (vex_file_number(name, kinds[i], &number)) {
            void *entries = files->entries;
            VEX_TRY(vex_grow(&entries, &files->capacity, files->n + 1, sizeof *files->entries));
            files->entries = entries;
            files->entries[files->n++] = (vex_file_entry){.kind = kinds[i], .file_no = number};
        }
    }
    return VEX_OK;
}

/* Of each file its newest tombstones. */
static vex_status assign_tombs(const vex_salvage *s, file_list *files) {
    for (size_t i = 0; i < files->n; i++) {
        uint64_t of = 0, tombs = files->entries[i].file_no;
        if (files->entries[i].kind != VEX_KIND_TOMBS) {
            continue;
        }
        VEX_TRY(vex_wreck_tombs_of(s->vfs, s->dir, s->database, tombs, &of));
        for (size_t k = 0; k < files->n; k++) {
            vex_file_entry *entry = &files->entries[k];
            if (entry->kind != VEX_KIND_TOMBS && entry->file_no == of &&
                entry->tombs_file_no < tombs) {
                entry->tombs_file_no = tombs;
            }
        }
    }
    return VEX_OK;
}

static vex_status find_files(vex_salvage *s) {
    file_list files = {0};
    vex_status status = s->vfs->dir_list(s->vfs, s->dir, note_file, &files);
    if (status == VEX_OK) {
        status = assign_tombs(s, &files);
    }
    size_t kept = 0;
    for (size_t i = 0; i < files.n; i++) {
        if (files.entries[i].kind != VEX_KIND_TOMBS) {
            files.entries[kept++] = files.entries[i];
        }
    }
    if (status != VEX_OK) {
        vex_free(files.entries);
        return status;
    }
    s->manifest.files = files.entries;
    s->manifest.n_files = (uint32_t)kept;
    return VEX_OK;
}

/* ---- rows ---- */

static vex_status lose_tombs(vex_salvage *s, const vex_wreck_rows *file,
                             const vex_file_entry *entry) {
    char name[VEX_FILE_NAME_MAX], path[VEX_PATH_MAX];
    vex_file_name(name, VEX_KIND_TOMBS, entry->tombs_file_no);
    VEX_TRY(vex_path_join(path, s->dir, name));
    return salvage_lose(s, "deletion", NULL, 0, s->unlisted ? 0 : entry->dead_rows, path, 0,
                        file->kind == VEX_KIND_PAYLOAD
                            ? "it said which records are deleted; they may be back"
                            : "it said which vectors are replaced");
}

static vex_status add_rows(vex_salvage *s, uint32_t source, uint64_t *unreadable) {
    const vex_wreck_rows *file = &s->files[source];
    salvage_versions *versions = file->kind == VEX_KIND_VECTORS ? &s->vectors : &s->payloads;
    const uint64_t lsn = file->lsn_hi == UINT64_MAX ? 0 : file->lsn_hi;
    for (uint32_t row = 0; row < file->rows; row++) {
        uint64_t seq;
        if (vex_wreck_rows_live(file, row, &seq)) {
            VEX_TRY(salvage_add(versions, &(salvage_version){seq, lsn, source, row}));
        } else if (!vex_wreck_intact(&file->wreck, file->seqs, (uint64_t)row * 8, 8)) {
            *unreadable += !vex_wreck_rows_dead(file, row);
        }
    }
    return VEX_OK;
}

static vex_status take_file(vex_salvage *s, const vex_file_entry *entry) {
    vex_wreck_rows *file = &s->files[s->n_files];
    const bool listed = !s->unlisted;
    VEX_TRY(vex_wreck_rows_open(s->vfs, s->dir, s->database, entry, listed, file));
    s->n_files++;
    s->bytes += file->wreck.read_bytes;
    if (file->kind == VEX_KIND_VECTORS && file->rows > 0 &&
        (s->dimension == 0 || s->dimension == file->shape.dimension)) {
        s->dimension = file->shape.dimension;
    } else if (file->kind == VEX_KIND_VECTORS) {
        file->rows = 0;
    }
    uint64_t unreadable = 0;
    if (file->rows == 0) {
        unreadable = listed ? entry->rows - entry->dead_rows : 0;
    } else {
        if (entry->tombs_file_no != 0) {
            VEX_TRY(vex_wreck_rows_read_dead(file, s->dir, s->database, entry->tombs_file_no,
                                             listed ? entry : NULL));
        }
        if (file->dead_unknown) {
            VEX_TRY(lose_tombs(s, file, entry));
        }
        VEX_TRY(add_rows(s, s->n_files - 1, &unreadable));
    }
    if (file->rows > 0 && unreadable == 0) {
        return VEX_OK;
    }
    if (file->kind == VEX_KIND_VECTORS) {
        s->vectors_lost = true; /* told with each payload that has no vector */
        return VEX_OK;
    }
    const vex_wreck *wreck = &file->wreck;
    return salvage_lose(s, "record", NULL, 0, unreadable, wreck->path,
                        wreck->n_faults > 0 ? wreck->faults[0].offset : 0,
                        wreck->n_faults > 0 ? wreck->faults[0].what : "it has no rows");
}

vex_status salvage_files(vex_salvage *s) {
    if (s->unlisted) {
        VEX_TRY(find_files(s));
    }
    s->files = vex_calloc((size_t)s->manifest.n_files + 1, sizeof *s->files);
    if (s->files == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to salvage %s", s->dir);
    }
    for (uint32_t i = 0; i < s->manifest.n_files; i++) {
        VEX_TRY(take_file(s, &s->manifest.files[i]));
    }
    return VEX_OK;
}
