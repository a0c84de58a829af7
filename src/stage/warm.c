/* warm.c: which files the hot tier (store/hot.h) should hold, and fetching them.
 *
 * A round takes of every stream that has a hot tier its newest files as far as the stream's budget goes, and of those of all streams the
 * newest as far as there is room. What else is in the tier leaves it: files of deleted streams, expired and merged ones too. What is
 * missing is fetched, newest first, by a few threads, for at most FETCH_US_MAX: then the next round looks for newer ones.
 * A stream whose files are not known at the moment keeps what it has. */
#include <stdatomic.h>

#include "base/log.h"
#include "stage/lake_int.h"

#define FETCH_US_MAX INT64_C(5000000)
#define SCRUB_BYTES_MAX (UINT64_C(64) << 20) /* of a round that finds nothing to fetch */
#define HOUR_US INT64_C(3600000000)
#define FETCHERS_MAX 64

struct wanted {
    struct lake *lake;
    struct arena arena; /* keys */
    struct hot_object *items;
    size_t count, cap;
    slice *spare; /* prefixes of keys that stay whatever they are */
    size_t spare_count, spare_cap;
};

static void wanted_done(struct wanted *w)
{
    arena_done(&w->arena);
    free(w->items);
    free(w->spare);
}

static void spare(struct wanted *w, slice prefix)
{
    *ARRAY_PUSH(w->spare, w->spare_count, w->spare_cap) = arena_copy(&w->arena, prefix);
}

static uint64_t bytes_of(const struct plan *p)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < p->count; i++)
        sum += p->files[i].bytes;
    return sum;
}

/* The newest files, at least as many as fit into `bytes`. */
static enum err_code plan_newest(struct stream_version *v, uint64_t bytes, struct plan *out, struct err *err)
{
    const struct stream_stats *s = stream_version_stats(v);

    for (int64_t span_us = HOUR_US;; span_us *= 4) {
        int64_t from_us = s->last_us - span_us;
        TRY(stream_version_plan(v, from_us, INT64_MAX, NULL, 0, out, err));
        if (from_us <= s->first_us || bytes_of(out) > bytes)
            return ERR_OK;
        plan_done(out);
    }
}

static bool want_stream(void *arg, struct stream_version *v)
{
    struct wanted *w = arg;
    uint64_t left = stream_version_config(v)->hot_tier_bytes;
    _cleanup_(buf_done) struct buf dir = BUF_INIT;
    struct err err = {0};
    struct plan plan;

    if (!left || !stream_version_stats(v)->files)
        return true;
    enum err_code rc = plan_newest(v, left, &plan, &err);
    if (rc != ERR_OK || plan.lost_count)
        spare(w, catalog_stream_dir(w->lake->cat, stream_version_name(v), stream_version_sid(v), &dir));
    if (rc != ERR_OK) {
        log_warn("stage", "hot tier of " SLICE_FMT ": %s", SLICE_ARG(stream_version_name(v)), err.msg);
        return true;
    }
    for (size_t i = 0; i < plan.count && plan.files[i].bytes <= left; i++) {
        const struct plan_file *f = &plan.files[i];
        left -= f->bytes;
        *ARRAY_PUSH(w->items, w->count, w->cap) =
            (struct hot_object){arena_copy(&w->arena, f->key), f->bytes, f->crc32c, f->tmin_us, f->tmax_us};
    }
    plan_done(&plan);
    return true;
}

static bool spare_damaged(void *arg, slice name, const char *why)
{
    struct wanted *w = arg;
    static const struct sid none;
    _cleanup_(buf_done) struct buf dir = BUF_INIT;
    (void)why;

    slice any = catalog_stream_dir(w->lake->cat, name, &none, &dir);
    const uint8_t *slash =
        memchr(any.ptr, '/', any.len); /* of all its incarnations: which one it is, nobody can tell */
    ASSERT(slash);
    spare(w, slice_head(any, (size_t)(slash - any.ptr) + 1));
    return true;
}

static int newest_first(const void *a, const void *b)
{
    const struct hot_object *x = a, *y = b;
    return (x->tmax_us < y->tmax_us) - (x->tmax_us > y->tmax_us);
}

/* Cuts the list to what there is room for. */
static void fit(struct wanted *w)
{
    uint64_t room = hot_room(w->lake->hot);
    struct hot_usage spared;
    size_t n = 0;

    for (size_t i = 0; i < w->spare_count; i++) {
        hot_usage(w->lake->hot, w->spare[i], &spared);
        room -= MIN(room, spared.bytes);
    }
    if (w->count)
        qsort(w->items, w->count, sizeof(*w->items), newest_first);
    for (; n < w->count && w->items[n].bytes <= room; n++)
        room -= w->items[n].bytes;
    w->count = n;
}

/* ---- fetching */

struct fetching {
    struct lake *lake;
    const struct hot_object *items;
    size_t count;
    int64_t until_us;
    _Atomic size_t next;
    atomic_bool full; /* no room for the next one: none for those after it either */
};

static void fetch_failed(struct lake *lake, enum err_code rc, const struct hot_object *o, const struct err *err)
{
    if (rc == ERR_CORRUPT) {
        log_error("stage", "hot tier: %s", err->msg);
        lake_event(lake, "quarantine", (slice){0}, 0, "damaged object " SLICE_FMT, SLICE_ARG(o->key));
    } else if (rc != ERR_CANCELLED && rc != ERR_NOT_FOUND &&
               rc != ERR_UNAVAILABLE) { /* deleted; counted, and soon again */
        log_warn("stage", "hot tier: %s", err->msg);
    }
}

static void fetch_thread(void *arg)
{
    struct fetching *f = arg;
    struct err err;
    size_t i;

    while (!atomic_load(&f->full) && os_mono_us(f->lake->os) < f->until_us &&
           (i = atomic_fetch_add(&f->next, 1)) < f->count) {
        enum err_code rc = hot_fill(f->lake->hot, &f->items[i], &err);
        if (rc == ERR_LIMIT || rc == ERR_CANCELLED)
            atomic_store(&f->full, true);
        else if (rc != ERR_OK)
            fetch_failed(f->lake, rc, &f->items[i], &err);
    }
}

/* true: the time was up before the list was done. */
static bool fetch_all(struct lake *lake, const struct hot_object *items, size_t count)
{
    struct os_thread *threads[FETCHERS_MAX];
    struct fetching f = {.lake = lake, .items = items, .count = count, .until_us = os_mono_us(lake->os) + FETCH_US_MAX};
    size_t n = MIN(MIN(lake->opt.hot_files, FETCHERS_MAX), count);

    for (size_t i = 1; i < n; i++)
        threads[i] = lake->os->ops->thread_new(lake->os, "hot fetch", fetch_thread, &f);
    fetch_thread(&f);
    for (size_t i = 1; i < n; i++)
        lake->os->ops->thread_join(lake->os, threads[i]);
    return atomic_load(&f.next) < count && !atomic_load(&f.full);
}

/* The wanted files that are not here, in the front of the list. */
static size_t missing(struct wanted *w, uint64_t *bytes)
{
    size_t n = 0;

    *bytes = 0;
    for (size_t i = 0; i < w->count; i++)
        if (!hot_has(w->lake->hot, w->items[i].key)) {
            *bytes += w->items[i].bytes;
            w->items[n++] = w->items[i];
        }
    return n;
}

enum err_code lake_hot_round(struct lake *lake, bool *behind, struct err *err)
{
    _cleanup_(wanted_done) struct wanted w = {.lake = lake};
    uint64_t bytes;

    *behind = false;
    TRY(catalog_list(lake->cat, want_stream, &w, err));
    catalog_list_damaged(lake->cat, spare_damaged, &w);
    fit(&w);
    hot_retain(lake->hot, w.items, w.count, w.spare, w.spare_count);
    size_t n = missing(&w, &bytes);
    metric_set(lake->m_hot_missing, (double)n);
    metric_set(lake->m_hot_missing_bytes, (double)bytes);
    if (n)
        *behind = fetch_all(lake, w.items, n);
    else
        hot_scrub(lake->hot, SCRUB_BYTES_MAX);
    return ERR_OK;
}
