/*
 * graph_format.h - a graph file: a container of kind VEX_KIND_GRAPH.  Derived data: a damaged one
 * is removed and built anew.
 *
 * INFO, 96 B: u32 version 1, u32 kind of codes, u32 space, u32 dimension, u32 bytes of a code row,
 *   u32 M, u32 ef_construction, u32 bytes of a record, u64 seed, f32 phi at creation, f32 phi,
 *   u32 ids, u32 linked, u32 duplicates, u32 upper lists, u64 entry (level << 32 | id, ~0: none),
 *   u32 sources, 28 B 0
 * SOURCES  per source u64 file_no, u32 rows, u32 first id; first ids ascend and are multiples
 *   of 1024; the last source ends where the ids end
 * LINKS    a record per id, as in graph_internal.h, the lock bit clear; zeros for ids of no source
 * UPPER    the upper lists
 */
#ifndef VEX_INDEX_GRAPH_FORMAT_H
#define VEX_INDEX_GRAPH_FORMAT_H

#define GRAPH_VERSION 1u

/* Kinds of sections beyond those of store/format.h. */
#define GRAPH_SECTION_SOURCES 32u
#define GRAPH_SECTION_LINKS 33u
#define GRAPH_SECTION_UPPER 34u

#define GRAPH_INFO_BYTES 96
#define AT_VERSION 0
#define AT_CODE_KIND 4
#define AT_SPACE 8
#define AT_DIM 12
#define AT_STRIDE 16
#define AT_M 20
#define AT_EF 24
#define AT_RECORD 28
#define AT_SEED 32
#define AT_PHI_CREATED 40
#define AT_PHI 44
#define AT_IDS 48
#define AT_LINKED 52
#define AT_DUPLICATES 56
#define AT_LISTS 60
#define AT_ENTRY 64
#define AT_SOURCES 72

#define GRAPH_SOURCE_BYTES 16

#endif
