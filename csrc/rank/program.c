/*
 * program.c - reading rank expressions (see program.h).
 */
#include "rank/program.h"

#include "rank/sparse.h"
#include "store/format.h"

#include <math.h>

#include "base/poison.h"

void vex_rank_program_clear(vex_rank_program *program) {
    vex_free(program->steps);
    vex_free(program->leaves);
    vex_arena_destroy(program->arena);
    *program = (vex_rank_program){0};
}

/* ---- operands ---- */

static vex_status malformed(const char *what) {
    return VEX_FAIL(VEX_ERR_INVALID, "a rank expression is malformed: %s", what);
}

static bool read_number(vex_mp_reader *reader, float *out) {
    const vex_mp_value value = vex_mp_next(reader);
    if (value.kind == VEX_MP_INT) {
        *out = (float)value.integer;
    } else if (value.kind == VEX_MP_FLOAT) {
        *out = (float)value.number; /* what is too large becomes infinity */
    } else {
        return false;
    }
    return true;
}

static bool read_bool(vex_mp_reader *reader, bool *out) {
    const vex_mp_value value = vex_mp_next(reader);
    *out = value.boolean;
    return value.kind == VEX_MP_BOOL;
}

/* What all leaves end with: limit, default or nil, by_rank. */
static vex_status read_leaf_end(vex_mp_reader *reader, vex_rank_step *step, vex_rank_leaf *leaf) {
    const vex_mp_value limit = vex_mp_next(reader);
    if (limit.kind != VEX_MP_INT || limit.integer < 1) {
        return malformed("limit must be a positive integer");
    }
    leaf->limit = limit.integer < UINT32_MAX ? (uint32_t)limit.integer : UINT32_MAX;
    if (vex_mp_peek(reader) == VEX_MP_NIL) {
        (void)vex_mp_next(reader);
    } else {
        step->has_default = true;
        if (!read_number(reader, &step->value)) {
            return malformed("default must be a number or nil");
        }
    }
    return read_bool(reader, &leaf->by_rank) ? VEX_OK : malformed("by_rank must be a bool");
}

static vex_status read_vector(vex_rank_program *program, vex_mp_reader *reader,
                              vex_rank_leaf *leaf) {
    const vex_mp_value value = vex_mp_next(reader);
    if (value.kind != VEX_MP_BIN || value.len == 0 || value.len % 4 != 0 ||
        value.len / 4 > VEX_DIMENSION_MAX) {
        return malformed("a query vector must be float32 numbers, as bytes");
    }
    float *vector = vex_arena_alloc(program->arena, value.len, sizeof(float));
    if (vector == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a query");
    }
    leaf->dimension = (uint32_t)(value.len / 4);
    for (uint32_t i = 0; i < leaf->dimension; i++) {
        const uint32_t bits = vex_get32(value.bytes + 4 * (size_t)i);
        memcpy(&vector[i], &bits, sizeof bits);
    }
    leaf->vector = vector;
    return VEX_OK;
}

static vex_status read_sparse(vex_rank_program *program, vex_mp_reader *reader,
                              vex_rank_leaf *leaf) {
    const vex_mp_value key = vex_mp_next(reader), value = vex_mp_next(reader);
    vex_sparse_vector vector;
    if (key.kind != VEX_MP_STR || value.kind != VEX_MP_EXT || value.ext_type != 1) {
        return malformed("a sparse query must be a key and a sparse vector");
    }
    const char *problem = vex_sparse_problem(value.bytes, value.len);
    if (problem != NULL || !vex_sparse_read(value.bytes, value.len, &vector)) {
        return VEX_FAIL(VEX_ERR_INVALID, "a sparse query is malformed: %s", problem);
    }
    const size_t room = ((size_t)vector.n + 1) * 4;
    uint32_t *indices = vex_arena_alloc(program->arena, room, sizeof(uint32_t));
    float *values = vex_arena_alloc(program->arena, room, sizeof(float));
    if (indices == NULL || values == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a query");
    }
    for (uint32_t i = 0; i < vector.n; i++) {
        indices[i] = vex_sparse_index(&vector, i);
        values[i] = vex_sparse_value(&vector, i);
    }
    leaf->sparse = (vex_sparse_query){
        .key = key.bytes, .key_len = key.len, .indices = indices, .values = values, .n = vector.n};
    return read_bool(reader, &leaf->sparse.idf) ? VEX_OK : malformed("idf must be a bool");
}

static vex_status read_text(vex_mp_reader *reader, vex_rank_leaf *leaf) {
    const vex_mp_value text = vex_mp_next(reader);
    if (text.kind != VEX_MP_STR) {
        return malformed("words to search for must be text");
    }
    leaf->text = (vex_text_query){.text = text.bytes, .len = text.len};
    if (!read_number(reader, &leaf->text.k1) || !read_number(reader, &leaf->text.b) ||
        !isfinite(leaf->text.k1) || leaf->text.k1 < 0 ||
        !(leaf->text.b >= 0 && leaf->text.b <= 1)) {
        return malformed("k1 must be a number of 0 or more, b one of 0 to 1");
    }
    return VEX_OK;
}

/* ---- steps ---- */

/* Values that a step takes from the stack (it leaves one), and items of its array; false: unknown. */
static bool describe(uint32_t op, uint32_t *takes, uint32_t *items) {
    *takes = 0;
    *items = 1;
    switch (op) {
    case VEX_R_VAL:
        *items = 2;
        return true;
    case VEX_R_NEAREST:
        *items = 5;
        return true;
    case VEX_R_SPARSE:
    case VEX_R_TEXT:
        *items = 7;
        return true;
    case VEX_R_ADD:
    case VEX_R_SUB:
    case VEX_R_MUL:
    case VEX_R_DIV:
    case VEX_R_MAX:
    case VEX_R_MIN:
        *takes = 2;
        return true;
    case VEX_R_ABS:
    case VEX_R_EXP:
    case VEX_R_LOG:
        *takes = 1;
        return true;
    default:
        return false;
    }
}

static vex_status read_leaf(vex_rank_program *program, vex_mp_reader *reader, vex_rank_step *step) {
    vex_rank_leaf leaf = {.op = step->op};
    if (program->n_leaves == VEX_RANK_LEAVES_MAX) {
        return VEX_FAIL(VEX_ERR_TOO_BIG, "a rank expression may hold at most %u searches",
                        VEX_RANK_LEAVES_MAX);
    }
    if (step->op == VEX_R_TEXT) {
        VEX_TRY(read_text(reader, &leaf));
    } else {
        VEX_TRY(step->op == VEX_R_NEAREST ? read_vector(program, reader, &leaf)
                                          : read_sparse(program, reader, &leaf));
    }
    VEX_TRY(read_leaf_end(reader, step, &leaf));
    void *leaves = program->leaves;
    VEX_TRY(vex_grow(&leaves, &program->leaves_capacity, program->n_leaves + 1, sizeof leaf));
    program->leaves = leaves;
    step->leaf = (uint32_t)program->n_leaves;
    program->leaves[program->n_leaves++] = leaf;
    return VEX_OK;
}

static vex_status read_step(vex_rank_program *program, vex_mp_reader *reader, uint32_t *depth) {
    vex_rank_step step = {0};
    uint32_t takes, items;
    const vex_mp_value list = vex_mp_next(reader), op = vex_mp_next(reader);
    if (list.kind != VEX_MP_ARRAY || op.kind != VEX_MP_INT || op.integer < 0 ||
        op.integer > UINT32_MAX || !describe((uint32_t)op.integer, &takes, &items) ||
        list.count != items) {
        return malformed("unknown operator, or not as many operands as it has");
    }
    if (*depth < takes) {
        return malformed("an operator lacks operands");
    }
    step.op = (uint32_t)op.integer;
    *depth = *depth - takes + 1;
    program->depth = *depth > program->depth ? *depth : program->depth;
    if (program->depth > VEX_RANK_DEPTH_MAX) {
        return VEX_FAIL(VEX_ERR_TOO_BIG, "a rank expression is nested more than %u deep",
                        VEX_RANK_DEPTH_MAX);
    }
    if (step.op == VEX_R_VAL) {
        step.has_default = true;
        if (!read_number(reader, &step.value)) {
            return malformed("a constant must be a number");
        }
    } else if (takes == 0) {
        VEX_TRY(read_leaf(program, reader, &step));
    }
    void *steps = program->steps;
    VEX_TRY(vex_grow(&steps, &program->steps_capacity, program->n_steps + 1, sizeof step));
    program->steps = steps;
    program->steps[program->n_steps++] = step;
    return VEX_OK;
}

vex_status vex_rank_program_parse(vex_rank_program *program, vex_mp_reader *reader) {
    vex_rank_program parsed = {0};
    uint32_t depth = 0;
    const vex_mp_value list = vex_mp_next(reader);
    if (list.kind != VEX_MP_ARRAY || list.count == 0) {
        return malformed("it must be an array of operators");
    }
    if (list.count > VEX_RANK_STEPS_MAX) {
        return VEX_FAIL(VEX_ERR_TOO_BIG, "a rank expression has more than %u parts",
                        VEX_RANK_STEPS_MAX);
    }
    vex_status status = vex_arena_create(&parsed.arena, 1u << 16);
    for (uint32_t i = 0; i < list.count && status == VEX_OK; i++) {
        status = read_step(&parsed, reader, &depth);
    }
    if (status == VEX_OK && depth != 1) {
        status = malformed("it must leave one value");
    }
    if (status != VEX_OK) {
        vex_rank_program_clear(&parsed);
        return status;
    }
    *program = parsed;
    return VEX_OK;
}
