/* write_arrow.c: Arrow IPC streaming format, metadata version 5 (Apache Arrow columnar format, "Serialization and IPC"; Message.fbs,
 * Schema.fbs): a schema message, record batches without dictionaries or compression, the end-of-stream marker.
 *
 * A message is ff ff ff ff, the metadata's length, the metadata (a FlatBuffer), the body. Everything is padded to 64 bytes from the
 * start of the stream. The metadata of a record batch has one size for one schema: it is made once with zeros for its numbers and
 * filled in for each batch, in front of the body that has been written meanwhile.
 *
 * FlatBuffers are written forwards here: a table first, then what it refers to, as offsets point forwards only.
 *
 * TYPES  as DataFusion has them where it has them. Timestamps are of microseconds and have no zone: the original's are of
 *   milliseconds, which would cut ours. 128-bit integers are Decimal128(38, 0), UUIDs and enums Utf8. */
#include "query/write_int.h"

#define ALIGN 64u
#define ROWS_MAX (1u << 20) /* of a batch: more than a chunk has */
/* ---- FlatBuffers */

struct fb_slot {
    uint8_t size; /* 1, 2, 4 or 8 bytes; 0: absent */
    uint64_t value;
};
#define FB_U8(v) ((struct fb_slot){1, (uint64_t)(v)})
#define FB_I16(v) ((struct fb_slot){2, (uint64_t)(v)})
#define FB_I32(v) ((struct fb_slot){4, (uint64_t)(v)})
#define FB_I64(v) ((struct fb_slot){8, (uint64_t)(v)})
#define FB_REF FB_I32(0) /* to be set by fb_link() */
#define FB_NONE ((struct fb_slot){0, 0})

static void fb_align(struct buf *b, size_t to)
{
    while (b->len % to)
        buf_byte(b, 0);
}

static void fb_u32(struct buf *b, uint32_t v)
{
    buf_put(b, &v, sizeof(v));
}

/* The offset that stands at `at` leads to `target`. */
static void fb_link(struct buf *b, size_t at, size_t target)
{
    le32_put(b->ptr + at, (uint32_t)(target - at));
}

/* A vtable and its table; where each slot's value stands goes to `at`. Returns the table's place. */
static size_t fb_table(struct buf *b, const struct fb_slot *slots, unsigned n, size_t *at)
{
    uint16_t vtable[2 + 8] = {(uint16_t)(4 + 2 * n)};
    size_t offset = 4;

    ASSERT(n <= 8);
    for (unsigned i = 0; i < n; i++) {
        if (slots[i].size == 0)
            continue;
        offset = (offset + slots[i].size - 1) / slots[i].size * slots[i].size;
        vtable[2 + i] = (uint16_t)offset;
        offset += slots[i].size;
    }
    vtable[1] = (uint16_t)offset;
    fb_align(b, 2);
    size_t vtable_at = b->len;
    buf_put(b, vtable, vtable[0]);
    fb_align(b, 8);
    size_t table = b->len;
    fb_u32(b, (uint32_t)(table - vtable_at));
    for (unsigned i = 0; i < n; i++) {
        if (slots[i].size == 0)
            continue;
        while (b->len < table + vtable[2 + i])
            buf_byte(b, 0);
        at[i] = b->len;
        buf_put(b, &slots[i].value, slots[i].size); /* little-endian */
    }
    return table;
}

static size_t fb_string(struct buf *b, slice s)
{
    fb_align(b, 4);
    size_t at = b->len;
    fb_u32(b, (uint32_t)s.len);
    buf_slice(b, s);
    buf_byte(b, 0);
    return at;
}

/* A vector of `n` items of zeros; items of 8 bytes or more are aligned to 8. Returns its place: the count, then the items. */
static size_t fb_vector(struct buf *b, uint32_t n, size_t item_size)
{
    fb_align(b, 4);
    if (item_size >= 8 && b->len % 8 == 0)
        fb_u32(b, 0);
    size_t at = b->len;
    fb_u32(b, n);
    buf_reserve(b, n * item_size);
    memset(b->ptr + b->len, 0, n * item_size);
    b->len += n * item_size;
    return at;
}

/* ---- schema (Schema.fbs) */

enum arrow_type { /* union Type */
                  ARROW_NULL = 1,
                  ARROW_INT,
                  ARROW_FLOAT,
                  ARROW_BINARY,
                  ARROW_UTF8,
                  ARROW_BOOL,
                  ARROW_DECIMAL,
                  ARROW_DATE,
                  ARROW_TIME,
                  ARROW_TIMESTAMP,
                  ARROW_INTERVAL,
                  ARROW_LIST,
                  ARROW_STRUCT,
                  ARROW_FIXED_LIST = 16,
                  ARROW_MAP,
                  ARROW_DURATION,
};
enum { /* TimeUnit, Precision, DateUnit, IntervalUnit, MetadataVersion, MessageHeader */
       UNIT_S = 0,
       UNIT_MS,
       UNIT_US,
       UNIT_NS,
       PRECISION_SINGLE = 1,
       PRECISION_DOUBLE,
       DATE_DAY = 0,
       INTERVAL_MONTH_DAY_NANO = 2,
       METADATA_V5 = 4,
       HEADER_SCHEMA = 1,
       HEADER_RECORD_BATCH = 3,
};
struct arrow_type_spec {
    enum arrow_type type;
    unsigned slots_count;
    struct fb_slot slots[3];
};
#define SPEC0(t) ((struct arrow_type_spec){t, 0, {FB_NONE}})
#define SPEC1(t, a) ((struct arrow_type_spec){t, 1, {a}})
#define SPEC2(t, a, b) ((struct arrow_type_spec){t, 2, {a, b}})
#define SPEC3(t, a, b, c) ((struct arrow_type_spec){t, 3, {a, b, c}})

static struct arrow_type_spec type_spec(const struct write_column *col)
{
    const struct engine_field *f = col->field;

    switch (f->type) {
    case ENGINE_NULL: return SPEC0(ARROW_NULL);
    case ENGINE_BOOL: return SPEC0(ARROW_BOOL);
    case ENGINE_I8: return SPEC2(ARROW_INT, FB_I32(8), FB_U8(1));
    case ENGINE_I16: return SPEC2(ARROW_INT, FB_I32(16), FB_U8(1));
    case ENGINE_I32: return SPEC2(ARROW_INT, FB_I32(32), FB_U8(1));
    case ENGINE_I64: return SPEC2(ARROW_INT, FB_I32(64), FB_U8(1));
    case ENGINE_U8: return SPEC2(ARROW_INT, FB_I32(8), FB_U8(0));
    case ENGINE_U16: return SPEC2(ARROW_INT, FB_I32(16), FB_U8(0));
    case ENGINE_U32: return SPEC2(ARROW_INT, FB_I32(32), FB_U8(0));
    case ENGINE_U64: return SPEC2(ARROW_INT, FB_I32(64), FB_U8(0));
    case ENGINE_I128:
    case ENGINE_U128: return SPEC3(ARROW_DECIMAL, FB_I32(38), FB_I32(0), FB_I32(128));
    case ENGINE_F32: return SPEC1(ARROW_FLOAT, FB_I16(PRECISION_SINGLE));
    case ENGINE_F64: return SPEC1(ARROW_FLOAT, FB_I16(PRECISION_DOUBLE));
    case ENGINE_DECIMAL: return SPEC3(ARROW_DECIMAL, FB_I32(f->decimal_width), FB_I32(f->decimal_scale), FB_I32(128));
    case ENGINE_BLOB: return SPEC0(ARROW_BINARY);
    case ENGINE_DATE: return SPEC1(ARROW_DATE, FB_I16(DATE_DAY));
    case ENGINE_TIME: return SPEC2(ARROW_TIME, FB_I16(UNIT_US), FB_I32(64));
    case ENGINE_TIMESTAMP: return SPEC1(ARROW_TIMESTAMP, FB_I16(UNIT_US));
    case ENGINE_TIMESTAMP_S: return SPEC1(ARROW_TIMESTAMP, FB_I16(UNIT_S));
    case ENGINE_TIMESTAMP_MS: return SPEC1(ARROW_TIMESTAMP, FB_I16(UNIT_MS));
    case ENGINE_TIMESTAMP_NS: return SPEC1(ARROW_TIMESTAMP, FB_I16(UNIT_NS));
    case ENGINE_INTERVAL:
        return col->show == GATE_SHOW_DURATION ? SPEC1(ARROW_DURATION, FB_I16(UNIT_US))
                                               : SPEC1(ARROW_INTERVAL, FB_I16(INTERVAL_MONTH_DAY_NANO));
    case ENGINE_LIST: return SPEC0(ARROW_LIST);
    case ENGINE_ARRAY: return SPEC1(ARROW_FIXED_LIST, FB_I32(f->array_size));
    case ENGINE_STRUCT: return SPEC0(ARROW_STRUCT);
    case ENGINE_MAP: return SPEC1(ARROW_MAP, FB_U8(0)); /* keys are not sorted */
    default: return SPEC0(ARROW_UTF8);                  /* TEXT, ENUM, UUID */
    }
}

static size_t put_field(struct buf *b, const struct write_column *col, bool nullable);

/* Field of these names, type and children; a map's children stand in one field more, as Arrow's maps are lists of `entries`. */
static size_t put_field_of(struct buf *b, slice name, bool nullable, struct arrow_type_spec spec,
                           const struct write_column *children, uint32_t n, bool keys)
{
    const struct fb_slot slots[] = {FB_REF, FB_U8(nullable), FB_U8(spec.type), FB_REF, FB_NONE, FB_REF};
    size_t at[6], type_at[3];
    const bool map = spec.type == ARROW_MAP;
    size_t field = fb_table(b, slots, 6, at);

    fb_link(b, at[0], fb_string(b, name));
    fb_link(b, at[3], fb_table(b, spec.slots, spec.slots_count, type_at));
    uint32_t count = map ? 1 : n;
    size_t vector = fb_vector(b, count, 4);
    fb_link(b, at[5], vector);
    for (uint32_t i = 0; i < count; i++)
        fb_link(b, vector + 4 + 4 * i,
                map ? put_field_of(b, slice_lit("entries"), false, SPEC0(ARROW_STRUCT), children, n, true)
                    : put_field(b, &children[i], !(keys && i == 0)));
    return field;
}

static size_t put_field(struct buf *b, const struct write_column *col, bool nullable)
{
    return put_field_of(b, col->name, nullable, type_spec(col), col->children, col->children_count, false);
}

/* The Message table around a header, which follows; its offset is to be linked at at[2], the body's length stands at at[3]. */
static void put_message(struct buf *b, uint8_t header, size_t at[4])
{
    const struct fb_slot slots[] = {FB_I16(METADATA_V5), FB_U8(header), FB_REF, FB_I64(0)};

    fb_u32(b, 0);
    size_t message = fb_table(b, slots, 4, at);
    fb_link(b, 0, message);
}

static void put_schema(struct buf *b, const struct writer *w)
{
    const struct fb_slot slots[] = {FB_I16(0), FB_REF}; /* little-endian */
    size_t message[4], at[2];

    put_message(b, HEADER_SCHEMA, message);
    fb_link(b, message[2], fb_table(b, slots, 2, at));
    size_t vector = fb_vector(b, w->columns_count, 4);
    fb_link(b, at[1], vector);
    for (uint32_t i = 0; i < w->columns_count; i++)
        fb_link(b, vector + 4 + 4 * i, put_field(b, &w->columns[i], true));
}

/* ---- messages */

struct write_arrow {
    struct buf batch;                              /* a record batch's metadata, its numbers zero */
    size_t rows_at, nodes_at, buffers_at, body_at; /* in it */
    uint32_t nodes, buffers;
    uint64_t rows_max;  /* of the next batch: fewer after one that was too long */
    struct arena arena; /* row numbers of the batch of the moment */
};

static void count_nodes(const struct write_column *col, struct write_arrow *a)
{
    a->nodes++;
    switch (col->field->type) {
    case ENGINE_NULL: break;
    case ENGINE_STRUCT:
    case ENGINE_ARRAY: a->buffers += 1; break;
    case ENGINE_TEXT:
    case ENGINE_BLOB:
    case ENGINE_ENUM:
    case ENGINE_UUID: a->buffers += 3; break;
    case ENGINE_MAP: /* and its entries */
        a->nodes++;
        a->buffers += 3;
        break;
    default: a->buffers += 2; /* LIST: validity, offsets */
    }
    for (uint32_t i = 0; i < col->children_count; i++)
        count_nodes(&col->children[i], a);
}

/* Metadata with what goes before it; the length makes what follows start at a multiple of ALIGN. */
static void put_metadata(struct buf *out, slice metadata)
{
    size_t padded = (metadata.len + 8 + ALIGN - 1) / ALIGN * ALIGN - 8;

    fb_u32(out, UINT32_MAX);
    fb_u32(out, (uint32_t)padded);
    buf_reserve(out, padded);
    buf_slice(out, metadata);
    memset(out->ptr + out->len, 0, padded - metadata.len);
    out->len += padded - metadata.len;
}

void write_arrow_new(struct writer *w)
{
    const struct fb_slot slots[] = {FB_I64(0), FB_REF, FB_REF};
    struct write_arrow *a = mem_zalloc(sizeof(*a));
    size_t message[4], at[3];

    for (uint32_t i = 0; i < w->columns_count; i++)
        count_nodes(&w->columns[i], a);
    put_message(&a->batch, HEADER_RECORD_BATCH, message);
    a->body_at = message[3];
    fb_link(&a->batch, message[2], fb_table(&a->batch, slots, 3, at));
    a->rows_at = at[0];
    size_t vector = fb_vector(&a->batch, a->nodes, 16); /* FieldNode: length, null_count */
    fb_link(&a->batch, at[1], vector);
    a->nodes_at = vector + 4;
    vector = fb_vector(&a->batch, a->buffers, 16); /* Buffer: offset, length */
    fb_link(&a->batch, at[2], vector);
    a->buffers_at = vector + 4;
    a->rows_max = ROWS_MAX;
    w->arrow = a;
}

void write_arrow_free(struct write_arrow *a)
{
    if (!a)
        return;
    buf_done(&a->batch);
    arena_done(&a->arena);
    free(a);
}

void write_arrow_begin(struct writer *w, struct buf *out)
{
    struct buf metadata = BUF_INIT;

    put_schema(&metadata, w);
    put_metadata(out, buf_view(&metadata));
    buf_done(&metadata);
}

void write_arrow_end(struct buf *out)
{
    fb_u32(out, UINT32_MAX);
    fb_u32(out, 0);
}

/* ---- record batches */

struct rows { /* of a vector: index[0..count), or from .. from + count */
    const uint64_t *index;
    uint64_t from, count;
};
static inline uint64_t row_of(const struct rows *r, uint64_t i)
{
    return r->index ? r->index[i] : r->from + i;
}

struct body {
    struct write_arrow *arrow;
    struct buf *out;
    size_t metadata, start; /* in out */
    uint32_t node, buffer;  /* next */
    uint64_t offset_max;
    bool too_long;     /* text: try with fewer rows */
    const char *fault; /* a value that Arrow has no form for */
};

/* `size` bytes in front of the padding; the pointer is good until the next buffer. */
static uint8_t *put_buffer(struct body *b, uint64_t size)
{
    uint64_t padded = (size + ALIGN - 1) / ALIGN * ALIGN;

    buf_reserve(b->out, padded);
    uint8_t *p = b->out->ptr + b->out->len,
            *entry = b->out->ptr + b->metadata + b->arrow->buffers_at + 16 * b->buffer++;
    le64_put(entry, b->out->len - b->start);
    le64_put(entry + 8, size);
    memset(p + size, 0, padded - size);
    b->out->len += padded;
    return p;
}

static void put_node(struct body *b, uint64_t rows, uint64_t nulls)
{
    uint8_t *entry = b->out->ptr + b->metadata + b->arrow->nodes_at + 16 * b->node++;

    le64_put(entry, rows);
    le64_put(entry + 8, nulls);
}

static uint64_t count_nulls(const struct engine_vector *v, const struct rows *r)
{
    uint64_t valid = 0;

    if (!v->valid)
        return 0;
    if (r->index || r->from % 64) {
        for (uint64_t i = 0; i < r->count; i++)
            valid += engine_valid(v, row_of(r, i));
        return r->count - valid;
    }
    const uint64_t *words = v->valid + r->from / 64;
    for (uint64_t i = 0; i < r->count / 64; i++)
        valid += (uint64_t)__builtin_popcountll(words[i]);
    if (r->count % 64)
        valid += (uint64_t)__builtin_popcountll(words[r->count / 64] & ((UINT64_C(1) << r->count % 64) - 1));
    return r->count - valid;
}

/* The node and the validity buffer; returns how many are null. */
static uint64_t put_validity(struct body *b, const struct engine_vector *v, const struct rows *r)
{
    uint64_t nulls = count_nulls(v, r), size = nulls ? (r->count + 7) / 8 : 0;

    put_node(b, r->count, nulls);
    uint8_t *bits = put_buffer(b, size);
    if (!nulls)
        return 0;
    if (!r->index && r->from % 64 == 0) {
        memcpy(bits, v->valid + r->from / 64, size);
        if (r->count % 8)
            bits[size - 1] &= (uint8_t)((1u << r->count % 8) - 1);
        return nulls;
    }
    memset(bits, 0, size);
    for (uint64_t i = 0; i < r->count; i++)
        bits[i / 8] |= (uint8_t)(engine_valid(v, row_of(r, i)) << i % 8);
    return nulls;
}

/* Values as they are. What stands in the place of a null is the engine's, and nobody's to see: zeros. */
static void put_fixed(struct body *b, const struct engine_vector *v, const struct rows *r, size_t size)
{
    uint64_t nulls = put_validity(b, v, r);
    uint8_t *to = put_buffer(b, r->count * size);
    const uint8_t *from = v->data;

    if (!r->index && r->count)
        memcpy(to, from + r->from * size, r->count * size);
    for (uint64_t i = 0; r->index && i < r->count; i++)
        memcpy(to + i * size, from + r->index[i] * size, size);
    for (uint64_t i = 0; nulls && i < r->count; i++)
        if (!engine_valid(v, row_of(r, i)))
            memset(to + i * size, 0, size);
}

static void put_bools(struct body *b, const struct engine_vector *v, const struct rows *r)
{
    uint64_t size = (r->count + 7) / 8;
    const uint8_t *from = v->data;

    (void)put_validity(b, v, r);
    uint8_t *to = put_buffer(b, size);
    memset(to, 0, size);
    for (uint64_t i = 0; i < r->count; i++) {
        uint64_t row = row_of(r, i);
        to[i / 8] |= (uint8_t)((engine_valid(v, row) && from[row]) << i % 8);
    }
}

static void put_decimals(struct body *b, const struct engine_field *f, const struct engine_vector *v,
                         const struct rows *r)
{
    const u128 limit = (u128)10000000000000000000u * 10000000000000000000u; /* 10^38 */

    (void)put_validity(b, v, r);
    uint8_t *to = put_buffer(b, r->count * 16);
    for (uint64_t i = 0; i < r->count; i++) {
        uint64_t row = row_of(r, i);
        i128 value = 0;
        if (engine_valid(v, row)) {
            value = f->type == ENGINE_DECIMAL ? write_decimal(f, v->data, row) : ((const i128 *)v->data)[row];
            u128 abs = value < 0 && f->type != ENGINE_U128 ? 0 - (u128)value : (u128)value;
            if (abs >= limit)
                b->fault = "has an integer of more than 38 digits, which Arrow has no type for";
        }
        memcpy(to + i * 16, &value, 16);
    }
}

static void put_intervals(struct body *b, const struct engine_vector *v, const struct rows *r)
{
    const int64_t day_us = INT64_C(86400000000), us_max = INT64_MAX / 1000;

    (void)put_validity(b, v, r);
    uint8_t *to = put_buffer(b, r->count * 16);
    for (uint64_t i = 0; i < r->count; i++) {
        uint64_t row = row_of(r, i);
        struct engine_interval x = {0};
        if (engine_valid(v, row))
            x = ((const struct engine_interval *)v->data)[row];
        if (x.micros > us_max || x.micros < -us_max) { /* beyond 292 years in nanoseconds: full days go to the days */
            if (__builtin_add_overflow(x.days, x.micros / day_us, &x.days))
                b->fault = "has an interval that is too long for Arrow";
            x.micros %= day_us;
        }
        x.micros *= 1000;
        memcpy(to + i * 16, &x, 16);
    }
}

static void put_durations(struct body *b, const struct engine_vector *v, const struct rows *r)
{
    (void)put_validity(b, v, r);
    uint8_t *to = put_buffer(b, r->count * 8);
    for (uint64_t i = 0; i < r->count; i++) {
        uint64_t row = row_of(r, i);
        const struct engine_interval *x = (const struct engine_interval *)v->data + row;
        int64_t us = 0;
        if (engine_valid(v, row) && (__builtin_mul_overflow((int64_t)x->days, INT64_C(86400000000), &us) ||
                                     __builtin_add_overflow(us, x->micros, &us)))
            b->fault = "has a duration that is too long for Arrow";
        le64_put(to + i * 8, (uint64_t)us);
    }
}

static inline slice text_at(const struct engine_field *f, const struct engine_vector *v, uint64_t row, char uuid[36])
{
    if (!engine_valid(v, row))
        return (slice){0};
    if (f->type == ENGINE_ENUM)
        return write_enum(f, v, row);
    if (f->type == ENGINE_UUID) {
        write_uuid(uuid, v->data, row);
        return slice_of(uuid, 36);
    }
    return text_slice((const struct text *)v->data + row);
}

static void put_texts(struct body *b, const struct engine_field *f, const struct engine_vector *v, const struct rows *r)
{
    uint64_t total = 0;
    char uuid[36];

    (void)put_validity(b, v, r);
    uint8_t *offsets = put_buffer(b, (r->count + 1) * 4);
    le32_put(offsets, 0);
    for (uint64_t i = 0; i < r->count; i++) {
        total += f->type == ENGINE_UUID && engine_valid(v, row_of(r, i)) ? 36 : text_at(f, v, row_of(r, i), uuid).len;
        le32_put(offsets + 4 * i + 4, (uint32_t)total);
    }
    if (total > b->offset_max) {
        b->too_long = true;
        total = 0;
    }
    uint8_t *to = put_buffer(b, total);
    for (uint64_t i = 0; total && i < r->count; i++) {
        slice s = text_at(f, v, row_of(r, i), uuid);
        if (s.len)
            memcpy(to, s.ptr, s.len);
        to += s.len;
    }
}

static void put_column(struct body *b, const struct write_column *col, const struct engine_vector *v,
                       const struct rows *r);

/* The offsets of a list or map, and which rows of the children they are about. */
static struct rows put_offsets(struct body *b, const struct engine_vector *v, const struct rows *r)
{
    const struct engine_list_entry *lists = v->data;
    struct rows items = {0};
    uint64_t total = 0, next = 0;
    bool run = true; /* the lists lie one behind the other */

    uint8_t *offsets = put_buffer(b, (r->count + 1) * 4);
    le32_put(offsets, 0);
    for (uint64_t i = 0; i < r->count; i++) {
        uint64_t row = row_of(r, i);
        if (engine_valid(v, row) && lists[row].length) {
            run &= total == 0 || lists[row].offset == next;
            if (total == 0)
                items.from = lists[row].offset;
            next = lists[row].offset + lists[row].length;
            total += lists[row].length;
        }
        le32_put(offsets + 4 * i + 4, (uint32_t)total);
    }
    items.count = total;
    if (total > b->offset_max) {
        b->too_long = true;
        items.count = 0;
    } else if (!run) {
        uint64_t *index = arena_alloc(&b->arrow->arena, total * sizeof(*index)), n = 0;
        for (uint64_t i = 0; i < r->count; i++) {
            uint64_t row = row_of(r, i);
            for (uint64_t k = 0; engine_valid(v, row) && k < lists[row].length; k++)
                index[n++] = lists[row].offset + k;
        }
        items.index = index;
    }
    return items;
}

static struct rows array_items(struct body *b, const struct rows *r, uint64_t size)
{
    if (!r->index)
        return (struct rows){.from = r->from * size, .count = r->count * size};
    uint64_t *index = arena_alloc(&b->arrow->arena, r->count * size * sizeof(*index));
    for (uint64_t i = 0; i < r->count * size; i++)
        index[i] = r->index[i / size] * size + i % size;
    return (struct rows){.index = index, .count = r->count * size};
}

static void put_nested(struct body *b, const struct write_column *col, const struct engine_vector *v,
                       const struct rows *r)
{
    struct rows items = *r;

    (void)put_validity(b, v, r);
    if (col->field->type == ENGINE_LIST || col->field->type == ENGINE_MAP)
        items = put_offsets(b, v, r);
    if (col->field->type == ENGINE_ARRAY)
        items = array_items(b, r, col->field->array_size);
    if (col->field->type == ENGINE_MAP) { /* the entries: a struct, never null */
        put_node(b, items.count, 0);
        (void)put_buffer(b, 0);
    }
    for (uint32_t i = 0; i < col->children_count; i++)
        put_column(b, &col->children[i], &v->children[i], &items);
}

static void put_column(struct body *b, const struct write_column *col, const struct engine_vector *v,
                       const struct rows *r)
{
    switch (col->field->type) {
    case ENGINE_NULL: put_node(b, r->count, r->count); break;
    case ENGINE_BOOL: put_bools(b, v, r); break;
    case ENGINE_I8:
    case ENGINE_U8: put_fixed(b, v, r, 1); break;
    case ENGINE_I16:
    case ENGINE_U16: put_fixed(b, v, r, 2); break;
    case ENGINE_I32:
    case ENGINE_U32:
    case ENGINE_F32:
    case ENGINE_DATE: put_fixed(b, v, r, 4); break;
    case ENGINE_I128:
    case ENGINE_U128:
    case ENGINE_DECIMAL: put_decimals(b, col->field, v, r); break;
    case ENGINE_INTERVAL:
        if (col->show == GATE_SHOW_DURATION)
            put_durations(b, v, r);
        else
            put_intervals(b, v, r);
        break;
    case ENGINE_TEXT:
    case ENGINE_BLOB:
    case ENGINE_ENUM:
    case ENGINE_UUID: put_texts(b, col->field, v, r); break;
    case ENGINE_LIST:
    case ENGINE_ARRAY:
    case ENGINE_STRUCT:
    case ENGINE_MAP: put_nested(b, col, v, r); break;
    default: put_fixed(b, v, r, 8); /* 64-bit numbers, times, timestamps */
    }
}

/* Rows as one batch; *too_long, and nothing written: try with fewer. */
static MUST_CHECK enum err_code put_batch(struct writer *w, const struct engine_chunk *chunk, const struct rows *rows,
                                          struct buf *out, bool *too_long, struct err *err)
{
    struct write_arrow *a = w->arrow;
    const size_t before = out->len;

    put_metadata(out, buf_view(&a->batch));
    struct body b = {.arrow = a,
                     .out = out,
                     .metadata = before + 8,
                     .start = out->len,
                     .offset_max = rows->count > 1 ? w->arrow_batch_max : w->arrow_offset_max};
    for (uint32_t i = 0; i < w->columns_count && !b.too_long; i++) {
        put_column(&b, &w->columns[i], &chunk->columns[i], rows);
        if (b.fault)
            return err_set(err, ERR_INVALID, "column " SLICE_FMT " %s: cast it", SLICE_ARG(w->columns[i].name),
                           b.fault);
    }
    arena_reset(&a->arena);
    *too_long = b.too_long;
    if (b.too_long) {
        out->len = before;
        return ERR_OK;
    }
    ASSERT(b.node == a->nodes && b.buffer == a->buffers);
    le64_put(out->ptr + b.metadata + a->rows_at, rows->count);
    le64_put(out->ptr + b.metadata + a->body_at, out->len - b.start);
    return ERR_OK;
}

enum err_code write_arrow_rows(struct writer *w, const struct engine_chunk *chunk, uint64_t *row, struct buf *out,
                               struct err *err)
{
    struct write_arrow *a = w->arrow;
    struct rows rows = {.from = *row, .count = MIN(chunk->rows - *row, a->rows_max)};
    bool too_long = false;

    for (;;) {
        TRY(put_batch(w, chunk, &rows, out, &too_long, err));
        if (!too_long)
            break;
        if (rows.count == 1)
            return err_set(err, ERR_LIMIT,
                           "a row has more than 2 GiB in one column, which Arrow's offsets can not tell");
        a->rows_max = rows.count /= 2;
    }
    if (rows.count == a->rows_max && a->rows_max < ROWS_MAX) /* as many as were tried: rows may be shorter again */
        a->rows_max *= 2;
    *row += rows.count;
    return ERR_OK;
}
