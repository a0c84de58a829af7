/* lake.c: opening, closing and the calls on streams. */
#include "stage/lake.h"

#include <stdio.h>

#include "base/log.h"
#include "base/mutant.h"
#include "base/timetext.h"
#include "base/ulid.h"
#include "stage/lake_int.h"

#define DROP_TRIES_MAX 5

/* ---- open */

static enum err_code node_id_load(struct lake *lake, struct err *err)
{
    _cleanup_(freep) char *path = mem_fmt("%s/node_id", lake->opt.data_dir);
    _cleanup_(freep) uint8_t *bytes = NULL;
    struct ulid id;
    uint8_t random[10];
    size_t len;

    enum err_code rc = os_read_file(lake->os, path, 64, &bytes, &len, err);
    if (rc == ERR_OK && ulid_parse(slice_trim(slice_of(bytes, len)), &id)) {
        memcpy(lake->node_id, id.text, sizeof(lake->node_id));
        return ERR_OK;
    }
    if (rc == ERR_OK)
        return err_set(err, ERR_CORRUPT, "%s holds no ULID: restore it, or remove it to become a new node", path);
    if (rc != ERR_NOT_FOUND)
        return rc;
    lake->os->ops->random(lake->os, random, sizeof(random));
    id = ulid_make(os_wall_us(lake->os) / 1000, random);
    memcpy(lake->node_id, id.text, sizeof(lake->node_id));
    return os_write_file(lake->os, path, slice_of(id.text, ULID_LEN), err);
}

static enum err_code lock_data(struct lake *lake, struct err *err)
{
    _cleanup_(freep) char *path = mem_fmt("%s/lock", lake->opt.data_dir);

    TRY(os_mkdirs(lake->os, lake->opt.data_dir, err));
    TRY(lake->os->ops->open(lake->os, path, OS_READ | OS_WRITE | OS_CREATE, &lake->lock, err));
    if (lake->os->ops->lock_file(lake->os, lake->lock, err) != ERR_OK)
        return err_set(err, ERR_CONFLICT,
                       "another sluice server uses %s: stop it, or give this one a directory of its own",
                       lake->opt.data_dir);
    return ERR_OK;
}

enum err_code lake_save_identity(void *arg, const struct lane_identity *id, struct err *err)
{
    struct lake *lake = arg;
    struct wal_header h = *wal_header(lake->wal);

    memcpy(h.lane, id->lane, sizeof(h.lane));
    memcpy(h.session, id->session, sizeof(h.session));
    (void)snprintf(h.cluster, sizeof(h.cluster), "%s", catalog_cluster(lake->cat));
    if (strcmp(id->wal_id, h.wal_id) != 0)
        memcpy(h.commit_id, id->wal_id, sizeof(h.commit_id));
    h.base = id->base;
    return wal_set_header(lake->wal, &h, err);
}

static void metrics_register(struct lake *lake)
{
    lake->m_rows = metric_get(METRIC_COUNTER, "sluice_ingest_rows_total", "rows acknowledged since the start", NULL);
    lake->m_requests =
        metric_get(METRIC_COUNTER, "sluice_ingest_requests_total", "ingest requests since the start", NULL);
    lake->m_stage_rows =
        metric_get(METRIC_GAUGE, "sluice_stage_rows", "rows acknowledged but not in the catalog yet", NULL);
    lake->m_stage_bytes =
        metric_get(METRIC_GAUGE, "sluice_stage_bytes", "memory held by rows that are not in the catalog yet", NULL);
    lake->m_flushes = metric_get(METRIC_COUNTER, "sluice_flush_total", "flushes committed", NULL);
    lake->m_flush_errors =
        metric_get(METRIC_COUNTER, "sluice_flush_errors_total", "flushes that failed and are tried again", NULL);
    lake->m_flush_seconds = metric_get(METRIC_HISTOGRAM, "sluice_flush_seconds", "time of one flush", NULL);
    lake->m_files = metric_get(METRIC_COUNTER, "sluice_flush_files_total", "Parquet files written by flushes", NULL);
    lake->m_file_bytes =
        metric_get(METRIC_COUNTER, "sluice_flush_bytes_total", "Parquet bytes written by flushes", NULL);
    lake->m_replayed =
        metric_get(METRIC_COUNTER, "sluice_wal_replayed_rows_total", "rows replayed from the WAL at the start", NULL);
    lake->m_hot_missing = metric_get(METRIC_GAUGE, "sluice_hot_tier_missing_files",
                                     "files that belong into the hot tier and were not there at the last look", NULL);
    lake->m_hot_missing_bytes = metric_get(METRIC_GAUGE, "sluice_hot_tier_missing_bytes", "the same in bytes", NULL);
    lake->m_dropped =
        metric_get(METRIC_COUNTER, "sluice_dropped_rows_total", "rows of streams deleted while in flight", NULL);
}

static void defaults(struct lake_options *o)
{
    o->flatten_level = o->flatten_level ? o->flatten_level : 10;
    o->columns_max = o->columns_max ? o->columns_max : 1000;
    o->body_bytes_max = o->body_bytes_max ? o->body_bytes_max : 10485760;
    o->stage_bytes_max = o->stage_bytes_max ? o->stage_bytes_max : UINT64_C(1) << 30;
    o->flush_bytes = o->flush_bytes ? o->flush_bytes : 32u << 20;
    o->stage_bytes_slow =
        o->stage_bytes_slow ? o->stage_bytes_slow : 2 * o->flush_bytes; /* one part being written, one filling */
    o->flush_age_us = o->flush_age_us ? o->flush_age_us : 10000000;
    o->flush_idle_us = o->flush_idle_us ? o->flush_idle_us : 60000000;
    o->fold_interval_us = o->fold_interval_us ? o->fold_interval_us : 10000000;
    o->retention_interval_us = o->retention_interval_us ? o->retention_interval_us : 3600000000;
    o->gc_interval_us = o->gc_interval_us ? o->gc_interval_us : 600000000;
    o->compact_interval_us = o->compact_interval_us ? o->compact_interval_us : 60000000;
    o->index_interval_us = o->index_interval_us ? o->index_interval_us : 60000000;
    o->hot_files = o->hot_files ? o->hot_files : 4;
    o->hot_interval_us = o->hot_interval_us ? o->hot_interval_us : 1000000;
    o->fence_us = o->fence_us ? o->fence_us : 60000000;
    o->scrub_interval_us = o->scrub_interval_us ? o->scrub_interval_us : 3600000000;
}

/* catalog.h, CLONED DISKS: what was replayed goes out under the old wal id, before anything new is taken under the next. */
static enum err_code recover_clone(struct lake *lake, struct err *err)
{
    struct wal_stat stat;

    wal_stat(lake->wal, &stat);
    log_warn("stage", "another process has opened lane of this WAL since it was used here: the disk was copied, or a "
                      "start was interrupted. "
                      "What it holds is committed first");
    TRY(flush_segments(lake, stat.segment - 1, err));
    TRY(catalog_session_fork(lake->cat, stat.segment - 1, err));
    lake->committed = stat.segment - 1;
    return ERR_OK;
}

/* Rows that were committed there, or not, would come into another catalog. */
static enum err_code check_cluster(struct lake *lake, struct err *err)
{
    const char *mine = wal_header(lake->wal)->cluster, *id = catalog_cluster(lake->cat);

    if (!mine[0] || strcmp(mine, id) == 0)
        return ERR_OK;
    return err_set(
        err, ERR_INVALID,
        "the WAL in %s belongs to another store (id %s, this one is %s), and may hold rows that are not there "
        "yet: start with that store, or give this one a data directory of its own",
        lake->opt.wal_dir, mine, id);
}

static enum err_code recover(struct lake *lake, struct err *err)
{
    struct lane_identity id = {0};
    uint64_t cut = 0;
    const struct wal_header *h = wal_header(lake->wal);

    TRY(check_cluster(lake, err));
    memcpy(id.wal_id, h->commit_id[0] ? h->commit_id : h->wal_id, sizeof(id.wal_id));
    if (!h->lane[0]) { /* the first lane: a copy of this directory from before that has the same wal id */
        uint8_t random[16];
        lake->os->ops->random(lake->os, random, sizeof(random));
        for (size_t i = 0; i < sizeof(random); i++)
            (void)snprintf(id.wal_id + 2 * i, 3, "%02x", random[i]);
    } else { /* a disk that does not take it is found out before the OPEN: each failed start would leave one, for all to read */
        TRY(wal_set_header(lake->wal, h, err));
    }
    id.base = h->base;
    TRY(wal_last_segment(lake->wal, &id.upto, err));
    memcpy(id.lane, h->lane, sizeof(id.lane));
    memcpy(id.session, h->session, sizeof(id.session));
    TRY(catalog_session_open(lake->cat, &id, lake_save_identity, lake, &lake->committed, err));
    int64_t start = os_mono_us(lake->os);
    TRY(park_open(lake, err));
    TRY(wal_start(lake->wal, MUTANT(21) ? 0 : lake->committed, lake_replay_record, lake, &cut, err));
    lake->replay_at = (struct wal_pos){0};
    if (id.cloned)
        TRY(recover_clone(lake, err));
    lake->flush_asked |= lake->park.count > 0; /* until then they are nowhere but in the WAL */
    lake_unpark(lake);
    double rows = metric_value(lake->m_replayed);
    if (rows > 0 || cut)
        log_info("stage", "recovered %.0f rows from the WAL in %lld ms; %llu bytes of an unfinished write were cut",
                 rows, (long long)((os_mono_us(lake->os) - start) / 1000), (unsigned long long)cut);
    if (cut)
        lake_event(lake, "wal_tail_cut", (slice){0}, 0, "%llu bytes of an unacknowledged write cut",
                   (unsigned long long)cut);
    return ERR_OK;
}

static void mark_out(struct lake *lake, slice stream, bool out)
{
    os_lock(lake->os, lake->mu);
    struct stage_stream *s = map_get(&lake->by_name, stream);
    if (s)
        atomic_store(&s->out, out);
    os_unlock(lake->os, lake->mu);
}

static void on_damage(void *arg, slice stream, enum catalog_damage kind, const char *why)
{
    struct lake *lake = arg;

    switch (kind) {
    case DAMAGE_STREAM:
        log_error("catalog", "stream " SLICE_FMT " is out of service until this object is put back: %s",
                  SLICE_ARG(stream), why);
        lake_event(lake, "quarantine", stream, 0, "out of service: %s", why);
        mark_out(lake, stream, true);
        break;
    case DAMAGE_PART:
        log_error("catalog", "stream " SLICE_FMT ": a damaged object keeps files out of reach: %s", SLICE_ARG(stream),
                  why);
        lake_event(lake, "quarantine", stream, 0, "%s", why);
        break;
    case DAMAGE_OVER:
        log_info("catalog", "stream " SLICE_FMT " is in service again; it was out of service for: %s",
                 SLICE_ARG(stream), why);
        lake_event(lake, "in_service", stream, 0, "%s", why);
        mark_out(lake, stream, false);
        break;
    }
}

/* A folder of its own for each store: what lies there under a key is that store's. */
static enum err_code open_hot(struct lake *lake, struct err *err)
{
    struct hot_options opt = lake->opt.hot;

    if (!opt.dir)
        return ERR_OK;
    _cleanup_(freep) char *dir = mem_fmt("%s/%s", opt.dir, catalog_cluster(lake->cat));
    opt.dir = dir;
    return hot_open(lake->os, lake->store, &opt, &lake->hot, err);
}

static enum err_code open_rooms(struct lake *lake, struct err *err)
{
    _cleanup_(freep) char *temp = mem_fmt("%s/tmp", lake->opt.data_dir);
    struct catalog_options copt = {.shards = 4,
                                   .snapshot_retention_us = 3600000000,
                                   .fence_us = lake->opt.fence_us,
                                   .node_id = lake->node_id,
                                   .endpoint = "",
                                   .temp_dir = temp,
                                   .facts = lake->opt.facts,
                                   .on_damage = on_damage,
                                   .damage_arg = lake};
    _cleanup_(buf_done) struct buf files = BUF_INIT;

    TRY(lock_data(lake, err));
    if (lake->opt.on_locked)
        TRY(lake->opt.on_locked(lake->opt.on_locked_arg, err));
    TRY(node_id_load(lake, err));
    TRY(wal_open(lake->os, lake->opt.wal_dir, &lake->opt.wal, &lake->wal, err));
    TRY(os_mkdirs(lake->os, temp, err));
    TRY(catalog_open(lake->os, lake->store, &copt, &lake->cat, err));
    TRY(open_hot(lake, err));
    lake->store->ops->engine_path(lake->store, (slice){0}, &files);
    const char *const read_dirs[] = {lake->store->remote ? NULL : buf_cstr(&files), NULL};
    TRY(segment_writer_open(temp, read_dirs, &lake->writer, err));
    return recover(lake, err);
}

enum err_code lake_open(struct os *os, const struct lake_options *opt, struct lake **out, struct err *err)
{
    struct lake *lake = mem_zalloc(sizeof(*lake));

    lake->os = os;
    lake->opt = *opt;
    lake->store = opt->store;
    defaults(&lake->opt);
    atomic_init(&lake->room_bytes, lake->opt.stage_bytes_slow);
    lake->mu = os->ops->mutex_new(os);
    lake->flush_mu = os->ops->mutex_new(os);
    for (size_t i = 0; i < NAME_LOCKS; i++)
        lake->name_mu[i] = os->ops->mutex_new(os);
    lake->event_mu = os->ops->mutex_new(os);
    lake->idle = os->ops->cond_new(os);
    metrics_register(lake);
    enum err_code rc = open_rooms(lake, err);
    if (rc != ERR_OK) {
        lake_close(lake);
        return rc;
    }
    if (lake->opt.background) {
        lake->threads[0] = os->ops->thread_new(os, "flush", lake_flush_thread, lake);
        lake->threads[1] = os->ops->thread_new(os, "maintenance", lake_maintenance_thread, lake);
        lake->threads[2] = os->ops->thread_new(os, "events", lake_event_thread, lake);
        lake->threads[4] = os->ops->thread_new(os, "names", lake_names_thread, lake);
        lake->threads[5] = os->ops->thread_new(os, "fold", lake_fold_thread, lake);
        if (lake->hot)
            lake->threads[3] = os->ops->thread_new(os, "hot tier", lake_hot_thread, lake);
    }
    *out = lake;
    return ERR_OK;
}

/* ---- close */

static void stop_threads(struct lake *lake)
{
    hot_stop(lake->hot);
    os_lock(lake->os, lake->mu);
    lake->stopping = true;
    lake->os->ops->cond_broadcast(lake->os, lake->idle);
    os_unlock(lake->os, lake->mu);
    for (size_t i = ARRAY_LEN(lake->threads); i-- > 0;)
        lake->os->ops->thread_join(lake->os, lake->threads[i]);
}

static void free_tables(struct lake *lake)
{
    struct map_entry *e;
    size_t at = 0;

    while ((e = map_next(&lake->by_sid, &at)))
        stage_stream_unref(e->value);
    map_done(&lake->by_sid);
    map_done(&lake->by_name);
    for (at = 0; (e = map_next(&lake->event_rows, &at));) {
        struct lake_event_row *row = e->value;
        free(row->line);
        free(row);
    }
    map_done(&lake->event_rows);
    for (size_t i = 0; i < lake->decoders_count; i++)
        decoder_free(lake->decoders[i]);
    free(lake->decoders);
    park_forget(lake, UINT64_MAX);
    free(lake->park.items);
    free(lake->park_done);
    free(lake->moved);
    free(lake->segments);
}

bool lake_flush_fails(struct lake *lake)
{
    os_lock(lake->os, lake->mu);
    bool fails = lake->flush_failing;
    os_unlock(lake->os, lake->mu);
    return fails;
}

void lake_give_up_waiting(struct lake *lake)
{
    struct err err;

    atomic_store(&lake->giving_up, true);
    os_lock(lake->os, lake->mu);
    lake->os->ops->cond_broadcast(lake->os, lake->idle);
    os_unlock(lake->os, lake->mu);
    (void)err_set(&err, ERR_UNAVAILABLE, "the server stops: the rows are in the WAL, not in the store yet");
    lake_answer_object_waiters(lake, &err);
}

void lake_close(struct lake *lake)
{
    struct err err = {0};

    if (!lake)
        return;
    struct os *os = lake->os;
    stop_threads(lake);
    if (lake->wal && lake->cat && lake->writer && lake->threads[0]) {
        lake_events_write(lake);
        if (lake_flush(lake, &err) != ERR_OK)
            log_warn("stage", "last flush failed, rows stay in the WAL: %s", err.msg);
        else if (catalog_seal(lake->cat, &err) != ERR_OK || catalog_unregister(lake->cat, &err) != ERR_OK)
            log_warn("stage", "lane not sealed, or still registered: %s", err.msg);
    }
    wal_close(lake->wal);
    lake_give_up_waiting(lake);
    segment_writer_close(lake->writer);
    hot_close(lake->hot);
    free_tables(lake);
    catalog_close(lake->cat);
    if (lake->store)
        lake->store->ops->free(lake->store);
    os->ops->close(os, lake->lock);
    os->ops->mutex_free(os, lake->mu);
    os->ops->mutex_free(os, lake->flush_mu);
    for (size_t i = 0; i < NAME_LOCKS; i++)
        os->ops->mutex_free(os, lake->name_mu[i]);
    os->ops->mutex_free(os, lake->event_mu);
    os->ops->cond_free(os, lake->idle);
    free(lake);
}

struct catalog *lake_catalog(struct lake *lake)
{
    return lake->cat;
}
struct store *lake_store(struct lake *lake)
{
    return lake->store;
}
struct wal *lake_wal(struct lake *lake)
{
    return lake->wal;
}
struct hot *lake_hot(struct lake *lake)
{
    return lake->hot;
}
const struct lake_options *lake_opts(const struct lake *lake)
{
    return &lake->opt;
}

/* ---- streams */

/* For others to learn of a DELETE; false: a stop came first. */
static bool wait_fence(struct lake *lake, int64_t us)
{
    int64_t until = os_mono_us(lake->os) + us, left;

    os_lock(lake->os, lake->mu);
    while (!lake->stopping && !atomic_load(&lake->giving_up) && (left = until - os_mono_us(lake->os)) > 0)
        (void)lake->os->ops->cond_wait(lake->os, lake->idle, lake->mu, left);
    bool whole = !lake->stopping && !atomic_load(&lake->giving_up);
    os_unlock(lake->os, lake->mu);
    return whole;
}

enum err_code lake_create(struct lake *lake, slice name, const struct stream_config *config,
                          const struct schema *schema, struct err *err)
{
    TRY(stream_name_check(name, err));
    for (;;) {
        _cleanup_(stream_version_unrefp) struct stream_version *v = NULL;
        int64_t left_us = 0;
        os_lock(lake->os, lake_name_mu(lake, name));
        enum err_code rc = catalog_create(lake->cat, name, config, schema, &v, err);
        os_unlock(lake->os, lake_name_mu(lake, name));
        if (rc != ERR_UNAVAILABLE || catalog_fence(lake->cat, name, &left_us, NULL) != ERR_OK || left_us == 0 ||
            !wait_fence(lake, left_us))
            return rc;
    }
}

/* What takes rows for an incarnation that is dead takes none any more. */
static bool forget_dead(struct lake *lake, struct stage_stream *s)
{
    _cleanup_(stream_version_unrefp) struct stream_version *v = NULL;

    if (catalog_by_sid(lake->cat, &s->sid, &v, NULL) != ERR_NOT_FOUND)
        return false;
    stage_forget(lake, s);
    return true;
}

/* Under the name's lock: what is looked up here is what the DEAD slot ends, unless another node came between. *stale: nothing was done. */
static enum err_code drop_try(struct lake *lake, slice name, bool *stale, int64_t *fence_us, struct err *err)
{
    _cleanup_(stage_stream_unrefp) struct stage_stream *s = NULL, *now = NULL;

    enum err_code rc = stage_find(lake, name, &s, err);
    if (rc != ERR_OK && rc != ERR_CORRUPT) /* out of service is no reason to keep it */
        return rc;
    if (s)
        os_lock(lake->os, s->ingest_mu); /* nothing comes between the look and the DEAD slot */
    *stale = s && stage_has_stale(s);
    rc = *stale ? ERR_OK : catalog_drop_begin(lake->cat, name, fence_us, err);
    if (!*stale && rc == ERR_OK && s)
        stage_forget(lake, s);
    if (s)
        os_unlock(lake->os, s->ingest_mu);
    if (!*stale && (now = stage_lookup(lake, name, NULL)))
        (void)forget_dead(lake, now);
    return rc;
}

enum err_code lake_drop(struct lake *lake, slice name, struct err *err)
{
    int64_t fence_us = 0;
    bool stale;

    for (int tries = 0;; tries++) {
        os_lock(lake->os, lake_name_mu(lake, name));
        enum err_code rc = drop_try(lake, name, &stale, &fence_us, err);
        os_unlock(lake->os, lake_name_mu(lake, name));
        TRY(rc);
        if (!stale)
            break;
        if (tries == DROP_TRIES_MAX)
            return err_set(err, ERR_UNAVAILABLE, "rows of stream " SLICE_FMT " are on their way: retry",
                           SLICE_ARG(name));
        TRY(lake_validate(
            lake, err)); /* what was accepted before this is not for the next of that name: it goes with the files */
        TRY(lake_flush(lake, err));
    }
    if (fence_us && !wait_fence(lake, fence_us))
        return err_set(err, ERR_UNAVAILABLE, "stream " SLICE_FMT " is deleted; the server stops before all others know",
                       SLICE_ARG(name));
    return ERR_OK;
}

enum err_code lake_validate(struct lake *lake, struct err *err)
{
    struct stage_stream **all = NULL;
    size_t n = 0, cap = 0;
    struct map_entry *e;

    TRY(catalog_validate(lake->cat, err));
    os_lock(lake->os, lake->mu);
    for (size_t at = 0; (e = map_next(&lake->by_name, &at));)
        *ARRAY_PUSH(all, n, cap) = stage_stream_ref(e->value);
    os_unlock(lake->os, lake->mu);
    for (size_t i = 0; i < n; i++) {
        if (forget_dead(lake, all[i]))
            log_info("stage", "stream %s was deleted by another server", all[i]->name);
        else
            stage_take_config(all[i]);
        stage_stream_unref(all[i]);
    }
    free(all);
    return ERR_OK;
}

enum err_code lake_configure(struct lake *lake, slice name, config_edit_fn edit, void *arg, struct err *err)
{
    _cleanup_(stage_stream_unrefp) struct stage_stream *s = NULL;

    TRY(stage_find(lake, name, &s, err));
    TRY(catalog_configure(lake->cat, &s->sid, edit, arg, err));
    stage_take_config(s);
    return ERR_OK;
}

enum err_code lake_refresh(struct lake *lake, slice name, struct err *err)
{
    _cleanup_(stage_stream_unrefp) struct stage_stream *s = NULL;

    TRY(stage_find(lake, name, &s, err));
    return catalog_refresh(lake->cat, &s->sid, err);
}

enum err_code lake_stream(struct lake *lake, slice name, struct stream_version **version, struct schema **schema,
                          struct err *err)
{
    _cleanup_(stage_stream_unrefp) struct stage_stream *s = NULL;
    _cleanup_(schema_unrefp) struct schema *mine = NULL;

    TRY(stage_find(lake, name, &s, err));
    TRY(catalog_by_sid(lake->cat, &s->sid, version, err));
    mine = stage_schema(s);
    if (schema)
        *schema = stage_read_schema(mine, stream_version_schema(*version));
    return ERR_OK;
}

/* ---- numbers */

struct numbers {
    struct stage_stream *stream;
    uint64_t rows, raw_bytes;
    int64_t tmin_us, tmax_us;
    int64_t day_from_us, day_to_us;
    uint64_t day_rows, day_raw;
};

static void pin_numbers(void *arg, struct stream_version *v)
{
    struct numbers *n = arg;
    struct stage_stream *s = n->stream;

    (void)v;
    os_lock(s->lake->os, s->mu);
    n->tmin_us = INT64_MAX;
    n->tmax_us = INT64_MIN;
    for (size_t i = 0; i < s->groups_count; i++) {
        const struct stage_group *g = &s->groups[i];
        n->rows += g->rows;
        n->raw_bytes += g->raw_bytes;
        n->tmin_us = MIN(n->tmin_us, g->tmin_us);
        n->tmax_us = MAX(n->tmax_us, g->tmax_us);
        if (g->tmin_us >= n->day_from_us &&
            g->tmin_us < n->day_to_us) { /* a group spans seconds: its first row's day */
            n->day_rows += g->rows;
            n->day_raw += g->raw_bytes;
        }
    }
    os_unlock(s->lake->os, s->mu);
}

enum err_code lake_stats(struct lake *lake, slice name, struct lake_stats *out, struct err *err)
{
    _cleanup_(stage_stream_unrefp) struct stage_stream *s = NULL;
    _cleanup_(stream_version_unrefp) struct stream_version *v = NULL;

    TRY(stage_find(lake, name, &s, err));
    struct numbers n = {.stream = s};
    TRY(catalog_snapshot(lake->cat, &s->sid, pin_numbers, &n, &v, err));
    const struct stream_stats *f = stream_version_stats(v);
    *out = (struct lake_stats){
        .rows = f->rows + n.rows,
        .raw_bytes = f->raw_bytes + n.raw_bytes,
        .lifetime_rows = f->lifetime_rows + n.rows,
        .lifetime_raw_bytes = f->lifetime_raw_bytes + n.raw_bytes,
        .deleted_rows = f->deleted_rows,
        .deleted_raw_bytes = f->deleted_raw_bytes,
        .file_bytes = f->file_bytes,
        .lifetime_file_bytes = f->lifetime_file_bytes,
        .deleted_file_bytes = f->deleted_file_bytes,
        .first_us = f->first_us,
        .last_us = f->last_us,
    };
    if (n.rows) {
        out->first_us = out->first_us ? MIN(out->first_us, n.tmin_us) : n.tmin_us;
        out->last_us = MAX(out->last_us, n.tmax_us);
    }
    return ERR_OK;
}

enum err_code lake_stats_day(struct lake *lake, slice name, slice day, uint64_t out[3], struct err *err)
{
    _cleanup_(stage_stream_unrefp) struct stage_stream *s = NULL;
    _cleanup_(stream_version_unrefp) struct stream_version *v = NULL;
    int64_t days;

    out[0] = out[1] = out[2] = 0;
    TRY(stage_find(lake, name, &s, err));
    if (!time_parse_date(day, &days))
        return ERR_OK; /* contract 3.4: any other text has zeros */
    struct numbers n = {
        .stream = s, .day_from_us = days * INT64_C(86400000000), .day_to_us = (days + 1) * INT64_C(86400000000)};
    TRY(catalog_snapshot(lake->cat, &s->sid, pin_numbers, &n, &v, err));
    stream_version_day(v, day, out);
    out[0] += n.day_rows;
    out[1] += n.day_raw;
    return ERR_OK;
}
