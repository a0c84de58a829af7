/* restage.c: a column of ours that the catalog knows under another type.
 *
 * Two nodes meet a new name at the same time, one with numbers and one with text. The first to flush gives the column its id and type; the
 * other has rows staged, and shown to queries, whose column can have neither. Those rows are what a restart would make of them: decoded again
 * from the WAL against the catalog's schema, where values of another type go to sibling columns as always (contract 2.4). So that is done, for
 * this one stream, while its requests wait; then rows and schema change places in one moment. Row ids follow from the WAL (L4), so they
 * stay the same, and queries that hold the old rows hold the old schema too. */
#include "base/log.h"
#include "stage/lake_int.h"

struct restage {
    struct stage_stream *old, *fresh; /* fresh: in no table */
    struct wal_pos before;            /* {0}: everything */
};

static bool is_before(struct wal_pos a, struct wal_pos b)
{
    return a.segment < b.segment || (a.segment == b.segment && a.offset < b.offset);
}

static enum err_code restage_rows(void *arg, const struct sid *owner, struct wal_pos pos, slice record, struct err *err)
{
    struct restage *r = arg;
    bool mine = memcmp(owner->text, r->old->sid.text, 26) == 0;

    return mine ? lake_replay_rows(r->old->lake, r->fresh, pos, record, err) : ERR_OK;
}

static enum err_code restage_record(void *arg, struct wal_pos pos, slice body, struct err *err)
{
    struct restage *r = arg;

    if (r->before.segment && !is_before(pos, r->before))
        return ERR_OK;
    return park_staged(r->old->lake, pos, body, restage_rows, r, err);
}

static uint64_t rows_of(const struct stage_stream *s)
{
    uint64_t rows = 0;

    for (size_t i = 0; i < s->groups_count; i++)
        rows += s->groups[i].rows;
    return rows;
}

/* Under ingest_mu. What is gone by then leaves the stage with `fresh`. */
static void swap_rows(struct restage *r)
{
    struct stage_stream *s = r->old, *f = r->fresh;
    struct lake *lake = s->lake;
    struct batch_list gone = {0};

    os_lock(lake->os, s->mu);
    uint64_t had = rows_of(s), has = rows_of(f);
    bool dead = s->dead;
    if (!dead) {
        struct stage_group *groups = s->groups;
        size_t count = s->groups_count, cap = s->groups_cap;
        struct schema *schema = s->schema;
        s->groups = f->groups;
        s->groups_count = f->groups_count;
        s->groups_cap = f->groups_cap;
        s->schema = f->schema;
        f->groups = groups;
        f->groups_count = count;
        f->groups_cap = cap;
        f->schema = schema;
        atomic_fetch_add(&s->restaged, 1);
    }
    os_unlock(lake->os, s->mu);
    stage_drop_groups(f, UINT64_MAX, &gone);
    batch_list_done(&gone);
    if (!dead && has < had) /* acknowledged by the kernel alone (ack=relaxed), before the disk failed */
        lake_event(lake, "loss", slice_str(s->name), had - has, "rows that the disk of the WAL did not keep");
}

/* Every record of the stream is then in a whole segment, and answered. */
static enum err_code seal_all(struct restage *r, uint64_t *upto, struct err *err)
{
    struct lake *lake = r->old->lake;
    struct wal_stat stat;

    if (lake->replay_at.segment) {
        r->before = lake->replay_at;
        *upto = r->before.segment;
        return ERR_OK;
    }
    os_lock(lake->os, lake->mu); /* as in lake_flush() */
    (void)wal_seal(lake->wal);   /* what was sealed before is read as well */
    wal_stat(lake->wal, &stat);
    os_unlock(lake->os, lake->mu);
    *upto = stat.segment - 1;
    lake_wait_answered(lake, *upto);
    wal_stat(lake->wal, &stat);
    if (stat.poisoned) /* what of its end counts is not written down yet */
        return err_set(err, ERR_UNAVAILABLE, "the WAL's disk failed a write; waiting for it to work again");
    return ERR_OK;
}

static enum err_code restage_in_order(struct restage *r, struct err *err)
{
    struct lake *lake = r->old->lake;
    uint64_t upto;

    TRY(seal_all(r, &upto, err));
    for (uint64_t segment = lake->committed + 1; segment <= upto; segment++) {
        enum err_code rc = wal_read(lake->wal, segment, restage_record, r, err);
        if (rc != ERR_OK && rc != ERR_NOT_FOUND) /* a number without records */
            return rc;
    }
    swap_rows(r);
    return ERR_OK;
}

enum err_code stage_restage(struct stage_stream *s, struct err *err)
{
    struct lake *lake = s->lake;
    _cleanup_(stream_version_unrefp) struct stream_version *v = NULL;
    struct restage r = {.old = s};
    struct batch_list gone = {0};

    TRY(catalog_by_sid(lake->cat, &s->sid, &v, err));
    r.fresh = stage_new(lake, v);
    os_lock(lake->os, s->ingest_mu);
    enum err_code rc = restage_in_order(&r, err);
    os_unlock(lake->os, s->ingest_mu);
    if (rc == ERR_OK) {
        log_info("stage", "stream %s: another node gave a new column another type; staged rows take its schema",
                 s->name);
        lake_event(lake, "conflict", slice_str(s->name), 0, "another node gave a new column another type");
    }
    stage_drop_groups(r.fresh, UINT64_MAX, &gone);
    batch_list_done(&gone);
    stage_stream_unref(r.fresh);
    return rc;
}
