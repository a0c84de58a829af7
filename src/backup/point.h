/* point.h: one backup, as `.sluice/backup/<n>` describes it: a slot whose body names the slots of a cut; these name the rest, with checksums.
 *
 *   {"bytes","checkpoints":[slot of each shard, -1 none],"cluster","damaged":[name],"files","lanes":{"n00001":[first,last]},"rows",
 *    "imports":[[key, bytes, crc32c]] (import/ledger.h; missing: none),"shards","streams":[[name, sid, name slot, head slot, -1 none]],"taken",
 *    "unasked":[node id]}
 * THREADS  any. TESTS point_test.c, point_fuzz.c. */
#pragma once
#include "catalog/append.h"
#include "catalog/cut.h"

#define POINT_LANE_RECORDS_MAX 1000000u /* above the checkpoints; a fold takes seconds */

struct point_record { /* of what was imported into a stream */
    slice key;
    uint64_t bytes;
    uint32_t crc32c;
};
struct point {
    uint64_t number;
    struct nonce nonce;
    struct cut cut; /* versions are NULL where it was read; the arena holds all */
    slice cluster;
    int64_t taken_us;
    uint64_t rows, files, bytes;
    slice *unasked; /* nodes that were alive and not asked to flush */
    size_t unasked_count;
    struct point_record *imports;
    size_t imports_count;
};
/* The other slots of `.sluice/backup/` are notes of a removal, {"removal":"begin"} and {"removal":"end"} (remove.c). */
enum note { NOTE_NONE, NOTE_BEGIN, NOTE_END };
enum note point_note(const struct slot *s);
void point_encode(const struct point *p, struct buf *out); /* the body */
MUST_CHECK enum err_code point_decode(const struct slot *s, struct point *out, struct err *err);
void point_done(struct point *p);
DEFINE_CLEANUP(struct point *, point_done)

/* A store that shows the slots of one point and nothing of others, and reads the rest through: the catalog opens it as it opens any. It
 * borrows both. */
struct store *point_view_new(struct store *place, const struct point *p);
