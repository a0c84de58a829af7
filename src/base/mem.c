#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>

static _Noreturn void out_of_memory(size_t size)
{
    (void)fprintf(stderr, "sluice: out of memory (%zu bytes); acknowledged rows are safe in the WAL\n", size);
    abort();
}

void *mem_alloc(size_t size)
{
    void *p = malloc(size ? size : 1);
    if (!p)
        out_of_memory(size);
    return p;
}

void *mem_zalloc(size_t size)
{
    void *p = calloc(1, size ? size : 1);
    if (!p)
        out_of_memory(size);
    return p;
}

void *mem_realloc(void *ptr, size_t size)
{
    void *p = realloc(ptr, size ? size : 1);
    if (!p)
        out_of_memory(size);
    return p;
}

char *mem_str(slice s)
{
    char *p = mem_alloc(s.len + 1);
    if (s.len)
        memcpy(p, s.ptr, s.len);
    p[s.len] = 0;
    return p;
}

char *mem_fmt(const char *fmt, ...)
{
    char *p = NULL;
    va_list ap;

    va_start(ap, fmt);
    if (vasprintf(&p, fmt, ap) < 0)
        out_of_memory(0);
    va_end(ap);
    return p;
}

void mem_grow(void **ptr, size_t *cap, size_t need, size_t item_size)
{
    size_t n = *cap ? *cap * 2 : 8, bytes;

    if (n < need)
        n = need;
    if (__builtin_mul_overflow(n, item_size, &bytes))
        out_of_memory(SIZE_MAX);
    *ptr = mem_realloc(*ptr, bytes);
    *cap = n;
}
