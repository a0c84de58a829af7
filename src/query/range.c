/* range.c: startTime and endTime of contract 5.2: "10m" and "now", or two instants of RFC 3339. Bounds are exact, not cut to the minute. */
#include "base/timetext.h"
#include "query/query_int.h"

#include "base/banned.h"

/* The units of the humantime crate, as clients use them. */
static const struct {
    const char *names[7];
    int64_t us; /* 0: below a microsecond */
} units[] = {
    {{"nanos", "nsec", "ns"}, 0},
    {{"usec", "us", "\xc2\xb5s"}, 1},
    {{"millis", "msec", "ms"}, 1000},
    {{"seconds", "second", "secs", "sec", "s"}, 1000000},
    {{"minutes", "minute", "mins", "min", "m"}, INT64_C(60000000)},
    {{"hours", "hour", "hrs", "hr", "h"}, INT64_C(3600000000)},
    {{"days", "day", "d"}, INT64_C(86400000000)},
    {{"weeks", "week", "wks", "wk", "w"}, INT64_C(604800000000)},
    {{"months", "month", "M"}, INT64_C(2630016000000)},             /* 30.44 days */
    {{"years", "year", "yrs", "yr", "y"}, INT64_C(31557600000000)}, /* 365.25 days */
};

static bool unit_find(slice name, int64_t *us, bool *nanos)
{
    for (size_t i = 0; i < ARRAY_LEN(units); i++)
        for (size_t k = 0; k < ARRAY_LEN(units[i].names) && units[i].names[k]; k++)
            if (slice_eq(name, slice_str(units[i].names[k]))) {
                *nanos = units[i].us == 0;
                *us = units[i].us;
                return true;
            }
    return false;
}

static slice take_while(slice *s, bool (*is)(uint8_t c))
{
    slice head = {s->ptr, 0};

    while (head.len < s->len && is(s->ptr[head.len]))
        head.len++;
    *s = slice_from(*s, head.len);
    return head;
}

static bool is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 0x80;
}

/* One "30 min". */
static bool part(slice *s, int64_t *us)
{
    uint64_t n;
    int64_t unit, product;
    bool nanos;
    slice digits = take_while(s, is_digit);

    (void)take_while(s, is_space);
    slice name = take_while(s, is_letter);
    if (!slice_u64(digits, &n) || n > INT64_MAX || !unit_find(name, &unit, &nanos))
        return false;
    if (nanos)
        product = (int64_t)(n / 1000);
    else if (__builtin_mul_overflow((int64_t)n, unit, &product))
        return false;
    return !__builtin_add_overflow(*us, product, us);
}

bool range_duration(slice text, int64_t *us)
{
    slice s = slice_trim(text);

    *us = 0;
    if (slice_eq(s, slice_lit("0")))
        return true;
    if (s.len == 0)
        return false;
    while (s.len) {
        if (!part(&s, us))
            return false;
        (void)take_while(&s, is_space);
    }
    return true;
}

static enum err_code bad(struct err *err, const char *why)
{
    return err_set(err, ERR_INVALID, "Error while parsing provided time range: %s", why);
}

enum err_code query_range(slice start, slice end, int64_t now_us, int64_t *from_us, int64_t *to_us, struct err *err)
{
    int64_t back;

    if (slice_eq(end, slice_lit("now"))) {
        if (!range_duration(start, &back))
            return bad(err, "Parsing humantime: with an end time of 'now' the start time is a duration such as 10m");
        if (back > now_us + INT64_C(62135596800000000)) /* before the year 1 */
            return bad(err, "the duration reaches beyond the calendar");
        *from_us = now_us - back;
        *to_us = now_us;
        return ERR_OK;
    }
    if (!time_parse_rfc3339(start, true, from_us))
        return bad(
            err,
            "Error parsing time: the start time must be RFC 3339 with a zone, or a duration if the end time is 'now'");
    if (!time_parse_rfc3339(end, true, to_us))
        return bad(err, "Error parsing time: the end time must be RFC 3339 with a zone, or 'now'");
    if (*from_us > *to_us)
        return bad(err, "Start time cannot be greater than the end time");
    return ERR_OK;
}
