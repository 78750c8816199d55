/*
 * compact_plan.c - see compact_plan.h.
 */
#include "db/compact_plan.h"

#include "base/poison.h"

#define DEAD_ROWS_MIN 1000u
#define DEAD_SHARE 5u /* one in so many */
#define TIERS 16u

typedef struct candidate {
    uint64_t file_no, bytes; /* bytes of the live rows, about; payloads uncompressed */
    uint32_t rows, live;
    bool misfit; /* its code rows are of another kind than the collection's */
} candidate;

typedef struct candidates {
    candidate *items;
    uint32_t n;
} candidates;

static candidate make_candidate(const vex_file_entry *entry, uint64_t bytes) {
    uint32_t live = entry->rows - entry->dead_rows;
    return (candidate){entry->file_no, bytes / entry->rows * live, entry->rows, live, false};
}

static vex_status list_files(const vex_snapshot *snapshot, vex_file_kind kind, candidates *out) {
    uint32_t n = kind == VEX_KIND_VECTORS ? snapshot->n_vecs : snapshot->n_pays;
    const uint32_t tag = vex_snapshot_code_tag(snapshot);
    *out = (candidates){vex_calloc((size_t)n + 1, sizeof *out->items), n};
    if (out->items == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to plan a compaction");
    }
    for (uint32_t i = 0; i < n; i++) {
        if (kind == VEX_KIND_VECTORS) {
            const vex_vec_source *source = &snapshot->vecs[i];
            out->items[i] = make_candidate(&source->entry, source->entry.size);
            out->items[i].misfit = source->file->code_form.tag != tag;
        } else {
            const vex_pay_source *source = &snapshot->pays[i];
            uint64_t raw = source->file->raw_document_bytes + source->file->raw_metadata_bytes;
            out->items[i] =
                make_candidate(&source->entry, raw > source->entry.size ? raw : source->entry.size);
        }
    }
    return VEX_OK;
}

static uint32_t tier_of(uint32_t rows) {
    uint32_t tier = 0;
    for (; rows >= VEX_COMPACT_FANOUT; rows /= VEX_COMPACT_FANOUT) {
        tier++;
    }
    return tier;
}

static bool many_dead(uint32_t rows, uint32_t dead) {
    return dead == rows || (dead >= DEAD_ROWS_MIN && dead > rows / DEAD_SHARE);
}

/* Files of one tier, oldest first, as many as a step can take. */
static uint32_t choose_tier(const candidates *files, uint32_t tier, uint64_t bytes_max,
                            uint64_t *chosen) {
    uint64_t bytes = 0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < files->n && n < VEX_COMPACT_FILES_MAX; i++) {
        const candidate *file = &files->items[i];
        if (tier_of(file->live) == tier && bytes + file->bytes <= bytes_max) {
            bytes += file->bytes;
            chosen[n++] = file->file_no;
        }
    }
    return n >= VEX_COMPACT_FANOUT ? n : 0;
}

static uint32_t choose_background(const candidates *files, uint64_t bytes_max, uint64_t *chosen) {
    uint32_t n = 0;
    for (uint32_t tier = 0; tier < TIERS && n == 0; tier++) {
        n = choose_tier(files, tier, bytes_max, chosen);
    }
    for (uint32_t i = 0; i < files->n && n == 0; i++) {
        const candidate *file = &files->items[i];
        if (file->misfit || many_dead(file->rows, file->rows - file->live)) {
            chosen[n++] = file->file_no;
        }
    }
    return n;
}

/* The first run of neighbours that make one file and are not one yet, or have dead rows. */
static uint32_t choose_vacuum(const candidates *files, uint64_t bytes_max, uint64_t *chosen) {
    for (uint32_t i = 0; i < files->n;) {
        uint64_t bytes = 0;
        uint32_t n = 0;
        bool stale = false;
        while (i < files->n && n < VEX_COMPACT_FILES_MAX &&
               (n == 0 || bytes + files->items[i].bytes <= bytes_max)) {
            const candidate *file = &files->items[i++];
            bytes += file->bytes;
            stale = stale || file->misfit || file->live < file->rows;
            chosen[n++] = file->file_no;
        }
        if (n > 1 || stale) {
            return n;
        }
    }
    return 0;
}

typedef uint32_t (*chooser)(const candidates *files, uint64_t bytes_max, uint64_t *chosen);

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static vex_status make_plan(const vex_snapshot *snapshot, chooser choose, uint64_t vectors_max,
                            uint64_t payloads_max, vex_compact_plan *plan, bool *found) {
    candidates vecs = {0}, pays = {0};
    vex_status status = list_files(snapshot, VEX_KIND_VECTORS, &vecs);
    if (status == VEX_OK) {
        status = list_files(snapshot, VEX_KIND_PAYLOAD, &pays);
    }
    if (status == VEX_OK) {
        plan->n_vecs = choose(&vecs, vectors_max, plan->vecs);
        plan->n_pays = choose(&pays, payloads_max, plan->pays);
        *found = plan->n_vecs + plan->n_pays > 0;
    }
    vex_free(vecs.items);
    vex_free(pays.items);
    return status;
}

vex_status vex_plan_background(const vex_snapshot *snapshot, uint64_t file_max,
                               vex_compact_plan *plan, bool *found) {
    return make_plan(snapshot, choose_background, least(file_max, VEX_COMPACT_STEP_VECTORS),
                     least(file_max, VEX_COMPACT_STEP_PAYLOADS), plan, found);
}

vex_status vex_plan_vacuum(const vex_snapshot *snapshot, uint64_t file_max, vex_compact_plan *plan,
                           bool *found) {
    return make_plan(snapshot, choose_vacuum, least(file_max, VEX_COMPACT_VACUUM_VECTORS),
                     least(file_max, VEX_COMPACT_STEP_PAYLOADS), plan, found);
}

/* ---- on a full disk ---- */

static void find_smallest(const vex_file_entry *entry, bool few, uint64_t *bytes,
                          uint64_t *file_no) {
    uint32_t live = entry->rows - entry->dead_rows;
    uint64_t needed = entry->size / entry->rows * live;
    if (entry->dead_rows > (few ? 0 : entry->rows / DEAD_SHARE) && needed <= *bytes) {
        *bytes = needed;
        *file_no = entry->file_no;
    }
}

void vex_plan_within(const vex_snapshot *snapshot, uint64_t bytes, bool few, vex_compact_plan *plan,
                     bool *found) {
    uint64_t vec = 0, pay = 0, smallest = bytes;
    for (uint32_t i = 0; i < snapshot->n_vecs; i++) {
        find_smallest(&snapshot->vecs[i].entry, few, &smallest, &vec);
    }
    for (uint32_t i = 0; i < snapshot->n_pays; i++) {
        find_smallest(&snapshot->pays[i].entry, few, &smallest, &pay);
    }
    plan->n_pays = pay != 0;
    plan->n_vecs = vec != 0 && pay == 0; /* the payload is smaller, being found later */
    plan->vecs[0] = vec;
    plan->pays[0] = pay;
    *found = plan->n_vecs + plan->n_pays > 0;
}

bool vex_plan_has_dead(const vex_snapshot *snapshot) {
    bool any = false;
    for (uint32_t i = 0; i < snapshot->n_vecs; i++) {
        any = any || snapshot->vecs[i].entry.dead_rows > 0;
    }
    for (uint32_t i = 0; i < snapshot->n_pays; i++) {
        any = any || snapshot->pays[i].entry.dead_rows > 0;
    }
    return any;
}

/* ---- is it worth a flush? ---- */

static uint64_t reclaimable_of(const vex_file_entry *entry, const vex_tombs *tombs) {
    uint32_t fresh = tombs->dead - entry->dead_rows;
    if (tombs->dead == tombs->rows) {
        return entry->size; /* the flush drops it */
    }
    return fresh > 0 && many_dead(entry->rows, tombs->dead) ? entry->size / entry->rows * fresh : 0;
}

uint64_t vex_plan_reclaimable(const vex_snapshot *snapshot, uint64_t wal_bytes) {
    const vex_memtable *table = snapshot->mems[snapshot->n_mems - 1].table;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < snapshot->n_vecs; i++) {
        bytes += reclaimable_of(&snapshot->vecs[i].entry, snapshot->vecs[i].tombs);
    }
    for (uint32_t i = 0; i < snapshot->n_pays; i++) {
        bytes += reclaimable_of(&snapshot->pays[i].entry, snapshot->pays[i].tombs);
    }
    uint64_t rows = (uint64_t)vex_memtable_vectors(table) + vex_memtable_payloads(table);
    uint64_t dead = vex_memtable_dead(table);
    uint64_t held = vex_memtable_bytes(table) > wal_bytes ? vex_memtable_bytes(table) : wal_bytes;
    if (rows == 0) {
        bytes += wal_bytes; /* nothing but deletes */
    } else if (dead >= DEAD_ROWS_MIN && dead * 2 >= rows) {
        bytes += held / rows * dead;
    }
    return bytes;
}
