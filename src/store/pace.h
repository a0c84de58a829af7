/* pace.h: how many requests go to a store at one time, and when none should. A store throttles by the prefix of keys (S3 answers 503
 * SlowDown, others 429), and all keys of a store have one prefix: so there is one pace for all its requests.
 *
 * A refusal halves the number, once a second at most (the refusals of one moment are one); as many good answers as the number is raise it by
 * one. `Retry-After` holds back every request, not only the one that was told. Requests of query engines are their own.
 * THREADS any. TESTS pace_test.c. */
#pragma once
#include "os/os.h"

#define PACE_PARALLEL_MAX 64

struct pace {
    struct os *os;
    struct os_mutex *mu;
    struct os_cond *cond;
    unsigned limit_max;
    unsigned running, limit, good; /* under mu; good: answers since the limit last changed */
    int64_t cut_us, resume_us;     /* under mu; monotonic */
};
void pace_init(struct pace *p, struct os *os, unsigned limit_max); /* 0: PACE_PARALLEL_MAX, which it never is above */
void pace_done(struct pace *p);
/* Waits for its turn. false: it did not come until `deadline_us` (monotonic); the request must not be sent. */
bool pace_enter(struct pace *p, int64_t deadline_us);
/* The answer came. `refused`: the store asked for less; `after_us`: and for nothing at all for so long. */
void pace_leave(struct pace *p, bool refused, int64_t after_us);
