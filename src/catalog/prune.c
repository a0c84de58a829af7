/* prune.c: which files of a plan cannot hold a value, by the packs of filters of its version (filter.h). A pack costs its header once, and a row
 * for each size of its filters; both are small, but requests: looking into fewer than PRUNE_MIN files costs no more, where they are small too. */
#include <stdatomic.h>

#include "base/log.h"
#include "catalog/catalog_int.h"

#include "base/banned.h"

#define PRUNE_MIN 3u
#define PRUNE_BYTES_MIN (UINT64_C(4) << 20)

struct pruning {
    struct stream_version *v;
    struct plan *plan;
    slice dir;
    bool *out; /* [plan->count] files that cannot hold it */
};

static bool is_worth_it(size_t files, uint64_t bytes)
{
    return files >= PRUNE_MIN || bytes >= PRUNE_BYTES_MIN;
}

/* Where the files of the pack stand in the plan, + 1; NULL: too few do. */
static uint32_t *files_in_plan(const struct pruning *p, const struct slf_image *image)
{
    uint32_t *at = mem_zalloc(image->slf.files * sizeof(*at)), n = 0;
    uint64_t bytes = 0;

    for (size_t i = 0; i < p->plan->count; i++) {
        if (p->out[i])
            continue;
        uintptr_t file = (uintptr_t)map_get(&image->by_path, slice_from(p->plan->files[i].key, p->dir.len));
        if (!file)
            continue;
        at[file - 1] = (uint32_t)i + 1;
        n++;
        bytes += p->plan->files[i].bytes;
    }
    if (is_worth_it(n, bytes))
        return at;
    free(at);
    return NULL;
}

static enum err_code ask_group(const struct pruning *p, struct filter *f, const struct slf_group *g, uint64_t hash,
                               const uint32_t *at, struct err *err)
{
    struct store *store = p->v->store;
    _cleanup_(buf_done) struct buf key = BUF_INIT, row = BUF_INIT;
    uint64_t offset, len;
    bool any = false;

    for (uint32_t k = 0; k < g->members && !any; k++)
        any = at[g->files[k]] && !p->out[at[g->files[k]] - 1];
    if (!any)
        return ERR_OK;
    buf_slice(&key, p->dir);
    buf_slice(&key, f->path);
    slf_row_at(g, hash, &offset, &len);
    TRY(store->ops->read(store, buf_view(&key), offset, len, &row, NULL, err));
    if (!slf_row_valid(g, buf_view(&row)))
        return err_set(err, ERR_CORRUPT, "%s is damaged", buf_cstr(&key));
    for (uint32_t k = 0; k < g->members; k++)
        if (at[g->files[k]] && !slf_row_has(buf_view(&row), k, hash))
            p->out[at[g->files[k]] - 1] = true;
    return ERR_OK;
}

static enum err_code ask(const struct pruning *p, struct filter *f, const struct plan_value *values, size_t count,
                         struct err *err)
{
    const struct slf_image *image;
    enum err_code rc = ERR_OK;

    TRY(filter_load(p->v->store, p->dir, f, &image, err));
    _cleanup_(freep) uint32_t *at = files_in_plan(p, image);
    for (uint32_t i = 0; at && i < image->slf.groups_count; i++)
        for (size_t k = 0; k < count && rc == ERR_OK; k++)
            if (image->slf.groups[i].field_id == values[k].field_id)
                rc = ask_group(p, f, &image->slf.groups[i], values[k].hash, at, err);
    return rc;
}

static bool knows_any(const struct filter *f, const struct plan_value *values, size_t count)
{
    bool any = false;

    for (size_t i = 0; i < count; i++)
        any |= filter_may_know(f, values[i].field_id);
    return any;
}

/* [*from, *to] of the files, and their bytes. */
static uint64_t span(const struct plan *plan, int64_t *from, int64_t *to)
{
    uint64_t bytes = 0;

    *from = INT64_MAX;
    *to = INT64_MIN;
    for (size_t i = 0; i < plan->count; i++) {
        bytes += plan->files[i].bytes;
        *from = MIN(*from, plan->files[i].tmin_us);
        *to = MAX(*to, plan->files[i].tmax_us);
    }
    return bytes;
}

static size_t take_out(struct plan *plan, const bool *out)
{
    size_t n = 0, before = plan->count;

    for (size_t i = 0; i < before; i++)
        if (!out[i])
            plan->files[n++] = plan->files[i];
    plan->count = n;
    return before - n;
}

size_t stream_version_prune(struct stream_version *v, const struct plan_value *values, size_t count, struct plan *plan)
{
    _cleanup_(buf_done) struct buf dir = BUF_INIT;
    const struct head *h = v->head;
    int64_t from, to;

    if (count == 0 || h->filters_count == 0 || !is_worth_it(plan->count, span(plan, &from, &to)))
        return 0;
    stream_dir_put(&dir, h->name, &h->sid);
    _cleanup_(freep) bool *out = mem_zalloc(plan->count * sizeof(*out));
    const struct pruning p = {v, plan, buf_view(&dir), out};
    for (size_t i = 0; i < h->filters_count; i++) {
        struct filter *f = h->filters[i];
        struct err err = {0};
        if (f->tmax_us < from || f->tmin_us > to || atomic_load(&f->broken) || !knows_any(f, values, count))
            continue;
        enum err_code rc = ask(&p, f, values, count, &err);
        if (rc == ERR_OK)
            continue;
        if (!is_damage(rc) && rc != ERR_NOT_FOUND && rc != ERR_IO) /* the store is away: its files will say so */
            break;
        if (!atomic_exchange(&f->broken, true)) /* F3 */
            log_warn("catalog", "filters of " SLICE_FMT " are left aside, and made again: %s", SLICE_ARG(h->name),
                     err.msg);
    }
    return take_out(plan, out);
}
