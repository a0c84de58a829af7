/* dialect_type.c: names of types: SQL's in casts, Arrow's in arrow_cast and arrow_typeof (as Arrow 58 prints them), and the texts of
 * intervals as arrow's parser reads them ('1m' is a minute). */
#include <math.h>
#include <stdio.h>

#include "query/dialect_ast.h"

#include "base/banned.h"

static const struct {
    const char *word;
    struct dtype type;
} sql_types[] = {
    {"varchar", {.kind = D_UTF8}},
    {"text", {.kind = D_UTF8}},
    {"string", {.kind = D_UTF8}},
    {"char", {.kind = D_UTF8}},
    {"character", {.kind = D_UTF8}},
    {"nvarchar", {.kind = D_UTF8}},
    {"bpchar", {.kind = D_UTF8}},
    {"int", {.kind = D_INT, .bits = 32}},
    {"integer", {.kind = D_INT, .bits = 32}},
    {"int4", {.kind = D_INT, .bits = 32}},
    {"bigint", {.kind = D_INT, .bits = 64}},
    {"int8", {.kind = D_INT, .bits = 64}},
    {"int64", {.kind = D_INT, .bits = 64}},
    {"smallint", {.kind = D_INT, .bits = 16}},
    {"int2", {.kind = D_INT, .bits = 16}},
    {"tinyint", {.kind = D_INT, .bits = 8}},
    {"float", {.kind = D_FLOAT, .bits = 32}},
    {"real", {.kind = D_FLOAT, .bits = 32}},
    {"float4", {.kind = D_FLOAT, .bits = 32}},
    {"double", {.kind = D_FLOAT, .bits = 64}},
    {"float8", {.kind = D_FLOAT, .bits = 64}},
    {"float64", {.kind = D_FLOAT, .bits = 64}},
    {"boolean", {.kind = D_BOOL}},
    {"bool", {.kind = D_BOOL}},
    {"date", {.kind = D_DATE, .bits = 32}},
    {"time", {.kind = D_TIME, .unit = U_NS, .bits = 64}},
    {"timestamp", {.kind = D_TS, .unit = U_NS}},
    {"datetime", {.kind = D_TS, .unit = U_NS}},
    {"timestamptz", {.kind = D_TS, .unit = U_NS, .utc = true}},
    {"interval", {.kind = D_INTERVAL}},
    {"decimal", {.kind = D_DECIMAL, .precision = 38, .scale = 10}},
    {"numeric", {.kind = D_DECIMAL, .precision = 38, .scale = 10}},
    {"dec", {.kind = D_DECIMAL, .precision = 38, .scale = 10}},
    {"bytea", {.kind = D_BINARY}},
};

static bool small_number(struct parser *p, unsigned *out)
{
    struct token *t = parse_peek(p, 0);
    uint64_t v;
    if (t->kind != TK_NUMBER || !slice_u64(t->text, &v) || v > 100000000)
        return false;
    *out = (unsigned)v;
    p->at++;
    return true;
}

static enum err_code type_arguments(struct parser *p, struct dtype *t) /* after "(" */
{
    unsigned a, b = 0;
    if (!small_number(p, &a) || (parse_op(p, ",") && !small_number(p, &b)))
        return parse_expected(p, "literal int");
    if (t->kind == D_DECIMAL) {
        if (a < 1 || a > 38 || b > a) /* DuckDB has no wider ones */
            return err_set(p->err, ERR_INVALID,
                           "Datafusion Error: Error during planning: Decimal(precision = %u, scale = %u) should "
                           "satisfy `0 < precision <= 38`, and `scale <= precision`.",
                           a, b);
        t->precision = (uint8_t)a;
        t->scale = (uint8_t)b;
    } else if (t->kind == D_TS) {
        if (a != 0 && a != 3 && a != 6 && a != 9)
            return err_set(p->err, ERR_INVALID,
                           "Datafusion Error: This feature is not implemented: Unsupported SQL type TIMESTAMP(%u)", a);
        t->unit = a == 0 ? U_S : a == 3 ? U_MS : a == 6 ? U_US : U_NS;
    } else if (t->kind != D_UTF8 && t->kind != D_TIME && t->kind != D_FLOAT && t->kind != D_INT) {
        return parse_expected(p, "no length of this type");
    }
    return parse_need_op(p, ")");
}

enum err_code parse_type(struct parser *p, struct dtype *out)
{
    struct token *t = parse_peek(p, 0);
    bool found = false;

    for (size_t i = 0; i < ARRAY_LEN(sql_types) && t->kind == TK_WORD && !found; i++)
        if (slice_is(t->text, sql_types[i].word)) {
            *out = sql_types[i].type;
            found = true;
        }
    if (!found)
        return parse_expected(p, "a data type name");
    p->at++;
    if (slice_is(t->text, "double"))
        (void)parse_word(p, "precision");
    if (slice_is(t->text, "character"))
        (void)parse_word(p, "varying");
    if (parse_op(p, "("))
        TRY(type_arguments(p, out));
    if (out->kind == D_INT && parse_word(p, "unsigned"))
        out->kind = D_UINT;
    if ((out->kind == D_TS || out->kind == D_TIME) && (parse_is_word(p, 0, "with") || parse_is_word(p, 0, "without")) &&
        parse_is_word(p, 1, "time")) {
        out->utc = parse_is_word(p, 0, "with") && out->kind == D_TS;
        p->at += 2;
        TRY(parse_need_word(p, "zone"));
    }
    while (parse_op(p, "[")) {
        TRY(parse_need_op(p, "]"));
        struct dtype *item = arena_zalloc(p->arena, sizeof(*item));
        *item = *out;
        *out = (struct dtype){.kind = D_LIST, .item = item};
    }
    return ERR_OK;
}

/* ---- intervals */

static const struct {
    const char *names; /* separated and surrounded by blanks */
    int32_t months;
    double days;
    double nanos;
} interval_units[] = {
    {" c cent cents century centuries ", 1200, 0, 0},
    {" dec decs decade decades ", 120, 0, 0},
    {" y yr yrs year years ", 12, 0, 0},
    {" mon mons month months ", 1, 0, 0},
    {" w week weeks ", 0, 7, 0},
    {" d day days ", 0, 1, 0},
    {" h hr hrs hour hours ", 0, 0, 3600e9},
    {" m min mins minute minutes ", 0, 0, 60e9},
    {" s sec secs second seconds ", 0, 0, 1e9},
    {" ms msec msecs msecond mseconds millisecond milliseconds ", 0, 0, 1e6},
    {" us usec usecs usecond useconds microsecond microseconds ", 0, 0, 1e3},
    {" ns nanosecond nanoseconds ", 0, 0, 1},
};

static bool add_unit(slice unit, double value, double *months, double *days, double *nanos)
{
    char word[24];
    if (unit.len + 3 > sizeof(word) || unit.len == 0)
        return false;
    word[0] = ' ';
    for (size_t i = 0; i < unit.len; i++) {
        uint8_t c = unit.ptr[i];
        if (c >= 'A' && c <= 'Z')
            c = (uint8_t)(c + 32);
        if (c < 'a' || c > 'z')
            return false;
        word[1 + i] = (char)c;
    }
    word[1 + unit.len] = ' ';
    word[2 + unit.len] = 0;
    for (size_t i = 0; i < ARRAY_LEN(interval_units); i++)
        if (strstr(interval_units[i].names, word)) {
            double m = value * interval_units[i].months, d = value * interval_units[i].days;
            *months += trunc(m);
            *days += trunc(d);
            *nanos += interval_units[i].nanos * value + (d - trunc(d)) * 86400e9;
            if (m != trunc(m)) /* arrow: a part of a month is of 30 days */
                *days += trunc((m - trunc(m)) * 30);
            return true;
        }
    return false;
}

static bool clock_text(slice s, bool minus, double *nanos) /* 12:30[:45.5] */
{
    unsigned h = 0, m = 0;
    double sec = 0;
    char text[40];
    int used = 0;
    if (s.len >= sizeof(text))
        return false;
    memcpy(text, s.ptr, s.len);
    text[s.len] = 0;
    if (sscanf(text, "%5u:%2u%n", &h, &m, &used) != 2 || m > 59)
        return false;
    if (text[used] == ':') {
        int more = 0;
        if (sscanf(text + used + 1, "%12lf%n", &sec, &more) != 1 || !(sec >= 0 && sec < 60))
            return false;
        used += more + 1;
    }
    if (text[used])
        return false;
    *nanos += (minus ? -1 : 1) * ((h * 3600.0 + m * 60.0) * 1e9 + sec * 1e9);
    return true;
}

bool interval_parse(slice text, const char *unit, int32_t *months, int32_t *days, int64_t *nanos)
{
    double mo = 0, d = 0, n = 0;
    size_t i = 0;
    bool any = false;

    while (i < text.len) {
        if (text.ptr[i] == ' ') {
            i++;
            continue;
        }
        bool minus = text.ptr[i] == '-';
        i += minus || text.ptr[i] == '+';
        size_t start = i;
        while (i < text.len && ((text.ptr[i] >= '0' && text.ptr[i] <= '9') || text.ptr[i] == '.' || text.ptr[i] == ':'))
            i++;
        slice number = slice_of(text.ptr + start, i - start);
        if (number.len == 0 || number.len > 30)
            return false;
        any = true;
        if (memchr(number.ptr, ':', number.len)) {
            if (!clock_text(number, minus, &n))
                return false;
            continue;
        }
        char copy[32], *end;
        memcpy(copy, number.ptr, number.len);
        copy[number.len] = 0;
        double value = strtod(copy, &end);
        if (*end)
            return false;
        while (i < text.len && text.ptr[i] == ' ')
            i++;
        start = i;
        while (i < text.len && ((text.ptr[i] | 32) >= 'a' && (text.ptr[i] | 32) <= 'z'))
            i++;
        slice word = slice_of(text.ptr + start, i - start);
        if (word.len == 0)
            word = slice_str(unit[0] ? unit : "second");
        if (!add_unit(word, minus ? -value : value, &mo, &d, &n))
            return false;
    }
    if (!any || fabs(mo) > 1200e3 || fabs(d) > 3.6e8 || fabs(n) > 9.2e18)
        return false;
    *months = (int32_t)mo;
    *days = (int32_t)d;
    *nanos = (int64_t)llround(n);
    return true;
}

/* ---- Arrow's names */

static const char *const units[] = {"s", "ms", "us", "ns"}, *const long_units[] = {"Second", "Millisecond",
                                                                                   "Microsecond", "Nanosecond"};

void arrow_type_print(const struct dtype *t, struct buf *out)
{
    switch ((enum dkind)t->kind) {
    case D_NULL: buf_str(out, "Null"); break;
    case D_BOOL: buf_str(out, "Boolean"); break;
    case D_INT: buf_fmt(out, "Int%u", t->bits); break;
    case D_UINT: buf_fmt(out, "UInt%u", t->bits); break;
    case D_FLOAT: buf_fmt(out, "Float%u", t->bits); break;
    case D_DECIMAL: buf_fmt(out, "Decimal128(%u, %u)", t->precision, t->scale); break;
    case D_UTF8: buf_str(out, "Utf8"); break;
    case D_BINARY: buf_str(out, "Binary"); break;
    case D_TS: buf_fmt(out, t->utc ? "Timestamp(%s, \"+00:00\")" : "Timestamp(%s)", units[t->unit]); break;
    case D_DATE: buf_str(out, "Date32"); break;
    case D_TIME: buf_fmt(out, "Time64(%s)", units[t->unit]); break;
    case D_INTERVAL: buf_str(out, "Interval(MonthDayNano)"); break;
    case D_DURATION: buf_fmt(out, "Duration(%s)", units[t->unit]); break;
    case D_LIST:
        buf_str(out, "List(");
        if (t->item)
            arrow_type_print(t->item, out);
        else
            buf_str(out, "Null");
        buf_byte(out, ')');
        break;
    case D_STRUCT: buf_str(out, "Struct"); break;
    case D_MAP: buf_str(out, "Map"); break;
    case D_UNKNOWN: buf_str(out, "Unknown"); break;
    }
}

static const struct {
    const char *name;
    struct dtype type;
} arrow_types[] = {
    {"Utf8", {.kind = D_UTF8}},
    {"LargeUtf8", {.kind = D_UTF8}},
    {"Utf8View", {.kind = D_UTF8}},
    {"Boolean", {.kind = D_BOOL}},
    {"Int8", {.kind = D_INT, .bits = 8}},
    {"Int16", {.kind = D_INT, .bits = 16}},
    {"Int32", {.kind = D_INT, .bits = 32}},
    {"Int64", {.kind = D_INT, .bits = 64}},
    {"UInt8", {.kind = D_UINT, .bits = 8}},
    {"UInt16", {.kind = D_UINT, .bits = 16}},
    {"UInt32", {.kind = D_UINT, .bits = 32}},
    {"UInt64", {.kind = D_UINT, .bits = 64}},
    {"Float32", {.kind = D_FLOAT, .bits = 32}},
    {"Float64", {.kind = D_FLOAT, .bits = 64}},
    {"Date32", {.kind = D_DATE, .bits = 32}},
    {"Binary", {.kind = D_BINARY}},
    {"Interval(MonthDayNano)", {.kind = D_INTERVAL}},
    {"Time64(Nanosecond)", {.kind = D_TIME, .unit = U_NS, .bits = 64}},
    {"Time64(ns)", {.kind = D_TIME, .unit = U_NS, .bits = 64}},
};

bool arrow_type_parse(slice text, struct arena *a, struct dtype *out)
{
    char flat[80];
    size_t n = 0;

    for (size_t i = 0; i < text.len; i++) /* blanks do not count */
        if (text.ptr[i] != ' ') {
            if (n + 1 >= sizeof(flat))
                return false;
            flat[n++] = (char)text.ptr[i];
        }
    flat[n] = 0;
    for (size_t i = 0; i < ARRAY_LEN(arrow_types); i++)
        if (!strcmp(flat, arrow_types[i].name)) {
            *out = arrow_types[i].type;
            return true;
        }
    for (unsigned u = 0; u < 4; u++)
        for (unsigned full = 0; full < 2; full++) {
            char form[80];
            const char *unit = full ? long_units[u] : units[u];
            static const char *const tails[] = {")",         ",None)",      ",Some(\"UTC\"))", ",Some(\"+00:00\"))",
                                                ",\"UTC\")", ",\"+00:00\")"};
            for (size_t k = 0; k < ARRAY_LEN(tails); k++) {
                (void)snprintf(form, sizeof(form), "Timestamp(%s%s", unit, tails[k]);
                if (!strcmp(flat, form)) {
                    *out = (struct dtype){.kind = D_TS, .unit = (uint8_t)u, .utc = k > 1};
                    return true;
                }
            }
            (void)snprintf(form, sizeof(form), "Duration(%s)", unit);
            if (!strcmp(flat, form)) {
                *out = (struct dtype){.kind = D_DURATION, .unit = (uint8_t)u};
                return true;
            }
        }
    unsigned p, s;
    int used = 0;
    if ((sscanf(flat, "Decimal128(%3u,%3u)%n", &p, &s, &used) == 2 ||
         sscanf(flat, "Decimal(%3u,%3u)%n", &p, &s, &used) == 2) &&
        used == (int)n && p >= 1 && p <= 38 && s <= p) {
        *out = (struct dtype){.kind = D_DECIMAL, .precision = (uint8_t)p, .scale = (uint8_t)s};
        return true;
    }
    if (n > 6 && !memcmp(flat, "List(", 5) && flat[n - 1] == ')') {
        struct dtype *item = arena_zalloc(a, sizeof(*item));
        *out = (struct dtype){.kind = D_LIST, .item = item};
        return arrow_type_parse(slice_of(flat + 5, n - 6), a, item);
    }
    return false;
}
