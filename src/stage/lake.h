/* lake.h: one node's rows, from request to catalog: decode -> WAL -> stage -> flush -> commit. What API, query and command line
 * talk to. The stage holds every row from its acknowledgement until the catalog shows its file.
 *
 * INVARIANTS
 *   L1  A row is visible to snapshots from before its acknowledgement returns until it is deleted, in exactly one place:
 *       stage or files (catalog I10); the move happens under the lock that snapshots take.
 *   L2  The rows of WAL segment n are flushed only when every record of n has been acknowledged or failed.
 *   L3  A schema never shrinks; the schema a snapshot shows covers every row it shows.
 *   L4  Row ids grow in the order in which the WAL has the records, and are the same after a replay.
 * THREADS  any. Locks, in order: lake streams table -> stream -> catalog. ERRORS  as err.h says; see lake_ingest. */
#pragma once
#include "base/buf.h"
#include "catalog/catalog.h"
#include "decode/json.h"
#include "engine/engine.h"
#include "os/os.h"
#include "store/hot.h"
#include "store/store.h"
#include "wal/wal.h"

struct lake;
struct lake_options {
    const char *data_dir;            /* node_id, temporary files, lock */
    const char *wal_dir;             /* P_STAGING_DIR */
    struct store *store;             /* lake_open() takes it, also when it fails */
    const struct store_facts *facts; /* of a probe of it; may be NULL; read by lake_open() only */
    struct wal_options wal;
    uint32_t flatten_level;    /* 10 */
    uint32_t columns_max;      /* 1,000 */
    uint64_t body_bytes_max;   /* 10,485,760, after decompression */
    uint64_t stage_bytes_max;  /* high-water mark: ingest answers 503 above it; default 1 GiB */
    uint64_t stage_bytes_slow; /* above it ingest with wait_us_max waits for the flush; twice flush_bytes */
    uint64_t flush_bytes;      /* seal at this much stage; 32 MiB */
    int64_t flush_age_us;      /* or at this age when busy; 10 s */
    int64_t flush_idle_us;     /* or at this age where files would be small; 60 s */
    struct hot_options hot;    /* dir NULL: no hot tier; else it lies in a folder below, of the store's own name */
    unsigned hot_files;        /* fetched into it at one time; 4 */
    int64_t hot_interval_us;   /* how often it is looked at; 1 s */
    int64_t fence_us;          /* T_fence of catalog.md, 60 s: what a DELETE waits for other servers on the store */
    int64_t retention_interval_us, gc_interval_us, fold_interval_us, compact_interval_us, index_interval_us,
        scrub_interval_us;
    /* May be NULL. Called once the data directory is known to be ours, before the recovery, which may take minutes. */
    enum err_code (*on_locked)(void *arg, struct err *err);
    void *on_locked_arg;
    bool background; /* run flush, fold, gc, compaction, retention, scrub in threads of our own */
};
/* Recovers: opens the lane, replays the WAL, then takes requests. Progress in the log. */
MUST_CHECK enum err_code lake_open(struct os *os, const struct lake_options *opt, struct lake **out, struct err *err);
void lake_close(struct lake *lake); /* clean stop: flush, commit, SEAL */
struct catalog *lake_catalog(struct lake *lake);
struct store *lake_store(struct lake *lake);
struct wal *lake_wal(struct lake *lake);
struct hot *lake_hot(struct lake *lake); /* NULL: none */
const struct lake_options *lake_opts(const struct lake *lake);

/* ---- ingest */
enum lake_ack { ACK_WAL, ACK_RELAXED, ACK_OBJECT };
struct lake_ingest {
    slice stream;
    bool create; /* /ingest: create the stream when it is not there */
    slice body;  /* must live until done() */
    bool newline_delimited;
    enum decode_flatten flatten;
    enum lake_ack ack;
    int64_t wait_us_max; /* how long to wait for room in the stage, before anything else; 0: the caller must not wait */
    const struct decode_pair *pairs; /* p_src_ip, p_user_agent, p_format, header columns; copied */
    uint32_t pairs_count;
    const struct stream_config *config; /* of an automatic create: telemetry type, tags; NULL: defaults */
    slice log_source;                   /* lower case; "" json: recorded in the stream's list */
    bool internal;                      /* written by ourselves: may write to internal streams (pmeta) */
};
struct lake_ingested {
    uint64_t rows, inexact;
    int64_t p_timestamp_us;
};
typedef void (*lake_done_fn)(void *arg, enum err_code rc, const struct lake_ingested *result, const struct err *err);
/* Decodes, checks, appends. An error found before the WAL is returned and done() is not called. ERR_OK: done() will be called once,
 * from another thread or before the return, when the row is acknowledged (visible) or failed.
 * ERR_INVALID 400, ERR_LIMIT 413 (the request is too large) , ERR_NOT_FOUND 404, ERR_UNAVAILABLE 503 with Retry-After. */
MUST_CHECK enum err_code lake_ingest(struct lake *lake, const struct lake_ingest *req, lake_done_fn done, void *arg,
                                     struct err *err);
/* Will lake_ingest() of this stream go without the catalog's IO? */
bool lake_knows(struct lake *lake, slice stream);
/* Did the last flush? Then waiting for the next one may take as long as the store is away. */
bool lake_flush_fails(struct lake *lake);
/* Answers requests with ACK_OBJECT that still wait: their rows are durable, but not in the store yet. For a stop. */
void lake_give_up_waiting(struct lake *lake);
/* The same, waiting for done(). */
MUST_CHECK enum err_code lake_ingest_wait(struct lake *lake, const struct lake_ingest *req, struct lake_ingested *out,
                                          struct err *err);

/* ---- streams: catalog calls plus what is staged */
MUST_CHECK enum err_code lake_create(struct lake *lake, slice name, const struct stream_config *config,
                                     const struct schema *schema, struct err *err);
MUST_CHECK enum err_code lake_drop(struct lake *lake, slice name, struct err *err);
MUST_CHECK enum err_code lake_configure(struct lake *lake, slice name, config_edit_fn edit, void *arg,
                                        struct err *err);                              /* catalog_configure() */
MUST_CHECK enum err_code lake_refresh(struct lake *lake, slice name, struct err *err); /* catalog_refresh() */
/* ERR_NOT_FOUND. Config is the version's; borrowed from *version (the caller's to unref). */
MUST_CHECK enum err_code lake_stream(struct lake *lake, slice name, struct stream_version **version,
                                     struct schema **schema, struct err *err);
struct lake_stats { /* contract 3.4: ingestion counts what was acknowledged, storage what is in files */
    uint64_t rows, raw_bytes, lifetime_rows, lifetime_raw_bytes, deleted_rows, deleted_raw_bytes;
    uint64_t file_bytes, lifetime_file_bytes, deleted_file_bytes;
    int64_t first_us, last_us; /* of files and stage; 0: none */
};
MUST_CHECK enum err_code lake_stats(struct lake *lake, slice name, struct lake_stats *out, struct err *err);
MUST_CHECK enum err_code lake_stats_day(struct lake *lake, slice name, slice day, uint64_t out[3], struct err *err);

/* ---- snapshot: what a query reads */
struct lake_snapshot {
    struct stream_version *version; /* files: stream_version_plan() */
    struct schema *schema;          /* covers stage and files; fields that are only staged have no id yet */
    struct batch_view *parts;       /* stage rows, newest part first; rows inside from last to first */
    size_t parts_count;
    uint64_t stage_rows;
    int64_t stage_tmin_us, stage_tmax_us; /* inclusive; of the parts */
};
MUST_CHECK enum err_code lake_snapshot(struct lake *lake, slice name, struct lake_snapshot *out, struct err *err);
void lake_snapshot_done(struct lake_snapshot *s);

/* ---- tail: woken when rows become visible */
struct lake_tail; /* one follower of one stream */
MUST_CHECK enum err_code lake_tail_open(struct lake *lake, slice name, struct lake_tail **out, struct err *err);
void lake_tail_close(struct lake_tail *t);
/* Row ids below *horizon are complete: no row with a smaller id will appear later. Calls wake(arg) once when the horizon passes
 * `after`, or at once if it has. */
uint64_t lake_tail_horizon(struct lake_tail *t);
void lake_tail_wait(struct lake_tail *t, uint64_t after, void (*wake)(void *arg), void *arg);
bool lake_tail_cancel(struct lake_tail *t, void *arg); /* true: wake(arg) will not be called any more */
bool lake_tail_dead(struct lake_tail *t);              /* the stream was deleted: wakes come at once, no rows will */

/* ---- operation */
/* Looks what other servers on this store did to streams; more often than every fence_us. Background threads do it by themselves. */
MUST_CHECK enum err_code lake_validate(struct lake *lake, struct err *err);
MUST_CHECK enum err_code lake_flush(struct lake *lake,
                                    struct err *err); /* everything acknowledged so far is in the catalog on return */
/* One look at the hot tier, which there must be: evicts, fetches for a few seconds. *behind: there is more to fetch. Background threads
 * do it by themselves. */
MUST_CHECK enum err_code lake_hot_round(struct lake *lake, bool *behind, struct err *err);
/* One line for the internal stream pmeta and a counter: kind is "loss", "rejected", "quarantine", "conflict", "inexact", ... */
void lake_event(struct lake *lake, const char *kind, slice stream, uint64_t rows, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
uint64_t lake_stage_rows(struct lake *lake);
