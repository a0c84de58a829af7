/* catalog_script.c: races of catalog.md section 13 that need several rare events in one order, hours apart: chance meets them once in thousands
 * of worlds, so they are played. The seed still decides when exactly who runs. Each ends like a world of catalog_sim.c, with every invariant. */
#include <inttypes.h>

#include "sim/catalog_sim.h"
#include "sim/sim_disk.h"

#include "base/banned.h"

struct act { /* something a node does */
    struct proc *p;
    void (*fn)(struct act *a);
    unsigned name;
    enum duty duty;
};

/* ---- acts */
static void act_main(void *arg)
{
    struct act *a = arg;
    a->fn(a);
}

static struct fiber *begin(struct cnode *n, struct act act)
{
    struct act *a = mem_alloc(sizeof(*a));

    *a = act;
    a->p = n->proc;
    return world_spawn(n->cw->world, n->node, "act", act_main, a);
}

static void await(struct cw *cw, struct fiber *f)
{
    int64_t pause_us = SIM_SECOND / 1000; /* what comes next may have to come at once */

    for (unsigned i = 0; i < 3 * 24 * 60 && !fiber_over(f); i++, pause_us = MIN(2 * pause_us, SIM_MINUTE))
        world_sleep(cw->world, pause_us);
    WORLD_CHECK(cw->world, fiber_over(f), "liveness", "an act does not end");
}

static void play(struct cnode *n, struct act act)
{
    await(n->cw, begin(n, act));
}

static void do_ingest(struct act *a)
{
    ingest(a->p, a->name);
}
static void do_flush(struct act *a)
{
    struct err err;
    enum err_code rc = flush(a->p, &err);
    check_rc(a->p, "flush", rc, &err);
}
static void do_duty(struct act *a)
{
    struct catalog_work w = {0};
    struct err err;
    enum err_code rc = duty(a->p, a->duty, &w, &err);
    check_rc(a->p, "duty", rc, &err);
}
static void do_query(struct act *a)
{
    query(a->p, a->name);
}
static void do_seal(struct act *a)
{
    struct err err;
    check_rc(a->p, "seal", catalog_seal(a->p->cat, &err), &err);
}

static void do_drop(struct act *a)
{
    struct err err;
    check_rc(a->p, "drop", catalog_drop(a->p->cat, slice_str(names[a->name]), &err), &err);
}
static void do_unregister(struct act *a)
{
    struct err err;
    check_rc(a->p, "unregister", catalog_unregister(a->p->cat, &err), &err);
}
/* Whoever says that it is fresh takes rows only for what lives, once the DELETE has ended. */
static void do_look(struct act *a)
{
    _cleanup_(stream_version_unrefp) struct stream_version *v = NULL;
    struct cw *cw = a->p->cw;

    if (catalog_fresh(a->p->cat, 0) && catalog_resolve(a->p->cat, slice_str(names[a->name]), &v, NULL) == ERR_OK)
        WORLD_CHECK(cw->world,
                    bucket_name_live(cw->bucket, slice_str(names[a->name]), sid_slice(stream_version_sid(v))), "fence",
                    "a node is fresh, and has %s as %s, which was deleted", names[a->name],
                    stream_version_sid(v)->text);
}
static void do_validate(struct act *a)
{
    struct err err;
    check_rc(a->p, "validate", catalog_validate(a->p->cat, &err), &err);
}
static void do_validate_often(struct act *a)
{
    for (unsigned i = 0; i < 120; i++) {
        do_validate(a);
        world_sleep(a->p->cw->world, 10 * SIM_SECOND);
    }
}

static void bare_main(void *arg)
{
    struct proc *p = arg;
    struct err err;

    WORLD_CHECK(p->cw->world, proc_open(p, &err), "liveness", "no start: %s", err.msg);
    p->ready = true;
}

static void start(struct cnode *n)
{
    await(n->cw, proc_start(n, bare_main)->fibers[0]);
}

static void restart(struct cnode *n)
{
    node_crash(n->node, true);
    start(n);
}

static void commit_rows(struct cnode *n, unsigned name)
{
    play(n, (struct act){.fn = do_ingest, .name = name});
    play(n, (struct act){.fn = do_flush});
}

static void run_duty(struct cnode *n, enum duty what)
{
    play(n, (struct act){.fn = do_duty, .duty = what});
}

static void hold_lanes(struct cw *cw, bool stall, int64_t us)
{
    *sim_store_faults(cw->store) = (struct sim_store_faults){.only = slice_lit(".sluice/lanes/"),
                                                             .held = stall ? 0 : 1000,
                                                             .stalled = stall ? 1000 : 0,
                                                             .hold_us_max = us,
                                                             .page_max = 100};
}

static void hold_nothing(struct cw *cw)
{
    *sim_store_faults(cw->store) = (struct sim_store_faults){.page_max = 100, .hold_us_max = 6 * SIM_HOUR};
}

static int64_t hours(struct cw *cw, int64_t from, int64_t to)
{
    return rng_span(world_rng(cw->world), from * SIM_HOUR, to * SIM_HOUR);
}

/* ---- a folder with an old checkpoint meets a ghost (R11) */
static void ghost_for_a_stale_folder(struct cw *cw)
{
    struct cnode *b = cw_add_node(cw), *c = cw_add_node(cw), *d = cw_add_node(cw);

    start(d); /* the folder */
    start(b);
    commit_rows(b, 0);
    play(b, (struct act){.fn = do_seal});
    node_crash(b->node, true);
    start(c); /* takes the sealed lane of b */
    commit_rows(c, 1);
    run_duty(c, DUTY_FOLD);
    run_duty(d, DUTY_FOLD); /* and does nothing for hours */
    play(c, (struct act){.fn = do_ingest, .name = 2});
    play(c, (struct act){.fn = do_ingest, .name = 1});
    hold_lanes(cw, false, 4 * SIM_HOUR);
    struct fiber *f = begin(c, (struct act){.fn = do_flush}); /* its DATA is held by a proxy */
    world_sleep(cw->world, rng_skewed(world_rng(cw->world), 1000, SIM_SECOND));
    hold_nothing(cw);
    start(b); /* its header names the lane: OPEN takes the slot; c goes elsewhere */
    await(cw, f);
    restart(b); /* that slot is superseded */
    run_duty(c, DUTY_FOLD);
    world_sleep(cw->world, SIM_HOUR + SIM_MINUTE);
    run_duty(c, DUTY_GC);
    world_sleep(cw->world, hours(cw, 3, 4)); /* the held request lands in a slot that was collected */
    run_duty(d, DUTY_FOLD);
    play(d, (struct act){.fn = do_query, .name = 1});
}

/* ---- a collector that sleeps while what it looks for moves on (R6) */
static void slow_collector(struct cw *cw)
{
    struct cnode *a = cw_add_node(cw), *g = cw_add_node(cw);

    start(a);
    start(g);
    commit_rows(a, 0);
    run_duty(a, DUTY_FOLD);
    run_duty(g, DUTY_FOLD);
    commit_rows(a, 0); /* in its lane, in no head */
    g->node->pause_in = 1 + rng_below(world_rng(cw->world), 70);
    g->node->pause_us = hours(cw, 3, 4);
    struct fiber *f = begin(g, (struct act){.fn = do_duty, .duty = DUTY_GC});
    world_sleep(cw->world, SIM_SECOND);
    commit_rows(a, 1);
    run_duty(a, DUTY_FOLD);
    world_sleep(cw->world, SIM_HOUR + SIM_MINUTE);
    run_duty(a, DUTY_GC);
    await(cw, f);
    play(a, (struct act){.fn = do_query, .name = 0});
}

/* ---- a compactor that sleeps until its claim was cancelled (R8) */
static void slow_compactor(struct cw *cw)
{
    struct cnode *a = cw_add_node(cw), *b = cw_add_node(cw);

    start(a);
    for (unsigned i = 0; i < 3; i++)
        commit_rows(a, 0);
    run_duty(a, DUTY_FOLD);
    world_sleep(cw->world, hours(cw, 3, 4));
    start(b);
    a->node->pause_in = 1 + rng_below(world_rng(cw->world), 40);
    a->node->pause_us = hours(cw, 4, 5);
    struct fiber *f = begin(a, (struct act){.fn = do_duty, .duty = DUTY_COMPACT});
    world_sleep(cw->world, hours(cw, 2, 3));
    run_duty(b, DUTY_FOLD);
    commit_rows(b, 0);
    run_duty(b, DUTY_FOLD);
    if (rng_chance(world_rng(cw->world), 500)) {
        run_duty(b, DUTY_COMPACT);
    } else { /* dies between the end of that claim and one of its own: all inputs are listed still */
        b->node->crash_in = 1 + rng_below(world_rng(cw->world), 15);
        (void)begin(b, (struct act){.fn = do_duty, .duty = DUTY_COMPACT});
        world_sleep(cw->world, SIM_MINUTE);
        restart(b);
    }
    run_duty(b, DUTY_GC);
    await(cw, f);
    play(a, (struct act){.fn = do_query, .name = 0});
}

static void do_limbo(struct act *a)
{
    struct storage_report r;
    struct err err;

    check_rc(a->p, "report", catalog_report(a->p->cat, &r, NULL, &err), &err);
    WORLD_CHECK(a->p->cw->world, r.limbo.objects == 0, "liveness",
                "%" PRIu64 " objects in limbo long after a compactor died", r.limbo.objects);
}

/* ---- a compactor that dies: its claim goes as soon as it starts again, or the others count it out */
static void dying_compactor(struct cw *cw)
{
    struct cnode *a = cw_add_node(cw), *b = cw_add_node(cw);
    bool back = rng_chance(world_rng(cw->world), 500);

    start(a);
    start(b);
    for (unsigned i = 0; i < 3; i++)
        commit_rows(a, 0);
    run_duty(a, DUTY_FOLD);
    world_sleep(cw->world, hours(cw, 3, 4));
    run_duty(b, DUTY_FOLD);
    a->node->crash_in = 1 + rng_below(world_rng(cw->world), 40);
    (void)begin(a, (struct act){.fn = do_duty, .duty = DUTY_COMPACT});
    world_sleep(cw->world, SIM_MINUTE);
    node_crash(a->node, true);
    if (back)
        start(a);
    struct cnode *left = back ? a : b;
    for (unsigned i = 0; i < 6; i++) {
        run_duty(left, DUTY_FOLD);
        run_duty(left, DUTY_COMPACT);
        run_duty(left, DUTY_COMPACT);
        if (!back)
            world_sleep(cw->world, SIM_MINUTE);
    }
    play(left, (struct act){.fn = do_limbo});
    play(left, (struct act){.fn = do_query, .name = 0});
}

/* ---- a writer that sleeps until its own request became a ghost (R2) */
static void writer_of_a_ghost(struct cw *cw)
{
    struct cnode *a = cw_add_node(cw), *b = cw_add_node(cw);
    bool stall = rng_chance(world_rng(cw->world), 500);

    start(a);
    start(b);
    commit_rows(a, 0);
    play(a, (struct act){.fn = do_ingest, .name = 0});
    hold_lanes(cw, stall, 5 * SIM_HOUR);
    struct fiber *f = begin(a, (struct act){.fn = do_flush});
    world_sleep(cw->world, rng_span(world_rng(cw->world), SIM_SECOND / 10, SIM_SECOND));
    hold_nothing(cw);
    node_pause_for(a->node, hours(cw, 5, 7));
    node_crash(b->node, true);
    disk_move(a, b, bare_main);
    await(cw, b->proc->fibers[0]);
    play(b, (struct act){.fn = do_flush}); /* the same segment, from the disk */
    commit_rows(b, 1);
    commit_rows(b, 1);
    run_duty(b, DUTY_FOLD);
    world_sleep(cw->world, SIM_HOUR + SIM_MINUTE);
    run_duty(b, DUTY_GC);
    await(cw, f);
    run_duty(a, DUTY_FOLD);
    play(b, (struct act){.fn = do_query, .name = 0});
}

/* ---- who deletes falls asleep over it until others have counted it out (nodes.c, WHO WAITS) */
static void slow_deleter(struct cw *cw)
{
    struct cnode *a = cw_add_node(cw), *b = cw_add_node(cw);

    cw->fence_us = SIM_MINUTE;
    start(a);
    start(b);
    commit_rows(b, 0);
    play(a, (struct act){.fn = do_ingest, .name = 0});
    struct fiber *f = begin(b, (struct act){.fn = do_validate_often});
    a->node->pause_in = 1 + rng_below(world_rng(cw->world), 30);
    a->node->pause_us = rng_span(world_rng(cw->world), 3 * SIM_MINUTE, 15 * SIM_MINUTE);
    play(a, (struct act){.fn = do_drop, .name = 0});
    play(b, (struct act){.fn = do_look, .name = 0});
    await(cw, f);
    play(b, (struct act){.fn = do_look, .name = 0});
}

/* ---- who is cut off comes back when the one who deleted a stream has been and gone (nodes.c, WHO LOOKS) */
static void deleter_who_left(struct cw *cw)
{
    struct cnode *a = cw_add_node(cw), *b = cw_add_node(cw);

    cw->fence_us = SIM_MINUTE;
    start(b);
    commit_rows(b, 0);
    play(b, (struct act){.fn = do_validate});
    b->node->store_cut = true;
    start(a);
    play(a, (struct act){.fn = do_drop, .name = 0});
    play(b, (struct act){.fn = do_look, .name = 0});
    play(a, (struct act){.fn = do_seal});
    play(a, (struct act){.fn = do_unregister});
    node_crash(a->node, true);
    world_sleep(cw->world, rng_span(world_rng(cw->world), 1, 10 * SIM_MINUTE));
    b->node->store_cut = false;
    play(b, (struct act){.fn = do_validate});
    play(b, (struct act){.fn = do_look, .name = 0});
}

/* ---- who creates was counted out when a DELETE took place that nobody waited for */
static void creator_who_was_away(struct cw *cw)
{
    struct cnode *a = cw_add_node(cw), *b = cw_add_node(cw), *c = cw_add_node(cw);

    cw->fence_us = SIM_MINUTE;
    start(a);
    start(b);
    start(c);
    commit_rows(b, 0);
    play(a, (struct act){.fn = do_ingest, .name = 0});
    struct fiber *f = begin(b, (struct act){.fn = do_validate_often});
    world_sleep(cw->world, 5 * SIM_MINUTE);
    a->node->crash_in = 1 + rng_below(world_rng(cw->world), 20);
    (void)begin(a, (struct act){.fn = do_drop, .name = 0});
    world_sleep(cw->world, rng_span(world_rng(cw->world), SIM_SECOND, 4 * SIM_MINUTE));
    for (unsigned i = 0; i < 20; i++) {
        play(c, (struct act){.fn = do_ingest, .name = 0});
        if (bucket_name_always_live(cw->bucket, slice_str(names[0]), world_now(cw->world)))
            play(b, (struct act){.fn = do_look, .name = 0});
    }
    await(cw, f);
}

static void (*const scripts[])(struct cw *cw) = {ghost_for_a_stale_folder, slow_collector, slow_compactor,
                                                 writer_of_a_ghost,        slow_deleter,   deleter_who_left,
                                                 creator_who_was_away,     dying_compactor};

static void supervise(void *arg)
{
    struct cw *cw = arg;
    struct rng *r = world_workload(cw->world);
    unsigned at = (unsigned)rng_below(r, ARRAY_LEN(scripts));

    cw->shards = 1 + (uint32_t)rng_below(r, 2);
    cw->pace_us = SIM_SECOND;
    hold_nothing(cw);
    world_trace(cw->world, "script %u", at);
    scripts[at](cw);
    cw_finish(cw);
}

static void run(struct world *w)
{
    (void)world_run(w, world_spawn(w, NULL, "supervisor", supervise, cw_new(w)), 3000000);
}

static bool catches(unsigned k)
{
    return k == 1 || k == 6 || k == 8 || k == 10 || k == 14 || k == 29 || (k >= 31 && k <= 33);
}

const struct workload workload_script = {"script", run, catches};
