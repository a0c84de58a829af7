/* restore.c: a point into an empty place. The order makes it safe to interrupt: the place is closed, everything is there, it is opened. */
#include <inttypes.h>

#include "backup/backup_int.h"
#include "base/ulid.h"

#include "base/banned.h"

/* ---- the place */

struct restoring {
    const struct backup_env *env;
    struct store *from;
    struct seq_io to;
    const struct restore_run *run;
    struct backup_totals *totals;
    struct buf streams; /* those that are wanted, as JSON */
    struct place place;
};

static void streams_text(struct restoring *r)
{
    buf_byte(&r->streams, '[');
    for (size_t i = 0; i < r->run->streams_count; i++) {
        if (i)
            buf_byte(&r->streams, ',');
        buf_json_str(&r->streams, r->run->streams[i]);
    }
    buf_byte(&r->streams, ']');
}

static void close_body(const struct restoring *r, const struct point *p, struct buf *out)
{
    struct jobject o = {0};
    char nonce[33];

    nonce_hex(&p->nonce, nonce);
    jobject_text(&o, "restore_of", slice_str(nonce));
    jobject_text(&o, CLUSTER_CLOSED,
                 slice_lit("a restore into it has not ended; run the same `sluice restore` again, it goes on"));
    buf_slice(jobject_put(&o, "streams"), buf_view(&r->streams));
    jobject_int(&o, "min_reader", 2);
    jobject_int(&o, "min_writer", 2);
    jobject_end(&o, out);
}

/* Takes an empty place, or goes on with what was interrupted. */
static enum err_code place_close(struct restoring *r, const struct point *p, struct err *err)
{
    char nonce[33];

    nonce_hex(&p->nonce, nonce);
    for (;;) {
        _cleanup_(buf_done) struct buf body = BUF_INIT;
        place_done(&r->place);
        TRY(place_look(&r->to, &r->place, err));
        bool same = strcmp(r->place.restore_of, nonce) == 0;
        if (r->place.done)
            return err_set(err, ERR_INVALID,
                           "a restore wants an empty place, and this one is a store%s: name another with --store or "
                           "--data",
                           same ? " that was restored from this very point" : "");
        if (same && slice_eq(buf_view(&r->place.streams), buf_view(&r->streams)))
            return ERR_OK;
        if (r->place.restore_of[0])
            return err_set(
                err, ERR_INVALID,
                "another restore into this place has not ended: run that one again with the same --point and "
                "--stream, or empty the place");
        if (r->place.tail != SLOT_NONE)
            return err_set(err, ERR_INVALID,
                           "a restore wants an empty place, and this one holds backups: name another "
                           "with --store or --data");
        TRY(place_empty(r->to.store, "a restore wants an empty place", err));
        close_body(r, p, &body);
        enum err_code rc = place_append(&r->to, &r->place, buf_view(&body), err);
        if (rc != ERR_OK && rc != ERR_CONFLICT)
            return rc;
    }
}

/* ---- lanes: what a server that opens them finds on top */

static enum err_code lane_close(struct restoring *r, const struct cut_lane *l, struct err *err)
{
    _cleanup_(buf_done) struct buf seq = BUF_INIT, body = BUF_INIT;
    _cleanup_(slot_done) struct slot last = {0};
    struct jobject o = {0};
    slice session;

    seq_lane(&seq, slice_str(l->name));
    TRY(seq_read_tail(&r->to, buf_view(&seq), SLOT_LANE, &last, err));
    if (last.seq != l->last) /* done before an interruption */
        return ERR_OK;
    json_t *carried = json_object_get(last.body, "carried");
    if (carried)
        json_put(jobject_put(&o, "carried"), carried);
    if (json_get_text(last.body, "session", &session))
        jobject_text(&o, "session", session);
    jobject_text(&o, "type", slice_lit("seal"));
    jobject_text(&o, "reason", slice_lit("restored"));
    jobject_end(&o, &body);
    struct append a = {.seq = buf_view(&seq),
                       .kind = APPEND_OTHER,
                       .type = SLOT_LANE,
                       .tail = {last.seq, last.nonce},
                       .body = buf_view(&body)};
    seq_nonce(&r->to, &a.nonce);
    return seq_append(&r->to, &a, err);
}

static struct ulid ulid_now(struct os *os)
{
    uint8_t random[10];

    os->ops->random(os, random, sizeof(random));
    return ulid_make(os_wall_us(os) / 1000, random);
}

static enum err_code place_open(struct restoring *r, const struct point *p, struct err *err)
{
    _cleanup_(buf_done) struct buf body = BUF_INIT;
    struct jobject o = {0};
    struct ulid cluster = ulid_now(r->env->os);
    char nonce[33];

    nonce_hex(&p->nonce, nonce);

    for (size_t i = 0; i < p->cut.lanes_count; i++)
        TRY(lane_close(r, &p->cut.lanes[i], err));
    jobject_text(&o, "cluster", slice_str(cluster.text));
    jobject_text(&o, "restore_of", slice_str(nonce));
    jobject_text(&o, "restored_from", p->cluster);
    jobject_int(&o, "restored_taken", p->taken_us);
    jobject_int(&o, "epoch", 1);
    jobject_int(&o, "shards", p->cut.shards_count);
    jobject_int(&o, "min_reader", 1);
    jobject_int(&o, "min_writer", 1);
    buf_str(jobject_put(&o, "features"), "[]");
    jobject_text(&o, "store", slice_str(r->to.store->ops->describe(r->to.store)));
    jobject_end(&o, &body);
    enum err_code rc = place_append(&r->to, &r->place, buf_view(&body), err);
    return rc == ERR_CONFLICT ? err_set(err, ERR_CONFLICT, "another restore was faster") : rc;
}

/* ---- restoring */

static void keep_damage(void *arg, slice stream, enum catalog_damage kind, const char *why)
{
    struct err *first = arg;

    if (kind != DAMAGE_OVER && first->code == ERR_OK)
        (void)err_set(first, ERR_CORRUPT, "stream " SLICE_FMT ": %s", SLICE_ARG(stream), why);
}

static enum err_code streams_check(const struct restore_run *run, const struct point *p, struct err *err)
{
    for (size_t i = 0; i < run->streams_count; i++) {
        bool found = false;
        for (size_t k = 0; k < p->cut.streams_count; k++)
            found |= slice_eq(run->streams[i], p->cut.streams[k].name);
        if (!found)
            return err_set(err, ERR_NOT_FOUND, "there is no stream " SLICE_FMT " in point %" PRIu64,
                           SLICE_ARG(run->streams[i]), p->number);
    }
    return ERR_OK;
}

static enum err_code restore_objects(struct restoring *r, struct point *p, struct err *err)
{
    _cleanup_(jobs_done) struct jobs jobs = {0};
    bool gone;

    TRY(jobs_add(&jobs, p, r->run->streams, r->run->streams_count, err));
    if (r->run->streams_count == 0 && (jobs.files != p->files || jobs.rows != p->rows))
        return err_set(err, ERR_CORRUPT,
                       "point %" PRIu64 " says that it has %" PRIu64 " files of %" PRIu64
                       " rows, and its objects are %" PRIu64 " of %" PRIu64,
                       p->number, p->files, p->rows, jobs.files, jobs.rows);
    jobs_sort(&jobs);
    p->rows = jobs.rows;
    r->totals->files = jobs.files;
    r->totals->bytes = jobs.bytes;
    r->totals->slots = jobs.count - jobs.files;
    TRY(place_close(r, p, err));
    TRY(jobs_mark(&jobs, r->to.store, r->totals, err));
    enum err_code rc = jobs_copy(r->env, &jobs, "restore", r->from, r->to.store, r->totals, &gone, err);
    if (rc == ERR_NOT_FOUND || rc == ERR_CORRUPT)
        (void)err_wrap(err, "the backup is damaged (`sluice backup verify` lists everything that is)");
    return rc;
}

static enum err_code restore_point(struct restoring *r, struct point *p, struct err *err)
{
    _cleanup_(catalog_closep) struct catalog *cat = NULL;
    struct store *view = NULL;
    struct err damage = {0};

    enum err_code rc = streams_check(r->run, p, err);
    if (rc == ERR_OK)
        rc = point_open(r->env->os, r->from, p, keep_damage, &damage, &view, &cat, err);
    if (damage.code != ERR_OK) {
        rc = damage.code;
        if (err)
            *err = damage;
    }
    if (rc == ERR_OK)
        rc = restore_objects(r, p, err);
    if (rc == ERR_OK)
        rc = place_open(r, p, err);
    for (size_t i = 0; i < p->cut.streams_count; i++) { /* they read through the view */
        stream_version_unref(p->cut.streams[i].version);
        p->cut.streams[i].version = NULL;
    }
    catalog_close(move_ptr(cat));
    if (view)
        view->ops->free(view);
    return rc;
}

enum err_code backup_restore(const struct backup_env *env, struct store *from, struct store *to,
                             const struct restore_run *run, struct point *out, struct backup_totals *totals,
                             struct err *err)
{
    struct restoring r = {.env = env, .from = from, .to = {env->os, to}, .run = run, .totals = totals};

    TRY(point_read(&(struct seq_io){env->os, from}, run->point, out, err));
    streams_text(&r);
    enum err_code rc = restore_point(&r, out, err);
    buf_done(&r.streams);
    place_done(&r.place);
    if (rc != ERR_OK)
        point_done(out);
    return rc;
}
