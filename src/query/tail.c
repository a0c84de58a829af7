/* tail.c: rows of a stream after a row id, oldest first. The statement is made in the users' dialect, with the row id as one more column, and goes
 * through the gate as any other: so a condition means what it means in a query, and reads nothing else. */
#include "query/tail.h"
#include "query/query_int.h"
#include "query/writer.h"

#include "base/banned.h"

struct tail {
    struct query_pool *pool;
    struct arena arena;
    struct running *running;
    slice stream, row_id;
    struct gate_column *columns;
    size_t columns_count;
    uint32_t limit;
    uint64_t rows, last_id;
    struct gate_column *unknown; /* named by the condition, in no row so far */
    size_t unknown_count, unknown_cap;
    query_tail_fn fn;
    query_tail_note_fn note;
    void *arg;
    struct writer *writer;
    struct writer_options options;
    struct engine_field *fields; /* without the row id */
    struct buf json;
};

/* A name that no column has. */
static slice row_id_name(struct tail *t)
{
    slice name = slice_lit(ROW_ID_NAME);

    for (unsigned k = 0;; k++) {
        bool taken = false;
        for (size_t i = 0; i < t->columns_count; i++)
            taken |= slice_eq_nocase(t->columns[i].name, name);
        if (!taken)
            return name;
        name = slice_str(arena_fmt(&t->arena, ROW_ID_NAME "%u", k));
    }
}

static int by_name(const void *a, const void *b)
{
    return slice_cmp(((const struct gate_column *)a)->name, ((const struct gate_column *)b)->name);
}

static bool column_known(const struct tail *t, slice name)
{
    for (size_t i = 0; i < t->columns_count; i++)
        if (slice_eq(t->columns[i].name, name))
            return true;
    for (size_t i = 0; i < t->unknown_count; i++)
        if (slice_eq(t->unknown[i].name, name))
            return true;
    return false;
}

/* A follower may be there before the first row that has what it asks for: until then the column is null, as in the rows without it. */
static void unknown_find(struct tail *t, const struct expr *e)
{
    if (e->kind == E_COLUMN && e->path_count && !column_known(t, e->path[e->path_count - 1]))
        *APUSH(&t->arena, t->unknown, t->unknown_count, t->unknown_cap) =
            (struct gate_column){e->path[e->path_count - 1], {TYPE_UTF8, TYPE_NULL}};
    for (size_t i = 0; i < e->args_count; i++)
        unknown_find(t, e->args[i]);
}

/* A condition must be one expression: what closes a parenthesis it did not open, or begins another clause, is none. */
static enum err_code check_where(struct tail *t, slice where, struct err *err)
{
    struct buf sql = BUF_INIT;
    struct statement st;

    buf_str(&sql, "SELECT 1 WHERE ");
    buf_slice(&sql, where);
    slice text = arena_copy(&t->arena, buf_view(&sql));
    buf_done(&sql);
    TRY(dialect_parse(text, &t->arena, &st, err));
    const struct query *q = st.query;
    if (st.kind != ST_QUERY || st.explain || q->order_count || q->limit || q->offset || q->body->kind != Q_SELECT ||
        !q->body->select->where || q->body->select->group_count || q->body->select->group_all ||
        q->body->select->having || q->body->select->qualify || q->body->select->windows_count)
        return err_set(err, ERR_INVALID, "Error: where must be one condition");
    unknown_find(t, q->body->select->where);
    return ERR_OK;
}

static enum err_code statement_make(struct tail *t, slice where, struct buf *sql, struct err *err)
{
    buf_str(sql, "SELECT ");
    engine_ident(sql, t->row_id);
    for (size_t i = 0; i < t->columns_count; i++) {
        buf_str(sql, ", ");
        engine_ident(sql, t->columns[i].name);
    }
    buf_str(sql, " FROM ");
    engine_ident(sql, t->stream);
    if (where.len) {
        TRY(check_where(t, where, err));
        buf_str(sql, " WHERE (");
        buf_slice(sql, where);
        buf_str(sql, "\n)"); /* a comment ends here */
    }
    buf_str(sql, " ORDER BY ");
    engine_ident(sql, t->row_id);
    buf_fmt(sql, " LIMIT %u", t->limit);
    return ERR_OK;
}

static enum err_code take_rows(void *arg, const struct engine_field *fields, uint32_t count,
                               const struct engine_chunk *chunk, struct err *err)
{
    struct tail *t = arg;

    if (!chunk)
        return writer_new(&t->options, fields + 1, count - 1, &t->writer, err);
    struct engine_chunk rest = {chunk->rows, chunk->columns + 1};
    for (uint64_t i = 0; i < chunk->rows; i++) {
        t->json.len = 0;
        writer_row(t->writer, &rest, i, &t->json);
        t->last_id = (uint64_t)((const int64_t *)chunk->columns[0].data)[i];
        t->rows++;
        TRY(t->fn(t->arg, t->last_id, buf_view(&t->json), err));
    }
    return ERR_OK;
}

static void take_skipped(void *arg, slice keys)
{
    struct tail *t = arg;

    if (t->note)
        t->note(t->arg, keys);
}

static bool has_own_columns(const struct tail *t)
{
    for (size_t i = 0; i < t->columns_count; i++)
        if (!slice_starts(t->columns[i].name, slice_lit("p_")))
            return true;
    return false;
}

/* Through the gate. `strict`: columns that the stream lacks are a fault. */
static enum err_code tail_gate(struct tail *t, slice where, bool strict, struct gate_output *out, struct err *err)
{
    struct lookup lookup = {.pool = t->pool};
    const struct gate_env env = {.lookup = lookup_stream, .arg = &lookup, .now_us = t->running->started_wall_us};
    _cleanup_(buf_done) struct buf sql = BUF_INIT;

    if (!lookup_stream(&lookup, t->stream, &t->arena, &t->columns, &t->columns_count)) {
        if (lookup.fault.code != ERR_OK) {
            *err = lookup.fault;
            return err->code;
        }
        return err_set(err, ERR_NOT_FOUND, "Stream not found: " SLICE_FMT, SLICE_ARG(slice_head(t->stream, 300)));
    }
    qsort(t->columns, t->columns_count, sizeof(*t->columns), by_name);
    lookup.only = t->stream;
    lookup.row_id = t->row_id = row_id_name(t);
    TRY(statement_make(t, where, &sql, err));
    if (!strict || !has_own_columns(t)) {
        lookup.more = t->unknown;
        lookup.more_count = t->unknown_count;
    }
    return pool_gate(t->pool, buf_view(&sql), &env, out, err);
}

static enum err_code tail_run(struct tail *t, slice where, bool strict, uint64_t after, uint64_t horizon,
                              struct err *err)
{
    _cleanup_(gate_done) struct gate_output gate = {0};

    TRY(tail_gate(t, where, strict, &gate, err));
    t->options =
        (struct writer_options){.format = QUERY_NDJSON, .names = gate.names + 1, .names_count = gate.names_count - 1};
    struct execution x = {
        .pool = t->pool,
        .running = t->running,
        .gate = &gate,
        .bind =
            {.from_us = INT64_MIN, .to_us = INT64_MAX, .row_after = after, .row_before = horizon, .row_id = t->row_id},
        .light = true,
        .rows = take_rows,
        .arg = t,
        .skipped = take_skipped,
        .skipped_arg = t,
    };
    return execute(&x, err);
}

static void tail_begin(struct tail *t)
{
    t->running = running_add(t->pool, (slice){NULL, 0}, (slice){NULL, 0}, slice_lit("tail"));
}

static void tail_end(struct tail *t)
{
    running_del(t->pool, t->running);
    writer_free(t->writer);
    buf_done(&t->json);
    arena_done(&t->arena);
}

enum err_code query_tail_check(struct query_pool *pool, slice stream, slice where, struct err *err)
{
    struct tail t = {.pool = pool, .stream = stream, .limit = 1};
    struct err local = {0};

    tail_begin(&t); /* the engine has its say too, on no rows: ids begin far above */
    enum err_code rc = tail_run(&t, slice_trim(where), true, 0, 1, err ? err : &local);
    tail_end(&t);
    return rc;
}

enum err_code query_tail(struct query_pool *pool, slice stream, slice where, uint64_t after, uint64_t horizon,
                         uint32_t limit, query_tail_fn fn, query_tail_note_fn note, void *arg, uint64_t *last,
                         struct err *err)
{
    struct tail t = {.pool = pool, .stream = stream, .limit = limit, .fn = fn, .note = note, .arg = arg};
    struct err local = {0};

    tail_begin(&t);
    enum err_code rc = tail_run(&t, slice_trim(where), false, after, MAX(horizon, 1), err ? err : &local);
    if (rc == ERR_OK)
        *last = t.rows < limit ? MAX(after, MAX(horizon, 1) - 1) : t.last_id;
    tail_end(&t);
    return rc;
}
