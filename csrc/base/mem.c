/*
 * mem.c - the allocators of mem.h and the process-wide counters.
 *
 * Heap bytes are counted by what the allocator says a block occupies, so blocks carry no header.
 * Every counter has a cache line of its own: threads that count different things do not disturb
 * one another.
 *
 * A bulk mapping starts on a 2 MiB boundary, where the kernel can back it with huge pages: it is
 * mapped 2 MiB too large and the surplus at both ends is given back.
 *
 * An arena is a list of bulk chunks, newest first, each beginning with its own link.  Blobs never
 * move, so a reader may hold on to one while the (single) writer goes on allocating.
 */
#include "base/mem.h"

#include "base/bytes.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#if defined(__APPLE__)
#include <malloc/malloc.h>
#define BLOCK_BYTES(p) malloc_size(p)
#else
#include <malloc.h>
#define BLOCK_BYTES(p) malloc_usable_size(p)
#endif

/* ---- counters ---- */

static struct {
    _Alignas(64) _Atomic uint64_t value;
} counters[VEX_STAT_COUNT];

void vex_stat_add(vex_counter counter, int64_t delta) {
    atomic_fetch_add_explicit(&counters[counter].value, (uint64_t)delta, memory_order_relaxed);
}

uint64_t vex_stat_get(vex_counter counter) {
    return atomic_load_explicit(&counters[counter].value, memory_order_relaxed);
}

/* ---- allocation failures on demand ---- */

#ifdef VEX_TESTING

static _Atomic uint64_t fail_countdown;
static _Atomic bool fail_persistent, fail_met;
static _Thread_local bool spared;
static _Atomic size_t largest;

size_t vex_mem_largest(void) {
    return atomic_load(&largest);
}

void vex_mem_largest_reset(void) {
    atomic_store(&largest, 0);
}

static void note_size(size_t bytes) {
    size_t before = atomic_load(&largest);
    while (bytes > before && !atomic_compare_exchange_weak(&largest, &before, bytes)) {
    }
}

void vex_mem_fail_at(uint64_t n, bool persistent) {
    atomic_store(&fail_persistent, persistent);
    atomic_store(&fail_met, false);
    atomic_store(&fail_countdown, n);
}

uint64_t vex_mem_fail_left(void) {
    return atomic_load(&fail_met) ? 0 : atomic_load(&fail_countdown);
}

void vex_mem_fail_spare(bool on) {
    spared = on;
}

static bool must_fail(size_t bytes) {
    uint64_t left = atomic_load(&fail_countdown);
    note_size(bytes);
    for (;;) {
        if (VEX_LIKELY(left == 0) || spared) {
            return false;
        }
        if (left == 1) {
            atomic_store(&fail_met, true);
        }
        if (left == 1 && atomic_load(&fail_persistent)) {
            return true;
        }
        if (atomic_compare_exchange_weak(&fail_countdown, &left, left - 1)) {
            return left == 1;
        }
    }
}

/* Make code that counts on zeroed memory misbehave where it is tested. */
static void scribble(void *p, size_t bytes) {
    memset(p, 0xA5, bytes);
}

#else

static inline bool must_fail(size_t bytes) {
    (void)bytes;
    return false;
}
static inline void scribble(void *p, size_t bytes) {
    (void)p;
    (void)bytes;
}

#endif

/* ---- single objects ---- */

static void count_block(void *p) {
    vex_stat_add(VEX_STAT_HEAP_BYTES, (int64_t)BLOCK_BYTES(p));
    vex_stat_add(VEX_STAT_HEAP_BLOCKS, 1);
}

void *vex_malloc(size_t bytes) {
    if (must_fail(bytes)) {
        return NULL;
    }
    void *p = malloc(bytes ? bytes : 1);
    if (p != NULL) {
        count_block(p);
        scribble(p, bytes);
    }
    return p;
}

void *vex_calloc(size_t n, size_t bytes_each) {
    size_t bytes;
    if (__builtin_mul_overflow(n, bytes_each, &bytes) || must_fail(bytes)) {
        return NULL;
    }
    void *p = calloc(bytes ? bytes : 1, 1);
    if (p != NULL) {
        count_block(p);
    }
    return p;
}

void *vex_realloc(void *p, size_t bytes) {
    if (p == NULL) {
        return vex_malloc(bytes);
    }
    if (must_fail(bytes)) {
        return NULL;
    }
    size_t before = BLOCK_BYTES(p);
    void *moved = realloc(p, bytes ? bytes : 1);
    if (moved != NULL) {
        vex_stat_add(VEX_STAT_HEAP_BYTES, (int64_t)BLOCK_BYTES(moved) - (int64_t)before);
    }
    return moved;
}

void vex_free(void *p) {
    if (p != NULL) {
        vex_stat_add(VEX_STAT_HEAP_BYTES, -(int64_t)BLOCK_BYTES(p));
        vex_stat_add(VEX_STAT_HEAP_BLOCKS, -1);
        free(p);
    }
}

char *vex_strdup(const char *text) {
    size_t bytes = strlen(text) + 1;
    char *copy = vex_malloc(bytes);
    return copy ? memcpy(copy, text, bytes) : NULL;
}

uint64_t vex_mem_physical(void) {
    const long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
    return pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes : UINT64_MAX;
}

void vex_mem_trim(void) {
#if defined(__GLIBC__)
    malloc_trim(0);
#endif
}

/* Twice `capacity`, or `needed` when that is more; at least `least`. */
static size_t grown(size_t capacity, size_t needed, size_t least) {
    size_t doubled = capacity > SIZE_MAX / 2 ? SIZE_MAX : capacity * 2;
    size_t wanted = doubled > needed ? doubled : needed;
    return wanted > least ? wanted : least;
}

vex_status vex_grow(void **array, size_t *capacity, size_t needed, size_t item_bytes) {
    if (needed <= *capacity) {
        return VEX_OK;
    }
    size_t items = grown(*capacity, needed, 8), bytes;
    if (__builtin_mul_overflow(items, item_bytes, &bytes) &&
        (items = needed, __builtin_mul_overflow(items, item_bytes, &bytes))) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: an array of %zu items of %zu bytes",
                        needed, item_bytes);
    }
    void *before; /* by memcpy: the caller's pointer is of another type */
    memcpy(&before, array, sizeof before);
    void *after = vex_realloc(before, bytes);
    if (after == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: cannot grow an array to %zu bytes",
                        bytes);
    }
    memcpy(array, &after, sizeof after);
    *capacity = items;
    return VEX_OK;
}

/* ---- bulk buffers ---- */

#define HUGE_PAGE ((size_t)2 << 20)

/* `bytes` (a multiple of the page size) on a huge page boundary, or NULL. */
static void *map_aligned(size_t bytes) {
    if (bytes > SIZE_MAX - HUGE_PAGE) {
        return NULL;
    }
    uint8_t *start =
        mmap(NULL, bytes + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
    if (start == MAP_FAILED) {
        return NULL;
    }
    size_t before = (size_t)(-(uintptr_t)start & (HUGE_PAGE - 1));
    if (before > 0) {
        munmap(start, before);
    }
    if (before < HUGE_PAGE) {
        munmap(start + before + bytes, HUGE_PAGE - before);
    }
#ifdef MADV_HUGEPAGE
    madvise(start + before, bytes, MADV_HUGEPAGE); /* advice: a refusal costs only speed */
#endif
    return start + before;
}

vex_status vex_bulk_create(vex_bulk *bulk, size_t bytes) {
    bool mapped = bytes >= VEX_BULK_MAP_MIN;
    size_t unit = mapped ? (size_t)sysconf(_SC_PAGESIZE) : 64;
    size_t usable = vex_align_up(bytes ? bytes : 1, unit);
    void *data = NULL;
    if (usable >= bytes && !must_fail(usable)) { /* usable < bytes: rounding overflowed */
        if (mapped) {
            data = map_aligned(usable);
        } else if (posix_memalign(&data, 64, usable) != 0) {
            data = NULL;
        }
    }
    if (data == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: cannot get a buffer of %zu bytes",
                        bytes);
    }
    if (mapped) {
        vex_stat_add(VEX_STAT_BULK_BYTES, (int64_t)usable);
        vex_stat_add(VEX_STAT_BULK_MAPS, 1);
        vex_stat_add(VEX_STAT_BULK_MAPS_TOTAL, 1);
    } else {
        count_block(data);
        scribble(data, usable);
    }
    *bulk = (vex_bulk){.data = data, .bytes = usable, .mapped = mapped};
    return VEX_OK;
}

void vex_bulk_destroy(vex_bulk *bulk) {
    if (bulk->mapped) {
        munmap(bulk->data, bulk->bytes);
        vex_stat_add(VEX_STAT_BULK_BYTES, -(int64_t)bulk->bytes);
        vex_stat_add(VEX_STAT_BULK_MAPS, -1);
    } else {
        vex_free(bulk->data);
    }
    *bulk = (vex_bulk){0};
}

/* ---- arena ---- */

#define ARENA_FIRST_CHUNK ((size_t)4096)

typedef struct arena_chunk {
    struct arena_chunk *next;
    vex_bulk memory; /* this chunk itself */
} arena_chunk;

struct vex_arena {
    arena_chunk *chunks;
    uint8_t *position; /* free part of the chunk being filled */
    size_t left;
    size_t next_bytes, chunk_bytes, reserved;
};

vex_status vex_arena_create(vex_arena **out, size_t chunk_bytes) {
    vex_arena *arena = vex_calloc(1, sizeof *arena);
    if (arena == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: cannot create an arena");
    }
    arena->chunk_bytes = chunk_bytes > ARENA_FIRST_CHUNK ? chunk_bytes : ARENA_FIRST_CHUNK;
    arena->next_bytes = ARENA_FIRST_CHUNK;
    *out = arena;
    return VEX_OK;
}

void vex_arena_destroy(vex_arena *arena) {
    if (arena == NULL) {
        return;
    }
    for (arena_chunk *chunk = arena->chunks; chunk != NULL;) {
        arena_chunk *next = chunk->next;
        vex_bulk memory = chunk->memory;
        vex_bulk_destroy(&memory);
        chunk = next;
    }
    vex_free(arena);
}

static arena_chunk *add_chunk(vex_arena *arena, size_t bytes) {
    vex_bulk memory;
    if (vex_bulk_create(&memory, bytes) != VEX_OK) {
        return NULL;
    }
    arena_chunk *chunk = memory.data;
    *chunk = (arena_chunk){.next = arena->chunks, .memory = memory};
    arena->chunks = chunk;
    arena->reserved += memory.bytes;
    return chunk;
}

static size_t padding(const uint8_t *p, size_t align) {
    return (size_t)(-(uintptr_t)p & (align - 1));
}

/* The slow path: the blob does not fit into the chunk being filled.  A blob of a good part of a
 * chunk gets one of its own, and the chunk being filled stays. */
static void *alloc_in_new_chunk(vex_arena *arena, size_t bytes, size_t align) {
    size_t needed;
    if (__builtin_add_overflow(bytes, sizeof(arena_chunk) + align - 1, &needed)) {
        return NULL;
    }
    bool alone = needed > arena->chunk_bytes / 4;
    size_t size = alone ? needed : arena->next_bytes;
    while (size < needed) {
        size *= 2;
    }
    arena_chunk *chunk = add_chunk(arena, size);
    if (chunk == NULL) {
        return NULL;
    }
    uint8_t *blob = (uint8_t *)chunk + sizeof *chunk;
    blob += padding(blob, align);
    if (!alone) {
        arena->position = blob + bytes;
        arena->left = (size_t)((uint8_t *)chunk + chunk->memory.bytes - arena->position);
        arena->next_bytes = size > arena->chunk_bytes / 2 ? arena->chunk_bytes : size * 2;
    }
    return blob;
}

void *vex_arena_alloc(vex_arena *arena, size_t bytes, size_t align) {
    bytes += bytes == 0;
    size_t skip = padding(arena->position, align);
    if (VEX_UNLIKELY(skip > arena->left || bytes > arena->left - skip)) {
        return alloc_in_new_chunk(arena, bytes, align);
    }
    uint8_t *blob = arena->position + skip;
    arena->position = blob + bytes;
    arena->left -= skip + bytes;
    return blob;
}

size_t vex_arena_bytes(const vex_arena *arena) {
    return arena->reserved;
}

/* ---- growing byte string ---- */

void vex_buf_clear(vex_buf *buf) {
    vex_free(buf->data);
    *buf = (vex_buf){0};
}

vex_status vex_buf_reserve(vex_buf *buf, size_t more) {
    if (VEX_LIKELY(more <= buf->capacity - buf->len)) {
        return VEX_OK;
    }
    size_t needed;
    if (__builtin_add_overflow(buf->len, more, &needed)) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: a byte string passes SIZE_MAX");
    }
    size_t capacity = grown(buf->capacity, needed, 64);
    uint8_t *data = vex_realloc(buf->data, capacity);
    if (data == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: cannot grow a buffer to %zu bytes",
                        capacity);
    }
    buf->data = data;
    buf->capacity = capacity;
    return VEX_OK;
}

vex_status vex_buf_append(vex_buf *buf, const void *bytes, size_t len) {
    VEX_TRY(vex_buf_reserve(buf, len));
    if (len > 0) {
        memcpy(buf->data + buf->len, bytes, len);
        buf->len += len;
    }
    return VEX_OK;
}

vex_status vex_buf_append_zeros(vex_buf *buf, size_t len) {
    VEX_TRY(vex_buf_reserve(buf, len));
    if (len > 0) {
        memset(buf->data + buf->len, 0, len);
        buf->len += len;
    }
    return VEX_OK;
}
