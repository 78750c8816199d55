/*
 * annex.h - what a higher layer has made of a file or a memtable, kept with it: one thing of each
 * kind.
 *
 * Any thread may call anything at any time.  Whoever uses a thing holds a reference to it; nothing
 * is ever wrong for being forgotten, as it can be made again.
 */
#ifndef VEX_STORE_ANNEX_H
#define VEX_STORE_ANNEX_H

#include "base/status.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

typedef enum vex_annex_kind {
    VEX_ANNEX_WORDS,      /* an index of words (rank/)                                            */
    VEX_ANNEX_WORDS_LIVE, /* what the words of living rows come to                                */
    VEX_ANNEX_SPARSE,     /* an index of sparse vectors (rank/)                                   */
    VEX_ANNEX_KINDS
} vex_annex_kind;

/* The first member of what is kept; destroy() frees the whole. */
typedef struct vex_annex {
    atomic_uint refs;
    void (*destroy)(struct vex_annex *annex);
    atomic_size_t bytes; /* of memory, about                                                      */
} vex_annex;

void vex_annex_init(vex_annex *annex, void (*destroy)(vex_annex *annex)); /* refs = 1             */
void vex_annex_release(vex_annex *annex);                                 /* NULL is fine         */

typedef struct vex_annexes {
    pthread_mutex_t mutex, making;
    vex_annex *kept[VEX_ANNEX_KINDS];
} vex_annexes;

void vex_annexes_init(vex_annexes *annexes);
void vex_annexes_clear(vex_annexes *annexes);
/* Give up all references. */
void vex_annexes_forget(vex_annexes *annexes);
size_t vex_annexes_bytes(vex_annexes *annexes);
/* With a reference, or NULL. */
vex_annex *vex_annexes_get(vex_annexes *annexes, vex_annex_kind kind);
/* Keep it in the place of what is kept; the caller's reference stays the caller's. */
void vex_annexes_put(vex_annexes *annexes, vex_annex_kind kind, vex_annex *annex);
/* The same, made by `make` when there is none, by one thread at a time. */
vex_status vex_annexes_need(vex_annexes *annexes, vex_annex_kind kind,
                            vex_status (*make)(void *context, vex_annex **out), void *context,
                            vex_annex **out);

#endif
