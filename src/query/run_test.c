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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stage_files_both),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
