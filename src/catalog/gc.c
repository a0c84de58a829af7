/* gc.c: deleting what nothing can reach any more (catalog.md section 9).
 *
 *   files, manifests   what objects_classify() calls garbage: a slot decides, no age
 *   lane slot k        k < tail, every shard's checkpoint >= k, superseded for an hour
 *   head slot v        v < tail, superseded for longer than snapshot_retention; checkpoints likewise
 *   abandoned lanes    sealed after an idle hour, when no living node says that it owns them
 * "Superseded" is when the next slot was made, by the store's clock; deletes run in ascending order. Tails stay (R5). */
#include <inttypes.h>

#include "base/mutant.h"
#include "catalog/sweep.h"

#include "base/banned.h"

#define LANE_SUPERSEDED_US INT64_C(3600000000)
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

/* Deletes slots <= upto that were superseded before `before_us`. */
static enum err_code slots_delete(struct catalog *cat, struct slots *s, uint64_t upto, int64_t before_us,
                                  struct catalog_work *out, struct err *err)
{
    size_t end = s->count && !(MUTANT(4) && slice_starts(s->seq, slice_lit(".sluice/lanes/"))) ? s->count - 1
                                                                                               : s->count; /* R5 */

    for (size_t i = 0; i < end; i++) {
        int64_t superseded_us = i + 1 < s->count ? s->items[i + 1].modified_us : s->items[i].modified_us;
        _cleanup_(buf_done) struct buf key = BUF_INIT;
        if (s->items[i].slot > upto || superseded_us > before_us)
            break;
        slot_key(&key, s->seq, s->items[i].slot);
        TRY(cat->store->ops->remove(cat->store, buf_view(&key), err));
        out->slots_deleted++;
        out->bytes_deleted += s->items[i].size;
    }
    return ERR_OK;
}

static enum err_code seq_gc(struct catalog *cat, slice seq, uint64_t upto, int64_t before_us, struct catalog_work *out,
                            struct err *err)
{
    struct slots s = {.seq = seq};
    enum err_code rc = cat->store->ops->list(cat->store, seq, slice_lit(""), true, slots_item, &s, err);

    if (rc == ERR_OK)
        rc = slots_delete(cat, &s, upto, before_us, out, err);
    free(s.items);
    return rc;
}

/* ---- lanes */

struct lane_gc {
    char name[24];
    uint64_t folded; /* by every shard; SLOT_NONE: nothing */
    bool own;
};
struct lane_gcs {
    struct lane_gc *items;
    size_t count, cap;
};

static bool lane_gc_item(void *arg, slice lane)
{
    struct lane_gcs *l = arg;
    struct lane_gc *g = ARRAY_PUSH(l->items, l->count, l->cap);

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

/* An idle lane without an owner is closed, so that its limbo is decided. A wrong guess fences a node and costs no data. */
static enum err_code lane_seal(struct catalog *cat, slice seq, struct err *err)
{
    _cleanup_(slot_done) struct slot tail = {0};
    _cleanup_(buf_done) struct buf body = BUF_INIT;
    struct jobject o = {0};
    slice type;

    TRY(seq_read_tail(&cat->io, seq, SLOT_LANE, &tail, err));
    if (tail.seq == SLOT_NONE || (json_get_text(tail.body, "type", &type) && slice_eq(type, slice_lit("seal"))))
        return ERR_OK;
    struct append a = {.seq = seq, .kind = APPEND_OTHER, .type = SLOT_LANE, .tail = {tail.seq, tail.nonce}};
    json_put(jobject_put(&o, "carried"), json_object_get(tail.body, "carried"));
    if (json_get_text(tail.body, "session", &type))
        jobject_text(&o, "session", type);
    jobject_text(&o, "type", slice_lit("seal"));
    jobject_text(&o, "reason", slice_lit("idle, without an owner"));
    jobject_end(&o, &body);
    a.body = buf_view(&body);
    seq_nonce(&cat->io, &a.nonce);
    enum err_code rc = seq_append(&cat->io, &a, err);
    return rc == ERR_CONFLICT ? ERR_OK : rc;
}

static bool is_owned(const struct lane_owned *owned, const char *lane)
{
    bool found = owned->unsure;

    for (size_t i = 0; i < owned->count; i++)
        found |= strcmp(owned->names[i], lane) == 0;
    return found;
}

static enum err_code lane_round(struct catalog *cat, const struct lane_gc *g, int64_t now_us,
                                const struct lane_owned *owned, struct catalog_work *out, struct err *err)
{
    _cleanup_(buf_done) struct buf seq = BUF_INIT;
    struct slots s = {0};
    enum err_code rc;

    seq_lane(&seq, slice_str(g->name));
    s.seq = buf_view(&seq);
    rc = cat->store->ops->list(cat->store, s.seq, slice_lit(""), true, slots_item, &s, err);
    if (rc == ERR_OK && g->folded != SLOT_NONE)
        rc = slots_delete(cat, &s, g->folded, now_us - LANE_SUPERSEDED_US, out, err);
    if (rc == ERR_OK && !g->own && !is_owned(owned, g->name) && s.count &&
        s.items[s.count - 1].modified_us < now_us - LANE_SUPERSEDED_US)
        rc = lane_seal(cat, s.seq, err);
    free(s.items);
    return rc;
}

static enum err_code lanes_gc(struct catalog *cat, int64_t now_us, struct catalog_work *out, struct err *err)
{
    struct lane_gcs l = {0};
    struct lane_owned owned = {0};
    enum err_code rc = lanes_list(cat, lane_gc_item, &l, err);

    folded_note(cat, &l);
    if (rc == ERR_OK)
        rc = nodes_lanes(cat, &owned, err);
    for (size_t i = 0; i < l.count && rc == ERR_OK; i++)
        rc = lane_round(cat, &l.items[i], now_us, &owned, out, err);
    free(owned.names);
    free(l.items);
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

static enum err_code objects_delete(struct catalog *cat, slice dir, const struct objects *all, struct catalog_work *out,
                                    struct err *err)
{
    for (size_t i = 0; i < all->count; i++) {
        _cleanup_(buf_done) struct buf key = BUF_INIT;
        if (all->items[i].class != OBJECT_GARBAGE)
            continue;
        buf_slice(&key, dir);
        buf_slice(&key, all->items[i].path);
        TRY(cat->store->ops->remove(cat->store, buf_view(&key), err));
        out->files_deleted++;
        out->bytes_deleted += all->items[i].size;
    }
    return ERR_OK;
}

static enum err_code stream_gc(struct catalog *cat, struct stream *s, int64_t now_us, size_t *looked,
                               struct catalog_work *out, struct err *err)
{
    _cleanup_(buf_done) struct buf seq = BUF_INIT, dir = BUF_INIT;
    struct skipping skip = {0};
    struct objects all;

    seq_head(&seq, slice_str(s->name), &s->sid);
    stream_dir_put(&dir, slice_str(s->name), &s->sid);
    TRY(seq_gc(cat, buf_view(&seq), SLOT_NONE, now_us - cat->snapshot_retention_us, out, err));
    if (!MUTANT(8))
        skip_version(cat, s, &skip);
    *looked += skip.map.count;
    enum err_code rc = objects_classify(cat, slice_str(s->name), &s->sid, &skip.map, &all, err);
    if (rc == ERR_OK) {
        *looked += all.count;
        rc = objects_delete(cat, buf_view(&dir), &all, out, err);
        objects_done(&all);
    }
    map_done(&skip.map);
    arena_done(&skip.arena);
    return rc;
}

static enum err_code streams_gc(struct catalog *cat, int64_t now_us, struct catalog_work *out, struct err *err)
{
    size_t n, looked = 0, from = 0;
    struct stream **all = streams_all(cat, &n);
    enum err_code rc = ERR_OK;

    while (from < n && memcmp(all[from]->sid.text, cat->gc_after.text, 26) <= 0)
        from++;
    for (size_t i = 0; i < n && rc == ERR_OK && looked < GC_OBJECTS_MAX; i++) {
        struct stream *s = all[(from + i) % n];
        struct err why = {0};
        rc = stream_damaged(cat, s) ? ERR_OK : stream_gc(cat, s, now_us, &looked, out, &why);
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

enum err_code catalog_gc(struct catalog *cat, struct catalog_work *out, struct err *err)
{
    int64_t now_us;

    TRY(cat->store->ops->now_us(cat->store, &now_us, err));
    TRY(lanes_gc(cat, now_us, out, err));
    for (uint32_t x = 0; x < cat->shards_count; x++) {
        _cleanup_(buf_done) struct buf seq = BUF_INIT;
        seq_shard(&seq, x);
        TRY(seq_gc(cat, buf_view(&seq), SLOT_NONE, now_us - cat->snapshot_retention_us, out, err));
    }
    return streams_gc(cat, now_us, out, err);
}
