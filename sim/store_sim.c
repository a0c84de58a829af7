/* store_sim.c: the store in a directory (store/local.c) on one simulated disk: power cuts at any IO, failing syncs.
 *   - a create that answered ERR_OK is there after a power cut, whole; one that answered ERR_CONFLICT met an object that stays;
 *   - what a read or a list showed is durable: a node may have acted on it (catalog.md section 3);
 *   - a create never exists in part, and never replaces; uploads count after sync_group(). */
#include <inttypes.h>
#include <stdio.h>

#include "sim/sim.h"
#include "sim/sim_disk.h"
#include "store/store.h"

#include "base/banned.h"

#define KEYS 60
#define BOOTS 6
#define CLIENTS 3

struct object {
    bool sure;      /* must be there */
    bool removed;   /* a remove was tried: may be there or not from now on */
    uint64_t value; /* which of the creators won; 0: nobody knows */
};
struct ss {
    struct world *world;
    struct sim_node *node;
    struct object objects[KEYS];
    uint64_t values;
};
struct boot {
    struct ss *ss;
    struct os *os;
    struct store *store;
};

static void key_of(unsigned k, char out[64])
{
    (void)snprintf(out, 64, "dir%u/sub%u/%08u", k % 3, k % 5, k);
}

/* Somebody saw the object with this value: from now on it is a fact. */
static void seen(struct ss *ss, unsigned k, uint64_t value)
{
    struct object *o = &ss->objects[k];

    WORLD_CHECK(ss->world, !o->value || o->value == value || o->removed, "store",
                "object %u was %" PRIu64 " and is %" PRIu64, k, o->value, value);
    o->value = value;
    o->sure = !o->removed;
}

static bool read_one(struct boot *b, unsigned k, bool must, struct err *err)
{
    struct ss *ss = b->ss;
    char key[64];
    _cleanup_(buf_done) struct buf out = BUF_INIT;

    key_of(k, key);
    bool sure = ss->objects[k].sure;
    enum err_code rc = b->store->ops->read(b->store, slice_str(key), 0, UINT64_MAX, &out, NULL, err);
    WORLD_CHECK(ss->world, rc != ERR_NOT_FOUND || !sure || ss->objects[k].removed, "store", "object %s is lost", key);
    WORLD_CHECK(ss->world, rc == ERR_OK || rc == ERR_NOT_FOUND || !must, "store", "%s", err->msg);
    if (rc != ERR_OK)
        return false;
    if (k % 2 && !ss->objects[k].sure)
        return true; /* an upload that no group sync covered: its name may be there before its bytes */
    WORLD_CHECK(ss->world, out.len >= 800, "store", "object %s is torn: %zu bytes", key, out.len);
    uint64_t value = le64_get(out.ptr);
    for (size_t i = 8; i + 8 <= out.len; i += 8)
        WORLD_CHECK(ss->world, le64_get(out.ptr + i) == value, "store", "object %s is torn at %zu", key, i);
    seen(ss, k, value);
    return true;
}

static size_t fill(uint8_t bytes[1600], uint64_t value, struct rng *r)
{
    size_t len = 800 + 8 * rng_below(r, 100);
    for (size_t i = 0; i < len; i += 8)
        le64_put(bytes + i, value);
    return len;
}

static void create_one(struct boot *b, unsigned k, struct err *err)
{
    struct ss *ss = b->ss;
    uint64_t value = ++ss->values;
    uint8_t bytes[1600];
    char key[64];
    size_t len = fill(bytes, value, world_workload(ss->world));

    key_of(k, key);
    enum err_code rc = b->store->ops->create(b->store, slice_str(key), slice_of(bytes, len), err);
    world_trace(ss->world, "create %s = %" PRIu64 ": %s", key, value, err_name(rc));
    if (rc == ERR_OK)
        seen(ss, k, value);
    else if (rc == ERR_CONFLICT)
        (void)read_one(b, k, false, err);
}

static void upload_one(struct boot *b, unsigned k, struct err *err)
{
    struct ss *ss = b->ss;
    uint64_t value = ++ss->values;
    uint8_t bytes[1600];
    const struct os_iov iov = {bytes, fill(bytes, value, world_workload(ss->world))};
    char key[64];
    struct os_file *f = NULL;

    key_of(k, key);
    slice name = slice_str(key);
    if (b->store->ops->upload_begin(b->store, &f, err) != ERR_OK)
        return;
    if (b->os->ops->pwritev(b->os, f, &iov, 1, 0, err) != ERR_OK ||
        b->store->ops->upload_publish(b->store, f, name, false, err) != ERR_OK) {
        b->store->ops->upload_drop(b->store, f);
        return;
    }
    world_trace(ss->world, "published %s = %" PRIu64, key, value);
    if (b->store->ops->sync_group(b->store, &name, 1, err) == ERR_OK)
        seen(ss, k, value);
    world_trace(ss->world, "%s is %s", key, ss->objects[k].sure ? "durable" : "in doubt");
}

static bool on_item(void *arg, const struct store_list_item *item)
{
    struct boot *b = arg;
    uint64_t k;

    if (item->is_prefix || item->key.len < 8 || !slice_u64(slice_from(item->key, item->key.len - 8), &k) || k >= KEYS)
        return true;
    if (k % 2 == 0)
        b->ss->objects[k].sure = !b->ss->objects[k].removed;
    return true;
}

static void client(void *arg)
{
    struct boot *b = arg;
    struct rng *r = world_workload(b->ss->world);
    struct err err;
    char key[64];

    for (unsigned i = 0; i < 30; i++) {
        unsigned k = (unsigned)rng_below(r, KEYS), what = (unsigned)rng_below(r, 100);
        if (what < 40) {
            create_one(b, k & ~1u, &err);
        } else if (what < 60) {
            upload_one(b, k | 1, &err); /* odd keys are uploads: not durable before their group sync */
        } else if (what < 80) {
            (void)read_one(b, k, false, &err);
        } else if (what < 92) {
            key_of(k, key);
            *strrchr(key, '/') = 0;
            (void)b->store->ops->list(b->store, slice_str(key), (slice){0}, rng_chance(r, 300), on_item, b, &err);
        } else {
            b->ss->objects[k].removed = true;
            b->ss->objects[k].sure = false;
            key_of(k, key);
            (void)b->store->ops->remove(b->store, slice_str(key), &err);
        }
    }
}

static void node_main(void *arg)
{
    struct boot *b = arg;
    const struct sim_disk_faults *f = sim_disk_faults(b->ss->node->disk);
    struct os_thread *threads[CLIENTS];
    struct err err;

    b->os = sim_os_new(b->ss->node);
    enum err_code rc = store_local_open(b->os, "store", &b->store, &err);
    WORLD_CHECK(b->ss->world, rc == ERR_OK || f->sync_fails || f->write_fails, "store", "open: %s", err.msg);
    if (rc != ERR_OK)
        return;
    for (unsigned k = 0; k < KEYS; k++)
        (void)read_one(b, k, !f->sync_fails && !f->write_fails, &err);
    for (unsigned i = 0; i < CLIENTS; i++)
        threads[i] = b->os->ops->thread_new(b->os, "client", client, b);
    for (unsigned i = 0; i < CLIENTS; i++)
        b->os->ops->thread_join(b->os, threads[i]);
    b->store->ops->free(b->store);
}

static void supervise(void *arg)
{
    struct ss *ss = arg;
    struct rng *r = world_rng(ss->world);

    for (unsigned i = 0; i <= BOOTS; i++) {
        struct boot *b = mem_zalloc(sizeof(*b));
        b->ss = ss;
        *sim_disk_faults(ss->node->disk) =
            (struct sim_disk_faults){.sync_fails = rng_chance(r, 300) && i < BOOTS ? (unsigned)rng_below(r, 60) : 0};
        node_up(ss->node);
        ss->node->crash_in = i < BOOTS ? rng_below(r, 900) : 0;
        ss->node->crash_kill = rng_chance(r, 300);
        struct fiber *f = world_spawn(ss->world, ss->node, "main", node_main, b);
        while (!fiber_over(f))
            world_sleep(ss->world, SIM_SECOND);
        if (ss->node->up)
            node_crash(ss->node, ss->node->crash_kill);
    }
}

static void run(struct world *w)
{
    struct ss *ss = mem_zalloc(sizeof(*ss));

    ss->world = w;
    ss->node = world_node(w);
    (void)world_run(w, world_spawn(w, NULL, "supervisor", supervise, ss), 2000000);
}

const struct workload workload_store = {"store", run, NULL};
