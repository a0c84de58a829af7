/* import.h: adopts the streams of a store of Parseable (parseable.h): its Parquet files become files of ours as they are, byte for byte.
 *
 *   source ── survey.c: metadata, manifests ──▶ streams and their files ── import.c ──▶ look, check, link or copy ──▶ ledger ──▶ DATA ──▶ done
 *
 * WHY A FILE OF OURS  Each file gets a name of our layout (catalog.md section 2) under a lane of this process: garbage collection,
 * retention, delete, compaction, reports and checks treat it as any other. Where source and destination are folders of one file system the file
 * is linked and takes no room; else its bytes are copied, once, with their checksum. The other design, entries that point at foreign paths,
 * would have to be known to each of those.
 * WHAT IS BELIEVED  Names. Rows, times and statistics are read from the file, all of it, through the engine; what cannot be read is named and
 * left out. Columns have no field ids of ours: catalog_file.by_name (catalog.h).
 * EXACTLY ONCE  ledger.h. MANY PROCESSES  The import is one more writer with a lane of its own; servers on the destination do not mind. */
#pragma once
#include "base/arena.h"
#include "base/err.h"
#include "base/slice.h"
#include "os/os.h"
#include "store/probe.h"

struct import_progress {
    slice stream;
    uint64_t files, files_total, bytes, bytes_total; /* handled so far, of all streams */
};
struct import_options {
    struct os *os;
    struct store *source, *dest;     /* dest NULL: a dry run on a place that holds nothing yet */
    const struct store_facts *facts; /* what a probe of dest found; NULL: none was made */
    bool link;                       /* both are folders: try link(2) first */
    const char *temp_dir;
    slice only; /* the one stream; empty: all */
    bool dry_run, remove_source;
    void (*progress)(void *arg, const struct import_progress *p); /* may be NULL */
    bool (*stop)(void *arg);                                      /* asked between files; may be NULL */
    void *arg;
};
struct import_skip {
    slice stream, path; /* path empty: the whole stream */
    const char *why;
};
struct import_stream {
    slice name;
    const char *note; /* what of it Sluice does not have; NULL: nothing */
    bool created;
    uint64_t files, rows, bytes, linked; /* adopted now; a dry run: would be, and rows are 0 */
    uint64_t present;                    /* adopted by an earlier import */
    uint64_t skipped, removed;
};
struct import_result {
    struct arena arena;
    struct import_stream *streams;
    size_t streams_count, streams_cap;
    struct import_skip *skips;
    size_t skips_count, skips_cap;
};
/* ERR_NOT_FOUND: no streams there. ERR_CANCELLED: stopped; what was adopted until then stays, and the next run goes on. ERR_CONFLICT: another
 * import is at work. A file or stream that cannot be taken is in `skips` and is no error. *out is valid after an error too. */
MUST_CHECK enum err_code import_parseable(const struct import_options *opt, struct import_result *out, struct err *err);
void import_result_done(struct import_result *r);
