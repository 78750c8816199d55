/*
 * dist.c - choice of the distance kernels, and what is the same on every level.
 */
#include "index/dist.h"

#include "base/cpu.h"
#include "io/vfs.h"

#include <math.h>

#include "base/poison.h"

static const vex_kernels *in_use;
static char refused[32]; /* value of VEXFS_SIMD that names no usable level, else "" */
static pthread_once_t chosen = PTHREAD_ONCE_INIT;

size_t vex_element_bytes(vex_element element) {
    return element == VEX_F32 ? 4 : element == VEX_F16 ? 2 : 1;
}

uint32_t vex_kernels_available(const vex_kernels *out[4]) {
    uint32_t n = 0;
#if defined(__x86_64__)
    if (vex_cpu()->avx512) {
        out[n++] = &vex_kernels_avx512;
    }
    if (vex_cpu()->avx2_fma) {
        out[n++] = &vex_kernels_avx2;
    }
#elif defined(__aarch64__)
    if (vex_cpu()->neon) {
        out[n++] = &vex_kernels_neon;
    }
#endif
    out[n++] = &vex_kernels_scalar;
    return n;
}

static void choose(void) {
    const vex_kernels *levels[4];
    const uint32_t n = vex_kernels_available(levels);
    const char *wanted = vex_environment("VEXFS_SIMD");
    if (wanted == NULL || wanted[0] == '\0') {
        in_use = levels[0];
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (strcmp(wanted, levels[i]->name) == 0) {
            in_use = levels[i];
            return;
        }
    }
    in_use = &vex_kernels_scalar;
    snprintf(refused, sizeof refused, "%s", wanted);
}

const vex_kernels *vex_kernels_get(void) {
    pthread_once(&chosen, choose);
    return in_use;
}

vex_status vex_simd_level(const char **name) {
    const vex_kernels *kernels = vex_kernels_get();
    if (name == NULL) {
        return VEX_FAIL(VEX_ERR_INVALID, "vex_simd_level: name is NULL");
    }
    if (refused[0] != '\0') {
        return VEX_FAIL(VEX_ERR_INVALID,
                        "VEXFS_SIMD=%s is unknown or not supported by this processor; set it to "
                        "scalar, avx2, avx512 or neon, or unset it for the best level",
                        refused);
    }
    *name = kernels->name;
    return VEX_OK;
}

/* The products are exact in double, so a fused multiply-add gives the same sum. */
float vex_norm2(const float *x, uint32_t dim) {
    double sum = 0;
    for (uint32_t i = 0; i < dim; i++) {
        sum += (double)x[i] * (double)x[i];
    }
    return (float)sum;
}

float vex_dot_to_distance(uint32_t space, float dot, float norm2_x, float norm2_q) {
    if (space != VEX_SPACE_COSINE) {
        return 1.0f - dot;
    }
    if (norm2_x == 0.0f || norm2_q == 0.0f) {
        return 1.0f;
    }
    /* The product is exact and cannot overflow in double.  NaN passes both comparisons. */
    const double distance = 1.0 - (double)dot / sqrt((double)norm2_x * (double)norm2_q);
    return distance < 0.0 ? 0.0f : distance > 2.0 ? 2.0f : (float)distance;
}

float vex_distance(uint32_t space, const float *x, const float *y, uint32_t dimension) {
    const vex_kernels *kernels = vex_kernels_get();
    const size_t stride = dimension * sizeof(float);
    float sum, norm2_x = 0, norm2_y = 0;
    switch (space) {
    case VEX_SPACE_L2:
        kernels->l2[VEX_F32](x, stride, 1, y, dimension, &sum);
        return sum;
    case VEX_SPACE_L1:
        kernels->l1[VEX_F32](x, stride, 1, y, dimension, &sum);
        return sum;
    case VEX_SPACE_COSINE:
        norm2_x = vex_norm2(x, dimension);
        norm2_y = vex_norm2(y, dimension);
        break;
    case VEX_SPACE_IP:
        break;
    default:
        return NAN;
    }
    kernels->dot[VEX_F32](x, stride, 1, y, dimension, &sum);
    return vex_dot_to_distance(space, sum, norm2_x, norm2_y);
}
