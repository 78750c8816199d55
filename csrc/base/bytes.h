/*
 * bytes.h - little-endian access to bytes, and a cursor that cannot read past its end.
 *
 * Everything that comes from a file or a caller is read through vex_cursor: a read past the end
 * yields zeros and sets `bad`, so a parser checks once, at its end or before it trusts a size.
 */
#ifndef VEX_BASE_BYTES_H
#define VEX_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline void vex_put16(void *p, uint16_t v) {
    uint8_t *b = p;
    b[0] = (uint8_t)v;
    b[1] = (uint8_t)(v >> 8);
}
static inline void vex_put32(void *p, uint32_t v) {
    vex_put16(p, (uint16_t)v);
    vex_put16((uint8_t *)p + 2, (uint16_t)(v >> 16));
}
static inline void vex_put64(void *p, uint64_t v) {
    vex_put32(p, (uint32_t)v);
    vex_put32((uint8_t *)p + 4, (uint32_t)(v >> 32));
}
static inline uint16_t vex_get16(const void *p) {
    const uint8_t *b = p;
    return (uint16_t)(b[0] | (uint16_t)(b[1] << 8));
}
static inline uint32_t vex_get32(const void *p) {
    return (uint32_t)vex_get16(p) | ((uint32_t)vex_get16((const uint8_t *)p + 2) << 16);
}
static inline uint64_t vex_get64(const void *p) {
    return (uint64_t)vex_get32(p) | ((uint64_t)vex_get32((const uint8_t *)p + 4) << 32);
}

/* Numbers that count what ever happened (sequence numbers, log sequence numbers, numbers of files)
 * stay below this; one in a file that does not is damage, and nothing added to it overflows. */
#define VEX_COUNTER_END ((uint64_t)1 << 62)

typedef struct vex_cursor {
    const uint8_t *data;
    size_t len, pos;
    bool bad; /* something was read past the end */
} vex_cursor;

static inline vex_cursor vex_cursor_make(const void *data, size_t len) {
    vex_cursor c = {(const uint8_t *)data, len, 0, false};
    return c;
}
/* `n` bytes, or NULL (and bad) when fewer are left. */
static inline const uint8_t *vex_cursor_take(vex_cursor *c, size_t n) {
    if (c->bad || n > c->len - c->pos) {
        c->bad = true;
        return NULL;
    }
    const uint8_t *p = c->data + c->pos;
    c->pos += n;
    return p;
}
static inline uint8_t vex_cursor_u8(vex_cursor *c) {
    const uint8_t *p = vex_cursor_take(c, 1);
    return p ? *p : 0;
}
static inline uint16_t vex_cursor_u16(vex_cursor *c) {
    const uint8_t *p = vex_cursor_take(c, 2);
    return p ? vex_get16(p) : 0;
}
static inline uint32_t vex_cursor_u32(vex_cursor *c) {
    const uint8_t *p = vex_cursor_take(c, 4);
    return p ? vex_get32(p) : 0;
}
static inline uint64_t vex_cursor_u64(vex_cursor *c) {
    const uint8_t *p = vex_cursor_take(c, 8);
    return p ? vex_get64(p) : 0;
}

static inline uint64_t vex_align_up(uint64_t v, uint64_t alignment) {
    return (v + alignment - 1) & ~(alignment - 1);
}

#endif
