/*
 * crc32c.c - CRC-32C in hardware and in tables.
 *
 * The CRC instruction takes 8 bytes but has a latency of three cycles, so large inputs are cut
 * into three lanes whose CRCs advance side by side.  A CRC is linear over GF(2): the CRC of a lane
 * followed by LANE bytes is the lane's CRC advanced over LANE zero bytes, XOR the CRC of those
 * bytes started at 0.  Advancing over LANE zeros is a fixed linear map, kept as a table per byte
 * of the CRC.
 *
 * Inside this file a "state" is the register as it runs: the CRC without the inversions at both
 * ends.
 */
#include "base/crc32c.h"

#include "base/bytes.h"
#include "base/cpu.h"

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

#include "base/poison.h"

#define POLYNOMIAL 0x82F63B78u

static uint32_t slice[8][256]; /* slice[k][b]: byte b, then k zero bytes */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static void build_tables(void);

static uint32_t portable_state(uint32_t state, const uint8_t *p, size_t len) {
    for (; len >= 8; p += 8, len -= 8) {
        uint64_t v = vex_get64(p) ^ state;
        state = slice[7][v & 0xFF] ^ slice[6][v >> 8 & 0xFF] ^ slice[5][v >> 16 & 0xFF] ^
                slice[4][v >> 24 & 0xFF] ^ slice[3][v >> 32 & 0xFF] ^ slice[2][v >> 40 & 0xFF] ^
                slice[1][v >> 48 & 0xFF] ^ slice[0][v >> 56];
    }
    for (; len > 0; p++, len--) {
        state = slice[0][(state ^ *p) & 0xFF] ^ state >> 8;
    }
    return state;
}

#if defined(__x86_64__)

#define HAVE_HARDWARE 1
#define HARDWARE __attribute__((target("sse4.2")))
static inline HARDWARE uint32_t step8(uint32_t state, uint8_t v) {
    return _mm_crc32_u8(state, v);
}
static inline HARDWARE uint32_t step64(uint32_t state, uint64_t v) {
    return (uint32_t)_mm_crc32_u64(state, v);
}
static bool hardware_present(void) {
    return vex_cpu()->sse42;
}

#elif defined(__aarch64__) && defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__

/* Assembly: the compilers disagree on how a single function gets these intrinsics. */
#define HAVE_HARDWARE 1
#define HARDWARE
static inline uint32_t step8(uint32_t state, uint8_t v) {
    __asm__(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1" : "+r"(state) : "r"(v));
    return state;
}
static inline uint32_t step64(uint32_t state, uint64_t v) {
    __asm__(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1" : "+r"(state) : "r"(v));
    return state;
}
static bool hardware_present(void) {
    return vex_cpu()->arm_crc32;
}

#else
#define HAVE_HARDWARE 0
#endif

#if HAVE_HARDWARE

#define LANE ((size_t)1024)
#define AHEAD (2 * 3 * LANE) /* of prefetching; may pass the end, which a prefetch forgives */

static uint32_t over_lane[4][256]; /* advance a state over LANE zero bytes, by byte of the state */
static bool use_hardware;

static void build_lane_table(void) {
    static const uint8_t zeros[LANE];
    uint32_t bit_image[32];
    for (unsigned bit = 0; bit < 32; bit++) {
        bit_image[bit] = portable_state(1u << bit, zeros, LANE);
    }
    for (unsigned byte = 0; byte < 4; byte++) {
        for (unsigned value = 0; value < 256; value++) {
            uint32_t image = 0;
            for (unsigned bit = 0; bit < 8; bit++) {
                image ^= value >> bit & 1u ? bit_image[8 * byte + bit] : 0;
            }
            over_lane[byte][value] = image;
        }
    }
}

static inline uint32_t advance_over_lane(uint32_t state) {
    return over_lane[0][state & 0xFF] ^ over_lane[1][state >> 8 & 0xFF] ^
           over_lane[2][state >> 16 & 0xFF] ^ over_lane[3][state >> 24];
}

HARDWARE static uint32_t hardware_state(uint32_t state, const uint8_t *p, size_t len) {
    for (; len > 0 && ((uintptr_t)p & 7) != 0; p++, len--) {
        state = step8(state, *p);
    }
    for (; len >= 3 * LANE; p += 3 * LANE, len -= 3 * LANE) {
        uint32_t second = 0, third = 0;
        for (size_t i = 0; i < LANE; i += 8) {
            if (i % 64 == 0) { /* the processor sees no stream in three lanes */
                __builtin_prefetch(p + AHEAD + i);
                __builtin_prefetch(p + AHEAD + LANE + i);
                __builtin_prefetch(p + AHEAD + 2 * LANE + i);
            }
            state = step64(state, vex_get64(p + i));
            second = step64(second, vex_get64(p + LANE + i));
            third = step64(third, vex_get64(p + 2 * LANE + i));
        }
        state = advance_over_lane(state) ^ second;
        state = advance_over_lane(state) ^ third;
    }
    for (; len >= 8; p += 8, len -= 8) {
        state = step64(state, vex_get64(p));
    }
    for (; len > 0; p++, len--) {
        state = step8(state, *p);
    }
    return state;
}

#endif

static void build_tables(void) {
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t state = b;
        for (int bit = 0; bit < 8; bit++) {
            state = state >> 1 ^ (state & 1u ? POLYNOMIAL : 0);
        }
        slice[0][b] = state;
    }
    for (int k = 1; k < 8; k++) {
        for (uint32_t b = 0; b < 256; b++) {
            uint32_t before = slice[k - 1][b];
            slice[k][b] = slice[0][before & 0xFF] ^ before >> 8;
        }
    }
#if HAVE_HARDWARE
    build_lane_table();
    use_hardware = hardware_present();
#endif
}

uint32_t vex_crc32c(uint32_t seed, const void *data, size_t len) {
    pthread_once(&once, build_tables);
#if HAVE_HARDWARE
    if (use_hardware) {
        return ~hardware_state(~seed, data, len);
    }
#endif
    return ~portable_state(~seed, data, len);
}

uint32_t vex_crc32c_portable(uint32_t seed, const void *data, size_t len) {
    pthread_once(&once, build_tables);
    return ~portable_state(~seed, data, len);
}

/* A flipped bit changes the register by the polynomial, and every bit behind it shifts that on. */
uint64_t vex_crc32c_flipped_bit(size_t len, uint32_t difference) {
    uint32_t change = POLYNOMIAL;
    if (__builtin_popcount(difference) == 1) {
        return VEX_CRC32C_ITSELF;
    }
    for (uint64_t bit = (uint64_t)len * 8; bit-- > 0;) {
        if (change == difference) {
            return bit;
        }
        change = change >> 1 ^ (change & 1u ? POLYNOMIAL : 0);
    }
    return VEX_CRC32C_NONE;
}
