/*
 * micro_memory.c - large buffers against allocation by rows; and the buffers of queries from the C
 * library's allocator or from pools by size.
 */
#include "tests/micro/micro.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- rows of a batch ---- */

#define ROWS 50000u
#define DIM 384u

typedef struct batch {
    const float *from;
    float **rows; /* each somewhere */
    vex_bulk bulk;
    float sum;
} batch;

static void free_rows(void *context) {
    batch *b = context;
    for (uint32_t i = 0; i < ROWS; i++) {
        vex_free(b->rows[i]);
        b->rows[i] = NULL;
    }
}

static void copy_by_rows(void *context) {
    batch *b = context;
    for (uint32_t i = 0; i < ROWS; i++) {
        b->rows[i] = vex_malloc(DIM * sizeof(float));
        micro_need(b->rows[i] != NULL ? VEX_OK : VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory"),
                   "memory");
        memcpy(b->rows[i], b->from + (size_t)i * DIM, DIM * sizeof(float));
    }
}

static void free_bulk(void *context) {
    vex_bulk_destroy(&((batch *)context)->bulk);
}

static void copy_to_bulk(void *context) {
    batch *b = context;
    micro_need(vex_bulk_create(&b->bulk, (size_t)ROWS * DIM * sizeof(float)), "memory");
    memcpy(b->bulk.data, b->from, (size_t)ROWS * DIM * sizeof(float));
}

static void read_rows(void *context) {
    batch *b = context;
    for (uint32_t i = 0; i < ROWS; i++) {
        for (uint32_t k = 0; k < DIM; k++) {
            b->sum += b->rows[i][k];
        }
    }
}

static void read_bulk(void *context) {
    batch *b = context;
    const float *rows = b->bulk.data;
    for (size_t i = 0; i < (size_t)ROWS * DIM; i++) {
        b->sum += rows[i];
    }
}

static void report_rows(const char *name, double seconds) {
    micro_report("memory", name, seconds / ROWS * 1e9, "ns a row");
}

static void rows_of_a_batch(void) {
    float *from = micro_room((size_t)ROWS * DIM * sizeof *from);
    batch b = {.from = from, .rows = micro_room(ROWS * sizeof *b.rows)};
    micro_rows(from, ROWS, DIM, 4);
    report_rows("copy 384-d, allocated by rows", micro_time_after(free_rows, copy_by_rows, &b));
    report_rows("copy 384-d, one bulk buffer", micro_time_after(free_bulk, copy_to_bulk, &b));
    report_rows("read 384-d, allocated by rows", micro_time(read_rows, &b));
    report_rows("read 384-d, one bulk buffer", micro_time(read_bulk, &b));
    micro_use(&b.sum);
    free_rows(&b);
    free_bulk(&b);
    free(b.rows);
    free(from);
}

/* ---- buffers of queries ---- */

/* What queries ask for: a few sizes again and again, a large one now and then. */
#define REQUESTS 100000u
#define HELD 64u
#define CLASSES 12u        /* 64 bytes to 128 KiB */
#define KEPT_PER_CLASS 32u /* then they go back to the C library */

typedef struct tiers {
    void *kept[CLASSES][KEPT_PER_CLASS];
    uint32_t n[CLASSES];
    uint64_t hits, misses, asked_bytes, given_bytes;
} tiers;

typedef struct churn {
    uint32_t sizes[REQUESTS];
    void *held[HELD];
    uint32_t held_size[HELD];
    tiers *pool; /* NULL: the C library */
} churn;

static uint32_t class_of(uint32_t bytes) {
    uint32_t class = 0;
    while (class < CLASSES && (64u << class) < bytes) {
        class++;
    }
    return class;
}

static void *take(tiers *t, uint32_t bytes) {
    const uint32_t class = class_of(bytes);
    if (class == CLASSES) {
        t->misses++;
        return vex_malloc(bytes);
    }
    t->asked_bytes += bytes;
    t->given_bytes += 64u << class;
    if (t->n[class] > 0) {
        t->hits++;
        return t->kept[class][--t->n[class]];
    }
    t->misses++;
    return vex_malloc((size_t)64 << class);
}

static void give(tiers *t, void *p, uint32_t bytes) {
    const uint32_t class = class_of(bytes);
    if (p != NULL && class < CLASSES && t->n[class] < KEPT_PER_CLASS) {
        t->kept[class][t->n[class]++] = p;
    } else {
        vex_free(p);
    }
}

static void ask(void *context) {
    churn *c = context;
    for (uint32_t i = 0; i < REQUESTS; i++) {
        const uint32_t place = i * 2654435761u >> 26; /* which is given back is not in order */
        if (c->pool != NULL) {
            give(c->pool, c->held[place], c->held_size[place]);
            c->held[place] = take(c->pool, c->sizes[i]);
        } else {
            vex_free(c->held[place]);
            c->held[place] = vex_malloc(c->sizes[i]);
        }
        c->held_size[place] = c->sizes[i];
        memset(c->held[place], 1, 64);
    }
}

static void drop_held(churn *c) {
    for (uint32_t i = 0; i < HELD; i++) {
        vex_free(c->held[i]);
        c->held[i] = NULL;
    }
}

static void buffers_of_queries(void) {
    static const uint32_t usual[] = {80, 96, 240, 400, 960, 1600, 4096, 6144, 20000};
    churn *c = micro_room(sizeof *c);
    uint64_t state = 6;
    for (uint32_t i = 0; i < REQUESTS; i++) {
        const uint64_t r = micro_random(&state);
        c->sizes[i] = r % 100 == 0 ? 100000 + (uint32_t)(r >> 40) % 400000
                                   : usual[(r >> 20) % (sizeof usual / sizeof *usual)];
    }
    micro_report("memory", "query buffers, C library", micro_time(ask, c) / REQUESTS * 1e9,
                 "ns each");
    drop_held(c);
    tiers *pool = micro_room(sizeof *pool);
    c->pool = pool;
    micro_report("memory", "query buffers, pools by size", micro_time(ask, c) / REQUESTS * 1e9,
                 "ns each");
    micro_report("memory", "... found in a pool",
                 100.0 * (double)pool->hits / (double)(pool->hits + pool->misses), "%");
    micro_report("memory", "... of the bytes given, not asked for",
                 100.0 * (1 - (double)pool->asked_bytes / (double)pool->given_bytes), "%");
    drop_held(c);
    for (uint32_t class = 0; class < CLASSES; class++) {
        while (pool->n[class] > 0) {
            vex_free(pool->kept[class][--pool->n[class]]);
        }
    }
    free(pool);
    free(c);
}

void micro_memory(void) {
    rows_of_a_batch();
    buffers_of_queries();
}
