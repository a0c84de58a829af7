/* segment_test.c: rows to Parquet and back through the real engine: order, types, names, statistics, field ids, merging, damage. */
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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_order),     cmocka_unit_test(test_text_ranges),
                                       cmocka_unit_test(test_wide),      cmocka_unit_test(test_write),
                                       cmocka_unit_test(test_selection), cmocka_unit_test(test_merge)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
