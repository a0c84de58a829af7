/* bucket.h: the checker of a shared store. It is told of every create and remove in the instant in which it takes effect, keeps its
 * own model of what the protocol says that means (which slots are on a chain and which are ghosts, what was committed, what heads name),
 * and asserts the invariants of catalog.md section 15 at each step:
 *
 *   I1  names alternate LIVE and DEAD           I2  nothing after a DEAD head           I3  no segment, no row twice
 *   I4  what is folded is in the head, what left it was compacted or had expired        I5  positions never go back
 *   I6  nothing reachable is deleted; what becomes reachable is there                   I7  tails stay
 *   I8  slots follow one another; who was told of a commit finds it on the chain (bucket_file_committed)
 *   I11 field id and name stay together         I12 no object without a name slot; at the end dead prefixes are empty
 * It trusts nothing of the code under test but its decoders. THREADS  one. */
#pragma once
#include "sim/rows.h"
#include "sim/sim_store.h"

struct bucket;
struct stream_version;
struct bucket *bucket_new(struct world *w, struct sim_store *st);
void bucket_clock(struct bucket *b); /* after the store's clock jumped */

/* ---- what the workload asks */
bool bucket_name_live(const struct bucket *b, slice name, slice sid); /* the name's tail is LIVE{sid} */
bool bucket_name_always_live(const struct bucket *b, slice name,
                             int64_t since_us); /* of the world; it had an heir all the time */
bool bucket_name_known(const struct bucket *b, slice sid);
bool bucket_segment_committed(const struct bucket *b, slice wal_id, uint64_t segment);
bool bucket_file_committed(const struct bucket *b, slice key); /* a DATA record on its lane's chain names it */
bool bucket_head_retained(const struct bucket *b, slice sid, uint64_t slot);
bool bucket_version_retained(const struct bucket *b, struct stream_version *v); /* its head */
bool bucket_row_expired(const struct bucket *b, uint64_t row);                  /* it left a head by retention */
/* Rows that the tail head of a live incarnation holds; an allocation of the caller's. */
struct sim_row *bucket_rows(const struct bucket *b, slice sid, size_t *count);
/* Rows of files that a plan names, each file read by the checker itself. A row twice breaks `invariant`. */
void bucket_row_seen(struct bucket *b, uint64_t row, const char *invariant, const char *where);
void bucket_rows_begin(struct bucket *b); /* a new set for bucket_row_seen() */
bool bucket_row_in_set(const struct bucket *b, uint64_t row);
/* The set has each row that the lane's records up to `upto` gave to the incarnation, but what has expired. */
void bucket_lane_seen(const struct bucket *b, slice sid, slice lane, uint64_t upto, const char *where);
/* At rest: every object is reachable or belongs to the protocol, dead prefixes hold nothing (but DEAD heads, unless `heads_too`). */
void bucket_check_rest(struct bucket *b, bool heads_too);
