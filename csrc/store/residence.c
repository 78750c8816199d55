/*
 * residence.c - see residence.h.
 */
#include "store/residence.h"

#include "base/poison.h"

static uint64_t resident(const vex_container *container, const uint8_t *data, uint64_t len) {
    vex_vfs *vfs = container->vfs;
    return vfs->is_volatile ? len : vfs->map_resident(vfs, data, len);
}

static uint64_t *sum_of(vex_residence *out, uint32_t kind) {
    switch (kind) {
    case VEX_SECTION_VECTORS:
        return &out->vectors;
    case VEX_SECTION_CODES:
        return &out->codes;
    case VEX_SECTION_DOCUMENTS:
    case VEX_SECTION_METADATA:
    case VEX_SECTION_URIS:
        return &out->documents;
    case VEX_SECTION_COLUMNS:
    case VEX_SECTION_SPARSE:
        return &out->columns;
    case VEX_SECTION_TEXT:
    case VEX_SECTION_WORDS:
        return &out->text;
    default:
        return &out->keys;
    }
}

static void add_container(const vex_container *container, vex_residence *out) {
    for (uint32_t i = 0; i < container->n_sections; i++) {
        const vex_section *section = &container->sections[i];
        *sum_of(out, section->kind) += resident(container, section->data, section->len);
    }
    out->mapped += container->size;
}

void vex_vecfile_residence(const vex_vecfile *file, vex_residence *out) {
    add_container(&file->container, out);
}

void vex_payfile_residence(const vex_payfile *file, vex_residence *out) {
    add_container(&file->container, out);
}

uint64_t vex_container_residence(const vex_container *container) {
    return resident(container, container->map, container->size);
}

static void give_back(const vex_container *container, const uint8_t *data, uint64_t len) {
    vex_vfs *vfs = container->vfs;
    vfs->map_advise(vfs, data, len, VEX_ADVISE_DONTNEED);
    vex_stat_add(VEX_STAT_GIVEN_BACK_BYTES, (int64_t)len);
}

void vex_vecfile_give_back(const vex_vecfile *file, bool codes) {
    const vex_container *container = &file->container;
    if (codes) {
        give_back(container, container->map, container->size);
    } else {
        give_back(container, file->vectors, (uint64_t)file->rows * file->stride);
    }
}

void vex_vecfile_give_back_codes(const vex_vecfile *file) {
    if (file->codes != NULL) {
        give_back(&file->container, file->codes, (uint64_t)file->rows * file->code_form.stride);
    }
}

void vex_payfile_give_back(const vex_payfile *file) {
    give_back(&file->container, file->container.map, file->container.size);
}
