/* err.h: one code says what the caller can do, one message says what happened to which object.
 * Library code returns errors and stays silent; the edge (HTTP handler, job, main) logs once. */
#pragma once
#include <stdbool.h>

enum err_code {
    ERR_OK = 0,
    ERR_LIMIT,       /* a budget or size limit; see the message for which */
    ERR_INVALID,     /* the input can never succeed */
    ERR_CORRUPT,     /* bytes that we or a store kept are damaged */
    ERR_IO,          /* the operating system refused */
    ERR_NOT_FOUND,   /* no such object */
    ERR_CANCELLED,   /* the caller asked to stop */
    ERR_CONFLICT,    /* compare-and-swap lost or it exists already: reread, then decide */
    ERR_UNAVAILABLE, /* nothing happened: retry with backoff */
    ERR_UNKNOWN,     /* it may have happened: look before retrying */
    ERR_DENIED,      /* credentials are good, the right is missing */
    ERR_TIMEOUT,     /* a time limit set by the caller or the configuration passed */
};
struct err {
    enum err_code code;
    int os_errno;
    char msg[1000]; /* room for an engine's planning error */
};

/* Formats into `err` (may be NULL) and returns `code`, so: return err_set(err, ERR_CORRUPT, "seq %" PRIu64, seq); */
enum err_code err_set(struct err *err, enum err_code code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Puts "text: " before the message of an error on its way up; returns err->code. */
enum err_code err_wrap(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
const char *err_name(enum err_code code);

#define MUST_CHECK __attribute__((warn_unused_result))
#define TRY(expr)                       \
    do {                                \
        enum err_code try_rc_ = (expr); \
        if (try_rc_ != ERR_OK)          \
            return try_rc_;             \
    } while (0)

/* For our own mistakes only, on in release too. Bytes from outside are never asserted on. */
_Noreturn void assert_fail(const char *expr, const char *file, int line);
#define ASSERT(x) (__builtin_expect(!(x), 0) ? assert_fail(#x, __FILE__, __LINE__) : (void)0)
#ifdef NDEBUG
#define DCHECK(x) ((void)0)
#else
#define DCHECK(x) ASSERT(x)
#endif
