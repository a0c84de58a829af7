/* segment_int.h: what the files of segment/ share. */
#pragma once
#include "engine/engine.h"
#include "segment/segment.h"

#define SEGMENT_STATS_FIELDS_MAX 15 /* of the schema; the row id is the 16th column */

/* Which fields get statistics: p_timestamp, then the lowest field ids that are no lists. `used` by field index. Returns how many. */
uint32_t segment_stat_fields(const struct schema *schema, const bool *used, uint32_t out[SEGMENT_STATS_FIELDS_MAX]);
/* rows, tmin, tmax and cols of `out` from the rows themselves. */
void segment_stats_compute(const struct schema *schema, const struct segment_part *parts, uint32_t parts_count,
                           const uint32_t *fields, uint32_t fields_count, struct segment_stats *out);

/* ---- parquet.c: an engine for one call */
struct segment_lease {
    struct segment_writer *writer;
    struct engine *engine;
    unsigned slot;
};
MUST_CHECK enum err_code segment_lease_begin(struct segment_writer *w, struct segment_lease *l, struct err *err);
void segment_lease_end(struct segment_lease *l);
/* rows, tmin, tmax and cols of a relation with columns c<field> of the fields in use, and row_id. `all`: every column is read. */
MUST_CHECK enum err_code segment_summarize(struct engine *e, const struct schema *schema, const bool *used,
                                           const char *from, bool all, struct segment_stats *out, struct err *err);
/* A file as a relation with columns c<field> of the fields in use, and row_id. */
MUST_CHECK enum err_code segment_input_sql(struct engine *e, const struct schema *schema,
                                           const struct segment_input *input, const bool *used, struct buf *sql,
                                           struct err *err);

/* ---- adopted.c */
void segment_text_sql(slice s, struct buf *sql);                                   /* 'text' */
void segment_paths_sql(const char *const *paths, uint32_t count, struct buf *sql); /* ['path', ...] */
/* What a footer says of the columns of a file, in the file's order. */
struct segment_file_column {
    slice name;
    uint32_t field_id; /* 0: none */
    uint32_t
        leaf; /* its number among the columns of a row group (column_id of parquet_metadata()); nested: its first */
    bool nested;
};
MUST_CHECK enum err_code segment_file_columns(struct engine *e, const char *path, struct arena *arena,
                                              struct segment_file_column **out, size_t *count, struct err *err);
