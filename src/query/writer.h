/* writer.h: chunks of an engine's result -> bytes of an answer (contract 5.1, 5.4 to 5.6): JSON array, {"fields","records"}, NDJSON (one row a
 * line, or the contract's one array a line), CSV (RFC 4180), Arrow IPC stream. Internal to query/.
 *
 * Column names and what the engine's types can not tell come from the gate. THREADS one. */
#pragma once
#include "query/gate.h"
#include "query/query.h"

struct writer;
struct writer_options {
    enum query_format format;
    bool fields, send_null, batches; /* as in struct query_request */
    const struct gate_name *names;   /* by position, names_count == count; borrowed until writer_free() */
    size_t names_count;
};
/* `fields` is borrowed until writer_free(). ERR_INVALID: a type that the format has no form for. */
MUST_CHECK enum err_code writer_new(const struct writer_options *opt, const struct engine_field *fields, uint32_t count,
                                    struct writer **out, struct err *err);
void writer_free(struct writer *w); /* NULL is fine */
DEFINE_CLEANUP(struct writer *, writer_free)
const char *writer_content_type(const struct writer_options *opt);
/* Each appends to `out`. An answer is begin, chunk*, end. */
void writer_begin(struct writer *w, struct buf *out);
MUST_CHECK enum err_code writer_chunk(struct writer *w, const struct engine_chunk *chunk, struct buf *out,
                                      struct err *err);
void writer_end(struct writer *w, struct buf *out);
/* The same in pieces, for chunks of long rows: from *row on, at least one row, until WRITER_PIECE_BYTES of text or the chunk's end; moves
 * *row. In the contract's NDJSON and in Arrow each piece is a batch. */
#define WRITER_PIECE_BYTES (1u << 20)
MUST_CHECK enum err_code writer_rows(struct writer *w, const struct engine_chunk *chunk, uint64_t *row, struct buf *out,
                                     struct err *err);
/* One row as a JSON object, nulls left out unless send_null: the tail's events. */
void writer_row(struct writer *w, const struct engine_chunk *chunk, uint64_t row, struct buf *out);
