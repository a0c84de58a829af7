#include "catalog/fixture_test.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/hash.h"

enum err_code save_header(void *arg, const struct lane_identity *id, struct err *err)
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

int64_t skew_us, mono_skew_us;
struct os_ops skewed_ops;
static struct os skewed = {&skewed_ops};

static int64_t skewed_wall_us(struct os *os)
{
    (void)os;
    return os_wall_us(os_real()) + skew_us;
}

static int64_t skewed_mono_us(struct os *os)
{
    (void)os;
    return os_mono_us(os_real()) + mono_skew_us;
}

struct os *os_skewed(void)
{
    skewed_ops = *os_real()->ops;
    skewed_ops.wall_us = skewed_wall_us;
    skewed_ops.mono_us = skewed_mono_us;
    return &skewed;
}

void node_start_as(struct node *n, const char *node_id, bool session)
{
    const struct catalog_options opt = {.shards = 4, .snapshot_retention_us = 0, .node_id = node_id, .endpoint = ""};
    struct err err = {0};

    n->os = os_skewed();
    assert_int_equal(store_local_open(n->os, n->dir, &n->store, &err), ERR_OK);
    assert_int_equal(catalog_open(n->os, n->store, &opt, &n->cat, &err), ERR_OK);
    if (session) {
        struct lane_identity id = n->id;
        assert_int_equal(catalog_session_open(n->cat, &id, save_header, n, &n->committed, &err), ERR_OK);
    }
}

void node_start(struct node *n, bool session)
{
    node_start_as(n, "01kjvktcgre5t2x7w4c6h0ryaq", session);
}

void node_stop(struct node *n)
{
    catalog_close(n->cat);
    n->store->ops->free(n->store);
}

int node_setup(void **state)
{
    struct node *n = calloc(1, sizeof(*n));

    (void)snprintf(n->dir, sizeof(n->dir), "/tmp/sluice_catalog_XXXXXX");
    assert_non_null(mkdtemp(n->dir));
    memset(n->id.wal_id, 'a', 32);
    skew_us = mono_skew_us = 0;
    node_start(n, true);
    *state = n;
    return 0;
}

int node_teardown(void **state)
{
    struct node *n = *state;
    char cmd[128];

    node_stop(n);
    (void)snprintf(cmd, sizeof(cmd), "rm -rf %s", n->dir);
    assert_int_equal(system(cmd), 0);
    free(n);
    return 0;
}

struct sid create(struct node *n, const char *name)
{
    const struct stream_config config = {.telemetry_type = slice_lit("logs"), .log_source = slice_lit("[]")};
    _cleanup_(stream_version_unrefp) struct stream_version *v = NULL;
    struct err err = {0};

    assert_int_equal(catalog_create(n->cat, slice_str(name), &config, NULL, &v, &err), ERR_OK);
    assert_int_equal(catalog_anchor(n->cat, stream_version_sid(v), &err), ERR_OK);
    return *stream_version_sid(v);
}

void take_config(void *arg, struct stream_config *config)
{
    *config = *(const struct stream_config *)arg;
}

slice file_bytes = {(const uint8_t *)"parquet", 7};

enum err_code commit(struct node *n, const struct sid *sid, const char *name, int hour, unsigned count)
{
    _cleanup_(buf_done) struct buf stem = BUF_INIT;
    struct catalog_file *files = calloc(count, sizeof(*files));
    struct err err = {0};

    catalog_next_file_stem(n->cat, &stem);
    for (unsigned i = 0; i < count; i++) {
        char *path = malloc(200);
        (void)snprintf(path, 200, "date=2026-02-16/hour=%02d/%s-%u.parquet", hour, buf_cstr(&stem), i);
        files[i] =
            (struct catalog_file){.sid = *sid, .stream = slice_str(name), .path = slice_str(path), .raw_bytes = 100};
        files[i].stats = (struct segment_stats){.rows = 1,
                                                .bytes = file_bytes.len,
                                                .tmin_us = T0 + hour * HOUR + i,
                                                .tmax_us = T0 + hour * HOUR + i,
                                                .cols_count = 1};
        files[i].stats.crc32c = crc32c(0, file_bytes.ptr, file_bytes.len);
        files[i].stats.cols[0] = (struct segment_stat){.field_id = 1, .min = i, .max = i, .has_minmax = true};
        struct buf key = BUF_INIT;
        (void)catalog_stream_dir(n->cat, slice_str(name), sid, &key);
        buf_str(&key, path);
        enum err_code rc = n->store->ops->create(n->store, buf_view(&key), file_bytes, &err);
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

enum err_code fake_merge(void *arg, const struct schema *schema, const struct merge_input *inputs, size_t count,
                         struct os_file *out, struct segment_stats *stats, struct err *err)
{
    struct node *n = arg;
    const struct os_iov iov = {"merged", 6};

    (void)schema;
    for (size_t i = 0; i < count; i++) {
        struct store_meta meta;
        assert_int_equal(n->store->ops->stat(n->store, inputs[i].key, &meta, err), ERR_OK);
    }
    *stats = (struct segment_stats){
        .rows = count, .bytes = 6, .crc32c = crc32c(0, "merged", 6), .tmin_us = T0 + HOUR, .tmax_us = T0 + HOUR + 100};
    return n->os->ops->pwritev(n->os, out, &iov, 1, 0, err);
}

void count_bad(void *arg, slice key, const char *why)
{
    (void)key, (void)why;
    ++*(unsigned *)arg;
}
