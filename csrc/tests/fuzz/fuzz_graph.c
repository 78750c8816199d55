/*
 * fuzz_graph.c - loading graph files whose checksums are right and whose contents are not.
 *
 * The input is a list of changes to the sections of a good file: u8 section, u16 offset / 4,
 * u8 byte within, u8 value; the file is written again with fresh checksums.  What loads must be
 * safe to search, to insert into, to repair, to save and to compact.
 */
#include "index/graph.h"
#include "index/graph_format.h"
#include "store/container.h"

#include <stdlib.h>
#include <string.h>

#define ROWS 90u
#define DIM 5u
#define SECTIONS 4u
#define CHANGE_BYTES 5u

static const uint8_t uuid[16] = "0123456789abcdef";
static vex_vfs *vfs;
static vex_codes codes;
static uint8_t *rows;
static float vectors[ROWS][DIM];
static vex_file_entry good;
static vex_container container;

static void need(vex_status status) {
    if (status != VEX_OK) {
        abort();
    }
}

static void build(void) {
    vex_graph *graph;
    uint32_t first;
    uint64_t state = 88172645463325252ULL;
    need(vex_vfs_memory_create(&vfs));
    need(vex_codes_init(&codes, VEX_CODE_LVQ8, VEX_SPACE_L2, DIM));
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
    const vex_graph_params params = {.codes = codes, .m = 3, .ef_construction = 10, .seed = 3};
    need(vex_graph_create(&params, &graph));
    need(vex_graph_add_source(graph, 7, rows, ROWS, &first));
    need(vex_graph_insert(graph, first, ROWS - 6, 1));
    need(vex_graph_save(graph, vfs, "/", uuid, 1, 1, 1, false, &good));
    vex_graph_destroy(graph);
    need(vex_container_open(vfs, "/", uuid, VEX_KIND_GRAPH, 1, &good, &container));
}

static const void *rows_of(void *context, uint64_t file_no, uint32_t n) {
    (void)context;
    return file_no == 7 && n == ROWS ? rows : NULL;
}

static vex_file_entry write_changed(const uint8_t *data, size_t size) {
    vex_container_writer *writer;
    vex_file_entry entry = {0};
    need(vex_container_create(vfs, "/", uuid, VEX_KIND_GRAPH, 2, 1, 1, &writer));
    for (uint32_t i = 0; i < container.n_sections; i++) {
        const vex_section *section = &container.sections[i];
        uint8_t *bytes = malloc(section->len + 1);
        memcpy(bytes, section->data, section->len);
        for (size_t at = 0; at + CHANGE_BYTES <= size; at += CHANGE_BYTES) {
            const size_t offset =
                4u * ((size_t)data[at + 1] | (size_t)data[at + 2] << 8) + data[at + 3] % 4;
            if (data[at] % SECTIONS == i && section->len > 0) {
                bytes[offset % section->len] = data[at + 4];
            }
        }
        need(vex_container_put(writer, section->kind, section->flags, section->rows, section->tag,
                               bytes, section->len));
        free(bytes);
    }
    need(vex_container_finish(writer, false, &entry));
    return entry;
}

static void search(vex_graph *graph) {
    vex_graph_scratch *scratch;
    vex_graph_found found;
    uint64_t allowed[2] = {0x5555, 0x123456789};
    need(vex_graph_scratch_acquire(graph, &scratch));
    for (uint32_t i = 0; i < 6; i++) {
        const vex_graph_search_args args = {.query = vectors[i * 15],
                                            .ef = 1 + i * 7,
                                            .allowed = i % 2 ? allowed : NULL,
                                            .allowed_end = i * 20,
                                            .n_allowed = i == 3 ? 5 : 60};
        need(vex_graph_search(graph, scratch, &args, &found));
        if (found.n > 2 * args.ef || (found.n > 0 && found.hits[found.n - 1].id >= ROWS)) {
            abort();
        }
    }
    vex_graph_scratch_release(graph, scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    vex_graph *graph, *fresh;
    vex_graph_repair_stats repair;
    vex_file_entry saved;
    uint32_t old_to_new[ROWS], first;
    if (vfs == NULL) {
        build();
    }
    const vex_file_entry entry = write_changed(data, size);
    if (vex_graph_load(vfs, "/", uuid, entry.file_no, &entry, &codes, rows_of, NULL, &graph) !=
        VEX_OK) {
        return 0;
    }
    search(graph);
    need(vex_graph_insert(graph, 0, ROWS, 1));
    need(vex_graph_repair(graph, &repair));
    search(graph);
    need(vex_graph_save(graph, vfs, "/", uuid, 3, 1, 1, false, &saved));
    for (uint32_t i = 0; i < ROWS; i++) {
        old_to_new[i] = i % 4 == 0 ? VEX_GRAPH_NONE : i;
    }
    need(vex_graph_create(vex_graph_get_params(graph), &fresh));
    need(vex_graph_add_source(fresh, 8, rows, ROWS, &first));
    need(vex_graph_remap(graph, old_to_new, ROWS, &(vex_graph_pace){1, NULL, NULL}, fresh));
    search(fresh);
    vex_graph_destroy(fresh);
    vex_graph_destroy(graph);
    return 0;
}
