/* damage.c: a file that a query could not read. A query that fails as damaged bytes make it fail looks for the file by checksum (the engine
 * seldom names it), answers with its name, and writes it to pmeta, once. Later queries leave the file out and say so with every answer (query_sink's
 * note(), an HTTP header): other data stays queryable, and no answer is smaller in silence. A file that was put back is read again: its size or
 * time differs from what was seen. */
#include "base/log.h"
#include "query/query_int.h"

struct damaged {
    char *key;
    struct store_meta seen; /* zeros: it was missing */
};

static void verified_clear(struct map *m)
{
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(m, &i));)
        free(e->value);
    map_done(m);
    *m = MAP_INIT;
}

void damage_done(struct query_pool *pool)
{
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&pool->damaged, &i));) {
        struct damaged *d = e->value;
        free(d->key);
        free(d);
    }
    map_done(&pool->damaged);
    verified_clear(&pool->verified);
}

static struct store_meta meta_of(struct query_pool *pool, slice key)
{
    struct store *store = lake_store(pool->lake);
    struct store_meta m;

    return store->ops->stat(store, key, &m, NULL) == ERR_OK ? m : (struct store_meta){0};
}

bool damage_known(struct query_pool *pool, slice key)
{
    struct damaged *d = NULL;
    struct store_meta seen = {0};

    pthread_mutex_lock(&pool->mu);
    if (pool->damaged.count)
        d = map_get(&pool->damaged, key);
    if (d)
        seen = d->seen;
    pthread_mutex_unlock(&pool->mu);
    if (!d)
        return false;
    struct store_meta now = meta_of(pool, key);
    if (now.size == seen.size && now.modified_us == seen.modified_us)
        return true;
    pthread_mutex_lock(&pool->mu);
    d = map_del(&pool->damaged, key);
    metric_set(pool->m_damaged, (double)pool->damaged.count);
    pthread_mutex_unlock(&pool->mu);
    if (d) {
        free(d->key);
        free(d);
    }
    return false;
}

static void damage_add(struct query_pool *pool, slice stream, const struct plan_file *f, const char *why)
{
    struct damaged *d = mem_zalloc(sizeof(*d)), *old;

    d->key = mem_str(f->key);
    d->seen = meta_of(pool, f->key);
    pthread_mutex_lock(&pool->mu);
    old = map_get(&pool->damaged, f->key);
    if (!old)
        (void)map_put(&pool->damaged, slice_str(d->key), d);
    metric_set(pool->m_damaged, (double)pool->damaged.count);
    pthread_mutex_unlock(&pool->mu);
    if (old) { /* another query was first */
        free(d->key);
        free(d);
        return;
    }
    log_error("query", "file " SLICE_FMT " is damaged: %s", SLICE_ARG(f->key), why);
    lake_event(pool->lake, "quarantine", stream, f->rows, "file " SLICE_FMT ": %s", SLICE_ARG(f->key), why);
}

enum err_code damage_manifest(struct query_pool *pool, slice stream, const struct plan_file *m, struct err *err)
{
    damage_add(pool, stream, m, "this list of files is damaged or missing, the files that it names cannot be found");
    return err_set(err, ERR_CORRUPT,
                   "file " SLICE_FMT ", a list of files, is damaged; later queries leave its files out and say so",
                   SLICE_ARG(m->key));
}

enum file_state { FILE_WHOLE, FILE_DAMAGED, FILE_MISSING, FILE_UNREADABLE };

static enum err_code local_checksum(struct store *store, slice key, uint64_t *size, uint32_t *crc)
{
    _cleanup_(buf_done) struct buf path = BUF_INIT;

    store->ops->engine_path(store, key, &path);
    return os_file_checksum(os_real(), buf_cstr(&path), size, crc, NULL);
}

static enum file_state file_check(struct query_pool *pool, const struct plan_file *f)
{
    struct store *store = lake_store(pool->lake);
    uint64_t size;
    uint32_t crc;

    enum err_code rc = store->remote ? store_fetch(os_real(), store, f->key, NULL, &size, &crc, NULL)
                                     : local_checksum(store, f->key, &size, &crc);
    if (rc != ERR_OK)
        return rc == ERR_NOT_FOUND ? FILE_MISSING : FILE_UNREADABLE;
    return size == f->bytes && crc == f->crc32c ? FILE_WHOLE : FILE_DAMAGED;
}

/* ---- before the first read of a file
 *
 * Parquet pages carry no checksum as the engine writes and reads them: of 60 single flipped bytes 20 gave another answer without an
 * error. So each file is read once as a whole before a query of this process believes it. What changes later is the scrub's to find. Files
 * of a remote store are read by ranges: the store keeps its own checksums, and the scrub looks at ours (docs/operations.md). */

#define VERIFIED_MAX 1000000u /* keys kept; beyond it all are forgotten and looked at again */

static bool verified_known(struct query_pool *pool, slice key)
{
    pthread_mutex_lock(&pool->mu);
    bool known = pool->verified.count && map_get(&pool->verified, key);
    pthread_mutex_unlock(&pool->mu);
    return known;
}

static void verified_add(struct query_pool *pool, slice key)
{
    char *copy = mem_str(key); /* key and value of the entry */

    pthread_mutex_lock(&pool->mu);
    if (pool->verified.count >= VERIFIED_MAX)
        verified_clear(&pool->verified);
    bool known = map_get(&pool->verified, key); /* another query was first */
    if (!known)
        (void)map_put(&pool->verified, slice_str(copy), copy);
    pthread_mutex_unlock(&pool->mu);
    if (known)
        free(copy);
}

static enum err_code verify_stream(const struct running *r, struct binding *b, const struct bound_stream *s,
                                   struct err *err)
{
    for (size_t i = 0; i < s->files_count; i++) {
        const struct plan_file *f = &s->plan.files[i];
        if ((s->hot && s->hot[i]) || verified_known(b->pool, f->key))
            continue; /* hot_pin() looked at it */
        if (running_over(r))
            return ERR_OK;
        switch (file_check(b->pool, f)) {
        case FILE_WHOLE: verified_add(b->pool, f->key); break;
        case FILE_DAMAGED:
            damage_add(b->pool, stream_version_name(s->snap.version), f,
                       "its bytes are not those that were written (crc32c)");
            return err_set(err, ERR_CORRUPT, "file " SLICE_FMT " is damaged; later queries leave it out and say so",
                           SLICE_ARG(f->key));
        case FILE_MISSING:
        case FILE_UNREADABLE: break; /* the engine fails on it: damage_find() */
        }
    }
    return ERR_OK;
}

enum err_code damage_verify(const struct running *r, struct binding *b, struct err *err)
{
    if (lake_store(b->pool->lake)->remote)
        return ERR_OK;
    for (size_t i = 0; i < b->streams_count; i++)
        TRY(verify_stream(r, b, &b->streams[i], err));
    return ERR_OK;
}

/* ---- after a query that failed */

struct search {
    struct query_pool *pool;
    const char *message; /* what the engine said */
    const struct running *running;
    size_t damaged, missing, unreadable;
    size_t cold; /* copies in the hot tier that were damaged */
    slice first; /* key of the first that is not whole */
};

/* Looks at the files that the message names, or at the others. */
static void search_stream(struct search *s, const struct bound_stream *b, bool named)
{
    for (size_t i = 0; i < b->files_count; i++) {
        const struct plan_file *f = &b->plan.files[i];
        _cleanup_(freep) char *key = mem_str(f->key);
        if ((strstr(s->message, key) != NULL) != named)
            continue;
        if (running_over(s->running))
            return;
        if (b->hot && b->hot[i]) {
            s->cold += !hot_check(lake_hot(s->pool->lake), b->hot[i]);
            continue;
        }
        enum file_state state = file_check(s->pool, f);
        s->damaged += state == FILE_DAMAGED;
        s->missing += state == FILE_MISSING;
        s->unreadable += state == FILE_UNREADABLE;
        if (state != FILE_WHOLE && !s->first.ptr)
            s->first = f->key;
        if (state == FILE_DAMAGED)
            damage_add(s->pool, stream_version_name(b->snap.version), f,
                       "its bytes are not those that were written (crc32c)");
    }
}

/* A file of a fresh snapshot that is not there is lost. */
static void mark_missing(struct query_pool *pool, const struct binding *b)
{
    for (size_t i = 0; i < b->streams_count; i++)
        for (size_t k = 0; k < b->streams[i].files_count; k++) {
            const struct plan_file *f = &b->streams[i].plan.files[k];
            if (meta_of(pool, f->key).modified_us == 0)
                damage_add(pool, stream_version_name(b->streams[i].snap.version), f, "it is missing in the store");
        }
}

enum err_code damage_find(const struct running *r, struct binding *b, bool again, enum err_code rc, struct err *err)
{
    struct err was = *err;
    struct search s = {.pool = b->pool, .message = was.msg, .running = r};

    if (rc != ERR_CORRUPT && rc != ERR_IO && rc != ERR_INVALID && rc != ERR_UNAVAILABLE)
        return rc;
    for (size_t i = 0; i < b->streams_count; i++)
        search_stream(&s, &b->streams[i], true);
    for (size_t i = 0; i < b->streams_count && !s.first.ptr && !s.cold && rc != ERR_INVALID; i++)
        search_stream(&s, &b->streams[i], false);
    if (s.damaged)
        return err_set(err, ERR_CORRUPT, "file " SLICE_FMT " is damaged; later queries leave it out and say so",
                       SLICE_ARG(s.first));
    if (s.cold && !s.missing && !s.unreadable) /* they are gone: the store has the files */
        return err_set(err, ERR_NOT_FOUND, "a copy of a file on this node was damaged, and is removed: ask again");
    if (s.missing && !again)
        return err_set(err, ERR_NOT_FOUND, "file " SLICE_FMT " was deleted while the query ran", SLICE_ARG(s.first));
    if (s.missing) {
        mark_missing(b->pool, b);
        return err_set(err, ERR_CORRUPT,
                       "file " SLICE_FMT " is missing in the store; later queries leave it out and say so",
                       SLICE_ARG(s.first));
    }
    if (s.unreadable)
        return err_set(err, rc == ERR_UNAVAILABLE ? rc : ERR_IO, "file " SLICE_FMT " cannot be read: %s",
                       SLICE_ARG(s.first), was.msg);
    *err = was;
    if (rc == ERR_CORRUPT) /* words of the user's own: every file is whole */
        err->code = rc = ERR_INVALID;
    return rc;
}
