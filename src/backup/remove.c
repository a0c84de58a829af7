/* remove.c: points that nobody wants any more, and then the objects that no point names. BEGIN and END around it: backup.h. Points go first, so
 * that none ever names what is not there; whatever a point of those that stay names must be readable, or nothing is removed. */
#include <inttypes.h>

#include "backup/backup_int.h"

#include "base/banned.h"

struct removing {
    const struct backup_env *env;
    struct seq_io io;
    struct seq_tail begin; /* our note, or that of a removal that did not end */
    uint64_t *all;         /* points */
    size_t count;
    bool *goes; /* [count] */
    uint64_t points;
};

/* ---- notes */

static enum err_code note_append(struct removing *r, const struct seq_tail *tail, const char *what, struct err *err)
{
    _cleanup_(buf_done) struct buf body = BUF_INIT;
    struct jobject o = {0};
    struct nonce nonce;

    jobject_text(&o, "removal", slice_str(what));
    jobject_end(&o, &body);
    TRY(points_append(&r->io, tail, buf_view(&body), &nonce, err));
    r->begin = (struct seq_tail){tail->slot + 1, nonce};
    return ERR_OK;
}

/* After a BEGIN without an END there is nothing else: no backup appends to it. */
static enum err_code begin(struct removing *r, struct err *err)
{
    for (;;) {
        struct seq_tail tail;
        struct err why = {0};
        enum err_code rc = points_tail(&r->io, &tail, &why);
        if (rc == ERR_CONFLICT) {
            r->begin = tail;
            return ERR_OK;
        }
        if (rc == ERR_OK)
            rc = note_append(r, &tail, "begin", &why);
        if (rc == ERR_OK)
            return ERR_OK;
        if (rc != ERR_CONFLICT) {
            if (err)
                *err = why;
            return rc;
        }
    }
}

/* ---- points */

static enum err_code choose(struct removing *r, const struct backup_removal *what, struct err *err)
{
    TRY(points_list(&r->io, &r->all, &r->count, err));
    r->goes = mem_zalloc((r->count + 1) * sizeof(*r->goes));
    for (size_t i = 0; i < what->points_count; i++) {
        bool found = false;
        for (size_t k = 0; k < r->count; k++)
            if (r->all[k] == what->points[i])
                found = r->goes[k] = true;
        if (!found)
            return err_set(err, ERR_NOT_FOUND, "there is no point %" PRIu64 ": `sluice backup ls` lists them",
                           what->points[i]);
    }
    for (size_t k = 0; what->keep < r->count && k < r->count - what->keep; k++)
        r->goes[k] = true;
    return ERR_OK;
}

static enum err_code points_drop(struct removing *r, struct err *err)
{
    for (size_t i = 0; i < r->count; i++) {
        _cleanup_(buf_done) struct buf key = BUF_INIT;
        if (!r->goes[i])
            continue;
        seq_points(&key);
        slot_key(&key, (slice){0}, r->all[i]);
        TRY(r->io.store->ops->remove(r->io.store, buf_view(&key), err));
        r->points++;
    }
    return ERR_OK;
}

/* ---- objects */

static void keep_damage(void *arg, slice stream, enum catalog_damage kind, const char *why)
{
    struct err *first = arg;

    if (kind != DAMAGE_OVER && first->code == ERR_OK)
        (void)err_set(first, ERR_CORRUPT, "stream " SLICE_FMT ": %s", SLICE_ARG(stream), why);
}

static enum err_code point_names(struct removing *r, uint64_t number, struct jobs *out, struct err *err)
{
    _cleanup_(catalog_closep) struct catalog *cat = NULL;
    _cleanup_(point_done) struct point p = {0};
    struct store *view = NULL;
    struct err damage = {0};

    TRY(point_read(&r->io, number, &p, err));
    enum err_code rc = point_open(r->env->os, r->io.store, &p, keep_damage, &damage, &view, &cat, err);
    if (rc == ERR_OK)
        rc = jobs_add(out, &p, NULL, 0, err);
    point_done(&p); /* before what it reads through */
    catalog_close(move_ptr(cat));
    if (view)
        view->ops->free(view);
    if (damage.code != ERR_OK) {
        rc = damage.code;
        if (err)
            *err = damage;
    }
    if (rc == ERR_CORRUPT || rc == ERR_NOT_FOUND)
        (void)err_wrap(
            err, "point %" PRIu64 " is damaged, and nobody knows which objects are its own: remove it too, or put back",
            number);
    return rc;
}

static enum err_code named(struct removing *r, struct jobs *out, struct err *err)
{
    for (size_t i = 0; i < r->count; i++)
        if (!r->goes[i])
            TRY(point_names(r, r->all[i], out, err));
    jobs_sort(out);
    return ERR_OK;
}

struct sifting {
    const struct jobs *named;
    struct jobs *rest;
};

static int by_key(const void *a, const void *b)
{
    return slice_cmp(((const struct job *)a)->key, ((const struct job *)b)->key);
}

static bool sift(void *arg, const struct store_list_item *item)
{
    struct sifting *s = arg;
    const struct job want = {.key = item->key};

    if (slice_starts(item->key, slice_lit(".sluice/cluster/")) ||
        slice_starts(item->key, slice_lit(".sluice/backup/")) ||
        (s->named->count && bsearch(&want, s->named->items, s->named->count, sizeof(want), by_key)))
        return true;
    *ARRAY_PUSH(s->rest->items, s->rest->count, s->rest->cap) =
        (struct job){.key = arena_copy(&s->rest->arena, item->key), .bytes = item->meta.size};
    return true;
}

static enum err_code remove_job(void *arg, const struct job *job, struct err *err)
{
    struct store *s = arg;
    return s->ops->remove(s, job->key, err);
}

static enum err_code objects_drop(struct removing *r, const struct jobs *named, struct backup_totals *totals,
                                  struct err *err)
{
    _cleanup_(jobs_done) struct jobs rest = {0};
    struct sifting s = {named, &rest};

    TRY(r->io.store->ops->list(r->io.store, slice_lit(""), slice_lit(""), false, sift, &s, err));
    TRY(jobs_run(r->env, &rest, "remove", remove_job, r->io.store, err));
    totals->files = rest.count;
    for (size_t i = 0; i < rest.count; i++)
        totals->bytes += rest.items[i].bytes;
    return ERR_OK;
}

/* What stays is read before anything goes. No point is added between BEGIN and END. */
static enum err_code remove_all(struct removing *r, const struct backup_removal *what, struct backup_totals *totals,
                                struct err *err)
{
    _cleanup_(jobs_done) struct jobs stay = {0};

    TRY(choose(r, what, err)); /* a mistake leaves no note */
    free(move_ptr(r->all));
    free(move_ptr(r->goes));
    TRY(begin(r, err));
    TRY(choose(r, what, err));
    enum err_code rc = named(r, &stay, err);
    if (rc == ERR_OK)
        rc = points_drop(r, err);
    if (rc == ERR_OK)
        rc = objects_drop(r, &stay, totals, err);
    struct seq_tail at = r->begin;
    if (rc == ERR_OK)
        return note_append(r, &at, "end", err);
    if (rc != ERR_UNKNOWN) { /* nothing of ours is under way any more; a request without an answer may be */
        enum err_code ended = note_append(r, &at, "end", NULL);
        (void)ended; /* the next removal ends it */
    }
    return rc;
}

enum err_code backup_remove(const struct backup_env *env, struct store *place, const struct backup_removal *what,
                            uint64_t *points, struct backup_totals *totals, struct err *err)
{
    struct removing r = {.env = env, .io = {env->os, place}};
    enum err_code rc = remove_all(&r, what, totals, err);

    *points = r.points;
    free(r.all);
    free(r.goes);
    return rc;
}
