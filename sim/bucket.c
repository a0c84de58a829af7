#include "sim/bucket.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "catalog/catalog_int.h"

#include "base/banned.h"

#define DAY_US INT64_C(86400000000)

struct chain {     /* a sequence: its tail, as the protocol counts it; what appears below is a ghost */
    uint64_t tail; /* SLOT_NONE: empty */
    struct nonce nonce;
};
struct inc;
struct file { /* data file, manifest or pack of filters, also after it is gone */
    slice key, path;
    struct inc *inc;
    struct sim_row *rows; /* a data file's */
    size_t rows_count;
    slice *names; /* a manifest's: paths of data files */
    size_t names_count;
    unsigned refs;           /* retained heads that name it */
    struct lane_model *lane; /* the DATA record on a chain that names it; NULL: none */
    uint64_t slot;
    uint64_t mark; /* for set arithmetic */
};
struct head_model { /* a head that is in the store and on the chain */
    uint64_t slot;
    struct file **files;
    size_t count, cap;
};
struct field_model {
    uint32_t id;
    slice name;
};
enum fate { FATE_NEVER, FATE_IS_LIVE, FATE_IS_DEAD };
struct inc { /* one incarnation */
    struct sid sid;
    slice name;
    enum fate fate;
    struct chain heads;
    struct head *tail;        /* decoded; NULL before head 0 */
    struct file **tail_files; /* data files of the tail, manifests resolved */
    size_t tail_files_count, tail_files_cap;
    struct head_model *retained;
    size_t retained_count, retained_cap;
    struct field_model *fields;
    size_t fields_count, fields_cap;
};
struct record_model { /* of a lane, on its chain */
    bool present;
    struct file **files;
    size_t count, cap;
};
struct lane_model {
    slice name;
    struct chain chain;
    struct record_model *records; /* by slot */
    size_t count, cap;
    struct wal_pos_model {
        slice wal;
        uint64_t segment;
    } * carried;
    size_t carried_count, carried_cap;
};
struct wal_model {
    slice id;
    uint64_t committed; /* segments up to here are on a chain */
};
struct shard_model {
    struct chain chain;
    struct map pos; /* lane -> slot + 1 */
};
struct name_model {
    struct chain chain;
    slice name; /* encoded */
    struct inc *live;
    int64_t live_us; /* the world's time of its last LIVE slot */
};
struct row_model {
    struct inc *inc; /* that a DATA record on a chain gave it to */
    bool expired;
    uint64_t set;  /* bucket_row_seen */
    uint64_t mark; /* head diff */
};
struct bucket {
    struct world *world;
    struct sim_store *store;
    struct arena arena;
    struct map incs, files, lanes, names, wals;
    struct shard_model *shards;
    uint32_t shards_count;
    struct row_model *rows; /* by id */
    size_t rows_count, rows_cap;
    uint64_t marks, sets;
    int64_t clock_max_us;
};

#define CHECK(b, cond, invariant, ...) WORLD_CHECK((b)->world, cond, invariant, __VA_ARGS__)

static slice keep(struct bucket *b, slice s)
{
    return arena_copy(&b->arena, s);
}

void bucket_clock(struct bucket *b)
{
    b->clock_max_us = MAX(b->clock_max_us, sim_store_now(b->store));
}

/* ---- tables */
static struct inc *inc_get(struct bucket *b, slice sid, slice name)
{
    struct inc *i = map_get(&b->incs, sid);

    if (i)
        return i;
    ASSERT(sid.ptr);
    i = arena_zalloc(&b->arena, sizeof(*i));
    memcpy(i->sid.text, sid.ptr, MIN(sid.len, 26u));
    i->name = keep(b, name);
    i->heads.tail = SLOT_NONE;
    (void)map_put(&b->incs, sid_slice(&i->sid), i);
    return i;
}

static struct lane_model *lane_model(struct bucket *b, slice name)
{
    struct lane_model *l = map_get(&b->lanes, name);

    if (l)
        return l;
    l = arena_zalloc(&b->arena, sizeof(*l));
    l->name = keep(b, name);
    l->chain.tail = SLOT_NONE;
    (void)map_put(&b->lanes, l->name, l);
    return l;
}

static struct wal_model *wal_model(struct bucket *b, slice id)
{
    struct wal_model *w = map_get(&b->wals, id);

    if (w)
        return w;
    w = arena_zalloc(&b->arena, sizeof(*w));
    w->id = keep(b, id);
    (void)map_put(&b->wals, w->id, w);
    return w;
}

static struct row_model *row_model(struct bucket *b, uint64_t id)
{
    while (b->rows_count <= id)
        (void)ARRAY_PUSH(b->rows, b->rows_count, b->rows_cap);
    return &b->rows[id];
}

static struct file *file_in(const struct bucket *b, const struct inc *i, slice path)
{
    char key[1400];
    int n = snprintf(key, sizeof(key), SLICE_FMT "/%s/" SLICE_FMT, SLICE_ARG(i->name), i->sid.text, SLICE_ARG(path));
    return map_get(&b->files, slice_of(key, (size_t)n));
}

static bool present(const struct bucket *b, const struct file *f)
{
    return sim_store_find(b->store, f->key) != NULL;
}

/* ---- chains */

/* Is the slot on the chain now? A slot below the tail is a ghost: nobody may ever act on it. */
static bool chain_add(struct bucket *b, struct chain *c, const struct slot *s, slice key)
{
    if (c->tail != SLOT_NONE && s->seq <= c->tail) {
        world_trace(b->world, "  ghost " SLICE_FMT, SLICE_ARG(key));
        return false;
    }
    CHECK(b, s->seq == c->tail + 1, "I8", SLICE_FMT " stands above a hole: the tail is %" PRIu64, SLICE_ARG(key),
          c->tail);
    static const struct nonce none;
    CHECK(b, nonce_eq(&s->prev, c->tail == SLOT_NONE ? &none : &c->nonce), "I8",
          SLICE_FMT " does not name its predecessor", SLICE_ARG(key));
    *c = (struct chain){s->seq, s->nonce};
    return true;
}

/* ---- names */
static void on_name(struct bucket *b, slice enc, const struct slot *s, slice key)
{
    struct name_model *n = map_get(&b->names, enc);
    slice state = {0}, sid = {0};

    if (!n) {
        n = arena_zalloc(&b->arena, sizeof(*n));
        n->name = keep(b, enc);
        n->chain.tail = SLOT_NONE;
        (void)map_put(&b->names, n->name, n);
    }
    if (!chain_add(b, &n->chain, s, key))
        return;
    CHECK(b, json_get_text(s->body, "state", &state) && json_get_text(s->body, "sid", &sid), "I1",
          SLICE_FMT " is no name slot", SLICE_ARG(key));
    struct inc *i = inc_get(b, sid, enc);
    if (slice_eq(state, slice_lit("live"))) {
        CHECK(b, !n->live, "I1", SLICE_FMT ": %s was LIVE already", SLICE_ARG(key), n->live->sid.text);
        CHECK(b, i->fate == FATE_NEVER, "I1", SLICE_FMT ": sid %s was used before", SLICE_ARG(key), i->sid.text);
        i->fate = FATE_IS_LIVE;
        n->live = i;
        n->live_us = world_now(b->world);
    } else {
        CHECK(b, n->live == i, "I1", SLICE_FMT ": DEAD of a sid that is not LIVE", SLICE_ARG(key));
        i->fate = FATE_IS_DEAD;
        n->live = NULL;
    }
}

/* ---- lanes */
static void carried_check(struct bucket *b, struct lane_model *l, const struct slot *s, slice key)
{
    json_t *o = json_object_get(s->body, "carried"), *v;
    const char *id;

    for (size_t i = 0; i < l->carried_count; i++) {
        uint64_t now = 0;
        char text[64];
        (void)snprintf(text, sizeof(text), SLICE_FMT, SLICE_ARG(l->carried[i].wal));
        CHECK(b, json_get_u64(o, text, &now) && now >= l->carried[i].segment, "I5",
              SLICE_FMT " carries %s up to %" PRIu64 ", the record before it %" PRIu64, SLICE_ARG(key), text, now,
              l->carried[i].segment);
    }
    json_object_foreach (o, id, v) {
        size_t i = 0;
        while (i < l->carried_count && !slice_eq(l->carried[i].wal, slice_str(id)))
            i++;
        if (i == l->carried_count)
            ARRAY_PUSH(l->carried, l->carried_count, l->carried_cap)->wal = keep(b, slice_str(id));
        l->carried[i].segment = (uint64_t)json_integer_value(v);
        CHECK(b, l->carried[i].segment <= wal_model(b, slice_str(id))->committed, "I4",
              SLICE_FMT " carries segment %" PRIu64 " of %s, which no chain holds", SLICE_ARG(key),
              l->carried[i].segment, id);
    }
}

/* An upload alone binds no row: a flush that fails leaves files of rows that a later one may give to the name's next incarnation. */
static void rows_bind(struct bucket *b, const struct file *f)
{
    for (size_t n = 0; n < f->rows_count; n++) {
        struct row_model *r = row_model(b, f->rows[n].id);
        CHECK(b, !r->inc || r->inc == f->inc, "I4", "row %" PRIu64 " of %s is committed to %s", f->rows[n].id,
              r->inc->sid.text, f->inc->sid.text);
        r->inc = f->inc;
    }
}

static void on_data(struct bucket *b, struct lane_model *l, struct record_model *r, const struct slot *s, slice key)
{
    json_t *wal = json_object_get(s->body, "wal"), *o;
    slice id = {0}, sid = {0}, name = {0}, path = {0};
    uint64_t from = 0, to = 0;
    size_t at;

    CHECK(b,
          json_get_text(wal, "id", &id) && json_get_u64(wal, "from", &from) && json_get_u64(wal, "to", &to) &&
              from <= to,
          "I3", SLICE_FMT ": DATA without a range", SLICE_ARG(key));
    struct wal_model *w = wal_model(b, id);
    CHECK(b, from > w->committed, "I3",
          SLICE_FMT " commits segments %" PRIu64 " to %" PRIu64 " of WAL " SLICE_FMT ", up to %" PRIu64
                    " are on a chain",
          SLICE_ARG(key), from, to, SLICE_ARG(id), w->committed);
    CHECK(b, from == w->committed + 1, "I4",
          SLICE_FMT " commits from segment %" PRIu64 " on, %" PRIu64 " is not on a chain", SLICE_ARG(key), from,
          w->committed + 1);
    w->committed = to;
    json_array_foreach (json_object_get(s->body, "files"), at, o) {
        _cleanup_(buf_done) struct buf enc = BUF_INIT;
        CHECK(b, json_get_text(o, "sid", &sid) && json_get_text(o, "stream", &name) && json_get_text(o, "path", &path),
              "I4", SLICE_FMT ": bad entry", SLICE_ARG(key));
        name_encode(name, &enc);
        struct inc *i = inc_get(b, sid, buf_view(&enc));
        struct file *f = file_in(b, i, path);
        CHECK(b, i->fate == FATE_IS_DEAD || (f && present(b, f)), "I6",
              SLICE_FMT " names " SLICE_FMT ", which is not there", SLICE_ARG(key), SLICE_ARG(path));
        if (!f)
            continue;
        CHECK(b, !f->lane, "I3", SLICE_FMT " names " SLICE_FMT ", which another record names", SLICE_ARG(key),
              SLICE_ARG(path));
        f->lane = l;
        f->slot = s->seq;
        rows_bind(b, f);
        *ARRAY_PUSH(r->files, r->count, r->cap) = f;
    }
}

/* A log that was forked from another begins above its base. */
static void on_open(struct bucket *b, const struct slot *s)
{
    slice id = {0};
    uint64_t base = 0;

    if (!json_get_text(s->body, "wal", &id) || !json_get_u64(s->body, "base", &base))
        return;
    struct wal_model *w = wal_model(b, id);
    w->committed = w->committed ? w->committed : base;
}

static void on_lane(struct bucket *b, slice lane, const struct slot *s, slice key)
{
    struct lane_model *l = lane_model(b, lane);
    slice type = {0};

    if (!chain_add(b, &l->chain, s, key))
        return;
    while (l->count <= s->seq)
        (void)ARRAY_PUSH(l->records, l->count, l->cap);
    struct record_model *r = &l->records[s->seq];
    r->present = true;
    (void)json_get_text(s->body, "type", &type);
    if (slice_eq(type, slice_lit("open")))
        on_open(b, s);
    if (slice_eq(type, slice_lit("data")))
        on_data(b, l, r, s, key);
    carried_check(b, l, s, key);
}

static uint64_t inc_wm(const struct inc *i, slice lane)
{
    return i->tail ? head_wm_get(i->tail, lane) : SLOT_NONE;
}

static bool folded_into(const struct inc *i, slice lane, uint64_t slot)
{
    uint64_t wm = inc_wm(i, lane);
    return wm != SLOT_NONE && wm >= slot;
}

static void on_lane_removed(struct bucket *b, slice lane, uint64_t slot, slice key)
{
    struct lane_model *l = lane_model(b, lane);

    CHECK(b, slot != l->chain.tail, "I7", "tail " SLICE_FMT " is deleted", SLICE_ARG(key));
    for (uint32_t x = 0; x < b->shards_count; x++)
        CHECK(b, (uintptr_t)map_get(&b->shards[x].pos, lane) > slot, "I6",
              SLICE_FMT " is deleted, shard %u has not folded it", SLICE_ARG(key), x);
    if (slot >= l->count)
        return;
    l->records[slot].present = false;
    for (size_t k = 0; k < l->records[slot].count; k++) {
        const struct file *f = l->records[slot].files[k];
        CHECK(b, f->inc->fate == FATE_IS_DEAD || folded_into(f->inc, lane, slot), "I6",
              SLICE_FMT " is deleted, " SLICE_FMT " is in no head", SLICE_ARG(key), SLICE_ARG(f->key));
    }
}

/* ---- checkpoints */
static void on_checkpoint(struct bucket *b, uint32_t x, const struct slot *s, slice key)
{
    json_t *lanes = json_object_get(s->body, "lanes"), *v;
    const char *name;

    CHECK(b, x < b->shards_count, "I5", SLICE_FMT ": no such shard", SLICE_ARG(key));
    struct shard_model *sh = &b->shards[x];
    if (!chain_add(b, &sh->chain, s, key))
        return;
    struct map_entry *e;
    for (size_t at = 0; (e = map_next(&sh->pos, &at));) {
        char text[32];
        uint64_t now = 0;
        (void)snprintf(text, sizeof(text), SLICE_FMT, SLICE_ARG(e->key));
        CHECK(b, json_get_u64(lanes, text, &now) && now + 1 >= (uintptr_t)e->value, "I5",
              SLICE_FMT ": lane %s went back to %" PRIu64, SLICE_ARG(key), text, now);
    }
    json_object_foreach (lanes, name, v) {
        struct lane_model *l = lane_model(b, slice_str(name));
        uint64_t pos = (uint64_t)json_integer_value(v), before = (uintptr_t)map_get(&sh->pos, l->name);
        CHECK(b, l->chain.tail != SLOT_NONE && pos <= l->chain.tail, "I5", SLICE_FMT ": lane %s ends before %" PRIu64,
              SLICE_ARG(key), name, pos);
        for (uint64_t k = before; k <= pos && k < l->count; k++)
            for (size_t n = 0; n < l->records[k].count; n++) {
                const struct file *f = l->records[k].files[n];
                bool due = f->inc->fate == FATE_IS_LIVE && sid_shard(&f->inc->sid, b->shards_count) == x;
                CHECK(b, !due || folded_into(f->inc, l->name, k), "I4",
                      SLICE_FMT " covers %s/%" PRIu64 ", " SLICE_FMT " is in no head", SLICE_ARG(key), name, k,
                      SLICE_ARG(f->key));
            }
        (void)map_put(&sh->pos, l->name, (void *)(uintptr_t)(pos + 1));
    }
}

/* ---- heads */
static void fields_check(struct bucket *b, struct inc *i, const struct head *h, slice key)
{
    for (uint32_t k = 0; k < schema_count(h->schema); k++) {
        const struct field *f = schema_field(h->schema, k);
        size_t at = 0;
        while (at < i->fields_count && i->fields[at].id != f->id && !slice_eq(i->fields[at].name, f->name))
            at++;
        if (at == i->fields_count)
            *ARRAY_PUSH(i->fields, i->fields_count, i->fields_cap) = (struct field_model){f->id, keep(b, f->name)};
        CHECK(b, i->fields[at].id == f->id && slice_eq(i->fields[at].name, f->name), "I11",
              SLICE_FMT ": field %u is " SLICE_FMT ", was %u " SLICE_FMT, SLICE_ARG(key), f->id, SLICE_ARG(f->name),
              i->fields[at].id, SLICE_ARG(i->fields[at].name));
    }
    CHECK(b, schema_count(h->schema) >= i->fields_count, "I11", SLICE_FMT ": fields are gone", SLICE_ARG(key));
}

struct head_files {
    struct head_model named; /* retained by this head: data files, manifests, filters */
    struct file **data;
    size_t count, cap;
    uint64_t rows;
};

static struct file *head_named(struct bucket *b, struct inc *i, slice path, struct head_files *out, slice key)
{
    struct file *f = file_in(b, i, path);
    bool there = f && present(b, f);

    CHECK(b, there || i->fate == FATE_IS_DEAD, "I6", SLICE_FMT " names " SLICE_FMT ", which is not there",
          SLICE_ARG(key), SLICE_ARG(path));
    if (f)
        *ARRAY_PUSH(out->named.files, out->named.count, out->named.cap) = f;
    return f;
}

static void head_file(struct bucket *b, struct inc *i, slice path, bool direct, struct head_files *out, slice key)
{
    struct file *f = head_named(b, i, path, out, key);

    if (!f)
        return;
    if (f->names_count && direct) {
        for (size_t k = 0; k < f->names_count; k++)
            head_file(b, i, f->names[k], false, out, key);
        return;
    }
    *ARRAY_PUSH(out->data, out->count, out->cap) = f;
    out->rows += f->rows_count;
}

/* Marks the rows of files with `mark`; a row that has it already is there twice. */
static void rows_mark(struct bucket *b, struct file *const *files, size_t count, uint64_t mark, bool once, slice key)
{
    for (size_t k = 0; k < count; k++)
        for (size_t n = 0; n < files[k]->rows_count; n++) {
            struct row_model *r = row_model(b, files[k]->rows[n].id);
            CHECK(b, !once || r->mark != mark, "I3", SLICE_FMT ": row %" PRIu64 " is there twice, also in " SLICE_FMT,
                  SLICE_ARG(key), files[k]->rows[n].id, SLICE_ARG(files[k]->path));
            r->mark = mark;
        }
}

static bool may_expire(const struct bucket *b, const struct inc *i, const struct file *f)
{
    ASSERT(i->tail);
    int64_t days = i->tail->config.retention_days, newest = INT64_MIN;

    for (size_t n = 0; n < f->rows_count; n++)
        newest = MAX(newest, f->rows[n].time_us);
    return days && newest < (b->clock_max_us / DAY_US - days) * DAY_US;
}

static bool in_list(struct file *const *files, size_t count, const struct file *f)
{
    for (size_t k = 0; k < count; k++)
        if (files[k] == f)
            return true;
    return false;
}

/* What a head holds against the one before it: new rows come from records it says it folded, all of them; rows that left have expired. */
static void head_diff(struct bucket *b, struct inc *i, const struct head *h, const struct head_files *now, slice key)
{
    uint64_t had = ++b->marks, has = ++b->marks;

    for (size_t k = 0; k < i->tail_files_count; k++)
        i->tail_files[k]->mark = had;
    rows_mark(b, i->tail_files, i->tail_files_count, had, false, key);
    for (size_t k = 0; k < now->count; k++) {
        struct file *f = now->data[k];
        struct file_name name;
        if (f->mark == had || !file_name_parse(f->path, &name) || !name.lane.len)
            continue;
        CHECK(b, f->lane && slice_eq(f->lane->name, name.lane), "I3",
              SLICE_FMT " names " SLICE_FMT ", which no record on a chain names", SLICE_ARG(key), SLICE_ARG(f->path));
        CHECK(b, !f->lane || !folded_into(i, f->lane->name, f->slot), "I3", SLICE_FMT " folds " SLICE_FMT " again",
              SLICE_ARG(key), SLICE_ARG(f->path));
        rows_mark(b, &now->data[k], 1, had, true, key);
    }
    for (size_t k = 0; k < now->count; k++)
        for (size_t n = 0; n < now->data[k]->rows_count; n++) {
            uint64_t id = now->data[k]->rows[n].id;
            CHECK(b, row_model(b, id)->mark == had || row_model(b, id)->mark == has, "I3",
                  SLICE_FMT ": row %" PRIu64 " comes from nowhere", SLICE_ARG(key), id);
        }
    rows_mark(b, now->data, now->count, has, true, key);
    for (size_t k = 0; k < i->tail_files_count; k++)
        for (size_t n = 0; n < i->tail_files[k]->rows_count; n++) {
            struct row_model *r = row_model(b, i->tail_files[k]->rows[n].id);
            bool expired = r->mark != has;
            CHECK(b, !expired || may_expire(b, i, i->tail_files[k]), "I4",
                  SLICE_FMT ": row %" PRIu64 " of " SLICE_FMT " is lost", SLICE_ARG(key), i->tail_files[k]->rows[n].id,
                  SLICE_ARG(i->tail_files[k]->path));
            r->expired |= expired;
        }
    (void)h;
}

static void wm_check(struct bucket *b, struct inc *i, const struct head *h, const struct head_files *now, slice key)
{
    for (size_t k = 0; i->tail && k < i->tail->wm_count; k++) {
        uint64_t wm = head_wm_get(h, i->tail->wm[k].lane);
        CHECK(b, wm != SLOT_NONE && wm >= i->tail->wm[k].slot, "I5",
              SLICE_FMT ": the watermark of " SLICE_FMT " went back", SLICE_ARG(key), SLICE_ARG(i->tail->wm[k].lane));
    }
    for (size_t k = 0; k < h->wm_count; k++) {
        struct lane_model *l = lane_model(b, h->wm[k].lane);
        uint64_t from = inc_wm(i, l->name) + 1; /* SLOT_NONE + 1 is 0 */
        CHECK(b, l->chain.tail != SLOT_NONE && h->wm[k].slot <= l->chain.tail, "I5",
              SLICE_FMT ": lane " SLICE_FMT " ends before %" PRIu64, SLICE_ARG(key), SLICE_ARG(l->name), h->wm[k].slot);
        for (uint64_t s = from; s <= h->wm[k].slot && s < l->count; s++)
            for (size_t n = 0; n < l->records[s].count; n++)
                CHECK(b,
                      i->fate == FATE_IS_DEAD || l->records[s].files[n]->inc != i ||
                          in_list(now->data, now->count, l->records[s].files[n]),
                      "I4", SLICE_FMT " covers " SLICE_FMT "/%" PRIu64 " without " SLICE_FMT, SLICE_ARG(key),
                      SLICE_ARG(l->name), s, SLICE_ARG(l->records[s].files[n]->path));
    }
}

static void head_becomes_tail(struct inc *i, struct head *h, struct head_files *files)
{
    for (size_t k = 0; k < files->named.count; k++)
        files->named.files[k]->refs++;
    files->named.slot = h->slot;
    *ARRAY_PUSH(i->retained, i->retained_count, i->retained_cap) = files->named;
    head_unref(i->tail);
    i->tail = h;
    free(i->tail_files);
    i->tail_files = files->data;
    i->tail_files_count = files->count;
    i->tail_files_cap = files->cap;
}

static void on_head(struct bucket *b, struct inc *i, const struct slot *s, slice key)
{
    struct head_files files = {0};
    struct head *h = NULL;
    struct err err;
    bool was_dead = i->tail && i->tail->dead;

    CHECK(b, i->fate != FATE_NEVER, "I12", SLICE_FMT " stands before the LIVE slot of its name", SLICE_ARG(key));
    if (!chain_add(b, &i->heads, s, key))
        return;
    CHECK(b, !was_dead, "I2", SLICE_FMT " follows a DEAD head", SLICE_ARG(key));
    enum err_code rc = head_decode(s, NULL, &h, &err);
    CHECK(b, rc == ERR_OK, "I4", SLICE_FMT ": %s", SLICE_ARG(key), err.msg);
    if (rc != ERR_OK)
        return;
    CHECK(b, !h->dead || i->fate == FATE_IS_DEAD, "I4", SLICE_FMT " is DEAD while its name is LIVE", SLICE_ARG(key));
    if (!h->dead) {
        for (size_t k = 0; k < h->files.count; k++)
            head_file(b, i, h->files.items[k]->path, true, &files, key);
        for (size_t k = 0; k < h->manifests_count; k++)
            head_file(b, i, h->manifests[k]->path, true, &files, key);
        for (size_t k = 0; k < h->filters_count; k++)
            (void)head_named(b, i, h->filters[k]->path, &files, key);
        fields_check(b, i, h, key);
        wm_check(b, i, h, &files, key);
        head_diff(b, i, h, &files, key);
        CHECK(b, h->lifetime.rows - h->deleted.rows == files.rows, "I4",
              SLICE_FMT " counts %" PRIu64 " rows less %" PRIu64 ", holds %" PRIu64, SLICE_ARG(key), h->lifetime.rows,
              h->deleted.rows, files.rows);
    }
    head_becomes_tail(i, h, &files);
}

static void on_head_removed(struct bucket *b, struct inc *i, uint64_t slot, slice key)
{
    CHECK(b, slot != i->heads.tail || i->fate == FATE_IS_DEAD, "I7", "tail " SLICE_FMT " is deleted", SLICE_ARG(key));
    CHECK(b, i->fate != FATE_NEVER, "I6", SLICE_FMT " of an incarnation without a name is deleted", SLICE_ARG(key));
    for (size_t k = 0; k < i->retained_count; k++) {
        struct head_model *h = &i->retained[k];
        if (h->slot != slot)
            continue;
        for (size_t n = 0; n < h->count; n++)
            h->files[n]->refs--;
        free(h->files);
        *h = i->retained[--i->retained_count];
        return;
    }
}

/* ---- files */
static void manifest_decode(struct bucket *b, struct file *f, slice bytes)
{
    struct slm m;
    struct err err;
    uint8_t *aligned = arena_alloc(&b->arena, bytes.len);

    memcpy(aligned, bytes.ptr, bytes.len);
    enum err_code rc = slm_decode(slice_of(aligned, bytes.len), &m, &err);
    CHECK(b, rc == ERR_OK, "I4", SLICE_FMT ": %s", SLICE_ARG(f->key), err.msg);
    if (rc != ERR_OK)
        return;
    f->names = arena_alloc(&b->arena, (m.count + 1) * sizeof(slice));
    for (uint32_t k = 0; k < m.count; k++) {
        _cleanup_(buf_done) struct buf path = BUF_INIT;
        slm_path(&m, k, &path);
        f->names[f->names_count++] = keep(b, buf_view(&path));
    }
}

/* F1 of filter.h. */
static void filters_check(struct bucket *b, struct inc *i, slice key, slice bytes)
{
    uint8_t *aligned = arena_alloc(&b->arena, bytes.len);
    struct slf s;
    struct err err;

    memcpy(aligned, bytes.ptr, bytes.len);
    slice pack = slice_of(aligned, bytes.len);
    enum err_code rc = slf_check(pack, &err);
    if (rc == ERR_OK)
        rc = slf_decode(slice_head(pack, le32_get(aligned + 8)), &b->arena, &s, &err);
    CHECK(b, rc == ERR_OK, "F1", SLICE_FMT ": %s", SLICE_ARG(key), err.msg);
    for (uint32_t g = 0; rc == ERR_OK && g < s.groups_count; g++)
        for (uint32_t m = 0; m < s.groups[g].members; m++) {
            const struct file *f = file_in(b, i, slf_path(&s, s.groups[g].files[m]));
            for (size_t n = 0; f && n < f->rows_count; n++) {
                uint64_t hash = rows_hash(&f->rows[n]), offset, len;
                slf_row_at(&s.groups[g], hash, &offset, &len);
                CHECK(b, slf_row_has(slice_of(aligned + offset, len), m, hash), "F1",
                      SLICE_FMT " says that row %" PRIu64 " is not in " SLICE_FMT, SLICE_ARG(key), f->rows[n].id,
                      SLICE_ARG(f->path));
            }
        }
}

static void on_file(struct bucket *b, struct inc *i, slice path, const struct sim_object *o)
{
    struct file *f = map_get(&b->files, o->key);

    CHECK(b, i->fate != FATE_NEVER, "I12", SLICE_FMT " stands before the LIVE slot of its name", SLICE_ARG(o->key));
    CHECK(b, i->fate != FATE_IS_LIVE || i->heads.tail != SLOT_NONE, "bare", SLICE_FMT " stands where no head does",
          SLICE_ARG(o->key));
    if (f)
        return; /* an upload that came twice, and once more after its removal: the same bytes, since names hold a nonce */
    f = arena_zalloc(&b->arena, sizeof(*f));
    f->key = keep(b, o->key);
    f->path = slice_from(f->key, f->key.len - path.len);
    f->inc = i;
    (void)map_put(&b->files, f->key, f);
    if (slice_starts(path, slice_lit("_meta/"))) {
        if (slice_ends(path, slice_lit(".slf")))
            filters_check(b, i, f->key, o->bytes);
        else
            manifest_decode(b, f, o->bytes);
        return;
    }
    CHECK(b, rows_decode(o->bytes, &f->rows, &f->rows_count), "I9", SLICE_FMT " is no file of rows", SLICE_ARG(o->key));
}

static void on_file_removed(struct bucket *b, struct inc *i, const struct sim_object *o)
{
    const struct file *f = map_get(&b->files, o->key);

    if (i->fate == FATE_IS_DEAD)
        return;
    CHECK(b, i->fate != FATE_NEVER, "I6", SLICE_FMT " of an incarnation without a name is deleted", SLICE_ARG(o->key));
    if (!f)
        return;
    CHECK(b, f->refs == 0, "I6", SLICE_FMT " is deleted, %u retained heads name it", SLICE_ARG(o->key), f->refs);
    CHECK(b, !f->lane || folded_into(i, f->lane->name, f->slot), "I6",
          SLICE_FMT " is deleted, its record is not folded", SLICE_ARG(o->key));
}

/* ---- every create and remove */
struct parts { /* of a key, between its slashes; rest: after the third slash at most */
    slice part[4];
    unsigned count;
};

static struct parts parts_of(slice key)
{
    struct parts p = {0};

    while (p.count < 3) {
        const uint8_t *slash = memchr(key.ptr, '/', key.len);
        if (!slash)
            break;
        p.part[p.count++] = slice_head(key, (size_t)(slash - key.ptr));
        key = slice_from(key, (size_t)(slash + 1 - key.ptr));
    }
    p.part[p.count++] = key;
    return p;
}

static void on_cluster(struct bucket *b, const struct slot *s)
{
    uint64_t shards = 0;

    CHECK(b, json_get_u64(s->body, "shards", &shards) && shards && !b->shards_count, "I1", "two cluster slots");
    b->shards_count = (uint32_t)shards;
    b->shards = arena_zalloc(&b->arena, shards * sizeof(*b->shards));
    for (uint64_t x = 0; x < shards; x++)
        b->shards[x].chain.tail = SLOT_NONE;
}

static void with_slot(struct bucket *b, const struct parts *p, enum slot_type type, uint64_t number,
                      const struct sim_object *o)
{
    _cleanup_(slot_done) struct slot s = {0};
    struct err err;
    uint64_t shard = 0;

    enum err_code rc = slot_decode(o->bytes, type, number, &s, &err);
    CHECK(b, rc == ERR_OK, "I8", SLICE_FMT ": %s", SLICE_ARG(o->key), err.msg);
    if (rc != ERR_OK)
        return;
    switch (type) {
    case SLOT_CLUSTER: on_cluster(b, &s); break;
    case SLOT_NAME: on_name(b, p->part[2], &s, o->key); break;
    case SLOT_LANE: on_lane(b, p->part[2], &s, o->key); break;
    case SLOT_CHECKPOINT:
        if (slice_u64(p->part[2], &shard))
            on_checkpoint(b, (uint32_t)shard, &s, o->key);
        break;
    case SLOT_HEAD: on_head(b, inc_get(b, p->part[1], p->part[0]), &s, o->key); break;
    case SLOT_LEASE:
    case SLOT_POINT: break;
    }
}

static bool slot_of_key(const struct parts *p, enum slot_type *type, uint64_t *number)
{
    static const struct {
        const char *dir;
        enum slot_type type;
    } dirs[] = {{"cluster", SLOT_CLUSTER}, {"names", SLOT_NAME}, {"lanes", SLOT_LANE}, {"shards", SLOT_CHECKPOINT}};

    if (slice_eq(p->part[0], slice_lit(".sluice"))) {
        for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
            if (p->count >= 2 && slice_eq(p->part[1], slice_str(dirs[i].dir))) {
                *type = dirs[i].type;
                return slot_number(p->part[p->count - 1], number);
            }
        return false;
    }
    *type = SLOT_HEAD;
    return p->count == 4 && slice_eq(p->part[2], slice_lit("_head")) && slot_number(p->part[3], number);
}

static void on_removed(struct bucket *b, const struct parts *p, enum slot_type type, uint64_t number,
                       const struct sim_object *o)
{
    uint64_t shard = 0;

    switch (type) {
    case SLOT_CLUSTER:
    case SLOT_NAME: CHECK(b, false, "I7", SLICE_FMT " is deleted", SLICE_ARG(o->key)); break;
    case SLOT_LANE: on_lane_removed(b, p->part[2], number, o->key); break;
    case SLOT_CHECKPOINT:
        if (slice_u64(p->part[2], &shard) && shard < b->shards_count)
            CHECK(b, number != b->shards[shard].chain.tail, "I7", "tail " SLICE_FMT " is deleted", SLICE_ARG(o->key));
        break;
    case SLOT_HEAD: on_head_removed(b, inc_get(b, p->part[1], p->part[0]), number, o->key); break;
    case SLOT_LEASE:
    case SLOT_POINT: break;
    }
}

static void on_event(void *arg, enum sim_store_event e, const struct sim_object *o)
{
    struct bucket *b = arg;
    struct parts p = parts_of(o->key);
    enum slot_type type;
    uint64_t number;

    if (world_failed(b->world, NULL))
        return;
    bucket_clock(b);
    if (slot_of_key(&p, &type, &number)) {
        if (e == SIM_CREATED)
            with_slot(b, &p, type, number, o);
        else
            on_removed(b, &p, type, number, o);
    } else if (p.count == 4 && !slice_eq(p.part[0], slice_lit(".sluice"))) {
        struct inc *i = inc_get(b, p.part[1], p.part[0]);
        if (e == SIM_CREATED)
            on_file(b, i, slice_from(o->key, p.part[0].len + p.part[1].len + 2), o);
        else
            on_file_removed(b, i, o);
    } else {
        CHECK(b, slice_starts(o->key, slice_lit(".sluice/nodes/")), "I12", SLICE_FMT " is not of the layout",
              SLICE_ARG(o->key));
    }
}

struct bucket *bucket_new(struct world *w, struct sim_store *st)
{
    struct bucket *b = mem_zalloc(sizeof(*b));

    b->world = w;
    b->store = st;
    bucket_clock(b);
    sim_store_watch(st, on_event, b);
    return b;
}

/* ---- answers */
bool bucket_name_live(const struct bucket *b, slice name, slice sid)
{
    const struct inc *i = map_get(&b->incs, sid);
    _cleanup_(buf_done) struct buf enc = BUF_INIT;

    name_encode(name, &enc);
    return i && i->fate == FATE_IS_LIVE && slice_eq(i->name, buf_view(&enc));
}

bool bucket_name_always_live(const struct bucket *b, slice name, int64_t since_us)
{
    _cleanup_(buf_done) struct buf enc = BUF_INIT;

    name_encode(name, &enc);
    const struct name_model *n = map_get(&b->names, buf_view(&enc));
    return n && n->live && n->live_us <= since_us;
}

bool bucket_name_known(const struct bucket *b, slice sid)
{
    const struct inc *i = map_get(&b->incs, sid);
    return i && i->fate != FATE_NEVER;
}

bool bucket_segment_committed(const struct bucket *b, slice wal_id, uint64_t segment)
{
    const struct wal_model *w = map_get(&b->wals, wal_id);
    return w && segment <= w->committed;
}

bool bucket_file_committed(const struct bucket *b, slice key)
{
    const struct file *f = map_get(&b->files, key);
    return f && (f->lane || f->inc->fate == FATE_IS_DEAD);
}

bool bucket_head_retained(const struct bucket *b, slice sid, uint64_t slot)
{
    const struct inc *i = map_get(&b->incs, sid);

    for (size_t k = 0; i && k < i->retained_count; k++)
        if (i->retained[k].slot == slot)
            return i->fate == FATE_IS_LIVE;
    return false;
}

bool bucket_version_retained(const struct bucket *b, struct stream_version *v)
{
    return bucket_head_retained(b, sid_slice(stream_version_sid(v)), v->head->slot);
}

bool bucket_row_expired(const struct bucket *b, uint64_t row)
{
    return row < b->rows_count && b->rows[row].expired;
}

struct sim_row *bucket_rows(const struct bucket *b, slice sid, size_t *count)
{
    const struct inc *i = map_get(&b->incs, sid);
    struct sim_row *out = NULL;
    size_t cap = 0;

    *count = 0;
    for (size_t k = 0; i && k < i->tail_files_count; k++)
        for (size_t n = 0; n < i->tail_files[k]->rows_count; n++)
            *ARRAY_PUSH(out, *count, cap) = i->tail_files[k]->rows[n];
    return out;
}

void bucket_rows_begin(struct bucket *b)
{
    b->sets++;
}

void bucket_row_seen(struct bucket *b, uint64_t row, const char *invariant, const char *where)
{
    struct row_model *r = row_model(b, row);

    CHECK(b, r->set != b->sets, invariant, "%s shows row %" PRIu64 " twice", where, row);
    r->set = b->sets;
}

bool bucket_row_in_set(const struct bucket *b, uint64_t row)
{
    return row < b->rows_count && b->rows[row].set == b->sets;
}

void bucket_lane_seen(const struct bucket *b, slice sid, slice lane, uint64_t upto, const char *where)
{
    const struct lane_model *l = map_get(&b->lanes, lane);
    const struct inc *inc = map_get(&b->incs, sid);

    for (uint64_t k = 0; l && inc && k < l->count && k <= upto; k++)
        for (size_t i = 0; i < l->records[k].count; i++) {
            const struct file *f = l->records[k].files[i];
            for (size_t n = 0; f->inc == inc && n < f->rows_count; n++)
                CHECK(b, bucket_row_in_set(b, f->rows[n].id) || bucket_row_expired(b, f->rows[n].id), "I10",
                      "%s does not show row %" PRIu64 " of record %" PRIu64 " of lane " SLICE_FMT
                      ", which its node has read",
                      where, f->rows[n].id, k, SLICE_ARG(lane));
        }
}

void bucket_check_rest(struct bucket *b, bool heads_too)
{
    for (size_t k = 0; k < sim_store_count(b->store); k++) {
        const struct sim_object *o = sim_store_at(b->store, k);
        struct parts p = parts_of(o->key);
        if (p.count != 4 || slice_eq(p.part[0], slice_lit(".sluice")))
            continue;
        const struct inc *i = map_get(&b->incs, p.part[1]);
        const struct file *f = map_get(&b->files, o->key);
        bool head = slice_eq(p.part[2], slice_lit("_head"));
        CHECK(b, i && i->fate != FATE_NEVER, "I12", SLICE_FMT " has no name slot", SLICE_ARG(o->key));
        if (!i)
            return; /* the world has ended */
        CHECK(b, i->fate == FATE_IS_LIVE || (head && !heads_too), "I12",
              SLICE_FMT " of a dead incarnation is still there", SLICE_ARG(o->key));
        CHECK(b, i->fate != FATE_IS_LIVE || head || (f && f->refs), "I12", SLICE_FMT " is garbage that nobody removed",
              SLICE_ARG(o->key));
    }
}
