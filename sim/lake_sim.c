/* lake_sim.c: the whole lake (decode, WAL, stage, flush, catalog) as one node runs it, from its start to its end and again, over a disk that
 * tears and loses what was not synced, and a store that loses, holds and doubles requests; or with store/local.c on that same disk. Clients
 * ingest into streams that others delete and make again; a row is its id, so that what a reader sees is compared with what was
 * acknowledged:
 *   I10  a snapshot shows each acknowledged row of its incarnation exactly once, files and stage together, at any moment
 *        and first of all after a start; a row that was seen stays seen
 *   -    the rows of a request that was not acknowledged are all there or none, and none if it was refused; what a start did not bring
 *        back never comes
 *   -    a deleted incarnation is never shown or written again; a stream without a delete does not vanish
 *   I4   at rest every acknowledged row of a live stream is in its head, once; bucket.c has the rest at each step
 * Which incarnation a request belongs to is told by its WAL record (record_encode, wrapped by the linker). */
#include "sim/lake_sim.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "sim/sim_disk.h"
#include "stage/lake_int.h"

#include "base/banned.h"

#define ROWS_OF_REQUEST_MAX 4
#define NEVER UINT64_MAX
#define CLIENTS 2
#define FOLD 4u /* of duty(): the last */

enum request_fate { REQUEST_OPEN, REQUEST_ACKED, REQUEST_REFUSED, REQUEST_UNKNOWN, REQUEST_GONE };
struct request {
    struct lake_proc *proc;
    struct sim_disk *disk;
    unsigned name, count;
    uint64_t first; /* row ids: first .. first + count - 1 */
    enum lake_ack ack;
    enum request_fate fate;
    uint64_t called, bound, answered; /* lake_world.clock */
    int64_t called_us;
    uint64_t seen_at; /* a snapshot that ended here showed it; 0: none */
    bool stale;       /* accepted by a node that did not know whether the stream was deleted elsewhere */
    bool may_be_lost; /* ACK_RELAXED, and the power was cut or the disk failed since */
    char sid[27];
    unsigned mask; /* rows seen in set `set` */
    uint64_t set;
};
struct drop_op {
    unsigned name;
    uint64_t called, returned; /* NEVER: it may have happened, or may still */
};
struct gone { /* an incarnation that a drop is known to have ended */
    char sid[27];
    uint64_t at;
    const struct lake_proc *by;
};

static const char *const stream_names[LAKE_NAMES] = {"app", "Web", "db"};

static bool attached(const struct lake_proc *p)
{
    return p->disk->attached == p->attached;
}

static bool over(const struct lake_proc *p)
{
    return p->stop;
}

/* Was it taken by a node that did not know whether the stream was there still, and somebody may have deleted it, on another node or with a
 * request that nobody knows the end of? It goes to whom the name means later, or is dropped. */
static bool may_move(const struct lake_world *lw, const struct request *r)
{
    if (!r->stale || lw->pair || lw->moves)
        return r->stale;
    for (size_t i = 0; i < lw->drops_count; i++)
        if (lw->drops[i].name == r->name && lw->drops[i].returned > r->called)
            return true;
    return false;
}

static void expect(struct lake_proc *p, const char *what, enum err_code rc, const struct err *err)
{
    struct world *w = p->lw->world;

    if (rc == ERR_OK)
        return;
    world_trace(w, "%s: %s: %s", what, err_name(rc), err->msg);
    WORLD_CHECK(w, rc != ERR_CORRUPT, "corrupt", "%s: %s", what, err->msg);
    WORLD_CHECK(w, !p->lw->quiet, "liveness", "%s: %s: %s", what, err_name(rc), err->msg);
}

static void pace(struct lake_proc *p, int64_t factor)
{
    world_sleep(p->lw->world, rng_skewed(world_workload(p->lw->world), p->lw->pace_us / 16, p->lw->pace_us * factor));
}

/* ---- what a snapshot may show */

static bool is_dead_for(const struct lake_proc *p, const char *sid, uint64_t before)
{
    for (size_t i = 0; i < p->lw->gone_count; i++) {
        const struct gone *g = &p->lw->gone[i];
        if (!strcmp(g->sid, sid) && g->at < before && (g->by == p || p->started > g->at))
            return true;
    }
    return false;
}

/* Would a drop explain that the request is gone at `until`? One that had returned before does where the node could not know of it and found
 * nobody of that name later (catalog.md section 7: DEAD and not fresh, no heir). */
static bool may_be_dropped(const struct lake_world *lw, const struct request *r, uint64_t until)
{
    bool no_heir = lw->bucket && may_move(lw, r) &&
                   !bucket_name_always_live(lw->bucket, slice_str(stream_names[r->name]), r->called_us);

    for (size_t i = 0; i < lw->drops_count; i++)
        if (lw->drops[i].name == r->name && lw->drops[i].called < until &&
            (lw->drops[i].returned > r->called || (lw->drops[i].returned && no_heir)))
            return true;
    return false;
}

static bool expired(const struct lake_world *lw, const struct request *r)
{
    return lw->bucket && bucket_row_expired(lw->bucket, r->first);
}

/* Must a snapshot of process p that began at t0 show it? Who has a copy of the disk learns of the other's rows when they are committed. */
static bool is_due(const struct lake_proc *p, const struct request *r, uint64_t t0)
{
    if (r->may_be_lost || expired(p->lw, r))
        return false;
    if (p->lw->cloned && !p->lw->last && r->proc != p)
        return false;
    if (!p->lw->last &&
        (may_move(p->lw, r) || (p->lw->pair && r->disk != p->disk))) /* when it is committed, and we look */
        return false;
    return (r->fate == REQUEST_ACKED && r->answered < t0) ||
           (r->seen_at && r->seen_at < t0 && (r->ack != ACK_RELAXED || r->proc == p));
}

static void row_seen(struct lake_proc *p, uint64_t id, const char *sid, const char *where)
{
    struct lake_world *lw = p->lw;
    struct request *r = id < lw->rows_count ? lw->by_row[id] : NULL;

    WORLD_CHECK(lw->world, r, "I10", "%s shows row %" PRIu64 ", which nobody wrote", where, id);
    if (!r)
        return;
    if (r->set != lw->sets) {
        r->set = lw->sets;
        r->mask = 0;
    }
    unsigned bit = 1u << (id - r->first);
    /* What two copies of a disk have in common one of them commits; the other one may find out later. */
    WORLD_CHECK(lw->world, !(r->mask & bit) || (lw->cloned && !lw->last && r->proc != p), "I10",
                "%s shows row %" PRIu64 " twice", where, id);
    if (may_move(lw, r) && strcmp(r->sid, sid) != 0) { /* from now on it is the heir's */
        memcpy(r->sid, sid, sizeof(r->sid));
        r->bound = ++lw->clock;
    }
    WORLD_CHECK(lw->world, !strcmp(r->sid, sid), "I10", "%s %s shows row %" PRIu64 " of %s", where, sid, id, r->sid);
    r->mask |= bit;
}

/* All rows of one incarnation were given to row_seen(). */
static void check_rows(struct lake_proc *p, const char *sid, uint64_t t0, const char *where)
{
    struct lake_world *lw = p->lw;
    uint64_t now = ++lw->clock;

    for (size_t i = 0; i < lw->requests_count; i++) {
        struct request *r = lw->requests[i];
        if (strcmp(r->sid, sid) != 0)
            continue;
        unsigned mask = r->set == lw->sets ? r->mask : 0, all = (1u << r->count) - 1;
        WORLD_CHECK(lw->world, mask == 0 || mask == all || expired(lw, r), "I10",
                    "%s shows rows %x of %x of request %" PRIu64, where, mask, all, r->first);
        WORLD_CHECK(lw->world, mask || !is_due(p, r, t0), "I10", "%s of %s does not show row %" PRIu64 ", which was %s",
                    where, sid, r->first, r->fate == REQUEST_ACKED ? "acknowledged" : "seen before");
        WORLD_CHECK(lw->world, !mask || (r->fate != REQUEST_REFUSED && r->fate != REQUEST_GONE), "I10",
                    "%s shows row %" PRIu64 ", which was %s", where, r->first,
                    r->fate == REQUEST_REFUSED ? "refused" : "not there after a start");
        if (mask && !r->seen_at)
            r->seen_at = now;
    }
}

/* The name resolves to another incarnation, or none: nothing that was acknowledged before may be missing without a drop. */
static void check_lost_streams(struct lake_proc *p, unsigned name, const char *sid, uint64_t t0, uint64_t t1)
{
    struct lake_world *lw = p->lw;

    for (size_t i = 0; i < lw->requests_count; i++) {
        const struct request *r = lw->requests[i];
        if (r->name != name || !r->sid[0] || !strcmp(r->sid, sid) || !is_due(p, r, t0))
            continue;
        WORLD_CHECK(lw->world, may_be_dropped(lw, r, t1), "I10", "%s is %s, and nobody dropped %s with row %" PRIu64,
                    stream_names[name], sid[0] ? sid : "gone", r->sid, r->first);
    }
}

static slice file_bytes(struct lake_proc *p, slice key)
{
    if (p->lw->store) {
        const struct sim_object *o = sim_store_find(p->lw->store, key);
        return o ? o->bytes : (slice){0};
    }
    _cleanup_(freep) char *path = mem_fmt("store/" SLICE_FMT, SLICE_ARG(key));
    const struct sim_inode *f = disk_find(p->disk, path);
    return f ? slice_of(f->seen.ptr, f->seen.len) : (slice){0};
}

static bool files_seen(struct lake_proc *p, struct stream_version *v, const char *sid, const char *where)
{
    struct world *w = p->lw->world;
    struct plan plan;
    struct err err;

    enum err_code rc = stream_version_plan(v, INT64_MIN, INT64_MAX, NULL, 0, &plan, &err);
    if (rc != ERR_NOT_FOUND) /* a manifest of a version that was collected meanwhile */
        expect(p, "plan", rc, &err);
    bool ok = rc == ERR_OK;
    for (size_t i = 0; ok && i < plan.count; i++) {
        struct sim_row *rows;
        size_t n;
        slice bytes = file_bytes(p, plan.files[i].key);
        if (!bytes
                 .len) { /* superseded for longer than versions are kept, while this node slept; or deleted with its stream */
            WORLD_CHECK(w, !p->lw->bucket || !bucket_version_retained(p->lw->bucket, v), "I6",
                        "%s names " SLICE_FMT ", which is not there", where, SLICE_ARG(plan.files[i].key));
            ok = false;
            break;
        }
        WORLD_CHECK(w, rows_decode(bytes, &rows, &n), "I9", SLICE_FMT " is no file of rows",
                    SLICE_ARG(plan.files[i].key));
        for (size_t k = 0; k < n; k++)
            row_seen(p, rows[k].id, sid, where);
        free(rows);
    }
    plan_done(&plan);
    return ok;
}

/* What a query would read now. */
static void check_stream(struct lake_proc *p, unsigned name)
{
    struct lake_world *lw = p->lw;
    struct lake_snapshot snap = {0};
    struct err err;
    char sid[27] = "", where[60];
    uint64_t t0 = ++lw->clock;

    enum err_code rc = lake_snapshot(p->lake, slice_str(stream_names[name]), &snap, &err);
    if (!attached(p))
        return; /* its disk is another's: what it shows is old */
    uint64_t t1 = ++lw->clock;
    if (rc != ERR_OK && rc != ERR_NOT_FOUND) {
        expect(p, "snapshot", rc, &err);
        return;
    }
    if (rc == ERR_OK)
        memcpy(sid, stream_version_sid(snap.version)->text, sizeof(sid));
    (void)snprintf(where, sizeof(where), "a snapshot of %s on node%u", stream_names[name], p->n->node->id);
    check_lost_streams(p, name, sid, t0, t1);
    if (rc != ERR_OK)
        return;
    WORLD_CHECK(lw->world, !is_dead_for(p, sid, t0), "I2", "%s shows %s, which was deleted", where, sid);
    lw->sets++;
    for (size_t i = 0; i < snap.parts_count; i++) {
        uint64_t *ids = lake_view_ids(snap.schema, &snap.parts[i]);
        for (uint32_t row = 0; row < snap.parts[i].rows; row++)
            row_seen(p, ids[row], sid, where);
        free(ids);
    }
    uint64_t set = lw->sets;
    if (files_seen(p, snap.version, sid, where) && set == lw->sets)
        check_rows(p, sid, t0, where);
    lake_snapshot_done(&snap);
}

/* ---- ingest */

void __wrap_record_encode(const struct record *r, struct buf *head);
void __real_record_encode(const struct record *r, struct buf *head);
void __wrap_record_encode(const struct record *r, struct buf *head)
{
    struct world *w = world_current();
    struct lake_world *lw = lake_proc_here(w)->lw;
    slice at = slice_lit("[{\"id\":"), digits = slice_from(r->body, at.len);
    uint64_t id = 0;

    __real_record_encode(r, head);
    if (!slice_starts(r->body, at))
        return; /* an event of the lake's own */
    for (; digits.len && *digits.ptr >= '0' && *digits.ptr <= '9'; digits = slice_from(digits, 1))
        id = id * 10 + (uint64_t)(*digits.ptr - '0');
    struct request *q = lw->by_row[id];
    memcpy(q->sid, r->sid.text, sizeof(q->sid));
    q->bound = ++lw->clock;
    q->stale = r->stale;
    WORLD_CHECK(w, !is_dead_for(q->proc, q->sid, q->called), "I2", "row %" PRIu64 " goes to %s, which was deleted", id,
                q->sid);
}

static void on_done(void *arg, enum err_code rc, const struct lake_ingested *result, const struct err *err)
{
    struct request *r = arg;
    struct world *w = r->proc->lw->world;

    if (r->fate == REQUEST_GONE) /* by one who lost its disk to another */
        WORLD_CHECK(w, rc != ERR_OK, "I10", "request %" PRIu64 " is acknowledged, who has the disk did not find it",
                    r->first);
    else
        WORLD_CHECK(w, r->fate == REQUEST_OPEN, "lake", "request %" PRIu64 " is answered twice", r->first);
    r->answered = ++r->proc->lw->clock;
    if (r->fate == REQUEST_OPEN)
        r->fate = rc == ERR_OK                                                      ? REQUEST_ACKED
                  : rc == ERR_UNKNOWN || r->ack == ACK_OBJECT || !attached(r->proc) ? REQUEST_UNKNOWN
                                                                                    : REQUEST_REFUSED;
    const struct sim_disk_faults *f = sim_disk_faults(r->disk);
    r->may_be_lost |= r->ack == ACK_RELAXED && (f->sync_fails || f->write_fails || f->bytes_max);
    world_trace(w, "request %" PRIu64 " of %u: %s%s%s", r->first, r->count, err_name(rc), rc ? ": " : "",
                rc ? err->msg : "");
    WORLD_CHECK(w, rc != ERR_OK || result->rows == r->count, "lake", "request %" PRIu64 " of %u rows has %" PRIu64,
                r->first, r->count, result->rows);
    r->proc->open--;
    waitq_wake(w, &r->proc->answers, true);
}

static char *request_body(struct lake_world *lw, const struct request *r)
{
    static const char *const more[] = {"", ",\"host\":\"a\"", ",\"Host\":1", ",\"host\":2",
                                       ",\"msg\":\"xyz xyz xyz\",\"ok\":true"};
    struct rng *rng = world_workload(lw->world);
    struct buf b = BUF_INIT;

    for (unsigned i = 0; i < r->count; i++)
        buf_fmt(&b, "%s{\"id\":%" PRIu64 ",\"part\":\"p%u\"%s}", i ? "," : "[", r->first + i,
                (unsigned)rng_below(rng, 2), more[rng_below(rng, ARRAY_LEN(more))]);
    buf_byte(&b, ']');
    (void)buf_cstr(&b);
    return (char *)b.ptr; /* lives as long as the world: nobody knows when a crashed node is done with it */
}

static void ingest(struct lake_proc *p, unsigned name)
{
    struct lake_world *lw = p->lw;
    struct rng *rng = world_workload(lw->world);
    struct request *r = mem_zalloc(sizeof(*r));
    struct err err = {0};
    unsigned dice = (unsigned)rng_below(rng, 1000);

    *r = (struct request){
        .proc = p, .disk = p->disk, .name = name, .count = 1 + (unsigned)rng_below(rng, ROWS_OF_REQUEST_MAX)};
    r->ack = dice < 750 ? ACK_WAL : dice < 900 ? ACK_RELAXED : ACK_OBJECT;
    if (!lw->rows_count)
        *ARRAY_PUSH(lw->by_row, lw->rows_count, lw->rows_cap) = NULL; /* id 0 says that there is none */
    r->first = lw->rows_count;
    for (unsigned i = 0; i < r->count; i++)
        *ARRAY_PUSH(lw->by_row, lw->rows_count, lw->rows_cap) = r;
    *ARRAY_PUSH(lw->requests, lw->requests_count, lw->requests_cap) = r;
    r->called = ++lw->clock;
    r->called_us = world_now(lw->world);
    const struct lake_ingest req = {.stream = slice_str(stream_names[name]),
                                    .create = rng_chance(rng, 900),
                                    .body = slice_str(request_body(lw, r)),
                                    .ack = r->ack,
                                    .wait_us_max = rng_chance(rng, 300) ? lw->pace_us : 0};
    p->open++;
    enum err_code rc = lake_ingest(p->lake, &req, on_done, r, &err);
    if (rc == ERR_OK)
        return;
    WORLD_CHECK(lw->world, r->fate == REQUEST_OPEN || r->fate == REQUEST_GONE, "lake",
                "request %" PRIu64 " is refused and answered", r->first);
    r->fate = REQUEST_REFUSED;
    r->answered = ++lw->clock;
    p->open--;
    if (rc != ERR_NOT_FOUND || req.create)
        expect(p, "ingest", rc, &err);
}

/* ---- streams */

static void drop(struct lake_proc *p, unsigned name)
{
    struct lake_world *lw = p->lw;
    size_t at = lw->drops_count;
    struct err err;
    uint64_t called = ++lw->clock;

    *ARRAY_PUSH(lw->drops, lw->drops_count, lw->drops_cap) = (struct drop_op){name, called, NEVER};
    enum err_code rc = lake_drop(p->lake, slice_str(stream_names[name]), &err);
    world_trace(lw->world, "drop %s: %s", stream_names[name], err_name(rc));
    if (rc != ERR_OK && rc != ERR_NOT_FOUND) {
        expect(p, "drop", rc, &err);
        return;
    }
    if (!attached(p))
        return; /* who has the disk now learns of it some time later, and takes rows until then */
    uint64_t now = ++lw->clock;
    if (rc == ERR_NOT_FOUND) {
        lw->drops[at].returned = 0; /* no effect; what it did not find was gone before */
        return;
    }
    lw->drops[at].returned = now;
    for (size_t i = 0; i < lw->requests_count; i++) {
        const struct request *r = lw->requests[i];
        if (r->name != name || !r->sid[0] || r->bound > called || is_dead_for(p, r->sid, NEVER))
            continue;
        struct gone *g = ARRAY_PUSH(lw->gone, lw->gone_count, lw->gone_cap);
        *g = (struct gone){.at = now, .by = p};
        memcpy(g->sid, r->sid, sizeof(g->sid));
    }
}

static void create(struct lake_proc *p, unsigned name)
{
    struct rng *rng = world_workload(p->lw->world);
    const struct stream_config config = {.custom_partition = rng_chance(rng, 300) ? slice_lit("part") : (slice){0},
                                         .telemetry_type = slice_lit("logs")};
    struct err err;

    enum err_code rc = lake_create(p->lake, slice_str(stream_names[name]), &config, NULL, &err);
    if (rc != ERR_CONFLICT)
        expect(p, "create", rc, &err);
}

static void take_settings(void *arg, struct stream_config *config)
{
    const struct stream_config *want = arg;
    config->custom_partition = want->custom_partition;
    config->retention_days = want->retention_days;
}

static void configure(struct lake_proc *p, unsigned name)
{
    struct rng *rng = world_workload(p->lw->world);
    struct stream_config config = {.custom_partition = rng_chance(rng, 500) ? slice_lit("part") : (slice){0},
                                   .retention_days = p->lw->retention ? (uint32_t)rng_below(rng, 3) : 0};
    struct err err;

    enum err_code rc = lake_configure(p->lake, slice_str(stream_names[name]), take_settings, &config, &err);
    if (rc != ERR_NOT_FOUND)
        expect(p, "configure", rc, &err);
}

/* ---- what runs on a node */

/* So many operations between two steps of the supervisor, however long that is. */
struct share {
    uint64_t round;
    unsigned done;
};

static void share_wait(struct lake_proc *p, struct share *s, unsigned max)
{
    struct lake_world *lw = p->lw;

    if (s->round != lw->round)
        *s = (struct share){lw->round, 0};
    while (s->done++ >= max && s->round == lw->round && !over(p))
        (void)world_block(lw->world, &lw->rounds, -1);
}

static void ends(struct lake_proc *p)
{
    p->running--;
    waitq_wake(p->lw->world, &p->answers, true);
}

static void client(void *arg)
{
    struct lake_proc *p = arg;
    struct lake_world *lw = p->lw;
    struct rng *rng = world_workload(lw->world);
    struct share share = {0};

    while (!over(p)) {
        unsigned name = (unsigned)rng_below(rng, LAKE_NAMES), dice = (unsigned)rng_below(rng, 1000);
        if (dice < lw->drops_permille && attached(p))
            drop(p, name);
        else if (dice < 150 && attached(p))
            create(p, name);
        else if (dice < 200 && attached(p))
            configure(p, name);
        else
            ingest(p, name);
        while (p->open > 5 && !over(p))
            (void)world_block(lw->world, &p->answers, SIM_SECOND);
        pace(p, 1);
        share_wait(p, &share, 5);
    }
    ends(p);
}

static void reader(void *arg)
{
    struct lake_proc *p = arg;
    struct share share = {0};

    while (!over(p)) {
        check_stream(p, (unsigned)rng_below(world_workload(p->lw->world), LAKE_NAMES));
        pace(p, 1);
        share_wait(p, &share, 4);
    }
    ends(p);
}

static void flusher(void *arg)
{
    struct lake_proc *p = arg;
    struct share share = {0};
    struct err err;

    while (!over(p)) {
        pace(p, 2);
        if (!over(p))
            expect(p, "flush", lake_flush(p->lake, &err), &err);
        share_wait(p, &share, 3);
    }
    ends(p);
}

static enum err_code merge(void *arg, const struct schema *schema, const struct merge_input *inputs, size_t count,
                           struct os_file *out, struct segment_stats *stats, struct err *err)
{
    struct lake_proc *p = arg;
    struct sim_row *all = NULL;
    size_t n = 0, cap = 0;
    enum err_code rc = ERR_OK;

    (void)schema;
    for (size_t i = 0; i < count && rc == ERR_OK; i++) {
        _cleanup_(buf_done) struct buf bytes = BUF_INIT;
        struct sim_row *rows;
        size_t k;
        rc = p->files->ops->read(p->files, inputs[i].key, 0, UINT64_MAX, &bytes, NULL, err);
        if (rc == ERR_OK && !rows_decode(buf_view(&bytes), &rows, &k))
            rc = err_set(err, ERR_CORRUPT, SLICE_FMT " is no file of rows", SLICE_ARG(inputs[i].key));
        for (size_t at = 0; rc == ERR_OK && at < k; at++)
            *ARRAY_PUSH(all, n, cap) = rows[at];
        if (rc == ERR_OK)
            free(rows);
    }
    if (rc == ERR_OK)
        rc = rows_write(p->os, out, all, n, stats, err);
    free(all);
    return rc;
}

static enum err_code duty(struct lake_proc *p, struct catalog *cat, unsigned what, struct catalog_work *work,
                          struct err *err)
{
    switch (what) {
    case 0: return catalog_compact(cat, merge, p, work, err);
    case 1: return catalog_gc(cat, work, err);
    case 2: return catalog_reconcile(cat, work, err);
    case 3: return p->lw->retention ? catalog_expire(cat, work, err) : ERR_OK;
    default: return catalog_fold(cat, work, err); /* FOLD */
    }
}

static void duty_round(struct lake_proc *p, unsigned what)
{
    struct catalog_work work = {0};
    struct err err;
    enum err_code rc = duty(p, lake_catalog(p->lake), what, &work, &err);

    if (rc != ERR_NOT_FOUND) /* a file or a head that went meanwhile */
        expect(p, "maintenance", rc, &err);
}

static void folder(void *arg)
{
    struct lake_proc *p = arg;
    struct share share = {0};

    while (!over(p)) {
        duty_round(p, FOLD);
        pace(p, 4);
        share_wait(p, &share, 1);
    }
    ends(p);
}

/* Beside the folds, as the threads of a server do it. */
static void maintainer(void *arg)
{
    struct lake_proc *p = arg;
    struct share share = {0};

    while (!over(p)) {
        duty_round(p, (unsigned)rng_below(world_workload(p->lw->world), FOLD));
        pace(p, 4);
        share_wait(p, &share, 1);
    }
    ends(p);
}

static enum err_code open_lake(struct lake_proc *p, struct lake **out, struct err *err)
{
    struct lake_options opt = p->lw->opt;

    TRY(store_local_open(p->os, "store", &opt.store, err)); /* the simulated one: sim_store.c */
    return lake_open(p->os, &opt, out, err);
}

/* What the thread "names" does where there is one. */
static void validator(void *arg)
{
    struct lake_proc *p = arg;
    struct err err;

    while (!over(p)) {
        world_sleep(p->lw->world, p->lw->opt.fence_us / 6);
        if (!over(p))
            expect(p, "validate", lake_validate(p->lake, &err), &err);
    }
    ends(p);
}

static bool proc_open(struct lake_proc *p)
{
    struct lake_world *lw = p->lw;
    struct err err = {0};

    enum err_code rc = open_lake(p, &p->lake, &err);
    if (rc != ERR_OK) {
        p->lake = NULL;
        expect(p, "open", rc, &err);
        return false;
    }
    p->files = lake_store(p->lake);
    world_trace(lw->world, "started, %" PRIu64 " rows staged", lake_stage_rows(p->lake));
    for (unsigned k = 0; k < LAKE_NAMES; k++)
        check_stream(p, k);
    return true;
}

/* What a disk's only owner does not find after its start will never come: it was torn off the end of the WAL. */
static void forget_torn(struct lake_proc *p)
{
    struct lake_world *lw = p->lw;

    for (size_t i = 0; i < lw->requests_count && !lw->cloned; i++) {
        struct request *r = lw->requests[i];
        bool theirs = r->proc != p && !r->stale && (r->fate == REQUEST_OPEN || r->fate == REQUEST_UNKNOWN);
        if (theirs && !r->seen_at && r->called < p->started && r->disk == p->disk && !may_be_dropped(lw, r, NEVER))
            r->fate = REQUEST_GONE;
    }
}

/* Nobody else gets in while it runs. */
static void check_second_open(struct lake_proc *p)
{
    struct lake *second = NULL;
    struct err err;

    enum err_code rc = open_lake(p, &second, &err);
    WORLD_CHECK(p->lw->world, rc != ERR_OK, "wal I6", "the lake was opened twice");
}

static void run_fiber(struct lake_proc *p, const char *name, void (*fn)(void *arg))
{
    p->running++;
    (void)world_spawn(p->lw->world, p->n->node, name, fn, p);
}

static void proc_main(void *arg)
{
    struct lake_proc *p = arg;

    for (int64_t patience = 1; !proc_open(p); patience *= p->lw->pace_us * patience < SIM_MINUTE ? 2 : 1) {
        if (over(p) || !attached(p)) { /* a server that can not write its WAL's header exits */
            p->gave_up = true;
            return;
        }
        pace(p, patience); /* who starts it again waits longer each time: a disk may be full for hours */
    }
    forget_torn(p);
    if (rng_chance(world_workload(p->lw->world), 50))
        check_second_open(p);
    for (unsigned i = 0; i < CLIENTS; i++)
        run_fiber(p, "client", client);
    run_fiber(p, "reader", reader);
    if (!p->lw->background) {
        run_fiber(p, "flusher", flusher);
        run_fiber(p, "maintain", maintainer);
        run_fiber(p, "fold", folder);
        if (p->lw->pair)
            run_fiber(p, "names", validator);
    }
    p->ready = true;
}

static struct lake_proc *proc_start(struct lake_node *n, void (*fn)(void *arg))
{
    struct lake_world *lw = n->lw;
    struct lake_proc *p = mem_zalloc(sizeof(*p));
    const struct sim_disk_faults *f = sim_disk_faults(n->node->disk);

    *p = (struct lake_proc){.lw = lw, .n = n, .disk = n->node->disk, .started = ++lw->clock};
    p->attached = p->disk->attached;
    for (size_t i = 0; i < lw->requests_count; i++)
        lw->requests[i]->may_be_lost |=
            lw->requests[i]->ack == ACK_RELAXED && (n->power_cut || f->sync_fails || f->write_fails || f->bytes_max);
    n->power_cut = false;
    n->proc = p;
    node_up(n->node);
    p->os = sim_os_new(n->node);
    p->main = world_spawn(lw->world, n->node, "main", fn, p);
    return p;
}

/* A process that was asked to stop. */
static void stop_main(void *arg)
{
    struct lake_proc *p = arg;

    lake_close(p->lake);
    WORLD_CHECK(p->lw->world, !p->open, "lake", "%u requests have no answer after the close", p->open);
    node_crash(p->n->node, true);
}

/* ---- what happens to nodes */

static void uncut_later(void *arg)
{
    ((struct sim_node *)arg)->store_cut = false;
}

/* The disk goes to another machine; who had it gets errors from it. */
static void disk_move(struct lake_node *from, struct lake_node *to)
{
    struct sim_disk *d = from->node->disk;

    if (to->node->up)
        node_crash(to->node, true);
    world_trace(from->lw->world, "the disk of node%u goes to node%u", from->node->id, to->node->id);
    sim_disk_detach(d);
    to->power_cut |= from->power_cut;
    from->power_cut = false;
    from->node->disk = to->node->disk;
    to->node->disk = d;
    from->owner = false;
    to->owner = true;
    (void)proc_start(to, proc_main);
}

static void faults_set(struct lake_world *lw, struct sim_disk *d)
{
    struct rng *r = world_rng(lw->world);
    struct sim_disk_faults *f = sim_disk_faults(d);

    *f = (struct sim_disk_faults){.slow_sync = 5};
    if (rng_chance(r, 150))
        f->sync_fails = (unsigned)rng_below(r, 40);
    if (rng_chance(r, 100))
        f->write_fails = (unsigned)rng_below(r, 20);
    if (rng_chance(r, 100))
        f->bytes_max = 262144ull << rng_below(r, 3);
    for (size_t i = 0; i < lw->requests_count && (f->sync_fails || f->write_fails || f->bytes_max); i++)
        lw->requests[i]->may_be_lost |= lw->requests[i]->ack == ACK_RELAXED;
}

static void node_event(struct lake_world *lw, struct lake_node *n)
{
    struct world *w = lw->world;
    struct rng *r = world_rng(w);
    int64_t span = rng_skewed(
        r, SIM_SECOND, rng_chance(r, sluice_mutant == 30 ? 600 : 100) ? 3 * SIM_HOUR : 20 * lw->pace_us + SIM_MINUTE);

    uint64_t what = rng_below(r, 12);
    if (lw->pair && (sluice_mutant == 28 || sluice_mutant == 30) &&
        what < 5) /* rules that only one breaks who is cut off */
        what = 6;
    switch (what) {
    case 0: node_crash(n->node, rng_chance(r, 400)); break;
    case 1:
    case 2:
    case 3:
    case 4:
        n->node->crash_in = 1 + rng_below(r, 300);
        n->node->crash_kill = rng_chance(r, 400);
        break;
    case 5: node_pause_for(n->node, span); break;
    case 6:
    case 7:
        n->node->store_cut = true;
        world_at(w, world_now(w) + span, uncut_later, n->node);
        break;
    case 8: n->node->clock_offset_us = rng_span(r, -2 * SIM_DAY, 2 * SIM_DAY); break;
    case 9:
    case 10: n->proc->stop = true; break;
    default:
        if (lw->moves)
            disk_move(n, lw->nodes[n == lw->nodes[0]]);
        break;
    }
}

static void crashed(struct sim_node *n, bool kill)
{
    struct lake_node *node = n->user;

    node->power_cut |= !kill;
    if (!kill && node->lw->store)
        sim_store_crashed(node->lw->store, n);
}

static struct lake_node *add_node(struct lake_world *lw, bool owner)
{
    struct lake_node *n = mem_zalloc(sizeof(*n));

    *n = (struct lake_node){.lw = lw, .node = world_node(lw->world), .owner = owner};
    n->node->user = n;
    n->node->on_crash = crashed;
    lw->nodes[lw->nodes_count++] = n;
    return n;
}

/* A machine that is off is copied, and both are used. */
static void disk_clone(struct lake_world *lw, struct lake_node *n)
{
    struct lake_node *twin = add_node(lw, true);

    sim_disk_power_cut(n->node->disk); /* what was not on the platter is in no copy */
    twin->node->disk = sim_disk_clone(n->node->disk);
    n->power_cut = twin->power_cut = true;
    lw->cloned = true;
    world_trace(lw->world, "the disk of node%u is copied to node%u", n->node->id, twin->node->id);
}

static void step_node(struct lake_world *lw, struct lake_node *n)
{
    struct rng *r = world_rng(lw->world);
    struct lake_proc *p = n->proc;

    if (!n->node->up) {
        if (lw->clones && !lw->cloned && n->node->boots > 1 && rng_chance(r, 400))
            disk_clone(lw, n);
        if (n->owner && rng_chance(r, 800)) {
            faults_set(lw, n->node->disk);
            (void)proc_start(n, proc_main);
            if (lw->cloned &&
                rng_chance(r, 500)) { /* in the middle of its recovery: what does the other copy do meanwhile? */
                n->node->pause_in = 1 + rng_below(r, 250);
                n->node->pause_us = lw->pace_us * (int64_t)rng_below(r, 20);
            }
        }
    } else if (p->stop || p->gave_up || !n->owner) {
        p->stop = true;
        waitq_wake(lw->world, &p->answers, true);
        if (p->gave_up || (!n->owner && rng_chance(r, 300)))
            node_crash(n->node, true);
        else if (p->ready && !p->running) {
            p->ready = false;
            (void)world_spawn(lw->world, n->node, "stop", stop_main, p);
        }
    } else if (rng_chance(r, 350)) {
        node_event(lw, n);
    }
}

static void next_round(struct lake_world *lw)
{
    lw->round++;
    waitq_wake(lw->world, &lw->rounds, true);
}

static void chaos(struct lake_world *lw)
{
    struct rng *r = world_rng(lw->world);
    unsigned steps = 8 + (unsigned)rng_below(r, 16);

    for (unsigned i = 0; i < steps; i++) {
        for (unsigned k = 0; k < lw->nodes_count; k++)
            step_node(lw, lw->nodes[k]);
        if (lw->store && rng_chance(r, 60)) {
            sim_store_clock_jump(lw->store, rng_span(r, -SIM_HOUR, 3 * SIM_HOUR));
            bucket_clock(lw->bucket);
        }
        next_round(lw);
        world_sleep(lw->world, rng_skewed(r, lw->pace_us, lw->pace_us * 10));
        if (!lw->background && rng_chance(r, 60))
            world_sleep(lw->world, rng_span(r, SIM_HOUR, 2 * SIM_HOUR)); /* slots get old enough to go */
    }
}

/* ---- rest */

static void settle(struct lake_world *lw)
{
    int64_t hold = 0;

    if (lw->store) {
        hold = sim_store_faults(lw->store)->hold_us_max;
        *sim_store_faults(lw->store) = (struct sim_store_faults){.hold_us_max = hold, .page_max = 1000};
    }
    for (unsigned k = 0; k < lw->nodes_count; k++) {
        struct lake_node *n = lw->nodes[k];
        node_resume(n->node);
        n->node->crash_in = n->node->pause_in = 0;
        *sim_disk_faults(n->node->disk) = (struct sim_disk_faults){0};
        if (n->node->up)
            node_crash(n->node, rng_chance(world_rng(lw->world), 500));
    }
    world_sleep(lw->world, hold + SIM_HOUR); /* held requests land */
    lw->quiet = true;
}

/* The last start of a disk: all of it is there, and goes to the store. */
static void last_main(void *arg)
{
    struct lake_proc *p = arg;
    struct err err;

    if (!proc_open(p))
        return;
    expect(p, "flush", lake_flush(p->lake, &err), &err);
    if (p->lw->pair) /* rows that were stale went to another stream's stage */
        expect(p, "flush", lake_flush(p->lake, &err), &err);
    WORLD_CHECK(p->lw->world, p->lw->background || lake_stage_rows(p->lake) == 0, "liveness",
                "%" PRIu64 " rows are staged after a flush", lake_stage_rows(p->lake));
    for (unsigned k = 0; k < LAKE_NAMES; k++)
        check_stream(p, k);
    if (!p->lw->store) {
        struct catalog_work work = {0};
        for (unsigned what = FOLD + 1; what-- > 0;)
            expect(p, "at rest", duty(p, lake_catalog(p->lake), what, &work, &err), &err);
        for (unsigned k = 0; k < LAKE_NAMES; k++)
            check_stream(p, k);
    }
    lake_close(p->lake);
    p->ok = true;
}

static void run_last(struct lake_node *n, void (*fn)(void *arg), const char *what)
{
    struct lake_world *lw = n->lw;
    struct lake_proc *p = proc_start(n, fn);

    for (unsigned i = 0; i < 1000 && !fiber_over(p->main); i++)
        world_sleep(lw->world, i < 200 ? SIM_MINUTE : SIM_HOUR);
    WORLD_CHECK(lw->world, p->ok, "liveness", "%s does not end", what);
    node_crash(n->node, true);
}

static void must(struct lake_proc *p, struct catalog *cat, unsigned what)
{
    struct catalog_work work = {0};
    struct err err;

    expect(p, "at rest", duty(p, cat, what, &work, &err), &err);
}

static void unregister(struct lake_proc *p)
{
    struct sim_store *st = p->lw->store;
    slice prefix = slice_lit(".sluice/nodes/");
    struct err err;

    for (size_t i = sim_store_lower(st, prefix);
         i < sim_store_count(st) && slice_starts(sim_store_at(st, i)->key, prefix);) {
        _cleanup_(freep) char *key = mem_str(sim_store_at(st, i)->key);
        expect(p, "unregister", p->files->ops->remove(p->files, slice_str(key), &err), &err);
    }
}

static enum err_code persist(void *arg, const struct lane_identity *id, struct err *err)
{
    (void)arg, (void)id, (void)err;
    return ERR_OK;
}

/* Rows of the catalog alone, as a node reads them that never had any in memory. */
static void check_heads(struct lake_proc *p, struct catalog *cat)
{
    struct lake_world *lw = p->lw;

    for (unsigned k = 0; k < LAKE_NAMES; k++) {
        _cleanup_(stream_version_unrefp) struct stream_version *v = NULL;
        struct err err;
        enum err_code rc = catalog_resolve(cat, slice_str(stream_names[k]), &v, &err);
        if (rc == ERR_NOT_FOUND) {
            check_lost_streams(p, k, "", ++lw->clock, NEVER);
            continue;
        }
        expect(p, "resolve", rc, &err);
        if (rc != ERR_OK)
            return;
        const char *sid = stream_version_sid(v)->text;
        lw->sets++;
        WORLD_CHECK(lw->world, files_seen(p, v, sid, "the last head"), "I4", "the last head can not be read");
        check_rows(p, sid, ++lw->clock, "the last head");
        check_lost_streams(p, k, sid, lw->clock, NEVER);
    }
}

static void janitor(void *arg)
{
    struct lake_proc *p = arg;
    struct lake_world *lw = p->lw;
    const struct catalog_options opt = {
        .shards = 4, .snapshot_retention_us = SIM_HOUR, .node_id = "janitor", .endpoint = ""};
    struct lane_identity id = {.wal_id = "0123456789abcdef0123456789abcdef"};
    struct catalog *cat = NULL;
    uint64_t committed;
    struct err err;

    p->files = sim_store_client(lw->store, p->n->node);
    unregister(p);
    expect(p, "open", catalog_open(p->os, p->files, &opt, &cat, &err), &err);
    expect(p, "session", catalog_session_open(cat, &id, persist, NULL, &committed, &err), &err);
    must(p, cat, FOLD);
    world_sleep(lw->world, 2 * SIM_DAY + SIM_HOUR); /* claims of the dead, hours that are not over, wrong clocks */
    must(p, cat, 3);
    for (struct catalog_work work = {.inputs_compacted = 1}; work.inputs_compacted;) {
        work = (struct catalog_work){0};
        expect(p, "compact", duty(p, cat, 0, &work, &err), &err);
    }
    must(p, cat, 1); /* seals abandoned lanes */
    must(p, cat, FOLD);
    world_sleep(lw->world, 4 * SIM_HOUR);
    must(p, cat, 2);
    must(p, cat, 1);
    must(p, cat, 1); /* heads first, then what only they named */
    bucket_check_rest(lw->bucket, false);
    check_heads(p, cat);
    catalog_close(cat);
    p->ok = true;
}

static void store_knobs(struct lake_world *lw)
{
    struct rng *r = world_rng(lw->world);
    struct sim_store_faults *f = sim_store_faults(lw->store);

    *f = (struct sim_store_faults){.hold_us_max = rng_skewed(r, SIM_MINUTE, 8 * SIM_HOUR),
                                   .page_max = 1 + (unsigned)rng_below(r, 30),
                                   .parallel = (unsigned)rng_below(r, 2) * (1 + (unsigned)rng_below(r, 16))};
    f->in_flight = (unsigned)rng_below(r, 300);
    if (rng_chance(r, 400))
        f->lost = (unsigned)rng_below(r, 60);
    if (rng_chance(r, 400))
        f->held = (unsigned)rng_below(r, 40);
    if (rng_chance(r, 300))
        f->stalled = (unsigned)rng_below(r, 30);
    if (rng_chance(r, 400))
        f->doubled = (unsigned)rng_below(r, 60);
    if (rng_chance(r, 400))
        f->refused = (unsigned)rng_below(r, 40);
    f->volatile_uploads = rng_chance(r, 500);
    if (lw->clones && rng_chance(r, 700)) /* flushes fail, so that several segments wait when the disk is copied */
        f->refused = 100 + (unsigned)rng_below(r, 150);
}

static void knobs(struct lake_world *lw)
{
    static const int64_t paces[] = {SIM_SECOND / 10, 2 * SIM_SECOND, 30 * SIM_SECOND};
    struct rng *r = world_rng(lw->world);

    if (rng_chance(r, 700)) {
        lw->store = sim_store_new(lw->world);
        lw->bucket = bucket_new(lw->world, lw->store);
        lw->clones = rng_chance(r, sluice_mutant >= 25 ? 900 : 250); /* rules that only a copy breaks */
        store_knobs(lw);
        lw->moves = !lw->clones && rng_chance(r, 400);
        lw->retention = rng_chance(r, 200);
    }
    lw->background = rng_chance(r, 400);
    lw->pace_us = paces[rng_below(r, ARRAY_LEN(paces))];
    lw->drops_permille = !lw->clones && rng_chance(r, 600) ? (unsigned)rng_below(r, 80) : 0;
    int64_t pace_us = lw->pace_us;
    lw->opt = (struct lake_options){
        .data_dir = "data",
        .wal_dir = "wal",
        .wal = {.segment_bytes = 32 << 10,
                .queue_bytes_max = 64 << 10,
                .disk_bytes_max = 512 << 10,
                .disk_free_bytes_min = 64 << 10},
        .stage_bytes_max = 4 << 20,
        .flush_bytes = 1024ull << rng_below(r, lw->clones ? 3 : 8),
        .flush_age_us = pace_us,
        .flush_idle_us = pace_us * (int64_t)(1 + rng_below(r, 6)),
        .fold_interval_us = pace_us * 8,
        .gc_interval_us = pace_us * 16,
        .compact_interval_us = pace_us * 12,
        .retention_interval_us = lw->retention ? pace_us * 16 : SIM_DAY,
        .scrub_interval_us = pace_us * 40,
        .background = lw->background,
    };
}

/* Apart from the others' dice, so that their worlds stay what they are. */
static void knobs_pair(struct lake_world *lw, uint64_t seed)
{
    static const int64_t paces[] = {2 * SIM_SECOND, 10 * SIM_SECOND, 30 * SIM_SECOND};
    struct rng *r = world_rng(lw->world);

    lw->pair = lw->store && !lw->clones && (seed % 4 == 0 || sluice_mutant >= 27);
    if (!lw->pair)
        return;
    lw->moves = false;
    lw->retention = false;
    lw->pace_us = paces[rng_below(r, ARRAY_LEN(paces))];
    lw->drops_permille = 60 + (unsigned)rng_below(r, 100);
    lw->opt.fence_us = SIM_MINUTE;
    lw->opt.retention_interval_us = SIM_DAY;
}

static void supervise(void *arg)
{
    struct lake_world *lw = arg;

    knobs(lw);
    knobs_pair(lw, world_seed(lw->world));
    sim_store_instead = lw->store;
    (void)add_node(lw, true);
    if (lw->moves)
        (void)add_node(lw, false);
    if (lw->pair)
        (void)proc_start(add_node(lw, true), proc_main);
    (void)proc_start(lw->nodes[0], proc_main);
    chaos(lw);
    settle(lw);
    for (unsigned k = 0; k < lw->nodes_count; k++)
        if (lw->nodes[k]->owner)
            run_last(lw->nodes[k], last_main, "the last flush");
    lw->last = true;
    if (lw->store)
        run_last(add_node(lw, false), janitor, "cleaning up");
}

static void run(struct world *w)
{
    struct lake_world *lw = mem_zalloc(sizeof(*lw));

    lw->world = w;
    (void)world_run(w, world_spawn(w, NULL, "supervisor", supervise, lw), 3000000);
    sim_store_instead = NULL;
}

static bool catches(unsigned k)
{
    return k >= 18 && k <= 30;
}

const struct workload workload_lake = {"lake", run, catches};
