/* units.h: sizes and durations as people write them. THREADS any. */
#pragma once
#include "base/buf.h"
#include "base/err.h"

/* "64MiB", "1.5 GB", "1024"; a bare number counts `unit` bytes, 1 when that is 0. ERR_INVALID. */
MUST_CHECK enum err_code parse_size(slice s, uint64_t unit, uint64_t *bytes, struct err *err);
/* "10s", "1h30m", "250ms"; a bare number counts `unit` microseconds, or is refused when 0. */
MUST_CHECK enum err_code parse_duration(slice s, uint64_t unit, uint64_t *us, struct err *err);
void print_size(struct buf *out, uint64_t bytes);  /* "64MiB", exact: parse_size gives the same number back */
void print_duration(struct buf *out, uint64_t us); /* "10s", exact */
