/* index.c: packs of filters (filter.h) for files that have none.
 *
 *   gather: which files are in which pack --> choose --> make, and take out of small packs --> head append: packs out, a new one in
 *
 * A file gets its filters when it will stay: when its hour is over, so that compaction is done with it, or at once where so many files of hours
 * that are not over stand that compaction does not keep up. Packs are merged when there are several small ones, or few of the files of one are
 * left; files that are gone fall out of it then. Nothing is claimed: of the nodes that live one has the turn at a stream (nodes_turn()), and where
 * two believe so, the second append finds other packs and is given up.
 * A pack is written under the slot of the head that will name it, in each attempt anew, as a manifest is: until that slot is decided it is limbo. Who dies
 * before it leaves a head of which the next round chooses the same, so that limbo ends; where there is nothing to choose by then, gc ends it. */
#include <inttypes.h>
#include <stdatomic.h>

#include "base/hash.h"
#include "base/mutant.h"
#include "catalog/edit.h"

#include "base/banned.h"

#define FILES_MIN 4u
#define FILES_BUSY 64u /* of hours that are not over: then they get filters too */
#define HOUR_US INT64_C(3600000000)
#define SETTLE_US INT64_C(1200000000) /* after the end of an hour; compaction begins at half of it */
#define ROUND_FILES_MAX 512u
#define ROUND_ROWS_MAX 8000000u
#define ROUND_BYTES_MAX (UINT64_C(256) << 20)
#define ROUND_US_MAX INT64_C(3000000)
#define PACK_BYTES_MAX (UINT64_C(96) << 20) /* held in memory while it is made */
#define PACKS_MAX 1024u                     /* a head names each: beyond it the newest files have no filters */
#define SMALL_PACKS_MIN 4u
#define SMALL_FILES_MAX 1024u
#define SMALL_BYTES_MAX (UINT64_C(32) << 20)
#define ATTEMPTS_MAX 2u /* to append: each uploads the pack again */

_Static_assert(SEGMENT_KEYS_COLUMNS_MAX <= FILTER_COLUMNS_MAX, "each column is in a group");

struct pack { /* of the head */
    struct filter *filter;
    const struct slf_image *image; /* NULL: it cannot be read */
    uint32_t live;                 /* of its files are listed */
    bool goes;
};
struct index_job {
    struct catalog *cat;
    struct stream *stream;
    struct head *head; /* all below is of this version */
    struct buf dir;
    int64_t now_us;
    struct pack *packs; /* [head->filters_count] */
    struct map listed;  /* paths of files in packs that are listed -> struct entry; keys are the packs' */
    struct entry_list listed_entries, fresh, chosen;
    size_t settled;   /* of fresh */
    size_t unsettled; /* of all */
    struct filter_files files;
    uint64_t indexed;                /* of chosen */
    uint64_t goes_bytes, goes_files; /* of packs that go: what the new one takes over, about */
    int64_t until_us;
    unsigned attempts;
    bool done;
};

static void job_free(struct index_job *j)
{
    buf_done(&j->dir);
    free(j->packs);
    map_done(&j->listed);
    entry_list_done(&j->listed_entries);
    entry_list_done(&j->fresh);
    entry_list_done(&j->chosen);
    filter_files_done(&j->files);
    head_unref(j->head);
    *j = (struct index_job){0};
}

/* What is wrong with one object, and will be so at the next try. */
static bool is_lasting(enum err_code rc)
{
    return is_damage(rc) || rc == ERR_IO || rc == ERR_LIMIT;
}

/* ---- which files */

static bool is_settled(const struct entry *e, int64_t now_us)
{
    return now_us >= e->tmin_us / HOUR_US * HOUR_US + HOUR_US + SETTLE_US;
}

static enum err_code gather_file(void *arg, struct entry *e, struct err *err)
{
    struct index_job *j = arg;

    (void)err;
    bool settled = is_settled(e, j->now_us);
    j->unsettled += !settled;
    for (size_t i = 0; i < j->head->filters_count; i++) {
        struct pack *p = &j->packs[i];
        const uintptr_t at = p->image ? (uintptr_t)map_get(&p->image->by_path, e->path) : 0;
        if (!at)
            continue;
        p->live++;
        if (!map_put(&j->listed, slf_path(&p->image->slf, (uint32_t)at - 1), e))
            entry_list_add(&j->listed_entries, entry_ref(e));
        return ERR_OK;
    }
    entry_list_add(&j->fresh, entry_ref(e));
    j->settled += settled;
    return ERR_OK;
}

static enum err_code gather(struct index_job *j, struct err *err)
{
    struct head *h = j->head;

    j->packs = mem_zalloc((h->filters_count + 1) * sizeof(*j->packs));
    stream_dir_put(&j->dir, h->name, &h->sid);
    for (size_t i = 0; i < h->filters_count; i++) {
        struct pack *p = &j->packs[i];
        p->filter = h->filters[i];
        if (atomic_load(&p->filter->broken))
            continue;
        enum err_code rc = filter_load(j->cat->store, buf_view(&j->dir), p->filter, &p->image, err);
        if (is_lasting(rc) || rc == ERR_NOT_FOUND)
            p->image = NULL;
        else
            TRY(rc);
    }
    return head_each(j->cat, h, gather_file, j, err);
}

static bool is_small(const struct pack *p)
{
    return p->image && p->filter->count < SMALL_FILES_MAX && p->filter->bytes_len < SMALL_BYTES_MAX;
}

static int oldest_first(const void *a, const void *b)
{
    const struct entry *x = *(struct entry *const *)a, *y = *(struct entry *const *)b;

    if (x->tmax_us != y->tmax_us)
        return x->tmax_us < y->tmax_us ? -1 : 1;
    return slice_cmp(x->path, y->path);
}

static void choose_files(struct index_job *j)
{
    size_t min = j->cat->filters_min ? j->cat->filters_min : FILES_MIN;
    uint64_t rows = 0, bytes = 0;
    bool all = j->unsettled >= FILES_BUSY;

    if ((all ? j->fresh.count : j->settled) < min || j->head->filters_count >= PACKS_MAX)
        return;
    qsort(j->fresh.items, j->fresh.count, sizeof(*j->fresh.items), oldest_first);
    for (size_t i = 0; i < j->fresh.count && j->chosen.count < ROUND_FILES_MAX; i++) {
        struct entry *e = j->fresh.items[i];
        if (!all && !is_settled(e, j->now_us))
            continue;
        if (j->chosen.count && (rows + e->rows > ROUND_ROWS_MAX || bytes + e->bytes > ROUND_BYTES_MAX))
            break;
        entry_list_add(&j->chosen, entry_ref(e));
        rows += e->rows;
        bytes += e->bytes;
    }
}

/* Into the new pack, if there is room; else another time. */
static bool take_over(struct index_job *j, struct pack *p)
{
    uint64_t bytes = p->image ? p->filter->bytes_len * p->live / p->filter->count : 0;

    if (j->goes_bytes + bytes > PACK_BYTES_MAX || j->goes_files + p->live > FILTER_FILES_MAX)
        return false;
    j->goes_bytes += bytes;
    j->goes_files += p->live;
    p->goes = true;
    return true;
}

/* False: there is nothing to do. */
static bool choose(struct index_job *j)
{
    size_t small = 0;
    bool any = false;

    choose_files(j);
    for (size_t i = 0; i < j->head->filters_count; i++) {
        struct pack *p = &j->packs[i];
        if (!p->image || p->live * 2 < p->filter->count)
            any |= take_over(j, p);
        small += !p->goes && is_small(p);
    }
    if (small + (j->chosen.count > 0) >= SMALL_PACKS_MIN)
        for (size_t i = 0; i < j->head->filters_count; i++)
            any |= !j->packs[i].goes && is_small(&j->packs[i]) && take_over(j, &j->packs[i]);
    return any || j->chosen.count > 0;
}

/* ---- their filters */

static bool is_listed(void *arg, slice path)
{
    struct index_job *j = arg;
    return map_get(&j->listed, path) != NULL;
}

/* What cannot be read is left out: its files are without filters then, until the next round. */
static enum err_code take_pack(struct index_job *j, struct pack *p, struct err *err)
{
    struct store *store = j->cat->store;
    _cleanup_(buf_done) struct buf key = BUF_INIT, bytes = BUF_INIT;

    if (!p->image || p->live == 0)
        return ERR_OK;
    buf_slice(&key, buf_view(&j->dir));
    buf_slice(&key, p->filter->path);
    enum err_code rc = store->ops->read(store, buf_view(&key), 0, UINT64_MAX, &bytes, NULL, err);
    if (rc == ERR_OK)
        rc = slf_take(buf_view(&bytes), is_listed, j, &j->files, err);
    return is_lasting(rc) || rc == ERR_NOT_FOUND ? ERR_OK : rc;
}

/* A file that cannot be read stands in the pack without a filter, so that it does not cost a try each round. */
static enum err_code take_file(struct index_job *j, const struct entry *e, keys_fn keys, void *arg, struct err *err)
{
    _cleanup_(buf_done) struct buf key = BUF_INIT;
    struct segment_keys k = {0};
    struct merge_input in = {.by_name = e->schema & FILE_COLUMNS_BY_NAME};

    buf_slice(&key, buf_view(&j->dir));
    buf_slice(&key, e->path);
    in.key = buf_view(&key);
    enum err_code rc = input_take(j->cat, e, &in, err);
    if (rc == ERR_OK)
        rc = keys(arg, j->head->schema, &in, &k, err);
    if (rc == ERR_OK || is_lasting(rc)) {
        struct filter_file *file = filter_files_add(&j->files, e->path);
        for (size_t c = 0; c < k.count && rc == ERR_OK; c++)
            filter_file_put(&j->files, file, k.columns[c].field_id, k.columns[c].hashes, k.columns[c].count);
        rc = ERR_OK;
    }
    segment_keys_done(&k);
    j->cat->os->ops->close(j->cat->os, in.copy);
    return rc;
}

static enum err_code make(struct index_job *j, keys_fn keys, void *arg, struct err *err)
{
    for (size_t i = 0; i < j->head->filters_count; i++)
        if (j->packs[i].goes)
            TRY(take_pack(j, &j->packs[i], err));
    for (size_t i = 0; i < j->chosen.count && j->files.bytes < PACK_BYTES_MAX && j->files.count < FILTER_FILES_MAX;
         i++) {
        if (j->indexed >= FILES_MIN && os_mono_us(j->cat->os) > j->until_us)
            break;
        TRY(take_file(j, j->chosen.items[i], keys, arg, err));
        j->indexed++;
    }
    return ERR_OK;
}

/* ---- the pack */

struct writing {
    struct catalog *cat;
    struct os_file *file;
    uint64_t len;
    uint32_t crc;
};

static enum err_code write_piece(void *arg, slice piece, struct err *err)
{
    struct writing *w = arg;
    const struct os_iov iov = {piece.ptr, piece.len};

    TRY(w->cat->os->ops->pwritev(w->cat->os, w->file, &iov, 1, w->len, err));
    w->len += piece.len;
    w->crc = crc32c(w->crc, piece.ptr, piece.len);
    return ERR_OK;
}

static void pack_span(const struct index_job *j, int64_t *from, int64_t *to)
{
    *from = INT64_MAX;
    *to = INT64_MIN;
    for (size_t i = 0; i < j->chosen.count; i++) {
        *from = MIN(*from, j->chosen.items[i]->tmin_us);
        *to = MAX(*to, j->chosen.items[i]->tmax_us);
    }
    for (size_t i = 0; i < j->head->filters_count; i++) {
        if (!j->packs[i].goes || !j->packs[i].live)
            continue;
        *from = MIN(*from, j->packs[i].filter->tmin_us);
        *to = MAX(*to, j->packs[i].filter->tmax_us);
    }
}

static enum err_code pack_publish(struct index_job *j, uint64_t head_slot, struct writing *w, struct filter **out,
                                  struct err *err)
{
    struct store *store = j->cat->store;
    _cleanup_(buf_done) struct buf path = BUF_INIT, key = BUF_INIT;
    struct nonce nonce;
    uint32_t header_len;
    char session8[9];
    int64_t from, to;

    seq_nonce(&j->cat->io, &nonce); /* a fresh name: a lost attempt may have left its file */
    nonce_session8(&nonce, session8);
    buf_fmt(&path, "_meta/%020" PRIu64 "-%s-0.slf", head_slot, session8);
    buf_slice(&key, buf_view(&j->dir));
    buf_slice(&key, buf_view(&path));
    TRY(slf_encode(&j->files, head_slot, write_piece, w, &header_len, err));
    TRY(store->ops->upload_publish(store, w->file, buf_view(&key), true, err));
    w->file = NULL;
    pack_span(j, &from, &to);
    *out = filter_new(buf_view(&path), w->crc, w->len, header_len, j->files.count, from, to);
    filter_set_fields(*out, &j->files);
    return ERR_OK;
}

static enum err_code pack_write(struct index_job *j, uint64_t head_slot, struct filter **out, struct err *err)
{
    struct store *store = j->cat->store;
    struct writing w = {.cat = j->cat};

    TRY(store->ops->upload_begin(store, &w.file, err));
    enum err_code rc = pack_publish(j, head_slot, &w, out, err);
    if (w.file)
        store->ops->upload_drop(store, w.file);
    return rc;
}

static bool same_packs(const struct head *a, const struct head *b)
{
    bool same = a->filters_count == b->filters_count;

    for (size_t i = 0; same && i < a->filters_count; i++)
        same = slice_eq(a->filters[i]->path, b->filters[i]->path);
    return same;
}

static enum err_code edit_index(void *arg, struct stream *s, struct head *h, bool *changed, struct err *err)
{
    struct index_job *j = arg;
    struct filter *made = NULL;
    size_t kept = 0;

    (void)s;
    j->done = false;
    if (!same_packs(j->head, h) || j->attempts++ == ATTEMPTS_MAX) /* another was first, or comes between each time */
        return ERR_OK;
    *changed = j->files.count > 0;
    for (size_t i = 0; i < h->filters_count; i++)
        *changed |= j->packs[i].goes;
    if (!*changed)
        return ERR_OK;
    if (j->files.count)
        TRY(pack_write(j, MUTANT(37) ? j->head->slot : h->slot, &made, err));
    for (size_t i = 0; i < h->filters_count; i++) {
        if (j->packs[i].goes)
            filter_unref(h->filters[i]);
        else
            h->filters[kept++] = h->filters[i];
    }
    h->filters_count = kept;
    if (made)
        *ARRAY_PUSH(h->filters, h->filters_count, h->filters_cap) = made;
    j->done = true;
    return ERR_OK;
}

/* ---- a round */

static bool is_due(const struct stream *s, int64_t now_us)
{
    const struct head *h = s->head;
    bool due = s->index_slot != h->slot || now_us >= s->index_after_us;

    for (size_t i = 0; i < h->filters_count; i++)
        due |= atomic_load(&h->filters[i]->broken); /* a query found it so meanwhile */
    return due && !h->dead;
}

static enum err_code index_stream(struct index_job *j, keys_fn keys, void *arg, struct catalog_work *out,
                                  struct err *err)
{
    struct stream *s = j->stream;
    struct catalog *cat = j->cat;

    os_lock(cat->os, cat->mu);
    if (s->head && is_due(s, j->now_us))
        j->head = head_ref(s->head);
    os_unlock(cat->os, cat->mu);
    if (!j->head)
        return ERR_OK;
    TRY(gather(j, err));
    if (!choose(j)) { /* until an hour settles */
        os_lock(cat->os, cat->mu);
        s->index_slot = j->head->slot;
        s->index_after_us = j->now_us + SETTLE_US / 2;
        os_unlock(cat->os, cat->mu);
        return ERR_OK;
    }
    TRY(make(j, keys, arg, err));
    TRY(head_update(cat, s, edit_index, j, err));
    out->files_indexed += j->done ? j->indexed : 0;
    return ERR_OK;
}

/* Streams one after the other, until the time of a round is over. */
static enum err_code index_streams(struct catalog *cat, struct stream **all, size_t n, keys_fn keys, void *arg,
                                   struct catalog_work *out, struct err *err)
{
    int64_t now_us, until_us = os_mono_us(cat->os) + ROUND_US_MAX; /* other duties wait */
    struct node_seen *living = NULL;
    size_t living_count = 0, start = n ? cat->index_at % n : 0; /* another one first each time */
    enum err_code rc = ERR_OK;

    TRY(cat->store->ops->now_us(cat->store, &now_us, err));
    TRY(nodes_living(cat, &living, &living_count, err));
    for (size_t i = 0; i < n && rc == ERR_OK && os_mono_us(cat->os) <= until_us; i++) {
        struct index_job j = {.cat = cat, .stream = all[(start + i) % n], .now_us = now_us, .until_us = until_us};
        struct err why = {0};
        cat->index_at = start + i + 1;
        if (!nodes_turn(cat, living, living_count, &j.stream->sid))
            continue;
        rc = index_stream(&j, keys, arg, out, &why);
        if (is_damage(rc))
            damage_note(cat, slice_str(j.stream->name), why.msg);
        if (rc == ERR_NOT_FOUND || is_damage(rc)) /* deleted meanwhile, or told */
            rc = ERR_OK;
        else if (rc != ERR_OK && err)
            *err = why;
        job_free(&j);
    }
    nodes_seen_done(living, living_count);
    return rc;
}

enum err_code catalog_index(struct catalog *cat, keys_fn keys, void *arg, struct catalog_work *out, struct err *err)
{
    size_t n;
    struct stream **all = streams_all(cat, &n);
    enum err_code rc = index_streams(cat, all, n, keys, arg, out, err);

    streams_release(cat, all, n);
    return rc;
}
