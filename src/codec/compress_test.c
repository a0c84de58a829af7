/* compress_test.c: round trips in pieces, cuts, bombs, negotiation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "codec/compress.h"

static void test_round_trip(void **state)
{
    struct buf in = BUF_INIT;
    (void)state;

    for (unsigned i = 0; i < 20000; i++)
        buf_fmt(&in, "line %u of something that repeats\n", i * 7919);
    for (enum coding c = CODING_GZIP; c <= CODING_ZSTD; c++) {
        struct buf z = BUF_INIT, out = BUF_INIT;
        struct compressor *comp = compressor_new(c);
        struct err err;
        for (size_t at = 0; at < in.len; at += 50000)
            compressor_add(comp, slice_head(slice_from(buf_view(&in), at), 50000), at % 100000 == 0, false, &z);
        compressor_add(comp, (slice){0}, false, true, &z);
        compressor_free(comp);
        assert_true(z.len < in.len / 2);
        if (decompress(c, buf_view(&z), in.len, &out, &err) != ERR_OK)
            fail_msg("%s: %s", coding_name(c), err.msg);
        assert_true(slice_eq(buf_view(&in), buf_view(&out)));
        out.len = 0;
        assert_int_equal(decompress(c, buf_view(&z), in.len - 1, &out, &err), ERR_LIMIT);
        assert_true(out.cap < 4 * in.len);
        for (size_t cut = 0; cut < z.len; cut += z.len / 50 + 1) {
            out.len = 0;
            assert_int_equal(decompress(c, slice_of(z.ptr, cut), in.len, &out, &err), ERR_INVALID);
        }
        out.len = 0;
        assert_int_not_equal(decompress(c, slice_lit("[{\"a\":1}] not compressed at all"), in.len, &out, &err), ERR_OK);
        buf_done(&z);
        buf_done(&out);
    }
    buf_done(&in);
}

static void test_negotiate(void **state)
{
    static const struct {
        const char *accept;
        enum coding want;
    } rows[] = {{"", CODING_IDENTITY},
                {"gzip", CODING_GZIP},
                {"gzip, deflate, br, zstd", CODING_ZSTD},
                {"gzip;q=0.5, br;q=0.8", CODING_BROTLI},
                {"gzip;q=0", CODING_IDENTITY},
                {"identity, nonsense", CODING_IDENTITY},
                {"*", CODING_GZIP},
                {",,;q=1,gzip ; q=1", CODING_GZIP}};
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_int_equal(coding_negotiate(slice_str(rows[i].accept)), rows[i].want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip), cmocka_unit_test(test_negotiate)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
