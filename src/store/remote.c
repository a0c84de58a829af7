/* remote.c: requests to stores behind HTTP: see remote.h. */
#include "store/remote.h"

#include <inttypes.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <stdio.h>

#include "base/metrics.h"
#include "base/timetext.h"
#include "store/traffic.h"
#include "store/xml.h"

#include "base/banned.h"

#define WAIT_US_MIN 50000
#define WAIT_US_MAX 10000000
#define RETRY_US_DEFAULT 30000000
#define PRODUCT_BYTES_MAX 100u
#define RETRY_AFTER_S_MAX 60
#define PREFIX_BYTES_MAX 200u

/* ---- one request */

void remote_call_header(struct remote_call *c, const char *name, slice value)
{
    ASSERT(c->extra_count < REMOTE_HEADERS_MAX);
    c->extra[c->extra_count++] = (struct exchange_header){name, value};
}

void remote_request_header(struct remote_request *q, const char *name, slice value)
{
    ASSERT(q->headers_count < ARRAY_LEN(q->headers));
    q->headers[q->headers_count++] =
        (struct exchange_header){name, slice_of(mem_str(value), value.len)}; /* bearer tokens: request_done() wipes */
}

static void request_done(struct remote_request *q)
{
    for (size_t i = 0; i < q->headers_count; i++) {
        explicit_bzero((uint8_t *)(uintptr_t)q->headers[i].value.ptr, q->headers[i].value.len);
        free((uint8_t *)(uintptr_t)q->headers[i].value.ptr);
    }
    buf_done(&q->url);
}

void remote_answer_done(struct remote_answer *a)
{
    exchange_done(&a->x);
    buf_done(&a->reply);
}

int64_t remote_clock_us(struct remote *r)
{
    return os_wall_us(r->os) + atomic_load(&r->clock_offset_us);
}

static void learn_clock(struct remote *r, const struct exchange *x)
{
    slice date = exchange_answer(x, "date");
    int64_t us;

    if (!date.len || !time_parse_rfc2822(date, &us))
        return;
    /* Date is cut to whole seconds: the middle of that second is the best guess. */
    atomic_store(&r->clock_offset_us, us + 500000 - os_wall_us(r->os));
    atomic_store(&r->clock_known, true);
}

static void learn_product(struct remote *r, slice product)
{
    if (!product.len)
        return;
    os_lock(r->os, r->mu);
    r->product.len = 0;
    buf_slice(&r->product, slice_head(product, PRODUCT_BYTES_MAX));
    os_unlock(r->os, r->mu);
}

static void tally(const struct remote_call *c, const struct remote_answer *a)
{
    traffic_requests(traffic_operation(c->method, c->bucket), TRAFFIC_SERVER, a->x.code == ERR_OK ? a->x.status : 0, 1);
    traffic_bytes(TRAFFIC_SERVER, a->x.sent_bytes, a->reply.len);
}

static int64_t retry_after_us(const struct remote_answer *a)
{
    uint64_t seconds;

    if (a->x.code != ERR_OK || !slice_u64(exchange_answer(&a->x, "retry-after"), &seconds))
        return 0;
    return (int64_t)MIN(seconds, (uint64_t)RETRY_AFTER_S_MAX) * 1000000;
}

/* Once, without judgement. An error is one of the keys, or that its turn did not come. */
static enum err_code send_once(struct remote *r, const struct remote_call *c, bool refused, int64_t deadline_us,
                               struct remote_answer *a, struct err *err)
{
    _cleanup_(request_done) struct remote_request q = {.url = BUF_INIT};

    TRY(r->dialect->request(r, c, refused, &q, err));
    a->reply.len = 0;
    exchange_done(&a->x);
    a->x = (struct exchange){.method = c->method,
                             .url = buf_cstr(&q.url),
                             .headers = q.headers,
                             .headers_count = q.headers_count,
                             .body = c->body,
                             .reply_max = c->reply_max,
                             .reply = &a->reply,
                             .once = c->once};
    if (!pace_enter(&r->pace, deadline_us))
        return err_set(err, ERR_UNAVAILABLE, "%s " SLICE_FMT ": the store asks for fewer requests", c->method,
                       SLICE_ARG(c->key));
    exchange_run(r->pool, &a->x, 1);
    bool throttled = a->x.code == ERR_OK && (a->x.status == 429 || a->x.status == 503);
    pace_leave(&r->pace, throttled, throttled ? retry_after_us(a) : 0);
    a->x.headers = NULL;
    a->x.url = NULL;
    if (a->x.code == ERR_OK) {
        learn_clock(r, &a->x);
        learn_product(r, exchange_answer(&a->x, "server"));
    }
    tally(c, a);
    return ERR_OK;
}

/* ---- what an answer means */

struct complaint {
    char code[64], message[200];
    enum remote_meaning meaning; /* 0: the status says all */
    bool region, request_id;     /* the document has them */
};

static void note(char *out, size_t size, slice text)
{
    (void)snprintf(out, size, SLICE_FMT, SLICE_ARG(text));
    out[strcspn(out, "\r\n")] = '\0'; /* Azure puts ids of the request on lines below */
}

static bool complaint_element(void *arg, const struct xml_element *e)
{
    struct complaint *c = arg;

    if (slice_eq(e->path, slice_lit("Error/Code")))
        note(c->code, sizeof(c->code), e->text);
    else if (slice_eq(e->path, slice_lit("Error/Message")))
        note(c->message, sizeof(c->message), e->text);
    c->region |= slice_eq(e->path, slice_lit("Error/Region"));
    c->request_id |= slice_eq(e->path, slice_lit("Error/RequestId"));
    return true;
}

/* {"error": {"code": 412, "message": "...", "errors": [{"reason": "conditionNotMet"}]}}, of Google's JSON API. */
static void complaint_json(struct complaint *c, slice document)
{
    json_t *doc = json_loadb((const char *)document.ptr, document.len, 0, NULL);
    const json_t *error = json_object_get(doc, "error");
    const char *reason =
                   json_string_value(json_object_get(json_array_get(json_object_get(error, "errors"), 0), "reason")),
               *message = json_string_value(json_object_get(error, "message"));

    note(c->code, sizeof(c->code), slice_str(reason ? reason : ""));
    note(c->message, sizeof(c->message), slice_str(message ? message : ""));
    json_decref(doc);
}

static struct complaint complaint_of(const struct remote *r, const struct remote_answer *a)
{
    struct complaint c = {0};
    slice header = exchange_answer(&a->x, "x-ms-error-code"); /* a HEAD has no body */

    if (a->x.code != ERR_OK || a->x.status < 300)
        return c;
    if (a->reply.len && a->reply.ptr[0] == '{')
        complaint_json(&c, buf_view(&a->reply));
    else if (a->reply.len && xml_walk(buf_view(&a->reply), complaint_element, &c, NULL) != ERR_OK)
        c.message[0] = '\0'; /* a body that is no document says nothing */
    if (header.len)
        note(c.code, sizeof(c.code), header);
    for (size_t i = 0; i < r->dialect->codes_count; i++)
        if (strcmp(c.code, r->dialect->codes[i].code) == 0)
            c.meaning = r->dialect->codes[i].meaning;
    return c;
}

static enum err_code judge_status(long status, enum remote_meaning meaning, bool reads)
{
    if (meaning == REMOTE_TAKEN)
        return ERR_CONFLICT;
    if (meaning == REMOTE_DOING)
        return reads ? ERR_UNAVAILABLE : ERR_UNKNOWN;
    if (status == 412)
        return ERR_CONFLICT;
    if (status == 404 && meaning != REMOTE_NO_BUCKET)
        return ERR_NOT_FOUND;
    if (status == 501) /* it knows no such request, and will not */
        return ERR_INVALID;
    if (status == 409 || status == 408 || status == 429 || status >= 500)
        return reads ? ERR_UNAVAILABLE : ERR_UNKNOWN;
    return status == 401 || status == 403 ? ERR_DENIED : ERR_INVALID;
}

/* ERR_UNKNOWN: perhaps it happened. */
static enum err_code outcome(const struct remote *r, const struct remote_call *c, const struct remote_answer *a,
                             const struct complaint *why, struct err *err)
{
    const struct exchange *x = &a->x;
    slice key = c->bucket || why->meaning == REMOTE_NO_BUCKET ? slice_str(r->bucket) : c->key;
    bool reads = strcmp(c->method, "GET") == 0 || strcmp(c->method, "HEAD") == 0;

    if (x->code == ERR_LIMIT)
        return err_set(err, ERR_LIMIT, "%s " SLICE_FMT ": %s", c->method, SLICE_ARG(key), x->problem);
    if (x->code != ERR_OK)
        return err_set(err, reads ? ERR_UNAVAILABLE : x->code, "%s " SLICE_FMT ": %s", c->method, SLICE_ARG(key),
                       x->problem);
    if (x->status >= 200 && x->status < 300)
        return ERR_OK;
    slice region = exchange_answer(x, "x-amz-bucket-region");
    if (x->status >= 404)
        region.len = 0;
    return err_set(err, judge_status(x->status, why->meaning, reads), "%s " SLICE_FMT ": %ld %s%s%s%s" SLICE_FMT,
                   c->method, SLICE_ARG(key), x->status, why->code, why->message[0] ? ": " : "", why->message,
                   region.len ? "; its region is " : "", SLICE_ARG(region));
}

static int64_t wait_before(struct remote *r, const struct remote_answer *a, unsigned attempt)
{
    uint64_t random = 0;
    int64_t top = MIN((int64_t)WAIT_US_MIN << MIN(attempt, 20u), WAIT_US_MAX);

    r->os->ops->random(r->os, &random, sizeof(random)); /* full jitter */
    return MAX((int64_t)(random % (uint64_t)top), retry_after_us(a));
}

enum err_code remote_call(struct remote *r, const struct remote_call *c, struct remote_answer *a, struct err *err)
{
    int64_t deadline = os_mono_us(r->os) + r->retry_us_max;
    bool resigned = false, refused = false;

    for (unsigned attempt = 0;; attempt++) {
        TRY(send_once(r, c, refused, deadline, a, err));
        struct complaint why = complaint_of(r, a);
        if (why.region && !why.request_id && !exchange_answer(&a->x, "server").len)
            learn_product(r, slice_lit("Garage")); /* it sends no Server; nobody else's documents look like that */
        enum err_code rc = outcome(r, c, a, &why, err);
        if (rc == ERR_OK)
            return ERR_OK;
        bool keys = why.meaning == REMOTE_KEYS || (a->x.code == ERR_OK && a->x.status == 401);
        if (!resigned && (keys || why.meaning == REMOTE_CLOCK)) {
            resigned = true;
            refused = keys;
            continue;
        }
        if (!c->repeatable || (rc != ERR_UNAVAILABLE && rc != ERR_UNKNOWN))
            return rc;
        int64_t us = wait_before(r, a, attempt);
        if (os_mono_us(r->os) + us > deadline)
            return rc;
        metric_add(
            metric_get(METRIC_COUNTER, "sluice_store_retries_total", "Requests to the object store sent again", NULL),
            1);
        r->os->ops->sleep_us(r->os, us);
    }
}

enum err_code remote_key_check(const struct remote *r, slice key, struct err *err)
{
    if (!store_key_valid(key) || strlen(r->prefix) + key.len > REMOTE_KEY_BYTES_MAX)
        return err_set(err, ERR_INVALID, "bad key " SLICE_FMT, SLICE_ARG(key));
    return ERR_OK;
}

void remote_crc_text(uint32_t crc, char out[REMOTE_CRC_TEXT + 1])
{
    const uint8_t bytes[4] = {(uint8_t)(crc >> 24), (uint8_t)(crc >> 16), (uint8_t)(crc >> 8), (uint8_t)crc};
    (void)EVP_EncodeBlock((unsigned char *)out, bytes, 4);
}

/* ---- opening */

void remote_init(struct remote *r, struct os *os, const struct remote_dialect *dialect,
                 const struct remote_options *opt)
{
    const struct exchange_options exchange = {
        .ca_file = opt->ca_file, .unverified = opt->unverified, .stall_us_max = opt->stall_us_max};
    slice prefix = slice_str(opt->prefix);

    while (prefix.len && prefix.ptr[prefix.len - 1] == '/')
        prefix.len--;
    r->base.ops = &remote_ops;
    r->dialect = dialect;
    r->os = os;
    r->mu = os->ops->mutex_new(os);
    r->cond = os->ops->cond_new(os);
    r->bucket = mem_str(slice_str(opt->bucket));
    r->prefix = prefix.len ? mem_fmt(SLICE_FMT "/", SLICE_ARG(prefix)) : mem_str(slice_lit(""));
    r->temp_dir = mem_str(slice_str(opt->temp_dir));
    r->ca_file = opt->ca_file ? mem_str(slice_str(opt->ca_file)) : NULL;
    r->read_only = opt->read_only;
    r->base.remote = true;
    r->base.parallel = REMOTE_PARALLEL;
    r->base.engine_extension = dialect->engine_extension;
    r->base.ca_file = r->ca_file;
    r->base.unverified = opt->unverified;
    r->retry_us_max = opt->retry_us_max ? opt->retry_us_max : RETRY_US_DEFAULT;
    r->pool = exchange_pool_new(&exchange);
    pace_init(&r->pace, os, opt->requests_max);
}

void remote_done(struct remote *r)
{
    exchange_pool_free(r->pool);
    pace_done(&r->pace);
    r->os->ops->cond_free(r->os, r->cond);
    r->os->ops->mutex_free(r->os, r->mu);
    buf_done(&r->product);
    free(r->bucket);
    free(r->prefix);
    free(r->temp_dir);
    free(r->ca_file);
}

enum err_code remote_url_parse(slice url, slice *scheme, slice *bucket, slice *prefix, struct err *err)
{
    const uint8_t *colon = url.len ? memmem(url.ptr, url.len, "://", 3) : NULL;

    if (!colon)
        return err_set(err, ERR_INVALID, "'" SLICE_FMT "' is no address of a bucket: write s3://bucket/prefix",
                       SLICE_ARG(url));
    *scheme = slice_head(url, (size_t)(colon - url.ptr));
    slice rest = slice_from(url, scheme->len + 3);
    const uint8_t *slash = rest.len ? memchr(rest.ptr, '/', rest.len) : NULL;
    *bucket = slice_head(rest, slash ? (size_t)(slash - rest.ptr) : rest.len);
    *prefix = slice_from(rest, bucket->len + 1);
    while (prefix->len && prefix->ptr[prefix->len - 1] == '/')
        prefix->len--;
    if (prefix->len && (!store_key_valid(*prefix) || prefix->len > PREFIX_BYTES_MAX))
        return err_set(err, ERR_INVALID, "'" SLICE_FMT "' can not begin keys", SLICE_ARG(*prefix));
    return ERR_OK;
}

enum err_code remote_endpoint_parse(slice text, struct remote_endpoint *out, struct err *err)
{
    struct remote_endpoint e = {.tls = slice_starts(text, slice_lit("https://"))};

    while (text.len && text.ptr[text.len - 1] == '/')
        text.len--;
    e.scheme = slice_head(text, e.tls ? 8 : slice_starts(text, slice_lit("http://")) ? 7 : 0);
    slice rest = slice_from(text, e.scheme.len);
    const uint8_t *slash = rest.len ? memchr(rest.ptr, '/', rest.len) : NULL;
    e.host = slice_head(rest, slash ? (size_t)(slash - rest.ptr) : rest.len);
    e.path = slice_from(rest, e.host.len);
    if (!e.scheme.len || !e.host.len || memchr(rest.ptr, '@', rest.len) || memchr(rest.ptr, '?', rest.len))
        return err_set(err, ERR_INVALID, "'" SLICE_FMT "' is no endpoint: write https://host or http://host:port",
                       SLICE_ARG(text));
    *out = e;
    return ERR_OK;
}
