/* wal_int.h: the format of a segment and of the header file, and what the files of this room share.
 *
 * FORMAT  little-endian; a segment file is <20-digit number>.wal, preallocated with zeros or recycled with old bytes in it.
 *   offset size  segment header                          offset size  record, at multiples of 8
 *        0    4  magic "SWAL"                                 0    4  crc32c over bytes [4, 32 + body length)
 *        4    4  version, 1                                   4    4  magic "REC1"
 *        8    8  number of this segment                       8    4  body length
 *       16    8  hash of the wal id                          12    4  synced end / 8
 *       24    8  number of the segment before; 0: none       16    8  number of the segment
 *       32    8  where its records end (previous end)        24    8  offset of this record in the file
 *       40    4  0                                           32       body, zero padding to 8
 *       44    4  crc32c over bytes [0, 44)
 * The crc32c of a record is over the body, then its bytes [4, 32): so the appending thread does the long part of it.
 * Segment number and offset in each record keep the old bytes of a recycled file from passing for new ones.
 *
 * A HOLE AND A TORN TAIL  Two fields say what was durable when they were written; both are written only after the sync that makes
 * them true, and what they cover may have been acknowledged. So a damaged record that one of them covers is a hole (ERR_CORRUPT), and
 * one that none covers was never acknowledged with WAL_SYNC and is cut, with all behind it.
 *   previous end  of a segment's header: its predecessor is good up to there. Nothing is written to a segment before the one before it
 *                 is synced. The same field closes a poisoned segment: it ends at its last synced record, and what a failed sync
 *                 left behind that is never replayed.
 *   synced end    of a record: this segment is good up to there (the header at least). A group commit that tears may
 *                 leave a damaged record with whole ones behind it: those are of the same batch, so their synced end lies before.
 * What no field covers yet is the last batch (one fdatasync): damage there looks like a torn write, and is reported as bytes cut. */
#pragma once
#include "base/buf.h"
#include "wal/wal.h"

#define WAL_SEGMENT_HEAD 48
#define WAL_RECORD_HEAD 32
#define SPARES_MAX \
    3 /* kept of released files: with fewer, a flush of two segments at once has zeros written anew again and again */

struct wal_segment_head {
    uint64_t number, wal_hash, prev_number, prev_end;
};
static inline uint64_t wal_record_size(uint64_t body_len)
{
    return (WAL_RECORD_HEAD + body_len + 7) & ~UINT64_C(7);
}
void wal_segment_head_put(uint8_t out[WAL_SEGMENT_HEAD], const struct wal_segment_head *h);
bool wal_segment_head_get(slice file, struct wal_segment_head *out);
struct wal_record_head {
    struct wal_pos pos;
    uint32_t body_len;
    uint64_t synced_end; /* of this segment, when the record was written; a multiple of 8 */
};
uint32_t wal_body_crc(const struct os_iov *body, int n);
void wal_record_head_put(uint8_t out[WAL_RECORD_HEAD], const struct wal_record_head *h, uint32_t body_crc);
/* The record at *offset; moves *offset behind it. false: none there, or it is damaged. */
bool wal_record_get(slice file, uint64_t segment, uint64_t *offset, slice *body);
struct wal_tail {
    uint64_t
        torn_bytes; /* from `offset` to the end of the last trace of a record of this segment: what recovery cuts */
    uint64_t synced_end; /* the highest that a whole record in there claims */
};
struct wal_tail wal_tail_scan(slice file, uint64_t segment, uint64_t offset);
void wal_header_print(const struct wal_header *h, struct buf *out);
MUST_CHECK enum err_code wal_header_parse(slice text, struct wal_header *out, struct err *err);

/* ---- wal.c and recover.c */

struct wal_request {
    struct wal_request *next;
    struct wal_pos pos;
    uint64_t size; /* in the file */
    enum wal_ack ack;
    wal_done_fn done;
    void *arg;
    uint32_t body_len, body_crc;
    int n;
    uint8_t head[WAL_RECORD_HEAD];
    struct os_iov iov[]; /* head, body, padding */
};
struct live_segment {
    uint64_t number, bytes;
};
struct wal {
    struct os *os;
    char *dir;
    struct wal_options opt;
    struct wal_header header;
    uint64_t wal_hash;
    struct os_file *lock;

    struct os_mutex *mu;
    struct os_cond *wake;      /* writer: work, probe time, stop */
    struct os_cond *prep_wake; /* preparer */
    struct wal_request *head, *tail;
    uint64_t queued_bytes;
    uint64_t segment;          /* that the next append goes to */
    uint64_t offset;           /* where, in it */
    uint64_t segment_room;     /* its size limit: larger than usual for one large record */
    struct live_segment *live; /* ascending: on disk or about to be; the last may be `segment` */
    size_t live_count, live_cap;
    uint64_t live_bytes;
    char *spares[SPARES_MAX + 1]; /* paths of prepared files; one may come from the preparer meanwhile */
    unsigned spares_count;
    uint64_t spare_number;
    bool poisoned, disk_low, stopping, started;
    uint64_t records, syncs, bytes_written;

    /* writer thread only */
    struct os_file *file;
    uint64_t file_number, prev_number, prev_end;
    uint64_t written_end,
        synced_end; /* of the file's records: answered to WAL_WRITE or better; covered by a sync that worked */
    bool dirty;
    int64_t disk_checked_us;
    struct os_thread *writer, *preparer;
};

char *wal_segment_path(const struct wal *w, uint64_t number); /* the caller's to free */
bool wal_segment_name(const char *name, uint64_t *number);
void wal_remove_file(struct wal *w, const char *path);
void wal_segment_recycle(struct wal *w, uint64_t number);
/* Fills live, live_bytes, spares, prev_number, prev_end and segment of a log that is not started. */
MUST_CHECK enum err_code wal_recover(struct wal *w, uint64_t committed, wal_replay_fn fn, void *arg,
                                     uint64_t *bytes_cut, struct err *err);
/* The records of one segment's file. `end_wanted`: where they end for sure; 0: nobody knows, this is the last segment. ERR_CORRUPT: a
 * hole; *end and *cut are written then too. */
MUST_CHECK enum err_code wal_segment_replay(slice file, uint64_t number, uint64_t end_wanted, wal_replay_fn fn,
                                            void *arg, uint64_t *end, uint64_t *cut, struct err *err);
