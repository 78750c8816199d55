/*
 * micro_layout.c - hops of a walk over nodes at random: links and code rows in arrays of their own, as the
 * engine has them, or each node's row behind its links.
 *
 * A hop reads the links of a node and all rows they lead to: beside the links of 32 others, that a row's
 * own links are near is of no use, and records are longer.
 */
#include "index/lvq.h"
#include "tests/micro/micro.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NODES 100000u
#define LINKS 32u
#define HOPS 2000u
#define LINK_BYTES 192u /* 32 links and a head, in whole cache lines */

typedef struct layout {
    const uint8_t *links, *rows;
    size_t link_stride, row_stride;
    uint32_t row_bytes;
    const int8_t *query;
    vex_lvq_kernel sums;
    uint32_t at;
} layout;

static void walk(void *context) {
    layout *l = context;
    int32_t sums[LINKS], total = 0;
    const uint8_t *places[LINKS];
    for (uint32_t hop = 0; hop < HOPS; hop++) {
        uint32_t ids[LINKS];
        memcpy(ids, l->links + l->at * l->link_stride, sizeof ids);
        for (uint32_t i = 0; i < LINKS; i++) {
            places[i] = l->rows + ids[i] * l->row_stride;
            for (uint32_t at = 0; at < l->row_bytes; at += 64) {
                __builtin_prefetch(places[i] + at, 0, 3);
            }
        }
        l->sums(l->query, places, LINKS, l->row_bytes, sums);
        total += sums[hop % LINKS];
        l->at = ids[((uint32_t)total + hop) % LINKS]; /* as in a walk: known only now */
    }
    micro_use(&total);
}

static void compare(uint32_t dim) {
    vex_lvq_level levels[4];
    vex_bulk apart_rows, apart_links, inline_nodes;
    const size_t node = LINK_BYTES + dim;
    uint64_t state = 5;
    char name[64];
    (void)vex_lvq_levels(levels);
    micro_need(vex_bulk_create(&apart_rows, (size_t)NODES * dim), "layout");
    micro_need(vex_bulk_create(&apart_links, (size_t)NODES * LINK_BYTES), "layout");
    micro_need(vex_bulk_create(&inline_nodes, NODES * node), "layout");
    for (size_t i = 0; i < (size_t)NODES * dim; i++) {
        ((uint8_t *)apart_rows.data)[i] = (uint8_t)(micro_random(&state) >> 56);
    }
    for (uint32_t i = 0; i < NODES; i++) {
        uint8_t *const record = (uint8_t *)inline_nodes.data + i * node;
        uint32_t ids[LINKS];
        for (uint32_t k = 0; k < LINKS; k++) {
            ids[k] = (uint32_t)(micro_random(&state) % NODES);
        }
        memcpy((uint8_t *)apart_links.data + (size_t)i * LINK_BYTES, ids, sizeof ids);
        memcpy(record, ids, sizeof ids);
        memcpy(record + LINK_BYTES, (uint8_t *)apart_rows.data + (size_t)i * dim, dim);
    }
    int8_t *query = micro_room(dim);
    for (uint32_t i = 0; i < dim; i++) {
        query[i] = (int8_t)(micro_random(&state) >> 56);
    }
    layout apart = {
        apart_links.data, apart_rows.data, LINK_BYTES, dim, dim, query, levels[0].sums, 0};
    layout beside = {inline_nodes.data,
                     (uint8_t *)inline_nodes.data + LINK_BYTES,
                     node,
                     node,
                     dim,
                     query,
                     levels[0].sums,
                     0};
    snprintf(name, sizeof name, "%u-d, rows apart from links", (unsigned)dim);
    micro_report("layout", name, micro_time(walk, &apart) / HOPS * 1e9, "ns a hop");
    snprintf(name, sizeof name, "%u-d, rows beside links", (unsigned)dim);
    micro_report("layout", name, micro_time(walk, &beside) / HOPS * 1e9, "ns a hop");
    free(query);
    vex_bulk_destroy(&apart_rows);
    vex_bulk_destroy(&apart_links);
    vex_bulk_destroy(&inline_nodes);
}

void micro_layout(void) {
    compare(128);
    compare(384);
    compare(768);
}
