/* s3.c: the S3 dialect: see s3.h. What all stores behind HTTP share is in remote.c.
 *
 * An upload in parts ends in a completion that is the exclusive create.
 *
 * A COPY at the server is an upload whose one part the server takes from another object (UploadPartCopy). Why not CopyObject, which is one request
 * in place of three: Amazon honours If-None-Match there since 2025, other servers ignore it and overwrite, while completions are known to
 * be exclusive wherever uploads are; and its object exists before anything is known of its bytes. Here the server says the part's crc32c first,
 * as the upload was begun with that algorithm, and only what matches is completed.
 *   MinIO says nothing of a part, but computes the checksum of an object that CopyObject made, and HEAD tells it. That is good enough for a key
 * that nobody else uses and nobody looks for yet (store_source.unseen): it is copied with a nonce, looked at, and removed again unless nonce, size
 * and checksum are right. A backup's keys are none of those: what is in its place counts as whole. */
#include "store/s3.h"

#include <openssl/evp.h>
#include <stdio.h>

#include "base/hash.h"
#include "base/timetext.h"
#include "engine/engine.h"
#include "store/xml.h"

#include "base/banned.h"

#define UPLOADS_MAX 10000u /* looked at in one go */
#define MD5_TEXT 24        /* base64 of 16 bytes */

/* A smaller object is read and written in fewer requests; while a larger one is copied, a server may be silent for longer than is told from
 * one that is gone (exchange.h). */
#define COPY_BYTES_MIN (1u << 20)
#define COPY_BYTES_MAX (512u << 20)

struct s3 {
    struct remote base;
    struct aws_key_source *keys;
    char *region;
    char *origin, *host; /* "https://host:port" and "host:port" */
    char *endpoint;      /* host:port without the bucket */
    bool tls, path_style, no_store;
    char *base_path;                          /* "" or, path style, "/bucket" */
    _Atomic bool parts_untold, copies_untold; /* the server was seen to tell no checksum of a copied part, or object */
};

static struct s3 *s3_of(struct remote *r)
{
    return (struct s3 *)r;
}

/* ---- requests */

#define SIGNED_MAX (REMOTE_HEADERS_MAX + 4)
struct headers {
    struct aws_header list[SIGNED_MAX];
    size_t count;
    char time[AWS_TIME_TEXT + 1];
};

static void path_of(const struct s3 *s, const struct remote_call *c, struct buf *out)
{
    buf_str(out, s->base_path);
    buf_byte(out, '/');
    if (!c->bucket) {
        aws_encode(out, slice_str(s->base.prefix), true);
        aws_encode(out, c->key, true);
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct aws_header *)a)->name, ((const struct aws_header *)b)->name);
}

static void sign(struct s3 *s, struct aws_request *r, const struct remote_call *c, const struct aws_keys *keys,
                 struct headers *h, struct buf *authorization)
{
    aws_time(remote_clock_us(&s->base), h->time);
    h->count = 0;
    for (size_t i = 0; i < c->extra_count; i++)
        h->list[h->count++] = (struct aws_header){c->extra[i].name, c->extra[i].value};
    h->list[h->count++] = (struct aws_header){"host", slice_str(s->host)};
    h->list[h->count++] = (struct aws_header){"x-amz-content-sha256", slice_of(r->payload, SHA256_HEX)};
    h->list[h->count++] = (struct aws_header){"x-amz-date", slice_of(h->time, AWS_TIME_TEXT)};
    if (keys->session_token.len)
        h->list[h->count++] = (struct aws_header){"x-amz-security-token", keys->session_token};
    qsort(h->list, h->count, sizeof(h->list[0]), by_name);
    r->headers = h->list;
    r->headers_count = h->count;
    aws_sign(r, keys, slice_str(s->region), slice_lit("s3"), h->time, authorization);
}

static enum err_code s3_request(struct remote *remote, const struct remote_call *c, bool refused,
                                struct remote_request *out, struct err *err)
{
    struct s3 *s = s3_of(remote);
    _cleanup_(aws_key_copy_done) struct aws_key_copy keys = {0};
    _cleanup_(buf_done) struct buf path = BUF_INIT;
    _cleanup_(buf_done) struct buf authorization = BUF_INIT;
    struct aws_request r = {.method = slice_str(c->method), .query = c->query};
    struct headers h;

    TRY(aws_key_source_get(s->keys, refused, &keys, err));
    path_of(s, c, &path);
    r.path = buf_view(&path);
    sha256_hex(c->body, r.payload);
    sign(s, &r, c, &keys.keys, &h, &authorization);
    buf_fmt(&out->url, "%s%s%s", s->origin, buf_cstr(&path), c->query.len ? "?" : "");
    buf_slice(&out->url, c->query);
    for (size_t i = 0; i < h.count; i++)
        if (strcmp(h.list[i].name, "host") != 0) /* curl writes that one */
            remote_request_header(out, h.list[i].name, h.list[i].value);
    remote_request_header(out, "authorization", buf_view(&authorization));
    return ERR_OK;
}

static const struct remote_code s3_codes[] = {
    {"NoSuchBucket", REMOTE_NO_BUCKET}, {"RequestTimeTooSkewed", REMOTE_CLOCK}, {"ExpiredToken", REMOTE_KEYS},
    {"InvalidToken", REMOTE_KEYS},      {"TokenRefreshRequired", REMOTE_KEYS},
};

/* ---- create */

/* Of what makes an object. */
static void object_headers(struct remote *r, struct remote_call *c)
{
    if (s3_of(r)->no_store)
        remote_call_header(c, "cache-control", slice_lit("no-store"));
}

static enum err_code s3_put(struct remote *r, slice key, slice bytes, slice nonce, struct err *err)
{
    _cleanup_(remote_answer_done) struct remote_answer a = {0};
    char crc[REMOTE_CRC_TEXT + 1];
    struct remote_call c = {.method = "PUT",
                            .key = key,
                            .body = bytes,
                            .reply_max = REMOTE_DOCUMENT_BYTES_MAX,
                            .repeatable = nonce.len != 0};

    remote_crc_text(crc32c(0, bytes.ptr, bytes.len), crc);
    remote_call_header(&c, "if-none-match", slice_lit("*"));
    remote_call_header(&c, "x-amz-checksum-crc32c", slice_of(crc, REMOTE_CRC_TEXT));
    if (nonce.len)
        remote_call_header(&c, "x-amz-meta-sluice-nonce", nonce);
    object_headers(r, &c);
    return remote_call(r, &c, &a, err);
}

/* ---- uploads in parts */

struct upload {
    struct remote_upload *u;
    char id[1100];
    struct buf *etags; /* of the parts; opaque: names for the completion, no checksums */
    unsigned count;
    char crc[REMOTE_CRC_TEXT + 1]; /* of a copy: what its one part must have */
};

static void upload_done(struct upload *u)
{
    for (unsigned i = 0; i < u->count; i++)
        buf_done(&u->etags[i]);
    free(u->etags);
}

static bool upload_id_element(void *arg, const struct xml_element *e)
{
    struct upload *u = arg;

    if (slice_eq(e->path, slice_lit("InitiateMultipartUploadResult/UploadId")) && e->text.len < sizeof(u->id))
        (void)snprintf(u->id, sizeof(u->id), SLICE_FMT, SLICE_ARG(e->text));
    return true;
}

static enum err_code parts_begin(struct upload *u, struct err *err)
{
    _cleanup_(remote_answer_done) struct remote_answer a = {0};
    struct remote_call c = {.method = "POST",
                            .key = u->u->key,
                            .query = slice_lit("uploads="),
                            .reply_max = REMOTE_DOCUMENT_BYTES_MAX,
                            .repeatable = true}; /* one begun in vain is aborted by the bucket's rule */

    if (u->crc[0]) {
        remote_call_header(&c, "x-amz-checksum-algorithm", slice_lit("CRC32C"));
        remote_call_header(&c, "x-amz-checksum-type", slice_lit("FULL_OBJECT")); /* reads check it then: s3_intact() */
    }
    remote_call_header(&c, "x-amz-meta-sluice-nonce", slice_str(u->u->nonce));
    object_headers(u->u->r, &c);
    TRY(remote_call(u->u->r, &c, &a, err));
    TRY(xml_walk(buf_view(&a.reply), upload_id_element, u, err));
    return u->id[0] ? ERR_OK
                    : err_set(err, ERR_CORRUPT, SLICE_FMT ": no id of a multipart upload", SLICE_ARG(u->u->key));
}

static enum err_code part_put(void *arg, unsigned index, slice bytes, struct err *err)
{
    struct upload *u = arg;
    _cleanup_(remote_answer_done) struct remote_answer a = {0};
    _cleanup_(buf_done) struct buf query = BUF_INIT;
    struct remote_call c = {
        .method = "PUT", .key = u->u->key, .body = bytes, .reply_max = REMOTE_DOCUMENT_BYTES_MAX, .repeatable = true};

    buf_fmt(&query, "partNumber=%u&uploadId=", index + 1);
    aws_encode(&query, slice_str(u->id), false);
    c.query = buf_view(&query);
    TRY(remote_call(u->u->r, &c, &a, err));
    slice etag = exchange_answer(&a.x, "etag");
    if (!etag.len)
        return err_set(err, ERR_CORRUPT, SLICE_FMT ": part %u has no ETag", SLICE_ARG(u->u->key), index + 1);
    buf_slice(&u->etags[index], etag);
    return ERR_OK;
}

static void completion(const struct upload *u, struct buf *out)
{
    buf_str(out, "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (unsigned i = 0; i < u->count; i++)
        buf_fmt(out, "<Part><PartNumber>%u</PartNumber><ETag>" SLICE_FMT "</ETag>%s%s%s</Part>", i + 1,
                SLICE_ARG(buf_view(&u->etags[i])), u->crc[0] ? "<ChecksumCRC32C>" : "", u->crc,
                u->crc[0] ? "</ChecksumCRC32C>" : "");
    buf_str(out, "</CompleteMultipartUpload>");
}

static bool error_element(void *arg, const struct xml_element *e)
{
    *(bool *)arg |= slice_eq(e->path, slice_lit("Error"));
    return true;
}

static enum err_code parts_complete(struct upload *u, struct err *err)
{
    _cleanup_(remote_answer_done) struct remote_answer a = {0};
    _cleanup_(buf_done) struct buf query = BUF_INIT, body = BUF_INIT;
    struct remote_call c = {
        .method = "POST", .key = u->u->key, .reply_max = REMOTE_DOCUMENT_BYTES_MAX, .repeatable = true};
    bool failed = false;

    completion(u, &body);
    buf_str(&query, "uploadId=");
    aws_encode(&query, slice_str(u->id), false);
    c.query = buf_view(&query);
    c.body = buf_view(&body);
    remote_call_header(&c, "if-none-match", slice_lit("*"));
    enum err_code rc = remote_call(u->u->r, &c, &a, err);
    if (rc == ERR_NOT_FOUND) /* an earlier try, whose reply was lost, used the upload up */
        return err_set(err, ERR_CONFLICT, SLICE_FMT ": the upload is over", SLICE_ARG(u->u->key));
    TRY(rc);
    TRY(xml_walk(buf_view(&a.reply), error_element, &failed, err)); /* 200 was sent before the work was done */
    return failed ? err_set(err, ERR_UNKNOWN, SLICE_FMT ": the store could not join the parts", SLICE_ARG(u->u->key))
                  : ERR_OK;
}

/* ERR_NOT_FOUND: it is over. */
static enum err_code upload_abort(struct remote *r, slice key, slice id, struct err *err)
{
    _cleanup_(remote_answer_done) struct remote_answer a = {0};
    _cleanup_(buf_done) struct buf query = BUF_INIT;
    struct remote_call c = {.method = "DELETE", .key = key, .reply_max = REMOTE_DOCUMENT_BYTES_MAX};

    buf_str(&query, "uploadId=");
    aws_encode(&query, id, false);
    c.query = buf_view(&query);
    return remote_call(r, &c, &a, err);
}

static enum err_code s3_put_parts(struct remote_upload *of, struct err *err)
{
    _cleanup_(upload_done) struct upload u = {.u = of};

    TRY(parts_begin(&u, err));
    u.count = remote_parts_count(of);
    u.etags = mem_zalloc(u.count * sizeof(*u.etags));
    enum err_code rc = remote_parts_put(of, part_put, &u, err);
    if (rc == ERR_OK)
        rc = parts_complete(&u, err);
    if (rc != ERR_OK && upload_abort(of->r, of->key, slice_str(u.id), NULL) != ERR_OK)
        return rc; /* the next look for unfinished ones finds it */
    return rc;
}

/* ---- copies at the server */

struct copied_part {
    struct buf etag, crc;
    bool failed;
};

static void copied_part_done(struct copied_part *p)
{
    buf_done(&p->etag);
    buf_done(&p->crc);
}

static void text_set(struct buf *out, slice text)
{
    out->len = 0;
    buf_slice(out, text);
}

static bool copied_part_element(void *arg, const struct xml_element *e)
{
    struct copied_part *p = arg;

    if (slice_eq(e->path, slice_lit("CopyPartResult/ETag")))
        text_set(&p->etag, e->text);
    else if (slice_eq(e->path, slice_lit("CopyPartResult/ChecksumCRC32C")))
        text_set(&p->crc, e->text);
    p->failed |= slice_eq(e->path, slice_lit("Error")); /* 200 was sent before the work was done */
    return true;
}

static void copy_source(const struct store_source *from, struct buf *out)
{
    const struct remote *source = (const struct remote *)from->store;

    buf_fmt(out, "/%s/", source->bucket);
    aws_encode(out, slice_str(source->prefix), true);
    aws_encode(out, from->key, true);
}

static enum err_code copied_part_call(struct upload *u, const struct store_source *from, struct copied_part *out,
                                      struct err *err)
{
    _cleanup_(remote_answer_done) struct remote_answer a = {0};
    _cleanup_(buf_done) struct buf query = BUF_INIT, path = BUF_INIT;
    struct remote_call c = {
        .method = "PUT", .key = u->u->key, .reply_max = REMOTE_DOCUMENT_BYTES_MAX, .repeatable = true};

    buf_str(&query, "partNumber=1&uploadId=");
    aws_encode(&query, slice_str(u->id), false);
    c.query = buf_view(&query);
    copy_source(from, &path);
    remote_call_header(&c, "x-amz-copy-source", buf_view(&path));
    TRY(remote_call(u->u->r, &c, &a, err));
    TRY(xml_walk(buf_view(&a.reply), copied_part_element, out, err));
    return out->failed ? err_set(err, ERR_UNAVAILABLE, SLICE_FMT ": the store could not copy it", SLICE_ARG(from->key))
                       : ERR_OK;
}

static enum err_code part_copy(struct upload *u, const struct store_source *from, struct err *err)
{
    _cleanup_(copied_part_done) struct copied_part part = {0};

    TRY(copied_part_call(u, from, &part, err));
    if (part.crc.len != REMOTE_CRC_TEXT || !part.etag.len)
        return err_set(err, ERR_INVALID, "the server tells no checksum of a copy");
    if (!slice_eq(buf_view(&part.crc), slice_str(u->crc)))
        return err_set(err, ERR_CORRUPT, SLICE_FMT " is damaged: its checksum is another", SLICE_ARG(from->key));
    buf_slice(&u->etags[0], buf_view(&part.etag));
    return ERR_OK;
}

static enum err_code source_check(const struct store_source *from, struct err *err)
{
    struct store_meta meta;

    TRY(from->store->ops->stat(from->store, from->key, &meta, err));
    return meta.size == from->size
               ? ERR_OK
               : err_set(err, ERR_CORRUPT, SLICE_FMT " is damaged: it has %llu bytes, not %llu", SLICE_ARG(from->key),
                         (unsigned long long)meta.size, (unsigned long long)from->size);
}

/* ERR_INVALID, ERR_DENIED: the server has no such request, or tells too little. */
static enum err_code copy_as_part(struct remote_upload *of, const struct store_source *from, struct err *err)
{
    _cleanup_(upload_done) struct upload u = {.u = of};

    TRY(source_check(from, err));
    u.count = 1;
    u.etags = mem_zalloc(sizeof(*u.etags));
    remote_crc_text(from->crc32c, u.crc);
    enum err_code rc = parts_begin(&u, err);
    if (rc == ERR_OK)
        rc = part_copy(&u, from, err);
    if (rc == ERR_OK)
        rc = parts_complete(&u, err);
    if (rc != ERR_OK && u.id[0] && upload_abort(of->r, of->key, slice_str(u.id), NULL) != ERR_OK)
        return rc; /* the next look for unfinished ones finds it */
    return rc;
}

static enum err_code object_copy_call(struct remote_upload *of, const struct store_source *from, struct err *err)
{
    _cleanup_(remote_answer_done) struct remote_answer a = {0};
    _cleanup_(buf_done) struct buf path = BUF_INIT;
    struct remote_call c = {
        .method = "PUT", .key = of->key, .reply_max = REMOTE_DOCUMENT_BYTES_MAX, .repeatable = true};

    copy_source(from, &path);
    remote_call_header(&c, "x-amz-copy-source", buf_view(&path));
    remote_call_header(&c, "x-amz-metadata-directive", slice_lit("REPLACE"));
    remote_call_header(&c, "x-amz-meta-sluice-nonce", slice_str(of->nonce));
    remote_call_header(&c, "x-amz-checksum-algorithm", slice_lit("CRC32C"));
    remote_call_header(&c, "if-none-match", slice_lit("*")); /* honoured or not */
    object_headers(of->r, &c);
    return remote_call(of->r, &c, &a, err);
}

/* ERR_CONFLICT: it is another's. *told false: there is no checksum; *right: it is what was wanted. */
static enum err_code copied_object_look(struct remote_upload *of, const struct store_source *from, bool *told,
                                        bool *right, struct err *err)
{
    _cleanup_(remote_answer_done) struct remote_answer a = {0};
    struct remote_call c = {.method = "HEAD", .key = of->key, .repeatable = true};
    char want[REMOTE_CRC_TEXT + 1];
    uint64_t size;

    remote_call_header(&c, "x-amz-checksum-mode", slice_lit("ENABLED"));
    TRY(remote_call(of->r, &c, &a, err));
    if (!slice_eq(exchange_answer(&a.x, "x-amz-meta-sluice-nonce"), slice_str(of->nonce)))
        return err_set(err, ERR_CONFLICT, SLICE_FMT " exists", SLICE_ARG(of->key));
    slice crc = exchange_answer(&a.x, "x-amz-checksum-crc32c");
    remote_crc_text(from->crc32c, want);
    *told = crc.len == REMOTE_CRC_TEXT;
    *right = slice_eq(crc, slice_str(want)) && slice_u64(exchange_answer(&a.x, "content-length"), &size) &&
             size == from->size;
    return ERR_OK;
}

/* 200 was perhaps sent before the work was done, and replies get lost: what is there decides. */
static enum err_code copy_as_object(struct remote_upload *of, const struct store_source *from, bool *copied,
                                    struct err *err)
{
    struct s3 *s = s3_of(of->r);
    bool told = false, right = false;

    enum err_code rc = object_copy_call(of, from, err);
    if (rc == ERR_OK || rc == ERR_CONFLICT || rc == ERR_UNKNOWN)
        rc = copied_object_look(of, from, &told, &right, err);
    if (rc == ERR_INVALID || rc == ERR_DENIED || rc == ERR_NOT_FOUND) {
        s->copies_untold = true;
        return ERR_OK;
    }
    TRY(rc);
    *copied = right;
    s->copies_untold |= !told;
    return right ? ERR_OK : of->r->base.ops->remove(&of->r->base, of->key, err);
}

static bool can_copy(const struct s3 *to, const struct s3 *from, uint64_t size)
{
    return size >= COPY_BYTES_MIN && size <= COPY_BYTES_MAX && to->tls == from->tls &&
           strcmp(to->endpoint, from->endpoint) == 0 && strcmp(to->region, from->region) == 0 &&
           aws_key_source_same(to->keys, from->keys);
}

/* A server that refused a way of copying, or told no checksum, is not asked for that again. */
static enum err_code s3_copy(struct remote_upload *of, const struct store_source *from, bool *copied, struct err *err)
{
    struct s3 *s = s3_of(of->r);

    if (!can_copy(s, s3_of((struct remote *)from->store), from->size))
        return ERR_OK;
    if (!s->parts_untold) {
        enum err_code rc = copy_as_part(of, from, err);
        *copied = rc == ERR_OK || rc == ERR_CONFLICT; /* the caller looks whose it is */
        if (rc != ERR_INVALID && rc != ERR_DENIED)
            return rc;
        s->parts_untold = true;
    }
    return from->unseen && !s->copies_untold ? copy_as_object(of, from, copied, err) : ERR_OK;
}

static void parameter(struct buf *query, const char *name, slice prefix, slice value)
{
    buf_fmt(query, "%s%s=", query->len ? "&" : "", name);
    aws_encode(query, prefix, false);
    aws_encode(query, value, false);
}

/* ---- uploads that nobody ends */

struct unfinished {
    char *key, *id; /* the key as the server has it */
};
struct uploads_page {
    struct unfinished *items;
    size_t count, cap;
    int64_t before_us, began_us;
    struct buf key, id, next_key, next_id;
    bool truncated, bad;
};

static void uploads_page_done(struct uploads_page *p)
{
    for (size_t i = 0; i < p->count; i++) {
        free(p->items[i].key);
        free(p->items[i].id);
    }
    free(p->items);
    buf_done(&p->key);
    buf_done(&p->id);
    buf_done(&p->next_key);
    buf_done(&p->next_id);
}

static bool uploads_element(void *arg, const struct xml_element *e)
{
    struct uploads_page *p = arg;

    if (slice_eq(e->path, slice_lit("ListMultipartUploadsResult/Upload/Key")))
        text_set(&p->key, e->text);
    else if (slice_eq(e->path, slice_lit("ListMultipartUploadsResult/Upload/UploadId")))
        text_set(&p->id, e->text);
    else if (slice_eq(e->path, slice_lit("ListMultipartUploadsResult/Upload/Initiated")))
        p->bad |= !time_parse_rfc3339(e->text, true, &p->began_us);
    else if (slice_eq(e->path, slice_lit("ListMultipartUploadsResult/NextKeyMarker")))
        text_set(&p->next_key, e->text);
    else if (slice_eq(e->path, slice_lit("ListMultipartUploadsResult/NextUploadIdMarker")))
        text_set(&p->next_id, e->text);
    else if (slice_eq(e->path, slice_lit("ListMultipartUploadsResult/IsTruncated")))
        p->truncated = slice_eq(e->text, slice_lit("true"));
    else if (slice_eq(e->path, slice_lit("ListMultipartUploadsResult/Upload")) && !p->bad && p->began_us < p->before_us)
        *ARRAY_PUSH(p->items, p->count, p->cap) =
            (struct unfinished){mem_str(buf_view(&p->key)), mem_str(buf_view(&p->id))};
    return !p->bad;
}

/* All that are old, before any is aborted: pages do not shift then. */
static enum err_code uploads_list(struct remote *r, struct uploads_page *p, struct err *err)
{
    do {
        _cleanup_(remote_answer_done) struct remote_answer a = {0};
        _cleanup_(buf_done) struct buf query = BUF_INIT;
        struct remote_call c = {
            .method = "GET", .bucket = true, .reply_max = REMOTE_DOCUMENT_BYTES_MAX, .repeatable = true};
        if (p->truncated)
            parameter(&query, "key-marker", slice_lit(""), buf_view(&p->next_key));
        parameter(&query, "prefix", slice_str(r->prefix), slice_lit(""));
        if (p->truncated)
            parameter(&query, "upload-id-marker", slice_lit(""), buf_view(&p->next_id));
        buf_str(&query, "&uploads=");
        c.query = buf_view(&query);
        p->truncated = false;
        TRY(remote_call(r, &c, &a, err));
        enum err_code rc = xml_walk(buf_view(&a.reply), uploads_element, p, err);
        if (p->bad)
            return err_set(err, ERR_CORRUPT, "a list of unfinished uploads that makes no sense");
        TRY(rc);
    } while (p->truncated && p->count < UPLOADS_MAX);
    return ERR_OK;
}

static enum err_code s3_abort_uploads(struct remote *r, int64_t before_us, bool (*ours)(void *arg, slice key),
                                      void *arg, struct err *err)
{
    _cleanup_(uploads_page_done) struct uploads_page p = {.before_us = before_us};
    slice prefix = slice_str(r->prefix);

    TRY(uploads_list(r, &p, err));
    for (size_t i = 0; i < p.count; i++) {
        slice key = slice_str(p.items[i].key);
        if (!slice_starts(key, prefix) || !ours(arg, slice_from(key, prefix.len)))
            continue;
        if (r->read_only)
            return err_set(err, ERR_DENIED, "the bucket %s is open for reading only", r->bucket);
        enum err_code rc = upload_abort(r, slice_from(key, prefix.len), slice_str(p.items[i].id), err);
        if (rc != ERR_OK && rc != ERR_NOT_FOUND)
            return rc;
    }
    return ERR_OK;
}

/* ---- many removed in one request */

static void xml_text(struct buf *out, slice prefix, slice text)
{
    const slice both[] = {prefix, text};

    for (size_t k = 0; k < ARRAY_LEN(both); k++)
        for (size_t i = 0; i < both[k].len; i++) {
            uint8_t c = both[k].ptr[i];
            if (c == '&' || c == '<' || c == '>')
                buf_str(out, c == '&' ? "&amp;" : c == '<' ? "&lt;" : "&gt;");
            else
                buf_byte(out, c);
        }
}

static void md5_base64(slice bytes, char out[MD5_TEXT + 1])
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;

    ASSERT(EVP_Digest(bytes.ptr, bytes.len, digest, &len, EVP_md5(), NULL) == 1 && len == 16);
    (void)EVP_EncodeBlock((unsigned char *)out, digest, 16);
}

struct refused {
    struct buf key;
    char code[64];
};

static bool removed_element(void *arg, const struct xml_element *e)
{
    struct refused *f = arg;

    if (slice_eq(e->path, slice_lit("DeleteResult/Error/Key")))
        text_set(&f->key, e->text);
    else if (slice_eq(e->path, slice_lit("DeleteResult/Error/Code")))
        (void)snprintf(f->code, sizeof(f->code), SLICE_FMT, SLICE_ARG(e->text));
    else if (slice_eq(e->path, slice_lit("DeleteResult/Error")) && strcmp(f->code, "NoSuchKey") != 0)
        return false; /* the first one tells enough */
    return true;
}

static enum err_code removed_check(const struct remote_answer *a, struct err *err)
{
    struct refused f = {.key = BUF_INIT};

    enum err_code rc = xml_walk(buf_view(&a->reply), removed_element, &f, err);
    if (rc == ERR_CANCELLED)
        rc = err_set(err, strcmp(f.code, "AccessDenied") == 0 ? ERR_DENIED : ERR_UNKNOWN, "DELETE " SLICE_FMT ": %s",
                     SLICE_ARG(buf_view(&f.key)), f.code);
    buf_done(&f.key);
    return rc;
}

/* Absent keys count as removed. The document needs a checksum of its own: Content-MD5, which all servers know. */
static enum err_code s3_remove_many(struct remote *r, const slice *keys, size_t count, struct err *err)
{
    _cleanup_(remote_answer_done) struct remote_answer a = {0};
    _cleanup_(buf_done) struct buf body = BUF_INIT;
    struct remote_call c = {.method = "POST",
                            .bucket = true,
                            .query = slice_lit("delete="),
                            .reply_max = REMOTE_DOCUMENT_BYTES_MAX,
                            .repeatable = true};
    char md5[MD5_TEXT + 1];

    buf_str(&body, "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>");
    for (size_t i = 0; i < count; i++) {
        buf_str(&body, "<Object><Key>");
        xml_text(&body, slice_str(r->prefix), keys[i]);
        buf_str(&body, "</Key></Object>");
    }
    buf_str(&body, "</Delete>");
    c.body = buf_view(&body);
    md5_base64(c.body, md5);
    remote_call_header(&c, "content-md5", slice_of(md5, MD5_TEXT));
    TRY(remote_call(r, &c, &a, err));
    return removed_check(&a, err);
}

/* ---- reads, lists */

static bool s3_intact(const struct remote_answer *a)
{
    slice want = exchange_answer(&a->x, "x-amz-checksum-crc32c");
    char have[REMOTE_CRC_TEXT + 1];

    if (want.len != REMOTE_CRC_TEXT) /* none kept; or one of parts, which ends in -N */
        return true;
    remote_crc_text(crc32c(0, a->reply.ptr, a->reply.len), have);
    return slice_eq(want, slice_of(have, REMOTE_CRC_TEXT));
}

static void s3_list_query(const struct remote *r, slice token, slice prefix, slice start_after, bool delimiter,
                          struct buf *query)
{
    if (token.len) /* sorted by name */
        parameter(query, "continuation-token", slice_lit(""), token);
    if (delimiter)
        parameter(query, "delimiter", slice_lit(""), slice_lit("/"));
    parameter(query, "encoding-type", slice_lit(""), slice_lit("url"));
    parameter(query, "list-type", slice_lit(""), slice_lit("2"));
    parameter(query, "prefix", slice_str(r->prefix), prefix);
    if (start_after.len)
        parameter(query, "start-after", slice_str(r->prefix), start_after);
}

static enum err_code s3_list_page(struct remote_page *p, slice document, struct err *err)
{
    static const struct remote_list_names names = {.item = "ListBucketResult/Contents",
                                                   .key = "ListBucketResult/Contents/Key",
                                                   .size = "ListBucketResult/Contents/Size",
                                                   .modified = "ListBucketResult/Contents/LastModified",
                                                   .prefix_item = "ListBucketResult/CommonPrefixes",
                                                   .prefix = "ListBucketResult/CommonPrefixes/Prefix",
                                                   .truncated = "ListBucketResult/IsTruncated",
                                                   .token = "ListBucketResult/NextContinuationToken",
                                                   .url_encoded = true};
    return remote_page_xml(p, document, &names, err);
}

/* ---- the engine's way */

static enum err_code s3_engine_login(struct remote *r, slice scope, struct engine *e, struct err *err)
{
    struct s3 *s = s3_of(r);
    _cleanup_(aws_key_copy_done) struct aws_key_copy keys = {0};

    TRY(aws_key_source_get(s->keys, false, &keys, err));
    const struct engine_secret_field fields[] = {{"ENDPOINT", slice_str(s->endpoint)},
                                                 {"REGION", slice_str(s->region)},
                                                 {"KEY_ID", keys.keys.access_key},
                                                 {"SECRET", keys.keys.secret_key},
                                                 {"SESSION_TOKEN", keys.keys.session_token},
                                                 {"URL_STYLE", slice_str(s->path_style ? "path" : "vhost")},
                                                 {"USE_SSL", slice_str(s->tls ? "true" : "false")}};
    const struct engine_secret login = {"s3", scope, fields, ARRAY_LEN(fields)};
    return engine_login(e, &login, err);
}

static void s3_done(struct remote *r)
{
    struct s3 *s = s3_of(r);

    aws_key_source_free(s->keys);
    free(s->region);
    free(s->origin);
    free(s->host);
    free(s->endpoint);
    free(s->base_path);
}

static const struct remote_dialect s3_dialect = {
    .describe = "S3 bucket",
    .scheme = "s3",
    .nonce_header = "x-amz-meta-sluice-nonce",
    .about_method = "HEAD",
    .about_query = "",
    .checksum_header = "x-amz-checksum-mode",
    .codes = s3_codes,
    .codes_count = ARRAY_LEN(s3_codes),
    .request = s3_request,
    .put = s3_put,
    .put_parts = s3_put_parts,
    .copy = s3_copy,
    .remove_many = s3_remove_many,
    .abort_uploads = s3_abort_uploads,
    .intact = s3_intact,
    .list_query = s3_list_query,
    .list_page = s3_list_page,
    .engine_extension = "httpfs",
    .engine_login = s3_engine_login,
    .done = s3_done,
};

/* ---- opening */

/* "General purpose bucket naming rules", S3 User Guide; old buckets may have upper case and underscores. */
static bool bucket_valid(slice b)
{
    if (b.len < 3 || b.len > 63)
        return false;
    for (size_t i = 0; i < b.len; i++) {
        uint8_t c = b.ptr[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
              c == '_'))
            return false;
    }
    return b.ptr[0] != '.' && b.ptr[0] != '-';
}

/* With the bucket in front of the host unless path style. */
static enum err_code place(struct s3 *s, const struct s3_options *opt, struct err *err)
{
    _cleanup_(freep) char *own = mem_fmt("https://s3.%s.amazonaws.com", s->region);
    slice text = slice_str(opt->endpoint ? opt->endpoint : own);
    const char *bucket = s->base.bucket;
    struct remote_endpoint e;

    TRY(remote_endpoint_parse(text, &e, err));
    if (e.path.len)
        return err_set(err, ERR_INVALID, "'" SLICE_FMT "' is no endpoint of S3: write it without a path",
                       SLICE_ARG(text));
    s->path_style = opt->path_style || memchr(bucket, '.', strlen(bucket)); /* a certificate covers one label */
    s->tls = e.tls;
    s->endpoint = mem_str(e.host);
    s->host = s->path_style ? mem_str(e.host) : mem_fmt("%s.%s", bucket, s->endpoint);
    s->origin = mem_fmt(SLICE_FMT "%s", SLICE_ARG(e.scheme), s->host);
    s->base_path = s->path_style ? mem_fmt("/%s", bucket) : mem_str(slice_lit(""));
    return ERR_OK;
}

enum err_code store_s3_open(struct os *os, const struct s3_options *opt, struct aws_key_source *keys,
                            struct store **out, struct err *err)
{
    struct s3 *s = mem_zalloc(sizeof(*s));
    const char *bucket = opt->remote.bucket;

    remote_init(&s->base, os, &s3_dialect, &opt->remote);
    s->keys = keys;
    s->region = mem_str(slice_str(opt->region ? opt->region : "us-east-1"));
    s->no_store = opt->no_store;
    enum err_code rc = bucket_valid(slice_str(bucket))
                           ? place(s, opt, err)
                           : err_set(err, ERR_INVALID, "'%s' is no name of a bucket", bucket);
    if (rc != ERR_OK) {
        remote_ops.free(&s->base.base);
        return rc;
    }
    *out = &s->base.base;
    return ERR_OK;
}
