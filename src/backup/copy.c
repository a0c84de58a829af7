/* copy.c: lists of objects and the threads that copy or read them. An object is in a place whole or not at all: it is published under its key
 * when its bytes are there, synced, and have the checksum that the catalog says. So what is listed with the right length needs no copy. */
#include <inttypes.h>

#include "backup/backup_int.h"

#include "base/banned.h"

#define PUBLISH_TRIES_MAX 5
#define PUBLISH_PAUSE_US 200000
#define TICK_US 200000

/* ---- the list */

void jobs_done(struct jobs *j)
{
    free(j->items);
    arena_done(&j->arena);
    *j = (struct jobs){0};
}

static void add_object(void *arg, const struct cut_object *o)
{
    struct jobs *j = arg;

    *ARRAY_PUSH(j->items, j->count, j->cap) =
        (struct job){.key = arena_copy(&j->arena, o->key), .bytes = o->bytes, .crc32c = o->crc32c};
    j->files++;
    j->bytes += o->bytes;
    j->rows += o->rows;
}

struct adding {
    struct jobs *jobs;
    const slice *wanted;
    size_t wanted_count;
};

static bool is_wanted(const struct adding *a, slice name)
{
    for (size_t i = 0; i < a->wanted_count; i++)
        if (slice_eq(a->wanted[i], name))
            return true;
    return a->wanted_count == 0;
}

static bool below_wanted(const struct adding *a, int type, slice key)
{
    _cleanup_(buf_done) struct buf seq = BUF_INIT;

    for (size_t i = 0; i < a->wanted_count; i++) {
        seq.len = 0;
        if (type == SLOT_NAME)
            seq_name(&seq, a->wanted[i]);
        else
            name_encode(a->wanted[i], &seq);
        if (type != SLOT_NAME)
            buf_byte(&seq, '/');
        if (slice_starts(key, buf_view(&seq)))
            return true;
    }
    return a->wanted_count == 0;
}

/* Names and heads of streams that are not wanted stay behind; what lanes say of them counts for nothing without these. */
static bool add_slot(void *arg, int type, slice key, uint64_t slot)
{
    struct adding *a = arg;
    struct jobs *j = a->jobs;

    if ((type != SLOT_NAME && type != SLOT_HEAD) || below_wanted(a, type, key))
        *ARRAY_PUSH(j->items, j->count, j->cap) =
            (struct job){.key = arena_copy(&j->arena, key), .type = type, .slot = slot};
    return true;
}

enum err_code jobs_add(struct jobs *j, const struct point *p, const slice *wanted, size_t wanted_count, struct err *err)
{
    const struct cut *c = &p->cut;
    struct adding a = {.jobs = j, .wanted = wanted, .wanted_count = wanted_count};

    (void)cut_slots(c, add_slot, &a);
    for (size_t i = 0; i < c->streams_count; i++)
        if (c->streams[i].version && is_wanted(&a, c->streams[i].name))
            TRY(cut_objects(c->streams[i].version, add_object, j, err));
    for (size_t i = 0; i < p->imports_count; i++) {
        const struct point_record *r = &p->imports[i];
        if (below_wanted(&a, 0, r->key))
            add_object(j, &(struct cut_object){.key = r->key, .bytes = r->bytes, .crc32c = r->crc32c});
    }
    return ERR_OK;
}

static int by_key(const void *a, const void *b)
{
    return slice_cmp(((const struct job *)a)->key, ((const struct job *)b)->key);
}

void jobs_sort(struct jobs *j)
{
    size_t kept = 0;

    if (j->count == 0)
        return;
    qsort(j->items, j->count, sizeof(*j->items), by_key);
    for (size_t i = 0; i < j->count; i++)
        if (kept == 0 || !slice_eq(j->items[kept - 1].key, j->items[i].key))
            j->items[kept++] = j->items[i];
    j->count = kept;
}

struct marking {
    struct jobs *jobs;
    struct job **wrong; /* there, with another length */
    size_t wrong_count, wrong_cap;
};

static bool mark_item(void *arg, const struct store_list_item *item)
{
    struct marking *m = arg;
    const struct job want = {.key = item->key};
    struct job *j = bsearch(&want, m->jobs->items, m->jobs->count, sizeof(want), by_key);

    if (j && j->type == 0 && item->meta.size != j->bytes)
        *ARRAY_PUSH(m->wrong, m->wrong_count, m->wrong_cap) = j;
    else if (j)
        j->there = true;
    return true;
}

enum err_code jobs_mark(struct jobs *j, struct store *to, struct backup_totals *totals, struct err *err)
{
    struct marking m = {.jobs = j};
    enum err_code rc = ERR_OK;

    if (j->count)
        rc = to->ops->list(to, slice_lit(""), slice_lit(""), false, mark_item, &m, err);
    for (size_t i = 0; i < m.wrong_count && rc == ERR_OK; i++) {
        rc = to->ops->remove(to, m.wrong[i]->key, err);
        totals->mended++;
    }
    free(m.wrong);
    return rc == ERR_NOT_FOUND ? ERR_OK : rc; /* a folder without anything in it */
}

/* ---- threads */

struct pool {
    const struct backup_env *env;
    const struct jobs *jobs;
    job_fn fn;
    void *arg;
    struct os_mutex *mu;
    struct os_cond *cond;
    size_t next; /* under mu, as all below */
    unsigned running;
    bool stop;
    enum err_code rc;
    struct err err;
    struct backup_progress now;
};

static const struct job *next_job(struct pool *p)
{
    while (!p->stop && p->next < p->jobs->count) {
        const struct job *job = &p->jobs->items[p->next++];
        if (!job->there)
            return job;
    }
    return NULL;
}

static void work(void *arg)
{
    struct pool *p = arg;
    struct os *os = p->env->os;
    const struct job *job;

    os_lock(os, p->mu);
    while ((job = next_job(p))) {
        struct err err = {0};
        os_unlock(os, p->mu);
        enum err_code rc = p->fn(p->arg, job, &err);
        os_lock(os, p->mu);
        p->now.files++;
        p->now.bytes += job->bytes;
        if (rc != ERR_OK && p->rc == ERR_OK) {
            p->rc = rc;
            p->err = err;
            p->stop = true;
        }
    }
    p->running--;
    os->ops->cond_broadcast(os, p->cond);
    os_unlock(os, p->mu);
}

/* Until all workers are through; tells how it goes meanwhile. */
static void watch(struct pool *p)
{
    struct os *os = p->env->os;

    os_lock(os, p->mu);
    while (p->running) {
        (void)os->ops->cond_wait(os, p->cond, p->mu, TICK_US);
        struct backup_progress now = p->now;
        os_unlock(os, p->mu);
        bool go = !p->env->progress || p->env->progress(p->env->arg, &now);
        os_lock(os, p->mu);
        if (!go && p->rc == ERR_OK) {
            p->rc = err_set(&p->err, ERR_CANCELLED, "interrupted");
            p->stop = true;
        }
    }
    os_unlock(os, p->mu);
}

enum err_code jobs_run(const struct backup_env *env, const struct jobs *j, const char *what, job_fn fn, void *arg,
                       struct err *err)
{
    struct os *os = env->os;
    struct pool p = {.env = env, .jobs = j, .fn = fn, .arg = arg, .now.what = what};
    struct os_thread *threads[BACKUP_PARALLEL_MAX];

    for (size_t i = 0; i < j->count; i++)
        if (!j->items[i].there) {
            p.now.files_total++;
            p.now.bytes_total += j->items[i].bytes;
        }
    if (p.now.files_total == 0)
        return ERR_OK;
    p.mu = os->ops->mutex_new(os);
    p.cond = os->ops->cond_new(os);
    p.running = (unsigned)MIN(MAX(env->parallel, 1), BACKUP_PARALLEL_MAX);
    unsigned count = p.running;
    for (unsigned i = 0; i < count; i++)
        threads[i] = os->ops->thread_new(os, "copy", work, &p);
    watch(&p);
    for (unsigned i = 0; i < count; i++)
        os->ops->thread_join(os, threads[i]);
    os->ops->cond_free(os, p.cond);
    os->ops->mutex_free(os, p.mu);
    if (p.rc != ERR_OK && err)
        *err = p.err;
    return p.rc;
}

/* ---- copying */

struct copying {
    struct os *os;
    struct store *from, *to;
    _Atomic uint64_t files, bytes, slots;
    _Atomic bool gone;
};

/* The key is taken: by us, when an answer was lost, or by another who copied the same. */
static enum err_code same_length(const struct copying *c, const struct job *job, struct err *err)
{
    struct store_meta meta;

    TRY(c->to->ops->stat(c->to, job->key, &meta, err));
    if (meta.size == job->bytes)
        return ERR_OK;
    return err_set(err, ERR_CORRUPT,
                   SLICE_FMT " has %" PRIu64 " bytes there, not %" PRIu64 ": remove it, and run the same again",
                   SLICE_ARG(job->key), meta.size, job->bytes);
}

static enum err_code publish(const struct copying *c, struct os_file *f, const struct job *job, struct err *err)
{
    for (int tries = 1;; tries++) {
        enum err_code rc = c->to->ops->upload_publish(c->to, f, job->key, true, err);
        if (rc == ERR_OK)
            return ERR_OK;
        bool again = (rc == ERR_UNKNOWN || rc == ERR_UNAVAILABLE) && tries < PUBLISH_TRIES_MAX;
        if (!again) {
            c->to->ops->upload_drop(c->to, f);
            return rc == ERR_CONFLICT ? same_length(c, job, err) : rc;
        }
        c->os->ops->sleep_us(c->os, PUBLISH_PAUSE_US * tries);
    }
}

static enum err_code check(const struct job *job, uint64_t size, uint32_t crc, struct err *err)
{
    if (size != job->bytes)
        return err_set(err, ERR_CORRUPT, SLICE_FMT " is damaged: it has %" PRIu64 " bytes, not %" PRIu64,
                       SLICE_ARG(job->key), size, job->bytes);
    if (crc != job->crc32c)
        return err_set(err, ERR_CORRUPT, SLICE_FMT " is damaged: its checksum is not what the catalog says",
                       SLICE_ARG(job->key));
    return ERR_OK;
}

static enum err_code copy_bytes(struct copying *c, const struct job *job, struct err *err)
{
    struct os_file *f;
    uint64_t size;
    uint32_t crc;

    TRY(c->to->ops->upload_begin(c->to, &f, err));
    enum err_code rc = store_fetch(c->os, c->from, job->key, f, &size, &crc, err);
    if (rc == ERR_OK)
        rc = check(job, size, crc, err);
    if (rc != ERR_OK) {
        c->to->ops->upload_drop(c->to, f);
        return rc;
    }
    return publish(c, f, job, err);
}

/* At the server where it can, which then says that the checksum is the catalog's. */
static enum err_code copy_file(struct copying *c, const struct job *job, struct err *err)
{
    const struct store_source from = {.store = c->from, .key = job->key, .size = job->bytes, .crc32c = job->crc32c};
    bool copied;
    enum err_code rc = store_copy(c->to, job->key, &from, &copied, err);

    if (rc == ERR_CONFLICT)
        rc = same_length(c, job, err);
    else if (rc == ERR_OK && !copied)
        rc = copy_bytes(c, job, err);
    if (rc == ERR_NOT_FOUND)
        c->gone = true;
    TRY(rc);
    c->files++;
    c->bytes += job->bytes;
    return ERR_OK;
}

static enum err_code slot_fetch(const struct copying *c, const struct job *job, struct buf *out, struct err *err)
{
    _cleanup_(slot_done) struct slot s = {0};

    TRY(c->from->ops->read(c->from, job->key, 0, UINT64_MAX, out, NULL, err));
    enum err_code rc = slot_decode(buf_view(out), (enum slot_type)job->type, job->slot, &s, err);
    if (rc != ERR_OK)
        (void)err_wrap(err, SLICE_FMT, SLICE_ARG(job->key));
    return rc;
}

static enum err_code copy_slot(struct copying *c, const struct job *job, struct err *err)
{
    _cleanup_(buf_done) struct buf bytes = BUF_INIT, back = BUF_INIT;
    enum err_code rc = slot_fetch(c, job, &bytes, err);

    if (rc == ERR_NOT_FOUND)
        c->gone = true;
    TRY(rc);
    for (int tries = 1;; tries++) {
        rc = c->to->ops->create(c->to, job->key, buf_view(&bytes), err);
        if ((rc != ERR_UNKNOWN && rc != ERR_UNAVAILABLE) || tries == PUBLISH_TRIES_MAX)
            break;
        c->os->ops->sleep_us(c->os, PUBLISH_PAUSE_US * tries);
    }
    if (rc == ERR_CONFLICT) {
        TRY(c->to->ops->read(c->to, job->key, 0, UINT64_MAX, &back, NULL, err));
        rc = slice_eq(buf_view(&back), buf_view(&bytes))
                 ? ERR_OK
                 : err_set(err, ERR_CORRUPT, SLICE_FMT " is another one there: remove it, and run the same again",
                           SLICE_ARG(job->key));
    }
    c->slots += rc == ERR_OK;
    return rc;
}

static enum err_code copy_job(void *arg, const struct job *job, struct err *err)
{
    return job->type ? copy_slot(arg, job, err) : copy_file(arg, job, err);
}

enum err_code jobs_copy(const struct backup_env *env, struct jobs *j, const char *what, struct store *from,
                        struct store *to, struct backup_totals *totals, bool *gone, struct err *err)
{
    struct copying c = {.os = env->os, .from = from, .to = to};
    enum err_code rc = jobs_run(env, j, what, copy_job, &c, err);

    totals->copied += c.files;
    totals->copied_bytes += c.bytes;
    totals->slots_copied += c.slots;
    *gone = c.gone;
    return rc;
}
