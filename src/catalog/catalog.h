/* catalog.h: which streams exist, which files belong to them, what may be deleted: catalog.md, all of it that one node
 * exercises, written so that many nodes use the same code. Encodings are in slot.h and manifest.h, the one append function in
 * append.h; this header is what other rooms call.
 *
 * INVARIANTS  I1 to I13 of catalog.md section 15, checked by sim/.
 * THREADS  any; calls block on the store. Locks are never held across IO. Uses struct os for locks, clock and random only,
 *   struct store for objects, so the simulator runs this code unchanged.
 * ERRORS  as in store.h; ERR_CONFLICT: lost to another writer after the documented retries, or the stream exists. */
#pragma once
#include "batch/schema.h"
#include "os/os.h"
#include "segment/segment.h"
#include "store/probe.h"
#include "store/store.h"

struct catalog;
struct sid {
    char text[27]; /* ULID, lower case */
};
/* DAMAGE  An object of one stream that cannot be read (its name, its tail head; damaged bytes, or an error of the disk while the store takes
 * writes) takes that stream out of service, and nothing else: calls
 * for it answer ERR_CORRUPT and name the object, its records wait in their lanes (the checkpoint of its shard stays below them), and
 * each fold looks again, so that a restored object ends it. A damaged manifest takes only the files it names out of reach. What belongs
 * to all streams (lane records, checkpoints, the cluster slot) stops the call instead. Each finding is told once. */
enum catalog_damage {
    DAMAGE_STREAM, /* out of service */
    DAMAGE_PART,   /* some of its files, or a round of maintenance, are out of reach */
    DAMAGE_OVER,   /* it is in service again */
};
typedef void (*catalog_damage_fn)(void *arg, slice stream, enum catalog_damage kind, const char *why);
struct catalog_options {
    uint32_t shards;               /* 4; fixed in .sluice/cluster by the first start */
    int64_t snapshot_retention_us; /* 1 h: superseded versions stay readable */
    int64_t fence_us;              /* T_fence, 60 s (there is no watch yet); 0: this process is the only one for ever */
    const char *node_id;           /* ULID from the data directory */
    const char *endpoint;
    const char *temp_dir;            /* exists; copies of what a compaction reads from a remote store */
    const struct store_facts *facts; /* what a probe of the store found; NULL: none was made */
    catalog_damage_fn on_damage;     /* may be NULL; called without a lock, also from catalog_open() */
    void *damage_arg;
    uint32_t filters_min; /* so many files of a stream get filters together; 0: 4 */
};
MUST_CHECK enum err_code catalog_open(struct os *os, struct store *store, const struct catalog_options *opt,
                                      struct catalog **out, struct err *err);
void catalog_close(struct catalog *cat);
/* The newest result of a probe that a start noted, as a JSON object {at, clock_offset, exclusive, product}, times in microseconds; appends
 * nothing: there is none. */
void catalog_probe(const struct catalog *cat, struct buf *json);
const char *catalog_cluster(
    const struct catalog *cat); /* id of the store, made by the first node that opened it: a ULID */

/* ---- streams */
struct stream_config { /* what contract 3.1, 3.3, 3.5 keep per stream; strings owned; kept as canonical JSON in slots */
    slice custom_partition;     /* "" none */
    slice time_partition_limit; /* "30" days, "" none */
    bool static_schema, internal, infer_timestamp;
    slice telemetry_type;    /* "logs" */
    slice log_source;        /* JSON array text of {log_source_format, fields} */
    slice tags, labels;      /* JSON array text */
    slice retention;         /* JSON array text as set; "" none */
    uint32_t retention_days; /* 0 none */
    uint64_t hot_tier_bytes; /* of its newest files on the disks of nodes; 0 none */
    int64_t created_us;
    bool imported; /* it has a list of what was imported (import/ledger.h) */
};
struct stream_stats { /* committed in the tail head and unfolded records */
    uint64_t rows, raw_bytes, file_bytes, files;
    uint64_t lifetime_rows, lifetime_raw_bytes, lifetime_file_bytes;
    uint64_t deleted_rows, deleted_raw_bytes, deleted_file_bytes;
    int64_t first_us, last_us; /* smallest and largest p_timestamp in files; 0 none */
};
/* An immutable, counted view of one incarnation at one moment: head version plus unfolded entries of lanes. */
struct stream_version;
struct stream_version *stream_version_ref(struct stream_version *v);
void stream_version_unref(struct stream_version *v);
DEFINE_CLEANUP(struct stream_version *, stream_version_unref)
const struct sid *stream_version_sid(const struct stream_version *v);
slice stream_version_name(const struct stream_version *v);
const struct stream_config *stream_version_config(const struct stream_version *v);
struct schema *stream_version_schema(const struct stream_version *v); /* borrowed; fields with ids */
const struct stream_stats *stream_version_stats(const struct stream_version *v);
/* {events, raw bytes, file bytes} of one UTC day, "YYYY-MM-DD" */
void stream_version_day(const struct stream_version *v, slice day, uint64_t out[3]);

MUST_CHECK enum err_code stream_name_check(slice name, struct err *err); /* contract 3.1 */
/* Cached; a miss pulls. ERR_NOT_FOUND; ERR_CORRUPT: out of service (DAMAGE). */
MUST_CHECK enum err_code catalog_resolve(struct catalog *cat, slice name, struct stream_version **out, struct err *err);
MUST_CHECK enum err_code catalog_by_sid(struct catalog *cat, const struct sid *sid, struct stream_version **out,
                                        struct err *err);
/* `schema` NULL: empty. ERR_CONFLICT: it exists, *out is the winner. */
MUST_CHECK enum err_code catalog_create(struct catalog *cat, slice name, const struct stream_config *config,
                                        const struct schema *schema, struct stream_version **out, struct err *err);
/* MANY NODES (catalog.md section 7)  A node serves a name from memory without asking anybody, so a DELETE ends, for its caller, when no living
 * node can still take rows for what is dead: T_fence after the DEAD slot. Each node calls catalog_validate() more often than that; what it
 * accepts while catalog_fresh() was accepted before the DELETE ended and goes with it; what it accepts otherwise belongs to whatever the
 * name means by then, which the caller has to look up (catalog_validate_name()) before it writes these rows. A create that comes before
 * the fence is over is refused. */
MUST_CHECK enum err_code catalog_drop(struct catalog *cat, slice name,
                                      struct err *err); /* returns after the fence; sweep is later */
/* The same, but the caller waits *fence_us. */
MUST_CHECK enum err_code catalog_drop_begin(struct catalog *cat, slice name, int64_t *fence_us, struct err *err);
/* How long a create of this name is refused still. */
MUST_CHECK enum err_code catalog_fence(struct catalog *cat, slice name, int64_t *left_us, struct err *err);
/* Every T_fence / 3 or more often: says that we live, and learns of deletes and creates by others. */
MUST_CHECK enum err_code catalog_validate(struct catalog *cat, struct err *err);
/* `margin_us` from now on, is what we know still fresh? */
bool catalog_fresh(struct catalog *cat, int64_t margin_us);
/* Looks now whether this incarnation still has its name: ERR_NOT_FOUND. ERR_CORRUPT: out of service. */
MUST_CHECK enum err_code catalog_validate_name(struct catalog *cat, slice name, const struct sid *sid, struct err *err);
MUST_CHECK enum err_code catalog_unregister(struct catalog *cat,
                                            struct err *err); /* a clean stop: nobody waits for us */
/* Changes settings: `edit` gets those of the newest head, which may be another node's, and changes what it is about; maybe more than once. What it
 * lets them point to lives until the call returns. Other nodes know after their next fold. */
typedef void (*config_edit_fn)(void *arg, struct stream_config *config);
MUST_CHECK enum err_code catalog_configure(struct catalog *cat, const struct sid *sid, config_edit_fn edit, void *arg,
                                           struct err *err);
/* Reads the newest head of a stream: files that a version named may be gone when another node has merged them. ERR_NOT_FOUND, ERR_CORRUPT. */
MUST_CHECK enum err_code catalog_refresh(struct catalog *cat, const struct sid *sid, struct err *err);
/* Gives ids to the fields of `want` that lack one (matching by name). *out: the head's schema afterwards. Where another node
 * took the name with another type, the caller's field comes back missing: it must use the sibling name. */
MUST_CHECK enum err_code catalog_evolve(struct catalog *cat, const struct sid *sid, const struct schema *want,
                                        struct schema **out, struct err *err);
/* Before the first file of a stream, or any other object in its directory: what was only created has nothing there yet. Without IO later on, and
 * of a stream that the catalog does not know. ERR_NOT_FOUND, ERR_CORRUPT: as catalog_evolve(). */
MUST_CHECK enum err_code catalog_anchor(struct catalog *cat, const struct sid *sid, struct err *err);
/* Names of live streams, sorted; fn returns false to stop. */
MUST_CHECK enum err_code catalog_list(struct catalog *cat, bool (*fn)(void *arg, struct stream_version *v), void *arg,
                                      struct err *err);
/* ERR_CORRUPT and why, if the stream of this name is out of service. Without IO. */
MUST_CHECK enum err_code catalog_check(struct catalog *cat, slice name, struct err *err);
/* Streams out of service, sorted by name; fn returns false to stop. */
void catalog_list_damaged(struct catalog *cat, bool (*fn)(void *arg, slice name, const char *why), void *arg);

/* ---- commits: one lane, one session */
struct catalog_file {
    struct sid sid;
    slice stream; /* name, for people */
    slice path;   /* below <enc-name>/<sid>/ */
    struct segment_stats stats;
    uint64_t raw_bytes; /* JSON bytes of its rows */
    bool by_name;       /* a file of somebody else (import/): its columns have no field ids of ours */
};
struct lane_identity { /* from and for the WAL header: the caller writes it back when *changed (R4) */
    char wal_id[33], lane[24], session[33];
    uint64_t base; /* segments of wal_id begin above it */
    uint64_t upto; /* at open: the last segment that the log holds */
    bool cloned;   /* out: see catalog_session_fork() */
};
/* R3: OPENs the lane named in `id` first; else takes one. `id` is updated after OPEN is committed. *committed: highest segment of this
 * wal id that is committed. `header` is called to persist `id` before the first DATA (R4). */
MUST_CHECK enum err_code catalog_session_open(struct catalog *cat, struct lane_identity *id,
                                              enum err_code (*header)(void *arg, const struct lane_identity *id,
                                                                      struct err *err),
                                              void *arg, uint64_t *committed, struct err *err);
/* CLONED DISKS (catalog.md section 5)  When the lane was opened by a session that `id` does not know, another process has a copy of this
 * log (or this one crashed between OPEN and header: nobody can tell). id->cloned is set then, and headers are written with an empty
 * session until the caller has committed all segments up to id->upto and calls this: what comes above `base` has a new wal id.
 * The other process finds out when its next DATA is lost: an OPEN of its own wal id stands there and says up to which segment the log of
 * its author goes. Those segments are its author's from then on; *committed of catalog_commit() moves over them, and the rest goes on
 * under a new wal id. So a copy of a machine that was off loses nothing and doubles nothing. A copy of a running machine's disk, when both go
 * on, loses what the original took after the copy into the segment that was open then. */
MUST_CHECK enum err_code catalog_session_fork(struct catalog *cat, uint64_t base, struct err *err);
/* What became of a session of another process, which ended without a word: *upto is the last segment of its wal id that its lane carries, and
 * is final if *over: an OPEN or SEAL stands above whatever it may still have on its way. Else catalog_session_open() with its identity
 * makes an end of it. */
MUST_CHECK enum err_code catalog_session_look(struct catalog *cat, const struct lane_identity *id, uint64_t *upto,
                                              bool *over, struct err *err);
bool catalog_forked(
    struct catalog *cat); /* since the last call, by the other way: rows up to *committed are another process's */
/* Where the next DATA would stand; names of its files need it: "<lane>-<slot>-<session8>". */
void catalog_next_file_stem(struct catalog *cat, struct buf *out);
slice catalog_stream_dir(struct catalog *cat, slice name, const struct sid *sid,
                         struct buf *out); /* "<enc-name>/<sid>/" */
/* Appends DATA for WAL segments [from, to] with these files. ERR_OK: committed, and cached versions already show the files.
 * ERR_CONFLICT: these files are in no record; a lane was opened (header called): upload what is above *committed under new names. An
 * earlier call without an answer may turn out to have committed up to there.
 * ERR_UNAVAILABLE, ERR_LIMIT, ERR_INVALID: these files are in no record and never will be. Others: they may be.
 * on_visible is called under the lock that catalog_snapshot() takes, in the moment files become part of versions, after *committed
 * was written: the stage drops the rows up to there, so that no cut sees both or neither (I10). */
MUST_CHECK enum err_code catalog_commit(struct catalog *cat, uint64_t from, uint64_t to,
                                        const struct catalog_file *files, size_t count, void (*on_visible)(void *arg),
                                        void *arg, uint64_t *committed, struct err *err);
MUST_CHECK enum err_code catalog_seal(struct catalog *cat, struct err *err); /* clean stop */
struct catalog_position {
    char node_id[64], lane[24];
    uint64_t slot; /* the last record that we committed there */
};
void catalog_position(struct catalog *cat, struct catalog_position *out);
/* One cut: under the same lock `pin` is called with the version. Missing name: ERR_NOT_FOUND (from the cache; call catalog_resolve() before). */
MUST_CHECK enum err_code catalog_snapshot(struct catalog *cat, const struct sid *sid,
                                          void (*pin)(void *arg, struct stream_version *v), void *arg,
                                          struct stream_version **out, struct err *err);

/* ---- planning */
struct plan_range {
    uint32_t field_id;
    uint64_t min, max; /* order-preserving; rows outside can not match */
};
struct plan_file {
    slice key; /* whole key in the store, in the plan's arena */
    uint64_t rows, bytes;
    int64_t tmin_us, tmax_us;
    uint32_t crc32c;
    bool by_name; /* catalog_file */
};
struct plan {
    struct arena arena;
    struct plan_file *files; /* newest first (by tmax) */
    size_t count;
    uint64_t total; /* files before pruning */
    struct plan_file
        *lost; /* manifests in the time range that cannot be read: key, rows; their files are not in the plan */
    size_t lost_count;
};
MUST_CHECK enum err_code stream_version_plan(struct stream_version *v, int64_t tmin_us, int64_t tmax_us,
                                             const struct plan_range *ranges, size_t ranges_count, struct plan *out,
                                             struct err *err); /* [tmin, tmax) */
void plan_done(struct plan *p);
struct plan_value { /* rows that matter have it */
    uint32_t field_id;
    uint64_t hash; /* segment_key_hash() */
};
/* Takes out of the plan what cannot have all of these values, by filters outside the files (filter.h), as far as there are any. What cannot be read
 * of them prunes nothing. How many files went. */
size_t stream_version_prune(struct stream_version *v, const struct plan_value *values, size_t count, struct plan *plan);

/* ---- maintenance: each call is one round, safe on any node at any time, and says what it did. Of one catalog, catalog_fold() and catalog_report()
 * may run beside all, of the others one at a time. */
struct catalog_work {
    uint64_t folded_records, heads_written, files_deleted, slots_deleted, bytes_deleted, files_expired, rows_expired;
    uint64_t inputs_compacted, outputs_compacted, bytes_compacted, streams_swept, files_indexed;
};
MUST_CHECK enum err_code catalog_fold(struct catalog *cat, struct catalog_work *out, struct err *err);
MUST_CHECK enum err_code catalog_gc(struct catalog *cat, struct catalog_work *out,
                                    struct err *err); /* gc_files, gc_meta, slots */
MUST_CHECK enum err_code catalog_reconcile(struct catalog *cat, struct catalog_work *out, struct err *err); /* R9 */
enum gc_reason {
    GC_SUPERSEDED_HEAD,
    GC_SUPERSEDED_CHECKPOINT,
    GC_FOLDED_RECORD,     /* of a lane: every shard has it */
    GC_UNLISTED_FILE,     /* no version that is kept, and no record, names it */
    GC_UNLISTED_MANIFEST, /* the same */
    GC_UNLISTED_FILTER,
    GC_DEAD_INCARNATION,
    GC_UNFINISHED_UPLOAD, /* in parts, of a data file of ours, begun a day ago: in no listing; its bytes are not known */
    GC_PROBE,             /* of the store, an hour ago: killed, or its removes failed */
};
const char *gc_reason_text(enum gc_reason why);
struct gc_item {
    slice folder; /* "<enc-name>/<sid>/", or the prefix of a sequence below .sluice/ */
    slice key;
    uint64_t bytes;
    enum gc_reason why;
};
struct gc_options {
    bool dry_run; /* nothing is written or deleted; what a round at this moment would delete is told and counted */
    bool whole;   /* all streams; else a round stops when it has looked at many objects, and the next goes on */
    void (*tell)(void *arg, const struct gc_item *item); /* of each object that went, or would; may be NULL */
    void (*at)(void *arg, slice folder);                 /* progress; may be NULL */
    void *arg;
};
/* catalog_gc() and then catalog_reconcile(). */
MUST_CHECK enum err_code catalog_collect(struct catalog *cat, const struct gc_options *opt, struct catalog_work *out,
                                         struct err *err);
MUST_CHECK enum err_code catalog_expire(struct catalog *cat, struct catalog_work *out, struct err *err); /* retention */
/* Writes the rows of the inputs to `out` (segment_merge). All of them were checked. */
struct merge_input {
    slice key;
    struct os_file *copy; /* its bytes, where the store is remote; else NULL */
    bool by_name;         /* catalog_file */
};
typedef enum err_code (*merge_fn)(void *arg, const struct schema *schema, const struct merge_input *inputs,
                                  size_t count, struct os_file *out, struct segment_stats *stats, struct err *err);
/* One claim, merge, commit, if any directory is worth it. */
MUST_CHECK enum err_code catalog_compact(struct catalog *cat, merge_fn merge, void *arg, struct catalog_work *out,
                                         struct err *err);
/* Makes filters (filter.h) of files that have none, if there are enough of them in one stream: one pack a call. `keys` gives the hashes of
 * one file's columns (segment_keys); the file was checked. ERR_CORRUPT: it has none, and is left alone. */
typedef enum err_code (*keys_fn)(void *arg, const struct schema *schema, const struct merge_input *input,
                                 struct segment_keys *out, struct err *err);
MUST_CHECK enum err_code catalog_index(struct catalog *cat, keys_fn keys, void *arg, struct catalog_work *out,
                                       struct err *err);
/* Verifies crc32c of some files (a scrub step), calling bad() for each damaged one. */
MUST_CHECK enum err_code catalog_scrub(struct catalog *cat, uint64_t bytes_max,
                                       void (*bad)(void *arg, slice key, const char *why), void *arg, struct err *err);
struct storage_class {
    uint64_t objects, bytes;
};
struct storage_report {
    struct storage_class live, retained, limbo, garbage, system, unknown;
};
MUST_CHECK enum err_code catalog_report(struct catalog *cat, struct storage_report *out, struct buf *json,
                                        struct err *err);
