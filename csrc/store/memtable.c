/*
 * memtable.c - see memtable.h.
 *
 * prepare() writes whole rows behind the published ends of the tables, where no reader looks;
 * apply() links them to older rows, enters them into the key tables, and publishes the ends.
 */
#include "store/memtable.h"

#include "base/hash.h"
#include "store/format.h"
#include "store/key_table.h"
#include "store/slabs.h"

#include "base/poison.h"

#define CHUNKS 26
#define FIRST_CHUNK_LOG2 6
#define ALIVE UINT64_MAX

_Static_assert(((uint64_t)1 << (FIRST_CHUNK_LOG2 + CHUNKS - 1)) > VEX_ROWS_MAX,
               "the chunks hold every row");

struct vex_memtable {
    atomic_uint refs;
    _Atomic uint32_t n_vectors, n_payloads;
    atomic_uint_least64_t n_dead;
    _Atomic(vex_mem_vector *) vectors[CHUNKS];
    _Atomic(vex_mem_payload *) payloads[CHUNKS];
    vex_key_table ids;  /* hash of the id -> payload row                                   */
    vex_key_table seqs; /* seq -> payload row, vector row                                  */
    _Atomic uint64_t bytes;
    atomic_bool in_order;
    vex_annexes annexes;
    /* the writer's */
    uint64_t max_seq;
    vex_slabs vector_slabs, string_slabs;
};

vex_status vex_memtable_create(vex_memtable **out) {
    vex_memtable *table = vex_calloc(1, sizeof *table);
    if (table == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a memtable");
    }
    atomic_init(&table->refs, 1);
    atomic_init(&table->in_order, true);
    vex_annexes_init(&table->annexes);
    *out = table;
    return VEX_OK;
}

vex_memtable *vex_memtable_acquire(vex_memtable *table) {
    atomic_fetch_add_explicit(&table->refs, 1, memory_order_relaxed);
    return table;
}

void vex_memtable_release(vex_memtable *table) {
    if (table == NULL || atomic_fetch_sub_explicit(&table->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    for (int i = 0; i < CHUNKS; i++) {
        vex_free(atomic_load_explicit(&table->vectors[i], memory_order_relaxed));
        vex_free(atomic_load_explicit(&table->payloads[i], memory_order_relaxed));
    }
    vex_annexes_clear(&table->annexes);
    vex_key_table_destroy(&table->ids);
    vex_key_table_destroy(&table->seqs);
    vex_slabs_destroy(&table->vector_slabs);
    vex_slabs_destroy(&table->string_slabs);
    vex_free(table);
}

/* ---- where rows are ---- */

typedef struct place {
    uint32_t chunk, at, size; /* the row is number `at` of `size` in the chunk                    */
} place;

static inline place place_of(uint32_t row) {
    uint32_t log2 = 31 - (uint32_t)__builtin_clz(row | 1);
    if (log2 < FIRST_CHUNK_LOG2) {
        return (place){0, row, 1u << FIRST_CHUNK_LOG2};
    }
    return (place){log2 - FIRST_CHUNK_LOG2 + 1, row - (1u << log2), 1u << log2};
}

static inline vex_mem_vector *vector_at(const vex_memtable *table, uint32_t row) {
    place p = place_of(row);
    return atomic_load_explicit(&table->vectors[p.chunk], memory_order_acquire) + p.at;
}

static inline vex_mem_payload *payload_at(const vex_memtable *table, uint32_t row) {
    place p = place_of(row);
    return atomic_load_explicit(&table->payloads[p.chunk], memory_order_acquire) + p.at;
}

const vex_mem_vector *vex_memtable_vector(const vex_memtable *table, uint32_t row) {
    return vector_at(table, row);
}

const vex_mem_payload *vex_memtable_payload(const vex_memtable *table, uint32_t row) {
    return payload_at(table, row);
}

uint32_t vex_memtable_vectors(const vex_memtable *table) {
    return atomic_load_explicit(&table->n_vectors, memory_order_acquire);
}

uint32_t vex_memtable_payloads(const vex_memtable *table) {
    return atomic_load_explicit(&table->n_payloads, memory_order_acquire);
}

uint64_t vex_memtable_bytes(const vex_memtable *table) {
    return atomic_load_explicit(&table->bytes, memory_order_relaxed);
}

uint64_t vex_memtable_dead(const vex_memtable *table) {
    return atomic_load_explicit(&table->n_dead, memory_order_relaxed);
}

bool vex_memtable_in_order(const vex_memtable *table) {
    return atomic_load_explicit(&table->in_order, memory_order_relaxed);
}

vex_annexes *vex_memtable_annexes(vex_memtable *table) {
    return &table->annexes;
}

/* ---- prepare ---- */

static bool has_vector(const vex_op *op) {
    return op->kind == VEX_OP_PUT || op->kind == VEX_OP_VECTOR;
}

static bool has_payload(const vex_op *op) {
    return op->kind == VEX_OP_PUT || op->kind == VEX_OP_PAYLOAD;
}

typedef struct batch_size {
    uint32_t vectors, payloads;
    size_t vector_bytes, string_bytes;
} batch_size;

static size_t string_bytes(const vex_payload *payload) {
    return (size_t)payload->id_len + payload->document_len + payload->metadata_len +
           payload->uri_len;
}

static vex_status measure(const vex_memtable *table, const vex_batch *batch, batch_size *out) {
    uint64_t vectors = vex_memtable_vectors(table), payloads = vex_memtable_payloads(table);
    batch_size size = {0};
    bool overflow = batch->n_ops > VEX_ROWS_MAX;
    for (size_t i = 0; i < batch->n_ops && !overflow; i++) {
        const vex_op *op = &batch->ops[i];
        size.vectors += has_vector(op);
        if (has_payload(op)) {
            size.payloads++;
            overflow = __builtin_add_overflow(size.string_bytes, string_bytes(&op->payload),
                                              &size.string_bytes);
        }
    }
    overflow =
        overflow || __builtin_mul_overflow((size_t)size.vectors, batch->dimension * sizeof(float),
                                           &size.vector_bytes);
    if (overflow || vectors + size.vectors > VEX_ROWS_MAX ||
        payloads + size.payloads > VEX_ROWS_MAX || size.string_bytes > SIZE_MAX / 4 ||
        size.vector_bytes > SIZE_MAX / 4) {
        return VEX_FAIL(VEX_ERR_TOO_BIG, "a memtable holds at most %u rows", VEX_ROWS_MAX);
    }
    *out = size;
    return VEX_OK;
}

static vex_status make_chunk(size_t row_bytes, uint32_t rows, void **out, size_t *held) {
    *out = vex_malloc(row_bytes * rows);
    if (*out == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for %u more rows", (unsigned)rows);
    }
    *held += row_bytes * rows;
    return VEX_OK;
}

/* Chunks for that many rows of each kind. */
static vex_status reserve_rows(vex_memtable *table, uint32_t vectors, uint32_t payloads,
                               size_t *held) {
    for (uint32_t chunk = 0; chunk < CHUNKS; chunk++) {
        uint32_t first = chunk == 0 ? 0 : 1u << (FIRST_CHUNK_LOG2 + chunk - 1);
        uint32_t rows = chunk == 0 ? 1u << FIRST_CHUNK_LOG2 : first;
        void *fresh;
        if (first < vectors && atomic_load(&table->vectors[chunk]) == NULL) {
            VEX_TRY(make_chunk(sizeof(vex_mem_vector), rows, &fresh, held));
            atomic_store_explicit(&table->vectors[chunk], fresh, memory_order_release);
        }
        if (first < payloads && atomic_load(&table->payloads[chunk]) == NULL) {
            VEX_TRY(make_chunk(sizeof(vex_mem_payload), rows, &fresh, held));
            atomic_store_explicit(&table->payloads[chunk], fresh, memory_order_release);
        }
    }
    return VEX_OK;
}

/* Room for the contents: *vectors and *strings. */
static vex_status reserve_contents(vex_memtable *table, const batch_size *size, uint8_t **vectors,
                                   uint8_t **strings, size_t *held) {
    bool together = size->vector_bytes >= VEX_BULK_MAP_MIN;
    size_t behind = together ? size->string_bytes : 0;
    VEX_TRY(vex_slabs_reserve(&table->vector_slabs, size->vector_bytes + behind, vectors, held));
    VEX_TRY(vex_slabs_reserve(&table->string_slabs, size->string_bytes - behind, strings, held));
    if (together) {
        *strings = *vectors + size->vector_bytes;
    }
    return VEX_OK;
}

/* Neighbours in the caller's memory are copied in one piece. */
static void copy_vectors(const vex_batch *batch, float *to) {
    const float *from = NULL;
    size_t n = 0; /* floats of the piece not copied yet, which begins at `from` */
    for (size_t i = 0; i < batch->n_ops; i++) {
        const vex_op *op = &batch->ops[i];
        if (!has_vector(op)) {
            continue;
        }
        if (n > 0 && op->vector != from + n) {
            memcpy(to, from, n * sizeof *to);
            to += n;
            n = 0;
        }
        if (n == 0) {
            from = op->vector;
        }
        n += batch->dimension;
    }
    if (n > 0) {
        memcpy(to, from, n * sizeof *to);
    }
}

/* |x|^2 of 4 rows as index/dist.h defines it: summed in double in index order.  That order is a
 * chain of dependent additions, so four chains side by side cost the time of one. */
static void norms_of_4(const float *x, uint32_t dim, float out[4]) {
    const float *y = x + dim, *z = y + dim, *w = z + dim;
    double a = 0, b = 0, c = 0, d = 0;
    for (uint32_t i = 0; i < dim; i++) {
        a += (double)x[i] * (double)x[i];
        b += (double)y[i] * (double)y[i];
        c += (double)z[i] * (double)z[i];
        d += (double)w[i] * (double)w[i];
    }
    out[0] = (float)a;
    out[1] = (float)b;
    out[2] = (float)c;
    out[3] = (float)d;
}

static float norm_of(const float *x, uint32_t dim) {
    double sum = 0;
    for (uint32_t i = 0; i < dim; i++) {
        sum += (double)x[i] * (double)x[i];
    }
    return (float)sum;
}

static void fill_vectors(vex_memtable *table, const vex_batch *batch, uint32_t n, const float *x) {
    uint32_t row = vex_memtable_vectors(table), dim = batch->dimension;
    float norms[4];
    uint32_t done = 0;
    for (size_t i = 0; i < batch->n_ops; i++) {
        const vex_op *op = &batch->ops[i];
        if (!has_vector(op)) {
            continue;
        }
        if (done % 4 == 0 && n - done >= 4) {
            norms_of_4(x, dim, norms);
        } else if (n - done / 4 * 4 < 4) {
            norms[done % 4] = norm_of(x, dim);
        }
        vex_mem_vector *vector = vector_at(table, row++);
        vector->seq = op->payload.seq;
        vector->vector = x;
        vector->norm2 = norms[done % 4];
        done++;
        x += dim;
    }
}

static const uint8_t *copy_string(uint8_t **to, const uint8_t *bytes, uint32_t len) {
    if (bytes == NULL) {
        return NULL;
    }
    const uint8_t *copy = *to;
    if (len > 0) {
        memcpy(*to, bytes, len);
        *to += len;
    }
    return copy;
}

static void fill_payloads(vex_memtable *table, const vex_batch *batch, uint8_t *to) {
    uint32_t row = vex_memtable_payloads(table);
    for (size_t i = 0; i < batch->n_ops; i++) {
        const vex_payload *from = &batch->ops[i].payload;
        if (!has_payload(&batch->ops[i])) {
            continue;
        }
        vex_payload *payload = &payload_at(table, row++)->payload;
        *payload = *from;
        payload->id = copy_string(&to, from->id, from->id_len);
        payload->document = copy_string(&to, from->document, from->document_len);
        payload->metadata = copy_string(&to, from->metadata, from->metadata_len);
        payload->uri = copy_string(&to, from->uri, from->uri_len);
    }
}

vex_status vex_memtable_prepare(vex_memtable *table, const vex_batch *batch) {
    batch_size size = {0};
    uint8_t *vectors = NULL, *strings = NULL;
    size_t held = 0;
    VEX_TRY(measure(table, batch, &size));
    vex_status status;
    VEX_TRY_DONE(status, reserve_rows(table, vex_memtable_vectors(table) + size.vectors,
                                      vex_memtable_payloads(table) + size.payloads, &held));
    VEX_TRY_DONE(status, vex_key_table_reserve(&table->ids, size.payloads, &held));
    VEX_TRY_DONE(status, vex_key_table_reserve(&table->seqs, batch->n_ops, &held));
    VEX_TRY_DONE(status, reserve_contents(table, &size, &vectors, &strings, &held));
    copy_vectors(batch, (float *)(void *)vectors);
    fill_vectors(table, batch, size.vectors, (const float *)(const void *)vectors);
    fill_payloads(table, batch, strings);
done:
    atomic_fetch_add_explicit(&table->bytes, held, memory_order_relaxed);
    return status;
}

/* ---- keys ---- */

static bool same_id(const vex_payload *payload, const void *id, size_t len) {
    return payload->id_len == len && (len == 0 || memcmp(payload->id, id, len) == 0);
}

static vex_key_slot *find_id_slot(const vex_memtable *table, uint64_t hash, const void *id,
                                  size_t len) {
    vex_key_probe probe = vex_key_probe_start(&table->ids, hash);
    vex_key_slot *slot;
    do {
        slot = vex_key_probe_next(&probe);
    } while (slot != NULL &&
             !same_id(&payload_at(table, vex_key_slot_payload(slot))->payload, id, len));
    return slot;
}

static vex_key_slot *find_seq_slot(const vex_memtable *table, uint64_t seq) {
    vex_key_probe probe = vex_key_probe_start(&table->seqs, seq);
    return vex_key_probe_next(&probe);
}

uint32_t vex_memtable_find_id(const vex_memtable *table, const void *id, size_t len, uint64_t hash,
                              uint64_t lsn) {
    const vex_key_slot *slot = find_id_slot(table, hash, id, len);
    uint32_t row = slot ? vex_key_slot_payload(slot) : VEX_NO_ROW;
    while (row != VEX_NO_ROW) {
        const vex_mem_payload *payload = payload_at(table, row);
        if (vex_mem_payload_live(payload, lsn)) {
            break;
        }
        row = payload->previous;
    }
    return row;
}

uint32_t vex_memtable_find_payload(const vex_memtable *table, uint64_t seq, uint64_t lsn) {
    const vex_key_slot *slot = find_seq_slot(table, seq);
    uint32_t row = slot ? vex_key_slot_payload(slot) : VEX_NO_ROW;
    while (row != VEX_NO_ROW) {
        const vex_mem_payload *payload = payload_at(table, row);
        if (payload->payload.seq != seq) {
            return VEX_NO_ROW; /* an earlier record of the same id */
        }
        if (vex_mem_payload_live(payload, lsn)) {
            break;
        }
        row = payload->previous;
    }
    return row;
}

uint32_t vex_memtable_find_vector(const vex_memtable *table, uint64_t seq, uint64_t lsn) {
    const vex_key_slot *slot = find_seq_slot(table, seq);
    uint32_t row = slot ? vex_key_slot_vector(slot) : VEX_NO_ROW;
    while (row != VEX_NO_ROW) {
        const vex_mem_vector *vector = vector_at(table, row);
        if (vex_mem_vector_live(vector, lsn)) {
            break;
        }
        row = vector->previous;
    }
    return row;
}

/* ---- apply ---- */

static bool kill(vex_memtable *table, _Atomic uint64_t *died, uint64_t lsn) {
    if (atomic_load_explicit(died, memory_order_relaxed) != ALIVE) {
        return false;
    }
    atomic_store_explicit(died, lsn, memory_order_release);
    atomic_fetch_add_explicit(&table->n_dead, 1, memory_order_relaxed);
    return true;
}

bool vex_memtable_kill_vector(vex_memtable *table, uint32_t row, uint64_t lsn) {
    return row != VEX_NO_ROW && kill(table, &vector_at(table, row)->died, lsn);
}

bool vex_memtable_kill_payload(vex_memtable *table, uint32_t row, uint64_t lsn) {
    return row != VEX_NO_ROW && kill(table, &payload_at(table, row)->died, lsn);
}

static vex_key_slot *seq_slot(vex_memtable *table, uint64_t seq) {
    vex_key_slot *slot = find_seq_slot(table, seq);
    return slot ? slot : vex_key_table_add(&table->seqs, seq);
}

static void append_vector(vex_memtable *table, vex_key_slot *slot, uint32_t row, uint64_t lsn) {
    vex_mem_vector *vector = vector_at(table, row);
    vector->born = lsn;
    vector->previous = vex_key_slot_vector(slot);
    atomic_store_explicit(&vector->died, ALIVE, memory_order_relaxed);
    vex_memtable_kill_vector(table, vector->previous, lsn);
    vex_key_slot_set_vector(slot, row);
}

static void append_payload(vex_memtable *table, vex_key_slot *slot, uint32_t row, uint64_t lsn) {
    vex_mem_payload *payload = payload_at(table, row);
    uint64_t hash = vex_hash64(payload->payload.id, payload->payload.id_len);
    vex_key_slot *id = find_id_slot(table, hash, payload->payload.id, payload->payload.id_len);
    payload->born = lsn;
    payload->previous = id ? vex_key_slot_payload(id) : VEX_NO_ROW;
    atomic_store_explicit(&payload->died, ALIVE, memory_order_relaxed);
    vex_memtable_kill_payload(table, vex_key_slot_payload(slot), lsn);
    if (id == NULL) {
        id = vex_key_table_add(&table->ids, hash);
    }
    vex_key_slot_set_payload(id, row);
    vex_key_slot_set_payload(slot, row);
    if (payload->payload.seq < table->max_seq) {
        atomic_store_explicit(&table->in_order, false, memory_order_relaxed);
    } else {
        table->max_seq = payload->payload.seq;
    }
}

uint32_t vex_memtable_apply(vex_memtable *table, const vex_batch *batch, uint64_t lsn) {
    uint32_t n_vectors = vex_memtable_vectors(table), n_payloads = vex_memtable_payloads(table);
    uint32_t deleted = 0;
    size_t held = vex_slabs_keep(&table->vector_slabs) + vex_slabs_keep(&table->string_slabs);
    for (size_t i = 0; i < batch->n_ops; i++) {
        const vex_op *op = &batch->ops[i];
        if (op->kind == VEX_OP_DELETE) {
            const vex_key_slot *slot = find_seq_slot(table, op->payload.seq);
            if (slot != NULL) {
                vex_memtable_kill_vector(table, vex_key_slot_vector(slot), lsn);
                deleted += vex_memtable_kill_payload(table, vex_key_slot_payload(slot), lsn);
            }
            continue;
        }
        vex_key_slot *slot = seq_slot(table, op->payload.seq);
        if (has_vector(op)) {
            append_vector(table, slot, n_vectors++, lsn);
        }
        if (has_payload(op)) {
            append_payload(table, slot, n_payloads++, lsn);
        }
    }
    atomic_store_explicit(&table->n_vectors, n_vectors, memory_order_release);
    atomic_store_explicit(&table->n_payloads, n_payloads, memory_order_release);
    atomic_fetch_add_explicit(&table->bytes, held, memory_order_relaxed);
    return deleted;
}

/* ---- runs ---- */

const vex_mem_vector *vex_memtable_run(const vex_memtable *table, uint32_t first, uint32_t limit,
                                       uint32_t dimension, uint32_t *end) {
    place p = place_of(first);
    const vex_mem_vector *vector = vector_at(table, first);
    uint32_t n = 1, most = p.size - p.at < limit - first ? p.size - p.at : limit - first;
    const float *next = vector->vector + dimension;
    while (n < most && vector[n].vector == next) {
        n++;
        next += dimension;
    }
    *end = first + n;
    return vector;
}
