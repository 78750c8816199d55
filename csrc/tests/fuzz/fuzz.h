/*
 * fuzz.h - what the fuzz targets share.
 *
 * A target reads bytes that somebody may have changed on purpose: files, log records, requests.
 * It brings valid inputs to begin with (`seeds`), changes that know the format (`change`), and
 * makes all checksums right again after a change (`fix`), because nothing else would ever get
 * past them.  Two drivers run the targets: libfuzzer.c with clang (`make fuzz`), and t_fuzz.c in
 * the C tests, which replays the seeds, the corpus of past findings, and some thousand changed
 * inputs that depend on the seed of the tests only.
 *
 * A target CHECKs; a failed CHECK is a finding, like a crash.  Around every run the driver checks
 * that nothing was left allocated, open or mapped, and that no single allocation was larger
 * than the input can account for.
 */
#ifndef VEX_TESTS_FUZZ_H
#define VEX_TESTS_FUZZ_H

#include "base/bytes.h"
#include "base/mem.h"
#include "io/vfs.h"
#include "store/manifest.h"
#include "tests/harness.h"

/* An input while it is changed. */
typedef struct fuzz_input {
    uint8_t *data;
    size_t len, capacity;
} fuzz_input;

/* Receives the seeds of a target. */
typedef struct fuzz_seeds {
    void (*take)(void *context, const void *data, size_t len);
    void *context;
} fuzz_seeds;

typedef struct fuzz_target {
    const char *name;
    void (*prepare)(void);                        /* once, before anything else; NULL: nothing    */
    void (*seeds)(const fuzz_seeds *seeds);
    void (*run)(const uint8_t *data, size_t len);
    void (*change)(fuzz_input *input);            /* NULL: fuzz_change                            */
    void (*fix)(uint8_t *data, size_t len);       /* NULL: nothing has a checksum                 */
    uint32_t rounds;                              /* changed inputs in the C tests                */
    size_t expansion;                             /* bytes allocated at once per byte of input;
                                                     0: FUZZ_EXPANSION                            */
} fuzz_target;

extern const fuzz_target *const fuzz_targets[];   /* NULL at the end                              */
const fuzz_target *fuzz_target_named(const char *name); /* or NULL */

/* Any target may allocate so much at once, and so many times its input. */
#define FUZZ_ALLOCATION_FREE ((size_t)4 << 20)
#define FUZZ_EXPANSION 64u
#define FUZZ_INPUT_MAX ((size_t)256 << 10)

void fuzz_prepare(const fuzz_target *target);
/* Run one input, with the checks above. */
void fuzz_run(const fuzz_target *target, const uint8_t *data, size_t len);
/* To be called by a run that got past the checks of its input. */
void fuzz_accept(void);
extern uint64_t fuzz_accepted; /* how often that was */
/* A few changes, and nearly always right checksums. */
void fuzz_mutate(const fuzz_target *target, fuzz_input *input);

/* ---- changes (change.c) ---- */

/* libFuzzer's own mutations, where it is the driver. */
extern size_t (*fuzz_libfuzzer_mutate)(uint8_t *data, size_t len, size_t capacity);

/* A change of any kind at any place; may change the length. */
void fuzz_change(fuzz_input *input);
/* Another number at `at`, of 1, 2, 4 or 8 bytes: one that tests limits, such as `limit` +- 1. */
void fuzz_change_number(uint8_t *at, uint32_t width, uint64_t limit);

typedef struct fuzz_field {
    uint16_t at;
    uint8_t width;
} fuzz_field;
/* The same of one of the fields of a structure of which `len` bytes are there. */
void fuzz_change_field(uint8_t *structure, size_t len, const fuzz_field *fields, size_t n,
                       uint64_t limit);
#define FUZZ_CHANGE_FIELD(structure, len, fields, limit)                                           \
    fuzz_change_field(structure, len, fields, sizeof(fields) / sizeof(fields)[0], limit)
/* Let `change` change the bytes [at, at + len) of the input, whose length may then differ. */
void fuzz_change_part(fuzz_input *input, size_t at, size_t len, void (*change)(fuzz_input *part));

/* ---- formats: each in the file of its target ---- */

void fuzz_change_superblock(fuzz_input *input);
void fuzz_fix_superblock(uint8_t *data, size_t len);
void fuzz_change_head(fuzz_input *input);
void fuzz_fix_head(uint8_t *data, size_t len); /* of the collection FUZZ_COLLECTION */
void fuzz_change_manifest(fuzz_input *input);
void fuzz_fix_manifest(uint8_t *data, size_t len);
void fuzz_change_wal(fuzz_input *input);
void fuzz_fix_wal(uint8_t *data, size_t len);
void fuzz_change_batch(fuzz_input *input);
void fuzz_change_container(fuzz_input *input);
void fuzz_fix_container(uint8_t *data, size_t len);
void fuzz_change_blocks(fuzz_input *input);
void fuzz_fix_blocks(uint8_t *data, size_t len);
void fuzz_change_columns(fuzz_input *input);
void fuzz_fix_columns(uint8_t *data, size_t len);
void fuzz_change_text(fuzz_input *input);
void fuzz_fix_text(uint8_t *data, size_t len);

/* What a manifest would list about such a file: size and checksum. */
vex_file_entry fuzz_entry_of(vex_file_kind kind, uint64_t file_no, const uint8_t *data,
                             size_t len);
/* And about the rows of a vector or payload file in "/": what it says itself. */
void fuzz_rows_of(vex_vfs *files, vex_file_entry *entry);

#define FUZZ_COLLECTION ((const uint8_t *)"a collection's id")
#define FUZZ_DATABASE ((const uint8_t *)"a database's uuid")

/* ---- files (files.c) ---- */

/* A tree in memory whose mappings have exactly the length of the file, so that a sanitizer sees a
 * read behind its end. */
vex_vfs *fuzz_files_create(void);
void fuzz_file_put(vex_vfs *files, const char *path, const void *data, size_t len);
void fuzz_file_get(vex_vfs *files, const char *path, vex_buf *out);

/* A failure that bytes in a file may have: damage or a later release, with a message, and the file
 * when `path` is one. */
void fuzz_check_error(vex_status status, const char *path);

#endif
