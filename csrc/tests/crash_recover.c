/*
 * crash_recover.c - what recovery must be like, whatever was lost: every collection opens or is
 * absent, a second opening finds the same, it can be written, and nothing lies about (crash_kit.h).
 */
#include "tests/crash_kit.h"

#include "base/mem.h"
#include "db/db.h"

/* ---- leftovers ---- */

typedef struct looking {
    vex_vfs *files;
    char *out;
    size_t size;
    const vex_manifest *manifest;
    uint32_t n_graphs;
} looking;

static void note(const looking *l, const char *name) {
    size_t at = strlen(l->out);
    snprintf(l->out + at, l->size - at, "%s ", name);
}

static bool is_listed(const vex_manifest *manifest, const char *name) {
    char expected[VEX_FILE_NAME_MAX];
    for (uint32_t i = 0; i < manifest->n_files; i++) {
        const vex_file_entry *entry = &manifest->files[i];
        vex_file_name(expected, entry->kind, entry->file_no);
        if (strcmp(expected, name) == 0) {
            return true;
        }
        vex_file_name(expected, VEX_KIND_TOMBS, entry->tombs_file_no);
        if (entry->tombs_file_no != 0 && strcmp(expected, name) == 0) {
            return true;
        }
    }
    return false;
}

static vex_status look_at_file(void *context, const char *name) {
    looking *l = context;
    char manifest[64];
    uint64_t number;
    snprintf(manifest, sizeof manifest, "manifest-%020llu",
             (unsigned long long)l->manifest->generation);
    if (vex_file_number(name, VEX_KIND_GRAPH, &number)) {
        l->n_graphs++;
    } else if (strcmp(name, "head") != 0 && strcmp(name, manifest) != 0 &&
               !(vex_wal_parse_name(name, &number) && number >= l->manifest->wal_first) &&
               !is_listed(l->manifest, name)) {
        note(l, name);
    }
    return VEX_OK;
}

static vex_status look_at_collection(void *context, const char *name) {
    looking *l = context;
    char path[VEX_PATH_MAX];
    vex_superblock super;
    vex_manifest manifest = {0};
    uint64_t generation = 0;
    VEX_TRY(vex_superblock_read(l->files, CRASH_PATH, &super));
    VEX_TRY(vex_path_join(path, CRASH_PATH "/collections", name));
    if (strlen(name) != 32 || vex_manifest_newest(l->files, path, &generation) != VEX_OK ||
        generation == 0) {
        note(l, name);
        return VEX_OK;
    }
    VEX_TRY(vex_manifest_read(l->files, path, super.uuid, generation, &manifest));
    l->manifest = &manifest;
    l->n_graphs = 0;
    vex_status status = l->files->dir_list(l->files, path, look_at_file, l);
    if (l->n_graphs > 2) { /* an older one goes when the next is saved */
        note(l, "several graphs");
    }
    vex_manifest_clear(&manifest);
    return status;
}

static vex_status look_at_database(void *context, const char *name) {
    static const char *const known[] = {"VEXFS", "LOCK", "MAINT", "collections"};
    for (int i = 0; i < 4; i++) {
        if (strcmp(name, known[i]) == 0) {
            return VEX_OK;
        }
    }
    note(context, name);
    return VEX_OK;
}

void crash_leftovers(vex_vfs *files, char *out, size_t size) {
    looking l = {.files = files, .out = out, .size = size};
    out[0] = '\0';
    vex_status status = files->dir_list(files, CRASH_PATH, look_at_database, &l);
    if (status == VEX_OK) {
        status = files->dir_list(files, CRASH_PATH "/collections", look_at_collection, &l);
    }
    if (status != VEX_OK) {
        note(&l, vex_last_error()->message);
    }
}

/* ---- the backup ---- */

static vex_status describe_backup(char out[CRASH_TEXT]) {
    const vex_db_options options = {.flags = VEX_OPEN_READ_ONLY};
    vex_db *db = NULL;
    vex_collection *collection = NULL;
    VEX_TRY(vex_db_open(CRASH_BACKUP, &options, &db));
    vex_status status = vex_collection_open(db, crash_uuid(0), &collection);
    if (status == VEX_OK) {
        status = crash_describe(collection, out);
        (void)vex_collection_close(collection);
    }
    (void)vex_db_close(db);
    return status;
}

void crash_look_at_backup(vex_vfs *files, char out[CRASH_TEXT]) {
    vex_vfs *before = vex_db_test_files;
    vex_file_stat stat;
    snprintf(out, CRASH_TEXT, "absent");
    if (files->path_stat(files, CRASH_BACKUP, &stat) == VEX_ERR_NOT_FOUND) {
        return;
    }
    vex_db_test_files = files;
    if (describe_backup(out) != VEX_OK) {
        snprintf(out, CRASH_TEXT, "nothing that can be read: %s: %s", vex_last_error()->path,
                 vex_last_error()->message);
    }
    vex_db_test_files = before;
}

/* ---- recovering ---- */

static bool fail(char *why, const char *what, const char *detail) {
    const vex_error *error = vex_last_error();
    snprintf(why, CRASH_WHY, "%s: %s [last error: %s: %s: %s]", what, detail,
             vex_status_name(error->code), error->path, error->message);
    return false;
}

/* The texts of all collections; those that are not there are "absent". */
static bool describe_all(crash_world *world, char found[CRASH_COLLECTIONS][CRASH_TEXT], char *why) {
    uint8_t *uuids = NULL;
    uint32_t listed = 0, there = 0;
    if (crash_open(world) != VEX_OK) {
        return fail(why, "opening", "refused");
    }
    for (int c = 0; c < CRASH_COLLECTIONS; c++) {
        snprintf(found[c], CRASH_TEXT, "absent");
        if (world->open[c] != NULL) {
            there++;
            if (crash_describe(world->open[c], found[c]) != VEX_OK) {
                return fail(why, "reading", "refused");
            }
        }
    }
    if (vex_collection_list(world->db, &uuids, &listed) != VEX_OK) {
        return fail(why, "listing", "refused");
    }
    vex_bytes_free(uuids);
    return listed == there || fail(why, "listing", "other collections than can be opened");
}

static bool compare_all(crash_world *world, char expected[CRASH_COLLECTIONS][CRASH_TEXT],
                        const char *when, char *why) {
    char found[CRASH_COLLECTIONS][CRASH_TEXT];
    if (!describe_all(world, found, why)) {
        return false;
    }
    for (int c = 0; c < CRASH_COLLECTIONS; c++) {
        if (strcmp(found[c], expected[c]) != 0) {
            snprintf(why, CRASH_WHY, "%s collection %d holds %s, expected %s", when, c, found[c],
                     expected[c]);
            return false;
        }
    }
    return true;
}

/* Write one record to every collection; the texts become what they must be then. */
static bool write_all(crash_world *world, char texts[CRASH_COLLECTIONS][CRASH_TEXT], char *why) {
    bool any = false;
    for (int c = 0; c < CRASH_COLLECTIONS; c++) {
        char step[16];
        any = any || world->open[c] != NULL;
        if (world->open[c] == NULL && (c < CRASH_COLLECTIONS - 1 || any)) {
            continue;
        }
        if (world->open[c] == NULL) { /* there is none: make one */
            snprintf(step, sizeof step, "C%d", c);
            if (crash_run(world, step, NULL) != VEX_OK) {
                return fail(why, "creating", "refused");
            }
            texts[c][0] = '\0';
        }
        snprintf(step, sizeof step, "Y%d", c);
        world->steps = 901; /* odd: no document */
        if (crash_run(world, step, NULL) != VEX_OK) {
            return fail(why, "writing", "refused");
        }
        size_t at = strlen(texts[c]);
        snprintf(texts[c] + at, CRASH_TEXT - at, "y902=902/d902 ");
    }
    return vex_db_wait_idle(world->db, 20000) == VEX_OK || fail(why, "waiting", "refused");
}

static bool query(vex_collection *collection, uint32_t flags, float distances[3], uint32_t *n) {
    const float point[2] = {3, 3};
    const vex_query_options options = {.flags = flags};
    vex_result *result = NULL;
    if (vex_query(collection, NULL, point, 1, 2, 3, &options, 0, &result) != VEX_OK) {
        return false;
    }
    *n = result->n_rows;
    memcpy(distances, result->distances, result->n_rows * sizeof *distances);
    vex_result_free(result);
    return true;
}

/* Whatever became of its files, a search by the graph finds what a search without finds. */
static bool query_graphs(crash_world *world, char *why) {
    for (int c = 0; c < CRASH_COLLECTIONS; c++) {
        float exact[3] = {0}, found[3] = {0};
        uint32_t n = 0, n_found = 0;
        if (world->open[c] == NULL) {
            continue;
        }
        if (!query(world->open[c], VEX_QUERY_EXACT, exact, &n)) {
            return fail(why, "querying", "refused");
        }
        for (int i = 0; i < 2; i++) { /* the first has it loaded, or built */
            if (!query(world->open[c], VEX_QUERY_GRAPH, found, &n_found) || n != n_found ||
                memcmp(exact, found, sizeof found) != 0) {
                return fail(why, "querying by the graph", "other records");
            }
            if (vex_db_wait_idle(world->db, 20000) != VEX_OK) {
                return fail(why, "waiting for the graph", "refused");
            }
        }
    }
    return true;
}

static bool recover(crash_world *world, char found[CRASH_COLLECTIONS][CRASH_TEXT], char *why) {
    char texts[CRASH_COLLECTIONS][CRASH_TEXT], left[512];
    if (!describe_all(world, found, why) ||
        (world->options.index_rows > 0 && !query_graphs(world, why))) {
        return false;
    }
    crash_close(world);
    if (!compare_all(world, found, "opened again,", why)) {
        return false;
    }
    memcpy(texts, found, sizeof texts);
    if (!write_all(world, texts, why) || !compare_all(world, texts, "written,", why)) {
        return false;
    }
    crash_leftovers(world->files, left, sizeof left);
    if (left[0] != '\0') {
        return fail(why, "left over", left);
    }
    crash_close(world);
    return compare_all(world, texts, "written and opened again,", why);
}

bool crash_recover(vex_vfs *files, const vex_db_options *options,
                   char found[CRASH_COLLECTIONS][CRASH_TEXT], char why[CRASH_WHY]) {
    static crash_world world; /* histories are large */
    memset(&world, 0, sizeof world);
    world.files = files;
    world.options = *options;
    world.options.durability = VEX_DURABILITY_FULL;
    for (int c = 0; c < CRASH_COLLECTIONS; c++) { /* events of writing are of no interest */
        world.history[c].states[0].exists = true;
    }
    bool fine = recover(&world, found, why);
    crash_close(&world);
    return fine;
}

/* ---- going on ---- */

void crash_go_on(crash_world *world, bool backup) {
    const int last = CRASH_COLLECTIONS - (backup ? 2 : 1);
    bool any = false;
    for (int c = 0; c < CRASH_COLLECTIONS; c++) {
        char script[64];
        any = any || world->open[c] != NULL;
        if (world->open[c] != NULL || (c == last && !any)) {
            bool there = world->open[c] != NULL;
            snprintf(script, sizeof script, there ? "" : "C%d ", c);
            snprintf(script + strlen(script), sizeof script - strlen(script), "Y%d F%d Y%d", c, c,
                     c);
            (void)crash_run(world, script, NULL);
        }
    }
}
