/* os_test.c: what the real calls promise (codes, short reads, unnamed files, locks), the helpers, and that the helpers leave the old
 * file or the new one whichever call fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "os/fault.h"
#include "os/parallel.h"

static char dir[64];
static struct os *os;

static int enter(void **state)
{
    (void)state;
    os = os_real();
    (void)snprintf(dir, sizeof(dir), "/tmp/sluice-os-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static bool remove_one(void *arg, const char *name, bool is_dir)
{
    _cleanup_(freep) char *path = mem_fmt("%s/%s", (const char *)arg, name);
    struct os *real = os_real();

    if (is_dir)
        (void)real->ops->list(real, path, remove_one, path, NULL);
    assert_int_equal(is_dir ? real->ops->rmdir(real, path, NULL) : real->ops->unlink(real, path, NULL), ERR_OK);
    return true;
}

static int leave(void **state)
{
    (void)state;
    assert_int_equal(os->ops->list(os, dir, remove_one, dir, NULL), ERR_OK);
    return os->ops->rmdir(os, dir, NULL) == ERR_OK ? 0 : -1;
}

static char *at(const char *name)
{
    return mem_fmt("%s/%s", dir, name);
}

static void test_codes(void **state)
{
    _cleanup_(freep) char *a = at("a"), *none = at("none/x"), *sub = at("sub");
    struct os_file *f;
    struct os_stat st;
    struct err err = {0};
    (void)state;

    assert_int_equal(os->ops->open(os, none, OS_READ, &f, &err), ERR_NOT_FOUND);
    assert_true(err.os_errno != 0);
    assert_int_equal(os->ops->open(os, a, OS_WRITE | OS_CREATE | OS_EXCL, &f, &err), ERR_OK);
    os->ops->close(os, f);
    assert_int_equal(os->ops->open(os, a, OS_WRITE | OS_CREATE | OS_EXCL, &f, &err), ERR_CONFLICT);
    assert_int_equal(os->ops->mkdir(os, sub, &err), ERR_OK);
    assert_int_equal(os->ops->mkdir(os, sub, &err), ERR_CONFLICT);
    assert_int_equal(os->ops->stat(os, sub, &st, &err), ERR_OK);
    assert_true(st.is_dir);
    assert_int_equal(os->ops->link(os, a, sub, &err), ERR_CONFLICT);
    assert_int_equal(os->ops->unlink(os, none, &err), ERR_NOT_FOUND);
    assert_int_equal(os->ops->list(os, none, remove_one, NULL, &err), ERR_NOT_FOUND);
    assert_int_equal(os->ops->open(os, "/dev/full", OS_WRITE, &f, &err), ERR_OK);
    const struct os_iov iov = {"x", 1};
    assert_int_equal(os->ops->pwritev(os, f, &iov, 1, 0, &err), ERR_LIMIT); /* ENOSPC */
    os->ops->close(os, f);
    os->ops->close(os, NULL);
}

static void test_bytes(void **state)
{
    _cleanup_(freep) char *a = at("a");
    static char text[100000], back[100000];
    struct os_iov iov[700];
    struct os_file *f;
    uint64_t size;
    size_t got, used = 0;
    (void)state;

    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = (char)(i * 7);
    for (size_t i = 0; i < ARRAY_LEN(iov); i++) { /* more than one system call takes, some of them empty */
        iov[i] = (struct os_iov){text + used, i % 5 ? i % 130 : 0};
        used += iov[i].len;
    }
    assert_int_equal(os->ops->open(os, a, OS_READ | OS_WRITE | OS_CREATE, &f, NULL), ERR_OK);
    assert_int_equal(os->ops->pwritev(os, f, iov, ARRAY_LEN(iov), 3, NULL), ERR_OK);
    assert_int_equal(os->ops->sync(os, f, NULL), ERR_OK);
    assert_int_equal(os->ops->pread(os, f, back, sizeof(back), 3, &got, NULL), ERR_OK);
    assert_int_equal(got, used);
    assert_memory_equal(back, text, used);
    assert_int_equal(os->ops->pread(os, f, back, 10, used + 100, &got, NULL), ERR_OK);
    assert_int_equal(got, 0);
    assert_int_equal(os->ops->truncate(os, f, 5, NULL), ERR_OK);
    assert_int_equal(os->ops->allocate(os, f, 70001, NULL), ERR_OK);
    assert_int_equal(os->ops->size(os, f, &size, NULL), ERR_OK);
    assert_int_equal(size, 70001);
    os->ops->close(os, f);
}

static void test_unnamed(void **state)
{
    _cleanup_(freep) char *name = at("named");
    const struct os_iov iov = {"whole", 5};
    struct os_file *f;
    struct os_stat st;
    struct stat mode;
    (void)state;

    assert_int_equal(os->ops->open(os, dir, OS_WRITE | OS_UNNAMED, &f, NULL), ERR_OK);
    assert_int_equal(os->ops->pwritev(os, f, &iov, 1, 0, NULL), ERR_OK);
    assert_int_equal(os->ops->stat(os, name, &st, NULL), ERR_NOT_FOUND);
    assert_int_equal(os->ops->link_file(os, f, name, NULL), ERR_OK);
    assert_int_equal(os->ops->stat(os, name, &st, NULL), ERR_OK);
    assert_int_equal(st.size, 5);
    assert_int_equal(os->ops->link_file(os, f, name, NULL), ERR_CONFLICT);
    os->ops->close(os, f);
    assert_int_equal(stat(name, &mode), 0);
    assert_int_equal(mode.st_mode & 0777, 0600);
}

static void test_lock(void **state)
{
    _cleanup_(freep) char *name = at("lock");
    struct os_file *a, *b;
    (void)state;

    assert_int_equal(os->ops->open(os, name, OS_WRITE | OS_CREATE, &a, NULL), ERR_OK);
    assert_int_equal(os->ops->open(os, name, OS_WRITE, &b, NULL), ERR_OK);
    assert_int_equal(os->ops->lock_file(os, a, NULL), ERR_OK);
    assert_int_equal(os->ops->lock_file(os, b, NULL), ERR_CONFLICT);
    os->ops->close(os, a);
    assert_int_equal(os->ops->lock_file(os, b, NULL), ERR_OK);
    os->ops->close(os, b);
}

static void test_helpers(void **state)
{
    _cleanup_(freep) char *deep = at("x/y/z"), *file = at("x/y/z/file"), *below = at("x/y/z/file/w");
    uint8_t *bytes;
    size_t len;
    (void)state;

    assert_int_equal(os_mkdirs(os, deep, NULL), ERR_OK);
    assert_int_equal(os_mkdirs(os, deep, NULL), ERR_OK);
    assert_int_equal(os_mkdirs(os, "/", NULL), ERR_OK);
    assert_int_equal(os_write_file(os, file, slice_lit("one"), NULL), ERR_OK);
    assert_int_equal(os_write_file(os, file, slice_lit(""), NULL), ERR_OK);
    assert_int_equal(os_read_file(os, file, 10, &bytes, &len, NULL), ERR_OK);
    assert_int_equal(len, 0);
    free(bytes);
    assert_int_equal(os_write_file(os, file, slice_lit("twelve bytes"), NULL), ERR_OK);
    assert_int_equal(os_read_file(os, file, 11, &bytes, &len, NULL), ERR_LIMIT);
    assert_int_equal(os_read_file(os, file, 12, &bytes, &len, NULL), ERR_OK);
    assert_string_equal((char *)bytes, "twelve bytes");
    free(bytes);
    assert_int_equal(os_mkdirs(os, file, NULL), ERR_IO);
    assert_true(os_mkdirs(os, below, NULL) != ERR_OK);
}

static void write_with_fault(struct os *faulty, const char *path, enum fault_kind kind, enum fault_mode mode)
{
    for (unsigned nth = 0;; nth++) {
        _cleanup_(freep) uint8_t *bytes = NULL;
        size_t len;
        assert_int_equal(os_write_file(os, path, slice_lit("the old text"), NULL), ERR_OK);
        os_fault_arm(faulty, kind, nth, mode);
        enum err_code rc = os_write_file(faulty, path, slice_lit("the new one"), NULL);
        bool fired = os_fault_disarm(faulty);
        assert_int_equal(rc, !fired ? ERR_OK : kind == FAULT_NO_SPACE ? ERR_LIMIT : ERR_IO);
        assert_int_equal(os_read_file(os, path, 100, &bytes, &len, NULL), ERR_OK);
        if (strcmp((char *)bytes, "the new one") != 0)
            assert_true(fired && strcmp((char *)bytes, "the old text") == 0);
        if (!fired) {
            assert_true(nth > 0);
            break;
        }
    }
}

static void test_faults(void **state)
{
    _cleanup_(os_fault_freep) struct os *faulty = os_fault_new(os_real());
    _cleanup_(freep) char *file = at("file");
    (void)state;

    for (int kind = FAULT_IO; kind <= FAULT_SYNC; kind++)
        for (int mode = FAULT_ONCE; mode <= FAULT_FROM_THEN_ON; mode++)
            write_with_fault(faulty, file, (enum fault_kind)kind, (enum fault_mode)mode);
}

struct rendezvous {
    struct os_mutex *mu;
    struct os_cond *cond;
    bool there;
};

static void arrive(void *arg)
{
    struct rendezvous *r = arg;
    os_lock(os, r->mu);
    r->there = true;
    os->ops->cond_broadcast(os, r->cond);
    os_unlock(os, r->mu);
}

static void test_threads_and_clocks(void **state)
{
    struct rendezvous r = {os->ops->mutex_new(os), os->ops->cond_new(os), false};
    uint8_t a[300] = {0}, b[300] = {0};
    (void)state;

    int64_t from = os_mono_us(os);
    os_lock(os, r.mu);
    while (os->ops->cond_wait(os, r.cond, r.mu, 2000))
        ; /* nobody signals, but wake-ups may be spurious */
    assert_true(os_mono_us(os) - from >= 2000);
    struct os_thread *t = os->ops->thread_new(os, "os-test", arrive, &r);
    while (!r.there)
        (void)os->ops->cond_wait(os, r.cond, r.mu, -1);
    os_unlock(os, r.mu);
    os->ops->thread_join(os, t);
    os->ops->thread_join(os, NULL);
    os->ops->cond_free(os, r.cond);
    os->ops->mutex_free(os, r.mu);
    from = os_mono_us(os);
    os->ops->sleep_us(os, 1000);
    assert_true(os_mono_us(os) - from >= 1000);
    assert_true(os_wall_us(os) > INT64_C(1600000000000000));
    os->ops->random(os, a, sizeof(a));
    os->ops->random(os, b, sizeof(b));
    assert_memory_not_equal(a, b, sizeof(a));
}

struct crowd {
    _Atomic unsigned seen[100], running, most;
    size_t fails_at;
};

static enum err_code crowd_one(void *arg, size_t index, struct err *err)
{
    struct crowd *c = arg;
    unsigned now = ++c->running, most = c->most;

    while (now > most && !atomic_compare_exchange_weak(&c->most, &most, now))
        ;
    c->seen[index]++;
    os->ops->sleep_us(os, 2000);
    c->running--;
    assert_non_null(err);
    return index == c->fails_at ? err_set(err, ERR_LIMIT, "item %zu", index) : ERR_OK;
}

static void test_parallel(void **state)
{
    static const unsigned widths[] = {0, 1, 3, 1000};
    struct err err = {0};
    (void)state;

    for (size_t w = 0; w < ARRAY_LEN(widths); w++) {
        struct crowd c = {.fails_at = SIZE_MAX};
        assert_int_equal(parallel_each(os, widths[w], 100, crowd_one, &c, &err), ERR_OK);
        for (size_t i = 0; i < 100; i++)
            assert_int_equal(c.seen[i], 1);
        assert_true(c.most <= MAX(1u, MIN(widths[w], PARALLEL_MAX)));
        assert_true(widths[w] <= 1 || c.most > 1); /* each sleeps: they meet */

        struct crowd failing = {.fails_at = 10};
        assert_int_equal(parallel_each(os, widths[w], 100, crowd_one, &failing, &err), ERR_LIMIT);
        assert_string_equal(err.msg, "item 10");
        assert_int_equal(failing.seen[10], 1);
        assert_int_equal(failing.seen[99], 0);
        assert_int_equal(parallel_each(os, widths[w], 11, crowd_one, &failing, NULL), ERR_LIMIT);
    }
    assert_int_equal(parallel_each(os, 4, 0, crowd_one, NULL, &err), ERR_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_codes, enter, leave),
        cmocka_unit_test_setup_teardown(test_bytes, enter, leave),
        cmocka_unit_test_setup_teardown(test_unnamed, enter, leave),
        cmocka_unit_test_setup_teardown(test_lock, enter, leave),
        cmocka_unit_test_setup_teardown(test_helpers, enter, leave),
        cmocka_unit_test_setup_teardown(test_faults, enter, leave),
        cmocka_unit_test_setup_teardown(test_threads_and_clocks, enter, leave),
        cmocka_unit_test_setup_teardown(test_parallel, enter, leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
