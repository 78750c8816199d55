/*
 * regex.c - regular expressions by a provider that the embedding program registers
 * (vex_set_regex in vexfs.h).
 */
#include "filter/expr.h"

#include <stdatomic.h>

#include "base/poison.h"

static _Atomic(vex_regex_provider *) registered;

vex_status vex_set_regex(const vex_regex_provider *provider) {
    vex_regex_provider *copy = NULL;
    if (provider != NULL) {
        if (!provider->compile || !provider->match || !provider->release) {
            return VEX_FAIL(VEX_ERR_INVALID, "a regex provider needs all three functions");
        }
        copy = vex_malloc(sizeof *copy);
        if (copy == NULL) {
            return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a regex provider");
        }
        *copy = *provider;
    }
    /* The old one may be in use in another thread: a few bytes are kept instead of freed. */
    atomic_store(&registered, copy);
    return VEX_OK;
}

vex_status vex_regex_compile(const uint8_t *pattern, size_t len, void **handle) {
    const vex_regex_provider *provider = atomic_load(&registered);
    if (provider == NULL) {
        return VEX_FAIL(VEX_ERR_REGEX, "no regular expression provider is registered");
    }
    *handle = provider->compile(provider->context, (const char *)pattern, len);
    return *handle ? VEX_OK
                   : VEX_FAIL(VEX_ERR_REGEX, "the pattern was refused: %.*s",
                              (int)(len < 200 ? len : 200), (const char *)pattern);
}

vex_status vex_regex_match(void *handle, const char *const *texts, const size_t *lens, uint32_t n,
                           uint8_t *out) {
    const vex_regex_provider *provider = atomic_load(&registered);
    if (provider == NULL ||
        provider->match(provider->context, handle, texts, lens, n, out) != 0) {
        return VEX_FAIL(VEX_ERR_REGEX, "matching a regular expression failed");
    }
    return VEX_OK;
}

void vex_regex_release(void *handle) {
    const vex_regex_provider *provider = atomic_load(&registered);
    if (handle != NULL && provider != NULL) {
        provider->release(provider->context, handle);
    }
}
