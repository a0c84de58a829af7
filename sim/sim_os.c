/* sim_os.c: struct os over a simulated disk, virtual time and fibers. */
#include <errno.h>
#include <stdio.h>

#include "sim/sim_disk.h"

#include "base/banned.h"

struct sim_os {
    struct os os;
    struct sim_node *node;
    struct world *world;
    struct sim_disk *disk;
    unsigned attached;
};
struct os_file {
    struct sim_inode *inode;
    struct sim_os *owner; /* NULL: anonymous, under no disk */
    struct sim_disk *disk;
    unsigned flags;
};
struct os_mutex {
    bool locked;
    struct waitq waiters;
};
struct os_cond {
    struct waitq waiters;
};
struct os_thread {
    struct fiber *fiber;
    struct waitq joiners;
    struct world *world;
    bool over;
    void (*fn)(void *arg);
    void *arg;
};

static struct sim_os *self(struct os *os)
{
    return (struct sim_os *)os;
}

static enum err_code fail(struct err *err, enum err_code code, int os_errno, const char *what, const char *path)
{
    world_trace(world_current(), "  disk: %s %s: %s", what, path, err_name(code));
    (void)err_set(err, code, "%s %s: simulated %s", what, path, err_name(code));
    if (err)
        err->os_errno = os_errno;
    return code;
}

/* Every file call begins here: a wait or a crash, and the disk may have moved away. */
static enum err_code begin(struct sim_os *s, const char *what, const char *path, struct err *err)
{
    world_io(s->world, s->node);
    if (s->attached != s->disk->attached)
        return fail(err, ERR_IO, EIO, what, path);
    return ERR_OK;
}

static enum err_code end(struct sim_os *s)
{
    world_io(s->world, s->node);
    return ERR_OK;
}

static enum err_code not_found(struct err *err, const char *what, const char *path)
{
    return fail(err, ERR_NOT_FOUND, ENOENT, what, path);
}

/* ---- files */
static struct os_file *file_new(struct sim_os *s, struct sim_inode *inode, unsigned flags)
{
    struct os_file *f = mem_zalloc(sizeof(*f));

    f->inode = inode;
    f->owner = s;
    f->disk = s->disk;
    f->flags = flags;
    inode->opens++;
    return f;
}

static enum err_code sim_open(struct os *os, const char *path, unsigned flags, struct os_file **out, struct err *err)
{
    struct sim_os *s = self(os);
    const char *name;

    TRY(begin(s, "open", path, err));
    if (flags & OS_UNNAMED) {
        struct sim_inode *in = disk_find(s->disk, path);
        if (!in || !in->is_dir)
            return not_found(err, "open", path);
        *out = file_new(s, disk_inode_new(s->disk, false), flags);
        return end(s);
    }
    struct sim_inode *inode = disk_find(s->disk, path);
    if (!inode) {
        struct sim_inode *dir = disk_parent(s->disk, path, &name);
        if (!(flags & OS_CREATE) || !dir)
            return not_found(err, "open", path);
        inode = disk_inode_new(s->disk, false);
        world_trace(s->world, "  disk: new file %s", path);
        disk_name_add(s->disk, dir, name, inode);
    } else if (flags & OS_EXCL) {
        return fail(err, ERR_CONFLICT, EEXIST, "open", path);
    } else if (inode->is_dir) {
        return fail(err, ERR_IO, EISDIR, "open", path);
    }
    if (flags & OS_TRUNC && inode->seen.len)
        disk_resize(s->disk, inode, 0);
    *out = file_new(s, inode, flags);
    return end(s);
}

static void sim_close(struct os *os, struct os_file *f)
{
    (void)os;
    if (!f)
        return;
    struct sim_inode *inode = f->inode;
    if (inode->locked_by == f)
        inode->locked_by = NULL;
    if (inode->opens && --inode->opens == 0 && !inode->links)
        f->disk->bytes_used -= inode->seen.len;
    free(f);
}

static enum err_code sim_pread(struct os *os, struct os_file *f, void *p, size_t len, uint64_t offset, size_t *got,
                               struct err *err)
{
    if (f->owner)
        TRY(begin(self(os), "read", "", err));
    size_t have = offset < f->inode->seen.len ? f->inode->seen.len - offset : 0;
    *got = MIN(len, have);
    if (*got)
        memcpy(p, f->inode->seen.ptr + offset, *got);
    return ERR_OK;
}

static enum err_code sim_pwritev(struct os *os, struct os_file *f, const struct os_iov *iov, int n, uint64_t offset,
                                 struct err *err)
{
    struct sim_os *s = self(os);
    struct rng *r = world_rng(s->world);
    uint64_t at = offset;

    if (f->owner)
        TRY(begin(s, "write", "", err));
    bool fails = f->owner && rng_chance(r, s->disk->faults.write_fails);
    int whole = fails ? (int)rng_below(r, (uint64_t)n + 1) : n; /* what got through before it failed */
    for (int i = 0; i < whole; at += iov[i].len, i++) {
        if (f->owner && !disk_has_room(s->disk, f->inode, at + iov[i].len))
            return fail(err, ERR_LIMIT, ENOSPC, "write", "");
        disk_write(f->disk, f->inode, iov[i].ptr, iov[i].len, at);
    }
    f->inode->mtime_us = world_now(s->world);
    if (fails)
        return fail(err, ERR_IO, EIO, "write", "");
    return f->owner ? end(s) : ERR_OK;
}

static enum err_code sim_sync(struct os *os, struct os_file *f, struct err *err)
{
    struct sim_os *s = self(os);
    struct rng *r = world_rng(s->world);
    uint64_t mark = disk_sync_mark(f->inode);

    if (!f->owner)
        return ERR_OK;
    TRY(begin(s, "sync", "", err));
    if (rng_chance(r, s->disk->faults.slow_sync))
        world_sleep(s->world, rng_skewed(r, SIM_SECOND / 10, 30 * SIM_SECOND));
    else if (rng_chance(r, 300))
        world_sleep(s->world, rng_skewed(r, 50, 5000));
    if (s->attached != s->disk->attached)
        return fail(err, ERR_IO, EIO, "sync", "");
    if (rng_chance(r, s->disk->faults.sync_fails)) {
        disk_sync_failed(s->disk, f->inode, mark);
        return fail(err, ERR_IO, EIO, "sync", "");
    }
    disk_sync(f->inode, mark);
    return end(s);
}

static enum err_code sim_truncate(struct os *os, struct os_file *f, uint64_t size, struct err *err)
{
    if (f->owner)
        TRY(begin(self(os), "truncate", "", err));
    if (size != f->inode->seen.len)
        disk_resize(f->disk, f->inode, size);
    return f->owner ? end(self(os)) : ERR_OK;
}

static enum err_code sim_allocate(struct os *os, struct os_file *f, uint64_t size, struct err *err)
{
    struct sim_os *s = self(os);

    if (f->owner)
        TRY(begin(s, "allocate", "", err));
    if (size <= f->inode->seen.len)
        return ERR_OK;
    if (f->owner && !disk_has_room(s->disk, f->inode, size))
        return fail(err, ERR_LIMIT, ENOSPC, "allocate", "");
    disk_resize(f->disk, f->inode, size);
    return f->owner ? end(s) : ERR_OK;
}

static enum err_code sim_size(struct os *os, struct os_file *f, uint64_t *size, struct err *err)
{
    (void)os, (void)err;
    *size = f->inode->seen.len;
    return ERR_OK;
}

/* No descriptor of the machine's: a number that only sim_file_of_fd() knows, and only until the next call. */
static struct os_file *fd_file;
static int fd_number;

static int sim_fd(struct os *os, struct os_file *f)
{
    (void)os;
    fd_file = f;
    fd_number = fd_number < (1 << 30) ? fd_number + 1 : 1;
    return -1 - fd_number;
}

struct os_file *sim_file_of_fd(int fd)
{
    ASSERT(fd_file && fd == -1 - fd_number);
    return fd_file;
}

/* ---- names */
static enum err_code sim_stat(struct os *os, const char *path, struct os_stat *out, struct err *err)
{
    struct sim_os *s = self(os);

    TRY(begin(s, "stat", path, err));
    const struct sim_inode *in = disk_find(s->disk, path);
    if (!in)
        return not_found(err, "stat", path);
    *out = (struct os_stat){in->seen.len, in->mtime_us + s->node->clock_offset_us, in->is_dir};
    return ERR_OK;
}

static enum err_code link_inode(struct sim_os *s, struct sim_inode *inode, const char *path, struct err *err)
{
    const char *name;
    struct sim_inode *dir = disk_parent(s->disk, path, &name);

    if (!dir)
        return not_found(err, "link", path);
    if (disk_dir_get(&dir->now, name))
        return fail(err, ERR_CONFLICT, EEXIST, "link", path);
    disk_name_add(s->disk, dir, name, inode);
    return end(s);
}

static enum err_code sim_link_file(struct os *os, struct os_file *f, const char *path, struct err *err)
{
    TRY(begin(self(os), "link", path, err));
    return link_inode(self(os), f->inode, path, err);
}

static enum err_code sim_link(struct os *os, const char *from, const char *to, struct err *err)
{
    struct sim_os *s = self(os);

    TRY(begin(s, "link", from, err));
    struct sim_inode *inode = disk_find(s->disk, from);
    if (!inode)
        return not_found(err, "link", from);
    return link_inode(s, inode, to, err);
}

static enum err_code sim_rename(struct os *os, const char *from, const char *to, struct err *err)
{
    struct sim_os *s = self(os);
    const char *name;
    char from_name[512];

    TRY(begin(s, "rename", from, err));
    struct sim_inode *from_dir = disk_parent(s->disk, from, &name);
    if (!from_dir || !disk_dir_get(&from_dir->now, name))
        return not_found(err, "rename", from);
    (void)snprintf(from_name, sizeof(from_name), "%s", name);
    struct sim_inode *to_dir = disk_parent(s->disk, to, &name);
    if (!to_dir)
        return not_found(err, "rename", to);
    world_trace(s->world, "  disk: rename %s to %s", from, to);
    disk_name_move(s->disk, from_dir, from_name, to_dir, name);
    return end(s);
}

static enum err_code sim_unlink(struct os *os, const char *path, struct err *err)
{
    struct sim_os *s = self(os);
    const char *name;

    TRY(begin(s, "unlink", path, err));
    struct sim_inode *dir = disk_parent(s->disk, path, &name), *in = dir ? disk_dir_get(&dir->now, name) : NULL;
    if (!in)
        return not_found(err, "unlink", path);
    if (in->is_dir)
        return fail(err, ERR_IO, EISDIR, "unlink", path);
    world_trace(s->world, "  disk: unlink %s", path);
    disk_name_del(s->disk, dir, name);
    return end(s);
}

static enum err_code sim_mkdir(struct os *os, const char *path, struct err *err)
{
    struct sim_os *s = self(os);
    const char *name;

    TRY(begin(s, "mkdir", path, err));
    struct sim_inode *dir = disk_parent(s->disk, path, &name);
    if (!dir)
        return not_found(err, "mkdir", path);
    if (!*name || disk_dir_get(&dir->now, name))
        return fail(err, ERR_CONFLICT, EEXIST, "mkdir", path);
    disk_name_add(s->disk, dir, name, disk_inode_new(s->disk, true));
    return end(s);
}

static enum err_code sim_rmdir(struct os *os, const char *path, struct err *err)
{
    struct sim_os *s = self(os);
    const char *name;

    TRY(begin(s, "rmdir", path, err));
    struct sim_inode *dir = disk_parent(s->disk, path, &name), *in = dir ? disk_dir_get(&dir->now, name) : NULL;
    if (!in)
        return not_found(err, "rmdir", path);
    if (!in->is_dir || in->now.count)
        return fail(err, ERR_IO, ENOTEMPTY, "rmdir", path);
    disk_name_del(s->disk, dir, name);
    return end(s);
}

static enum err_code sim_list(struct os *os, const char *path, bool (*fn)(void *arg, const char *name, bool is_dir),
                              void *arg, struct err *err)
{
    struct sim_os *s = self(os);
    struct rng *r = world_rng(s->world);

    TRY(begin(s, "list", path, err));
    const struct sim_inode *dir = disk_find(s->disk, path);
    if (!dir)
        return not_found(err, "list", path);
    size_t n = dir->now.count;
    struct disk_entry *copy = mem_alloc((n + 1) * sizeof(*copy)); /* the callback may change the directory */
    for (size_t i = 0; i < n; i++) {
        size_t k = rng_below(r, i + 1);
        copy[i] = copy[k];
        copy[k] = (struct disk_entry){mem_str(slice_str(dir->now.entries[i].name)), dir->now.entries[i].inode};
    }
    bool more = true;
    for (size_t i = 0; i < n; i++) {
        more = more && fn(arg, copy[i].name, copy[i].inode->is_dir);
        free(copy[i].name);
    }
    free(copy);
    return ERR_OK;
}

static enum err_code sim_sync_dir(struct os *os, const char *path, struct err *err)
{
    struct sim_os *s = self(os);

    TRY(begin(s, "sync_dir", path, err));
    const struct sim_inode *dir = disk_find(s->disk, path);
    if (!dir || !dir->is_dir)
        return not_found(err, "sync_dir", path);
    if (rng_chance(world_rng(s->world), s->disk->faults.sync_fails))
        return fail(err, ERR_IO, EIO, "sync_dir", path); /* the names stay as they are: maybe there, maybe not */
    disk_names_sync(s->disk, dir);
    return end(s);
}

static enum err_code sim_lock_file(struct os *os, struct os_file *f, struct err *err)
{
    TRY(begin(self(os), "flock", "", err));
    if (f->inode->locked_by && f->inode->locked_by != f)
        return fail(err, ERR_CONFLICT, EWOULDBLOCK, "flock", "");
    f->inode->locked_by = f;
    return ERR_OK;
}

static enum err_code sim_disk_free(struct os *os, const char *path, uint64_t *free_bytes, uint64_t *total_bytes,
                                   struct err *err)
{
    const struct sim_disk *d = self(os)->disk;

    (void)path, (void)err;
    *total_bytes = d->faults.bytes_max ? d->faults.bytes_max : 1ull << 40;
    *free_bytes = *total_bytes > d->bytes_used ? *total_bytes - d->bytes_used : 0;
    return ERR_OK;
}

/* ---- time, random, fibers */
static int64_t sim_wall_us(struct os *os)
{
    return world_now(self(os)->world) + self(os)->node->clock_offset_us;
}
static int64_t sim_mono_us(struct os *os)
{
    return world_now(self(os)->world) - self(os)->node->boot_us + SIM_SECOND;
}
static void sim_random(struct os *os, void *p, size_t len)
{
    for (uint8_t *at = p; len; at += MIN(len, 8u), len -= MIN(len, 8u)) {
        uint64_t v = rng_next(world_rng(self(os)->world));
        memcpy(at, &v, MIN(len, 8u));
    }
}
static void sim_sleep_us(struct os *os, int64_t us)
{
    world_sleep(self(os)->world, us);
}

static struct os_mutex *sim_mutex_new(struct os *os)
{
    (void)os;
    return mem_zalloc(sizeof(struct os_mutex));
}
static void sim_mutex_free(struct os *os, struct os_mutex *m)
{
    (void)os;
    if (m) {
        free(m->waiters.items);
        free(m);
    }
}
static void sim_mutex_lock(struct os *os, struct os_mutex *m)
{
    struct world *w = self(os)->world;

    if (rng_chance(world_rng(w), 60))
        world_yield(w);
    while (m->locked)
        (void)world_block(w, &m->waiters, -1);
    m->locked = true;
}
static void sim_mutex_unlock(struct os *os, struct os_mutex *m)
{
    struct world *w = self(os)->world;

    ASSERT(m->locked);
    m->locked = false;
    waitq_wake(w, &m->waiters, false);
    if (rng_chance(world_rng(w), 30))
        world_yield(w);
}

static struct os_cond *sim_cond_new(struct os *os)
{
    (void)os;
    return mem_zalloc(sizeof(struct os_cond));
}
static void sim_cond_free(struct os *os, struct os_cond *c)
{
    (void)os;
    if (c) {
        free(c->waiters.items);
        free(c);
    }
}
static bool sim_cond_wait(struct os *os, struct os_cond *c, struct os_mutex *m, int64_t wait_us)
{
    struct world *w = self(os)->world;
    bool woken = true;

    ASSERT(m->locked);
    m->locked = false;
    waitq_wake(w, &m->waiters, false);
    if (rng_chance(world_rng(w), 20))
        world_yield(w); /* spurious */
    else
        woken = world_block(w, &c->waiters, wait_us);
    sim_mutex_lock(os, m);
    return woken;
}
static void sim_cond_broadcast(struct os *os, struct os_cond *c)
{
    waitq_wake(self(os)->world, &c->waiters, true);
}

static void thread_main(void *arg)
{
    struct os_thread *t = arg;

    t->fn(t->arg);
    t->over = true;
    waitq_wake(t->world, &t->joiners, true);
}
static struct os_thread *sim_thread_new(struct os *os, const char *name, void (*fn)(void *arg), void *arg)
{
    struct os_thread *t = mem_zalloc(sizeof(*t));

    t->world = self(os)->world;
    t->fn = fn;
    t->arg = arg;
    t->fiber = world_spawn(t->world, self(os)->node, name, thread_main, t);
    return t;
}
static void sim_thread_join(struct os *os, struct os_thread *t)
{
    if (!t)
        return;
    while (!t->over)
        (void)world_block(self(os)->world, &t->joiners, -1);
    free(t->joiners.items);
    free(t);
}

static const struct os_ops sim_ops = {
    .open = sim_open,
    .close = sim_close,
    .pread = sim_pread,
    .pwritev = sim_pwritev,
    .sync = sim_sync,
    .truncate = sim_truncate,
    .allocate = sim_allocate,
    .size = sim_size,
    .fd = sim_fd,
    .stat = sim_stat,
    .link_file = sim_link_file,
    .link = sim_link,
    .rename = sim_rename,
    .unlink = sim_unlink,
    .mkdir = sim_mkdir,
    .rmdir = sim_rmdir,
    .list = sim_list,
    .sync_dir = sim_sync_dir,
    .lock_file = sim_lock_file,
    .disk_free = sim_disk_free,
    .wall_us = sim_wall_us,
    .mono_us = sim_mono_us,
    .random = sim_random,
    .sleep_us = sim_sleep_us,
    .mutex_new = sim_mutex_new,
    .mutex_free = sim_mutex_free,
    .mutex_lock = sim_mutex_lock,
    .mutex_unlock = sim_mutex_unlock,
    .cond_new = sim_cond_new,
    .cond_free = sim_cond_free,
    .cond_wait = sim_cond_wait,
    .cond_broadcast = sim_cond_broadcast,
    .thread_new = sim_thread_new,
    .thread_join = sim_thread_join,
};

struct os *sim_os_new(struct sim_node *n)
{
    struct sim_os *s = mem_zalloc(sizeof(*s));

    *s =
        (struct sim_os){.os = {&sim_ops}, .node = n, .world = n->world, .disk = n->disk, .attached = n->disk->attached};
    return &s->os;
}

struct os_file *sim_file_anon(struct sim_node *n)
{
    struct os_file *f = mem_zalloc(sizeof(*f));

    f->disk = n->disk;
    f->inode = mem_zalloc(sizeof(*f->inode)); /* known to no disk: a crash need not resolve it */
    f->inode->links = 1;
    return f;
}

slice sim_file_bytes(const struct os_file *f)
{
    return slice_of(f->inode->seen.ptr, f->inode->seen.len);
}

void sim_file_anon_free(struct os_file *f)
{
    if (!f)
        return;
    f->disk->bytes_used -= f->inode->seen.len;
    free(f->inode->seen.ptr);
    for (size_t i = 0; i < f->inode->ops_count; i++)
        free(f->inode->ops[i].data);
    free(f->inode->ops);
    free(f->inode);
    free(f);
}
