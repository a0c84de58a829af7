/* source.c: the table function sluice_rows(id): rows of our batches as DuckDB vectors, without a copy of any text.
 *
 * A vector takes up to 2,048 rows of one part. Threads claim vectors from one counter, so a scan by one thread (which is what
 * DuckDB uses where order matters) yields them in the source's order. */
#include "engine/engine_int.h"

struct bound { /* what a plan was made for */
    struct engine *engine;
    uint64_t id;
    uint32_t columns_count;
    struct type types[];
};
struct scan { /* of one query */
    const struct engine_source *source;
    uint32_t *columns; /* projected: index into source->columns */
    uint32_t columns_count;
    uint64_t *starts; /* [parts+1]: number of the first vector of each part */
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
    free(s->starts);
    free(s);
}

static void init(duckdb_init_info info)
{
    const struct engine_source *source = source_of(duckdb_init_get_bind_data(info));
    uint64_t vector = duckdb_vector_size();

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
    s->starts = mem_alloc((s->source->parts_count + 1) * sizeof(*s->starts));
    s->starts[0] = 0;
    for (uint32_t i = 0; i < s->source->parts_count; i++)
        s->starts[i + 1] = s->starts[i] + (part_rows(&s->source->parts[i]) + vector - 1) / vector;
    uint64_t vectors = s->starts[s->source->parts_count];
    duckdb_init_set_max_threads(info, vectors < 16 ? 1 : vectors / 8);
    duckdb_init_set_init_data(info, s, scan_free);
}

/* ---- vectors */

struct window { /* the rows of one vector */
    const struct engine_part *part;
    uint32_t count;
    uint32_t rows[2048];
    bool straight; /* rows[0], rows[0] + 1, ... */
};

#define GATHER(T)                                                \
    do {                                                         \
        const T *from = (const T *)values;                       \
        T *to = (T *)out;                                        \
        if (w->straight) {                                       \
            memcpy(to, from + w->rows[0], w->count * sizeof(T)); \
        } else {                                                 \
            for (uint32_t i = 0; i < w->count; i++)              \
                to[i] = from[w->rows[i]];                        \
        }                                                        \
    } while (0)

static void gather(const struct window *w, size_t width, const void *values, void *out)
{
    switch (width) {
    case 1: GATHER(uint8_t); break;
    case 4: GATHER(uint32_t); break;
    case 8: GATHER(uint64_t); break;
    default: GATHER(struct text); break;
    }
}

static void validity(const uint8_t *valid, const uint32_t *rows, uint64_t count, duckdb_vector v)
{
    duckdb_vector_ensure_validity_writable(v);
    uint64_t *mask = duckdb_vector_get_validity(v);

    for (uint64_t i = 0; i < count; i += 64) {
        uint64_t word = 0, n = MIN(count - i, 64);
        for (uint64_t k = 0; k < n; k++)
            word |= (uint64_t)(valid[rows ? rows[i + k] : i + k] != 0) << k;
        mask[i / 64] = word;
    }
}

static void all_null(duckdb_vector v, uint64_t count)
{
    duckdb_vector_ensure_validity_writable(v);
    memset(duckdb_vector_get_validity(v), 0, (count + 63) / 64 * 8);
}

static void list_write(const struct window *w, const struct column *c, duckdb_vector v)
{
    duckdb_list_entry *entries = duckdb_vector_get_data(v);
    const struct list_slot *slots = c->values;
    uint64_t total = 0, at = 0;
    struct type item = {c->type.item, TYPE_NULL};
    size_t width = type_width(item);

    for (uint32_t i = 0; i < w->count; i++)
        total += c->valid[w->rows[i]] ? slots[w->rows[i]].len : 0;
    (void)duckdb_list_vector_reserve(v, total);
    (void)duckdb_list_vector_set_size(v, total);
    duckdb_vector child = duckdb_list_vector_get_child(v);
    uint8_t *to = duckdb_vector_get_data(child);
    duckdb_vector_ensure_validity_writable(child);
    uint64_t *mask = duckdb_vector_get_validity(child);
    for (uint32_t i = 0; i < w->count; i++) {
        struct list_slot s = c->valid[w->rows[i]] ? slots[w->rows[i]] : (struct list_slot){0, 0};
        entries[i] = (duckdb_list_entry){at, s.len};
        if (s.len && c->type.item != TYPE_NULL)
            memcpy(to + at * width, (const uint8_t *)c->item->values + (size_t)s.offset * width, s.len * width);
        for (uint32_t k = 0; k < s.len; k++, at++)
            duckdb_validity_set_row_validity(mask, at, c->type.item != TYPE_NULL && c->item->valid[s.offset + k]);
    }
}

static void column_write(const struct window *w, const struct engine_column *column, duckdb_vector v)
{
    const struct column *c = batch_view_column(&w->part->view, column->field);

    if (!c) {
        all_null(v, w->count);
        return;
    }
    if (c->type.kind == TYPE_LIST)
        list_write(w, c, v);
    else
        gather(w, type_width(c->type), c->values, duckdb_vector_get_data(v));
    if (atomic_load_explicit(&c->has_nulls, memory_order_relaxed))
        validity(c->valid, w->rows, w->count, v);
}

static void window_fill(const struct engine_source *source, const struct engine_part *p, uint64_t from, uint64_t vector,
                        struct window *w)
{
    uint32_t total = part_rows(p);

    w->part = p;
    w->count = (uint32_t)MIN(vector, total - from);
    w->straight = !p->sel && !source->newest_first;
    for (uint32_t i = 0; i < w->count; i++) {
        uint32_t n = (uint32_t)from + i;
        w->rows[i] = p->sel ? p->sel[n] : source->newest_first ? total - 1 - n : n;
    }
}

static void scan(duckdb_function_info info, duckdb_data_chunk out)
{
    struct scan *s = duckdb_function_get_init_data(info);
    uint64_t number = atomic_fetch_add(&s->next, 1), vector = duckdb_vector_size();
    uint32_t lo = 0, hi = s->source->parts_count;
    struct window w;

    if (number >= s->starts[s->source->parts_count]) {
        duckdb_data_chunk_set_size(out, 0);
        return;
    }
    while (hi - lo > 1) { /* last part that starts at or before `number` */
        uint32_t mid = lo + (hi - lo) / 2;
        if (s->starts[mid] <= number)
            lo = mid;
        else
            hi = mid;
    }
    window_fill(s->source, &s->source->parts[lo], (number - s->starts[lo]) * vector, vector, &w);
    ASSERT(w.count > 0); /* starts[] gives a part no window beyond its rows */
    for (uint32_t i = 0; i < s->columns_count; i++)
        if (s->columns[i] < s->source->columns_count) /* beyond: a row number that nobody reads (count(*)) */
            column_write(&w, &s->source->columns[s->columns[i]], duckdb_data_chunk_get_vector(out, i));
    duckdb_data_chunk_set_size(out, w.count);
}

enum err_code engine_source_register(struct engine *e, struct err *err)
{
    duckdb_table_function f = duckdb_create_table_function();
    duckdb_logical_type id = duckdb_create_logical_type(DUCKDB_TYPE_BIGINT);

    ASSERT(duckdb_vector_size() <= ARRAY_LEN(((struct window *)0)->rows));
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
