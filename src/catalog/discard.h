/* discard.h: the one place where maintenance deletes what it found to be garbage, or, in a dry run, only tells of it. */
#pragma once
#include "catalog/catalog_int.h"

/* A lane as a round of gc leaves it. A dry run leaves it as it was, and judges files by this instead. */
struct lane_gc {
    char name[24];
    uint64_t folded; /* by every shard; SLOT_NONE: nothing */
    bool own;
    uint64_t first; /* records below it are deleted */
    bool sealed;    /* with a SEAL above the tail that was found */
};
struct lane_gcs {
    struct lane_gc *items;
    size_t count, cap;
};
struct discard { /* of one round */
    struct catalog *cat;
    const struct gc_options *opt;
    struct catalog_work *out;
    int64_t now_us;
    struct lane_gcs lanes;
};
void discard_done(struct discard *d);
/* Says that a round comes to this folder. */
void discard_at(const struct discard *d, slice folder);
/* Deletes the object `key`, which lies in `folder`: slots, one after the other in ascending order. */
MUST_CHECK enum err_code discard(struct discard *d, slice folder, slice key, uint64_t bytes, enum gc_reason why,
                                 struct err *err);
/* The same of many that may go in any order: all but slots. Those of a request that failed are told of by the round that finds them again. */
struct garbage {
    slice key;
    uint64_t bytes;
    enum gc_reason why;
};
MUST_CHECK enum err_code discard_many(struct discard *d, slice folder, const struct garbage *items, size_t count,
                                      struct err *err);
/* Counts and tells of what the caller deletes by itself. */
void discard_told(struct discard *d, slice folder, slice key, enum gc_reason why);
/* An object below PROBE_FOLDER that a probe of the store (store/probe.h, damage.c) made so long ago that it is at work no more. */
#define PROBE_FOLDER ".sluice/probe/"
bool is_old_probe(const struct store_list_item *item, int64_t now_us);
/* One round of each; *d has its catalog, options and result. */
MUST_CHECK enum err_code gc_round(struct discard *d, struct err *err);
MUST_CHECK enum err_code reconcile_round(struct discard *d, struct err *err);
