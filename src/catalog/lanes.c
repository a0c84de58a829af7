/* lanes.c: reading what every node committed, and the checkpoints that say how far each shard has folded it (catalog.md section 6).
 *
 * GHOSTS  A slot above a stale checkpoint may be a ghost: created by a writer that slept while the real record was folded, superseded
 * and collected. A slot k is only collected when every shard's checkpoint covers it, so a record read at k is genuine if the tail of
 * one shard's checkpoints, looked up AFTER the read, does not cover k. lanes_load() reads first and then looks at all shards; when one
 * moved, what was read is thrown away and everything is looked at again (R11). */
#include <inttypes.h>

#include "base/mutant.h"
#include "catalog/catalog_int.h"

#include "base/banned.h"

#define LANES_PREFIX ".sluice/lanes/"
#define LOAD_TRIES_MAX 10

/* ---- records */

void records_done(struct catalog *cat, struct records *r)
{
    for (size_t i = 0; i < r->count; i++) {
        for (size_t k = 0; k < r->items[i].count; k++) {
            stream_unref(cat, r->items[i].files[k].stream);
            entry_unref(r->items[i].files[k].entry);
        }
        free(r->items[i].files);
    }
    free(r->items);
    *r = (struct records){0};
}

enum err_code record_get(struct catalog *cat, const struct slot *s, struct record *out, struct err *err)
{
    const json_t *files = json_object_get(s->body, "files");
    slice sid_text, name;
    struct sid sid;
    json_t *o;
    size_t i;

    json_array_foreach (files, i, o) {
        if (!json_get_text(o, "sid", &sid_text) || !sid_parse(sid_text, &sid) || !json_get_text(o, "stream", &name))
            return err_set(err, ERR_CORRUPT, "file entry %zu of a lane record", i);
        struct record_file *f = ARRAY_PUSH(out->files, out->count, out->cap);
        f->sid = sid;
        TRY(entry_get(o, &f->entry, err));
        TRY(stream_of_record(cat, name, &sid, &f->stream, err));
    }
    out->slot = s->seq;
    return ERR_OK;
}

bool lane_busy(const struct catalog *cat, const struct lane *lane)
{
    const struct session *s = &cat->session;
    return s->lane == lane && (!s->open || s->appending || s->undecided || s->lost);
}

/* A record of our session above what we have applied: its commit has not returned. Others' records there are read like any. */
static bool ours_in_flight(struct catalog *cat, const struct lane *lane, const struct slot *s)
{
    char mine[33];
    slice session;

    os_lock(cat->os, cat->mu);
    nonce_hex(&cat->session.nonce, mine);
    bool own = cat->session.lane == lane;
    bool ours = lane_busy(cat, lane) ||
                (own && json_get_text(s->body, "session", &session) && slice_eq(session, slice_str(mine)));
    os_unlock(cat->os, cat->mu);
    return ours;
}

/* ---- reading ahead: all lanes at once, and of a lane more slots with each round in which all were there: a node that was away for an hour
 * has hundreds to read. What stands behind a slot that was missing does not count: it was created after we looked. */

#define AHEAD_FIRST 2u
#define AHEAD_MAX 16u

struct lane_reading {
    struct lane *lane;
    struct records *out;
    struct buf seq;
    uint64_t slot; /* the next one to read */
    uint64_t
        upto; /* each slot up to it is decided and counts, whoever wrote it. SLOT_NONE: until one is missing or ours in flight */
    unsigned ahead;
    bool end;
};
struct lane_read { /* of one slot */
    struct lane_reading *of;
    struct slot slot;
    enum err_code rc;
    struct err err;
};
struct lane_reads {
    struct catalog *cat;
    struct lane_read *items;
    size_t count, cap;
};

static void reading_begin(struct catalog *cat, struct lane_reading *r)
{
    os_lock(cat->os, cat->mu);
    r->slot = r->lane->pos + 1; /* SLOT_NONE + 1 is 0 */
    os_unlock(cat->os, cat->mu);
    r->ahead = r->upto == SLOT_NONE ? AHEAD_FIRST : AHEAD_MAX;
    seq_lane(&r->seq, slice_str(r->lane->name));
}

/* The slots of the next round, in order. */
static void reads_of(struct lane_reading *r, unsigned parallel, struct lane_reads *reads)
{
    unsigned n = MIN(r->ahead, MAX(parallel, 1u));

    r->end |= r->upto != SLOT_NONE && r->slot > r->upto;
    for (unsigned i = 0; i < n && !r->end && (r->upto == SLOT_NONE || r->slot + i <= r->upto); i++)
        *ARRAY_PUSH(reads->items, reads->count, reads->cap) = (struct lane_read){.of = r, .slot.seq = r->slot + i};
    r->ahead = MIN(r->ahead * 2, AHEAD_MAX);
}

static enum err_code read_one(void *arg, size_t index, struct err *err)
{
    struct lane_reads *reads = arg;
    struct lane_read *read = &reads->items[index];

    (void)err;
    read->rc = seq_read(&reads->cat->io, buf_view(&read->of->seq), SLOT_LANE, read->slot.seq, &read->slot, &read->err);
    return ERR_OK; /* does it count? take_one() knows */
}

static enum err_code take_one(struct catalog *cat, struct lane_read *read, struct err *err)
{
    struct lane_reading *r = read->of;

    if (r->end)
        return ERR_OK;
    r->end = read->rc == ERR_NOT_FOUND ||
             (read->rc == ERR_OK && r->upto == SLOT_NONE && ours_in_flight(cat, r->lane, &read->slot));
    if (r->end)
        return ERR_OK;
    if (read->rc != ERR_OK) {
        if (err)
            *err = read->err;
        return read->rc;
    }
    enum err_code rc = record_get(cat, &read->slot, ARRAY_PUSH(r->out->items, r->out->count, r->out->cap), err);
    if (rc != ERR_OK)
        (void)err_wrap(err, "%s%020" PRIu64, buf_cstr(&r->seq), r->slot);
    r->slot++;
    return rc;
}

static enum err_code readings_round(struct catalog *cat, struct lane_reading *r, size_t count, bool *more,
                                    struct err *err)
{
    struct lane_reads reads = {.cat = cat};

    for (size_t i = 0; i < count; i++)
        if (!r[i].end)
            reads_of(&r[i], cat->store->parallel, &reads);
    *more = reads.count > 0;
    enum err_code rc = parallel_each(cat->os, cat->store->parallel, reads.count, read_one, &reads, err);
    for (size_t i = 0; i < reads.count; i++) {
        if (rc == ERR_OK)
            rc = take_one(cat, &reads.items[i], err);
        slot_done(&reads.items[i].slot);
    }
    free(reads.items);
    return rc;
}

static enum err_code readings_run(struct catalog *cat, struct lane_reading *r, size_t count, struct err *err)
{
    enum err_code rc = ERR_OK;
    bool more = true;

    for (size_t i = 0; i < count; i++)
        reading_begin(cat, &r[i]);
    while (rc == ERR_OK && more)
        rc = readings_round(cat, r, count, &more, err);
    for (size_t i = 0; i < count; i++)
        buf_done(&r[i].seq);
    return rc;
}

void records_apply(struct catalog *cat, struct lane *lane, const struct records *r)
{
    for (size_t i = 0; i < r->count; i++) {
        const struct record *rec = &r->items[i];
        if (lane->pos != SLOT_NONE && rec->slot <= lane->pos)
            continue;
        lane->pos = rec->slot;
        for (size_t k = 0; k < rec->count; k++) {
            struct stream *s = rec->files[k].stream;
            bool covered = s && s->head && head_covers(s->head, slice_str(lane->name), rec->slot);
            if (s && !(covered && MUTANT(38)))
                news_record(cat, s);
            if (s && !s->dead && !covered)
                *ARRAY_PUSH(s->unfolded, s->unfolded_count, s->unfolded_cap) =
                    (struct unfolded){lane, rec->slot, entry_ref(rec->files[k].entry)};
        }
    }
    for (size_t i = 0; i < r->count; i++)
        for (size_t k = 0; k < r->items[i].count; k++) {
            struct stream *s = r->items[i].files[k].stream;
            bool again = k > 0 && r->items[i].files[k - 1].stream == s;
            if (s && !again)
                stream_rebuild(cat, s);
        }
}

/* ---- lanes */

struct lane *lane_get(struct catalog *cat, slice name)
{
    for (size_t i = 0; i < cat->lanes_count; i++)
        if (slice_eq(slice_str(cat->lanes[i]->name), name))
            return cat->lanes[i];
    struct lane *l = mem_zalloc(sizeof(*l));
    memcpy(l->name, name.ptr, MIN(name.len, sizeof(l->name) - 1));
    l->pos = SLOT_NONE;
    *ARRAY_PUSH(cat->lanes, cat->lanes_count, cat->lanes_cap) = l;
    return l;
}

struct lanes_scan {
    bool (*fn)(void *arg, slice lane);
    void *arg;
};

static bool lanes_item(void *arg, const struct store_list_item *item)
{
    struct lanes_scan *scan = arg;
    slice name = slice_from(item->key, sizeof(LANES_PREFIX) - 1);

    name.len -= item->is_prefix && name.len ? 1 : 0;
    return !item->is_prefix || !lane_valid(name) || scan->fn(scan->arg, name);
}

enum err_code lanes_list(struct catalog *cat, bool (*fn)(void *arg, slice lane), void *arg, struct err *err)
{
    struct lanes_scan scan = {fn, arg};
    return cat->store->ops->list(cat->store, slice_lit(LANES_PREFIX), slice_lit(""), true, lanes_item, &scan, err);
}

/* ---- checkpoints */

uint64_t shard_pos(const struct shard *s, slice lane)
{
    for (size_t i = 0; i < s->pos_count; i++)
        if (slice_eq(s->pos[i].lane, lane))
            return s->pos[i].slot;
    return SLOT_NONE;
}

static enum err_code shard_read(struct catalog *cat, struct shard *s, const struct slot *slot, struct err *err)
{
    json_t *lanes = json_object_get(slot->body, "lanes"), *v;
    const char *key;

    (void)cat;
    if (!json_is_object(lanes))
        return err_set(err, ERR_CORRUPT, "checkpoint without lanes");
    for (size_t i = 0; i < s->pos_count; i++)
        free((void *)(uintptr_t)s->pos[i].lane.ptr);
    s->pos_count = 0;
    json_object_foreach (lanes, key, v) {
        if (!lane_valid(slice_str(key)) || !json_is_integer(v) || json_integer_value(v) < 0)
            return err_set(err, ERR_CORRUPT, "bad position in a checkpoint");
        *ARRAY_PUSH(s->pos, s->pos_count, s->pos_cap) =
            (struct head_wm){slice_str(mem_str(slice_str(key))), (uint64_t)json_integer_value(v)};
    }
    s->tail = (struct seq_tail){slot->seq, slot->nonce};
    return ERR_OK;
}

enum err_code shard_refresh(struct catalog *cat, uint32_t shard, bool *moved, struct err *err)
{
    _cleanup_(buf_done) struct buf seq = BUF_INIT;
    _cleanup_(slot_done) struct slot slot = {0};
    struct shard *s = &cat->shards[shard];
    uint64_t tail;
    bool of_object;

    seq_shard(&seq, shard);
    *moved = false;
    TRY(seq_find_tail(&cat->io, buf_view(&seq), s->tail.slot, &tail, err));
    if (tail == SLOT_NONE)
        return ERR_OK;
    TRY(seq_read_tail_at(&cat->io, buf_view(&seq), SLOT_CHECKPOINT, tail, &slot, &of_object, err));
    *moved = true;
    enum err_code rc = news_read(cat, buf_view(&seq), &s->tail, &slot, err);
    if (rc == ERR_OK)
        rc = shard_read(cat, s, &slot, err);
    if (rc != ERR_OK)
        (void)err_wrap(err, "%s%020" PRIu64, buf_cstr(&seq), slot.seq);
    return rc;
}

/* What all shards have folded of a lane; SLOT_NONE: not even its first record. */
static uint64_t folded_by_all(const struct catalog *cat, slice lane)
{
    uint64_t least = SLOT_NONE;

    for (uint32_t x = 0; x < cat->shards_count; x++) {
        uint64_t pos = shard_pos(&cat->shards[x], lane);
        if (pos == SLOT_NONE)
            return SLOT_NONE;
        least = least == SLOT_NONE ? pos : MIN(least, pos);
    }
    return least;
}

/* ---- loading */

struct lane_names {
    struct catalog *cat;
    struct lane **items;
    size_t count, cap;
};

static bool lane_note(void *arg, slice name)
{
    struct lane_names *n = arg;

    os_lock(n->cat->os, n->cat->mu);
    *ARRAY_PUSH(n->items, n->count, n->cap) = lane_get(n->cat, name);
    os_unlock(n->cat->os, n->cat->mu);
    return true;
}

struct heads {
    struct catalog *cat;
    struct stream **items;
};

static enum err_code head_reload(void *arg, size_t index, struct err *err)
{
    const struct heads *h = arg;
    struct stream *s = h->items[index];
    struct err why = {0};

    if (stream_damaged(h->cat, s)) /* each fold looks again (damage_retry) */
        return ERR_OK;
    enum err_code rc = stream_reload(h->cat, s, &why);
    if (is_damage(rc))
        stream_quarantine(h->cat, s, &why);
    if (is_damage(rc) || rc == ERR_NOT_FOUND)
        return ERR_OK;
    *err = why;
    return rc;
}

/* Another folder was at work: heads may have moved under our versions. */
enum err_code heads_reload(struct catalog *cat, struct err *err)
{
    size_t n;
    struct heads h = {cat, news_streams(cat, &n)};
    enum err_code rc = parallel_each(cat->os, cat->store->parallel, n, head_reload, &h, err);

    streams_release(cat, h.items, n);
    if (rc == ERR_OK)
        stale_clear(&cat->stale);
    return rc;
}

/* What every shard has folded is in heads already, which must have been read since the positions were; the records may be gone. */
static void lane_skip_folded(struct catalog *cat, struct lane *lane, bool decided)
{
    uint64_t folded = folded_by_all(cat, slice_str(lane->name));

    os_lock(cat->os, cat->mu);
    if (folded != SLOT_NONE && (lane->pos == SLOT_NONE || lane->pos < folded) && (decided || !lane_busy(cat, lane)))
        lane->pos = folded;
    os_unlock(cat->os, cat->mu);
}

static enum err_code lanes_read(struct catalog *cat, struct lane_names *names, struct records *out, struct err *err)
{
    struct lane_reading *r = mem_zalloc((names->count + 1) * sizeof(*r));

    for (size_t i = 0; i < names->count; i++) {
        struct lane *lane = names->items[i];
        r[i] = (struct lane_reading){.lane = lane, .out = &out[i], .upto = SLOT_NONE};
        lane_skip_folded(cat, lane, false);
    }
    enum err_code rc = readings_run(cat, r, names->count, err);
    free(r);
    return rc;
}

static enum err_code shards_refresh(struct catalog *cat, bool *moved, struct err *err)
{
    *moved = false;
    for (uint32_t x = 0; x < cat->shards_count; x++) {
        bool one = false;
        TRY(shard_refresh(cat, x, &one, err));
        *moved |= one;
    }
    return ERR_OK;
}

/* A record whose file has columns that the head we know does not: it was evolved before. */
static bool head_is_behind(struct catalog *cat, const struct record_file *f)
{
    os_lock(cat->os, cat->mu);
    const struct head *h = f->stream ? f->stream->head : NULL;
    bool behind = h && h->schema_id < (f->entry->schema & ~FILE_COLUMNS_BY_NAME);
    os_unlock(cat->os, cat->mu);
    return behind;
}

/* So that no version shows a row without its columns. */
static enum err_code heads_behind(struct catalog *cat, const struct records *read, size_t count, struct err *err)
{
    struct heads h = {cat, NULL};
    size_t n = 0, cap = 0;
    struct map seen = {0};

    for (size_t i = 0; i < count; i++)
        for (size_t r = 0; r < read[i].count; r++)
            for (size_t k = 0; k < read[i].items[r].count; k++) {
                const struct record_file *f = &read[i].items[r].files[k];
                if (head_is_behind(cat, f) && !map_put(&seen, sid_slice(&f->sid), f->stream))
                    *ARRAY_PUSH(h.items, n, cap) = f->stream;
            }
    enum err_code rc = parallel_each(cat->os, cat->store->parallel, n, head_reload, &h, err);
    map_done(&seen);
    free(h.items);
    return rc;
}

/* One attempt. *again: a checkpoint moved, what was read does not count. */
static enum err_code lanes_load_once(struct catalog *cat, struct lane_names *names, bool *again, struct err *err)
{
    struct records *read = mem_zalloc((names->count + 1) * sizeof(*read));
    enum err_code rc = heads_reload(cat, err); /* of an earlier attempt that failed half way */

    *again = false;
    if (rc == ERR_OK)
        rc = lanes_read(cat, names, read, err);
    if (rc == ERR_OK && !MUTANT(6))
        rc = shards_refresh(cat, again, err);
    if (rc == ERR_OK && *again)
        rc = heads_reload(cat, err);
    else if (rc == ERR_OK)
        rc = heads_behind(cat, read, names->count, err);
    if (rc == ERR_OK && !*again) {
        os_lock(cat->os, cat->mu);
        for (size_t i = 0; i < names->count; i++)
            if (!lane_busy(cat, names->items[i]))
                records_apply(cat, names->items[i], &read[i]);
        streams_unhold(cat);
        os_unlock(cat->os, cat->mu);
    }
    for (size_t i = 0; i < names->count; i++)
        records_done(cat, &read[i]);
    free(read);
    return rc;
}

enum err_code lanes_load(struct catalog *cat, struct err *err)
{
    struct lane_names names = {.cat = cat};
    bool again = true;
    enum err_code rc = lanes_list(cat, lane_note, &names, err);

    for (int tries = 0; rc == ERR_OK && again; tries++) {
        rc = tries < LOAD_TRIES_MAX ? lanes_load_once(cat, &names, &again, err)
                                    : err_set(err, ERR_UNAVAILABLE, "other folders are too fast for this one");
    }
    free(names.items);
    return rc;
}

/* One attempt at (pos, upto]. *gap: a record is missing. */
static enum err_code lane_read_upto(struct catalog *cat, struct lane *lane, uint64_t upto, struct records *out,
                                    bool *gap, struct err *err)
{
    struct lane_reading r = {.lane = lane, .out = out, .upto = upto};

    lane_skip_folded(cat, lane, true);
    TRY(readings_run(cat, &r, 1, err));
    *gap = r.slot <= upto;
    return ERR_OK;
}

enum err_code lane_catch_up(struct catalog *cat, struct lane *lane, uint64_t upto, struct records *out, struct err *err)
{
    bool again = true, gap = false;
    enum err_code rc = ERR_OK;

    gate_enter(cat, slice_lit("fold"));
    for (int tries = 0; rc == ERR_OK && again && tries < LOAD_TRIES_MAX; tries++) {
        records_done(cat, out);
        rc = heads_reload(cat, err);
        if (rc == ERR_OK)
            rc = lane_read_upto(cat, lane, upto, out, &gap, err);
        if (rc == ERR_OK)
            rc = shards_refresh(cat, &again, err); /* what was read is genuine if no checkpoint moved (GHOSTS) */
    }
    gate_leave(cat, slice_lit("fold"));
    if (rc == ERR_OK && again)
        return err_set(err, ERR_UNAVAILABLE, "folders are too fast for this session");
    if (rc == ERR_OK && gap)
        return err_set(err, ERR_CORRUPT, "lane %s: a slot below %" PRIu64 " is missing, and not folded", lane->name,
                       upto);
    return rc;
}
