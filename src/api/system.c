/* system.c: liveness, readiness, about, metrics (contract 3.8, 3.9, 9). */
#include <dirent.h>
#include <stdio.h>
#include <unistd.h>

#include "api/api_int.h"
#include "base/log.h"
#include "base/timetext.h"
#include "store/traffic.h"
#include "version.h"

#define TENANT "tenant_id=\"DEFAULT_TENANT\""
#define DATE_TEXT_LEN 10
#define COMPATIBLE_WITH "v2.9.5" /* the version whose API this is: clients choose features by it */

void handle_liveness(struct request *r)
{
    r->answer.status = 200;
}

void handle_readiness(struct request *r)
{
    struct store *store = lake_store(r->api->lake);
    struct wal_stat wal;
    int64_t now;
    struct err err;

    wal_stat(lake_wal(r->api->lake), &wal);
    r->answer.status = store->ops->now_us(store, &now, &err) == ERR_OK && !wal.poisoned ? 200 : 503;
}

void handle_about(struct request *r)
{
    const struct api_options *o = &r->api->opt;
    struct store *store = lake_store(r->api->lake);
    const char *hot_dir = lake_opts(r->api->lake)->hot.dir;
    const char *hot = hot_dir ? arena_fmt(&r->arena, "Enabled, Path: %s", hot_dir) : "Disabled";
    char deployment[40]; /* ULIDs of ours are in lower case, the contract's in upper case */

    (void)snprintf(deployment, sizeof(deployment), "%s", catalog_cluster(lake_catalog(r->api->lake)));
    for (char *c = deployment; *c; c++)
        *c = *c >= 'a' && *c <= 'z' ? (char)(*c - 32) : *c;
    answer_json(r, 200,
                json_pack("{s:s, s:s, s:s, s:s, s:b, s:n, s:b, s:n, s:b, s:{s:s, s:s, s:s, s:s}, s:s, s:s, s:s, s:i, "
                          "s:{s:s, s:s}, s:{s:n}, s:{s:s, s:s}}",
                          "version", COMPATIBLE_WITH, "uiVersion", "development", "commit", SLUICE_COMMIT,
                          "deploymentId", deployment, "updateAvailable", 0, "latestVersion", "llmActive", 0,
                          "llmProvider", "oidcActive", 0, "license", "name", "Apache-2.0", "version", "v1", "plan",
                          "OSS", "deploymentInfo", "Managed", "mode", "Standalone", "staging",
                          o->staging_dir ? o->staging_dir : "", "hotTier", hot, "grpcPort", 8001, "store", "type",
                          store->ops->describe(store), "path", o->store_path ? o->store_path : "", "analytics",
                          "clarityTag", "sluice", "version", SLUICE_VERSION, "engine", SLUICE_DUCKDB_VERSION));
}

/* What the store holds, counted from its own listings: by incarnation of a stream and in all (catalog.md section 9). */
void handle_storage(struct request *r)
{
    struct storage_report total;
    struct err err = {0};

    enum err_code rc = catalog_report(lake_catalog(r->api->lake), &total, &r->answer.body, &err);
    if (rc != ERR_OK) {
        r->answer.body.len = 0;
        answer_err(r, rc, &err);
        return;
    }
    if (lake_store(r->api->lake)->remote) { /* what this server asked of it since its start */
        r->answer.body.len--;
        buf_str(&r->answer.body, ",\"requests\":");
        traffic_json(&r->answer.body);
        buf_byte(&r->answer.body, '}');
    }
    r->answer.status = 200;
    r->answer.content_type = "application/json";
}

/* The store itself: which one, and what the last probe that was noted found. */
void handle_store(struct request *r)
{
    struct catalog *cat = lake_catalog(r->api->lake);
    struct store *store = lake_store(r->api->lake);
    const char *place = r->api->opt.store_path;
    struct buf *out = &r->answer.body;

    buf_str(out, "{\"cluster\":");
    buf_json_str(out, slice_str(catalog_cluster(cat)));
    buf_str(out, ",\"store\":");
    buf_json_str(out, slice_str(place ? place : ""));
    buf_str(out, ",\"type\":");
    buf_json_str(out, slice_str(store->ops->describe(store)));
    buf_str(out, ",\"probe\":");
    size_t before = out->len;
    catalog_probe(cat, out);
    buf_str(out, out->len == before ? "null}" : "}");
    r->answer.status = 200;
    r->answer.content_type = "application/json";
}

/* Everything acknowledged so far goes to the store; says up to which record. A backup asks for it (backup/backup.h). */
void handle_flush(struct request *r)
{
    struct lake *lake = r->api->lake;
    struct catalog_position p;
    struct err err = {0};

    enum err_code rc = lake_flush(lake, &err);
    if (rc != ERR_OK) {
        answer_err(r, rc, &err);
        return;
    }
    catalog_position(lake_catalog(lake), &p);
    answer_json(r, 200,
                json_pack("{s:s, s:s, s:s, s:I}", "cluster", catalog_cluster(lake_catalog(lake)), "node_id", p.node_id,
                          "lane", p.lane, "slot", (json_int_t)p.slot));
}

/* ---- metrics */

static void family(struct buf *out, const char *name, const char *kind, const char *help)
{
    buf_fmt(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind);
}

struct stream_numbers {
    char *labels;
    struct lake_stats stats;
    uint64_t today[3]; /* rows, JSON bytes, Parquet bytes */
    uint64_t hot_bytes;
};
struct numbers {
    struct request *r;
    struct stream_numbers *list;
    size_t count, cap;
    char date[DATE_TEXT_LEN + 1]; /* UTC */
};

static bool collect(void *arg, struct stream_version *v)
{
    struct numbers *n = arg;
    struct buf b = BUF_INIT;
    struct lake_stats stats;

    if (lake_stats(n->r->api->lake, stream_version_name(v), &stats, NULL) != ERR_OK)
        return true; /* dropped meanwhile */
    metric_label(&b, "stream", stream_version_name(v));
    struct stream_numbers *s = ARRAY_PUSH(n->list, n->count, n->cap);
    s->stats = stats;
    if (lake_stats_day(n->r->api->lake, stream_version_name(v), slice_str(n->date), s->today, NULL) != ERR_OK)
        memset(s->today, 0, sizeof(s->today));
    s->labels = arena_str(&n->r->arena, buf_view(&b));
    if (lake_hot(n->r->api->lake) && stream_version_config(v)->hot_tier_bytes) {
        struct hot_usage u;
        b.len = 0;
        hot_usage(lake_hot(n->r->api->lake),
                  catalog_stream_dir(lake_catalog(n->r->api->lake), stream_version_name(v), stream_version_sid(v), &b),
                  &u);
        s->hot_bytes = u.bytes;
    }
    buf_done(&b);
    return true;
}

/* The contract's counters by day: of today, as earlier days do not move any more. */
static void print_today(const struct numbers *n, struct buf *out)
{
    static const struct {
        const char *name, *extra, *format, *total;
    } rows[] = {
        {"parseable_events_ingested_date", "", "json", "parseable_total_events_ingested_by_date"},
        {"parseable_events_ingested_size_date", "", "json", "parseable_total_events_ingested_size_by_date"},
        {"parseable_events_storage_size_date", "type=\"data\",", "parquet",
         "parseable_total_parquets_stored_size_by_date"},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint64_t sum = 0;
        family(out, rows[i].name, "counter", "of one UTC day");
        for (size_t k = 0; k < n->count; k++) {
            sum += n->list[k].today[i];
            buf_fmt(out, "%s{%s%s,format=\"%s\",date=\"%s\"," TENANT "} %llu\n", rows[i].name, rows[i].extra,
                    n->list[k].labels, rows[i].format, n->date, (unsigned long long)n->list[k].today[i]);
        }
        family(out, rows[i].total, "counter", "of one UTC day, all streams");
        buf_fmt(out, "%s{date=\"%s\"," TENANT "} %llu\n", rows[i].total, n->date, (unsigned long long)sum);
    }
}

static void print_hot(const struct numbers *n, struct buf *out)
{
    if (!lake_hot(n->r->api->lake))
        return;
    family(out, "parseable_hot_tier_used_bytes", "gauge", "bytes of a stream in the hot tier of this node");
    for (size_t k = 0; k < n->count; k++)
        if (n->list[k].hot_bytes)
            buf_fmt(out, "parseable_hot_tier_used_bytes{%s," TENANT "} %llu\n", n->list[k].labels,
                    (unsigned long long)n->list[k].hot_bytes);
}

static void print_streams(struct request *r, struct buf *out)
{
    struct numbers n = {.r = r};
    struct err err = {0};
    const struct {
        const char *name, *extra, *format;
        size_t offset;
        const char *help;
    } rows[] = {
        {"parseable_events_ingested", "", "json", offsetof(struct lake_stats, rows), "rows retained"},
        {"parseable_events_ingested_size", "", "json", offsetof(struct lake_stats, raw_bytes),
         "JSON bytes of the rows retained"},
        {"parseable_lifetime_events_ingested", "", "json", offsetof(struct lake_stats, lifetime_rows), "rows ever"},
        {"parseable_lifetime_events_ingested_size", "", "json", offsetof(struct lake_stats, lifetime_raw_bytes),
         "JSON bytes ever"},
        {"parseable_events_deleted", "", "json", offsetof(struct lake_stats, deleted_rows),
         "rows removed by retention"},
        {"parseable_events_deleted_size", "", "json", offsetof(struct lake_stats, deleted_raw_bytes),
         "JSON bytes removed by retention"},
        {"parseable_storage_size", "type=\"data\",", "parquet", offsetof(struct lake_stats, file_bytes),
         "Parquet bytes"},
        {"parseable_lifetime_events_storage_size", "type=\"data\",", "parquet",
         offsetof(struct lake_stats, lifetime_file_bytes), "Parquet bytes ever"},
        {"parseable_deleted_events_storage_size", "type=\"data\",", "parquet",
         offsetof(struct lake_stats, deleted_file_bytes), "Parquet bytes removed"},
    };

    char now[TIME_TEXT_MAX];
    (void)time_format(now, os_wall_us(os_real()));
    memcpy(n.date, now, DATE_TEXT_LEN);
    if (catalog_list(lake_catalog(r->api->lake), collect, &n, &err) != ERR_OK)
        log_warn("api", "metrics without streams: %s", err.msg);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        family(out, rows[i].name, "gauge", rows[i].help);
        for (size_t k = 0; k < n.count; k++) {
            uint64_t value;
            memcpy(&value, (const uint8_t *)&n.list[k].stats + rows[i].offset, sizeof(value));
            buf_fmt(out, "%s{%s%s,format=\"%s\",tenant_id=\"DEFAULT_TENANT\"} %llu\n", rows[i].name, rows[i].extra,
                    n.list[k].labels, rows[i].format, (unsigned long long)value);
        }
    }
    print_today(&n, out);
    print_hot(&n, out);
    free(n.list);
}

static unsigned long long entries_of(const char *path)
{
    unsigned long long n = 0;
    DIR *d = opendir(path);

    for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d))
        n += e->d_name[0] != '.';
    if (d)
        (void)closedir(d);
    return n;
}

static void print_process(struct api *api, struct buf *out)
{
    long pages = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");

    if (f) {
        if (fscanf(f, "%ld %ld", &pages, &resident) != 2)
            pages = resident = 0;
        (void)fclose(f);
    }
    struct timespec cpu;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    family(out, "process_resident_memory_bytes", "gauge", "resident memory");
    buf_fmt(out, "process_resident_memory_bytes %lld\n", (long long)resident * sysconf(_SC_PAGESIZE));
    family(out, "process_virtual_memory_bytes", "gauge", "virtual memory");
    buf_fmt(out, "process_virtual_memory_bytes %lld\n", (long long)pages * sysconf(_SC_PAGESIZE));
    family(out, "process_cpu_seconds_total", "counter", "CPU time of user and system");
    buf_fmt(out, "process_cpu_seconds_total %lld.%06ld\n", (long long)cpu.tv_sec, cpu.tv_nsec / 1000);
    family(out, "process_start_time_seconds", "gauge", "start, seconds since 1970");
    buf_fmt(out, "process_start_time_seconds %lld\n", (long long)(api->started_wall_us / 1000000));
    family(out, "process_open_fds", "gauge", "open files and sockets");
    buf_fmt(out, "process_open_fds %llu\n", entries_of("/proc/self/fd"));
    family(out, "process_max_fds", "gauge", "their limit");
    buf_fmt(out, "process_max_fds %ld\n", sysconf(_SC_OPEN_MAX));
    family(out, "process_threads", "gauge", "threads");
    buf_fmt(out, "process_threads %llu\n", entries_of("/proc/self/task"));
}

static bool count_damaged(void *arg, slice name, const char *why)
{
    (void)name, (void)why;
    ++*(unsigned *)arg;
    return true;
}

static void print_damaged(struct api *api, struct buf *out)
{
    unsigned n = 0;

    catalog_list_damaged(lake_catalog(api->lake), count_damaged, &n);
    family(out, "sluice_damaged_streams", "gauge",
           "streams out of service, as an object of theirs cannot be read; the log and pmeta say which");
    buf_fmt(out, "sluice_damaged_streams %u\n", n);
}

static void print_wal(struct api *api, struct buf *out)
{
    struct wal_stat s;

    wal_stat(lake_wal(api->lake), &s);
    const struct {
        const char *name, *kind, *help;
        uint64_t value;
    } rows[] = {
        {"sluice_wal_live_bytes", "gauge", "bytes in the WAL that the catalog does not have yet", s.live_bytes},
        {"sluice_wal_live_segments", "gauge", "segments in the WAL that the catalog does not have yet",
         s.live_segments},
        {"sluice_wal_queued_bytes", "gauge", "bytes that wait for a write", s.queued_bytes},
        {"sluice_wal_records_total", "counter", "records appended", s.records},
        {"sluice_wal_syncs_total", "counter", "group commits", s.syncs},
        {"sluice_wal_written_bytes_total", "counter", "bytes written", s.bytes_written},
        {"sluice_wal_poisoned", "gauge", "1 while the disk of the WAL fails", s.poisoned},
        {"sluice_wal_disk_low", "gauge", "1 while the disk of the WAL is too full for ingest", s.disk_low},
    };
    family(out, "parseable_staging_files", "gauge",
           "segments of the WAL that the catalog does not have yet; each may hold rows of any stream");
    buf_fmt(out, "parseable_staging_files{stream=\"\"," TENANT "} %llu\n", (unsigned long long)s.live_segments);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        family(out, rows[i].name, rows[i].kind, rows[i].help);
        buf_fmt(out, "%s %llu\n", rows[i].name, (unsigned long long)rows[i].value);
    }
}

void handle_metrics(struct request *r)
{
    struct buf *out = &r->answer.body;

    print_streams(r, out);
    print_wal(r->api, out);
    print_damaged(r->api, out);
    print_process(r->api, out);
    metrics_print(out);
    r->answer.status = 200;
    r->answer.content_type = "text/plain; version=0.0.4; charset=utf-8";
}
