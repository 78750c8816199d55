/*
 * t_filter_leaf.c - what each operator means for one value, metadata maps, substrings.
 */
#include "tests/filter_kit.h"

/* ---- values ---- */

static vex_value integer(int64_t v) {
    return (vex_value){.type = VEX_VALUE_INT, .integer = v};
}
static vex_value number(double v) {
    return (vex_value){.type = VEX_VALUE_FLOAT, .number = v};
}

static void check_order(vex_value a, vex_value b, int order) {
    CHECK_EQ(vex_number_compare(&a, &b), order);
    CHECK_EQ(vex_number_compare(&b, &a), order == 2 ? 2 : -order);
    vex_value same;
    if (a.type != b.type) { /* exactly the other's value, or none */
        bool exact = vex_number_as(&a, b.type, &same);
        CHECK(!exact || vex_number_compare(&same, &a) == 0);
        CHECK(exact || order != 0);
    }
}

TEST(filter_numbers_compare_exactly) {
    const double two53 = 9007199254740992.0, two63 = 9223372036854775808.0;
    check_order(integer(1), integer(2), -1);
    check_order(integer(INT64_MIN), integer(INT64_MAX), -1);
    check_order(integer(1), number(1.0), 0);
    check_order(integer(1), number(1.5), -1);
    check_order(integer(2), number(1.5), 1);
    check_order(integer(-1), number(-1.5), 1);
    check_order(integer(-2), number(-1.5), -1);
    check_order(integer(0), number(-0.0), 0);
    check_order(integer(0), number(5e-324), -1);
    check_order(integer(0), number(-5e-324), 1);
    check_order(number(0.0), number(-0.0), 0);
    check_order(integer((1LL << 53) + 1), number(two53), 1);
    check_order(integer(1LL << 53), number(two53), 0);
    check_order(integer((1LL << 53) - 1), number(two53), -1);
    check_order(integer((1LL << 53) + 1), number(two53 + 2), -1);
    check_order(integer(INT64_MAX), number(two63), -1);
    check_order(integer(INT64_MAX), number(9223372036854774784.0), 1);
    check_order(integer(INT64_MIN), number(-two63), 0);
    check_order(integer(INT64_MIN + 1), number(-two63), 1);
    check_order(integer(INT64_MIN), number(-9223372036854777856.0), 1);
    check_order(integer(INT64_MAX), number(INFINITY), -1);
    check_order(integer(INT64_MIN), number(-INFINITY), 1);
    check_order(number(-INFINITY), number(INFINITY), -1);
    check_order(integer(0), number(NAN), 2);
    check_order(number(NAN), number(NAN), 2);
    for (int round = 0; round < 20000; round++) { /* against the 64 bits of a long double */
        int64_t whole = (int64_t)(test_random() >> test_random_below(64));
        double near = (double)whole + (double)((int)test_random_below(5) - 2) / 2;
        long double exact = (long double)whole, other = (long double)near;
        if (sizeof exact > sizeof near && exact - 1 != exact) {
            check_order(integer(whole), number(near), exact < other ? -1 : exact > other);
        }
    }
}

/* Does [op, key, operand] hold for a value?  Both as MessagePack. */
static bool holds(long long op, const vex_buf *operand, const vex_buf *value) {
    vex_buf bytes = {0};
    vex_filter filter;
    kit_put(&bytes, "ais", 3u, op, "key");
    CHECK_OK(vex_buf_append(&bytes, operand->data, operand->len));
    CHECK_OK(kit_parse(&bytes, &filter));
    vex_mp_reader reader = vex_mp_reader_make(value->data, value->len);
    vex_value stored = vex_value_read(&reader);
    CHECK(vex_mp_at_end(&reader));
    bool result = vex_leaf_matches(filter.root, &stored);
    vex_filter_clear(&filter);
    vex_buf_clear(&bytes);
    return result;
}

/* [op, key, text] for a string; and its opposite. */
static void check_text(long long op, const char *text, const char *value, bool expected) {
    vex_buf operand = {0}, stored = {0};
    kit_put(&operand, "s", text);
    kit_put(&stored, "s", value);
    CHECK_EQ(holds(op, &operand, &stored), expected);
    CHECK_EQ(holds(op + 1, &operand, &stored), !expected);
    vex_buf_clear(&stored);
    kit_put(&stored, "as", 1u, value); /* in a list it is no string */
    CHECK(!holds(op, &operand, &stored) && holds(op + 1, &operand, &stored));
    vex_buf_clear(&stored);
    kit_put(&stored, "i", 1LL);
    CHECK(!holds(op, &operand, &stored) && holds(op + 1, &operand, &stored));
    vex_buf_clear(&operand);
    vex_buf_clear(&stored);
}

TEST(filter_operators_on_text) {
    check_text(VEX_F_TEXT_CONTAINS, "ell", "Hello", true);
    check_text(VEX_F_TEXT_CONTAINS, "ELL", "Hello", false);
    check_text(VEX_F_TEXT_CONTAINS, "", "", true);
    check_text(VEX_F_TEXT_STARTS, "Hell", "Hello", true);
    check_text(VEX_F_TEXT_STARTS, "ello", "Hello", false);
    check_text(VEX_F_TEXT_STARTS, "Hello!", "Hello", false);
    check_text(VEX_F_TEXT_STARTS, "", "", true);
    check_text(VEX_F_TEXT_ICONTAINS, "ELL", "Hello", true);
    check_text(VEX_F_TEXT_ICONTAINS, "TRASS",
               "Stra\xc3\x9f"
               "e",
               true);
    check_text(VEX_F_TEXT_ICONTAINS, "elo", "Hello", false);
    check_text(VEX_F_TEXT_ISTARTS, "hELL", "Hello", true);
    check_text(VEX_F_TEXT_ISTARTS, "ello", "Hello", false);
    check_text(VEX_F_TEXT_IEQ, "STRASSE",
               "Stra\xc3\x9f"
               "e",
               true);
    check_text(VEX_F_TEXT_IEQ, "Stras", "Stra\xc3\x9f", false); /* half of its last letter */
    check_text(VEX_F_TEXT_IEQ, "", "", true);
}

/* Strings are in the order of code points, as which UTF-8 is sorted. */
TEST(filter_operators_on_the_order_of_strings) {
    static const char *const texts[] = {
        "", "A", "Z", "a", "a\x01", "aa", "\xc3\xa9", "\xef\xbf\xbd", "\xf0\x90\x80\x80"};
    for (int i = 0; i < 9; i++) {
        for (int j = 0; j < 9; j++) {
            vex_buf value = {0}, operand = {0};
            kit_put(&value, "s", texts[i]);
            kit_put(&operand, "s", texts[j]);
            CHECK_EQ(holds(VEX_F_GT, &operand, &value), i > j);
            CHECK_EQ(holds(VEX_F_GE, &operand, &value), i >= j);
            CHECK_EQ(holds(VEX_F_LT, &operand, &value), i < j);
            CHECK_EQ(holds(VEX_F_LE, &operand, &value), i <= j);
            vex_buf_clear(&value);
            kit_put(&value, "i", 1LL); /* not with other types */
            CHECK(!holds(VEX_F_GT, &operand, &value) && !holds(VEX_F_LE, &operand, &value));
            CHECK(!holds(VEX_F_GT, &value, &operand) && !holds(VEX_F_LE, &value, &operand));
            vex_buf_clear(&value);
            vex_buf_clear(&operand);
        }
    }
}

/* One scalar operand against one value: "=" equal, "<" the value is less, ">" more, "!" of types
 * that do not compare. */
static void check_scalar(const vex_buf *value, const vex_buf *operand, char relation) {
    bool equal = relation == '=', less = relation == '<', more = relation == '>';
    vex_mp_kind kind =
        vex_mp_peek(&(vex_mp_reader){.in = vex_cursor_make(operand->data, operand->len)});
    CHECK_EQ(holds(VEX_F_EQ, operand, value), equal);
    CHECK_EQ(holds(VEX_F_NE, operand, value), !equal);
    if (kind == VEX_MP_INT || kind == VEX_MP_FLOAT) {
        CHECK_EQ(holds(VEX_F_GT, operand, value), more);
        CHECK_EQ(holds(VEX_F_GE, operand, value), more || equal);
        CHECK_EQ(holds(VEX_F_LT, operand, value), less);
        CHECK_EQ(holds(VEX_F_LE, operand, value), less || equal);
    }
    vex_buf list = {0}; /* among others of all types */
    kit_put(&list, "aidsb", 5u, -77LL, -77.5, "nothing like it", 0);
    CHECK_OK(vex_buf_append(&list, operand->data, operand->len));
    bool is_false = value->len == 1 && value->data[0] == 0xc2;
    CHECK_EQ(holds(VEX_F_IN, &list, value), equal || is_false);
    CHECK_EQ(holds(VEX_F_NIN, &list, value), !(equal || is_false));
    CHECK(!holds(VEX_F_CONTAINS, operand, value)); /* a scalar is no list */
    CHECK(holds(VEX_F_NOT_CONTAINS, operand, value));
    vex_buf_clear(&list);
}

#define CHECK_SCALAR(relation, forms, value, operand)                                              \
    do {                                                                                           \
        vex_buf value_ = {0}, operand_ = {0};                                                      \
        const char form_v_[] = {(forms)[0], 0}, form_o_[] = {(forms)[1], 0};                       \
        kit_put(&value_, form_v_, value);                                                          \
        kit_put(&operand_, form_o_, operand);                                                      \
        check_scalar(&value_, &operand_, relation);                                                \
        vex_buf_clear(&value_);                                                                    \
        vex_buf_clear(&operand_);                                                                  \
    } while (0)

TEST(filter_operators_on_scalars) {
    CHECK_SCALAR('=', "ii", 1LL, 1LL);
    CHECK_SCALAR('<', "ii", 1LL, 2LL);
    CHECK_SCALAR('=', "id", 1LL, 1.0);
    CHECK_SCALAR('<', "id", 1LL, 1.5);
    CHECK_SCALAR('>', "id", 2LL, 1.5);
    CHECK_SCALAR('=', "di", 2.0, 2LL);
    CHECK_SCALAR('>', "di", 2.5, 2LL);
    CHECK_SCALAR('=', "dd", 0.0, -0.0);
    CHECK_SCALAR('=', "di", -0.0, 0LL);
    CHECK_SCALAR('=', "id", 0LL, -0.0);
    CHECK_SCALAR('>', "id", 9007199254740993LL, 9007199254740992.0);
    CHECK_SCALAR('<', "di", 9007199254740992.0, 9007199254740993LL);
    CHECK_SCALAR('<', "id", (long long)INT64_MAX, 9223372036854775808.0);
    CHECK_SCALAR('=', "id", (long long)INT64_MIN, -9223372036854775808.0);
    CHECK_SCALAR('>', "di", 9223372036854775808.0, (long long)INT64_MAX);
    CHECK_SCALAR('>', "di", (double)INFINITY, (long long)INT64_MAX);
    CHECK_SCALAR('!', "di", (double)NAN, 1LL);
    CHECK_SCALAR('!', "dd", (double)NAN, (double)INFINITY);
    CHECK_SCALAR('!', "bi", 1, 1LL);
    CHECK_SCALAR('!', "ib", 1LL, 1);
    CHECK_SCALAR('!', "bd", 0, 0.0);
    CHECK_SCALAR('=', "bb", 1, 1);
    CHECK_SCALAR('!', "bb", 1, 0);
    CHECK_SCALAR('=', "ss", "", "");
    CHECK_SCALAR('!', "ss", "text", "tex");
    CHECK_SCALAR('!', "ss", "tex", "text");
    CHECK_SCALAR('!', "ss", "1", "2");
    CHECK_SCALAR('!', "si", "1", 1LL);
    CHECK_SCALAR('!', "is", 1LL, "1");
    CHECK_SCALAR('!', "sb", "", 0);
    CHECK_SCALAR('!', "ni", 0, 1LL); /* absent */
    CHECK_SCALAR('!', "ns", 0, "");
    vex_buf sparse = {0}, one = {0};
    CHECK_OK(vex_mp_put_ext(&sparse, 1, "12345678", 8));
    kit_put(&one, "i", 1LL);
    check_scalar(&sparse, &one, '!');
    vex_buf_clear(&sparse);
    vex_buf_clear(&one);
}

TEST(filter_operators_on_lists) {
    static const struct {
        const char *list, *item; /* forms */
        bool contained;
    } cases[] = {{"ii", "i", true},  {"ii", "d", false}, {"dd", "d", true}, {"dd", "i", false},
                 {"ss", "s", true},  {"ss", "i", false}, {"bb", "b", true}, {"bb", "i", false},
                 {"ii", "b", false}, {"dd", "b", false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        vex_buf list = {0}, item = {0}, items = {0};
        kit_put(&list, "a", 2u);
        for (int part = 0; part < 2; part++) { /* [0, 1] in each type */
            const char form[] = {cases[i].list[part], 0};
            if (form[0] == 'd') {
                kit_put(&list, form, (double)part);
            } else if (form[0] == 's') {
                kit_put(&list, form, part ? "text" : "");
            } else if (form[0] == 'b') {
                kit_put(&list, form, part);
            } else {
                kit_put(&list, form, (long long)part);
            }
        }
        if (cases[i].item[0] == 'd') {
            kit_put(&item, "d", 1.0);
        } else if (cases[i].item[0] == 's') {
            kit_put(&item, "s", "text");
        } else if (cases[i].item[0] == 'b') {
            kit_put(&item, "b", 1);
        } else {
            kit_put(&item, "i", 1LL);
        }
        CHECK_EQ(holds(VEX_F_CONTAINS, &item, &list), cases[i].contained);
        CHECK_EQ(holds(VEX_F_NOT_CONTAINS, &item, &list), !cases[i].contained);
        kit_put(&items, "a", 1u);
        CHECK_OK(vex_buf_append(&items, item.data, item.len));
        CHECK(!holds(VEX_F_EQ, &item, &list) && holds(VEX_F_NE, &item, &list));
        CHECK(!holds(VEX_F_IN, &items, &list) && holds(VEX_F_NIN, &items, &list));
        vex_buf_clear(&items);
        kit_put(&items, "i", 0LL); /* orderings never hold for a list */
        for (long long op = VEX_F_GT; op <= VEX_F_LE; op++) {
            CHECK(!holds(op, &items, &list));
        }
        vex_buf_clear(&list);
        vex_buf_clear(&item);
        vex_buf_clear(&items);
    }
    vex_buf list = {0}, item = {0}; /* a part of an element, and a string that goes on */
    kit_put(&list, "ass", 2u, "abc", "");
    kit_put(&item, "s", "ab");
    CHECK(!holds(VEX_F_CONTAINS, &item, &list));
    vex_buf_clear(&item);
    kit_put(&item, "s", "abcd");
    CHECK(!holds(VEX_F_CONTAINS, &item, &list));
    vex_buf_clear(&item);
    kit_put(&item, "s", "");
    CHECK(holds(VEX_F_CONTAINS, &item, &list));
    vex_buf_clear(&item);
    vex_buf_clear(&list);
    kit_put(&list, "s", "\x91\xa1x"); /* a string that would read as the list ["x"] */
    kit_put(&item, "s", "x");
    CHECK(!holds(VEX_F_CONTAINS, &item, &list));
    CHECK(holds(VEX_F_NOT_CONTAINS, &item, &list));
    vex_buf_clear(&item);
    vex_buf_clear(&list);
    kit_put(&list, "anid", 3u, 5LL, (double)NAN); /* not stored by vexfs, but of no harm */
    kit_put(&item, "i", 5LL);
    CHECK(holds(VEX_F_CONTAINS, &item, &list));
    vex_buf_clear(&item);
    vex_buf_clear(&list);
}

TEST(filter_in_finds_what_a_scan_finds) {
    for (int round = 0; round < 300; round++) {
        vex_buf bytes = {0};
        vex_filter filter;
        uint32_t n = test_random_below(50);
        kit_put(&bytes, "aisa", 3u, (long long)VEX_F_IN, "key", n);
        for (uint32_t i = 0; i < n; i++) {
            kit_random_scalar(&bytes, test_random_below(4));
        }
        CHECK_OK(kit_parse(&bytes, &filter));
        for (int i = 0; i < 60; i++) {
            vex_buf scalar = {0};
            kit_random_scalar(&scalar, test_random_below(4));
            vex_mp_reader reader = vex_mp_reader_make(scalar.data, scalar.len);
            vex_value value = vex_value_read(&reader);
            bool expected = false;
            for (uint32_t o = 0; o < n; o++) {
                const vex_expr equal = {.op = VEX_F_EQ, .operand = filter.root->operands[o]};
                expected = expected || vex_leaf_matches(&equal, &value);
            }
            CHECK_EQ(vex_leaf_matches(filter.root, &value), expected);
            vex_buf_clear(&scalar);
        }
        vex_filter_clear(&filter);
        vex_buf_clear(&bytes);
    }
}

/* ---- metadata maps ---- */

static vex_value find(const vex_buf *map, const char *key) {
    return vex_metadata_find(map->data, map->len, (const uint8_t *)key, strlen(key));
}

TEST(filter_metadata_find) {
    vex_buf map = {0};
    kit_put(&map, "m", 9u);
    kit_put(&map, "sms", "a map", 1u, "inside");
    kit_put(&map, "ai", 1u, 5LL);       /* inside: [5] */
    kit_put(&map, "aii", 1u, 7LL, 8LL); /* a key that is a list */
    kit_put(&map, "sn", "nil, then 3");
    kit_put(&map, "si", "one", 1LL);
    kit_put(&map, "si", "one", 2LL);
    kit_put(&map, "si", "nil, then 3", 3LL);
    kit_put(&map, "s", "ext 2");
    CHECK_OK(vex_mp_put_ext(&map, 2, "x", 1));
    kit_put(&map, "s", "ext 1");
    CHECK_OK(vex_mp_put_ext(&map, 1, "1234", 4));
    kit_put(&map, "ss", "", "empty");
    CHECK_EQ(find(&map, "one").integer, 1);
    CHECK_EQ(find(&map, "nil, then 3").integer, 3);
    CHECK_EQ(find(&map, "a map").type, VEX_VALUE_ABSENT);
    CHECK_EQ(find(&map, "inside").type, VEX_VALUE_ABSENT);
    CHECK_EQ(find(&map, "ext 2").type, VEX_VALUE_ABSENT);
    CHECK_EQ(find(&map, "ext 1").type, VEX_VALUE_SPARSE);
    CHECK_EQ(find(&map, "").len, 5);
    CHECK_EQ(find(&map, "on").type, VEX_VALUE_ABSENT);
    CHECK_EQ(vex_metadata_find(NULL, 0, (const uint8_t *)"one", 3).type, VEX_VALUE_ABSENT);
    for (size_t len = 0; len < map.len; len++) { /* truncated: nothing outside is read */
        uint8_t *exact = malloc(len + !len);
        memcpy(exact, map.data, len);
        vex_value value = vex_metadata_find(exact, len, (const uint8_t *)"", 0);
        CHECK_EQ(value.type, VEX_VALUE_ABSENT);
        free(exact);
    }
    vex_buf_clear(&map);
}

/* ---- substrings ---- */

static bool contains(const char *text, const char *needle) {
    return vex_text_contains((const uint8_t *)text, strlen(text), (const uint8_t *)needle,
                             strlen(needle));
}

TEST(filter_text_contains) {
    CHECK(contains("", "") && contains("x", ""));
    CHECK(!contains("", "x"));
    CHECK(contains("x", "x") && !contains("x", "X"));
    CHECK(contains("aaab", "aab") && contains("ababac", "abac"));
    CHECK(contains("xyxyxyz", "xyxyz") && !contains("xyxyxy", "xyxyz"));
    CHECK(contains("100% _\\", "% _\\") && !contains("100", "%"));
    CHECK(contains("\xe6\x97\xa5\xe6\x9c\xac", "\xe6\x9c\xac"));
    CHECK(!contains("short", "a needle longer than the text"));
}

/* Small alphabets, so that first and last bytes and prefixes agree all the time. */
TEST(filter_text_contains_what_a_scan_finds) {
    for (int round = 0; round < 30000; round++) {
        size_t len = test_random_below(100), needle_len = test_random_below(24), n_hits = 0;
        uint32_t letters = 1 + test_random_below(3);
        uint8_t *text = malloc(len + 1), *needle = malloc(needle_len + 1);
        for (size_t i = 0; i < len; i++) {
            text[i] = (uint8_t)('a' + test_random_below(letters));
        }
        for (size_t i = 0; i < needle_len; i++) {
            needle[i] = (uint8_t)('a' + test_random_below(letters));
        }
        text = realloc(text, len + !len); /* exact, so that a read past the end shows */
        needle = realloc(needle, needle_len + !needle_len);
        for (size_t i = 0; needle_len <= len && i <= len - needle_len; i++) {
            n_hits += memcmp(text + i, needle, needle_len) == 0;
        }
        CHECK_EQ(vex_text_contains(text, len, needle, needle_len), n_hits > 0);
        free(text);
        free(needle);
    }
}
