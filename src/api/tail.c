/* tail.c: GET /logstream/{s}/tail: rows as server-sent events (WHATWG HTML section 9.2) as they are acknowledged.
 *
 * An event's id is the row's id, which grows in the order of acceptance and survives flush, restart and compaction: a client that
 * comes back with Last-Event-ID gets what follows, without gap or repeat. Without it the tail starts at the present. One thread of
 * the tail pool serves each follower; it sleeps while nothing is new. */
#include <stdio.h>
#include <time.h>

#include "api/api_int.h"
#include "query/tail.h"

#define ROWS_PER_ROUND 10000
#define HEARTBEAT_S 10

struct follower {
    struct request *r;
    struct chunked *stream;
    struct lake_tail *tail;
    slice where;
    uint64_t cursor;
    pthread_mutex_t mu;
    pthread_cond_t wake;
    bool woken;
    struct buf event;
};

static void on_rows(void *arg)
{
    struct follower *f = arg;

    pthread_mutex_lock(&f->mu);
    f->woken = true;
    (void)pthread_cond_signal(&f->wake);
    pthread_mutex_unlock(&f->mu);
}

/* false: nothing came in time. */
static bool wait_rows(struct follower *f)
{
    struct timespec until;

    f->woken = false;
    lake_tail_wait(f->tail, f->cursor + 1, on_rows, f);
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += HEARTBEAT_S;
    pthread_mutex_lock(&f->mu);
    bool in_time = true;
    while (!f->woken && in_time && !atomic_load(&f->r->api->draining)) {
        struct timespec step;
        (void)clock_gettime(CLOCK_MONOTONIC, &step);
        in_time = step.tv_sec < until.tv_sec;
        step.tv_sec += 1;
        (void)pthread_cond_clockwait(&f->wake, &f->mu, CLOCK_MONOTONIC, &step);
    }
    bool woken = f->woken;
    pthread_mutex_unlock(&f->mu);
    if (!woken && !lake_tail_cancel(f->tail, f)) { /* it is being called just now: wait for it */
        pthread_mutex_lock(&f->mu);
        while (!f->woken)
            (void)pthread_cond_wait(&f->wake, &f->mu);
        pthread_mutex_unlock(&f->mu);
        woken = true;
    }
    return woken;
}

static enum err_code send_row(void *arg, uint64_t row_id, slice json, struct err *err)
{
    struct follower *f = arg;

    f->event.len = 0;
    buf_fmt(&f->event, "id: %llu\ndata: ", (unsigned long long)row_id);
    buf_slice(&f->event, json); /* JSON has no line breaks of its own */
    buf_str(&f->event, "\n\n");
    return chunked_push(f->stream, buf_view(&f->event), false, err);
}

/* Rows of these files are missing from what follows. An event of its own kind: clients that know rows only do not see it. */
static void send_skipped(void *arg, slice keys)
{
    struct follower *f = arg;

    f->event.len = 0;
    buf_str(&f->event, "event: skipped\ndata: ");
    buf_json_str(&f->event, slice_trim(keys));
    buf_str(&f->event, "\n\n");
    (void)chunked_push(f->stream, buf_view(&f->event), false, NULL); /* a client that left shows at its next row */
}

static enum err_code send_new(struct follower *f, struct err *err)
{
    uint64_t horizon = lake_tail_horizon(f->tail), last = f->cursor;

    if (horizon <= f->cursor + 1)
        return ERR_OK;
    TRY(query_tail(f->r->api->pool, f->r->args[0], f->where, f->cursor, horizon, ROWS_PER_ROUND, send_row, send_skipped,
                   f, &last, err));
    f->cursor = last;
    return chunked_push(f->stream, (slice){NULL, 0}, true, err);
}

static void follow(struct follower *f)
{
    struct err err = {0};
    enum err_code rc = chunked_push(f->stream, slice_lit(": following\n\n"), true, &err);

    while (rc == ERR_OK && !atomic_load(&f->r->api->draining) && !lake_tail_dead(f->tail)) {
        if (wait_rows(f))
            rc = send_new(f, &err);
        else
            rc = chunked_push(f->stream, slice_lit(": still here\n\n"), true, &err);
    }
    if (rc != ERR_OK && rc != ERR_CANCELLED &&
        rc != ERR_UNAVAILABLE) { /* what passes ends no tail: clients come back, with their last id */
        f->event.len = 0;
        buf_str(&f->event, "event: error\ndata: ");
        buf_json_str(&f->event, slice_str(err.msg));
        buf_str(&f->event, "\n\n");
        (void)chunked_push(f->stream, buf_view(&f->event), true, &err);
    }
    chunked_end(f->stream, rc == ERR_OK);
}

/* The condition is looked at first, so that a fault of it is a 400 and no broken stream. */
static bool open_follower(struct follower *f, struct err *err)
{
    struct request *r = f->r;
    slice last = request_header(r, "Last-Event-ID");
    enum err_code rc = lake_tail_open(r->api->lake, r->args[0], &f->tail, err);

    if (rc == ERR_NOT_FOUND) {
        answer_text(r, 404, "Stream not found: " SLICE_FMT, SLICE_ARG(r->args[0]));
        return false;
    }
    (void)request_param(r, "where", &f->where);
    if (!last.ptr)
        (void)request_param(r, "last_event_id", &last); /* for clients that cannot set a header */
    if (rc == ERR_OK && last.len && (!slice_u64(slice_trim(last), &f->cursor) || f->cursor == UINT64_MAX))
        rc = err_set(err, ERR_INVALID, "Last-Event-ID must be an id of an earlier event");
    else if (rc == ERR_OK && !last.len)
        f->cursor = MAX(lake_tail_horizon(f->tail), 1) - 1;
    if (rc == ERR_OK && f->where.len)
        rc = query_tail_check(r->api->pool, r->args[0], f->where, err);
    if (rc != ERR_OK) {
        answer_err(r, rc, err);
        return false;
    }
    return true;
}

void handle_tail(struct request *r)
{
    struct follower f = {.r = r};
    struct err err = {0};

    ASSERT(pthread_mutex_init(&f.mu, NULL) == 0 && pthread_cond_init(&f.wake, NULL) == 0);
    if (open_follower(&f, &err)) {
        r->answer.status = 200;
        r->answer.content_type = "text/event-stream";
        f.stream = chunked_new(r, r->answer.content_type, NULL);
        request_resume(r);
        follow(&f);
    }
    lake_tail_close(f.tail);
    buf_done(&f.event);
    (void)pthread_cond_destroy(&f.wake);
    (void)pthread_mutex_destroy(&f.mu);
}
