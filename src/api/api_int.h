/* api_int.h: a request's life, shared by the files of api/.
 *
 *   headers ─▶ route, credentials, limits ─▶ body ─▶ handler ──▶ answer
 *                   │ refused: the body is read and dropped, then the answer is sent
 *   handlers run on the network thread (HANDLER_INLINE) or on a worker with the connection suspended (HANDLER_WORKER). They fill in
 *   request.answer and return; or, for a streamed answer, push bytes while the connection reads them (chunked.c). */
#pragma once
#include <gnutls/abstract.h>
#include <jansson.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

#include "api/api.h"
#include "auth/auth.h"
#include "base/arena.h"
#include "base/metrics.h"
#include "codec/compress.h"

#define JSON_BODY_BYTES_MAX (2u << 20)
#define STATIC_SCHEMA_BYTES_MAX (256u << 10)
#define INLINE_BODY_BYTES_MAX (64u << 10)
#define ROOM_WAIT_US_MAX INT64_C(1000000) /* of an ingest request, while the stage is above its slow mark */

struct request;
struct chunked; /* chunked.c: a streamed answer */
enum method {
    M_GET = 1,
    M_HEAD = 2,
    M_POST = 4,
    M_PUT = 8,
    M_DELETE = 16,
    M_PATCH = 32,
    M_OPTIONS = 64,
    M_OTHER = 128
};
enum handler_kind {
    HANDLER_INLINE,
    HANDLER_WORKER,
    HANDLER_STORE, /* on the workers of creates: may wait for the store */
    HANDLER_QUERY, /* on the query workers: may take minutes */
    HANDLER_TAIL   /* a thread each, for hours */
};
enum body_kind { BODY_NONE, BODY_JSON, BODY_EVENTS, BODY_RAW };
struct route {
    const char *pattern; /* below /api/v1; {s} is one path element */
    enum method method;
    enum handler_kind kind;
    enum body_kind body;
    bool open; /* no credentials */
    void (*run)(struct request *r);
};
struct answer {
    unsigned status;
    const char *content_type; /* NULL: none */
    struct buf body;
    const char *allow; /* 405 */
    const char *retry_after;
    char query_id[64];
    char elapsed[48];
    char skipped[24]; /* number of damaged files that are no part of the answer */
};
struct request { /* owners: the connection, and the worker that runs its handler; the last one frees */
    _Atomic int refs;
    struct api *api;
    struct MHD_Connection *conn;
    const struct route *route;
    struct arena arena;
    slice path;    /* undecoded */
    slice args[2]; /* the pattern's {s}, percent-decoded */
    enum method method;
    struct auth_user user;
    struct buf body; /* as received, then decoded */
    uint64_t body_max;
    bool drop_body, body_decoded;
    bool misframed; /* where it ends is in doubt: nothing more is read from the connection */
    uint64_t dropped_bytes;
    bool http11;
    bool on_worker; /* a thread that may wait runs the handler */
    bool handled;   /* the handler ran (or the answer was decided before) */
    bool suspended; /* it was: counted in api.suspended until its answer is sent */
    struct answer answer;
    struct chunked *stream;
    struct request *next; /* worker queue */
    int64_t start_us;
    uint64_t inflight_bytes;
    enum coding accept;
};
struct work_queue {
    pthread_mutex_t mu;
    pthread_cond_t wake;
    struct request *head, *tail;
    unsigned threads_count, idle, waiting, waiting_max; /* waiting_max: beyond those that idle threads will take */
    pthread_t threads[64];
    bool stopping;
};
struct api {
    struct lake *lake;
    struct query_pool *pool;
    struct api_options opt;
    struct auth *auth;
    struct MHD_Daemon *daemon;
    uint16_t port;
    bool tls;
    struct work_queue workers, creates, queries, tails;
    _Atomic unsigned ingests;   /* between lake_ingest() and its acknowledgement */
    _Atomic unsigned suspended; /* requests that were, whose answers are not sent to the end */
    int64_t started_wall_us;
    atomic_bool ready; /* release in api_ready(), acquire in begin(): lake and pool are there */
    atomic_bool draining;
    _Atomic uint64_t inflight_bytes;
    int64_t started_us;

    pthread_mutex_t watch_mu; /* watch.c: connections with a running query */
    pthread_cond_t watch_wake;
    struct watched *watched;
    pthread_t watcher;
    bool watch_stopping;
};

/* server.c */
slice request_peer(struct request *r); /* its address as text */
void api_ingest_enter(struct api *api);
void api_ingest_left(struct api *api);
slice request_header(struct request *r, const char *name); /* ptr NULL if absent */
/* A query parameter, decoded; false if absent. */
bool request_param(struct request *r, const char *name, slice *out);
void request_run(struct request *r);    /* undoes Content-Encoding, then the handler */
void request_resume(struct request *r); /* any thread: the answer is ready */
struct request *request_ref(struct request *r);
void request_unref(struct request *r);
/* workers.c */
enum err_code work_start(struct work_queue *q, unsigned threads, unsigned waiting_max, struct err *err);
bool work_push(struct work_queue *q, struct request *r); /* false: full */
void work_stop(struct work_queue *q);
slice ingest_stream(struct request *r); /* that an ingest request names; empty: none */
slice percent_decode(struct arena *arena, slice s, bool plus);

/* answers: text, JSON, error */
void answer_text(struct request *r, unsigned status, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void answer_json(struct request *r, unsigned status, json_t *value);         /* takes value */
void answer_err(struct request *r, enum err_code rc, const struct err *err); /* the one table of codes and statuses */
unsigned status_of(enum err_code rc);

/* chunked.c */
#define STREAM_STALL_S 60       /* a client that takes nothing for so long is cut */
#define STREAM_BYTES_S 16384    /* and has a second for so many bytes of what waits for it */
#define STREAM_STALL_WAITED_S 5 /* the same while others wait for the engine that it holds */
#define STREAM_BYTES_WAITED_S 131072u
/* `stop` (may be NULL, good until chunked_end()): once set, nobody waits for the client any more. */
struct chunked *chunked_new(struct request *r, const char *content_type, const atomic_bool *stop);
enum err_code chunked_push(struct chunked *s, slice bytes, bool flush,
                           struct err *err);     /* waits while the client is slow; ERR_CANCELLED: it left */
void chunked_end(struct chunked *s, bool whole); /* whole false: the connection is cut */
struct MHD_Response *chunked_response(struct request *r);
void chunked_client_gone(struct chunked *s); /* the connection ended */
void chunked_unref(struct chunked *s);

/* tls.c */
typedef int tls_choose_fn(gnutls_session_t, const gnutls_datum_t *, int, const gnutls_pk_algorithm_t *, int,
                          gnutls_pcert_st **, unsigned *, gnutls_privkey_t *);
tls_choose_fn *tls_choose(void); /* for MHD_OPTION_HTTPS_CERT_CALLBACK: hands out the newest pair that was loaded */
/* PEM files. ERR_INVALID: no such, or not of each other; then, as with ERR_IO, the pair before stays. */
MUST_CHECK enum err_code tls_load(const char *cert_path, const char *key_path, struct err *err);
void tls_done(void); /* once nobody shakes hands any more */

/* watch.c: a client that leaves cancels its query */
enum err_code watch_start(struct api *api, struct err *err);
void watch_stop(struct api *api);
struct watched {
    struct watched *next; /* under watch_mu, as the rest */
    int fd;
    const char *query_id;
    bool quiet;   /* nothing of the answer was sent */
    bool interim; /* the client takes interim answers */
    bool asked;   /* whether it is still there, after its FIN */
    atomic_bool gone;
};
/* false: a query of another client has this id, and would end with this one's connection. */
bool watch_add(struct request *r, const char *query_id, struct watched *slot);
void watch_answering(struct api *api, struct watched *slot); /* before the answer's first byte */
void watch_del(struct api *api, struct watched *slot);

/* route.c */
const struct route *route_find(struct request *r, unsigned *status, const char **allow);

/* handlers */
void handle_ingest(struct request *r); /* ingest.c */
void handle_ingest_stream(struct request *r);
void handle_liveness(struct request *r); /* system.c */
void handle_readiness(struct request *r);
void handle_about(struct request *r);
void handle_storage(struct request *r);
void handle_store(struct request *r);
void handle_flush(struct request *r);
void handle_metrics(struct request *r);
void handle_streams(struct request *r); /* streams.c */
void handle_stream_put(struct request *r);
void handle_stream_delete(struct request *r);
void handle_stream_info(struct request *r);
void handle_stream_schema(struct request *r);
void handle_stream_stats(struct request *r);
void handle_detect(struct request *r);
void handle_retention_get(struct request *r);
void handle_retention_put(struct request *r);
void handle_hottier(struct request *r);
void handle_query(struct request *r); /* query.c */
void handle_counts(struct request *r);
void handle_queries(struct request *r);
void handle_query_cancel(struct request *r);
void handle_tail(struct request *r); /* tail.c */
/* streams.c, for ingest.c: what headers say about a stream to create. false: answered. */
bool config_from_headers(struct request *r, struct stream_config *out, bool create);
bool log_source_known(slice name);
