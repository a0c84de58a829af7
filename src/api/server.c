/* server.c: libmicrohttpd's callbacks, and a request from its first byte to its last. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "api/api_int.h"
#include "base/log.h"

#define DROP_BYTES_MAX (256u << 20) /* of a refused body: read and dropped, so that the client gets to see its answer */
#define COMPRESS_BYTES_MIN 200
#define HEADER_BYTES_MAX (32u << 10) /* libmicrohttpd clears as much for each request */
#define WORKER_THREADS 4
#define CREATE_THREADS \
    32 /* first requests of streams and changes of them: they wait for the store a dozen times, together as long as one */
/* How long a stop waits for the store on behalf of ack=object: while flushes fail, and at most. */
#define OBJECT_ACK_GRACE_MS 2000
#define OBJECT_ACK_MS_MAX 10000
#define ANSWER_GRACE_MS 2000 /* then, for answers to reach clients that read them */
#define QUERY_THREADS 32
#define QUERY_GRACE_US 5000000 /* for running queries to end at a stop; then they are cancelled */
#define TAIL_THREADS 64        /* followers at one time; the next one hears 503 */

static int64_t now_us(void)
{
    return os_mono_us(os_real());
}

/* ---- small things about requests */

slice request_header(struct request *r, const char *name)
{
    return slice_str(MHD_lookup_connection_value(r->conn, MHD_HEADER_KIND, name));
}

slice request_peer(struct request *r)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(r->conn, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    char text[INET6_ADDRSTRLEN] = "";

    if (info && info->client_addr->sa_family == AF_INET)
        (void)inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)info->client_addr)->sin_addr, text,
                        sizeof(text));
    else if (info && info->client_addr->sa_family == AF_INET6)
        (void)inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)info->client_addr)->sin6_addr, text,
                        sizeof(text));
    return arena_copy(&r->arena, slice_str(text));
}

void api_ingest_enter(struct api *api)
{
    atomic_fetch_add(&api->ingests, 1);
}

void api_ingest_left(struct api *api)
{
    atomic_fetch_sub(&api->ingests, 1);
}

static int hex(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

slice percent_decode(struct arena *arena, slice s, bool plus)
{
    uint8_t *out = arena_alloc(arena, s.len + 1);
    size_t n = 0;

    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '%' && i + 2 < s.len && hex(s.ptr[i + 1]) >= 0 && hex(s.ptr[i + 2]) >= 0) {
            out[n++] = (uint8_t)(hex(s.ptr[i + 1]) << 4 | hex(s.ptr[i + 2]));
            i += 2;
        } else {
            out[n++] = plus && s.ptr[i] == '+' ? ' ' : s.ptr[i];
        }
    }
    out[n] = 0;
    return slice_of(out, n);
}

bool request_param(struct request *r, const char *name, slice *out)
{
    const char *value = NULL;
    size_t len = 0;

    if (MHD_lookup_connection_value_n(r->conn, MHD_GET_ARGUMENT_KIND, name, strlen(name), &value, &len) != MHD_YES)
        return false;
    *out = value ? percent_decode(&r->arena, slice_of(value, len), true) : (slice){NULL, 0};
    return true;
}

/* ---- life */

struct request *request_ref(struct request *r)
{
    atomic_fetch_add(&r->refs, 1);
    return r;
}

static void inflight_add(struct request *r, uint64_t bytes)
{
    r->inflight_bytes += bytes;
    atomic_fetch_add(&r->api->inflight_bytes, bytes);
}

void request_unref(struct request *r)
{
    if (atomic_fetch_sub(&r->refs, 1) != 1)
        return;
    atomic_fetch_sub(&r->api->inflight_bytes, r->inflight_bytes);
    chunked_unref(r->stream);
    buf_done(&r->body);
    buf_done(&r->answer.body);
    arena_done(&r->arena);
    free(r);
}

void request_resume(struct request *r)
{
    MHD_resume_connection(r->conn);
}

static enum method method_of(const char *name)
{
    static const struct {
        const char *name;
        enum method method;
    } names[] = {{"GET", M_GET},   {"POST", M_POST},   {"PUT", M_PUT},        {"DELETE", M_DELETE},
                 {"HEAD", M_HEAD}, {"PATCH", M_PATCH}, {"OPTIONS", M_OPTIONS}};

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(name, names[i].name) == 0)
            return names[i].method;
    return M_OTHER;
}

/* ---- what is decided from the headers alone */

static void refuse(struct request *r)
{
    r->handled = true;
    r->drop_body = true;
    buf_done(&r->body);
    atomic_fetch_sub(&r->api->inflight_bytes, r->inflight_bytes);
    r->inflight_bytes = 0;
}

static void answer_busy(struct request *r)
{
    answer_text(r, 503, "too many requests at once: retry later");
    r->answer.retry_after = "1";
}

struct framing {
    unsigned hosts, lengths, codings;
    bool chunked, bad_name;
};

static enum MHD_Result look_at_framing(void *arg, enum MHD_ValueKind kind, const char *key, const char *value)
{
    struct framing *f = arg;
    slice name = slice_str(key);
    (void)kind;

    for (size_t i = 0; i < name.len; i++)
        f->bad_name |= name.ptr[i] <= ' ' || name.ptr[i] == 0x7f;
    f->hosts += slice_eq_nocase(name, slice_lit("Host"));
    f->lengths += slice_eq_nocase(name, slice_lit("Content-Length"));
    if (slice_eq_nocase(name, slice_lit("Transfer-Encoding"))) {
        f->codings++;
        f->chunked = slice_eq_nocase(slice_trim(slice_str(value)), slice_lit("chunked"));
    }
    return MHD_YES;
}

/* A proxy in front may read two lengths, a length beside chunks, or a name with a blank in another way than libmicrohttpd, and so see another end
 * of the request: what one of them takes for a body, the other takes for the next request (RFC 9112, 5.1, 6.3, 11.2). */
static bool check_framing(struct request *r)
{
    struct framing f = {0};

    (void)MHD_get_connection_values(r->conn, MHD_HEADER_KIND, look_at_framing, &f);
    if (!f.bad_name && f.hosts <= 1 && f.lengths + f.codings <= 1 && (f.codings == 0 || f.chunked))
        return true;
    r->misframed = true;
    answer_text(r, 400,
                "the headers of this request contradict each other: it takes one Host, and one Content-Length or "
                "'Transfer-Encoding: chunked'");
    return false;
}

static bool in_known_scope(slice path)
{
    return slice_starts(path, slice_lit("/api/v1/")) || slice_starts(path, slice_lit("/api/prism/v1/")) ||
           slice_starts(path, slice_lit("/v1/")) || slice_eq(path, slice_lit("/api/v1"));
}

static bool check_cors(struct request *r)
{
    if (r->method != M_OPTIONS || !request_header(r, "Origin").ptr ||
        !request_header(r, "Access-Control-Request-Method").ptr)
        return true;
    if (r->api->opt.cors) { /* contract 1.1: with CORS on, no origin is ever allowed */
        answer_text(r, 400, "Origin is not allowed to make this request");
        r->answer.content_type = NULL;
    } else {
        r->answer.status = 200;
    }
    return false;
}

static bool check_route(struct request *r)
{
    unsigned status;

    r->route = route_find(r, &status, &r->answer.allow);
    if (r->route) {
        r->drop_body = r->route->body == BODY_NONE;
        return true;
    }
    r->answer.status = status;
    if (status == 404 && !in_known_scope(r->path)) {
        r->answer.status = 200;
        r->answer.content_type = "text/html";
        buf_str(&r->answer.body, "<html></html>\n"); /* the console's place */
    }
    return false;
}

static bool check_user(struct request *r)
{
    if (r->route->open)
        return true;
    if (request_header(r, "X-API-KEY").ptr) { /* no keys exist yet, so each is unknown (contract 4.1) */
        answer_text(r, 401, "Invalid API key");
        return false;
    }
    switch (auth_check(r->api->auth, request_header(r, "Authorization"), &r->user)) {
    case AUTH_OK: break;
    case AUTH_NONE: answer_text(r, 401, "Please authenticate: no valid credentials in this request"); return false;
    case AUTH_REFUSED: answer_text(r, 403, "Wrong user name or password"); return false;
    }
    if (request_header(r, "X-P-Tenant").ptr) {
        answer_text(r, 400, "X-P-Tenant is for servers with several tenants; this one has none");
        return false;
    }
    return true;
}

static bool json_content_type(slice type)
{
    const uint8_t *semi = type.len ? memchr(type.ptr, ';', type.len) : NULL;
    slice t = slice_trim(semi ? slice_head(type, (size_t)(semi - type.ptr)) : type);

    return slice_eq_nocase(t, slice_lit("application/json")) ||
           (t.len > 5 && slice_eq_nocase(slice_from(t, t.len - 5), slice_lit("+json")));
}

static void answer_too_large(struct request *r)
{
    answer_text(r, 413, "JSON payload is larger than allowed (limit: %llu bytes).", (unsigned long long)r->body_max);
}

static bool check_body(struct request *r)
{
    uint64_t length = 0;

    if (r->route->body == BODY_NONE)
        return true;
    r->body_max = r->route->body == BODY_EVENTS ? r->api->opt.body_bytes_max
                  : r->route->body == BODY_RAW  ? STATIC_SCHEMA_BYTES_MAX
                                                : JSON_BODY_BYTES_MAX;
    if (r->route->body != BODY_RAW && !json_content_type(request_header(r, "Content-Type"))) {
        answer_text(r, 400, "Content type error");
        return false;
    }
    slice text = request_header(r, "Content-Length");
    if (text.ptr && slice_u64(text, &length) && length > r->body_max && !request_header(r, "Content-Encoding").ptr) {
        answer_too_large(r);
        return false;
    }
    if (atomic_load(&r->api->inflight_bytes) > r->api->opt.inflight_bytes_max) {
        answer_busy(r);
        return false;
    }
    return true;
}

static void begin(struct request *r)
{
    if (!check_framing(r)) {
        refuse(r);
    } else if (atomic_load(&r->api->draining)) {
        answer_text(r, 503, "Server is shutting down");
        refuse(r);
    } else if (!atomic_load_explicit(&r->api->ready, memory_order_acquire)) {
        if (slice_eq(r->path, slice_lit("/api/v1/liveness")) && check_route(r))
            return;
        answer_text(r, 503, "Server is starting: it reads its write-ahead log");
        r->answer.retry_after = "1";
        refuse(r);
    } else if (!check_cors(r) || !check_route(r) || !check_user(r) || !check_body(r)) {
        refuse(r);
    }
}

/* ---- body */

/* Room for `size` more bytes, for all of them where their number is known. false: the budget of all requests is used up. */
static bool grow_body(struct request *r, size_t size)
{
    uint64_t length = 0, before = r->body.cap;
    slice text = request_header(r, "Content-Length");

    if (r->body.len || !text.ptr || !slice_u64(text, &length) || length > r->body_max + (r->body_max >> 3))
        length = size;
    if (atomic_load(&r->api->inflight_bytes) + length > r->api->opt.inflight_bytes_max)
        return false;
    buf_reserve(&r->body, MAX((size_t)length, size));
    inflight_add(r, r->body.cap - before);
    return true;
}

static void take_body(struct request *r, const char *data, size_t size)
{
    if (r->drop_body)
        return;
    if (r->body.len + size >
        r->body_max + (r->body_max >> 3)) { /* coded bodies may be a little larger than their content */
        answer_too_large(r);
        refuse(r);
        return;
    }
    if (r->body.cap - r->body.len < size && !grow_body(r, size)) {
        answer_busy(r);
        refuse(r);
        return;
    }
    buf_put(&r->body, data, size);
}

/* Undoes Content-Encoding. false: answered. */
static bool decode_body(struct request *r)
{
    slice encoding = request_header(r, "Content-Encoding");
    enum coding coding = CODING_IDENTITY;
    struct buf out = BUF_INIT;
    struct err err;

    if (r->body_decoded || r->route->body == BODY_NONE)
        return true;
    r->body_decoded = true;
    if (encoding.ptr)
        (void)coding_parse(slice_trim(encoding), &coding); /* an unknown name is ignored (contract 1.1) */
    if (coding == CODING_IDENTITY) {
        if (r->body.len > r->body_max) {
            answer_too_large(r);
            return false;
        }
        return true;
    }
    enum err_code rc = decompress(coding, buf_view(&r->body), (size_t)r->body_max, &out, &err);
    if (rc != ERR_OK) {
        buf_done(&out);
        answer_err(r, rc, &err);
        return false;
    }
    buf_done(&r->body);
    r->body = out;
    atomic_fetch_sub(&r->api->inflight_bytes, r->inflight_bytes);
    r->inflight_bytes = 0;
    inflight_add(r, out.cap);
    if (atomic_load(&r->api->inflight_bytes) <= r->api->opt.inflight_bytes_max)
        return true;
    refuse(r); /* small bodies that waited for a worker may be large ones together */
    answer_busy(r);
    return false;
}

void request_run(struct request *r)
{
    bool ingest = r->route->body == BODY_EVENTS;

    if (decode_body(r))
        r->route->run(r);
    else if (ingest)
        request_resume(r);
}

/* ---- answers */

static const char *method_name(enum method m)
{
    static const char *const names[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "other"};
    return names[__builtin_ctz((unsigned)m)];
}

/* Contract 9. Series are as many as routes, methods and statuses: an unknown path is "-". */
static void account(struct request *r)
{
    _cleanup_(buf_done) struct buf labels = BUF_INIT;
    unsigned status = r->answer.status;
    char text[8];

    (void)snprintf(text, sizeof(text), "%u", status);
    metric_label(&labels, "endpoint", slice_str(r->route ? r->route->pattern : "-"));
    metric_label(&labels, "method", slice_str(method_name(r->method)));
    size_t common = labels.len;
    metric_label(&labels, "status", slice_str(text));
    metric_add(metric_get(METRIC_COUNTER, "parseable_incoming_requests", "HTTP requests", buf_cstr(&labels)), 1);
    if (r->route)
        metric_observe(metric_get(METRIC_HISTOGRAM, "parseable_response_time", "seconds from headers to answer",
                                  buf_cstr(&labels)),
                       (double)(now_us() - r->start_us) / 1e6);
    labels.len = common;
    metric_label(&labels, "statuscode", slice_str(text));
    metric_label(&labels, "type", slice_str(status < 400 ? "success" : status < 500 ? "client_error" : "server_error"));
    metric_add(metric_get(METRIC_COUNTER, "parseable_response_code", "HTTP answers by status", buf_cstr(&labels)), 1);
}

static void add_header(struct MHD_Response *response, const char *name, const char *value)
{
    if (value && value[0])
        (void)MHD_add_response_header(response, name, value);
}

static struct MHD_Response *whole_response(struct request *r)
{
    struct answer *a = &r->answer;
    struct buf coded = BUF_INIT;

    if (r->accept != CODING_IDENTITY && a->body.len >= COMPRESS_BYTES_MIN) {
        struct compressor *z = compressor_new(r->accept);
        compressor_add(z, buf_view(&a->body), false, true, &coded);
        compressor_free(z);
        buf_done(&a->body);
        a->body = coded;
    }
    struct MHD_Response *response = MHD_create_response_from_buffer(
        a->body.len, a->body.ptr, a->body.len ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
    if (response && a->body.len)
        a->body = BUF_INIT; /* the response owns it now */
    if (response && coded.ptr)
        add_header(response, "Content-Encoding", coding_name(r->accept));
    return response;
}

static void cors_headers(struct request *r, struct MHD_Response *response)
{
    slice origin = request_header(r, "Origin");

    if (r->api->opt.cors || !origin.ptr)
        return;
    add_header(response, "Access-Control-Allow-Origin", (const char *)origin.ptr);
    add_header(response, "Access-Control-Allow-Credentials", "true");
    add_header(response, "Access-Control-Expose-Headers", "content-type, access-control-allow-origin");
    add_header(response, "Vary", "Origin");
    if (r->method == M_OPTIONS) {
        add_header(response, "Access-Control-Allow-Methods",
                   (const char *)request_header(r, "Access-Control-Request-Method").ptr);
        add_header(response, "Access-Control-Allow-Headers",
                   (const char *)request_header(r, "Access-Control-Request-Headers").ptr);
        add_header(response, "Access-Control-Max-Age", "3600");
    }
}

static enum MHD_Result send_answer(struct request *r)
{
    struct answer *a = &r->answer;

    if (a->status == 0)
        a->status = 500; /* a handler that forgot to answer: a bug, and visible as one */
    struct MHD_Response *response = r->stream ? chunked_response(r) : whole_response(r);
    if (!response)
        return MHD_NO;
    add_header(response, "Content-Type", a->content_type);
    add_header(response, "Connection", r->misframed ? "close" : NULL);
    add_header(response, "Allow", a->allow);
    add_header(response, "Retry-After", a->retry_after);
    add_header(response, "X-Query-Id", a->query_id);
    add_header(response, "p-time-elapsed", a->elapsed);
    add_header(response, "X-Sluice-Skipped-Files", a->skipped);
    if (r->stream)
        add_header(response, "Cache-Control", "no-cache");
    cors_headers(r, response);
    account(r);
    if (r->stream) /* a pause of its reader is none of the connection's: chunked.c has the last word */
        (void)MHD_set_connection_option(r->conn, MHD_CONNECTION_OPTION_TIMEOUT, STREAM_STALL_S + 5u);
    enum MHD_Result ok = MHD_queue_response(r->conn, a->status, response);
    MHD_destroy_response(response);
    return ok;
}

/* ---- the callbacks */

static enum MHD_Result dispatch(struct request *r)
{
    enum handler_kind kind = r->route->kind;
    bool ingest = r->route->body == BODY_EVENTS, unknown = ingest && !lake_knows(r->api->lake, ingest_stream(r));

    r->handled = true;
    if (unknown || (ingest && (r->body.len > INLINE_BODY_BYTES_MAX || request_header(r, "Content-Encoding").ptr)))
        kind = HANDLER_WORKER;
    if (kind == HANDLER_INLINE && !ingest) {
        request_run(r);
        return send_answer(r);
    }
    r->suspended = true;
    atomic_fetch_add(&r->api->suspended, 1);
    MHD_suspend_connection(r->conn);
    if (kind == HANDLER_INLINE) {
        request_run(r); /* its acknowledgement resumes the connection, maybe before this returns */
        return MHD_YES;
    }
    struct work_queue *queue = unknown || kind == HANDLER_STORE ? &r->api->creates
                               : kind == HANDLER_QUERY          ? &r->api->queries
                               : kind == HANDLER_TAIL           ? &r->api->tails
                                                                : &r->api->workers;
    if (!work_push(queue, r)) {
        answer_text(r, 503, "too many requests wait: retry later");
        r->answer.retry_after = "1";
        request_resume(r);
    }
    return MHD_YES;
}

/* A refused client that waits for leave to send its body, or means to send more than anybody reads, gets its answer at once: libmicrohttpd then closes
 * the connection. Others are read to their end first, as many look for an answer only when they have sent all. */
static bool answer_now(struct request *r)
{
    slice expect = request_header(r, "Expect"), text = request_header(r, "Content-Length");
    uint64_t length;

    if (!r->handled)
        return false;
    return r->misframed || slice_eq_nocase(slice_trim(expect), slice_lit("100-continue")) ||
           (text.ptr && (!slice_u64(text, &length) || length > DROP_BYTES_MAX));
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *conn, const char *url, const char *method,
                                  const char *version, const char *data, size_t *size, void **state)
{
    struct request *r = *state;

    if (!r) {
        r = mem_zalloc(sizeof(*r));
        atomic_init(&r->refs, 1);
        r->api = arg;
        r->conn = conn;
        r->method = method_of(method);
        r->http11 = strcmp(version, "HTTP/1.1") == 0;
        r->start_us = now_us();
        r->path = slice_of(arena_str(&r->arena, slice_str(url)), strlen(url));
        slice accept = request_header(r, "Accept-Encoding");
        r->accept = accept.ptr ? coding_negotiate(accept) : CODING_IDENTITY;
        *state = r;
        begin(r);
        return answer_now(r) ? send_answer(r) : MHD_YES;
    }
    if (*size > 0) {
        r->dropped_bytes += r->drop_body ? *size : 0;
        if (r->dropped_bytes > DROP_BYTES_MAX)
            return MHD_NO;
        take_body(r, data, *size);
        *size = 0;
        return MHD_YES;
    }
    return r->handled ? send_answer(r) : dispatch(r);
}

static void on_completed(void *arg, struct MHD_Connection *conn, void **state, enum MHD_RequestTerminationCode why)
{
    struct request *r = *state;
    (void)arg;

    if (!r)
        return;
    *state = NULL;
    if (r->stream && why == MHD_REQUEST_TERMINATED_COMPLETED_OK) /* for the next request */
        (void)MHD_set_connection_option(conn, MHD_CONNECTION_OPTION_TIMEOUT, r->api->opt.keep_alive_s);
    if (r->stream)
        chunked_client_gone(r->stream);
    if (r->suspended)
        atomic_fetch_sub(&r->api->suspended, 1);
    request_unref(r);
}

static size_t keep_escaped(void *arg, struct MHD_Connection *conn, char *s)
{
    (void)arg;
    (void)conn;
    return strlen(s);
}

static void mhd_log(void *arg, const char *fmt, va_list ap)
{
    char text[512];
    (void)arg;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    (void)vsnprintf(text, sizeof(text), fmt, ap);
#pragma GCC diagnostic pop
    slice s = slice_trim(slice_str(text));
    log_debug("api", SLICE_FMT, SLICE_ARG(s));
}

/* ---- open, close */

static enum err_code parse_address(const char *text, struct sockaddr_storage *out, socklen_t *len, bool *v6,
                                   struct err *err)
{
    slice s = slice_str(text);
    const uint8_t *colon = s.len ? memrchr(s.ptr, ':', s.len) : NULL;
    uint64_t port;
    char host[64] = "0.0.0.0";

    if (!colon || !slice_u64(slice_from(s, (size_t)(colon - s.ptr) + 1), &port) || port > 65535)
        return err_set(err, ERR_INVALID, "address '%s': write host:port, for example 127.0.0.1:8000", text);
    slice name = slice_head(s, (size_t)(colon - s.ptr));
    if (slice_eq(name, slice_lit("localhost")))
        name = slice_lit("127.0.0.1");
    *v6 = name.len > 1 && name.ptr[0] == '[' && name.ptr[name.len - 1] == ']';
    if (*v6)
        name = slice_of(name.ptr + 1, name.len - 2);
    if (name.len >= sizeof(host))
        return err_set(err, ERR_INVALID, "address '%s' is no IP address", text);
    if (name.len)
        (void)snprintf(host, sizeof(host), SLICE_FMT, SLICE_ARG(name));
    struct sockaddr_in *a4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *a6 = (struct sockaddr_in6 *)out;
    memset(out, 0, sizeof(*out));
    if (*v6) {
        a6->sin6_family = AF_INET6;
        a6->sin6_port = htons((uint16_t)port);
        *len = sizeof(*a6);
    } else {
        a4->sin_family = AF_INET;
        a4->sin_port = htons((uint16_t)port);
        *len = sizeof(*a4);
    }
    if (inet_pton(*v6 ? AF_INET6 : AF_INET, host, *v6 ? (void *)&a6->sin6_addr : (void *)&a4->sin_addr) != 1)
        return err_set(err, ERR_INVALID, "address '%s' is no IP address: write one like 127.0.0.1:8000 or [::1]:8000",
                       text);
    return ERR_OK;
}

enum err_code api_address_check(const char *text, struct err *err)
{
    struct sockaddr_storage a;
    socklen_t len;
    bool v6;

    return parse_address(text, &a, &len, &v6, err);
}

static void raise_file_limit(unsigned connections)
{
    struct rlimit l;
    rlim_t want = connections + 1000u;

    if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < want) {
        l.rlim_cur = MIN(want, l.rlim_max);
        if (setrlimit(RLIMIT_NOFILE, &l) != 0 || l.rlim_cur < want)
            log_warn("api", "open files are limited to %llu, fewer than the %u connections configured",
                     (unsigned long long)l.rlim_cur, connections);
    }
}

static enum err_code start_daemon(struct api *api, struct err *err)
{
    struct sockaddr_storage addr;
    socklen_t len;
    bool v6 = false;
    const struct api_options *o = &api->opt;

    TRY(parse_address(o->address, &addr, &len, &v6, err));
    if ((o->tls_cert_path != NULL) != (o->tls_key_path != NULL))
        return err_set(err, ERR_INVALID, "TLS needs both a certificate and a key");
    if (o->tls_cert_path) {
        TRY(tls_load(o->tls_cert_path, o->tls_key_path, err));
        api->tls = true;
    }
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG |
                     (v6 ? MHD_USE_IPv6 : 0u) | (api->tls ? MHD_USE_TLS : 0u);
    raise_file_limit(o->connections_max);
    /* Without MHD_OPTION_LISTENING_ADDRESS_REUSE, which is SO_REUSEPORT: two servers would share the port, each with half of the requests. */
    api->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, api, MHD_OPTION_EXTERNAL_LOGGER, mhd_log, NULL, MHD_OPTION_SOCK_ADDR,
        (struct sockaddr *)&addr, MHD_OPTION_THREAD_POOL_SIZE, o->network_threads, MHD_OPTION_CONNECTION_LIMIT,
        o->connections_max, MHD_OPTION_CONNECTION_TIMEOUT, o->keep_alive_s, MHD_OPTION_NOTIFY_COMPLETED, on_completed,
        api, MHD_OPTION_UNESCAPE_CALLBACK, keep_escaped, NULL, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)HEADER_BYTES_MAX, MHD_OPTION_LISTEN_BACKLOG_SIZE, 2048u,
        api->tls ? MHD_OPTION_HTTPS_CERT_CALLBACK : MHD_OPTION_END, tls_choose(), MHD_OPTION_END);
    if (!api->daemon)
        return err_set(err, ERR_IO, "cannot listen on %s: is another server there? (choose another with --addr)",
                       o->address);
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(api->daemon, MHD_DAEMON_INFO_BIND_PORT);
    api->port = info ? info->port : 0;
    return ERR_OK;
}

static void defaults(struct api_options *o)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    o->address = o->address ? o->address : "0.0.0.0:8000";
    o->body_bytes_max = o->body_bytes_max ? o->body_bytes_max : 10485760;
    o->inflight_bytes_max = o->inflight_bytes_max ? o->inflight_bytes_max : 512u << 20;
    o->network_threads = o->network_threads ? o->network_threads : 2 * (unsigned)MAX(cores, 2);
    o->connections_max = o->connections_max ? o->connections_max : 25000;
    o->keep_alive_s = o->keep_alive_s ? o->keep_alive_s : 5;
}

void api_ready(struct api *api, struct lake *lake, struct query_pool *pool)
{
    api->lake = lake;
    api->pool = pool;
    atomic_store_explicit(&api->ready, true, memory_order_release);
}

enum err_code api_open(const struct api_options *opt, struct api **out, struct err *err)
{
    struct api *api = mem_zalloc(sizeof(*api));
    enum err_code rc;

    api->opt = *opt;
    defaults(&api->opt);
    api->auth = auth_new(slice_str(opt->username), slice_str(opt->password));
    api->started_us = now_us();
    api->started_wall_us = os_wall_us(os_real());
    rc = watch_start(api, err);
    if (rc == ERR_OK)
        rc = work_start(&api->workers, WORKER_THREADS, 10000, err);
    if (rc == ERR_OK)
        rc = work_start(&api->creates, CREATE_THREADS, 10000, err);
    if (rc == ERR_OK)
        rc = work_start(&api->queries, QUERY_THREADS, 1000, err);
    if (rc == ERR_OK)
        rc = work_start(&api->tails, TAIL_THREADS, 0, err);
    if (rc == ERR_OK)
        rc = start_daemon(api, err);
    if (rc != ERR_OK) {
        api_close(api);
        return rc;
    }
    *out = api;
    return ERR_OK;
}

uint16_t api_port(const struct api *api)
{
    return api->port;
}

enum err_code api_reload_tls(struct api *api, struct err *err)
{
    return tls_load(api->opt.tls_cert_path, api->opt.tls_key_path, err);
}

void api_drain(struct api *api)
{
    atomic_store(&api->draining, true);
}

void api_close(struct api *api)
{
    if (!api)
        return;
    api_drain(api);
    work_stop(&api->tails);
    if (api->pool)
        query_pool_stop(api->pool, QUERY_GRACE_US);
    work_stop(&api->queries);
    work_stop(&api->creates);
    work_stop(&api->workers);
    /* The WAL answers within its sync, but a store that is away never; a suspended connection must not meet the stop. */
    for (unsigned ms = 0; atomic_load(&api->ingests); ms++) {
        os_real()->ops->sleep_us(os_real(), 1000);
        if (ms >= OBJECT_ACK_MS_MAX || /* there are none before api_ready() */
            (ms >= OBJECT_ACK_GRACE_MS && lake_flush_fails(api->lake)))
            lake_give_up_waiting(api->lake);
    }
    /* The daemon's threads send what is answered; its stop would cut off what they have not come to. */
    for (unsigned ms = 0; ms < ANSWER_GRACE_MS && atomic_load(&api->suspended); ms++)
        os_real()->ops->sleep_us(os_real(), 1000);
    if (api->daemon)
        MHD_stop_daemon(api->daemon);
    watch_stop(api);
    auth_free(api->auth);
    tls_done();
    free(api);
}
