/*
 * dist_template.h - the distance kernels of one SIMD level.
 *
 * A level includes this file once, after it has defined
 *
 *   LEVEL_TABLE, LEVEL_NAME   the table to fill, and its name
 *   LEVEL_TARGET              function target attribute; files share one set of compiler flags
 *   LANES                     float32 elements taken at a time
 *   SEGMENT                   elements summed before the sum is put aside, a multiple of LANES
 *   ROW_BLOCK                 rows at a time against one query: 1 or 4
 *   TILE_ROWS, TILE_QUERIES   register block of the tile kernels: up to 4, and 1 or 4
 *   LEVEL_HOLD(x)             what makes the compiler keep x, just loaded, in a register instead of
 *                             loading it at each use, where loads are the bottleneck
 *   elements, sums            types: LANES float32 values, and the running sums of LANES chains
 *
 * and, marked LEVEL_INLINE:
 *
 *   load_f32 load_f16 load_u8 (bytes)   LANES elements from any address, widened
 *   keep_last(x, n)                     x with all but its last n lanes zero
 *   sums_zero() sums_add(a, b)
 *   fold_dot fold_l2 fold_l1 (s, x, q)  s plus one term per lane
 *   reduce4(out, a, b, c, d)            four sums over the lanes, each in the same order
 *
 * Canonical order.  Lane l of a segment adds elements l, l + LANES, ... ; the segments' sums are
 * added up lane by lane; the tail (dim % LANES elements, in the last lanes) comes next, and the
 * lanes last.  Every kernel is block() at another size, so all of them keep this order.  Short
 * segments have two more uses: chains of rounding errors stay short, and the chains of successive
 * segments are independent, so that one pair of vectors alone keeps an out-of-order processor busy.
 */
#include "index/dist.h"

#include <string.h>

#if defined(__has_feature)
#define LEVEL_SANITIZED __has_feature(address_sanitizer)
#elif defined(__SANITIZE_ADDRESS__)
#define LEVEL_SANITIZED 1
#else
#define LEVEL_SANITIZED 0
#endif

/* Unrolled code with a check at every load takes minutes to compile. */
#if LEVEL_SANITIZED
#define UNROLL
#elif defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 4")
#endif

typedef enum metric { METRIC_DOT, METRIC_L2, METRIC_L1 } metric;

/* Row i at rows + i * row_stride (bytes), query j at queries + j * query_stride (floats); the sum
 * of both goes to out[j * out_stride + i]. */
typedef struct operands {
    const uint8_t *rows;
    size_t row_stride;
    const float *queries;
    size_t query_stride;
    size_t dim;
    float *out;
    size_t out_stride;
} operands;

LEVEL_INLINE size_t element_bytes(const vex_element element) {
    return element == VEX_F32 ? 4 : element == VEX_F16 ? 2 : 1;
}

LEVEL_INLINE elements load(const uint8_t *from, const vex_element element) {
    return element == VEX_F32   ? load_f32(from)
           : element == VEX_F16 ? load_f16(from)
                                : load_u8(from);
}

/* A whole vector of less than LANES elements, in the last lanes. */
LEVEL_TARGET __attribute__((noinline)) static elements
load_short(const uint8_t *vector, size_t dim, vex_element element) {
    const size_t bytes = element_bytes(element);
    uint8_t padded[LANES * sizeof(float)] = {0};
    memcpy(padded + (LANES - dim) * bytes, vector, dim * bytes);
    return load(padded, element);
}

/* The dim % LANES elements that are left at the end of a vector. */
LEVEL_INLINE elements load_tail(const uint8_t *vector, size_t dim, const vex_element element) {
    const size_t bytes = element_bytes(element);
    if (VEX_UNLIKELY(dim < LANES)) {
        return load_short(vector, dim, element);
    }
    return keep_last(load(vector + (dim - LANES) * bytes, element), dim % LANES);
}

LEVEL_INLINE sums fold(sums s, elements x, elements q, const metric kind) {
    return kind == METRIC_DOT  ? fold_dot(s, x, q)
           : kind == METRIC_L2 ? fold_l2(s, x, q)
                               : fold_l1(s, x, q);
}

LEVEL_INLINE void zero_all(sums s[4][4], const int n_rows, const int n_queries) {
    UNROLL for (int r = 0; r < n_rows; r++) {
        UNROLL for (int j = 0; j < n_queries; j++) {
            s[r][j] = sums_zero();
        }
    }
}

LEVEL_INLINE void add_all(sums s[4][4], sums t[4][4], const int n_rows, const int n_queries) {
    UNROLL for (int r = 0; r < n_rows; r++) {
        UNROLL for (int j = 0; j < n_queries; j++) {
            s[r][j] = sums_add(s[r][j], t[r][j]);
        }
    }
}

LEVEL_INLINE void fold_all(sums s[4][4], const elements *row, const elements *query,
                           const int n_rows, const int n_queries, const metric kind) {
    UNROLL for (int r = 0; r < n_rows; r++) {
        UNROLL for (int j = 0; j < n_queries; j++) {
            s[r][j] = fold(s[r][j], row[r], query[j], kind);
        }
    }
}

/* Reduce and store, four pairs at a time. */
LEVEL_INLINE void store_all(const operands *o, sums s[4][4], const int n_rows,
                            const int n_queries) {
    float done[4];
    if (n_queries == 4) {
        UNROLL for (int r = 0; r < n_rows; r++) {
            reduce4(done, s[r][0], s[r][1], s[r][2], s[r][3]);
            UNROLL for (int j = 0; j < 4; j++) {
                o->out[(size_t)j * o->out_stride + (size_t)r] = done[j];
            }
        }
    } else if (n_rows == 4) {
        reduce4(o->out, s[0][0], s[1][0], s[2][0], s[3][0]);
    } else {
        reduce4(done, s[0][0], sums_zero(), sums_zero(), sums_zero());
        o->out[0] = done[0];
    }
}

/* All pairs of n_rows rows and n_queries queries: 1 or 4 of one, up to 4 of the other.  The
 * sizes, the element and the kind are constants at every call: the loops over them unroll and the
 * arrays become registers. */
LEVEL_INLINE void block(const operands *o, const int n_rows, const int n_queries,
                        const vex_element element, const metric kind) {
    const size_t bytes = element_bytes(element), dim = o->dim, whole = dim - dim % LANES;
    const uint8_t *x[4], *q[4];
    elements row[4], query[4];
    sums total[4][4], part[4][4];
    UNROLL for (int r = 0; r < n_rows; r++) {
        x[r] = o->rows + (size_t)r * o->row_stride;
    }
    UNROLL for (int j = 0; j < n_queries; j++) {
        q[j] = (const uint8_t *)(o->queries + (size_t)j * o->query_stride);
    }
    zero_all(total, n_rows, n_queries);
    for (size_t i = 0; i < whole;) {
        const size_t end = whole - i < SEGMENT ? whole : i + SEGMENT;
        zero_all(part, n_rows, n_queries);
        for (; i < end; i += LANES) {
            UNROLL for (int j = 0; j < n_queries; j++) {
                query[j] = load_f32(q[j] + i * sizeof(float));
                LEVEL_HOLD(query[j]);
            }
            UNROLL for (int r = 0; r < n_rows; r++) {
                row[r] = load(x[r] + i * bytes, element);
            }
            fold_all(part, row, query, n_rows, n_queries, kind);
        }
        add_all(total, part, n_rows, n_queries);
    }
    if (whole < dim) {
        UNROLL for (int j = 0; j < n_queries; j++) {
            query[j] = load_tail(q[j], dim, VEX_F32);
        }
        UNROLL for (int r = 0; r < n_rows; r++) {
            row[r] = load_tail(x[r], dim, element);
        }
        fold_all(total, row, query, n_rows, n_queries, kind);
    }
    store_all(o, total, n_rows, n_queries);
}

LEVEL_INLINE void advance_rows(operands *o, int n) {
    o->rows += (size_t)n * o->row_stride;
    o->out += n;
}

/* n rows x one query. */
LEVEL_INLINE void row_kernel(operands o, uint32_t n, const vex_element element,
                             const metric kind) {
    for (; n >= ROW_BLOCK; n -= ROW_BLOCK) {
        block(&o, ROW_BLOCK, 1, element, kind);
        advance_rows(&o, ROW_BLOCK);
    }
    for (; n > 0; n--) {
        block(&o, 1, 1, element, kind);
        advance_rows(&o, 1);
    }
}

/* n rows x TILE_QUERIES queries. */
LEVEL_INLINE void strip_kernel(operands o, uint32_t n, const vex_element element,
                               const metric kind) {
    for (; n >= TILE_ROWS; n -= TILE_ROWS) {
        block(&o, TILE_ROWS, TILE_QUERIES, element, kind);
        advance_rows(&o, TILE_ROWS);
    }
    for (; n > 0; n--) {
        block(&o, 1, TILE_QUERIES, element, kind);
        advance_rows(&o, 1);
    }
}

/* The queries of a strip stay in the first-level cache while the rows go by. */
LEVEL_INLINE void tile_kernel(operands o, uint32_t n, uint32_t m, const vex_element element,
                              const metric kind) {
    for (; m >= TILE_QUERIES; m -= TILE_QUERIES) {
        strip_kernel(o, n, element, kind);
        o.queries += TILE_QUERIES * o.query_stride;
        o.out += TILE_QUERIES * o.out_stride;
    }
    for (; m > 0; m--) {
        row_kernel(o, n, element, kind);
        o.queries += o.query_stride;
        o.out += o.out_stride;
    }
}

#define ROW_KERNEL(name, element, metric)                                                          \
    LEVEL_TARGET static void name(const void *rows, size_t stride, uint32_t n, const float *query, \
                                  uint32_t dim, float *out) {                                      \
        row_kernel((operands){rows, stride, query, 0, dim, out, 0}, n, element, metric);           \
    }
#define TILE_KERNEL(name, element, metric)                                                         \
    LEVEL_TARGET static void name(const void *rows, size_t stride, uint32_t n,                     \
                                  const float *queries, size_t query_stride, uint32_t m,           \
                                  uint32_t dim, float *out, size_t out_stride) {                   \
        tile_kernel((operands){rows, stride, queries, query_stride, dim, out, out_stride}, n, m,   \
                    element, metric);                                                              \
    }
#define ELEMENT_KERNELS(suffix, element)                                                           \
    ROW_KERNEL(dot_##suffix, element, METRIC_DOT)                                                  \
    ROW_KERNEL(l2_##suffix, element, METRIC_L2)                                                    \
    ROW_KERNEL(l1_##suffix, element, METRIC_L1)                                                    \
    TILE_KERNEL(dot_tile_##suffix, element, METRIC_DOT)                                            \
    TILE_KERNEL(l2_tile_##suffix, element, METRIC_L2)

ELEMENT_KERNELS(f32, VEX_F32)
ELEMENT_KERNELS(f16, VEX_F16)
ELEMENT_KERNELS(u8, VEX_U8)

const vex_kernels LEVEL_TABLE = {
    .name = LEVEL_NAME,
    .dot = {dot_f32, dot_f16, dot_u8},
    .l2 = {l2_f32, l2_f16, l2_u8},
    .l1 = {l1_f32, l1_f16, l1_u8},
    .dot_tile = {dot_tile_f32, dot_tile_f16, dot_tile_u8},
    .l2_tile = {l2_tile_f32, l2_tile_f16, l2_tile_u8},
};
