/* nodes.c: who else uses this store, and what they did to the names that we know (catalog.h, MANY NODES; catalog.md sections 7 and 12).
 *
 * REGISTRATION  Each node creates ".sluice/nodes/<node_id>.<random>.json" every minute and removes its older ones: without a replace, remove and
 * create of one name leave a gap, and a DELETE elsewhere that looks into it would not wait for us; nor can a late remove take a new one. A node
 * whose object we have seen unchanged for three minutes counts as gone (by our own monotonic clock, as the store's may jump; or at once when it
 * is older than a day by the store's). It may be asleep: then it finds on waking up that it is not fresh, and that it has to register again.
 *
 * WHO WAITS, WHO LOOKS  A node that counts as living to all others from its DEAD slot (or its registration, when that is the later) until
 * T_fence after it is seen by each validation that falls into this time, and a node that is fresh at the end had one there: it has read the
 * names. So whoever deletes registers again before it waits, and who creates counts from both (fence_left): a DEAD slot may land hours late,
 * when its node had been counted out.
 * A validation that finds nobody else is worth as much as reading all names, provided that the one before is less than T_fence old: who
 * registered since then and deleted a name has not waited to the end. After a longer gap the names are read, whoever is there. */
#include <inttypes.h>
#include <stdio.h>

#include "base/hash.h"
#include "base/mutant.h"
#include "base/ulid.h"
#include "catalog/catalog_int.h"

#include "base/banned.h"

#define NODES_PREFIX ".sluice/nodes/"
#define BEAT_US INT64_C(60000000)
#define GONE_US INT64_C(180000000)
#define BEAT_PAUSE_US_MIN 50000
#define BEAT_PAUSE_US_MAX 2000000 /* the last one: 3 s in all */
#define LONG_GONE_US INT64_C(86400000000)
#define LOST_US \
    INT64_C(120000000) /* between two registrations: others may have counted us out meanwhile; well below GONE_US */

/* ---- registration */

static void node_body(struct catalog *cat, struct buf *out)
{
    struct jobject o = {0};

    os_lock(cat->os, cat->mu);
    const struct lane *lane = cat->session.lane;
    slice name = lane ? slice_str(lane->name) : (slice){0};
    jobject_text(&o, "endpoint", slice_str(cat->endpoint));
    jobject_text(&o, "lane", name);
    jobject_text(&o, "node_id", slice_str(cat->node_id));
    jobject_text(&o, "role", slice_lit("all"));
    jobject_int(&o, "wall", os_wall_us(cat->os));
    os_unlock(cat->os, cat->mu);
    jobject_end(&o, out);
}

/* Of NODES_PREFIX "<node>.<random>.json". */
static slice node_of(slice key)
{
    slice name = slice_from(key, sizeof(NODES_PREFIX) - 1);

    for (unsigned dots = 0; name.len && dots < 2; name.len--)
        dots += name.ptr[name.len - 1] == '.';
    return name;
}

static bool is_of(slice key, slice node_id)
{
    return node_id.len && slice_eq(node_of(key), node_id);
}

static bool is_own(const struct catalog *cat, slice key)
{
    return is_of(key, slice_str(cat->node_id));
}

struct own_keys {
    struct catalog *cat;
    slice keep;
    char **keys;
    size_t count, cap;
};

static bool own_item(void *arg, const struct store_list_item *item)
{
    struct own_keys *o = arg;

    if (!item->is_prefix && is_own(o->cat, item->key) && !slice_eq(item->key, o->keep))
        *ARRAY_PUSH(o->keys, o->count, o->cap) = mem_str(item->key);
    return true;
}

/* All registrations of this node but `keep`. */
static enum err_code own_remove(struct catalog *cat, slice keep, struct err *err)
{
    struct own_keys o = {.cat = cat, .keep = keep};
    struct store *store = cat->store;
    enum err_code rc = store->ops->list(store, slice_lit(NODES_PREFIX), slice_lit(""), true, own_item, &o, err);

    for (size_t i = 0; i < o.count; i++) {
        if (rc == ERR_OK)
            rc = store->ops->remove(store, slice_str(o.keys[i]), err);
        free(o.keys[i]);
    }
    free(o.keys);
    return rc;
}

/* The key is random: whoever made it is us. */
static enum err_code own_create(struct catalog *cat, slice key, slice body, struct err *err)
{
    for (int64_t pause_us = BEAT_PAUSE_US_MIN;; pause_us *= 2) {
        enum err_code rc = cat->store->ops->create(cat->store, key, body, err);
        if (rc == ERR_OK || rc == ERR_CONFLICT)
            return ERR_OK;
        if ((rc != ERR_UNKNOWN && rc != ERR_UNAVAILABLE) || pause_us > BEAT_PAUSE_US_MAX)
            return rc;
        cat->os->ops->sleep_us(cat->os, pause_us);
    }
}

static void beat_landed(struct catalog *cat, int64_t begun_us)
{
    int64_t now = os_mono_us(cat->os);

    os_lock(cat->os, cat->mu);
    if (!cat->alive_since_us || (now - cat->beat_us > LOST_US && !MUTANT(33)))
        cat->alive_since_us = now;
    cat->registered = true;
    cat->beat_us = begun_us;
    os_unlock(cat->os, cat->mu);
}

static enum err_code beat_in_gate(struct catalog *cat, struct err *err)
{
    _cleanup_(buf_done) struct buf key = BUF_INIT, body = BUF_INIT;
    int64_t now = os_mono_us(cat->os);
    struct nonce nonce;
    char hex[33];

    os_lock(cat->os, cat->mu);
    bool due = cat->node_id[0] && (!cat->registered || now - cat->beat_us >= BEAT_US);
    os_unlock(cat->os, cat->mu);
    if (!due)
        return ERR_OK;
    seq_nonce(&cat->io, &nonce);
    nonce_hex(&nonce, hex);
    buf_fmt(&key, NODES_PREFIX "%s.%s.json", cat->node_id, hex);
    node_body(cat, &body);
    TRY(own_create(cat, buf_view(&key), buf_view(&body), err));
    beat_landed(cat, now);
    enum err_code removed = own_remove(cat, buf_view(&key), NULL); /* else by the next */
    (void)removed;
    return ERR_OK;
}

/* One at a time: each removes what is not its own. */
enum err_code node_beat(struct catalog *cat, struct err *err)
{
    gate_enter(cat, slice_lit("beat"));
    enum err_code rc = beat_in_gate(cat, err);
    gate_leave(cat, slice_lit("beat"));
    return rc;
}

enum err_code catalog_unregister(struct catalog *cat, struct err *err)
{
    return cat->node_id[0] ? own_remove(cat, (slice){0}, err) : ERR_OK;
}

struct living {
    struct catalog *cat;
    int64_t since_us; /* the store's clock */
    struct node_seen *items;
    size_t count, cap;
};

static bool node_item(void *arg, const struct store_list_item *item)
{
    struct living *l = arg;

    if (!item->is_prefix && slice_ends(item->key, slice_lit(".json")) && !is_own(l->cat, item->key) &&
        item->meta.modified_us > l->since_us)
        *ARRAY_PUSH(l->items, l->count, l->cap) = (struct node_seen){.key = mem_str(item->key)};
    return true;
}

void nodes_seen_done(struct node_seen *items, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(items[i].key);
    free(items);
}

static void living_done(struct living *l)
{
    nodes_seen_done(l->items, l->count);
}

/* A new one was seen now for the first time; what is listed takes the place of what was. */
static void living_since(struct living *l, int64_t now_us)
{
    struct catalog *cat = l->cat;
    struct node_seen *seen = l->count ? mem_alloc(l->count * sizeof(*seen)) : NULL, *old;
    size_t old_count;

    os_lock(cat->os, cat->mu);
    for (size_t i = 0; i < l->count; i++) {
        l->items[i].first_us = now_us;
        for (size_t k = 0; k < cat->nodes_seen_count; k++)
            if (strcmp(cat->nodes_seen[k].key, l->items[i].key) == 0)
                l->items[i].first_us = cat->nodes_seen[k].first_us;
        seen[i] = (struct node_seen){mem_str(slice_str(l->items[i].key)), l->items[i].first_us};
    }
    old = cat->nodes_seen;
    old_count = cat->nodes_seen_count;
    cat->nodes_seen = seen;
    cat->nodes_seen_count = l->count;
    os_unlock(cat->os, cat->mu);
    nodes_seen_done(old, old_count);
}

static enum err_code living_list(struct catalog *cat, struct living *l, struct err *err)
{
    int64_t store_us, now_us = os_mono_us(cat->os);
    size_t kept = 0;

    l->cat = cat;
    TRY(cat->store->ops->now_us(cat->store, &store_us, err));
    l->since_us = store_us - LONG_GONE_US;
    TRY(cat->store->ops->list(cat->store, slice_lit(NODES_PREFIX), slice_lit(""), true, node_item, l, err));
    living_since(l, now_us);
    for (size_t i = 0; i < l->count; i++) {
        if (now_us - l->items[i].first_us < GONE_US)
            l->items[kept++] = l->items[i];
        else
            free(l->items[i].key);
    }
    l->count = kept;
    return ERR_OK;
}

enum err_code nodes_living(struct catalog *cat, struct node_seen **out, size_t *count, struct err *err)
{
    _cleanup_(living_done) struct living l = {0};

    TRY(living_list(cat, &l, err));
    *out = move_ptr(l.items);
    *count = l.count;
    l.count = 0;
    return ERR_OK;
}

bool node_lives(const struct node_seen *living, size_t count, slice node_id)
{
    for (size_t i = 0; i < count; i++)
        if (is_of(slice_str(living[i].key), node_id))
            return true;
    return false;
}

/* Rendezvous hashing: a node that comes or goes moves its own share of the streams alone. */
static uint64_t turn_score(slice node_id, const struct sid *sid)
{
    return hash64(node_id, hash64(sid_slice(sid), 0));
}

bool nodes_turn(const struct catalog *cat, const struct node_seen *living, size_t count, const struct sid *sid)
{
    uint64_t ours = turn_score(slice_str(cat->node_id), sid);

    for (size_t i = 0; i < count; i++) {
        if (turn_score(node_of(slice_str(living[i].key)), sid) > ours)
            return false;
    }
    return true;
}

enum err_code nodes_others(struct catalog *cat, size_t *out, struct err *err)
{
    _cleanup_(living_done) struct living l = {0};

    TRY(living_list(cat, &l, err));
    *out = l.count;
    return ERR_OK;
}

static void lane_of(struct catalog *cat, const char *key, struct lane_owned *out)
{
    _cleanup_(buf_done) struct buf bytes = BUF_INIT;
    struct err err;
    slice lane;

    enum err_code rc = cat->store->ops->read(cat->store, slice_str(key), 0, UINT64_MAX, &bytes, NULL, &err);
    if (rc == ERR_NOT_FOUND) /* there is a newer one */
        return;
    json_t *o = rc == ERR_OK ? json_loadb((const char *)bytes.ptr, bytes.len, 0, NULL) : NULL;
    if (o && json_get_text(o, "lane", &lane) && lane.len < sizeof(*out->names)) {
        char(*name)[24] = ARRAY_PUSH(out->names, out->count, out->cap);
        memcpy(*name, lane.ptr, lane.len);
        (*name)[lane.len] = 0;
    } else {
        out->unsure = true;
    }
    json_decref(o);
}

enum err_code nodes_lanes(struct catalog *cat, struct lane_owned *out, struct err *err)
{
    _cleanup_(living_done) struct living l = {0};

    TRY(living_list(cat, &l, err));
    for (size_t i = 0; i < l.count; i++)
        lane_of(cat, l.items[i].key, out);
    return ERR_OK;
}

/* ---- names */

static bool tail_item(void *arg, const struct store_list_item *item)
{
    struct name_tails *t = arg;
    slice rest = slice_from(item->key, sizeof(".sluice/names/") - 1);
    const uint8_t *slash = rest.len ? memchr(rest.ptr, '/', rest.len) : NULL;
    uint64_t slot;

    if (!slash || !slot_number(slice_from(rest, (size_t)(slash - rest.ptr) + 1), &slot))
        return true;
    slice enc = slice_of(rest.ptr, (size_t)(slash - rest.ptr));
    if (t->count == 0 || !slice_eq(slice_str(t->items[t->count - 1].enc), enc))
        *ARRAY_PUSH(t->items, t->count, t->cap) = (struct name_tail){.enc = mem_str(enc)};
    t->items[t->count - 1].tail = slot;
    return true;
}

enum err_code names_list(struct catalog *cat, struct name_tails *out, struct err *err)
{
    out->cat = cat;
    return cat->store->ops->list(cat->store, slice_lit(".sluice/names/"), slice_lit(""), false, tail_item, out, err);
}

void name_tails_done(struct name_tails *t)
{
    for (size_t i = 0; i < t->count; i++)
        free(t->items[i].enc);
    free(t->items);
}

/* Reads the name again, inside its gate; who was deleted is forgotten. */
static enum err_code name_look(struct catalog *cat, slice name, struct err *err)
{
    _cleanup_(buf_done) struct buf seq = BUF_INIT;
    struct name_state state;
    struct stream *s = NULL;

    seq_name(&seq, name);
    gate_enter(cat, buf_view(&seq));
    enum err_code rc = name_pull(cat, name, SLOT_NONE, &state, &s, err);
    gate_leave(cat, buf_view(&seq));
    stream_unref(cat, s);
    return rc == ERR_CORRUPT && name_bad(cat, name) ? ERR_OK : rc;
}

/* A name's slots are LIVE and DEAD in turns (I1): of a name that we do not know an odd tail is no news. */
static bool name_is_news(struct catalog *cat, slice name, uint64_t tail)
{
    os_lock(cat->os, cat->mu);
    const struct stream *s = map_get(&cat->by_name, name);
    bool bad = cat->bad_names.count && map_get(&cat->bad_names, name); /* each fold looks at it */
    bool news = !bad && (s ? s->name_slot != tail : tail % 2 == 0);
    os_unlock(cat->os, cat->mu);
    return news;
}

static enum err_code name_look_at(void *arg, size_t index, struct err *err)
{
    const struct name_tails *t = arg;
    _cleanup_(buf_done) struct buf name = BUF_INIT;

    return name_decode(slice_str(t->items[index].enc), &name) ? name_look(t->cat, buf_view(&name), err) : ERR_OK;
}

static enum err_code names_look(struct catalog *cat, struct err *err)
{
    _cleanup_(name_tails_done) struct name_tails t = {0};
    size_t news = 0; /* they come to the front */

    TRY(names_list(cat, &t, err));
    for (size_t i = 0; i < t.count; i++) {
        _cleanup_(buf_done) struct buf name = BUF_INIT;
        const struct name_tail item = t.items[i];
        if (!name_decode(slice_str(item.enc), &name) || !name_is_news(cat, buf_view(&name), item.tail))
            continue;
        t.items[i] = t.items[news];
        t.items[news++] = item;
    }
    return parallel_each(cat->os, cat->store->parallel, news, name_look_at, &t, err);
}

static enum err_code validate_in_gate(struct catalog *cat, struct err *err)
{
    int64_t start = os_mono_us(cat->os);
    size_t others;

    TRY(node_beat(cat, err));
    TRY(nodes_others(cat, &others, err));
    os_lock(cat->os, cat->mu);
    bool gap = cat->fence_us && start - cat->validated_us >= cat->fence_us / 2 && !MUTANT(32);
    os_unlock(cat->os, cat->mu);
    if (others || gap)
        TRY(names_look(cat, err));
    os_lock(cat->os, cat->mu);
    cat->validated_us = start;
    os_unlock(cat->os, cat->mu);
    return ERR_OK;
}

enum err_code catalog_validate(struct catalog *cat, struct err *err)
{
    gate_enter(cat, slice_lit("nodes"));
    enum err_code rc = validate_in_gate(cat, err);
    gate_leave(cat, slice_lit("nodes"));
    return rc;
}

bool catalog_fresh(struct catalog *cat, int64_t margin_us)
{
    if (cat->fence_us == 0 || MUTANT(28))
        return true;
    os_lock(cat->os, cat->mu);
    int64_t until = cat->validated_us + cat->fence_us;
    os_unlock(cat->os, cat->mu);
    return os_mono_us(cat->os) + margin_us < until;
}

enum err_code catalog_validate_name(struct catalog *cat, slice name, const struct sid *sid, struct err *err)
{
    _cleanup_(stream_version_unrefp) struct stream_version *v = NULL;

    TRY(name_look(cat, name, err));
    return catalog_by_sid(cat, sid, &v, err);
}

/* ---- the fence */

static enum err_code fence_left(struct catalog *cat, slice name, uint64_t slot, int64_t *left_us, struct err *err)
{
    _cleanup_(buf_done) struct buf seq = BUF_INIT, key = BUF_INIT;
    struct store_meta meta;
    size_t others;
    int64_t now_us;

    *left_us = 0;
    if (cat->fence_us == 0 || MUTANT(29))
        return ERR_OK;
    TRY(node_beat(cat, err));
    TRY(nodes_others(cat, &others, err));
    if (others == 0)
        return ERR_OK;
    seq_name(&seq, name);
    slot_key(&key, buf_view(&seq), slot);
    TRY(cat->store->ops->stat(cat->store, buf_view(&key), &meta, err));
    TRY(cat->store->ops->now_us(cat->store, &now_us, err));
    os_lock(cat->os, cat->mu);
    int64_t passed_us = MIN(now_us - meta.modified_us, os_mono_us(cat->os) - cat->alive_since_us);
    os_unlock(cat->os, cat->mu);
    *left_us = cat->fence_us - MAX(0, MIN(cat->fence_us, passed_us)); /* whatever the clocks say */
    return ERR_OK;
}

enum err_code fence_check(struct catalog *cat, slice name, const struct name_state *state, struct err *err)
{
    int64_t left_us;

    if (state->live || state->slot == SLOT_NONE)
        return ERR_OK;
    TRY(fence_left(cat, name, state->slot, &left_us, err));
    if (left_us == 0)
        return ERR_OK;
    return err_set(err, ERR_UNAVAILABLE,
                   "stream " SLICE_FMT
                   " was deleted a moment ago, and other servers may not know yet: retry in %" PRId64 " s",
                   SLICE_ARG(name), left_us / 1000000 + 1);
}

enum err_code catalog_fence(struct catalog *cat, slice name, int64_t *left_us, struct err *err)
{
    _cleanup_(buf_done) struct buf seq = BUF_INIT;
    uint64_t tail;

    *left_us = 0;
    seq_name(&seq, name);
    TRY(seq_find_tail(&cat->io, buf_view(&seq), SLOT_NONE, &tail, err));
    return tail != SLOT_NONE && tail % 2 == 1 ? fence_left(cat, name, tail, left_us, err) : ERR_OK;
}
