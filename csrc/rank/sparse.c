/*
 * sparse.c - see sparse.h.
 */
#include "rank/sparse.h"

#include "base/bytes.h"
#include "base/msgpack.h"

#include <math.h>

#include "base/poison.h"

bool vex_sparse_read(const uint8_t *payload, size_t len, vex_sparse_vector *out) {
    vex_cursor in = vex_cursor_make(payload, len);
    const uint32_t n = vex_cursor_u32(&in);
    const uint8_t *indices = vex_cursor_take(&in, 4 * (size_t)n);
    const uint8_t *values = vex_cursor_take(&in, 4 * (size_t)n);
    if (in.bad) {
        return false;
    }
    *out = (vex_sparse_vector){.indices = indices, .values = values, .n = n};
    return true;
}

uint32_t vex_sparse_index(const vex_sparse_vector *vector, uint32_t i) {
    return vex_get32(vector->indices + 4 * (size_t)i);
}

float vex_sparse_value(const vex_sparse_vector *vector, uint32_t i) {
    const uint32_t bits = vex_get32(vector->values + 4 * (size_t)i);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Labels, if there are any: as many strings as there are entries. */
static bool labels_fit(const uint8_t *labels, size_t len, uint32_t n) {
    vex_mp_reader reader = vex_mp_reader_make(labels, len);
    if (len == 0) {
        return true;
    }
    const vex_mp_value list = vex_mp_next(&reader);
    bool fine = list.kind == VEX_MP_ARRAY && list.count == n;
    for (uint32_t i = 0; fine && i < n; i++) {
        const vex_mp_value label = vex_mp_next(&reader);
        fine = label.kind == VEX_MP_STR && vex_utf8_valid(label.bytes, label.len);
    }
    return fine && vex_mp_at_end(&reader);
}

const char *vex_sparse_problem(const uint8_t *payload, size_t len) {
    vex_sparse_vector vector;
    if (!vex_sparse_read(payload, len, &vector)) {
        return "shorter than its number of entries says";
    }
    for (uint32_t i = 0; i < vector.n; i++) {
        if (i > 0 && vex_sparse_index(&vector, i) <= vex_sparse_index(&vector, i - 1)) {
            return "indices must be strictly ascending";
        }
        if (!isfinite(vex_sparse_value(&vector, i))) {
            return "values must be finite float32 numbers";
        }
    }
    const size_t used = 4 + 8 * (size_t)vector.n;
    return labels_fit(payload + used, len - used, vector.n)
               ? NULL
               : "labels must be one string for each entry";
}

bool vex_sparse_dot(const vex_sparse_vector *vector, const vex_sparse_query *query, float *dot) {
    float sum = 0;
    bool shares = false;
    for (uint32_t i = 0, j = 0; i < vector->n && j < query->n;) {
        const uint32_t a = vex_sparse_index(vector, i), b = query->indices[j];
        if (a == b) {
            sum += vex_sparse_value(vector, i) * query->values[j];
            shares = true;
        }
        i += a <= b;
        j += b <= a;
    }
    *dot = sum;
    return shares;
}

float vex_sparse_idf(float value, uint64_t n, uint64_t nt) {
    const double all = (double)n, with = (double)nt;
    return (float)((double)value * log1p((all - with + 0.5) / (with + 0.5)));
}
