/* answer.c: what goes back: text, JSON, and the one table from error codes to statuses (design.md section 4, rule 3). */
#include <stdarg.h>
#include <stdio.h>

#include "api/api_int.h"

#define TEXT_PLAIN "text/plain; charset=utf-8"

void answer_text(struct request *r, unsigned status, const char *fmt, ...)
{
    char text[2048];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    r->answer.status = status;
    r->answer.content_type = TEXT_PLAIN;
    r->answer.body.len = 0;
    buf_str(&r->answer.body, text);
}

void answer_json(struct request *r, unsigned status, json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);

    ASSERT(text);
    r->answer.status = status;
    r->answer.content_type = "application/json";
    r->answer.body.len = 0;
    buf_str(&r->answer.body, text);
    free(text);
    json_decref(value);
}

/* A transient fault is never 4xx, a permanent one never 5xx: collectors drop the batch on the first, retry for ever on the second. */
unsigned status_of(enum err_code rc)
{
    switch (rc) {
    case ERR_OK: return 200;
    case ERR_INVALID:
    case ERR_CONFLICT: return 400;
    case ERR_LIMIT: return 413;
    case ERR_NOT_FOUND: return 404;
    case ERR_DENIED: return 403;
    case ERR_UNAVAILABLE:
    case ERR_UNKNOWN:
    case ERR_CANCELLED: return 503;
    case ERR_CORRUPT:
    case ERR_IO:
    case ERR_TIMEOUT: return 500;
    }
    return 500;
}

void answer_err(struct request *r, enum err_code rc, const struct err *err)
{
    unsigned status =
        rc == ERR_LIMIT && err->os_errno ? 503 /* of this machine (disk, files), not of the request */ : status_of(rc);

    answer_text(r, status, "%s", err->msg[0] ? err->msg : err_name(rc));
    if (status == 503)
        r->answer.retry_after = "1";
}
