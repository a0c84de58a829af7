#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>

#define ARENA_BLOCK_BYTES_MIN 1024u
#define ARENA_BLOCK_BYTES_MAX (1u << 20)

struct arena_block {
    struct arena_block *next;
    size_t size;
    uint8_t data[];
};

void *arena_more(struct arena *a, size_t size)
{
    size_t want = a->block_min ? a->block_min : ARENA_BLOCK_BYTES_MIN;
    struct arena_block *b;

    if (size > PTRDIFF_MAX)
        (void)mem_alloc(size); /* does not return */
    size = (size + 7) & ~(size_t)7;
    a->block_min = MIN(want * 2, a->block_max ? a->block_max : ARENA_BLOCK_BYTES_MAX);
    if (want < size)
        want = size;
    b = mem_alloc(sizeof(*b) + want);
    b->size = want;
    a->bytes += want;
    if (want == size && a->head) { /* a big one of its own: keep filling the current block */
        b->next = a->head->next;
        a->head->next = b;
        return b->data;
    }
    b->next = a->head;
    a->head = b;
    a->at = b->data + size;
    a->end = b->data + want;
    return b->data;
}

slice arena_copy(struct arena *a, slice s)
{
    uint8_t *p = arena_alloc(a, s.len);
    if (s.len)
        memcpy(p, s.ptr, s.len);
    return (slice){p, s.len};
}

char *arena_str(struct arena *a, slice s)
{
    char *p = arena_alloc(a, s.len + 1);
    if (s.len)
        memcpy(p, s.ptr, s.len);
    p[s.len] = 0;
    return p;
}

char *arena_fmt(struct arena *a, const char *fmt, ...)
{
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *p = arena_alloc(a, (size_t)n + 1);
    va_start(ap, fmt);
    (void)vsnprintf(p, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return p;
}

void arena_reset(struct arena *a)
{
    struct arena_block *keep = a->head;

    if (!keep)
        return;
    a->head = keep->next;
    size_t block_min = a->block_min, block_max = a->block_max;
    arena_done(a);
    keep->next = NULL;
    *a = (struct arena){keep, keep->data, keep->data + keep->size, keep->size, block_min, block_max};
}

void arena_done(struct arena *a)
{
    for (struct arena_block *b = a->head, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    *a = ARENA_INIT;
}
