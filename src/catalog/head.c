#include "catalog/head.h"

#include <inttypes.h>
#include <stdatomic.h>

#include "base/banned.h"

struct head *head_new(slice name, const struct sid *sid)
{
    struct head *h = mem_zalloc(sizeof(*h));

    h->refs = 1;
    h->slot = SLOT_NONE;
    h->sid = *sid;
    h->name = arena_copy(&h->arena, name);
    h->next_field_id = FIELD_ID_TIME;
    return h;
}

struct head *head_ref(struct head *h)
{
    atomic_fetch_add_explicit(&h->refs, 1, memory_order_relaxed);
    return h;
}

void head_unref(struct head *h)
{
    if (!h || atomic_fetch_sub_explicit(&h->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < h->manifests_count; i++)
        manifest_unref(h->manifests[i]);
    free(h->manifests);
    for (size_t i = 0; i < h->filters_count; i++)
        filter_unref(h->filters[i]);
    free(h->filters);
    entry_list_done(&h->files);
    schema_unref(h->schema);
    json_decref(h->extra);
    free(h->wm);
    free(h->claims);
    arena_done(&h->arena);
    free(h);
}

static slice *copy_slices(struct arena *a, const slice *from, size_t n)
{
    slice *to = arena_alloc(a, (n + 1) * sizeof(*to));

    for (size_t i = 0; i < n; i++)
        to[i] = arena_copy(a, from[i]);
    return to;
}

struct head *head_copy(const struct head *h)
{
    struct head *c = head_new(h->name, &h->sid);

    c->slot = h->slot;
    c->nonce = h->nonce;
    c->dead = h->dead;
    config_copy(&c->arena, &h->config, &c->config);
    c->schema = schema_ref(h->schema);
    c->schema_id = h->schema_id;
    c->next_field_id = h->next_field_id;
    for (size_t i = 0; i < h->wm_count; i++)
        head_wm_set(c, h->wm[i].lane, h->wm[i].slot);
    for (size_t i = 0; i < h->manifests_count; i++)
        *ARRAY_PUSH(c->manifests, c->manifests_count, c->manifests_cap) = manifest_ref(h->manifests[i]);
    for (size_t i = 0; i < h->filters_count; i++)
        *ARRAY_PUSH(c->filters, c->filters_count, c->filters_cap) = filter_ref(h->filters[i]);
    for (size_t i = 0; i < h->files.count; i++)
        entry_list_add(&c->files, entry_ref(h->files.items[i]));
    for (size_t i = 0; i < h->claims_count; i++) {
        struct head_claim *k = ARRAY_PUSH(c->claims, c->claims_count, c->claims_cap);
        *k = h->claims[i];
        k->job = arena_copy(&c->arena, k->job);
        k->node = arena_copy(&c->arena, k->node);
        k->boot = arena_copy(&c->arena, k->boot);
        k->inputs = copy_slices(&c->arena, k->inputs, k->inputs_count);
    }
    c->lifetime = h->lifetime;
    c->deleted = h->deleted;
    c->extra = json_incref(h->extra);
    return c;
}

uint64_t head_wm_get(const struct head *h, slice lane)
{
    for (size_t i = 0; i < h->wm_count; i++)
        if (slice_eq(h->wm[i].lane, lane))
            return h->wm[i].slot;
    return SLOT_NONE;
}

void head_wm_set(struct head *h, slice lane, uint64_t slot)
{
    for (size_t i = 0; i < h->wm_count; i++)
        if (slice_eq(h->wm[i].lane, lane)) {
            h->wm[i].slot = MAX(h->wm[i].slot, slot);
            return;
        }
    *ARRAY_PUSH(h->wm, h->wm_count, h->wm_cap) = (struct head_wm){arena_copy(&h->arena, lane), slot};
}

/* ---- configuration */

struct config_text {
    const char *key;
    size_t at;
};
static const struct config_text config_texts[] = {
    {"custom_partition", offsetof(struct stream_config, custom_partition)},
    {"labels", offsetof(struct stream_config, labels)},
    {"log_source", offsetof(struct stream_config, log_source)},
    {"retention", offsetof(struct stream_config, retention)},
    {"tags", offsetof(struct stream_config, tags)},
    {"telemetry_type", offsetof(struct stream_config, telemetry_type)},
    {"time_partition_limit", offsetof(struct stream_config, time_partition_limit)},
};

static slice *text_in(struct stream_config *c, size_t i)
{
    return (slice *)(void *)((char *)c + config_texts[i].at);
}

static slice config_text(const struct stream_config *c, size_t i)
{
    return *(const slice *)(const void *)((const char *)c + config_texts[i].at);
}

void config_put(struct buf *out, const struct stream_config *c)
{
    struct jobject o = {0};

    for (size_t i = 0; i < ARRAY_LEN(config_texts); i++)
        if (config_text(c, i).len)
            jobject_text(&o, config_texts[i].key, config_text(c, i));
    if (c->static_schema)
        buf_str(jobject_put(&o, "static_schema"), "true");
    if (c->internal)
        buf_str(jobject_put(&o, "internal"), "true");
    if (c->infer_timestamp)
        buf_str(jobject_put(&o, "infer_timestamp"), "true");
    if (c->imported)
        buf_str(jobject_put(&o, "imported"), "true");
    jobject_int(&o, "retention_days", c->retention_days);
    if (c->hot_tier_bytes)
        jobject_int(&o, "hot_tier_bytes", (int64_t)c->hot_tier_bytes);
    jobject_int(&o, "created", c->created_us);
    jobject_end(&o, out);
}

enum err_code config_get(struct arena *a, const json_t *o, struct stream_config *out, struct err *err)
{
    struct stream_config c = {0};
    uint64_t days = 0;
    slice text;

    if (!json_is_object(o))
        return err_set(err, ERR_CORRUPT, "no stream configuration");
    for (size_t i = 0; i < ARRAY_LEN(config_texts); i++)
        if (json_get_text(o, config_texts[i].key, &text))
            *text_in(&c, i) = arena_copy(a, text);
    c.static_schema = json_get_bool(o, "static_schema");
    c.internal = json_get_bool(o, "internal");
    c.infer_timestamp = json_get_bool(o, "infer_timestamp");
    c.imported = json_get_bool(o, "imported");
    (void)json_get_u64(o, "retention_days", &days);
    (void)json_get_u64(o, "hot_tier_bytes", &c.hot_tier_bytes);
    (void)json_get_i64(o, "created", &c.created_us);
    if (days > 1000000)
        return err_set(err, ERR_CORRUPT, "retention of %" PRIu64 " days", days);
    c.retention_days = (uint32_t)days;
    *out = c;
    return ERR_OK;
}

void config_copy(struct arena *a, const struct stream_config *from, struct stream_config *to)
{
    *to = *from;
    for (size_t i = 0; i < ARRAY_LEN(config_texts); i++)
        *text_in(to, i) = arena_copy(a, config_text(from, i));
}

bool config_eq(const struct stream_config *a, const struct stream_config *b)
{
    for (size_t i = 0; i < ARRAY_LEN(config_texts); i++)
        if (!slice_eq(config_text(a, i), config_text(b, i)))
            return false;
    return a->static_schema == b->static_schema && a->internal == b->internal &&
           a->infer_timestamp == b->infer_timestamp && a->imported == b->imported &&
           a->retention_days == b->retention_days && a->created_us == b->created_us &&
           a->hot_tier_bytes == b->hot_tier_bytes;
}

/* ---- schema */

static const char *const type_names[] = {
    [TYPE_NULL] = "null",           [TYPE_BOOL] = "bool",       [TYPE_INT64] = "int64",
    [TYPE_UINT64] = "uint64",       [TYPE_FLOAT64] = "float64", [TYPE_UTF8] = "utf8",
    [TYPE_TIMESTAMP] = "timestamp", [TYPE_DATE32] = "date32",   [TYPE_LIST] = "list",
};

static bool type_parse(slice name, uint8_t *out)
{
    for (size_t i = 0; i < ARRAY_LEN(type_names); i++)
        if (slice_eq(name, slice_str(type_names[i]))) {
            *out = (uint8_t)i;
            return true;
        }
    return false;
}

static void field_put(struct buf *out, const struct field *f)
{
    buf_str(out, "{\"id\":");
    int_put(out, f->id);
    if (f->type.kind == TYPE_LIST) {
        buf_fmt(out, ",\"item\":\"%s\",\"item_id\":", type_names[f->type.item]);
        int_put(out, f->item_id);
    }
    buf_str(out, ",\"name\":");
    buf_json_str(out, f->name);
    buf_fmt(out, ",\"type\":\"%s\"}", type_names[f->type.kind]);
}

void schema_put(struct buf *out, const struct schema *s, uint32_t id, uint32_t next_field_id)
{
    buf_str(out, "{\"fields\":[");
    for (uint32_t i = 0; i < schema_count(s); i++) {
        if (i)
            buf_byte(out, ',');
        field_put(out, schema_field(s, i));
    }
    buf_fmt(out, "],\"id\":%" PRIu32 ",\"next_field_id\":%" PRIu32 "}", id, next_field_id);
}

static bool field_get(const json_t *o, struct field *out)
{
    uint64_t id, item_id = 0;
    slice type, item = slice_lit("null");

    if (!json_get_text(o, "name", &out->name) || !json_get_text(o, "type", &type) ||
        !type_parse(type, &out->type.kind) || !json_get_u64(o, "id", &id) || id == 0 || id > INT32_MAX)
        return false;
    (void)json_get_u64(o, "item_id", &item_id);
    (void)json_get_text(o, "item", &item);
    out->id = (uint32_t)id;
    out->item_id = item_id <= INT32_MAX ? (uint32_t)item_id : 0;
    return type_parse(item, &out->type.item);
}

/* One field, one id, both ways (I11). */
static bool fields_distinct(const struct field *f, size_t n, uint32_t next)
{
    struct map names = MAP_INIT;
    _cleanup_(freep) uint8_t *seen = mem_zalloc((size_t)next + 1);
    bool ok = true;

    for (size_t i = 0; i < n && ok; i++) {
        ok = map_put(&names, f[i].name, (void *)(uintptr_t)1) == NULL;
        for (int k = 0; k < 2 && ok; k++) {
            uint32_t id = k ? f[i].item_id : f[i].id;
            if (id == 0)
                continue;
            ok = id < next && !seen[id];
            if (ok)
                seen[id] = 1;
        }
    }
    map_done(&names);
    return ok;
}

/* schema_empty() starts with p_timestamp: a stored schema does too. */
enum err_code schema_get(const json_t *o, struct schema **out, uint32_t *id, uint32_t *next_field_id, struct err *err)
{
    const json_t *fields = json_object_get(o, "fields");
    size_t n = json_array_size(fields);
    uint64_t version, next;
    _cleanup_(freep) struct field *f = mem_zalloc((n + 1) * sizeof(*f));
    _cleanup_(freep) uint32_t *ids = mem_zalloc((n + 1) * 2 * sizeof(*ids));
    _cleanup_(schema_unrefp) struct schema *empty = NULL, *grown = NULL;

    if (!json_get_u64(o, "id", &version) || version > UINT32_MAX || !json_get_u64(o, "next_field_id", &next) ||
        next > 1u << 24 || n == 0 || n > 100000)
        return err_set(err, ERR_CORRUPT, "bad schema");
    for (size_t i = 0; i < n; i++) {
        if (!field_get(json_array_get(fields, i), &f[i]))
            return err_set(err, ERR_CORRUPT, "bad field %zu of a schema", i);
        ids[i] = f[i].id;
        ids[n + i] = f[i].item_id;
    }
    if (!slice_eq(f[0].name, slice_lit("p_timestamp")) || f[0].type.kind != TYPE_TIMESTAMP ||
        !fields_distinct(f, n, (uint32_t)next))
        return err_set(err, ERR_CORRUPT, "fields of a schema are not distinct");
    empty = schema_empty();
    grown = schema_grow(empty, f + 1, (uint32_t)n - 1);
    *out = schema_with_ids(grown, ids, ids + n);
    *id = (uint32_t)version;
    *next_field_id = (uint32_t)next;
    return ERR_OK;
}

struct schema *schema_number(const struct schema *s, uint32_t *next)
{
    uint32_t n = schema_count(s);
    _cleanup_(freep) uint32_t *ids = mem_zalloc(2 * n * sizeof(*ids));

    for (uint32_t i = 0; i < n; i++) {
        const struct field *f = schema_field(s, i);
        ids[i] = f->id ? f->id : (*next)++;
        if (f->type.kind == TYPE_LIST)
            ids[n + i] = f->item_id ? f->item_id : (*next)++;
    }
    return schema_with_ids(s, ids, ids + n);
}

/* ---- encode */

static void sums_put(struct buf *out, const struct head_sums *s)
{
    buf_fmt(out, "{\"bytes\":%" PRIu64 ",\"files\":%" PRIu64 ",\"raw\":%" PRIu64 ",\"rows\":%" PRIu64 "}",
            s->file_bytes, s->files, s->raw_bytes, s->rows);
}

static void claims_put(struct buf *out, const struct head *h)
{
    buf_byte(out, '[');
    for (size_t i = 0; i < h->claims_count; i++) {
        const struct head_claim *c = &h->claims[i];
        buf_str(out, i ? ",{" : "{");
        if (c->node.len) {
            buf_str(out, "\"boot\":");
            buf_json_str(out, c->boot);
            buf_byte(out, ',');
        }
        buf_fmt(out, "\"deadline\":%" PRId64 ",\"inputs\":[", c->deadline_us);
        for (size_t k = 0; k < c->inputs_count; k++) {
            if (k)
                buf_byte(out, ',');
            buf_json_str(out, c->inputs[k]);
        }
        buf_str(out, "],\"job\":");
        buf_json_str(out, c->job);
        if (c->node.len) {
            buf_str(out, ",\"node\":");
            buf_json_str(out, c->node);
        }
        buf_fmt(out, ",\"slot\":%" PRIu64 "}", c->slot);
    }
    buf_byte(out, ']');
}

static void manifests_put(struct buf *out, const struct head *h)
{
    buf_byte(out, '[');
    for (size_t i = 0; i < h->manifests_count; i++) {
        const struct manifest *m = h->manifests[i];
        buf_fmt(out,
                "%s{\"bytes\":%" PRIu64 ",\"count\":%" PRIu64 ",\"crc32c\":%" PRIu32 ",\"len\":%" PRIu64 ",\"path\":",
                i ? "," : "", m->bytes, m->count, m->crc32c, m->bytes_len);
        buf_json_str(out, m->path);
        buf_fmt(out, ",\"raw\":%" PRIu64 ",\"rows\":%" PRIu64 ",\"tmax\":%" PRId64 ",\"tmin\":%" PRId64 "}",
                m->raw_bytes, m->rows, m->tmax_us, m->tmin_us);
    }
    buf_byte(out, ']');
}

static void filters_put(struct buf *out, const struct head *h)
{
    buf_byte(out, '[');
    for (size_t i = 0; i < h->filters_count; i++) {
        const struct filter *f = h->filters[i];
        buf_fmt(out, "%s{\"count\":%" PRIu64 ",\"crc32c\":%" PRIu32 ",\"fields\":[", i ? "," : "", f->count, f->crc32c);
        for (uint32_t k = 0; k < f->fields_count; k++)
            buf_fmt(out, "%s%" PRIu32, k ? "," : "", f->fields[k]);
        buf_fmt(out, "],\"header\":%" PRIu32 ",\"len\":%" PRIu64 ",\"path\":", f->header_len, f->bytes_len);
        buf_json_str(out, f->path);
        buf_fmt(out, ",\"tmax\":%" PRId64 ",\"tmin\":%" PRId64 "}", f->tmax_us, f->tmin_us);
    }
    buf_byte(out, ']');
}

static void wm_put(struct buf *out, const struct head *h)
{
    struct jobject o = {0};

    for (size_t i = 0; i < h->wm_count; i++) {
        struct jmember *m = ARRAY_PUSH(o.items, o.count, o.cap);
        m->key = h->wm[i].lane;
        int_put(&m->value, (int64_t)h->wm[i].slot);
    }
    jobject_end(&o, out);
}

static const char *const known[] = {"claims",    "config", "deleted", "files", "filters", "lifetime",
                                    "manifests", "name",   "schema",  "sid",   "state",   "wm"};

void head_encode(const struct head *h, struct buf *out)
{
    struct jobject o = {0};
    const char *key;
    json_t *value;

    json_object_foreach (h->extra, key, value)
        json_put(jobject_put(&o, key), value);
    jobject_text(&o, "name", h->name);
    jobject_text(&o, "sid", sid_slice(&h->sid));
    jobject_text(&o, "state", h->dead ? slice_lit("dead") : slice_lit("live"));
    config_put(jobject_put(&o, "config"), &h->config);
    schema_put(jobject_put(&o, "schema"), h->schema, h->schema_id, h->next_field_id);
    sums_put(jobject_put(&o, "lifetime"), &h->lifetime);
    sums_put(jobject_put(&o, "deleted"), &h->deleted);
    wm_put(jobject_put(&o, "wm"), h);
    manifests_put(jobject_put(&o, "manifests"), h);
    if (h->filters_count)
        filters_put(jobject_put(&o, "filters"), h);
    claims_put(jobject_put(&o, "claims"), h);
    struct buf *files = jobject_put(&o, "files");
    buf_byte(files, '[');
    for (size_t i = 0; i < h->files.count; i++) {
        if (i)
            buf_byte(files, ',');
        entry_put(files, h->files.items[i], NULL, (slice){0});
    }
    buf_byte(files, ']');
    jobject_end(&o, out);
}

/* ---- decode */

static void sums_get(const json_t *o, struct head_sums *s)
{
    (void)json_get_u64(o, "rows", &s->rows); /* an absent number is 0 */
    (void)json_get_u64(o, "raw", &s->raw_bytes);
    (void)json_get_u64(o, "bytes", &s->file_bytes);
    (void)json_get_u64(o, "files", &s->files);
}

static struct manifest *manifest_known(const struct head *old, slice path, uint32_t crc)
{
    for (size_t i = 0; old && i < old->manifests_count; i++)
        if (slice_eq(old->manifests[i]->path, path) && old->manifests[i]->crc32c == crc)
            return manifest_ref(old->manifests[i]);
    return NULL;
}

static enum err_code manifests_get(struct head *h, const json_t *list, const struct head *old, struct err *err)
{
    uint64_t bytes, count, crc, len, raw, rows, slot;
    int64_t tmax, tmin;
    slice path;
    json_t *o;
    size_t i;

    json_array_foreach (list, i, o) {
        if (!json_get_text(o, "path", &path) || !slice_starts(path, slice_lit("_meta/")) ||
            !manifest_name_parse(slice_from(path, 6), &slot) || !json_get_u64(o, "bytes", &bytes) ||
            !json_get_u64(o, "count", &count) || !json_get_u64(o, "crc32c", &crc) || crc > UINT32_MAX ||
            !json_get_u64(o, "len", &len) || !json_get_u64(o, "raw", &raw) || !json_get_u64(o, "rows", &rows) ||
            !json_get_i64(o, "tmax", &tmax) || !json_get_i64(o, "tmin", &tmin) || count == 0 ||
            count > MANIFEST_FILES_MAX)
            return err_set(err, ERR_CORRUPT, "bad manifest reference %zu", i);
        struct manifest *m = manifest_known(old, path, (uint32_t)crc);
        *ARRAY_PUSH(h->manifests, h->manifests_count, h->manifests_cap) =
            m ? m : manifest_new(path, (uint32_t)crc, len, rows, bytes, raw, count, tmin, tmax);
    }
    return ERR_OK;
}

static struct filter *filter_known(const struct head *old, slice path, uint32_t crc)
{
    for (size_t i = 0; old && i < old->filters_count; i++)
        if (slice_eq(old->filters[i]->path, path) && old->filters[i]->crc32c == crc)
            return filter_ref(old->filters[i]);
    return NULL;
}

static bool filter_fields_get(const json_t *list, struct filter *f)
{
    json_t *id;
    size_t i;

    if (!json_is_array(list) || json_array_size(list) > FILTER_FIELDS_MAX)
        return false;
    f->fields_count = 0;
    json_array_foreach (list, i, id) {
        if (!json_is_integer(id) || json_integer_value(id) <= 0 || json_integer_value(id) > INT32_MAX)
            return false;
        f->fields[f->fields_count++] = (uint32_t)json_integer_value(id);
    }
    return true;
}

static bool named_before(const struct head *h, const struct filter *f)
{
    size_t n = 0;

    for (size_t i = 0; i < h->filters_count; i++)
        n += slice_eq(h->filters[i]->path, f->path);
    return n > 1;
}

static enum err_code filters_get(struct head *h, const json_t *list, const struct head *old, struct err *err)
{
    uint64_t count, crc, header, len, slot;
    int64_t tmax, tmin;
    slice path;
    json_t *o;
    size_t i;

    json_array_foreach (list, i, o) {
        if (!json_get_text(o, "path", &path) || !slice_starts(path, slice_lit("_meta/")) ||
            !filter_name_parse(slice_from(path, 6), &slot) || !json_get_u64(o, "count", &count) ||
            !json_get_u64(o, "crc32c", &crc) || crc > UINT32_MAX || !json_get_u64(o, "header", &header) ||
            !json_get_u64(o, "len", &len) || header > MIN(len, FILTER_HEADER_MAX) || !json_get_i64(o, "tmax", &tmax) ||
            !json_get_i64(o, "tmin", &tmin) || count == 0 || count > FILTER_FILES_MAX)
            return err_set(err, ERR_CORRUPT, "bad reference %zu to filters", i);
        struct filter *f = filter_known(old, path, (uint32_t)crc);
        bool fresh = !f;
        if (fresh)
            f = filter_new(path, (uint32_t)crc, len, (uint32_t)header, count, tmin, tmax);
        *ARRAY_PUSH(h->filters, h->filters_count, h->filters_cap) = f;
        if ((fresh && !filter_fields_get(json_object_get(o, "fields"), f)) || named_before(h, f))
            return err_set(err, ERR_CORRUPT, "bad columns of filters %zu, or twice", i);
    }
    return ERR_OK;
}

static enum err_code claims_get(struct head *h, const json_t *list, struct err *err)
{
    json_t *o, *input;
    size_t i, k;

    json_array_foreach (list, i, o) {
        struct head_claim c = {0};
        slice job, node = {0}, boot = {0};
        const json_t *inputs = json_object_get(o, "inputs");
        if (!json_get_text(o, "job", &job) || !json_get_u64(o, "slot", &c.slot) ||
            !json_get_i64(o, "deadline", &c.deadline_us) || !json_is_array(inputs))
            return err_set(err, ERR_CORRUPT, "bad claim %zu", i);
        (void)json_get_text(o, "node", &node);
        (void)json_get_text(o, "boot", &boot);
        c.job = arena_copy(&h->arena, job);
        c.node = arena_copy(&h->arena, node);
        c.boot = arena_copy(&h->arena, boot);
        c.inputs = arena_zalloc(&h->arena, (json_array_size(inputs) + 1) * sizeof(slice));
        json_array_foreach (inputs, k, input) {
            if (!json_is_string(input))
                return err_set(err, ERR_CORRUPT, "bad input of claim %zu", i);
            c.inputs[c.inputs_count++] =
                arena_copy(&h->arena, slice_of(json_string_value(input), json_string_length(input)));
        }
        *ARRAY_PUSH(h->claims, h->claims_count, h->claims_cap) = c;
    }
    return ERR_OK;
}

static enum err_code wm_get(struct head *h, json_t *o, struct err *err)
{
    const char *key;
    json_t *v;

    json_object_foreach (o, key, v) {
        if (!lane_valid(slice_str(key)) || !json_is_integer(v) || json_integer_value(v) < 0)
            return err_set(err, ERR_CORRUPT, "bad watermark");
        head_wm_set(h, slice_str(key), (uint64_t)json_integer_value(v));
    }
    return ERR_OK;
}

static void extra_get(struct head *h, json_t *body)
{
    const char *key;
    json_t *v;

    json_object_foreach (body, key, v) {
        bool mine = false;
        for (size_t i = 0; i < ARRAY_LEN(known); i++)
            mine |= slice_eq(slice_str(key), slice_str(known[i]));
        if (mine)
            continue;
        if (!h->extra)
            h->extra = json_object();
        (void)json_object_set(h->extra, key, v); /* fails only for want of memory or an invalid key, and it was one */
    }
}

static enum err_code files_get(struct head *h, const json_t *list, struct err *err)
{
    struct entry *e;
    json_t *o;
    size_t i;

    json_array_foreach (list, i, o) {
        TRY(entry_get(o, &e, err));
        entry_list_add(&h->files, e);
    }
    return ERR_OK;
}

enum err_code head_decode(const struct slot *s, const struct head *old, struct head **out, struct err *err)
{
    slice name, sid_text, state;
    struct sid sid;

    if (!json_get_text(s->body, "name", &name) || !json_get_text(s->body, "sid", &sid_text) ||
        !sid_parse(sid_text, &sid) || !json_get_text(s->body, "state", &state))
        return err_set(err, ERR_CORRUPT, "head without name, sid or state");
    _cleanup_(head_unrefp) struct head *h = head_new(name, &sid);
    h->slot = s->seq;
    h->nonce = s->nonce;
    h->dead = !slice_eq(state, slice_lit("live"));
    TRY(config_get(&h->arena, json_object_get(s->body, "config"), &h->config, err));
    TRY(schema_get(json_object_get(s->body, "schema"), &h->schema, &h->schema_id, &h->next_field_id, err));
    sums_get(json_object_get(s->body, "lifetime"), &h->lifetime);
    sums_get(json_object_get(s->body, "deleted"), &h->deleted);
    TRY(wm_get(h, json_object_get(s->body, "wm"), err));
    TRY(manifests_get(h, json_object_get(s->body, "manifests"), old, err));
    TRY(filters_get(h, json_object_get(s->body, "filters"), old, err));
    TRY(claims_get(h, json_object_get(s->body, "claims"), err));
    TRY(files_get(h, json_object_get(s->body, "files"), err));
    extra_get(h, s->body);
    *out = move_ptr(h);
    return ERR_OK;
}
