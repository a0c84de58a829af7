/* decode_bench.c: bytes of JSON per CPU-second, for each file of rows (one object a line) given: as clients send it, an array of
 * about 1 MiB a request. Columns of the table, all of the same bodies, medians of interleaved rounds:
 *   reader   json_skip(): the reader alone
 *   decode   decode_json() with the stream's schema as hint
 *   all      and decode_resolve(): what a request costs before the WAL
 *   jansson  json_loadb(): the yardstick at hand, a tree and nothing more */
#include <jansson.h>
#include <malloc.h>
#include <stdio.h>

#include "bench.h"
#include "codec/json_reader.h"
#include "decode/json.h"

#define BODY_BYTES (1u << 20)
#define ROUNDS 15

enum what { READER, DECODE, ALL, JANSSON, WHATS };

static const struct decode_options options = {
    .flatten_level = 10, .rows_max = 1000000, .bytes_max = 80u << 20, .columns_max = 1000};

static void one(enum what what, struct decoder *d, slice body, struct schema **schema)
{
    struct json_reader r = {0};
    struct decoded *rows = NULL;
    struct err err;

    switch (what) {
    case READER:
        json_reader_init(&r, body);
        ASSERT(json_skip(&r));
        json_reader_done(&r);
        return;
    case JANSSON: {
        json_t *tree = json_loadb((const char *)body.ptr, body.len, JSON_REJECT_DUPLICATES, NULL);
        ASSERT(tree);
        json_decref(tree);
        return;
    }
    default: break;
    }
    ASSERT(decode_json(d, body, &options, *schema, &rows, &err) == ERR_OK);
    if (what == DECODE) {
        decoded_free(rows);
        return;
    }
    const struct decode_pair pairs[] = {{slice_lit("p_src_ip"), slice_lit("127.0.0.1")},
                                        {slice_lit("p_user_agent"), slice_lit("bench")}};
    const struct decode_rules rules = {.p_timestamp_us = 1, .pairs = pairs, .pairs_count = 2};
    struct schema *grown = NULL;
    struct batch *batch = NULL;
    uint64_t inexact;
    ASSERT(decode_resolve(rows, *schema, &options, &rules, &grown, &batch, &inexact, &err) == ERR_OK);
    schema_unref(*schema);
    *schema = grown;
    batch_unref(batch);
}

static void run(const char *path)
{
    struct bodies bodies = {0};
    struct decoder *d = decoder_new();
    struct schema *schema = schema_empty();
    double seconds[WHATS][ROUNDS], mb[WHATS];

    bodies_load(path, BODY_BYTES, &bodies);
    for (int round = -1; round < ROUNDS; round++) /* the first warms up and is not counted */
        for (int what = 0; what < WHATS; what++) {
            double from = bench_cpu_s();
            for (size_t i = 0; i < bodies.count; i++)
                one((enum what)what, d, buf_view(&bodies.at[i]), &schema);
            if (round >= 0)
                seconds[what][round] = bench_cpu_s() - from;
            if (what == JANSSON)
                (void)malloc_trim(0); /* its millions of pieces are not for the next one to sweep up */
        }
    for (int what = 0; what < WHATS; what++) {
        mb[what] = (double)bodies.bytes * 1e-6 / bench_median(seconds[what], ROUNDS);
    }
    printf("%-28s %8.1f MB %8.0f %8.0f %8.0f %8.0f\n", path, (double)bodies.bytes * 1e-6, mb[READER], mb[DECODE],
           mb[ALL], mb[JANSSON]);
    bodies_done(&bodies);
    decoder_free(d);
    schema_unref(schema);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        (void)fprintf(stderr, "usage: bench_decode ROWS.ndjson...   (MB per CPU-second of JSON arrays of 1 MiB)\n");
        return 2;
    }
    printf("%-28s %11s %8s %8s %8s %8s\n", "MB per CPU-second", "bytes", "reader", "decode", "all", "jansson");
    for (int i = 1; i < argc; i++)
        run(argv[i]);
    return 0;
}
