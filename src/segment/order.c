/* order.c: values as unsigned numbers of the same order, for ranges in manifests (catalog.md section 10). */
#include "segment/segment.h"

uint64_t segment_order_i64(int64_t v)
{
    return (uint64_t)v ^ UINT64_C(1) << 63;
}

/* IEEE 754 section 5.10, total order, but for the two zeros: SQL holds them equal, so they have one number. */
uint64_t segment_order_f64(double v)
{
    uint64_t bits;

    if (v == 0)
        v = 0;
    memcpy(&bits, &v, 8);
    return bits >> 63 ? ~bits : bits | UINT64_C(1) << 63;
}

uint64_t segment_order_text(slice s, bool round_up)
{
    uint64_t v = 0;

    for (size_t i = 0; i < 8; i++)
        v = v << 8 | (i < s.len ? s.ptr[i] : 0);
    return round_up && s.len > 8 && v != UINT64_MAX ? v + 1 : v;
}
