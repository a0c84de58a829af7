/* view.c: a version is the head and the entries that it does not cover yet. Immutable, so that a query keeps it as long as it likes. */
#include <stdatomic.h>

#include "base/timetext.h"
#include "catalog/catalog_int.h"

#include "base/banned.h"

static void count_file(struct stream_stats *s, const struct entry *e, bool unfolded)
{
    s->rows += e->rows;
    s->raw_bytes += e->raw_bytes;
    s->file_bytes += e->bytes;
    s->files++;
    s->first_us = s->files == 1 ? e->tmin_us : MIN(s->first_us, e->tmin_us);
    s->last_us = s->files == 1 ? e->tmax_us : MAX(s->last_us, e->tmax_us);
    if (unfolded) {
        s->lifetime_rows += e->rows;
        s->lifetime_raw_bytes += e->raw_bytes;
        s->lifetime_file_bytes += e->bytes;
    }
}

static void count_manifest(struct stream_stats *s, const struct manifest *m)
{
    s->first_us = s->files == 0 ? m->tmin_us : MIN(s->first_us, m->tmin_us);
    s->last_us = s->files == 0 ? m->tmax_us : MAX(s->last_us, m->tmax_us);
    s->rows += m->rows;
    s->raw_bytes += m->raw_bytes;
    s->file_bytes += m->bytes;
    s->files += m->count;
}

struct stream_version *version_new(struct store *store, struct head *head, const struct unfolded *u, size_t n)
{
    struct stream_version *v = mem_zalloc(sizeof(*v));

    v->refs = 1;
    v->store = store;
    v->head = head_ref(head);
    v->stats.lifetime_rows = head->lifetime.rows;
    v->stats.lifetime_raw_bytes = head->lifetime.raw_bytes;
    v->stats.lifetime_file_bytes = head->lifetime.file_bytes;
    v->stats.deleted_rows = head->deleted.rows;
    v->stats.deleted_raw_bytes = head->deleted.raw_bytes;
    v->stats.deleted_file_bytes = head->deleted.file_bytes;
    for (size_t i = 0; i < head->manifests_count; i++)
        count_manifest(&v->stats, head->manifests[i]);
    for (size_t i = 0; i < head->files.count; i++)
        count_file(&v->stats, head->files.items[i], false);
    for (size_t i = 0; i < n; i++) {
        if (head_covers(head, slice_str(u[i].lane->name), u[i].slot))
            continue;
        entry_list_add(&v->tail, entry_ref(u[i].entry));
        count_file(&v->stats, u[i].entry, true);
    }
    return v;
}

struct stream_version *stream_version_ref(struct stream_version *v)
{
    atomic_fetch_add_explicit(&v->refs, 1, memory_order_relaxed);
    return v;
}

void stream_version_unref(struct stream_version *v)
{
    if (!v || atomic_fetch_sub_explicit(&v->refs, 1, memory_order_acq_rel) != 1)
        return;
    entry_list_done(&v->tail);
    head_unref(v->head);
    free(v);
}

const struct sid *stream_version_sid(const struct stream_version *v)
{
    return &v->head->sid;
}

slice stream_version_name(const struct stream_version *v)
{
    return v->head->name;
}

const struct stream_config *stream_version_config(const struct stream_version *v)
{
    return &v->head->config;
}

struct schema *stream_version_schema(const struct stream_version *v)
{
    return v->head->schema;
}

const struct stream_stats *stream_version_stats(const struct stream_version *v)
{
    return &v->stats;
}

struct day_sum {
    int64_t from_us, to_us;
    uint64_t *out;
};

static void day_entry(const struct day_sum *d, const struct entry *e)
{
    if (e->tmin_us < d->from_us || e->tmin_us >= d->to_us) /* a file never crosses an hour */
        return;
    d->out[0] += e->rows;
    d->out[1] += e->raw_bytes;
    d->out[2] += e->bytes;
}

static void day_manifest(const struct stream_version *v, const struct day_sum *d, struct manifest *m)
{
    _cleanup_(buf_done) struct buf dir = BUF_INIT;
    const struct slm *s;

    if (m->tmax_us < d->from_us || m->tmin_us >= d->to_us)
        return;
    stream_dir_put(&dir, v->head->name, &v->head->sid);
    if (manifest_load(v->store, buf_view(&dir), m, &s, NULL) != ERR_OK)
        return; /* a number for people; the query that needs the files reports the damage */
    for (uint32_t i = 0; i < s->count; i++)
        if (s->tmin[i] >= d->from_us && s->tmin[i] < d->to_us) {
            d->out[0] += s->rows_of[i];
            d->out[1] += s->raw_bytes[i];
            d->out[2] += s->file_bytes[i];
        }
}

void stream_version_day(const struct stream_version *v, slice day, uint64_t out[3])
{
    int64_t days;

    memset(out, 0, 3 * sizeof(*out));
    if (!time_parse_date(day, &days))
        return;
    const struct day_sum d = {days * 86400000000, (days + 1) * 86400000000, out};
    for (size_t i = 0; i < v->head->manifests_count; i++)
        day_manifest(v, &d, v->head->manifests[i]);
    for (size_t i = 0; i < v->head->files.count; i++)
        day_entry(&d, v->head->files.items[i]);
    for (size_t i = 0; i < v->tail.count; i++)
        day_entry(&d, v->tail.items[i]);
}
