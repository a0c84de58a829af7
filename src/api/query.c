/* query.c: POST /query, POST /counts, running queries (contract 5). */
#include <stdio.h>

#include "api/api_int.h"
#include "base/timetext.h"
#include "base/ulid.h"

#define HELD_BYTES_MAX (256u << 10) /* an answer up to this size is sent whole, with its length and a right status */

struct job {
    struct request *r;
    struct query_request q;
    struct chunked *stream;
    const atomic_bool *stop; /* the query is cancelled */
    bool streaming;          /* asked for by the client: no holding back */
    struct buf held;
    char content_type[64];
    struct watched watched;
};

/* ---- what is asked */

/* URL parameters take true or false; one that is neither voids all of them (contract 5.1). */
struct url_flags {
    bool fields, streaming, send_null, bad;
};

static enum MHD_Result url_flag(void *arg, enum MHD_ValueKind kind, const char *key, const char *value)
{
    struct url_flags *f = arg;
    bool *flag = strcmp(key, "fields") == 0      ? &f->fields
                 : strcmp(key, "streaming") == 0 ? &f->streaming
                 : strcmp(key, "sendNull") == 0  ? &f->send_null
                                                 : NULL;
    (void)kind;

    if (!flag)
        return MHD_YES;
    *flag = value && strcmp(value, "true") == 0;
    f->bad |= !value || (!*flag && strcmp(value, "false") != 0);
    return MHD_YES;
}

/* A text member; false: answered. */
static bool text_member(struct request *r, const json_t *o, const char *key, slice *out)
{
    const json_t *v = json_object_get(o, key);

    if (!json_is_string(v)) {
        answer_text(r, 400,
                    v ? "Json deserialize error: `%s` must be a string" : "Json deserialize error: missing field `%s`",
                    key);
        return false;
    }
    *out = arena_copy(&r->arena, slice_of(json_string_value(v), json_string_length(v)));
    return true;
}

static bool flag_member(struct request *r, const json_t *o, const char *key, bool *out)
{
    const json_t *v = json_object_get(o, key);

    if (!v || json_is_null(v))
        return true;
    if (!json_is_boolean(v)) {
        answer_text(r, 400, "Json deserialize error: `%s` must be true or false", key);
        return false;
    }
    *out |= json_is_true(v);
    return true;
}

static bool accepts(slice accept, const char *type)
{
    return accept.len && memmem(accept.ptr, accept.len, type, strlen(type)) != NULL;
}

static void choose_format(struct job *j, const struct url_flags *flags)
{
    slice accept = request_header(j->r, "Accept");

    j->streaming = flags->streaming;
    if (accepts(accept, "application/vnd.apache.arrow.stream")) {
        j->q.format = QUERY_ARROW;
        j->streaming = true;
    } else if (accepts(accept, "text/csv")) {
        j->q.format = QUERY_CSV;
    } else if (accepts(accept, "application/x-ndjson")) {
        j->q.format = QUERY_NDJSON;
    } else if (flags->streaming) {
        j->q.format = QUERY_NDJSON;
        j->q.batches = true;
    }
}

static bool parse(struct job *j)
{
    struct request *r = j->r;
    struct url_flags flags = {0};
    json_error_t fault;
    json_t *o = json_loadb((const char *)r->body.ptr, r->body.len, JSON_ALLOW_NUL, &fault);

    if (!o) {
        answer_text(r, 400, "Json deserialize error: %s at line %d column %d", fault.text, fault.line, fault.column);
        return false;
    }
    bool ok = text_member(r, o, "query", &j->q.sql) && text_member(r, o, "startTime", &j->q.start) &&
              text_member(r, o, "endTime", &j->q.end) && flag_member(r, o, "sendNull", &j->q.send_null) &&
              flag_member(r, o, "fields", &j->q.fields) && flag_member(r, o, "streaming", &flags.streaming);
    json_decref(o);
    if (!ok)
        return false;
    bool body_streaming = flags.streaming;
    flags.streaming = false;
    (void)MHD_get_connection_values(r->conn, MHD_GET_ARGUMENT_KIND, url_flag, &flags);
    if (flags.bad)
        flags = (struct url_flags){0};
    j->q.fields |= flags.fields;
    flags.streaming |= body_streaming;
    j->q.send_null |=
        flags.send_null && !flags.streaming; /* recorded: a streamed answer heeds the body's member only */
    choose_format(j, &flags);
    return true;
}

/* ---- the answer */

static void elapsed(struct request *r)
{
    int64_t us = os_mono_us(os_real()) - r->start_us;

    if (us >= 1000000)
        (void)snprintf(r->answer.elapsed, sizeof(r->answer.elapsed), "%lld.%06llds", (long long)(us / 1000000),
                       (long long)(us % 1000000));
    else
        (void)snprintf(r->answer.elapsed, sizeof(r->answer.elapsed), "%lld.%03lldms", (long long)(us / 1000),
                       (long long)(us % 1000));
}

/* From here on the connection belongs to the network thread: only the stream may be touched. */
static enum err_code start_stream(struct job *j, struct err *err)
{
    struct request *r = j->r;

    r->answer.status = 200;
    r->answer.content_type = arena_str(&r->arena, slice_str(j->content_type));
    elapsed(r);
    j->stream = chunked_new(r, r->answer.content_type, j->stop);
    watch_answering(r->api, &j->watched);
    request_resume(r);
    enum err_code rc = chunked_push(j->stream, buf_view(&j->held), true, err);
    buf_done(&j->held);
    return rc;
}

static void on_running(void *arg, const atomic_bool *stop)
{
    struct job *j = arg;
    j->stop = stop;
}

/* Their names are in the log and in pmeta. */
static void on_note(void *arg, slice skipped)
{
    struct job *j = arg;
    size_t n = 0;

    for (size_t i = 0; i < skipped.len; i++)
        n += skipped.ptr[i] == '\n';
    (void)snprintf(j->r->answer.skipped, sizeof(j->r->answer.skipped), "%zu", n);
}

static enum err_code on_begin(void *arg, const char *query_id, const char *content_type, struct err *err)
{
    struct job *j = arg;
    (void)query_id;
    (void)err;

    (void)snprintf(j->content_type, sizeof(j->content_type), "%s", content_type);
    return ERR_OK;
}

static enum err_code on_data(void *arg, slice bytes, struct err *err)
{
    struct job *j = arg;

    if (j->watched.gone)
        return err_set(err, ERR_CANCELLED, "the client left");
    if (j->stream)
        return chunked_push(j->stream, bytes, j->streaming, err);
    buf_slice(&j->held, bytes);
    return j->streaming || j->held.len > HELD_BYTES_MAX ? start_stream(j, err) : ERR_OK;
}

static void answer_query_err(struct request *r, enum err_code rc, const struct err *err)
{
    switch (rc) {
    case ERR_INVALID:
    case ERR_NOT_FOUND:
    case ERR_DENIED: answer_text(r, 400, "%s", err->msg); break;
    case ERR_UNAVAILABLE: answer_err(r, rc, err); break;
    case ERR_CANCELLED:
        if (atomic_load(&r->api->draining)) { /* by our stop, not by a user: another try, elsewhere, is right */
            answer_err(r, ERR_UNAVAILABLE, err);
            break;
        }
        __attribute__((fallthrough));
    default: answer_text(r, 500, "Execution Error: %s", err->msg);
    }
}

static void own_id(struct request *r)
{
    uint8_t random[10];

    os_real()->ops->random(os_real(), random, sizeof(random));
    struct ulid id = ulid_make(os_wall_us(os_real()) / 1000, random);
    memcpy(r->answer.query_id, id.text, sizeof(id.text));
}

/* An id of the client's choice: letters, digits, '-', '_', '.'; else one of ours. */
static void choose_id(struct request *r)
{
    slice s = request_header(r, "X-Query-Id");
    bool ok = s.len > 0 && s.len < sizeof(r->answer.query_id);

    for (size_t i = 0; ok && i < s.len; i++) {
        uint8_t c = s.ptr[i], l = c | 32;
        ok = (l >= 'a' && l <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
    }
    if (ok) {
        memcpy(r->answer.query_id, s.ptr, s.len);
        r->answer.query_id[s.len] = 0;
        return;
    }
    own_id(r);
}

/* Under an id that no other running query has. */
static void watch_query(struct request *r, char *id, size_t size, struct watched *slot)
{
    choose_id(r);
    for (;;) {
        memcpy(id, r->answer.query_id, size);
        if (watch_add(r, id, slot))
            return;
        own_id(r);
    }
}

/* Contract 9. */
static void account(int64_t began_us)
{
    int64_t now = os_wall_us(os_real());
    char text[TIME_TEXT_MAX], labels[64];

    (void)time_format(text, now);
    (void)snprintf(labels, sizeof(labels), "date=\"%.10s\",tenant_id=\"DEFAULT_TENANT\"", text);
    metric_add(metric_get(METRIC_COUNTER, "parseable_total_query_calls_by_date", "queries", labels), 1);
    metric_observe(metric_get(METRIC_HISTOGRAM, "parseable_query_execute_time", "seconds of a query",
                              "tenant_id=\"DEFAULT_TENANT\""),
                   (double)(os_mono_us(os_real()) - began_us) / 1e6);
}

void handle_query(struct request *r)
{
    struct job j = {.r = r};
    const struct query_sink sink = {
        .running = on_running, .note = on_note, .begin = on_begin, .data = on_data, .arg = &j};
    char id[sizeof(r->answer.query_id)];
    struct err err = {0};

    if (!parse(&j))
        return;
    watch_query(r, id, sizeof(id), &j.watched);
    j.q.id = slice_str(id);
    j.q.user = slice_str(r->user.name);
    int64_t began_us = os_mono_us(os_real());
    enum err_code rc = query_run(r->api->pool, &j.q, &sink, &err);
    watch_del(r->api, &j.watched);
    account(began_us);
    if (j.stream) {
        chunked_end(j.stream, rc == ERR_OK); /* an answer that failed half way is cut, never ended as if whole */
        return;
    }
    elapsed(r);
    if (rc != ERR_OK) {
        answer_query_err(r, rc, &err);
        buf_done(&j.held);
        return;
    }
    r->answer.status = 200;
    r->answer.content_type = arena_str(&r->arena, slice_str(j.content_type));
    buf_done(&r->answer.body);
    r->answer.body = j.held;
}

void handle_counts(struct request *r)
{
    struct watched watched;
    char id[sizeof(r->answer.query_id)];
    struct err err = {0};

    watch_query(r, id, sizeof(id), &watched);
    const struct query_request req = {.id = slice_str(id), .user = slice_str(r->user.name)};
    enum err_code rc = query_counts(r->api->pool, &req, buf_view(&r->body), &r->answer.body, &err);
    watch_del(r->api, &watched);
    if (rc != ERR_OK) {
        answer_query_err(r, rc, &err);
        return;
    }
    r->answer.status = 200;
    r->answer.content_type = "application/json";
}

void handle_queries(struct request *r)
{
    query_list(r->api->pool, slice_str(r->user.name), r->user.root, &r->answer.body);
    r->answer.status = 200;
    r->answer.content_type = "application/json";
}

void handle_query_cancel(struct request *r)
{
    if (query_cancel_id(r->api->pool, r->args[0], slice_str(r->user.name), r->user.root))
        answer_text(r, 200, "query " SLICE_FMT " cancelled", SLICE_ARG(r->args[0]));
    else
        answer_text(r, 404, "no running query " SLICE_FMT, SLICE_ARG(r->args[0]));
}
