/* segment_test.c: rows -> Parquet -> rows, statistics, merge, columns that differ only in case. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/hash.h"
#include "engine/engine.h"
#include "segment/segment.h"

#define ROWS 3000

static struct schema *test_schema(void)
{
    const struct field more[] = {{slice_lit("level"), {TYPE_UTF8, 0}, 0, 0}, {slice_lit("Level"), {TYPE_FLOAT64, 0}, 0, 0},
                                 {slice_lit("xs"), {TYPE_LIST, TYPE_INT64}, 0, 0}, {slice_lit("never"), {TYPE_BOOL, 0}, 0, 0},
                                 {slice_lit("it's \"odd\""), {TYPE_BOOL, 0}, 0, 0}};
    const uint32_t ids[] = {1, 2, 3, 4, 6, 7}, item_ids[] = {0, 0, 0, 5, 0, 0};
    struct schema *empty = schema_empty(), *grown = schema_grow(empty, more, ARRAY_LEN(more)), *s = schema_with_ids(grown, ids, item_ids);
    schema_unref(empty);
    schema_unref(grown);
    return s;
}

static struct batch *test_rows(int64_t from)
{
    struct batch *b = batch_new(ROWS);
    struct column *t = batch_add(b, 0, (struct type){TYPE_TIMESTAMP, 0}), *level = batch_add(b, 1, (struct type){TYPE_UTF8, 0}),
                  *up = batch_add(b, 2, (struct type){TYPE_FLOAT64, 0}), *xs = batch_add(b, 3, (struct type){TYPE_LIST, TYPE_INT64}),
                  *odd = batch_add(b, 5, (struct type){TYPE_BOOL, 0}), *id = batch_add(b, FIELD_ROW_ID, (struct type){TYPE_UINT64, 0});

    for (uint32_t i = 0; i < ROWS; i++) {
        uint32_t at = batch_items(b, xs, 1);
        ((int64_t *)xs->item->values)[at] = i;
        xs->item->valid[at] = 1;
        ((struct list_slot *)xs->values)[i] = (struct list_slot){at, 1};
        ((int64_t *)t->values)[i] = from + i;
        ((struct text *)level->values)[i] = batch_text(b, i % 2 ? slice_lit("information") : slice_lit("a longer kind of level"));
        ((double *)up->values)[i] = i;
        ((uint8_t *)odd->values)[i] = i & 1;
        ((uint64_t *)id->values)[i] = (uint64_t)from + i;
        t->valid[i] = level->valid[i] = xs->valid[i] = odd->valid[i] = id->valid[i] = 1;
        up->valid[i] = i != 5;
    }
    up->has_nulls = true;
    b->rows = ROWS;
    return b;
}

static void write_rows(struct segment_writer *w, const struct schema *schema, int64_t from, const char *path, struct segment_stats *stats)
{
    struct batch *b = test_rows(from);
    struct segment_part part = {0};
    struct err err = {0};
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    batch_view_take(b, ROWS, &part.view);
    if (segment_write(w, schema, &part, 1, fd, stats, &err) != ERR_OK)
        fail_msg("write: %s", err.msg);
    batch_view_done(&part.view);
    batch_unref(b);
    (void)close(fd);
}

static void expect(const char *dir, const char *sql, const char *want)
{
    const char *const dirs[] = {dir, NULL};
    const struct engine_options opt = {.allowed_dirs = dirs};
    struct engine *e;
    struct engine_result *r;
    const struct engine_chunk *chunk;
    struct err err = {0};
    const struct engine_query q = {.sql = sql};

    assert_int_equal(engine_open(&opt, &e, &err), ERR_OK);
    if (engine_run(e, &q, &r, &err) != ERR_OK || engine_result_next(r, &chunk, &err) != ERR_OK || !chunk)
        fail_msg("%s: %s", sql, err.msg);
    _cleanup_(freep) char *got = mem_str(text_slice(chunk->columns[0].data));
    assert_string_equal(got, want);
    engine_result_free(r);
    engine_close(e);
}

static void test_write_and_merge(void **state)
{
    char dir[] = "/tmp/sluice-segment-XXXXXX";
    assert_non_null(mkdtemp(dir));
    _cleanup_(freep) char *a = mem_fmt("%s/a.parquet", dir), *b = mem_fmt("%s/b.parquet", dir), *m = mem_fmt("%s/m.parquet", dir),
                          *temp = mem_fmt("%s/tmp", dir);
    const char *const dirs[] = {dir, NULL}, *const paths[] = {a, b};
    struct segment_stats stats, merged;
    struct segment_writer *w;
    struct err err = {0};
    struct schema *schema = test_schema();
    (void)state;

    assert_int_equal(segment_writer_open(temp, dirs, &w, &err), ERR_OK);
    write_rows(w, schema, 1000000, a, &stats);
    assert_int_equal(stats.rows, ROWS);
    assert_int_equal(stats.tmin_us, 1000000);
    assert_int_equal(stats.tmax_us, 1000000 + ROWS - 1);
    assert_int_equal(stats.cols_count, 4); /* p_timestamp, level, Level, odd */
    assert_int_equal(stats.cols[2].field_id, 3);
    assert_int_equal(stats.cols[2].nulls, 1);
    assert_true(stats.cols[2].min == segment_order_f64(0) && stats.cols[2].max == segment_order_f64(ROWS - 1));
    assert_true(stats.cols[1].min == segment_order_text(slice_lit("a longer kind"), false));
    uint8_t *bytes;
    size_t len;
    assert_int_equal(os_read_file(os_real(), a, 1u << 30, &bytes, &len, &err), ERR_OK);
    assert_int_equal(len, stats.bytes);
    assert_int_equal(crc32c(0, bytes, len), stats.crc32c);
    free(bytes);
    write_rows(w, schema, 2000000, b, &stats);
    int fd = open(m, O_RDWR | O_CREAT, 0600);
    if (segment_merge(w, schema, paths, 2, fd, &merged, &err) != ERR_OK)
        fail_msg("merge: %s", err.msg);
    (void)close(fd);
    assert_int_equal(merged.rows, 2 * ROWS);
    assert_int_equal(merged.tmin_us, 1000000);
    assert_int_equal(merged.tmax_us, 2000000 + ROWS - 1);
    assert_true(merged.cols[2].min == segment_order_f64(0) && merged.cols[2].max == segment_order_f64(ROWS - 1) && merged.cols[2].nulls == 2);
    const char *const checks[][2] = {
        {"SELECT string_agg(name || ':' || coalesce(field_id::VARCHAR, '-'), ' ') FROM parquet_schema('%s') WHERE type IS NOT NULL",
         "p_timestamp:1 level:2 Level#3:3 element:5 it's \"odd\":7 _row_id:2147483540"},
        {"SELECT (SELECT string_agg(epoch_us(p_timestamp)::VARCHAR, ',') FROM (SELECT p_timestamp FROM '%s' LIMIT 2))", NULL},
        {"SELECT sum(xs[1])::VARCHAR FROM '%s'", NULL},
        {"SELECT DISTINCT compression || ' ' || (row_group_num_rows > 0)::VARCHAR FROM parquet_metadata('%s')", "ZSTD true"},
    };
    const char *const want_a[] = {NULL, "1002999,1002998", "4498500", NULL}, *const want_m[] = {NULL, "2002999,2002998", "8997000", NULL};
    for (size_t i = 0; i < ARRAY_LEN(checks); i++)
        for (int k = 0; k < 2; k++) {
            char sql[400];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            (void)snprintf(sql, sizeof(sql), checks[i][0], k ? m : a);
#pragma GCC diagnostic pop
            if (k && i == 0)
                continue; /* a merge writes columns that are all null too */
            expect(dir, sql, checks[i][1] ? checks[i][1] : k ? want_m[i] : want_a[i]);
        }
    segment_writer_close(w);
    schema_unref(schema);
    _cleanup_(freep) char *cmd = mem_fmt("rm -rf %s", dir);
    assert_int_equal(system(cmd), 0);
}

static void test_order(void **state)
{
    static const double doubles[] = {-INFINITY, -1e300, -1, -1e-300, -0.0, 0.0, 1e-300, 1, 1e300, INFINITY};
    static const char *const texts[] = {"", "a", "aa", "aaaaaaaa", "aaaaaaaab", "b", "\xff\xff\xff\xff\xff\xff\xff\xff\xff"};
    (void)state;

    for (size_t i = 1; i < ARRAY_LEN(doubles); i++)
        assert_true(segment_order_f64(doubles[i - 1]) <= segment_order_f64(doubles[i]));
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        for (size_t k = i; k < ARRAY_LEN(texts); k++)
            assert_true(segment_order_text(slice_str(texts[i]), false) <= segment_order_text(slice_str(texts[k]), true));
    assert_true(segment_order_i64(-1) < segment_order_i64(0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_write_and_merge), cmocka_unit_test(test_order)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
