/* verify.c: looking at a place of backups: its points, and whether everything that they name is there and whole. */
#include <inttypes.h>

#include "backup/backup_int.h"

#include "base/banned.h"

/* ---- points */

enum err_code backup_list(const struct backup_env *env, struct store *place, backup_point_fn fn, void *arg,
                          struct err *err)
{
    const struct seq_io io = {env->os, place};
    _cleanup_(freep) uint64_t *all = NULL;
    size_t count;

    TRY(points_list(&io, &all, &count, err));
    for (size_t i = 0; i < count; i++) {
        _cleanup_(point_done) struct point p = {0};
        struct err why = {0};
        enum err_code rc = point_read(&io, all[i], &p, &why);
        if (rc != ERR_OK && rc != ERR_CORRUPT && rc != ERR_INVALID) {
            if (err)
                *err = why;
            return rc;
        }
        fn(arg, &p, all[i], rc == ERR_OK ? NULL : &why);
    }
    return ERR_OK;
}

/* ---- bytes */

struct verifying {
    const struct backup_env *env;
    struct store *place;
    backup_bad_fn bad;
    void *arg;
    struct os_mutex *mu; /* around bad() */
    struct backup_totals *totals;
    slice at; /* where damage of a stream is told */
};

static void tell_bad(struct verifying *v, slice key, const char *why)
{
    os_lock(v->env->os, v->mu);
    v->bad(v->arg, key, why);
    os_unlock(v->env->os, v->mu);
}

static void tell_damage(void *arg, slice stream, enum catalog_damage kind, const char *why)
{
    (void)stream;
    if (kind != DAMAGE_OVER)
        tell_bad(arg, ((struct verifying *)arg)->at, why);
}

static enum err_code read_slot(struct verifying *v, const struct job *job, struct err *err)
{
    _cleanup_(buf_done) struct buf bytes = BUF_INIT;
    _cleanup_(slot_done) struct slot s = {0};

    TRY(v->place->ops->read(v->place, job->key, 0, UINT64_MAX, &bytes, NULL, err));
    return slot_decode(buf_view(&bytes), (enum slot_type)job->type, job->slot, &s, err);
}

static enum err_code read_file(struct verifying *v, const struct job *job, struct err *err)
{
    uint64_t size;
    uint32_t crc;

    TRY(store_fetch(v->env->os, v->place, job->key, NULL, &size, &crc, err));
    if (size != job->bytes)
        return err_set(err, ERR_CORRUPT, "it has %" PRIu64 " bytes, not %" PRIu64, size, job->bytes);
    return crc == job->crc32c ? ERR_OK : err_set(err, ERR_CORRUPT, "its checksum is not what the catalog says");
}

static enum err_code verify_job(void *arg, const struct job *job, struct err *err)
{
    struct verifying *v = arg;
    enum err_code rc = job->type ? read_slot(v, job, err) : read_file(v, job, err);

    if (rc == ERR_OK)
        return ERR_OK;
    if (rc != ERR_CORRUPT && rc != ERR_INVALID && rc != ERR_NOT_FOUND && rc != ERR_IO)
        return rc;
    tell_bad(v, job->key, rc == ERR_NOT_FOUND ? "it is missing" : err->msg);
    return ERR_OK;
}

/* What one point names; a point that cannot be opened is told. */
static enum err_code point_jobs(struct verifying *v, uint64_t number, struct jobs *jobs, struct err *err)
{
    _cleanup_(catalog_closep) struct catalog *cat = NULL;
    _cleanup_(point_done) struct point p = {0};
    _cleanup_(buf_done) struct buf key = BUF_INIT;
    struct store *view = NULL;

    seq_points(&key);
    slot_key(&key, (slice){0}, number);
    v->at = buf_view(&key);
    enum err_code rc = point_read(&(struct seq_io){v->env->os, v->place}, number, &p, err);
    if (rc == ERR_OK)
        rc = point_open(v->env->os, v->place, &p, tell_damage, v, &view, &cat, err);
    if (rc == ERR_OK)
        rc = jobs_add(jobs, &p, NULL, 0, err);
    if (rc == ERR_CORRUPT || rc == ERR_INVALID || rc == ERR_NOT_FOUND) {
        tell_bad(v, buf_view(&key), err->msg);
        rc = ERR_OK;
    }
    point_done(&p); /* before what it reads through */
    catalog_close(move_ptr(cat));
    if (view)
        view->ops->free(view);
    return rc;
}

static enum err_code all_jobs(struct verifying *v, uint64_t point, struct jobs *jobs, struct err *err)
{
    _cleanup_(freep) uint64_t *all = NULL;
    size_t count;
    bool found = false;

    TRY(points_list(&(struct seq_io){v->env->os, v->place}, &all, &count, err));
    for (size_t i = 0; i < count; i++)
        if (point == SLOT_NONE || point == all[i]) {
            found = true;
            TRY(point_jobs(v, all[i], jobs, err));
        }
    if (!found && point != SLOT_NONE)
        return err_set(err, ERR_NOT_FOUND, "there is no point %" PRIu64 ": `sluice backup ls` lists them", point);
    return ERR_OK;
}

enum err_code backup_verify(const struct backup_env *env, struct store *place, uint64_t point, backup_bad_fn bad,
                            void *arg, struct backup_totals *totals, struct err *err)
{
    _cleanup_(jobs_done) struct jobs jobs = {0};
    struct verifying v = {.env = env, .place = place, .bad = bad, .arg = arg, .totals = totals};
    struct err why = {0};

    v.mu = env->os->ops->mutex_new(env->os);
    enum err_code rc = all_jobs(&v, point, &jobs, &why);
    jobs_sort(&jobs);
    for (size_t i = 0; i < jobs.count; i++) {
        totals->slots += jobs.items[i].type != 0;
        totals->files += jobs.items[i].type == 0;
        totals->bytes += jobs.items[i].bytes;
    }
    if (rc == ERR_OK)
        rc = jobs_run(env, &jobs, "verify", verify_job, &v, &why);
    env->os->ops->mutex_free(env->os, v.mu);
    if (rc != ERR_OK && err)
        *err = why;
    return rc;
}
