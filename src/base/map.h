/* map.h: hash table from byte keys to pointers, open addressing, insertion only plus removal; the caller owns keys'
 * bytes and values. THREADS one at a time. */
#pragma once
#include "base/slice.h"

struct map_entry {
    slice key; /* ptr NULL: free */
    void *value;
    uint64_t hash;
};
struct map {
    struct map_entry *entries;
    size_t count, cap; /* cap is a power of two or 0 */
};
#define MAP_INIT ((struct map){0})

void *map_get(const struct map *m, slice key); /* NULL if absent */
/* Adds or replaces; the key's bytes must live as long as the entry. Returns the value that stood there before. */
void *map_put(struct map *m, slice key, void *value);
void *map_del(struct map *m, slice key); /* the value taken out, or NULL */
void map_done(struct map *m);
/* for (size_t i = 0; (e = map_next(&m, &i)); ) in table order */
struct map_entry *map_next(const struct map *m, size_t *at);
