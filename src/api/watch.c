/* watch.c: polls the sockets of connections whose query runs: libmicrohttpd does not look at a suspended connection, and a client that
 * left should not keep an engine busy.
 *
 * A FIN alone says only that the client has no more to send: it may have left, or may wait for its answer (shutdown(SHUT_WR), `nc -N`). The
 * kernel of one that left answers the next bytes with a reset. So while nothing of the answer was sent, the interim answer "100 Continue",
 * which every HTTP/1.1 client skips (RFC 9110, 15.2), asks it; from the answer's first byte on the answer itself does, and probes of
 * keep-alive where it has a pause. TLS has no half-closed clients that we know of: there a FIN is an end. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>

#include "api/api_int.h"

#define WATCH_PERIOD_NS 100000000

#define PROBE_S 5

static void ask(struct watched *w) /* under watch_mu */
{
    static const char interim[] = "HTTP/1.1 100 Continue\r\n\r\n";
    const int on = 1, every = PROBE_S;

    w->asked = true;
    if (w->quiet && w->interim) {
        (void)send(w->fd, interim, sizeof(interim) - 1,
                   MSG_NOSIGNAL | MSG_DONTWAIT); /* what comes back is the answer */
        return;
    }
    (void)setsockopt(w->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)); /* else the query's time limit ends it */
    (void)setsockopt(w->fd, IPPROTO_TCP, TCP_KEEPIDLE, &every, sizeof(every));
    (void)setsockopt(w->fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof(every));
}

static bool left(struct api *api, struct watched *w) /* under watch_mu */
{
    struct pollfd p = {.fd = w->fd, .events = POLLRDHUP};

    if (poll(&p, 1, 0) <= 0)
        return false;
    if (p.revents & (POLLHUP | POLLERR | POLLNVAL) || (api->tls && p.revents & POLLRDHUP))
        return true;
    if (p.revents & POLLRDHUP && !w->asked)
        ask(w);
    return false;
}

static void look(struct api *api) /* under watch_mu */
{
    for (struct watched *w = api->watched; w; w = w->next) {
        if (w->gone || !left(api, w))
            continue;
        w->gone = true;
        (void)query_cancel_id(api->pool, slice_str(w->query_id), (slice){0}, true); /* false: it ends just now */
    }
}

static void *watch_main(void *arg)
{
    struct api *api = arg;

    pthread_mutex_lock(&api->watch_mu);
    while (!api->watch_stopping) {
        if (!api->watched) {
            (void)pthread_cond_wait(&api->watch_wake, &api->watch_mu);
            continue;
        }
        look(api);
        struct timespec ts;
        (void)clock_gettime(CLOCK_MONOTONIC, &ts);
        ts.tv_nsec += WATCH_PERIOD_NS;
        ts.tv_sec += ts.tv_nsec / 1000000000;
        ts.tv_nsec %= 1000000000;
        (void)pthread_cond_clockwait(&api->watch_wake, &api->watch_mu, CLOCK_MONOTONIC, &ts);
    }
    pthread_mutex_unlock(&api->watch_mu);
    return NULL;
}

enum err_code watch_start(struct api *api, struct err *err)
{
    ASSERT(pthread_mutex_init(&api->watch_mu, NULL) == 0 && pthread_cond_init(&api->watch_wake, NULL) == 0);
    return pthread_create(&api->watcher, NULL, watch_main, api) == 0
               ? ERR_OK
               : err_set(err, ERR_LIMIT, "no thread for the watcher");
}

void watch_stop(struct api *api)
{
    pthread_mutex_lock(&api->watch_mu);
    api->watch_stopping = true;
    (void)pthread_cond_broadcast(&api->watch_wake);
    pthread_mutex_unlock(&api->watch_mu);
    (void)pthread_join(api->watcher, NULL);
    (void)pthread_cond_destroy(&api->watch_wake);
    (void)pthread_mutex_destroy(&api->watch_mu);
}

bool watch_add(struct request *r, const char *query_id, struct watched *slot)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(r->conn, MHD_CONNECTION_INFO_CONNECTION_FD);

    slot->fd = info ? info->connect_fd : -1;
    slot->query_id = query_id;
    slot->quiet = true;
    slot->interim = r->http11;
    slot->asked = false;
    atomic_store(&slot->gone, false);
    pthread_mutex_lock(&r->api->watch_mu);
    bool taken = false;
    for (const struct watched *w = r->api->watched; w; w = w->next)
        taken |= strcmp(w->query_id, query_id) == 0;
    if (!taken) {
        slot->next = r->api->watched;
        r->api->watched = slot;
        (void)pthread_cond_broadcast(&r->api->watch_wake);
    }
    pthread_mutex_unlock(&r->api->watch_mu);
    return !taken;
}

void watch_answering(struct api *api, struct watched *slot)
{
    pthread_mutex_lock(&api->watch_mu);
    slot->quiet = slot->asked = false;
    pthread_mutex_unlock(&api->watch_mu);
}

void watch_del(struct api *api, struct watched *slot)
{
    pthread_mutex_lock(&api->watch_mu);
    for (struct watched **at = &api->watched; *at; at = &(*at)->next)
        if (*at == slot) {
            *at = slot->next;
            break;
        }
    pthread_mutex_unlock(&api->watch_mu);
}
