/* http.c: see http.h. */
#include "cli/http.h"

#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "os/os.h"
#include "version.h"

#include "base/banned.h"

#define ERROR_BODY_BYTES_MAX (64u << 10)
#define CONNECT_TIMEOUT_S 10L
#define NETRC_BYTES_MAX (1u << 20)

/* ---- Ctrl-C */

static volatile sig_atomic_t stop_asked;

static void on_signal(int sig)
{
    (void)sig;
    if (stop_asked)
        _exit(130);
    stop_asked = 1;
}

void interrupt_catch(void)
{
    struct sigaction sa = {.sa_handler = on_signal};
    (void)sigemptyset(&sa.sa_mask);
    (void)sigaction(SIGINT, &sa, NULL);
    (void)sigaction(SIGTERM, &sa, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
}

bool interrupted(void)
{
    return stop_asked != 0;
}

void interrupt_clear(void)
{
    stop_asked = 0;
}

/* ---- .netrc (as ftp(1) and curl read it): machine NAME login USER password SECRET */

static slice next_word(slice *s)
{
    size_t a = 0, b;

    while (a < s->len && (s->ptr[a] == ' ' || s->ptr[a] == '\t' || s->ptr[a] == '\n' || s->ptr[a] == '\r'))
        a++;
    b = a;
    while (b < s->len && s->ptr[b] != ' ' && s->ptr[b] != '\t' && s->ptr[b] != '\n' && s->ptr[b] != '\r')
        b++;
    slice word = slice_of(s->ptr + a, b - a);
    *s = slice_from(*s, b);
    return word;
}

static bool netrc_find(slice text, slice host, slice *user, slice *password)
{
    bool here = false;

    *user = *password = (slice){NULL, 0};
    for (slice word = next_word(&text); word.len; word = next_word(&text)) {
        if (slice_eq(word, slice_lit("machine")) || slice_eq(word, slice_lit("default"))) {
            if (here && user->len && password->len)
                return true;
            here = slice_eq(word, slice_lit("machine")) && slice_eq_nocase(next_word(&text), host);
            *user = *password = (slice){NULL, 0};
        } else if (slice_eq(word, slice_lit("login"))) {
            *user = next_word(&text);
        } else if (slice_eq(word, slice_lit("password"))) {
            *password = next_word(&text);
        }
    }
    return here && user->len && password->len;
}

static slice host_of_url(slice url)
{
    const uint8_t *p = memmem(url.ptr, url.len, "://", 3);
    slice rest = p ? slice_from(url, (size_t)(p - url.ptr) + 3) : url;
    size_t n = 0;

    if (rest.len && rest.ptr[0] == '[') {
        const uint8_t *end = memchr(rest.ptr, ']', rest.len);
        return end ? slice_of(rest.ptr + 1, (size_t)(end - rest.ptr) - 1) : rest;
    }
    while (n < rest.len && rest.ptr[n] != ':' && rest.ptr[n] != '/')
        n++;
    return slice_head(rest, n);
}

static void netrc_credentials(struct http *h)
{
    const char *home = getenv("HOME"), *named = getenv("NETRC");
    _cleanup_(freep) char *path = named ? mem_str(slice_str(named)) : mem_fmt("%s/.netrc", home ? home : "");
    _cleanup_(freep) uint8_t *bytes = NULL;
    slice user, password;
    struct err err;
    size_t len;

    if (os_read_file(os_real(), path, NETRC_BYTES_MAX, &bytes, &len, &err) != ERR_OK)
        return; /* none: the server says so when it is needed */
    if (netrc_find(slice_of(bytes, len), host_of_url(buf_view(&h->url)), &user, &password)) {
        free(h->user);
        free(h->password);
        h->user = mem_str(user);
        h->password = mem_str(password);
    }
    explicit_bzero(bytes, len);
}

/* ---- handle */

enum err_code http_open(const struct config *c, struct http *out, struct err *err)
{
    slice url = slice_trim(slice_str(config_text(c, SET_SERVER)));
    const struct value *server = &c->values[SET_SERVER];
    static bool initialized;

    memset(out, 0, sizeof(*out));
    while (url.len && url.ptr[url.len - 1] == '/')
        url.len--;
    if (memmem(url.ptr, url.len, "://", 3) == NULL)
        buf_str(&out->url, "http://");
    else if (!slice_starts(url, slice_lit("http://")) && !slice_starts(url, slice_lit("https://")))
        return err_set(err, ERR_INVALID, "%s: '%s' is no address of a server: write for example http://localhost:8000",
                       server->where, server->text);
    buf_slice(&out->url, url);
    if (memchr(url.ptr, '@', url.len))
        return err_set(err, ERR_INVALID,
                       "%s: user and password do not belong into the address: set SLUICE_USERNAME and SLUICE_PASSWORD",
                       server->where);
    (void)buf_cstr(&out->url);
    out->user = mem_str(slice_str(config_text(c, SET_USERNAME)));
    out->password = mem_str(slice_str(config_text(c, SET_PASSWORD)));
    if (c->values[SET_USERNAME].source == SOURCE_DEFAULT && c->values[SET_PASSWORD].source == SOURCE_DEFAULT)
        netrc_credentials(out);
    out->ca_cert = config_text(c, SET_CA_CERT);
    ASSERT(initialized || curl_global_init(CURL_GLOBAL_DEFAULT) == 0);
    initialized = true;
    out->curl = curl_easy_init();
    ASSERT(out->curl);
    return ERR_OK;
}

void http_close(struct http *h)
{
    if (h->curl)
        curl_easy_cleanup(h->curl);
    if (h->password)
        explicit_bzero(h->password, strlen(h->password));
    free(h->user);
    free(h->password);
    buf_done(&h->url);
    memset(h, 0, sizeof(*h));
}

void http_reply_done(struct http_reply *r)
{
    buf_done(&r->body);
}

/* ---- one call */

struct transfer { /* lives in the handle's private pointer while it runs */
    const struct http_call *call;
    struct http_reply *reply;
    CURL *curl;
};

static size_t on_data(char *ptr, size_t size, size_t n, void *arg)
{
    struct transfer *t = arg;
    size_t len = size * n;
    long status = 0;

    (void)curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
    t->reply->received += len;
    if (status == 200 && t->call->data)
        return t->call->data(t->call->arg, slice_of(ptr, len)) ? len : 0;
    size_t max = status == 200 ? HTTP_BODY_BYTES_MAX : ERROR_BODY_BYTES_MAX;
    if (t->reply->body.len + len > max && status == 200)
        return 0;
    buf_put(&t->reply->body, ptr, MIN(len, max - t->reply->body.len));
    return len;
}

static bool header_number(slice line, slice name, uint64_t *out)
{
    return line.len > name.len && slice_eq_nocase(slice_head(line, name.len), name) &&
           slice_u64(slice_trim(slice_from(line, name.len)), out);
}

static size_t on_header(char *ptr, size_t size, size_t n, void *arg)
{
    struct transfer *t = arg;
    slice line = slice_of(ptr, size * n);
    uint64_t v;

    if (header_number(line, slice_lit("retry-after:"), &v))
        t->reply->retry_after_s = (long)MIN(v, 3600);
    if (header_number(line, slice_lit("x-sluice-skipped-files:"), &v))
        t->reply->skipped_files = v;
    return size * n;
}

static int on_tick(void *arg, curl_off_t down_total, curl_off_t down, curl_off_t up_total, curl_off_t up)
{
    struct transfer *t = arg;

    (void)down_total, (void)down, (void)up_total, (void)up;
    if (interrupted() && !t->call->finish)
        return 1;
    return t->call->tick && !t->call->tick(t->call->arg, t->reply->received);
}

static struct curl_slist *headers_of(const struct http_call *call)
{
    struct curl_slist *list = curl_slist_append(NULL, "Expect:"); /* no 100-continue: it costs a round trip */

    for (size_t i = 0; call->headers && call->headers[i]; i++)
        list = curl_slist_append(list, call->headers[i]);
    ASSERT(list);
    return list;
}

void http_prepare(struct http *h, const struct http_call *call, struct http_reply *reply, struct curl_slist **headers)
{
    CURL *c = h->curl;
    struct transfer *t = mem_zalloc(sizeof(*t));
    _cleanup_(freep) char *url = mem_fmt("%s%s", (const char *)h->url.ptr, call->path);

    *t = (struct transfer){.call = call, .reply = reply, .curl = c};
    *headers = headers_of(call);
    h->error[0] = 0;
    curl_easy_reset(c);
    (void)curl_easy_setopt(c, CURLOPT_URL, url);
    (void)curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    (void)curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(c, CURLOPT_USERAGENT, "sluice/" SLUICE_VERSION);
    (void)curl_easy_setopt(c, CURLOPT_ACCEPT_ENCODING, "");
    (void)curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT_S);
    (void)curl_easy_setopt(c, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
    (void)curl_easy_setopt(c, CURLOPT_USERNAME, h->user);
    (void)curl_easy_setopt(c, CURLOPT_PASSWORD, h->password);
    if (h->ca_cert)
        (void)curl_easy_setopt(c, CURLOPT_CAINFO, h->ca_cert);
    (void)curl_easy_setopt(c, CURLOPT_ERRORBUFFER, h->error);
    (void)curl_easy_setopt(c, CURLOPT_HTTPHEADER, *headers);
    if (call->body.ptr || strcmp(call->method, "POST") == 0) {
        (void)curl_easy_setopt(c, CURLOPT_POSTFIELDS, call->body.ptr ? (const char *)call->body.ptr : "");
        (void)curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->body.len);
    }
    (void)curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, call->method);
    (void)curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_data);
    (void)curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
    (void)curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    (void)curl_easy_setopt(c, CURLOPT_HEADERDATA, t);
    (void)curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_tick);
    (void)curl_easy_setopt(c, CURLOPT_XFERINFODATA, t);
    (void)curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    (void)curl_easy_setopt(c, CURLOPT_PRIVATE, t);
}

enum err_code http_result(struct http *h, CURLcode code, struct http_reply *reply, struct err *err)
{
    struct transfer *t = NULL;
    const char *url = (const char *)h->url.ptr, *why = h->error[0] ? h->error : curl_easy_strerror(code);

    (void)curl_easy_getinfo(h->curl, CURLINFO_PRIVATE, &t);
    free(t);
    (void)curl_easy_setopt(h->curl, CURLOPT_PRIVATE, NULL);
    (void)curl_easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, &reply->status);
    switch (code) {
    case CURLE_OK: return ERR_OK;
    case CURLE_ABORTED_BY_CALLBACK:
    case CURLE_WRITE_ERROR:
        if (reply->body.len >= HTTP_BODY_BYTES_MAX / 2 && !interrupted())
            return err_set(err, ERR_LIMIT, "the answer is larger than this command takes");
        return err_set(err, ERR_CANCELLED, "interrupted");
    case CURLE_COULDNT_RESOLVE_HOST:
        return err_set(err, ERR_UNAVAILABLE, "%s: this host is unknown: check --server or SLUICE_SERVER", url);
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT:
        if (reply->received == 0 && code == CURLE_COULDNT_CONNECT)
            return err_set(err, ERR_UNAVAILABLE,
                           "nothing answers at %s: start a server ('sluice serve'), or name another with --server or "
                           "SLUICE_SERVER",
                           url);
        return err_set(err, ERR_UNAVAILABLE, "%s does not answer in time", url);
    case CURLE_URL_MALFORMAT:
        return err_set(err, ERR_INVALID, "'%s' is no address: write for example http://localhost:8000", url);
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        return err_set(err, ERR_INVALID,
                       "%s: its certificate is not trusted (%s): name the certificate to trust with --ca-cert", url,
                       why);
    case CURLE_SSL_CONNECT_ERROR:
        return err_set(err, ERR_INVALID, "%s: no TLS connection (%s): is it http instead of https?", url, why);
    case CURLE_PARTIAL_FILE:
        return err_set(err, ERR_UNKNOWN, "the answer was cut before its end: the query failed on the server half way");
    case CURLE_UNSUPPORTED_PROTOCOL:
        return err_set(err, ERR_INVALID, "'%s' is no address: it begins with http:// or https://", url);
    default: return err_set(err, ERR_UNKNOWN, "the connection to %s broke: %s", url, why);
    }
}

enum err_code http_call(struct http *h, const struct http_call *call, struct http_reply *reply, struct err *err)
{
    struct curl_slist *headers;

    memset(reply, 0, sizeof(*reply));
    http_prepare(h, call, reply, &headers);
    CURLcode code = curl_easy_perform(h->curl);
    (void)curl_easy_setopt(h->curl, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(headers);
    return http_result(h, code, reply, err);
}

enum err_code http_status_error(const struct http *h, const struct http_reply *r, struct err *err)
{
    slice text = slice_trim(buf_view(&r->body));
    long s = r->status;

    if (s == 200)
        return ERR_OK;
    if (s == 401 || s == 403)
        return err_set(err, ERR_DENIED,
                       "%s refuses user '%s' with this password: set SLUICE_USERNAME and SLUICE_PASSWORD",
                       (const char *)h->url.ptr, h->user);
    if (text.len == 0)
        text = s == 404 ? slice_lit("not found: is this a Sluice server?") : slice_lit("no reason given");
    enum err_code code = s == 404               ? ERR_NOT_FOUND
                         : s == 429 || s == 503 ? ERR_UNAVAILABLE
                         : s >= 400 && s < 500  ? ERR_INVALID
                                                : ERR_IO;
    if (s >= 500)
        return err_set(err, code, "the server says %ld: " SLICE_FMT, s, (int)MIN(text.len, 800),
                       (const char *)text.ptr);
    return err_set(err, code, SLICE_FMT, (int)MIN(text.len, 900), (const char *)text.ptr);
}

enum err_code http_ok(struct http *h, const struct http_call *call, struct http_reply *reply, struct err *err)
{
    TRY(http_call(h, call, reply, err));
    return http_status_error(h, reply, err);
}

void percent_encode(struct buf *out, slice s)
{
    static const char hex[] = "0123456789ABCDEF";

    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.ptr[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                     c == '_' || c == '~' || c == '.';
        if (plain) {
            buf_byte(out, c);
        } else {
            buf_byte(out, '%');
            buf_byte(out, (uint8_t)hex[c >> 4]);
            buf_byte(out, (uint8_t)hex[c & 15]);
        }
    }
}

void http_path(struct buf *out, const char *route, const char *name, const char *tail)
{
    buf_fmt(out, "/api/v1/%s", route);
    if (name) {
        buf_byte(out, '/');
        percent_encode(out, slice_str(name));
    }
    buf_str(out, tail);
}
