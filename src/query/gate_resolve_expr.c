/* gate_resolve_expr.c: names and types inside expressions, bottom up, with DataFusion's coercions as far as they change an answer:
 * integer division, numbers compared with text, instants compared with constants. */
#include <stdio.h>

#include "base/timetext.h"
#include "query/gate_int.h"

#include "base/banned.h"

/* ---- columns */

static void put_name(struct buf *b, slice s)
{
    bool plain = s.len > 0;
    for (size_t i = 0; i < s.len; i++)
        plain &= s.ptr[i] == '_' || (s.ptr[i] >= 'a' && s.ptr[i] <= 'z') || (i && s.ptr[i] >= '0' && s.ptr[i] <= '9');
    if (!plain)
        buf_byte(b, '"');
    buf_slice(b, s);
    if (!plain)
        buf_byte(b, '"');
}

enum err_code gate_unknown_column(struct gate *g, const struct expr *e, struct scope *scope)
{
    _cleanup_(buf_done) struct buf b = {0};
    bool first = true;

    buf_str(&b, "Datafusion Error: Schema error: No field named ");
    for (size_t i = 0; i < e->path_count; i++) {
        if (i)
            buf_byte(&b, '.');
        put_name(&b, slice_head(e->path[i], 200));
    }
    buf_byte(&b, '.');
    for (size_t r = 0; scope && r < scope->rels_count; r++)
        for (size_t c = 0; c < scope->rels[r]->cols_count && b.len < 900; c++) {
            const struct relcol *col = &scope->rels[r]->cols[c];
            buf_str(&b, first ? " Valid fields are " : ", ");
            first = false;
            if (col->qual.len) {
                put_name(&b, slice_head(col->qual, 200));
                buf_byte(&b, '.');
            }
            put_name(&b, slice_head(col->name, 200));
        }
    if (!first)
        buf_byte(&b, '.');
    return err_set(g->err, ERR_INVALID, "%s", buf_cstr(&b));
}

/* A qualifier of one to three parts names a relation by its last part; what stands before must be the one schema there is. */
static bool qualifier_matches(const struct relcol *c, const slice *path, size_t parts)
{
    if (parts == 0)
        return true;
    if (!slice_eq(c->table, path[parts - 1]))
        return false;
    return parts == 1 ||
           (slice_is(path[parts - 2], "public") && (parts == 2 || (parts == 3 && slice_is(path[0], "datafusion"))));
}

static enum err_code find_in(struct gate *g, struct expr *e, struct scope *scope, bool *found)
{
    slice name = e->path[e->path_count - 1];
    size_t parts = e->path_count - 1;

    *found = false;
    for (size_t r = 0; r < scope->rels_count; r++)
        for (size_t c = 0; c < scope->rels[r]->cols_count; c++) {
            struct relcol *col = &scope->rels[r]->cols[c];
            if (!slice_eq(col->name, name) || !qualifier_matches(col, e->path, parts) || (col->hidden && !parts))
                continue;
            if (*found)
                return err_set(g->err, ERR_INVALID,
                               "Datafusion Error: Schema error: Ambiguous reference to %squalified field " SLICE_FMT,
                               parts ? "" : "un", SLICE_ARG(slice_head(name, 300)));
            *found = true;
            e->rel = scope->rels[r];
            e->col = c;
        }
    return ERR_OK;
}

static void bind_column(struct expr *e)
{
    const struct relcol *c = &e->rel->cols[e->col];
    e->type = c->type;
    if (e->rel->source)
        e->rel->source->used[c->field] = true;
}

static struct expr *find_alias(const struct gate *g, const struct expr *e)
{
    const struct select *s = g->alias_select;
    for (size_t i = 0; e->path_count == 1 && i < s->items_count; i++)
        if (s->items[i].alias.ptr && slice_eq(s->items[i].alias, e->path[0]))
            return s->items[i].expr;
    return NULL;
}

static enum err_code resolve_column(struct gate *g, struct expr *e, struct scope *scope)
{
    bool found = false;
    struct expr *alias = g->alias_mode != ALIAS_NONE ? find_alias(g, e) : NULL;

    if (e->rel) { /* from expanding * */
        bind_column(e);
        return ERR_OK;
    }
    if (alias && g->alias_mode == ALIAS_FIRST && alias != e) {
        *e = *alias;
        return ERR_OK;
    }
    TRY(find_in(g, e, scope, &found));
    if (!found && alias && alias != e) {
        *e = *alias;
        return ERR_OK;
    }
    for (struct scope *s = scope->parent; s && !found; s = s->parent)
        TRY(find_in(g, e, s, &found));
    if (!found)
        return gate_unknown_column(g, e, scope);
    bind_column(e);
    return ERR_OK;
}

/* ---- types */

static unsigned number_rank(const struct dtype *t)
{
    return t->kind == D_FLOAT ? 300u + t->bits : t->kind == D_DECIMAL ? 200u : t->bits;
}

struct dtype type_common(struct dtype a, struct dtype b)
{
    if (a.kind == D_NULL)
        return b;
    if (b.kind == D_NULL)
        return a;
    if (is_number(&a) && is_number(&b)) {
        if (a.kind == D_UINT && b.kind == D_INT && b.bits <= a.bits)
            return (struct dtype){.kind = D_INT, .bits = 64};
        return number_rank(&a) >= number_rank(&b) ? a : b;
    }
    if (a.kind == D_UTF8 || b.kind == D_UTF8)
        return (struct dtype){.kind = D_UTF8};
    if (a.kind == D_DATE && b.kind == D_TS)
        return b;
    if (a.kind == D_TS && b.kind == D_TS)
        return a.unit >= b.unit ? a : b;
    return a.kind ? a : b;
}

static struct dtype arithmetic_type(const struct expr *e)
{
    struct dtype a = e->args[0]->type, b = e->args[1]->type;
    bool minus = e->op == OP_SUB;

    if (a.kind == D_TS || a.kind == D_DATE) {
        if (minus && (b.kind == D_TS || b.kind == D_DATE))
            return (struct dtype){.kind = a.kind == D_DATE && b.kind == D_DATE ? D_INT : D_DURATION,
                                  .bits = 64,
                                  .unit = MAX(a.unit, b.unit)};
        return a;
    }
    if (b.kind == D_TS || b.kind == D_DATE)
        return b;
    if (a.kind == D_INTERVAL || b.kind == D_INTERVAL)
        return (struct dtype){.kind = D_INTERVAL};
    if (a.kind == D_DURATION || b.kind == D_DURATION)
        return a.kind == D_DURATION ? a : b;
    if (a.kind == D_UTF8 && is_number(&b)) /* refused, but for literals that read as a number */
        return b;
    if (b.kind == D_UTF8 && is_number(&a))
        return a;
    return type_common(a, b);
}

static bool is_time(const struct dtype *t)
{
    return t->kind == D_TS || t->kind == D_DATE || t->kind == D_TIME || t->kind == D_INTERVAL || t->kind == D_DURATION;
}

static enum err_code check_arithmetic(struct gate *g, const struct expr *e)
{
    const struct dtype *a = &e->args[0]->type, *b = &e->args[1]->type;
    static const char signs[] = "+-*/%";
    bool bad = (a->kind == D_UTF8 && (is_number(b) || b->kind == D_UTF8)) || (b->kind == D_UTF8 && is_number(a)) ||
               a->kind == D_BOOL || b->kind == D_BOOL || a->kind == D_LIST || b->kind == D_LIST ||
               (is_number(a) && is_time(b) && b->kind != D_INTERVAL && b->kind != D_DURATION && b->kind != D_DATE) ||
               (is_time(a) && a->kind != D_INTERVAL && a->kind != D_DURATION && a->kind != D_DATE && is_number(b));
    if (!bad)
        return ERR_OK;
    _cleanup_(buf_done) struct buf l = {0};
    _cleanup_(buf_done) struct buf r = BUF_INIT;
    arrow_type_print(a, &l);
    arrow_type_print(b, &r);
    return gate_invalid(g->err, "Cannot coerce arithmetic expression %s %c %s to valid types", buf_cstr(&l),
                        signs[e->op - OP_ADD], buf_cstr(&r));
}

static enum err_code binary_type(struct gate *g, struct expr *e)
{
    e->type = (struct dtype){.kind = D_BOOL};
    switch ((enum binary_op)e->op) {
    case OP_ADD:
    case OP_SUB:
    case OP_MUL:
    case OP_DIV:
    case OP_MOD:
        TRY(check_arithmetic(g, e));
        e->type = arithmetic_type(e);
        break;
    case OP_CONCAT:
        e->type.kind = D_UTF8;
        if (e->args[0]->type.kind == D_LIST || e->args[1]->type.kind == D_LIST)
            e->type = e->args[0]->type.kind == D_LIST ? e->args[0]->type : e->args[1]->type;
        break;
    case OP_BITAND:
    case OP_BITOR:
    case OP_BITXOR:
    case OP_SHL:
    case OP_SHR:
        for (size_t i = 0; i < 2; i++)
            if (e->args[i]->type.kind == D_FLOAT || e->args[i]->type.kind == D_UTF8)
                return gate_invalid(g->err, "Cannot infer common type for bitwise operation");
        e->type = type_common(e->args[0]->type, e->args[1]->type);
        break;
    default: break;
    }
    return ERR_OK;
}

static void case_type(struct expr *e)
{
    size_t i = e->has_operand ? 2 : 1;
    bool first = true;
    for (; i < e->args_count; i += 2, first = false)
        e->type = first ? e->args[i]->type : type_common(e->type, e->args[i]->type);
    if (e->has_else)
        e->type = type_common(e->type, e->args[e->args_count - 1]->type);
}

static struct dtype item_type(const struct dtype *t)
{
    return t->kind == D_LIST && t->item ? *t->item : (struct dtype){.kind = D_UNKNOWN};
}

/* ---- functions */

static enum err_code check_function(struct gate *g, struct expr *e)
{
    const struct func *f = e->func;

    if (e->args_count < f->min || (f->max != 255 && e->args_count > f->max))
        return gate_invalid(g->err, "Function '%s' expects %u%s%s argument(s) but received %zu", f->name, f->min,
                            f->max == f->min ? "" : " or more", "", e->args_count);
    if (f->kind == F_SCALAR && (e->over || e->distinct || e->order_count || e->filter || e->ignore_nulls ||
                                e->respect_nulls || e->within_group))
        return gate_invalid(g->err, "OVER, DISTINCT, ORDER BY and FILTER do not apply to the scalar function '%s'",
                            f->name);
    if (f->kind == F_WINDOW && !e->over)
        return gate_invalid(g->err, "Invalid function '%s': it needs OVER (...)", f->name);
    for (size_t i = 0; i < e->args_count; i++)
        if (e->args[i]->kind == E_STAR && (!slice_is(e->text, "count") || e->args_count != 1 || e->args[i]->path_count))
            return gate_invalid(g->err, "'*' is an argument of count only");
    if (e->over && e->over->base.ptr)
        return gate_invalid(g->err, "The window " SLICE_FMT " is not defined!",
                            SLICE_ARG(slice_head(e->over->base, 200)));
    return ERR_OK;
}

static enum err_code resolve_function(struct gate *g, struct expr *e, struct scope *scope)
{
    e->func = func_find(e->text);
    if (!e->func)
        return gate_invalid(g->err, "Invalid function '" SLICE_FMT "'.", SLICE_ARG(slice_head(e->text, 200)));
    TRY(gate_resolve_sorts(g, e->order, e->order_count, scope));
    if (e->filter)
        TRY(gate_resolve_expr(g, e->filter, scope));
    if (e->over) {
        for (size_t i = 0; i < e->over->partition_count; i++)
            TRY(gate_resolve_expr(g, e->over->partition[i], scope));
        TRY(gate_resolve_sorts(g, e->over->order, e->over->order_count, scope));
        if (e->over->from_expr)
            TRY(gate_resolve_expr(g, e->over->from_expr, scope));
        if (e->over->to_expr)
            TRY(gate_resolve_expr(g, e->over->to_expr, scope));
    }
    TRY(check_function(g, e));
    e->type = func_type(g->arena, e->func, e);
    return ERR_OK;
}

enum err_code gate_resolve_sorts(struct gate *g, struct sort *s, size_t count, struct scope *scope)
{
    for (size_t i = 0; i < count; i++)
        TRY(gate_resolve_expr(g, s[i].expr, scope));
    return ERR_OK;
}

static const struct body *first_body(const struct query *q)
{
    return q->body;
}

static enum err_code resolve_subquery(struct gate *g, struct expr *e, struct scope *scope)
{
    TRY(gate_resolve_query(g, e->query, scope));
    const struct body *b = first_body(e->query);
    e->type.kind = D_BOOL;
    if (e->kind != E_EXISTS && b->out_count != 1)
        return gate_invalid(g->err, "Too many columns! The subquery should only return one column");
    if (e->kind == E_SUBQUERY)
        e->type = b->out[0].type;
    return ERR_OK;
}

static enum err_code node_type(struct gate *g, struct expr *e)
{
    switch (e->kind) {
    case E_INTERVAL: e->type.kind = D_INTERVAL; break;
    case E_UNARY:
        e->type = e->args[0]->type;
        if (e->op == 'n')
            e->type.kind = D_BOOL;
        else if (e->type.kind == D_UTF8 || e->type.kind == D_BOOL)
            return gate_invalid(g->err, "Negation only supports numeric, interval and timestamp types");
        break;
    case E_BINARY: return binary_type(g, e);
    case E_CASE: case_type(e); break;
    case E_CAST: e->type = e->cast_to; break;
    case E_INDEX: e->type = item_type(&e->args[0]->type); break;
    case E_SLICE: e->type = e->args[0]->type; break;
    case E_ZONE:
        if (e->args[1]->kind != E_LITERAL || e->args[1]->type.kind != D_UTF8 ||
            !(slice_eq_nocase(e->args[1]->text, slice_lit("utc")) || slice_is(e->args[1]->text, "+00:00") ||
              slice_is(e->args[1]->text, "Z")))
            return gate_invalid(g->err, "AT TIME ZONE supports UTC only");
        e->type = (struct dtype){.kind = D_TS, .unit = U_NS, .utc = true};
        break;
    case E_TUPLE: return gate_invalid(g->err, "a list of expressions in parentheses is for GROUP BY only");
    case E_GROUPING: return gate_invalid(g->err, "ROLLUP, CUBE and GROUPING SETS are for GROUP BY only");
    case E_LITERAL:
    case E_COLUMN:
    case E_STAR:
    case E_OUTPUT: break;
    default: e->type.kind = D_BOOL; break;
    }
    return ERR_OK;
}

enum err_code gate_resolve_expr(struct gate *g, struct expr *e, struct scope *scope)
{
    if (e->kind == E_COLUMN)
        return resolve_column(g, e, scope);
    if (e->kind == E_STAR && e->path_count)
        return gate_invalid(g->err, "a qualified * is for SELECT lists only");
    for (size_t i = 0; i < e->args_count; i++)
        TRY(gate_resolve_expr(g, e->args[i], scope));
    if (e->kind == E_FUNC)
        return resolve_function(g, e, scope);
    if (e->query)
        return resolve_subquery(g, e, scope);
    return node_type(g, e);
}

/* ---- constants */

bool expr_is_constant(const struct expr *e)
{
    if (e->kind == E_COLUMN || e->query || e->kind == E_STAR || e->kind == E_OUTPUT || e->over)
        return false;
    if (e->kind == E_FUNC && (e->func->kind != F_SCALAR || slice_is(e->text, "random") || slice_is(e->text, "uuid")))
        return false;
    for (size_t i = 0; i < e->args_count; i++)
        if (!expr_is_constant(e->args[i]))
            return false;
    return true;
}

/* What arrow reads as a timestamp: a date, or RFC 3339 with 'T' or a blank, maybe without seconds or zone, with +hh or +hhmm. */
static bool text_time(slice s, int64_t *us)
{
    char text[64];
    int64_t days;
    size_t n = 0, zone;

    s = slice_trim(s);
    if (time_parse_date(s, &days)) {
        *us = days * 86400000000;
        return true;
    }
    if (s.len < 16 || s.len > 45)
        return false;
    if (slice_ends(s, slice_lit(" UTC")))
        s = slice_head(s, s.len - 4);
    for (zone = 16; zone < s.len && !strchr("Zz+-", s.ptr[zone]); zone++)
        ;
    memcpy(text, s.ptr, zone);
    n = zone;
    if (zone == 16) { /* hh:mm */
        memcpy(text + n, ":00", 3);
        n += 3;
    }
    size_t left = s.len - zone;
    memcpy(text + n, s.ptr + zone, MIN(left, 3u));
    n += MIN(left, 3u);
    if (left == 3 || left == 5) {
        memcpy(text + n, left == 3 ? ":00" : ":", left == 3 ? 3 : 1);
        n += left == 3 ? 3 : 1;
    }
    if (left > 3) {
        memcpy(text + n, s.ptr + zone + 3, left - 3);
        n += left - 3;
    }
    return time_parse_rfc3339(slice_of(text, n), false, us);
}

static int64_t add_months(int64_t us, int32_t months)
{
    struct civil c = civil_of(us);
    int64_t m = c.year * 12 + (c.month - 1) + months;
    c.year = m >= 0 ? m / 12 : -((-m + 11) / 12);
    c.month = (int)(m - c.year * 12) + 1;
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (c.year % 4 == 0 && c.year % 100 != 0) || c.year % 400 == 0;
    c.day = MIN(c.day, days[c.month - 1] + (c.month == 2 && leap));
    return civil_us(&c);
}

static bool shifted_time(const struct gate *g, const struct expr *e, int64_t *us)
{
    const struct expr *t = e->args[0], *i = e->args[1];
    if (e->op == OP_ADD && t->kind == E_INTERVAL) {
        t = e->args[1];
        i = e->args[0];
    }
    if (i->kind != E_INTERVAL || !expr_time_value(g, t, us))
        return false;
    int sign = e->op == OP_SUB ? -1 : 1;
    __int128 sum = add_months(*us, sign * i->months) + sign * ((__int128)i->days * 86400000000 + i->ival / 1000);
    if (sum > 253402300799999999 || sum < -62135596800000000) /* years 1 to 9999: what both engines print */
        return false;
    *us = (int64_t)sum;
    return true;
}

bool expr_time_value(const struct gate *g, const struct expr *e, int64_t *us)
{
    switch (e->kind) {
    case E_LITERAL: return e->type.kind == D_UTF8 && text_time(e->text, us);
    case E_CAST:
        if (e->cast_to.kind != D_TS && e->cast_to.kind != D_DATE)
            return false;
        if (!expr_time_value(g, e->args[0], us))
            return false;
        if (e->cast_to.kind == D_DATE)
            *us -= ((*us % 86400000000) + 86400000000) % 86400000000;
        else if (e->cast_to.unit == U_S)
            *us -= ((*us % 1000000) + 1000000) % 1000000;
        else if (e->cast_to.unit == U_MS)
            *us -= ((*us % 1000) + 1000) % 1000;
        return true;
    case E_BINARY: return (e->op == OP_ADD || e->op == OP_SUB) && shifted_time(g, e, us);
    case E_FUNC:
        if (slice_is(e->text, "now") || slice_is(e->text, "current_timestamp")) {
            *us = g->env->now_us;
            return true;
        }
        if (e->args_count != 1)
            return false;
        if (slice_is(e->text, "to_timestamp"))
            return expr_time_value(g, e->args[0], us);
        if (slice_is(e->text, "to_timestamp_millis") && e->args[0]->kind == E_LITERAL && e->args[0]->type.kind == D_INT)
            return !__builtin_mul_overflow(e->args[0]->ival, 1000, us);
        if (slice_is(e->text, "to_timestamp_seconds") && e->args[0]->kind == E_LITERAL &&
            e->args[0]->type.kind == D_INT)
            return !__builtin_mul_overflow(e->args[0]->ival, 1000000, us);
        return false;
    default: return false;
    }
}
