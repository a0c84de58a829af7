/* report.c: what the bucket holds (catalog_report) and whether its data files are what the catalog says (catalog_scrub). Deletes nothing. */
#include <inttypes.h>
#include <stdatomic.h>

#include "base/hash.h"
#include "catalog/catalog_int.h"
#include "catalog/edit.h"
#include "catalog/sweep.h"

#include "base/banned.h"

/* ---- report */

struct incarnation_report {
    struct storage_report found;
    struct buf json; /* where the caller wants it */
};
struct reporting {
    struct catalog *cat;
    int64_t now_us; /* the store's */
    struct storage_report *total;
    struct incarnations dirs;
    struct incarnation_report *found; /* of each directory */
    bool json;
};

static bool system_item(void *arg, const struct store_list_item *item)
{
    struct reporting *r = arg;
    bool left = slice_starts(item->key, slice_lit(PROBE_FOLDER)) && is_old_probe(item, r->now_us);

    storage_count(left ? &r->total->garbage : &r->total->system, item->meta.size);
    return true;
}

static bool unknown_item(void *arg, const struct store_list_item *item)
{
    storage_count(&((struct storage_report *)arg)->unknown, item->meta.size);
    return true;
}

static bool garbage_item(void *arg, const struct store_list_item *item)
{
    storage_count(&((struct storage_report *)arg)->garbage, item->meta.size);
    return true;
}

static void class_put(struct buf *out, const char *name, const struct storage_class *c)
{
    buf_fmt(out, "\"%s\":{\"bytes\":%" PRIu64 ",\"objects\":%" PRIu64 "}", name, c->bytes, c->objects);
}

static void classes_put(struct buf *out, const struct storage_report *r)
{
    class_put(out, "garbage", &r->garbage);
    buf_byte(out, ',');
    class_put(out, "limbo", &r->limbo);
    buf_byte(out, ',');
    class_put(out, "live", &r->live);
    buf_byte(out, ',');
    class_put(out, "retained", &r->retained);
    buf_byte(out, ',');
    class_put(out, "unknown", &r->unknown);
}

static void add(struct storage_class *to, const struct storage_class *c)
{
    to->objects += c->objects;
    to->bytes += c->bytes;
}

static void add_all(struct storage_report *to, const struct storage_report *r)
{
    add(&to->live, &r->live);
    add(&to->retained, &r->retained);
    add(&to->limbo, &r->limbo);
    add(&to->garbage, &r->garbage);
    add(&to->unknown, &r->unknown);
}

static enum err_code report_live(struct catalog *cat, slice name, const struct sid *sid, struct storage_report *r,
                                 struct err *err)
{
    const struct classify_options opt = {0};
    struct objects all;

    TRY(objects_classify(cat, name, sid, &opt, &all, err));
    for (size_t i = 0; i < all.count; i++) {
        struct storage_class *const by_class[] = {
            [OBJECT_LIVE] = &r->live,       [OBJECT_RETAINED] = &r->retained, [OBJECT_LIMBO] = &r->limbo,
            [OBJECT_GARBAGE] = &r->garbage, [OBJECT_UNKNOWN] = &r->unknown,
        };
        storage_count(by_class[all.items[i].class], all.items[i].size);
    }
    objects_done(&all);
    return ERR_OK;
}

static enum err_code report_incarnation(struct catalog *cat, slice prefix, bool json, struct incarnation_report *out,
                                        struct err *err)
{
    struct store *store = cat->store;
    _cleanup_(buf_done) struct buf name = BUF_INIT;
    const char *state = "unknown";
    struct sid sid;
    enum err_code rc = ERR_OK;

    bool ours = incarnation_parse(prefix, &name, &sid);
    enum name_fate fate = FATE_UNKNOWN;
    if (ours)
        rc = incarnation_fate(cat, buf_view(&name), &sid, &fate, err);
    if (rc == ERR_OK && fate == FATE_LIVE) {
        state = "live";
        rc = report_live(cat, buf_view(&name), &sid, &out->found, err);
    }
    if (is_damage(rc)) { /* which of its files are reachable cannot be told */
        state = "damaged";
        out->found = (struct storage_report){0};
        rc = store->ops->list(store, prefix, slice_lit(""), false, unknown_item, &out->found, err);
    } else if (rc != ERR_OK || fate == FATE_LIVE) {
        /* counted, or the store is away */
    } else if (fate == FATE_DEAD) {
        state = "dead";
        rc = store->ops->list(store, prefix, slice_lit(""), false, garbage_item, &out->found, err);
    } else {
        rc = store->ops->list(store, prefix, slice_lit(""), false, unknown_item, &out->found, err);
    }
    TRY(rc);
    if (!json)
        return ERR_OK;
    buf_str(&out->json, "{\"prefix\":");
    buf_json_str(&out->json, prefix);
    buf_fmt(&out->json, ",\"state\":\"%s\",", state);
    classes_put(&out->json, &out->found);
    buf_byte(&out->json, '}');
    return ERR_OK;
}

static enum err_code report_at(void *arg, size_t index, struct err *err)
{
    struct reporting *r = arg;
    return report_incarnation(r->cat, slice_str(r->dirs.items[index]), r->json, &r->found[index], err);
}

static void report_json(const struct reporting *r, struct buf *json)
{
    buf_str(json, "{\"incarnations\":[");
    for (size_t i = 0; i < r->dirs.count; i++) {
        if (i)
            buf_byte(json, ',');
        buf_slice(json, buf_view(&r->found[i].json));
    }
    buf_str(json, "],\"total\":{");
    classes_put(json, r->total);
    buf_byte(json, ',');
    class_put(json, "system", &r->total->system);
    buf_str(json, "}}");
}

static enum err_code report_run(struct reporting *r, struct err *err)
{
    struct store *store = r->cat->store;

    TRY(store->ops->now_us(store, &r->now_us, err));
    TRY(store->ops->list(store, slice_lit(".sluice/"), slice_lit(""), false, system_item, r, err));
    TRY(incarnations_list(r->cat, &r->dirs, err));
    r->found = mem_zalloc((r->dirs.count + 1) * sizeof(*r->found));
    TRY(parallel_each(r->cat->os, store->parallel, r->dirs.count, report_at, r, err));
    r->total->unknown = r->dirs.stray;
    for (size_t i = 0; i < r->dirs.count; i++)
        add_all(r->total, &r->found[i].found);
    return ERR_OK;
}

enum err_code catalog_report(struct catalog *cat, struct storage_report *out, struct buf *json, struct err *err)
{
    struct storage_report total = {0};
    struct reporting r = {.cat = cat, .total = &total, .json = json != NULL};
    enum err_code rc = report_run(&r, err);

    if (rc == ERR_OK && json)
        report_json(&r, json);
    for (size_t i = 0; r.found && i < r.dirs.count; i++)
        buf_done(&r.found[i].json);
    free(r.found);
    incarnations_done(&r.dirs);
    if (rc == ERR_OK)
        *out = total;
    return rc;
}

/* ---- scrub */

struct scrubbing {
    struct catalog *cat;
    struct stream *stream;
    uint64_t bytes_left;
    size_t at; /* file of this stream */
    void (*bad)(void *arg, slice key, const char *why);
    void *arg;
};

/* A file that is gone may have been compacted or expired meanwhile: the tail of the version decides. */
static bool still_listed(struct scrubbing *s, slice path)
{
    os_lock(s->cat->os, s->cat->mu);
    struct stream_version *v = s->stream->version ? stream_version_ref(s->stream->version) : NULL;
    os_unlock(s->cat->os, s->cat->mu);
    struct plan plan;
    bool found = false;
    _cleanup_(buf_done) struct buf key = BUF_INIT;

    if (!v)
        return false;
    stream_dir_put(&key, slice_str(s->stream->name), &s->stream->sid);
    buf_slice(&key, path);
    if (stream_version_plan(v, INT64_MIN, INT64_MAX, NULL, 0, &plan, NULL) == ERR_OK)
        for (size_t i = 0; i < plan.count; i++)
            found |= slice_eq(plan.files[i].key, buf_view(&key));
    plan_done(&plan);
    stream_version_unref(v);
    return found;
}

static enum err_code scrub_file(void *arg, struct entry *e, struct err *err)
{
    struct scrubbing *s = arg;
    _cleanup_(buf_done) struct buf key = BUF_INIT;
    uint32_t crc;
    uint64_t size;

    if (s->at++ < s->cat->scrub_file || s->bytes_left == 0)
        return ERR_OK;
    stream_dir_put(&key, slice_str(s->stream->name), &s->stream->sid);
    buf_slice(&key, e->path);
    enum err_code rc = store_fetch(s->cat->os, s->cat->store, buf_view(&key), NULL, &size, &crc, err);
    if (rc == ERR_NOT_FOUND) {
        if (still_listed(s, e->path))
            s->bad(s->arg, buf_view(&key), "missing");
        rc = ERR_OK;
    } else if (rc == ERR_OK && (size != e->bytes || crc != e->crc32c)) {
        s->bad(s->arg, buf_view(&key),
               size != e->bytes ? "its length differs from the catalog" : "its checksum differs from the catalog");
    }
    s->bytes_left -= MIN(s->bytes_left, e->bytes);
    s->cat->scrub_file = s->at;
    return rc;
}

/* A damaged pack costs no answer (filter.h, F3), and the next round of catalog_index() makes another. */
static enum err_code scrub_filters(struct scrubbing *s, const struct head *h, struct err *err)
{
    struct store *store = s->cat->store;

    for (size_t i = 0; i < h->filters_count; i++) {
        struct filter *f = h->filters[i];
        _cleanup_(buf_done) struct buf key = BUF_INIT, bytes = BUF_INIT;
        if (s->at++ < s->cat->scrub_file || s->bytes_left == 0 || atomic_load(&f->broken))
            continue;
        stream_dir_put(&key, slice_str(s->stream->name), &s->stream->sid);
        buf_slice(&key, f->path);
        enum err_code rc = store->ops->read(store, buf_view(&key), 0, UINT64_MAX, &bytes, NULL, err);
        if (rc == ERR_OK)
            rc = slf_check(buf_view(&bytes), err);
        if (is_damage(rc))
            s->bad(s->arg, buf_view(&key), err->msg);
        if (is_damage(rc) || rc == ERR_NOT_FOUND) /* of an older head, perhaps */
            atomic_store(&f->broken, true);
        else
            TRY(rc);
        s->bytes_left -= MIN(s->bytes_left, f->bytes_len);
        s->cat->scrub_file = s->at;
    }
    return ERR_OK;
}

enum err_code catalog_scrub(struct catalog *cat, uint64_t bytes_max, void (*bad)(void *arg, slice key, const char *why),
                            void *arg, struct err *err)
{
    struct scrubbing s = {.cat = cat, .bytes_left = bytes_max, .bad = bad, .arg = arg};
    size_t n;
    struct stream **all = streams_all(cat, &n);
    enum err_code rc = ERR_OK;

    if (cat->scrub_stream >= n)
        cat->scrub_stream = cat->scrub_file = 0;
    while (rc == ERR_OK && s.bytes_left && cat->scrub_stream < n) {
        s.stream = all[cat->scrub_stream];
        s.at = 0;
        os_lock(cat->os, cat->mu);
        struct head *h = s.stream->head && !s.stream->head->dead ? head_ref(s.stream->head) : NULL;
        os_unlock(cat->os, cat->mu);
        if (h)
            rc = head_each(cat, h, scrub_file, &s, err);
        if (h && rc == ERR_OK)
            rc = scrub_filters(&s, h, err);
        head_unref(h);
        if (rc == ERR_OK && s.bytes_left) { /* the next call goes on in this stream otherwise */
            cat->scrub_stream++;
            cat->scrub_file = 0;
        }
    }
    streams_release(cat, all, n);
    return rc;
}
