/* catalog.c: the tables of streams in memory, and opening them from the bucket. catalog_int.h has the map of this room. */
#include <inttypes.h>
#include <stdio.h>

#include "base/mutant.h"
#include "base/ulid.h"
#include "catalog/catalog_int.h"
#include "codec/json_reader.h"

#include "base/banned.h"

/* ---- gates: one task at a time in a named section, across IO */

void gate_enter(struct catalog *cat, slice name)
{
    char *mine = mem_str(name);

    os_lock(cat->os, cat->mu);
    while (map_get(&cat->gates, name))
        (void)cat->os->ops->cond_wait(cat->os, cat->cond, cat->mu, -1);
    map_put(&cat->gates, slice_of(mine, name.len), mine);
    os_unlock(cat->os, cat->mu);
}

void gate_leave(struct catalog *cat, slice name)
{
    os_lock(cat->os, cat->mu);
    char *mine = map_del(&cat->gates, name);
    cat->os->ops->cond_broadcast(cat->os, cat->cond);
    os_unlock(cat->os, cat->mu);
    free(mine);
}

/* ---- streams */

void stream_dir_put(struct buf *out, slice name, const struct sid *sid)
{
    name_encode(name, out);
    buf_byte(out, '/');
    buf_slice(out, sid_slice(sid));
    buf_byte(out, '/');
}

slice catalog_stream_dir(struct catalog *cat, slice name, const struct sid *sid, struct buf *out)
{
    size_t from = out->len;

    (void)cat;
    stream_dir_put(out, name, sid);
    return slice_of(out->ptr + from, out->len - from);
}

static void stream_free(struct stream *s)
{
    for (size_t i = 0; i < s->unfolded_count; i++)
        entry_unref(s->unfolded[i].entry);
    free(s->unfolded);
    stream_version_unref(s->version);
    head_unref(s->head);
    free(s->damage);
    free(s->name);
    free(s);
}

struct stream *stream_ref(struct catalog *cat, struct stream *s)
{
    os_lock(cat->os, cat->mu);
    s->refs++;
    os_unlock(cat->os, cat->mu);
    return s;
}

void stream_unref(struct catalog *cat, struct stream *s)
{
    if (!s)
        return;
    os_lock(cat->os, cat->mu);
    bool last = --s->refs == 0;
    os_unlock(cat->os, cat->mu);
    if (last)
        stream_free(s);
}

struct stream *stream_get(struct catalog *cat, const struct sid *sid)
{
    os_lock(cat->os, cat->mu);
    struct stream *s = map_get(&cat->by_sid, sid_slice(sid));
    if (s)
        s->refs++;
    os_unlock(cat->os, cat->mu);
    return s;
}

static int by_sid(const void *a, const void *b)
{
    return memcmp((*(struct stream *const *)a)->sid.text, (*(struct stream *const *)b)->sid.text, 26);
}

struct stream **streams_all(struct catalog *cat, size_t *count)
{
    struct map_entry *e;
    size_t n = 0;

    os_lock(cat->os, cat->mu);
    struct stream **all = mem_alloc((cat->by_sid.count + 1) * sizeof(*all));
    for (size_t i = 0; (e = map_next(&cat->by_sid, &i));) {
        all[n] = e->value;
        all[n++]->refs++;
    }
    os_unlock(cat->os, cat->mu);
    if (n)
        qsort(all, n, sizeof(*all), by_sid); /* the same order in every run of one seed */
    *count = n;
    return all;
}

void streams_release(struct catalog *cat, struct stream **all, size_t count)
{
    for (size_t i = 0; i < count; i++)
        stream_unref(cat, all[i]);
    free(all);
}

/* Under mu. */
static void unfolded_trim(struct stream *s)
{
    size_t kept = 0;

    for (size_t i = 0; i < s->unfolded_count; i++) {
        struct unfolded *u = &s->unfolded[i];
        if (head_covers(s->head, slice_str(u->lane->name), u->slot))
            entry_unref(u->entry);
        else
            s->unfolded[kept++] = *u;
    }
    s->unfolded_count = kept;
}

void stream_rebuild(struct catalog *cat, struct stream *s)
{
    const struct lane *own = cat->session.lane;

    if (s->dead || !s->head || s->damage)
        return;
    s->held = false;
    if (own && lane_busy(cat, own)) {
        uint64_t wm = head_wm_get(s->head, slice_str(own->name));
        s->held = wm != SLOT_NONE && (own->pos == SLOT_NONE || wm > own->pos);
        if (s->held && s->version)
            return;
    }
    unfolded_trim(s);
    struct stream_version *old = s->version;
    s->version = version_new(cat->store, s->head, s->unfolded, s->unfolded_count);
    stream_version_unref(old);
}

void streams_unhold(struct catalog *cat)
{
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&cat->by_sid, &i));)
        if (((struct stream *)e->value)->held)
            stream_rebuild(cat, e->value);
}

/* Under mu. */
static void forget(struct catalog *cat, struct stream *s)
{
    if (s->dead)
        return;
    s->dead = true;
    if (map_get(&cat->by_name, slice_str(s->name)) == s)
        (void)map_del(&cat->by_name, slice_str(s->name));
    stream_version_unref(move_ptr(s->version));
    if (map_get(&cat->by_sid, sid_slice(&s->sid)) != s)
        return;
    (void)map_del(&cat->by_sid, sid_slice(&s->sid));
    if (--s->refs == 0) /* the table's; who works with it holds one */
        stream_free(s);
}

void stream_forget(struct catalog *cat, struct stream *s)
{
    os_lock(cat->os, cat->mu);
    forget(cat, s);
    os_unlock(cat->os, cat->mu);
}

void stream_install(struct catalog *cat, struct stream *s, struct head *h)
{
    struct head *old = NULL;

    os_lock(cat->os, cat->mu);
    char *damage = move_ptr(s->damage);
    if (!s->head || s->head->slot < h->slot || damage || s->head->bare) {
        old = s->head;
        s->head = h;
        h = NULL;
        if (s->head->dead)
            forget(cat, s);
        else
            stream_rebuild(cat, s);
    }
    os_unlock(cat->os, cat->mu);
    head_unref(old);
    head_unref(h);
    if (damage && cat->on_damage)
        cat->on_damage(cat->damage_arg, slice_str(s->name), DAMAGE_OVER, damage);
    free(damage);
}

enum err_code stream_reload(struct catalog *cat, struct stream *s, struct err *err)
{
    _cleanup_(buf_done) struct buf seq = BUF_INIT;
    _cleanup_(slot_done) struct slot slot = {0};
    _cleanup_(head_unrefp) struct head *old = NULL;
    struct head *h;

    seq_head(&seq, slice_str(s->name), &s->sid);
    os_lock(cat->os, cat->mu);
    old = s->head ? head_ref(s->head) : NULL;
    bool damaged = s->damage != NULL;
    os_unlock(cat->os, cat->mu);
    TRY(tail_read(cat, buf_view(&seq), SLOT_HEAD, SLOT_NONE, &slot, err));
    if (slot.seq == SLOT_NONE && old && old->bare && !damaged)
        return ERR_OK; /* still */
    if (slot.seq == SLOT_NONE) {
        if (old && !damaged) /* a head was there: only a sweep of a dead incarnation removes them all (R5) */
            stream_forget(cat, s);
        return err_set(err, ERR_NOT_FOUND, "%s has no head", s->name);
    }
    if (old && old->slot == slot.seq && !damaged && !old->bare)
        return ERR_OK;
    enum err_code rc = head_decode(&slot, old, &h, err);
    if (rc != ERR_OK) {
        (void)err_wrap(err, "%s%020" PRIu64, buf_cstr(&seq), slot.seq);
        return rc;
    }
    stream_install(cat, s, h);
    return ERR_OK;
}

/* ---- heads */

/* ERR_OK: head 0 is there, by us or another; *known says that it is the tail. */
static enum err_code head_create(struct catalog *cat, const struct head *h, bool *known, struct err *err)
{
    _cleanup_(buf_done) struct buf seq = BUF_INIT, body = BUF_INIT;

    seq_head(&seq, h->name, &h->sid);
    head_encode(h, &body);
    struct append a = {.seq = buf_view(&seq),
                       .kind = APPEND_OTHER,
                       .type = SLOT_HEAD,
                       .tail = {.slot = SLOT_NONE},
                       .nonce = h->nonce,
                       .body = buf_view(&body)};
    enum err_code rc = seq_append(&cat->io, &a, err);
    *known = rc == ERR_OK;
    return rc == ERR_CONFLICT ? ERR_OK : rc;
}

/* BARE: its head 0 into the store. Inside the gate of its heads. */
static enum err_code head_stand(struct catalog *cat, struct stream *s, const struct head *bare, struct err *err)
{
    bool known;

    TRY(head_create(cat, bare, &known, err));
    if (!known)
        return stream_reload(cat, s, err);
    stream_install(cat, s, head_copy(bare)); /* a copy is not bare */
    return ERR_OK;
}

enum err_code head_update(struct catalog *cat, struct stream *s, head_edit_fn edit, void *arg, struct err *err)
{
    _cleanup_(buf_done) struct buf seq = BUF_INIT;
    enum err_code rc;

    seq_head(&seq, slice_str(s->name), &s->sid);
    gate_enter(cat, buf_view(&seq));
    for (;;) {
        _cleanup_(head_unrefp) struct head *old = NULL, *next = NULL;
        _cleanup_(buf_done) struct buf body = BUF_INIT;
        bool changed = false;
        rc = stream_check(cat, s, err);
        if (rc != ERR_OK)
            break;
        os_lock(cat->os, cat->mu);
        old = s->head && !s->head->dead ? head_ref(s->head) : NULL;
        os_unlock(cat->os, cat->mu);
        if (!old) {
            rc = err_set(err, ERR_NOT_FOUND, "stream %s was deleted", s->name);
            break;
        }
        if (old->bare) {
            rc = head_stand(cat, s, old, err);
            if (rc != ERR_OK)
                break;
            continue;
        }
        next = head_copy(old);
        next->slot = old->slot + 1;
        rc = edit(arg, s, next, &changed, err);
        if (rc != ERR_OK || !changed)
            break;
        head_encode(next, &body);
        struct append a = {.seq = buf_view(&seq),
                           .kind = APPEND_OTHER,
                           .type = SLOT_HEAD,
                           .tail = {old->slot, old->nonce},
                           .body = buf_view(&body)};
        seq_nonce(&cat->io, &a.nonce);
        next->nonce = a.nonce;
        struct err why = {0};
        rc = seq_append(&cat->io, &a, &why); /* ERR_CORRUPT: what stands there is no head */
        if (rc == ERR_OK) {
            stream_install(cat, s, move_ptr(next));
            news_head(cat, s);
            break;
        }
        if (rc == ERR_CONFLICT)
            rc = stream_reload(cat, s, &why);
        if (rc == ERR_IO) { /* of the write, or of reading what was in its way? */
            struct err again = {0};
            enum err_code read = stream_reload(cat, s, &again);
            if (is_damage(read)) {
                rc = read;
                why = again;
            }
        }
        if (is_damage(rc)) /* the loop's beginning says it */
            stream_quarantine(cat, s, &why);
        else if (rc != ERR_OK) {
            if (err)
                *err = why;
            break;
        }
    }
    gate_leave(cat, buf_view(&seq));
    return rc;
}

static enum err_code edit_kill(void *arg, struct stream *s, struct head *h, bool *changed, struct err *err)
{
    (void)arg, (void)s, (void)err;
    h->dead = true;
    for (size_t i = 0; i < h->manifests_count; i++)
        manifest_unref(h->manifests[i]);
    h->manifests_count = 0;
    entry_list_done(&h->files);
    h->claims_count = 0;
    *changed = true;
    return ERR_OK;
}

enum err_code head_kill(struct catalog *cat, struct stream *s, struct err *err)
{
    enum err_code rc = head_update(cat, s, edit_kill, NULL, err);
    return rc == ERR_NOT_FOUND ? ERR_OK : rc; /* dead already */
}

/* ---- names */

enum err_code name_state_get(const struct slot *s, struct name_state *out, struct err *err)
{
    slice state, sid;

    *out = (struct name_state){.slot = s->seq, .nonce = s->nonce};
    if (s->seq == SLOT_NONE)
        return ERR_OK;
    if (!json_get_text(s->body, "state", &state) || !json_get_text(s->body, "sid", &sid) || !sid_parse(sid, &out->sid))
        return err_set(err, ERR_CORRUPT, "name slot without state or sid");
    out->live = slice_eq(state, slice_lit("live"));
    return ERR_OK;
}

/* Head 0 follows from the bytes of the name slot, nonce included, so that every helper writes the same object. */
static enum err_code head_first(slice name, const struct slot *slot, const struct sid *sid, struct head **out,
                                struct err *err)
{
    _cleanup_(head_unrefp) struct head *h = head_new(name, sid);

    TRY(config_get(&h->arena, json_object_get(slot->body, "config"), &h->config, err));
    TRY(schema_get(json_object_get(slot->body, "schema"), &h->schema, &h->schema_id, &h->next_field_id, err));
    h->slot = 0;
    h->nonce = slot->nonce;
    *out = move_ptr(h);
    return ERR_OK;
}

static struct stream *stream_new(slice name, const struct sid *sid)
{
    struct stream *s = mem_zalloc(sizeof(*s));

    s->refs = 1;
    s->sid = *sid;
    s->name = mem_str(name);
    return s;
}

/* Puts it into the tables, unless another task did meanwhile, or put a later incarnation there: then NULL. *again: nothing was done, since its
 * head was read before `told` changed, and has to be read once more (news.c, N4). */
static struct stream *stream_intern(struct catalog *cat, struct stream *s, uint64_t told, bool *again)
{
    os_lock(cat->os, cat->mu);
    *again = cat->news_told != told;
    if (*again) {
        os_unlock(cat->os, cat->mu);
        return NULL;
    }
    struct stream *have = map_get(&cat->by_sid, sid_slice(&s->sid)),
                  *older = map_get(&cat->by_name, slice_str(s->name));
    if (have) {
        have->refs += have != s; /* else the caller's */
        if (have == s && !s->dead && older != s && (!older || older->name_slot < s->name_slot)) {
            /* it waited for its name to be readable, or its head */
            if (older)
                forget(cat, older);
            map_put(&cat->by_name, slice_str(s->name), s);
        }
        s = have == s ? NULL : s;
    } else if ((s->damage || (s->head && !s->head->dead)) && (!older || older->name_slot < s->name_slot)) {
        stream_rebuild(cat, s);
        map_put(&cat->by_sid, sid_slice(&s->sid), s);
        if (older)
            forget(cat, older);
        map_put(&cat->by_name, slice_str(s->name), s);
        s->refs++; /* the table's */
        have = s;
        s = NULL;
    }
    os_unlock(cat->os, cat->mu);
    if (s)
        stream_free(s);
    return have;
}

static bool not_head(void *arg, const struct store_list_item *item)
{
    bool *any = arg;

    *any |= !slice_ends(item->key, slice_lit("/_head/"));
    return !*any;
}

/* A stream without a head: BARE, unless something else stands below the incarnation. */
static enum err_code head_imply(struct catalog *cat, slice name, const struct slot *slot, struct stream *s,
                                struct err *err)
{
    _cleanup_(buf_done) struct buf dir = BUF_INIT;
    struct head *first;
    bool any = false;

    stream_dir_put(&dir, name, &s->sid);
    TRY(cat->store->ops->list(cat->store, buf_view(&dir), slice_lit(""), true, not_head, &any, err));
    if (any) { /* or another created the head since we looked, and files after it (R10): only a look after theirs tells */
        enum err_code again = stream_reload(cat, s, err);
        return again == ERR_NOT_FOUND
                   ? err_set(err, ERR_CORRUPT, "%s_head/ is empty, but there are files beside it", buf_cstr(&dir))
                   : again;
    }
    enum err_code rc = head_first(name, slot, &s->sid, &first, err);
    if (rc != ERR_OK) {
        (void)err_wrap(err, ".sluice/names/ of %s, slot %" PRIu64, s->name, slot->seq);
        return rc;
    }
    first->bare = true;
    stream_install(cat, s, first);
    return ERR_OK;
}

/* The stream of a LIVE name slot, with its tail head, or out of service. *out NULL: its head is DEAD, or its name went on meanwhile. */
static enum err_code stream_load(struct catalog *cat, slice name, const struct slot *slot, const struct sid *sid,
                                 struct stream **out, struct err *err)
{
    struct stream *s = stream_get(cat, sid);
    struct err why = {0};

    if (s && !stream_damaged(cat, s)) {
        *out = s;
        return ERR_OK;
    }
    bool fresh = !s;
    if (fresh)
        s = stream_new(name, sid);
    os_lock(cat->os, cat->mu);
    s->name_slot = slot->seq;
    os_unlock(cat->os, cat->mu);
    enum err_code rc;
    bool again = true;
    while (again) {
        uint64_t told = news_told(cat);
        rc = stream_reload(cat, s, &why);
        if (rc == ERR_NOT_FOUND)
            rc = head_imply(cat, name, slot, s, &why);
        if (is_damage(rc)) {
            stream_quarantine(cat, s, &why);
            rc = ERR_OK;
        }
        if (rc != ERR_OK) {
            stream_unref(cat, s);
            if (err)
                *err = why;
            return rc;
        }
        if (fresh)
            stream_version_unref(move_ptr(s->version)); /* interned below, with what the lanes hold */
        *out = stream_intern(cat, s, told, &again);
    }
    return ERR_OK;
}

/* Reads the name's tail; LIVE: loads the stream. *out NULL: the name is free. ERR_CORRUPT: out of service, and noted. */
enum err_code name_pull(struct catalog *cat, slice name, uint64_t listed, struct name_state *state, struct stream **out,
                        struct err *err)
{
    _cleanup_(buf_done) struct buf seq = BUF_INIT;
    _cleanup_(slot_done) struct slot slot = {0};
    struct err why = {0};

    *out = NULL;
    *state = (struct name_state){.slot = SLOT_NONE};
    seq_name(&seq, name);
    enum err_code rc = tail_read(cat, buf_view(&seq), SLOT_NAME, listed, &slot, &why);
    if (rc == ERR_OK) {
        rc = name_state_get(&slot, state, &why);
        if (rc != ERR_OK)
            (void)err_wrap(&why, "%s%020" PRIu64, buf_cstr(&seq), slot.seq);
    }
    if (is_damage(rc)) {
        name_quarantine(cat, name, &why);
        return catalog_check(cat, name, err);
    }
    if (rc != ERR_OK) {
        if (err)
            *err = why;
        return rc;
    }
    name_good(cat, name);
    if (state->live)
        return stream_load(cat, name, &slot, &state->sid, out, err);
    os_lock(cat->os, cat->mu);
    struct stream *had = map_get(&cat->by_name, name);
    if (had && had->name_slot < state->slot) /* another node's DELETE */
        forget(cat, had);
    os_unlock(cat->os, cat->mu);
    return ERR_OK;
}

/* Of a record whose name cannot be read: its entries wait with it. */
static struct stream *stream_waiting(struct catalog *cat, slice name, const struct sid *sid)
{
    struct stream *s = stream_new(name, sid);

    s->damage = mem_str(slice_lit("its name cannot be read"));
    os_lock(cat->os, cat->mu);
    struct stream *have = map_get(&cat->by_sid, sid_slice(sid));
    if (!have) {
        map_put(&cat->by_sid, sid_slice(&s->sid), s);
        have = move_ptr(s);
    }
    have->refs++;
    os_unlock(cat->os, cat->mu);
    if (s)
        stream_free(s);
    return have;
}

/* The gate: a drop of ours forgets the incarnation between its DEAD name and its DEAD head. Who read the name before and looked for the
 * stream after that would load it again, with a head that says LIVE, and this node would go on with what it has deleted. */
enum err_code stream_of_record(struct catalog *cat, slice name, const struct sid *sid, struct stream **out,
                               struct err *err)
{
    _cleanup_(buf_done) struct buf seq = BUF_INIT;
    struct name_state state;

    *out = stream_get(cat, sid);
    if (*out || name.len == 0)
        return ERR_OK;
    seq_name(&seq, name);
    gate_enter(cat, buf_view(&seq));
    enum err_code rc = name_pull(cat, name, SLOT_NONE, &state, out, err);
    gate_leave(cat, buf_view(&seq));
    if (rc == ERR_CORRUPT && name_bad(cat, name)) {
        *out = stream_waiting(cat, name, sid);
        return ERR_OK;
    }
    TRY(rc);
    if (*out && memcmp((*out)->sid.text, sid->text, 26) != 0) {
        stream_unref(cat, *out);
        *out = NULL;
    }
    return ERR_OK;
}

static struct stream_version *version_by_name(struct catalog *cat, slice name)
{
    os_lock(cat->os, cat->mu);
    struct stream *s = map_get(&cat->by_name, name);
    struct stream_version *v = s && s->version ? stream_version_ref(s->version) : NULL;
    os_unlock(cat->os, cat->mu);
    return v;
}

static struct stream_version *version_of(struct catalog *cat, struct stream *s)
{
    os_lock(cat->os, cat->mu);
    struct stream_version *v = s->version ? stream_version_ref(s->version) : NULL;
    os_unlock(cat->os, cat->mu);
    return v;
}

enum err_code catalog_resolve(struct catalog *cat, slice name, struct stream_version **out, struct err *err)
{
    _cleanup_(buf_done) struct buf seq = BUF_INIT;
    struct stream_version *v = version_by_name(cat, name);
    struct name_state state;
    struct stream *s = NULL;

    if (v) {
        *out = v;
        return ERR_OK;
    }
    if (stream_name_check(name, NULL) != ERR_OK)
        return err_set(err, ERR_NOT_FOUND, "Stream not found: " SLICE_FMT, SLICE_ARG(name));
    TRY(catalog_check(cat, name, err)); /* not with IO for each request: a fold looks again */
    seq_name(&seq, name);
    gate_enter(cat, buf_view(&seq));
    enum err_code rc = name_pull(cat, name, SLOT_NONE, &state, &s, err);
    gate_leave(cat, buf_view(&seq));
    TRY(rc);
    v = s ? version_of(cat, s) : NULL;
    rc = s ? stream_check(cat, s, err) : ERR_OK;
    stream_unref(cat, s);
    TRY(rc);
    if (!v)
        return err_set(err, ERR_NOT_FOUND, "Stream not found: " SLICE_FMT, SLICE_ARG(name));
    *out = v;
    return ERR_OK;
}

enum err_code catalog_by_sid(struct catalog *cat, const struct sid *sid, struct stream_version **out, struct err *err)
{
    return catalog_snapshot(cat, sid, NULL, NULL, out, err);
}

enum err_code catalog_snapshot(struct catalog *cat, const struct sid *sid,
                               void (*pin)(void *arg, struct stream_version *v), void *arg, struct stream_version **out,
                               struct err *err)
{
    struct stream_version *v = NULL;

    os_lock(cat->os, cat->mu);
    struct stream *s = map_get(&cat->by_sid, sid_slice(sid));
    if (s && s->version) {
        v = stream_version_ref(s->version);
        if (pin)
            pin(arg, v);
    }
    if (s)
        s->refs++;
    os_unlock(cat->os, cat->mu);
    enum err_code rc = s && !v ? stream_check(cat, s, err) : ERR_OK;
    stream_unref(cat, s);
    TRY(rc);
    if (!v)
        return err_set(err, ERR_NOT_FOUND, "no stream %s", sid->text);
    *out = v;
    return ERR_OK;
}

static int by_version_name(const void *a, const void *b)
{
    return slice_cmp(stream_version_name(*(struct stream_version *const *)a),
                     stream_version_name(*(struct stream_version *const *)b));
}

enum err_code catalog_list(struct catalog *cat, bool (*fn)(void *arg, struct stream_version *v), void *arg,
                           struct err *err)
{
    struct map_entry *e;
    size_t n = 0;
    bool more = true;

    (void)err;
    os_lock(cat->os, cat->mu);
    struct stream_version **all = mem_alloc((cat->by_name.count + 1) * sizeof(*all));
    for (size_t i = 0; (e = map_next(&cat->by_name, &i));) {
        struct stream *s = e->value;
        if (s->version)
            all[n++] = stream_version_ref(s->version);
    }
    os_unlock(cat->os, cat->mu);
    if (n)
        qsort(all, n, sizeof(*all), by_version_name);
    for (size_t i = 0; i < n; i++) {
        more = more && fn(arg, all[i]);
        stream_version_unref(all[i]);
    }
    free(all);
    return ERR_OK;
}

/* ---- create */

static void sid_make(struct catalog *cat, struct sid *out)
{
    uint8_t r[10];

    cat->os->ops->random(cat->os, r, sizeof(r));
    struct ulid u = ulid_make(os_wall_us(cat->os) / 1000, r);
    memcpy(out->text, u.text, sizeof(out->text));
}

static void live_body(struct catalog *cat, slice name, const struct sid *sid, const struct nonce *op,
                      const struct stream_config *config, const struct schema *schema, struct buf *out)
{
    _cleanup_(schema_unrefp) struct schema *empty = schema_empty(), *numbered = NULL;
    struct jobject o = {0};
    uint32_t next = FIELD_ID_TIME;
    char hex[33];

    numbered = schema_number(schema ? schema : empty, &next);
    nonce_hex(op, hex);
    jobject_text(&o, "name", name);
    jobject_text(&o, "op_id", slice_str(hex));
    jobject_text(&o, "sid", sid_slice(sid));
    jobject_text(&o, "state", slice_lit("live"));
    jobject_int(&o, "shard", sid_shard(sid, cat->shards_count));
    config_put(jobject_put(&o, "config"), config);
    schema_put(jobject_put(&o, "schema"), numbered, 1, next);
    jobject_end(&o, out);
}

static enum err_code name_append(struct catalog *cat, slice seq, const struct name_state *state,
                                 const struct nonce *nonce, slice body, struct err *err)
{
    struct append a = {.seq = seq,
                       .kind = APPEND_NAME,
                       .type = SLOT_NAME,
                       .tail = {state->slot, state->nonce},
                       .nonce = *nonce,
                       .body = body};
    return seq_append(&cat->io, &a, err);
}

/* Of the body of a name slot that we committed: into the tables, BARE. Who was faster to use it is met as in any other head that we know. */
static enum err_code adopt_created(struct catalog *cat, slice name, slice body, uint64_t seq, const struct nonce *nonce,
                                   const struct sid *sid, uint64_t told, struct stream **out, struct err *err)
{
    _cleanup_(slot_done) struct slot slot = {.type = SLOT_NAME, .seq = seq, .nonce = *nonce};
    struct head *first;

    slot.body = json_loadb((const char *)body.ptr, body.len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    if (!slot.body)
        return err_set(err, ERR_CORRUPT, "name slot");
    TRY(head_first(name, &slot, sid, &first, err));
    struct stream *s = stream_new(name, sid);
    s->name_slot = seq;
    first->bare = true;
    s->head = first;
    bool again;
    *out = stream_intern(cat, s, told, &again);
    while (again) { /* the others were so fast that a checkpoint speaks of it */
        told = news_told(cat);
        enum err_code rc = stream_reload(cat, s, err);
        if (rc != ERR_OK && rc != ERR_NOT_FOUND) {
            stream_unref(cat, s);
            return rc;
        }
        stream_version_unref(move_ptr(s->version));
        *out = stream_intern(cat, s, told, &again);
    }
    return ERR_OK;
}

/* Mutant 13: an object of an incarnation that no name slot names yet. */
static enum err_code create_early(struct catalog *cat, slice name, slice body, const struct nonce *nonce,
                                  const struct sid *sid, struct err *err)
{
    _cleanup_(slot_done) struct slot slot = {.nonce = *nonce};
    _cleanup_(head_unrefp) struct head *h = NULL;
    bool known;

    slot.body = json_loadb((const char *)body.ptr, body.len, JSON_ALLOW_NUL, NULL);
    TRY(head_first(name, &slot, sid, &h, err));
    return head_create(cat, h, &known, err);
}

/* Inside the name's gate. *created false: *out is the winner. */
static enum err_code create_in_gate(struct catalog *cat, slice seq, slice name, const struct stream_config *config,
                                    const struct schema *schema, bool *created, struct stream **out, struct err *err)
{
    struct stream_config c = *config;
    struct name_state state;

    if (!c.created_us)
        c.created_us = os_wall_us(cat->os);
    for (;;) {
        _cleanup_(buf_done) struct buf body = BUF_INIT;
        struct nonce nonce;
        struct sid sid;
        TRY(name_pull(cat, name, SLOT_NONE, &state, out, err));
        if (*out)
            return ERR_OK;
        if (state.live) /* LIVE with a DEAD head: its deleter is about to say so, or never will */
            return err_set(err, ERR_UNAVAILABLE, "stream " SLICE_FMT " is being deleted", SLICE_ARG(name));
        TRY(fence_check(cat, name, &state, err));
        sid_make(cat, &sid);
        seq_nonce(&cat->io, &nonce);
        live_body(cat, name, &sid, &nonce, &c, schema, &body);
        if (MUTANT(13))
            TRY(create_early(cat, name, buf_view(&body), &nonce, &sid, err));
        uint64_t told = news_told(cat);
        enum err_code rc = name_append(cat, seq, &state, &nonce, buf_view(&body), err);
        if (rc == ERR_CONFLICT)
            continue; /* adopt the winner */
        TRY(rc);
        *created = true;
        return adopt_created(cat, name, buf_view(&body), state.slot + 1, &nonce, &sid, told, out, err);
    }
}

/* A slot whose JSON nobody can read takes its stream out of service: checked before it is written. */
static enum err_code config_check(const struct stream_config *c, struct err *err)
{
    const struct {
        const char *what;
        slice text;
    } texts[] = {{"custom partition", c->custom_partition},
                 {"time partition limit", c->time_partition_limit},
                 {"telemetry type", c->telemetry_type},
                 {"log source", c->log_source},
                 {"tags", c->tags},
                 {"labels", c->labels},
                 {"retention", c->retention}};

    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (!utf8_valid(texts[i].text))
            return err_set(err, ERR_INVALID, "the stream's %s is no UTF-8", texts[i].what);
    return ERR_OK;
}

enum err_code catalog_create(struct catalog *cat, slice name, const struct stream_config *config,
                             const struct schema *schema, struct stream_version **out, struct err *err)
{
    _cleanup_(buf_done) struct buf seq = BUF_INIT;
    struct stream_version *v = version_by_name(cat, name);
    struct stream *s = NULL;
    bool created = false;

    if (!v) {
        TRY(stream_name_check(name, err));
        TRY(config_check(config, err));
        TRY(catalog_check(cat, name, err));
        seq_name(&seq, name);
        gate_enter(cat, buf_view(&seq));
        enum err_code rc = create_in_gate(cat, buf_view(&seq), name, config, schema, &created, &s, err);
        gate_leave(cat, buf_view(&seq));
        TRY(rc);
        v = s ? version_of(cat, s) : NULL;
        rc = s ? stream_check(cat, s, err) : ERR_OK;
        stream_unref(cat, s);
        TRY(rc);
    }
    if (!v)
        return err_set(err, ERR_UNAVAILABLE, "stream " SLICE_FMT " was deleted meanwhile", SLICE_ARG(name));
    *out = v;
    return created ? ERR_OK : err_set(err, ERR_CONFLICT, "Logstream " SLICE_FMT " already exists", SLICE_ARG(name));
}

/* ---- drop */

static void dead_body(slice name, const struct sid *sid, const struct nonce *op, struct buf *out)
{
    struct jobject o = {0};
    char hex[33];

    nonce_hex(op, hex);
    jobject_text(&o, "name", name);
    jobject_text(&o, "op_id", slice_str(hex));
    jobject_text(&o, "sid", sid_slice(sid));
    jobject_text(&o, "state", slice_lit("dead"));
    jobject_end(&o, out);
}

/* R10: the name first, then the head. */
static enum err_code drop_in_gate(struct catalog *cat, slice seq, slice name, struct stream **out, struct err *err)
{
    struct name_state state;

    for (;;) {
        _cleanup_(buf_done) struct buf body = BUF_INIT;
        struct nonce nonce;
        stream_unref(cat, move_ptr(*out));
        TRY(name_pull(cat, name, SLOT_NONE, &state, out, err));
        if (!state.live)
            return err_set(err, ERR_NOT_FOUND, "Stream not found: " SLICE_FMT, SLICE_ARG(name));
        if (MUTANT(12) && *out)
            TRY(head_kill(cat, *out, err));
        seq_nonce(&cat->io, &nonce);
        dead_body(name, &state.sid, &nonce, &body);
        enum err_code rc = name_append(cat, seq, &state, &nonce, buf_view(&body), err);
        if (rc != ERR_CONFLICT)
            return rc;
    }
}

enum err_code catalog_drop_begin(struct catalog *cat, slice name, int64_t *fence_us, struct err *err)
{
    _cleanup_(buf_done) struct buf seq = BUF_INIT;
    struct stream *s = NULL;
    size_t others = 0;

    if (stream_name_check(name, NULL) != ERR_OK)
        return err_set(err, ERR_NOT_FOUND, "Stream not found: " SLICE_FMT, SLICE_ARG(name));
    seq_name(&seq, name);
    gate_enter(cat, buf_view(&seq));
    enum err_code rc = drop_in_gate(cat, buf_view(&seq), name, &s, err);
    if (rc == ERR_OK && s) {
        stream_forget(cat, s);
        /* The name decides; whoever meets the incarnation later appends the DEAD head if we can not (reconciler). */
        enum err_code killed = head_kill(cat, s, NULL);
        (void)killed;
    }
    gate_leave(cat, buf_view(&seq));
    stream_unref(cat, s);
    TRY(rc);
    if (cat->fence_us && !MUTANT(31))
        TRY(node_beat(cat, err)); /* whoever looks from now on sees us, however long this took */
    bool wait = cat->fence_us && !MUTANT(27) && (nodes_others(cat, &others, NULL) != ERR_OK || others);
    *fence_us = wait ? cat->fence_us : 0;
    return ERR_OK;
}

enum err_code catalog_drop(struct catalog *cat, slice name, struct err *err)
{
    int64_t fence_us = 0;

    TRY(catalog_drop_begin(cat, name, &fence_us, err));
    if (fence_us)
        cat->os->ops->sleep_us(cat->os, fence_us);
    return ERR_OK;
}

/* ---- configure, evolve */

enum err_code catalog_refresh(struct catalog *cat, const struct sid *sid, struct err *err)
{
    struct stream *s = stream_get(cat, sid);

    if (!s)
        return err_set(err, ERR_NOT_FOUND, "no stream %s", sid->text);
    enum err_code rc = stream_reload(cat, s, err);
    stream_unref(cat, s);
    return rc;
}

struct config_edit {
    config_edit_fn fn;
    void *arg;
};

static enum err_code edit_config(void *arg, struct stream *s, struct head *h, bool *changed, struct err *err)
{
    const struct config_edit *e = arg;
    struct stream_config want = h->config;

    (void)s;
    e->fn(e->arg, &want);
    TRY(config_check(&want, err));
    *changed = !config_eq(&h->config, &want);
    if (*changed)
        config_copy(&h->arena, &want, &h->config);
    return ERR_OK;
}

enum err_code catalog_configure(struct catalog *cat, const struct sid *sid, config_edit_fn edit, void *arg,
                                struct err *err)
{
    struct config_edit e = {edit, arg};

    TRY(catalog_refresh(cat, sid, err)); /* or what another node changed could look like what is wanted */
    struct stream *s = stream_get(cat, sid);
    if (!s)
        return err_set(err, ERR_NOT_FOUND, "no stream %s", sid->text);
    enum err_code rc = head_update(cat, s, edit_config, &e, err);
    stream_unref(cat, s);
    return rc;
}

static enum err_code edit_nothing(void *arg, struct stream *s, struct head *h, bool *changed, struct err *err)
{
    (void)arg, (void)s, (void)h, (void)changed, (void)err;
    return ERR_OK;
}

enum err_code catalog_anchor(struct catalog *cat, const struct sid *sid, struct err *err)
{
    struct stream *s = MUTANT(35) ? NULL : stream_get(cat, sid);
    enum err_code rc = ERR_OK;

    os_lock(cat->os, cat->mu);
    bool bare = s && s->head && s->head->bare;
    os_unlock(cat->os, cat->mu);
    if (bare)
        rc = head_update(cat, s, edit_nothing, NULL, err);
    stream_unref(cat, s);
    return rc;
}

struct evolve {
    const struct schema *want;
    struct schema *result;
};

static enum err_code edit_evolve(void *arg, struct stream *s, struct head *h, bool *changed, struct err *err)
{
    struct evolve *e = arg;
    uint32_t n = schema_count(e->want), more_count = 0;
    _cleanup_(freep) struct field *more = mem_alloc((n + 1) * sizeof(*more));
    _cleanup_(schema_unrefp) struct schema *grown = NULL;

    (void)s, (void)err;
    for (uint32_t i = 0; i < n; i++) {
        struct field f = *schema_field(e->want, i);
        if (schema_find(h->schema, f.name) != FIELD_NONE)
            continue;
        f.id = f.item_id = 0; /* only a head append gives ids */
        more[more_count++] = f;
    }
    schema_unref(e->result);
    if (more_count) {
        grown = schema_grow(h->schema, more, more_count);
        schema_unref(h->schema);
        h->schema = schema_number(grown, &h->next_field_id);
        h->schema_id++;
        *changed = true;
    }
    e->result = schema_ref(h->schema);
    return ERR_OK;
}

enum err_code catalog_evolve(struct catalog *cat, const struct sid *sid, const struct schema *want, struct schema **out,
                             struct err *err)
{
    struct stream *s = stream_get(cat, sid);
    struct evolve e = {.want = want};

    if (!s)
        return err_set(err, ERR_NOT_FOUND, "no stream %s", sid->text);
    enum err_code rc = head_update(cat, s, edit_evolve, &e, err);
    stream_unref(cat, s);
    if (rc == ERR_OK)
        *out = e.result;
    else
        schema_unref(e.result);
    return rc;
}

/* ---- open */

static enum err_code name_load(void *arg, size_t index, struct err *err)
{
    const struct name_tails *t = arg;
    _cleanup_(buf_done) struct buf name = BUF_INIT;
    struct catalog *cat = t->cat;
    struct name_state state;
    struct stream *s = NULL;

    if (!name_decode(slice_str(t->items[index].enc), &name))
        return ERR_OK; /* foreign: the report names it */
    enum err_code rc = name_pull(cat, buf_view(&name), t->items[index].tail, &state, &s, err);
    stream_unref(cat, s);
    return rc == ERR_CORRUPT && name_bad(cat, buf_view(&name)) ? ERR_OK : rc; /* out of service: the others are not */
}

/* Every name of the bucket; LIVE ones are loaded. */
static enum err_code names_load(struct catalog *cat, struct err *err)
{
    _cleanup_(name_tails_done) struct name_tails t = {0};

    TRY(names_list(cat, &t, err));
    return parallel_each(cat->os, cat->store->parallel, t.count, name_load, &t, err);
}

static enum err_code load_all(struct catalog *cat, const struct catalog_options *opt, struct err *err)
{
    bool moved;

    TRY(cluster_open(cat, opt, err));
    cat->validated_us = os_mono_us(cat->os); /* before names are read, and after others can see us */
    TRY(node_beat(cat, err));
    cat->shards = mem_zalloc(cat->shards_count * sizeof(*cat->shards));
    for (uint32_t x = 0; x < cat->shards_count; x++) {
        cat->shards[x].tail.slot = SLOT_NONE;
        TRY(shard_refresh(cat, x, &moved, err));
    }
    TRY(names_load(cat, err));
    stale_clear(&cat->stale); /* they were read after the checkpoints */
    return lanes_load(cat, err);
}

enum err_code catalog_open(struct os *os, struct store *store, const struct catalog_options *opt, struct catalog **out,
                           struct err *err)
{
    struct catalog *cat = mem_zalloc(sizeof(*cat));

    cat->os = os;
    cat->store = store;
    cat->io = (struct seq_io){os, store};
    cat->mu = os->ops->mutex_new(os);
    cat->cond = os->ops->cond_new(os);
    cat->filters_min = opt->filters_min;
    cat->fold_round = 1;
    cat->snapshot_retention_us = opt->snapshot_retention_us;
    cat->fence_us = opt->fence_us;
    (void)snprintf(cat->node_id, sizeof(cat->node_id), "%s", opt->node_id ? opt->node_id : "");
    cat->endpoint = mem_str(slice_str(opt->endpoint));
    struct nonce boot;
    seq_nonce(&cat->io, &boot);
    nonce_hex(&boot, cat->boot);
    cat->temp_dir = opt->temp_dir ? mem_str(slice_str(opt->temp_dir)) : NULL;
    cat->on_damage = opt->on_damage;
    cat->damage_arg = opt->damage_arg;
    enum err_code rc = load_all(cat, opt, err);
    if (rc == ERR_CORRUPT && err) {
        const struct err why = *err;
        (void)err_set(err, rc,
                      "%s; this object is about all streams: put it back from a copy of the store, as "
                      "docs/operations.md says under \"Damaged objects\"",
                      why.msg);
    }
    if (rc != ERR_OK) {
        catalog_close(cat);
        return rc;
    }
    *out = cat;
    return ERR_OK;
}

void catalog_close(struct catalog *cat)
{
    struct map_entry *e;

    if (!cat)
        return;
    for (size_t i = 0; (e = map_next(&cat->by_sid, &i));)
        stream_free(e->value);
    map_done(&cat->by_sid);
    map_done(&cat->by_name);
    map_done(&cat->gates);
    quarantine_done(cat);
    bad_inputs_done(cat);
    for (size_t i = 0; i < cat->lanes_count; i++)
        free(cat->lanes[i]);
    free(cat->lanes);
    for (uint32_t x = 0; cat->shards && x < cat->shards_count; x++) {
        for (size_t i = 0; i < cat->shards[x].pos_count; i++)
            free((void *)(uintptr_t)cat->shards[x].pos[i].lane.ptr);
        free(cat->shards[x].pos);
    }
    free(cat->shards);
    stale_clear(&cat->stale);
    free(cat->session.carried.items);
    buf_done(&cat->session.old_stem);
    free(cat->session.mine);
    cat->os->ops->cond_free(cat->os, cat->cond);
    cat->os->ops->mutex_free(cat->os, cat->mu);
    nodes_seen_done(cat->nodes_seen, cat->nodes_seen_count);
    free(cat->endpoint);
    free(cat->temp_dir);
    buf_done(&cat->probe);
    free(cat);
}
