/* order.c: values as unsigned numbers of the same order, for ranges in manifests (catalog.md section 10). */
#include "segment/segment.h"

uint64_t segment_order_text(slice s, bool round_up)
{
    uint64_t v = 0;

    for (size_t i = 0; i < 8; i++)
        v = v << 8 | (i < s.len ? s.ptr[i] : 0);
    return round_up && s.len > 8 && v != UINT64_MAX ? v + 1 : v;
}
