/* compress.h: the content codings of HTTP (RFC 9110 section 8.4.1, RFC 8878, RFC 7932) over zlib, brotli and zstd.
 * Bytes from outside may be hostile: output is bounded while it grows, so a bomb costs no more than its limit.
 * THREADS  one at a time per object. */
#pragma once
#include "base/buf.h"
#include "base/err.h"

enum coding { CODING_IDENTITY, CODING_GZIP, CODING_DEFLATE, CODING_BROTLI, CODING_ZSTD };
/* "gzip", "x-gzip", "deflate", "br", "zstd"; anything else: false. */
bool coding_parse(slice name, enum coding *out);
const char *coding_name(enum coding c);
/* The best coding we speak that an Accept-Encoding header allows (q-values; RFC 9110 section 12.5.3). */
enum coding coding_negotiate(slice accept);
/* Whole input -> whole output. ERR_INVALID: corrupt or truncated; ERR_LIMIT: more than size_max bytes. */
MUST_CHECK enum err_code decompress(enum coding c, slice in, size_t size_max, struct buf *out, struct err *err);

struct compressor;
struct compressor *compressor_new(enum coding c); /* NULL for CODING_IDENTITY */
void compressor_free(struct compressor *z);
/* Appends the coded bytes of `in`; `flush`: all of it can be decoded; `end`: last call. */
void compressor_add(struct compressor *z, slice in, bool flush, bool end, struct buf *out);
