/* wal_sim.c: the write-ahead log alone, on one node whose disk tears, loses and reorders what was not synced, fails syncs and
 * fills up; the node is killed or loses power at any IO.
 *
 * The workload keeps, outside the node, what became of each record. After every start it compares the replay with that:
 *   - a record acknowledged with WAL_SYNC and not committed is replayed, once, with its bytes, where it was said to stand;
 *   - one acknowledged with WAL_WRITE too, unless the power was cut or a sync failed;
 *   - one answered with ERR_IO or ERR_UNAVAILABLE never is (wal.h I3), one never answered or ERR_UNKNOWN may be;
 *   - nothing of a committed segment is (I5); segment numbers only grow (I4); order is that of positions;
 *   - a start after nothing but crashes succeeds (a torn tail is no hole);
 *   - the header is the last one set, or the one that was being set. */
#include <inttypes.h>
#include <stdio.h>

#include "sim/sim.h"
#include "sim/sim_disk.h"
#include "wal/wal.h"

#include "base/banned.h"

#define APPENDERS 3
#define BOOTS 6
#define RECORDS_PER_APPENDER 40
#define BODY_BYTES_MAX 6000u

enum fate { FATE_OPEN, FATE_ACKED, FATE_FAILED, FATE_UNKNOWN };
struct record {
    uint64_t id;
    struct wal_pos pos;
    enum fate fate;
    enum wal_ack ack;
    bool may_be_lost; /* WAL_WRITE, and the power was cut or the disk failed since */
    bool seen;        /* in the replay that runs now */
    uint8_t *body;
    size_t len;
    struct boot *boot;
};
struct wal_world {
    struct world *world;
    struct sim_node *node;
    struct record **records;
    size_t count, cap;
    uint64_t committed;       /* what the catalog would say */
    uint64_t segment_max;     /* seen so far */
    struct wal_header header; /* set for sure */
    char lanes_tried[64][24]; /* since then, without success: any of them may be on the disk */
    unsigned tried;
    bool id_sure;
};
struct boot {
    struct wal_world *ww;
    struct os *os;
    struct wal *wal;
    struct waitq answered;
    size_t open; /* records of this boot without an answer */
    struct wal_pos last;
    bool stop;
};

static uint8_t body_byte(uint64_t id, size_t i)
{
    return (uint8_t)((id * 31 + i * 7) >> (i & 3));
}

static void lose_relaxed(struct wal_world *ww)
{
    for (size_t i = 0; i < ww->count; i++)
        if (ww->records[i]->ack == WAL_WRITE)
            ww->records[i]->may_be_lost = true;
}

/* ---- appends */
static void on_done(void *arg, enum err_code rc, const struct err *err)
{
    struct record *r = arg;
    struct world *w = r->boot->ww->world;

    (void)err;
    WORLD_CHECK(w, r->fate == FATE_OPEN, "wal", "record %" PRIu64 " answered twice", r->id);
    r->fate = rc == ERR_OK ? FATE_ACKED : rc == ERR_UNKNOWN ? FATE_UNKNOWN : FATE_FAILED;
    if (rc != ERR_OK)
        lose_relaxed(r->boot->ww);
    else if (r->ack == WAL_SYNC)
        r->boot->ww->id_sure = true;
    world_trace(w, "record %" PRIu64 " at %" PRIu64 ":%" PRIu64 " answered %s", r->id, r->pos.segment, r->pos.offset,
                err_name(rc));
    r->boot->open--;
    waitq_wake(w, &r->boot->answered, true);
}

static bool append_one(struct boot *b)
{
    struct wal_world *ww = b->ww;
    struct rng *rng = world_workload(ww->world);
    struct record *r = mem_zalloc(sizeof(*r));
    struct err err;

    r->id = ww->count + 1;
    r->boot = b;
    r->ack = rng_chance(rng, 250) ? WAL_WRITE : WAL_SYNC;
    r->len = 8 + (size_t)rng_skewed(rng, 1, BODY_BYTES_MAX);
    r->body = mem_alloc(r->len);
    le64_put(r->body, r->id);
    for (size_t i = 8; i < r->len; i++)
        r->body[i] = body_byte(r->id, i);
    *ARRAY_PUSH(ww->records, ww->count, ww->cap) = r; /* before the call: a crash inside may have written it */
    b->open++;
    size_t cut = rng_below(rng, r->len + 1);
    const struct os_iov iov[2] = {{r->body, cut}, {r->body + cut, r->len - cut}};
    enum err_code rc = wal_append(b->wal, iov, 2, r->ack, on_done, r, &r->pos, &err);
    if (rc != ERR_OK) {
        WORLD_CHECK(ww->world, rc == ERR_LIMIT || rc == ERR_UNAVAILABLE, "wal", "append: %s", err.msg);
        WORLD_CHECK(ww->world, r->fate == FATE_OPEN, "wal", "record %" PRIu64 " refused and answered", r->id);
        r->fate = FATE_FAILED;
        b->open--;
        return false;
    }
    ww->segment_max = MAX(ww->segment_max, r->pos.segment);
    return true;
}

static void appender(void *arg)
{
    struct boot *b = arg;
    struct world *w = b->ww->world;
    struct rng *r = world_workload(w);

    for (unsigned i = 0; i < RECORDS_PER_APPENDER && !b->stop; i++) {
        if (!append_one(b))
            world_sleep(w, rng_skewed(r, 1000, 10 * SIM_SECOND));
        while (b->open > 8 || (b->open && rng_chance(r, 300)))
            (void)world_block(w, &b->answered, SIM_SECOND);
    }
}

/* ---- flush: seal, wait for the answers, commit, release */
static bool segment_answered(const struct boot *b, uint64_t upto)
{
    for (size_t i = 0; i < b->ww->count; i++) {
        const struct record *r = b->ww->records[i];
        if (r->boot == b && r->fate == FATE_OPEN && r->pos.segment <= upto)
            return false;
    }
    return true;
}

static void flusher(void *arg)
{
    struct boot *b = arg;
    struct wal_world *ww = b->ww;
    struct rng *r = world_workload(ww->world);
    struct err err;

    while (!b->stop) {
        world_sleep(ww->world, rng_skewed(r, 10000, 5 * SIM_SECOND));
        uint64_t n = wal_seal(b->wal);
        if (n) {
            WORLD_CHECK(ww->world, n > ww->committed, "I4", "sealed segment %" PRIu64 ", committed are %" PRIu64, n,
                        ww->committed);
            while (!segment_answered(b, n))
                (void)world_block(ww->world, &b->answered, SIM_SECOND);
            if (rng_chance(r, 700)) {
                ww->committed = MAX(ww->committed, n);
                world_trace(ww->world, "committed %" PRIu64, n);
                wal_release(b->wal, n);
            }
        }
        if (rng_chance(r, 200)) {
            struct wal_header next = ww->header;
            (void)snprintf(next.lane, sizeof(next.lane), "n%05u", (unsigned)rng_below(r, 99999));
            memcpy(ww->lanes_tried[ww->tried++ % 64], next.lane, sizeof(next.lane));
            if (wal_set_header(b->wal, &next, &err) == ERR_OK) {
                ww->header = next;
                ww->tried = 0;
                ww->id_sure = true;
            }
        }
    }
}

/* ---- replay */
static enum err_code on_replay(void *arg, struct wal_pos pos, slice body, struct err *err)
{
    struct boot *b = arg;
    struct wal_world *ww = b->ww;
    struct world *w = ww->world;

    (void)err;
    WORLD_CHECK(w, body.len >= 8, "wal", "a record of %zu bytes at %" PRIu64 ":%" PRIu64, body.len, pos.segment,
                pos.offset);
    uint64_t id = le64_get(body.ptr);
    world_trace(w, "replay %" PRIu64 " at %" PRIu64 ":%" PRIu64, id, pos.segment, pos.offset);
    WORLD_CHECK(w, id >= 1 && id <= ww->count, "wal", "record %" PRIu64 " was never appended", id);
    struct record *r = ww->records[id - 1];
    WORLD_CHECK(w, slice_eq(body, slice_of(r->body, r->len)), "wal", "record %" PRIu64 " has other bytes", id);
    WORLD_CHECK(w, !r->seen, "I3", "record %" PRIu64 " replayed twice", id);
    WORLD_CHECK(w, r->fate != FATE_FAILED, "wal I3", "record %" PRIu64 " was answered with an error and is replayed",
                id);
    WORLD_CHECK(w, pos.segment > ww->committed, "wal I5", "record %" PRIu64 " of committed segment %" PRIu64, id,
                pos.segment);
    WORLD_CHECK(w, !r->pos.segment || (r->pos.segment == pos.segment && r->pos.offset == pos.offset), "wal",
                "record %" PRIu64 " was to stand at %" PRIu64 ":%" PRIu64 ", is at %" PRIu64 ":%" PRIu64, id,
                r->pos.segment, r->pos.offset, pos.segment, pos.offset);
    WORLD_CHECK(w, pos.segment > b->last.segment || (pos.segment == b->last.segment && pos.offset > b->last.offset),
                "wal", "positions go back at record %" PRIu64, id);
    r->seen = true;
    r->pos = pos;
    b->last = pos;
    ww->segment_max = MAX(ww->segment_max, pos.segment);
    return ERR_OK;
}

static void check_replay(struct wal_world *ww)
{
    for (size_t i = 0; i < ww->count; i++) {
        struct record *r = ww->records[i];
        bool due = r->fate == FATE_ACKED && r->pos.segment > ww->committed && !r->may_be_lost;
        WORLD_CHECK(ww->world, !due || r->seen, "I4",
                    "record %" PRIu64 " at %" PRIu64 ":%" PRIu64 " was acknowledged and is lost", r->id, r->pos.segment,
                    r->pos.offset);
        if (!r->seen && r->fate != FATE_ACKED)
            r->fate = FATE_FAILED; /* cut: it may not come back later */
    }
}

static void check_header(struct wal_world *ww, const struct wal_header *h)
{
    bool known = !strcmp(h->lane, ww->header.lane);

    for (unsigned i = 0; i < MIN(ww->tried, 64u); i++)
        known = known || !strcmp(h->lane, ww->lanes_tried[i]);
    WORLD_CHECK(ww->world, known, "wal", "header names lane '%s', was set to '%s'", h->lane, ww->header.lane);
    /* An id that was read from the page cache only may go with the power as long as nothing was acknowledged under it. */
    WORLD_CHECK(ww->world, !ww->id_sure || !strcmp(h->wal_id, ww->header.wal_id), "wal", "the WAL's id changed");
    memcpy(ww->header.wal_id, h->wal_id, sizeof(h->wal_id));
}

static bool start(struct boot *b)
{
    struct wal_world *ww = b->ww;
    const struct wal_options opt = {.segment_bytes = 32 << 10,
                                    .queue_bytes_max = 64 << 10,
                                    .disk_bytes_max = 512 << 10,
                                    .disk_free_bytes_min = 64 << 10};
    const struct sim_disk_faults *f = sim_disk_faults(ww->node->disk);
    bool faulty = f->sync_fails || f->write_fails || f->bytes_max;
    struct err err;
    uint64_t cut = 0;

    for (size_t i = 0; i < ww->count; i++)
        ww->records[i]->seen = false; /* a crash may have ended the last replay half way */
    enum err_code rc = wal_open(b->os, "wal", &opt, &b->wal, &err);
    if (rc == ERR_OK) {
        check_header(ww, wal_header(b->wal));
        rc = wal_start(b->wal, ww->committed, on_replay, b, &cut, &err);
    }
    if (rc != ERR_OK) {
        WORLD_CHECK(ww->world, faulty && rc != ERR_CORRUPT, "wal", "start: %s", err.msg);
        world_trace(ww->world, "start: %s", err.msg);
        wal_close(b->wal);
        return false;
    }
    check_replay(ww);
    return true;
}

/* wal.h I6: nobody else gets in while it is open. */
static void check_lock(struct boot *b)
{
    struct wal *second = NULL;
    struct err err;
    const struct wal_options opt = {.segment_bytes = 32 << 10};

    enum err_code rc = wal_open(b->os, "wal", &opt, &second, &err);
    WORLD_CHECK(b->ww->world, rc != ERR_OK, "wal I6", "the WAL was opened twice");
}

static void node_main(void *arg)
{
    struct boot *b = arg;
    struct wal_world *ww = b->ww;
    struct rng *r = world_workload(ww->world);
    struct os_thread *threads[APPENDERS + 1];

    b->os = sim_os_new(ww->node);
    if (!start(b)) {
        world_trace(ww->world, "not started");
        return;
    }
    if (rng_chance(r, 100))
        check_lock(b);
    for (unsigned i = 0; i < APPENDERS; i++)
        threads[i] = b->os->ops->thread_new(b->os, "append", appender, b);
    threads[APPENDERS] = b->os->ops->thread_new(b->os, "flush", flusher, b);
    for (unsigned i = 0; i < APPENDERS; i++)
        b->os->ops->thread_join(b->os, threads[i]);
    b->stop = true;
    b->os->ops->thread_join(b->os, threads[APPENDERS]);
    wal_close(b->wal);
    WORLD_CHECK(ww->world, !b->open, "wal", "%zu records have no answer after the close", b->open);
}

/* The last boot: no faults. Everything must be there, and the log must take records. */
static void last_main(void *arg)
{
    struct boot *b = arg;

    b->os = sim_os_new(b->ww->node);
    if (!start(b))
        world_fail(b->ww->world, "wal", "no start on a healthy disk");
    for (unsigned i = 0; i < 3; i++)
        WORLD_CHECK(b->ww->world, append_one(b), "wal", "a healthy log refuses a record");
    while (b->open)
        (void)world_block(b->ww->world, &b->answered, SIM_SECOND);
    for (size_t i = b->ww->count - 3; i < b->ww->count; i++)
        WORLD_CHECK(b->ww->world, b->ww->records[i]->fate == FATE_ACKED, "wal", "a healthy log fails a record");
    wal_close(b->wal);
}

static void after_crash(struct sim_node *n, bool kill)
{
    struct wal_world *ww = n->user;

    if (!kill)
        lose_relaxed(ww);
}

static void set_faults(struct wal_world *ww, struct rng *r)
{
    struct sim_disk_faults *f = sim_disk_faults(ww->node->disk);

    *f = (struct sim_disk_faults){.slow_sync = 5};
    if (rng_chance(r, 300))
        f->sync_fails = (unsigned)rng_below(r, 60);
    if (rng_chance(r, 200))
        f->write_fails = (unsigned)rng_below(r, 30);
    if (rng_chance(r, 150))
        f->bytes_max = 131072ull << rng_below(r, 4);
}

static void boot(struct wal_world *ww, void (*fn)(void *arg), uint64_t crash_in)
{
    struct world *w = ww->world;
    struct boot *b = mem_zalloc(sizeof(*b));

    b->ww = ww;
    node_up(ww->node);
    ww->node->crash_in = crash_in;
    ww->node->crash_kill = rng_chance(world_rng(w), 400);
    struct fiber *f = world_spawn(w, ww->node, "main", fn, b);
    for (int64_t limit = world_now(w) + SIM_HOUR; !fiber_over(f) && world_now(w) < limit;)
        world_sleep(w, SIM_SECOND);
    WORLD_CHECK(w, fiber_over(f) || fn != last_main, "wal", "a healthy log hangs");
    if (ww->node->up)
        node_crash(ww->node, ww->node->crash_kill);
}

static void supervise(void *arg)
{
    struct wal_world *ww = arg;
    struct rng *r = world_rng(ww->world);

    for (unsigned i = 0; i < BOOTS; i++) {
        set_faults(ww, r);
        boot(ww, node_main, rng_chance(r, 850) ? 1 + rng_below(r, 800) : 0);
    }
    *sim_disk_faults(ww->node->disk) = (struct sim_disk_faults){0};
    boot(ww, last_main, 0);
    boot(ww, last_main, 0);
}

static void run(struct world *w)
{
    struct wal_world *ww = mem_zalloc(sizeof(*ww));

    ww->world = w;
    ww->node = world_node(w);
    ww->node->user = ww;
    ww->node->on_crash = after_crash;
    (void)world_run(w, world_spawn(w, NULL, "supervisor", supervise, ww), 2000000);
}

const struct workload workload_wal = {"wal", run, NULL};
