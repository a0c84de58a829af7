/* keys.c: the distinct hashes of the values of a file's key-like text columns.
 *
 * Two readings: the footer tells which columns are worth it, then only those are read, by the relation that merges and queries of adopted
 * files use too, so that a value here is the value that SQL compares. Chunks are streamed: of a file no more than the hashes is held.
 * They are appended as they come. When there is no room their array is sorted and made distinct, and gets room for as many again if
 * that freed less than half: a value costs a few sorted words, and a column with few distinct ones stays small. */
#include "base/hash.h"
#include "segment/segment_int.h"

#define ROOM_MIN (64u << 10) /* hashes */
#define INSERTED_MAX 32      /* so few are sorted by insertion */

struct gather { /* a column */
    uint32_t field, field_id;
    uint32_t leaf; /* of the row groups */
    bool key_like;
    double values; /* NULLs counted */
    uint64_t *hashes;
    size_t count, cap;
};
struct gathers {
    struct gather *items;
    size_t count, cap;
};

static void gathers_done(struct gathers *g)
{
    for (size_t i = 0; i < g->count; i++)
        free(g->items[i].hashes);
    free(g->items);
}

uint64_t segment_key_hash(slice value)
{
    return hash64(value, 0);
}

/* ---- distinct */

static void insertion_sort(uint64_t *a, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        uint64_t v = a[i];
        size_t k = i;
        for (; k && a[k - 1] > v; k--)
            a[k] = a[k - 1];
        a[k] = v;
    }
}

/* The lowest `left` bits: by the highest of those, as many as leave parts of some 8 hashes (they are spread evenly), but no more than 8 at a
 * time for the caches; then each part by the next ones. In place, so that it takes no memory. 32 deep at most, where hashes were made to be
 * nearly the same. */
static void radix_sort(uint64_t *a, size_t n, unsigned left)
{
    size_t end[256], at[256], sum = 0;
    unsigned bits = 0;

    if (n <= INSERTED_MAX) {
        insertion_sort(a, n);
        return;
    }
    while (bits < 8 && bits < left && n >> (bits + 4))
        bits++;
    unsigned shift = left - bits, parts = 1u << bits;
    uint64_t mask = parts - 1;
    memset(end, 0, parts * sizeof(*end));
    for (size_t i = 0; i < n; i++)
        end[a[i] >> shift & mask]++;
    for (unsigned b = 0; b < parts; b++) {
        at[b] = sum;
        sum += end[b];
        end[b] = sum;
    }
    for (unsigned b = 0; b < parts; b++)
        while (at[b] < end[b]) {
            uint64_t v = a[at[b]];
            for (uint64_t to = v >> shift & mask; to != b; to = v >> shift & mask) {
                uint64_t moved = a[at[to]];
                a[at[to]++] = v;
                v = moved;
            }
            a[at[b]++] = v;
        }
    for (unsigned b = 0; shift && b < parts; b++) {
        size_t from = b ? end[b - 1] : 0;
        radix_sort(a + from, end[b] - from, shift);
    }
}

static void make_distinct(struct gather *g)
{
    size_t n = 0;

    if (!g->count)
        return;
    radix_sort(g->hashes, g->count, 64);
    for (size_t i = 0; i < g->count; i++)
        if (n == 0 || g->hashes[n - 1] != g->hashes[i])
            g->hashes[n++] = g->hashes[i];
    g->count = n;
}

static void make_room(struct gather *g, size_t more)
{
    if (g->cap - g->count >= more)
        return;
    make_distinct(g);
    size_t cap = MAX(MAX(2 * g->count, g->count + more), ROOM_MIN);
    if (cap <= g->cap)
        return;
    g->hashes = mem_realloc(g->hashes, cap * sizeof(*g->hashes));
    g->cap = cap;
}

static void take_values(struct gather *g, const struct engine_vector *v, uint64_t rows)
{
    const struct text *texts = v->data;

    make_room(g, rows);
    for (uint64_t i = 0; i < rows; i++)
        if (engine_valid(v, i))
            g->hashes[g->count++] = segment_key_hash(text_slice(&texts[i]));
}

/* ---- which columns */

static uint32_t field_of(const struct schema *schema, const struct segment_file_column *c, bool by_name)
{
    if (by_name)
        return schema_find(schema, c->name);
    for (uint32_t i = 0; c->field_id && i < schema_count(schema); i++)
        if (schema_field(schema, i)->id == c->field_id)
            return i;
    return FIELD_NONE;
}

/* The text columns of the file, in its order. */
static enum err_code find_texts(struct engine *e, const struct schema *schema, const struct segment_input *input,
                                bool *used, struct gathers *out, struct err *err)
{
    _cleanup_(arena_done) struct arena arena = ARENA_INIT;
    struct segment_file_column *columns;
    size_t n;

    TRY(segment_file_columns(e, input->path, &arena, &columns, &n, err));
    for (size_t i = 0; i < n; i++) {
        uint32_t field = columns[i].nested ? FIELD_NONE : field_of(schema, &columns[i], input->by_name);
        if (field == FIELD_NONE || used[field])
            continue;
        const struct field *f = schema_field(schema, field);
        if (f->type.kind != TYPE_UTF8 || f->id == 0)
            continue;
        used[field] = true;
        *ARRAY_PUSH(out->items, out->count, out->cap) =
            (struct gather){.field = field, .field_id = f->id, .leaf = columns[i].leaf};
    }
    return ERR_OK;
}

/* Leaves are the only sure name that the metadata has for a column: its paths join names by what names may contain. */
static enum err_code find_key_like(struct engine *e, const char *path, struct gathers *g, struct err *err)
{
    _cleanup_(engine_result_freep) struct engine_result *r = NULL;
    _cleanup_(buf_done) struct buf sql = BUF_INIT;
    const struct engine_chunk *chunk;
    size_t at = 0;

    buf_str(&sql, "SELECT column_id::BIGINT AS leaf, coalesce(sum(total_uncompressed_size), 0)::DOUBLE, "
                  "coalesce(sum(num_values), 0)::DOUBLE FROM parquet_metadata(");
    segment_paths_sql(&path, 1, &sql);
    buf_str(&sql, ") WHERE column_id IS NOT NULL GROUP BY leaf ORDER BY leaf");
    TRY(engine_run(e, &(struct engine_query){.sql = buf_cstr(&sql), .materialize = true}, &r, err));
    for (;;) {
        TRY(engine_result_next(r, &chunk, err));
        if (!chunk)
            return ERR_OK;
        const struct engine_vector *c = chunk->columns;
        for (uint64_t i = 0; i < chunk->rows; i++) {
            int64_t leaf = ((const int64_t *)c[0].data)[i];
            double bytes = ((const double *)c[1].data)[i], values = ((const double *)c[2].data)[i];
            while (at < g->count && g->items[at].leaf < leaf)
                at++;
            if (at == g->count || g->items[at].leaf != leaf)
                continue;
            g->items[at].values = values;
            g->items[at].key_like = bytes > SEGMENT_KEY_BYTES_MIN * values && bytes <= SEGMENT_KEY_BYTES_MAX * values;
        }
    }
}

static int by_field_id(const void *a, const void *b)
{
    uint32_t x = ((const struct gather *)a)->field_id, y = ((const struct gather *)b)->field_id;

    return (x > y) - (x < y);
}

static enum err_code choose(struct engine *e, const struct schema *schema, const struct segment_input *input,
                            bool *used, struct gathers *out, struct err *err)
{
    size_t n = 0;

    TRY(find_texts(e, schema, input, used, out, err));
    TRY(find_key_like(e, input->path, out, err));
    for (size_t i = 0; i < out->count; i++)
        if (out->items[i].key_like)
            out->items[n++] = out->items[i];
    if (n)
        qsort(out->items, n, sizeof(*out->items), by_field_id);
    out->count = 0;
    for (double values = 0; out->count < MIN(n, SEGMENT_KEYS_COLUMNS_MAX); out->count++) {
        values += out->items[out->count].values;
        if (values > SEGMENT_KEYS_VALUES_MAX)
            break;
    }
    memset(used, 0, schema_count(schema));
    for (size_t i = 0; i < out->count; i++)
        used[out->items[i].field] = true;
    return ERR_OK;
}

/* ---- their values */

static enum err_code gather(struct engine *e, const struct schema *schema, const struct segment_input *input,
                            const bool *used, struct gathers *g, struct err *err)
{
    _cleanup_(engine_result_freep) struct engine_result *r = NULL;
    _cleanup_(buf_done) struct buf sql = BUF_INIT;
    const struct engine_chunk *chunk;

    if (g->count == 0)
        return ERR_OK;
    buf_str(&sql, "SELECT ");
    for (size_t i = 0; i < g->count; i++)
        buf_fmt(&sql, "%sc%u", i ? ", " : "", g->items[i].field);
    buf_str(&sql, " FROM ");
    TRY(segment_input_sql(e, schema, input, used, &sql, err));
    TRY(engine_run(e, &(struct engine_query){.sql = buf_cstr(&sql)}, &r, err));
    for (;;) {
        TRY(engine_result_next(r, &chunk, err));
        if (!chunk)
            return ERR_OK;
        for (size_t i = 0; i < g->count; i++)
            take_values(&g->items[i], &chunk->columns[i], chunk->rows);
    }
}

static void hand_over(struct gathers *g, struct segment_keys *out)
{
    for (size_t i = 0; i < g->count; i++) {
        struct gather *from = &g->items[i];
        make_distinct(from);
        if (from->count)
            from->hashes = mem_realloc(from->hashes, from->count * sizeof(*from->hashes));
        *ARRAY_PUSH(out->columns, out->count, out->cap) =
            (struct segment_keys_column){from->field_id, move_ptr(from->hashes), from->count};
    }
}

enum err_code segment_keys(struct segment_writer *w, const struct schema *schema, const struct segment_input *input,
                           struct segment_keys *out, struct err *err)
{
    _cleanup_(segment_lease_end) struct segment_lease lease = {0};
    _cleanup_(gathers_done) struct gathers g = {0};
    _cleanup_(freep) bool *used = mem_zalloc(schema_count(schema) + 1);

    TRY(segment_lease_begin(w, &lease, err));
    TRY(choose(lease.engine, schema, input, used, &g, err));
    TRY(gather(lease.engine, schema, input, used, &g, err));
    *out = (struct segment_keys){0};
    hand_over(&g, out);
    return ERR_OK;
}

void segment_keys_done(struct segment_keys *k)
{
    for (size_t i = 0; i < k->count; i++)
        free(k->columns[i].hashes);
    free(k->columns);
    *k = (struct segment_keys){0};
}
