/* point_fuzz.c: any body as the description of a backup. What was read is written, and then reads the same. */
#include "backup/point.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(buf_done) struct buf bytes = BUF_INIT, body = BUF_INIT, again = BUF_INIT;
    struct nonce nonce = {{1}};
    struct slot s;
    struct point p, q;
    struct err err;

    if (size > SLOT_BODY_BYTES_MAX)
        return 0;
    slot_encode(SLOT_POINT, 3, &nonce, NULL, slice_of(data, size), &bytes);
    if (slot_decode(buf_view(&bytes), SLOT_POINT, 3, &s, &err) != ERR_OK)
        return 0;
    enum err_code rc = point_decode(&s, &p, &err);
    ASSERT(rc == ERR_OK || rc == ERR_CORRUPT);
    slot_done(&s);
    if (rc != ERR_OK)
        return 0;
    point_encode(&p, &body);
    bytes.len = 0;
    slot_encode(SLOT_POINT, 3, &nonce, NULL, buf_view(&body), &bytes);
    ASSERT(slot_decode(buf_view(&bytes), SLOT_POINT, 3, &s, &err) == ERR_OK && point_decode(&s, &q, &err) == ERR_OK);
    slot_done(&s);
    point_encode(&q, &again);
    ASSERT(slice_eq(buf_view(&body), buf_view(&again)));
    point_done(&p);
    point_done(&q);
    return 0;
}
