#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum err_code err_set(struct err *err, enum err_code code, const char *fmt, ...)
{
    va_list ap;

    if (!err)
        return code;
    err->code = code;
    err->os_errno = 0;
    va_start(ap, fmt);
    (void)vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
    va_end(ap);
    return code;
}

enum err_code err_wrap(struct err *err, const char *fmt, ...)
{
    char old[sizeof(err->msg)];
    va_list ap;
    int n;

    if (!err)
        return ERR_UNKNOWN;
    memcpy(old, err->msg, sizeof(old));
    va_start(ap, fmt);
    n = vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
    va_end(ap);
    if (n > 0 && (size_t)n < sizeof(err->msg))
        (void)snprintf(err->msg + n, sizeof(err->msg) - (size_t)n, ": %.900s", old);
    return err->code;
}

const char *err_name(enum err_code code)
{
    static const char *const names[] = {"ok",        "limit",    "invalid",     "corrupt", "io",     "not_found",
                                        "cancelled", "conflict", "unavailable", "unknown", "denied", "timeout"};
    return (unsigned)code < sizeof(names) / sizeof(names[0]) ? names[code] : "?";
}

_Noreturn void assert_fail(const char *expr, const char *file, int line)
{
    (void)fprintf(stderr, "sluice: assertion failed: %s at %s:%d\n", expr, file, line);
    abort();
}
