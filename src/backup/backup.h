/* backup.h: points of a whole store, kept in another store: taken while servers run, checked, restored.
 *
 * Why not copy the store as it is: what is copied late would name what was copied early, or miss what was removed meanwhile. A point is a
 * catalog cut (catalog/cut.h): one position of every lane, and for every stream the head and records up to there.
 *
 * THE POINT  Servers are asked to flush first (cli/backup.c; POST /api/v1/cluster/flush): what they had acknowledged is then in files, and their
 * answers say up to which record of their lanes. The cut is taken after that. So a point holds every row that was acknowledged before the backup
 * was started, and some that were acknowledged meanwhile: of each server a prefix of its commits, all rows of a request or none, for all
 * streams the same prefix. What a server that could not be asked had not flushed is not in it; it is named.
 *
 * A PLACE OF BACKUPS holds the objects of its points under the keys that they have in the store (names there are used once, so that equal
 * keys are equal bytes), and
 *   .sluice/cluster/0      says whose backups these are, and that nobody may open the place as a store (CLUSTER_CLOSED)
 *   .sluice/backup/<n>     point n (point.h), a slot. Written last: there is a point when everything that it names is there, whole and synced
 * An object that is there already is not copied again: a later backup costs what is new, and one that was interrupted goes on. Objects
 * that no point names are left of such or of points that were removed; backup_remove() takes them away. It appends BEGIN to the sequence of
 * points first and END last. A backup notes the sequence's tail before it looks what is there, and appends its point to that: if a removal
 * began since, what it counted on may be gone, and it looks again. While a removal has not ended none begins; who died in one runs it
 * again. (Two removals at one time are not told apart: the first must not sleep while the second ends and a backup follows.)
 *
 * WHAT VANISHES  The store collects files that compaction, retention or a DELETE took out of its heads, a compacted one an hour later. A
 * backup holds nothing back: when a file of its cut is gone, it takes a new cut, later than the first, and copies what that needs beyond what
 * it has. Each pass is shorter than the one before. The alternatives: a hold that servers respect would have to be written into a store
 * that a backup may only read, and would stop their collectors when a backup dies; leaving the file's stream at a later cut of its own would
 * break what a point promises.
 *
 * IMPORTS  The lists of what was imported (import/ledger.h) are in the point as they were at its cut: imports.c.
 *
 * RESTORE  Into an empty place only. .sluice/cluster/0 is taken first and closes it: a server refuses to start on half a store. Then the objects
 * of the point; a SEAL on top of each lane, so that the next server opens it above everything that file names there use; and last
 * .sluice/cluster/1, a new cluster id: WALs of servers of the old store are refused (stage/lake.c), as they may hold rows that are not in this
 * past. `carried` of the lanes stays what it was at the point. What was interrupted goes on: slot 0 says which point it was.
 *
 * THREADS  each call from one thread; copies run in threads of their own. TESTS tests/test_backup.py, point_test.c, point_fuzz.c. */
#pragma once
#include "backup/point.h"
#include "os/os.h"
#include "store/store.h"

#define BACKUP_PARALLEL 4u
#define BACKUP_PARALLEL_MAX 64u
#define BACKUP_PASSES_MAX 20

struct backup_progress {
    const char *what;
    uint64_t files, files_total, bytes, bytes_total;
};
struct backup_env {
    struct os *os;
    unsigned parallel;                                              /* objects copied at one time */
    bool (*progress)(void *arg, const struct backup_progress *now); /* a few times a second; false: ERR_CANCELLED */
    void *arg;
};
struct backup_totals {
    uint64_t files, bytes;                /* data files and manifests of the point, or looked at */
    uint64_t copied, copied_bytes;        /* of them, by this call */
    uint64_t slots, slots_copied, mended; /* mended: were there with another length */
    unsigned passes;
};
struct backup_position { /* a server's answer: its flush is committed up to here */
    char cluster[33], lane[24];
    uint64_t slot;
};
struct backup_run {
    const struct backup_position *positions;
    size_t positions_count;
    const slice *asked; /* ids of nodes that were */
    size_t asked_count;
};
/* Adds a point to `to`. *out: it, the caller's to point_done(). ERR_INVALID: the places do not fit. */
MUST_CHECK enum err_code backup_take(const struct backup_env *env, struct store *from, struct store *to,
                                     const struct backup_run *run, struct point *out, struct backup_totals *totals,
                                     struct err *err);

struct restore_run {
    uint64_t point;       /* SLOT_NONE: the newest */
    const slice *streams; /* only these; none: all */
    size_t streams_count;
};
MUST_CHECK enum err_code backup_restore(const struct backup_env *env, struct store *from, struct store *to,
                                        const struct restore_run *run, struct point *out, struct backup_totals *totals,
                                        struct err *err);

typedef void (*backup_bad_fn)(void *arg, slice key, const char *why);
/* Reads everything that the point names (SLOT_NONE: all points), and tells each object that is damaged or missing. */
MUST_CHECK enum err_code backup_verify(const struct backup_env *env, struct store *place, uint64_t point,
                                       backup_bad_fn bad, void *arg, struct backup_totals *totals, struct err *err);
struct backup_removal {
    const uint64_t *points;
    size_t points_count;
    uint64_t keep; /* beside them, all but so many of the newest; SLOT_NONE: none */
};
/* Removes points, and the objects that no other names: totals->files, ->bytes. Neither: only what is left of interrupted backups. */
MUST_CHECK enum err_code backup_remove(const struct backup_env *env, struct store *place,
                                       const struct backup_removal *what, uint64_t *points,
                                       struct backup_totals *totals, struct err *err);
/* Points of a place, oldest first; one that cannot be read has `why`. fn owns nothing. */
typedef void (*backup_point_fn)(void *arg, const struct point *p, uint64_t number, const struct err *why);
MUST_CHECK enum err_code backup_list(const struct backup_env *env, struct store *place, backup_point_fn fn, void *arg,
                                     struct err *err);
