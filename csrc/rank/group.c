/*
 * group.c - see group.h.
 */
#include "rank/group.h"

#include "filter/expr.h"
#include "rank/program.h"
#include "rank/sparse.h"

#include "base/poison.h"

/* ---- parsing ---- */

static vex_status malformed(const char *what) {
    return VEX_FAIL(VEX_ERR_INVALID, "a group is malformed: %s", what);
}

void vex_group_clear(vex_group *group) {
    vex_free(group->keys);
    *group = (vex_group){0};
}

/* Append an array of keys; *n receives how many. */
static vex_status read_keys(vex_group *group, vex_mp_reader *reader, bool may_be_score,
                            uint32_t *n) {
    const vex_mp_value list = vex_mp_next(reader);
    const uint32_t before = group->n_by;
    if (list.kind != VEX_MP_ARRAY || list.count == 0) {
        return malformed("keys must be a list that is not empty");
    }
    if (list.count > VEX_GROUP_KEYS_MAX) {
        return VEX_FAIL(VEX_ERR_TOO_BIG, "a group may have at most %u keys", VEX_GROUP_KEYS_MAX);
    }
    vex_group_key *keys = vex_realloc(group->keys, (before + list.count) * sizeof *keys);
    if (keys == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory for a group");
    }
    group->keys = keys;
    for (uint32_t i = 0; i < list.count; i++) {
        const vex_mp_value key = vex_mp_next(reader);
        if (key.kind != VEX_MP_STR && (key.kind != VEX_MP_NIL || !may_be_score)) {
            return malformed("a key must be a string");
        }
        const bool named = key.kind == VEX_MP_STR;
        keys[before + i] = (vex_group_key){named ? key.bytes : NULL, named ? key.len : 0};
    }
    *n = list.count;
    return VEX_OK;
}

static vex_status parse(vex_group *group, vex_mp_reader *reader) {
    const vex_mp_value list = vex_mp_next(reader);
    if (list.kind != VEX_MP_ARRAY || list.count != 4) {
        return malformed("it must have four items");
    }
    VEX_TRY(read_keys(group, reader, false, &group->n_by));
    const vex_mp_value order = vex_mp_next(reader);
    if (order.kind != VEX_MP_INT ||
        (order.integer != VEX_GROUP_LOWEST && order.integer != VEX_GROUP_HIGHEST)) {
        return malformed("unknown order");
    }
    group->highest = order.integer == VEX_GROUP_HIGHEST;
    VEX_TRY(read_keys(group, reader, true, &group->n_order));
    const vex_mp_value k = vex_mp_next(reader);
    if (k.kind != VEX_MP_INT || k.integer < 1) {
        return malformed("k must be a positive integer");
    }
    group->k = (uint64_t)k.integer;
    return VEX_OK;
}

vex_status vex_group_parse(vex_group *group, vex_mp_reader *reader) {
    vex_group parsed = {0};
    const vex_status status = parse(&parsed, reader);
    if (status != VEX_OK) {
        vex_group_clear(&parsed);
        return status;
    }
    *group = parsed;
    return VEX_OK;
}

/* ---- order of values ---- */

/* Unlike in filters, sparse vectors come before lists. */
static int kind_of(const vex_value *value) {
    return value->type == VEX_VALUE_LIST ? (int)VEX_VALUE_SPARSE + 1 : (int)value->type;
}

/* Sparse vectors by their indices, the shorter one first, then by their values.  Malformed ones, of
 * damaged files, are like empty ones. */
static int compare_sparse(const vex_value *a, const vex_value *b) {
    vex_sparse_vector x = {0}, y = {0};
    (void)vex_sparse_read(a->bytes, a->len, &x);
    (void)vex_sparse_read(b->bytes, b->len, &y);
    for (uint32_t i = 0; i < x.n && i < y.n; i++) {
        const uint32_t index = vex_sparse_index(&x, i), other = vex_sparse_index(&y, i);
        if (index != other) {
            return index < other ? -1 : 1;
        }
    }
    for (uint32_t i = 0; x.n == y.n && i < x.n; i++) {
        const float value = vex_sparse_value(&x, i), other = vex_sparse_value(&y, i);
        if (value != other) {
            return value < other ? -1 : 1;
        }
    }
    return (x.n > y.n) - (x.n < y.n);
}

/* Lists by the type of their items, then item by item, the shorter one first. */
static int compare_lists(const vex_value *a, const vex_value *b) {
    vex_mp_reader x = vex_mp_reader_make(a->bytes, a->len);
    vex_mp_reader y = vex_mp_reader_make(b->bytes, b->len);
    const uint32_t n = vex_mp_next(&x).count, m = vex_mp_next(&y).count;
    for (uint32_t i = 0; i < n && i < m; i++) {
        const vex_value item = vex_value_read(&x), other = vex_value_read(&y);
        const int order = vex_value_order(&item, &other);
        if (order != 0) {
            return order;
        }
    }
    return (n > m) - (n < m);
}

static int compare_values(const vex_value *a, const vex_value *b) {
    const int kind = kind_of(a), other = kind_of(b);
    int order;
    if (kind != other) {
        return kind < other ? -1 : 1;
    }
    switch (a->type) {
    case VEX_VALUE_ABSENT:
        return 0;
    case VEX_VALUE_FLOAT: /* maybe a score, and NaN, which comes last */
        order = vex_number_compare(a, b);
        return order != 2 ? order : (a->number != a->number) - (b->number != b->number);
    case VEX_VALUE_LIST:
        return compare_lists(a, b);
    case VEX_VALUE_SPARSE:
        return compare_sparse(a, b);
    default:
        return vex_value_order(a, b);
    }
}

/* ---- grouping ---- */

typedef struct member {
    const vex_group *group;
    const vex_value *values; /* of all keys */
    size_t place;            /* among the ranked                                                  */
} member;

static int compare_tuples(const vex_value *a, const vex_value *b, uint32_t n) {
    int order = 0;
    for (uint32_t i = 0; i < n && order == 0; i++) {
        order = compare_values(&a[i], &b[i]);
    }
    return order;
}

/* Groups together, and in each the best ones first. */
static int compare_members(const void *a, const void *b) {
    const member *x = a, *y = b;
    const vex_group *group = x->group;
    int order = compare_tuples(x->values, y->values, group->n_by);
    if (order == 0) {
        order = compare_tuples(x->values + group->n_by, y->values + group->n_by, group->n_order);
        order = group->highest ? -order : order;
    }
    return order != 0 ? order : (x->place > y->place) - (x->place < y->place);
}

/* A value that outlives the row that it was read from. */
static vex_status keep_value(vex_arena *arena, vex_value *value) {
    if (value->type < VEX_VALUE_STRING) {
        return VEX_OK;
    }
    uint8_t *copy = vex_arena_alloc(arena, value->len + 1, 1);
    if (copy == NULL) {
        return VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to group records");
    }
    if (value->len > 0) {
        memcpy(copy, value->bytes, value->len);
    }
    value->bytes = copy;
    return VEX_OK;
}

static vex_status read_values(const vex_group *group, vex_snapshot_reader *reader,
                              const vex_scored *item, vex_arena *arena, vex_value *values) {
    vex_payload payload;
    VEX_TRY(vex_snapshot_read_payload(reader, &item->row, VEX_PAYLOAD_METADATA, &payload));
    for (uint32_t i = 0; i < group->n_by + group->n_order; i++) {
        const vex_group_key *key = &group->keys[i];
        if (key->name == NULL) {
            values[i] = (vex_value){.type = VEX_VALUE_FLOAT, .number = (double)item->score};
            continue;
        }
        values[i] = vex_metadata_find(payload.metadata, payload.metadata_len, key->name, key->len);
        VEX_TRY(keep_value(arena, &values[i]));
    }
    return VEX_OK;
}

static vex_status read_members(const vex_group *group, const vex_snapshot *snapshot,
                               const vex_scored_list *ranked, vex_arena *arena, member *members) {
    const uint32_t n_keys = group->n_by + group->n_order;
    vex_snapshot_reader *reader = NULL;
    vex_status status = vex_snapshot_reader_create(snapshot, &reader);
    for (size_t i = 0; i < ranked->n && status == VEX_OK; i++) {
        vex_value *values = vex_arena_alloc(arena, n_keys * sizeof *values, _Alignof(vex_value));
        if (values == NULL) {
            status = VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to group records");
            break;
        }
        members[i] = (member){.group = group, .values = values, .place = i};
        status = read_values(group, reader, &ranked->items[i], arena, values);
    }
    vex_snapshot_reader_destroy(reader);
    return status;
}

/* Move what is kept to the front, in the order that it has. */
static void keep_best(const vex_group *group, const member *members, bool *kept,
                      vex_scored_list *ranked) {
    uint64_t rank = 0;
    for (size_t i = 0; i < ranked->n; i++) {
        const bool same =
            i > 0 && compare_tuples(members[i - 1].values, members[i].values, group->n_by) == 0;
        rank = same ? rank + 1 : 0;
        kept[members[i].place] = rank < group->k;
    }
    size_t n = 0;
    for (size_t i = 0; i < ranked->n; i++) {
        if (kept[i]) {
            ranked->items[n++] = ranked->items[i];
        }
    }
    ranked->n = n;
}

vex_status vex_group_apply(const vex_group *group, const vex_snapshot *snapshot,
                           vex_scored_list *ranked) {
    vex_arena *arena = NULL;
    member *members = vex_calloc(ranked->n + 1, sizeof *members);
    bool *kept = vex_calloc(ranked->n + 1, sizeof *kept);
    vex_status status = members && kept ? vex_arena_create(&arena, 1u << 20)
                                        : VEX_FAIL(VEX_ERR_NO_MEMORY, "no memory to group records");
    if (status == VEX_OK) {
        status = read_members(group, snapshot, ranked, arena, members);
    }
    if (status == VEX_OK) {
        qsort(members, ranked->n, sizeof *members, compare_members);
        keep_best(group, members, kept, ranked);
    }
    vex_arena_destroy(arena);
    vex_free(members);
    vex_free(kept);
    return status;
}
