/* wal_fuzz.c: any bytes as a segment file and as a header file. */
#include "wal/wal_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    slice file = slice_of(data, size), body;
    struct wal_segment_head head;
    struct wal_header text;
    struct err err;
    uint64_t at = WAL_SEGMENT_HEAD, sum = 0;

    (void)wal_segment_head_get(file, &head);
    while (wal_record_get(file, 1, &at, &body))
        for (size_t i = 0; i < body.len; i++)
            sum += body.ptr[i];
    struct wal_tail tail = wal_tail_scan(file, 1, at);
    ASSERT(tail.torn_bytes <= size);
    if (wal_header_parse(file, &text, &err) == ERR_OK) {
        struct buf b = BUF_INIT;
        wal_header_print(&text, &b);
        ASSERT(slice_eq(buf_view(&b), file));
        buf_done(&b);
    }
    return (int)(sum & 0);
}
