/* run_test.c: queries over a real lake: rows in the stage, in files, in both; what is pruned; what goes on meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/metrics.h"
#include "base/timetext.h"
#include "query/query.h"
#include "query/tail.h"
#include "stage/lake.h"

struct home {
    char dir[64], wal[80], store[80], temp[80], hot_dir[80];
    struct lake *lake;
    struct query_pool *pool;
    bool hot;        /* has a hot tier */
    bool background; /* fold, compaction, gc, retention and scrub run all the time */
};

#define MAINTENANCE_US 20000

static struct store *open_store(struct os *os, const char *dir)
{
    struct store *store = NULL;
    struct err err = {0};

    if (store_local_open(os, dir, &store, &err) != ERR_OK)
        fail_msg("store: %s", err.msg);
    return store;
}

static void home_open(struct home *h)
{
    struct err err = {0};
    const struct lake_options opt = {.data_dir = h->dir,
                                     .wal_dir = h->wal,
                                     .store = open_store(os_real(), h->store),
                                     .wal = {.segment_bytes = 1u << 20},
                                     .hot = {.dir = h->hot ? h->hot_dir : NULL, .disk_percent_max = 100},
                                     .hot_interval_us = MAINTENANCE_US,
                                     .background = h->background,
                                     .fold_interval_us = MAINTENANCE_US,
                                     .compact_interval_us = MAINTENANCE_US,
                                     .index_interval_us = MAINTENANCE_US,
                                     .gc_interval_us = MAINTENANCE_US,
                                     .retention_interval_us = MAINTENANCE_US,
                                     .scrub_interval_us = MAINTENANCE_US};
    const struct query_pool_options pool = {.engines = 2,
                                            .threads = 2,
                                            .memory_bytes = UINT64_C(512) << 20,
                                            .temp_dir = h->temp,
                                            .timeout_us = 30000000,
                                            .window_rows = 2,
                                            .window_files = 1};

    if (lake_open(os_real(), &opt, &h->lake, &err) != ERR_OK ||
        query_pool_open(h->lake, &pool, &h->pool, &err) != ERR_OK)
        fail_msg("open: %s", err.msg);
}

/* store NULL: its own */
static void home_new_as(struct home *h, const char *template, const char *store)
{
    (void)snprintf(h->dir, sizeof(h->dir), "%s", template);
    assert_non_null(mkdtemp(h->dir));
    (void)snprintf(h->wal, sizeof(h->wal), "%s/wal", h->dir);
    (void)snprintf(h->store, sizeof(h->store), "%s%s", store ? store : h->dir, store ? "" : "/store");
    (void)snprintf(h->temp, sizeof(h->temp), "%s/temp", h->dir);
    (void)snprintf(h->hot_dir, sizeof(h->hot_dir), "%s/hot", h->dir);
    home_open(h);
}

static void home_new(struct home *h)
{
    home_new_as(h, "/tmp/sluice-query-XXXXXX", NULL);
}

static void home_close(struct home *h)
{
    query_pool_close(h->pool);
    lake_close(h->lake);
}

static void home_done(struct home *h)
{
    home_close(h);
    _cleanup_(freep) char *cmd = mem_fmt("rm -rf \"%s\"", h->dir);
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
    struct home h = {0};
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

    if (query_counts(h->pool, &(struct query_request){0}, slice_str(body), &out, &err) != ERR_OK)
        fail_msg("%s\n%s", body, err.msg);
    if (strcmp(buf_cstr(&out), answer) != 0)
        fail_msg("%s\n    gave %s\n    want %s", body, buf_cstr(&out), answer);
}

static uint64_t sum_of_counts(struct home *h, const char *body)
{
    _cleanup_(buf_done) struct buf out = BUF_INIT;
    struct err err = {0};
    uint64_t sum = 0;

    if (query_counts(h->pool, &(struct query_request){0}, slice_str(body), &out, &err) != ERR_OK)
        fail_msg("%s\n%s", body, err.msg);
    for (const char *at = buf_cstr(&out); (at = strstr(at, "\"count\":")); at++)
        sum += strtoull(at + 8, NULL, 10);
    return sum;
}

#define RANGE "\"stream\":\"app\",\"startTime\":\"1h\",\"endTime\":\"now\""
#define OLD "\"stream\":\"app\",\"startTime\":\"2020-01-01T00:00:00Z\""
#define NONE "{\"fields\":[\"start_time\",\"end_time\",\"count\"],\"records\":["

/* The engine takes paths for patterns, and looks whether it may read what a pattern says. */
static void test_any_directory(void **state)
{
    struct home h = {0};
    (void)state;

    home_new_as(&h, "/tmp/sluice-query-it's[1]*?-XXXXXX", NULL);
    put(&h, "app", "{\"a\":1}");
    flush(&h);
    want(&h, "SELECT a FROM app", "[{\"a\":1.0}]");
    home_done(&h);
}

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
    struct home h = {0};
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
        if (query_counts(h.pool, &(struct query_request){0}, slice_str(bad[i]), &out, &err) != ERR_INVALID ||
            !err.msg[0])
            fail_msg("%s: %s", bad[i], err.msg);
        buf_done(&out);
    }
    home_done(&h);
}

/* ---- tail */

/* Keeps the value of n, one digit; ids must grow. */
struct tailed {
    struct buf skipped;
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

static void on_skipped(void *arg, slice keys)
{
    struct tailed *t = arg;

    buf_slice(&t->skipped, keys);
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
    if (query_tail(h->pool, slice_lit("app"), slice_str(where), after, horizon, limit, on_row, NULL, &got, last,
                   &err) != ERR_OK)
        fail_msg("tail %s: %s", where, err.msg);
    if (strcmp(buf_cstr(&got.out), answer) != 0)
        fail_msg("tail %s gave %s, want %s", where, buf_cstr(&got.out), answer);
    buf_done(&got.out);
}

static uint64_t files_read(void)
{
    return (uint64_t)metric_value(metric_get(METRIC_COUNTER, "sluice_query_files_total", "", NULL));
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
    struct home h = {0};
    struct err err;
    uint64_t last = 0, at_three;
    (void)state;

    home_new(&h);
    put(&h, "app", "{\"n\":1}");
    put(&h, "other", "{\"n\":1}");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (query_tail_check(h.pool, slice_lit("app"), slice_str(bad[i]), &err) != ERR_INVALID)
            fail_msg("where %s: %s", bad[i], err.msg);
    assert_int_equal(query_tail(h.pool, slice_lit("nope"), (slice){0}, 0, 1, 1, on_row, NULL, NULL, &last, &err),
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

/* A follower reads no file that has nothing for it, and may ask for columns that nobody wrote yet. */
static void test_tail_files(void **state)
{
    struct home h = {0};
    uint64_t last = 0, read;
    (void)state;

    home_new(&h);
    assert_int_equal(lake_create(h.lake, slice_lit("app"),
                                 &(const struct stream_config){.telemetry_type = slice_lit("logs")}, NULL, NULL),
                     ERR_OK);
    assert_int_equal(query_tail_check(h.pool, slice_lit("app"), slice_lit("level = 'error' AND code > 4"), NULL),
                     ERR_OK);
    want_tail(&h, "level = 'error'", 0, &last, 10, "");
    put(&h, "app", "{\"n\":1}");
    assert_int_equal(query_tail_check(h.pool, slice_lit("app"), slice_lit("level = 'error'"), NULL), ERR_INVALID);
    want_tail(&h, "level = 'error' AND code > 4", 0, &last, 10, "");
    put(&h, "app", "{\"n\":2,\"level\":\"error\",\"code\":5}");
    want_tail(&h, "level = 'error' AND code > 4", 0, &last, 10, "2");
    for (unsigned i = 3; i < 9; i++) {
        _cleanup_(freep) char *body = mem_fmt("{\"n\":%u}", i);
        flush(&h);
        put(&h, "app", body);
    }
    read = files_read();
    want_tail(&h, "", last, &last, 10, "345678");
    assert_int_equal(files_read() - read, 5); /* not the first, and one row is staged */
    read = files_read();
    put(&h, "app", "{\"n\":9}");
    want_tail(&h, "n > 0", last, &last, 10, "9");
    want_tail(&h, "", last, &last, 10, "");
    flush(&h);
    want_tail(&h, "", last, &last, 10, "");
    assert_int_equal(files_read() - read, 0);
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
    struct home h = {0};
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
    struct home h = {0};
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
    struct home h = {0};
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
    struct home h = {0};
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
    struct home h = {0};
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
    flush(&h);
    want(&h, "WITH x AS (SELECT * FROM app) SELECT owner FROM hosts ORDER BY owner LIMIT 1", "[{\"owner\":\"ann\"}]");
    want(&h, "WITH x AS (SELECT * FROM app) SELECT 1 AS a", "[{\"a\":1}]"); /* files that nothing reads */
    want(&h, "SELECT id, owner FROM app JOIN hosts USING (host) ORDER BY id DESC LIMIT 1",
         "[{\"id\":2.0,\"owner\":\"bob\"}]");
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
    struct home h = {0};
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

/* ---- what is read */

static uint64_t files_of(struct home *h, const char *sql, const char *start, const char *end, const char *answer)
{
    uint64_t before = files_read();
    want_in(h, sql, start, end, answer);
    return files_read() - before;
}

static void test_pruning(void **state)
{
    struct home h = {0};
    char at_two[40];
    (void)state;

    home_new(&h);
    for (int i = 1; i <= 5; i++) {
        _cleanup_(freep) char *body =
            mem_fmt("{\"n\":%d,\"s\":\"value%d\",\"long\":\"a text beyond eight bytes %d\"}", i, i, i);
        put(&h, "app", body);
        flush(&h);
        (void)usleep(3000);
    }
    (void)stamp_of(&h, "n = 2", at_two);
    assert_int_equal(files_of(&h, "SELECT n FROM app ORDER BY n", "1h", "now",
                              "[{\"n\":1.0},{\"n\":2.0},{\"n\":3.0},{\"n\":4.0},{\"n\":5.0}]"),
                     5);
    assert_int_equal(files_of(&h, "SELECT n FROM app WHERE n = 3", "1h", "now", "[{\"n\":3.0}]"), 1);
    assert_int_equal(files_of(&h, "SELECT n FROM app WHERE n >= 4 AND s <= 'value4'", "1h", "now", "[{\"n\":4.0}]"), 1);
    assert_int_equal(files_of(&h, "SELECT n FROM app WHERE s = 'value2'", "1h", "now", "[{\"n\":2.0}]"), 1);
    assert_int_equal(
        files_of(&h, "SELECT n FROM app WHERE s >= 'value4' ORDER BY n", "1h", "now", "[{\"n\":4.0},{\"n\":5.0}]"), 2);
    want(&h, "SELECT n FROM app WHERE long = 'a text beyond eight bytes 3'",
         "[{\"n\":3.0}]"); /* ends of long texts are rounded */
    want(&h, "SELECT n FROM app WHERE long > 'a text beyond eight bytes 4'", "[{\"n\":5.0}]");
    want(&h, "SELECT n FROM app WHERE long <= 'a text beyond eight bytes 1'", "[{\"n\":1.0}]");
    assert_int_equal(files_of(&h, "SELECT n FROM app WHERE n > 7", "1h", "now", "[]"), 0);
    assert_int_equal(files_of(&h, "SELECT n FROM app", "2000-01-01T00:00:00Z", at_two, "[{\"n\":1.0}]"), 1);
    assert_int_equal(files_of(&h, "SELECT count(*) AS n FROM app", "1h", "now", "[{\"n\":5}]"), 0); /* by the catalog */
    assert_int_equal(files_of(&h, "SELECT count(*) AS n FROM app", "2000-01-01T00:00:00Z", at_two, "[{\"n\":1}]"), 0);
    assert_int_equal(
        files_of(&h, "SELECT n FROM app ORDER BY p_timestamp DESC LIMIT 2", "1h", "now", "[{\"n\":5.0},{\"n\":4.0}]"),
        2);
    assert_int_equal(
        files_of(&h, "SELECT n FROM app ORDER BY p_timestamp DESC LIMIT 1 OFFSET 2", "1h", "now", "[{\"n\":3.0}]"), 3);
    assert_int_equal(files_of(&h, "SELECT n FROM app LIMIT 1", "1h", "now", "[{\"n\":5.0}]"), 1);
    put(&h, "app", "{\"n\":6,\"s\":\"value6\"}");
    assert_int_equal(files_of(&h, "SELECT n FROM app LIMIT 1", "1h", "now", "[{\"n\":6.0}]"), 0);
    assert_int_equal(
        files_of(&h, "SELECT n FROM app ORDER BY p_timestamp DESC LIMIT 2", "1h", "now", "[{\"n\":6.0},{\"n\":5.0}]"),
        1);
    assert_int_equal(
        files_of(&h, "SELECT count(*) AS n FROM app WHERE p_timestamp >= '2000-01-01'", "1h", "now", "[{\"n\":6}]"), 0);
    /* what computes over rows may not be given fewer of them */
    want(&h, "SELECT max(n) AS m FROM app LIMIT 1", "[{\"m\":6.0}]");
    want(&h, "SELECT n, row_number() OVER (ORDER BY p_timestamp) AS r FROM app ORDER BY p_timestamp DESC LIMIT 1",
         "[{\"n\":6.0,\"r\":6}]");
    want(&h, "SELECT DISTINCT s IS NULL AS x FROM app LIMIT 5", "[{\"x\":false}]");
    want(&h, "SELECT n FROM app WHERE n < 3 ORDER BY p_timestamp DESC LIMIT 1", "[{\"n\":2.0}]");
    want(&h, "SELECT n, (SELECT min(n) FROM app) AS m FROM app ORDER BY p_timestamp DESC LIMIT 1",
         "[{\"n\":6.0,\"m\":1.0}]");
    want(&h, "SELECT unnest(make_array(n, n)) AS u FROM app ORDER BY p_timestamp DESC LIMIT 3",
         "[{\"u\":6.0},{\"u\":6.0},{\"u\":5.0}]");
    home_done(&h);
}

/* Top-N and LIMIT against the whole order, over files that overlap in time and rows in the stage. */
static void test_top_n_random(void **state)
{
    struct home h = {0};
    uint32_t seed = 1;
    (void)state;

    home_new(&h);
    for (unsigned i = 0; i < 60; i++) {
        seed = seed * 1664525u + 1013904223u;
        _cleanup_(freep) char *body = mem_fmt("[{\"n\":%u},{\"n\":%u}]", 2 * i, 2 * i + 1);
        put(&h, "app", body);
        if (seed >> 30 == 0)
            flush(&h);
        (void)usleep(1000);
    }
    static const char *const forms[] = {
        "true ORDER BY p_timestamp DESC, n LIMIT %u",
        "true ORDER BY p_timestamp DESC, n LIMIT %u OFFSET 7",
        "n % 3 = 1 ORDER BY p_timestamp DESC, n LIMIT %u",
        "n < 40 ORDER BY p_timestamp DESC, n LIMIT %u OFFSET 5",
        "n IN (3, 50, 118) ORDER BY p_timestamp DESC, n DESC LIMIT %u",
        "n < 0 ORDER BY p_timestamp DESC LIMIT %u",
    };
    for (unsigned limit = 1; limit < 130; limit += 13)
        for (size_t f = 0; f < ARRAY_LEN(forms); f++) {
            _cleanup_(asked_done) struct asked a = {0}, b = {0};
            _cleanup_(buf_done) struct buf form = BUF_INIT;
            _cleanup_(freep) char *quick = NULL, *slow = NULL;
            struct err err = {0};
            for (const char *c = forms[f]; *c; c++) {
                if (c[0] == '%' && c[1] == 'u')
                    buf_fmt(&form, "%u", limit);
                else
                    buf_byte(&form, (uint8_t)*c);
                c += c[0] == '%' && c[1] == 'u';
            }
            quick = mem_fmt("SELECT p_timestamp, n FROM app WHERE %s", buf_cstr(&form));
            slow = mem_fmt("SELECT p_timestamp, n FROM (SELECT DISTINCT p_timestamp, n FROM app) WHERE %s",
                           buf_cstr(&form));
            if (ask(&h, quick, "1h", "now", &a, &err) != ERR_OK || ask(&h, slow, "1h", "now", &b, &err) != ERR_OK)
                fail_msg("%s", err.msg);
            assert_string_equal(buf_cstr(&a.out), buf_cstr(&b.out));
        }
    home_done(&h);
}

/* The newest rows that meet a condition are in the newest files: the others are not touched, however many there are. */
static void test_newest_matching(void **state)
{
    struct home h = {0};
    (void)state;

    home_new(&h);
    for (unsigned i = 0; i < 40; i++) {
        _cleanup_(freep) char *body =
            mem_fmt("[{\"n\":%u,\"s\":\"a\"},{\"n\":%u,\"s\":\"%s\"}]", 2 * i, 2 * i + 1, i == 3 ? "rare" : "b");
        put(&h, "app", body);
        flush(&h);
        (void)usleep(2000);
    }
    assert_in_range(files_of(&h, "SELECT n FROM app WHERE s LIKE 'a%' ORDER BY p_timestamp DESC LIMIT 1", "1h", "now",
                             "[{\"n\":78.0}]"),
                    1, 9);
    assert_in_range(files_of(&h, "SELECT n FROM app WHERE s LIKE 'a%' LIMIT 1", "1h", "now", "[{\"n\":78.0}]"), 1, 9);
    assert_in_range(files_of(&h, "SELECT n FROM app WHERE s LIKE 'b%' ORDER BY p_timestamp DESC LIMIT 1 OFFSET 1", "1h",
                             "now", "[{\"n\":77.0}]"),
                    1, 17);
    assert_in_range(files_of(&h, "SELECT n FROM app WHERE s LIKE 'rare%' ORDER BY p_timestamp DESC LIMIT 1", "1h",
                             "now", "[{\"n\":7.0}]"),
                    40, 79); /* each window has twice the files of the one before */
    want(&h, "SELECT n FROM app WHERE s LIKE 'rare%' LIMIT 2", "[{\"n\":7.0}]");
    want(&h, "SELECT n FROM app WHERE s LIKE 'none%' ORDER BY p_timestamp DESC LIMIT 2", "[]");
    /* an answer that depends on all rows is not cut to the newest */
    want(&h, "SELECT count(*) AS c FROM app WHERE s LIKE 'a%' LIMIT 1", "[{\"c\":40}]");
    want(&h, "SELECT n FROM app WHERE n <= (SELECT min(n) FROM app) ORDER BY p_timestamp DESC LIMIT 1",
         "[{\"n\":0.0}]");
    want(&h, "SELECT n FROM app WHERE s LIKE 'a%' ORDER BY n LIMIT 1", "[{\"n\":0.0}]");
    want(&h, "SELECT n FROM app WHERE s LIKE 'a%' ORDER BY p_timestamp LIMIT 1", "[{\"n\":0.0}]");
    home_done(&h);
}

/* ---- what goes on meanwhile */

static void put_many(struct home *h, const char *stream, unsigned rows)
{
    struct buf body = BUF_INIT;

    buf_byte(&body, '[');
    for (unsigned i = 0; i < rows; i++)
        buf_fmt(&body, "%s{\"n\":%u,\"s\":\"row number %u\"}", i ? "," : "", i, i);
    buf_byte(&body, ']');
    put(h, stream, buf_cstr(&body));
    buf_done(&body);
}

static size_t rows_of_answer(struct asked *a)
{
    size_t n = 0;
    for (const char *at = buf_cstr(&a->out); (at = strchr(at, '{')); at++)
        n++;
    return n;
}

struct meanwhile {
    struct home *h;
    int step; /* what is done at the first piece of the answer; then 0 */
};

static void disturb(void *arg)
{
    struct meanwhile *m = arg;
    int step = m->step;

    m->step = 0;
    if (step == 1)
        flush(m->h);
    if (step == 2)
        assert_int_equal(lake_drop(m->h->lake, slice_lit("app"), NULL), ERR_OK);
    if (step == 3) {
        _cleanup_(buf_done) struct buf list = BUF_INIT;
        query_list(m->h->pool, slice_lit("me"), false, &list);
        assert_non_null(strstr(buf_cstr(&list), "\"id\":\"chosen\""));
        assert_non_null(strstr(buf_cstr(&list), "\"state\":\"running\""));
        list.len = 0;
        query_list(m->h->pool, slice_lit("you"), false, &list);
        assert_string_equal(buf_cstr(&list), "[]");
        assert_false(query_cancel_id(m->h->pool, slice_lit("chosen"), slice_lit("you"), false));
        assert_false(query_cancel_id(m->h->pool, slice_lit("other"), slice_lit("me"), true));
        assert_true(query_cancel_id(m->h->pool, slice_lit("chosen"), slice_lit("me"), false));
    }
}

static void take_hot_bytes(void *arg, struct stream_config *config)
{
    config->hot_tier_bytes = *(const uint64_t *)arg;
}

static void set_hot_bytes(struct home *h, uint64_t bytes)
{
    struct err err = {0};
    assert_int_equal(lake_configure(h->lake, slice_lit("app"), take_hot_bytes, &bytes, &err), ERR_OK);
}

static size_t files_of_stream(struct home *h)
{
    _cleanup_(stream_version_unrefp) struct stream_version *v = NULL;
    _cleanup_(schema_unrefp) struct schema *schema = NULL;
    struct plan plan = {0};

    assert_int_equal(lake_stream(h->lake, slice_lit("app"), &v, &schema, NULL), ERR_OK);
    assert_int_equal(stream_version_plan(v, INT64_MIN, INT64_MAX, NULL, 0, &plan, NULL), ERR_OK);
    size_t n = plan.count;
    plan_done(&plan);
    return n;
}

static void until_merged(void *arg)
{
    struct meanwhile *m = arg;

    for (int i = 0; m->step && i < 3000 && files_of_stream(m->h) > 64; i++)
        (void)usleep(10000);
    m->step = 0;
}

/* I9: files are merged, and the catalog is cleaned, between the first piece of an answer and its last: it is the answer of its cut all the same.
 * The files come from the hot tier, which evicts what was merged and what its size has no room for. */
static void test_maintenance(void **state)
{
    static const char *const sums = "SELECT count(*) AS c, sum(n) AS s, count(DISTINCT s) AS d FROM app";
    struct home h = {.background = true, .hot = true};
    struct asked before = {0}, after = {0};
    struct err err = {0};
    (void)state;

    home_new(&h);
    for (unsigned i = 0; i < 70; i++) {
        put_many(&h, "app", 600);
        flush(&h);
        if (i == 0)
            set_hot_bytes(&h, 1 << 20);
    }
    struct meanwhile m = {&h, 1};
    struct asked a = {.on_data = until_merged, .arg = &m};
    if (ask(&h, "SELECT n, s FROM app", "1h", "now", &a, &err) != ERR_OK ||
        ask(&h, sums, "1h", "now", &before, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(rows_of_answer(&a), 42000);
    assert_in_range(files_of_stream(&h), 1, 64);
    assert_string_equal(buf_cstr(&before.out), "[{\"c\":42000,\"s\":12579000.0,\"d\":600}]");
    for (int i = 0; i < 20; i++) {
        set_hot_bytes(&h, i % 2 ? 1 << 20 : 30000);
        if (ask(&h, sums, "1h", "now", &after, &err) != ERR_OK)
            fail_msg("%s", err.msg);
        assert_string_equal(buf_cstr(&after.out), buf_cstr(&before.out));
    }
    asked_done(&a);
    asked_done(&before);
    asked_done(&after);
    home_done(&h);
}

/* Runs a command for each file below a folder, as $f. */
static void each_file(const char *dir, const char *command)
{
    _cleanup_(freep) char *cmd = mem_fmt("for f in $(find %s -name '*.parquet'); do %s || exit 1; done", dir, command);
    assert_int_equal(system(cmd), 0);
}

/* Another node has merged files and removed them, and this one has not read the stream's head since. */
static void test_merged_elsewhere(void **state)
{
    struct home h = {0}, other = {.background = true};
    (void)state;

    home_new(&h);
    for (unsigned i = 0; i < 70; i++) {
        put(&h, "app", "{\"n\":1}");
        flush(&h);
    }
    home_new_as(&other, "/tmp/sluice-query-XXXXXX", h.store);
    for (int i = 0; i < 3000 && files_of_stream(&other) > 64; i++)
        (void)usleep(10000);
    home_done(&other);
    each_file(h.store, "case $f in */c0*) ;; *) rm $f;; esac");
    assert_int_equal(files_of_stream(&h), 70);
    want(&h, "SELECT sum(n) AS s FROM app", "[{\"s\":70.0}]");
    home_done(&h);
}

static void test_meanwhile(void **state)
{
    static const char *const sql = "SELECT n, s FROM app";
    struct home h = {0};
    (void)state;

    for (int step = 1; step <= 2; step++) {
        home_new(&h);
        put_many(&h, "app", 20000);
        flush(&h);
        put_many(&h, "app", 20000);
        struct meanwhile m = {&h, step};
        struct asked a = {.on_data = disturb, .arg = &m};
        struct err err = {0};
        if (ask(&h, sql, "1h", "now", &a, &err) != ERR_OK)
            fail_msg("step %d: %s", step, err.msg);
        assert_int_equal(rows_of_answer(&a), 40000); /* of the cut it started from */
        enum err_code rc = ask(&h, sql, "1h", "now", &a, &err);
        assert_int_equal(rc, step == 2 ? ERR_INVALID : ERR_OK);
        if (rc == ERR_OK)
            assert_int_equal(rows_of_answer(&a), 40000);
        asked_done(&a);
        home_done(&h);
    }
}

static void test_cancel(void **state)
{
    struct home h = {0};
    struct err err = {0};
    (void)state;

    home_new(&h);
    put_many(&h, "app", 20000);
    struct meanwhile m = {&h, 3};
    struct asked a = {.on_data = disturb, .arg = &m};
    const struct query_request req = {.id = slice_lit("chosen"),
                                      .user = slice_lit("me"),
                                      .start = slice_lit("1h"),
                                      .end = slice_lit("now"),
                                      .sql = slice_lit("SELECT x.s FROM app x, app y")};
    const struct query_sink sink = {.begin = on_begin, .data = on_data, .arg = &a};
    assert_int_equal(query_run(h.pool, &req, &sink, &err), ERR_CANCELLED);
    a.on_data = NULL;
    asked_done(&a);
    want(&h, "SELECT count(*) AS n FROM app", "[{\"n\":20000}]"); /* the engine is well */
    home_done(&h);
}

struct canceller {
    struct home *h;
    atomic_bool done;
};

static void cancel_soon(void *arg)
{
    struct canceller *c = arg;
    while (!atomic_load(&c->done)) {
        (void)query_cancel_id(c->h->pool, slice_lit("chosen"), slice_lit("me"), false);
        (void)usleep(200);
    }
}

/* Cancelled from another thread at any moment, before it starts too: it ends, and soon. */
static void test_cancel_any_time(void **state)
{
    struct home h = {0};
    (void)state;

    home_new(&h);
    put_many(&h, "app", 5000);
    for (int i = 0; i < 20; i++) {
        struct asked a = {0};
        struct err err = {0};
        struct canceller c = {.h = &h};
        const struct query_request req = {.id = slice_lit("chosen"),
                                          .user = slice_lit("me"),
                                          .start = slice_lit("1h"),
                                          .end = slice_lit("now"),
                                          .sql = slice_lit("SELECT count(DISTINCT x.s || y.s) FROM app x, app y")};
        const struct query_sink sink = {.begin = on_begin, .data = on_data, .arg = &a};
        struct os_thread *t = os_real()->ops->thread_new(os_real(), "cancel", cancel_soon, &c);
        assert_int_equal(query_run(h.pool, &req, &sink, &err), ERR_CANCELLED);
        atomic_store(&c.done, true);
        os_real()->ops->thread_join(os_real(), t);
        asked_done(&a);
    }
    home_done(&h);
}

static enum err_code no_more(void *arg, slice bytes, struct err *err)
{
    (void)arg, (void)bytes;
    return err_set(err, ERR_CANCELLED, "the client left");
}

static void test_client_leaves_and_timeout(void **state)
{
    struct home h = {0};
    struct err err = {0};
    (void)state;

    home_new(&h);
    put_many(&h, "app", 5000);
    const struct query_request req = {
        .start = slice_lit("1h"), .end = slice_lit("now"), .sql = slice_lit("SELECT x.s FROM app x, app y")};
    const struct query_sink sink = {.begin = on_begin, .data = no_more};
    assert_int_equal(query_run(h.pool, &req, &sink, &err), ERR_CANCELLED);
    query_pool_close(h.pool);
    const struct query_pool_options quick = {
        .engines = 1, .threads = 1, .memory_bytes = UINT64_C(64) << 20, .timeout_us = 200000};
    assert_int_equal(query_pool_open(h.lake, &quick, &h.pool, &err), ERR_OK);
    struct asked a = {0};
    assert_int_equal(
        ask(&h, "SELECT sum(length(x.s) + length(y.s) + length(z.s)) FROM app x, app y, app z", "1h", "now", &a, &err),
        ERR_TIMEOUT);
    assert_true(a.out.len == 0);
    asked_done(&a);
    want(&h, "SELECT count(*) AS n FROM app", "[{\"n\":5000}]");
    home_done(&h);
}

/* ---- damage */

static void damage(struct home *h, const char *how)
{
    _cleanup_(freep) char *cmd =
        mem_fmt("f=$(find %s/app -name '*.parquet' | sort | head -1) && test -n \"$f\" && %s", h->store, how);
    assert_int_equal(system(cmd), 0);
}

static void test_damaged_file(void **state)
{
    static const char *const harm[] = {
        ("cp \"$f\" /tmp/sluice-whole.$PPID && sleep 0.05 && dd if=/dev/zero of=\"$f\" bs=1 seek=4 count=300 "
         "conv=notrunc 2>/dev/null"),
        "cp \"$f\" /tmp/sluice-whole.$PPID && truncate -s 100 \"$f\"",
        "mv \"$f\" /tmp/sluice-whole.$PPID && echo \"$f\" > /tmp/sluice-whole.$PPID.name",
    };
    for (size_t i = 0; i < ARRAY_LEN(harm); i++) {
        struct home h = {0};
        struct asked a = {0};
        struct err err = {0};
        _cleanup_(buf_done) struct buf counts = BUF_INIT;
        (void)state;

        home_new(&h);
        put_many(&h, "app", 1000);
        flush(&h);
        put(&h, "app", "{\"n\":1,\"s\":\"whole\"}");
        flush(&h);
        put(&h, "app", "{\"n\":2,\"s\":\"staged\"}");
        damage(&h, harm[i]);
        enum err_code rc = ask(&h, "SELECT max(s) AS s, sum(n) AS n FROM app", "1h", "now", &a, &err);
        if (rc != ERR_CORRUPT || !strstr(err.msg, ".parquet"))
            fail_msg("harm %zu: %s %s", i, err_name(rc), err.msg);
        assert_int_equal(a.note.len, 0);
        rc = ask(&h, "SELECT s FROM app", "1h", "now", &a,
                 &err); /* the rest is there, and the answer says what is not */
        if (rc != ERR_OK || !strstr(buf_cstr(&a.note), ".parquet"))
            fail_msg("harm %zu: %s %s", i, err_name(rc), err.msg);
        assert_string_equal(buf_cstr(&a.out), "[{\"s\":\"staged\"},{\"s\":\"whole\"}]");
        assert_int_equal(query_counts(h.pool, &(struct query_request){0}, slice_lit("{" RANGE "}"), &counts, &err),
                         ERR_OK);
        assert_non_null(strstr(buf_cstr(&counts), "\"skippedFiles\":[\"app/"));
        struct tailed followed = {0}; /* a follower is told as well */
        uint64_t last;
        assert_int_equal(query_tail(h.pool, slice_lit("app"), (slice){0}, 0, INT64_MAX, 10, on_row, on_skipped,
                                    &followed, &last, &err),
                         ERR_OK);
        assert_string_equal(buf_cstr(&followed.out), "12");
        assert_non_null(strstr(buf_cstr(&followed.skipped), ".parquet"));
        buf_done(&followed.out);
        buf_done(&followed.skipped);
        if (i == 2)
            assert_int_equal(system("mv /tmp/sluice-whole.$PPID $(cat /tmp/sluice-whole.$PPID.name) && rm "
                                    "/tmp/sluice-whole.$PPID.name"),
                             0);
        else
            damage(&h, "mv /tmp/sluice-whole.$PPID \"$f\"");
        rc = ask(&h, "SELECT count(s) AS n FROM app", "1h", "now", &a, &err); /* put back: all is there */
        if (rc != ERR_OK || a.note.len)
            fail_msg("harm %zu: %s %s", i, err_name(rc), err.msg);
        assert_string_equal(buf_cstr(&a.out), "[{\"n\":1002}]");
        asked_done(&a);
        home_done(&h);
    }
}

/* ---- hot tier */

#define HOT_FILES 6

static const char *const hot_questions[] = {
    "SELECT count(*) AS c, sum(n) AS s, min(p_timestamp) < now() AS t, count(DISTINCT s) AS d FROM app",
    "SELECT n, s FROM app WHERE n > 290",
    "SELECT s FROM app ORDER BY p_timestamp DESC LIMIT 3",
    "SELECT a.n, count(*) AS c FROM app AS a JOIN app AS b ON a.s = b.s WHERE a.n < 3 GROUP BY a.n ORDER BY a.n",
};

/* The answers of all questions, one a line. */
static void answers(struct home *h, struct buf *out)
{
    struct asked a = {0};
    struct err err = {0};

    out->len = 0;
    for (size_t i = 0; i < ARRAY_LEN(hot_questions); i++) {
        if (ask(h, hot_questions[i], "1h", "now", &a, &err) != ERR_OK)
            fail_msg("%s: %s", hot_questions[i], err.msg);
        assert_int_equal(a.note.len, 0);
        buf_slice(out, buf_view(&a.out));
        buf_byte(out, '\n');
    }
    asked_done(&a);
}

static void want_answers(struct home *h, struct buf *want)
{
    _cleanup_(buf_done) struct buf have = BUF_INIT;

    answers(h, &have);
    assert_string_equal(buf_cstr(&have), buf_cstr(want));
}

static double metric(const char *name)
{
    return metric_value(metric_get(METRIC_COUNTER, name, "", NULL));
}

static void hot_round(struct home *h)
{
    struct err err = {0};
    bool behind = true;

    if (lake_hot_round(h->lake, &behind, &err) != ERR_OK)
        fail_msg("%s", err.msg);
    assert_false(behind);
}

static size_t hot_files(struct home *h, uint64_t *bytes)
{
    struct hot_usage u;
    hot_usage(lake_hot(h->lake), slice_lit("app/"), &u);
    *bytes = u.bytes;
    return u.files;
}

/* Goal: cold, half-filled, warm and damaged, after a start too: the answers are the same, and the tier is what gives them. */
static void test_hot_tier(void **state)
{
    /* in place, and so that neither size nor time tells */
    static const char harm[] = "touch -r $f $f.time && dd if=/dev/zero of=$f bs=1 seek=4 count=1500 conv=notrunc "
                               "2>/dev/null && touch -r $f.time $f && rm $f.time";
    _cleanup_(buf_done) struct buf cold = BUF_INIT;
    struct home h = {.hot = true};
    uint64_t bytes = 0, half;
    (void)state;

    home_new(&h);
    for (unsigned i = 0; i < HOT_FILES; i++) {
        put_many(&h, "app", 300);
        flush(&h);
    }
    put(&h, "app", "{\"n\":1000,\"s\":\"staged\"}");
    hot_round(&h);
    answers(&h, &cold);
    assert_int_equal(hot_files(&h, &bytes), 0); /* nobody asked for it */
    set_hot_bytes(&h, 1 << 20);
    double misses = metric("sluice_hot_tier_misses_total"), hits = metric("sluice_hot_tier_hits_total");
    want_answers(&h, &cold);
    assert_true(metric("sluice_hot_tier_misses_total") > misses && metric("sluice_hot_tier_hits_total") == hits);
    hot_round(&h);
    assert_int_equal(hot_files(&h, &bytes), HOT_FILES);
    misses = metric("sluice_hot_tier_misses_total");
    want_answers(&h, &cold);
    assert_true(metric("sluice_hot_tier_misses_total") == misses && metric("sluice_hot_tier_hits_total") > hits);

    set_hot_bytes(&h, bytes / 2); /* half: the newest */
    hot_round(&h);
    assert_int_equal(hot_files(&h, &half), HOT_FILES / 2);
    assert_true(half <= bytes / 2);
    want_answers(&h, &cold);
    hits = metric("sluice_hot_tier_hits_total");
    misses = metric("sluice_hot_tier_misses_total");
    want(&h, "SELECT n FROM app LIMIT 2", "[{\"n\":1000.0},{\"n\":299.0}]");
    assert_true(metric("sluice_hot_tier_hits_total") == hits + 1 && metric("sluice_hot_tier_misses_total") == misses);

    set_hot_bytes(&h, 1 << 20);
    hot_round(&h);
    home_close(&h); /* a start finds it */
    home_open(&h);
    assert_int_equal(hot_files(&h, &half), HOT_FILES);
    double filled = metric("sluice_hot_tier_filled_bytes_total");
    hot_round(&h);
    want_answers(&h, &cold);
    assert_true(metric("sluice_hot_tier_filled_bytes_total") == filled);
    each_file(h.store, "mv $f $f.away"); /* it is the tier that answers */
    want_answers(&h, &cold);
    each_file(h.hot_dir, "true");
    _cleanup_(freep) char *back = mem_fmt("for f in $(find %s -name '*.away'); do mv $f ${f%%.away}; done", h.store);
    assert_int_equal(system(back), 0);

    double damaged = metric("sluice_hot_tier_damaged_total");
    each_file(h.hot_dir, harm);
    want_answers(&h, &cold);
    assert_true(metric("sluice_hot_tier_damaged_total") > damaged);
    hot_round(&h);
    each_file(h.hot_dir, "truncate -s 700 $f");
    want_answers(&h, &cold);
    hot_round(&h);
    assert_int_equal(hot_files(&h, &half), HOT_FILES);
    assert_true(half == bytes);
    want_answers(&h, &cold);
    each_file(h.hot_dir, "rm $f");
    want_answers(&h, &cold);
    hot_round(&h);
    home_close(&h); /* damaged while nobody watched */
    each_file(h.hot_dir, harm);
    home_open(&h);
    want_answers(&h, &cold);
    hot_round(&h);
    assert_int_equal(hot_files(&h, &half), HOT_FILES);
    want_answers(&h, &cold);

    assert_int_equal(lake_drop(h.lake, slice_lit("app"), NULL), ERR_OK);
    hot_round(&h);
    assert_int_equal(hot_files(&h, &bytes), 0);
    each_file(h.hot_dir, "false");
    home_done(&h);
}

/* Words of damage in a user's own error are the user's. */
static void test_no_damage(void **state)
{
    struct home h = {0};
    struct asked a = {0};
    struct err err = {0};
    (void)state;

    home_new(&h);
    put(&h, "app", "{\"s\":\"Corrupt Malformed Parquet No magic bytes\"}");
    flush(&h);
    assert_int_equal(ask(&h, "SELECT CAST(s AS INT) FROM app", "1h", "now", &a, &err), ERR_INVALID);
    assert_int_equal(ask(&h, "SELECT regexp_replace(s, '(Corrupt', '') FROM app", "1h", "now", &a, &err), ERR_INVALID);
    want(&h, "SELECT count(s) AS n FROM app", "[{\"n\":1}]");
    asked_done(&a);
    home_done(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stage_files_both),
        cmocka_unit_test(test_any_directory),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_tail),
        cmocka_unit_test(test_tail_files),
        cmocka_unit_test(test_time_bounds),
        cmocka_unit_test(test_range),
        cmocka_unit_test(test_case_of_names),
        cmocka_unit_test(test_schema_growth),
        cmocka_unit_test(test_empty_stream),
        cmocka_unit_test(test_joins_and_explain),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_pruning),
        cmocka_unit_test(test_top_n_random),
        cmocka_unit_test(test_newest_matching),
        cmocka_unit_test(test_merged_elsewhere),
        cmocka_unit_test(test_meanwhile),
        cmocka_unit_test(test_maintenance),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_cancel_any_time),
        cmocka_unit_test(test_client_leaves_and_timeout),
        cmocka_unit_test(test_damaged_file),
        cmocka_unit_test(test_hot_tier),
        cmocka_unit_test(test_no_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
