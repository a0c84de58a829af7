/* bind.c: the streams of a statement as CTEs in front of it: the files of a snapshot that can matter, and its staged rows.
 *
 *   WITH s0 AS NOT MATERIALIZED (
 *     SELECT "level", "p_timestamp" FROM sluice_rows(7)                                    staged rows, newest first
 *     UNION ALL
 *     SELECT "level", "p_timestamp" FROM read_parquet($1, schema = $2)                     $1: [newest file, ...], $2: {1: p_timestamp, 4: level}
 *      WHERE "p_timestamp" >= ... AND "p_timestamp" < ...                                  where a file reaches over the range
 *   ) SELECT ... FROM s0 AS r0
 *
 * Columns go by field id, so a file without one gives NULL and no footer is opened to bind. An arm without rows is left out, a filter that
 * every row of an arm meets too: UNION ALL and filters cost count(*) its short cuts. Files and parts are listed newest first, and the
 * engine keeps the order of its input: that is the implicit order that clients see, for nothing. */
#include <stdio.h>

#include "base/timetext.h"
#include "query/query_int.h"

#include "base/banned.h"

#define COVER_PENDING_MAX 4096 /* files that overlap the cut: beyond it no files are saved */

/* ---- SQL text */

static void time_literal(struct buf *b, int64_t us)
{
    char text[TIME_TEXT_MAX];

    (void)time_format_rfc3339(text, us);
    buf_fmt(b, "TIMESTAMPTZ '%s'", text);
}

/* ---- columns of one stream's relation */

struct bind_column {
    slice bound;
    uint32_t field; /* index in the schema, FIELD_ROW_ID, or FIELD_NONE: gone */
    uint32_t id;    /* field id in files; 0: only staged so far */
    struct type type;
    bool shown; /* of the relation; else only filtered by */
};
struct relation {
    struct binding *b;
    struct bound_stream *stream;
    const struct gate_stream *gate;
    const struct bind_options *opt;
    int64_t from_us, to_us; /* the request's range and the statement's bounds; [from, to) is what can matter */
    int64_t floor_us;       /* the request's start, or the window's: rows are filtered by it, and by opt's end */
    struct bind_column *columns;
    size_t count, time, row; /* indexes of the hidden ones; row: where ids are filtered by */
    bool no_files;           /* a condition no row of a file can meet */
};

static bool name_taken(const struct relation *r, slice name)
{
    for (size_t i = 0; i < r->count; i++)
        if (slice_eq_nocase(r->columns[i].bound, name))
            return true;
    return false;
}

static size_t column_hidden(struct relation *r, const char *name, uint32_t field, uint32_t id, struct type type)
{
    for (size_t i = 0; i < r->count; i++)
        if (r->columns[i].field == field)
            return i;
    slice bound = slice_str(name);
    for (unsigned k = 0; name_taken(r, bound); k++)
        bound = slice_str(arena_fmt(&r->b->arena, "%s%u", name, k));
    r->columns[r->count] = (struct bind_column){bound, field, id, type, false};
    return r->count++;
}

static void columns_make(struct relation *r)
{
    const struct schema *schema = r->stream->snap.schema;

    r->columns = arena_zalloc(&r->b->arena, (r->gate->used_count + 2) * sizeof(*r->columns));
    for (size_t i = 0; i < r->gate->used_count; i++) {
        const struct gate_used *u = &r->gate->used[i];
        struct bind_column *c = &r->columns[r->count++];
        *c = (struct bind_column){.bound = u->bound, .field = FIELD_NONE, .type = u->type, .shown = true};
        if (r->opt->row_id.ptr && slice_eq(u->name, r->opt->row_id)) {
            c->field = FIELD_ROW_ID;
            c->id = ROW_ID_FIELD_ID;
            continue;
        }
        uint32_t at = schema_find(schema, u->name);
        /* of another type: the stream was dropped and made anew since the gate saw it; nothing of it is what was asked for */
        if (at != FIELD_NONE && type_eq(schema_field(schema, at)->type, u->type)) {
            c->field = at;
            c->id = schema_field(schema, at)->id;
        }
    }
    r->time = column_hidden(r, "$time", 0, schema_field(schema, 0)->id, (struct type){TYPE_TIMESTAMP, TYPE_NULL});
    if (r->opt->row_before)
        r->row = column_hidden(r, "$row", FIELD_ROW_ID, ROW_ID_FIELD_ID, (struct type){TYPE_INT64, TYPE_NULL});
}

enum shown_from { SHOWN_STAGED, SHOWN_BY_ID, SHOWN_BY_NAME };

static bool shown_null(const struct bind_column *c, enum shown_from from)
{
    return c->field == FIELD_NONE || (from != SHOWN_STAGED && c->id == 0) ||
           (from == SHOWN_BY_NAME && c->field == FIELD_ROW_ID);
}

/* What the relation shows. A relation needs a column, if nobody reads one. */
static void select_list(const struct relation *r, enum shown_from from, struct buf *sql)
{
    bool any = false;

    buf_str(sql, "SELECT ");
    for (size_t i = 0; i < r->count; i++) {
        const struct bind_column *c = &r->columns[i];
        if (!c->shown)
            continue;
        if (any)
            buf_str(sql, ", ");
        any = true;
        if (shown_null(c, from))
            buf_fmt(sql, "CAST(NULL AS %s) AS ", engine_type_name(c->type));
        engine_ident(sql, c->bound);
    }
    if (!any)
        engine_ident(sql, r->columns[r->time].bound);
}

/* ---- ranges of the statement, in the catalog's terms */

static bool range_order(const struct gate_range *g, struct plan_range *out)
{
    out->min = 0;
    out->max = UINT64_MAX;
    switch ((enum type_kind)g->type.kind) {
    case TYPE_BOOL:
    case TYPE_INT64:
    case TYPE_TIMESTAMP:
    case TYPE_DATE32:
        if (g->has_min)
            out->min = segment_order_i64(g->imin);
        if (g->has_max)
            out->max = segment_order_i64(g->imax);
        return true;
    case TYPE_FLOAT64:
        if (g->has_min)
            out->min = segment_order_f64(g->fmin);
        if (g->has_max)
            out->max = segment_order_f64(g->fmax);
        return true;
    case TYPE_UTF8:
        if (g->has_min)
            out->min = segment_order_text(g->smin, false);
        if (g->has_max)
            out->max = segment_order_text(g->smax, true);
        return true;
    case TYPE_UINT64:
    case TYPE_NULL:
    case TYPE_LIST: break;
    }
    return false;
}

static size_t ranges_make(struct relation *r, struct plan_range **out)
{
    const struct schema *schema = r->stream->snap.schema;
    size_t n = 0;

    *out = arena_alloc(&r->b->arena, (r->gate->ranges_count + 1) * sizeof(**out));
    if (r->opt->row_before)
        (*out)[n++] =
            (struct plan_range){ROW_ID_FIELD_ID, segment_order_i64((int64_t)MIN(r->opt->row_after, INT64_MAX - 1) + 1),
                                segment_order_i64((int64_t)MIN(r->opt->row_before - 1, INT64_MAX))};
    for (size_t i = 0; i < r->gate->ranges_count; i++) {
        const struct gate_range *g = &r->gate->ranges[i];
        uint32_t at = schema_find(schema, g->column);
        if (at == 0) { /* p_timestamp narrows the time range */
            if (g->has_min)
                r->from_us = MAX(r->from_us, g->imin);
            if (g->has_max && g->imax < INT64_MAX)
                r->to_us = MIN(r->to_us, g->imax + 1);
            continue;
        }
        if (at == FIELD_NONE || !type_eq(schema_field(schema, at)->type, g->type))
            continue;
        r->no_files |= schema_field(schema, at)->id == 0; /* null in every file: no comparison holds */
        (*out)[n].field_id = schema_field(schema, at)->id;
        n += range_order(g, &(*out)[n]);
    }
    return n;
}

/* Columns that must have one value: what filters outside the files know of. */
static size_t values_make(const struct relation *r, struct plan_value **out)
{
    const struct schema *schema = r->stream->snap.schema;
    size_t n = 0;

    *out = arena_alloc(&r->b->arena, (r->gate->ranges_count + 1) * sizeof(**out));
    for (size_t i = 0; i < r->gate->ranges_count; i++) {
        const struct gate_range *g = &r->gate->ranges[i];
        uint32_t at = schema_find(schema, g->column);
        if (at != FIELD_NONE && g->type.kind == TYPE_UTF8 && type_eq(schema_field(schema, at)->type, g->type) &&
            schema_field(schema, at)->id && g->has_min && g->has_max && slice_eq(g->smin, g->smax))
            (*out)[n++] = (struct plan_value){schema_field(schema, at)->id, segment_key_hash(g->smin)};
    }
    return n;
}

/* ---- files */

static bool counts_whole(const struct gate_output *gate)
{
    return gate->count_star && !gate->explain;
}

static bool file_inside(const struct relation *r, const struct plan_file *f)
{
    return f->tmin_us >= r->from_us && f->tmax_us < r->to_us;
}

static bool stage_inside(const struct relation *r)
{
    return r->stream->snap.stage_tmin_us >= r->from_us && r->stream->snap.stage_tmax_us < r->to_us;
}

/* How many of the files, which are sorted by their newest row, surely hold the `limit` newest rows: those before file i do when files wholly
 * newer than its newest row, and wholly in range, have that many rows. */
static size_t newest_cover(const struct relation *r, uint64_t limit)
{
    const struct plan *plan = &r->stream->plan;
    const struct lake_snapshot *snap = &r->stream->snap;
    _cleanup_(freep) size_t *pending = mem_alloc(COVER_PENDING_MAX * sizeof(*pending));
    bool stage = snap->stage_rows && stage_inside(r);
    uint64_t covered = 0;
    size_t n = 0;

    for (size_t i = 0; i < plan->count; i++) {
        int64_t newest = plan->files[i].tmax_us;
        if (stage && snap->stage_tmin_us > newest) {
            covered += snap->stage_rows;
            stage = false;
        }
        for (size_t k = 0; k < n;) {
            if (plan->files[pending[k]].tmin_us > newest) {
                covered += plan->files[pending[k]].rows;
                pending[k] = pending[--n];
            } else {
                k++;
            }
        }
        if (covered >= limit)
            return i;
        if (!file_inside(r, &plan->files[i]))
            continue;
        if (n == COVER_PENDING_MAX)
            break;
        pending[n++] = i;
    }
    return plan->count;
}

/* Without an order any rows will do; those of the newest files are wanted. */
static size_t any_cover(const struct relation *r, uint64_t limit)
{
    const struct plan *plan = &r->stream->plan;
    uint64_t covered = stage_inside(r) ? r->stream->snap.stage_rows : 0;
    size_t i = 0;

    for (; i < plan->count && covered < limit; i++)
        covered += file_inside(r, &plan->files[i]) ? plan->files[i].rows : 0;
    return i;
}

/* ---- windows: the newest rows that meet a condition, without a look at the older ones
 *
 * Rows from an instant on are all rows of the files that are newer than it, and of the stage: when the answer has as many rows as it may have,
 * older ones can not change it. The instant is just after the newest row of the first file that is left out. Each window has so many times
 * the rows of the one before that all of them together cost little more than the last. Where each file costs requests, as many small files do on a
 * remote store, their number is bounded too; what one window read of them the next has in the engine's cache. */

#define WINDOW_ROWS_OF_LIMIT 16u
#define WINDOW_GROWTH_LOG2 4u

static void window_cut(struct relation *r, const struct gate_output *gate)
{
    struct plan *plan = &r->stream->plan;
    unsigned shift = MIN((r->opt->window - 1) * WINDOW_GROWTH_LOG2, 40u);
    uint64_t want = MAX(gate->limit * WINDOW_ROWS_OF_LIMIT, r->b->pool->opt.window_rows) << shift, have = 0;
    size_t n = 0, first = r->b->pool->opt.window_files, files = plan->count;

    if (first < plan->count >> MIN(r->opt->window - 1, 40u)) /* each window has twice the files of the one before */
        files = first << (r->opt->window - 1);
    have += stage_inside(r) ? r->stream->snap.stage_rows : 0;
    while (n < files && have < want)
        have += plan->files[n++].rows;
    while (n > 0 && n < plan->count && plan->files[n - 1].tmax_us == plan->files[n].tmax_us)
        n++; /* one instant is within or without */
    if (n >= plan->count)
        return;
    r->floor_us = MAX(r->floor_us, plan->files[n].tmax_us + 1);
    r->from_us = MAX(r->from_us, r->floor_us);
    r->stream->files_count = n;
    r->b->older = true;
}

static void skip(struct relation *r, slice key)
{
    buf_slice(&r->b->skipped, key);
    buf_byte(&r->b->skipped, '\n');
    metric_add(r->b->pool->m_files_skipped, 1);
}

/* A manifest that cannot be read costs the first query that needs it, as a damaged file does; later ones do without its files. One that is
 * missing may have been merged into another since the snapshot: the next snapshot knows. */
static enum err_code drop_lost(struct relation *r, struct err *err)
{
    const struct plan *plan = &r->stream->plan;

    for (size_t i = 0; i < plan->lost_count; i++) {
        if (!damage_known(r->b->pool, plan->lost[i].key))
            return damage_manifest(r->b->pool, stream_version_name(r->stream->snap.version), &plan->lost[i], err);
        skip(r, plan->lost[i].key);
    }
    return ERR_OK;
}

static void drop_damaged(struct relation *r)
{
    struct plan *plan = &r->stream->plan;
    size_t n = 0;

    for (size_t i = 0; i < plan->count; i++) {
        if (damage_known(r->b->pool, plan->files[i].key)) {
            skip(r, plan->files[i].key);
        } else {
            plan->files[n++] = plan->files[i];
        }
    }
    plan->count = n;
}

/* count(*) of nothing but a time range: files that lie within it are counted by their entry, the others are read. */
static void count_whole(struct relation *r)
{
    struct plan *plan = &r->stream->plan;
    size_t n = 0;

    for (size_t i = 0; i < plan->count; i++) {
        if (file_inside(r, &plan->files[i]))
            r->b->counted += plan->files[i].rows;
        else
            plan->files[n++] = plan->files[i];
    }
    plan->count = n;
}

/* The same for bins: a file within one of them. */
static void count_bins(struct relation *r)
{
    struct plan *plan = &r->stream->plan;
    const struct counts_bins *bins = r->opt->bins;
    size_t n = 0;

    for (size_t i = 0; i < plan->count; i++) {
        const struct plan_file *f = &plan->files[i];
        if (file_inside(r, f) && counts_bin(bins, f->tmin_us) == counts_bin(bins, f->tmax_us))
            bins->counts[counts_bin(bins, f->tmin_us)] += f->rows;
        else
            plan->files[n++] = *f;
    }
    plan->count = n;
}

static void count_stage(const struct relation *r)
{
    const struct counts_bins *bins = r->opt->bins;

    for (size_t p = 0; p < r->stream->snap.parts_count; p++) {
        const struct batch_view *v = &r->stream->snap.parts[p];
        const struct column *c = batch_view_column(v, 0);
        for (uint32_t i = 0; c && i < v->rows; i++) {
            int64_t us = ((const int64_t *)c->values)[i];
            if (us >= r->opt->from_us && us < r->opt->to_us)
                bins->counts[counts_bin(bins, us)]++;
        }
    }
}

static enum err_code files_choose(struct relation *r, const struct gate_output *gate, struct err *err)
{
    struct bound_stream *s = r->stream;
    struct plan_range *ranges;
    struct plan_value *values;

    size_t n = ranges_make(r, &ranges), values_count = values_make(r, &values);
    if (!r->no_files && r->from_us < r->to_us)
        TRY(stream_version_plan(s->snap.version, r->from_us, r->to_us, ranges, n, &s->plan, err));
    TRY(drop_lost(r, err));
    drop_damaged(r);
    metric_add(r->b->pool->m_files_pruned,
               (double)stream_version_prune(s->snap.version, values, values_count, &s->plan));
    if (counts_whole(gate))
        count_whole(r);
    if (r->opt->bins)
        count_bins(r);
    s->files_count = s->plan.count;
    if (gate->scan && gate->limit != UINT64_MAX && (gate->top_n || gate->newest_first))
        s->files_count = gate->top_n ? newest_cover(r, gate->limit) : any_cover(r, gate->limit);
    else if (r->opt->window)
        window_cut(r, gate);
    return ERR_OK;
}

/* What the hot tier has of the files is read there. */
static void pin_hot(struct relation *r)
{
    struct bound_stream *s = r->stream;
    struct hot *hot = lake_hot(r->b->pool->lake);

    if (!hot || r->opt->cold || !stream_version_config(s->snap.version)->hot_tier_bytes)
        return;
    s->hot = arena_zalloc(&r->b->arena, s->files_count * sizeof(struct hot_file *));
    for (size_t i = 0; i < s->files_count && !running_over(r->opt->running); i++) {
        const struct hot_object o = hot_object_of(&s->plan.files[i]);
        s->hot[i] = hot_pin(hot, &o);
    }
}

static void file_path(const struct relation *r, size_t i, struct buf *path)
{
    const struct bound_stream *s = r->stream;
    struct lake *lake = r->b->pool->lake;
    struct store *store = lake_store(lake);

    path->len = 0;
    if (s->hot && s->hot[i])
        hot_path(lake_hot(lake), s->hot[i], path);
    else
        store->ops->engine_path(store, s->plan.files[i].key, path);
}

static void paths_list(struct relation *r, struct engine_files *out)
{
    struct arena *a = &r->b->arena;
    const struct plan *plan = &r->stream->plan;
    const char **paths = arena_alloc(a, r->stream->files_count * sizeof(*paths));
    _cleanup_(buf_done) struct buf path = BUF_INIT;

    out->paths = paths;
    for (size_t i = 0; i < r->stream->files_count; i++) {
        if (plan->files[i].by_name)
            continue;
        file_path(r, i, &path);
        paths[out->paths_count++] = arena_str(a, buf_view(&path));
    }
}

static void files_by_id(struct relation *r, struct buf *sql)
{
    struct binding *b = r->b;
    struct engine_file_column *columns = arena_alloc(&b->arena, r->count * sizeof(*columns));
    struct engine_files *files = &b->reads[b->reads_count];

    paths_list(r, files);
    files->columns = columns;
    for (size_t i = 0; i < r->count; i++) {
        const struct bind_column *c = &r->columns[i];
        if (c->field != FIELD_NONE && c->id != 0)
            columns[files->columns_count++] = (struct engine_file_column){c->id, c->bound, c->type};
    }
    engine_files_sql(b->reads_count++, sql);
}

/* ---- arms */

static void filters(const struct relation *r, bool from, bool to, struct buf *sql)
{
    slice time = r->columns[r->time].bound, row = r->columns[r->row].bound;
    const char *word = " WHERE ";

    if (from) {
        buf_str(sql, word);
        engine_ident(sql, time);
        buf_str(sql, " >= ");
        time_literal(sql, r->floor_us);
        word = " AND ";
    }
    if (to) {
        buf_str(sql, word);
        engine_ident(sql, time);
        buf_str(sql, " < ");
        time_literal(sql, r->opt->to_us);
        word = " AND ";
    }
    if (r->opt->row_before) {
        buf_str(sql, word);
        engine_ident(sql, row);
        buf_fmt(sql, " > %llu AND ", (unsigned long long)r->opt->row_after);
        engine_ident(sql, row);
        buf_fmt(sql, " < %llu", (unsigned long long)r->opt->row_before);
    }
}

/* Files of others: their columns go by name. A row of theirs has no row id. */
static enum err_code files_by_name(struct relation *r, struct buf *sql, struct err *err)
{
    struct arena *a = &r->b->arena;
    const struct bound_stream *s = r->stream;
    const char **paths = arena_alloc(a, s->files_count * sizeof(*paths));
    struct segment_column *columns = arena_alloc(a, r->count * sizeof(*columns));
    _cleanup_(buf_done) struct buf path = BUF_INIT;
    uint32_t n = 0, columns_count = 0;

    for (size_t i = 0; i < s->files_count; i++) {
        if (!s->plan.files[i].by_name)
            continue;
        file_path(r, i, &path);
        paths[n++] = arena_str(a, buf_view(&path));
    }
    for (size_t i = 0; i < r->count; i++) {
        const struct bind_column *c = &r->columns[i];
        if (c->field != FIELD_NONE && c->field != FIELD_ROW_ID && c->id != 0)
            columns[columns_count++] =
                (struct segment_column){schema_field(s->snap.schema, c->field)->name, c->bound, c->type};
    }
    return segment_by_name_sql(r->b->engine, paths, n, s->snap.schema, columns, columns_count, sql, err);
}

/* One arm for our own files, and one for those of others, which are read otherwise and therefore come after them. */
static enum err_code arm_files(struct relation *r, bool by_name, struct buf *sql, struct err *err)
{
    const struct plan *plan = &r->stream->plan;
    bool from = false, to = false;

    for (size_t i = 0; i < r->stream->files_count; i++) {
        if (plan->files[i].by_name != by_name)
            continue;
        from |= plan->files[i].tmin_us < r->floor_us;
        to |= plan->files[i].tmax_us >= r->opt->to_us;
        r->b->file_bytes += plan->files[i].bytes;
        r->b->files++;
    }
    select_list(r, by_name ? SHOWN_BY_NAME : SHOWN_BY_ID, sql);
    buf_str(sql, " FROM ");
    if (by_name)
        TRY(files_by_name(r, sql, err));
    else
        files_by_id(r, sql);
    filters(r, from, to, sql);
    return ERR_OK;
}

static void arm_stage(struct relation *r, struct buf *sql)
{
    struct bound_stream *s = r->stream;
    struct engine_source *src = &s->source;

    src->columns = arena_alloc(&r->b->arena, r->count * sizeof(*src->columns));
    for (size_t i = 0; i < r->count; i++)
        if (r->columns[i].field != FIELD_NONE)
            src->columns[src->columns_count++] =
                (struct engine_column){r->columns[i].field, r->columns[i].bound, r->columns[i].type};
    src->parts = arena_alloc(&r->b->arena, s->snap.parts_count * sizeof(*src->parts));
    for (size_t i = 0; i < s->snap.parts_count; i++)
        src->parts[src->parts_count++] = (struct engine_part){.view = s->snap.parts[i]};
    src->newest_first = true;
    s->source_id = engine_source_add(r->b->engine, src);
    select_list(r, SHOWN_STAGED, sql);
    buf_fmt(sql, " FROM sluice_rows(%llu)", (unsigned long long)s->source_id);
    filters(r, s->snap.stage_tmin_us < r->floor_us, s->snap.stage_tmax_us >= r->opt->to_us, sql);
}

static void arm_empty(const struct relation *r, struct buf *sql)
{
    bool any = false;

    for (size_t i = 0; i < r->count; i++) {
        const struct bind_column *c = &r->columns[i];
        if (!c->shown && !(i + 1 == r->count && !any))
            continue;
        buf_fmt(sql, any ? ", CAST(NULL AS %s) AS " : "SELECT CAST(NULL AS %s) AS ", engine_type_name(c->type));
        engine_ident(sql, c->bound);
        any = true;
    }
    buf_str(sql, " WHERE false");
}

static bool stage_matters(const struct relation *r)
{
    const struct lake_snapshot *s = &r->stream->snap;
    return s->stage_rows && s->stage_tmax_us >= r->from_us && s->stage_tmin_us < r->to_us;
}

static enum err_code relation_print(struct relation *r, const struct gate_output *gate, struct err *err)
{
    struct buf *sql = &r->b->sql;

    columns_make(r);
    TRY(files_choose(r, gate, err));
    bool stage = stage_matters(r), own = false, adopted = false, any = false;
    for (size_t i = 0; i < r->stream->files_count; i++)
        *(r->stream->plan.files[i].by_name ? &adopted : &own) = true;
    adopted &= !r->opt->row_before; /* none has a row id that could be asked for */
    if (stage && counts_whole(gate) && stage_inside(r)) {
        r->b->counted += r->stream->snap.stage_rows;
        stage = false;
    }
    if (stage && r->opt->bins) {
        count_stage(r);
        stage = false;
    }
    buf_fmt(sql, "%s AS NOT MATERIALIZED (", r->gate->alias);
    if (own || adopted)
        pin_hot(r);
    if (stage)
        arm_stage(r, sql);
    any = stage;
    if (own) {
        buf_str(sql, any ? " UNION ALL " : "");
        TRY(arm_files(r, false, sql, err));
        any = true;
    }
    if (adopted) {
        buf_str(sql, any ? " UNION ALL " : "");
        TRY(arm_files(r, true, sql, err));
        any = true;
    }
    if (!any)
        arm_empty(r, sql);
    buf_byte(sql, ')');
    return ERR_OK;
}

/* ---- the statement */

static enum err_code stream_bind(struct binding *b, const struct gate_output *gate, size_t i,
                                 const struct bind_options *opt, struct err *err)
{
    struct bound_stream *s = &b->streams[i];
    struct relation r = {.b = b,
                         .stream = s,
                         .gate = &gate->streams[i],
                         .opt = opt,
                         .from_us = opt->from_us,
                         .to_us = opt->to_us,
                         .floor_us = opt->from_us};
    enum err_code rc = lake_snapshot(b->pool->lake, gate->streams[i].name, &s->snap, err);

    if (rc == ERR_NOT_FOUND) /* dropped since the gate saw it */
        return err_set(err, ERR_INVALID,
                       "Datafusion Error: Error during planning: table 'datafusion.public." SLICE_FMT "' not found",
                       SLICE_ARG(slice_head(gate->streams[i].name, 500)));
    TRY(rc);
    s->pinned = true;
    return relation_print(&r, gate, err);
}

/* The CTEs of the streams go before those of the statement. */
static enum err_code print_statement(struct binding *b, const struct gate_output *gate, const struct bind_options *opt,
                                     struct err *err)
{
    static const slice with = {(const uint8_t *)"WITH ", 5};
    slice sql = gate->sql;

    if (gate->explain)
        buf_str(&b->sql, gate->analyze ? "EXPLAIN ANALYZE " : "EXPLAIN ");
    for (size_t i = 0; i < gate->streams_count; i++) {
        buf_str(&b->sql, i ? ", " : "WITH ");
        TRY(stream_bind(b, gate, i, opt, err));
    }
    if (gate->streams_count && slice_starts(sql, with)) {
        buf_str(&b->sql, ", ");
        sql = slice_from(sql, with.len);
    } else if (gate->streams_count) {
        buf_byte(&b->sql, ' ');
    }
    if (counts_whole(gate))
        buf_fmt(&b->sql, "SELECT CAST(%llu AS BIGINT) + (", (unsigned long long)b->counted);
    buf_str(&b->sql, opt->before ? opt->before : "");
    buf_slice(&b->sql, sql);
    buf_str(&b->sql, opt->after ? opt->after : "");
    if (counts_whole(gate))
        buf_byte(&b->sql, ')');
    return ERR_OK;
}

enum err_code bind_streams(struct query_pool *pool, struct engine *engine, const struct gate_output *gate,
                           const struct bind_options *opt, struct binding *out, struct err *err)
{
    *out = (struct binding){.pool = pool, .engine = engine};
    out->streams_count = gate->streams_count;
    if (opt->bins)
        memset(opt->bins->counts, 0, (opt->bins->whole + 1) * sizeof(*opt->bins->counts));
    out->streams = arena_zalloc(&out->arena, (gate->streams_count + 1) * sizeof(*out->streams));
    out->reads = arena_zalloc(&out->arena, (gate->streams_count + 1) * sizeof(*out->reads));
    enum err_code rc = print_statement(out, gate, opt, err);
    if (rc != ERR_OK)
        binding_done(out);
    return rc;
}

void binding_done(struct binding *b)
{
    for (size_t i = 0; i < b->streams_count; i++) {
        struct bound_stream *s = &b->streams[i];
        if (s->source_id)
            engine_source_del(b->engine, s->source_id);
        for (size_t k = 0; s->hot && k < s->files_count; k++)
            hot_unpin(lake_hot(b->pool->lake), s->hot[k]);
        plan_done(&s->plan);
        if (s->pinned)
            lake_snapshot_done(&s->snap);
    }
    buf_done(&b->sql);
    buf_done(&b->skipped);
    arena_done(&b->arena);
    *b = (struct binding){0};
}
