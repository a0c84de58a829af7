/* segment_bench.c: the Parquet encoder alone: rows as they are staged (batches of 4 MiB requests, some 32 MiB of JSON together) into a file,
 * and the smallest file, of one row. Rounds are interleaved, medians are printed.
 *
 *   bench_segment ROWS.ndjson [ROUNDS]
 * Columns: MB of JSON per CPU-second, and for one second of it the bytes of Parquet; CPU time of a file. */
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"
#include "decode/json.h"
#include "segment/segment.h"

#define BODY_BYTES (4u << 20)
#define FILE_BYTES (32u << 20)
#define ROUNDS_MAX 25
#define PARTS_MAX (FILE_BYTES / BODY_BYTES + 1)

struct work { /* one file to be */
    const char *name;
    struct segment_part parts[PARTS_MAX]; /* newest first */
    uint32_t count;
    uint64_t json_bytes;
    double cpu_s[ROUNDS_MAX];
    uint64_t file_bytes;
};

static const struct decode_options options = {
    .flatten_level = 10, .rows_max = 1000000, .bytes_max = 80u << 20, .columns_max = 1000};

static struct batch *decode(struct decoder *d, slice body, struct schema **schema)
{
    const struct decode_rules rules = {.p_timestamp_us = INT64_C(1763800000000000)};
    struct schema *grown = NULL;
    struct decoded *rows = NULL;
    struct batch *batch = NULL;
    uint64_t inexact;
    struct err err;

    if (decode_json(d, body, &options, *schema, &rows, &err) != ERR_OK ||
        decode_resolve(rows, *schema, &options, &rules, &grown, &batch, &inexact, &err) != ERR_OK)
        bench_die("decode", &err);
    schema_unref(*schema);
    *schema = grown;
    return batch;
}

static void number(struct schema **schema)
{
    uint32_t n = schema_count(*schema);
    uint32_t *ids = mem_zalloc(2 * n * sizeof(*ids));

    for (uint32_t i = 0; i < n; i++) {
        ids[i] = 1 + i;
        ids[n + i] = 1 + n + i;
    }
    struct schema *with = schema_with_ids(*schema, ids, ids + n);
    schema_unref(*schema);
    *schema = with;
    free(ids);
}

/* As many bodies as fill one file; the newest stands first. */
static void fill(struct work *w, const struct bodies *bodies, struct decoder *d, struct schema **schema)
{
    size_t n = MIN(bodies->count, (size_t)(FILE_BYTES / BODY_BYTES));

    for (size_t i = n; i-- > 0;) {
        struct batch *b = decode(d, buf_view(&bodies->at[i]), schema);
        batch_view_take(b, b->rows, &w->parts[w->count++].view);
        w->json_bytes += bodies->at[i].len;
        batch_unref(b);
    }
}

static void measure(struct work *w, struct segment_writer *writer, const struct schema *schema, int round)
{
    int fd = memfd_create("bench", MFD_CLOEXEC);
    struct segment_stats stats;
    struct err err;

    double from = bench_cpu_s();
    if (fd < 0 || segment_write(writer, schema, w->parts, w->count, fd, &stats, &err) != ERR_OK)
        bench_die("segment_write", &err);
    if (round >= 0)
        w->cpu_s[round] = bench_cpu_s() - from;
    w->file_bytes = stats.bytes;
    (void)close(fd);
}

int main(int argc, char **argv)
{
    struct work works[2] = {{.name = "32 MiB"}, {.name = "one row"}};
    int rounds = argc > 2 ? (int)MIN(MAX(strtol(argv[2], NULL, 10), 1), ROUNDS_MAX) : 5;
    struct schema *schema = schema_empty();
    struct decoder *d = decoder_new();
    struct bodies bodies = {0};
    struct segment_writer *writer;
    struct err err;

    if (argc < 2) {
        (void)fprintf(stderr, "usage: bench_segment ROWS.ndjson [ROUNDS]\n");
        return 2;
    }
    bodies_load(argv[1], BODY_BYTES, &bodies);
    fill(&works[0], &bodies, d, &schema);
    number(&schema);
    ASSERT(works[0].count > 0 && works[0].parts[0].view.rows > 0);
    works[1].parts[0] = (struct segment_part){works[0].parts[0].view, (const uint32_t[]){0}, 1};
    works[1].count = 1;
    works[1].json_bytes = works[0].json_bytes / works[0].parts[0].view.rows / works[0].count;
    if (segment_writer_open(NULL, NULL, &writer, &err) != ERR_OK)
        bench_die("segment_writer_open", &err);
    for (int round = -1; round < rounds; round++) /* the first opens the engine and is not counted */
        for (size_t i = 0; i < ARRAY_LEN(works); i++)
            measure(&works[i], writer, schema, round);
    printf("%-12s %12s %12s %12s %12s\n", "segment", "MB/CPU-s", "CPU-ms/file", "JSON bytes", "file bytes");
    for (size_t i = 0; i < ARRAY_LEN(works); i++) {
        double cpu_s = bench_median(works[i].cpu_s, (size_t)rounds);
        printf("%-12s %12.1f %12.2f %12llu %12llu\n", works[i].name, (double)works[i].json_bytes * 1e-6 / cpu_s,
               cpu_s * 1e3, (unsigned long long)works[i].json_bytes, (unsigned long long)works[i].file_bytes);
    }
    for (uint32_t i = 0; i < works[0].count; i++)
        batch_view_done(&works[0].parts[i].view);
    segment_writer_close(writer);
    schema_unref(schema);
    decoder_free(d);
    bodies_done(&bodies);
    return 0;
}
