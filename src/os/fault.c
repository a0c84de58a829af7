/* fault.c: see fault.h. */
#include "os/fault.h"

#include <errno.h>

struct fault {
    struct os os;
    struct os *inner;
    struct os_mutex *mu;
    bool armed, fired; /* under mu, as all below */
    enum fault_kind kind;
    enum fault_mode mode;
    unsigned nth, count;
};

/* What a call is open to, beside FAULT_IO. */
enum { CALL_PLAIN = 0, CALL_ROOM = 1, CALL_BYTES = 2, CALL_SYNC = 4, CALL_FILE = 8 };

static struct os *inner(struct os *os)
{
    return ((struct fault *)os)->inner;
}

static bool kind_hits(enum fault_kind kind, unsigned call)
{
    switch (kind) {
    case FAULT_IO: return true;
    case FAULT_SHORT: return call & CALL_BYTES;
    case FAULT_NO_SPACE: return call & CALL_ROOM;
    case FAULT_SYNC: return call & CALL_SYNC;
    case FAULT_NO_FILES: return call & CALL_FILE;
    }
    return false;
}

static enum err_code trip(struct os *os, unsigned call, const char *what, struct err *err)
{
    struct fault *f = (struct fault *)os;
    bool hit = false;

    os_lock(f->inner, f->mu);
    enum fault_kind kind = f->kind;
    if (f->armed && kind_hits(kind, call)) {
        hit = f->mode == FAULT_ONCE ? f->count == f->nth : f->count >= f->nth;
        f->count++;
        f->fired |= hit;
    }
    os_unlock(f->inner, f->mu);
    if (!hit)
        return ERR_OK;
    int e = kind == FAULT_NO_SPACE ? ENOSPC : kind == FAULT_NO_FILES ? EMFILE : EIO;
    enum err_code rc = err_set(err, e == EIO ? ERR_IO : ERR_LIMIT, "%s: fault of a test", what);
    if (err)
        err->os_errno = e;
    return rc;
}

static bool is_short(struct os *os)
{
    struct fault *f = (struct fault *)os;

    os_lock(f->inner, f->mu);
    bool is = f->kind == FAULT_SHORT;
    os_unlock(f->inner, f->mu);
    return is;
}

static enum err_code fault_open(struct os *os, const char *path, unsigned flags, struct os_file **out, struct err *err)
{
    TRY(trip(os, CALL_FILE | (flags & (OS_CREATE | OS_UNNAMED) ? CALL_ROOM : CALL_PLAIN), "open", err));
    return inner(os)->ops->open(inner(os), path, flags, out, err);
}

static void fault_close(struct os *os, struct os_file *f)
{
    inner(os)->ops->close(inner(os), f);
}

static enum err_code fault_pread(struct os *os, struct os_file *f, void *p, size_t len, uint64_t offset, size_t *got,
                                 struct err *err)
{
    TRY(trip(os, CALL_PLAIN, "read", err));
    return inner(os)->ops->pread(inner(os), f, p, len, offset, got, err);
}

static void write_half(struct os *os, struct os_file *f, const struct os_iov *iov, int n, uint64_t offset)
{
    uint64_t left = 0;

    for (int i = 0; i < n; i++)
        left += iov[i].len;
    left /= 2;
    for (int i = 0; i < n && left; i++) {
        const struct os_iov part = {iov[i].ptr, MIN(iov[i].len, (size_t)left)};
        (void)inner(os)->ops->pwritev(inner(os), f, &part, 1, offset, NULL); /* the call fails anyway */
        offset += part.len;
        left -= part.len;
    }
}

static enum err_code fault_pwritev(struct os *os, struct os_file *f, const struct os_iov *iov, int n, uint64_t offset,
                                   struct err *err)
{
    enum err_code rc = trip(os, CALL_ROOM | CALL_BYTES, "write", err);

    if (rc == ERR_OK)
        return inner(os)->ops->pwritev(inner(os), f, iov, n, offset, err);
    if (is_short(os))
        write_half(os, f, iov, n, offset);
    return rc;
}

static enum err_code fault_allocate(struct os *os, struct os_file *f, uint64_t size, struct err *err)
{
    enum err_code rc = trip(os, CALL_ROOM | CALL_BYTES, "allocate", err);

    if (rc == ERR_OK)
        return inner(os)->ops->allocate(inner(os), f, size, err);
    if (is_short(os))
        (void)inner(os)->ops->allocate(inner(os), f, size / 2, NULL); /* the call fails anyway */
    return rc;
}

static enum err_code fault_sync(struct os *os, struct os_file *f, struct err *err)
{
    TRY(trip(os, CALL_SYNC, "fdatasync", err));
    return inner(os)->ops->sync(inner(os), f, err);
}

static enum err_code fault_truncate(struct os *os, struct os_file *f, uint64_t size, struct err *err)
{
    TRY(trip(os, CALL_PLAIN, "truncate", err));
    return inner(os)->ops->truncate(inner(os), f, size, err);
}

static enum err_code fault_size(struct os *os, struct os_file *f, uint64_t *size, struct err *err)
{
    TRY(trip(os, CALL_PLAIN, "fstat", err));
    return inner(os)->ops->size(inner(os), f, size, err);
}

static int fault_fd(struct os *os, struct os_file *f)
{
    return inner(os)->ops->fd(inner(os), f);
}

static enum err_code fault_stat(struct os *os, const char *path, struct os_stat *out, struct err *err)
{
    TRY(trip(os, CALL_PLAIN, "stat", err));
    return inner(os)->ops->stat(inner(os), path, out, err);
}

static enum err_code fault_link_file(struct os *os, struct os_file *f, const char *path, struct err *err)
{
    TRY(trip(os, CALL_ROOM, "link", err));
    return inner(os)->ops->link_file(inner(os), f, path, err);
}

static enum err_code fault_link(struct os *os, const char *from, const char *to, struct err *err)
{
    TRY(trip(os, CALL_ROOM, "link", err));
    return inner(os)->ops->link(inner(os), from, to, err);
}

static enum err_code fault_rename(struct os *os, const char *from, const char *to, struct err *err)
{
    TRY(trip(os, CALL_ROOM, "rename", err));
    return inner(os)->ops->rename(inner(os), from, to, err);
}

static enum err_code fault_unlink(struct os *os, const char *path, struct err *err)
{
    TRY(trip(os, CALL_PLAIN, "unlink", err));
    return inner(os)->ops->unlink(inner(os), path, err);
}

static enum err_code fault_mkdir(struct os *os, const char *path, struct err *err)
{
    TRY(trip(os, CALL_ROOM, "mkdir", err));
    return inner(os)->ops->mkdir(inner(os), path, err);
}

static enum err_code fault_rmdir(struct os *os, const char *path, struct err *err)
{
    TRY(trip(os, CALL_PLAIN, "rmdir", err));
    return inner(os)->ops->rmdir(inner(os), path, err);
}

static enum err_code fault_list(struct os *os, const char *path, bool (*fn)(void *arg, const char *name, bool is_dir),
                                void *arg, struct err *err)
{
    TRY(trip(os, CALL_FILE, "list", err));
    return inner(os)->ops->list(inner(os), path, fn, arg, err);
}

static enum err_code fault_sync_dir(struct os *os, const char *path, struct err *err)
{
    TRY(trip(os, CALL_SYNC | CALL_FILE, "fsync of directory", err));
    return inner(os)->ops->sync_dir(inner(os), path, err);
}

static enum err_code fault_sync_fs(struct os *os, struct os_file *f, struct err *err)
{
    TRY(trip(os, CALL_SYNC, "syncfs", err));
    return inner(os)->ops->sync_fs(inner(os), f, err);
}

static enum err_code fault_lock_file(struct os *os, struct os_file *f, struct err *err)
{
    TRY(trip(os, CALL_PLAIN, "flock", err));
    return inner(os)->ops->lock_file(inner(os), f, err);
}

static enum err_code fault_disk_free(struct os *os, const char *path, uint64_t *free_bytes, uint64_t *total_bytes,
                                     struct err *err)
{
    TRY(trip(os, CALL_PLAIN, "statvfs", err));
    return inner(os)->ops->disk_free(inner(os), path, free_bytes, total_bytes, err);
}

/* ---- what never fails */

static int64_t fault_wall_us(struct os *os)
{
    return os_wall_us(inner(os));
}

static int64_t fault_mono_us(struct os *os)
{
    return os_mono_us(inner(os));
}

static void fault_random(struct os *os, void *p, size_t len)
{
    inner(os)->ops->random(inner(os), p, len);
}

static void fault_sleep_us(struct os *os, int64_t us)
{
    inner(os)->ops->sleep_us(inner(os), us);
}

static struct os_mutex *fault_mutex_new(struct os *os)
{
    return inner(os)->ops->mutex_new(inner(os));
}

static void fault_mutex_free(struct os *os, struct os_mutex *m)
{
    inner(os)->ops->mutex_free(inner(os), m);
}

static void fault_mutex_lock(struct os *os, struct os_mutex *m)
{
    os_lock(inner(os), m);
}

static void fault_mutex_unlock(struct os *os, struct os_mutex *m)
{
    os_unlock(inner(os), m);
}

static struct os_cond *fault_cond_new(struct os *os)
{
    return inner(os)->ops->cond_new(inner(os));
}

static void fault_cond_free(struct os *os, struct os_cond *c)
{
    inner(os)->ops->cond_free(inner(os), c);
}

static bool fault_cond_wait(struct os *os, struct os_cond *c, struct os_mutex *m, int64_t wait_us)
{
    return inner(os)->ops->cond_wait(inner(os), c, m, wait_us);
}

static void fault_cond_broadcast(struct os *os, struct os_cond *c)
{
    inner(os)->ops->cond_broadcast(inner(os), c);
}

static struct os_thread *fault_thread_new(struct os *os, const char *name, void (*fn)(void *arg), void *arg)
{
    return inner(os)->ops->thread_new(inner(os), name, fn, arg);
}

static void fault_thread_join(struct os *os, struct os_thread *t)
{
    inner(os)->ops->thread_join(inner(os), t);
}

struct os *os_fault_new(struct os *in)
{
    static const struct os_ops ops = {
        .open = fault_open,
        .close = fault_close,
        .pread = fault_pread,
        .pwritev = fault_pwritev,
        .sync = fault_sync,
        .truncate = fault_truncate,
        .allocate = fault_allocate,
        .size = fault_size,
        .fd = fault_fd,
        .stat = fault_stat,
        .link_file = fault_link_file,
        .link = fault_link,
        .rename = fault_rename,
        .unlink = fault_unlink,
        .mkdir = fault_mkdir,
        .rmdir = fault_rmdir,
        .list = fault_list,
        .sync_dir = fault_sync_dir,
        .sync_fs = fault_sync_fs,
        .lock_file = fault_lock_file,
        .disk_free = fault_disk_free,
        .wall_us = fault_wall_us,
        .mono_us = fault_mono_us,
        .random = fault_random,
        .sleep_us = fault_sleep_us,
        .mutex_new = fault_mutex_new,
        .mutex_free = fault_mutex_free,
        .mutex_lock = fault_mutex_lock,
        .mutex_unlock = fault_mutex_unlock,
        .cond_new = fault_cond_new,
        .cond_free = fault_cond_free,
        .cond_wait = fault_cond_wait,
        .cond_broadcast = fault_cond_broadcast,
        .thread_new = fault_thread_new,
        .thread_join = fault_thread_join,
    };
    struct fault *f = mem_zalloc(sizeof(*f));

    f->os.ops = &ops;
    f->inner = in;
    f->mu = in->ops->mutex_new(in);
    return &f->os;
}

void os_fault_free(struct os *os)
{
    struct fault *f = (struct fault *)os;

    if (!f)
        return;
    f->inner->ops->mutex_free(f->inner, f->mu);
    free(f);
}

void os_fault_arm(struct os *os, enum fault_kind kind, unsigned nth, enum fault_mode mode)
{
    struct fault *f = (struct fault *)os;

    os_lock(f->inner, f->mu);
    f->armed = true;
    f->fired = false;
    f->kind = kind;
    f->mode = mode;
    f->nth = nth;
    f->count = 0;
    os_unlock(f->inner, f->mu);
}

bool os_fault_disarm(struct os *os)
{
    struct fault *f = (struct fault *)os;

    os_lock(f->inner, f->mu);
    bool fired = f->fired;
    f->armed = false;
    os_unlock(f->inner, f->mu);
    return fired;
}
