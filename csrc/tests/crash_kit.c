/*
 * crash_kit.c - see crash_kit.h: scripts.  States as texts are in crash_text.c, and what recovery must
 * be like in crash_recover.c.
 */
#include "tests/crash_kit.h"

#include "base/mem.h"
#include "base/msgpack.h"
#include "db/db.h"

#include <math.h>
#include <stdlib.h>

const uint8_t *crash_uuid(int collection) {
    static const uint8_t uuids[CRASH_COLLECTIONS][16] = {{1}, {2}, {3}};
    return uuids[collection];
}

static int row_of(const crash_state *state, const char *id) {
    for (uint32_t i = 0; i < state->n; i++) {
        if (strcmp(state->rows[i].id, id) == 0) {
            return (int)i;
        }
    }
    return -1;
}

/* ---- events ---- */

typedef struct step_request {
    char letter;
    int collection;
    int first, n;
    int number;         /* what the records get */
    const char *prefix; /* of their ids         */
} step_request;

static void id_of(const step_request *step, int i, char out[8]) {
    snprintf(out, 8, "%s%d", step->prefix, step->first + i);
}

/* Records with an odd number get a document. */
static int document_of(const step_request *step, int i) {
    return (step->number + i) % 2 == 0 ? step->number : -1;
}

/* What the step does to a state. */
static void change(crash_state *state, const step_request *step) {
    char id[8];
    for (int i = 0; i < step->n; i++) {
        id_of(step, i, id);
        int row = row_of(state, id);
        if (step->letter == 'X') {
            if (row >= 0) {
                state->n--;
                memmove(&state->rows[row], &state->rows[row + 1],
                        (state->n - (uint32_t)row) * sizeof state->rows[0]);
            }
            continue;
        }
        if (row >= 0 ? step->letter == 'A' : step->letter == 'P') {
            continue;
        }
        if (row < 0 && state->n < CRASH_ROWS) {
            row = (int)state->n++;
            memcpy(state->rows[row].id, id, sizeof id);
            state->rows[row].document = -1;
        }
        state->rows[row].number = step->number;
        state->rows[row].other = false;
        if (document_of(step, i) >= 0) {
            state->rows[row].document = document_of(step, i);
        }
    }
}

static void mark(crash_world *world, uint32_t kind, int collection, uint32_t event) {
    if (world->trace != NULL) {
        vex_vfs_trace_mark(world->trace, kind, (uint64_t)collection * 256 + event);
    }
}

crash_state *crash_begin(crash_world *world, int collection) {
    crash_history *history = &world->history[collection];
    if (history->n == CRASH_EVENTS) {
        test_failed(__FILE__, __LINE__, "a script with too many events");
    }
    crash_state *next = &history->states[history->n + 1];
    *next = history->states[history->n];
    next->together = 0;
    history->n++;
    mark(world, CRASH_BEGUN, collection, history->n);
    return next;
}

void crash_acknowledge(crash_world *world, int collection) {
    crash_history *history = &world->history[collection];
    history->acked = history->n;
    mark(world, CRASH_ACKED, collection, history->n);
}

void crash_bounds_of(const vex_trace *trace, size_t n, crash_bounds *out) {
    *out = (crash_bounds){0};
    for (size_t i = 0; i < n; i++) {
        const vex_trace_op *op = &trace->ops[i];
        if (op->kind != VEX_TRACE_MARK) {
            continue;
        }
        uint32_t *bound = op->mark == CRASH_BEGUN ? out->high : out->low;
        bound[op->value / 256] = (uint32_t)(op->value % 256);
    }
}

int crash_event_of(const crash_history *history, const char *text, uint32_t low, uint32_t high) {
    char expected[CRASH_TEXT];
    for (uint32_t event = high + 1; event-- > low;) {
        crash_text(&history->states[event], expected);
        if (strcmp(expected, text) == 0) {
            return (int)event;
        }
    }
    return -1;
}

/* Is the collection at its event of that transaction, or behind it?  -1: it has none. */
static int has_together(const crash_history *history, int event, uint32_t transaction) {
    for (uint32_t i = 1; i <= history->n; i++) {
        if (history->states[i].together == transaction) {
            return event >= (int)i;
        }
    }
    return -1;
}

bool crash_is_together(const crash_history history[CRASH_COLLECTIONS],
                       const int events[CRASH_COLLECTIONS]) {
    for (int c = 0; c < CRASH_COLLECTIONS; c++) {
        for (uint32_t i = 1; i <= history[c].n; i++) {
            const uint32_t transaction = history[c].states[i].together;
            for (int other = 0; transaction != 0 && other < c; other++) {
                const int there = has_together(&history[other], events[other], transaction);
                if (there >= 0 && there != (events[c] >= (int)i)) {
                    return false;
                }
            }
        }
    }
    return true;
}

/* ---- opening and closing ---- */

void crash_close_one(crash_world *world) {
    for (int c = 0; c < CRASH_COLLECTIONS; c++) {
        (void)vex_collection_close(world->open[c]);
        world->open[c] = NULL;
    }
    (void)vex_db_close(world->db);
    world->db = NULL;
}

void crash_close(crash_world *world) {
    crash_let_go(world);
    crash_close_one(world);
    if (world->other != NULL) {
        crash_swap(world);
        crash_close_one(world);
        crash_swap(world);
    }
    vex_db_test_files = NULL;
}

vex_status crash_open(crash_world *world) {
    vex_db_test_files = world->files;
    vex_status status =
        world->db == NULL ? vex_db_open(CRASH_PATH, &world->options, &world->db) : VEX_OK;
    for (int c = 0; c < CRASH_COLLECTIONS && status == VEX_OK; c++) {
        if (world->open[c] == NULL) {
            status = vex_collection_open(world->db, crash_uuid(c), &world->open[c]);
            status = status == VEX_ERR_NOT_FOUND ? VEX_OK : status;
        }
    }
    return status;
}

/* ---- steps ---- */

static void put_text(vex_buf *out, const char *text) {
    CHECK_OK(text != NULL ? vex_mp_put_str(out, text, strlen(text)) : vex_mp_put_nil(out));
}

static void put_records(const step_request *step, vex_buf *out) {
    char text[16];
    CHECK_OK(vex_mp_put_array(out, 4));
    CHECK_OK(vex_mp_put_array(out, (uint32_t)step->n));
    for (int i = 0; i < step->n; i++) {
        id_of(step, i, text);
        put_text(out, text);
    }
    CHECK_OK(vex_mp_put_array(out, (uint32_t)step->n));
    for (int i = 0; i < step->n; i++) {
        snprintf(text, sizeof text, "d%d", document_of(step, i));
        put_text(out, document_of(step, i) >= 0 ? text : NULL);
    }
    CHECK_OK(vex_mp_put_array(out, (uint32_t)step->n));
    for (int i = 0; i < step->n; i++) {
        CHECK_OK(vex_mp_put_map(out, 1));
        put_text(out, "n");
        CHECK_OK(vex_mp_put_int(out, step->number));
    }
    CHECK_OK(vex_mp_put_nil(out));
}

/* A step as the engine takes it. */
typedef struct step_call {
    float values[2 * CRASH_ROWS];
    vex_buf bytes; /* records, or ids */
    vex_write_request request;
    vex_selection selection;
} step_call;

static void make_write(const step_request *step, step_call *call) {
    const uint32_t op = step->letter == 'A'   ? VEX_WRITE_ADD
                        : step->letter == 'P' ? VEX_WRITE_UPDATE
                                              : VEX_WRITE_UPSERT;
    call->bytes = (vex_buf){0};
    for (int i = 0; i < step->n; i++) {
        call->values[2 * i] = (float)step->number;
        call->values[2 * i + 1] = (float)(step->number % 7);
    }
    vex_mem_fail_spare(true);
    put_records(step, &call->bytes);
    vex_mem_fail_spare(false);
    call->request = (vex_write_request){.op = op,
                                        .n = (uint32_t)step->n,
                                        .dimension = 2,
                                        .vectors = call->values,
                                        .records = call->bytes.data,
                                        .records_len = call->bytes.len};
}

static void make_delete(const step_request *step, step_call *call) {
    char id[8];
    call->bytes = (vex_buf){0};
    vex_mem_fail_spare(true);
    CHECK_OK(vex_mp_put_array(&call->bytes, (uint32_t)step->n));
    for (int i = 0; i < step->n; i++) {
        id_of(step, i, id);
        put_text(&call->bytes, id);
    }
    vex_mem_fail_spare(false);
    call->selection = (vex_selection){.ids = call->bytes.data, .ids_len = call->bytes.len};
}

static vex_status write_step(vex_collection *collection, const step_request *step) {
    step_call call;
    make_write(step, &call);
    vex_status status = vex_write(collection, &call.request, NULL);
    vex_buf_clear(&call.bytes);
    return status;
}

static vex_status delete_records(vex_collection *collection, const step_request *step) {
    step_call call;
    make_delete(step, &call);
    vex_status status = vex_delete(collection, &call.selection, -1, NULL);
    vex_buf_clear(&call.bytes);
    return status;
}

/* Everything in one transaction. */
static vex_status do_together(crash_world *world, const step_request *step) {
    step_request first = *step, then = *step;
    step_call calls[2];
    vex_step steps[2 * CRASH_COLLECTIONS];
    uint32_t n = 0;
    first.letter = 'X';
    first.n = 1;
    then.letter = 'U';
    make_delete(&first, &calls[0]);
    make_write(&then, &calls[1]);
    for (int c = 0; c < CRASH_COLLECTIONS; c++) {
        if (world->open[c] != NULL) {
            crash_state *next = crash_begin(world, c);
            next->together = world->steps;
            change(next, &first);
            change(next, &then);
            steps[n++] = (vex_step){
                .collection = world->open[c], .selection = &calls[0].selection, .limit = -1};
            if (step->n > 0) {
                steps[n++] = (vex_step){.collection = world->open[c], .write = &calls[1].request};
            }
        }
    }
    vex_status status = vex_transact(world->db, steps, n);
    vex_buf_clear(&calls[0].bytes);
    vex_buf_clear(&calls[1].bytes);
    for (int c = 0; c < CRASH_COLLECTIONS && status == VEX_OK; c++) {
        if (world->open[c] != NULL) {
            crash_acknowledge(world, c);
        }
    }
    return status;
}

vex_status crash_take_over(vex_collection *collection) {
    return delete_records(collection, &(step_request){.n = 1, .prefix = "none"});
}

vex_status crash_write_one(vex_collection *collection, const char *prefix, int number,
                           crash_state *state) {
    const step_request step = {
        .letter = 'U', .first = number, .n = 1, .number = number, .prefix = prefix};
    change(state, &step);
    return write_step(collection, &step);
}

static vex_status reopen_collection(crash_world *world, int collection) {
    (void)vex_collection_close(world->open[collection]);
    world->open[collection] = NULL;
    vex_status status =
        vex_collection_open(world->db, crash_uuid(collection), &world->open[collection]);
    return status == VEX_ERR_NOT_FOUND ? VEX_OK : status; /* the other process dropped it */
}

/* Until nobody wrote meanwhile. */
static vex_status reembed(vex_collection *collection) {
    uint32_t changed = 1;
    while (changed) {
        vex_collection_info info;
        vex_result *result = NULL;
        float values[2 * CRASH_ROWS];
        VEX_TRY(vex_collection_get_info(collection, &info));
        VEX_TRY(vex_get(collection, NULL, 0, -1, VEX_INCLUDE_VECTORS, &result));
        const uint64_t n = result->n_rows < CRASH_ROWS ? result->n_rows : CRASH_ROWS;
        for (uint64_t i = 0; i < 2 * n; i++) { /* whole numbers, unless they are of E already */
            values[i] = floorf(result->vectors[i]) + CRASH_OTHER;
        }
        vex_result_free(result);
        const vex_reembed_request request = {
            .lsn = info.lsn, .n = n, .vectors = values, .dimension = 2};
        VEX_TRY(vex_collection_reembed(collection, &request, &changed));
    }
    return VEX_OK;
}

/* As a careful caller does: ahead without locks, then the rest, then the name that counts. */
static vex_status back_up(crash_world *world) {
    static const char temporary[] = CRASH_BACKUP ".tmp";
    vex_vfs *files = world->files;
    vex_backup_item items[CRASH_COLLECTIONS];
    vex_backup_result result;
    uint32_t n = 0;
    for (int c = 0; c < CRASH_COLLECTIONS; c++) {
        if (world->open[c] != NULL) {
            memcpy(items[n++].uuid, crash_uuid(c), 16);
        }
    }
    VEX_TRY(vex_dir_remove_all(files, temporary));
    VEX_TRY(vex_db_backup(world->db, temporary, VEX_BACKUP_AHEAD, UINT64_MAX, items, n, &result));
    VEX_TRY(vex_db_backup(world->db, temporary, 0, 0, items, n, &result));
    VEX_TRY(files->path_rename(files, temporary, CRASH_BACKUP));
    return files->dir_sync(files, "/");
}

/* Steps that change what a collection holds. */
static vex_status do_event(crash_world *world, const step_request *step) {
    int c = step->collection;
    crash_state *next = crash_begin(world, c);
    vex_status status = VEX_OK;
    if (step->letter == 'C') {
        *next = (crash_state){.exists = true};
        status = vex_collection_create(world->db, crash_uuid(c), VEX_SPACE_L2);
        if (status == VEX_OK) {
            crash_acknowledge(world, c);
            status = vex_collection_open(world->db, crash_uuid(c), &world->open[c]);
        }
        return status;
    }
    if (step->letter == 'N') {
        *next = world->history[step->first].states[world->history[step->first].n];
        VEX_TRY(vex_collection_fork(world->open[step->first], crash_uuid(c)));
        crash_acknowledge(world, c);
        return vex_collection_open(world->db, crash_uuid(c), &world->open[c]);
    }
    if (step->letter == 'D') {
        *next = (crash_state){0};
        status = vex_collection_drop(world->db, crash_uuid(c));
        if (status == VEX_OK) {
            (void)vex_collection_close(world->open[c]);
            world->open[c] = NULL;
            crash_acknowledge(world, c);
        }
        return status;
    }
    if (step->letter == 'B') {
        *next = world->history[0].states[world->history[0].n];
        VEX_TRY(back_up(world));
        crash_acknowledge(world, c);
        return VEX_OK;
    }
    if (step->letter == 'E') {
        for (uint32_t i = 0; i < next->n; i++) {
            next->rows[i].other = true;
        }
        status = reembed(world->open[c]);
    } else {
        change(next, step);
        status = step->letter == 'X' ? delete_records(world->open[c], step)
                                     : write_step(world->open[c], step);
    }
    if (status == VEX_OK && world->unsynced) {
        world->history[c].acked = world->history[c].n;
    } else if (status == VEX_OK) {
        crash_acknowledge(world, c);
    }
    return status;
}

static vex_status query_by_graph(vex_collection *collection) {
    vex_result *result = NULL;
    const float query[2] = {3, 3};
    const vex_query_options options = {.flags = VEX_QUERY_GRAPH};
    VEX_TRY(vex_query(collection, NULL, query, 1, 2, 3, &options, 0, &result));
    vex_result_free(result);
    return VEX_OK;
}

/* The background of a dead process never comes to rest. */
static vex_status wait_idle(crash_world *world) {
    vex_status status = VEX_ERR_BUSY;
    for (int i = 0; status == VEX_ERR_BUSY && i < 1000; i++) {
        status = vex_db_wait_idle(world->db, 20);
        if (status == VEX_ERR_BUSY && world->trace != NULL && vex_vfs_trace_killed(world->trace)) {
            return VEX_FAIL(VEX_ERR_IO, "the process was killed");
        }
    }
    return status;
}

static vex_status do_parsed(crash_world *world, const step_request *step) {
    vex_collection *collection = world->open[step->collection];
    bool makes = step->letter == 'C' || step->letter == 'N';
    if (step->letter == 'N' && world->open[step->first] == NULL) {
        return VEX_FAIL(VEX_ERR_CLOSED, "an earlier step failed: there is nothing to fork");
    }
    if (makes ? collection != NULL
              : collection == NULL && strchr("AUPXFVGDKZE", step->letter) != NULL) {
        return VEX_FAIL(VEX_ERR_CLOSED, "an earlier step failed: the collection is %sthere",
                        collection == NULL ? "not " : "");
    }
    switch (step->letter) {
    case 'F':
        return vex_collection_flush(collection);
    case 'V':
        return vex_collection_compact(collection, 0);
    case 'Z':
        return vex_collection_reindex(collection, world->steps % 3);
    case 'G':
        VEX_TRY(vex_collection_wait_index(collection, 20000));
        return query_by_graph(collection);
    case 'O':
        return reopen_collection(world, step->collection);
    case 'R':
        crash_close(world);
        VEX_TRY(crash_open(world));
        return VEX_OK;
    case 'W':
        return wait_idle(world);
    case 'H':
        return crash_hold(world);
    case 'L':
        crash_let_go(world);
        return VEX_OK;
    case 'T':
        return do_together(world, step);
    case 'K':
        VEX_TRY(wait_idle(world));
        if (collection->poisoned) { /* the worker's sync failed; the next write will tell */
            return VEX_FAIL(VEX_ERR_POISONED, "the log could not be synced");
        }
        crash_acknowledge(world, step->collection);
        return VEX_OK;
    default:
        return do_event(world, step);
    }
}

/* "A0,3,2": letter, collection, first, n. */
static void parse_step(const crash_world *world, const char *text, step_request *out) {
    *out = (step_request){.letter = text[0], .n = 1, .number = (int)world->steps, .prefix = "r"};
    (void)sscanf(text + 1, "%d,%d,%d", &out->collection, &out->first, &out->n);
    if (out->letter == 'Y') {
        out->letter = 'U';
        out->prefix = "y";
        out->first = out->number;
    }
    if (out->letter == '\0' || strchr("CNDOFVGAUPXRWKBZTHLE", out->letter) == NULL ||
        out->n > CRASH_ROWS || (unsigned)out->collection >= CRASH_COLLECTIONS) {
        test_failed(__FILE__, __LINE__, "there is no step %s", text);
    }
}

static vex_status do_step(crash_world *world, const char *text) {
    step_request step;
    parse_step(world, text, &step);
    return do_parsed(world, &step);
}

static vex_status do_step_elsewhere(crash_world *world) {
    crash_swap(world);
    vex_status status = crash_open(world); /* what is new, too */
    if (status == VEX_OK) {
        status = do_step(world, world->step + 1);
    }
    crash_swap(world);
    return status;
}

vex_status crash_run(crash_world *world, const char *script, const char **at) {
    vex_status status = VEX_OK;
    for (const char *text = script; status == VEX_OK;) {
        text += strspn(text, " ");
        size_t len = strcspn(text, " ");
        if (at != NULL) {
            *at = text;
        }
        if (len == 0) {
            return VEX_OK;
        }
        snprintf(world->step, sizeof world->step, "%.*s", (int)len, text);
        world->steps++;
        status = world->step[0] == '+' ? do_step_elsewhere(world) : do_step(world, world->step);
        text += len;
    }
    return status;
}
