/* write_int.h: what the writers share: a cursor into the answer, columns with their keys, values as text. */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/numtext.h"
#include "query/writer.h"

/* A cursor into a buf, so that a value costs one comparison of pointers and no call. cursor_end() gives the bytes to the buf. */
struct cursor {
    uint8_t *p, *end;
    struct buf *buf;
};
void cursor_grow(struct cursor *c, size_t room);
static inline struct cursor cursor_of(struct buf *b)
{
    return (struct cursor){b->ptr + b->len, b->ptr + b->cap, b};
}
static inline void cursor_end(struct cursor *c)
{
    if (c->p)
        c->buf->len = (size_t)(c->p - c->buf->ptr);
}
static inline size_t cursor_len(const struct cursor *c) /* of the buf, were it given back now */
{
    return c->p ? (size_t)(c->p - c->buf->ptr) : 0;
}
static inline void cursor_room(struct cursor *c, size_t room)
{
    if ((size_t)(c->end - c->p) < room)
        cursor_grow(c, room);
}
/* These two want room made before. */
static inline void cursor_byte(struct cursor *c, uint8_t byte)
{
    if (!c->p)
        __builtin_unreachable();
    *c->p++ = byte;
}
static inline void cursor_put(struct cursor *c, slice s)
{
    memcpy(c->p, s.ptr, s.len);
    c->p += s.len;
}

/* A column, or an inner type of one. */
struct write_column {
    const struct engine_field *field;
    slice name;
    slice key; /* a byte for `{` or `,`, the name as JSON, a colon; readable up to the next multiple of 16 */
    enum gate_show show;
    uint32_t children_count;
    struct write_column *children;
    int64_t twin_next, twin_last; /* columns of the same name: the next one, the last one; -1: none */
};

/* Members begin with their key; short ones, nearly all, are copied without a call. */
static inline void cursor_key(struct cursor *c, const struct write_column *col, uint8_t before)
{
    size_t len = col->key.len;

    cursor_room(c, len + 15);
    for (size_t at = 0; at < len; at += 16)
        memcpy(c->p + at, col->key.ptr + at, 16);
    *c->p = before;
    c->p += len;
}

/* The date of the row before: rows of one answer are mostly of one day. */
struct write_date {
    int64_t days;
    uint32_t len; /* 0: none yet */
    char text[24];
};

struct write_arrow;
struct writer {
    struct writer_options opt;
    struct arena arena; /* columns, keys */
    struct write_column *columns;
    uint32_t columns_count;
    bool rows_before; /* JSON: a comma is due */
    struct write_date date;
    struct buf scratch; /* a nested value on its way into a CSV field or a key */
    struct write_arrow *arrow;
    uint64_t arrow_batch_max;  /* bytes of text or items of lists in a column, if the batch has more than one row */
    uint64_t arrow_offset_max; /* of a row: INT32_MAX; tests have less */
};

/* ---- write_text.c: a valid value as text */
#define WRITE_SCALAR_MAX 96 /* of every type but TEXT, BLOB, ENUM and the nested ones: the longest is an interval */
/* A number, boolean, time, interval, UUID: without quotes. Wants WRITE_SCALAR_MAX of room. */
char *write_scalar(struct write_date *date, const struct write_column *col, const struct engine_vector *v, uint64_t row,
                   char *out);
void write_json_text(struct cursor *c, slice s); /* quoted and escaped */
/* A value or null as JSON. */
void write_json_value(struct writer *w, struct cursor *c, const struct write_column *col, const struct engine_vector *v,
                      uint64_t row);
slice write_enum(const struct engine_field *f, const struct engine_vector *v, uint64_t row);
i128 write_decimal(const struct engine_field *f, const void *data, uint64_t row); /* unscaled */
void write_uuid(char out[36], const void *data, uint64_t row);
void write_hex(struct cursor *c, slice s);

/* ---- one file a format */
void write_json_begin(struct writer *w, struct buf *out);
/* From *row on, as writer_rows(). */
void write_json_rows(struct writer *w, const struct engine_chunk *chunk, uint64_t *row, struct buf *out);
void write_json_end(struct writer *w, struct buf *out);
void write_csv_begin(struct writer *w, struct buf *out);
void write_csv_rows(struct writer *w, const struct engine_chunk *chunk, uint64_t *row, struct buf *out);
void write_arrow_new(struct writer *w);
void write_arrow_free(struct write_arrow *a); /* NULL is fine */
void write_arrow_begin(struct writer *w, struct buf *out);
MUST_CHECK enum err_code write_arrow_rows(struct writer *w, const struct engine_chunk *chunk, uint64_t *row,
                                          struct buf *out, struct err *err);
void write_arrow_end(struct buf *out);

/* The engine's layouts (duckdb.h: duckdb_list_entry, duckdb_interval, duckdb_hugeint). */
struct engine_list_entry {
    uint64_t offset, length;
};
struct engine_interval {
    int32_t months, days;
    int64_t micros;
};
