/* arena.h: memory with one owner and one ending: a request, a query, a decoded object. Pointers never move.
 * THREADS  one at a time. */
#pragma once
#include "base/mem.h"

struct arena_block;
struct arena {
    struct arena_block *head;
    uint8_t *at, *end;
    size_t bytes;     /* handed to blocks so far: what budgets look at */
    size_t block_min; /* size of the next block, doubles up to block_max */
    size_t block_max; /* 0: 1 MiB; less where thousands of arenas live long, and half a block is lost on average */
};
#define ARENA_INIT ((struct arena){0})

void *arena_more(struct arena *a, size_t size); /* slow path of arena_alloc */
/* 8-byte aligned, not zeroed, never NULL, for 0 bytes neither; aborts when memory is out. */
static inline void *arena_alloc(struct arena *a, size_t size)
{
    void *p = a->at;

    if (!p || size > (size_t)(a->end - a->at)) /* what is left is a multiple of 8: the padding fits as well */
        return arena_more(a, size);
    a->at += (size + 7) & ~(size_t)7;
    return p;
}
static inline void *arena_zalloc(struct arena *a, size_t size)
{
    return memset(arena_alloc(a, size), 0, size);
}
slice arena_copy(struct arena *a, slice s);
char *arena_str(struct arena *a, slice s); /* NUL-terminated copy */
char *arena_fmt(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void arena_reset(struct arena *a); /* gives back all but the block in use: for memory of one row after the other */
void arena_done(struct arena *a);  /* frees all; the arena is empty and usable again */
