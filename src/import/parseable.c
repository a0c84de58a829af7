#include "import/parseable.h"

#include "base/timetext.h"
#include "codec/compress.h"
#include "codec/json_dom.h"
#include "store/store.h"

#include "base/banned.h"

#define RETENTION_DAYS_MAX 36500u
#define FORMAT_MAX 8u
#define NAME_BYTES_MAX 1024u

static const struct json_value *member(const struct json_value *o, const char *key, enum dom_kind kind)
{
    const struct json_value *v = o ? json_dom_get(o, key) : NULL;
    return v && v->kind == kind ? v : NULL;
}

static slice text_at(const struct json_value *o, const char *key)
{
    const struct json_value *v = member(o, key, DOM_STRING);
    return v ? v->string : (slice){NULL, 0};
}

static uint64_t count_of(const struct json_value *o, const char *key)
{
    const struct json_value *v = member(o, key, DOM_NUMBER);

    if (v && v->num.kind == JSON_INT && v->num.i > 0)
        return (uint64_t)v->num.i;
    return v && v->num.kind == JSON_UINT ? v->num.u : 0;
}

static bool truth_of(const struct json_value *o, const char *key, bool otherwise)
{
    const struct json_value *v = json_dom_get(o, key);

    if (v && v->kind == DOM_STRING)
        return slice_eq(v->string, slice_lit("true"));
    return v && v->kind == DOM_BOOL ? v->truth : otherwise;
}

static enum err_code parse_object(slice json, struct arena *a, struct json_value *out, struct err *err)
{
    if (json_dom_parse(json, a, out, err) != ERR_OK)
        return ERR_INVALID;
    return out->kind == DOM_OBJECT ? ERR_OK : err_set(err, ERR_INVALID, "it is no JSON object");
}

/* ---- .stream.json */

/* The format is told by `objectstore-format`; the oldest have only a `version`. */
static enum err_code check_format(const struct json_value *o, struct err *err)
{
    slice format = text_at(o, "objectstore-format");
    uint64_t n;

    if (!format.len)
        format = text_at(o, "version");
    if (format.len < 2 || format.ptr[0] != 'v' || !slice_u64(slice_from(format, 1), &n) || n == 0)
        return err_set(err, ERR_INVALID, "it is no metadata of a stream: no version");
    if (n > FORMAT_MAX)
        return err_set(err, ERR_INVALID, "its format is " SLICE_FMT ", and v1 to v%u are known",
                       SLICE_ARG(slice_head(format, 20)), FORMAT_MAX);
    return ERR_OK;
}

/* "30d" or "30", or a number -> days; 0: none. */
static uint64_t days_of(const struct json_value *v)
{
    uint64_t n = 0;

    if (v && v->kind == DOM_STRING) {
        slice s = v->string;
        if (s.len && s.ptr[s.len - 1] == 'd')
            s = slice_head(s, s.len - 1);
        if (!slice_u64(s, &n))
            n = 0;
    } else if (v && v->kind == DOM_NUMBER && v->num.kind == JSON_INT && v->num.i > 0) {
        n = (uint64_t)v->num.i;
    }
    return n <= RETENTION_DAYS_MAX ? n : 0;
}

static slice list_text(struct arena *a, const struct json_value *o, const char *key)
{
    const struct json_value *v = member(o, key, DOM_ARRAY);
    return v && v->count ? arena_copy(a, v->raw) : (slice){NULL, 0};
}

static void read_retention(const struct json_value *o, struct arena *a, struct stream_config *c)
{
    const struct json_value *list = member(o, "retention", DOM_ARRAY);

    if (!list || list->count != 1 || list->items[0].kind != DOM_OBJECT)
        return;
    c->retention_days = (uint32_t)days_of(json_dom_get(&list->items[0], "duration"));
    if (c->retention_days)
        c->retention = arena_copy(a, list->raw);
}

/* A list of {log_source_format, fields}; up to v5 one name. */
static void read_log_source(const struct json_value *o, struct arena *a, struct stream_config *c)
{
    slice one = text_at(o, "log_source");

    c->log_source = list_text(a, o, "log_source");
    if (!c->log_source.len) {
        struct buf b = BUF_INIT;
        buf_str(&b, "[{\"log_source_format\":");
        buf_json_str(&b, one.len ? one : slice_lit("json"));
        buf_str(&b, ",\"fields\":[]}]");
        c->log_source = arena_copy(a, buf_view(&b));
        buf_done(&b);
    }
}

static uint64_t sum(uint64_t a, uint64_t b)
{
    uint64_t r;
    return __builtin_add_overflow(a, b, &r) ? UINT64_MAX : r;
}

static void read_counts(const struct json_value *o, struct parseable_stream *out)
{
    const struct json_value *list = member(json_dom_get(o, "snapshot"), "manifest_list", DOM_ARRAY);

    for (uint32_t i = 0; list && i < list->count; i++) {
        out->events = sum(out->events, count_of(&list->items[i], "events_ingested"));
        out->ingestion_bytes = sum(out->ingestion_bytes, count_of(&list->items[i], "ingestion_size"));
    }
}

enum err_code parseable_metadata(slice json, slice name, struct arena *a, struct parseable_stream *out, struct err *err)
{
    struct json_value o;
    struct parseable_stream s = {.config = {.telemetry_type = slice_lit("logs")}};
    struct stream_config *c = &s.config;

    TRY(parse_object(json, a, &o, err));
    TRY(check_format(&o, err));
    slice partition = text_at(&o, "custom_partition"), type = text_at(&o, "stream_type"),
          telemetry = text_at(&o, "telemetry_type");
    uint64_t days = days_of(json_dom_get(&o, "time_partition_limit"));
    bool odd =
        partition.len && (memchr(partition.ptr, ',', partition.len) || memchr(partition.ptr, '.', partition.len));

    *(odd ? &s.left_out : &c->custom_partition) = arena_copy(a, partition);
    s.time_partition = arena_copy(a, text_at(&o, "time_partition"));
    if (days)
        c->time_partition_limit = slice_str(arena_fmt(a, "%llu", (unsigned long long)days));
    c->static_schema = truth_of(&o, "static_schema_flag", false);
    c->infer_timestamp = truth_of(&o, "infer_timestamp", true);
    c->internal = slice_eq(type, slice_lit("Internal")) || (!type.len && slice_eq(name, slice_lit("pmeta")));
    if (telemetry.len && telemetry.len <= NAME_BYTES_MAX)
        c->telemetry_type = arena_copy(a, telemetry);
    c->tags = list_text(a, &o, "dataset_tags");
    c->labels = list_text(a, &o, "dataset_labels");
    read_retention(&o, a, c);
    read_log_source(&o, a, c);
    if (!time_parse_rfc3339(text_at(&o, "created-at"), false, &c->created_us))
        c->created_us = 0;
    read_counts(&o, &s);
    *out = s;
    return ERR_OK;
}

/* ---- .schema: Arrow's, as JSON */

static bool scalar(slice name, uint8_t *kind)
{
    static const struct {
        const char *name;
        uint8_t kind;
    } kinds[] = {
        {"Boolean", TYPE_BOOL},  {"Int8", TYPE_INT64},      {"Int16", TYPE_INT64},     {"Int32", TYPE_INT64},
        {"Int64", TYPE_INT64},   {"UInt8", TYPE_INT64},     {"UInt16", TYPE_INT64},    {"UInt32", TYPE_INT64},
        {"UInt64", TYPE_UINT64}, {"Float16", TYPE_FLOAT64}, {"Float32", TYPE_FLOAT64}, {"Float64", TYPE_FLOAT64},
        {"Utf8", TYPE_UTF8},     {"LargeUtf8", TYPE_UTF8},  {"Utf8View", TYPE_UTF8},   {"Date32", TYPE_DATE32}};

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (slice_eq(name, slice_str(kinds[i].name))) {
            *kind = kinds[i].kind;
            return true;
        }
    return false;
}

static bool item_type(const struct json_value *v, uint8_t *kind)
{
    if (v && v->kind == DOM_STRING)
        return scalar(v->string, kind);
    *kind = TYPE_TIMESTAMP;
    return v && member(v, "Timestamp", DOM_ARRAY);
}

static bool type_of(const struct json_value *v, struct type *out)
{
    const struct json_value *list = v ? json_dom_get(v, "List") : NULL;

    *out = (struct type){TYPE_NULL, TYPE_NULL};
    if (list) {
        out->kind = TYPE_LIST;
        return item_type(json_dom_get(list, "data_type"), &out->item);
    }
    return item_type(v, &out->kind);
}

struct fields {
    struct field *items;
    size_t count, cap;
    struct map seen;
};

static void fields_done(struct fields *f)
{
    free(f->items);
    map_done(&f->seen);
}

static void take_fields(const struct json_value *list, struct fields *out)
{
    for (uint32_t i = 0; i < list->count; i++) {
        slice name = text_at(&list->items[i], "name");
        struct type type;
        if (!name.ptr || name.len > NAME_BYTES_MAX || memchr(name.ptr, 0, name.len) ||
            slice_eq(name, slice_lit("p_timestamp")) || !type_of(json_dom_get(&list->items[i], "data_type"), &type) ||
            map_get(&out->seen, name))
            continue;
        (void)map_put(&out->seen, name, out);
        *ARRAY_PUSH(out->items, out->count, out->cap) = (struct field){.name = name, .type = type};
    }
}

enum err_code parseable_schema(slice json, struct schema **out, struct err *err)
{
    _cleanup_(schema_unrefp) struct schema *empty = schema_empty();
    _cleanup_(arena_done) struct arena a = ARENA_INIT;
    _cleanup_(fields_done) struct fields f = {0};
    struct json_value o;

    TRY(parse_object(json, &a, &o, err));
    const struct json_value *list = member(&o, "fields", DOM_ARRAY);
    if (list)
        take_fields(list, &f);
    for (uint32_t i = 0; !list && i < o.count; i++) { /* v2: schemas by their hash */
        const struct json_value *one = member(&o.members[i].value, "fields", DOM_ARRAY);
        if (one)
            take_fields(one, &f);
    }
    if (f.count == 0 && !list)
        return err_set(err, ERR_INVALID, "it is no schema: no fields");
    *out = schema_grow(empty, f.items, (uint32_t)f.count);
    return ERR_OK;
}

/* ---- manifests */

bool parseable_path_valid(slice path)
{
    int64_t days;

    return path.len > 16 && slice_starts(path, slice_lit("date=")) && path.ptr[15] == '/' &&
           time_parse_date(slice_of(path.ptr + 5, 10), &days) && slice_ends(path, slice_lit(".parquet")) &&
           store_key_valid(path) && utf8_valid(path);
}

/* ".../<stream>/date=..." -> "date=..."; empty: it is none of this stream. */
static slice path_below(slice told, slice stream)
{
    const slice mark = slice_lit("/date=");

    for (size_t i = stream.len; i + mark.len <= told.len; i++) {
        if (!slice_starts(slice_from(told, i), mark) ||
            !slice_eq(slice_of(told.ptr + i - stream.len, stream.len), stream) ||
            (i > stream.len && told.ptr[i - stream.len - 1] != '/'))
            continue;
        slice path = slice_from(told, i + 1);
        return parseable_path_valid(path) ? path : (slice){NULL, 0};
    }
    return (slice){NULL, 0};
}

static enum err_code unpack(slice bytes, struct buf *out, struct err *err)
{
    static const uint8_t magic[] = {0x28, 0xb5, 0x2f, 0xfd}; /* RFC 8878 section 3.1.1 */

    if (bytes.len > PARSEABLE_OBJECT_BYTES_MAX)
        return err_set(err, ERR_INVALID, "it is larger than %llu bytes",
                       (unsigned long long)PARSEABLE_OBJECT_BYTES_MAX);
    if (bytes.len < sizeof(magic) || memcmp(bytes.ptr, magic, sizeof(magic)) != 0) {
        buf_slice(out, bytes);
        return ERR_OK;
    }
    enum err_code rc = decompress(CODING_ZSTD, bytes, PARSEABLE_OBJECT_BYTES_MAX, out, err);
    return rc == ERR_OK ? ERR_OK : err_set(err, ERR_INVALID, "its zstd frame is damaged or too large");
}

enum err_code parseable_manifest(slice bytes, slice stream, struct arena *a, struct parseable_file **out, size_t *count,
                                 struct err *err)
{
    _cleanup_(arena_done) struct arena tree = ARENA_INIT;
    _cleanup_(buf_done) struct buf json = BUF_INIT;
    struct json_value o;

    TRY(unpack(bytes, &json, err));
    TRY(parse_object(buf_view(&json), &tree, &o, err));
    const struct json_value *list = member(&o, "files", DOM_ARRAY);
    if (!list)
        return err_set(err, ERR_INVALID, "it is no manifest: no files");
    struct parseable_file *files = arena_zalloc(a, (list->count + 1) * sizeof(*files));
    for (uint32_t i = 0; i < list->count; i++) {
        files[i].told = arena_copy(a, text_at(&list->items[i], "file_path"));
        files[i].path = path_below(files[i].told, stream);
        files[i].raw_bytes = count_of(&list->items[i], "ingestion_size");
    }
    *out = files;
    *count = list->count;
    return ERR_OK;
}

/* ---- .parseable.json */

slice parseable_deployment(slice json, struct arena *a)
{
    struct json_value o;
    struct err err;

    if (parse_object(json, a, &o, &err) != ERR_OK)
        return (slice){NULL, 0};
    slice id = text_at(&o, "deployment_id");
    return id.len <= 64 ? arena_copy(a, id) : (slice){NULL, 0};
}
