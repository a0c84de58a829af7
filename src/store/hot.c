/* hot.c: see hot.h.
 *
 * States of an object in the table, under mu; whoever makes it BUSY does IO for it without the lock and says how that went:
 *
 *   (absent) ──hot_fill──▶ BUSY ──fetched──▶ HERE ──evicted, damaged──▶ BUSY ──removed──▶ (absent)
 *                           └─────failed───▶ FAILED ──after a while──▶ BUSY
 * A file that leaves the table while readers have it lives on as `gone` until the last one gives it back. */
#include "store/hot.h"

#include <stdatomic.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/map.h"
#include "base/metrics.h"

#include "base/banned.h"

#define DISK_PERCENT_DEFAULT 80u
#define CHUNK_DEFAULT (UINT64_C(8) << 20)
#define AGAIN_US INT64_C(30000000)          /* a fetch that failed is tried again after this */
#define AGAIN_CORRUPT_US INT64_C(600000000) /* and one that brought other bytes than the catalog names */
#define CHECKED_US_MAX INT64_C(86400000000)
#define DEPTH_MAX 16 /* folders below DIR; keys have fewer */
#define TMP_DIR ".tmp"
#define LOCK_FILE ".lock"

enum state { HOT_BUSY, HOT_HERE, HOT_FAILED };
struct hot_file {
    char *key;
    enum state state;
    bool told;    /* `crc32c` is what the catalog names */
    bool checked; /* and its bytes were so, when the file had `mtime_us` */
    bool leaving; /* evicted with its last pin */
    bool gone;    /* not in the table any more */
    unsigned pins;
    uint64_t bytes;
    uint32_t crc32c;
    int64_t mtime_us;
    int64_t checked_us;       /* monotonic */
    int64_t again_us;         /* FAILED: monotonic */
    int64_t tmin_us, tmax_us; /* 0, 0: nobody told yet */
    uint64_t round;           /* of the last hot_retain() that named it */
};
struct hot {
    struct os *os;
    struct store *store;
    struct hot_options opt;
    char *dir;
    struct os_file *lock;
    struct os_mutex *mu;
    struct os_cond *settled; /* something is not BUSY any more */
    struct map files;        /* under mu: by key */
    uint64_t bytes;          /* under mu: here, on their way, or leaving */
    uint64_t coming;         /* under mu: of those, not on the disk yet */
    uint64_t round;          /* under mu */
    atomic_bool stopping;
    _Atomic uint64_t temp_number;
    struct metric *m_hits, *m_misses, *m_filled, *m_fills[3], *m_evicted, *m_damaged, *m_bytes;
};

static char *path_of(const struct hot *h, const char *key)
{
    return mem_fmt("%s/%s", h->dir, key);
}

static void file_free(struct hot_file *f)
{
    free(f->key);
    free(f);
}

static void bytes_add(struct hot *h, uint64_t bytes) /* under mu */
{
    h->bytes += bytes;
    metric_set(h->m_bytes, (double)h->bytes);
}

static void bytes_take(struct hot *h, uint64_t bytes) /* under mu */
{
    h->bytes -= bytes;
    metric_set(h->m_bytes, (double)h->bytes);
}

static struct hot_file *file_add(struct hot *h, slice key, enum state state, uint64_t bytes) /* under mu */
{
    struct hot_file *f = mem_zalloc(sizeof(*f));

    f->key = mem_str(key);
    f->state = state;
    f->bytes = bytes;
    f->round = h->round;
    (void)map_put(&h->files, slice_str(f->key), f);
    bytes_add(h, bytes);
    return f;
}

/* ---- opening: what is there */

static bool remove_temp(void *arg, const char *name, bool is_dir)
{
    struct hot *h = arg;
    _cleanup_(freep) char *path = mem_fmt("%s/" TMP_DIR "/%s", h->dir, name);

    if (!is_dir)
        (void)h->os->ops->unlink(h->os, path, NULL); /* the next start tries again */
    return true;
}

struct finding {
    struct hot *h;
    slice dir; /* below DIR, with '/' at its end unless it is DIR */
    unsigned depth;
};

static bool find_one(void *arg, const char *name, bool is_dir)
{
    const struct finding *in = arg;
    struct hot *h = in->h;
    _cleanup_(freep) char *key = mem_fmt(SLICE_FMT "%s%s", SLICE_ARG(in->dir), name, is_dir ? "/" : "");
    _cleanup_(freep) char *path = path_of(h, key);
    struct finding below = {h, slice_str(key), in->depth + 1};
    struct os_stat st;

    if (in->depth == 0 && name[0] == '.')
        return true;
    if (is_dir) {
        if (below.depth < DEPTH_MAX)
            (void)h->os->ops->list(h->os, path, find_one, &below, NULL); /* what cannot be listed is not here */
    } else if (store_key_valid(slice_str(key)) && h->os->ops->stat(h->os, path, &st, NULL) == ERR_OK) {
        (void)file_add(h, slice_str(key), HOT_HERE, st.size);
    }
    return true;
}

static enum err_code start(struct hot *h, struct err *err)
{
    struct finding all = {.h = h};
    _cleanup_(freep) char *temp = path_of(h, TMP_DIR), *lock = path_of(h, LOCK_FILE);

    TRY(os_mkdirs(h->os, temp, err));
    TRY(h->os->ops->open(h->os, lock, OS_READ | OS_WRITE | OS_CREATE, &h->lock, err));
    if (h->os->ops->lock_file(h->os, h->lock, err) != ERR_OK)
        return err_set(err, ERR_CONFLICT, "another server uses it");
    TRY(h->os->ops->list(h->os, temp, remove_temp, h, err));
    return h->os->ops->list(h->os, h->dir, find_one, &all, err);
}

static void metrics_register(struct hot *h)
{
    static const char *const outcomes[] = {"outcome=\"ok\"", "outcome=\"damaged\"", "outcome=\"error\""};

    h->m_hits =
        metric_get(METRIC_COUNTER, "sluice_hot_tier_hits_total", "files that queries read from the hot tier", NULL);
    h->m_misses = metric_get(METRIC_COUNTER, "sluice_hot_tier_misses_total",
                             "files of streams with a hot tier that queries read from the store", NULL);
    h->m_filled =
        metric_get(METRIC_COUNTER, "sluice_hot_tier_filled_bytes_total", "bytes fetched into the hot tier", NULL);
    for (size_t i = 0; i < ARRAY_LEN(outcomes); i++)
        h->m_fills[i] =
            metric_get(METRIC_COUNTER, "sluice_hot_tier_fills_total", "fetches into the hot tier", outcomes[i]);
    h->m_evicted =
        metric_get(METRIC_COUNTER, "sluice_hot_tier_evicted_bytes_total", "bytes that left the hot tier", NULL);
    h->m_damaged = metric_get(METRIC_COUNTER, "sluice_hot_tier_damaged_total",
                              "files of the hot tier that were found damaged and removed", NULL);
    h->m_bytes =
        metric_get(METRIC_GAUGE, "sluice_hot_tier_bytes", "bytes in the hot tier and on their way to it", NULL);
}

enum err_code hot_open(struct os *os, struct store *store, const struct hot_options *opt, struct hot **out,
                       struct err *err)
{
    struct hot *h = mem_zalloc(sizeof(*h));

    h->os = os;
    h->store = store;
    h->opt = *opt;
    h->opt.bytes_max = opt->bytes_max ? opt->bytes_max : UINT64_MAX;
    h->opt.disk_percent_max = opt->disk_percent_max ? opt->disk_percent_max : DISK_PERCENT_DEFAULT;
    h->opt.chunk_bytes = opt->chunk_bytes ? opt->chunk_bytes : CHUNK_DEFAULT;
    h->dir = mem_str(slice_str(opt->dir));
    h->mu = os->ops->mutex_new(os);
    h->settled = os->ops->cond_new(os);
    metrics_register(h);
    enum err_code rc = start(h, err);
    if (rc != ERR_OK) {
        (void)err_wrap(err, "hot tier %s", opt->dir);
        hot_close(h);
        return rc;
    }
    *out = h;
    return ERR_OK;
}

void hot_stop(struct hot *h)
{
    if (h)
        atomic_store(&h->stopping, true);
}

void hot_close(struct hot *h)
{
    struct map_entry *e;

    if (!h)
        return;
    for (size_t i = 0; (e = map_next(&h->files, &i));) {
        const struct hot_file *f = e->value;
        ASSERT(!f->pins && f->state != HOT_BUSY);
        file_free(e->value);
    }
    map_done(&h->files);
    h->os->ops->close(h->os, h->lock);
    h->os->ops->mutex_free(h->os, h->mu);
    h->os->ops->cond_free(h->os, h->settled);
    free(h->dir);
    free(h);
}

const char *hot_dir(const struct hot *h)
{
    return h->dir;
}

/* ---- leaving */

/* Out of the table, which `f` must be in and HERE or FAILED. Under mu, which is let go and taken again for the IO. Whoever has no pin
 * frees it when nobody has one. */
static void take_out(struct hot *h, struct hot_file *f)
{
    _cleanup_(freep) char *path = path_of(h, f->key);
    bool file = f->state == HOT_HERE;

    f->state = HOT_BUSY;
    os_unlock(h->os, h->mu);
    if (file) {
        (void)h->os->ops->unlink(h->os, path, NULL); /* one that stays is found by the next start, and counted again */
        for (char *slash; (slash = strrchr(path, '/')) && slash > path + strlen(h->dir);) {
            *slash = 0;
            if (h->os->ops->rmdir(h->os, path, NULL) != ERR_OK) /* not empty */
                break;
        }
    }
    os_lock(h->os, h->mu);
    (void)map_del(&h->files, slice_str(f->key));
    bytes_take(h, f->bytes);
    h->os->ops->cond_broadcast(h->os, h->settled);
    f->gone = true;
}

static void evict(struct hot *h, struct hot_file *f) /* under mu, as take_out() */
{
    if (f->state == HOT_HERE)
        metric_add(h->m_evicted, (double)f->bytes);
    take_out(h, f);
    if (!f->pins)
        file_free(f);
}

static void discard(struct hot *h, struct hot_file *f) /* under mu, as take_out(); of a pinned file */
{
    if (f->gone || f->state != HOT_HERE)
        return; /* another reader was first */
    metric_add(h->m_damaged, 1);
    log_warn("hot", "%s/%s is damaged: removed, to be fetched again", h->dir, f->key);
    take_out(h, f);
}

/* ---- readers */

#define UNSEEN INT64_MIN

/* H1, of a pinned file whose bytes were good when it had this time of change. */
static bool still_good(struct hot *h, struct hot_file *f, const struct hot_object *o, int64_t seen_us)
{
    _cleanup_(freep) char *path = path_of(h, f->key);
    struct os_stat st;
    uint64_t size;
    uint32_t crc;

    if (h->os->ops->stat(h->os, path, &st, NULL) != ERR_OK || st.size != o->bytes)
        return false;
    if (st.mtime_us == seen_us)
        return true;
    if (os_file_checksum(h->os, path, &size, &crc, NULL) != ERR_OK || size != o->bytes || crc != o->crc32c)
        return false;
    os_lock(h->os, h->mu);
    f->told = f->checked = true;
    f->crc32c = o->crc32c;
    f->mtime_us = st.mtime_us;
    f->checked_us = os_mono_us(h->os);
    os_unlock(h->os, h->mu);
    return true;
}

static void unpin(struct hot *h, struct hot_file *f) /* under mu, as take_out() */
{
    ASSERT(f->pins);
    if (--f->pins)
        return;
    if (f->gone)
        file_free(f);
    else if (f->leaving && f->state == HOT_HERE)
        evict(h, f);
}

void hot_unpin(struct hot *h, struct hot_file *f)
{
    if (!f)
        return;
    os_lock(h->os, h->mu);
    unpin(h, f);
    os_unlock(h->os, h->mu);
}

/* Looks at a pinned file; gives it back when it is not good. */
static struct hot_file *look(struct hot *h, struct hot_file *f, const struct hot_object *o, int64_t seen_us)
{
    if (still_good(h, f, o, seen_us))
        return f;
    os_lock(h->os, h->mu);
    discard(h, f);
    unpin(h, f);
    os_unlock(h->os, h->mu);
    return NULL;
}

struct hot_file *hot_pin(struct hot *h, const struct hot_object *o)
{
    int64_t seen_us = UNSEEN;

    os_lock(h->os, h->mu);
    struct hot_file *f = map_get(&h->files, o->key);
    if (f && f->state == HOT_HERE) {
        f->pins++;
        seen_us = f->checked && f->crc32c == o->crc32c ? f->mtime_us : UNSEEN;
    } else {
        f = NULL;
    }
    os_unlock(h->os, h->mu);
    if (f)
        f = look(h, f, o, seen_us);
    metric_add(f ? h->m_hits : h->m_misses, 1);
    return f;
}

void hot_path(const struct hot *h, const struct hot_file *f, struct buf *out)
{
    buf_fmt(out, "%s/%s", h->dir, f->key);
    (void)buf_cstr(out);
}

bool hot_check(struct hot *h, struct hot_file *f)
{
    os_lock(h->os, h->mu);
    const struct hot_object o = {.bytes = f->bytes, .crc32c = f->crc32c};
    bool gone = f->gone;
    os_unlock(h->os, h->mu);
    if (gone)
        return false;
    if (still_good(h, f, &o, UNSEEN))
        return true;
    os_lock(h->os, h->mu);
    discard(h, f);
    os_unlock(h->os, h->mu);
    return false;
}

/* ---- the keeper */

uint64_t hot_room(struct hot *h)
{
    uint64_t free_bytes = 0, total = 0, used;
    enum err_code rc = h->os->ops->disk_free(h->os, h->dir, &free_bytes, &total, NULL);

    os_lock(h->os, h->mu);
    uint64_t here = h->bytes - h->coming, room = here; /* the disk does not tell: no more than there is */
    os_unlock(h->os, h->mu);
    if (rc == ERR_OK) {
        used = total - MIN(free_bytes, total);
        uint64_t others = used - MIN(here, used), most = total / 100 * h->opt.disk_percent_max;
        room = most - MIN(others, most);
    }
    return MIN(room, h->opt.bytes_max);
}

static bool spared(slice key, const slice *spare, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (slice_starts(key, spare[i]))
            return true;
    return false;
}

/* The catalog names it; false: this file is not what it names. */
static bool named(struct hot *h, struct hot_file *f, const struct hot_object *o)
{
    if (f->state == HOT_HERE && f->bytes != o->bytes) {
        metric_add(h->m_damaged, 1);
        return false;
    }
    f->leaving = false;
    f->tmin_us = o->tmin_us;
    f->tmax_us = o->tmax_us;
    if (!f->told)
        f->crc32c = o->crc32c;
    f->told = true;
    return true;
}

void hot_retain(struct hot *h, const struct hot_object *objects, size_t count, const slice *spare, size_t spare_count)
{
    struct map_entry *e;
    size_t n = 0;

    os_lock(h->os, h->mu);
    h->round++;
    for (size_t i = 0; i < count; i++) {
        struct hot_file *f = map_get(&h->files, objects[i].key);
        if (f && named(h, f, &objects[i]))
            f->round = h->round;
    }
    struct hot_file **out = mem_alloc((h->files.count + 1) * sizeof(struct hot_file *));
    for (size_t i = 0; (e = map_next(&h->files, &i));) {
        struct hot_file *f = e->value;
        if (f->round == h->round || f->state == HOT_BUSY || spared(slice_str(f->key), spare, spare_count))
            continue;
        f->leaving = f->pins > 0;
        if (f->pins)
            continue;
        f->pins++; /* so that it is there when its turn comes */
        out[n++] = f;
    }
    for (size_t i = 0; i < n; i++) {
        out[i]->leaving = true;
        if (out[i]->state == HOT_FAILED) {
            out[i]->pins--;
            evict(h, out[i]);
        } else {
            unpin(h, out[i]);
        }
    }
    os_unlock(h->os, h->mu);
    free(out);
}

bool hot_has(struct hot *h, slice key)
{
    os_lock(h->os, h->mu);
    const struct hot_file *f = map_get(&h->files, key);
    bool has = f && f->state == HOT_HERE;
    os_unlock(h->os, h->mu);
    return has;
}

void hot_usage(struct hot *h, slice prefix, struct hot_usage *out)
{
    struct map_entry *e;

    *out = (struct hot_usage){.oldest_us = INT64_MAX};
    os_lock(h->os, h->mu);
    for (size_t i = 0; (e = map_next(&h->files, &i));) {
        const struct hot_file *f = e->value;
        if (f->state != HOT_HERE || !slice_starts(e->key, prefix))
            continue;
        out->files++;
        out->bytes += f->bytes;
        if (f->tmax_us)
            out->oldest_us = MIN(out->oldest_us, f->tmin_us);
    }
    os_unlock(h->os, h->mu);
}

/* The file that was looked at longest ago, pinned. */
static struct hot_file *longest_unchecked(struct hot *h, struct hot_object *o)
{
    int64_t before = os_mono_us(h->os) - CHECKED_US_MAX;
    struct hot_file *best = NULL;
    struct map_entry *e;

    os_lock(h->os, h->mu);
    for (size_t i = 0; (e = map_next(&h->files, &i));) {
        struct hot_file *f = e->value;
        if (f->state == HOT_HERE && f->told && (!f->checked || f->checked_us < before) &&
            (!best || f->checked_us < best->checked_us))
            best = f;
    }
    if (best) {
        best->pins++;
        *o = (struct hot_object){.bytes = best->bytes, .crc32c = best->crc32c};
    }
    os_unlock(h->os, h->mu);
    return best;
}

void hot_scrub(struct hot *h, uint64_t bytes_max)
{
    struct hot_object o;
    struct hot_file *f;

    for (uint64_t done = 0; done < bytes_max && !atomic_load(&h->stopping) && (f = longest_unchecked(h, &o));) {
        done += o.bytes;
        hot_unpin(h, look(h, f, &o, UNSEEN));
    }
}

/* ---- fetching */

/* Folders of `path`; unsynced (H5). */
static void make_parents(struct hot *h, char *path)
{
    for (char *c = path + strlen(h->dir) + 1; (c = strchr(c, '/')); c++) {
        *c = 0;
        (void)h->os->ops->mkdir(h->os, path, NULL); /* there already, or the rename says what is wrong */
        *c = '/';
    }
}

static enum err_code fetch(struct hot *h, const struct hot_object *o, struct os_file *f, struct err *err)
{
    _cleanup_(buf_done) struct buf bytes = BUF_INIT;
    struct store_meta meta = {0};
    uint32_t crc = 0;

    for (uint64_t at = 0; at < o->bytes; at += bytes.len) {
        if (atomic_load(&h->stopping))
            return err_set(err, ERR_CANCELLED, "the hot tier is closed");
        bytes.len = 0;
        TRY(h->store->ops->read(h->store, o->key, at, MIN(h->opt.chunk_bytes, o->bytes - at), &bytes, &meta, err));
        if (bytes.len == 0)
            break;
        const struct os_iov iov = {bytes.ptr, bytes.len};
        TRY(h->os->ops->pwritev(h->os, f, &iov, 1, at, err));
        crc = crc32c(crc, bytes.ptr, bytes.len);
    }
    if (meta.size != o->bytes || crc != o->crc32c)
        return err_set(err, ERR_CORRUPT, SLICE_FMT ": the store's object is not the one that the catalog names",
                       SLICE_ARG(o->key));
    return ERR_OK;
}

static enum err_code bring(struct hot *h, const struct hot_object *o, int64_t *mtime_us, struct err *err)
{
    unsigned long long number = atomic_fetch_add(&h->temp_number, 1);
    _cleanup_(freep) char *key = mem_str(o->key), *path = path_of(h, key),
                          *temp = mem_fmt("%s/" TMP_DIR "/%llu", h->dir, number);
    struct os_stat st = {0};
    struct os_file *f;

    TRY(h->os->ops->open(h->os, temp, OS_READ | OS_WRITE | OS_CREATE | OS_TRUNC, &f, err));
    enum err_code rc = fetch(h, o, f, err);
    h->os->ops->close(h->os, f);
    if (rc == ERR_OK)
        rc = h->os->ops->stat(h->os, temp, &st, err);
    if (rc == ERR_OK) {
        make_parents(h, path);
        rc = h->os->ops->rename(h->os, temp, path, err);
        if (rc == ERR_NOT_FOUND) { /* an eviction took the empty folder away */
            make_parents(h, path);
            rc = h->os->ops->rename(h->os, temp, path, err);
        }
    }
    if (rc != ERR_OK)
        (void)h->os->ops->unlink(h->os, temp, NULL); /* or the next start */
    *mtime_us = st.mtime_us;
    return rc;
}

/* A place in the table for an object that is to be fetched; *out NULL: it is here. Under mu. */
static enum err_code claim(struct hot *h, const struct hot_object *o, uint64_t disk_room, struct hot_file **out,
                           struct err *err)
{
    struct hot_file *f;

    *out = NULL;
    while ((f = map_get(&h->files, o->key)) && f->state == HOT_BUSY)
        (void)h->os->ops->cond_wait(h->os, h->settled, h->mu, -1);
    if (f && f->state == HOT_HERE) {
        f->leaving = false;
        return ERR_OK;
    }
    if (f && os_mono_us(h->os) < f->again_us)
        return err_set(err, ERR_UNAVAILABLE, SLICE_FMT ": could not be fetched a moment ago", SLICE_ARG(o->key));
    if (o->bytes > h->opt.bytes_max - MIN(h->bytes, h->opt.bytes_max) ||
        o->bytes > disk_room - MIN(h->coming, disk_room))
        return err_set(err, ERR_LIMIT, "no room in the hot tier for " SLICE_FMT, SLICE_ARG(o->key));
    if (!f) {
        f = file_add(h, o->key, HOT_BUSY, o->bytes);
    } else {
        f->bytes = o->bytes;
        bytes_add(h, o->bytes);
    }
    f->state = HOT_BUSY;
    h->coming += o->bytes;
    *out = f;
    return ERR_OK;
}

/* Under mu: how it went. */
static void settle(struct hot *h, struct hot_file *f, const struct hot_object *o, int64_t mtime_us, enum err_code rc)
{
    bool damaged = rc == ERR_CORRUPT;
    int64_t now = os_mono_us(h->os);

    h->coming -= f->bytes;
    if (rc == ERR_OK) {
        f->state = HOT_HERE;
        f->leaving = false;
        f->told = f->checked = true;
        f->crc32c = o->crc32c;
        f->mtime_us = mtime_us;
        f->checked_us = now;
        f->tmin_us = o->tmin_us;
        f->tmax_us = o->tmax_us;
        metric_add(h->m_filled, (double)o->bytes);
    } else {
        f->state = HOT_FAILED;
        bytes_take(h, f->bytes);
        f->bytes = 0;
        f->again_us = now + (damaged ? AGAIN_CORRUPT_US : AGAIN_US);
    }
    metric_add(h->m_fills[rc == ERR_OK ? 0 : damaged ? 1 : 2], 1);
    h->os->ops->cond_broadcast(h->os, h->settled);
}

enum err_code hot_fill(struct hot *h, const struct hot_object *o, struct err *err)
{
    uint64_t free_bytes = 0, total = 0, keep, disk_room = UINT64_MAX;
    struct hot_file *f;
    int64_t mtime_us = 0;

    if (h->os->ops->disk_free(h->os, h->dir, &free_bytes, &total, NULL) == ERR_OK) {
        keep = total - total / 100 * h->opt.disk_percent_max;
        disk_room = free_bytes - MIN(keep, free_bytes);
    }
    os_lock(h->os, h->mu);
    enum err_code rc = claim(h, o, disk_room, &f, err);
    os_unlock(h->os, h->mu);
    if (rc != ERR_OK || !f)
        return rc;
    rc = bring(h, o, &mtime_us, err);
    os_lock(h->os, h->mu);
    settle(h, f, o, mtime_us, rc);
    os_unlock(h->os, h->mu);
    return rc;
}
