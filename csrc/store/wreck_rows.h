/*
 * wreck_rows.h - the rows of a vec or pay file, as far as they are intact (wreck.h).
 *
 * A file whose INFO is lost has no rows; a row whose seq is lost is none.  Rows that share a damaged
 * 64 KiB chunk of a section, or a damaged block of values, lose what lies there and nothing else.
 */
#ifndef VEX_STORE_WRECK_ROWS_H
#define VEX_STORE_WRECK_ROWS_H

#include "codec/block.h"
#include "store/batch.h"
#include "store/vecfile.h"
#include "store/wreck.h"

/* The values of a payload row beside its id. */
typedef enum vex_wreck_part {
    VEX_WRECK_DOCUMENT, VEX_WRECK_METADATA, VEX_WRECK_URI, VEX_WRECK_PARTS
} vex_wreck_part;

typedef struct vex_wreck_column {
    bool there, lost;          /* lost: of all rows                                               */
    uint64_t offset;           /* of the section in the file                                      */
    vex_block_column column;
    vex_block_reader reader;
} vex_wreck_column;

typedef struct vex_wreck_rows {
    vex_wreck wreck;
    vex_file_kind kind;
    uint64_t file_no;
    uint64_t lsn_hi;           /* the newest batch that it may hold rows of                       */
    uint32_t rows;
    const vex_wreck_section *seqs, *vectors, *ids;
    vex_vec_shape shape;       /* of vec files                                                    */
    vex_wreck_column columns[VEX_WRECK_PARTS];
    uint64_t *dead;            /* a bit per row; NULL: none is known to be dead                   */
    bool dead_unknown;         /* some of that was lost: deleted rows may seem alive              */
} vex_wreck_rows;

/* `entry` has kind and file number; when `listed`, all of it is from a manifest.  The struct must
 * stay where it is. */
vex_status vex_wreck_rows_open(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                               const vex_file_entry *entry, bool listed, vex_wreck_rows *out);
/* Read which rows are dead from the tombstone file of that number; after a failure to do so all seem
 * alive. `entry` NULL: no manifest knows. */
vex_status vex_wreck_rows_read_dead(vex_wreck_rows *rows, const char *dir, const uint8_t uuid[16],
                                    uint64_t tombs_file_no, const vex_file_entry *entry);
void vex_wreck_rows_close(vex_wreck_rows *rows);

/* The file that a tombstone file is for; 0 when it does not say. */
vex_status vex_wreck_tombs_of(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                              uint64_t tombs_file_no, uint64_t *file_no);

/* False: lost, or the row is dead. */
bool vex_wreck_rows_live(const vex_wreck_rows *rows, uint32_t row, uint64_t *seq);
bool vex_wreck_rows_dead(const vex_wreck_rows *rows, uint32_t row);
bool vex_wreck_rows_has_vector(const vex_wreck_rows *rows, uint32_t row);
void vex_wreck_rows_vector(const vex_wreck_rows *rows, uint32_t row, float *dst);
bool vex_wreck_rows_id(const vex_wreck_rows *rows, uint32_t row, const uint8_t **id, size_t *len);
/* NULL bytes: there is none.  Valid until the next call for that part.  *lost: it cannot be read. */
vex_status vex_wreck_rows_value(vex_wreck_rows *rows, uint32_t row, vex_wreck_part part,
                                const uint8_t **bytes, size_t *len, bool *lost);

#endif
