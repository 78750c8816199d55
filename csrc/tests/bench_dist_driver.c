/*
 * bench_dist_driver.c - micro benchmark of the distance kernels and of exact search.
 *
 *   F="csrc/tests/bench_dist_driver.c $(ls csrc/{index,base,io}/?*.c) csrc/codec/narrow.c"
 *   cc -std=gnu11 -O3 -fno-math-errno -Icsrc $F -o bench_dist -pthread -lm && ./bench_dist [MiB]
 *
 * Prints ns per distance with rows and queries in cache, by the row kernel (one query) and by the
 * tile kernel (32 queries); then a scan of MiB of rows (default 256) in GB/s, all rows and a
 * random 2 % of them.  Each figure is the best of several repetitions.
 */
#include "base/bits.h"
#include "base/mem.h"
#include "index/flat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROWS 32u
#define QUERIES 32u

static const char *element_names[] = {"f32", "f16", "u8"};
static const uint32_t dims[] = {128, 384, 768, 1536};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Random values: float32 and float16 of one binade, any uint8. */
static void fill(void *data, size_t bytes, vex_element element) {
    static const uint64_t keep[] = {0x007FFFFF007FFFFF, 0x03FF03FF03FF03FF, ~0ULL};
    static const uint64_t set[] = {0x3F8000003F800000, 0x3C003C003C003C00, 0};
    uint64_t state = 88172645463325252ULL;
    for (size_t i = 0; i < bytes / 8; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((uint64_t *)data)[i] = (state & keep[element]) | set[element];
    }
}

/* GB/s of reading memory and doing next to nothing with it: what a scan can reach. */
static double read_rate(const void *data, size_t bytes) {
    double best = 0;
    for (int repetition = 0; repetition < 5; repetition++) {
        const uint64_t *words = data;
        uint64_t sums[8] = {0}, all = 0;
        const double start = now();
        for (size_t i = 0; i + 8 <= bytes / 8; i += 8) {
            for (int k = 0; k < 8; k++) {
                sums[k] += words[i + (size_t)k];
            }
        }
        const double took = now() - start;
        for (int k = 0; k < 8; k++) {
            all += sums[k];
        }
        __asm__ volatile("" : : "r"(all));
        best = (double)bytes / took * 1e-9 > best ? (double)bytes / took * 1e-9 : best;
    }
    return best;
}

/* ns per distance, rows and queries in cache; m == 1 uses the row kernel. */
static double in_cache(const vex_kernels *kernels, vex_element element, bool l2, uint32_t dim,
                       uint32_t m, const void *rows, const float *queries) {
    static float out[ROWS * QUERIES];
    const size_t stride = dim * vex_element_bytes(element);
    double best = 1e9;
    for (int repetition = 0; repetition < 7; repetition++) {
        const uint32_t calls = 1 + 4000000 / (dim * m * ROWS);
        const double start = now();
        for (uint32_t c = 0; c < calls; c++) {
            if (m == 1) {
                (l2 ? kernels->l2 : kernels->dot)[element](rows, stride, ROWS, queries, dim, out);
            } else {
                (l2 ? kernels->l2_tile : kernels->dot_tile)[element](rows, stride, ROWS, queries,
                                                                     dim, m, dim, out, ROWS);
            }
        }
        const double each = (now() - start) / calls / m / ROWS * 1e9;
        best = each < best ? each : best;
    }
    return best;
}

static void kernels_in_cache(const vex_kernels *kernels, void *rows, float *queries) {
    for (int element = 0; element < VEX_ELEMENT_KINDS; element++) {
        fill(rows, ROWS * 1536 * 4, (vex_element)element);
        for (int kind = 0; kind < 2; kind++) {
            printf("%-7s %-3s %-3s ", kernels->name, element_names[element], kind ? "l2" : "dot");
            for (size_t d = 0; d < sizeof dims / sizeof *dims; d++) {
                printf(
                    "  %7.1f %7.1f",
                    in_cache(kernels, (vex_element)element, kind, dims[d], 1, rows, queries),
                    in_cache(kernels, (vex_element)element, kind, dims[d], QUERIES, rows, queries));
            }
            printf("\n");
        }
    }
}

/* Seconds of one scan, the best of five. */
static double scan(const vex_kernels *kernels, const vex_row_run *run, const float *queries,
                   uint32_t m, uint32_t dim) {
    double best = 1e9;
    for (int repetition = 0; repetition < 5; repetition++) {
        vex_topk top[QUERIES];
        for (uint32_t j = 0; j < m; j++) {
            if (vex_topk_init(&top[j], 10) != VEX_OK) {
                return -1;
            }
        }
        const double start = now();
        const vex_status status =
            vex_flat_scan(kernels, VEX_SPACE_L2, run, queries, NULL, m, dim, top);
        const double took = now() - start;
        best = took < best ? took : best;
        for (uint32_t j = 0; j < m; j++) {
            vex_topk_clear(&top[j]);
        }
        if (status != VEX_OK) {
            return -1;
        }
    }
    return best;
}

/* GB/s of the rows that count, for all rows and for 2 % of them; ns per distance for m queries. */
static void scan_memory(const vex_kernels *kernels, void *rows, size_t bytes,
                        const float *queries) {
    for (int element = 0; element < VEX_ELEMENT_KINDS; element++) {
        fill(rows, bytes, (vex_element)element);
        printf("%-7s %-3s     ", kernels->name, element_names[element]);
        for (size_t d = 0; d < sizeof dims / sizeof *dims; d++) {
            const size_t stride = dims[d] * vex_element_bytes((vex_element)element);
            vex_row_run run = {.rows = rows,
                               .stride = stride,
                               .n = (uint32_t)(bytes / stride),
                               .element = (vex_element)element};
            uint64_t *seqs = calloc(run.n, sizeof *seqs);
            uint64_t *selected = calloc(vex_bit_words(run.n), sizeof *selected);
            size_t n_selected = 0;
            for (uint32_t i = 0, at = 7; at < run.n; i++, at += 1 + (i * 2654435761u >> 16) % 99) {
                vex_bit_set(selected, at);
                n_selected++;
            }
            run.seqs = seqs;
            run.seq_stride = sizeof *seqs;
            const double all = scan(kernels, &run, queries, 1, dims[d]);
            const uint32_t n = run.n;
            run.n = n / 8;
            const double many = scan(kernels, &run, queries, QUERIES, dims[d]);
            run.n = n;
            run.selected = selected;
            const double few = scan(kernels, &run, queries, 1, dims[d]);
            printf("  %5.1f %5.1f %5.1f", (double)n * (double)stride / all * 1e-9,
                   (double)n_selected * (double)stride / few * 1e-9,
                   many / (n / 8) / QUERIES * 1e9);
            free(seqs);
            free(selected);
        }
        printf("\n");
    }
}

int main(int argc, char **argv) {
    const size_t bytes = (size_t)(argc > 1 ? atoi(argv[1]) : 256) << 20;
    const vex_kernels *levels[4];
    const uint32_t n = vex_kernels_available(levels);
    vex_bulk rows;
    float *queries = malloc(QUERIES * 1536 * sizeof *queries);
    if (queries == NULL || bytes == 0 || vex_bulk_create(&rows, bytes) != VEX_OK) {
        fprintf(stderr, "usage: %s [MiB of rows]\n", argv[0]);
        return 1;
    }
    fill(queries, QUERIES * 1536 * sizeof *queries, VEX_F32);
    printf("In cache, ns per distance: one query, %u queries.\n                ", QUERIES);
    for (size_t d = 0; d < sizeof dims / sizeof *dims; d++) {
        printf("   %8u-d     ", (unsigned)dims[d]);
    }
    printf("\n");
    for (uint32_t i = 0; i < n; i++) {
        kernels_in_cache(levels[i], rows.data, queries);
    }
    fill(rows.data, bytes, VEX_U8);
    printf("Reading memory: %.1f GB/s.\n", read_rate(rows.data, bytes));
    printf("Scan of memory: GB/s all rows, GB/s of 2 %% of the rows; ns per distance for %u "
           "queries.\n",
           QUERIES);
    for (uint32_t i = 0; i < n; i++) {
        scan_memory(levels[i], rows.data, bytes, queries);
    }
    vex_bulk_destroy(&rows);
    free(queries);
    return 0;
}
