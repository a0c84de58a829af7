/* dialect_print.c: a resolved query as the engine's SQL: SELECT, FROM, joins, CTEs, set operations. Names are generated ones (r0, w0,
 * c0, s0) or bound columns; a pair of parentheses too many is better than one too few. */
#include <stdio.h>

#include "query/gate_int.h"

#include "base/banned.h"

void print_ident(struct printer *p, slice name)
{
    buf_byte(p->out, '"');
    for (size_t i = 0; i < name.len; i++) {
        if (name.ptr[i] == '"')
            buf_byte(p->out, '"');
        buf_byte(p->out, name.ptr[i]);
    }
    buf_byte(p->out, '"');
}

void print_string(struct printer *p, slice text)
{
    buf_byte(p->out, '\'');
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '\'')
            buf_byte(p->out, '\'');
        buf_byte(p->out, text.ptr[i]);
    }
    buf_byte(p->out, '\'');
}

/* Nulls first or last always in words. p_timestamp is never null in a stream, and the engine's Top-N filter works best with
 * NULLS LAST. */
static bool never_null(const struct expr *e)
{
    return e->kind == E_COLUMN && e->rel->source && !e->rel->nullable &&
           slice_is(e->rel->cols[e->col].name, "p_timestamp");
}

enum err_code print_sorts(struct printer *p, const struct sort *s, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (i)
            buf_str(p->out, ", ");
        if (s[i].expr->kind == E_LITERAL) { /* a constant is no order, and the engine would take 1 for a position */
            buf_str(p->out, "(NULL)");
        } else {
            TRY(print_bare(p, s[i].expr));
        }
        buf_str(p->out, s[i].desc ? " DESC" : " ASC");
        buf_str(p->out, s[i].nulls_first && !never_null(s[i].expr) ? " NULLS FIRST" : " NULLS LAST");
    }
    return ERR_OK;
}

static enum err_code print_exprs(struct printer *p, struct expr *const *e, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (i)
            buf_str(p->out, ", ");
        TRY(print_bare(p, e[i]));
    }
    return ERR_OK;
}

static enum err_code print_group(struct printer *p, const struct expr *e)
{
    static const char *const words[] = {
        ['r' - 'c'] = "ROLLUP (", ['c' - 'c'] = "CUBE (", ['s' - 'c'] = "GROUPING SETS ("};
    if (e->kind == E_LITERAL) { /* not a position, but what stood at one */
        buf_byte(p->out, '(');
        TRY(print_expr(p, e));
        buf_str(p->out, " || '')");
        return ERR_OK;
    }
    if (e->kind != E_GROUPING && e->kind != E_TUPLE)
        return print_bare(p, e);
    buf_str(p->out, e->kind == E_TUPLE ? "(" : words[e->op - 'c']);
    for (size_t i = 0; i < e->args_count; i++) {
        if (i)
            buf_str(p->out, ", ");
        TRY(print_group(p, e->args[i]));
    }
    buf_byte(p->out, ')');
    return ERR_OK;
}

static enum err_code print_tref(struct printer *p, const struct tref *t);

static enum err_code print_source(struct printer *p, const struct tref *t)
{
    const struct rel *r = t->rel;
    if (r->cte) {
        buf_fmt(p->out, "%s AS %s", r->cte->cte->emit, r->emit);
        return ERR_OK;
    }
    for (size_t i = 0; i < p->g->sources_count; i++)
        if (p->g->sources[i] == r->source)
            buf_fmt(p->out, "s%zu AS %s", i, r->emit);
    return ERR_OK;
}

static enum err_code print_join(struct printer *p, const struct tref *t)
{
    static const char *const words[] = {
        [J_INNER] = " JOIN ",       [J_LEFT] = " LEFT JOIN ", [J_RIGHT] = " RIGHT JOIN ", [J_FULL] = " FULL JOIN ",
        [J_CROSS] = " CROSS JOIN ", [J_SEMI] = " SEMI JOIN ", [J_ANTI] = " ANTI JOIN ",
    };
    buf_byte(p->out, '(');
    TRY(print_tref(p, t->left));
    buf_str(p->out, words[t->on ? t->join : J_CROSS]);
    TRY(print_tref(p, t->right));
    if (t->on) {
        buf_str(p->out, " ON ");
        TRY(print_expr(p, t->on));
    }
    buf_byte(p->out, ')');
    return ERR_OK;
}

static enum err_code print_tref(struct printer *p, const struct tref *t)
{
    switch (t->kind) {
    case T_NAME: return print_source(p, t);
    case T_JOIN: return print_join(p, t);
    case T_UNNEST:
        buf_str(p->out, "unnest(");
        TRY(print_expr(p, t->args[0]));
        buf_fmt(p->out, ") AS %s(c0)", t->rel->emit);
        return ERR_OK;
    case T_QUERY: break;
    }
    buf_str(p->out, t->lateral ? "LATERAL (" : "(");
    TRY(print_query(p, t->query));
    buf_fmt(p->out, ") AS %s", t->rel->emit);
    return ERR_OK;
}

static enum err_code print_select(struct printer *p, const struct select *s)
{
    buf_str(p->out, "SELECT ");
    if (s->distinct)
        buf_str(p->out, "DISTINCT ");
    if (s->on_count) {
        buf_str(p->out, "DISTINCT ON (");
        TRY(print_exprs(p, s->on, s->on_count));
        buf_str(p->out, ") ");
    }
    for (size_t i = 0; i < s->items_count; i++) {
        if (i)
            buf_str(p->out, ", ");
        TRY(print_bare(p, s->items[i].expr));
        buf_fmt(p->out, " AS c%zu", i);
    }
    for (size_t i = 0; i < s->from_count; i++) {
        buf_str(p->out, i ? ", " : " FROM ");
        TRY(print_tref(p, s->from[i]));
    }
    if (s->where) {
        buf_str(p->out, " WHERE ");
        TRY(print_expr(p, s->where));
    }
    if (s->group_all)
        buf_str(p->out, " GROUP BY ALL");
    for (size_t i = 0; i < s->group_count; i++) {
        buf_str(p->out, i ? ", " : " GROUP BY ");
        TRY(print_group(p, s->group[i]));
    }
    if (s->having) {
        buf_str(p->out, " HAVING ");
        TRY(print_expr(p, s->having));
    }
    if (s->qualify) {
        buf_str(p->out, " QUALIFY ");
        TRY(print_expr(p, s->qualify));
    }
    return ERR_OK;
}

static enum err_code print_body(struct printer *p, const struct body *b);

static enum err_code print_values(struct printer *p, const struct body *b)
{
    buf_str(p->out, "SELECT * FROM (VALUES ");
    for (size_t r = 0; r < b->rows_count; r++) {
        buf_str(p->out, r ? ", (" : "(");
        for (size_t i = 0; i < b->row_len; i++) {
            if (i)
                buf_str(p->out, ", ");
            TRY(print_expr(p, b->rows[r][i]));
        }
        buf_byte(p->out, ')');
    }
    buf_str(p->out, ") AS v(");
    for (size_t i = 0; i < b->row_len; i++)
        buf_fmt(p->out, "%sc%zu", i ? ", " : "", i);
    buf_byte(p->out, ')');
    return ERR_OK;
}

static enum err_code print_body(struct printer *p, const struct body *b)
{
    switch (b->kind) {
    case Q_SELECT: return print_select(p, b->select);
    case Q_VALUES: return print_values(p, b);
    case Q_QUERY:
        buf_byte(p->out, '(');
        TRY(print_query(p, b->query));
        buf_byte(p->out, ')');
        return ERR_OK;
    case Q_SET: break;
    }
    for (int side = 0; side < 2; side++) {
        const struct body *of = side ? b->right : b->left;
        if (side)
            buf_fmt(p->out, " %s%s ",
                    b->op == 'u'   ? "UNION"
                    : b->op == 'e' ? "EXCEPT"
                                   : "INTERSECT",
                    b->all ? " ALL" : "");
        bool wrap = of->kind == Q_SET;
        if (wrap)
            buf_byte(p->out, '(');
        TRY(print_body(p, of));
        if (wrap)
            buf_byte(p->out, ')');
    }
    return ERR_OK;
}

static void print_count(struct printer *p, const char *word, const struct expr *e)
{
    if (e && e->type.kind == D_INT)
        buf_fmt(p->out, " %s %lld", word, (long long)e->ival);
}

enum err_code print_query(struct printer *p, const struct query *q)
{
    for (size_t i = 0; i < q->ctes_count; i++) {
        buf_fmt(p->out, "%s%s AS (", i ? ", " : "WITH ", q->ctes[i].emit);
        TRY(print_query(p, q->ctes[i].query));
        buf_byte(p->out, ')');
    }
    if (q->ctes_count)
        buf_byte(p->out, ' ');
    TRY(print_body(p, q->body));
    if (q->order_count) {
        buf_str(p->out, " ORDER BY ");
        TRY(print_sorts(p, q->order, q->order_count));
    }
    print_count(p, "LIMIT", q->limit);
    print_count(p, "OFFSET", q->offset);
    return ERR_OK;
}
