/* base_test.c: tables of the small things everybody relies on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/map.h"
#include "base/metrics.h"
#include "base/numtext.h"
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

static uint64_t next_random(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    return *s ^= *s << 17;
}

/* The fewest digits with which printf's text reads back, as "d.ddde+xx". */
static double shortest_by_trial(double v, char out[64])
{
    for (int precision = 0; precision < 17; precision++) {
        (void)snprintf(out, 64, "%.*e", precision, v);
        if (strtod(out, NULL) == v)
            break;
    }
    return strtod(out, NULL);
}

/* Digits of a number's text, without the zeros at both ends. */
static void significant(const char *text, char out[64])
{
    size_t n = 0;

    for (; *text && *text != 'e'; text++)
        if (*text >= '0' && *text <= '9' && (n > 0 || *text != '0'))
            out[n++] = *text;
    while (n > 0 && out[n - 1] == '0')
        n--;
    out[n] = 0;
}

/* Every text reads back as the same double, and no text of fewer digits would. */
static void check_double(double v)
{
    char text[64], want[64], digits[64], want_digits[64];

    *num_f64(text, v) = 0;
    double back = strtod(text, NULL);
    if (back != v || signbit(back) != signbit(v))
        fail_msg("%.17g became %s", v, text);
    assert_true(strlen(text) <= NUM_FLOAT_MAX);
    (void)shortest_by_trial(v, want);
    significant(text, digits);
    significant(want, want_digits);
    /* beside a power of two a shorter one may do that is not the closest of its length: 2^-1017 is 7.120236347223045e-307 */
    if (strlen(digits) >= strlen(want_digits) && strcmp(digits, want_digits) != 0)
        fail_msg("%.17g became %s, not %s", v, text, want);
}

static void test_doubles(void **state)
{
    uint64_t seed = 88172645463325252;
    (void)state;

    for (int i = 0; i < 60000; i++) {
        uint64_t bits = next_random(&seed);
        double v;
        memcpy(&v, &bits, sizeof(v));
        if (i % 3 == 1)
            v = (double)(bits % 1000000) / 1000;
        if (i % 3 == 2)
            v = (double)(int64_t)bits;
        if (isfinite(v))
            check_double(v);
    }
    for (int e = -1074; e < 1024; e++) /* the uneven intervals */
        check_double(ldexp(1, e));
    for (int e = -323; e < 309; e++) {
        char text[16];
        (void)snprintf(text, sizeof(text), "1e%d", e);
        check_double(strtod(text, NULL));
    }
}

static void test_floats(void **state)
{
    uint64_t seed = 4101842887655102017;
    char text[64];
    (void)state;

    for (int i = 0; i < 100000; i++) {
        uint32_t bits = (uint32_t)next_random(&seed);
        float v;
        memcpy(&v, &bits, sizeof(v));
        if (!isfinite(v))
            continue;
        *num_f32(text, v) = 0;
        float back = strtof(text, NULL);
        if (back != v || signbit(back) != signbit(v))
            fail_msg("%.9g became %s", (double)v, text);
    }
    *num_f32(text, 0.1f) = 0;
    assert_string_equal(text, "0.1");
}

static void test_number_forms(void **state)
{
    static const struct {
        double v;
        const char *want;
    } doubles[] = {{0, "0.0"},
                   {-0.0, "-0.0"},
                   {1, "1.0"},
                   {1e15, "1000000000000000.0"},
                   {1e16, "1e16"},
                   {1.5e16, "1.5e16"},
                   {0.1, "0.1"},
                   {1e-5, "0.00001"},
                   {1e-6, "1e-6"},
                   {9.5e-7, "9.5e-7"},
                   {0.001234, "0.001234"},
                   {1e23, "1e23"},
                   {1234.5, "1234.5"},
                   {5e-324, "5e-324"},
                   {-2.5e-9, "-2.5e-9"},
                   {9007199254740993.0, "9007199254740992.0"}};
    static const uint64_t whole[] = {0, 1, 9, 10, 99, 100, 12345, 999999999, 10000000000, UINT64_MAX};
    char text[64], want[64];
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(doubles); i++) {
        *num_f64(text, doubles[i].v) = 0;
        assert_string_equal(text, doubles[i].want);
    }
    for (size_t i = 0; i < ARRAY_LEN(whole); i++) {
        *num_u64(text, whole[i]) = 0;
        (void)snprintf(want, sizeof(want), "%" PRIu64, whole[i]);
        assert_string_equal(text, want);
        *num_i64(text, (int64_t)whole[i]) = 0;
        (void)snprintf(want, sizeof(want), "%" PRId64, (int64_t)whole[i]);
        assert_string_equal(text, want);
    }
    for (uint64_t p = 1, i = 0; i < 20; i++, p *= 10) /* where the number of digits changes */
        for (uint64_t v = p - 1; v <= p; v++) {
            *num_u64(text, v) = 0;
            (void)snprintf(want, sizeof(want), "%" PRIu64, v);
            assert_string_equal(text, want);
        }
    *num_i64(text, INT64_MIN) = 0;
    assert_string_equal(text, "-9223372036854775808");
    *num_i128(text, (i128)((u128)1 << 127)) = 0;
    assert_string_equal(text, "-170141183460469231731687303715884105728");
    *num_u128(text, ~(u128)0) = 0;
    assert_string_equal(text, "340282366920938463463374607431768211455");
    *num_u128(text, (u128)1000000000000000000u * 1000000000000000000u) = 0;
    assert_string_equal(text, "1000000000000000000000000000000000000");
    *num_digits(text, 42, 5) = 0;
    assert_string_equal(text, "00042");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_arena),
                                       cmocka_unit_test(test_times),
                                       cmocka_unit_test(test_map_against_array),
                                       cmocka_unit_test(test_small_things),
                                       cmocka_unit_test(test_metrics),
                                       cmocka_unit_test(test_doubles),
                                       cmocka_unit_test(test_floats),
                                       cmocka_unit_test(test_number_forms)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
