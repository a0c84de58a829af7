/* filter.h: ".slf", an immutable pack of bloom filters of many files of one incarnation, outside these files: which of them can hold a value of
 * a column is answered by a few bytes of each, and those of all files of a pack lie side by side. A search for one id over a thousand files
 * is so a few requests instead of two thousand (footer and bloom filter of each).
 *
 *   0 "SLF1"  4 version u16  6 flags u16  8 header_len u32  12 files u32  16 groups u32  20 members u32, of all groups  24 head_slot u64
 *  32 file_len u64  40 groups x { field id u32, blocks u32, members u32, reserved u32, offset u64 }
 *     members u32 each: index of a file, ascending within a group
 *     paths: files + 1 u32 offsets, then the bytes ("date=.../....parquet")
 *     zeros up to a multiple of 4, then crc32c u32 of all before it: header_len ends here
 *     rows of the groups: of group g, block b: members x 32 bytes, crc32c u32 of them; offset + b * (32 * members + 4)
 * A group has the filters of one column that have as many blocks: block b of each of them in one row. The filters are split-block bloom filters
 * as in Parquet (github.com/apache/parquet-format, BloomFilter.md), of segment_key_hash(), with 16 bits a value or more: one value in a
 * thousand or fewer is held possible by mistake. A file of a pack that is in no group of a column may hold any value of it.
 *
 * INVARIANTS  F1  What a filter says no to is in no row of its file. A damaged filter would cost an answer rows without a word: so each row of a pack
 *                 has its own checksum, and a file is checked before its filter is made.
 *             F2  A pack is named by heads as a manifest is, and lives and dies by the same rules (sweep.h): "_meta/<head slot>-...".
 *             F3  Nothing but speed depends on a pack: where one cannot be read, its files are looked into.
 * THREADS  any. TESTS filter_test.c, filter_fuzz.c. */
#pragma once
#include "base/arena.h"
#include "base/map.h"
#include "store/store.h"

#define FILTER_FILES_MAX 4096u
#define FILTER_COLUMNS_MAX 16u /* of a file */
#define FILTER_GROUPS_MAX (FILTER_FILES_MAX * FILTER_COLUMNS_MAX)
#define FILTER_FIELDS_MAX 16u
#define FILTER_HEADER_MAX (16u << 20)

/* ---- filters of files, on their way into a pack */
struct filter_column {
    uint32_t field_id, blocks;
    uint8_t *bits; /* [32 * blocks], owned */
};
struct filter_file {
    char *path; /* below the incarnation's directory; owned */
    struct filter_column *columns;
    size_t count, cap;
};
struct filter_files {
    struct filter_file *items;
    size_t count, cap;
    uint64_t bytes; /* of all bits */
};
struct filter_file *filter_files_add(struct filter_files *f, slice path); /* good until the next call */
/* A filter of these hashes, each value once. */
void filter_file_put(struct filter_files *f, struct filter_file *file, uint32_t field_id, const uint64_t *hashes,
                     size_t count);
void filter_files_done(struct filter_files *f);
/* Gives the pack piece by piece. */
MUST_CHECK enum err_code slf_encode(const struct filter_files *f, uint64_t head_slot,
                                    enum err_code (*put)(void *arg, slice piece, struct err *err), void *arg,
                                    uint32_t *header_len, struct err *err);

/* ---- a pack's header, decoded */
struct slf_group {
    uint32_t field_id, blocks, members;
    const uint32_t *files; /* [members] */
    uint64_t offset;
};
struct slf {
    uint32_t files, groups_count;
    struct slf_group *groups;
    const uint32_t *paths; /* files + 1 offsets, then bytes */
    uint64_t head_slot, file_len;
};
/* `header` must be aligned to 8 and outlive *out; groups are in the arena. ERR_CORRUPT; ERR_INVALID: of a newer version. */
MUST_CHECK enum err_code slf_decode(slice header, struct arena *arena, struct slf *out, struct err *err);
slice slf_path(const struct slf *s, uint32_t file);
/* Where the row that decides about `hash` lies. */
void slf_row_at(const struct slf_group *g, uint64_t hash, uint64_t *offset, uint64_t *len);
bool slf_row_valid(const struct slf_group *g, slice row);
bool slf_row_has(slice row, uint32_t member, uint64_t hash);
/* Checks a whole pack: the header, and every row. */
MUST_CHECK enum err_code slf_check(slice bytes, struct err *err);
/* Adds the filters of those files of a whole pack that `wanted` says yes to. */
MUST_CHECK enum err_code slf_take(slice bytes, bool (*wanted)(void *arg, slice path), void *arg,
                                  struct filter_files *out, struct err *err);

/* ---- references */
struct slf_image {
    struct slf slf;
    struct arena arena;
    struct buf bytes;   /* the header */
    struct map by_path; /* -> index of the file + 1 */
};
struct filter { /* a reference in heads, with the header once it was needed */
    _Atomic uint32_t refs;
    slice path; /* "_meta/...", below the incarnation's directory */
    uint32_t crc32c, header_len;
    uint64_t bytes_len, count; /* of the object; files */
    int64_t tmin_us, tmax_us;  /* of the files, when it was made */
    uint32_t fields[FILTER_FIELDS_MAX],
        fields_count; /* of which columns it has filters, ascending; 0: of more than fit, or of none */
    _Atomic(struct slf_image *) image;
    _Atomic bool broken; /* it was missing or damaged: nobody asks it again, catalog_index() makes it anew */
};
struct filter *filter_new(slice path, uint32_t crc, uint64_t bytes_len, uint32_t header_len, uint64_t count,
                          int64_t tmin_us, int64_t tmax_us);
void filter_set_fields(struct filter *f, const struct filter_files *of); /* of a new one */
bool filter_may_know(const struct filter *f, uint32_t field_id);
struct filter *filter_ref(struct filter *f);
void filter_unref(struct filter *f);
/* Reads the header of the object below `dir` ("<enc>/<sid>/") once. *out lives as long as the reference. */
MUST_CHECK enum err_code filter_load(struct store *store, slice dir, struct filter *f, const struct slf_image **out,
                                     struct err *err);
