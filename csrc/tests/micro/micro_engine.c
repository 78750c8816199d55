/*
 * micro_engine.c - the engine as a whole, in memory: adding, building the graph, queries one by one and
 * in batches by more threads.  Also what the builds with LTO and PGO are compared by.
 */
#include "base/cpu.h"
#include "base/msgpack.h"
#include "include/vexfs.h"
#include "tests/micro/micro.h"

#include <stdio.h>
#include <stdlib.h>

#define ROWS 20000u
#define DIM 128u
#define QUERIES 1000u
#define K 10u

typedef struct world {
    vex_db *db;
    vex_collection *collection;
    float *rows, *queries;
    uint32_t batch, threads;
} world;

static void query_all(void *context) {
    const world *w = context;
    const vex_query_options options = {.threads = w->threads, .flags = VEX_QUERY_GRAPH, .ef = 64};
    for (uint32_t q = 0; q < QUERIES; q += w->batch) {
        vex_result *result;
        micro_need(vex_query(w->collection, NULL, w->queries + (size_t)q * DIM, w->batch, DIM, K,
                             &options, 0, &result),
                   "engine");
        vex_result_free(result);
    }
}

static void end_world(world *w) {
    if (w->db != NULL) {
        micro_need(vex_collection_close(w->collection), "engine");
        micro_need(vex_db_close(w->db), "engine");
        w->db = NULL;
    }
}

static void begin_world(void *context) {
    world *w = context;
    const uint8_t uuid[16] = {1};
    const vex_db_options options = {.index_rows = 1, .index_threads = 1};
    end_world(w);
    micro_need(vex_db_open(NULL, &options, &w->db), "engine");
    micro_need(vex_collection_create(w->db, uuid, VEX_SPACE_L2), "engine");
    micro_need(vex_collection_open(w->db, uuid, &w->collection), "engine");
}

static void add_all(void *context) {
    const world *w = context;
    vex_buf records = {0};
    micro_need(vex_mp_put_array(&records, 4), "engine");
    micro_need(vex_mp_put_array(&records, ROWS), "engine");
    for (uint32_t i = 0; i < ROWS; i++) {
        char id[16];
        const int len = snprintf(id, sizeof id, "%u", (unsigned)i);
        micro_need(vex_mp_put_str(&records, (const uint8_t *)id, (size_t)len), "engine");
    }
    for (int i = 0; i < 3; i++) {
        micro_need(vex_mp_put_nil(&records), "engine");
    }
    const vex_write_request request = {.op = VEX_WRITE_ADD,
                                       .n = ROWS,
                                       .dimension = DIM,
                                       .vectors = w->rows,
                                       .records = records.data,
                                       .records_len = records.len};
    micro_need(vex_write(w->collection, &request, NULL), "engine");
    vex_buf_clear(&records);
}

static void add_and_build(void *context) {
    add_all(context);
    micro_need(vex_collection_wait_index(((world *)context)->collection, UINT32_MAX), "engine");
}

void micro_engine(void) {
    world w = {.rows = micro_room((size_t)ROWS * DIM * sizeof(float)),
               .queries = micro_room((size_t)QUERIES * DIM * sizeof(float))};
    micro_rows(w.rows, ROWS, DIM, 10);
    micro_rows(w.queries, QUERIES, DIM, 10);
    micro_report("engine", "add 20,000 x 128", ROWS / micro_time_after(begin_world, add_all, &w),
                 "rows/s");
    micro_report("engine", "add and build the graph, one thread",
                 ROWS / micro_time_after(begin_world, add_and_build, &w), "rows/s");
    w.batch = 1;
    w.threads = 1;
    micro_report("engine", "queries one by one, ef 64", QUERIES / micro_time(query_all, &w),
                 "queries/s");
    w.batch = QUERIES / 10;
    for (uint32_t threads = 1; threads <= vex_cpu_count() && threads <= 64; threads *= 2) {
        char name[64];
        w.threads = threads;
        snprintf(name, sizeof name, "batches of 100, %u thread%s", (unsigned)threads,
                 threads == 1 ? "" : "s");
        micro_report("engine", name, QUERIES / micro_time(query_all, &w), "queries/s");
    }
    end_world(&w);
    free(w.rows);
    free(w.queries);
}
