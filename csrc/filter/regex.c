/*
 * regex.c - regular expressions by a provider that the embedding program registers
 * (vex_set_regex in vexfs.h).
 *
 * Readers take the registered provider with one atomic load and may use it at any later time, so
 * a replaced one is never freed: it stays on a list (a few bytes for each call that changes the
 * provider).
 */
#include "filter/expr.h"

#include <stdatomic.h>

#include "base/poison.h"

typedef struct registration {
    vex_regex_provider provider;
    struct registration *previous;
} registration;

static _Atomic(registration *) registered;

vex_status vex_set_regex(const vex_regex_provider *provider) {
    static const vex_regex_provider none = {0};
    if (provider != NULL && (!provider->compile || !provider->match || !provider->release)) {
        return VEX_FAIL(VEX_ERR_INVALID, "a regex provider needs all three functions");
    }
    registration *added = vex_malloc(sizeof *added);
    if (added == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a regex provider");
    }
    added->provider = provider ? *provider : none;
    added->previous = atomic_load(&registered);
    while (!atomic_compare_exchange_weak(&registered, &added->previous, added)) {
    }
    return VEX_OK;
}

/* Bytes of the pattern to quote in a message: at most 200, whole UTF-8 characters. */
static int quoted_len(const uint8_t *pattern, size_t len) {
    size_t quoted = len < 200 ? len : 200;
    while (quoted < len && quoted > 0 && (pattern[quoted] & 0xC0) == 0x80) {
        quoted--;
    }
    return (int)quoted;
}

vex_status vex_regex_compile(const uint8_t *pattern, size_t len, vex_regex *out) {
    const registration *current = atomic_load(&registered);
    if (current == NULL || current->provider.compile == NULL) {
        return VEX_FAIL(VEX_ERR_REGEX, "no regular expression provider is registered");
    }
    const vex_regex_provider *provider = &current->provider;
    void *handle = provider->compile(provider->context, (const char *)pattern, len);
    if (handle == NULL) {
        return VEX_FAIL(VEX_ERR_REGEX, "the pattern was refused: %.*s", quoted_len(pattern, len),
                        (const char *)pattern);
    }
    *out = (vex_regex){provider, handle};
    return VEX_OK;
}

vex_status vex_regex_match(const vex_regex *regex, const char *const *texts, const size_t *lens,
                           uint32_t n, uint8_t *out) {
    const vex_regex_provider *provider = regex->provider;
    if (provider->match(provider->context, regex->handle, texts, lens, n, out) != 0) {
        return VEX_FAIL(VEX_ERR_REGEX, "matching a regular expression failed");
    }
    return VEX_OK;
}

void vex_regex_release(vex_regex *regex) {
    if (regex->handle != NULL) {
        regex->provider->release(regex->provider->context, regex->handle);
    }
    *regex = (vex_regex){0};
}
