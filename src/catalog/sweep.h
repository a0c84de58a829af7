/* sweep.h: which objects of one incarnation are reachable (catalog.md section 9). Reads in the order in which data moves: candidates, then
 * lanes, then heads (R6), so that what moves on while we look is met at its next place. No age is involved: a slot decides. */
#pragma once
#include "catalog/discard.h"

enum object_class {
    OBJECT_LIVE,     /* named by the tail head or a lane record that is not folded */
    OBJECT_RETAINED, /* named by older heads only */
    OBJECT_LIMBO,    /* its lane slot, claim or head slot is not decided */
    OBJECT_GARBAGE,
    OBJECT_UNKNOWN, /* not of our layout: never deleted */
};
struct object {
    slice path; /* below the incarnation's directory */
    uint64_t size;
    int64_t modified_us;
    enum object_class class;
};
struct objects {
    struct arena arena;
    struct object *items;
    size_t count, cap;
};
struct classify_options {
    const struct map
        *skip; /* paths of data files that need no look, e.g. those of the current version: left out; may be NULL */
    const struct lane_gcs *lanes; /* a dry run: as gc would have left them; NULL: as they are */
    uint64_t head_first;          /* the same of heads: those below it are gone */
};
/* Classifies everything below the incarnation's directory. */
MUST_CHECK enum err_code objects_classify(struct catalog *cat, slice name, const struct sid *sid,
                                          const struct classify_options *opt, struct objects *out, struct err *err);
void objects_done(struct objects *o);
