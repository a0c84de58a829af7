/* adopted.c: Parquet files of other writers, whose columns go by name as they have no field ids of ours.
 *
 * The engine finds a column of `schema = MAP{name: ...}` in a file without regard to case, and gives the second of two that differ only in
 * case a name of its own ("name_1"). So where the stream has no two such columns the names go as they are, and no footer is opened to
 * bind. Else the footers are asked for the exact names; files with the same columns make one arm of a UNION ALL each, and the engine itself
 * is asked, once for such a group, how it calls them. Types are those of the stream: the engine casts what a file has. */
#include "codec/json_reader.h"
#include "segment/segment_int.h"

#define DEPTH_MAX 32 /* of a Parquet schema */

void segment_text_sql(slice s, struct buf *sql)
{
    buf_byte(sql, '\'');
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '\'')
            buf_byte(sql, '\'');
        buf_byte(sql, s.ptr[i]);
    }
    buf_byte(sql, '\'');
}

/* The engine takes a path for a pattern: what means something in one stands in brackets. */
void segment_paths_sql(const char *const *paths, uint32_t count, struct buf *sql)
{
    _cleanup_(buf_done) struct buf path = BUF_INIT;

    for (uint32_t i = 0; i < count; i++) {
        path.len = 0;
        engine_path(&path, slice_str(paths[i]));
        buf_str(sql, i ? ", " : "[");
        segment_text_sql(buf_view(&path), sql);
    }
    buf_byte(sql, ']');
}

/* ---- names, as the footers have them */

struct group { /* files with the same columns in the same order */
    const char **paths;
    size_t paths_count, paths_cap;
    const struct segment_file_column *columns;
    char **engine; /* the same columns as the engine calls them */
    size_t columns_count;
};
struct footer { /* while its rows come */
    const char *path;
    int64_t left[DEPTH_MAX]; /* children that are still to come, by depth */
    unsigned depth;
    uint32_t leaves;
    struct segment_file_column *columns;
    size_t count, cap;
};
struct footers {
    struct arena arena;
    struct footer *files;
    size_t count;
    struct map by_path;
    struct group *groups;
    size_t groups_count, groups_cap;
};

static void footers_done(struct footers *f)
{
    for (size_t i = 0; i < f->count; i++)
        free(f->files[i].columns);
    for (size_t i = 0; i < f->groups_count; i++)
        free(f->groups[i].paths);
    free(f->groups);
    map_done(&f->by_path);
    arena_done(&f->arena);
}

/* One element of a schema, which come depth first: the root, its columns, and what is in those. */
static enum err_code footer_row(struct footers *all, struct footer *f, slice name, int64_t children, int64_t id,
                                struct err *err)
{
    if (f->depth && f->left[f->depth - 1]-- <= 0)
        return err_set(err, ERR_CORRUPT, "%s has a schema that contradicts itself", f->path);
    if (f->depth == 1)
        *ARRAY_PUSH(f->columns, f->count, f->cap) = (struct segment_file_column){
            arena_copy(&all->arena, name), id > 0 && id <= UINT32_MAX ? (uint32_t)id : 0, f->leaves, children > 0};
    if (f->depth && children <= 0)
        f->leaves++;
    if (children > 0 || f->depth == 0) {
        if (f->depth == DEPTH_MAX)
            return err_set(err, ERR_CORRUPT, "%s has columns in columns, too deep", f->path);
        f->left[f->depth++] = children;
    }
    while (f->depth > 1 && f->left[f->depth - 1] <= 0)
        f->depth--;
    return ERR_OK;
}

static enum err_code footer_chunk(struct footers *all, const struct engine_chunk *chunk, struct err *err)
{
    const struct engine_vector *c = chunk->columns;

    for (uint64_t i = 0; i < chunk->rows; i++) {
        slice path = text_slice((const struct text *)c[0].data + i);
        struct footer *f = map_get(&all->by_path, path);
        if (!f)
            return err_set(err, ERR_UNKNOWN, "engine: tells of " SLICE_FMT ", which nobody asked for", SLICE_ARG(path));
        TRY(footer_row(all, f, text_slice((const struct text *)c[1].data + i),
                       engine_valid(&c[2], i) ? ((const int64_t *)c[2].data)[i] : 0,
                       engine_valid(&c[3], i) ? ((const int64_t *)c[3].data)[i] : 0, err));
    }
    return ERR_OK;
}

static enum err_code footers_read(struct engine *e, const char *const *paths, uint32_t count, struct footers *out,
                                  struct err *err)
{
    _cleanup_(engine_result_freep) struct engine_result *r = NULL;
    _cleanup_(buf_done) struct buf sql = BUF_INIT;
    const struct engine_chunk *chunk;

    out->files = arena_zalloc(&out->arena, count * sizeof(*out->files));
    out->count = count;
    for (uint32_t i = 0; i < count; i++) {
        out->files[i].path = paths[i];
        (void)map_put(&out->by_path, slice_str(paths[i]), &out->files[i]);
    }
    buf_str(&sql, "SELECT file_name, name, num_children::BIGINT, field_id::BIGINT FROM parquet_schema(");
    segment_paths_sql(paths, count, &sql);
    buf_byte(&sql, ')');
    TRY(engine_run(e, &(struct engine_query){.sql = buf_cstr(&sql), .materialize = true}, &r, err));
    for (;;) {
        TRY(engine_result_next(r, &chunk, err));
        if (!chunk)
            return ERR_OK;
        TRY(footer_chunk(out, chunk, err));
    }
}

enum err_code segment_file_columns(struct engine *e, const char *path, struct arena *arena,
                                   struct segment_file_column **out, size_t *count, struct err *err)
{
    _cleanup_(footers_done) struct footers f = {0};

    TRY(footers_read(e, &path, 1, &f, err));
    const struct footer *file = &f.files[0];
    struct segment_file_column *columns = arena_alloc(arena, (file->count + 1) * sizeof(*columns));
    for (size_t i = 0; i < file->count; i++) {
        columns[i] = file->columns[i];
        columns[i].name = arena_copy(arena, file->columns[i].name);
    }
    *out = columns;
    *count = file->count;
    return ERR_OK;
}

/* What the engine calls the columns of a file, in their order. */
static enum err_code engine_names(struct engine *e, struct footers *all, struct group *g, struct engine_result **keep,
                                  struct err *err)
{
    _cleanup_(engine_result_freep) struct engine_result *r = NULL;
    _cleanup_(buf_done) struct buf sql = BUF_INIT;
    const struct engine_field *fields;

    buf_str(&sql, "SELECT * FROM read_parquet(");
    segment_paths_sql(g->paths, 1, &sql);
    buf_str(&sql, ", hive_partitioning=false) LIMIT 0");
    TRY(engine_run(e, &(struct engine_query){.sql = buf_cstr(&sql), .materialize = true}, &r, err));
    uint32_t n = engine_result_fields(r, &fields);
    if (n != g->columns_count)
        return err_set(err, ERR_CORRUPT, "%s has %zu columns, and the engine reads %u", g->paths[0], g->columns_count,
                       n);
    g->engine = arena_alloc(&all->arena, n * sizeof(*g->engine));
    for (uint32_t i = 0; i < n; i++)
        g->engine[i] = arena_str(&all->arena, slice_str(fields[i].name));
    if (keep)
        *keep = move_ptr(r);
    return ERR_OK;
}

static enum err_code groups_make(struct engine *e, struct footers *f, struct err *err)
{
    _cleanup_(map_done) struct map by_names = MAP_INIT;
    _cleanup_(buf_done) struct buf key = BUF_INIT;

    for (size_t i = 0; i < f->count; i++) {
        struct footer *file = &f->files[i];
        key.len = 0;
        for (size_t k = 0; k < file->count; k++) {
            buf_fmt(&key, "%zu:", file->columns[k].name.len);
            buf_slice(&key, file->columns[k].name);
        }
        uintptr_t at = (uintptr_t)map_get(&by_names, buf_view(&key));
        if (!at) {
            struct group *g = ARRAY_PUSH(f->groups, f->groups_count, f->groups_cap);
            g->columns = file->columns;
            g->columns_count = file->count;
            at = f->groups_count;
            (void)map_put(&by_names, arena_copy(&f->arena, buf_view(&key)), (void *)at);
        }
        struct group *g = &f->groups[at - 1];
        *ARRAY_PUSH(g->paths, g->paths_count, g->paths_cap) = file->path;
    }
    for (size_t i = 0; i < f->groups_count; i++)
        TRY(engine_names(e, f, &f->groups[i], NULL, err));
    return ERR_OK;
}

/* ---- relations */

static void fold(slice name, struct buf *out)
{
    out->len = 0;
    for (size_t i = 0; i < name.len; i++)
        buf_byte(out, (uint8_t)(name.ptr[i] >= 'A' && name.ptr[i] <= 'Z' ? name.ptr[i] + 32 : name.ptr[i]));
}

bool segment_has_twins(const struct schema *schema)
{
    _cleanup_(arena_done) struct arena arena = ARENA_INIT;
    _cleanup_(map_done) struct map seen = MAP_INIT;
    _cleanup_(buf_done) struct buf folded = BUF_INIT;

    for (uint32_t i = 0; i < schema_count(schema); i++) {
        fold(schema_field(schema, i)->name, &folded);
        if (map_put(&seen, arena_copy(&arena, buf_view(&folded)), &seen))
            return true;
    }
    return false;
}

static void read_sql(const char *const *paths, size_t paths_count, const struct segment_column *columns, uint32_t count,
                     const slice *keys, struct buf *sql)
{
    bool any = false;

    buf_str(sql, "read_parquet(");
    segment_paths_sql(paths, (uint32_t)paths_count, sql);
    buf_str(sql, ", hive_partitioning=false, schema=MAP{");
    for (uint32_t i = 0; i < count; i++) {
        if (!keys[i].ptr)
            continue;
        buf_str(sql, any ? ", " : "");
        any = true;
        segment_text_sql(keys[i], sql);
        buf_str(sql, ": {name: ");
        segment_text_sql(columns[i].as, sql);
        buf_fmt(sql, ", type: '%s', default_value: NULL}", engine_type_name(columns[i].type));
    }
    buf_str(sql, "})");
}

static void keys_of(const struct group *g, const struct segment_column *columns, uint32_t count, slice *keys)
{
    for (uint32_t i = 0; i < count; i++) {
        keys[i] = (slice){NULL, 0};
        for (size_t k = 0; k < g->columns_count; k++)
            if (slice_eq(g->columns[k].name, columns[i].name))
                keys[i] = slice_str(g->engine[k]);
    }
}

/* Columns without a key are null. */
static void relation_sql(const char *const *paths, size_t paths_count, const struct segment_column *columns,
                         uint32_t count, const slice *keys, struct buf *sql)
{
    buf_str(sql, "SELECT ");
    for (uint32_t i = 0; i < count; i++) {
        buf_str(sql, i ? ", " : "");
        if (!keys[i].ptr)
            buf_fmt(sql, "CAST(NULL AS %s) AS ", engine_type_name(columns[i].type));
        engine_ident(sql, columns[i].as);
    }
    buf_str(sql, " FROM ");
    read_sql(paths, paths_count, columns, count, keys, sql);
}

/* A name with a zero in it is one of ours: no such file is adopted, and no SQL has it. */
static bool keys_as_they_are(const struct segment_column *columns, uint32_t count, slice *keys)
{
    bool all = true;

    for (uint32_t i = 0; i < count; i++) {
        bool zero = columns[i].name.len && memchr(columns[i].name.ptr, 0, columns[i].name.len);
        keys[i] = zero ? (slice){NULL, 0} : columns[i].name.len ? columns[i].name : slice_lit("");
        all &= !zero;
    }
    return all;
}

enum err_code segment_by_name_sql(struct engine *e, const char *const *paths, uint32_t paths_count,
                                  const struct schema *schema, const struct segment_column *columns, uint32_t count,
                                  struct buf *sql, struct err *err)
{
    _cleanup_(footers_done) struct footers f = {0};
    _cleanup_(freep) slice *keys = mem_alloc((count + 1) * sizeof(*keys));
    bool twins = segment_has_twins(schema);

    if (!twins && keys_as_they_are(columns, count, keys)) {
        read_sql(paths, paths_count, columns, count, keys, sql);
        return ERR_OK;
    }
    buf_byte(sql, '(');
    if (!twins) {
        relation_sql(paths, paths_count, columns, count, keys, sql);
    } else {
        TRY(footers_read(e, paths, paths_count, &f, err));
        TRY(groups_make(e, &f, err));
    }
    for (size_t i = 0; i < f.groups_count; i++) {
        const struct group *g = &f.groups[i];
        buf_str(sql, i ? " UNION ALL " : "");
        keys_of(g, columns, count, keys);
        relation_sql(g->paths, g->paths_count, columns, count, keys, sql);
    }
    buf_byte(sql, ')');
    return ERR_OK;
}

/* ---- one file, before it is adopted */

static bool scalar_type(enum engine_type t, uint8_t *kind)
{
    switch (t) {
    case ENGINE_NULL: *kind = TYPE_NULL; return true;
    case ENGINE_BOOL: *kind = TYPE_BOOL; return true;
    case ENGINE_I8:
    case ENGINE_I16:
    case ENGINE_I32:
    case ENGINE_I64:
    case ENGINE_U8:
    case ENGINE_U16:
    case ENGINE_U32: *kind = TYPE_INT64; return true;
    case ENGINE_U64: *kind = TYPE_UINT64; return true;
    case ENGINE_F32:
    case ENGINE_F64: *kind = TYPE_FLOAT64; return true;
    case ENGINE_TEXT: *kind = TYPE_UTF8; return true;
    case ENGINE_DATE: *kind = TYPE_DATE32; return true;
    case ENGINE_TIMESTAMP:
    case ENGINE_TIMESTAMP_S:
    case ENGINE_TIMESTAMP_MS:
    case ENGINE_TIMESTAMP_NS: *kind = TYPE_TIMESTAMP; return true;
    default: return false;
    }
}

static bool type_of(const struct engine_field *f, struct type *out)
{
    *out = (struct type){TYPE_NULL, TYPE_NULL};
    if (f->type == ENGINE_LIST && f->children_count == 1) {
        out->kind = TYPE_LIST;
        return scalar_type(f->children[0].type, &out->item);
    }
    return scalar_type(f->type, &out->kind) && out->kind != TYPE_NULL;
}

static enum err_code look(struct engine *e, const char *path, struct segment_look *out, struct err *err)
{
    _cleanup_(engine_result_freep) struct engine_result *r = NULL;
    _cleanup_(footers_done) struct footers f = {0};
    const struct engine_field *fields;

    TRY(footers_read(e, &path, 1, &f, err));
    struct group g = {
        .paths = &path, .paths_count = 1, .columns = f.files[0].columns, .columns_count = f.files[0].count};
    TRY(engine_names(e, &f, &g, &r, err));
    ASSERT(g.engine);
    out->count = engine_result_fields(r, &fields);
    out->columns = arena_zalloc(&out->arena, out->count * sizeof(*out->columns));
    for (uint32_t i = 0; i < out->count; i++) {
        struct segment_column *c = &out->columns[i];
        c->name = arena_copy(&out->arena, g.columns[i].name);
        c->as = slice_str(arena_str(&out->arena, slice_str(g.engine[i])));
        if (!utf8_valid(c->name) || memchr(c->name.ptr, 0, c->name.len))
            return err_set(err, ERR_INVALID, "column %u has a name that is no text", i);
        if (!type_of(&fields[i], &c->type))
            return err_set(err, ERR_INVALID, "column " SLICE_FMT " has a type that no stream can have",
                           SLICE_ARG(c->name));
    }
    return ERR_OK;
}

enum err_code segment_look(struct segment_writer *w, const char *path, struct segment_look *out, struct err *err)
{
    _cleanup_(segment_lease_end) struct segment_lease lease = {0};

    *out = (struct segment_look){0};
    TRY(segment_lease_begin(w, &lease, err));
    enum err_code rc = look(lease.engine, path, out, err);
    if (rc != ERR_OK)
        segment_look_done(out);
    return rc;
}

void segment_look_done(struct segment_look *l)
{
    arena_done(&l->arena);
    *l = (struct segment_look){0};
}

/* Every column of the file is read, also those of which nothing is kept: a page that cannot be decoded is found now. */
enum err_code segment_survey(struct segment_writer *w, const struct schema *schema, const struct segment_look *look_at,
                             const char *path, struct segment_stats *out, struct err *err)
{
    _cleanup_(segment_lease_end) struct segment_lease lease = {0};
    _cleanup_(arena_done) struct arena arena = ARENA_INIT;
    _cleanup_(buf_done) struct buf from = BUF_INIT;
    struct segment_column *columns = arena_alloc(&arena, (look_at->count + 1) * sizeof(*columns));
    slice *keys = arena_alloc(&arena, (look_at->count + 1) * sizeof(*keys));
    bool *used = arena_zalloc(&arena, schema_count(schema));
    uint32_t n = 0;

    for (uint32_t i = 0; i < look_at->count; i++) {
        uint32_t field = schema_find(schema, look_at->columns[i].name);
        if (field == FIELD_NONE)
            continue;
        used[field] = true;
        keys[n] = look_at->columns[i].as;
        columns[n++] = (struct segment_column){look_at->columns[i].name, slice_str(arena_fmt(&arena, "c%u", field)),
                                               schema_field(schema, field)->type};
    }
    buf_str(&from, "(SELECT *, CAST(NULL AS BIGINT) AS row_id FROM ");
    read_sql(&path, 1, columns, n, keys, &from);
    buf_byte(&from, ')');
    TRY(segment_lease_begin(w, &lease, err));
    struct segment_stats stats = {0};
    TRY(segment_summarize(lease.engine, schema, used, buf_cstr(&from), true, &stats, err));
    if (stats.rows == 0)
        return err_set(err, ERR_INVALID, "it has no rows");
    if (stats.rows > UINT32_MAX)
        return err_set(err, ERR_INVALID, "it has too many rows");
    if (stats.cols[0].nulls)
        return err_set(err, ERR_INVALID, "%u rows have no p_timestamp", stats.cols[0].nulls);
    *out = stats;
    return ERR_OK;
}
