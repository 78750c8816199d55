/*
 * flat.c - exact search over one run of rows.
 *
 * The run is cut into spans of consecutive rows, small enough to stay in the first-level cache
 * while all queries visit them.  Without a selection, or where at least half of a block is
 * selected, a span is the whole block: computing a row too many is cheaper than leaving the
 * blocked kernels.  Elsewhere spans are the runs of selected rows.
 *
 * Spans are prefetched a few in advance.  Selected rows lie scattered, and even on contiguous rows
 * the processor's own prefetcher falls behind the kernels, most of all on narrow elements.  Short
 * spans make short bursts of prefetches, which overlap with computing; a long burst only waits.
 */
#include "index/flat.h"

#include "base/bits.h"
#include "base/mem.h"

#include <string.h>

#include "base/poison.h"

#define BLOCK_ROWS 128u      /* at most, ... */
#define BLOCK_BYTES 4096u    /* and about so many bytes of rows, but 4 rows at least */
#define GROUP_QUERIES 32u    /* a workspace of BLOCK_ROWS * GROUP_QUERIES distances */
#define SPANS_AHEAD 4u       /* prefetched, a power of two */
#define PREFETCH_BYTES 8192u /* per span: the processor finds the rest by itself */

typedef struct scan {
    const vex_kernels *kernels;
    const vex_row_run *run;
    const float *queries, *query_norm2;
    vex_topk *top;
    uint32_t space, m, dim, block_rows;
    uint64_t distances; /* computed so far */
} scan;

/* Rows [first, first + n) of the run; with `masked`, not all of them are selected. */
typedef struct row_span {
    uint32_t first, n;
    bool masked;
} row_span;

typedef struct span_cursor {
    uint32_t row, block_end; /* next row to look at; end of the block that is cut into runs */
} span_cursor;

/* First i in [from, end) whose bit equals `value`, or end. */
static size_t find_bit(const uint64_t *bits, size_t from, size_t end, bool value) {
    const uint64_t flip = value ? 0 : ~0ULL;
    while (from < end) {
        const uint64_t word = (bits[from / 64] ^ flip) >> (from % 64);
        if (word != 0) {
            from += (size_t)__builtin_ctzll(word);
            return from < end ? from : end;
        }
        from = (from / 64 + 1) * 64;
    }
    return end;
}

/* Set bits in [from, end). */
static uint32_t count_bits(const uint64_t *bits, size_t from, size_t end) {
    uint32_t count = 0;
    while (from < end) {
        const size_t next = (from / 64 + 1) * 64;
        uint64_t word = bits[from / 64] >> (from % 64);
        if (next > end) {
            word &= (1ULL << (end - from)) - 1;
        }
        count += (uint32_t)__builtin_popcountll(word);
        from = next;
    }
    return count;
}

static bool next_span(const scan *s, span_cursor *cursor, row_span *out) {
    const vex_row_run *run = s->run;
    if (run->selected == NULL) {
        const uint32_t left = run->n - cursor->row;
        *out = (row_span){cursor->row, left < s->block_rows ? left : s->block_rows, false};
        cursor->row += out->n;
        return out->n > 0;
    }
    const size_t base = run->first_row;
    const uint32_t first =
        (uint32_t)(find_bit(run->selected, base + cursor->row, base + run->n, true) - base);
    if (first >= cursor->block_end) {
        const uint32_t left = run->n - first;
        const uint32_t n = left < s->block_rows ? left : s->block_rows;
        const uint32_t count = count_bits(run->selected, base + first, base + first + n);
        cursor->block_end = first + n;
        if (2 * count >= n) {
            *out = (row_span){first, n, count < n};
            cursor->row = first + n;
            return n > 0;
        }
    }
    const size_t end =
        find_bit(run->selected, base + first, base + cursor->block_end, false) - base;
    *out = (row_span){first, (uint32_t)end - first, false};
    cursor->row = (uint32_t)end;
    return out->n > 0;
}

static void prefetch(const scan *s, const row_span *span) {
    const char *rows = (const char *)s->run->rows + (size_t)span->first * s->run->stride;
    const size_t bytes = (size_t)span->n * s->run->stride;
    for (size_t i = 0; i < bytes && i < PREFETCH_BYTES; i += 64) {
        __builtin_prefetch(rows + i, 0, 3);
        __asm__ volatile(""); /* GCC 12.1 to 12.4 drop repeated prefetches of an inlined loop */
    }
}

/* out[j * BLOCK_ROWS + i]: the distances of the span to m queries from query j0 on. */
static void compute(const scan *s, const row_span *span, uint32_t j0, uint32_t m, float *out) {
    const vex_row_run *run = s->run;
    const vex_kernels *kernels = s->kernels;
    const char *rows = (const char *)run->rows + (size_t)span->first * run->stride;
    const float *queries = s->queries + (size_t)j0 * s->dim;
    const bool dot = s->space == VEX_SPACE_IP || s->space == VEX_SPACE_COSINE;
    if (s->space == VEX_SPACE_L1 || m == 1) {
        const vex_row_kernel kernel = (dot                        ? kernels->dot
                                       : s->space == VEX_SPACE_L1 ? kernels->l1
                                                                  : kernels->l2)[run->element];
        for (uint32_t j = 0; j < m; j++) {
            kernel(rows, run->stride, span->n, queries + (size_t)j * s->dim, s->dim,
                   out + (size_t)j * BLOCK_ROWS);
        }
    } else {
        (dot ? kernels->dot_tile : kernels->l2_tile)[run->element](
            rows, run->stride, span->n, queries, s->dim, m, s->dim, out, BLOCK_ROWS);
    }
    if (!dot) {
        return;
    }
    for (uint32_t j = 0; j < m; j++) {
        float *d = out + (size_t)j * BLOCK_ROWS;
        for (uint32_t i = 0; i < span->n; i++) {
            float norm2 = 0;
            if (s->space == VEX_SPACE_COSINE) {
                memcpy(&norm2,
                       (const char *)run->norm2 + (size_t)(span->first + i) * run->norm2_stride,
                       sizeof norm2);
            }
            d[i] = vex_dot_to_distance(s->space, d[i], norm2,
                                       s->query_norm2 != NULL ? s->query_norm2[j0 + j] : 0);
        }
    }
}

static vex_status offer(const scan *s, const row_span *span, vex_topk *top,
                        const float *distances) {
    const vex_row_run *run = s->run;
    for (uint32_t i = 0; i < span->n; i++) {
        if (VEX_LIKELY(!vex_topk_wants(top, distances[i]))) {
            continue;
        }
        const uint32_t at = span->first + i;
        if (span->masked && !vex_bit_get(run->selected, (size_t)run->first_row + at)) {
            continue;
        }
        vex_hit hit = {.distance = distances[i], .source = run->source, .row = run->first_row + at};
        memcpy(&hit.seq, (const char *)run->seqs + (size_t)at * run->seq_stride, sizeof hit.seq);
        VEX_TRY(vex_topk_push(top, hit));
    }
    return VEX_OK;
}

static vex_status visit(scan *s, const row_span *span) {
    float distances[GROUP_QUERIES * BLOCK_ROWS];
    for (uint32_t j = 0; j < s->m; j += GROUP_QUERIES) {
        const uint32_t m = s->m - j < GROUP_QUERIES ? s->m - j : GROUP_QUERIES;
        compute(s, span, j, m, distances);
        s->distances += (uint64_t)span->n * m;
        for (uint32_t i = 0; i < m; i++) {
            VEX_TRY(offer(s, span, &s->top[j + i], distances + (size_t)i * BLOCK_ROWS));
        }
    }
    return VEX_OK;
}

static vex_status visit_all(scan *s) {
    row_span queue[SPANS_AHEAD];
    span_cursor cursor = {0, 0};
    uint32_t head = 0, tail = 0;
    bool more = true;
    for (;;) {
        while (more && tail - head < SPANS_AHEAD) {
            row_span *next = &queue[tail % SPANS_AHEAD];
            more = next_span(s, &cursor, next);
            if (more) {
                tail++;
                prefetch(s, next);
            }
        }
        if (head == tail) {
            return VEX_OK;
        }
        VEX_TRY(visit(s, &queue[head++ % SPANS_AHEAD]));
    }
}

vex_status vex_flat_scan(const vex_kernels *kernels, uint32_t space, const vex_row_run *run,
                         const float *queries, const float *query_norm2, uint32_t m, uint32_t dim,
                         vex_topk *top) {
    if (space > VEX_SPACE_L1) {
        return VEX_FAIL(VEX_ERR_INVALID, "exact search: unknown space %u", space);
    }
    if ((uint32_t)run->element >= VEX_ELEMENT_KINDS) {
        return VEX_FAIL(VEX_ERR_INVALID, "exact search: unknown element type %d",
                        (int)run->element);
    }
    if (space == VEX_SPACE_COSINE && (run->norm2 == NULL || query_norm2 == NULL)) {
        return VEX_FAIL(VEX_ERR_INVALID,
                        "exact search: cosine needs the norms of rows and queries");
    }
    const size_t fit = BLOCK_BYTES / (run->stride > 0 ? run->stride : 1);
    scan s = {.kernels = kernels,
              .run = run,
              .queries = queries,
              .query_norm2 = query_norm2,
              .top = top,
              .space = space,
              .m = m,
              .dim = dim};
    s.block_rows = fit < 4 ? 4 : fit > BLOCK_ROWS ? BLOCK_ROWS : (uint32_t)fit / 4 * 4;
    const vex_status status = visit_all(&s);
    vex_stat_add(VEX_STAT_DISTANCES, (int64_t)s.distances);
    return status;
}
