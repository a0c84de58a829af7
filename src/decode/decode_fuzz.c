/* decode_fuzz.c: any bytes as a request: the cells are those of the slow model; and what resolve makes of them does not depend on
 * what the decoder has seen before or was told of the schema, as a WAL replay must give the batch that was acknowledged. */
#include "decode/json_dump.h"
#include "decode/json_model.h"

static struct decoder *warm;

static enum err_code stream_add(struct decoder *d, slice body, bool hint, const struct decode_options *opt,
                                const struct decode_rules *rules, struct schema **schema, struct buf *out)
{
    struct decoded *rows = NULL;
    struct schema *grown = NULL;
    struct batch *batch = NULL;
    struct err err = {0};
    uint64_t inexact = 0;

    TRY(decode_json(d, body, opt, hint ? *schema : NULL, &rows, &err));
    TRY(decode_resolve(rows, *schema, opt, rules, &grown, &batch, &inexact, &err));
    dump_batch(out, batch, grown);
    ASSERT(schema_count(grown) >= schema_count(*schema));
    for (uint32_t i = 0; i < batch->columns_count; i++) {
        const struct column *c = batch->columns[i];
        ASSERT(c->field == FIELD_ROW_ID || type_eq(c->type, schema_field(grown, c->field)->type));
        for (uint32_t row = 0; row < batch->rows; row++)
            ASSERT(c->valid[row] == 1 || (c->valid[row] == 0 && c->has_nulls));
    }
    ASSERT(batch->rows == 0 || batch->columns[0]->field == 0);
    batch_unref(batch);
    schema_unref(*schema);
    *schema = grown;
    return ERR_OK;
}

/* The input is two requests, cut at the first 0xfe: the second meets the columns of the first. */
static void two_requests(const uint8_t *data, size_t size, const struct decode_options *opt)
{
    const struct decode_pair pair = {slice_lit("p_src_ip"), slice_lit("127.0.0.1 from the outside")};
    const struct decode_rules rules = {.p_timestamp_us = 1700000000123000, .pairs = &pair, .pairs_count = 1};
    const uint8_t *cut = size ? memchr(data, 0xfe, size) : NULL;
    slice first = {data, cut ? (size_t)(cut - data) : size},
          second = cut ? slice_of(cut + 1, size - first.len - 1) : first;
    struct buf a = BUF_INIT, b = BUF_INIT;
    struct schema *sa = schema_empty(), *sb = schema_empty();
    struct decoder *cold = decoder_new();
    enum err_code ra1 = stream_add(warm, first, true, opt, &rules, &sa, &a),
                  ra2 = stream_add(warm, second, true, opt, &rules, &sa, &a);
    enum err_code rb1 = stream_add(cold, first, false, opt, &rules, &sb, &b), rb2;

    decoder_free(cold);
    cold = decoder_new();
    rb2 = stream_add(cold, second, false, opt, &rules, &sb, &b);
    ASSERT(ra1 == rb1 && ra2 == rb2);
    ASSERT(slice_eq(buf_view(&a), buf_view(&b)));
    a.len = b.len = 0;
    schema_print(sa, false, &a);
    schema_print(sb, false, &b);
    ASSERT(slice_eq(buf_view(&a), buf_view(&b)));
    buf_done(&a);
    buf_done(&b);
    schema_unref(sa);
    schema_unref(sb);
    decoder_free(cold);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct decode_options options[] = {
        {.flatten_level = 4, .rows_max = 1000, .bytes_max = 1u << 20, .columns_max = 20},
        {.flatten_level = 10, .flatten = DECODE_OBJECTS_ONLY, .rows_max = 1000, .newline_delimited = true},
    };
    struct schema *schema = NULL;
    struct buf out = BUF_INIT;
    struct err err;

    if (!warm)
        warm = decoder_new();
    ASSERT(decoder_agrees(warm, (slice){data, size}, 4));
    for (size_t i = 0; i < ARRAY_LEN(options); i++)
        two_requests(data, size, &options[i]);
    if (decode_detect(warm, (slice){data, size}, &options[0], &out, &err) == ERR_OK)
        ASSERT(out.len > 0);
    if (decode_static_schema((slice){data, size}, (slice){0}, &schema, &err) == ERR_OK)
        schema_unref(schema);
    buf_done(&out);
    return 0;
}
