/* units.c: see units.h. */
#include <inttypes.h>

#include "base/mem.h"
#include "base/units.h"

#include "base/banned.h"

struct unit {
    const char *name;
    uint64_t factor;
};
static const struct unit sizes[] = {
    {"EiB", 1ull << 60},
    {"PiB", 1ull << 50},
    {"TiB", 1ull << 40},
    {"GiB", 1ull << 30},
    {"MiB", 1ull << 20},
    {"KiB", 1ull << 10},
    {"B", 1},
    {"TB", 1000000000000},
    {"GB", 1000000000},
    {"MB", 1000000},
    {"kB", 1000},
    {"KB", 1000},
    {"T", 1000000000000},
    {"G", 1000000000},
    {"M", 1000000},
    {"k", 1000},
    {"K", 1000},
};
#define SIZES_BINARY 6 /* the first ones, largest first: what print_size() chooses from */

static const struct unit times[] = {
    {"d", 86400000000}, {"h", 3600000000}, {"m", 60000000}, {"s", 1000000}, {"ms", 1000}, {"us", 1},
};

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

/* "1.5" of a unit, in whole smallest parts: digits, then at most 9 of a fraction. */
static bool take_number(slice *s, uint64_t *whole, uint64_t *frac, uint64_t *frac_scale)
{
    size_t n = 0;

    while (n < s->len && is_digit(s->ptr[n]))
        n++;
    if (n == 0 || !slice_u64(slice_head(*s, n), whole))
        return false;
    *s = slice_from(*s, n);
    *frac = 0;
    *frac_scale = 1;
    if (s->len == 0 || s->ptr[0] != '.')
        return true;
    n = 1;
    while (n < s->len && n <= 9 && is_digit(s->ptr[n])) {
        *frac = *frac * 10 + (uint64_t)(s->ptr[n] - '0');
        *frac_scale *= 10;
        n++;
    }
    *s = slice_from(*s, n);
    return n > 1;
}

static slice take_unit(slice *s)
{
    size_t n = 0;

    while (n < s->len && !is_digit(s->ptr[n]))
        n++;
    slice unit = slice_trim(slice_head(*s, n));
    *s = slice_from(*s, n);
    return unit;
}

static bool scale(uint64_t whole, uint64_t frac, uint64_t frac_scale, uint64_t factor, uint64_t *out)
{
    uint64_t a;

    /* factor < 2^61 and frac < 10^9: the product fits 128 bits */
    uint64_t b = (uint64_t)((unsigned __int128)frac * factor / frac_scale);
    return !__builtin_mul_overflow(whole, factor, &a) && !__builtin_add_overflow(a, b, out);
}

static const struct unit *find_unit(const struct unit *list, size_t count, slice name, bool exact)
{
    for (size_t i = 0; i < count; i++)
        if (exact ? slice_eq(name, slice_str(list[i].name)) : slice_eq_nocase(name, slice_str(list[i].name)))
            return &list[i];
    return NULL;
}

enum err_code parse_size(slice s, uint64_t unit, uint64_t *bytes, struct err *err)
{
    uint64_t whole, frac, frac_scale;
    slice rest = slice_trim(s);

    if (!take_number(&rest, &whole, &frac, &frac_scale))
        return err_set(err, ERR_INVALID, "'" SLICE_FMT "' is no size: write a number and a unit, for example 64MiB",
                       SLICE_ARG(s));
    slice name = take_unit(&rest);
    const struct unit *u = find_unit(sizes, ARRAY_LEN(sizes), name, false);
    if ((name.len && !u) || rest.len)
        return err_set(err, ERR_INVALID,
                       "'" SLICE_FMT "' is no size: units are KiB, MiB, GiB, TiB (powers of 1024), kB, MB, GB, TB",
                       SLICE_ARG(s));
    if (!scale(whole, frac, frac_scale, u ? u->factor : unit ? unit : 1, bytes))
        return err_set(err, ERR_INVALID, "'" SLICE_FMT "' is too large a size", SLICE_ARG(s));
    return ERR_OK;
}

enum err_code parse_duration(slice s, uint64_t unit, uint64_t *us, struct err *err)
{
    slice rest = slice_trim(s);
    uint64_t total = 0, whole, frac, frac_scale, part;

    do {
        rest = slice_trim(rest);
        if (!take_number(&rest, &whole, &frac, &frac_scale))
            return err_set(err, ERR_INVALID,
                           "'" SLICE_FMT "' is no duration: write a number and a unit, for example 10s", SLICE_ARG(s));
        slice name = take_unit(&rest);
        const struct unit *u = find_unit(times, ARRAY_LEN(times), name, true);
        bool bare = name.len == 0 && rest.len == 0 && total == 0 && unit > 0;
        if (!u && !bare)
            return err_set(err, ERR_INVALID,
                           "'" SLICE_FMT "' is no duration: units are us, ms, s, m, h, d, for example 10s or 1h30m",
                           SLICE_ARG(s));
        if (!scale(whole, frac, frac_scale, u ? u->factor : unit, &part) || __builtin_add_overflow(total, part, &total))
            return err_set(err, ERR_INVALID, "'" SLICE_FMT "' is too long a duration", SLICE_ARG(s));
    } while (rest.len);
    *us = total;
    return ERR_OK;
}

void print_size(struct buf *out, uint64_t bytes)
{
    for (size_t i = 0; i < SIZES_BINARY; i++)
        if (bytes >= sizes[i].factor && bytes % sizes[i].factor == 0) {
            buf_fmt(out, "%" PRIu64 "%s", bytes / sizes[i].factor, sizes[i].name);
            return;
        }
    buf_fmt(out, "%" PRIu64, bytes);
}

void print_duration(struct buf *out, uint64_t us)
{
    size_t before = out->len;

    for (size_t i = 0; i < ARRAY_LEN(times); i++)
        if (us >= times[i].factor) {
            buf_fmt(out, "%" PRIu64 "%s", us / times[i].factor, times[i].name);
            us %= times[i].factor;
        }
    if (out->len == before)
        buf_str(out, "0s");
}
