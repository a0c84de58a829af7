/* base_test.c: tables of the small things everybody relies on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/map.h"
#include "base/metrics.h"
#include "base/timetext.h"
#include "base/ulid.h"

/* Callers hand what they get to memset() and memcpy(), which want no NULL, for 0 bytes neither. */
static void test_arena(void **state)
{
    struct arena a = ARENA_INIT;
    (void)state;

    assert_non_null(arena_alloc(&a, 0));
    arena_reset(&a);
    for (size_t size = 0; size < 5000; size += 7) {
        uint8_t *p = arena_zalloc(&a, size), *next = arena_alloc(&a, 1);
        assert_true(((uintptr_t)p & 7) == 0 && ((uintptr_t)next & 7) == 0);
        memset(next, 0xff, 1);
        memset(p, 0x11, size);
        assert_true(*next == 0xff);
    }
    arena_done(&a);
    assert_non_null(arena_zalloc(&a, 0));
    arena_done(&a);
}

static void test_times(void **state)
{
    static const struct {
        const char *text;
        bool ok;
        int64_t us;
    } rows[] = {
        {"1970-01-01T00:00:00Z", true, 0},
        {"2026-01-02T03:04:05.678Z", true, 1767323045678000},
        {"2026-01-02 03:04:05z", true, 1767323045000000},
        {"2026-01-02t03:04:05.1234567+01:30", true, 1767317645123456},
        {"0001-01-01T00:00:00Z", true, -62135596800000000},
        {"2026-02-29T00:00:00Z", false, 0},
        {"2024-02-29T23:59:60Z", true, 1709251200000000},
        {"2026-01-02T03:04:05", false, 0},
        {"2026-01-02", false, 0},
        {"2026-01-02T03:04:05.Z", false, 0},
        {"10000-01-01T00:00:00Z", false, 0},
        {"2026-01-02T24:00:00Z", false, 0},
        {"", false, 0},
    };
    char text[TIME_TEXT_MAX];
    int64_t us;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        bool ok = time_parse_rfc3339(slice_str(rows[i].text), true, &us);
        if (ok != rows[i].ok || (ok && us != rows[i].us))
            fail_msg("%s", rows[i].text);
    }
    assert_true(time_parse_rfc2822(slice_lit("Fri, 02 Jan 2026 03:04:05 +0000"), &us));
    assert_true(us == 1767323045000000);
    assert_true(time_parse_rfc2822(slice_lit("2 Jan 2026 03:04 EST"), &us));
    assert_false(time_parse_rfc2822(slice_lit("2 Foo 2026 03:04 EST"), &us));
    for (int64_t t = -62135596800000000; t < 253402300800000000; t += 86399123456789) {
        (void)time_format(text, t);
        assert_true(time_parse_rfc3339(slice_str(text), false, &us) && us == t);
    }
    (void)time_format(text, 1767323045678000);
    assert_string_equal(text, "2026-01-02T03:04:05.678");
    (void)time_format(text, 1767323045000000);
    assert_string_equal(text, "2026-01-02T03:04:05");
}

static void test_map_against_array(void **state)
{
    struct map m = MAP_INIT;
    char keys[500][8];
    bool in[500] = {false};
    uint32_t x = 1;
    (void)state;

    for (size_t i = 0; i < 500; i++)
        (void)snprintf(keys[i], sizeof(keys[i]), "k%zu", i);
    for (size_t step = 0; step < 20000; step++) {
        x = x * 1664525 + 1013904223;
        size_t i = (x >> 8) % 500;
        if (x >> 31) {
            (void)map_put(&m, slice_str(keys[i]), keys[i]);
            in[i] = true;
        } else {
            assert_ptr_equal(map_del(&m, slice_str(keys[i])), in[i] ? keys[i] : NULL);
            in[i] = false;
        }
    }
    size_t want = 0, got = 0, at = 0;
    for (size_t i = 0; i < 500; i++) {
        assert_ptr_equal(map_get(&m, slice_str(keys[i])), in[i] ? keys[i] : NULL);
        want += in[i];
    }
    while (map_next(&m, &at))
        got++;
    assert_int_equal(got, want);
    assert_int_equal(m.count, want);
    map_done(&m);
}

static void test_small_things(void **state)
{
    struct ulid u;
    struct buf b = BUF_INIT;
    struct arena a = ARENA_INIT;
    struct err err;
    uint64_t v;
    (void)state;

    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);                /* RFC 3720 B.4's usual check value */
    assert_int_equal(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xe3069283); /* chainable */
    u = ulid_make(1469918176385, (const uint8_t[10]){0});
    assert_string_equal(u.text, "01aryz6s410000000000000000");
    assert_true(ulid_parse(slice_lit("01ARYZ6S410000000000000000"), &u));
    assert_false(ulid_parse(slice_lit("81ARYZ6S410000000000000000"), &u));
    assert_false(ulid_parse(slice_lit("01ARYZ6S41000000000000000U"), &u));
    buf_json_str(&b, slice_lit("a\"\\\n\x01z"));
    assert_string_equal(buf_cstr(&b), "\"a\\\"\\\\\\n\\u0001z\"");
    buf_done(&b);
    assert_true(slice_u64(slice_lit("18446744073709551615"), &v) && v == UINT64_MAX);
    assert_false(slice_u64(slice_lit("18446744073709551616"), &v));
    assert_false(slice_u64(slice_lit("-1"), &v));
    for (size_t n = 1; n < 3000000; n = n * 3 + 1)
        memset(arena_alloc(&a, n), 1, n);
    arena_done(&a);
    assert_int_equal(err_set(&err, ERR_CORRUPT, "slot %d", 7), ERR_CORRUPT);
    assert_int_equal(err_wrap(&err, "lane %s", "n00001"), ERR_CORRUPT);
    assert_string_equal(err.msg, "lane n00001: slot 7");
}

static void test_metrics(void **state)
{
    struct buf b = BUF_INIT;
    (void)state;

    struct metric *m = metric_get(METRIC_COUNTER, "t_total", "a test", "k=\"v\"");
    metric_add(m, 2);
    assert_ptr_equal(m, metric_get(METRIC_COUNTER, "t_total", "a test", "k=\"v\""));
    metric_observe(metric_get(METRIC_HISTOGRAM, "t_seconds", "a test", NULL), 0.003);
    metrics_print(&b);
    assert_non_null(strstr(buf_cstr(&b), "t_total{k=\"v\"} 2\n"));
    assert_non_null(strstr(buf_cstr(&b), "t_seconds_bucket{le=\"0.005\"} 1\n"));
    assert_non_null(strstr(buf_cstr(&b), "t_seconds_count 1\n"));
    buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_arena), cmocka_unit_test(test_times),
                                       cmocka_unit_test(test_map_against_array), cmocka_unit_test(test_small_things),
                                       cmocka_unit_test(test_metrics)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
