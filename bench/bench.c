/* bench.c: see bench.h. */
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

void bench_die(const char *what, const struct err *err)
{
    (void)fprintf(stderr, "bench: %s: %s\n", what, err ? err->msg : "failed");
    exit(1);
}

double bench_cpu_s(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *v, size_t count)
{
    qsort(v, count, sizeof(*v), by_value);
    return count % 2 ? v[count / 2] : (v[count / 2 - 1] + v[count / 2]) / 2;
}

void bodies_load(const char *path, size_t body_bytes, struct bodies *out)
{
    FILE *f = fopen(path, "r");
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    struct buf *b = NULL;

    if (!f)
        bench_die(path, NULL);
    while ((n = getline(&line, &cap, f)) > 0) {
        if (!b || b->len > body_bytes) {
            if (b)
                buf_byte(b, ']');
            b = ARRAY_PUSH(out->at, out->count, out->cap);
            buf_byte(b, '[');
        } else {
            buf_byte(b, ',');
        }
        buf_put(b, line, (size_t)(line[n - 1] == '\n' ? n - 1 : n));
    }
    if (b)
        buf_byte(b, ']');
    free(line);
    (void)fclose(f);
    for (size_t i = 0; i < out->count; i++)
        out->bytes += out->at[i].len;
    if (!out->count)
        bench_die(path, NULL);
}

void bodies_done(struct bodies *b)
{
    for (size_t i = 0; i < b->count; i++)
        buf_done(&b->at[i]);
    free(b->at);
    *b = (struct bodies){0};
}

char *bench_dir_new(const char *where)
{
    char *dir = mem_fmt("%s/sluice-bench.XXXXXX", where);

    if (!mkdtemp(dir))
        bench_die(dir, NULL);
    return dir;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)kind;
    (void)at;
    return remove(path);
}

void bench_dir_remove(const char *dir)
{
    if (nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0)
        (void)fprintf(stderr, "bench: %s stays\n", dir);
}
