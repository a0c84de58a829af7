/* gcs.c: the dialect of Google Cloud Storage: see gcs.h. */
#include "store/gcs.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#include "base/hash.h"
#include "base/timetext.h"
#include "engine/engine.h"
#include "store/aws_sign.h"

#include "base/banned.h"

#define SESSIONS_MAX 8u /* of one upload: a session in which a reply was lost is not gone on with */

struct gcs {
    struct remote base;
    struct token_source *tokens;
    char *origin, *host; /* "https://host:port" and "host:port" */
    char *objects_path;  /* "/storage/v1/b/BUCKET/o" */
    char *upload_path;   /* "/upload/storage/v1/b/BUCKET/o" */
    bool tls;
};

static struct gcs *gcs_of(const struct remote *r)
{
    return (struct gcs *)(uintptr_t)r;
}

/* ---- requests */

static void encode_key(const struct gcs *s, slice key, bool path, struct buf *out)
{
    aws_encode(out, slice_str(s->base.prefix), path);
    aws_encode(out, key, path);
}

static enum err_code gcs_request(struct remote *r, const struct remote_call *c, bool refused,
                                 struct remote_request *out, struct err *err)
{
    struct gcs *s = gcs_of(r);
    _cleanup_(buf_wipe) struct buf bearer = BUF_INIT;
    _cleanup_(buf_wipe) struct buf token = BUF_INIT;

    buf_str(&out->url, s->origin);
    if (c->path)
        buf_str(&out->url, c->path);
    else if (c->bucket)
        buf_str(&out->url, s->objects_path);
    else if (strcmp(c->method, "DELETE") == 0) {
        buf_fmt(&out->url, "%s/", s->objects_path);
        encode_key(s, c->key, false, &out->url);
    } else {
        buf_fmt(&out->url, "/%s/", s->base.bucket);
        encode_key(s, c->key, true, &out->url);
    }
    if (c->query.len)
        buf_byte(&out->url, '?');
    buf_slice(&out->url, c->query);
    for (size_t i = 0; i < c->extra_count; i++)
        remote_request_header(out, c->extra[i].name, c->extra[i].value);
    if (!s->tokens)
        return ERR_OK;
    TRY(token_source_get(s->tokens, refused, &token, err));
    buf_reserve(&bearer, token.len + 8);
    buf_str(&bearer, "Bearer ");
    buf_slice(&bearer, buf_view(&token));
    remote_request_header(out, "authorization", buf_view(&bearer));
    return ERR_OK;
}

static const struct remote_code gcs_codes[] = {{"NoSuchBucket", REMOTE_NO_BUCKET}, {"authError", REMOTE_KEYS}};

/* ---- create */

static void metadata_json(const struct gcs *s, slice key, slice nonce, uint32_t crc, struct buf *out)
{
    _cleanup_(buf_done) struct buf name = BUF_INIT;
    char text[REMOTE_CRC_TEXT + 1];

    remote_crc_text(crc, text);
    buf_str(&name, s->base.prefix);
    buf_slice(&name, key);
    buf_str(out, "{\"name\":");
    buf_json_str(out, buf_view(&name));
    buf_fmt(out, ",\"crc32c\":\"%s\",\"contentType\":\"application/octet-stream\"", text);
    if (nonce.len)
        buf_fmt(out, ",\"metadata\":{\"sluice-nonce\":\"" SLICE_FMT "\"}", SLICE_ARG(nonce));
    buf_byte(out, '}');
}

/* multipart/related: what the object is called and must hold, then its bytes. The boundary is random: no bytes hold it. */
static enum err_code gcs_put(struct remote *r, slice key, slice bytes, slice nonce, struct err *err)
{
    struct gcs *s = gcs_of(r);
    _cleanup_(remote_answer_done) struct remote_answer a = {0};
    _cleanup_(buf_done) struct buf body = BUF_INIT;
    uint64_t random[2];
    char type[96], boundary[40];
    struct remote_call c = {.method = "POST",
                            .key = key,
                            .path = s->upload_path,
                            .query = slice_lit("ifGenerationMatch=0&uploadType=multipart"),
                            .reply_max = REMOTE_DOCUMENT_BYTES_MAX,
                            .repeatable = nonce.len != 0};

    r->os->ops->random(r->os, random, sizeof(random));
    (void)snprintf(boundary, sizeof(boundary), "%016" PRIx64 "%016" PRIx64, random[0], random[1]);
    (void)snprintf(type, sizeof(type), "multipart/related; boundary=%s", boundary);
    buf_reserve(&body, bytes.len + 4096);
    buf_fmt(&body, "--%s\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n", boundary);
    metadata_json(s, key, nonce, crc32c(0, bytes.ptr, bytes.len), &body);
    buf_fmt(&body, "\r\n--%s\r\nContent-Type: application/octet-stream\r\n\r\n", boundary);
    buf_slice(&body, bytes);
    buf_fmt(&body, "\r\n--%s--\r\n", boundary);
    c.body = buf_view(&body);
    remote_call_header(&c, "content-type", slice_str(type));
    return remote_call(r, &c, &a, err);
}

/* ---- uploads in parts: a session, whose last part is the exclusive create */

static void crc_add(void *arg, slice bytes)
{
    uint32_t *crc = arg;
    *crc = crc32c(*crc, bytes.ptr, bytes.len);
}

/* "https://.../o?uploadType=resumable&upload_id=ID": the id alone is taken, an answer does not say where to send what. */
static bool session_id(slice location, struct buf *query)
{
    static const char name[] = "upload_id=";
    const uint8_t *at = location.len ? memmem(location.ptr, location.len, name, sizeof(name) - 1) : NULL;
    slice id = at ? slice_from(location, (size_t)(at - location.ptr) + sizeof(name) - 1) : (slice){0};
    const uint8_t *end = id.len ? memchr(id.ptr, '&', id.len) : NULL;

    if (end)
        id.len = (size_t)(end - id.ptr);
    query->len = 0;
    buf_str(query, "uploadType=resumable&upload_id=");
    buf_slice(query, id);
    return id.len != 0;
}

static enum err_code session_begin(struct remote_upload *u, uint32_t crc, struct buf *query, struct err *err)
{
    struct gcs *s = gcs_of(u->r);
    _cleanup_(remote_answer_done) struct remote_answer a = {0};
    _cleanup_(buf_done) struct buf body = BUF_INIT;
    struct remote_call c = {.method = "POST",
                            .key = u->key,
                            .path = s->upload_path,
                            .query = slice_lit("ifGenerationMatch=0&uploadType=resumable"),
                            .reply_max = REMOTE_DOCUMENT_BYTES_MAX,
                            .repeatable = true}; /* one begun in vain ends by itself after a week */

    metadata_json(s, u->key, slice_str(u->nonce), crc, &body);
    c.body = buf_view(&body);
    remote_call_header(&c, "content-type", slice_lit("application/json; charset=UTF-8"));
    TRY(remote_call(u->r, &c, &a, err));
    if (!session_id(exchange_answer(&a.x, "location"), query))
        return err_set(err, ERR_CORRUPT, SLICE_FMT ": no id of an upload", SLICE_ARG(u->key));
    return ERR_OK;
}

static void session_end(struct remote_upload *u, slice query)
{
    _cleanup_(remote_answer_done) struct remote_answer a = {0};
    const struct remote_call c = {.method = "DELETE",
                                  .key = u->key,
                                  .path = gcs_of(u->r)->upload_path,
                                  .query = query,
                                  .reply_max = REMOTE_DOCUMENT_BYTES_MAX};

    if (remote_call(u->r, &c, &a, NULL) != ERR_OK)
        return; /* it answers 499 when it is done; else it ends by itself after a week */
}

static enum err_code session_part(struct remote_upload *u, slice query, uint64_t at, slice bytes, struct err *err)
{
    _cleanup_(remote_answer_done) struct remote_answer a = {0};
    struct remote_call c = {.method = "PUT",
                            .key = u->key,
                            .path = gcs_of(u->r)->upload_path,
                            .query = query,
                            .body = bytes,
                            .reply_max = REMOTE_DOCUMENT_BYTES_MAX,
                            .once = true}; /* some servers add the same bytes again */
    bool last = at + bytes.len == u->size;
    char range[96];

    (void)snprintf(range, sizeof(range), "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, at, at + bytes.len - 1, u->size);
    remote_call_header(&c, "content-range", slice_str(range));
    enum err_code rc = remote_call(u->r, &c, &a, err);
    if (a.x.code == ERR_OK && a.x.status == 308 && !last) {
        (void)snprintf(range, sizeof(range), "bytes=0-%" PRIu64, at + bytes.len - 1);
        if (slice_eq(exchange_answer(&a.x, "range"), slice_str(range)))
            return ERR_OK;
        return err_set(err, ERR_UNKNOWN, SLICE_FMT ": the store kept a piece of a part", SLICE_ARG(u->key));
    }
    return rc != ERR_OK || last ? rc : err_set(err, ERR_CORRUPT, SLICE_FMT ": done before its end", SLICE_ARG(u->key));
}

static enum err_code session_run(struct remote_upload *u, uint32_t crc, struct err *err)
{
    _cleanup_(buf_done) struct buf query = BUF_INIT;
    _cleanup_(buf_done) struct buf bytes = BUF_INIT;
    enum err_code rc = ERR_OK;

    TRY(session_begin(u, crc, &query, err));
    for (uint64_t at = 0; at < u->size && rc == ERR_OK; at += REMOTE_PART_BYTES) {
        rc = remote_upload_piece(u, at, &bytes, err);
        if (rc == ERR_OK)
            rc = session_part(u, buf_view(&query), at, buf_view(&bytes), err);
    }
    if (rc != ERR_OK && rc != ERR_CONFLICT)
        session_end(u, buf_view(&query));
    return rc;
}

/* Whatever of a session is not clear, the next one begins anew: if the one before did make the object, the condition says so, and the
 * nonce tells whose it is. */
static enum err_code gcs_put_parts(struct remote_upload *u, struct err *err)
{
    int64_t deadline = os_mono_us(u->r->os) + u->r->retry_us_max;
    uint32_t crc = 0;

    TRY(remote_upload_walk(u, crc_add, &crc, err));
    for (unsigned session = 0;; session++) {
        enum err_code rc = session_run(u, crc, err);
        bool unclear = rc == ERR_UNKNOWN || rc == ERR_UNAVAILABLE || rc == ERR_NOT_FOUND;
        if (!unclear || session + 1 >= SESSIONS_MAX || os_mono_us(u->r->os) > deadline)
            return rc;
    }
}

/* ---- reads, lists */

/* "crc32c=AAAAAA==,md5=..." */
static bool gcs_intact(const struct remote_answer *a)
{
    static const char name[] = "crc32c=";
    slice hash = exchange_answer_with(&a->x, "x-goog-hash", name); /* md5 may be one of its own */
    const uint8_t *at = hash.len ? memmem(hash.ptr, hash.len, name, sizeof(name) - 1) : NULL;
    char have[REMOTE_CRC_TEXT + 1];

    if (!at)
        return true;
    remote_crc_text(crc32c(0, a->reply.ptr, a->reply.len), have);
    slice want = slice_from(hash, (size_t)(at - hash.ptr) + sizeof(name) - 1);
    return slice_eq(slice_head(want, REMOTE_CRC_TEXT), slice_of(have, REMOTE_CRC_TEXT));
}

static void parameter(struct buf *query, const char *name, slice prefix, slice value)
{
    buf_fmt(query, "&%s=", name);
    aws_encode(query, prefix, false);
    aws_encode(query, value, false);
}

static void gcs_list_query(const struct remote *r, slice token, slice prefix, slice start_after, bool delimiter,
                           struct buf *query)
{
    buf_str(query, "fields=items(name,size,updated),prefixes,nextPageToken");
    parameter(query, "prefix", slice_str(r->prefix), prefix);
    if (delimiter)
        parameter(query, "delimiter", slice_lit(""), slice_lit("/"));
    if (start_after.len) /* with it; remote_page_item() leaves it out */
        parameter(query, "startOffset", slice_str(r->prefix), start_after);
    if (token.len)
        parameter(query, "pageToken", slice_lit(""), token);
}

static slice member(const json_t *doc, const char *name)
{
    const json_t *v = json_object_get(doc, name);
    return slice_of(json_string_value(v), json_string_length(v));
}

static bool page_read(struct remote_page *p, const json_t *doc)
{
    const json_t *items = json_object_get(doc, "items"), *prefixes = json_object_get(doc, "prefixes"), *v;
    size_t i;

    json_array_foreach ((json_t *)(uintptr_t)items, i, v) {
        if (!slice_u64(member(v, "size"), &p->meta.size) ||
            !time_parse_rfc3339(member(v, "updated"), true, &p->meta.modified_us))
            return false;
        if (!remote_page_item(p, member(v, "name"), false))
            return !p->bad;
    }
    json_array_foreach ((json_t *)(uintptr_t)prefixes, i, v) {
        if (!remote_page_item(p, slice_of(json_string_value(v), json_string_length(v)), true))
            return !p->bad;
    }
    buf_slice(&p->token, member(doc, "nextPageToken"));
    return true;
}

enum err_code gcs_list_page(struct remote_page *p, slice document, struct err *err)
{
    json_t *doc = json_loadb((const char *)document.ptr, document.len, 0, NULL);

    if (!json_is_object(doc) || !page_read(p, doc))
        p->bad = true;
    json_decref(doc);
    return p->bad ? err_set(err, ERR_CORRUPT, "no page of a list") : ERR_OK;
}

/* ---- the engine's way */

static enum err_code gcs_engine_login(struct remote *r, slice scope, struct engine *e, struct err *err)
{
    struct gcs *s = gcs_of(r);
    _cleanup_(buf_wipe) struct buf token = BUF_INIT;

    if (s->tokens)
        TRY(token_source_get(s->tokens, false, &token, err));
    const struct engine_secret_field fields[] = {{"ENDPOINT", slice_str(s->host)},
                                                 {"BEARER_TOKEN", buf_view(&token)},
                                                 {"URL_STYLE", slice_lit("path")},
                                                 {"USE_SSL", slice_str(s->tls ? "true" : "false")}};
    const struct engine_secret login = {"gcs", scope, fields, ARRAY_LEN(fields)};
    return engine_login(e, &login, err);
}

static void gcs_done(struct remote *r)
{
    struct gcs *s = gcs_of(r);

    token_source_free(s->tokens);
    free(s->origin);
    free(s->host);
    free(s->objects_path);
    free(s->upload_path);
}

static const struct remote_dialect gcs_dialect = {
    .describe = "GCS bucket",
    .scheme = "gs",
    .nonce_header = "x-goog-meta-sluice-nonce",
    .about_method = "GET", /* a HEAD of the bucket wants a right of its own */
    .about_query = "fields=kind&maxResults=1",
    .codes = gcs_codes,
    .codes_count = ARRAY_LEN(gcs_codes),
    .request = gcs_request,
    .put = gcs_put,
    .put_parts = gcs_put_parts,
    .intact = gcs_intact,
    .list_query = gcs_list_query,
    .list_page = gcs_list_page,
    .engine_extension = "httpfs",
    .engine_login = gcs_engine_login,
    .done = gcs_done,
};

/* ---- opening */

/* "About Cloud Storage buckets", bucket names. */
static bool bucket_valid(slice b)
{
    if (b.len < 3 || b.len > 222)
        return false;
    for (size_t i = 0; i < b.len; i++) {
        uint8_t c = b.ptr[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_'))
            return false;
    }
    return b.ptr[0] != '.' && b.ptr[0] != '-';
}

static enum err_code place(struct gcs *s, const struct gcs_options *opt, struct err *err)
{
    slice text = slice_str(opt->endpoint ? opt->endpoint : "https://storage.googleapis.com");
    struct remote_endpoint e;

    if (!bucket_valid(slice_str(s->base.bucket)))
        return err_set(err, ERR_INVALID, "'%s' is no name of a bucket", s->base.bucket);
    TRY(remote_endpoint_parse(text, &e, err));
    if (e.path.len)
        return err_set(err, ERR_INVALID, "'" SLICE_FMT "' is no endpoint of GCS: write it without a path",
                       SLICE_ARG(text));
    s->tls = e.tls;
    s->host = mem_str(e.host);
    s->origin = mem_fmt(SLICE_FMT SLICE_FMT, SLICE_ARG(e.scheme), SLICE_ARG(e.host));
    s->objects_path = mem_fmt("/storage/v1/b/%s/o", s->base.bucket);
    s->upload_path = mem_fmt("/upload/storage/v1/b/%s/o", s->base.bucket);
    return ERR_OK;
}

enum err_code store_gcs_open(struct os *os, const struct gcs_options *opt, struct token_source *tokens,
                             struct store **out, struct err *err)
{
    struct gcs *s = mem_zalloc(sizeof(*s));

    remote_init(&s->base, os, &gcs_dialect, &opt->remote);
    s->tokens = tokens;
    enum err_code rc = place(s, opt, err);
    if (rc != ERR_OK) {
        remote_ops.free(&s->base.base);
        return rc;
    }
    *out = &s->base.base;
    return ERR_OK;
}
