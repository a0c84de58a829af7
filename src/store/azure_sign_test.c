/* azure_sign_test.c: the strings to sign that "Authorize with Shared Key" of Azure Storage prints, a signature of the account that every emulator
 * has, computed by hand (HMAC-SHA-256 of the string, by openssl), and dates. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "store/azure_sign.h"

#define EMULATOR_KEY "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

struct vector {
    const char *method, *path, *query, *want;
    uint64_t body_len;
    struct exchange_header headers[6];
};

static const struct vector vectors[] = {
    {.method = "GET",
     .path = "/mycontainer",
     .query = "comp=metadata&restype=container&timeout=20",
     .want = "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-version:2015-02-21\n"
             "/myaccount/mycontainer\ncomp:metadata\nrestype:container\ntimeout:20",
     .headers = {{"x-ms-date", slice_lit("Fri, 26 Jun 2015 23:39:12 GMT")}, {"x-ms-version", slice_lit("2015-02-21")}}},
    {.method = "PUT",
     .path = "/c/p/a%3D1/x",
     .query = "blockid=YWE%3D&comp=block",
     .body_len = 11,
     .want = "PUT\n\n\n11\nXrY7u+Ae7tCTyyK7j1rNww==\n\n\n\n\n*\n\nbytes=0-9\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\n"
             "x-ms-meta-sluice_nonce:ab\n/myaccount/c/p/a%3D1/x\nblockid:YWE=\ncomp:block",
     .headers = {{"content-md5", slice_lit("XrY7u+Ae7tCTyyK7j1rNww==")},
                 {"if-none-match", slice_lit("*")},
                 {"range", slice_lit("bytes=0-9")},
                 {"x-ms-date", slice_lit("Fri, 26 Jun 2015 23:39:12 GMT")},
                 {"x-ms-meta-sluice_nonce", slice_lit("ab")}}},
};

static struct azure_request request_of(const struct vector *v)
{
    struct azure_request r = {.method = v->method,
                              .path = slice_str(v->path),
                              .query = slice_str(v->query),
                              .body_len = v->body_len,
                              .headers = v->headers};
    while (r.headers_count < ARRAY_LEN(v->headers) && v->headers[r.headers_count].name)
        r.headers_count++;
    return r;
}

static void test_strings(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
        const struct azure_request r = request_of(&vectors[i]);
        _cleanup_(buf_done) struct buf out = BUF_INIT;
        azure_string_to_sign(&r, slice_lit("myaccount"), &out);
        assert_string_equal(buf_cstr(&out), vectors[i].want);
    }
}

static void test_signature(void **state)
{
    const struct azure_request r = request_of(&vectors[0]);
    _cleanup_(buf_done) struct buf out = BUF_INIT;

    (void)state;
    assert_int_equal(azure_sign(&r, slice_lit("myaccount"), slice_lit(EMULATOR_KEY), &out, NULL), ERR_OK);
    assert_string_equal(buf_cstr(&out), "SharedKey myaccount:1u9lui2jDxj0+fpbHjQ5m5NnastJRSYM+PSmfi8TXx4=");
    assert_int_equal(azure_sign(&r, slice_lit("myaccount"), slice_lit("no base64"), &out, NULL), ERR_INVALID);
    assert_int_equal(azure_sign(&r, slice_lit("myaccount"), slice_lit(""), &out, NULL), ERR_INVALID);
    assert_int_equal(azure_sign(&r, slice_lit("myaccount"), slice_lit("????"), &out, NULL), ERR_INVALID);
}

static void test_dates(void **state)
{
    static const struct {
        int64_t unix_s;
        const char *text;
    } cases[] = {{0, "Thu, 01 Jan 1970 00:00:00 GMT"},
                 {784111777, "Sun, 06 Nov 1994 08:49:37 GMT"}, /* RFC 9110, 5.6.7 */
                 {1435361952, "Fri, 26 Jun 2015 23:39:12 GMT"},
                 {-1, "Wed, 31 Dec 1969 23:59:59 GMT"}};
    char out[AZURE_DATE_TEXT + 1];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        azure_date(cases[i].unix_s * 1000000, out);
        assert_string_equal(out, cases[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_signature),
        cmocka_unit_test(test_dates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
