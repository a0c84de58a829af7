#include "catalog/cut.h"

#include <inttypes.h>

#include "catalog/catalog_int.h"

#include "base/banned.h"

#define CUT_TRIES_MAX 20
#define NODES_PREFIX ".sluice/nodes/"
#define NODE_GONE_US INT64_C(180000000) /* nodes.c: three missed registrations */

/* ---- taking it */

/* Under mu: does the version show records that other streams do not show yet? */
static bool covered(struct catalog *cat, const struct stream_version *v)
{
    for (size_t i = 0; i < v->head->wm_count; i++) {
        const struct lane *lane = lane_get(cat, v->head->wm[i].lane);
        if (lane->pos == SLOT_NONE || v->head->wm[i].slot > lane->pos)
            return false;
    }
    return true;
}

static void add_lane(struct catalog *cat, const struct lane *lane, struct cut_lane *out)
{
    uint64_t folded = SLOT_NONE;

    for (uint32_t x = 0; x < cat->shards_count; x++) {
        uint64_t pos = shard_pos(&cat->shards[x], slice_str(lane->name));
        folded = pos == SLOT_NONE ? SLOT_NONE : x == 0 ? pos : MIN(folded, pos);
        if (pos == SLOT_NONE)
            break;
    }
    memcpy(out->name, lane->name, sizeof(out->name));
    out->last = lane->pos;
    out->first = folded == SLOT_NONE ? 0 : MIN(folded + 1, lane->pos);
}

static int by_sid(const void *a, const void *b)
{
    return memcmp(((const struct cut_stream *)a)->sid.text, ((const struct cut_stream *)b)->sid.text, 26);
}

/* Under mu. False: lanes have to be read on. */
static bool collect(struct catalog *cat, struct cut *c)
{
    struct map_entry *e;

    c->streams = arena_alloc(&c->arena, cat->by_sid.count * sizeof(*c->streams));
    c->damaged = arena_alloc(&c->arena, (cat->by_sid.count + cat->bad_names.count) * sizeof(*c->damaged));
    for (size_t i = 0; (e = map_next(&cat->by_sid, &i));) {
        const struct stream *s = e->value;
        slice name = arena_copy(&c->arena, slice_str(s->name));
        if (s->damage)
            c->damaged[c->damaged_count++] = name;
        else if (s->version && !covered(cat, s->version))
            return false;
        else if (s->version)
            c->streams[c->streams_count++] = (struct cut_stream){
                name, s->sid, s->name_slot, s->version->head->bare ? SLOT_NONE : s->version->head->slot,
                stream_version_ref(s->version)};
    }
    for (size_t i = 0; (e = map_next(&cat->bad_names, &i));)
        c->damaged[c->damaged_count++] = arena_copy(&c->arena, e->key);
    c->lanes = arena_alloc(&c->arena, cat->lanes_count * sizeof(*c->lanes));
    for (size_t i = 0; i < cat->lanes_count; i++)
        if (cat->lanes[i]->pos != SLOT_NONE)
            add_lane(cat, cat->lanes[i], &c->lanes[c->lanes_count++]);
    c->shards_count = cat->shards_count;
    c->checkpoints = arena_alloc(&c->arena, cat->shards_count * sizeof(*c->checkpoints));
    for (uint32_t x = 0; x < cat->shards_count; x++)
        c->checkpoints[x] = cat->shards[x].tail.slot;
    return true;
}

static enum err_code cut_take_in_gate(struct catalog *cat, struct cut *out, struct err *err)
{
    for (int tries = 0; tries < CUT_TRIES_MAX; tries++) {
        TRY(lanes_load(cat, err));
        os_lock(cat->os, cat->mu);
        bool whole = collect(cat, out);
        os_unlock(cat->os, cat->mu);
        if (whole)
            return ERR_OK;
        cut_done(out);
    }
    return err_set(err, ERR_UNAVAILABLE, "the servers commit faster than their records can be read from here");
}

enum err_code cut_take(struct catalog *cat, struct cut *out, struct err *err)
{
    *out = (struct cut){0};
    gate_enter(cat, slice_lit("fold"));
    enum err_code rc = cut_take_in_gate(cat, out, err);
    gate_leave(cat, slice_lit("fold"));
    if (rc == ERR_OK && out->streams_count)
        qsort(out->streams, out->streams_count, sizeof(*out->streams), by_sid);
    return rc;
}

void cut_done(struct cut *c)
{
    for (size_t i = 0; i < c->streams_count; i++)
        stream_version_unref(c->streams[i].version);
    arena_done(&c->arena);
    *c = (struct cut){0};
}

/* ---- its objects */

static bool give(cut_slot_fn fn, void *arg, enum slot_type type, struct buf *seq, uint64_t slot)
{
    size_t len = seq->len;

    slot_key(seq, slice_of(NULL, 0), slot);
    bool more = fn(arg, (int)type, buf_view(seq), slot);
    seq->len = len;
    return more;
}

bool cut_slots(const struct cut *c, cut_slot_fn fn, void *arg)
{
    _cleanup_(buf_done) struct buf seq = BUF_INIT;
    bool more = true;

    for (uint32_t x = 0; x < c->shards_count && more; x++) {
        seq.len = 0;
        seq_shard(&seq, x);
        more = c->checkpoints[x] == SLOT_NONE || give(fn, arg, SLOT_CHECKPOINT, &seq, c->checkpoints[x]);
    }
    for (size_t i = 0; i < c->lanes_count && more; i++) {
        seq.len = 0;
        seq_lane(&seq, slice_str(c->lanes[i].name));
        for (uint64_t slot = c->lanes[i].first; slot <= c->lanes[i].last && more; slot++)
            more = give(fn, arg, SLOT_LANE, &seq, slot);
    }
    for (size_t i = 0; i < c->streams_count && more; i++) {
        const struct cut_stream *s = &c->streams[i];
        seq.len = 0;
        seq_name(&seq, s->name);
        more = give(fn, arg, SLOT_NAME, &seq, s->name_slot);
        seq.len = 0;
        seq_head(&seq, s->name, &s->sid);
        more = more && (s->head_slot == SLOT_NONE || give(fn, arg, SLOT_HEAD, &seq, s->head_slot));
    }
    return more;
}

struct giving {
    struct buf key;
    size_t dir_len;
    cut_object_fn fn;
    void *arg;
};

static void give_object(struct giving *g, slice path, uint64_t bytes, uint64_t rows, uint32_t crc)
{
    g->key.len = g->dir_len;
    buf_slice(&g->key, path);
    g->fn(g->arg, &(struct cut_object){buf_view(&g->key), bytes, rows, crc});
}

static void give_entries(struct giving *g, const struct entry_list *l)
{
    for (size_t i = 0; i < l->count; i++)
        give_object(g, l->items[i]->path, l->items[i]->bytes, l->items[i]->rows, l->items[i]->crc32c);
}

enum err_code cut_objects(struct stream_version *v, cut_object_fn fn, void *arg, struct err *err)
{
    _cleanup_(buf_done) struct buf dir = BUF_INIT, path = BUF_INIT;
    struct giving g = {.fn = fn, .arg = arg};
    enum err_code rc = ERR_OK;

    stream_dir_put(&dir, v->head->name, &v->head->sid);
    buf_slice(&g.key, buf_view(&dir));
    g.dir_len = dir.len;
    for (size_t i = 0; i < v->head->manifests_count && rc == ERR_OK; i++) {
        struct manifest *ref = v->head->manifests[i];
        const struct slm *m;
        rc = manifest_load(v->store, buf_view(&dir), ref, &m, err);
        if (rc != ERR_OK)
            break;
        give_object(&g, ref->path, ref->bytes_len, 0, ref->crc32c);
        for (uint32_t r = 0; r < m->count; r++) {
            path.len = 0;
            slm_path(m, r, &path);
            give_object(&g, buf_view(&path), m->file_bytes[r], m->rows_of[r], m->crc32c[r]);
        }
    }
    for (size_t i = 0; i < v->head->filters_count && rc == ERR_OK; i++)
        give_object(&g, v->head->filters[i]->path, v->head->filters[i]->bytes_len, 0, v->head->filters[i]->crc32c);
    give_entries(&g, &v->head->files);
    give_entries(&g, &v->tail);
    buf_done(&g.key);
    return rc;
}

bool cut_imported(const struct stream_version *v)
{
    for (size_t i = 0; i < v->tail.count; i++)
        if (v->tail.items[i]->schema & FILE_COLUMNS_BY_NAME)
            return true;
    return v->head->config.imported;
}

/* ---- nodes */

struct node_list {
    int64_t since_us;
    char **keys;
    size_t count, cap;
};

static bool node_item(void *arg, const struct store_list_item *item)
{
    struct node_list *l = arg;

    if (!item->is_prefix && slice_ends(item->key, slice_lit(".json")) && item->meta.modified_us > l->since_us)
        *ARRAY_PUSH(l->keys, l->count, l->cap) = mem_str(item->key);
    return true;
}

static enum err_code node_give(struct catalog *cat, const char *key, void (*fn)(void *arg, const struct cut_node *n),
                               void *arg, struct err *err)
{
    _cleanup_(buf_done) struct buf bytes = BUF_INIT;
    struct cut_node n = {.endpoint = slice_lit("")};
    slice id = {0};

    enum err_code rc = cat->store->ops->read(cat->store, slice_str(key), 0, UINT64_MAX, &bytes, NULL, err);
    if (rc == ERR_NOT_FOUND) /* it made a newer one, which was listed, or stopped */
        return ERR_OK;
    TRY(rc);
    json_t *o = json_loadb((const char *)bytes.ptr, bytes.len, 0, NULL);
    if (!o || !json_get_text(o, "node_id", &id) || id.len >= sizeof(n.node_id)) /* whoever it is, it was not asked */
        id = slice_lit("?");
    memcpy(n.node_id, id.ptr, id.len);
    if (o) {
        (void)json_get_text(o, "endpoint", &n.endpoint);
        (void)json_get_text(o, "lane", &n.lane);
    }
    fn(arg, &n);
    json_decref(o);
    return ERR_OK;
}

enum err_code cut_nodes(struct catalog *cat, void (*fn)(void *arg, const struct cut_node *n), void *arg,
                        struct err *err)
{
    struct node_list l = {0};
    int64_t now_us;

    TRY(cat->store->ops->now_us(cat->store, &now_us, err));
    l.since_us = now_us - NODE_GONE_US;
    enum err_code rc =
        cat->store->ops->list(cat->store, slice_lit(NODES_PREFIX), slice_lit(""), true, node_item, &l, err);
    for (size_t i = 0; i < l.count; i++) {
        if (rc == ERR_OK)
            rc = node_give(cat, l.keys[i], fn, arg, err);
        free(l.keys[i]);
    }
    free(l.keys);
    return rc;
}
