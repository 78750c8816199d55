/*
 * evaluate.c - the value of a rank expression (see program.h).
 */
#include "rank/program.h"

#include <math.h>

#include "base/poison.h"

typedef struct stack_value {
    float *numbers; /* per record; where it is not present: anything */
    bool *present;
    bool has_default;
    float value; /* the default */
} stack_value;

typedef struct evaluation {
    const vex_rank_program *program;
    vex_row_ref *records; /* that some leaf found, ascending by seq */
    size_t n;
    stack_value stack[VEX_RANK_DEPTH_MAX];
} evaluation;

/* ---- records ---- */

static int compare_seqs(const void *a, const void *b) {
    const uint64_t x = ((const vex_row_ref *)a)->seq, y = ((const vex_row_ref *)b)->seq;
    return x < y ? -1 : x > y;
}

static vex_status collect_records(evaluation *e, const vex_scored_list *found) {
    size_t n = 0;
    for (size_t i = 0; i < e->program->n_leaves; i++) {
        n += found[i].n;
    }
    e->records = vex_calloc(n + 1, sizeof *e->records);
    if (e->records == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to rank %zu records", n);
    }
    for (size_t i = 0; i < e->program->n_leaves; i++) {
        for (size_t at = 0; at < found[i].n; at++) {
            e->records[e->n++] = found[i].items[at].row;
        }
    }
    qsort(e->records, e->n, sizeof *e->records, compare_seqs);
    size_t kept = 0;
    for (size_t i = 0; i < e->n; i++) {
        if (kept == 0 || e->records[kept - 1].seq != e->records[i].seq) {
            e->records[kept++] = e->records[i];
        }
    }
    e->n = kept;
    return VEX_OK;
}

static size_t place_of(const evaluation *e, uint64_t seq) {
    size_t low = 0, high = e->n;
    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        if (e->records[middle].seq <= seq) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

static vex_status make_stack(evaluation *e) {
    for (uint32_t i = 0; i < e->program->depth; i++) {
        e->stack[i].numbers = vex_calloc(e->n + 1, sizeof *e->stack[i].numbers);
        e->stack[i].present = vex_calloc(e->n + 1, sizeof *e->stack[i].present);
        if (e->stack[i].numbers == NULL || e->stack[i].present == NULL) {
            return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to rank %zu records", e->n);
        }
    }
    return VEX_OK;
}

static void free_evaluation(evaluation *e) {
    for (uint32_t i = 0; i < e->program->depth; i++) {
        vex_free(e->stack[i].numbers);
        vex_free(e->stack[i].present);
    }
    vex_free(e->records);
}

/* ---- steps ---- */

/* Of a number and NaN, the number. */
static float larger(float a, float b) {
    return a != a || b > a ? b : a;
}

static float smaller(float a, float b) {
    return a != a || b < a ? b : a;
}

static float apply(uint32_t op, float a, float b) {
    switch (op) {
    case VEX_R_ADD:
        return a + b;
    case VEX_R_SUB:
        return a - b;
    case VEX_R_MUL:
        return a * b;
    case VEX_R_DIV:
        return a / b;
    case VEX_R_MAX:
        return larger(a, b);
    case VEX_R_MIN:
        return smaller(a, b);
    case VEX_R_ABS:
        return fabsf(a);
    case VEX_R_EXP:
        return (float)exp((double)a);
    default:
        return (float)log((double)a);
    }
}

static void push_leaf(evaluation *e, const vex_rank_step *step, const vex_scored_list *found,
                      stack_value *out) {
    out->has_default = step->has_default;
    out->value = step->value;
    memset(out->present, 0, e->n * sizeof *out->present);
    if (step->op == VEX_R_VAL) {
        return;
    }
    const vex_scored_list *list = &found[step->leaf];
    for (size_t i = 0; i < list->n; i++) {
        const size_t at = place_of(e, list->items[i].row.seq);
        out->present[at] = true;
        out->numbers[at] = e->program->leaves[step->leaf].by_rank ? (float)i : list->items[i].score;
    }
}

static void apply_one(const evaluation *e, uint32_t op, stack_value *a) {
    for (size_t i = 0; i < e->n; i++) {
        a->numbers[i] = apply(op, a->numbers[i], 0);
    }
    a->value = apply(op, a->value, 0);
}

/* a = a op b */
static void combine(const evaluation *e, uint32_t op, stack_value *a, const stack_value *b) {
    for (size_t i = 0; i < e->n; i++) {
        const float x = a->present[i] ? a->numbers[i] : a->value;
        const float y = b->present[i] ? b->numbers[i] : b->value;
        const bool known_a = a->present[i] || a->has_default;
        const bool known_b = b->present[i] || b->has_default;
        a->present[i] = known_a && known_b && (a->present[i] || b->present[i]);
        a->numbers[i] = apply(op, x, y);
    }
    a->value = apply(op, a->value, b->value);
    a->has_default = a->has_default && b->has_default;
}

static void run(evaluation *e, const vex_scored_list *found) {
    uint32_t depth = 0;
    for (size_t i = 0; i < e->program->n_steps; i++) {
        const vex_rank_step *step = &e->program->steps[i];
        switch (step->op) {
        case VEX_R_VAL:
        case VEX_R_NEAREST:
        case VEX_R_SPARSE:
        case VEX_R_TEXT:
            push_leaf(e, step, found, &e->stack[depth++]);
            break;
        case VEX_R_ABS:
        case VEX_R_EXP:
        case VEX_R_LOG:
            apply_one(e, step->op, &e->stack[depth - 1]);
            break;
        default:
            depth--;
            combine(e, step->op, &e->stack[depth - 1], &e->stack[depth]);
            break;
        }
    }
}

/* ---- the result ---- */

int vex_score_order(float a, float b) {
    if (a != a || b != b) {
        return (a != a) - (b != b);
    }
    if (a != b) {
        return a < b ? -1 : 1;
    }
    return (signbit(a) == 0) - (signbit(b) == 0); /* which matters for zeros only */
}

static int compare_scores(const void *a, const void *b) {
    const vex_scored *x = a, *y = b;
    const int order = vex_score_order(x->score, y->score);
    return order != 0 ? order : compare_seqs(&x->row, &y->row);
}

static vex_status take_support(const evaluation *e, vex_scored_list *out) {
    const stack_value *value = &e->stack[0];
    out->items = vex_calloc(e->n + 1, sizeof *out->items);
    if (out->items == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to rank %zu records", e->n);
    }
    out->capacity = e->n + 1;
    for (size_t i = 0; i < e->n; i++) {
        if (value->present[i]) {
            const float score = value->numbers[i];
            out->items[out->n++] =
                (vex_scored){.row = e->records[i], .score = score == score ? score : (float)NAN};
        }
    }
    qsort(out->items, out->n, sizeof *out->items, compare_scores);
    return VEX_OK;
}

vex_status vex_rank_evaluate(const vex_rank_program *program, const vex_scored_list *found,
                             vex_scored_list *out) {
    evaluation e = {.program = program};
    vex_scored_list support = {0};
    vex_status status = collect_records(&e, found);
    if (status == VEX_OK) {
        status = make_stack(&e);
    }
    if (status == VEX_OK) {
        run(&e, found);
        status = take_support(&e, &support);
    }
    free_evaluation(&e);
    if (status == VEX_OK) {
        *out = support;
    }
    return status;
}
