/* known.h: products of which is known what a probe cannot show. THREADS any. TESTS known_test.c. */
#pragma once
#include "base/slice.h"

enum store_verdict {
    STORE_FINE,     /* nothing is known against it */
    STORE_DOUBTFUL, /* some releases are no good, and it does not say which one it is */
    STORE_DENIED,   /* no exclusive create: whoever commits there may lose data */
};
/* `product`: as store_ops.product tells. *why: a sentence, "" for STORE_FINE. */
enum store_verdict store_known(slice product, const char **why);
