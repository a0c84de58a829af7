/* pool.h: the heap of one simulated world. The linker sends malloc and kin of everything in the simulator here
 * (-Wl,--wrap): while a world lives, memory is cut from one fixed address range and all of it is taken back at once when
 * the world ends. So a simulated crash may simply forget a node's memory, and addresses are the same in every replay.
 * Sanitizer builds do without it (SIM_NO_POOL): the heap is the sanitizer's and crashed nodes leak.
 * THREADS  one. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

void pool_begin(void); /* from here on allocations are the world's */
void pool_end(void);   /* all of them are gone */
bool pool_pause(
    bool paused); /* true: use the process heap for a while (what outlives the world); returns the old state */
size_t pool_used(void);
void *pool_alloc(size_t size); /* for libraries that take allocation functions */
void pool_free(void *p);
