/* stream.c: the stage of one stream incarnation: its rows in memory by WAL segment, its schema, its followers. */
#include "base/hash.h"
#include "base/log.h"
#include "base/mutant.h"
#include "stage/lake_int.h"

/* ---- life */

/* Different names may share a lock; a create takes tens of milliseconds of syncs, and many are made at once after a deployment. */
struct os_mutex *lake_name_mu(struct lake *lake, slice name)
{
    return lake->name_mu[hash64(name, 0) % NAME_LOCKS];
}

static void group_done(struct stage_group *g)
{
    for (size_t i = 0; i < g->count; i++)
        batch_unref(g->blocks[i]);
    free(g->blocks);
}

struct stage_stream *stage_stream_ref(struct stage_stream *s)
{
    atomic_fetch_add(&s->refs, 1);
    return s;
}

void stage_stream_unref(struct stage_stream *s)
{
    if (!s || atomic_fetch_sub(&s->refs, 1) != 1)
        return;
    for (size_t i = 0; i < s->groups_count; i++)
        group_done(&s->groups[i]);
    free(s->groups);
    s->lake->os->ops->mutex_free(s->lake->os, s->mu);
    s->lake->os->ops->mutex_free(s->lake->os, s->ingest_mu);
    schema_unref(s->schema);
    free(s->partition);
    free(s->name);
    free(s);
}

static void pin_config(void *arg, struct stream_version *v)
{
    struct stage_stream *s = arg;
    slice partition = stream_version_config(v)->custom_partition;

    os_lock(s->lake->os, s->mu);
    if (!slice_eq(slice_str(s->partition), partition)) {
        free(s->partition);
        s->partition = mem_str(partition);
    }
    os_unlock(s->lake->os, s->mu);
}

void stage_take_config(struct stage_stream *s)
{
    _cleanup_(stream_version_unrefp) struct stream_version *v = NULL;
    enum err_code rc = catalog_snapshot(s->lake->cat, &s->sid, pin_config, s, &v, NULL);
    (void)rc; /* deleted: it takes no more rows */
}

struct stage_stream *stage_new(struct lake *lake, struct stream_version *v)
{
    struct stage_stream *s = mem_zalloc(sizeof(*s));
    struct wal_stat stat;

    atomic_init(&s->refs, 1);
    s->lake = lake;
    s->sid = *stream_version_sid(v);
    s->name = mem_str(stream_version_name(v));
    s->ingest_mu = lake->os->ops->mutex_new(lake->os);
    s->mu = lake->os->ops->mutex_new(lake->os);
    s->schema = schema_ref(stream_version_schema(v));
    wal_stat(lake->wal, &stat);
    s->next_row_id = stat.segment << ROW_ID_SEGMENT_SHIFT; /* whatever it has in files came from earlier segments */
    s->internal = stream_version_config(v)->internal;
    s->static_schema = stream_version_config(v)->static_schema;
    s->partition = mem_str(stream_version_config(v)->custom_partition);
    return s;
}

/* The table's incarnation with this sid, made from `v` if there is none. NULL: one was forgotten since lake.forgotten was read, so
 * `v` may be dead. */
static struct stage_stream *stage_intern(struct lake *lake, struct stream_version *v, uint64_t forgotten)
{
    const struct sid *sid = stream_version_sid(v);
    struct stage_stream *made = stage_new(lake, v), *s;

    os_lock(lake->os, lake->mu);
    s = map_get(&lake->by_sid, slice_of(sid->text, 26));
    if (!s && lake->forgotten != forgotten) {
        os_unlock(lake->os, lake->mu);
        stage_stream_unref(made);
        return NULL;
    }
    if (!s) {
        s = move_ptr(made); /* its first reference is the table's */
        (void)map_put(&lake->by_sid, slice_of(s->sid.text, 26), s);
    }
    if (!s->dead)
        (void)map_put(&lake->by_name, slice_str(s->name), s);
    stage_stream_ref(s);
    os_unlock(lake->os, lake->mu);
    stage_stream_unref(made);
    return s;
}

struct stage_stream *stage_lookup(struct lake *lake, slice name, uint64_t *forgotten)
{
    os_lock(lake->os, lake->mu);
    struct stage_stream *s = map_get(&lake->by_name, name);
    if (forgotten)
        *forgotten = lake->forgotten;
    if (s)
        stage_stream_ref(s);
    os_unlock(lake->os, lake->mu);
    return s;
}

bool lake_knows(struct lake *lake, slice stream)
{
    os_lock(lake->os, lake->mu);
    bool known = map_get(&lake->by_name, stream) != NULL;
    os_unlock(lake->os, lake->mu);
    return known;
}

enum err_code stage_find(struct lake *lake, slice name, struct stage_stream **out, struct err *err)
{
    struct stage_stream *s;
    uint64_t forgotten;

    while (!(s = stage_lookup(lake, name, &forgotten))) {
        _cleanup_(stream_version_unrefp) struct stream_version *v = NULL;
        TRY(catalog_resolve(lake->cat, name, &v, err));
        s = stage_intern(lake, v, forgotten);
        if (s)
            break;
    }
    *out = s;
    return ERR_OK;
}

enum err_code stage_find_sid(struct lake *lake, slice name, const struct sid *sid, struct stage_stream **out,
                             struct err *err)
{
    if (MUTANT(23))
        return stage_find(lake, name, out, err);
    for (;;) {
        _cleanup_(stream_version_unrefp) struct stream_version *v = NULL;
        uint64_t forgotten;
        struct stage_stream *s = stage_lookup(lake, name, &forgotten);
        if (!s || memcmp(s->sid.text, sid->text, 26) != 0) {
            stage_stream_unref(s);
            enum err_code rc = catalog_by_sid(lake->cat, sid, &v, err);
            if (rc == ERR_NOT_FOUND && catalog_check(lake->cat, name, err) == ERR_CORRUPT)
                rc = ERR_CORRUPT; /* whether this incarnation lives cannot be told */
            TRY(rc);
            s = stage_intern(lake, v, forgotten);
        }
        if (s) {
            *out = s;
            return ERR_OK;
        }
    }
}

enum err_code stage_find_heir(struct lake *lake, const struct record *r, struct stage_stream **out, struct err *err)
{
    if (!r->stale || MUTANT(30))
        return err_set(err, ERR_NOT_FOUND, "stream %s was deleted", r->sid.text);
    return stage_find(lake, r->name, out, err);
}

bool stage_has_stale(struct stage_stream *s)
{
    os_lock(s->lake->os, s->lake->mu);
    uint64_t committed = s->lake->committed;
    os_unlock(s->lake->os, s->lake->mu);
    os_lock(s->lake->os, s->mu);
    bool stale = s->stale_segment > committed;
    os_unlock(s->lake->os, s->mu);
    return stale;
}

void stage_forget(struct lake *lake, struct stage_stream *s)
{
    struct batch_list dropped = {0};

    os_lock(lake->os, s->mu); /* both: who finds it alive under one of them may rely on it while it holds that one */
    os_lock(lake->os, lake->mu);
    if (map_get(&lake->by_name, slice_str(s->name)) == s)
        (void)map_del(&lake->by_name, slice_str(s->name));
    lake->forgotten++;
    s->dead = true;
    os_unlock(lake->os, lake->mu);
    os_unlock(lake->os, s->mu);
    stage_drop_groups(s, UINT64_MAX, &dropped);
    batch_list_done(&dropped);
    stage_wake_tails(s);
}

struct schema *stage_schema(struct stage_stream *s)
{
    os_lock(s->lake->os, s->mu);
    struct schema *schema = schema_ref(s->schema);
    os_unlock(s->lake->os, s->mu);
    return schema;
}

struct schema *stage_adopt_ids(const struct schema *s, const struct schema *head)
{
    uint32_t n = schema_count(s);
    _cleanup_(freep) uint32_t *ids = mem_zalloc(2 * n * sizeof(*ids));

    for (uint32_t i = 0; i < n; i++) {
        const struct field *mine = schema_field(s, i);
        uint32_t at = schema_find(head, mine->name);
        ids[i] = mine->id;
        ids[n + i] = mine->item_id;
        if (at != FIELD_NONE && type_eq(schema_field(head, at)->type, mine->type)) {
            ids[i] = schema_field(head, at)->id;
            ids[n + i] = schema_field(head, at)->item_id;
        }
    }
    return schema_with_ids(s, ids, ids + n);
}

/* ---- rows */

static struct stage_group *group_for(struct stage_stream *s, uint64_t segment)
{
    size_t i = s->groups_count;

    while (i > 0 && s->groups[i - 1].segment > segment)
        i--;
    if (i > 0 && s->groups[i - 1].segment == segment)
        return &s->groups[i - 1];
    (void)ARRAY_PUSH(s->groups, s->groups_count, s->groups_cap);
    memmove(&s->groups[i + 1], &s->groups[i], (s->groups_count - 1 - i) * sizeof(*s->groups));
    s->groups[i] = (struct stage_group){.segment = segment, .tmin_us = INT64_MAX, .tmax_us = INT64_MIN};
    return &s->groups[i];
}

static void group_push(struct stage_group *g, struct batch *b, bool open)
{
    *ARRAY_PUSH(g->blocks, g->count, g->cap) = b;
    g->open = open ? b : NULL;
    g->bytes += b->bytes;
}

/* Twice the rows of the last one, but few where each is large: what a block has room for counts as staged. */
static struct batch *open_block(struct stage_group *g)
{
    uint32_t cap = OPEN_BLOCK_ROWS_MIN;

    if (g->open) {
        uint32_t most = (uint32_t)(OPEN_BLOCK_BYTES_MAX / (g->open->bytes / g->open->rows_cap + 1));
        cap = MIN(MIN(g->open->rows_cap * 2, OPEN_BLOCK_ROWS_MAX), MAX(most, OPEN_BLOCK_ROWS_MIN));
    }
    struct batch *b = batch_new(cap);
    b->arena.block_max = OPEN_BLOCK_TEXT_BYTES * (size_t)cap;
    group_push(g, b, true);
    return b;
}

/* Copies a small batch into the open block, so that one-row requests do not cost a block each. */
static void group_absorb(struct stage_group *g, struct batch *small)
{
    for (uint32_t row = 0, n; row < small->rows; row += n) {
        struct batch *open = g->open && g->open->rows < g->open->rows_cap ? g->open : open_block(g);
        size_t before = open->bytes;
        n = MIN(small->rows - row, open->rows_cap - open->rows);
        batch_append(open, small, row, n);
        g->bytes += open->bytes - before;
    }
    batch_unref(small);
}

static void group_times(struct stage_group *g, const struct batch *b)
{
    const struct column *c = batch_column(b, 0);
    const int64_t *t = c->values;

    for (uint32_t row = 0; row < b->rows; row++) {
        g->tmin_us = MIN(g->tmin_us, t[row]);
        g->tmax_us = MAX(g->tmax_us, t[row]);
    }
}

void stage_publish(struct stage_stream *s, uint64_t segment, struct batch *batch, uint64_t raw_bytes)
{
    struct lake *lake = s->lake;
    uint32_t rows = batch->rows;

    if (rows == 0) {
        batch_unref(batch);
        return;
    }
    os_lock(lake->os, s->mu);
    if (s->dead) {
        os_unlock(lake->os, s->mu);
        metric_add(lake->m_dropped, rows);
        batch_unref(batch);
        return;
    }
    struct stage_group *g = group_for(s, segment);
    size_t before = g->bytes;
    group_times(g, batch);
    g->rows += rows;
    g->raw_bytes += raw_bytes;
    if (rows <= SMALL_BATCH_ROWS && g->count > 0 && !batch_has_lists(batch))
        group_absorb(g, batch);
    else
        group_push(g, batch, false);
    size_t grown = g->bytes - before;
    os_unlock(lake->os, s->mu);
    metric_set(lake->m_stage_rows, (double)(atomic_fetch_add(&lake->stage_rows, rows) + rows));
    metric_set(lake->m_stage_bytes, (double)(atomic_fetch_add(&lake->stage_bytes, grown) + grown));
    os_lock(lake->os, lake->mu);
    if (lake->open_since_us == 0)
        lake->open_since_us = os_mono_us(lake->os);
    lake->open_bytes += grown;
    lake->open_keys += s->counted != lake->seals + 1; /* in however many segments: a flush writes one file */
    s->counted = lake->seals + 1;
    uint64_t most = lake_flush_bytes(lake);
    if (most > lake->opt.flush_bytes && 2 * most > atomic_load(&lake->room_bytes))
        atomic_store(&lake->room_bytes, 2 * most);
    bool ask = lake->open_bytes > most || lake->open_keys > SEGMENT_KEYS_MAX;
    if (ask && !lake->flush_asked) {
        lake->flush_asked = true;
        lake->os->ops->cond_broadcast(lake->os, lake->idle);
    }
    os_unlock(lake->os, lake->mu);
}

void stage_drop_groups(struct stage_stream *s, uint64_t segment, struct batch_list *out)
{
    uint64_t rows = 0, bytes = 0;
    size_t n = 0;

    os_lock(s->lake->os, s->mu);
    for (; n < s->groups_count && s->groups[n].segment <= segment; n++) {
        struct stage_group *g = &s->groups[n];
        for (size_t i = 0; i < g->count; i++)
            *ARRAY_PUSH(out->ptr, out->count, out->cap) = g->blocks[i];
        free(g->blocks);
        rows += g->rows;
        bytes += g->bytes;
    }
    s->groups_count -= n;
    if (n)
        memmove(s->groups, s->groups + n, s->groups_count * sizeof(*s->groups));
    os_unlock(s->lake->os, s->mu);
    metric_set(s->lake->m_stage_rows, (double)(atomic_fetch_sub(&s->lake->stage_rows, rows) - rows));
    metric_set(s->lake->m_stage_bytes, (double)(atomic_fetch_sub(&s->lake->stage_bytes, bytes) - bytes));
}

void batch_list_done(struct batch_list *l)
{
    for (size_t i = 0; i < l->count; i++)
        batch_unref(l->ptr[i]);
    free(l->ptr);
    *l = (struct batch_list){0};
}

/* ---- snapshot */

struct pin {
    struct stage_stream *stream;
    struct lake_snapshot *out;
};

/* Under the catalog's snapshot lock: what is staged now is in no file of this version. */
static void pin_stage(void *arg, struct stream_version *v)
{
    struct pin *p = arg;
    struct stage_stream *s = p->stream;
    struct lake_snapshot *out = p->out;
    size_t n = 0;

    (void)v;
    os_lock(s->lake->os, s->mu);
    out->schema = schema_ref(s->schema);
    for (size_t i = 0; i < s->groups_count; i++)
        n += s->groups[i].count;
    out->parts = n ? mem_alloc(n * sizeof(*out->parts)) : NULL;
    out->stage_tmin_us = INT64_MAX;
    out->stage_tmax_us = INT64_MIN;
    for (size_t i = s->groups_count; i-- > 0;) {
        struct stage_group *g = &s->groups[i];
        for (size_t k = g->count; k-- > 0;) {
            batch_view_take(g->blocks[k], g->blocks[k]->rows, &out->parts[out->parts_count++]);
            out->stage_rows += g->blocks[k]->rows;
        }
        out->stage_tmin_us = MIN(out->stage_tmin_us, g->tmin_us);
        out->stage_tmax_us = MAX(out->stage_tmax_us, g->tmax_us);
    }
    os_unlock(s->lake->os, s->mu);
}

/* Columns that the head has and no row of this node had yet: other nodes' rows brought them. Behind those of the stage, so that what a staged
 * row holds keeps its index. A name that has another type here waits for the flush that sees it. */
static struct schema *with_more(struct schema *mine, const struct schema *head)
{
    _cleanup_(freep) struct field *more = mem_alloc(schema_count(head) * sizeof(*more));
    uint32_t n = 0;

    for (uint32_t i = 0; i < schema_count(head); i++)
        if (schema_find(mine, schema_field(head, i)->name) == FIELD_NONE)
            more[n++] = *schema_field(head, i);
    return n ? schema_grow(mine, more, n) : schema_ref(mine);
}

/* A flush gives ids in the catalog first and in the stream a moment later: a snapshot between the two knows them already (L3). */
struct schema *stage_read_schema(struct schema *mine, const struct schema *head)
{
    uint32_t i = 0, n = schema_count(mine);

    while (i < n && schema_field(mine, i)->id)
        i++;
    if (i == n && schema_count(head) <= n) /* ids are the head's: so it has nothing else */
        return schema_ref(mine);
    _cleanup_(schema_unrefp) struct schema *with = stage_adopt_ids(mine, head);
    return with_more(with, head);
}

enum err_code lake_snapshot(struct lake *lake, slice name, struct lake_snapshot *out, struct err *err)
{
    _cleanup_(stage_stream_unrefp) struct stage_stream *s = NULL;
    struct lake_snapshot snap = {0};
    struct pin pin;

    TRY(stage_find(lake, name, &s, err));
    pin = (struct pin){s, &snap};
    TRY(catalog_snapshot(lake->cat, &s->sid, pin_stage, &pin, &snap.version, err));
    struct schema *mine = snap.schema;
    snap.schema = stage_read_schema(mine, stream_version_schema(snap.version));
    schema_unref(mine);
    *out = snap;
    return ERR_OK;
}

void lake_snapshot_done(struct lake_snapshot *s)
{
    for (size_t i = 0; i < s->parts_count; i++)
        batch_view_done(&s->parts[i]);
    free(s->parts);
    schema_unref(s->schema);
    stream_version_unref(s->version);
    *s = (struct lake_snapshot){0};
}

uint64_t lake_stage_rows(struct lake *lake)
{
    return atomic_load(&lake->stage_rows);
}
