/* run_test.c: queries over a real lake: rows in the stage, in files, in both; what is pruned; what goes on meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

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
        "{", "[]", "{}", "{" RANGE ",\"numBins\":0}", "{\"stream\":\"nope\",\"startTime\":\"1h\",\"endTime\":\"now\"}",
        "{\"stream\":\"app\",\"startTime\":\"soon\",\"endTime\":\"now\"}", "{" RANGE ",\"conditions\":{\"groupBy\":[\"n\"],\"topK\":0}}",
        "{" RANGE ",\"conditions\":{\"groupBy\":[\"nope\"]}}", "{" RANGE ",\"numBins\":1000000000000}", "{" OLD ",\"endTime\":\"2020-01-01T00:00:00Z\"}",
        "{" RANGE ",\"conditions\":{\"conditions\":{\"conditionConfig\":[{\"column\":\"n\",\"operator\":\"near\",\"value\":\"1\"}]}}}",
        "{" RANGE ",\"conditions\":{\"conditions\":{\"conditionConfig\":[{\"column\":\"n\",\"operator\":\"=\",\"value\":\"many\",\"type\":\"int\"}]}}}",
    };
    struct home h;
    (void)state;

    home_new(&h);
    put(&h, "app", "[{\"n\":1,\"level\":\"error\",\"msg\":\"10\"},{\"n\":2,\"level\":\"error\",\"msg\":\"100%\",\"ok\":true}]");
    flush(&h);
    put(&h, "app", "[{\"n\":3,\"level\":\"info\",\"msg\":\"a_b\"},{\"n\":4,\"msg\":\"it's\"}]");
    want_counts(&h, "{" OLD ",\"endTime\":\"2020-01-01T00:10:00Z\",\"numBins\":3}",
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
            _cleanup_(freep) char *body = mem_fmt("{" RANGE ",\"conditions\":{\"conditions\":{\"operator\":\"and\",\"conditionConfig\":[%s]}}}", where[i].condition);
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

static enum err_code on_row(void *arg, uint64_t id, slice json, struct err *err)
{
    struct buf *b = arg;
    (void)err, (void)id;
    buf_slice(b, json);
    return ERR_OK;
}

static void want_tail(struct home *h, const char *where, uint64_t after, uint64_t *last, uint32_t limit, const char *answer)
{
    struct buf out = BUF_INIT;
    struct err err = {0};
    struct lake_tail *t;

    assert_int_equal(lake_tail_open(h->lake, slice_lit("app"), &t, &err), ERR_OK);
    uint64_t horizon = lake_tail_horizon(t);
    lake_tail_close(t);
    if (query_tail(h->pool, slice_lit("app"), slice_str(where), after, horizon, limit, on_row, &out, last, &err) != ERR_OK)
        fail_msg("tail %s: %s", where, err.msg);
    if (strcmp(buf_cstr(&out), answer) != 0)
        fail_msg("tail %s gave %s, want %s", where, buf_cstr(&out), answer);
    buf_done(&out);
}

/* "a":1 of what the tail gave, as p_timestamp differs: the columns are few. */
static void test_tail(void **state)
{
    static const char *const bad[] = {"n >", "true) OR (true", "true ORDER BY n", "true LIMIT 1", "true UNION SELECT 1", "n IN (SELECT n FROM other)", "true GROUP BY n", "(", "nope = 1", "true; SELECT 1"};
    struct home h;
    uint64_t last = 0, first, ignored;
    (void)state;

    home_new(&h);
    put(&h, "app", "{\"p_user_agent\":1}");
    home_done(&h);
    home_new(&h);
    put(&h, "app", "{\"n\":1}");
    put(&h, "other", "{\"n\":1}");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct err err = {0};
        if (query_tail(h.pool, slice_lit("app"), slice_str(bad[i]), 0, 1, 1, on_row, NULL, &ignored, &err) != ERR_INVALID)
            fail_msg("where %s: %s", bad[i], err.msg);
    }
    want_tail(&h, "n > 1", 0, &last, 10, "");
    first = last;
    flush(&h);
    put(&h, "app", "[{\"n\":2},{\"n\":3}]");
    flush(&h);
    put(&h, "app", "{\"n\":4}");
    (void)first;
    home_done(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stage_files_both),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_tail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
