/* rows.h: the row-id codec, which stands in the place of Parquet: the engine that writes Parquet wants real descriptors. A file
 * is "SIMROWS1", a count, then {id u64, time i64} each, newest first. THREADS  one. */
#pragma once
#include "base/buf.h"
#include "os/os.h"
#include "segment/segment.h"

struct sim_row {
    uint64_t id;
    int64_t time_us;
};
void rows_encode(const struct sim_row *rows, size_t count, struct buf *out);
/* false: not such a file. *rows is an allocation of the caller's. */
bool rows_decode(slice bytes, struct sim_row **rows, size_t *count);
/* What filters know of a row: its id, in one column. */
uint64_t rows_hash(const struct sim_row *row);
void rows_keys(const struct sim_row *rows, size_t count, struct segment_keys *out);
/* Sorts `rows` newest first, writes them into the empty file and says what the catalog wants to know of it. */
MUST_CHECK enum err_code rows_write(struct os *os, struct os_file *f, struct sim_row *rows, size_t count,
                                    struct segment_stats *stats, struct err *err);
