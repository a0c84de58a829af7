/* segment_test.c: rows to Parquet and back through the real engine: order, types, names, statistics, field ids, merging, keys, damage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/hash.h"
#include "engine/engine.h"
#include "segment/segment_int.h"

#define T(kind)                \
    {                          \
        TYPE_##kind, TYPE_NULL \
    }
static const struct field fields[] = {
    {slice_lit("level"), T(UTF8), 0, 0},
    {slice_lit("Level"), T(FLOAT64), 0, 0},
    {slice_lit("ok"), T(BOOL), 0, 0},
    {slice_lit("n"), T(INT64), 0, 0},
    {slice_lit("u"), T(UINT64), 0, 0},
    {slice_lit("day"), T(DATE32), 0, 0},
    {slice_lit("tags"), {TYPE_LIST, TYPE_UTF8}, 0, 0},
    {slice_lit("never"), T(UTF8), 0, 0},
    {slice_lit("we\"ird, {'x'}"), T(UTF8), 0, 0},
    {slice_lit(""), T(INT64), 0, 0},
    {slice_lit("a\0b"), T(INT64), 0, 0},
    {slice_lit("_row_id"), T(UTF8), 0, 0},
    {slice_lit("__duckdb_field_id"), T(INT64), 0, 0},
    {slice_lit("nulls"), {TYPE_LIST, TYPE_NULL}, 0, 0},
    {slice_lit("at"), T(TIMESTAMP), 0, 0},
};
#define FIELDS (1 + ARRAY_LEN(fields))

static struct schema *make_schema(void)
{
    uint32_t ids[FIELDS], items[FIELDS];
    struct schema *empty = schema_empty(), *grown = schema_grow(empty, fields, ARRAY_LEN(fields));

    for (uint32_t i = 0; i < FIELDS; i++) {
        ids[i] = 1 + i;
        items[i] = schema_field(grown, i)->type.kind == TYPE_LIST ? 100 + i : 0;
    }
    struct schema *s = schema_with_ids(grown, ids, items);
    schema_unref(empty);
    schema_unref(grown);
    return s;
}

/* Rows [from, from + n): p_timestamp = row ms; every third text is null. */
static struct batch *make_batch(uint32_t from, uint32_t n)
{
    struct batch *b = batch_new(n);
    struct column *c[FIELDS];
    char text[60];

    for (uint32_t f = 0; f < FIELDS; f++) {
        c[f] = batch_add(b, f, f ? fields[f - 1].type : (struct type)T(TIMESTAMP));
        c[f]->has_nulls = true;
    }
    struct column *id = batch_add(b, FIELD_ROW_ID, (struct type)T(INT64));
    for (uint32_t i = 0; i < n; i++) {
        uint32_t row = from + i;
        for (uint32_t f = 0; f < FIELDS; f++)
            c[f]->valid[i] = fields[f ? f - 1 : 0].name.len != 5 || f == 0; /* level, Level, never: see below */
        (void)snprintf(text, sizeof(text), "level of row %08u", row);
        ((int64_t *)c[0]->values)[i] = row * INT64_C(1000);
        c[1]->valid[i] = row % 3 != 0;
        if (c[1]->valid[i])
            ((struct text *)c[1]->values)[i] = batch_text(b, slice_str(text));
        c[2]->valid[i] = 1;
        ((double *)c[2]->values)[i] = row % 2 ? -(double)row : row / 4.0;
        ((uint8_t *)c[3]->values)[i] = row % 2;
        ((int64_t *)c[4]->values)[i] = -(int64_t)row;
        ((uint64_t *)c[5]->values)[i] = UINT64_MAX - row;
        ((int32_t *)c[6]->values)[i] = (int32_t)row;
        uint32_t at = batch_items(b, c[7], 2);
        ((struct list_slot *)c[7]->values)[i] = (struct list_slot){at, row % 3};
        for (uint32_t k = 0; k < row % 3 && k < 2; k++) {
            ((struct text *)c[7]->item->values)[at + k] = batch_text(b, slice_str(text));
            c[7]->item->valid[at + k] = (uint8_t)k;
        }
        ((struct text *)c[9]->values)[i] = batch_text(b, slice_lit("weird"));
        ((int64_t *)c[10]->values)[i] = ((int64_t *)c[11]->values)[i] = ((int64_t *)c[13]->values)[i] = 7;
        ((struct text *)c[12]->values)[i] = batch_text(b, slice_lit("mine"));
        c[14]->valid[i] = 1;
        at = batch_items(b, c[14], 1);
        ((struct list_slot *)c[14]->values)[i] = (struct list_slot){at, 1};
        ((int64_t *)c[15]->values)[i] = row * INT64_C(1000000);
        ((int64_t *)id->values)[i] = row;
        id->valid[i] = 1;
    }
    b->rows = n;
    return b;
}

static int memory_file(void)
{
    int fd = memfd_create("segment_test", MFD_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static struct segment_writer *writer(void)
{
    static const char *const dirs[] = {"/proc/", NULL};
    struct segment_writer *w = NULL;
    struct err err = {0};

    if (segment_writer_open(NULL, dirs, &w, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    return w;
}

/* One value of SQL over the file, @ standing for its path. */
static void expect(int fd, const char *sql, const char *want)
{
    static const char *const dirs[] = {"/proc/self/fd/", NULL};
    const struct engine_options opt = {.memory_bytes = 256u << 20, .threads = 1, .allowed_dirs = dirs};
    _cleanup_(buf_done) struct buf text = BUF_INIT;
    struct engine *e = NULL;
    struct engine_result *r = NULL;
    const struct engine_chunk *chunk = NULL;
    struct err err = {0};

    buf_str(&text, "SELECT CAST((");
    for (const char *p = sql; *p; p++) {
        if (*p == '@')
            buf_fmt(&text, "'/proc/self/fd/%d'", fd);
        else
            buf_byte(&text, (uint8_t)*p);
    }
    buf_str(&text, ") AS VARCHAR)");
    const struct engine_query q = {.sql = buf_cstr(&text)};
    if (engine_open(&opt, &e, &err) != ERR_OK || engine_run(e, &q, &r, &err) != ERR_OK ||
        engine_result_next(r, &chunk, &err) != ERR_OK)
        fail_msg("%s: %s", sql, err.msg);
    slice got = engine_valid(&chunk->columns[0], 0) ? text_slice(chunk->columns[0].data) : slice_lit("NULL");
    if (!slice_eq(got, slice_str(want)))
        fail_msg("%s gave " SLICE_FMT ", not %s", sql, SLICE_ARG(got), want);
    engine_result_free(r);
    engine_close(e);
}

/* Another's file: what the query gives. */
static void copy_into(int fd, const char *query)
{
    static const char *const dirs[] = {"/proc/self/fd/", NULL};
    const struct engine_options opt = {.memory_bytes = 256u << 20, .threads = 1, .allowed_dirs = dirs};
    _cleanup_(buf_done) struct buf sql = BUF_INIT;
    struct engine *e = NULL;
    struct engine_result *r = NULL;
    struct err err = {0};

    buf_fmt(&sql, "COPY (%s) TO '/proc/self/fd/%d' (FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false)", query, fd);
    const struct engine_query q = {.sql = buf_cstr(&sql), .materialize = true};
    if (engine_open(&opt, &e, &err) != ERR_OK || engine_run(e, &q, &r, &err) != ERR_OK)
        fail_msg("%s: %s", query, err.msg);
    engine_result_free(r);
    engine_close(e);
}

/* The engine writes no two columns that differ only in case; other writers do. */
static void rename_in(int fd, const char *from, const char *to)
{
    size_t size = (size_t)lseek(fd, 0, SEEK_END), n = strlen(from);
    _cleanup_(freep) uint8_t *bytes = mem_alloc(size);

    assert_int_equal(pread(fd, bytes, size, 0), size);
    for (size_t i = 0; i + n <= size; i++)
        if (memcmp(bytes + i, from, n) == 0)
            memcpy(bytes + i, to, n);
    assert_int_equal(pwrite(fd, bytes, size, 0), size);
}

static void expect_stat(const struct segment_stats *s, uint32_t id, uint64_t min, uint64_t max, uint32_t nulls)
{
    for (uint32_t i = 0; i < s->cols_count; i++)
        if (s->cols[i].field_id == id) {
            assert_int_equal(s->cols[i].min, min);
            assert_int_equal(s->cols[i].max, max);
            assert_int_equal(s->cols[i].nulls, nulls);
            return;
        }
    fail_msg("no statistics of field %u", id);
}

static void check_stats(const struct segment_stats *s, uint32_t rows)
{
    assert_int_equal(s->rows, rows);
    assert_int_equal(s->tmin_us, 0);
    assert_int_equal(s->tmax_us, (rows - 1) * INT64_C(1000));
    assert_true(s->cols_count <= 16);
    assert_int_equal(s->cols[0].field_id, 1);
    for (uint32_t i = 1; i < s->cols_count; i++)
        assert_true(s->cols[i].field_id > s->cols[i - 1].field_id && s->cols[i].field_id != 8 &&
                    s->cols[i].field_id != 9);
    expect_stat(s, 2, segment_order_text(slice_lit("level of"), false),
                segment_order_text(slice_lit("level of r"), true), (rows + 2) / 3);
    uint32_t odd = rows % 2 ? rows - 2 : rows - 1, even = rows % 2 ? rows - 1 : rows - 2;
    expect_stat(s, 3, segment_order_f64(-(double)odd), segment_order_f64(even / 4.0), 0);
    expect_stat(s, 4, segment_order_i64(0), segment_order_i64(1), 0);
    expect_stat(s, 5, segment_order_i64(-(int64_t)rows + 1), segment_order_i64(0), 0);
    expect_stat(s, 6, UINT64_MAX - rows + 1, UINT64_MAX, 0);
    expect_stat(s, 7, segment_order_i64(0), segment_order_i64(rows - 1), 0);
}

static void write_batch(struct segment_writer *w, const struct schema *schema, uint32_t from, uint32_t n, int fd,
                        struct segment_stats *s)
{
    struct batch *b = make_batch(from, n);
    struct segment_part part = {0};
    struct err err = {0};

    batch_view_take(b, n, &part.view);
    if (segment_write(w, schema, &part, 1, fd, s, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    batch_view_done(&part.view);
    batch_unref(b);
}

static void test_order(void **state)
{
    static const double doubles[] = {-1.0 / 0.0, -1e300, -1.5, -1e-300, 0.0, 1e-300, 1.5, 1e300, 1.0 / 0.0};
    static const char *const texts[] = {"", "a", "ab", "abcdefgh", "b", "\xff\xff\xff\xff\xff\xff\xff\xff"};
    (void)state;

    for (size_t i = 1; i < ARRAY_LEN(doubles); i++)
        assert_true(segment_order_f64(doubles[i - 1]) < segment_order_f64(doubles[i]));
    assert_int_equal(segment_order_f64(-0.0), segment_order_f64(0.0));
    for (size_t i = 1; i < ARRAY_LEN(texts); i++)
        assert_true(segment_order_text(slice_str(texts[i - 1]), false) <
                    segment_order_text(slice_str(texts[i]), false));
    assert_true(segment_order_text(slice_lit("abcdefghi"), true) > segment_order_text(slice_lit("abcdefgh"), true));
    assert_int_equal(segment_order_text(slice_lit("\xff\xff\xff\xff\xff\xff\xff\xff\xff"), true), UINT64_MAX);
    assert_true(segment_order_i64(INT64_MIN) < segment_order_i64(-1) && segment_order_i64(-1) < segment_order_i64(0) &&
                segment_order_i64(0) < segment_order_i64(INT64_MAX));
}

/* Ranges of texts are found by a shortcut: random ones, against the definition of every value. */
static void test_text_ranges(void **state)
{
    struct schema *schema = make_schema();
    uint32_t seed = 7;
    (void)state;

    for (unsigned round = 0; round < 500; round++) {
        struct batch *b = batch_new(40);
        struct column *c = batch_add(b, 1, (struct type)T(UTF8));
        uint64_t min = UINT64_MAX, max = 0;
        (void)batch_add(b, 0, (struct type)T(TIMESTAMP));
        c->has_nulls = true;
        for (b->rows = 0; b->rows < 1 + round % 40; b->rows++) {
            char text[16];
            size_t len = (seed = seed * 1103515245 + 12345) >> 16 & 15;
            for (size_t i = 0; i < len; i++)
                text[i] = "aab\0\377"[((seed = seed * 1103515245 + 12345) >> 16) % 5];
            c->valid[b->rows] = len != 5;
            if (len == 5)
                continue;
            ((struct text *)c->values)[b->rows] = batch_text(b, slice_of(text, len));
            min = MIN(min, segment_order_text(slice_of(text, len), false));
            max = MAX(max, segment_order_text(slice_of(text, len), true));
        }
        struct segment_part part = {0};
        struct segment_stats stats = {0};
        const uint32_t which[] = {0, 1};
        batch_view_take(b, b->rows, &part.view);
        segment_stats_compute(schema, &part, 1, which, 2, &stats);
        if (stats.cols[1].has_minmax) {
            assert_int_equal(stats.cols[1].min, min);
            assert_int_equal(stats.cols[1].max, max);
        }
        batch_view_done(&part.view);
        batch_unref(b);
    }
    schema_unref(schema);
}

/* As many columns as a stream may have fit into the writer's memory, without a folder to spill to. */
static void test_wide(void **state)
{
    enum { WIDE = 1000, WIDE_ROWS = 10000 };
    _cleanup_(arena_done) struct arena arena = ARENA_INIT;
    struct field *more = arena_zalloc(&arena, WIDE * sizeof(*more));
    uint32_t *ids = arena_zalloc(&arena, 2 * (WIDE + 1) * sizeof(*ids));
    struct segment_writer *w = writer();
    struct batch *b = batch_new(WIDE_ROWS);
    struct segment_part part = {0};
    struct segment_stats stats;
    struct err err = {0};
    int fd = memory_file();
    (void)state;

    for (uint32_t f = 0; f < WIDE; f++)
        more[f] = (struct field){.name = slice_str(arena_fmt(&arena, "wide_%u", f)), .type = T(UTF8)};
    for (uint32_t f = 0; f <= WIDE; f++) {
        struct column *c = batch_add(b, f, f ? more[f - 1].type : (struct type)T(TIMESTAMP));
        ids[f] = 1 + f;
        memset(c->valid, 1, WIDE_ROWS);
        for (uint32_t row = 0; f && row < WIDE_ROWS; row++)
            ((struct text *)c->values)[row] = batch_text(b, slice_str(arena_fmt(&arena, "%u of %u", row % 700, f)));
    }
    (void)batch_add(b, FIELD_ROW_ID, (struct type)T(INT64));
    b->rows = WIDE_ROWS;
    struct schema *empty = schema_empty(), *grown = schema_grow(empty, more, WIDE);
    struct schema *schema = schema_with_ids(grown, ids, ids + WIDE + 1);
    batch_view_take(b, b->rows, &part.view);
    if (segment_write(w, schema, &part, 1, fd, &stats, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(stats.rows, WIDE_ROWS);
    expect(fd, "SELECT count(DISTINCT wide_7) || '|' || max(wide_999) FROM read_parquet(@)", "700|99 of 1000");
    batch_view_done(&part.view);
    batch_unref(b);
    schema_unref(empty);
    schema_unref(grown);
    schema_unref(schema);
    segment_writer_close(w);
    assert_int_equal(close(fd), 0);
}

static void test_write(void **state)
{
    struct schema *schema = make_schema();
    struct segment_writer *w = writer();
    struct segment_stats s;
    int fd = memory_file();
    (void)state;

    write_batch(w, schema, 0, 5001, fd, &s);
    check_stats(&s, 5001);
    assert_int_equal(s.bytes, (uint64_t)lseek(fd, 0, SEEK_END));
    uint8_t *bytes = mmap(NULL, s.bytes, PROT_READ, MAP_SHARED, fd, 0);
    assert_int_equal(crc32c(0, bytes, s.bytes), s.crc32c);
    (void)munmap(bytes, s.bytes);
    expect(fd, "SELECT count(*) FROM read_parquet(@)", "5001");
    expect(fd, "SELECT string_agg(_row_id, ',') FROM (SELECT _row_id FROM read_parquet(@) LIMIT 3)",
           "5000,4999,4998"); /* newest first */
    expect(fd, "SELECT bool_and(_row_id * 1000 = epoch_us(p_timestamp)) FROM read_parquet(@)", "true");
    expect(
        fd,
        "SELECT string_agg(name || '=' || coalesce(field_id::VARCHAR, '?'), ' ' ORDER BY coalesce(field_id, 0)) FROM "
        "parquet_schema(@)",
        "duckdb_schema=? list=? list=? p_timestamp=1 level=2 Level#3=3 ok=4 n=5 u=6 day=7 tags=8 we\"ird, {'x'}=10 "
        "column#11=11 "
        "column#12=12 _row_id#13=13 __duckdb_field_id#14=14 nulls=15 at=16 element=107 element=114 _row_id=2147483540");
    expect(fd,
           "SELECT string_agg(DISTINCT logical_type, ' ') FROM parquet_schema(@) WHERE name IN ('p_timestamp', 'at')",
           "TimestampType(isAdjustedToUTC=1, unit=TimeUnit(MILLIS=<null>, MICROS=MicroSeconds(), NANOS=<null>))");
    expect(fd, "SELECT string_agg(DISTINCT compression, ',') FROM parquet_metadata(@)", "ZSTD");
    expect(fd, "SELECT decode(value) FROM parquet_kv_metadata(@) WHERE decode(key) = 'sluice.order'", "newest_first");
    expect(fd, "SELECT tags::VARCHAR FROM read_parquet(@) WHERE _row_id = 5", "[NULL, level of row 00000005]");
    expect(fd, "SELECT nulls::VARCHAR FROM read_parquet(@) WHERE _row_id = 5", "[NULL]");
    expect(fd, "SELECT count(level) FROM read_parquet(@)", "3334");
    expect(fd, "SELECT sum(u)::VARCHAR FROM read_parquet(@) WHERE _row_id < 2", "36893488147419103229");
    (void)close(fd);
    segment_writer_close(w);
    schema_unref(schema);
}

static void test_selection(void **state)
{
    struct schema *schema = make_schema();
    struct segment_writer *w = writer();
    struct segment_part parts[2] = {0};
    struct batch *b[2] = {make_batch(100, 50), make_batch(0, 50)};
    static const uint32_t sel[] = {7, 3};
    struct segment_stats s;
    struct err err = {0};
    int fd = memory_file();
    (void)state;

    batch_view_take(b[0], 3, &parts[0].view); /* only what was published then */
    batch_view_take(b[1], 50, &parts[1].view);
    parts[1].sel = sel;
    parts[1].sel_count = 2;
    if (segment_write(w, schema, parts, 2, fd, &s, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(s.rows, 5);
    assert_int_equal(s.tmin_us, 3000);
    assert_int_equal(s.tmax_us, 102000);
    expect(fd, "SELECT string_agg(_row_id, ',') FROM read_parquet(@)", "102,101,100,7,3");
    for (int i = 0; i < 2; i++) {
        batch_view_done(&parts[i].view);
        batch_unref(b[i]);
    }
    (void)close(fd);
    segment_writer_close(w);
    schema_unref(schema);
}

static void test_merge(void **state)
{
    struct schema *schema = make_schema();
    struct segment_writer *w = writer();
    struct segment_stats s;
    struct err err = {0};
    char paths_text[3][40];
    struct segment_input paths[3];
    int fds[3], out = memory_file();
    static const uint32_t from[] = {1000, 0, 2500}, count[] = {1500, 1000, 2501};
    (void)state;

    for (int i = 0; i < 3; i++) {
        fds[i] = memory_file();
        write_batch(w, schema, from[i], count[i], fds[i], &s);
        (void)snprintf(paths_text[i], sizeof(paths_text[i]), "/proc/%d/fd/%d", (int)getpid(), fds[i]);
        paths[i] = (struct segment_input){.path = paths_text[i]};
    }
    if (segment_merge(w, schema, paths, 3, out, &s, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    check_stats(&s, 5001);
    expect(out, "SELECT bool_and(_row_id = 5000 - file_row_number) FROM read_parquet(@, file_row_number=true)", "true");
    expect(out, "SELECT count(*) FROM parquet_schema(@)", "21");
    expect(out, "SELECT tags::VARCHAR FROM read_parquet(@) WHERE _row_id = 5", "[NULL, level of row 00000005]");
    assert_int_equal(ftruncate(fds[1], 3000), 0); /* damage is an error that names the file */
    if (segment_merge(w, schema, paths, 3, out, &s, &err) != ERR_CORRUPT)
        fail_msg("%s: %s", err_name(err.code), err.msg);
    assert_non_null(strstr(err.msg, paths[1].path));
    for (int i = 0; i < 3; i++)
        (void)close(fds[i]);
    (void)close(out);
    segment_writer_close(w);
    schema_unref(schema);
}

/* ---- keys */

struct hashes { /* the slow model: all of them, then sorted */
    uint64_t *items;
    size_t count, cap;
};

static void hashes_add(struct hashes *h, slice value)
{
    *ARRAY_PUSH(h->items, h->count, h->cap) = hash64(value, 0);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* The column has just these hashes. Frees `want`. */
static void expect_keys(const struct segment_keys *k, uint32_t id, struct hashes *want)
{
    size_t n = 0, at = 0;

    if (want->count)
        qsort(want->items, want->count, sizeof(*want->items), by_value);
    for (size_t i = 0; i < want->count; i++)
        if (n == 0 || want->items[n - 1] != want->items[i])
            want->items[n++] = want->items[i];
    while (at < k->count && k->columns[at].field_id != id)
        at++;
    if (at == k->count)
        fail_msg("no keys of field %u", id);
    if (k->columns[at].count != n)
        fail_msg("field %u has %zu keys, not %zu", id, k->columns[at].count, n);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(k->columns[at].hashes[i], want->items[i]);
    free(want->items);
    *want = (struct hashes){0};
}

static struct schema *schema_of(const struct field *more, uint32_t count, const uint32_t *ids, const uint32_t *items)
{
    struct schema *empty = schema_empty(), *grown = schema_grow(empty, more, count);
    struct schema *s = schema_with_ids(grown, ids, items);

    schema_unref(empty);
    schema_unref(grown);
    return s;
}

static void write_rows(struct segment_writer *w, const struct schema *schema, struct batch *b, int fd)
{
    struct segment_part part = {0};
    struct segment_stats stats;
    struct err err = {0};

    (void)batch_add(b, FIELD_ROW_ID, (struct type)T(INT64));
    batch_view_take(b, b->rows, &part.view);
    if (segment_write(w, schema, &part, 1, fd, &stats, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    batch_view_done(&part.view);
    batch_unref(b);
}

static enum err_code keys_at(struct segment_writer *w, const struct schema *schema, int fd, bool by_name,
                             struct segment_keys *out, struct err *err)
{
    char path[40];
    const struct segment_input input = {path, by_name};

    (void)snprintf(path, sizeof(path), SEGMENT_FD_PATH "%d", fd);
    return segment_keys(w, schema, &input, out, err);
}

static void keys_of_file(struct segment_writer *w, const struct schema *schema, int fd, bool by_name,
                         struct segment_keys *out)
{
    struct err err = {0};

    if (keys_at(w, schema, fd, by_name, out, &err) != ERR_OK)
        fail_msg("%s: %s", err_name(err.code), err.msg);
    for (size_t i = 1; i < out->count; i++)
        assert_true(out->columns[i - 1].field_id < out->columns[i].field_id);
}

static void set_text(struct batch *b, struct column *c, uint32_t row, slice value, struct hashes *want)
{
    c->valid[row] = 1;
    ((struct text *)c->values)[row] = batch_text(b, value);
    if (want)
        hashes_add(want, value);
}

/* Hashes are kept in the bucket: these may never change. */
static void test_key_hash(void **state)
{
    static const slice rows[] = {slice_lit(""), slice_lit("a"), slice_lit("a\0b"), slice_lit("0123456789abcdef"),
                                 slice_lit("d290f1ee-6c54-4b01-90e6-d701748f0851")};
    static const uint64_t want[] = {UINT64_C(0x2d06800538d394c2), UINT64_C(0xe6c632b61e964e1f),
                                    UINT64_C(0xd5a06cd078125351), UINT64_C(0x64439946d8fa212d),
                                    UINT64_C(0x76575289f2b2a7ff)};
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (segment_key_hash(rows[i]) != want[i])
            fail_msg("hash of value %zu is %016llx", i, (unsigned long long)segment_key_hash(rows[i]));
    assert_int_equal(segment_key_hash((slice){NULL, 0}), want[0]);
}

/* Every kind of value and of column, in a file of several row groups and of more values than are held unsorted at first. */
static void test_keys(void **state)
{
    enum { ROWS = 100000, TAGS = 1, ID, HALF, CLIENT, FEW, PROSE, NUMBER, NEVER, LAST, COUNT };
    static const struct field more[] = {
        {slice_lit("tags.list.element"), {TYPE_LIST, TYPE_UTF8}, 0, 0}, /* its leaf comes before the others' */
        {slice_lit("it's \"the\".id, or {'x'}"), T(UTF8), 0, 0},
        {slice_lit("half"), T(UTF8), 0, 0},
        {slice_lit("client.ip"), T(UTF8), 0, 0},
        {slice_lit("few"), T(UTF8), 0, 0},
        {slice_lit("prose"), T(UTF8), 0, 0},
        {slice_lit("number"), T(INT64), 0, 0},
        {slice_lit("never"), T(UTF8), 0, 0},
        {slice_lit("a\0b"), T(UTF8), 0, 0},
    };
    static const uint32_t ids[COUNT] = {1, 90, 80, 70, 60, 50, 40, 30, 20, 10}, items[COUNT] = {0, 91};
    static const slice odd[] = {slice_lit(""), slice_lit("\0"), slice_lit("a\0b"), slice_lit("a"),
                                slice_lit("gr\303\274n \346\227\245\346\234\254 \360\237\246\200")};
    struct schema *schema = schema_of(more, ARRAY_LEN(more), ids, items);
    struct segment_writer *w = writer();
    struct batch *b = batch_new(ROWS);
    struct hashes id = {0}, half = {0}, client = {0}, last = {0};
    struct segment_keys keys = {0};
    struct column *c[COUNT];
    size_t prose_size = 600000;
    char *prose = mem_alloc(prose_size), text[80];
    int fd = memory_file();
    (void)state;

    memset(prose, 'x', prose_size);
    for (uint32_t f = 0; f < COUNT; f++) {
        c[f] = batch_add(b, f, f ? more[f - 1].type : (struct type)T(TIMESTAMP));
        c[f]->has_nulls = true;
    }
    memset(c[0]->valid, 1, ROWS);
    memset(c[NUMBER]->valid, 1, ROWS);
    for (uint32_t row = 0; row < ROWS; row++) {
        ((int64_t *)c[0]->values)[row] = row;
        ((int64_t *)c[NUMBER]->values)[row] = row * INT64_C(1234567891);
        uint32_t at = batch_items(b, c[TAGS], 2);
        ((struct list_slot *)c[TAGS]->values)[row] = (struct list_slot){at, 2};
        c[TAGS]->valid[row] = 1;
        int n = snprintf(text, sizeof(text), "request-%08x-%04u", row * 2654435761u, row % 7);
        for (uint32_t k = 0; k < 2; k++)
            set_text(b, c[TAGS]->item, at + k, slice_of(text, (size_t)n), NULL);
        if (row % 20000 == 77)
            set_text(b, c[ID], row, odd[row / 20000], &id);
        else if (row == 50000)
            set_text(b, c[ID], row, slice_of(prose, prose_size), &id);
        else if (row % 11)
            set_text(b, c[ID], row, slice_of(text, (size_t)n), &id);
        if (row >= 30000) /* newest first: the last of three row groups has only NULLs */
            set_text(b, c[HALF], row, slice_of(text, 16), &half);
        n = snprintf(text, sizeof(text), "10.0.%u.%u", row % 9000 / 256, row % 9000 % 256);
        set_text(b, c[CLIENT], row, slice_of(text, (size_t)n), &client);
        set_text(b, c[LAST], row, slice_of(text, (size_t)n), &last);
        set_text(b, c[FEW], row, slice_str(row % 3 ? "GET" : "a path that is longer than most"), NULL);
        n = snprintf(text, sizeof(text), "%070u", row);
        set_text(b, c[PROSE], row, slice_of(text, (size_t)n), NULL);
    }
    b->rows = ROWS;
    write_rows(w, schema, b, fd);
    expect(fd, "SELECT count(DISTINCT row_group_id) FROM parquet_metadata(@)", "3");
    expect(fd,
           "SELECT count(*) FROM parquet_metadata(@) WHERE path_in_schema = 'half' AND stats_null_count = num_values",
           "1");
    keys_of_file(w, schema, fd, false, &keys);
    assert_int_equal(keys.count, 4);
    expect_keys(&keys, ids[ID], &id);
    expect_keys(&keys, ids[HALF], &half);
    expect_keys(&keys, ids[CLIENT], &client);
    expect_keys(&keys, ids[LAST], &last); /* called "column#10" in the file */
    segment_keys_done(&keys);
    keys_of_file(w, schema, fd, true, &keys); /* by name: as if another had written it */
    assert_int_equal(keys.count, 3);
    segment_keys_done(&keys);
    (void)close(fd);
    free(prose);
    segment_writer_close(w);
    schema_unref(schema);
}

/* Sets of every size around those at which arrays are sorted and grow, with and without repetition; 3000 are few enough for a dictionary. */
static void test_keys_sizes(void **state)
{
    static const struct field more[] = {{slice_lit("k"), T(UTF8), 0, 0}, {slice_lit("same"), T(UTF8), 0, 0}};
    static const uint32_t ids[] = {1, 2, 3}, items[] = {0, 0, 0};
    static const struct {
        uint32_t rows, distinct;
    } cases[] = {{1, 1},         {2, 1},          {2, 2},         {33, 33},         {2049, 700},     {65536, 65536},
                 {65537, 65537}, {140000, 40000}, {200000, 3000}, {200000, 132000}, {270000, 270000}};
    struct schema *schema = schema_of(more, ARRAY_LEN(more), ids, items);
    struct segment_writer *w = writer();
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct batch *b = batch_new(cases[i].rows);
        struct hashes k = {0}, same = {0};
        struct segment_keys keys = {0};
        int fd = memory_file();
        char text[20];
        struct column *t = batch_add(b, 0, (struct type)T(TIMESTAMP)), *c = batch_add(b, 1, more[0].type),
                      *s = batch_add(b, 2, more[1].type);
        memset(t->valid, 1, cases[i].rows);
        for (uint32_t row = 0; row < cases[i].rows; row++) {
            int n = snprintf(text, sizeof(text), "%08x", row % cases[i].distinct * 2654435761u);
            set_text(b, c, row, slice_of(text, (size_t)n), &k);
            set_text(b, s, row, slice_lit("same"), cases[i].rows < 10 ? &same : NULL);
        }
        b->rows = cases[i].rows;
        write_rows(w, schema, b, fd);
        keys_of_file(w, schema, fd, false, &keys);
        assert_int_equal(keys.count, cases[i].rows < 10 ? 2 : 1);
        expect_keys(&keys, 2, &k);
        if (cases[i].rows < 10)
            expect_keys(&keys, 3, &same);
        segment_keys_done(&keys);
        (void)close(fd);
    }
    segment_writer_close(w);
    schema_unref(schema);
}

/* The lowest ids of more columns than there may be. */
static void test_keys_many(void **state)
{
    enum { MANY = 40, MANY_ROWS = 300 };
    _cleanup_(arena_done) struct arena arena = ARENA_INIT;
    struct field *more = arena_zalloc(&arena, MANY * sizeof(*more));
    uint32_t ids[MANY + 1] = {1}, items[MANY + 1] = {0};
    struct segment_writer *w = writer();
    struct batch *b = batch_new(MANY_ROWS);
    struct segment_keys keys = {0};
    struct hashes want[MANY + 1] = {{0}};
    int fd = memory_file();
    (void)state;

    struct column *t = batch_add(b, 0, (struct type)T(TIMESTAMP));
    memset(t->valid, 1, MANY_ROWS);
    for (uint32_t f = 1; f <= MANY; f++) {
        more[f - 1] = (struct field){.name = slice_str(arena_fmt(&arena, "c%u", MANY - f)), .type = T(UTF8)};
        ids[f] = 1000 - f * 7;
        struct column *c = batch_add(b, f, more[f - 1].type);
        for (uint32_t row = 0; row < MANY_ROWS; row++)
            set_text(b, c, row, slice_str(arena_fmt(&arena, "%u of %u", row, f)), &want[f]);
    }
    b->rows = MANY_ROWS;
    struct schema *schema = schema_of(more, MANY, ids, items);
    write_rows(w, schema, b, fd);
    keys_of_file(w, schema, fd, false, &keys);
    assert_int_equal(keys.count, SEGMENT_KEYS_COLUMNS_MAX);
    for (uint32_t f = 1; f <= MANY; f++)
        if (f > MANY - SEGMENT_KEYS_COLUMNS_MAX)
            expect_keys(&keys, ids[f], &want[f]);
        else
            free(want[f].items);
    segment_keys_done(&keys);
    (void)close(fd);
    segment_writer_close(w);
    schema_unref(schema);
}

/* Files of others: names with dots, in other cases and more than there are in the stream; columns in columns, by which the row groups have
 * more of them than the file. Without the name, without ids, and of what is no text there is no entry. */
static void test_keys_adopted(void **state)
{
    static const struct field plain[] = {{slice_lit("a.b"), T(UTF8), 0, 0},
                                         {slice_lit("Id"), T(UTF8), 0, 0},
                                         {slice_lit("absent"), T(UTF8), 0, 0},
                                         {slice_lit("n"), T(INT64), 0, 0},
                                         {slice_lit("l"), T(UTF8), 0, 0}},
                              twins[] = {{slice_lit("trace_id"), T(UTF8), 0, 0},
                                         {slice_lit("TRACE_ID"), T(UTF8), 0, 0},
                                         {slice_lit("a.b"), T(UTF8), 0, 0}};
    static const uint32_t ids[] = {1, 30, 20, 10, 40, 50}, items[] = {0, 0, 0, 0, 0, 0};
    struct schema *one = schema_of(plain, ARRAY_LEN(plain), ids, items);
    struct schema *two = schema_of(twins, ARRAY_LEN(twins), ids, items);
    struct segment_writer *w = writer();
    struct segment_keys keys = {0};
    struct hashes want = {0};
    int fd = memory_file(), twin_fd = memory_file();
    char text[40];
    (void)state;

    copy_into(fd, "SELECT {'b': 'in a struct ' || i, 'c': i} AS a, [i, i] AS l, 7 AS n, CASE WHEN i % 3 > 0 THEN "
                  "'dotted ' || i END AS "
                  "\"a.b\", 'id ' || i AS \"Id\", 'more ' || i AS more FROM range(3000) r(i)");
    copy_into(twin_fd, "SELECT 'upper ' || i AS \"TRACE_ID\", 'lower ' || i AS trace_Xd FROM range(3000) r(i)");
    rename_in(twin_fd, "trace_Xd", "trace_id");
    expect(twin_fd, "SELECT string_agg(name, ' ') FROM parquet_schema(@)", "duckdb_schema TRACE_ID trace_id");
    keys_of_file(w, one, fd, true, &keys);
    assert_int_equal(keys.count, 2);
    for (unsigned i = 0; i < 3000; i++)
        if (i % 3)
            hashes_add(&want, slice_of(text, (size_t)snprintf(text, sizeof(text), "dotted %u", i)));
    expect_keys(&keys, 30, &want);
    for (unsigned i = 0; i < 3000; i++)
        hashes_add(&want, slice_of(text, (size_t)snprintf(text, sizeof(text), "id %u", i)));
    expect_keys(&keys, 20, &want);
    segment_keys_done(&keys);
    keys_of_file(w, two, twin_fd, true, &keys);
    assert_int_equal(keys.count, 2);
    for (unsigned i = 0; i < 3000; i++)
        hashes_add(&want, slice_of(text, (size_t)snprintf(text, sizeof(text), "lower %u", i)));
    expect_keys(&keys, 30, &want);
    for (unsigned i = 0; i < 3000; i++)
        hashes_add(&want, slice_of(text, (size_t)snprintf(text, sizeof(text), "upper %u", i)));
    expect_keys(&keys, 20, &want);
    segment_keys_done(&keys);
    keys_of_file(w, one, fd, false, &keys);
    assert_int_equal(keys.count, 0);
    segment_keys_done(&keys);
    (void)close(fd);
    (void)close(twin_fd);
    segment_writer_close(w);
    schema_unref(one);
    schema_unref(two);
}

/* Cut or overwritten anywhere where it is read, a file gives an error, and the writer goes on. */
static void test_keys_damage(void **state)
{
    static const struct field more[] = {{slice_lit("id"), T(UTF8), 0, 0}};
    static const uint32_t ids[] = {1, 2}, items[] = {0, 0};
    struct schema *schema = schema_of(more, 1, ids, items);
    struct segment_writer *w = writer();
    struct segment_keys keys = {0};
    struct err err = {0};
    int fd = memory_file(), bad = memory_file();
    uint8_t junk[3000];
    (void)state;

    copy_into(fd, "SELECT 'id ' || hash(i) AS id FROM range(20000) r(i)");
    keys_of_file(w, schema, fd, true, &keys);
    assert_int_equal(keys.columns[0].count, 20000);
    segment_keys_done(&keys);
    memset(junk, 0x5a, sizeof(junk));
    assert_int_equal(pwrite(fd, junk, sizeof(junk), 4000), sizeof(junk)); /* a page; the footer is whole */
    if (keys_at(w, schema, fd, true, &keys, &err) != ERR_CORRUPT)
        fail_msg("%s: %s", err_name(err.code), err.msg);
    assert_int_equal(ftruncate(fd, 5000), 0);
    assert_int_equal(keys_at(w, schema, fd, true, &keys, &err), ERR_CORRUPT);
    assert_int_equal(keys_at(w, schema, fd, false, &keys, &err), ERR_CORRUPT);
    assert_int_equal(keys_at(w, schema, bad, false, &keys, &err), ERR_CORRUPT); /* empty */
    (void)close(bad);
    if (keys_at(w, schema, bad, false, &keys, &err) != ERR_IO) /* no such file */
        fail_msg("%s: %s", err_name(err.code), err.msg);
    assert_int_equal(keys.count, 0);
    (void)close(fd);
    segment_writer_close(w);
    schema_unref(schema);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),     cmocka_unit_test(test_text_ranges),  cmocka_unit_test(test_wide),
        cmocka_unit_test(test_write),     cmocka_unit_test(test_selection),    cmocka_unit_test(test_merge),
        cmocka_unit_test(test_key_hash),  cmocka_unit_test(test_keys),         cmocka_unit_test(test_keys_sizes),
        cmocka_unit_test(test_keys_many), cmocka_unit_test(test_keys_adopted), cmocka_unit_test(test_keys_damage)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
