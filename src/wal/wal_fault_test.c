/* wal_fault_test.c: the log while its disk fails: every nth call, syncs, a full disk; limits; who is answered before whom; and a process
 * that is killed. The rule in all of them: what was acknowledged with WAL_SYNC is replayed once, what was refused never is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/fault.h"
#include "wal/wal_int.h"

#define IDS 4096

static char dir[64];

static bool remove_one(void *arg, const char *name, bool is_dir)
{
    _cleanup_(freep) char *path = mem_fmt("%s/%s", (const char *)arg, name);
    assert_false(is_dir);
    assert_int_equal(os_real()->ops->unlink(os_real(), path, NULL), ERR_OK);
    return true;
}

static int enter(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof(dir), "/tmp/sluice-walf-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static void empty_dir(void)
{
    assert_int_equal(os_real()->ops->list(os_real(), dir, remove_one, dir, NULL), ERR_OK);
}

static int leave(void **state)
{
    (void)state;
    empty_dir();
    return os_real()->ops->rmdir(os_real(), dir, NULL) == ERR_OK ? 0 : -1;
}

/* ---- records with an id, and what became of them */

enum fate { NEVER, OPEN, ACKED, FAILED, IN_DOUBT };
struct record {
    uint64_t id;
    char text[120];
    enum wal_ack ack;
    unsigned order; /* of the answer, from 1 */
    enum fate fate; /* under mu */
    bool hold;      /* its callback waits until `held` is false */
};
static struct record records[IDS];
static unsigned replayed[IDS];
static unsigned answers;
static bool held;
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;

static void done(void *arg, enum err_code rc, const struct err *err)
{
    struct record *r = arg;
    (void)err;

    pthread_mutex_lock(&mu);
    if (r->fate != OPEN)
        abort(); /* answered twice */
    r->order = ++answers;
    r->fate = rc == ERR_OK ? ACKED : rc == ERR_UNKNOWN ? IN_DOUBT : FAILED;
    pthread_cond_broadcast(&cond);
    while (r->hold && held)
        pthread_cond_wait(&cond, &mu);
    pthread_mutex_unlock(&mu);
}

static enum err_code send_record(struct wal *w, uint64_t id, enum wal_ack ack, struct wal_pos *pos)
{
    struct record *r = &records[id];
    struct err err = {0};

    r->id = id;
    r->ack = ack;
    r->fate = OPEN;
    r->hold = false;
    memset(r->text, 'a' + (int)(id % 26), sizeof(r->text));
    const struct os_iov iov[3] = {{&r->id, 8}, {NULL, 0}, {r->text, 1 + id % sizeof(r->text)}};
    enum err_code rc = wal_append(w, iov, 3, ack, done, r, pos, &err);
    if (rc != ERR_OK) {
        assert_int_equal(rc, ERR_UNAVAILABLE);
        assert_true(err.msg[0] != 0);
        assert_int_equal(r->fate, OPEN); /* not called */
        r->fate = FAILED;
    }
    return rc;
}

static enum fate answer(uint64_t id)
{
    pthread_mutex_lock(&mu);
    while (records[id].fate == OPEN)
        pthread_cond_wait(&cond, &mu);
    enum fate fate = records[id].fate;
    pthread_mutex_unlock(&mu);
    return fate;
}

static enum fate put(struct wal *w, uint64_t id, enum wal_ack ack)
{
    return send_record(w, id, ack, NULL) == ERR_OK ? answer(id) : FAILED;
}

static void forget(void)
{
    memset(records, 0, sizeof(records));
    memset(replayed, 0, sizeof(replayed));
    answers = 0;
}

static struct wal_pos replay_last;

static enum err_code see(void *arg, struct wal_pos pos, slice body, struct err *err)
{
    (void)arg;
    (void)err;
    assert_true(body.len > 8);
    uint64_t id = le64_get(body.ptr);
    assert_true(id < IDS);
    assert_int_equal(body.len, 9 + id % sizeof(records[0].text));
    assert_true(pos.segment > replay_last.segment ||
                (pos.segment == replay_last.segment && pos.offset > replay_last.offset));
    replay_last = pos;
    for (size_t i = 8; i < body.len; i++)
        assert_int_equal(body.ptr[i], 'a' + (int)(id % 26));
    replayed[id]++;
    return ERR_OK;
}

static const struct wal_options small = {.segment_bytes = 4096, .disk_free_bytes_min = 1};

static enum err_code start(struct os *os, const struct wal_options *opt, struct wal **out, struct err *err)
{
    _cleanup_(wal_closep) struct wal *w = NULL;
    uint64_t cut;

    memset(replayed, 0, sizeof(replayed));
    replay_last = (struct wal_pos){0};
    TRY(wal_open(os, dir, opt, &w, err));
    TRY(wal_start(w, 0, see, NULL, &cut, err));
    *out = move_ptr(w);
    return ERR_OK;
}

static struct wal *must_start(struct os *os, const struct wal_options *opt)
{
    struct wal *w = NULL;
    struct err err = {0};
    if (start(os, opt, &w, &err) != ERR_OK)
        fail_msg("start: %s", err.msg);
    return w;
}

static void check_replay(bool relaxed_too)
{
    wal_close(must_start(os_real(), &small));
    for (uint64_t id = 0; id < IDS; id++) {
        const struct record *r = &records[id];
        bool must = r->fate == ACKED && (r->ack == WAL_SYNC || relaxed_too);
        bool may = must || r->fate == ACKED || r->fate == IN_DOUBT;
        if (replayed[id] > may || replayed[id] < must)
            fail_msg("record %llu, fate %d, replayed %u times", (unsigned long long)id, r->fate, replayed[id]);
    }
}

/* ---- every nth call */

static void work(struct os *faulty)
{
    struct wal *w = NULL;
    struct err err = {0};

    if (start(faulty, &small, &w, &err) != ERR_OK)
        return;
    for (uint64_t id = 1; id <= 4; id++)
        (void)put(w, id, id % 2 ? WAL_SYNC : WAL_WRITE);
    (void)wal_seal(w);
    for (uint64_t id = 5; id <= 7; id++)
        (void)send_record(w, id, id % 2 ? WAL_SYNC : WAL_WRITE, NULL);
    (void)put(w, 8, WAL_SYNC);
    wal_close(w);
}

static void test_every_call(void **state)
{
    _cleanup_(os_fault_freep) struct os *faulty = os_fault_new(os_real());
    (void)state;

    for (int kind = FAULT_IO; kind <= FAULT_SYNC; kind++)
        for (int mode = FAULT_ONCE; mode <= FAULT_FROM_THEN_ON; mode++)
            for (unsigned nth = 0;; nth++) {
                forget();
                empty_dir();
                os_fault_arm(faulty, (enum fault_kind)kind, nth, (enum fault_mode)mode);
                work(faulty);
                bool fired = os_fault_disarm(faulty);
                check_replay(!fired);
                if (!fired) {
                    for (uint64_t id = 1; id <= 8; id++)
                        assert_int_equal(records[id].fate, ACKED);
                    break;
                }
            }
}

/* The same while a log with several segments is opened: a start that fails changes nothing for the next. */
static void test_every_call_of_a_start(void **state)
{
    _cleanup_(os_fault_freep) struct os *faulty = os_fault_new(os_real());
    (void)state;

    forget();
    struct wal *w = must_start(os_real(), &small);
    for (uint64_t id = 1; id <= 60; id++)
        assert_int_equal(put(w, id, id % 3 ? WAL_WRITE : WAL_SYNC), ACKED);
    wal_close(w);
    for (int kind = FAULT_IO; kind <= FAULT_SYNC; kind++)
        for (unsigned nth = 0;; nth++) {
            os_fault_arm(faulty, (enum fault_kind)kind, nth, FAULT_ONCE);
            if (start(faulty, &small, &w, NULL) == ERR_OK)
                wal_close(w);
            bool fired = os_fault_disarm(faulty);
            check_replay(true);
            if (!fired)
                break;
        }
}

/* ---- poison and full disks heal by themselves */

static void put_until_taken(struct wal *w, uint64_t *id)
{
    for (unsigned i = 0; i < 1000; i++) {
        if (put(w, (*id)++, WAL_SYNC) == ACKED)
            return;
        (void)usleep(10000);
    }
    fail_msg("the log did not recover");
}

static void test_heals(void **state)
{
    _cleanup_(os_fault_freep) struct os *faulty = os_fault_new(os_real());
    static const enum fault_kind kinds[] = {FAULT_IO, FAULT_NO_SPACE, FAULT_SYNC, FAULT_SHORT};
    struct wal_stat stat;
    uint64_t id = 1;
    (void)state;

    forget();
    struct wal *w = must_start(faulty, &small);
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        assert_int_equal(put(w, id++, WAL_SYNC), ACKED);
        (void)wal_seal(w); /* so that the next one needs a file, whatever fails */
        os_fault_arm(faulty, kinds[i], 0, FAULT_FROM_THEN_ON);
        assert_int_not_equal(put(w, id++, WAL_SYNC), ACKED);
        wal_stat(w, &stat);
        assert_true(stat.poisoned);
        assert_int_equal(send_record(w, id++, WAL_WRITE, NULL), ERR_UNAVAILABLE);
        assert_true(os_fault_disarm(faulty));
        put_until_taken(w, &id);
        wal_stat(w, &stat);
        assert_false(stat.poisoned);
        assert_int_equal(stat.queued_bytes, 0);
    }
    wal_close(w);
    check_replay(false);
}

/* ---- limits */

/* Leaves the writer inside the callback of record 0 until let_go(). */
static void hold(struct wal *w)
{
    pthread_mutex_lock(&mu);
    held = true;
    pthread_mutex_unlock(&mu);
    struct record *r = &records[0];
    *r = (struct record){.hold = true, .fate = OPEN};
    memset(r->text, 'a', sizeof(r->text));
    const struct os_iov iov[2] = {{&r->id, 8}, {r->text, 1}};
    assert_int_equal(wal_append(w, iov, 2, WAL_SYNC, done, r, NULL, NULL), ERR_OK);
    assert_int_equal(answer(0), ACKED);
}

static void let_go(void)
{
    pthread_mutex_lock(&mu);
    held = false;
    pthread_cond_broadcast(&cond);
    pthread_mutex_unlock(&mu);
}

static void test_queue_limit(void **state)
{
    const struct wal_options opt = {.segment_bytes = 4096, .queue_bytes_max = 1000, .disk_free_bytes_min = 1};
    struct wal_stat stat;
    uint64_t id = 1;
    (void)state;

    forget();
    struct wal *w = must_start(os_real(), &opt);
    hold(w);
    while (id < 100 && send_record(w, id, WAL_SYNC, NULL) == ERR_OK)
        id++;
    assert_in_range(id, 5, 30);
    wal_stat(w, &stat);
    assert_true(stat.queued_bytes <= 1000);
    let_go();
    for (uint64_t i = 1; i < id; i++)
        assert_int_equal(answer(i), ACKED);
    while (put(w, id + 1, WAL_SYNC) != ACKED) /* the last answer comes just before its bytes are let go */
        ;
    wal_close(w);
    check_replay(true);
}

static void test_disk_marks(void **state)
{
    struct wal_options opt = {.segment_bytes = 4096, .disk_bytes_max = 20000, .disk_free_bytes_min = 1};
    struct wal_stat stat;
    uint64_t id = 1;
    (void)state;

    forget();
    struct wal *w = must_start(os_real(), &opt);
    while (id < 1000 && put(w, id, WAL_SYNC) == ACKED)
        id++;
    assert_in_range(id, 100, 300);
    wal_release(w, wal_seal(w));
    assert_int_equal(put(w, ++id, WAL_SYNC), ACKED);
    wal_stat(w, &stat);
    assert_int_equal(stat.live_segments, 1);
    assert_true(stat.live_bytes < 300);
    wal_close(w);
    empty_dir(); /* a start would have to know what was committed */
    opt = (struct wal_options){.segment_bytes = 4096, .disk_free_bytes_min = UINT64_MAX / 2};
    w = must_start(os_real(), &opt);
    for (unsigned i = 0; put(w, 1000 + i, WAL_SYNC) == ACKED; i++)
        assert_true(i < 1000 && usleep(1000) == 0);
    wal_stat(w, &stat);
    assert_true(stat.disk_low);
    wal_close(w);
}

static void test_large(void **state)
{
    const struct wal_options opt = {.disk_free_bytes_min = 1, .segment_bytes = 1u << 20};
    static struct os_iov pieces[2000];
    const struct os_iov over[2] = {{"x", WAL_BODY_BYTES_MAX}, {"y", 1}};
    struct record *r = &records[1];
    struct wal_pos pos;
    (void)state;

    forget();
    struct wal *w = must_start(os_real(), &opt);
    assert_int_equal(wal_append(w, over, 2, WAL_SYNC, done, r, &pos, NULL), ERR_LIMIT);
    const size_t len = 5u << 20;
    _cleanup_(freep) char *body = mem_zalloc(len);
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) /* more pieces than one write takes */
        pieces[i] = (struct os_iov){body + i, i % 2};
    r->fate = OPEN;
    assert_int_equal(wal_append(w, pieces, ARRAY_LEN(pieces), WAL_SYNC, done, r, &pos, NULL), ERR_OK);
    assert_int_equal(answer(1), ACKED);
    const struct os_iov whole = {body, len};
    r->fate = OPEN;
    assert_int_equal(wal_append(w, &whole, 1, WAL_SYNC, done, r, &pos, NULL), ERR_OK);
    assert_int_equal(pos.segment, 2);
    assert_int_equal(pos.offset, WAL_SEGMENT_HEAD);
    assert_int_equal(answer(1), ACKED);
    wal_close(w);
}

/* ---- order: a relaxed record does not wait for the sync of the one before it */

static void test_relaxed_first(void **state)
{
    _cleanup_(os_fault_freep) struct os *faulty = os_fault_new(os_real());
    (void)state;

    forget();
    struct wal *w = must_start(faulty, &small);
    hold(w);
    assert_int_equal(send_record(w, 1, WAL_SYNC, NULL), ERR_OK);
    assert_int_equal(send_record(w, 2, WAL_WRITE, NULL), ERR_OK);
    assert_int_equal(send_record(w, 3, WAL_SYNC, NULL), ERR_OK);
    let_go();
    assert_int_equal(answer(3), ACKED);
    assert_int_equal(answer(1), ACKED);
    assert_true(records[2].order < records[1].order && records[1].order < records[3].order);
    hold(w);
    assert_int_equal(send_record(w, 4, WAL_SYNC, NULL), ERR_OK);
    assert_int_equal(send_record(w, 5, WAL_WRITE, NULL), ERR_OK);
    os_fault_arm(faulty, FAULT_SYNC, 0, FAULT_ONCE);
    let_go();
    assert_int_equal(answer(4), IN_DOUBT);
    assert_int_equal(answer(5), ACKED);
    assert_true(os_fault_disarm(faulty));
    wal_close(w);
    records[0].fate = NEVER; /* twice in this log */
    wal_close(must_start(os_real(), &small));
    assert_int_equal(replayed[1] + replayed[2] + replayed[3], 3);
}

/* ---- damage in the last segment: covered by a sync, or of the last batch */

static void flip(uint64_t segment, uint64_t offset)
{
    _cleanup_(freep) char *path = mem_fmt("%s/%020llu.wal", dir, (unsigned long long)segment);
    struct os *os = os_real();
    struct os_file *f;
    uint8_t c;
    size_t got;

    assert_int_equal(os->ops->open(os, path, OS_READ | OS_WRITE, &f, NULL), ERR_OK);
    assert_int_equal(os->ops->pread(os, f, &c, 1, offset, &got, NULL), ERR_OK);
    c ^= 0x10;
    const struct os_iov iov = {&c, 1};
    assert_int_equal(os->ops->pwritev(os, f, &iov, 1, offset, NULL), ERR_OK);
    os->ops->close(os, f);
}

/* Record 0, then 1 to 3 in one batch; a byte flipped at each offset of the file. */
static void test_damage_in_last(void **state)
{
    const uint64_t first = WAL_SEGMENT_HEAD + wal_record_size(9);
    struct wal_pos pos[4];
    (void)state;

    forget();
    struct wal *w = must_start(os_real(), &small);
    hold(w);
    for (uint64_t id = 1; id <= 3; id++)
        assert_int_equal(send_record(w, id, WAL_SYNC, &pos[id]), ERR_OK);
    let_go();
    assert_int_equal(answer(3), ACKED);
    wal_close(w);
    assert_int_equal(pos[1].offset, first);
    for (uint64_t at = 0; at < pos[3].offset + WAL_RECORD_HEAD; at++) {
        bool padding = (at >= first - 7 && at < first) || (at >= pos[2].offset - 6 && at < pos[2].offset) ||
                       (at >= pos[3].offset - 5 && at < pos[3].offset);
        uint64_t number = 1, end, cut;
        _cleanup_(freep) char *path = mem_fmt("%s/%020llu.wal", dir, (unsigned long long)number);
        _cleanup_(freep) uint8_t *bytes = NULL;
        size_t len;
        flip(1, at);
        replay_last = (struct wal_pos){0};
        if (at < WAL_SEGMENT_HEAD) { /* the header alone: through a whole start, which must change nothing */
            struct err err = {0};
            w = NULL;
            enum err_code rc = start(os_real(), &small, &w, &err);
            wal_close(w);
            assert_int_equal(rc, ERR_CORRUPT);
        } else {
            assert_int_equal(os_read_file(os_real(), path, 1u << 20, &bytes, &len, NULL), ERR_OK);
            enum err_code rc = wal_segment_replay(slice_of(bytes, len), 1, 0, see, NULL, &end, &cut, NULL);
            uint64_t hit = at < first           ? WAL_SEGMENT_HEAD
                           : at < pos[2].offset ? first
                           : at < pos[3].offset ? pos[2].offset
                                                : pos[3].offset;
            assert_int_equal(rc, hit < first && !padding ? ERR_CORRUPT : ERR_OK);
            assert_true(padding || end == hit);
        }
        flip(1, at);
    }
    check_replay(true);
}

/* One record is enough to tell a damaged header from a segment that was only begun. */
static void test_damaged_header(void **state)
{
    struct wal *w;
    (void)state;

    forget();
    w = must_start(os_real(), &small);
    assert_int_equal(put(w, 1, WAL_SYNC), ACKED);
    wal_close(w);
    for (uint64_t at = 0; at < WAL_SEGMENT_HEAD; at++) {
        flip(1, at);
        assert_int_equal(start(os_real(), &small, &w, NULL), ERR_CORRUPT);
        flip(1, at);
    }
    check_replay(true);
}

static void test_foreign_segment(void **state)
{
    _cleanup_(freep) char *header = mem_fmt("%s/header", dir);
    struct err err = {0};
    struct wal *w;
    (void)state;

    forget();
    w = must_start(os_real(), &small);
    assert_int_equal(put(w, 1, WAL_SYNC), ACKED);
    wal_close(w);
    struct wal_header other = {.wal_id = "0123456789abcdef0123456789abcdef"};
    struct buf text = BUF_INIT;
    wal_header_print(&other, &text);
    assert_int_equal(os_write_file(os_real(), header, buf_view(&text), NULL), ERR_OK);
    buf_done(&text);
    w = NULL;
    assert_int_equal(start(os_real(), &small, &w, &err), ERR_CORRUPT);
    assert_non_null(strstr(err.msg, "another log"));
    assert_int_equal(os_real()->ops->unlink(os_real(), header, NULL), ERR_OK);
    assert_int_equal(start(os_real(), &small, &w, &err), ERR_CORRUPT);
    wal_close(w);
}

/* ---- a waiting backlog of nearly empty segments does not take 64 MiB each */

static void test_backlog_shrinks(void **state)
{
    struct os_stat st;
    (void)state;

    forget();
    struct wal *w = must_start(os_real(), &small);
    for (uint64_t id = 1; id <= 10; id++) {
        assert_int_equal(put(w, id, id % 2 ? WAL_SYNC : WAL_WRITE), ACKED);
        assert_int_equal(wal_seal(w), id);
    }
    wal_close(w);
    _cleanup_(freep) char *path = mem_fmt("%s/%020u.wal", dir, 8);
    assert_int_equal(os_real()->ops->stat(os_real(), path, &st, NULL), ERR_OK);
    assert_true(st.size < 200);
    check_replay(true);
}

/* ---- killed */

struct child {
    struct wal *w;
    uint64_t from;
    int fd;
};

static void *child_append(void *arg)
{
    const struct child *c = arg;

    for (uint64_t id = c->from; id < IDS; id += 3) {
        if (put(c->w, id, id % 2 ? WAL_SYNC : WAL_WRITE) != ACKED || write(c->fd, &id, sizeof(id)) != sizeof(id))
            _exit(1);
        if (id % 16 == 0)
            (void)wal_seal(c->w);
    }
    return NULL;
}

static void child_main(uint64_t from, int fd)
{
    struct child c[3];
    pthread_t id[3];
    struct wal *w = must_start(os_real(), &small);

    for (unsigned i = 0; i < 3; i++) {
        c[i] = (struct child){w, from + i, fd};
        if (pthread_create(&id[i], NULL, child_append, &c[i]))
            _exit(1);
    }
    for (unsigned i = 0; i < 3; i++)
        (void)pthread_join(id[i], NULL);
    for (;;)
        (void)pause();
}

static uint64_t run_and_kill(uint64_t from, unsigned seed)
{
    uint64_t id, next = from;
    int fds[2];

    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)close(fds[0]);
        child_main(from, fds[1]);
    }
    (void)close(fds[1]);
    unsigned wait_acks = seed % 5 == 0 ? 0 : seed * 7 % 60; /* often during the start */
    for (unsigned n = 0; n < wait_acks && read(fds[0], &id, sizeof(id)) == sizeof(id); n++)
        records[id] = (struct record){.id = id, .fate = ACKED, .ack = WAL_SYNC};
    (void)usleep(seed * 131 % 3000);
    assert_int_equal(kill(pid, SIGKILL), 0);
    while (read(fds[0], &id, sizeof(id)) == sizeof(id))
        records[id] = (struct record){.id = id, .fate = ACKED, .ack = WAL_SYNC};
    (void)close(fds[0]);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    for (id = from; id < IDS; id++) { /* each of the three may have written one more */
        if (records[id].fate == ACKED)
            next = id + 1;
        else
            records[id].fate = IN_DOUBT;
    }
    return next + 3;
}

static void test_killed(void **state)
{
    uint64_t next = 1;
    (void)state;

    forget();
    for (unsigned round = 0; round < 50; round++) {
        if (next > IDS - 500) {
            forget();
            empty_dir();
            next = 1;
        }
        next = run_and_kill(next, round);
        check_replay(true);
        for (uint64_t id = 0; id < IDS; id++)
            if (records[id].fate == IN_DOUBT)
                records[id] = (struct record){.id = id, .fate = replayed[id] ? ACKED : FAILED};
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_every_call, enter, leave),
        cmocka_unit_test_setup_teardown(test_every_call_of_a_start, enter, leave),
        cmocka_unit_test_setup_teardown(test_heals, enter, leave),
        cmocka_unit_test_setup_teardown(test_queue_limit, enter, leave),
        cmocka_unit_test_setup_teardown(test_disk_marks, enter, leave),
        cmocka_unit_test_setup_teardown(test_large, enter, leave),
        cmocka_unit_test_setup_teardown(test_relaxed_first, enter, leave),
        cmocka_unit_test_setup_teardown(test_damage_in_last, enter, leave),
        cmocka_unit_test_setup_teardown(test_damaged_header, enter, leave),
        cmocka_unit_test_setup_teardown(test_foreign_segment, enter, leave),
        cmocka_unit_test_setup_teardown(test_backlog_shrinks, enter, leave),
        cmocka_unit_test_setup_teardown(test_killed, enter, leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
