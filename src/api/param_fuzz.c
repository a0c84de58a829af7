/* param_fuzz.c: any bytes as a path element and as a query parameter's value. */
#include "api/api_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(arena_done) struct arena arena = ARENA_INIT;

    for (int plus = 0; plus < 2; plus++) {
        slice s = percent_decode(&arena, slice_of(data, size), plus);
        ASSERT(s.len <= size && s.ptr[s.len] == 0);
        if (!size || (!memchr(data, '%', size) && !memchr(data, '+', size)))
            ASSERT(slice_eq(s, slice_of(data, size)));
    }
    return 0;
}
