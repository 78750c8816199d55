/*
 * scored.c - the best rows so far, as a heap whose first item is the one to be driven out next
 * (see retrieve.h).
 */
#include "rank/retrieve.h"

#include "base/poison.h"

void vex_scored_list_clear(vex_scored_list *list) {
    vex_free(list->items);
    *list = (vex_scored_list){0};
}

static inline bool is_nan(float x) {
    return x != x;
}

/* Does a come before b in the result? */
static inline bool before(const vex_scored *a, const vex_scored *b) {
    if (a->score != b->score && !(is_nan(a->score) && is_nan(b->score))) {
        return a->score > b->score || is_nan(b->score);
    }
    return a->row.seq < b->row.seq;
}

static void sift_up(vex_scored *items, size_t i, vex_scored item) {
    while (i > 0 && before(&items[(i - 1) / 2], &item)) {
        items[i] = items[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    items[i] = item;
}

/* Put `item` at the free place i or below, where no child is worse than it. */
static void sift_down(vex_scored *items, size_t n, size_t i, vex_scored item) {
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && before(&items[child], &items[child + 1])) {
            child++;
        }
        if (!before(&item, &items[child])) {
            break;
        }
        items[i] = items[child];
    }
    items[i] = item;
}

bool vex_scored_wants(const vex_scored_list *list, uint32_t limit, float score) {
    if (list->n < limit) {
        return true;
    }
    return limit > 0 && (score >= list->items[0].score || is_nan(list->items[0].score));
}

vex_status vex_scored_offer(vex_scored_list *list, uint32_t limit, vex_scored item) {
    if (list->n < limit) {
        void *items = list->items;
        VEX_TRY(vex_grow(&items, &list->capacity, list->n + 1, sizeof item));
        list->items = items;
        sift_up(list->items, list->n++, item);
    } else if (limit > 0 && before(&item, &list->items[0])) {
        sift_down(list->items, list->n, 0, item);
    }
    return VEX_OK;
}

void vex_scored_sort(vex_scored_list *list) {
    for (size_t n = list->n; n > 1; n--) { /* the worst of what is left goes to its end */
        const vex_scored last = list->items[n - 1];
        list->items[n - 1] = list->items[0];
        sift_down(list->items, n - 1, 0, last);
    }
}
