/* wal_test.c: what was acknowledged is replayed, once, in order; what was not may be cut; damage inside is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "wal/wal_int.h"

struct home {
    char dir[64];
};

static void home_new(struct home *h)
{
    (void)snprintf(h->dir, sizeof(h->dir), "/tmp/sluice-wal-XXXXXX");
    assert_non_null(mkdtemp(h->dir));
}

static void home_done(struct home *h)
{
    _cleanup_(freep) char *cmd = mem_fmt("rm -rf %s", h->dir);
    assert_int_equal(system(cmd), 0);
}

struct seen {
    struct buf text; /* bodies, each with a newline */
    unsigned count;
    uint64_t last_segment;
};

static enum err_code see(void *arg, struct wal_pos pos, slice body, struct err *err)
{
    struct seen *s = arg;
    (void)err;
    assert_true(pos.segment >= s->last_segment);
    s->last_segment = pos.segment;
    if (body.len < 100)
        buf_slice(&s->text, body);
    buf_byte(&s->text, '\n');
    s->count++;
    return ERR_OK;
}

static enum err_code try_start(const struct home *h, uint64_t committed, struct seen *seen, uint64_t *cut,
                               struct wal **out, struct err *err)
{
    const struct wal_options opt = {.segment_bytes = 4096, .disk_free_bytes_min = 1};
    _cleanup_(wal_closep) struct wal *w = NULL;

    TRY(wal_open(os_real(), h->dir, &opt, &w, err));
    TRY(wal_start(w, committed, see, seen, cut, err));
    *out = move_ptr(w);
    return ERR_OK;
}

static struct wal *start(const struct home *h, uint64_t committed, struct seen *seen, uint64_t *cut)
{
    struct wal *w = NULL;
    struct err err = {0};

    *seen = (struct seen){0};
    if (try_start(h, committed, seen, cut, &w, &err) != ERR_OK)
        fail_msg("start: %s", err.msg);
    return w;
}

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;

static void done(void *arg, enum err_code rc, const struct err *err)
{
    (void)err;
    pthread_mutex_lock(&mu);
    *(int *)arg = rc == ERR_OK ? 1 : -1;
    pthread_cond_broadcast(&cond);
    pthread_mutex_unlock(&mu);
}

static struct wal_pos put(struct wal *w, const char *text, enum wal_ack ack)
{
    const struct os_iov iov[2] = {{text, strlen(text) / 2}, {text + strlen(text) / 2, strlen(text) - strlen(text) / 2}};
    struct wal_pos pos;
    struct err err = {0};
    int state = 0;

    if (wal_append(w, iov, 2, ack, done, &state, &pos, &err) != ERR_OK)
        fail_msg("append: %s", err.msg);
    pthread_mutex_lock(&mu);
    while (!state)
        pthread_cond_wait(&cond, &mu);
    pthread_mutex_unlock(&mu);
    assert_int_equal(state, 1);
    return pos;
}

static void expect(struct seen *s, const char *text)
{
    assert_string_equal(buf_cstr(&s->text), text);
    buf_done(&s->text);
}

static void test_replay_seal_release(void **state)
{
    struct home h;
    struct seen seen;
    uint64_t cut = 0;
    (void)state;

    home_new(&h);
    struct wal *w = start(&h, 0, &seen, &cut);
    assert_int_equal(wal_seal(w), 0);
    assert_int_equal(put(w, "one", WAL_SYNC).segment, 1);
    (void)put(w, "two", WAL_WRITE);
    assert_int_equal(wal_seal(w), 1);
    assert_int_equal(put(w, "three", WAL_SYNC).segment, 2);
    wal_close(w);
    w = start(&h, 0, &seen, &cut);
    expect(&seen, "one\ntwo\nthree\n");
    assert_int_equal(cut, 0);
    assert_int_equal(put(w, "four", WAL_SYNC).segment, 3); /* I4 */
    wal_release(w, 1);
    wal_close(w);
    w = start(&h, 1, &seen, &cut);
    expect(&seen, "three\nfour\n");
    wal_close(w);
    w = start(&h, 3, &seen, &cut); /* I5 */
    expect(&seen, "");
    assert_int_equal(put(w, "five", WAL_SYNC).segment, 4);
    wal_close(w);
    w = start(&h, 3, &seen, &cut);
    expect(&seen, "five\n");
    wal_close(w);
    home_done(&h);
}

static void test_second_process(void **state)
{
    const struct wal_options opt = {0};
    struct home h;
    struct seen seen;
    uint64_t cut;
    struct wal *second;
    (void)state;

    home_new(&h);
    struct wal *w = start(&h, 0, &seen, &cut);
    assert_int_equal(wal_open(os_real(), h.dir, &opt, &second, NULL), ERR_CONFLICT);
    wal_close(w);
    home_done(&h);
}

static void test_recycled_and_large(void **state)
{
    _cleanup_(freep) char *big = mem_alloc(20001);
    struct home h;
    struct seen seen;
    uint64_t cut;
    (void)state;

    memset(big, 'x', 20000);
    big[20000] = 0;
    home_new(&h);
    struct wal *w = start(&h, 0, &seen, &cut);
    for (unsigned i = 0; i < 500; i++) { /* ~60 records fill a segment of 4 KiB: files are reused many times */
        struct wal_pos pos = put(w, "some text of a record that is not short", WAL_SYNC);
        if (pos.segment > 2)
            wal_release(w, pos.segment - 2);
    }
    uint64_t segment = put(w, big, WAL_SYNC).segment;
    assert_true(put(w, "after", WAL_SYNC).segment > segment);
    wal_close(w);
    w = start(&h, segment - 1, &seen, &cut);
    assert_int_equal(seen.count, 2);
    expect(&seen, "\nafter\n");
    wal_close(w);
    home_done(&h);
}

static char *segment_file(const struct home *h, unsigned number)
{
    return mem_fmt("%s/%020u.wal", h->dir, number);
}

static void change_file(const char *path, uint64_t from, int64_t to, int xor)
{
    struct os *os = os_real();
    struct os_file *f;
    uint8_t c;
    size_t got;

    assert_int_equal(os->ops->open(os, path, OS_READ | OS_WRITE, &f, NULL), ERR_OK);
    for (uint64_t at = from; (int64_t)at < to; at++) {
        assert_int_equal(os->ops->pread(os, f, &c, 1, at, &got, NULL), ERR_OK);
        c = xor? (uint8_t)(c ^ xor) : 0;
        const struct os_iov iov = {&c, 1};
        assert_int_equal(os->ops->pwritev(os, f, &iov, 1, at, NULL), ERR_OK);
    }
    os->ops->close(os, f);
}

/* A torn last write, cut at every byte: the records before it stay. */
static void test_torn_tail(void **state)
{
    static const char *const want[] = {"", "aaaa\n", "aaaa\nbbbbbbbb\n", "aaaa\nbbbbbbbb\ncc\n"};
    const uint64_t ends[] = {WAL_SEGMENT_HEAD, WAL_SEGMENT_HEAD + 36, WAL_SEGMENT_HEAD + 40 + 40,
                             WAL_SEGMENT_HEAD + 80 + 34};
    (void)state;

    for (uint64_t keep = WAL_SEGMENT_HEAD; keep <= ends[3]; keep++) {
        struct home h;
        struct seen seen;
        uint64_t cut, n = 0;
        home_new(&h);
        struct wal *w = start(&h, 0, &seen, &cut);
        (void)put(w, "aaaa", WAL_SYNC);
        (void)put(w, "bbbbbbbb", WAL_SYNC);
        (void)put(w, "cc", WAL_SYNC);
        wal_close(w);
        _cleanup_(freep) char *path = segment_file(&h, 1);
        change_file(path, keep, (int64_t)ends[3], 0);
        w = start(&h, 0, &seen, &cut);
        while (n < 3 && ends[n + 1] <= keep)
            n++;
        expect(&seen, want[n]);
        (void)put(w, "dd", WAL_SYNC);
        wal_close(w);
        w = start(&h, 0, &seen, &cut);
        _cleanup_(freep) char *all = mem_fmt("%sdd\n", want[n]);
        expect(&seen, all);
        wal_close(w);
        home_done(&h);
    }
}

/* A flipped byte where a later segment vouches for this one is a hole: the start says so. */
static void test_hole(void **state)
{
    (void)state;
    for (uint64_t at = 0; at < WAL_SEGMENT_HEAD + 40; at++) {
        struct home h;
        struct seen seen;
        struct wal *w;
        struct err err = {0};
        uint64_t cut;
        if (at >= WAL_SEGMENT_HEAD + 36)
            continue; /* padding */
        home_new(&h);
        w = start(&h, 0, &seen, &cut);
        (void)put(w, "aaaa", WAL_SYNC);
        (void)wal_seal(w);
        (void)put(w, "bbbb", WAL_SYNC);
        wal_close(w);
        _cleanup_(freep) char *path = segment_file(&h, 1);
        change_file(path, at, (int64_t)at + 1, 0x40);
        seen = (struct seen){0};
        enum err_code rc = try_start(&h, 0, &seen, &cut, &w, &err);
        if (rc != ERR_CORRUPT)
            fail_msg("byte %llu: %s", (unsigned long long)at, err_name(rc));
        buf_done(&seen.text);
        home_done(&h);
    }
}

static void test_header(void **state)
{
    struct home h;
    struct seen seen;
    uint64_t cut;
    struct wal_header head;
    (void)state;

    home_new(&h);
    struct wal *w = start(&h, 0, &seen, &cut);
    head = *wal_header(w);
    assert_int_equal(strlen(head.wal_id), 32);
    (void)snprintf(head.lane, sizeof(head.lane), "n00007");
    assert_int_equal(wal_set_header(w, &head, NULL), ERR_OK);
    wal_close(w);
    w = start(&h, 0, &seen, &cut);
    assert_string_equal(wal_header(w)->lane, "n00007");
    assert_string_equal(wal_header(w)->wal_id, head.wal_id);
    assert_string_equal(wal_header(w)->commit_id, "");
    (void)snprintf(head.commit_id, sizeof(head.commit_id), "0123456789abcdef0123456789abcdef");
    head.base = UINT64_MAX;
    (void)snprintf(head.cluster, sizeof(head.cluster), "01kjvktcgre5t2x7w4c6h0ryaq");
    assert_int_equal(wal_set_header(w, &head, NULL), ERR_OK);
    wal_close(w);
    w = start(&h, 0, &seen, &cut);
    assert_string_equal(wal_header(w)->commit_id, head.commit_id);
    assert_true(wal_header(w)->base == head.base);
    assert_string_equal(wal_header(w)->cluster, head.cluster);
    wal_close(w);
    _cleanup_(freep) char *path = mem_fmt("%s/header", h.dir);
    change_file(path, 20, 21, 1);
    const struct wal_options opt = {0};
    assert_int_equal(wal_open(os_real(), h.dir, &opt, &w, NULL), ERR_CORRUPT);
    home_done(&h);
}

struct appender {
    struct wal *w;
    pthread_t id;
};

static void *append_many(void *arg)
{
    struct appender *a = arg;
    for (unsigned i = 0; i < 300; i++)
        (void)put(a->w, "a record from one of many", i % 3 ? WAL_SYNC : WAL_WRITE);
    return NULL;
}

static void test_many_threads(void **state)
{
    struct home h;
    struct seen seen;
    struct appender a[8];
    struct wal_stat stat;
    uint64_t cut;
    (void)state;

    home_new(&h);
    struct wal *w = start(&h, 0, &seen, &cut);
    for (size_t i = 0; i < ARRAY_LEN(a); i++) {
        a[i].w = w;
        assert_int_equal(pthread_create(&a[i].id, NULL, append_many, &a[i]), 0);
    }
    for (unsigned i = 0; i < 20; i++) {
        (void)wal_seal(w);
        (void)usleep(1000);
    }
    for (size_t i = 0; i < ARRAY_LEN(a); i++)
        assert_int_equal(pthread_join(a[i].id, NULL), 0);
    wal_stat(w, &stat);
    assert_int_equal(stat.records, 2400);
    assert_int_equal(stat.queued_bytes, 0);
    wal_close(w);
    w = start(&h, 0, &seen, &cut);
    assert_int_equal(seen.count, 2400);
    buf_done(&seen.text);
    wal_close(w);
    home_done(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replay_seal_release),
        cmocka_unit_test(test_second_process),
        cmocka_unit_test(test_recycled_and_large),
        cmocka_unit_test(test_torn_tail),
        cmocka_unit_test(test_hole),
        cmocka_unit_test(test_header),

        cmocka_unit_test(test_many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
