/*
 * check.c - the steps of a check, and its files (check.h).
 */
#include "db/check.h"

#include "base/msgpack.h"
#include "store/superblock.h"
#include "store/wreck.h"

#include <stdarg.h>

#include "base/poison.h"

/* A writer that commits faster than we can look is not followed for ever. */
#define RESTARTS_MAX 200u

/* ---- findings ---- */

vex_status check_note(vex_check *check, bool damage, const char *path, uint64_t offset,
                      const char *format, ...) {
    char text[sizeof vex_last_error()->message];
    va_list arguments;
    va_start(arguments, format);
    int len = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (len < 0) {
        return VEX_FAIL(VEX_ERR_INVALID, "a finding cannot be told");
    }
    vex_buf *out = &check->findings;
    VEX_TRY(vex_mp_put_array(out, 4));
    VEX_TRY(vex_mp_put_bool(out, damage));
    const char *file = vex_path_below(check->path, path);
    VEX_TRY(vex_mp_put_str(out, file, strlen(file)));
    VEX_TRY(vex_mp_put_uint(out, offset));
    VEX_TRY(vex_mp_put_str(out, text, strlen(text)));
    check->n_findings++;
    check->n_damaged += damage;
    return VEX_OK;
}

vex_status check_note_error(vex_check *check, vex_status status) {
    if (status != VEX_ERR_CORRUPT && status != VEX_ERR_NOT_FOUND && status != VEX_ERR_IO) {
        return status;
    }
    const vex_error error = *vex_last_error();
    return check_note(check, true, error.path[0] != '\0' ? error.path : check->dir, error.offset,
                      "%s", error.message);
}

/* ---- beginning, and beginning anew ---- */

/* Is there another manifest by now, or nothing at all?  Then what was found counts for nothing. */
static vex_status look_again(vex_check *check, bool *moved) {
    vex_file_stat stat;
    uint64_t newest = 0;
    if (check->vfs->path_stat(check->vfs, check->dir, &stat) == VEX_ERR_NOT_FOUND) {
        check->gone = *moved = true;
        check->stage = CHECK_DONE;
        return VEX_OK;
    }
    VEX_TRY(vex_manifest_newest(check->vfs, check->dir, &newest));
    *moved = newest != check->manifest.generation;
    if (!*moved) {
        return VEX_OK;
    }
    check->stage = CHECK_MANIFEST;
    if (++check->restarts <= RESTARTS_MAX) {
        return VEX_OK;
    }
    check->stage = CHECK_DONE;
    return check_note(
        check, false, check->dir, 0,
        "it changes faster than it can be checked; check it again when less is written");
}

/* A failure becomes a finding, unless it came from files that a newer manifest replaced. */
static vex_status note_unless_moved(vex_check *check, vex_status status, bool *moved) {
    const vex_error failure = *vex_last_error();
    *moved = false;
    if (status == VEX_ERR_CORRUPT || status == VEX_ERR_NOT_FOUND || status == VEX_ERR_IO) {
        VEX_TRY(look_again(check, moved));
    }
    return *moved ? VEX_OK
                  : check_note_error(check, vex_fail_at(failure.code, failure.path, failure.offset,
                                                        failure.sys_errno, "%s", failure.message));
}

static vex_status check_counts(vex_check *check, const char *path) {
    const vex_manifest *manifest = &check->manifest;
    uint64_t vectors = 0, payloads = 0;
    for (uint32_t i = 0; i < manifest->n_files; i++) {
        const vex_file_entry *entry = &manifest->files[i];
        const uint64_t living = entry->rows - entry->dead_rows;
        vectors += entry->kind == VEX_KIND_VECTORS ? living : 0;
        payloads += entry->kind == VEX_KIND_PAYLOAD ? living : 0;
        if (entry->seq_hi >= manifest->next_seq || entry->lsn_hi > manifest->lsn) {
            VEX_TRY(check_note(check, true, path, 0,
                               "file %llu has rows or batches beyond those that the manifest knows",
                               (unsigned long long)entry->file_no));
        }
    }
    return vectors == manifest->live_rows && payloads == manifest->live_rows
               ? VEX_OK
               : check_note(check, true, path, 0,
                            "it counts %llu records, but its files have %llu vectors and %llu "
                            "payloads",
                            (unsigned long long)manifest->live_rows, (unsigned long long)vectors,
                            (unsigned long long)payloads);
}

static vex_status no_manifest(vex_check *check) {
    bool never = false, moved = false;
    VEX_TRY(vex_manifest_never_written(check->vfs, check->dir, &never));
    if (!never) { /* the first one may have come meanwhile */
        VEX_TRY(look_again(check, &moved));
    }
    if (moved) {
        return VEX_OK;
    }
    check->stage = CHECK_DONE;
    return never
               ? check_note(check, false, check->dir, 0,
                            "a collection whose creation did not end; the next opening removes it")
               : check_note(check, true, check->dir, 0, "the manifest is missing");
}

static vex_status read_manifest(vex_check *check) {
    char name[VEX_FILE_NAME_MAX], path[VEX_PATH_MAX];
    uint64_t generation = 0;
    bool moved = false;
    vex_manifest manifest = {0};
    vex_status status = vex_manifest_newest(check->vfs, check->dir, &generation);
    vex_manifest_clear(&check->manifest);
    if (status == VEX_OK && generation == 0) {
        return no_manifest(check);
    }
    check->manifest.generation = generation;
    if (status == VEX_OK) {
        status = vex_manifest_read(check->vfs, check->dir, check->database, generation, &manifest);
    }
    if (status == VEX_OK && memcmp(manifest.collection, check->collection, 16) != 0) {
        vex_manifest_clear(&manifest);
        status = vex_manifest_is_foreign(check->dir, generation);
    }
    if (status != VEX_OK) {
        check->stage = CHECK_REST;
        return note_unless_moved(check, status, &moved);
    }
    check->manifest = manifest;
    check->stage = CHECK_FILES;
    check->next_file = 0;
    check->rows = manifest.live_rows;
    check->lsn = manifest.lsn;
    vex_manifest_name(name, generation);
    VEX_TRY(vex_path_join(path, check->dir, name));
    check->files++;
    return check_counts(check, path);
}

/* ---- files ---- */

static bool is_examined(const vex_check *check, uint64_t file_no) {
    for (size_t i = 0; i < check->n_examined; i++) {
        if (check->examined[i] == file_no) {
            return true;
        }
    }
    return false;
}

static vex_status set_examined(vex_check *check, uint64_t file_no) {
    void *numbers = check->examined;
    VEX_TRY(vex_grow(&numbers, &check->examined_capacity, check->n_examined + 1,
                     sizeof *check->examined));
    check->examined = numbers;
    check->examined[check->n_examined++] = file_no;
    return VEX_OK;
}

static const char *name_of_section(uint32_t kind) {
    static const char *const names[] = {[VEX_SECTION_INFO] = "counts",
                                        [VEX_SECTION_SEQS] = "sequence numbers",
                                        [VEX_SECTION_VECTORS] = "vectors",
                                        [VEX_SECTION_NORMS] = "norms",
                                        [VEX_SECTION_IDS] = "ids",
                                        [VEX_SECTION_ID_INDEX] = "index of ids",
                                        [VEX_SECTION_DOCUMENTS] = "documents",
                                        [VEX_SECTION_METADATA] = "metadata",
                                        [VEX_SECTION_URIS] = "uris",
                                        [VEX_SECTION_COLUMNS] = "columns for filters",
                                        [VEX_SECTION_TOMBS] = "deleted rows",
                                        [VEX_SECTION_EXPIRES] = NULL,
                                        [VEX_SECTION_CODES] = "short vectors",
                                        [VEX_SECTION_SPARSE] = NULL,
                                        [VEX_SECTION_TEXT] = "index of the documents"};
    return kind < sizeof names / sizeof *names && names[kind] != NULL ? names[kind] : "a section";
}

static vex_status note_faults(vex_check *check, const vex_wreck *wreck, bool damage) {
    for (size_t i = 0; i < wreck->n_faults; i++) {
        const vex_wreck_fault *fault = &wreck->faults[i];
        const char *nothing_lost =
            vex_wreck_is_derived(fault->section) ? ": made from the rest, so nothing is lost" : "";
        VEX_TRY(fault->section == 0
                    ? check_note(check, damage, wreck->path, fault->offset, "%s", fault->what)
                    : check_note(check, damage, wreck->path, fault->offset, "%s (%s%s)",
                                 fault->what, name_of_section(fault->section), nothing_lost));
    }
    return VEX_OK;
}

/* Examine the file of that kind and number, unless that is done; *moved as look_again says. */
static vex_status check_file(vex_check *check, const vex_file_entry *entry, bool *moved) {
    vex_wreck wreck;
    *moved = false;
    if (is_examined(check, entry->file_no)) {
        return VEX_OK;
    }
    VEX_TRY(vex_wreck_open(check->vfs, check->dir, check->database, (vex_file_kind)entry->kind,
                           entry->file_no, entry, check->deep ? VEX_WRECK_DEEP : VEX_WRECK_SHALLOW,
                           &wreck));
    vex_status status = wreck.n_faults > 0 ? look_again(check, moved) : VEX_OK;
    if (status == VEX_OK && !*moved) {
        status = note_faults(check, &wreck, true);
        check->files++;
        check->bytes += wreck.read_bytes;
    }
    vex_wreck_close(&wreck);
    VEX_TRY(status);
    return *moved ? VEX_OK : set_examined(check, entry->file_no);
}

static vex_status check_next_file(vex_check *check) {
    if (check->next_file == check->manifest.n_files) {
        check->stage = CHECK_LOGS;
        return VEX_OK;
    }
    const vex_file_entry entry = check->manifest.files[check->next_file];
    bool moved = false;
    VEX_TRY(check_file(check, &entry, &moved));
    if (!moved && entry.tombs_file_no != 0) {
        VEX_TRY(check_file(check,
                           &(vex_file_entry){.kind = VEX_KIND_TOMBS,
                                             .file_no = entry.tombs_file_no,
                                             .size = entry.tombs_size,
                                             .crc = entry.tombs_crc},
                           &moved));
    }
    check->next_file += !moved;
    return VEX_OK;
}

static vex_status check_all_logs(vex_check *check) {
    const uint32_t n_damaged = check->n_damaged;
    const size_t len = check->findings.len;
    const uint32_t n_findings = check->n_findings;
    bool moved = false;
    vex_status status = check_logs(check);
    if (status != VEX_OK) {
        VEX_TRY(check_note_error(check, status));
    }
    if (check->n_damaged > n_damaged) {
        VEX_TRY(look_again(check, &moved));
    }
    if (moved) { /* as if nothing had been found */
        check->findings.len = len;
        check->n_findings = n_findings;
        check->n_damaged = n_damaged;
    } else {
        check->stage = CHECK_REST;
    }
    return VEX_OK;
}

/* ---- what is in no manifest ---- */

static vex_status check_head(vex_check *check) {
    char path[VEX_PATH_MAX];
    vex_file *file = NULL;
    bool sound = true;
    VEX_TRY(vex_path_join(path, check->dir, "head"));
    vex_status status = check->vfs->file_open(check->vfs, path, VEX_FILE_READ, &file);
    if (status == VEX_ERR_NOT_FOUND) {
        return VEX_OK;
    }
    if (status == VEX_ERR_CORRUPT) { /* no file, so that no write can make it anew */
        check->stage = CHECK_DONE;
        return check_note_error(check, status);
    }
    VEX_TRY(status);
    status = vex_head_check(check->vfs, file, check->collection, &sound);
    check->vfs->file_close(check->vfs, file);
    check->files++;
    return status != VEX_OK || !sound
               ? check_note(check, false, path, 0,
                            "it is damaged, and counts for nothing: the next write makes it anew")
               : VEX_OK;
}

static vex_status note_graph(void *context, const char *name) {
    uint64_t number, *newest = context;
    if (vex_file_number(name, VEX_KIND_GRAPH, &number) && number > *newest) {
        *newest = number;
    }
    return VEX_OK;
}

static vex_status check_graph(vex_check *check) {
    uint64_t newest = 0;
    vex_wreck wreck;
    VEX_TRY(check->vfs->dir_list(check->vfs, check->dir, note_graph, &newest));
    if (newest == 0) {
        return VEX_OK;
    }
    vex_status status =
        vex_wreck_open(check->vfs, check->dir, check->database, VEX_KIND_GRAPH, newest, NULL,
                       check->deep ? VEX_WRECK_DEEP : VEX_WRECK_SHALLOW, &wreck);
    if (status == VEX_ERR_NOT_FOUND) { /* there is a newer one */
        return VEX_OK;
    }
    VEX_TRY(status);
    check->files++;
    check->bytes += wreck.read_bytes;
    status = wreck.n_faults > 0
                 ? check_note(check, false, wreck.path, wreck.faults[0].offset,
                              "the graph is damaged (%s): it is built anew", wreck.faults[0].what)
                 : VEX_OK;
    vex_wreck_close(&wreck);
    return status;
}

static vex_status note_leftover(void *context, const char *name) {
    vex_check *check = context;
    char path[VEX_PATH_MAX];
    VEX_TRY(vex_path_join(path, check->dir, name));
    return check_note(
        check, false, path, 0,
        "it is unfinished or not needed any more: somebody is writing, or was killed; "
        "the next opening removes it");
}

static vex_status check_rest(vex_check *check) {
    check->stage = check->n_damaged == 0 ? CHECK_STATE : CHECK_DONE;
    vex_status status = check_head(check);
    if (status == VEX_OK) {
        status = check_graph(check);
    }
    if (status == VEX_OK && check->manifest.wal_first > 0) {
        status =
            vex_manifest_leftovers(check->vfs, check->dir, &check->manifest, note_leftover, check);
    }
    return status == VEX_ERR_NOT_FOUND ? VEX_OK : status; /* all gone: CHECK_STATE will see */
}

/* ---- the whole ---- */

vex_status vex_check_open(const char *path, const uint8_t *database, const uint8_t *collection,
                          uint32_t flags, vex_check **out) {
    char dir[VEX_PATH_MAX];
    vex_db_set_up_process();
    VEX_TRY(vex_collection_path(path, collection, dir));
    vex_check *check = vex_calloc(1, sizeof *check);
    if (check != NULL) {
        *check = (vex_check){.vfs = vex_db_files(),
                             .path = vex_strdup(path),
                             .dir = vex_strdup(dir),
                             .deep = (flags & VEX_CHECK_DEEP) != 0};
    }
    if (check == NULL || check->path == NULL || check->dir == NULL) {
        vex_check_close(check);
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to check %s", path);
    }
    memcpy(check->database, database, 16);
    memcpy(check->collection, collection, 16);
    *out = check;
    return VEX_OK;
}

static vex_status step(vex_check *check) {
    vex_status status;
    bool moved = false;
    switch (check->stage) {
    case CHECK_MANIFEST:
        return read_manifest(check);
    case CHECK_FILES:
        return check_next_file(check);
    case CHECK_LOGS:
        return check_all_logs(check);
    case CHECK_REST:
        return check_rest(check);
    case CHECK_STATE:
        check->stage = CHECK_DONE;
        status = check_state(check);
        return status == VEX_OK ? VEX_OK : note_unless_moved(check, status, &moved);
    default:
        return VEX_OK;
    }
}

vex_status vex_check_step(vex_check *check, vex_check_progress *progress) {
    bool moved = false;
    vex_status status = step(check);
    if (status == VEX_ERR_NOT_FOUND) { /* the directory went away under our hands */
        status = note_unless_moved(check, status, &moved);
    }
    VEX_TRY(status);
    *progress = (vex_check_progress){.files = check->files,
                                     .bytes = check->bytes,
                                     .rows = check->rows,
                                     .lsn = check->lsn,
                                     .more = check->stage != CHECK_DONE,
                                     .gone = check->gone};
    for (uint32_t i = 0; i < check->manifest.n_files; i++) {
        const vex_file_entry *entry = &check->manifest.files[i];
        progress->expected_bytes += entry->size + entry->tombs_size;
    }
    return VEX_OK;
}

vex_status vex_check_take_findings(vex_check *check, uint8_t **msgpack, size_t *len) {
    vex_buf whole = {0};
    vex_status status = vex_mp_put_array(&whole, check->n_findings);
    if (status == VEX_OK && check->findings.len > 0) {
        status = vex_buf_append(&whole, check->findings.data, check->findings.len);
    }
    if (status != VEX_OK) {
        vex_buf_clear(&whole);
        return status;
    }
    vex_buf_clear(&check->findings);
    check->n_findings = 0;
    *msgpack = whole.data;
    *len = whole.len;
    return VEX_OK;
}

void vex_check_close(vex_check *check) {
    if (check != NULL) {
        vex_manifest_clear(&check->manifest);
        vex_buf_clear(&check->findings);
        vex_free(check->examined);
        vex_free(check->path);
        vex_free(check->dir);
        vex_free(check);
    }
}

/* ---- superblocks ---- */

vex_status vex_check_superblock(const char *path, uint8_t *database) {
    vex_superblock super;
    VEX_TRY(vex_superblock_read(vex_db_files(), path, &super));
    memcpy(database, super.uuid, 16);
    return VEX_OK;
}

vex_status vex_check_owner(const char *path, const uint8_t *collection, uint8_t *database) {
    char dir[VEX_PATH_MAX];
    VEX_TRY(vex_collection_path(path, collection, dir));
    return vex_manifest_owner(vex_db_files(), dir, database);
}

vex_status vex_repair_superblock(const char *path, const uint8_t *database) {
    return vex_superblock_restore(vex_db_files(), path, database);
}
