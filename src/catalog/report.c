/* report.c: what the bucket holds (catalog_report) and whether its data files are what the catalog says (catalog_scrub). Deletes nothing. */
#include <inttypes.h>

#include "base/hash.h"
#include "catalog/catalog_int.h"
#include "catalog/edit.h"
#include "catalog/sweep.h"

#include "base/banned.h"

/* ---- report */

struct reporting {
    struct catalog *cat;
    struct storage_report *total;
    struct texts_list {
        char **items;
        size_t count, cap;
    } dirs;
};

static void count(struct storage_class *c, uint64_t bytes)
{
    c->objects++;
    c->bytes += bytes;
}

static bool system_item(void *arg, const struct store_list_item *item)
{
    count(&((struct reporting *)arg)->total->system, item->meta.size);
    return true;
}

static bool unknown_item(void *arg, const struct store_list_item *item)
{
    count(&((struct storage_report *)arg)->unknown, item->meta.size);
    return true;
}

static bool garbage_item(void *arg, const struct store_list_item *item)
{
    count(&((struct storage_report *)arg)->garbage, item->meta.size);
    return true;
}

static bool dir_item(void *arg, const struct store_list_item *item)
{
    struct reporting *r = arg;

    if (!item->is_prefix)
        count(&r->total->unknown, item->meta.size);
    else if (!slice_starts(item->key, slice_lit(".sluice/")))
        *ARRAY_PUSH(r->dirs.items, r->dirs.count, r->dirs.cap) = mem_str(item->key);
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
        count(by_class[all.items[i].class], all.items[i].size);
    }
    objects_done(&all);
    return ERR_OK;
}

/* One directory of the root: "<enc-name>/<sid>/". */
static enum err_code report_dir(struct reporting *r, slice prefix, struct buf *json, struct err *err)
{
    struct store *store = r->cat->store;
    _cleanup_(buf_done) struct buf name = BUF_INIT;
    struct storage_report one = {0};
    const char *state = "unknown";
    struct sid sid;
    enum err_code rc = ERR_OK;

    bool ours = incarnation_parse(prefix, &name, &sid);
    enum name_fate fate = FATE_UNKNOWN;
    if (ours)
        rc = incarnation_fate(r->cat, buf_view(&name), &sid, &fate, err);
    if (rc == ERR_OK && fate == FATE_LIVE) {
        state = "live";
        rc = report_live(r->cat, buf_view(&name), &sid, &one, err);
    }
    if (is_damage(rc)) { /* which of its files are reachable cannot be told */
        state = "damaged";
        one = (struct storage_report){0};
        rc = store->ops->list(store, prefix, slice_lit(""), false, unknown_item, &one, err);
    } else if (rc != ERR_OK || fate == FATE_LIVE) {
        /* counted, or the store is away */
    } else if (fate == FATE_DEAD) {
        state = "dead";
        rc = store->ops->list(store, prefix, slice_lit(""), false, garbage_item, &one, err);
    } else {
        rc = store->ops->list(store, prefix, slice_lit(""), false, unknown_item, &one, err);
    }
    TRY(rc);
    add_all(r->total, &one);
    if (!json)
        return ERR_OK;
    buf_str(json, json->ptr[json->len - 1] == '[' ? "{" : ",{");
    buf_str(json, "\"prefix\":");
    buf_json_str(json, prefix);
    buf_fmt(json, ",\"state\":\"%s\",", state);
    classes_put(json, &one);
    buf_byte(json, '}');
    return ERR_OK;
}

static enum err_code report_run(struct reporting *r, struct buf *json, struct err *err)
{
    struct store *store = r->cat->store;

    TRY(store->ops->list(store, slice_lit(".sluice/"), slice_lit(""), false, system_item, r, err));
    TRY(store->ops->list(store, slice_lit(""), slice_lit(""), true, dir_item, r, err));
    size_t names = r->dirs.count;
    for (size_t i = 0; i < names; i++)
        TRY(store->ops->list(store, slice_str(r->dirs.items[i]), slice_lit(""), true, dir_item, r, err));
    if (json)
        buf_str(json, "{\"incarnations\":[");
    for (size_t i = names; i < r->dirs.count; i++)
        TRY(report_dir(r, slice_str(r->dirs.items[i]), json, err));
    if (!json)
        return ERR_OK;
    buf_str(json, "],\"total\":{");
    classes_put(json, r->total);
    buf_byte(json, ',');
    class_put(json, "system", &r->total->system);
    buf_str(json, "}}");
    return ERR_OK;
}

enum err_code catalog_report(struct catalog *cat, struct storage_report *out, struct buf *json, struct err *err)
{
    struct storage_report total = {0};
    struct reporting r = {.cat = cat, .total = &total};
    enum err_code rc = report_run(&r, json, err);

    for (size_t i = 0; i < r.dirs.count; i++)
        free(r.dirs.items[i]);
    free(r.dirs.items);
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
        head_unref(h);
        if (rc == ERR_OK && s.bytes_left) { /* the next call goes on in this stream otherwise */
            cat->scrub_stream++;
            cat->scrub_file = 0;
        }
    }
    streams_release(cat, all, n);
    return rc;
}
