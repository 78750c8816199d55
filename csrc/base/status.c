/*
 * status.c - the thread's last error.
 *
 * Messages are formatted into a scratch buffer first: their arguments may point into the error
 * that is about to be replaced.  A message too long for its field is cut at a character boundary,
 * so that what reaches the caller is still UTF-8.
 */
#include "base/status.h"

#include <stdarg.h>
#include <string.h>

#include "base/poison.h"

static _Thread_local vex_error last_error;

const vex_error *vex_last_error(void) {
    return &last_error;
}

/* Copy `text` into `field` of `size` bytes, cut before a character that does not fit whole. */
static void copy_text(char *field, size_t size, const char *text) {
    size_t len = strlen(text);
    if (len >= size) {
        len = size - 1;
        while (len > 0 && ((unsigned char)text[len] & 0xC0) == 0x80) {
            len--;
        }
    }
    memmove(field, text, len);
    field[len] = '\0';
}

/* One byte more than the message field: copy_text sees that it has to cut. */
#define SCRATCH_BYTES (sizeof last_error.message + 8)

static void format_text(char *scratch, const char *format, va_list arguments) {
    if (vsnprintf(scratch, SCRATCH_BYTES, format, arguments) < 0) {
        copy_text(scratch, SCRATCH_BYTES, format);
    }
}

vex_status vex_fail(vex_status code, const char *format, ...) {
    char message[SCRATCH_BYTES];
    va_list arguments;
    va_start(arguments, format);
    format_text(message, format, arguments);
    va_end(arguments);

    last_error.code = code;
    last_error.sys_errno = 0;
    last_error.offset = 0;
    last_error.path[0] = '\0';
    copy_text(last_error.message, sizeof last_error.message, message);
    return code;
}

vex_status vex_fail_at(vex_status code, const char *path, uint64_t offset, int sys_errno,
                       const char *format, ...) {
    char message[SCRATCH_BYTES];
    va_list arguments;
    va_start(arguments, format);
    format_text(message, format, arguments);
    va_end(arguments);

    last_error.code = code;
    last_error.sys_errno = sys_errno;
    last_error.offset = offset;
    copy_text(last_error.path, sizeof last_error.path, path ? path : "");
    copy_text(last_error.message, sizeof last_error.message, message);
    return code;
}

vex_status vex_fail_context(vex_status code, const char *format, ...) {
    char prefix[SCRATCH_BYTES], message[2 * SCRATCH_BYTES];
    va_list arguments;
    va_start(arguments, format);
    format_text(prefix, format, arguments);
    va_end(arguments);

    snprintf(message, sizeof message, "%s: %s", prefix, last_error.message);
    last_error.code = code;
    copy_text(last_error.message, sizeof last_error.message, message);
    return code;
}

vex_status vex_fail_place(vex_status code, const char *path, uint64_t offset) {
    last_error.code = code;
    last_error.offset = offset;
    copy_text(last_error.path, sizeof last_error.path, path);
    return code;
}

vex_status vex_fail_again(const vex_error *error) {
    last_error = *error;
    return error->code;
}

const char *vex_status_name(vex_status status) {
#define NAME(code)                                                                                 \
    case code:                                                                                     \
        return #code
    switch (status) {
        NAME(VEX_OK);
        NAME(VEX_ERR_INVALID);
        NAME(VEX_ERR_DIMENSION);
        NAME(VEX_ERR_NOT_FINITE);
        NAME(VEX_ERR_EXISTS);
        NAME(VEX_ERR_NOT_FOUND);
        NAME(VEX_ERR_TOO_BIG);
        NAME(VEX_ERR_CLOSED);
        NAME(VEX_ERR_BUSY);
        NAME(VEX_ERR_READ_ONLY);
        NAME(VEX_ERR_POISONED);
        NAME(VEX_ERR_FORKED);
        NAME(VEX_ERR_IO);
        NAME(VEX_ERR_NO_SPACE);
        NAME(VEX_ERR_PERMISSION);
        NAME(VEX_ERR_CORRUPT);
        NAME(VEX_ERR_VERSION);
        NAME(VEX_ERR_FOREIGN);
        NAME(VEX_ERR_NO_MEMORY);
        NAME(VEX_ERR_CODEC);
        NAME(VEX_ERR_REGEX);
    default:
        return "VEX_ERR_?";
    }
#undef NAME
}
