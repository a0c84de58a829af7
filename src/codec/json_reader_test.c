/* json_reader_test.c: what is JSON and what is not, to the byte; numbers to the last bit; strings in every position of a
 * vector; and agreement with another reader on a large random corpus and on its mutilations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "codec/json_agree.h"

/* Parses in a heap block of exactly the text's size, so that a byte read too far is seen by the sanitizer. */
static enum err_code parse(slice text, struct arena *a, struct json_value *v, struct err *err)
{
    uint8_t *exact = mem_alloc(text.len);
    if (text.len)
        memcpy(exact, text.ptr, text.len);
    enum err_code rc = json_dom_parse((slice){exact, text.len}, a, v, err);
    free(exact);
    return rc;
}

static bool accepts(slice text)
{
    struct arena a = ARENA_INIT;
    struct json_value v;
    struct err err;
    bool ok = parse(text, &a, &v, &err) == ERR_OK;
    arena_done(&a);
    return ok;
}

static void valid(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "0",
        "-0",
        "1",
        "-1",
        "1.5",
        "1e5",
        "1E+5",
        "1e-5",
        "0.1",
        "0e1",
        "0.0e-0",
        "123456789012345678901234567890",
        "5e-324",
        "1e-999",
        "1.7976931348623157e308",
        "-1.7976931348623157e308",
        "18446744073709551615",
        "-9223372036854775808",
        "true",
        "false",
        "null",
        "\"\"",
        "\"a\"",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
        "\"\\u0041\\u00e9\\u20ac\\ud83d\\ude00\"",
        "\"\\u0000\"",
        "\"\x7f\"",
        "\"\xc2\x80\xdf\xbf\"",
        "\"\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\"",
        "\"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"",
        "[]",
        "[ ]",
        "{}",
        "{ }",
        "[1,2]",
        "[1 , 2]",
        " [\t1,\n2\r] ",
        "{\"a\":1}",
        "{\"a\" : 1 , \"b\" : [ ] }",
        "{\"\":0}",
        "{\"a\":{\"a\":{\"a\":1}}}",
        "[[],[[]],{}]",
        "{\"a\":1,\"A\":2}",
        "{\"\\u0061\":1,\"b\":2}",
        "[1e1,1E1,1.0,-0.0]",
        "[\"\\uDBFF\\uDFFF\"]",
        "[\"\\ud7ff\\ue000\"]",
        "\"/\"",
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (!accepts(slice_str(texts[i])))
            fail_msg("refused: %s", texts[i]);
}

static const struct {
    const char *text;
    size_t len, at; /* of the text if it holds zeros; where the error is */
    const char *what;
} refused[] = {
    {"", 0, 0, "end of text"},
    {" ", 0, 1, "end of text"},
    {"[", 0, 1, "end of text"},
    {"{", 0, 1, "end of text"},
    {"]", 0, 0, "value"},
    {"[1", 0, 2, "end of text"},
    {"[1,", 0, 3, "end of text"},
    {"[1,]", 0, 3, "value"},
    {"[,1]", 0, 1, "value"},
    {"[1,,2]", 0, 3, "value"},
    {"[1 2]", 0, 3, "','"},
    {"[1}", 0, 2, "','"},
    {"{\"a\":1]", 0, 6, "','"},
    {"{\"a\"}", 0, 4, "':'"},
    {"{\"a\":}", 0, 5, "value"},
    {"{\"a\":1,}", 0, 7, "key"},
    {"{,}", 0, 1, "key"},
    {"{a:1}", 0, 1, "key"},
    {"{'a':1}", 0, 1, "key"},
    {"{1:1}", 0, 1, "key"},
    {"{\"a\" 1}", 0, 5, "':'"},
    {"{\"a\":1 \"b\":2}", 0, 7, "','"},
    {"{\"a\":1", 0, 6, "end of text"},
    {"1 2", 0, 2, "after"},
    {"{}{}", 0, 2, "after"},
    {"[]x", 0, 2, "after"},
    {"\xef\xbb\xbf[]", 0, 0, "value"},
    {"nul", 0, 0, "value"},
    {"nulL", 0, 0, "value"},
    {"True", 0, 0, "value"},
    {"NaN", 0, 0, "value"},
    {"Infinity", 0, 0, "value"},
    {"-Infinity", 0, 1, "digit"},
    {"-", 0, 1, "digit"},
    {"+1", 0, 0, "value"},
    {".5", 0, 0, "value"},
    {"1.", 0, 2, "digit"},
    {"1.e5", 0, 2, "digit"},
    {"01", 0, 0, "zero"},
    {"-01", 0, 1, "zero"},
    {"1e", 0, 1, "digit"},
    {"1e+", 0, 1, "digit"},
    {"0x10", 0, 1, "after"},
    {"1_000", 0, 1, "after"},
    {"1e999", 0, 0, "range"},
    {"-1e309", 0, 0, "range"},
    {"1.7976931348623159e308", 0, 0, "range"},
    {"[1e999]", 0, 1, "range"},
    {"\"", 0, 1, "inside a string"},
    {"\"a", 0, 2, "inside a string"},
    {"\"\\", 0, 2, "inside a string"},
    {"\"\\\"", 0, 3, "inside a string"},
    {"\"\\x\"", 0, 1, "escape"},
    {"\"\\u12\"", 0, 1, "unicode"},
    {"\"\\u123g\"", 0, 1, "unicode"},
    {"\"\\U0041\"", 0, 1, "escape"},
    {"\"\\'\"", 0, 1, "escape"},
    {"\"a\nb\"", 0, 2, "control"},
    {"\"\t\"", 0, 1, "control"},
    {"\"a\0b\"", 5, 2, "control"},
    {"[1\0]", 4, 2, "','"},
    {"'a'", 0, 0, "value"},
    {"\"\\ud800\"", 0, 1, "surrogate"},
    {"\"\\udc00\"", 0, 1, "surrogate"},
    {"\"\\ud800\\ud800\"", 0, 1, "surrogate"},
    {"\"\\ud800x\"", 0, 1, "surrogate"},
    {"\"\\ud800\\n\"", 0, 1, "surrogate"},
    {"\"\x80\"", 0, 1, "UTF-8"},
    {"\"\xc0\xaf\"", 0, 1, "UTF-8"},
    {"\"\xc1\xbf\"", 0, 1, "UTF-8"},
    {"\"\xc3\"", 0, 1, "UTF-8"},
    {"\"\xe0\x9f\xbf\"", 0, 1, "UTF-8"},
    {"\"\xed\xa0\x80\"", 0, 1, "UTF-8"},
    {"\"\xe2\x82\"", 0, 1, "UTF-8"},
    {"\"\xf0\x8f\xbf\xbf\"", 0, 1, "UTF-8"},
    {"\"\xf4\x90\x80\x80\"", 0, 1, "UTF-8"},
    {"\"\xf5\x80\x80\x80\"", 0, 1, "UTF-8"},
    {"\"\xff\"", 0, 1, "UTF-8"},
    {"\"ab\xc3\xa9\x80\"", 0, 5, "UTF-8"},
    {"[\xc3\xa9]", 0, 1, "value"},
    {"{\"a\":1 /* x */}", 0, 7, "','"},
    {"// x\n1", 0, 0, "value"},
    {"{\"a\":1,\"a\":2}", 0, 0, "duplicate"},
    {"{\"o\":{\"a\":1,\"a\":2}}", 0, 5, "duplicate"},
    {"[{\"a\":1,\"\\u0061\":2}]", 0, 1, "duplicate"},
    {"\v1", 0, 0, "value"},
    {"\f1", 0, 0, "value"},
    {"\xc2\xa0"
     "1",
     0, 0, "value"},
};

static void invalid(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        struct arena a = ARENA_INIT;
        struct json_value v;
        struct err err = {0};
        char at[40];
        slice text = refused[i].len ? slice_of(refused[i].text, refused[i].len) : slice_str(refused[i].text);
        if (parse(text, &a, &v, &err) != ERR_INVALID)
            fail_msg("accepted: %s", refused[i].text);
        (void)snprintf(at, sizeof(at), "at byte %zu", refused[i].at);
        if (!strstr(err.msg, at) || !strstr(err.msg, refused[i].what))
            fail_msg("%s: %s, expected %s %s", refused[i].text, err.msg, refused[i].what, at);
        arena_done(&a);
    }
}

static void duplicates_among_many(void **state)
{
    (void)state;
    for (int n = 2; n < 100; n++)
        for (int twice = 0; twice < 2; twice++) {
            _cleanup_(buf_done) struct buf b = BUF_INIT;
            for (int i = 0; i < n; i++)
                buf_fmt(&b, "%c\"key%d\":%d", i ? ',' : '{', twice && i == n - 1 ? n / 2 - 1 : i, i);
            buf_byte(&b, '}');
            assert_int_equal(accepts(buf_view(&b)), !twice);
        }
}

static void depth(void **state)
{
    (void)state;
    for (size_t n = JSON_DEPTH_MAX - 1; n <= JSON_DEPTH_MAX + 1; n++)
        for (int object = 0; object < 2; object++) {
            _cleanup_(buf_done) struct buf b = BUF_INIT;
            struct json_reader r = {0};
            for (size_t i = 0; i < n; i++)
                buf_str(&b, object ? "{\"a\":" : "[");
            buf_str(&b, "1");
            for (size_t i = 0; i < n; i++)
                buf_byte(&b, object ? '}' : ']');
            assert_int_equal(accepts(buf_view(&b)), n <= JSON_DEPTH_MAX);
            json_reader_init(&r, buf_view(&b));
            assert_int_equal(json_skip(&r), n <= JSON_DEPTH_MAX);
        }
}

/* Each special byte at each offset of strings around the size of a vector, at each distance from the end of the text. */
static void strings_at_all_offsets(void **state)
{
    (void)state;
    static const struct {
        const char *raw, *text; /* text NULL: refused */
    } parts[] = {{"x", "x"},
                 {"\\n", "\n"},
                 {"\\u00e9", "\xc3\xa9"},
                 {"\xc3\xa9", "\xc3\xa9"},
                 {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
                 {"\x1f", NULL},
                 {"\x80", NULL},
                 {"\xc3", NULL},
                 {"\\q", NULL},
                 {"\\ud83d\\ude00", "\xf0\x9f\x98\x80"}};
    for (size_t p = 0; p < ARRAY_LEN(parts); p++)
        for (int before = 0; before < 40; before++)
            for (int after = 0; after < 40; after += 3) {
                char raw[200], text[200];
                struct arena a = ARENA_INIT;
                struct json_value v;
                struct err err;
                int n = snprintf(raw, sizeof(raw), "\"%.*s%s%.*s\"", before,
                                 "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKL", parts[p].raw, after,
                                 "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKL");
                uint8_t *exact = mem_alloc((size_t)n);
                memcpy(exact, raw, (size_t)n);
                enum err_code rc = json_dom_parse(slice_of(exact, (size_t)n), &a, &v, &err);
                assert_int_equal(rc == ERR_OK, parts[p].text != NULL);
                if (parts[p].text) {
                    n = snprintf(text, sizeof(text), "%.*s%s%.*s", before,
                                 "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKL", parts[p].text, after,
                                 "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKL");
                    assert_true(slice_eq(v.string, slice_of(text, (size_t)n)));
                }
                free(exact);
                arena_done(&a);
            }
}

static uint64_t seed = 88172645463325252u;
static uint64_t rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

static void check_double(const char *text)
{
    struct json_reader r = {0};
    struct json_number n;
    size_t len = strlen(text);
    uint8_t *exact = mem_alloc(len);
    double want = strtod(text, NULL), got;

    memcpy(exact, text, len);
    json_reader_init(&r, slice_of(exact, len));
    if (isinf(want)) {
        assert_false(json_read_number(&r, &n));
    } else {
        assert_true(json_read_number(&r, &n));
        assert_ptr_equal(r.at, r.end);
        got = n.kind == JSON_INT ? (double)n.i : n.kind == JSON_UINT ? (double)n.u : n.d;
        if (double_bits(got) != double_bits(want))
            fail_msg("%s: %.17g, not %.17g", text, got, want);
    }
    free(exact);
}

static void doubles_are_correctly_rounded(void **state)
{
    (void)state;
    static const char *const hard[] = {
        "9007199254740993",
        "9007199254740992.5",
        "9007199254740993.0",
        "-9007199254740993",
        "4503599627370496.5",
        "4503599627370497.5",
        "1e23",
        "8.5e22",
        "1.448997445238699",
        "2.2250738585072011e-308",
        "2.2250738585072014e-308",
        "4.9406564584124654e-324",
        "2.4703282292062327e-324",
        "2.4703282292062328e-324",
        "0.3",
        "0.1",
        "123456789.123456789",
        "7.2057594037927933e16",
        "9223372036854775807.5",
        "9223372036854775808",
        "18446744073709551616",
        "18446744073709551615.0",
        "1e-27",
        "1e27",
        "1e28",
        "179769313486231580793728971405301e276",
        "6.02214076e23",
        "6.62607015e-34",
        "-0.0",
        "0e400",
        "0.000000000000000000000000000001",
        "1000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
    };
    for (size_t i = 0; i < ARRAY_LEN(hard); i++)
        check_double(hard[i]);
    for (int i = 0; i < 100000; i++) {
        char text[80];
        uint64_t bits = rnd();
        double d;
        memcpy(&d, &bits, 8);
        if (!isfinite(d))
            continue;
        (void)snprintf(text, sizeof(text), "%.*e", (int)(rnd() % 20), d);
        check_double(text);
        (void)snprintf(text, sizeof(text), "%llu.%0*llu", (unsigned long long)(rnd() >> (rnd() % 64)),
                       (int)(rnd() % 19 + 1), (unsigned long long)(rnd() >> (rnd() % 64)));
        check_double(text);
        (void)snprintf(text, sizeof(text), "%llue%d", (unsigned long long)(rnd() >> (rnd() % 64)),
                       (int)(rnd() % 80) - 40);
        check_double(text);
    }
}

/* Halfway between two doubles, exactly and one off: where rounding twice would show. */
static void halfway_doubles(void **state)
{
    (void)state;
    for (int i = 0; i < 100000; i++) {
        char text[80];
        uint64_t mantissa = (rnd() >> 11) | UINT64_C(1) << 52; /* 53 bits */
        int zeros = (int)(rnd() % 10) + 1;                     /* further bits: 1000..., the middle */
        uint64_t middle = (mantissa << 1 | 1) << (zeros - 1);
        middle += rnd() % 3 - 1;
        (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)middle);
        check_double(text);
        (void)snprintf(text, sizeof(text), "%llu.0", (unsigned long long)middle);
        check_double(text);
        (void)snprintf(text, sizeof(text), "%llue-%d", (unsigned long long)middle, (int)(rnd() % 28));
        check_double(text);
    }
}

static void number_kinds(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum json_number_kind kind;
        uint64_t bits;
    } cases[] = {
        {"0", JSON_INT, 0},
        {"9223372036854775807", JSON_INT, INT64_MAX},
        {"-9223372036854775808", JSON_INT, UINT64_C(1) << 63},
        {"9223372036854775808", JSON_UINT, UINT64_C(1) << 63},
        {"18446744073709551615", JSON_UINT, UINT64_MAX},
        {"10000000000000000000", JSON_UINT, UINT64_C(10000000000000000000)},
        {"18446744073709551616", JSON_BIG, UINT64_C(0x43f0000000000000)},
        {"-9223372036854775809", JSON_BIG, UINT64_C(0xc3e0000000000000)},
        {"99999999999999999999", JSON_BIG, UINT64_C(0x4415af1d78b58c40)},
        {"-0", JSON_DOUBLE, UINT64_C(1) << 63},
        {"1.0", JSON_DOUBLE, UINT64_C(0x3ff0000000000000)},
        {"1e2", JSON_DOUBLE, UINT64_C(0x4059000000000000)},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct json_reader r = {0};
        struct json_number n;
        json_reader_init(&r, slice_str(cases[i].text));
        assert_true(json_read_number(&r, &n));
        assert_int_equal(n.kind, cases[i].kind);
        if (n.bits != cases[i].bits)
            fail_msg("%s: %llx", cases[i].text, (unsigned long long)n.bits);
    }
}

static void random_space(struct buf *b)
{
    while (rnd() % 8 == 0)
        buf_byte(b, (uint8_t) " \n\r\t"[rnd() % 4]);
}

static void random_string(struct buf *b)
{
    static const char *const pieces[] = {"a",
                                         "key",
                                         "hello world",
                                         "\\n",
                                         "\\\"",
                                         "\\\\",
                                         "\\u00e9",
                                         "\\ud83d\\ude00",
                                         "\xc3\xa9",
                                         "\xe2\x82\xac",
                                         "\xf0\x9f\x98\x80",
                                         "\\/",
                                         "0123456789abcdef",
                                         "\\u0000",
                                         "/",
                                         "\xd0\xbf\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82"};
    buf_byte(b, '"');
    for (uint64_t n = rnd() % 6; n > 0; n--)
        buf_str(b, pieces[rnd() % ARRAY_LEN(pieces)]);
    buf_byte(b, '"');
}

static void random_value(struct buf *b, int depth_left)
{
    static const char *const scalars[] = {
        "null", "true", "false", "0", "-0", "1.5", "-3", "1e10", "12345678901234567890", "0.1", "2.5e-7"};
    uint64_t kind = rnd() % (depth_left > 0 ? 8 : 5), n = rnd() % 5;

    random_space(b);
    if (kind < 2) {
        random_string(b);
    } else if (kind < 4) {
        buf_str(b, scalars[rnd() % ARRAY_LEN(scalars)]);
    } else if (kind == 4) {
        buf_fmt(b, "%.*g", (int)(rnd() % 18), (double)(int64_t)rnd() / 1e9);
    } else {
        bool object = kind > 5;
        buf_byte(b, object ? '{' : '[');
        for (uint64_t i = 0; i < n; i++) {
            if (i)
                buf_byte(b, ',');
            random_space(b);
            if (object) {
                random_string(b);
                random_space(b);
                buf_byte(b, ':');
            }
            random_value(b, depth_left - 1);
        }
        random_space(b);
        buf_byte(b, object ? '}' : ']');
    }
    random_space(b);
}

static void agrees_with_jansson(void **state)
{
    (void)state;
    int accepted = 0;
    for (int i = 0; i < 60000; i++) {
        _cleanup_(buf_done) struct buf b = BUF_INIT;
        random_value(&b, 5);
        if (i % 2) { /* and mutilated */
            for (uint64_t n = rnd() % 3; n > 0 && b.len; n--)
                b.ptr[rnd() % b.len] = (uint8_t)("\"\\{}[],:0-.eEuntf \x80\xc3\xff\x01"[rnd() % 22]);
            if (rnd() % 4 == 0)
                b.len = rnd() % (b.len + 1);
        }
        if (!readers_agree(buf_view(&b)))
            fail_msg("seed %d: %.*s", i, (int)b.len, (const char *)b.ptr);
        accepted += accepts(buf_view(&b));
    }
    assert_true(accepted > 20000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(valid),
        cmocka_unit_test(invalid),
        cmocka_unit_test(duplicates_among_many),
        cmocka_unit_test(depth),
        cmocka_unit_test(strings_at_all_offsets),
        cmocka_unit_test(doubles_are_correctly_rounded),
        cmocka_unit_test(halfway_doubles),
        cmocka_unit_test(number_kinds),
        cmocka_unit_test(agrees_with_jansson),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
