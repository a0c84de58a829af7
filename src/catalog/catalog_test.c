/* Goal: what one node does with the catalog over a directory: create, evolve, commit, see, fold, restart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/hash.h"
#include "catalog/catalog_int.h"

#define HOUR INT64_C(3600000000)
#define T0 (INT64_C(492000) * HOUR) /* 2026-02-16T00:00:00Z */

struct node { /* one process: what survives is the directory and the identity */
    char dir[64];
    struct os *os;
    struct store *store;
    struct catalog *cat;
    struct lane_identity id;
    uint64_t committed;
    unsigned visible, headers;
};

static enum err_code save_header(void *arg, const struct lane_identity *id, struct err *err)
{
    struct node *n = arg;

    (void)err;
    n->id = *id;
    n->headers++;
    return ERR_OK;
}

static void count_visible(void *arg)
{
    ((struct node *)arg)->visible++;
}

static void node_start(struct node *n, bool session)
{
    const struct catalog_options opt = {.shards = 4, .snapshot_retention_us = 0, .node_id = "01kjvktcgre5t2x7w4c6h0ryaq", .endpoint = ""};
    struct err err = {0};

    n->os = os_real();
    assert_int_equal(store_local_open(n->os, n->dir, &n->store, &err), ERR_OK);
    assert_int_equal(catalog_open(n->os, n->store, &opt, &n->cat, &err), ERR_OK);
    if (session) {
        struct lane_identity id = n->id;
        assert_int_equal(catalog_session_open(n->cat, &id, save_header, n, &n->committed, &err), ERR_OK);
    }
}

static void node_stop(struct node *n)
{
    catalog_close(n->cat);
    n->store->ops->free(n->store);
}

static int node_setup(void **state)
{
    struct node *n = calloc(1, sizeof(*n));

    (void)snprintf(n->dir, sizeof(n->dir), "/tmp/sluice_catalog_XXXXXX");
    assert_non_null(mkdtemp(n->dir));
    memset(n->id.wal_id, 'a', 32);
    node_start(n, true);
    *state = n;
    return 0;
}

static int node_teardown(void **state)
{
    struct node *n = *state;
    char cmd[128];

    node_stop(n);
    (void)snprintf(cmd, sizeof(cmd), "rm -rf %s", n->dir);
    assert_int_equal(system(cmd), 0);
    free(n);
    return 0;
}

static struct sid create(struct node *n, const char *name)
{
    const struct stream_config config = {.telemetry_type = slice_lit("logs"), .log_source = slice_lit("[]")};
    _cleanup_(stream_version_unrefp) struct stream_version *v = NULL;
    struct err err = {0};

    assert_int_equal(catalog_create(n->cat, slice_str(name), &config, NULL, &v, &err), ERR_OK);
    return *stream_version_sid(v);
}

/* Commits `count` files of one row in hour `hour`. */
static enum err_code commit(struct node *n, const struct sid *sid, const char *name, int hour, unsigned count)
{
    _cleanup_(buf_done) struct buf stem = BUF_INIT;
    struct catalog_file *files = calloc(count, sizeof(*files));
    struct err err = {0};

    catalog_next_file_stem(n->cat, &stem);
    for (unsigned i = 0; i < count; i++) {
        char *path = malloc(200);
        (void)snprintf(path, 200, "date=2026-02-16/hour=%02d/%s-%u.parquet", hour, buf_cstr(&stem), i);
        files[i] = (struct catalog_file){.sid = *sid, .stream = slice_str(name), .path = slice_str(path), .raw_bytes = 100, .schema_version = 1};
        files[i].stats = (struct segment_stats){.rows = 1, .bytes = 7, .tmin_us = T0 + hour * HOUR + i, .tmax_us = T0 + hour * HOUR + i, .cols_count = 1};
        files[i].stats.crc32c = crc32c(0, "parquet", 7);
        files[i].stats.cols[0] = (struct segment_stat){.field_id = 1, .min = i, .max = i, .has_minmax = true};
        struct buf key = BUF_INIT;
        (void)catalog_stream_dir(n->cat, slice_str(name), sid, &key);
        buf_str(&key, path);
        enum err_code rc = n->store->ops->create(n->store, buf_view(&key), slice_lit("parquet"), &err);
        assert_int_equal(rc, ERR_OK);
        buf_done(&key);
    }
    uint64_t next = n->committed + 1, committed = 0;
    enum err_code rc = catalog_commit(n->cat, next, next, files, count, count_visible, n, &committed, &err);
    if (rc == ERR_OK)
        n->committed = next;
    for (unsigned i = 0; i < count; i++)
        free((void *)(uintptr_t)files[i].path.ptr);
    free(files);
    return rc;
}

static size_t planned(struct node *n, const struct sid *sid, int64_t from, int64_t to, struct stream_stats *stats)
{
    _cleanup_(stream_version_unrefp) struct stream_version *v = NULL;
    struct err err = {0};
    struct plan plan;

    assert_int_equal(catalog_snapshot(n->cat, sid, NULL, NULL, &v, &err), ERR_OK);
    assert_int_equal(stream_version_plan(v, from, to, NULL, 0, &plan, &err), ERR_OK);
    for (size_t i = 1; i < plan.count; i++)
        assert_true(plan.files[i - 1].tmax_us >= plan.files[i].tmax_us);
    size_t count = plan.count;
    plan_done(&plan);
    if (stats)
        *stats = *stream_version_stats(v);
    return count;
}

static void test_row_path(void **state)
{
    struct node *n = *state;
    struct sid sid = create(n, "nginx");
    struct catalog_work w = {0};
    struct stream_stats before, after;
    struct err err = {0};

    assert_int_equal(commit(n, &sid, "nginx", 1, 3), ERR_OK);
    assert_int_equal(n->visible, 1);
    assert_int_equal(planned(n, &sid, INT64_MIN, INT64_MAX, &before), 3);
    assert_int_equal(before.rows, 3);
    assert_int_equal(catalog_fold(n->cat, &w, &err), ERR_OK);
    assert_int_equal(w.folded_records, 3);
    assert_int_equal(w.heads_written, 1);
    assert_int_equal(planned(n, &sid, INT64_MIN, INT64_MAX, &after), 3);
    assert_memory_equal(&before, &after, sizeof(before));
    assert_int_equal(catalog_fold(n->cat, &w, &err), ERR_OK); /* nothing new: nothing written */
    assert_int_equal(w.heads_written, 1);
    assert_int_equal(commit(n, &sid, "nginx", 2, 2), ERR_OK);
    assert_int_equal(planned(n, &sid, T0 + 2 * HOUR, T0 + 3 * HOUR, &before), 2);
    node_stop(n);
    n->committed = 0;
    node_start(n, true); /* crash: no seal; the lane is opened again */
    assert_int_equal(n->committed, 2);
    assert_int_equal(planned(n, &sid, INT64_MIN, INT64_MAX, &after), 5);
    assert_memory_equal(&before, &after, sizeof(before));
}

static void test_spill(void **state)
{
    struct node *n = *state;
    struct sid sid = create(n, "many");
    struct catalog_work w = {0};
    struct stream_stats s;
    struct err err = {0};

    for (int i = 0; i < 12; i++) {
        assert_int_equal(commit(n, &sid, "many", i, 300), ERR_OK);
        assert_int_equal(catalog_fold(n->cat, &w, &err), ERR_OK);
        assert_int_equal(planned(n, &sid, INT64_MIN, INT64_MAX, &s), 300 * (i + 1));
        assert_int_equal(s.files, 300 * (i + 1));
        assert_int_equal(planned(n, &sid, T0 + i * HOUR, T0 + i * HOUR + 10, NULL), 10);
    }
    node_stop(n);
    node_start(n, true);
    assert_int_equal(planned(n, &sid, INT64_MIN, INT64_MAX, &s), 3600);
    assert_int_equal(s.lifetime_rows, 3600);
}

static void test_create_drop(void **state)
{
    struct node *n = *state;
    const struct stream_config config = {0};
    struct stream_version *v = NULL;
    struct err err = {0};
    struct sid a = create(n, "Case"), b = create(n, "case");

    assert_memory_not_equal(a.text, b.text, 26);
    assert_int_equal(catalog_create(n->cat, slice_lit("Case"), &config, NULL, &v, &err), ERR_CONFLICT);
    assert_memory_equal(stream_version_sid(v)->text, a.text, 26);
    stream_version_unref(v);
    assert_int_equal(catalog_drop(n->cat, slice_lit("Case"), &err), ERR_OK);
    assert_int_equal(catalog_drop(n->cat, slice_lit("Case"), &err), ERR_NOT_FOUND);
    assert_int_equal(catalog_resolve(n->cat, slice_lit("Case"), &v, &err), ERR_NOT_FOUND);
    assert_int_equal(catalog_by_sid(n->cat, &a, &v, &err), ERR_NOT_FOUND);
    assert_int_equal(commit(n, &a, "Case", 1, 1), ERR_OK); /* of a dead incarnation: committed, dropped by fold */
    struct sid c = create(n, "Case");
    assert_memory_not_equal(a.text, c.text, 26);
    node_stop(n);
    node_start(n, true);
    assert_int_equal(catalog_resolve(n->cat, slice_lit("Case"), &v, &err), ERR_OK);
    assert_memory_equal(stream_version_sid(v)->text, c.text, 26);
    assert_int_equal(stream_version_stats(v)->rows, 0);
    stream_version_unref(v);
    assert_int_equal(catalog_create(n->cat, slice_lit("a.b"), &config, NULL, &v, &err), ERR_INVALID);
}

static void test_evolve(void **state)
{
    struct node *n = *state;
    struct sid sid = create(n, "grow");
    _cleanup_(schema_unrefp) struct schema *empty = schema_empty(), *want = NULL;
    struct schema *got = NULL;
    struct err err = {0};
    const struct field more[] = {{.name = slice_lit("host"), .type = {TYPE_UTF8, TYPE_NULL}},
                                 {.name = slice_lit("xs"), .type = {TYPE_LIST, TYPE_FLOAT64}},
                                 {.name = slice_lit("n"), .type = {TYPE_FLOAT64, TYPE_NULL}}};

    want = schema_grow(empty, more, 3);
    for (int round = 0; round < 2; round++) { /* the second time there is nothing to do */
        assert_int_equal(catalog_evolve(n->cat, &sid, want, &got, &err), ERR_OK);
        assert_int_equal(schema_count(got), 4);
        assert_int_equal(schema_field(got, 0)->id, 1);
        assert_int_equal(schema_field(got, 1)->id, 2);
        assert_int_equal(schema_field(got, 2)->id, 3);
        assert_int_equal(schema_field(got, 2)->item_id, 4);
        assert_int_equal(schema_field(got, 3)->id, 5);
        schema_unref(got);
        node_stop(n);
        node_start(n, true);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_row_path, node_setup, node_teardown),
        cmocka_unit_test_setup_teardown(test_spill, node_setup, node_teardown),
        cmocka_unit_test_setup_teardown(test_create_drop, node_setup, node_teardown),
        cmocka_unit_test_setup_teardown(test_evolve, node_setup, node_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
