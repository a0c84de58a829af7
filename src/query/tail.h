/* tail.h: the rows that a follower of a stream has not seen yet. */
#pragma once
#include "query/query.h"

/* One row as a JSON object (contract 5.1's value forms, nulls left out) and its id. Not ERR_OK: stop. */
typedef enum err_code (*query_tail_fn)(void *arg, uint64_t row_id, slice json, struct err *err);
/* Damaged files were left out: one key a line. May be NULL. */
typedef void (*query_tail_note_fn)(void *arg, slice skipped);
/* Is `where` a condition on rows of `stream`? A column that the stream does not have is a fault (ERR_INVALID), unless it has none of its own yet. */
MUST_CHECK enum err_code query_tail_check(struct query_pool *pool, slice stream, slice where, struct err *err);
/* Rows of `stream` with after < row id < horizon that meet `where` (SQL of the users' dialect, or empty), oldest first, at most
 * `limit`; files and stage of one cut. *last: every row up to this id was looked at. A column that no row had so far is null. ERR_INVALID: the
 * condition. */
MUST_CHECK enum err_code query_tail(struct query_pool *pool, slice stream, slice where, uint64_t after,
                                    uint64_t horizon, uint32_t limit, query_tail_fn fn, query_tail_note_fn note,
                                    void *arg, uint64_t *last, struct err *err);
