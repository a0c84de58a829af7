/* segment.c: Parquet by DuckDB's COPY into /proc/self/fd/N; statistics from our own columns. To be replaced by an encoder of our
 * own behind the same calls, with this one as the reference in tests.
 *
 * Columns travel as c<index in the schema> inside the statement, so that no name of a user's can collide there (DuckDB folds case). In the file
 * they have their own names; of two that differ only in case the later one gets its field id appended: readers that go by
 * field id (ours, Iceberg's) see no difference. */
#include "segment/segment.h"

#include <stdio.h>

#include "base/buf.h"
#include "engine/engine.h"

#define STAT_COLUMNS_MAX 16
#define WRITER_MEMORY_BYTES (UINT64_C(1) << 30)
#define ROW_GROUP_ROWS 122880

struct segment_writer {
    struct os *os;
    struct os_mutex *mu; /* one file at a time */
    struct engine *engine;
};

/* ---- open */

enum err_code segment_writer_open(const char *temp_dir, const char *const *read_dirs, struct segment_writer **out, struct err *err)
{
    const char *dirs[8] = {"/proc/self/fd"};
    struct engine_options opt = {.memory_bytes = WRITER_MEMORY_BYTES, .threads = 2, .temp_dir = temp_dir, .allowed_dirs = dirs};
    struct segment_writer *w = mem_zalloc(sizeof(*w));

    for (size_t i = 0; read_dirs && read_dirs[i] && i + 2 < ARRAY_LEN(dirs); i++)
        dirs[i + 1] = read_dirs[i];
    w->os = os_real();
    w->mu = w->os->ops->mutex_new(w->os);
    enum err_code rc = engine_open(&opt, &w->engine, err);
    if (rc != ERR_OK) {
        segment_writer_close(w);
        return rc;
    }
    *out = w;
    return ERR_OK;
}

void segment_writer_close(struct segment_writer *w)
{
    if (!w)
        return;
    engine_close(w->engine);
    w->os->ops->mutex_free(w->os, w->mu);
    free(w);
}

/* ---- statistics */

uint64_t segment_order_i64(int64_t v)
{
    return (uint64_t)v ^ (UINT64_C(1) << 63);
}

uint64_t segment_order_f64(double v)
{
    uint64_t bits;
    memcpy(&bits, &v, 8);
    return bits >> 63 ? ~bits : bits | UINT64_C(1) << 63;
}

uint64_t segment_order_text(slice s, bool round_up)
{
    uint64_t v = 0;

    for (size_t i = 0; i < 8; i++)
        v = v << 8 | (i < s.len ? s.ptr[i] : 0);
    return round_up && s.len > 8 && v != UINT64_MAX ? v + 1 : v;
}

static uint64_t order_of(const struct column *c, uint32_t row, bool round_up)
{
    switch ((enum type_kind)c->type.kind) {
    case TYPE_BOOL: return ((const uint8_t *)c->values)[row];
    case TYPE_INT64:
    case TYPE_TIMESTAMP: return segment_order_i64(((const int64_t *)c->values)[row]);
    case TYPE_UINT64: return ((const uint64_t *)c->values)[row];
    case TYPE_FLOAT64: return segment_order_f64(((const double *)c->values)[row]);
    case TYPE_DATE32: return segment_order_i64(((const int32_t *)c->values)[row]);
    case TYPE_UTF8: return segment_order_text(text_slice((const struct text *)c->values + row), round_up);
    case TYPE_NULL:
    case TYPE_LIST: break;
    }
    return 0;
}

static uint32_t part_rows(const struct segment_part *p)
{
    return p->sel ? p->sel_count : p->view.rows;
}

static void stat_part(struct segment_stat *st, const struct segment_part *p, uint32_t field)
{
    const struct column *c = batch_view_column(&p->view, field);
    uint32_t n = part_rows(p);

    if (!c) {
        st->nulls += n;
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t row = p->sel ? p->sel[i] : i;
        if (!c->valid[row]) {
            st->nulls++;
            continue;
        }
        uint64_t lo = order_of(c, row, false), hi = c->type.kind == TYPE_UTF8 ? order_of(c, row, true) : lo;
        st->min = st->has_minmax ? MIN(st->min, lo) : lo;
        st->max = st->has_minmax ? MAX(st->max, hi) : hi;
        st->has_minmax = true;
    }
}

static bool type_has_stats(struct type t)
{
    return t.kind != TYPE_LIST && t.kind != TYPE_NULL;
}

/* ---- the statement */

struct used { /* columns of the file, in the schema's order; the row id is written behind them */
    uint32_t *fields;
    uint32_t count;
};

static bool column_in_use(const struct segment_part *parts, uint32_t parts_count, uint32_t field)
{
    for (uint32_t i = 0; i < parts_count; i++) {
        const struct column *c = batch_view_column(&parts[i].view, field);
        uint32_t n = c ? part_rows(&parts[i]) : 0;
        for (uint32_t k = 0; k < n; k++)
            if (c->valid[parts[i].sel ? parts[i].sel[k] : k])
                return true;
    }
    return false;
}

static void sql_quote(struct buf *b, slice s, char quote)
{
    buf_byte(b, (uint8_t)quote);
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == (uint8_t)quote)
            buf_byte(b, s.ptr[i]);
        buf_byte(b, s.ptr[i]);
    }
    buf_byte(b, (uint8_t)quote);
}

/* The name in the file; see the head of this file. */
static slice file_name(const struct schema *schema, const struct used *used, uint32_t at, struct arena *arena)
{
    const struct field *f = schema_field(schema, used->fields[at]);
    bool twin = slice_eq_nocase(f->name, slice_lit(ROW_ID_NAME)) || f->name.len == 0;

    for (uint32_t i = 0; i < at && !twin; i++)
        twin = slice_eq_nocase(schema_field(schema, used->fields[i])->name, f->name);
    if (!twin && memchr(f->name.ptr, 0, f->name.len) == NULL)
        return f->name;
    struct buf b = BUF_INIT;
    for (size_t i = 0; i < f->name.len; i++)
        buf_byte(&b, f->name.ptr[i] ? f->name.ptr[i] : '?');
    buf_fmt(&b, "#%u", f->id);
    slice s = arena_copy(arena, buf_view(&b));
    buf_done(&b);
    return s;
}

static enum err_code print_copy(const struct schema *schema, const struct used *used, const char *from, int fd, struct buf *sql, struct err *err)
{
    _cleanup_(arena_done) struct arena arena = ARENA_INIT;
    struct buf ids = BUF_INIT;

    buf_str(sql, "COPY (SELECT ");
    for (uint32_t i = 0; i < used->count; i++) {
        const struct field *f = schema_field(schema, used->fields[i]);
        slice name = file_name(schema, used, i, &arena);
        if (f->id == 0) {
            buf_done(&ids);
            return err_set(err, ERR_INVALID, "column " SLICE_FMT " has no field id yet", SLICE_ARG(f->name));
        }
        buf_fmt(sql, "c%u AS ", used->fields[i]);
        sql_quote(sql, name, '"');
        buf_str(sql, ", ");
        sql_quote(&ids, name, '\'');
        if (f->type.kind == TYPE_LIST)
            buf_fmt(&ids, ": {__duckdb_field_id: %u, element: %u}, ", f->id, f->item_id);
        else
            buf_fmt(&ids, ": %u, ", f->id);
    }
    buf_fmt(sql, ROW_ID_NAME " FROM %s) TO '/proc/self/fd/%d' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, "
            "PARQUET_VERSION v2, USE_TMP_FILE false, ROW_GROUP_SIZE %d, KV_METADATA {'sluice.order': 'newest_first'}, FIELD_IDS {%s'" ROW_ID_NAME "': %u})",
            from, fd, ROW_GROUP_ROWS, buf_cstr(&ids), ROW_ID_FIELD_ID);
    buf_done(&ids);
    return ERR_OK;
}

static enum err_code run(struct segment_writer *w, const char *sql, struct err *err)
{
    const struct engine_query q = {.sql = sql, .materialize = true};
    struct engine_result *r = NULL;

    TRY(engine_run(w->engine, &q, &r, err));
    engine_result_free(r);
    return ERR_OK;
}

/* ---- write */

static void stats_of(const struct schema *schema, const struct used *used, const struct segment_part *parts, uint32_t parts_count,
                     struct segment_stats *out)
{
    for (uint32_t i = 0; i < parts_count; i++)
        out->rows += part_rows(&parts[i]);
    for (uint32_t i = 0; i < used->count && out->cols_count < STAT_COLUMNS_MAX; i++) {
        const struct field *f = schema_field(schema, used->fields[i]);
        if (!type_has_stats(f->type))
            continue;
        struct segment_stat *st = &out->cols[out->cols_count++];
        st->field_id = f->id;
        for (uint32_t k = 0; k < parts_count; k++)
            stat_part(st, &parts[k], used->fields[i]);
    }
    if (out->cols_count && out->cols[0].has_minmax) { /* field 0 is p_timestamp */
        out->tmin_us = (int64_t)(out->cols[0].min ^ UINT64_C(1) << 63);
        out->tmax_us = (int64_t)(out->cols[0].max ^ UINT64_C(1) << 63);
    }
}

static enum err_code write_locked(struct segment_writer *w, const struct schema *schema, const struct used *used,
                                  const struct segment_part *parts, uint32_t parts_count, int fd, struct err *err)
{
    _cleanup_(arena_done) struct arena arena = ARENA_INIT;
    _cleanup_(buf_done) struct buf sql = BUF_INIT;
    struct engine_source source = {.columns_count = used->count + 1, .parts_count = parts_count, .newest_first = true};
    char from[64];

    source.columns = arena_zalloc(&arena, source.columns_count * sizeof(*source.columns));
    source.parts = arena_zalloc(&arena, parts_count * sizeof(*source.parts));
    for (uint32_t i = 0; i < used->count; i++)
        source.columns[i] = (struct engine_column){used->fields[i], slice_str(arena_fmt(&arena, "c%u", used->fields[i])),
                                                   schema_field(schema, used->fields[i])->type};
    source.columns[used->count] = (struct engine_column){FIELD_ROW_ID, slice_lit(ROW_ID_NAME), {TYPE_INT64, TYPE_NULL}};
    for (uint32_t i = 0; i < parts_count; i++)
        source.parts[i] = (struct engine_part){parts[i].view, parts[i].sel, parts[i].sel_count};
    uint64_t id = engine_source_add(w->engine, &source);
    (void)snprintf(from, sizeof(from), "sluice_rows(%llu)", (unsigned long long)id);
    enum err_code rc = print_copy(schema, used, from, fd, &sql, err);
    if (rc == ERR_OK)
        rc = run(w, buf_cstr(&sql), err);
    engine_source_del(w->engine, id);
    return rc;
}

enum err_code segment_write(struct segment_writer *w, const struct schema *schema, const struct segment_part *parts, uint32_t parts_count,
                            int fd, struct segment_stats *out, struct err *err)
{
    _cleanup_(freep) uint32_t *fields = mem_alloc(schema_count(schema) * sizeof(*fields));
    struct used used = {.fields = fields};
    struct segment_stats stats = {0};

    for (uint32_t i = 0; i < schema_count(schema); i++)
        if (column_in_use(parts, parts_count, i))
            used.fields[used.count++] = i;
    os_lock(w->os, w->mu);
    enum err_code rc = write_locked(w, schema, &used, parts, parts_count, fd, err);
    os_unlock(w->os, w->mu);
    TRY(rc);
    stats_of(schema, &used, parts, parts_count, &stats);
    TRY(os_fd_checksum(fd, &stats.bytes, &stats.crc32c, err));
    *out = stats;
    return ERR_OK;
}

/* ---- merge */

static void print_merge_source(const struct schema *schema, const char *const *paths, uint32_t paths_count, struct buf *b)
{
    buf_str(b, "(SELECT * FROM read_parquet([");
    for (uint32_t i = 0; i < paths_count; i++) {
        if (i)
            buf_byte(b, ',');
        sql_quote(b, slice_str(paths[i]), '\'');
    }
    buf_str(b, "], schema = MAP {");
    for (uint32_t i = 0; i < schema_count(schema); i++) {
        const struct field *f = schema_field(schema, i);
        if (f->id)
            buf_fmt(b, "%u: {'name': 'c%u', 'type': '%s', 'default_value': NULL}, ", f->id, i, engine_type_name(f->type));
    }
    buf_fmt(b, "%u: {'name': '" ROW_ID_NAME "', 'type': 'BIGINT', 'default_value': NULL}}) ORDER BY c0 DESC, " ROW_ID_NAME " DESC)",
            ROW_ID_FIELD_ID);
}

static uint64_t cell_order(const struct engine_field *f, const struct engine_vector *v, bool round_up)
{
    switch (f->type) {
    case ENGINE_BOOL: return ((const uint8_t *)v->data)[0];
    case ENGINE_I64:
    case ENGINE_TIMESTAMP: return segment_order_i64(((const int64_t *)v->data)[0]);
    case ENGINE_U64: return ((const uint64_t *)v->data)[0];
    case ENGINE_F64: return segment_order_f64(((const double *)v->data)[0]);
    case ENGINE_DATE: return segment_order_i64(((const int32_t *)v->data)[0]);
    default: return segment_order_text(text_slice(v->data), round_up);
    }
}

/* Statistics of a merged file, read back from it. */
static enum err_code merged_stats(struct segment_writer *w, const struct schema *schema, const struct used *used, int fd,
                                  struct segment_stats *out, struct err *err)
{
    _cleanup_(buf_done) struct buf sql = BUF_INIT;
    _cleanup_(engine_result_freep) struct engine_result *r = NULL;
    const struct engine_field *fields;
    const struct engine_chunk *chunk;
    uint32_t at[STAT_COLUMNS_MAX];

    buf_str(&sql, "SELECT count(*)");
    for (uint32_t i = 0; i < used->count && out->cols_count < STAT_COLUMNS_MAX; i++) {
        const struct field *f = schema_field(schema, used->fields[i]);
        if (!type_has_stats(f->type))
            continue;
        at[out->cols_count] = used->fields[i];
        out->cols[out->cols_count++].field_id = f->id;
        buf_fmt(&sql, ", count(c%u), min(c%u), max(c%u)", used->fields[i], used->fields[i], used->fields[i]);
    }
    buf_fmt(&sql, " FROM read_parquet(['/proc/self/fd/%d'], schema = MAP {", fd);
    for (uint32_t i = 0; i < out->cols_count; i++)
        buf_fmt(&sql, "%s%u: {'name': 'c%u', 'type': '%s', 'default_value': NULL}", i ? ", " : "", out->cols[i].field_id, at[i],
                engine_type_name(schema_field(schema, at[i])->type));
    buf_str(&sql, "})");
    const struct engine_query q = {.sql = buf_cstr(&sql), .materialize = true};
    TRY(engine_run(w->engine, &q, &r, err));
    (void)engine_result_fields(r, &fields);
    TRY(engine_result_next(r, &chunk, err));
    if (!chunk)
        return err_set(err, ERR_UNKNOWN, "engine: no statistics");
    out->rows = (uint64_t)((const int64_t *)chunk->columns[0].data)[0];
    for (uint32_t i = 0; i < out->cols_count; i++) {
        const struct engine_vector *v = &chunk->columns[1 + 3 * i];
        struct segment_stat *st = &out->cols[i];
        st->nulls = (uint32_t)(out->rows - (uint64_t)((const int64_t *)v[0].data)[0]);
        st->has_minmax = engine_valid(&v[1], 0);
        if (st->has_minmax) {
            st->min = cell_order(&fields[2 + 3 * i], &v[1], false);
            st->max = cell_order(&fields[3 + 3 * i], &v[2], true);
        }
    }
    if (out->cols_count && out->cols[0].has_minmax) {
        out->tmin_us = (int64_t)(out->cols[0].min ^ UINT64_C(1) << 63);
        out->tmax_us = (int64_t)(out->cols[0].max ^ UINT64_C(1) << 63);
    }
    return ERR_OK;
}

/* Only fields with an id can be in files. */
static void used_of_schema(const struct schema *schema, struct used *used)
{
    for (uint32_t i = 0; i < schema_count(schema); i++)
        if (schema_field(schema, i)->id)
            used->fields[used->count++] = i;
}

enum err_code segment_merge(struct segment_writer *w, const struct schema *schema, const char *const *paths, uint32_t paths_count, int fd,
                            struct segment_stats *out, struct err *err)
{
    _cleanup_(buf_done) struct buf from = BUF_INIT, sql = BUF_INIT;
    _cleanup_(freep) uint32_t *fields = mem_alloc(schema_count(schema) * sizeof(*fields));
    struct used used = {.fields = fields};
    struct segment_stats stats = {0};

    used_of_schema(schema, &used);
    if (used.count == 0 || used.fields[0] != 0)
        return err_set(err, ERR_INVALID, "p_timestamp has no field id");
    print_merge_source(schema, paths, paths_count, &from);
    TRY(print_copy(schema, &used, buf_cstr(&from), fd, &sql, err));
    os_lock(w->os, w->mu);
    enum err_code rc = run(w, buf_cstr(&sql), err);
    if (rc == ERR_OK)
        rc = merged_stats(w, schema, &used, fd, &stats, err);
    os_unlock(w->os, w->mu);
    TRY(rc);
    TRY(os_fd_checksum(fd, &stats.bytes, &stats.crc32c, err));
    *out = stats;
    return ERR_OK;
}
