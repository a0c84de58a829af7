/* helpers.c: whole-file and directory helpers over the calls of struct os. */
#include <errno.h>

#include "os/os.h"

static enum err_code sync_parent(struct os *os, const char *path, struct err *err)
{
    _cleanup_(freep) char *p = mem_str(slice_str(path));
    char *slash = strrchr(p, '/');

    if (slash)
        *(slash == p ? slash + 1 : slash) = 0;
    return os->ops->sync_dir(os, slash ? p : ".", err);
}

/* A directory that is there already may be what an earlier call made before its sync failed, or was not reached. */
enum err_code os_mkdirs(struct os *os, const char *path, struct err *err)
{
    _cleanup_(freep) char *p = mem_str(slice_str(path));
    struct os_stat st;

    if (os->ops->stat(os, path, &st, err) == ERR_OK) {
        if (!st.is_dir)
            return err_set(err, ERR_IO, "%s is not a directory", path);
        enum err_code rc = strcmp(path, "/") ? sync_parent(os, path, err) : ERR_OK;
        return rc != ERR_OK && err && (err->os_errno == EACCES || err->os_errno == EPERM)
                   ? ERR_OK
                   : rc; /* not ours: it was not us */
    }
    char *slash = strrchr(p, '/');
    if (slash && slash != p) {
        *slash = 0;
        TRY(os_mkdirs(os, p, err));
    }
    enum err_code rc = os->ops->mkdir(os, path, err);
    if (rc != ERR_OK && rc != ERR_CONFLICT)
        return rc;
    return sync_parent(os, path, err);
}

enum err_code os_read_file(struct os *os, const char *path, size_t size_max, uint8_t **out, size_t *len,
                           struct err *err)
{
    _cleanup_(freep) uint8_t *bytes = NULL;
    struct os_file *f;
    uint64_t size;

    TRY(os->ops->open(os, path, OS_READ, &f, err));
    enum err_code rc = os->ops->size(os, f, &size, err);
    if (rc == ERR_OK && size > size_max)
        rc = err_set(err, ERR_LIMIT, "%s has %llu bytes, more than %zu", path, (unsigned long long)size, size_max);
    if (rc == ERR_OK) {
        bytes = mem_alloc((size_t)size + 1);
        rc = os->ops->pread(os, f, bytes, (size_t)size, 0, len, err);
    }
    os->ops->close(os, f);
    TRY(rc);
    bytes[*len] = 0;
    *out = move_ptr(bytes);
    return ERR_OK;
}

static enum err_code write_and_sync(struct os *os, struct os_file *f, slice bytes, struct err *err)
{
    const struct os_iov iov = {bytes.ptr, bytes.len};

    TRY(os->ops->pwritev(os, f, &iov, 1, 0, err));
    return os->ops->sync(os, f, err);
}

enum err_code os_write_file(struct os *os, const char *path, slice bytes, struct err *err)
{
    _cleanup_(freep) char *temp = mem_fmt("%s.new", path);
    struct os_file *f;

    TRY(os->ops->open(os, temp, OS_WRITE | OS_CREATE | OS_TRUNC, &f, err));
    enum err_code rc = write_and_sync(os, f, bytes, err);
    os->ops->close(os, f);
    TRY(rc);
    TRY(os->ops->rename(os, temp, path, err));
    return sync_parent(os, path, err);
}

enum err_code os_file_checksum(struct os *os, const char *path, uint64_t *bytes, uint32_t *crc, struct err *err)
{
    struct os_file *f;

    TRY(os->ops->open(os, path, OS_READ, &f, err));
    enum err_code rc = os_fd_checksum(os->ops->fd(os, f), bytes, crc, err);
    os->ops->close(os, f);
    return rc;
}
