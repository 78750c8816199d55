/*
 * t_filter_expr.c - parsing filters: what is taken, what is refused, what is released.
 */
#include "tests/filter_kit.h"

/* Parse and forget. */
static vex_status parses(const vex_buf *bytes) {
    vex_filter filter;
    vex_status status = kit_parse(bytes, &filter);
    if (status == VEX_OK) {
        CHECK(filter.root != NULL);
        vex_filter_clear(&filter);
    } else {
        CHECK(filter.root == NULL && filter.arena == NULL && filter.text.data == NULL);
    }
    return status;
}

/* ---- parsing ---- */

/* Filters with each operator, nested. */
static void put_example(vex_buf *out) {
    kit_put(out, "aia", 2u, (long long)VEX_F_AND, 13u);
    for (long long op = VEX_F_EQ; op <= VEX_F_LE; op++) {
        kit_put(out, "aisi", 3u, op, "key", op - 18);
    }
    kit_put(out, "aisaidsb", 3u, (long long)VEX_F_IN, "key", 4u, 1LL, 2.5, "text", 1);
    kit_put(out, "aisa", 3u, (long long)VEX_F_NIN, "", 0u);
    kit_put(out, "aiaaisdaiss", 2u, (long long)VEX_F_OR, 2u, 3u, (long long)VEX_F_CONTAINS, "list",
            1.5, 3u, (long long)VEX_F_NOT_CONTAINS, "list", "text");
    kit_put(out, "aiaaisaisaisais", 2u, (long long)VEX_F_OR, 4u, 2u, (long long)VEX_F_DOC_CONTAINS,
            "x", 2u, (long long)VEX_F_DOC_NOT_CONTAINS, "", 2u, (long long)VEX_F_DOC_REGEX,
            "pattern", 2u, (long long)VEX_F_DOC_NOT_REGEX, "other");
    kit_put(out, "aiaaiassaia", 2u, (long long)VEX_F_OR, 2u, 2u, (long long)VEX_F_ID_IN, 2u, "id1",
            "id0", 2u, (long long)VEX_F_ID_NOT_IN, 0u);
    kit_put(out, "aiaaisais", 2u, (long long)VEX_F_OR, 2u, 2u, (long long)VEX_F_EXISTS, "key", 2u,
            (long long)VEX_F_NOT_EXISTS, "");
    kit_put(out, "aiaaissaissais", 2u, (long long)VEX_F_OR, 3u, 3u, (long long)VEX_F_TEXT_CONTAINS,
            "key", "text", 3u, (long long)VEX_F_TEXT_NOT_IEQ, "key", "TeXT", 2u,
            (long long)VEX_F_DOC_ICONTAINS, "Doc");
}

TEST(filter_parse_every_operator) {
    kit_regex regex;
    kit_regex_install(&regex);
    vex_buf bytes = {0};
    vex_filter filter;
    put_example(&bytes);
    CHECK_OK(kit_parse(&bytes, &filter));
    const vex_expr *root = filter.root;
    CHECK_EQ(root->op, VEX_F_AND);
    CHECK_EQ(root->n_children, 13);
    CHECK(root->needs_document && !root->children[0]->needs_document);
    CHECK(!root->children[8]->needs_document && root->children[9]->needs_document);
    CHECK_EQ(root->children[2]->op, VEX_F_GT);
    CHECK_EQ(root->children[2]->operand.integer, 0);
    CHECK_EQ(root->children[2]->key_len, 3);
    const vex_expr *in = root->children[6];
    CHECK_EQ(in->n_operands, 4);
    for (uint32_t i = 1; i < in->n_operands; i++) { /* one of each type: sorted by type */
        CHECK(in->operands[i - 1].type < in->operands[i].type);
    }
    CHECK_EQ(root->children[7]->n_operands, 0);
    CHECK(memcmp(root->children[10]->children[0]->operands[0].bytes, "id1", 3) == 0);
    CHECK_EQ(root->children[11]->children[0]->operand.type, VEX_VALUE_ABSENT);
    const vex_expr *texts = root->children[12];
    CHECK(!texts->children[1]->needs_document && texts->children[2]->only_substrings);
    CHECK(texts->children[0]->needle.bytes == NULL);
    CHECK_EQ(texts->children[1]->needle.len, 4);
    CHECK(memcmp(texts->children[1]->needle.bytes, "text", 4) == 0);
    CHECK_EQ(regex.live, 2);
    vex_filter_clear(&filter);
    CHECK_EQ(regex.live, 0);
    vex_filter_clear(&filter); /* a cleared one may be cleared */
    vex_buf_clear(&bytes);
}

TEST(filter_parse_truncated_or_extended) {
    kit_regex regex;
    kit_regex_install(&regex);
    vex_buf bytes = {0};
    put_example(&bytes);
    for (size_t len = 0; len < bytes.len; len++) {
        void *exact = malloc(len + !len); /* so that a read past the end shows */
        memcpy(exact, bytes.data, len);
        const vex_buf cut = {exact, len, len};
        CHECK_STATUS(parses(&cut), VEX_ERR_INVALID);
        free(exact);
    }
    CHECK_OK(parses(&bytes));
    kit_put(&bytes, "n");
    CHECK_STATUS(parses(&bytes), VEX_ERR_INVALID);
    CHECK_EQ(regex.live, 0);
    CHECK(regex.compiled > 0);
    vex_buf_clear(&bytes);
}

TEST(filter_parse_random_bytes) {
    kit_regex regex;
    kit_regex_install(&regex);
    vex_buf example = {0};
    put_example(&example);
    for (int round = 0; round < 20000; round++) {
        vex_buf bytes = {0};
        if (round % 2 == 0) { /* damage a good one */
            CHECK_OK(vex_buf_append(&bytes, example.data, example.len));
            for (uint32_t i = 1 + test_random_below(3); i > 0; i--) {
                bytes.data[test_random_below((uint32_t)bytes.len)] = (uint8_t)test_random();
            }
        } else {
            for (uint32_t i = test_random_below(40); i > 0; i--) {
                uint8_t byte = (uint8_t)(test_random_below(2) ? test_random() : 0x90 + i % 8);
                CHECK_OK(vex_buf_append(&bytes, &byte, 1));
            }
        }
        vex_status status = parses(&bytes);
        CHECK(status == VEX_OK || status == VEX_ERR_INVALID || status == VEX_ERR_REGEX);
        vex_buf_clear(&bytes);
    }
    CHECK_EQ(regex.live, 0);
    vex_buf_clear(&example);
}

static void expect_invalid(vex_buf *bytes) {
    CHECK_STATUS(parses(bytes), VEX_ERR_INVALID);
    CHECK(strncmp(vex_last_error()->message, "filter: ", 8) == 0);
    vex_buf_clear(bytes);
}

TEST(filter_parse_refuses_malformed_nodes) {
    vex_buf b = {0};
    kit_regex regex;
    kit_regex_install(&regex);
    static const long long unknown[] = {
        0, 3, 15, 28, 31, 38, 47, 50, 63, 74, -1, INT64_MIN, 4294967296LL + VEX_F_EQ};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        kit_put(&b, "aisi", 3u, unknown[i], "key", 1LL);
        expect_invalid(&b);
    }
    kit_put(&b, "n"), expect_invalid(&b);
    kit_put(&b, "i", 16LL), expect_invalid(&b);
    kit_put(&b, "mi", 1u, 16LL, 1LL), expect_invalid(&b);
    kit_put(&b, "a", 0u), expect_invalid(&b);
    kit_put(&b, "ai", 1u, (long long)VEX_F_EQ), expect_invalid(&b);
    kit_put(&b, "adsi", 3u, 16.0, "key", 1LL), expect_invalid(&b);
    for (long long op = VEX_F_EQ; op <= VEX_F_NOT_CONTAINS; op++) {
        bool list = op == VEX_F_IN || op == VEX_F_NIN;
        kit_put(&b, "ais", 2u, op, "key"), expect_invalid(&b);
        kit_put(&b, "aisii", 4u, op, "key", 1LL, 1LL), expect_invalid(&b);
        kit_put(&b, "aiii", 3u, op, 1LL, 1LL), expect_invalid(&b); /* the key is no string */
        kit_put(&b, "aisn", 3u, op, "key"), expect_invalid(&b);
        kit_put(&b, "aism", 3u, op, "key", 0u), expect_invalid(&b);
        kit_put(&b, "aisan", 3u, op, "key", 1u), expect_invalid(&b);
        kit_put(&b, "aisaai", 3u, op, "key", 1u, 1u, 1LL), expect_invalid(&b);
        kit_put(&b, "aisad", 3u, op, "key", 1u, (double)NAN), expect_invalid(&b);
        kit_put(&b, "aisd", 3u, op, "key", (double)NAN), expect_invalid(&b);
        kit_put(&b, "ais", 3u, op, "key"); /* one for a list, a list for one */
        list ? kit_put(&b, "i", 1LL) : kit_put(&b, "ai", 1u, 1LL);
        expect_invalid(&b);
        if (op >= VEX_F_GT && op <= VEX_F_LE) {
            kit_put(&b, "aisb", 3u, op, "key", 1), expect_invalid(&b);
        }
        kit_put(&b, "ais", 3u, op, "key");
        CHECK_OK(vex_mp_put_ext(&b, 1, "1234", 4));
        expect_invalid(&b);
    }
    for (long long op = VEX_F_EXISTS; op <= VEX_F_NOT_EXISTS; op++) {
        kit_put(&b, "aii", 2u, op, 1LL), expect_invalid(&b);
        kit_put(&b, "aisb", 3u, op, "key", 1), expect_invalid(&b);
        kit_put(&b, "ain", 2u, op), expect_invalid(&b);
    }
    for (long long op = VEX_F_TEXT_CONTAINS; op <= VEX_F_TEXT_NOT_IEQ; op++) {
        kit_put(&b, "ais", 2u, op, "text"), expect_invalid(&b);
        kit_put(&b, "aisi", 3u, op, "key", 1LL), expect_invalid(&b);
        kit_put(&b, "aiis", 3u, op, 1LL, "text"), expect_invalid(&b);
        kit_put(&b, "aisas", 3u, op, "key", 1u, "text"), expect_invalid(&b);
    }
    for (long long op = VEX_F_DOC_CONTAINS; op <= VEX_F_DOC_NOT_ICONTAINS; op++) {
        kit_put(&b, "aii", 2u, op, 1LL), expect_invalid(&b);
        kit_put(&b, "ain", 2u, op), expect_invalid(&b);
        kit_put(&b, "aiss", 3u, op, "key", "text"), expect_invalid(&b);
        kit_put(&b, "aisais", 3u, op, "x", 2u, (long long)VEX_F_DOC_REGEX, "x"), expect_invalid(&b);
        kit_put(&b, "aisaisi", 3u, op, "x", 3u, (long long)VEX_F_EQ, "x", 1LL), expect_invalid(&b);
        kit_put(&b, "aisn", 3u, op, "x"), expect_invalid(&b);
    }
    for (long long op = VEX_F_ID_IN; op <= VEX_F_ID_NOT_IN; op++) {
        kit_put(&b, "ais", 2u, op, "id"), expect_invalid(&b);
        kit_put(&b, "aiai", 2u, op, 1u, 1LL), expect_invalid(&b);
        kit_put(&b, "aisas", 3u, op, "key", 1u, "id"), expect_invalid(&b);
    }
    for (long long op = VEX_F_AND; op <= VEX_F_OR; op++) {
        kit_put(&b, "aia", 2u, op, 0u), expect_invalid(&b);
        kit_put(&b, "aiaaisi", 2u, op, 1u, 3u, 16LL, "key", 1LL), expect_invalid(&b);
        kit_put(&b, "aiaaisii", 2u, op, 2u, 3u, 16LL, "key", 1LL, 5LL), expect_invalid(&b);
        kit_put(&b, "aiaaisiaisin", 3u, op, 2u, 3u, 16LL, "key", 1LL, 3u, 16LL, "key", 1LL);
        expect_invalid(&b);
        kit_put(&b, "aii", 2u, op, 5LL), expect_invalid(&b);
    }
}

/* What a pattern requires: 8 levels of it, wherever the pattern stands. */
static void put_required(vex_buf *out, uint32_t outer, uint32_t depth) {
    for (uint32_t i = 0; i < outer; i++) {
        kit_put(out, "aiaaisi", 2u, 2LL, 2u, 3u, (long long)VEX_F_EQ, "key", 1LL);
    }
    kit_put(out, "ais", 3u, (long long)VEX_F_DOC_REGEX, "pattern");
    for (uint32_t i = 0; i < depth; i++) {
        kit_put(out, "aiaais", 2u, i % 2 ? 1LL : 2LL, 2u, 2u, (long long)VEX_F_DOC_CONTAINS, "t");
    }
    kit_put(out, "ais", 2u, (long long)VEX_F_DOC_NOT_CONTAINS, "tern");
}

TEST(filter_parse_required) {
    kit_regex regex;
    kit_regex_install(&regex);
    static const uint32_t outer[] = {0, 3, 64, 65}, depths[] = {0, 1, 8, 9, 1000};
    for (size_t i = 0; i < 20; i++) {
        vex_buf bytes = {0};
        put_required(&bytes, outer[i / 5], depths[i % 5]);
        bool fine = outer[i / 5] <= 64 && depths[i % 5] <= 8;
        CHECK_STATUS(parses(&bytes), fine ? VEX_OK : VEX_ERR_INVALID);
        CHECK_EQ(regex.live, 0);
        vex_buf_clear(&bytes);
    }
    vex_buf bytes = {0};
    vex_filter filter;
    put_required(&bytes, 1, 1);
    CHECK_OK(kit_parse(&bytes, &filter));
    const vex_expr *pattern = filter.root->children[1];
    CHECK_EQ(pattern->n_children, 1);
    CHECK(pattern->needs_document && !pattern->only_substrings);
    CHECK(pattern->children[0]->op == VEX_F_OR && pattern->children[0]->only_substrings);
    CHECK(filter.root->needs_document && !filter.root->only_substrings);
    CHECK_EQ(regex.live, 1);
    vex_filter_clear(&filter);
    CHECK_EQ(regex.live, 0);
    vex_buf_clear(&bytes);
}

/* `depth` AND/OR nodes, each inside the one before. */
static void put_nested(vex_buf *out, uint32_t depth) {
    for (uint32_t i = 0; i < depth; i++) {
        kit_put(out, "aiaaisi", 2u, i % 2 ? 1LL : 2LL, 2u, 3u, (long long)VEX_F_EQ, "key", 1LL);
    }
    kit_put(out, "ais", 2u, (long long)VEX_F_DOC_REGEX, "deep");
}

TEST(filter_parse_depth) {
    kit_regex regex;
    kit_regex_install(&regex);
    static const uint32_t depths[] = {0, 1, 63, 64, 65, 66, 1000, 100000};
    for (size_t i = 0; i < sizeof depths / sizeof depths[0]; i++) {
        vex_buf bytes = {0};
        put_nested(&bytes, depths[i]);
        CHECK_STATUS(parses(&bytes), depths[i] <= 64 ? VEX_OK : VEX_ERR_INVALID);
        vex_buf_clear(&bytes);
    }
    vex_filter filter;
    vex_buf bytes = {0};
    put_nested(&bytes, 64);
    CHECK_OK(kit_parse(&bytes, &filter));
    CHECK(filter.root->needs_document); /* handed up all the way */
    CHECK_EQ(regex.live, 1);
    vex_filter_clear(&filter);
    CHECK_EQ(regex.live, 0);
    vex_buf_clear(&bytes);
}

TEST(filter_parse_counts_nodes_before_allocating) {
    vex_buf bytes = {0};
    kit_put(&bytes, "aia", 2u, (long long)VEX_F_OR, 1u << 20);
    CHECK_OK(vex_buf_append_zeros(&bytes, 2 << 20));
    uint64_t before = vex_stat_get(VEX_STAT_BULK_MAPS_TOTAL);
    CHECK_STATUS(parses(&bytes), VEX_ERR_INVALID);
    CHECK(strstr(vex_last_error()->message, "2^20") != NULL);
    CHECK(vex_stat_get(VEX_STAT_BULK_MAPS_TOTAL) <= before);
    vex_buf_clear(&bytes);
}

TEST(filter_parse_without_memory) {
    kit_regex regex;
    kit_regex_install(&regex);
    vex_buf bytes = {0};
    put_example(&bytes);
    uint64_t blocks = vex_stat_get(VEX_STAT_HEAP_BLOCKS);
    bool succeeded = false;
    for (uint64_t n = 1; !succeeded; n++) {
        vex_mem_fail_at(n, true);
        vex_status status = parses(&bytes);
        vex_mem_fail_at(0, false);
        succeeded = status == VEX_OK;
        CHECK(succeeded || status == VEX_ERR_NO_MEMORY);
        CHECK(n < 100);
        CHECK_EQ(vex_stat_get(VEX_STAT_HEAP_BLOCKS), blocks);
        CHECK_EQ(regex.live, 0);
    }
    vex_buf_clear(&bytes);
}

/* ---- regular expressions ---- */

TEST(filter_regex_refusal_releases_the_others) {
    kit_regex regex;
    kit_regex_install(&regex);
    vex_buf bytes = {0};
    kit_put(&bytes, "aiaaisaisais", 2u, (long long)VEX_F_AND, 3u, 2u, (long long)VEX_F_DOC_REGEX,
            "fine", 2u, (long long)VEX_F_DOC_NOT_REGEX, "fine too", 2u, (long long)VEX_F_DOC_REGEX,
            "!refused");
    CHECK_STATUS(parses(&bytes), VEX_ERR_REGEX);
    CHECK(strstr(vex_last_error()->message, "!refused") != NULL);
    CHECK_EQ(regex.compiled, 2);
    CHECK_EQ(regex.live, 0);
    vex_buf_clear(&bytes);

    char pattern[301] = "!"; /* quoted shortened, at a character's end */
    for (size_t i = 1; i + 1 < sizeof pattern; i += 2) {
        memcpy(pattern + i, "\xc3\xa4", 2);
    }
    pattern[299] = '\0';
    kit_put(&bytes, "ais", 2u, (long long)VEX_F_DOC_REGEX, pattern);
    CHECK_STATUS(parses(&bytes), VEX_ERR_REGEX);
    const char *message = vex_last_error()->message;
    CHECK(strlen(message) < 300);
    CHECK(vex_utf8_valid((const uint8_t *)message, strlen(message)));
    vex_buf_clear(&bytes);
}

TEST(filter_regex_handles_stay_with_their_provider) {
    kit_regex first, second;
    vex_filter filter;
    vex_buf bytes = {0};
    uint8_t hit = 2;
    const char *text = "some text";
    const size_t len = strlen(text);
    kit_put(&bytes, "ais", 2u, (long long)VEX_F_DOC_REGEX, "text");
    kit_regex_install(&first);
    CHECK_OK(kit_parse(&bytes, &filter));
    kit_regex_install(&second);
    CHECK_OK(vex_regex_match(&filter.root->regex, &text, &len, 1, &hit));
    CHECK_EQ(hit, 1);
    CHECK_EQ(first.calls, 1);
    CHECK_OK(vex_set_regex(NULL));
    CHECK_STATUS(parses(&bytes), VEX_ERR_REGEX);
    vex_filter_clear(&filter);
    CHECK_EQ(first.live, 0);
    CHECK_EQ(second.compiled + second.calls + second.live, 0);
    const vex_regex_provider partial = {NULL, kit_regex_compile, NULL, kit_regex_release};
    CHECK_STATUS(vex_set_regex(&partial), VEX_ERR_INVALID);
    vex_buf_clear(&bytes);
}
