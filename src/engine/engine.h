/* engine.h: DuckDB 1.5.5 through its C API; the only room that includes duckdb.h.
 *
 * An engine is one DuckDB instance with its share of memory, threads and spill; a pool (query/) holds a fixed number.
 * Opened with: allowed_directories, then enable_external_access=false, extensions loaded, then lock_configuration, UTC,
 * and the settings of design.md section 3. SQL given here was made or checked by us (query/gate): this room trusts it,
 * the sandbox is the second wall.
 *
 * SOURCES  rows in our own columns are given to SQL by the table function sluice_rows(id): register a source, use its id in
 *   SQL, unregister when the result is gone. Vectors are written directly from batch memory (text points into it), with
 *   projection pushed down. Rows come in the source's order.
 * REMOTE FILES  an extension (it lies beside the engine's library) reads paths of buckets by ranges: httpfs s3:// and gs://, azure az://. The
 *   keys are given by engine_login(), may change, and lie in the engine's own memory: no SQL that the gate lets through shows them.
 * THREADS  one query at a time on an engine (ASSERT); engine_interrupt() from any thread.
 * ERRORS   ERR_INVALID: parse, bind, cast and other errors of the SQL itself; ERR_LIMIT: memory or spill; ERR_CANCELLED:
 *   interrupted; ERR_TIMEOUT: past options' deadline; ERR_IO/ERR_CORRUPT: a file; ERR_UNKNOWN: INTERNAL or FATAL, after which
 *   engine_broken() is true and the pool replaces the instance. */
#pragma once
#include <stdatomic.h>

#include "base/buf.h"
#include "base/err.h"
#include "batch/batch.h"

struct engine;
struct engine_options {
    uint64_t memory_bytes, temp_bytes; /* 0: the engine's default */
    unsigned threads;
    const char *temp_dir;            /* spill; made with its parents; NULL: no spill */
    const char *const *allowed_dirs; /* NULL-terminated; files that read_parquet may open */
    const char *extension;           /* NULL; else one of the directories is remote and read with "httpfs" or "azure" */
    const char *ca_file;             /* of remote ones: PEM; NULL: the system's */
    bool unverified;                 /* of "httpfs": no certificate is checked */
    bool keep_footers; /* Parquet footers are kept by path: only where a path never names another file later */
    bool unlocked;     /* no sandbox. For the proof of the gate alone (query/wall_fuzz.c): it must hold without it */
};
MUST_CHECK enum err_code engine_open(const struct engine_options *opt, struct engine **out, struct err *err);
void engine_close(struct engine *e);
bool engine_broken(const struct engine *e);
const char *engine_version(void);             /* "v1.5.5" */
void engine_ident(struct buf *b, slice name); /* a name as SQL writes it exactly, in quotes */
void engine_path(struct buf *b, slice path);  /* a path for where DuckDB takes patterns: one that only it matches */
/* How an engine gets at a bucket: for paths that begin with `scope`, "s3://bucket/prefix/". Type and fields are those of CREATE SECRET;
 * a field without a value is left out. Nothing is kept of it but what DuckDB keeps. */
struct engine_secret_field {
    const char *name;
    slice value;
};
struct engine_secret {
    const char *type; /* "s3", "gcs", "azure" */
    slice scope;
    const struct engine_secret_field *fields;
    size_t fields_count;
};
/* Between queries. What is as it was last time costs nothing. */
MUST_CHECK enum err_code engine_login(struct engine *e, const struct engine_secret *secret, struct err *err);

/* What reads of remote files asked of the server since the last call, by the status of the answers (0: none), and the bytes that came. Between
 * queries. Returns how many; costs nothing where none were read. The azure extension does not tell. */
#define ENGINE_TRAFFIC_MAX 16
struct engine_traffic {
    long status;
    uint64_t requests, bytes;
};
size_t engine_traffic(struct engine *e, struct engine_traffic out[ENGINE_TRAFFIC_MAX]);

/* ---- rows of ours as a table */
struct engine_column {
    uint32_t field;   /* index in the stream's schema */
    slice name;       /* name of the column in SQL */
    struct type type; /* TIMESTAMP is TIMESTAMPTZ in SQL */
};
struct engine_part { /* rows of one batch, in the order given by `newest_first` or by `sel` */
    struct batch_view view;
    const uint32_t *sel; /* row numbers in the order wanted, sel_count of them; NULL: all rows */
    uint32_t sel_count;
};
struct engine_source {
    struct engine_column *columns;
    uint32_t columns_count;
    struct engine_part *parts;
    uint32_t parts_count;
    bool newest_first; /* parts as listed; rows inside a part (without sel) from last to first */
};
/* Borrows everything until engine_source_del(). The id goes into SQL as sluice_rows(<id>); it is the lowest that is free, so that a
 * statement of the same shape has the same text. */
uint64_t engine_source_add(struct engine *e, const struct engine_source *source);
void engine_source_del(struct engine *e, uint64_t id);
const char *engine_type_name(struct type t); /* the SQL type that a column of ours has: "DOUBLE", "VARCHAR[]", ... */

/* ---- Parquet files as a table, their columns by field id
 *
 * Paths and columns are parameters of the statement: DuckDB binds what reads files twice, when it is prepared and when it is run, but only the
 * second time where parameters say what is read; and values need no parser. The two together are a millisecond of a needle in 15 files. */
struct engine_file_column {
    uint32_t id; /* of the field; a file without it has NULL */
    slice name;  /* of the column in SQL */
    struct type type;
};
struct engine_files {
    const char *const *paths;
    size_t paths_count; /* one or more */
    const struct engine_file_column *columns;
    size_t columns_count; /* one or more */
};
void engine_files_sql(size_t index, struct buf *sql); /* as the relation of FROM: files[index] of the query */

/* ---- SQL */
struct engine_result;
struct engine_query {
    const char *sql;
    const struct engine_files *files; /* [files_count] borrowed for the call */
    size_t files_count;
    int64_t timeout_us; /* 0: none */
    bool materialize;   /* false: stream; the engine stays busy until engine_result_free() */
    /* The same text will come again: what it was planned to is kept (of the last few such texts), a third of the cost of a small
     * statement. Sources in it must have columns of the same types each time; only materialized. */
    bool keep;
    const atomic_bool
        *stop; /* NULL, or set before engine_interrupt(): one that comes before the query starts is not lost */
};
MUST_CHECK enum err_code engine_run(struct engine *e, const struct engine_query *q, struct engine_result **out,
                                    struct err *err);
void engine_interrupt(struct engine *e);  /* any thread; repeated by a watchdog until the query ends */
double engine_progress(struct engine *e); /* 0..1, or negative when unknown; any thread */

enum engine_type { /* what result writers need to tell apart */
                   ENGINE_NULL,
                   ENGINE_BOOL,
                   ENGINE_I8,
                   ENGINE_I16,
                   ENGINE_I32,
                   ENGINE_I64,
                   ENGINE_I128,
                   ENGINE_U8,
                   ENGINE_U16,
                   ENGINE_U32,
                   ENGINE_U64,
                   ENGINE_U128,
                   ENGINE_F32,
                   ENGINE_F64,
                   ENGINE_DECIMAL,
                   ENGINE_TEXT,
                   ENGINE_BLOB,
                   ENGINE_DATE,
                   ENGINE_TIME,
                   ENGINE_TIMESTAMP /* µs, with or without zone */,
                   ENGINE_TIMESTAMP_S,
                   ENGINE_TIMESTAMP_MS,
                   ENGINE_TIMESTAMP_NS,
                   ENGINE_INTERVAL,
                   ENGINE_LIST,
                   ENGINE_ARRAY,
                   ENGINE_STRUCT,
                   ENGINE_MAP,
                   ENGINE_UUID,
                   ENGINE_ENUM,
                   ENGINE_OTHER,
};
struct engine_field {
    char *name;
    enum engine_type type;
    uint8_t decimal_width, decimal_scale, decimal_bytes; /* DECIMAL: 2, 4, 8 or 16 bytes a value */
    uint32_t array_size;                                 /* ARRAY */
    uint32_t children_count;
    struct engine_field *children; /* LIST, ARRAY: 1; STRUCT: n; MAP: key, value */
    char **enum_names;             /* ENUM */
    uint32_t enum_count;
    uint8_t enum_bytes;
};
struct engine_vector { /* one column of a chunk; DuckDB's memory, gone with the next chunk */
    const void *data;
    const uint64_t *valid; /* NULL: all valid; bit i%64 of word i/64 */
    uint64_t size;         /* rows in this vector (children: total of the child) */
    struct engine_vector *children;
    uint32_t children_count;
};
struct engine_chunk {
    uint64_t rows;
    struct engine_vector *columns;
};
static inline bool engine_valid(const struct engine_vector *v, uint64_t row)
{
    return !v->valid || (v->valid[row / 64] >> (row % 64) & 1);
}
uint32_t engine_result_fields(const struct engine_result *r, const struct engine_field **out);
uint64_t engine_result_rows(struct engine_result *r); /* of a materialized one */
/* Next chunk into *out (owned by the result, valid until the next call); *out NULL at the end. */
MUST_CHECK enum err_code engine_result_next(struct engine_result *r, const struct engine_chunk **out, struct err *err);
void engine_result_free(struct engine_result *r); /* NULL is fine */
DEFINE_CLEANUP(struct engine_result *, engine_result_free)

/* ---- AST, for the gate. Any engine; does not execute. ERR_INVALID with the parser's message and position. */
MUST_CHECK enum err_code engine_parse(struct engine *e, slice sql, struct buf *json, struct err *err);
MUST_CHECK enum err_code engine_deparse(struct engine *e, slice json, struct buf *sql, struct err *err);
