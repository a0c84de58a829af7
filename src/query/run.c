/* run.c: a statement from its text to the last byte of its answer. */
#include <stdio.h>

#include "base/log.h"
#include "query/query_int.h"
#include "query/writer.h"

#include "base/banned.h"

#define FLUSH_BYTES (64u << 10) /* an answer goes to the sink in pieces of about this size */

/* ---- what the gate may see */

bool lookup_stream(void *arg, slice stream, struct arena *arena, struct gate_column **columns, size_t *count)
{
    struct lookup *l = arg;
    _cleanup_(stream_version_unrefp) struct stream_version *version = NULL;
    _cleanup_(schema_unrefp) struct schema *schema = NULL;

    if (l->only.ptr && !slice_eq(l->only, stream))
        return false;
    if (l->may_read && !l->may_read(l->may_read_arg, stream)) {
        if (!l->denied[0])
            (void)snprintf(l->denied, sizeof(l->denied), SLICE_FMT,
                           SLICE_ARG(slice_head(stream, sizeof(l->denied) - 1)));
        return false;
    }
    struct err err = {0};
    enum err_code rc = lake_stream(l->pool->lake, stream, &version, &schema, &err);
    if (rc != ERR_OK) {
        if (rc != ERR_NOT_FOUND && l->fault.code == ERR_OK)
            l->fault = err;
        return false;
    }
    uint32_t n = schema_count(schema);
    *columns = arena_alloc(arena, (n + 1 + l->more_count) * sizeof(**columns));
    *count = 0;
    for (uint32_t i = 0; i < n; i++)
        (*columns)[(*count)++] =
            (struct gate_column){arena_copy(arena, schema_field(schema, i)->name), schema_field(schema, i)->type};
    if (l->row_id.ptr)
        (*columns)[(*count)++] = (struct gate_column){l->row_id, {TYPE_INT64, TYPE_NULL}};
    for (size_t i = 0; i < l->more_count; i++)
        (*columns)[(*count)++] = l->more[i];
    return true;
}

/* ---- execution */

struct attempt {
    struct execution *x;
    struct engine_slot *slot;
    struct binding binding;
    bool again, begun;
};

/* The engine's words for a fault of the statement, without the SQL that we wrote. */
static enum err_code words(enum err_code rc, struct err *err)
{
    if (rc == ERR_INVALID && !slice_starts(slice_str(err->msg), slice_lit("Datafusion Error: "))) {
        char *cut = strstr(err->msg, "\n\nLINE ");
        if (cut)
            *cut = 0;
        return err_wrap(err, "Execution Error");
    }
    return rc;
}

static enum err_code fetch(struct attempt *a, struct engine_result *r, struct err *err)
{
    struct execution *x = a->x;
    const struct engine_field *fields;
    const struct engine_chunk *chunk;
    uint32_t n = engine_result_fields(r, &fields);
    enum err_code rc = engine_result_next(r, &chunk, err);

    if (rc != ERR_OK)
        return damage_find(x->running, &a->binding, a->again, rc, err);
    a->begun = true;
    if (a->binding.skipped.len && x->skipped)
        x->skipped(x->skipped_arg, buf_view(&a->binding.skipped));
    TRY(x->rows(x->arg, fields, n, NULL, err));
    while (chunk) {
        TRY(x->rows(x->arg, fields, n, chunk, err));
        rc = engine_result_next(r, &chunk, err);
        if (rc != ERR_OK)
            return damage_find(x->running, &a->binding, a->again, rc, err);
    }
    return ERR_OK;
}

/* May the newest rows be looked for in windows (bind.c)? Not where rows of the answer depend on others, and not for long answers, which are kept
 * until it is known that they are whole. */
#define WINDOW_LIMIT_MAX 10000u

static bool in_windows(const struct execution *x)
{
    const struct gate_output *g = x->gate;

    return g->rows && !g->scan && !g->explain && (g->top_n || g->newest_first) && g->streams_count == 1 &&
           g->rows_max > 0 && g->limit <= WINDOW_LIMIT_MAX && !x->bind.bins && !x->bind.row_before;
}

/* *more: the window does not hold the answer; nothing was given to rows(). */
static enum err_code bound_run(struct attempt *a, bool *more, struct err *err)
{
    struct execution *x = a->x;
    struct engine_result *result = NULL;
    const struct engine_query q = {.sql = buf_cstr(&a->binding.sql),
                                   .files = a->binding.reads,
                                   .files_count = a->binding.reads_count,
                                   .timeout_us = pool_time_left(x->running),
                                   .materialize = a->binding.older,
                                   .stop = &x->running->stop};

    metric_add(x->pool->m_files, (double)a->binding.files);
    x->files += a->binding.files;
    x->file_bytes += a->binding.file_bytes;
    TRY(damage_verify(x->running, &a->binding, err));
    enum err_code rc = engine_run(a->slot->engine, &q, &result, err);
    *more = rc == ERR_OK && a->binding.older && engine_result_rows(result) < x->gate->rows_max;
    if (rc != ERR_OK)
        rc = damage_find(x->running, &a->binding, a->again, rc, err);
    else if (!*more)
        rc = fetch(a, result, err);
    engine_result_free(result);
    return rc;
}

static enum err_code attempt_run(struct attempt *a, struct err *err)
{
    struct execution *x = a->x;
    bool windows = in_windows(x), more = true;
    enum err_code rc = ERR_OK;

    x->files = x->file_bytes = 0;
    x->bind.running = x->running;
    for (x->bind.window = windows; rc == ERR_OK && more; x->bind.window++) {
        TRY(bind_streams(x->pool, a->slot->engine, x->gate, &x->bind, &a->binding, err));
        more = false;
        rc = bound_run(a, &more, err);
        binding_done(&a->binding);
    }
    return words(rc, err);
}

/* With the files that the store has now: another node may have merged those that are gone. */
static enum err_code attempt_again(struct attempt *a, struct err *err)
{
    struct execution *x = a->x;

    for (size_t i = 0; i < x->gate->streams_count; i++) {
        enum err_code rc = lake_refresh(x->pool->lake, x->gate->streams[i].name, err);
        if (rc != ERR_OK && rc != ERR_NOT_FOUND) /* deleted: binding says so */
            return rc;
    }
    a->again = true;
    x->bind.cold = true; /* a second damaged copy must not cost a third attempt */
    return attempt_run(a, err);
}

enum err_code execute(struct execution *x, struct err *err)
{
    struct attempt a = {.x = x};

    TRY(pool_lease(x->pool, x->running, x->light, &a.slot, err));
    enum err_code rc = attempt_run(&a, err);
    if (rc == ERR_NOT_FOUND && !a.begun && !engine_broken(a.slot->engine))
        rc = attempt_again(&a, err);
    pool_release(x->pool, x->running, a.slot);
    return rc;
}

/* ---- query_run */

struct answer {
    const struct query_request *req;
    const struct query_sink *sink;
    struct query_pool *pool;
    struct running *running;
    struct writer_options writer_options;
    struct writer *writer;
    bool explain;
    struct buf out;
    uint64_t bytes;
};

static enum err_code answer_flush(struct answer *a, struct err *err)
{
    if (a->out.len == 0)
        return ERR_OK;
    a->bytes += a->out.len;
    enum err_code rc = a->sink->data(a->sink->arg, buf_view(&a->out), err);
    a->out.len = 0;
    return rc;
}

/* Rows of EXPLAIN: kind and drawing, both text. */
static enum err_code answer_explain(struct answer *a, const struct engine_chunk *chunk, struct err *err)
{
    _cleanup_(buf_done) struct buf text = BUF_INIT;

    for (uint64_t i = 0; i < chunk->rows; i++) {
        struct text kind = ((const struct text *)chunk->columns[0].data)[i], plan;
        text.len = 0;
        explain_clean(text_slice((const struct text *)chunk->columns[1].data + i), &text);
        plan = text_of(buf_view(&text));
        struct engine_vector columns[] = {{.data = &kind, .size = 1}, {.data = &plan, .size = 1}};
        const struct engine_chunk row = {1, columns};
        TRY(writer_chunk(a->writer, &row, &a->out, err));
    }
    return ERR_OK;
}

static enum err_code answer_rows(void *arg, const struct engine_field *fields, uint32_t count,
                                 const struct engine_chunk *chunk, struct err *err)
{
    struct answer *a = arg;

    if (!chunk) {
        if (count != a->writer_options.names_count)
            return err_set(err, ERR_UNKNOWN, "the engine answered with %u columns, the gate named %zu", count,
                           a->writer_options.names_count);
        TRY(writer_new(&a->writer_options, fields, count, &a->writer, err));
        TRY(a->sink->begin(a->sink->arg, a->running->id, writer_content_type(&a->writer_options), err));
        writer_begin(a->writer, &a->out);
        return ERR_OK;
    }
    for (uint64_t row = 0, from = 0; row < chunk->rows; from = row) { /* long rows: in pieces */
        if (a->explain) {
            TRY(answer_explain(a, chunk, err));
            row = chunk->rows;
        } else {
            TRY(writer_rows(a->writer, chunk, &row, &a->out, err));
        }
        (void)atomic_fetch_add(&a->running->rows, row - from);
        if (atomic_load(&a->running->stop))
            return err_set(err, ERR_CANCELLED, "the query was cancelled");
        if (a->req->batches || a->req->format == QUERY_ARROW || a->out.len >= FLUSH_BYTES)
            TRY(answer_flush(a, err));
    }
    return ERR_OK;
}

static void answer_skipped(void *arg, slice keys)
{
    struct answer *a = arg;

    if (a->sink->note)
        a->sink->note(a->sink->arg, keys);
}

static enum err_code answer_run(struct answer *a, struct err *err)
{
    const struct query_request *req = a->req;
    struct lookup lookup = {.pool = a->pool, .may_read = req->may_read, .may_read_arg = req->may_read_arg};
    struct gate_env env = {.lookup = lookup_stream, .arg = &lookup, .now_us = a->running->started_wall_us};
    _cleanup_(gate_done) struct gate_output gate = {0};
    struct execution x = {.pool = a->pool,
                          .running = a->running,
                          .gate = &gate,
                          .rows = answer_rows,
                          .arg = a,
                          .skipped = answer_skipped,
                          .skipped_arg = a};

    TRY(query_range(req->start, req->end, env.now_us, &x.bind.from_us, &x.bind.to_us, err));
    if (slice_eq(req->end, slice_lit("now"))) /* what was acknowledged is visible, whatever the clock did since */
        x.bind.to_us = INT64_MAX;
    if (slice_trim(req->sql).len == 0)
        return err_set(err, ERR_INVALID, "Error: the query is empty");
    enum err_code rc = pool_gate(a->pool, req->sql, &env, &gate, err);
    if (rc != ERR_OK && lookup.denied[0])
        return err_set(err, ERR_INVALID, "Error: User does not have access to stream- %s", lookup.denied);
    if (rc != ERR_OK && lookup.fault.code != ERR_OK)
        *err = lookup.fault;
    TRY(rc == ERR_OK ? rc : err->code);
    a->writer_options = (struct writer_options){.format = req->format,
                                                .fields = req->fields,
                                                .send_null = req->send_null,
                                                .batches = req->batches,
                                                .names = gate.names,
                                                .names_count = gate.names_count};
    a->explain = gate.explain;
    TRY(execute(&x, err));
    writer_end(a->writer, &a->out);
    return answer_flush(a, err);
}

static void account(struct answer *a, enum err_code rc)
{
    struct query_pool *pool = a->pool;

    metric_add(pool->m_queries[rc == ERR_OK ? 0 : rc == ERR_CANCELLED ? 2 : 1], 1);
    metric_observe(pool->m_seconds, (double)(os_mono_us(os_real()) - a->running->started_us) / 1e6);
    metric_add(pool->m_rows, (double)atomic_load(&a->running->rows));
    metric_add(pool->m_bytes, (double)a->bytes);
}

enum err_code query_run(struct query_pool *pool, const struct query_request *req, const struct query_sink *sink,
                        struct err *err)
{
    struct answer a = {.req = req, .sink = sink, .pool = pool};
    struct err local = {0};

    err = err ? err : &local;
    a.running = running_add(pool, req->id, req->user, req->sql);
    if (sink->running)
        sink->running(sink->arg, &a.running->stop);
    enum err_code rc = answer_run(&a, err);
    account(&a, rc);
    writer_free(a.writer);
    buf_done(&a.out);
    running_del(pool, a.running);
    return rc;
}
