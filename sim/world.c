#include "sim/world.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "sim/sim_disk.h"

#include "base/banned.h"

enum fiber_state { FIBER_RUNNABLE, FIBER_BLOCKED, FIBER_OVER };
struct fiber {
    struct fiber_ctx ctx;
    struct world *world;
    struct sim_node *node;
    const char *name;
    uint64_t id, wakes; /* a timer is for one wake only */
    enum fiber_state state;
    bool timed_out;
    struct waitq *waits_in;
    void (*fn)(void *arg);
    void *arg;
};
struct timer {
    int64_t at_us;
    uint64_t seq;
    struct fiber *fiber; /* NULL: call fn */
    uint64_t wakes;
    void (*fn)(void *arg);
    void *arg;
};
struct world {
    uint64_t seed, steps, hash, timers_made, fibers_made;
    bool trace;
    int64_t now_us;
    struct rng rng, work;
    struct fiber_ctx main;
    struct fiber *running;
    struct fiber **runnable;
    size_t runnable_count, runnable_cap;
    struct timer *timers; /* binary heap */
    size_t timers_count, timers_cap;
    struct fiber **fibers; /* all that are not over */
    size_t fibers_count, fibers_cap;
    unsigned nodes;
    const char *failed;
    char failed_text[4000];
};
static struct world *current;

/* ---- random: splitmix64 (Steele, Lea, Flood 2014) */
uint64_t rng_next(struct rng *r)
{
    uint64_t z = r->s += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

uint64_t rng_below(struct rng *r, uint64_t n)
{
    return n ? (uint64_t)(((unsigned __int128)rng_next(r) * n) >> 64) : 0;
}

int64_t rng_span(struct rng *r, int64_t from, int64_t to)
{
    return from + (int64_t)rng_below(r, (uint64_t)(to - from) + 1);
}

bool rng_chance(struct rng *r, unsigned permille)
{
    return rng_below(r, 1000) < permille;
}

int64_t rng_skewed(struct rng *r, int64_t from, int64_t to)
{
    unsigned doublings = 0;
    while (doublings < 62 && (from << doublings) < to)
        doublings++;
    int64_t top = from << rng_below(r, doublings + 1);
    return rng_span(r, from, top < to ? top : to);
}

/* ---- world */
uint64_t world_seed(const struct world *w)
{
    return w->seed;
}

struct world *world_new(uint64_t seed, bool trace)
{
    struct world *w = mem_zalloc(sizeof(*w));
    struct rng mix = {seed * 0x2545f4914f6cdd1dull + 1};

    w->seed = seed;
    w->trace = trace;
    w->now_us = SIM_EPOCH_US;
    w->rng.s = rng_next(&mix);
    w->work.s = rng_next(&mix);
    w->hash = seed;
    current = w;
    return w;
}

void world_free(struct world *w)
{
    if (!w)
        return;
    for (size_t i = 0; i < w->fibers_count; i++) {
        fiber_done(&w->fibers[i]->ctx);
        free(w->fibers[i]);
    }
    free(w->fibers);
    free(w->runnable);
    free(w->timers);
    free(w);
    current = NULL;
}

struct world *world_current(void)
{
    return current;
}
struct rng *world_rng(struct world *w)
{
    return &w->rng;
}
struct rng *world_workload(struct world *w)
{
    return &w->work;
}
int64_t world_now(const struct world *w)
{
    return w->now_us;
}
uint64_t world_hash(const struct world *w)
{
    return w->hash;
}
uint64_t world_steps(const struct world *w)
{
    return w->steps;
}
bool world_tracing(const struct world *w)
{
    return w->trace;
}
struct sim_node *world_here(struct world *w)
{
    return w->running ? w->running->node : NULL;
}

void world_mix(struct world *w, uint64_t v)
{
    uint64_t h = (w->hash ^ v) * 0xff51afd7ed558ccdull;
    w->hash = h ^ h >> 32;
}

void world_trace(struct world *w, const char *fmt, ...)
{
    va_list ap;
    int64_t t = w->now_us - SIM_EPOCH_US;

    if (!w->trace)
        return;
    printf("%6lld.%06lld ", (long long)(t / SIM_SECOND), (long long)(t % SIM_SECOND));
    if (w->running && w->running->node)
        printf("node%u/%s: ", w->running->node->id, w->running->name);
    else
        printf("%s: ", w->running ? w->running->name : "world");
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
}

/* ---- timers */
static bool timer_before(const struct timer *a, const struct timer *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->seq < b->seq;
}

static void timer_push(struct world *w, struct timer t)
{
    size_t i = w->timers_count;

    t.seq = w->timers_made++;
    *ARRAY_PUSH(w->timers, w->timers_count, w->timers_cap) = t;
    for (; i && timer_before(&t, &w->timers[(i - 1) / 2]); i = (i - 1) / 2)
        w->timers[i] = w->timers[(i - 1) / 2];
    w->timers[i] = t;
}

static struct timer timer_pop(struct world *w)
{
    struct timer top = w->timers[0], last = w->timers[--w->timers_count];
    size_t i = 0, n = w->timers_count;

    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && timer_before(&w->timers[child + 1], &w->timers[child]))
            child++;
        if (!timer_before(&w->timers[child], &last))
            break;
        w->timers[i] = w->timers[child];
    }
    if (n)
        w->timers[i] = last;
    return top;
}

void world_at(struct world *w, int64_t at_us, void (*fn)(void *arg), void *arg)
{
    timer_push(w, (struct timer){.at_us = at_us, .fn = fn, .arg = arg});
}

/* ---- fibers */
static void make_runnable(struct world *w, struct fiber *f)
{
    if (f->state == FIBER_OVER)
        return;
    f->state = FIBER_RUNNABLE;
    f->wakes++;
    if (f->node && f->node->paused)
        *ARRAY_PUSH(f->node->parked, f->node->parked_count, f->node->parked_cap) = f;
    else
        *ARRAY_PUSH(w->runnable, w->runnable_count, w->runnable_cap) = f;
}

static void fiber_main(void *arg)
{
    struct fiber *f = arg;

    f->fn(f->arg);
    f->state = FIBER_OVER;
    fiber_switch(&f->ctx, &f->world->main);
}

struct fiber *world_spawn(struct world *w, struct sim_node *n, const char *name, void (*fn)(void *arg), void *arg)
{
    struct fiber *f = mem_zalloc(sizeof(*f));

    f->world = w;
    f->node = n;
    f->name = name;
    f->id = w->fibers_made++;
    f->fn = fn;
    f->arg = arg;
    fiber_init(&f->ctx, fiber_main, f);
    *ARRAY_PUSH(w->fibers, w->fibers_count, w->fibers_cap) = f;
    make_runnable(w, f);
    return f;
}

bool fiber_over(const struct fiber *f)
{
    return f->state == FIBER_OVER;
}

static void to_scheduler(struct world *w)
{
    struct fiber *f = w->running;
    ASSERT(f);
    fiber_switch(&f->ctx, &w->main);
}

void world_yield(struct world *w)
{
    make_runnable(w, w->running);
    to_scheduler(w);
}

bool world_block(struct world *w, struct waitq *q, int64_t wait_us)
{
    struct fiber *f = w->running;

    f->state = FIBER_BLOCKED;
    f->timed_out = false;
    f->waits_in = q;
    if (q)
        *ARRAY_PUSH(q->items, q->count, q->cap) = f;
    if (wait_us >= 0)
        timer_push(w, (struct timer){.at_us = w->now_us + wait_us, .fiber = f, .wakes = f->wakes});
    to_scheduler(w);
    return !f->timed_out;
}

void world_sleep(struct world *w, int64_t us)
{
    (void)world_block(w, NULL, us > 0 ? us : 0);
}

static void waitq_remove(struct waitq *q, const struct fiber *f)
{
    for (size_t i = 0; i < q->count; i++)
        if (q->items[i] == f) {
            q->items[i] = q->items[--q->count];
            return;
        }
}

void waitq_wake(struct world *w, struct waitq *q, bool all)
{
    while (q->count) {
        size_t i = rng_below(&w->rng, q->count);
        struct fiber *f = q->items[i];
        q->items[i] = q->items[--q->count];
        if (f->state != FIBER_BLOCKED)
            continue;
        f->waits_in = NULL;
        make_runnable(w, f);
        if (!all)
            return;
    }
}

static void timer_fire(struct world *w, struct timer t)
{
    if (!t.fiber) {
        t.fn(t.arg);
    } else if (t.fiber->state == FIBER_BLOCKED && t.fiber->wakes == t.wakes) {
        if (t.fiber->waits_in)
            waitq_remove(t.fiber->waits_in, t.fiber);
        t.fiber->waits_in = NULL;
        t.fiber->timed_out = true;
        make_runnable(w, t.fiber);
    }
}

/* ---- nodes */
struct sim_node *world_node(struct world *w)
{
    struct sim_node *n = mem_zalloc(sizeof(*n));

    n->world = w;
    n->id = w->nodes++;
    n->disk = sim_disk_new(w);
    return n;
}

void node_up(struct sim_node *n)
{
    ASSERT(!n->up);
    n->up = true;
    n->boots++;
    n->boot_us = n->world->now_us;
    n->crash_in = 0;
}

void node_crash(struct sim_node *n, bool kill)
{
    struct world *w = n->world;
    bool me = world_here(w) == n;

    world_trace(w, "node%u: %s", n->id, kill ? "kill -9" : "power cut");
    world_mix(w, 0xc0de + n->id);
    n->up = n->paused = n->store_cut = false;
    n->crash_in = n->pause_in = 0;
    n->parked_count = 0;
    for (size_t i = 0; i < w->fibers_count; i++)
        if (w->fibers[i]->node == n)
            w->fibers[i]->state = FIBER_OVER; /* reaped by the scheduler */
    size_t kept = 0;
    for (size_t i = 0; i < w->runnable_count; i++)
        if (w->runnable[i]->node != n)
            w->runnable[kept++] = w->runnable[i];
    w->runnable_count = kept;
    if (kill)
        sim_disk_kill(n->disk);
    else
        sim_disk_power_cut(n->disk);
    if (n->on_crash)
        n->on_crash(n, kill);
    if (me)
        to_scheduler(w);
}

void node_pause(struct sim_node *n)
{
    struct world *w = n->world;
    size_t kept = 0;

    if (!n->up || n->paused)
        return;
    world_trace(w, "node%u: paused", n->id);
    n->paused = true;
    for (size_t i = 0; i < w->runnable_count; i++) {
        if (w->runnable[i]->node == n)
            *ARRAY_PUSH(n->parked, n->parked_count, n->parked_cap) = w->runnable[i];
        else
            w->runnable[kept++] = w->runnable[i];
    }
    w->runnable_count = kept;
    if (world_here(w) == n)
        world_yield(w);
}

static void resume_later(void *arg)
{
    node_resume(arg);
}

void node_pause_for(struct sim_node *n, int64_t us)
{
    world_at(n->world, n->world->now_us + us, resume_later, n);
    node_pause(n);
}

void node_resume(struct sim_node *n)
{
    struct world *w = n->world;

    if (!n->paused)
        return;
    world_trace(w, "node%u: resumed", n->id);
    n->paused = false;
    for (size_t i = 0; i < n->parked_count; i++)
        *ARRAY_PUSH(w->runnable, w->runnable_count, w->runnable_cap) = n->parked[i];
    n->parked_count = 0;
}

void world_io(struct world *w, struct sim_node *n)
{
    uint64_t dice = rng_next(&w->rng);

    if (n->crash_in && --n->crash_in == 0)
        node_crash(n, n->crash_kill);
    if (n->pause_in && --n->pause_in == 0)
        node_pause_for(n, n->pause_us);
    if (!w->running)
        return; /* a checker looks at a disk from outside */
    if ((dice & 7) == 0)
        world_sleep(w, (int64_t)(dice >> 32 & 2047));
    else if ((dice & 7) < 3)
        world_yield(w);
}

/* ---- run */
static void reap(struct world *w)
{
    for (size_t i = 0; i < w->fibers_count;) {
        struct fiber *f = w->fibers[i];
        if (f->state != FIBER_OVER) {
            i++;
            continue;
        }
        if (f->waits_in)
            waitq_remove(f->waits_in, f);
        fiber_done(&f->ctx); /* the struct stays: somebody may ask whether it is over */
        w->fibers[i] = w->fibers[--w->fibers_count];
    }
}

bool world_run(struct world *w, struct fiber *until, uint64_t steps_max)
{
    while (!w->failed && until->state != FIBER_OVER) {
        while (w->timers_count && (w->timers[0].at_us <= w->now_us || !w->runnable_count)) {
            struct timer t = timer_pop(w);
            if (t.at_us > w->now_us)
                w->now_us = t.at_us;
            timer_fire(w, t);
            if (w->failed)
                return false;
        }
        if (!w->runnable_count) {
            world_fail(w, "deadlock", "no fiber can run and no timer is set");
            break;
        }
        if (++w->steps > steps_max) {
            world_fail(w, "progress", "no end after %" PRIu64 " steps", steps_max);
            break;
        }
        size_t i = rng_below(&w->rng, w->runnable_count);
        struct fiber *f = w->runnable[i];
        w->runnable[i] = w->runnable[--w->runnable_count];
        w->now_us += 1; /* so that a loop of yields meets its timers */
        world_mix(w, f->id ^ (uint64_t)w->now_us << 20);
        w->running = f;
        fiber_switch(&w->main, &f->ctx);
        bool over = w->running->state == FIBER_OVER;
        w->running = NULL;
        if (over)
            reap(w);
    }
    return !w->failed;
}

void world_fail(struct world *w, const char *invariant, const char *fmt, ...)
{
    va_list ap;

    if (!w->failed) {
        w->failed = invariant;
        va_start(ap, fmt);
        (void)vsnprintf(w->failed_text, sizeof(w->failed_text), fmt, ap);
        va_end(ap);
        world_trace(w, "VIOLATION %s: %s", invariant, w->failed_text);
    }
    if (w->running)
        to_scheduler(w); /* for ever: world_run() ends */
}

const char *world_failed(const struct world *w, const char **text)
{
    if (text)
        *text = w->failed_text;
    return w->failed;
}

/* Stands in for the product's ASSERT: a broken assertion of the code under test is a finding with a seed. */
_Noreturn void __wrap_assert_fail(const char *expr, const char *file, int line);
_Noreturn void __wrap_assert_fail(const char *expr, const char *file, int line)
{
    if (current && current->running)
        world_fail(current, "ASSERT", "%s:%d: %s", file, line, expr);
    (void)fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, expr);
    abort();
}
