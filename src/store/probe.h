/* probe.h: does a store keep what the commit protocol asks of it (catalog.md section 3)? A probe can only falsify.
 *
 * Its keys begin with .sluice/probe/<ulid>-; it removes what it made, whatever it found. What one that was killed leaves, or one whose store is away
 * when it ends, the catalog collects an hour later. store/local's opening runs the quick part, `sluice store check` all of it. */
#pragma once
#include "store/known.h"
#include "store/store.h"

struct probe_step {
    const char *what;   /* "exclusive create under 16 at once" */
    enum err_code code; /* ERR_OK: as it must be. ERR_CORRUPT: the store is no good for several writers */
    char problem[400];
};
#define PROBE_STEPS_MAX 16
struct probe_result {
    struct probe_step steps[PROBE_STEPS_MAX];
    size_t count;
    bool good;               /* every step was as it must be */
    int64_t clock_offset_us; /* the store's clock minus this machine's */
    int64_t create_us;       /* median time of a small create, and of a read of it */
    int64_t read_us;
    char product[100]; /* what the server says it is, printable ASCII; "": nothing */
};
/* What a start finds; kept in .sluice/cluster. */
struct store_facts {
    int64_t at_us; /* by this machine's clock */
    int64_t clock_offset_us;
    char product[100];
    bool exclusive; /* a race had one winner, and nothing is known against the product */
};
/* Create, refusal of a second create, read, list and stat right after, remove: one object. */
MUST_CHECK enum err_code store_probe_quick(struct os *os, struct store *s, struct err *err);
/* The quick part, a race of 16 creates, what is known of the product, and the clock; again for `us_max` while the store gives no answer that
 * decides. ERR_CORRUPT, with what to do: no exclusive create. */
MUST_CHECK enum err_code store_probe_start(struct os *os, struct store *s, int64_t us_max, struct store_facts *out,
                                           struct err *err);
/* All: also 16 creates at once, pages of a list, ranges, uploads of one and of several parts (17 MiB), removal, the clock. Steps go on after a
 * failure; ERR_OK says that the probe ran, `good` what it found. `tell` is called before each step; may be NULL. */
MUST_CHECK enum err_code store_probe(struct os *os, struct store *s, struct probe_result *out,
                                     void (*tell)(const char *what), struct err *err);
