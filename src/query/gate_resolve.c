/* gate_resolve.c: what a query's names mean: tables to streams and CTEs, * to columns, outputs to DataFusion's names.
 *
 * Every relation gets a generated alias (r0, r1, ...), every CTE a generated name (w0, ...), every column of a subquery a
 * generated name (c0, c1, ...), and every reference will be printed fully qualified: no name of the user can capture another
 * in the engine, which folds case and looks at aliases where DataFusion does not. */
#include <stdarg.h>
#include <stdio.h>

#include "base/map.h"
#include "query/gate_int.h"

#include "base/banned.h"

#define OUTPUT_COLUMNS_MAX 4096

enum err_code gate_invalid(struct err *err, const char *fmt, ...)
{
    va_list ap;
    char text[800];

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return err_set(err, ERR_INVALID, "Datafusion Error: Error during planning: %s", text);
}

struct dtype gate_type(struct type t)
{
    static const struct dtype items[] = {
        [TYPE_NULL] = {.kind = D_NULL},
        [TYPE_BOOL] = {.kind = D_BOOL},
        [TYPE_INT64] = {.kind = D_INT, .bits = 64},
        [TYPE_UINT64] = {.kind = D_UINT, .bits = 64},
        [TYPE_FLOAT64] = {.kind = D_FLOAT, .bits = 64},
        [TYPE_UTF8] = {.kind = D_UTF8},
        [TYPE_TIMESTAMP] = {.kind = D_TS, .unit = U_MS},
        [TYPE_DATE32] = {.kind = D_DATE, .bits = 32},
        [TYPE_LIST] = {.kind = D_UNKNOWN},
    };
    if (t.kind == TYPE_LIST)
        return (struct dtype){.kind = D_LIST, .item = &items[t.item]};
    return items[t.kind];
}

/* ---- streams */

static int column_order(const void *a, const void *b)
{
    return slice_cmp(((const struct gate_column *)a)->name, ((const struct gate_column *)b)->name);
}

/* Names for the engine, which takes `level` and `Level` for one: the first of them keeps its name, the others get a number
 * behind it. Also names that a quoted identifier can not hold. */
static void bind_names(struct gate *g, struct source *s)
{
    struct map seen = MAP_INIT;
    for (size_t i = 0; i < s->count; i++) {
        slice name = s->columns[i].name;
        bool whole = name.len && !memchr(name.ptr, 0, name.len);
        for (size_t n = 1;; n++) {
            slice bound = name;
            if (n > 1 || !whole)
                bound = slice_str(arena_fmt(g->arena, "%.*s#%zu", whole ? (int)name.len : 1,
                                            whole ? (const char *)name.ptr : "c", n));
            uint8_t *folded = arena_alloc(g->arena, bound.len + 1);
            for (size_t k = 0; k < bound.len; k++)
                folded[k] = (uint8_t)(bound.ptr[k] >= 'A' && bound.ptr[k] <= 'Z' ? bound.ptr[k] + 32 : bound.ptr[k]);
            if (map_get(&seen, slice_of(folded, bound.len)))
                continue;
            map_put(&seen, slice_of(folded, bound.len), s);
            s->bound[i] = bound;
            break;
        }
    }
    map_done(&seen);
}

struct source *gate_source(struct gate *g, slice name)
{
    for (size_t i = 0; i < g->sources_count; i++)
        if (slice_eq(g->sources[i]->name, name))
            return g->sources[i];
    struct source *s = arena_zalloc(g->arena, sizeof(*s));
    struct gate_column *columns = NULL;
    if (name.len == 0 || memchr(name.ptr, 0, name.len) ||
        !g->env->lookup(g->env->arg, name, g->arena, &columns, &s->count))
        return NULL;
    s->name = name;
    s->columns = arena_alloc(g->arena, (s->count + 1) * sizeof(*columns));
    if (s->count)
        memcpy(s->columns, columns, s->count * sizeof(*columns));
    qsort(s->columns, s->count, sizeof(*columns), column_order);
    s->bound = arena_zalloc(g->arena, (s->count + 1) * sizeof(slice));
    s->used = arena_zalloc(g->arena, s->count + 1);
    bind_names(g, s);
    *APUSH(g->arena, g->sources, g->sources_count, g->sources_cap) = s;
    return s;
}

/* ---- FROM */

static struct rel *rel_new(struct gate *g, struct scope *scope)
{
    struct rel *r = arena_zalloc(g->arena, sizeof(*r));
    (void)snprintf(r->emit, sizeof(r->emit), "r%u", g->rels++);
    *APUSH(g->arena, scope->rels, scope->rels_count, scope->rels_cap) = r;
    return r;
}

static slice joined(struct gate *g, const slice *path, size_t count)
{
    struct buf b = BUF_INIT;
    for (size_t i = 0; i < count; i++) {
        if (i)
            buf_byte(&b, '.');
        buf_slice(&b, path[i]);
    }
    slice s = arena_copy(g->arena, buf_view(&b));
    buf_done(&b);
    return s;
}

static enum err_code no_table(struct gate *g, const slice *path, size_t count)
{
    slice name = joined(g, path, count);
    return gate_invalid(g->err, "table '%s" SLICE_FMT "' not found",
                        count == 1   ? "datafusion.public."
                        : count == 2 ? "datafusion."
                                     : "",
                        SLICE_ARG(slice_head(name, 500)));
}

static enum err_code table_name(struct gate *g, struct tref *t, struct scope *scope)
{
    slice last = t->path[t->path_count - 1];
    struct rel *r = t->rel = rel_new(g, scope);
    slice qual = t->alias.ptr ? t->alias : joined(g, t->path, t->path_count), table = t->alias.ptr ? t->alias : last;

    if (t->path_count > 3 || (t->path_count == 3 && !slice_is(t->path[0], "datafusion")) ||
        (t->path_count >= 2 && !slice_is(t->path[t->path_count - 2], "public")))
        return no_table(g, t->path, t->path_count);
    for (struct cte_env *c = g->ctes; c && t->path_count == 1; c = c->next)
        if (slice_eq(c->cte->name, last)) {
            r->cte = c;
            for (size_t i = 0; i < c->out_count; i++)
                *APUSH(g->arena, r->cols, r->cols_count, r->cols_cap) =
                    (struct relcol){.name = c->out[i].name,
                                    .qual = qual,
                                    .table = table,
                                    .type = c->out[i].type,
                                    .bare = c->out[i].bare,
                                    .bound = slice_str(arena_fmt(g->arena, "c%zu", i))};
            return ERR_OK;
        }
    struct source *s = r->source = gate_source(g, last);
    if (!s)
        return no_table(g, t->path, t->path_count);
    s->references++;
    *APUSH(g->arena, g->source_rels, g->source_rels_count, g->source_rels_cap) = r;
    for (size_t i = 0; i < s->count; i++)
        *APUSH(g->arena, r->cols, r->cols_count, r->cols_cap) =
            (struct relcol){.name = s->columns[i].name,
                            .qual = qual,
                            .table = table,
                            .type = gate_type(s->columns[i].type),
                            .field = i,
                            .bound = s->bound[i],
                            .bare = s->columns[i].type.kind == TYPE_TIMESTAMP};
    return ERR_OK;
}

static enum err_code check_unique(struct gate *g, const struct outcol *out, size_t count)
{
    struct map seen = MAP_INIT;
    enum err_code rc = ERR_OK;
    for (size_t i = 0; i < count && rc == ERR_OK; i++)
        if (map_put(&seen, out[i].name, g))
            rc = err_set(g->err, ERR_INVALID,
                         "Datafusion Error: Schema error: Schema contains duplicate unqualified field name " SLICE_FMT,
                         SLICE_ARG(slice_head(out[i].name, 200)));
    map_done(&seen);
    return rc;
}

static enum err_code table_query(struct gate *g, struct tref *t, struct scope *scope, struct scope *parent)
{
    struct rel *r;
    struct scope none = {.parent = parent};

    TRY(gate_resolve_query(g, t->query, t->lateral ? scope : &none));
    r = t->rel = rel_new(g, scope);
    const struct body *b = t->query->body;
    if (t->alias.ptr)
        TRY(check_unique(g, b->out, b->out_count));
    for (size_t i = 0; i < b->out_count; i++)
        *APUSH(g->arena, r->cols, r->cols_count, r->cols_cap) =
            (struct relcol){.name = b->out[i].name,
                            .qual = t->alias.ptr ? t->alias : b->out[i].qual,
                            .table = t->alias.ptr ? t->alias : b->out[i].qual,
                            .type = b->out[i].type,
                            .bare = b->out[i].bare,
                            .bound = slice_str(arena_fmt(g->arena, "c%zu", i))};
    return ERR_OK;
}

static enum err_code table_unnest(struct gate *g, struct tref *t, struct scope *scope)
{
    if (t->args_count != 1)
        return gate_invalid(g->err, "unnest in FROM takes one list");
    TRY(gate_resolve_expr(g, t->args[0], scope));
    if (t->args[0]->type.kind == D_STRUCT || t->args[0]->type.kind == D_MAP)
        return gate_invalid(g->err, "unnest of a struct is not supported");
    struct buf name = BUF_INIT;
    buf_str(&name, "UNNEST(");
    dialect_name(t->args[0], &name);
    buf_byte(&name, ')');
    slice text = arena_copy(g->arena, buf_view(&name));
    buf_done(&name);
    struct rel *r = t->rel = rel_new(g, scope);
    struct dtype type = {.kind = D_UNKNOWN};
    if (t->args[0]->type.kind == D_LIST && t->args[0]->type.item)
        type = *t->args[0]->type.item;
    *APUSH(g->arena, r->cols, r->cols_count, r->cols_cap) =
        (struct relcol){.name = text, .qual = t->alias, .table = t->alias, .type = type, .bound = slice_lit("c0")};
    return ERR_OK;
}

static enum err_code rename_columns(struct gate *g, struct tref *t)
{
    if (t->columns_count == 0)
        return ERR_OK;
    if (t->columns_count != t->rel->cols_count)
        return gate_invalid(g->err, "Source table contains %zu columns but only %zu names given as column alias",
                            t->rel->cols_count, t->columns_count);
    for (size_t i = 0; i < t->columns_count; i++)
        t->rel->cols[i].name = t->columns[i];
    return ERR_OK;
}

static enum err_code resolve_tref(struct gate *g, struct tref *t, struct scope *scope, struct scope *parent);

/* The column that USING means on one side: rels [from, to) of the scope. */
static struct expr *using_column(struct gate *g, struct scope *scope, size_t from, size_t to, slice name)
{
    for (size_t i = from; i < to; i++)
        for (size_t c = 0; c < scope->rels[i]->cols_count; c++)
            if (!scope->rels[i]->cols[c].hidden && slice_eq(scope->rels[i]->cols[c].name, name)) {
                struct expr *e = expr_new(g->arena, E_COLUMN);
                e->rel = scope->rels[i];
                e->col = c;
                e->type = e->rel->cols[c].type;
                if (e->rel->source)
                    e->rel->source->used[e->rel->cols[c].field] = true;
                return e;
            }
    return NULL;
}

static enum err_code join_using(struct gate *g, struct tref *t, struct scope *scope, size_t from, size_t middle)
{
    for (size_t i = 0; i < t->using_count; i++) {
        struct expr *l = using_column(g, scope, from, middle, t->using[i]),
                    *r = using_column(g, scope, middle, scope->rels_count, t->using[i]);
        if (!l || !r)
            return err_set(g->err, ERR_INVALID, "Datafusion Error: Schema error: No field named " SLICE_FMT ".",
                           SLICE_ARG(slice_head(t->using[i], 200)));
        struct expr *eq = expr_new(g->arena, E_BINARY), *both;
        eq->op = OP_EQ;
        expr_arg(g->arena, eq, l);
        expr_arg(g->arena, eq, r);
        eq->type.kind = D_BOOL;
        if (t->on) {
            both = expr_new(g->arena, E_BINARY);
            both->op = OP_AND;
            both->type.kind = D_BOOL;
            expr_arg(g->arena, both, t->on);
            expr_arg(g->arena, both, eq);
            t->on = both;
        } else {
            t->on = eq;
        }
        r->rel->cols[r->col].hidden = true;
    }
    return ERR_OK;
}

static void natural_names(struct gate *g, struct tref *t, struct scope *scope, size_t from, size_t middle)
{
    for (size_t i = middle; i < scope->rels_count; i++)
        for (size_t c = 0; c < scope->rels[i]->cols_count; c++) {
            struct relcol *col = &scope->rels[i]->cols[c];
            bool shared = false;
            for (size_t k = from; k < middle && !shared && !col->hidden; k++)
                for (size_t n = 0; n < scope->rels[k]->cols_count; n++)
                    shared |= !scope->rels[k]->cols[n].hidden && slice_eq(scope->rels[k]->cols[n].name, col->name);
            if (shared)
                *APUSH(g->arena, t->using, t->using_count, t->using_cap) = col->name;
        }
}

static enum err_code table_join(struct gate *g, struct tref *t, struct scope *scope, struct scope *parent)
{
    size_t from = scope->rels_count;
    TRY(resolve_tref(g, t->left, scope, parent));
    size_t middle = scope->rels_count;
    TRY(resolve_tref(g, t->right, scope, parent));
    if (t->natural) {
        natural_names(g, t, scope, from, middle);
        if (!t->using_count)
            t->join = J_CROSS;
    }
    TRY(join_using(g, t, scope, from, middle));
    if (t->on && !t->using_count) {
        struct scope on = {.rels = scope->rels + from, .rels_count = scope->rels_count - from, .parent = parent};
        TRY(gate_resolve_expr(g, t->on, &on));
    }
    for (size_t i = from; i < scope->rels_count; i++) {
        struct rel *r = scope->rels[i];
        r->nullable |= t->join == J_FULL || (t->join == J_LEFT && i >= middle) || (t->join == J_RIGHT && i < middle);
        if ((t->join == J_SEMI || t->join == J_ANTI) && i >= middle)
            r->cols_count = 0; /* only the left side is there afterwards; ON has been resolved */
    }
    return ERR_OK;
}

static enum err_code resolve_tref(struct gate *g, struct tref *t, struct scope *scope, struct scope *parent)
{
    switch (t->kind) {
    case T_NAME: TRY(table_name(g, t, scope)); break;
    case T_QUERY: TRY(table_query(g, t, scope, parent)); break;
    case T_UNNEST: TRY(table_unnest(g, t, scope)); break;
    case T_JOIN: return table_join(g, t, scope, parent);
    }
    return rename_columns(g, t);
}

/* ---- SELECT list */

static enum err_code push_star(struct gate *g, struct item **items, size_t *count, size_t *cap, struct rel *r,
                               size_t col)
{
    if (*count >= OUTPUT_COLUMNS_MAX)
        return gate_invalid(g->err, "more than %d columns in a SELECT list", OUTPUT_COLUMNS_MAX);
    struct expr *e = expr_new(g->arena, E_COLUMN);
    e->rel = r;
    e->col = col;
    APUSH(g->arena, *items, *count, *cap)->expr = e;
    return ERR_OK;
}

static enum err_code expand_stars(struct gate *g, struct select *s)
{
    struct item *items = NULL;
    size_t count = 0, cap = 0;

    for (size_t i = 0; i < s->items_count; i++) {
        struct expr *e = s->items[i].expr;
        if (e->kind != E_STAR) {
            *APUSH(g->arena, items, count, cap) = s->items[i];
            continue;
        }
        bool any = false;
        for (size_t k = 0; k < s->scope->rels_count; k++) {
            struct rel *r = s->scope->rels[k];
            for (size_t c = 0; c < r->cols_count; c++)
                if (e->path_count ? slice_eq(r->cols[c].table, e->path[e->path_count - 1]) : !r->cols[c].hidden) {
                    TRY(push_star(g, &items, &count, &cap, r, c));
                    any = true;
                }
        }
        if (!any && e->path_count)
            return gate_invalid(g->err, "Invalid qualifier " SLICE_FMT,
                                SLICE_ARG(slice_head(e->path[e->path_count - 1], 200)));
        if (!any)
            return gate_invalid(g->err, "SELECT * with no tables specified is not valid");
    }
    s->items = items;
    s->items_count = count;
    return ERR_OK;
}

static void output_of(struct gate *g, const struct item *i, struct outcol *out)
{
    const struct expr *e = i->expr;
    struct buf name = BUF_INIT;

    out->type = e->type;
    out->bare = expr_is_bare(e);
    out->computed = true;
    if (i->alias.ptr) {
        out->name = i->alias;
    } else if (e->kind == E_COLUMN) {
        out->name = e->rel->cols[e->col].name;
        out->qual = e->rel->cols[e->col].qual;
        out->computed = false;
    } else {
        dialect_name(e, &name);
        out->name = arena_copy(g->arena, buf_view(&name));
        buf_done(&name);
    }
}

/* DataFusion refuses two expressions of one name, and a bare name beside a qualified one; app.id and hosts.id may stand together. */
static enum err_code check_names(struct gate *g, const struct outcol *out, size_t count)
{
    struct map full = MAP_INIT, plain = MAP_INIT;
    enum err_code rc = ERR_OK;

    for (size_t i = 0; i < count && rc == ERR_OK; i++) {
        slice path[2] = {out[i].qual, out[i].name};
        slice key = out[i].qual.len ? joined(g, path, 2) : out[i].name;
        const struct outcol *other = map_put(&full, key, (void *)(uintptr_t)&out[i]);
        if (other) {
            rc = gate_invalid(g->err,
                              "Projections require unique expression names but the expression \"" SLICE_FMT
                              "\" at position %zu and \"" SLICE_FMT
                              "\" at position %zu have the same name. Consider aliasing (\"AS\") one of them.",
                              SLICE_ARG(slice_head(key, 200)), (size_t)(other - out), SLICE_ARG(slice_head(key, 200)),
                              i);
            break;
        }
        other = map_get(&plain, out[i].name);
        if (other && (other->qual.len == 0) != (out[i].qual.len == 0))
            rc = err_set(g->err, ERR_INVALID,
                         "Datafusion Error: Schema error: Schema contains qualified field name " SLICE_FMT
                         " and unqualified field name " SLICE_FMT " which would be ambiguous",
                         SLICE_ARG(slice_head(key, 200)), SLICE_ARG(slice_head(out[i].name, 200)));
        map_put(&plain, out[i].name, (void *)(uintptr_t)&out[i]);
    }
    map_done(&full);
    map_done(&plain);
    return rc;
}

/* ---- windows, GROUP BY */

static enum err_code resolve_group(struct gate *g, struct select *s, struct expr *e, bool top)
{
    if (e->kind == E_GROUPING || e->kind == E_TUPLE) {
        if (e->kind == E_GROUPING && e->op == 'c' && e->args_count > 8)
            return gate_invalid(g->err, "CUBE of more than 8 expressions is not supported");
        for (size_t i = 0; i < e->args_count; i++)
            TRY(resolve_group(g, s, e->args[i], false));
        return ERR_OK;
    }
    if (e->kind == E_LITERAL && e->type.kind == D_INT) {
        if (e->ival < 1 || (uint64_t)e->ival > s->items_count)
            return gate_invalid(g->err,
                                "Cannot find column with position %lld in SELECT clause. Valid columns: 1 to %zu",
                                (long long)e->ival, s->items_count);
        size_t n = (size_t)e->ival - 1;
        *e = *s->items[n].expr;
        if (top) {
            e->kind = E_OUTPUT;
            e->ival = (int64_t)n;
        }
        return ERR_OK;
    }
    slice name = e->kind == E_COLUMN && e->path_count == 1 ? e->path[0] : slice_lit("");
    g->alias_select = s;
    g->alias_mode = ALIAS_LAST;
    enum err_code rc = gate_resolve_expr(g, e, s->scope);
    g->alias_mode = ALIAS_NONE;
    if (rc == ERR_OK && name.len && top) /* GROUP BY alias: by position, so that the engine sees one expression */
        for (size_t i = 0; i < s->items_count; i++)
            if (s->items[i].alias.ptr && slice_eq(s->items[i].alias, name) && e->args == s->items[i].expr->args &&
                e->kind == s->items[i].expr->kind && e->kind != E_COLUMN && e->kind != E_LITERAL) {
                e->kind = E_OUTPUT;
                e->ival = (int64_t)i;
                break;
            }
    return rc;
}

static enum err_code window_bases(struct gate *g, struct select *s, struct expr *e)
{
    for (size_t i = 0; i < e->args_count; i++)
        TRY(window_bases(g, s, e->args[i]));
    if (!e->over || !e->over->base.ptr)
        return ERR_OK;
    for (size_t i = 0; i < s->windows_count; i++)
        if (slice_eq(s->windows[i].name, e->over->base)) {
            const struct window *w = s->windows[i].window;
            struct window *own = e->over;
            if (w->base.ptr)
                return gate_invalid(g->err, "a named window on top of another is not supported");
            if (!own->partition_count) {
                own->partition = w->partition;
                own->partition_count = w->partition_count;
            }
            if (!own->order_count) {
                own->order = w->order;
                own->order_count = w->order_count;
            }
            if (!own->has_frame) {
                own->has_frame = w->has_frame;
                memcpy(own->units, w->units, sizeof(own->units));
                own->from = w->from;
                own->to = w->to;
                own->from_expr = w->from_expr;
                own->to_expr = w->to_expr;
            }
            own->base = (slice){0};
            return ERR_OK;
        }
    return gate_invalid(g->err, "The window " SLICE_FMT " is not defined!", SLICE_ARG(slice_head(e->over->base, 200)));
}

static enum err_code windows_of(struct gate *g, struct select *s, struct query *q)
{
    for (size_t i = 0; i < s->items_count; i++)
        TRY(window_bases(g, s, s->items[i].expr));
    if (s->qualify)
        TRY(window_bases(g, s, s->qualify));
    for (size_t i = 0; q && i < q->order_count; i++)
        TRY(window_bases(g, s, q->order[i].expr));
    return ERR_OK;
}

static enum err_code resolve_select(struct gate *g, struct body *b, struct scope *parent, struct query *q)
{
    struct select *s = b->select;
    struct scope *scope = s->scope = arena_zalloc(g->arena, sizeof(*scope));

    scope->parent = parent;
    for (size_t i = 0; i < s->from_count; i++)
        TRY(resolve_tref(g, s->from[i], scope, parent));
    TRY(windows_of(g, s, q));
    TRY(expand_stars(g, s));
    if (s->where) {
        TRY(gate_resolve_expr(g, s->where, scope));
        s->where_is_time = gate_bounds(g, s->where, scope);
    }
    for (size_t i = 0; i < s->items_count; i++) {
        TRY(gate_resolve_expr(g, s->items[i].expr, scope));
        output_of(g, &s->items[i], APUSH(g->arena, b->out, b->out_count, b->out_cap));
    }
    TRY(check_names(g, b->out, b->out_count));
    for (size_t i = 0; i < s->group_count; i++)
        TRY(resolve_group(g, s, s->group[i], true));
    for (size_t i = 0; i < s->on_count; i++)
        TRY(gate_resolve_expr(g, s->on[i], scope));
    struct expr *late[] = {s->having, s->qualify};
    for (size_t i = 0; i < ARRAY_LEN(late); i++)
        if (late[i]) {
            g->alias_select = s;
            g->alias_mode = ALIAS_LAST;
            enum err_code rc = gate_resolve_expr(g, late[i], scope);
            g->alias_mode = ALIAS_NONE;
            TRY(rc);
        }
    return ERR_OK;
}

/* ---- bodies */

static enum err_code resolve_body(struct gate *g, struct body *b, struct scope *parent, struct query *q);

static enum err_code resolve_set(struct gate *g, struct body *b, struct scope *parent)
{
    static const char *const names[] = {"UNION", "EXCEPT", "INTERSECT"};
    TRY(resolve_body(g, b->left, parent, NULL));
    TRY(resolve_body(g, b->right, parent, NULL));
    if (b->left->out_count != b->right->out_count)
        return gate_invalid(
            g->err, "%s queries have different number of columns: left has %zu columns whereas right has %zu columns",
            names[b->op == 'u'   ? 0
                  : b->op == 'e' ? 1
                                 : 2],
            b->left->out_count, b->right->out_count);
    for (size_t i = 0; i < b->left->out_count; i++) {
        struct outcol *l = &b->left->out[i], *r = &b->right->out[i],
                      *o = APUSH(g->arena, b->out, b->out_count, b->out_cap);
        *o = *l;
        o->type = type_common(l->type, r->type);
        o->bare = l->bare || r->bare;
    }
    return ERR_OK;
}

static enum err_code resolve_values(struct gate *g, struct body *b, struct scope *parent)
{
    struct scope none = {.parent = parent};
    for (size_t i = 0; i < b->row_len; i++) {
        struct outcol *o = APUSH(g->arena, b->out, b->out_count, b->out_cap);
        for (size_t r = 0; r < b->rows_count; r++) {
            TRY(gate_resolve_expr(g, b->rows[r][i], &none));
            o->type = r ? type_common(o->type, b->rows[r][i]->type) : b->rows[r][i]->type;
        }
        o->name = slice_str(arena_fmt(g->arena, "column%zu", i + 1));
        o->computed = true;
    }
    return ERR_OK;
}

static enum err_code resolve_body(struct gate *g, struct body *b, struct scope *parent, struct query *q)
{
    switch (b->kind) {
    case Q_SELECT: return resolve_select(g, b, parent, q);
    case Q_SET: return resolve_set(g, b, parent);
    case Q_VALUES: return resolve_values(g, b, parent);
    case Q_QUERY: break;
    }
    TRY(gate_resolve_query(g, b->query, parent));
    b->out = b->query->body->out;
    b->out_count = b->query->body->out_count;
    return ERR_OK;
}

/* ORDER BY: a position, an output's name, else an expression that sees outputs first. */
static enum err_code resolve_order(struct gate *g, struct query *q, struct scope *parent)
{
    struct body *b = q->body;
    struct select *s = b->kind == Q_SELECT ? b->select : NULL;

    for (size_t i = 0; i < q->order_count; i++) {
        struct expr *e = q->order[i].expr;
        bool position = e->kind == E_LITERAL && e->type.kind == D_INT;
        size_t n = b->out_count;
        if (position) {
            n = (size_t)e->ival - 1;
            if (e->ival < 1 || n >= b->out_count)
                return gate_invalid(g->err, "Order by column out of bounds, specified: %lld, max: %zu",
                                    (long long)e->ival, b->out_count);
        } else if (e->kind == E_COLUMN && e->path_count == 1) {
            size_t matches = 0;
            for (size_t k = 0; k < b->out_count; k++)
                if (slice_eq(b->out[k].name, e->path[0]) && matches++ == 0)
                    n = k;
            if (matches > 1)
                return err_set(g->err, ERR_INVALID,
                               "Datafusion Error: Schema error: Ambiguous reference to unqualified field " SLICE_FMT,
                               SLICE_ARG(slice_head(e->path[0], 200)));
        }
        if (n < b->out_count) {
            e->kind = E_OUTPUT;
            e->ival = (int64_t)n;
            e->type = b->out[n].type;
            continue;
        }
        if (!s)
            return gate_invalid(g->err,
                                "ORDER BY of UNION, EXCEPT, INTERSECT or VALUES takes names or positions of columns");
        g->alias_select = s;
        g->alias_mode = ALIAS_FIRST;
        enum err_code rc = gate_resolve_expr(g, e, s->scope);
        g->alias_mode = ALIAS_NONE;
        TRY(rc);
    }
    (void)parent;
    return ERR_OK;
}

static enum err_code resolve_ctes(struct gate *g, struct query *q)
{
    for (size_t i = 0; i < q->ctes_count; i++) {
        struct cte *c = &q->ctes[i];
        for (size_t k = 0; k < i; k++)
            if (slice_eq(q->ctes[k].name, c->name))
                return err_set(g->err, ERR_INVALID,
                               "Datafusion Error: SQL error: ParserError(\"WITH query name \\\"" SLICE_FMT
                               "\\\" specified more than once\")",
                               SLICE_ARG(slice_head(c->name, 200)));
        struct scope none = {0};
        (void)snprintf(c->emit, sizeof(c->emit), "w%u", g->cte_names++);
        TRY(gate_resolve_query(g, c->query, &none));
        const struct body *b = c->query->body;
        struct cte_env *env = arena_zalloc(g->arena, sizeof(*env));
        env->cte = c;
        env->out = arena_alloc(g->arena, (b->out_count + 1) * sizeof(struct outcol));
        env->out_count = b->out_count;
        if (b->out_count)
            memcpy(env->out, b->out, b->out_count * sizeof(struct outcol));
        if (c->columns_count && c->columns_count != b->out_count)
            return gate_invalid(g->err, "Source table contains %zu columns but only %zu names given as column alias",
                                b->out_count, c->columns_count);
        for (size_t k = 0; k < c->columns_count; k++)
            env->out[k].name = c->columns[k];
        TRY(check_unique(g, env->out, env->out_count));
        env->next = g->ctes;
        g->ctes = env;
    }
    return ERR_OK;
}

static enum err_code check_limit(struct gate *g, const struct expr *e, const char *what)
{
    if (!e || (e->kind == E_LITERAL && e->type.kind == D_INT) || (e->kind == E_LITERAL && e->type.kind == D_NULL))
        return ERR_OK;
    return gate_invalid(g->err, "%s must be a number that is not negative", what);
}

enum err_code gate_resolve_query(struct gate *g, struct query *q, struct scope *parent)
{
    struct cte_env *outer = g->ctes;
    struct select *alias_select = g->alias_select;
    enum alias_mode alias_mode = g->alias_mode;

    if (++g->depth > 100)
        return gate_invalid(g->err, "subqueries are nested too deep (the limit is 100)");
    g->alias_mode = ALIAS_NONE; /* aliases of an outer SELECT are not seen inside */
    TRY(resolve_ctes(g, q));
    TRY(resolve_body(g, q->body, parent, q));
    TRY(resolve_order(g, q, parent));
    TRY(check_limit(g, q->limit, "LIMIT"));
    TRY(check_limit(g, q->offset, "OFFSET"));
    g->ctes = outer;
    g->alias_select = alias_select;
    g->alias_mode = alias_mode;
    g->depth--;
    return ERR_OK;
}
