/* write_test.c: every type of the engine in every format. The JSON forms are those that DataFusion 53 wrote for the same values; what Arrow's
 * own reader makes of the stream is tests/test_formats.py's. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "engine/engine.h"
#include "query/write_int.h"

static struct engine *engine;

static int setup(void **state)
{
    struct err err = {0};
    const struct engine_options opt = {.memory_bytes = 256u << 20, .threads = 1};
    (void)state;
    return engine_open(&opt, &engine, &err) != ERR_OK;
}

static int teardown(void **state)
{
    (void)state;
    engine_close(engine);
    return 0;
}

#define COLUMNS_MAX 32
static uint64_t arrow_batch_max, arrow_offset_max; /* 0: as they are */

/* The whole answer. `shows`: of column i, or NULL. */
static enum err_code answer(const char *sql, struct writer_options opt, struct buf *out, struct err *err)
{
    _cleanup_(engine_result_freep) struct engine_result *r = NULL;
    _cleanup_(writer_freep) struct writer *w = NULL;
    const struct engine_query q = {.sql = sql};
    const struct engine_field *fields;
    const struct engine_chunk *chunk;
    struct gate_name names[COLUMNS_MAX] = {0};

    TRY(engine_run(engine, &q, &r, err));
    uint32_t n = engine_result_fields(r, &fields);
    for (uint32_t i = 0; i < n; i++) {
        names[i].name = slice_str(fields[i].name);
        if (slice_starts(names[i].name, slice_lit("duration")))
            names[i].show = GATE_SHOW_DURATION;
        if (slice_starts(names[i].name, slice_lit("twin")))
            names[i].name = slice_lit("twin");
    }
    opt.names = names;
    opt.names_count = n;
    TRY(writer_new(&opt, fields, n, &w, err));
    w->arrow_batch_max = arrow_batch_max ? arrow_batch_max : w->arrow_batch_max;
    w->arrow_offset_max = arrow_offset_max ? arrow_offset_max : w->arrow_offset_max;
    writer_begin(w, out);
    for (;;) {
        TRY(engine_result_next(r, &chunk, err));
        if (!chunk)
            break;
        TRY(writer_chunk(w, chunk, out, err));
    }
    writer_end(w, out);
    return ERR_OK;
}

static void expect(const char *sql, struct writer_options opt, const char *want)
{
    struct buf out = BUF_INIT;
    struct err err = {0};

    if (answer(sql, opt, &out, &err) != ERR_OK)
        fail_msg("%s: %s", sql, err.msg);
    if (strcmp(buf_cstr(&out), want) != 0)
        fail_msg("%s\n  gave   %s\n  wanted %s", sql, buf_cstr(&out), want);
    buf_done(&out);
}

static const struct writer_options json = {.format = QUERY_JSON}, nulls = {.format = QUERY_JSON, .send_null = true},
                                   fields = {.format = QUERY_JSON, .fields = true}, lines = {.format = QUERY_NDJSON},
                                   batches = {.format = QUERY_NDJSON, .batches = true}, csv = {.format = QUERY_CSV},
                                   arrow = {.format = QUERY_ARROW};

/* ---- a value of each type as JSON */

static const struct {
    const char *sql, *want;
} values[] = {
    {"true", "true"},
    {"false", "false"},
    {"(-128)::TINYINT", "-128"},
    {"255::UTINYINT", "255"},
    {"(-32768)::SMALLINT", "-32768"},
    {"65535::USMALLINT", "65535"},
    {"(-2147483648)::INTEGER", "-2147483648"},
    {"4294967295::UINTEGER", "4294967295"},
    {"(-9223372036854775808)::BIGINT", "-9223372036854775808"},
    {"18446744073709551615::UBIGINT", "18446744073709551615"},
    {"(-170141183460469231731687303715884105727)::HUGEINT", "-170141183460469231731687303715884105727"},
    {"340282366920938463463374607431768211455::UHUGEINT", "340282366920938463463374607431768211455"},
    {"1::DOUBLE", "1.0"},
    {"0::DOUBLE", "0.0"},
    {"'-0'::DOUBLE", "-0.0"},
    {"0.1::DOUBLE", "0.1"},
    {"200::DOUBLE", "200.0"},
    {"-1234.5::DOUBLE", "-1234.5"},
    {"1e15::DOUBLE", "1000000000000000.0"},
    {"1e16::DOUBLE", "1e16"},
    {"0.00001::DOUBLE", "0.00001"},
    {"0.000001::DOUBLE", "1e-6"},
    {"1.5e300::DOUBLE", "1.5e300"},
    {"1.7976931348623157e308::DOUBLE", "1.7976931348623157e308"},
    {"5e-324::DOUBLE", "5e-324"},
    {"9223372036854775807::DOUBLE", "9.223372036854776e18"},
    {"123456789.1234568::DOUBLE", "123456789.1234568"},
    {"'nan'::DOUBLE", "null"},
    {"'inf'::DOUBLE", "null"},
    {"'-inf'::DOUBLE", "null"},
    {"0.1::FLOAT", "0.1"},
    {"'nan'::FLOAT", "null"},
    {"12.50::DECIMAL(10, 2)", "12.50"},
    {"(-0.05)::DECIMAL(4, 2)", "-0.05"},
    {"7::DECIMAL(4, 0)", "7"},
    {"(-99999999999999999999.999)::DECIMAL(38, 3)", "-99999999999999999999.999"},
    {"DATE '2026-01-02'", "\"2026-01-02\""},
    {"DATE '0001-01-01'", "\"0001-01-01\""},
    {"DATE '10000-01-01'", "\"+10000-01-01\""},
    {"DATE '0044-03-15 (BC)'", "\"-0043-03-15\""},
    {"TIME '12:34:56'", "\"12:34:56\""},
    {"TIME '12:34:56.5'", "\"12:34:56.500\""},
    {"TIME '00:00:00.000001'", "\"00:00:00.000001\""},
    {"TIMESTAMP '2026-01-02 03:04:05'", "\"2026-01-02T03:04:05\""},
    {"TIMESTAMP '2026-01-02 03:04:05.678'", "\"2026-01-02T03:04:05.678\""},
    {"TIMESTAMP '2026-01-02 03:04:05.000001'", "\"2026-01-02T03:04:05.000001\""},
    {"TIMESTAMP '1969-12-31 23:59:59.999'", "\"1969-12-31T23:59:59.999\""},
    {"TIMESTAMP 'infinity'", "\"infinity\""},
    {"TIMESTAMPTZ '2026-01-02 03:04:05.25+00'", "\"2026-01-02T03:04:05.250\""},
    {"'2026-01-02 03:04:05'::TIMESTAMP_S", "\"2026-01-02T03:04:05\""},
    {"'2026-01-02 03:04:05.5'::TIMESTAMP_MS", "\"2026-01-02T03:04:05.500\""},
    {"'2026-01-02 03:04:05.000000001'::TIMESTAMP_NS", "\"2026-01-02T03:04:05.000000001\""},
    {"'1969-12-31 23:59:59.9'::TIMESTAMP_NS", "\"1969-12-31T23:59:59.900\""},
    {"INTERVAL '90 minutes'", "\"1 hours 30 mins\""},
    {"INTERVAL '1 month 3 days 4 seconds'", "\"1 mons 3 days 4.000000000 secs\""},
    {"INTERVAL '-1.5 seconds'", "\"-1.500000000 secs\""},
    {"INTERVAL '0 days'", "\"0 secs\""},
    {"INTERVAL '-2 months 3 hours'", "\"-2 mons 3 hours\""},
    {"INTERVAL '14 months'", "\"14 mons\""},
    {"uuid '12345678-9abc-def0-1234-56789abcdef0'", "\"12345678-9abc-def0-1234-56789abcdef0\""},
    {"'b'::ENUM('a', 'b')", "\"b\""},
    {"''", "\"\""},
    {"'short'", "\"short\""},
    {"'a text of more than twelve bytes'", "\"a text of more than twelve bytes\""},
    {"'say \"hi\" \\ /'", "\"say \\\"hi\\\" \\\\ /\""},
    {"'0123456' || chr(10) || '89abcdef' || chr(9) || '\"' || chr(13)", "\"0123456\\n89abcdef\\t\\\"\\r\""},
    {"chr(1) || chr(31) || chr(8) || chr(12) || chr(127)", "\"\\u0001\\u001f\\b\\f\x7f\""},
    {"'a' || chr(0) || 'b'", "\"a\\u0000b\""},
    {"chr(8232) || 'Ж😀'", "\"\xe2\x80\xa8Ж😀\""},
    {"'\\x00\\xFF\\x10'::BLOB", "\"00ff10\""},
    {"''::BLOB", "\"\""},
    {"[1, NULL, 3]", "[1,null,3]"},
    {"[]::INTEGER[]", "[]"},
    {"[[1.5::DOUBLE], NULL, []]", "[[1.5],null,[]]"},
    {"['a', 'b\"']", "[\"a\",\"b\\\"\"]"},
    {"['nan'::DOUBLE, NULL]", "[null,null]"},
    {"array_value(1, 2, 3)", "[1,2,3]"},
    {"{'a': 1, 'b': 'x', 'c': NULL::INTEGER}", "{\"a\":1,\"b\":\"x\"}"},
    {"{'a': NULL::INTEGER}", "{}"},
    {"[{'a': {'b': [1]}}, NULL]", "[{\"a\":{\"b\":[1]}},null]"},
    {"MAP {'a': 1, 'b': NULL, 'c\"': 3}", "{\"a\":1,\"c\\\"\":3}"},
    {"MAP {1: 'x', 2: 'y'}", "{\"1\":\"x\",\"2\":\"y\"}"},
    {"MAP {DATE '2026-01-02': 1}", "{\"2026-01-02\":1}"},
    {"MAP {['k\"']: 1}", "{\"[\\\"k\\\\\\\"\\\"]\":1}"},
    {"MAP {}::MAP(VARCHAR, INTEGER)", "{}"},
};

static void test_values(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        _cleanup_(freep) char *sql = mem_fmt("SELECT %s AS v", values[i].sql);
        _cleanup_(freep) char *want = mem_fmt("[{\"v\":%s}]", values[i].want);
        expect(sql, json, want);
    }
}

static const struct {
    const char *sql, *want;
} durations[] = {
    {"TIMESTAMP '2026-01-01 00:15:30.25' - TIMESTAMP '2026-01-01'", "PT930.25S"},
    {"TIMESTAMP '2026-01-02' - TIMESTAMP '2026-01-01'", "PT86400S"},
    {"TIMESTAMP '2026-01-01' - TIMESTAMP '2026-01-01'", "P0D"},
    {"TIMESTAMP '2026-01-01' - TIMESTAMP '2026-01-01 00:00:00.25'", "-PT0.25S"},
    {"TIMESTAMP '2026-01-01 00:00:00.000001' - TIMESTAMP '2026-01-01'", "PT0.000001S"},
    {"INTERVAL '2 days -1 second'", "PT172799S"},
};

static void test_durations(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(durations); i++) {
        _cleanup_(freep) char *sql = mem_fmt("SELECT %s AS duration", durations[i].sql);
        _cleanup_(freep) char *want = mem_fmt("[{\"duration\":\"%s\"}]", durations[i].want);
        expect(sql, json, want);
    }
}

/* ---- shapes of an answer */

#define THREE "SELECT i AS a, CASE WHEN i = 1 THEN NULL ELSE 'x' || i END AS \"b\"\"q\" FROM range(3) t(i)"
#define NONE "SELECT 1 AS a WHERE false"

static void test_json(void **state)
{
    (void)state;
    expect(THREE, json, "[{\"a\":0,\"b\\\"q\":\"x0\"},{\"a\":1},{\"a\":2,\"b\\\"q\":\"x2\"}]");
    expect(THREE, nulls, "[{\"a\":0,\"b\\\"q\":\"x0\"},{\"a\":1,\"b\\\"q\":null},{\"a\":2,\"b\\\"q\":\"x2\"}]");
    expect(THREE, fields,
           "{\"fields\":[\"a\",\"b\\\"q\"],\"records\":[{\"a\":0,\"b\\\"q\":\"x0\"},{\"a\":1},{\"a\":2,\"b\\\"q\":"
           "\"x2\"}]}");
    expect(NONE, json, "[]");
    expect(NONE, fields, "{\"fields\":[\"a\"],\"records\":[]}");
    expect("SELECT NULL AS a, NULL::INTEGER AS b", json, "[{}]");
    expect("SELECT NULL AS a, NULL::INTEGER AS b", nulls, "[{\"a\":null,\"b\":null}]");
    expect("SELECT NULL AS s, {'x': NULL::INTEGER} AS t", nulls, "[{\"s\":null,\"t\":{}}]");
}

static void test_ndjson(void **state)
{
    struct writer_options both = batches, line_fields = lines;
    (void)state;

    both.fields = line_fields.fields = true;
    expect(THREE, lines, "{\"a\":0,\"b\\\"q\":\"x0\"}\n{\"a\":1}\n{\"a\":2,\"b\\\"q\":\"x2\"}\n");
    expect(THREE, line_fields,
           "{\"fields\":[\"a\",\"b\\\"q\"]}\n{\"a\":0,\"b\\\"q\":\"x0\"}\n{\"a\":1}\n{\"a\":2,\"b\\\"q\":\"x2\"}\n");
    expect(THREE, batches, "[{\"a\":0,\"b\\\"q\":\"x0\"},{\"a\":1},{\"a\":2,\"b\\\"q\":\"x2\"}]\n");
    expect(THREE, both,
           "{\"fields\":[\"a\",\"b\\\"q\"]}\n[{\"a\":0,\"b\\\"q\":\"x0\"},{\"a\":1},{\"a\":2,\"b\\\"q\":\"x2\"}]\n");
    expect(NONE, lines, "");
    expect(NONE, batches, "");
}

/* Two columns of one name are one member, that of the last which has a value; `fields` has both. */
static void test_twins(void **state)
{
    (void)state;
    expect("SELECT 1 AS twin1, 0 AS z, 2 AS twin2", json, "[{\"z\":0,\"twin\":2}]");
    expect("SELECT 1 AS twin1, 2 AS twin2, NULL::INTEGER AS twin3", json, "[{\"twin\":2}]");
    expect("SELECT 1 AS twin1, NULL::INTEGER AS twin2, NULL::INTEGER AS twin3", nulls, "[{\"twin\":1}]");
    expect("SELECT NULL::INTEGER AS twin1, NULL::INTEGER AS twin2", nulls, "[{\"twin\":null}]");
    expect("SELECT NULL::INTEGER AS twin1, NULL::INTEGER AS twin2", json, "[{}]");
    expect("SELECT 1 AS twin1, 2 AS twin2", fields, "{\"fields\":[\"twin\",\"twin\"],\"records\":[{\"twin\":2}]}");
    expect("SELECT 1 AS twin1, 2 AS twin2", csv, "twin,twin\r\n1,2\r\n");
}

static void test_csv(void **state)
{
    (void)state;
    expect(THREE, csv, "a,\"b\"\"q\"\r\n0,x0\r\n1,\r\n2,x2\r\n");
    expect(NONE, csv, "a\r\n");
    expect("SELECT 'a,b' AS x, 'say \"hi\"' AS y, '' AS z, chr(10) AS w", csv,
           "x,y,z,w\r\n\"a,b\",\"say \"\"hi\"\"\",\"\",\"\n\"\r\n");
    expect("SELECT 1.5::DOUBLE AS f, 'nan'::DOUBLE AS n, '-inf'::DOUBLE AS i, 'inf'::FLOAT AS j, true AS t", csv,
           "f,n,i,j,t\r\n1.5,NaN,-Infinity,Infinity,true\r\n");
    expect("SELECT [1, 2] AS l, {'a': 'x'} AS s, [3] AS o, '\\xAB'::BLOB AS b, NULL AS u", csv,
           "l,s,o,b,u\r\n\"[1,2]\",\"{\"\"a\"\":\"\"x\"\"}\",[3],ab,\r\n");
    expect("SELECT NULL::INTEGER AS only", csv, "only\r\n\"\"\r\n");
    expect("SELECT TIMESTAMP '2026-01-02 03:04:05.678' AS t, DATE '2026-01-02' AS d", csv,
           "t,d\r\n2026-01-02T03:04:05.678,2026-01-02\r\n");
}

/* Lists whose entries share or skip items, over more than one chunk of the engine. */
static void test_many_rows(void **state)
{
    struct buf out = BUF_INIT, want = BUF_INIT;
    struct err err = {0};
    (void)state;

    assert_int_equal(answer("SELECT i AS n, repeat('é', (i % 20)::INT) AS t, CASE WHEN i % 3 = 0 THEN NULL ELSE [i, i "
                            "+ 1] END AS l FROM range(5000) r(i)",
                            lines, &out, &err),
                     ERR_OK);
    for (int i = 0; i < 5000; i++) {
        buf_fmt(&want, "{\"n\":%d,\"t\":\"", i);
        for (int k = 0; k < i % 20; k++)
            buf_str(&want, "é");
        if (i % 3)
            buf_fmt(&want, "\",\"l\":[%d,%d]}\n", i, i + 1);
        else
            buf_str(&want, "\"}\n");
    }
    assert_int_equal(out.len, want.len);
    assert_memory_equal(out.ptr, want.ptr, want.len);
    buf_done(&out);
    buf_done(&want);
}

/* A chunk of long rows leaves in pieces, each of about WRITER_PIECE_BYTES. */
static void test_pieces(void **state)
{
    static const struct writer_options *const formats[] = {&json, &lines, &csv, &batches, &arrow};
    const struct engine_query q = {.sql = "SELECT i, repeat('x', 200000) AS t FROM range(40) r(i)"};
    const struct gate_name names[] = {{.name = slice_lit("i")}, {.name = slice_lit("t")}};
    (void)state;

    for (size_t f = 0; f < ARRAY_LEN(formats); f++) {
        _cleanup_(engine_result_freep) struct engine_result *r = NULL;
        _cleanup_(writer_freep) struct writer *w = NULL;
        struct writer_options opt = *formats[f];
        const struct engine_field *columns;
        const struct engine_chunk *chunk;
        struct buf out = BUF_INIT;
        struct err err = {0};

        opt.names = names;
        opt.names_count = 2;
        assert_int_equal(engine_run(engine, &q, &r, &err), ERR_OK);
        uint32_t count = engine_result_fields(r, &columns);
        assert_int_equal(writer_new(&opt, columns, count, &w, &err), ERR_OK);
        assert_int_equal(engine_result_next(r, &chunk, &err), ERR_OK);
        assert_int_equal(chunk->rows, 40);
        for (uint64_t row = 0; row < chunk->rows;) {
            size_t before = out.len;
            assert_int_equal(writer_rows(w, chunk, &row, &out, &err), ERR_OK);
            assert_in_range(out.len - before, 1, opt.format == QUERY_ARROW ? 5u << 20 : WRITER_PIECE_BYTES + 201000);
        }
        assert_in_range(out.len, 40 * 200000, 40 * 201000);
        buf_done(&out);
    }
}

/* Each place of an escape in texts of each length, against the slow writer of base/. */
static void test_escapes_everywhere(void **state)
{
    static const char odd[] = "\"\\\n\t\x01\x1f\x7f";
    char text[64];
    (void)state;

    for (size_t len = 1; len < 40; len++) {
        struct buf sql = BUF_INIT, want = BUF_INIT;
        buf_str(&sql, "SELECT unnest([");
        buf_str(&want, "[");
        for (size_t at = 0; at < len; at++) {
            memset(text, 'a', len);
            text[at] = odd[at % (sizeof(odd) - 1)];
            text[len - 1 - at / 2] = odd[(at + len) % (sizeof(odd) - 1)];
            buf_fmt(&sql, "%s'%.*s'", at ? "," : "", (int)len, text);
            buf_str(&want, at ? ",{\"v\":" : "{\"v\":");
            buf_json_str(&want, slice_of(text, len));
            buf_str(&want, "}");
        }
        buf_str(&sql, "]) AS v");
        buf_str(&want, "]");
        expect(buf_cstr(&sql), json, buf_cstr(&want));
        buf_done(&sql);
        buf_done(&want);
    }
}

static void test_refused(void **state)
{
    static const char *const sql[] = {"SELECT '101'::BIT AS v", "SELECT [{'a': TIMETZ '10:00:00+01'}] AS v"};
    struct buf out = BUF_INIT;
    struct err err = {0};
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(sql); i++)
        assert_int_equal(answer(sql[i], json, &out, &err), ERR_INVALID);
    assert_int_equal(answer("SELECT 100000000000000000000000000000000000000::HUGEINT AS v", arrow, &out, &err),
                     ERR_INVALID);
    assert_non_null(strstr(err.msg, "column v has an integer of more than 38 digits"));
    buf_done(&out);
}

/* Messages of an Arrow stream, the schema's and the end included: each begins at a multiple of 64. */
static unsigned messages(const struct buf *b)
{
    unsigned n = 0;

    for (size_t at = 0; at + 8 <= b->len; at += 64)
        n += le32_get(b->ptr + at) == UINT32_MAX;
    return n;
}

/* A chunk of much text becomes several batches; a single row of more than 32-bit offsets can tell is refused. */
static void test_arrow_splits(void **state)
{
    static const char *const sql[] = {"SELECT 'twenty bytes of text' AS t FROM range(8)",
                                      "SELECT [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12] AS l FROM range(8)"};
    static const uint64_t max[] = {50, 30}; /* two rows each */
    struct buf out = BUF_INIT;
    struct err err = {0};
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(sql); i++) {
        arrow_batch_max = arrow_offset_max = 0;
        out.len = 0;
        assert_int_equal(answer(sql[i], arrow, &out, &err), ERR_OK);
        assert_int_equal(messages(&out), 3);
        arrow_batch_max = max[i];
        out.len = 0;
        assert_int_equal(answer(sql[i], arrow, &out, &err), ERR_OK);
        assert_int_equal(messages(&out), 6);
        arrow_batch_max = arrow_offset_max = 10;
        out.len = 0;
        assert_int_equal(answer(sql[i], arrow, &out, &err), ERR_LIMIT);
    }
    arrow_batch_max = arrow_offset_max = 0;
    buf_done(&out);
}

/* What stands in the place of a null is zeros, not what the engine's memory held. */
static void test_arrow_nulls_are_zero(void **state)
{
    static char name[] = "v";
    const struct engine_field field = {.name = name, .type = ENGINE_I64};
    const struct gate_name names[] = {{.name = slice_lit("v")}};
    const struct writer_options opt = {.format = QUERY_ARROW, .names = names, .names_count = 1};
    const uint64_t secret = UINT64_C(0x1122334455667788), valid[] = {UINT64_C(0xf0f0f0f0f0f0f0f0)};
    _cleanup_(writer_freep) struct writer *w = NULL;
    struct buf out = BUF_INIT;
    struct err err = {0};
    uint64_t numbers[64];
    unsigned found = 0;
    (void)state;

    for (size_t i = 0; i < 64; i++)
        numbers[i] = secret;
    struct engine_vector v = {.data = numbers, .valid = valid, .size = 64};
    const struct engine_chunk chunk = {.rows = 64, .columns = &v};
    assert_int_equal(writer_new(&opt, &field, 1, &w, &err), ERR_OK);
    assert_int_equal(writer_chunk(w, &chunk, &out, &err), ERR_OK);
    for (size_t at = 0; at + 8 <= out.len; at += 8)
        found += le64_get(out.ptr + at) == secret;
    assert_int_equal(found, 32);
    buf_done(&out);
}

static void test_content_types(void **state)
{
    (void)state;
    assert_string_equal(writer_content_type(&json), "application/json");
    assert_string_equal(writer_content_type(&batches), "application/x-ndjson");
    assert_string_equal(writer_content_type(&arrow), "application/vnd.apache.arrow.stream");
    assert_true(slice_starts(slice_str(writer_content_type(&csv)), slice_lit("text/csv")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),        cmocka_unit_test(test_durations),
        cmocka_unit_test(test_json),          cmocka_unit_test(test_ndjson),
        cmocka_unit_test(test_twins),         cmocka_unit_test(test_csv),
        cmocka_unit_test(test_many_rows),     cmocka_unit_test(test_escapes_everywhere),
        cmocka_unit_test(test_refused),       cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_arrow_splits),  cmocka_unit_test(test_arrow_nulls_are_zero),
        cmocka_unit_test(test_content_types),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
