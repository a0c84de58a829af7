/* query_int.h: what the files behind query.h and tail.h share.
 *
 *   query_run ── query_range ── gate ──▶ pool_lease ──▶ bind_streams ──▶ engine_run ──▶ writer ──▶ sink
 *   (text)                      (parser)  (waits)        (snapshot, plan, SQL)
 *
 * LOCKS  pool.gate_mu (reading; held while the gate looks up streams) and pool.mu, a leaf but for the engine's own. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>

#include "base/arena.h"
#include "base/map.h"
#include "base/metrics.h"
#include "query/counts.h"
#include "query/dialect_ast.h"
#include "query/query.h"
#include "stage/lake.h"

#define QUERY_ENGINES_MAX 16

/* ---- pool.c */
struct engine_slot {
    struct engine *engine; /* of whoever holds the slot; NULL: its last one broke and no new one could be opened */
    unsigned number;
    bool light;
};
struct waiter;
struct slot_queue { /* engines of one kind, and who waits for one: first come, first served; under pool.mu */
    struct engine_slot *free[QUERY_ENGINES_MAX];
    unsigned free_count, waiting;
    struct waiter *head, *tail;
};
struct running {          /* one query, from its arrival to its last byte */
    struct running *next; /* under pool.mu, as all below without a note */
    char *id, *user, *sql;
    int64_t started_wall_us, started_us, deadline_us; /* the two last: monotonic */
    struct engine *engine;                            /* NULL while it waits */
    atomic_bool stop;
    _Atomic uint64_t rows; /* given to the client so far */
};
struct query_pool {
    struct lake *lake;
    struct query_pool_options opt;
    char *temp_dir;
    char *dirs[3]; /* where engines may read: store, hot tier; NULL-terminated */
    pthread_rwlock_t gate_mu;
    struct engine *gate; /* parses only; written under gate_mu */

    pthread_mutex_t mu;
    pthread_cond_t wake;                             /* a slot came back, a query was cancelled */
    struct engine_slot slots[QUERY_ENGINES_MAX + 1]; /* the last is the light one */
    unsigned slots_count;
    struct slot_queue normal, light;
    struct running *running;
    bool stopping;                /* what begins is cancelled */
    struct map damaged, verified; /* damage.c */

    struct metric *m_queries[3], *m_seconds, *m_rows, *m_bytes, *m_active, *m_waiting, *m_refused, *m_replaced,
        *m_damaged, *m_files, *m_files_skipped, *m_files_pruned;
};
/* Adds a query to the list; the id is taken or made. */
struct running *running_add(struct query_pool *pool, slice id, slice user, slice sql);
void running_del(struct query_pool *pool, struct running *r);
/* Waits for an engine. ERR_UNAVAILABLE: too many wait; ERR_TIMEOUT, ERR_CANCELLED. `light`: the engine of tails, which long queries do
 * not hold. */
MUST_CHECK enum err_code pool_lease(struct query_pool *pool, struct running *r, bool light, struct engine_slot **out,
                                    struct err *err);
void pool_release(struct query_pool *pool, struct running *r, struct engine_slot *slot);
MUST_CHECK enum err_code pool_gate(struct query_pool *pool, slice sql, const struct gate_env *env,
                                   struct gate_output *out, struct err *err);
int64_t pool_time_left(const struct running *r); /* microseconds, at least 1 */
/* Cancelled, or past its time: the engine says so at once. */
static inline bool running_over(const struct running *r)
{
    return atomic_load(&r->stop) || pool_time_left(r) <= 1;
}

/* ---- bind.c */
static inline struct hot_object hot_object_of(const struct plan_file *f)
{
    return (struct hot_object){f->key, f->bytes, f->crc32c, f->tmin_us, f->tmax_us};
}
struct bound_stream {
    struct lake_snapshot snap; /* pinned until the result is gone */
    bool pinned;
    struct plan plan;
    size_t files_count; /* of the plan, taken for this query: the first ones */
    struct hot_file *
        *hot; /* [files_count] those in the hot tier, pinned; or NULL; the array is NULL without a hot tier */
    struct engine_source source;
    uint64_t source_id;
};
struct binding {
    struct query_pool *pool;
    struct engine *engine;
    struct arena arena;
    struct bound_stream *streams; /* as in the gate's output */
    size_t streams_count;
    struct buf sql;
    struct engine_files *reads; /* [reads_count] what it reads of files */
    size_t reads_count;
    uint64_t files, file_bytes;
    uint64_t counted;   /* count(*) without conditions: rows of files and stage that need not be read */
    struct buf skipped; /* keys of damaged files left out, one a line */
    bool older;         /* rows below the window were left out */
};
struct bind_options {
    int64_t from_us, to_us;         /* [from, to): on every stream */
    uint64_t row_after, row_before; /* rows with after < id < before; 0, 0: all */
    slice row_id;                   /* name of the column of the row id in the gate's columns; ptr NULL: none */
    struct counts_bins *bins;       /* NULL, or: what need not be read is counted there, and left out */
    unsigned window; /* 0: all rows; n: only rows from an instant on, so that few files are read; the next n has more */
    const struct running *running; /* looking at copies of the hot tier ends with its time */
    bool cold;                     /* files of the hot tier are read from the store */
    const char *before, *after;    /* put around the SQL of the gate: "SELECT ... FROM (" and ")"; NULL: nothing */
};
/* Takes the snapshots and writes the SQL. ERR_INVALID: a stream is gone since the gate saw it, in the gate's words. */
MUST_CHECK enum err_code bind_streams(struct query_pool *pool, struct engine *engine, const struct gate_output *gate,
                                      const struct bind_options *opt, struct binding *out, struct err *err);
void binding_done(struct binding *b); /* after the result is freed */

/* ---- range.c: a duration as humantime reads it ("1h 30m"), in microseconds; false: it is none, or beyond the calendar */
bool range_duration(slice text, int64_t *us);

/* ---- run.c */
struct lookup { /* of the gate, over the lake's streams */
    struct query_pool *pool;
    bool (*may_read)(void *arg, slice stream);
    void *may_read_arg;
    slice only;                     /* ptr NULL, or the one stream that may be named */
    slice row_id;                   /* ptr NULL, or the name of the row id as a further column */
    const struct gate_column *more; /* further columns, which no row has yet */
    size_t more_count;
    char denied[128]; /* out: the first stream that may not be read */
    struct err fault; /* out: of the first stream that is there, but not to be read now */
};
bool lookup_stream(void *arg, slice stream, struct arena *arena, struct gate_column **columns, size_t *count);
typedef enum err_code (*rows_fn)(void *arg, const struct engine_field *fields, uint32_t fields_count,
                                 const struct engine_chunk *chunk, struct err *err);
struct execution {
    struct query_pool *pool;
    struct running *running;
    const struct gate_output *gate;
    struct bind_options bind;
    bool light;
    rows_fn rows; /* at least once: with chunk NULL and the fields, before the first rows */
    void *arg;
    void (*skipped)(void *skipped_arg, slice keys); /* before rows(): damaged files were left out */
    void *skipped_arg;
    uint64_t files, file_bytes; /* out */
};
/* Lease, bind, run, chunk after chunk to rows(); once again when a file was deleted under it before the first rows. */
MUST_CHECK enum err_code execute(struct execution *x, struct err *err);

/* ---- explain.c */
void explain_clean(slice text, struct buf *out);

/* ---- damage.c: files that turned out damaged */
void damage_done(struct query_pool *pool);
bool damage_known(struct query_pool *pool, slice key);
/* A manifest that a plan could not read: ERR_CORRUPT with its name, and noted. */
MUST_CHECK enum err_code damage_manifest(struct query_pool *pool, slice stream, const struct plan_file *m,
                                         struct err *err);
/* Checks the files of a binding that no query has read yet. ERR_CORRUPT: one is damaged, and named. */
MUST_CHECK enum err_code damage_verify(const struct running *r, struct binding *b, struct err *err);
/* An execution failed with `rc`: looks for a damaged or missing file among those of the binding. ERR_CORRUPT with the file named, ERR_NOT_FOUND: a file
 * was deleted under the query, a new snapshot does without it (not if this was one already: `again`), ERR_INVALID: no file is damaged, the words were the
 * user's; else `rc`. */
enum err_code damage_find(const struct running *r, struct binding *b, bool again, enum err_code rc, struct err *err);
