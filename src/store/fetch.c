/* fetch.c: what is the same for all stores: an object as a whole, piece by piece, or copied at the server; many keys removed. */
#include "base/hash.h"
#include "store/store.h"

#define PIECE_BYTES (8u << 20)

static enum err_code fetch(struct os *os, struct store *s, slice key, struct os_file *copy, struct buf *piece,
                           uint64_t *size, uint32_t *crc, struct err *err)
{
    do {
        piece->len = 0;
        TRY(s->ops->read(s, key, *size, PIECE_BYTES, piece, NULL, err));
        *crc = crc32c(*crc, piece->ptr, piece->len);
        if (copy && piece->len)
            TRY(os->ops->pwritev(os, copy, &(struct os_iov){piece->ptr, piece->len}, 1, *size, err));
        *size += piece->len;
    } while (piece->len == PIECE_BYTES);
    return ERR_OK;
}

enum err_code store_fetch(struct os *os, struct store *s, slice key, struct os_file *copy, uint64_t *size,
                          uint32_t *crc, struct err *err)
{
    _cleanup_(buf_done) struct buf piece = BUF_INIT;

    *size = 0;
    *crc = 0;
    return fetch(os, s, key, copy, &piece, size, crc, err);
}

enum err_code store_copy(struct store *to, slice key, const struct store_source *from, bool *copied, struct err *err)
{
    *copied = false;
    if (!to->ops->copy_from)
        return ERR_OK;
    enum err_code rc = to->ops->copy_from(to, key, from, copied, err);
    if (rc != ERR_UNKNOWN && rc != ERR_UNAVAILABLE)
        return rc;
    *copied = false;
    return ERR_OK;
}

static enum err_code remove_each(struct store *s, const slice *keys, size_t count, struct err *err)
{
    enum err_code first = ERR_OK;

    for (size_t i = 0; i < count; i++) {
        struct err why = {0};
        enum err_code rc = s->ops->remove(s, keys[i], &why);
        if (rc == ERR_OK || first != ERR_OK)
            continue;
        first = rc;
        if (err)
            *err = why;
    }
    return first;
}

enum err_code store_remove_many(struct store *s, const slice *keys, size_t count, struct err *err)
{
    if (!s->ops->remove_many)
        return remove_each(s, keys, count, err);
    for (size_t i = 0; i < count; i += STORE_REMOVE_MAX)
        TRY(s->ops->remove_many(s, keys + i, MIN(count - i, (size_t)STORE_REMOVE_MAX), err));
    return ERR_OK;
}
