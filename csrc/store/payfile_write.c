/*
 * payfile_write.c - writing payload files, and the plug-ins that add sections to them
 * (payfile.h).
 */
#include "store/payfile_format.h"

#include "base/bytes.h"
#include "base/hash.h"

#include "base/poison.h"

#define PAUSE_ROWS 256u

/* ---- plug-ins ---- */

static pthread_mutex_t registering = PTHREAD_MUTEX_INITIALIZER;
static const vex_section_plugin *plugins[VEX_PLUGINS_MAX];
static atomic_uint n_plugins;

vex_status vex_payfile_register(const vex_section_plugin *plugin) {
    vex_status status = VEX_OK;
    pthread_mutex_lock(&registering);
    uint32_t n = atomic_load(&n_plugins), i = 0;
    while (i < n && plugins[i]->section_kind != plugin->section_kind) {
        i++;
    }
    if (i == VEX_PLUGINS_MAX) {
        status = VEX_FAIL(VEX_ERR_TOO_BIG, "more than %d section plug-ins", VEX_PLUGINS_MAX);
    } else if (i == n) {
        plugins[n] = plugin;
        atomic_store(&n_plugins, n + 1);
    }
    pthread_mutex_unlock(&registering);
    return status;
}

uint32_t vex_payfile_plugins(const vex_section_plugin *const **list) {
    *list = plugins;
    return atomic_load(&n_plugins);
}

/* ---- sections ---- */

static vex_status put_info(vex_container_writer *writer, const vex_payload *rows, uint32_t n) {
    uint64_t documents = 0, metadata = 0;
    for (uint32_t i = 0; i < n; i++) {
        documents += rows[i].document ? rows[i].document_len : 0;
        metadata += rows[i].metadata ? rows[i].metadata_len : 0;
    }
    uint8_t info[INFO_BYTES] = {0};
    vex_put32(info + AT_ROWS, n);
    vex_put64(info + AT_RAW_DOCUMENTS, documents);
    vex_put64(info + AT_RAW_METADATA, metadata);
    return vex_container_put(writer, VEX_SECTION_INFO, 0, 0, 0, info, sizeof info);
}

static vex_status put_seqs(vex_container_writer *writer, const vex_payload *rows, uint32_t n,
                           vex_buf *scratch) {
    VEX_TRY(vex_buf_append_zeros(scratch, (size_t)n * 8));
    for (uint32_t i = 0; i < n; i++) {
        vex_put64(scratch->data + (size_t)i * 8, rows[i].seq);
    }
    return vex_container_put(writer, VEX_SECTION_SEQS, 0, n, 0, scratch->data, scratch->len);
}

static vex_status put_ids(vex_container_writer *writer, const vex_payload *rows, uint32_t n,
                          vex_buf *scratch) {
    VEX_TRY(vex_buf_append_zeros(scratch, (size_t)id_offsets_bytes(n)));
    uint64_t end = 0;
    for (uint32_t i = 0; i < n; i++) {
        end += rows[i].id_len;
        if (end > UINT32_MAX) {
            return VEX_FAIL(VEX_ERR_TOO_BIG, "the ids of a payload file pass 4 GiB");
        }
        VEX_TRY(vex_buf_append(scratch, rows[i].id, rows[i].id_len));
        vex_put32(scratch->data + (size_t)(i + 1) * 4, (uint32_t)end);
    }
    return vex_container_put(writer, VEX_SECTION_IDS, 0, n, 0, scratch->data, scratch->len);
}

typedef struct hashed_row {
    uint64_t hash;
    uint32_t row;
} hashed_row;

static int compare_hashes(const void *a, const void *b) {
    const hashed_row *x = a, *y = b;
    if (x->hash != y->hash) {
        return x->hash < y->hash ? -1 : 1;
    }
    return x->row < y->row ? -1 : x->row > y->row;
}

static vex_status put_id_index(vex_container_writer *writer, const vex_payload *rows, uint32_t n,
                               vex_buf *scratch) {
    hashed_row *index = vex_calloc(n, sizeof *index);
    if (index == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to index the ids of a payload file");
    }
    for (uint32_t i = 0; i < n; i++) {
        index[i] = (hashed_row){vex_hash64(rows[i].id, rows[i].id_len), i};
    }
    qsort(index, n, sizeof *index, compare_hashes);
    vex_status status = vex_buf_append_zeros(scratch, (size_t)n * ID_INDEX_BYTES);
    if (status == VEX_OK) {
        uint8_t *hashes = scratch->data, *row_numbers = hashes + (size_t)n * 8;
        for (uint32_t i = 0; i < n; i++) {
            vex_put64(hashes + (size_t)i * 8, index[i].hash);
            vex_put32(row_numbers + (size_t)i * 4, index[i].row);
        }
        status =
            vex_container_put(writer, VEX_SECTION_ID_INDEX, 0, n, 0, scratch->data, scratch->len);
    }
    vex_free(index);
    return status;
}

/* ---- columns ---- */

typedef struct value {
    const uint8_t *bytes; /* NULL: absent */
    uint32_t len;
} value;

static value value_of(const vex_payload *row, uint32_t section) {
    switch (section) {
    case VEX_SECTION_DOCUMENTS:
        return (value){row->document, row->document_len};
    case VEX_SECTION_METADATA:
        return (value){row->metadata, row->metadata_len};
    default:
        return (value){row->uri, row->uri_len};
    }
}

static bool any_present(const vex_payload *rows, uint32_t n, uint32_t section) {
    uint32_t i = 0;
    while (i < n && value_of(&rows[i], section).bytes == NULL) {
        i++;
    }
    return i < n;
}

static vex_status pause_at(const vex_pace *pace, uint32_t row) {
    return pace->pause != NULL && row % PAUSE_ROWS == 0 ? pace->pause(pace->context) : VEX_OK;
}

static vex_status put_column(vex_container_writer *writer, const vex_payload *rows, uint32_t n,
                             uint32_t section, const vex_pace *pace, vex_buf *scratch) {
    vex_block_writer *column = NULL;
    if (!any_present(rows, n, section)) {
        return VEX_OK;
    }
    VEX_TRY(vex_block_writer_create(&column, pace->level));
    vex_status status = VEX_OK;
    for (uint32_t i = 0; i < n && status == VEX_OK; i++) {
        value v = value_of(&rows[i], section);
        status = pause_at(pace, i);
        if (status == VEX_OK) {
            status = vex_block_writer_add(column, v.bytes, v.len);
        }
    }
    if (status == VEX_OK) {
        status = vex_block_writer_finish(column, scratch);
    }
    vex_block_writer_destroy(column);
    if (status == VEX_OK) {
        status = vex_container_put(writer, section, 0, n, 0, scratch->data, scratch->len);
    }
    return status;
}

static vex_status put_plugin(vex_container_writer *writer, const vex_payload *rows, uint32_t n,
                             const vex_section_plugin *plugin, vex_buf *scratch) {
    VEX_TRY(plugin->build(rows, n, scratch));
    if (scratch->len == 0) {
        return VEX_OK;
    }
    return vex_container_put(writer, plugin->section_kind, VEX_SECTION_OPTIONAL, n, 0,
                             scratch->data, scratch->len);
}

static vex_status put_sections(vex_container_writer *writer, const vex_payload *rows, uint32_t n,
                               const vex_pace *pace, vex_buf *scratch) {
    static const uint32_t columns[] = {VEX_SECTION_DOCUMENTS, VEX_SECTION_METADATA,
                                       VEX_SECTION_URIS};
    VEX_TRY(put_info(writer, rows, n));
    VEX_TRY(put_seqs(writer, rows, n, scratch));
    scratch->len = 0;
    VEX_TRY(put_ids(writer, rows, n, scratch));
    scratch->len = 0;
    VEX_TRY(put_id_index(writer, rows, n, scratch));
    for (size_t c = 0; c < sizeof columns / sizeof *columns; c++) {
        scratch->len = 0;
        VEX_TRY(put_column(writer, rows, n, columns[c], pace, scratch));
    }
    const vex_section_plugin *const *list;
    uint32_t n_list = vex_payfile_plugins(&list);
    for (uint32_t i = 0; i < n_list; i++) {
        vex_buf_clear(scratch); /* a plug-in may count on an empty buffer */
        VEX_TRY(pause_at(pace, 0));
        VEX_TRY(put_plugin(writer, rows, n, list[i], scratch));
    }
    return VEX_OK;
}

static vex_status check_rows(const vex_payload *rows, uint32_t n) {
    bool fine = n > 0 && n <= VEX_ROWS_MAX;
    for (uint32_t i = 0; i < n && fine; i++) {
        fine = rows[i].id != NULL && (i == 0 || rows[i - 1].seq < rows[i].seq);
    }
    return fine ? VEX_OK
                : VEX_FAIL(VEX_ERR_INVALID, "a payload file needs rows with ids and ascending "
                                            "seqs");
}

vex_status vex_payfile_write_paced(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                                   uint64_t file_no, const vex_payload *rows, uint32_t n,
                                   uint64_t lsn_lo, uint64_t lsn_hi, bool sync,
                                   const vex_pace *pace, vex_file_entry *entry) {
    vex_container_writer *writer = NULL;
    vex_buf scratch = {0};
    VEX_TRY(check_rows(rows, n));
    VEX_TRY(
        vex_container_create(vfs, dir, uuid, VEX_KIND_PAYLOAD, file_no, lsn_lo, lsn_hi, &writer));
    vex_status status = put_sections(writer, rows, n, pace, &scratch);
    vex_buf_clear(&scratch);
    if (status != VEX_OK) {
        vex_container_abort(writer);
        return status;
    }
    vex_file_entry written = {.rows = n, .seq_lo = rows[0].seq, .seq_hi = rows[n - 1].seq};
    VEX_TRY(vex_container_finish(writer, sync, &written));
    *entry = written;
    return VEX_OK;
}

vex_status vex_payfile_write(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                             uint64_t file_no, const vex_payload *rows, uint32_t n, uint64_t lsn_lo,
                             uint64_t lsn_hi, bool sync, vex_file_entry *entry) {
    static const vex_pace as_flush = {.level = VEX_BLOCK_LEVEL_FLUSH};
    return vex_payfile_write_paced(vfs, dir, uuid, file_no, rows, n, lsn_lo, lsn_hi, sync,
                                   &as_flush, entry);
}
