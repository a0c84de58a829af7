#include "sim/rows.h"

#include <stdlib.h>

#include "base/hash.h"

#include "base/banned.h"

#define HEAD_BYTES 16u

void rows_encode(const struct sim_row *rows, size_t count, struct buf *out)
{
    uint8_t word[16];

    memcpy(word, "SIMROWS1", 8);
    le64_put(word + 8, count);
    buf_put(out, word, sizeof(word));
    for (size_t i = 0; i < count; i++) {
        le64_put(word, rows[i].id);
        le64_put(word + 8, (uint64_t)rows[i].time_us);
        buf_put(out, word, sizeof(word));
    }
}

bool rows_decode(slice bytes, struct sim_row **rows, size_t *count)
{
    if (bytes.len < HEAD_BYTES || memcmp(bytes.ptr, "SIMROWS1", 8) != 0 || (bytes.len - HEAD_BYTES) % 16 != 0 ||
        le64_get(bytes.ptr + 8) != (bytes.len - HEAD_BYTES) / 16)
        return false;
    *count = (bytes.len - HEAD_BYTES) / 16;
    *rows = mem_alloc((*count + 1) * sizeof(**rows));
    for (size_t i = 0; i < *count; i++)
        (*rows)[i] = (struct sim_row){le64_get(bytes.ptr + HEAD_BYTES + 16 * i),
                                      (int64_t)le64_get(bytes.ptr + HEAD_BYTES + 16 * i + 8)};
    return true;
}

uint64_t rows_hash(const struct sim_row *row)
{
    uint8_t word[8];

    le64_put(word, row->id);
    return segment_key_hash(slice_of(word, sizeof(word)));
}

static int by_hash(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

void rows_keys(const struct sim_row *rows, size_t count, struct segment_keys *out)
{
    struct segment_keys_column *c = ARRAY_PUSH(out->columns, out->count, out->cap);

    *c = (struct segment_keys_column){7, mem_alloc((count + 1) * sizeof(*c->hashes)), count};
    for (size_t i = 0; i < count; i++)
        c->hashes[i] = rows_hash(&rows[i]);
    qsort(c->hashes, count, sizeof(*c->hashes), by_hash);
}

static int newest_first(const void *a, const void *b)
{
    const struct sim_row *x = a, *y = b;

    if (x->time_us != y->time_us)
        return x->time_us < y->time_us ? 1 : -1;
    return (x->id < y->id) - (x->id > y->id);
}

enum err_code rows_write(struct os *os, struct os_file *f, struct sim_row *rows, size_t count,
                         struct segment_stats *stats, struct err *err)
{
    _cleanup_(buf_done) struct buf bytes = BUF_INIT;

    ASSERT(count > 0);
    qsort(rows, count, sizeof(*rows), newest_first);
    rows_encode(rows, count, &bytes);
    const struct os_iov iov = {bytes.ptr, bytes.len};
    TRY(os->ops->pwritev(os, f, &iov, 1, 0, err));
    *stats = (struct segment_stats){.rows = count,
                                    .bytes = bytes.len,
                                    .crc32c = crc32c(0, bytes.ptr, bytes.len),
                                    .tmin_us = rows[count - 1].time_us,
                                    .tmax_us = rows[0].time_us};
    return ERR_OK;
}
