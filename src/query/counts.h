/* counts.h: bins of a count without conditions, which binding fills as far as the catalog and the stage tell. Internal to query/. */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct counts_bins {
    int64_t from_us, width_us;
    uint64_t whole;   /* bins of that width; what comes after them is one more */
    uint64_t count;   /* bins shown */
    uint64_t *counts; /* [whole + 1] */
};
size_t counts_bin(const struct counts_bins *b, int64_t us); /* us >= from_us */
