/* system.c: liveness, readiness, about, metrics (contract 3.8, 3.9, 9). */
#include <stdio.h>
#include <unistd.h>

#include "api/api_int.h"
#include "base/log.h"
#include "version.h"

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

    answer_json(r, 200,
                json_pack("{s:s, s:s, s:s, s:s, s:b, s:n, s:b, s:n, s:b, s:{s:s, s:s, s:s, s:s}, s:s, s:s, s:s, s:i, s:{s:s, s:s}, s:{s:n}, s:{s:s, s:s}}",
                          "version", COMPATIBLE_WITH, "uiVersion", "development", "commit", SLUICE_COMMIT, "deploymentId", o->deployment_id ? o->deployment_id : "",
                          "updateAvailable", 0, "latestVersion", "llmActive", 0, "llmProvider", "oidcActive", 0, "license", "name", "Apache-2.0", "version", "v1",
                          "plan", "OSS", "deploymentInfo", "Managed", "mode", "Standalone", "staging", o->staging_dir ? o->staging_dir : "", "hotTier", "Disabled",
                          "grpcPort", 8001, "store", "type", store->ops->describe(store), "path", o->store_path ? o->store_path : "", "analytics", "clarityTag",
                          "sluice", "version", SLUICE_VERSION, "engine", SLUICE_DUCKDB_VERSION));
}

/* ---- metrics */

static void family(struct buf *out, const char *name, const char *kind, const char *help)
{
    buf_fmt(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind);
}

struct stream_numbers {
    char *labels;
    struct lake_stats stats;
};
struct numbers {
    struct request *r;
    struct stream_numbers *list;
    size_t count, cap;
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
    s->labels = arena_str(&n->r->arena, buf_view(&b));
    buf_done(&b);
    return true;
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
        {"parseable_events_ingested_size", "", "json", offsetof(struct lake_stats, raw_bytes), "JSON bytes of the rows retained"},
        {"parseable_lifetime_events_ingested", "", "json", offsetof(struct lake_stats, lifetime_rows), "rows ever"},
        {"parseable_lifetime_events_ingested_size", "", "json", offsetof(struct lake_stats, lifetime_raw_bytes), "JSON bytes ever"},
        {"parseable_events_deleted", "", "json", offsetof(struct lake_stats, deleted_rows), "rows removed by retention"},
        {"parseable_events_deleted_size", "", "json", offsetof(struct lake_stats, deleted_raw_bytes), "JSON bytes removed by retention"},
        {"parseable_storage_size", "type=\"data\",", "parquet", offsetof(struct lake_stats, file_bytes), "Parquet bytes"},
        {"parseable_lifetime_events_storage_size", "type=\"data\",", "parquet", offsetof(struct lake_stats, lifetime_file_bytes), "Parquet bytes ever"},
        {"parseable_deleted_events_storage_size", "type=\"data\",", "parquet", offsetof(struct lake_stats, deleted_file_bytes), "Parquet bytes removed"},
    };

    if (catalog_list(lake_catalog(r->api->lake), collect, &n, &err) != ERR_OK)
        log_warn("api", "metrics without streams: %s", err.msg);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        family(out, rows[i].name, "gauge", rows[i].help);
        for (size_t k = 0; k < n.count; k++) {
            uint64_t value;
            memcpy(&value, (const uint8_t *)&n.list[k].stats + rows[i].offset, sizeof(value));
            buf_fmt(out, "%s{%s%s,format=\"%s\",tenant_id=\"DEFAULT_TENANT\"} %llu\n", rows[i].name, rows[i].extra, n.list[k].labels, rows[i].format,
                    (unsigned long long)value);
        }
    }
    free(n.list);
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
        {"sluice_wal_live_segments", "gauge", "segments in the WAL that the catalog does not have yet", s.live_segments},
        {"sluice_wal_queued_bytes", "gauge", "bytes that wait for a write", s.queued_bytes},
        {"sluice_wal_records_total", "counter", "records appended", s.records},
        {"sluice_wal_syncs_total", "counter", "group commits", s.syncs},
        {"sluice_wal_written_bytes_total", "counter", "bytes written", s.bytes_written},
        {"sluice_wal_poisoned", "gauge", "1 while the disk of the WAL fails", s.poisoned},
    };
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
    print_process(r->api, out);
    metrics_print(out);
    r->answer.status = 200;
    r->answer.content_type = "text/plain; version=0.0.4; charset=utf-8";
}
