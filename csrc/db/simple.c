/*
 * simple.c - the fixed-layout requests of the C ABI, and process-wide facts: version, counters.
 */
#include "base/msgpack.h"
#include "db/db.h"
#include "store/section.h"

#include "base/poison.h"

#define ASSERT_LAYOUT(type, size) _Static_assert(sizeof(type) == (size), #type " layout")
#define ASSERT_OFFSET(type, field, at)                                                             \
    _Static_assert(offsetof(type, field) == (at), #type "." #field " offset")

ASSERT_LAYOUT(vexfs_vector_file_info, 40);
ASSERT_OFFSET(vexfs_vector_file_info, dimensions, 0);
ASSERT_OFFSET(vexfs_vector_file_info, element_type, 4);
ASSERT_OFFSET(vexfs_vector_file_info, vector_count, 8);
ASSERT_OFFSET(vexfs_vector_file_info, storage_format, 12);
ASSERT_OFFSET(vexfs_vector_file_info, data_offset, 16);
ASSERT_OFFSET(vexfs_vector_file_info, index_offset, 24);
ASSERT_OFFSET(vexfs_vector_file_info, compression_type, 32);
ASSERT_OFFSET(vexfs_vector_file_info, alignment_bytes, 36);
#if UINTPTR_MAX == UINT64_MAX
ASSERT_LAYOUT(vexfs_vector_search_request, 48);
ASSERT_OFFSET(vexfs_vector_search_request, query, 0);
ASSERT_OFFSET(vexfs_vector_search_request, dimensions, 8);
ASSERT_OFFSET(vexfs_vector_search_request, k, 12);
ASSERT_OFFSET(vexfs_vector_search_request, search_type, 16);
ASSERT_OFFSET(vexfs_vector_search_request, results, 24);
ASSERT_OFFSET(vexfs_vector_search_request, result_ids, 32);
ASSERT_OFFSET(vexfs_vector_search_request, result_count, 40);
ASSERT_LAYOUT(vexfs_batch_insert_request, 32);
ASSERT_OFFSET(vexfs_batch_insert_request, vectors, 0);
ASSERT_OFFSET(vexfs_batch_insert_request, count, 8);
ASSERT_OFFSET(vexfs_batch_insert_request, dimensions, 12);
ASSERT_OFFSET(vexfs_batch_insert_request, ids, 16);
ASSERT_OFFSET(vexfs_batch_insert_request, flags, 24);
#endif

#define VERSION "0.1.0"
#define INFO_BYTES 16   /* of a vector file: u32 dimension, element, stride, rows */
#define FOOTER_BYTES 64 /* of a container; its first field is the section table's offset */

const char *vex_version(void) {
    return VERSION;
}

void vex_format_version(uint16_t *major, uint16_t *minor) {
    *major = VEX_FORMAT_MAJOR;
    *minor = VEX_FORMAT_MINOR;
}

void vex_get_stats(vex_stats *out) {
    *out = (vex_stats){.heap_bytes = vex_stat_get(VEX_STAT_HEAP_BYTES),
                       .heap_blocks = vex_stat_get(VEX_STAT_HEAP_BLOCKS),
                       .bulk_bytes = vex_stat_get(VEX_STAT_BULK_BYTES),
                       .bulk_maps = vex_stat_get(VEX_STAT_BULK_MAPS),
                       .bulk_maps_total = vex_stat_get(VEX_STAT_BULK_MAPS_TOTAL),
                       .mapped_bytes = vex_stat_get(VEX_STAT_MAPPED_BYTES),
                       .mapped_files = vex_stat_get(VEX_STAT_MAPPED_FILES),
                       .open_files = vex_stat_get(VEX_STAT_OPEN_FILES),
                       .distances = vex_stat_get(VEX_STAT_DISTANCES),
                       .wal_bytes = vex_stat_get(VEX_STAT_WAL_BYTES),
                       .wal_syncs = vex_stat_get(VEX_STAT_WAL_SYNCS),
                       .segments_written = vex_stat_get(VEX_STAT_SEGMENTS_WRITTEN),
                       .blocks_read = vex_stat_get(VEX_STAT_BLOCKS_READ),
                       .damaged_parts = vex_stat_get(VEX_STAT_DAMAGED_PARTS),
                       .segment_bytes = vex_stat_get(VEX_STAT_SEGMENT_BYTES),
                       .compactions = vex_stat_get(VEX_STAT_COMPACTIONS),
                       .compacted_bytes = vex_stat_get(VEX_STAT_COMPACTED_BYTES),
                       .given_back_bytes = vex_stat_get(VEX_STAT_GIVEN_BACK_BYTES),
                       .rows_fetched = vex_stat_get(VEX_STAT_ROWS_FETCHED),
                       .graphs_unloaded = vex_stat_get(VEX_STAT_GRAPHS_UNLOADED),
                       .block_hits = vex_stat_get(VEX_STAT_BLOCK_HITS),
                       .block_misses = vex_stat_get(VEX_STAT_BLOCK_MISSES),
                       .filter_hits = vex_stat_get(VEX_STAT_FILTER_HITS),
                       .filter_misses = vex_stat_get(VEX_STAT_FILTER_MISSES),
                       .lease_wait_us = vex_stat_get(VEX_STAT_LEASE_WAIT_US),
                       .writer_wait_us = vex_stat_get(VEX_STAT_WRITER_WAIT_US),
                       .wal_sync_us = vex_stat_get(VEX_STAT_WAL_SYNC_US)};
}

/* ---- vector file description ---- */

vex_status vex_file_info(const char *path, vexfs_vector_file_info *out) {
    char dir[VEX_PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) : 1;
    if (len >= sizeof dir) {
        return VEX_FAIL(VEX_ERR_TOO_BIG, "the path is longer than %d bytes", VEX_PATH_MAX - 1);
    }
    memcpy(dir, slash ? path : ".", len);
    dir[len] = '\0';
    uint64_t file_no = 0;
    if (!vex_file_number(slash ? slash + 1 : path, VEX_KIND_VECTORS, &file_no)) {
        return VEX_FAIL_AT(VEX_ERR_INVALID, path, 0, 0,
                           "not the name of a vector file (vec-*.vxv)");
    }
    vex_container file;
    const vex_section *info = NULL, *vectors = NULL;
    VEX_TRY(vex_container_open(vex_vfs_posix(), dir, NULL, VEX_KIND_VECTORS, file_no, NULL, &file));
    vex_status status = vex_section_need(&file, VEX_SECTION_INFO, INFO_BYTES, &info);
    if (status == VEX_OK) {
        status = vex_container_need(&file, VEX_SECTION_VECTORS, UINT64_MAX, &vectors);
    }
    if (status == VEX_OK) {
        *out =
            (vexfs_vector_file_info){.dimensions = vex_get32(info->data),
                                     .element_type = vex_get32(info->data + 4),
                                     .vector_count = vex_get32(info->data + 12),
                                     .storage_format = VEX_FORMAT_MAJOR,
                                     .data_offset = vectors->offset,
                                     .index_offset = vex_get64(file.map + file.size - FOOTER_BYTES),
                                     .compression_type = 0,
                                     .alignment_bytes = 4096};
    }
    vex_container_close(&file);
    return status;
}

/* ---- search and insert with flat structs ---- */

static uint64_t parse_decimal(const uint8_t *text, size_t len) {
    uint64_t value = 0;
    for (size_t i = 0; i < len; i++) {
        value = value * 10 + (uint64_t)(text[i] - '0');
    }
    return value;
}

static vex_status unpack_ids(const vex_result *found, uint64_t *ids) {
    vex_mp_reader reader = vex_mp_reader_make(found->records, found->records_len);
    (void)vex_mp_next(&reader); /* the four columns */
    (void)vex_mp_next(&reader); /* ids */
    for (uint32_t i = 0; i < found->n_rows; i++) {
        vex_mp_value id = vex_mp_next(&reader);
        for (size_t c = 0; c < id.len; c++) {
            if (id.bytes[c] < '0' || id.bytes[c] > '9' || id.len > 20) {
                return VEX_FAIL(VEX_ERR_INVALID,
                                "id \"%.*s\" is not a number: the collection was not written "
                                "through vex_batch_insert_simple",
                                (int)(id.len < 64 ? id.len : 64), (const char *)id.bytes);
            }
        }
        ids[i] = parse_decimal(id.bytes, id.len);
    }
    return VEX_OK;
}

vex_status vex_search_simple(vex_collection *collection, vexfs_vector_search_request *request) {
    vex_result *found = NULL;
    if (request->search_type != collection->latest->space) {
        return VEX_FAIL(VEX_ERR_INVALID, "search_type %u differs from the collection's space %u",
                        (unsigned)request->search_type, (unsigned)collection->latest->space);
    }
    VEX_TRY(vex_query(collection, NULL, request->query, 1, request->dimensions, request->k, NULL, 0,
                      &found));
    vex_status status = unpack_ids(found, request->result_ids);
    if (status == VEX_OK) {
        memcpy(request->results, found->distances, found->n_rows * sizeof(float));
        request->result_count = found->n_rows;
    }
    vex_result_free(found);
    return status;
}

vex_status vex_batch_insert_simple(vex_collection *collection,
                                   const vexfs_batch_insert_request *request) {
    vex_buf records = {0};
    if (request->flags != VEX_WRITE_ADD && request->flags != VEX_WRITE_UPSERT) {
        return VEX_FAIL(VEX_ERR_INVALID, "flags must be VEX_WRITE_ADD or VEX_WRITE_UPSERT");
    }
    vex_status status = vex_mp_put_array(&records, 4);
    if (status == VEX_OK) {
        status = vex_mp_put_array(&records, request->count);
    }
    for (uint32_t i = 0; i < request->count && status == VEX_OK; i++) {
        char text[24];
        int len = snprintf(text, sizeof text, "%llu", (unsigned long long)request->ids[i]);
        status = vex_mp_put_str(&records, text, (size_t)len);
    }
    for (int column = 0; column < 3 && status == VEX_OK; column++) {
        status = vex_mp_put_nil(&records);
    }
    if (status == VEX_OK) {
        const vex_write_request write = {.op = request->flags,
                                         .n = request->count,
                                         .dimension = request->dimensions,
                                         .vectors = request->vectors,
                                         .records = records.data,
                                         .records_len = records.len};
        status = vex_write(collection, &write, NULL);
    }
    vex_buf_clear(&records);
    return status;
}
