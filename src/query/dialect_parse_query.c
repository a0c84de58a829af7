/* dialect_parse_query.c: statements of the users' dialect: one SELECT, WITH, VALUES, EXPLAIN or DESCRIBE, a final semicolon. Anything
 * else is refused here by name. */
#include "query/dialect_ast.h"

#include "base/banned.h"

bool parse_starts_query(struct parser *p, size_t ahead)
{
    while (parse_is_op(p, ahead, "("))
        ahead++;
    return parse_is_word(p, ahead, "select") || parse_is_word(p, ahead, "with") ||
           (parse_is_word(p, ahead, "values") && parse_is_op(p, ahead + 1, "("));
}

static enum err_code names_list(struct parser *p, slice **names, size_t *count, size_t *cap) /* after "(" */
{
    do
        TRY(parse_name(p, APUSH(p->arena, *names, *count, *cap)));
    while (parse_op(p, ","));
    return parse_need_op(p, ")");
}

/* [AS] name. After AS any word will do; sqlparser takes a string too. */
static enum err_code alias(struct parser *p, slice *out)
{
    struct token *t = parse_peek(p, 0);
    bool as = parse_word(p, "as");
    if (as)
        t = parse_peek(p, 0);
    bool is = t->kind == TK_QUOTED || (t->kind == TK_STRING && as) ||
              (t->kind == TK_WORD && (as || !parse_reserved(t->text)));
    if (!is)
        return as ? parse_expected(p, "an identifier after AS") : ERR_OK;
    *out = t->text;
    p->at++;
    return ERR_OK;
}

static enum err_code table_alias(struct parser *p, struct tref *t)
{
    TRY(alias(p, &t->alias));
    if (t->alias.ptr && parse_op(p, "("))
        return names_list(p, &t->columns, &t->columns_count, &t->columns_cap);
    return ERR_OK;
}

static enum err_code path(struct parser *p, slice **out, size_t *count)
{
    size_t cap = 0;
    do {
        struct token *t = parse_peek(p, 0);
        if (t->kind == TK_STRING) { /* FROM 'my-stream': one command line client sends it */
            *APUSH(p->arena, *out, *count, cap) = t->text;
            p->at++;
        } else {
            TRY(parse_name(p, APUSH(p->arena, *out, *count, cap)));
        }
    } while (parse_op(p, "."));
    return ERR_OK;
}

static enum err_code table_join(struct parser *p, struct tref **out);

static enum err_code unnest(struct parser *p, struct tref *t)
{
    t->kind = T_UNNEST;
    do
        TRY(parse_expr(p, APUSH(p->arena, t->args, t->args_count, t->args_cap)));
    while (parse_op(p, ","));
    TRY(parse_need_op(p, ")"));
    if (parse_is_word(p, 0, "with") && parse_is_word(p, 1, "ordinality"))
        return parse_expected(p, "no WITH ORDINALITY");
    return table_alias(p, t);
}

/* "(" of a subquery, or of a join in parentheses? For "((" the token after the partner of the second "(" tells. */
static bool parenthesised_query(struct parser *p)
{
    if (!parse_is_op(p, 0, "(") || !parse_starts_query(p, 1))
        return false;
    if (!parse_is_op(p, 1, "("))
        return true;
    size_t depth = 0, i = 1;
    for (;; i++) {
        depth += parse_is_op(p, i, "(");
        depth -= parse_is_op(p, i, ")");
        if (depth == 0 || parse_peek(p, i)->kind == TK_END)
            break;
    }
    static const char *const after[] = {"union", "except", "intersect", "order", "limit", "offset", "fetch"};
    for (size_t k = 0; k < ARRAY_LEN(after); k++)
        if (parse_is_word(p, i + 1, after[k]))
            return true;
    return parse_is_op(p, i + 1, ")");
}

static enum err_code table_factor(struct parser *p, struct tref **out)
{
    struct tref *t = *out = arena_zalloc(p->arena, sizeof(*t));

    t->lateral = parse_word(p, "lateral");
    if (parenthesised_query(p)) {
        p->at++;
        t->kind = T_QUERY;
        TRY(parse_query(p, &t->query));
        TRY(parse_need_op(p, ")"));
        return table_alias(p, t);
    }
    if (parse_op(p, "(")) {
        TRY(table_join(p, out));
        return parse_need_op(p, ")");
    }
    if (parse_is_word(p, 0, "unnest") && parse_is_op(p, 1, "(")) {
        p->at += 2;
        return unnest(p, t);
    }
    if (t->lateral)
        return parse_expected(p, "a subquery after LATERAL");
    t->kind = T_NAME;
    TRY(path(p, &t->path, &t->path_count));
    if (parse_is_op(p, 0, "("))
        return err_set(p->err, ERR_INVALID,
                       "Datafusion Error: Error during planning: table function '" SLICE_FMT "' not found",
                       SLICE_ARG(slice_head(t->path[t->path_count - 1], 100)));
    TRY(table_alias(p, t));
    if (parse_is_word(p, 0, "tablesample"))
        return parse_expected(p, "end of statement");
    return ERR_OK;
}

static enum err_code join_kind(struct parser *p, struct tref *j, bool *is)
{
    size_t start = p->at;
    j->kind = T_JOIN;
    j->natural = parse_word(p, "natural");
    j->join = J_INNER;
    if (parse_word(p, "cross"))
        j->join = J_CROSS;
    else if (parse_word(p, "left"))
        j->join = J_LEFT;
    else if (parse_word(p, "right"))
        j->join = J_RIGHT;
    else if (parse_word(p, "full"))
        j->join = J_FULL;
    else
        (void)parse_word(p, "inner");
    if (j->join == J_LEFT || j->join == J_RIGHT || j->join == J_FULL) {
        bool right = j->join == J_RIGHT;
        if (!parse_word(p, "outer") && !right && j->join == J_LEFT) {
            if (parse_word(p, "semi"))
                j->join = J_SEMI;
            else if (parse_word(p, "anti"))
                j->join = J_ANTI;
        } else if (right && (parse_is_word(p, 0, "semi") || parse_is_word(p, 0, "anti"))) {
            return parse_expected(p, "JOIN (right semi and anti joins are not supported)");
        }
    } else if (j->join == J_INNER && !j->natural) {
        if (parse_word(p, "semi"))
            j->join = J_SEMI;
        else if (parse_word(p, "anti"))
            j->join = J_ANTI;
    }
    *is = parse_word(p, "join");
    if (!*is && p->at != start)
        return parse_expected(p, "JOIN");
    return ERR_OK;
}

static enum err_code table_join(struct parser *p, struct tref **out)
{
    if (++p->depth > DIALECT_DEPTH_MAX)
        return err_set(p->err, ERR_INVALID, "Error: SQL error: RecursionLimitExceeded");
    TRY(table_factor(p, out));
    for (unsigned n = 0;; n++) {
        struct tref *j = arena_zalloc(p->arena, sizeof(*j));
        bool is = false;
        TRY(join_kind(p, j, &is));
        if (!is)
            break;
        if (n == 100)
            return err_set(p->err, ERR_INVALID, "Error: SQL error: too many joins (the limit is 100)");
        j->left = *out;
        TRY(table_factor(p, &j->right));
        if (j->join != J_CROSS && !j->natural) {
            if (parse_word(p, "on"))
                TRY(parse_expr(p, &j->on));
            else if (parse_word(p, "using")) {
                TRY(parse_need_op(p, "("));
                TRY(names_list(p, &j->using, &j->using_count, &j->using_cap));
            } else if (j->join != J_INNER) {
                return parse_expected(p, "ON, or USING after JOIN");
            }
        }
        *out = j;
    }
    p->depth--;
    return ERR_OK;
}

static enum err_code select_list(struct parser *p, struct select *s)
{
    do {
        struct item *i = APUSH(p->arena, s->items, s->items_count, s->items_cap);
        if (parse_op(p, "*"))
            i->expr = expr_new(p->arena, E_STAR);
        else
            TRY(parse_expr(p, &i->expr));
        if (i->expr->kind == E_STAR) {
            if (parse_is_word(p, 0, "exclude") || parse_is_word(p, 0, "replace") || parse_is_word(p, 0, "rename") ||
                (parse_is_word(p, 0, "except") && parse_is_op(p, 1, "(") && !parse_starts_query(p, 1)))
                return parse_expected(p, "no EXCEPT, EXCLUDE, REPLACE or RENAME after *");
            continue;
        }
        TRY(alias(p, &i->alias));
    } while (parse_op(p, ","));
    return ERR_OK;
}

static enum err_code grouping(struct parser *p, struct expr **out)
{
    char op = parse_is_word(p, 0, "rollup") ? 'r' : parse_is_word(p, 0, "cube") ? 'c' : 0;
    if (op && parse_is_op(p, 1, "("))
        p->at += 2;
    else if (parse_is_word(p, 0, "grouping") && parse_is_word(p, 1, "sets") && parse_is_op(p, 2, "(")) {
        op = 's';
        p->at += 3;
    } else {
        if (parse_is_op(p, 0, "(") && parse_is_op(p, 1, ")")) { /* (): the grand total */
            p->at += 2;
            *out = expr_new(p->arena, E_TUPLE);
            return ERR_OK;
        }
        return parse_expr(p, out);
    }
    struct expr *e = *out = expr_new(p->arena, E_GROUPING), *arg = NULL;
    e->op = (uint8_t)op;
    if (++p->depth > DIALECT_DEPTH_MAX)
        return err_set(p->err, ERR_INVALID, "Error: SQL error: RecursionLimitExceeded");
    do {
        TRY(grouping(p, &arg));
        expr_arg(p->arena, e, arg);
    } while (parse_op(p, ","));
    p->depth--;
    return parse_need_op(p, ")");
}

static enum err_code named_windows(struct parser *p, struct select *s)
{
    do {
        __typeof__(s->windows) w = APUSH(p->arena, s->windows, s->windows_count, s->windows_cap);
        TRY(parse_name(p, &w->name));
        TRY(parse_need_word(p, "as"));
        TRY(parse_need_op(p, "("));
        TRY(parse_over(p, &w->window));
    } while (parse_op(p, ","));
    return ERR_OK;
}

static enum err_code select_tail(struct parser *p, struct select *s)
{
    if (parse_word(p, "where"))
        TRY(parse_expr(p, &s->where));
    if (parse_word(p, "group")) {
        s->aggregates = true;
        TRY(parse_need_word(p, "by"));
        if (parse_word(p, "all"))
            s->group_all = true;
        else
            do
                TRY(grouping(p, APUSH(p->arena, s->group, s->group_count, s->group_cap)));
            while (parse_op(p, ","));
    }
    if (parse_word(p, "having")) {
        s->aggregates = true;
        TRY(parse_expr(p, &s->having));
    }
    if (parse_word(p, "window"))
        TRY(named_windows(p, s));
    if (parse_word(p, "qualify"))
        TRY(parse_expr(p, &s->qualify));
    if (!s->windows_count && parse_word(p, "window"))
        TRY(named_windows(p, s));
    return ERR_OK;
}

static enum err_code select_body(struct parser *p, struct select **out) /* after SELECT */
{
    struct select *s = *out = arena_zalloc(p->arena, sizeof(*s));

    if (parse_word(p, "distinct")) {
        if (parse_word(p, "on")) {
            TRY(parse_need_op(p, "("));
            do
                TRY(parse_expr(p, APUSH(p->arena, s->on, s->on_count, s->on_cap)));
            while (parse_op(p, ","));
            TRY(parse_need_op(p, ")"));
        } else {
            s->distinct = true;
        }
    } else {
        (void)parse_word(p, "all");
    }
    TRY(select_list(p, s));
    if (parse_word(p, "into"))
        return parse_expected(p, "no INTO");
    if (parse_word(p, "from")) {
        do
            TRY(table_join(p, APUSH(p->arena, s->from, s->from_count, s->from_cap)));
        while (s->from_count <= 100 && parse_op(p, ","));
    }
    return select_tail(p, s);
}

static enum err_code values_body(struct parser *p, struct body *b)
{
    do {
        struct expr **row = NULL;
        size_t n = 0, cap = 0;
        TRY(parse_need_op(p, "("));
        do
            TRY(parse_expr(p, APUSH(p->arena, row, n, cap)));
        while (parse_op(p, ","));
        TRY(parse_need_op(p, ")"));
        if (b->rows_count && n != b->row_len)
            return err_set(p->err, ERR_INVALID,
                           "Datafusion Error: Error during planning: Inconsistent data length across values list: got "
                           "%zu values in row %zu but expected %zu",
                           n, b->rows_count, b->row_len);
        b->row_len = n;
        *APUSH(p->arena, b->rows, b->rows_count, b->rows_cap) = row;
    } while (parse_op(p, ","));
    return ERR_OK;
}

static enum err_code body_at(struct parser *p, int prec, struct body **out)
{
    struct body *b = *out = arena_zalloc(p->arena, sizeof(*b));

    if (++p->depth > DIALECT_DEPTH_MAX)
        return err_set(p->err, ERR_INVALID, "Error: SQL error: RecursionLimitExceeded");
    if (parse_word(p, "select")) {
        b->kind = Q_SELECT;
        TRY(select_body(p, &b->select));
    } else if (parse_op(p, "(")) {
        b->kind = Q_QUERY;
        TRY(parse_query(p, &b->query));
        TRY(parse_need_op(p, ")"));
    } else if (parse_word(p, "values")) {
        b->kind = Q_VALUES;
        TRY(values_body(p, b));
    } else {
        return parse_expected(p, "SELECT, VALUES, or a subquery in the query body");
    }
    for (;;) {
        int next = parse_is_word(p, 0, "intersect")                                ? 20
                   : parse_is_word(p, 0, "union") || parse_is_word(p, 0, "except") ? 10
                                                                                   : 0;
        if (next <= prec)
            break;
        struct body *set = arena_zalloc(p->arena, sizeof(*set));
        set->kind = Q_SET;
        set->op = (char)parse_peek(p, 0)->text.ptr[0];
        p->at++;
        set->all = parse_word(p, "all");
        if (!set->all)
            (void)parse_word(p, "distinct");
        set->left = *out;
        TRY(body_at(p, next, &set->right));
        set->depth = MAX(set->left->depth, set->right->depth) + 1;
        if (set->depth > 200)
            return err_set(p->err, ERR_INVALID, "Error: SQL error: too many set operations (the limit is 200)");
        *out = set;
    }
    p->depth--;
    return ERR_OK;
}

static enum err_code ctes(struct parser *p, struct query *q)
{
    if (parse_is_word(p, 0, "recursive"))
        return err_set(p->err, ERR_INVALID,
                       "Datafusion Error: This feature is not implemented: recursive CTEs (WITH RECURSIVE)");
    do {
        struct cte *c = APUSH(p->arena, q->ctes, q->ctes_count, q->ctes_cap);
        TRY(parse_name(p, &c->name));
        if (parse_op(p, "("))
            TRY(names_list(p, &c->columns, &c->columns_count, &c->columns_cap));
        TRY(parse_need_word(p, "as"));
        if (parse_word(p, "not"))
            TRY(parse_need_word(p, "materialized"));
        else
            (void)parse_word(p, "materialized");
        TRY(parse_need_op(p, "("));
        TRY(parse_query(p, &c->query));
        TRY(parse_need_op(p, ")"));
    } while (parse_op(p, ","));
    return ERR_OK;
}

static enum err_code limits(struct parser *p, struct query *q)
{
    for (bool more = true; more;) {
        more = false;
        if (!q->limit && parse_word(p, "limit")) {
            more = true;
            if (!parse_word(p, "all"))
                TRY(parse_expr(p, &q->limit));
            if (!q->offset && q->limit && parse_op(p, ",")) { /* LIMIT offset, n */
                q->offset = q->limit;
                TRY(parse_expr(p, &q->limit));
            }
        } else if (!q->offset && parse_word(p, "offset")) {
            more = true;
            TRY(parse_expr(p, &q->offset));
            (void)(parse_word(p, "rows") || parse_word(p, "row"));
        } else if (!q->limit && parse_word(p, "fetch")) {
            more = true;
            if (!parse_word(p, "first"))
                TRY(parse_need_word(p, "next"));
            q->limit = expr_int(p->arena, 1);
            if (!parse_is_word(p, 0, "row") && !parse_is_word(p, 0, "rows"))
                TRY(parse_expr(p, &q->limit));
            if (!parse_word(p, "rows"))
                TRY(parse_need_word(p, "row"));
            TRY(parse_need_word(p, "only"));
        }
    }
    return ERR_OK;
}

enum err_code parse_query(struct parser *p, struct query **out)
{
    struct query *q = *out = arena_zalloc(p->arena, sizeof(*q));

    if (++p->depth > DIALECT_DEPTH_MAX)
        return err_set(p->err, ERR_INVALID, "Error: SQL error: RecursionLimitExceeded");
    if (parse_word(p, "with"))
        TRY(ctes(p, q));
    TRY(body_at(p, 0, &q->body));
    if (parse_word(p, "order")) {
        TRY(parse_need_word(p, "by"));
        TRY(parse_order(p, &q->order, &q->order_count, &q->order_cap));
    }
    TRY(limits(p, q));
    p->depth--;
    return ERR_OK;
}

static enum err_code statement(struct parser *p, struct statement *out)
{
    static const char *const others[] = {
        "insert",     "update",  "delete",  "create",    "drop",    "alter",   "copy",    "set",
        "reset",      "show",    "prepare", "execute",   "begin",   "start",   "commit",  "rollback",
        "attach",     "detach",  "install", "load",      "pragma",  "call",    "use",     "truncate",
        "merge",      "grant",   "revoke",  "analyze",   "vacuum",  "export",  "import",  "checkpoint",
        "deallocate", "declare", "fetch",   "summarize", "pivot",   "unpivot", "from",    "comment",
        "kill",       "listen",  "notify",  "replace",   "reindex", "cluster", "refresh", "savepoint",
    };
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        if (parse_is_word(p, 0, others[i]))
            return err_set(p->err, ERR_INVALID,
                           "Datafusion Error: Error during planning: only SELECT, WITH, EXPLAIN and DESCRIBE are "
                           "supported, not %s",
                           others[i]);
    if (parse_word(p, "explain")) {
        out->explain = true;
        for (bool more = true; more;) {
            more = parse_word(p, "verbose");
            if (parse_word(p, "analyze"))
                more = out->analyze = true;
            if (parse_word(p, "format")) {
                more = true;
                p->at += p->at + 1 < p->count; /* the engine has one form */
            }
        }
        return parse_starts_query(p, 0) ? parse_query(p, &out->query) : parse_expected(p, "a query after EXPLAIN");
    }
    if (parse_is_word(p, 0, "describe") || parse_is_word(p, 0, "desc")) {
        p->at++;
        out->kind = ST_DESCRIBE;
        (void)parse_word(p, "table");
        return path(p, &out->path, &out->path_count);
    }
    return parse_starts_query(p, 0) ? parse_query(p, &out->query) : parse_expected(p, "an SQL statement");
}

enum err_code dialect_parse(slice sql, struct arena *a, struct statement *out, struct err *err)
{
    struct parser p = {.arena = a, .err = err};

    *out = (struct statement){0};
    TRY(dialect_lex(sql, a, &p.tokens, &p.count, err));
    while (parse_op(&p, ";"))
        ;
    if (parse_peek(&p, 0)->kind == TK_END)
        return err_set(err, ERR_INVALID, "Error: Failed to parse sql");
    TRY(statement(&p, out));
    if (!parse_is_op(&p, 0, ";") && parse_peek(&p, 0)->kind != TK_END)
        return parse_expected(&p, "end of statement");
    while (parse_op(&p, ";"))
        ;
    if (parse_peek(&p, 0)->kind != TK_END)
        return err_set(err, ERR_INVALID,
                       "Datafusion Error: This feature is not implemented: The context currently only supports a "
                       "single SQL statement");
    return ERR_OK;
}
