/* api.h: the HTTP interface of one node: contract sections 1 to 5 and our own routes (docs/api.md). Composes lake, query and auth;
 * decides nothing itself but how a request becomes a call and an error becomes a status.
 *
 * THREADS  network threads (libmicrohttpd, epoll) never wait: small ingest requests are decoded on them, larger ones and everything
 * else run on workers while the connection is suspended; an acknowledgement of the WAL resumes it. */
#pragma once
#include "base/err.h"
#include "query/query.h"
#include "stage/lake.h"

struct api;
struct api_options {
    const char *address;                      /* "0.0.0.0:8000", "[::]:8000"; port 0: any free one */
    const char *tls_cert_path, *tls_key_path; /* both or none; PEM */
    const char *username, *password;
    const char *staging_dir, *store_path;     /* shown by /about */
    uint64_t body_bytes_max;                  /* of ingest bodies, decoded; 10,485,760 */
    uint64_t inflight_bytes_max;              /* bodies in memory at one time; 512 MiB: beyond it 503 */
    unsigned network_threads;                 /* default: two a core */
    unsigned connections_max;                 /* 25,000 */
    unsigned request_timeout_s, keep_alive_s; /* idle connections; default 5 each */
    bool cors;                                /* true (the contract's default): no origin is allowed; false: any */
};
/* Listens at once: until api_ready() liveness answers 200, everything else 503 with Retry-After, so that a balancer sees a node that starts,
 * and collectors keep their rows. */
/* Whether api_open would understand this address; what it does with it is another question. */
MUST_CHECK enum err_code api_address_check(const char *text, struct err *err);
MUST_CHECK enum err_code api_open(const struct api_options *opt, struct api **out, struct err *err);
void api_ready(struct api *api, struct lake *lake, struct query_pool *pool);
uint16_t api_port(const struct api *api);
/* Reads certificate and key again: handshakes from now on get them, connections stay. On an error those before are served on. */
MUST_CHECK enum err_code api_reload_tls(struct api *api, struct err *err);
void api_drain(struct api *api); /* from now on every request answers 503 */
void api_close(struct api *api); /* lets running requests end (queries are cancelled), then joins */
