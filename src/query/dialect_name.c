/* dialect_name.c: the name that DataFusion 53 gives a column without an alias: Expr::schema_name() of its crate, learnt from its
 * answers (tests/dialect). Literals show their type, columns their table, casts nothing. */
#include <math.h>
#include <stdio.h>

#include "query/gate_int.h"

#include "base/banned.h"

static void names(struct expr *const *e, size_t count, const char *between, struct buf *out)
{
    for (size_t i = 0; i < count; i++) {
        if (i)
            buf_str(out, between);
        dialect_name(e[i], out);
    }
}

static void sorts(const struct sort *s, size_t count, struct buf *out)
{
    for (size_t i = 0; i < count; i++) {
        if (i)
            buf_str(out, ", ");
        dialect_name(s[i].expr, out);
        buf_str(out, s[i].desc ? " DESC" : " ASC");
        buf_str(out, s[i].nulls_first ? " NULLS FIRST" : " NULLS LAST");
    }
}

/* Rust's {} of an f64: shortest digits that read back, never an exponent. */
static void float_name(double v, struct buf *out)
{
    char digits[40];
    int n = 0, exp10 = 0;

    if (!isfinite(v) || v == 0) {
        buf_str(out, isnan(v) ? "NaN" : v == 0 ? (signbit(v) ? "-0" : "0") : v > 0 ? "inf" : "-inf");
        return;
    }
    for (int precision = 0; precision < 18; precision++) {
        (void)snprintf(digits, sizeof(digits), "%.*e", precision, v);
        if (strtod(digits, NULL) == v)
            break;
    }
    char mantissa[24] = {0};
    for (const char *c = digits; *c && *c != 'e'; c++)
        if (*c >= '0' && *c <= '9')
            mantissa[n++] = *c;
    exp10 = (int)strtol(strchr(digits, 'e') + 1, NULL, 10);
    while (n > 1 && mantissa[n - 1] == '0')
        n--;
    if (v < 0)
        buf_byte(out, '-');
    if (exp10 < 0) {
        buf_str(out, "0.");
        for (int i = -1; i > exp10; i--)
            buf_byte(out, '0');
    }
    for (int i = 0; i < MAX(n, exp10 + 1); i++) {
        if (i == exp10 + 1 && exp10 >= 0)
            buf_byte(out, '.');
        buf_byte(out, i < n ? (uint8_t)mantissa[i] : '0');
    }
}

static void literal(const struct expr *e, struct buf *out)
{
    switch ((enum dkind)e->type.kind) {
    case D_BOOL: buf_str(out, e->ival ? "Boolean(true)" : "Boolean(false)"); return;
    case D_INT: buf_fmt(out, "Int64(%lld)", (long long)e->ival); return;
    case D_UINT: buf_fmt(out, "UInt64(%llu)", (unsigned long long)e->uval); return;
    case D_FLOAT:
        buf_str(out, "Float64(");
        float_name(e->fval, out);
        buf_byte(out, ')');
        return;
    case D_UTF8:
        buf_str(out, "Utf8(\"");
        buf_slice(out, e->text);
        buf_str(out, "\")");
        return;
    case D_BINARY:
        buf_str(out, "Binary(\"");
        for (size_t i = 0; i < e->text.len; i++)
            buf_fmt(out, "%s%u", i ? "," : "", e->text.ptr[i]);
        buf_str(out, "\")");
        return;
    default: buf_str(out, "NULL"); return;
    }
}

static void bound(enum bound_kind kind, const struct expr *value, struct buf *out)
{
    static const char *const words[] = {"UNBOUNDED PRECEDING", " PRECEDING", "CURRENT ROW", " FOLLOWING",
                                        "UNBOUNDED FOLLOWING"};
    if (kind == B_PRECEDING || kind == B_FOLLOWING) {
        if (value->kind == E_LITERAL && value->type.kind == D_INT)
            buf_fmt(out, "%lld", (long long)value->ival);
        else if (value->kind == E_LITERAL && value->type.kind == D_UTF8)
            buf_slice(out, value->text);
        else
            dialect_name(value, out);
    }
    buf_str(out, words[kind]);
}

static void over(const struct expr *e, struct buf *out)
{
    const struct window *w = e->over;
    if (w->partition_count) {
        buf_str(out, " PARTITION BY [");
        names(w->partition, w->partition_count, ", ", out);
        buf_byte(out, ']');
    }
    if (w->order_count) {
        buf_str(out, " ORDER BY [");
        sorts(w->order, w->order_count, out);
        buf_byte(out, ']');
    }
    if (w->has_frame) {
        buf_fmt(out, " %s BETWEEN ", w->units);
        bound(w->from, w->from_expr, out);
        buf_str(out, " AND ");
        bound(w->to, w->to_expr, out);
    } else {
        buf_str(out, w->order_count ? " RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"
                                    : " ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING");
    }
}

static void call(const struct expr *e, struct buf *out)
{
    if (slice_is(e->text, "array_element") || slice_is(e->text, "array_slice")) {
        dialect_name(e->args[0], out);
        buf_byte(out, '[');
        names(e->args + 1, e->args_count - 1, ":", out);
        buf_byte(out, ']');
        return;
    }
    if (slice_is(e->text, "get_field") && e->args[1]->kind == E_LITERAL && e->args[1]->type.kind == D_UTF8) {
        dialect_name(e->args[0], out);
        buf_fmt(out, "[" SLICE_FMT "]", SLICE_ARG(e->args[1]->text));
        return;
    }
    if (slice_is(e->text, "unnest"))
        buf_str(out, "UNNEST");
    else
        buf_slice(out, e->text);
    buf_byte(out, '(');
    if (e->distinct)
        buf_str(out, "DISTINCT ");
    names(e->args, e->args_count, ",", out);
    buf_byte(out, ')');
    if (e->ignore_nulls)
        buf_str(out, " IGNORE NULLS");
    else if (e->respect_nulls)
        buf_str(out, " RESPECT NULLS");
    if (e->filter) {
        buf_str(out, " FILTER (WHERE ");
        dialect_name(e->filter, out);
        buf_byte(out, ')');
    }
    if (e->order_count) {
        buf_str(out, e->within_group ? " WITHIN GROUP [" : " ORDER BY [");
        sorts(e->order, e->order_count, out);
        buf_byte(out, ']');
    }
    if (e->over)
        over(e, out);
}

static void case_name(const struct expr *e, struct buf *out)
{
    size_t i = 0, end = e->args_count - e->has_else;
    buf_str(out, "CASE ");
    if (e->has_operand) {
        dialect_name(e->args[i++], out);
        buf_byte(out, ' ');
    }
    for (; i + 2 <= end; i += 2) {
        buf_str(out, "WHEN ");
        dialect_name(e->args[i], out);
        buf_str(out, " THEN ");
        dialect_name(e->args[i + 1], out);
        buf_byte(out, ' ');
    }
    if (e->has_else) {
        buf_str(out, "ELSE ");
        dialect_name(e->args[end], out);
        buf_byte(out, ' ');
    }
    buf_str(out, "END");
}

static const char *const op_names[] = {
    [OP_OR] = "OR",
    [OP_AND] = "AND",
    [OP_EQ] = "=",
    [OP_NE] = "!=",
    [OP_LT] = "<",
    [OP_LE] = "<=",
    [OP_GT] = ">",
    [OP_GE] = ">=",
    [OP_ADD] = "+",
    [OP_SUB] = "-",
    [OP_MUL] = "*",
    [OP_DIV] = "/",
    [OP_MOD] = "%",
    [OP_CONCAT] = "||",
    [OP_BITAND] = "&",
    [OP_BITOR] = "|",
    [OP_BITXOR] = "BIT_XOR",
    [OP_SHL] = "<<",
    [OP_SHR] = ">>",
    [OP_RE] = "~",
    [OP_REI] = "~*",
    [OP_NRE] = "!~",
    [OP_NREI] = "!~*",
    [OP_DISTINCT] = "IS DISTINCT FROM",
    [OP_NOT_DISTINCT] = "IS NOT DISTINCT FROM",
};

static void column(const struct expr *e, struct buf *out)
{
    if (e->rel) {
        const struct relcol *c = &e->rel->cols[e->col];
        if (c->qual.len) {
            buf_slice(out, c->qual);
            buf_byte(out, '.');
        }
        buf_slice(out, c->name);
        return;
    }
    for (size_t i = 0; i < e->path_count; i++) {
        if (i)
            buf_byte(out, '.');
        buf_slice(out, e->path[i]);
    }
}

static void predicate(const struct expr *e, struct buf *out) /* a [NOT] OP ... */
{
    const char *no = e->negated ? "NOT " : "";
    dialect_name(e->args[0], out);
    switch (e->kind) {
    case E_LIKE:
        buf_fmt(out, " %s%s ", no, e->op == 's' ? "SIMILAR TO" : e->op == 'i' ? "ILIKE" : "LIKE");
        dialect_name(e->args[1], out);
        if (e->text.len)
            buf_fmt(out, " CHAR '" SLICE_FMT "'", SLICE_ARG(e->text));
        break;
    case E_IN:
        buf_fmt(out, " %sIN ", no);
        names(e->args + 1, e->args_count - 1, ", ", out);
        break;
    case E_BETWEEN:
        buf_fmt(out, " %sBETWEEN ", no);
        dialect_name(e->args[1], out);
        buf_str(out, " AND ");
        dialect_name(e->args[2], out);
        break;
    case E_IS: buf_fmt(out, " IS %s" SLICE_FMT, no, SLICE_ARG(e->text)); break;
    default: buf_str(out, e->negated ? " NOT IN" : " IN"); break;
    }
}

/* A sign before a number is part of the number: Int64(-1). */
static void sign(const struct expr *e, struct buf *out)
{
    const struct expr *x = e->args[0];
    _cleanup_(buf_done) struct buf number = BUF_INIT;

    if (e->op == 'n')
        buf_str(out, "NOT ");
    if (e->op == '-' && x->kind == E_LITERAL && (x->type.kind == D_INT || x->type.kind == D_FLOAT)) {
        literal(x, &number);
        slice text = buf_view(&number);
        size_t open = (size_t)((const uint8_t *)memchr(text.ptr, '(', text.len) - text.ptr) + 1;
        buf_slice(out, slice_head(text, open));
        buf_byte(out, '-');
        buf_slice(out, slice_from(text, open));
        return;
    }
    buf_str(out, e->op == '-' ? "(- " : "");
    dialect_name(x, out);
    buf_str(out, e->op == '-' ? ")" : "");
}

static void subscript(const struct expr *e, struct buf *out)
{
    dialect_name(e->args[0], out);
    buf_byte(out, '[');
    if (e->kind == E_INDEX && e->args[1]->kind == E_LITERAL && e->args[1]->type.kind == D_UTF8)
        buf_slice(out, e->args[1]->text);
    else
        names(e->args + 1, e->args_count - 1, ":", out);
    if (e->kind == E_SLICE && e->args_count == 3)
        buf_str(out, ":Int64(1)");
    buf_byte(out, ']');
}

void dialect_name(const struct expr *e, struct buf *out)
{
    switch (e->kind) {
    case E_COLUMN: column(e, out); break;
    case E_LITERAL: literal(e, out); break;
    case E_INTERVAL:
        buf_fmt(out, "IntervalMonthDayNano(\"IntervalMonthDayNano { months: %d, days: %d, nanoseconds: %lld }\")",
                e->months, e->days, (long long)e->ival);
        break;
    case E_UNARY: sign(e, out); break;
    case E_BINARY:
        dialect_name(e->args[0], out);
        buf_fmt(out, " %s ", op_names[e->op]);
        dialect_name(e->args[1], out);
        break;
    case E_LIKE:
    case E_IN:
    case E_IN_QUERY:
    case E_BETWEEN:
    case E_IS: predicate(e, out); break;
    case E_EXISTS: buf_str(out, e->negated ? "NOT EXISTS" : "EXISTS"); break;
    case E_SUBQUERY: {
        const struct body *b = e->query->body;
        while (b->kind == Q_SET || b->kind == Q_QUERY)
            b = b->kind == Q_SET ? b->left : b->query->body;
        if (b->out_count)
            buf_slice(out, b->out[0].name);
        break;
    }
    case E_ANY: dialect_name(e->args[0], out); break;
    case E_CASE: case_name(e, out); break;
    case E_CAST:
    case E_ZONE: dialect_name(e->args[0], out); break;
    case E_FUNC: call(e, out); break;
    case E_INDEX:
    case E_SLICE: subscript(e, out); break;
    case E_STAR: buf_byte(out, '*'); break;
    case E_OUTPUT: buf_fmt(out, "%lld", (long long)e->ival + 1); break;
    case E_GROUPING:
    case E_TUPLE: names(e->args, e->args_count, ", ", out); break;
    }
}
