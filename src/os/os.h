/* os.h: the only door to the operating system for code that must survive crashes or run in the simulator: files, clock,
 * random, locks. `struct os` is a table of calls; os_real() is the machine, sim/ has a twin whose disk tears and drops
 * what was not synced, whose clock jumps, and whose locks and sleeps hand over to other simulated tasks.
 *
 * INVARIANTS
 *   I1  What os_sync()/os_sync_dir() covered with ERR_OK survives a power cut; anything else may be lost, torn at 512-byte
 *       sectors, or kept, in any order.
 *   I2  After a failed sync the state of unsynced bytes is unknown: callers treat the file as poisoned.
 * Paths are NUL-terminated. Errors: ERR_NOT_FOUND (ENOENT), ERR_CONFLICT (EEXIST), ERR_LIMIT (ENOSPC, EDQUOT, EMFILE),
 * ERR_IO (everything else); errno is kept in err->os_errno and goes no further.
 * THREADS  any; one os_file must not be closed while another thread uses it. */
#pragma once
#include "base/err.h"
#include "base/mem.h"

struct os;
struct os_file;
struct os_mutex;
struct os_cond;
struct os_thread;

enum os_open_flags {
    OS_READ = 1,
    OS_WRITE = 2,
    OS_CREATE = 4, /* mode 0600 */
    OS_EXCL = 8,   /* with OS_CREATE: ERR_CONFLICT if it exists */
    OS_TRUNC = 16,
    OS_UNNAMED = 32, /* `path` is a directory: O_TMPFILE, named later by os_link_file(); O_TMPFILE refused by the file
                        system is ERR_IO */
};
struct os_iov {
    const void *ptr;
    size_t len;
};
struct os_stat {
    uint64_t size;
    int64_t mtime_us;
    bool is_dir;
};
struct os_ops {
    enum err_code (*open)(struct os *os, const char *path, unsigned flags, struct os_file **out, struct err *err);
    void (*close)(struct os *os, struct os_file *f); /* NULL is fine */
    /* Reads up to len bytes at offset; *got < len only at the end of the file. */
    enum err_code (*pread)(struct os *os, struct os_file *f, void *p, size_t len, uint64_t offset, size_t *got,
                           struct err *err);
    enum err_code (*pwritev)(struct os *os, struct os_file *f, const struct os_iov *iov, int n, uint64_t offset,
                             struct err *err);
    enum err_code (*sync)(struct os *os, struct os_file *f, struct err *err); /* fdatasync */
    enum err_code (*truncate)(struct os *os, struct os_file *f, uint64_t size, struct err *err);
    enum err_code (*allocate)(struct os *os, struct os_file *f, uint64_t size,
                              struct err *err); /* zero-filled, sized */
    enum err_code (*size)(struct os *os, struct os_file *f, uint64_t *size, struct err *err);
    int (*fd)(struct os *os, struct os_file *f); /* the real descriptor, or -1 in the simulator */
    enum err_code (*stat)(struct os *os, const char *path, struct os_stat *out, struct err *err);
    enum err_code (*link_file)(struct os *os, struct os_file *f, const char *path,
                               struct err *err); /* names an unnamed file */
    enum err_code (*link)(struct os *os, const char *from, const char *to, struct err *err);
    enum err_code (*rename)(struct os *os, const char *from, const char *to, struct err *err); /* replaces `to` */
    enum err_code (*unlink)(struct os *os, const char *path, struct err *err);
    enum err_code (*mkdir)(struct os *os, const char *path, struct err *err); /* 0700; ERR_CONFLICT if it exists */
    enum err_code (*rmdir)(struct os *os, const char *path, struct err *err);
    /* Calls fn for each name but "." and "..", in any order; fn returns false to stop. */
    enum err_code (*list)(struct os *os, const char *path, bool (*fn)(void *arg, const char *name, bool is_dir),
                          void *arg, struct err *err);
    enum err_code (*sync_dir)(struct os *os, const char *path, struct err *err);
    /* Everything written and named so far on the file system of `f`, as sync() and sync_dir() of all of it would. An error of any write since
     * `f` was opened is reported, once. NULL in the simulator: sync one by one. */
    enum err_code (*sync_fs)(struct os *os, struct os_file *f, struct err *err);
    enum err_code (*lock_file)(struct os *os, struct os_file *f,
                               struct err *err); /* flock, exclusive, no wait: ERR_CONFLICT */
    enum err_code (*disk_free)(struct os *os, const char *path, uint64_t *free_bytes, uint64_t *total_bytes,
                               struct err *err);
    int64_t (*wall_us)(struct os *os);
    int64_t (*mono_us)(struct os *os);
    void (*random)(struct os *os, void *p, size_t len);
    void (*sleep_us)(struct os *os, int64_t us);
    struct os_mutex *(*mutex_new)(struct os *os);
    void (*mutex_free)(struct os *os, struct os_mutex *m);
    void (*mutex_lock)(struct os *os, struct os_mutex *m);
    void (*mutex_unlock)(struct os *os, struct os_mutex *m);
    struct os_cond *(*cond_new)(struct os *os);
    void (*cond_free)(struct os *os, struct os_cond *c);
    /* Waits until signalled or until wait_us passed (negative: no limit); false on time-out. Spurious wake-ups happen. */
    bool (*cond_wait)(struct os *os, struct os_cond *c, struct os_mutex *m, int64_t wait_us);
    void (*cond_broadcast)(struct os *os, struct os_cond *c);
    struct os_thread *(*thread_new)(struct os *os, const char *name, void (*fn)(void *arg), void *arg);
    void (*thread_join)(struct os *os, struct os_thread *t); /* frees it; NULL is fine */
};
struct os {
    const struct os_ops *ops;
};
struct os *os_real(void); /* one per process, never freed */

static inline int64_t os_wall_us(struct os *os)
{
    return os->ops->wall_us(os);
}
static inline int64_t os_mono_us(struct os *os)
{
    return os->ops->mono_us(os);
}
static inline void os_lock(struct os *os, struct os_mutex *m)
{
    os->ops->mutex_lock(os, m);
}
static inline void os_unlock(struct os *os, struct os_mutex *m)
{
    os->ops->mutex_unlock(os, m);
}
/* The calls above, then helpers over them. */
MUST_CHECK enum err_code os_mkdirs(struct os *os, const char *path,
                                   struct err *err); /* parents too, each synced in its parent */
MUST_CHECK enum err_code os_read_file(struct os *os, const char *path, size_t size_max, uint8_t **out, size_t *len,
                                      struct err *err);
/* Replaces `path` as a whole or not at all: temporary file, sync, rename, sync of the directory. Mode 0600. */
MUST_CHECK enum err_code os_write_file(struct os *os, const char *path, slice bytes, struct err *err);
/* Size and crc32c of a whole file that another library wrote through its descriptor. */
MUST_CHECK enum err_code os_fd_checksum(int fd, uint64_t *size, uint32_t *crc, struct err *err);
/* The same of the file at a path. */
MUST_CHECK enum err_code os_file_checksum(struct os *os, const char *path, uint64_t *bytes, uint32_t *crc,
                                          struct err *err);
/* A descriptor whose number stays while the files behind it change, for a library that is told /proc/self/fd/<number>: of /dev/null, until
 * os_fd_stand() has it stand for another one. */
MUST_CHECK enum err_code os_fd_alias(int *alias, struct err *err);
MUST_CHECK enum err_code os_fd_stand(int alias, int fd, struct err *err);
void os_fd_close(int alias); /* negative: nothing */
