/*
 * code_test.c - testing codes (see code_test.h).
 *
 * A range is tested on all 64 codes of a block without a branch: one subtraction and one unsigned
 * comparison each.  With AVX-512 comparisons give bits; else compilers turn them into SIMD, which takes
 * long for codes of 8 bytes where no more than SSE2 may be used, and the answers are packed into a
 * word.
 * Bitmaps and sets are looked up for the candidates only.
 */
#include "filter/code_test.h"

#include "base/bits.h"
#include "base/bytes.h"
#include "base/cpu.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/poison.h"

#define FEW_CODES_MAX 8                      /* tested one after the other */
#define BITMAP_CODES_MAX ((uint64_t)1 << 20) /* 128 KiB: larger codes go to a hash set */
#define EMPTY UINT64_MAX

vex_status vex_code_test_bitmap(uint64_t n_bits, vex_code_test *test) {
    *test = (vex_code_test){.kind = VEX_CODES_BITMAP, .n_bits = n_bits};
    test->table = vex_calloc(vex_bit_words((size_t)n_bits) + 1, sizeof *test->table);
    return test->table ? VEX_OK : VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to evaluate a filter");
}

/* The slot of a code, or the empty one where it belongs. */
static inline uint64_t slot_of(const vex_code_test *test, uint64_t code) {
    uint64_t mask = UINT64_MAX >> test->shift;
    uint64_t at = (code * 0x9E3779B97F4A7C15u) >> test->shift;
    while (test->table[at] != EMPTY && test->table[at] != code) {
        at = (at + 1) & mask;
    }
    return at;
}

static vex_status make_set(const uint64_t *codes, size_t n, vex_code_test *test) {
    unsigned bits = 4;
    while (((size_t)1 << bits) / 2 < n) {
        bits++;
    }
    *test = (vex_code_test){.kind = VEX_CODES_SET, .shift = 64 - bits};
    test->table = vex_malloc(sizeof *test->table << bits);
    if (test->table == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to evaluate a filter");
    }
    for (size_t i = 0; i < (size_t)1 << bits; i++) {
        test->table[i] = EMPTY;
    }
    for (size_t i = 0; i < n; i++) {
        test->has_empty |= codes[i] == EMPTY;
        test->table[slot_of(test, codes[i])] = codes[i];
    }
    return VEX_OK;
}

vex_status vex_code_test_set(const uint64_t *codes, size_t n, vex_code_test *test) {
    uint64_t largest = 0;
    for (size_t i = 0; i < n; i++) {
        largest = codes[i] > largest ? codes[i] : largest;
    }
    if (n == 0) {
        *test = vex_code_test_all(false);
        return VEX_OK;
    }
    if (n <= FEW_CODES_MAX) {
        *test = (vex_code_test){.kind = VEX_CODES_FEW, .n_bits = n};
        test->table = vex_malloc(n * sizeof *test->table);
        if (test->table == NULL) {
            return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to evaluate a filter");
        }
        memcpy(test->table, codes, n * sizeof *test->table);
        return VEX_OK;
    }
    if (largest >= BITMAP_CODES_MAX) {
        return make_set(codes, n, test);
    }
    VEX_TRY(vex_code_test_bitmap(largest + 1, test));
    for (size_t i = 0; i < n; i++) {
        vex_bit_set(test->table, codes[i]);
    }
    return VEX_OK;
}

vex_status vex_code_test_simplify(vex_code_test *test) {
    const size_t n_words = vex_bit_words((size_t)test->n_bits);
    uint64_t codes[FEW_CODES_MAX];
    size_t n = 0;
    if (test->kind != VEX_CODES_BITMAP || vex_bits_count(test->table, n_words) > FEW_CODES_MAX) {
        return VEX_OK;
    }
    for (size_t at = 0; at < n_words; at++) {
        for (uint64_t word = test->table[at]; word != 0; word &= word - 1) {
            codes[n++] = at * 64 + (uint64_t)__builtin_ctzll(word);
        }
    }
    vex_code_test few;
    VEX_TRY(vex_code_test_set(codes, n, &few));
    few.negated = test->negated != few.negated;
    vex_code_test_clear(test);
    *test = few;
    return VEX_OK;
}

void vex_code_test_clear(vex_code_test *test) {
    vex_free(test->table);
    *test = (vex_code_test){0};
}

/* ---- testing ---- */

/* Bit i = byte i of `flags`, which are 0 or 1. */
#if defined(__SSE2__) /* on every x86-64 */
typedef char byte_lanes __attribute__((vector_size(16)));
typedef uint16_t short_lanes __attribute__((vector_size(16)));

static inline uint64_t pack(const uint8_t flags[64]) {
    uint64_t word = 0;
    for (unsigned i = 0; i < 4; i++) {
        short_lanes sixteen;
        memcpy(&sixteen, flags + 16 * i, sizeof sixteen);
        const int tops = __builtin_ia32_pmovmskb128((byte_lanes)(sixteen << 7));
        word |= (uint64_t)(uint32_t)tops << (16 * i);
    }
    return word;
}
#else /* the product gathers eight bytes' low bits in its top byte */
static inline uint64_t pack(const uint8_t flags[64]) {
    uint64_t word = 0;
    for (unsigned i = 0; i < 8; i++) {
        uint64_t eight;
        memcpy(&eight, flags + 8 * i, sizeof eight);
        word |= (eight * 0x0102040810204080u >> 56) << (8 * i);
    }
    return word;
}
#endif

#define DEFINE_RANGE(name, type)                                                                   \
    static uint64_t name(const uint8_t *codes, uint64_t low, uint64_t span) {                      \
        const type low_code = (type)low, span_code = (type)span;                                   \
        type block[64];                                                                            \
        uint8_t flags[64];                                                                         \
        memcpy(block, codes, sizeof block);                                                        \
        for (unsigned i = 0; i < 64; i++) {                                                        \
            flags[i] = (type)(block[i] - low_code) <= span_code;                                   \
        }                                                                                          \
        return pack(flags);                                                                        \
    }

DEFINE_RANGE(range_of_1, uint8_t)
DEFINE_RANGE(range_of_2, uint16_t)
DEFINE_RANGE(range_of_4, uint32_t)
DEFINE_RANGE(range_of_8, uint64_t)

uint64_t vex_code_range_plain(const uint8_t *codes, uint8_t width, uint64_t low, uint64_t span) {
    switch (width) {
    case 1:
        return range_of_1(codes, low, span);
    case 2:
        return range_of_2(codes, low, span);
    case 4:
        return range_of_4(codes, low, span);
    default:
        return range_of_8(codes, low, span);
    }
}

#if defined(__x86_64__)

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))

/* A vector of codes after the other; `width` vectors are a block. */
#define PASS(suffix, broadcast, code)                                                              \
    do {                                                                                           \
        const __m512i least = _mm512_set1_##broadcast((code)low);                                  \
        const __m512i most = _mm512_set1_##broadcast((code)span);                                  \
        for (unsigned i = 0; i < width; i++) {                                                     \
            const __m512i some = _mm512_loadu_si512(codes + 64 * i);                               \
            const uint64_t pass =                                                                  \
                _mm512_cmple_epu##suffix##_mask(_mm512_sub_epi##suffix(some, least), most);        \
            word |= pass << (64u / width * i);                                                     \
        }                                                                                          \
    } while (0)

AVX512 uint64_t vex_code_range_avx512(const uint8_t *codes, uint8_t width, uint64_t low,
                                      uint64_t span) {
    uint64_t word = 0;
    switch (width) {
    case 1:
        PASS(8, epi8, char);
        break;
    case 2:
        PASS(16, epi16, short);
        break;
    case 4:
        PASS(32, epi32, int);
        break;
    default:
        PASS(64, epi64, long long);
        break;
    }
    return word;
}

#endif

static uint64_t test_range(const uint8_t *codes, uint8_t width, uint64_t low, uint64_t span) {
    if (width == 0) {
        return low == 0 ? UINT64_MAX : 0;
    }
#if defined(__x86_64__)
    if (vex_cpu()->avx512) {
        return vex_code_range_avx512(codes, width, low, span);
    }
#endif
    return vex_code_range_plain(codes, width, low, span);
}

/* A code that does not fit the width is no entry's. */
static uint64_t test_few(const vex_code_test *test, const uint8_t *codes, uint8_t width) {
    uint64_t hits = 0;
    for (uint64_t i = 0; i < test->n_bits; i++) {
        if (width == 8 || test->table[i] >> (8 * width) == 0) {
            hits |= test_range(codes, width, test->table[i], 0);
        }
    }
    return hits;
}

static inline uint64_t code_at(const uint8_t *codes, uint8_t width, unsigned i) {
    switch (width) {
    case 0:
        return 0;
    case 1:
        return codes[i];
    case 2:
        return vex_get16(codes + 2 * i);
    case 4:
        return vex_get32(codes + 4 * i);
    default:
        return vex_get64(codes + 8 * i);
    }
}

static inline bool is_in_bitmap(const vex_code_test *test, uint64_t code) {
    return code < test->n_bits && vex_bit_get(test->table, (size_t)code);
}

static inline bool is_in_set(const vex_code_test *test, uint64_t code) {
    return code == EMPTY ? test->has_empty : test->table[slot_of(test, code)] == code;
}

uint64_t vex_code_test_block(const vex_code_test *test, const uint8_t *codes, uint8_t width,
                             uint64_t candidates) {
    uint64_t hits = 0;
    switch (test->kind) {
    case VEX_CODES_NONE:
        break;
    case VEX_CODES_RANGE:
        hits = test_range(codes, width, test->low, test->span);
        break;
    case VEX_CODES_FEW:
        hits = test_few(test, codes, width);
        break;
    case VEX_CODES_BITMAP:
        for (uint64_t word = candidates; word != 0; word &= word - 1) {
            unsigned i = (unsigned)__builtin_ctzll(word);
            hits |= (uint64_t)is_in_bitmap(test, code_at(codes, width, i)) << i;
        }
        break;
    case VEX_CODES_SET:
        for (uint64_t word = candidates; word != 0; word &= word - 1) {
            unsigned i = (unsigned)__builtin_ctzll(word);
            hits |= (uint64_t)is_in_set(test, code_at(codes, width, i)) << i;
        }
        break;
    }
    return candidates & (test->negated ? ~hits : hits);
}
