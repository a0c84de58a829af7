/* wal_int.h: the format of a segment and of the header file; no threads here.
 *
 * FORMAT  little-endian; a segment file is <20-digit number>.wal, preallocated with zeros or recycled with old bytes in it.
 *   offset size  segment header                          offset size  record, at multiples of 8
 *        0    4  magic "SWAL"                                 0    4  crc32c over bytes [4, 32 + body length)
 *        4    4  version, 1                                   4    4  magic "REC1"
 *        8    8  number of this segment                       8    8  body length
 *       16    8  hash of the wal id                          16    8  number of the segment
 *       24    8  number of the segment before; 0: none       24    8  offset of this record in the file
 *       32    8  where its records end (previous end)        32       body, zero padding to 8
 *       40    4  0
 *       44    4  crc32c over bytes [0, 44)
 * Segment number and offset in each record keep the old bytes of a recycled file from passing for new ones.
 *
 * WHY THE PREVIOUS END  A segment's header is written only after everything acknowledged in the segment before is synced. So a
 * valid header of segment m proves that its predecessor was good up to `previous end`; records that fail their check before that
 * point are damage (a hole, ERR_CORRUPT), never a torn write. Only the last segment may end anywhere: what follows its longest
 * valid prefix was never acknowledged and is cut. The same field closes a poisoned segment: it stops at its last acknowledged
 * record, and what a failed sync left behind it is never replayed. */
#pragma once
#include "base/buf.h"
#include "wal/wal.h"

#define WAL_SEGMENT_HEAD 48
#define WAL_RECORD_HEAD 32

struct wal_segment_head {
    uint64_t number, wal_hash, prev_number, prev_end;
};
static inline uint64_t wal_record_size(uint64_t body_len)
{
    return (WAL_RECORD_HEAD + body_len + 7) & ~UINT64_C(7);
}
void wal_segment_head_put(uint8_t out[WAL_SEGMENT_HEAD], const struct wal_segment_head *h);
bool wal_segment_head_get(slice file, struct wal_segment_head *out);
void wal_record_head_put(uint8_t out[WAL_RECORD_HEAD], const struct os_iov *body, int n, uint64_t body_len, uint64_t segment,
                         uint64_t offset);
/* The record at *offset; moves *offset behind it. false: none there, or it is damaged. */
bool wal_record_get(slice file, uint64_t segment, uint64_t *offset, slice *body);
/* Bytes from `offset` to the end of the last trace of a record of this segment: what recovery cuts. */
uint64_t wal_torn_bytes(slice file, uint64_t segment, uint64_t offset);
void wal_header_print(const struct wal_header *h, struct buf *out);
MUST_CHECK enum err_code wal_header_parse(slice text, struct wal_header *out, struct err *err);
