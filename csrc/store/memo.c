/*
 * memo.c - see memo.h.
 */
#include "store/memo.h"

#include "base/hash.h"

#include <string.h>

#include "base/poison.h"

void vex_memo_init(vex_memo *memo) {
    *memo = (vex_memo){0};
    pthread_mutex_init(&memo->mutex, NULL);
}

void vex_memo_forget(vex_memo *memo) {
    pthread_mutex_lock(&memo->mutex);
    for (uint32_t i = 0; i < VEX_MEMO_VALUES; i++) {
        vex_free(memo->values[i].bytes);
        memo->values[i] = (vex_memo_value){0};
    }
    pthread_mutex_unlock(&memo->mutex);
}

void vex_memo_clear(vex_memo *memo) {
    vex_memo_forget(memo);
    pthread_mutex_destroy(&memo->mutex);
}

uint64_t vex_memo_bytes(vex_memo *memo) {
    uint64_t bytes = 0;
    pthread_mutex_lock(&memo->mutex);
    for (uint32_t i = 0; i < VEX_MEMO_VALUES; i++) {
        const vex_memo_value *value = &memo->values[i];
        bytes += value->bytes != NULL ? value->key_len + value->value_len : 0;
    }
    pthread_mutex_unlock(&memo->mutex);
    return bytes;
}

static vex_memo_value *find(vex_memo *memo, const void *key, size_t key_len, uint64_t hash) {
    for (uint32_t i = 0; i < VEX_MEMO_VALUES; i++) {
        vex_memo_value *value = &memo->values[i];
        if (value->bytes != NULL && value->hash == hash && value->key_len == key_len &&
            memcmp(value->bytes, key, key_len) == 0) {
            return value;
        }
    }
    return NULL;
}

bool vex_memo_get(vex_memo *memo, const void *key, size_t key_len, void *value, size_t value_len) {
    const uint64_t hash = vex_hash64(key, key_len);
    pthread_mutex_lock(&memo->mutex);
    vex_memo_value *found = find(memo, key, key_len, hash);
    const bool hit = found != NULL && found->value_len == value_len;
    if (hit) {
        memcpy(value, found->bytes + key_len, value_len);
        found->used = ++memo->uses;
    }
    pthread_mutex_unlock(&memo->mutex);
    return hit;
}

void vex_memo_put(vex_memo *memo, const void *key, size_t key_len, const void *value,
                  size_t value_len) {
    uint8_t *bytes = key_len <= VEX_MEMO_KEY_MAX ? vex_malloc(key_len + value_len + 1) : NULL;
    if (bytes == NULL) {
        return;
    }
    const uint64_t hash = vex_hash64(key, key_len);
    memcpy(bytes, key, key_len);
    memcpy(bytes + key_len, value, value_len);
    pthread_mutex_lock(&memo->mutex);
    vex_memo_value *place = find(memo, key, key_len, hash);
    for (uint32_t i = 0; place == NULL && i < VEX_MEMO_VALUES; i++) {
        place = memo->values[i].bytes == NULL ? &memo->values[i] : NULL;
    }
    if (place == NULL) {
        place = &memo->values[0];
        for (uint32_t i = 1; i < VEX_MEMO_VALUES; i++) {
            place = memo->values[i].used < place->used ? &memo->values[i] : place;
        }
    }
    uint8_t *old = place->bytes;
    *place = (vex_memo_value){hash, bytes, key_len, value_len, ++memo->uses};
    pthread_mutex_unlock(&memo->mutex);
    vex_free(old);
}
