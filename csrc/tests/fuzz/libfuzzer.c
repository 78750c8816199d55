/*
 * libfuzzer.c - the fuzz targets under libFuzzer: one program, which takes --target=NAME.
 *
 * Besides libFuzzer's flags there are --targets, which lists the names, and --seeds=DIRECTORY, which
 * writes the seeds of the target there and ends.
 */
#include "tests/fuzz/fuzz.h"

#include <stdarg.h>
#include <stdlib.h>

size_t LLVMFuzzerMutate(uint8_t *data, size_t len, size_t capacity);
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t len, size_t capacity, unsigned int seed);

static const fuzz_target *target;

/* ---- what harness.h wants ---- */

static uint64_t random_state = 1;

uint64_t test_random(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * 0x2545F4914F6CDD1DULL;
}

float test_random_float(void) {
    return (float)((double)(test_random() >> 11) / 4503599627370496.0 - 1.0);
}

void test_failed(const char *file, int line, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s:%d: ", file, line);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    abort();
}

/* ---- the command line ---- */

static const char *value_of(const char *argument, const char *flag) {
    const size_t len = strlen(flag);
    return strncmp(argument, flag, len) == 0 ? argument + len : NULL;
}

static void write_seed(void *context, const void *data, size_t len) {
    static unsigned number;
    char path[1024];
    snprintf(path, sizeof path, "%s/seed-%u", (const char *)context, number++);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(data, 1, len, file) != len || fclose(file) != 0) {
        fprintf(stderr, "cannot write %s\n", path);
        exit(1);
    }
}

static void list_targets(void) {
    for (const fuzz_target *const *each = fuzz_targets; *each != NULL; each++) {
        printf("%s\n", (*each)->name);
    }
    exit(0);
}

static void choose_target(const char *name) {
    target = fuzz_target_named(name);
    if (target == NULL) {
        fprintf(stderr, "there is no fuzz target %s; --targets lists them\n", name);
        exit(1);
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    const char *directory = NULL;
    for (int i = 1; i < *argc; i++) {
        const char *argument = (*argv)[i], *name = value_of(argument, "--target=");
        if (strcmp(argument, "--targets") == 0) {
            list_targets();
        }
        if (name != NULL) {
            choose_target(name);
        }
        directory = value_of(argument, "--seeds=") ? value_of(argument, "--seeds=") : directory;
    }
    if (target == NULL) {
        fprintf(stderr, "say which target: --target=NAME\n");
        exit(1);
    }
    fuzz_prepare(target);
    if (directory != NULL) {
        target->seeds(&(fuzz_seeds){write_seed, (void *)(uintptr_t)directory});
        exit(0);
    }
    fuzz_libfuzzer_mutate = LLVMFuzzerMutate;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    fuzz_run(target, data, len);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t len, size_t capacity, unsigned int seed) {
    fuzz_input input = {.data = data, .len = len, .capacity = capacity};
    random_state = seed * 0x9E3779B97F4A7C15ULL + 1;
    fuzz_mutate(target, &input);
    return input.len;
}
