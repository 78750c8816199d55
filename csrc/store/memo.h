/*
 * memo.h - what was found out about an immutable file, kept for the next time: the last few values,
 * by key.
 *
 * Any thread may call anything at any time.  Nothing is ever wrong for being forgotten, so what
 * cannot be kept (no memory, too large) is not.
 */
#ifndef VEX_STORE_MEMO_H
#define VEX_STORE_MEMO_H

#include "base/mem.h"

#include <pthread.h>
#include <stdbool.h>

#define VEX_MEMO_VALUES 8u
#define VEX_MEMO_KEY_MAX ((size_t)4 << 10)

typedef struct vex_memo_value {
    uint64_t hash;
    uint8_t *bytes;           /* the key, then the value; NULL: free                              */
    size_t key_len, value_len;
    uint64_t used;            /* when, by the memo's count of uses                                */
} vex_memo_value;

typedef struct vex_memo {
    pthread_mutex_t mutex;
    uint64_t uses;
    vex_memo_value values[VEX_MEMO_VALUES];
} vex_memo;

void vex_memo_init(vex_memo *memo);
void vex_memo_clear(vex_memo *memo);
/* Forget all values. */
void vex_memo_forget(vex_memo *memo);
uint64_t vex_memo_bytes(vex_memo *memo);
/* Copy the value of `key` to value[value_len]; false when there is none, or none of that length. */
bool vex_memo_get(vex_memo *memo, const void *key, size_t key_len, void *value, size_t value_len);
/* Keep a copy, in the place of the value that was not used for longest. */
void vex_memo_put(vex_memo *memo, const void *key, size_t key_len, const void *value,
                  size_t value_len);

#endif
