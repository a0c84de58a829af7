/* view.c: one point of a place of backups as a store (point.h). Slots are those that the point names, in one sorted list; the cluster slot, which
 * closes the place, is made up. */
#include "backup/point.h"

#include "base/banned.h"

struct view {
    struct store base;
    struct store *place;
    struct arena arena;
    slice *keys; /* in byte order */
    size_t count, cap;
    slice cluster_key;
    struct buf cluster;
};

static struct view *view_of(struct store *s)
{
    return (struct view *)s;
}

static void view_free(struct store *s)
{
    struct view *v = view_of(s);

    free(v->keys);
    arena_done(&v->arena);
    buf_done(&v->cluster);
    free(v);
}

static int by_key(const void *a, const void *b)
{
    return slice_cmp(*(const slice *)a, *(const slice *)b);
}

static bool is_slot(slice key)
{
    slice last = key;
    uint64_t slot;

    for (size_t i = key.len; i-- > 0;)
        if (key.ptr[i] == '/') {
            last = slice_from(key, i + 1);
            break;
        }
    return slot_number(last, &slot);
}

static enum err_code not_there(slice key, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "the point does not name " SLICE_FMT, SLICE_ARG(key));
}

static bool names(const struct view *v, slice key)
{
    return bsearch(&key, v->keys, v->count, sizeof(*v->keys), by_key) != NULL;
}

static enum err_code view_read(struct store *s, slice key, uint64_t offset, uint64_t len, struct buf *out,
                               struct store_meta *meta, struct err *err)
{
    struct view *v = view_of(s);

    if (is_slot(key) && !names(v, key))
        return not_there(key, err);
    if (!slice_eq(key, v->cluster_key))
        return v->place->ops->read(v->place, key, offset, len, out, meta, err);
    slice part = slice_from(buf_view(&v->cluster), (size_t)MIN(offset, v->cluster.len));
    buf_slice(out, slice_head(part, (size_t)MIN(len, part.len)));
    if (meta)
        *meta = (struct store_meta){.size = v->cluster.len};
    return ERR_OK;
}

static enum err_code view_stat(struct store *s, slice key, struct store_meta *out, struct err *err)
{
    struct view *v = view_of(s);

    if (is_slot(key) && !names(v, key))
        return not_there(key, err);
    if (!slice_eq(key, v->cluster_key))
        return v->place->ops->stat(v->place, key, out, err);
    *out = (struct store_meta){.size = v->cluster.len};
    return ERR_OK;
}

static enum err_code view_list(struct store *s, slice prefix, slice start_after, bool delimiter, store_list_fn fn,
                               void *arg, struct err *err)
{
    struct view *v = view_of(s);
    slice rolled = {0};

    (void)err;
    for (size_t i = 0; i < v->count; i++) {
        struct store_list_item item = {.key = v->keys[i]};
        if (!slice_starts(item.key, prefix))
            continue;
        slice rest = slice_from(item.key, prefix.len);
        const uint8_t *slash = delimiter && rest.len ? memchr(rest.ptr, '/', rest.len) : NULL;
        if (slash) {
            item.key = slice_head(item.key, prefix.len + (size_t)(slash - rest.ptr) + 1);
            item.is_prefix = true;
            if (slice_eq(item.key, rolled))
                continue;
            rolled = item.key;
        }
        if (slice_cmp(item.key, start_after) > 0 && !fn(arg, &item))
            return ERR_OK;
    }
    return ERR_OK;
}

static enum err_code view_now_us(struct store *s, int64_t *out, struct err *err)
{
    return view_of(s)->place->ops->now_us(view_of(s)->place, out, err);
}

static const char *view_describe(struct store *s)
{
    return view_of(s)->place->ops->describe(view_of(s)->place);
}

/* ---- nothing is written */

static enum err_code denied(struct err *err)
{
    return err_set(err, ERR_DENIED, "a backup is only read");
}

static enum err_code view_create(struct store *s, slice key, slice bytes, struct err *err)
{
    (void)s, (void)key, (void)bytes;
    return denied(err);
}

static enum err_code view_upload_begin(struct store *s, struct os_file **out, struct err *err)
{
    (void)s, (void)out;
    return denied(err);
}

static enum err_code view_upload_publish(struct store *s, struct os_file *f, slice key, bool synced, struct err *err)
{
    (void)s, (void)f, (void)key, (void)synced;
    return denied(err);
}

static void view_upload_drop(struct store *s, struct os_file *f)
{
    (void)s, (void)f;
}

static enum err_code view_sync_group(struct store *s, const slice *keys, size_t count, struct err *err)
{
    (void)s, (void)keys, (void)count;
    return denied(err);
}

static enum err_code view_remove(struct store *s, slice key, struct err *err)
{
    (void)s, (void)key;
    return denied(err);
}

static void view_engine_path(struct store *s, slice key, struct buf *out)
{
    view_of(s)->place->ops->engine_path(view_of(s)->place, key, out);
}

static const struct store_ops view_ops = {.free = view_free,
                                          .create = view_create,
                                          .upload_begin = view_upload_begin,
                                          .upload_publish = view_upload_publish,
                                          .upload_drop = view_upload_drop,
                                          .sync_group = view_sync_group,
                                          .read = view_read,
                                          .stat = view_stat,
                                          .list = view_list,
                                          .remove = view_remove,
                                          .now_us = view_now_us,
                                          .engine_path = view_engine_path,
                                          .describe = view_describe};

static bool add_key(void *arg, int type, slice key, uint64_t slot)
{
    struct view *v = arg;

    (void)type, (void)slot;
    *ARRAY_PUSH(v->keys, v->count, v->cap) = arena_copy(&v->arena, key);
    return true;
}

static void cluster_slot(struct view *v, const struct point *p)
{
    _cleanup_(buf_done) struct buf body = BUF_INIT, key = BUF_INIT;
    struct jobject o = {0};

    jobject_text(&o, "cluster", p->cluster);
    jobject_int(&o, "shards", p->cut.shards_count);
    jobject_end(&o, &body);
    slot_encode(SLOT_CLUSTER, 0, &p->nonce, NULL, buf_view(&body), &v->cluster);
    seq_cluster(&key);
    slot_key(&key, (slice){0}, 0);
    (void)add_key(v, SLOT_CLUSTER, buf_view(&key), 0);
    v->cluster_key = v->keys[v->count - 1];
}

struct store *point_view_new(struct store *place, const struct point *p)
{
    struct view *v = mem_zalloc(sizeof(*v));

    v->base = (struct store){.ops = &view_ops,
                             .remote = place->remote,
                             .parallel = place->parallel,
                             .ca_file = place->ca_file,
                             .unverified = place->unverified};
    v->place = place;
    cluster_slot(v, p);
    (void)cut_slots(&p->cut, add_key, v);
    qsort(v->keys, v->count, sizeof(*v->keys), by_key);
    return &v->base;
}
