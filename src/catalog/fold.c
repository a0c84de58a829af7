/* fold.c: copies what lanes committed into heads (catalog.md section 6). One round: read all lanes (lanes_load), then for every shard look
 * again that its checkpoint is still the tail (R11), append a head to each stream with new records, and last the checkpoint. Streams
 * without new records are not touched. Two folders are safe, only wasteful. A checkpoint also tells other nodes which heads to read anew
 * (news.c). */
#include <inttypes.h>

#include "base/hash.h"
#include "base/mutant.h"
#include "catalog/catalog_int.h"

#include "base/banned.h"

#define FOLD_TRIES_MAX 5
#define MANIFEST_MERGE_MIN 8u    /* so many small manifests become one */
#define MANIFEST_SMALL_MAX 4096u /* files of a small one */

/* ---- spilling: inline entries that overflow move into a manifest */

struct spill {
    struct catalog *cat;
    struct head *h;
    slice dir;
    struct entry_list all;
};

/* Small manifests are taken in when there are many, so that a head has about files / 4,096 references. */
static enum err_code take_small(struct spill *s, struct err *err)
{
    size_t small = 0, kept = 0, total = s->all.count;
    struct head *h = s->h;
    const struct slm *m;

    for (size_t i = 0; i < h->manifests_count; i++)
        small += h->manifests[i]->count < MANIFEST_SMALL_MAX;
    if (small < MANIFEST_MERGE_MIN)
        return ERR_OK;
    for (size_t i = 0; i < h->manifests_count; i++) { /* none leaves the head before all that are whole were read */
        bool whole;
        if (h->manifests[i]->count < MANIFEST_SMALL_MAX)
            TRY(manifest_try(s->cat, h, h->manifests[i], &m, &whole, err));
    }
    for (size_t i = 0; i < h->manifests_count; i++) {
        struct manifest *ref = h->manifests[i];
        bool whole = false;
        if (ref->count < MANIFEST_SMALL_MAX && total + ref->count <= MANIFEST_FILES_MAX)
            TRY(manifest_try(s->cat, h, ref, &m, &whole, err));
        if (!whole) {
            h->manifests[kept++] = ref;
            continue;
        }
        for (uint32_t r = 0; r < m->count; r++)
            entry_list_add(&s->all, slm_entry(m, r));
        total += ref->count;
        manifest_unref(ref);
    }
    h->manifests_count = kept;
    return ERR_OK;
}

static struct manifest *manifest_of(slice path, slice image, struct entry *const *e, size_t count)
{
    uint64_t rows = 0, bytes = 0, raw = 0;
    int64_t tmin = INT64_MAX, tmax = INT64_MIN;

    for (size_t i = 0; i < count; i++) {
        rows += e[i]->rows;
        bytes += e[i]->bytes;
        raw += e[i]->raw_bytes;
        tmin = MIN(tmin, e[i]->tmin_us);
        tmax = MAX(tmax, e[i]->tmax_us);
    }
    return manifest_new(path, crc32c(0, image.ptr, image.len), image.len, rows, bytes, raw, count, tmin, tmax);
}

static enum err_code manifest_write(struct spill *s, struct entry *const *e, size_t count, struct err *err)
{
    _cleanup_(buf_done) struct buf image = BUF_INIT, path = BUF_INIT, key = BUF_INIT;
    struct nonce nonce;
    char session8[9];

    seq_nonce(&s->cat->io, &nonce); /* a fresh name: a lost attempt may have left its file */
    nonce_session8(&nonce, session8);
    buf_fmt(&path, "_meta/%020" PRIu64 "-%s-0.slm", s->h->slot, session8);
    slm_encode(&s->h->sid, s->h->slot, e, count, &image);
    buf_slice(&key, s->dir);
    buf_slice(&key, buf_view(&path));
    enum err_code rc = s->cat->store->ops->create(s->cat->store, buf_view(&key), buf_view(&image), err);
    if (rc == ERR_UNKNOWN ||
        rc == ERR_CONFLICT) { /* reading back decides; a foreign object under a random name is none of ours */
        _cleanup_(buf_done) struct buf back = BUF_INIT;
        TRY(s->cat->store->ops->read(s->cat->store, buf_view(&key), 0, UINT64_MAX, &back, NULL, err));
        rc = slice_eq(buf_view(&back), buf_view(&image))
                 ? ERR_OK
                 : err_set(err, ERR_UNAVAILABLE, "%s holds other bytes", buf_cstr(&key));
    }
    TRY(rc);
    struct head *h = s->h;
    *ARRAY_PUSH(h->manifests, h->manifests_count, h->manifests_cap) =
        manifest_of(buf_view(&path), buf_view(&image), e, count);
    return ERR_OK;
}

static int oldest_first(const void *a, const void *b)
{
    const struct entry *x = *(struct entry *const *)a, *y = *(struct entry *const *)b;
    return (x->tmax_us > y->tmax_us) - (x->tmax_us < y->tmax_us);
}

static enum err_code head_spill_run(struct spill *s, struct err *err)
{
    struct entry_list inline_files = s->h->files;

    s->all = inline_files;
    s->h->files = (struct entry_list){0};
    TRY(take_small(s, err));
    qsort(s->all.items, s->all.count, sizeof(*s->all.items),
          oldest_first); /* so that manifests do not overlap in time */
    for (size_t at = 0; at < s->all.count; at += MANIFEST_FILES_MAX)
        TRY(manifest_write(s, s->all.items + at, MIN(s->all.count - at, MANIFEST_FILES_MAX), err));
    return ERR_OK;
}

enum err_code head_spill(struct catalog *cat, struct head *h, struct err *err)
{
    _cleanup_(buf_done) struct buf dir = BUF_INIT;
    struct spill s = {.cat = cat, .h = h};

    if (h->files.count <= HEAD_INLINE_MAX)
        return ERR_OK;
    stream_dir_put(&dir, h->name, &h->sid);
    s.dir = buf_view(&dir);
    enum err_code rc = head_spill_run(&s, err);
    entry_list_done(&s.all);
    return rc;
}

/* ---- heads */

struct folding {
    struct catalog *cat;
    uint64_t records;
};

/* Entries of record k count only if k is above the watermark that the head had before. */
static enum err_code edit_fold(void *arg, struct stream *s, struct head *h, bool *changed, struct err *err)
{
    struct folding *f = arg;
    _cleanup_(head_unrefp) struct head *before = head_copy(h);

    os_lock(f->cat->os, f->cat->mu);
    for (size_t i = 0; i < s->unfolded_count; i++) {
        const struct unfolded *u = &s->unfolded[i];
        slice lane = slice_str(u->lane->name);
        if (head_covers(before, lane, u->slot))
            continue;
        entry_list_add(&h->files, entry_with_added(u->entry, h->slot));
        head_wm_set(h, lane, u->slot);
        h->lifetime.rows += u->entry->rows;
        h->lifetime.raw_bytes += u->entry->raw_bytes;
        h->lifetime.file_bytes += u->entry->bytes;
        h->lifetime.files++;
        f->records++;
        *changed = true;
    }
    os_unlock(f->cat->os, f->cat->mu);
    return *changed ? head_spill(f->cat, h, err) : ERR_OK;
}

static bool is_dirty(struct catalog *cat, const struct stream *s)
{
    os_lock(cat->os, cat->mu);
    bool dirty = s->unfolded_count > 0 && !s->dead && !s->damage;
    os_unlock(cat->os, cat->mu);
    return dirty;
}

struct shard_fold {
    struct catalog *cat;
    struct stream **dirty;
    struct catalog_work *out; /* under mu */
};

static enum err_code fold_stream(void *arg, size_t index, struct err *err)
{
    const struct shard_fold *sf = arg;
    struct catalog *cat = sf->cat;
    struct stream *s = sf->dirty[index];
    struct folding f = {cat, 0};

    enum err_code rc = head_update(cat, s, edit_fold, &f, err);
    if (rc == ERR_NOT_FOUND ||
        (rc == ERR_CORRUPT && stream_damaged(cat, s))) /* deleted: its entries are dropped; or they wait */
        return ERR_OK;
    if (rc == ERR_OK && f.records) {
        os_lock(cat->os, cat->mu);
        sf->out->folded_records += f.records;
        sf->out->heads_written++;
        os_unlock(cat->os, cat->mu);
    }
    return rc;
}

static enum err_code fold_heads(struct catalog *cat, uint32_t shard, struct stream **all, size_t count,
                                struct catalog_work *out, struct err *err)
{
    _cleanup_(freep) struct stream **dirty = mem_alloc((count + 1) * sizeof(struct stream *));
    struct shard_fold sf = {cat, dirty, out};
    size_t n = 0;

    for (size_t i = 0; i < count; i++)
        if (sid_shard(&all[i]->sid, cat->shards_count) == shard && is_dirty(cat, all[i]))
            dirty[n++] = all[i];
    return parallel_each(cat->os, cat->store->parallel, n, fold_stream, &sf, err);
}

/* ---- one shard */

struct position {
    char lane[24];
    uint64_t slot;
};
struct positions {
    struct position *items;
    size_t count, cap;
};

/* Returns the number of the round. */
static uint64_t positions_now(struct catalog *cat, struct positions *p)
{
    os_lock(cat->os, cat->mu);
    uint64_t number = news_round(cat);
    for (size_t i = 0; i < cat->lanes_count; i++) {
        if (cat->lanes[i]->pos == SLOT_NONE)
            continue;
        struct position *q = ARRAY_PUSH(p->items, p->count, p->cap);
        memcpy(q->lane, cat->lanes[i]->name, sizeof(q->lane));
        q->slot = cat->lanes[i]->pos;
    }
    os_unlock(cat->os, cat->mu);
    return number;
}

/* Entries that are in no head yet hold the checkpoint back: those of streams out of service. Did they? */
static bool positions_limit(struct catalog *cat, uint32_t shard, struct stream **all, size_t count, struct positions *p)
{
    bool limited = false;

    os_lock(cat->os, cat->mu);
    for (size_t i = 0; i < count; i++) {
        const struct stream *s = all[i];
        if (s->dead || sid_shard(&s->sid, cat->shards_count) != shard)
            continue;
        for (size_t k = 0; k < s->unfolded_count; k++) {
            const struct unfolded *u = &s->unfolded[k];
            slice lane = slice_str(u->lane->name);
            if (s->head && head_covers(s->head, lane, u->slot))
                continue;
            for (size_t j = p->count; j-- > 0;) {
                if (!slice_eq(slice_str(p->items[j].lane), lane) || p->items[j].slot < u->slot)
                    continue;
                limited = true;
                if (u->slot > 0)
                    p->items[j].slot = u->slot - 1;
                else /* nothing of this lane */
                    p->items[j] = p->items[--p->count];
            }
        }
    }
    os_unlock(cat->os, cat->mu);
    return limited;
}

static void positions_copy(const struct positions *from, struct positions *to)
{
    for (size_t i = 0; i < from->count; i++)
        *ARRAY_PUSH(to->items, to->count, to->cap) = from->items[i];
}

static bool positions_new(const struct shard *s, const struct positions *p)
{
    for (size_t i = 0; i < p->count; i++) {
        uint64_t pos = shard_pos(s, slice_str(p->items[i].lane));
        if (pos == SLOT_NONE || pos < p->items[i].slot)
            return true;
    }
    return false;
}

static void checkpoint_body(const struct shard *s, const struct positions *p, const struct news *news, struct buf *out)
{
    struct jobject o = {0}, lanes = {0};

    for (size_t i = 0; i < p->count; i++) {
        uint64_t pos = shard_pos(s, slice_str(p->items[i].lane));
        int_put(jobject_put(&lanes, p->items[i].lane),
                (int64_t)(pos == SLOT_NONE ? p->items[i].slot : MAX(pos, p->items[i].slot)));
    }
    for (size_t i = 0; i < s->pos_count; i++) { /* lanes that this process never saw: positions never go back (I5) */
        bool have = false;
        for (size_t k = 0; k < p->count; k++)
            have |= slice_eq(s->pos[i].lane, slice_str(p->items[k].lane));
        if (have)
            continue;
        struct jmember *m = ARRAY_PUSH(lanes.items, lanes.count, lanes.cap);
        m->key = s->pos[i].lane;
        int_put(&m->value, (int64_t)s->pos[i].slot);
    }
    jobject_end(&lanes, jobject_put(&o, "lanes"));
    if (news_fit(news))
        news_put(news, jobject_put(&o, "heads"));
    jobject_end(&o, out);
}

struct round {           /* of the fold */
    struct positions at; /* of lanes, at its begin */
    uint64_t number;     /* news_round() */
    struct stream **all;
    size_t count;
};

static enum err_code checkpoint_put(struct catalog *cat, uint32_t shard, const struct positions *p,
                                    const struct news *news, bool *lost, struct err *err)
{
    _cleanup_(buf_done) struct buf seq = BUF_INIT, body = BUF_INIT;
    struct shard *s = &cat->shards[shard];
    bool moved;

    seq_shard(&seq, shard);
    checkpoint_body(s, p, news, &body);
    struct append a = {
        .seq = buf_view(&seq), .kind = APPEND_OTHER, .type = SLOT_CHECKPOINT, .tail = s->tail, .body = buf_view(&body)};
    seq_nonce(&cat->io, &a.nonce);
    enum err_code rc = seq_append(&cat->io, &a, err);
    *lost = rc == ERR_CONFLICT;
    if (rc != ERR_OK && rc != ERR_CONFLICT)
        return rc;
    struct stale before = cat->stale;
    cat->stale = (struct stale){0};
    rc = shard_refresh(cat, shard, &moved, err); /* ours, or the other's */
    *lost |= s->tail.slot != a.tail.slot + 1;
    if (rc == ERR_OK && !*lost)
        stale_clear(&cat->stale); /* we wrote the heads before it */
    stale_merge(&cat->stale, &before);
    return rc;
}

static enum err_code checkpoint_append(struct catalog *cat, uint32_t shard, const struct round *r,
                                       const struct positions *p, bool limited, bool *lost, struct err *err)
{
    struct news news = {0};
    bool written = false;
    enum err_code rc = ERR_OK;

    news_take(cat, shard, r->all, r->count, &news);
    if (positions_new(&cat->shards[shard], p) || news.moved) {
        rc = checkpoint_put(cat, shard, p, &news, lost, err);
        written = rc == ERR_OK && !*lost;
    }
    news_end(cat, &news, written, limited ? 0 : r->number);
    return rc;
}

static enum err_code fold_shard(struct catalog *cat, uint32_t shard, const struct round *r, bool *lost,
                                struct catalog_work *out, struct err *err)
{
    if (!MUTANT(6)) {
        TRY(shard_refresh(cat, shard, lost, err)); /* R11 */
        if (*lost)
            return ERR_OK;
    }
    if (MUTANT(7))
        TRY(checkpoint_append(cat, shard, r, &r->at, false, lost, err));
    TRY(fold_heads(cat, shard, r->all, r->count, out, err));
    if (MUTANT(7))
        return ERR_OK;
    struct positions done = {0};
    positions_copy(&r->at, &done);
    bool limited = positions_limit(cat, shard, r->all, r->count, &done);
    enum err_code rc = checkpoint_append(cat, shard, r, &done, limited, lost, err);
    free(done.items);
    return rc;
}

static enum err_code fold_round(struct catalog *cat, bool *again, struct catalog_work *out, struct err *err)
{
    struct round r = {0};
    enum err_code rc = lanes_load(cat, err);

    *again = false;
    if (rc == ERR_OK) {
        r.number =
            positions_now(cat, &r.at); /* before the heads: what is added meanwhile waits for the next checkpoint */
        r.all = streams_all(cat, &r.count);
    }
    for (uint32_t x = 0; rc == ERR_OK && x < cat->shards_count; x++) {
        bool lost = false;
        rc = fold_shard(cat, x, &r, &lost, out, err);
        *again |= lost;
    }
    streams_release(cat, r.all, r.count);
    free(r.at.items);
    return rc == ERR_OK && *again ? heads_reload(cat, err) : rc;
}

enum err_code catalog_fold(struct catalog *cat, struct catalog_work *out, struct err *err)
{
    bool again = true;
    enum err_code rc = ERR_OK;

    gate_enter(cat, slice_lit("fold"));
    damage_retry(cat);
    for (int tries = 0; rc == ERR_OK && again && tries < FOLD_TRIES_MAX; tries++)
        rc = fold_round(cat, &again, out, err);
    gate_leave(cat, slice_lit("fold"));
    return rc;
}
