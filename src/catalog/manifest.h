/* manifest.h: ".slm", an immutable list of up to 16,384 files of one incarnation as fixed-width columns that are searched in place
 * (catalog.md section 10; section 14, width 8, is ours: raw JSON bytes). A head holds a reference {path, counts, time range}; the bytes
 * are read at the first use and kept as long as any head or version names them.
 *
 *   0 "SLM1" 4 version u16 6 flags u16 8 sid[16] 24 head_slot u64 32 count u32 36 sections u32 40 file_len u64 48 tmin 56 tmax
 *   64 rows 72 bytes 80 reserved 84 crc32c over bytes 0-83 and the directory
 *   88 directory: {id u16, width u16, crc32c u32, offset u64, length u64} each; sections start at multiples of 64
 * Columns of statistics c < 16: 64+3c min, 65+3c max, 66+3c nulls. A file without a statistic of that field has (0, 2^64-1, 2^32-1), one
 * whose values are all null (2^64-1, 0, rows): a range can not match it.
 * THREADS  any. TESTS catalog_test.c, manifest_fuzz.c. */
#pragma once
#include "catalog/append.h"
#include "catalog/entry.h"

#define MANIFEST_FILES_MAX 16384u
#define MANIFEST_COLS_MAX 16u

struct slm { /* a decoded image: pointers into the bytes */
    uint32_t count, cols_count;
    uint64_t head_slot, rows, bytes;
    int64_t tmin_us, tmax_us;
    const int64_t *tmax, *tmin, *suffix_tmin;
    const uint64_t *file_bytes, *slot, *added, *raw_bytes;
    const uint8_t *session; /* 8 bytes each: 5 session, 3 n (little-endian u64: session << 24 | n) */
    const uint32_t *rows_of, *schema, *dir, *lane, *crc32c, *field_ids;
    const uint32_t *dirs, *lanes; /* string tables: count + 1 offsets, then bytes */
    uint32_t dirs_count, lanes_count;
    const uint64_t *col_min[MANIFEST_COLS_MAX], *col_max[MANIFEST_COLS_MAX];
    const uint32_t *col_nulls[MANIFEST_COLS_MAX];
};
/* Entries in any order; every path must parse (entries are checked when they come in). */
void slm_encode(const struct sid *sid, uint64_t head_slot, struct entry *const *entries, size_t count, struct buf *out);
/* `bytes` must be aligned to 8 and outlive *out. ERR_CORRUPT. */
MUST_CHECK enum err_code slm_decode(slice bytes, struct slm *out, struct err *err);
void slm_path(const struct slm *m, uint32_t row, struct buf *out);
struct entry *slm_entry(const struct slm *m, uint32_t row);

struct manifest { /* a reference in heads, with the image once it was needed */
    _Atomic uint32_t refs;
    slice path; /* "_meta/...", below the incarnation's directory */
    uint32_t crc32c;
    uint64_t bytes_len; /* of the object */
    uint64_t rows, bytes, raw_bytes, count;
    int64_t tmin_us, tmax_us;
    _Atomic(struct slm_image *) image;
};
struct slm_image {
    struct slm slm;
    struct buf bytes;
};
struct manifest *manifest_new(slice path, uint32_t crc, uint64_t bytes_len, uint64_t rows, uint64_t bytes, uint64_t raw,
                              uint64_t count, int64_t tmin_us, int64_t tmax_us);
struct manifest *manifest_ref(struct manifest *m);
void manifest_unref(struct manifest *m);
/* Reads and checks the object below `dir` ("<enc>/<sid>/") once. *out lives as long as the manifest. */
MUST_CHECK enum err_code manifest_load(struct store *store, slice dir, struct manifest *m, const struct slm **out,
                                       struct err *err);
