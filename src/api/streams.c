/* streams.c: datasets: list, create, update, delete, schema, info, stats, retention (contract 3.1 to 3.6). */
#include <stdio.h>

#include "api/api_int.h"
#include "base/timetext.h"
#include "base/units.h"

#define RETENTION_DAYS_MAX 36500

static const char json_source[] = "[{\"log_source_format\":\"json\",\"fields\":[]}]";

static void answer_not_found(struct request *r)
{
    answer_text(r, 404, "Stream not found: " SLICE_FMT, SLICE_ARG(r->args[0]));
}

/* false: answered. */
static bool find(struct request *r, struct stream_version **v, struct schema **schema)
{
    struct err err = {0};
    enum err_code rc = lake_stream(r->api->lake, r->args[0], v, schema, &err);

    if (rc == ERR_OK)
        return true;
    if (rc == ERR_NOT_FOUND)
        answer_not_found(r);
    else
        answer_err(r, rc, &err);
    return false;
}

/* ---- list, info, schema, stats */

static bool list_one(void *arg, struct stream_version *v)
{
    slice name = stream_version_name(v);
    (void)json_array_append_new(arg, json_pack("{s:s%}", "name", name.ptr, name.len));
    return true;
}

/* A stream that is out of service is there: whoever looks for it at night must not think that it was deleted. */
static bool list_damaged(void *arg, slice name, const char *why)
{
    (void)why;
    (void)json_array_append_new(arg, json_pack("{s:s%}", "name", name.ptr, name.len));
    return true;
}

void handle_streams(struct request *r)
{
    json_t *list = json_array();
    struct err err = {0};
    enum err_code rc = catalog_list(lake_catalog(r->api->lake), list_one, list, &err);

    if (rc == ERR_OK) {
        catalog_list_damaged(lake_catalog(r->api->lake), list_damaged, list);
        answer_json(r, 200, list);
        return;
    }
    json_decref(list);
    answer_err(r, rc, &err);
}

static void set_time(json_t *o, const char *key, int64_t us)
{
    char text[TIME_TEXT_MAX];
    (void)time_format_rfc3339(text, us);
    (void)json_object_set_new(o, key, json_string(text));
}

static void set_text(json_t *o, const char *key, slice s)
{
    if (s.len)
        (void)json_object_set_new(o, key, json_stringn((const char *)s.ptr, s.len));
}

static void set_json(json_t *o, const char *key, slice text, const char *otherwise)
{
    json_t *v = text.len    ? json_loadb((const char *)text.ptr, text.len, 0, NULL)
                : otherwise ? json_loads(otherwise, 0, NULL)
                            : NULL;
    if (v)
        (void)json_object_set_new(o, key, v);
}

void handle_stream_info(struct request *r)
{
    _cleanup_(stream_version_unrefp) struct stream_version *v = NULL;
    static const int64_t minute = 60000000;

    if (!find(r, &v, NULL))
        return;
    const struct stream_config *c = stream_version_config(v);
    const struct stream_stats *s = stream_version_stats(v);
    json_t *o = json_object();
    set_time(o, "createdAt", c->created_us);
    if (s->rows) {
        set_time(o, "firstEventAt", s->first_us / minute * minute);
        set_time(o, "latestEventAt", s->last_us / minute * minute);
    }
    set_text(o, "timePartitionLimit", c->time_partition_limit);
    set_text(o, "customPartition", c->custom_partition);
    if (c->static_schema)
        set_text(o, "staticSchemaFlag", slice_lit("true"));
    set_text(o, "streamType", c->internal ? slice_lit("Internal") : slice_lit("UserDefined"));
    set_json(o, "logSource", c->log_source, json_source);
    set_text(o, "telemetryType", c->telemetry_type.len ? c->telemetry_type : slice_lit("logs"));
    (void)json_object_set_new(o, "hotTierEnabled", json_boolean(c->hot_tier_bytes > 0));
    set_json(o, "datasetTags", c->tags, NULL);
    set_json(o, "datasetLabels", c->labels, NULL);
    (void)json_object_set_new(o, "inferTimestamp", json_boolean(c->infer_timestamp));
    answer_json(r, 200, o);
}

void handle_stream_schema(struct request *r)
{
    _cleanup_(stream_version_unrefp) struct stream_version *v = NULL;
    _cleanup_(schema_unrefp) struct schema *schema = NULL;

    if (!find(r, &v, &schema))
        return;
    r->answer.status = 200;
    r->answer.content_type = "application/json";
    if (schema_count(schema) <= 1 && !stream_version_config(v)->static_schema)
        buf_str(&r->answer.body, "{\"fields\":[],\"metadata\":{}}"); /* no data yet */
    else
        schema_print(schema, true, &r->answer.body);
}

static enum MHD_Result check_key(void *arg, enum MHD_ValueKind kind, const char *key, const char *value)
{
    (void)kind;
    if (strcmp(key, "date") != 0 || !value)
        *(bool *)arg = true;
    return MHD_YES;
}

static void answer_stats(struct request *r, const struct lake_stats *s)
{
    char now[TIME_TEXT_MAX + 2];
    size_t n = time_format(now, os_wall_us(os_real()));

    memcpy(now + n, "Z", 2);
    answer_json(r, 200,
                json_pack("{s:s%, s:s, s:{s:I, s:I, s:s, s:I, s:I, s:I, s:I}, s:{s:I, s:s, s:I, s:I}}", "stream",
                          r->args[0].ptr, r->args[0].len, "time", now, "ingestion", "count", (json_int_t)s->rows,
                          "size", (json_int_t)s->raw_bytes, "format", "json", "lifetime_count",
                          (json_int_t)s->lifetime_rows, "lifetime_size", (json_int_t)s->lifetime_raw_bytes,
                          "deleted_count", (json_int_t)s->deleted_rows, "deleted_size",
                          (json_int_t)s->deleted_raw_bytes, "storage", "size", (json_int_t)s->file_bytes, "format",
                          "parquet", "lifetime_size", (json_int_t)s->lifetime_file_bytes, "deleted_size",
                          (json_int_t)s->deleted_file_bytes));
}

void handle_stream_stats(struct request *r)
{
    struct lake_stats stats;
    struct err err = {0};
    bool bad = false;
    slice date = {NULL, 0};
    uint64_t day[3];
    enum err_code rc;

    (void)MHD_get_connection_values(r->conn, MHD_GET_ARGUMENT_KIND, check_key, &bad);
    if (bad) {
        answer_text(r, 400, "Invalid query parameter");
        return;
    }
    (void)request_param(r, "date", &date);
    rc = date.len ? lake_stats_day(r->api->lake, r->args[0], date, day, &err)
                  : lake_stats(r->api->lake, r->args[0], &stats, &err);
    if (rc == ERR_NOT_FOUND)
        answer_not_found(r);
    else if (rc != ERR_OK)
        answer_err(r, rc, &err);
    else if (date.len)
        answer_json(r, 200,
                    json_pack("{s:I, s:I, s:I}", "events", (json_int_t)day[0], "ingestion", (json_int_t)day[1],
                              "storage", (json_int_t)day[2]));
    else
        answer_stats(r, &stats);
}

/* ---- create, update, delete */

static slice json_of(struct request *r, json_t *v) /* takes v */
{
    char *text = json_dumps(v, JSON_COMPACT);
    slice s = arena_copy(&r->arena, slice_str(text));
    free(text);
    json_decref(v);
    return s;
}

static const char *telemetry_of_source(slice source)
{
    if (slice_eq_nocase(source, slice_lit("otel-logs")))
        return "logs";
    if (slice_eq_nocase(source, slice_lit("otel-metrics")))
        return "metrics";
    return slice_eq_nocase(source, slice_lit("otel-traces")) ? "traces" : NULL;
}

static slice telemetry_name(slice s)
{
    static const char *const names[] = {"metrics", "traces", "events"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (slice_eq_nocase(s, slice_str(names[i])))
            return slice_str(names[i]);
    return slice_lit("logs");
}

/* A comma list as a JSON array; with `known`, entries outside of it are left out. */
static slice list_of(struct request *r, slice text, const char *const *known)
{
    json_t *list = json_array();

    while (text.len) {
        const uint8_t *comma = memchr(text.ptr, ',', text.len);
        slice item = slice_head(text, comma ? (size_t)(comma - text.ptr) : text.len);
        text = slice_from(text, item.len + 1);
        item = slice_trim(item);
        bool keep = item.len > 0 && !known;
        for (size_t i = 0; known && known[i]; i++)
            keep |= slice_eq_nocase(item, slice_str(known[i]));
        if (keep && slice_eq(item, slice_lit("apm")) && known)
            item = slice_lit("a-p-m"); /* the contract's spelling in JSON */
        if (keep)
            (void)json_array_append_new(list, json_stringn((const char *)item.ptr, item.len));
    }
    if (json_array_size(list) == 0) {
        json_decref(list);
        return (slice){NULL, 0};
    }
    return json_of(r, list);
}

bool config_from_headers(struct request *r, struct stream_config *out, bool create)
{
    static const char *const tags[] = {
        "agent-observability", "k8s-observability", "database-observability", "apm", "service-map", NULL};
    slice source = request_header(r, "X-P-Log-Source"), telemetry = request_header(r, "X-P-Telemetry-Type"),
          tag = request_header(r, "X-P-Dataset-Tags");
    const char *implied = telemetry_of_source(source);

    *out = (struct stream_config){.infer_timestamp = true, .created_us = os_wall_us(os_real())};
    out->telemetry_type = implied ? slice_str(implied) : telemetry_name(telemetry);
    if (create && implied && telemetry.len && !slice_eq(telemetry_name(telemetry), out->telemetry_type)) {
        answer_text(r, 400,
                    "Header x-p-telemetry-type '" SLICE_FMT "' does not match log source '" SLICE_FMT
                    "'. Expected '%s'.",
                    SLICE_ARG(telemetry), SLICE_ARG(source), implied);
        return false;
    }
    if (create) { /* an ingest request that makes the stream leaves no tags, whatever its headers say: recorded so */
        if (!tag.ptr)
            tag = request_header(r, "X-P-Dataset-Tag");
        out->tags = list_of(r, tag, tags);
        out->labels = list_of(r, request_header(r, "X-P-Dataset-Labels"), NULL);
    }
    if (source.len && !slice_eq_nocase(source, slice_lit("json"))) {
        uint8_t *lower = arena_alloc(&r->arena, source.len);
        for (size_t i = 0; i < source.len; i++)
            lower[i] = source.ptr[i] >= 'A' && source.ptr[i] <= 'Z' ? (uint8_t)(source.ptr[i] | 32) : source.ptr[i];
        out->log_source = json_of(r, json_pack("[{s:s%, s:[]}]", "log_source_format", lower, source.len, "fields"));
    } else {
        out->log_source = slice_str(json_source);
    }
    return true;
}

/* "30d" -> "30"; false: not <positive int>d. */
static bool days_of(slice text, uint64_t *days)
{
    return text.len > 1 && text.ptr[text.len - 1] == 'd' && slice_u64(slice_head(text, text.len - 1), days) &&
           *days > 0;
}

/* Options whose faults are 500 in the contract. false: answered. */
static bool partition_options(struct request *r, struct stream_config *c)
{
    slice limit = request_header(r, "X-P-Time-Partition-Limit"), partition = request_header(r, "X-P-Custom-Partition");
    uint64_t days;

    if (limit.ptr) {
        if (!days_of(limit, &days)) {
            answer_text(r, 500, "time partition limit must be <days>d with a positive number, for example 30d");
            return false;
        }
        c->time_partition_limit = slice_str(arena_fmt(&r->arena, "%llu", (unsigned long long)days));
    }
    if (partition.ptr) {
        if (memchr(partition.ptr, ',', partition.len)) {
            answer_text(r, 500, "Maximum 1 custom partition key is supported");
            return false;
        }
        if (memchr(partition.ptr, '.', partition.len)) {
            answer_text(r, 500, "custom partition field " SLICE_FMT " should not contain '.'", SLICE_ARG(partition));
            return false;
        }
    }
    c->custom_partition = partition;
    return true;
}

static bool header_is_true(struct request *r, const char *name)
{
    return slice_eq(request_header(r, name), slice_lit("true"));
}

static void take_partitions(void *arg, struct stream_config *config)
{
    const struct stream_config *want = arg;
    config->custom_partition = want->custom_partition;
    config->time_partition_limit = want->time_partition_limit;
}

/* A setting that another node changed meanwhile stays as it is. */
static void configure(struct request *r, config_edit_fn edit, struct stream_config *want, const char *done)
{
    struct err err = {0};
    enum err_code rc = lake_configure(r->api->lake, r->args[0], edit, want, &err);

    if (rc == ERR_OK)
        answer_text(r, 200, "%s", done);
    else
        answer_err(r, rc, &err);
}

static void update(struct request *r)
{
    _cleanup_(stream_version_unrefp) struct stream_version *v = NULL;

    if (!find(r, &v, NULL))
        return;
    struct stream_config config = *stream_version_config(v);
    if (header_is_true(r, "X-P-Static-Schema-Flag")) {
        answer_text(r, 400, "Altering the schema of an existing static stream is restricted.");
        return;
    }
    if (request_header(r, "X-P-Infer-Timestamp").ptr) {
        answer_text(r, 400, "Header x-p-infer-timestamp can only be set at stream creation, not on update");
        return;
    }
    if (!partition_options(r, &config))
        return;
    configure(r, take_partitions, &config, "Log stream created"); /* the contract's words on a single node */
}

/* The static schema in the body. false: answered. */
static bool static_schema(struct request *r, struct stream_config *config, struct schema **out)
{
    struct err err = {0};

    if (!header_is_true(r, "X-P-Static-Schema-Flag"))
        return true;
    if (r->body.len == 0) {
        answer_text(r, 500, "Please provide schema in the request body for static schema logstream " SLICE_FMT,
                    SLICE_ARG(r->args[0]));
        return false;
    }
    config->static_schema = true;
    enum err_code rc = decode_static_schema(buf_view(&r->body), config->custom_partition, out, &err);
    if (rc == ERR_OK)
        return true;
    answer_text(r, rc == ERR_CORRUPT ? 500 : 400, "%s", err.msg);
    return false;
}

static bool creation_options(struct request *r, struct stream_config *config)
{
    slice infer = request_header(r, "X-P-Infer-Timestamp"), type = request_header(r, "X-P-Stream-Type");

    if (!config_from_headers(r, config, true) || !partition_options(r, config))
        return false;
    if (infer.ptr) {
        if (!slice_eq_nocase(request_header(r, "X-P-Log-Source"), slice_lit("otel-metrics"))) {
            answer_text(r, 400, "Header x-p-infer-timestamp is only for log source otel-metrics");
            return false;
        }
        config->infer_timestamp = !slice_eq(infer, slice_lit("false"));
    }
    if (type.ptr && !slice_eq(type, slice_lit("UserDefined")) && !slice_eq(type, slice_lit("Internal"))) {
        answer_text(r, 400, "x-p-stream-type is UserDefined or Internal");
        return false;
    }
    config->internal = slice_eq(type, slice_lit("Internal"));
    return true;
}

void handle_stream_put(struct request *r)
{
    _cleanup_(schema_unrefp) struct schema *schema = NULL;
    struct stream_config config;
    struct err err = {0};

    if (header_is_true(r, "X-P-Update-Stream")) {
        update(r);
        return;
    }
    enum err_code rc = stream_name_check(r->args[0], &err);
    if (rc != ERR_OK) {
        answer_err(r, rc, &err);
        return;
    }
    if (!creation_options(r, &config) || !static_schema(r, &config, &schema))
        return;
    rc = lake_create(r->api->lake, r->args[0], &config, schema, &err);
    if (rc == ERR_OK)
        answer_text(r, 200, "Log stream created");
    else if (rc == ERR_CONFLICT)
        answer_text(r, 400, "Logstream " SLICE_FMT " already exists, please create a new log stream with unique name",
                    SLICE_ARG(r->args[0]));
    else
        answer_err(r, rc, &err);
}

void handle_stream_delete(struct request *r)
{
    struct err err = {0};
    enum err_code rc = lake_drop(r->api->lake, r->args[0], &err);

    if (rc == ERR_OK)
        answer_text(r, 200, "log stream " SLICE_FMT " deleted", SLICE_ARG(r->args[0]));
    else if (rc == ERR_NOT_FOUND)
        answer_not_found(r);
    else
        answer_err(r, rc, &err);
}

void handle_detect(struct request *r)
{
    const struct decode_options opt = {.flatten_level = lake_opts(r->api->lake)->flatten_level,
                                       .rows_max = 1000000,
                                       .bytes_max = 8 * r->api->opt.body_bytes_max,
                                       .columns_max = lake_opts(r->api->lake)->columns_max,
                                       .allow_reserved = true};
    struct decoder *d = decoder_new();
    struct err err = {0};
    enum err_code rc = decode_detect(d, buf_view(&r->body), &opt, &r->answer.body, &err);

    if (rc == ERR_OK) {
        r->answer.status = 200;
        r->answer.content_type = "application/json";
    } else {
        if (rc == ERR_INVALID && decoder_malformed(d))
            (void)err_wrap(&err, "Json deserialize error");
        answer_err(r, rc, &err);
    }
    decoder_free(d);
}

/* ---- retention, hot tier */

void handle_retention_get(struct request *r)
{
    _cleanup_(stream_version_unrefp) struct stream_version *v = NULL;

    if (!find(r, &v, NULL))
        return;
    slice text = stream_version_config(v)->retention;
    r->answer.status = 200;
    r->answer.content_type = "application/json";
    buf_slice(&r->answer.body, text.len ? text : slice_lit("[]"));
}

static const char *check_retention(const json_t *list, uint32_t *days)
{
    const json_t *first = json_array_get(list, 0);
    const char *duration = json_string_value(json_object_get(first, "duration")),
               *action = json_string_value(json_object_get(first, "action"));
    uint64_t n;

    *days = 0;
    if (!json_is_array(list))
        return "expected an array of tasks";
    if (json_array_size(list) == 0)
        return NULL;
    if (json_array_size(list) > 1)
        return "Configuration contains two task both of action \"Delete\"";
    if (!json_is_string(json_object_get(first, "description")))
        return "missing field `description`";
    if (!action || strcmp(action, "delete") != 0)
        return "unknown variant of `action`, expected `delete`";
    if (!duration || !days_of(slice_str(duration), &n))
        return "`duration` must be a positive number of days, for example 20d";
    if (n > RETENTION_DAYS_MAX)
        return "retention cannot be greater than 36500 days (approx 100 years)";
    *days = (uint32_t)n;
    return NULL;
}

static void take_retention(void *arg, struct stream_config *config)
{
    const struct stream_config *want = arg;
    config->retention = want->retention;
    config->retention_days = want->retention_days;
}

void handle_retention_put(struct request *r)
{
    _cleanup_(stream_version_unrefp) struct stream_version *v = NULL;
    json_error_t fault;
    uint32_t days;

    if (!find(r, &v, NULL))
        return;
    json_t *list = json_loadb((const char *)r->body.ptr, r->body.len, JSON_REJECT_DUPLICATES, &fault);
    const char *why = list ? check_retention(list, &days) : fault.text;
    if (why) {
        answer_text(r, 400, "Json deserialize error: %s", why);
        json_decref(list);
        return;
    }
    struct stream_config config = {.retention_days = days};
    if (days)
        config.retention = json_of(r, list);
    else
        json_decref(list);
    configure(r, take_retention, &config,
              arena_fmt(&r->arena, "set retention configuration for log stream " SLICE_FMT, SLICE_ARG(r->args[0])));
}

#define HOT_TIER_BYTES_MIN (UINT64_C(10) << 30)

static void answer_hot_invalid(struct request *r, const char *why)
{
    answer_text(r, 400, "Hot tier validation failed: %s", why);
}

/* {"size":"10 GiB"}; false: answered. */
static bool hot_tier_size(struct request *r, uint64_t *bytes)
{
    json_t *o = json_loadb((const char *)r->body.ptr, r->body.len, JSON_REJECT_DUPLICATES, NULL);
    const char *size = json_string_value(json_object_get(o, "size"));
    slice text = slice_str(size), unit = slice_lit(" Bytes"); /* as GET writes it */
    struct err err = {0};

    if (slice_ends(text, unit))
        text.len -= unit.len;
    bool good = size && parse_size(text, 1, bytes, &err) == ERR_OK;

    json_decref(o);
    if (!good)
        answer_hot_invalid(r, err.msg[0] ? err.msg : "expected {\"size\": \"10 GiB\"}");
    else if (*bytes < HOT_TIER_BYTES_MIN)
        answer_hot_invalid(r, "Stream should have atleast 10.00 GiB size");
    else if (*bytes > INT64_MAX)
        answer_hot_invalid(r, "no disk is that large");
    else
        return true;
    return false;
}

static void answer_hot_tier(struct request *r, const struct stream_version *v)
{
    uint64_t bytes = stream_version_config(v)->hot_tier_bytes;
    _cleanup_(buf_done) struct buf dir = BUF_INIT;
    struct hot_usage u;

    hot_usage(lake_hot(r->api->lake),
              catalog_stream_dir(lake_catalog(r->api->lake), stream_version_name(v), stream_version_sid(v), &dir), &u);
    json_t *o = json_pack("{s:s}", "version", "v2");
    const struct {
        const char *key;
        uint64_t bytes;
    } sizes[] = {{"size", bytes}, {"used_size", u.bytes}, {"available_size", bytes - MIN(u.bytes, bytes)}};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        (void)json_object_set_new(o, sizes[i].key, json_sprintf("%llu Bytes", (unsigned long long)sizes[i].bytes));
    (void)json_object_set_new(o, "oldest_date_time_entry", json_null());
    if (u.oldest_us != INT64_MAX)
        set_time(o, "oldest_date_time_entry", u.oldest_us);
    answer_json(r, 200, o);
}

static void take_hot_tier(void *arg, struct stream_config *config)
{
    config->hot_tier_bytes = ((const struct stream_config *)arg)->hot_tier_bytes;
}

static void set_hot_tier(struct request *r, uint64_t bytes, const char *done)
{
    struct stream_config config = {.hot_tier_bytes = bytes};

    configure(r, take_hot_tier, &config,
              arena_fmt(&r->arena, "hot tier %s for stream " SLICE_FMT, done, SLICE_ARG(r->args[0])));
}

/* Contract 3.6. The setting is the stream's, for all nodes; what GET tells of the tier is this node's. */
void handle_hottier(struct request *r)
{
    _cleanup_(stream_version_unrefp) struct stream_version *v = NULL;
    uint64_t bytes = 0;

    if (!find(r, &v, NULL) || (r->method == M_PUT && !hot_tier_size(r, &bytes)))
        return;
    if (!lake_hot(r->api->lake))
        answer_text(r, 403,
                    "Hot tier is not enabled at the server config, cannot enable hot tier for stream " SLICE_FMT,
                    SLICE_ARG(r->args[0]));
    else if (r->method == M_PUT)
        set_hot_tier(r, bytes, "set");
    else if (!stream_version_config(v)->hot_tier_bytes)
        answer_text(r, 400, "Hot tier validation failed: Hot tier not found for stream " SLICE_FMT,
                    SLICE_ARG(r->args[0]));
    else if (r->method == M_GET)
        answer_hot_tier(r, v);
    else
        set_hot_tier(r, 0, "deleted");
}
