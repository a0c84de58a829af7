/* compact.c: merging the small files of one directory into a larger one (catalog.md section 8).
 *
 *   pick --head append {claim}--> merge, publish "c<claim slot>-..." --head append: inputs out, output in--> done
 *                                    \--error--> head append without the claim
 * R8: the commit holds only if the claim is still in the head and every input is still listed; else the output is garbage. So a claim may be
 * cancelled at any time, at the price of its work, and must be when its compactor died: it keeps its inputs from all others and its output in
 * limbo. It names its node and that node's start; before each round, each node cancels the claims
 *   of its own start: no job of it runs between rounds; the store was away when it should have been taken back
 *   of its own earlier starts, known by their time: a copy of our disk, which runs beside us under our name, makes younger ones
 *   of nodes that are not alive by their registration (nodes.c): they were registered when they made it
 *   past the deadline, whoever made it.
 * A damaged or missing input is told once and left alone, with its directory's other files merged without it, until it is another file:
 * one bad file must not cost a try each round, and all directories behind it their turn. */
#include <inttypes.h>
#include <stdio.h>

#include "base/mutant.h"
#include "catalog/edit.h"

#include "base/banned.h"

#define TARGET_BYTES (UINT64_C(128) << 20)
#define SMALL_BYTES (TARGET_BYTES / 2) /* larger files are left alone */
#define INPUTS_MAX 512u
#define HOUR_US INT64_C(3600000000)
#define SETTLE_US INT64_C(600000000) /* an hour is left alone until so long after its end, */
#define BUSY_FILES 64u               /* unless it has more files than this, or enough bytes for a whole output */
#define CLAIM_US HOUR_US
#define DAMAGED_MAX 16 /* found in one stream in one round; the next goes on */

struct group { /* small files of one directory */
    slice dir;
    struct entry_list files;
    uint64_t bytes;
};
struct bad_input {
    char *key;
    struct store_meta seen; /* zeros: it was missing */
};
struct picking {
    struct catalog *cat;
    slice stream_dir;
    struct map dirs; /* dir -> struct group */
    const struct head *h;
    int64_t now_us;
};
struct job {
    struct catalog *cat;
    struct stream *stream;
    struct entry_list inputs;
    char id[33];
    struct nonce nonce;
    uint64_t claim_slot;
    int64_t now_us;
    struct entry *output;
    struct schema *schema;
    bool done;
};

static bool claimed(const struct head *h, slice path)
{
    for (size_t i = 0; i < h->claims_count; i++)
        for (size_t k = 0; k < h->claims[i].inputs_count; k++)
            if (slice_eq(h->claims[i].inputs[k], path))
                return true;
    return false;
}

/* ---- inputs that are left alone */

#define BAD_INPUTS_MAX 10000u

static struct store_meta seen_now(struct catalog *cat, slice key)
{
    struct store_meta m;
    return cat->store->ops->stat(cat->store, key, &m, NULL) == ERR_OK ? m : (struct store_meta){0};
}

static void bad_input_free(struct bad_input *b)
{
    if (!b)
        return;
    free(b->key);
    free(b);
}

void bad_inputs_done(struct catalog *cat)
{
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&cat->bad_inputs, &i));)
        bad_input_free(e->value);
    map_done(&cat->bad_inputs);
    cat->bad_inputs = MAP_INIT;
}

static void bad_input_add(struct catalog *cat, slice key)
{
    struct bad_input *b = mem_zalloc(sizeof(*b));

    if (cat->bad_inputs.count >= BAD_INPUTS_MAX)
        bad_inputs_done(cat);
    b->key = mem_str(key);
    b->seen = seen_now(cat, key);
    bad_input_free(map_del(&cat->bad_inputs, key));
    map_put(&cat->bad_inputs, slice_str(b->key), b);
}

static bool bad_input(struct catalog *cat, slice key)
{
    const struct bad_input *b = map_get(&cat->bad_inputs, key);

    if (!b)
        return false;
    struct store_meta now = seen_now(cat, key);
    if (now.size == b->seen.size && now.modified_us == b->seen.modified_us)
        return true;
    bad_input_free(map_del(&cat->bad_inputs, key)); /* put back */
    return false;
}

static bool left_alone(const struct picking *p, slice path)
{
    _cleanup_(buf_done) struct buf key = BUF_INIT;

    if (p->cat->bad_inputs.count == 0)
        return false;
    buf_slice(&key, p->stream_dir);
    buf_slice(&key, path);
    return bad_input(p->cat, buf_view(&key));
}

static enum err_code pick_add(void *arg, struct entry *e, struct err *err)
{
    struct picking *p = arg;
    struct file_name name;

    (void)err;
    if (e->bytes >= SMALL_BYTES || !file_name_parse(e->path, &name) || claimed(p->h, e->path) || left_alone(p, e->path))
        return ERR_OK;
    struct group *g = map_get(&p->dirs, name.dir);
    if (!g) {
        g = mem_zalloc(sizeof(*g));
        g->dir = slice_str(mem_str(name.dir));
        map_put(&p->dirs, g->dir, g);
    }
    entry_list_add(&g->files, entry_ref(e));
    g->bytes += e->bytes;
    return ERR_OK;
}

static int newest_first(const void *a, const void *b)
{
    const struct entry *x = *(struct entry *const *)a, *y = *(struct entry *const *)b;

    if (x->tmax_us != y->tmax_us)
        return x->tmax_us < y->tmax_us ? 1 : -1;
    return slice_cmp(x->path, y->path);
}

static bool settled(const struct group *g, int64_t now_us)
{
    int64_t hour = g->files.items[0]->tmin_us / HOUR_US * HOUR_US;

    return now_us >= hour + HOUR_US + SETTLE_US || g->files.count > BUSY_FILES || g->bytes >= TARGET_BYTES;
}

/* The newest run of files that fits the target, without one that would be most of it: rewriting that again and again is waste. */
static size_t choose(const struct group *g, struct entry_list *out)
{
    uint64_t bytes = 0, rows = 0, largest = 0;
    size_t n = 0;

    for (; n < g->files.count && n < INPUTS_MAX; n++) {
        const struct entry *e = g->files.items[n];
        if (bytes + e->bytes > TARGET_BYTES || rows + e->rows > UINT32_MAX / 2)
            break;
        bytes += e->bytes;
        rows += e->rows;
        largest = MAX(largest, e->bytes);
    }
    if (n < 2 || (largest > bytes - bytes / 3 && n < 8))
        return 0;
    for (size_t i = 0; i < n; i++)
        entry_list_add(out, entry_ref(g->files.items[i]));
    return n;
}

static void picking_done(struct picking *p)
{
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&p->dirs, &i));) {
        struct group *g = e->value;
        entry_list_done(&g->files);
        free((void *)(uintptr_t)g->dir.ptr);
        free(g);
    }
    map_done(&p->dirs);
}

/* The directory with the most files to gain from; ties by name, so that a seed gives one run. */
static enum err_code pick(struct catalog *cat, struct head *h, int64_t now_us, struct entry_list *out, struct err *err)
{
    _cleanup_(buf_done) struct buf dir = BUF_INIT;
    struct picking p = {.cat = cat, .h = h, .now_us = now_us};
    struct group *best = NULL;
    struct map_entry *e;

    stream_dir_put(&dir, h->name, &h->sid);
    p.stream_dir = buf_view(&dir);
    enum err_code rc = head_each(cat, h, pick_add, &p, err);

    for (size_t i = 0; rc == ERR_OK && (e = map_next(&p.dirs, &i));) {
        struct group *g = e->value;
        if (g->files.count < 2 || !settled(g, now_us))
            continue;
        if (!best || g->files.count > best->files.count ||
            (g->files.count == best->files.count && slice_cmp(g->dir, best->dir) < 0)) {
            struct entry_list trial = {0};
            qsort(g->files.items, g->files.count, sizeof(*g->files.items), newest_first);
            if (choose(g, &trial))
                best = g;
            entry_list_done(&trial);
        }
    }
    if (best)
        (void)choose(best, out);
    picking_done(&p);
    return rc;
}

/* ---- head appends */

static void claim_take_out(struct head *h, size_t i)
{
    memmove(&h->claims[i], &h->claims[i + 1], (h->claims_count - i - 1) * sizeof(*h->claims));
    h->claims_count--;
}

/* ---- claims that nobody works for any more */

struct claims_seen { /* a head with claims */
    struct stream *stream;
    struct head *head;
};
struct review {
    struct catalog *cat;
    int64_t now_us;
    struct claims_seen *seen;
    size_t seen_count, seen_cap;
    bool listed; /* nodes that live, listed after the heads were seen: who made a later claim may have come later too */
    struct node_seen *living;
    size_t living_count;
    uint64_t seen_slot;
};

static bool is_abandoned(const struct review *r, const struct head_claim *c)
{
    const struct catalog *cat = r->cat;

    if (c->deadline_us < r->now_us)
        return true;
    if (c->node.len == 0)
        return false;
    if (slice_eq(c->node, slice_str(cat->node_id)))
        return slice_eq(c->boot, slice_str(cat->boot)) || c->deadline_us - CLAIM_US <= cat->compact_since_us;
    return r->listed && c->slot <= r->seen_slot && !node_lives(r->living, r->living_count, c->node);
}

static bool any_abandoned(const struct review *r, const struct head *h)
{
    for (size_t i = 0; i < h->claims_count; i++)
        if (is_abandoned(r, &h->claims[i]))
            return true;
    return false;
}

static bool any_of_others(const struct review *r)
{
    for (size_t i = 0; i < r->seen_count; i++)
        for (size_t k = 0; k < r->seen[i].head->claims_count; k++) {
            slice node = r->seen[i].head->claims[k].node;
            if (node.len && !slice_eq(node, slice_str(r->cat->node_id)))
                return true;
        }
    return false;
}

static enum err_code edit_cancel(void *arg, struct stream *s, struct head *h, bool *changed, struct err *err)
{
    const struct review *r = arg;

    (void)s, (void)err;
    *changed = false;
    for (size_t i = h->claims_count; i-- > 0;)
        if (is_abandoned(r, &h->claims[i])) {
            claim_take_out(h, i);
            *changed = true;
        }
    return ERR_OK;
}

static void see_claims(struct review *r, struct stream **all, size_t n)
{
    os_lock(r->cat->os, r->cat->mu);
    for (size_t i = 0; i < n; i++) {
        struct head *h = all[i]->head;
        if (h && !h->dead && h->claims_count)
            *ARRAY_PUSH(r->seen, r->seen_count, r->seen_cap) = (struct claims_seen){all[i], head_ref(h)};
    }
    os_unlock(r->cat->os, r->cat->mu);
}

static enum err_code cancel_abandoned(struct review *r, struct err *err)
{
    if (any_of_others(r)) {
        TRY(nodes_living(r->cat, &r->living, &r->living_count, err));
        r->listed = true;
    }
    for (size_t i = 0; i < r->seen_count; i++) {
        const struct claims_seen *c = &r->seen[i];
        r->seen_slot = c->head->slot;
        if (!any_abandoned(r, c->head))
            continue;
        enum err_code rc = head_update(r->cat, c->stream, edit_cancel, r, err);
        if (rc != ERR_OK && rc != ERR_NOT_FOUND && !is_damage(rc)) /* deleted meanwhile, or told by the round itself */
            return rc;
    }
    return ERR_OK;
}

static enum err_code claims_review(struct catalog *cat, struct stream **all, size_t n, int64_t now_us, struct err *err)
{
    struct review r = {.cat = cat, .now_us = now_us};

    see_claims(&r, all, n);
    enum err_code rc = cancel_abandoned(&r, err);
    for (size_t i = 0; i < r.seen_count; i++)
        head_unref(r.seen[i].head);
    free(r.seen);
    nodes_seen_done(r.living, r.living_count);
    return rc;
}

/* ---- the job's own appends */

static size_t find_claim(const struct head *h, const struct job *j)
{
    for (size_t i = 0; i < h->claims_count; i++)
        if (slice_eq(h->claims[i].job, slice_str(j->id)) && h->claims[i].slot == j->claim_slot)
            return i;
    return h->claims_count;
}

static enum err_code edit_uncommit(void *arg, struct stream *s, struct head *h, bool *changed, struct err *err)
{
    struct job *j = arg;
    size_t i = find_claim(h, j);

    (void)s, (void)err;
    *changed = i < h->claims_count;
    if (*changed)
        claim_take_out(h, i);
    return ERR_OK;
}

static bool match_input(void *arg, const struct entry *e)
{
    const struct job *j = arg;

    for (size_t i = 0; i < j->inputs.count; i++)
        if (slice_eq(j->inputs.items[i]->path, e->path))
            return true;
    return false;
}

static void input_span(const struct job *j, int64_t *from, int64_t *to)
{
    *from = INT64_MAX;
    *to = INT64_MIN;
    for (size_t i = 0; i < j->inputs.count; i++) {
        *from = MIN(*from, j->inputs.items[i]->tmin_us);
        *to = MAX(*to, j->inputs.items[i]->tmax_us);
    }
}

struct counting {
    struct job *job;
    size_t listed;
};

static enum err_code count_input(void *arg, struct entry *e, struct err *err)
{
    struct counting *c = arg;

    (void)err;
    c->listed += match_input(c->job, e);
    return ERR_OK;
}

/* (1) Every input is listed and in no other claim. */
static enum err_code edit_claim(void *arg, struct stream *s, struct head *h, bool *changed, struct err *err)
{
    struct job *j = arg;
    struct counting c = {j, 0};

    (void)s;
    *changed = false;
    TRY(head_each(j->cat, h, count_input, &c, err));
    j->claim_slot = SLOT_NONE;
    for (size_t i = 0; i < j->inputs.count; i++)
        if (claimed(h, j->inputs.items[i]->path))
            return ERR_OK;
    if (c.listed != j->inputs.count)
        return ERR_OK;
    struct head_claim *claim = ARRAY_PUSH(h->claims, h->claims_count, h->claims_cap);
    claim->job = arena_copy(&h->arena, slice_str(j->id));
    claim->slot = h->slot;
    claim->deadline_us = j->now_us + CLAIM_US;
    claim->node = arena_copy(&h->arena, slice_str(j->cat->node_id));
    claim->boot = arena_copy(&h->arena, slice_str(j->cat->boot));
    claim->inputs = arena_alloc(&h->arena, j->inputs.count * sizeof(slice));
    claim->inputs_count = j->inputs.count;
    for (size_t i = 0; i < j->inputs.count; i++)
        claim->inputs[i] = arena_copy(&h->arena, j->inputs.items[i]->path);
    j->claim_slot = h->slot;
    schema_unref(j->schema);
    j->schema = schema_ref(h->schema);
    *changed = true;
    return ERR_OK;
}

/* (3) R8. */
static enum err_code edit_commit(void *arg, struct stream *s, struct head *h, bool *changed, struct err *err)
{
    struct job *j = arg;
    struct entry_list removed = {0};
    size_t claim = find_claim(h, j);
    int64_t from, to;

    (void)s;
    j->done = false;
    if (claim == h->claims_count && !MUTANT(10))
        return ERR_OK;
    input_span(j, &from, &to);
    enum err_code rc = head_remove(j->cat, h, from, to, match_input, j, &removed, err);
    bool all = removed.count == j->inputs.count;
    entry_list_done(&removed);
    TRY(rc);
    if (!all) /* retention or another compaction was there: the copy is thrown away, the claim is cancelled by the caller */
        return ERR_OK;
    if (claim < h->claims_count)
        claim_take_out(h, claim);
    entry_list_add(&h->files, entry_with_added(j->output, h->slot));
    j->done = *changed = true;
    return head_spill(j->cat, h, err);
}

/* ---- (2) the output */

static enum err_code publish(struct job *j, struct os_file *f, const struct segment_stats *stats, uint64_t raw,
                             struct err *err)
{
    struct store *store = j->cat->store;
    struct file_name name;
    char session8[9];

    ASSERT(file_name_parse(j->inputs.items[0]->path, &name));
    nonce_session8(&j->nonce, session8);
    for (uint32_t n = 0;; n++) {
        _cleanup_(buf_done) struct buf key = BUF_INIT, path = BUF_INIT;
        buf_slice(&path, name.dir);
        buf_fmt(&path, "c%020" PRIu64 "-%s-%" PRIu32 ".parquet", j->claim_slot, session8, n);
        stream_dir_put(&key, slice_str(j->stream->name), &j->stream->sid);
        buf_slice(&key, buf_view(&path));
        enum err_code rc = store->ops->upload_publish(store, f, buf_view(&key), true, err);
        if (rc == ERR_CONFLICT && n < 16)
            continue;
        TRY(rc);
        uint32_t schema = j->inputs.items[0]->schema & ~FILE_COLUMNS_BY_NAME; /* the output is ours */
        j->output = entry_new(buf_view(&path), stats, raw, schema, SLOT_NONE);
        return ERR_OK;
    }
}

/* A damaged input must not come out with a checksum that is right again. */
enum err_code input_take(struct catalog *cat, const struct entry *e, struct merge_input *in, struct err *err)
{
    slice key = in->key;
    uint32_t crc;
    uint64_t size;

    if (cat->store->remote)
        TRY(cat->os->ops->open(cat->os, cat->temp_dir, OS_READ | OS_WRITE | OS_UNNAMED, &in->copy, err));
    enum err_code rc = store_fetch(cat->os, cat->store, key, in->copy, &size, &crc, err);
    if (rc == ERR_NOT_FOUND)
        rc = err_set(err, ERR_CORRUPT, "file " SLICE_FMT " is missing: it is left out", SLICE_ARG(key));
    else if (rc == ERR_OK && (size != e->bytes || crc != e->crc32c))
        rc = err_set(err, ERR_CORRUPT, "file " SLICE_FMT " is damaged: it is left as it is", SLICE_ARG(key));
    if (rc == ERR_CORRUPT)
        bad_input_add(cat, key);
    return rc;
}

static enum err_code merge_inputs(struct job *j, merge_fn merge, void *arg, struct err *err)
{
    struct store *store = j->cat->store;
    struct arena arena = ARENA_INIT;
    struct merge_input *inputs = arena_zalloc(&arena, j->inputs.count * sizeof(*inputs));
    struct segment_stats stats = {0};
    struct os_file *f = NULL;
    uint64_t rows = 0, raw = 0;
    enum err_code rc = ERR_OK;

    for (size_t i = 0; rc == ERR_OK && i < j->inputs.count; i++) {
        _cleanup_(buf_done) struct buf key = BUF_INIT;
        stream_dir_put(&key, slice_str(j->stream->name), &j->stream->sid);
        buf_slice(&key, j->inputs.items[i]->path);
        inputs[i].key = arena_copy(&arena, buf_view(&key));
        inputs[i].by_name = j->inputs.items[i]->schema & FILE_COLUMNS_BY_NAME;
        rows += j->inputs.items[i]->rows;
        raw += j->inputs.items[i]->raw_bytes;
        rc = input_take(j->cat, j->inputs.items[i], &inputs[i], err);
    }
    if (rc == ERR_OK)
        rc = store->ops->upload_begin(store, &f, err);
    bool whole = rc == ERR_OK;
    if (rc == ERR_OK)
        rc = merge(arg, j->schema, inputs, j->inputs.count, f, &stats, err);
    if (rc == ERR_OK && stats.rows != rows)
        rc = err_set(err, ERR_CORRUPT, "merging %zu files of %" PRIu64 " rows gave %" PRIu64, j->inputs.count, rows,
                     stats.rows);
    if (rc == ERR_OK)
        rc = publish(j, f, &stats, raw, err);
    for (size_t i = 0; rc == ERR_CORRUPT && whole && i < j->inputs.count; i++)
        bad_input_add(j->cat, inputs[i].key); /* whole, and not to be merged: which of them, nobody can tell */
    if (rc != ERR_OK && f)
        store->ops->upload_drop(store, f);
    for (size_t i = 0; i < j->inputs.count; i++)
        j->cat->os->ops->close(j->cat->os, inputs[i].copy);
    arena_done(&arena);
    return rc;
}

static enum err_code job_run(struct job *j, merge_fn merge, void *arg, struct catalog_work *out, struct err *err)
{
    struct catalog *cat = j->cat;

    seq_nonce(&cat->io, &j->nonce);
    nonce_hex(&j->nonce, j->id);
    TRY(node_beat(cat, err)); /* before the claim: who is not registered is taken for dead */
    TRY(head_update(cat, j->stream, edit_claim, j, err));
    if (j->claim_slot == SLOT_NONE)
        return ERR_OK; /* another claim was first */
    enum err_code rc = merge_inputs(j, merge, arg, err);
    if (rc == ERR_OK)
        rc = head_update(cat, j->stream, edit_commit, j, err);
    if (rc != ERR_OK || !j->done) {
        struct err ignored;
        enum err_code cancelled =
            head_update(cat, j->stream, edit_uncommit, j, &ignored); /* else the next round does it */
        (void)cancelled;
        return rc;
    }
    out->inputs_compacted += j->inputs.count;
    out->outputs_compacted++;
    for (size_t i = 0; i < j->inputs.count; i++)
        out->bytes_compacted += j->inputs.items[i]->bytes;
    return ERR_OK;
}

static enum err_code compact_stream(struct catalog *cat, struct stream *s, int64_t now_us, merge_fn merge, void *arg,
                                    bool *did, struct catalog_work *out, struct err *err)
{
    struct job j = {.cat = cat, .stream = s, .now_us = now_us};
    _cleanup_(head_unrefp) struct head *h = NULL;

    os_lock(cat->os, cat->mu);
    h = s->head && !s->head->dead && (s->compact_slot != s->head->slot || now_us >= s->compact_after_us)
            ? head_ref(s->head)
            : NULL;
    os_unlock(cat->os, cat->mu);
    if (!h)
        return ERR_OK;
    enum err_code rc = pick(cat, h, now_us, &j.inputs, err);
    *did = rc == ERR_OK && j.inputs.count > 0;
    if (*did) {
        rc = job_run(&j, merge, arg, out, err);
    } else if (rc == ERR_OK) { /* nothing to gain from this head until an hour settles */
        os_lock(cat->os, cat->mu);
        s->compact_slot = h->slot;
        s->compact_after_us = now_us + SETTLE_US;
        os_unlock(cat->os, cat->mu);
    }
    entry_list_done(&j.inputs);
    entry_unref(j.output);
    schema_unref(j.schema);
    return rc;
}

enum err_code catalog_compact(struct catalog *cat, merge_fn merge, void *arg, struct catalog_work *out, struct err *err)
{
    int64_t now_us;
    size_t n;
    bool did = false;

    TRY(cat->store->ops->now_us(cat->store, &now_us, err));
    if (!cat->compact_since_us)
        cat->compact_since_us = now_us;
    struct stream **all = streams_all(cat, &n);
    enum err_code rc = claims_review(cat, all, n, now_us, err);
    size_t start = n ? cat->compact_at % n : 0; /* another stream first each time */
    for (size_t i = 0; i < n && rc == ERR_OK && !did; i++) {
        cat->compact_at = start + i + 1;
        struct stream *s = all[(start + i) % n];
        struct err why = {0};
        int tries = 0;
        do { /* again without the input that was damaged */
            rc = compact_stream(cat, s, now_us, merge, arg, &did, out, &why);
            if (is_damage(rc))
                damage_note(cat, slice_str(s->name), why.msg);
        } while (is_damage(rc) && !stream_damaged(cat, s) && ++tries < DAMAGED_MAX);
        did = did && rc == ERR_OK;
        if (rc == ERR_NOT_FOUND || is_damage(rc)) /* deleted meanwhile, or told */
            rc = ERR_OK;
        else if (rc != ERR_OK && err)
            *err = why;
    }
    streams_release(cat, all, n);
    return rc;
}
