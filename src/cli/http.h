/* http.h: the client's side of HTTP over libcurl: one handle per connection, replies in memory or to a sink, errors that say what to do.
 * THREADS  one at a time per handle; the interrupt flag any. */
#pragma once
#include <curl/curl.h>

#include "base/buf.h"
#include "base/err.h"
#include "cli/setting.h"

#define HTTP_BODY_BYTES_MAX (64u << 20) /* of a reply that is kept in memory */

struct http {
    CURL *curl;
    struct buf url;        /* of the server, without a slash at the end */
    char *user, *password; /* of whom: settings, .netrc, or the default */
    const char *ca_cert;
    char error[CURL_ERROR_SIZE];
};
struct http_call {
    const char *method;         /* "GET", "POST", "PUT", "DELETE" */
    const char *path;           /* "/api/v1/..." */
    const char *const *headers; /* "Name: value", NULL-terminated; may be NULL */
    slice body;
    /* Bytes of a 200 as they come; false stops with ERR_CANCELLED. NULL: kept in reply->body. */
    bool (*data)(void *arg, slice bytes);
    /* Called about once a second and whenever something happens; false stops with ERR_CANCELLED. May be NULL. */
    bool (*tick)(void *arg, uint64_t received);
    void *arg;
    bool finish; /* Ctrl-C does not stop this one */
};
struct http_reply {
    long status;
    struct buf body; /* of what is no 200, at most 64 KiB; or all of it */
    long retry_after_s;
    uint64_t skipped_files; /* damaged ones that the answer lacks (X-Sluice-Skipped-Files) */
    uint64_t received;
};
/* The first one initializes libcurl: before any other thread. */
MUST_CHECK enum err_code http_open(const struct config *c, struct http *out, struct err *err);
void http_close(struct http *h);
/* ERR_OK: there is a reply, whatever its status. ERR_UNAVAILABLE: no connection, nothing was sent; ERR_UNKNOWN: the connection broke, the
 * server may have done it; ERR_CANCELLED: data or tick said so, or the user pressed Ctrl-C. */
MUST_CHECK enum err_code http_call(struct http *h, const struct http_call *call, struct http_reply *reply,
                                   struct err *err);
void http_reply_done(struct http_reply *r);
/* http_call, and every status but 200 as an error: 404 ERR_NOT_FOUND, 401 and 403 ERR_DENIED, 429 and 503 ERR_UNAVAILABLE, 4xx ERR_INVALID,
 * 5xx ERR_IO; the message is the server's. */
MUST_CHECK enum err_code http_ok(struct http *h, const struct http_call *call, struct http_reply *reply,
                                 struct err *err);
enum err_code http_status_error(const struct http *h, const struct http_reply *r, struct err *err);
/* "/api/v1/" and two parts, the second one percent-encoded (may be NULL), and a tail. */
void http_path(struct buf *out, const char *route, const char *name, const char *tail);
void percent_encode(struct buf *out, slice s);
/* Prepares the handle for use with a multi interface instead of http_call: as http_call does. Free *headers after the transfer. */
void http_prepare(struct http *h, const struct http_call *call, struct http_reply *reply, struct curl_slist **headers);
enum err_code http_result(struct http *h, CURLcode code, struct http_reply *reply, struct err *err);

/* ---- Ctrl-C */
void interrupt_catch(void); /* from now on SIGINT and SIGTERM set a flag; a second one ends the process */
bool interrupted(void);
void interrupt_clear(void); /* for a last call that tidies up */
