/* dialect_ast.h: a statement of the users' dialect as a tree, from dialect_parse.c, annotated by gate_resolve.c, printed by
 * dialect_print.c and named by dialect_name.c. Everything lives in one arena. Internal to the gate. */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "query/gate.h"

enum dkind {
    D_UNKNOWN,
    D_NULL,
    D_BOOL,
    D_INT,
    D_UINT,
    D_FLOAT,
    D_DECIMAL,
    D_UTF8,
    D_BINARY,
    D_TS,
    D_DATE,
    D_TIME,
    D_INTERVAL,
    D_DURATION,
    D_LIST,
    D_STRUCT,
    D_MAP,
};
enum dunit { U_S, U_MS, U_US, U_NS };
struct dtype { /* an Arrow type as far as names, coercions and arrow_typeof need it */
    uint8_t kind, bits, unit, precision, scale;
    bool utc;                 /* TS with zone UTC */
    const struct dtype *item; /* LIST; NULL: unknown */
};

enum expr_kind {
    E_COLUMN,   /* path[0..path_count) */
    E_LITERAL,  /* type NULL, BOOL, INT, UINT, FLOAT, UTF8, BINARY: ival, fval, text */
    E_INTERVAL, /* months, days, nanos */
    E_UNARY,    /* op '-', '+', 'n' (NOT); args[0] */
    E_BINARY,   /* op; args[0], args[1] */
    E_LIKE,     /* args[0] LIKE args[1], op 'l', 'i' or 's' (SIMILAR TO); negated; text: escape given */
    E_IN,       /* args[0] IN args[1..]; negated */
    E_IN_QUERY, /* args[0] IN (query); negated */
    E_EXISTS,   /* query; negated */
    E_SUBQUERY, /* (query) as a value */
    E_ANY,      /* args[0] op ANY(query), or ALL with `all` */
    E_BETWEEN,  /* args[0..3); negated */
    E_CASE,     /* args: [operand,] when, then, ..., [else]; has_operand, has_else */
    E_CAST,     /* args[0]; cast_to; flag: TRY_CAST */
    E_FUNC,     /* text: name in lower case */
    E_IS,       /* args[0] IS [NOT] text: "NULL", "TRUE", "FALSE", "UNKNOWN" */
    E_INDEX,    /* args[0][args[1]] */
    E_SLICE,    /* args[0][args[1]:args[2](:args[3])] */
    E_STAR,     /* * or path.* in a SELECT list, count(*) */
    E_ZONE,     /* args[0] AT TIME ZONE args[1] */
    E_GROUPING, /* op 'r' ROLLUP, 'c' CUBE, 's' GROUPING SETS; args: E_TUPLE or expressions */
    E_TUPLE,    /* (a, b) in GROUP BY */
    E_OUTPUT,   /* column ival of the query that an ORDER BY belongs to */
};
enum binary_op {
    OP_OR = 1,
    OP_AND,
    OP_EQ,
    OP_NE,
    OP_LT,
    OP_LE,
    OP_GT,
    OP_GE,
    OP_ADD,
    OP_SUB,
    OP_MUL,
    OP_DIV,
    OP_MOD,
    OP_CONCAT,
    OP_BITAND,
    OP_BITOR,
    OP_BITXOR,
    OP_SHL,
    OP_SHR,
    OP_RE,
    OP_REI,
    OP_NRE,
    OP_NREI,
    OP_DISTINCT,
    OP_NOT_DISTINCT,
};
struct expr;
struct sort {
    struct expr *expr;
    bool desc, nulls_given, nulls_first;
};
enum bound_kind { B_UNBOUNDED_PRECEDING, B_PRECEDING, B_CURRENT, B_FOLLOWING, B_UNBOUNDED_FOLLOWING };
struct window {
    slice base; /* OVER name, or (name ...) */
    struct expr **partition;
    size_t partition_count, partition_cap;
    struct sort *order;
    size_t order_count, order_cap;
    bool has_frame;
    char units[8]; /* ROWS, RANGE, GROUPS */
    enum bound_kind from, to;
    struct expr *from_expr, *to_expr;
};
struct query;
struct rel;
struct func;
struct expr {
    enum expr_kind kind;
    uint8_t op;
    bool negated, flag, has_operand, has_else, all, distinct, respect_nulls, ignore_nulls, within_group;
    uint16_t depth;
    struct dtype type, cast_to;
    slice text;
    slice *path;
    size_t path_count;
    struct expr **args;
    size_t args_count, args_cap;
    struct sort *order; /* of an aggregate's input */
    size_t order_count, order_cap;
    struct expr *filter;
    struct window *over;
    struct query *query;
    int64_t ival; /* also: interval's nanoseconds */
    uint64_t uval;
    double fval;
    int32_t months, days;
    const struct func *func;
    struct rel *rel; /* of a resolved column */
    size_t col;
};
struct item { /* of a SELECT list */
    struct expr *expr;
    slice alias; /* ptr NULL: none */
};
enum tref_kind { T_NAME, T_QUERY, T_JOIN, T_UNNEST };
enum join_kind { J_INNER, J_LEFT, J_RIGHT, J_FULL, J_CROSS, J_SEMI, J_ANTI };
struct tref {
    enum tref_kind kind;
    slice *path; /* NAME */
    size_t path_count;
    struct query *query;
    bool lateral;
    slice alias;    /* ptr NULL: none */
    slice *columns; /* of AS t(a, b) */
    size_t columns_count, columns_cap;
    struct expr **args; /* UNNEST */
    size_t args_count, args_cap;
    enum join_kind join;
    struct tref *left, *right;
    struct expr *on;
    slice *using;
    size_t using_count, using_cap;
    bool natural;
    struct rel *rel; /* NAME, QUERY, UNNEST: what it resolved to */
};
struct outcol {       /* a column of a query's result */
    slice name, qual; /* qual: full qualifier when it is a plain column, else empty */
    struct dtype type;
    bool bare;     /* TIMESTAMPTZ in the engine */
    bool computed; /* name is that of an expression: checked for uniqueness on its own */
};
struct select {
    bool distinct;
    struct expr **on; /* DISTINCT ON */
    size_t on_count, on_cap;
    struct item *items;
    size_t items_count, items_cap;
    struct tref **from;
    size_t from_count, from_cap;
    struct expr *where, *having, *qualify;
    struct expr **group;
    size_t group_count, group_cap;
    bool group_all;
    struct {
        slice name;
        struct window *window;
    } * windows;
    size_t windows_count, windows_cap;
    bool aggregates;    /* has GROUP BY or HAVING */
    bool where_is_time; /* WHERE is nothing but bounds of p_timestamp */
    struct scope *scope;
};
enum body_kind { Q_SELECT, Q_SET, Q_QUERY, Q_VALUES };
struct body {
    enum body_kind kind;
    struct select *select;
    struct query *query;
    char op; /* 'u'nion, 'e'xcept, 'i'ntersect */
    bool all;
    struct body *left, *right;
    struct expr ***rows; /* VALUES: rows_count arrays of row_len */
    size_t rows_count, rows_cap, row_len;
    unsigned depth;
    struct outcol *out;
    size_t out_count, out_cap;
};
struct cte {
    slice name;
    slice *columns;
    size_t columns_count, columns_cap;
    struct query *query;
    char emit[16];
};
struct query {
    struct cte *ctes;
    size_t ctes_count, ctes_cap;
    struct body *body;
    struct sort *order;
    size_t order_count, order_cap;
    struct expr *limit, *offset;
};
enum statement_kind { ST_QUERY, ST_DESCRIBE };
struct statement {
    enum statement_kind kind;
    bool explain, analyze;
    struct query *query;
    slice *path; /* DESCRIBE */
    size_t path_count;
};

/* Growable arrays inside an arena: like ARRAY_PUSH, the old block is left to the arena. */
void *dialect_grow(struct arena *a, void *old, size_t count, size_t *cap, size_t item);
#define APUSH(a, ptr, count, cap)                                              \
    ({                                                                         \
        if ((count) == (cap))                                                  \
            (ptr) = dialect_grow((a), (ptr), (count), &(cap), sizeof(*(ptr))); \
        memset(&(ptr)[(count)], 0, sizeof(*(ptr)));                            \
        &(ptr)[(count)++];                                                     \
    })

/* ---- dialect_lex.c */
enum tok { TK_END, TK_WORD, TK_QUOTED, TK_STRING, TK_HEX, TK_NUMBER, TK_OP, TK_PARAM };
struct token {
    enum tok kind;
    slice text; /* WORD: lower case; QUOTED, STRING: unescaped; NUMBER, OP: as written */
    slice raw;
    size_t line, column;
};
MUST_CHECK enum err_code dialect_lex(slice sql, struct arena *a, struct token **out, size_t *count, struct err *err);

/* ---- dialect_parse.c, dialect_parse_query.c */
#define DIALECT_DEPTH_MAX \
    400 /* nesting of parentheses, subqueries and operators: below what the engine takes (1,000) */
struct parser {
    struct arena *arena;
    struct token *tokens;
    size_t at, count;
    unsigned depth;
    struct err *err;
};
MUST_CHECK enum err_code dialect_parse(slice sql, struct arena *a, struct statement *out, struct err *err);
struct token *parse_peek(struct parser *p, size_t ahead);
bool parse_word(struct parser *p, const char *word); /* takes the keyword if it is next */
bool parse_is_word(struct parser *p, size_t ahead, const char *word);
bool parse_op(struct parser *p, const char *op);
bool parse_is_op(struct parser *p, size_t ahead, const char *op);
enum err_code parse_expected(struct parser *p, const char *what); /* ERR_INVALID: "Expected: what, found: ..." */
MUST_CHECK enum err_code parse_need_word(struct parser *p, const char *word);
MUST_CHECK enum err_code parse_need_op(struct parser *p, const char *op);
MUST_CHECK enum err_code parse_expr(struct parser *p, struct expr **out);
MUST_CHECK enum err_code parse_order(struct parser *p, struct sort **order, size_t *count, size_t *cap);
MUST_CHECK enum err_code parse_over(struct parser *p, struct window **out); /* after the opening parenthesis */
MUST_CHECK enum err_code parse_query(struct parser *p, struct query **out);
MUST_CHECK enum err_code parse_name(struct parser *p, slice *out);
MUST_CHECK enum err_code parse_type(struct parser *p, struct dtype *out);
bool parse_starts_query(struct parser *p, size_t ahead);
bool parse_reserved(slice word);
struct expr *expr_new(struct arena *a, enum expr_kind kind);
void expr_arg(struct arena *a, struct expr *e, struct expr *arg);
struct expr *expr_func(struct arena *a, const char *name);
struct expr *expr_str(struct arena *a, slice text);
struct expr *expr_int(struct arena *a, int64_t value);
bool interval_parse(slice text, const char *unit, int32_t *months, int32_t *days, int64_t *nanos);
bool arrow_type_parse(slice text, struct arena *a, struct dtype *out);
void arrow_type_print(const struct dtype *t, struct buf *out);
static inline bool slice_is(slice s, const char *text)
{
    return slice_eq(s, slice_str(text));
}
