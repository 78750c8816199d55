/*
 * t_fuzz.c - the fuzz targets in the C tests: their seeds, the corpus of past findings, and changed
 * inputs of both (see fuzz.h).
 *
 * An input that ends the process is found in the file `input` of the test's scratch directory, as
 * is one that fails a CHECK.
 */
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define CORPUS "csrc/tests/fuzz/corpus"
#define INPUTS_MAX 500
#define ACCEPTED_LEAST 20 /* one of so many changed inputs */

/* Where everything takes longer. */
#if defined(__SANITIZE_THREAD__)
#define SPARSER 10u
#elif defined(__SANITIZE_ADDRESS__) || !defined(__x86_64__) /* maybe emulated */
#define SPARSER 4u
#else
#define SPARSER 1u
#endif

static fuzz_input inputs[INPUTS_MAX];
static uint32_t n_inputs;
static uint8_t *running;

static void keep_input(void *context, const void *data, size_t len) {
    (void)context;
    CHECK(n_inputs < INPUTS_MAX && len <= FUZZ_INPUT_MAX);
    fuzz_input *input = &inputs[n_inputs++];
    *input = (fuzz_input){.data = malloc(len + 1), .len = len, .capacity = len};
    memcpy(input->data, data, len);
}

static void drop_inputs(void) {
    free(running);
    running = NULL;
    while (n_inputs > 0) {
        free(inputs[--n_inputs].data);
    }
}

/* ---- the corpus ---- */

static void read_file(const char *path) {
    static uint8_t bytes[FUZZ_INPUT_MAX];
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL);
    const size_t len = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    keep_input(NULL, bytes, len);
}

static void read_corpus(const fuzz_target *target) {
    char path[1024];
    if (access(CORPUS, R_OK) != 0) {
        test_failed(__FILE__, __LINE__, "no " CORPUS " here: run from the root of the repository");
    }
    snprintf(path, sizeof path, CORPUS "/%s", target->name);
    DIR *directory = opendir(path);
    for (struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL;) {
        if (entry->d_name[0] != '.') {
            snprintf(path, sizeof path, CORPUS "/%s/%s", target->name, entry->d_name);
            read_file(path);
        }
    }
    if (directory != NULL) {
        closedir(directory);
    }
}

static int by_bytes(const void *a, const void *b) {
    const fuzz_input *x = a, *y = b;
    const int order = memcmp(x->data, y->data, x->len < y->len ? x->len : y->len);
    return order != 0 ? order : (x->len > y->len) - (x->len < y->len);
}

/* ---- replaying ---- */

/* The input is in a file while it runs, for whoever has to find out what ended the process. */
static void run_kept(const fuzz_target *target, int file, const fuzz_input *input) {
    CHECK(pwrite(file, input->data, input->len, 0) == (ssize_t)input->len);
    CHECK(ftruncate(file, (off_t)input->len) == 0);
    running = malloc(input->len > 0 ? input->len : 1); /* no byte more than it has */
    memcpy(running, input->data, input->len);
    fuzz_run(target, running, input->len);
    free(running);
    running = NULL;
}

/* Changes of changes, as long as they are accepted, and not for long. */
static void run_changed(const fuzz_target *target, int file) {
    static uint8_t bytes[FUZZ_INPUT_MAX];
    fuzz_input input = {.data = bytes, .capacity = sizeof bytes};
    bool accepted = false;
    for (uint32_t round = 0; round < target->rounds / SPARSER; round++) {
        if (!accepted || test_random_below(4) == 0) {
            const fuzz_input *from = &inputs[test_random_below(n_inputs)];
            memcpy(bytes, from->data, from->len);
            input.len = from->len;
        }
        const uint64_t before = fuzz_accepted;
        fuzz_mutate(target, &input);
        run_kept(target, file, &input);
        accepted = fuzz_accepted > before;
    }
}

/* Inputs that are all refused show nothing. */
static void check_accepted(const fuzz_target *target, uint64_t accepted) {
    const uint32_t rounds = target->rounds / SPARSER;
    if (accepted < rounds / ACCEPTED_LEAST) {
        test_failed(
            __FILE__, __LINE__,
            "only %llu of %u changed inputs got past the checks: does the target still make "
            "checksums right as the format has them?",
            (unsigned long long)accepted, (unsigned)rounds);
    }
}

static void replay(const char *name) {
    char path[1024];
    const fuzz_target *target = fuzz_target_named(name);
    CHECK(target != NULL);
    drop_inputs(); /* of a test that failed */
    fuzz_prepare(target);
    target->seeds(&(fuzz_seeds){keep_input, NULL});
    const uint32_t n_seeds = n_inputs;
    read_corpus(target);
    qsort(inputs + n_seeds, n_inputs - n_seeds, sizeof inputs[0], by_bytes);
    snprintf(path, sizeof path, "%s/input", test_directory());
    const int file = open(path, O_RDWR | O_CREAT, 0600);
    CHECK(file >= 0);
    for (uint32_t i = 0; i < n_inputs; i++) {
        run_kept(target, file, &inputs[i]);
    }
    fuzz_accepted = 0;
    run_changed(target, file);
    check_accepted(target, fuzz_accepted);
    close(file);
    drop_inputs();
}

#define REPLAY(target)                                                                             \
    TEST(fuzz_##target) {                                                                          \
        replay(#target);                                                                           \
    }

REPLAY(superblock)
REPLAY(head)
REPLAY(manifest)
REPLAY(wal)
REPLAY(batch)
REPLAY(vectors)
REPLAY(payload)
REPLAY(tombs)
REPLAY(blocks)
REPLAY(columns)
REPLAY(text)
REPLAY(graph)
REPLAY(words)
REPLAY(sparse)
REPLAY(filter)
REPLAY(search)
REPLAY(msgpack)
REPLAY(write)
REPLAY(database)
REPLAY(transaction)
