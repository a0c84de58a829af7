/* remote_parts.c: an upload in parts, several at a time. Each is read from the file when its turn comes, so memory is bounded by the parts that
 * are on their way: REMOTE_PARTS_PARALLEL of a store, however many uploads it has. */
#include "base/mem.h"
#include "store/remote.h"

#include "base/banned.h"

struct parts {
    struct remote_upload *u;
    remote_part_fn put;
    void *arg;
    unsigned next, count; /* under r->mu */
    enum err_code rc;     /* under r->mu: the first error */
    struct err err;
};

static void turn_take(struct remote *r)
{
    os_lock(r->os, r->mu);
    while (r->parts_running >= REMOTE_PARTS_PARALLEL)
        (void)r->os->ops->cond_wait(r->os, r->cond, r->mu, -1);
    r->parts_running++;
    os_unlock(r->os, r->mu);
}

static void turn_give(struct remote *r)
{
    os_lock(r->os, r->mu);
    r->parts_running--;
    r->os->ops->cond_broadcast(r->os, r->cond);
    os_unlock(r->os, r->mu);
}

static bool part_next(struct parts *p, unsigned *out)
{
    struct remote *r = p->u->r;

    os_lock(r->os, r->mu);
    bool more = p->rc == ERR_OK && p->next < p->count;
    if (more)
        *out = p->next++;
    os_unlock(r->os, r->mu);
    return more;
}

static enum err_code part_send(struct parts *p, unsigned index, struct err *err)
{
    _cleanup_(buf_done) struct buf bytes = BUF_INIT;

    TRY(remote_upload_piece(p->u, (uint64_t)index * REMOTE_PART_BYTES, &bytes, err));
    return p->put(p->arg, index, buf_view(&bytes), err);
}

static void work(void *arg)
{
    struct parts *p = arg;
    struct remote *r = p->u->r;
    unsigned index;

    while (part_next(p, &index)) {
        struct err err = {0};
        turn_take(r);
        enum err_code rc = part_send(p, index, &err);
        turn_give(r);
        os_lock(r->os, r->mu);
        if (rc != ERR_OK && p->rc == ERR_OK) {
            p->rc = rc;
            p->err = err;
        }
        os_unlock(r->os, r->mu);
    }
}

unsigned remote_parts_count(const struct remote_upload *u)
{
    return (unsigned)((u->size + REMOTE_PART_BYTES - 1) / REMOTE_PART_BYTES);
}

enum err_code remote_parts_put(struct remote_upload *u, remote_part_fn put, void *arg, struct err *err)
{
    struct parts p = {.u = u, .put = put, .arg = arg, .count = remote_parts_count(u)};
    struct os_thread *threads[REMOTE_PARTS_PARALLEL - 1] = {0};
    struct os *os = u->r->os;

    for (unsigned i = 0; i + 1 < MIN(p.count, REMOTE_PARTS_PARALLEL); i++)
        threads[i] = os->ops->thread_new(os, "upload", work, &p);
    work(&p);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        os->ops->thread_join(os, threads[i]);
    if (p.rc != ERR_OK && err)
        *err = p.err;
    return p.rc;
}
