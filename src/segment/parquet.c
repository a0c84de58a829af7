/* parquet.c: the encoder of today: DuckDB's COPY from sluice_rows() into the file behind a descriptor.
 *
 * The engines are private, one thread each: a table function's rows keep their order only with one thread, and flushes run beside
 * queries that want the other cores. They keep no footers, as /proc/self/fd/<n> names another file each time. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "engine/engine.h"
#include "segment/segment_int.h"

#define ENGINES_MAX 2
#define ENGINE_MEMORY (UINT64_C(768) << 20)
#define READ_DIRS_MAX 6
#define DICTIONARY_BYTES (32u << 20) /* of all columns of a row group together */
#define DICTIONARY_SLOT_BYTES 43     /* 1 MiB has a fifth of a row group of them, the engine's own measure */

struct layout {                /* of a file */
    uint32_t group_rows;       /* of a row group */
    uint32_t dictionary_slots; /* a column of more distinct values is stored plain */
};
/* The engine tries a dictionary for each column, also for those without repetition, and with as many slots as it takes by itself (a
 * fifth of the rows) that is a quarter of a flush's CPU. With fewer, files are no larger, but columns such as trace ids lack the
 * dictionary and its bloom filter until a merge rewrites them. Smaller row groups take a third of the memory, stay in the caches while they
 * are encoded, and let several threads read one file. */
static const struct layout flush_layout = {40960, 4096}, merge_layout = {122880, 24576};

struct segment_writer {
    char *temp_dir;
    const char *dirs[READ_DIRS_MAX + 2]; /* NULL-terminated; all but the first are ours to free */
    pthread_mutex_t mu;
    pthread_cond_t wake;
    struct engine *free[ENGINES_MAX]; /* under mu, as all below */
    bool slot_used[ENGINES_MAX];      /* a spill directory each */
    unsigned slots[ENGINES_MAX];      /* of free[] */
    int alias[ENGINES_MAX];           /* by slot: what its engine writes to has the same number each time */
    int null;                         /* what they stand for meanwhile */
    unsigned free_count;
};

/* ---- engines */

enum err_code segment_writer_open(const char *temp_dir, const char *const *read_dirs, struct segment_writer **out,
                                  struct err *err)
{
    struct segment_writer *w = mem_zalloc(sizeof(*w));
    size_t n = 1;

    w->dirs[0] = SEGMENT_FD_PATH;
    for (; read_dirs && *read_dirs && n <= READ_DIRS_MAX; read_dirs++)
        w->dirs[n++] = mem_str(slice_str(*read_dirs));
    w->temp_dir = temp_dir ? mem_str(slice_str(temp_dir)) : NULL;
    ASSERT(pthread_mutex_init(&w->mu, NULL) == 0 && pthread_cond_init(&w->wake, NULL) == 0);
    for (unsigned i = 0; i < ENGINES_MAX; i++)
        w->alias[i] = -1;
    w->null = -1;
    enum err_code rc = os_fd_alias(&w->null, err);
    for (unsigned i = 0; i < ENGINES_MAX && rc == ERR_OK; i++)
        rc = os_fd_alias(&w->alias[i], err);
    if (rc != ERR_OK)
        segment_writer_close(w);
    else
        *out = w; /* its engines are opened when they are first needed */
    return rc;
}

void segment_writer_close(struct segment_writer *w)
{
    if (!w)
        return;
    for (unsigned i = 0; i < w->free_count; i++)
        engine_close(w->free[i]);
    for (unsigned i = 0; i < ENGINES_MAX; i++)
        os_fd_close(w->alias[i]);
    os_fd_close(w->null);
    (void)pthread_cond_destroy(&w->wake);
    (void)pthread_mutex_destroy(&w->mu);
    for (size_t i = 1; w->dirs[i]; i++)
        free((void *)(uintptr_t)w->dirs[i]);
    free(w->temp_dir);
    free(w);
}

static enum err_code engine_make(struct segment_writer *w, unsigned slot, struct engine **out, struct err *err)
{
    _cleanup_(freep) char *temp = w->temp_dir ? mem_fmt("%s/segment-%u", w->temp_dir, slot) : NULL;
    const struct engine_options opt = {
        .memory_bytes = ENGINE_MEMORY, .threads = 1, .temp_dir = temp, .allowed_dirs = w->dirs};

    return engine_open(&opt, out, err);
}

void segment_lease_end(struct segment_lease *l)
{
    struct segment_writer *w = l->writer;

    if (!w)
        return;
    if (l->engine && engine_broken(l->engine)) {
        engine_close(l->engine);
        l->engine = NULL;
    }
    pthread_mutex_lock(&w->mu);
    if (l->engine) {
        w->slots[w->free_count] = l->slot;
        w->free[w->free_count++] = l->engine;
    } else {
        w->slot_used[l->slot] = false;
    }
    (void)pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->mu);
}

enum err_code segment_lease_begin(struct segment_writer *w, struct segment_lease *l, struct err *err)
{
    pthread_mutex_lock(&w->mu);
    for (;;) {
        if (w->free_count) {
            w->free_count--;
            l->engine = w->free[w->free_count];
            l->slot = w->slots[w->free_count];
            break;
        }
        for (l->slot = 0; l->slot < ENGINES_MAX && w->slot_used[l->slot]; l->slot++)
            ;
        if (l->slot < ENGINES_MAX) {
            w->slot_used[l->slot] = true;
            break;
        }
        (void)pthread_cond_wait(&w->wake, &w->mu);
    }
    pthread_mutex_unlock(&w->mu);
    l->writer = w;
    return l->engine ? ERR_OK : engine_make(w, l->slot, &l->engine, err);
}

/* ---- names of columns in the file */

struct names {
    struct arena arena;
    struct map seen; /* folded as the engine folds */
};

static void names_done(struct names *n)
{
    map_done(&n->seen);
    arena_done(&n->arena);
}

static bool name_take(struct names *n, slice name)
{
    uint8_t *folded = arena_alloc(&n->arena, name.len + 1);

    for (size_t i = 0; i < name.len; i++)
        folded[i] = (uint8_t)(name.ptr[i] >= 'A' && name.ptr[i] <= 'Z' ? name.ptr[i] + 32 : name.ptr[i]);
    if (map_get(&n->seen, slice_of(folded, name.len)))
        return false;
    (void)map_put(&n->seen, slice_of(folded, name.len), n);
    return true;
}

/* Readers go by field id. A name that the engine could not tell from another, or not write, has its id added. */
static slice name_in_file(struct names *n, const struct field *f)
{
    slice name = f->name;

    if (name.len == 0 || memchr(name.ptr, 0, name.len))
        name = slice_lit("column");
    else if (name_take(n, name))
        return name;
    for (unsigned k = 0;; k++) {
        slice other = slice_str(
            arena_fmt(&n->arena, k ? "%.*s#%u.%u" : "%.*s#%u", (int)name.len, (const char *)name.ptr, f->id, k));
        if (name_take(n, other))
            return other;
    }
}

/* ---- COPY */

static enum err_code check_ids(const struct schema *schema, const bool *used, struct err *err)
{
    for (uint32_t i = 0; i < schema_count(schema); i++)
        if (used[i] && schema_field(schema, i)->id == 0)
            return err_set(err, ERR_INVALID, "column " SLICE_FMT " has no field id",
                           SLICE_ARG(schema_field(schema, i)->name));
    return ERR_OK;
}

/* The engine takes memory for a column's dictionary before it sees a row: slots for a fifth of the row group's rows, and a page of
 * 1 MiB. Where columns are many that is more than its memory limit, so they share what DICTIONARY_BYTES gives. */
static void dictionary_sql(const struct layout *layout, uint64_t rows, uint32_t columns, struct buf *sql)
{
    uint64_t share = DICTIONARY_BYTES / columns, slots = layout->dictionary_slots;

    if (slots > rows / 5) /* a power of two, so that files of similar sizes have the same statement */
        for (slots = MIN(rows / 5, 1); slots && slots * 2 <= rows / 5;)
            slots *= 2;
    if (share < 1u << 20) {
        slots = MIN(slots, share / DICTIONARY_SLOT_BYTES);
        buf_fmt(sql, "STRING_DICTIONARY_PAGE_SIZE_LIMIT %llu, ", (unsigned long long)MAX(share, 16u << 10));
    }
    buf_fmt(sql, "DICTIONARY_SIZE_LIMIT %llu, ", (unsigned long long)slots);
}

/* COPY (SELECT c<field> AS name, ..., row_id AS _row_id FROM `from`) TO fd; column c<i> is field i. */
static void copy_sql(const struct schema *schema, const bool *used, const struct layout *layout, const char *from,
                     uint64_t rows, int fd, struct buf *sql)
{
    _cleanup_(names_done) struct names names = {0};
    struct buf ids = BUF_INIT;
    uint32_t columns = 1;

    (void)name_take(&names, slice_lit(ROW_ID_NAME));
    (void)name_take(&names, slice_lit("__duckdb_field_id")); /* means something else in FIELD_IDS */
    buf_str(sql, "COPY (SELECT ");
    for (uint32_t i = 0; i < schema_count(schema); i++) {
        const struct field *f = schema_field(schema, i);
        if (!used[i])
            continue;
        slice name = name_in_file(&names, f);
        columns++;
        buf_fmt(sql, "c%u AS ", i);
        engine_ident(sql, name);
        buf_str(sql, ", ");
        engine_ident(&ids, name);
        if (f->type.kind == TYPE_LIST && f->item_id)
            buf_fmt(&ids, ": {__duckdb_field_id: %u, element: %u}, ", f->id, f->item_id);
        else
            buf_fmt(&ids, ": %u, ", f->id);
    }
    buf_fmt(sql,
            "row_id AS " ROW_ID_NAME " FROM %s) TO '" SEGMENT_FD_PATH
            "%d' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, "
            "PARQUET_VERSION v2, ROW_GROUP_SIZE %u, USE_TMP_FILE false, KV_METADATA {'sluice.order': 'newest_first'}, ",
            from, fd, layout->group_rows);
    dictionary_sql(layout, rows, columns, sql);
    buf_str(sql, "FIELD_IDS {");
    buf_slice(sql, buf_view(&ids));
    buf_fmt(sql, "%s: %u})", ROW_ID_NAME, ROW_ID_FIELD_ID);
    buf_done(&ids);
}

/* Runs a statement; `row`, if given, is called with its first chunk. */
static enum err_code run(struct engine *e, struct buf *sql, bool keep,
                         enum err_code (*row)(void *arg, const struct engine_chunk *chunk, struct err *err), void *arg,
                         struct err *err)
{
    _cleanup_(engine_result_freep) struct engine_result *r = NULL;
    const struct engine_query q = {.sql = buf_cstr(sql), .materialize = true, .keep = keep};
    const struct engine_chunk *chunk;

    TRY(engine_run(e, &q, &r, err));
    TRY(engine_result_next(r, &chunk, err));
    if (row && !chunk)
        return err_set(err, ERR_UNKNOWN, "engine: no answer to a question about a Parquet file");
    return row ? row(arg, chunk, err) : ERR_OK;
}

static enum err_code take_count(void *arg, const struct engine_chunk *chunk, struct err *err)
{
    (void)err;
    *(uint64_t *)arg = (uint64_t)((const int64_t *)chunk->columns[0].data)[0];
    return ERR_OK;
}

/* ---- write */

static bool column_has_values(const struct column *c, const struct segment_part *p)
{
    uint32_t n = p->sel ? p->sel_count : p->view.rows;

    if (!atomic_load_explicit(&c->has_nulls, memory_order_relaxed))
        return n > 0;
    for (uint32_t i = 0; i < n; i++)
        if (c->valid[p->sel ? p->sel[i] : i])
            return true;
    return false;
}

static void mark_used(const struct schema *schema, const struct segment_part *parts, uint32_t parts_count, bool *used)
{
    used[0] = true;
    for (uint32_t p = 0; p < parts_count; p++)
        for (uint32_t i = 0; i < parts[p].view.columns_count; i++) {
            const struct column *c = parts[p].view.columns[i];
            if (c->field < schema_count(schema) && !used[c->field])
                used[c->field] = column_has_values(c, &parts[p]);
        }
}

static uint32_t source_columns(const struct schema *schema, const bool *used, struct arena *arena,
                               struct engine_column **out)
{
    struct engine_column *columns = arena_alloc(arena, (schema_count(schema) + 1) * sizeof(*columns));
    uint32_t n = 0;

    for (uint32_t i = 0; i < schema_count(schema); i++)
        if (used[i])
            columns[n++] =
                (struct engine_column){i, slice_str(arena_fmt(arena, "c%u", i)), schema_field(schema, i)->type};
    columns[n++] = (struct engine_column){FIELD_ROW_ID, slice_lit("row_id"), {TYPE_INT64, TYPE_NULL}};
    *out = columns;
    return n;
}

/* What the text of a COPY does not say, but its plan depends on (engine.h, keep). */
static void types_sql(const struct engine_source *source, struct buf *sql)
{
    buf_str(sql, " -- ");
    for (uint32_t i = 0; i < source->columns_count; i++)
        buf_fmt(sql, "%s ", engine_type_name(source->columns[i].type));
}

static uint64_t total_rows(const struct segment_part *parts, uint32_t parts_count)
{
    uint64_t rows = 0;

    for (uint32_t p = 0; p < parts_count; p++)
        rows += parts[p].sel ? parts[p].sel_count : parts[p].view.rows;
    return rows;
}

enum err_code segment_write(struct segment_writer *w, const struct schema *schema, const struct segment_part *parts,
                            uint32_t parts_count, int fd, struct segment_stats *out, struct err *err)
{
    _cleanup_(arena_done) struct arena arena = ARENA_INIT;
    _cleanup_(buf_done) struct buf sql = BUF_INIT;
    _cleanup_(segment_lease_end) struct segment_lease lease = {0};
    bool *used = arena_zalloc(&arena, schema_count(schema));
    struct engine_source source = {.parts_count = parts_count, .newest_first = true};
    struct segment_stats stats = {0};
    uint32_t fields[SEGMENT_STATS_FIELDS_MAX];
    uint64_t written = 0;
    char from[48];

    mark_used(schema, parts, parts_count, used);
    TRY(check_ids(schema, used, err));
    source.columns_count = source_columns(schema, used, &arena, &source.columns);
    source.parts = arena_alloc(&arena, parts_count * sizeof(*source.parts));
    for (uint32_t i = 0; i < parts_count; i++)
        source.parts[i] = (struct engine_part){parts[i].view, parts[i].sel, parts[i].sel_count};
    TRY(segment_lease_begin(w, &lease, err));
    uint64_t id = engine_source_add(lease.engine, &source);
    (void)snprintf(from, sizeof(from), "sluice_rows(%llu)", (unsigned long long)id);
    copy_sql(schema, used, &flush_layout, from, total_rows(parts, parts_count), w->alias[lease.slot], &sql);
    types_sql(&source, &sql);
    enum err_code rc = os_fd_stand(w->alias[lease.slot], fd, err);
    if (rc == ERR_OK) {
        rc = run(lease.engine, &sql, true, take_count, &written, err);
        enum err_code back = os_fd_stand(w->alias[lease.slot], w->null, rc == ERR_OK ? err : NULL);
        rc = rc == ERR_OK ? back : rc;
    }
    engine_source_del(lease.engine, id);
    TRY(rc);
    segment_stats_compute(schema, parts, parts_count, fields, segment_stat_fields(schema, used, fields), &stats);
    if (written != stats.rows)
        return err_set(err, ERR_UNKNOWN, "engine wrote %llu rows of %llu", (unsigned long long)written,
                       (unsigned long long)stats.rows);
    TRY(os_fd_checksum(fd, &stats.bytes, &stats.crc32c, err));
    *out = stats;
    return ERR_OK;
}

/* ---- merge */

struct inputs { /* the same paths, those of our own files first */
    const char **paths;
    uint32_t count, own_count;
};

static void read_sql(const struct schema *schema, const bool *used, struct buf *sql)
{
    buf_str(sql, ", hive_partitioning=false, schema=MAP{");
    for (uint32_t i = 0; i < schema_count(schema); i++) {
        const struct field *f = schema_field(schema, i);
        if (used[i])
            buf_fmt(sql, "%u: {name: 'c%u', type: '%s', default_value: NULL}, ", f->id, i, engine_type_name(f->type));
    }
    buf_fmt(sql, "%u: {name: 'row_id', type: 'BIGINT', default_value: NULL}})", ROW_ID_FIELD_ID);
}

struct found {
    const struct schema *schema;
    bool *used;
};

static enum err_code take_ids(void *arg, const struct engine_chunk *chunk, struct err *err)
{
    struct found *f = arg;
    const struct engine_vector *list = &chunk->columns[0];
    const int64_t *ids = list->children ? list->children[0].data : NULL;

    (void)err;
    for (uint64_t k = 0; ids && engine_valid(list, 0) && k < list->children[0].size; k++)
        for (uint32_t i = 0; i < schema_count(f->schema); i++)
            if (schema_field(f->schema, i)->id == ids[k])
                f->used[i] = true;
    return ERR_OK;
}

static enum err_code take_names(void *arg, const struct engine_chunk *chunk, struct err *err)
{
    struct found *f = arg;
    const struct engine_vector *list = &chunk->columns[0];

    (void)err;
    for (uint64_t k = 0; engine_valid(list, 0) && k < list->children[0].size; k++) {
        uint32_t i = schema_find(f->schema, text_slice((const struct text *)list->children[0].data + k));
        if (i != FIELD_NONE)
            f->used[i] = true;
    }
    return ERR_OK;
}

struct summary {
    const struct schema *schema;
    const uint32_t *fields;
    uint32_t count;
    struct segment_stats *out;
};

static uint64_t order_of(struct type t, const struct engine_vector *v, bool max)
{
    switch ((enum type_kind)t.kind) {
    case TYPE_BOOL: return segment_order_i64(*(const uint8_t *)v->data);
    case TYPE_INT64:
    case TYPE_TIMESTAMP: return segment_order_i64(*(const int64_t *)v->data);
    case TYPE_UINT64: return *(const uint64_t *)v->data;
    case TYPE_FLOAT64: return segment_order_f64(*(const double *)v->data);
    case TYPE_DATE32: return segment_order_i64(*(const int32_t *)v->data);
    case TYPE_UTF8: return segment_order_text(text_slice(v->data), max);
    case TYPE_NULL:
    case TYPE_LIST: break;
    }
    return 0;
}

static enum err_code take_summary(void *arg, const struct engine_chunk *chunk, struct err *err)
{
    struct summary *s = arg;

    (void)err;
    s->out->rows = (uint64_t) * (const int64_t *)chunk->columns[0].data;
    for (uint32_t k = 0; k < s->count; k++) {
        const struct field *f = schema_field(s->schema, s->fields[k]);
        const struct engine_vector *v = &chunk->columns[1 + 3 * k];
        struct segment_stat *stat = &s->out->cols[k];
        *stat = (struct segment_stat){.field_id = f->id, .has_minmax = engine_valid(v, 0)};
        stat->nulls = (uint32_t)(s->out->rows - (uint64_t) * (const int64_t *)v[2].data);
        if (stat->has_minmax) {
            stat->min = order_of(f->type, &v[0], false);
            stat->max = order_of(f->type, &v[1], true);
        }
    }
    const struct engine_vector *id = &chunk->columns[1 + 3 * s->count];
    struct segment_stat *stat = &s->out->cols[s->count];
    *stat = (struct segment_stat){.field_id = ROW_ID_FIELD_ID, .has_minmax = engine_valid(id, 0)};
    stat->nulls = (uint32_t)(s->out->rows - (uint64_t) * (const int64_t *)id[2].data);
    if (stat->has_minmax) {
        stat->min = segment_order_i64(*(const int64_t *)id[0].data);
        stat->max = segment_order_i64(*(const int64_t *)id[1].data);
    }
    s->out->cols_count = s->count + 1;
    s->out->tmin_us = (int64_t)(s->out->cols[0].min ^ UINT64_C(1) << 63);
    s->out->tmax_us = (int64_t)(s->out->cols[0].max ^ UINT64_C(1) << 63);
    return ERR_OK;
}

/* Statistics of a relation with columns c<field> and row_id. `all`: columns without statistics are read too. */
enum err_code segment_summarize(struct engine *e, const struct schema *schema, const bool *used, const char *from,
                                bool all, struct segment_stats *out, struct err *err)
{
    _cleanup_(buf_done) struct buf sql = BUF_INIT;
    uint32_t fields[SEGMENT_STATS_FIELDS_MAX];
    struct summary s = {schema, fields, segment_stat_fields(schema, used, fields), out};

    buf_str(&sql, "SELECT count(*)");
    for (uint32_t k = 0; k < s.count; k++)
        buf_fmt(&sql, ", min(c%u), max(c%u), count(c%u)", fields[k], fields[k], fields[k]);
    buf_str(&sql, ", min(row_id), max(row_id), count(row_id)");
    for (uint32_t i = 0; all && i < schema_count(schema); i++)
        if (used[i])
            buf_fmt(&sql, ", count(c%u)", i);
    buf_fmt(&sql, " FROM %s", from);
    return run(e, &sql, false, take_summary, &s, err);
}

/* Which columns the inputs have. */
static enum err_code find_columns(struct engine *e, const struct inputs *in, struct found *found, struct err *err)
{
    _cleanup_(buf_done) struct buf sql = BUF_INIT;

    if (in->own_count) {
        buf_str(&sql, "SELECT list(DISTINCT field_id::BIGINT) FROM parquet_schema(");
        segment_paths_sql(in->paths, in->own_count, &sql);
        buf_str(&sql, ") WHERE field_id IS NOT NULL");
        TRY(run(e, &sql, false, take_ids, found, err));
    }
    if (in->own_count < in->count) {
        sql.len = 0;
        buf_str(&sql, "SELECT list(DISTINCT name) FROM parquet_schema(");
        segment_paths_sql(in->paths + in->own_count, in->count - in->own_count, &sql);
        buf_byte(&sql, ')');
        TRY(run(e, &sql, false, take_names, found, err));
    }
    found->used[0] = true;
    return ERR_OK;
}

static void columns_sql(const struct schema *schema, const bool *used, struct buf *sql)
{
    buf_str(sql, "SELECT ");
    for (uint32_t i = 0; i < schema_count(schema); i++)
        if (used[i])
            buf_fmt(sql, "c%u, ", i);
}

/* Files of others, as a relation like that of our own. */
static enum err_code adopted_sql(struct engine *e, const struct schema *schema, const struct inputs *in,
                                 const bool *used, struct buf *sql, struct err *err)
{
    _cleanup_(arena_done) struct arena arena = ARENA_INIT;
    struct segment_column *columns = arena_alloc(&arena, schema_count(schema) * sizeof(*columns));
    uint32_t n = 0;

    for (uint32_t i = 0; i < schema_count(schema); i++)
        if (used[i])
            columns[n++] = (struct segment_column){
                schema_field(schema, i)->name, slice_str(arena_fmt(&arena, "c%u", i)), schema_field(schema, i)->type};
    columns_sql(schema, used, sql);
    buf_str(sql, "CAST(NULL AS BIGINT) AS row_id FROM ");
    return segment_by_name_sql(e, in->paths + in->own_count, in->count - in->own_count, schema, columns, n, sql, err);
}

static enum err_code inputs_sql(struct engine *e, const struct schema *schema, const struct inputs *in,
                                const bool *used, struct buf *sql, struct err *err)
{
    buf_byte(sql, '(');
    if (in->own_count) {
        columns_sql(schema, used, sql);
        buf_str(sql, "row_id FROM read_parquet(");
        segment_paths_sql(in->paths, in->own_count, sql);
        read_sql(schema, used, sql);
    }
    if (in->own_count && in->own_count < in->count)
        buf_str(sql, " UNION ALL ");
    if (in->own_count < in->count)
        TRY(adopted_sql(e, schema, in, used, sql, err));
    buf_byte(sql, ')');
    return ERR_OK;
}

enum err_code segment_input_sql(struct engine *e, const struct schema *schema, const struct segment_input *input,
                                const bool *used, struct buf *sql, struct err *err)
{
    const char *path = input->path;
    const struct inputs in = {&path, 1, input->by_name ? 0 : 1};

    return inputs_sql(e, schema, &in, used, sql, err);
}

static enum err_code merge(struct engine *e, const struct schema *schema, const struct inputs *in, bool *used, int fd,
                           struct segment_stats *stats, struct err *err)
{
    _cleanup_(buf_done) struct buf sql = BUF_INIT, from = BUF_INIT;
    struct found found = {schema, used};
    uint64_t rows = 0;

    buf_str(&sql, "SELECT coalesce(sum(num_rows), 0)::BIGINT FROM parquet_file_metadata(");
    segment_paths_sql(in->paths, in->count, &sql);
    buf_str(&sql, ")");
    TRY(run(e, &sql, false, take_count, &rows, err));
    TRY(find_columns(e, in, &found, err));
    TRY(inputs_sql(e, schema, in, used, &from, err));
    buf_str(&from, " ORDER BY c0 DESC, row_id DESC");
    sql.len = 0;
    copy_sql(schema, used, &merge_layout, buf_cstr(&from), rows, fd, &sql);
    TRY(run(e, &sql, false, NULL, NULL, err));
    from.len = 0; /* what the file holds, read back from it: a second check of what was written */
    buf_fmt(&from, "read_parquet('" SEGMENT_FD_PATH "%d'", fd);
    read_sql(schema, used, &from);
    TRY(segment_summarize(e, schema, used, buf_cstr(&from), false, stats, err));
    if (stats->rows != rows)
        return err_set(err, ERR_UNKNOWN, "engine merged %llu rows into %llu", (unsigned long long)rows,
                       (unsigned long long)stats->rows);
    return ERR_OK;
}

enum err_code segment_merge(struct segment_writer *w, const struct schema *schema, const struct segment_input *inputs,
                            uint32_t inputs_count, int fd, struct segment_stats *out, struct err *err)
{
    _cleanup_(freep) const char **paths = mem_alloc((inputs_count + 1) * sizeof(*paths));
    struct inputs in = {.paths = paths};
    _cleanup_(segment_lease_end) struct segment_lease lease = {0};
    _cleanup_(freep) bool *used = mem_zalloc(schema_count(schema));
    struct segment_stats stats = {0};

    if (inputs_count == 0)
        return err_set(err, ERR_INVALID, "nothing to merge");
    for (uint32_t i = 0; i < inputs_count; i++)
        if (!inputs[i].by_name)
            paths[in.own_count++] = inputs[i].path;
    in.count = in.own_count;
    for (uint32_t i = 0; i < inputs_count; i++)
        if (inputs[i].by_name)
            paths[in.count++] = inputs[i].path;
    TRY(segment_lease_begin(w, &lease, err));
    TRY(merge(lease.engine, schema, &in, used, fd, &stats, err));
    TRY(os_fd_checksum(fd, &stats.bytes, &stats.crc32c, err));
    *out = stats;
    return ERR_OK;
}
