/*
 * words_memory.c - see words_memory.h.
 */
#include "rank/words_memory.h"

#include "base/hash.h"
#include "rank/tokens.h"

#include "base/poison.h"

#define SLOTS_MIN 256u
#define ARENA_BYTES ((size_t)64 << 10)

typedef struct term {
    uint64_t hash;
    const uint8_t *bytes;
    vex_word_posting *postings;
    uint8_t *impacts; /* of each block */
    size_t n, capacity, impacts_capacity;
    uint8_t all[VEX_MEMORY_IMPACTS]; /* impacts */
    uint8_t len;
} term;

typedef struct memory_row {
    uint32_t length, documents; /* 1 + tokens, or 0; documents and tokens up to here */
    uint64_t tokens;
} memory_row;

struct vex_words_memory {
    vex_annex annex;
    pthread_rwlock_t lock;
    bool broken; /* a document is in it by half */
    vex_arena *arena;
    term *terms;
    size_t n_terms, terms_capacity;
    uint32_t *slots; /* open addressing: term number + 1 */
    size_t n_slots;
    memory_row *rows;
    size_t n_rows, rows_capacity;
    uint32_t *met; /* terms of the document that is being added */
    size_t n_met, met_capacity;
    size_t list_bytes;
};

static vex_status no_memory(void) {
    return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for an index of words");
}

/* ---- making ---- */

static void destroy(vex_annex *annex) {
    vex_words_memory *memory = (vex_words_memory *)annex;
    for (size_t i = 0; i < memory->n_terms; i++) {
        vex_free(memory->terms[i].postings);
        vex_free(memory->terms[i].impacts);
    }
    vex_arena_destroy(memory->arena);
    vex_free(memory->terms);
    vex_free(memory->slots);
    vex_free(memory->rows);
    vex_free(memory->met);
    pthread_rwlock_destroy(&memory->lock);
    vex_free(memory);
}

static vex_status make(void *context VEX_UNUSED, vex_annex **out) {
    vex_words_memory *memory = vex_calloc(1, sizeof *memory);
    if (memory == NULL) {
        return no_memory();
    }
    vex_status status = vex_arena_create(&memory->arena, ARENA_BYTES);
    if (status != VEX_OK) {
        vex_free(memory);
        return status;
    }
    pthread_rwlock_init(&memory->lock, NULL);
    vex_annex_init(&memory->annex, destroy);
    *out = &memory->annex;
    return VEX_OK;
}

/* ---- adding ---- */

static vex_status grow_slots(vex_words_memory *memory) {
    const size_t n_slots = memory->n_slots ? memory->n_slots * 2 : SLOTS_MIN;
    uint32_t *slots = vex_calloc(n_slots, sizeof *slots);
    if (slots == NULL) {
        return no_memory();
    }
    for (size_t i = 0; i < memory->n_terms; i++) {
        size_t at = memory->terms[i].hash & (n_slots - 1);
        while (slots[at] != 0) {
            at = (at + 1) & (n_slots - 1);
        }
        slots[at] = (uint32_t)i + 1;
    }
    vex_free(memory->slots);
    memory->slots = slots;
    memory->n_slots = n_slots;
    return VEX_OK;
}

/* The slot that has the term, or the free one where it would be. */
static size_t slot_of(const vex_words_memory *memory, uint64_t hash, const uint8_t *bytes,
                      size_t len) {
    size_t at = hash & (memory->n_slots - 1);
    for (; memory->slots[at] != 0; at = (at + 1) & (memory->n_slots - 1)) {
        const term *known = &memory->terms[memory->slots[at] - 1];
        if (known->hash == hash && known->len == len && memcmp(known->bytes, bytes, len) == 0) {
            break;
        }
    }
    return at;
}

static vex_status need_term(vex_words_memory *memory, const vex_tokens *tokens, term **out) {
    if (2 * (memory->n_terms + 1) > memory->n_slots) {
        VEX_TRY(grow_slots(memory));
    }
    const uint64_t hash = vex_hash64(tokens->bytes, tokens->len);
    const size_t at = slot_of(memory, hash, tokens->bytes, tokens->len);
    if (memory->slots[at] != 0) {
        *out = &memory->terms[memory->slots[at] - 1];
        return VEX_OK;
    }
    if (memory->n_terms >= UINT32_MAX / 2) {
        return VEX_FAIL(VEX_ERR_TOO_BIG, "more words than a memtable can be searched for");
    }
    VEX_TRY(vex_grow((void **)&memory->terms, &memory->terms_capacity, memory->n_terms + 1,
                     sizeof *memory->terms));
    uint8_t *copy = vex_arena_alloc(memory->arena, tokens->len, 1);
    if (copy == NULL) {
        return no_memory();
    }
    memcpy(copy, tokens->bytes, tokens->len);
    *out = &memory->terms[memory->n_terms++];
    **out = (term){.hash = hash, .bytes = copy, .len = (uint8_t)tokens->len};
    memory->slots[at] = (uint32_t)memory->n_terms;
    return VEX_OK;
}

static vex_status take_token(vex_words_memory *memory, uint32_t row, const vex_tokens *tokens) {
    term *t = NULL;
    VEX_TRY(need_term(memory, tokens, &t));
    if (t->n > 0 && t->postings[t->n - 1].row == row) {
        t->postings[t->n - 1].times++;
        return VEX_OK;
    }
    const size_t before = t->capacity * sizeof *t->postings + t->impacts_capacity;
    VEX_TRY(vex_grow((void **)&t->postings, &t->capacity, t->n + 1, sizeof *t->postings));
    VEX_TRY(vex_grow((void **)&t->impacts, &t->impacts_capacity,
                     (t->n / VEX_BLOCK_ROWS + 1) * VEX_MEMORY_IMPACTS, 1));
    memory->list_bytes += t->capacity * sizeof *t->postings + t->impacts_capacity - before;
    VEX_TRY(vex_grow((void **)&memory->met, &memory->met_capacity, memory->n_met + 1,
                     sizeof *memory->met));
    memory->met[memory->n_met++] = (uint32_t)(t - memory->terms);
    t->postings[t->n++] = (vex_word_posting){row, 1};
    return VEX_OK;
}

static void cover(uint8_t *impact, bool is_new, uint32_t times, uint8_t code) {
    const uint8_t most =
        times < VEX_IMPACT_TIMES_ANY ? (uint8_t)times : (uint8_t)VEX_IMPACT_TIMES_ANY;
    impact[0] = 1;
    impact[1] = is_new || most > impact[1] ? most : impact[1];
    impact[2] = is_new || code < impact[2] ? code : impact[2];
}

/* With the length of the document known, its words get their impacts. */
static void take_impacts(vex_words_memory *memory, uint32_t length) {
    const uint8_t code = vex_length_code(length);
    for (size_t i = 0; i < memory->n_met; i++) {
        term *t = &memory->terms[memory->met[i]];
        const size_t last = t->n - 1;
        const uint32_t times = t->postings[last].times;
        cover(t->impacts + last / VEX_BLOCK_ROWS * VEX_MEMORY_IMPACTS, last % VEX_BLOCK_ROWS == 0,
              times, code);
        cover(t->all, last == 0, times, code);
    }
    memory->n_met = 0;
}

static vex_status add_row(vex_words_memory *memory, uint32_t row, const vex_payload *payload) {
    memory_row added = {0};
    if (memory->n_rows > 0) {
        added = memory->rows[memory->n_rows - 1];
        added.length = 0;
    }
    VEX_TRY(vex_grow((void **)&memory->rows, &memory->rows_capacity, memory->n_rows + 1,
                     sizeof *memory->rows));
    if (payload->document != NULL) {
        uint32_t length = 0;
        vex_tokens tokens;
        vex_tokens_start(&tokens, payload->document, payload->document_len);
        while (vex_tokens_next(&tokens)) {
            VEX_TRY(take_token(memory, row, &tokens));
            length += length < UINT32_MAX - 1;
        }
        take_impacts(memory, length);
        added.length = length + 1;
        added.documents++;
        added.tokens += length;
    }
    memory->rows[memory->n_rows++] = added;
    return VEX_OK;
}

static vex_status add_rows(vex_words_memory *memory, const vex_memtable *table, uint32_t n_rows) {
    vex_status status = VEX_OK;
    while (memory->n_rows < n_rows && status == VEX_OK) {
        const uint32_t row = (uint32_t)memory->n_rows;
        status = add_row(memory, row, &vex_memtable_payload(table, row)->payload);
    }
    memory->broken = status != VEX_OK;
    atomic_store_explicit(&memory->annex.bytes,
                          sizeof *memory + vex_arena_bytes(memory->arena) +
                              memory->terms_capacity * sizeof *memory->terms +
                              memory->n_slots * sizeof *memory->slots +
                              memory->rows_capacity * sizeof *memory->rows + memory->list_bytes,
                          memory_order_relaxed);
    return status;
}

/* ---- using ---- */

vex_status vex_words_memory_open(vex_memtable *table, uint32_t n_rows, vex_words_memory **out) {
    vex_annexes *annexes = vex_memtable_annexes(table);
    for (;;) {
        vex_annex *annex = NULL;
        VEX_TRY(vex_annexes_need(annexes, VEX_ANNEX_WORDS, make, NULL, &annex));
        vex_words_memory *memory = (vex_words_memory *)annex;
        vex_status status = VEX_OK;
        pthread_rwlock_rdlock(&memory->lock);
        if (memory->n_rows < n_rows && !memory->broken) {
            pthread_rwlock_unlock(&memory->lock);
            pthread_rwlock_wrlock(&memory->lock);
            status = memory->broken ? VEX_OK : add_rows(memory, table, n_rows);
            pthread_rwlock_unlock(&memory->lock);
            pthread_rwlock_rdlock(&memory->lock);
        }
        if (!memory->broken) {
            *out = memory;
            return VEX_OK;
        }
        vex_annexes_forget(annexes); /* and a new one is begun */
        vex_words_memory_close(memory);
        VEX_TRY(status);
    }
}

void vex_words_memory_close(vex_words_memory *memory) {
    pthread_rwlock_unlock(&memory->lock);
    vex_annex_release(&memory->annex);
}

void vex_words_memory_find(const vex_words_memory *memory, const uint8_t *bytes, size_t len,
                           uint32_t n_rows, vex_word_list *out) {
    *out = (vex_word_list){0};
    if (memory->n_slots == 0) {
        return;
    }
    const uint32_t slot = memory->slots[slot_of(memory, vex_hash64(bytes, len), bytes, len)];
    if (slot == 0) {
        return;
    }
    const term *t = &memory->terms[slot - 1];
    size_t low = 0, high = t->n; /* postings before `low` are of rows below n_rows */
    if (t->postings[high - 1].row < n_rows) {
        low = high;
    }
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (t->postings[middle].row < n_rows) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *out = (vex_word_list){.n = (uint32_t)low,
                           .n_blocks = (uint32_t)((low + VEX_BLOCK_ROWS - 1) / VEX_BLOCK_ROWS),
                           .number = slot,
                           .postings = t->postings,
                           .impacts = t->all,
                           .blocks = t->impacts};
}

uint32_t vex_words_memory_length(const vex_words_memory *memory, uint32_t row) {
    return memory->rows[row].length;
}

void vex_words_memory_count(const vex_words_memory *memory, uint32_t n_rows, uint64_t *documents,
                            uint64_t *tokens) {
    *documents = n_rows > 0 ? memory->rows[n_rows - 1].documents : 0;
    *tokens = n_rows > 0 ? memory->rows[n_rows - 1].tokens : 0;
}
