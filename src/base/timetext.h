/* timetext.h: instants as text. All instants are microseconds since 1970-01-01 UTC, proleptic Gregorian calendar
 * (Hinnant, "chrono-Compatible Low-Level Date Algorithms"). No locale, no zone database, no libc time functions. */
#pragma once
#include "base/slice.h"

struct civil {
    int64_t year;
    int month, day, hour, minute, second, micro; /* month and day from 1 */
};
int64_t civil_days(int64_t year, int month, int day); /* days since 1970-01-01 */
struct civil civil_of(int64_t us);
int64_t civil_us(const struct civil *c);

/* RFC 3339 with what chrono accepts: 'T', 't' or a space, 'Z', 'z' or +hh:mm, 0-9 fraction digits (cut after the
 * sixth). With zone_required false a missing zone means UTC. Years 0000-9999, second 60 accepted as 59.999999 + 1us. */
bool time_parse_rfc3339(slice s, bool zone_required, int64_t *us);
bool time_parse_rfc2822(slice s, int64_t *us); /* RFC 5322 date-time, obsolete zones too */
bool time_parse_date(slice s, int64_t *days);  /* YYYY-MM-DD */

#define TIME_TEXT_MAX 40
/* The parts, at `out`, which has room; each returns the end, no NUL. Years outside 0000-9999 have a sign, as chrono writes them. */
char *time_put_date(char *out, int64_t days); /* "2026-01-02" */
char *time_put_clock(char *out, int64_t seconds,
                     uint32_t ns); /* "03:04:05.678" of seconds in the day, 86,400 too; 0, 3, 6 or 9 digits */
/* "2026-01-02T03:04:05.678": fraction dropped when zero, 3 digits when whole milliseconds, else 6. Returns length. */
size_t time_format(char out[TIME_TEXT_MAX], int64_t us);
size_t time_format_rfc3339(char out[TIME_TEXT_MAX], int64_t us); /* the same and "+00:00" */
