/* disk_sim.c: the simulator against itself: a file model whose promise is only os.h I1, checked after power cuts; and a
 * counter of numbered objects in the store, which several nodes race for, checked against exclusive create. If this fails,
 * no finding of the other workloads is worth anything. */
#include <stdio.h>

#include "sim/sim.h"
#include "sim/sim_disk.h"
#include "sim/sim_store.h"

#include "base/banned.h"

#define FILE_BYTES 4096u
#define ROUNDS 12

struct machine {
    struct sim_node *node;
    struct sim_store *shared;
    uint8_t synced[FILE_BYTES];  /* what a sync covered */
    uint8_t written[FILE_BYTES]; /* what was written last, per byte */
    bool touched[FILE_BYTES];    /* written since the last sync */
    bool named;                  /* a sync_dir covered the file's name */
    bool killed;                 /* the last crash was no power cut */
    unsigned won;
};

static void scribble(struct machine *m, struct os *os, struct os_file *f, struct err *err)
{
    struct world *w = m->node->world;
    struct rng *r = world_workload(w);
    uint8_t bytes[1500];
    size_t len = 1 + rng_below(r, sizeof(bytes)), at = rng_below(r, FILE_BYTES - len + 1);

    memset(bytes, (int)(1 + rng_below(r, 255)), len);
    for (size_t i = 0; i < len; i++) /* before the call: a crash inside may keep it */
        m->touched[at + i] = true;
    memcpy(m->written + at, bytes, len);
    const struct os_iov iov = {bytes, len};
    if (os->ops->pwritev(os, f, &iov, 1, at, err) == ERR_OK && rng_chance(r, 400) &&
        os->ops->sync(os, f, err) == ERR_OK) {
        memcpy(m->synced, m->written, FILE_BYTES);
        memset(m->touched, 0, sizeof(m->touched));
    }
}

static void check_file(struct machine *m, struct os *os)
{
    struct world *w = m->node->world;
    struct os_file *f = NULL;
    struct err err;
    uint8_t bytes[FILE_BYTES];
    size_t got = 0;

    enum err_code rc = os->ops->open(os, "dir/file", OS_READ | OS_WRITE, &f, &err);
    WORLD_CHECK(w, rc == ERR_OK || !m->named, "disk", "a synced name is lost");
    memset(bytes, 0, sizeof(bytes));
    if (rc == ERR_OK)
        rc = os->ops->pread(os, f, bytes, sizeof(bytes), 0, &got, &err);
    for (size_t i = 0; rc == ERR_OK && i < FILE_BYTES; i++)
        WORLD_CHECK(w, m->touched[i] || bytes[i] == m->synced[i], "disk", "synced byte %zu is lost", i);
    os->ops->close(os, f);
    m->named = rc == ERR_OK && m->named;
    memcpy(m->written, bytes, FILE_BYTES);
    if (m->killed) /* the page cache is still there, and still not on the platter */
        return;
    memcpy(m->synced, bytes, FILE_BYTES);
    memset(m->touched, 0, sizeof(m->touched));
}

static void take_numbers(struct machine *m, struct store *store)
{
    struct err err;
    char key[40];

    for (unsigned n = 0; n < 20; n++) {
        (void)snprintf(key, sizeof(key), "numbers/%08u", n);
        if (store->ops->create(store, slice_str(key), slice_lit("mine"), &err) == ERR_OK)
            m->won++;
    }
}

static void machine_main(void *arg)
{
    struct machine *m = arg;
    struct os *os = sim_os_new(m->node);
    struct store *store = sim_store_client(m->shared, m->node);
    struct os_file *f = NULL;
    struct err err;

    if (m->node->boots > 1)
        check_file(m, os);
    (void)os->ops->mkdir(os, "dir", &err);
    if (os->ops->sync_dir(os, "/", &err) != ERR_OK ||
        os->ops->open(os, "dir/file", OS_READ | OS_WRITE | OS_CREATE, &f, &err) != ERR_OK)
        return;
    if (!m->named) {
        memset(m->synced, 0, sizeof(m->synced));
        memset(m->touched, true, sizeof(m->touched)); /* an older file of that name may come back with the next crash */
    }
    if (os->ops->sync_dir(os, "dir", &err) == ERR_OK)
        m->named = true;
    take_numbers(m, store);
    for (unsigned i = 0; i < 30; i++)
        scribble(m, os, f, &err);
    os->ops->close(os, f);
}

static void supervise(void *arg)
{
    struct machine *machines = arg;
    struct world *w = machines[0].node->world;
    struct rng *r = world_rng(w);

    for (unsigned round = 0; round < ROUNDS; round++) {
        struct machine *m = &machines[rng_below(r, 2)];
        node_up(m->node);
        m->node->crash_in = rng_below(r, 150);
        m->node->crash_kill = rng_chance(r, 300);
        struct fiber *f = world_spawn(w, m->node, "main", machine_main, m);
        while (!fiber_over(f))
            world_sleep(w, SIM_SECOND);
        if (m->node->up)
            node_crash(m->node, m->node->crash_kill);
        m->killed = m->node->crash_kill;
    }
    WORLD_CHECK(w, machines[0].won + machines[1].won <= sim_store_count(machines[0].shared), "store",
                "two nodes created one key");
}

static void run(struct world *w)
{
    struct machine *machines = mem_zalloc(2 * sizeof(*machines));
    struct sim_store *shared = sim_store_new(w);

    *sim_store_faults(shared) = (struct sim_store_faults){.lost = 50,
                                                          .held = 50,
                                                          .stalled = 50,
                                                          .doubled = 50,
                                                          .in_flight = 100,
                                                          .refused = 50,
                                                          .hold_us_max = SIM_HOUR,
                                                          .page_max = 10};
    for (unsigned i = 0; i < 2; i++)
        machines[i] = (struct machine){.node = world_node(w), .shared = shared};
    (void)world_run(w, world_spawn(w, NULL, "supervisor", supervise, machines), 1000000);
}

const struct workload workload_disk = {"disk", run, NULL};
