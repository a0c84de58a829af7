#include "base/map.h"

#include "base/hash.h"
#include "base/mem.h"

static const uint8_t empty_key[1];

static struct map_entry *find(const struct map *m, slice key, uint64_t h)
{
    size_t i = h & (m->cap - 1);
    while (m->entries[i].key.ptr && !(m->entries[i].hash == h && slice_eq(m->entries[i].key, key)))
        i = (i + 1) & (m->cap - 1);
    return &m->entries[i];
}

void *map_get(const struct map *m, slice key)
{
    return m->cap ? find(m, key, hash64(key, 0))->value : NULL;
}

static void grow(struct map *m)
{
    struct map old = *m;

    m->cap = old.cap ? old.cap * 2 : 16;
    m->entries = mem_zalloc(m->cap * sizeof(*m->entries));
    for (size_t i = 0; i < old.cap; i++)
        if (old.entries[i].key.ptr)
            *find(m, old.entries[i].key, old.entries[i].hash) = old.entries[i];
    free(old.entries);
}

void *map_put(struct map *m, slice key, void *value)
{
    uint64_t h = hash64(key, 0);

    if (!key.ptr)
        key.ptr = empty_key;
    if ((m->count + 1) * 4 > m->cap * 3)
        grow(m);
    struct map_entry *e = find(m, key, h);
    void *old = e->value;
    if (!e->key.ptr)
        m->count++;
    *e = (struct map_entry){key, value, h};
    return old;
}

void *map_del(struct map *m, slice key)
{
    if (!m->cap)
        return NULL;
    struct map_entry *e = find(m, key, hash64(key, 0));
    void *old = e->value;
    if (!e->key.ptr)
        return NULL;
    size_t hole = (size_t)(e - m->entries), mask = m->cap - 1;
    for (size_t i = (hole + 1) & mask; m->entries[i].key.ptr; i = (i + 1) & mask) {
        size_t home = m->entries[i].hash & mask;
        if (((i - home) & mask) >= ((i - hole) & mask)) { /* may move back into the hole */
            m->entries[hole] = m->entries[i];
            hole = i;
        }
    }
    m->entries[hole] = (struct map_entry){0};
    m->count--;
    return old;
}

void map_done(struct map *m)
{
    free(m->entries);
    *m = MAP_INIT;
}

struct map_entry *map_next(const struct map *m, size_t *at)
{
    while (*at < m->cap)
        if (m->entries[(*at)++].key.ptr)
            return &m->entries[*at - 1];
    return NULL;
}
