/* decode_test.c: the contract's sections 2.2 to 2.6, 2.9 and 3.2 as tables: bodies sent to one dataset, and what is in it then.
 * Each table runs four ways (with and without the schema as a hint, with a decoder that saw other bodies and a fresh one) which must
 * give the same. Then random bodies against a slow model, and limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "decode/json_dump.h"
#include "decode/json_model.h"

struct stream {
    struct decoder *d;
    struct schema *schema;
    struct decode_options opt;
    struct decode_rules rules;
    bool hint, malformed;
    struct buf rows;
    uint64_t inexact;
    struct err err;
};

static struct stream stream_new(bool hint)
{
    struct stream s = {.d = decoder_new(), .schema = schema_empty(), .hint = hint};
    s.opt =
        (struct decode_options){.flatten_level = 10, .rows_max = 1000000, .bytes_max = 80u << 20, .columns_max = 1000};
    s.rules = (struct decode_rules){.p_timestamp_us = INT64_C(1767322800123000)};
    return s;
}

static void stream_done(struct stream *s)
{
    decoder_free(s->d);
    schema_unref(s->schema);
    buf_done(&s->rows);
}

static enum err_code send(struct stream *s, slice body)
{
    struct decoded *rows = NULL;
    struct schema *grown = NULL;
    struct batch *batch = NULL;
    enum err_code rc;
    uint8_t *exact = mem_alloc(body.len); /* a byte read too far is seen by the sanitizer */

    if (body.len)
        memcpy(exact, body.ptr, body.len);
    rc = decode_json(s->d, slice_of(exact, body.len), &s->opt, s->hint ? s->schema : NULL, &rows, &s->err);
    free(exact);
    s->malformed = decoder_malformed(s->d);
    TRY(rc);
    TRY(decode_resolve(rows, s->schema, &s->opt, &s->rules, &grown, &batch, &s->inexact, &s->err));
    dump_batch(&s->rows, batch, grown);
    s->rules.row_id_base += batch->rows;
    batch_unref(batch);
    schema_unref(s->schema);
    s->schema = grown;
    return ERR_OK;
}

struct table {
    const char *name;
    const char *bodies[10]; /* one beginning with '!' is refused */
    const char *rows;       /* in body order, one line each */
};

static const struct table tables[] = {
    {"objects", {"{\"a\":1,\"b\":{\"c\":\"x\"}}"}, "a=1 b_c=\"x\"\n"},
    {"array of scalars", {"{\"a\":1,\"t\":[\"x\",\"y\"]}"}, "a=1 t=\"x\"\na=1 t=\"y\"\n"},
    {"product, the first runs fastest",
     {"{\"i\":[{\"n\":1},{\"n\":2}],\"s\":[\"p\",\"q\"]}"},
     "i_n=1 s=\"p\"\ni_n=2 s=\"p\"\ni_n=1 s=\"q\"\ni_n=2 s=\"q\"\n"},
    {"three arrays",
     {"{\"x\":[1,2],\"y\":[\"a\",\"b\"],\"z\":[true,false]}"},
     "x=1 y=\"a\" z=true\nx=2 y=\"a\" z=true\nx=1 y=\"b\" z=true\nx=2 y=\"b\" z=true\n"
     "x=1 y=\"a\" z=false\nx=2 y=\"a\" z=false\nx=1 y=\"b\" z=false\nx=2 y=\"b\" z=false\n"},
    {"top array", {"[{\"a\":1},{\"b\":true}]"}, "a=1\nb=true\n"},
    {"empty list stays", {"{\"a\":1,\"xs\":[]}"}, "a=1 xs=[]\n"},
    {"arrays in arrays", {"{\"m\":[[1,2],[3]]}"}, "m=1\nm=2\nm=3\n"},
    {"nothing but empty arrays", {"{\"a\":1,\"m\":[[],[[]]]}"}, "a=1 m=[]\n"},
    {"empty arrays among others give no row", {"{\"a\":1,\"m\":[[],2,[[]],3]}"}, "a=1 m=2\na=1 m=3\n"},
    {"null item", {"{\"m\":[1,null,2]}"}, "m=1\n\nm=2\n"},
    {"mixed items", {"{\"m\":[1,\"x\",true]}"}, "m_int64=1\nm=\"x\"\nm_bool=true\n"},
    {"object and scalar", {"{\"m\":[{\"a\":1},5]}"}, "m_a=1\nm=5\n"},
    {"array inside an object",
     {"{\"o\":{\"list\":[{\"v\":1},{\"v\":2}],\"name\":\"n\"}}"},
     "o_list_v=1 o_name=\"n\"\no_list_v=2 o_name=\"n\"\n"},
    {"keys of items",
     {"{\"k\":[{\"x\":1,\"y\":\"a\"},{\"x\":2},{\"y\":\"c\"}]}"},
     "k_x=1 k_y=\"a\"\nk_x=2\nk_y=\"c\"\n"},
    {"later of two keys wins",
     {"[{\"a\":{\"b\":1},\"a_b\":2},{\"a_b\":2,\"a\":{\"b\":1}},{\"a_b\":2,\"a\":{\"b\":\"x\"}},{\"a_b\":2,\"a\":{"
      "\"b\":null}}]"},
     "a_b_int64=2\na_b_int64=1\na_b=\"x\"\n\n"},
    {"at sign",
     {"{\"@timestamp\":\"2026-01-02T03:04:05Z\",\"@version\":\"1\"}"},
     "_timestamp=2026-01-02T03:04:05 _version=\"1\"\n"},
    {"at sign collides",
     {"!{\"@a\":1,\"_a\":2}", "!{\"@a\":null,\"_a\":2}", "!{\"@a\":{\"b\":1},\"_a_b\":2}", "[{\"@a\":1},{\"_a\":2}]",
      "!{\"_a\":2,\"@a\":[3]}"},
     "_a=1\n_a=2\n"},
    {"empty object inside", {"{\"a\":1,\"o\":{}}"}, "a=1\n"},
    {"nothing at all", {"{}", "[{},{}]", "[]", "{\"o\":{\"p\":{}}}", " [ ] "}, ""},
    {"only null", {"{\"a\":null,\"b\":1}"}, "b=1\n"},
    {"odd keys",
     {"{\"\":1,\"a b\":2,\"A\":3,\"a\":4,\"q\\\"d\":5,\"\\u043a\":6,\"a.b\":7,\"a\\\\nb\":8,\"a\\nb\":9}",
      "{\"a\\nb\":9,\"a\\\\nb\":8}"},
     "=1 a b=2 A=3 a=4 q\"d=5 \xd0\xba=6 a.b=7 a\\nb=8 a\nb=9\na\\nb=8 a\nb=9\n"},
    {"depth 9 explodes",
     {"{\"1\":{\"2\":{\"3\":{\"4\":{\"5\":{\"6\":{\"7\":{\"8\":{\"t\":[\"p\",\"q\"],\"v\":1}}}}}}}}}"},
     "1_2_3_4_5_6_7_8_t=\"p\" 1_2_3_4_5_6_7_8_v=1\n1_2_3_4_5_6_7_8_t=\"q\" 1_2_3_4_5_6_7_8_v=1\n"},
    {"depth 10 does not",
     {"{\"1\":{\"2\":{\"3\":{\"4\":{\"5\":{\"6\":{\"7\":{\"8\":{\"9\":{\"t\":[\"p\",\"q\"],\"v\":1}}}}}}}}}}"},
     "1_2_3_4_5_6_7_8_9_t=[\"p\",\"q\"] 1_2_3_4_5_6_7_8_9_v=1\n"},
    {"one deep record stops all exploding",
     {"[{\"t\":[1,2]},{\"1\":{\"2\":{\"3\":{\"4\":{\"5\":{\"6\":{\"7\":{\"8\":{\"9\":{\"v\":1}}}}}}}}}}]"},
     "t=[1i,2i]\n1_2_3_4_5_6_7_8_9_v=1\n"},
    {"lists of objects, aligned",
     {"{\"d\":{\"1\":{\"2\":{\"3\":{\"4\":{\"5\":{\"6\":{\"7\":{\"8\":{\"9\":1}}}}}}}}},\"k\":[{\"x\":1},{\"x\":2.5,"
      "\"y\":\"b\"},null,{\"z\":{\"w\":[1,{}]}}],\"e\":[]}",
      "!{\"d\":{\"1\":{\"2\":{\"3\":{\"4\":{\"5\":{\"6\":{\"7\":{\"8\":{\"9\":1}}}}}}}}},\"k\":[{\"x\":1},5]}",
      "!{\"d\":{\"1\":{\"2\":{\"3\":{\"4\":{\"5\":{\"6\":{\"7\":{\"8\":{\"9\":1}}}}}}}}},\"k\":[true,5]}"},
     "d_1_2_3_4_5_6_7_8_9=1 k_x=[1,2.5,null,null] k_y=[null,\"b\",null,null] k_z_w=[null,null,null,\"[1,{}]\"] e=[]\n"},
    {"types", {"{\"i\":1,\"f\":1.5,\"b\":true,\"s\":\"x\",\"n\":null}"}, "i=1 f=1.5 b=true s=\"x\"\n"},
    {"time by name",
     {"{\"x_ts\":\"2026-01-02T03:04:05.678Z\",\"event\":\"2026-01-02T03:04:05.678Z\",\"WIDTH\":\"2026-01-02t03:04:"
      "05z\"}"},
     "x_ts=2026-01-02T03:04:05.678 event=\"2026-01-02T03:04:05.678Z\" WIDTH=2026-01-02T03:04:05\n"},
    {"time forms",
     {"{\"t1\":0,\"time_ns\":\"2026-01-02T03:04:05.678901234Z\",\"time_offset\":\"2026-01-02T03:04:05.9999+02:00\","
      "\"time_naive\":\"2026-01-02T03:04:05\","
      "\"time_date\":\"2026-01-02\",\"time_epoch\":1767322800,\"time_old\":\"0001-01-01T00:00:00.0019Z\",\"time_far\":"
      "\"10000-01-01T00:00:00Z\"}"},
     "t1=0 time_ns=2026-01-02T03:04:05.678 time_offset=2026-01-02T01:04:05.999 time_naive=\"2026-01-02T03:04:05\" "
     "time_date=\"2026-01-02\" "
     "time_epoch=1767322800 time_old=0001-01-01T00:00:00.001 time_far=\"10000-01-01T00:00:00Z\"\n"},
    {"RFC 2822 is read", {"{\"time\":\"Fri, 02 Jan 2026 03:04:05 +0000\"}"}, "time=2026-01-02T03:04:05\n"},
    {"times and other text first: text",
     {"[{\"start\":\"2026-01-02T03:04:05Z\"},{\"start\":\"soon\"}]", "{\"start\":\"2026-01-02T03:04:05Z\"}"},
     "start=\"2026-01-02T03:04:05Z\"\nstart=\"soon\"\nstart=\"2026-01-02T03:04:05Z\"\n"},
    {"a time column",
     {"{\"start\":\"2026-01-02T03:04:05Z\"}", "{\"start\":\"2026-01-02T03:04:05\"}",
      "{\"start\":\"2026-01-02 03:04:05.5\"}", "{\"start\":\"2026-01-02\"}", "{\"start\":1767322800000}",
      "[{\"start\":\"soon\"},{\"start\":true},{\"start\":\"2026-01-02T03:04:05.1234Z\"}]"},
     "start=2026-01-02T03:04:05\nstart=2026-01-02T03:04:05\nstart=2026-01-02T03:04:05.500\nstart_utf8=\"2026-01-"
     "02\"\nstart_int64=1767322800000\n"
     "start_utf8=\"soon\"\nstart_bool=true\nstart=2026-01-02T03:04:05.123\n"},
    {"a number column",
     {"{\"v\":1}", "[{\"v\":\"x\"},{\"v\":true},{\"v\":2.5}]", "{\"v\":null}", "{\"v\":[]}"},
     "v=1\nv_utf8=\"x\"\nv_bool=true\nv=2.5\n\nv_list=[]\n"},
    {"a text column",
     {"{\"v\":\"x\"}", "[{\"v\":1},{\"v\":1.5},{\"v\":18446744073709551615},{\"v\":1e30},{\"v\":\"y\"}]"},
     "v=\"x\"\nv_int64=1\nv_float64=1.5\nv_uint64=1.8446744073709552e+19\nv_float64=1e+30\nv=\"y\"\n"},
    {"a bool column",
     {"{\"v\":true}", "[{\"v\":1},{\"v\":\"true\"},{\"v\":false}]"},
     "v=true\nv_int64=1\nv_utf8=\"true\"\nv=false\n"},
    {"a list column", {"{\"v\":[]}", "{\"v\":\"x\"}", "{\"v\":[\"y\"]}"}, "v=[]\nv_utf8=\"x\"\nv_utf8=\"y\"\n"},
    {"mixed at once",
     {"[{\"v\":1},{\"v\":\"x\"},{\"v\":true},{\"v\":2.5}]"},
     "v_int64=1\nv=\"x\"\nv_bool=true\nv_float64=2.5\n"},
    {"mixed at once, no text", {"[{\"v\":1},{\"v\":true}]"}, "v_int64=1\nv_bool=true\n"},
    {"mixed at once, list", {"[{\"v\":1},{\"v\":[]},{\"v\":\"x\"}]"}, "v_int64=1\nv=[]\nv_utf8=\"x\"\n"},
    {"sibling taken", {"{\"v\":1,\"v_utf8\":5}", "!{\"v\":\"x\"}"}, "v=1 v_utf8=5\n"},
    {"sibling meets a field of its name",
     {"{\"v\":\"x\"}", "[{\"v\":1,\"v_int64\":2},{\"v\":3},{\"v_int64\":4}]"},
     "v=\"x\"\nv_int64=2\nv_int64=3\nv_int64=4\n"},
    {"p_timestamp",
     {"!{\"p_timestamp\":\"2026-01-02T03:04:05Z\"}", "!{\"p\":{\"timestamp\":1}}", "!{\"p_timestamp\":5}",
      "{\"a\":1,\"p_timestamp\":null}", "!{\"p_timestamp\":\"2026-01-02T03:04:05Z\"}",
      "[{\"p_timestamp\":\"soon\"},{\"p_timestamp\":5},{\"p_timestamp\":true}]"},
     "a=1\np_timestamp_utf8=\"soon\"\np_timestamp_int64=5\np_timestamp_bool=true\n"},
    {"scalars", {"!5", "!\"x\"", "!null", "![1,2]", "![{\"a\":1},5]", "![{\"a\":1},null]", "![[{\"a\":1}]]"}, ""},
    {"not JSON",
     {"!", "!{", "!{\"a\":1", "!{\"a\":NaN}", "![{\"a\":1},]", "!{\"a\":1}{\"a\":2}", "!{\"a\":1}\n{\"a\":2}",
      "!{\"a\":1e999}"},
     ""},
    {"duplicate keys",
     {"!{\"a\":1,\"a\":2}", "!{\"o\":{\"a\":1,\"a\":2}}", "!{\"l\":[{\"a\":1,\"\\u0061\":2}]}",
      "!{\"a\":1,\"b\":1,\"\\u0061\":2}"},
     ""},
    {"long and short text",
     {"{\"a\":\"123456789012\",\"b\":\"1234567890123\",\"c\":\"0123456789012345678901234567890123456789\\n\",\"d\":"
      "\"\"}"},
     "a=\"123456789012\" b=\"1234567890123\" c=\"0123456789012345678901234567890123456789\\n\" d=\"\"\n"},
    {"series hash", {"{\"__series_hash_u64\":18446744073709551615}"}, "__series_hash_u64=18446744073709551615u\n"},
    {"white space",
     {" [ { \"a\" : 1 , \"b\" : { \"c\" : \"x\" } } ,\r\n\t{ \"a\" : [ 2 , 3 ] } ] "},
     "a=1 b_c=\"x\"\na=2\na=3\n"},
};

static void run_table(const struct table *t, bool hint, struct decoder *warm)
{
    struct stream s = stream_new(hint);

    if (warm) {
        decoder_free(s.d);
        s.d = warm;
    }
    for (size_t i = 0; i < ARRAY_LEN(t->bodies) && t->bodies[i]; i++) {
        bool refused = t->bodies[i][0] == '!';
        enum err_code rc = send(&s, slice_str(t->bodies[i] + refused));
        if (refused ? rc != ERR_INVALID : rc != ERR_OK)
            fail_msg("%s: body %zu: %s (%s)", t->name, i, err_name(rc), rc ? s.err.msg : "");
    }
    if (strcmp(buf_cstr(&s.rows), t->rows) != 0)
        fail_msg("%s (hint %d, warm %d):\n%s--- expected\n%s", t->name, hint, warm != NULL, buf_cstr(&s.rows), t->rows);
    if (warm)
        s.d = NULL;
    stream_done(&s);
}

static void contract_tables(void **state)
{
    (void)state;
    struct decoder *warm = decoder_new();
    for (int round = 0; round < 3; round++)
        for (size_t i = 0; i < ARRAY_LEN(tables); i++) {
            run_table(&tables[i], round == 1, NULL);
            run_table(&tables[i], round != 1, warm);
        }
    decoder_free(warm);
}

static void malformed_is_told_apart(void **state)
{
    (void)state;
    struct stream s = stream_new(true);
    assert_int_equal(send(&s, slice_lit("[{\"a\":1},\n{\"b\":2,}]")), ERR_INVALID);
    assert_true(s.malformed);
    assert_non_null(strstr(s.err.msg, "at byte 17 (row 2)"));
    assert_int_equal(send(&s, slice_lit("[{\"a\":1},5]")), ERR_INVALID);
    assert_false(s.malformed);
    assert_non_null(strstr(s.err.msg, "(row 2)"));
    assert_int_equal(send(&s, slice_lit("{\"a\":1}")), ERR_OK);
    assert_int_equal(send(&s, slice_lit("[{\"a\":[1,2]},{\"a\":3},{\"p_timestamp\":\"2026-01-02T03:04:05Z\"}]")),
                     ERR_INVALID);
    assert_non_null(strstr(s.err.msg, "(row 3)"));
    stream_done(&s);
}

static void injected_columns(void **state)
{
    (void)state;
    const struct decode_pair pairs[] = {{slice_lit("p_src_ip"), slice_lit("203.0.113.7 and more")},
                                        {slice_lit("meta-host"), slice_lit("")}};
    struct stream s = stream_new(true);
    s.rules.pairs = pairs;
    s.rules.pairs_count = 2;
    assert_int_equal(send(&s, slice_lit("[{\"a\":1},{\"p_src_ip\":\"mine\"},{\"meta-host\":7},{\"p_src_ip\":null}]")),
                     ERR_OK);
    assert_int_equal(send(&s, slice_lit("{}")), ERR_OK);
    assert_int_equal(send(&s, slice_lit("[]")), ERR_OK);
    assert_string_equal(buf_cstr(&s.rows), "a=1 p_src_ip=\"203.0.113.7 and more\" meta-host_utf8=\"\"\n"
                                           "p_src_ip=\"mine\" meta-host_utf8=\"\"\n"
                                           "p_src_ip=\"203.0.113.7 and more\" meta-host=7 meta-host_utf8=\"\"\n"
                                           "p_src_ip=\"203.0.113.7 and more\" meta-host_utf8=\"\"\n");
    stream_done(&s);
}

static void batch_shape(void **state)
{
    (void)state;
    struct decoder *d = decoder_new();
    struct decode_options opt = {.flatten_level = 10};
    struct decode_rules rules = {.p_timestamp_us = 5000, .row_id_base = 77};
    struct schema *schema = schema_empty(), *grown;
    struct decoded *rows;
    struct batch *b;
    uint64_t inexact;
    assert_int_equal(
        decode_json(d, slice_lit("[{\"n\":9007199254740993},{\"n\":1},{\"n\":-9007199254740993},{\"n\":1e20}]"), &opt,
                    schema, &rows, NULL),
        ERR_OK);
    assert_int_equal(decoded_rows(rows), 4);
    assert_int_equal(decode_resolve(rows, schema, &opt, &rules, &grown, &b, &inexact, NULL), ERR_OK);
    assert_int_equal(inexact, 2);
    assert_int_equal(b->rows, 4);
    assert_int_equal(b->columns[0]->field, 0);
    assert_int_equal(((int64_t *)b->columns[0]->values)[3], 5000);
    assert_int_equal(((int64_t *)batch_column(b, FIELD_ROW_ID)->values)[3], 80);
    assert_false(b->columns[0]->has_nulls);
    assert_int_equal(schema_count(grown), 2);
    assert_int_equal(schema_count(schema), 1);
    batch_unref(b);
    schema_unref(schema);
    schema_unref(grown);
    decoder_free(d);
}

static void newline_delimited(void **state)
{
    (void)state;
    struct stream s = stream_new(true);
    s.opt.newline_delimited = true;
    assert_int_equal(send(&s, slice_lit("{\"a\":1}\n\n  {\"a\":[2,3]}\r\n{\"a\":4}")), ERR_OK);
    assert_int_equal(send(&s, slice_lit("")), ERR_OK);
    assert_string_equal(buf_cstr(&s.rows), "a=1\na=2\na=3\na=4\n");
    assert_int_equal(send(&s, slice_lit("{\"a\":1} {\"a\":2}")), ERR_INVALID);
    assert_int_equal(send(&s, slice_lit("{\"a\":1}\n[{\"a\":1}]")), ERR_INVALID);
    stream_done(&s);
}

static void objects_only(void **state)
{
    (void)state;
    struct stream s = stream_new(true);
    s.opt.flatten = DECODE_OBJECTS_ONLY;
    assert_int_equal(send(&s, slice_lit("[{\"a\":[1,2]},{\"a\":[1.5]},{\"a\":[]},{\"a\":[null]}]")), ERR_OK);
    assert_int_equal(send(&s, slice_lit("[{\"a\":[3]},{\"a\":[\"x\"]},{\"a\":4}]")), ERR_OK);
    assert_string_equal(buf_cstr(&s.rows), "a=[1,2]\na=[1.5]\na=[]\na=[null]\na=[3]\na_list=[\"x\"]\na_int64=4\n");
    stream_done(&s);
}

static void limits(void **state)
{
    (void)state;
    _cleanup_(buf_done) struct buf b = BUF_INIT, many = BUF_INIT, deep = BUF_INIT;
    struct stream s = stream_new(true);

    buf_byte(&b, '{'); /* 100^8 rows from a few hundred bytes */
    for (int i = 0; i < 8; i++) {
        buf_fmt(&b, "%s\"k%d\":[0", i ? "," : "", i);
        for (int n = 1; n < 100; n++)
            buf_str(&b, ",0");
        buf_byte(&b, ']');
    }
    buf_byte(&b, '}');
    assert_int_equal(send(&s, buf_view(&b)), ERR_LIMIT);
    assert_non_null(strstr(s.err.msg, "(row 1)"));

    s.opt.rows_max = 3;
    assert_int_equal(send(&s, slice_lit("[{\"a\":1},{\"a\":1},{\"a\":1}]")), ERR_OK);
    assert_int_equal(send(&s, slice_lit("[{\"a\":1},{\"a\":1},{\"a\":1},{\"a\":1}]")), ERR_LIMIT);
    assert_int_equal(send(&s, slice_lit("[{\"a\":1},{\"a\":[1,2,3]}]")), ERR_LIMIT);
    s.opt.rows_max = 1000000;

    b.len = 0; /* 1,000 rows that each repeat a text of 100 KB */
    buf_str(&b, "{\"s\":\"");
    for (int i = 0; i < 100000; i++)
        buf_byte(&b, 'x');
    buf_str(&b, "\",\"k\":[0");
    for (int n = 1; n < 1000; n++)
        buf_str(&b, ",0");
    buf_str(&b, "]}");
    assert_int_equal(send(&s, buf_view(&b)), ERR_LIMIT);

    b.len = 0; /* ever new columns */
    buf_byte(&b, '[');
    for (int i = 0; i < 2000; i++) {
        buf_fmt(&b, "%s{\"c%d\":0}", i ? "," : "", i);
        if (i == 998) {
            buf_slice(&many, buf_view(&b));
            buf_byte(&many, ']');
        }
    }
    buf_byte(&b, ']');
    assert_int_equal(send(&s, buf_view(&b)), ERR_INVALID);
    assert_int_equal(send(&s, buf_view(&many)), ERR_INVALID); /* 999, p_timestamp and the one there is */
    s.opt.columns_max = 1001;
    assert_int_equal(send(&s, buf_view(&many)), ERR_OK);
    assert_int_equal(send(&s, slice_lit("{\"another\":1}")), ERR_INVALID);
    s.opt.columns_max = 1000;
    assert_int_equal(send(&s, slice_lit("{\"a\":1}")), ERR_OK); /* over the limit already, but it adds none */

    for (int i = 0; i < 200; i++)
        buf_str(&deep, "{\"a\":");
    assert_int_equal(send(&s, buf_view(&deep)), ERR_INVALID);
    assert_non_null(strstr(s.err.msg, "too deeply"));
    stream_done(&s);
}

/* Keys without end: refused before they fill the memory, whatever the decoder held before. */
static void endless_keys(void **state)
{
    (void)state;
    _cleanup_(buf_done) struct buf b = BUF_INIT;
    struct stream s = stream_new(true);
    buf_byte(&b, '{');
    for (int i = 0; i < 600000; i++)
        buf_fmt(&b, "%s\"%d\":{}", i ? "," : "", i);
    buf_byte(&b, '}');
    for (int round = 0; round < 2; round++) {
        assert_int_equal(send(&s, buf_view(&b)), ERR_INVALID);
        assert_non_null(strstr(s.err.msg, "too many different keys"));
        assert_int_equal(send(&s, slice_lit("{\"a\":1}")), ERR_OK);
    }
    b.len = 0; /* a long name in a long name in ... */
    for (int i = 0; i < 100; i++) {
        buf_str(&b, "{\"");
        for (int k = 0; k < 10000; k++)
            buf_byte(&b, 'k');
        buf_str(&b, "\":");
    }
    assert_int_equal(send(&s, buf_view(&b)), ERR_INVALID);
    assert_non_null(strstr(s.err.msg, "longer than"));
    stream_done(&s);
}

static void custom_partition(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        bool ok;
    } cases[] = {
        {"{\"level\":\"info\",\"m\":1}", true},
        {"{\"level\":7}", true},
        {"{\"level\":true}", true},
        {"{\"level\":-3}", true},
        {"{\"level\":\"a b\"}", true},
        {"{\"level\":\"a/b\"}", true},
        {"{\"level\":[\"a\",\"b\"]}", true},
        {"{\"m\":1}", false},
        {"{\"level\":\"\"}", false},
        {"{\"level\":\"a.b\"}", false},
        {"{\"level\":null}", false},
        {"{\"level\":1.5}", false},
        {"{\"level\":[]}", false},
        {"{\"level\":{\"a\":1}}", false},
        {"[]", false},
        {"{}", false},
        {"[{}]", false},
        {"[{\"level\":\"ok\"},{\"m\":1}]", false},
        {"{\"level\":[\"a\",null]}", false},
    };
    struct stream s = stream_new(true);
    s.rules.custom_partition = slice_lit("level");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if ((send(&s, slice_str(cases[i].body)) == ERR_OK) != cases[i].ok)
            fail_msg("%s", cases[i].body);
    stream_done(&s);
}

static void static_schema(void **state)
{
    (void)state;
    static const char def[] = "{\"fields\":[{\"name\":\"i\",\"data_type\":\"int\"},{\"name\":\"f\",\"data_type\":"
                              "\"float\"},{\"name\":\"t\",\"data_type\":\"string\"},"
                              "{\"name\":\"b\",\"data_type\":\"boolean\"},{\"name\":\"d\",\"data_type\":\"date\"},{"
                              "\"name\":\"dt\",\"data_type\":\"datetime\"},"
                              "{\"name\":\"l\",\"data_type\":\"int_list\"}]}";
    static const char *const good[] = {"{\"i\":1}",
                                       "{\"f\":1.5}",
                                       "{\"f\":2}",
                                       "{\"i\":9007199254740993,\"f\":2.5,\"t\":\"x\",\"b\":true}",
                                       "{\"dt\":\"2026-01-02T03:04:05Z\"}",
                                       "{\"d\":\"2026-01-02\"}",
                                       "{\"d\":\"1969-12-31T23:00:00Z\"}",
                                       "{}",
                                       "{\"i\":null,\"t\":null}",
                                       "[{\"i\":\"12\"},{\"i\":-5}]",
                                       "[{\"f\":\"1.25\"},{\"f\":7}]",
                                       "{\"l\":[]}",
                                       "[]"};
    static const char *const bad[] = {"{\"i\":1.5}",
                                      "{\"t\":5}",
                                      "{\"b\":\"true\"}",
                                      "{\"zzz\":1}",
                                      "{\"zzz\":null}",
                                      "{\"t\":{\"a\":1}}",
                                      "{\"dt\":\"yesterday\"}",
                                      "{\"i\":\"twelve\"}",
                                      "{\"i\":\"1.5\"}",
                                      "{\"i\":18446744073709551615}",
                                      "{\"p_timestamp\":\"2026-01-02T03:04:05Z\"}",
                                      "{\"p_timestamp\":5}",
                                      "{\"d\":\"never\"}",
                                      "{\"f\":\"1.5x\"}",
                                      "{\"f\":\"\"}",
                                      "{\"f\":\"NaN\"}"};
    const struct decode_pair pair = {slice_lit("p_src_ip"), slice_lit("1.2.3.4")};
    for (int hint = 0; hint < 2; hint++) {
        struct stream s = stream_new(hint);
        schema_unref(s.schema);
        assert_int_equal(decode_static_schema(slice_str(def), (slice){0}, &s.schema, NULL), ERR_OK);
        s.rules.static_schema = true;
        s.rules.pairs = &pair;
        s.rules.pairs_count = 1;
        for (size_t i = 0; i < ARRAY_LEN(good); i++)
            if (send(&s, slice_str(good[i])) != ERR_OK)
                fail_msg("%s: %s", good[i], s.err.msg);
        for (size_t i = 0; i < ARRAY_LEN(bad); i++)
            if (send(&s, slice_str(bad[i])) != ERR_INVALID)
                fail_msg("%s: accepted", bad[i]);
        assert_int_equal(schema_count(s.schema), 8);
        assert_string_equal(
            buf_cstr(&s.rows),
            "i=1i\nf=1.5\nf=2\ni=9007199254740993i f=2.5 t=\"x\" b=true\ndt=2026-01-02T03:04:05\nd=2026-01-02\n"
            "d=1969-12-31\n\n\ni=12i\ni=-5i\nf=1.25\nf=7\nl=[]\n");
        stream_done(&s);
    }
}

static void static_schema_bodies(void **state)
{
    (void)state;
    static const struct {
        const char *body, *partition;
        enum err_code rc;
    } cases[] = {
        {"{\"fields\":[]}", "", ERR_OK},
        {"{\"fields\":[{\"name\":\"a\",\"data_type\":\"int\"}]}", "a", ERR_OK},
        {"{", "", ERR_INVALID},
        {"{\"columns\":[]}", "", ERR_INVALID},
        {"[]", "", ERR_INVALID},
        {"{\"fields\":5}", "", ERR_INVALID},
        {"{\"fields\":[{\"name\":\"a\"}]}", "", ERR_INVALID},
        {"{\"fields\":[5]}", "", ERR_INVALID},
        {"", "", ERR_CORRUPT},
        {"{\"fields\":[{\"name\":\"a\",\"data_type\":\"decimal\"}]}", "", ERR_CORRUPT},
        {"{\"fields\":[{\"name\":\"\",\"data_type\":\"int\"}]}", "", ERR_CORRUPT},
        {"{\"fields\":[{\"name\":\"p_timestamp\",\"data_type\":\"datetime\"}]}", "", ERR_CORRUPT},
        {"{\"fields\":[{\"name\":\"a\",\"data_type\":\"int\"},{\"name\":\"a\",\"data_type\":\"string\"}]}", "",
         ERR_CORRUPT},
        {"{\"fields\":[{\"name\":\"a\",\"data_type\":\"int\"}]}", "b", ERR_CORRUPT},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct schema *s = NULL;
        struct err err;
        if (decode_static_schema(slice_str(cases[i].body), slice_str(cases[i].partition), &s, &err) != cases[i].rc)
            fail_msg("%s", cases[i].body);
        schema_unref(s);
    }
}

static void detect(void **state)
{
    (void)state;
    static const struct {
        const char *body, *fields; /* name:type; NULL: refused */
    } cases[] = {
        {"{\"level\":\"info\",\"n\":1,\"ok\":true,\"when_time\":\"2026-01-02T03:04:05Z\",\"xs\":[1,2],\"o\":{\"p\":{"
         "\"q\":\"x\"}},\"nothing\":null}",
         "level:Utf8 n:Float64 ok:Boolean when_time:Timestamp xs:Float64 o_p_q:Utf8 nothing:Null "},
        {"[{\"a\":1},{\"b\":\"x\"}]", "a:Float64 b:Utf8 "},
        {"[{\"a\":1},{\"a\":\"x\"}]", "a:Utf8 "},
        {"[{\"a\":1},{\"a\":2.5}]", "a:Float64 "},
        {"[{\"a\":2.5},{\"a\":true}]", "a:Utf8 "},
        {"{\"p_timestamp\":\"2026-01-02T03:04:05Z\"}", "p_timestamp:Timestamp "},
        {"{}", ""},
        {"[]", ""},
        {"{\"xs\":[]}", "xs:List "},
        {"{\"xs\":[{\"a\":1},{\"b\":\"x\"}]}", "xs_a:Float64 xs_b:Utf8 "},
        {"{\"@timestamp\":\"2026-01-02T03:04:05Z\"}", "_timestamp:Timestamp "},
        {"{\"1\":{\"2\":{\"3\":{\"4\":{\"5\":{\"6\":{\"7\":{\"8\":{\"9\":{\"10\":\"x\"}}}}}}}}}}", NULL},
        {"5", NULL},
        {"{", NULL},
        {"[{\"time\":\"2026-01-02T03:04:05Z\"},{\"time\":\"soon\"}]", "time:Utf8 "},
    };
    struct decode_options opt = {.flatten_level = 10, .columns_max = 1000, .allow_reserved = true};
    struct decoder *d = decoder_new();
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        _cleanup_(buf_done) struct buf out = BUF_INIT, got = BUF_INIT;
        struct err err;
        enum err_code rc = decode_detect(d, slice_str(cases[i].body), &opt, &out, &err);
        assert_int_equal(rc, cases[i].fields ? ERR_OK : ERR_INVALID);
        if (rc != ERR_OK)
            continue;
        json_t *t = json_loads(buf_cstr(&out), 0, NULL), *field;
        size_t k;
        assert_non_null(t);
        json_array_foreach (json_object_get(t, "fields"), k, field) {
            json_t *type = json_object_get(field, "data_type");
            buf_fmt(&got, "%s:%s ", json_string_value(json_object_get(field, "name")),
                    json_is_string(type) ? json_string_value(type) : json_object_iter_key(json_object_iter(type)));
        }
        json_decref(t);
        assert_string_equal(buf_cstr(&got), cases[i].fields);
    }
    decoder_free(d);
}

static uint64_t seed = 0x9e3779b97f4a7c15u;
static uint64_t rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

static void random_event(struct buf *b, int depth)
{
    static const char *const keys[] = {"a", "b",        "_a", "@a", "a_b", "start", "", "long_key_number_one",
                                       "c", "k\\u00e9y"};
    static const char *const values[] = {"1",
                                         "2.5",
                                         "true",
                                         "null",
                                         "\"x\"",
                                         "\"a longer text than twelve\"",
                                         "\"2026-01-02T03:04:05Z\"",
                                         "[]",
                                         "{}",
                                         "18446744073709551615"};
    uint64_t from = rnd() % 10, n = rnd() % 5;

    buf_byte(b, '{');
    for (uint64_t i = 0; i < n; i++) {
        buf_fmt(b, "%s\"%s\":%s", i ? "," : "", keys[(from + i) % 10], rnd() % 4 ? "" : " ");
        uint64_t kind = rnd() % 10;
        if (kind < 2 && depth) {
            random_event(b, depth - 1);
        } else if (kind == 2) {
            buf_byte(b, '[');
            for (uint64_t k = rnd() % 4, first = 1; k > 0; k--, first = 0) {
                if (!first)
                    buf_byte(b, ',');
                if (rnd() % 3 == 0 && depth)
                    random_event(b, depth - 1);
                else
                    buf_str(b, values[rnd() % ARRAY_LEN(values)]);
            }
            buf_byte(b, ']');
        } else {
            buf_str(b, values[rnd() % ARRAY_LEN(values)]);
        }
    }
    buf_byte(b, '}');
}

static void agrees_with_the_model(void **state)
{
    (void)state;
    struct decoder *d = decoder_new();
    for (int i = 0; i < 20000; i++) {
        _cleanup_(buf_done) struct buf b = BUF_INIT;
        buf_byte(&b, '[');
        for (uint64_t n = rnd() % 6, first = 1; n > 0; n--, first = 0) {
            if (!first)
                buf_byte(&b, ',');
            random_event(&b, 3);
        }
        buf_byte(&b, ']');
        if (!decoder_agrees(d, buf_view(&b), 4))
            fail_msg("%.*s", (int)b.len, (const char *)b.ptr);
    }
    decoder_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contract_tables),
        cmocka_unit_test(malformed_is_told_apart),
        cmocka_unit_test(injected_columns),
        cmocka_unit_test(batch_shape),
        cmocka_unit_test(newline_delimited),
        cmocka_unit_test(objects_only),
        cmocka_unit_test(limits),
        cmocka_unit_test(endless_keys),
        cmocka_unit_test(custom_partition),
        cmocka_unit_test(static_schema),
        cmocka_unit_test(static_schema_bodies),
        cmocka_unit_test(detect),
        cmocka_unit_test(agrees_with_the_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
