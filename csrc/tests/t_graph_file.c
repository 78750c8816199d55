/*
 * t_graph_file.c - graph files: what is saved is what is loaded, and damage of any kind.
 */
#include "base/bits.h"
#include "index/graph.h"
#include "index/graph_format.h"

#include "tests/graph_kit.h"
#include "tests/store_kit.h"
#include "tests/vfs_suite.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>

static const void *rows_of(void *context, uint64_t file_no, uint32_t rows) {
    const graph_kit *kit = context;
    return file_no == 1 && rows == kit->n ? kit->rows : NULL;
}

/* A graph with duplicates, and with rows that are not inserted yet. */
static graph_kit make_kit(uint32_t space, uint32_t n, uint32_t left_out) {
    graph_kit kit = graph_kit_create(VEX_CODE_LVQ8, space, 6, n);
    graph_kit_fill_clusters(&kit, 5, 0.7f, n);
    for (uint32_t i = n / 3; i < n / 2; i++) {
        memcpy(kit.vectors + (size_t)i * 6, kit.vectors + (size_t)(i % 7) * 6, 6 * sizeof(float));
    }
    graph_kit_encode(&kit);
    graph_kit_start(&kit, 4, 24);
    CHECK_OK(vex_graph_insert(kit.graph, kit.first, n - left_out, 1));
    vex_graph_repair_stats repair;
    CHECK_OK(vex_graph_repair(kit.graph, &repair));
    return kit;
}

static vex_file_entry save(graph_kit *kit, vex_vfs *vfs) {
    vex_file_entry entry;
    CHECK_OK(vex_graph_save(kit->graph, vfs, "/", kit_uuid, 1, 1, 2, true, &entry));
    return entry;
}

/* Both graphs give the same answers by the same way. */
static bool searches_alike(graph_kit *kit, vex_graph *graph, uint32_t queries) {
    bool alike = true;
    for (uint32_t j = 0; j < queries; j++) {
        const float *query = kit->vectors + (size_t)(j * 31 % kit->n) * kit->dim;
        const vex_graph_search_args args = {.query = query, .ef = 12};
        vex_graph_found found[2];
        vex_graph_hit hits[2][24];
        vex_graph *graphs[2] = {kit->graph, graph};
        for (int g = 0; g < 2; g++) {
            vex_graph_scratch *scratch;
            CHECK_OK(vex_graph_scratch_acquire(graphs[g], &scratch));
            CHECK_OK(vex_graph_search(graphs[g], scratch, &args, &found[g]));
            CHECK(found[g].n <= 24);
            memcpy(hits[g], found[g].hits, found[g].n * sizeof hits[g][0]);
            for (uint32_t i = 0; i < found[g].n; i++) {
                CHECK(hits[g][i].id < vex_graph_end(graphs[g]));
            }
            vex_graph_scratch_release(graphs[g], scratch);
        }
        alike = alike && found[0].n == found[1].n && found[0].distances == found[1].distances &&
                found[0].hops == found[1].hops &&
                memcmp(hits[0], hits[1], found[0].n * sizeof hits[0][0]) == 0;
    }
    return alike;
}

/* The graph in the file, where it lies. */
static void check_mapped(graph_kit *kit, vex_vfs *vfs, const vex_file_entry *entry) {
    vex_graph *graph;
    uint32_t first = 0;
    CHECK_OK(vex_graph_map(vfs, "/", kit_uuid, entry->file_no, entry, &kit->codes, rows_of, kit,
                           &graph));
    CHECK(vex_graph_is_mapped(graph) && !vex_graph_is_mapped(kit->graph));
    CHECK_EQ(vex_graph_file(graph)->size, entry->size);
    /* Searches that check what they meet go the same ways. */
    CHECK(!vex_graph_is_verified(graph) && vex_graph_is_verified(kit->graph));
    CHECK(searches_alike(kit, graph, kit->n < 50 ? kit->n : 50));
    CHECK_OK(vex_graph_verify(graph));
    CHECK(vex_graph_is_verified(graph));
    vex_graph_stats x, y;
    vex_graph_get_stats(kit->graph, &x);
    vex_graph_get_stats(graph, &y);
    CHECK(x.edges == y.edges && x.upper_edges == y.upper_edges && x.entry == y.entry);
    CHECK_EQ(vex_graph_inserted(graph), x.linked + x.duplicates);
    CHECK(searches_alike(kit, graph, kit->n < 50 ? kit->n : 50));
    CHECK_STATUS(vex_graph_add_source(graph, 99, kit->rows, kit->n, &first), VEX_ERR_INVALID);
    vex_graph_destroy(graph);
}

TEST(graph_file_round_trip) {
    vex_vfs *vfs;
    CHECK_OK(vex_vfs_memory_create(&vfs));
    for (uint32_t n = 0; n < 3000; n = n < 3 ? n + 1 : n * 5) {
        for (uint32_t space = 0; space < 3; space++) {
            graph_kit kit = make_kit(space, n, n / 10);
            vex_graph *graph;
            vex_file_entry entry = save(&kit, vfs), again;
            CHECK_OK(vex_graph_load(vfs, "/", kit_uuid, entry.file_no, &entry, &kit.codes, rows_of,
                                    &kit, &graph));
            vex_graph_stats x, y;
            vex_graph_get_stats(kit.graph, &x);
            vex_graph_get_stats(graph, &y);
            CHECK(x.ids == y.ids && x.linked == y.linked && x.duplicates == y.duplicates);
            CHECK(x.edges == y.edges && x.upper_edges == y.upper_edges && x.entry == y.entry);
            CHECK_EQ(entry.rows, x.linked + x.duplicates);
            CHECK(searches_alike(&kit, graph, n < 50 ? n : 50));
            check_mapped(&kit, vfs, &entry);
            /* What was left out goes into either in the same way; duplicates are still known. */
            CHECK_OK(vex_graph_insert(kit.graph, 0, n, 1));
            CHECK_OK(vex_graph_insert(graph, 0, n, 1));
            CHECK(searches_alike(&kit, graph, n < 50 ? n : 50));
            vex_graph_get_stats(graph, &y);
            CHECK_EQ(y.linked + y.duplicates, n);
            CHECK_OK(vex_graph_save(graph, vfs, "/", kit_uuid, 2, 1, 2, true, &again));
            vex_graph_destroy(graph);
            graph_kit_destroy(&kit);
        }
    }
    vex_vfs_memory_destroy(vfs);
}

static void *verify(void *graph) {
    return vex_graph_verify(graph) == VEX_OK ? graph : NULL;
}

TEST(graph_file_searched_while_it_is_verified) {
    vex_vfs *vfs;
    CHECK_OK(vex_vfs_memory_create(&vfs));
    graph_kit kit = make_kit(VEX_SPACE_L2, 3000, 0);
    const vex_file_entry entry = save(&kit, vfs);
    for (uint32_t round = 0; round < 8; round++) {
        vex_graph *graph;
        pthread_t thread;
        void *verified = NULL;
        CHECK_OK(vex_graph_map(vfs, "/", kit_uuid, entry.file_no, &entry, &kit.codes, rows_of, &kit,
                               &graph));
        CHECK_EQ(pthread_create(&thread, NULL, verify, graph), 0);
        CHECK(searches_alike(&kit, graph, 60));
        CHECK_EQ(pthread_join(thread, &verified), 0);
        CHECK(verified == graph && searches_alike(&kit, graph, 5));
        vex_graph_destroy(graph);
    }
    graph_kit_destroy(&kit);
    vex_vfs_memory_destroy(vfs);
}

TEST(graph_file_of_other_rows) {
    vex_vfs *vfs;
    CHECK_OK(vex_vfs_memory_create(&vfs));
    graph_kit kit = make_kit(VEX_SPACE_L2, 100, 0);
    vex_file_entry entry = save(&kit, vfs);
    vex_graph *graph;
    vex_codes other;
    CHECK_OK(vex_codes_init(&other, VEX_CODE_LVQ8, VEX_SPACE_IP, 6));
    CHECK_STATUS(
        vex_graph_load(vfs, "/", kit_uuid, entry.file_no, &entry, &other, rows_of, &kit, &graph),
        VEX_ERR_NOT_FOUND);
    CHECK_OK(vex_codes_init(&other, VEX_CODE_F16, VEX_SPACE_L2, 6));
    CHECK_STATUS(
        vex_graph_load(vfs, "/", kit_uuid, entry.file_no, &entry, &other, rows_of, &kit, &graph),
        VEX_ERR_NOT_FOUND);
    CHECK_OK(vex_codes_init(&other, VEX_CODE_LVQ8, VEX_SPACE_L2, 7));
    CHECK_STATUS(
        vex_graph_load(vfs, "/", kit_uuid, entry.file_no, &entry, &other, rows_of, &kit, &graph),
        VEX_ERR_NOT_FOUND);
    kit.n--; /* rows_of no longer knows the file */
    CHECK_STATUS(vex_graph_load(vfs, "/", kit_uuid, entry.file_no, &entry, &kit.codes, rows_of,
                                &kit, &graph),
                 VEX_ERR_NOT_FOUND);
    kit.n++;
    entry.crc++;
    CHECK_STATUS(vex_graph_load(vfs, "/", kit_uuid, entry.file_no, &entry, &kit.codes, rows_of,
                                &kit, &graph),
                 VEX_ERR_CORRUPT);
    graph_kit_destroy(&kit);
    vex_vfs_memory_destroy(vfs);
}

/* ---- damage ---- */

/* A graph that loads, or not, is used where it lies before it is verified: what is found exists, and is
 * found once. */
static void use_mapped(graph_kit *kit, vex_vfs *vfs, const vex_file_entry *entry,
                       vex_status loaded) {
    vex_graph *graph;
    const vex_status mapped =
        vex_graph_map(vfs, "/", kit_uuid, entry->file_no, entry, &kit->codes, rows_of, kit, &graph);
    if (mapped != VEX_OK) {
        CHECK_EQ(mapped, loaded);
        return;
    }
    for (uint32_t j = 0; j < 10; j++) {
        uint64_t allowed[2] = {0x123456789abcdef, 0xfe57};
        const vex_graph_search_args args = {.query = kit->vectors + (size_t)j * 5 * kit->dim,
                                            .ef = 1 + j * 2,
                                            .allowed = j % 3 == 0 ? NULL : allowed,
                                            .allowed_end = kit->n,
                                            .n_allowed = j % 3 == 1 ? 1 : 60};
        vex_graph_scratch *scratch;
        vex_graph_found found;
        CHECK_OK(vex_graph_scratch_acquire(graph, &scratch));
        CHECK_OK(vex_graph_search(graph, scratch, &args, &found));
        uint64_t seen[2] = {0};
        for (uint32_t i = 0; i < found.n; i++) {
            CHECK(found.hits[i].id < kit->n && isfinite(found.hits[i].distance));
            CHECK(!vex_bit_get(seen, found.hits[i].id));
            vex_bit_set(seen, found.hits[i].id);
        }
        CHECK(!found.exhausted || (found.n == 0 && loaded != VEX_OK));
        vex_graph_scratch_release(graph, scratch);
    }
    CHECK_EQ(vex_graph_verify(graph), loaded);
    CHECK_EQ(vex_graph_is_verified(graph), loaded == VEX_OK);
    vex_graph_destroy(graph);
}

TEST(graph_file_every_byte_damaged) {
    vex_vfs *vfs;
    CHECK_OK(vex_vfs_memory_create(&vfs));
    graph_kit kit = make_kit(VEX_SPACE_COSINE, 60, 3);
    vex_file_entry entry = save(&kit, vfs);
    const char *path = kit_path("/", VEX_KIND_GRAPH, 1);
    for (uint64_t at = 0; at < entry.size; at++) {
        const uint8_t mask = (uint8_t)(1 + test_random_below(255));
        vex_graph *graph;
        kit_xor_byte(vfs, path, at, mask);
        const vex_status status = vex_graph_load(vfs, "/", kit_uuid, entry.file_no, &entry,
                                                 &kit.codes, rows_of, &kit, &graph);
        use_mapped(&kit, vfs, &entry, status);
        if (status == VEX_OK) { /* padding */
            CHECK(searches_alike(&kit, graph, 5));
            vex_graph_destroy(graph);
        } else {
            CHECK(status == VEX_ERR_CORRUPT || status == VEX_ERR_VERSION);
        }
        kit_xor_byte(vfs, path, at, mask);
    }
    for (uint64_t size = 0; size < entry.size; size += 1 + test_random_below(50)) {
        vex_vfs *other;
        vex_graph *graph;
        CHECK_OK(vex_vfs_memory_create(&other));
        (void)save(&kit, other);
        kit_truncate(other, path, size);
        CHECK_STATUS(vex_graph_load(other, "/", kit_uuid, entry.file_no, &entry, &kit.codes,
                                    rows_of, &kit, &graph),
                     VEX_ERR_CORRUPT);
        vex_vfs_memory_destroy(other);
    }
    graph_kit_destroy(&kit);
    vex_vfs_memory_destroy(vfs);
}

/* A graph that is loaded must be safe to search, to insert into and to compact, whatever it is. */
static bool use_damaged(graph_kit *kit, vex_vfs *vfs, const vex_file_entry *entry) {
    vex_graph *graph, *fresh;
    const vex_status status = vex_graph_load(vfs, "/", kit_uuid, entry->file_no, entry, &kit->codes,
                                             rows_of, kit, &graph);
    use_mapped(kit, vfs, entry, status);
    if (status != VEX_OK) {
        CHECK(status == VEX_ERR_CORRUPT || status == VEX_ERR_NOT_FOUND);
        return false;
    }
    uint32_t lost, first, old_to_new[80], live = 0;
    vex_graph_repair_stats repair;
    (void)searches_alike(kit, graph, 10);
    CHECK_OK(vex_graph_insert(graph, 0, kit->n, 1));
    CHECK_OK(vex_graph_repair(graph, &repair));
    CHECK_OK(vex_graph_unreachable(graph, &lost));
    (void)searches_alike(kit, graph, 10);
    for (uint32_t i = 0; i < 80; i++) {
        old_to_new[i] = i % 3 == 0 ? VEX_GRAPH_NONE : live++;
    }
    CHECK_OK(vex_graph_create(vex_graph_get_params(graph), &fresh));
    CHECK_OK(vex_graph_add_source(fresh, 2, kit->rows, kit->n, &first));
    CHECK_OK(vex_graph_remap(graph, old_to_new, 80, &(vex_graph_pace){1, NULL, NULL}, fresh));
    vex_graph_destroy(fresh);
    vex_graph_destroy(graph);
    return true;
}

TEST(graph_file_damage_behind_checksums) {
    vex_vfs *vfs;
    CHECK_OK(vex_vfs_memory_create(&vfs));
    uint32_t opened = 0, refused = 0;
    for (uint32_t space = 0; space < 3; space++) {
        graph_kit kit = make_kit(space, 80, 5);
        const vex_file_entry entry = save(&kit, vfs);
        vex_container container;
        CHECK_OK(vex_container_open(vfs, "/", kit_uuid, VEX_KIND_GRAPH, 1, &entry, &container));
        for (int round = 0; round < 500; round++) {
            vex_file_entry changed = entry;
            kit_rewrite_damaged(&container, "/", GRAPH_SECTION_UPPER + 1, 2, &changed);
            const bool is_open = use_damaged(&kit, vfs, &changed);
            opened += is_open;
            refused += !is_open;
        }
        vex_container_close(&container);
        graph_kit_destroy(&kit);
    }
    CHECK(opened > 100 && refused > 300);
    vex_vfs_memory_destroy(vfs);
}

#ifdef VEX_TESTING
TEST(graph_file_every_failure) {
    vex_vfs *memory, *vfs;
    CHECK_OK(vex_vfs_memory_create(&memory));
    CHECK_OK(vex_vfs_fault_create(memory, &vfs));
    graph_kit kit = make_kit(VEX_SPACE_L2, 50, 0);
    resources before = resources_now();
    for (int kind = 0; kind < 2; kind++) { /* calls of the system; allocations */
        vex_status status = VEX_ERR_IO;
        for (uint64_t n = 1; status != VEX_OK; n++) {
            CHECK(n < 300);
            vex_graph *graph = NULL;
            vex_file_entry entry;
            vex_vfs_fault_arm(vfs, kind == 0 ? n : 0, EIO, false, false);
            vex_mem_fail_at(kind == 1 ? n : 0, false);
            status = vex_graph_save(kit.graph, vfs, "/", kit_uuid, 1, 1, 1, true, &entry);
            if (status == VEX_OK) {
                status = vex_graph_load(vfs, "/", kit_uuid, entry.file_no, &entry, &kit.codes,
                                        rows_of, &kit, &graph);
            }
            if (status == VEX_OK) {
                vex_graph_destroy(graph);
                status = vex_graph_map(vfs, "/", kit_uuid, entry.file_no, &entry, &kit.codes,
                                       rows_of, &kit, &graph);
            }
            if (status == VEX_OK) {
                status = vex_graph_verify(graph);
                if (status != VEX_OK) {
                    vex_graph_destroy(graph);
                }
            }
            vex_vfs_fault_arm(vfs, 0, 0, false, false);
            vex_mem_fail_at(0, false);
            if (status == VEX_OK) {
                CHECK(searches_alike(&kit, graph, 20));
                vex_graph_destroy(graph);
            } else {
                CHECK_EQ(status, kind == 0 ? VEX_ERR_IO : VEX_ERR_NO_MEMORY);
            }
            resources now = resources_now();
            CHECK_EQ(now.files, before.files);
            CHECK_EQ(now.mapped_files, before.mapped_files);
        }
    }
    graph_kit_destroy(&kit);
    vex_vfs_fault_destroy(vfs);
    vex_vfs_memory_destroy(memory);
}
#endif
