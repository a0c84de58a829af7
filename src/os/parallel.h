/* parallel.h: one call for each of `count` items, several at a time: what waits for a store's replies waits for many of them at once.
 *
 * The caller's thread takes part; others are made for the call and joined before it returns. Items are begun in order and end in any. After
 * the first error no other item is begun, and that error is the answer. `width` 1: a loop. `fn` is always given an err.
 * THREADS  any; `fn` is called in several. TESTS os_test.c, and the simulator through catalog/ and stage/. */
#pragma once
#include "os/os.h"

#define PARALLEL_MAX 32u
typedef enum err_code (*parallel_fn)(void *arg, size_t index, struct err *err);
MUST_CHECK enum err_code parallel_each(struct os *os, unsigned width, size_t count, parallel_fn fn, void *arg,
                                       struct err *err);
