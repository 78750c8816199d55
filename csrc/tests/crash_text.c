/*
 * crash_text.c - see crash_kit.h: what a collection holds, or should hold, as a text.
 */
#include "tests/crash_kit.h"

#include "base/msgpack.h"
#include "db/db.h"

#include <stdarg.h>

static void append(char *out, size_t size, const char *format, ...) {
    size_t at = strlen(out);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(out + at, size - at, format, arguments);
    va_end(arguments);
}

void crash_text(const crash_state *state, char out[CRASH_TEXT]) {
    snprintf(out, CRASH_TEXT, "%s", state->exists ? "" : "absent");
    for (uint32_t i = 0; i < state->n; i++) {
        append(out, CRASH_TEXT, "%s=%d%s", state->rows[i].id, state->rows[i].number,
               state->rows[i].other ? "'" : "");
        if (state->rows[i].document >= 0) {
            append(out, CRASH_TEXT, "/d%d", state->rows[i].document);
        }
        append(out, CRASH_TEXT, " ");
    }
}

/* "", or "'" when it is one of E. */
static const char *vector_of(const vex_result *result, uint32_t row, long long number) {
    const float *vector = result->vectors + (size_t)row * result->dimension;
    const float beyond = vector[0] - (float)number;
    const bool known =
        (beyond == 0 || beyond == CRASH_OTHER) && vector[1] == (float)(number % 7) + beyond;
    return !known ? "!vector" : beyond == 0 ? "" : "'";
}

vex_status crash_describe(vex_collection *collection, char out[CRASH_TEXT]) {
    vex_result *result = NULL;
    VEX_TRY(vex_get(collection, NULL, 0, -1,
                    VEX_INCLUDE_METADATAS | VEX_INCLUDE_VECTORS | VEX_INCLUDE_DOCUMENTS, &result));
    crash_text_of(result, out);
    vex_result_free(result);
    return VEX_OK;
}

void crash_text_of(const vex_result *result, char out[CRASH_TEXT]) {
    vex_mp_reader ids = vex_mp_reader_make(result->records, result->records_len);
    (void)vex_mp_next(&ids);
    (void)vex_mp_next(&ids);
    vex_mp_reader documents = ids;
    for (uint32_t i = 0; i < result->n_rows; i++) {
        (void)vex_mp_next(&documents);
    }
    (void)vex_mp_next(&documents);
    vex_mp_reader metadatas = documents;
    for (uint32_t i = 0; i < result->n_rows; i++) {
        (void)vex_mp_next(&metadatas);
    }
    (void)vex_mp_next(&metadatas);
    out[0] = '\0';
    for (uint32_t i = 0; i < result->n_rows; i++) {
        vex_mp_value id = vex_mp_next(&ids), document = vex_mp_next(&documents);
        (void)vex_mp_next(&metadatas);
        (void)vex_mp_next(&metadatas);
        long long number = (long long)vex_mp_next(&metadatas).integer;
        append(out, CRASH_TEXT, "%.*s=%lld%s", (int)id.len, (const char *)id.bytes, number,
               vector_of(result, i, number));
        if (document.kind == VEX_MP_STR) {
            append(out, CRASH_TEXT, "/%.*s", (int)document.len, (const char *)document.bytes);
        }
        append(out, CRASH_TEXT, " ");
    }
}
