#include "store/pace.h"

#include "base/mem.h"
#include "base/metrics.h"

#include "base/banned.h"

#define CUT_US 1000000

void pace_init(struct pace *p, struct os *os, unsigned limit_max)
{
    limit_max = limit_max ? MIN(limit_max, (unsigned)PACE_PARALLEL_MAX) : PACE_PARALLEL_MAX;
    *p = (struct pace){.os = os, .limit_max = limit_max, .limit = limit_max, .cut_us = INT64_MIN / 2};
    p->mu = os->ops->mutex_new(os);
    p->cond = os->ops->cond_new(os);
}

void pace_done(struct pace *p)
{
    if (!p->os)
        return;
    p->os->ops->cond_free(p->os, p->cond);
    p->os->ops->mutex_free(p->os, p->mu);
}

bool pace_enter(struct pace *p, int64_t deadline_us)
{
    bool mine = false;

    os_lock(p->os, p->mu);
    for (;;) {
        int64_t now = os_mono_us(p->os);
        mine = now >= p->resume_us && p->running < p->limit;
        if (mine || now >= deadline_us)
            break;
        int64_t until = now < p->resume_us ? MIN(p->resume_us, deadline_us) : deadline_us;
        (void)p->os->ops->cond_wait(p->os, p->cond, p->mu, until - now);
    }
    p->running += mine;
    os_unlock(p->os, p->mu);
    return mine;
}

static void slower(struct pace *p, int64_t after_us)
{
    int64_t now = os_mono_us(p->os);

    metric_add(metric_get(METRIC_COUNTER, "sluice_store_throttled_total",
                          "Answers of the object store that asked for fewer requests", NULL),
               1);
    p->resume_us = MAX(p->resume_us, now + after_us);
    if (now - p->cut_us < CUT_US)
        return;
    p->cut_us = now;
    p->limit = MAX(p->limit / 2, 1u);
    p->good = 0;
}

void pace_leave(struct pace *p, bool refused, int64_t after_us)
{
    os_lock(p->os, p->mu);
    p->running--;
    if (refused) {
        slower(p, after_us);
    } else if (p->limit < p->limit_max && ++p->good >= p->limit) {
        p->limit++;
        p->good = 0;
    }
    p->os->ops->cond_broadcast(p->os, p->cond);
    os_unlock(p->os, p->mu);
}
