/* s3.c: see s3.h.
 *
 *   call -> request (key -> URL, headers) -> sign -> exchange -> outcome: an answer, again after a wait, or an error
 *
 * An upload is one PUT up to PUT_BYTES_MAX, else parts, one after the other, and a completion that is the exclusive create. */
#include "store/s3.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/hash.h"
#include "base/metrics.h"
#include "base/timetext.h"
#include "engine/engine.h"
#include "store/exchange.h"
#include "store/xml.h"

#include "base/banned.h"

#define S3_KEY_BYTES_MAX 1023u
#define PUT_BYTES_MAX (16u << 20)
#define PART_BYTES (16u << 20)
#define READ_BYTES_MAX (1ull << 30)
#define XML_BYTES_MAX (8u << 20)
#define WAIT_US_MIN 50000
#define WAIT_US_MAX 10000000
#define NONCE_HEX 32
#define EXTRA_HEADERS_MAX 6

struct s3 {
    struct store base;
    struct os *os;
    struct aws_key_source *keys;
    struct exchange_pool *pool;
    char *bucket, *prefix, *region, *temp_dir, *ca_file;
    char *origin, *host; /* "https://host:port" and "host:port" */
    char *endpoint;      /* host:port without the bucket */
    bool tls, path_style, read_only;
    char *base_path; /* "" or, path style, "/bucket" */
    int64_t retry_us_max;
    _Atomic int64_t clock_offset_us; /* server's clock minus ours, from its last Date */
    _Atomic bool clock_known;
};

static struct s3 *s3_of(struct store *s)
{
    return (struct s3 *)s;
}

/* ---- one request */

struct call {
    const char *method;
    slice key;   /* without the store's prefix */
    bool bucket; /* about the bucket: no key */
    slice query; /* encoded, sorted */
    slice body;
    struct aws_header extra[EXTRA_HEADERS_MAX]; /* lower case; signed too */
    size_t extra_count;
    uint64_t reply_max;
    bool repeatable; /* it does the same however often it is done */
};
struct answer {
    struct exchange x;
    struct buf reply;
};
struct headers {
    struct aws_header list[EXTRA_HEADERS_MAX + 4];
    size_t count;
    char time[AWS_TIME_TEXT + 1];
};

static void answer_done(struct answer *a)
{
    exchange_done(&a->x);
    buf_done(&a->reply);
}

static void call_header(struct call *c, const char *name, slice value)
{
    ASSERT(c->extra_count < EXTRA_HEADERS_MAX);
    c->extra[c->extra_count++] = (struct aws_header){name, value};
}

static int64_t server_us(struct s3 *s)
{
    return os_wall_us(s->os) + atomic_load(&s->clock_offset_us);
}

static void learn_clock(struct s3 *s, const struct exchange *x)
{
    slice date = exchange_answer(x, "date");
    int64_t us;

    if (!date.len || !time_parse_rfc2822(date, &us))
        return;
    /* Date is cut to whole seconds: the middle of that second is the best guess. */
    atomic_store(&s->clock_offset_us, us + 500000 - os_wall_us(s->os));
    atomic_store(&s->clock_known, true);
}

static void tally(const struct call *c, const struct answer *a)
{
    static const char *const classes[] = {"none", "1xx", "2xx", "3xx", "4xx", "5xx"};
    char labels[96];
    long class = a->x.code == ERR_OK ? a->x.status / 100 : 0;

    (void)snprintf(labels, sizeof(labels), "method=\"%s\",status=\"%s\"", c->method,
                   classes[class >= 0 && class <= 5 ? class : 0]);
    metric_add(metric_get(METRIC_COUNTER, "sluice_store_requests_total",
                          "Requests to the object store, by the class of the answer; none: no answer", labels),
               1);
    metric_add(
        metric_get(METRIC_COUNTER, "sluice_store_sent_bytes_total", "Bytes of bodies sent to the object store", NULL),
        (double)a->x.sent_bytes);
    metric_add(metric_get(METRIC_COUNTER, "sluice_store_received_bytes_total",
                          "Bytes of bodies received from the object store", NULL),
               (double)a->reply.len);
}

static void path_of(const struct s3 *s, const struct call *c, struct buf *out)
{
    buf_str(out, s->base_path);
    buf_byte(out, '/');
    if (!c->bucket) {
        aws_encode(out, slice_str(s->prefix), true);
        aws_encode(out, c->key, true);
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct aws_header *)a)->name, ((const struct aws_header *)b)->name);
}

static void sign(struct s3 *s, struct aws_request *r, const struct call *c, const struct aws_keys *keys,
                 struct headers *h, struct buf *authorization)
{
    aws_time(server_us(s), h->time);
    memcpy(h->list, c->extra, c->extra_count * sizeof(c->extra[0]));
    h->count = c->extra_count;
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

/* Once, without judgement. An error is one of the keys. */
static enum err_code send_once(struct s3 *s, const struct call *c, bool refused, struct answer *a, struct err *err)
{
    _cleanup_(aws_key_copy_done) struct aws_key_copy keys = {0};
    _cleanup_(buf_done) struct buf path = BUF_INIT;
    _cleanup_(buf_done) struct buf url = BUF_INIT;
    _cleanup_(buf_done) struct buf authorization = BUF_INIT;
    struct aws_request r = {.method = slice_str(c->method), .query = c->query};
    struct exchange_header sent[EXTRA_HEADERS_MAX + 5];
    struct headers h;
    size_t count = 0;

    TRY(aws_key_source_get(s->keys, refused, &keys, err));
    path_of(s, c, &path);
    r.path = buf_view(&path);
    sha256_hex(c->body, r.payload);
    sign(s, &r, c, &keys.keys, &h, &authorization);
    buf_fmt(&url, "%s%s", s->origin, buf_cstr(&path));
    if (c->query.len)
        buf_byte(&url, '?');
    buf_slice(&url, c->query);
    for (size_t i = 0; i < h.count; i++)
        if (strcmp(h.list[i].name, "host") != 0) /* curl writes that one */
            sent[count++] = (struct exchange_header){h.list[i].name, h.list[i].value};
    sent[count++] = (struct exchange_header){"authorization", buf_view(&authorization)};
    a->reply.len = 0;
    exchange_done(&a->x);
    a->x = (struct exchange){.method = c->method,
                             .url = buf_cstr(&url),
                             .headers = sent,
                             .headers_count = count,
                             .body = c->body,
                             .reply_max = c->reply_max,
                             .reply = &a->reply};
    exchange_run(s->pool, &a->x, 1);
    a->x.headers = NULL;
    a->x.url = NULL;
    if (a->x.code == ERR_OK)
        learn_clock(s, &a->x);
    tally(c, a);
    return ERR_OK;
}

/* ---- what an answer means */

struct complaint {
    char code[64], message[200];
};

static bool complaint_element(void *arg, const struct xml_element *e)
{
    struct complaint *c = arg;

    if (slice_eq(e->path, slice_lit("Error/Code")))
        (void)snprintf(c->code, sizeof(c->code), SLICE_FMT, SLICE_ARG(e->text));
    else if (slice_eq(e->path, slice_lit("Error/Message")))
        (void)snprintf(c->message, sizeof(c->message), SLICE_FMT, SLICE_ARG(e->text));
    return true;
}

static struct complaint complaint_of(const struct answer *a)
{
    struct complaint c = {"", ""};

    if (a->reply.len && a->x.status >= 300 && xml_walk(buf_view(&a->reply), complaint_element, &c, NULL) != ERR_OK)
        c.message[0] = '\0'; /* a body that is no document says nothing */
    return c;
}

static bool is(const struct complaint *c, const char *code)
{
    return strcmp(c->code, code) == 0;
}

/* ERR_UNKNOWN: perhaps it happened. */
static enum err_code outcome(const struct s3 *s, const struct call *c, const struct answer *a,
                             const struct complaint *why, struct err *err)
{
    const struct exchange *x = &a->x;
    slice key = c->bucket ? slice_str(s->bucket) : c->key;
    bool reads = strcmp(c->method, "GET") == 0 || strcmp(c->method, "HEAD") == 0;

    if (x->code == ERR_LIMIT)
        return err_set(err, ERR_LIMIT, "%s " SLICE_FMT ": %s", c->method, SLICE_ARG(key), x->problem);
    if (x->code != ERR_OK)
        return err_set(err, reads ? ERR_UNAVAILABLE : x->code, "%s " SLICE_FMT ": %s", c->method, SLICE_ARG(key),
                       x->problem);
    if (x->status >= 200 && x->status < 300)
        return ERR_OK;
    enum err_code rc;
    if (x->status == 412)
        rc = ERR_CONFLICT;
    else if (x->status == 404 && !is(why, "NoSuchBucket"))
        rc = ERR_NOT_FOUND;
    else if (x->status == 409 || x->status == 408 || x->status == 429 || x->status >= 500)
        rc = reads ? ERR_UNAVAILABLE : ERR_UNKNOWN;
    else if (x->status == 401 || x->status == 403)
        rc = ERR_DENIED;
    else
        rc = ERR_INVALID;
    slice region = exchange_answer(x, "x-amz-bucket-region");
    return err_set(err, rc, "%s " SLICE_FMT ": %ld %s%s%s%s" SLICE_FMT, c->method, SLICE_ARG(key), x->status, why->code,
                   why->message[0] ? ": " : "", why->message, region.len && x->status < 404 ? "; its region is " : "",
                   SLICE_ARG(region.len && x->status < 404 ? region : slice_lit("")));
}

/* A request that the server refused for its time or its keys did nothing: with the clock of the answer, or new keys, it may pass. */
static bool worth_signing_again(const struct complaint *why)
{
    return is(why, "RequestTimeTooSkewed") || is(why, "ExpiredToken") || is(why, "InvalidToken") ||
           is(why, "TokenRefreshRequired");
}

static int64_t wait_before(struct s3 *s, const struct answer *a, unsigned attempt)
{
    uint64_t seconds, r = 0;
    int64_t top = MIN((int64_t)WAIT_US_MIN << MIN(attempt, 20u), WAIT_US_MAX);

    s->os->ops->random(s->os, &r, sizeof(r)); /* full jitter */
    int64_t us = (int64_t)(r % (uint64_t)top);
    if (a->x.code == ERR_OK && slice_u64(exchange_answer(&a->x, "retry-after"), &seconds) && seconds <= 60)
        us = MAX(us, (int64_t)seconds * 1000000);
    return us;
}

static enum err_code call(struct s3 *s, const struct call *c, struct answer *a, struct err *err)
{
    int64_t deadline = os_mono_us(s->os) + s->retry_us_max;
    bool resigned = false, refused = false;

    for (unsigned attempt = 0;; attempt++) {
        TRY(send_once(s, c, refused, a, err));
        struct complaint why = complaint_of(a);
        enum err_code rc = outcome(s, c, a, &why, err);
        if (rc == ERR_OK)
            return ERR_OK;
        if (!resigned && worth_signing_again(&why)) {
            resigned = true;
            refused = !is(&why, "RequestTimeTooSkewed");
            continue;
        }
        if (!c->repeatable || (rc != ERR_UNAVAILABLE && rc != ERR_UNKNOWN))
            return rc;
        int64_t us = wait_before(s, a, attempt);
        if (os_mono_us(s->os) + us > deadline)
            return rc;
        metric_add(
            metric_get(METRIC_COUNTER, "sluice_store_retries_total", "Requests to the object store sent again", NULL),
            1);
        s->os->ops->sleep_us(s->os, us);
    }
}

static enum err_code writable(const struct s3 *s, struct err *err)
{
    return s->read_only ? err_set(err, ERR_DENIED, "the bucket %s is open for reading only", s->bucket) : ERR_OK;
}

static enum err_code key_check(const struct s3 *s, slice key, struct err *err)
{
    if (!store_key_valid(key) || strlen(s->prefix) + key.len > S3_KEY_BYTES_MAX)
        return err_set(err, ERR_INVALID, "bad key " SLICE_FMT, SLICE_ARG(key));
    return ERR_OK;
}

/* ---- create */

#define CRC_BASE64 8
static void crc_base64(uint32_t crc, char out[CRC_BASE64 + 1])
{
    const uint8_t bytes[4] = {(uint8_t)(crc >> 24), (uint8_t)(crc >> 16), (uint8_t)(crc >> 8), (uint8_t)crc};
    (void)EVP_EncodeBlock((unsigned char *)out, bytes, 4);
}

static enum err_code s3_create(struct store *store, slice key, slice bytes, struct err *err)
{
    struct s3 *s = s3_of(store);
    _cleanup_(answer_done) struct answer a = {0};
    char crc[CRC_BASE64 + 1];
    struct call c = {.method = "PUT", .key = key, .body = bytes, .reply_max = XML_BYTES_MAX};

    TRY(writable(s, err));
    TRY(key_check(s, key, err));
    crc_base64(crc32c(0, bytes.ptr, bytes.len), crc);
    call_header(&c, "if-none-match", slice_lit("*"));
    call_header(&c, "x-amz-checksum-crc32c", slice_of(crc, CRC_BASE64));
    return call(s, &c, &a, err);
}

/* ---- uploads: a temporary file here, then one PUT or parts */

static enum err_code s3_upload_begin(struct store *store, struct os_file **out, struct err *err)
{
    struct s3 *s = s3_of(store);

    TRY(writable(s, err));
    return s->os->ops->open(s->os, s->temp_dir, OS_READ | OS_WRITE | OS_UNNAMED, out, err);
}

static void s3_upload_drop(struct store *store, struct os_file *f)
{
    struct s3 *s = s3_of(store);
    s->os->ops->close(s->os, f);
}

struct upload {
    struct s3 *s;
    struct os_file *f;
    slice key;
    uint64_t size;
    char nonce[NONCE_HEX + 1]; /* in the object's metadata: whose it is after a lost reply */
    char id[1100];             /* of a multipart upload */
    struct buf parts;          /* the completion's body */
};

static void upload_done(struct upload *u)
{
    buf_done(&u->parts);
}

static enum err_code read_piece(struct upload *u, uint64_t at, struct buf *out, struct err *err)
{
    size_t want = (size_t)MIN(u->size - at, (uint64_t)PART_BYTES), got = 0;

    out->len = 0;
    buf_reserve(out, want + 1);
    TRY(u->s->os->ops->pread(u->s->os, u->f, out->ptr, want, at, &got, err));
    if (got != want)
        return err_set(err, ERR_IO, "an upload's file is shorter than it was");
    out->len = got;
    return ERR_OK;
}

/* The key is taken: by us, whose reply was lost? */
static enum err_code whose(struct upload *u, struct err *err)
{
    _cleanup_(answer_done) struct answer a = {0};
    const struct call c = {.method = "HEAD", .key = u->key, .repeatable = true};

    TRY(call(u->s, &c, &a, err));
    if (slice_eq(exchange_answer(&a.x, "x-amz-meta-sluice-nonce"), slice_str(u->nonce)))
        return ERR_OK;
    return err_set(err, ERR_CONFLICT, SLICE_FMT " exists", SLICE_ARG(u->key));
}

static enum err_code put_whole(struct upload *u, struct err *err)
{
    _cleanup_(answer_done) struct answer a = {0};
    _cleanup_(buf_done) struct buf bytes = BUF_INIT;
    char crc[CRC_BASE64 + 1];
    struct call c = {.method = "PUT", .key = u->key, .reply_max = XML_BYTES_MAX, .repeatable = true};

    TRY(read_piece(u, 0, &bytes, err));
    c.body = buf_view(&bytes);
    crc_base64(crc32c(0, bytes.ptr, bytes.len), crc);
    call_header(&c, "if-none-match", slice_lit("*"));
    call_header(&c, "x-amz-checksum-crc32c", slice_of(crc, CRC_BASE64));
    call_header(&c, "x-amz-meta-sluice-nonce", slice_str(u->nonce));
    enum err_code rc = call(u->s, &c, &a, err);
    return rc == ERR_CONFLICT ? whose(u, err) : rc;
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
    _cleanup_(answer_done) struct answer a = {0};
    struct call c = {.method = "POST",
                     .key = u->key,
                     .query = slice_lit("uploads="),
                     .reply_max = XML_BYTES_MAX,
                     .repeatable = true}; /* one begun in vain is aborted by the bucket's rule */

    call_header(&c, "x-amz-meta-sluice-nonce", slice_str(u->nonce));
    TRY(call(u->s, &c, &a, err));
    TRY(xml_walk(buf_view(&a.reply), upload_id_element, u, err));
    return u->id[0] ? ERR_OK : err_set(err, ERR_CORRUPT, SLICE_FMT ": no id of a multipart upload", SLICE_ARG(u->key));
}

static enum err_code part_put(struct upload *u, unsigned number, slice bytes, struct err *err)
{
    _cleanup_(answer_done) struct answer a = {0};
    _cleanup_(buf_done) struct buf query = BUF_INIT;
    struct call c = {.method = "PUT", .key = u->key, .body = bytes, .reply_max = XML_BYTES_MAX, .repeatable = true};

    buf_fmt(&query, "partNumber=%u&uploadId=", number);
    aws_encode(&query, slice_str(u->id), false);
    c.query = buf_view(&query);
    TRY(call(u->s, &c, &a, err));
    slice etag = exchange_answer(&a.x, "etag"); /* opaque: a name for the completion, no checksum */
    if (!etag.len)
        return err_set(err, ERR_CORRUPT, SLICE_FMT ": part %u has no ETag", SLICE_ARG(u->key), number);
    buf_fmt(&u->parts, "<Part><PartNumber>%u</PartNumber><ETag>" SLICE_FMT "</ETag></Part>", number, SLICE_ARG(etag));
    return ERR_OK;
}

static bool error_element(void *arg, const struct xml_element *e)
{
    *(bool *)arg |= slice_eq(e->path, slice_lit("Error"));
    return true;
}

static enum err_code parts_complete(struct upload *u, struct err *err)
{
    _cleanup_(answer_done) struct answer a = {0};
    _cleanup_(buf_done) struct buf query = BUF_INIT;
    struct call c = {.method = "POST", .key = u->key, .reply_max = XML_BYTES_MAX, .repeatable = true};
    bool failed = false;

    buf_str(&u->parts, "</CompleteMultipartUpload>");
    buf_str(&query, "uploadId=");
    aws_encode(&query, slice_str(u->id), false);
    c.query = buf_view(&query);
    c.body = buf_view(&u->parts);
    call_header(&c, "if-none-match", slice_lit("*"));
    enum err_code rc = call(u->s, &c, &a, err);
    if (rc == ERR_CONFLICT || rc == ERR_NOT_FOUND) /* 404: an earlier try, whose reply was lost, used the upload up */
        return whose(u, err);
    TRY(rc);
    TRY(xml_walk(buf_view(&a.reply), error_element, &failed, err)); /* 200 was sent before the work was done */
    return failed ? err_set(err, ERR_UNKNOWN, SLICE_FMT ": the store could not join the parts", SLICE_ARG(u->key))
                  : ERR_OK;
}

static void parts_abort(struct upload *u)
{
    _cleanup_(answer_done) struct answer a = {0};
    _cleanup_(buf_done) struct buf query = BUF_INIT;
    struct call c = {.method = "DELETE", .key = u->key, .reply_max = XML_BYTES_MAX};

    buf_str(&query, "uploadId=");
    aws_encode(&query, slice_str(u->id), false);
    c.query = buf_view(&query);
    (void)call(u->s, &c, &a, NULL); /* else the bucket's rule for incomplete uploads */
}

static enum err_code put_parts(struct upload *u, struct err *err)
{
    _cleanup_(buf_done) struct buf bytes = BUF_INIT;
    enum err_code rc = ERR_OK;
    unsigned number = 0;

    TRY(parts_begin(u, err));
    buf_str(&u->parts, "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (uint64_t at = 0; at < u->size && rc == ERR_OK; at += PART_BYTES) {
        rc = read_piece(u, at, &bytes, err);
        if (rc == ERR_OK)
            rc = part_put(u, ++number, buf_view(&bytes), err);
    }
    if (rc == ERR_OK)
        rc = parts_complete(u, err);
    if (rc != ERR_OK)
        parts_abort(u);
    return rc;
}

static enum err_code s3_upload_publish(struct store *store, struct os_file *f, slice key, bool synced, struct err *err)
{
    struct s3 *s = s3_of(store);
    _cleanup_(upload_done) struct upload u = {.s = s, .f = f, .key = key};
    uint8_t random[NONCE_HEX / 2];

    (void)synced; /* what is published here is durable */
    TRY(key_check(s, key, err));
    TRY(s->os->ops->size(s->os, f, &u.size, err));
    s->os->ops->random(s->os, random, sizeof(random));
    for (size_t i = 0; i < sizeof(random); i++)
        (void)snprintf(u.nonce + 2 * i, 3, "%02x", random[i]);
    TRY(u.size <= PUT_BYTES_MAX ? put_whole(&u, err) : put_parts(&u, err));
    s->os->ops->close(s->os, f);
    return ERR_OK;
}

static enum err_code s3_sync_group(struct store *store, const slice *keys, size_t count, struct err *err)
{
    (void)store;
    (void)keys;
    (void)count;
    (void)err;
    return ERR_OK;
}

/* ---- read, stat */

static enum err_code meta_of(const struct answer *a, slice key, uint64_t size, struct store_meta *out, struct err *err)
{
    slice modified = exchange_answer(&a->x, "last-modified");

    *out = (struct store_meta){.size = size};
    if (!time_parse_rfc2822(modified, &out->modified_us))
        return err_set(err, ERR_CORRUPT, SLICE_FMT ": the store gave no time of it", SLICE_ARG(key));
    return ERR_OK;
}

/* "bytes 0-99/1234" */
static bool size_of_range(slice range, uint64_t *out)
{
    const uint8_t *slash = range.len ? memchr(range.ptr, '/', range.len) : NULL;
    return slash && slice_u64(slice_from(range, (size_t)(slash - range.ptr) + 1), out);
}

static enum err_code check_crc(const struct answer *a, slice key, struct err *err)
{
    slice want = exchange_answer(&a->x, "x-amz-checksum-crc32c");
    char have[CRC_BASE64 + 1];

    if (want.len != CRC_BASE64) /* none kept; or one of parts, which ends in -N */
        return ERR_OK;
    crc_base64(crc32c(0, a->reply.ptr, a->reply.len), have);
    if (slice_eq(want, slice_of(have, CRC_BASE64)))
        return ERR_OK;
    return err_set(err, ERR_UNAVAILABLE, SLICE_FMT ": the bytes that came do not match their checksum", SLICE_ARG(key));
}

static enum err_code s3_read(struct store *store, slice key, uint64_t offset, uint64_t len, struct buf *out,
                             struct store_meta *meta, struct err *err)
{
    struct s3 *s = s3_of(store);
    _cleanup_(answer_done) struct answer a = {0};
    struct call c = {.method = "GET", .key = key, .reply_max = MIN(len, READ_BYTES_MAX), .repeatable = true};
    bool ranged = offset != 0 || len != UINT64_MAX;
    struct store_meta m;
    char range[64];

    TRY(key_check(s, key, err));
    if (ranged && len == 0)
        return meta ? store->ops->stat(store, key, meta, err) : ERR_OK;
    if (len == UINT64_MAX)
        (void)snprintf(range, sizeof(range), "bytes=%" PRIu64 "-", offset);
    else
        (void)snprintf(range, sizeof(range), "bytes=%" PRIu64 "-%" PRIu64, offset, offset + (len - 1));
    if (ranged)
        call_header(&c, "range", slice_str(range));
    call_header(&c, "x-amz-checksum-mode", slice_lit("ENABLED"));
    if (len < XML_BYTES_MAX)
        c.reply_max = XML_BYTES_MAX; /* room for an error's document */
    enum err_code rc = call(s, &c, &a, err);
    if (rc == ERR_INVALID && a.x.status == 416) /* behind the end */
        return meta ? store->ops->stat(store, key, meta, err) : ERR_OK;
    TRY(rc);
    uint64_t size = a.reply.len;
    if (ranged && a.x.status == 200) /* a server that knows no ranges */
        return err_set(err, ERR_INVALID, SLICE_FMT ": the store ignores ranges", SLICE_ARG(key));
    if (a.x.status == 206 && !size_of_range(exchange_answer(&a.x, "content-range"), &size))
        return err_set(err, ERR_CORRUPT, SLICE_FMT ": a part without its place", SLICE_ARG(key));
    if (a.x.status == 200)
        TRY(check_crc(&a, key, err));
    TRY(meta_of(&a, key, size, &m, err));
    if (out->len == 0) {
        buf_done(out);
        *out = a.reply;
        a.reply = BUF_INIT;
    } else {
        buf_slice(out, buf_view(&a.reply));
    }
    if (meta)
        *meta = m;
    return ERR_OK;
}

static enum err_code s3_stat(struct store *store, slice key, struct store_meta *out, struct err *err)
{
    struct s3 *s = s3_of(store);
    _cleanup_(answer_done) struct answer a = {0};
    const struct call c = {.method = "HEAD", .key = key, .repeatable = true};
    uint64_t size;

    TRY(key_check(s, key, err));
    TRY(call(s, &c, &a, err));
    if (!slice_u64(exchange_answer(&a.x, "content-length"), &size))
        return err_set(err, ERR_CORRUPT, SLICE_FMT ": the store gave no size of it", SLICE_ARG(key));
    return meta_of(&a, key, size, out, err);
}

/* ---- list */

struct page {
    struct s3 *s;
    slice after; /* without the store's prefix */
    store_list_fn fn;
    void *arg;
    struct buf key, token; /* token: of the next page */
    struct store_meta meta;
    bool bad, more, stopped;
};

static void page_done(struct page *p)
{
    buf_done(&p->key);
    buf_done(&p->token);
}

static int hex_digit(uint8_t c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* encoding-type=url: a key may hold what XML can not. */
static bool url_decode(slice s, struct buf *out)
{
    out->len = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '%') {
            int high = i + 2 < s.len ? hex_digit(s.ptr[i + 1]) : -1, low = i + 2 < s.len ? hex_digit(s.ptr[i + 2]) : -1;
            if (high < 0 || low < 0)
                return false;
            buf_byte(out, (uint8_t)(high << 4 | low));
            i += 2;
        } else {
            buf_byte(out, s.ptr[i] == '+' ? ' ' : s.ptr[i]);
        }
    }
    return true;
}

/* Hands out what stands in `key`. */
static bool page_item(struct page *p, bool is_prefix)
{
    slice prefix = slice_str(p->s->prefix), key = buf_view(&p->key);
    struct store_list_item item = {.is_prefix = is_prefix};

    if (!slice_starts(key, prefix)) {
        p->bad = true;
        return false;
    }
    item.key = slice_from(key, prefix.len);
    if (!is_prefix)
        item.meta = p->meta;
    /* A rolled-up prefix counts by its own text here, by what it holds there. Names that no key of ours can have are none of ours. */
    if (slice_cmp(item.key, p->after) <= 0 ||
        !store_key_valid(is_prefix && item.key.len ? slice_head(item.key, item.key.len - 1) : item.key))
        return true;
    p->stopped = !p->fn(p->arg, &item);
    return !p->stopped;
}

static bool list_element(void *arg, const struct xml_element *e)
{
    struct page *p = arg;
    static const slice contents = {(const uint8_t *)"ListBucketResult/Contents", 25};

    if (slice_eq(e->path, slice_lit("ListBucketResult/Contents/Key")) ||
        slice_eq(e->path, slice_lit("ListBucketResult/CommonPrefixes/Prefix")))
        p->bad |= !url_decode(e->text, &p->key);
    else if (slice_eq(e->path, slice_lit("ListBucketResult/Contents/Size")))
        p->bad |= !slice_u64(e->text, &p->meta.size);
    else if (slice_eq(e->path, slice_lit("ListBucketResult/Contents/LastModified")))
        p->bad |= !time_parse_rfc3339(e->text, true, &p->meta.modified_us);
    else if (slice_eq(e->path, slice_lit("ListBucketResult/IsTruncated")))
        p->more = slice_eq(e->text, slice_lit("true"));
    else if (slice_eq(e->path, slice_lit("ListBucketResult/NextContinuationToken"))) {
        p->token.len = 0;
        buf_slice(&p->token, e->text);
    } else if (!p->bad && slice_eq(e->path, contents))
        return page_item(p, false);
    else if (!p->bad && slice_eq(e->path, slice_lit("ListBucketResult/CommonPrefixes")))
        return page_item(p, true);
    return !p->bad;
}

static void parameter(struct buf *query, const char *name, slice prefix, slice value)
{
    buf_fmt(query, "%s%s=", query->len ? "&" : "", name);
    aws_encode(query, prefix, false);
    aws_encode(query, value, false);
}

static void list_query(const struct s3 *s, slice token, slice prefix, slice start_after, bool delimiter,
                       struct buf *query)
{
    query->len = 0; /* sorted by name */
    if (token.len)
        parameter(query, "continuation-token", slice_lit(""), token);
    if (delimiter)
        parameter(query, "delimiter", slice_lit(""), slice_lit("/"));
    parameter(query, "encoding-type", slice_lit(""), slice_lit("url"));
    parameter(query, "list-type", slice_lit(""), slice_lit("2"));
    parameter(query, "prefix", slice_str(s->prefix), prefix);
    if (start_after.len)
        parameter(query, "start-after", slice_str(s->prefix), start_after);
}

static enum err_code s3_list(struct store *store, slice prefix, slice start_after, bool delimiter, store_list_fn fn,
                             void *arg, struct err *err)
{
    struct s3 *s = s3_of(store);
    _cleanup_(page_done) struct page p = {.s = s, .after = start_after, .fn = fn, .arg = arg, .more = true};
    _cleanup_(answer_done) struct answer a = {0};
    _cleanup_(buf_done) struct buf query = BUF_INIT;

    while (p.more && !p.stopped) {
        struct call c = {.method = "GET", .bucket = true, .reply_max = XML_BYTES_MAX, .repeatable = true};
        list_query(s, buf_view(&p.token), prefix, start_after, delimiter, &query);
        c.query = buf_view(&query);
        TRY(call(s, &c, &a, err));
        p.token.len = 0;
        p.more = false;
        enum err_code rc = xml_walk(buf_view(&a.reply), list_element, &p, err);
        if (p.bad)
            return err_set(err, ERR_CORRUPT, "LIST " SLICE_FMT ": an answer that makes no sense", SLICE_ARG(prefix));
        if (rc != ERR_OK && !p.stopped)
            return rc;
        if (p.more && !p.token.len && !p.stopped)
            return err_set(err, ERR_CORRUPT, "LIST " SLICE_FMT ": a page without its next", SLICE_ARG(prefix));
    }
    return ERR_OK;
}

/* ---- the rest */

static enum err_code s3_remove(struct store *store, slice key, struct err *err)
{
    struct s3 *s = s3_of(store);
    _cleanup_(answer_done) struct answer a = {0};
    const struct call c = {.method = "DELETE", .key = key, .reply_max = XML_BYTES_MAX, .repeatable = true};

    TRY(writable(s, err));
    TRY(key_check(s, key, err));
    enum err_code rc = call(s, &c, &a, err);
    return rc == ERR_NOT_FOUND ? ERR_OK : rc;
}

static enum err_code s3_now_us(struct store *store, int64_t *out, struct err *err)
{
    struct s3 *s = s3_of(store);

    if (!atomic_load(&s->clock_known)) {
        _cleanup_(answer_done) struct answer a = {0};
        const struct call c = {.method = "HEAD", .bucket = true, .repeatable = true};
        TRY(call(s, &c, &a, err));
        if (!atomic_load(&s->clock_known))
            return err_set(err, ERR_INVALID, "the store tells no Date");
    }
    *out = server_us(s);
    return ERR_OK;
}

static void s3_engine_path(struct store *store, slice key, struct buf *out)
{
    struct s3 *s = s3_of(store);

    buf_fmt(out, "s3://%s/%s", s->bucket, s->prefix);
    buf_slice(out, key);
    (void)buf_cstr(out);
}

static enum err_code s3_engine_login(struct store *store, struct engine *e, struct err *err)
{
    struct s3 *s = s3_of(store);
    _cleanup_(aws_key_copy_done) struct aws_key_copy keys = {0};
    _cleanup_(buf_done) struct buf scope = BUF_INIT;

    TRY(aws_key_source_get(s->keys, false, &keys, err));
    s3_engine_path(store, (slice){0}, &scope);
    const struct engine_s3 login = {.scope = buf_view(&scope),
                                    .host = slice_str(s->endpoint),
                                    .region = slice_str(s->region),
                                    .access_key = keys.keys.access_key,
                                    .secret_key = keys.keys.secret_key,
                                    .session_token = keys.keys.session_token,
                                    .tls = s->tls,
                                    .path_style = s->path_style};
    return engine_s3_login(e, &login, err);
}

static const char *s3_describe(struct store *store)
{
    (void)store;
    return "S3 bucket";
}

static void s3_free(struct store *store)
{
    struct s3 *s = s3_of(store);

    if (!s)
        return;
    exchange_pool_free(s->pool);
    aws_key_source_free(s->keys);
    free(s->bucket);
    free(s->prefix);
    free(s->region);
    free(s->temp_dir);
    free(s->origin);
    free(s->host);
    free(s->endpoint);
    free(s->ca_file);
    free(s->base_path);
    free(s);
}

static const struct store_ops s3_ops = {
    .free = s3_free,
    .create = s3_create,
    .upload_begin = s3_upload_begin,
    .upload_publish = s3_upload_publish,
    .upload_drop = s3_upload_drop,
    .sync_group = s3_sync_group,
    .read = s3_read,
    .stat = s3_stat,
    .list = s3_list,
    .remove = s3_remove,
    .now_us = s3_now_us,
    .engine_path = s3_engine_path,
    .engine_login = s3_engine_login,
    .describe = s3_describe,
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

enum err_code s3_url_parse(slice url, slice *bucket, slice *prefix, struct err *err)
{
    if (!slice_starts(url, slice_lit("s3://")))
        return err_set(err, ERR_INVALID, "'" SLICE_FMT "' is no address of a bucket: write s3://bucket/prefix",
                       SLICE_ARG(url));
    slice rest = slice_from(url, 5);
    const uint8_t *slash = rest.len ? memchr(rest.ptr, '/', rest.len) : NULL;
    *bucket = slice_head(rest, slash ? (size_t)(slash - rest.ptr) : rest.len);
    *prefix = slice_from(rest, bucket->len + 1);
    while (prefix->len && prefix->ptr[prefix->len - 1] == '/')
        prefix->len--;
    if (!bucket_valid(*bucket))
        return err_set(err, ERR_INVALID, "'" SLICE_FMT "' is no name of a bucket", SLICE_ARG(*bucket));
    if (prefix->len && (!store_key_valid(*prefix) || prefix->len > 200))
        return err_set(err, ERR_INVALID, "'" SLICE_FMT "' can not begin keys", SLICE_ARG(*prefix));
    return ERR_OK;
}

/* "scheme://host[:port]" -> origin and host; with the bucket in front of the host unless path style. */
static enum err_code place(struct s3 *s, const struct s3_options *opt, struct err *err)
{
    _cleanup_(freep) char *own = mem_fmt("https://s3.%s.amazonaws.com", s->region);
    slice endpoint = slice_str(opt->endpoint ? opt->endpoint : own);

    while (endpoint.len && endpoint.ptr[endpoint.len - 1] == '/')
        endpoint.len--;
    size_t scheme = slice_starts(endpoint, slice_lit("https://"))  ? 8
                    : slice_starts(endpoint, slice_lit("http://")) ? 7
                                                                   : 0;
    slice host = slice_from(endpoint, scheme);
    if (!scheme || !host.len || memchr(host.ptr, '/', host.len) || memchr(host.ptr, '@', host.len))
        return err_set(err, ERR_INVALID, "'" SLICE_FMT "' is no endpoint: write https://host or http://host:port",
                       SLICE_ARG(endpoint));
    s->path_style = opt->path_style || memchr(s->bucket, '.', strlen(s->bucket)); /* a certificate covers one label */
    s->tls = scheme == 8;
    s->endpoint = mem_str(host);
    s->host = s->path_style ? mem_str(host) : mem_fmt("%s.%s", s->bucket, s->endpoint);
    s->origin = mem_fmt(SLICE_FMT "%s", SLICE_ARG(slice_head(endpoint, scheme)), s->host);
    s->base_path = s->path_style ? mem_fmt("/%s", s->bucket) : mem_str(slice_lit(""));
    return ERR_OK;
}

enum err_code store_s3_open(struct os *os, const struct s3_options *opt, struct aws_key_source *keys,
                            struct store **out, struct err *err)
{
    const struct exchange_options exchange = {.ca_file = opt->ca_file, .stall_us_max = opt->stall_us_max};
    struct s3 *s = mem_zalloc(sizeof(*s));
    slice prefix = slice_str(opt->prefix);

    while (prefix.len && prefix.ptr[prefix.len - 1] == '/')
        prefix.len--;
    s->base.ops = &s3_ops;
    s->os = os;
    s->keys = keys;
    s->bucket = mem_str(slice_str(opt->bucket));
    s->prefix = prefix.len ? mem_fmt(SLICE_FMT "/", SLICE_ARG(prefix)) : mem_str(slice_lit(""));
    s->region = mem_str(slice_str(opt->region ? opt->region : "us-east-1"));
    s->temp_dir = mem_str(slice_str(opt->temp_dir));
    s->ca_file = opt->ca_file ? mem_str(slice_str(opt->ca_file)) : NULL;
    s->read_only = opt->read_only;
    s->base.remote = true;
    s->base.ca_file = s->ca_file;
    s->retry_us_max = opt->retry_us_max ? opt->retry_us_max : 30000000;
    s->pool = exchange_pool_new(&exchange);
    enum err_code rc = bucket_valid(slice_str(opt->bucket))
                           ? place(s, opt, err)
                           : err_set(err, ERR_INVALID, "'%s' is no name of a bucket", opt->bucket);
    if (rc != ERR_OK) {
        s3_free(&s->base);
        return rc;
    }
    *out = &s->base;
    return ERR_OK;
}
