/* gate_test.c: what the gate refuses, whatever the nesting; what it lets through reads only the streams it names; exact names; what
 * execution learns from a statement. Answers are compared with DataFusion's in tests/dialect. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "engine/engine.h"
#include "query/gate.h"

static struct engine *engine;

static const struct {
    const char *stream, *column;
    uint8_t kind;
} columns[] = {
    {"app", "id", TYPE_FLOAT64},     {"app", "level", TYPE_UTF8}, {"app", "Level", TYPE_UTF8},
    {"app", "LEVEL", TYPE_FLOAT64},  {"app", "ok", TYPE_BOOL},    {"app", "p_timestamp", TYPE_TIMESTAMP},
    {"app", "tags", TYPE_LIST},      {"app", "n", TYPE_INT64},    {"app", "a\"b", TYPE_UTF8},
    {"app", "a\xc3\xa9", TYPE_UTF8}, {"App", "other", TYPE_UTF8}, {"App", "p_timestamp", TYPE_TIMESTAMP},
    {"my-stream", "x", TYPE_UTF8},   {"s1", "y", TYPE_UTF8},      {"w0", "z", TYPE_UTF8},
};

static bool lookup(void *arg, slice stream, struct arena *a, struct gate_column **out, size_t *count)
{
    (void)arg;
    *count = 0;
    *out = arena_zalloc(a, ARRAY_LEN(columns) * sizeof(**out));
    for (size_t i = 0; i < ARRAY_LEN(columns); i++)
        if (slice_eq(stream, slice_str(columns[i].stream)))
            (*out)[(*count)++] = (struct gate_column){
                .name = slice_str(columns[i].column),
                .type = {.kind = columns[i].kind, .item = columns[i].kind == TYPE_LIST ? TYPE_FLOAT64 : 0}};
    return *count > 0;
}
static const struct gate_env env = {.lookup = lookup, .now_us = 1780000000000000};

static enum err_code check(const char *sql, struct gate_output *out, struct err *err)
{
    return gate_check(engine, slice_str(sql), &env, out, err);
}

static int setup(void **state)
{
    struct err err;
    const struct engine_options opt = {.memory_bytes = 64u << 20, .threads = 1};
    (void)state;
    return engine_open(&opt, &engine, &err) != ERR_OK;
}

static int teardown(void **state)
{
    (void)state;
    engine_close(engine);
    return 0;
}

/* ---- refused */

/* An expression or a query that must not pass; %s below are the places where it is put. */
static const char *const bad_expressions[] = {
    "read_text('/etc/passwd')",
    "getenv('HOME')",
    "current_setting('temp_directory')",
    "nextval('s')",
    "query('SELECT 1')",
    "pg_sleep(1)",
    "nope(id)",
    "sleep(1)",
    "sha512('a')",
    "set_config('a','b')",
    "error('x')",
    "unhex('00')",
    "epoch_us(p_timestamp)",
    "list_transform(tags, x)",
    "x -> x + 1",
    "list_filter(tags, lambda x: x)",
    "lambda x: x",
    "struct_pack(a := 1)",
    "main.lower('a')",
    "pg_catalog.lower('a')",
    "system.main.getenv('a')",
    "\"getenv\"('HOME')",
    "getvariable('x')",
    "U&'\\0041'",
    "$1",
    "?",
    ":name",
    "@x",
    "id::regclass",
    "id::json",
    "CAST(id AS read_csv)",
    "id COLLATE nocase",
    "(SELECT * FROM read_csv('/etc/passwd'))",
    "(SELECT 1 FROM '/etc/passwd')",
    "(SELECT 1 FROM duckdb_settings())",
    "(SELECT 1 FROM pg_catalog.pg_class)",
    "(SELECT 1 FROM information_schema.tables)",
    "(SELECT 1 FROM sqlite_master)",
    "(SELECT 1 FROM app LIMIT (SELECT 1))",
    "EXISTS (FROM app)",
    "(WITH RECURSIVE r AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM r) SELECT max(i) FROM r)",
    "repeat('x')",
    "level.foo.bar.baz",
    "COLUMNS(*)",
    "*",
    "app.*",
    "id IN (COPY app TO 'x')",
    "(DELETE FROM app RETURNING id)",
    "(INSERT INTO app VALUES (1))",
    "#1",
    "[x FOR x IN tags]",
    "id = ANY ('x', 'y')",
    "MAP {'a': 1}",
    "regexp_match(level, level)",
    "arrow_cast(id, 'Nope')",
    "json_extract(level, '$')",
    "level ->> '$.a'",
    "level -> 'a'",
    "date_part(level, p_timestamp)",
    "hash(level)",
    "md5_number(level)",
    "to_json(level)",
    "read_blob('x')",
    "glob('/*')",
    "parse_path('x')",
    "txid_current()",
    "version()",
    "current_user",
    "user()",
    "add(1, 2)",
    "row_number()",
    "sum(id) OVER nope",
    "grouping",
    "1 +",
    "(1",
    "1)",
    "'unterminated",
    "\"unterminated",
    "/* unterminated",
    "CASE END",
    "CASE WHEN 1 END",
    "INTERVAL 'x'",
    "DATE",
    "x'1'",
    "level[",
    "abs()",
    "abs(1, 2)",
    "count(*, 1)",
    "lower(*)",
    "lower(DISTINCT level)",
    "E'\\q'",
    "$a$ x",
    "id BETWEEN 1",
    "id IN ()",
    "NOT",
    "id IS",
    "1 1 1",
    "level LIKE 'a' ESCAPE 'xy'",
    "level LIKE 'a' ESCAPE 'x'",
    "(1, 2)",
    "ROLLUP(id)",
    "p_timestamp AT TIME ZONE 'Europe/Berlin'",
};
static const char *const places[] = {
    "SELECT %s FROM app",
    "SELECT id FROM app WHERE %s",
    "SELECT id FROM app WHERE id IN (SELECT %s FROM app)",
    "WITH c AS (SELECT %s AS v FROM app) SELECT v FROM c",
    "SELECT CASE WHEN ok THEN %s ELSE 1 END FROM app",
    "SELECT count(*) FROM app GROUP BY %s",
    "SELECT id FROM app ORDER BY coalesce(%s, 1)",
    "SELECT sum(id) OVER (PARTITION BY %s ORDER BY id) FROM app",
    "SELECT sum(id) OVER (ORDER BY id ROWS BETWEEN %s PRECEDING AND CURRENT ROW) FROM app",
    "SELECT count(*) FILTER (WHERE %s) FROM app",
    "SELECT a.id FROM app a JOIN app b ON %s",
    "SELECT x.v FROM app, LATERAL (SELECT %s AS v) x",
    "SELECT array_agg(id ORDER BY %s) FROM app",
    "SELECT id FROM app UNION SELECT %s FROM app",
    "SELECT make_array(1, %s) FROM app",
    "SELECT * FROM (VALUES (%s)) t(a)",
    "SELECT id FROM app QUALIFY row_number() OVER (ORDER BY %s) = 1",
    "EXPLAIN SELECT %s FROM app",
    "SELECT level FROM app GROUP BY level HAVING max(%s) > 1",
    "SELECT DISTINCT ON (%s) id FROM app",
    "SELECT tags[%s] FROM app",
    "SELECT EXISTS (SELECT %s FROM app)",
};

static bool slice_is_rollup(const char *s)
{
    return slice_starts(slice_str(s), slice_lit("ROLLUP"));
}

static void refused_everywhere(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad_expressions); i++)
        for (size_t k = 0; k < ARRAY_LEN(places); k++) {
            struct gate_output out;
            struct err err = {0};
            char sql[400], format[300];
            if (k == 5 && slice_is_rollup(bad_expressions[i])) /* its own place */
                continue;
            bool star = bad_expressions[i][0] == '*' || slice_ends(slice_str(bad_expressions[i]), slice_lit(".*"));
            if (star && (k == 2 || strstr(places[k], "SELECT %s"))) /* a star is fine in a SELECT list */
                continue;
            const char *at = strstr(places[k], "%s");
            (void)snprintf(format, sizeof(format), "%.*s", (int)(at - places[k]), places[k]);
            (void)snprintf(sql, sizeof(sql), "%s%s%s", format, bad_expressions[i], at + 2);
            enum err_code rc = check(sql, &out, &err);
            if (rc == ERR_OK) {
                print_error("let through: %s\n        as: " SLICE_FMT "\n", sql, SLICE_ARG(out.sql));
                gate_done(&out);
            }
            assert_int_equal(rc, ERR_INVALID);
            assert_true(err.msg[0]);
        }
}

static const char *const bad_statements[] = {
    "",
    ";",
    "-- nothing",
    "/* nothing */",
    "SELEC 1",
    "SELECT",
    "SELECT FROM app",
    "COPY app TO '/tmp/x'",
    "COPY (SELECT 1) TO '/tmp/x'",
    "EXPLAIN COPY app TO '/tmp/x'",
    "EXPLAIN ANALYZE COPY app TO '/tmp/x'",
    "EXPLAIN EXPLAIN SELECT 1",
    "EXPLAIN (FORMAT json) SELECT 1",
    "ATTACH '/tmp/x'",
    "DETACH memory",
    "INSTALL httpfs",
    "LOAD httpfs",
    "FORCE INSTALL x",
    "PRAGMA database_list",
    "PRAGMA show_tables",
    "SET threads = 1",
    "SET VARIABLE a = 1",
    "RESET threads",
    "SHOW TABLES",
    "SHOW ALL TABLES",
    "SHOW app",
    "CALL pragma_version()",
    "EXPORT DATABASE '/tmp/x'",
    "IMPORT DATABASE '/tmp/x'",
    "CHECKPOINT",
    "VACUUM",
    "ANALYZE",
    "USE memory",
    "CREATE TABLE t AS SELECT 1",
    "CREATE MACRO f(x) AS x",
    "CREATE SECRET (TYPE s3)",
    "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
    "CREATE VIEW v AS SELECT 1",
    "CREATE FUNCTION f() AS 1",
    "CREATE TYPE t AS ENUM ('a')",
    "DROP TABLE app",
    "ALTER TABLE app ADD COLUMN x INT",
    "INSERT INTO app VALUES (1)",
    "DELETE FROM app",
    "UPDATE app SET id = 1",
    "TRUNCATE app",
    "MERGE INTO app USING app ON true WHEN MATCHED THEN DELETE",
    "BEGIN",
    "COMMIT",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "DEALLOCATE p",
    "SUMMARIZE app",
    "SUMMARIZE SELECT 1",
    "DESCRIBE SELECT 1",
    "DESCRIBE nope",
    "DESCRIBE '/etc/passwd'",
    "DESCRIBE app; SELECT 1",
    "FROM app",
    "FROM app SELECT id",
    "TABLE app",
    "VALUES",
    "PIVOT app ON level USING sum(id)",
    "UNPIVOT app ON id INTO NAME a VALUE b",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP TABLE app",
    "SELECT 1 ;; ; COPY app TO 'x'",
    "SELECT 1 /* */ ; /* */ SELECT 2",
    "SELECT id INTO t FROM app",
    "SELECT id FROM app FOR UPDATE",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM \"/etc/passwd\"",
    "SELECT * FROM `/etc/passwd`",
    "SELECT * FROM \"read_csv('/etc/passwd')\"",
    "SELECT * FROM 'https://example/x.parquet'",
    "SELECT * FROM 's3://b/k.parquet'",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_parquet('x')",
    "SELECT * FROM READ_TEXT('/etc/passwd')",
    "SELECT * FROM glob('*')",
    "SELECT * FROM sluice_rows(1)",
    "SELECT * FROM range(10)",
    "SELECT * FROM generate_series(1, 3) g, app",
    "SELECT * FROM query('SELECT 1')",
    "SELECT * FROM query_table('app')",
    "SELECT * FROM pragma_table_info('app')",
    "SELECT * FROM duckdb_functions()",
    "SELECT * FROM sniff_csv('x')",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM pg_catalog.pg_tables",
    "SELECT * FROM duckdb_tables",
    "SELECT * FROM sqlite_master",
    "SELECT * FROM memory.main.app",
    "SELECT * FROM main.app",
    "SELECT * FROM temp.app",
    "SELECT * FROM system.app",
    "SELECT * FROM a.b.c.app",
    "SELECT * FROM datafusion.app",
    "SELECT * FROM other.public.app",
    "SELECT * FROM s0",
    "SELECT * FROM r0",
    "SELECT * FROM APP_",
    "SELECT * FROM app TABLESAMPLE 10%",
    "SELECT * FROM app USING SAMPLE 10",
    "SELECT * FROM app AT (VERSION => 1)",
    "SELECT * FROM app a RIGHT SEMI JOIN app b ON true",
    "SELECT * FROM (COPY app TO 'x')",
    "SELECT * FROM (PIVOT app ON level)",
    "SELECT * FROM (SHOW TABLES)",
    "SELECT * FROM (DESCRIBE app)",
    "SELECT * FROM (FROM app)",
    "WITH c AS (DELETE FROM app RETURNING *) SELECT * FROM c",
    "WITH c AS (COPY app TO 'x') SELECT 1",
    "WITH RECURSIVE c AS (SELECT 1) SELECT * FROM c",
    "WITH c AS (SELECT * FROM c) SELECT * FROM c",
    "WITH c AS (SELECT 1), c AS (SELECT 2) SELECT * FROM c",
    "WITH c AS (SELECT 1) INSERT INTO app SELECT * FROM c",
    "SELECT (SELECT 1 FROM c) FROM (WITH c AS (SELECT 1) SELECT * FROM c) x",
    "SELECT id, id FROM app",
    "SELECT id AS a, level AS a FROM app",
    "SELECT *, id FROM app",
    "SELECT nope FROM app",
    "SELECT app.nope FROM app",
    "SELECT b.id FROM app",
    "SELECT ID FROM app a, app b",
    "SELECT \"ID\" FROM app",
    "SELECT * EXCEPT (id) FROM app",
    "SELECT * EXCLUDE (id) FROM app",
    "SELECT * REPLACE (1 AS id) FROM app",
    "SELECT level + 1 FROM app",
    "SELECT 1 / 0 FROM app",
    "SELECT TIMESTAMP 'soon' FROM app",
    "SELECT id FROM app LIMIT id",
    "SELECT id FROM app LIMIT -1",
    "SELECT id FROM app LIMIT 10%",
    "SELECT id FROM app ORDER BY 2",
    "SELECT id FROM app ORDER BY ALL",
    "SELECT id FROM app GROUP BY 7",
    "SELECT id FROM app UNION SELECT id, ok FROM app",
    "SELECT id FROM app UNION BY NAME SELECT id FROM app",
    "SELECT p_timestamp + 1 FROM app",
    "SELECT generate_series(1, 100000000, 1, 1) FROM app",
    "SELECT 'a\x01' FROM",
    "\x00SELECT 1",
    "SELECT \xff\xfe FROM app",
    "SELECT 1 -- \n FROM",
    "SELECT id FROM app WHERE",
};

static void refused_statements(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad_statements); i++) {
        struct gate_output out;
        struct err err = {0};
        enum err_code rc = check(bad_statements[i], &out, &err);
        if (rc == ERR_OK)
            print_error("let through: %s\n        as: " SLICE_FMT "\n", bad_statements[i], SLICE_ARG(out.sql));
        assert_int_equal(rc, ERR_INVALID);
    }
}

/* The engine takes C strings: a byte 0 would end the statement there. */
static void refused_byte_0(void **state)
{
    static const slice rows[] = {
        slice_lit("\0SELECT 1"),
        slice_lit("SELECT 'a\0b' FROM app"),
        slice_lit("SELECT E'\0' FROM app"),
        slice_lit("SELECT $$\0$$ FROM app"),
        slice_lit("SELECT \"a\0\" FROM app"),
        slice_lit("SELECT 1 /*\0*/"),
        slice_lit("SELECT 1 --\0"),
        slice_lit("SELECT 1\0"),
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct gate_output out;
        struct err err = {0};
        assert_int_equal(gate_check(engine, rows[i], &env, &out, &err), ERR_INVALID);
        assert_non_null(strstr(err.msg, "byte 0"));
    }
}

static void depth_and_size(void **state)
{
    static const char *const pieces[][3] = {
        {"SELECT ", "(", "1"},
        {"SELECT ", "-", "1"},
        {"SELECT ", "NOT ", "true"},
        {"SELECT ", "[", "1"},
        {"SELECT 1", " + 1", ""},
        {"SELECT ", "abs(", "1"},
        {"", "(", "SELECT 1"},
        {"SELECT * FROM ", "(", "app"},
        {"SELECT ", "CASE WHEN ", "true"},
        {"SELECT 1", " UNION SELECT 1", ""},
        {"SELECT ", "(SELECT ", "1"},
        {"SELECT * FROM ", "(SELECT * FROM ", "app"},
        {"", "WITH c AS (", "SELECT 1"},
        {"SELECT 1", "::int", ""},
        {"SELECT id FROM app GROUP BY ", "ROLLUP(", "1"},
        {"SELECT tags", "[1]", " FROM app"},
        {"SELECT 1 WHERE true", " AND true", ""},
        {"/*", "/*", ""},
        {"SELECT * FROM app", " JOIN app ON true", ""},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        struct buf sql = BUF_INIT;
        struct gate_output out;
        struct err err = {0};
        buf_str(&sql, pieces[i][0]);
        for (int n = 0; n < 20000; n++)
            buf_str(&sql, pieces[i][1]);
        buf_str(&sql, pieces[i][2]);
        assert_int_equal(gate_check(engine, buf_view(&sql), &env, &out, &err), ERR_INVALID);
        buf_done(&sql);
    }
}

/* ---- names are exact */

static void one_sql(const char *sql, const char *want)
{
    struct gate_output out;
    struct err err = {0};
    if (check(sql, &out, &err) != ERR_OK)
        print_error("%s: %s\n", sql, err.msg);
    assert_string_equal(err.msg, "");
    if (!slice_eq(out.sql, slice_str(want)))
        print_error("%s\n got " SLICE_FMT "\nwant %s\n", sql, SLICE_ARG(out.sql), want);
    assert_true(slice_eq(out.sql, slice_str(want)));
    gate_done(&out);
}

static void twins(void **state)
{
    (void)state;
    one_sql("SELECT LEVEL FROM app", "SELECT r0.\"level#3\" AS c0 FROM s0 AS r0");
    one_sql("SELECT \"Level\" FROM APP", "SELECT r0.\"Level#2\" AS c0 FROM s0 AS r0");
    one_sql("SELECT \"LEVEL\" FROM app", "SELECT r0.\"LEVEL\" AS c0 FROM s0 AS r0");
    one_sql("SELECT other FROM \"App\"", "SELECT r0.\"other\" AS c0 FROM s0 AS r0");
    one_sql("SELECT \"a\"\"b\", \"a\xc3\xa9\" FROM app",
            "SELECT r0.\"a\"\"b\" AS c0, r0.\"a\xc3\xa9\" AS c1 FROM s0 AS r0");
    one_sql("SELECT x FROM `my-stream`", "SELECT r0.\"x\" AS c0 FROM s0 AS r0");
    one_sql("SELECT x FROM 'my-stream'", "SELECT r0.\"x\" AS c0 FROM s0 AS r0");
    one_sql("SELECT s1.y FROM s1, w0", "SELECT r0.\"y\" AS c0 FROM s0 AS r0, s1 AS r1");
    one_sql("WITH app AS (SELECT id FROM app) SELECT * FROM app",
            "WITH w0 AS (SELECT r0.\"id\" AS c0 FROM s0 AS r0) SELECT r1.\"c0\" AS c0 FROM w0 AS r1");
    one_sql("SELECT public.app.id FROM datafusion.public.app", "SELECT r0.\"id\" AS c0 FROM s0 AS r0");
    one_sql("SELECT id FROM app WHERE level ~ 'x''; DROP TABLE app; --'",
            "SELECT r0.\"id\" AS c0 FROM s0 AS r0 WHERE (regexp_matches(r0.\"level#3\", 'x''; DROP TABLE app; --'))");
    one_sql("SELECT count(*) FROM app WHERE p_timestamp >= '2026-01-01T00:00:00Z' AND date_trunc('day', p_timestamp) = "
            "TIMESTAMP '2026-01-01'",
            "SELECT count(*) AS c0 FROM s0 AS r0 WHERE ((r0.\"p_timestamp\" >= TIMESTAMPTZ '2026-01-01 "
            "00:00:00.000000+00') AND (date_trunc('day', "
            "make_timestamp(epoch_us(r0.\"p_timestamp\"))) = TIMESTAMP '2026-01-01 00:00:00.000000'))");
}

/* ---- what execution learns */

static void flags(void **state)
{
    static const struct {
        const char *sql;
        bool count_star, top_n, newest_first, explain;
        uint64_t limit;
        size_t used;
    } cases[] = {
        {"SELECT count(*) FROM app", true, false, true, false, UINT64_MAX, 0},
        {"SELECT COUNT(1) AS n FROM app a WHERE p_timestamp > '2026-01-01' AND p_timestamp BETWEEN '2026-01-01' AND "
         "now()",
         true, false, true, false, UINT64_MAX, 1},
        {"SELECT count(*) FROM app WHERE ok", false, false, true, false, UINT64_MAX, 1},
        {"SELECT count(*) FROM app WHERE p_timestamp > '2026-01-01' OR p_timestamp < '2025-01-01'", false, false, true,
         false, UINT64_MAX, 1},
        {"SELECT count(*) FROM app GROUP BY level", false, false, true, false, UINT64_MAX, 1},
        {"SELECT count(id) FROM app", false, false, true, false, UINT64_MAX, 1},
        {"SELECT count(*), 1 FROM app", false, false, true, false, UINT64_MAX, 0},
        {"SELECT count(*) FROM app, \"App\"", false, false, true, false, UINT64_MAX, 0},
        {"SELECT * FROM app ORDER BY p_timestamp DESC LIMIT 10", false, true, false, false, 10, 10},
        {"SELECT id AS p FROM app ORDER BY p_timestamp DESC LIMIT 10 OFFSET 5", false, true, false, false, 15, 2},
        {"SELECT id FROM app ORDER BY p_timestamp LIMIT 10", false, false, false, false, 10, 2},
        {"SELECT max(id) FROM app GROUP BY p_timestamp ORDER BY p_timestamp DESC LIMIT 10", false, false, false, false,
         10, 2},
        {"EXPLAIN SELECT id FROM app", false, false, true, true, UINT64_MAX, 1},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct gate_output out;
        struct err err = {0};
        assert_int_equal(check(cases[i].sql, &out, &err), ERR_OK);
        assert_int_equal(out.count_star, cases[i].count_star);
        assert_int_equal(out.top_n, cases[i].top_n);
        assert_int_equal(out.newest_first, cases[i].newest_first);
        assert_int_equal(out.explain, cases[i].explain);
        assert_true(out.limit == cases[i].limit);
        assert_int_equal(out.streams[0].used_count, cases[i].used);
        gate_done(&out);
    }
}

static void ranges(void **state)
{
    static const struct {
        const char *where;
        int count; /* of ranges of app */
        const char *column;
        bool has_min, has_max;
        double min, max;
    } cases[] = {
        {"id > 5", 1, "id", true, false, 5, 0},
        {"5 >= id AND id > -3", 1, "id", true, true, -3, 5},
        {"id = 7 AND level = 'x'", 2, "id", true, true, 7, 7},
        {"id IN (3, 1, 2)", 1, "id", true, true, 1, 3},
        {"id BETWEEN 1 AND 2.5", 1, "id", true, true, 1, 2.5},
        {"n > 5 AND n < 9", 1, "n", true, true, 6, 8},
        {"id > 5 OR id < 3", 0, NULL, false, false, 0, 0},
        {"NOT (id > 5)", 0, NULL, false, false, 0, 0},
        {"id = '5'", 0, NULL, false, false, 0, 0},
        {"id NOT IN (1)", 0, NULL, false, false, 0, 0},
        {"id > 5 AND EXISTS (SELECT 1 FROM \"App\" WHERE app.id < 3)", 1, "id", true, false, 5, 0},
        {"p_timestamp >= to_timestamp_millis(1000) AND p_timestamp < TIMESTAMP '1970-01-01T00:00:02'", 1, "p_timestamp",
         true, true, 1e6, 1999999},
        {"p_timestamp > now() - INTERVAL '1 minute'", 1, "p_timestamp", true, false, 1780000000e6 - 60e6 + 1, 0},
        {"p_timestamp = '1970-01-01 00:00:01+00'", 1, "p_timestamp", true, true, 1e6, 1e6},
        {"id > 5 AND id IN (SELECT id FROM app WHERE id > 9)", 1, "id", true, false, 5,
         0}, /* two references: the hull */
        {"id > 5 AND id IN (SELECT id FROM app WHERE ok)", 0, NULL, false, false, 0, 0},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct gate_output out;
        struct err err = {0};
        char sql[300];
        (void)snprintf(sql, sizeof(sql), "SELECT id FROM app WHERE %s", cases[i].where);
        assert_int_equal(check(sql, &out, &err), ERR_OK);
        assert_int_equal(out.streams[0].ranges_count, cases[i].count);
        for (size_t k = 0; k < out.streams[0].ranges_count; k++) {
            const struct gate_range *r = &out.streams[0].ranges[k];
            if (!slice_eq(r->column, slice_str(cases[i].column)))
                continue;
            assert_int_equal(r->has_min, cases[i].has_min);
            assert_int_equal(r->has_max, cases[i].has_max);
            bool real = r->type.kind == TYPE_FLOAT64;
            if (r->has_min)
                assert_true((real ? r->fmin : (double)r->imin) == cases[i].min);
            if (r->has_max)
                assert_true((real ? r->fmax : (double)r->imax) == cases[i].max);
        }
        gate_done(&out);
    }
}

static void output_names(void **state)
{
    static const struct {
        const char *sql, *name;
    } cases[] = {
        {"SELECT count(*) FROM app", "count(*)"},
        {"SELECT COUNT(1) FROM app", "count(Int64(1))"},
        {"SELECT max(a.id) FROM app a", "max(a.id)"},
        {"SELECT id + 1 * 2.50 FROM app", "app.id + Int64(1) * Float64(2.5)"},
        {"SELECT -id FROM app", "(- app.id)"},
        {"SELECT \"Level\" || 'x' FROM app", "app.Level || Utf8(\"x\")"},
        {"SELECT CASE WHEN ok THEN 1 END FROM app", "CASE WHEN app.ok THEN Int64(1) END"},
        {"SELECT CASE level WHEN 'a' THEN 1 ELSE 2 END FROM app",
         "CASE app.level WHEN Utf8(\"a\") THEN Int64(1) ELSE Int64(2) END"},
        {"SELECT sum(id) OVER (ORDER BY id) FROM app",
         "sum(app.id) ORDER BY [app.id ASC NULLS LAST] RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"},
        {"SELECT CAST(id AS INT) FROM app", "app.id"},
        {"SELECT ID FROM app", "id"},
        {"DESCRIBE app", "column_name"},
        {"EXPLAIN SELECT 1", "plan_type"},
        {"SELECT 1e20", "Float64(100000000000000000000)"},
        {"SELECT 1e-7", "Float64(0.0000001)"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct gate_output out;
        struct err err = {0};
        assert_int_equal(check(cases[i].sql, &out, &err), ERR_OK);
        if (!slice_eq(out.names[0].name, slice_str(cases[i].name)))
            print_error("%s: " SLICE_FMT "\n", cases[i].sql, SLICE_ARG(out.names[0].name));
        assert_true(slice_eq(out.names[0].name, slice_str(cases[i].name)));
        gate_done(&out);
    }
}

/* ---- the second wall by itself: statements of the engine's own dialect that no bug of the first wall must get past */

static void second_wall(void **state)
{
    static const struct {
        const char *sql;
        bool good;
    } cases[] = {
        {"SELECT r0.\"id\" AS c0 FROM s0 AS r0", true},
        {"SELECT r0.\"id\" AS c0 FROM s1 AS r0", false},
        {"SELECT r0.\"id\" AS c0 FROM s00 AS r0", false},
        {"SELECT 1 FROM read_csv('x')", false},
        {"SELECT 1 FROM 'x.csv'", false},
        {"SELECT 1 FROM memory.s0", false},
        {"SELECT 1 FROM main.s0", false},
        {"SELECT 1 FROM w0", false},
        {"WITH w0 AS (SELECT 1) SELECT 1 FROM w0", true},
        {"WITH s9 AS (SELECT 1) SELECT 1 FROM s9", false},
        {"WITH RECURSIVE w0 AS (SELECT 1 UNION ALL SELECT 1 FROM w0) SELECT 1 FROM w0", false},
        {"SELECT getenv('x')", false},
        {"SELECT (SELECT getenv('x'))", false},
        {"SELECT 1 ORDER BY getenv('x')", false},
        {"SELECT 1 LIMIT (SELECT length(getenv('x')))", false},
        {"SELECT sum(1) OVER (ORDER BY getenv('x'))", false},
        {"SELECT count(*) FILTER (WHERE getenv('x') IS NULL)", false},
        {"SELECT list_filter([1], lambda x: getenv('x') = 'a')", false},
        {"SELECT CASE WHEN getenv('x') = '' THEN 1 END", false},
        {"SELECT system.main.lower('x')", false},
        {"SELECT COLUMNS('x')", false},
        {"SELECT * EXCLUDE (a) FROM s0", false},
        {"SELECT * REPLACE (getenv('x') AS a) FROM s0", false},
        {"SELECT 1 FROM s0 USING SAMPLE 1", false},
        {"SELECT 1 FROM s0 TABLESAMPLE 1%", false},
        {"SELECT 1 FROM (VALUES (getenv('x'))) v(c0)", false},
        {"SELECT 1 FROM unnest([getenv('x')]) r0(c0)", false},
        {"SELECT r0.c0 FROM unnest([1]) AS r0(c0)", true},
        {"SELECT r0.c0 FROM unnest([1]) WITH ORDINALITY AS r0(c0)", false},
        {"SELECT 1 FROM range(10)", false},
        {"SELECT 1 FROM s0 r0 JOIN s0 r1 ON getenv('x') = ''", false},
        {"SELECT 1 FROM s0 r0 POSITIONAL JOIN s0 r1", false},
        {"SELECT 1 GROUP BY getenv('x')", false},
        {"SELECT 1 QUALIFY getenv('x') = ''", false},
        {"SELECT 1 UNION SELECT getenv('x')", false},
        {"SELECT CAST(1 AS nope)", false},
        {"SELECT CAST('a' AS JSON)", false},
        {"SELECT $1", false},
        {"SELECT id", false},
        {"FROM s0", true},
        {"PIVOT s0 ON a", false},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf json = BUF_INIT;
        struct err err = {0};
        enum err_code rc = engine_parse(engine, slice_str(cases[i].sql), &json, &err);
        if (rc == ERR_OK)
            rc = gate_verify(buf_view(&json), 1, &err);
        if ((rc == ERR_OK) != cases[i].good)
            print_error("%s: %s\n", cases[i].sql, err.msg);
        assert_int_equal(rc == ERR_OK, cases[i].good);
        buf_done(&json);
    }
}

static void names_once(void **state)
{
    struct gate_output out;
    struct err err = {0};
    (void)state;
    assert_int_equal(check("SELECT a.level, b.\"Level\", c.id FROM app a, app b, \"App\" x, app c", &out, &err),
                     ERR_OK);
    assert_int_equal(out.streams_count, 2);
    assert_int_equal(out.streams[0].references, 3);
    assert_int_equal(out.streams[0].used_count, 3);
    assert_true(slice_eq(out.streams[0].used[0].name, slice_lit("Level")));
    assert_true(slice_eq(out.streams[0].used[0].bound, slice_lit("Level#2")));
    gate_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused_everywhere),
        cmocka_unit_test(refused_statements),
        cmocka_unit_test(refused_byte_0),
        cmocka_unit_test(depth_and_size),
        cmocka_unit_test(twins),
        cmocka_unit_test(names_once),
        cmocka_unit_test(flags),
        cmocka_unit_test(ranges),
        cmocka_unit_test(output_names),
        cmocka_unit_test(second_wall),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
