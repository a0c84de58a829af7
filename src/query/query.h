/* query.h: SQL in, rows out. The gate parses and rewrites the statement (one SELECT/WITH/EXPLAIN/DESCRIBE, allowed streams,
 * allowed functions, DataFusion's dialect and column names), binding puts files and stage rows of one consistent cut behind
 * each stream name, an engine of the pool runs it, writers print it. catalog.md and design.md section 3.
 *
 * THREADS  any; query_run() blocks the calling worker. ERRORS  ERR_INVALID: 400 and the message is the body; ERR_LIMIT, ERR_TIMEOUT,
 *   ERR_CANCELLED, ERR_CORRUPT (a damaged file is named), ERR_UNAVAILABLE: every engine busy and the queue is full. */
#pragma once
#include <stdatomic.h>

#include "base/buf.h"
#include "base/err.h"
#include "engine/engine.h"

struct lake;
struct query_pool;
struct query_pool_options {
    unsigned engines;      /* 2 */
    unsigned queue_max;    /* waiting for an engine: beyond it ERR_UNAVAILABLE; 256 */
    uint64_t memory_bytes; /* of all engines together */
    uint64_t temp_bytes;
    unsigned threads; /* of all engines together */
    const char *temp_dir;
    int64_t timeout_us;   /* default limit, 300 s */
    uint64_t window_rows; /* of the first look for the newest rows that meet a condition; 20,000 */
    size_t
        window_files; /* and its files; 4 where the store is remote, which answers two requests a file at least, else any number */
};
MUST_CHECK enum err_code query_pool_open(struct lake *lake, const struct query_pool_options *opt,
                                         struct query_pool **out, struct err *err);
/* Lets running queries end for so long, then cancels them, and every later one: before a server waits for those who ask. */
void query_pool_stop(struct query_pool *pool, int64_t grace_us);
void query_pool_close(struct query_pool *pool);
/* Does anybody wait for an engine (`light`: of tails)? Who holds one for a client that is slow then has less patience. */
bool query_pool_contended(struct query_pool *pool, bool light);

enum query_format { QUERY_JSON, QUERY_NDJSON, QUERY_ARROW, QUERY_CSV };
struct query_request {
    slice sql;
    slice start, end; /* contract 5.2 texts */
    enum query_format format;
    bool fields, send_null,
        batches; /* batches: NDJSON of the contract, one array of rows a line; else one row a line */
    slice id;    /* chosen by the client, or empty: one is made */
    bool (*may_read)(void *arg, slice stream); /* NULL: all */
    void *may_read_arg;
    slice user;
};
/* Where the answer goes: begin once (rows are coming; headers may be sent), data as it grows (blocks when the client is slow;
 * not ERR_OK: stop, the client left). */
struct query_sink {
    /* Before begin(), may be NULL: damaged files, one key a line, are not part of the answer. */
    void (*note)(void *arg, slice skipped);
    /* First of all, may be NULL: set once the query is to stop (cancelled, its client gone); good until query_run() returns. data() should
     * not wait for a slow client beyond it. */
    void (*running)(void *arg, const atomic_bool *stop);
    enum err_code (*begin)(void *arg, const char *query_id, const char *content_type, struct err *err);
    enum err_code (*data)(void *arg, slice bytes, struct err *err);
    void *arg;
};
/* ERR_OK: the answer is whole. An error before begin() is an error answer; after it the answer must be cut. */
MUST_CHECK enum err_code query_run(struct query_pool *pool, const struct query_request *req,
                                   const struct query_sink *sink, struct err *err);
struct query_cancel; /* for a watcher of the connection */
bool query_cancel_id(struct query_pool *pool, slice id, slice user, bool any_user); /* false: no such running query */
void query_list(struct query_pool *pool, slice user, bool any_user,
                struct buf *json); /* [{id,user,query,startedAt,progress,rows,state}] */
/* contract 5.7. `body` is the JSON of POST /counts; of `req` id, user and may_read count. Prints the answer. */
MUST_CHECK enum err_code query_counts(struct query_pool *pool, const struct query_request *req, slice body,
                                      struct buf *out, struct err *err);
/* contract 5.2: both bounds; `now_us` for relative ones. Not truncated to minutes (docs/deviations.md). */
MUST_CHECK enum err_code query_range(slice start, slice end, int64_t now_us, int64_t *from_us, int64_t *to_us,
                                     struct err *err);
