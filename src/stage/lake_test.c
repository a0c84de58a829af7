/* lake_test.c: rows through decode, WAL, stage, Parquet and catalog of one node, with restarts. Goal: every acknowledged row is in
 * exactly one place, before and after each step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/metrics.h"
#include "os/fault.h"
#include "stage/lake_int.h"

struct home {
    char dir[64];
    char wal[80], store[80];
};

static void home_new(struct home *h)
{
    (void)snprintf(h->dir, sizeof(h->dir), "/tmp/sluice-lake-XXXXXX");
    assert_non_null(mkdtemp(h->dir));
    (void)snprintf(h->wal, sizeof(h->wal), "%s/wal", h->dir);
    (void)snprintf(h->store, sizeof(h->store), "%s/store", h->dir);
}

static void home_done(struct home *h)
{
    _cleanup_(freep) char *cmd = mem_fmt("rm -rf %s", h->dir);
    assert_int_equal(system(cmd), 0);
}

static struct store *open_store(struct os *os, const char *dir)
{
    struct store *store = NULL;
    struct err err = {0};

    if (store_local_open(os, dir, &store, &err) != ERR_OK)
        fail_msg("store: %s", err.msg);
    return store;
}

static struct lake *open_with(const struct home *h, int64_t fence_us)
{
    const struct lake_options opt = {.data_dir = h->dir,
                                     .wal_dir = h->wal,
                                     .store = open_store(os_real(), h->store),
                                     .fence_us = fence_us,
                                     .wal = {.segment_bytes = 1u << 20}};
    struct lake *lake = NULL;
    struct err err = {0};

    if (lake_open(os_real(), &opt, &lake, &err) != ERR_OK)
        fail_msg("open: %s", err.msg);
    return lake;
}

static struct lake *open_lake(const struct home *h)
{
    return open_with(h, 0);
}

static enum err_code put(struct lake *lake, const char *stream, const char *body, struct err *err)
{
    const struct lake_ingest req = {.stream = slice_str(stream), .create = true, .body = slice_str(body)};
    return lake_ingest_wait(lake, &req, NULL, err);
}

static void must_put(struct lake *lake, const char *stream, const char *body)
{
    struct err err = {0};
    if (put(lake, stream, body, &err) != ERR_OK)
        fail_msg("ingest %s: %s", body, err.msg);
}

/* Rows of a snapshot: staged, and in files by the plan. */
static void rows_of(struct lake *lake, const char *stream, uint64_t *staged, uint64_t *filed)
{
    struct lake_snapshot snap;
    struct plan plan;
    struct err err = {0};

    if (lake_snapshot(lake, slice_str(stream), &snap, &err) != ERR_OK)
        fail_msg("snapshot: %s", err.msg);
    *staged = snap.stage_rows;
    *filed = 0;
    assert_int_equal(stream_version_plan(snap.version, INT64_MIN, INT64_MAX, NULL, 0, &plan, &err), ERR_OK);
    for (size_t i = 0; i < plan.count; i++)
        *filed += plan.files[i].rows;
    plan_done(&plan);
    lake_snapshot_done(&snap);
}

static void check_rows(struct lake *lake, const char *stream, uint64_t staged, uint64_t filed)
{
    uint64_t s, f;
    rows_of(lake, stream, &s, &f);
    if (s != staged || f != filed)
        fail_msg("%s: staged %llu, filed %llu; want %llu, %llu", stream, (unsigned long long)s, (unsigned long long)f,
                 (unsigned long long)staged, (unsigned long long)filed);
}

static void must_flush(struct lake *lake)
{
    struct err err = {0};
    if (lake_flush(lake, &err) != ERR_OK)
        fail_msg("flush: %s", err.msg);
}

static void test_stage_then_files(void **state)
{
    struct home h;
    struct lake_stats stats;
    (void)state;

    home_new(&h);
    struct lake *lake = open_lake(&h);
    must_put(lake, "app", "{\"a\":1,\"b\":\"x\"}");
    must_put(lake, "app", "[{\"a\":2},{\"a\":3,\"c\":true}]");
    check_rows(lake, "app", 3, 0);
    must_flush(lake);
    check_rows(lake, "app", 0, 3);
    must_put(lake, "app", "{\"a\":4}");
    check_rows(lake, "app", 1, 3);
    assert_int_equal(lake_stats(lake, slice_lit("app"), &stats, NULL), ERR_OK);
    assert_int_equal(stats.rows, 4);
    assert_int_equal(lake_stage_rows(lake), 1);
    lake_close(lake); /* no background threads: no last flush, so the row comes back from the WAL */
    lake = open_lake(&h);
    check_rows(lake, "app", 1, 3);
    must_flush(lake);
    must_flush(lake);
    check_rows(lake, "app", 0, 4);
    lake_close(lake);
    lake = open_lake(&h);
    check_rows(lake, "app", 0, 4);
    lake_close(lake);
    home_done(&h);
}

static void test_refused_leaves_nothing(void **state)
{
    static const char *const bad[] = {"{\"a\":", "[1]", "{\"a\":1,\"a\":2}",
                                      "{\"p_timestamp\":\"2026-01-01T00:00:00Z\"}"};
    struct home h;
    struct err err;
    (void)state;

    home_new(&h);
    struct lake *lake = open_lake(&h);
    must_put(lake, "app", "{\"a\":1}");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(put(lake, "app", bad[i], &err), ERR_INVALID);
    check_rows(lake, "app", 1, 0);
    lake_close(lake);
    home_done(&h);
}

static void test_drop_and_recreate(void **state)
{
    struct home h;
    struct lake_snapshot snap;
    (void)state;

    home_new(&h);
    struct lake *lake = open_lake(&h);
    must_put(lake, "app", "{\"a\":1}");
    must_flush(lake);
    must_put(lake, "app", "{\"a\":2}");
    assert_int_equal(lake_drop(lake, slice_lit("app"), NULL), ERR_OK);
    assert_int_equal(lake_snapshot(lake, slice_lit("app"), &snap, NULL), ERR_NOT_FOUND);
    must_put(lake, "app", "{\"b\":\"new\"}");
    check_rows(lake, "app", 1, 0);
    lake_close(lake);
    lake = open_lake(&h); /* the WAL holds a row of the dead incarnation and one of the new */
    check_rows(lake, "app", 1, 0);
    must_flush(lake);
    check_rows(lake, "app", 0, 1);
    lake_close(lake);
    home_done(&h);
}

static void test_custom_partition_and_object_ack(void **state)
{
    const struct stream_config config = {.custom_partition = slice_lit("region"), .telemetry_type = slice_lit("logs")};
    struct home h;
    struct err err;
    struct lake_snapshot snap;
    struct plan plan;
    (void)state;

    home_new(&h);
    struct lake *lake = open_lake(&h);
    assert_int_equal(lake_create(lake, slice_lit("web"), &config, NULL, &err), ERR_OK);
    assert_int_equal(lake_create(lake, slice_lit("web"), &config, NULL, &err), ERR_CONFLICT);
    must_put(lake, "web", "[{\"region\":\"eu\",\"n\":1},{\"region\":\"a/b\",\"n\":2},{\"region\":\"eu\",\"n\":3}]");
    assert_int_equal(put(lake, "web", "{\"n\":4}", &err), ERR_INVALID);
    must_flush(lake);
    assert_int_equal(lake_snapshot(lake, slice_lit("web"), &snap, &err), ERR_OK);
    assert_int_equal(stream_version_plan(snap.version, INT64_MIN, INT64_MAX, NULL, 0, &plan, &err), ERR_OK);
    assert_int_equal(plan.count, 2);
    plan_done(&plan);
    lake_snapshot_done(&snap);
    lake_close(lake);
    home_done(&h);
}

/* kill -9 at a random moment, thirty times: what was acknowledged is there once. */
static void test_killed(void **state)
{
    struct home h;
    uint64_t staged, filed, acked = 0;
    (void)state;

    home_new(&h);
    for (unsigned round = 0; round < 30; round++) {
        int fds[2];
        char c;
        assert_int_equal(pipe(fds), 0);
        pid_t pid = fork();
        if (pid == 0) {
            (void)close(fds[0]);
            struct lake *lake = open_lake(&h);
            for (unsigned i = 0;; i++) {
                must_put(lake, "app", "{\"id\":\"some unique text of a row\",\"n\":1}");
                if (write(fds[1], "a", 1) != 1)
                    _exit(1);
                if (i % 17 == 13)
                    must_flush(lake);
            }
        }
        (void)close(fds[1]);
        for (unsigned n = 0; n < 5 + round * 3 && read(fds[0], &c, 1) == 1; n++)
            acked++;
        assert_int_equal(kill(pid, SIGKILL), 0);
        while (read(fds[0], &c, 1) == 1)
            acked++;
        (void)close(fds[0]);
        (void)waitpid(pid, NULL, 0);
        struct lake *lake = open_lake(&h);
        rows_of(lake, "app", &staged, &filed);
        /* the last request may be durable without its answer having been written to the pipe */
        if (staged + filed < acked || staged + filed > acked + 1)
            fail_msg("round %u: %llu rows, %llu acknowledged", round, (unsigned long long)(staged + filed),
                     (unsigned long long)acked);
        acked = staged + filed;
        lake_close(lake);
    }
    home_done(&h);
}

struct late {
    struct lake *lake;
    _Atomic bool done;
};

static void *put_late(void *arg)
{
    struct late *late = arg;
    const struct lake_ingest req = {
        .stream = slice_lit("app"), .body = slice_lit("{\"a\":2}"), .wait_us_max = INT64_C(1000000000)};

    assert_int_equal(lake_ingest_wait(late->lake, &req, NULL, NULL), ERR_OK);
    atomic_store(&late->done, true);
    return NULL;
}

/* Above the slow mark a request waits as long as it says, and no longer than until a flush has made room. */
static void test_wait_for_room(void **state)
{
    struct home h;
    struct lake_options opt = {.stage_bytes_slow = 1};
    struct late late = {0};
    pthread_t thread;
    struct err err = {0};
    (void)state;

    home_new(&h);
    opt.data_dir = h.dir;
    opt.wal_dir = h.wal;
    opt.store = open_store(os_real(), h.store);
    assert_int_equal(lake_open(os_real(), &opt, &late.lake, &err), ERR_OK);
    must_put(late.lake, "app", "{\"a\":0}");
    const struct lake_ingest patient = {
        .stream = slice_lit("app"), .body = slice_lit("{\"a\":1}"), .wait_us_max = 1000};
    assert_int_equal(lake_ingest_wait(late.lake, &patient, NULL, &err),
                     ERR_OK); /* no flush comes: slowed down, not refused */
    check_rows(late.lake, "app", 2, 0);
    assert_int_equal(pthread_create(&thread, NULL, put_late, &late), 0);
    while (!atomic_load(&late.done)) {
        must_flush(late.lake);
        (void)usleep(1000);
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    must_flush(late.lake);
    check_rows(late.lake, "app", 0, 3);
    lake_close(late.lake);
    home_done(&h);
}

#define CROWD 8
#define CROWD_REQUESTS 6
#define CROWD_ROWS 80 /* more than a request whose rows are copied into a shared block */

struct crowd {
    struct lake *lake;
    char body[CROWD_ROWS * 820];
    _Atomic unsigned left;
};

static void *put_crowd(void *arg)
{
    struct crowd *c = arg;
    const struct lake_ingest req = {.stream = slice_lit("app"),
                                    .create = true,
                                    .body = slice_str(c->body),
                                    .newline_delimited = true,
                                    .wait_us_max = 60000000};
    struct err err = {0};

    for (unsigned i = 0; i < CROWD_REQUESTS; i++)
        if (lake_ingest_wait(c->lake, &req, NULL, &err) != ERR_OK)
            abort();
    atomic_fetch_sub(&c->left, 1);
    return NULL;
}

/* Requests that come together do not pass the mark together: each has its room before it is decoded. */
static void test_crowd_keeps_the_mark(void **state)
{
    struct home h;
    struct lake_options opt = {.flush_bytes = 128 << 10}; /* the mark is twice that */
    struct crowd *crowd = calloc(1, sizeof(*crowd));
    const struct metric *staged = metric_get(METRIC_GAUGE, "sluice_stage_bytes", "", NULL);
    pthread_t threads[CROWD];
    struct err err = {0};
    double most = 0;
    (void)state;

    assert_non_null(crowd);
    home_new(&h);
    opt.data_dir = h.dir;
    opt.wal_dir = h.wal;
    opt.store = open_store(os_real(), h.store);
    assert_int_equal(lake_open(os_real(), &opt, &crowd->lake, &err), ERR_OK);
    for (unsigned i = 0; i < CROWD_ROWS; i++)
        (void)snprintf(crowd->body + strlen(crowd->body), 820, "{\"a\":\"%0800u\"}\n", i);
    atomic_init(&crowd->left, CROWD);
    for (unsigned i = 0; i < CROWD; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, put_crowd, crowd), 0);
    while (atomic_load(&crowd->left)) {
        (void)usleep(5000);
        most = MAX(most, metric_value(staged));
        must_flush(crowd->lake);
    }
    for (unsigned i = 0; i < CROWD; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    must_flush(crowd->lake);
    check_rows(crowd->lake, "app", 0, UINT64_C(1) * CROWD * CROWD_REQUESTS * CROWD_ROWS);
    if (most > 320 << 10) /* decoded, they are somewhat larger than their bodies; all eight are 512 KiB */
        fail_msg("%.0f bytes were staged", most);
    lake_close(crowd->lake);
    free(crowd);
    home_done(&h);
}

static void woken(void *arg)
{
    (*(int *)arg)++;
}

static void test_tail_horizon(void **state)
{
    struct home h;
    struct lake_tail *t;
    int wakes = 0;
    (void)state;

    home_new(&h);
    struct lake *lake = open_lake(&h);
    must_put(lake, "app", "{\"a\":1}");
    assert_int_equal(lake_tail_open(lake, slice_lit("app"), &t, NULL), ERR_OK);
    uint64_t before = lake_tail_horizon(t);
    lake_tail_wait(t, before, woken, &wakes);
    assert_int_equal(wakes, 0);
    must_put(lake, "app", "[{\"a\":2},{\"a\":3}]");
    for (unsigned i = 0; i < 1000 && !wakes; i++)
        (void)usleep(1000);
    assert_int_equal(wakes, 1);
    assert_true(lake_tail_horizon(t) > before);
    lake_tail_wait(t, before, woken, &wakes);
    assert_int_equal(wakes, 2);
    uint64_t after = lake_tail_horizon(t);
    lake_tail_close(t);
    lake_close(lake);

    /* After a restart, when all rows are in files, the horizon is past them still. */
    lake = open_lake(&h);
    assert_int_equal(lake_tail_open(lake, slice_lit("app"), &t, NULL), ERR_OK);
    uint64_t restarted = lake_tail_horizon(t);
    assert_true(restarted >= after);
    must_put(lake, "app", "{\"a\":4}");
    assert_true(lake_tail_horizon(t) > restarted);
    lake_tail_close(t);
    lake_close(lake);
    home_done(&h);
}

static void take_partition(void *arg, struct stream_config *config)
{
    config->custom_partition = slice_str(arg);
}

/* The rows were accepted under another configuration than the one that their replay finds. */
static void test_partition_set_after_acceptance(void **state)
{
    struct home h;
    struct err err;
    (void)state;

    home_new(&h);
    struct lake *lake = open_lake(&h);
    must_put(lake, "app", "[{\"n\":1},{\"n\":2}]");
    assert_int_equal(lake_configure(lake, slice_lit("app"), take_partition, (void *)"region", &err), ERR_OK);
    assert_int_equal(put(lake, "app", "{\"n\":3}", &err), ERR_INVALID);
    must_put(lake, "app", "{\"n\":4,\"region\":\"eu\"}");
    lake_close(lake);
    lake = open_lake(&h);
    check_rows(lake, "app", 3, 0);
    must_flush(lake);
    check_rows(lake, "app", 0, 3);
    lake_close(lake);
    home_done(&h);
}

/* Values that are no path elements, and more values than files can be written for, must not stop the flush of everybody. */
static void test_partition_values(void **state)
{
    const struct stream_config config = {.custom_partition = slice_lit("region"), .telemetry_type = slice_lit("logs")};
    struct home h;
    struct buf body = BUF_INIT;
    struct err err;
    (void)state;

    home_new(&h);
    struct lake *lake = open_lake(&h);
    assert_int_equal(lake_create(lake, slice_lit("web"), &config, NULL, &err), ERR_OK);
    buf_str(&body, "[{\"region\":\"/\"},{\"region\":\"a\\u0000b\"},{\"region\":\"a\"},{\"region\":\"");
    for (unsigned i = 0; i < 5000; i++)
        buf_str(&body, "long ");
    buf_str(&body, "\"},{\"region\":\"");
    for (unsigned i = 0; i < 5000; i++)
        buf_str(&body, "long ");
    buf_str(&body, "er\"}]");
    must_put(lake, "web", buf_cstr(&body));
    must_flush(lake);
    check_rows(lake, "web", 0, 5);
    body.len = 0;
    for (unsigned i = 0; i < 20000; i++)
        buf_fmt(&body, "%s{\"region\":\"r%u\",\"n\":%u}", i ? "," : "[", i, i);
    buf_str(&body, "]");
    must_put(lake, "web", buf_cstr(&body));
    must_put(lake, "app", "{\"n\":1}");
    must_flush(lake);
    check_rows(lake, "web", 0, 20005);
    check_rows(lake, "app", 0, 1);
    buf_done(&body);
    lake_close(lake);
    home_done(&h);
}

struct racing {
    struct lake *lake;
    unsigned rounds;
};

static void *configure_often(void *arg)
{
    static const char *const names[] = {"a", "a longer name", ""};
    struct racing *r = arg;

    for (unsigned i = 0; i < r->rounds; i++)
        assert_int_equal(lake_configure(r->lake, slice_lit("app"), take_partition,
                                        (void *)(uintptr_t)names[i % ARRAY_LEN(names)], NULL),
                         ERR_OK);
    return NULL;
}

static void test_configure_together(void **state)
{
    struct home h;
    struct racing r = {.rounds = 40};
    pthread_t threads[3];
    (void)state;

    home_new(&h);
    r.lake = open_lake(&h);
    must_put(r.lake, "app", "{\"n\":1}");
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, configure_often, &r), 0);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    lake_close(r.lake);
    home_done(&h);
}

/* Each thread drops and makes its own stream again and again, and all of them fight for one more. */
struct maker {
    struct lake *lake;
    char name[16];
};

static void *make_often(void *arg)
{
    struct maker *m = arg;

    for (unsigned i = 0; i < 4; i++) {
        must_put(m->lake, m->name, "{\"n\":1}");
        must_put(m->lake, m->name, "{\"n\":2}");
        check_rows(m->lake, m->name, 2, 0);
        assert_int_equal(lake_drop(m->lake, slice_str(m->name), NULL), ERR_OK);
        must_put(m->lake, "shared", "{\"n\":1}");
    }
    must_put(m->lake, m->name, "{\"n\":3}");
    return NULL;
}

static void test_create_together(void **state)
{
    struct home h;
    struct maker makers[8];
    pthread_t threads[ARRAY_LEN(makers)];
    (void)state;

    home_new(&h);
    struct lake *lake = open_lake(&h);
    for (size_t i = 0; i < ARRAY_LEN(makers); i++) {
        makers[i].lake = lake;
        (void)snprintf(makers[i].name, sizeof(makers[i].name), "own%zu", i);
        assert_int_equal(pthread_create(&threads[i], NULL, make_often, &makers[i]), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(makers); i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    must_flush(lake);
    lake_close(lake);
    lake = open_lake(&h);
    check_rows(lake, "shared", 0, 4 * ARRAY_LEN(makers));
    for (size_t i = 0; i < ARRAY_LEN(makers); i++)
        check_rows(lake, makers[i].name, 0, 1);
    lake_close(lake);
    home_done(&h);
}

static void *drop_app(void *arg)
{
    assert_int_equal(lake_drop(arg, slice_lit("app"), NULL), ERR_OK);
    return NULL;
}

/* Two DELETEs of one stream, and it is made again between them: the second ends what is there then, and nothing is put into that any more. */
static void test_drop_of_a_stream_made_again(void **state)
{
    struct home h;
    pthread_t thread;
    const struct timespec moment = {.tv_nsec = 50000000};
    (void)state;

    home_new(&h);
    struct lake *lake = open_lake(&h);
    must_put(lake, "app", "{\"n\":0}");
    struct os_mutex *mu = lake_name_mu(lake, slice_lit("app"));
    os_lock(os_real(), mu);
    assert_int_equal(pthread_create(&thread, NULL, drop_app, lake), 0);
    (void)nanosleep(&moment, NULL); /* to where it waits for us */
    struct stage_stream *s;
    int64_t fence_us;
    assert_int_equal(stage_find(lake, slice_lit("app"), &s, NULL), ERR_OK);
    assert_int_equal(catalog_drop_begin(lake_catalog(lake), slice_lit("app"), &fence_us, NULL), ERR_OK);
    stage_forget(lake, s);
    stage_stream_unref(s);
    struct stream_version *v;
    assert_int_equal(catalog_create(lake_catalog(lake), slice_lit("app"), &(struct stream_config){0}, NULL, &v, NULL),
                     ERR_OK);
    stream_version_unref(v);
    assert_int_equal(stage_find(lake, slice_lit("app"), &s, NULL), ERR_OK);
    stage_stream_unref(s);
    os_unlock(os_real(), mu);
    assert_int_equal(pthread_join(thread, NULL), 0);
    must_put(lake, "app", "{\"n\":1}");
    must_flush(lake);
    check_rows(lake, "app", 0, 1);
    lake_close(lake);
    home_done(&h);
}

/* ---- rows of a node that did not know of a DELETE, by another, and the stream that has the name by then */

struct duo {
    struct home h, other;
    struct lake *a, *b;
};

static struct lake *open_forgetful(const struct home *h)
{
    return open_with(h, 1); /* never sure: every row is stale */
}

static void duo_open(struct duo *d)
{
    home_new(&d->h);
    home_new(&d->other);
    (void)snprintf(d->other.store, sizeof(d->other.store), "%s", d->h.store);
    d->a = open_forgetful(&d->h);
    must_put(d->a, "app", "{\"n\":0}");
    must_flush(d->a);
    d->b = open_forgetful(&d->other);
}

static void duo_done(struct duo *d)
{
    lake_close(d->a);
    lake_close(d->b);
    home_done(&d->h);
    home_done(&d->other);
}

static void made_again(struct duo *d)
{
    assert_int_equal(lake_validate(d->b, NULL), ERR_OK);
    assert_int_equal(lake_drop(d->b, slice_lit("app"), NULL), ERR_OK);
    must_put(d->b, "app", "{\"n\":1}");
    must_flush(d->b);
}

static void check_filed(struct lake *lake, uint64_t rows)
{
    struct catalog_work work = {0};

    assert_int_equal(catalog_fold(lake_catalog(lake), &work, NULL), ERR_OK); /* what the other one committed */
    check_rows(lake, "app", 0, rows);
}

static uint64_t seal(struct lake *lake)
{
    return wal_seal(lake->wal);
}

/* Some of its rows are back and with the heir when others are parked: these alone are. */
static void test_heir_gets_rows_once(void **state)
{
    struct duo d;
    (void)state;

    duo_open(&d);
    must_put(d.a, "app", "{\"n\":2}");
    uint64_t first = seal(d.a);
    must_put(d.a, "app", "{\"n\":3}");
    made_again(&d);
    assert_int_equal(flush_segments(d.a, first, NULL), ERR_OK); /* parked, back, and staged by the heir */
    lake_unpark(d.a);
    must_flush(d.a);
    must_flush(d.a);
    check_filed(d.a, 3);
    lake_close(d.a);
    d.a = open_forgetful(&d.h);
    check_filed(d.a, 3);
    duo_done(&d);
}

/* The heir is deleted too: what it was given goes to the next, also when it was given at a start. */
static void test_heir_of_an_heir(void **state)
{
    struct duo d;
    (void)state;

    for (int restart = 0; restart < 2; restart++) {
        duo_open(&d);
        must_put(d.a, "app", "{\"n\":2}");
        made_again(&d);
        if (restart) {
            lake_close(d.a);
            d.a = open_forgetful(&d.h);
        } else {
            assert_int_equal(flush_segments(d.a, seal(d.a), NULL), ERR_OK);
            lake_unpark(d.a);
        }
        made_again(&d);
        must_flush(d.a);
        must_flush(d.a);
        must_flush(d.a);
        check_filed(d.a, 2);
        duo_done(&d);
    }
}

static void *flush_often(void *arg)
{
    struct racing *r = arg;

    for (unsigned i = 0; i < r->rounds; i++)
        assert_int_equal(lake_flush(r->lake, NULL), ERR_OK);
    return NULL;
}

/* L3: what is in files has its field ids in every snapshot, whoever made the schema grow meanwhile. */
static void test_ids_survive_growth(void **state)
{
    struct home h;
    struct racing r = {.rounds = 60};
    pthread_t thread;
    char body[64];
    (void)state;

    home_new(&h);
    r.lake = open_lake(&h);
    must_put(r.lake, "app", "{\"n\":1}");
    assert_int_equal(pthread_create(&thread, NULL, flush_often, &r), 0);
    for (unsigned i = 0; i < 400; i++) {
        struct lake_snapshot snap;
        (void)snprintf(body, sizeof(body), "{\"c%u\":1}", i);
        must_put(r.lake, "app", body);
        assert_int_equal(lake_snapshot(r.lake, slice_lit("app"), &snap, NULL), ERR_OK);
        const struct schema *filed = stream_version_schema(snap.version);
        for (uint32_t k = 0; k < schema_count(filed); k++) {
            const struct field *f = schema_field(filed, k);
            assert_int_equal(schema_field(snap.schema, schema_find(snap.schema, f->name))->id, f->id);
        }
        lake_snapshot_done(&snap);
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    lake_close(r.lake);
    home_done(&h);
}

static bool count_object(void *arg, const struct store_list_item *item)
{
    *(unsigned *)arg += slice_ends(item->key, slice_lit(".parquet"));
    return true;
}

/* A flush that fails, wherever it does, leaves no files for the next try to add to; and the next one succeeds. */
static void test_failed_flush_leaves_no_files(void **state)
{
    _cleanup_(os_fault_freep) struct os *os = os_fault_new(os_real());
    struct home h;
    struct err err = {0};
    bool fired = true;
    (void)state;

    home_new(&h);
    struct lake_options opt = {.data_dir = h.dir, .wal_dir = h.wal};
    for (unsigned nth = 0; fired; nth += 3) {
        struct lake *lake = NULL;
        unsigned files = 0;
        opt.store = open_store(os, h.store);
        assert_int_equal(lake_open(os, &opt, &lake, &err), ERR_OK);
        uint64_t rows = nth / 3;
        must_put(lake, "a", "{\"n\":1}");
        must_put(lake, "b", "{\"n\":1}");
        must_put(lake, "c", "{\"n\":1}");
        os_fault_arm(os, FAULT_NO_SPACE, nth, FAULT_FROM_THEN_ON);
        enum err_code rc = lake_flush(lake, &err);
        fired = os_fault_disarm(os);
        assert_true(rc == ERR_OK || fired); /* what comes after the commit may fail unnoticed */
        assert_int_equal(
            lake_store(lake)->ops->list(lake_store(lake), (slice){0}, (slice){0}, false, count_object, &files, &err),
            ERR_OK);
        if (files != (rc == ERR_OK ? 3 * (rows + 1) : 3 * rows))
            fail_msg("call %u fails: %u files, flush: %s", nth, files, err.msg);
        must_flush(lake);
        check_rows(lake, "a", 0, rows + 1);
        check_rows(lake, "c", 0, rows + 1);
        lake_close(lake);
    }
    home_done(&h);
}

/* The machine, but the WAL's header cannot be written. */
static struct os_ops full_ops;
static struct os full = {&full_ops};

static enum err_code full_open(struct os *os, const char *path, unsigned flags, struct os_file **out, struct err *err)
{
    (void)os;
    if (slice_ends(slice_str(path), slice_lit("/wal/header.new")))
        return err_set(err, ERR_LIMIT, "%s: No space left on device", path);
    return os_real()->ops->open(os_real(), path, flags, out, err);
}

static bool count_lane_slot(void *arg, const struct store_list_item *item)
{
    (void)item;
    ++*(unsigned *)arg;
    return true;
}

static unsigned lane_slots(struct store *store)
{
    unsigned n = 0;
    assert_int_equal(store->ops->list(store, slice_lit(".sluice/lanes/"), (slice){0}, false, count_lane_slot, &n, NULL),
                     ERR_OK);
    return n;
}

/* Starts that fail on a full disk, again and again, leave nothing in the store. */
static void test_starts_on_a_full_disk(void **state)
{
    struct home h;
    struct err err = {0};
    (void)state;

    home_new(&h);
    full_ops = *os_real()->ops;
    full_ops.open = full_open;
    struct lake_options opt = {.data_dir = h.dir, .wal_dir = h.wal};
    struct lake *lake = open_lake(&h);
    must_put(lake, "app", "{\"a\":1}");
    unsigned slots = lane_slots(lake_store(lake));
    assert_true(slots > 0);
    lake_close(lake);
    for (unsigned i = 0; i < 3; i++) {
        opt.store = open_store(os_real(), h.store);
        assert_int_equal(lake_open(&full, &opt, &lake, &err), ERR_LIMIT);
    }
    struct store *store = open_store(os_real(), h.store);
    assert_int_equal(lane_slots(store), slots);
    store->ops->free(store);
    lake = open_lake(&h);
    check_rows(lake, "app", 1, 0);
    must_flush(lake);
    check_rows(lake, "app", 0, 1);
    lake_close(lake);
    home_done(&h);
}

/* Every file that the catalog names is in the store. */
static void check_files(struct lake *lake, const char *stream)
{
    struct store *store = lake_store(lake);
    struct lake_snapshot snap;
    struct plan plan;
    struct store_meta meta;
    struct err err = {0};

    assert_int_equal(lake_snapshot(lake, slice_str(stream), &snap, &err), ERR_OK);
    assert_int_equal(stream_version_plan(snap.version, INT64_MIN, INT64_MAX, NULL, 0, &plan, &err), ERR_OK);
    for (size_t i = 0; i < plan.count; i++)
        if (store->ops->stat(store, plan.files[i].key, &meta, &err) != ERR_OK)
            fail_msg("a file of committed rows is gone: %s", err.msg);
    plan_done(&plan);
    lake_snapshot_done(&snap);
}

/* Whichever call of a commit fails, before or after its slot is taken: what was acknowledged is there once, for this process or, where
 * the store is broken until it is opened again, for the next. */
static void check_flush_with_fault(enum fault_kind kind, unsigned nth, bool *fired)
{
    _cleanup_(os_fault_freep) struct os *os = os_fault_new(os_real());
    struct home h;
    struct lake *lake = NULL;
    struct err err = {0};
    uint64_t staged, filed, rows = 2;

    home_new(&h);
    const struct lake_options opt = {.data_dir = h.dir, .wal_dir = h.wal, .store = open_store(os, h.store)};
    assert_int_equal(lake_open(os, &opt, &lake, &err), ERR_OK);
    must_put(lake, "app", "[{\"n\":1},{\"n\":2}]");
    os_fault_arm(os, kind, nth, FAULT_ONCE);
    enum err_code first = lake_flush(lake, &err);
    *fired = os_fault_disarm(os);
    rows_of(lake, "app", &staged, &filed);
    if (staged + filed != rows)
        fail_msg("call %u fails: staged %llu, filed %llu", nth, (unsigned long long)staged, (unsigned long long)filed);
    rows += put(lake, "app", "{\"n\":3}", &err) == ERR_OK; /* the WAL may wait for its disk */
    enum err_code second = lake_flush(lake, &err);
    assert_true(*fired || (first == ERR_OK && second == ERR_OK));
    lake_close(lake);
    lake = open_lake(&h);
    must_flush(lake);
    check_rows(lake, "app", 0, rows);
    check_files(lake, "app");
    lake_close(lake);
    home_done(&h);
}

static void test_failed_commit_keeps_rows_and_files(void **state)
{
    static const struct {
        enum fault_kind kind;
        unsigned first; /* the calls before are of uploads: test_failed_flush_leaves_no_files */
    } kinds[] = {{FAULT_NO_FILES, 8}, {FAULT_IO, 18}};
    (void)state;

    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        bool fired = true;
        for (unsigned nth = kinds[k].first; fired; nth++)
            check_flush_with_fault(kinds[k].kind, nth, &fired);
    }
}

/* The disk of a machine that was off is copied, and both go on with one store: what both hold is committed once, what each takes is kept. */
static void test_cloned_disk(void **state)
{
    struct home h, twin;
    struct lake *lakes[2];
    struct err err = {0};
    char body[32];
    (void)state;

    home_new(&h);
    home_new(&twin);
    lakes[0] = open_lake(&h);
    must_put(lakes[0], "app", "{\"n\":1}");
    must_flush(lakes[0]);
    must_put(lakes[0], "app", "[{\"n\":2},{\"n\":3}]");
    lake_close(lakes[0]);
    _cleanup_(freep) char *cmd = mem_fmt("cp -r %s/wal %s/node_id %s/", h.dir, h.dir, twin.dir);
    assert_int_equal(system(cmd), 0);
    (void)snprintf(twin.store, sizeof(twin.store), "%s", h.store);
    for (unsigned start = 0; start < 2; start++) {
        lakes[0] = open_lake(&h);
        lakes[1] = open_lake(&twin);
        for (unsigned i = 0; i < 6; i++) {
            (void)snprintf(body, sizeof(body), "{\"n\":%u}", 4 + 6 * start + i);
            must_put(lakes[i % 2], "app", body);
            must_flush(lakes[i % 3 == 0]);
        }
        must_flush(lakes[1]);
        must_flush(lakes[0]);
        lake_close(lakes[1]);
        lake_close(lakes[0]);
    }
    lakes[0] = open_lake(&h);
    struct catalog_work work = {0};
    assert_int_equal(catalog_fold(lake_catalog(lakes[0]), &work, &err), ERR_OK);
    check_rows(lakes[0], "app", 0, 3 + 12);
    check_files(lakes[0], "app");
    lake_close(lakes[0]);
    home_done(&twin);
    home_done(&h);
}

/* A follower that comes back after a restart finds all that is in files, not only when the next row arrives. */
static void test_tail_horizon_after_restart(void **state)
{
    struct home h;
    struct lake_tail *t;
    (void)state;

    home_new(&h);
    struct lake *lake = open_lake(&h);
    must_put(lake, "app", "[{\"a\":1},{\"a\":2}]");
    assert_int_equal(lake_tail_open(lake, slice_lit("app"), &t, NULL), ERR_OK);
    uint64_t horizon = lake_tail_horizon(t);
    lake_tail_close(t);
    must_flush(lake);
    lake_close(lake);
    lake = open_lake(&h);
    check_rows(lake, "app", 0, 2);
    assert_int_equal(lake_tail_open(lake, slice_lit("app"), &t, NULL), ERR_OK);
    assert_true(lake_tail_horizon(t) >= horizon);
    must_put(lake, "app", "{\"a\":3}");
    assert_true(lake_tail_horizon(t) > horizon);
    lake_tail_close(t);
    lake_close(lake);
    home_done(&h);
}

/* ---- a stream goes out of service while its rows are staged (park.c) */

struct slots_seen {
    char last[512];
};

static bool slot_seen(void *arg, const struct store_list_item *item)
{
    struct slots_seen *s = arg;

    (void)snprintf(s->last, sizeof(s->last), SLICE_FMT, SLICE_ARG(item->key));
    return true;
}

/* The path of the slot that the sequence would go on with. Put garbage there, and the next append finds it; remove it, and all is well. */
static void next_slot(const struct home *h, struct lake *lake, const char *prefix, const char *below, char path[700])
{
    struct slots_seen seen = {""};
    struct store *store = lake_store(lake);
    struct lake_snapshot snap;
    char seq[200];

    slice name = below ? slice_head(slice_str(prefix), strlen(prefix) - 1) : slice_lit("app");
    assert_int_equal(lake_snapshot(lake, name, &snap, NULL), ERR_OK);
    (void)snprintf(seq, sizeof(seq), "%s%s%s", prefix, below ? stream_version_sid(snap.version)->text : "",
                   below ? below : "");
    lake_snapshot_done(&snap);
    assert_int_equal(store->ops->list(store, slice_str(seq), (slice){0}, false, slot_seen, &seen, NULL), ERR_OK);
    size_t len = strlen(seen.last);
    assert_true(len > 20);
    unsigned long long slot = strtoull(seen.last + len - 20, NULL, 10);
    (void)snprintf(path, 700, "%s/%.*s%020llu", h->store, (int)(len - 20), seen.last, slot + 1);
}

static void put_garbage(const char *path)
{
    assert_int_equal(os_write_file(os_real(), path, slice_lit("garbage"), NULL), ERR_OK);
}

static void remove_file(const char *path)
{
    assert_int_equal(unlink(path), 0);
}

/* What the maintenance thread does. */
static void fold_and_unpark(struct lake *lake)
{
    struct catalog_work work = {0};
    struct err err = {0};

    if (catalog_fold(lake_catalog(lake), &work, &err) != ERR_OK)
        fail_msg("fold: %s", err.msg);
    lake_unpark(lake);
}

static bool count_one(void *arg, const char *name, bool is_dir)
{
    (void)name, (void)is_dir;
    ++*(unsigned *)arg;
    return true;
}

static unsigned parked_files(const struct home *h)
{
    _cleanup_(freep) char *dir = mem_fmt("%s/parked", h->wal);
    unsigned n = 0;

    enum err_code rc = os_real()->ops->list(os_real(), dir, count_one, &n, NULL);
    assert_true(rc == ERR_OK || rc == ERR_NOT_FOUND);
    return n;
}

/* The flush that parks them fails at its commit, and the stream comes back before the next: they are there once, at every step. */
static void test_parked_for_a_failed_commit(void **state)
{
    struct home h;
    char head[700], lane[700];
    (void)state;

    home_new(&h);
    struct lake *lake = open_lake(&h);
    must_put(lake, "app", "{\"a\":1}");
    must_flush(lake);
    must_put(lake, "app", "{\"b\":2}");
    next_slot(&h, lake, "app/", "/_head/", head);
    next_slot(&h, lake, ".sluice/lanes/n00001/", NULL, lane);
    put_garbage(head);
    put_garbage(lane);
    assert_int_not_equal(lake_flush(lake, NULL), ERR_OK);
    assert_int_equal(parked_files(&h), 1);
    remove_file(head);
    remove_file(lane);
    fold_and_unpark(lake); /* in service again; nobody knows whether that commit happened */
    check_rows(lake, "app", 1, 1);
    must_put(lake, "app", "{\"c\":3}");
    must_flush(lake);
    fold_and_unpark(lake);
    uint64_t staged, filed;
    rows_of(lake, "app", &staged, &filed);
    assert_int_equal(staged + filed, 3);
    lake_close(lake);
    lake = open_lake(&h); /* killed */
    rows_of(lake, "app", &staged, &filed);
    assert_int_equal(staged + filed, 3);
    must_flush(lake);
    check_rows(lake, "app", 0, 3);
    lake_close(lake);
    lake = open_lake(&h);
    check_rows(lake, "app", 0, 3);
    assert_int_equal(parked_files(&h), 0);
    lake_close(lake);
    home_done(&h);
}

struct answer {
    enum err_code rc;
    struct err err;
    _Atomic bool done;
};

static void answered(void *arg, enum err_code rc, const struct lake_ingested *result, const struct err *err)
{
    struct answer *a = arg;

    (void)result;
    a->rc = rc;
    if (err)
        a->err = *err;
    atomic_store(&a->done, true);
}

/* ack=object means in the store: rows that the flush had to park are not. */
static void test_object_ack_of_parked_rows(void **state)
{
    struct home h;
    char head[700];
    struct answer sick = {0}, well = {0};
    (void)state;

    home_new(&h);
    struct lake *lake = open_lake(&h);
    must_put(lake, "app", "{\"a\":1}");
    must_flush(lake);
    next_slot(&h, lake, "app/", "/_head/", head);
    put_garbage(head);
    struct lake_ingest req = {
        .stream = slice_lit("app"), .create = true, .body = slice_lit("{\"b\":2}"), .ack = ACK_OBJECT};
    assert_int_equal(lake_ingest(lake, &req, answered, &sick, NULL), ERR_OK);
    req.stream = slice_lit("other");
    assert_int_equal(lake_ingest(lake, &req, answered, &well, NULL), ERR_OK);
    must_flush(lake);
    assert_true(atomic_load(&sick.done));
    assert_true(atomic_load(&well.done));
    assert_int_equal(well.rc, ERR_OK);
    assert_int_equal(sick.rc, ERR_UNAVAILABLE);
    assert_non_null(strstr(sick.err.msg, "out of service"));
    remove_file(head);
    fold_and_unpark(lake);
    must_flush(lake);
    check_rows(lake, "app", 0, 2);
    lake_close(lake);
    home_done(&h);
}

static void put_large(struct lake *lake, size_t size)
{
    _cleanup_(buf_done) struct buf body = BUF_INIT;

    buf_str(&body, "{\"b\":\"");
    buf_reserve(&body, size);
    memset(body.ptr + body.len, 'x', size);
    body.len += size;
    buf_str(&body, "\"}");
    must_put(lake, "app", buf_cstr(&body));
}

/* A file has to fit into one WAL record on its way back, however large the requests in it are. */
static void test_large_parked_requests(void **state)
{
    struct home h;
    char head[700];
    (void)state;

    home_new(&h);
    const struct lake_options opt = {.data_dir = h.dir,
                                     .wal_dir = h.wal,
                                     .store = open_store(os_real(), h.store),
                                     .wal = {.segment_bytes = 256u << 20}};
    struct lake *lake = NULL;
    assert_int_equal(lake_open(os_real(), &opt, &lake, NULL), ERR_OK);
    must_put(lake, "app", "{\"a\":1}");
    must_flush(lake);
    next_slot(&h, lake, "app/", "/_head/", head);
    put_garbage(head);
    put_large(lake, 31u << 20);
    put_large(lake, 99u << 20);
    must_flush(lake);
    remove_file(head);
    fold_and_unpark(lake);
    must_flush(lake);
    check_rows(lake, "app", 0, 3);
    lake_close(lake);
    home_done(&h);
}

/* Its path; of the oldest. */
static bool older(const char *a, const char *b)
{
    return !*b || strcmp(strrchr(a, '/') + 27, strrchr(b, '/') + 27) < 0;
}

static void oldest_parked(const struct home *h, char out[700])
{
    _cleanup_(freep) char *dir = mem_fmt("%s/parked", h->wal);
    DIR *d = opendir(dir);
    char path[700];

    out[0] = 0;
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        (void)snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
        if (e->d_name[0] != '.' && older(path, out))
            memcpy(out, path, sizeof(path));
    }
    (void)closedir(d);
}

/* A file that the disk does not give any more holds up none of another stream. */
static void test_unreadable_parked_file(void **state)
{
    static const char *const names[] = {"app", "other"};
    struct home h;
    char heads[2][700], path[700], aside[710];
    (void)state;

    home_new(&h);
    struct lake *lake = open_lake(&h);
    for (int i = 0; i < 2; i++) {
        _cleanup_(freep) char *dir = mem_fmt("%s/", names[i]);
        must_put(lake, names[i], "{\"a\":1}");
        must_flush(lake);
        next_slot(&h, lake, dir, "/_head/", heads[i]);
        put_garbage(heads[i]);
        must_put(lake, names[i], "{\"b\":2}");
        must_flush(lake);
    }
    assert_int_equal(parked_files(&h), 2);
    oldest_parked(&h, path);
    (void)snprintf(aside, sizeof(aside), "%s.aside", path);
    assert_int_equal(rename(path, aside), 0);
    assert_int_equal(symlink(path, path), 0);
    for (int i = 0; i < 2; i++)
        remove_file(heads[i]);
    fold_and_unpark(lake);
    must_flush(lake);
    check_rows(lake, "app", 0, 1);
    check_rows(lake, "other", 0, 2);
    assert_int_equal(rename(aside, path), 0);
    fold_and_unpark(lake);
    must_flush(lake);
    check_rows(lake, "app", 0, 2);
    lake_close(lake);
    home_done(&h);
}

/* What a replay has put into memory is written at the size at which rows that come in are, and does not wait for its age. */
static void test_flush_after_replay(void **state)
{
    struct home h;
    struct lake *lake;
    (void)state;

    home_new(&h);
    const struct lake_options opt = {
        .data_dir = h.dir, .wal_dir = h.wal, .store = open_store(os_real(), h.store), .flush_bytes = 1u << 20};
    lake = open_lake(&h);
    put_large(lake, 2u << 20);
    lake_close(lake);
    assert_int_equal(lake_open(os_real(), &opt, &lake, NULL), ERR_OK);
    check_rows(lake, "app", 1, 0);
    assert_true(lake->flush_asked);
    lake_close(lake);
    home_done(&h);
}

/* Whichever call fails while rows go back, and killed at once: they are there once. */
static void test_failed_return_of_parked_rows(void **state)
{
    static const enum fault_kind kinds[] = {FAULT_IO, FAULT_SYNC};
    (void)state;

    for (unsigned k = 0; k < ARRAY_LEN(kinds); k++) {
        bool fired = true;
        for (unsigned nth = 0; fired; nth++) {
            _cleanup_(os_fault_freep) struct os *os = os_fault_new(os_real());
            struct home h;
            struct lake *lake = NULL;
            char head[700];
            uint64_t staged, filed;
            home_new(&h);
            const struct lake_options opt = {.data_dir = h.dir, .wal_dir = h.wal, .store = open_store(os, h.store)};
            assert_int_equal(lake_open(os, &opt, &lake, NULL), ERR_OK);
            must_put(lake, "app", "{\"a\":1}");
            must_flush(lake);
            next_slot(&h, lake, "app/", "/_head/", head);
            put_garbage(head);
            must_put(lake, "app", "{\"b\":2}");
            must_flush(lake);
            remove_file(head);
            struct catalog_work work = {0};
            assert_int_equal(catalog_fold(lake_catalog(lake), &work, NULL), ERR_OK);
            os_fault_arm(os, kinds[k], nth, FAULT_ONCE);
            lake_unpark(lake);
            fired = os_fault_disarm(os);
            if (nth % 2) {
                (void)usleep(20000); /* the WAL may look whether its disk works again */
                lake_unpark(lake);
                enum err_code rc = lake_flush(lake, NULL); /* may fail */
                (void)rc;
            }
            lake_close(lake);
            lake = open_lake(&h);
            fold_and_unpark(lake);
            rows_of(lake, "app", &staged, &filed);
            if (staged + filed != 2)
                fail_msg("call %u fails: staged %llu, filed %llu", nth, (unsigned long long)staged,
                         (unsigned long long)filed);
            must_flush(lake);
            lake_close(lake);
            lake = open_lake(&h);
            check_rows(lake, "app", 0, 2);
            assert_int_equal(parked_files(&h), 0);
            lake_close(lake);
            home_done(&h);
        }
    }
}

/* ---- two nodes, each with a disk of its own, and one store */

/* The columns of the newest row that is staged: "name=value ..." in the order of the schema. */
static void staged_row(struct lake *lake, const char *stream, size_t back, struct buf *out)
{
    struct lake_snapshot snap;

    out->len = 0;
    assert_int_equal(lake_snapshot(lake, slice_str(stream), &snap, NULL), ERR_OK);
    for (size_t p = 0; p < snap.parts_count; p++)
        for (uint32_t row = snap.parts[p].rows; row-- > 0;) {
            if (back-- != 0)
                continue;
            for (uint32_t i = 1; i < schema_count(snap.schema); i++) {
                const struct field *f = schema_field(snap.schema, i);
                const struct column *c = batch_view_column(&snap.parts[p], i);
                if (!c || !c->valid[row])
                    continue;
                assert_true(type_eq(c->type, f->type));
                buf_fmt(out, SLICE_FMT "=", SLICE_ARG(f->name));
                if (f->type.kind == TYPE_UTF8)
                    buf_slice(out, text_slice((const struct text *)c->values + row));
                else if (f->type.kind == TYPE_FLOAT64)
                    buf_fmt(out, "%g", ((const double *)c->values)[row]);
                else
                    buf_fmt(out, "%lld", (long long)((const int64_t *)c->values)[row]);
                buf_byte(out, ' ');
            }
        }
    lake_snapshot_done(&snap);
}

static void check_staged(struct lake *lake, const char *stream, size_t back, const char *want)
{
    struct buf got = BUF_INIT;

    staged_row(lake, stream, back, &got);
    if (strcmp(buf_cstr(&got), want) != 0)
        fail_msg("row %zu from the end: %s, not %s", back, buf_cstr(&got), want);
    buf_done(&got);
}

/* Both give one new name a type; the second to flush finds the first's, and its rows are what a restart would make of them. */
static void test_two_types_of_one_column(void **state)
{
    struct home h, other;
    char lane[700];
    struct catalog_work work = {0};
    uint64_t staged, filed;
    (void)state;

    home_new(&h);
    home_new(&other);
    struct lake *a = open_lake(&h);
    must_put(a, "app", "{\"n\":0}");
    must_flush(a);
    struct home b_home = other;
    (void)snprintf(b_home.store, sizeof(b_home.store), "%s", h.store);
    struct lake *b = open_lake(&b_home);
    must_put(b, "app", "[{\"x\":1,\"when_created\":\"2026-01-01T00:00:00+01:00\"},{\"x\":1.5,\"own\":\"k\"}]");
    must_put(b, "well", "{\"x\":1}");
    must_put(a, "app", "{\"x\":\"text\",\"when_created\":\"yesterday\"}");
    must_flush(a);
    next_slot(&b_home, b, ".sluice/lanes/n00002/", NULL, lane);
    put_garbage(lane);
    assert_int_not_equal(lake_flush(b, NULL), ERR_OK); /* so that we see them staged */
    check_staged(b, "app", 0, "own=k x_float64=1.5 ");
    check_staged(b, "app", 1, "when_created=2026-01-01T00:00:00+01:00 x_int64=1 ");
    remove_file(lane);
    must_put(b, "app", "{\"x\":\"fits\"}");
    check_staged(b, "app", 0, "x=fits ");
    must_put(b, "app", "{\"x\":2}");
    check_staged(b, "app", 0, "x_int64=2 ");
    must_flush(b);
    check_rows(b, "well", 0, 1);
    must_put(b, "app", "{\"x\":3}");
    lake_close(b);
    b = open_lake(&b_home);
    must_flush(b);
    assert_int_equal(catalog_fold(lake_catalog(b), &work, NULL), ERR_OK);
    rows_of(b, "app", &staged, &filed);
    assert_int_equal(staged, 0);
    assert_int_equal(filed, 7);
    lake_close(b);
    lake_close(a);
    home_done(&other);
    home_done(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stage_then_files),
        cmocka_unit_test(test_refused_leaves_nothing),
        cmocka_unit_test(test_drop_and_recreate),
        cmocka_unit_test(test_custom_partition_and_object_ack),
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_wait_for_room),
        cmocka_unit_test(test_crowd_keeps_the_mark),
        cmocka_unit_test(test_tail_horizon),
        cmocka_unit_test(test_tail_horizon_after_restart),
        cmocka_unit_test(test_partition_set_after_acceptance),
        cmocka_unit_test(test_partition_values),
        cmocka_unit_test(test_configure_together),
        cmocka_unit_test(test_create_together),
        cmocka_unit_test(test_drop_of_a_stream_made_again),
        cmocka_unit_test(test_heir_gets_rows_once),
        cmocka_unit_test(test_heir_of_an_heir),
        cmocka_unit_test(test_ids_survive_growth),
        cmocka_unit_test(test_failed_flush_leaves_no_files),
        cmocka_unit_test(test_starts_on_a_full_disk),
        cmocka_unit_test(test_failed_commit_keeps_rows_and_files),
        cmocka_unit_test(test_cloned_disk),
        cmocka_unit_test(test_parked_for_a_failed_commit),
        cmocka_unit_test(test_object_ack_of_parked_rows),
        cmocka_unit_test(test_large_parked_requests),
        cmocka_unit_test(test_unreadable_parked_file),
        cmocka_unit_test(test_flush_after_replay),
        cmocka_unit_test(test_failed_return_of_parked_rows),
        cmocka_unit_test(test_two_types_of_one_column),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
