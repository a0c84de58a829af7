/* chunked.c: a streamed answer: a bounded buffer between the worker that produces and the network thread that sends.
 *
 * The worker waits while the buffer is full (a slow client slows its query, not the server), but not for ever, as it holds an engine
 * meanwhile: a client that takes too little (STREAM_STALL_S) is cut, and sooner (STREAM_STALL_WAITED_S) while others wait for an engine: few
 * slow readers must not keep everybody out. The network thread suspends the connection while it is empty. Owners:
 * the worker, the request, and the response once there is one, as a client may leave before; the last one frees. */
#include <time.h>

#include "api/api_int.h"

#define STREAM_BYTES_MAX (1u << 20)
#define STREAM_CHUNK_BYTES (64u << 10)

struct chunked {
    _Atomic int refs;
    struct MHD_Connection *conn; /* under mu; NULL once it is gone */
    pthread_mutex_t mu;
    pthread_cond_t room;     /* of the monotonic clock */
    const atomic_bool *stop; /* worker */
    struct query_pool *pool; /* whose engine the worker holds: of queries, or the light one of tails */
    bool light;
    struct buf data; /* under mu */
    size_t sent;     /* of data */
    bool ended, whole, gone;
    bool reader_waits; /* the connection is suspended for lack of data */
    const char *content_type;
    struct compressor *z; /* worker */
    enum coding coding;
};

struct chunked *chunked_new(struct request *r, const char *content_type, const atomic_bool *stop)
{
    struct chunked *s = mem_zalloc(sizeof(*s));

    atomic_init(&s->refs, 2);
    pthread_condattr_t monotonic;
    ASSERT(pthread_mutex_init(&s->mu, NULL) == 0 && pthread_condattr_init(&monotonic) == 0);
    ASSERT(pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC) == 0 && pthread_cond_init(&s->room, &monotonic) == 0);
    (void)pthread_condattr_destroy(&monotonic);
    s->conn = r->conn;
    s->stop = stop;
    s->pool = r->api->pool;
    s->light = !stop;
    s->content_type = content_type;
    s->coding = r->accept;
    s->z = compressor_new(r->accept);
    r->stream = s;
    return s;
}

void chunked_unref(struct chunked *s)
{
    if (!s || atomic_fetch_sub(&s->refs, 1) != 1)
        return;
    compressor_free(s->z);
    buf_done(&s->data);
    (void)pthread_cond_destroy(&s->room);
    (void)pthread_mutex_destroy(&s->mu);
    free(s);
}

static void wake_reader(struct chunked *s) /* under mu */
{
    if (s->reader_waits && s->conn) {
        s->reader_waits = false;
        MHD_resume_connection(s->conn);
    }
}

#define STOP_PERIOD_NS 200000000 /* how often a waiting worker looks whether it should */

/* Until there is room; under mu. */
static enum err_code wait_for_room(struct chunked *s, struct err *err)
{
    const size_t waiting = s->data.len - s->sent;
    struct timespec now, begin;
    const time_t patience = STREAM_STALL_S + (time_t)(waiting / STREAM_BYTES_S),
                 waited = STREAM_STALL_WAITED_S + (time_t)(waiting / STREAM_BYTES_WAITED_S);

    (void)clock_gettime(CLOCK_MONOTONIC, &begin);
    while (!s->gone && s->data.len - s->sent > STREAM_BYTES_MAX) {
        if (s->stop && atomic_load(s->stop))
            return err_set(err, ERR_CANCELLED, "the query was cancelled");
        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        time_t so_far = now.tv_sec - begin.tv_sec;
        if (so_far > patience || (so_far > waited && s->pool && query_pool_contended(s->pool, s->light)))
            return err_set(err, ERR_TIMEOUT, "the client reads its answer too slowly");
        now.tv_nsec += STOP_PERIOD_NS;
        now.tv_sec += now.tv_nsec / 1000000000;
        now.tv_nsec %= 1000000000;
        (void)pthread_cond_timedwait(&s->room, &s->mu, &now);
    }
    return s->gone ? err_set(err, ERR_CANCELLED, "the client left") : ERR_OK;
}

/* Sent bytes go when they are the larger part, so a byte moves once or twice however long the answer; under mu. */
static void drop_sent(struct chunked *s)
{
    size_t left = s->data.len - s->sent;

    if (s->sent < left)
        return;
    if (left)
        memmove(s->data.ptr, s->data.ptr + s->sent, left);
    s->data.len = left;
    s->sent = 0;
}

enum err_code chunked_push(struct chunked *s, slice bytes, bool flush, struct err *err)
{
    struct buf coded = BUF_INIT;

    if (s->z) {
        compressor_add(s->z, bytes, flush, false, &coded);
        bytes = buf_view(&coded);
    }
    pthread_mutex_lock(&s->mu);
    enum err_code rc = wait_for_room(s, err);
    if (rc == ERR_OK) {
        drop_sent(s);
        buf_slice(&s->data, bytes);
        if (s->data.len - s->sent >= STREAM_CHUNK_BYTES || flush)
            wake_reader(s);
    }
    pthread_mutex_unlock(&s->mu);
    buf_done(&coded);
    return rc;
}

void chunked_end(struct chunked *s, bool whole)
{
    struct buf coded = BUF_INIT;

    if (s->z && whole)
        compressor_add(s->z, (slice){0}, false, true, &coded);
    pthread_mutex_lock(&s->mu);
    buf_slice(&s->data, buf_view(&coded));
    s->ended = true;
    s->whole = whole;
    wake_reader(s);
    pthread_mutex_unlock(&s->mu);
    buf_done(&coded);
    chunked_unref(s);
}

void chunked_client_gone(struct chunked *s)
{
    pthread_mutex_lock(&s->mu);
    s->gone = true;
    s->conn = NULL;
    (void)pthread_cond_broadcast(&s->room);
    pthread_mutex_unlock(&s->mu);
}

static ssize_t read_some(void *arg, uint64_t pos, char *out, size_t max)
{
    struct chunked *s = arg;
    ssize_t n = 0;
    (void)pos;

    pthread_mutex_lock(&s->mu);
    size_t have = s->data.len - s->sent;
    if (have) {
        n = (ssize_t)MIN(have, max);
        memcpy(out, s->data.ptr + s->sent, (size_t)n);
        s->sent += (size_t)n;
        (void)pthread_cond_broadcast(&s->room);
    } else if (s->ended) {
        n = s->whole ? MHD_CONTENT_READER_END_OF_STREAM : MHD_CONTENT_READER_END_WITH_ERROR;
    } else {
        s->reader_waits = true;
        MHD_suspend_connection(s->conn);
    }
    pthread_mutex_unlock(&s->mu);
    return n;
}

static void response_done(void *arg)
{
    chunked_unref(arg);
}

struct MHD_Response *chunked_response(struct request *r)
{
    struct chunked *s = r->stream;
    struct MHD_Response *response =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_CHUNK_BYTES, read_some, s, response_done);

    if (response)
        atomic_fetch_add(&s->refs, 1);
    if (response && s->coding != CODING_IDENTITY)
        (void)MHD_add_response_header(response, "Content-Encoding", coding_name(s->coding));
    return response;
}
