/*
 * expr.c - parsing filter expressions (see expr.h).
 *
 * Parsing is iterative: a stack of open nodes, at most STACK_MAX deep.
 */
#include "filter/expr.h"

#include "base/poison.h"

#define DEPTH_MAX 64         /* AND and OR */
#define REQUIRED_DEPTH_MAX 8 /* ... in what a pattern requires */
#define STACK_MAX (DEPTH_MAX + 1 + REQUIRED_DEPTH_MAX)
#define NODES_MAX ((uint32_t)1 << 20)
#define ARENA_CHUNK ((size_t)16 << 10)

static bool is_logical(int64_t op) {
    return op == VEX_F_AND || op == VEX_F_OR;
}
static bool is_comparison(int64_t op) {
    return op >= VEX_F_EQ && op <= VEX_F_LE;
}
static bool is_membership(int64_t op) {
    return op == VEX_F_IN || op == VEX_F_NIN;
}
static bool is_list_test(int64_t op) {
    return op == VEX_F_CONTAINS || op == VEX_F_NOT_CONTAINS;
}
static bool is_existence(int64_t op) {
    return op == VEX_F_EXISTS || op == VEX_F_NOT_EXISTS;
}
static bool is_string_test(int64_t op) {
    return op >= VEX_F_TEXT_CONTAINS && op <= VEX_F_TEXT_NOT_IEQ;
}
static bool is_document_test(int64_t op) {
    return op >= VEX_F_DOC_CONTAINS && op <= VEX_F_DOC_NOT_ICONTAINS;
}
static bool folds_case(int64_t op) {
    return (op >= VEX_F_TEXT_ICONTAINS && op <= VEX_F_TEXT_NOT_IEQ) || op == VEX_F_DOC_ICONTAINS ||
           op == VEX_F_DOC_NOT_ICONTAINS;
}
static bool is_regex(int64_t op) {
    return op == VEX_F_DOC_REGEX || op == VEX_F_DOC_NOT_REGEX;
}
static bool is_id_test(int64_t op) {
    return op == VEX_F_ID_IN || op == VEX_F_ID_NOT_IN;
}

static bool is_known(int64_t op) {
    return is_logical(op) || is_comparison(op) || is_membership(op) || is_list_test(op) ||
           is_existence(op) || is_document_test(op) || is_id_test(op) || is_string_test(op);
}

static vex_status malformed(const char *what) {
    return VEX_FAIL(VEX_ERR_INVALID, "filter: %s", what);
}

static void *allocate(vex_filter *filter, size_t n, size_t bytes_each) {
    size_t bytes;
    if (__builtin_mul_overflow(n ? n : 1, bytes_each, &bytes)) {
        return NULL;
    }
    void *p = vex_arena_alloc(filter->arena, bytes, 16);
    if (p != NULL) {
        memset(p, 0, bytes);
    }
    return p;
}

static vex_status no_memory(void) {
    return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to parse a filter");
}

static vex_status read_key(vex_mp_reader *reader, vex_expr *node) {
    vex_mp_value key = vex_mp_next(reader);
    if (key.kind != VEX_MP_STR) {
        return malformed("a metadata key must be a string");
    }
    node->key = key.bytes;
    node->key_len = key.len;
    return VEX_OK;
}

static vex_status read_scalar(vex_mp_reader *reader, bool ordered, vex_value *out) {
    *out = vex_value_read(reader);
    if (out->type == VEX_VALUE_ABSENT || out->type >= VEX_VALUE_LIST ||
        (ordered && out->type == VEX_VALUE_BOOL)) {
        return malformed(ordered ? "an ordering needs a number or a string as operand"
                                 : "an operand must be a bool, number or string");
    }
    if (out->type == VEX_VALUE_FLOAT && out->number != out->number) {
        return malformed("an operand must not be NaN");
    }
    return VEX_OK;
}

static int compare_values(const void *a, const void *b) {
    return vex_value_order(a, b); /* never 2: operands are not NaN */
}

/* For binary search.  Callers often give sorted lists, which cost one pass. */
static void sort_operands(vex_expr *node) {
    for (uint32_t i = 1; i < node->n_operands; i++) {
        if (vex_value_order(&node->operands[i - 1], &node->operands[i]) > 0) {
            qsort(node->operands, node->n_operands, sizeof *node->operands, compare_values);
            return;
        }
    }
}

static vex_status read_operands(vex_filter *filter, vex_mp_reader *reader, vex_expr *node) {
    bool ids = is_id_test(node->op);
    vex_mp_value list = vex_mp_next(reader);
    if (list.kind != VEX_MP_ARRAY) {
        return malformed("membership needs a list of operands");
    }
    node->operands = allocate(filter, list.count, sizeof *node->operands);
    if (node->operands == NULL) {
        return no_memory();
    }
    node->n_operands = list.count;
    for (uint32_t i = 0; i < list.count; i++) {
        VEX_TRY(read_scalar(reader, false, &node->operands[i]));
        if (ids && node->operands[i].type != VEX_VALUE_STRING) {
            return malformed("ids must be strings");
        }
    }
    if (!ids) {
        sort_operands(node);
    }
    return VEX_OK;
}

/* The text of a document or string test, and its folded form. */
static vex_status read_text(vex_filter *filter, vex_mp_reader *reader, vex_expr *node) {
    vex_mp_value text = vex_mp_next(reader);
    if (text.kind != VEX_MP_STR) {
        return malformed("a test of text needs a string");
    }
    node->operand = (vex_value){.type = VEX_VALUE_STRING, .bytes = text.bytes, .len = text.len};
    return folds_case(node->op)
               ? vex_needle_make(filter->arena, text.bytes, text.len, &node->needle)
               : VEX_OK;
}

static vex_status read_document_test(vex_filter *filter, vex_mp_reader *reader, vex_expr *node) {
    VEX_TRY(read_text(filter, reader, node));
    node->needs_document = true;
    node->only_substrings = !is_regex(node->op);
    return is_regex(node->op)
               ? vex_regex_compile(node->operand.bytes, node->operand.len, &node->regex)
               : VEX_OK;
}

/* A node is counted when its parent announces it, before anything is allocated for it. */
static vex_status make_children(vex_filter *filter, uint32_t n, uint32_t *n_nodes, vex_expr *node) {
    if (n > NODES_MAX - *n_nodes) {
        return malformed("more than 2^20 nodes");
    }
    *n_nodes += n;
    node->children = allocate(filter, n, sizeof *node->children);
    if (node->children == NULL) {
        return no_memory();
    }
    node->n_children = n;
    return VEX_OK;
}

static vex_status read_leaf(vex_filter *filter, vex_mp_reader *reader, uint32_t n_items,
                            uint32_t *n_nodes, vex_expr *node) {
    uint32_t op = node->op;
    uint32_t arity = is_document_test(op) || is_id_test(op) || is_existence(op) ? 2 : 3;
    bool has_required = is_regex(op) && n_items == 3;
    if (n_items != arity && !has_required) {
        return malformed("an operator has the wrong number of operands");
    }
    if (is_document_test(op)) {
        VEX_TRY(read_document_test(filter, reader, node));
        return has_required ? make_children(filter, 1, n_nodes, node) : VEX_OK;
    }
    if (is_id_test(op)) {
        return read_operands(filter, reader, node);
    }
    VEX_TRY(read_key(reader, node));
    if (is_existence(op)) {
        return VEX_OK;
    }
    if (is_membership(op)) {
        return read_operands(filter, reader, node);
    }
    if (is_string_test(op)) {
        return read_text(filter, reader, node);
    }
    bool ordering = op >= VEX_F_GT && op <= VEX_F_LE;
    return read_scalar(reader, ordering, &node->operand);
}

/* Head of a node: [op, ... */
static vex_status read_head(vex_mp_reader *reader, vex_expr *node, uint32_t *n_items) {
    vex_mp_value list = vex_mp_next(reader);
    vex_mp_value op = list.kind == VEX_MP_ARRAY && list.count >= 2
                          ? vex_mp_next(reader)
                          : (vex_mp_value){.kind = VEX_MP_BAD};
    if (op.kind != VEX_MP_INT || !is_known(op.integer)) {
        return malformed("a node must be a list that begins with a known operator");
    }
    node->op = (uint32_t)op.integer;
    *n_items = list.count;
    return VEX_OK;
}

static vex_status read_children_header(vex_filter *filter, vex_mp_reader *reader, uint32_t n_items,
                                       uint32_t *n_nodes, vex_expr *node) {
    vex_mp_value list = vex_mp_next(reader);
    if (n_items != 2 || list.kind != VEX_MP_ARRAY || list.count < 2) {
        return malformed("AND and OR need a list of two or more nodes");
    }
    return make_children(filter, list.count, n_nodes, node);
}

/* A node with children, and how many of them have been begun. */
typedef struct open_node {
    vex_expr *node;
    uint32_t begun;
} open_node;

/* One node without its children, linked to its parent before it can fail: clearing the filter
 * then finds its regex. */
static vex_status parse_node(vex_filter *filter, vex_mp_reader *reader, uint32_t *n_nodes,
                             vex_expr **place) {
    uint32_t n_items = 0;
    vex_expr *node = *place = allocate(filter, 1, sizeof *node);
    if (node == NULL) {
        return no_memory();
    }
    VEX_TRY(read_head(reader, node, &n_items));
    VEX_TRY(is_logical(node->op) ? read_children_header(filter, reader, n_items, n_nodes, node)
                                 : read_leaf(filter, reader, n_items, n_nodes, node));
    return vex_mp_bad(reader) ? malformed("malformed MessagePack") : VEX_OK;
}

/* The open nodes from the root down. */
typedef struct node_stack {
    open_node nodes[STACK_MAX];
    uint32_t depth;
    uint32_t required_from; /* depth below the open regex; 0: none is open */
} node_stack;

static vex_status push_node(node_stack *stack, vex_expr *node) {
    const bool inside = stack->required_from > 0;
    if (inside && !node->only_substrings && !is_logical(node->op)) {
        return malformed("a pattern can only require substrings, joined by AND and OR");
    }
    if (node->n_children == 0) {
        return VEX_OK;
    }
    if (is_logical(node->op) && (inside ? stack->depth - stack->required_from == REQUIRED_DEPTH_MAX
                                        : stack->depth == DEPTH_MAX)) {
        return malformed("AND and OR nested deeper than 64 levels (8 below a pattern)");
    }
    stack->nodes[stack->depth++] = (open_node){node, 0};
    stack->required_from = is_regex(node->op) ? stack->depth : stack->required_from;
    return VEX_OK;
}

static void pop_node(node_stack *stack) {
    vex_expr *done = stack->nodes[--stack->depth].node;
    if (is_regex(done->op)) {
        stack->required_from = 0;
        return;
    }
    done->only_substrings = true;
    for (uint32_t i = 0; i < done->n_children; i++) {
        done->needs_document |= done->children[i]->needs_document;
        done->only_substrings &= done->children[i]->only_substrings;
    }
}

static vex_status parse_nodes(vex_filter *filter, vex_mp_reader *reader) {
    node_stack stack = {.depth = 0};
    uint32_t n_nodes = 1;
    vex_expr **place = &filter->root;
    while (place != NULL) {
        VEX_TRY(parse_node(filter, reader, &n_nodes, place));
        VEX_TRY(push_node(&stack, *place));
        open_node *top = stack.depth ? &stack.nodes[stack.depth - 1] : NULL;
        while (top != NULL && top->begun == top->node->n_children) {
            pop_node(&stack);
            top = stack.depth ? &stack.nodes[stack.depth - 1] : NULL;
        }
        place = top ? &top->node->children[top->begun++] : NULL;
    }
    return vex_mp_at_end(reader) ? VEX_OK : malformed("bytes after the expression");
}

vex_status vex_filter_parse(vex_filter *filter, const void *msgpack, size_t len) {
    vex_filter parsed = {0};
    vex_status status = vex_buf_append(&parsed.text, msgpack, len);
    if (status == VEX_OK) {
        status = vex_arena_create(&parsed.arena, ARENA_CHUNK);
    }
    if (status == VEX_OK) {
        vex_mp_reader reader = vex_mp_reader_make(parsed.text.data, parsed.text.len);
        status = parse_nodes(&parsed, &reader);
    }
    if (status != VEX_OK) {
        vex_filter_clear(&parsed);
        return status;
    }
    *filter = parsed;
    return VEX_OK;
}

void vex_filter_clear(vex_filter *filter) {
    open_node stack[STACK_MAX + 1]; /* a refused filter has one node more below the deepest */
    uint32_t depth = 0;
    if (filter->root != NULL) {
        stack[depth++] = (open_node){filter->root, 0};
    }
    while (depth > 0) {
        open_node *top = &stack[depth - 1];
        if (top->begun == top->node->n_children) {
            vex_regex_release(&top->node->regex);
            depth--;
            continue;
        }
        vex_expr *child = top->node->children[top->begun++];
        if (child != NULL) {
            stack[depth++] = (open_node){child, 0};
        }
    }
    vex_arena_destroy(filter->arena);
    vex_buf_clear(&filter->text);
    *filter = (vex_filter){0};
}
