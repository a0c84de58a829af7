/* slice.h: borrowed bytes or text, unterminated, maybe holding zeros. Print with SLICE_FMT / SLICE_ARG. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct slice {
    const uint8_t *ptr;
    size_t len;
} slice;

#define slice_lit(s) ((slice){(const uint8_t *)(s), sizeof(s) - 1})
#define SLICE_FMT "%.*s"
#define SLICE_ARG(s) (int)((s).len > 2000 ? 2000 : (s).len), (const char *)(s).ptr

static inline slice slice_str(const char *s)
{
    return (slice){(const uint8_t *)s, s ? strlen(s) : 0};
}
static inline slice slice_of(const void *ptr, size_t len)
{
    return (slice){(const uint8_t *)ptr, len};
}
static inline int slice_memcmp(slice a, slice b, size_t n)
{
    if (n == 0)
        return 0;
    if (!a.ptr || !b.ptr)
        __builtin_unreachable(); /* what has a length has bytes: the static analyzer does not know */
    return memcmp(a.ptr, b.ptr, n);
}
static inline bool slice_eq(slice a, slice b)
{
    return a.len == b.len && slice_memcmp(a, b, a.len) == 0;
}
/* Byte order, shorter first on a tie: the order of keys in a store. */
static inline int slice_cmp(slice a, slice b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int c = slice_memcmp(a, b, n);
    return c ? c : (a.len > b.len) - (a.len < b.len);
}
static inline bool slice_starts(slice s, slice prefix)
{
    return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.ptr, prefix.ptr, prefix.len) == 0);
}
static inline bool slice_ends(slice s, slice suffix)
{
    return s.len >= suffix.len &&
           (suffix.len == 0 || memcmp(s.ptr + (s.len - suffix.len), suffix.ptr, suffix.len) == 0);
}
/* Bytes [from, end), clamped to the slice. */
static inline slice slice_from(slice s, size_t from)
{
    if (from > s.len)
        from = s.len;
    return (slice){s.ptr + from, s.len - from};
}
static inline slice slice_head(slice s, size_t len)
{
    return (slice){s.ptr, len < s.len ? len : s.len};
}
/* ASCII case-insensitive equality: HTTP header names, units. */
bool slice_eq_nocase(slice a, slice b);
slice slice_trim(slice s); /* ASCII white space at both ends */
/* Decimal digits only, no sign, no overflow; false otherwise. */
bool slice_u64(slice s, uint64_t *out);
