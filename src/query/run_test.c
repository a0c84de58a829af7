/* run_test.c: queries over a real lake: rows in the stage, in files, in both; what is pruned; what goes on meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/timetext.h"
#include "query/query.h"
#include "query/tail.h"
#include "stage/lake.h"

struct home {
    char dir[64], wal[80], store[80], temp[80];
    struct lake *lake;
    struct query_pool *pool;
};

static void home_open(struct home *h)
{
    struct err err = {0};
    const struct lake_options opt = {
        .data_dir = h->dir, .wal_dir = h->wal, .store_dir = h->store, .wal = {.segment_bytes = 1u << 20}};
    const struct query_pool_options pool = {
        .engines = 2, .threads = 2, .memory_bytes = UINT64_C(512) << 20, .temp_dir = h->temp, .timeout_us = 30000000};

    if (lake_open(os_real(), &opt, &h->lake, &err) != ERR_OK ||
        query_pool_open(h->lake, &pool, &h->pool, &err) != ERR_OK)
        fail_msg("open: %s", err.msg);
}

static void home_new(struct home *h)
{
    (void)snprintf(h->dir, sizeof(h->dir), "/tmp/sluice-query-XXXXXX");
    assert_non_null(mkdtemp(h->dir));
    (void)snprintf(h->wal, sizeof(h->wal), "%s/wal", h->dir);
    (void)snprintf(h->store, sizeof(h->store), "%s/store", h->dir);
    (void)snprintf(h->temp, sizeof(h->temp), "%s/temp", h->dir);
    home_open(h);
}

static void home_close(struct home *h)
{
    query_pool_close(h->pool);
    lake_close(h->lake);
}

static void home_done(struct home *h)
{
    home_close(h);
    _cleanup_(freep) char *cmd = mem_fmt("rm -rf %s", h->dir);
    assert_int_equal(system(cmd), 0);
}

static void put(struct home *h, const char *stream, const char *body)
{
    const struct lake_ingest req = {.stream = slice_str(stream), .create = true, .body = slice_str(body)};
    struct err err = {0};

    if (lake_ingest_wait(h->lake, &req, NULL, &err) != ERR_OK)
        fail_msg("ingest %s: %s", body, err.msg);
}

static void flush(struct home *h)
{
    struct err err = {0};
    if (lake_flush(h->lake, &err) != ERR_OK)
        fail_msg("flush: %s", err.msg);
}

/* ---- asking */

struct asked {
    struct buf out, note;
    void (*on_data)(void *arg);
    void *arg;
};

static enum err_code on_begin(void *arg, const char *id, const char *type, struct err *err)
{
    (void)arg, (void)err;
    assert_true(id[0] && type[0]);
    return ERR_OK;
}

static enum err_code on_data(void *arg, slice bytes, struct err *err)
{
    struct asked *a = arg;
    (void)err;
    buf_slice(&a->out, bytes);
    if (a->on_data)
        a->on_data(a->arg);
    return ERR_OK;
}

static void on_note(void *arg, slice keys)
{
    struct asked *a = arg;
    buf_slice(&a->note, keys);
}

static enum err_code ask(struct home *h, const char *sql, const char *start, const char *end, struct asked *a,
                         struct err *err)
{
    const struct query_request req = {
        .sql = slice_str(sql), .start = slice_str(start), .end = slice_str(end), .user = slice_lit("me")};
    const struct query_sink sink = {.note = on_note, .begin = on_begin, .data = on_data, .arg = a};

    a->out.len = a->note.len = 0;
    return query_run(h->pool, &req, &sink, err);
}

static void asked_done(struct asked *a)
{
    buf_done(&a->out);
    buf_done(&a->note);
}

static void want_in(struct home *h, const char *sql, const char *start, const char *end, const char *answer)
{
    _cleanup_(asked_done) struct asked a = {0};
    struct err err = {0};

    if (ask(h, sql, start, end, &a, &err) != ERR_OK)
        fail_msg("%s\n%s", sql, err.msg);
    if (strcmp(buf_cstr(&a.out), answer) != 0)
        fail_msg("%s\n    gave %s\n    want %s", sql, buf_cstr(&a.out), answer);
}

static void want(struct home *h, const char *sql, const char *answer)
{
    want_in(h, sql, "1h", "now", answer);
}

/* ---- tests */

static void test_stage_files_both(void **state)
{
    struct home h;
    (void)state;

    home_new(&h);
    put(&h, "app", "{\"a\":1,\"s\":\"x\"}");
    put(&h, "app", "[{\"a\":2},{\"a\":3,\"c\":true}]");
    for (int round = 0; round < 2; round++) {
        want(&h, "SELECT count(*) FROM app", "[{\"count(*)\":3}]");
        want(&h, "SELECT a FROM app", "[{\"a\":3.0},{\"a\":2.0},{\"a\":1.0}]");
        want(&h, "SELECT a, s, c FROM app ORDER BY a", "[{\"a\":1.0,\"s\":\"x\"},{\"a\":2.0},{\"a\":3.0,\"c\":true}]");
        want(&h, "SELECT sum(a) AS s FROM app WHERE a > 1", "[{\"s\":5.0}]");
        flush(&h);
    }
    put(&h, "app", "{\"a\":4,\"d\":\"new\"}");
    want(&h, "SELECT a, d FROM app", "[{\"a\":4.0,\"d\":\"new\"},{\"a\":3.0},{\"a\":2.0},{\"a\":1.0}]");
    want(&h, "SELECT count(*) FROM app", "[{\"count(*)\":4}]");
    want(&h, "SELECT count(d) AS n FROM app", "[{\"n\":1}]");
    home_done(&h);
}

/* ---- counts */

static void want_counts(struct home *h, const char *body, const char *answer)
{
    _cleanup_(buf_done) struct buf out = BUF_INIT;
    struct err err = {0};

    if (query_counts(h->pool, slice_str(body), NULL, NULL, &out, &err) != ERR_OK)
        fail_msg("%s\n%s", body, err.msg);
    if (strcmp(buf_cstr(&out), answer) != 0)
        fail_msg("%s\n    gave %s\n    want %s", body, buf_cstr(&out), answer);
}

static uint64_t sum_of_counts(struct home *h, const char *body)
{
    _cleanup_(buf_done) struct buf out = BUF_INIT;
    struct err err = {0};
    uint64_t sum = 0;

    if (query_counts(h->pool, slice_str(body), NULL, NULL, &out, &err) != ERR_OK)
        fail_msg("%s\n%s", body, err.msg);
    for (const char *at = buf_cstr(&out); (at = strstr(at, "\"count\":")); at++)
        sum += strtoull(at + 8, NULL, 10);
    return sum;
}

#define RANGE "\"stream\":\"app\",\"startTime\":\"1h\",\"endTime\":\"now\""
#define OLD "\"stream\":\"app\",\"startTime\":\"2020-01-01T00:00:00Z\""
#define NONE "{\"fields\":[\"start_time\",\"end_time\",\"count\"],\"records\":["

static void test_counts(void **state)
{
    static const struct {
        const char *condition;
        unsigned rows;
    } where[] = {
        {"{\"column\":\"level\",\"operator\":\"=\",\"value\":\"error\"}", 2},
        {"{\"column\":\"level\",\"operator\":\"!=\",\"value\":\"error\"}", 1},
        {"{\"column\":\"n\",\"operator\":\">\",\"value\":\"1\"}", 3},
        {"{\"column\":\"n\",\"operator\":\">=\",\"value\":\"1\",\"type\":\"int\"}", 4},
        {"{\"column\":\"level\",\"operator\":\"is null\"}", 1},
        {"{\"column\":\"level\",\"operator\":\"is not null\"}", 3},
        {"{\"column\":\"msg\",\"operator\":\"contains\",\"value\":\"0%\"}", 1},
        {"{\"column\":\"msg\",\"operator\":\"begins with\",\"value\":\"10\"}", 2},
        {"{\"column\":\"msg\",\"operator\":\"ends with\",\"value\":\"it's\"}", 1},
        {"{\"column\":\"msg\",\"operator\":\"does not contain\",\"value\":\"_\"}", 3},
        {"{\"column\":\"msg\",\"operator\":\"ilike\",\"value\":\"IT'S\"}", 1},
        {"{\"column\":\"ok\",\"operator\":\"=\",\"value\":\"true\"}", 1},
    };
    static const char *const bad[] = {
        "{",
        "[]",
        "{}",
        "{" RANGE ",\"numBins\":0}",
        "{\"stream\":\"nope\",\"startTime\":\"1h\",\"endTime\":\"now\"}",
        "{\"stream\":\"app\",\"startTime\":\"soon\",\"endTime\":\"now\"}",
        "{" RANGE ",\"conditions\":{\"groupBy\":[\"n\"],\"topK\":0}}",
        "{" RANGE ",\"conditions\":{\"groupBy\":[\"nope\"]}}",
        "{" RANGE ",\"numBins\":1000000000000}",
        "{" OLD ",\"endTime\":\"2020-01-01T00:00:00Z\"}",
        "{" RANGE ",\"conditions\":{\"conditions\":{\"conditionConfig\":[{\"column\":\"n\",\"operator\":\"near\","
                  "\"value\":\"1\"}]}}}",
        "{" RANGE ",\"conditions\":{\"conditions\":{\"conditionConfig\":[{\"column\":\"n\",\"operator\":\"=\","
                  "\"value\":\"many\",\"type\":\"int\"}]}}}",
    };
    struct home h;
    (void)state;

    home_new(&h);
    put(&h, "app",
        "[{\"n\":1,\"level\":\"error\",\"msg\":\"10\"},{\"n\":2,\"level\":\"error\",\"msg\":\"100%\",\"ok\":true}]");
    flush(&h);
    put(&h, "app", "[{\"n\":3,\"level\":\"info\",\"msg\":\"a_b\"},{\"n\":4,\"msg\":\"it's\"}]");
    want_counts(
        &h, "{" OLD ",\"endTime\":\"2020-01-01T00:10:00Z\",\"numBins\":3}",
        NONE "{\"start_time\":\"2020-01-01T00:00:00+00:00\",\"end_time\":\"2020-01-01T00:03:00+00:00\",\"count\":0},"
             "{\"start_time\":\"2020-01-01T00:03:00+00:00\",\"end_time\":\"2020-01-01T00:06:00+00:00\",\"count\":0},"
             "{\"start_time\":\"2020-01-01T00:06:00+00:00\",\"end_time\":\"2020-01-01T00:09:00+00:00\",\"count\":0},"
             "{\"start_time\":\"2020-01-01T00:09:00+00:00\",\"end_time\":\"2020-01-01T00:10:00+00:00\",\"count\":0}]}");
    for (int round = 0; round < 2; round++) {
        assert_int_equal(sum_of_counts(&h, "{" RANGE "}"), 4);
        assert_int_equal(sum_of_counts(&h, "{" RANGE ",\"numBins\":7}"), 4);
        assert_int_equal(sum_of_counts(&h, "{" RANGE ",\"numBins\":1000}"), 4);
        assert_int_equal(sum_of_counts(&h, "{" RANGE ",\"conditions\":{}}"), 4);
        assert_int_equal(sum_of_counts(&h, "{" RANGE ",\"conditions\":{\"groupBy\":[\"level\",\"ok\"]}}"), 4);
        assert_int_equal(sum_of_counts(&h, "{" RANGE ",\"conditions\":{\"groupBy\":[\"level\"],\"topK\":1}}"), 2);
        for (size_t i = 0; i < ARRAY_LEN(where); i++) {
            _cleanup_(freep) char *body =
                mem_fmt("{" RANGE ",\"conditions\":{\"conditions\":{\"operator\":\"and\",\"conditionConfig\":[%s]}}}",
                        where[i].condition);
            if (sum_of_counts(&h, body) != where[i].rows)
                fail_msg("%s: %llu rows, want %u", body, (unsigned long long)sum_of_counts(&h, body), where[i].rows);
        }
        flush(&h);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct buf out = BUF_INIT;
        struct err err = {0};
        if (query_counts(h.pool, slice_str(bad[i]), NULL, NULL, &out, &err) != ERR_INVALID || !err.msg[0])
            fail_msg("%s: %s", bad[i], err.msg);
        buf_done(&out);
    }
    home_done(&h);
}

/* ---- tail */

/* Keeps the value of n, one digit; ids must grow. */
struct tailed {
    struct buf out;
    uint64_t id;
};

static enum err_code on_row(void *arg, uint64_t id, slice json, struct err *err)
{
    struct tailed *t = arg;
    const uint8_t *at = memmem(json.ptr, json.len, "\"n\":", 4);

    (void)err;
    assert_non_null(at);
    assert_true(id > t->id);
    t->id = id;
    buf_byte(&t->out, at[4]);
    return ERR_OK;
}

static void want_tail(struct home *h, const char *where, uint64_t after, uint64_t *last, uint32_t limit,
                      const char *answer)
{
    struct tailed got = {.id = after};
    struct err err = {0};
    struct lake_tail *t;

    assert_int_equal(lake_tail_open(h->lake, slice_lit("app"), &t, &err), ERR_OK);
    uint64_t horizon = lake_tail_horizon(t);
    lake_tail_close(t);
    if (query_tail(h->pool, slice_lit("app"), slice_str(where), after, horizon, limit, on_row, &got, last, &err) !=
        ERR_OK)
        fail_msg("tail %s: %s", where, err.msg);
    if (strcmp(buf_cstr(&got.out), answer) != 0)
        fail_msg("tail %s gave %s, want %s", where, buf_cstr(&got.out), answer);
    buf_done(&got.out);
}

static void test_tail(void **state)
{
    static const char *const bad[] = {
        "n >",
        "true) OR (true",
        "true ORDER BY n",
        "true LIMIT 1",
        "true UNION SELECT 1",
        "nope = 1",
        "(",
        "n IN (SELECT n FROM other)",
        "true GROUP BY n",
        "true; SELECT 1",
        "count(*) > 1",
    };
    struct home h;
    struct err err;
    uint64_t last = 0, at_three;
    (void)state;

    home_new(&h);
    put(&h, "app", "{\"n\":1}");
    put(&h, "other", "{\"n\":1}");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (query_tail(h.pool, slice_lit("app"), slice_str(bad[i]), 0, 1, 1, on_row, NULL, &last, &err) != ERR_INVALID)
            fail_msg("where %s: %s", bad[i], err.msg);
    assert_int_equal(query_tail(h.pool, slice_lit("nope"), (slice){0}, 0, 1, 1, on_row, NULL, &last, &err),
                     ERR_NOT_FOUND);
    want_tail(&h, "", 0, &last, 10, "1");
    want_tail(&h, "", last, &last, 10, "");
    flush(&h);
    put(&h, "app", "[{\"n\":2},{\"n\":3}]");
    want_tail(&h, "", last, &at_three, 10, "23");
    flush(&h);
    put(&h, "app", "{\"n\":4,\"s\":\"it's\"}");
    want_tail(&h, "", 0, &last, 10, "1234");
    want_tail(&h, "", at_three, &last, 10, "4");
    want_tail(&h, "", 0, &last, 3, "123"); /* the limit: the rest the next time */
    assert_int_equal(last, at_three);
    want_tail(&h, "n > 1 AND n < 4 -- a comment", 0, &last, 10, "23");
    want_tail(&h, "s = 'it''s' OR n = 2", 0, &last, 10, "24");
    flush(&h);
    want_tail(&h, "", at_three, &last, 10, "4");
    home_done(&h);
}

/* ---- times */

static int64_t stamp_of(struct home *h, const char *where, char text[40])
{
    _cleanup_(asked_done) struct asked a = {0};
    _cleanup_(freep) char *sql = mem_fmt("SELECT p_timestamp FROM app WHERE %s", where);
    struct err err = {0};
    int64_t us = 0;

    assert_int_equal(ask(h, sql, "1h", "now", &a, &err), ERR_OK);
    const char *at = strstr(buf_cstr(&a.out), ":\"");
    assert_non_null(at);
    (void)snprintf(text, 40, "%.*sZ", (int)strcspn(at + 2, "\""), at + 2);
    assert_true(time_parse_rfc3339(slice_str(text), true, &us));
    return us;
}

static void test_time_bounds(void **state)
{
    struct home h;
    char second[40], later[40], ignored[40];
    (void)state;

    home_new(&h);
    put(&h, "app", "{\"n\":1}");
    (void)usleep(3000);
    put(&h, "app", "{\"n\":2}");
    (void)usleep(3000);
    put(&h, "app", "{\"n\":3}");
    for (int round = 0; round < 2; round++) {
        int64_t us = stamp_of(&h, "n = 2", second);
        assert_true(us > stamp_of(&h, "n = 1", ignored) && us < stamp_of(&h, "n = 3", ignored));
        (void)snprintf(later, sizeof(later), "%s", "2100-01-01T00:00:00Z");
        want_in(&h, "SELECT n FROM app ORDER BY n", second, later,
                "[{\"n\":2.0},{\"n\":3.0}]"); /* the start is inclusive */
        want_in(&h, "SELECT n FROM app ORDER BY n", "2000-01-01T00:00:00Z", second,
                "[{\"n\":1.0}]"); /* the end exclusive */
        want_in(&h, "SELECT count(*) AS c FROM app", second, later, "[{\"c\":2}]");
        want_in(&h, "SELECT count(*) AS c FROM app", "2000-01-01T00:00:00Z", second, "[{\"c\":1}]");
        want_in(&h, "SELECT n FROM app", second, second, "[]");
        want_in(&h, "SELECT count(*) AS c FROM app", second, second, "[{\"c\":0}]");
        _cleanup_(freep) char *equal = mem_fmt("SELECT n FROM app WHERE p_timestamp = '%.23s'", second);
        want(&h, equal, "[{\"n\":2.0}]");
        _cleanup_(freep) char *counted = mem_fmt("SELECT count(*) AS c FROM app WHERE p_timestamp > '%.23s'", second);
        want(&h, counted, "[{\"c\":1}]");
        flush(&h);
    }
    home_done(&h);
}

static void test_range(void **state)
{
    static const struct {
        const char *start, *end;
        int64_t from, to; /* to 0: refused */
    } cases[] = {
        {"10m", "now", -600000000, 1},
        {"1h 30m", "now", -5400000000, 1},
        {"1hour", "now", -3600000000, 1},
        {"2 days 3ms", "now", -172800003000, 1},
        {"0s", "now", 0, 1},
        {"1M", "now", -2630016000000, 1},
        {" 5 min ", "now", -300000000, 1},
        {"", "now", 0, 0},
        {"60", "now", 0, 0},
        {"10m", "NOW", 0, 0},
        {"m", "now", 0, 0},
        {"-10m", "now", 0, 0},
        {"1.5h", "now", 0, 0},
        {"10 parsecs", "now", 0, 0},
        {"9999999y", "now", 0, 0},
        {"99999999999999999999s", "now", 0, 0},
        {"2026-01-01T00:00:00Z", "now", 0, 0},
        {"1h", "2026-01-01T00:00:00Z", 0, 0},
        {"2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z", 0, 0},
        {"2026-01-01T00:00:00", "2026-01-02T00:00:00", 0, 0},
        {"2026-01-01", "2026-01-02", 0, 0},
        {"1767225600", "1767312000", 0, 0},
    };
    const int64_t now = 1780000000000000;
    int64_t from, to;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = {0};
        enum err_code rc = query_range(slice_str(cases[i].start), slice_str(cases[i].end), now, &from, &to, &err);
        if (rc != (cases[i].to ? ERR_OK : ERR_INVALID) || (rc == ERR_OK && (from != now + cases[i].from || to != now)))
            fail_msg("%s .. %s: %s %lld", cases[i].start, cases[i].end, err_name(rc), (long long)(from - now));
    }
    assert_int_equal(
        query_range(slice_lit("2026-01-01T00:00:30.5+01:00"), slice_lit("2026-01-01 00:00:30Z"), now, &from, &to, NULL),
        ERR_OK);
    assert_int_equal(to - from, 3599500000);
}

/* ---- names and schemas */

static void test_case_of_names(void **state)
{
    struct home h;
    (void)state;

    home_new(&h);
    put(&h, "app", "{\"level\":\"low\",\"Level\":\"Mixed\",\"LEVEL\":\"HIGH\",\"$time\":7,\"_row_id\":\"mine\"}");
    put(&h, "App", "{\"level\":\"other\"}");
    for (int round = 0; round < 2; round++) {
        want(&h, "SELECT level, \"Level\", \"LEVEL\" FROM app",
             "[{\"level\":\"low\",\"Level\":\"Mixed\",\"LEVEL\":\"HIGH\"}]");
        want(&h, "SELECT LEVEL FROM APP", "[{\"level\":\"low\"}]");
        want(&h, "SELECT level FROM \"App\"", "[{\"level\":\"other\"}]");
        want(&h, "SELECT \"Level\" FROM app WHERE level = 'low' AND \"LEVEL\" = 'HIGH'", "[{\"Level\":\"Mixed\"}]");
        want(&h, "SELECT a.level AS x, b.level AS y FROM app a, \"App\" b", "[{\"x\":\"low\",\"y\":\"other\"}]");
        want(&h, "SELECT \"$time\", _row_id FROM app", "[{\"$time\":7.0,\"_row_id\":\"mine\"}]");
        flush(&h);
    }
    home_done(&h);
}

static void test_schema_growth(void **state)
{
    struct home h;
    (void)state;

    home_new(&h);
    put(&h, "app", "{\"a\":1}");
    flush(&h);
    put(&h, "app", "{\"a\":2,\"b\":\"new\"}");
    want(&h, "SELECT a, b FROM app ORDER BY a", "[{\"a\":1.0},{\"a\":2.0,\"b\":\"new\"}]");
    want(&h, "SELECT a FROM app WHERE b = 'new'", "[{\"a\":2.0}]"); /* a column that no file has yet */
    want(&h, "SELECT a FROM app WHERE b IS NULL", "[{\"a\":1.0}]");
    flush(&h);
    want(&h, "SELECT a, b FROM app ORDER BY a", "[{\"a\":1.0},{\"a\":2.0,\"b\":\"new\"}]");
    want(&h, "SELECT a FROM app WHERE b IS NULL", "[{\"a\":1.0}]");
    put(&h, "app", "{\"c\":true}");
    want(&h, "SELECT count(*) AS n, count(a) AS a, count(b) AS b, count(c) AS c FROM app",
         "[{\"n\":3,\"a\":2,\"b\":1,\"c\":1}]");
    home_done(&h);
}

static void test_empty_stream(void **state)
{
    struct home h;
    struct err err = {0};
    (void)state;

    home_new(&h);
    assert_int_equal(lake_create(h.lake, slice_lit("app"),
                                 &(const struct stream_config){.telemetry_type = slice_lit("logs")}, NULL, &err),
                     ERR_OK);
    want(&h, "SELECT * FROM app", "[]");
    want(&h, "SELECT count(*) AS n FROM app", "[{\"n\":0}]");
    want(&h, "SELECT max(p_timestamp) AS t, count(p_timestamp) AS n FROM app", "[{\"n\":0}]");
    want(&h, "SELECT 1 AS one FROM app", "[]");
    want(&h, "SELECT 1 AS one", "[{\"one\":1}]");
    put(&h, "app", "[{\"a\":1},{\"a\":2}]");
    want(&h, "SELECT 1 AS one FROM app", "[{\"one\":1},{\"one\":1}]");
    flush(&h);
    want(&h, "SELECT 1 AS one FROM app", "[{\"one\":1},{\"one\":1}]");
    home_done(&h);
}

static void test_joins_and_explain(void **state)
{
    _cleanup_(asked_done) struct asked a = {0};
    struct home h;
    struct err err = {0};
    (void)state;

    home_new(&h);
    put(&h, "app", "[{\"id\":1,\"host\":\"a\"},{\"id\":2,\"host\":\"b\"}]");
    flush(&h);
    put(&h, "hosts", "[{\"host\":\"a\",\"owner\":\"ann\"},{\"host\":\"b\",\"owner\":\"bob\"}]");
    want(&h, "SELECT id, owner FROM app JOIN hosts ON app.host = hosts.host ORDER BY id",
         "[{\"id\":1.0,\"owner\":\"ann\"},{\"id\":2.0,\"owner\":\"bob\"}]");
    want(&h, "WITH x AS (SELECT host FROM app WHERE id = 2) SELECT owner FROM hosts WHERE host IN (SELECT host FROM x)",
         "[{\"owner\":\"bob\"}]");
    want(&h, "SELECT count(*) AS n FROM app x, app y", "[{\"n\":4}]");
    want(&h, "DESCRIBE hosts",
         "[{\"column_name\":\"host\",\"data_type\":\"Utf8\",\"is_nullable\":\"YES\"},{\"column_name\":\"owner\",\"data_"
         "type\":\"Utf8\","
         "\"is_nullable\":\"YES\"},{\"column_name\":\"p_timestamp\",\"data_type\":\"Timestamp(ms)\",\"is_nullable\":"
         "\"YES\"}]");
    static const char *const explained[] = {"EXPLAIN SELECT count(*) FROM app",
                                            "EXPLAIN ANALYZE SELECT host, count(*) FROM app GROUP BY host",
                                            "EXPLAIN WITH x AS (SELECT 1) SELECT * FROM x, hosts"};
    for (size_t i = 0; i < ARRAY_LEN(explained); i++) {
        if (ask(&h, explained[i], "1h", "now", &a, &err) != ERR_OK)
            fail_msg("%s: %s", explained[i], err.msg);
        assert_non_null(strstr(buf_cstr(&a.out), "\"plan\":"));
        static const char *const inside[] = {"/tmp", "store", "parquet'", ".parquet", "Filename", "NOT MATERIALIZED",
                                             "date="};
        for (size_t k = 0; k < ARRAY_LEN(inside); k++) /* where files lie is not the user's business */
            if (strstr(buf_cstr(&a.out), inside[k]))
                fail_msg("%s shows %s: %s", explained[i], inside[k], buf_cstr(&a.out));
    }
    home_done(&h);
}

static void test_errors(void **state)
{
    static const struct {
        const char *sql;
        enum err_code code;
        const char *words;
    } cases[] = {
        {"SELECT * FROM nope", ERR_INVALID, "table 'datafusion.public.nope' not found"},
        {"", ERR_INVALID, ""},
        {"  ", ERR_INVALID, ""},
        {"SELECT CAST(s AS INT) FROM app", ERR_INVALID, "Execution Error: "},
        {"SELECT 1; SELECT 2", ERR_INVALID, ""},
        {"SELECT * FROM read_parquet('/etc/passwd')", ERR_INVALID, ""},
    };
    struct home h;
    struct asked a = {0};
    (void)state;

    home_new(&h);
    put(&h, "app", "{\"s\":\"x\"}");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = {0};
        enum err_code rc = ask(&h, cases[i].sql, "1h", "now", &a, &err);
        if (rc != cases[i].code || !strstr(err.msg, cases[i].words) || strstr(err.msg, "sluice_rows") || a.out.len)
            fail_msg("%s: %s %s", cases[i].sql, err_name(rc), err.msg);
    }
    asked_done(&a);
    home_done(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stage_files_both),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_tail),
        cmocka_unit_test(test_time_bounds),
        cmocka_unit_test(test_range),
        cmocka_unit_test(test_case_of_names),
        cmocka_unit_test(test_schema_growth),
        cmocka_unit_test(test_empty_stream),
        cmocka_unit_test(test_joins_and_explain),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
