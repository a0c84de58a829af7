/* tail.c: followers. A follower reads rows by row id up to the horizon: the first id that is given but not visible yet. */
#include "stage/lake_int.h"

struct lake_tail {
    struct stage_stream *stream;
};

enum err_code lake_tail_open(struct lake *lake, slice name, struct lake_tail **out, struct err *err)
{
    struct stage_stream *s;

    TRY(stage_find(lake, name, &s, err));
    *out = mem_zalloc(sizeof(**out));
    (*out)->stream = s;
    return ERR_OK;
}

static uint64_t horizon(const struct stage_stream *s) /* under mu */
{
    return s->pending_head ? s->pending_head->row_id : s->next_row_id;
}

uint64_t lake_tail_horizon(struct lake_tail *t)
{
    struct stage_stream *s = t->stream;

    os_lock(s->lake->os, s->mu);
    uint64_t h = horizon(s);
    os_unlock(s->lake->os, s->mu);
    return h;
}

void lake_tail_wait(struct lake_tail *t, uint64_t after, void (*wake)(void *arg), void *arg)
{
    struct stage_stream *s = t->stream;
    struct tail_waiter *w = mem_zalloc(sizeof(*w));

    *w = (struct tail_waiter){.after = after, .wake = wake, .arg = arg};
    os_lock(s->lake->os, s->mu);
    if (horizon(s) > after || s->dead) {
        os_unlock(s->lake->os, s->mu);
        free(w);
        wake(arg);
        return;
    }
    w->next = s->waiters;
    s->waiters = w;
    os_unlock(s->lake->os, s->mu);
}

/* Takes back a wait that was not called yet. */
bool lake_tail_cancel(struct lake_tail *t, void *arg)
{
    struct stage_stream *s = t->stream;
    struct tail_waiter *found = NULL;

    os_lock(s->lake->os, s->mu);
    for (struct tail_waiter **at = &s->waiters; *at; at = &(*at)->next)
        if ((*at)->arg == arg) {
            found = *at;
            *at = found->next;
            break;
        }
    os_unlock(s->lake->os, s->mu);
    free(found);
    return found != NULL;
}

bool lake_tail_dead(struct lake_tail *t)
{
    os_lock(t->stream->lake->os, t->stream->mu);
    bool dead = t->stream->dead;
    os_unlock(t->stream->lake->os, t->stream->mu);
    return dead;
}

void stage_wake_tails(struct stage_stream *s)
{
    struct tail_waiter *ready = NULL;

    os_lock(s->lake->os, s->mu);
    for (struct tail_waiter **at = &s->waiters; *at;) {
        struct tail_waiter *w = *at;
        if (horizon(s) <= w->after && !s->dead) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        w->next = ready;
        ready = w;
    }
    os_unlock(s->lake->os, s->mu);
    while (ready) {
        struct tail_waiter *next = ready->next;
        ready->wake(ready->arg);
        free(ready);
        ready = next;
    }
}

void lake_tail_close(struct lake_tail *t)
{
    if (!t)
        return;
    stage_stream_unref(t->stream);
    free(t);
}
