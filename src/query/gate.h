/* gate.h: the SQL gate. Text in the dialect of DataFusion 53 -> text for DuckDB 1.5.5 that reads nothing but the streams it
 * names. Works on the AST (engine_parse / engine_deparse): whatever the nesting, a node that is not on the allowlist is refused.
 *
 * INVARIANT  every table reference of `sql` afterwards is a CTE of the statement, a subquery, or `s<i>` for a stream i of
 *   `streams` (binding makes these names); every function is on the allowlist; there is one statement, a SELECT.
 * ERRORS  ERR_INVALID with the refused construct in the message. THREADS  any, one engine each. */
#pragma once
#include "base/arena.h"
#include "engine/engine.h"

struct gate_column { /* of a stream, for name resolution and naming of outputs */
    slice name;
    struct type type;
};
struct gate_range { /* rows outside can not matter to the result: top-level AND-ed comparisons with constants */
    slice column;
    bool has_min, has_max;
    struct type type;        /* of the constant */
    int64_t imin, imax;      /* timestamps, integers */
    double fmin, fmax;
    slice smin, smax;
};
struct gate_stream {
    slice name;              /* as users know it */
    char alias[16];          /* "s0": what stands in the SQL */
    struct gate_range *ranges;
    size_t ranges_count;
    slice *columns_used;     /* names; NULL and all=true for SELECT * */
    size_t columns_used_count;
    bool all;
};
struct gate_output {
    struct arena arena;      /* owns everything below */
    slice sql;
    struct gate_stream *streams; /* one for each reference's name (distinct names) */
    size_t streams_count;
    slice *names;            /* column names as DataFusion gives them; NULL when they are known only after binding (SELECT *) */
    size_t names_count;
    bool newest_first;       /* no ORDER BY at the top: implicit order wanted */
    bool top_n;              /* ORDER BY p_timestamp DESC LIMIT n at the top */
    uint64_t limit;          /* UINT64_MAX: none */
    bool explain, describe;
    bool count_star;         /* exactly SELECT count(*) FROM one stream [AS alias], maybe with p_timestamp bounds only */
};
/* Columns of a stream by name; false: no such stream (or none that the user may read). Arena owns what it returns. */
typedef bool (*gate_lookup_fn)(void *arg, slice stream, struct arena *arena, struct gate_column **columns, size_t *count);
MUST_CHECK enum err_code gate_check(struct engine *e, slice sql, gate_lookup_fn lookup, void *arg, struct gate_output *out, struct err *err);
void gate_done(struct gate_output *out);
