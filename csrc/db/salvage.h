/*
 * salvage.h - what can be read of a damaged collection: from files to records (vexfs.h, "checking and
 * repairing").
 *
 * salvage_files.c and salvage_logs.c list *versions*: rows of seqs, with the batch that they are of at
 * the latest.  salvage.c takes the newest version of each seq, leaves out what a log deleted, pairs
 * payloads with vectors, and notes what is lost; salvage_read.c reads the records.
 *
 * Rows that are dead by the tombstones are left out from the start, so with all of those intact there is one
 * version per seq and kind.  Where some are lost, old versions lose to newer ones, deleted records lose
 * to living ones of the same id, and other deleted records are back.
 */
#ifndef VEX_DB_SALVAGE_H
#define VEX_DB_SALVAGE_H

#include "db/db.h"
#include "store/wreck_rows.h"

typedef struct salvage_version {
    uint64_t seq;
    uint64_t lsn;              /* the newest batch that it may be of                              */
    uint32_t source;           /* a file, or n_files + a batch                                    */
    uint32_t row;              /* of the file, operation of the batch; SALVAGE_DELETED            */
} salvage_version;

#define SALVAGE_DELETED UINT32_MAX

typedef struct salvage_versions {
    salvage_version *list;
    size_t n, capacity;
} salvage_versions;

typedef struct salvage_batch {
    vex_buf body;
    vex_batch batch;           /* points into it                                                  */
} salvage_batch;

typedef struct salvage_record {
    salvage_version payload, vector;
    uint64_t id_hash;
    bool replaced;             /* a newer one has its id                                          */
} salvage_record;

struct vex_salvage {
    vex_vfs *vfs;
    char *path, *dir;          /* of the database, of the collection                              */
    uint8_t database[16], collection[16];
    vex_manifest manifest;     /* generation 0: lost                                              */
    bool unlisted;             /* the manifest was lost: all files count                          */
    vex_wreck_rows *files;
    uint32_t n_files;
    salvage_batch *batches;
    size_t n_batches, batches_capacity;
    salvage_versions payloads, vectors;
    bool vectors_lost;         /* some vector rows are: payloads without one are not just deleted */
    salvage_record *records;
    size_t n_records, next;
    uint32_t dimension, space; /* space UINT32_MAX: not known                                     */
    uint64_t bytes;
    vex_buf losses;            /* MessagePack items                                               */
    uint32_t n_losses;
};

/* ---- salvage.c ---- */
vex_status salvage_add(salvage_versions *versions, const salvage_version *version);
/* Note that something is lost: `what` of vexfs.h; id NULL: not known; count 0: not known. */
vex_status salvage_lose(vex_salvage *s, const char *what, const uint8_t *id, size_t id_len,
                        uint64_t count, const char *path, uint64_t offset, const char *why);
/* The id of a payload version; false: lost. */
bool salvage_id(const vex_salvage *s, const salvage_version *payload, const uint8_t **id,
                size_t *len);
/* The operation of a version that is in a batch; NULL: it is in a file. */
const vex_op *salvage_op(const vex_salvage *s, const salvage_version *version);

/* ---- salvage_files.c, salvage_logs.c ---- */
vex_status salvage_files(vex_salvage *s);
vex_status salvage_logs(vex_salvage *s);

#endif
