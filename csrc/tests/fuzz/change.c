/*
 * change.c - changes of inputs that know nothing of their format (see fuzz.h).
 */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>

size_t (*fuzz_libfuzzer_mutate)(uint8_t *data, size_t len, size_t capacity);

/* ---- numbers ---- */

static uint64_t get_number(const uint8_t *at, uint32_t width) {
    uint64_t value = 0;
    memcpy(&value, at, width);
    return value;
}

static uint64_t other_number(uint64_t old, uint32_t width, uint64_t limit) {
    const uint32_t bits = 8 * width;
    const uint64_t power = (uint64_t)1 << test_random_below(bits);
    switch (test_random_below(10)) {
    case 0:
        return test_random_below(4);
    case 1:
        return old + 1;
    case 2:
        return old - 1;
    case 3:
        return old + 8 * (1 + test_random_below(16));
    case 4:
        return old - 8 * (1 + test_random_below(16));
    case 5:
        return limit + test_random_below(3) - 1;
    case 6:
        return power - test_random_below(2);
    case 7:
        return UINT64_MAX - test_random_below(3);
    case 8:
        return old ^ power;
    default:
        return test_random();
    }
}

void fuzz_change_number(uint8_t *at, uint32_t width, uint64_t limit) {
    const uint64_t value = other_number(get_number(at, width), width, limit);
    memcpy(at, &value, width);
}

void fuzz_change_field(uint8_t *structure, size_t len, const fuzz_field *fields, size_t n,
                       uint64_t limit) {
    const fuzz_field *field = &fields[test_random() % n];
    if ((size_t)field->at + field->width <= len) {
        fuzz_change_number(structure + field->at, field->width, limit);
    }
}

/* ---- bytes ---- */

static void change_some_number(fuzz_input *input) {
    const uint32_t width = 1u << test_random_below(4);
    if (input->len >= width) {
        size_t at = test_random() % (input->len - width + 1);
        at -= test_random_below(4) ? at % width : 0;
        fuzz_change_number(input->data + at, width, input->len);
    }
}

/* Most changes should be small, whatever the length. */
static size_t some_length(size_t most) {
    const size_t small = test_random_below(4) ? 16 : most;
    const size_t len = 1 + test_random() % (small < most ? small : most);
    return test_random_below(2) && len >= 8 ? len - len % 8 : len;
}

static void copy_within(fuzz_input *input) {
    const size_t len = some_length(input->len);
    const size_t from = test_random() % (input->len - len + 1);
    const size_t to = test_random() % (input->len - len + 1);
    memmove(input->data + to, input->data + from, len);
}

static void fill(fuzz_input *input) {
    const size_t len = some_length(input->len);
    memset(input->data + test_random() % (input->len - len + 1), test_random_below(2) ? 0 : 255,
           len);
}

static void insert(fuzz_input *input) {
    const size_t room = input->capacity - input->len;
    if (room == 0) {
        return;
    }
    const size_t most = input->len + 64; /* at most twice as long, about */
    const size_t len = some_length(room < most ? room : most);
    const size_t at = test_random() % (input->len + 1);
    uint8_t *place = input->data + at;
    memmove(place + len, place, input->len - at);
    input->len += len;
    for (size_t i = 0; i < len; i++) { /* what was there once more, or zeros */
        place[i] = input->len > at + len + i && test_random_below(8) ? place[len + i] : 0;
    }
}

static void cut_out(fuzz_input *input) {
    const size_t len = some_length(input->len), at = test_random() % (input->len - len + 1);
    memmove(input->data + at, input->data + at + len, input->len - at - len);
    input->len -= len;
}

void fuzz_change(fuzz_input *input) {
    const uint32_t what = test_random_below(16);
    if (fuzz_libfuzzer_mutate != NULL && test_random_below(3) == 0) {
        input->len = fuzz_libfuzzer_mutate(input->data, input->len, input->capacity);
    } else if (input->len == 0 || what == 0) {
        insert(input);
    } else if (what == 1) {
        cut_out(input);
    } else if (what == 2) {
        copy_within(input);
    } else if (what == 3) {
        fill(input);
    } else if (what < 7) {
        input->data[test_random() % input->len] ^= (uint8_t)(1u << test_random_below(8));
    } else if (what < 9) {
        input->data[test_random() % input->len] = (uint8_t)test_random();
    } else {
        change_some_number(input);
    }
}

void fuzz_change_part(fuzz_input *input, size_t at, size_t len, void (*change)(fuzz_input *part)) {
    const size_t behind = input->len - at - len, room = input->capacity - at - behind;
    const size_t most = len + 4096 < room ? len + 4096 : room;
    fuzz_input part = {.data = malloc(most + 1), .len = len, .capacity = most};
    memcpy(part.data, input->data + at, len);
    change(&part);
    memmove(input->data + at + part.len, input->data + at + len, behind);
    memcpy(input->data + at, part.data, part.len);
    input->len = at + part.len + behind;
    free(part.data);
}
