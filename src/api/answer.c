/* answer.c: what goes back: text, JSON, and the one table from error codes to statuses (design.md section 4, rule 3). */
#include <stdarg.h>
#include <stdio.h>

#include "api/api_int.h"
#include "codec/json_reader.h"

#define TEXT_PLAIN "text/plain; charset=utf-8"

/* What clients sent comes back in messages, cut anywhere: no control characters for a terminal, and UTF-8 as TEXT_PLAIN says. */
static void make_printable(char *text)
{
    size_t left = strlen(text), n;

    for (uint8_t *c = (uint8_t *)text; left; c += n, left -= n) {
        n = *c < 0xc0 ? 1 : *c < 0xe0 ? 2 : *c < 0xf0 ? 3 : 4;
        bool good = n <= left && utf8_valid(slice_of(c, n)) && (*c >= 0x20 || *c == '\n') && *c != 0x7f &&
                    !(*c == 0xc2 && c[1] < 0xa0); /* U+0080 to U+009F */
        if (!good) {
            *c = '?';
            n = 1;
        }
    }
}

void answer_text(struct request *r, unsigned status, const char *fmt, ...)
{
    char text[2048];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    make_printable(text);
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
