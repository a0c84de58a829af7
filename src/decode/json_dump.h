/* json_dump.h: for tests: a stream of batches in memory, and its rows as text to compare. */
#pragma once
#include <inttypes.h>

#include "base/timetext.h"
#include "decode/json.h"

static inline void dump_value(struct buf *out, const struct column *c, uint32_t row)
{
    char text[TIME_TEXT_MAX];

    if (!c->valid[row]) {
        buf_str(out, "null");
        return;
    }
    switch ((enum type_kind)c->type.kind) {
    case TYPE_BOOL: buf_str(out, ((const uint8_t *)c->values)[row] ? "true" : "false"); break;
    case TYPE_INT64: buf_fmt(out, "%" PRId64 "i", ((const int64_t *)c->values)[row]); break;
    case TYPE_UINT64: buf_fmt(out, "%" PRIu64 "u", ((const uint64_t *)c->values)[row]); break;
    case TYPE_FLOAT64: buf_fmt(out, "%.17g", ((const double *)c->values)[row]); break;
    case TYPE_UTF8: buf_json_str(out, text_slice(&((const struct text *)c->values)[row])); break;
    case TYPE_TIMESTAMP: buf_slice(out, slice_of(text, time_format(text, ((const int64_t *)c->values)[row]))); break;
    case TYPE_DATE32:
        (void)time_format(text, ((const int32_t *)c->values)[row] * INT64_C(86400000000));
        buf_put(out, text, 10);
        break;
    case TYPE_LIST: {
        struct list_slot slot = ((const struct list_slot *)c->values)[row];
        buf_byte(out, '[');
        for (uint32_t i = 0; i < slot.len; i++) {
            if (i)
                buf_byte(out, ',');
            dump_value(out, c->item, slot.offset + i);
        }
        buf_byte(out, ']');
        break;
    }
    case TYPE_NULL: buf_str(out, "?"); break;
    }
}

static inline int dump_order(const void *a, const void *b)
{
    uint32_t x = (*(struct column *const *)a)->field, y = (*(struct column *const *)b)->field;
    return (x > y) - (x < y);
}

/* One line a row: "name=value" by field index; neither p_timestamp nor the row id. */
static inline void dump_batch(struct buf *out, const struct batch *b, const struct schema *schema)
{
    struct column **order = mem_alloc(b->columns_count * sizeof(*order));

    for (uint32_t i = 0; i < b->columns_count; i++)
        order[i] = b->columns[i];
    qsort(order, b->columns_count, sizeof(*order), dump_order);
    for (uint32_t row = 0; row < b->rows; row++) {
        bool first = true;
        for (uint32_t i = 0; i < b->columns_count; i++) {
            if (order[i]->field == 0 || order[i]->field == FIELD_ROW_ID || !order[i]->valid[row])
                continue;
            if (!first)
                buf_byte(out, ' ');
            first = false;
            buf_slice(out, schema_field(schema, order[i]->field)->name);
            buf_byte(out, '=');
            dump_value(out, order[i], row);
        }
        buf_byte(out, '\n');
    }
    free(order);
}
