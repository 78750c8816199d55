/*
 * annex.c - see annex.h.
 */
#include "store/annex.h"

#include "base/poison.h"

void vex_annex_init(vex_annex *annex, void (*destroy)(vex_annex *annex)) {
    atomic_init(&annex->refs, 1);
    atomic_init(&annex->bytes, 0);
    annex->destroy = destroy;
}

static void acquire(vex_annex *annex) {
    atomic_fetch_add_explicit(&annex->refs, 1, memory_order_relaxed);
}

void vex_annex_release(vex_annex *annex) {
    if (annex != NULL && atomic_fetch_sub_explicit(&annex->refs, 1, memory_order_acq_rel) == 1) {
        annex->destroy(annex);
    }
}

void vex_annexes_init(vex_annexes *annexes) {
    *annexes = (vex_annexes){0};
    pthread_mutex_init(&annexes->mutex, NULL);
    pthread_mutex_init(&annexes->making, NULL);
}

void vex_annexes_forget(vex_annexes *annexes) {
    for (int kind = 0; kind < VEX_ANNEX_KINDS; kind++) {
        pthread_mutex_lock(&annexes->mutex);
        vex_annex *old = annexes->kept[kind];
        annexes->kept[kind] = NULL;
        pthread_mutex_unlock(&annexes->mutex);
        vex_annex_release(old);
    }
}

void vex_annexes_clear(vex_annexes *annexes) {
    vex_annexes_forget(annexes);
    pthread_mutex_destroy(&annexes->mutex);
    pthread_mutex_destroy(&annexes->making);
}

size_t vex_annexes_bytes(vex_annexes *annexes) {
    size_t bytes = 0;
    pthread_mutex_lock(&annexes->mutex);
    for (int kind = 0; kind < VEX_ANNEX_KINDS; kind++) {
        vex_annex *annex = annexes->kept[kind];
        bytes += annex ? atomic_load_explicit(&annex->bytes, memory_order_relaxed) : 0;
    }
    pthread_mutex_unlock(&annexes->mutex);
    return bytes;
}

vex_annex *vex_annexes_get(vex_annexes *annexes, vex_annex_kind kind) {
    pthread_mutex_lock(&annexes->mutex);
    vex_annex *annex = annexes->kept[kind];
    if (annex != NULL) {
        acquire(annex);
    }
    pthread_mutex_unlock(&annexes->mutex);
    return annex;
}

void vex_annexes_put(vex_annexes *annexes, vex_annex_kind kind, vex_annex *annex) {
    acquire(annex);
    pthread_mutex_lock(&annexes->mutex);
    vex_annex *old = annexes->kept[kind];
    annexes->kept[kind] = annex;
    pthread_mutex_unlock(&annexes->mutex);
    vex_annex_release(old);
}

vex_status vex_annexes_need(vex_annexes *annexes, vex_annex_kind kind,
                            vex_status (*make)(void *context, vex_annex **out), void *context,
                            vex_annex **out) {
    if ((*out = vex_annexes_get(annexes, kind)) != NULL) {
        return VEX_OK;
    }
    vex_status status = VEX_OK;
    pthread_mutex_lock(&annexes->making);
    if ((*out = vex_annexes_get(annexes, kind)) == NULL) {
        status = make(context, out);
        if (status == VEX_OK) {
            vex_annexes_put(annexes, kind, *out);
        }
    }
    pthread_mutex_unlock(&annexes->making);
    return status;
}
