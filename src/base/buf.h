/* buf.h: growable bytes with one owner, for building text and messages. THREADS one at a time. */
#pragma once
#include "base/mem.h"

struct buf {
    uint8_t *ptr;
    size_t len, cap;
};
#define BUF_INIT ((struct buf){0})

void buf_reserve(struct buf *b, size_t more); /* room for `more` bytes after len */
static inline void buf_put(struct buf *b, const void *p, size_t n)
{
    if (b->cap - b->len < n)
        buf_reserve(b, n);
    if (n)
        memcpy(b->ptr + b->len, p, n);
    b->len += n;
}
static inline void buf_byte(struct buf *b, uint8_t c)
{
    if (b->cap == b->len)
        buf_reserve(b, 1);
    b->ptr[b->len++] = c;
}
static inline void buf_slice(struct buf *b, slice s)
{
    buf_put(b, s.ptr, s.len);
}
static inline void buf_str(struct buf *b, const char *s)
{
    buf_put(b, s, strlen(s));
}
void buf_fmt(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_json_str(struct buf *b, slice s); /* quoted and escaped as JSON (RFC 8259 section 7) */
static inline slice buf_view(const struct buf *b)
{
    return (slice){b->ptr, b->len};
}
const char *buf_cstr(struct buf *b); /* NUL after the last byte (not counted), valid until the next write */
void buf_done(struct buf *b);        /* frees; the buffer is empty and usable again */
void buf_wipe(struct buf *b);        /* the same for secrets: none of its bytes stay in memory */
