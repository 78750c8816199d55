/*
 * words_source.c - see words_source.h.
 */
#include "rank/words_source.h"

#include "base/bits.h"

#include "base/poison.h"

#define COUNTS 1024u /* lists whose living rows are remembered */

typedef struct vex_live_count {
    uint64_t number; /* of the list, + 1; 0: none */
    uint32_t count;
} vex_live_count;

static vex_status no_memory(void) {
    return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to search documents");
}

/* ---- an index made of a file that has none ---- */

typedef struct made_words {
    vex_annex annex;
    vex_buf bytes;
    vex_words *words;
} made_words;

static void destroy_made(vex_annex *annex) {
    made_words *made = (made_words *)annex;
    vex_words_close(made->words);
    vex_buf_clear(&made->bytes);
    vex_free(made);
}

static vex_status read_documents(vex_payfile *file, vex_words_builder *builder) {
    vex_payload_reader reader;
    vex_payload row;
    vex_status status = VEX_OK;
    vex_payload_reader_init(&reader, file);
    for (uint32_t i = 0; i < file->rows && file->has_documents && status == VEX_OK; i++) {
        status = vex_payload_read(&reader, i, VEX_PAYLOAD_DOCUMENT, &row);
        if (status == VEX_OK && row.document != NULL) {
            status = vex_words_builder_add(builder, i, row.document, row.document_len);
        }
    }
    vex_payload_reader_clear(&reader);
    return status;
}

static vex_status make_words(void *context, vex_annex **out) {
    vex_payfile *file = context;
    vex_words_builder *builder = NULL;
    made_words *made = vex_calloc(1, sizeof *made);
    if (made == NULL) {
        return no_memory();
    }
    vex_annex_init(&made->annex, destroy_made);
    vex_status status;
    VEX_TRY_DONE(status, vex_words_builder_create(&builder));
    VEX_TRY_DONE(status, read_documents(file, builder));
    VEX_TRY_DONE(status, vex_words_builder_finish(builder, file->rows, &made->bytes));
    VEX_TRY_DONE(status, vex_words_open(made->bytes.data, made->bytes.len, file->rows,
                                        file->container.path, 0, &made->words));
    atomic_store(&made->annex.bytes, made->bytes.capacity);
    *out = &made->annex;
done:
    vex_words_builder_destroy(builder);
    if (status != VEX_OK) {
        vex_annex_release(&made->annex);
    }
    return status;
}

static vex_status open_file(vex_payfile *file, vex_words_source *out) {
    out->words = vex_words_of(file);
    if (out->words != NULL && vex_words_verify(out->words) == VEX_OK) {
        return VEX_OK;
    }
    out->words = NULL;
    VEX_TRY(vex_annexes_need(&file->annexes, VEX_ANNEX_WORDS, make_words, file, &out->made));
    out->words = ((made_words *)out->made)->words;
    return vex_words_verify(out->words);
}

/* ---- living rows ---- */

static void destroy_live(vex_annex *annex) {
    vex_words_live *live = (vex_words_live *)annex;
    pthread_mutex_destroy(&live->mutex);
    vex_free(live->counts);
    vex_free(live->rows);
    vex_free(live);
}

static void find_rows(const vex_snapshot *snapshot, const vex_words_source *source,
                      uint64_t *rows) {
    if (!source->in_memory) {
        vex_tombs_live_words(snapshot->pays[source->number].tombs, rows);
        return;
    }
    const vex_memtable *table = snapshot->mems[source->number].table;
    for (uint32_t row = 0; row < source->n_rows; row++) {
        if (vex_mem_payload_live(vex_memtable_payload(table, row), snapshot->lsn)) {
            vex_bit_set(rows, row);
        }
    }
}

static void count_rows(const vex_words_source *source, vex_words_live *live) {
    if (live->rows == NULL && source->words != NULL) {
        live->documents = source->words->n_documents;
        live->tokens = source->words->n_tokens;
    } else if (live->rows == NULL) {
        vex_words_memory_count(source->memory, source->n_rows, &live->documents, &live->tokens);
    }
    for (size_t at = 0; live->rows != NULL && at < vex_bit_words(live->n_rows); at++) {
        for (uint64_t bits = live->rows[at]; bits != 0; bits &= bits - 1) {
            const uint32_t row = (uint32_t)(at * 64) + (uint32_t)__builtin_ctzll(bits);
            const uint32_t length = vex_words_source_length(source, row);
            live->documents += length > 0;
            live->tokens += length > 0 ? length - 1 : 0;
        }
    }
}

static vex_status make_live(const vex_snapshot *snapshot, const vex_words_source *source,
                            bool all_live, uint64_t version, vex_words_live **out) {
    vex_words_live *live = vex_calloc(1, sizeof *live);
    if (live == NULL) {
        return no_memory();
    }
    vex_annex_init(&live->annex, destroy_live);
    pthread_mutex_init(&live->mutex, NULL);
    live->version = version;
    live->n_rows = source->n_rows;
    if (!all_live) {
        const size_t n_words = vex_bit_words(source->n_rows) + 1;
        live->rows = vex_calloc(n_words, sizeof *live->rows);
        live->counts = vex_calloc(COUNTS, sizeof *live->counts);
        if (live->rows == NULL || live->counts == NULL) {
            vex_annex_release(&live->annex);
            return no_memory();
        }
        find_rows(snapshot, source, live->rows);
        atomic_store(&live->annex.bytes,
                     n_words * sizeof *live->rows + COUNTS * sizeof *live->counts);
    }
    count_rows(source, live);
    *out = live;
    return VEX_OK;
}

/* Rows only die, so the number of the dead tells which they are in a file; in a memtable it takes
 * the snapshot's lsn. */
static vex_status find_live(const vex_snapshot *snapshot, vex_words_source *source) {
    const bool in_memory = source->in_memory;
    vex_annexes *annexes;
    uint64_t version;
    bool all_live;
    if (in_memory) {
        vex_memtable *table = snapshot->mems[source->number].table;
        annexes = vex_memtable_annexes(table);
        all_live = vex_memtable_dead(table) == 0;
        version = snapshot->lsn;
    } else {
        annexes = &snapshot->pays[source->number].file->annexes;
        version = snapshot->pays[source->number].tombs->dead;
        all_live = version == 0;
    }
    vex_annex *kept = vex_annexes_get(annexes, VEX_ANNEX_WORDS_LIVE);
    vex_words_live *live = (vex_words_live *)kept;
    if (live != NULL && live->version == version && live->n_rows == source->n_rows) {
        source->live = live;
        return VEX_OK;
    }
    const bool is_newer = live == NULL || live->version < version;
    vex_annex_release(kept);
    VEX_TRY(make_live(snapshot, source, all_live, version, &source->live));
    if (is_newer) {
        vex_annexes_put(annexes, VEX_ANNEX_WORDS_LIVE, &source->live->annex);
    }
    return VEX_OK;
}

/* ---- sources ---- */

vex_status vex_words_source_open(const vex_snapshot *snapshot, bool in_memory, uint32_t number,
                                 vex_words_source *out) {
    vex_words_source source = {.in_memory = in_memory, .number = number};
    vex_status status;
    if (in_memory) {
        const vex_mem_source *mem = &snapshot->mems[number];
        source.n_rows = mem->n_payloads;
        VEX_TRY_DONE(status, vex_words_memory_open(mem->table, source.n_rows, &source.memory));
    } else {
        vex_payfile *file = snapshot->pays[number].file;
        source.n_rows = file->rows;
        VEX_TRY_DONE(status, open_file(file, &source));
    }
    VEX_TRY_DONE(status, find_live(snapshot, &source));
    *out = source;
    return VEX_OK;
done:
    vex_words_source_close(&source);
    return status;
}

void vex_words_source_close(vex_words_source *source) {
    if (source->live != NULL) {
        vex_annex_release(&source->live->annex);
    }
    if (source->memory != NULL) {
        vex_words_memory_close(source->memory);
    }
    vex_annex_release(source->made);
    *source = (vex_words_source){0};
}

vex_status vex_words_source_find(const vex_words_source *source, const uint8_t *term, size_t len,
                                 vex_word_list *out) {
    if (source->words != NULL) {
        return vex_words_find(source->words, term, len, out);
    }
    vex_words_memory_find(source->memory, term, len, source->n_rows, out);
    return VEX_OK;
}

static vex_status count_list(const vex_word_list *list, const uint64_t *rows, uint32_t *count) {
    vex_block block;
    *count = 0;
    for (uint32_t b = 0; b < list->n_blocks; b++) {
        VEX_TRY(vex_words_block(list, b, &block));
        for (uint32_t i = 0; i < block.n; i++) {
            *count += vex_bit_get(rows, block.rows[i]);
        }
    }
    return VEX_OK;
}

vex_status vex_words_source_count(const vex_words_source *source, const vex_word_list *list,
                                  uint32_t *count) {
    vex_words_live *live = source->live;
    if (live->rows == NULL || list->n == 0) {
        *count = list->n;
        return VEX_OK;
    }
    if (list->n == 1) {
        return count_list(list, live->rows, count);
    }
    vex_live_count *place = &live->counts[list->number % COUNTS];
    pthread_mutex_lock(&live->mutex);
    const bool known = place->number == list->number + 1;
    *count = place->count;
    pthread_mutex_unlock(&live->mutex);
    if (known) {
        return VEX_OK;
    }
    VEX_TRY(count_list(list, live->rows, count));
    pthread_mutex_lock(&live->mutex);
    *place = (vex_live_count){list->number + 1, *count};
    pthread_mutex_unlock(&live->mutex);
    return VEX_OK;
}
