/* bench.h: what the C parts of the benchmarks share: request bodies out of a file, CPU time, medians. They die on any error. */
#pragma once
#include "base/buf.h"
#include "base/err.h"

struct bodies { /* JSON arrays, as clients send them */
    struct buf *at;
    size_t count, cap, bytes;
};
/* Rows of `path` (one object a line) as arrays of about `body_bytes`. */
void bodies_load(const char *path, size_t body_bytes, struct bodies *out);
void bodies_done(struct bodies *b);

double bench_cpu_s(void); /* of the process, user and system */
double bench_median(double *v, size_t count);
_Noreturn void bench_die(const char *what, const struct err *err);
/* A new folder below `where`, and its end with all that is in it. Free the name. */
char *bench_dir_new(const char *where);
void bench_dir_remove(const char *dir);
