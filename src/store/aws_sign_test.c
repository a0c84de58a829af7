/* aws_sign_test.c: the signatures that AWS publishes: its Signature Version 4 test suite, and the examples of the S3 API Reference
 * ("Signature Calculations for the Authorization Header: Transferring Payload in a Single Chunk"). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "store/aws_sign.h"

#define EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

struct vector {
    const char *what, *secret, *access, *service, *method, *path, *query, *time, *payload, *signature;
    const char *headers[8][2];
};

static const struct vector vectors[] = {
    {"suite: get-vanilla",
     "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
     "AKIDEXAMPLE",
     "service",
     "GET",
     "/",
     "",
     "20150830T123600Z",
     EMPTY_SHA256,
     "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
     {{"host", "example.amazonaws.com"}, {"x-amz-date", "20150830T123600Z"}}},
    {"suite: get-header-key-duplicate",
     "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
     "AKIDEXAMPLE",
     "service",
     "GET",
     "/",
     "",
     "20150830T123600Z",
     EMPTY_SHA256,
     "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
     {{"host", "example.amazonaws.com"}, {"my-header1", "value2,value2,value1"}, {"x-amz-date", "20150830T123600Z"}}},
    {"suite: get-header-value-multiline",
     "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
     "AKIDEXAMPLE",
     "service",
     "GET",
     "/",
     "",
     "20150830T123600Z",
     EMPTY_SHA256,
     "ba17b383a53190154eb5fa66a1b836cc297cc0a3d70a5d00705980573d8ff790",
     {{"host", "example.amazonaws.com"}, {"my-header1", "value1,value2,value3"}, {"x-amz-date", "20150830T123600Z"}}},
    {"S3: GET of a range",
     "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
     "AKIAIOSFODNN7EXAMPLE",
     "s3",
     "GET",
     "/test.txt",
     "",
     "20130524T000000Z",
     EMPTY_SHA256,
     "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
     {{"host", "examplebucket.s3.amazonaws.com"},
      {"range", "bytes=0-9"},
      {"x-amz-content-sha256", EMPTY_SHA256},
      {"x-amz-date", "20130524T000000Z"}}},
    {"S3: PUT of an object",
     "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
     "AKIAIOSFODNN7EXAMPLE",
     "s3",
     "PUT",
     "/test%24file.text",
     "",
     "20130524T000000Z",
     "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
     "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
     {{"date", "Fri, 24 May 2013 00:00:00 GMT"},
      {"host", "examplebucket.s3.amazonaws.com"},
      {"x-amz-content-sha256", "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"},
      {"x-amz-date", "20130524T000000Z"},
      {"x-amz-storage-class", "REDUCED_REDUNDANCY"}}},
    {"S3: GET of a parameter without a value",
     "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
     "AKIAIOSFODNN7EXAMPLE",
     "s3",
     "GET",
     "/",
     "lifecycle=",
     "20130524T000000Z",
     EMPTY_SHA256,
     "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
     {{"host", "examplebucket.s3.amazonaws.com"},
      {"x-amz-content-sha256", EMPTY_SHA256},
      {"x-amz-date", "20130524T000000Z"}}},
    {"S3: list of objects",
     "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
     "AKIAIOSFODNN7EXAMPLE",
     "s3",
     "GET",
     "/",
     "max-keys=2&prefix=J",
     "20130524T000000Z",
     EMPTY_SHA256,
     "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
     {{"host", "examplebucket.s3.amazonaws.com"},
      {"x-amz-content-sha256", EMPTY_SHA256},
      {"x-amz-date", "20130524T000000Z"}}},
};

static void test_published(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
        const struct vector *v = &vectors[i];
        const struct aws_keys keys = {slice_str(v->access), slice_str(v->secret), {NULL, 0}};
        _cleanup_(buf_done) struct buf out = BUF_INIT;
        struct aws_header headers[8];
        struct aws_request r = {slice_str(v->method), slice_str(v->path), slice_str(v->query), headers, 0, {0}};
        for (; r.headers_count < 8 && v->headers[r.headers_count][0]; r.headers_count++)
            headers[r.headers_count] =
                (struct aws_header){v->headers[r.headers_count][0], slice_str(v->headers[r.headers_count][1])};
        memcpy(r.payload, v->payload, SHA256_HEX + 1);
        aws_sign(&r, &keys, slice_lit("us-east-1"), slice_str(v->service), v->time, &out);
        const char *at = strstr(buf_cstr(&out), ", Signature=");
        assert_non_null(at);
        if (strcmp(at + strlen(", Signature="), v->signature) != 0)
            fail_msg("%s: %s, not %s", v->what, at, v->signature);
    }
}

static void test_whole_header(void **state)
{
    const struct aws_keys keys = {slice_lit("AKID"), slice_lit("secret"), {NULL, 0}};
    const struct aws_header headers[] = {{"host", slice_lit("h")}, {"x-amz-date", slice_lit("20150830T123600Z")}};
    const struct aws_request r = {slice_lit("GET"), slice_lit("/"), slice_lit(""), headers, 2, EMPTY_SHA256};
    _cleanup_(buf_done) struct buf out = BUF_INIT;

    (void)state;
    aws_sign(&r, &keys, slice_lit("eu-central-1"), slice_lit("s3"), "20150830T123600Z", &out);
    assert_true(slice_starts(buf_view(&out),
                             slice_lit("AWS4-HMAC-SHA256 Credential=AKID/20150830/eu-central-1/s3/aws4_request, "
                                       "SignedHeaders=host;x-amz-date, Signature=")));
}

static void test_parts(void **state)
{
    _cleanup_(buf_done) struct buf out = BUF_INIT;
    char text[SHA256_HEX + 1], time[AWS_TIME_TEXT + 1];

    (void)state;
    sha256_hex(slice_lit(""), text);
    assert_string_equal(text, EMPTY_SHA256);
    sha256_hex(slice_lit("Welcome to Amazon S3."), text);
    assert_string_equal(text, "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072");
    aws_time(INT64_C(1369353600123456), time);
    assert_string_equal(time, "20130524T000000Z");
    aws_encode(&out, slice_lit("a/b c~%+\xc3\xa9"), true);
    assert_string_equal(buf_cstr(&out), "a/b%20c~%25%2B%C3%A9");
    out.len = 0;
    aws_encode(&out, slice_lit("a/b"), false);
    assert_string_equal(buf_cstr(&out), "a%2Fb");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published),
        cmocka_unit_test(test_whole_header),
        cmocka_unit_test(test_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
