#include "backup/backup.h"

#include <inttypes.h>

#include "backup/backup_int.h"

#include "base/banned.h"

struct pass {
    const struct backup_env *env;
    struct store *from, *to;
    const struct backup_run *run;
    struct backup_totals *totals;
};

/* ---- the place */

static void claim_body(const char *cluster, struct buf *out)
{
    struct jobject o = {0};

    jobject_text(&o, "backup_of", slice_str(cluster));
    jobject_text(&o, CLUSTER_CLOSED, slice_lit("it holds backups, which `sluice restore` reads"));
    jobject_int(&o, "min_reader", 2); /* for servers that do not know the member above */
    jobject_int(&o, "min_writer", 2);
    jobject_end(&o, out);
}

static enum err_code place_claim(const struct seq_io *io, const char *cluster, struct err *err)
{
    for (;;) {
        _cleanup_(place_done) struct place place;
        _cleanup_(buf_done) struct buf body = BUF_INIT;
        TRY(place_look(io, &place, err));
        if (strcmp(place.backup_of, cluster) == 0)
            return ERR_OK;
        if (place.backup_of[0])
            return err_set(err, ERR_INVALID, "this place holds backups of another store, %s: name one of its own",
                           place.backup_of);
        if (place.tail != SLOT_NONE) /* or half a restore */
            return err_set(err, ERR_INVALID, "this place is a store itself: backups want an empty place");
        TRY(place_empty(io->store, "backups want an empty place", err));
        claim_body(cluster, &body);
        enum err_code rc = place_append(io, &place, buf_view(&body), err);
        if (rc != ERR_OK && rc != ERR_CONFLICT)
            return rc;
    }
}

/* ---- the point */

static enum err_code positions_check(const struct catalog *cat, const struct cut *c, const struct backup_run *run,
                                     struct err *err)
{
    for (size_t i = 0; i < run->positions_count; i++) {
        const struct backup_position *p = &run->positions[i];
        bool in = false;
        if (strcmp(p->cluster, catalog_cluster(cat)) != 0)
            return err_set(err, ERR_INVALID,
                           "the server that was asked to flush serves another store (%s) than the one to back up (%s): "
                           "--server names the server, --store or --data its store",
                           p->cluster, catalog_cluster(cat));
        for (size_t k = 0; k < c->lanes_count; k++)
            in |= strcmp(c->lanes[k].name, p->lane) == 0 && c->lanes[k].last >= p->slot;
        if (!in)
            return err_set(err, ERR_UNAVAILABLE, "the store does not show the record %s/%" PRIu64 " of a server yet",
                           p->lane, p->slot);
    }
    return ERR_OK;
}

/* Who may hold acknowledged rows that are in no file: nodes that are registered, and whoever left a lane open, however long ago. */
struct unasked {
    struct point *point;
    const struct backup_run *run;
    size_t cap;
    slice *lanes; /* of nodes that are named already */
    size_t lanes_count, lanes_cap;
};

static void note(struct unasked *u, slice who)
{
    struct point *p = u->point;
    *ARRAY_PUSH(p->unasked, p->unasked_count, u->cap) = arena_copy(&p->cut.arena, who);
}

static void note_node(void *arg, const struct cut_node *n)
{
    struct unasked *u = arg;
    struct point *p = u->point;
    slice id = slice_str(n->node_id);

    for (size_t i = 0; i < u->run->asked_count; i++)
        if (slice_eq(u->run->asked[i], id))
            return;
    *ARRAY_PUSH(u->lanes, u->lanes_count, u->lanes_cap) = arena_copy(&p->cut.arena, n->lane);
    for (size_t i = 0; i < p->unasked_count; i++) /* two registrations of one */
        if (slice_eq(p->unasked[i], id))
            return;
    note(u, id);
}

static enum err_code note_lane(struct unasked *u, const struct seq_io *io, const struct cut_lane *l, struct err *err)
{
    _cleanup_(buf_done) struct buf seq = BUF_INIT, who = BUF_INIT;
    _cleanup_(slot_done) struct slot last = {0};
    slice lane = slice_str(l->name), type;

    for (size_t i = 0; i < u->run->positions_count; i++)
        if (slice_eq(slice_str(u->run->positions[i].lane), lane))
            return ERR_OK;
    for (size_t i = 0; i < u->lanes_count; i++)
        if (slice_eq(u->lanes[i], lane))
            return ERR_OK;
    seq_lane(&seq, lane);
    TRY(seq_read(io, buf_view(&seq), SLOT_LANE, l->last, &last, err));
    if (json_get_text(last.body, "type", &type) && slice_eq(type, slice_lit("seal")))
        return ERR_OK;
    buf_fmt(&who, "(of lane %s)", l->name);
    note(u, buf_view(&who));
    return ERR_OK;
}

static enum err_code nodes_note(struct pass *s, struct catalog *cat, struct point *p, struct err *err)
{
    const struct seq_io from = {s->env->os, s->from};
    struct unasked u = {.point = p, .run = s->run};
    enum err_code rc = cut_nodes(cat, note_node, &u, err);

    for (size_t i = 0; i < p->cut.lanes_count && rc == ERR_OK; i++)
        rc = note_lane(&u, &from, &p->cut.lanes[i], err);
    slice *owned = arena_alloc(&p->cut.arena, p->unasked_count * sizeof(*owned)); /* one ending for all */
    for (size_t i = 0; i < p->unasked_count; i++)
        owned[i] = p->unasked[i];
    free(p->unasked);
    free(u.lanes);
    p->unasked = owned;
    return rc;
}

/* *again: what the pass counted on may have been removed. */
static enum err_code point_append(const struct seq_io *io, struct seq_tail tail, struct point *p, bool *again,
                                  struct err *err)
{
    _cleanup_(buf_done) struct buf body = BUF_INIT;

    point_encode(p, &body);
    for (;;) {
        enum err_code rc = points_append(io, &tail, buf_view(&body), &p->nonce, err);
        p->number = tail.slot + 1;
        if (rc != ERR_CONFLICT)
            return rc;
        TRY(points_since(io, &tail, again, err)); /* a backup beside this one is no matter */
        if (*again)
            return err_set(err, ERR_CONFLICT, "points were removed meanwhile");
    }
}

/* ---- a pass */

static bool tell(const struct backup_env *env, const char *what)
{
    const struct backup_progress now = {.what = what};
    return !env->progress || env->progress(env->arg, &now);
}

static enum err_code pass_copy(struct pass *s, struct catalog *cat, struct point *p, bool *gone, struct err *err)
{
    _cleanup_(jobs_done) struct jobs jobs = {0};

    enum err_code rc = imports_cut(cat, s->from, p, err);
    *gone = rc == ERR_NOT_FOUND;
    TRY(rc);
    p->taken_us = os_wall_us(s->env->os);
    p->cluster = arena_copy(&p->cut.arena, slice_str(catalog_cluster(cat)));
    TRY(positions_check(cat, &p->cut, s->run, err));
    TRY(nodes_note(s, cat, p, err));
    rc = jobs_add(&jobs, p, NULL, 0, err);
    *gone = rc == ERR_NOT_FOUND; /* a manifest: its head was superseded long ago */
    TRY(rc);
    jobs_sort(&jobs);
    p->rows = jobs.rows;
    p->files = s->totals->files = jobs.files;
    p->bytes = s->totals->bytes = jobs.bytes;
    s->totals->slots = jobs.count - jobs.files;
    if (!tell(s->env, "looking what is there already"))
        return err_set(err, ERR_CANCELLED, "interrupted");
    TRY(jobs_mark(&jobs, s->to, s->totals, err));
    return jobs_copy(s->env, &jobs, "backup", s->from, s->to, s->totals, gone, err);
}

static enum err_code pass_run(struct pass *s, struct point *out, bool *gone, struct err *err)
{
    _cleanup_(catalog_closep) struct catalog *cat = NULL;
    _cleanup_(point_done) struct point p = {0};
    const struct seq_io to = {s->env->os, s->to};
    struct seq_tail tail;

    if (!tell(s->env, "reading the catalog"))
        return err_set(err, ERR_CANCELLED, "interrupted");
    s->totals->passes++;
    TRY(look_open(s->env->os, s->from, NULL, NULL, &cat, err));
    if (s->totals->passes == 1)
        TRY(place_claim(&to, catalog_cluster(cat), err));
    TRY(points_tail(&to, &tail, err));
    TRY(pass_copy(s, cat, &p, gone, err));
    TRY(point_append(&to, tail, &p, gone, err));
    *out = p;
    p = (struct point){0};
    return ERR_OK;
}

enum err_code backup_take(const struct backup_env *env, struct store *from, struct store *to,
                          const struct backup_run *run, struct point *out, struct backup_totals *totals,
                          struct err *err)
{
    struct pass s = {env, from, to, run, totals};
    bool gone = true;
    enum err_code rc = ERR_OK;

    while (gone && totals->passes < BACKUP_PASSES_MAX) {
        gone = false;
        rc = pass_run(&s, out, &gone, err);
    }
    if (gone)
        (void)err_wrap(err,
                       "files vanished in each of %d passes, as streams are deleted or compacted faster than they are "
                       "copied; what was copied is kept: run the same again",
                       BACKUP_PASSES_MAX);
    return rc;
}
