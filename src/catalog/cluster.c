/* cluster.c: the sequence `.sluice/cluster`: what holds for the whole store. Its id and number of shards are those of the first start; the
 * result of the probe is of the last start that found something else. A new body is appended as the next slot; the old ones stay. */
#include <inttypes.h>
#include <stdio.h>

#include "base/ulid.h"
#include "catalog/catalog_int.h"

#include "base/banned.h"

#define PROBE_AGE_US INT64_C(604800000000) /* a week */

static json_t *probe_json(const struct store_facts *f)
{
    json_t *probe = json_pack("{s:I, s:I, s:b, s:s}", "at", (json_int_t)f->at_us, "clock_offset",
                              (json_int_t)f->clock_offset_us, "exclusive", (int)f->exclusive, "product", f->product);

    ASSERT(probe); /* the product is plain ASCII */
    return probe;
}

static void cluster_body(struct catalog *cat, uint32_t shards, const struct store_facts *facts, struct buf *out)
{
    struct jobject o = {0};
    uint8_t random[10];

    cat->os->ops->random(cat->os, random, sizeof(random));
    struct ulid id = ulid_make(os_wall_us(cat->os) / 1000, random);
    jobject_text(&o, "cluster", slice_str(id.text));
    jobject_int(&o, "epoch", 1);
    jobject_int(&o, "shards", shards);
    jobject_int(&o, "min_reader", 1);
    jobject_int(&o, "min_writer", 1);
    buf_str(jobject_put(&o, "features"), "[]");
    jobject_text(&o, "store", slice_str(cat->store->ops->describe(cat->store)));
    json_t *probe = facts ? probe_json(facts) : NULL;
    if (probe)
        json_put(jobject_put(&o, "probe"), probe);
    json_decref(probe);
    jobject_end(&o, out);
}

static enum err_code cluster_read(struct catalog *cat, const struct slot *slot, struct err *err)
{
    uint64_t shards, reader = 1, writer = 1;
    slice closed;

    if (json_get_text(slot->body, CLUSTER_CLOSED, &closed))
        return err_set(err, ERR_INVALID, "this is no store to work with: " SLICE_FMT, SLICE_ARG(closed));
    (void)json_get_u64(slot->body, "min_reader", &reader);
    (void)json_get_u64(slot->body, "min_writer", &writer);
    if (reader > 1 || writer > 1)
        return err_set(err, ERR_INVALID, "this store needs a newer Sluice (reader %" PRIu64 ", writer %" PRIu64 ")",
                       reader, writer);
    if (!json_get_u64(slot->body, "shards", &shards) || shards == 0 || shards > SHARDS_MAX)
        return err_set(err, ERR_CORRUPT, "cluster slot without a number of shards");
    cat->shards_count = (uint32_t)shards;
    const char *text = json_string_value(json_object_get(slot->body, "cluster"));
    struct ulid id;
    if (!text || !ulid_parse(slice_str(text), &id))
        return err_set(err, ERR_CORRUPT, "cluster slot without an id of the store");
    memcpy(cat->cluster, id.text, sizeof(cat->cluster));
    return ERR_OK;
}

const char *catalog_cluster(const struct catalog *cat)
{
    return cat->cluster;
}

/* ---- the result of the probe */

/* Of another product or verdict, or so old that somebody may want to know it anew. */
static bool worth_noting(const struct slot *slot, const struct store_facts *f)
{
    const json_t *old = json_object_get(slot->body, "probe");
    slice product = {0};
    int64_t at_us;

    return !json_get_i64(old, "at", &at_us) || !json_get_text(old, "product", &product) ||
           !slice_eq(product, slice_str(f->product)) || json_get_bool(old, "exclusive") != f->exclusive ||
           f->at_us - at_us > PROBE_AGE_US;
}

/* The tail's body with another probe: what we do not know in it survives. */
static void noted_body(const struct slot *slot, const struct store_facts *f, struct buf *out)
{
    json_t *probe = probe_json(f);

    ASSERT(json_object_set_new(slot->body, "probe", probe) == 0);
    json_put(out, slot->body);
}

static void note_probe(struct catalog *cat, struct slot *slot, const struct store_facts *f)
{
    _cleanup_(buf_done) struct buf seq = BUF_INIT, body = BUF_INIT;
    struct append a = {.kind = APPEND_NAME, .type = SLOT_CLUSTER, .tail = {slot->seq, slot->nonce}};
    struct err err;

    if (!f || !worth_noting(slot, f))
        return;
    seq_cluster(&seq);
    noted_body(slot, f, &body);
    a.seq = buf_view(&seq);
    a.body = buf_view(&body);
    seq_nonce(&cat->io, &a.nonce);
    enum err_code rc = seq_append(&cat->io, &a, &err);
    (void)rc; /* another node was first, or a later start notes it: nothing is decided by it */
}

void catalog_probe(const struct catalog *cat, struct buf *json)
{
    buf_slice(json, buf_view(&cat->probe));
}

/* ---- open */

static enum err_code cluster_use(struct catalog *cat, struct slot *slot, const struct store_facts *facts,
                                 struct err *err)
{
    TRY(cluster_read(cat, slot, err));
    note_probe(cat, slot, facts);
    json_t *probe = json_object_get(slot->body, "probe");
    if (probe)
        json_put(&cat->probe, probe);
    return ERR_OK;
}

enum err_code cluster_open(struct catalog *cat, const struct catalog_options *opt, struct err *err)
{
    uint32_t shards = opt->shards ? MIN(opt->shards, SHARDS_MAX) : 4;

    for (;;) {
        _cleanup_(slot_done) struct slot slot = {0};
        _cleanup_(buf_done) struct buf seq = BUF_INIT, body = BUF_INIT;
        seq_cluster(&seq);
        TRY(seq_read_tail(&cat->io, buf_view(&seq), SLOT_CLUSTER, &slot, err));
        if (slot.seq != SLOT_NONE) {
            enum err_code rc = cluster_use(cat, &slot, opt->facts, err);
            if (rc != ERR_OK)
                (void)err_wrap(err, "%s%020" PRIu64, buf_cstr(&seq), slot.seq);
            return rc;
        }
        cluster_body(cat, shards, opt->facts, &body);
        struct append a = {.seq = buf_view(&seq),
                           .kind = APPEND_NAME,
                           .type = SLOT_CLUSTER,
                           .tail = {.slot = SLOT_NONE},
                           .body = buf_view(&body)};
        seq_nonce(&cat->io, &a.nonce);
        enum err_code rc = seq_append(&cat->io, &a, err);
        if (rc != ERR_OK && rc != ERR_CONFLICT)
            return rc;
    }
}
