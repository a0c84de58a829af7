/* engine_test.c: rows of ours through SQL, the sandbox, limits and interrupts of the real engine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/engine.h"

static struct engine *open_engine(void)
{
    const struct engine_options opt = {.memory_bytes = 256u << 20, .threads = 2};
    struct engine *e = NULL;
    struct err err = {0};

    if (engine_open(&opt, &e, &err) != ERR_OK)
        fail_msg("open: %s", err.msg);
    return e;
}

/* The single value of a query as text. */
static enum err_code ask(struct engine *e, const char *sql, int64_t timeout_us, char out[200], struct err *err)
{
    _cleanup_(engine_result_freep) struct engine_result *r = NULL;
    _cleanup_(freep) char *cast = mem_fmt("SELECT CAST((%s) AS VARCHAR)", sql);
    const struct engine_query q = {.sql = cast, .timeout_us = timeout_us};
    const struct engine_chunk *chunk;

    TRY(engine_run(e, &q, &r, err));
    TRY(engine_result_next(r, &chunk, err));
    slice s = chunk && engine_valid(&chunk->columns[0], 0) ? text_slice(chunk->columns[0].data) : slice_lit("NULL");
    (void)snprintf(out, 200, SLICE_FMT, SLICE_ARG(s));
    return ERR_OK;
}

static void expect(struct engine *e, const char *sql, const char *want)
{
    char got[200];
    struct err err = {0};

    if (ask(e, sql, 0, got, &err) != ERR_OK)
        fail_msg("%s: %s", sql, err.msg);
    assert_string_equal(got, want);
}

static void test_rows_of_ours(void **state)
{
    struct engine *e = open_engine();
    struct batch *b = batch_new(5000);
    struct column *t = batch_add(b, 0, (struct type){TYPE_TIMESTAMP, 0}),
                  *s = batch_add(b, 1, (struct type){TYPE_UTF8, 0}),
                  *l = batch_add(b, 2, (struct type){TYPE_LIST, TYPE_INT64});
    struct engine_part part = {0};
    char sql[200];
    (void)state;

    for (uint32_t i = 0; i < 5000; i++) {
        char text[40];
        (void)snprintf(text, sizeof(text), "row number %u of some length", i);
        ((int64_t *)t->values)[i] = i * INT64_C(1000);
        t->valid[i] = 1;
        if (i % 3 == 0) {
            ((struct text *)s->values)[i] = batch_text(b, slice_str(text));
            s->valid[i] = 1;
        }
        if (i % 2 == 0) {
            uint32_t at = batch_items(b, l, 2);
            ((struct list_slot *)l->values)[i] = (struct list_slot){at, 2};
            ((int64_t *)l->item->values)[at] = i;
            l->item->valid[at] = 1;
            l->valid[i] = 1;
        }
    }
    s->has_nulls = l->has_nulls = true;
    b->rows = 5000;
    batch_view_take(b, 5000, &part.view);
    struct engine_column columns[] = {{0, slice_lit("p_timestamp"), {TYPE_TIMESTAMP, 0}},
                                      {1, slice_lit("s"), {TYPE_UTF8, 0}},
                                      {7, slice_lit("absent"), {TYPE_FLOAT64, 0}},
                                      {2, slice_lit("l"), {TYPE_LIST, TYPE_INT64}}};
    const struct engine_source source = {columns, 4, &part, 1, true};
    uint64_t id = engine_source_add(e, &source);
    static const char *const checks[][2] = {
        {"SELECT count(*) FROM sluice_rows(%llu)", "5000"},
        {"SELECT count(s) FROM sluice_rows(%llu)", "1667"},
        {"SELECT count(absent) FROM sluice_rows(%llu)", "0"},
        {"SELECT max(s) FROM sluice_rows(%llu)", "row number 999 of some length"},
        {"SELECT epoch_us(p_timestamp) FROM sluice_rows(%llu) LIMIT 1", "4999000"},
        {"SELECT sum(l[1]) FROM sluice_rows(%llu)", "6247500"},
        {"SELECT sum(len(l)) FROM sluice_rows(%llu)", "5000"},
        {"SELECT typeof(p_timestamp) FROM sluice_rows(%llu) LIMIT 1", "TIMESTAMP WITH TIME ZONE"},
    };
    for (size_t i = 0; i < ARRAY_LEN(checks); i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        (void)snprintf(sql, sizeof(sql), checks[i][0], (unsigned long long)id);
#pragma GCC diagnostic pop
        expect(e, sql, checks[i][1]);
    }
    const uint32_t sel[] = {7, 6, 9};
    part.sel = sel;
    part.sel_count = 3;
    (void)snprintf(sql, sizeof(sql), "SELECT string_agg(epoch_ms(p_timestamp)::INT, ',') FROM sluice_rows(%llu)",
                   (unsigned long long)id);
    expect(e, sql, "7,6,9");
    engine_source_del(e, id);
    char got[200];
    assert_int_equal(ask(e, sql, 0, got, NULL), ERR_INVALID);
    batch_view_done(&part.view);
    batch_unref(b);
    engine_close(e);
}

#define PARTS 150u

/* Rows of part `p`: how many, and the number of its row `i`, so that all of them come out as 0, 1, 2, ... */
static struct batch *small_part(uint32_t p, uint32_t first, bool newest_first, uint32_t *texts, uint32_t *lists)
{
    uint32_t rows = p % 30 + 1;
    struct batch *b = batch_new(rows);
    struct column *l = p % 4 == 0 ? batch_add(b, 2, (struct type){TYPE_LIST, TYPE_INT64}) : NULL;
    struct column *n = batch_add(b, 0, (struct type){TYPE_INT64, 0});
    struct column *s = p % 3 ? batch_add(b, 1, (struct type){TYPE_UTF8, 0}) : NULL;

    for (uint32_t i = 0; i < rows; i++) {
        uint32_t number = first + (newest_first ? rows - 1 - i : i);
        ((int64_t *)n->values)[i] = number;
        n->valid[i] = 1;
        if (s && number % 5) {
            char text[40];
            (void)snprintf(text, sizeof(text), "text of row %u", number);
            ((struct text *)s->values)[i] = batch_text(b, slice_str(text));
            s->valid[i] = 1;
            *texts += 1;
        }
        if (l && number % 7) {
            uint32_t at = batch_items(b, l, 2);
            ((struct list_slot *)l->values)[i] = (struct list_slot){at, 2};
            ((int64_t *)l->item->values)[at] = number;
            l->item->valid[at] = l->valid[i] = 1;
            *lists += 1;
        }
    }
    if (s)
        s->has_nulls = true;
    if (l)
        l->has_nulls = true;
    b->rows = rows;
    return b;
}

/* A vector takes rows of many parts, which may lack a column, and lists from several. */
static void test_small_parts(void **state)
{
    struct engine *e = open_engine();
    struct engine_column columns[] = {{0, slice_lit("n"), {TYPE_INT64, 0}},
                                      {1, slice_lit("s"), {TYPE_UTF8, 0}},
                                      {2, slice_lit("l"), {TYPE_LIST, TYPE_INT64}}};
    (void)state;

    for (int newest_first = 0; newest_first < 2; newest_first++) {
        struct engine_part parts[PARTS] = {0};
        uint32_t total = 0, texts = 0, lists = 0;
        for (uint32_t p = 0; p < PARTS; p++) {
            struct batch *b = small_part(p, total, newest_first, &texts, &lists);
            total += b->rows;
            batch_view_take(b, b->rows, &parts[p].view);
            batch_unref(b);
        }
        const struct engine_source source = {columns, 3, parts, PARTS, newest_first};
        unsigned long long id = engine_source_add(e, &source);
        char sql[400], want[80];
        (void)snprintf(want, sizeof(want), "true %u %u true true", texts, lists);
        (void)snprintf(sql, sizeof(sql),
                       "SELECT concat_ws(' ', list(n) = range(%u), count(s), count(l), bool_and(s IS NULL OR s = 'text "
                       "of row ' || n), "
                       "bool_and(l IS NULL OR (l[1] = n AND l[2] IS NULL AND len(l) = 2))) FROM sluice_rows(%llu)",
                       total, id);
        expect(e, sql, want);
        engine_source_del(e, id);
        for (uint32_t p = 0; p < PARTS; p++)
            batch_view_done(&parts[p].view);
    }
    engine_close(e);
}

static struct batch *numbers(uint32_t count, int64_t first, uint8_t kind)
{
    struct batch *b = batch_new(count);
    struct column *c = batch_add(b, 3, (struct type){kind, TYPE_NULL});

    for (uint32_t i = 0; i < count; i++) {
        if (kind == TYPE_INT64)
            ((int64_t *)c->values)[i] = first + i;
        else
            ((struct text *)c->values)[i] = text_of(slice_lit("no number"));
        c->valid[i] = 1;
    }
    b->rows = count;
    return b;
}

/* What a kept plan of sum(n) says of a source of `count` numbers from `first` on. */
static enum err_code ask_kept(struct engine *e, uint32_t count, int64_t first, uint8_t kind, double *sum)
{
    _cleanup_(batch_unrefp) struct batch *b = numbers(count, first, kind);
    _cleanup_(engine_result_freep) struct engine_result *r = NULL;
    struct engine_part part = {0};
    struct engine_column column = {3, slice_lit("n"), {kind, TYPE_NULL}};
    const struct engine_source source = {&column, 1, &part, 1, false};
    const struct engine_query q = {
        .sql = "SELECT CAST(sum(n) AS DOUBLE) FROM sluice_rows(1)", .materialize = true, .keep = true};
    const struct engine_chunk *chunk = NULL;

    batch_view_take(b, count, &part.view);
    uint64_t id = engine_source_add(e, &source);
    assert_int_equal(id, 1);
    enum err_code rc = engine_run(e, &q, &r, NULL);
    if (rc == ERR_OK)
        rc = engine_result_next(r, &chunk, NULL);
    if (rc == ERR_OK)
        *sum = ((const double *)chunk->columns[0].data)[0];
    engine_source_del(e, id);
    batch_view_done(&part.view);
    return rc;
}

static void test_kept_plans(void **state)
{
    struct engine *e = open_engine();
    double sum = 0;
    (void)state;

    assert_int_equal(ask_kept(e, 3, 1, TYPE_INT64, &sum), ERR_OK);
    assert_float_equal(sum, 6, 0);
    assert_int_equal(ask_kept(e, 5000, 10, TYPE_INT64, &sum), ERR_OK); /* other rows, same plan */
    assert_float_equal(sum, 12547500, 0);
    assert_int_equal(ask_kept(e, 3, 1, TYPE_UTF8, &sum), ERR_INVALID); /* never read as what it is not */
    assert_int_equal(ask_kept(e, 2, 1, TYPE_INT64, &sum), ERR_OK);
    assert_float_equal(sum, 3, 0);
    for (unsigned i = 0; i < 20; i++) { /* more than are kept, with errors among them */
        _cleanup_(freep) char *sql = mem_fmt("SELECT %s(%u)", i % 3 == 2 ? "nothing" : "abs", i);
        _cleanup_(engine_result_freep) struct engine_result *r = NULL;
        const struct engine_query q = {.sql = sql, .materialize = true, .keep = true};
        assert_int_equal(engine_run(e, &q, &r, NULL), i % 3 == 2 ? ERR_INVALID : ERR_OK);
    }
    assert_int_equal(ask_kept(e, 4, 1, TYPE_INT64, &sum), ERR_OK);
    assert_float_equal(sum, 10, 0);
    engine_close(e);
}

static void test_settings_and_sandbox(void **state)
{
    static const char *const refused[] = {
        "SELECT count(*) FROM read_csv('/etc/passwd')",
        "SELECT content FROM read_text('/etc/passwd')",
        "SELECT count(*) FROM '/etc/passwd'",
        "SELECT count(*) FROM glob('/*')",
    };
    struct engine *e = open_engine();
    char got[200];
    struct err err;
    (void)state;

    expect(e, "SELECT current_setting('TimeZone')", "UTC");
    expect(e, "SELECT 7 / 2", "3");
    expect(e, "SELECT string_agg(coalesce(x::VARCHAR, 'null'), ',' ORDER BY x) FROM (VALUES (1),(NULL),(2)) t(x)",
           "1,2,null");
    for (size_t i = 0; i < ARRAY_LEN(refused); i++)
        if (ask(e, refused[i], 0, got, &err) == ERR_OK)
            fail_msg("%s gave %s", refused[i], got);
    const struct engine_query set = {.sql = "SET memory_limit='10GB'"},
                              copy = {.sql = "COPY (SELECT 1) TO '/tmp/sluice-engine-test.csv'"},
                              attach = {.sql = "ATTACH '/tmp/sluice-engine-test.db'"};
    struct engine_result *r;
    assert_int_not_equal(engine_run(e, &set, &r, &err), ERR_OK);
    assert_int_not_equal(engine_run(e, &copy, &r, &err), ERR_OK);
    assert_int_not_equal(engine_run(e, &attach, &r, &err), ERR_OK);
    assert_int_not_equal(access("/tmp/sluice-engine-test.csv", F_OK), 0);
    engine_close(e);
}

static void *interrupt_soon(void *arg)
{
    (void)usleep(50000);
    engine_interrupt(arg);
    return NULL;
}

static void test_limits(void **state)
{
    static const char long_query[] =
        "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE (a.range * b.range) % 7 = 3";
    struct engine *e = open_engine();
    char got[200];
    struct err err;
    pthread_t id;
    (void)state;

    assert_int_equal(ask(e, long_query, 50000, got, &err), ERR_TIMEOUT);
    assert_int_equal(pthread_create(&id, NULL, interrupt_soon, e), 0);
    assert_int_equal(ask(e, long_query, 0, got, &err), ERR_CANCELLED);
    assert_int_equal(pthread_join(id, NULL), 0);
    assert_int_equal(ask(e, "SELECT count(DISTINCT md5(range::VARCHAR)) FROM range(30000000)", 0, got, &err),
                     ERR_LIMIT);
    assert_non_null(strstr(err.msg, "more query memory")); /* and not the engine's advice to SET what users may not */
    assert_null(strstr(err.msg, "SET "));
    assert_int_equal(ask(e, "SELECT nonsense(1)", 0, got, &err), ERR_INVALID);
    expect(e, "SELECT 1", "1"); /* all well after all that */
    assert_false(engine_broken(e));
    engine_close(e);
}

/* What does not fit goes to a folder that nobody has made before. */
static void test_spill(void **state)
{
    char dir[] = "/tmp/sluice-engine-XXXXXX", temp[64], cmd[64];
    struct engine_options opt = {.memory_bytes = 64u << 20, .temp_bytes = 1u << 30, .threads = 1, .temp_dir = temp};
    struct engine *e = NULL;
    struct err err = {0};
    (void)state;

    assert_non_null(mkdtemp(dir));
    (void)snprintf(temp, sizeof(temp), "%s/a/b", dir);
    assert_int_equal(engine_open(&opt, &e, &err), ERR_OK);
    expect(e, "SELECT count(DISTINCT repeat(i::VARCHAR, 8)) FROM range(1000000) t(i)", "1000000");
    engine_close(e);
    (void)snprintf(cmd, sizeof(cmd), "rm -r %s", dir);
    assert_int_equal(system(cmd), 0);
}

/* Files and columns are values, not text: any name will do, and what a statement does not look at is no fault. */
static void test_files(void **state)
{
    char dir[] = "/tmp/sluice-engine-it's[1]-XXXXXX", sql[400];
    const char *dirs[] = {dir, NULL};
    const struct engine_options opt = {.memory_bytes = 256u << 20, .threads = 1, .allowed_dirs = dirs};
    _cleanup_(buf_done) struct buf one = BUF_INIT, other = BUF_INIT;
    struct engine *e = NULL;
    struct err err = {0};
    (void)state;

    assert_non_null(mkdtemp(dir));
    assert_int_equal(engine_open(&opt, &e, &err), ERR_OK);
    for (unsigned i = 1; i <= 3; i++) {
        _cleanup_(engine_result_freep) struct engine_result *r = NULL;
        (void)snprintf(sql, sizeof(sql),
                       "COPY (SELECT %u AS a, 'x' AS b) TO '/tmp/sluice-engine-it''s[1]-%s/%u' (FORMAT parquet, "
                       "FIELD_IDS {a: 1, b: %u})",
                       i, strrchr(dir, '-') + 1, i, i == 3 ? 7u : 2u);
        if (engine_run(e, &(struct engine_query){.sql = sql, .materialize = true}, &r, &err) != ERR_OK)
            fail_msg("%s: %s", sql, err.msg);
    }
    char pattern[3][80];
    for (unsigned i = 0; i < 3; i++)
        (void)snprintf(pattern[i], sizeof(pattern[i]), "/tmp/sluice-engine-it's[1]-%s/%u", strrchr(dir, '-') + 1,
                       i + 1);
    const char *few[] = {pattern[0]}, *all[] = {pattern[2], pattern[0], pattern[1]};
    const struct engine_file_column columns[] = {{1, slice_lit("n"), {TYPE_INT64, TYPE_NULL}},
                                                 {2, slice_lit("it's \"b\""), {TYPE_UTF8, TYPE_NULL}}};
    const struct engine_files files[] = {{few, 1, columns, 1}, {all, 3, columns, 2}};
    engine_files_sql(0, &one);
    engine_files_sql(1, &other);
    static const char *const checks[][2] = {
        {"SELECT sum(n) FROM s1", "6"},
        {"SELECT count(\"it's \"\"b\"\"\") FROM s1", "2"}, /* of the third file it is another field */
        {"SELECT list(n) FROM s1", "[3, 1, 2]"},
        {"SELECT count(*) FROM s0 JOIN s1 USING (n), s1 t", "3"},
        {"SELECT n FROM s0", "1"},
        {"SELECT 5", "5"},
    };
    for (size_t i = 0; i < ARRAY_LEN(checks); i++) {
        _cleanup_(engine_result_freep) struct engine_result *r = NULL;
        const struct engine_chunk *chunk = NULL;
        (void)snprintf(sql, sizeof(sql),
                       "WITH s0 AS NOT MATERIALIZED (FROM %s), s1 AS NOT MATERIALIZED (FROM %s) "
                       "SELECT CAST((%s) AS VARCHAR)",
                       buf_cstr(&one), buf_cstr(&other), checks[i][0]);
        const struct engine_query q = {.sql = sql, .files = files, .files_count = 2};
        if (engine_run(e, &q, &r, &err) != ERR_OK || engine_result_next(r, &chunk, &err) != ERR_OK)
            fail_msg("%s: %s", sql, err.msg);
        slice got = chunk ? text_slice(chunk->columns[0].data) : slice_lit("nothing");
        if (!slice_eq(got, slice_str(checks[i][1])))
            fail_msg("%s: " SLICE_FMT, checks[i][0], SLICE_ARG(got));
    }
    const struct engine_file_column bad[] = {{1, slice_lit("\xff"), {TYPE_INT64, TYPE_NULL}}};
    const struct engine_files odd = {few, 1, bad, 1};
    const struct engine_query q = {.sql = "FROM read_parquet($1, schema=$2)", .files = &odd, .files_count = 1};
    struct engine_result *r = NULL;
    assert_int_equal(engine_run(e, &q, &r, &err), ERR_INVALID);
    engine_close(e);
    (void)snprintf(sql, sizeof(sql), "rm -r \"%s\"", dir);
    assert_int_equal(system(sql), 0);
}

static void test_ast(void **state)
{
    struct engine *e = open_engine();
    struct buf json = BUF_INIT, sql = BUF_INIT;
    struct err err;
    (void)state;

    assert_int_equal(engine_parse(e, slice_lit("SELECT a FROM t WHERE b = 'x''y'"), &json, &err), ERR_OK);
    assert_int_equal(engine_deparse(e, buf_view(&json), &sql, &err), ERR_OK);
    assert_string_equal(buf_cstr(&sql), "SELECT a FROM t WHERE (b = 'x''y')");
    json.len = 0;
    assert_int_equal(engine_parse(e, slice_lit("SELEC"), &json, &err), ERR_INVALID);
    assert_non_null(strstr(err.msg, "syntax error"));
    assert_int_equal(json.len, 0);
    assert_int_equal(engine_parse(e, slice_lit("DROP TABLE t"), &json, &err), ERR_INVALID);
    buf_done(&json);
    buf_done(&sql);
    engine_close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows_of_ours), cmocka_unit_test(test_small_parts),
                                       cmocka_unit_test(test_kept_plans),   cmocka_unit_test(test_settings_and_sandbox),
                                       cmocka_unit_test(test_limits),       cmocka_unit_test(test_spill),
                                       cmocka_unit_test(test_files),        cmocka_unit_test(test_ast)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
