/* serve.c: `sluice serve`: lake, query pool and HTTP behind one set of settings, and their orderly end.
 *
 * The start opens the lake, which locks the data folder; then the socket, which answers 503 (liveness: 200) while the lake replays the WAL
 * and the query engines open. SIGTERM or SIGINT: requests get 503, those that run may end, what is staged is written and committed, the lane
 * is sealed. A second signal, or one during the start, ends the process at once, which loses nothing either: the WAL has what was
 * acknowledged. */
#include "cli/cli_int.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "api/api.h"
#include "base/log.h"
#include "query/query.h"
#include "stage/lake.h"
#include "version.h"

#include "base/banned.h"

#define PROGRESS_S 2 /* how often a long start says that it goes on */

struct server {
    struct lake *lake;
    struct query_pool *pool;
    struct api *api;
};

static struct lake_options lake_settings(const struct config *c)
{
    return (struct lake_options){
        .data_dir = config_text(c, SET_DATA),
        .wal_dir = config_text(c, SET_WAL),
        .wal = {.segment_bytes = config_number(c, SET_WAL_SEGMENT),
                .disk_bytes_max = config_number(c, SET_WAL_MAX),
                .disk_free_bytes_min = config_number(c, SET_DISK_RESERVE)},
        .flatten_level = (uint32_t)config_number(c, SET_FLATTEN_LEVEL),
        .columns_max = (uint32_t)config_number(c, SET_COLUMNS_MAX),
        .body_bytes_max = config_number(c, SET_BODY_MAX),
        .stage_bytes_max = config_number(c, SET_STAGE_MAX),
        .flush_bytes = config_number(c, SET_FLUSH_SIZE),
        .flush_age_us = (int64_t)config_number(c, SET_FLUSH_AGE),
        .flush_idle_us = (int64_t)config_number(c, SET_FLUSH_IDLE),
        .fold_interval_us = (int64_t)config_number(c, SET_FOLD_INTERVAL),
        .compact_interval_us = (int64_t)config_number(c, SET_COMPACT_INTERVAL),
        .index_interval_us = (int64_t)config_number(c, SET_INDEX_INTERVAL),
        .gc_interval_us = (int64_t)config_number(c, SET_GC_INTERVAL),
        .retention_interval_us = (int64_t)config_number(c, SET_RETENTION_INTERVAL),
        .scrub_interval_us = (int64_t)config_number(c, SET_SCRUB_INTERVAL),
        .hot = {.dir = config_text(c, SET_HOT_TIER_DIR),
                .bytes_max = config_number(c, SET_HOT_TIER_MAX),
                .disk_percent_max = (unsigned)config_number(c, SET_MAX_DISK_USAGE),
                .chunk_bytes = config_number(c, SET_HOT_TIER_CHUNK)},
        .hot_files = (unsigned)config_number(c, SET_HOT_TIER_FILES),
        .background = true,
    };
}

static struct query_pool_options query_settings(const struct config *c, const char *temp_dir)
{
    return (struct query_pool_options){
        .engines = (unsigned)config_number(c, SET_QUERY_ENGINES),
        .queue_max = (unsigned)config_number(c, SET_QUERY_QUEUE),
        .memory_bytes = config_number(c, SET_QUERY_MEMORY),
        .temp_bytes = config_number(c, SET_QUERY_SPILL),
        .threads = (unsigned)config_number(c, SET_QUERY_THREADS),
        .temp_dir = temp_dir,
        .timeout_us = (int64_t)config_number(c, SET_QUERY_TIMEOUT),
    };
}

static struct api_options api_settings(const struct config *c)
{
    uint64_t keep_alive_us = config_number(c, SET_KEEP_ALIVE);

    return (struct api_options){
        .address = config_text(c, SET_ADDR),
        .tls_cert_path = config_text(c, SET_TLS_CERT),
        .tls_key_path = config_text(c, SET_TLS_KEY),
        .username = config_text(c, SET_USERNAME),
        .password = config_text(c, SET_PASSWORD),
        .staging_dir = config_text(c, SET_WAL),
        .store_path = config_text(c, SET_STORE),
        .body_bytes_max = config_number(c, SET_BODY_MAX),
        .inflight_bytes_max = config_number(c, SET_INFLIGHT_MAX),
        .network_threads = (unsigned)config_number(c, SET_NETWORK_THREADS),
        .connections_max = (unsigned)config_number(c, SET_CONNECTIONS_MAX),
        .keep_alive_s = (unsigned)((keep_alive_us + 999999) / 1000000),
        .cors = config_number(c, SET_CORS) != 0,
    };
}

/* ---- progress of a long start */

struct progress {
    pthread_t thread;
    pthread_mutex_t mu;
    pthread_cond_t wake;
    const char *what; /* under mu; NULL: done */
};

static void *progress_thread(void *arg)
{
    struct progress *p = arg;
    int64_t start = os_mono_us(os_real());
    struct timespec until;

    pthread_mutex_lock(&p->mu);
    while (p->what) {
        (void)clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += PROGRESS_S;
        (void)pthread_cond_timedwait(&p->wake, &p->mu, &until);
        int64_t s = (os_mono_us(os_real()) - start) / 1000000;
        if (p->what && s >= 1)
            log_info("serve", "starting: %s, %lld s so far", p->what, (long long)s);
    }
    pthread_mutex_unlock(&p->mu);
    return NULL;
}

static void progress_start(struct progress *p)
{
    p->what = "reading the catalog and the write-ahead log";
    ASSERT(pthread_mutex_init(&p->mu, NULL) == 0 && pthread_cond_init(&p->wake, NULL) == 0);
    ASSERT(pthread_create(&p->thread, NULL, progress_thread, p) == 0);
}

static void progress_end(struct progress *p)
{
    pthread_mutex_lock(&p->mu);
    p->what = NULL;
    (void)pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->mu);
    (void)pthread_join(p->thread, NULL);
    (void)pthread_cond_destroy(&p->wake);
    (void)pthread_mutex_destroy(&p->mu);
}

/* ---- signals: blocked in every thread, taken by one */

struct signals {
    sigset_t set;
    atomic_bool serving; /* set by main: from now on the first signal stops in order */
    sem_t stop;          /* posted by the first one, and by each SIGHUP */
    _Atomic int first;
    bool
        reloads; /* SIGHUP reads the TLS files again; without them it stops like the others, as from a terminal that is closed */
    atomic_bool reload;
};

static void *signals_thread(void *arg)
{
    struct signals *s = arg;
    int sig;

    for (;;) {
        if (sigwait(&s->set, &sig) != 0)
            continue;
        if (sig == SIGHUP && s->reloads) {
            atomic_store(&s->reload, true);
            (void)sem_post(&s->stop);
            continue;
        }
        if (!atomic_load(&s->serving) || atomic_load(&s->first)) {
            log_warn("serve", "signal: ending at once; the write-ahead log has what is not in files yet");
            _exit(EXIT_INTERRUPTED);
        }
        atomic_store(&s->first, sig);
        (void)sem_post(&s->stop);
    }
    return NULL;
}

/* Before any other thread starts, so that all inherit the mask. `s` must live as long as the process. */
static void signals_start(struct signals *s, bool reloads)
{
    struct sigaction hup;
    pthread_t thread;

    (void)sigemptyset(&s->set);
    (void)sigaddset(&s->set, SIGTERM);
    (void)sigaddset(&s->set, SIGINT);
    s->reloads = reloads;
    if (reloads || (sigaction(SIGHUP, NULL, &hup) == 0 && hup.sa_handler != SIG_IGN)) /* nohup ignores it */
        (void)sigaddset(&s->set, SIGHUP);
    ASSERT(pthread_sigmask(SIG_BLOCK, &s->set, NULL) == 0 && sem_init(&s->stop, 0, 0) == 0);
    (void)signal(SIGPIPE, SIG_IGN);
    ASSERT(pthread_create(&thread, NULL, signals_thread, s) == 0);
    (void)pthread_detach(thread);
}

/* ---- memory
 *
 * Bodies, columns and the engine's buffers come and go by the megabyte. Left alone, the allocator gives each back to the kernel and takes it
 * again page by page, which is a sixth of the CPU of ingest. So it keeps what is freed, and every half minute gives back what
 * nobody needs any more. */

#define MALLOC_KEEP_BYTES (256 << 20) /* free at the top of one arena before it shrinks by itself */
#define MALLOC_MAP_BYTES (32 << 20)   /* larger blocks are mappings of their own: the most that an arena takes */
#define MALLOC_ARENAS_MIN 2
#define MALLOC_ARENAS_MAX 16
#define MALLOC_TRIM_S 30

static void memory_start(void)
{
    (void)mallopt(M_TRIM_THRESHOLD, MALLOC_KEEP_BYTES);
    (void)mallopt(M_MMAP_THRESHOLD, MALLOC_MAP_BYTES);
    (void)mallopt(M_ARENA_MAX, (int)MAX(MALLOC_ARENAS_MIN, MIN(sysconf(_SC_NPROCESSORS_ONLN), MALLOC_ARENAS_MAX)));
}

static void reload(struct api *api)
{
    struct err err = {0};

    if (api_reload_tls(api, &err) == ERR_OK)
        log_info("serve", "SIGHUP: the certificate was read again");
    else
        log_error("serve", "SIGHUP: the certificate of before is served on: %s", err.msg);
}

static int signals_wait(struct signals *s, struct api *api)
{
    struct timespec until;

    atomic_store(&s->serving, true);
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += MALLOC_TRIM_S;
    while (!atomic_load(&s->first)) {
        if (sem_clockwait(&s->stop, CLOCK_MONOTONIC, &until) == 0) {
            if (atomic_exchange(&s->reload, false))
                reload(api);
            continue;
        }
        if (errno != ETIMEDOUT)
            continue; /* EINTR */
        (void)malloc_trim(0);
        until.tv_sec += MALLOC_TRIM_S;
    }
    return atomic_load(&s->first);
}

/* ---- start and stop */

struct starting {
    struct server *server;
    const struct config *config;
};

static enum err_code listen_early(void *arg, struct err *err)
{
    const struct starting *s = arg;
    const struct api_options ao = api_settings(s->config);

    return api_open(&ao, &s->server->api, err);
}

static enum err_code start(struct server *s, const struct config *c, struct err *err)
{
    struct starting starting = {s, c};
    struct store_facts facts;
    struct lake_options lo = lake_settings(c);
    _cleanup_(freep) char *temp_dir = mem_fmt("%s/tmp/query", lo.data_dir);
    struct query_pool_options qo = query_settings(c, temp_dir);

    lo.on_locked = listen_early;
    lo.on_locked_arg = &starting;
    TRY(cli_store_serve(c, &lo.store, &facts, err));
    lo.facts = &facts;
    TRY(lake_open(os_real(), &lo, &s->lake, err));
    TRY(query_pool_open(s->lake, &qo, &s->pool, err));
    api_ready(s->api, s->lake, s->pool);
    return ERR_OK;
}

static void stop(struct server *s)
{
    if (s->api)
        api_drain(s->api);
    api_close(s->api);
    if (s->pool)
        query_pool_close(s->pool);
    if (s->lake)
        lake_close(s->lake);
}

static void log_warnings(const struct cli *cli)
{
    const struct config *c = &cli->config;
    slice rest = buf_view(&cli->warnings);

    while (rest.len) {
        const uint8_t *nl = memchr(rest.ptr, '\n', rest.len);
        slice line = slice_head(rest, nl ? (size_t)(nl - rest.ptr) : rest.len);
        log_warn("serve", SLICE_FMT, SLICE_ARG(line));
        rest = slice_from(rest, line.len + 1);
    }
    if (strcmp(config_text(c, SET_USERNAME), "admin") == 0 && strcmp(config_text(c, SET_PASSWORD), "admin") == 0 &&
        !host_is_loopback(config_text(c, SET_ADDR)))
        log_warn("serve",
                 "everybody who reaches %s can log in as admin/admin: set SLUICE_PASSWORD or --password-file, or "
                 "listen on 127.0.0.1 (--addr)",
                 config_text(c, SET_ADDR));
}

static const char *host_of(const struct config *c, char *out, size_t size)
{
    slice s = slice_str(config_text(c, SET_ADDR));
    const uint8_t *colon = s.len ? memrchr(s.ptr, ':', s.len) : NULL;

    s = slice_head(s, colon ? (size_t)(colon - s.ptr) : s.len);
    if (s.len == 0 || slice_eq(s, slice_lit("0.0.0.0")) || slice_eq(s, slice_lit("[::]")))
        s = slice_lit("localhost");
    (void)snprintf(out, size, SLICE_FMT, SLICE_ARG(s));
    return out;
}

/* DuckDB's azure extension knows no setting for certificates but this variable. Before any thread: nobody reads the environment meanwhile. */
static void trust_in_environment(const struct config *c)
{
    static char **env;
    size_t n = 0;

    if (!config_text(c, SET_STORE_CA_CERT))
        return;
    while (environ[n])
        n++;
    env = mem_alloc((n + 2) * sizeof(*env));
    env[0] = mem_fmt("CURL_CA_INFO=%s", config_text(c, SET_STORE_CA_CERT)); /* the first of a name counts */
    memcpy(env + 1, environ, (n + 1) * sizeof(*env));
    environ = env;
}

int run_serve(struct cli *cli)
{
    const struct config *c = &cli->config;
    struct server s = {0};
    struct progress progress;
    struct err err = {0};
    static struct signals signals;
    char host[128];

    trust_in_environment(c);
    memory_start();
    signals_start(&signals, config_text(c, SET_TLS_CERT) != NULL);
    log_set_level((enum log_level)config_number(c, SET_LOG_LEVEL));
    log_warnings(cli);
    log_info("serve", "sluice %s (commit %s): data in %s, write-ahead log in %s, store in %s", SLUICE_VERSION,
             SLUICE_COMMIT, config_text(c, SET_DATA), config_text(c, SET_WAL), config_text(c, SET_STORE));
    progress_start(&progress);
    enum err_code rc = start(&s, c, &err);
    progress_end(&progress);
    if (rc != ERR_OK) {
        log_error("serve", "%s", err.msg);
        stop(&s);
        return EXIT_FAILED;
    }
    log_info("serve", "ready: %s://%s:%u", config_text(c, SET_TLS_CERT) ? "https" : "http",
             host_of(c, host, sizeof(host)), api_port(s.api));
    int sig = signals_wait(&signals, s.api);
    log_info("serve", "%s: stopping; again to end at once",
             sig == SIGINT   ? "SIGINT"
             : sig == SIGHUP ? "SIGHUP"
                             : "SIGTERM");
    stop(&s);
    log_info("serve", "stopped");
    return EXIT_DONE;
}
