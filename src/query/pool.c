/* pool.c: a fixed number of engines, the queue before them, and the list of running queries.
 *
 * Memory, threads and spill are settings of an engine, so each has its share and runs one query at a time. Who comes first is served
 * first (tickets). An engine that answered INTERNAL or FATAL is replaced when its query gives it back. Two more engines are small: one
 * parses for the gate, one serves tails and nothing else, so that followers do not wait behind long queries. */
#include <stdio.h>
#include <time.h>

#include "base/log.h"
#include "base/timetext.h"
#include "base/ulid.h"
#include "query/query_int.h"
#include "store/traffic.h"

#define LIGHT_MEMORY (UINT64_C(256) << 20)
#define GATE_MEMORY (UINT64_C(128) << 20)
#define QUEUE_DEFAULT 256
#define TIMEOUT_DEFAULT_US INT64_C(300000000)
#define WINDOW_ROWS_DEFAULT 20000u
#define WINDOW_FILES_REMOTE 4u

/* ---- engines */

static enum err_code slot_open(struct query_pool *pool, struct engine_slot *slot, struct err *err)
{
    const struct query_pool_options *o = &pool->opt;
    const struct store *store = lake_store(pool->lake);
    ASSERT(o->engines > 0);
    _cleanup_(freep) char *temp = pool->temp_dir ? mem_fmt("%s/engine%u", pool->temp_dir, slot->number) : NULL;
    const struct engine_options opt = {
        .memory_bytes = slot->light ? LIGHT_MEMORY : o->memory_bytes / o->engines,
        .temp_bytes = o->temp_bytes / o->engines,
        .threads = slot->light ? 1 : MAX(o->threads / o->engines, 1),
        .temp_dir = temp,
        .allowed_dirs = (const char *const *)pool->dirs,
        .extension = store->remote ? store->engine_extension : NULL,
        .ca_file = store->ca_file,
        .unverified = store->unverified,
        .keep_footers = true, /* a key never names another file */
    };
    return engine_open(&opt, &slot->engine, err);
}

static enum err_code gate_open(struct engine **out, struct err *err)
{
    const struct engine_options opt = {.memory_bytes = GATE_MEMORY, .threads = 1};
    return engine_open(&opt, out, err);
}

static void metrics_init(struct query_pool *pool)
{
    static const char *const outcomes[] = {"outcome=\"ok\"", "outcome=\"error\"", "outcome=\"cancelled\""};

    for (size_t i = 0; i < ARRAY_LEN(outcomes); i++)
        pool->m_queries[i] = metric_get(METRIC_COUNTER, "sluice_query_total", "Queries by outcome.", outcomes[i]);
    pool->m_seconds =
        metric_get(METRIC_HISTOGRAM, "sluice_query_seconds", "Time from a query's arrival to its last byte.", NULL);
    pool->m_rows = metric_get(METRIC_COUNTER, "sluice_query_rows_total", "Rows of answers.", NULL);
    pool->m_bytes =
        metric_get(METRIC_COUNTER, "sluice_query_bytes_total", "Bytes of answers, before compression.", NULL);
    pool->m_active = metric_get(METRIC_GAUGE, "sluice_query_active", "Queries that have an engine.", NULL);
    pool->m_waiting = metric_get(METRIC_GAUGE, "sluice_query_waiting", "Queries that wait for an engine.", NULL);
    pool->m_refused =
        metric_get(METRIC_COUNTER, "sluice_query_refused_total", "Queries refused because too many waited.", NULL);
    pool->m_replaced = metric_get(METRIC_COUNTER, "sluice_query_engines_replaced_total",
                                  "Engines replaced after an internal error.", NULL);
    pool->m_damaged =
        metric_get(METRIC_GAUGE, "sluice_query_damaged_files", "Files that queries found damaged and leave out.", NULL);
    pool->m_files =
        metric_get(METRIC_COUNTER, "sluice_query_files_total", "Files that queries were given to read.", NULL);
    pool->m_files_skipped =
        metric_get(METRIC_COUNTER, "sluice_query_files_skipped_total", "Damaged files left out of queries.", NULL);
    pool->m_files_pruned =
        metric_get(METRIC_COUNTER, "sluice_query_files_pruned_total",
                   "Files that queries did not look into, as their filters had none of the values.", NULL);
}

static enum err_code open_engines(struct query_pool *pool, struct err *err)
{
    TRY(gate_open(&pool->gate, err));
    for (unsigned i = 0; i <= pool->opt.engines; i++) {
        struct engine_slot *s = &pool->slots[pool->slots_count++];
        *s = (struct engine_slot){.number = i, .light = i == pool->opt.engines};
        TRY(slot_open(pool, s, err));
        struct slot_queue *q = s->light ? &pool->light : &pool->normal;
        q->free[q->free_count++] = s;
    }
    return ERR_OK;
}

enum err_code query_pool_open(struct lake *lake, const struct query_pool_options *opt, struct query_pool **out,
                              struct err *err)
{
    struct query_pool *pool = mem_zalloc(sizeof(*pool));
    _cleanup_(buf_done) struct buf files = BUF_INIT;
    pthread_condattr_t attr;

    pool->lake = lake;
    pool->opt = *opt;
    pool->opt.engines = MIN(opt->engines ? opt->engines : 2, QUERY_ENGINES_MAX);
    pool->opt.queue_max = opt->queue_max ? opt->queue_max : QUEUE_DEFAULT;
    pool->opt.timeout_us = opt->timeout_us > 0 ? opt->timeout_us : TIMEOUT_DEFAULT_US;
    pool->opt.window_rows = opt->window_rows ? opt->window_rows : WINDOW_ROWS_DEFAULT;
    if (!opt->window_files)
        pool->opt.window_files = lake_store(lake)->remote ? WINDOW_FILES_REMOTE : SIZE_MAX;
    pool->temp_dir = opt->temp_dir ? mem_str(slice_str(opt->temp_dir)) : NULL;
    lake_store(lake)->ops->engine_path(lake_store(lake), (slice){0}, &files);
    pool->dirs[0] = mem_str(buf_view(&files));
    if (lake_hot(lake))
        pool->dirs[1] = mem_str(slice_str(hot_dir(lake_hot(lake))));
    ASSERT(pthread_rwlock_init(&pool->gate_mu, NULL) == 0 && pthread_mutex_init(&pool->mu, NULL) == 0);
    ASSERT(pthread_condattr_init(&attr) == 0 && pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    ASSERT(pthread_cond_init(&pool->wake, &attr) == 0);
    (void)pthread_condattr_destroy(&attr);
    metrics_init(pool);
    enum err_code rc = open_engines(pool, err);
    if (rc != ERR_OK) {
        query_pool_close(pool);
        return rc;
    }
    *out = pool;
    return ERR_OK;
}

void query_pool_close(struct query_pool *pool)
{
    if (!pool)
        return;
    ASSERT(!pool->running);
    for (unsigned i = 0; i < pool->slots_count; i++)
        engine_close(pool->slots[i].engine);
    engine_close(pool->gate);
    damage_done(pool);
    (void)pthread_cond_destroy(&pool->wake);
    (void)pthread_mutex_destroy(&pool->mu);
    (void)pthread_rwlock_destroy(&pool->gate_mu);
    free(pool->dirs[0]);
    free(pool->dirs[1]);
    free(pool->temp_dir);
    free(pool);
}

bool query_pool_contended(struct query_pool *pool, bool light)
{
    pthread_mutex_lock(&pool->mu);
    bool waits = (light ? &pool->light : &pool->normal)->waiting > 0;
    pthread_mutex_unlock(&pool->mu);
    return waits;
}

enum err_code pool_gate(struct query_pool *pool, slice sql, const struct gate_env *env, struct gate_output *out,
                        struct err *err)
{
    (void)pthread_rwlock_rdlock(&pool->gate_mu);
    enum err_code rc = gate_check(pool->gate, sql, env, out, err);
    bool broken = engine_broken(pool->gate);
    (void)pthread_rwlock_unlock(&pool->gate_mu);
    if (!broken)
        return rc;
    (void)pthread_rwlock_wrlock(&pool->gate_mu);
    struct engine *fresh;
    if (engine_broken(pool->gate) && gate_open(&fresh, NULL) == ERR_OK) { /* else the next one tries */
        engine_close(pool->gate);
        pool->gate = fresh;
        metric_add(pool->m_replaced, 1);
    }
    (void)pthread_rwlock_unlock(&pool->gate_mu);
    return rc;
}

/* ---- the queue */

static int64_t mono_us(void)
{
    return os_mono_us(os_real());
}

int64_t pool_time_left(const struct running *r)
{
    return MAX(r->deadline_us - mono_us(), 1);
}

struct waiter { /* on the stack of who waits */
    struct waiter *next;
};

static void queue_leave(struct slot_queue *q, struct waiter *w)
{
    struct waiter *before = NULL;

    for (struct waiter **at = &q->head; *at; before = *at, at = &(*at)->next)
        if (*at == w) {
            *at = w->next;
            if (q->tail == w)
                q->tail = before;
            break;
        }
    q->waiting--;
}

static enum err_code wait_turn(struct query_pool *pool, struct slot_queue *q, const struct waiter *w, struct running *r,
                               struct err *err)
{
    const struct timespec until = {r->deadline_us / 1000000, r->deadline_us % 1000000 * 1000};

    while (!(q->free_count && q->head == w)) {
        if (atomic_load(&r->stop))
            return err_set(err, ERR_CANCELLED, "the query was cancelled");
        if (mono_us() >= r->deadline_us)
            return err_set(err, ERR_TIMEOUT, "the query took longer than its time limit");
        (void)pthread_cond_timedwait(&pool->wake, &pool->mu, &until);
    }
    return ERR_OK;
}

static enum err_code queue_take(struct query_pool *pool, struct slot_queue *q, struct running *r,
                                struct engine_slot **out, struct err *err)
{
    struct waiter w = {0};

    if (q->waiting >= pool->opt.queue_max) {
        metric_add(pool->m_refused, 1);
        return err_set(err, ERR_UNAVAILABLE, "too many queries are waiting, try again later");
    }
    if (q->tail)
        q->tail->next = &w;
    else
        q->head = &w;
    q->tail = &w;
    q->waiting++;
    metric_add(pool->m_waiting, 1);
    enum err_code rc = wait_turn(pool, q, &w, r, err);
    queue_leave(q, &w);
    metric_add(pool->m_waiting, -1);
    if (rc == ERR_OK)
        *out = q->free[--q->free_count];
    (void)pthread_cond_broadcast(&pool->wake); /* the next one heads the queue */
    return rc;
}

static void slot_back(struct query_pool *pool, struct engine_slot *slot)
{
    struct slot_queue *q = slot->light ? &pool->light : &pool->normal;

    q->free[q->free_count++] = slot;
    (void)pthread_cond_broadcast(&pool->wake);
}

enum err_code pool_lease(struct query_pool *pool, struct running *r, bool light, struct engine_slot **out,
                         struct err *err)
{
    struct store *store = lake_store(pool->lake);
    struct engine_slot *slot = NULL;

    pthread_mutex_lock(&pool->mu);
    enum err_code rc = queue_take(pool, light ? &pool->light : &pool->normal, r, &slot, err);
    pthread_mutex_unlock(&pool->mu);
    TRY(rc);
    ASSERT(slot);
    if (!slot->engine)
        rc = slot_open(pool, slot, err);
    if (rc == ERR_OK && store->ops->engine_login)
        rc = store->ops->engine_login(store, slot->engine, err);
    pthread_mutex_lock(&pool->mu);
    if (rc == ERR_OK)
        r->engine = slot->engine;
    else
        slot_back(pool, slot);
    pthread_mutex_unlock(&pool->mu);
    TRY(rc);
    metric_add(pool->m_active, 1);
    *out = slot;
    return ERR_OK;
}

static void count_traffic(struct engine *e)
{
    struct engine_traffic t[ENGINE_TRAFFIC_MAX];
    size_t n = engine_traffic(e, t);

    for (size_t i = 0; i < n; i++) {
        traffic_requests(TRAFFIC_GET, TRAFFIC_QUERIES, t[i].status, t[i].requests);
        traffic_bytes(TRAFFIC_QUERIES, 0, t[i].bytes);
    }
}

void pool_release(struct query_pool *pool, struct running *r, struct engine_slot *slot)
{
    struct err err = {0};

    count_traffic(slot->engine);
    pthread_mutex_lock(&pool->mu);
    r->engine = NULL;
    pthread_mutex_unlock(&pool->mu);
    if (engine_broken(slot->engine)) {
        engine_close(slot->engine);
        slot->engine = NULL;
        metric_add(pool->m_replaced, 1);
        if (slot_open(pool, slot, &err) != ERR_OK) /* the next query tries again */
            log_error("query", "engine %u cannot be opened again: %s", slot->number, err.msg);
    }
    metric_add(pool->m_active, -1);
    pthread_mutex_lock(&pool->mu);
    slot_back(pool, slot);
    pthread_mutex_unlock(&pool->mu);
}

/* ---- running queries */

struct running *running_add(struct query_pool *pool, slice id, slice user, slice sql)
{
    struct running *r = mem_zalloc(sizeof(*r));
    struct os *os = os_real();
    uint8_t random[10];

    if (id.len) {
        r->id = mem_str(id);
    } else {
        os->ops->random(os, random, sizeof(random));
        struct ulid u = ulid_make(os_wall_us(os) / 1000, random);
        r->id = mem_str(slice_of(u.text, ULID_LEN));
    }
    r->user = mem_str(user);
    r->sql = mem_str(sql);
    r->started_wall_us = os_wall_us(os);
    r->started_us = mono_us();
    r->deadline_us = r->started_us + pool->opt.timeout_us;
    pthread_mutex_lock(&pool->mu);
    r->next = pool->running;
    pool->running = r;
    atomic_store(&r->stop, pool->stopping);
    pthread_mutex_unlock(&pool->mu);
    return r;
}

void running_del(struct query_pool *pool, struct running *r)
{
    pthread_mutex_lock(&pool->mu);
    for (struct running **at = &pool->running; *at; at = &(*at)->next)
        if (*at == r) {
            *at = r->next;
            break;
        }
    pthread_mutex_unlock(&pool->mu);
    free(r->id);
    free(r->user);
    free(r->sql);
    free(r);
}

static bool visible_to(const struct running *r, slice user, bool any_user)
{
    return any_user || slice_eq(slice_str(r->user), user);
}

static void running_stop(struct running *r) /* under mu */
{
    atomic_store(&r->stop, true); /* before the interrupt: see struct engine_query */
    if (r->engine)
        engine_interrupt(r->engine);
}

bool query_cancel_id(struct query_pool *pool, slice id, slice user, bool any_user)
{
    bool found = false;

    pthread_mutex_lock(&pool->mu);
    for (struct running *r = pool->running; r; r = r->next) {
        if (!slice_eq(slice_str(r->id), id) || !visible_to(r, user, any_user))
            continue;
        found = true;
        running_stop(r);
    }
    if (found)
        (void)pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mu);
    return found;
}

#define STOP_PERIOD_US 10000

void query_pool_stop(struct query_pool *pool, int64_t grace_us)
{
    const int64_t end = mono_us() + grace_us;

    pthread_mutex_lock(&pool->mu);
    while (pool->running && mono_us() < end) {
        pthread_mutex_unlock(&pool->mu);
        os_real()->ops->sleep_us(os_real(), STOP_PERIOD_US);
        pthread_mutex_lock(&pool->mu);
    }
    pool->stopping = true;
    for (struct running *r = pool->running; r; r = r->next)
        running_stop(r);
    (void)pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mu);
}

static void running_print(const struct running *r, struct buf *json)
{
    char started[TIME_TEXT_MAX];
    double progress = r->engine ? engine_progress(r->engine) : -1;

    (void)time_format_rfc3339(started, r->started_wall_us);
    buf_str(json, "{\"id\":");
    buf_json_str(json, slice_str(r->id));
    buf_str(json, ",\"user\":");
    buf_json_str(json, slice_str(r->user));
    buf_str(json, ",\"query\":");
    buf_json_str(json, slice_str(r->sql));
    buf_fmt(json, ",\"startedAt\":\"%s\",\"elapsedMs\":%lld,\"progress\":", started,
            (long long)(mono_us() - r->started_us) / 1000);
    if (progress < 0)
        buf_str(json, "null");
    else
        buf_fmt(json, "%.3f", MIN(progress, 1.0));
    buf_fmt(json, ",\"rows\":%llu,\"state\":\"%s\"}", (unsigned long long)atomic_load(&r->rows),
            atomic_load(&r->stop) ? "cancelling"
            : r->engine           ? "running"
                                  : "waiting");
}

void query_list(struct query_pool *pool, slice user, bool any_user, struct buf *json)
{
    bool first = true;

    buf_byte(json, '[');
    pthread_mutex_lock(&pool->mu);
    for (struct running *r = pool->running; r; r = r->next) {
        if (!visible_to(r, user, any_user))
            continue;
        if (!first)
            buf_byte(json, ',');
        first = false;
        running_print(r, json);
    }
    pthread_mutex_unlock(&pool->mu);
    buf_byte(json, ']');
}
