/* source.c: the table function sluice_rows(id): rows of our batches as DuckDB vectors, without a copy of any text.
 *
 * A vector takes up to 2,048 rows, of several parts where they are small: what DuckDB does for each vector and column would cost more than the
 * rows of a wide stream. Threads claim vectors from one counter, so a scan by one thread (which is what DuckDB uses where order matters)
 * yields them in the source's order. */
#include "engine/engine_int.h"

#define VECTOR_ROWS_MAX 2048u
#define VECTOR_SPANS_MAX 64u /* parts that a vector takes rows of */

struct bound { /* what a plan was made for */
    struct engine *engine;
    uint64_t id;
    uint32_t columns_count;
    struct type types[];
};
struct cut { /* where a vector begins */
    uint32_t part, row;
};
struct scan { /* of one query */
    const struct engine_source *source;
    uint32_t *columns; /* projected: index into source->columns */
    uint32_t columns_count;
    struct cut *cuts; /* [vectors+1], the last is the end */
    size_t vectors, cuts_cap;
    _Atomic uint64_t next;
};

/* ---- registry */

uint64_t engine_source_add(struct engine *e, const struct engine_source *source)
{
    pthread_mutex_lock(&e->mu);
    uint64_t id = 1;
    for (size_t i = 0; i < e->sources_count; i++)
        if (e->sources[i].id == id) {
            id++;
            i = SIZE_MAX; /* from the start */
        }
    *ARRAY_PUSH(e->sources, e->sources_count, e->sources_cap) = (struct source_entry){id, source};
    pthread_mutex_unlock(&e->mu);
    return id;
}

void engine_source_del(struct engine *e, uint64_t id)
{
    pthread_mutex_lock(&e->mu);
    for (size_t i = 0; i < e->sources_count; i++)
        if (e->sources[i].id == id)
            e->sources[i--] = e->sources[--e->sources_count];
    pthread_mutex_unlock(&e->mu);
}

const struct engine_source *engine_source_find(struct engine *e, uint64_t id)
{
    const struct engine_source *s = NULL;

    pthread_mutex_lock(&e->mu);
    for (size_t i = 0; i < e->sources_count; i++)
        if (e->sources[i].id == id)
            s = e->sources[i].source;
    pthread_mutex_unlock(&e->mu);
    return s;
}

/* ---- types */

static duckdb_type scalar_type(uint8_t kind)
{
    switch ((enum type_kind)kind) {
    case TYPE_BOOL: return DUCKDB_TYPE_BOOLEAN;
    case TYPE_INT64: return DUCKDB_TYPE_BIGINT;
    case TYPE_UINT64: return DUCKDB_TYPE_UBIGINT;
    case TYPE_FLOAT64: return DUCKDB_TYPE_DOUBLE;
    case TYPE_UTF8: return DUCKDB_TYPE_VARCHAR;
    case TYPE_TIMESTAMP: return DUCKDB_TYPE_TIMESTAMP_TZ;
    case TYPE_DATE32: return DUCKDB_TYPE_DATE;
    case TYPE_NULL:
    case TYPE_LIST: break;
    }
    return DUCKDB_TYPE_INTEGER; /* the item of a list that was always empty */
}

const char *engine_type_name(struct type t)
{
    static const char *const names[][2] = {
        [TYPE_NULL] = {"INTEGER", "INTEGER[]"},
        [TYPE_BOOL] = {"BOOLEAN", "BOOLEAN[]"},
        [TYPE_INT64] = {"BIGINT", "BIGINT[]"},
        [TYPE_UINT64] = {"UBIGINT", "UBIGINT[]"},
        [TYPE_FLOAT64] = {"DOUBLE", "DOUBLE[]"},
        [TYPE_UTF8] = {"VARCHAR", "VARCHAR[]"},
        [TYPE_TIMESTAMP] = {"TIMESTAMPTZ", "TIMESTAMPTZ[]"},
        [TYPE_DATE32] = {"DATE", "DATE[]"},
    };
    return t.kind == TYPE_LIST ? names[t.item][1] : names[t.kind][0];
}

duckdb_logical_type engine_logical_type(struct type t)
{
    if (t.kind != TYPE_LIST)
        return duckdb_create_logical_type(scalar_type(t.kind));
    duckdb_logical_type item = duckdb_create_logical_type(scalar_type(t.item));
    duckdb_logical_type list = duckdb_create_list_type(item);
    duckdb_destroy_logical_type(&item);
    return list;
}

/* ---- bind, init */

static void bind(duckdb_bind_info info)
{
    struct engine *e = duckdb_bind_get_extra_info(info);
    duckdb_value value = duckdb_bind_get_parameter(info, 0);
    uint64_t id = (uint64_t)duckdb_get_int64(value);
    const struct engine_source *source = engine_source_find(e, id);
    uint64_t rows = 0;

    duckdb_destroy_value(&value);
    if (!source) {
        duckdb_bind_set_error(info, "sluice_rows: no such source");
        return;
    }
    struct bound *b = mem_alloc(sizeof(*b) + source->columns_count * sizeof(*b->types));
    *b = (struct bound){e, id, source->columns_count};
    for (uint32_t i = 0; i < source->columns_count; i++) {
        b->types[i] = source->columns[i].type;
        duckdb_logical_type type = engine_logical_type(source->columns[i].type);
        char *name = mem_str(source->columns[i].name);
        duckdb_bind_add_result_column(info, name, type);
        free(name);
        duckdb_destroy_logical_type(&type);
    }
    for (uint32_t i = 0; i < source->parts_count; i++)
        rows += source->parts[i].sel ? source->parts[i].sel_count : source->parts[i].view.rows;
    duckdb_bind_set_cardinality(info, rows, true);
    duckdb_bind_set_bind_data(info, b, free);
}

/* The source as it is now: a kept plan outlives the one that it was made for. */
static const struct engine_source *source_of(const struct bound *b)
{
    const struct engine_source *source = engine_source_find(b->engine, b->id);

    if (!source || source->columns_count != b->columns_count)
        return NULL;
    for (uint32_t i = 0; i < b->columns_count; i++)
        if (!type_eq(source->columns[i].type, b->types[i]))
            return NULL;
    return source;
}

static uint32_t part_rows(const struct engine_part *p)
{
    return p->sel ? p->sel_count : p->view.rows;
}

static void scan_free(void *arg)
{
    struct scan *s = arg;
    free(s->columns);
    free(s->cuts);
    free(s);
}

static void cuts_make(struct scan *s)
{
    const uint32_t most = (uint32_t)duckdb_vector_size(), parts = s->source->parts_count;
    uint32_t rows = 0, spans = 0; /* of the last vector */

    for (uint32_t i = 0; i < parts; i++) {
        uint32_t total = part_rows(&s->source->parts[i]);
        for (uint32_t row = 0, n; row < total; row += n) {
            if (spans == 0)
                *ARRAY_PUSH(s->cuts, s->vectors, s->cuts_cap) = (struct cut){i, row};
            n = MIN(total - row, most - rows);
            rows += n;
            if (++spans == VECTOR_SPANS_MAX || rows == most)
                rows = spans = 0;
        }
    }
    *ARRAY_PUSH(s->cuts, s->vectors, s->cuts_cap) = (struct cut){parts, 0};
    s->vectors--;
}

static void init(duckdb_init_info info)
{
    const struct engine_source *source = source_of(duckdb_init_get_bind_data(info));

    if (!source) {
        duckdb_init_set_error(info, "sluice_rows: no such source");
        return;
    }
    struct scan *s = mem_zalloc(sizeof(*s));
    s->source = source;
    s->columns_count = (uint32_t)duckdb_init_get_column_count(info);
    s->columns = mem_alloc(s->columns_count * sizeof(*s->columns));
    for (uint32_t i = 0; i < s->columns_count; i++)
        s->columns[i] = (uint32_t)duckdb_init_get_column_index(info, i);
    cuts_make(s);
    duckdb_init_set_max_threads(info, s->vectors < 16 ? 1 : s->vectors / 8);
    duckdb_init_set_init_data(info, s, scan_free);
}

/* ---- vectors */

struct span { /* rows of one part */
    const struct engine_part *part;
    uint32_t at, count; /* in the window */
    uint32_t hint;      /* where the next column is looked for first: it mostly follows the last one */
    bool straight;      /* rows follow one another */
};
struct window { /* the rows of one vector */
    uint32_t count, spans_count;
    uint32_t rows[VECTOR_ROWS_MAX]; /* in their parts */
    struct span spans[VECTOR_SPANS_MAX];
    const struct column
        *columns[VECTOR_SPANS_MAX]; /* of the column that is written now, by span; NULL: the part lacks it */
};

#define GATHER(T)                                           \
    do {                                                    \
        const T *from = (const T *)values;                  \
        T *to = (T *)out + s->at;                           \
        if (s->straight) {                                  \
            memcpy(to, from + *rows, s->count * sizeof(T)); \
        } else {                                            \
            for (uint32_t i = 0; i < s->count; i++)         \
                to[i] = from[rows[i]];                      \
        }                                                   \
    } while (0)

static void gather(const struct span *s, const uint32_t *rows, size_t width, const void *values, void *out)
{
    switch (width) {
    case 1: GATHER(uint8_t); break;
    case 4: GATHER(uint32_t); break;
    case 8: GATHER(uint64_t); break;
    default: GATHER(struct text); break;
    }
}

/* valid[i]: 1 for a value, 0 for null. */
static void validity(const uint8_t *valid, uint32_t count, duckdb_vector v)
{
    duckdb_vector_ensure_validity_writable(v);
    uint64_t *mask = duckdb_vector_get_validity(v);

    for (uint32_t i = 0; i < count; i += 64) {
        uint64_t word = 0;
        uint32_t n = MIN(count - i, 64);
        for (uint32_t k = 0; k < n; k++)
            word |= (uint64_t)(valid[i + k] != 0) << k;
        mask[i / 64] = word;
    }
}

static const struct column *span_column(struct span *s, uint32_t field)
{
    const struct batch_view *v = &s->part->view;

    for (uint32_t k = 0; k < v->columns_count; k++) {
        const struct column *c = v->columns[s->hint];
        s->hint = s->hint + 1 == v->columns_count ? 0 : s->hint + 1;
        if (c->field == field)
            return c;
    }
    return NULL;
}

/* Which rows have a value; false: all. */
static bool valid_gather(const struct window *w, uint8_t *valid)
{
    bool nulls = false;

    for (uint32_t k = 0; k < w->spans_count; k++) {
        const struct span *s = &w->spans[k];
        const struct column *c = w->columns[k];
        if (c && !atomic_load_explicit(&c->has_nulls, memory_order_relaxed)) {
            memset(valid + s->at, 1, s->count);
            continue;
        }
        nulls = true;
        if (c)
            gather(s, w->rows + s->at, 1, c->valid, valid);
        else
            memset(valid + s->at, 0, s->count);
    }
    return nulls;
}

static struct list_slot list_at(const struct column *c, uint32_t row)
{
    return c && c->valid[row] ? ((const struct list_slot *)c->values)[row] : (struct list_slot){0, 0};
}

static void list_write(const struct window *w, size_t width, duckdb_vector v)
{
    duckdb_list_entry *entries = duckdb_vector_get_data(v);
    uint64_t total = 0, at = 0;

    for (uint32_t k = 0; k < w->spans_count; k++)
        for (uint32_t i = w->spans[k].at, end = i + w->spans[k].count; i < end; i++)
            total += list_at(w->columns[k], w->rows[i]).len;
    (void)duckdb_list_vector_reserve(v, total);
    (void)duckdb_list_vector_set_size(v, total);
    duckdb_vector child = duckdb_list_vector_get_child(v);
    uint8_t *to = duckdb_vector_get_data(child);
    duckdb_vector_ensure_validity_writable(child);
    uint64_t *mask = duckdb_vector_get_validity(child);
    for (uint32_t k = 0; k < w->spans_count; k++) {
        const struct column *c = w->columns[k];
        for (uint32_t i = w->spans[k].at, end = i + w->spans[k].count; i < end; i++) {
            struct list_slot s = list_at(c, w->rows[i]);
            entries[i] = (duckdb_list_entry){at, s.len};
            bool typed = s.len && c->type.item != TYPE_NULL; /* else all its items are null */
            if (typed)
                memcpy(to + at * width, (const uint8_t *)c->item->values + (size_t)s.offset * width, s.len * width);
            for (uint32_t n = 0; n < s.len; n++, at++)
                duckdb_validity_set_row_validity(mask, at, typed && c->item->valid[s.offset + n]);
        }
    }
}

static void column_write(struct window *w, const struct engine_column *column, duckdb_vector v)
{
    uint8_t valid[VECTOR_ROWS_MAX] = {0};
    void *out = duckdb_vector_get_data(v);

    for (uint32_t k = 0; k < w->spans_count; k++)
        w->columns[k] = span_column(&w->spans[k], column->field);
    if (column->type.kind == TYPE_LIST)
        list_write(w, type_width((struct type){column->type.item, TYPE_NULL}), v);
    else
        for (uint32_t k = 0; k < w->spans_count; k++)
            if (w->columns[k])
                gather(&w->spans[k], w->rows + w->spans[k].at, type_width(column->type), w->columns[k]->values, out);
    if (valid_gather(w, valid))
        validity(valid, w->count, v);
}

/* Rows [from, end) of a part, in its order. */
static void span_add(struct window *w, const struct engine_part *p, bool newest_first, uint32_t from, uint32_t end)
{
    uint32_t last = part_rows(p) - 1;

    w->spans[w->spans_count++] =
        (struct span){.part = p, .at = w->count, .count = end - from, .straight = !p->sel && !newest_first};
    for (uint32_t n = from; n < end; n++)
        w->rows[w->count++] = p->sel ? p->sel[n] : newest_first ? last - n : n;
}

static void window_fill(const struct scan *s, uint64_t number, struct window *w)
{
    struct cut from = s->cuts[number], end = s->cuts[number + 1];

    for (uint32_t part = from.part; part < end.part || (part == end.part && end.row > 0); part++) {
        const struct engine_part *p = &s->source->parts[part];
        uint32_t first = part == from.part ? from.row : 0, rows = part == end.part ? end.row : part_rows(p);
        if (first < rows)
            span_add(w, p, s->source->newest_first, first, rows);
    }
}

static void scan(duckdb_function_info info, duckdb_data_chunk out)
{
    struct scan *s = duckdb_function_get_init_data(info);
    uint64_t number = atomic_fetch_add(&s->next, 1);
    struct window w = {0};

    if (number >= s->vectors) {
        duckdb_data_chunk_set_size(out, 0);
        return;
    }
    window_fill(s, number, &w);
    ASSERT(w.count > 0); /* no cut without rows behind it */
    for (uint32_t i = 0; i < s->columns_count; i++)
        if (s->columns[i] < s->source->columns_count) /* beyond: a row number that nobody reads (count(*)) */
            column_write(&w, &s->source->columns[s->columns[i]], duckdb_data_chunk_get_vector(out, i));
    duckdb_data_chunk_set_size(out, w.count);
}

enum err_code engine_source_register(struct engine *e, struct err *err)
{
    duckdb_table_function f = duckdb_create_table_function();
    duckdb_logical_type id = duckdb_create_logical_type(DUCKDB_TYPE_BIGINT);

    ASSERT(duckdb_vector_size() <= VECTOR_ROWS_MAX);
    duckdb_table_function_set_name(f, "sluice_rows");
    duckdb_table_function_add_parameter(f, id);
    duckdb_table_function_set_extra_info(f, e, NULL);
    duckdb_table_function_set_bind(f, bind);
    duckdb_table_function_set_init(f, init);
    duckdb_table_function_set_function(f, scan);
    duckdb_table_function_supports_projection_pushdown(f, true);
    duckdb_state state = duckdb_register_table_function(e->con, f);
    duckdb_destroy_logical_type(&id);
    duckdb_destroy_table_function(&f);
    return state == DuckDBSuccess ? ERR_OK : err_set(err, ERR_UNKNOWN, "engine: sluice_rows cannot be registered");
}
