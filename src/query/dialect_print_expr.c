/* dialect_print_expr.c: a resolved expression as the engine's SQL, so that it means there what it means in DataFusion.
 *
 * INSTANTS  A stream's timestamp column is TIMESTAMPTZ in the engine. Next to a constant, next to another such column, in ORDER BY and
 *   as a whole output it is printed as it is ("bare"): statistics, Top-N filter and late materialisation work on it. Everywhere
 *   else it is make_timestamp(epoch_us(col)), a TIMESTAMP of the same instant in UTC. */
#include <math.h>
#include <stdio.h>

#include "base/timetext.h"
#include "query/gate_int.h"

#include "base/banned.h"

#define PRINT_BYTES_MAX (8u << 20) /* aliases named in ORDER BY or HAVING are printed again: no bomb of them */

bool expr_is_bare(const struct expr *e)
{
    return (e->kind == E_COLUMN && e->rel->cols[e->col].bare) ||
           (e->kind == E_SUBQUERY && e->query->body->out_count && e->query->body->out[0].bare);
}

void print_type(struct printer *p, const struct dtype *t)
{
    static const char *const ints[] = {[8] = "TINYINT", [16] = "SMALLINT", [32] = "INTEGER", [64] = "BIGINT"};
    switch ((enum dkind)t->kind) {
    case D_BOOL: buf_str(p->out, "BOOLEAN"); break;
    case D_INT: buf_str(p->out, ints[t->bits]); break;
    case D_UINT: buf_fmt(p->out, "U%s", ints[t->bits]); break;
    case D_FLOAT: buf_str(p->out, t->bits == 32 ? "FLOAT" : "DOUBLE"); break;
    case D_DECIMAL: buf_fmt(p->out, "DECIMAL(%u,%u)", t->precision, t->scale); break;
    case D_BINARY: buf_str(p->out, "BLOB"); break;
    case D_TS: buf_str(p->out, "TIMESTAMP"); break;
    case D_DATE: buf_str(p->out, "DATE"); break;
    case D_TIME: buf_str(p->out, "TIME"); break;
    case D_INTERVAL:
    case D_DURATION: buf_str(p->out, "INTERVAL"); break;
    case D_LIST:
        if (t->item)
            print_type(p, t->item);
        else
            buf_str(p->out, "VARCHAR");
        buf_str(p->out, "[]");
        break;
    default: buf_str(p->out, "VARCHAR"); break;
    }
}

static void print_instant(struct printer *p, int64_t us, bool zone)
{
    struct civil c = civil_of(us);
    buf_fmt(p->out, "TIMESTAMP%s '%04lld-%02d-%02d %02d:%02d:%02d.%06d%s'", zone ? "TZ" : "", (long long)c.year,
            c.month, c.day, c.hour, c.minute, c.second, c.micro, zone ? "+00" : "");
}

static void print_float(struct printer *p, double v)
{
    if (isnan(v) || isinf(v)) {
        buf_fmt(p->out, "CAST('%s' AS DOUBLE)", isnan(v) ? "NaN" : v > 0 ? "Infinity" : "-Infinity");
        return;
    }
    char text[40];
    for (int precision = 15; precision < 18; precision++) {
        (void)snprintf(text, sizeof(text), "%.*g", precision, v);
        if (strtod(text, NULL) == v)
            break;
    }
    buf_fmt(p->out, "%s%s", text, strchr(text, 'e') ? "" : "e0");
}

static enum err_code print_literal(struct printer *p, const struct expr *e)
{
    switch ((enum dkind)e->type.kind) {
    case D_BOOL: buf_str(p->out, e->ival ? "true" : "false"); break;
    case D_INT: buf_fmt(p->out, "CAST(%lld AS BIGINT)", (long long)e->ival); break;
    case D_UINT: buf_fmt(p->out, "CAST(%llu AS UBIGINT)", (unsigned long long)e->uval); break;
    case D_FLOAT: print_float(p, e->fval); break;
    case D_UTF8: print_string(p, e->text); break;
    case D_BINARY:
        buf_str(p->out, "unhex('");
        for (size_t i = 0; i < e->text.len; i++)
            buf_fmt(p->out, "%02x", e->text.ptr[i]);
        buf_str(p->out, "')");
        break;
    default: buf_str(p->out, "NULL"); break;
    }
    return ERR_OK;
}

static void print_column(struct printer *p, const struct expr *e)
{
    buf_fmt(p->out, "%s.", e->rel->emit);
    print_ident(p, e->rel->cols[e->col].bound);
}

enum err_code print_bare(struct printer *p, const struct expr *e)
{
    if (e->kind == E_COLUMN) {
        print_column(p, e);
        return ERR_OK;
    }
    if (e->kind == E_SUBQUERY) {
        buf_byte(p->out, '(');
        TRY(print_query(p, e->query));
        buf_byte(p->out, ')');
        return ERR_OK;
    }
    return print_expr(p, e);
}

enum err_code print_as(struct printer *p, const struct expr *e, const char *type)
{
    if (e->kind == E_LITERAL && e->type.kind == D_INT && (!strcmp(type, "INTEGER") || !strcmp(type, "BIGINT"))) {
        buf_fmt(p->out, "CAST(%lld AS %s)", (long long)e->ival, type);
        return ERR_OK;
    }
    if (e->kind == E_LITERAL && e->type.kind == D_INT && !strcmp(type, "DOUBLE") && llabs(e->ival) < (1ll << 53)) {
        buf_fmt(p->out, "%llde0", (long long)e->ival);
        return ERR_OK;
    }
    if (e->type.kind == D_FLOAT && e->type.bits == 64 && !strcmp(type, "DOUBLE"))
        return print_expr(p, e);
    buf_str(p->out, "CAST(");
    TRY(print_expr(p, e));
    buf_fmt(p->out, " AS %s)", type);
    return ERR_OK;
}

/* ---- comparisons */

enum compare { CMP_PLAIN, CMP_BARE, CMP_TEXT, CMP_TIME, CMP_DATE, CMP_FLOAT };

static enum compare compare_of(const struct expr *a, const struct expr *b)
{
    const struct dtype *x = &a->type, *y = &b->type;

    if ((expr_is_bare(a) && (expr_is_bare(b) || expr_is_constant(b))) || (expr_is_bare(b) && expr_is_constant(a)))
        return CMP_BARE;
    if (x->kind == D_TS || y->kind == D_TS)
        return CMP_TIME;
    if ((x->kind == D_DATE && y->kind == D_UTF8) || (x->kind == D_UTF8 && y->kind == D_DATE))
        return CMP_DATE;
    if ((is_number(x) && y->kind == D_UTF8) || (x->kind == D_UTF8 && is_number(y)))
        return CMP_TEXT;
    if ((x->kind == D_FLOAT && is_integer(y)) || (is_integer(x) && y->kind == D_FLOAT))
        return CMP_FLOAT;
    return CMP_PLAIN;
}

static enum err_code print_instant_side(struct printer *p, const struct expr *e, bool zone)
{
    int64_t us;

    if (zone && expr_is_bare(e))
        return print_bare(p, e);
    if (expr_time_value(p->g, e, &us)) {
        print_instant(p, us, zone);
        return ERR_OK;
    }
    if (e->kind == E_LITERAL && e->type.kind == D_UTF8)
        return err_set(p->err, ERR_INVALID,
                       "Execution Error: Query Execution failed due to error in datafusion: Arrow error: Parser error: "
                       "Error parsing timestamp from '" SLICE_FMT "': error parsing date",
                       SLICE_ARG(slice_head(e->text, 200)));
    bool text = e->type.kind == D_UTF8;
    if (text || zone || e->type.kind == D_DATE) {
        buf_str(p->out, text && !zone ? "CAST(CAST(" : "CAST(");
        TRY(print_expr(p, e));
        buf_str(p->out, text && !zone ? " AS TIMESTAMPTZ) AS TIMESTAMP)"
                        : zone        ? " AS TIMESTAMPTZ)"
                                      : " AS TIMESTAMP)");
        return ERR_OK;
    }
    return print_expr(p, e);
}

static enum err_code print_side(struct printer *p, const struct expr *e, enum compare how)
{
    switch (how) {
    case CMP_BARE: return print_instant_side(p, e, true);
    case CMP_TIME: return print_instant_side(p, e, false);
    case CMP_TEXT: return print_text(p, e);
    case CMP_DATE: return e->type.kind == D_UTF8 ? print_as(p, e, "DATE") : print_expr(p, e);
    case CMP_FLOAT: return print_as(p, e, "DOUBLE");
    case CMP_PLAIN: break;
    }
    return print_expr(p, e);
}

static enum err_code print_compare(struct printer *p, const struct expr *a, const char *op, const struct expr *b)
{
    enum compare how = compare_of(a, b);
    buf_byte(p->out, '(');
    TRY(print_side(p, a, how));
    buf_fmt(p->out, " %s ", op);
    TRY(print_side(p, b, how));
    buf_byte(p->out, ')');
    return ERR_OK;
}

static enum err_code print_between(struct printer *p, const struct expr *e)
{
    enum compare low = compare_of(e->args[0], e->args[1]), high = compare_of(e->args[0], e->args[2]);
    buf_str(p->out, e->negated ? "(NOT (" : "((");
    if (low == high) {
        for (size_t i = 0; i < 3; i++) {
            buf_str(p->out, i == 0 ? "" : i == 1 ? " BETWEEN " : " AND ");
            TRY(print_side(p, e->args[i], low));
        }
    } else {
        TRY(print_compare(p, e->args[0], ">=", e->args[1]));
        buf_str(p->out, " AND ");
        TRY(print_compare(p, e->args[0], "<=", e->args[2]));
    }
    buf_str(p->out, "))");
    return ERR_OK;
}

static enum err_code print_in(struct printer *p, const struct expr *e)
{
    enum compare how = compare_of(e->args[0], e->args[1]);
    for (size_t i = 2; i < e->args_count; i++) {
        enum compare next = compare_of(e->args[0], e->args[i]);
        if (next == how || e->args[i]->type.kind == D_NULL)
            continue;
        if (how == CMP_BARE || next == CMP_BARE)
            how = CMP_TIME;
        else if (how == CMP_TEXT || next == CMP_TEXT)
            how = CMP_TEXT;
        else
            how = MAX(how, next);
    }
    buf_byte(p->out, '(');
    TRY(print_side(p, e->args[0], how));
    buf_str(p->out, e->negated ? " NOT IN (" : " IN (");
    for (size_t i = 1; i < e->args_count; i++) {
        if (i > 1)
            buf_str(p->out, ", ");
        if (e->args[i]->type.kind == D_NULL)
            buf_str(p->out, "NULL");
        else
            TRY(print_side(p, e->args[i], how));
    }
    buf_str(p->out, "))");
    return ERR_OK;
}

static enum err_code print_in_query(struct printer *p, const struct expr *e)
{
    const struct outcol *out = &e->query->body->out[0];
    bool text = (is_number(&out->type) && e->args[0]->type.kind == D_UTF8) ||
                (is_number(&e->args[0]->type) && out->type.kind == D_UTF8);
    buf_byte(p->out, '(');
    if (text)
        TRY(print_text(p, e->args[0]));
    else
        TRY(print_bare(p, e->args[0]));
    buf_str(p->out, e->negated ? " NOT IN (" : " IN (");
    TRY(print_query(p, e->query));
    buf_str(p->out, "))");
    return ERR_OK;
}

/* LIKE with arrow's escapes: a backslash before %, _ or itself; any other backslash is one. */
static enum err_code print_like(struct printer *p, const struct expr *e)
{
    const struct expr *pattern = e->args[1];
    buf_str(p->out, e->negated ? "(NOT " : "(");
    if (e->op == 's') {
        buf_str(p->out, "regexp_matches(");
        TRY(print_text(p, e->args[0]));
        buf_str(p->out, ", ");
        TRY(print_text(p, pattern));
        buf_str(p->out, "))");
        return ERR_OK;
    }
    buf_byte(p->out, '(');
    TRY(print_text(p, e->args[0]));
    buf_str(p->out, e->op == 'i' ? " ILIKE " : " LIKE ");
    bool literal = pattern->kind == E_LITERAL && pattern->type.kind == D_UTF8;
    if (literal && memchr(pattern->text.ptr, '\\', pattern->text.len)) {
        struct buf text = BUF_INIT;
        for (size_t i = 0; i < pattern->text.len; i++) {
            uint8_t c = pattern->text.ptr[i], next = i + 1 < pattern->text.len ? pattern->text.ptr[i + 1] : 0;
            buf_byte(&text, c);
            if (c == '\\' && (next == '%' || next == '_' || next == '\\'))
                buf_byte(&text, pattern->text.ptr[++i]);
            else if (c == '\\')
                buf_byte(&text, '\\');
        }
        print_string(p, buf_view(&text));
        buf_done(&text);
    } else {
        TRY(print_text(p, pattern));
    }
    buf_str(p->out, literal && !memchr(pattern->text.ptr, '\\', pattern->text.len) ? "))" : " ESCAPE '\\'))");
    return ERR_OK;
}

/* ---- arithmetic */

static bool zero(const struct expr *e)
{
    return e->kind == E_LITERAL && is_integer(&e->type) && e->ival == 0;
}

static enum err_code print_division(struct printer *p, const struct expr *e)
{
    const struct expr *by = e->args[1];
    bool safe = by->kind == E_LITERAL && !zero(by);

    if (zero(by))
        return err_set(
            p->err, ERR_INVALID,
            "Execution Error: Query Execution failed due to error in datafusion: Arrow error: Divide by zero error");
    buf_byte(p->out, '(');
    TRY(print_expr(p, e->args[0]));
    buf_str(p->out, e->op == OP_DIV ? " // " : " % ");
    if (safe) {
        TRY(print_expr(p, by));
    } else {
        buf_str(p->out, "CASE WHEN ");
        TRY(print_expr(p, by));
        buf_str(p->out, " = 0 THEN CAST(error('Divide by zero error') AS BIGINT) ELSE ");
        TRY(print_expr(p, by));
        buf_str(p->out, " END");
    }
    buf_byte(p->out, ')');
    return ERR_OK;
}

static enum err_code print_arithmetic(struct printer *p, const struct expr *e)
{
    static const char *const words[] = {
        [OP_ADD] = " + ", [OP_SUB] = " - ", [OP_MUL] = " * ", [OP_DIV] = " / ", [OP_MOD] = " % "};
    const struct expr *a = e->args[0], *b = e->args[1];
    bool date = e->type.kind == D_DATE && (a->type.kind == D_INTERVAL || b->type.kind == D_INTERVAL);
    bool to_float = is_number(&a->type) && is_number(&b->type) && (a->type.kind == D_FLOAT || b->type.kind == D_FLOAT);
    bool days = (a->type.kind == D_DATE && is_integer(&b->type)) || (b->type.kind == D_DATE && is_integer(&a->type));
    bool time = e->type.kind == D_DURATION;
    int64_t us;

    if ((e->op == OP_DIV || e->op == OP_MOD) && is_integer(&a->type) && is_integer(&b->type))
        return print_division(p, e);
    if (e->type.kind == D_TS && expr_time_value(p->g, e, &us)) {
        print_instant(p, us, false);
        return ERR_OK;
    }
    buf_str(p->out, date ? "CAST((" : "(");
    for (size_t i = 0; i < 2; i++) {
        if (i)
            buf_str(p->out, words[e->op]);
        const struct expr *x = e->args[i];
        if (to_float)
            TRY(print_as(p, x, "DOUBLE"));
        else if (days && is_integer(&x->type))
            TRY(print_as(p, x, "INTEGER"));
        else if (time && x->type.kind == D_DATE)
            TRY(print_as(p, x, "TIMESTAMP"));
        else
            TRY(print_expr(p, x));
    }
    buf_str(p->out, date ? ") AS DATE)" : ")");
    return ERR_OK;
}

static enum err_code print_two(struct printer *p, const char *before, const struct expr *a, const char *between,
                               const struct expr *b, const char *after)
{
    buf_str(p->out, before);
    TRY(print_expr(p, a));
    buf_str(p->out, between);
    TRY(print_expr(p, b));
    buf_str(p->out, after);
    return ERR_OK;
}

static enum err_code print_concat(struct printer *p, const struct expr *e)
{
    const struct expr *a = e->args[0], *b = e->args[1];
    if (e->type.kind == D_LIST) {
        bool both = a->type.kind == D_LIST && b->type.kind == D_LIST;
        return print_two(p,
                         both                     ? "list_concat("
                         : a->type.kind == D_LIST ? "list_append("
                                                  : "list_prepend(",
                         a, ", ", b, ")");
    }
    buf_byte(p->out, '(');
    TRY(print_text(p, a));
    buf_str(p->out, " || ");
    TRY(print_text(p, b));
    buf_byte(p->out, ')');
    return ERR_OK;
}

static enum err_code print_regex(struct printer *p, const struct expr *e)
{
    bool no = e->op == OP_NRE || e->op == OP_NREI, nocase = e->op == OP_REI || e->op == OP_NREI;
    buf_str(p->out, no ? "(NOT regexp_matches(" : "(regexp_matches(");
    TRY(print_text(p, e->args[0]));
    buf_str(p->out, ", ");
    TRY(print_text(p, e->args[1]));
    buf_str(p->out, nocase ? ", 'i'))" : "))");
    return ERR_OK;
}

static enum err_code print_binary(struct printer *p, const struct expr *e)
{
    static const char *const words[] = {
        [OP_EQ] = "=",
        [OP_NE] = "<>",
        [OP_LT] = "<",
        [OP_LE] = "<=",
        [OP_GT] = ">",
        [OP_GE] = ">=",
        [OP_DISTINCT] = "IS DISTINCT FROM",
        [OP_NOT_DISTINCT] = "IS NOT DISTINCT FROM",
    };
    const struct expr *a = e->args[0], *b = e->args[1];
    switch ((enum binary_op)e->op) {
    case OP_OR: return print_two(p, "(", a, " OR ", b, ")");
    case OP_AND: return print_two(p, "(", a, " AND ", b, ")");
    case OP_ADD:
    case OP_SUB:
    case OP_MUL:
    case OP_DIV:
    case OP_MOD: return print_arithmetic(p, e);
    case OP_CONCAT: return print_concat(p, e);
    case OP_BITAND: return print_two(p, "(", a, " & ", b, ")");
    case OP_BITOR: return print_two(p, "(", a, " | ", b, ")");
    case OP_BITXOR: return print_two(p, "xor(", a, ", ", b, ")");
    case OP_SHL: return print_two(p, "(", a, " << ", b, ")");
    case OP_SHR: return print_two(p, "(", a, " >> ", b, ")");
    case OP_RE:
    case OP_REI:
    case OP_NRE:
    case OP_NREI: return print_regex(p, e);
    default: return print_compare(p, a, words[e->op], b);
    }
}

/* ---- casts */

static enum err_code text_of_time(struct printer *p, const struct expr *e)
{
    static const char *const part[] = {"CASE WHEN epoch_us(",
                                       ") % 1000000 = 0 THEN strftime(",
                                       ", '%Y-%m-%dT%H:%M:%S') WHEN epoch_us(",
                                       ") % 1000 = 0 THEN strftime(",
                                       ", '%Y-%m-%dT%H:%M:%S.%g') ELSE strftime(",
                                       ", '%Y-%m-%dT%H:%M:%S.%f') END"};
    for (size_t i = 0; i < ARRAY_LEN(part); i++) {
        buf_str(p->out, part[i]);
        if (i + 1 < ARRAY_LEN(part))
            TRY(print_expr(p, e));
    }
    return ERR_OK;
}

enum err_code print_text(struct printer *p, const struct expr *e)
{
    switch ((enum dkind)e->type.kind) {
    case D_UTF8: return print_expr(p, e);
    case D_FLOAT: /* ryu writes 1e20 and 1e-7 where the engine writes 1e+20 and 1e-07 */
        buf_str(p->out, "replace(replace(CAST(");
        TRY(print_expr(p, e));
        buf_str(p->out, " AS VARCHAR), 'e+', 'e'), 'e-0', 'e-')");
        return ERR_OK;
    case D_TS: return text_of_time(p, e);
    case D_INT:
        if (e->kind == E_LITERAL) {
            buf_fmt(p->out, "'%lld'", (long long)e->ival);
            return ERR_OK;
        }
        break;
    case D_BINARY:
        buf_str(p->out, "decode(");
        TRY(print_expr(p, e));
        buf_byte(p->out, ')');
        return ERR_OK;
    default: break;
    }
    buf_str(p->out, "CAST(");
    TRY(print_expr(p, e));
    buf_str(p->out, " AS VARCHAR)");
    return ERR_OK;
}

static enum err_code cast_to_time(struct printer *p, const struct expr *e, const char *cast)
{
    const struct expr *x = e->args[0];
    static const char *const units[] = {[U_S] = "second", [U_MS] = "milliseconds"};
    int64_t us;

    if (expr_time_value(p->g, e, &us)) {
        print_instant(p, us, false);
        return ERR_OK;
    }
    if (x->kind == E_LITERAL && x->type.kind == D_UTF8 && !e->flag)
        return print_instant_side(p, x, false);
    bool cut =
        e->cast_to.unit <= U_MS && (x->type.kind == D_TS ? x->type.unit > e->cast_to.unit : x->type.kind == D_UTF8);
    if (cut)
        buf_fmt(p->out, "date_trunc('%s', ", units[e->cast_to.unit]);
    if (is_number(&x->type)) {
        static const char *const from[] = {[U_S] = " * 1000000", [U_MS] = " * 1000", [U_US] = "", [U_NS] = " // 1000"};
        buf_str(p->out, "make_timestamp(");
        TRY(print_as(p, x, "BIGINT"));
        buf_fmt(p->out, "%s)", from[e->cast_to.unit]);
    } else if (x->type.kind == D_TS) {
        TRY(print_expr(p, x));
    } else {
        buf_fmt(p->out, x->type.kind == D_UTF8 ? "%s(%s(" : "%s(", cast, cast);
        TRY(print_expr(p, x));
        buf_str(p->out, x->type.kind == D_UTF8 ? " AS TIMESTAMPTZ) AS TIMESTAMP)" : " AS TIMESTAMP)");
    }
    buf_str(p->out, cut ? ")" : "");
    return ERR_OK;
}

enum err_code print_cast(struct printer *p, const struct expr *e)
{
    const struct expr *x = e->args[0];
    const char *cast = e->flag ? "TRY_CAST" : "CAST";
    static const char *const epochs[] = {
        [U_S] = "CAST(floor(epoch(", [U_MS] = "epoch_ms(", [U_US] = "epoch_us(", [U_NS] = "epoch_ns("};

    if (e->cast_to.kind == D_UTF8)
        return print_text(p, x);
    if (e->cast_to.kind == D_TS)
        return cast_to_time(p, e, cast);
    if (e->cast_to.kind == D_BINARY && x->type.kind == D_UTF8) {
        buf_str(p->out, "encode(");
        TRY(print_expr(p, x));
        buf_byte(p->out, ')');
        return ERR_OK;
    }
    if (e->cast_to.kind == D_INTERVAL && x->kind == E_LITERAL && x->type.kind == D_UTF8) {
        struct expr i = {.kind = E_INTERVAL};
        if (!interval_parse(x->text, "", &i.months, &i.days, &i.ival))
            return gate_invalid(p->err, "Invalid input syntax for type interval");
        return print_expr(p, &i);
    }
    buf_fmt(p->out, "%s(", cast);
    if (is_integer(&e->cast_to) && x->type.kind == D_TS) {
        buf_str(p->out, epochs[x->type.unit]);
        TRY(print_expr(p, x));
        buf_str(p->out, x->type.unit == U_S ? ")) AS BIGINT)" : ")");
    } else if (is_integer(&e->cast_to) && (x->type.kind == D_FLOAT || x->type.kind == D_DECIMAL)) {
        buf_str(p->out, "trunc(");
        TRY(print_expr(p, x));
        buf_byte(p->out, ')');
    } else {
        TRY(print_expr(p, x));
    }
    buf_str(p->out, " AS ");
    print_type(p, &e->cast_to);
    buf_byte(p->out, ')');
    return ERR_OK;
}

/* ---- the rest */

static enum err_code print_case(struct printer *p, const struct expr *e)
{
    size_t i = e->has_operand;
    bool texts = e->type.kind == D_UTF8;

    buf_str(p->out, "(CASE");
    for (; i + 1 < e->args_count; i += 2) {
        buf_str(p->out, " WHEN ");
        if (e->has_operand)
            TRY(print_compare(p, e->args[0], "=", e->args[i]));
        else
            TRY(print_expr(p, e->args[i]));
        buf_str(p->out, " THEN ");
        if (texts && e->args[i + 1]->type.kind != D_NULL)
            TRY(print_text(p, e->args[i + 1]));
        else
            TRY(print_expr(p, e->args[i + 1]));
    }
    if (e->has_else) {
        buf_str(p->out, " ELSE ");
        if (texts && e->args[i]->type.kind != D_NULL)
            TRY(print_text(p, e->args[i]));
        else
            TRY(print_expr(p, e->args[i]));
    }
    buf_str(p->out, " END)");
    return ERR_OK;
}

static enum err_code print_is(struct printer *p, const struct expr *e)
{
    bool unknown = slice_is(e->text, "UNKNOWN");
    buf_byte(p->out, '(');
    TRY(print_bare(p, e->args[0]));
    buf_fmt(p->out, " IS %s" SLICE_FMT ")", e->negated ? "NOT " : "", SLICE_ARG(unknown ? slice_lit("NULL") : e->text));
    return ERR_OK;
}

static enum err_code print_any(struct printer *p, const struct expr *e)
{
    static const char *const words[] = {
        [OP_EQ] = "=", [OP_NE] = "<>", [OP_LT] = "<", [OP_LE] = "<=", [OP_GT] = ">", [OP_GE] = ">="};
    if (e->op < OP_EQ || e->op > OP_GE)
        return gate_invalid(p->err, "ANY and ALL take a comparison");
    if (!e->query) {
        if (e->op != OP_EQ || e->all)
            return gate_invalid(p->err, "only = ANY is supported on a list");
        return print_two(p, "list_contains(", e->args[1], ", ", e->args[0], ")");
    }
    buf_byte(p->out, '(');
    TRY(print_bare(p, e->args[0]));
    buf_fmt(p->out, " %s %s (", words[e->op], e->all ? "ALL" : "ANY");
    TRY(print_query(p, e->query));
    buf_str(p->out, "))");
    return ERR_OK;
}

static enum err_code print_subscript(struct printer *p, const struct expr *e)
{
    const struct expr *key = e->args[1];
    bool name = key->kind == E_LITERAL && key->type.kind == D_UTF8;

    if (e->kind == E_INDEX && name && e->args[0]->type.kind != D_MAP) {
        buf_str(p->out, "struct_extract(");
        TRY(print_expr(p, e->args[0]));
        buf_str(p->out, ", ");
        print_string(p, key->text);
        buf_byte(p->out, ')');
        return ERR_OK;
    }
    if (e->kind == E_INDEX && e->args[0]->type.kind == D_MAP)
        return print_two(p, "list_extract(element_at(", e->args[0], ", ", key, "), 1)");
    if (e->kind == E_INDEX)
        return print_two(p, "list_extract(", e->args[0], ", ", key, ")");
    buf_str(p->out, "list_slice(");
    for (size_t i = 0; i < e->args_count; i++) {
        if (i)
            buf_str(p->out, ", ");
        TRY(print_expr(p, e->args[i]));
    }
    buf_byte(p->out, ')');
    return ERR_OK;
}

static enum err_code print_unary(struct printer *p, const struct expr *e)
{
    if (e->op == '-' && e->args[0]->kind == E_LITERAL && e->args[0]->type.kind == D_UINT &&
        e->args[0]->uval == (1ull << 63)) {
        buf_str(p->out, "CAST(-9223372036854775808 AS BIGINT)");
        return ERR_OK;
    }
    buf_str(p->out, e->op == 'n' ? "(NOT " : e->op == '-' ? "(- " : "(");
    TRY(print_expr(p, e->args[0]));
    buf_byte(p->out, ')');
    return ERR_OK;
}

static enum err_code print_node(struct printer *p, const struct expr *e)
{
    switch (e->kind) {
    case E_COLUMN: print_column(p, e); return ERR_OK;
    case E_LITERAL: return print_literal(p, e);
    case E_INTERVAL:
        buf_fmt(p->out, "INTERVAL '%d months %d days %lld microseconds'", e->months, e->days,
                (long long)(e->ival / 1000));
        return ERR_OK;
    case E_UNARY: return print_unary(p, e);
    case E_BINARY: return print_binary(p, e);
    case E_LIKE: return print_like(p, e);
    case E_IN: return print_in(p, e);
    case E_IN_QUERY: return print_in_query(p, e);
    case E_EXISTS:
        buf_str(p->out, e->negated ? "(NOT EXISTS (" : "(EXISTS (");
        TRY(print_query(p, e->query));
        buf_str(p->out, "))");
        return ERR_OK;
    case E_SUBQUERY: return print_bare(p, e);
    case E_ANY: return print_any(p, e);
    case E_BETWEEN: return print_between(p, e);
    case E_CASE: return print_case(p, e);
    case E_CAST: return print_cast(p, e);
    case E_FUNC: return print_call(p, e);
    case E_IS: return print_is(p, e);
    case E_INDEX:
    case E_SLICE: return print_subscript(p, e);
    case E_ZONE: return print_instant_side(p, e->args[0], false);
    case E_OUTPUT: buf_fmt(p->out, "%lld", (long long)e->ival + 1); return ERR_OK;
    case E_STAR:
    case E_GROUPING:
    case E_TUPLE: break;
    }
    return gate_invalid(p->err, "misplaced * or list of expressions");
}

enum err_code print_expr(struct printer *p, const struct expr *e)
{
    if (p->out->len > PRINT_BYTES_MAX)
        return gate_invalid(p->err, "the statement grows beyond its limit");
    if (!expr_is_bare(e))
        return print_node(p, e);
    buf_str(p->out, "make_timestamp(epoch_us(");
    TRY(print_bare(p, e));
    buf_str(p->out, "))");
    return ERR_OK;
}
