/* range_fuzz.c: any two texts as the bounds of a query's time range; the first line is where it starts. */
#include "query/query.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    slice text = slice_of(data, size);
    const uint8_t *line = size ? memchr(data, '\n', size) : NULL;
    size_t n = line ? (size_t)(line - data) : size;
    int64_t from, to;
    struct err err;

    enum err_code rc =
        query_range(slice_head(text, n), slice_from(text, n + (line != NULL)), 1780000000000000, &from, &to, &err);
    ASSERT(rc == ERR_INVALID || (rc == ERR_OK && from <= to));
    return 0;
}
