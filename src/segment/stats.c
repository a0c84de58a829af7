/* stats.c: minimum, maximum and nulls of a few columns, computed from the batches: the file need not be read for it. */
#include <endian.h>
#include <stdatomic.h>

#include "segment/segment_int.h"

#define TEXTS_AHEAD 12

uint32_t segment_stat_fields(const struct schema *schema, const bool *used, uint32_t out[SEGMENT_STATS_FIELDS_MAX])
{
    uint32_t n = 0;

    out[n++] = 0;
    for (uint32_t i = 1; i < schema_count(schema); i++) {
        const struct field *f = schema_field(schema, i);
        if (!used[i] || f->type.kind == TYPE_LIST || f->type.kind == TYPE_NULL)
            continue;
        uint32_t at = n < SEGMENT_STATS_FIELDS_MAX ? n++ : SEGMENT_STATS_FIELDS_MAX;
        for (; at > 1 && schema_field(schema, out[at - 1])->id > f->id;
             at--) /* insertion by id; the highest falls out */
            if (at < SEGMENT_STATS_FIELDS_MAX)
                out[at] = out[at - 1];
        if (at < SEGMENT_STATS_FIELDS_MAX)
            out[at] = i;
    }
    return n;
}

struct range {
    uint64_t min, max, nulls;
    bool any;
};

static inline void range_add(struct range *r, uint64_t low, uint64_t high)
{
    if (!r->any || low < r->min)
        r->min = low;
    if (!r->any || high > r->max)
        r->max = high;
    r->any = true;
}

/* Sets `min`, `max` and counts nulls. Most columns have a value in every row and are written whole: their loop has no branch. */
#define RANGE_OF_VALUES(T, ORDER)                     \
    do {                                              \
        const T *values = (const T *)c->values;       \
        if (whole)                                    \
            for (uint32_t i = 0; i < n; i++) {        \
                uint64_t key = ORDER(values[i]);      \
                min = key < min ? key : min;          \
                max = key > max ? key : max;          \
            }                                         \
        else                                          \
            for (uint32_t i = 0; i < n; i++) {        \
                uint32_t row = sel ? sel[i] : i;      \
                uint64_t key = ORDER(values[row]);    \
                bool valid = c->valid[row] != 0;      \
                min = valid && key < min ? key : min; \
                max = valid && key > max ? key : max; \
                nulls += !valid;                      \
            }                                         \
    } while (0)
#define ORDER_U64(v) (v)

static void range_of_numbers(const struct column *c, const uint32_t *sel, uint32_t n, struct range *r)
{
    bool whole = !sel && !atomic_load_explicit(&c->has_nulls, memory_order_relaxed);
    uint64_t min = UINT64_MAX, max = 0, nulls = 0;

    switch ((enum type_kind)c->type.kind) {
    case TYPE_BOOL: RANGE_OF_VALUES(uint8_t, segment_order_i64); break;
    case TYPE_INT64:
    case TYPE_TIMESTAMP: RANGE_OF_VALUES(int64_t, segment_order_i64); break;
    case TYPE_UINT64: RANGE_OF_VALUES(uint64_t, ORDER_U64); break;
    case TYPE_FLOAT64: RANGE_OF_VALUES(double, segment_order_f64); break;
    case TYPE_DATE32: RANGE_OF_VALUES(int32_t, segment_order_i64); break;
    case TYPE_UTF8:
    case TYPE_NULL:
    case TYPE_LIST: return;
    }
    r->nulls += nulls;
    if (nulls < n)
        range_add(r, min, max);
}

/* First 8 bytes, big-endian: a text of up to 12 bytes is padded with zeros. */
static uint64_t text_key(const struct text *t)
{
    uint64_t key;

    memcpy(&key, t->len <= 12 ? t->inlined : t->far.ptr, 8);
    return be64toh(key);
}

/* Surely no new minimum or maximum. */
static bool within(const struct range *r, const struct text *t)
{
    uint32_t prefix;

    memcpy(&prefix, t->inlined, 4);
    prefix = be32toh(prefix);
    return r->any && prefix > r->min >> 32 && prefix < r->max >> 32;
}

/* As segment_order_text() says, but most texts lie between what was seen already and the four bytes in place tell it. The others are
 * anywhere in memory, and are asked for some rows ahead. */
static void range_of_texts(const struct column *c, const uint32_t *sel, uint32_t n, struct range *r)
{
    const struct text *texts = c->values;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t row = sel ? sel[i] : i;
        const struct text *t = &texts[row];
        if (i + TEXTS_AHEAD < n) {
            const struct text *ahead = &texts[sel ? sel[i + TEXTS_AHEAD] : i + TEXTS_AHEAD];
            if (ahead->len > 12 && !within(r, ahead))
                __builtin_prefetch(ahead->far.ptr);
        }
        if (!c->valid[row]) {
            r->nulls++;
            continue;
        }
        if (within(r, t))
            continue;
        uint64_t key = text_key(t);
        range_add(r, key, key + (t->len > 8 && key != UINT64_MAX));
    }
}

static struct segment_stat stat_of(uint32_t field_id, const struct segment_part *parts, uint32_t parts_count,
                                   uint32_t field)
{
    struct range r = {0};

    for (uint32_t p = 0; p < parts_count; p++) {
        const struct column *c = batch_view_column(&parts[p].view, field);
        uint32_t n = parts[p].sel ? parts[p].sel_count : parts[p].view.rows;
        if (!c)
            r.nulls += n;
        else if (c->type.kind == TYPE_UTF8)
            range_of_texts(c, parts[p].sel, n, &r);
        else
            range_of_numbers(c, parts[p].sel, n, &r);
    }
    return (struct segment_stat){field_id, r.min, r.max, (uint32_t)r.nulls, r.any};
}

void segment_stats_compute(const struct schema *schema, const struct segment_part *parts, uint32_t parts_count,
                           const uint32_t *fields, uint32_t fields_count, struct segment_stats *out)
{
    out->rows = 0;
    for (uint32_t p = 0; p < parts_count; p++)
        out->rows += parts[p].sel ? parts[p].sel_count : parts[p].view.rows;
    for (uint32_t k = 0; k < fields_count; k++)
        out->cols[k] = stat_of(schema_field(schema, fields[k])->id, parts, parts_count, fields[k]);
    out->cols[fields_count] = stat_of(ROW_ID_FIELD_ID, parts, parts_count, FIELD_ROW_ID);
    out->cols_count = fields_count + 1;
    out->tmin_us = (int64_t)(out->cols[0].min ^ UINT64_C(1) << 63);
    out->tmax_us = (int64_t)(out->cols[0].max ^ UINT64_C(1) << 63);
}
