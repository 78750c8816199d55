/*
 * residence.h - how much of the mapped files is in memory, and giving it back.
 *
 * The pages of a mapping that were used count as memory of the process until they are given back.
 * Then they stay in the system's cache of files, as far as it has room, and the next use maps them
 * again: about a microsecond for 64 KiB.
 */
#ifndef VEX_STORE_RESIDENCE_H
#define VEX_STORE_RESIDENCE_H

#include "store/payfile.h"
#include "store/vecfile.h"

/* Bytes in memory, by what they are; of files in a tree in memory all bytes. */
typedef struct vex_residence {
    uint64_t vectors, codes;
    uint64_t keys;          /* of rows: seqs, norms, ids and their index                        */
    uint64_t documents;     /* and metadata, uris                                               */
    uint64_t columns, text; /* what filters, and searches of documents, read                    */
    uint64_t mapped;        /* all bytes of the files, in memory or not                         */
} vex_residence;

/* Add a file. */
void vex_vecfile_residence(const vex_vecfile *file, vex_residence *out);
void vex_payfile_residence(const vex_payfile *file, vex_residence *out);
/* Only the bytes in memory that vex_residence does not know of: one mapping as a whole. */
uint64_t vex_container_residence(const vex_container *container);

/* Of a vector file the vectors; with `codes` all the rest, too. */
void vex_vecfile_give_back(const vex_vecfile *file, bool codes);
void vex_vecfile_give_back_codes(const vex_vecfile *file);
void vex_payfile_give_back(const vex_payfile *file);

#endif
