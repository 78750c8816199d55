/*
 * near_batch.c - see near_batch.h.
 *
 * THE INTERVAL  A row is x ~ low + s c, |x_k - (low + s c_k)| <= s/2 (a little more, as encoding
 * rounds).  A query is q = middle + t b + e with bytes b and a known rest e.  So
 *
 *   x.q = low sum(q) + s (c.q) + r1                |r1| <= s/2 |q|_1
 *   c.q = t (c.b) + (middle + sum(e)/d) sum(c) + r2
 *                                                  s |r2| <= |low + s c|_2 |e|_2
 *
 * (r2 = (c - mean of c).e; the length of low + s c is at most |x|_2 + s/2 sqrt(d)).  Distances are
 * base + |x|^2 - f x.q: f = 2 and base = |q|^2 for l2, else f = 1, base = 1, and no |x|^2; for
 * cosine all of a row is divided by its norm, all of a query by its.  With f in the factors of the
 * query, the lower end is the sum of six products of a factor of the row and one of the query:
 *
 *   s (step c.b + row_error) + low low + sum middle + norm2 + length own_error + most rounding
 *
 * + base, where the last product is for rounding to float32: `most` is the largest element, times
 * all that the other factors of the query may add up to.  This sum is compared with `limit`, the
 * k-th smallest upper end less the base, relaxed by what dist.h allows computed distances.
 */
#include "index/near_batch.h"

#include "base/bits.h"
#include "base/cpu.h"
#include "base/mem.h"
#include "index/near_tile.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/poison.h"

#define ROUNDING 1e-6    /* of float32 sums of so few terms, of the sum of their magnitudes */
#define MORE 1.0001      /* errors have errors */
#define NORM2_MIN 1e-30f /* below and above, */
#define NORM2_MAX 1e30f  /* float32 is no help: such rows are always read */

#define SEED_ROWS 256u /* looked at first, */
#define SEED_K_MAX 32u /* where k is not more */

/* ---- levels ---- */

uint32_t vex_near_levels(vex_near_level out[4]) {
    uint32_t n = 0;
#if defined(__x86_64__)
    if (vex_cpu()->avx512_vnni) {
        out[n++] = (vex_near_level){"vnni", vex_near_dots_vnni, vex_near_test_vnni,
                                    vex_near_seed_vnni, vex_near_encode_vnni};
    }
    if (vex_cpu()->avx2_fma) {
        out[n++] = (vex_near_level){"avx2", vex_near_dots_avx2, vex_near_test_avx2,
                                    vex_near_seed_avx2, NULL};
    }
#elif defined(__aarch64__)
    if (vex_cpu()->arm_dotprod) {
        out[n++] = (vex_near_level){"dotprod", vex_near_dots_dotprod, vex_near_test_scalar,
                                    vex_near_seed_scalar, NULL};
    }
#endif
    out[n++] = (vex_near_level){"scalar", vex_near_dots_scalar, vex_near_test_scalar,
                                vex_near_seed_scalar, NULL};
    return n;
}

/* As the kernels of code rows, of which VEXFS_SIMD decides. */
static vex_near_level level_in_use(void) {
    vex_near_level levels[4];
    const uint32_t n = vex_near_levels(levels);
    const char *name = vex_lvq_level_name();
    for (uint32_t i = 0; i < n; i++) {
        if (strcmp(levels[i].name, name) == 0) {
            return levels[i];
        }
    }
    return levels[n - 1];
}

void vex_near_dots_scalar(const uint8_t *rows, size_t stride, uint32_t n, const int8_t *packed,
                          uint32_t quads, uint32_t panels, int32_t *dots) {
    const uint32_t lanes = panels * VEX_NEAR_LANES;
    for (uint32_t r = 0; r < n; r++) {
        const uint8_t *row = rows + r * stride;
        for (uint32_t lane = 0; lane < lanes; lane++) {
            const int8_t *query = packed + (size_t)(lane / VEX_NEAR_LANES) * quads * 64 +
                                  (size_t)(lane % VEX_NEAR_LANES) * 4;
            int32_t sum = 0;
            for (size_t i = 0; i < (size_t)quads * 4; i++) {
                sum += row[i] * query[i / 4 * 64 + i % 4];
            }
            dots[(size_t)r * lanes + lane] = sum;
        }
    }
}

void vex_near_test_scalar(const vex_near_block *block, const vex_near_panel *panel,
                          const int32_t *dots, uint32_t lanes, uint16_t *passed) {
    for (uint32_t r = 0; r < block->n; r++) {
        uint32_t bits = 0;
        for (uint32_t lane = 0; lane < VEX_NEAR_LANES; lane++) {
            const float lower = near_lower(block, r, panel, lane, dots[(size_t)r * lanes + lane]);
            bits |= (uint32_t)!(lower > panel->limit[lane]) << lane;
        }
        passed[r] = (uint16_t)bits;
    }
}

void vex_near_seed_scalar(const vex_near_block *block, const vex_near_panel *panel,
                          const int32_t *dots, uint32_t lanes, uint32_t k, float *kept) {
    near_seed(block, panel, dots, lanes, k, kept);
}

/* ---- queries ---- */

/* The bytes of a query, to their places in its panel, and the sum and |e|^2 of what they leave. */
static void pack(const float *query, uint32_t dim, double middle, double t, int8_t *to,
                 double *rest, double *rest2) {
    const double inverse = t > 0 ? 1 / t : 0;
    double sums[4] = {0}, squares[4] = {0}; /* chains that do not wait for one another */
    for (uint32_t k = 0; k < dim; k++) {
        const double x = (double)query[k] - middle;
        double byte = x * inverse + 128.5;
        byte = byte > 0 ? byte < 255.5 ? byte : 255.5 : 0;
        const int32_t whole = (int32_t)byte - 128;
        to[k / 4 * 64 + k % 4] = (int8_t)whole;
        const double e = x - t * whole;
        sums[k % 4] += e;
        squares[k % 4] += e * e;
    }
    *rest = sums[0] + sums[1] + sums[2] + sums[3];
    *rest2 = squares[0] + squares[1] + squares[2] + squares[3];
}

/* Row_error, own_error and rounding are subtracted, so they are negative. */
static void set_lane(vex_near_batch *batch, uint32_t q) {
    const vex_near *near = &batch->near[q];
    vex_near_panel *p = &batch->panel[q / VEX_NEAR_LANES];
    const uint32_t lane = q % VEX_NEAR_LANES, dim = batch->dim;
    int8_t *to = (int8_t *)batch->packed.data + (size_t)(q / VEX_NEAR_LANES) * batch->quads * 64 +
                 (size_t)lane * 4;
    double least = (double)near->query[0], largest = least, rest, rest2;
    for (uint32_t k = 1; k < dim; k++) {
        const double x = (double)near->query[k];
        least = x < least ? x : least;
        largest = x > largest ? x : largest;
    }
    const double t = (largest - least) / 255;
    double middle = least + 128 * t, f = batch->space == VEX_SPACE_L2 ? 2 : 1, base = 1, slack;
    pack(near->query, dim, middle, t, to, &rest, &rest2);
    middle += rest / dim;
    const double own = sqrt(rest2), norm = sqrt((double)(float)near->norm2);
    const double all = dim * (fabs(middle) + 128 * t) + 2 * near->norm1;
    double products = 2 * (double)FLT_MIN * dim; /* those too small for float32 */
    if (batch->space == VEX_SPACE_COSINE) {
        f = norm > 0 ? 1 / norm : 0;
        products /= sqrt((double)NORM2_MIN);
    }
    slack = products * (f + 1) + NEAR_ABSOLUTE;
    if (batch->space == VEX_SPACE_L2) {
        base = near->norm2;
        slack += NEAR_ABSOLUTE * base;
    }
    p->step[lane] = (float)(-f * t);
    p->low[lane] = (float)(-f * near->sum);
    p->middle[lane] = (float)(-f * middle);
    p->row_error[lane] = (float)(-f * MORE * 0.5005 * near->norm1);
    p->own_error[lane] =
        (float)(-f * MORE * own - (batch->space == VEX_SPACE_IP ? NEAR_ABSOLUTE * norm : 0));
    p->rounding[lane] = (float)(-f * MORE * (ROUNDING * all + 3e-7 * near->norm1));
    p->base[lane] = (float)base;
    p->slack[lane] = (float)(slack * MORE);
    p->limit[lane] = INFINITY;
}

/* A limit that all beyond it are farther than the k-th nearest, whatever was rounded. */
static void set_limit(vex_near_panel *panel, uint32_t lane, uint32_t space, float limit) {
    if (space == VEX_SPACE_COSINE && limit >= 2) { /* what is farther was clamped to it */
        return;
    }
    const double less = (double)limit + NEAR_RELATIVE * fabs((double)limit) -
                        (double)panel->base[lane] + (double)panel->slack[lane];
    panel->limit[lane] = (float)less < panel->limit[lane] ? (float)less : panel->limit[lane];
}

static vex_status no_memory(uint32_t n) {
    return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for %u queries", (unsigned)n);
}

vex_status vex_near_batch_init(vex_near_batch *batch, vex_near *near, uint32_t n, uint32_t stride) {
    *batch = (vex_near_batch){.near = near,
                              .n = n,
                              .dim = near[0].dim,
                              .space = near[0].space,
                              .panels = (n + VEX_NEAR_LANES - 1) / VEX_NEAR_LANES,
                              .quads = (near[0].dim + 3) / 4,
                              .level = level_in_use(),
                              .stride = stride};
    VEX_TRY(vex_bulk_create(&batch->packed, (size_t)batch->panels * batch->quads * 64));
    memset(batch->packed.data, 0, (size_t)batch->panels * batch->quads * 64);
    batch->panel = vex_calloc(batch->panels, sizeof *batch->panel);
    batch->block = vex_calloc(1, sizeof *batch->block);
    batch->gathered = vex_malloc((size_t)VEX_NEAR_ROWS * stride);
    if (batch->panel == NULL || batch->block == NULL || batch->gathered == NULL) {
        return no_memory(n);
    }
    for (uint32_t q = 0; q < n; q++) {
        set_lane(batch, q);
    }
    for (uint32_t q = n; q < batch->panels * VEX_NEAR_LANES; q++) { /* lanes of nobody */
        batch->panel[q / VEX_NEAR_LANES].limit[q % VEX_NEAR_LANES] = -INFINITY;
    }
    return VEX_OK;
}

void vex_near_batch_clear(vex_near_batch *batch) {
    vex_bulk_destroy(&batch->packed);
    vex_free(batch->panel);
    vex_free(batch->block);
    vex_free(batch->gathered);
    *batch = (vex_near_batch){0};
}

/* ---- rows ---- */

static void set_rows(vex_near_batch *batch, const uint8_t *rows, uint32_t n) {
    vex_near_block *b = batch->block;
    vex_code_tail tails[VEX_NEAR_ROWS];
    const float root = sqrtf((float)batch->dim) * 0.51f;
    const bool l2 = batch->space == VEX_SPACE_L2, cosine = batch->space == VEX_SPACE_COSINE;
    b->n = n;
    for (uint32_t r = 0; r < n; r++) {
        memcpy(&tails[r], rows + (size_t)(r + 1) * batch->stride - VEX_CODE_TAIL_BYTES,
               sizeof tails[r]);
    }
    for (uint32_t r = 0; r < n; r++) {
        const float norm2 = tails[r].norm2, norm = sqrtf(norm2), s = tails[r].s, low = tails[r].lo;
        /* All factors of a row of zeros are 0 for cosine, as its distance is exactly 1. */
        const float by = !cosine ? 1 : norm2 > 0 ? 1 / norm : 0;
        const bool fine =
            (norm2 >= NORM2_MIN || (!cosine && norm2 >= 0) || norm2 == 0) && norm2 <= NORM2_MAX;
        b->norm2[r] = !fine ? NAN : l2 ? norm2 * (float)(1 - NEAR_ABSOLUTE) : 0;
        b->s[r] = s * by;
        b->low[r] = low * by;
        b->sum[r] = s * by * (float)tails[r].sum;
        b->length[r] = (norm + s * root) * by;
        b->most[r] = (fabsf(low) + 255 * s) * by;
    }
}

/* The rows of the next block: up to VEX_NEAR_ROWS selected ones from *row on, in `numbers`.  They
 * are used where they lie when they lie side by side. */
static const uint8_t *next_block(vex_near_batch *batch, const uint8_t *codes, uint32_t base,
                                 uint32_t *row, uint32_t end, const uint64_t *selected,
                                 uint32_t *numbers, uint32_t *n) {
    const uint32_t stride = batch->stride;
    uint32_t found = 0, at = *row;
    for (; at < end && found < VEX_NEAR_ROWS; at++) {
        if (selected != NULL && selected[at / 64] >> (at % 64) == 0) {
            at |= 63;
        } else if (selected == NULL || vex_bit_get(selected, at)) {
            numbers[found++] = at;
        }
    }
    *row = at < end ? at : end;
    *n = found;
    if (found == 0 || numbers[found - 1] - numbers[0] == found - 1) {
        const uint8_t *rows = codes + (found ? (size_t)(numbers[0] - base) * stride : 0);
        const size_t left = (size_t)(end - *row) * stride, bytes = (size_t)found * stride;
        for (size_t i = 0; i < bytes && i < left; i += 64) {
            __builtin_prefetch(rows + bytes + i, 0, 2);
            __asm__ volatile(""); /* GCC 12.1 to 12.4 drop repeated prefetches */
        }
        return rows;
    }
    for (uint32_t i = 0; i < found; i++) {
        memcpy(batch->gathered + (size_t)i * stride, codes + (size_t)(numbers[i] - base) * stride,
               stride);
    }
    return batch->gathered;
}

/* Lanes of row r that passed: their intervals, with all that is allowed for rounding. */
static vex_status offer_row(vex_near_batch *batch, uint32_t number, uint32_t r, const int32_t *dots,
                            uint32_t passed, uint32_t source, uint32_t row) {
    vex_near_panel *p = &batch->panel[number];
    const vex_near_block *b = batch->block;
    for (; passed != 0; passed &= passed - 1) {
        const uint32_t lane = (uint32_t)__builtin_ctz(passed);
        const float error = near_error(b, r, p, lane);
        const float middle = near_lower(b, r, p, lane, dots[lane]) + error + p->base[lane];
        const float reach = near_reach(b, r, p, lane, middle, error);
        float from = middle - reach, to = middle + reach;
        if (!(fabsf(from) <= FLT_MAX) || !(fabsf(to) <= FLT_MAX)) {
            from = -INFINITY;
            to = INFINITY;
        }
        if (batch->space == VEX_SPACE_COSINE) { /* which is clamped to [0, 2] */
            from = from < 2 ? from : 2;
            to = to > 0 ? to : 0;
        }
        vex_near *near = &batch->near[number * VEX_NEAR_LANES + lane];
        const float before = vex_near_limit(near);
        VEX_TRY(vex_near_offer(near, from, to, source, row));
        if (vex_near_limit(near) < before) {
            set_limit(p, lane, batch->space, vex_near_limit(near));
        }
    }
    return VEX_OK;
}

static vex_status visit_block(vex_near_batch *batch, const uint8_t *rows, uint32_t source,
                              const uint32_t *numbers) {
    vex_near_block *b = batch->block;
    uint16_t passed[VEX_NEAR_ROWS];
    for (uint32_t panel = 0; panel < batch->panels; panel += 2) {
        const uint32_t panels = batch->panels - panel > 1 ? 2 : 1, lanes = panels * VEX_NEAR_LANES;
        batch->level.dots(rows, batch->stride, b->n,
                          (const int8_t *)batch->packed.data + (size_t)panel * batch->quads * 64,
                          batch->quads, panels, b->dots);
        for (uint32_t i = 0; i < panels; i++) {
            const int32_t *dots = b->dots + (size_t)i * VEX_NEAR_LANES;
            const uint32_t queries = batch->n - (panel + i) * VEX_NEAR_LANES;
            const uint32_t used = queries < VEX_NEAR_LANES ? (1u << queries) - 1 : 0xFFFF;
            batch->level.test(b, &batch->panel[panel + i], dots, lanes, passed);
            for (uint32_t r = 0; r < b->n; r++) {
                if (VEX_UNLIKELY((passed[r] & used) != 0)) {
                    VEX_TRY(offer_row(batch, panel + i, r, dots + (size_t)r * lanes,
                                      passed[r] & used, source, numbers[r]));
                }
            }
        }
    }
    return VEX_OK;
}

/* A first look at some rows, all lanes alike, for limits that let few pass from the first row on. */
static void seed(vex_near_batch *batch, const uint8_t *codes, uint32_t base, uint32_t first,
                 uint32_t end, const uint64_t *selected) {
    float kept[SEED_K_MAX * VEX_NEAR_LANES];
    vex_near_block *b = batch->block;
    const uint32_t k = batch->near[0].k;
    batch->seeded = true;
    for (uint32_t panel = 0; panel < batch->panels && k <= SEED_K_MAX; panel++) {
        vex_near_panel *p = &batch->panel[panel];
        uint32_t numbers[VEX_NEAR_ROWS], n = 0, seen = 0;
        for (uint32_t i = 0; i < k * VEX_NEAR_LANES; i++) {
            kept[i] = INFINITY;
        }
        for (uint32_t row = first; row < end && seen < SEED_ROWS; seen += n) {
            const uint8_t *rows = next_block(batch, codes, base, &row, end, selected, numbers, &n);
            set_rows(batch, rows, n);
            batch->level.dots(rows, batch->stride, n,
                              (const int8_t *)batch->packed.data +
                                  (size_t)panel * batch->quads * 64,
                              batch->quads, 1, b->dots);
            batch->level.seed(b, p, b->dots, VEX_NEAR_LANES, k, kept);
        }
        for (uint32_t lane = 0; lane < VEX_NEAR_LANES; lane++) {
            set_limit(p, lane, batch->space, kept[(k - 1) * VEX_NEAR_LANES + lane]);
        }
    }
}

vex_status vex_near_batch_scan(vex_near_batch *batch, const uint8_t *codes, uint32_t base,
                               uint32_t source, uint32_t first, uint32_t end,
                               const uint64_t *selected) {
    uint32_t numbers[VEX_NEAR_ROWS], n = 0;
    uint64_t rows_read = 0;
    vex_status status = VEX_OK;
    if (!batch->seeded && end - first >= SEED_ROWS) {
        seed(batch, codes, base, first, end, selected);
    }
    for (uint32_t row = first; row < end && status == VEX_OK;) {
        const uint8_t *rows = next_block(batch, codes, base, &row, end, selected, numbers, &n);
        if (n > 0) {
            set_rows(batch, rows, n);
            status = visit_block(batch, rows, source, numbers);
            rows_read += n;
        }
    }
    vex_stat_add(VEX_STAT_DISTANCES, (int64_t)(rows_read * batch->n));
    return status;
}
