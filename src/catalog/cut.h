/* cut.h: one consistent point of all streams, as the objects that hold it: what a backup copies.
 *
 * A point is a position of every lane: the last record that is in it. Each stream is in it with the newest head that was read and the records
 * that this head does not cover; a head that covers a record above a lane's position would bring more of one stream than of the others, so
 * the lanes are read on until no head does. What is in the point of one node is thus a prefix of what it committed, for all streams alike,
 * and a record is in it whole. Lanes of different nodes are read one after the other: between nodes the point promises nothing.
 *
 * The objects are the tail of each name, a head, the tail checkpoint of each shard and the records above the checkpoints; beside these, the
 * manifests, filters and data files that cut_objects() names. A store that holds the same bytes under the same keys, and nothing later, is the point.
 * Data files may be collected a while after another head took their place (catalog.md section 9): who reads one that is gone takes a new cut.
 * THREADS  one at a time. TESTS tests/test_backup.py. */
#pragma once
#include "base/arena.h"
#include "catalog/catalog.h"

struct cut_stream {
    slice name;
    struct sid sid;
    uint64_t name_slot, head_slot; /* head: SLOT_NONE: the stream has none yet (catalog_int.h, BARE) */
    struct stream_version *version;
};
struct cut_lane {
    char name[24];
    uint64_t first, last; /* records: those above the checkpoints, and the tail */
};
struct cut {
    struct arena arena;
    struct cut_stream *streams; /* by sid */
    size_t streams_count;
    struct cut_lane *lanes; /* those with records */
    size_t lanes_count;
    uint64_t *checkpoints; /* [shards_count] slots; SLOT_NONE: none yet */
    uint32_t shards_count;
    slice *damaged; /* streams out of service: names; they are in no cut */
    size_t damaged_count;
};
/* `cat`: opened to look, without a session. ERR_UNAVAILABLE: folders were too fast; again. */
MUST_CHECK enum err_code cut_take(struct catalog *cat, struct cut *out, struct err *err);
void cut_done(struct cut *c);

/* The keys of its slots, each below its sequence. `fn` false stops. */
typedef bool (*cut_slot_fn)(void *arg, int type, slice key, uint64_t slot);
bool cut_slots(const struct cut *c, cut_slot_fn fn, void *arg);

struct cut_object { /* a manifest, a pack of filters or a data file */
    slice key;
    uint64_t bytes, rows; /* rows 0: no data file */
    uint32_t crc32c;
};
typedef void (*cut_object_fn)(void *arg, const struct cut_object *o);
/* ERR_CORRUPT, ERR_NOT_FOUND: a manifest cannot be read; the message names it. */
MUST_CHECK enum err_code cut_objects(struct stream_version *v, cut_object_fn fn, void *arg, struct err *err);

/* May it have a list of what was imported (stream_config.imported)? The mark is in a head before the first record that counts on it, but perhaps in one
 * later than this: then the records are here. */
bool cut_imported(const struct stream_version *v);

/* Registrations in the store of nodes that were alive within three minutes, by the store's clock. */
struct cut_node {
    char node_id[64];
    slice endpoint, lane;
};
MUST_CHECK enum err_code cut_nodes(struct catalog *cat, void (*fn)(void *arg, const struct cut_node *n), void *arg,
                                   struct err *err);
