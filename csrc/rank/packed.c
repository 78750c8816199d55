/*
 * packed.c - see packed.h.  Written with the compiler's generic vectors: SSE2 on x86-64, NEON on
 * aarch64.
 */
#include "rank/packed.h"

#include <string.h>

#include "base/poison.h"

#define LANES 4u
#define STEPS (VEX_BLOCK_ROWS / LANES)

typedef uint32_t lanes __attribute__((vector_size(16)));

uint32_t vex_pack_width(const uint32_t *numbers, uint32_t n) {
    uint32_t any = 0;
    for (uint32_t i = 0; i < n; i++) {
        any |= numbers[i];
    }
    return any == 0 ? 0 : 32 - (uint32_t)__builtin_clz(any);
}

static inline lanes load(const void *from) {
    lanes out;
    memcpy(&out, from, sizeof out);
    return out;
}

static inline void store(void *to, lanes value) {
    memcpy(to, &value, sizeof value);
}

void vex_pack(const uint32_t *numbers, uint32_t width, uint8_t *out) {
    lanes word = {0};
    uint32_t filled = 0;
    for (uint32_t step = 0; step < STEPS && width > 0; step++) {
        const lanes now = load(numbers + (size_t)step * LANES);
        word |= now << filled;
        filled += width;
        if (filled >= 32) {
            store(out, word);
            out += sizeof word;
            filled -= 32;
            word = filled > 0 ? now >> (width - filled) : (lanes){0};
        }
    }
}

void vex_unpack(const uint8_t *in, uint32_t width, uint32_t *numbers) {
    if (width == 0) {
        memset(numbers, 0, VEX_BLOCK_ROWS * sizeof *numbers);
        return;
    }
    const lanes mask = (lanes){0} + (width < 32 ? (1u << width) - 1 : UINT32_MAX);
    uint32_t used = 0;
    lanes word = load(in);
    for (uint32_t step = 0; step < STEPS; step++) {
        lanes now = word >> used;
        used += width;
        if (used >= 32) {
            used -= 32;
            if (step + 1 < STEPS) {
                in += sizeof word;
                word = load(in);
                now |= used > 0 ? word << (width - used) : (lanes){0};
            }
        }
        store(numbers + (size_t)step * LANES, now & mask);
    }
}

uint32_t vex_unpack_one(const uint8_t *in, uint32_t width, uint32_t i) {
    if (width == 0) {
        return 0;
    }
    const uint32_t bit = i / LANES * width, shift = bit % 32;
    const uint8_t *word = in + ((size_t)(bit / 32) * LANES + i % LANES) * 4;
    uint32_t low, high = 0;
    memcpy(&low, word, sizeof low);
    if (shift + width > 32) {
        memcpy(&high, word + LANES * 4, sizeof high);
    }
    const uint64_t both = (uint64_t)high << 32 | low;
    return (uint32_t)(both >> shift) & (width < 32 ? (1u << width) - 1 : UINT32_MAX);
}

void vex_block_unpack_values(vex_block *block) {
    if (block->packed == NULL) {
        return;
    }
    vex_unpack(block->packed, block->width, block->values);
    for (uint32_t i = 0; i < VEX_BLOCK_ROWS; i++) {
        block->values[i]++;
    }
    block->packed = NULL;
}

uint32_t vex_leb_put(uint8_t *out, uint32_t number) {
    uint32_t n = 0;
    for (; number >= 0x80; number >>= 7) {
        out[n++] = (uint8_t)number | 0x80;
    }
    out[n++] = (uint8_t)number;
    return n;
}

vex_status vex_leb_append(vex_buf *out, uint32_t number) {
    uint8_t bytes[5];
    return vex_buf_append(out, bytes, vex_leb_put(bytes, number));
}

bool vex_gaps_to_rows(uint32_t *numbers, uint32_t n, uint32_t first, uint32_t end) {
    uint64_t next = first;
    for (uint32_t i = 0; i < n; i++) {
        next += numbers[i];
        numbers[i] = (uint32_t)next++;
    }
    return next <= end;
}
