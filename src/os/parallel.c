#include "os/parallel.h"

#include "base/banned.h"

struct parallel {
    struct os *os;
    struct os_mutex *mu;
    parallel_fn fn;
    void *arg;
    size_t next, count; /* under mu */
    enum err_code rc;   /* under mu: the first error */
    struct err err;
};

static bool next(struct parallel *p, size_t *index)
{
    os_lock(p->os, p->mu);
    bool more = p->rc == ERR_OK && p->next < p->count;
    if (more)
        *index = p->next++;
    os_unlock(p->os, p->mu);
    return more;
}

static void work(void *arg)
{
    struct parallel *p = arg;
    size_t index;

    while (next(p, &index)) {
        struct err err = {0};
        enum err_code rc = p->fn(p->arg, index, &err);
        if (rc == ERR_OK)
            continue;
        os_lock(p->os, p->mu);
        if (p->rc == ERR_OK) {
            p->rc = rc;
            p->err = err;
        }
        os_unlock(p->os, p->mu);
    }
}

static enum err_code one_by_one(size_t count, parallel_fn fn, void *arg, struct err *err)
{
    for (size_t i = 0; i < count; i++)
        TRY(fn(arg, i, err));
    return ERR_OK;
}

enum err_code parallel_each(struct os *os, unsigned width, size_t count, parallel_fn fn, void *arg, struct err *err)
{
    struct parallel p = {.os = os, .fn = fn, .arg = arg, .count = count};
    struct os_thread *threads[PARALLEL_MAX - 1] = {0};
    struct err unwanted = {0};
    size_t helpers = MIN(MIN((size_t)width, (size_t)PARALLEL_MAX), count);

    err = err ? err : &unwanted;
    if (helpers <= 1)
        return one_by_one(count, fn, arg, err);
    p.mu = os->ops->mutex_new(os);
    for (size_t i = 0; i + 1 < helpers; i++)
        threads[i] = os->ops->thread_new(os, "parallel", work, &p);
    work(&p);
    for (size_t i = 0; i + 1 < helpers; i++)
        os->ops->thread_join(os, threads[i]);
    os->ops->mutex_free(os, p.mu);
    if (p.rc != ERR_OK)
        *err = p.err;
    return p.rc;
}
