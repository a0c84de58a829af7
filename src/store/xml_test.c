/* xml_test.c: elements come by path with their own text; what is no small document of a store is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/buf.h"
#include "store/xml.h"

static bool collect(void *arg, const struct xml_element *e)
{
    struct buf *out = arg;

    buf_slice(out, e->path);
    buf_byte(out, '=');
    buf_slice(out, e->text);
    buf_byte(out, ';');
    return !slice_eq(e->text, slice_lit("stop"));
}

static void test_walk(void **state)
{
    static const struct {
        const char *document;
        enum err_code code;
        const char *seen;
    } cases[] = {
        {"<a><b>x</b><b>y</b></a>", ERR_OK, "a/b=x;a/b=y;a=;"},
        {"<?xml version=\"1.0\"?>\n<a xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><b c=\"d\"/></a>", ERR_OK,
         "a/b=;a=;"},
        {"<a> &lt;&amp; </a>", ERR_OK, "a= <& ;"},
        {"<a><b>stop</b><c>z</c></a>", ERR_CANCELLED, "a/b=stop;"},
        {"<a><b></a>", ERR_CORRUPT, ""},
        {"", ERR_CORRUPT, ""},
        {"{}", ERR_CORRUPT, ""},
        {"<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>", ERR_CORRUPT, ""},
        {"<a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a>", ERR_CORRUPT, ""},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        _cleanup_(buf_done) struct buf out = BUF_INIT;
        struct err err;
        assert_int_equal(xml_walk(slice_str(cases[i].document), collect, &out, &err), cases[i].code);
        assert_string_equal(buf_cstr(&out), cases[i].seen);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_walk)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
