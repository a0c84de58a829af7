/* wal_fuzz.c: any bytes as a segment file, once as the last one and once with an end that the next one vouches for, and any bytes as a
 * header file. */
#include "wal/wal_int.h"

struct sum {
    uint64_t bytes, records, next;
};

static enum err_code take(void *arg, struct wal_pos pos, slice body, struct err *err)
{
    struct sum *s = arg;

    ASSERT(pos.segment == 1 && pos.offset == s->next);
    s->next += wal_record_size(body.len);
    s->records++;
    for (size_t i = 0; i < body.len; i++) /* the sanitizer sees whether they are there */
        s->bytes += body.ptr[i];
    return s->records > 100000 ? err_set(err, ERR_LIMIT, "enough") : ERR_OK;
}

/* The fuzzer cannot guess a crc: it is put right where a length says that a record could stand. */
static void mend(uint8_t *p, size_t size)
{
    uint64_t at = WAL_SEGMENT_HEAD;

    while (at < size && size - at >= WAL_RECORD_HEAD) {
        uint32_t len = le32_get(p + at + 8);
        if (len > size - at - WAL_RECORD_HEAD)
            return;
        const struct os_iov body = {p + at + WAL_RECORD_HEAD, len};
        const struct wal_record_head h = {{1, at}, len, UINT64_C(8) * le32_get(p + at + 12)};
        wal_record_head_put(p + at, &h, wal_body_crc(&body, 1));
        at += wal_record_size(len);
    }
}

static void replay(slice file, uint64_t end_wanted)
{
    struct sum sum = {.next = WAL_SEGMENT_HEAD};
    uint64_t end = 0, cut = 0;
    struct err err;

    enum err_code rc = wal_segment_replay(file, 1, end_wanted, take, &sum, &end, &cut, &err);
    if (rc == ERR_LIMIT)
        return;
    ASSERT(rc == ERR_OK || rc == ERR_CORRUPT);
    ASSERT(end == sum.next && cut <= file.len);
    ASSERT(rc != ERR_OK || !end_wanted || (end == end_wanted && cut == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    slice file = slice_of(data, size);
    struct wal_segment_head head;
    struct wal_header text;
    struct err err;

    uint64_t prev_end = wal_segment_head_get(file, &head) ? head.prev_end : size ? data[size - 1] * UINT64_C(8) : 0;
    replay(file, 0);
    replay(file, prev_end);
    _cleanup_(freep) uint8_t *copy = mem_alloc(size + 1);
    if (size)
        memcpy(copy, data, size);
    mend(copy, size);
    replay(slice_of(copy, size), 0);
    replay(slice_of(copy, size), prev_end);
    if (wal_header_parse(file, &text, &err) == ERR_OK) {
        struct buf b = BUF_INIT;
        wal_header_print(&text, &b);
        ASSERT(slice_eq(buf_view(&b), file));
        buf_done(&b);
    }
    return 0;
}
