/* hot.h: whole objects of a store in a folder of this node, so that queries read the newest files from its own disk.
 *
 * The tier holds what its keeper (stage/warm.c) asks for and nothing else: hot_retain() says which objects belong here, hot_fill() brings
 * one. Queries pin what is here while they read and take everything else from the store, so that a cold, a half-filled and a damaged
 * tier give the answers of a warm one. Nothing here is needed by anybody: the folder may be removed at any time.
 *
 * LAYOUT  DIR/.lock      held while the tier is open
 *         DIR/.tmp/<n>   an object on its way; emptied at the start
 *         DIR/<key>      an object, under its key in the store
 * INVARIANTS
 *   H1  hot_pin() gives only files whose size and crc32c were seen to be those that the catalog names: when they were fetched, before
 *       their first use after a start, and again when size or time of change differ from what was seen then. What fails is removed.
 *   H2  A file that is pinned is not evicted; it leaves when its last reader does. One that is damaged is removed at once: its
 *       readers find that out and ask again.
 *   H3  What is here and on its way is never more than bytes_max, and no fetch begins that would fill the disk beyond disk_percent_max.
 *   H4  One fetch of an object at a time; who asks for it as well waits for that one.
 *   H5  A fetch holds at most chunk_bytes in memory. It is written beside the others and renamed: a crash leaves no half of a file
 *       under a key. Nothing is synced: what a power cut damages is found by H1.
 *   H6  Only the tier writes below DIR, and it removes nothing outside of it.
 * THREADS  any. The lock is a leaf and not held across IO. TESTS  hot_test.c */
#pragma once
#include "base/buf.h"
#include "os/os.h"
#include "store/store.h"

struct hot;
struct hot_options {
    const char *dir;           /* made with its parents */
    uint64_t bytes_max;        /* of all objects; 0: as the disk has room */
    unsigned disk_percent_max; /* how full the disk may be; 0: 80 */
    uint64_t chunk_bytes;      /* asked of the store at a time; 0: 8 MiB */
};
struct hot_object { /* as the catalog names it; the key is borrowed */
    slice key;
    uint64_t bytes;
    uint32_t crc32c;
    int64_t tmin_us, tmax_us;
};
/* Finds what an earlier process left. The store is borrowed. ERR_CONFLICT: another process has the folder. */
MUST_CHECK enum err_code hot_open(struct os *os, struct store *store, const struct hot_options *opt, struct hot **out,
                                  struct err *err);
void hot_stop(struct hot *h);  /* fetches end soon with ERR_CANCELLED, from now on; NULL is fine */
void hot_close(struct hot *h); /* nothing is pinned or fetched any more */
const char *hot_dir(const struct hot *h);

/* ---- readers */
struct hot_file; /* a pinned one */
/* NULL: not here, or not as it should be. hot_unpin() gives it back. A file of an earlier process is read as a whole first. */
struct hot_file *hot_pin(struct hot *h, const struct hot_object *o);
void hot_path(const struct hot *h, const struct hot_file *f, struct buf *out); /* appended, and NUL-terminated */
/* Reads a pinned file as a whole, for a reader that could not make sense of it; false: it was damaged, and is not here any more. */
bool hot_check(struct hot *h, struct hot_file *f);
void hot_unpin(struct hot *h, struct hot_file *f); /* NULL is fine */

/* ---- the keeper */
/* How many bytes may be here: bytes_max, or less where the disk is full. */
uint64_t hot_room(struct hot *h);
/* Evicts all objects but these, and but those whose keys begin with one of `spare`. */
void hot_retain(struct hot *h, const struct hot_object *objects, size_t count, const slice *spare, size_t spare_count);
bool hot_has(struct hot *h, slice key); /* without a look at its bytes */
/* Brings an object here, if it is not. ERR_LIMIT: no room (H3); ERR_CORRUPT: the store's object is not what the catalog names;
 * ERR_UNAVAILABLE: it failed a moment ago, a later call tries again; others as the store says. */
MUST_CHECK enum err_code hot_fill(struct hot *h, const struct hot_object *o, struct err *err);
/* Checks files that no one has checked for a day, or since the start, oldest first, up to so many bytes. */
void hot_scrub(struct hot *h, uint64_t bytes_max);
struct hot_usage {
    uint64_t files, bytes;
    int64_t oldest_us; /* of its rows, as far as hot_retain() and hot_fill() told; INT64_MAX: none */
};
void hot_usage(struct hot *h, slice prefix, struct hot_usage *out); /* of objects whose keys begin so */
