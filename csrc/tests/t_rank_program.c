/*
 * t_rank_program.c - rank expressions: what is refused, and what their values are.
 */
#include "tests/rank_kit.h"

#include "rank/group.h"
#include "rank/program.h"

static const uint8_t one[] = {0, 0, 128, 63}; /* 1.0f */

static void put_val(vex_buf *out, double number) {
    kit_put(out, "aid", 2u, (long long)VEX_R_VAL, number);
}

static void put_op(vex_buf *out, uint32_t op) {
    kit_put(out, "ai", 1u, (long long)op);
}

/* A search for the vector (1); `fallback` NaN: no default. */
static void put_nearest(vex_buf *out, long long limit, double fallback, bool by_rank) {
    static const uint8_t bin[] = {0xc4, 4};
    kit_put(out, "ai", 5u, (long long)VEX_R_NEAREST);
    CHECK_OK(vex_buf_append(out, bin, sizeof bin));
    CHECK_OK(vex_buf_append(out, one, sizeof one));
    kit_put(out, "i", limit);
    kit_put(out, fallback == fallback ? "d" : "n", fallback);
    kit_put(out, "b", (int)by_rank);
}

static vex_status parse(vex_rank_program *program, const vex_buf *bytes) {
    vex_mp_reader reader = vex_mp_reader_make(bytes->data, bytes->len);
    return vex_rank_program_parse(program, &reader);
}

static void check_refused(vex_buf *bytes, vex_status expected, const char *text) {
    vex_rank_program program = {0};
    CHECK_STATUS(parse(&program, bytes), expected);
    if (strstr(vex_last_error()->message, text) == NULL) {
        test_failed(__FILE__, __LINE__, "\"%s\" says nothing of %s", vex_last_error()->message,
                    text);
    }
    vex_buf_clear(bytes);
}

TEST(rank_expressions_are_checked) {
    vex_buf bytes = {0};
    kit_put(&bytes, "i", 1LL);
    check_refused(&bytes, VEX_ERR_INVALID, "array of operators");
    kit_put(&bytes, "a", 0u);
    check_refused(&bytes, VEX_ERR_INVALID, "array of operators");
    kit_put(&bytes, "aai", 1u, 1u, 99LL);
    check_refused(&bytes, VEX_ERR_INVALID, "unknown operator");
    kit_put(&bytes, "aai", 1u, 2u, (long long)VEX_R_ADD);
    check_refused(&bytes, VEX_ERR_INVALID, "as many operands");
    kit_put(&bytes, "aais", 1u, 2u, (long long)VEX_R_VAL, "x");
    check_refused(&bytes, VEX_ERR_INVALID, "constant must be a number");
    kit_put(&bytes, "a", 1u);
    put_op(&bytes, VEX_R_ABS);
    check_refused(&bytes, VEX_ERR_INVALID, "lacks operands");
    kit_put(&bytes, "a", 2u);
    put_val(&bytes, 1);
    put_op(&bytes, VEX_R_ADD);
    check_refused(&bytes, VEX_ERR_INVALID, "lacks operands");
    kit_put(&bytes, "a", 2u);
    put_val(&bytes, 1);
    put_val(&bytes, 2);
    check_refused(&bytes, VEX_ERR_INVALID, "one value");
    kit_put(&bytes, "a", 1u);
    put_nearest(&bytes, 0, 1, false);
    check_refused(&bytes, VEX_ERR_INVALID, "limit must be");
    kit_put(&bytes, "aaisinb", 1u, 5u, (long long)VEX_R_NEAREST, "text", 1LL, 0);
    check_refused(&bytes, VEX_ERR_INVALID, "float32 numbers");
    kit_put(&bytes, "a", 3u);
    check_refused(&bytes, VEX_ERR_INVALID, "malformed");
}

TEST(rank_expressions_have_limits) {
    vex_buf bytes = {0};
    kit_put(&bytes, "a", VEX_RANK_DEPTH_MAX + 1);
    for (uint32_t i = 0; i <= VEX_RANK_DEPTH_MAX; i++) {
        put_val(&bytes, 1);
    }
    check_refused(&bytes, VEX_ERR_TOO_BIG, "nested more than");
    kit_put(&bytes, "a", 2 * VEX_RANK_LEAVES_MAX + 1);
    for (uint32_t i = 0; i <= VEX_RANK_LEAVES_MAX; i++) {
        put_nearest(&bytes, 1, 1, false);
        if (i > 0) {
            put_op(&bytes, VEX_R_ADD);
        }
    }
    check_refused(&bytes, VEX_ERR_TOO_BIG, "at most 1024 searches");
    kit_put(&bytes, "a", VEX_RANK_STEPS_MAX + 1);
    put_val(&bytes, 1);
    for (uint32_t i = 0; i < VEX_RANK_STEPS_MAX; i++) {
        put_op(&bytes, VEX_R_ABS);
    }
    check_refused(&bytes, VEX_ERR_TOO_BIG, "more than 65536 parts");
}

/* ---- values ---- */

/* Two leaves find records 1, 2, 3 with 10, 20, 30 and records 3, 4 with 100, 200. */
static void evaluate(vex_buf *bytes, vex_scored_list *out) {
    vex_scored first[] = {{.row = {.seq = 1}, .score = 10},
                          {.row = {.seq = 2}, .score = 20},
                          {.row = {.seq = 3}, .score = 30}};
    vex_scored second[] = {{.row = {.seq = 3}, .score = 100}, {.row = {.seq = 4}, .score = 200}};
    const vex_scored_list found[] = {{.items = first, .n = 3}, {.items = second, .n = 2}};
    vex_rank_program program = {0};
    CHECK_OK(parse(&program, bytes));
    CHECK(program.n_leaves <= 2);
    CHECK_OK(vex_rank_evaluate(&program, found, out));
    vex_rank_program_clear(&program);
    vex_buf_clear(bytes);
}

static void check_value(vex_buf *bytes, const char *expected) {
    vex_scored_list value = {0};
    char text[400] = "";
    size_t at = 0;
    evaluate(bytes, &value);
    for (size_t i = 0; i < value.n; i++) {
        at += (size_t)snprintf(text + at, sizeof text - at, "%u:%g ",
                               (unsigned)value.items[i].row.seq, (double)value.items[i].score);
    }
    if (strcmp(text, expected) != 0) {
        test_failed(__FILE__, __LINE__, "the value is %s, expected %s", text, expected);
    }
    vex_scored_list_clear(&value);
}

/* a - b, with the defaults given; NaN: none. */
static void put_difference(vex_buf *out, double a, double b) {
    kit_put(out, "a", 3u);
    put_nearest(out, 3, a, false);
    put_nearest(out, 3, b, false);
    put_op(out, VEX_R_SUB);
}

TEST(supports_are_joined_by_defaults) {
    vex_buf bytes = {0};
    put_difference(&bytes, NAN, NAN);
    check_value(&bytes, "3:-70 ");
    put_difference(&bytes, 1, NAN);
    check_value(&bytes, "4:-199 3:-70 ");
    put_difference(&bytes, NAN, 2);
    check_value(&bytes, "3:-70 1:8 2:18 ");
    put_difference(&bytes, 1, 2);
    check_value(&bytes, "4:-199 3:-70 1:8 2:18 ");
    kit_put(&bytes, "a", 1u);
    put_val(&bytes, 3);
    check_value(&bytes, "");
    kit_put(&bytes, "a", 1u);
    put_nearest(&bytes, 3, NAN, true);
    check_value(&bytes, "1:0 2:1 3:2 ");
}

static void put_applied(vex_buf *out, double number, uint32_t op) {
    kit_put(out, "a", 3u);
    put_nearest(out, 3, NAN, false);
    put_val(out, number);
    put_op(out, op);
}

TEST(operators_are_applied_record_by_record) {
    vex_buf bytes = {0};
    put_applied(&bytes, 5, VEX_R_ADD);
    check_value(&bytes, "1:15 2:25 3:35 ");
    put_applied(&bytes, -2, VEX_R_MUL);
    check_value(&bytes, "3:-60 2:-40 1:-20 ");
    put_applied(&bytes, 0, VEX_R_DIV);
    check_value(&bytes, "1:inf 2:inf 3:inf ");
    put_applied(&bytes, 20, VEX_R_MAX);
    check_value(&bytes, "1:20 2:20 3:30 ");
    put_applied(&bytes, NAN, VEX_R_MIN);
    check_value(&bytes, "1:10 2:20 3:30 ");
    put_applied(&bytes, NAN, VEX_R_ADD);
    check_value(&bytes, "1:nan 2:nan 3:nan ");
    kit_put(&bytes, "a", 2u);
    put_nearest(&bytes, 3, NAN, false);
    put_op(&bytes, VEX_R_LOG);
    check_value(&bytes, "1:2.30259 2:2.99573 3:3.4012 ");
    kit_put(&bytes, "a", 3u);
    put_nearest(&bytes, 3, NAN, true);
    put_op(&bytes, VEX_R_LOG);
    put_op(&bytes, VEX_R_EXP);
    check_value(&bytes, "1:0 2:1 3:2 ");
}

TEST(scores_have_one_order) {
    static const float ascending[] = {-INFINITY, -1, -0.0f, 0, 1, INFINITY, NAN};
    for (int i = 0; i < 7; i++) {
        for (int j = 0; j < 7; j++) {
            CHECK_EQ(vex_score_order(ascending[i], ascending[j]), (i > j) - (i < j));
        }
    }
    CHECK_EQ(vex_score_order(-NAN, NAN), 0);
}

/* ---- groups ---- */

TEST(groups_are_checked) {
    vex_buf bytes = {0};
    vex_group group = {0};
    vex_mp_reader reader;
    kit_put(&bytes, "aasiasi", 4u, 1u, "g", 2LL, 1u, "g", 1LL);
    reader = vex_mp_reader_make(bytes.data, bytes.len);
    CHECK_STATUS(vex_group_parse(&group, &reader), VEX_ERR_INVALID);
    bytes.len = 0;
    kit_put(&bytes, "aaniasi", 4u, 1u, 0LL, 1u, "g", 1LL);
    reader = vex_mp_reader_make(bytes.data, bytes.len);
    CHECK_STATUS(vex_group_parse(&group, &reader), VEX_ERR_INVALID);
    bytes.len = 0;
    kit_put(&bytes, "aasiasi", 4u, 1u, "g", 0LL, 1u, "g", 0LL);
    reader = vex_mp_reader_make(bytes.data, bytes.len);
    CHECK_STATUS(vex_group_parse(&group, &reader), VEX_ERR_INVALID);
    bytes.len = 0;
    kit_put(&bytes, "aasiani", 4u, 1u, "g", 1LL, 1u, 3LL);
    reader = vex_mp_reader_make(bytes.data, bytes.len);
    CHECK_OK(vex_group_parse(&group, &reader));
    CHECK(group.highest && group.k == 3 && group.n_by == 1 && group.n_order == 1);
    vex_group_clear(&group);
    vex_buf_clear(&bytes);
}
