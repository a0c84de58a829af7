/* wal.h: append-only log that makes an accepted request survive a crash; also the agent's channel.
 *
 * A directory holds a header file (identity; and the lane that this log commits to: catalog.md R3, R4) and segments,
 * preallocated (64 MiB) and recycled. A record belongs to the segment it starts in; a segment is the unit of flush.
 * One writer thread, group commit: every record queued while an fdatasync runs rides on the next one.
 * FORMAT  in wal.c's head comment; little-endian, crc32c, version, segment number in every record so that a recycled
 *   segment's old bytes are never taken for new ones.
 * INVARIANTS
 *   I1  A record is reported durable only after an fdatasync that covers it returned 0 (ack WAL_SYNC).
 *   I2  Recovery keeps the longest valid prefix, cuts the rest and reports how many bytes; a hole (a damaged record that a sync had
 *       covered: wal_int.h says how it knows) stops the start with segment and offset: ERR_CORRUPT.
 *   I3  A failed write or sync poisons the current segment: its unacknowledged records answer ERR_IO/ERR_UNAVAILABLE; a
 *       probe on a new segment must succeed before appends are taken again (meanwhile ERR_UNAVAILABLE). Acknowledged
 *       records are never lost by it. A record whose ack failed may be replayed only if it was never answered (ERR_UNKNOWN).
 *   I4  Segment numbers only grow, also over restarts and recycling.
 *   I5  A released segment is never replayed again after a restart (release is made durable by the catalog: the caller passes
 *       the committed number at open).
 *   I6  One process per directory (flock): ERR_CONFLICT otherwise.
 * THREADS  any thread may append, seal, release. Callbacks run on the writer thread and must not block.
 * TESTS  wal_test.c, wal_fuzz.c (any bytes as a segment), sim/ (torn, lost, reordered writes). */
#pragma once
#include "base/err.h"
#include "base/slice.h"
#include "os/os.h"

#define WAL_BODY_BYTES_MAX (128u << 20) /* one record; its segment grows to hold it */

struct wal;
struct wal_options {
    uint64_t segment_bytes;       /* preallocation, default 64 MiB */
    uint64_t queue_bytes_max;     /* appended, not written yet: beyond it ERR_LIMIT; default 64 MiB */
    uint64_t disk_bytes_max;      /* all live segments: beyond it ERR_UNAVAILABLE (back-pressure); default 8 GiB */
    uint64_t disk_free_bytes_min; /* keep this much of the file system free; default 256 MiB */
    int64_t sync_delay_us_max;    /* extra wait to gather more records; default 0 */
};
struct wal_header {   /* small facts that must survive with the log; rewritten as a whole */
    char wal_id[33];  /* 128 random bits, hex; made at the first open */
    char lane[24];    /* lane named here; "" at first */
    char session[33]; /* nonce of the session that opened it last */
    /* What the log commits as, and the segment above which it does: another id than its own since it has a lane, and yet another when the
     * disk was cloned. "": as wal_id, from the first. */
    char commit_id[33];
    uint64_t base;
    char cluster[27]; /* id of the store that the lane is in; "": written before this was */
};
enum wal_ack {
    WAL_SYNC,  /* done after an fdatasync covers the record */
    WAL_WRITE, /* done after write(2): survives kill -9, not a power cut (ack=relaxed) */
};
struct wal_pos {
    uint64_t segment; /* from 1 */
    uint64_t offset;  /* of the record in it */
};
/* rc ERR_OK: durable as asked. Runs on the writer thread, in append order within a segment. */
typedef void (*wal_done_fn)(void *arg, enum err_code rc, const struct err *err);
/* Replay: every record above `committed`, in order. Body is borrowed. Not ERR_OK stops the open with it. */
typedef enum err_code (*wal_replay_fn)(void *arg, struct wal_pos pos, slice body, struct err *err);

/* Step 1: lock, read the header, find segments; nothing is replayed yet. ERR_CONFLICT: another process has it. */
MUST_CHECK enum err_code wal_open(struct os *os, const char *dir, const struct wal_options *opt, struct wal **out,
                                  struct err *err);
const struct wal_header *wal_header(const struct wal *wal);
MUST_CHECK enum err_code wal_set_header(struct wal *wal, const struct wal_header *h, struct err *err);
/* The highest number that any segment file here has, 0: none. Between the two steps. */
MUST_CHECK enum err_code wal_last_segment(struct wal *wal, uint64_t *out, struct err *err);
/* Step 2: replay segments > committed; those <= committed are recycled. Reports bytes cut at the tail. Then the
 * writer thread starts on a new segment. */
MUST_CHECK enum err_code wal_start(struct wal *wal, uint64_t committed, wal_replay_fn fn, void *arg,
                                   uint64_t *bytes_cut, struct err *err);
/* Copies nothing: iov's bytes must live until `done`. *out (may be NULL): where it will stand; known at once, so that the
 * caller counts it to that segment. ERR_LIMIT: body too large; ERR_UNAVAILABLE: queue full, poisoned or disk mark; `done` is
 * not called then. */
MUST_CHECK enum err_code wal_append(struct wal *wal, const struct os_iov *iov, int n, enum wal_ack ack,
                                    wal_done_fn done, void *arg, struct wal_pos *out, struct err *err);
/* Ends the current segment (if it has records) and returns its number, or 0; later appends go to the next. */
uint64_t wal_seal(struct wal *wal);
/* The records of a live segment again, from its file; all of it must have been answered. ERR_NOT_FOUND: no such segment. */
MUST_CHECK enum err_code wal_read(struct wal *wal, uint64_t segment, wal_replay_fn fn, void *arg, struct err *err);
/* Segments <= `upto` are committed elsewhere: recycle them. */
void wal_release(struct wal *wal, uint64_t upto);
struct wal_stat {
    uint64_t segment, segment_bytes, live_segments, live_bytes, queued_bytes;
    uint64_t records, syncs, bytes_written;
    bool poisoned;
    bool disk_low; /* less is free than disk_free_bytes_min */
};
void wal_stat(struct wal *wal, struct wal_stat *out);
void wal_close(struct wal *wal); /* writes and syncs what is queued, then joins; NULL is fine */
DEFINE_CLEANUP(struct wal *, wal_close)
