/* local.c: an object store in a directory, with the guarantees that catalog.md section 3 asks of a local file system.
 *
 * CREATE  An object is written without a name (O_TMPFILE, or a file in .sluice/tmp/ where the file system has none), synced,
 *   and only then linked under its key; link(2) refuses a name that exists, so whoever links first has created it, whole.
 *   O_CREAT|O_EXCL on the final name would leave a torn object behind a crash; rename() would replace. Then the directory
 *   is synced. A directory made on the way is synced in its parent before anything in it counts.
 *
 *   upload_begin -> [write] -> sync -> link -> sync(dir)        create() and publish(synced = true)
 *   upload_begin -> [write] -> link ... sync_group(): each file, then each directory once
 *
 * WHAT A READER SEES IS DURABLE  Between link and sync of the directory other threads see the name. A reader that acted on it
 *   (folds a record, computes the next slot) would act on something a power cut takes back. So every directory has a note
 *   (struct dir): not synced since this process first saw it, or links in flight. Reads and lists of such a directory sync
 *   it before they answer. Several processes on one directory are not covered by this (the lake's flock forbids them).
 *
 * UNDECIDED  A sync of a directory that fails leaves a name that may or may not survive. The store then answers ERR_IO to every
 *   create until it is opened again ("poisoned"): after a failed fsync a second one proves nothing.
 *
 * Directories are never removed (a removal would race with a link into it); an empty one is no common prefix in a list.
 * LOCK  `mu` guards `dirs` and nothing else; never held across IO. */
#include "store/store.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/map.h"
#include "store/probe.h"

#include "base/banned.h"

#define LOCAL_KEY_BYTES_MAX 1023u
#define LOCAL_DIRS_MAX 65536u       /* notes kept; forgetting one costs one sync */
#define LOCAL_LINK_US_MAX 60000000  /* a file older than this at its link would lie about its age (modified_us) */
#define LOCAL_TMP_AGE_US 3600000000 /* left-over named temporary files go after this */
#define LOCAL_READ_BYTES_MAX (1u << 30)
#define SYNC_EACH_MAX 64u /* files of a group that are synced one by one; beyond, the whole file system is */
#define TMP_DIR ".sluice/tmp"

struct dir {          /* what we know of one directory; all under mu */
    uint32_t pending; /* links made and not synced yet */
    uint32_t links;   /* begun so far: a sync vouches for none that began after it */
    bool in_parent;   /* its own name is durable, and its parents' */
    bool synced;      /* every name seen in it so far, but for `pending`, is durable */
    char path[];      /* key of the directory, without a slash at the end; "" is the root */
};
struct upload { /* an upload with a temporary name: file systems without O_TMPFILE */
    struct os_file *file;
    char *path;
    struct upload *next;
};
struct local {
    struct store base;
    struct os *os;
    char *root;
    bool unnamed;          /* O_TMPFILE works */
    struct os_file *any;   /* a file on the file system, open all the time for sync_fs(); NULL: there is no such call */
    _Atomic bool poisoned; /* a directory sync failed after a link */
    struct os_mutex *mu;
    struct map dirs;         /* under mu: path -> struct dir */
    uint64_t dirs_forgotten; /* under mu: how often notes were dropped */
    struct upload *uploads;  /* under mu */
};

static struct local *local_of(struct store *s)
{
    return (struct local *)s;
}

bool store_key_valid(slice key)
{
    size_t from = 0;

    if (key.len == 0 || key.len > LOCAL_KEY_BYTES_MAX || memchr(key.ptr, 0, key.len))
        return false;
    for (size_t i = 0; i <= key.len; i++) {
        if (i < key.len && key.ptr[i] != '/')
            continue;
        slice part = {key.ptr + from, i - from};
        if (part.len == 0 || slice_eq(part, slice_lit(".")) || slice_eq(part, slice_lit("..")))
            return false;
        from = i + 1;
    }
    return true;
}

static char *path_of(const struct local *l, slice key)
{
    return key.len ? mem_fmt("%s/%.*s", l->root, (int)key.len, (const char *)key.ptr) : mem_fmt("%s", l->root);
}

static slice parent_of(slice key)
{
    size_t n = key.len;

    while (n && key.ptr[n - 1] != '/')
        n--;
    return slice_head(key, n ? n - 1 : 0);
}

/* ---- notes on directories */

static void dirs_forget(struct local *l)
{
    struct map kept = MAP_INIT;
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&l->dirs, &i));) {
        struct dir *d = e->value;
        if (d->pending)
            map_put(&kept, slice_str(d->path), d);
        else
            free(d);
    }
    map_done(&l->dirs);
    l->dirs = kept;
    l->dirs_forgotten++;
}

/* Under mu. */
static struct dir *dir_note(struct local *l, slice path)
{
    struct dir *d = map_get(&l->dirs, path);

    if (d)
        return d;
    if (l->dirs.count >= LOCAL_DIRS_MAX)
        dirs_forget(l);
    d = mem_zalloc(sizeof(*d) + path.len + 1);
    memcpy(d->path, path.ptr, path.len);
    d->in_parent = path.len == 0;
    map_put(&l->dirs, slice_of(d->path, path.len), d);
    return d;
}

static enum err_code dir_sync(struct local *l, slice dir, struct err *err)
{
    _cleanup_(freep) char *path = path_of(l, dir);
    return l->os->ops->sync_dir(l->os, path, err);
}

/* Makes every name in `dir` that is visible now durable, if it may not be. An absent directory is fine. */
static enum err_code dir_settle(struct local *l, slice dir, struct err *err)
{
    os_lock(l->os, l->mu);
    struct dir *d = dir_note(l, dir);
    bool clean = d->synced && d->pending == 0;
    uint32_t links = d->links;
    os_unlock(l->os, l->mu);
    if (clean)
        return ERR_OK;
    enum err_code rc = dir_sync(l, dir, err);
    if (rc == ERR_NOT_FOUND)
        return ERR_OK;
    if (rc != ERR_OK)
        return rc;
    os_lock(l->os, l->mu);
    d = dir_note(l, dir);
    d->synced |= d->links == links;
    os_unlock(l->os, l->mu);
    return ERR_OK;
}

/* The directory exists and its name and its parents' names are durable. */
static enum err_code dir_ensure(struct local *l, slice dir, struct err *err)
{
    os_lock(l->os, l->mu);
    bool known = dir_note(l, dir)->in_parent;
    uint64_t forgotten = l->dirs_forgotten;
    os_unlock(l->os, l->mu);
    if (known)
        return ERR_OK;
    slice parent = parent_of(dir);
    TRY(dir_ensure(l, parent, err));
    _cleanup_(freep) char *path = path_of(l, dir);
    enum err_code rc = l->os->ops->mkdir(l->os, path, err);
    if (rc != ERR_OK && rc != ERR_CONFLICT)
        return rc;
    bool made = rc == ERR_OK;
    TRY(dir_sync(l, parent, err));
    os_lock(l->os, l->mu);
    struct dir *d = dir_note(l, dir);
    d->in_parent = true;
    if (made && d->links == 0 && l->dirs_forgotten == forgotten)
        d->synced = true; /* it was empty, and nobody has begun a link into it since: no name in it to make durable */
    os_unlock(l->os, l->mu);
    return ERR_OK;
}

static void dir_pending(struct local *l, slice dir, bool add, bool synced)
{
    os_lock(l->os, l->mu);
    struct dir *d = dir_note(l, dir);
    d->links += add;
    if (add)
        d->pending++;
    else if (d->pending)
        d->pending--;
    if (!add && !synced)
        d->synced = false;
    os_unlock(l->os, l->mu);
}

/* ---- writing */

static enum err_code temp_named(struct local *l, struct os_file **out, struct err *err)
{
    struct upload *u = mem_zalloc(sizeof(*u));
    uint64_t r[2];

    l->os->ops->random(l->os, r, sizeof(r));
    u->path = mem_fmt("%s/" TMP_DIR "/%016" PRIx64 "%016" PRIx64, l->root, r[0], r[1]);
    enum err_code rc = l->os->ops->open(l->os, u->path, OS_READ | OS_WRITE | OS_CREATE | OS_EXCL, &u->file, err);
    if (rc != ERR_OK) {
        free(u->path);
        free(u);
        return rc;
    }
    *out = u->file;
    os_lock(l->os, l->mu);
    u->next = l->uploads;
    l->uploads = u;
    os_unlock(l->os, l->mu);
    return ERR_OK;
}

static struct upload *upload_find(struct local *l, struct os_file *f, bool take)
{
    struct upload *found = NULL;

    os_lock(l->os, l->mu);
    for (struct upload **u = &l->uploads; *u; u = &(*u)->next)
        if ((*u)->file == f) {
            found = *u;
            if (take)
                *u = found->next;
            break;
        }
    os_unlock(l->os, l->mu);
    return found;
}

/* The same message under another code: what it means for the object. */
static enum err_code recode(struct err *err, enum err_code code)
{
    if (err)
        err->code = code;
    return code;
}

/* What failed before the link has changed nothing. */
static enum err_code not_happened(enum err_code rc, struct err *err)
{
    return rc == ERR_OK || rc == ERR_LIMIT ? rc : recode(err, ERR_UNAVAILABLE);
}

static enum err_code refuse_poisoned(struct local *l, struct err *err)
{
    return atomic_load(&l->poisoned)
               ? err_set(err, ERR_IO, "store %s: a directory sync failed; no more writes", l->root)
               : ERR_OK;
}

static enum err_code local_upload_begin(struct store *s, struct os_file **out, struct err *err)
{
    struct local *l = local_of(s);

    TRY(refuse_poisoned(l, err));
    if (!l->unnamed)
        return not_happened(temp_named(l, out, err), err);
    _cleanup_(freep) char *path = path_of(l, slice_lit(TMP_DIR));
    return not_happened(l->os->ops->open(l->os, path, OS_READ | OS_WRITE | OS_UNNAMED, out, err), err);
}

static void local_upload_drop(struct store *s, struct os_file *f)
{
    struct local *l = local_of(s);
    struct upload *u;

    if (!f)
        return;
    u = l->unnamed ? NULL : upload_find(l, f, true);
    l->os->ops->close(l->os, f);
    if (!u)
        return;
    (void)l->os->ops->unlink(l->os, u->path, NULL); /* a leftover goes at a later start */
    free(u->path);
    free(u);
}

static enum err_code link_as(struct local *l, struct os_file *f, const char *path, struct err *err)
{
    struct upload *u = l->unnamed ? NULL : upload_find(l, f, false);
    return u ? l->os->ops->link(l->os, u->path, path, err) : l->os->ops->link_file(l->os, f, path, err);
}

/* On success `f` is consumed. On an error it is still the caller's: to publish under another key, or to drop. */
static enum err_code local_upload_publish(struct store *s, struct os_file *f, slice key, bool synced, struct err *err)
{
    struct local *l = local_of(s);
    slice dir = parent_of(key);

    if (!store_key_valid(key))
        return err_set(err, ERR_INVALID, "bad key " SLICE_FMT, SLICE_ARG(key));
    TRY(refuse_poisoned(l, err));
    TRY(not_happened(dir_ensure(l, dir, err), err));
    if (synced)
        TRY(not_happened(l->os->ops->sync(l->os, f, err), err));
    _cleanup_(freep) char *path = path_of(l, key);
    dir_pending(l, dir, true, false);
    enum err_code rc = link_as(l, f, path, err);
    if (rc != ERR_OK) {
        dir_pending(l, dir, false, true);
        if (rc == ERR_CONFLICT)
            return err_set(err, ERR_CONFLICT, SLICE_FMT " exists", SLICE_ARG(key));
        (void)err_wrap(err, "link " SLICE_FMT, SLICE_ARG(key));
        return rc == ERR_LIMIT ? rc : recode(err, ERR_UNKNOWN);
    }
    if (synced)
        rc = dir_sync(l, dir, err);
    dir_pending(l, dir, false, synced && rc == ERR_OK);
    if (rc != ERR_OK) {
        atomic_store(&l->poisoned, true);
        (void)err_wrap(err, "sync directory of " SLICE_FMT, SLICE_ARG(key));
        return recode(err, ERR_UNKNOWN);
    }
    local_upload_drop(s, f);
    return ERR_OK;
}

static enum err_code create_once(struct local *l, slice key, slice bytes, bool *stale, struct err *err)
{
    const struct os_iov iov = {bytes.ptr, bytes.len};
    int64_t start = os_mono_us(l->os);
    struct os_file *f;

    *stale = false;
    TRY(local_upload_begin(&l->base, &f, err));
    enum err_code rc = bytes.len ? not_happened(l->os->ops->pwritev(l->os, f, &iov, 1, 0, err), err) : ERR_OK;
    if (rc == ERR_OK) {
        *stale = os_mono_us(l->os) - start > LOCAL_LINK_US_MAX;
        rc = *stale ? ERR_UNAVAILABLE : local_upload_publish(&l->base, f, key, true, err);
    }
    if (rc != ERR_OK)
        local_upload_drop(&l->base, f);
    return rc;
}

static enum err_code local_create(struct store *s, slice key, slice bytes, struct err *err)
{
    bool stale;
    enum err_code rc;

    do
        rc = create_once(local_of(s), key, bytes, &stale, err);
    while (stale);
    return rc;
}

static enum err_code sync_key(struct local *l, slice key, struct err *err)
{
    _cleanup_(freep) char *path = path_of(l, key);
    struct os_file *f;

    TRY(l->os->ops->open(l->os, path, OS_READ | OS_WRITE, &f, err));
    enum err_code rc = l->os->ops->sync(l->os, f, err);
    l->os->ops->close(l->os, f);
    return rc;
}

static int by_dir(const void *a, const void *b)
{
    return slice_cmp(parent_of(*(const slice *)a), parent_of(*(const slice *)b));
}

/* One pass: every file, then every directory once. A failure says nothing about any of them: upload again, other names. A flush of
 * thousands of streams would wait for the disk as many times: there, one call for all that is on the file system is the shorter way. */
static enum err_code local_sync_group(struct store *s, const slice *keys, size_t count, struct err *err)
{
    struct local *l = local_of(s);
    _cleanup_(freep) slice *order = mem_alloc((count + 1) * sizeof(*order));

    if (count == 0)
        return ERR_OK;
    if (count > SYNC_EACH_MAX && l->any)
        return l->os->ops->sync_fs(l->os, l->any, err);
    memcpy(order, keys, count * sizeof(*keys));
    qsort(order, count, sizeof(*order), by_dir);
    for (size_t i = 0; i < count; i++)
        TRY(sync_key(l, order[i], err));
    for (size_t i = 0; i < count; i++)
        if (i == 0 || !slice_eq(parent_of(order[i]), parent_of(order[i - 1])))
            TRY(dir_sync(l, parent_of(order[i]), err));
    return ERR_OK;
}

/* ---- reading */

static enum err_code read_open(struct local *l, struct os_file *f, uint64_t offset, uint64_t len, struct buf *out,
                               struct err *err)
{
    uint64_t size;
    size_t got;

    TRY(l->os->ops->size(l->os, f, &size, err));
    offset = MIN(offset, size);
    len = MIN(len, size - offset);
    if (len > LOCAL_READ_BYTES_MAX)
        return err_set(err, ERR_LIMIT, "a read of %" PRIu64 " bytes", len);
    buf_reserve(out, (size_t)len);
    TRY(l->os->ops->pread(l->os, f, out->ptr + out->len, (size_t)len, offset, &got, err));
    out->len += got;
    return ERR_OK;
}

static enum err_code local_stat(struct store *s, slice key, struct store_meta *out, struct err *err)
{
    struct local *l = local_of(s);
    _cleanup_(freep) char *path = path_of(l, key);
    struct os_stat st;

    if (!store_key_valid(key))
        return err_set(err, ERR_INVALID, "bad key " SLICE_FMT, SLICE_ARG(key));
    TRY(l->os->ops->stat(l->os, path, &st, err));
    if (st.is_dir)
        return err_set(err, ERR_NOT_FOUND, SLICE_FMT " is a directory", SLICE_ARG(key));
    *out = (struct store_meta){st.size, st.mtime_us};
    return ERR_OK;
}

static enum err_code local_read(struct store *s, slice key, uint64_t offset, uint64_t len, struct buf *out,
                                struct store_meta *meta, struct err *err)
{
    struct local *l = local_of(s);
    _cleanup_(freep) char *path = path_of(l, key);
    struct store_meta found;
    struct os_file *f;
    size_t before = out->len;

    TRY(local_stat(s, key, &found, err));
    TRY(dir_settle(l, parent_of(key), err));
    TRY(l->os->ops->open(l->os, path, OS_READ, &f, err));
    enum err_code rc = read_open(l, f, offset, len, out, err);
    l->os->ops->close(l->os, f);
    if (rc != ERR_OK)
        out->len = before;
    else if (meta)
        *meta = found;
    return rc;
}

/* ---- list */

struct name {
    char *text; /* directories end with '/': that is how their keys sort among the files */
    bool is_dir;
};
struct walk {
    struct local *l;
    slice prefix, after;
    bool delimiter, stopped;
    store_list_fn fn;
    void *arg;
    struct err *err;
};
struct names {
    const struct walk *w;
    slice dir; /* with '/' at the end, or "" */
    struct name *items;
    size_t count, cap;
};

/* May a key that starts with `key` (whole, if `whole`) be listed? */
static bool wanted(const struct walk *w, slice key, bool whole)
{
    size_t n = MIN(key.len, w->prefix.len);

    if (whole && key.len < w->prefix.len)
        return false;
    if (n && memcmp(key.ptr, w->prefix.ptr, n) != 0)
        return false;
    return slice_cmp(key, w->after) > 0 || (!whole && slice_starts(w->after, key));
}

static bool collect(void *arg, const char *name, bool is_dir)
{
    struct names *n = arg;
    char key[LOCAL_KEY_BYTES_MAX + 2];
    size_t len = strlen(name);

    if (n->dir.len + len + 1 > LOCAL_KEY_BYTES_MAX)
        return true; /* cannot be ours */
    if (n->dir.len)  /* a prefix of nothing has no address */
        memcpy(key, n->dir.ptr, n->dir.len);
    memcpy(key + n->dir.len, name, len);
    if (is_dir)
        key[n->dir.len + len] = '/';
    slice k = slice_of(key, n->dir.len + len + (is_dir ? 1 : 0));
    if (slice_eq(k, slice_lit(TMP_DIR "/")) || !wanted(n->w, k, !is_dir))
        return true;
    struct name *item = ARRAY_PUSH(n->items, n->count, n->cap);
    item->text = mem_str(slice_from(k, n->dir.len));
    item->is_dir = is_dir;
    return true;
}

static void names_done(struct names *n)
{
    for (size_t i = 0; i < n->count; i++)
        free(n->items[i].text);
    free(n->items);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(((const struct name *)a)->text, ((const struct name *)b)->text);
}

static enum err_code walk_dir(struct walk *w, slice dir);

/* Is there any object below? Empty directories are no prefixes. */
static bool first_found(void *arg, const struct store_list_item *item)
{
    (void)item;
    *(bool *)arg = true;
    return false;
}

static enum err_code dir_holds(struct walk *w, slice dir, bool *out)
{
    struct walk inner = {w->l, dir, slice_lit(""), false, false, first_found, out, w->err};

    *out = false;
    return walk_dir(&inner, dir);
}

static enum err_code walk_item(struct walk *w, slice key, bool is_dir)
{
    struct store_list_item item = {.key = key, .is_prefix = is_dir};

    if (is_dir && (key.len <= w->prefix.len || !w->delimiter))
        return walk_dir(w, key);
    if (is_dir) {
        bool holds;
        if (slice_cmp(key, w->after) <= 0)
            return ERR_OK;
        TRY(dir_holds(w, key, &holds));
        if (!holds)
            return ERR_OK;
    } else {
        enum err_code rc = local_stat(&w->l->base, key, &item.meta, w->err);
        if (rc == ERR_NOT_FOUND || rc == ERR_INVALID) /* removed meanwhile, or a name that can not be an object's */
            return ERR_OK;
        if (rc == ERR_IO) /* one bad object hides none of the others; reading it tells */
            item.meta = (struct store_meta){.modified_us = INT64_MAX};
        else
            TRY(rc);
    }
    w->stopped = !w->fn(w->arg, &item);
    return ERR_OK;
}

/* `dir` with '/' at the end, or "". */
static enum err_code walk_dir(struct walk *w, slice dir)
{
    _cleanup_(names_done) struct names n = {.w = w, .dir = dir};
    slice bare = slice_head(dir, dir.len ? dir.len - 1 : 0);
    _cleanup_(freep) char *path = path_of(w->l, bare);
    char key[LOCAL_KEY_BYTES_MAX + 2];

    enum err_code rc = w->l->os->ops->list(w->l->os, path, collect, &n, w->err);
    if (rc == ERR_NOT_FOUND)
        return ERR_OK;
    TRY(rc);
    TRY(dir_settle(w->l, bare, w->err));
    if (n.count)
        qsort(n.items, n.count, sizeof(*n.items), by_text);
    if (dir.len)
        memcpy(key, dir.ptr, dir.len);
    for (size_t i = 0; i < n.count && !w->stopped; i++) {
        size_t len = strlen(n.items[i].text);
        memcpy(key + dir.len, n.items[i].text, len);
        TRY(walk_item(w, slice_of(key, dir.len + len), n.items[i].is_dir));
    }
    return ERR_OK;
}

static enum err_code local_list(struct store *s, slice prefix, slice start_after, bool delimiter, store_list_fn fn,
                                void *arg, struct err *err)
{
    struct walk w = {local_of(s), prefix, start_after, delimiter, false, fn, arg, err};
    size_t n = prefix.len;

    if (prefix.len > LOCAL_KEY_BYTES_MAX || (prefix.len && memchr(prefix.ptr, 0, prefix.len)))
        return err_set(err, ERR_INVALID, "bad prefix");
    while (n && prefix.ptr[n - 1] != '/') /* walk from the deepest directory that the prefix names whole */
        n--;
    if (n > 1 && !store_key_valid(slice_head(prefix, n - 1)))
        return err_set(err, ERR_INVALID, "bad prefix " SLICE_FMT, SLICE_ARG(prefix));
    return walk_dir(&w, slice_head(prefix, n));
}

/* ---- the rest */

static enum err_code local_remove(struct store *s, slice key, struct err *err)
{
    struct local *l = local_of(s);
    _cleanup_(freep) char *path = path_of(l, key);

    if (!store_key_valid(key))
        return err_set(err, ERR_INVALID, "bad key " SLICE_FMT, SLICE_ARG(key));
    /* Not synced: an object that a power cut brings back is garbage again and is found by the next listing. */
    enum err_code rc = l->os->ops->unlink(l->os, path, err);
    return rc == ERR_NOT_FOUND ? ERR_OK : rc;
}

static enum err_code local_now_us(struct store *s, int64_t *out, struct err *err)
{
    (void)err;
    *out = os_wall_us(local_of(s)->os);
    return ERR_OK;
}

static void local_engine_path(struct store *s, slice key, struct buf *out)
{
    buf_str(out, local_of(s)->root);
    if (key.len)
        buf_byte(out, '/');
    buf_slice(out, key);
    (void)buf_cstr(out);
}

static const char *local_describe(struct store *s)
{
    (void)s;
    return "Local drive";
}

static void local_free(struct store *s)
{
    struct local *l = local_of(s);
    struct map_entry *e;

    if (!l)
        return;
    while (l->uploads)
        local_upload_drop(s, l->uploads->file);
    for (size_t i = 0; (e = map_next(&l->dirs, &i));)
        free(e->value);
    map_done(&l->dirs);
    l->os->ops->close(l->os, l->any);
    l->os->ops->mutex_free(l->os, l->mu);
    free(l->root);
    free(l);
}

static const struct store_ops local_ops = {
    .free = local_free,
    .create = local_create,
    .upload_begin = local_upload_begin,
    .upload_publish = local_upload_publish,
    .upload_drop = local_upload_drop,
    .sync_group = local_sync_group,
    .read = local_read,
    .stat = local_stat,
    .list = local_list,
    .remove = local_remove,
    .now_us = local_now_us,
    .engine_path = local_engine_path,
    .describe = local_describe,
};

/* ---- looking only */

static enum err_code refuse(struct store *s, slice key, struct err *err)
{
    return err_set(err, ERR_DENIED, "store %s is open for reading only (" SLICE_FMT ")", local_of(s)->root,
                   SLICE_ARG(key));
}

static enum err_code reader_create(struct store *s, slice key, slice bytes, struct err *err)
{
    (void)bytes;
    return refuse(s, key, err);
}

static enum err_code reader_upload_begin(struct store *s, struct os_file **out, struct err *err)
{
    (void)out;
    return refuse(s, slice_lit("upload"), err);
}

static const struct store_ops reader_ops = {
    .free = local_free,
    .create = reader_create,
    .upload_begin = reader_upload_begin,
    .upload_publish = local_upload_publish, /* of an upload: there is none */
    .upload_drop = local_upload_drop,
    .sync_group = local_sync_group,
    .read = local_read,
    .stat = local_stat,
    .list = local_list,
    .remove = refuse,
    .now_us = local_now_us,
    .engine_path = local_engine_path,
    .describe = local_describe,
};

/* ---- opening */

struct leftover {
    struct local *l;
    int64_t before_us;
};

static bool leftover_remove(void *arg, const char *name, bool is_dir)
{
    struct leftover *o = arg;
    _cleanup_(freep) char *path = mem_fmt("%s/" TMP_DIR "/%s", o->l->root, name);
    struct os_stat st;

    if (!is_dir && o->l->os->ops->stat(o->l->os, path, &st, NULL) == ERR_OK && st.mtime_us < o->before_us)
        (void)o->l->os->ops->unlink(o->l->os, path, NULL); /* the next start tries again */
    return true;
}

static enum err_code local_start(struct local *l, struct err *err)
{
    struct leftover old = {l, os_wall_us(l->os) - LOCAL_TMP_AGE_US};
    struct os_file *f;

    TRY(os_mkdirs(l->os, l->root, err));
    TRY(dir_ensure(l, slice_lit(TMP_DIR), err));
    _cleanup_(freep) char *tmp = path_of(l, slice_lit(TMP_DIR));
    enum err_code rc = l->os->ops->open(l->os, tmp, OS_READ | OS_WRITE | OS_UNNAMED, &f, err);
    if (rc != ERR_OK && rc != ERR_IO)
        return rc;
    l->unnamed = rc == ERR_OK;
    if (l->unnamed && l->os->ops->sync_fs)
        l->any = f;
    else if (l->unnamed)
        l->os->ops->close(l->os, f);
    TRY(l->os->ops->list(l->os, tmp, leftover_remove, &old, err));
    if (store_probe_quick(l->os, &l->base, err) != ERR_OK)
        return err_wrap(err, "this file system can not hold a store");
    return ERR_OK;
}

static struct local *local_new(struct os *os, const char *dir, const struct store_ops *ops)
{
    struct local *l = mem_zalloc(sizeof(*l));
    size_t n = strlen(dir);

    while (n > 1 && dir[n - 1] == '/')
        n--;
    l->base.ops = ops;
    l->os = os;
    l->root = mem_str(slice_of(dir, n));
    l->mu = os->ops->mutex_new(os);
    return l;
}

enum err_code store_local_open_reader(struct os *os, const char *dir, struct store **out, struct err *err)
{
    struct os_stat st;

    if (os->ops->stat(os, dir, &st, err) != ERR_OK)
        return err_wrap(err, "store %s", dir);
    if (!st.is_dir)
        return err_set(err, ERR_INVALID, "store %s is no directory", dir);
    *out = &local_new(os, dir, &reader_ops)->base;
    return ERR_OK;
}

enum err_code store_local_open(struct os *os, const char *dir, struct store **out, struct err *err)
{
    struct local *l = local_new(os, dir, &local_ops);
    enum err_code rc = local_start(l, err);
    if (rc != ERR_OK) {
        local_free(&l->base);
        (void)err_wrap(err, "store %s", dir);
        return rc;
    }
    *out = &l->base;
    return ERR_OK;
}
