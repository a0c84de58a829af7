/* remote_ops.c: the calls of store.h on what is behind HTTP, the same for all dialects: see remote.h. */
#include <inttypes.h>
#include <stdio.h>

#include "base/hash.h"
#include "base/timetext.h"
#include "store/remote.h"
#include "store/xml.h"

#include "base/banned.h"

#define READ_BYTES_MAX (1ull << 30)

static struct remote *remote_of(struct store *s)
{
    return (struct remote *)s;
}

static enum err_code writable(const struct remote *r, struct err *err)
{
    return r->read_only ? err_set(err, ERR_DENIED, "the bucket %s is open for reading only", r->bucket) : ERR_OK;
}

/* ---- create and uploads: a temporary file here, then one request or parts */

static enum err_code remote_create(struct store *s, slice key, slice bytes, struct err *err)
{
    struct remote *r = remote_of(s);

    TRY(writable(r, err));
    TRY(remote_key_check(r, key, err));
    return r->dialect->put(r, key, bytes, (slice){0}, err);
}

static enum err_code remote_upload_begin(struct store *s, struct os_file **out, struct err *err)
{
    struct remote *r = remote_of(s);

    TRY(writable(r, err));
    return r->os->ops->open(r->os, r->temp_dir, OS_READ | OS_WRITE | OS_UNNAMED, out, err);
}

static void remote_upload_drop(struct store *s, struct os_file *f)
{
    struct remote *r = remote_of(s);
    r->os->ops->close(r->os, f);
}

enum err_code remote_upload_piece(struct remote_upload *u, uint64_t at, struct buf *out, struct err *err)
{
    size_t want = (size_t)MIN(u->size - at, (uint64_t)REMOTE_PART_BYTES), got = 0;

    out->len = 0;
    buf_reserve(out, want + 1);
    TRY(u->r->os->ops->pread(u->r->os, u->f, out->ptr, want, at, &got, err));
    if (got != want)
        return err_set(err, ERR_IO, "an upload's file is shorter than it was");
    out->len = got;
    return ERR_OK;
}

enum err_code remote_upload_walk(struct remote_upload *u, void (*add)(void *arg, slice bytes), void *arg,
                                 struct err *err)
{
    _cleanup_(buf_done) struct buf bytes = BUF_INIT;

    for (uint64_t at = 0; at < u->size; at += REMOTE_PART_BYTES) {
        TRY(remote_upload_piece(u, at, &bytes, err));
        add(arg, buf_view(&bytes));
    }
    return ERR_OK;
}

/* The key is taken: by us, whose reply was lost? */
static enum err_code whose(struct remote_upload *u, struct err *err)
{
    _cleanup_(remote_answer_done) struct remote_answer a = {0};
    const struct remote_call c = {.method = "HEAD", .key = u->key, .repeatable = true};

    TRY(remote_call(u->r, &c, &a, err));
    if (slice_eq(exchange_answer(&a.x, u->r->dialect->nonce_header), slice_str(u->nonce)))
        return ERR_OK;
    return err_set(err, ERR_CONFLICT, SLICE_FMT " exists", SLICE_ARG(u->key));
}

static enum err_code put_whole(struct remote_upload *u, struct err *err)
{
    _cleanup_(buf_done) struct buf bytes = BUF_INIT;

    TRY(remote_upload_piece(u, 0, &bytes, err));
    return u->r->dialect->put(u->r, u->key, buf_view(&bytes), slice_str(u->nonce), err);
}

static void nonce_make(struct remote_upload *u)
{
    uint8_t random[REMOTE_NONCE_HEX / 2];

    u->r->os->ops->random(u->r->os, random, sizeof(random));
    for (size_t i = 0; i < sizeof(random); i++)
        (void)snprintf(u->nonce + 2 * i, 3, "%02x", random[i]);
}

static enum err_code remote_upload_publish(struct store *s, struct os_file *f, slice key, bool synced, struct err *err)
{
    struct remote *r = remote_of(s);
    struct remote_upload u = {.r = r, .f = f, .key = key};

    (void)synced; /* what is published here is durable */
    TRY(remote_key_check(r, key, err));
    TRY(r->os->ops->size(r->os, f, &u.size, err));
    nonce_make(&u);
    enum err_code rc = u.size <= REMOTE_PART_BYTES ? put_whole(&u, err) : r->dialect->put_parts(&u, err);
    if (rc == ERR_CONFLICT)
        rc = whose(&u, err);
    TRY(rc);
    r->os->ops->close(r->os, f);
    return ERR_OK;
}

static enum err_code remote_copy_from(struct store *s, slice key, const struct store_source *from, bool *copied,
                                      struct err *err)
{
    struct remote *r = remote_of(s);
    struct remote_upload u = {.r = r, .key = key, .size = from->size};

    *copied = false;
    TRY(writable(r, err));
    TRY(remote_key_check(r, key, err));
    if (!r->dialect->copy || from->store->ops != s->ops || remote_of(from->store)->dialect != r->dialect)
        return ERR_OK;
    nonce_make(&u);
    enum err_code rc = r->dialect->copy(&u, from, copied, err);
    return rc == ERR_CONFLICT ? whose(&u, err) : rc;
}

static enum err_code remote_sync_group(struct store *s, const slice *keys, size_t count, struct err *err)
{
    (void)s;
    (void)keys;
    (void)count;
    (void)err;
    return ERR_OK;
}

/* ---- read, stat */

static enum err_code meta_of(const struct remote_answer *a, slice key, uint64_t size, struct store_meta *out,
                             struct err *err)
{
    slice modified = exchange_answer(&a->x, "last-modified");

    *out = (struct store_meta){.size = size};
    if (!time_parse_rfc2822(modified, &out->modified_us))
        return err_set(err, ERR_CORRUPT, SLICE_FMT ": the store gave no time of it", SLICE_ARG(key));
    return ERR_OK;
}

/* "bytes 0-99/1234" */
static bool size_of_range(slice range, uint64_t *out)
{
    const uint8_t *slash = range.len ? memchr(range.ptr, '/', range.len) : NULL;
    return slash && slice_u64(slice_from(range, (size_t)(slash - range.ptr) + 1), out);
}

static enum err_code check_read(const struct remote *r, const struct remote_answer *a, slice key, bool ranged,
                                uint64_t *size, struct err *err)
{
    *size = a->reply.len;
    if (ranged && a->x.status == 200) /* a server that knows no ranges */
        return err_set(err, ERR_INVALID, SLICE_FMT ": the store ignores ranges", SLICE_ARG(key));
    if (a->x.status == 206 && !size_of_range(exchange_answer(&a->x, "content-range"), size))
        return err_set(err, ERR_CORRUPT, SLICE_FMT ": a part without its place", SLICE_ARG(key));
    if (a->x.status == 200 && !r->dialect->intact(a))
        return err_set(err, ERR_UNAVAILABLE, SLICE_FMT ": the bytes that came do not match their checksum",
                       SLICE_ARG(key));
    return ERR_OK;
}

static enum err_code remote_read(struct store *s, slice key, uint64_t offset, uint64_t len, struct buf *out,
                                 struct store_meta *meta, struct err *err)
{
    struct remote *r = remote_of(s);
    _cleanup_(remote_answer_done) struct remote_answer a = {0};
    struct remote_call c = {.method = "GET", .key = key, .reply_max = MIN(len, READ_BYTES_MAX), .repeatable = true};
    bool ranged = offset != 0 || len != UINT64_MAX;
    struct store_meta m;
    uint64_t size;
    char range[64];

    TRY(remote_key_check(r, key, err));
    if (ranged && len == 0)
        return meta ? s->ops->stat(s, key, meta, err) : ERR_OK;
    if (len == UINT64_MAX)
        (void)snprintf(range, sizeof(range), "bytes=%" PRIu64 "-", offset);
    else
        (void)snprintf(range, sizeof(range), "bytes=%" PRIu64 "-%" PRIu64, offset, offset + (len - 1));
    if (ranged)
        remote_call_header(&c, "range", slice_str(range));
    if (r->dialect->checksum_header)
        remote_call_header(&c, r->dialect->checksum_header, slice_lit("ENABLED"));
    if (len < REMOTE_DOCUMENT_BYTES_MAX)
        c.reply_max = REMOTE_DOCUMENT_BYTES_MAX; /* room for an error's document */
    enum err_code rc = remote_call(r, &c, &a, err);
    if (rc == ERR_INVALID && a.x.status == 416) /* behind the end */
        return meta ? s->ops->stat(s, key, meta, err) : ERR_OK;
    TRY(rc);
    TRY(check_read(r, &a, key, ranged, &size, err));
    TRY(meta_of(&a, key, size, &m, err));
    if (out->len == 0) {
        buf_done(out);
        *out = a.reply;
        a.reply = BUF_INIT;
    } else {
        buf_slice(out, buf_view(&a.reply));
    }
    if (meta)
        *meta = m;
    return ERR_OK;
}

static enum err_code remote_stat(struct store *s, slice key, struct store_meta *out, struct err *err)
{
    struct remote *r = remote_of(s);
    _cleanup_(remote_answer_done) struct remote_answer a = {0};
    const struct remote_call c = {.method = "HEAD", .key = key, .repeatable = true};
    uint64_t size;

    TRY(remote_key_check(r, key, err));
    TRY(remote_call(r, &c, &a, err));
    if (!slice_u64(exchange_answer(&a.x, "content-length"), &size))
        return err_set(err, ERR_CORRUPT, SLICE_FMT ": the store gave no size of it", SLICE_ARG(key));
    return meta_of(&a, key, size, out, err);
}

/* ---- list */

static void page_done(struct remote_page *p)
{
    free(p->held);
    arena_done(&p->arena);
    buf_done(&p->key);
    buf_done(&p->token);
}

static int hex_digit(uint8_t c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* encoding-type=url: a key may hold what XML can not. */
bool remote_url_decode(slice s, struct buf *out)
{
    out->len = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '%') {
            int high = i + 2 < s.len ? hex_digit(s.ptr[i + 1]) : -1, low = i + 2 < s.len ? hex_digit(s.ptr[i + 2]) : -1;
            if (high < 0 || low < 0)
                return false;
            buf_byte(out, (uint8_t)(high << 4 | low));
            i += 2;
        } else {
            buf_byte(out, s.ptr[i] == '+' ? ' ' : s.ptr[i]);
        }
    }
    return true;
}

static bool page_give(struct remote_page *p, const struct store_list_item *item)
{
    p->stopped = !p->fn(p->arg, item);
    return !p->stopped;
}

bool remote_page_item(struct remote_page *p, slice key, bool is_prefix)
{
    slice prefix = slice_str(p->r->prefix);
    struct store_list_item item = {.is_prefix = is_prefix};

    if (!slice_starts(key, prefix)) {
        p->bad = true;
        return false;
    }
    item.key = slice_from(key, prefix.len);
    if (!is_prefix)
        item.meta = p->meta;
    /* A rolled-up prefix counts by its own text here, by what it holds there. Names that no key of ours can have are none of ours. */
    if (slice_cmp(item.key, p->after) <= 0 ||
        !store_key_valid(is_prefix && item.key.len ? slice_head(item.key, item.key.len - 1) : item.key))
        return true;
    if (!p->delimiter)
        return page_give(p, &item);
    item.key = slice_of(arena_str(&p->arena, item.key), item.key.len);
    *ARRAY_PUSH(p->held, p->held_count, p->held_cap) = item;
    return true;
}

static int by_key(const void *a, const void *b)
{
    return slice_cmp(((const struct store_list_item *)a)->key, ((const struct store_list_item *)b)->key);
}

/* Servers put a page's prefixes behind its keys, or before them, or between them. */
static void page_give_held(struct remote_page *p)
{
    if (p->held_count)
        qsort(p->held, p->held_count, sizeof(p->held[0]), by_key);
    for (size_t i = 0; i < p->held_count && !p->stopped; i++)
        (void)page_give(p, &p->held[i]);
    p->held_count = 0;
    arena_done(&p->arena);
}

struct xml_page {
    struct remote_page *p;
    const struct remote_list_names *names;
};

static bool list_element(void *arg, const struct xml_element *e)
{
    struct xml_page *x = arg;
    struct remote_page *p = x->p;
    const struct remote_list_names *n = x->names;

    if (slice_eq(e->path, slice_str(n->key)) || slice_eq(e->path, slice_str(n->prefix))) {
        p->key.len = 0;
        if (n->url_encoded)
            p->bad |= !remote_url_decode(e->text, &p->key);
        else
            buf_slice(&p->key, e->text);
    } else if (slice_eq(e->path, slice_str(n->size)))
        p->bad |= !slice_u64(e->text, &p->meta.size);
    else if (slice_eq(e->path, slice_str(n->modified)))
        p->bad |= !time_parse_rfc3339(e->text, true, &p->meta.modified_us) &&
                  !time_parse_rfc2822(e->text, &p->meta.modified_us);
    else if (n->truncated && slice_eq(e->path, slice_str(n->truncated)))
        p->truncated = slice_eq(e->text, slice_lit("true"));
    else if (slice_eq(e->path, slice_str(n->token)))
        buf_slice(&p->token, e->text);
    else if (!p->bad && slice_eq(e->path, slice_str(n->item)))
        return remote_page_item(p, buf_view(&p->key), false);
    else if (!p->bad && slice_eq(e->path, slice_str(n->prefix_item)))
        return remote_page_item(p, buf_view(&p->key), true);
    return !p->bad;
}

enum err_code remote_page_xml(struct remote_page *p, slice document, const struct remote_list_names *names,
                              struct err *err)
{
    struct xml_page x = {p, names};
    return xml_walk(document, list_element, &x, err);
}

static enum err_code remote_list(struct store *s, slice prefix, slice start_after, bool delimiter, store_list_fn fn,
                                 void *arg, struct err *err)
{
    struct remote *r = remote_of(s);
    _cleanup_(page_done) struct remote_page p = {
        .r = r, .after = start_after, .fn = fn, .arg = arg, .delimiter = delimiter, .arena = ARENA_INIT};
    _cleanup_(remote_answer_done) struct remote_answer a = {0};
    _cleanup_(buf_done) struct buf query = BUF_INIT;

    do {
        struct remote_call c = {
            .method = "GET", .bucket = true, .reply_max = REMOTE_DOCUMENT_BYTES_MAX, .repeatable = true};
        query.len = 0;
        r->dialect->list_query(r, buf_view(&p.token), prefix, start_after, delimiter, &query);
        c.query = buf_view(&query);
        TRY(remote_call(r, &c, &a, err));
        p.token.len = 0;
        p.truncated = false;
        enum err_code rc = r->dialect->list_page(&p, buf_view(&a.reply), err);
        if (p.bad)
            return err_set(err, ERR_CORRUPT, "LIST " SLICE_FMT ": an answer that makes no sense", SLICE_ARG(prefix));
        if (rc != ERR_OK && !p.stopped)
            return rc;
        page_give_held(&p);
        if (p.truncated && !p.token.len && !p.stopped)
            return err_set(err, ERR_CORRUPT, "LIST " SLICE_FMT ": a page without its next", SLICE_ARG(prefix));
    } while (p.token.len && !p.stopped);
    return ERR_OK;
}

/* ---- the rest */

static enum err_code remote_remove(struct store *s, slice key, struct err *err)
{
    struct remote *r = remote_of(s);
    _cleanup_(remote_answer_done) struct remote_answer a = {0};
    const struct remote_call c = {
        .method = "DELETE", .key = key, .reply_max = REMOTE_DOCUMENT_BYTES_MAX, .repeatable = true};

    TRY(writable(r, err));
    TRY(remote_key_check(r, key, err));
    enum err_code rc = remote_call(r, &c, &a, err);
    return rc == ERR_NOT_FOUND ? ERR_OK : rc;
}

static enum err_code remote_remove_many(struct store *s, const slice *keys, size_t count, struct err *err)
{
    struct remote *r = remote_of(s);

    TRY(writable(r, err));
    for (size_t i = 0; i < count; i++)
        TRY(remote_key_check(r, keys[i], err));
    if (r->dialect->remove_many && count > 1)
        return r->dialect->remove_many(r, keys, count, err);
    for (size_t i = 0; i < count; i++)
        TRY(remote_remove(s, keys[i], err));
    return ERR_OK;
}

static enum err_code remote_abort_uploads(struct store *s, int64_t before_us, bool (*ours)(void *arg, slice key),
                                          void *arg, struct err *err)
{
    struct remote *r = remote_of(s);

    return r->dialect->abort_uploads ? r->dialect->abort_uploads(r, before_us, ours, arg, err) : ERR_OK;
}

static enum err_code remote_now_us(struct store *s, int64_t *out, struct err *err)
{
    struct remote *r = remote_of(s);

    if (!atomic_load(&r->clock_known)) {
        _cleanup_(remote_answer_done) struct remote_answer a = {0};
        const struct remote_call c = {.method = r->dialect->about_method,
                                      .bucket = true,
                                      .query = slice_str(r->dialect->about_query),
                                      .reply_max = REMOTE_DOCUMENT_BYTES_MAX,
                                      .repeatable = true};
        TRY(remote_call(r, &c, &a, err));
        if (!atomic_load(&r->clock_known))
            return err_set(err, ERR_INVALID, "the store tells no Date");
    }
    *out = remote_clock_us(r);
    return ERR_OK;
}

static void remote_engine_path(struct store *s, slice key, struct buf *out)
{
    struct remote *r = remote_of(s);

    buf_fmt(out, "%s://%s/%s", r->dialect->scheme, r->bucket, r->prefix);
    buf_slice(out, key);
    (void)buf_cstr(out);
}

static enum err_code remote_engine_login(struct store *s, struct engine *e, struct err *err)
{
    struct remote *r = remote_of(s);
    _cleanup_(buf_done) struct buf scope = BUF_INIT;

    remote_engine_path(s, (slice){0}, &scope);
    return r->dialect->engine_login(r, buf_view(&scope), e, err);
}

static const char *remote_describe(struct store *s)
{
    return remote_of(s)->dialect->describe;
}

static void remote_free(struct store *s)
{
    if (!s)
        return;
    remote_of(s)->dialect->done(remote_of(s));
    remote_done(remote_of(s));
    free(s);
}

static void remote_product(struct store *store, struct buf *out)
{
    struct remote *r = (struct remote *)store;

    os_lock(r->os, r->mu);
    buf_slice(out, buf_view(&r->product));
    os_unlock(r->os, r->mu);
}

const struct store_ops remote_ops = {
    .free = remote_free,
    .create = remote_create,
    .upload_begin = remote_upload_begin,
    .upload_publish = remote_upload_publish,
    .upload_drop = remote_upload_drop,
    .sync_group = remote_sync_group,
    .copy_from = remote_copy_from,
    .read = remote_read,
    .stat = remote_stat,
    .list = remote_list,
    .remove = remote_remove,
    .remove_many = remote_remove_many,
    .abort_uploads = remote_abort_uploads,
    .now_us = remote_now_us,
    .engine_path = remote_engine_path,
    .engine_login = remote_engine_login,
    .describe = remote_describe,
    .product = remote_product,
};
