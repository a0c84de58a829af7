/* workers.c: bounded queues of requests for threads that may wait. */
#include "api/api_int.h"

static void run(struct request *r)
{
    bool ingest = r->route->body == BODY_EVENTS; /* answers by itself, when its rows are durable */

    r->on_worker = true;
    request_run(r);
    if (!r->stream && !ingest)
        request_resume(r);
    request_unref(r);
}

static void *work_main(void *arg)
{
    struct work_queue *q = arg;

    pthread_mutex_lock(&q->mu);
    for (;;) {
        struct request *r = q->head;
        if (!r && q->stopping)
            break;
        if (!r) {
            q->idle++;
            (void)pthread_cond_wait(&q->wake, &q->mu);
            q->idle--;
            continue;
        }
        q->head = r->next;
        if (!q->head)
            q->tail = NULL;
        q->waiting--;
        pthread_mutex_unlock(&q->mu);
        run(r);
        pthread_mutex_lock(&q->mu);
    }
    pthread_mutex_unlock(&q->mu);
    return NULL;
}

enum err_code work_start(struct work_queue *q, unsigned threads, unsigned waiting_max, struct err *err)
{
    ASSERT(pthread_mutex_init(&q->mu, NULL) == 0 && pthread_cond_init(&q->wake, NULL) == 0);
    q->waiting_max = waiting_max;
    for (unsigned i = 0; i < MIN(threads, ARRAY_LEN(q->threads)); i++) {
        if (pthread_create(&q->threads[i], NULL, work_main, q) != 0)
            return err_set(err, ERR_LIMIT, "no thread for a worker");
        q->threads_count++;
    }
    return ERR_OK;
}

bool work_push(struct work_queue *q, struct request *r)
{
    pthread_mutex_lock(&q->mu);
    bool ok = !q->stopping && q->waiting < q->waiting_max + q->idle;
    if (ok) {
        (void)request_ref(r);
        r->next = NULL;
        if (q->tail)
            q->tail->next = r;
        else
            q->head = r;
        q->tail = r;
        q->waiting++;
        (void)pthread_cond_signal(&q->wake);
    }
    pthread_mutex_unlock(&q->mu);
    return ok;
}

void work_stop(struct work_queue *q)
{
    if (!q->threads_count)
        return;
    pthread_mutex_lock(&q->mu);
    q->stopping = true;
    (void)pthread_cond_broadcast(&q->wake);
    pthread_mutex_unlock(&q->mu);
    for (unsigned i = 0; i < q->threads_count; i++)
        (void)pthread_join(q->threads[i], NULL);
    (void)pthread_cond_destroy(&q->wake);
    (void)pthread_mutex_destroy(&q->mu);
}
