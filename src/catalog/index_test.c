/* Goal: files get filters once, a search never misses one of them, and nothing but speed depends on a pack. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "catalog/fixture_test.h"

/* Of one column, 9: each file has its own path as its only value. A file of another length has none to tell. */
static enum err_code path_keys(void *arg, const struct schema *schema, const struct merge_input *input,
                               struct segment_keys *out, struct err *err)
{
    unsigned *calls = arg;

    (void)schema, (void)err;
    ++*calls;
    struct segment_keys_column *c = ARRAY_PUSH(out->columns, out->count, out->cap);
    *c = (struct segment_keys_column){9, calloc(1, sizeof(*c->hashes)), 1};
    c->hashes[0] = segment_key_hash(input->key);
    return ERR_OK;
}

static uint64_t index_all(struct node *n, unsigned *calls)
{
    struct catalog_work w = {0};
    struct err err = {0};
    uint64_t before;

    do {
        before = w.files_indexed;
        assert_int_equal(catalog_index(n->cat, path_keys, calls, &w, &err), ERR_OK);
    } while (w.files_indexed > before);
    return w.files_indexed;
}

/* The file that is tried first is too much for it. */
static enum err_code limited_keys(void *arg, const struct schema *schema, const struct merge_input *input,
                                  struct segment_keys *out, struct err *err)
{
    unsigned *calls = arg;

    if (*calls)
        return path_keys(arg, schema, input, out, err);
    ++*calls;
    return err_set(err, ERR_LIMIT, "too much");
}

static size_t packs_of(struct node *n, const struct sid *sid)
{
    _cleanup_(stream_version_unrefp) struct stream_version *v = NULL;
    struct err err = {0};

    assert_int_equal(catalog_snapshot(n->cat, sid, NULL, NULL, &v, &err), ERR_OK);
    return v->head->filters_count;
}

/* How many files are left of a search for what the oldest file has; it is one of them. */
static size_t searched(struct node *n, const struct sid *sid)
{
    _cleanup_(stream_version_unrefp) struct stream_version *v = NULL;
    struct err err = {0};
    struct plan plan;

    assert_int_equal(catalog_snapshot(n->cat, sid, NULL, NULL, &v, &err), ERR_OK);
    assert_int_equal(stream_version_plan(v, INT64_MIN, INT64_MAX, NULL, 0, &plan, &err), ERR_OK);
    slice oldest = plan.files[plan.count - 1].key;
    const struct plan_value value = {9, segment_key_hash(oldest)}, other = {8, 1};
    assert_int_equal(stream_version_prune(v, &other, 1, &plan), 0); /* of this column nothing is known */
    size_t before = plan.count, gone = stream_version_prune(v, &value, 1, &plan);
    assert_int_equal(plan.count, before - gone);
    assert_true(slice_eq(plan.files[plan.count - 1].key, oldest));
    plan_done(&plan);
    return before - gone;
}

struct pack_key {
    struct buf key;
    uint64_t size;
};

static void pack_key(struct node *n, const struct sid *sid, struct pack_key *out)
{
    _cleanup_(stream_version_unrefp) struct stream_version *v = NULL;
    struct err err = {0};

    assert_int_equal(catalog_snapshot(n->cat, sid, NULL, NULL, &v, &err), ERR_OK);
    assert_int_equal(v->head->filters_count, 1);
    out->key.len = 0;
    stream_dir_put(&out->key, v->head->name, &v->head->sid);
    buf_slice(&out->key, v->head->filters[0]->path);
    out->size = v->head->filters[0]->bytes_len;
}

static void test_filters(void **state)
{
    struct node *n = *state;
    struct sid sid = create(n, "many");
    struct catalog_work w = {0};
    struct err err = {0};
    unsigned calls = 0;

    assert_int_equal(commit(n, &sid, "many", 1, 3), ERR_OK);
    assert_int_equal(catalog_fold(n->cat, &w, &err), ERR_OK);
    assert_int_equal(index_all(n, &calls), 0); /* too few */
    assert_int_equal(commit(n, &sid, "many", 2, 300), ERR_OK);
    assert_int_equal(index_all(n, &calls), 0); /* not in a head yet */
    assert_int_equal(catalog_fold(n->cat, &w, &err), ERR_OK);
    assert_int_equal(searched(n, &sid), 303);
    assert_int_equal(index_all(n, &calls), 303);
    assert_int_equal(calls, 303);
    assert_int_equal(packs_of(n, &sid), 1);
    assert_true(searched(n, &sid) <= 3);
    node_stop(n);
    n->committed = 0;
    node_start(n, true);
    assert_true(searched(n, &sid) <= 3);
    for (int hour = 3; hour < 8; hour++) { /* small packs become one, and nothing is read again */
        assert_int_equal(commit(n, &sid, "many", hour, 16), ERR_OK);
        assert_int_equal(catalog_fold(n->cat, &w, &err), ERR_OK);
        assert_int_equal(index_all(n, &calls), 16);
        assert_true(packs_of(n, &sid) < 4);
    }
    assert_int_equal(calls, 303 + 5 * 16);
    assert_true(searched(n, &sid) <= 3);
    skew_us += 2 * HOUR; /* replaced packs go, those of the head stay */
    assert_int_equal(catalog_gc(n->cat, &w, &err), ERR_OK);
    assert_true(w.files_deleted > 0);
    node_stop(n);
    n->committed = 0;
    node_start(n, true);
    assert_true(searched(n, &sid) <= 3);
}

/* A pack without most of its files is made anew, one without any leaves the head. */
static void test_filters_of_merged_files(void **state)
{
    struct node *n = *state;
    struct sid sid = create(n, "merged");
    struct catalog_work w = {0};
    struct err err = {0};
    unsigned calls = 0;

    assert_int_equal(commit(n, &sid, "merged", 1, 30), ERR_OK);
    assert_int_equal(commit(n, &sid, "merged", 2, 10), ERR_OK);
    assert_int_equal(catalog_fold(n->cat, &w, &err), ERR_OK);
    assert_int_equal(index_all(n, &calls), 40);
    assert_int_equal(catalog_compact(n->cat, fake_merge, n, &w, &err), ERR_OK); /* hour 1 */
    assert_int_equal(w.inputs_compacted, 30);
    assert_int_equal(index_all(n, &calls), 0); /* the output waits for others */
    assert_int_equal(packs_of(n, &sid), 1);
    assert_true(searched(n, &sid) <= 3); /* the output, and one of hour 2 or none */
    assert_int_equal(catalog_compact(n->cat, fake_merge, n, &w, &err), ERR_OK);
    assert_int_equal(w.inputs_compacted, 40);
    assert_int_equal(index_all(n, &calls), 0);
    assert_int_equal(packs_of(n, &sid), 0);
    assert_int_equal(calls, 40);
}

static void flip(struct node *n, const struct pack_key *p, uint64_t at)
{
    char path[400];
    uint8_t byte;

    (void)snprintf(path, sizeof(path), "%s/" SLICE_FMT, n->dir, SLICE_ARG(buf_view(&p->key)));
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
    assert_int_equal(fread(&byte, 1, 1, f), 1);
    byte ^= 1;
    assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
    assert_int_equal(fwrite(&byte, 1, 1, f), 1);
    assert_int_equal(fclose(f), 0);
}

/* F3: a pack that is missing or damaged costs no row, and is made again. */
static void test_damaged_filters(void **state)
{
    struct node *n = *state;
    struct sid sid = create(n, "damaged");
    struct pack_key p = {0}, before = {0};
    struct catalog_work w = {0};
    struct err err = {0};
    unsigned calls = 0;

    assert_int_equal(commit(n, &sid, "damaged", 1, 20), ERR_OK);
    assert_int_equal(catalog_fold(n->cat, &w, &err), ERR_OK);
    assert_int_equal(index_all(n, &calls), 20);
    for (int how = 0; how < 4; how++) {
        pack_key(n, &sid, &p);
        if (how == 0)
            flip(n, &p, p.size - 10); /* a row */
        else if (how == 1)
            flip(n, &p, 60); /* the header */
        else if (how == 2)
            assert_int_equal(n->store->ops->remove(n->store, buf_view(&p.key), &err), ERR_OK);
        else
            flip(n, &p, p.size - 10);
        node_stop(n); /* what was read before is forgotten */
        n->committed = 0;
        node_start(n, true);
        if (how < 3) {
            assert_int_equal(searched(n, &sid), 20);
            assert_int_equal(searched(n, &sid), 20);
        } else { /* the scrub finds it first */
            unsigned bad = 0;
            assert_int_equal(catalog_scrub(n->cat, UINT64_MAX, count_bad, &bad, &err), ERR_OK);
            assert_int_equal(bad, 1);
        }
        assert_int_equal(index_all(n, &calls), 20);
        before = p;
        p = (struct pack_key){0};
        pack_key(n, &sid, &p);
        assert_false(slice_eq(buf_view(&p.key), buf_view(&before.key)));
        assert_true(searched(n, &sid) <= 3);
        buf_done(&before.key);
    }
    buf_done(&p.key);
}

/* A damaged data file gets no filter, whatever its bytes say, and costs one try. */
static void test_filters_of_damaged_file(void **state)
{
    struct node *n = *state;
    struct sid sid = create(n, "bad");
    struct catalog_work w = {0};
    struct err err = {0};
    unsigned calls = 0;
    char cmd[200];

    assert_int_equal(commit(n, &sid, "bad", 1, 20), ERR_OK);
    assert_int_equal(catalog_fold(n->cat, &w, &err), ERR_OK);
    (void)snprintf(cmd, sizeof(cmd), "printf Parquet > $(find %s/bad -name '*-0.parquet')", n->dir);
    assert_int_equal(system(cmd), 0);
    assert_int_equal(index_all(n, &calls), 20);
    assert_int_equal(calls, 19);
    size_t left = searched(n, &sid);
    assert_true(left >= 1 && left <= 4);
    assert_int_equal(index_all(n, &calls), 0);
}

/* What fails the same way each time does not hold up the others. */
static void test_filters_beside_a_file_that_fails(void **state)
{
    struct node *n = *state;
    struct sid sid = create(n, "fails");
    struct catalog_work w = {0};
    struct err err = {0};
    unsigned calls = 0;

    assert_int_equal(commit(n, &sid, "fails", 1, 20), ERR_OK);
    assert_int_equal(catalog_fold(n->cat, &w, &err), ERR_OK);
    assert_int_equal(catalog_index(n->cat, limited_keys, &calls, &w, &err), ERR_OK);
    assert_int_equal(w.files_indexed, 20);
    assert_int_equal(calls, 20);
    assert_true(searched(n, &sid) <= 3);
}

/* Few files are worth a look at their filters when they are large. */
static void test_filters_of_large_files(void **state)
{
    _cleanup_(stream_version_unrefp) struct stream_version *v = NULL;
    struct node *n = *state;
    struct sid sid = create(n, "large");
    struct catalog_work w = {0};
    struct plan plan;
    struct err err = {0};
    unsigned calls = 0;
    slice small = file_bytes;

    for (int large = 0; large < 2; large++) {
        uint8_t *bytes = calloc(1, 4 << 20);
        file_bytes = large ? slice_of(bytes, 4 << 20) : small;
        assert_int_equal(commit(n, &sid, "large", 1 + large, 4), ERR_OK);
        free(bytes);
    }
    file_bytes = small;
    assert_int_equal(catalog_fold(n->cat, &w, &err), ERR_OK);
    assert_int_equal(index_all(n, &calls), 8);
    assert_int_equal(catalog_snapshot(n->cat, &sid, NULL, NULL, &v, &err), ERR_OK);
    for (int large = 0; large < 2; large++) {
        const struct plan_value value = {9, 1};
        assert_int_equal(
            stream_version_plan(v, T0 + (1 + large) * HOUR, T0 + (1 + large) * HOUR + 2, NULL, 0, &plan, &err), ERR_OK);
        assert_int_equal(plan.count, 2);
        assert_int_equal(stream_version_prune(v, &value, 1, &plan), large ? 2 : 0);
        plan_done(&plan);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_filters, node_setup, node_teardown),
        cmocka_unit_test_setup_teardown(test_filters_of_merged_files, node_setup, node_teardown),
        cmocka_unit_test_setup_teardown(test_damaged_filters, node_setup, node_teardown),
        cmocka_unit_test_setup_teardown(test_filters_of_damaged_file, node_setup, node_teardown),
        cmocka_unit_test_setup_teardown(test_filters_beside_a_file_that_fails, node_setup, node_teardown),
        cmocka_unit_test_setup_teardown(test_filters_of_large_files, node_setup, node_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
