/* term_test.c: text for the eye has the width it says and nothing in it drives a terminal; tables fit. */
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "cli/term.h"

#include "base/banned.h"

static void test_text(void **state)
{
    static const struct {
        const char *text;
        unsigned width;
        const char *want;
        unsigned columns;
    } cases[] = {
        {"", 0, "", 0},
        {"abc", 0, "abc", 3},
        {"abc", 3, "abc", 3},
        {"abcd", 3, "ab…", 3},
        {"日本語", 0, "日本語", 6},
        {"日本語", 5, "日本…", 5},
        {"日本語", 4, "日…", 3},
        {"e\xcc\x81x", 0, "e\xcc\x81x", 2},
        {"a\nb\tc\rd", 0, "a\\nb\\tc\\rd", 10},
        {"\x1b[31m", 0, "\\x1b[31m", 8},
        {"\xff\xfe", 0, "\\xff\\xfe", 8},
        {"a\xe2\x80\xae"
         "b",
         0,
         "a\\xe2\\x80\\xae"
         "b",
         14},
        {"\xc2\x9b", 0, "\\xc2\\x9b", 8},
        {"ab\x1b", 4, "ab…", 3},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        _cleanup_(buf_done) struct buf b = BUF_INIT;
        unsigned n = term_text(&b, slice_str(cases[i].text), cases[i].width);
        if (strcmp(buf_cstr(&b), cases[i].want) != 0 || n != cases[i].columns)
            fail_msg("case %zu: '%s', %u columns", i, buf_cstr(&b), n);
    }
}

static void draw(unsigned width, uint32_t columns, uint32_t rows, const char *text, struct buf *out)
{
    char *bytes = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&bytes, &len);
    slice names[64];
    struct cell cells[64];

    for (uint32_t i = 0; i < columns; i++) {
        names[i] = slice_lit("name");
        cells[i] = i % 3 == 0   ? (struct cell){CELL_NUMBER, slice_lit("12.5")}
                   : i % 3 == 1 ? (struct cell){CELL_NULL, {NULL, 0}}
                                : (struct cell){CELL_TEXT, slice_str(text)};
    }
    struct table *t = table_new(f, width, names, columns);
    for (uint32_t i = 0; i < rows; i++)
        table_row(t, cells);
    table_end(t);
    (void)fclose(f);
    buf_put(out, bytes, len);
    free(bytes);
}

/* Goal: no line is wider than asked for, whatever the number of columns; every row is there. */
static void test_table_fits(void **state)
{
    (void)state;

    for (unsigned width = 20; width <= 200; width += 9)
        for (uint32_t columns = 1; columns <= 40; columns += 3) {
            _cleanup_(buf_done) struct buf b = BUF_INIT;
            draw(width, columns, 3, "a long text with 日本語 in it", &b);
            slice rest = buf_view(&b);
            while (rest.len) {
                const uint8_t *nl = memchr(rest.ptr, '\n', rest.len);
                assert_non_null(nl);
                slice line = slice_head(rest, (size_t)(nl - rest.ptr));
                if (term_columns(line) > width)
                    fail_msg("width %u, %u columns: '" SLICE_FMT "'", width, columns, SLICE_ARG(line));
                rest = slice_from(rest, line.len + 1);
            }
        }
}

/* Goal: rows after the sample are printed like those in it; an empty table has its head. */
static void test_table_rows(void **state)
{
    (void)state;

    for (uint32_t rows = 0; rows < TABLE_SAMPLE * 2; rows += TABLE_SAMPLE - 1) {
        _cleanup_(buf_done) struct buf b = BUF_INIT;
        size_t lines = 0;
        draw(0, 3, rows, "x", &b);
        for (size_t i = 0; i < b.len; i++)
            lines += b.ptr[i] == '\n';
        assert_int_equal(lines, rows + 2);
    }
}

static void test_numbers(void **state)
{
    _cleanup_(buf_done) struct buf b = BUF_INIT;
    (void)state;

    print_rows(&b, 0);
    buf_byte(&b, ' ');
    print_rows(&b, 999);
    buf_byte(&b, ' ');
    print_rows(&b, 1234567);
    buf_byte(&b, ' ');
    print_amount(&b, 999, "B");
    buf_byte(&b, ' ');
    print_amount(&b, 12345678, "B");
    assert_string_equal(buf_cstr(&b), "0 999 1,234,567 999 B 12.3 MB");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_table_fits),
        cmocka_unit_test(test_table_rows),
        cmocka_unit_test(test_numbers),
    };
    (void)setlocale(LC_CTYPE, "C.UTF-8");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
