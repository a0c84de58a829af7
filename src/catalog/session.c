/* session.c: our lane (catalog.md section 5).
 *
 *   closed --catalog_session_open: OPEN--> open --catalog_commit: DATA--> open --catalog_seal: SEAL--> closed
 *   open --DATA lost--> OPEN elsewhere, the caller uploads again under new names (ERR_CONFLICT)
 *   open --DATA without an answer for good (ERR_IO)--> undecided: the next commit OPENs the SAME lane first, as a recovery would (R3),
 *        and learns from the chain whether the record is in it
 * A CLONED DISK is seen from two sides (catalog.h). Who opens a lane under a session it does not know commits what its log holds and
 * then goes on under a new wal id (catalog_session_fork). Who is fenced by an OPEN of its own wal id leaves that OPEN's author all segments
 * that the author has, and goes on under a new wal id at once (twin_look); who finds a copy does the same, so that of
 * two each segment has one owner.
 * R4: the header is written after OPEN is committed and before the first DATA. */
#include <inttypes.h>
#include <stdio.h>

#include "base/mutant.h"
#include "catalog/catalog_int.h"

#include "base/banned.h"

#define LANE_NUMBER_MAX 99999u
#define GATE slice_lit("session")

static struct carried *carried_find(struct carried_list *l, slice wal_id)
{
    for (size_t i = 0; i < l->count; i++)
        if (slice_eq(slice_str(l->items[i].wal_id), wal_id))
            return &l->items[i];
    return NULL;
}

static void carried_raise(struct carried_list *l, slice wal_id, uint64_t segment)
{
    struct carried *c = carried_find(l, wal_id);

    if (!c) {
        c = ARRAY_PUSH(l->items, l->count, l->cap);
        memcpy(c->wal_id, wal_id.ptr, MIN(wal_id.len, sizeof(c->wal_id) - 1));
    }
    c->segment = MAX(c->segment, segment);
}

static void carried_read(struct carried_list *l, const struct slot *s)
{
    json_t *o = json_object_get(s->body, "carried"), *v;
    const char *key;

    json_object_foreach (o, key, v)
        if (json_is_integer(v) && json_integer_value(v) >= 0 && strlen(key) < sizeof(l->items->wal_id))
            carried_raise(l, slice_str(key), (uint64_t)json_integer_value(v));
}

bool carried_get(const struct slot *s, slice wal_id, uint64_t *segment)
{
    _cleanup_(freep) char *key = mem_str(wal_id);
    return json_get_u64(json_object_get(s->body, "carried"), key, segment);
}

static void carried_put(struct buf *out, const struct carried_list *l)
{
    struct jobject o = {0};

    for (size_t i = 0; i < l->count; i++)
        int_put(jobject_put(&o, l->items[i].wal_id), (int64_t)l->items[i].segment);
    jobject_end(&o, out);
}

/* Members that every lane record has. */
static void record_common(struct jobject *o, const char *type, const struct nonce *session,
                          const struct carried_list *carried)
{
    char hex[33];

    nonce_hex(session, hex);
    jobject_text(o, "type", slice_str(type));
    jobject_text(o, "session", slice_str(hex));
    carried_put(jobject_put(o, "carried"), carried);
}

/* ---- OPEN */

struct taking {
    slice lane;
    bool insist; /* whoever has it: fence them. Else only an empty or sealed lane is taken */
    struct nonce session;
    struct seq_tail tail; /* out: our OPEN */
    struct carried_list carried;
    char before[33]; /* out: whose session it was; "" nobody's */
    bool ours;       /* take it if the session there is one of this process, too */
};

static void open_body(struct catalog *cat, const struct taking *t, const struct carried_list *carried, struct buf *out)
{
    struct jobject o = {0};

    record_common(&o, "open", &t->session, carried);
    jobject_text(&o, "node_id", slice_str(cat->node_id));
    jobject_text(&o, "endpoint", slice_str(cat->endpoint));
    jobject_text(&o, "wal", slice_str(cat->session.wal_id));
    jobject_int(&o, "base", (int64_t)cat->session.base);
    jobject_int(&o, "upto", (int64_t)cat->session.upto);
    jobject_end(&o, out);
}

static bool session_is_mine(const struct catalog *cat, slice session)
{
    char hex[33];

    for (size_t i = 0; i < cat->session.mine_count; i++) {
        nonce_hex(&cat->session.mine[i], hex);
        if (slice_eq(session, slice_str(hex)))
            return true;
    }
    return false;
}

/* One OPEN at tail + 1, which also decides every earlier PUT of ours there. */
static enum err_code take_once(struct catalog *cat, struct taking *t, struct err *err)
{
    _cleanup_(buf_done) struct buf seq = BUF_INIT, body = BUF_INIT;
    _cleanup_(slot_done) struct slot tail = {0};
    struct append a = {.kind = APPEND_OPEN, .type = SLOT_LANE, .nonce = t->session};
    slice type;

    seq_lane(&seq, t->lane);
    TRY(seq_read_tail(&cat->io, buf_view(&seq), SLOT_LANE, &tail, err));
    if (!t->insist && tail.seq != SLOT_NONE &&
        !(json_get_text(tail.body, "type", &type) && slice_eq(type, slice_lit("seal"))) &&
        !(t->ours && json_get_text(tail.body, "session", &type) && session_is_mine(cat, type)))
        return err_set(err, ERR_LIMIT, "lane is taken");
    t->carried.count = 0;
    if (tail.seq != SLOT_NONE)
        carried_read(&t->carried, &tail);
    t->before[0] = 0;
    if (tail.seq != SLOT_NONE && json_get_text(tail.body, "session", &type) && type.len < sizeof(t->before)) {
        memcpy(t->before, type.ptr, type.len);
        t->before[type.len] = 0;
    }
    if (cat->session.committed > cat->session.base) /* the next OPEN carries what this session knows */
        carried_raise(&t->carried, slice_str(cat->session.wal_id), cat->session.committed);
    open_body(cat, t, &t->carried, &body);
    a.seq = buf_view(&seq);
    a.tail = (struct seq_tail){tail.seq, tail.nonce};
    a.body = buf_view(&body);
    TRY(seq_append(&cat->io, &a, err));
    t->tail = (struct seq_tail){tail.seq + 1, t->session};
    return ERR_OK;
}

static enum err_code header_write(struct catalog *cat, slice lane, const struct nonce *session, struct err *err)
{
    struct lane_identity id = {0};

    memcpy(id.wal_id, cat->session.wal_id, sizeof(id.wal_id));
    memcpy(id.lane, lane.ptr, MIN(lane.len, sizeof(id.lane) - 1));
    nonce_hex(session, id.session);
    if (cat->session.cloned)
        id.session[0] = 0; /* the next start must see that it is one, too */
    id.base = cat->session.base;
    id.upto = cat->session.upto;
    return cat->session.header ? cat->session.header(cat->session.header_arg, &id, err) : ERR_OK;
}

static enum err_code lane_take(struct catalog *cat, struct taking *t, struct err *err)
{
    enum err_code rc;

    do {
        seq_nonce(&cat->io, &t->session);
        os_lock(cat->os, cat->mu);
        *ARRAY_PUSH(cat->session.mine, cat->session.mine_count, cat->session.mine_cap) = t->session;
        os_unlock(cat->os, cat->mu);
        if (MUTANT(5))
            TRY(header_write(cat, t->lane, &t->session, err));
        rc = take_once(cat, t, err);
    } while (rc == ERR_CONFLICT && t->insist);
    return rc;
}

struct numbers {
    uint8_t used[(LANE_NUMBER_MAX + 8) / 8];
    char (*names)[24];
    size_t count, cap;
};

static bool number_item(void *arg, slice lane)
{
    struct numbers *n = arg;
    uint64_t v;

    if (lane.ptr[0] != 'n' || !slice_u64(slice_from(lane, 1), &v) || v > LANE_NUMBER_MAX)
        return true;
    n->used[v / 8] |= (uint8_t)(1 << v % 8);
    char(*name)[24] = ARRAY_PUSH(n->names, n->count, n->cap);
    memcpy(*name, lane.ptr, MIN(lane.len, sizeof(*name) - 1));
    return true;
}

static enum err_code take_sealed(struct catalog *cat, struct numbers *n, slice avoid, struct taking *t, char lane[24],
                                 struct err *err)
{
    ASSERT(n->count == 0 || n->names);
    for (size_t i = 0; i < n->count; i++) {
        if (slice_eq(slice_str(n->names[i]), avoid))
            continue;
        t->lane = slice_str(n->names[i]);
        enum err_code rc = lane_take(cat, t, err);
        if (rc == ERR_OK)
            memcpy(lane, n->names[i], 24);
        if (rc != ERR_LIMIT && rc != ERR_CONFLICT)
            return rc;
    }
    return ERR_LIMIT;
}

/* A lane whose tail is SEAL, else the smallest unused number; never `avoid`. */
static enum err_code take_any(struct catalog *cat, slice avoid, struct taking *t, char lane[24], struct err *err)
{
    struct numbers *n = mem_zalloc(sizeof(*n));
    enum err_code rc = lanes_list(cat, number_item, n, err);

    t->insist = false;
    if (rc == ERR_OK)
        rc = take_sealed(cat, n, avoid, t, lane, err);
    for (uint32_t v = 1; (rc == ERR_LIMIT || rc == ERR_CONFLICT) && v <= LANE_NUMBER_MAX; v++) {
        if (n->used[v / 8] >> v % 8 & 1)
            continue;
        (void)snprintf(lane, 24, "n%05" PRIu32, v);
        t->lane = slice_str(lane);
        rc = lane_take(cat, t, err);
    }
    free(n->names);
    free(n);
    return rc;
}

/* What a lane holds from where we stand up to a slot that we know is on its chain. */
struct catching_up {
    struct lane *lane;
    uint64_t upto;
    struct records read;
};

/* The lanes' records up to where they are decided are part of what we show from now on: a late PUT of our own past may be among them.
 * `visible` runs in the same critical section. */
static enum err_code session_begin(struct catalog *cat, struct taking *t, struct catching_up *old,
                                   void (*visible)(void *arg), void *arg, struct err *err)
{
    struct session *s = &cat->session;
    struct catching_up now = {.upto = t->tail.slot};

    os_lock(cat->os, cat->mu);
    now.lane = lane_get(cat, t->lane);
    s->open = false;
    os_unlock(cat->os, cat->mu);
    enum err_code rc = lane_catch_up(cat, now.lane, now.upto, &now.read, err);
    if (rc == ERR_OK && old && old->lane != now.lane)
        rc = lane_catch_up(cat, old->lane, old->upto, &old->read, err);
    if (rc == ERR_OK) {
        struct carried *c = carried_find(&t->carried, slice_str(s->wal_id));
        os_lock(cat->os, cat->mu);
        s->open = true;
        s->undecided = s->lost = s->appending = false;
        cat->registered &= s->lane == now.lane; /* the next beat tells at once */
        s->lane = now.lane;
        s->spare[0] = 0;
        s->nonce = t->session;
        s->tail = t->tail;
        free(s->carried.items);
        s->carried = t->carried;
        t->carried = (struct carried_list){0};
        s->committed = c ? MAX(c->segment, s->base) : s->committed;
        if (old)
            records_apply(cat, old->lane, &old->read);
        records_apply(cat, now.lane, &now.read);
        streams_unhold(cat);
        if (visible && s->committed)
            visible(arg);
        os_unlock(cat->os, cat->mu);
    }
    records_done(cat, &now.read);
    if (old)
        records_done(cat, &old->read);
    return rc;
}

/* The records between what was folded and our OPEN may have been collected when no checkpoint was known at the time: load first. */
static enum err_code catch_up(struct catalog *cat, struct err *err)
{
    gate_enter(cat, slice_lit("fold"));
    enum err_code rc = lanes_load(cat, err);
    gate_leave(cat, slice_lit("fold"));
    return rc;
}

static enum err_code open_in_gate(struct catalog *cat, struct lane_identity *id, uint64_t *committed, struct err *err)
{
    struct taking t = {.lane = slice_str(id->lane), .insist = true};
    char lane[24] = "";

    enum err_code rc = catch_up(cat, err);
    if (rc == ERR_OK && id->lane[0] && !MUTANT(3)) {
        memcpy(lane, id->lane, sizeof(lane));
        rc = lane_valid(t.lane) ? lane_take(cat, &t, err)
                                : err_set(err, ERR_CORRUPT, "bad lane \"%s\" in the header of the WAL", lane);
    } else if (rc == ERR_OK) {
        rc = take_any(cat, slice_str(id->lane), &t, lane, err);
    }
    t.lane = slice_str(lane);
    cat->session.cloned =
        rc == ERR_OK && id->lane[0] && t.before[0] && strcmp(t.before, id->session) != 0 && !MUTANT(25);
    if (rc == ERR_OK)
        rc = header_write(cat, t.lane, &t.session, err);
    if (rc == ERR_OK)
        rc = session_begin(cat, &t, NULL, NULL, NULL, err);
    if (rc == ERR_OK) {
        memcpy(id->lane, lane, sizeof(id->lane));
        nonce_hex(&t.session, id->session);
        id->cloned = cat->session.cloned;
        *committed = cat->session.committed;
    }
    free(t.carried.items);
    return rc;
}

enum err_code catalog_session_open(struct catalog *cat, struct lane_identity *id,
                                   enum err_code (*header)(void *arg, const struct lane_identity *id, struct err *err),
                                   void *arg, uint64_t *committed, struct err *err)
{
    gate_enter(cat, GATE);
    os_lock(cat->os, cat->mu);
    cat->session.header = header;
    cat->session.header_arg = arg;
    cat->session.committed = cat->session.base = id->base;
    cat->session.upto = id->upto;
    memcpy(cat->session.wal_id, id->wal_id, sizeof(cat->session.wal_id));
    os_unlock(cat->os, cat->mu);
    enum err_code rc = open_in_gate(cat, id, committed, err);
    gate_leave(cat, GATE);
    return rc;
}

enum err_code catalog_session_look(struct catalog *cat, const struct lane_identity *id, uint64_t *upto, bool *over,
                                   struct err *err)
{
    _cleanup_(buf_done) struct buf seq = BUF_INIT;
    _cleanup_(slot_done) struct slot tail = {0};
    slice type, session;

    if (!lane_valid(slice_str(id->lane)))
        return err_set(err, ERR_CORRUPT, "bad lane \"%s\"", id->lane);
    seq_lane(&seq, slice_str(id->lane));
    TRY(seq_read_tail(&cat->io, buf_view(&seq), SLOT_LANE, &tail, err));
    if (tail.seq == SLOT_NONE || !json_get_text(tail.body, "type", &type) ||
        !json_get_text(tail.body, "session", &session))
        return err_set(err, ERR_CORRUPT, "lane %s has no record of the session %s", id->lane, id->session);
    *upto = 0;
    (void)carried_get(&tail, slice_str(id->wal_id), upto);
    *over = slice_eq(type, slice_lit("seal")) || !slice_eq(session, slice_str(id->session));
    return ERR_OK;
}

/* ---- a copy of our disk */

static void wal_id_renew(struct catalog *cat, uint64_t base)
{
    struct session *s = &cat->session;
    struct nonce id;
    char hex[33];

    seq_nonce(&cat->io, &id);
    nonce_hex(&id, hex);
    os_lock(cat->os, cat->mu);
    memcpy(s->wal_id, hex, sizeof(hex));
    s->base = s->committed = base; /* what the lane carries of the old id above that is another's */
    s->cloned = false;
    os_unlock(cat->os, cat->mu);
}

static enum err_code reopen_here(struct catalog *cat, void (*visible)(void *arg), void *arg, struct err *err);

enum err_code catalog_session_fork(struct catalog *cat, uint64_t base, struct err *err)
{
    gate_enter(cat, GATE);
    wal_id_renew(cat, base);
    enum err_code rc = reopen_here(cat, NULL, NULL, err);
    gate_leave(cat, GATE);
    return rc;
}

bool catalog_forked(struct catalog *cat)
{
    os_lock(cat->os, cat->mu);
    bool forked = cat->session.forked;
    cat->session.forked = false;
    os_unlock(cat->os, cat->mu);
    return forked;
}

bool session_is_twin(const struct catalog *cat, const struct slot *slot, uint64_t *upto)
{
    const struct session *s = &cat->session;
    slice type, wal, session;
    uint64_t carried = 0;

    if (!json_get_text(slot->body, "type", &type) || !slice_eq(type, slice_lit("open")) ||
        !json_get_text(slot->body, "wal", &wal) || !slice_eq(wal, slice_str(s->wal_id)) ||
        !json_get_text(slot->body, "session", &session) || !json_get_u64(slot->body, "upto", upto))
        return false;
    if (session_is_mine(cat, session))
        return false;
    if (carried_get(slot, wal, &carried)) /* ours, committed before */
        *upto = MAX(*upto, carried);
    return true;
}

/* Who has opened our lane above our tail under our own wal id? A process whose disk went to another machine may do so too, once, as it does
 * not know yet: only who has written its header after that, and so its DATA, is believed to have the log. One whose OPEN was collected is
 * not seen: it would take an hour's sleep. */
enum twin { TWIN_NONE, TWIN_UNPROVEN, TWIN_PROVEN };

static enum err_code twin_look(struct catalog *cat, uint64_t tail, enum twin *out, uint64_t *upto, struct err *err)
{
    struct session *s = &cat->session;
    _cleanup_(buf_done) struct buf seq = BUF_INIT;
    char twin[33] = "";

    *out = TWIN_NONE;
    seq_lane(&seq, slice_str(s->lane->name));
    for (uint64_t at = s->tail.slot + 1; tail != SLOT_NONE && at <= tail && *out != TWIN_PROVEN; at++) {
        _cleanup_(slot_done) struct slot record = {0};
        slice type, session;
        enum err_code rc = seq_read(&cat->io, buf_view(&seq), SLOT_LANE, at, &record, err);
        if (rc == ERR_NOT_FOUND)
            continue;
        TRY(rc);
        if (!json_get_text(record.body, "type", &type) || !json_get_text(record.body, "session", &session) ||
            session.len >= sizeof(twin))
            continue;
        if (session_is_twin(cat, &record, upto)) {
            *out = TWIN_UNPROVEN;
            memcpy(twin, session.ptr, session.len);
            twin[session.len] = 0;
        } else if (*out == TWIN_UNPROVEN && slice_eq(type, slice_lit("data")) && slice_eq(session, slice_str(twin))) {
            *out = TWIN_PROVEN;
        }
    }
    return ERR_OK;
}

void catalog_next_file_stem(struct catalog *cat, struct buf *out)
{
    char session8[9];

    os_lock(cat->os, cat->mu);
    const struct session *s = &cat->session;
    nonce_session8(&s->nonce, session8);
    if (MUTANT(16) && s->old_stem.len)
        buf_slice(out, buf_view(&s->old_stem));
    else
        buf_fmt(out, "%s-%020" PRIu64 "-%s", s->lane ? s->lane->name : "n00000", s->tail.slot + 1, session8);
    os_unlock(cat->os, cat->mu);
}

/* ---- DATA */

struct data { /* one commit on its way */
    uint64_t from, to;
    const struct catalog_file *files;
    size_t count;
    struct records record;       /* one: ours */
    struct carried_list carried; /* with this commit in it */
    slice wal_id;
};

static uint32_t schema_known(struct catalog *cat, struct stream *s)
{
    os_lock(cat->os, cat->mu);
    uint32_t id = s && s->head ? s->head->schema_id : 0;
    os_unlock(cat->os, cat->mu);
    return id;
}

static enum err_code data_prepare(struct catalog *cat, struct data *d, uint64_t slot, struct err *err)
{
    struct record *r = ARRAY_PUSH(d->record.items, d->record.count, d->record.cap);
    struct file_name name;

    r->slot = slot;
    for (size_t i = 0; i < d->count; i++) {
        const struct catalog_file *f = &d->files[i];
        if (f->path.len >= 900 || !store_key_valid(f->path) || !file_name_parse(f->path, &name) || f->stats.rows == 0 ||
            f->stats.rows > UINT32_MAX || f->stats.tmin_us > f->stats.tmax_us)
            return err_set(err, ERR_INVALID, "not a data file of ours: " SLICE_FMT, SLICE_ARG(f->path));
        struct record_file *rf = ARRAY_PUSH(r->files, r->count, r->cap);
        rf->sid = f->sid;
        rf->stream = stream_get(cat, &f->sid); /* NULL: dropped meanwhile; the record still names it, fold drops it */
        uint32_t schema = schema_known(cat, rf->stream) | (f->by_name ? FILE_COLUMNS_BY_NAME : 0);
        rf->entry = entry_new(f->path, &f->stats, f->raw_bytes, schema, SLOT_NONE);
    }
    for (size_t i = 0; i < cat->session.carried.count; i++)
        carried_raise(&d->carried, slice_str(cat->session.carried.items[i].wal_id),
                      cat->session.carried.items[i].segment);
    carried_raise(&d->carried, d->wal_id, d->to);
    return ERR_OK;
}

static void data_body(struct catalog *cat, const struct data *d, struct buf *out)
{
    const struct record *r = &d->record.items[0];
    struct jobject o = {0};

    record_common(&o, "data", &cat->session.nonce, &d->carried);
    struct buf *wal = jobject_put(&o, "wal");
    buf_fmt(wal, "{\"from\":%" PRIu64 ",\"id\":", d->from);
    buf_json_str(wal, d->wal_id);
    buf_fmt(wal, ",\"to\":%" PRIu64 "}", d->to);
    struct buf *files = jobject_put(&o, "files");
    buf_byte(files, '[');
    for (size_t i = 0; i < r->count; i++) {
        if (i)
            buf_byte(files, ',');
        entry_put(files, r->files[i].entry, &d->files[i].sid, d->files[i].stream);
    }
    buf_byte(files, ']');
    jobject_end(&o, out);
}

static enum err_code data_append(struct catalog *cat, struct data *d, void (*on_visible)(void *arg), void *arg,
                                 uint64_t *committed, struct err *err)
{
    struct session *s = &cat->session;
    _cleanup_(buf_done) struct buf seq = BUF_INIT, body = BUF_INIT;
    struct append a = {.kind = APPEND_DATA, .type = SLOT_LANE, .tail = s->tail};

    TRY(data_prepare(cat, d, s->tail.slot + 1, err));
    data_body(cat, d, &body);
    seq_lane(&seq, slice_str(s->lane->name));
    a.seq = buf_view(&seq);
    a.body = buf_view(&body);
    seq_nonce(&cat->io, &a.nonce);
    os_lock(cat->os, cat->mu);
    s->appending = true;
    os_unlock(cat->os, cat->mu);
    enum err_code rc = seq_append(&cat->io, &a, err);
    os_lock(cat->os, cat->mu);
    s->appending = false;
    if (rc != ERR_OK) {
        s->lost = rc == ERR_CONFLICT;
        s->undecided = rc != ERR_CONFLICT && rc != ERR_UNAVAILABLE && rc != ERR_LIMIT;
        os_unlock(cat->os, cat->mu);
        return rc;
    }
    s->tail = (struct seq_tail){s->tail.slot + 1, a.nonce};
    s->committed = d->to;
    struct carried_list old = s->carried;
    s->carried = d->carried;
    d->carried = old;
    records_apply(cat, s->lane, &d->record);
    streams_unhold(cat);
    *committed = d->to;
    if (on_visible)
        on_visible(arg);
    os_unlock(cat->os, cat->mu);
    return ERR_OK;
}

static void note_stem(struct catalog *cat)
{
    if (!MUTANT(16))
        return;
    struct buf stem = BUF_INIT;
    catalog_next_file_stem(cat, &stem);
    buf_done(&cat->session.old_stem);
    cat->session.old_stem = stem;
}

struct after_reopen {
    struct catalog *cat;
    uint64_t to, *committed;
    void (*on_visible)(void *arg);
    void *arg;
    bool done;
};

static void reopened_visible(void *arg)
{
    struct after_reopen *r = arg;

    *r->committed = r->cat->session.committed;
    r->done = *r->committed >= r->to;
    if (r->on_visible)
        r->on_visible(r->arg);
}

/* Our DATA lost its slot. What the old lane carries is committed; the rest goes to another lane, under new names. */
static enum err_code fenced(struct catalog *cat, struct after_reopen *r, struct err *err)
{
    struct session *s = &cat->session;
    _cleanup_(buf_done) struct buf seq = BUF_INIT;
    _cleanup_(slot_done) struct slot tail = {0};
    struct taking t = {0};
    struct catching_up old = {.lane = s->lane};
    enum twin twin;
    uint64_t segment;
    char lane[24];
    slice type;

    ASSERT(s->lane);
    note_stem(cat);
    memcpy(lane, s->lane->name, sizeof(lane));
    seq_lane(&seq, slice_str(lane));
    TRY(seq_read_tail(&cat->io, buf_view(&seq), SLOT_LANE, &tail, err));
    old.upto = tail.seq; /* there is one: our OPEN at least */
    TRY(twin_look(cat, tail.seq, &twin, &segment, err));
    if (twin == TWIN_UNPROVEN) /* that we have it ourselves */
        TRY(header_write(cat, slice_str(lane), &s->nonce, err));
    if (twin == TWIN_PROVEN && MUTANT(26)) {
        s->forked = true; /* and goes on with what it has */
    } else if (twin == TWIN_PROVEN) {
        s->forked = segment > s->committed;
        wal_id_renew(cat, MAX(segment, s->committed));
    } else if (tail.seq != SLOT_NONE && carried_get(&tail, slice_str(s->wal_id), &segment)) {
        s->committed = MAX(s->committed, segment);
    }
    t.lane = slice_str(lane);
    t.insist = true;
    bool sealed = tail.seq != SLOT_NONE && json_get_text(tail.body, "type", &type) && slice_eq(type, slice_lit("seal"));
    bool stay = sealed || twin == TWIN_UNPROVEN;
    enum err_code rc = ERR_LIMIT;
    if (stay) {
        rc = lane_take(cat, &t, err);
    } else if (s->spare[0]) { /* an earlier try ended between OPEN and header: not one more lane for each */
        memcpy(lane, s->spare, sizeof(lane));
        t.lane = slice_str(lane);
        t.insist = false;
        t.ours = true;
        rc = lane_take(cat, &t, err);
        t.ours = false;
    }
    if (!stay && (rc == ERR_LIMIT || rc == ERR_CONFLICT))
        rc = take_any(cat, slice_str(s->lane->name), &t, lane, err);
    if (rc == ERR_OK && !stay)
        memcpy(s->spare, lane, sizeof(s->spare));
    t.lane = slice_str(lane);
    if (rc == ERR_OK)
        rc = header_write(cat, t.lane, &t.session, err);
    if (rc == ERR_OK)
        rc = session_begin(cat, &t, &old, reopened_visible, r, err);
    free(t.carried.items);
    return rc;
}

/* OPEN in the lane that we have. */
static enum err_code reopen_here(struct catalog *cat, void (*visible)(void *arg), void *arg, struct err *err)
{
    char lane[24];
    struct taking t = {.insist = true};

    memcpy(lane, cat->session.lane->name, sizeof(lane));
    t.lane = slice_str(lane);
    enum err_code rc = MUTANT(2) ? take_any(cat, t.lane, &t, lane, err) : lane_take(cat, &t, err);
    t.lane = slice_str(lane);
    if (rc == ERR_OK)
        rc = header_write(cat, t.lane, &t.session, err);
    if (rc == ERR_OK)
        rc = session_begin(cat, &t, NULL, visible, arg, err);
    free(t.carried.items);
    return rc;
}

/* After an append without an answer: the same lane, as in a recovery. *lost: a copy of our disk has it now. */
static enum err_code reopen(struct catalog *cat, struct after_reopen *r, bool *lost, struct err *err)
{
    _cleanup_(buf_done) struct buf seq = BUF_INIT;
    slice lane = slice_str(cat->session.lane->name);
    enum twin twin;
    uint64_t tail, upto;

    seq_lane(&seq, lane);
    TRY(seq_find_tail(&cat->io, buf_view(&seq), SLOT_NONE, &tail, err));
    TRY(twin_look(cat, tail, &twin, &upto, err));
    *lost = twin != TWIN_NONE;
    return *lost ? ERR_OK : reopen_here(cat, reopened_visible, r, err);
}

static enum err_code commit_in_gate(struct catalog *cat, struct data *d, void (*on_visible)(void *arg), void *arg,
                                    uint64_t *committed, struct err *err)
{
    struct session *s = &cat->session;
    struct after_reopen r = {cat, d->to, committed, on_visible, arg, false};

    if (!s->lane)
        return err_set(err, ERR_INVALID, "no lane is open");
    if (!s->lost && (s->undecided || !s->open)) {
        bool lost = false;
        TRY(reopen(cat, &r, &lost, err));
        if (!lost)
            return r.done
                       ? ERR_OK
                       : err_set(err, ERR_CONFLICT, "lane %s was opened again: upload under new names", s->lane->name);
        os_lock(cat->os, cat->mu);
        s->lost = true;
        os_unlock(cat->os, cat->mu);
    }
    bool known_lost = s->lost;
    enum err_code rc = known_lost ? ERR_CONFLICT : data_append(cat, d, on_visible, arg, committed, err);
    if (rc == ERR_CONFLICT) {
        rc = fenced(cat, &r, err); /* after an error the next commit comes here at once: our slot is known to be lost */
        if (rc != ERR_OK &&
            !known_lost) { /* one that was folded and collected meanwhile counts as lost too: its files are in heads */
            if (err)
                err->code = ERR_UNKNOWN;
            return ERR_UNKNOWN;
        }
        TRY(rc);
        *committed = s->committed;
        return err_set(err, ERR_CONFLICT, "fenced: now on lane %s", s->lane->name);
    }
    return rc;
}

enum err_code catalog_commit(struct catalog *cat, uint64_t from, uint64_t to, const struct catalog_file *files,
                             size_t count, void (*on_visible)(void *arg), void *arg, uint64_t *committed,
                             struct err *err)
{
    struct data d = {.from = from, .to = to, .files = files, .count = count};

    gate_enter(cat, GATE);
    d.wal_id = slice_str(cat->session.wal_id);
    enum err_code rc = commit_in_gate(cat, &d, on_visible, arg, committed, err);
    gate_leave(cat, GATE);
    records_done(cat, &d.record);
    free(d.carried.items);
    return rc;
}

/* ---- SEAL */

static enum err_code seal_in_gate(struct catalog *cat, struct err *err)
{
    struct session *s = &cat->session;
    _cleanup_(buf_done) struct buf seq = BUF_INIT, body = BUF_INIT;
    struct append a = {.kind = APPEND_OTHER, .type = SLOT_LANE, .tail = s->tail};
    struct jobject o = {0};

    if (!s->open || s->undecided || s->lost)
        return ERR_OK; /* the next start OPENs the lane */
    record_common(&o, "seal", &s->nonce, &s->carried);
    jobject_text(&o, "reason", slice_lit("clean stop"));
    jobject_end(&o, &body);
    seq_lane(&seq, slice_str(s->lane->name));
    a.seq = buf_view(&seq);
    a.body = buf_view(&body);
    seq_nonce(&cat->io, &a.nonce);
    enum err_code rc = seq_append(&cat->io, &a, err);
    os_lock(cat->os, cat->mu);
    s->open = false;
    s->lane = NULL;
    os_unlock(cat->os, cat->mu);
    return rc == ERR_CONFLICT ? ERR_OK : rc; /* fenced: then it is not ours to seal */
}

enum err_code catalog_seal(struct catalog *cat, struct err *err)
{
    gate_enter(cat, GATE);
    enum err_code rc = seal_in_gate(cat, err);
    gate_leave(cat, GATE);
    return rc;
}

void catalog_position(struct catalog *cat, struct catalog_position *out)
{
    *out = (struct catalog_position){0};
    memcpy(out->node_id, cat->node_id, sizeof(out->node_id));
    os_lock(cat->os, cat->mu);
    if (cat->session.lane)
        memcpy(out->lane, cat->session.lane->name, sizeof(out->lane));
    out->slot = cat->session.tail.slot;
    os_unlock(cat->os, cat->mu);
}
