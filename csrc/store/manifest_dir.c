/*
 * manifest_dir.c - the directory around a manifest: the names of its files, and which of them are
 * left over.
 */
#include "store/manifest.h"

#include "wal/wal.h"

#include <inttypes.h>

#include "base/poison.h"

/* ---- names ---- */

#define MANIFEST_PREFIX "manifest-"

void vex_manifest_name(char out[VEX_FILE_NAME_MAX], uint64_t generation) {
    snprintf(out, VEX_FILE_NAME_MAX, MANIFEST_PREFIX "%020" PRIu64, generation);
}

void vex_file_name(char out[VEX_FILE_NAME_MAX], vex_file_kind kind, uint64_t file_no) {
    static const char *const names[][2] = {
        [VEX_KIND_VECTORS] = {"vec", "vxv"},
        [VEX_KIND_PAYLOAD] = {"pay", "vxp"},
        [VEX_KIND_TOMBS] = {"del", "vxd"},
        [VEX_KIND_GRAPH] = {"gra", "vxg"},
    };
    snprintf(out, VEX_FILE_NAME_MAX, "%s-%012" PRIu64 ".%s", names[kind][0], file_no,
             names[kind][1]);
}

/* The digits after `prefix`; false when there are none or they pass 64 bits. */
static bool parse_number(const char *name, const char *prefix, uint64_t *number) {
    size_t prefix_len = strlen(prefix);
    if (strncmp(name, prefix, prefix_len) != 0) {
        return false;
    }
    const char *digit = name + prefix_len;
    uint64_t value = 0;
    for (; *digit >= '0' && *digit <= '9'; digit++) {
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*digit - '0'), &value)) {
            return false;
        }
    }
    *number = value;
    return digit > name + prefix_len;
}

bool vex_manifest_number(const char *name, uint64_t *generation) {
    char canonical[VEX_FILE_NAME_MAX];
    if (!parse_number(name, MANIFEST_PREFIX, generation)) {
        return false;
    }
    vex_manifest_name(canonical, *generation);
    return strcmp(name, canonical) == 0;
}

static bool parse_file_name(const char *name, vex_file_kind *kind, uint64_t *file_no) {
    static const char prefixes[][5] = {
        [VEX_KIND_VECTORS] = "vec-",
        [VEX_KIND_PAYLOAD] = "pay-",
        [VEX_KIND_TOMBS] = "del-",
        [VEX_KIND_GRAPH] = "gra-",
    };
    for (int k = VEX_KIND_VECTORS; k <= VEX_KIND_GRAPH; k++) {
        char canonical[VEX_FILE_NAME_MAX];
        if (parse_number(name, prefixes[k], file_no)) {
            *kind = (vex_file_kind)k;
            vex_file_name(canonical, *kind, *file_no);
            return strcmp(name, canonical) == 0;
        }
    }
    return false;
}

bool vex_file_number(const char *name, vex_file_kind kind, uint64_t *file_no) {
    vex_file_kind found;
    return parse_file_name(name, &found, file_no) && found == kind;
}

static vex_status keep_newest(void *context, const char *name) {
    uint64_t *newest = context, generation;
    if (vex_manifest_number(name, &generation) && generation > *newest) {
        *newest = generation;
    }
    return VEX_OK;
}

vex_status vex_manifest_newest(vex_vfs *vfs, const char *dir, uint64_t *generation) {
    uint64_t newest = 0;
    VEX_TRY(vfs->dir_list(vfs, dir, keep_newest, &newest));
    *generation = newest;
    return VEX_OK;
}

/* ---- leftovers ---- */

static vex_status look_for_others(void *context, const char *name) {
    char first[VEX_FILE_NAME_MAX];
    bool *only_begun = context;
    vex_manifest_name(first, 1);
    size_t len = strlen(first);
    *only_begun = *only_begun && strncmp(name, first, len) == 0 && strcmp(name + len, ".tmp") == 0;
    return VEX_OK;
}

vex_status vex_manifest_never_written(vex_vfs *vfs, const char *dir, bool *never) {
    bool only_begun = true;
    VEX_TRY(vfs->dir_list(vfs, dir, look_for_others, &only_begun));
    *never = only_begun;
    return VEX_OK;
}

typedef struct cleaning {
    vex_vfs *vfs;
    const char *dir;
    const vex_manifest *manifest;
    bool unfinished_logs, found;
} cleaning;

static bool is_listed(const vex_manifest *manifest, vex_file_kind kind, uint64_t file_no) {
    for (uint32_t i = 0; i < manifest->n_files; i++) {
        const vex_file_entry *entry = &manifest->files[i];
        if (kind == VEX_KIND_TOMBS ? entry->tombs_file_no == file_no
                                   : entry->kind == kind && entry->file_no == file_no) {
            return true;
        }
    }
    return false;
}

bool vex_manifest_is_leftover(const vex_manifest *manifest, const char *name,
                              bool unfinished_logs) {
    size_t len = strlen(name);
    uint64_t number;
    vex_file_kind kind;
    if (len > 4 && strcmp(name + len - 4, ".tmp") == 0) {
        return unfinished_logs || strncmp(name, "wal-", 4) != 0;
    }
    if (vex_manifest_number(name, &number)) {
        return number < manifest->generation;
    }
    if (vex_wal_parse_name(name, &number)) {
        return number < manifest->wal_first;
    }
    /* No manifest lists graphs: db looks after them. */
    return parse_file_name(name, &kind, &number) && kind != VEX_KIND_GRAPH &&
           !is_listed(manifest, kind, number);
}

static vex_status clean(void *context, const char *name) {
    const cleaning *c = context;
    char path[VEX_PATH_MAX];
    if (vex_manifest_is_leftover(c->manifest, name, c->unfinished_logs) &&
        vex_path_join(path, c->dir, name) == VEX_OK) {
        c->vfs->path_remove(c->vfs, path); /* tried again at the next open */
    }
    return VEX_OK;
}

static vex_status look_for_leftover(void *context, const char *name) {
    cleaning *c = context;
    c->found = c->found || vex_manifest_is_leftover(c->manifest, name, c->unfinished_logs);
    return VEX_OK;
}

typedef struct leftover_visit {
    const vex_manifest *manifest;
    vex_list_visitor visit;
    void *context;
} leftover_visit;

static vex_status visit_leftover(void *context, const char *name) {
    const leftover_visit *each = context;
    return vex_manifest_is_leftover(each->manifest, name, true) ? each->visit(each->context, name)
                                                                : VEX_OK;
}

bool vex_manifest_has_leftovers(vex_vfs *vfs, const char *dir, const vex_manifest *manifest) {
    cleaning c = {.vfs = vfs, .dir = dir, .manifest = manifest, .unfinished_logs = true};
    return vfs->dir_list(vfs, dir, look_for_leftover, &c) == VEX_OK && c.found;
}

vex_status vex_manifest_leftovers(vex_vfs *vfs, const char *dir, const vex_manifest *manifest,
                                  vex_list_visitor visit, void *context) {
    leftover_visit each = {manifest, visit, context};
    return vfs->dir_list(vfs, dir, visit_leftover, &each);
}

void vex_manifest_remove_leftovers(vex_vfs *vfs, const char *dir, const vex_manifest *manifest,
                                   bool unfinished_logs) {
    cleaning c = {vfs, dir, manifest, unfinished_logs, false};
    uint64_t newest = 0;
    /* Another process may have committed since: then this manifest is no longer the judge. */
    if (vex_manifest_newest(vfs, dir, &newest) == VEX_OK && newest == manifest->generation) {
        vfs->dir_list(vfs, dir, clean, &c);
    }
}
