/*
 * lvq.c - code rows: encoding them, and distances between them (lvq.h).
 */
#include "index/lvq.h"

#include "base/bytes.h"
#include "base/cpu.h"
#include "base/mem.h"
#include "codec/narrow.h"
#include "index/lvq_finish.h"
#include "index/lvq_kernels.h"
#include "store/format.h"

#include <float.h>
#include <math.h>

#include "base/poison.h"

/* ---- levels ---- */

static vex_lvq_level in_use;
static pthread_once_t chosen = PTHREAD_ONCE_INIT;

uint32_t vex_lvq_levels(vex_lvq_level out[4]) {
    uint32_t n = 0;
#if defined(__x86_64__)
    if (vex_cpu()->avx512_vnni) {
        out[n++] = (vex_lvq_level){"vnni", vex_lvq_sums_vnni, vex_short_sums_vnni,
                                   vex_lvq_finish_avx512, vex_short_finish_x86};
    }
    if (vex_cpu()->avx2_fma) {
        out[n++] = (vex_lvq_level){"avx2", vex_lvq_sums_avx2, vex_short_sums_avx2,
                                   vex_lvq_finish_avx2, vex_short_finish_x86};
    }
#elif defined(__aarch64__)
    if (vex_cpu()->arm_dotprod) {
        out[n++] = (vex_lvq_level){"dotprod", vex_lvq_sums_dotprod, vex_short_sums_dotprod,
                                   vex_lvq_finish, vex_short_finish};
    }
    if (vex_cpu()->neon) {
        out[n++] = (vex_lvq_level){"neon", vex_lvq_sums_neon, vex_short_sums_neon, vex_lvq_finish,
                                   vex_short_finish};
    }
#endif
    out[n++] = (vex_lvq_level){"scalar", vex_lvq_sums_scalar, vex_short_sums_scalar, vex_lvq_finish,
                               vex_short_finish};
    return n;
}

/* The level of the float kernels, which VEXFS_SIMD decides, limits this one. */
static void choose(void) {
    const char *level = vex_kernels_get()->name;
    vex_lvq_level levels[4];
    const uint32_t n = vex_lvq_levels(levels);
    const bool plain_avx2 = strcmp(level, "avx2") == 0;
    in_use = levels[n - 1];
    for (uint32_t i = 0; i < n && strcmp(level, "scalar") != 0; i++) {
        if (!plain_avx2 || strcmp(levels[i].name, "vnni") != 0) {
            in_use = levels[i];
            return;
        }
    }
}

const char *vex_lvq_level_name(void) {
    pthread_once(&chosen, choose);
    return in_use.name;
}

void vex_lvq_sums_scalar(const int8_t *query, const uint8_t *const *rows, uint32_t n, size_t bytes,
                         int32_t *out) {
    for (uint32_t i = 0; i < n; i++) {
        int32_t sum = 0;
        for (size_t k = 0; k < bytes; k++) {
            sum += rows[i][k] * query[k];
        }
        out[i] = sum;
    }
}

void vex_lvq_finish(const vex_code_query *query, const vex_lvq_group *group, uint32_t n,
                    float *out) {
    lvq_finish(query, group, n, out);
}

/* ---- rows ---- */

/* Lines of 128 codes; the last has none in the place of the tail. */
static uint32_t short_stride(uint32_t dim) {
    return (dim + 128 - (64 - VEX_CODE_TAIL_BYTES) + 127) / 128 * 64;
}

vex_status vex_codes_init(vex_codes *codes, vex_code_kind kind, uint32_t space, uint32_t dim) {
    if (kind < VEX_CODE_LVQ8 || kind > VEX_CODE_F32) {
        return VEX_FAIL(VEX_ERR_INVALID, "code rows: unknown kind %d", (int)kind);
    }
    if (space != VEX_SPACE_L2 && space != VEX_SPACE_IP && space != VEX_SPACE_COSINE) {
        return VEX_FAIL(VEX_ERR_INVALID, "code rows: space %u has none", space);
    }
    if (dim == 0 || dim > VEX_DIMENSION_MAX) {
        return VEX_FAIL(VEX_ERR_INVALID, "code rows: dimension %u is not in 1..%u", dim,
                        VEX_DIMENSION_MAX);
    }
    const uint32_t bytes = kind == VEX_CODE_LVQ8 ? 1 : kind == VEX_CODE_F16 ? 2 : 4;
    *codes = (vex_codes){.kind = kind,
                         .space = space,
                         .dim = dim,
                         .stride = (uint32_t)vex_align_up(dim * bytes + VEX_CODE_TAIL_BYTES, 64),
                         .short_stride = kind == VEX_CODE_LVQ8 ? short_stride(dim) : 0};
    return VEX_OK;
}

const char *vex_code_kind_name(vex_code_kind kind) {
    return kind == VEX_CODE_LVQ8 ? "lvq8" : kind == VEX_CODE_F16 ? "f16" : "f32";
}

vex_code_tail vex_codes_tail(const vex_codes *codes, const void *row) {
    vex_code_tail tail;
    memcpy(&tail, (const uint8_t *)row + codes->stride - VEX_CODE_TAIL_BYTES, sizeof tail);
    return tail;
}

/* Integers 0..255 only: their codes are the values. */
static bool encode_integers(const float *x, uint32_t dim, uint8_t *out, vex_code_tail *tail) {
    uint32_t sum = 0;
    bool same = true;
    for (uint32_t i = 0; i < dim; i++) {
        float value = x[i] > 0 ? x[i] : 0;
        value = value < 255 ? value : 255;
        const int32_t code = (int32_t)value;
        same &= (float)code == x[i];
        out[i] = (uint8_t)code;
        sum += (uint32_t)code;
    }
    tail->s = 1;
    tail->lo = 0;
    tail->sum = sum;
    return same;
}

#define LANES 16u /* elements at a time, in loops that compilers make vectors of */

static void widen_range(const float *restrict x, float *restrict low, float *restrict high) {
    for (uint32_t k = 0; k < LANES; k++) {
        low[k] = x[k] < low[k] ? x[k] : low[k];
        high[k] = x[k] > high[k] ? x[k] : high[k];
    }
}

static uint32_t encode_lanes(const float *restrict x, float low, float inverse,
                             uint8_t *restrict out) {
    float values[LANES];
    int32_t codes[LANES];
    uint32_t sum = 0;
    for (uint32_t k = 0; k < LANES; k++) {
        values[k] = (x[k] - low) * inverse + 0.5f;
    }
    for (uint32_t k = 0; k < LANES; k++) {
        values[k] = values[k] > 0 ? values[k] : 0; /* NaN too */
    }
    for (uint32_t k = 0; k < LANES; k++) {
        values[k] = values[k] < 255 ? values[k] : 255;
    }
    for (uint32_t k = 0; k < LANES; k++) {
        codes[k] = (int32_t)values[k];
    }
    for (uint32_t k = 0; k < LANES; k++) {
        out[k] = (uint8_t)codes[k];
        sum += (uint32_t)codes[k];
    }
    return sum;
}

static void encode_range(const float *x, uint32_t dim, uint8_t *out, vex_code_tail *tail) {
    const uint32_t whole = dim / LANES * LANES;
    float lows[LANES], highs[LANES], rest[LANES]; /* of what is left, and its first element again */
    uint8_t codes[LANES];
    for (uint32_t k = 0; k < LANES; k++) {
        lows[k] = highs[k] = x[0];
        rest[k] = x[whole + k < dim ? whole + k : 0];
    }
    for (uint32_t i = 0; i < whole; i += LANES) {
        widen_range(x + i, lows, highs);
    }
    widen_range(rest, lows, highs);
    float low = lows[0], high = highs[0];
    for (uint32_t k = 1; k < LANES; k++) {
        low = lows[k] < low ? lows[k] : low;
        high = highs[k] > high ? highs[k] : high;
    }
    const float s = (float)(((double)high - (double)low) / 255.0);
    const float inverse = s > 0 ? 1 / s : 0;
    uint32_t sum = 0;
    for (uint32_t i = 0; i < whole; i += LANES) {
        sum += encode_lanes(x + i, low, inverse, out + i);
    }
    encode_lanes(rest, low, inverse, codes);
    for (uint32_t k = 0; whole + k < dim; k++) {
        out[whole + k] = codes[k];
        sum += codes[k];
    }
    tail->s = s;
    tail->lo = low;
    tail->sum = sum;
}

static void encode_lvq8(const float *x, uint32_t dim, uint8_t *out, vex_code_tail *tail) {
    /* Most vectors show with their first value that they are no integers. */
    if (!(x[0] >= 0 && x[0] <= 255 && x[0] == (float)(int32_t)x[0]) ||
        !encode_integers(x, dim, out, tail)) {
        encode_range(x, dim, out, tail);
    }
}

void vex_codes_encode(const vex_codes *codes, const float *x, float norm2, void *row) {
    uint8_t *out = row;
    vex_code_tail tail = {.s = 1, .norm2 = norm2};
    size_t used = codes->dim;
    if (codes->kind == VEX_CODE_LVQ8) {
        encode_lvq8(x, codes->dim, out, &tail);
    } else if (codes->kind == VEX_CODE_F16) {
        used *= 2;
        for (uint32_t i = 0; i < codes->dim; i++) {
            vex_put16(out + 2 * (size_t)i, vex_f32_to_f16(x[i]));
        }
    } else {
        used *= sizeof(float);
        memcpy(out, x, used);
    }
    memset(out + used, 0, codes->stride - VEX_CODE_TAIL_BYTES - used);
    memcpy(out + codes->stride - VEX_CODE_TAIL_BYTES, &tail, sizeof tail);
}

void vex_codes_decode(const vex_codes *codes, const void *row, float *x) {
    const uint8_t *from = row;
    if (codes->kind == VEX_CODE_F32) {
        memcpy(x, from, codes->dim * sizeof *x);
        return;
    }
    if (codes->kind == VEX_CODE_F16) {
        for (uint32_t i = 0; i < codes->dim; i++) {
            x[i] = vex_f16_to_f32(vex_get16(from + 2 * (size_t)i));
        }
        return;
    }
    const vex_code_tail tail = vex_codes_tail(codes, row);
    for (uint32_t i = 0; i < codes->dim; i++) {
        x[i] = tail.lo + tail.s * (float)from[i];
    }
}

/* ---- queries ---- */

/* Bytes of a query that kernels read. */
static uint32_t read_by_kernels(const vex_codes *codes) {
    return codes->stride > 2 * codes->short_stride ? codes->stride : 2 * codes->short_stride;
}

vex_status vex_code_query_create(vex_code_query *query, const vex_codes *codes) {
    *query = (vex_code_query){.codes = codes};
    if (codes->kind == VEX_CODE_LVQ8) {
        query->bytes = vex_calloc(read_by_kernels(codes), 1);
    } else {
        query->own = vex_calloc(codes->dim, sizeof *query->own);
    }
    if (query->bytes == NULL && query->own == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "out of memory: cannot prepare a query");
    }
    return VEX_OK;
}

void vex_code_query_destroy(vex_code_query *query) {
    vex_free(query->bytes);
    vex_free(query->own);
    *query = (vex_code_query){0};
}

/* Take codes as signed numbers, and what goes with them.  What is behind them stays zero. */
static void set_lvq8(vex_code_query *query, const uint8_t *codes, const vex_code_tail *tail) {
    const uint32_t dim = query->codes->dim;
    uint8_t *bytes = (uint8_t *)query->bytes; /* may be the codes */
    uint32_t i = 0;
    for (; i + 8 <= dim; i += 8) {
        uint64_t word;
        memcpy(&word, codes + i, sizeof word);
        word ^= 0x8080808080808080u;
        memcpy(bytes + i, &word, sizeof word);
    }
    for (; i < dim; i++) {
        bytes[i] = codes[i] ^ 0x80u;
    }
    const double s = (double)tail->s, low = (double)tail->lo;
    query->a = dim * low + s * tail->sum;
    query->b = low + 128 * s;
    query->c = s;
}

static void set_norm(vex_code_query *query, float norm2, float phi) {
    query->norm2 = norm2;
    query->inverse_norm = norm2 > 0 ? 1 / sqrt((double)norm2) : 0;
    query->phi2 = phi * phi;
    const double rest = phi > 0 ? 1 - (double)norm2 / (double)query->phi2 : 0;
    query->phi_rest = rest > 0 ? sqrt(rest) : 0;
}

void vex_code_query_vector(vex_code_query *query, const float *vector) {
    const vex_codes *codes = query->codes;
    set_norm(query, vex_norm2(vector, codes->dim), 0);
    if (codes->kind == VEX_CODE_LVQ8) {
        vex_code_tail tail;
        encode_lvq8(vector, codes->dim, (uint8_t *)query->bytes, &tail);
        set_lvq8(query, (const uint8_t *)query->bytes, &tail);
    } else {
        query->vector = vector;
    }
}

void vex_code_query_row(vex_code_query *query, const void *row, float phi) {
    const vex_codes *codes = query->codes;
    const vex_code_tail tail = vex_codes_tail(codes, row);
    set_norm(query, tail.norm2, codes->space == VEX_SPACE_IP ? phi : 0);
    if (codes->kind == VEX_CODE_LVQ8) {
        set_lvq8(query, row, &tail);
    } else {
        /* A copy also where the row could be used as it is: it need not be aligned. */
        vex_codes_decode(codes, row, query->own);
        query->vector = query->own;
    }
}

static void distances_lvq8(const vex_code_query *query, const uint8_t *const *rows, uint32_t n,
                           float *out) {
    vex_lvq_group group;
    const size_t at = query->codes->stride - VEX_CODE_TAIL_BYTES;
    for (uint32_t i = 0; i < n; i += VEX_LVQ_GROUP) {
        const uint32_t m = n - i < VEX_LVQ_GROUP ? n - i : VEX_LVQ_GROUP;
        in_use.sums(query->bytes, rows + i, m, query->codes->stride, group.sums);
        for (uint32_t j = 0; j < m; j++) {
            vex_code_tail t;
            memcpy(&t, rows[i + j] + at, sizeof t);
            group.s[j] = t.s;
            group.lo[j] = t.lo;
            group.norm2[j] = t.norm2;
            group.codes[j] = (int32_t)t.sum;
        }
        in_use.finish(query, &group, m, out + i);
    }
}

void vex_code_distances(const vex_code_query *query, const uint8_t *const *rows, uint32_t n,
                        float *out) {
    const vex_codes *codes = query->codes;
    pthread_once(&chosen, choose);
    if (codes->kind == VEX_CODE_LVQ8) {
        distances_lvq8(query, rows, n, out);
        return;
    }
    const vex_kernels *kernels = vex_kernels_get();
    const vex_element element = codes->kind == VEX_CODE_F16 ? VEX_F16 : VEX_F32;
    const bool l2 = codes->space == VEX_SPACE_L2;
    const vex_row_kernel kernel = (l2 ? kernels->l2 : kernels->dot)[element];
    for (uint32_t i = 0; i < n; i++) {
        float sum;
        kernel(rows[i], codes->stride, 1, query->vector, codes->dim, &sum);
        out[i] = l2 ? lvq_bounded((double)sum)
                    : lvq_distance(query, (double)sum, vex_codes_tail(codes, rows[i]).norm2);
    }
}

void vex_short_distances(const vex_code_query *query, const uint8_t *const *rows, uint32_t n,
                         float *out) {
    int32_t sums[VEX_LVQ_GROUP];
    pthread_once(&chosen, choose);
    for (uint32_t i = 0; i < n; i += VEX_LVQ_GROUP) {
        const uint32_t m = n - i < VEX_LVQ_GROUP ? n - i : VEX_LVQ_GROUP;
        in_use.short_sums(query->bytes, rows + i, m, query->codes->short_stride, sums);
        in_use.short_finish(query, rows + i, m, sums, out + i);
    }
}

bool vex_codes_uneven(float norm2_min, float norm2_max) {
    return (double)norm2_max > 1.05 * 1.05 * (double)norm2_min;
}
