/*
 * t_crc.c - CRC-32C: known answers, and the hardware path against the portable one.
 */
#include "base/crc32c.h"
#include "base/mem.h"
#include "tests/harness.h"

/* Bit by bit, straight from the definition. */
static uint32_t by_definition(uint32_t seed, const uint8_t *p, size_t len) {
    uint32_t state = ~seed;
    for (size_t i = 0; i < len; i++) {
        state ^= p[i];
        for (int bit = 0; bit < 8; bit++) {
            state = state >> 1 ^ (state & 1 ? 0x82F63B78u : 0);
        }
    }
    return ~state;
}

TEST(crc_known_answers) {
    uint8_t block[32];
    CHECK_EQ(vex_crc32c(0, "", 0), 0);
    CHECK_EQ(vex_crc32c(0, "123456789", 9), 0xE3069283u);
    CHECK_EQ(vex_crc32c_portable(0, "123456789", 9), 0xE3069283u);
    /* RFC 3720, appendix B.4 */
    memset(block, 0, sizeof block);
    CHECK_EQ(vex_crc32c(0, block, sizeof block), 0x8A9136AAu);
    memset(block, 0xFF, sizeof block);
    CHECK_EQ(vex_crc32c(0, block, sizeof block), 0x62A8AB43u);
    for (int i = 0; i < 32; i++) {
        block[i] = (uint8_t)i;
    }
    CHECK_EQ(vex_crc32c(0, block, sizeof block), 0x46DD794Eu);
    for (int i = 0; i < 32; i++) {
        block[i] = (uint8_t)(31 - i);
    }
    CHECK_EQ(vex_crc32c(0, block, sizeof block), 0x113FDB5Cu);
}

/* The bytes lie at the end of their own allocation, so that a read past them is noticed. */
static void check_len(const uint8_t *bytes, size_t len, size_t misalign) {
    uint8_t *copy = vex_malloc(misalign + len);
    CHECK(copy != NULL);
    memcpy(copy + misalign, bytes, len);
    uint32_t seed = (uint32_t)test_random();
    uint32_t expected = by_definition(seed, bytes, len);
    uint32_t fast = vex_crc32c(seed, copy + misalign, len);
    uint32_t portable = vex_crc32c_portable(seed, copy + misalign, len);
    vex_free(copy);
    CHECK_EQ(fast, expected);
    CHECK_EQ(portable, expected);
}

TEST(crc_hardware_equals_portable) {
    static uint8_t bytes[20000];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)test_random();
    }
    for (size_t len = 0; len < 200; len++) {
        for (size_t misalign = 0; misalign < 8; misalign++) {
            check_len(bytes, len, misalign);
        }
    }
    /* around the sizes where lanes begin, and anywhere */
    for (size_t lanes = 1; lanes <= 3; lanes++) {
        for (size_t around = 0; around < 40; around++) {
            check_len(bytes, lanes * 3072 - 20 + around, around % 8);
        }
    }
    for (int i = 0; i < 200; i++) {
        check_len(bytes, test_random_below(sizeof bytes), test_random_below(8));
    }
}

TEST(crc_continues) {
    static uint8_t bytes[10000];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)test_random();
    }
    uint32_t whole = vex_crc32c(0, bytes, sizeof bytes);
    for (int i = 0; i < 100; i++) {
        size_t cut = test_random_below(sizeof bytes + 1);
        uint32_t head = vex_crc32c(0, bytes, cut);
        CHECK_EQ(vex_crc32c(head, bytes + cut, sizeof bytes - cut), whole);
    }
}

/* A flipped bit is found where it is; in the stored checksum, too; two are not taken for one. */
TEST(crc_flipped_bit) {
    uint8_t bytes[5000];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)test_random();
    }
    for (uint32_t i = 0; i < 300; i++) {
        size_t len = 1 + test_random_below((uint32_t)sizeof bytes);
        uint32_t crc = vex_crc32c(0, bytes, len);
        uint64_t bit = test_random_below((uint32_t)len * 8), other = (bit + 77) % (len * 8);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK_EQ(vex_crc32c_flipped_bit(len, crc ^ vex_crc32c(0, bytes, len)), bit);
        bytes[other / 8] ^= (uint8_t)(1u << other % 8);
        if (other != bit) {
            CHECK_EQ(vex_crc32c_flipped_bit(len, crc ^ vex_crc32c(0, bytes, len)), VEX_CRC32C_NONE);
        }
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        bytes[other / 8] ^= (uint8_t)(1u << other % 8);
        CHECK_EQ(vex_crc32c_flipped_bit(len, 1u << test_random_below(32)), VEX_CRC32C_ITSELF);
    }
}
