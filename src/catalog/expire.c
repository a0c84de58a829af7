/* expire.c: retention (catalog.md section 8): files whose day of p_timestamp is older than the stream's limit leave the head in one append.
 * Their objects go when no retained head names them any more (gc.c). A compaction that had one of them as an input fails its check. */
#include "catalog/edit.h"

#include "base/banned.h"

#define DAY_US INT64_C(86400000000)

struct expiry {
    struct catalog *cat;
    int64_t now_us;
    uint64_t files, rows;
};

/* Files that end before this instant are too old: whole days, so that a day goes at once. */
static int64_t cutoff_us(const struct head *h, int64_t now_us)
{
    return (now_us / DAY_US - (int64_t)h->config.retention_days) * DAY_US;
}

static bool match_all(void *arg, const struct entry *e)
{
    return e->tmax_us < *(const int64_t *)arg;
}

static bool has_old(const struct head *h, int64_t cutoff)
{
    for (size_t i = 0; i < h->files.count; i++)
        if (h->files.items[i]->tmax_us < cutoff)
            return true;
    for (size_t i = 0; i < h->manifests_count; i++)
        if (h->manifests[i]->tmin_us < cutoff)
            return true;
    return false;
}

static void forget_sums(struct head *h, uint64_t rows, uint64_t raw, uint64_t bytes, uint64_t files)
{
    h->deleted.rows += rows;
    h->deleted.raw_bytes += raw;
    h->deleted.file_bytes += bytes;
    h->deleted.files += files;
}

/* Whole manifests need not be read. */
static void drop_manifests(struct head *h, int64_t cutoff, struct expiry *x)
{
    size_t kept = 0;

    for (size_t i = 0; i < h->manifests_count; i++) {
        struct manifest *m = h->manifests[i];
        if (m->tmax_us >= cutoff) {
            h->manifests[kept++] = m;
            continue;
        }
        forget_sums(h, m->rows, m->raw_bytes, m->bytes, m->count);
        x->files += m->count;
        x->rows += m->rows;
        manifest_unref(m);
    }
    h->manifests_count = kept;
}

static enum err_code edit_expire(void *arg, struct stream *s, struct head *h, bool *changed, struct err *err)
{
    struct expiry *x = arg;
    struct entry_list removed = {0};
    int64_t cutoff = cutoff_us(h, x->now_us);

    (void)s;
    x->files = x->rows = 0;
    if (h->config.retention_days == 0 || !has_old(h, cutoff))
        return ERR_OK;
    drop_manifests(h, cutoff, x);
    enum err_code rc = head_remove(x->cat, h, INT64_MIN, cutoff - 1, match_all, &cutoff, &removed, err);
    for (size_t i = 0; i < removed.count; i++) {
        forget_sums(h, removed.items[i]->rows, removed.items[i]->raw_bytes, removed.items[i]->bytes, 1);
        x->rows += removed.items[i]->rows;
    }
    x->files += removed.count;
    entry_list_done(&removed);
    TRY(rc);
    *changed = x->files > 0;
    return head_spill(x->cat, h, err);
}

enum err_code catalog_expire(struct catalog *cat, struct catalog_work *out, struct err *err)
{
    struct expiry x = {.cat = cat};
    size_t n;

    TRY(cat->store->ops->now_us(cat->store, &x.now_us, err));
    struct stream **all = streams_all(cat, &n);
    enum err_code rc = ERR_OK;
    for (size_t i = 0; i < n && rc == ERR_OK; i++) {
        os_lock(cat->os, cat->mu);
        const struct head *h = all[i]->head;
        bool due = h && !h->dead && h->config.retention_days && has_old(h, cutoff_us(h, x.now_us));
        os_unlock(cat->os, cat->mu);
        if (!due)
            continue;
        x.files = x.rows = 0;
        rc = head_update(cat, all[i], edit_expire, &x, err);
        if (rc == ERR_OK) {
            out->files_expired += x.files;
            out->rows_expired += x.rows;
        } else if (rc == ERR_NOT_FOUND) {
            rc = ERR_OK;
        }
    }
    streams_release(cat, all, n);
    return rc;
}
