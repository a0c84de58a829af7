#include "decode/instant.h"

#include "base/mem.h"
#include "base/timetext.h"

static bool contains_nocase(slice s, slice part)
{
    for (size_t i = 0; i + part.len <= s.len; i++)
        if (slice_eq_nocase(slice_of(s.ptr + i, part.len), part))
            return true;
    return false;
}

bool instant_name(slice name)
{
    /* of the contract's eleven, "timestamp" holds "time" */
    static const char *const parts[] = {"time",      "date",  "created", "received", "ingested",
                                        "collected", "start", "end",     "ts",       "dt"};

    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        if (contains_nocase(name, slice_str(parts[i])))
            return true;
    return false;
}

static int64_t cut_to_ms(int64_t us)
{
    int64_t rest = us % 1000;
    return us - (rest < 0 ? rest + 1000 : rest);
}

/* Two digits; anything else sets `*bad`. */
static inline unsigned two(const uint8_t *p, unsigned *bad)
{
    unsigned a = (unsigned)p[0] - '0', b = (unsigned)p[1] - '0';
    *bad |= (unsigned)(a > 9) | (unsigned)(b > 9);
    return a * 10 + b;
}

/* "2026-01-02T03:04:05[.678...]Z", what nearly every logger writes. False: not that, and nothing is known. */
static bool parse_common(slice s, struct instant_cache *cache, int64_t *us)
{
    const uint8_t *p = s.ptr;
    unsigned bad = 0, ms = 0, hour, minute, second;

    if (s.len < 20 || p[10] != 'T' || p[13] != ':' || p[16] != ':' || p[s.len - 1] != 'Z')
        return false;
    hour = two(p + 11, &bad);
    minute = two(p + 14, &bad);
    second = two(p + 17, &bad);
    if (s.len > 20) {
        unsigned scale = 100;
        if (p[19] != '.' || s.len < 22)
            return false;
        for (size_t i = 20; i < s.len - 1; i++, scale /= 10) {
            unsigned digit = (unsigned)p[i] - '0';
            bad |= digit > 9;
            ms += digit * scale;
        }
    }
    if (bad || hour > 23 || minute > 59 || second > 59)
        return false;
    if (memcmp(cache->date, p, 10) != 0) {
        int64_t days;
        if (!time_parse_date(slice_head(s, 10), &days))
            return false;
        memcpy(cache->date, p, 10);
        cache->day_us = days * INT64_C(86400000000);
    }
    *us = cache->day_us + ((int64_t)(hour * 3600 + minute * 60 + second) * 1000 + ms) * 1000;
    return true;
}

bool instant_parse(slice s, bool strict, struct instant_cache *cache, int64_t *us)
{
    if (parse_common(s, cache, us))
        return true;
    if (s.len < 16 || (!time_parse_rfc3339(s, strict, us) && !time_parse_rfc2822(s, us)))
        return false;
    *us = cut_to_ms(*us);
    return true;
}
