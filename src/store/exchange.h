/* exchange.h: HTTP/1.1 exchanges with an object store over libcurl, several at once, bodies in memory.
 *
 * A caller's thread runs its exchanges itself (curl's multi interface, taken warm from the pool), so there is no hand-over between
 * threads, and a batch of 16 parts costs one thread. Nothing is retried here and no status is judged: the stores know what an
 * answer means. What counts is whether anything was sent: a request that never left can be repeated whatever it was.
 * LIMITS  connections of one call: EXCHANGE_PARALLEL_MAX; of the pool: as many calls as threads make. Answers: `reply_max`.
 * THREADS  exchange_run() any; the pool must outlive it. */
#pragma once
#include "base/buf.h"
#include "base/err.h"

#define EXCHANGE_PARALLEL_MAX 16
#define EXCHANGE_HEADER_BYTES_MAX (64u << 10)

struct exchange_header {
    const char *name;
    slice value;
};
struct exchange {
    /* Asked; borrowed until exchange_run() returns. */
    const char *method; /* "GET", "HEAD", "PUT", "POST", "DELETE" */
    const char *url;
    const struct exchange_header *headers;
    size_t headers_count;
    slice body;
    uint64_t reply_max; /* bytes of the answer's body; more ends it with ERR_LIMIT */
    struct buf *reply;  /* the body is appended; NULL: dropped */
    bool once;          /* on a connection of its own: on one that was used before, curl repeats what got no answer */
    /* Answered. */
    enum err_code code; /* ERR_OK: there is an answer with `status`. ERR_UNAVAILABLE: nothing was sent. ERR_UNKNOWN: the
                           connection broke or timed out after the request, or half of the answer, was sent. ERR_LIMIT */
    long status;
    struct buf head;     /* header lines as they came; exchange_done() frees */
    char problem[256];   /* of a code but ERR_OK */
    uint64_t sent_bytes; /* of the body */
};
struct exchange_options {
    const char *ca_file;     /* PEM; NULL: the system's */
    bool unverified;         /* no certificate is checked */
    int64_t connect_us_max;  /* 0: 5 s */
    int64_t stall_us_max;    /* less than 1 KiB/s for this long ends it; 0: 20 s */
    int64_t exchange_us_max; /* an exchange may take this long in all; 0: 10 min */
};
struct exchange_pool;

struct exchange_pool *exchange_pool_new(const struct exchange_options *opt);
void exchange_pool_free(struct exchange_pool *p); /* nothing runs any more */
/* Runs them all, at most EXCHANGE_PARALLEL_MAX at a time; returns when each has its code. */
void exchange_run(struct exchange_pool *p, struct exchange *list, size_t count);
/* Value of the last header of this name (lower case), trimmed; empty: there is none. Valid until exchange_done(). */
slice exchange_answer(const struct exchange *x, const char *name);
/* The same of those with `part` in their value: a header may come several times. */
slice exchange_answer_with(const struct exchange *x, const char *name, const char *part);
void exchange_done(struct exchange *x);
