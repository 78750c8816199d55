/*
 * tombs.c - see tombs.h.
 */
#include "store/tombs.h"

#include "base/bits.h"
#include "base/bytes.h"
#include "store/section.h"

#include "base/poison.h"

#define PAGE_WORDS (VEX_TOMBS_PAGE_ROWS / 64)

#define AT_FILE_NO 0
#define AT_ROWS 8
#define AT_DEAD 12

static vex_status no_memory(void) {
    return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a bitmap of deleted rows");
}

vex_status vex_tombs_create(uint32_t rows, vex_tombs **out) {
    uint32_t n_pages = rows / VEX_TOMBS_PAGE_ROWS + (rows % VEX_TOMBS_PAGE_ROWS != 0);
    vex_tombs *tombs = vex_calloc(1, sizeof *tombs + n_pages * sizeof tombs->pages[0]);
    if (tombs == NULL) {
        return no_memory();
    }
    atomic_init(&tombs->refs, 1);
    tombs->rows = rows;
    tombs->n_pages = n_pages;
    *out = tombs;
    return VEX_OK;
}

vex_tombs *vex_tombs_acquire(vex_tombs *tombs) {
    vex_refs_take(&tombs->refs);
    return tombs;
}

static void release_page(vex_tombs_page *page) {
    if (page != NULL && vex_refs_drop(&page->refs)) {
        vex_free(page);
    }
}

void vex_tombs_release(vex_tombs *tombs) {
    if (tombs == NULL || !vex_refs_drop(&tombs->refs)) {
        return;
    }
    for (uint32_t i = 0; i < tombs->n_pages; i++) {
        release_page(tombs->pages[i]);
    }
    vex_free(tombs);
}

/* ---- killing ---- */

static vex_status copy_version(const vex_tombs *from, vex_tombs **out) {
    vex_tombs *copy = NULL;
    VEX_TRY(vex_tombs_create(from->rows, &copy));
    copy->dead = from->dead;
    for (uint32_t i = 0; i < from->n_pages; i++) {
        copy->pages[i] = from->pages[i];
        if (copy->pages[i] != NULL) {
            vex_refs_take(&copy->pages[i]->refs);
        }
    }
    *out = copy;
    return VEX_OK;
}

/* A page that nobody else uses, with the content of `from` (NULL: zeros). */
static vex_tombs_page *copy_page(const vex_tombs_page *from) {
    vex_tombs_page *page = vex_calloc(1, sizeof *page);
    if (page != NULL) {
        atomic_init(&page->refs, 1);
        if (from != NULL) {
            memcpy(page->words, from->words, sizeof page->words);
        }
    }
    return page;
}

/* References are only taken by who holds one: a count of 1 seen by its holder stays 1. */
static bool is_shared(const atomic_uint *refs) {
    return atomic_load_explicit(refs, memory_order_acquire) > 1;
}

vex_status vex_tombs_kill(vex_tombs **tombs, uint32_t row, bool *was_live) {
    vex_tombs *own = *tombs;
    if (row >= own->rows) {
        return VEX_FAIL(VEX_ERR_INVALID, "row %u of %u cannot be deleted", (unsigned)row,
                        (unsigned)own->rows);
    }
    if (vex_tombs_dead(own, row)) {
        *was_live = false;
        return VEX_OK;
    }
    if (is_shared(&own->refs)) {
        VEX_TRY(copy_version(*tombs, &own));
    }
    vex_tombs_page **page = &own->pages[row / VEX_TOMBS_PAGE_ROWS];
    if (*page == NULL || is_shared(&(*page)->refs)) {
        vex_tombs_page *fresh = copy_page(*page);
        if (fresh == NULL) {
            if (own != *tombs) {
                vex_tombs_release(own);
            }
            return no_memory();
        }
        release_page(*page);
        *page = fresh;
    }
    vex_bit_set((*page)->words, row % VEX_TOMBS_PAGE_ROWS);
    own->dead++;
    if (own != *tombs) {
        vex_tombs_release(*tombs);
        *tombs = own;
    }
    *was_live = true;
    return VEX_OK;
}

/* ---- reading ---- */

void vex_tombs_live_words(const vex_tombs *tombs, uint64_t *words) {
    vex_bits_fill(words, tombs->rows);
    for (uint32_t p = 0; p < tombs->n_pages; p++) {
        const vex_tombs_page *page = tombs->pages[p];
        size_t first = (size_t)p * PAGE_WORDS, n = vex_bit_words(tombs->rows) - first;
        for (size_t i = 0; page != NULL && i < PAGE_WORDS && i < n; i++) {
            words[first + i] &= ~page->words[i];
        }
    }
}

uint32_t vex_tombs_count(const vex_tombs *tombs, uint32_t first, uint32_t end) {
    uint32_t dead = 0;
    for (uint32_t row = first; row < end && tombs->dead > 0;) {
        uint32_t in_word = 64 - row % 64, n = in_word < end - row ? in_word : end - row;
        uint64_t bits = vex_tombs_dead_word(tombs, row / 64) >> row % 64;
        if (n < 64) {
            bits &= (1ULL << n) - 1;
        }
        dead += (uint32_t)__builtin_popcountll(bits);
        row += n;
    }
    return dead;
}

/* ---- files ---- */

static vex_status write_words(const vex_tombs *tombs, vex_container_writer *writer) {
    static const uint64_t zeros[PAGE_WORDS];
    VEX_TRY(vex_container_begin(writer, VEX_SECTION_TOMBS, 0, 64, tombs->rows, 0));
    size_t left = vex_bit_words(tombs->rows);
    for (uint32_t p = 0; p < tombs->n_pages; p++) {
        const vex_tombs_page *page = tombs->pages[p];
        size_t n = left < PAGE_WORDS ? left : PAGE_WORDS;
        VEX_TRY(vex_container_append(writer, page ? page->words : zeros, n * sizeof *zeros));
        left -= n;
    }
    return vex_container_end(writer);
}

vex_status vex_tombs_write(const vex_tombs *tombs, vex_vfs *vfs, const char *dir,
                           const uint8_t uuid[16], uint64_t file_no, uint64_t lsn, bool sync,
                           vex_file_entry *of) {
    vex_container_writer *writer = NULL;
    VEX_TRY(vex_container_create(vfs, dir, uuid, VEX_KIND_TOMBS, file_no, lsn, lsn, &writer));
    uint8_t info[VEX_TOMBS_INFO_BYTES];
    vex_put64(info + AT_FILE_NO, of->file_no);
    vex_put32(info + AT_ROWS, tombs->rows);
    vex_put32(info + AT_DEAD, tombs->dead);
    vex_status status = vex_container_put(writer, VEX_SECTION_INFO, 0, 0, 0, info, sizeof info);
    if (status == VEX_OK) {
        status = write_words(tombs, writer);
    }
    if (status != VEX_OK) {
        vex_container_abort(writer);
        return status;
    }
    vex_file_entry written = {0};
    VEX_TRY(vex_container_finish(writer, sync, &written));
    of->tombs_file_no = file_no;
    of->tombs_size = written.size;
    of->tombs_crc = written.crc;
    of->dead_rows = tombs->dead;
    return VEX_OK;
}

static vex_status fill(const vex_container *container, vex_tombs *tombs) {
    const vex_section *section = NULL;
    size_t left = vex_bit_words(tombs->rows);
    VEX_TRY(vex_section_need(container, VEX_SECTION_TOMBS, left * sizeof(uint64_t), &section));
    const uint64_t *words = (const void *)section->data;
    uint64_t dead = vex_bits_count(words, left);
    bool beyond = tombs->rows % 64 != 0 && words[left - 1] >> tombs->rows % 64 != 0;
    if (dead != tombs->dead || beyond) {
        return vex_section_damaged(container, section, "the deleted rows do not add up");
    }
    for (uint32_t p = 0; p < tombs->n_pages; p++) {
        size_t n = left < PAGE_WORDS ? left : PAGE_WORDS;
        if (vex_bits_count(words, n) > 0) {
            vex_tombs_page *page = copy_page(NULL);
            if (page == NULL) {
                return no_memory();
            }
            memcpy(page->words, words, n * sizeof *words);
            tombs->pages[p] = page;
        }
        words += n;
        left -= n;
    }
    return VEX_OK;
}

static vex_status load(const vex_container *container, const vex_file_entry *of, vex_tombs *tombs) {
    const vex_section *info = NULL;
    VEX_TRY(vex_section_need(container, VEX_SECTION_INFO, VEX_TOMBS_INFO_BYTES, &info));
    tombs->dead = vex_get32(info->data + AT_DEAD);
    if (vex_get64(info->data + AT_FILE_NO) != of->file_no ||
        vex_get32(info->data + AT_ROWS) != of->rows || tombs->dead != of->dead_rows) {
        return vex_section_damaged(container, info, "it belongs to another file");
    }
    return fill(container, tombs);
}

vex_status vex_tombs_read(vex_vfs *vfs, const char *dir, const uint8_t uuid[16],
                          const vex_file_entry *of, vex_tombs **out) {
    vex_tombs *tombs = NULL;
    VEX_TRY(vex_tombs_create(of->rows, &tombs));
    if (of->tombs_file_no == 0) {
        *out = tombs;
        return VEX_OK;
    }
    const vex_file_entry expected = {.kind = VEX_KIND_TOMBS,
                                     .file_no = of->tombs_file_no,
                                     .size = of->tombs_size,
                                     .crc = of->tombs_crc};
    vex_container container;
    vex_status status = vex_container_open(vfs, dir, uuid, VEX_KIND_TOMBS, of->tombs_file_no,
                                           &expected, &container);
    if (status == VEX_OK) {
        status = load(&container, of, tombs);
        vex_container_close(&container);
    }
    if (status != VEX_OK) {
        vex_tombs_release(tombs);
        return status;
    }
    *out = tombs;
    return VEX_OK;
}
