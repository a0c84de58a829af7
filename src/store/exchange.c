/* exchange.c: see exchange.h. */
#include "store/exchange.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>

#include "base/banned.h"

#define STALL_BYTES_PER_S 1024L
#define POLL_MS 500
#define IDLE_LANES_MAX 64

struct lane { /* a multi with its warm connections; one thread at a time */
    CURLM *multi;
    struct lane *next;
};
struct exchange_pool {
    char *ca_file;
    bool unverified;
    long connect_ms, stall_s, exchange_ms;
    pthread_mutex_t mu;
    struct lane *idle; /* under mu; the last one used is the first */
    size_t idle_count; /* under mu */
};

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;

static void curl_begin(void)
{
    ASSERT(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
}

struct exchange_pool *exchange_pool_new(const struct exchange_options *opt)
{
    struct exchange_pool *p = mem_zalloc(sizeof(*p));

    (void)pthread_once(&curl_once, curl_begin);
    p->ca_file = opt->ca_file ? mem_str(slice_str(opt->ca_file)) : NULL;
    p->unverified = opt->unverified;
    p->connect_ms = (long)((opt->connect_us_max ? opt->connect_us_max : 5000000) / 1000);
    p->stall_s = (long)MAX((opt->stall_us_max ? opt->stall_us_max : 20000000) / 1000000, 1);
    p->exchange_ms = (long)((opt->exchange_us_max ? opt->exchange_us_max : 600000000) / 1000);
    (void)pthread_mutex_init(&p->mu, NULL);
    return p;
}

void exchange_pool_free(struct exchange_pool *p)
{
    if (!p)
        return;
    while (p->idle) {
        struct lane *l = p->idle;
        p->idle = l->next;
        (void)curl_multi_cleanup(l->multi);
        free(l);
    }
    (void)pthread_mutex_destroy(&p->mu);
    free(p->ca_file);
    free(p);
}

static struct lane *lane_take(struct exchange_pool *p)
{
    (void)pthread_mutex_lock(&p->mu);
    struct lane *l = p->idle;
    if (l) {
        p->idle = l->next;
        p->idle_count--;
    }
    (void)pthread_mutex_unlock(&p->mu);
    if (!l) {
        l = mem_zalloc(sizeof(*l));
        l->multi = curl_multi_init();
        ASSERT(l->multi);
        (void)curl_multi_setopt(l->multi, CURLMOPT_MAXCONNECTS, (long)EXCHANGE_PARALLEL_MAX);
    }
    return l;
}

static void lane_give(struct exchange_pool *p, struct lane *l)
{
    (void)pthread_mutex_lock(&p->mu);
    bool keep = p->idle_count < IDLE_LANES_MAX;
    if (keep) {
        l->next = p->idle;
        p->idle = l;
        p->idle_count++;
    }
    (void)pthread_mutex_unlock(&p->mu);
    if (!keep) {
        (void)curl_multi_cleanup(l->multi);
        free(l);
    }
}

/* ---- one exchange */

struct transfer {
    CURL *curl;
    struct curl_slist *headers;
    struct exchange *x;
    uint64_t received;
    bool too_long;
    char error[CURL_ERROR_SIZE];
};

static size_t on_body(char *ptr, size_t size, size_t n, void *arg)
{
    struct transfer *t = arg;
    size_t len = size * n;

    if (t->received + len > t->x->reply_max) {
        t->too_long = true;
        return 0;
    }
    t->received += len;
    if (t->x->reply)
        buf_put(t->x->reply, ptr, len);
    return len;
}

static size_t on_head(char *ptr, size_t size, size_t n, void *arg)
{
    struct transfer *t = arg;
    size_t len = size * n;

    if (len >= 5 && memcmp(ptr, "HTTP/", 5) == 0)
        t->x->head.len = 0; /* a 100 Continue came before */
    if (t->x->head.len + len > EXCHANGE_HEADER_BYTES_MAX)
        return 0;
    buf_put(&t->x->head, ptr, len);
    return len;
}

static void header_add(struct transfer *t, const char *name, slice value)
{
    _cleanup_(buf_done) struct buf line = BUF_INIT;

    buf_str(&line, name);
    buf_str(&line, value.len ? ": " : ";"); /* curl's way to say "without a value" */
    buf_slice(&line, value);
    struct curl_slist *list = curl_slist_append(t->headers, buf_cstr(&line));
    ASSERT(list);
    t->headers = list;
}

static void header_none(struct transfer *t, const char *line) /* "Name:": curl leaves its own one out */
{
    struct curl_slist *list = curl_slist_append(t->headers, line);
    ASSERT(list);
    t->headers = list;
}

static bool has_header(const struct exchange *x, const char *name)
{
    for (size_t i = 0; i < x->headers_count; i++)
        if (slice_eq_nocase(slice_str(x->headers[i].name), slice_str(name)))
            return true;
    return false;
}

static void transfer_begin(struct exchange_pool *p, struct lane *lane, struct transfer *t, struct exchange *x)
{
    CURL *c = curl_easy_init();

    ASSERT(c);
    *t = (struct transfer){.curl = c, .x = x};
    x->head.len = 0;
    for (size_t i = 0; i < x->headers_count; i++)
        header_add(t, x->headers[i].name, x->headers[i].value);
    header_none(t, "Expect:");
    header_none(t, "Accept:");
    if (!has_header(x, "Content-Type"))
        header_none(t, "Content-Type:");
    (void)curl_easy_setopt(c, CURLOPT_PRIVATE, t);
    (void)curl_easy_setopt(c, CURLOPT_URL, x->url);
    (void)curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    (void)curl_easy_setopt(c, CURLOPT_PATH_AS_IS, 1L);
    (void)curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(c, CURLOPT_TCP_NODELAY, 1L);
    (void)curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, p->connect_ms);
    (void)curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, STALL_BYTES_PER_S);
    (void)curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, p->stall_s);
    (void)curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, p->exchange_ms);
    (void)curl_easy_setopt(c, CURLOPT_FRESH_CONNECT, (long)x->once);
    if (p->ca_file)
        (void)curl_easy_setopt(c, CURLOPT_CAINFO, p->ca_file);
    if (p->unverified) {
        (void)curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 0L);
        (void)curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 0L);
    }
    (void)curl_easy_setopt(c, CURLOPT_HTTPHEADER, t->headers);
    (void)curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
    (void)curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_head);
    (void)curl_easy_setopt(c, CURLOPT_HEADERDATA, t);
    (void)curl_easy_setopt(c, CURLOPT_ERRORBUFFER, t->error);
    if (strcmp(x->method, "HEAD") == 0) {
        (void)curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
    } else if (strcmp(x->method, "PUT") == 0 || strcmp(x->method, "POST") == 0) {
        (void)curl_easy_setopt(c, CURLOPT_POST, 1L);
        (void)curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)x->body.len);
        (void)curl_easy_setopt(c, CURLOPT_POSTFIELDS, x->body.len ? (const char *)x->body.ptr : "");
        (void)curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, x->method);
    } else {
        (void)curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, x->method);
    }
    ASSERT(curl_multi_add_handle(lane->multi, c) == CURLM_OK);
}

static void transfer_end(struct lane *lane, struct transfer *t, CURLcode result)
{
    struct exchange *x = t->x;
    curl_off_t sent = 0;
    long request = 0;

    (void)curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &x->status);
    (void)curl_easy_getinfo(t->curl, CURLINFO_REQUEST_SIZE, &request);
    (void)curl_easy_getinfo(t->curl, CURLINFO_SIZE_UPLOAD_T, &sent);
    x->sent_bytes = sent > 0 ? (uint64_t)sent : 0;
    x->code = result == CURLE_OK ? ERR_OK : t->too_long ? ERR_LIMIT : request > 0 ? ERR_UNKNOWN : ERR_UNAVAILABLE;
    if (t->too_long)
        (void)snprintf(x->problem, sizeof(x->problem), "the answer is longer than %llu bytes",
                       (unsigned long long)x->reply_max);
    else if (result != CURLE_OK)
        (void)snprintf(x->problem, sizeof(x->problem), "%s", t->error[0] ? t->error : curl_easy_strerror(result));
    (void)curl_multi_remove_handle(lane->multi, t->curl);
    curl_easy_cleanup(t->curl);
    curl_slist_free_all(t->headers);
    *t = (struct transfer){0};
}

/* ---- a batch */

struct batch_run {
    struct lane *lane;
    struct transfer transfers[EXCHANGE_PARALLEL_MAX];
    size_t running;
};

static void finish_done(struct batch_run *b)
{
    CURLMsg *m;
    int left;

    while ((m = curl_multi_info_read(b->lane->multi, &left))) {
        struct transfer *t = NULL;
        if (m->msg != CURLMSG_DONE)
            continue;
        CURLcode result = m->data.result;
        (void)curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&t);
        ASSERT(t);
        transfer_end(b->lane, t, result);
        b->running--;
    }
}

static void finish_all(struct batch_run *b, CURLcode result)
{
    for (size_t i = 0; i < EXCHANGE_PARALLEL_MAX; i++)
        if (b->transfers[i].curl) {
            transfer_end(b->lane, &b->transfers[i], result);
            b->running--;
        }
}

static struct transfer *transfer_slot(struct batch_run *b)
{
    for (size_t i = 0; i < EXCHANGE_PARALLEL_MAX; i++)
        if (!b->transfers[i].curl)
            return &b->transfers[i];
    return NULL;
}

void exchange_run(struct exchange_pool *p, struct exchange *list, size_t count)
{
    struct batch_run b = {.lane = lane_take(p)};
    struct transfer *slot;
    size_t next = 0;
    int active;

    while (next < count || b.running) {
        while (next < count && (slot = transfer_slot(&b))) {
            transfer_begin(p, b.lane, slot, &list[next++]);
            b.running++;
        }
        CURLMcode rc = curl_multi_perform(b.lane->multi, &active);
        finish_done(&b);
        if (rc != CURLM_OK)
            finish_all(&b, CURLE_ABORTED_BY_CALLBACK);
        else if (b.running && (next == count || !transfer_slot(&b)))
            (void)curl_multi_poll(b.lane->multi, NULL, 0, POLL_MS, NULL);
    }
    lane_give(p, b.lane);
}

/* ---- answers */

slice exchange_answer(const struct exchange *x, const char *name)
{
    return exchange_answer_with(x, name, "");
}

slice exchange_answer_with(const struct exchange *x, const char *name, const char *part)
{
    slice rest = buf_view(&x->head), found = {NULL, 0}, value, want = slice_str(name);

    while (rest.len) {
        const uint8_t *end = memchr(rest.ptr, '\n', rest.len);
        slice line = slice_head(rest, end ? (size_t)(end - rest.ptr) : rest.len);
        rest = slice_from(rest, line.len + 1);
        if (line.len > want.len && line.ptr[want.len] == ':' && slice_eq_nocase(slice_head(line, want.len), want))
            value = slice_trim(slice_from(line, want.len + 1));
        else
            continue;
        if (!*part || (value.len && memmem(value.ptr, value.len, part, strlen(part))))
            found = value;
    }
    return found;
}

void exchange_done(struct exchange *x)
{
    buf_done(&x->head);
}
