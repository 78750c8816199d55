/*
 * code_rows.c - see code_rows.h.
 */
#include "index/code_rows.h"

#include "base/bits.h"
#include "base/mem.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/poison.h"

/* ---- the section ---- */

#define SAMPLE_SEED 0x5eedc0deULL

typedef struct file_rows {
    const vex_vector_row *rows;
    uint32_t dimension;
} file_rows;

static void read_row(void *context, uint32_t i, float *x) {
    const file_rows *file = context;
    vex_vector_row_read(&file->rows[i], file->dimension, x);
}

/* Can binary16 tell all of them?  A sample cannot answer that. */
static vex_status fit_f16(const file_rows *file, uint32_t n, bool *fit) {
    float *x = vex_malloc(file->dimension * sizeof *x), largest = 0;
    if (x == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to choose the form of code rows");
    }
    for (uint32_t i = 0; i < n; i++) {
        vex_vector_row_read(&file->rows[i], file->dimension, x);
        for (uint32_t d = 0; d < file->dimension; d++) {
            largest = fabsf(x[d]) > largest ? fabsf(x[d]) : largest;
        }
    }
    vex_free(x);
    *fit = largest <= VEX_CODES_F16_MAX;
    return VEX_OK;
}

static vex_status choose_kind(file_rows *file, uint32_t n, uint32_t space, vex_code_range range,
                              vex_code_kind *out) {
    const uint32_t most = range.most == 0 || range.most > VEX_CODE_F32 ? VEX_CODE_F32 : range.most;
    uint32_t kind = range.least < VEX_CODE_LVQ8 ? VEX_CODE_LVQ8 : range.least;
    if (kind < most) {
        vex_codes_choice choice;
        VEX_TRY(vex_codes_choose(space, file->dimension, (vex_code_kind)kind, n, read_row, file,
                                 SAMPLE_SEED, &choice));
        kind = choice.kind;
    }
    kind = kind > most ? most : kind;
    if (kind == VEX_CODE_F16) {
        bool fit = false;
        VEX_TRY(fit_f16(file, n, &fit));
        kind = fit ? VEX_CODE_F16 : VEX_CODE_F32;
    }
    *out = (vex_code_kind)kind;
    return VEX_OK;
}

static vex_status choose(const vex_vector_row *rows, uint32_t n, uint32_t dimension, uint32_t space,
                         vex_code_range range, vex_code_form *out) {
    file_rows file = {rows, dimension};
    vex_code_kind kind;
    vex_codes codes;
    *out = (vex_code_form){0};
    if (space == VEX_SPACE_L1) {
        return VEX_OK;
    }
    VEX_TRY(choose_kind(&file, n, space, range, &kind));
    VEX_TRY(vex_codes_init(&codes, kind, space, dimension));
    *out = (vex_code_form){kind, codes.stride};
    return VEX_OK;
}

static void encode(const vex_code_form *form, uint32_t dimension, uint32_t space,
                   const vex_vector_row *row, void *out) {
    const vex_codes codes = {
        .kind = (vex_code_kind)form->tag, .space = space, .dim = dimension, .stride = form->stride};
    vex_codes_encode(&codes, row->vector, row->norm2, out);
}

static bool knows(const vex_code_form *form, uint32_t dimension) {
    vex_codes codes;
    return vex_codes_init(&codes, (vex_code_kind)form->tag, VEX_SPACE_L2, dimension) == VEX_OK &&
           codes.stride == form->stride;
}

const vex_code_plugin *vex_code_rows_plugin(void) {
    static const vex_code_plugin plugin = {choose, encode, knows};
    return &plugin;
}

/* ---- intervals ---- */

#define BLOCK_ROWS 64u    /* at most, ... */
#define BLOCK_BYTES 8192u /* and about so many bytes of rows, but 4 rows at least */
#define NORM_MAX 1e15     /* beyond, products of norms come near what float32 can hold */

/* What dist.h promises of every computed distance: |d - d64| <= RELATIVE d64 + ABSOLUTE s. */
#define RELATIVE 1e-5
#define ABSOLUTE 1e-6

typedef struct interval {
    float lower, upper;
} interval;

bool vex_near_possible(uint32_t space, const float *query, uint32_t dim) {
    double norm1 = 0;
    for (uint32_t i = 0; i < dim; i++) {
        norm1 += fabs((double)query[i]);
    }
    return space != VEX_SPACE_L1 && norm1 < NORM_MAX; /* false for NaN */
}

void vex_near_init(vex_near *near, uint32_t space, const float *query, uint32_t dim, uint32_t k) {
    *near = (vex_near){.k = k, .query = query, .dim = dim, .space = space};
    double sum[4] = {0}, norm1[4] = {0},
           norm2[4] = {0}; /* chains that do not wait for one another */
    for (uint32_t i = 0; i < dim; i++) {
        const double x = (double)query[i];
        sum[i % 4] += x;
        norm1[i % 4] += fabs(x);
        norm2[i % 4] += x * x;
    }
    near->sum = sum[0] + sum[1] + sum[2] + sum[3];
    near->norm1 = norm1[0] + norm1[1] + norm1[2] + norm1[3];
    near->norm2 = norm2[0] + norm2[1] + norm2[2] + norm2[3];
    near->norm = sqrt(near->norm2);
    near->root_dim = sqrt(dim);
}

void vex_near_again(vex_near *near, uint32_t space, const float *query, uint32_t dim, uint32_t k) {
    const vex_near used = *near;
    vex_near_init(near, space, query, dim, k);
    near->rows = used.rows;
    near->capacity = used.capacity;
    near->uppers = used.uppers;
    near->uppers_capacity = used.uppers_capacity;
}

void vex_near_clear(vex_near *near) {
    vex_free(near->rows);
    vex_free(near->uppers);
    near->rows = NULL;
    near->uppers = NULL;
}

/* How far x.q may be from what the codes say: each element of x is within half a step s of its
 * code (a little more, as encoding rounds); then the rounding of lo + 255 s in float32 and of
 * the kernel's sum, and products too small for float32. */
static double dot_error(const vex_near *near, const vex_code_tail *t) {
    const double s = (double)t->s, low = fabs((double)t->lo), high = fabs((double)t->lo + 255 * s);
    return 0.5005 * s * near->norm1 + 3e-7 * (low > high ? low : high) * near->norm1 +
           2 * ABSOLUTE * 255 * s * near->root_dim * near->norm + 2 * (double)FLT_MIN * near->dim;
}

/* The interval that the float32 distance of a row lies in; `sum` = codes . q. */
static interval interval_of(const vex_near *near, const vex_code_tail *t, float sum) {
    const double norm2 = (double)t->norm2, norm = sqrt(norm2);
    const double dot = (double)t->lo * near->sum + (double)t->s * (double)sum;
    double middle = 0, error = dot_error(near, t), scale = 0, inverse;
    if (!(norm < NORM_MAX)) {
        return (interval){-INFINITY, INFINITY};
    }
    switch (near->space) {
    case VEX_SPACE_L2:
        middle = norm2 + near->norm2 - 2 * dot;
        error *= 2;
        scale = norm2 + near->norm2;
        break;
    case VEX_SPACE_COSINE:
        if (t->norm2 == 0.0f || (float)near->norm2 == 0.0f) {
            return (interval){1, 1};
        }
        inverse = 1 / (norm * near->norm); /* division and roots take most of the time */
        middle = 1 - dot * inverse;
        error *= inverse;
        scale = 1;
        break;
    default:
        middle = 1 - dot;
        scale = 1 + norm * near->norm;
        break;
    }
    error += 2 * (RELATIVE * (fabs(middle) + error) + ABSOLUTE * scale);
    interval found = {(float)(middle - error), (float)(middle + error)};
    if (near->space == VEX_SPACE_COSINE) { /* which is clamped to [0, 2] */
        found.lower = found.lower < 2 ? found.lower : 2;
        found.upper = found.upper > 0 ? found.upper : 0;
    }
    return found;
}

/* ---- the k smallest upper ends ---- */

#define FIRST_ROWS 64u /* room for them at once */

static void sift_down(float *heap, uint32_t n, float value) {
    uint32_t at = 0;
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= n) {
            break;
        }
        child += child + 1 < n && heap[child + 1] > heap[child];
        if (heap[child] <= value) {
            break;
        }
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = value;
}

vex_status vex_near_add_upper(vex_near *near, float upper) {
    if (near->n_uppers == near->k) {
        sift_down(near->uppers, near->k, upper);
        return VEX_OK;
    }
    VEX_TRY(vex_grow((void **)&near->uppers, &near->uppers_capacity, (size_t)near->n_uppers + 1,
                     sizeof *near->uppers));
    uint32_t at = near->n_uppers++;
    for (; at > 0 && near->uppers[(at - 1) / 2] < upper; at = (at - 1) / 2) {
        near->uppers[at] = near->uppers[(at - 1) / 2];
    }
    near->uppers[at] = upper;
    return VEX_OK;
}

vex_status vex_near_grow(vex_near *near) {
    const size_t more = near->n + (near->n == 0 ? FIRST_ROWS : 1);
    return vex_grow((void **)&near->rows, &near->capacity, more, sizeof *near->rows);
}

/* ---- scanning ---- */

#define PART_ROWS 2048u   /* of which it is seen how many are selected: a multiple of 64 */
#define GATHERED_ROWS 16u /* fetched ahead where they are few */

static void prefetch(const uint8_t *bytes, size_t len) {
    for (size_t i = 0; i < len; i += 64) {
        __builtin_prefetch(bytes + i, 0, 3);
        __asm__ volatile(""); /* GCC 12.1 to 12.4 drop repeated prefetches of an inlined loop */
    }
}

static vex_status offer_code(vex_near *near, const uint8_t *row, uint32_t stride, float sum,
                             uint32_t source, uint32_t number) {
    vex_code_tail tail;
    memcpy(&tail, row + stride - VEX_CODE_TAIL_BYTES, sizeof tail);
    const interval found = interval_of(near, &tail, sum);
    return vex_near_offer(near, found.lower, found.upper, source, number);
}

/* Rows side by side, of which most are selected. */
static vex_status scan_blocks(vex_near *near, const vex_kernels *kernels, const uint8_t *codes,
                              uint32_t stride, uint32_t source, uint32_t first, uint32_t end,
                              const uint64_t *selected) {
    float sums[BLOCK_ROWS];
    const uint32_t fit = BLOCK_BYTES / stride;
    const uint32_t block = fit < 4 ? 4 : fit > BLOCK_ROWS ? BLOCK_ROWS : fit / 4 * 4;
    for (uint32_t row = first, next; row < end; row = next) {
        next = end - row > block ? row + block : end;
        const uint8_t *rows = codes + (size_t)row * stride;
        const uint32_t ahead = end - next > block ? block : end - next;
        prefetch(rows + (size_t)(next - row) * stride, (size_t)ahead * stride);
        kernels->dot[VEX_U8](rows, stride, next - row, near->query, near->dim, sums);
        for (uint32_t i = 0; i < next - row; i++) {
            if (selected == NULL || vex_bit_get(selected, row + i)) {
                VEX_TRY(
                    offer_code(near, rows + (size_t)i * stride, stride, sums[i], source, row + i));
            }
        }
    }
    return VEX_OK;
}

/* The next rows that are selected, on their way to the cache. */
static uint32_t find_some(const uint8_t *codes, uint32_t stride, uint32_t *row, uint32_t end,
                          const uint64_t *selected, uint32_t *found) {
    uint32_t n = 0;
    for (uint32_t at = *row; at < end && n < GATHERED_ROWS; *row = at) {
        const uint64_t word = selected[at / 64] >> (at % 64);
        at = word == 0 ? (at | 63) + 1 : at + (uint32_t)__builtin_ctzll(word);
        if (word != 0 && at < end) {
            prefetch(codes + (size_t)at * stride, stride);
            found[n++] = at++;
        }
    }
    return n;
}

/* Rows here and there: while some are computed the next ones are fetched. */
static vex_status scan_scattered(vex_near *near, const vex_kernels *kernels, const uint8_t *codes,
                                 uint32_t stride, uint32_t source, uint32_t first, uint32_t end,
                                 const uint64_t *selected) {
    uint32_t numbers[2][GATHERED_ROWS], row = first, turn = 0;
    uint32_t n = find_some(codes, stride, &row, end, selected, numbers[0]);
    while (n > 0) {
        const uint32_t *now = numbers[turn];
        turn ^= 1;
        const uint32_t next = find_some(codes, stride, &row, end, selected, numbers[turn]);
        for (uint32_t i = 0; i < n; i++) {
            const uint8_t *code = codes + (size_t)now[i] * stride;
            float sum;
            kernels->dot[VEX_U8](code, stride, 1, near->query, near->dim, &sum);
            VEX_TRY(offer_code(near, code, stride, sum, source, now[i]));
        }
        n = next;
    }
    return VEX_OK;
}

vex_status vex_near_scan(vex_near *near, const vex_kernels *kernels, const uint8_t *codes,
                         uint32_t stride, uint32_t source, uint32_t first, uint32_t end,
                         const uint64_t *selected) {
    uint64_t distances = 0;
    for (uint32_t row = first, next; row < end; row = next) {
        next = selected == NULL || end - row < PART_ROWS ? end : row - row % 64 + PART_ROWS;
        uint32_t rows = next - row;
        for (uint32_t word = row / 64; selected != NULL && word < (next + 63) / 64; word++) {
            rows = word == row / 64 ? 0 : rows;
            rows += (uint32_t)__builtin_popcountll(selected[word]);
        }
        const bool scattered = rows < (next - row) / 2;
        if (rows > 0) {
            VEX_TRY((scattered ? scan_scattered : scan_blocks)(near, kernels, codes, stride, source,
                                                               row, next, selected));
        }
        distances += scattered ? rows : next - row;
    }
    vex_stat_add(VEX_STAT_DISTANCES, (int64_t)distances);
    return VEX_OK;
}

#define FEW_ROWS 64u /* sorted by insertion */

static int by_lower(const void *a, const void *b) {
    const float x = ((const vex_near_row *)a)->lower, y = ((const vex_near_row *)b)->lower;
    return x < y ? -1 : x > y;
}

void vex_near_sort(vex_near *near) {
    const float limit = vex_near_limit(near);
    size_t kept = 0;
    for (size_t i = 0; i < near->n; i++) {
        if (near->rows[i].lower <= limit) {
            near->rows[kept++] = near->rows[i];
        }
    }
    near->n = kept;
    if (kept > FEW_ROWS) {
        qsort(near->rows, kept, sizeof *near->rows, by_lower);
        return;
    }
    for (size_t i = 1; i < kept; i++) {
        const vex_near_row row = near->rows[i];
        size_t at = i;
        for (; at > 0 && near->rows[at - 1].lower > row.lower; at--) {
            near->rows[at] = near->rows[at - 1];
        }
        near->rows[at] = row;
    }
}
