/* segment.h: rows in memory -> one Parquet file and the statistics the catalog keeps of it.
 *
 * One narrow call, so that the encoder behind it can change: today DuckDB's COPY into /proc/self/fd/N, later our own.
 * File: zstd level 1, format v2, row groups <= 122,880 rows, newest row first, field_id on every column and list element,
 * TIMESTAMP(MICROS, isAdjustedToUTC=true), key-value metadata sluice.order=newest_first.
 * OWNERSHIP  nothing is kept. THREADS  any; each call takes one of the writer's engines (bounded pool inside). */
#pragma once
#include "base/arena.h"
#include "batch/batch.h"
#include "os/os.h"

struct segment_stat { /* of one column; at most 16 a file: p_timestamp first, then lowest field ids, last the row id */
    uint32_t field_id;
    uint64_t min, max; /* order-preserving u64 (catalog.md section 10) */
    uint32_t nulls;
    bool has_minmax; /* false: all null */
};
struct segment_stats {
    uint64_t rows, bytes;
    uint32_t crc32c; /* of the whole file */
    int64_t tmin_us, tmax_us;
    struct segment_stat cols[16];
    uint32_t cols_count;
};
struct segment_part {
    struct batch_view view;
    const uint32_t *sel; /* rows in the order to write; NULL: all, last to first */
    uint32_t sel_count;
};
struct segment_writer;                   /* the encoder and its engines */
#define SEGMENT_FD_PATH "/proc/self/fd/" /* segment_merge() also reads descriptors of this process */
/* `read_dirs`: NULL-terminated, at most 6; where segment_merge() may read. */
MUST_CHECK enum err_code segment_writer_open(const char *temp_dir, const char *const *read_dirs,
                                             struct segment_writer **out, struct err *err);
void segment_writer_close(struct segment_writer *w);
/* Writes the rows of `parts` (in that order: newest part first) into the empty file `fd`; every field of a column in use must have its
 * id in `schema`. Columns with no value in any row are left out. Not synced. */
MUST_CHECK enum err_code segment_write(struct segment_writer *w, const struct schema *schema,
                                       const struct segment_part *parts, uint32_t parts_count, int fd,
                                       struct segment_stats *out, struct err *err);
/* Merges Parquet files (local paths, any order) into `fd`, sorted by p_timestamp, newest first; columns by field id, or by name. */
struct segment_input {
    const char *path;
    bool by_name; /* another's file */
};
MUST_CHECK enum err_code segment_merge(struct segment_writer *w, const struct schema *schema,
                                       const struct segment_input *inputs, uint32_t inputs_count, int fd,
                                       struct segment_stats *out, struct err *err);

/* ---- files that others wrote: columns go by name (adopted.c)
 *
 * What such a file may hold is decided before it is adopted: each of its columns is one of the stream's schema, or (static schema) none that
 * differs from one of them only in case. */
struct segment_column {
    slice name; /* exact */
    slice as;   /* in SQL; of segment_look(): what the engine calls it */
    struct type type;
};
struct segment_look {
    struct arena arena;
    struct segment_column *columns; /* in the file's order, types of ours */
    uint32_t count;
};
struct engine;
/* Appends a relation with `columns` over the files: read_parquet(...), or a UNION ALL of some. `schema`: the stream's. Runs statements on the
 * engine where the schema has columns that differ only in case. */
MUST_CHECK enum err_code segment_by_name_sql(struct engine *e, const char *const *paths, uint32_t paths_count,
                                             const struct schema *schema, const struct segment_column *columns,
                                             uint32_t count, struct buf *sql, struct err *err);
bool segment_has_twins(const struct schema *schema); /* columns that differ only in case */
/* The columns of one file. ERR_INVALID: one has a type or name that no stream can have; ERR_CORRUPT. */
MUST_CHECK enum err_code segment_look(struct segment_writer *w, const char *path, struct segment_look *out,
                                      struct err *err);
void segment_look_done(struct segment_look *l);
/* Reads all of it: rows, tmin, tmax and cols of `out`, by the ids of `schema`; bytes and checksum are left 0. ERR_INVALID: rows without
 * p_timestamp, or none at all; ERR_CORRUPT, ERR_IO: it cannot be read. */
MUST_CHECK enum err_code segment_survey(struct segment_writer *w, const struct schema *schema,
                                        const struct segment_look *look, const char *path, struct segment_stats *out,
                                        struct err *err);

/* ---- keys.c: hashes of the values of a file's key-like text columns, for filters outside the files (catalog/filter.h) */
#define SEGMENT_KEY_BYTES_MIN 1.5
#define SEGMENT_KEY_BYTES_MAX 48.0
#define SEGMENT_KEYS_COLUMNS_MAX 16
#define SEGMENT_KEYS_VALUES_MAX 16e6
struct segment_keys_column {
    uint32_t field_id;
    uint64_t *hashes; /* [count] distinct, ascending */
    size_t count;
};
struct segment_keys {
    struct segment_keys_column *columns; /* by field id, ascending */
    size_t count, cap;
};
/* Hash of one value as in segment_keys: also what a query asks filters with. It is stored in the bucket: it must never change. */
uint64_t segment_key_hash(slice value);
/* The hashes of all that `column = 'text'` can find in one file (local path, or a descriptor at SEGMENT_FD_PATH), its columns by field id or
 * by name. Columns: those of TYPE_UTF8 that are key-like, which is that by the file's own metadata their values (NULLs counted) take more
 * than SEGMENT_KEY_BYTES_MIN and at most SEGMENT_KEY_BYTES_MAX bytes each on average, uncompressed: less is a dictionary of few values that
 * nearly every file has all of, more is prose that nobody compares as a whole. At most SEGMENT_KEYS_COLUMNS_MAX of together at most
 * SEGMENT_KEYS_VALUES_MAX values, lowest field ids first. A column without an entry may hold anything; one with an entry holds nothing
 * else. NULLs have no hash. Memory: up to 16 bytes a distinct value.
 * ERR_CORRUPT, ERR_IO: cannot be read. */
MUST_CHECK enum err_code segment_keys(struct segment_writer *w, const struct schema *schema,
                                      const struct segment_input *input, struct segment_keys *out, struct err *err);
void segment_keys_done(struct segment_keys *k);

/* Values as unsigned numbers of the same order, for ranges in manifests (catalog.md section 10). */
static inline uint64_t segment_order_i64(int64_t v)
{
    return (uint64_t)v ^ UINT64_C(1) << 63;
}
/* IEEE 754 section 5.10, total order, but for the two zeros: SQL holds them equal, so they have one number. */
static inline uint64_t segment_order_f64(double v)
{
    uint64_t bits;

    v = v == 0 ? 0 : v;
    memcpy(&bits, &v, 8);
    return bits >> 63 ? ~bits : bits | UINT64_C(1) << 63;
}
uint64_t segment_order_text(slice s, bool round_up); /* first 8 bytes, big-endian */
