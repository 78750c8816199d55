/*
 * sparse_source.c - see sparse_source.h.
 */
#include "rank/sparse_source.h"

#include "base/bits.h"

#include "base/poison.h"

/* The rows of a memtable that no index has are read by every query.  When they are more than this,
 * and than half of those that one has, an index is made of all: so each is indexed a few times. */
#define TAIL_ROWS 1000u

typedef struct made_lists {
    vex_annex annex;
    vex_buf bytes;
    vex_sparse_lists *lists; /* NULL: there is a malformed vector, which reading will tell of */
    uint32_t n_rows;
} made_lists;

static void destroy(vex_annex *annex) {
    made_lists *made = (made_lists *)annex;
    vex_sparse_lists_close(made->lists);
    vex_buf_clear(&made->bytes);
    vex_free(made);
}

/* What an index is made of. */
typedef struct making {
    vex_payfile *file;
    const vex_memtable *table; /* one of them */
    uint32_t n_rows;
} making;

static vex_status add_rows(const making *from, vex_sparse_builder *builder) {
    vex_payload_reader reader;
    vex_payload row;
    vex_status status = VEX_OK;
    if (from->file == NULL) {
        for (uint32_t i = 0; i < from->n_rows && status == VEX_OK; i++) {
            const vex_payload *payload = &vex_memtable_payload(from->table, i)->payload;
            status = vex_sparse_builder_add(builder, i, payload->metadata, payload->metadata_len);
        }
        return status;
    }
    vex_payload_reader_init(&reader, from->file);
    for (uint32_t i = 0; i < from->n_rows && from->file->has_metadata && status == VEX_OK; i++) {
        status = vex_payload_read(&reader, i, VEX_PAYLOAD_METADATA, &row);
        if (status == VEX_OK) {
            status = vex_sparse_builder_add(builder, i, row.metadata, row.metadata_len);
        }
    }
    vex_payload_reader_clear(&reader);
    return status;
}

static vex_status build(const making *from, made_lists *made) {
    vex_sparse_builder *builder = NULL;
    vex_status status;
    VEX_TRY_DONE(status, vex_sparse_builder_create(&builder));
    VEX_TRY_DONE(status, add_rows(from, builder));
    VEX_TRY_DONE(status, vex_sparse_builder_finish(builder, from->n_rows, &made->bytes));
    VEX_TRY_DONE(status, vex_sparse_lists_open(made->bytes.data, made->bytes.len, from->n_rows,
                                               from->file ? from->file->container.path : "memory",
                                               0, &made->lists));
    atomic_store(&made->annex.bytes, made->bytes.capacity);
done:
    vex_sparse_builder_destroy(builder);
    return status == VEX_ERR_CORRUPT || status == VEX_ERR_TOO_BIG ? VEX_OK : status;
}

static vex_status make(void *context, vex_annex **out) {
    const making *from = context;
    made_lists *made = vex_calloc(1, sizeof *made);
    if (made == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for an index of sparse vectors");
    }
    vex_annex_init(&made->annex, destroy);
    made->n_rows = from->n_rows;
    const vex_status status = build(from, made);
    if (status != VEX_OK) {
        vex_annex_release(&made->annex);
        return status;
    }
    *out = &made->annex;
    return VEX_OK;
}

static void use(vex_sparse_source *source, vex_annex *annex) {
    const made_lists *made = (made_lists *)annex;
    source->made = annex;
    source->lists = made->lists;
    source->indexed = made->lists != NULL ? made->n_rows : 0;
}

static vex_status open_file(vex_payfile *file, vex_sparse_source *out) {
    making from = {.file = file, .n_rows = file->rows};
    vex_annex *annex = NULL;
    vex_sparse_lists *lists = vex_sparse_lists_of(file);
    if (lists != NULL && vex_sparse_lists_verify(lists) == VEX_OK) {
        out->lists = lists;
        out->indexed = file->rows;
        return VEX_OK;
    }
    VEX_TRY(vex_annexes_need(&file->annexes, VEX_ANNEX_SPARSE, make, &from, &annex));
    use(out, annex);
    return VEX_OK;
}

static vex_status open_memtable(vex_memtable *table, vex_sparse_source *out) {
    vex_annexes *annexes = vex_memtable_annexes(table);
    making from = {.table = table, .n_rows = out->n_rows};
    vex_annex *annex = vex_annexes_get(annexes, VEX_ANNEX_SPARSE);
    const uint32_t indexed = annex ? ((made_lists *)annex)->n_rows : 0;
    const uint32_t tail = out->n_rows > indexed ? out->n_rows - indexed : 0;
    if (tail > TAIL_ROWS && tail > indexed / 2) {
        vex_annex_release(annex);
        VEX_TRY(make(&from, &annex));
        vex_annexes_put(annexes, VEX_ANNEX_SPARSE, annex);
    }
    if (annex != NULL) {
        use(out, annex);
    }
    return VEX_OK;
}

static vex_status find_live(const vex_snapshot *snapshot, vex_sparse_source *source) {
    const bool all = source->in_memory
                         ? vex_memtable_dead(snapshot->mems[source->number].table) == 0
                         : snapshot->pays[source->number].tombs->dead == 0;
    if (all) {
        return VEX_OK;
    }
    source->live = vex_calloc(vex_bit_words(source->n_rows) + 1, sizeof *source->live);
    if (source->live == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a row bitmap");
    }
    if (!source->in_memory) {
        vex_tombs_live_words(snapshot->pays[source->number].tombs, source->live);
        return VEX_OK;
    }
    const vex_memtable *table = snapshot->mems[source->number].table;
    for (uint32_t row = 0; row < source->n_rows; row++) {
        if (vex_mem_payload_live(vex_memtable_payload(table, row), snapshot->lsn)) {
            vex_bit_set(source->live, row);
        }
    }
    return VEX_OK;
}

vex_status vex_sparse_source_open(const vex_snapshot *snapshot, bool in_memory, uint32_t number,
                                  vex_sparse_source *out) {
    vex_sparse_source source = {.in_memory = in_memory, .number = number};
    source.n_rows =
        in_memory ? snapshot->mems[number].n_payloads : snapshot->pays[number].file->rows;
    vex_status status = in_memory ? open_memtable(snapshot->mems[number].table, &source)
                                  : open_file(snapshot->pays[number].file, &source);
    if (status == VEX_OK) {
        status = find_live(snapshot, &source);
    }
    if (status != VEX_OK) {
        vex_sparse_source_close(&source);
        return status;
    }
    *out = source;
    return VEX_OK;
}

void vex_sparse_source_close(vex_sparse_source *source) {
    vex_annex_release(source->made);
    vex_free(source->live);
    *source = (vex_sparse_source){0};
}
