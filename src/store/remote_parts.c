/* remote_parts.c: an upload in parts, several at a time. Each is read from the file when its turn comes, so memory is bounded by the parts that
 * are on their way: REMOTE_PARTS_PARALLEL of a store, however many uploads it has. */
#include "os/parallel.h"
#include "store/remote.h"

#include "base/banned.h"

struct parts {
    struct remote_upload *u;
    remote_part_fn put;
    void *arg;
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

static enum err_code part_send(struct parts *p, unsigned index, struct err *err)
{
    _cleanup_(buf_done) struct buf bytes = BUF_INIT;

    TRY(remote_upload_piece(p->u, (uint64_t)index * REMOTE_PART_BYTES, &bytes, err));
    return p->put(p->arg, index, buf_view(&bytes), err);
}

static enum err_code part_put(void *arg, size_t index, struct err *err)
{
    struct parts *p = arg;

    turn_take(p->u->r);
    enum err_code rc = part_send(p, (unsigned)index, err);
    turn_give(p->u->r);
    return rc;
}

unsigned remote_parts_count(const struct remote_upload *u)
{
    return (unsigned)((u->size + REMOTE_PART_BYTES - 1) / REMOTE_PART_BYTES);
}

enum err_code remote_parts_put(struct remote_upload *u, remote_part_fn put, void *arg, struct err *err)
{
    struct parts p = {u, put, arg};

    return parallel_each(u->r->os, REMOTE_PARTS_PARALLEL, remote_parts_count(u), part_put, &p, err);
}
