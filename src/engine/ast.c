/* ast.c: SQL text <-> DuckDB's AST as JSON. A parser fault is the user's; nothing is executed. */
#include <jansson.h>

#include "engine/engine_int.h"

static enum err_code call(struct engine *e, duckdb_prepared_statement stmt, slice in, struct buf *out, struct err *err)
{
    duckdb_result result;
    enum err_code rc = ERR_OK;

    if (duckdb_bind_varchar_length(stmt, 1, (const char *)in.ptr, in.len) != DuckDBSuccess)
        return err_set(err, ERR_INVALID, "the statement is not valid UTF-8");
    if (duckdb_execute_prepared(stmt, &result) != DuckDBSuccess) {
        rc = engine_error(e, duckdb_result_error(&result), err);
    } else {
        duckdb_data_chunk chunk = duckdb_fetch_chunk(result);
        if (chunk && duckdb_data_chunk_get_size(chunk) == 1) {
            const struct text *t = duckdb_vector_get_data(duckdb_data_chunk_get_vector(chunk, 0));
            buf_slice(out, text_slice(t));
        } else {
            rc = err_set(err, ERR_UNKNOWN, "engine: no answer from the parser");
        }
        duckdb_destroy_data_chunk(&chunk);
    }
    duckdb_destroy_result(&result);
    return rc;
}

static enum err_code parser_error(slice json, struct err *err)
{
    json_t *root = json_loadb((const char *)json.ptr, json.len, 0, NULL);
    const char *message = json_string_value(json_object_get(root, "error_message"));
    enum err_code rc = err_set(err, ERR_INVALID, "%s", message ? message : "the statement cannot be parsed");
    json_decref(root);
    return rc;
}

enum err_code engine_parse(struct engine *e, slice sql, struct buf *json, struct err *err)
{
    size_t from = json->len;

    pthread_mutex_lock(&e->parse_mu);
    enum err_code rc = call(e, e->parse, sql, json, err);
    pthread_mutex_unlock(&e->parse_mu);
    TRY(rc);
    slice answer = slice_from(buf_view(json), from);
    if (slice_starts(answer, slice_lit("{\"error\":true"))) {
        rc = parser_error(answer, err);
        json->len = from;
    }
    return rc;
}

enum err_code engine_deparse(struct engine *e, slice json, struct buf *sql, struct err *err)
{
    pthread_mutex_lock(&e->parse_mu);
    enum err_code rc = call(e, e->deparse, json, sql, err);
    pthread_mutex_unlock(&e->parse_mu);
    return rc;
}
