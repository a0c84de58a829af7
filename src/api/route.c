/* route.c: every route in one table (contract 1.2, and our own). */
#include "api/api_int.h"

static const struct route routes[] = {
    {"liveness", M_GET, HANDLER_INLINE, BODY_NONE, true, handle_liveness},
    {"liveness", M_HEAD, HANDLER_INLINE, BODY_NONE, true, handle_liveness},
    {"readiness", M_GET, HANDLER_WORKER, BODY_NONE, true, handle_readiness},
    {"readiness", M_HEAD, HANDLER_WORKER, BODY_NONE, true, handle_readiness},
    {"about", M_GET, HANDLER_INLINE, BODY_NONE, false, handle_about},
    {"metrics", M_GET, HANDLER_WORKER, BODY_NONE, false, handle_metrics},
    {"ingest", M_POST, HANDLER_INLINE, BODY_EVENTS, false, handle_ingest},
    {"logstream", M_GET, HANDLER_WORKER, BODY_NONE, false, handle_streams},
    {"logstream/schema/detect", M_POST, HANDLER_WORKER, BODY_JSON, false, handle_detect},
    {"logstream/{s}", M_PUT, HANDLER_STORE, BODY_RAW, false, handle_stream_put},
    {"logstream/{s}", M_POST, HANDLER_INLINE, BODY_EVENTS, false, handle_ingest_stream},
    {"logstream/{s}", M_DELETE, HANDLER_QUERY, BODY_NONE, false, handle_stream_delete},
    {"logstream/{s}/info", M_GET, HANDLER_WORKER, BODY_NONE, false, handle_stream_info},
    {"logstream/{s}/schema", M_GET, HANDLER_WORKER, BODY_NONE, false, handle_stream_schema},
    {"logstream/{s}/stats", M_GET, HANDLER_WORKER, BODY_NONE, false, handle_stream_stats},
    {"logstream/{s}/retention", M_GET, HANDLER_WORKER, BODY_NONE, false, handle_retention_get},
    {"logstream/{s}/retention", M_PUT, HANDLER_STORE, BODY_JSON, false, handle_retention_put},
    {"logstream/{s}/hottier", M_GET, HANDLER_WORKER, BODY_NONE, false, handle_hottier},
    {"logstream/{s}/hottier", M_PUT, HANDLER_STORE, BODY_JSON, false, handle_hottier},
    {"logstream/{s}/hottier", M_DELETE, HANDLER_STORE, BODY_NONE, false, handle_hottier},
    {"logstream/{s}/tail", M_GET, HANDLER_TAIL, BODY_NONE, false, handle_tail},
    {"query", M_POST, HANDLER_QUERY, BODY_JSON, false, handle_query},
    {"counts", M_POST, HANDLER_QUERY, BODY_JSON, false, handle_counts},
    {"cluster/flush", M_POST, HANDLER_QUERY, BODY_NONE, false, handle_flush},
    {"cluster/storage", M_GET, HANDLER_STORE, BODY_NONE, false, handle_storage},
    {"cluster/store", M_GET, HANDLER_WORKER, BODY_NONE, false, handle_store},
    {"queries", M_GET, HANDLER_INLINE, BODY_NONE, false, handle_queries},
    {"queries/{s}", M_DELETE, HANDLER_INLINE, BODY_NONE, false, handle_query_cancel},
};
static const struct {
    enum method method;
    const char *name;
} method_names[] = {{M_DELETE, "DELETE"}, {M_GET, "GET"},   {M_HEAD, "HEAD"},
                    {M_PATCH, "PATCH"},   {M_POST, "POST"}, {M_PUT, "PUT"}};

static slice take_element(slice *path)
{
    const uint8_t *slash = path->len ? memchr(path->ptr, '/', path->len) : NULL;
    slice element = slice_head(*path, slash ? (size_t)(slash - path->ptr) : path->len);
    *path = slash ? slice_from(*path, element.len + 1) : (slice){NULL, 0};
    return element;
}

/* Literal elements beat {s}: "logstream/schema/detect" has no name to clash with, as names are one element. */
static bool match(const char *pattern, slice path, slice args[2])
{
    slice want = slice_str(pattern);
    size_t n = 0;

    while (want.ptr || path.ptr) {
        if (!want.ptr || !path.ptr)
            return false;
        slice w = take_element(&want), p = take_element(&path);
        if (slice_eq(w, slice_lit("{s}"))) {
            if (p.len == 0)
                return false;
            args[n++] = p;
        } else if (!slice_eq(w, p)) {
            return false;
        }
    }
    return true;
}

static const char *allow_text(struct request *r, unsigned methods)
{
    struct buf b = BUF_INIT;

    for (size_t i = 0; i < ARRAY_LEN(method_names); i++)
        if (methods & method_names[i].method)
            buf_fmt(&b, "%s%s", b.len ? ", " : "", method_names[i].name);
    const char *text = arena_str(&r->arena, buf_view(&b));
    buf_done(&b);
    return text;
}

const struct route *route_find(struct request *r, unsigned *status, const char **allow)
{
    const slice prefix = slice_lit("/api/v1/");
    unsigned methods = 0;
    slice args[2];

    *allow = NULL;
    *status = 404;
    if (!slice_starts(r->path, prefix))
        return NULL;
    for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
        memset(args, 0, sizeof(args));
        if (!match(routes[i].pattern, slice_from(r->path, prefix.len), args))
            continue;
        methods |= routes[i].method;
        if (routes[i].method != r->method)
            continue;
        for (size_t k = 0; k < 2; k++)
            r->args[k] = percent_decode(&r->arena, args[k], false);
        return &routes[i];
    }
    if (methods) {
        *status = 405;
        *allow = allow_text(r, methods);
    }
    return NULL;
}
