/* input_test.c: every form of text gives the same rows with the right lines, whatever the pieces it comes in; damage is named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/input.h"

#include "base/banned.h"

/* What a text gives: "line:row" of rows, "line!" of bad ones, "line#" of a failure, joined by blanks. */
static void read_all(slice text, struct buf *out)
{
    char path[] = "/tmp/sluice-input-test-XXXXXX";
    int fd = mkstemp(path);
    struct input *in;
    struct err err = {0};
    uint64_t line;
    slice row;

    assert_true(fd >= 0);
    assert_true(write(fd, text.ptr, text.len) == (ssize_t)text.len);
    (void)close(fd);
    assert_int_equal(input_open(path, &in, &err), ERR_OK);
    for (enum input_event e = INPUT_ROW; e != INPUT_END && e != INPUT_FAIL;) {
        e = input_next(in, &row, &line, &err);
        if (e == INPUT_END)
            break;
        buf_fmt(out, "%s%llu", out->len ? " " : "", (unsigned long long)line);
        buf_str(out, e == INPUT_ROW ? ":" : e == INPUT_BAD ? "!" : "#");
        if (e == INPUT_ROW)
            buf_slice(out, row);
        else
            assert_true(err.msg[0] != 0);
    }
    input_close(in);
    (void)unlink(path);
}

static void test_forms(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"", ""},
        {"\n \n", ""},
        {"{\"a\":1}", "1:{\"a\":1}"},
        {"{\"a\":1}\n{\"a\":2}\n", "1:{\"a\":1} 2:{\"a\":2}"},
        {"\n{\"a\":1}\r\n\r\n  {\"a\":2}  \r\n", "2:{\"a\":1} 4:{\"a\":2}"},
        {"\xef\xbb\xbf{\"a\":1}\n", "1:{\"a\":1}"},
        {"[]", ""},
        {"[{\"a\":1},{\"a\":[2,{}]}]", "1:{\"a\":1} 1:{\"a\":[2,{}]}"},
        {"[\n {\"a\":1},\n {\"a\":\"}]\\\"\"}\n]\n", "2:{\"a\":1} 3:{\"a\":\"}]\\\"\"}"},
        {"[{\"a\":1}]\n[{\"a\":2}]\n", "1:{\"a\":1} 2:{\"a\":2}"},
        {"{\n\"a\":1}\n{\n\"a\":2}\n", "1:{\n\"a\":1} 3:{\n\"a\":2}"},
        /* bad lines cost themselves only */
        {"{\"a\":1}\nnot json\n{\"a\":3}\n", "1:{\"a\":1} 2! 3:{\"a\":3}"},
        {"{\"a\":}\n{\"a\":2}\n", "1! 2:{\"a\":2}"},
        {"{\"a\":\"open\n{\"a\":2}\n", "1! 2:{\"a\":2}"},
        {"{\"a\":1} {\"a\":2}\n", "1!"},
        {"7\n\"x\"\n[1]\n", "1! 2! 3!"},
        /* bad rows between braces, and text that never closes */
        {"[{\"a\":},{\"a\":2}]", "1! 1:{\"a\":2}"},
        {"[{\"a\":1},7]", "1:{\"a\":1} 1#"},
        {"[{\"a\":1} {\"a\":2}]", "1:{\"a\":1} 1#"},
        {"[,{\"a\":1}]", "1#"},
        {"[\n{\"a\":1},\n{\"a\":2", "2:{\"a\":1} 3#"},
        {"[{\"a\":1}", "1:{\"a\":1} 1#"},
        {"[[{\"a\":1}]]", "1#"},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        _cleanup_(buf_done) struct buf got = BUF_INIT;
        read_all(slice_str(cases[i].text), &got);
        if (strcmp(buf_cstr(&got), cases[i].want) != 0)
            fail_msg("case %zu: %s", i, buf_cstr(&got));
    }
}

/* Goal: rows that lie across blocks; a file of some megabytes in each form gives the same rows. */
static void test_large(void **state)
{
    _cleanup_(buf_done) struct buf lines = BUF_INIT, array = BUF_INIT, a = BUF_INIT, b = BUF_INIT;
    (void)state;

    for (unsigned i = 0; i < 20000; i++) {
        _cleanup_(buf_done) struct buf row = BUF_INIT;
        buf_fmt(&row, "{\"i\":%u,\"s\":\"", i);
        for (unsigned k = 0; k < i % 97; k++)
            buf_str(&row, "{]\\\"");
        buf_str(&row, "\"}");
        buf_fmt(&array, "%s", i ? "\n," : "[");
        buf_slice(&array, buf_view(&row));
        buf_slice(&lines, buf_view(&row));
        buf_byte(&lines, '\n');
    }
    buf_byte(&array, ']');
    read_all(buf_view(&lines), &a);
    read_all(buf_view(&array), &b);
    assert_true(a.len > 3000000);
    assert_true(slice_eq(buf_view(&a), buf_view(&b)));
}

static void test_damaged_packing(void **state)
{
    static const struct {
        slice bytes;
        const char *want;
    } cases[] = {
        {slice_lit("\x1f\x8b"), "1#"},
        {slice_lit("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xff\xff\xff\xff\xff\xff"), "1#"},
        {slice_lit("\x28\xb5\x2f\xfd"), "1#"},
        {slice_lit("\x28\xb5\x2f\xfd\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), "1#"},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        _cleanup_(buf_done) struct buf got = BUF_INIT;
        read_all(cases[i].bytes, &got);
        if (strcmp(buf_cstr(&got), cases[i].want) != 0)
            fail_msg("case %zu: %s", i, buf_cstr(&got));
    }
}

static void test_open(void **state)
{
    struct input *in = NULL;
    struct err err = {0};
    (void)state;

    assert_int_equal(input_open("/does/not/exist", &in, &err), ERR_NOT_FOUND);
    assert_int_equal(input_open("/tmp", &in, &err), ERR_INVALID);
    assert_null(in);
    input_close(in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_damaged_packing),
        cmocka_unit_test(test_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
