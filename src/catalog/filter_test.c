/* Goal: a pack of filters never says no to a value that a file has, seldom yes to one that it has not, and says when it is damaged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/hash.h"
#include "catalog/filter.h"

static uint64_t value(uint64_t file, uint64_t field, uint64_t i)
{
    const uint64_t v[] = {file, field, i};
    return hash64(slice_of(v, sizeof(v)), 1);
}

/* Distinct values of a column of a file: of some files more, of some none, of some no filter. */
static size_t values_of(uint64_t file, uint64_t field)
{
    return file % 7 == 3 && field == 2 ? 0 : (file % 5) * (file % 5) * 300 + file % 3;
}

static void add_file(struct filter_files *f, uint64_t file)
{
    char path[32];

    (void)snprintf(path, sizeof(path), "date=x/%llu.parquet", (unsigned long long)file);
    struct filter_file *ff = filter_files_add(f, slice_str(path));
    for (uint32_t field = 1; field <= 2; field++) {
        size_t n = values_of(file, field);
        uint64_t *hashes = calloc(n + 1, sizeof(*hashes));
        for (size_t i = 0; i < n; i++)
            hashes[i] = value(file, field, i);
        if (file % 11 != 5)
            filter_file_put(f, ff, field, hashes, n);
        free(hashes);
    }
}

static enum err_code append(void *arg, slice piece, struct err *err)
{
    (void)err;
    buf_slice(arg, piece);
    return ERR_OK;
}

static void encode(const struct filter_files *f, struct buf *out)
{
    uint32_t header_len = 0;
    struct err err;

    assert_int_equal(slf_encode(f, 9, append, out, &header_len, &err), ERR_OK);
    assert_int_equal(header_len, le32_get(out->ptr + 8));
}

/* May the file have it, by the pack? */
static bool asked(const struct buf *pack, const struct slf *s, uint32_t file, uint32_t field, uint64_t hash)
{
    uint64_t offset, len;

    for (uint32_t g = 0; g < s->groups_count; g++)
        for (uint32_t m = 0; s->groups[g].field_id == field && m < s->groups[g].members; m++) {
            if (s->groups[g].files[m] != file)
                continue;
            slf_row_at(&s->groups[g], hash, &offset, &len);
            slice row = slice_of(pack->ptr + offset, len);
            assert_true(slf_row_valid(&s->groups[g], row));
            return slf_row_has(row, m, hash);
        }
    return true;
}

static uint64_t number_of(slice path)
{
    return strtoull((const char *)path.ptr + strlen("date=x/"), NULL, 10);
}

static void check(const struct buf *pack, uint32_t files)
{
    struct arena arena = ARENA_INIT;
    struct slf s;
    struct err err;
    unsigned wrong = 0, probes = 0;

    assert_int_equal(slf_check(buf_view(pack), &err), ERR_OK);
    assert_int_equal(slf_decode(slice_head(buf_view(pack), le32_get(pack->ptr + 8)), &arena, &s, &err), ERR_OK);
    assert_int_equal(s.files, files);
    assert_int_equal(s.head_slot, 9);
    for (uint32_t i = 0; i < s.files; i++) {
        uint64_t file = number_of(slf_path(&s, i));
        for (uint32_t field = 1; field <= 2; field++) {
            for (size_t v = 0; v < values_of(file, field); v++)
                assert_true(asked(pack, &s, i, field, value(file, field, v)));
            for (uint64_t v = 0; v < 500 && file % 11 != 5; v++, probes++)
                wrong += asked(pack, &s, i, field, value(file, field + 7, v));
        }
        if (file % 11 == 5) /* nothing is known of it */
            assert_true(asked(pack, &s, i, 1, 12345));
    }
    assert_true(wrong * 1000 < probes * 2);
    arena_done(&arena);
}

static bool is_even(void *arg, slice path)
{
    (void)arg;
    return number_of(path) % 2 == 0;
}

static void test_no_value_is_missed(void **state)
{
    struct filter_files f = {0}, half = {0};
    struct buf pack = BUF_INIT, second = BUF_INIT;
    struct err err;

    (void)state;
    for (uint64_t i = 0; i < 60; i++)
        add_file(&f, i);
    encode(&f, &pack);
    check(&pack, 60);
    assert_int_equal(slf_take(buf_view(&pack), is_even, NULL, &half, &err), ERR_OK);
    add_file(&half, 61); /* and merged with others */
    encode(&half, &second);
    check(&second, 31);
    filter_files_done(&f);
    filter_files_done(&half);
    buf_done(&pack);
    buf_done(&second);
}

static void test_any_damaged_byte_is_seen(void **state)
{
    struct filter_files f = {0};
    struct buf pack = BUF_INIT;
    struct err err;

    (void)state;
    for (uint64_t i = 0; i < 3; i++)
        add_file(&f, i);
    encode(&f, &pack);
    for (size_t i = 0; i < pack.len; i++) {
        pack.ptr[i] ^= 0x10;
        assert_int_not_equal(slf_check(buf_view(&pack), &err), ERR_OK);
        pack.ptr[i] ^= 0x10;
    }
    for (size_t n = 0; n < pack.len; n += 1 + n / 8)
        assert_int_not_equal(slf_check(slice_head(buf_view(&pack), n), &err), ERR_OK);
    assert_int_equal(slf_check(buf_view(&pack), &err), ERR_OK);
    filter_files_done(&f);
    buf_done(&pack);
}

/* Files of the same columns share groups; a pack of files that have none in common is as good. */
static void test_any_columns_fit(void **state)
{
    struct filter_files f = {0};
    struct buf pack = BUF_INIT;
    struct err err;
    char path[40];

    (void)state;
    for (uint32_t i = 0; i < 600; i++) {
        (void)snprintf(path, sizeof(path), "date=x/%u", i);
        struct filter_file *file = filter_files_add(&f, slice_str(path));
        for (uint32_t c = 0; c < FILTER_COLUMNS_MAX; c++)
            filter_file_put(&f, file, 1 + i * FILTER_COLUMNS_MAX + c, &(uint64_t){c}, 1);
    }
    encode(&f, &pack);
    assert_int_equal(slf_check(buf_view(&pack), &err), ERR_OK);
    filter_files_done(&f);
    buf_done(&pack);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_value_is_missed),
        cmocka_unit_test(test_any_damaged_byte_is_seen),
        cmocka_unit_test(test_any_columns_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
