/*
 * lvq_short.c - short rows: making them, and the plain kernel (lvq.h).
 */
#include "base/mem.h"
#include "index/lvq.h"
#include "index/lvq_kernels.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/poison.h"

#define LINE 64u /* bytes of a row that have the codes of two lines of the query */
#define PARTS 16u

typedef struct short_tail {
    float s, lo, s_sum, more;
} short_tail;

void vex_codes_shorten(const vex_codes *codes, const void *row, void *out) {
    const uint8_t *from = row;
    uint8_t *to = out;
    vex_code_tail tail = vex_codes_tail(codes, row);
    uint32_t low = 255, high = 0, sum = 0;
    for (uint32_t i = 0; i < codes->dim; i++) {
        low = from[i] < low ? from[i] : low;
        high = from[i] > high ? from[i] : high;
    }
    const uint32_t range = high - low + 1, width = range > PARTS ? range : PARTS;
    const uint32_t share = ((PARTS << 16) + width - 1) / width; /* code * share < 16 << 16 */
    memset(to, 0, codes->short_stride);
    for (uint32_t first = 0; first < codes->dim; first += LINE) {
        const uint32_t left = codes->dim - first, n = left < LINE ? left : LINE;
        const uint32_t shift = first / LINE % 2 * 4;
        uint8_t *line = to + first / (2 * LINE) * LINE;
        for (uint32_t i = 0; i < n; i++) {
            const uint32_t code = (from[first + i] - low) * share >> 16;
            line[i] |= (uint8_t)(code << shift);
            sum += code;
        }
    }
    const double norm = sqrt((double)tail.norm2);
    const double scale = codes->space != VEX_SPACE_COSINE ? 1 : norm > 0 ? 1 / norm : 0;
    const double s = (double)tail.s * width / PARTS * scale;
    const double middle = (double)low + (double)width / (2 * PARTS) - 0.5;
    const short_tail own = {.s = (float)s,
                            .lo = (float)(((double)tail.lo + (double)tail.s * middle) * scale),
                            .s_sum = (float)(s * sum),
                            .more = codes->space == VEX_SPACE_L2 ? tail.norm2 : 0};
    memcpy(to + codes->short_stride - VEX_CODE_TAIL_BYTES, &own, sizeof own);
}

short_terms vex_short_terms(const vex_code_query *query) {
    const uint32_t space = query->codes->space;
    const double weight = space == VEX_SPACE_L2       ? 2
                          : space == VEX_SPACE_COSINE ? query->inverse_norm
                                                      : 1;
    return (short_terms){.all = space == VEX_SPACE_L2 ? query->norm2 : 1,
                         .a = (float)(weight * query->a),
                         .b = (float)(weight * query->b),
                         .c = (float)(weight * query->c)};
}

void vex_short_finish(const vex_code_query *query, const uint8_t *const *rows, uint32_t n,
                      const int32_t *restrict sums, float *restrict out) {
    const short_terms terms = vex_short_terms(query);
    for (uint32_t i = 0; i < n; i++) {
        short_tail t;
        memcpy(&t, rows[i] + query->codes->short_stride - VEX_CODE_TAIL_BYTES, sizeof t);
        const float dot = t.lo * terms.a + (t.s_sum * terms.b + t.s * ((float)sums[i] * terms.c));
        const float d = t.more + terms.all - dot;
        const float bounded = d < FLT_MAX ? d : FLT_MAX; /* NaN too */
        out[i] = bounded > -FLT_MAX ? bounded : -FLT_MAX;
    }
}

void vex_short_sums_scalar(const int8_t *query, const uint8_t *const *rows, uint32_t n,
                           size_t bytes, int32_t *out) {
    for (uint32_t i = 0; i < n; i++) {
        int32_t sum = 0;
        for (size_t k = 0; k < bytes; k++) {
            const int8_t *q = query + k / LINE * 2 * LINE + k % LINE;
            sum += (rows[i][k] & 15) * q[0] + (rows[i][k] >> 4) * q[LINE];
        }
        out[i] = sum;
    }
}

/* ---- do they serve? ---- */

#define SAMPLE_ROWS 4096u
#define SAMPLE_QUERIES 64u
#define NEAR 10u
#define FAR 50u
#define ERROR_MOST                                                                                 \
    0.1 /* measured: 0.07 for embeddings of text, 0.16 and more for SIFT and images */

typedef struct sample {
    uint32_t n;
    const uint8_t **rows, **shorts;
    float *by_rows, *by_shorts; /* distances of one query */
} sample;

/* What the FAR nearest are off by, to *error; from the NEAR-th to the FAR-th of them, to *between. */
static void compare(const sample *s, double *error, double *between) {
    float nearest[FAR];
    double squares = 0;
    uint32_t held = 0, n = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        if (held == FAR && !(s->by_rows[i] < nearest[FAR - 1])) {
            continue;
        }
        uint32_t at = held < FAR ? held++ : FAR - 1;
        for (; at > 0 && nearest[at - 1] > s->by_rows[i]; at--) {
            nearest[at] = nearest[at - 1];
        }
        nearest[at] = s->by_rows[i];
    }
    for (uint32_t i = 0; i < s->n; i++) {
        if (s->by_rows[i] <= nearest[FAR - 1]) {
            const double off = (double)s->by_shorts[i] - (double)s->by_rows[i];
            squares += off * off;
            n++;
        }
    }
    *error += sqrt(squares / n);
    *between += (double)nearest[FAR - 1] - (double)nearest[NEAR - 1];
}

static vex_status compare_all(const vex_codes *codes, const sample *s, bool *serves) {
    vex_code_query query;
    double error = 0, between = 0;
    VEX_TRY(vex_code_query_create(&query, codes));
    for (uint32_t q = 0; q < SAMPLE_QUERIES; q++) {
        const uint32_t own = (uint32_t)((uint64_t)q * s->n / SAMPLE_QUERIES);
        vex_code_query_row(&query, s->rows[own], 0);
        vex_code_distances(&query, s->rows, s->n, s->by_rows);
        vex_short_distances(&query, s->shorts, s->n, s->by_shorts);
        s->by_rows[own] = s->by_shorts[own] = FLT_MAX;
        compare(s, &error, &between);
    }
    vex_code_query_destroy(&query);
    *serves = error <= ERROR_MOST * between;
    return VEX_OK;
}

vex_status vex_short_serves(const vex_codes *codes, const void *rows, uint32_t n, bool *serves) {
    sample s = {.n = n < SAMPLE_ROWS ? n : SAMPLE_ROWS};
    vex_bulk memory;
    *serves = false;
    if (n < VEX_SHORT_LEAST || codes->short_stride == 0) {
        return VEX_OK;
    }
    VEX_TRY(vex_bulk_create(
        &memory, s.n * (codes->short_stride + 2 * sizeof *s.rows + 2 * sizeof *s.by_rows)));
    uint8_t *shorts = memory.data;
    s.rows = (void *)(shorts + (size_t)s.n * codes->short_stride);
    s.shorts = s.rows + s.n;
    s.by_rows = (void *)(s.shorts + s.n);
    s.by_shorts = s.by_rows + s.n;
    for (uint32_t i = 0; i < s.n; i++) {
        s.rows[i] = (const uint8_t *)rows + (size_t)((uint64_t)i * n / s.n) * codes->stride;
        s.shorts[i] = shorts + (size_t)i * codes->short_stride;
        vex_codes_shorten(codes, s.rows[i], shorts + (size_t)i * codes->short_stride);
    }
    const vex_status status = compare_all(codes, &s, serves);
    vex_bulk_destroy(&memory);
    return status;
}
