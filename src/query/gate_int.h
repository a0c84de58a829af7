/* gate_int.h: what the files of the gate share: relations and scopes while names are resolved, the table of functions, the printer. */
#pragma once
#include "query/dialect_ast.h"

struct relcol {
    slice name, qual; /* as users know them; qual as DataFusion prints it: app, public.app, an alias */
    slice table;      /* last part of qual: what a qualified reference must match */
    slice bound;      /* in the engine's SQL */
    struct dtype type;
    bool bare;    /* TIMESTAMPTZ in the engine */
    bool hidden;  /* the right side of USING: only a qualified reference finds it */
    size_t field; /* of a stream: index in its columns */
};
struct rel {       /* something in FROM */
    char emit[16]; /* r0: its alias in the engine's SQL */
    struct relcol *cols;
    size_t cols_count, cols_cap;
    struct source *source;     /* of a stream, or NULL */
    struct cte_env *cte;       /* of a CTE, or NULL */
    bool nullable;             /* on the outer side of a join: its p_timestamp may be null */
    struct gate_range *ranges; /* what WHERE says of its columns */
    size_t ranges_count, ranges_cap;
};
struct source { /* a stream that the statement names */
    slice name;
    struct gate_column *columns; /* sorted by name */
    slice *bound;
    bool *used;
    size_t count;
    unsigned references;
    struct gate_range *ranges;
    size_t ranges_count, ranges_cap;
};
struct cte_env {
    struct cte *cte;
    struct outcol *out;
    size_t out_count;
    struct cte_env *next;
};
struct scope {
    struct rel **rels;
    size_t rels_count, rels_cap;
    struct scope *parent;
};
enum alias_mode { ALIAS_NONE, ALIAS_LAST, ALIAS_FIRST }; /* ALIAS_LAST: GROUP BY, HAVING; ALIAS_FIRST: ORDER BY */
struct gate {
    struct arena *arena;
    const struct gate_env *env;
    struct err *err;
    struct rel **source_rels; /* every reference to a stream */
    size_t source_rels_count, source_rels_cap;
    struct source **sources;
    size_t sources_count, sources_cap;
    struct cte_env *ctes;
    unsigned rels, cte_names;
    unsigned depth;
    struct select *alias_select; /* whose aliases an expression may name */
    enum alias_mode alias_mode;
};

/* ---- gate_resolve.c, gate_resolve_expr.c */
MUST_CHECK enum err_code gate_resolve_query(struct gate *g, struct query *q, struct scope *parent);
MUST_CHECK enum err_code gate_resolve_expr(struct gate *g, struct expr *e, struct scope *scope);
MUST_CHECK enum err_code gate_resolve_sorts(struct gate *g, struct sort *s, size_t count, struct scope *scope);
struct dtype gate_type(struct type t);
MUST_CHECK enum err_code gate_unknown_column(struct gate *g, const struct expr *e, struct scope *scope);
/* The stream, looked up once for a statement; NULL: there is none. */
struct source *gate_source(struct gate *g, slice name);
bool expr_is_constant(const struct expr *e); /* no column, subquery, aggregate or volatile function in it */
bool expr_time_value(const struct gate *g, const struct expr *e, int64_t *us); /* a constant instant, in microseconds */

/* ---- gate.c: bounds of columns from a WHERE; true when it is nothing but bounds of p_timestamp */
bool gate_bounds(struct gate *g, const struct expr *e, const struct scope *scope);

/* ---- dialect_name.c: DataFusion's name of an expression (schema_name) */
void dialect_name(const struct expr *e, struct buf *out);

/* ---- dialect_func*.c */
enum func_kind { F_SCALAR, F_AGGREGATE, F_WINDOW };
enum ret { /* type of a function's result */
           R_UNKNOWN,
           R_BOOL,
           R_I32,
           R_I64,
           R_U64,
           R_F64,
           R_UTF8,
           R_BINARY,
           R_ARG1,
           R_ARG2,
           R_COMMON,
           R_LIST1,
           R_ITEM1,
           R_NUM,
           R_SUM,
           R_TS_S,
           R_TS_MS,
           R_TS_US,
           R_TS_NS,
           R_DATE,
           R_TIME,
           R_STRUCT,
           R_MAP,
           R_LIST_UTF8,
           R_CAST,
           R_TRUNC,
           R_LIST_COMMON,
};
struct printer;
typedef enum err_code (*func_print_fn)(struct printer *p, const struct expr *e);
struct func {
    const char *name;
    uint8_t kind, min, max; /* max 255: any number */
    uint8_t ret;
    const char *
        emit; /* template: $1 an argument, $t1 as text, $f1 as DOUBLE, $s1 as INTEGER, $i1 as BIGINT, $* all; aggregates: name */
    func_print_fn print; /* instead of a template */
};
const struct func *func_find(slice name);
extern const struct func func_scalars[], func_aggregates[], func_special[];
extern const size_t func_scalars_count, func_aggregates_count, func_special_count;
struct dtype func_type(struct arena *a, const struct func *f, const struct expr *e);
struct dtype type_common(struct dtype a, struct dtype b); /* of CASE branches, COALESCE, UNION */

/* ---- dialect_print*.c: the engine's SQL */
struct printer {
    struct buf *out;
    struct gate *g;
    struct err *err;
    bool explain;
};
MUST_CHECK enum err_code print_query(struct printer *p, const struct query *q);
MUST_CHECK enum err_code print_expr(struct printer *p,
                                    const struct expr *e); /* TIMESTAMP where users see a timestamp */
MUST_CHECK enum err_code print_bare(struct printer *p,
                                    const struct expr *e); /* a plain stream column stays TIMESTAMPTZ */
MUST_CHECK enum err_code print_text(struct printer *p, const struct expr *e); /* as DataFusion casts it to text */
MUST_CHECK enum err_code print_as(struct printer *p, const struct expr *e, const char *type); /* CAST(e AS type) */
MUST_CHECK enum err_code print_template(struct printer *p, const struct expr *e, const char *form);
MUST_CHECK enum err_code print_call(struct printer *p, const struct expr *e);
MUST_CHECK enum err_code print_sorts(struct printer *p, const struct sort *s, size_t count);
MUST_CHECK enum err_code print_cast(struct printer *p, const struct expr *e);
void print_string(struct printer *p, slice text);
void print_ident(struct printer *p, slice name);
void print_type(struct printer *p, const struct dtype *t);
bool expr_is_bare(const struct expr *e);
static inline bool is_number(const struct dtype *t)
{
    return t->kind == D_INT || t->kind == D_UINT || t->kind == D_FLOAT || t->kind == D_DECIMAL;
}
static inline bool is_integer(const struct dtype *t)
{
    return t->kind == D_INT || t->kind == D_UINT;
}
enum err_code gate_invalid(struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 2, 3))); /* "Datafusion Error: Error during planning: ..." */
