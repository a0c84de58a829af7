/* reconcile.c: sweeping the directories of incarnations that a DEAD name slot names, again and again, for ever (catalog.md sections 7 and 9).
 *
 * R9: the directories are listed before the names are read, so that an incarnation created in between is not judged by names that are
 * older than it; and only a sid that a DEAD slot names is swept. A directory that no name slot ever named is somebody else's: reported,
 * left alone. Nobody's memory is asked, except to skip the incarnation that we know to be live.
 * A sweep first makes sure that the head is DEAD (its deleter may have died), then removes everything but heads, then heads but the last;
 * the DEAD head itself goes a week later (the exception to R5). */
#include <inttypes.h>

#include "base/mutant.h"
#include "catalog/discard.h"

#include "base/banned.h"

#define DEAD_HEAD_US INT64_C(604800000000)
#define UPLOADS_US INT64_C(3600000000)
#define UPLOAD_OLD_US INT64_C(86400000000)

/* ---- directories */

struct names_dirs {
    struct catalog *cat;
    struct incarnations *dirs; /* of each name */
    char **names;
    size_t count, cap;
    struct storage_class stray;
};

void incarnations_done(struct incarnations *l)
{
    for (size_t i = 0; i < l->count; i++)
        free(l->items[i]);
    free(l->items);
    *l = (struct incarnations){0};
}

static bool name_dir_item(void *arg, const struct store_list_item *item)
{
    struct names_dirs *n = arg;

    if (!item->is_prefix)
        storage_count(&n->stray, item->meta.size);
    else if (!slice_starts(item->key, slice_lit(".sluice/")))
        *ARRAY_PUSH(n->names, n->count, n->cap) = mem_str(item->key);
    return true;
}

static bool incarnation_item(void *arg, const struct store_list_item *item)
{
    struct incarnations *l = arg;

    if (item->is_prefix)
        *ARRAY_PUSH(l->items, l->count, l->cap) = mem_str(item->key);
    else
        storage_count(&l->stray, item->meta.size);
    return true;
}

static enum err_code name_dir_list(void *arg, size_t index, struct err *err)
{
    struct names_dirs *n = arg;
    struct store *store = n->cat->store;

    return store->ops->list(store, slice_str(n->names[index]), slice_lit(""), true, incarnation_item, &n->dirs[index],
                            err);
}

static void incarnations_move(struct incarnations *from, struct incarnations *to)
{
    for (size_t i = 0; i < from->count; i++)
        *ARRAY_PUSH(to->items, to->count, to->cap) = from->items[i];
    to->stray.objects += from->stray.objects;
    to->stray.bytes += from->stray.bytes;
    free(from->items);
}

enum err_code incarnations_list(struct catalog *cat, struct incarnations *out, struct err *err)
{
    struct store *store = cat->store;
    struct names_dirs n = {.cat = cat};
    enum err_code rc = store->ops->list(store, slice_lit(""), slice_lit(""), true, name_dir_item, &n, err);

    *out = (struct incarnations){.stray = n.stray};
    n.dirs = mem_zalloc((n.count + 1) * sizeof(*n.dirs));
    if (rc == ERR_OK)
        rc = parallel_each(cat->os, store->parallel, n.count, name_dir_list, &n, err);
    for (size_t i = 0; i < n.count; i++) {
        incarnations_move(&n.dirs[i], out);
        free(n.names[i]);
    }
    free(n.dirs);
    free(n.names);
    if (rc != ERR_OK)
        incarnations_done(out);
    return rc;
}

bool incarnation_parse(slice prefix, struct buf *name, struct sid *sid)
{
    if (prefix.len < 28 || prefix.ptr[prefix.len - 1] != '/' || prefix.ptr[prefix.len - 28] != '/')
        return false;
    return name_decode(slice_head(prefix, prefix.len - 28), name) &&
           sid_parse(slice_of(prefix.ptr + prefix.len - 27, 26), sid);
}

/* ---- what the names say */

struct slot_list {
    slice seq;
    uint64_t *items;
    size_t count, cap;
};

static bool slot_item(void *arg, const struct store_list_item *item)
{
    struct slot_list *l = arg;
    uint64_t slot;

    if (!item->is_prefix && slot_number(slice_from(item->key, l->seq.len), &slot))
        *ARRAY_PUSH(l->items, l->count, l->cap) = slot;
    return true;
}

/* Reads the whole sequence of the name: slots are never deleted. */
enum err_code incarnation_fate(struct catalog *cat, slice name, const struct sid *sid, enum name_fate *out,
                               struct err *err)
{
    _cleanup_(buf_done) struct buf seq = BUF_INIT;
    struct slot_list slots = {0};
    enum err_code rc;

    *out = FATE_UNKNOWN;
    seq_name(&seq, name);
    slots.seq = buf_view(&seq);
    rc = cat->store->ops->list(cat->store, buf_view(&seq), slice_lit(""), true, slot_item, &slots, err);
    for (size_t i = 0; i < slots.count && rc == ERR_OK; i++) {
        _cleanup_(slot_done) struct slot s = {0};
        struct name_state state = {0};
        rc = seq_read(&cat->io, buf_view(&seq), SLOT_NAME, slots.items[i], &s, err);
        if (rc == ERR_OK)
            rc = name_state_get(&s, &state, err);
        if (rc == ERR_OK && memcmp(state.sid.text, sid->text, 26) == 0)
            *out = state.live ? FATE_LIVE : FATE_DEAD; /* in slot order: DEAD stands after LIVE */
    }
    free(slots.items);
    return rc;
}

/* ---- sweeping */

struct sweeping {
    struct discard *d;
    slice prefix;
    bool heads;         /* this pass removes heads, else everything else */
    struct arena arena; /* keys */
    struct garbage *items;
    size_t count, cap;
    int64_t last_us; /* when the last of them was made */
};

static void sweeping_clear(struct sweeping *s)
{
    arena_done(&s->arena);
    free(s->items);
    s->items = NULL;
    s->count = s->cap = 0;
}

static bool sweep_item(void *arg, const struct store_list_item *item)
{
    struct sweeping *s = arg;
    bool head = slice_starts(slice_from(item->key, s->prefix.len), slice_lit("_head/"));

    if (head != s->heads)
        return true;
    *ARRAY_PUSH(s->items, s->count, s->cap) =
        (struct garbage){arena_copy(&s->arena, item->key), item->meta.size, GC_DEAD_INCARNATION};
    s->last_us = item->meta.modified_us;
    return true;
}

/* `above`: a dry run, in which a DEAD head would stand above those that are there. */
static enum err_code sweep_pass(struct sweeping *s, bool heads, bool above, struct err *err)
{
    struct store *store = s->d->cat->store;

    sweeping_clear(s);
    s->heads = heads;
    TRY(store->ops->list(store, s->prefix, slice_lit(""), false, sweep_item, s, err));
    size_t end = s->count;
    if (heads && end && !above && s->d->now_us - s->last_us < DEAD_HEAD_US)
        end--;
    if (!heads)
        return discard_many(s->d, s->prefix, s->items, end, err);
    for (size_t i = 0; i < end; i++)
        TRY(discard(s->d, s->prefix, s->items[i].key, s->items[i].bytes, s->items[i].why, err));
    return ERR_OK;
}

/* The tail head cannot be read, and its stream is dead by name: a DEAD head goes above it. */
static enum err_code head_bury(struct catalog *cat, slice name, const struct sid *sid, struct err *err)
{
    _cleanup_(head_unrefp) struct head *h = head_new(name, sid);
    _cleanup_(buf_done) struct buf seq = BUF_INIT, body = BUF_INIT;
    struct append a = {.kind = APPEND_OTHER, .type = SLOT_HEAD};

    seq_head(&seq, name, sid);
    a.seq = buf_view(&seq);
    seq_nonce(&cat->io, &a.nonce);
    h->dead = true;
    h->schema = schema_empty();
    gate_enter(cat, a.seq);
    enum err_code rc = seq_find_tail(&cat->io, a.seq, SLOT_NONE, &a.tail.slot, err);
    if (rc == ERR_OK) {
        h->slot = a.tail.slot + 1;
        head_encode(h, &body);
        a.body = buf_view(&body);
        rc = seq_append(&cat->io, &a, err);
    }
    gate_leave(cat, a.seq);
    return rc == ERR_CONFLICT ? ERR_UNAVAILABLE : rc; /* the next sweep looks again */
}

/* The head of a dead incarnation says so: fences whoever still works on it. A dry run only says whether a DEAD head is missing. */
static enum err_code fence_head(struct discard *d, slice name, const struct sid *sid, bool *missing, struct err *err)
{
    struct catalog *cat = d->cat;
    struct stream *s = stream_get(cat, sid);
    enum err_code rc = ERR_OK;

    if (!s) {
        s = mem_zalloc(sizeof(*s));
        s->refs = 1;
        s->sid = *sid;
        s->name = mem_str(name);
        s->dead = true; /* never in the tables */
    }
    stream_forget(cat, s);
    rc = stream_reload(cat, s, err);
    os_lock(cat->os, cat->mu); /* a fold may be installing another */
    *missing = is_damage(rc) || (rc == ERR_OK && !s->head->dead);
    os_unlock(cat->os, cat->mu);
    if (d->opt->dry_run)
        rc = is_damage(rc) ? ERR_OK : rc;
    else if (rc == ERR_OK)
        rc = head_kill(cat, s, err);
    else if (is_damage(rc))
        rc = head_bury(cat, name, sid, err);
    stream_unref(cat, s);
    return rc == ERR_NOT_FOUND ? ERR_OK
                               : rc; /* no head: nobody can append one but head 0, and the next sweep meets that */
}

static enum err_code sweep(struct discard *d, slice prefix, slice name, const struct sid *sid, struct err *err)
{
    struct sweeping s = {.d = d, .prefix = prefix};
    bool missing;

    TRY(fence_head(d, name, sid, &missing, err));
    enum err_code rc = sweep_pass(&s, false, false, err);
    if (rc == ERR_OK)
        rc = sweep_pass(&s, true, missing && d->opt->dry_run, err);
    sweeping_clear(&s);
    if (rc == ERR_OK)
        d->out->streams_swept++;
    return rc;
}

/* Mutant 11: names are read before directories, and whatever is not LIVE goes. */
static enum err_code mutant_round(struct discard *d, struct err *err)
{
    struct catalog *cat = d->cat;
    _cleanup_(incarnations_done) struct incarnations dirs = {0};
    size_t n;
    struct stream **all = streams_all(cat, &n);
    struct map live = MAP_INIT;
    enum err_code rc = ERR_OK;

    for (size_t i = 0; i < n; i++)
        map_put(&live, sid_slice(&all[i]->sid), all[i]);
    if (rc == ERR_OK)
        rc = incarnations_list(cat, &dirs, err);
    for (size_t i = 0; i < dirs.count && rc == ERR_OK; i++) {
        _cleanup_(buf_done) struct buf name = BUF_INIT;
        struct sid sid;
        if (incarnation_parse(slice_str(dirs.items[i]), &name, &sid) && !map_get(&live, sid_slice(&sid)))
            rc = sweep(d, slice_str(dirs.items[i]), buf_view(&name), &sid, err);
    }
    map_done(&live);
    streams_release(cat, all, n);
    return rc;
}

/* ---- uploads in parts that nobody ends: in no listing, but they cost */

struct uploads {
    struct discard *d;
    enum err_code rc; /* of asking whose it is */
    struct err err;
};

/* Ours is what only we write: a data file by its name, in an incarnation that a name slot of this store names. It may be another node's that is
 * at work; a day is longer than any upload goes on, and one that is aborted all the same goes up again under another name. */
static bool is_ours(void *arg, slice key)
{
    struct uploads *u = arg;
    const uint8_t *slash = key.len ? memchr(key.ptr, '/', key.len) : NULL;
    size_t dir = slash ? (size_t)(slash - key.ptr) + 1 + 27 : 0;
    _cleanup_(buf_done) struct buf name = BUF_INIT;
    struct file_name file;
    enum name_fate fate;
    struct sid sid;

    if (!slash || dir >= key.len || !incarnation_parse(slice_head(key, dir), &name, &sid) ||
        !slice_starts(slice_from(key, dir), slice_lit("date=")) || !file_name_parse(slice_from(key, dir), &file))
        return false;
    enum err_code rc = incarnation_fate(u->d->cat, buf_view(&name), &sid, &fate, &u->err);
    if (rc != ERR_OK)
        u->rc = rc;
    if (rc != ERR_OK || fate == FATE_UNKNOWN)
        return false;
    discard_told(u->d, slice_head(key, dir), key, GC_UNFINISHED_UPLOAD);
    return !u->d->opt->dry_run;
}

/* Once an hour: a request that nobody needs more often. */
static enum err_code uploads_round(struct discard *d, struct err *err)
{
    struct catalog *cat = d->cat;
    struct uploads u = {.d = d};
    int64_t now = os_mono_us(cat->os);

    if (!cat->store->ops->abort_uploads || (!d->opt->whole && cat->uploads_us && now - cat->uploads_us < UPLOADS_US))
        return ERR_OK;
    enum err_code rc = cat->store->ops->abort_uploads(cat->store, d->now_us - UPLOAD_OLD_US, is_ours, &u, err);
    if (rc == ERR_DENIED ||
        rc == ERR_INVALID) /* no right to list them, or no such request: the bucket's own rule does it */
        rc = ERR_OK;
    TRY(rc);
    if (u.rc != ERR_OK && !is_damage(u.rc)) {
        if (err)
            *err = u.err;
        return u.rc;
    }
    cat->uploads_us = now;
    return ERR_OK;
}

struct fate { /* what the name says of a directory */
    struct buf name;
    struct sid sid;
    enum name_fate is;
    enum err_code rc;
    struct err err;
};
struct fates { /* names are read after all directories were listed (R9) */
    struct catalog *cat;
    struct incarnations dirs;
    struct fate *items;
};

static enum err_code fate_look(void *arg, size_t index, struct err *err)
{
    struct fates *f = arg;
    struct fate *fate = &f->items[index];

    if (incarnation_parse(slice_str(f->dirs.items[index]), &fate->name, &fate->sid)) /* else not of our layout */
        fate->rc = incarnation_fate(f->cat, buf_view(&fate->name), &fate->sid, &fate->is, &fate->err);
    if (fate->rc == ERR_OK || is_damage(fate->rc))
        return ERR_OK;
    *err = fate->err;
    return fate->rc;
}

static void fates_done(struct fates *f)
{
    for (size_t i = 0; f->items && i < f->dirs.count; i++)
        buf_done(&f->items[i].name);
    free(f->items);
    incarnations_done(&f->dirs);
}

static enum err_code fate_meet(struct discard *d, slice prefix, struct fate *f, struct err *err)
{
    struct err why = f->err;
    enum err_code rc = f->rc;

    discard_at(d, prefix);
    if (rc == ERR_OK && f->is == FATE_DEAD)
        rc = sweep(d, prefix, buf_view(&f->name), &f->sid, &why);
    if (is_damage(rc)) { /* whose it is cannot be told: nothing of it is deleted, the others are not kept waiting */
        damage_note(d->cat, buf_view(&f->name), why.msg);
        return ERR_OK;
    }
    if (rc != ERR_OK && err)
        *err = why;
    return rc;
}

enum err_code reconcile_round(struct discard *d, struct err *err)
{
    struct catalog *cat = d->cat;
    _cleanup_(fates_done) struct fates f = {.cat = cat};

    if (MUTANT(11))
        return mutant_round(d, err);
    TRY(incarnations_list(cat, &f.dirs, err));
    f.items = mem_zalloc((f.dirs.count + 1) * sizeof(*f.items));
    TRY(parallel_each(cat->os, cat->store->parallel, f.dirs.count, fate_look, &f, err));
    for (size_t i = 0; i < f.dirs.count; i++)
        TRY(fate_meet(d, slice_str(f.dirs.items[i]), &f.items[i], err));
    return uploads_round(d, err);
}
