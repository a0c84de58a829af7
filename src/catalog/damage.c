/* damage.c: streams out of service (catalog.h, DAMAGE): who is, why, and looking again.
 *
 * Two kinds of memory. A stream whose head cannot be read has a place in the tables like any other, without a version: what its lanes hold
 * is collected in `unfolded` and waits. A name whose slot cannot be read has no sid that we know; lane records that name it bring their
 * sids, each gets a stream without a head. When the name can be read again, those sids that it does not name are dead. */
#include "catalog/catalog_int.h"

#include "base/banned.h"

#define TOLD_MAX 1000u

struct bad_name {
    char *name, *why;
};

static enum err_code out_of_service(slice name, const char *why, struct err *err)
{
    return err_set(err, ERR_CORRUPT,
                   "stream " SLICE_FMT " is out of service: %s; put that object back from a copy of the store",
                   SLICE_ARG(name), why);
}

static void tell(struct catalog *cat, slice stream, enum catalog_damage kind, const char *why)
{
    if (cat->on_damage)
        cat->on_damage(cat->damage_arg, stream, kind, why);
}

/* One bad sector, or a disk that is gone? What the page cache holds can be read either way, so a write tells. */
static bool store_works(struct catalog *cat)
{
    _cleanup_(buf_done) struct buf key = BUF_INIT;
    struct nonce id;
    char hex[33];

    seq_nonce(&cat->io, &id);
    nonce_hex(&id, hex);
    buf_fmt(&key, ".sluice/probe/%s", hex);
    enum err_code rc = cat->store->ops->create(cat->store, buf_view(&key), slice_lit("probe"), NULL);
    enum err_code removed = cat->store->ops->remove(cat->store, buf_view(&key), NULL); /* else the collector's */
    (void)removed;
    return rc == ERR_OK;
}

enum err_code tail_read(struct catalog *cat, slice seq, enum slot_type type, uint64_t listed, struct slot *out,
                        struct err *err)
{
    bool of_object;
    enum err_code rc = seq_read_tail_at(&cat->io, seq, type, listed, out, &of_object, err);

    if (rc != ERR_IO || !of_object || !store_works(cat))
        return rc;
    if (err)
        err->code = ERR_CORRUPT;
    return ERR_CORRUPT;
}

/* ---- streams */

void stream_quarantine(struct catalog *cat, struct stream *s, const struct err *why)
{
    char *text = mem_str(slice_str(why->msg));

    os_lock(cat->os, cat->mu);
    bool news = !s->damage && !s->dead;
    char *old = s->damage;
    s->damage = text;
    s->held = false;
    struct stream_version *v = move_ptr(s->version);
    os_unlock(cat->os, cat->mu);
    stream_version_unref(v);
    free(old);
    if (news)
        tell(cat, slice_str(s->name), DAMAGE_STREAM, why->msg);
}

bool stream_damaged(struct catalog *cat, const struct stream *s)
{
    os_lock(cat->os, cat->mu);
    bool damaged = s->damage != NULL;
    os_unlock(cat->os, cat->mu);
    return damaged;
}

enum err_code stream_check(struct catalog *cat, const struct stream *s, struct err *err)
{
    enum err_code rc = ERR_OK;

    os_lock(cat->os, cat->mu);
    if (s->damage)
        rc = out_of_service(slice_str(s->name), s->damage, err);
    os_unlock(cat->os, cat->mu);
    return rc;
}

/* ---- names */

static void bad_name_free(struct bad_name *b)
{
    if (!b)
        return;
    free(b->name);
    free(b->why);
    free(b);
}

void name_quarantine(struct catalog *cat, slice name, const struct err *why)
{
    struct bad_name *b = mem_zalloc(sizeof(*b));

    b->name = mem_str(name);
    b->why = mem_str(slice_str(why->msg));
    os_lock(cat->os, cat->mu);
    struct bad_name *old = map_del(&cat->bad_names, name);
    map_put(&cat->bad_names, slice_str(b->name), b);
    os_unlock(cat->os, cat->mu);
    if (!old)
        tell(cat, name, DAMAGE_STREAM, why->msg);
    bad_name_free(old);
}

bool name_bad(struct catalog *cat, slice name)
{
    os_lock(cat->os, cat->mu);
    bool bad = map_get(&cat->bad_names, name) != NULL;
    os_unlock(cat->os, cat->mu);
    return bad;
}

void name_good(struct catalog *cat, slice name)
{
    os_lock(cat->os, cat->mu);
    struct bad_name *b = cat->bad_names.count ? map_del(&cat->bad_names, name) : NULL;
    os_unlock(cat->os, cat->mu);
    if (b)
        tell(cat, name, DAMAGE_OVER, b->why);
    bad_name_free(b);
}

enum err_code catalog_check(struct catalog *cat, slice name, struct err *err)
{
    enum err_code rc = ERR_OK;

    os_lock(cat->os, cat->mu);
    const struct stream *s = map_get(&cat->by_name, name);
    const struct bad_name *b = cat->bad_names.count ? map_get(&cat->bad_names, name) : NULL;
    if (b || (s && s->damage))
        rc = out_of_service(name, b ? b->why : s->damage, err);
    os_unlock(cat->os, cat->mu);
    return rc;
}

/* ---- all of them */

void damage_note(struct catalog *cat, slice stream, const char *why)
{
    char *text = mem_str(slice_str(why));

    os_lock(cat->os, cat->mu);
    bool news = cat->told.count < TOLD_MAX && !map_get(&cat->told, slice_str(text));
    if (news)
        map_put(&cat->told, slice_str(text), text);
    os_unlock(cat->os, cat->mu);
    if (news)
        tell(cat, stream, DAMAGE_PART, why);
    else
        free(text);
}

enum err_code manifest_try(struct catalog *cat, const struct head *h, struct manifest *m, const struct slm **out,
                           bool *whole, struct err *err)
{
    _cleanup_(buf_done) struct buf dir = BUF_INIT;
    struct err why = {0};

    stream_dir_put(&dir, h->name, &h->sid);
    enum err_code rc = manifest_load(cat->store, buf_view(&dir), m, out, &why);
    *whole = rc == ERR_OK;
    if (is_damage(rc) || rc == ERR_NOT_FOUND || rc == ERR_IO) {
        damage_note(cat, h->name, why.msg);
        return ERR_OK;
    }
    if (rc != ERR_OK && err)
        *err = why;
    return rc;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Their names, sorted, each once; the caller's to free, as the array. */
static char **damaged_names(struct catalog *cat, size_t *count)
{
    struct map_entry *e;
    char **names = NULL;
    size_t n = 0, cap = 0, kept = 0;

    os_lock(cat->os, cat->mu);
    for (size_t i = 0; (e = map_next(&cat->bad_names, &i));)
        *ARRAY_PUSH(names, n, cap) = mem_str(e->key);
    for (size_t i = 0; (e = map_next(&cat->by_sid, &i));)
        if (((struct stream *)e->value)->damage)
            *ARRAY_PUSH(names, n, cap) = mem_str(slice_str(((struct stream *)e->value)->name));
    os_unlock(cat->os, cat->mu);
    if (n)
        qsort(names, n, sizeof(*names), by_text);
    for (size_t i = 0; i < n; i++) {
        if (kept && strcmp(names[i], names[kept - 1]) == 0)
            free(names[i]);
        else
            names[kept++] = names[i];
    }
    *count = kept;
    return names;
}

void catalog_list_damaged(struct catalog *cat, bool (*fn)(void *arg, slice name, const char *why), void *arg)
{
    size_t n;
    char **names = damaged_names(cat, &n);
    struct err why;
    bool more = true;

    for (size_t i = 0; i < n; i++) {
        if (more && catalog_check(cat, slice_str(names[i]), &why) != ERR_OK)
            more = fn(arg, slice_str(names[i]), why.msg);
        free(names[i]);
    }
    free(names);
}

/* Streams of a name that is readable again, and whose LIVE slot names another: dead, as stream_of_record() would have found. */
static void forget_strangers(struct catalog *cat, slice name, const struct name_state *state)
{
    size_t n;
    struct stream **all = streams_all(cat, &n);

    for (size_t i = 0; i < n; i++)
        if (slice_eq(slice_str(all[i]->name), name) && stream_damaged(cat, all[i]) &&
            (!state->live || memcmp(state->sid.text, all[i]->sid.text, 26) != 0))
            stream_forget(cat, all[i]);
    streams_release(cat, all, n);
}

void damage_retry(struct catalog *cat)
{
    size_t n;
    char **names = damaged_names(cat, &n);

    for (size_t i = 0; i < n; i++) {
        _cleanup_(buf_done) struct buf seq = BUF_INIT;
        struct name_state state;
        struct stream *s = NULL;
        seq_name(&seq, slice_str(names[i]));
        gate_enter(cat, buf_view(&seq));
        enum err_code rc = name_pull(cat, slice_str(names[i]), SLOT_NONE, &state, &s, NULL);
        gate_leave(cat, buf_view(&seq));
        if (rc == ERR_OK)
            forget_strangers(cat, slice_str(names[i]), &state);
        stream_unref(cat, s);
        free(names[i]);
    }
    free(names);
}

void quarantine_done(struct catalog *cat)
{
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&cat->bad_names, &i));)
        bad_name_free(e->value);
    map_done(&cat->bad_names);
    for (size_t i = 0; (e = map_next(&cat->told, &i));)
        free(e->value);
    map_done(&cat->told);
}
