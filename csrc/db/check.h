/*
 * check.h - examining one collection, step by step (vexfs.h, "checking and repairing").
 *
 * Beside running writers: a file is found damaged or missing under a manifest.  When a newer manifest
 * is there by then, that counts for nothing, and the check begins anew with that one; files that were
 * examined are not examined again, as they never change.
 */
#ifndef VEX_DB_CHECK_H
#define VEX_DB_CHECK_H

#include "db/db.h"

typedef enum check_stage {
    CHECK_MANIFEST, CHECK_FILES, CHECK_LOGS, CHECK_REST, CHECK_STATE, CHECK_DONE
} check_stage;

struct vex_check {
    vex_vfs *vfs;
    char *path, *dir;
    uint8_t database[16], collection[16];
    bool deep, gone;
    check_stage stage;
    uint32_t next_file;
    uint32_t restarts;
    vex_manifest manifest;
    uint64_t *examined;        /* numbers of files                                                */
    size_t n_examined, examined_capacity;
    uint64_t files, bytes, rows, lsn;
    vex_buf findings;          /* MessagePack items                                               */
    uint32_t n_findings, n_damaged;
};

/* Add a finding; printf-style text. */
vex_status check_note(vex_check *check, bool damage, const char *path, uint64_t offset,
                      const char *format, ...) __attribute__((format(printf, 5, 6)));
/* The error just recorded as a finding, when it is about the files; else hand it on. */
vex_status check_note_error(vex_check *check, vex_status status);

/* check_logs.c: the logs from the manifest's first on.  Errors: as opening gives them. */
vex_status check_logs(vex_check *check);
/* check_rows.c: the collection as opening it shows it: every living record, when `deep`.  Errors: as
 * opening gives them. */
vex_status check_state(vex_check *check);

#endif
