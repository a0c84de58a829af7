#include "base/timetext.h"

#include "base/numtext.h"

#define US_PER_DAY INT64_C(86400000000)

int64_t civil_days(int64_t y, int m, int d)
{
    y -= m <= 2;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t yoe = y - era * 400;
    int64_t doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    int64_t doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    return era * 146097 + doe - 719468;
}

static struct civil civil_of_days(int64_t days)
{
    struct civil c = {0};
    int64_t z = days + 719468, era = (z >= 0 ? z : z - 146096) / 146097, doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    c.day = (int)(doy - (153 * mp + 2) / 5 + 1);
    c.month = (int)(mp < 10 ? mp + 3 : mp - 9);
    c.year = yoe + era * 400 + (c.month <= 2);
    return c;
}

struct civil civil_of(int64_t us)
{
    int64_t days = us / US_PER_DAY, rest = us % US_PER_DAY;

    if (rest < 0) {
        rest += US_PER_DAY;
        days--;
    }
    struct civil c = civil_of_days(days);
    c.micro = (int)(rest % 1000000);
    rest /= 1000000;
    c.second = (int)(rest % 60);
    c.minute = (int)(rest / 60 % 60);
    c.hour = (int)(rest / 3600);
    return c;
}

int64_t civil_us(const struct civil *c)
{
    int64_t s = civil_days(c->year, c->month, c->day) * 86400 + c->hour * 3600 + c->minute * 60 + c->second;
    return s * 1000000 + c->micro;
}

static bool digits(slice *s, size_t n, int *out)
{
    int v = 0;

    if (s->len < n)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (s->ptr[i] < '0' || s->ptr[i] > '9')
            return false;
        v = v * 10 + (s->ptr[i] - '0');
    }
    *s = slice_from(*s, n);
    *out = v;
    return true;
}

static bool literal(slice *s, char c)
{
    if (s->len == 0 || s->ptr[0] != (uint8_t)c)
        return false;
    *s = slice_from(*s, 1);
    return true;
}

static int month_days(int64_t y, int m)
{
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return m == 2 && (y % 4 == 0 && (y % 100 != 0 || y % 400 == 0)) ? 29 : days[m - 1];
}

static bool civil_valid(const struct civil *c)
{
    return c->month >= 1 && c->month <= 12 && c->day >= 1 && c->day <= month_days(c->year, c->month) && c->hour <= 23 &&
           c->minute <= 59 && c->second <= 60;
}

static bool parse_ymd(slice *s, struct civil *c)
{
    int y;
    if (!digits(s, 4, &y) || !literal(s, '-') || !digits(s, 2, &c->month) || !literal(s, '-') || !digits(s, 2, &c->day))
        return false;
    c->year = y;
    return true;
}

static bool parse_fraction(slice *s, int *micro)
{
    int scale = 100000, v = 0;
    size_t n = 0;

    for (; n < s->len && s->ptr[n] >= '0' && s->ptr[n] <= '9'; n++) {
        v += (s->ptr[n] - '0') * scale;
        scale /= 10;
    }
    *s = slice_from(*s, n);
    *micro = v;
    return n > 0;
}

/* "Z", "z", "+hh:mm", "-hh:mm", or without the colon as RFC 2822 has it; offset in minutes. */
static bool parse_zone(slice *s, bool colon, int *offset_min)
{
    int h, m, sign;

    *offset_min = 0;
    if (literal(s, 'Z') || literal(s, 'z'))
        return true;
    if (literal(s, '+'))
        sign = 1;
    else if (literal(s, '-'))
        sign = -1;
    else
        return false;
    if (!digits(s, 2, &h))
        return false;
    if (literal(s, ':') != colon)
        return false;
    if (!digits(s, 2, &m) || h > 23 || m > 59)
        return false;
    *offset_min = sign * (h * 60 + m);
    return true;
}

bool time_parse_rfc3339(slice s, bool zone_required, int64_t *us)
{
    struct civil c = {0};
    int offset = 0;

    if (!parse_ymd(&s, &c))
        return false;
    if (!literal(&s, 'T') && !literal(&s, 't') && !literal(&s, ' '))
        return false;
    if (!digits(&s, 2, &c.hour) || !literal(&s, ':') || !digits(&s, 2, &c.minute) || !literal(&s, ':') ||
        !digits(&s, 2, &c.second))
        return false;
    if (literal(&s, '.') && !parse_fraction(&s, &c.micro))
        return false;
    if (s.len == 0 ? zone_required : !parse_zone(&s, true, &offset))
        return false;
    if (s.len != 0 || !civil_valid(&c))
        return false;
    *us = civil_us(&c) - (int64_t)offset * 60000000;
    return true;
}

static void skip_spaces(slice *s)
{
    while (s->len && (s->ptr[0] == ' ' || s->ptr[0] == '\t'))
        *s = slice_from(*s, 1);
}

static int name3(slice *s, const char *names)
{
    for (int i = 0; names[i * 3]; i++)
        if (s->len >= 3 && slice_eq_nocase(slice_head(*s, 3), slice_of(names + i * 3, 3))) {
            *s = slice_from(*s, 3);
            return i;
        }
    return -1;
}

static bool parse_zone_2822(slice s, int *offset_min)
{
    static const struct {
        const char *name;
        int hours;
    } zones[] = {{"UT", 0},   {"GMT", 0},  {"Z", 0},    {"UTC", 0},  {"EST", -5}, {"EDT", -4},
                 {"CST", -6}, {"CDT", -5}, {"MST", -7}, {"MDT", -6}, {"PST", -8}, {"PDT", -7}};

    if (s.len && (s.ptr[0] == '+' || s.ptr[0] == '-'))
        return parse_zone(&s, false, offset_min) && s.len == 0;
    for (size_t i = 0; i < sizeof(zones) / sizeof(zones[0]); i++)
        if (slice_eq_nocase(s, slice_str(zones[i].name))) {
            *offset_min = zones[i].hours * 60;
            return true;
        }
    return false;
}

/* [Day ","] d[d] Mon yyyy hh:mm[:ss] zone */
bool time_parse_rfc2822(slice s, int64_t *us)
{
    struct civil c = {0};
    int offset, y, day2;

    s = slice_trim(s);
    if (name3(&s, "MonTueWedThuFriSatSun") >= 0 && !literal(&s, ','))
        return false;
    skip_spaces(&s);
    if (!digits(&s, 1, &c.day))
        return false;
    if (digits(&s, 1, &day2))
        c.day = c.day * 10 + day2;
    skip_spaces(&s);
    c.month = name3(&s, "JanFebMarAprMayJunJulAugSepOctNovDec") + 1;
    skip_spaces(&s);
    if (c.month == 0 || !digits(&s, 4, &y))
        return false;
    c.year = y;
    skip_spaces(&s);
    if (!digits(&s, 2, &c.hour) || !literal(&s, ':') || !digits(&s, 2, &c.minute))
        return false;
    if (literal(&s, ':') && !digits(&s, 2, &c.second))
        return false;
    skip_spaces(&s);
    if (!parse_zone_2822(s, &offset) || !civil_valid(&c))
        return false;
    *us = civil_us(&c) - (int64_t)offset * 60000000;
    return true;
}

bool time_parse_date(slice s, int64_t *days)
{
    struct civil c = {0};
    if (!parse_ymd(&s, &c) || s.len != 0 || !civil_valid(&c))
        return false;
    *days = civil_days(c.year, c.month, c.day);
    return true;
}

char *time_put_date(char *out, int64_t days)
{
    struct civil c = civil_of_days(days);

    if (c.year < 0 || c.year > 9999) {
        *out++ = c.year < 0 ? '-' : '+';
        c.year = c.year < 0 ? -c.year : c.year;
    }
    out = c.year > 9999 ? num_i64(out, c.year) : num_digits(out, (uint32_t)c.year, 4);
    *out++ = '-';
    out = num_digits(out, (uint32_t)c.month, 2);
    *out++ = '-';
    return num_digits(out, (uint32_t)c.day, 2);
}

char *time_put_clock(char *out, int64_t seconds, uint32_t ns)
{
    uint32_t s = (uint32_t)seconds;

    out = num_digits(out, s / 3600, 2);
    *out++ = ':';
    out = num_digits(out, s / 60 % 60, 2);
    *out++ = ':';
    out = num_digits(out, s % 60, 2);
    if (ns == 0)
        return out;
    *out++ = '.';
    if (ns % 1000000 == 0)
        return num_digits(out, ns / 1000000, 3);
    return ns % 1000 == 0 ? num_digits(out, ns / 1000, 6) : num_digits(out, ns, 9);
}

size_t time_format(char out[TIME_TEXT_MAX], int64_t us)
{
    int64_t days = us / US_PER_DAY, rest = us % US_PER_DAY;

    if (rest < 0) {
        rest += US_PER_DAY;
        days--;
    }
    char *end = time_put_date(out, days);
    *end++ = 'T';
    end = time_put_clock(end, rest / 1000000, (uint32_t)(rest % 1000000) * 1000);
    *end = 0;
    return (size_t)(end - out);
}

size_t time_format_rfc3339(char out[TIME_TEXT_MAX], int64_t us)
{
    size_t n = time_format(out, us);
    memcpy(out + n, "+00:00", 7);
    return n + 6;
}
