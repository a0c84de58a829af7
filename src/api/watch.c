/* watch.c: polls the sockets of connections whose query runs: libmicrohttpd does not look at a suspended connection, and a client that
 * left should not keep an engine busy. */
#include <poll.h>
#include <time.h>

#include "api/api_int.h"

#define WATCH_PERIOD_NS 100000000

static void look(struct api *api) /* under watch_mu */
{
    for (struct watched *w = api->watched; w; w = w->next) {
        struct pollfd p = {.fd = w->fd, .events = POLLRDHUP};
        if (w->gone || poll(&p, 1, 0) <= 0 || !(p.revents & (POLLRDHUP | POLLHUP | POLLERR)))
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
        (void)clock_gettime(CLOCK_REALTIME, &ts);
        ts.tv_nsec += WATCH_PERIOD_NS;
        ts.tv_sec += ts.tv_nsec / 1000000000;
        ts.tv_nsec %= 1000000000;
        (void)pthread_cond_timedwait(&api->watch_wake, &api->watch_mu, &ts);
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

void watch_add(struct request *r, const char *query_id, struct watched *slot)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(r->conn, MHD_CONNECTION_INFO_CONNECTION_FD);

    slot->fd = info ? info->connect_fd : -1;
    slot->query_id = query_id;
    atomic_store(&slot->gone, false);
    pthread_mutex_lock(&r->api->watch_mu);
    slot->next = r->api->watched;
    r->api->watched = slot;
    (void)pthread_cond_broadcast(&r->api->watch_wake);
    pthread_mutex_unlock(&r->api->watch_mu);
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
