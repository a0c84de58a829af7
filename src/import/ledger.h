/* ledger.h: which files of a source an incarnation of a stream has taken in already. It lies beside the stream's files and goes with them.
 *
 *   <enc-name>/<sid>/_import/<slot>     numbered, created exclusively, never rewritten or removed while the stream lives
 *     {"files":[source paths],"lane":..,"segment":k,"session":..,"type":"files","wal":..}   before the DATA record of segment k
 *     {"type":"done","upto":k,"wal":..}                                                     what became of that run: segments <= k are committed
 * WHY NOT THE ENTRIES  Compaction and retention take adopted files out of the head, and a second import must not bring them back. Why not one
 * record after the commit: a crash between the two would import the files again.
 * BACKUPS  carry it (backup/imports.c): the stream's configuration says that it is there (stream_config.imported) before its first record is.
 * EXACTLY ONCE
 *   L1  A file is uploaded and committed only by the run whose "files" record names it, in the segment of that record.
 *   L2  A record is appended at the next number after all that were read: two imports of one stream cannot both go on.
 *   L3  A run without "done" died, or another import is at work. The tail of its lane decides (catalog_session_look()); where the session is still
 *       the lane's owner, its identity is OPENed first, as a crash recovery does (catalog.md R3): what it has in flight is lost then.
 *   L4  A run whose DATA is lost does not try again elsewhere: it ends with an error, so that L3 stays true. */
#pragma once
#include "base/arena.h"
#include "base/map.h"
#include "catalog/catalog.h"

struct ledger_run {
    struct lane_identity id;
    uint64_t upto;
    bool done;
};
struct ledger {
    struct store *store;
    char *dir; /* "<enc-name>/<sid>/_import/" */
    uint64_t next;
    struct arena arena;
    struct map taken; /* source paths that are committed */
    struct ledger_run *runs;
    size_t runs_count, runs_cap;
    struct ledger_record *records;
    size_t records_count, records_cap;
};
/* Reads it. ledger_settle() then says what is in `taken`. */
MUST_CHECK enum err_code ledger_open(struct store *store, slice stream_dir, struct ledger *out, struct err *err);
void ledger_done(struct ledger *l);
/* `taken` from the records of runs that are done. */
void ledger_settle(struct ledger *l);
/* ERR_CONFLICT: another import is at work on this stream. */
MUST_CHECK enum err_code ledger_files(struct ledger *l, const struct lane_identity *id, uint64_t segment,
                                      const slice *paths, size_t count, struct err *err);
MUST_CHECK enum err_code ledger_end(struct ledger *l, slice wal_id, uint64_t upto, struct err *err);
