/* engine.c: one DuckDB instance: open and lock down, run, interrupt. */
#include "engine/engine.h"

#include <dlfcn.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "engine/engine_int.h"
#include "os/os.h"

#define WATCHDOG_PERIOD_US 10000
#define NO_TASK_SLEEP_US 200
#define LOGIN_BYTES 16384u

static int64_t mono_us(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts); /* limits of running queries: nothing here is simulated */
    return ts.tv_sec * INT64_C(1000000) + ts.tv_nsec / 1000;
}

/* ---- errors */

static const struct {
    const char *prefix;
    enum err_code code;
} classes[] = {
    {"INTERRUPT Error", ERR_CANCELLED}, {"Out of Memory Error", ERR_LIMIT},
    {"INTERNAL Error", ERR_UNKNOWN},    {"FATAL Error", ERR_UNKNOWN},
    {"HTTP Error", ERR_UNAVAILABLE},    {"IO Error: Azure", ERR_UNAVAILABLE}, /* the azure extension's own */
};
/* What the Parquet reader says of damaged bytes. Some of it comes without a prefix, little of it with the file's name: query/
 * looks for the file by its checksum, and where none is damaged (a user's text may hold these words) takes the error back. */
static const char *const damage[] = {
    "No magic bytes",   "TProtocolException",     "orrupt",          "ecompression failure",     "ailed to decompress",
    "too small to be",  "Failed to read Parquet", "Out of buffer",   "Failed to read file",      "Missing data page",
    "is not valid UTF", "Malformed Parquet",      "in parquet read", "Invalid decimal encoding", "out of range of file",
};

static enum err_code classify(const char *message)
{
    static const char *const innocent[] = {"Conversion Error", "Binder Error", "Parser Error", "Catalog Error",
                                           "Out of Range Error"};

    for (size_t i = 0; i < ARRAY_LEN(innocent); i++)
        if (strncmp(message, innocent[i], strlen(innocent[i])) == 0)
            return ERR_INVALID;
    for (size_t i = 0; i < ARRAY_LEN(classes); i++)
        if (strncmp(message, classes[i].prefix, strlen(classes[i].prefix)) == 0)
            return classes[i].code;
    for (size_t i = 0; i < ARRAY_LEN(damage); i++)
        if (strstr(message, damage[i]))
            return ERR_CORRUPT;
    if (strncmp(message, "IO Error", 8) != 0)
        return ERR_INVALID;
    return strstr(message, " error for HTTP ") ? ERR_UNAVAILABLE
                                               : ERR_IO; /* httpfs without an answer: refused, reset, timed out */
}

enum err_code engine_error(struct engine *e, const char *message, struct err *err)
{
    if (!message)
        message = "INTERNAL Error: no message";
    enum err_code code = classify(message);

    if (code == ERR_UNKNOWN)
        atomic_store(&e->broken, true);
    if (code == ERR_CANCELLED) {
        pthread_mutex_lock(&e->mu);
        bool timed_out = e->timed_out;
        pthread_mutex_unlock(&e->mu);
        if (timed_out)
            return err_set(err, ERR_TIMEOUT, "the query took longer than its time limit");
        return err_set(err, ERR_CANCELLED, "the query was cancelled");
    }
    if (code == ERR_LIMIT) /* after its first line the engine gives advice about settings that users cannot change */
        return err_set(err, code,
                       "%.*s: narrow the time range, read fewer columns, or give the server more query memory or spill",
                       (int)strcspn(message, "\n"), message);
    return err_set(err, code, "%s", message);
}

bool engine_broken(const struct engine *e)
{
    return atomic_load(&e->broken);
}

const char *engine_version(void)
{
    return duckdb_library_version();
}

/* ---- watchdog: an interrupt sent before a query starts is lost, so it is repeated until the query ends */

static void *watch(void *arg)
{
    struct engine *e = arg;

    pthread_mutex_lock(&e->mu);
    while (!e->stopping) {
        if (!e->running || (!e->interrupted && !e->deadline_us)) {
            (void)pthread_cond_wait(&e->wake, &e->mu);
            continue;
        }
        int64_t now = mono_us();
        if (e->deadline_us && now >= e->deadline_us && !e->interrupted)
            e->interrupted = e->timed_out = true;
        if (e->interrupted)
            duckdb_interrupt(e->con);
        int64_t until = e->interrupted ? now + WATCHDOG_PERIOD_US : e->deadline_us;
        const struct timespec ts = {until / 1000000, until % 1000000 * 1000};
        (void)pthread_cond_timedwait(&e->wake, &e->mu, &ts);
    }
    pthread_mutex_unlock(&e->mu);
    return NULL;
}

void engine_interrupt(struct engine *e)
{
    pthread_mutex_lock(&e->mu);
    if (e->running) {
        e->interrupted = true;
        duckdb_interrupt(e->con);
        (void)pthread_cond_broadcast(&e->wake);
    }
    pthread_mutex_unlock(&e->mu);
}

static void engine_begin(struct engine *e, const struct engine_query *q)
{
    ASSERT(!atomic_exchange(&e->busy, true));
    pthread_mutex_lock(&e->mu);
    e->running = true;
    e->interrupted = q->stop && atomic_load(q->stop);
    e->timed_out = false;
    e->deadline_us = q->timeout_us > 0 ? mono_us() + q->timeout_us : 0;
    (void)pthread_cond_broadcast(&e->wake);
    pthread_mutex_unlock(&e->mu);
}

void engine_idle(struct engine *e)
{
    pthread_mutex_lock(&e->mu);
    e->running = false;
    pthread_mutex_unlock(&e->mu);
    atomic_store(&e->busy, false);
}

double engine_progress(struct engine *e)
{
    duckdb_query_progress_type p = duckdb_query_progress(e->con);
    return p.percentage < 0 ? -1 : p.percentage / 100;
}

/* ---- open */

static enum err_code config_set(duckdb_config config, const char *name, const char *value, struct err *err)
{
    if (duckdb_set_config(config, name, value) == DuckDBSuccess)
        return ERR_OK;
    return err_set(err, ERR_INVALID, "engine setting %s=%s was refused", name, value);
}

static enum err_code config_fill(duckdb_config config, const struct engine_options *opt, struct err *err)
{
    static const char *const fixed[][2] = {
        {"allow_unsigned_extensions", "false"}, {"autoinstall_known_extensions", "false"},
        {"autoload_known_extensions", "false"}, {"allow_community_extensions", "false"},
        {"preserve_insertion_order", "true"},
    };
    char text[32];

    for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
        TRY(config_set(config, fixed[i][0], fixed[i][1], err));
    if (opt->memory_bytes) {
        (void)snprintf(text, sizeof(text), "%lluB", (unsigned long long)opt->memory_bytes);
        TRY(config_set(config, "memory_limit", text, err));
    }
    if (opt->threads) {
        (void)snprintf(text, sizeof(text), "%u", opt->threads);
        TRY(config_set(config, "threads", text, err));
    }
    if (opt->temp_dir) /* DuckDB makes only the last folder of a path, and only when a query spills */
        TRY(os_mkdirs(os_real(), opt->temp_dir, err));
    TRY(config_set(config, "temp_directory", opt->temp_dir ? opt->temp_dir : "", err));
    if (opt->temp_dir && opt->temp_bytes) {
        (void)snprintf(text, sizeof(text), "%lluB", (unsigned long long)opt->temp_bytes);
        TRY(config_set(config, "max_temp_directory_size", text, err));
    }
    return ERR_OK;
}

static enum err_code exec(struct engine *e, const char *sql, struct err *err)
{
    duckdb_result result;
    enum err_code rc = ERR_OK;

    if (duckdb_query(e->con, sql, &result) != DuckDBSuccess) {
        rc = engine_error(e, duckdb_result_error(&result), err);
        (void)err_wrap(err, "%s", sql);
    }
    duckdb_destroy_result(&result);
    return rc;
}

static void quoted(struct buf *b, slice s, uint8_t quote)
{
    buf_byte(b, quote);
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == quote)
            buf_byte(b, quote);
        buf_byte(b, s.ptr[i]);
    }
    buf_byte(b, quote);
}

static void sql_text(struct buf *b, slice s)
{
    quoted(b, s, '\'');
}

void engine_ident(struct buf *b, slice name)
{
    quoted(b, name, '"');
}

/* Where extensions lie: beside the library (installed), or in the folder of extensions next to it. */
static enum err_code extension_find(const char *name, struct buf *out, struct err *err)
{
    static const char *const places[] = {"", "../extensions/"};
    Dl_info info;

    if (!dladdr((const void *)(uintptr_t)duckdb_library_version, &info) || !info.dli_fname)
        return err_set(err, ERR_NOT_FOUND, "engine: the file of its library is unknown");
    const char *slash = strrchr(info.dli_fname, '/');
    int folder = slash ? (int)(slash + 1 - info.dli_fname) : 0;
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        out->len = 0;
        buf_fmt(out, "%.*s%s%s.duckdb_extension", folder, info.dli_fname, places[i], name);
        if (access(buf_cstr(out), R_OK) == 0)
            return ERR_OK;
    }
    return err_set(
        err, ERR_NOT_FOUND,
        "%s.duckdb_extension, which reads files from a bucket, is not beside %s: `make install` puts it there", name,
        info.dli_fname);
}

static enum err_code httpfs_settings(struct engine *e, const struct engine_options *opt, struct err *err)
{
    _cleanup_(buf_done) struct buf b = BUF_INIT;

    if (opt->unverified)
        return exec(e, "SET enable_curl_server_cert_verification=false", err);
    if (!opt->ca_file)
        return ERR_OK;
    buf_str(&b, "SET ca_cert_file=");
    sql_text(&b, slice_str(opt->ca_file));
    return exec(e, buf_cstr(&b), err);
}

/* Before the directories: until it is there s3:// is the name of a folder. */
static enum err_code extension_load(struct engine *e, const struct engine_options *opt, struct err *err)
{
    _cleanup_(buf_done) struct buf path = BUF_INIT, b = BUF_INIT;

    TRY(extension_find(opt->extension, &path, err));
    buf_str(&b, "LOAD ");
    sql_text(&b, buf_view(&path));
    TRY(exec(e, buf_cstr(&b), err));
    TRY(exec(e, "SET allow_persistent_secrets=false", err));
    /* What is cached of a file stays good: its name is never used again. */
    TRY(exec(e, "SET validate_external_file_cache='NO_VALIDATION'", err));
    TRY(exec(e, "CALL enable_logging('HTTP', storage='memory')", err)); /* engine_traffic() empties it */
    e->remote = true;
    if (strcmp(opt->extension, "azure") == 0) /* its default looks for certificates where Debian has none */
        return exec(e, "SET azure_transport_option_type='curl'", err);
    return httpfs_settings(e, opt, err);
}

/* DuckDB looks at a pattern as if it were a path, before it looks at the path that matches: so each directory stands there as both. */
static void directories_sql(const char *const *dirs, struct buf *sql)
{
    _cleanup_(buf_done) struct buf pattern = BUF_INIT;

    buf_str(sql, "SET allowed_directories=[");
    for (size_t i = 0; dirs && dirs[i]; i++) {
        buf_str(sql, i ? "," : "");
        sql_text(sql, slice_str(dirs[i]));
        pattern.len = 0;
        engine_path(&pattern, slice_str(dirs[i]));
        if (!slice_eq(buf_view(&pattern), slice_str(dirs[i]))) {
            buf_byte(sql, ',');
            sql_text(sql, buf_view(&pattern));
        }
    }
    buf_byte(sql, ']');
}

/* The order matters: extension, directories, then external access off, then settings, then the lock. */
static enum err_code lock_down(struct engine *e, const struct engine_options *opt, struct err *err)
{
    static const char *const settings[] = {
        "SET TimeZone='UTC'",
        "SET default_null_order='nulls_last_on_asc_first_on_desc'",
        "SET integer_division=true",
        "SET enable_progress_bar=true",
        "SET enable_progress_bar_print=false",
        "SET progress_bar_time=0",
    };
    _cleanup_(buf_done) struct buf b = BUF_INIT;

    if (opt->extension)
        TRY(extension_load(e, opt, err));
    directories_sql(opt->allowed_dirs, &b);
    TRY(exec(e, buf_cstr(&b), err));
    if (!opt->unlocked)
        TRY(exec(e, "SET enable_external_access=false", err));
    for (size_t i = 0; i < ARRAY_LEN(settings); i++)
        TRY(exec(e, settings[i], err));
    TRY(exec(e, opt->keep_footers ? "SET parquet_metadata_cache=true" : "SET enable_external_file_cache=false", err));
    return opt->unlocked ? ERR_OK : exec(e, "SET lock_configuration=true", err);
}

static enum err_code prepare(struct engine *e, const char *sql, duckdb_prepared_statement *out, struct err *err)
{
    if (duckdb_prepare(e->parser, sql, out) == DuckDBSuccess)
        return ERR_OK;
    return engine_error(e, duckdb_prepare_error(*out), err);
}

static enum err_code open_database(struct engine *e, const struct engine_options *opt, struct err *err)
{
    duckdb_config config;
    char *message = NULL;

    if (duckdb_create_config(&config) != DuckDBSuccess)
        return err_set(err, ERR_LIMIT, "engine configuration");
    enum err_code rc = config_fill(config, opt, err);
    if (rc == ERR_OK && duckdb_open_ext(NULL, &e->db, config, &message) != DuckDBSuccess) {
        rc = err_set(err, ERR_IO, "engine: %s", message ? message : "cannot open");
        duckdb_free(message);
    }
    duckdb_destroy_config(&config);
    TRY(rc);
    if (duckdb_connect(e->db, &e->con) != DuckDBSuccess || duckdb_connect(e->db, &e->parser) != DuckDBSuccess)
        return err_set(err, ERR_IO, "engine: cannot connect");
    TRY(engine_source_register(e, err));
    TRY(prepare(e, "SELECT json_serialize_sql($1::VARCHAR)", &e->parse, err));
    TRY(prepare(e, "SELECT json_deserialize_sql($1::JSON)", &e->deparse, err));
    return lock_down(e, opt, err);
}

enum err_code engine_open(const struct engine_options *opt, struct engine **out, struct err *err)
{
    struct engine *e = mem_zalloc(sizeof(*e));
    pthread_condattr_t attr;

    ASSERT(pthread_mutex_init(&e->mu, NULL) == 0 && pthread_mutex_init(&e->parse_mu, NULL) == 0);
    ASSERT(pthread_condattr_init(&attr) == 0 && pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    ASSERT(pthread_cond_init(&e->wake, &attr) == 0);
    (void)pthread_condattr_destroy(&attr);
    enum err_code rc = open_database(e, opt, err);
    if (rc == ERR_OK)
        e->watchdog_started = pthread_create(&e->watchdog, NULL, watch, e) == 0;
    if (rc == ERR_OK && !e->watchdog_started)
        rc = err_set(err, ERR_LIMIT, "engine: no thread for the watchdog");
    if (rc != ERR_OK) {
        engine_close(e);
        return rc;
    }
    *out = e;
    return ERR_OK;
}

static void plan_drop(struct kept_plan *p)
{
    duckdb_destroy_prepare(&p->stmt);
    free(p->sql);
    *p = (struct kept_plan){0};
}

void engine_close(struct engine *e)
{
    if (!e)
        return;
    if (e->watchdog_started) {
        pthread_mutex_lock(&e->mu);
        e->stopping = true;
        (void)pthread_cond_broadcast(&e->wake);
        pthread_mutex_unlock(&e->mu);
        (void)pthread_join(e->watchdog, NULL);
    }
    for (size_t i = 0; i < KEPT_PLANS; i++)
        plan_drop(&e->plans[i]);
    duckdb_destroy_prepare(&e->parse);
    duckdb_destroy_prepare(&e->deparse);
    if (e->con)
        duckdb_disconnect(&e->con);
    if (e->parser)
        duckdb_disconnect(&e->parser);
    if (e->db)
        duckdb_close(&e->db);
    free(e->sources);
    buf_wipe(&e->login);
    (void)pthread_cond_destroy(&e->wake);
    (void)pthread_mutex_destroy(&e->mu);
    (void)pthread_mutex_destroy(&e->parse_mu);
    free(e);
}

/* ---- keys of a bucket */

static void login_sql(const struct engine_secret *l, struct buf *b)
{
    buf_fmt(b, "CREATE OR REPLACE TEMPORARY SECRET sluice (TYPE %s, SCOPE ", l->type);
    sql_text(b, l->scope);
    for (size_t i = 0; i < l->fields_count; i++) {
        if (l->fields[i].value.len == 0)
            continue;
        buf_fmt(b, ", %s ", l->fields[i].name);
        sql_text(b, l->fields[i].value);
    }
    buf_byte(b, ')');
}

enum err_code engine_login(struct engine *e, const struct engine_secret *login, struct err *err)
{
    _cleanup_(buf_wipe) struct buf sql = BUF_INIT;
    struct err said = {0}; /* may hold the keys */

    buf_reserve(&sql, LOGIN_BYTES); /* else they lie about in blocks that it grew out of */
    login_sql(login, &sql);
    if (slice_eq(buf_view(&sql), buf_view(&e->login)))
        return ERR_OK;
    buf_wipe(&e->login);
    enum err_code rc = exec(e, buf_cstr(&sql), &said);
    explicit_bzero(&said, sizeof(said));
    if (rc != ERR_OK)
        return err_set(err, rc, "engine: the keys of " SLICE_FMT " were refused", SLICE_ARG(login->scope));
    e->login = sql;
    sql = BUF_INIT;
    return ERR_OK;
}

/* ---- requests */

static const char traffic_sql[] =
    "SELECT coalesce(TRY_CAST(right(response.status, 3) AS BIGINT), 0), count(*), coalesce(sum(TRY_CAST("
    "coalesce(response.headers['Content-Length'], response.headers['content-length']) AS BIGINT)) "
    "FILTER (request.type = 'GET'), 0)::BIGINT FROM duckdb_logs_parsed('HTTP') GROUP BY 1 ORDER BY 1 LIMIT 16";

size_t engine_traffic(struct engine *e, struct engine_traffic out[ENGINE_TRAFFIC_MAX])
{
    duckdb_result result;
    size_t n = 0;

    if (!e->untold || engine_broken(e))
        return 0;
    e->untold = false;
    if (duckdb_query(e->con, traffic_sql, &result) == DuckDBSuccess)
        for (; n < MIN(duckdb_row_count(&result), (idx_t)ENGINE_TRAFFIC_MAX); n++)
            out[n] = (struct engine_traffic){.status = (long)duckdb_value_int64(&result, 0, n),
                                             .requests = (uint64_t)duckdb_value_int64(&result, 1, n),
                                             .bytes = (uint64_t)duckdb_value_int64(&result, 2, n)};
    duckdb_destroy_result(&result);
    enum err_code rc = exec(e, "CALL truncate_duckdb_logs()", NULL);
    (void)rc; /* the next one empties it, and counts these once more */
    return n;
}

/* ---- run */

static bool asked_to_stop(struct engine *e)
{
    pthread_mutex_lock(&e->mu);
    bool stop = e->interrupted;
    pthread_mutex_unlock(&e->mu);
    return stop;
}

static enum err_code drive(struct engine *e, duckdb_pending_result pending, struct err *err)
{
    for (;;) {
        switch (duckdb_pending_execute_task(pending)) {
        case DUCKDB_PENDING_RESULT_READY: return ERR_OK;
        case DUCKDB_PENDING_ERROR: return engine_error(e, duckdb_pending_error(pending), err);
        case DUCKDB_PENDING_NO_TASKS_AVAILABLE: {
            const struct timespec ts = {0, NO_TASK_SLEEP_US * 1000};
            (void)nanosleep(&ts, NULL);
            break;
        }
        default: break;
        }
        if (asked_to_stop(e))
            return engine_error(e, "INTERRUPT Error: Interrupted!", err);
    }
}

static enum err_code run_prepared(struct engine *e, duckdb_prepared_statement stmt, bool materialize,
                                  struct engine_result *r, struct err *err)
{
    duckdb_pending_result pending = NULL;
    duckdb_state state =
        materialize ? duckdb_pending_prepared(stmt, &pending) : duckdb_pending_prepared_streaming(stmt, &pending);
    enum err_code rc =
        state == DuckDBSuccess ? drive(e, pending, err) : engine_error(e, duckdb_pending_error(pending), err);

    if (rc == ERR_OK) {
        r->has_result = true;
        if (duckdb_execute_pending(pending, &r->result) != DuckDBSuccess)
            rc = engine_error(e, duckdb_result_error(&r->result), err);
    }
    duckdb_destroy_pending(&pending);
    return rc;
}

/* A query that is given up half way stays the connection's active one, and its tasks run on when the next statement cleans up: by then
 * its sources would be gone. So that is made to happen now, while they are still there; interrupted, its tasks end at once. */
static void give_up(struct engine *e)
{
    duckdb_prepared_statement stmt = NULL;

    duckdb_interrupt(e->con);
    (void)duckdb_prepare(e->con, "SELECT 1", &stmt);
    duckdb_destroy_prepare(&stmt);
}

/* The plan of this text, or the place of the one that was not used for longest. */
static struct kept_plan *plan_for(struct engine *e, const char *sql)
{
    struct kept_plan *oldest = &e->plans[0];

    for (size_t i = 0; i < KEPT_PLANS; i++) {
        struct kept_plan *p = &e->plans[i];
        if (p->sql && strcmp(p->sql, sql) == 0) {
            p->used = ++e->plans_clock;
            return p;
        }
        if (p->used < oldest->used)
            oldest = p;
    }
    plan_drop(oldest);
    oldest->sql = mem_str(slice_str(sql));
    oldest->used = ++e->plans_clock;
    return oldest;
}

enum err_code engine_run(struct engine *e, const struct engine_query *q, struct engine_result **out, struct err *err)
{
    struct engine_result *r = mem_zalloc(sizeof(*r));
    struct kept_plan once = {0}, *plan = &once;
    enum err_code rc;

    ASSERT(q->materialize || !q->keep);
    engine_begin(e, q);
    r->engine = e;
    e->untold |= e->remote && q->files_count;
    if (q->keep)
        plan = plan_for(e, q->sql);
    if (plan->stmt || duckdb_prepare(e->con, q->sql, &plan->stmt) == DuckDBSuccess)
        rc = engine_files_bind(plan->stmt, q, err);
    else
        rc = engine_error(e, duckdb_prepare_error(plan->stmt), err);
    if (rc == ERR_OK)
        rc = run_prepared(e, plan->stmt, q->materialize, r, err);
    if (rc != ERR_OK || !q->keep)
        plan_drop(plan);
    if (rc != ERR_OK) {
        engine_result_free(r);
        return rc;
    }
    engine_fields_make(r);
    if (q->materialize) {
        r->whole = true;
        engine_idle(e);
    }
    *out = r;
    return ERR_OK;
}

uint64_t engine_result_rows(struct engine_result *r)
{
    ASSERT(r->whole);
    return duckdb_row_count(&r->result);
}

enum err_code engine_result_next(struct engine_result *r, const struct engine_chunk **out, struct err *err)
{
    if (r->chunk)
        duckdb_destroy_data_chunk(&r->chunk);
    r->chunk = duckdb_fetch_chunk(r->result);
    if (!r->chunk) {
        const char *message = duckdb_result_error(&r->result);
        if (message && *message)
            return engine_error(r->engine, message, err);
        if (asked_to_stop(r->engine))
            return engine_error(r->engine, "INTERRUPT Error: Interrupted!", err);
        r->whole = true;
        *out = NULL;
        return ERR_OK;
    }
    engine_chunk_wrap(r);
    *out = &r->out;
    return ERR_OK;
}

void engine_result_free(struct engine_result *r)
{
    if (!r)
        return;
    if (r->chunk)
        duckdb_destroy_data_chunk(&r->chunk);
    if (r->has_result)
        duckdb_destroy_result(&r->result);
    engine_fields_free(r->fields, r->fields_count);
    arena_done(&r->arena);
    if (atomic_load(&r->engine->busy)) {
        if (!r->whole)
            give_up(r->engine);
        engine_idle(r->engine);
    }
    free(r);
}
