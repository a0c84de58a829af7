/* Goal: what one node does with the catalog over a directory: create, evolve, commit, see, fold, restart. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/hash.h"
#include "catalog/fixture_test.h"

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

/* ---- maintenance */

struct found {
    struct node *n;
    unsigned data, all;
};

static bool found_item(void *arg, const struct store_list_item *item)
{
    struct found *f = arg;

    f->data += slice_ends(item->key, slice_lit(".parquet"));
    f->all++;
    return true;
}

static unsigned objects(struct node *n, const char *prefix, bool data)
{
    struct found f = {n, 0, 0};
    struct err err;

    assert_int_equal(n->store->ops->list(n->store, slice_str(prefix), slice_lit(""), false, found_item, &f, &err),
                     ERR_OK);
    return data ? f.data : f.all;
}

static void put_file(struct node *n, const struct sid *sid, const char *name, const char *path)
{
    _cleanup_(buf_done) struct buf key = BUF_INIT;
    struct err err;

    (void)catalog_stream_dir(n->cat, slice_str(name), sid, &key);
    buf_str(&key, path);
    assert_int_equal(n->store->ops->create(n->store, buf_view(&key), slice_lit("parquet"), &err), ERR_OK);
}

/* What was only created has a name slot and no object else; before its first file it has head 0, and one that lost all its heads is damaged. */
static void test_bare(void **state)
{
    struct node *n = *state;
    const struct stream_config config = {.telemetry_type = slice_lit("logs"), .retention = slice_lit("[]")};
    struct stream_version *v;
    struct err err = {0};
    struct sid sid;

    assert_int_equal(catalog_create(n->cat, slice_lit("app"), &config, NULL, &v, &err), ERR_OK);
    sid = *stream_version_sid(v);
    stream_version_unref(v);
    assert_int_equal(objects(n, "app/", false), 0);
    assert_int_equal(objects(n, ".sluice/names/app/", false), 1);
    for (int round = 0; round < 2; round++) { /* with head 0 the same */
        node_stop(n);
        node_start(n, true);
        assert_int_equal(catalog_resolve(n->cat, slice_lit("app"), &v, &err), ERR_OK);
        assert_memory_equal(stream_version_sid(v)->text, sid.text, 26);
        assert_true(slice_eq(stream_version_config(v)->telemetry_type, slice_lit("logs")));
        stream_version_unref(v);
        for (int again = 0; again < 2; again++)
            assert_int_equal(catalog_anchor(n->cat, &sid, &err), ERR_OK);
        assert_int_equal(objects(n, "app/", false), 1);
    }
    put_file(n, &sid, "app", "date=2026-02-16/hour=00/n00001-00000000000000000009-aaaaaaaa-0.parquet");
    _cleanup_(buf_done) struct buf head = BUF_INIT;
    (void)catalog_stream_dir(n->cat, slice_lit("app"), &sid, &head);
    buf_str(&head, "_head/00000000000000000000");
    assert_int_equal(n->store->ops->remove(n->store, buf_view(&head), &err), ERR_OK);
    node_stop(n);
    node_start(n, true);
    assert_int_equal(catalog_resolve(n->cat, slice_lit("app"), &v, &err), ERR_CORRUPT);

    assert_int_equal(catalog_create(n->cat, slice_lit("web"), &config, NULL, &v, &err), ERR_OK);
    sid = *stream_version_sid(v);
    stream_version_unref(v);
    assert_int_equal(catalog_drop(n->cat, slice_lit("web"), &err), ERR_OK);
    assert_int_equal(catalog_anchor(n->cat, &sid, &err), ERR_OK); /* nothing is known of it, nothing is done */
    assert_int_equal(catalog_resolve(n->cat, slice_lit("web"), &v, &err), ERR_NOT_FOUND);
}

static uint64_t in_limbo(struct node *n)
{
    struct storage_report r;
    struct err err = {0};

    assert_int_equal(catalog_report(n->cat, &r, NULL, &err), ERR_OK);
    return r.limbo.objects;
}

static void ten_files(struct node *n, const struct sid *sid, const char *name, int hour)
{
    struct catalog_work w = {0};
    struct err err = {0};

    assert_int_equal(commit(n, sid, name, hour, 10), ERR_OK);
    assert_int_equal(catalog_fold(n->cat, &w, &err), ERR_OK);
}

/* Nothing that a version names is deleted; limbo stays until its slot is decided; what nobody names goes. */
static void test_gc(void **state)
{
    struct node *n = *state;
    struct sid sid = create(n, "gc");
    struct catalog_work w = {0};
    struct storage_report r;
    struct err err = {0};
    _cleanup_(buf_done) struct buf json = BUF_INIT;

    for (int i = 0; i < 4; i++) {
        assert_int_equal(commit(n, &sid, "gc", i, 2), ERR_OK);
        if (i < 3)
            assert_int_equal(catalog_fold(n->cat, &w, &err), ERR_OK);
    }
    put_file(n, &sid, "gc",
             "date=2026-02-16/hour=01/n00001-00000000000000000001-00000000-7.parquet"); /* decided without it */
    put_file(n, &sid, "gc", "date=2026-02-16/hour=01/n00001-00000000000000000099-00000000-0.parquet"); /* limbo */
    put_file(n, &sid, "gc",
             "date=2026-02-16/hour=01/c00000000000000000001-00000000-0.parquet"); /* of no active claim */
    put_file(n, &sid, "gc", "date=2026-02-16/hour=01/foreign");
    assert_int_equal(catalog_report(n->cat, &r, &json, &err), ERR_OK);
    assert_int_equal(r.limbo.objects, 1);
    assert_int_equal(r.garbage.objects, 2);
    assert_int_equal(r.unknown.objects, 1);
    assert_int_equal(catalog_gc(n->cat, &w, &err), ERR_OK);
    assert_int_equal(w.files_deleted, 2);
    assert_int_equal(planned(n, &sid, INT64_MIN, INT64_MAX, NULL), 8);
    assert_int_equal(objects(n, "gc/", true), 9);
    assert_int_equal(catalog_report(n->cat, &r, NULL, &err), ERR_OK);
    assert_int_equal(r.garbage.objects, 0);
    assert_int_equal(r.live.objects, 8 + 1); /* files and the tail head */
    node_stop(n);
    node_start(n, true);
    assert_int_equal(planned(n, &sid, INT64_MIN, INT64_MAX, NULL), 8);
}

/* A pack whose writer died before its head, of a stream that nothing happens to any more. */
static void test_gc_of_undecided_heads(void **state)
{
    struct node *n = *state;
    struct sid sid = create(n, "idle");
    struct catalog_work w = {0};
    struct err err = {0};

    ten_files(n, &sid, "idle", 1);
    put_file(n, &sid, "idle", "_meta/00000000000000000002-00000000-0.slf");
    put_file(n, &sid, "idle", "_meta/00000000000000000003-00000000-0.slm");
    for (int i = 0; i < 3; i++)
        assert_int_equal(catalog_gc(n->cat, &w, &err), ERR_OK);
    assert_int_equal(in_limbo(n), 2); /* its writer may be slow */
    skew_us += 2 * HOUR;
    for (int i = 0; i < 3; i++)
        assert_int_equal(catalog_gc(n->cat, &w, &err), ERR_OK);
    assert_int_equal(in_limbo(n), 0);
    assert_int_equal(planned(n, &sid, INT64_MIN, INT64_MAX, NULL), 10);
    assert_int_equal(objects(n, "idle/", true), 10);
}

/* What a probe that was killed, or whose removes failed, left goes an hour later; nothing else that lies there. */
static void test_gc_of_probes(void **state)
{
    static const char *const keys[] = {".sluice/probe/01kjvktcgre5t2x7w4c6h0ryaq-one",
                                       ".sluice/probe/01kjvktcgre5t2x7w4c6h0ryaq-list/sub/024",
                                       ".sluice/probe/0123456789abcdef0123456789abcdef", ".sluice/probe/notes",
                                       ".sluice/probe/01kjvktcgre5t2x7w4c6h0ryaq"};
    struct node *n = *state;
    struct catalog_work w = {0};
    struct storage_report r;
    struct err err = {0};

    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        assert_int_equal(n->store->ops->create(n->store, slice_str(keys[i]), slice_lit("x"), &err), ERR_OK);
    assert_int_equal(catalog_report(n->cat, &r, NULL, &err), ERR_OK);
    assert_int_equal(r.garbage.objects, 0);
    uint64_t system = r.system.objects;
    assert_int_equal(catalog_gc(n->cat, &w, &err), ERR_OK);
    assert_int_equal(objects(n, ".sluice/probe/", false), 5); /* its probe may be at work */
    skew_us += HOUR + HOUR / 60;
    assert_int_equal(catalog_report(n->cat, &r, NULL, &err), ERR_OK);
    assert_int_equal(r.garbage.objects, 3);
    assert_int_equal(r.garbage.bytes, 3);
    assert_int_equal(r.system.objects, system - 3);
    assert_int_equal(catalog_gc(n->cat, &w, &err), ERR_OK);
    assert_int_equal(w.files_deleted, 3);
    assert_int_equal(objects(n, ".sluice/probe/", false), 2);
    assert_int_equal(catalog_report(n->cat, &r, NULL, &err), ERR_OK);
    assert_int_equal(r.garbage.objects, 0);
}

/* Later, when the lane's records have been superseded and folded: nothing but heads can name a file. */
static void collect_later(struct node *n, const struct sid *sid, const char *name)
{
    struct catalog_work w = {0};
    struct err err = {0};

    assert_int_equal(commit(n, sid, name, 23, 1), ERR_OK);
    assert_int_equal(catalog_fold(n->cat, &w, &err), ERR_OK);
    skew_us += 2 * HOUR;
    assert_int_equal(catalog_gc(n->cat, &w, &err), ERR_OK);
    assert_int_equal(catalog_gc(n->cat, &w, &err), ERR_OK);
}

static void test_reconcile(void **state)
{
    struct node *n = *state;
    struct sid a = create(n, "twice");
    struct catalog_work w = {0};
    struct err err = {0};

    assert_int_equal(commit(n, &a, "twice", 1, 3), ERR_OK);
    assert_int_equal(catalog_fold(n->cat, &w, &err), ERR_OK);
    assert_int_equal(catalog_drop(n->cat, slice_lit("twice"), &err), ERR_OK);
    struct sid b = create(n, "twice");
    assert_int_equal(commit(n, &b, "twice", 1, 2), ERR_OK);
    put_file(n, &(struct sid){"01zzzzzzzzzzzzzzzzzzzzzzzz"}, "stranger", "date=2026-02-16/hour=01/x");
    assert_int_equal(catalog_reconcile(n->cat, &w, &err), ERR_OK);
    assert_int_equal(w.streams_swept, 1);
    assert_int_equal(objects(n, "twice/", true), 2);
    assert_int_equal(objects(n, "stranger/", false), 1);
    assert_int_equal(planned(n, &b, INT64_MIN, INT64_MAX, NULL), 2);
    node_stop(n);
    node_start(n, true);
    assert_int_equal(planned(n, &b, INT64_MIN, INT64_MAX, NULL), 2);
}

static enum err_code failing_merge(void *arg, const struct schema *schema, const struct merge_input *inputs,
                                   size_t count, struct os_file *out, struct segment_stats *stats, struct err *err)
{
    (void)arg, (void)schema, (void)inputs, (void)count, (void)out, (void)stats;
    return err_set(err, ERR_IO, "no");
}

static void test_compact(void **state)
{
    struct node *n = *state;
    struct sid sid = create(n, "compact");
    struct catalog_work w = {0};
    struct stream_stats s;
    struct err err = {0};

    assert_int_equal(commit(n, &sid, "compact", 1, 10), ERR_OK);
    assert_int_equal(catalog_fold(n->cat, &w, &err), ERR_OK);
    assert_int_equal(catalog_compact(n->cat, failing_merge, n, &w, &err), ERR_IO);
    assert_int_equal(w.outputs_compacted, 0);
    assert_int_equal(planned(n, &sid, INT64_MIN, INT64_MAX, NULL), 10);
    assert_int_equal(catalog_compact(n->cat, fake_merge, n, &w, &err), ERR_OK);
    assert_int_equal(w.outputs_compacted, 1);
    assert_int_equal(w.inputs_compacted, 10);
    assert_int_equal(planned(n, &sid, INT64_MIN, INT64_MAX, &s), 1);
    assert_int_equal(s.rows, 10);
    assert_int_equal(s.raw_bytes, 1000);
    assert_int_equal(catalog_gc(n->cat, &w, &err), ERR_OK); /* the lane's record still names the inputs */
    assert_int_equal(objects(n, "compact/", true), 11);
    collect_later(n, &sid, "compact");
    assert_int_equal(objects(n, "compact/", true), 2);
    assert_int_equal(catalog_compact(n->cat, fake_merge, n, &w, &err), ERR_OK);
    assert_int_equal(w.outputs_compacted, 1);
    node_stop(n);
    node_start(n, true);
    assert_int_equal(planned(n, &sid, INT64_MIN, INT64_MAX, &s), 2);
}

/* A compactor that dies after its output was published: neither its commit nor the end of its claim reaches the store. */
static bool no_heads;
static enum err_code (*real_create)(struct store *s, slice key, slice body, struct err *err);

static enum err_code create_but_heads(struct store *s, slice key, slice body, struct err *err)
{
    if (no_heads && memmem(key.ptr, key.len, "/_head/", 7))
        return err_set(err, ERR_IO, "gone");
    return real_create(s, key, body, err);
}

static enum err_code last_merge(void *arg, const struct schema *schema, const struct merge_input *inputs, size_t count,
                                struct os_file *out, struct segment_stats *stats, struct err *err)
{
    no_heads = true;
    return fake_merge(arg, schema, inputs, count, out, stats, err);
}

static void die_compacting(struct node *n)
{
    const struct store_ops *ops = n->store->ops;
    struct store_ops dying = *ops;
    struct catalog_work w = {0};
    struct err err = {0};

    real_create = ops->create;
    dying.create = create_but_heads;
    n->store->ops = &dying;
    assert_int_equal(catalog_compact(n->cat, last_merge, n, &w, &err), ERR_IO);
    no_heads = false;
    n->store->ops = ops;
    assert_int_equal(w.outputs_compacted, 0);
}

static uint64_t compacted(struct node *n)
{
    struct catalog_work w = {0};
    struct err err = {0};

    assert_int_equal(catalog_compact(n->cat, fake_merge, n, &w, &err), ERR_OK);
    return w.inputs_compacted;
}

/* A claim that its node did not end is cancelled by that node's next round, or its next start. */
static void test_claim_of_an_earlier_start(void **state)
{
    struct node *n = *state;
    struct sid sid = create(n, "killed");

    assert_int_equal(compacted(n), 0); /* a claim of a later round than the first is known by its start alone */
    skew_us += HOUR / 60;
    ten_files(n, &sid, "killed", 1);
    die_compacting(n);
    assert_int_equal(in_limbo(n), 1);
    assert_int_equal(compacted(n), 10); /* the store was away, the node lived on */
    assert_int_equal(in_limbo(n), 0);
    ten_files(n, &sid, "killed", 2);
    die_compacting(n);
    node_stop(n);
    node_start(n, true);
    assert_int_equal(in_limbo(n), 1);
    assert_int_equal(compacted(n), 10);
    assert_int_equal(in_limbo(n), 0);
    assert_int_equal(planned(n, &sid, INT64_MIN, INT64_MAX, NULL), 2);
}

/* Who has our node id and made its claim after we started is no earlier start of ours: a copy of our disk is in use. */
static void test_claim_of_a_copy(void **state)
{
    struct node *n = *state, copy = *n;
    struct sid sid = create(n, "copied");

    assert_int_equal(compacted(n), 0);
    ten_files(n, &sid, "copied", 1);
    skew_us += HOUR / 60;
    node_start(&copy, false);
    die_compacting(&copy);
    assert_int_equal(compacted(n), 0);
    assert_int_equal(compacted(n), 0);
    assert_int_equal(compacted(&copy), 10);
    node_stop(&copy);
}

/* A node that does not come back holds its claim until others count it out, by its registration. */
static void test_claim_of_the_dead(void **state)
{
    struct node *n = *state, other = *n;
    struct sid sid = create(n, "left");
    struct catalog_work w = {0};
    struct err err = {0};

    ten_files(n, &sid, "left", 1);
    node_start_as(&other, "01kjvktcgre5t2x7w4c6h0ryzz", false);
    die_compacting(n);
    for (int i = 0; i < 3; i++)
        assert_int_equal(compacted(&other), 0);
    assert_int_equal(in_limbo(&other), 1);
    mono_skew_us += 179 * INT64_C(1000000);
    assert_int_equal(compacted(&other), 0);
    mono_skew_us += 2 * INT64_C(1000000);
    assert_int_equal(compacted(&other), 10);
    assert_int_equal(in_limbo(&other), 0);
    assert_int_equal(planned(&other, &sid, INT64_MIN, INT64_MAX, NULL), 1);
    ten_files(n, &sid, "left", 2); /* nobody waits for who says that it leaves */
    die_compacting(n);
    assert_int_equal(catalog_fold(other.cat, &w, &err), ERR_OK);
    assert_int_equal(compacted(&other), 0);
    assert_int_equal(catalog_unregister(n->cat, &err), ERR_OK);
    assert_int_equal(compacted(&other), 10);
    node_stop(&other);
}

static enum err_code edit_nameless(void *arg, struct stream *s, struct head *h, bool *changed, struct err *err)
{
    const struct entry_list *files = &h->files;
    struct head_claim *c = ARRAY_PUSH(h->claims, h->claims_count, h->claims_cap);

    (void)s, (void)err;
    *c = (struct head_claim){.job = slice_lit("0123"), .slot = h->slot, .deadline_us = *(int64_t *)arg};
    c->inputs = arena_alloc(&h->arena, files->count * sizeof(slice));
    for (; c->inputs_count < files->count; c->inputs_count++)
        c->inputs[c->inputs_count] = arena_copy(&h->arena, files->items[c->inputs_count]->path);
    *changed = true;
    return ERR_OK;
}

/* A claim of a version that did not say whose it is ends at its deadline, and not before. */
static void test_claim_of_nobody(void **state)
{
    struct node *n = *state;
    struct sid sid = create(n, "older");
    struct err err = {0};
    int64_t deadline_us;

    ten_files(n, &sid, "older", 1);
    assert_int_equal(n->store->ops->now_us(n->store, &deadline_us, &err), ERR_OK);
    deadline_us += HOUR;
    struct stream *s = stream_get(n->cat, &sid);
    assert_int_equal(head_update(n->cat, s, edit_nameless, &deadline_us, &err), ERR_OK);
    stream_unref(n->cat, s);
    node_stop(n);
    node_start(n, true);
    assert_int_equal(compacted(n), 0);
    skew_us += HOUR - HOUR / 60;
    assert_int_equal(compacted(n), 0);
    skew_us += HOUR / 60;
    assert_int_equal(compacted(n), 10);
}

static size_t heads_read;
static enum err_code (*real_read)(struct store *s, slice key, uint64_t offset, uint64_t len, struct buf *out,
                                  struct store_meta *meta, struct err *err);

static enum err_code counted_read(struct store *s, slice key, uint64_t offset, uint64_t len, struct buf *out,
                                  struct store_meta *meta, struct err *err)
{
    heads_read += memmem(key.ptr, key.len, "/_head/", 7) != NULL;
    return real_read(s, key, offset, len, out, meta, err);
}

/* Whether a file is garbage is found with a few of the heads that are kept; each would be a request to a bucket. */
static void test_gc_reads_few_heads(void **state)
{
    struct node *n = *state;
    const struct store_ops *ops = n->store->ops;
    struct store_ops counting = *ops;
    struct sid sid = create(n, "busy");
    struct catalog_work w = {0};
    struct storage_report r;
    struct err err = {0};

    n->cat->snapshot_retention_us = 10 * HOUR;
    for (int i = 0; i < 80; i++) {
        assert_int_equal(commit(n, &sid, "busy", 1, 1), ERR_OK);
        assert_int_equal(catalog_fold(n->cat, &w, &err), ERR_OK);
    }
    skew_us += 2 * HOUR;
    assert_int_equal(catalog_gc(n->cat, &w, &err), ERR_OK); /* takes the records that name the files */
    assert_int_equal(catalog_compact(n->cat, fake_merge, n, &w, &err), ERR_OK);
    put_file(n, &sid, "busy", "date=2026-02-16/hour=01/c00000000000000000001-00000000-0.parquet"); /* of no claim */
    put_file(n, &sid, "busy", "date=2026-02-16/hour=01/n00001-00000000000000000040-00000000-0.parquet");
    assert_int_equal(catalog_report(n->cat, &r, NULL, &err), ERR_OK);
    assert_true(r.live.objects >= 2 && r.retained.objects >= 150 && r.garbage.objects == 2); /* heads are objects too */
    real_read = ops->read;
    counting.read = counted_read;
    n->store->ops = &counting;
    w.files_deleted = 0;
    enum err_code rc = catalog_gc(n->cat, &w, &err);
    n->store->ops = ops;
    assert_int_equal(rc, ERR_OK);
    assert_int_equal(w.files_deleted, 2);
    assert_true(heads_read > 0 && heads_read <= 24);
    assert_int_equal(catalog_report(n->cat, &r, NULL, &err), ERR_OK);
    assert_true(r.retained.objects >= 150 && r.garbage.objects == 0);
}

/* What a probe found stands in .sluice/cluster: from the first start, again when it is another, and beside what a newer version keeps there. */
static void reopen(struct node *n, const char *product, int64_t at_us)
{
    struct store_facts facts = {.at_us = at_us, .exclusive = true, .clock_offset_us = -5};
    struct catalog_options opt = {.snapshot_retention_us = 0, .endpoint = "", .facts = product ? &facts : NULL};
    struct err err = {0};

    (void)snprintf(facts.product, sizeof(facts.product), "%s", product ? product : "");
    catalog_close(n->cat);
    assert_int_equal(catalog_open(n->os, n->store, &opt, &n->cat, &err), ERR_OK);
}

static void check_probe(struct node *n, size_t slots, const char *expected)
{
    _cleanup_(buf_done) struct buf json = BUF_INIT;

    catalog_probe(n->cat, &json);
    assert_string_equal(json.len ? buf_cstr(&json) : "", expected);
    assert_int_equal(objects(n, ".sluice/cluster/", false), slots);
}

/* Of two nodes that live each stream is one's. */
static void test_turns(void **state)
{
    struct node *n = *state, b = *n;
    struct node_seen *of_n, *of_b;
    size_t n_count, b_count;
    unsigned ours = 0;
    struct err err = {0};

    node_start_as(&b, "01kjvktcgre5t2x7w4c6h0ryaq.b", false);
    assert_int_equal(node_beat(n->cat, &err), ERR_OK);
    assert_int_equal(node_beat(b.cat, &err), ERR_OK);
    assert_int_equal(nodes_living(n->cat, &of_n, &n_count, &err), ERR_OK);
    assert_int_equal(nodes_living(b.cat, &of_b, &b_count, &err), ERR_OK);
    assert_int_equal(n_count, 1);
    assert_int_equal(b_count, 1);
    for (uint8_t i = 0; i < 100; i++) {
        const struct sid sid = {{(char)i}};
        bool mine = nodes_turn(n->cat, of_n, n_count, &sid);
        assert_int_equal(mine, !nodes_turn(b.cat, of_b, b_count, &sid));
        assert_true(nodes_turn(n->cat, NULL, 0, &sid));
        ours += mine;
    }
    assert_in_range(ours, 20, 80);
    nodes_seen_done(of_n, n_count);
    nodes_seen_done(of_b, b_count);
    node_stop(&b);
}

static void test_probe_noted(void **state)
{
    struct node *n = *state;
    _cleanup_(slot_done) struct slot tail = {0};
    _cleanup_(buf_done) struct buf body = BUF_INIT;
    struct err err = {0};
    char id[40];

    (void)snprintf(id, sizeof(id), "%s", catalog_cluster(n->cat));
    check_probe(n, 1, ""); /* nobody probed */
    reopen(n, "MinIO", 1000);
    check_probe(n, 2, "{\"at\":1000,\"clock_offset\":-5,\"exclusive\":true,\"product\":\"MinIO\"}");
    reopen(n, "MinIO", 2000);
    reopen(n, NULL, 0);
    check_probe(n, 2, "{\"at\":1000,\"clock_offset\":-5,\"exclusive\":true,\"product\":\"MinIO\"}");
    reopen(n, "MinIO", 8 * 24 * HOUR);
    check_probe(n, 3, "{\"at\":691200000000,\"clock_offset\":-5,\"exclusive\":true,\"product\":\"MinIO\"}");
    struct append a = {.seq = slice_lit(".sluice/cluster/"), .kind = APPEND_NAME, .type = SLOT_CLUSTER};
    assert_int_equal(seq_read_tail(&n->cat->io, a.seq, SLOT_CLUSTER, &tail, &err), ERR_OK);
    assert_int_equal(json_object_set_new(tail.body, "zone", json_string("of a newer version")), 0);
    json_put(&body, tail.body);
    a.tail = (struct seq_tail){tail.seq, tail.nonce};
    a.body = buf_view(&body);
    seq_nonce(&n->cat->io, &a.nonce);
    assert_int_equal(seq_append(&n->cat->io, &a, &err), ERR_OK);
    reopen(n, "SeaweedFS 5.0", 8 * 24 * HOUR);
    check_probe(n, 5, "{\"at\":691200000000,\"clock_offset\":-5,\"exclusive\":true,\"product\":\"SeaweedFS 5.0\"}");
    slot_done(&tail);
    assert_int_equal(seq_read_tail(&n->cat->io, a.seq, SLOT_CLUSTER, &tail, &err), ERR_OK);
    assert_string_equal(json_string_value(json_object_get(tail.body, "zone")), "of a newer version");
    assert_string_equal(json_string_value(json_object_get(tail.body, "cluster")), id);
}

/* ---- a dry run */

struct told {
    char keys[200][220];
    size_t count;
};

static void note_told(void *arg, const struct gc_item *item)
{
    struct told *t = arg;

    assert_true(t->count < 200 && slice_starts(item->key, item->folder));
    (void)snprintf(t->keys[t->count++], sizeof(t->keys[0]), SLICE_FMT " %s %" PRIu64, SLICE_ARG(item->key),
                   gc_reason_text(item->why), item->bytes);
}

static bool note_key(void *arg, const struct store_list_item *item)
{
    struct told *t = arg;

    assert_true(t->count < 200);
    (void)snprintf(t->keys[t->count++], sizeof(t->keys[0]), SLICE_FMT, SLICE_ARG(item->key));
    return true;
}

static bool has_told(const struct told *t, const char *text)
{
    for (size_t i = 0; i < t->count; i++)
        if (strstr(t->keys[i], text))
            return true;
    return false;
}

static struct told *all_keys(struct node *n)
{
    struct told *t = calloc(1, sizeof(*t));
    struct err err = {0};

    assert_int_equal(n->store->ops->list(n->store, slice_lit(""), slice_lit(""), false, note_key, t, &err), ERR_OK);
    return t;
}

/* A dry run through a store that cannot write, then a real round: the same objects, in the same order, and they are what went. */
static void check_dry_run(struct node *n, size_t least, struct told **out)
{
    struct told *would = calloc(1, sizeof(*would)), *did = calloc(1, sizeof(*did));
    struct gc_options look = {.dry_run = true, .whole = true, .tell = note_told, .arg = would};
    const struct gc_options act = {.whole = true, .tell = note_told, .arg = did};
    const struct catalog_options opt = {.endpoint = ""};
    struct catalog_work w = {0}, v = {0};
    struct store *reader;
    struct catalog *cat;
    struct err err = {0};

    struct told *before = all_keys(n);
    assert_int_equal(store_local_open_reader(n->os, n->dir, &reader, &err), ERR_OK);
    assert_int_equal(catalog_open(n->os, reader, &opt, &cat, &err), ERR_OK);
    assert_int_equal(catalog_collect(cat, &look, &w, &err), ERR_OK);
    catalog_close(cat);
    reader->ops->free(reader);
    struct told *between = all_keys(n);
    assert_int_equal(before->count, between->count);
    assert_int_equal(catalog_collect(n->cat, &act, &v, &err), ERR_OK);
    struct told *after = all_keys(n);
    assert_int_equal(would->count, did->count);
    for (size_t i = 0; i < did->count; i++)
        assert_string_equal(would->keys[i], did->keys[i]);
    assert_memory_equal(&w, &v, sizeof(w));
    assert_true(did->count >= least);
    for (size_t i = 0; i < before->count; i++) /* every key is told of, or is still there */
        assert_true(has_told(did, before->keys[i]) != has_told(after, before->keys[i]));
    free(before), free(between), free(after), free(would);
    *out = did;
}

static void test_dry_run(void **state)
{
    struct node *n = *state;
    struct sid dead = create(n, "dead"), sid = create(n, "live");
    struct catalog_work w = {0};
    struct told *did;
    struct err err = {0};

    assert_int_equal(commit(n, &dead, "dead", 1, 3), ERR_OK);
    assert_int_equal(commit(n, &sid, "live", 1, 10), ERR_OK);
    assert_int_equal(catalog_fold(n->cat, &w, &err), ERR_OK);
    for (int i = 0; i < 2; i++) /* one stream, then the other */
        assert_int_equal(catalog_compact(n->cat, fake_merge, n, &w, &err), ERR_OK);
    assert_int_equal(commit(n, &sid, "live", 20, 1), ERR_OK);
    assert_int_equal(catalog_fold(n->cat, &w, &err), ERR_OK);
    assert_int_equal(catalog_drop(n->cat, slice_lit("dead"), &err), ERR_OK);
    put_file(n, &sid, "live", "date=2026-02-16/hour=01/c00000000000000000001-00000000-0.parquet");
    check_dry_run(n, 5, &did); /* the lane's records still name the inputs; a DEAD head stays for a week */
    assert_true(has_told(did, "dead incarnation") && has_told(did, "unlisted data file"));
    assert_false(has_told(did, "folded lane record"));
    free(did);
    assert_int_equal(commit(n, &sid, "live", 21, 1), ERR_OK);
    assert_int_equal(catalog_fold(n->cat, &w, &err), ERR_OK);
    skew_us += 2 * HOUR;
    check_dry_run(n, 12, &did); /* without the records and the heads that go, nothing names the inputs */
    assert_true(has_told(did, "folded lane record") && has_told(did, "superseded checkpoint"));
    assert_true(has_told(did, "unlisted data file") && has_told(did, "superseded head"));
    free(did);
    check_dry_run(n, 0, &did);
    free(did);
    skew_us += 8 * 24 * HOUR;
    check_dry_run(n, 1, &did);
    assert_true(has_told(did, "dead/") && has_told(did, "_head/"));
    free(did);
}

/* A deleter that died after the DEAD name: the round makes the DEAD head, and the heads below it go. A lane without an owner: its limbo is
 * decided by the round itself. */
static void test_dry_run_of_unfinished(void **state)
{
    struct node *n = *state;
    struct sid sid = create(n, "half"), other = create(n, "other");
    struct catalog_work w = {0};
    struct told *did;
    struct err err = {0};

    assert_int_equal(commit(n, &sid, "half", 1, 2), ERR_OK);
    assert_int_equal(commit(n, &other, "other", 1, 1), ERR_OK);
    assert_int_equal(catalog_fold(n->cat, &w, &err), ERR_OK);
    assert_int_equal(catalog_drop(n->cat, slice_lit("half"), &err), ERR_OK);
    _cleanup_(buf_done) struct buf seq = BUF_INIT, key = BUF_INIT;
    uint64_t tail;
    seq_head(&seq, slice_lit("half"), &sid);
    assert_int_equal(seq_find_tail(&n->cat->io, buf_view(&seq), SLOT_NONE, &tail, &err), ERR_OK);
    slot_key(&key, buf_view(&seq), tail);
    assert_int_equal(n->store->ops->remove(n->store, buf_view(&key), &err), ERR_OK);
    put_file(n, &other, "other", "date=2026-02-16/hour=01/n00001-00000000000000000004-00000000-0.parquet");
    put_file(n, &other, "other", "date=2026-02-16/hour=01/n00001-00000000000000000003-00000000-0.parquet");
    skew_us += 2 * HOUR;
    node_stop(n);
    node_start(n, false); /* nobody owns n00001 */
    check_dry_run(n, 3, &did);
    assert_true(has_told(did, "half/") && has_told(did, "_head/"));
    assert_true(has_told(did, "n00001-00000000000000000003-") && !has_told(did, "n00001-00000000000000000004-"));
    free(did);
}

/* Retention drops an input while the merge runs: the commit's check fails, the output is garbage, nothing comes back. */
static struct sid racing;
static enum err_code racing_merge(void *arg, const struct schema *schema, const struct merge_input *inputs,
                                  size_t count, struct os_file *out, struct segment_stats *stats, struct err *err)
{
    struct node *n = arg;
    struct catalog_work w = {0};
    struct stream_config config = {.retention_days = 1};

    assert_int_equal(catalog_configure(n->cat, &racing, take_config, &config, err), ERR_OK);
    assert_int_equal(catalog_expire(n->cat, &w, err), ERR_OK);
    assert_int_equal(w.files_expired, 10);
    return fake_merge(arg, schema, inputs, count, out, stats, err);
}

static void test_compact_or_expire(void **state)
{
    struct node *n = *state;
    struct catalog_work w = {0};
    struct stream_stats s;
    struct err err = {0};

    racing = create(n, "race");
    assert_int_equal(commit(n, &racing, "race", 1, 10), ERR_OK);
    assert_int_equal(catalog_fold(n->cat, &w, &err), ERR_OK);
    assert_int_equal(catalog_compact(n->cat, racing_merge, n, &w, &err), ERR_OK);
    assert_int_equal(w.outputs_compacted, 0);
    assert_int_equal(planned(n, &racing, INT64_MIN, INT64_MAX, &s), 0);
    assert_int_equal(s.deleted_rows, 10);
    assert_int_equal(s.lifetime_rows, 10);
    collect_later(n, &racing, "race");
    assert_int_equal(objects(n, "race/", true), 1);
}

static void test_expire_manifest(void **state)
{
    struct node *n = *state;
    struct sid sid = create(n, "old");
    struct stream_config config = {.retention_days = 1};
    struct catalog_work w = {0};
    struct stream_stats s;
    struct err err = {0};

    for (int i = 0; i < 3; i++) {
        assert_int_equal(commit(n, &sid, "old", i, 300), ERR_OK);
        assert_int_equal(catalog_fold(n->cat, &w, &err), ERR_OK);
    }
    assert_int_equal(catalog_configure(n->cat, &sid, take_config, &config, &err), ERR_OK);
    assert_int_equal(catalog_expire(n->cat, &w, &err), ERR_OK);
    assert_int_equal(w.files_expired, 900);
    assert_int_equal(planned(n, &sid, INT64_MIN, INT64_MAX, &s), 0);
    assert_int_equal(s.deleted_file_bytes, 6300);
    collect_later(n, &sid, "old");
    assert_int_equal(objects(n, "old/", true), 1);
    assert_int_equal(objects(n, "old/", false), 2); /* and the tail head */
}

static void test_scrub(void **state)
{
    struct node *n = *state;
    struct sid sid = create(n, "scrub");
    struct catalog_work w = {0};
    unsigned bad = 0;
    char cmd[256];
    struct err err = {0};

    assert_int_equal(commit(n, &sid, "scrub", 1, 5), ERR_OK);
    assert_int_equal(catalog_fold(n->cat, &w, &err), ERR_OK);
    assert_int_equal(catalog_scrub(n->cat, UINT64_MAX, count_bad, &bad, &err), ERR_OK);
    assert_int_equal(bad, 0);
    (void)snprintf(cmd, sizeof(cmd),
                   "f=$(find %s/scrub -name '*-3.parquet'); printf X | dd of=$f conv=notrunc status=none", n->dir);
    assert_int_equal(system(cmd), 0);
    for (int i = 0; i < 8; i++) /* a few bytes at a time: every file once a round */
        assert_int_equal(catalog_scrub(n->cat, 8, count_bad, &bad, &err), ERR_OK);
    assert_true(bad >= 1);
}

/* ---- a disk error on one object, or on all */

static struct {
    struct store_ops ops;
    const struct store_ops *real;
    char sick[300]; /* keys with this prefix cannot be read */
    bool gone;      /* nor is anything written any more */
} disk;

static enum err_code disk_read(struct store *s, slice key, uint64_t offset, uint64_t len, struct buf *out,
                               struct store_meta *meta, struct err *err)
{
    if (disk.sick[0] && slice_starts(key, slice_str(disk.sick)))
        return err_set(err, ERR_IO, SLICE_FMT ": Input/output error", SLICE_ARG(key));
    return disk.real->read(s, key, offset, len, out, meta, err);
}

static enum err_code disk_create(struct store *s, slice key, slice bytes, struct err *err)
{
    bool registration = slice_starts(key, slice_lit(".sluice/nodes/")); /* in the moment before the disk went */
    return disk.gone && !registration ? err_set(err, ERR_IO, "Input/output error")
                                      : disk.real->create(s, key, bytes, err);
}

static enum err_code node_open_sick(struct node *n, struct err *err)
{
    const struct catalog_options opt = {.shards = 4, .node_id = "01kjvktcgre5t2x7w4c6h0ryaq", .endpoint = ""};

    n->os = os_skewed();
    assert_int_equal(store_local_open(n->os, n->dir, &n->store, err), ERR_OK);
    disk.real = n->store->ops;
    disk.ops = *n->store->ops;
    disk.ops.read = disk_read;
    disk.ops.create = disk_create;
    n->store->ops = &disk.ops;
    return catalog_open(n->os, n->store, &opt, &n->cat, err);
}

static void test_disk_error(void **state)
{
    struct node *n = *state;
    struct stream_version *v;
    struct catalog_work work = {0};
    struct err err = {0};
    char head[200];
    const char *const sick[] = {head, ".sluice/names/app/"};

    struct sid sid = create(n, "app");
    (void)snprintf(head, sizeof(head), "app/%s/_head/", sid.text);
    (void)create(n, "web");
    node_stop(n);
    for (size_t i = 0; i < ARRAY_LEN(sick); i++) {
        (void)snprintf(disk.sick, sizeof(disk.sick), "%s", sick[i]);
        if (node_open_sick(n, &err) != ERR_OK)
            fail_msg("open: %s", err.msg);
        assert_int_equal(catalog_resolve(n->cat, slice_lit("app"), &v, &err), ERR_CORRUPT);
        assert_non_null(strstr(err.msg, "Input/output error"));
        assert_int_equal(catalog_resolve(n->cat, slice_lit("web"), &v, &err), ERR_OK);
        stream_version_unref(v);
        assert_int_equal(catalog_fold(n->cat, &work, &err), ERR_OK);
        assert_int_equal(catalog_resolve(n->cat, slice_lit("app"), &v, &err), ERR_CORRUPT);
        disk.sick[0] = 0;
        assert_int_equal(catalog_fold(n->cat, &work, &err), ERR_OK);
        assert_int_equal(catalog_resolve(n->cat, slice_lit("app"), &v, &err), ERR_OK);
        stream_version_unref(v);
        node_stop(n);
    }
    disk.gone = true; /* what is cached can be read still: no reason to call one stream after the other damaged */
    for (size_t i = 0; i < ARRAY_LEN(sick); i++) {
        (void)snprintf(disk.sick, sizeof(disk.sick), "%s", sick[i]);
        assert_int_equal(node_open_sick(n, &err), ERR_IO);
        n->store->ops->free(n->store);
    }
    disk.gone = false;
    disk.sick[0] = 0;
    node_start(n, false);
}

/* ---- a drop while a fold of the same node has read the name as LIVE and not looked for its stream yet */

enum { FOLD_RUNS, NAME_READ, DROP_AT_GATE, DROP_FORGOT, FOLD_OVER };
static struct {
    struct store_ops ops;
    const struct store_ops *real;
    struct os_mutex *mu;
    struct os_cond *cond;
    int at;
    struct node *node;
    enum err_code dropped;
} duel;
static _Thread_local bool duel_folds, duel_drops;

static void duel_is_at(int at)
{
    os_lock(os_real(), duel.mu);
    duel.at = MAX(duel.at, at);
    os_real()->ops->cond_broadcast(os_real(), duel.cond);
    os_unlock(os_real(), duel.mu);
}

static void duel_await(int at)
{
    os_lock(os_real(), duel.mu);
    while (duel.at < at)
        (void)os_real()->ops->cond_wait(os_real(), duel.cond, duel.mu, -1);
    os_unlock(os_real(), duel.mu);
}

/* The fold goes on when the drop waits for it, or has forgotten the stream. */
static enum err_code duel_read(struct store *s, slice key, uint64_t offset, uint64_t len, struct buf *out,
                               struct store_meta *meta, struct err *err)
{
    enum err_code rc = duel.real->read(s, key, offset, len, out, meta, err);

    if (duel_folds && slice_starts(key, slice_lit(".sluice/names/app/"))) {
        duel_is_at(NAME_READ);
        duel_await(DROP_AT_GATE);
    }
    return rc;
}

/* The DEAD head comes late. */
static enum err_code duel_create(struct store *s, slice key, slice bytes, struct err *err)
{
    if (duel_drops && slice_starts(key, slice_lit("app/"))) {
        duel_is_at(DROP_FORGOT);
        duel_await(FOLD_OVER);
    }
    return duel.real->create(s, key, bytes, err);
}

static bool duel_cond_wait(struct os *os, struct os_cond *c, struct os_mutex *m, int64_t wait_us)
{
    (void)os;
    if (duel_drops)
        duel_is_at(DROP_AT_GATE);
    return os_real()->ops->cond_wait(os_real(), c, m, wait_us);
}

static void duel_drop(void *arg)
{
    struct err err;

    (void)arg;
    duel_drops = true;
    duel_await(NAME_READ);
    duel.dropped = catalog_drop(duel.node->cat, slice_lit("app"), &err);
}

static void test_drop_beside_fold(void **state)
{
    struct node *a = *state, b = {.id.wal_id = "b"};
    struct stream_version *v;
    struct catalog_work w = {0};
    struct err err = {0};

    memcpy(b.dir, a->dir, sizeof(b.dir));
    node_start(&b, true);
    struct sid old = create(a, "app"); /* the record that b reads is of an incarnation that it never met */
    assert_int_equal(commit(a, &old, "app", 1, 1), ERR_OK);
    assert_int_equal(catalog_drop(a->cat, slice_lit("app"), &err), ERR_OK);
    struct sid sid = create(&b, "app");
    assert_int_equal(commit(&b, &sid, "app", 1, 1), ERR_OK);

    duel.at = FOLD_RUNS;
    duel.node = &b;
    duel.mu = os_real()->ops->mutex_new(os_real());
    duel.cond = os_real()->ops->cond_new(os_real());
    duel.real = b.store->ops;
    duel.ops = *b.store->ops;
    duel.ops.read = duel_read;
    duel.ops.create = duel_create;
    b.store->ops = &duel.ops;
    skewed_ops.cond_wait = duel_cond_wait;
    struct os_thread *t = os_real()->ops->thread_new(os_real(), "drop", duel_drop, NULL);
    duel_folds = true;
    assert_int_equal(catalog_fold(b.cat, &w, &err), ERR_OK);
    duel_folds = false;
    os_lock(os_real(), duel.mu);
    int at = duel.at;
    os_unlock(os_real(), duel.mu);
    assert_in_range(at, DROP_AT_GATE, DROP_FORGOT); /* they met */
    duel_is_at(FOLD_OVER);
    os_real()->ops->thread_join(os_real(), t);
    assert_int_equal(duel.dropped, ERR_OK);
    assert_int_equal(catalog_resolve(b.cat, slice_lit("app"), &v, &err), ERR_NOT_FOUND);
    assert_int_equal(catalog_by_sid(b.cat, &sid, &v, &err), ERR_NOT_FOUND);
    b.store->ops = duel.real;
    node_stop(&b);
    os_real()->ops->cond_free(os_real(), duel.cond);
    os_real()->ops->mutex_free(os_real(), duel.mu);
}

/* ---- all duties beside one another, as the threads of a server run them (catalog_int.h, DUTIES), on two nodes */

#define BESIDE_ROUNDS 12u
struct beside {
    struct node *node;
    _Atomic bool over;
    enum err_code rc; /* the first that is none of those which a race explains */
    struct err err;
    struct catalog_work w;
};

static enum err_code beside_merge(void *arg, const struct schema *schema, const struct merge_input *inputs,
                                  size_t count, struct os_file *out, struct segment_stats *stats, struct err *err)
{
    const struct beside *b = arg;
    const struct os_iov iov = {"merged", 6};

    (void)schema, (void)inputs;
    *stats = (struct segment_stats){
        .rows = count, .bytes = 6, .crc32c = crc32c(0, "merged", 6), .tmin_us = T0 + HOUR, .tmax_us = T0 + HOUR + 100};
    return b->node->os->ops->pwritev(b->node->os, out, &iov, 1, 0, err);
}

static enum err_code beside_keys(void *arg, const struct schema *schema, const struct merge_input *input,
                                 struct segment_keys *out, struct err *err)
{
    (void)arg, (void)schema, (void)err;
    struct segment_keys_column *c = ARRAY_PUSH(out->columns, out->count, out->cap);
    *c = (struct segment_keys_column){9, calloc(1, sizeof(*c->hashes)), 1};
    c->hashes[0] = segment_key_hash(input->key);
    return ERR_OK;
}

static void beside_note(struct beside *b, enum err_code rc, const struct err *err)
{
    if (rc == ERR_OK || rc == ERR_NOT_FOUND || b->rc != ERR_OK) /* a file or a head that others removed meanwhile */
        return;
    b->rc = rc;
    b->err = *err;
}

static void beside_fold(void *arg)
{
    struct beside *b = arg;
    struct err err = {0};

    while (!atomic_load(&b->over))
        beside_note(b, catalog_fold(b->node->cat, &b->w, &err), &err);
}

static void beside_bad(void *arg, slice key, const char *why)
{
    (void)arg, (void)key, (void)why; /* a head that was the newest when the scrub began */
}

static void beside_duties(void *arg)
{
    struct beside *b = arg;
    struct catalog *cat = b->node->cat;
    struct err err = {0};

    while (!atomic_load(&b->over)) {
        beside_note(b, catalog_compact(cat, beside_merge, b, &b->w, &err), &err);
        beside_note(b, catalog_index(cat, beside_keys, NULL, &b->w, &err), &err);
        beside_note(b, catalog_expire(cat, &b->w, &err), &err);
        beside_note(b, catalog_gc(cat, &b->w, &err), &err);
        beside_note(b, catalog_reconcile(cat, &b->w, &err), &err);
        beside_note(b, catalog_scrub(cat, 1000, beside_bad, NULL, &err), &err);
    }
}

static void test_duties_beside_one_another(void **state)
{
    struct node *a = *state, b = {.id.wal_id = "b"};
    struct beside runs[4] = {{.node = a}, {.node = a}, {.node = &b}, {.node = &b}};
    struct os_thread *threads[4];
    struct catalog_work w = {0};
    struct err err = {0};
    struct stream_stats stats;
    uint64_t rows = 0;

    memcpy(b.dir, a->dir, sizeof(b.dir));
    node_start_as(&b, "01kjvktcgre5t2x7w4c6h0ryzz", true);
    assert_int_equal(catalog_validate(a->cat, &err), ERR_OK); /* they name their lanes */
    assert_int_equal(catalog_validate(b.cat, &err), ERR_OK);
    struct sid sid = create(a, "app");
    skew_us += 2 * HOUR; /* what was superseded goes at once */
    for (unsigned i = 0; i < 4; i++)
        threads[i] = os_real()->ops->thread_new(os_real(), "duties", i % 2 ? beside_duties : beside_fold, &runs[i]);
    for (unsigned i = 0; i < BESIDE_ROUNDS; i++) {
        struct node *n = i % 2 ? a : &b, *other = i % 2 ? &b : a;
        char name[20];
        (void)snprintf(name, sizeof(name), "gone%u", i);
        struct sid gone = create(n, name);
        assert_int_equal(commit(n, &gone, name, 1, 1), ERR_OK);
        assert_int_equal(commit(other, &sid, "app", 1, 2), ERR_OK);
        assert_int_equal(catalog_drop(other->cat, slice_str(name), &err), ERR_OK);
        rows += 2;
    }
    for (unsigned i = 0; i < 4; i++)
        atomic_store(&runs[i].over, true);
    for (unsigned i = 0; i < 4; i++) {
        os_real()->ops->thread_join(os_real(), threads[i]);
        if (runs[i].rc != ERR_OK)
            fail_msg("%s: %s: %s", i % 2 ? "duties" : "fold", err_name(runs[i].rc), runs[i].err.msg);
    }
    assert_true(runs[1].w.slots_deleted + runs[3].w.slots_deleted > BESIDE_ROUNDS);
    assert_true(runs[1].w.outputs_compacted + runs[3].w.outputs_compacted > 0);
    for (unsigned i = 0; i < 2; i++) {
        struct node *n = i ? a : &b;
        assert_int_equal(catalog_fold(n->cat, &w, &err), ERR_OK);
        (void)planned(n, &sid, INT64_MIN, INT64_MAX, &stats);
        assert_int_equal(stats.rows, rows);
    }
    node_stop(&b);
}

static void set_days(void *arg, struct stream_config *config)
{
    config->retention_days = *(const uint32_t *)arg;
}

static void set_hot(void *arg, struct stream_config *config)
{
    config->hot_tier_bytes = *(const uint64_t *)arg;
}

static const struct stream_config *settings(struct node *n, const struct sid *sid, struct stream_version **v)
{
    struct err err = {0};

    stream_version_unref(*v);
    assert_int_equal(catalog_by_sid(n->cat, sid, v, &err), ERR_OK);
    return stream_version_config(*v);
}

/* What two nodes set is set, and each knows what the other did, also where nobody brings rows. */
static void test_settings_of_nodes(void **state)
{
    struct node *a = *state, b = {.id.wal_id = "b"};
    _cleanup_(stream_version_unrefp) struct stream_version *v = NULL;
    struct catalog_work w = {0};
    struct err err = {0};
    uint64_t bytes = 1 << 20;
    uint32_t days = 9, none = 0;

    memcpy(b.dir, a->dir, sizeof(b.dir));
    node_start_as(&b, "01kjvktcgre5t2x7w4c6h0ryzz", true);
    struct sid sid = create(a, "app");
    assert_int_equal(commit(a, &sid, "app", 1, 1), ERR_OK);
    assert_int_equal(catalog_fold(a->cat, &w, &err), ERR_OK);
    assert_int_equal(catalog_fold(b.cat, &w, &err), ERR_OK);
    assert_int_equal(catalog_configure(a->cat, &sid, set_days, &days, &err), ERR_OK);
    assert_int_equal(catalog_configure(b.cat, &sid, set_hot, &bytes, &err), ERR_OK); /* knows nothing of the days yet */
    assert_int_equal(settings(&b, &sid, &v)->retention_days, 9);
    assert_int_equal(settings(&b, &sid, &v)->hot_tier_bytes, bytes);
    assert_int_equal(catalog_fold(b.cat, &w, &err), ERR_OK);
    assert_int_equal(catalog_fold(a->cat, &w, &err), ERR_OK);
    assert_int_equal(settings(a, &sid, &v)->hot_tier_bytes, bytes);
    const struct shard *shard = &b.cat->shards[sid_shard(&sid, b.cat->shards_count)];
    assert_int_equal(catalog_fold(b.cat, &w, &err), ERR_OK);
    uint64_t slot = shard->tail.slot;
    assert_int_equal(catalog_fold(a->cat, &w, &err), ERR_OK); /* nothing is left to tell */
    assert_int_equal(catalog_fold(b.cat, &w, &err), ERR_OK);
    assert_int_equal(shard->tail.slot, slot);
    assert_int_equal(catalog_configure(a->cat, &sid, set_days, &none, &err), ERR_OK);
    assert_int_equal(catalog_configure(b.cat, &sid, set_days, &days, &err), ERR_OK); /* is no news to what b knows */
    assert_int_equal(catalog_refresh(a->cat, &sid, &err), ERR_OK);
    assert_int_equal(settings(a, &sid, &v)->retention_days, 9);
    node_stop(&b);
}

/* Another's file is seen together with the columns that it brought, before any fold of it. */
static void test_columns_with_rows(void **state)
{
    struct node *a = *state, b = {.id.wal_id = "b"};
    const struct field more[] = {{.name = slice_lit("host"), .type = {TYPE_UTF8, TYPE_NULL}}};
    _cleanup_(schema_unrefp) struct schema *empty = schema_empty(), *want = schema_grow(empty, more, 1);
    _cleanup_(schema_unrefp) struct schema *got = NULL;
    _cleanup_(stream_version_unrefp) struct stream_version *v = NULL;
    struct catalog_work w = {0};
    struct err err = {0};

    memcpy(b.dir, a->dir, sizeof(b.dir));
    node_start_as(&b, "01kjvktcgre5t2x7w4c6h0ryzz", true);
    struct sid sid = create(a, "app");
    assert_int_equal(commit(a, &sid, "app", 1, 1), ERR_OK);
    assert_int_equal(catalog_fold(b.cat, &w, &err), ERR_OK);
    assert_int_equal(catalog_evolve(a->cat, &sid, want, &got, &err), ERR_OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(commit(a, &sid, "app", 2, 2), ERR_OK);
    gate_enter(b.cat, slice_lit("fold"));
    assert_int_equal(lanes_load(b.cat, &err), ERR_OK);
    gate_leave(b.cat, slice_lit("fold"));
    assert_int_equal(catalog_by_sid(b.cat, &sid, &v, &err), ERR_OK);
    assert_int_equal(stream_version_stats(v)->rows, 7);
    assert_int_not_equal(schema_find(stream_version_schema(v), slice_lit("host")), FIELD_NONE);
    node_stop(&b);
}

/* A lane is closed by another node when no living one says that it owns it, and not before. */
static void test_idle_lane_of_another(void **state)
{
    struct node *n = *state, other = {.committed = 0};
    const struct catalog_options opt = {.shards = 4, .node_id = "01kjvktcgre5t2x7w4c6h0ryzz", .endpoint = ""};
    struct catalog_work w = {0};
    struct err err = {0};
    unsigned records;

    memcpy(other.dir, n->dir, sizeof(other.dir));
    memset(other.id.wal_id, 'b', 32);
    other.os = os_skewed();
    assert_int_equal(store_local_open(other.os, other.dir, &other.store, &err), ERR_OK);
    assert_int_equal(catalog_open(other.os, other.store, &opt, &other.cat, &err), ERR_OK);
    struct lane_identity id = other.id;
    assert_int_equal(catalog_session_open(other.cat, &id, save_header, &other, &other.committed, &err), ERR_OK);
    assert_string_equal(id.lane, "n00002");
    assert_int_equal(catalog_validate(other.cat, &err), ERR_OK); /* names the lane */
    records = objects(n, ".sluice/lanes/n00002/", false);
    skew_us += 2 * HOUR;
    assert_int_equal(catalog_gc(n->cat, &w, &err), ERR_OK);
    assert_int_equal(objects(n, ".sluice/lanes/n00002/", false), records);
    assert_int_equal(catalog_unregister(other.cat, &err), ERR_OK);
    assert_int_equal(catalog_gc(n->cat, &w, &err), ERR_OK);
    assert_int_equal(objects(n, ".sluice/lanes/n00002/", false), records + 1);
    node_stop(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_row_path, node_setup, node_teardown),
        cmocka_unit_test_setup_teardown(test_spill, node_setup, node_teardown),
        cmocka_unit_test_setup_teardown(test_create_drop, node_setup, node_teardown),
        cmocka_unit_test_setup_teardown(test_bare, node_setup, node_teardown),
        cmocka_unit_test_setup_teardown(test_evolve, node_setup, node_teardown),
        cmocka_unit_test_setup_teardown(test_gc, node_setup, node_teardown),
        cmocka_unit_test_setup_teardown(test_gc_of_undecided_heads, node_setup, node_teardown),
        cmocka_unit_test_setup_teardown(test_gc_of_probes, node_setup, node_teardown),
        cmocka_unit_test_setup_teardown(test_reconcile, node_setup, node_teardown),
        cmocka_unit_test_setup_teardown(test_compact, node_setup, node_teardown),
        cmocka_unit_test_setup_teardown(test_claim_of_an_earlier_start, node_setup, node_teardown),
        cmocka_unit_test_setup_teardown(test_claim_of_a_copy, node_setup, node_teardown),
        cmocka_unit_test_setup_teardown(test_claim_of_the_dead, node_setup, node_teardown),
        cmocka_unit_test_setup_teardown(test_claim_of_nobody, node_setup, node_teardown),
        cmocka_unit_test_setup_teardown(test_gc_reads_few_heads, node_setup, node_teardown),
        cmocka_unit_test_setup_teardown(test_turns, node_setup, node_teardown),
        cmocka_unit_test_setup_teardown(test_probe_noted, node_setup, node_teardown),
        cmocka_unit_test_setup_teardown(test_dry_run, node_setup, node_teardown),
        cmocka_unit_test_setup_teardown(test_dry_run_of_unfinished, node_setup, node_teardown),
        cmocka_unit_test_setup_teardown(test_compact_or_expire, node_setup, node_teardown),
        cmocka_unit_test_setup_teardown(test_expire_manifest, node_setup, node_teardown),
        cmocka_unit_test_setup_teardown(test_scrub, node_setup, node_teardown),
        cmocka_unit_test_setup_teardown(test_disk_error, node_setup, node_teardown),
        cmocka_unit_test_setup_teardown(test_settings_of_nodes, node_setup, node_teardown),
        cmocka_unit_test_setup_teardown(test_columns_with_rows, node_setup, node_teardown),
        cmocka_unit_test_setup_teardown(test_idle_lane_of_another, node_setup, node_teardown),
        cmocka_unit_test_setup_teardown(test_drop_beside_fold, node_setup, node_teardown),
        cmocka_unit_test_setup_teardown(test_duties_beside_one_another, node_setup, node_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
