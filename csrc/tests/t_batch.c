/*
 * t_batch.c - encoding and decoding of write batches.
 */
#include "base/bytes.h"
#include "base/mem.h"
#include "store/batch.h"
#include "store/format.h"
#include "tests/harness.h"

#include <stdlib.h>

/* The encoded batch as one piece (from vex_malloc, so aligned). */
static vex_buf encode(const vex_batch *batch) {
    vex_buf meta = {0}, whole = {0};
    vex_iovec *parts = NULL;
    uint32_t n_parts = 0;
    CHECK_OK(vex_batch_encode(batch, &meta, &parts, &n_parts));
    CHECK(parts[0].data == meta.data && parts[0].len == meta.len);
    for (uint32_t i = 0; i < n_parts; i++) {
        CHECK_OK(vex_buf_append(&whole, parts[i].data, parts[i].len));
    }
    vex_free(parts);
    vex_buf_clear(&meta);
    return whole;
}

static bool same_bytes(const uint8_t *a, uint32_t a_len, const uint8_t *b, uint32_t b_len) {
    return (a == NULL) == (b == NULL) &&
           (a == NULL || (a_len == b_len && memcmp(a, b, a_len) == 0));
}

static void check_same(const vex_batch *a, const vex_batch *b) {
    CHECK_EQ(a->n_ops, b->n_ops);
    CHECK_EQ(a->next_seq, b->next_seq);
    for (size_t i = 0; i < a->n_ops; i++) {
        const vex_op *x = &a->ops[i], *y = &b->ops[i];
        const vex_payload *p = &x->payload, *q = &y->payload;
        CHECK_EQ(x->kind, y->kind);
        CHECK_EQ(p->seq, q->seq);
        CHECK(same_bytes(p->id, p->id_len, q->id, q->id_len));
        CHECK(same_bytes(p->document, p->document_len, q->document, q->document_len));
        CHECK(same_bytes(p->metadata, p->metadata_len, q->metadata, q->metadata_len));
        CHECK(same_bytes(p->uri, p->uri_len, q->uri, q->uri_len));
        CHECK((x->vector == NULL) == (y->vector == NULL));
        if (x->vector != NULL) {
            CHECK_EQ(a->dimension, b->dimension);
            CHECK(memcmp(x->vector, y->vector, a->dimension * sizeof(float)) == 0);
        }
    }
}

/* A batch over static bytes; vectors partly adjacent. */
static float vector_pool[64 * 40];
static const uint8_t byte_pool[300] = "bytes of ids, documents, metadata and uris";

static void random_field(const uint8_t **bytes, uint32_t *len, bool required) {
    *bytes = NULL;
    *len = 0;
    if (required || test_random_below(3) > 0) {
        *bytes = byte_pool + test_random_below(100);
        *len = test_random_below(100);
    }
}

static vex_batch random_batch(void) {
    vex_batch batch = {.dimension = 1 + test_random_below(40), .next_seq = VEX_COUNTER_END - 1};
    uint32_t n_ops = test_random_below(20);
    for (size_t i = 0; i < sizeof vector_pool / sizeof *vector_pool; i++) {
        vector_pool[i] = test_random_float();
    }
    for (uint32_t i = 0; i < n_ops; i++) {
        vex_op op = {.kind = (vex_op_kind)(1 + test_random_below(4))};
        vex_payload *p = &op.payload;
        p->seq = test_random() % (VEX_COUNTER_END - 1);
        if (op.kind == VEX_OP_PUT || op.kind == VEX_OP_VECTOR) {
            op.vector = vector_pool + (size_t)(test_random_below(4) ? i : 63 - i) * batch.dimension;
        }
        if (op.kind != VEX_OP_VECTOR) {
            random_field(&p->id, &p->id_len, true);
        }
        if (op.kind == VEX_OP_PUT || op.kind == VEX_OP_PAYLOAD) {
            random_field(&p->document, &p->document_len, false);
            random_field(&p->metadata, &p->metadata_len, false);
            random_field(&p->uri, &p->uri_len, false);
        }
        CHECK_OK(vex_batch_add(&batch, &op));
    }
    return batch;
}

TEST(batch_round_trip) {
    for (int round = 0; round < 300; round++) {
        vex_batch batch = random_batch(), decoded = {0};
        vex_buf whole = encode(&batch);
        CHECK_OK(vex_batch_decode(whole.data, whole.len, &decoded));
        check_same(&batch, &decoded);
        vex_batch_clear(&batch);
        vex_batch_clear(&decoded);
        vex_buf_clear(&whole);
    }
}

TEST(batch_shares_parts_of_adjacent_vectors) {
    static const float vectors[6 * 3];
    static const int order[] = {0, 1, 2, 5, 3, 4}; /* three runs */
    vex_batch batch = {.dimension = 3};
    for (int i = 0; i < 6; i++) {
        vex_op op = {.kind = VEX_OP_VECTOR, .vector = vectors + 3 * order[i]};
        CHECK_OK(vex_batch_add(&batch, &op));
    }
    vex_buf meta = {0};
    vex_iovec *parts = NULL;
    uint32_t n_parts = 0;
    CHECK_OK(vex_batch_encode(&batch, &meta, &parts, &n_parts));
    CHECK_EQ(n_parts, 4);
    CHECK(parts[1].data == vectors && parts[1].len == 9 * sizeof(float));
    CHECK(parts[2].data == vectors + 15 && parts[2].len == 3 * sizeof(float));
    CHECK(parts[3].data == vectors + 9 && parts[3].len == 6 * sizeof(float));
    vex_free(parts);
    vex_buf_clear(&meta);
    vex_batch_clear(&batch);
}

/* The encoded bytes of one small batch, as the table in batch.h gives them. */
TEST(batch_bytes_are_as_specified) {
    static const float vector[2] = {1.0f, -2.0f};
    vex_batch batch = {.dimension = 2, .next_seq = 9};
    vex_op put = {.kind = VEX_OP_PUT,
                  .vector = vector,
                  .payload = {.seq = 7, .id = (const uint8_t *)"ab", .id_len = 2}};
    vex_op delete = {.kind = VEX_OP_DELETE,
                     .payload = {.seq = 3, .id = (const uint8_t *)"c", .id_len = 1}};
    CHECK_OK(vex_batch_add(&batch, &put));
    CHECK_OK(vex_batch_add(&batch, &delete));
    vex_buf whole = encode(&batch);
    static const uint8_t expected[] =
        "VXB1\2\0\0\0\2\0\0\0\4\0\0\0"
        "\11\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
        "\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0"
        "\1\0\0\0\0\0\0\0\220\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0"  /* 48: OPS at 144, 2 bytes */
        "\2\0\0\0\0\0\0\0\230\0\0\0\0\0\0\0\20\0\0\0\0\0\0\0" /* 72: SEQS at 152 */
        "\3\0\0\0\0\0\0\0\250\0\0\0\0\0\0\0\13\0\0\0\0\0\0\0" /* 96: IDS at 168, 11 bytes */
        "\4\0\0\0\0\0\0\0\270\0\0\0\0\0\0\0\10\0\0\0\0\0\0\0" /* 120: VECTORS at 184 */
        "\1\4\0\0\0\0\0\0"
        "\7\0\0\0\0\0\0\0\3\0\0\0\0\0\0\0"
        "\2\0\0\0\1\0\0\0abc\0\0\0\0\0"
        "\0\0\200\77\0\0\0\300";
    CHECK_EQ(whole.len, sizeof expected - 1);
    CHECK(memcmp(whole.data, expected, whole.len) == 0);
    vex_buf_clear(&whole);
    vex_batch_clear(&batch);
}

TEST(batch_add_needs_what_the_kind_needs) {
    static const float vector[1] = {1};
    vex_batch batch = {.dimension = 1};
    vex_op op = {.kind = VEX_OP_PUT, .vector = vector};
    CHECK_STATUS(vex_batch_add(&batch, &op), VEX_ERR_INVALID);
    op.payload.id = (const uint8_t *)"";
    CHECK_OK(vex_batch_add(&batch, &op));
    op.vector = NULL;
    CHECK_STATUS(vex_batch_add(&batch, &op), VEX_ERR_INVALID);
    op = (vex_op){.kind = VEX_OP_VECTOR};
    CHECK_STATUS(vex_batch_add(&batch, &op), VEX_ERR_INVALID);
    op = (vex_op){.kind = VEX_OP_DELETE};
    CHECK_STATUS(vex_batch_add(&batch, &op), VEX_ERR_INVALID);
    CHECK_EQ(batch.n_ops, 1);

    vex_buf meta = {0};
    vex_iovec *parts;
    uint32_t n_parts;
    batch.dimension = 0;
    CHECK_STATUS(vex_batch_encode(&batch, &meta, &parts, &n_parts), VEX_ERR_DIMENSION);
    batch.dimension = VEX_DIMENSION_MAX + 1;
    CHECK_STATUS(vex_batch_encode(&batch, &meta, &parts, &n_parts), VEX_ERR_TOO_BIG);
    vex_buf_clear(&meta);
    vex_batch_clear(&batch);
}

/* ---- malformed input ---- */

/* Decode bytes in an exact-size block, so that a sanitizer sees every read past the end. */
static vex_status decode_exact(const uint8_t *bytes, size_t len) {
    vex_batch decoded = {0};
    uint8_t *copy = malloc(len > 0 ? len : 1);
    memcpy(copy, bytes, len);
    vex_status status = vex_batch_decode(copy, len, &decoded);
    uint64_t sum = 0;
    for (size_t i = 0; i < decoded.n_ops; i++) { /* whatever came out must be readable */
        const vex_op *op = &decoded.ops[i];
        const vex_payload *p = &op->payload;
        for (uint32_t j = 0; op->vector != NULL && j < decoded.dimension; j++) {
            sum += op->vector[j] != 0.0f;
        }
        for (uint32_t j = 0; j < p->id_len; j++) {
            sum += p->id[j];
        }
        for (uint32_t j = 0; j < p->document_len; j++) {
            sum += p->document[j];
        }
        for (uint32_t j = 0; j < p->metadata_len; j++) {
            sum += p->metadata[j];
        }
        for (uint32_t j = 0; j < p->uri_len; j++) {
            sum += p->uri[j];
        }
    }
    CHECK(sum < UINT64_MAX);
    vex_batch_clear(&decoded);
    free(copy);
    return status;
}

TEST(batch_truncated_or_longer_is_refused_or_safe) {
    for (int round = 0; round < 20; round++) {
        vex_batch batch = random_batch();
        vex_buf whole = encode(&batch);
        for (size_t len = 0; len < whole.len; len++) {
            vex_status status = decode_exact(whole.data, len);
            /* only the padding behind the last column may be missing */
            CHECK(status == VEX_ERR_CORRUPT || (status == VEX_OK && whole.len - len < 8));
        }
        vex_buf_clear(&whole);
        vex_batch_clear(&batch);
    }
}

TEST(batch_survives_bit_flips_and_hostile_numbers) {
    static const uint64_t hostile[] = {0,          1,          7,          0x7fffffff, 0x80000000,
                                       0xffffffff, UINT64_MAX, 1ULL << 63, 1ULL << 32, 48};
    for (int round = 0; round < 10; round++) {
        vex_batch batch = random_batch();
        vex_buf whole = encode(&batch);
        for (size_t bit = 0; bit < whole.len * 8; bit++) {
            whole.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
            vex_status status = decode_exact(whole.data, whole.len);
            CHECK(status == VEX_OK || status == VEX_ERR_CORRUPT || status == VEX_ERR_VERSION);
            whole.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        }
        for (size_t at = 0; at + 8 <= whole.len; at += 4) {
            uint64_t kept = vex_get64(whole.data + at);
            for (size_t h = 0; h < sizeof hostile / sizeof *hostile; h++) {
                vex_put64(whole.data + at, hostile[h]);
                vex_status status = decode_exact(whole.data, whole.len);
                CHECK(status == VEX_OK || status == VEX_ERR_CORRUPT || status == VEX_ERR_VERSION);
            }
            vex_put64(whole.data + at, kept);
        }
        vex_buf_clear(&whole);
        vex_batch_clear(&batch);
    }
}

TEST(batch_columns_that_lie_are_refused) {
    static const struct {
        size_t at; /* in the entry of column IDS */
        uint64_t value;
    } lies[] = {
        {0, 2},                  /* a second SEQS */
        {8, 0},                  /* over the header */
        {8, 48},                 /* over the table */
        {8, 48 + 3 * 24 + 8 + 4} /* not aligned */
    };
    vex_batch batch = {.next_seq = 2}, decoded = {0};
    vex_op op = {.kind = VEX_OP_DELETE, .payload = {.id = (const uint8_t *)"x", .id_len = 1}};
    CHECK_OK(vex_batch_add(&batch, &op));
    vex_buf whole = encode(&batch);
    uint8_t *ids = whole.data + 48 + 2 * 24, kept[24];
    memcpy(kept, ids, 24);
    CHECK_EQ(vex_get64(ids + 16), 8 + 1);
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        vex_put32(ids + lies[i].at, (uint32_t)lies[i].value);
        CHECK_STATUS(vex_batch_decode(whole.data, whole.len, &decoded), VEX_ERR_CORRUPT);
        memcpy(ids, kept, 24);
    }
    for (uint64_t len = 0; len <= 16; len++) { /* 9 is right: no byte less, no byte more */
        vex_put64(ids + 16, len);
        CHECK_EQ(vex_batch_decode(whole.data, whole.len, &decoded),
                 len == 9 ? VEX_OK : VEX_ERR_CORRUPT);
        vex_batch_clear(&decoded);
    }
    vex_buf_clear(&whole);
    vex_batch_clear(&batch);
}

/* A column given twice, where the second would do as well as the first. */
TEST(batch_column_given_twice_is_refused) {
    vex_batch batch = {.next_seq = 2}, decoded = {0};
    vex_op op = {
        .kind = VEX_OP_PAYLOAD,
        .payload = {.id = byte_pool, .id_len = 2, .document = byte_pool, .document_len = 2}};
    CHECK_OK(vex_batch_add(&batch, &op));
    vex_buf whole = encode(&batch);
    uint8_t *document = whole.data + 48 + 3 * 24;
    CHECK_EQ(vex_get32(document), 5);
    vex_put32(document, 3); /* a second IDS */
    CHECK_STATUS(vex_batch_decode(whole.data, whole.len, &decoded), VEX_ERR_CORRUPT);
    vex_buf_clear(&whole);
    vex_batch_clear(&batch);
}

TEST(batch_of_a_later_release_is_refused) {
    vex_batch batch = {.next_seq = 2}, decoded = {0};
    vex_op op = {.kind = VEX_OP_DELETE, .payload = {.id = (const uint8_t *)"x", .id_len = 1}};
    CHECK_OK(vex_batch_add(&batch, &op));
    vex_buf whole = encode(&batch);
    uint8_t *ids = whole.data + 48 + 2 * 24;
    CHECK_EQ(vex_get32(ids), 3);
    vex_put32(ids, 8); /* EXPIRES, reserved */
    CHECK_STATUS(vex_batch_decode(whole.data, whole.len, &decoded), VEX_ERR_VERSION);
    vex_put32(ids + 4, 1); /* optional: skipped, but then the id is missing */
    CHECK_STATUS(vex_batch_decode(whole.data, whole.len, &decoded), VEX_ERR_CORRUPT);
    vex_put32(ids, 3);
    CHECK_OK(vex_batch_decode(whole.data, whole.len, &decoded));
    vex_batch_clear(&decoded);
    vex_put32(whole.data + 32, 1); /* flags */
    CHECK_STATUS(vex_batch_decode(whole.data, whole.len, &decoded), VEX_ERR_VERSION);
    vex_put32(whole.data + 32, 0);
    vex_put64(whole.data + 24, 5); /* transaction */
    CHECK_STATUS(vex_batch_decode(whole.data, whole.len, &decoded), VEX_ERR_VERSION);
    CHECK_STATUS(vex_batch_decode(whole.data + 1, whole.len - 1, &decoded), VEX_ERR_INVALID);
    vex_buf_clear(&whole);
    vex_batch_clear(&batch);
}

#ifdef VEX_TESTING
TEST(batch_survives_lack_of_memory) {
    uint64_t blocks = vex_stat_get(VEX_STAT_HEAP_BLOCKS);
    vex_batch batch = random_batch(), decoded = {0};
    vex_buf whole = encode(&batch), meta = {0};
    vex_iovec *parts = NULL;
    uint32_t n_parts = 0;
    for (uint64_t n = 1;; n++) {
        vex_mem_fail_at(n, false);
        vex_status status = vex_batch_encode(&batch, &meta, &parts, &n_parts);
        vex_mem_fail_at(0, false);
        vex_buf_clear(&meta);
        if (status == VEX_OK) {
            break;
        }
        CHECK_EQ(status, VEX_ERR_NO_MEMORY);
    }
    vex_free(parts);
    vex_mem_fail_at(1, true);
    vex_status status = vex_batch_decode(whole.data, whole.len, &decoded);
    vex_mem_fail_at(0, false);
    CHECK_EQ(status, VEX_ERR_NO_MEMORY);
    vex_buf_clear(&whole);
    vex_batch_clear(&batch);
    CHECK_EQ(vex_stat_get(VEX_STAT_HEAP_BLOCKS), blocks);
}
#endif
