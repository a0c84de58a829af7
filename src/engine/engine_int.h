/* engine_int.h: what the files of engine/ share. */
#pragma once
#include <duckdb.h>
#include <pthread.h>
#include <stdatomic.h>

#include "engine/engine.h"

struct source_entry {
    uint64_t id;
    const struct engine_source *source;
};
struct kept_plan {
    char *sql;
    duckdb_prepared_statement stmt; /* NULL: not prepared yet */
    uint64_t used;
};
#define KEPT_PLANS 8
struct engine {
    duckdb_database db;
    duckdb_connection con;    /* queries */
    duckdb_connection parser; /* engine_parse, engine_deparse; under parse_mu */
    duckdb_prepared_statement parse, deparse;
    pthread_mutex_t parse_mu;
    atomic_bool broken, busy;

    pthread_mutex_t mu;
    pthread_cond_t wake;    /* watchdog */
    bool running, stopping; /* under mu */
    bool interrupted, timed_out;
    int64_t deadline_us; /* monotonic; 0: none */
    pthread_t watchdog;
    bool watchdog_started;

    struct source_entry *sources; /* under mu */
    size_t sources_count, sources_cap;
    struct kept_plan plans[KEPT_PLANS]; /* whoever made the engine busy has them */
    uint64_t plans_clock;
    struct buf login; /* the last engine_login(); wiped */
    bool remote;      /* an extension is loaded */
    bool untold;      /* remote files were read since the last engine_traffic() */
};
struct engine_result {
    struct engine *engine;
    duckdb_result result;
    bool has_result;
    bool whole; /* read to its end: nothing of it goes on */
    struct engine_field *fields;
    uint32_t fields_count;
    duckdb_data_chunk chunk;
    struct engine_chunk out;
    struct arena arena; /* vectors of the chunk of the moment */
};

enum err_code engine_error(struct engine *e, const char *message, struct err *err); /* classifies by DuckDB's prefix */
enum err_code engine_source_register(struct engine *e, struct err *err);
const struct engine_source *engine_source_find(struct engine *e, uint64_t id);
MUST_CHECK enum err_code engine_files_bind(duckdb_prepared_statement stmt, const struct engine_query *q,
                                           struct err *err);
void engine_fields_make(struct engine_result *r);
void engine_fields_free(struct engine_field *fields, uint32_t count);
void engine_chunk_wrap(struct engine_result *r);
duckdb_logical_type engine_logical_type(struct type t);
/* A query is over: the watchdog looks away, the engine is free. */
void engine_idle(struct engine *e);
