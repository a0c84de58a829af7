#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/timetext.h"

static _Atomic int level_min = LOG_INFO;
static const char *const names[] = {"debug", "info", "warn", "error"};

void log_set_level(enum log_level level)
{
    atomic_store(&level_min, (int)level);
}

bool log_parse_level(const char *name, enum log_level *out)
{
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (slice_eq_nocase(slice_str(name), slice_str(names[i]))) {
            *out = (enum log_level)i;
            return true;
        }
    return false;
}

void log_line(enum log_level level, const char *room, const char *fmt, ...)
{
    char text[2048], when[TIME_TEXT_MAX];
    struct buf b = BUF_INIT;
    struct timespec ts;
    va_list ap;

    if ((int)level < atomic_load_explicit(&level_min, memory_order_relaxed))
        return;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    (void)clock_gettime(CLOCK_REALTIME, &ts); /* a log line is no decision: it need not pass through os/ */
    (void)time_format(when, ts.tv_sec * INT64_C(1000000) + ts.tv_nsec / 1000);
    buf_fmt(&b, "{\"ts\":\"%sZ\",\"level\":\"%s\",\"room\":\"%s\",\"msg\":", when, names[level], room);
    buf_json_str(&b, slice_str(text));
    buf_str(&b, "}\n");
    ssize_t n = write(STDERR_FILENO, b.ptr, b.len); /* one write, so lines of threads do not mix */
    (void)n;                                        /* stderr closed: nobody is there to tell */
    buf_done(&b);
}
