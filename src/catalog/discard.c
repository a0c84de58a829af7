/* discard.c: see discard.h; the public calls of a round, which differ only in what they look at. */
#include "catalog/discard.h"

#include "base/banned.h"

static const char *const reasons[] = {
    [GC_SUPERSEDED_HEAD] = "superseded head",     [GC_SUPERSEDED_CHECKPOINT] = "superseded checkpoint",
    [GC_FOLDED_RECORD] = "folded lane record",    [GC_UNLISTED_FILE] = "unlisted data file",
    [GC_UNFINISHED_UPLOAD] = "unfinished upload", [GC_UNLISTED_MANIFEST] = "unlisted manifest",
    [GC_UNLISTED_FILTER] = "unlisted filters",    [GC_DEAD_INCARNATION] = "dead incarnation",
    [GC_PROBE] = "probe that ended early",
};

const char *gc_reason_text(enum gc_reason why)
{
    return reasons[why];
}

void discard_done(struct discard *d)
{
    free(d->lanes.items);
    d->lanes = (struct lane_gcs){0};
}

void discard_at(const struct discard *d, slice folder)
{
    if (d->opt->at)
        d->opt->at(d->opt->arg, folder);
}

static void count(struct catalog_work *out, slice folder, slice key, uint64_t bytes)
{
    slice name = slice_from(key, folder.len);
    bool slot = slice_starts(name, slice_lit("_head/")) ||
                (slice_starts(folder, slice_lit(".sluice/")) && !slice_eq(folder, slice_lit(PROBE_FOLDER)));

    *(slot ? &out->slots_deleted : &out->files_deleted) += 1;
    out->bytes_deleted += bytes;
}

static void gone(struct discard *d, slice folder, slice key, uint64_t bytes, enum gc_reason why)
{
    const struct gc_item item = {.folder = folder, .key = key, .bytes = bytes, .why = why};

    count(d->out, folder, key, bytes);
    if (d->opt->tell)
        d->opt->tell(d->opt->arg, &item);
}

void discard_told(struct discard *d, slice folder, slice key, enum gc_reason why)
{
    gone(d, folder, key, 0, why);
}

enum err_code discard(struct discard *d, slice folder, slice key, uint64_t bytes, enum gc_reason why, struct err *err)
{
    struct store *store = d->cat->store;

    if (!d->opt->dry_run)
        TRY(store->ops->remove(store, key, err));
    gone(d, folder, key, bytes, why);
    return ERR_OK;
}

enum err_code discard_many(struct discard *d, slice folder, const struct garbage *items, size_t count, struct err *err)
{
    slice keys[STORE_REMOVE_MAX];

    for (size_t at = 0; at < count; at += STORE_REMOVE_MAX) {
        size_t n = MIN(count - at, (size_t)STORE_REMOVE_MAX);
        for (size_t i = 0; i < n; i++)
            keys[i] = items[at + i].key;
        if (!d->opt->dry_run)
            TRY(store_remove_many(d->cat->store, keys, n, err));
        for (size_t i = 0; i < n; i++)
            gone(d, folder, items[at + i].key, items[at + i].bytes, items[at + i].why);
    }
    return ERR_OK;
}

static enum err_code round_of(struct catalog *cat, const struct gc_options *opt, bool gc, bool reconcile,
                              struct catalog_work *out, struct err *err)
{
    struct discard d = {.cat = cat, .opt = opt, .out = out};

    TRY(cat->store->ops->now_us(cat->store, &d.now_us, err));
    enum err_code rc = gc ? gc_round(&d, err) : ERR_OK;
    if (rc == ERR_OK && reconcile)
        rc = reconcile_round(&d, err);
    discard_done(&d);
    return rc;
}

enum err_code catalog_gc(struct catalog *cat, struct catalog_work *out, struct err *err)
{
    const struct gc_options opt = {0};
    return round_of(cat, &opt, true, false, out, err);
}

enum err_code catalog_reconcile(struct catalog *cat, struct catalog_work *out, struct err *err)
{
    const struct gc_options opt = {0};
    return round_of(cat, &opt, false, true, out, err);
}

enum err_code catalog_collect(struct catalog *cat, const struct gc_options *opt, struct catalog_work *out,
                              struct err *err)
{
    return round_of(cat, opt, true, true, out, err);
}
