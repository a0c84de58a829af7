/* gc.c: deleting what nothing can reach any more (catalog.md section 9).
 *
 *   files, manifests   what objects_classify() calls garbage: a slot decides, no age
 *   lane slot k        k < tail, every shard's checkpoint >= k, superseded for an hour
 *   head slot v        v < tail, superseded for longer than snapshot_retention; checkpoints likewise
 *   abandoned heads    manifests and packs under a head slot that nobody decides for an hour: a head that changes nothing takes the slot
 *   abandoned lanes    sealed after an idle hour, when no living node says that it owns them
 *   probes of the store  an hour after they were made: a probe takes seconds and removes what it made, unless it is killed
 * "Superseded" is when the next slot was made, by the store's clock; deletes run in ascending order. Tails stay (R5). */
#include <inttypes.h>

#include "base/mutant.h"
#include "base/ulid.h"
#include "catalog/sweep.h"

#include "base/banned.h"

#define LANE_SUPERSEDED_US INT64_C(3600000000)
#define LIMBO_OLD_US INT64_C(3600000000)
#define PROBE_OLD_US INT64_C(3600000000)
#define GC_OBJECTS_MAX 200000u /* looked at in one round; the next goes on after the last stream */

/* ---- slots */

struct slot_info {
    uint64_t slot, size;
    int64_t modified_us;
};
struct slots {
    slice seq;
    struct slot_info *items;
    size_t count, cap;
};

static bool slots_item(void *arg, const struct store_list_item *item)
{
    struct slots *s = arg;
    uint64_t slot;

    if (!item->is_prefix && slot_number(slice_from(item->key, s->seq.len), &slot))
        *ARRAY_PUSH(s->items, s->count, s->cap) = (struct slot_info){slot, item->meta.size, item->meta.modified_us};
    return true;
}

/* Deletes slots <= upto that were superseded before `before_us`. *first: the first that stays. */
static enum err_code slots_delete(struct discard *d, slice folder, struct slots *s, uint64_t upto, int64_t before_us,
                                  enum gc_reason why, uint64_t *first, struct err *err)
{
    size_t end = s->count && !(MUTANT(4) && slice_starts(s->seq, slice_lit(".sluice/lanes/"))) ? s->count - 1
                                                                                               : s->count; /* R5 */

    *first = 0;
    for (size_t i = 0; i < end; i++) {
        int64_t superseded_us = i + 1 < s->count ? s->items[i + 1].modified_us : s->items[i].modified_us;
        _cleanup_(buf_done) struct buf key = BUF_INIT;
        if (s->items[i].slot > upto || superseded_us > before_us)
            break;
        slot_key(&key, s->seq, s->items[i].slot);
        TRY(discard(d, folder, buf_view(&key), s->items[i].size, why, err));
        *first = s->items[i].slot + 1;
    }
    return ERR_OK;
}

static enum err_code seq_gc(struct discard *d, slice folder, slice seq, enum gc_reason why, uint64_t *first,
                            struct err *err)
{
    struct store *store = d->cat->store;
    struct slots s = {.seq = seq};
    enum err_code rc = store->ops->list(store, seq, slice_lit(""), true, slots_item, &s, err);

    if (rc == ERR_OK)
        rc = slots_delete(d, folder, &s, SLOT_NONE, d->now_us - d->cat->snapshot_retention_us, why, first, err);
    free(s.items);
    return rc;
}

/* ---- lanes */

static bool lane_gc_item(void *arg, slice lane)
{
    struct lane_gcs *l = arg;
    struct lane_gc *g = ARRAY_PUSH(l->items, l->count, l->cap);

    *g = (struct lane_gc){0};
    memcpy(g->name, lane.ptr, MIN(lane.len, sizeof(g->name) - 1));
    return true;
}

/* Positions as this process knows them: they only grow, so old ones spare more. */
static void folded_note(struct catalog *cat, struct lane_gcs *l)
{
    gate_enter(cat, slice_lit("fold"));
    for (size_t i = 0; i < l->count; i++) {
        struct lane_gc *g = &l->items[i];
        g->folded = SLOT_NONE;
        for (uint32_t x = 0; x < cat->shards_count; x++) {
            uint64_t pos = shard_pos(&cat->shards[x], slice_str(g->name));
            if (pos == SLOT_NONE) {
                g->folded = SLOT_NONE;
                break;
            }
            g->folded = x == 0 ? pos : MIN(g->folded, pos);
        }
        os_lock(cat->os, cat->mu);
        g->own =
            cat->session.lane && cat->session.open && slice_eq(slice_str(cat->session.lane->name), slice_str(g->name));
        os_unlock(cat->os, cat->mu);
    }
    gate_leave(cat, slice_lit("fold"));
}

static enum err_code seal_append(struct catalog *cat, slice seq, const struct slot *tail, struct err *err)
{
    struct append a = {.seq = seq, .kind = APPEND_OTHER, .type = SLOT_LANE, .tail = {tail->seq, tail->nonce}};
    _cleanup_(buf_done) struct buf body = BUF_INIT;
    struct jobject o = {0};
    slice session;

    json_put(jobject_put(&o, "carried"), json_object_get(tail->body, "carried"));
    if (json_get_text(tail->body, "session", &session))
        jobject_text(&o, "session", session);
    jobject_text(&o, "type", slice_lit("seal"));
    jobject_text(&o, "reason", slice_lit("idle, without an owner"));
    jobject_end(&o, &body);
    a.body = buf_view(&body);
    seq_nonce(&cat->io, &a.nonce);
    enum err_code rc = seq_append(&cat->io, &a, err);
    return rc == ERR_CONFLICT ? ERR_OK : rc;
}

/* An idle lane without an owner is closed, so that its limbo is decided. A wrong guess fences a node and costs no data. */
static enum err_code lane_seal(struct discard *d, struct lane_gc *g, slice seq, struct err *err)
{
    _cleanup_(slot_done) struct slot tail = {0};
    slice type;

    TRY(seq_read_tail(&d->cat->io, seq, SLOT_LANE, &tail, err));
    if (tail.seq == SLOT_NONE || (json_get_text(tail.body, "type", &type) && slice_eq(type, slice_lit("seal"))))
        return ERR_OK;
    g->sealed = true;
    return d->opt->dry_run ? ERR_OK : seal_append(d->cat, seq, &tail, err);
}

static bool is_owned(const struct lane_owned *owned, const char *lane)
{
    bool found = owned->unsure;

    for (size_t i = 0; i < owned->count; i++)
        found |= strcmp(owned->names[i], lane) == 0;
    return found;
}

static enum err_code lane_round(struct discard *d, struct lane_gc *g, const struct lane_owned *owned, struct err *err)
{
    struct store *store = d->cat->store;
    _cleanup_(buf_done) struct buf seq = BUF_INIT;
    int64_t before_us = d->now_us - LANE_SUPERSEDED_US;
    struct slots s = {0};

    seq_lane(&seq, slice_str(g->name));
    s.seq = buf_view(&seq);
    discard_at(d, s.seq);
    enum err_code rc = store->ops->list(store, s.seq, slice_lit(""), true, slots_item, &s, err);
    if (rc == ERR_OK && g->folded != SLOT_NONE)
        rc = slots_delete(d, s.seq, &s, g->folded, before_us, GC_FOLDED_RECORD, &g->first, err);
    if (rc == ERR_OK && !g->own && !is_owned(owned, g->name) && s.count && s.items[s.count - 1].modified_us < before_us)
        rc = lane_seal(d, g, s.seq, err);
    free(s.items);
    return rc;
}

static enum err_code lanes_gc(struct discard *d, struct err *err)
{
    struct lane_gcs *l = &d->lanes;
    struct lane_owned owned = {0};
    enum err_code rc = lanes_list(d->cat, lane_gc_item, l, err);

    folded_note(d->cat, l);
    if (rc == ERR_OK)
        rc = nodes_lanes(d->cat, &owned, err);
    for (size_t i = 0; i < l->count && rc == ERR_OK; i++)
        rc = lane_round(d, &l->items[i], &owned, err);
    free(owned.names);
    return rc;
}

/* ---- files */

static void skip_put(struct map *skip, struct arena *a, slice path)
{
    slice copy = arena_copy(a, path);
    map_put(skip, copy, a);
}

struct skipping {
    struct map map;
    struct arena arena;
};

static enum err_code skip_entry(void *arg, struct entry *e, struct err *err)
{
    struct skipping *s = arg;

    (void)err;
    skip_put(&s->map, &s->arena, e->path);
    return ERR_OK;
}

/* What the current version names needs no look: it was reachable a moment ago and, for a live stream, older heads keep it. */
static void skip_version(struct catalog *cat, struct stream *s, struct skipping *out)
{
    struct err err;

    os_lock(cat->os, cat->mu);
    struct stream_version *v = s->version ? stream_version_ref(s->version) : NULL;
    os_unlock(cat->os, cat->mu);
    if (!v)
        return;
    for (size_t i = 0; i < v->head->files.count; i++)
        (void)skip_entry(out, v->head->files.items[i], &err);
    for (size_t i = 0; i < v->tail.count; i++)
        (void)skip_entry(out, v->tail.items[i], &err);
    for (size_t i = 0; i < v->head->filters_count; i++)
        skip_put(&out->map, &out->arena, v->head->filters[i]->path);
    for (size_t i = 0; i < v->head->manifests_count; i++) {
        _cleanup_(buf_done) struct buf dir = BUF_INIT;
        const struct slm *m;
        stream_dir_put(&dir, v->head->name, &v->head->sid);
        if (manifest_load(cat->store, buf_view(&dir), v->head->manifests[i], &m, &err) != ERR_OK)
            continue; /* then its files are looked at the long way, where the error shows */
        for (uint32_t k = 0; k < m->count; k++) {
            _cleanup_(buf_done) struct buf path = BUF_INIT;
            slm_path(m, k, &path);
            skip_put(&out->map, &out->arena, buf_view(&path));
        }
    }
    stream_version_unref(v);
}

static enum err_code objects_delete(struct discard *d, slice dir, const struct objects *all, struct err *err)
{
    struct arena arena = ARENA_INIT;
    struct garbage *items = NULL;
    size_t count = 0, cap = 0;

    for (size_t i = 0; i < all->count; i++) {
        const struct object *o = &all->items[i];
        bool meta = slice_starts(o->path, slice_lit("_meta/"));
        if (o->class != OBJECT_GARBAGE)
            continue;
        slice key = slice_str(arena_fmt(&arena, SLICE_FMT SLICE_FMT, SLICE_ARG(dir), SLICE_ARG(o->path)));
        *ARRAY_PUSH(items, count, cap) =
            (struct garbage){key, o->size,
                             !meta                                    ? GC_UNLISTED_FILE
                             : slice_ends(o->path, slice_lit(".slf")) ? GC_UNLISTED_FILTER
                                                                      : GC_UNLISTED_MANIFEST};
    }
    enum err_code rc = discard_many(d, dir, items, count, err);
    free(items);
    arena_done(&arena);
    return rc;
}

/* A manifest or pack whose writer died before its head, or lost the answer of the upload, with nothing left to do for the next one. */
static bool left_undecided(const struct discard *d, const struct objects *all)
{
    for (size_t i = 0; i < all->count; i++) {
        const struct object *o = &all->items[i];
        if (o->class == OBJECT_LIMBO && slice_starts(o->path, slice_lit("_meta/")) &&
            o->modified_us < d->now_us - LIMBO_OLD_US)
            return true;
    }
    return false;
}

static enum err_code edit_nothing(void *arg, struct stream *s, struct head *h, bool *changed, struct err *err)
{
    (void)arg, (void)s, (void)h, (void)err;
    *changed = true;
    return ERR_OK;
}

/* A writer that is only slow loses, and writes its file again under another slot. */
static enum err_code decide_head(struct discard *d, struct stream *s, const struct objects *all, struct err *err)
{
    return d->opt->dry_run || !left_undecided(d, all) ? ERR_OK : head_update(d->cat, s, edit_nothing, NULL, err);
}

static enum err_code stream_gc(struct discard *d, struct stream *s, size_t *looked, struct err *err)
{
    _cleanup_(buf_done) struct buf seq = BUF_INIT, dir = BUF_INIT;
    struct skipping skip = {0};
    struct classify_options opt = {.skip = &skip.map};
    struct objects all;
    uint64_t first;

    seq_head(&seq, slice_str(s->name), &s->sid);
    stream_dir_put(&dir, slice_str(s->name), &s->sid);
    discard_at(d, buf_view(&dir));
    TRY(seq_gc(d, buf_view(&dir), buf_view(&seq), GC_SUPERSEDED_HEAD, &first, err));
    if (!MUTANT(8))
        skip_version(d->cat, s, &skip);
    *looked += skip.map.count;
    if (d->opt->dry_run) {
        opt.lanes = &d->lanes;
        opt.head_first = first;
    }
    enum err_code rc = objects_classify(d->cat, slice_str(s->name), &s->sid, &opt, &all, err);
    if (rc == ERR_OK) {
        *looked += all.count;
        rc = objects_delete(d, buf_view(&dir), &all, err);
        if (rc == ERR_OK)
            rc = decide_head(d, s, &all, err);
        objects_done(&all);
    }
    map_done(&skip.map);
    arena_done(&skip.arena);
    return rc;
}

static enum err_code streams_gc(struct discard *d, struct err *err)
{
    struct catalog *cat = d->cat;
    size_t n, looked = 0, from = 0;
    struct stream **all = streams_all(cat, &n);
    enum err_code rc = ERR_OK;

    while (from < n && memcmp(all[from]->sid.text, cat->gc_after.text, 26) <= 0)
        from++;
    for (size_t i = 0; i < n && rc == ERR_OK && (looked < GC_OBJECTS_MAX || d->opt->whole); i++) {
        struct stream *s = all[(from + i) % n];
        struct err why = {0};
        rc = stream_damaged(cat, s) ? ERR_OK : stream_gc(d, s, &looked, &why);
        if (is_damage(rc)) /* what cannot be read may name anything: nothing of this stream is deleted */
            damage_note(cat, slice_str(s->name), why.msg);
        if (rc == ERR_NOT_FOUND || is_damage(rc)) /* swept meanwhile */
            rc = ERR_OK;
        else if (rc != ERR_OK && err)
            *err = why;
        cat->gc_after = s->sid;
    }
    streams_release(cat, all, n);
    return rc;
}

/* ---- what probes left */

bool is_old_probe(const struct store_list_item *item, int64_t now_us)
{
    slice name = slice_from(item->key, sizeof(PROBE_FOLDER) - 1);
    struct nonce nonce;
    struct sid id;

    return item->meta.modified_us < now_us - PROBE_OLD_US &&
           (nonce_parse(name, &nonce) ||
            (name.len > ULID_LEN && name.ptr[ULID_LEN] == '-' && sid_parse(slice_head(name, ULID_LEN), &id)));
}

struct probes {
    const struct discard *d;
    struct arena arena;
    struct garbage *items;
    size_t count, cap;
};

static bool probe_item(void *arg, const struct store_list_item *item)
{
    struct probes *p = arg;

    if (is_old_probe(item, p->d->now_us))
        *ARRAY_PUSH(p->items, p->count, p->cap) =
            (struct garbage){arena_copy(&p->arena, item->key), item->meta.size, GC_PROBE};
    return true;
}

static enum err_code probes_gc(struct discard *d, struct err *err)
{
    struct store *store = d->cat->store;
    struct probes p = {.d = d, .arena = ARENA_INIT};

    enum err_code rc = store->ops->list(store, slice_lit(PROBE_FOLDER), slice_lit(""), false, probe_item, &p, err);
    if (rc == ERR_OK)
        rc = discard_many(d, slice_lit(PROBE_FOLDER), p.items, p.count, err);
    free(p.items);
    arena_done(&p.arena);
    return rc;
}

enum err_code gc_round(struct discard *d, struct err *err)
{
    uint64_t first;

    TRY(probes_gc(d, err));
    TRY(lanes_gc(d, err));
    for (uint32_t x = 0; x < d->cat->shards_count; x++) {
        _cleanup_(buf_done) struct buf seq = BUF_INIT;
        seq_shard(&seq, x);
        TRY(seq_gc(d, buf_view(&seq), buf_view(&seq), GC_SUPERSEDED_CHECKPOINT, &first, err));
    }
    return streams_gc(d, err);
}
