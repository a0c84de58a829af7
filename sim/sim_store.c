#include "sim/sim_store.h"

#include <inttypes.h>

#include "sim/sim_disk.h"

#include "base/banned.h"

struct sim_store {
    struct world *world;
    struct sim_object **objects; /* by key */
    size_t count, cap;
    uint64_t created;
    int64_t clock_offset_us;
    struct sim_store_faults faults;
    void (*watch)(void *arg, enum sim_store_event e, const struct sim_object *o);
    void *watch_arg;
};
struct client {
    struct store store;
    struct sim_store *shared;
    struct sim_node *node;
};
enum request_kind { REQUEST_CREATE, REQUEST_REMOVE };
struct request { /* a create or remove on its way */
    struct sim_store *shared;
    struct sim_node *node;
    enum request_kind kind;
    slice key, bytes;
    bool is_volatile, landed;
    enum err_code rc;
    struct waitq waiter;
};

static struct client *self(struct store *s)
{
    return (struct client *)s;
}

static slice copy(slice s)
{
    uint8_t *p = mem_alloc(s.len + 1);
    if (s.len)
        memcpy(p, s.ptr, s.len);
    p[s.len] = 0;
    return slice_of(p, s.len);
}

/* ---- the objects */
size_t sim_store_lower(const struct sim_store *st, slice key)
{
    size_t lo = 0, hi = st->count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (slice_cmp(st->objects[mid]->key, key) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

const struct sim_object *sim_store_find(const struct sim_store *st, slice key)
{
    size_t i = sim_store_lower(st, key);
    return i < st->count && slice_eq(st->objects[i]->key, key) ? st->objects[i] : NULL;
}

size_t sim_store_count(const struct sim_store *st)
{
    return st->count;
}
const struct sim_object *sim_store_at(const struct sim_store *st, size_t index)
{
    return st->objects[index];
}
int64_t sim_store_now(const struct sim_store *st)
{
    return world_now(st->world) + st->clock_offset_us;
}

static enum err_code do_create(struct sim_store *st, slice key, slice bytes, const struct sim_node *volatile_on)
{
    size_t i = sim_store_lower(st, key);

    if (i < st->count && slice_eq(st->objects[i]->key, key))
        return ERR_CONFLICT;
    struct sim_object *o = mem_zalloc(sizeof(*o));
    *o = (struct sim_object){copy(key), copy(bytes), sim_store_now(st), st->created++, volatile_on};
    (void)ARRAY_PUSH(st->objects, st->count, st->cap);
    memmove(st->objects + i + 1, st->objects + i, (st->count - 1 - i) * sizeof(struct sim_object *));
    st->objects[i] = o;
    if (st->watch)
        st->watch(st->watch_arg, SIM_CREATED, o);
    return ERR_OK;
}

static void do_remove_at(struct sim_store *st, size_t i, bool tell)
{
    struct sim_object *o = st->objects[i];

    if (tell && st->watch)
        st->watch(st->watch_arg, SIM_REMOVING, o);
    memmove(st->objects + i, st->objects + i + 1, (st->count - 1 - i) * sizeof(struct sim_object *));
    st->count--;
    free((void *)(uintptr_t)o->key.ptr);
    free((void *)(uintptr_t)o->bytes.ptr);
    free(o);
}

static enum err_code do_remove(struct sim_store *st, slice key)
{
    size_t i = sim_store_lower(st, key);

    if (i < st->count && slice_eq(st->objects[i]->key, key))
        do_remove_at(st, i, true);
    return ERR_OK;
}

void sim_store_crashed(struct sim_store *st, const struct sim_node *n)
{
    for (size_t i = st->count; i-- > 0;) {
        if (st->objects[i]->volatile_on != n)
            continue;
        if (rng_chance(world_rng(st->world), 500))
            do_remove_at(st, i, false);
        else
            st->objects[i]->volatile_on = NULL;
    }
}

void sim_store_damage(struct sim_store *st, slice key, size_t at)
{
    size_t i = sim_store_lower(st, key);
    if (i < st->count && slice_eq(st->objects[i]->key, key) && at < st->objects[i]->bytes.len)
        ((uint8_t *)(uintptr_t)st->objects[i]->bytes.ptr)[at] ^= 0x20;
}

/* ---- requests */
static enum err_code request_apply(const struct request *q)
{
    struct sim_store *st = q->shared;

    enum err_code rc = q->kind == REQUEST_CREATE ? do_create(st, q->key, q->bytes, q->is_volatile ? q->node : NULL)
                                                 : do_remove(st, q->key);
    world_trace(st->world, "  store: %s " SLICE_FMT " %s", q->kind == REQUEST_CREATE ? "PUT" : "DELETE",
                SLICE_ARG(q->key), rc == ERR_OK ? "done" : "412");
    world_mix(st->world, (uint64_t)q->kind << 8 | (uint64_t)rc);
    return rc;
}

static void request_lands(void *arg)
{
    struct request *q = arg;

    q->rc = request_apply(q);
    q->landed = true;
    waitq_wake(q->shared->world, &q->waiter, true);
}

/* The same request again, on its own. */
static struct request *request_later(const struct request *q, int64_t delay_us)
{
    struct request *later = mem_zalloc(sizeof(*later));

    *later = *q;
    later->key = copy(q->key);
    later->bytes = copy(q->bytes);
    later->waiter = (struct waitq){0};
    world_at(q->shared->world, world_now(q->shared->world) + delay_us, request_lands, later);
    return later;
}

static enum err_code refused(struct client *c, const char *what, slice key, struct err *err)
{
    struct world *w = c->shared->world;

    world_sleep(w, rng_skewed(world_rng(w), 1000, SIM_SECOND));
    world_trace(w, "  store: %s " SLICE_FMT " refused", what, SLICE_ARG(key));
    return err_set(err, ERR_UNAVAILABLE, "%s " SLICE_FMT ": simulated refusal", what, SLICE_ARG(key));
}

static enum err_code unknown(struct client *c, const char *how, const struct request *q, struct err *err)
{
    struct world *w = c->shared->world;

    world_trace(w, "  store: request for " SLICE_FMT " %s", SLICE_ARG(q->key), how);
    world_sleep(w, rng_skewed(world_rng(w), SIM_SECOND, 30 * SIM_SECOND));
    return err_set(err, ERR_UNKNOWN, SLICE_FMT ": simulated time-out", SLICE_ARG(q->key));
}

static enum err_code send(struct client *c, struct request *q, struct err *err)
{
    struct sim_store *st = c->shared;
    struct rng *r = world_rng(st->world);
    const struct sim_store_faults *f = &st->faults;
    unsigned dice = (unsigned)rng_below(r, 1000);
    int64_t hold_max = MAX(f->hold_us_max, SIM_SECOND);

    world_io(st->world, c->node);
    if (c->node->store_cut || dice < f->refused)
        return refused(c, q->kind == REQUEST_CREATE ? "PUT" : "DELETE", q->key, err);
    dice = slice_starts(q->key, f->only) ? dice - f->refused : 9000; /* 9000: no fault */
    if (dice < f->held) {
        (void)request_later(q, rng_skewed(r, SIM_SECOND, hold_max));
        return unknown(c, "held", q, err);
    }
    if ((dice -= f->held) < f->stalled || dice < f->stalled + f->in_flight) {
        int64_t delay = dice < f->stalled ? rng_skewed(r, SIM_SECOND, hold_max) : rng_skewed(r, 1000, SIM_SECOND);
        struct request *on_its_way = request_later(q, delay);
        while (!on_its_way->landed)
            (void)world_block(st->world, &on_its_way->waiter, -1);
        q->rc = on_its_way->rc;
    } else {
        q->rc = request_apply(q);
        dice -= f->stalled + f->in_flight;
        if (dice < f->doubled)
            (void)request_later(q, rng_skewed(r, 1000, hold_max));
        else if (dice < f->doubled + f->lost || c->node->store_cut)
            return unknown(c, "answer lost", q, err);
    }
    world_io(st->world, c->node);
    if (q->rc == ERR_CONFLICT)
        return err_set(err, ERR_CONFLICT, SLICE_FMT " exists", SLICE_ARG(q->key));
    return ERR_OK;
}

/* store.h: what a key may be. Written again here, so that a mistake in the product's check is seen. */
static bool key_valid(slice key)
{
    if (!key.len || key.len >= 1024 || key.ptr[0] == '/' || key.ptr[key.len - 1] == '/')
        return false;
    for (size_t i = 0, begin = 0; i <= key.len; i++) {
        if (i < key.len && key.ptr[i] != '/')
            continue;
        slice part = slice_of(key.ptr + begin, i - begin);
        if (!part.len || slice_eq(part, slice_lit(".")) || slice_eq(part, slice_lit("..")))
            return false;
        begin = i + 1;
    }
    return true;
}

static enum err_code c_create(struct store *s, slice key, slice bytes, struct err *err)
{
    struct client *c = self(s);
    struct request q = {.shared = c->shared, .node = c->node, .kind = REQUEST_CREATE, .key = key, .bytes = bytes};

    ASSERT(key_valid(key));
    return send(c, &q, err);
}

static enum err_code c_remove(struct store *s, slice key, struct err *err)
{
    struct client *c = self(s);
    struct request q = {.shared = c->shared, .node = c->node, .kind = REQUEST_REMOVE, .key = key};

    return send(c, &q, err);
}

/* One request in the world may end half done, in any order: here each key is a request of its own. */
static enum err_code c_remove_many(struct store *s, const slice *keys, size_t count, struct err *err)
{
    struct world *w = self(s)->shared->world;
    _cleanup_(freep) size_t *order = mem_alloc((count + 1) * sizeof(*order));

    order[0] = 0;
    for (size_t i = 1; i < count; i++) {
        size_t k = (size_t)rng_below(world_rng(w), i + 1);
        order[i] = order[k];
        order[k] = i;
    }
    for (size_t i = 0; i < count; i++)
        TRY(c_remove(s, keys[order[i]], err));
    return ERR_OK;
}

/* ---- uploads */
static enum err_code c_upload_begin(struct store *s, struct os_file **out, struct err *err)
{
    (void)err;
    world_io(self(s)->shared->world, self(s)->node);
    *out = sim_file_anon(self(s)->node);
    return ERR_OK;
}

static enum err_code c_upload_publish(struct store *s, struct os_file *f, slice key, bool synced, struct err *err)
{
    struct client *c = self(s);
    struct request q = {.shared = c->shared,
                        .node = c->node,
                        .kind = REQUEST_CREATE,
                        .key = key,
                        .bytes = sim_file_bytes(f),
                        .is_volatile = !synced && c->shared->faults.volatile_uploads};

    ASSERT(key_valid(key));
    TRY(send(c, &q, err));
    sim_file_anon_free(f);
    return ERR_OK;
}

static void c_upload_drop(struct store *s, struct os_file *f)
{
    (void)s;
    sim_file_anon_free(f);
}

static enum err_code c_sync_group(struct store *s, const slice *keys, size_t count, struct err *err)
{
    struct client *c = self(s);

    world_io(c->shared->world, c->node);
    if (rng_chance(world_rng(c->shared->world), c->shared->faults.refused))
        return err_set(err, ERR_UNKNOWN, "simulated failure of a group sync");
    for (size_t i = 0; i < count; i++) {
        size_t at = sim_store_lower(c->shared, keys[i]);
        if (at < c->shared->count && slice_eq(c->shared->objects[at]->key, keys[i]))
            c->shared->objects[at]->volatile_on = NULL;
    }
    world_io(c->shared->world, c->node);
    return ERR_OK;
}

/* ---- reads */
static enum err_code begin_read(struct client *c, const char *what, slice key, struct err *err)
{
    world_io(c->shared->world, c->node);
    if (c->node->store_cut || rng_chance(world_rng(c->shared->world), c->shared->faults.refused))
        return refused(c, what, key, err);
    return ERR_OK;
}

static enum err_code absent(slice key, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, SLICE_FMT " does not exist", SLICE_ARG(key));
}

static enum err_code c_read(struct store *s, slice key, uint64_t offset, uint64_t len, struct buf *out,
                            struct store_meta *meta, struct err *err)
{
    TRY(begin_read(self(s), "GET", key, err));
    const struct sim_object *o = sim_store_find(self(s)->shared, key);
    if (!o)
        return absent(key, err);
    slice bytes = slice_head(slice_from(o->bytes, offset), len);
    buf_slice(out, bytes);
    if (meta)
        *meta = (struct store_meta){o->bytes.len, o->modified_us};
    world_io(self(s)->shared->world, self(s)->node);
    return ERR_OK;
}

static enum err_code c_stat(struct store *s, slice key, struct store_meta *out, struct err *err)
{
    TRY(begin_read(self(s), "HEAD", key, err));
    const struct sim_object *o = sim_store_find(self(s)->shared, key);
    if (!o)
        return absent(key, err);
    *out = (struct store_meta){o->bytes.len, o->modified_us};
    return ERR_OK;
}

struct page {
    struct store_list_item *items;
    size_t count, cap;
    bool more;
};

/* One page at one instant: keys with `prefix` after `cursor`. */
static struct page page_read(const struct sim_store *st, slice prefix, slice cursor, bool delimiter, size_t size)
{
    struct page p = {0};
    size_t i = sim_store_lower(st, slice_cmp(cursor, prefix) < 0 ? prefix : cursor);

    while (i < st->count && slice_starts(st->objects[i]->key, prefix)) {
        const struct sim_object *o = st->objects[i];
        const uint8_t *slash = delimiter ? memchr(o->key.ptr + prefix.len, '/', o->key.len - prefix.len) : NULL;
        slice key = slash ? slice_head(o->key, (size_t)(slash + 1 - o->key.ptr)) : o->key;
        if (slice_cmp(key, cursor) > 0) {
            if (p.count == size) {
                p.more = true;
                break;
            }
            *ARRAY_PUSH(p.items, p.count, p.cap) = (struct store_list_item){
                copy(key), slash != NULL,
                slash ? (struct store_meta){0} : (struct store_meta){o->bytes.len, o->modified_us}};
            key = p.items[p.count - 1].key;
        }
        for (i++; slash && i < st->count && slice_starts(st->objects[i]->key, key);)
            i++;
    }
    return p;
}

static enum err_code c_list(struct store *s, slice prefix, slice start_after, bool delimiter, store_list_fn fn,
                            void *arg, struct err *err)
{
    struct client *c = self(s);
    struct rng *r = world_rng(c->shared->world);
    slice cursor = copy(start_after);
    bool more = true;

    while (more) {
        enum err_code rc = begin_read(c, "LIST", prefix, err);
        if (rc != ERR_OK) {
            free((void *)(uintptr_t)cursor.ptr);
            return rc;
        }
        struct page p = page_read(c->shared, prefix, cursor, delimiter,
                                  (size_t)rng_skewed(r, 1, (int64_t)MAX(c->shared->faults.page_max, 1u)));
        more = p.more;
        if (p.count) {
            free((void *)(uintptr_t)cursor.ptr);
            cursor = copy(p.items[p.count - 1].key);
        }
        bool wanted = true;
        for (size_t i = 0; i < p.count; i++) {
            wanted = wanted && fn(arg, &p.items[i]);
            free((void *)(uintptr_t)p.items[i].key.ptr);
        }
        free(p.items);
        more = more && wanted;
    }
    free((void *)(uintptr_t)cursor.ptr);
    world_io(c->shared->world, c->node);
    return ERR_OK;
}

static enum err_code c_now_us(struct store *s, int64_t *out, struct err *err)
{
    TRY(begin_read(self(s), "clock", slice_lit(""), err));
    *out = sim_store_now(self(s)->shared);
    return ERR_OK;
}

static void c_engine_path(struct store *s, slice key, struct buf *out)
{
    (void)s;
    buf_slice(out, key);
    (void)buf_cstr(out);
}

static const char *c_describe(struct store *s)
{
    (void)s;
    return "Simulated store";
}

static void c_free(struct store *s)
{
    free(s);
}

static const struct store_ops client_ops = {
    .free = c_free,
    .create = c_create,
    .upload_begin = c_upload_begin,
    .upload_publish = c_upload_publish,
    .upload_drop = c_upload_drop,
    .sync_group = c_sync_group,
    .read = c_read,
    .stat = c_stat,
    .list = c_list,
    .remove = c_remove,
    .remove_many = c_remove_many,
    .now_us = c_now_us,
    .engine_path = c_engine_path,
    .describe = c_describe,
};

struct store *sim_store_client(struct sim_store *st, struct sim_node *n)
{
    struct client *c = mem_zalloc(sizeof(*c));

    *c = (struct client){.store = {.ops = &client_ops, .parallel = st->faults.parallel}, .shared = st, .node = n};
    return &c->store;
}

struct sim_store *sim_store_new(struct world *w)
{
    struct sim_store *st = mem_zalloc(sizeof(*st));

    st->world = w;
    st->faults.page_max = 1000;
    st->faults.hold_us_max = SIM_HOUR;
    return st;
}

struct sim_store_faults *sim_store_faults(struct sim_store *st)
{
    return &st->faults;
}

void sim_store_clock_jump(struct sim_store *st, int64_t by_us)
{
    st->clock_offset_us += by_us;
}

void sim_store_watch(struct sim_store *st, void (*fn)(void *arg, enum sim_store_event e, const struct sim_object *o),
                     void *arg)
{
    st->watch = fn;
    st->watch_arg = arg;
}

struct sim_store *sim_store_instead;
enum err_code __real_store_local_open(struct os *os, const char *dir, struct store **out, struct err *err);
enum err_code __wrap_store_local_open(struct os *os, const char *dir, struct store **out, struct err *err);
enum err_code __wrap_store_local_open(struct os *os, const char *dir, struct store **out, struct err *err)
{
    if (!sim_store_instead)
        return __real_store_local_open(os, dir, out, err);
    *out = sim_store_client(sim_store_instead, world_here(sim_store_instead->world));
    return ERR_OK;
}
