/* batch_test.c: schemas grow and never change, batches hold what was put in, and readers of a view see their rows whole
 * while a writer appends (the last one means something under TSan). */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "batch/batch.h"

static const struct type UTF8 = {TYPE_UTF8, TYPE_NULL}, F64 = {TYPE_FLOAT64, TYPE_NULL},
                         LIST_I64 = {TYPE_LIST, TYPE_INT64};

static void schema_grows(void **state)
{
    (void)state;
    _cleanup_(schema_unrefp) struct schema *a = schema_empty();
    const struct field more[] = {{.name = slice_lit("level"), .type = UTF8}, {.name = slice_lit(""), .type = F64}};
    _cleanup_(schema_unrefp) struct schema *b = schema_grow(a, more, 2);
    const uint32_t ids[] = {1, 2, 3};
    _cleanup_(schema_unrefp) struct schema *c = schema_with_ids(b, ids, NULL);

    assert_int_equal(schema_count(a), 1);
    assert_int_equal(schema_count(b), 3);
    assert_int_equal(schema_find(b, slice_lit("p_timestamp")), 0);
    assert_int_equal(schema_find(b, slice_lit("level")), 1);
    assert_int_equal(schema_find(b, slice_lit("")), 2);
    assert_int_equal(schema_find(b, slice_lit("Level")), FIELD_NONE);
    assert_int_equal(schema_find(a, slice_lit("level")), FIELD_NONE);
    assert_int_equal(schema_field(b, 1)->id, 0);
    assert_int_equal(schema_field(c, 1)->id, 2);
}

static void schema_prints_as_the_contract_shows(void **state)
{
    (void)state;
    _cleanup_(buf_done) struct buf out = BUF_INIT;
    _cleanup_(schema_unrefp) struct schema *a = schema_empty();
    const struct field more[] = {{.name = slice_lit("xs"), .type = {TYPE_LIST, TYPE_FLOAT64}},
                                 {.name = slice_lit("le\"vel"), .type = UTF8}};
    _cleanup_(schema_unrefp) struct schema *s = schema_grow(a, more, 2);
    schema_print(s, true, &out);
#define TAIL ",\"nullable\":true,\"dict_id\":0,\"dict_is_ordered\":false,\"metadata\":{}}"
    assert_string_equal(buf_cstr(&out),
                        "{\"fields\":[{\"name\":\"le\\\"vel\",\"data_type\":\"Utf8\"" TAIL
                        ",{\"name\":\"p_timestamp\",\"data_type\":{\"Timestamp\":[\"Millisecond\",null]}" TAIL
                        ",{\"name\":\"xs\",\"data_type\":{\"List\":{\"name\":\"item\",\"data_type\":\"Float64\"" TAIL
                        "}" TAIL "],\"metadata\":{}}");
}

static void put_text(struct batch *b, struct column *c, uint32_t row, const char *s)
{
    ((struct text *)c->values)[row] = batch_text(b, slice_str(s));
    c->valid[row] = 1;
}

static void text_layout(void **state)
{
    (void)state;
    const char *const samples[] = {"", "a", "123456789012", "1234567890123", "a long text that cannot be inlined"};
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        struct text t = text_of(slice_str(samples[i]));
        assert_true(slice_eq(text_slice(&t), slice_str(samples[i])));
        assert_memory_equal(t.inlined, samples[i], MIN(strlen(samples[i]), 4));
    }
}

static void batch_grows_and_keeps_values(void **state)
{
    (void)state;
    _cleanup_(batch_unrefp) struct batch *b = batch_new(1);
    struct column *t = batch_add(b, 1, UTF8), *n = batch_add(b, 2, F64), *l = batch_add(b, 3, LIST_I64);
    for (uint32_t row = 0; row < 1000; row++) {
        char text[40];
        if (row == b->rows_cap)
            batch_grow(b);
        (void)snprintf(text, sizeof(text), "%*u", (int)(row % 30), row);
        put_text(b, t, row, text);
        if (row % 3) {
            ((double *)n->values)[row] = row;
            n->valid[row] = 1;
        }
        uint32_t first = batch_items(b, l, row % 5);
        for (uint32_t i = 0; i < row % 5; i++) {
            ((int64_t *)l->item->values)[first + i] = row + i;
            l->item->valid[first + i] = 1;
        }
        ((struct list_slot *)l->values)[row] = (struct list_slot){first, row % 5};
        l->valid[row] = 1;
        b->rows++;
    }
    for (uint32_t row = 0; row < 1000; row++) {
        char text[40];
        (void)snprintf(text, sizeof(text), "%*u", (int)(row % 30), row);
        assert_true(slice_eq(text_slice(&((struct text *)t->values)[row]), slice_str(text)));
        assert_int_equal(n->valid[row], row % 3 != 0);
        assert_true(((double *)n->values)[row] == (row % 3 ? row : 0));
        struct list_slot slot = ((struct list_slot *)l->values)[row];
        assert_int_equal(slot.len, row % 5);
        for (uint32_t i = 0; i < slot.len; i++)
            assert_int_equal(((int64_t *)l->item->values)[slot.offset + i], row + i);
    }
    assert_true(batch_has_lists(b));
    assert_ptr_equal(batch_column(b, 2), n);
    assert_null(batch_column(b, 9));
}

static void append_adds_columns_and_nulls(void **state)
{
    (void)state;
    _cleanup_(batch_unrefp) struct batch *to = batch_new(4), *from = batch_new(3);
    struct column *t = batch_add(from, 5, UTF8), *n = batch_add(from, 2, F64);
    put_text(from, t, 0, "a text that is far away");
    put_text(from, t, 2, "near");
    ((double *)n->values)[1] = 4;
    n->valid[1] = 1;
    from->rows = 3;
    batch_append(to, from, 2, 1);
    assert_int_equal(to->columns_count, 1); /* none of a column without a value */
    assert_false(batch_column(to, 5)->has_nulls);
    batch_append(to, from, 0, 3);
    batch_unref(move_ptr(from));
    assert_int_equal(to->rows, 4);
    assert_int_equal(to->columns_count, 2);
    struct column *tt = batch_column(to, 5), *tn = batch_column(to, 2);
    static const char *const texts[] = {"near", "a text that is far away", "", "near"};
    for (uint32_t row = 0; row < 4; row++) {
        assert_true(slice_eq(text_slice((const struct text *)tt->values + row), slice_str(texts[row])));
        assert_int_equal(tt->valid[row], row != 2);
        assert_int_equal(tn->valid[row], row == 2);
    }
    assert_true(((const double *)tn->values)[2] == 4);
    assert_true(tt->has_nulls && tn->has_nulls);
}

static void free_flag(void *keep)
{
    *(bool *)keep = true;
}

static void keep_is_freed_with_the_last_view(void **state)
{
    (void)state;
    bool freed = false;
    struct batch *b = batch_new(1);
    struct batch_view v;
    batch_keep(b, &freed, free_flag);
    batch_add(b, 1, F64);
    batch_view_take(b, 0, &v);
    batch_unref(b);
    assert_false(freed);
    assert_non_null(batch_view_column(&v, 1));
    batch_view_done(&v);
    assert_true(freed);
}

/* One writer appends rows with ever new columns; readers take views under the lock and check all they see without it. */
#define SHARED_ROWS 3000u
struct shared {
    pthread_mutex_t mu;
    struct batch *block; /* under mu, but rows below the published count */
    uint32_t published;  /* under mu */
    _Atomic uint32_t bad;
};

static void *reader(void *arg)
{
    struct shared *s = arg;
    for (uint32_t rows = 0; rows < SHARED_ROWS;) {
        struct batch_view v;
        pthread_mutex_lock(&s->mu);
        batch_view_take(s->block, s->published, &v);
        pthread_mutex_unlock(&s->mu);
        rows = v.rows;
        for (uint32_t i = 0; i < v.columns_count; i++) {
            const struct column *c = v.columns[i];
            uint32_t seen = 0;
            for (uint32_t row = 0; row < rows; row++)
                if (c->valid[row]) {
                    char want[40];
                    int n = snprintf(want, sizeof(want), "value of row %u", row);
                    seen++;
                    s->bad += !slice_eq(text_slice(&((const struct text *)c->values)[row]), slice_of(want, (size_t)n));
                }
            s->bad += seen < rows && !c->has_nulls;
        }
        batch_view_done(&v);
    }
    return NULL;
}

static void readers_beside_a_writer(void **state)
{
    (void)state;
    struct shared s = {.block = batch_new(SHARED_ROWS)};
    pthread_t threads[2];
    pthread_mutex_init(&s.mu, NULL);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, reader, &s), 0);
    for (uint32_t row = 0; row < SHARED_ROWS; row++) {
        char text[40];
        struct batch *one = batch_new(1);
        (void)snprintf(text, sizeof(text), "value of row %u", row);
        put_text(one, batch_add(one, row / 100 + 1, UTF8), 0, text);
        put_text(one, batch_add(one, 100, UTF8), 0, text);
        one->rows = 1;
        pthread_mutex_lock(&s.mu);
        batch_append(s.block, one, 0, 1);
        s.published = s.block->rows;
        pthread_mutex_unlock(&s.mu);
        batch_unref(one);
    }
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(s.bad, 0);
    batch_unref(s.block);
    pthread_mutex_destroy(&s.mu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(schema_grows),
        cmocka_unit_test(schema_prints_as_the_contract_shows),
        cmocka_unit_test(text_layout),
        cmocka_unit_test(batch_grows_and_keeps_values),
        cmocka_unit_test(append_adds_columns_and_nulls),
        cmocka_unit_test(keep_is_freed_with_the_last_view),
        cmocka_unit_test(readers_beside_a_writer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
