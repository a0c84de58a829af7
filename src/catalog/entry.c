#include "catalog/entry.h"

#include <inttypes.h>
#include <stdatomic.h>

#include "base/banned.h"

static int by_field(const void *a, const void *b)
{
    const struct segment_stat *x = a, *y = b;
    return (x->field_id > y->field_id) - (x->field_id < y->field_id);
}

struct entry *entry_new(slice path, const struct segment_stats *stats, uint64_t raw_bytes, uint32_t schema,
                        uint64_t added)
{
    uint32_t n = MIN(stats->cols_count, ENTRY_COLS_MAX);
    size_t cols_bytes = n * sizeof(struct segment_stat);
    struct entry *e = mem_alloc(sizeof(*e) + cols_bytes + path.len);
    struct segment_stat *cols = (struct segment_stat *)(e + 1);
    uint8_t *text = (uint8_t *)cols + cols_bytes;

    memcpy(cols, stats->cols, cols_bytes);
    qsort(cols, n, sizeof(*cols), by_field);
    memcpy(text, path.ptr, path.len);
    *e = (struct entry){
        .refs = 1,
        .crc32c = stats->crc32c,
        .schema = schema,
        .cols_count = n,
        .rows = stats->rows,
        .bytes = stats->bytes,
        .raw_bytes = raw_bytes,
        .added = added,
        .tmin_us = stats->tmin_us,
        .tmax_us = stats->tmax_us,
        .path = slice_of(text, path.len),
        .cols = cols,
    };
    return e;
}

static struct segment_stats stats_of(const struct entry *e)
{
    struct segment_stats s = {.rows = e->rows,
                              .bytes = e->bytes,
                              .crc32c = e->crc32c,
                              .tmin_us = e->tmin_us,
                              .tmax_us = e->tmax_us,
                              .cols_count = e->cols_count};

    memcpy(s.cols, e->cols, e->cols_count * sizeof(*e->cols));
    return s;
}

struct entry *entry_with_added(const struct entry *e, uint64_t added)
{
    struct segment_stats s = stats_of(e);
    return entry_new(e->path, &s, e->raw_bytes, e->schema, added);
}

struct entry *entry_ref(struct entry *e)
{
    atomic_fetch_add_explicit(&e->refs, 1, memory_order_relaxed);
    return e;
}

void entry_unref(struct entry *e)
{
    if (e && atomic_fetch_sub_explicit(&e->refs, 1, memory_order_acq_rel) == 1)
        free(e);
}

void entry_list_add(struct entry_list *l, struct entry *e)
{
    *ARRAY_PUSH(l->items, l->count, l->cap) = e;
}

void entry_list_done(struct entry_list *l)
{
    for (size_t i = 0; i < l->count; i++)
        entry_unref(l->items[i]);
    free(l->items);
    *l = (struct entry_list){0};
}

/* ---- JSON; keys by hand in byte order, because this is most of a head's bytes */

static void hex16(struct buf *out, uint64_t v)
{
    char text[18] = "\"";

    for (int i = 0; i < 16; i++)
        text[1 + i] = "0123456789abcdef"[v >> (60 - 4 * i) & 15];
    text[17] = '"';
    buf_put(out, text, sizeof(text));
}

/* Members sort as text: "10" before "2". */
static int by_text(const void *a, const void *b)
{
    _cleanup_(buf_done) struct buf x = BUF_INIT, y = BUF_INIT;

    int_put(&x, ((const struct segment_stat *)a)->field_id);
    int_put(&y, ((const struct segment_stat *)b)->field_id);
    return slice_cmp(buf_view(&x), buf_view(&y));
}

static void cols_put(struct buf *out, const struct entry *e)
{
    struct segment_stat sorted[ENTRY_COLS_MAX];

    memcpy(sorted, e->cols, e->cols_count * sizeof(*sorted));
    if (e->cols_count && sorted[e->cols_count - 1].field_id > 9)
        qsort(sorted, e->cols_count, sizeof(*sorted), by_text);
    buf_byte(out, '{');
    for (uint32_t i = 0; i < e->cols_count; i++) {
        buf_str(out, i ? ",\"" : "\"");
        int_put(out, sorted[i].field_id);
        buf_str(out, "\":[");
        if (sorted[i].has_minmax) {
            hex16(out, sorted[i].min);
            buf_byte(out, ',');
            hex16(out, sorted[i].max);
        } else {
            buf_str(out, "null,null");
        }
        buf_byte(out, ',');
        int_put(out, sorted[i].nulls);
        buf_byte(out, ']');
    }
    buf_byte(out, '}');
}

static void int_member(struct buf *out, const char *head, uint64_t v)
{
    buf_str(out, head);
    int_put(out, (int64_t)v);
}

void entry_put(struct buf *out, const struct entry *e, const struct sid *sid, slice stream)
{
    buf_byte(out, '{');
    if (e->added != SLOT_NONE) {
        int_member(out, "\"added\":", e->added);
        buf_byte(out, ',');
    }
    int_member(out, "\"bytes\":", e->bytes);
    buf_str(out, ",\"cols\":");
    cols_put(out, e);
    int_member(out, ",\"crc32c\":", e->crc32c);
    buf_str(out, ",\"path\":");
    buf_json_str(out, e->path);
    int_member(out, ",\"raw\":", e->raw_bytes);
    int_member(out, ",\"rows\":", e->rows);
    int_member(out, ",\"schema\":", e->schema);
    if (sid) {
        buf_str(out, ",\"sid\":");
        buf_json_str(out, sid_slice(sid));
        buf_str(out, ",\"stream\":");
        buf_json_str(out, stream);
    }
    int_member(out, ",\"tmax\":", (uint64_t)e->tmax_us);
    int_member(out, ",\"tmin\":", (uint64_t)e->tmin_us);
    buf_byte(out, '}');
}

static bool hex16_get(const json_t *v, uint64_t *out)
{
    const char *s = json_string_value(v);

    if (!s || json_string_length(v) != 16)
        return false;
    *out = 0;
    for (int i = 0; i < 16; i++) {
        int d = s[i] >= '0' && s[i] <= '9' ? s[i] - '0' : s[i] >= 'a' && s[i] <= 'f' ? s[i] - 'a' + 10 : -1;
        if (d < 0)
            return false;
        *out = *out << 4 | (uint64_t)d;
    }
    return true;
}

static bool col_get(const char *key, const json_t *v, struct segment_stat *out)
{
    uint64_t id;
    json_int_t nulls = json_integer_value(json_array_get(v, 2));

    if (!slice_u64(slice_str(key), &id) || id == 0 || id > UINT32_MAX || json_array_size(v) != 3 ||
        !json_is_integer(json_array_get(v, 2)) || nulls < 0 || nulls > UINT32_MAX)
        return false;
    *out = (struct segment_stat){.field_id = (uint32_t)id, .nulls = (uint32_t)nulls};
    if (json_is_null(json_array_get(v, 0)) && json_is_null(json_array_get(v, 1)))
        return true;
    out->has_minmax = hex16_get(json_array_get(v, 0), &out->min) && hex16_get(json_array_get(v, 1), &out->max);
    return out->has_minmax;
}

static bool path_valid(slice path)
{
    struct file_name f;
    return path.len < 900 && store_key_valid(path) && file_name_parse(path, &f);
}

enum err_code entry_get(const json_t *o, struct entry **out, struct err *err)
{
    struct segment_stats s = {0};
    uint64_t raw = 0, schema, crc, added = SLOT_NONE;
    json_t *cols = json_object_get(o, "cols"), *col;
    const char *key;
    slice path;

    if (!json_get_text(o, "path", &path) || !path_valid(path) || !json_get_u64(o, "rows", &s.rows) ||
        !json_get_u64(o, "bytes", &s.bytes) || !json_get_u64(o, "crc32c", &crc) || crc > UINT32_MAX ||
        !json_get_i64(o, "tmin", &s.tmin_us) || !json_get_i64(o, "tmax", &s.tmax_us) || s.tmin_us > s.tmax_us ||
        s.rows == 0 || s.rows > UINT32_MAX || !json_get_u64(o, "schema", &schema) || schema > UINT32_MAX)
        return err_set(err, ERR_CORRUPT, "bad file entry");
    (void)json_get_u64(o, "raw", &raw);     /* absent in entries of others: unknown, counted as nothing */
    (void)json_get_u64(o, "added", &added); /* only in heads */
    if (json_object_size(cols) > ENTRY_COLS_MAX)
        return err_set(err, ERR_CORRUPT, "file entry with statistics of %zu columns", json_object_size(cols));
    json_object_foreach (cols, key, col)
        if (!col_get(key, col, &s.cols[s.cols_count++]))
            return err_set(err, ERR_CORRUPT, "bad column statistics in a file entry");
    s.crc32c = (uint32_t)crc;
    *out = entry_new(path, &s, raw, (uint32_t)schema, added);
    return ERR_OK;
}
