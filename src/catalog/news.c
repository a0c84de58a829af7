/* news.c: which heads a node reads anew. A checkpoint names the streams whose heads are newer than those that its author's last one left
 * behind ("heads"), so that a fold costs the others a LIST for each of these, not for each stream of the bucket.
 *
 * INVARIANTS
 *   N1  the head that a node knows of a stream covers each record of it at or below the node's positions of the shard: those are skipped
 *       in lanes, so what no head has is in no answer
 *   N2  so a checkpoint names every stream with a record between the positions before it and its own, whoever put that into a head: the
 *       author marks what it reads or commits (news_record), and the mark goes only with a checkpoint that covers the record. Marks are
 *       numbered by the fold's round: positions are taken at its begin, and what is read after that is not covered yet
 *   N3  and every stream whose head the author moved for another reason (settings, columns, a merge); these alone make a checkpoint worth
 *       writing that says the same positions again. What a node that ended did not tell is found with the next record of the stream, or by a
 *       query that misses a file (catalog_refresh)
 *   N4  a stream that is loaded while a checkpoint is taken in is looked at again (news_told): else the two could pass each other
 * All streams count as named where a checkpoint does not say (made by an older version, or too many), where one between the known and the tail
 * is missing, and where the chain of nonces is broken: a ghost.
 * THREADS  marks under mu, the rest inside the gate "fold". */
#include "base/mutant.h"
#include "catalog/catalog_int.h"

#include "base/banned.h"

#define NEWS_STREAMS_MAX 4096u /* named in one checkpoint: some 70 KB of it */
#define NEWS_SLOTS_MAX 16u     /* checkpoints read one by one */
#define STALE_MAX (4 * NEWS_STREAMS_MAX)

/* ---- marks */

void news_record(const struct catalog *cat, struct stream *s)
{
    s->record_round = cat->fold_round;
}

void news_head(struct catalog *cat, struct stream *s)
{
    os_lock(cat->os, cat->mu);
    s->head_moved = true;
    os_unlock(cat->os, cat->mu);
}

uint64_t news_round(struct catalog *cat)
{
    return cat->fold_round++;
}

static void add(struct news *n, struct stream *s, bool moved)
{
    *ARRAY_PUSH(n->items, n->count, n->cap) = (struct news_item){s, moved};
    n->moved |= moved;
}

void news_take(struct catalog *cat, uint32_t shard, struct stream **all, size_t count, struct news *out)
{
    os_lock(cat->os, cat->mu);
    for (size_t i = 0; i < count; i++) {
        struct stream *s = all[i];
        if ((!s->record_round && !s->head_moved) || sid_shard(&s->sid, cat->shards_count) != shard)
            continue;
        add(out, s, s->head_moved);
        s->head_moved = false; /* what moves from now on is the next one's */
    }
    os_unlock(cat->os, cat->mu);
}

void news_put(const struct news *n, struct buf *out)
{
    buf_byte(out, '[');
    for (size_t i = 0; i < n->count; i++) {
        if (i)
            buf_byte(out, ',');
        buf_json_str(out, sid_slice(&n->items[i].stream->sid));
    }
    buf_byte(out, ']');
}

bool news_fit(const struct news *n)
{
    return n->count <= NEWS_STREAMS_MAX;
}

void news_end(struct catalog *cat, struct news *n, bool written, uint64_t round)
{
    os_lock(cat->os, cat->mu);
    for (size_t i = 0; i < n->count; i++) {
        struct stream *s = n->items[i].stream;
        if (written && s->record_round <= round)
            s->record_round = 0;
        s->head_moved |= !written && n->items[i].moved;
    }
    os_unlock(cat->os, cat->mu);
    free(n->items);
    *n = (struct news){0};
}

/* ---- what others tell */

static void stale_add(struct stale *s, const struct sid *sid)
{
    if (s->count < STALE_MAX)
        *ARRAY_PUSH(s->sids, s->count, s->cap) = *sid;
    else
        s->all = true;
}

void stale_clear(struct stale *s)
{
    free(s->sids);
    *s = (struct stale){0};
}

void stale_merge(struct stale *to, struct stale *from)
{
    to->all |= from->all;
    for (size_t i = 0; i < from->count; i++)
        stale_add(to, &from->sids[i]);
    stale_clear(from);
}

static enum err_code take_heads(struct catalog *cat, const struct slot *slot, struct err *err)
{
    const json_t *heads = json_object_get(slot->body, "heads"), *v;
    struct sid sid;
    size_t i;

    cat->stale.all |= !heads;
    if (heads && !json_is_array(heads))
        return err_set(err, ERR_CORRUPT, "bad list of heads in a checkpoint");
    json_array_foreach (heads, i, v) {
        if (!json_is_string(v) || !sid_parse(slice_of(json_string_value(v), json_string_length(v)), &sid))
            return err_set(err, ERR_CORRUPT, "bad name of a head in a checkpoint");
        stale_add(&cat->stale, &sid);
    }
    return ERR_OK;
}

/* The checkpoints between the known and the tail. */
static enum err_code take_between(struct catalog *cat, slice seq, const struct seq_tail *known, const struct slot *tail,
                                  struct err *err)
{
    struct nonce before = known->nonce;

    for (uint64_t k = known->slot + 1; k < tail->seq; k++) {
        _cleanup_(slot_done) struct slot slot = {0};
        enum err_code rc = seq_read(&cat->io, seq, SLOT_CHECKPOINT, k, &slot, err);
        if (rc == ERR_NOT_FOUND || (rc == ERR_OK && !nonce_eq(&slot.prev, &before))) {
            cat->stale.all = true;
            return ERR_OK;
        }
        TRY(rc);
        TRY(take_heads(cat, &slot, err));
        before = slot.nonce;
    }
    cat->stale.all |= !nonce_eq(&tail->prev, &before);
    return ERR_OK;
}

enum err_code news_read(struct catalog *cat, slice seq, const struct seq_tail *known, const struct slot *tail,
                        struct err *err)
{
    os_lock(cat->os, cat->mu);
    cat->news_told++;
    os_unlock(cat->os, cat->mu);
    cat->stale.all |= known->slot == SLOT_NONE || tail->seq - known->slot > NEWS_SLOTS_MAX;
    if (!cat->stale.all && !MUTANT(39))
        TRY(take_between(cat, seq, known, tail, err));
    return take_heads(cat, tail, err);
}

uint64_t news_told(struct catalog *cat)
{
    os_lock(cat->os, cat->mu);
    uint64_t told = cat->news_told;
    os_unlock(cat->os, cat->mu);
    return told;
}

static int by_text(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct sid));
}

struct stream **news_streams(struct catalog *cat, size_t *count)
{
    struct stale *st = &cat->stale;
    size_t n = 0;

    if (st->all)
        return streams_all(cat, count);
    struct stream **out = mem_alloc((st->count + 1) * sizeof(struct stream *));
    if (st->count)
        qsort(st->sids, st->count, sizeof(*st->sids), by_text);
    for (size_t i = 0; i < st->count; i++) {
        bool again = i > 0 && by_text(&st->sids[i], &st->sids[i - 1]) == 0;
        out[n] = again ? NULL : stream_get(cat, &st->sids[i]);
        n += out[n] != NULL;
    }
    *count = n;
    return out;
}
