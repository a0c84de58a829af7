/* json.h: JSON events -> columns (contract sections 2.2 to 2.6 and 2.9).
 *
 * Two steps. decode_json() needs no lock: it reads the body once, flattens, and fills one builder per (name, JSON kind).
 * decode_resolve() runs under the stream's lock: it decides, against the schema of that moment, which column each builder
 * becomes (plain name, sibling `<name>_<suffix>`, timestamp), grows the schema, adds injected columns, and yields the batch.
 * The same body, options and schema give the same batch, so a WAL replay rebuilds what was acknowledged.
 * REFUSED  Nothing of the request is kept. Messages say the row (from 1), malformed JSON the byte offset (from 0) too.
 *   ERR_INVALID (400): malformed JSON, duplicate keys, bad UTF-8, lone surrogates, nested too deeply; decoder_malformed() tells
 *     these from the rest: scalars, reserved p_timestamp, types, static schemas, partitions, too many columns.
 *   ERR_LIMIT (413): more rows or bytes after explosion than the options allow.
 * REPLAY  What was accepted once must be again: pass 0 (no limit) for rows_max, bytes_max and columns_max.
 * THREADS  a decoder (hint and scratch memory) is one thread's at a time. */
#pragma once
#include "batch/batch.h"

enum decode_flatten {
    DECODE_GENERIC,     /* arrays explode into rows up to flatten_level, deeper requests fall back to objects only */
    DECODE_OBJECTS_ONLY /* otel, kinesis, pmeta */
};
struct decode_options {
    enum decode_flatten flatten;
    uint32_t flatten_level; /* P_MAX_FLATTEN_LEVEL, 10 */
    uint32_t rows_max;      /* after explosion; 1,000,000; 0: no limit, as in the next two */
    uint64_t bytes_max;     /* after explosion; 8x the body limit */
    uint32_t columns_max;   /* whole schema, 1,000 */
    bool allow_reserved;    /* schema/detect: p_timestamp is allowed */
    bool newline_delimited; /* body is NDJSON (our CLI and pmeta), not the contract's object or array */
};
struct decode_pair { /* a column with one value for the whole request; an event's own value wins */
    slice name, value;
};
struct decode_rules {                /* of the stream, by resolve */
    bool static_schema;              /* unknown field or wrong type: ERR_INVALID; no injected column but p_timestamp */
    slice custom_partition;          /* column that must be there in every row, empty: none (contract 2.9) */
    int64_t p_timestamp_us;          /* whole milliseconds */
    uint64_t row_id_base;            /* row i gets base + i */
    const struct decode_pair *pairs; /* p_src_ip, p_user_agent, p_format, header columns */
    uint32_t pairs_count;
};
struct decoder; /* per worker thread: scratch memory and, per stream, the key order of its last row */
struct decoded; /* a body as builders, waiting for its schema */

struct decoder *decoder_new(void);
void decoder_free(struct decoder *d);
/* `hint`: the stream's schema as known now (may be NULL), so that timestamps go straight to their columns; the schema that
 * resolve gets must be it or grown from it. The body is not kept: texts are copied. */
MUST_CHECK enum err_code decode_json(struct decoder *d, slice body, const struct decode_options *opt,
                                     const struct schema *hint, struct decoded **out, struct err *err);
bool decoder_malformed(const struct decoder *d); /* the last refusal: the body is no JSON */
uint32_t decoded_rows(const struct decoded *d);
/* *grown: a new reference to `schema` or to a grown one. *out may be a batch of 0 rows. `d` is consumed in any case.
 * The batch's columns carry field indices of *grown. Integers beyond 2^53 put into Float64 are counted in *inexact. */
MUST_CHECK enum err_code decode_resolve(struct decoded *d, const struct schema *schema,
                                        const struct decode_options *opt, const struct decode_rules *rules,
                                        struct schema **grown, struct batch **out, uint64_t *inexact, struct err *err);
void decoded_free(struct decoded *d);
/* contract 3.2: POST /logstream/schema/detect. Prints the Arrow schema, fields in order of first appearance. */
MUST_CHECK enum err_code decode_detect(struct decoder *d, slice body, const struct decode_options *opt, struct buf *out,
                                       struct err *err);
/* contract 2.9: body of a static schema -> fields (p_timestamp first). ERR_INVALID: not JSON or no `fields` (400);
 * ERR_CORRUPT: legal JSON, wrong schema (the contract answers 500). `partition`: custom partition column that must be in it. */
MUST_CHECK enum err_code decode_static_schema(slice body, slice partition, struct schema **out, struct err *err);
