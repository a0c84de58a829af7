/* gate.h: the SQL gate. Text in the dialect of DataFusion 53 in, text for DuckDB 1.5.5 out that reads nothing but the streams it
 * names.
 *
 * The statement is parsed by our own parser for the users' dialect (dialect_parse.c), not by the engine's: the engine's AST has
 * already lost which identifiers were quoted, how a CASE was written and what `~` or 1.5 mean to the user. Names and types
 * are resolved against the streams' columns (gate_resolve.c), and a printer (dialect_print*.c) writes new text of which every
 * identifier is generated or a column's bound name, every literal is quoted by us, and every function comes from one table
 * (dialect_func.c). So nothing of the user's text reaches the engine but values. As a second, independent wall the engine
 * parses that text (engine_parse) and gate_verify.c walks its AST with an allowlist: a node, a function or a table that is
 * not on it is refused, whatever the nesting.
 *
 * INVARIANTS
 *   G1  Every table reference of `sql` is a CTE of the statement, a subquery, or `s<i>` for a stream i of `streams` (binding makes
 *       these names, as tables, views or CTEs put in front); every function is on the allowlist; there is one SELECT statement.
 *   G2  A column is exact: bound names of one stream differ even when case is folded, as the engine folds it.
 *   G3  Stream columns of type TIMESTAMP are expected as TIMESTAMPTZ, the engine's zone as UTC.
 * ERRORS  ERR_INVALID: the message is a complete body of a 400 answer. THREADS  any, one engine each. */
#pragma once
#include "base/arena.h"
#include "base/err.h"
#include "batch/schema.h"

struct engine;

#define GATE_SQL_BYTES_MAX (256u << 10) /* of a statement: far beyond what people and consoles write */

struct gate_column { /* of a stream, for name resolution and naming of outputs */
    slice name;
    struct type type;
};
struct gate_range {        /* rows outside can not matter to the result: top-level AND-ed comparisons with constants */
    slice column;          /* as users know it */
    bool has_min, has_max; /* both ends inclusive */
    struct type type;      /* of the column: which of the pairs below counts */
    int64_t imin, imax;    /* TIMESTAMP: microseconds; DATE32: days; INT64; BOOL */
    double fmin, fmax;     /* FLOAT64 */
    slice smin, smax;      /* UTF8 */
};
struct gate_used { /* one column that the statement reads */
    slice name;    /* as users know it */
    slice bound;   /* what `sql` calls it: differs from `name` where another column differs only in case */
    struct type type;
};
struct gate_stream {
    slice name;     /* as users know it */
    char alias[16]; /* "s0": what stands in the SQL */
    struct gate_range *ranges;
    size_t ranges_count;
    struct gate_used *used; /* * is expanded; may be empty: SELECT count(*) */
    size_t used_count;
    unsigned references; /* how often the SQL names it: ranges hold for all of them */
};
enum gate_show { /* what an answer's writer can not see from the engine's types */
                 GATE_SHOW_PLAIN,
                 GATE_SHOW_DURATION, /* an INTERVAL that is a difference of timestamps: ISO 8601, PT930.25S */
};
struct gate_name {
    slice name; /* as DataFusion gives it */
    enum gate_show show;
};
struct gate_output {
    struct arena arena; /* owns everything below */
    slice sql;
    struct gate_stream *streams; /* one for each distinct name */
    size_t streams_count;
    struct gate_name *names; /* of the columns of the answer, by position; of EXPLAIN: plan_type, plan */
    size_t names_count;
    bool newest_first;     /* no ORDER BY at the top: implicit order wanted */
    bool top_n;            /* one stream, ORDER BY p_timestamp DESC LIMIT n at the top */
    bool scan;             /* one stream, a row of the answer for each row in the bounds of p_timestamp: no other
                              condition, nothing computed of several rows */
    bool rows;             /* as scan, but with any condition that needs no other row */
    uint64_t rows_max;     /* of the answer: the top-level LIMIT; UINT64_MAX: none */
    uint64_t limit;        /* rows that the top-level LIMIT and OFFSET ask for together; UINT64_MAX: none */
    bool explain, analyze; /* sql has no EXPLAIN: put "EXPLAIN " or "EXPLAIN ANALYZE " before what is run */
    bool describe;         /* sql gives the rows itself, no stream is read */
    bool count_star;       /* exactly SELECT count(*) FROM one stream [AS alias], maybe with p_timestamp bounds only */
};
struct gate_env {
    /* Columns of a stream by name; false: no such stream (or none that the user may read). Arena owns what it returns. */
    bool (*lookup)(void *arg, slice stream, struct arena *arena, struct gate_column **columns, size_t *count);
    void *arg;
    int64_t now_us; /* what now() is in this statement */
};
/* `e` parses only; NULL leaves out the second wall (tests of the first). */
MUST_CHECK enum err_code gate_check(struct engine *e, slice sql, const struct gate_env *env, struct gate_output *out,
                                    struct err *err);
void gate_done(struct gate_output *out);

/* The second wall by itself: ERR_INVALID unless `json`, the engine's AST of a statement, is a SELECT of allowlisted nodes,
 * functions and tables s0 .. s<streams-1>. */
MUST_CHECK enum err_code gate_verify(slice json, size_t streams, struct err *err);
