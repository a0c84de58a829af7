/* write_bench.c: what it costs to print an answer.
 *   bench_write DIR           of DIR/rows.parquet (rows of the shape s1): million rows and MB per CPU-second of each writer, and of the
 *                             engine's own COPY of the same rows (to DIR, best on tmpfs). `scan` is the query with no writer; the
 *                             column `alone` has its time taken off. One thread, medians of interleaved rounds.
 *   bench_write FORMAT SQL    the answer on stdout, for other programs to look at; FORMAT is json, ndjson, csv or arrow. */
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "bench.h"
#include "engine/engine.h"
#include "query/writer.h"

#define ROUNDS 7

static const char *const format_names[] = {
    [QUERY_JSON] = "json", [QUERY_NDJSON] = "ndjson", [QUERY_ARROW] = "arrow", [QUERY_CSV] = "csv"};

static struct engine *open_engine(const char *dir)
{
    const char *dirs[] = {dir, NULL};
    const struct engine_options opt = {.memory_bytes = 1u << 30, .threads = 1, .allowed_dirs = dirs};
    struct engine *e;
    struct err err;

    if (engine_open(&opt, &e, &err) != ERR_OK)
        bench_die("engine", &err);
    return e;
}

/* Runs and prints; each chunk's text goes to `to` (or nowhere). Returns how many bytes; `format` < 0: rows are fetched only. */
static size_t run(struct engine *e, const char *sql, int format, FILE *to, uint64_t *rows)
{
    _cleanup_(engine_result_freep) struct engine_result *r = NULL;
    _cleanup_(writer_freep) struct writer *w = NULL;
    const struct engine_query q = {.sql = sql};
    const struct engine_field *fields;
    const struct engine_chunk *chunk;
    struct gate_name *names = NULL;
    struct buf out = BUF_INIT;
    struct err err;
    size_t bytes = 0;

    if (engine_run(e, &q, &r, &err) != ERR_OK)
        bench_die(sql, &err);
    uint32_t n = engine_result_fields(r, &fields);
    if (format >= 0) {
        names = mem_zalloc(n * sizeof(*names));
        for (uint32_t i = 0; i < n; i++) {
            names[i].name = slice_str(fields[i].name);
            names[i].show = slice_starts(names[i].name, slice_lit("duration")) ? GATE_SHOW_DURATION : GATE_SHOW_PLAIN;
        }
        const struct writer_options opt = {.format = (enum query_format)format, .names = names, .names_count = n};
        if (writer_new(&opt, fields, n, &w, &err) != ERR_OK)
            bench_die(sql, &err);
        writer_begin(w, &out);
    }
    for (;;) {
        if (engine_result_next(r, &chunk, &err) != ERR_OK)
            bench_die(sql, &err);
        if (chunk) {
            *rows += chunk->rows;
            if (w && writer_chunk(w, chunk, &out, &err) != ERR_OK)
                bench_die(sql, &err);
        } else if (w) {
            writer_end(w, &out);
        }
        bytes += out.len;
        if (to && fwrite(out.ptr, 1, out.len, to) != out.len)
            bench_die("stdout", NULL);
        out.len = 0;
        if (!chunk)
            break;
    }
    buf_done(&out);
    free(names);
    return bytes;
}

enum what { SCAN, JSON, NDJSON, ARROW, CSV, COPY_JSON, COPY_CSV, WHATS };
static const struct {
    const char *name;
    int format; /* < 0: none */
    const char *copy;
} lines[WHATS] = {
    {"scan", -1, NULL},
    {"json", QUERY_JSON, NULL},
    {"ndjson", QUERY_NDJSON, NULL},
    {"arrow", QUERY_ARROW, NULL},
    {"csv", QUERY_CSV, NULL},
    {"COPY json", -1, "json, ARRAY true"},
    {"COPY csv", -1, "csv, HEADER"},
};

static void bench(const char *dir)
{
    struct engine *e = open_engine(dir);
    double cpu[WHATS][ROUNDS], scan = 0;
    size_t bytes[WHATS] = {0};
    uint64_t rows = 0;

    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < WHATS; i++) {
            _cleanup_(freep) char *out = mem_fmt("%s/out.text", dir);
            _cleanup_(freep) char *sql =
                lines[i].copy ? mem_fmt("COPY (FROM read_parquet('%s/rows.parquet')) TO '%s' (FORMAT %s)", dir, out,
                                        lines[i].copy)
                              : mem_fmt("FROM read_parquet('%s/rows.parquet')", dir);
            uint64_t n = 0;
            double from = bench_cpu_s();
            bytes[i] = run(e, sql, lines[i].format, NULL, &n);
            cpu[i][round] = bench_cpu_s() - from;
            FILE *f = lines[i].copy ? fopen(out, "r") : NULL;
            if (f) {
                (void)fseek(f, 0, SEEK_END);
                bytes[i] = (size_t)ftell(f);
                (void)fclose(f);
                (void)unlink(out);
            }
            if (i == SCAN)
                rows = n;
        }
    (void)printf("%-10s %9s %9s %9s %9s %9s\n", "", "CPU s", "Mrows/s", "MB/s", "alone s", "MB/s");
    for (int i = 0; i < WHATS; i++) {
        double s = bench_median(cpu[i], ROUNDS), mb = (double)bytes[i] * 1e-6;
        scan = i == SCAN ? s : scan;
        (void)printf("%-10s %9.3f %9.2f %9.0f", lines[i].name, s, (double)rows * 1e-6 / s, mb / s);
        if (i != SCAN)
            (void)printf(" %9.3f %9.0f", s - scan, mb / (s - scan));
        (void)printf("\n");
    }
    engine_close(e);
}

int main(int argc, char **argv)
{
    if (argc == 2) {
        bench(argv[1]);
        return 0;
    }
    for (int f = 0; argc == 3 && f < (int)ARRAY_LEN(format_names); f++) {
        if (strcmp(argv[1], format_names[f]) != 0)
            continue;
        struct engine *e = open_engine("/nonexistent");
        uint64_t rows = 0;
        (void)run(e, argv[2], f, stdout, &rows);
        engine_close(e);
        return fflush(stdout) != 0;
    }
    (void)fprintf(stderr, "usage: bench_write DIR | bench_write FORMAT SQL\n");
    return 2;
}
