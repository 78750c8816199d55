/*
 * crash_states.c - see crash_states.h.
 */
#include "tests/crash_states.h"

#include "base/hash.h"
#include "base/mem.h"
#include "db/db.h"

#include <stdlib.h>

#define PENDING_MAX 512

/* What recovering an image gave. */
typedef struct outcome {
    uint64_t image; /* its hash; 0: free place */
    uint64_t texts[CRASH_COLLECTIONS];
} outcome;

typedef struct search {
    const crash_plan *plan;
    uint64_t seed, random;
    crash_figures *figures;
    outcome *outcomes; /* a hash table */
    size_t n_outcomes, capacity;
} search;

/* One trace whose images are looked at. */
typedef struct survey {
    search *search;
    crash_world *world;
    const vex_trace *trace;
    vex_disk *disk;
    uint32_t samples, generation;
    uint64_t exhaustive;
    size_t at; /* operations done */
    crash_bounds bounds;
    uint64_t *texts[CRASH_COLLECTIONS]; /* hashes of the states of the history */
    uint8_t fates[PENDING_MAX];
} survey;

static uint64_t draw(search *s) {
    s->random += 0x9e3779b97f4a7c15ULL;
    return vex_mix64(s->random);
}

static bool is_over(const search *s) {
    return s->figures->violations > 0 ||
           (s->plan->most > 0 && s->figures->distinct >= s->plan->most);
}

/* ---- the story of a violation ---- */

static const char *fate_name(uint8_t fate) {
    static const char *const names[] = {"lost", "done", "zeros", "torn", "torn otherwise"};
    return names[fate];
}

#define STORY_OPS 30

static void tell(const survey *v, const char *why) {
    crash_figures *figures = v->search->figures;
    char line[256];
    if (figures->violations++ > 0) {
        return;
    }
    snprintf(figures->why, sizeof figures->why,
             "%s, seed %llu, generation %u, power failure after operation %zu of %zu: %s",
             v->search->plan->name, (unsigned long long)v->search->seed, v->generation, v->at,
             v->trace->n, why);
    if (v->search->plan->without != 0) {
        return; /* as expected */
    }
    fprintf(stderr, "%s\n  script: %s\n  the operations before:\n", figures->why,
            v->search->plan->script ? v->search->plan->script : "none");
    size_t first = v->at > STORY_OPS ? v->at - STORY_OPS : 0, pending = 0;
    for (size_t i = 0; i < v->at; i++) {
        const vex_trace_op *op = &v->trace->ops[i];
        const char *fate = "";
        if (pending < vex_disk_pending(v->disk) && vex_disk_pending_op(v->disk, pending) == op) {
            fate = fate_name(v->fates[pending++]);
        }
        vex_trace_describe(op, line, sizeof line);
        if (i >= first || fate[0] != '\0') {
            fprintf(stderr, "    %4zu %-6s %s\n", i, fate, line);
        }
    }
}

/* ---- outcomes ---- */

static outcome *place_of(outcome *table, size_t capacity, uint64_t image) {
    size_t at = (size_t)image & (capacity - 1);
    while (table[at].image != 0 && table[at].image != image) {
        at = (at + 1) & (capacity - 1);
    }
    return &table[at];
}

static void grow_table(search *s) {
    size_t capacity = s->capacity ? s->capacity * 4 : 4096;
    outcome *table = vex_calloc(capacity, sizeof *table);
    CHECK(table != NULL);
    for (size_t i = 0; i < s->capacity; i++) {
        if (s->outcomes[i].image != 0) {
            *place_of(table, capacity, s->outcomes[i].image) = s->outcomes[i];
        }
    }
    vex_free(s->outcomes);
    s->outcomes = table;
    s->capacity = capacity;
}

static uint64_t hash_text(const char *text) {
    return vex_hash64(text, strlen(text));
}

/* The machine was started again, and again: no head of before counts. */
static uint64_t second_boot(vex_vfs *vfs) {
    (void)vfs;
    return 2;
}
static uint64_t third_boot(vex_vfs *vfs) {
    (void)vfs;
    return 3;
}

/* The image as the files of a machine that was started again. */
static vex_vfs *files_of(const survey *v, const vex_image *image) {
    vex_vfs *files = NULL;
    CHECK_OK(vex_vfs_memory_create(&files));
    files->is_volatile = false;
    files->boot_id = v->generation > 1 ? third_boot : second_boot;
    CHECK_OK(vex_image_store(image, files));
    if (v->search->plan->without != 0) {
        crash_fit(files, v->search->plan->without);
    }
    return files;
}

/* Of a transaction, everything or nothing. */
static bool check_together(const survey *v, const outcome *found) {
    int events[CRASH_COLLECTIONS] = {0};
    for (int c = 0; c < CRASH_COLLECTIONS; c++) {
        for (uint32_t event = v->bounds.low[c]; event <= v->bounds.high[c]; event++) {
            events[c] = v->texts[c][event] == found->texts[c] ? (int)event : events[c];
        }
    }
    const bool fine = crash_is_together(v->world->history, events);
    if (!fine) {
        tell(v, "a part of a transaction");
    }
    return fine;
}

/* Is each collection in a state that it may be in? */
static bool check_bounds(const survey *v, const outcome *found,
                         char texts[CRASH_COLLECTIONS][CRASH_TEXT]) {
    char why[CRASH_WHY], expected[CRASH_TEXT];
    for (int c = v->search->plan->only_backup ? 2 : 0; c < CRASH_COLLECTIONS; c++) {
        bool fine = false;
        for (uint32_t event = v->bounds.low[c]; event <= v->bounds.high[c]; event++) {
            fine = fine || v->texts[c][event] == found->texts[c];
        }
        if (!fine) {
            crash_text(&v->world->history[c].states[v->bounds.low[c]], expected);
            snprintf(why, sizeof why,
                     "collection %d holds %s; event %u was acknowledged (%s), %u begun", c,
                     texts != NULL ? texts[c] : "(as an image before)", v->bounds.low[c], expected,
                     v->bounds.high[c]);
            tell(v, why);
            return false;
        }
    }
    return check_together(v, found);
}

static void second_generation(const survey *v, const vex_image *image, const outcome *found);

/* Recover the database, which must leave the backup beside it as it is. */
static bool recover_files(const survey *v, vex_vfs *files,
                          char texts[CRASH_COLLECTIONS][CRASH_TEXT], char *why) {
    static char before[CRASH_TEXT], after[CRASH_TEXT];
    const crash_plan *plan = v->search->plan;
    if (plan->backup) {
        crash_look_at_backup(files, before);
    }
    if (plan->only_backup) {
        memset(texts, 0, CRASH_COLLECTIONS * sizeof texts[0]);
        memcpy(texts[2], before, sizeof before);
        return true;
    }
    if (!crash_recover(files, &plan->options, texts, why)) {
        return false;
    }
    if (plan->backup) {
        crash_look_at_backup(files, after);
        if (strcmp(before, after) != 0) {
            snprintf(why, CRASH_WHY, "the backup held %s, and after recovery %s", before, after);
            return false;
        }
        memcpy(texts[2], before, sizeof before);
    }
    return true;
}

static bool recover(survey *v, const vex_image *image, outcome *to) {
    char texts[CRASH_COLLECTIONS][CRASH_TEXT], why[CRASH_WHY];
    search *s = v->search;
    uint64_t blocks = vex_stat_get(VEX_STAT_HEAP_BLOCKS);
    vex_vfs *files = files_of(v, image);
    outcome found = {.image = vex_image_hash(image)};
    bool fine = recover_files(v, files, texts, why);
    vex_vfs_memory_destroy(files);
    if (fine && vex_stat_get(VEX_STAT_HEAP_BLOCKS) != blocks) {
        snprintf(why, sizeof why, "recovery leaks memory");
        fine = false;
    }
    if (!fine) {
        tell(v, why);
        return false;
    }
    if (s->plan->split != NULL) {
        s->plan->split(texts);
    }
    for (int c = 0; c < CRASH_COLLECTIONS; c++) {
        found.texts[c] = hash_text(texts[c]);
    }
    *to = found;
    s->n_outcomes++;
    s->figures->distinct++;
    s->figures->second += v->generation > 1;
    if (check_bounds(v, &found, texts) && v->generation == 1 && s->plan->second > 0 &&
        s->figures->distinct % s->plan->second == 0) {
        second_generation(v, image, &found); /* may move `to` */
    }
    return true;
}

/* ---- images of one prefix ---- */

static void try_image(survey *v) {
    search *s = v->search;
    vex_image *image = NULL;
    if (is_over(s)) {
        return;
    }
    s->figures->images++;
    CHECK_OK(vex_disk_image(v->disk, v->fates, s->seed, &image));
    if (s->n_outcomes * 2 >= s->capacity) {
        grow_table(s);
    }
    outcome *there = place_of(s->outcomes, s->capacity, vex_image_hash(image));
    if (there->image == 0) {
        (void)recover(v, image, there);
    } else {
        (void)check_bounds(v, there, NULL);
    }
    vex_image_destroy(image);
}

static void try_all(survey *v, size_t n) {
    memset(v->fates, 0, n);
    for (size_t i = 0; i < n + 1;) {
        try_image(v);
        for (i = 0; i < n; i++) { /* count up, each digit to its own base */
            if (++v->fates[i] < vex_disk_fates(v->disk, i)) {
                break;
            }
            v->fates[i] = 0;
        }
        i = i == n ? n + 1 : i;
    }
}

static void try_by_rule(survey *v, size_t n) {
    memset(v->fates, VEX_FATE_ABSENT, n);
    try_image(v);
    memset(v->fates, VEX_FATE_WHOLE, n);
    try_image(v);
    for (size_t i = 0; i < n; i++) {
        uint32_t fates = vex_disk_fates(v->disk, i);
        for (uint8_t fate = 0; fate < fates; fate++) { /* all but one */
            v->fates[i] = fate;
            try_image(v);
        }
        v->fates[i] = VEX_FATE_WHOLE;
    }
    memset(v->fates, VEX_FATE_ABSENT, n);
    for (size_t i = 0; i < n; i++) {
        v->fates[i] = VEX_FATE_WHOLE;
        try_image(v);
        v->fates[i] = VEX_FATE_ABSENT;
    }
}

static void try_at_random(survey *v, size_t n) {
    search *s = v->search;
    for (uint32_t sample = 0; sample < v->samples; sample++) {
        uint64_t rate = 1 + draw(s) % 7; /* of 8 operations are done */
        for (size_t i = 0; i < n; i++) {
            uint32_t fates = vex_disk_fates(v->disk, i);
            bool done = draw(s) % 8 < rate;
            v->fates[i] = done ? VEX_FATE_WHOLE : VEX_FATE_ABSENT;
            if (fates > 2 && draw(s) % 4 == 0) {
                v->fates[i] = (uint8_t)(2 + draw(s) % (fates - 2));
            }
        }
        try_image(v);
    }
}

static void try_prefix(survey *v) {
    size_t n = vex_disk_pending(v->disk);
    uint64_t combinations = 1;
    CHECK(n < PENDING_MAX);
    for (size_t i = 0; i < n && combinations <= v->exhaustive; i++) {
        combinations *= vex_disk_fates(v->disk, i);
    }
    if (combinations <= v->exhaustive) {
        try_all(v, n);
    } else {
        try_by_rule(v, n);
        try_at_random(v, n);
    }
}

/* ---- one trace ---- */

static void note_bounds(survey *v, const vex_trace_op *op) {
    if (op->kind == VEX_TRACE_MARK) {
        uint32_t *bound = op->mark == CRASH_BEGUN ? v->bounds.high : v->bounds.low;
        bound[op->value / 256] = (uint32_t)(op->value % 256);
    }
}

static void hash_states(survey *v) {
    char text[CRASH_TEXT];
    for (int c = 0; c < CRASH_COLLECTIONS; c++) {
        const crash_history *history = &v->world->history[c];
        v->texts[c] = vex_calloc(CRASH_EVENTS + 1, sizeof *v->texts[c]);
        CHECK(v->texts[c] != NULL);
        for (uint32_t event = 0; event <= history->n; event++) {
            crash_text(&history->states[event], text);
            v->texts[c][event] = hash_text(text);
        }
    }
}

/* Is something made durable, or nothing done at all, after the i-th operation? */
static bool is_last(const vex_trace *trace, const size_t *order, size_t i) {
    return i + 1 == trace->n || trace->ops[order[i + 1]].kind == VEX_TRACE_SYNC ||
           trace->ops[order[i + 1]].kind == VEX_TRACE_SYNC_DATA ||
           trace->ops[order[i + 1]].kind == VEX_TRACE_SYNC_DIR;
}

/* Look at the images of all prefixes from operation `from` on. */
static void look_at_trace(survey *v, size_t from) {
    search *s = v->search;
    size_t *order = vex_calloc(v->trace->n + 1, sizeof *order);
    CHECK(order != NULL);
    for (size_t i = 0; i < v->trace->n; i++) {
        order[i] = i;
    }
    if (s->plan->without & CRASH_UNLINK_EARLY) {
        crash_unlink_early(v->trace, order);
    }
    hash_states(v);
    for (size_t i = 0; i < v->trace->n && !is_over(s); i++) {
        const vex_trace_op *op = &v->trace->ops[order[i]];
        bool lying = (crash_barrier(v->trace, order[i]) & s->plan->without) != 0;
        CHECK_OK(vex_disk_step(v->disk, op, lying));
        note_bounds(v, op);
        v->at = i + 1;
        if (v->at >= from && (!s->plan->sparse || is_last(v->trace, order, i))) {
            try_prefix(v);
        }
    }
    for (int c = 0; c < CRASH_COLLECTIONS; c++) {
        vex_free(v->texts[c]);
    }
    vex_free(order);
    s->figures->operations += v->trace->n;
}

/* ---- second generation ---- */

static void begin_again(const survey *v, const outcome *found, crash_world *world) {
    world->options = v->search->plan->options;
    world->options.durability = VEX_DURABILITY_FULL;
    world->steps = 500;
    for (int c = 0; c < CRASH_COLLECTIONS; c++) {
        for (uint32_t event = v->bounds.low[c]; event <= v->bounds.high[c]; event++) {
            if (v->texts[c][event] == found->texts[c]) {
                world->history[c].states[0] = v->world->history[c].states[event];
            }
        }
    }
}

static void second_generation(const survey *v, const vex_image *image, const outcome *found) {
    search *s = v->search;
    vex_vfs *files = files_of(v, image), *trace = NULL;
    crash_world *world = vex_calloc(1, sizeof *world);
    survey *next = vex_calloc(1, sizeof *next);
    CHECK(world != NULL && next != NULL);
    CHECK_OK(vex_vfs_trace_create(files, draw(s), &trace));
    begin_again(v, found, world);
    world->files = world->trace = trace;
    *next = (survey){.search = s,
                     .world = world,
                     .samples = s->plan->second_samples,
                     .exhaustive = s->plan->second_samples,
                     .generation = 2};
    CHECK_OK(vex_disk_create(files, &next->disk));
    if (crash_open(world) == VEX_OK) {
        crash_go_on(world, s->plan->backup);
    }
    crash_close(world);
    next->trace = vex_vfs_trace_get(trace);
    look_at_trace(next, 0);
    vex_disk_destroy(next->disk);
    vex_vfs_trace_destroy(trace);
    vex_vfs_memory_destroy(files);
    vex_free(next);
    vex_free(world);
}

/* ---- a plan ---- */

/* Which event is each collection at, in the page cache? */
static bool find_events(survey *v, const crash_bounds *bounds, int events[CRASH_COLLECTIONS]) {
    char text[CRASH_TEXT], why[CRASH_TEXT + 128];
    crash_world *world = v->world;
    for (int c = 0; c < CRASH_COLLECTIONS; c++) {
        snprintf(text, sizeof text, "absent");
        if (v->search->plan->backup && c == 2) {
            crash_look_at_backup(world->files, text);
        } else if (world->open[c] != NULL) {
            vex_status status = crash_describe(world->open[c], text);
            if (status == VEX_ERR_NOT_FOUND) { /* the one of a pair who was killed had dropped it */
                (void)vex_collection_close(world->open[c]);
                world->open[c] = NULL;
            } else if (status != VEX_OK) {
                tell(v, vex_last_error()->message);
                return false;
            }
        }
        events[c] = crash_event_of(&world->history[c], text, bounds->low[c], bounds->high[c]);
        if (events[c] < 0) {
            snprintf(why, sizeof why,
                     "after a kill, collection %d holds %s; event %u was acknowledged, %u begun", c,
                     text, (unsigned)bounds->low[c], (unsigned)bounds->high[c]);
            tell(v, why);
            return false;
        }
    }
    if (!crash_is_together(world->history, events)) {
        tell(v, "after a kill, a part of a transaction");
        return false;
    }
    return true;
}

static bool take_over_all(crash_world *world) {
    for (int c = 0; c < CRASH_COLLECTIONS; c++) {
        if (world->open[c] != NULL && crash_take_over(world->open[c]) != VEX_OK) {
            return false;
        }
    }
    return true;
}

/* The next process goes on with what the one before left in the page cache.  What was logged but
 * never acknowledged counts from its first look on, or never; to a process that was there, from its first
 * write on, at the latest.  A sync that fails it is told about
 * when it writes, at the latest; then one more process is needed. */
static bool go_on_after(survey *v, size_t killed_at, const vex_vfs *victim, uint64_t fail_sync) {
    crash_world *world = v->world;
    crash_bounds bounds;
    int events[CRASH_COLLECTIONS], then[CRASH_COLLECTIONS];
    v->at = killed_at;
    crash_bury(world, victim);
    vex_vfs_trace_fail_sync(world->trace, fail_sync);
    crash_bounds_of(v->trace, killed_at, &bounds);
    if (world->db == NULL) {
        world->options.durability = VEX_DURABILITY_FULL;
        world->unsynced = false;
    }
    bool opened = crash_open(world) == VEX_OK, taken = false;
    if (opened) {
        if (!find_events(v, &bounds, events)) {
            return false;
        }
        taken = take_over_all(world);
    }
    if (!taken && vex_vfs_trace_failed(world->trace) != SIZE_MAX) {
        crash_close(world);
        opened = crash_open(world) == VEX_OK && find_events(v, &bounds, events);
        taken = opened && take_over_all(world);
    }
    if (!taken) {
        tell(v, vex_last_error()->message);
        return false;
    }
    if (!find_events(v, &bounds, then) ||
        (victim == NULL && memcmp(events, then, sizeof then) != 0)) {
        tell(v, "what was not acknowledged counts only after somebody wrote");
        return false;
    }
    for (int c = 0; c < CRASH_COLLECTIONS; c++) {
        world->history[c].n = (uint32_t)then[c];
        vex_vfs_trace_mark(world->trace, CRASH_BEGUN, (uint64_t)c * 256 + (uint64_t)then[c]);
    }
    crash_go_on(world, v->search->plan->backup);
    return true;
}

/* The script, whatever comes in its way: a kill, a sync that fails.  Then the next process; after a
 * kill the sync that fails is one of its. */
static void run_script(survey *v, uint64_t kill_at, const vex_vfs *victim, uint64_t fail_sync) {
    crash_world *world = v->world;
    vex_vfs *trace = world->trace;
    vex_vfs_trace_kill_at(trace, kill_at, victim);
    vex_vfs_trace_fail_sync(trace, kill_at == UINT64_MAX ? fail_sync : 0);
    vex_status status = crash_open(world);
    if (status == VEX_OK) {
        const crash_plan *plan = v->search->plan;
        status = plan->work != NULL ? plan->work(world) : crash_run(world, plan->script, NULL);
    }
    v->trace = vex_vfs_trace_get(trace);
    size_t failed = vex_vfs_trace_failed(trace), done = v->trace->n;
    if (status != VEX_OK && !vex_vfs_trace_killed(trace) && failed == SIZE_MAX) {
        test_failed(__FILE__, __LINE__, "%s: step %s: %s", v->search->plan->name, world->step,
                    vex_last_error()->message);
    }
    if (kill_at == UINT64_MAX && fail_sync == 0) {
        crash_close(world);
        look_at_trace(v, 0);
    } else if (vex_vfs_trace_killed(trace) || failed != SIZE_MAX) {
        if (go_on_after(v, done, victim, kill_at == UINT64_MAX || victim != NULL ? 0 : fail_sync)) {
            crash_close(world);
            look_at_trace(v, done);
        }
    }
    crash_close(world);
}

/* Tells how many operations there were, and how many of them are syncs of files. */
static void run_plan(search *s, uint64_t kill_at, uint64_t kill, uint64_t fail_sync,
                     uint64_t *operations, uint64_t *syncs) {
    vex_vfs *files = NULL, *trace = NULL;
    crash_world *world = vex_calloc(1, sizeof *world);
    survey *v = vex_calloc(1, sizeof *v);
    CHECK(world != NULL && v != NULL);
    CHECK_OK(vex_vfs_memory_create(&files));
    CHECK_OK(vex_vfs_trace_create(files, s->seed, &trace));
    *v = (survey){.search = s,
                  .world = world,
                  .samples = s->plan->samples,
                  .exhaustive = s->plan->exhaustive,
                  .generation = 1};
    CHECK_OK(vex_disk_create(files, &v->disk));
    *world = (crash_world){.files = trace, .trace = trace, .options = s->plan->options};
    world->unsynced = s->plan->options.durability == VEX_DURABILITY_NORMAL;
    if (s->plan->pair) {
        crash_pair_begin(world, s->plan->other);
    }
    run_script(v, kill_at, kill_at == UINT64_MAX ? NULL : crash_victim(world, kill), fail_sync);
    crash_pair_end(world);
    *operations = v->trace->n;
    *syncs = 0;
    for (size_t i = 0; i < v->trace->n; i++) {
        vex_trace_kind kind = v->trace->ops[i].kind;
        *syncs += kind == VEX_TRACE_SYNC || kind == VEX_TRACE_SYNC_DATA;
    }
    vex_disk_destroy(v->disk);
    vex_vfs_trace_destroy(trace);
    vex_vfs_memory_destroy(files);
    vex_free(v);
    vex_free(world);
    s->figures->runs++;
}

void crash_states(const crash_plan *plan, uint64_t seed, crash_figures *figures) {
    search s = {.plan = plan, .seed = seed, .random = seed, .figures = figures};
    uint64_t n = 0, n_syncs = 0, ignored, kills = 0;
    run_plan(&s, UINT64_MAX, 0, 0, &n, &n_syncs);
    for (uint64_t at = 1; plan->kill_every > 0 && at < n && !is_over(&s); at += plan->kill_every) {
        run_plan(&s, at, kills / 2, kills % 2, &ignored, &ignored);
        kills++;
    }
    for (uint64_t at = 1; plan->fail_every > 0 && at <= n_syncs && !is_over(&s);
         at += plan->fail_every) {
        run_plan(&s, UINT64_MAX, 0, at, &ignored, &ignored);
    }
    vex_free(s.outcomes);
}
