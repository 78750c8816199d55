/*
 * files.c - the file trees of fuzz targets (see fuzz.h).
 */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>

static vex_status map_exactly(vex_vfs *vfs, vex_file *file, uint64_t size, const uint8_t **out) {
    void *bytes = NULL;
    size_t got = 0;
    if (posix_memalign(&bytes, 64, size ? (size_t)size : 1) != 0) {
        return vex_fail(VEX_ERR_NO_MEMORY, "no memory to map a file");
    }
    vex_status status = vfs->file_read(vfs, file, bytes, (size_t)size, 0, &got);
    if (status == VEX_OK && got < size) {
        status = vex_fail(VEX_ERR_CORRUPT, "the file is shorter than what was to be mapped");
    }
    if (status != VEX_OK) {
        free(bytes);
        return status;
    }
    vex_stat_add(VEX_STAT_MAPPED_FILES, 1);
    *out = bytes;
    return VEX_OK;
}

static void unmap_exactly(vex_vfs *vfs, const uint8_t *map, uint64_t size) {
    (void)vfs;
    (void)size;
    vex_stat_add(VEX_STAT_MAPPED_FILES, -1);
    free((void *)(uintptr_t)map);
}

/* Always the same, so that an input means the same in every run. */
static vex_status fixed_bytes(vex_vfs *vfs, void *dst, size_t len) {
    (void)vfs;
    memset(dst, 0x5A, len);
    return VEX_OK;
}

static uint64_t fixed_boot_id(vex_vfs *vfs) {
    (void)vfs;
    return 1;
}

vex_vfs *fuzz_files_create(void) {
    vex_vfs *files = NULL;
    CHECK_OK(vex_vfs_memory_create(&files));
    files->file_map = map_exactly;
    files->file_unmap = unmap_exactly;
    files->random_bytes = fixed_bytes;
    files->boot_id = fixed_boot_id;
    return files;
}

void fuzz_file_put(vex_vfs *files, const char *path, const void *data, size_t len) {
    vex_file *file = NULL;
    const vex_iovec part = {data, len};
    CHECK_OK(files->file_open(files, path, VEX_FILE_CREATE, &file));
    CHECK_OK(files->file_truncate(files, file, 0));
    CHECK_OK(files->file_write(files, file, &part, 1, 0));
    files->file_close(files, file);
}

void fuzz_file_get(vex_vfs *files, const char *path, vex_buf *out) {
    vex_file *file = NULL;
    vex_file_stat stat = {0};
    CHECK_OK(files->file_open(files, path, VEX_FILE_READ, &file));
    CHECK_OK(files->file_stat(files, file, &stat));
    out->len = 0;
    CHECK_OK(vex_buf_append_zeros(out, (size_t)stat.size));
    CHECK_OK(vex_file_read_exact(files, file, path, out->data, out->len, 0));
    files->file_close(files, file);
}

void fuzz_check_error(vex_status status, const char *path) {
    const vex_error *error = vex_last_error();
    if (status != VEX_ERR_CORRUPT && status != VEX_ERR_VERSION && status != VEX_ERR_FOREIGN) {
        test_failed(__FILE__, __LINE__, "damage is told as %s: %s", vex_status_name(status),
                    error->message);
    }
    CHECK_EQ(error->code, status);
    CHECK(error->message[0] != '\0');
    if (path != NULL && strcmp(error->path, path) != 0) {
        test_failed(__FILE__, __LINE__, "the error about %s names %s: %s", path, error->path,
                    error->message);
    }
}
