/* record_test.c: decode(encode(x)) == x, and every cut of it is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "stage/lake_int.h"

static void test_round_trip(void **state)
{
    struct decode_pair pairs[] = {{slice_lit("p_src_ip"), slice_lit("127.0.0.1")}, {slice_lit("k"), slice_lit("")}};
    struct record in = {.name = slice_lit("app"),
                        .newline_delimited = true,
                        .flatten = DECODE_OBJECTS_ONLY,
                        .flatten_level = 7,
                        .p_timestamp_us = -5000,
                        .pairs = pairs,
                        .pairs_count = 2,
                        .body = slice_lit("{\"a\":1}")};
    struct arena arena = ARENA_INIT;
    struct buf b = BUF_INIT;
    struct record out;
    struct err err;
    (void)state;

    memcpy(in.sid.text, "01kjvktcgre5t2x7w4c6h0ryaq", 27);
    record_encode(&in, &b);
    buf_slice(&b, in.body);
    assert_int_equal(record_decode(buf_view(&b), &arena, &out, &err), ERR_OK);
    assert_true(slice_eq(out.name, in.name) && slice_eq(out.body, in.body));
    assert_memory_equal(out.sid.text, in.sid.text, 26);
    assert_true(out.newline_delimited && !out.internal);
    assert_int_equal(out.flatten, DECODE_OBJECTS_ONLY);
    assert_int_equal(out.flatten_level, 7);
    assert_int_equal(out.p_timestamp_us, -5000);
    assert_int_equal(out.pairs_count, 2);
    assert_true(slice_eq(out.pairs[0].value, pairs[0].value) && slice_eq(out.pairs[1].name, pairs[1].name));
    for (size_t len = 0; len < b.len; len++)
        assert_int_equal(record_decode(slice_of(b.ptr, len), &arena, &out, &err), ERR_CORRUPT);
    buf_done(&b);
    arena_done(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
