/*
 * result.c - results as flat arrays and one MessagePack blob (see result.h).
 */
#include "db/result.h"

#include "base/msgpack.h"

#include "base/poison.h"

/* Hits are anywhere, and so are few rows; many, in order, read each block once. */
#define FEW_ROWS 1000u

vex_status vex_result_builder_init(vex_result_builder *builder, const vex_snapshot *snapshot,
                                   uint32_t include, size_t rows, bool distances) {
    *builder = (vex_result_builder){.snapshot = snapshot, .include = include, .capacity = rows};
    uint32_t known = VEX_INCLUDE_DOCUMENTS | VEX_INCLUDE_METADATAS | VEX_INCLUDE_URIS |
                     VEX_INCLUDE_VECTORS | VEX_INCLUDE_SEQS;
    if ((include & ~known) != 0) {
        return VEX_FAIL(VEX_ERR_INVALID, "unknown include bits 0x%x", (unsigned)(include & ~known));
    }
    if (rows >= UINT32_MAX) {
        return VEX_FAIL(VEX_ERR_TOO_BIG, "a result of %zu rows is too large; use limit and offset",
                        rows);
    }
    size_t room = rows ? rows : 1;
    size_t dimension = snapshot->dimension ? snapshot->dimension : 1;
    bool enough = true;
    if (include & VEX_INCLUDE_VECTORS) {
        builder->vectors = vex_calloc(room, dimension * sizeof *builder->vectors);
        enough = builder->vectors != NULL;
    }
    if (include & VEX_INCLUDE_SEQS) {
        builder->seqs = vex_calloc(room, sizeof *builder->seqs);
        enough = enough && builder->seqs != NULL;
    }
    if (distances) {
        builder->distances = vex_calloc(room, sizeof *builder->distances);
        enough = enough && builder->distances != NULL;
    }
    if (!enough) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a result of %zu rows", rows);
    }
    VEX_TRY(vex_snapshot_reader_create(snapshot, &builder->reader));
    if (distances || rows <= FEW_ROWS) {
        vex_snapshot_reader_share(builder->reader);
    }
    return VEX_OK;
}

static vex_status put_text(vex_buf *out, const uint8_t *text, size_t len) {
    return text ? vex_mp_put_str(out, text, len) : vex_mp_put_nil(out);
}

/* Anything else would be read together with the records behind it. */
static vex_status put_metadata(vex_buf *out, const vex_payload *payload) {
    if (payload->metadata == NULL) {
        return vex_mp_put_nil(out);
    }
    if (!vex_mp_is_map(payload->metadata, payload->metadata_len)) {
        return VEX_FAIL(VEX_ERR_CORRUPT, "the metadata of record %llu are malformed",
                        (unsigned long long)payload->seq);
    }
    return vex_buf_append(out, payload->metadata, payload->metadata_len);
}

vex_status vex_result_builder_add(vex_result_builder *builder, const vex_row_ref *ref,
                                  const vex_row_ref *vector, float distance) {
    vex_payload payload;
    uint32_t include = builder->include;
    uint32_t parts = (include & VEX_INCLUDE_DOCUMENTS ? VEX_PAYLOAD_DOCUMENT : 0u) |
                     (include & VEX_INCLUDE_METADATAS ? VEX_PAYLOAD_METADATA : 0u) |
                     (include & VEX_INCLUDE_URIS ? VEX_PAYLOAD_URI : 0u);
    VEX_TRY(vex_snapshot_read_payload(builder->reader, ref, parts, &payload));
    VEX_TRY(vex_mp_put_str(&builder->ids, payload.id, payload.id_len));
    if (include & VEX_INCLUDE_DOCUMENTS) {
        VEX_TRY(put_text(&builder->documents, payload.document, payload.document_len));
    }
    if (include & VEX_INCLUDE_METADATAS) {
        VEX_TRY(put_metadata(&builder->metadatas, &payload));
    }
    if (include & VEX_INCLUDE_URIS) {
        VEX_TRY(put_text(&builder->uris, payload.uri, payload.uri_len));
    }
    size_t row = builder->n_rows;
    if (include & VEX_INCLUDE_VECTORS) {
        vex_row_ref found = {0};
        if (vector == NULL) {
            vex_snapshot_find_vector(builder->snapshot, ref->seq, &found);
            vector = &found;
        }
        if (!vector->found) {
            return VEX_FAIL(VEX_ERR_CORRUPT, "record %llu has no vector",
                            (unsigned long long)ref->seq);
        }
        if (!vector->in_memory) {
            VEX_TRY(vex_vecfile_check_rows(builder->snapshot->vecs[vector->source].file,
                                           vector->row, 1));
        }
        vex_snapshot_read_vector(builder->snapshot, vector,
                                 builder->vectors + row * builder->snapshot->dimension);
    }
    if (builder->seqs != NULL) {
        builder->seqs[row] = ref->seq;
    }
    if (builder->distances != NULL) {
        builder->distances[row] = distance;
    }
    builder->n_rows++;
    return VEX_OK;
}

static vex_status put_column(vex_buf *out, const vex_buf *items, uint32_t n, bool included) {
    if (!included) {
        return vex_mp_put_nil(out);
    }
    VEX_TRY(vex_mp_put_array(out, n));
    return items->len ? vex_buf_append(out, items->data, items->len) : VEX_OK;
}

vex_status vex_result_builder_finish(vex_result_builder *builder, const uint32_t *row_counts,
                                     uint32_t n_queries, vex_result **out) {
    vex_buf records = {0};
    uint32_t n = builder->n_rows, include = builder->include;
    vex_result *result = vex_calloc(1, sizeof *result);
    uint32_t *counts = vex_calloc(n_queries ? n_queries : 1, sizeof *counts);
    vex_status status = result && counts ? vex_mp_put_array(&records, 4)
                                         : VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a result");
    if (status == VEX_OK) {
        status = vex_buf_reserve(&records, builder->ids.len + builder->documents.len +
                                               builder->metadatas.len + builder->uris.len + 64);
    }
    if (status == VEX_OK) {
        status = put_column(&records, &builder->ids, n, true);
    }
    if (status == VEX_OK) {
        status = put_column(&records, &builder->documents, n, include & VEX_INCLUDE_DOCUMENTS);
    }
    if (status == VEX_OK) {
        status = put_column(&records, &builder->metadatas, n, include & VEX_INCLUDE_METADATAS);
    }
    if (status == VEX_OK) {
        status = put_column(&records, &builder->uris, n, include & VEX_INCLUDE_URIS);
    }
    if (status != VEX_OK) {
        vex_free(result);
        vex_free(counts);
        vex_buf_clear(&records);
        return status;
    }
    if (n_queries > 0) {
        memcpy(counts, row_counts, n_queries * sizeof *counts);
    }
    *result = (vex_result){.n_queries = n_queries,
                           .n_rows = n,
                           .dimension = builder->snapshot->dimension,
                           .include = include,
                           .row_counts = counts,
                           .distances = builder->distances,
                           .vectors = builder->vectors,
                           .seqs = builder->seqs,
                           .records = records.data,
                           .records_len = records.len};
    builder->distances = NULL;
    builder->vectors = NULL;
    builder->seqs = NULL;
    *out = result;
    return VEX_OK;
}

void vex_result_builder_clear(vex_result_builder *builder) {
    vex_snapshot_reader_destroy(builder->reader);
    vex_buf_clear(&builder->ids);
    vex_buf_clear(&builder->documents);
    vex_buf_clear(&builder->metadatas);
    vex_buf_clear(&builder->uris);
    vex_free(builder->vectors);
    vex_free(builder->distances);
    vex_free(builder->seqs);
}

void vex_result_free(vex_result *result) {
    if (result != NULL) {
        vex_free((void *)(uintptr_t)result->row_counts);
        vex_free((void *)(uintptr_t)result->distances);
        vex_free((void *)(uintptr_t)result->vectors);
        vex_free((void *)(uintptr_t)result->seqs);
        vex_free((void *)(uintptr_t)result->records);
        vex_free(result);
    }
}
