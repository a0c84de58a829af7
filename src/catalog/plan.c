/* plan.c: which files of a version can hold rows of a time range and of value ranges, newest first.
 *
 * A manifest is sorted by tmax and holds suffix_tmin[i] = min(tmin[i..]): both are monotone, so the rows that can overlap [a, b] lie
 * between two binary searches; inside, tmin and the statistics are compared. Each manifest gives a run sorted by tmax; runs are merged
 * pairwise, and since manifests seldom overlap in time most merges are a concatenation. Keys are formatted only for what is left. */
#include "catalog/catalog_int.h"

#include "base/banned.h"

struct pick {
    int64_t tmax_us;
    const struct slm *slm; /* or */
    uint32_t row;
    const struct entry *entry;
};
struct picks {
    struct pick *items;
    size_t count, cap;
    size_t *runs; /* [runs_count] ends of runs; within one, tmax falls */
    size_t runs_count, runs_cap;
};
struct want {
    int64_t a, b; /* closed */
    const struct plan_range *ranges;
    size_t ranges_count;
};

static void pick_add(struct picks *p, int64_t tmax_us, const struct slm *slm, uint32_t row, const struct entry *e)
{
    if (p->count == p->cap)
        mem_grow((void **)&p->items, &p->cap, p->count + 1, sizeof(*p->items));
    p->items[p->count++] = (struct pick){tmax_us, slm, row, e};
}

static void run_end(struct picks *p)
{
    if (p->count && (p->runs_count == 0 || p->runs[p->runs_count - 1] != p->count))
        *ARRAY_PUSH(p->runs, p->runs_count, p->runs_cap) = p->count;
}

/* First row whose tmax >= a. */
static uint32_t first_tmax(const struct slm *m, int64_t a)
{
    uint32_t lo = 0, hi = m->count;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (m->tmax[mid] >= a)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

/* First row from which on every tmin > b. */
static uint32_t first_after(const struct slm *m, int64_t b)
{
    uint32_t lo = 0, hi = m->count;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (m->suffix_tmin[mid] > b)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

/* The columns of the manifest that the ranges ask about. */
struct bound {
    const uint64_t *min, *max;
    uint64_t from, to;
};

static size_t bind(const struct slm *m, const struct want *w, struct bound out[MANIFEST_COLS_MAX])
{
    size_t n = 0;

    for (size_t r = 0; r < w->ranges_count; r++)
        for (uint32_t c = 0; c < m->cols_count && n < MANIFEST_COLS_MAX; c++)
            if (m->field_ids[c] == w->ranges[r].field_id)
                out[n++] = (struct bound){m->col_min[c], m->col_max[c], w->ranges[r].min, w->ranges[r].max};
    return n;
}

static void pick_manifest(struct picks *p, const struct slm *m, const struct want *w)
{
    struct bound bounds[MANIFEST_COLS_MAX];
    size_t n = bind(m, w, bounds);
    uint32_t lo = first_tmax(m, w->a), hi = first_after(m, w->b);

    for (uint32_t i = hi; i-- > lo;) {
        bool match = m->tmin[i] <= w->b;
        for (size_t k = 0; k < n && match; k++)
            match = bounds[k].min[i] <= bounds[k].to && bounds[k].max[i] >= bounds[k].from;
        if (match)
            pick_add(p, m->tmax[i], m, i, NULL);
    }
    run_end(p);
}

static bool entry_matches(const struct entry *e, const struct want *w)
{
    if (e->tmax_us < w->a || e->tmin_us > w->b)
        return false;
    for (size_t r = 0; r < w->ranges_count; r++)
        for (uint32_t c = 0; c < e->cols_count; c++) {
            const struct segment_stat *s = &e->cols[c];
            if (s->field_id == w->ranges[r].field_id &&
                (!s->has_minmax || s->min > w->ranges[r].max || s->max < w->ranges[r].min))
                return false;
        }
    return true;
}

static int newest_first(const void *a, const void *b)
{
    const struct pick *x = a, *y = b;
    return (x->tmax_us < y->tmax_us) - (x->tmax_us > y->tmax_us);
}

static void pick_entries(struct picks *p, const struct entry_list *l, const struct want *w)
{
    size_t from = p->count;

    for (size_t i = 0; i < l->count; i++)
        if (entry_matches(l->items[i], w))
            pick_add(p, l->items[i]->tmax_us, NULL, 0, l->items[i]);
    if (p->count > from)
        qsort(p->items + from, p->count - from, sizeof(*p->items), newest_first);
    run_end(p);
}

/* Merges [a, b) and [b, c) of `in` into `out`. */
static void merge_two(const struct pick *in, struct pick *out, size_t a, size_t b, size_t c)
{
    size_t x = a, y = b, n = a;

    if (b == c || in[b - 1].tmax_us >= in[b].tmax_us) { /* in order already */
        memcpy(out + a, in + a, (c - a) * sizeof(*in));
        return;
    }
    if (in[c - 1].tmax_us >= in[a].tmax_us) { /* in order the other way round */
        memcpy(out + a, in + b, (c - b) * sizeof(*in));
        memcpy(out + a + (c - b), in + a, (b - a) * sizeof(*in));
        return;
    }
    while (x < b && y < c)
        out[n++] = in[x].tmax_us >= in[y].tmax_us ? in[x++] : in[y++];
    memcpy(out + n, in + x, (b - x) * sizeof(*in));
    memcpy(out + n + (b - x), in + y, (c - y) * sizeof(*in));
}

static void merge_runs(struct picks *p)
{
    struct pick *spare = p->runs_count > 1 ? mem_alloc(p->count * sizeof(*spare)) : NULL;

    while (p->runs_count > 1) {
        size_t n = 0, from = 0;
        for (size_t i = 0; i < p->runs_count; i += 2) {
            size_t mid = p->runs[i], end = i + 1 < p->runs_count ? p->runs[i + 1] : mid;
            merge_two(p->items, spare, from, mid, end);
            p->runs[n++] = from = end;
        }
        p->runs_count = n;
        struct pick *swap = p->items;
        p->items = spare;
        spare = swap;
    }
    free(spare);
}

static void put_file(struct plan *out, const struct pick *p, slice dir, struct buf *key)
{
    struct plan_file *f = &out->files[out->count++];

    key->len = 0;
    buf_slice(key, dir);
    if (p->entry) {
        const struct entry *e = p->entry;
        buf_slice(key, e->path);
        *f = (struct plan_file){.rows = e->rows,
                                .bytes = e->bytes,
                                .tmin_us = e->tmin_us,
                                .tmax_us = e->tmax_us,
                                .crc32c = e->crc32c,
                                .by_name = e->schema & FILE_COLUMNS_BY_NAME};
    } else {
        const struct slm *m = p->slm;
        slm_path(m, p->row, key);
        *f = (struct plan_file){.rows = m->rows_of[p->row],
                                .bytes = m->file_bytes[p->row],
                                .tmin_us = m->tmin[p->row],
                                .tmax_us = m->tmax[p->row],
                                .crc32c = m->crc32c[p->row],
                                .by_name = m->schema[p->row] & FILE_COLUMNS_BY_NAME};
    }
    f->key = arena_copy(&out->arena, buf_view(key));
}

/* The caller decides what an answer without those files is worth. */
static void plan_lost(struct plan *out, const struct manifest *ref, slice dir, size_t most)
{
    _cleanup_(buf_done) struct buf key = BUF_INIT;

    if (!out->lost)
        out->lost = arena_alloc(&out->arena, most * sizeof(*out->lost));
    buf_slice(&key, dir);
    buf_slice(&key, ref->path);
    out->lost[out->lost_count++] = (struct plan_file){.key = arena_copy(&out->arena, buf_view(&key)),
                                                      .rows = ref->rows,
                                                      .bytes = ref->bytes_len,
                                                      .tmin_us = ref->tmin_us,
                                                      .tmax_us = ref->tmax_us,
                                                      .crc32c = ref->crc32c};
}

static enum err_code pick_all(struct stream_version *v, const struct want *w, slice dir, struct picks *p,
                              struct plan *out, struct err *err)
{
    const struct slm *m;

    for (size_t i = 0; i < v->head->manifests_count; i++) {
        struct manifest *ref = v->head->manifests[i];
        if (ref->tmax_us < w->a || ref->tmin_us > w->b)
            continue;
        enum err_code rc = manifest_load(v->store, dir, ref, &m, err);
        if (is_damage(rc) || rc == ERR_NOT_FOUND || rc == ERR_IO) {
            plan_lost(out, ref, dir, v->head->manifests_count);
            continue;
        }
        TRY(rc);
        pick_manifest(p, m, w);
    }
    pick_entries(p, &v->head->files, w);
    pick_entries(p, &v->tail, w);
    return ERR_OK;
}

enum err_code stream_version_plan(struct stream_version *v, int64_t tmin_us, int64_t tmax_us,
                                  const struct plan_range *ranges, size_t ranges_count, struct plan *out,
                                  struct err *err)
{
    const struct want w = {tmin_us, tmax_us == INT64_MAX ? INT64_MAX : tmax_us - 1, ranges, ranges_count};
    _cleanup_(buf_done) struct buf dir = BUF_INIT, key = BUF_INIT;
    struct picks p = {0};

    *out = (struct plan){.total = v->stats.files};
    if (tmax_us == INT64_MIN || w.a > w.b)
        return ERR_OK;
    stream_dir_put(&dir, v->head->name, &v->head->sid);
    enum err_code rc = pick_all(v, &w, buf_view(&dir), &p, out, err);
    if (rc == ERR_OK) {
        merge_runs(&p);
        out->files = arena_alloc(&out->arena, (p.count + 1) * sizeof(*out->files));
        for (size_t i = 0; i < p.count; i++)
            put_file(out, &p.items[i], buf_view(&dir), &key);
    }
    free(p.items);
    free(p.runs);
    return rc;
}

void plan_done(struct plan *p)
{
    arena_done(&p->arena);
    *p = (struct plan){0};
}
