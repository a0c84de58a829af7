/* world.h: one simulated cluster from one seed: fibers, virtual time, nodes that crash, pause and lose their clock.
 *
 * Everything runs in one thread. A fiber runs until it waits (lock, sleep, IO); the scheduler then picks the next runnable one
 * by the seed, and only when nobody can run does time jump to the next timer. The same seed gives the same run, instruction
 * for instruction: nothing in here reads a clock, an address or a global that outlives the world.
 * A violated invariant calls world_fail(), which ends the run. A node that crashes loses its fibers where they stand (no
 * clean-up runs: that is the point) and its memory, which stays in the world's pool; its disk decides what survives.
 * THREADS  one. */
#pragma once
#include "base/err.h"
#include "base/mem.h"
#include "os/os.h"
#include "sim/fiber.h"

#define SIM_SECOND 1000000ll
#define SIM_MINUTE (60 * SIM_SECOND)
#define SIM_HOUR (60 * SIM_MINUTE)
#define SIM_DAY (24 * SIM_HOUR)
#define SIM_EPOCH_US 1767225600000000ll /* 2026-01-01: the true time when a world begins */

struct rng {
    uint64_t s;
};
uint64_t rng_next(struct rng *r);
uint64_t rng_below(struct rng *r, uint64_t n);             /* 0 .. n-1; 0 for n 0 */
int64_t rng_span(struct rng *r, int64_t from, int64_t to); /* from .. to */
bool rng_chance(struct rng *r, unsigned permille);
int64_t rng_skewed(struct rng *r, int64_t from, int64_t to); /* each power of two between is as likely as the next */

struct world;
struct fiber;
struct sim_disk;
struct sim_node {
    struct world *world;
    unsigned id;
    bool up, paused;
    bool store_cut;          /* partitioned from the store */
    unsigned boots;          /* how often it was started */
    int64_t clock_offset_us; /* its wall clock against the truth */
    int64_t boot_us;         /* when it was started: zero of its monotonic clock */
    uint64_t crash_in;       /* IOs until it crashes by itself; 0: never */
    bool crash_kill;         /* and that crash is a kill -9: what was written stays written */
    uint64_t pause_in;       /* IOs until it pauses by itself; 0: never */
    int64_t pause_us;        /* and for how long */
    struct sim_disk *disk;
    void *user;                                      /* the workload's */
    void (*on_crash)(struct sim_node *n, bool kill); /* told after the disk; must not wait */
    struct fiber **parked;                           /* runnable, but the node is paused */
    size_t parked_count, parked_cap;
};
struct waitq { /* fibers waiting for one thing */
    struct fiber **items;
    size_t count, cap;
};

struct world *world_new(uint64_t seed, bool trace);
uint64_t world_seed(const struct world *w);
void world_free(struct world *w);
struct rng *world_rng(struct world *w); /* schedule and faults */
struct rng *world_workload(
    struct world *w);                     /* what the workload does: another stream, so that faults can be turned off */
int64_t world_now(const struct world *w); /* the truth, microseconds since 1970 */
uint64_t world_hash(const struct world *w); /* of everything that happened */
uint64_t world_steps(const struct world *w);
void world_mix(struct world *w, uint64_t v); /* counts into the hash */
bool world_tracing(const struct world *w);
void world_trace(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
struct world *world_current(void);

struct sim_node *world_node(struct world *w); /* a new node with an empty disk, down */
void node_up(struct sim_node *n);
/* Power cut, or kill -9 if `kill`. Does not return if the caller runs on this node. */
void node_crash(struct sim_node *n, bool kill);
void node_pause(struct sim_node *n); /* a caller on this node waits there until it is resumed */
void node_pause_for(struct sim_node *n, int64_t us);
void node_resume(struct sim_node *n);

struct fiber *world_spawn(struct world *w, struct sim_node *n, const char *name, void (*fn)(void *arg), void *arg);
bool fiber_over(const struct fiber *f);       /* returned or crashed */
struct sim_node *world_here(struct world *w); /* node of the running fiber, or NULL */
void world_yield(struct world *w);
void world_sleep(struct world *w, int64_t us);
bool world_block(struct world *w, struct waitq *q, int64_t wait_us); /* negative: no limit; false: time is over */
void waitq_wake(struct world *w, struct waitq *q, bool all);
void world_at(struct world *w, int64_t at_us, void (*fn)(void *arg), void *arg); /* an event on no node */
/* One IO of node n begins or ends here: it may wait, or be the moment of a crash. */
void world_io(struct world *w, struct sim_node *n);

/* Runs until fiber `until` is over. False: an invariant is violated (or nobody can run, or no end is in sight). */
bool world_run(struct world *w, struct fiber *until, uint64_t steps_max);
/* Ends the run. Does not return when called from a fiber. */
void world_fail(struct world *w, const char *invariant, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
const char *world_failed(const struct world *w, const char **text); /* invariant, or NULL */
#define WORLD_CHECK(w, cond, invariant, ...) ((cond) ? (void)0 : world_fail(w, invariant, __VA_ARGS__))
