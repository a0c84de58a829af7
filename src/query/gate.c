/* gate.c: a statement's way through the gate (see gate.h), and what execution can know from it beforehand: bounds of columns, counts
 * without conditions, newest rows first. */
#include <limits.h>
#include <stdio.h>

#include "codec/json_reader.h"
#include "engine/engine.h"
#include "query/gate_int.h"

#include "base/banned.h"

/* ---- bounds from WHERE */

static struct gate_range *range_of(struct gate *g, struct rel *r, size_t col)
{
    const struct gate_column *c = &r->source->columns[r->cols[col].field];
    for (size_t i = 0; i < r->ranges_count; i++)
        if (slice_eq(r->ranges[i].column, c->name))
            return &r->ranges[i];
    struct gate_range *n = APUSH(g->arena, r->ranges, r->ranges_count, r->ranges_cap);
    n->column = c->name;
    n->type = c->type;
    n->imin = INT64_MIN;
    n->imax = INT64_MAX;
    return n;
}

struct constant {
    int64_t i;
    double f;
    slice s;
};

static bool number_value(const struct expr *e, int64_t *i, double *f)
{
    int sign = 1;
    while (e->kind == E_UNARY && (e->op == '-' || e->op == '+')) {
        sign = e->op == '-' ? -sign : sign;
        e = e->args[0];
    }
    if (e->kind != E_LITERAL || !(e->type.kind == D_INT || e->type.kind == D_FLOAT))
        return false;
    *i = sign * e->ival;
    *f = sign * (e->type.kind == D_INT ? (double)e->ival : e->fval);
    return true;
}

/* The constant in the terms of the column's type; false when it is none, or compares in another type. */
static bool constant_for(struct gate *g, struct type t, const struct expr *e, struct constant *out)
{
    const struct expr *base = e;
    while (base->kind == E_UNARY)
        base = base->args[0];
    switch (t.kind) {
    case TYPE_TIMESTAMP: return expr_is_constant(e) && expr_time_value(g, e, &out->i);
    case TYPE_FLOAT64: return number_value(e, &out->i, &out->f);
    case TYPE_INT64: return base->type.kind == D_INT && number_value(e, &out->i, &out->f);
    case TYPE_UTF8: out->s = e->text; return e->kind == E_LITERAL && e->type.kind == D_UTF8;
    default: return false;
    }
}

static void bound_min(struct gate_range *r, const struct constant *c, bool open)
{
    int64_t i = open && c->i < INT64_MAX ? c->i + 1 : c->i;
    if (!r->has_min || i > r->imin)
        r->imin = i;
    if (!r->has_min || c->f > r->fmin)
        r->fmin = c->f;
    if (!r->has_min || slice_cmp(c->s, r->smin) > 0)
        r->smin = c->s;
    r->has_min = true;
}

static void bound_max(struct gate_range *r, const struct constant *c, bool open)
{
    int64_t i = open && c->i > INT64_MIN ? c->i - 1 : c->i;
    if (!r->has_max || i < r->imax)
        r->imax = i;
    if (!r->has_max || c->f < r->fmax)
        r->fmax = c->f;
    if (!r->has_max || slice_cmp(c->s, r->smax) < 0)
        r->smax = c->s;
    r->has_max = true;
}

/* A stream's column of this very FROM: a WHERE says nothing about rows of an outer query. */
static bool own_column(const struct scope *scope, const struct expr *e)
{
    if (e->kind != E_COLUMN || !e->rel->source)
        return false;
    for (size_t i = 0; i < scope->rels_count; i++)
        if (scope->rels[i] == e->rel)
            return true;
    return false;
}

/* column op constant -> a bound. True when it says all that the comparison says, on p_timestamp. */
static bool bound_of(struct gate *g, const struct scope *scope, const struct expr *col, unsigned op,
                     const struct expr *value)
{
    struct constant c = {0};
    if (!own_column(scope, col))
        return false;
    const struct gate_column *of = &col->rel->source->columns[col->rel->cols[col->col].field];
    if (!constant_for(g, of->type, value, &c))
        return false;
    if (op == OP_GT || op == OP_GE || op == OP_EQ)
        bound_min(range_of(g, col->rel, col->col), &c, op == OP_GT);
    if (op == OP_LT || op == OP_LE || op == OP_EQ)
        bound_max(range_of(g, col->rel, col->col), &c, op == OP_LT);
    return slice_is(of->name, "p_timestamp");
}

static bool list_bound(struct gate *g, const struct scope *scope, const struct expr *e)
{
    struct constant c = {0}, min = {0}, max = {0};
    const struct expr *col = e->args[0];
    if (e->negated || !own_column(scope, col))
        return false;
    const struct gate_column *of = &col->rel->source->columns[col->rel->cols[col->col].field];
    for (size_t i = 1; i < e->args_count; i++) {
        if (!constant_for(g, of->type, e->args[i], &c))
            return false;
        if (i == 1)
            min = max = c;
        min.i = MIN(min.i, c.i);
        max.i = MAX(max.i, c.i);
        min.f = MIN(min.f, c.f);
        max.f = MAX(max.f, c.f);
        min.s = slice_cmp(c.s, min.s) < 0 ? c.s : min.s;
        max.s = slice_cmp(c.s, max.s) > 0 ? c.s : max.s;
    }
    bound_min(range_of(g, col->rel, col->col), &min, false);
    bound_max(range_of(g, col->rel, col->col), &max, false);
    return false;
}

bool gate_bounds(struct gate *g, const struct expr *e, const struct scope *scope)
{
    static const uint8_t swapped[] = {
        [OP_EQ] = OP_EQ, [OP_LT] = OP_GT, [OP_LE] = OP_GE, [OP_GT] = OP_LT, [OP_GE] = OP_LE};
    if (e->kind == E_BINARY && e->op == OP_AND) {
        bool left = gate_bounds(g, e->args[0], scope), right = gate_bounds(g, e->args[1], scope);
        return left && right;
    }
    if (e->kind == E_BETWEEN && !e->negated) {
        bool low = bound_of(g, scope, e->args[0], OP_GE, e->args[1]),
             high = bound_of(g, scope, e->args[0], OP_LE, e->args[2]);
        return low && high;
    }
    if (e->kind == E_IN)
        return list_bound(g, scope, e);
    if (e->kind != E_BINARY || !(e->op == OP_EQ || (e->op >= OP_LT && e->op <= OP_GE)))
        return false;
    return bound_of(g, scope, e->args[0], e->op, e->args[1]) ||
           bound_of(g, scope, e->args[1], swapped[e->op], e->args[0]);
}

/* What holds for every reference to a stream: columns bounded in all of them, by the hull. */
static void merge_ranges(struct gate *g, struct source *s)
{
    struct rel *first = NULL;
    for (size_t i = 0; i < g->source_rels_count && !first; i++)
        if (g->source_rels[i]->source == s)
            first = g->source_rels[i];
    for (size_t k = 0; first && k < first->ranges_count; k++) {
        struct gate_range hull = first->ranges[k];
        for (size_t i = 0; i < g->source_rels_count; i++) {
            struct rel *r = g->source_rels[i];
            const struct gate_range *other = NULL;
            if (r->source != s || r == first)
                continue;
            for (size_t n = 0; n < r->ranges_count; n++)
                if (slice_eq(r->ranges[n].column, hull.column))
                    other = &r->ranges[n];
            hull.has_min &= other && other->has_min;
            hull.has_max &= other && other->has_max;
            if (!other)
                continue;
            hull.imin = MIN(hull.imin, other->imin);
            hull.imax = MAX(hull.imax, other->imax);
            hull.fmin = MIN(hull.fmin, other->fmin);
            hull.fmax = MAX(hull.fmax, other->fmax);
            hull.smin = slice_cmp(other->smin, hull.smin) < 0 ? other->smin : hull.smin;
            hull.smax = slice_cmp(other->smax, hull.smax) > 0 ? other->smax : hull.smax;
        }
        if (hull.has_min || hull.has_max)
            *APUSH(g->arena, s->ranges, s->ranges_count, s->ranges_cap) = hull;
    }
}

/* ---- the shape of the statement */

static bool has_aggregate(const struct expr *e)
{
    if (e->kind == E_FUNC && e->func->kind == F_AGGREGATE && !e->over)
        return true;
    for (size_t i = 0; i < e->args_count; i++)
        if (has_aggregate(e->args[i]))
            return true;
    return false;
}

static bool plain_select(const struct query *q)
{
    const struct body *b = q->body;
    return b->kind == Q_SELECT && !q->ctes_count && b->select->from_count == 1 && b->select->from[0]->kind == T_NAME &&
           b->select->from[0]->rel->source && !b->select->distinct && !b->select->on_count && !b->select->group_count &&
           !b->select->group_all && !b->select->having && !b->select->qualify;
}

static bool is_count_star(const struct query *q)
{
    const struct select *s = q->body->select;
    if (!plain_select(q) || q->order_count || q->limit || q->offset || s->items_count != 1 ||
        (s->where && !s->where_is_time))
        return false;
    const struct expr *e = s->items[0].expr;
    return e->kind == E_FUNC && slice_is(e->text, "count") && !e->distinct && !e->filter && !e->over &&
           !e->order_count &&
           (e->args_count == 0 ||
            (e->args_count == 1 &&
             (e->args[0]->kind == E_STAR || (e->args[0]->kind == E_LITERAL && e->args[0]->type.kind != D_NULL))));
}

static bool is_top_n(const struct query *q)
{
    const struct select *s = q->body->select;
    if (!plain_select(q) || !q->order_count || !q->limit || !q->order[0].desc)
        return false;
    for (size_t i = 0; i < s->items_count; i++)
        if (has_aggregate(s->items[i].expr))
            return false;
    const struct expr *e = q->order[0].expr;
    if (e->kind == E_OUTPUT)
        e = s->items[e->ival].expr;
    return e->kind == E_COLUMN && e->rel->source && slice_is(e->rel->cols[e->col].name, "p_timestamp");
}

/* An expression that needs no other row, and gives one. */
static bool of_one_row(const struct expr *e)
{
    if (e->over || e->query || (e->kind == E_FUNC && (e->func->kind != F_SCALAR || slice_is(e->text, "unnest"))))
        return false;
    for (size_t i = 0; i < e->args_count; i++)
        if (!of_one_row(e->args[i]))
            return false;
    return true;
}

static bool is_rows(const struct query *q)
{
    const struct select *s = q->body->select;
    if (!plain_select(q) || (s->where && !of_one_row(s->where)))
        return false;
    for (size_t i = 0; i < s->items_count; i++)
        if (!of_one_row(s->items[i].expr))
            return false;
    for (size_t i = 0; i < q->order_count; i++)
        if (!of_one_row(q->order[i].expr))
            return false;
    return true;
}

static uint64_t limit_of(const struct query *q)
{
    if (!q->limit || q->limit->type.kind != D_INT)
        return UINT64_MAX;
    uint64_t n = (uint64_t)q->limit->ival,
             offset = q->offset && q->offset->type.kind == D_INT ? (uint64_t)q->offset->ival : 0;
    return n + offset < n ? UINT64_MAX : n + offset;
}

static void fill_streams(struct gate *g, struct gate_output *out)
{
    out->streams = arena_zalloc(g->arena, (g->sources_count + 1) * sizeof(*out->streams));
    out->streams_count = g->sources_count;
    for (size_t i = 0; i < g->sources_count; i++) {
        struct source *s = g->sources[i];
        struct gate_stream *o = &out->streams[i];
        merge_ranges(g, s);
        o->name = s->name;
        (void)snprintf(o->alias, sizeof(o->alias), "s%u", (unsigned)i);
        o->ranges = s->ranges;
        o->ranges_count = s->ranges_count;
        o->references = s->references;
        o->used = arena_zalloc(g->arena, (s->count + 1) * sizeof(*o->used));
        for (size_t c = 0; c < s->count; c++)
            if (s->used[c])
                o->used[o->used_count++] =
                    (struct gate_used){.name = s->columns[c].name, .bound = s->bound[c], .type = s->columns[c].type};
    }
}

static void fill_names(struct gate *g, const struct body *b, struct gate_output *out)
{
    out->names = arena_zalloc(g->arena, (b->out_count + 1) * sizeof(*out->names));
    out->names_count = b->out_count;
    for (size_t i = 0; i < b->out_count; i++)
        out->names[i] = (struct gate_name){
            .name = b->out[i].name, .show = b->out[i].type.kind == D_DURATION ? GATE_SHOW_DURATION : GATE_SHOW_PLAIN};
}

static void set_names(struct gate *g, struct gate_output *out, const char *const *names, size_t count)
{
    out->names = arena_zalloc(g->arena, count * sizeof(*out->names));
    out->names_count = count;
    for (size_t i = 0; i < count; i++)
        out->names[i].name = slice_str(names[i]);
}

/* ---- DESCRIBE */

static enum err_code describe(struct gate *g, const struct statement *st, struct printer *p, struct gate_output *out)
{
    static const char *const names[] = {"column_name", "data_type", "is_nullable"};
    struct scope scope = {0};
    struct query q = {0};
    struct select s = {0};
    struct body b = {.kind = Q_SELECT, .select = &s};
    struct tref t = {.kind = T_NAME, .path = st->path, .path_count = st->path_count}, *from = &t;
    struct item star = {.expr = expr_new(g->arena, E_STAR)};

    s.from = &from;
    s.from_count = 1;
    s.items = &star;
    s.items_count = 1;
    q.body = &b;
    TRY(gate_resolve_query(g, &q, &scope));
    buf_str(p->out, "SELECT * FROM (VALUES ");
    for (size_t i = 0; i < b.out_count; i++) {
        _cleanup_(buf_done) struct buf type = {0};
        buf_str(p->out, i ? ", (" : "(");
        print_string(p, b.out[i].name);
        buf_str(p->out, ", ");
        arrow_type_print(&b.out[i].type, &type);
        print_string(p, buf_view(&type));
        buf_str(p->out, ", 'YES')");
    }
    buf_str(p->out, ") AS v(c0, c1, c2)");
    g->sources_count = 0;
    out->describe = true;
    set_names(g, out, names, ARRAY_LEN(names));
    return ERR_OK;
}

/* ---- the gate */

static enum err_code verify(struct engine *e, struct buf *sql, size_t streams, struct err *err)
{
    _cleanup_(buf_done) struct buf json = {0};
    TRY(engine_parse(e, buf_view(sql), &json, err));
    return gate_verify(buf_view(&json), streams, err);
}

static enum err_code check(struct engine *e, slice sql, struct gate *g, struct buf *text, struct gate_output *out,
                           struct err *err)
{
    static const char *const plan[] = {"plan_type", "plan"};
    struct statement st;
    struct printer p = {.out = text, .g = g, .err = err};
    struct scope none = {0};

    TRY(dialect_parse(sql, g->arena, &st, err));
    if (st.kind == ST_DESCRIBE) {
        TRY(describe(g, &st, &p, out));
    } else {
        TRY(gate_resolve_query(g, st.query, &none));
        TRY(print_query(&p, st.query));
        fill_names(g, st.query->body, out);
        out->newest_first = !st.query->order_count;
        out->top_n = st.query->body->kind == Q_SELECT && is_top_n(st.query);
        out->rows = st.query->body->kind == Q_SELECT && is_rows(st.query);
        out->scan = out->rows && (!st.query->body->select->where || st.query->body->select->where_is_time);
        out->rows_max =
            st.query->limit && st.query->limit->type.kind == D_INT ? (uint64_t)st.query->limit->ival : UINT64_MAX;
        out->count_star = st.query->body->kind == Q_SELECT && is_count_star(st.query);
        out->limit = limit_of(st.query);
    }
    fill_streams(g, out);
    out->explain = st.explain;
    out->analyze = st.analyze;
    if (st.explain)
        set_names(g, out, plan, ARRAY_LEN(plan));
    return e ? verify(e, text, out->streams_count, err) : ERR_OK;
}

enum err_code gate_check(struct engine *e, slice sql, const struct gate_env *env, struct gate_output *out,
                         struct err *err)
{
    _cleanup_(buf_done) struct buf text = {0};

    *out = (struct gate_output){.limit = UINT64_MAX, .rows_max = UINT64_MAX};
    struct gate g = {.arena = &out->arena, .env = env, .err = err};
    if (sql.len > GATE_SQL_BYTES_MAX)
        return err_set(err, ERR_INVALID, "Error: the statement is longer than %u bytes", GATE_SQL_BYTES_MAX);
    if (!utf8_valid(sql))
        return err_set(err, ERR_INVALID, "Error: the statement is not valid UTF-8");
    enum err_code rc = check(e, sql, &g, &text, out, err);
    out->sql = arena_copy(&out->arena, buf_view(&text));
    if (rc != ERR_OK)
        gate_done(out);
    return rc;
}

void gate_done(struct gate_output *out)
{
    arena_done(&out->arena);
    *out = (struct gate_output){.limit = UINT64_MAX, .rows_max = UINT64_MAX};
}
