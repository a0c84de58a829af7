#include "import/survey.h"

#include "base/map.h"

#include "base/banned.h"

#define STREAMS_MAX 100000u
#define WHY_UNLISTED "no manifest names it: Parseable does not show its rows"

void source_stream_done(struct source_stream *s)
{
    schema_unref(s->schema);
    free(s->files);
    free(s->others);
    arena_done(&s->arena);
    *s = (struct source_stream){0};
}

static enum err_code read_object(struct store *source, slice key, struct buf *out, struct err *err)
{
    struct store_meta meta;

    TRY(source->ops->stat(source, key, &meta, err));
    if (meta.size > PARSEABLE_OBJECT_BYTES_MAX)
        return err_set(err, ERR_INVALID, "it is larger than %llu bytes",
                       (unsigned long long)PARSEABLE_OBJECT_BYTES_MAX);
    return source->ops->read(source, key, 0, PARSEABLE_OBJECT_BYTES_MAX, out, NULL, err);
}

/* ---- streams */

struct names {
    struct arena *arena;
    slice *items;
    size_t count, cap;
};

static bool name_item(void *arg, const struct store_list_item *item)
{
    struct names *n = arg;

    if (item->is_prefix && item->key.len > 1 && item->key.ptr[0] != '.')
        *ARRAY_PUSH(n->items, n->count, n->cap) = arena_copy(n->arena, slice_head(item->key, item->key.len - 1));
    return n->count < STREAMS_MAX;
}

static bool metadata_item(void *arg, const struct store_list_item *item)
{
    *(bool *)arg |= slice_ends(item->key, slice_lit("stream.json"));
    return !*(bool *)arg;
}

static int by_text(const void *a, const void *b)
{
    return slice_cmp(*(const slice *)a, *(const slice *)b);
}

/* A folder is a stream when something that ends in "stream.json" lies in its .stream folder, or, as of old, in itself. */
enum err_code survey_streams(struct store *source, struct arena *a, slice **out, size_t *count, struct err *err)
{
    struct names n = {.arena = a};
    size_t kept = 0;

    enum err_code rc = source->ops->list(source, slice_lit(""), slice_lit(""), true, name_item, &n, err);
    for (size_t i = 0; rc == ERR_OK && i < n.count; i++) {
        _cleanup_(buf_done) struct buf prefix = BUF_INIT;
        bool is = false;
        buf_slice(&prefix, n.items[i]);
        buf_str(&prefix, "/.stream");
        rc = source->ops->list(source, buf_view(&prefix), slice_lit(""), false, metadata_item, &is, err);
        if (rc == ERR_OK && is)
            n.items[kept++] = n.items[i];
    }
    *out = arena_alloc(a, (kept + 1) * sizeof(**out));
    if (kept)
        memcpy(*out, n.items, kept * sizeof(**out));
    free(n.items);
    if (kept)
        qsort(*out, kept, sizeof(**out), by_text);
    *count = kept;
    return rc;
}

enum err_code survey_deployment(struct store *source, struct arena *a, slice *out, struct err *err)
{
    _cleanup_(buf_done) struct buf bytes = BUF_INIT;

    *out = slice_lit("");
    enum err_code rc = read_object(source, slice_lit(".parseable/.parseable.json"), &bytes, err);
    if (rc == ERR_OK)
        *out = parseable_deployment(buf_view(&bytes), a);
    return rc == ERR_NOT_FOUND || rc == ERR_INVALID ? ERR_OK : rc;
}

/* ---- one stream */

struct survey {
    struct store *source;
    struct source_stream *s;
    void (*skip)(void *arg, slice stream, slice path, const char *why);
    void *arg;
    slice *manifests;
    size_t manifests_count, manifests_cap;
    struct source_file *found; /* Parquet files, as listed */
    size_t found_count, found_cap;
    struct map by_path; /* -> index in found + 1 */
    struct map named;   /* paths of files that are taken or skipped */
    struct map days;    /* "date=..." that have a manifest */
};

static void survey_done(struct survey *v)
{
    free(v->manifests);
    free(v->found);
    map_done(&v->by_path);
    map_done(&v->named);
    map_done(&v->days);
}

static void skip(struct survey *v, slice path, const char *why)
{
    v->s->whole = false;
    v->skip(v->arg, v->s->name, path, why);
}

static bool meta_item(void *arg, const struct store_list_item *item)
{
    struct source_stream *s = ((struct survey *)arg)->s;

    *ARRAY_PUSH(s->others, s->others_count, s->others_cap) = arena_copy(&s->arena, item->key);
    return true;
}

static bool data_item(void *arg, const struct store_list_item *item)
{
    struct survey *v = arg;
    struct source_stream *s = v->s;
    slice key = arena_copy(&s->arena, item->key), path = slice_from(key, s->name.len + 1);

    if (slice_ends(key, slice_lit("manifest.json"))) {
        *ARRAY_PUSH(v->manifests, v->manifests_count, v->manifests_cap) = key;
        *ARRAY_PUSH(s->others, s->others_count, s->others_cap) = key;
    } else if (parseable_path_valid(path)) {
        *ARRAY_PUSH(v->found, v->found_count, v->found_cap) =
            (struct source_file){.path = path, .key = key, .bytes = item->meta.size};
    }
    return true;
}

static enum err_code list_all(struct survey *v, struct err *err)
{
    _cleanup_(buf_done) struct buf prefix = BUF_INIT;
    struct store *source = v->source;

    buf_slice(&prefix, v->s->name);
    buf_str(&prefix, "/.s"); /* .stream/..., .stream.json, .schema */
    TRY(source->ops->list(source, buf_view(&prefix), slice_lit(""), false, meta_item, v, err));
    prefix.len = v->s->name.len;
    buf_str(&prefix, "/date=");
    TRY(source->ops->list(source, buf_view(&prefix), slice_lit(""), false, data_item, v, err));
    for (size_t i = 0; i < v->found_count; i++)
        (void)map_put(&v->by_path, v->found[i].path, (void *)(uintptr_t)(i + 1));
    return ERR_OK;
}

/* The querier's own copy, or else any ingestor's. */
static enum err_code read_metadata(struct survey *v, struct err *err)
{
    struct source_stream *s = v->s;
    slice best = {NULL, 0};

    for (size_t i = 0; i < s->others_count; i++) {
        slice key = s->others[i];
        if (slice_ends(key, slice_lit("stream.json")) && (!best.ptr || slice_ends(key, slice_lit("/.stream.json"))))
            best = key;
    }
    if (!best.ptr)
        return err_set(err, ERR_INVALID, "it has no metadata");
    _cleanup_(buf_done) struct buf bytes = BUF_INIT;
    enum err_code rc = read_object(v->source, best, &bytes, err);
    if (rc == ERR_OK)
        rc = parseable_metadata(buf_view(&bytes), s->name, &s->arena, &s->meta, err);
    return rc == ERR_OK ? ERR_OK : err_wrap(err, SLICE_FMT, SLICE_ARG(best));
}

/* Each writer has its own copy: what one lacks another may have. The first to name a field gives its type. */
static enum err_code read_schemas(struct survey *v, struct err *err)
{
    struct source_stream *s = v->s;

    for (size_t i = 0; i < s->others_count; i++) {
        _cleanup_(buf_done) struct buf bytes = BUF_INIT;
        _cleanup_(schema_unrefp) struct schema *more = NULL;
        if (!slice_ends(s->others[i], slice_lit(".schema")))
            continue;
        enum err_code rc = read_object(v->source, s->others[i], &bytes, err);
        if (rc == ERR_OK)
            rc = parseable_schema(buf_view(&bytes), &more, err);
        if (rc == ERR_INVALID) {
            skip(v, slice_from(s->others[i], s->name.len + 1), arena_str(&s->arena, slice_str(err->msg)));
            continue;
        }
        TRY(rc);
        if (!s->schema)
            s->schema = schema_empty();
        for (uint32_t k = 0; k < schema_count(more); k++) {
            const struct field *f = schema_field(more, k);
            if (schema_find(s->schema, f->name) != FIELD_NONE)
                continue;
            struct schema *grown = schema_grow(s->schema, f, 1);
            schema_unref(s->schema);
            s->schema = grown;
        }
    }
    return ERR_OK;
}

/* A custom partition's value is percent-encoded in the paths of some stores, and plain in their manifests. */
static slice encoded(struct survey *v, slice path)
{
    struct buf b = BUF_INIT;

    for (size_t i = 0; i < path.len; i++) {
        uint8_t c = path.ptr[i];
        if (c <= 0x20 || c >= 0x7f || memchr("%<>\"`{}|\\^[]~#?*", c, 16))
            buf_fmt(&b, "%%%02X", c);
        else
            buf_byte(&b, c);
    }
    slice copy = arena_copy(&v->s->arena, buf_view(&b));
    buf_done(&b);
    return copy;
}

static void take_file(struct survey *v, const struct parseable_file *f)
{
    uintptr_t at = (uintptr_t)map_get(&v->by_path, f->path);

    if (f->path.len == 0) {
        skip(v, f->told, "a manifest names it, and it is no path of this stream");
        return;
    }
    if (!at)
        at = (uintptr_t)map_get(&v->by_path, encoded(v, f->path));
    slice path = at ? v->found[at - 1].path : f->path;
    if (map_put(&v->named, path, v)) /* a duplicate */
        return;
    if (!at) {
        skip(v, path, "a manifest names it, and it is not there");
        return;
    }
    struct source_file *out = ARRAY_PUSH(v->s->files, v->s->files_count, v->s->files_cap);
    *out = v->found[at - 1];
    out->raw_bytes = f->raw_bytes;
}

static enum err_code read_manifests(struct survey *v, struct err *err)
{
    for (size_t i = 0; i < v->manifests_count; i++) {
        _cleanup_(buf_done) struct buf bytes = BUF_INIT;
        slice key = v->manifests[i], path = slice_from(key, v->s->name.len + 1);
        struct parseable_file *files;
        size_t n;

        (void)map_put(&v->days, slice_head(path, 15), v);
        enum err_code rc = read_object(v->source, key, &bytes, err);
        if (rc == ERR_OK)
            rc = parseable_manifest(buf_view(&bytes), v->s->name, &v->s->arena, &files, &n, err);
        if (rc == ERR_INVALID || rc == ERR_NOT_FOUND) {
            skip(v, path, arena_str(&v->s->arena, slice_str(err->msg)));
            continue;
        }
        TRY(rc);
        for (size_t k = 0; k < n; k++)
            take_file(v, &files[k]);
    }
    return ERR_OK;
}

/* Stores of the first formats have no manifests: what lies there is what there is. */
static void take_unlisted(struct survey *v)
{
    for (size_t i = 0; i < v->found_count; i++) {
        const struct source_file *f = &v->found[i];
        if (map_get(&v->named, f->path))
            continue;
        if (map_get(&v->days, slice_head(f->path, 15)))
            skip(v, f->path, WHY_UNLISTED);
        else
            *ARRAY_PUSH(v->s->files, v->s->files_count, v->s->files_cap) = *f;
    }
}

static int by_path(const void *a, const void *b)
{
    return slice_cmp(((const struct source_file *)a)->path, ((const struct source_file *)b)->path);
}

enum err_code survey_stream(struct store *source, slice name,
                            void (*skip_fn)(void *arg, slice stream, slice path, const char *why), void *arg,
                            struct source_stream *out, struct err *err)
{
    _cleanup_(survey_done) struct survey v = {.source = source, .s = out, .skip = skip_fn, .arg = arg};

    *out = (struct source_stream){.name = name, .whole = true};
    TRY(list_all(&v, err));
    TRY(read_metadata(&v, err));
    TRY(read_schemas(&v, err));
    TRY(read_manifests(&v, err));
    take_unlisted(&v);
    if (out->files_count)
        qsort(out->files, out->files_count, sizeof(*out->files), by_path);
    return ERR_OK;
}
