/*
 * fuzz_graph.c - graph files of any bytes.
 *
 * Target "graph": the input is the file.  What loads must be safe to search, to insert into, to
 * repair, to save and to compact; what is mapped must be safe to search before it is verified, which
 * must say what loading says.
 */
#include "index/graph.h"
#include "store/container.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>

#define ROWS 90u
#define DIM 5u
#define FILE_NO 2u
#define PATH "/gra-000000000002.vxg"

static vex_codes codes;
static uint8_t *rows;
static float vectors[ROWS][DIM];

/* The rows that graphs are of; a third are equal to others. */
static void prepare(void) {
    uint64_t state = 88172645463325252ULL;
    CHECK_OK(vex_codes_init(&codes, VEX_CODE_LVQ8, VEX_SPACE_L2, DIM));
    rows = calloc(ROWS, codes.stride);
    for (uint32_t i = 0; i < ROWS; i++) {
        for (uint32_t d = 0; d < DIM; d++) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            vectors[i][d] = i % 3 == 2 ? vectors[i - 2][d] : (float)(state % 1000) / 500 - 1;
        }
        vex_codes_encode(&codes, vectors[i], vex_norm2(vectors[i], DIM),
                         rows + (size_t)i * codes.stride);
    }
}

/* ---- seeds ---- */

/* A graph of which `inserted` rows are linked. */
static void seed(const fuzz_seeds *seeds, uint32_t m, uint32_t inserted) {
    const vex_graph_params params = {.codes = codes, .m = m, .ef_construction = 10, .seed = 3};
    vex_vfs *files = fuzz_files_create();
    vex_graph *graph;
    vex_buf bytes = {0};
    vex_file_entry entry;
    uint32_t first;
    CHECK_OK(vex_graph_create(&params, &graph));
    CHECK_OK(vex_graph_add_source(graph, 7, rows, ROWS, &first));
    if (inserted > 0) {
        CHECK_OK(vex_graph_insert(graph, first, inserted, 1));
    }
    CHECK_OK(vex_graph_save(graph, files, "/", FUZZ_DATABASE, FILE_NO, 1, 1, false, &entry));
    fuzz_file_get(files, PATH, &bytes);
    seeds->take(seeds->context, bytes.data, bytes.len);
    vex_buf_clear(&bytes);
    vex_graph_destroy(graph);
    vex_vfs_memory_destroy(files);
}

static void seeds(const fuzz_seeds *seeds) {
    seed(seeds, 3, 0);
    seed(seeds, 3, 1);
    seed(seeds, 2, ROWS);
    seed(seeds, 3, ROWS - 6);
}

/* ---- a run ---- */

static const void *rows_of(void *context, uint64_t file_no, uint32_t n) {
    (void)context;
    return file_no == 7 && n == ROWS ? rows : NULL;
}

/* `sound`: it may be searched to the end. */
static void search(vex_graph *graph, bool sound) {
    vex_graph_scratch *scratch;
    vex_graph_found found;
    uint64_t allowed[2] = {0x5555, 0x123456789};
    CHECK_OK(vex_graph_scratch_acquire(graph, &scratch));
    for (uint32_t i = 0; i < 6; i++) {
        const vex_graph_search_args args = {.query = vectors[i * 15],
                                            .ef = 1 + i * 7,
                                            .allowed = i % 2 ? allowed : NULL,
                                            .allowed_end = i * 20,
                                            .n_allowed = i == 3 ? 5 : 60};
        CHECK_OK(vex_graph_search(graph, scratch, &args, &found));
        CHECK(found.n <= 2 * args.ef);
        CHECK(!found.exhausted || (found.n == 0 && !sound));
        CHECK(found.n == 0 || found.hits[found.n - 1].id < ROWS);
    }
    vex_graph_scratch_release(graph, scratch);
}

/* The graph as it is now, with a fourth of the rows gone. */
static void remap(vex_graph *graph) {
    vex_graph *fresh;
    uint32_t old_to_new[ROWS], first;
    for (uint32_t i = 0; i < ROWS; i++) {
        old_to_new[i] = i % 4 == 0 ? VEX_GRAPH_NONE : i;
    }
    CHECK_OK(vex_graph_create(vex_graph_get_params(graph), &fresh));
    CHECK_OK(vex_graph_add_source(fresh, 8, rows, ROWS, &first));
    CHECK_OK(vex_graph_remap(graph, old_to_new, ROWS, &(vex_graph_pace){1, NULL, NULL}, fresh));
    search(fresh, true);
    vex_graph_destroy(fresh);
}

static void use(vex_graph *graph, vex_vfs *files) {
    vex_graph_repair_stats repair;
    vex_file_entry saved;
    search(graph, true);
    CHECK_OK(vex_graph_insert(graph, 0, ROWS, 1));
    CHECK_OK(vex_graph_repair(graph, &repair));
    search(graph, true);
    CHECK_OK(vex_graph_save(graph, files, "/", FUZZ_DATABASE, FILE_NO + 1, 1, 1, false, &saved));
    remap(graph);
}

/* A graph that loads if `sound`. */
static void use_mapped(vex_vfs *files, const vex_file_entry *entry, bool sound) {
    vex_graph *graph = NULL;
    if (vex_graph_map(files, "/", FUZZ_DATABASE, FILE_NO, entry, &codes, rows_of, NULL, &graph) !=
        VEX_OK) {
        CHECK(!sound);
        return;
    }
    search(graph, sound);
    const vex_status status = vex_graph_verify(graph);
    CHECK_EQ(status, sound ? VEX_OK : VEX_ERR_CORRUPT);
    search(graph, sound);
    vex_graph_destroy(graph);
}

static void run(const uint8_t *data, size_t len) {
    vex_vfs *files = fuzz_files_create();
    vex_graph *graph = NULL;
    const vex_file_entry entry = fuzz_entry_of(VEX_KIND_GRAPH, FILE_NO, data, len);
    fuzz_file_put(files, PATH, data, len);
    vex_status status =
        vex_graph_load(files, "/", FUZZ_DATABASE, FILE_NO, &entry, &codes, rows_of, NULL, &graph);
    use_mapped(files, &entry, status == VEX_OK);
    if (status == VEX_OK) {
        fuzz_accept();
        use(graph, files);
        vex_graph_destroy(graph);
    } else if (status != VEX_ERR_NOT_FOUND) { /* a graph of other rows */
        fuzz_check_error(status, PATH);
    }
    vex_vfs_memory_destroy(files);
}

const fuzz_target fuzz_graph = {.name = "graph",
                                .prepare = prepare,
                                .seeds = seeds,
                                .run = run,
                                .change = fuzz_change_container,
                                .fix = fuzz_fix_container,
                                .rounds = 4000};
