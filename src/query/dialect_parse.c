/* dialect_parse.c: expressions of the users' dialect, by precedence climbing, with the precedences of sqlparser's generic dialect
 * (what DataFusion 53 parses with). What it does not know it refuses: this parser is the first wall. */
#include <errno.h>
#include <stdio.h>

#include "query/dialect_ast.h"

#include "base/banned.h"

/* sqlparser's precedences; a higher one binds tighter. */
enum prec {
    P_NONE = 0,
    P_OR = 5,
    P_AND = 10,
    P_NOT = 15,
    P_IS = 17,
    P_LIKE = 19,
    P_CMP = 20,
    P_PIPE = 21,
    P_CARET = 22,
    P_AMP = 23,
    P_ADD = 30,
    P_MUL = 40,
    P_ZONE = 41,
    P_CAST = 50,
};

struct token *parse_peek(struct parser *p, size_t ahead)
{
    return &p->tokens[p->at + ahead < p->count ? p->at + ahead : p->count - 1];
}

bool parse_is_word(struct parser *p, size_t ahead, const char *word)
{
    struct token *t = parse_peek(p, ahead);
    return t->kind == TK_WORD && slice_is(t->text, word);
}

bool parse_word(struct parser *p, const char *word)
{
    bool is = parse_is_word(p, 0, word);
    p->at += is;
    return is;
}

bool parse_is_op(struct parser *p, size_t ahead, const char *op)
{
    struct token *t = parse_peek(p, ahead);
    return t->kind == TK_OP && slice_is(t->text, op);
}

bool parse_op(struct parser *p, const char *op)
{
    bool is = parse_is_op(p, 0, op);
    p->at += is;
    return is;
}

enum err_code parse_expected(struct parser *p, const char *what)
{
    struct token *t = parse_peek(p, 0);
    if (t->kind == TK_END)
        return err_set(p->err, ERR_INVALID, "Error: SQL error: ParserError(\"Expected: %s, found: EOF\")", what);
    return err_set(p->err, ERR_INVALID,
                   "Error: SQL error: ParserError(\"Expected: %s, found: %.*s at Line: %zu, Column: %zu\")", what,
                   (int)MIN(t->raw.len, 100u), (const char *)t->raw.ptr, t->line, t->column);
}

enum err_code parse_need_word(struct parser *p, const char *word)
{
    return parse_word(p, word) ? ERR_OK : parse_expected(p, word);
}

enum err_code parse_need_op(struct parser *p, const char *op)
{
    return parse_op(p, op) ? ERR_OK : parse_expected(p, op);
}

/* Words that neither name a column nor an alias without quotes: they start or separate clauses. */
bool parse_reserved(slice word)
{
    static const char *const words[] = {
        "all",      "and",   "anti",    "as",          "between",  "by",     "case",      "cast",   "create", "cross",
        "distinct", "drop",  "else",    "end",         "except",   "exists", "explain",   "fetch",  "for",    "from",
        "full",     "group", "having",  "in",          "inner",    "into",   "intersect", "is",     "join",   "lateral",
        "like",     "limit", "natural", "not",         "offset",   "on",     "or",        "order",  "outer",  "qualify",
        "select",   "semi",  "set",     "tablesample", "then",     "union",  "using",     "values", "when",   "where",
        "window",   "with",  "pivot",   "unpivot",     "prewhere", "ilike",
    };
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (slice_is(word, words[i]))
            return true;
    return false;
}

struct expr *expr_new(struct arena *a, enum expr_kind kind)
{
    struct expr *e = arena_zalloc(a, sizeof(*e));
    e->kind = kind;
    return e;
}

void expr_arg(struct arena *a, struct expr *e, struct expr *arg)
{
    *APUSH(a, e->args, e->args_count, e->args_cap) = arg;
    if (arg && arg->depth >= e->depth)
        e->depth = (uint16_t)(arg->depth + 1);
}

struct expr *expr_func(struct arena *a, const char *name)
{
    struct expr *e = expr_new(a, E_FUNC);
    e->text = slice_str(name);
    return e;
}

struct expr *expr_str(struct arena *a, slice text)
{
    struct expr *e = expr_new(a, E_LITERAL);
    e->type.kind = D_UTF8;
    e->text = text;
    return e;
}

struct expr *expr_int(struct arena *a, int64_t value)
{
    struct expr *e = expr_new(a, E_LITERAL);
    e->type = (struct dtype){.kind = D_INT, .bits = 64};
    e->ival = value;
    return e;
}

static enum err_code subexpr(struct parser *p, enum prec prec, struct expr **out);

enum err_code parse_expr(struct parser *p, struct expr **out)
{
    return subexpr(p, P_NONE, out);
}

static enum err_code check_depth(struct parser *p, const struct expr *e)
{
    if (e->depth > DIALECT_DEPTH_MAX)
        return err_set(p->err, ERR_INVALID, "Error: SQL error: RecursionLimitExceeded");
    return ERR_OK;
}

static enum err_code arg_expr(struct parser *p, struct expr *e)
{
    struct expr *arg = NULL;
    TRY(parse_expr(p, &arg));
    expr_arg(p->arena, e, arg);
    return ERR_OK;
}

enum err_code parse_name(struct parser *p, slice *out)
{
    struct token *t = parse_peek(p, 0);
    if (t->kind != TK_QUOTED && !(t->kind == TK_WORD && !parse_reserved(t->text)))
        return parse_expected(p, "identifier");
    *out = t->text;
    p->at++;
    return ERR_OK;
}

enum err_code parse_order(struct parser *p, struct sort **order, size_t *count, size_t *cap)
{
    do {
        struct sort *s = APUSH(p->arena, *order, *count, *cap);
        TRY(parse_expr(p, &s->expr));
        if (parse_word(p, "desc"))
            s->desc = true;
        else
            (void)parse_word(p, "asc");
        s->nulls_first = s->desc; /* DataFusion: nulls are the largest */
        if (parse_word(p, "nulls")) {
            s->nulls_given = true;
            s->nulls_first = parse_word(p, "first");
            if (!s->nulls_first)
                TRY(parse_need_word(p, "last"));
        }
    } while (parse_op(p, ","));
    return ERR_OK;
}

static enum err_code frame_bound(struct parser *p, enum bound_kind *kind, struct expr **value)
{
    if (parse_word(p, "current")) {
        *kind = B_CURRENT;
        return parse_need_word(p, "row");
    }
    bool unbounded = parse_word(p, "unbounded");
    if (!unbounded)
        TRY(subexpr(p, P_CMP, value));
    bool preceding = parse_word(p, "preceding");
    if (!preceding)
        TRY(parse_need_word(p, "following"));
    *kind = preceding ? (unbounded ? B_UNBOUNDED_PRECEDING : B_PRECEDING)
                      : (unbounded ? B_UNBOUNDED_FOLLOWING : B_FOLLOWING);
    return ERR_OK;
}

enum err_code parse_over(struct parser *p, struct window **out)
{
    struct window *w = *out = arena_zalloc(p->arena, sizeof(*w));
    static const char *const units[] = {"rows", "range", "groups"};

    if (parse_peek(p, 0)->kind == TK_QUOTED ||
        (parse_peek(p, 0)->kind == TK_WORD && !parse_is_word(p, 0, "partition") && !parse_is_word(p, 0, "order") &&
         !parse_is_word(p, 0, "rows") && !parse_is_word(p, 0, "range") && !parse_is_word(p, 0, "groups")))
        TRY(parse_name(p, &w->base));
    if (parse_word(p, "partition")) {
        TRY(parse_need_word(p, "by"));
        do
            TRY(parse_expr(p, APUSH(p->arena, w->partition, w->partition_count, w->partition_cap)));
        while (parse_op(p, ","));
    }
    if (parse_word(p, "order")) {
        TRY(parse_need_word(p, "by"));
        TRY(parse_order(p, &w->order, &w->order_count, &w->order_cap));
    }
    for (size_t i = 0; i < ARRAY_LEN(units); i++)
        if (!w->has_frame && parse_word(p, units[i])) {
            w->has_frame = true;
            for (size_t k = 0; units[i][k]; k++)
                w->units[k] = (char)(units[i][k] - 32);
            w->to = B_CURRENT;
            bool between = parse_word(p, "between");
            TRY(frame_bound(p, &w->from, &w->from_expr));
            if (between) {
                TRY(parse_need_word(p, "and"));
                TRY(frame_bound(p, &w->to, &w->to_expr));
            }
        }
    return parse_need_op(p, ")");
}

/* ---- calls */

static enum err_code call_arguments(struct parser *p, struct expr *e) /* after "(" to ")" inclusive */
{
    if (parse_word(p, "distinct"))
        e->distinct = true;
    else if (parse_is_word(p, 0, "all") && !parse_is_op(p, 1, ")"))
        p->at++;
    while (!parse_is_op(p, 0, ")")) {
        if (parse_is_op(p, 0, "*") && (parse_is_op(p, 1, ")") || parse_is_op(p, 1, ","))) {
            p->at++;
            expr_arg(p->arena, e, expr_new(p->arena, E_STAR));
        } else {
            TRY(arg_expr(p, e));
        }
        if (parse_word(p, "order")) {
            TRY(parse_need_word(p, "by"));
            TRY(parse_order(p, &e->order, &e->order_count, &e->order_cap));
        }
        if (parse_word(p, "ignore")) {
            e->ignore_nulls = true;
            TRY(parse_need_word(p, "nulls"));
        } else if (parse_word(p, "respect")) {
            e->respect_nulls = true;
            TRY(parse_need_word(p, "nulls"));
        }
        if (!parse_op(p, ","))
            break;
    }
    return parse_need_op(p, ")");
}

static enum err_code call_tail(struct parser *p, struct expr *e)
{
    if (parse_is_word(p, 0, "within") && parse_is_word(p, 1, "group")) {
        p->at += 2;
        TRY(parse_need_op(p, "("));
        TRY(parse_need_word(p, "order"));
        TRY(parse_need_word(p, "by"));
        e->within_group = true;
        TRY(parse_order(p, &e->order, &e->order_count, &e->order_cap));
        TRY(parse_need_op(p, ")"));
    }
    if (parse_is_word(p, 0, "filter") && parse_is_op(p, 1, "(")) {
        p->at += 2;
        TRY(parse_need_word(p, "where"));
        TRY(parse_expr(p, &e->filter));
        TRY(parse_need_op(p, ")"));
    }
    if ((parse_is_word(p, 0, "ignore") || parse_is_word(p, 0, "respect")) && parse_is_word(p, 1, "nulls")) {
        e->ignore_nulls = parse_is_word(p, 0, "ignore");
        e->respect_nulls = !e->ignore_nulls;
        p->at += 2;
    }
    if (parse_word(p, "over")) {
        if (parse_op(p, "("))
            return parse_over(p, &e->over);
        e->over = arena_zalloc(p->arena, sizeof(*e->over));
        return parse_name(p, &e->over->base);
    }
    return ERR_OK;
}

static enum err_code call(struct parser *p, slice name, struct expr **out)
{
    struct expr *e = *out = expr_new(p->arena, E_FUNC);
    e->text = name;
    TRY(call_arguments(p, e));
    return call_tail(p, e);
}

/* ---- forms with a syntax of their own */

static enum err_code case_expr(struct parser *p, struct expr **out)
{
    struct expr *e = *out = expr_new(p->arena, E_CASE);

    if (!parse_is_word(p, 0, "when")) {
        e->has_operand = true;
        TRY(arg_expr(p, e));
    }
    TRY(parse_need_word(p, "when"));
    do {
        TRY(arg_expr(p, e));
        TRY(parse_need_word(p, "then"));
        TRY(arg_expr(p, e));
    } while (parse_word(p, "when"));
    if (parse_word(p, "else")) {
        e->has_else = true;
        TRY(arg_expr(p, e));
    }
    return parse_need_word(p, "end");
}

static enum err_code cast_expr(struct parser *p, bool attempt, struct expr **out)
{
    struct expr *e = *out = expr_new(p->arena, E_CAST);
    e->flag = attempt;
    TRY(parse_need_op(p, "("));
    TRY(arg_expr(p, e));
    TRY(parse_need_word(p, "as"));
    TRY(parse_type(p, &e->cast_to));
    return parse_need_op(p, ")");
}

static enum err_code interval_expr(struct parser *p, struct expr **out)
{
    struct expr *e = *out = expr_new(p->arena, E_INTERVAL);
    bool minus = parse_op(p, "-");
    char unit[32] = "";

    struct token *t = parse_peek(p, 0);
    if (t->kind != TK_STRING && t->kind != TK_NUMBER)
        return parse_expected(p, "a literal string after INTERVAL");
    p->at++;
    static const char *const units[] = {"year",   "month",  "week",        "day",         "hour",
                                        "minute", "second", "millisecond", "microsecond", "nanosecond"};
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        char plural[16];
        (void)snprintf(plural, sizeof(plural), "%ss", units[i]);
        if (!unit[0] && (parse_word(p, units[i]) || parse_word(p, plural)))
            (void)snprintf(unit, sizeof(unit), "%s", units[i]);
    }
    if (!interval_parse(t->text, unit, &e->months, &e->days, &e->ival))
        return err_set(p->err, ERR_INVALID,
                       "Datafusion Error: Parser error: Invalid input syntax for type interval: \"%.*s\"",
                       (int)MIN(t->text.len, 100u), (const char *)t->text.ptr);
    if (minus) {
        e->months = -e->months;
        e->days = -e->days;
        e->ival = -e->ival;
    }
    return ERR_OK;
}

static enum err_code extract_expr(struct parser *p, struct expr **out) /* EXTRACT(MINUTE FROM x) */
{
    struct expr *e = *out = expr_func(p->arena, "date_part");
    TRY(parse_need_op(p, "("));
    struct token *t = parse_peek(p, 0);
    if (t->kind != TK_WORD && t->kind != TK_STRING)
        return parse_expected(p, "date/time field");
    p->at++;
    slice part = arena_copy(p->arena, t->text);
    if (t->kind == TK_WORD)
        for (size_t i = 0; i < part.len; i++) /* sqlparser prints the field in upper case, and it shows in names */
            if (part.ptr[i] >= 'a' && part.ptr[i] <= 'z')
                ((uint8_t *)(uintptr_t)part.ptr)[i] = (uint8_t)(part.ptr[i] - 32);
    expr_arg(p->arena, e, expr_str(p->arena, part));
    if (!parse_op(p, ","))
        TRY(parse_need_word(p, "from"));
    TRY(arg_expr(p, e));
    return parse_need_op(p, ")");
}

static enum err_code substring_expr(struct parser *p, slice name, struct expr **out)
{
    struct expr *e = *out = expr_func(p->arena, "substr");
    (void)name;
    TRY(parse_need_op(p, "("));
    TRY(arg_expr(p, e));
    bool from = parse_word(p, "from") || parse_op(p, ",");
    if (from)
        TRY(arg_expr(p, e));
    if (parse_word(p, "for") || (from && parse_op(p, ","))) {
        if (!from)
            expr_arg(p->arena, e, expr_int(p->arena, 1));
        TRY(arg_expr(p, e));
    }
    return parse_need_op(p, ")");
}

static enum err_code position_expr(struct parser *p, struct expr **out)
{
    struct expr *e = *out = expr_func(p->arena, "strpos"), *what = NULL, *in = NULL;
    TRY(parse_need_op(p, "("));
    TRY(subexpr(p, P_CMP, &what));
    TRY(parse_need_word(p, "in"));
    TRY(parse_expr(p, &in));
    expr_arg(p->arena, e, in);
    expr_arg(p->arena, e, what);
    return parse_need_op(p, ")");
}

static enum err_code trim_expr(struct parser *p, struct expr **out)
{
    const char *name = "btrim";
    struct expr *first = NULL, *second = NULL;
    TRY(parse_need_op(p, "("));
    if (parse_word(p, "leading"))
        name = "ltrim";
    else if (parse_word(p, "trailing"))
        name = "rtrim";
    else
        (void)parse_word(p, "both");
    struct expr *e = *out = expr_func(p->arena, name);
    TRY(parse_expr(p, &first));
    if (parse_word(p, "from")) {
        TRY(parse_expr(p, &second));
        expr_arg(p->arena, e, second);
        expr_arg(p->arena, e, first);
    } else {
        expr_arg(p->arena, e, first);
        if (parse_op(p, ","))
            TRY(arg_expr(p, e));
    }
    return parse_need_op(p, ")");
}

static enum err_code overlay_expr(struct parser *p, struct expr **out)
{
    struct expr *e = *out = expr_func(p->arena, "overlay");
    TRY(parse_need_op(p, "("));
    TRY(arg_expr(p, e));
    if (!parse_op(p, ","))
        TRY(parse_need_word(p, "placing"));
    TRY(arg_expr(p, e));
    if (!parse_op(p, ","))
        TRY(parse_need_word(p, "from"));
    TRY(arg_expr(p, e));
    if (parse_word(p, "for") || parse_op(p, ","))
        TRY(arg_expr(p, e));
    return parse_need_op(p, ")");
}

static enum err_code list_expr(struct parser *p, struct expr **out) /* after "[" */
{
    struct expr *e = *out = expr_func(p->arena, "make_array");
    if (parse_op(p, "]"))
        return ERR_OK;
    do
        TRY(arg_expr(p, e));
    while (parse_op(p, ","));
    return parse_need_op(p, "]");
}

static enum err_code struct_expr(struct parser *p, struct expr **out) /* after "{": {'a': 1} or {a: 1} */
{
    struct expr *e = *out = expr_func(p->arena, "named_struct");
    if (parse_op(p, "}"))
        return ERR_OK;
    do {
        struct token *t = parse_peek(p, 0);
        if (t->kind != TK_WORD && t->kind != TK_QUOTED && t->kind != TK_STRING)
            return parse_expected(p, "a field name");
        p->at++;
        expr_arg(p->arena, e, expr_str(p->arena, t->text));
        TRY(parse_need_op(p, ":"));
        TRY(arg_expr(p, e));
    } while (parse_op(p, ","));
    return parse_need_op(p, "}");
}

static enum err_code number_expr(struct parser *p, slice text, struct expr **out)
{
    struct expr *e = *out = expr_new(p->arena, E_LITERAL);
    char *s = arena_str(p->arena, text);

    e->text = text;
    if (!strpbrk(s, ".eE")) {
        errno = 0;
        unsigned long long v = strtoull(s, NULL, 10);
        if (errno == 0) {
            e->type = (struct dtype){.kind = v > INT64_MAX ? D_UINT : D_INT, .bits = 64};
            e->uval = v;
            e->ival = (int64_t)v;
            return ERR_OK;
        }
    }
    e->type = (struct dtype){.kind = D_FLOAT, .bits = 64};
    e->fval = strtod(s, NULL);
    return ERR_OK;
}

static bool hex_decode(struct arena *a, slice text, slice *out)
{
    uint8_t *to = arena_alloc(a, text.len / 2 + 1);
    if (text.len % 2)
        return false;
    for (size_t i = 0; i < text.len; i += 2) {
        unsigned v = 0;
        for (size_t k = 0; k < 2; k++) {
            uint8_t c = text.ptr[i + k];
            unsigned d = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A' + 10)
                                                : 16u;
            if (d > 15)
                return false;
            v = v * 16 + d;
        }
        to[i / 2] = (uint8_t)v;
    }
    *out = slice_of(to, text.len / 2);
    return true;
}

static enum err_code literal(struct parser *p, struct token *t, struct expr **out)
{
    p->at++;
    if (t->kind == TK_NUMBER)
        return number_expr(p, t->text, out);
    *out = expr_str(p->arena, t->text);
    if (t->kind == TK_HEX) {
        (*out)->type.kind = D_BINARY;
        if (!hex_decode(p->arena, t->text, &(*out)->text)) {
            p->at--;
            return parse_expected(p, "hexadecimal digits");
        }
    } else if (memchr(t->text.ptr, 0, t->text.len)) {
        return err_set(p->err, ERR_INVALID, "Error: SQL error: a zero byte in a string literal is not supported");
    }
    return ERR_OK;
}

static enum err_code subquery(struct parser *p, enum expr_kind kind, struct expr **out) /* after "(" */
{
    struct expr *e = *out = expr_new(p->arena, kind);
    TRY(parse_query(p, &e->query));
    return parse_need_op(p, ")");
}

/* DATE '2026-01-02' and kin: a cast of a string. */
static bool typed_literal(struct parser *p, struct expr **out)
{
    static const struct {
        const char *word;
        struct dtype type;
    } types[] = {
        {"date", {.kind = D_DATE, .bits = 32}},
        {"timestamp", {.kind = D_TS, .unit = U_NS}},
        {"timestamptz", {.kind = D_TS, .unit = U_NS, .utc = true}},
        {"datetime", {.kind = D_TS, .unit = U_NS}},
        {"time", {.kind = D_TIME, .unit = U_NS, .bits = 64}},
    };
    if (parse_peek(p, 1)->kind != TK_STRING)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (parse_word(p, types[i].word)) {
            *out = expr_new(p->arena, E_CAST);
            (*out)->cast_to = types[i].type;
            expr_arg(p->arena, *out, expr_str(p->arena, parse_peek(p, 0)->text));
            p->at++;
            return true;
        }
    return false;
}

static enum err_code constant_word(struct parser *p, struct expr **out)
{
    struct expr *e = *out = expr_new(p->arena, E_LITERAL);
    e->type.kind = D_BOOL;
    if (parse_word(p, "true"))
        e->ival = 1;
    else if (parse_word(p, "null"))
        e->type.kind = D_NULL;
    else
        TRY(parse_need_word(p, "false"));
    return ERR_OK;
}

/* A word that begins a form with its own syntax; *out stays NULL when it is none. */
static enum err_code special(struct parser *p, struct expr **out)
{
    bool paren = parse_is_op(p, 1, "(");
    if (parse_is_word(p, 0, "true") || parse_is_word(p, 0, "false") || parse_is_word(p, 0, "null"))
        return constant_word(p, out);
    if (typed_literal(p, out))
        return ERR_OK;
    if (parse_word(p, "case"))
        return case_expr(p, out);
    if (parse_is_word(p, 0, "interval") &&
        (parse_peek(p, 1)->kind == TK_STRING || parse_peek(p, 1)->kind == TK_NUMBER || parse_is_op(p, 1, "-"))) {
        p->at++;
        return interval_expr(p, out);
    }
    if (parse_is_word(p, 0, "array") && parse_is_op(p, 1, "[")) {
        p->at += 2;
        return list_expr(p, out);
    }
    if (!paren) {
        static const char *const plain[] = {"current_date", "current_time", "current_timestamp", "localtimestamp"};
        for (size_t i = 0; i < ARRAY_LEN(plain); i++)
            if (parse_word(p, plain[i])) {
                *out = expr_func(p->arena, plain[i]);
                return ERR_OK;
            }
        return ERR_OK;
    }
    struct token *t = parse_peek(p, 0);
    slice w = t->text;
    p->at++;
    if (slice_is(w, "cast") || slice_is(w, "try_cast") || slice_is(w, "safe_cast"))
        return cast_expr(p, !slice_is(w, "cast"), out);
    if (slice_is(w, "extract"))
        return extract_expr(p, out);
    if (slice_is(w, "substring") || slice_is(w, "substr"))
        return substring_expr(p, w, out);
    if (slice_is(w, "position"))
        return position_expr(p, out);
    if (slice_is(w, "trim"))
        return trim_expr(p, out);
    if (slice_is(w, "overlay"))
        return overlay_expr(p, out);
    if (slice_is(w, "exists")) {
        p->at++;
        return subquery(p, E_EXISTS, out);
    }
    if (slice_is(w, "left") || slice_is(w, "right")) { /* reserved as joins, functions before "(" */
        p->at++;
        return call(p, w, out);
    }
    p->at--;
    return ERR_OK;
}

static enum err_code column_or_call(struct parser *p, struct expr **out)
{
    struct token *t = parse_peek(p, 0);
    size_t cap = 0;

    if (t->kind == TK_WORD && parse_reserved(t->text))
        return parse_expected(p, "an expression");
    if (parse_is_op(p, 1, "(")) {
        p->at += 2;
        return call(p, t->text, out);
    }
    struct expr *e = *out = expr_new(p->arena, E_COLUMN);
    for (;;) {
        t = parse_peek(p, 0);
        if (t->kind == TK_OP && slice_is(t->text, "*") && e->path_count) {
            p->at++;
            e->kind = E_STAR;
            return ERR_OK;
        }
        if (t->kind != TK_WORD && t->kind != TK_QUOTED)
            return parse_expected(p, "identifier");
        p->at++;
        *APUSH(p->arena, e->path, e->path_count, cap) = t->text;
        if (!parse_op(p, "."))
            break;
    }
    if (parse_is_op(p, 0, "("))
        return parse_expected(p, "an expression (functions have no schema here)");
    return ERR_OK;
}

static enum err_code paren(struct parser *p, struct expr **out)
{
    if (parse_starts_query(p, 0))
        return subquery(p, E_SUBQUERY, out);
    TRY(parse_expr(p, out));
    if (parse_is_op(p, 0, ",")) { /* (a, b): only GROUP BY takes it */
        struct expr *tuple = expr_new(p->arena, E_TUPLE);
        expr_arg(p->arena, tuple, *out);
        while (parse_op(p, ","))
            TRY(arg_expr(p, tuple));
        *out = tuple;
    }
    return parse_need_op(p, ")");
}

static enum err_code unary(struct parser *p, char op, enum prec prec, struct expr **out)
{
    struct expr *e = *out = expr_new(p->arena, E_UNARY), *arg = NULL;
    e->op = (uint8_t)op;
    TRY(subexpr(p, prec, &arg));
    expr_arg(p->arena, e, arg);
    return ERR_OK;
}

static enum err_code prefix(struct parser *p, struct expr **out)
{
    struct token *t = parse_peek(p, 0);

    *out = NULL;
    if (t->kind == TK_NUMBER || t->kind == TK_STRING || t->kind == TK_HEX)
        return literal(p, t, out);
    if (parse_op(p, "("))
        return paren(p, out);
    if (parse_op(p, "["))
        return list_expr(p, out);
    if (parse_op(p, "{"))
        return struct_expr(p, out);
    if (parse_word(p, "not"))
        return unary(p, 'n', P_NOT, out);
    if (parse_op(p, "-"))
        return unary(p, '-', P_MUL, out);
    if (parse_op(p, "+"))
        return unary(p, '+', P_MUL, out);
    if (t->kind == TK_WORD) {
        TRY(special(p, out));
        if (*out)
            return ERR_OK;
    }
    if (t->kind == TK_WORD || t->kind == TK_QUOTED)
        return column_or_call(p, out);
    return parse_expected(p, "an expression");
}

/* ---- infix */

static const struct {
    const char *text;
    uint8_t prec;
    uint8_t op;
} binary_ops[] = {
    {"=", P_CMP, OP_EQ},
    {"==", P_CMP, OP_EQ},
    {"<>", P_CMP, OP_NE},
    {"!=", P_CMP, OP_NE},
    {"<", P_CMP, OP_LT},
    {"<=", P_CMP, OP_LE},
    {">", P_CMP, OP_GT},
    {">=", P_CMP, OP_GE},
    {"~", P_CMP, OP_RE},
    {"~*", P_CMP, OP_REI},
    {"!~", P_CMP, OP_NRE},
    {"!~*", P_CMP, OP_NREI},
    {"<=>", P_CMP, OP_NOT_DISTINCT},
    {"|", P_PIPE, OP_BITOR},
    {"^", P_CARET, OP_BITXOR},
    {"<<", P_CARET, OP_SHL},
    {">>", P_CARET, OP_SHR},
    {"&", P_AMP, OP_BITAND},
    {"+", P_ADD, OP_ADD},
    {"-", P_ADD, OP_SUB},
    {"*", P_MUL, OP_MUL},
    {"/", P_MUL, OP_DIV},
    {"%", P_MUL, OP_MOD},
    {"||", P_MUL, OP_CONCAT},
};

static bool like_word(struct parser *p, size_t ahead)
{
    return parse_is_word(p, ahead, "like") || parse_is_word(p, ahead, "ilike") || parse_is_word(p, ahead, "similar");
}

static enum prec next_prec(struct parser *p, size_t *op)
{
    struct token *t = parse_peek(p, 0);
    *op = ARRAY_LEN(binary_ops);
    if (t->kind == TK_OP) {
        for (size_t i = 0; i < ARRAY_LEN(binary_ops); i++)
            if (slice_is(t->text, binary_ops[i].text)) {
                *op = i;
                return binary_ops[i].prec;
            }
        if (slice_is(t->text, "~~") || slice_is(t->text, "~~*") || slice_is(t->text, "!~~") ||
            slice_is(t->text, "!~~*"))
            return P_CMP;
        return slice_is(t->text, "::") || slice_is(t->text, "[") ? P_CAST : P_NONE;
    }
    if (t->kind != TK_WORD)
        return P_NONE;
    if (slice_is(t->text, "or"))
        return P_OR;
    if (slice_is(t->text, "and"))
        return P_AND;
    if (slice_is(t->text, "is"))
        return P_IS;
    if (slice_is(t->text, "in") || slice_is(t->text, "between"))
        return P_CMP;
    if (like_word(p, 0))
        return P_LIKE;
    if (slice_is(t->text, "not"))
        return like_word(p, 1) ? P_LIKE : parse_is_word(p, 1, "in") || parse_is_word(p, 1, "between") ? P_CMP : P_NONE;
    if (slice_is(t->text, "at") && parse_is_word(p, 1, "time") && parse_is_word(p, 2, "zone"))
        return P_ZONE;
    return P_NONE;
}

static enum err_code is_expr(struct parser *p, struct expr *left, struct expr **out)
{
    struct expr *e = *out = expr_new(p->arena, E_IS), *right = NULL;
    static const char *const what[] = {"NULL", "TRUE", "FALSE", "UNKNOWN"}, *const words[] = {"null", "true", "false",
                                                                                              "unknown"};

    e->negated = parse_word(p, "not");
    if (parse_word(p, "distinct")) {
        TRY(parse_need_word(p, "from"));
        e->kind = E_BINARY;
        e->op = e->negated ? OP_NOT_DISTINCT : OP_DISTINCT;
        e->negated = false;
        expr_arg(p->arena, e, left);
        TRY(parse_expr(p, &right));
        expr_arg(p->arena, e, right);
        return ERR_OK;
    }
    for (size_t i = 0; i < ARRAY_LEN(what); i++)
        if (parse_word(p, words[i])) {
            e->text = slice_str(what[i]);
            expr_arg(p->arena, e, left);
            return ERR_OK;
        }
    return parse_expected(p, "[NOT] NULL | TRUE | FALSE | DISTINCT FROM after IS");
}

static enum err_code in_expr(struct parser *p, struct expr *left, bool negated, struct expr **out)
{
    struct expr *e = *out = expr_new(p->arena, E_IN);
    e->negated = negated;
    expr_arg(p->arena, e, left);
    TRY(parse_need_op(p, "("));
    if (parse_starts_query(p, 0)) {
        e->kind = E_IN_QUERY;
        TRY(parse_query(p, &e->query));
        return parse_need_op(p, ")");
    }
    do
        TRY(arg_expr(p, e));
    while (parse_op(p, ","));
    return parse_need_op(p, ")");
}

static enum err_code like_expr(struct parser *p, struct expr *left, bool negated, char op, enum prec prec,
                               struct expr **out)
{
    struct expr *e = *out = expr_new(p->arena, E_LIKE), *right = NULL;
    e->negated = negated;
    e->op = (uint8_t)op;
    expr_arg(p->arena, e, left);
    TRY(subexpr(p, prec, &right));
    expr_arg(p->arena, e, right);
    if (prec == P_LIKE && parse_word(p, "escape")) {
        struct token *t = parse_peek(p, 0);
        if (t->kind != TK_STRING)
            return parse_expected(p, "an escape character");
        p->at++;
        if (!slice_is(t->text, "\\"))
            return err_set(p->err, ERR_INVALID,
                           "Datafusion Error: LIKE does not support escape_char other than the backslash (\\)");
        e->text = t->text;
    }
    return ERR_OK;
}

static enum err_code word_infix(struct parser *p, struct expr *left, enum prec prec, struct expr **out)
{
    bool negated = parse_word(p, "not");
    struct expr *low = NULL, *high = NULL;

    if (prec == P_OR || prec == P_AND) {
        struct expr *e = *out = expr_new(p->arena, E_BINARY), *right = NULL;
        e->op = prec == P_OR ? OP_OR : OP_AND;
        p->at++;
        TRY(subexpr(p, prec, &right));
        expr_arg(p->arena, e, left);
        expr_arg(p->arena, e, right);
        return ERR_OK;
    }
    if (parse_word(p, "is"))
        return is_expr(p, left, out);
    if (parse_word(p, "in"))
        return in_expr(p, left, negated, out);
    if (parse_word(p, "like"))
        return like_expr(p, left, negated, 'l', P_LIKE, out);
    if (parse_word(p, "ilike"))
        return like_expr(p, left, negated, 'i', P_LIKE, out);
    if (parse_word(p, "similar")) {
        TRY(parse_need_word(p, "to"));
        return like_expr(p, left, negated, 's', P_LIKE, out);
    }
    if (parse_word(p, "between")) {
        TRY(subexpr(p, P_CMP, &low));
        TRY(parse_need_word(p, "and"));
        TRY(subexpr(p, P_CMP, &high));
        struct expr *e = *out = expr_new(p->arena, E_BETWEEN);
        e->negated = negated;
        expr_arg(p->arena, e, left);
        expr_arg(p->arena, e, low);
        expr_arg(p->arena, e, high);
        return ERR_OK;
    }
    p->at += 3; /* AT TIME ZONE */
    struct expr *e = *out = expr_new(p->arena, E_ZONE);
    expr_arg(p->arena, e, left);
    TRY(subexpr(p, prec, &high));
    expr_arg(p->arena, e, high);
    return ERR_OK;
}

static enum err_code index_expr(struct parser *p, struct expr *left, struct expr **out) /* after "[" */
{
    struct expr *e = *out = expr_new(p->arena, E_INDEX);
    expr_arg(p->arena, e, left);
    if (parse_is_op(p, 0, ":"))
        expr_arg(p->arena, e, expr_int(p->arena, 1));
    else
        TRY(arg_expr(p, e));
    while (e->args_count < 4 && parse_op(p, ":")) {
        e->kind = E_SLICE;
        if (parse_is_op(p, 0, "]"))
            expr_arg(p->arena, e, expr_int(p->arena, -1));
        else
            TRY(arg_expr(p, e));
    }
    return parse_need_op(p, "]");
}

static enum err_code infix(struct parser *p, struct expr *left, enum prec prec, size_t op, struct expr **out)
{
    struct expr *right = NULL;

    if (parse_peek(p, 0)->kind == TK_WORD)
        return word_infix(p, left, prec, out);
    if (parse_op(p, "::")) {
        struct expr *e = *out = expr_new(p->arena, E_CAST);
        expr_arg(p->arena, e, left);
        return parse_type(p, &e->cast_to);
    }
    if (parse_op(p, "["))
        return index_expr(p, left, out);
    if (op == ARRAY_LEN(binary_ops)) { /* ~~ and kin are LIKE */
        slice t = parse_peek(p, 0)->text;
        p->at++;
        return like_expr(p, left, t.ptr[0] == '!', slice_ends(t, slice_lit("*")) ? 'i' : 'l', P_CMP, out);
    }
    p->at++;
    struct expr *e = *out = expr_new(p->arena, E_BINARY);
    e->op = binary_ops[op].op;
    expr_arg(p->arena, e, left);
    if ((parse_is_word(p, 0, "any") || parse_is_word(p, 0, "some") || parse_is_word(p, 0, "all")) &&
        parse_is_op(p, 1, "(")) {
        e->kind = E_ANY;
        e->all = parse_is_word(p, 0, "all");
        p->at += 2;
        if (parse_starts_query(p, 0))
            TRY(parse_query(p, &e->query));
        else
            TRY(arg_expr(p, e));
        return parse_need_op(p, ")");
    }
    TRY(subexpr(p, prec, &right));
    expr_arg(p->arena, e, right);
    return ERR_OK;
}

static enum err_code subexpr(struct parser *p, enum prec prec, struct expr **out)
{
    size_t op;

    if (++p->depth > DIALECT_DEPTH_MAX)
        return err_set(p->err, ERR_INVALID, "Error: SQL error: RecursionLimitExceeded");
    TRY(prefix(p, out));
    for (;;) {
        enum prec next = next_prec(p, &op);
        if (next <= prec)
            break;
        struct expr *left = *out;
        TRY(infix(p, left, next, op, out));
        TRY(check_depth(p, *out));
    }
    p->depth--;
    return ERR_OK;
}
