/*
 * harness.h - the C unit tests: one binary, each test registers itself.
 *
 *   TEST(crc_known_answer) { CHECK_EQ(vex_crc32c(0, "123456789", 9), 0xE3069283u); }
 *
 * `./test_vexfs [--filter text] [--seed n] [--verbose] [--list]`.  A failed CHECK prints where and
 * what, and ends the test; only the thread that runs the test may CHECK.  Random tests
 * draw from test_random(), whose seed is printed on failure.
 */
#ifndef VEX_TESTS_HARNESS_H
#define VEX_TESTS_HARNESS_H

#include "include/vexfs.h"

#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef void (*test_function)(void);
void test_register(const char *file, const char *name, test_function function);
void test_failed(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4), noreturn));

/* xorshift generator seeded per test from --seed. */
uint64_t test_random(void);
static inline uint32_t test_random_below(uint32_t n) {
    return (uint32_t)(test_random() % n);
}
float test_random_float(void); /* in [-1, 1) */

/* A fresh scratch directory for this test, removed when it passes. */
const char *test_directory(void);

#define TEST(name)                                                                                 \
    static void test_##name(void);                                                                 \
    __attribute__((constructor)) static void test_register_##name(void) {                          \
        test_register(__FILE__, #name, test_##name);                                               \
    }                                                                                              \
    static void test_##name(void)

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            test_failed(__FILE__, __LINE__, "%s", #condition);                                     \
        }                                                                                          \
    } while (0)

#define CHECK_EQ(a, b)                                                                             \
    do {                                                                                           \
        long long check_a_ = (long long)(a), check_b_ = (long long)(b);                            \
        if (check_a_ != check_b_) {                                                                \
            test_failed(__FILE__, __LINE__, "%s is %lld, expected %s = %lld", #a, check_a_, #b,    \
                        check_b_);                                                                 \
        }                                                                                          \
    } while (0)

#define CHECK_OK(expression)                                                                       \
    do {                                                                                           \
        vex_status check_status_ = (expression);                                                   \
        if (check_status_ != VEX_OK) {                                                             \
            test_failed(__FILE__, __LINE__, "%s: %s: %s", #expression,                             \
                        vex_status_name(check_status_), vex_last_error()->message);                \
        }                                                                                          \
    } while (0)

#define CHECK_STATUS(expression, expected)                                                         \
    do {                                                                                           \
        vex_status check_status_ = (expression);                                                   \
        if (check_status_ != (expected)) {                                                         \
            test_failed(__FILE__, __LINE__, "%s is %s, expected %s", #expression,                  \
                        vex_status_name(check_status_), vex_status_name(expected));                \
        }                                                                                          \
    } while (0)

#endif
