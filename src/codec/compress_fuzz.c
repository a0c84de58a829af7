/* compress_fuzz.c: any bytes as any coding, and as an Accept-Encoding header. */
#include "codec/compress.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf out = BUF_INIT;
    struct err err;

    if (size == 0)
        return 0;
    (void)coding_negotiate(slice_of(data, size));
    if (decompress((enum coding)(data[0] % 5), slice_of(data + 1, size - 1), 1u << 20, &out, &err) == ERR_OK)
        ASSERT(out.len <= 1u << 20);
    buf_done(&out);
    return 0;
}
