/* real.c: struct os over Linux. Every call retries EINTR; errno becomes an error code here and goes no further. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/hash.h"
#include "os/os.h"

#define FILE_MODE 0600
#define DIR_MODE 0700

struct os_file {
    int fd;
};
struct os_mutex {
    pthread_mutex_t mu;
};
struct os_cond {
    pthread_cond_t cond; /* CLOCK_MONOTONIC */
};
struct os_thread {
    pthread_t id;
    void (*fn)(void *arg);
    void *arg;
};

static enum err_code fail(struct err *err, int e, const char *what, const char *path)
{
    enum err_code code = ERR_IO;
    char text[128];

    if (e == ENOENT)
        code = ERR_NOT_FOUND;
    else if (e == EEXIST || e == ENOTEMPTY)
        code = ERR_CONFLICT;
    else if (e == ENOSPC || e == EDQUOT || e == EMFILE || e == ENFILE || e == EFBIG)
        code = ERR_LIMIT;
    (void)err_set(err, code, "%s %s: %s", what, path ? path : "", strerror_r(e, text, sizeof(text)));
    if (err)
        err->os_errno = e;
    return code;
}

#define RETRY(call)                        \
    ({                                     \
        long rc_;                          \
        do                                 \
            rc_ = (long)(call);            \
        while (rc_ < 0 && errno == EINTR); \
        rc_;                               \
    })

/* ---- files */

static enum err_code real_open(struct os *os, const char *path, unsigned flags, struct os_file **out, struct err *err)
{
    int mode = (flags & OS_WRITE) ? ((flags & OS_READ) ? O_RDWR : O_WRONLY) : O_RDONLY;
    (void)os;

    if (flags & OS_CREATE)
        mode |= O_CREAT;
    if (flags & OS_EXCL)
        mode |= O_EXCL;
    if (flags & OS_TRUNC)
        mode |= O_TRUNC;
    if (flags & OS_UNNAMED)
        mode = O_TMPFILE | O_RDWR;
    int fd = (int)RETRY(open(path, mode | O_CLOEXEC, FILE_MODE));
    if (fd < 0)
        return fail(err, errno, "open", path);
    *out = mem_alloc(sizeof(**out));
    (*out)->fd = fd;
    return ERR_OK;
}

static void real_close(struct os *os, struct os_file *f)
{
    (void)os;
    if (!f)
        return;
    (void)close(f->fd); /* data was synced before it mattered */
    free(f);
}

static enum err_code real_pread(struct os *os, struct os_file *f, void *p, size_t len, uint64_t offset, size_t *got,
                                struct err *err)
{
    size_t done = 0;
    (void)os;

    while (done < len) {
        long n = RETRY(pread(f->fd, (uint8_t *)p + done, len - done, (off_t)(offset + done)));
        if (n < 0)
            return fail(err, errno, "read", NULL);
        if (n == 0)
            break;
        done += (size_t)n;
    }
    *got = done;
    return ERR_OK;
}

static enum err_code real_pwritev(struct os *os, struct os_file *f, const struct os_iov *iov, int n, uint64_t offset,
                                  struct err *err)
{
    struct iovec v[256];
    size_t skip = 0; /* bytes of iov[0] already written */
    (void)os;

    while (n > 0) {
        int k = MIN(n, (int)ARRAY_LEN(v));
        for (int i = 0; i < k; i++) {
            size_t s = i ? 0 : skip;
            v[i] = (struct iovec){(uint8_t *)(uintptr_t)iov[i].ptr + s, iov[i].len - s};
        }
        long done = RETRY(pwritev(f->fd, v, k, (off_t)offset));
        if (done < 0)
            return fail(err, errno, "write", NULL);
        offset += (uint64_t)done;
        size_t left = (size_t)done + skip;
        if (done == 0 && left < iov->len)
            return fail(err, EIO, "write", NULL); /* not a byte, and no reason given */
        while (n > 0 && left >= iov->len) {
            left -= iov->len;
            iov++;
            n--;
        }
        skip = left;
    }
    return ERR_OK;
}

static enum err_code real_sync(struct os *os, struct os_file *f, struct err *err)
{
    (void)os;
    return RETRY(fdatasync(f->fd)) < 0 ? fail(err, errno, "fdatasync", NULL) : ERR_OK;
}

static enum err_code real_truncate(struct os *os, struct os_file *f, uint64_t size, struct err *err)
{
    (void)os;
    return RETRY(ftruncate(f->fd, (off_t)size)) < 0 ? fail(err, errno, "truncate", NULL) : ERR_OK;
}

static enum err_code real_allocate(struct os *os, struct os_file *f, uint64_t size, struct err *err)
{
    static const uint8_t zeros[1u << 16];
    (void)os;

    /* Written zeros, not fallocate(): unwritten extents cost a metadata commit at each later fdatasync. */
    for (uint64_t at = 0; at < size; at += sizeof(zeros)) {
        const struct os_iov iov = {zeros, (size_t)MIN(sizeof(zeros), size - at)};
        TRY(real_pwritev(os, f, &iov, 1, at, err));
    }
    return ERR_OK;
}

static enum err_code real_size(struct os *os, struct os_file *f, uint64_t *size, struct err *err)
{
    struct stat st;
    (void)os;

    if (fstat(f->fd, &st) < 0)
        return fail(err, errno, "fstat", NULL);
    *size = (uint64_t)st.st_size;
    return ERR_OK;
}

static int real_fd(struct os *os, struct os_file *f)
{
    (void)os;
    return f->fd;
}

/* ---- names */

static enum err_code real_stat(struct os *os, const char *path, struct os_stat *out, struct err *err)
{
    struct stat st;
    (void)os;

    if (stat(path, &st) < 0)
        return fail(err, errno, "stat", path);
    out->size = (uint64_t)st.st_size;
    out->mtime_us = st.st_mtim.tv_sec * INT64_C(1000000) + st.st_mtim.tv_nsec / 1000;
    out->is_dir = S_ISDIR(st.st_mode);
    return ERR_OK;
}

static enum err_code real_link_file(struct os *os, struct os_file *f, const char *path, struct err *err)
{
    char proc[64];
    (void)os;

    (void)snprintf(proc, sizeof(proc), "/proc/self/fd/%d", f->fd); /* AT_EMPTY_PATH would need CAP_DAC_READ_SEARCH */
    return linkat(AT_FDCWD, proc, AT_FDCWD, path, AT_SYMLINK_FOLLOW) < 0 ? fail(err, errno, "link", path) : ERR_OK;
}

static enum err_code real_link(struct os *os, const char *from, const char *to, struct err *err)
{
    (void)os;
    return link(from, to) < 0 ? fail(err, errno, "link", to) : ERR_OK;
}

static enum err_code real_rename(struct os *os, const char *from, const char *to, struct err *err)
{
    (void)os;
    return rename(from, to) < 0 ? fail(err, errno, "rename to", to) : ERR_OK;
}

static enum err_code real_unlink(struct os *os, const char *path, struct err *err)
{
    (void)os;
    return unlink(path) < 0 ? fail(err, errno, "unlink", path) : ERR_OK;
}

static enum err_code real_mkdir(struct os *os, const char *path, struct err *err)
{
    (void)os;
    return mkdir(path, DIR_MODE) < 0 ? fail(err, errno, "mkdir", path) : ERR_OK;
}

static enum err_code real_rmdir(struct os *os, const char *path, struct err *err)
{
    (void)os;
    return rmdir(path) < 0 ? fail(err, errno, "rmdir", path) : ERR_OK;
}

static bool entry_is_dir(DIR *dir, const struct dirent *e)
{
    struct stat st;

    if (e->d_type != DT_UNKNOWN)
        return e->d_type == DT_DIR;
    return fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

static enum err_code real_list(struct os *os, const char *path, bool (*fn)(void *arg, const char *name, bool is_dir),
                               void *arg, struct err *err)
{
    DIR *dir = opendir(path);
    (void)os;

    if (!dir)
        return fail(err, errno, "list", path);
    for (;;) {
        errno = 0;
        const struct dirent *e = readdir(dir);
        if (!e)
            break;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (!fn(arg, e->d_name, entry_is_dir(dir, e))) {
            errno = 0;
            break;
        }
    }
    int e = errno;
    (void)closedir(dir);
    return e ? fail(err, e, "list", path) : ERR_OK;
}

static enum err_code real_sync_dir(struct os *os, const char *path, struct err *err)
{
    (void)os;
    int fd = (int)RETRY(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd < 0)
        return fail(err, errno, "open", path);
    int e = RETRY(fsync(fd)) < 0 ? errno : 0;
    (void)close(fd);
    return e ? fail(err, e, "fsync of directory", path) : ERR_OK;
}

static enum err_code real_sync_fs(struct os *os, struct os_file *f, struct err *err)
{
    (void)os;
    return RETRY(syncfs(f->fd)) < 0 ? fail(err, errno, "syncfs", NULL) : ERR_OK;
}

static enum err_code real_lock_file(struct os *os, struct os_file *f, struct err *err)
{
    (void)os;
    if (RETRY(flock(f->fd, LOCK_EX | LOCK_NB)) == 0)
        return ERR_OK;
    return errno == EWOULDBLOCK ? err_set(err, ERR_CONFLICT, "another process holds the lock")
                                : fail(err, errno, "flock", NULL);
}

static enum err_code real_disk_free(struct os *os, const char *path, uint64_t *free_bytes, uint64_t *total_bytes,
                                    struct err *err)
{
    struct statvfs v;
    (void)os;

    if (RETRY(statvfs(path, &v)) < 0)
        return fail(err, errno, "statvfs", path);
    *free_bytes = (uint64_t)v.f_bavail * v.f_frsize;
    *total_bytes = (uint64_t)v.f_blocks * v.f_frsize;
    return ERR_OK;
}

/* ---- clock, random */

static int64_t clock_us(clockid_t id)
{
    struct timespec ts;
    (void)clock_gettime(id, &ts);
    return ts.tv_sec * INT64_C(1000000) + ts.tv_nsec / 1000;
}

static int64_t real_wall_us(struct os *os)
{
    (void)os;
    return clock_us(CLOCK_REALTIME);
}

static int64_t real_mono_us(struct os *os)
{
    (void)os;
    return clock_us(CLOCK_MONOTONIC);
}

static void real_random(struct os *os, void *p, size_t len)
{
    uint8_t *at = p;
    (void)os;

    while (len) {
        long n = RETRY(getrandom(at, MIN(len, 256), 0));
        ASSERT(n > 0); /* there since Linux 3.17 */
        at += n;
        len -= (size_t)n;
    }
}

static void real_sleep_us(struct os *os, int64_t us)
{
    struct timespec ts = {us / 1000000, us % 1000000 * 1000};
    (void)os;
    while (us > 0 && nanosleep(&ts, &ts) < 0 && errno == EINTR)
        ;
}

/* ---- threads */

static struct os_mutex *real_mutex_new(struct os *os)
{
    struct os_mutex *m = mem_alloc(sizeof(*m));
    (void)os;
    ASSERT(pthread_mutex_init(&m->mu, NULL) == 0);
    return m;
}

static void real_mutex_free(struct os *os, struct os_mutex *m)
{
    (void)os;
    if (!m)
        return;
    ASSERT(pthread_mutex_destroy(&m->mu) == 0);
    free(m);
}

static void real_mutex_lock(struct os *os, struct os_mutex *m)
{
    (void)os;
    ASSERT(pthread_mutex_lock(&m->mu) == 0);
}

static void real_mutex_unlock(struct os *os, struct os_mutex *m)
{
    (void)os;
    ASSERT(pthread_mutex_unlock(&m->mu) == 0);
}

static struct os_cond *real_cond_new(struct os *os)
{
    struct os_cond *c = mem_alloc(sizeof(*c));
    pthread_condattr_t attr;
    (void)os;

    ASSERT(pthread_condattr_init(&attr) == 0);
    ASSERT(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    ASSERT(pthread_cond_init(&c->cond, &attr) == 0);
    (void)pthread_condattr_destroy(&attr);
    return c;
}

static void real_cond_free(struct os *os, struct os_cond *c)
{
    (void)os;
    if (!c)
        return;
    ASSERT(pthread_cond_destroy(&c->cond) == 0);
    free(c);
}

static bool real_cond_wait(struct os *os, struct os_cond *c, struct os_mutex *m, int64_t wait_us)
{
    if (wait_us < 0)
        return pthread_cond_wait(&c->cond, &m->mu) == 0;
    int64_t until = real_mono_us(os) + wait_us;
    const struct timespec ts = {until / 1000000, until % 1000000 * 1000};
    return pthread_cond_timedwait(&c->cond, &m->mu, &ts) == 0;
}

static void real_cond_broadcast(struct os *os, struct os_cond *c)
{
    (void)os;
    ASSERT(pthread_cond_broadcast(&c->cond) == 0);
}

static void *thread_main(void *arg)
{
    struct os_thread *t = arg;
    t->fn(t->arg);
    return NULL;
}

static struct os_thread *real_thread_new(struct os *os, const char *name, void (*fn)(void *arg), void *arg)
{
    struct os_thread *t = mem_alloc(sizeof(*t));
    (void)os;

    t->fn = fn;
    t->arg = arg;
    ASSERT(pthread_create(&t->id, NULL, thread_main, t) == 0);
    (void)pthread_setname_np(t->id, name); /* for people with top -H; too long a name is left out */
    return t;
}

static void real_thread_join(struct os *os, struct os_thread *t)
{
    (void)os;
    if (!t)
        return;
    ASSERT(pthread_join(t->id, NULL) == 0);
    free(t);
}

enum err_code os_fd_checksum(int fd, uint64_t *size, uint32_t *crc, struct err *err)
{
    _cleanup_(freep) uint8_t *bytes = mem_alloc(1u << 18);
    uint32_t c = 0;
    uint64_t at = 0;

    for (;;) {
        long n = RETRY(pread(fd, bytes, 1u << 18, (off_t)at));
        if (n < 0)
            return fail(err, errno, "read", NULL);
        if (n == 0)
            break;
        c = crc32c(c, bytes, (size_t)n);
        at += (uint64_t)n;
    }
    *size = at;
    *crc = c;
    return ERR_OK;
}

enum err_code os_fd_alias(int *alias, struct err *err)
{
    *alias = open("/dev/null", O_RDWR | O_CLOEXEC);
    return *alias < 0 ? fail(err, errno, "open", "/dev/null") : ERR_OK;
}

enum err_code os_fd_stand(int alias, int fd, struct err *err)
{
    return RETRY(dup3(fd, alias, O_CLOEXEC)) < 0 ? fail(err, errno, "dup3", NULL) : ERR_OK;
}

void os_fd_close(int alias)
{
    if (alias >= 0)
        (void)close(alias);
}

struct os *os_real(void)
{
    static const struct os_ops ops = {
        .open = real_open,
        .close = real_close,
        .pread = real_pread,
        .pwritev = real_pwritev,
        .sync = real_sync,
        .truncate = real_truncate,
        .allocate = real_allocate,
        .size = real_size,
        .fd = real_fd,
        .stat = real_stat,
        .link_file = real_link_file,
        .link = real_link,
        .rename = real_rename,
        .unlink = real_unlink,
        .mkdir = real_mkdir,
        .rmdir = real_rmdir,
        .list = real_list,
        .sync_dir = real_sync_dir,
        .sync_fs = real_sync_fs,
        .lock_file = real_lock_file,
        .disk_free = real_disk_free,
        .wall_us = real_wall_us,
        .mono_us = real_mono_us,
        .random = real_random,
        .sleep_us = real_sleep_us,
        .mutex_new = real_mutex_new,
        .mutex_free = real_mutex_free,
        .mutex_lock = real_mutex_lock,
        .mutex_unlock = real_mutex_unlock,
        .cond_new = real_cond_new,
        .cond_free = real_cond_free,
        .cond_wait = real_cond_wait,
        .cond_broadcast = real_cond_broadcast,
        .thread_new = real_thread_new,
        .thread_join = real_thread_join,
    };
    static struct os os = {&ops};
    return &os;
}
