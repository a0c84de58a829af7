#include "base/buf.h"

#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>

void buf_reserve(struct buf *b, size_t more)
{
    size_t need = b->len + more, cap = b->cap ? b->cap : 64;

    ASSERT(need >= more);
    while (cap < need)
        cap *= 2;
    if (cap != b->cap) {
        b->ptr = mem_realloc(b->ptr, cap);
        b->cap = cap;
    }
}

void buf_fmt(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    int n;

    buf_reserve(b, 128);
    va_start(ap, fmt);
    n = vsnprintf((char *)b->ptr + b->len, b->cap - b->len, fmt, ap);
    va_end(ap);
    if (n < 0)
        return;
    if ((size_t)n >= b->cap - b->len) {
        buf_reserve(b, (size_t)n + 1);
        va_start(ap, fmt);
        (void)vsnprintf((char *)b->ptr + b->len, b->cap - b->len, fmt, ap);
        va_end(ap);
    }
    b->len += (size_t)n;
}

void buf_json_str(struct buf *b, slice s)
{
    static const char hex[] = "0123456789abcdef";
    size_t from = 0;

    buf_byte(b, '"');
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.ptr[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        buf_put(b, s.ptr + from, i - from);
        from = i + 1;
        buf_byte(b, '\\');
        switch (c) {
        case '"':
        case '\\': buf_byte(b, c); break;
        case '\n': buf_byte(b, 'n'); break;
        case '\r': buf_byte(b, 'r'); break;
        case '\t': buf_byte(b, 't'); break;
        case '\b': buf_byte(b, 'b'); break;
        case '\f': buf_byte(b, 'f'); break;
        default:
            buf_str(b, "u00");
            buf_byte(b, (uint8_t)hex[c >> 4]);
            buf_byte(b, (uint8_t)hex[c & 15]);
        }
    }
    buf_put(b, s.ptr + from, s.len - from);
    buf_byte(b, '"');
}

const char *buf_cstr(struct buf *b)
{
    buf_reserve(b, 1);
    b->ptr[b->len] = 0;
    return (const char *)b->ptr;
}

void buf_done(struct buf *b)
{
    free(b->ptr);
    *b = BUF_INIT;
}

void buf_wipe(struct buf *b)
{
    if (b->cap)
        explicit_bzero(b->ptr, b->cap);
    buf_done(b);
}
