#include "sim/pool.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifdef SIM_NO_POOL
void pool_begin(void)
{
}
void pool_end(void)
{
}
bool pool_pause(bool paused)
{
    (void)paused;
    return false;
}
size_t pool_used(void)
{
    return 0;
}
void *pool_alloc(size_t size)
{
    return malloc(size);
}
void pool_free(void *p)
{
    free(p);
}
#else

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void __real_free(void *p);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void __wrap_free(void *p);

/* Each block has its class in the 16 bytes before it; freed blocks of a class (a power of two) are chained. */
#define POOL_BYTES (4ull << 30) /* address space, not memory */
#define POOL_BASE ((uint8_t *)0x5a0000000000ull)
#define CLASSES 33
static uint8_t *base, *at;
static bool active;
static void *free_list[CLASSES];

static bool mine(const void *p)
{
    return base && (const uint8_t *)p >= base && (const uint8_t *)p < base + POOL_BYTES;
}

void pool_begin(void)
{
    if (!base) {
        void *p =
            mmap(POOL_BASE, POOL_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED)
            abort();
        base = p;
    }
    at = base;
    memset(free_list, 0, sizeof(free_list));
    active = true;
}

void pool_end(void)
{
    active = false;
    if (base && (size_t)(at - base) > (256u << 20)) /* one giant world does not keep its pages */
        (void)madvise(base, POOL_BYTES, MADV_DONTNEED);
    at = base;
}

bool pool_pause(bool paused)
{
    bool was = !active;
    active = !paused;
    return was;
}

size_t pool_used(void)
{
    return base ? (size_t)(at - base) : 0;
}

static unsigned class_of(size_t size)
{
    return size <= 16 ? 4 : 64 - (unsigned)__builtin_clzll(size - 1);
}

void *pool_alloc(size_t size)
{
    unsigned c = class_of(size);
    uint8_t *p;

    if (!active)
        return __real_malloc(size);
    if (c >= CLASSES)
        return NULL;
    if (free_list[c]) {
        p = free_list[c];
        memcpy(&free_list[c], p, sizeof(void *));
        return p;
    }
    size_t whole = ((size_t)1 << c) + 16;
    if ((size_t)(base + POOL_BYTES - at) < whole)
        abort();
    at[0] = (uint8_t)c;
    p = at + 16;
    at += whole;
    return p;
}

void pool_free(void *p)
{
    if (!mine(p)) {
        __real_free(p);
        return;
    }
    if (!active)
        return; /* the world is gone, and the block with it */
    unsigned c = ((uint8_t *)p)[-16];
#ifndef NDEBUG
    memset(p, 0xdd, (size_t)1 << c);
#endif
    memcpy(p, &free_list[c], sizeof(void *));
    free_list[c] = p;
}

void *__wrap_malloc(size_t size)
{
    return pool_alloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    size_t bytes;

    if (!active)
        return __real_calloc(n, size);
    if (__builtin_mul_overflow(n, size, &bytes))
        return NULL;
    void *p = pool_alloc(bytes);
    return p ? memset(p, 0, bytes) : NULL;
}

void *__wrap_realloc(void *p, size_t size)
{
    if (!p)
        return pool_alloc(size);
    if (!mine(p))
        return __real_realloc(p, size);
    size_t old = (size_t)1 << ((uint8_t *)p)[-16];
    if (size <= old)
        return p;
    void *q = pool_alloc(size);
    if (q) {
        memcpy(q, p, old);
        pool_free(p);
    }
    return q;
}

void __wrap_free(void *p)
{
    pool_free(p);
}
#endif
