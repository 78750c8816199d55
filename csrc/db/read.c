/*
 * read.c - how every read begins and ends; vex_count and vex_get.
 */
#include "db/db.h"
#include "db/result.h"
#include "db/select.h"

#include "base/poison.h"

vex_status vex_read_begin(vex_collection *collection, vex_snapshot **snapshot) {
    VEX_TRY(vex_db_enter(collection->db));
    vex_status status = vex_collection_refresh(collection);
    if (status != VEX_OK) {
        vex_db_leave(collection->db);
        return status;
    }
    *snapshot = vex_collection_snapshot(collection);
    vex_memory_note_use(collection);
    return VEX_OK;
}

vex_status vex_collection_place(const vex_collection *collection, vex_status status) {
    return status == VEX_ERR_CORRUPT && vex_last_error()->path[0] == '\0'
               ? vex_fail_place(status, collection->dir, 0)
               : status;
}

vex_status vex_read_end(vex_collection *collection, vex_snapshot *snapshot, vex_status status) {
    status = vex_collection_place(collection, status);
    vex_snapshot_release(snapshot);
    vex_db_leave(collection->db);
    return status;
}

vex_status vex_count(vex_collection *collection, const vex_selection *selection, uint64_t *out) {
    vex_snapshot *snapshot = NULL;
    VEX_TRY(vex_read_begin(collection, &snapshot));
    vex_status status = vex_select_count(snapshot, selection, out);
    return vex_read_end(collection, snapshot, status);
}

/* ---- get ---- */

static vex_status build_get(const vex_snapshot *snapshot, const vex_refs *refs, uint32_t include,
                            vex_result **out) {
    vex_result_builder builder;
    vex_status status = vex_result_builder_init(&builder, snapshot, include, refs->n, false);
    for (size_t i = 0; i < refs->n && status == VEX_OK; i++) {
        status = vex_result_builder_add(&builder, &refs->rows[i], NULL, 0);
    }
    if (status == VEX_OK) {
        status = vex_result_builder_finish(&builder, &builder.n_rows, 1, out);
    }
    vex_result_builder_clear(&builder);
    return status;
}

vex_status vex_get(vex_collection *collection, const vex_selection *selection, uint64_t offset,
                   int64_t limit, uint32_t include, vex_result **out) {
    vex_snapshot *snapshot = NULL;
    vex_refs refs = {0};
    VEX_TRY(vex_read_begin(collection, &snapshot));
    vex_status status = vex_select(snapshot, selection, offset, limit, &refs);
    if (status == VEX_OK) {
        status = build_get(snapshot, &refs, include, out);
    }
    vex_refs_clear(&refs);
    return vex_read_end(collection, snapshot, status);
}
