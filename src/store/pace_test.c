/* Goal: fewer requests after a refusal, none while the store wants none, and all again when it answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "store/pace.h"

static int64_t now_us;
static struct os_ops ops;
static struct os os = {&ops};

static int64_t fake_mono_us(struct os *o)
{
    (void)o;
    return now_us;
}

/* One thread: whoever waits, waits to the end. */
static bool fake_wait(struct os *o, struct os_cond *c, struct os_mutex *m, int64_t wait_us)
{
    (void)o, (void)c, (void)m;
    assert_true(wait_us > 0);
    now_us += wait_us;
    return false;
}

static void setup_pace(struct pace *p, unsigned limit_max)
{
    ops = *os_real()->ops;
    ops.mono_us = fake_mono_us;
    ops.cond_wait = fake_wait;
    now_us = 1000;
    pace_init(p, &os, limit_max);
}

static void answers(struct pace *p, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        assert_true(pace_enter(p, now_us));
        pace_leave(p, false, 0);
    }
}

static void test_limit(void **state)
{
    struct pace p;

    (void)state;
    setup_pace(&p, 0);
    for (unsigned i = 0; i < PACE_PARALLEL_MAX; i++)
        assert_true(pace_enter(&p, now_us));
    assert_false(pace_enter(&p, now_us + 5));
    for (unsigned i = 0; i < PACE_PARALLEL_MAX; i++) /* all of one moment: halved once */
        pace_leave(&p, true, 0);
    assert_int_equal(p.limit, PACE_PARALLEL_MAX / 2);
    for (unsigned i = 0; i < 20; i++) {
        now_us += 2000000;
        assert_true(pace_enter(&p, now_us));
        pace_leave(&p, true, 0);
    }
    assert_int_equal(p.limit, 1);
    assert_true(pace_enter(&p, now_us));
    assert_false(pace_enter(&p, now_us));
    pace_leave(&p, false, 0);
    assert_int_equal(p.limit, 2);
    answers(&p, 2);
    assert_int_equal(p.limit, 3);
    answers(&p, PACE_PARALLEL_MAX * PACE_PARALLEL_MAX);
    assert_int_equal(p.limit, PACE_PARALLEL_MAX);
    pace_done(&p);
}

static void test_retry_after(void **state)
{
    struct pace p;

    (void)state;
    setup_pace(&p, 0);
    assert_true(pace_enter(&p, now_us));
    pace_leave(&p, true, 3000000);
    int64_t told_us = now_us;
    assert_false(pace_enter(&p, now_us + 1000000)); /* it waits as long as it may, and is not sent */
    assert_int_equal(now_us, told_us + 1000000);
    assert_true(pace_enter(&p, now_us + 10000000));
    assert_int_equal(now_us, told_us + 3000000);
    pace_leave(&p, true, 0); /* a shorter wish does not shorten it */
    assert_true(pace_enter(&p, now_us));
    pace_leave(&p, false, 0);
    pace_done(&p);
}

/* Goal: a limit that was set is not passed, nor risen above; one beyond what there is counts for nothing. */
static void test_limit_set(void **state)
{
    static const struct {
        unsigned set, holds;
    } cases[] = {{1, 1}, {3, 3}, {PACE_PARALLEL_MAX, PACE_PARALLEL_MAX}, {1000, PACE_PARALLEL_MAX}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct pace p;
        setup_pace(&p, cases[i].set);
        answers(&p, 1000);
        for (unsigned n = 0; n < cases[i].holds; n++)
            assert_true(pace_enter(&p, now_us));
        assert_false(pace_enter(&p, now_us));
        pace_done(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_limit), cmocka_unit_test(test_limit_set),
                                       cmocka_unit_test(test_retry_after)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
