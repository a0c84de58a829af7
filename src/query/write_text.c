/* write_text.c: values as text and as JSON, in the forms of contract 5.1: what DataFusion's Arrow writes and serde_json prints. */
#include "query/write_int.h"

#include <math.h>

#include "base/timetext.h"

void cursor_grow(struct cursor *c, size_t room)
{
    cursor_end(c);
    buf_reserve(c->buf, room);
    *c = cursor_of(c->buf);
}

/* ---- times */

static char *put(char *out, const char *text, size_t len)
{
    memcpy(out, text, len);
    return out + len;
}
#define PUT(out, text) put(out, text, sizeof(text) - 1)

static char *put_date(struct write_date *cache, int64_t days, char *out)
{
    if (cache->len == 0 || cache->days != days) {
        cache->days = days;
        cache->len = (uint32_t)(time_put_date(cache->text, days) - cache->text);
    }
    return put(out, cache->text, cache->len);
}

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

/* `unit`: ticks a second. The engine's infinities have no date. */
static char *put_timestamp(struct write_date *cache, int64_t v, int64_t unit, char *out)
{
    if (v == INT64_MAX)
        return PUT(out, "infinity");
    if (v == -INT64_MAX)
        return PUT(out, "-infinity");
    int64_t seconds = floor_div(v, unit), days = floor_div(seconds, 86400);
    out = put_date(cache, days, out);
    *out++ = 'T';
    return time_put_clock(out, seconds - days * 86400, (uint32_t)((v - seconds * unit) * (1000000000 / unit)));
}

static char *put_day(struct write_date *cache, int32_t v, char *out)
{
    if (v == INT32_MAX)
        return PUT(out, "infinity");
    if (v == -INT32_MAX)
        return PUT(out, "-infinity");
    return put_date(cache, v, out);
}

/* chrono's TimeDelta: "PT930.25S", "-PT0.5S", "P0D". */
static char *put_duration(const struct engine_interval *i, char *out)
{
    i128 us = (i128)i->days * 86400000000 + i->micros;
    u128 abs = us < 0 ? 0 - (u128)us : (u128)us;

    if (us == 0)
        return PUT(out, "P0D");
    if (us < 0)
        *out++ = '-';
    out = PUT(out, "PT");
    out = num_u128(out, abs / 1000000);
    uint32_t fraction = (uint32_t)(abs % 1000000);
    unsigned n = 6;
    if (fraction) {
        *out++ = '.';
        for (; fraction % 10 == 0; n--)
            fraction /= 10;
        out = num_digits(out, fraction, n);
    }
    *out++ = 'S';
    return out;
}

static char *put_part(char *out, const char *from, int64_t n, const char *unit, size_t unit_len)
{
    if (n == 0)
        return out;
    if (out != from)
        *out++ = ' ';
    return put(num_i64(out, n), unit, unit_len);
}
#define PUT_PART(out, from, n, unit) put_part(out, from, n, unit, sizeof(unit) - 1)

/* Arrow's display of MonthDayNano: "1 mons 3 days 4 hours 5 mins 6.500000000 secs", parts that are zero left out. */
static char *put_interval(const struct engine_interval *i, char *out)
{
    const char *from = out;
    int64_t seconds = i->micros / 1000000, micros = i->micros % 1000000;

    out = PUT_PART(out, from, i->months, " mons");
    out = PUT_PART(out, from, i->days, " days");
    out = PUT_PART(out, from, seconds / 3600, " hours");
    out = PUT_PART(out, from, seconds / 60 % 60, " mins");
    seconds %= 60;
    if (seconds == 0 && micros == 0)
        return out == from ? PUT(out, "0 secs") : out;
    if (out != from)
        *out++ = ' ';
    if (seconds < 0 || micros < 0)
        *out++ = '-';
    out = num_i64(out, llabs(seconds));
    *out++ = '.';
    out = num_digits(out, (uint32_t)(llabs(micros) * 1000), 9);
    return PUT(out, " secs");
}

/* ---- other scalars */

i128 write_decimal(const struct engine_field *f, const void *data, uint64_t row)
{
    switch (f->decimal_bytes) {
    case 2: return ((const int16_t *)data)[row];
    case 4: return ((const int32_t *)data)[row];
    case 8: return ((const int64_t *)data)[row];
    default: return ((const i128 *)data)[row];
    }
}

static char *put_decimal(i128 v, unsigned scale, char *out)
{
    char digits[NUM_I128_MAX];

    if (v < 0)
        *out++ = '-';
    size_t n = (size_t)(num_u128(digits, v < 0 ? 0 - (u128)v : (u128)v) - digits);
    if (scale == 0)
        return put(out, digits, n);
    if (n <= scale) { /* 0.0012 */
        out = PUT(out, "0.");
        memset(out, '0', scale - n);
        return put(out + scale - n, digits, n);
    }
    out = put(out, digits, n - scale);
    *out++ = '.';
    return put(out, digits + n - scale, scale);
}

/* The engine keeps a UUID as a hugeint with its top bit flipped, so that it sorts. */
void write_uuid(char out[36], const void *data, uint64_t row)
{
    static const char hex[] = "0123456789abcdef";
    u128 v = ((const u128 *)data)[row] ^ (u128)1 << 127;

    for (int i = 0; i < 36; i++) {
        if (i == 8 || i == 13 || i == 18 || i == 23) {
            out[i] = '-';
            continue;
        }
        out[i] = hex[(unsigned)(v >> 124)];
        v <<= 4;
    }
}

slice write_enum(const struct engine_field *f, const struct engine_vector *v, uint64_t row)
{
    uint32_t i = f->enum_bytes == 1   ? ((const uint8_t *)v->data)[row]
                 : f->enum_bytes == 2 ? ((const uint16_t *)v->data)[row]
                                      : ((const uint32_t *)v->data)[row];
    return i < f->enum_count ? slice_str(f->enum_names[i]) : (slice){0};
}

static char *put_f64(char *out, double v)
{
    return isfinite(v) ? num_f64(out, v) : PUT(out, "null");
}

#define AT(type) ((const type *)v->data)[row]
char *write_scalar(struct write_date *date, const struct write_column *col, const struct engine_vector *v, uint64_t row,
                   char *out)
{
    switch (col->field->type) {
    case ENGINE_BOOL: return AT(uint8_t) ? PUT(out, "true") : PUT(out, "false");
    case ENGINE_I8: return num_i64(out, AT(int8_t));
    case ENGINE_I16: return num_i64(out, AT(int16_t));
    case ENGINE_I32: return num_i64(out, AT(int32_t));
    case ENGINE_I64: return num_i64(out, AT(int64_t));
    case ENGINE_I128: return num_i128(out, AT(i128));
    case ENGINE_U8: return num_u64(out, AT(uint8_t));
    case ENGINE_U16: return num_u64(out, AT(uint16_t));
    case ENGINE_U32: return num_u64(out, AT(uint32_t));
    case ENGINE_U64: return num_u64(out, AT(uint64_t));
    case ENGINE_U128: return num_u128(out, AT(u128));
    case ENGINE_F32: return isfinite(AT(float)) ? num_f32(out, AT(float)) : PUT(out, "null");
    case ENGINE_F64: return put_f64(out, AT(double));
    case ENGINE_DECIMAL: return put_decimal(write_decimal(col->field, v->data, row), col->field->decimal_scale, out);
    case ENGINE_DATE: return put_day(date, AT(int32_t), out);
    case ENGINE_TIME: return time_put_clock(out, AT(int64_t) / 1000000, (uint32_t)(AT(int64_t) % 1000000) * 1000);
    case ENGINE_TIMESTAMP: return put_timestamp(date, AT(int64_t), 1000000, out);
    case ENGINE_TIMESTAMP_S: return put_timestamp(date, AT(int64_t), 1, out);
    case ENGINE_TIMESTAMP_MS: return put_timestamp(date, AT(int64_t), 1000, out);
    case ENGINE_TIMESTAMP_NS: return put_timestamp(date, AT(int64_t), 1000000000, out);
    case ENGINE_INTERVAL:
        return col->show == GATE_SHOW_DURATION ? put_duration(&AT(struct engine_interval), out)
                                               : put_interval(&AT(struct engine_interval), out);
    case ENGINE_UUID: write_uuid(out, v->data, row); return out + 36;
    default: ASSERT(false); /* writer_new() lets no other type in */
    }
    return out;
}

/* ---- text */

static const char hex_digits[] = "0123456789abcdef";

void write_hex(struct cursor *c, slice s)
{
    cursor_room(c, 2 * s.len);
    for (size_t i = 0; i < s.len; i++) {
        cursor_byte(c, (uint8_t)hex_digits[s.ptr[i] >> 4]);
        cursor_byte(c, (uint8_t)hex_digits[s.ptr[i] & 15]);
    }
}

/* Eight bytes at a time: high bits where a byte is below 0x20, a quote or a backslash. Exact up to the first hit (a borrow can only
 * spoil what comes after one). */
static inline uint64_t escapes_in(uint64_t x)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    uint64_t quote = x ^ ones * '"', slash = x ^ ones * '\\';
    return (((x - ones * 0x20) & ~x) | ((quote - ones) & ~quote) | ((slash - ones) & ~slash)) & ones * 0x80;
}

static void put_escape(struct cursor *c, uint8_t byte)
{
    cursor_byte(c, '\\');
    switch (byte) {
    case '"':
    case '\\': cursor_byte(c, byte); break;
    case '\n': cursor_byte(c, 'n'); break;
    case '\r': cursor_byte(c, 'r'); break;
    case '\t': cursor_byte(c, 't'); break;
    case '\b': cursor_byte(c, 'b'); break;
    case '\f': cursor_byte(c, 'f'); break;
    default:
        cursor_put(c, slice_lit("u00"));
        cursor_byte(c, (uint8_t)hex_digits[byte >> 4]);
        cursor_byte(c, (uint8_t)hex_digits[byte & 15]);
    }
}

/* The last n < 8 bytes of a text of `len` that ends at `end`, with spaces behind them: no byte outside of the text is read. */
static inline uint64_t tail_of(const uint8_t *end, size_t n, size_t len)
{
    uint64_t x = 0;

    if (len >= 8) {
        memcpy(&x, end - 8, 8);
        x >>= 8 * (8 - n);
    } else if (n >= 4) {
        uint32_t low, high;
        memcpy(&low, end - n, 4);
        memcpy(&high, end - 4, 4);
        x = low | (uint64_t)high << 8 * (n - 4);
    } else {
        for (size_t i = 0; i < n; i++)
            x |= (uint64_t)end[(ptrdiff_t)i - (ptrdiff_t)n] << 8 * i;
    }
    return x | UINT64_C(0x2020202020202020) << 8 * n;
}

void write_json_text(struct cursor *c, slice s)
{
    const uint8_t *p = s.ptr, *end = s.ptr + s.len;
    uint64_t x, hits;

    cursor_room(c, s.len + 2 + 8); /* eight bytes are stored at a time, and what is too much is written over */
    cursor_byte(c, '"');
    for (;;) {
        size_t n = (size_t)(end - p);
        if (n >= 8) {
            memcpy(&x, p, 8);
            n = 8;
        } else if (n > 0) {
            x = tail_of(end, n, s.len);
        } else {
            break;
        }
        memcpy(c->p, &x, 8);
        hits = escapes_in(x);
        if (!hits) {
            p += n;
            c->p += n;
            continue;
        }
        n = (unsigned)__builtin_ctzll(hits) / 8;
        c->p += n;
        cursor_room(c, 6 + (size_t)(end - p) + 2 + 8);
        put_escape(c, p[n]);
        p += n + 1;
    }
    cursor_byte(c, '"');
}

/* ---- JSON values */

static void json_list(struct writer *w, struct cursor *c, const struct write_column *col, const struct engine_vector *v,
                      uint64_t from, uint64_t n)
{
    cursor_room(c, 1);
    cursor_byte(c, '[');
    for (uint64_t i = 0; i < n; i++) {
        if (i) {
            cursor_room(c, 1);
            cursor_byte(c, ',');
        }
        write_json_value(w, c, col->children, v->children, from + i);
    }
    cursor_room(c, 1);
    cursor_byte(c, ']');
}

/* Members that are null are left out, with sendNull too: as the original, which adds only columns. */
static void json_struct(struct writer *w, struct cursor *c, const struct write_column *col,
                        const struct engine_vector *v, uint64_t row)
{
    bool any = false;

    for (uint32_t i = 0; i < col->children_count; i++) {
        if (!engine_valid(&v->children[i], row))
            continue;
        cursor_key(c, &col->children[i], any ? ',' : '{');
        any = true;
        write_json_value(w, c, &col->children[i], &v->children[i], row);
    }
    cursor_room(c, 2);
    if (!any)
        cursor_byte(c, '{');
    cursor_byte(c, '}');
}

/* A key is text in JSON, whatever it was. */
static void json_map_key(struct writer *w, struct cursor *c, const struct write_column *col,
                         const struct engine_vector *v, uint64_t row)
{
    struct buf text = BUF_INIT;
    struct cursor key = cursor_of(&text);

    if (col->field->type == ENGINE_TEXT) {
        write_json_value(w, c, col, v, row);
        return;
    }
    write_json_value(w, &key, col, v, row);
    cursor_end(&key);
    if (text.ptr[0] == '"') {
        cursor_room(c, text.len);
        cursor_put(c, buf_view(&text));
    } else {
        write_json_text(c, buf_view(&text));
    }
    buf_done(&text);
}

static void json_map(struct writer *w, struct cursor *c, const struct write_column *col, const struct engine_vector *v,
                     uint64_t from, uint64_t n)
{
    bool any = false;

    cursor_room(c, 1);
    cursor_byte(c, '{');
    for (uint64_t i = from; i < from + n; i++) {
        if (!engine_valid(&v->children[1], i))
            continue;
        cursor_room(c, 1);
        if (any)
            cursor_byte(c, ',');
        any = true;
        json_map_key(w, c, &col->children[0], &v->children[0], i);
        cursor_room(c, 1);
        cursor_byte(c, ':');
        write_json_value(w, c, &col->children[1], &v->children[1], i);
    }
    cursor_room(c, 1);
    cursor_byte(c, '}');
}

static void json_blob(struct cursor *c, slice s)
{
    cursor_room(c, 1);
    cursor_byte(c, '"');
    write_hex(c, s);
    cursor_room(c, 1);
    cursor_byte(c, '"');
}

static inline void json_scalar(struct writer *w, struct cursor *c, const struct write_column *col,
                               const struct engine_vector *v, uint64_t row, bool quoted)
{
    cursor_room(c, WRITE_SCALAR_MAX + 2);
    if (quoted)
        cursor_byte(c, '"');
    c->p = (uint8_t *)write_scalar(&w->date, col, v, row, (char *)c->p);
    if (quoted)
        cursor_byte(c, '"');
}

void write_json_value(struct writer *w, struct cursor *c, const struct write_column *col, const struct engine_vector *v,
                      uint64_t row)
{
    if (!engine_valid(v, row) || col->field->type == ENGINE_NULL) {
        cursor_room(c, 4);
        cursor_put(c, slice_lit("null"));
        return;
    }
    switch (col->field->type) {
    case ENGINE_TEXT: write_json_text(c, text_slice(&AT(struct text))); break;
    case ENGINE_BLOB: json_blob(c, text_slice(&AT(struct text))); break;
    case ENGINE_ENUM: write_json_text(c, write_enum(col->field, v, row)); break;
    case ENGINE_LIST:
        json_list(w, c, col, v, AT(struct engine_list_entry).offset, AT(struct engine_list_entry).length);
        break;
    case ENGINE_ARRAY: json_list(w, c, col, v, row * col->field->array_size, col->field->array_size); break;
    case ENGINE_STRUCT: json_struct(w, c, col, v, row); break;
    case ENGINE_MAP:
        json_map(w, c, col, v, AT(struct engine_list_entry).offset, AT(struct engine_list_entry).length);
        break;
    case ENGINE_DATE:
    case ENGINE_TIME:
    case ENGINE_TIMESTAMP:
    case ENGINE_TIMESTAMP_S:
    case ENGINE_TIMESTAMP_MS:
    case ENGINE_TIMESTAMP_NS:
    case ENGINE_INTERVAL:
    case ENGINE_UUID: json_scalar(w, c, col, v, row, true); break;
    default: json_scalar(w, c, col, v, row, false);
    }
}
