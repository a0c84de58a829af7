/* catalog_sim.c: several nodes with the real src/catalog over one store that loses, holds and doubles requests. Nodes ingest, create, drop,
 * evolve, configure, query, fold, compact, expire, collect, reconcile; they crash at any IO, pause for hours, are cut off, have wrong clocks;
 * their disks move to other nodes while the old one still runs.
 *
 * The WAL is a list of segments that this file keeps outside the nodes, so that what was acknowledged is known for sure; the real one
 * is in lake_sim.c. bucket.c asserts the invariants at each step; here are those that only a node can break:
 *   I8   who was told that its commit stands finds it on the chain
 *   I9   a version reads the same rows again, or its head was collected
 *   I10  a node sees what it committed, and what it has read of others, once, and nothing that nobody committed
 *   I4, I12 (liveness) when all is quiet, every acknowledged row of a live stream is in its head, once, and nothing is left over */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/timetext.h"
#include "sim/catalog_sim.h"
#include "sim/sim_disk.h"

#include "base/banned.h"

const char *const names[NAMES] = {"app", "Web", "db"};

void check_rc(struct proc *p, const char *what, enum err_code rc, const struct err *err)
{
    if (rc == ERR_OK)
        return;
    world_trace(p->cw->world, "%s: %s: %s", what, err_name(rc), err->msg);
    WORLD_CHECK(p->cw->world, rc != ERR_CORRUPT, "corrupt", "%s: %s", what, err->msg);
    WORLD_CHECK(p->cw->world, !p->cw->quiet, "liveness", "%s: %s: %s", what, err_name(rc), err->msg);
}

/* ---- the WAL */
static bool attached(const struct proc *p)
{
    return p->disk->attached == p->attached;
}

static uint64_t segments_known(const struct proc *p)
{
    return attached(p) ? p->disk->count : p->segments_max;
}

static enum err_code persist(void *arg, const struct lane_identity *id, struct err *err)
{
    struct proc *p = arg;

    world_io(p->cw->world, p->n->node); /* it may crash before */
    if (!attached(p))
        return err_set(err, ERR_IO, "the disk is gone");
    p->disk->header = *id;
    world_trace(p->cw->world, "header: lane %s session %.8s", id->lane, id->session);
    world_io(p->cw->world, p->n->node); /* and after */
    return ERR_OK;
}

static void wal_append_row(struct proc *p, const struct row *row)
{
    struct disk *d = p->disk;

    if (!d->count || d->segments[d->count - 1].sealed)
        (void)ARRAY_PUSH(d->segments, d->count, d->cap);
    struct segment *s = &d->segments[d->count - 1];
    *ARRAY_PUSH(s->rows, s->count, s->cap) = *row;
}

static uint64_t wal_seal_open(struct proc *p)
{
    struct disk *d = p->disk;

    if (attached(p) && d->count)
        d->segments[d->count - 1].sealed = true;
    return segments_known(p);
}

/* ---- flush */
struct group { /* rows of one file */
    struct sid sid;
    unsigned name;
    int64_t hour;
    struct sim_row *rows;
    size_t count, cap;
};
struct flush {
    struct group *groups;
    size_t groups_count, groups_cap;
    struct catalog_file *files;
    size_t count, cap;
    slice *keys;
    size_t keys_count, keys_cap;
    struct arena arena;
};

static void flush_done(struct flush *f)
{
    for (size_t i = 0; i < f->groups_count; i++)
        free(f->groups[i].rows);
    free(f->groups);
    free(f->files);
    free(f->keys);
    arena_done(&f->arena);
}

static void group_add(struct flush *f, const struct row *r)
{
    int64_t hour = r->row.time_us / HOUR_US;
    struct group *g = NULL;

    for (size_t i = 0; i < f->groups_count && !g; i++)
        if (f->groups[i].hour == hour && memcmp(f->groups[i].sid.text, r->sid.text, 26) == 0)
            g = &f->groups[i];
    if (!g) {
        g = ARRAY_PUSH(f->groups, f->groups_count, f->groups_cap);
        *g = (struct group){.sid = r->sid, .name = r->name, .hour = hour};
    }
    *ARRAY_PUSH(g->rows, g->count, g->cap) = r->row;
}

static enum err_code publish(struct proc *p, struct flush *f, struct group *g, const char *stem, unsigned *number,
                             struct err *err)
{
    struct catalog_file file = {.sid = g->sid, .stream = slice_str(names[g->name]), .raw_bytes = 10 * g->count};
    struct civil c = civil_of(g->hour * HOUR_US);
    struct os_file *out = NULL;
    enum err_code rc;

    TRY(p->store->ops->upload_begin(p->store, &out, err));
    rc = rows_write(p->os, out, g->rows, g->count, &file.stats, err);
    for (bool again = rc == ERR_OK; again;
         again = rc == ERR_CONFLICT && *number < 40) { /* catalog.md section 2: the next <n> */
        _cleanup_(buf_done) struct buf key = BUF_INIT;
        size_t dir = catalog_stream_dir(p->cat, file.stream, &g->sid, &key).len;
        buf_fmt(&key, "date=%04lld-%02d-%02d/hour=%02d/%s-%u.parquet", (long long)c.year, c.month, c.day, c.hour, stem,
                (*number)++);
        slice whole = arena_copy(&f->arena, buf_view(&key));
        file.path = slice_from(whole, dir);
        rc = p->store->ops->upload_publish(p->store, out, whole, false, err);
        if (rc == ERR_OK) {
            *ARRAY_PUSH(f->keys, f->keys_count, f->keys_cap) = whole;
            *ARRAY_PUSH(f->files, f->count, f->cap) = file;
        }
    }
    if (rc != ERR_OK)
        p->store->ops->upload_drop(p->store, out);
    return rc;
}

static enum err_code write_files(struct proc *p, struct flush *f, uint64_t from, uint64_t upto, struct err *err)
{
    _cleanup_(buf_done) struct buf stem = BUF_INIT;
    unsigned number = 0;

    for (uint64_t n = from; n <= upto; n++)
        for (size_t i = 0; i < p->disk->segments[n - 1].count; i++)
            group_add(f, &p->disk->segments[n - 1].rows[i]);
    catalog_next_file_stem(p->cat, &stem);
    for (size_t i = 0; i < f->groups_count; i++) {
        _cleanup_(stream_version_unrefp) struct stream_version *v = NULL;
        enum err_code rc = catalog_by_sid(p->cat, &f->groups[i].sid, &v, err);
        if (rc == ERR_NOT_FOUND)
            continue; /* deleted: nobody will ask for these rows again */
        TRY(rc);
        rc = catalog_anchor(p->cat, &f->groups[i].sid, err);
        if (rc == ERR_NOT_FOUND)
            continue;
        TRY(rc);
        TRY(publish(p, f, &f->groups[i], buf_cstr(&stem), &number, err));
    }
    return f->keys_count ? p->store->ops->sync_group(p->store, f->keys, f->keys_count, err) : ERR_OK;
}

static void on_visible(void *arg)
{
    ((struct proc *)arg)->visible++;
}

/* One upload and commit of (committed, upto]. */
static enum err_code flush_try(struct proc *p, uint64_t upto, struct err *err)
{
    struct cw *cw = p->cw;
    _cleanup_(flush_done) struct flush f = {0};
    uint64_t committed = p->committed;
    slice wal = slice_str(p->disk->header.wal_id);

    p->visible = 0;
    TRY(write_files(p, &f, p->committed + 1, upto, err));
    enum err_code rc = catalog_commit(p->cat, p->committed + 1, upto, f.files, f.count, on_visible, p, &committed, err);
    world_trace(cw->world, "commit %" PRIu64 "..%" PRIu64 ": %s, committed %" PRIu64, p->committed + 1, upto,
                err_name(rc), committed);
    if (rc == ERR_OK)
        committed = upto;
    if (rc == ERR_OK || rc == ERR_CONFLICT) {
        WORLD_CHECK(cw->world, !committed || bucket_segment_committed(cw->bucket, wal, committed), "I8",
                    "told that segment %" PRIu64 " is committed, it is on no chain", committed);
        WORLD_CHECK(cw->world, committed < upto || p->visible == 1, "I10",
                    "segment %" PRIu64 " is committed, the stage was told %u times", upto, p->visible);
        p->committed = MAX(p->committed, committed);
    }
    /* After an attempt without an answer the files of an earlier one may be what was committed. */
    for (size_t i = 0; rc == ERR_OK && !p->unclear && i < f.count; i++)
        WORLD_CHECK(cw->world, bucket_file_committed(cw->bucket, f.keys[i]), "I8",
                    "told that " SLICE_FMT " is committed, no record names it", SLICE_ARG(f.keys[i]));
    p->unclear = rc != ERR_OK && rc != ERR_CONFLICT;
    return rc;
}

enum err_code flush(struct proc *p, struct err *err)
{
    uint64_t upto = wal_seal_open(p);
    enum err_code rc = ERR_OK;

    while (p->committed < upto) {
        rc = flush_try(p, upto, err);
        if (rc != ERR_OK && rc != ERR_CONFLICT)
            break;
        rc = ERR_OK;
    }
    check_rc(p, "flush", rc, err);
    return rc;
}

/* ---- reading */
struct seen {
    struct sim_row *rows;
    size_t count, cap;
};

static enum err_code rows_of(slice bytes, slice key, struct seen *out, struct err *err)
{
    struct sim_row *rows;
    size_t n;

    if (!rows_decode(bytes, &rows, &n))
        return err_set(err, ERR_CORRUPT, SLICE_FMT " is no file of rows", SLICE_ARG(key));
    for (size_t i = 0; i < n; i++)
        *ARRAY_PUSH(out->rows, out->count, out->cap) = rows[i];
    free(rows);
    return ERR_OK;
}

static enum err_code read_rows(struct proc *p, slice key, struct seen *out, struct err *err)
{
    _cleanup_(buf_done) struct buf bytes = BUF_INIT;

    TRY(p->store->ops->read(p->store, key, 0, UINT64_MAX, &bytes, NULL, err));
    return rows_of(buf_view(&bytes), key, out, err);
}

/* A held PUT of an earlier try may land once its name is free again, after the file was collected: that is as gone as before. */
static enum err_code read_file(struct proc *p, const struct plan_file *f, struct seen *out, struct err *err)
{
    _cleanup_(buf_done) struct buf bytes = BUF_INIT;

    TRY(p->store->ops->read(p->store, f->key, 0, UINT64_MAX, &bytes, NULL, err));
    if (bytes.len != f->bytes || crc32c(0, bytes.ptr, bytes.len) != f->crc32c)
        return err_set(err, ERR_NOT_FOUND, SLICE_FMT " is another file now", SLICE_ARG(f->key));
    return rows_of(buf_view(&bytes), f->key, out, err);
}

static enum err_code read_version(struct proc *p, struct stream_version *v, struct seen *out, struct err *err)
{
    struct plan plan;
    enum err_code rc = stream_version_plan(v, INT64_MIN, INT64_MAX, NULL, 0, &plan, err);

    for (size_t i = 0; rc == ERR_OK && i < plan.count; i++)
        rc = read_file(p, &plan.files[i], out, err);
    plan_done(&plan);
    return rc;
}

/* Each once, all of them committed by somebody. */
static void check_once(struct proc *p, const struct seen *s, const char *where)
{
    bucket_rows_begin(p->cw->bucket);
    for (size_t i = 0; i < s->count; i++)
        bucket_row_seen(p->cw->bucket, s->rows[i].id, "I10", where);
}

/* What this process had committed before it took the version must be in it. */
static void check_own(struct proc *p, const struct stream_version *v, uint64_t committed)
{
    for (uint64_t n = 1; n <= committed; n++)
        for (size_t i = 0; i < p->disk->segments[n - 1].count; i++) {
            const struct row *r = &p->disk->segments[n - 1].rows[i];
            WORLD_CHECK(p->cw->world,
                        memcmp(r->sid.text, stream_version_sid(v)->text, 26) != 0 ||
                            bucket_row_in_set(p->cw->bucket, r->row.id) || bucket_row_expired(p->cw->bucket, r->row.id),
                        "I10", "row %" PRIu64 " of segment %" PRIu64 " is committed and not shown", r->row.id, n);
        }
}

/* How far the lanes were read as the version was taken: what they gave to its stream up to there must be in it. */
struct read_lanes {
    struct read_lane {
        slice name; /* the catalog's */
        uint64_t pos;
    } * items;
    size_t count, cap;
};

static void lanes_now(struct proc *p, const struct stream_version *v, struct read_lanes *out)
{
    const struct stream *s = map_get(&p->cat->by_sid, sid_slice(stream_version_sid(v)));

    if (!s || s->held || s->version != v) /* HELD: it is of before */
        return;
    for (size_t i = 0; i < p->cat->lanes_count; i++)
        if (p->cat->lanes[i]->pos != SLOT_NONE)
            *ARRAY_PUSH(out->items, out->count, out->cap) =
                (struct read_lane){slice_str(p->cat->lanes[i]->name), p->cat->lanes[i]->pos};
}

static void check_lanes(struct proc *p, const struct stream_version *v, const struct read_lanes *l, const char *where)
{
    for (size_t i = 0; i < l->count; i++)
        bucket_lane_seen(p->cw->bucket, sid_slice(stream_version_sid(v)), l->items[i].name, l->items[i].pos, where);
}

void query(struct proc *p, unsigned name)
{
    struct cw *cw = p->cw;
    struct rng *r = world_workload(cw->world);
    _cleanup_(stream_version_unrefp) struct stream_version *v = NULL;
    struct seen first = {0}, again = {0};
    struct read_lanes lanes = {0};
    struct err err;
    uint64_t committed = p->committed;
    char where[80];

    enum err_code rc = catalog_resolve(p->cat, slice_str(names[name]), &v, &err);
    if (rc == ERR_OK) {
        lanes_now(p, v, &lanes);
        rc = read_version(p, v, &first, &err);
        (void)snprintf(where, sizeof(where), "version %" PRIu64 " of %s", v->head->slot, names[name]);
    }
    if (rc == ERR_OK) {
        check_once(p, &first, where);
        if (bucket_name_live(cw->bucket, slice_str(names[name]),
                             sid_slice(stream_version_sid(v)))) { /* folders drop what is not */
            check_own(p, v, committed);
            check_lanes(p, v, &lanes, where);
        }
        if (rng_chance(r, 500))
            world_sleep(cw->world, rng_skewed(r, SIM_SECOND, 3 * SIM_HOUR));
        rc = read_version(p, v, &again, &err);
        if (rc == ERR_OK) {
            bool same = again.count == first.count;
            for (size_t i = 0; i < first.count && same; i++)
                same = first.rows[i].id == again.rows[i].id;
            WORLD_CHECK(cw->world, same, "I9", "%s reads %zu rows, then %zu", where, first.count, again.count);
        }
    }
    if (rc == ERR_NOT_FOUND && v) /* "snapshot expired" */
        WORLD_CHECK(cw->world, !bucket_head_retained(cw->bucket, sid_slice(stream_version_sid(v)), v->head->slot), "I9",
                    "a file of version %" PRIu64 " of %s, which is retained, is gone: %s", v->head->slot, names[name],
                    err.msg);
    else if (rc != ERR_NOT_FOUND)
        check_rc(p, "query", rc, &err);
    free(first.rows);
    free(again.rows);
    free(lanes.items);
}

/* ---- what a client does */
static enum err_code stream_for(struct proc *p, unsigned name, bool create, struct stream_version **v, struct err *err)
{
    const struct stream_config config = {.telemetry_type = slice_lit("logs"), .log_source = slice_lit("[]")};
    enum err_code rc = catalog_resolve(p->cat, slice_str(names[name]), v, err);

    if (rc != ERR_NOT_FOUND || !create)
        return rc;
    rc = catalog_create(p->cat, slice_str(names[name]), &config, NULL, v, err);
    if (rc == ERR_OK || rc == ERR_CONFLICT) {
        WORLD_CHECK(p->cw->world, bucket_name_known(p->cw->bucket, sid_slice(stream_version_sid(*v))), "I8",
                    "%s was created as %s, no name slot says so", names[name], stream_version_sid(*v)->text);
        rc = ERR_OK;
    }
    return rc;
}

void ingest(struct proc *p, unsigned name)
{
    struct cw *cw = p->cw;
    struct rng *r = world_workload(cw->world);
    _cleanup_(stream_version_unrefp) struct stream_version *v = NULL;
    struct err err;

    enum err_code rc = stream_for(p, name, true, &v, &err);
    if (rc != ERR_OK) {
        check_rc(p, "ingest", rc, &err);
        return;
    }
    unsigned count = 1 + (unsigned)rng_below(r, 3);
    int64_t ago = rng_chance(r, 150) ? rng_span(r, 0, 4) * SIM_DAY : 0;
    if (!attached(p))
        return; /* ERR_IO */
    for (unsigned i = 0; i < count; i++) {
        struct row row = {
            .row = {++cw->rows, os_wall_us(p->os) / 1000 * 1000 - ago}, .sid = *stream_version_sid(v), .name = name};
        wal_append_row(p, &row);
    }
    world_trace(cw->world, "rows %" PRIu64 "..%" PRIu64 " of %s %s in segment %zu", cw->rows - count + 1, cw->rows,
                names[name], stream_version_sid(v)->text, p->disk->count);
}

static void evolve(struct proc *p, unsigned name)
{
    struct rng *r = world_workload(p->cw->world);
    static const char *const fields[] = {"host", "status", "Host", "msg", "level"};
    _cleanup_(stream_version_unrefp) struct stream_version *v = NULL;
    _cleanup_(schema_unrefp) struct schema *empty = schema_empty(), *want = NULL, *out = NULL;
    size_t at = rng_below(r, 3);
    const struct field more[2] = {{.name = slice_str(fields[at]), .type = {TYPE_UTF8, 0}},
                                  {.name = slice_str(fields[at + 2]), .type = {TYPE_FLOAT64, 0}}};
    struct err err;

    if (stream_for(p, name, false, &v, &err) != ERR_OK)
        return;
    want = schema_grow(empty, more, 2);
    enum err_code rc = catalog_evolve(p->cat, stream_version_sid(v), want, &out, &err);
    if (rc != ERR_NOT_FOUND)
        check_rc(p, "evolve", rc, &err);
    for (size_t i = 0; rc == ERR_OK && i < 2; i++) {
        uint32_t k = schema_find(out, more[i].name);
        WORLD_CHECK(p->cw->world, k != FIELD_NONE && schema_field(out, k)->id, "I11",
                    "field %.*s has no id after evolve", (int)more[i].name.len, (const char *)more[i].name.ptr);
    }
}

static void set_days(void *arg, struct stream_config *config)
{
    config->retention_days = *(const uint32_t *)arg;
}

static void configure(struct proc *p, unsigned name)
{
    struct rng *r = world_workload(p->cw->world);
    _cleanup_(stream_version_unrefp) struct stream_version *v = NULL;
    struct err err;

    if (stream_for(p, name, false, &v, &err) != ERR_OK)
        return;
    uint32_t days = (uint32_t)rng_below(r, 4);
    enum err_code rc = catalog_configure(p->cat, stream_version_sid(v), set_days, &days, &err);
    if (rc != ERR_NOT_FOUND)
        check_rc(p, "configure", rc, &err);
}

static void drop(struct proc *p, unsigned name)
{
    struct err err;
    enum err_code rc = catalog_drop(p->cat, slice_str(names[name]), &err);

    world_trace(p->cw->world, "drop %s: %s", names[name], err_name(rc));
    if (rc != ERR_NOT_FOUND)
        check_rc(p, "drop", rc, &err);
}

static bool over(const struct proc *p)
{
    return p->stop || p->cw->stop;
}

static void pace(struct proc *p, int64_t factor)
{
    world_sleep(p->cw->world, rng_skewed(world_workload(p->cw->world), p->cw->pace_us / 16, p->cw->pace_us * factor));
}

/* So many operations between two steps of the supervisor, however long that is: a world does not get longer with its time. */
struct share {
    uint64_t round;
    unsigned done;
};
static void share_wait(struct proc *p, struct share *s, unsigned max)
{
    if (s->round != p->cw->round)
        *s = (struct share){p->cw->round, 0};
    while (s->done++ >= max && s->round == p->cw->round && !over(p))
        (void)world_block(p->cw->world, &p->cw->rounds, -1);
}

static void client(void *arg)
{
    struct proc *p = arg;
    struct rng *r = world_workload(p->cw->world);
    struct share share = {0};

    while (!over(p)) {
        unsigned name = (unsigned)rng_below(r, NAMES), what = (unsigned)rng_below(r, 1000);
        name = name == 2 && rng_chance(r, 700) ? 0 : name;
        if (what < p->cw->drops)
            drop(p, name);
        else if (what < 600)
            ingest(p, name);
        else if (what < 650)
            evolve(p, name);
        else if (what < 700)
            configure(p, name);
        else if (what < 850)
            query(p, name);
        pace(p, 1);
        share_wait(p, &share, 4);
    }
}

static void flusher(void *arg)
{
    struct proc *p = arg;
    struct share share = {0};
    struct err err;

    while (!over(p)) {
        pace(p, 2);
        if (!over(p))
            (void)flush(p, &err);
        share_wait(p, &share, 2);
    }
}

/* ---- maintenance */
static enum err_code merge(void *arg, const struct schema *schema, const struct merge_input *inputs, size_t count,
                           struct os_file *out, struct segment_stats *stats, struct err *err)
{
    struct proc *p = arg;
    struct seen all = {0};
    enum err_code rc = ERR_OK;

    (void)schema;
    for (size_t i = 0; i < count && rc == ERR_OK; i++)
        rc = read_rows(p, inputs[i].key, &all, err);
    if (rc == ERR_OK)
        rc = rows_write(p->os, out, all.rows, all.count, stats, err);
    free(all.rows);
    return rc;
}

static enum err_code keys(void *arg, const struct schema *schema, const struct merge_input *input,
                          struct segment_keys *out, struct err *err)
{
    struct seen rows = {0};

    (void)schema;
    enum err_code rc = read_rows(arg, input->key, &rows, err);
    if (rc == ERR_OK)
        rows_keys(rows.rows, rows.count, out);
    free(rows.rows);
    return rc;
}

static void bad_file(void *arg, slice key, const char *why)
{
    struct proc *p = arg;

    WORLD_CHECK(p->cw->world, !p->cw->quiet && !strcmp(why, "missing"), "scrub", SLICE_FMT ": %s", SLICE_ARG(key), why);
}

enum err_code duty(struct proc *p, enum duty what, struct catalog_work *w, struct err *err)
{
    struct storage_report report;

    switch (what) {
    case DUTY_FOLD: return catalog_fold(p->cat, w, err);
    case DUTY_GC: return catalog_gc(p->cat, w, err);
    case DUTY_RECONCILE: return catalog_reconcile(p->cat, w, err);
    case DUTY_COMPACT: TRY(catalog_compact(p->cat, merge, p, w, err)); return catalog_index(p->cat, keys, p, w, err);
    case DUTY_EXPIRE: return catalog_expire(p->cat, w, err);
    case DUTY_REPORT: return catalog_report(p->cat, &report, NULL, err);
    case DUTY_SCRUB: return catalog_scrub(p->cat, 1 << 20, bad_file, p, err);
    case DUTIES: break;
    }
    return ERR_OK;
}

static void duty_round(struct proc *p, enum duty what)
{
    static const char *const texts[] = {"fold", "gc", "reconcile", "compact", "expire", "report", "scrub"};
    struct rng *r = world_workload(p->cw->world);
    struct catalog_work w = {0};
    struct err err;

    world_trace(p->cw->world, "%s", texts[what]);
    if (rng_chance(r, p->cw->naps)) { /* in the middle of it */
        p->n->node->pause_in = 1 + rng_below(r, 100);
        p->n->node->pause_us = rng_skewed(r, SIM_MINUTE, 4 * SIM_HOUR);
    }
    enum err_code rc = duty(p, what, &w, &err);
    if (rc != ERR_NOT_FOUND) /* a file or head that others removed meanwhile */
        check_rc(p, texts[what], rc, &err);
}

static void folder(void *arg)
{
    struct proc *p = arg;
    struct share share = {0};

    while (!over(p)) {
        duty_round(p, DUTY_FOLD);
        pace(p, 4);
        share_wait(p, &share, 1);
    }
}

/* Beside the folds, as a server does it (catalog_int.h, DUTIES). */
static void maintain(void *arg)
{
    struct proc *p = arg;
    struct rng *r = world_workload(p->cw->world);
    struct share share = {0};

    while (!over(p)) {
        unsigned total = 0, at = DUTY_FOLD + 1;
        for (unsigned i = at; i < DUTIES; i++)
            total += p->cw->weights[i];
        for (unsigned dice = (unsigned)rng_below(r, total); dice >= p->cw->weights[at]; at++)
            dice -= p->cw->weights[at];
        duty_round(p, (enum duty)at);
        pace(p, 4);
        share_wait(p, &share, 1);
    }
}

/* ---- one start of a node */
bool proc_open(struct proc *p, struct err *err)
{
    struct cw *cw = p->cw;
    char id[32];
    const struct catalog_options opt = {.shards = cw->shards,
                                        .snapshot_retention_us = HOUR_US,
                                        .fence_us = cw->fence_us,
                                        .node_id = id,
                                        .endpoint = "",
                                        .filters_min = 2};

    (void)snprintf(id, sizeof(id), "node%u", p->n->node->id);
    p->os = sim_os_new(p->n->node);
    p->store = sim_store_client(cw->store, p->n->node);
    enum err_code rc = catalog_open(p->os, p->store, &opt, &p->cat, err);
    check_rc(p, "open", rc, err);
    if (rc != ERR_OK)
        return false;
    struct lane_identity header = p->disk->header;
    header.upto = p->disk->count;
    rc = catalog_session_open(p->cat, &header, persist, p, &p->committed, err);
    check_rc(p, "session", rc, err);
    if (rc != ERR_OK)
        return false;
    world_trace(cw->world, "session on lane %s, committed %" PRIu64, header.lane, p->committed);
    WORLD_CHECK(cw->world,
                !p->committed || bucket_segment_committed(cw->bucket, slice_str(p->disk->header.wal_id), p->committed),
                "I8", "told that segment %" PRIu64 " is committed, it is on no chain", p->committed);
    WORLD_CHECK(cw->world, !attached(p) || p->committed <= p->disk->count, "I8",
                "segment %" PRIu64 " is committed, the WAL ends before it", p->committed);
    return true;
}

void proc_main(void *arg)
{
    struct proc *p = arg;
    struct world *w = p->cw->world;
    struct sim_node *n = p->n->node;
    struct err err;

    while (!proc_open(p, &err)) {
        catalog_close(p->cat);
        p->cat = NULL;
        p->stop |= !attached(p); /* a server that can not write its WAL's header exits */
        if (over(p))
            return;
        pace(p, 1);
    }
    p->ready = true;
    p->fibers[0] = world_spawn(w, n, "client", client, p);
    p->fibers[1] = world_spawn(w, n, "flush", flusher, p);
    p->fibers[2] = world_spawn(w, n, "maintain", maintain, p);
    p->fibers[3] = world_spawn(w, n, "fold", folder, p);
}

struct proc *proc_start(struct cnode *n, void (*fn)(void *arg))
{
    struct proc *p = mem_zalloc(sizeof(*p));

    *p = (struct proc){.cw = n->cw, .n = n, .disk = n->disk};
    p->attached = ++n->disk->attached;
    if (n->disk->count)
        n->disk->segments[n->disk->count - 1].sealed = true; /* recovery begins a new segment */
    n->proc = p;
    node_up(n->node);
    p->fibers[0] = world_spawn(n->cw->world, n->node, "main", fn, p);
    return p;
}

static struct disk *disk_make(struct cw *cw)
{
    struct disk *d = mem_zalloc(sizeof(*d));
    uint64_t id = rng_next(world_workload(cw->world));

    (void)snprintf(d->header.wal_id, sizeof(d->header.wal_id), "%016" PRIx64 "%016zx", id, cw->disks_count);
    *ARRAY_PUSH(cw->disks, cw->disks_count, cw->disks_cap) = d;
    return d;
}

/* ---- what happens to nodes */
static void uncut_later(void *arg)
{
    ((struct sim_node *)arg)->store_cut = false;
}

/* The disk of `from` goes to `to`, a fresh one takes its place. A process that runs on `from` does not know yet. */
void disk_move(struct cnode *from, struct cnode *to, void (*fn)(void *arg))
{
    struct disk *d = from->disk;

    if (to->node->up)
        node_crash(to->node, true);
    world_trace(from->cw->world, "the disk of node%u goes to node%u", from->node->id, to->node->id);
    if (from->proc && from->proc->disk == d && attached(from->proc))
        from->proc->segments_max = d->count;
    from->disk = to->disk;
    to->disk = d;
    (void)proc_start(to, fn);
}

static void next_round(struct cw *cw)
{
    cw->round++;
    waitq_wake(cw->world, &cw->rounds, true);
}

static void node_event(struct cw *cw, struct cnode *n)
{
    struct world *w = cw->world;
    struct rng *r = world_rng(w);
    int64_t span = rng_skewed(r, SIM_SECOND, 5 * SIM_HOUR);

    switch (rng_below(r, 10)) {
    case 0: node_crash(n->node, rng_chance(r, 500)); break;
    case 1:
    case 2:
        n->node->crash_in = 1 + rng_below(r, 200);
        n->node->crash_kill = rng_chance(r, 500);
        break;
    case 3:
    case 4: node_pause_for(n->node, span); break;
    case 5:
        n->node->store_cut = true;
        world_at(w, world_now(w) + span, uncut_later, n->node);
        break;
    case 6: n->node->clock_offset_us = rng_span(r, -2 * SIM_DAY, 2 * SIM_DAY); break;
    case 7: n->proc->stop = true; break;
    case 8:
    case 9:
        if (cw->nodes_count > 1) {
            struct cnode *to = cw->nodes[rng_below(r, cw->nodes_count)];
            if (to != n)
                disk_move(n, to, proc_main);
        }
        break;
    default: break;
    }
}

static bool proc_over(const struct proc *p)
{
    for (size_t i = 0; i < ARRAY_LEN(p->fibers); i++)
        if (p->fibers[i] && !fiber_over(p->fibers[i]))
            return false;
    return true;
}

/* A process that was asked to stop: flush, SEAL, and gone. */
static void stop_main(void *arg)
{
    struct proc *p = arg;
    struct err err;

    if (flush(p, &err) == ERR_OK && rng_chance(world_rng(p->cw->world), 800))
        check_rc(p, "seal", catalog_seal(p->cat, &err), &err);
    catalog_close(p->cat);
    node_crash(p->n->node, true);
}

static void step_node(struct cw *cw, struct cnode *n)
{
    struct rng *r = world_rng(cw->world);

    if (!n->node->up) {
        if (rng_chance(r, 500))
            (void)proc_start(n, proc_main);
    } else if (n->proc->stop && proc_over(n->proc)) {
        if (n->proc->ready) {
            n->proc->ready = false;
            n->proc->fibers[0] = world_spawn(cw->world, n->node, "stop", stop_main, n->proc);
        } else if (!n->node->paused) {
            node_crash(n->node, true);
        }
    } else if (rng_chance(r, 250)) {
        node_event(cw, n);
    }
}

static void chaos(struct cw *cw)
{
    struct rng *r = world_rng(cw->world);
    unsigned steps = 5 + (unsigned)rng_below(r, 12);

    for (unsigned i = 0; i < steps; i++) {
        for (unsigned k = 0; k < cw->nodes_count; k++)
            step_node(cw, cw->nodes[k]);
        if (rng_chance(r, 60)) {
            sim_store_clock_jump(cw->store, rng_span(r, -SIM_HOUR, 3 * SIM_HOUR));
            bucket_clock(cw->bucket);
        }
        next_round(cw);
        world_sleep(cw->world, rng_skewed(r, cw->pace_us, cw->pace_us * 10));
        if (rng_chance(r, 100))
            world_sleep(cw->world, rng_span(r, SIM_HOUR, 3 * SIM_HOUR)); /* slots get old enough to go */
    }
}

/* ---- rest */
static void settle(struct cw *cw)
{
    int64_t hold = sim_store_faults(cw->store)->hold_us_max;
    *sim_store_faults(cw->store) = (struct sim_store_faults){.hold_us_max = hold, .page_max = 1000};

    for (unsigned k = 0; k < cw->nodes_count; k++) {
        node_resume(cw->nodes[k]->node);
        cw->nodes[k]->node->store_cut = false;
        cw->nodes[k]->node->crash_in = cw->nodes[k]->node->pause_in = 0;
    }
    world_sleep(cw->world, 10 * cw->pace_us);
    cw->stop = true;
    next_round(cw);
    world_sleep(cw->world, hold + SIM_HOUR); /* held requests land; who waits for one goes on */
    for (unsigned k = 0; k < cw->nodes_count; k++)
        if (cw->nodes[k]->node->up)
            node_crash(cw->nodes[k]->node, true);
    cw->quiet = true;
}

/* The last start of a disk: everything acknowledged is committed. */
static void last_flush(void *arg)
{
    struct proc *p = arg;
    struct err err;

    if (!proc_open(p, &err) || flush(p, &err) != ERR_OK)
        return;
    for (unsigned k = 0; k < NAMES; k++)
        query(p, k);
    check_rc(p, "seal", catalog_seal(p->cat, &err), &err);
    catalog_close(p->cat);
    p->final_ok = true;
}

static void compact_all(struct proc *p)
{
    struct catalog_work w;
    struct err err;

    do {
        w = (struct catalog_work){0};
        check_rc(p, "compact", duty(p, DUTY_COMPACT, &w, &err), &err);
    } while (w.inputs_compacted || w.files_indexed);
}

static void check_report(struct proc *p)
{
    struct storage_report r;
    struct err err;

    check_rc(p, "report", catalog_report(p->cat, &r, NULL, &err), &err);
    WORLD_CHECK(p->cw->world, !r.garbage.objects && !r.limbo.objects && !r.unknown.objects, "I12",
                "at rest the report says %" PRIu64 " garbage, %" PRIu64 " limbo, %" PRIu64 " unknown",
                r.garbage.objects, r.limbo.objects, r.unknown.objects);
}

/* Every acknowledged row of a live incarnation, exactly once, by the head and by a query. */
static void check_rows(struct proc *p)
{
    struct cw *cw = p->cw;

    for (unsigned k = 0; k < NAMES; k++) {
        _cleanup_(stream_version_unrefp) struct stream_version *v = NULL;
        struct seen s = {0};
        struct err err;
        enum err_code rc = catalog_resolve(p->cat, slice_str(names[k]), &v, &err);
        if (rc == ERR_NOT_FOUND)
            continue;
        if (rc == ERR_OK)
            rc = read_version(p, v, &s, &err);
        check_rc(p, "read back", rc, &err);
        if (rc != ERR_OK)
            continue;
        slice sid = sid_slice(stream_version_sid(v));
        WORLD_CHECK(cw->world, bucket_name_live(cw->bucket, slice_str(names[k]), sid), "I1",
                    "%s resolves to %s, which is not LIVE", names[k], stream_version_sid(v)->text);
        check_once(p, &s, "the last head");
        size_t count;
        struct sim_row *head = bucket_rows(cw->bucket, sid, &count);
        WORLD_CHECK(cw->world, count == s.count, "I4", "the tail head of %s has %zu rows, a query reads %zu", names[k],
                    count, s.count);
        free(head);
        for (size_t d = 0; d < cw->disks_count; d++)
            for (size_t g = 0; g < cw->disks[d]->count; g++)
                for (size_t i = 0; i < cw->disks[d]->segments[g].count; i++) {
                    const struct row *row = &cw->disks[d]->segments[g].rows[i];
                    bool due = memcmp(row->sid.text, sid.ptr, 26) == 0 && !bucket_row_expired(cw->bucket, row->row.id);
                    WORLD_CHECK(cw->world, !due || bucket_row_in_set(cw->bucket, row->row.id), "I4",
                                "row %" PRIu64 " of %s is lost", row->row.id, names[k]);
                }
        free(s.rows);
    }
}

static void must(struct proc *p, enum duty what)
{
    struct catalog_work w = {0};
    struct err err;
    enum err_code rc = duty(p, what, &w, &err);

    check_rc(p, "at rest", rc, &err);
}

static void janitor(void *arg)
{
    struct proc *p = arg;
    struct cw *cw = p->cw;
    struct err err;

    p->store = sim_store_client(cw->store, p->n->node);
    for (unsigned k = 0; k < cw->nodes_count; k++) { /* an operator says that the others are gone for good */
        char key[64];
        (void)snprintf(key, sizeof(key), ".sluice/nodes/node%u.json", k);
        check_rc(p, "unregister", p->store->ops->remove(p->store, slice_str(key), &err), &err);
    }
    if (!proc_open(p, &err))
        return;
    must(p, DUTY_FOLD);
    world_sleep(cw->world, 2 * SIM_DAY + SIM_HOUR); /* claims of the dead, hours that are not over, wrong clocks */
    must(p, DUTY_EXPIRE);
    compact_all(p);
    must(p, DUTY_GC); /* seals abandoned lanes */
    must(p, DUTY_FOLD);
    must(p, DUTY_SCRUB);
    world_sleep(cw->world, 4 * SIM_HOUR);
    must(p, DUTY_RECONCILE);
    must(p, DUTY_GC);
    must(p, DUTY_GC); /* heads first, then what only they named */
    bucket_check_rest(cw->bucket, false);
    check_rows(p);
    world_sleep(cw->world, 9 * SIM_DAY);
    must(p, DUTY_RECONCILE);
    bucket_check_rest(cw->bucket, true);
    check_report(p);
    catalog_close(p->cat);
    p->final_ok = true;
}

static void run_final(struct cw *cw, struct cnode *n, void (*fn)(void *arg), const char *what)
{
    struct proc *p = proc_start(n, fn);

    for (unsigned i = 0; i < 24 * 40 && !fiber_over(p->fibers[0]); i++)
        world_sleep(cw->world, SIM_HOUR);
    WORLD_CHECK(cw->world, p->final_ok, "liveness", "%s does not end", what);
    node_crash(n->node, true);
}

static void crashed(struct sim_node *n, bool kill)
{
    struct cw *cw = n->user;

    if (!kill)
        sim_store_crashed(cw->store, n);
}

/* How many nodes; everything else into *cw. */
static unsigned knobs(struct cw *cw)
{
    struct rng *r = world_rng(cw->world);
    static const int64_t paces[] = {2 * SIM_SECOND, SIM_MINUTE, 10 * SIM_MINUTE, 40 * SIM_MINUTE};
    static const unsigned base[DUTIES] = {8, 4, 2, 3, 1, 1, 1};
    struct sim_store_faults *f = sim_store_faults(cw->store);

    unsigned nodes = 2 + (unsigned)rng_below(r, 3);
    cw->shards = 1 + (uint32_t)rng_below(r, 3);
    cw->pace_us = paces[rng_below(r, ARRAY_LEN(paces))];
    cw->fence_us = rng_chance(r, 300) ? 15 * SIM_SECOND : 0;
    cw->drops = rng_chance(r, 700) ? (unsigned)rng_below(r, 80) : 0;
    cw->naps = rng_chance(r, 400) ? (unsigned)rng_below(r, 300) : 0;
    for (unsigned i = 0; i < DUTIES; i++)
        cw->weights[i] = base[i] * (1 + (unsigned)rng_below(r, 4));
    *f = (struct sim_store_faults){.hold_us_max = rng_skewed(r, SIM_MINUTE, 8 * SIM_HOUR),
                                   .page_max = 1 + (unsigned)rng_below(r, 30),
                                   .parallel = (unsigned)rng_below(r, 2) * (1 + (unsigned)rng_below(r, 16))};
    f->in_flight = (unsigned)rng_below(r, 300);
    if (rng_chance(r, 500))
        f->lost = (unsigned)rng_below(r, 100);
    if (rng_chance(r, 500))
        f->held = (unsigned)rng_below(r, 60);
    if (rng_chance(r, 500))
        f->stalled = (unsigned)rng_below(r, 60);
    if (rng_chance(r, 500))
        f->doubled = (unsigned)rng_below(r, 100);
    if (rng_chance(r, 500))
        f->refused = (unsigned)rng_below(r, 60);
    f->volatile_uploads = rng_chance(r, 300);
    return nodes;
}

struct cnode *cw_add_node(struct cw *cw)
{
    struct cnode *n = mem_zalloc(sizeof(*n));

    *n = (struct cnode){.cw = cw, .node = world_node(cw->world), .disk = disk_make(cw)};
    n->node->user = cw;
    n->node->on_crash = crashed;
    cw->nodes[cw->nodes_count++] = n;
    return n;
}

void cw_finish(struct cw *cw)
{
    settle(cw);
    for (unsigned k = 0; k < cw->nodes_count; k++)
        run_final(cw, cw->nodes[k], last_flush, "the last flush");
    run_final(cw, cw->nodes[0], janitor, "cleaning up");
}

static void supervise(void *arg)
{
    struct cw *cw = arg;

    for (unsigned k = knobs(cw); k > 0; k--)
        (void)proc_start(cw_add_node(cw), proc_main);
    chaos(cw);
    cw_finish(cw);
}

struct cw *cw_new(struct world *w)
{
    struct cw *cw = mem_zalloc(sizeof(*cw));

    cw->world = w;
    cw->store = sim_store_new(w);
    cw->bucket = bucket_new(w, cw->store);
    return cw;
}

static void run(struct world *w)
{
    (void)world_run(w, world_spawn(w, NULL, "supervisor", supervise, cw_new(w)), 3000000);
}

static bool catches(unsigned k)
{
    return (k >= 1 && k <= 16 && k != 6 && k != 8 && k != 10 && k != 14) || k >= 34; /* those need a script */
}

const struct workload workload_catalog = {"catalog", run, catches};
