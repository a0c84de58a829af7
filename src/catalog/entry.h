/* entry.h: what the catalog knows of one data file. Immutable and counted: heads, versions and lane records share them.
 * JSON (lanes and heads): {"added","bytes","cols":{"<id>":[min,max,nulls]},"crc32c","path","raw","rows","schema","tmax","tmin"}, min and
 * max as 16 hex digits, null when every value is null; in lanes also "sid" and "stream". `raw` are the JSON bytes of the rows.
 * THREADS  any (atomic counts). */
#pragma once
#include "catalog/names.h"

#define ENTRY_COLS_MAX 16u
/* In `schema`, which else is the version of the stream's schema that the writer knew when it committed the file: it has all the file's columns. */
#define FILE_COLUMNS_BY_NAME (UINT32_C(1) << 31)

struct entry {
    _Atomic uint32_t refs;
    uint32_t crc32c, schema, cols_count;
    uint64_t rows, bytes, raw_bytes, added; /* added: head slot that first listed it; SLOT_NONE in a lane */
    int64_t tmin_us, tmax_us;               /* inclusive */
    slice path;                             /* below "<enc-name>/<sid>/" */
    const struct segment_stat *cols;        /* ascending field_id */
};
struct entry *entry_new(slice path, const struct segment_stats *stats, uint64_t raw_bytes, uint32_t schema,
                        uint64_t added);
struct entry *entry_with_added(const struct entry *e, uint64_t added);
struct entry *entry_ref(struct entry *e);
void entry_unref(struct entry *e);
DEFINE_CLEANUP(struct entry *, entry_unref)
/* `sid` and `stream` are written when sid is not NULL; `added` when it is known. */
void entry_put(struct buf *out, const struct entry *e, const struct sid *sid, slice stream);
MUST_CHECK enum err_code entry_get(const json_t *o, struct entry **out, struct err *err);

/* A growable list that owns its references. */
struct entry_list {
    struct entry **items;
    size_t count, cap;
};
void entry_list_add(struct entry_list *l, struct entry *e); /* takes the reference */
void entry_list_done(struct entry_list *l);
