/* mem.h: allocation that cannot fail (it aborts: the WAL makes that safe), cleanups, byte order, growable arrays.
 * What can grow with the input is bounded by a budget of its owner and answers ERR_LIMIT long before. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/slice.h"

void *mem_alloc(size_t size) __attribute__((malloc, returns_nonnull));
void *mem_zalloc(size_t size) __attribute__((malloc, returns_nonnull));
void *mem_realloc(void *ptr, size_t size) __attribute__((returns_nonnull));
char *mem_str(slice s) __attribute__((returns_nonnull)); /* heap C string; free() it */
char *mem_fmt(const char *fmt, ...) __attribute__((format(printf, 1, 2), returns_nonnull));

#define _cleanup_(fn) __attribute__((cleanup(fn)))
#define DEFINE_CLEANUP(type, fn)        \
    static inline void fn##p(type *ptr) \
    {                                   \
        fn(*ptr);                       \
    }
#define move_ptr(p)                 \
    ({                              \
        __typeof__(p) moved_ = (p); \
        (p) = NULL;                 \
        moved_;                     \
    })
static inline void freep(void *ptr)
{
    free(*(void **)ptr);
}
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

/* Growable array in three fields of the caller: ptr, count, cap. Makes room for one more and yields its address. */
void mem_grow(void **ptr, size_t *cap, size_t need, size_t item_size);
#define ARRAY_PUSH(ptr, count, cap)                                         \
    ({                                                                      \
        if (!(ptr) || (count) == (cap))                                     \
            mem_grow((void **)&(ptr), &(cap), (count) + 1, sizeof(*(ptr))); \
        memset(&(ptr)[(count)], 0, sizeof(*(ptr)));                         \
        &(ptr)[(count)++];                                                  \
    })

/* Little-endian integers on disk and wire. */
static inline uint16_t le16_get(const void *p)
{
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}
static inline uint32_t le32_get(const void *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
static inline uint64_t le64_get(const void *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}
static inline void le16_put(void *p, uint16_t v)
{
    memcpy(p, &v, 2);
}
static inline void le32_put(void *p, uint32_t v)
{
    memcpy(p, &v, 4);
}
static inline void le64_put(void *p, uint64_t v)
{
    memcpy(p, &v, 8);
}
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "little-endian machines only");
