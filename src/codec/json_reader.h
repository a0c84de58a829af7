/* json_reader.h: JSON text to tokens, strictly RFC 8259, without building anything.
 *
 * The hottest code of the product: a body of logs is read once, by a parser above this one that knows what it is looking
 * for (decode/json.c predicts keys and writes columns). So the reader is a cursor and a handful of leaves that are
 * inlined into that parser: skip white space, read a string, a number, a word. It never reads past `end`, needs no
 * padding and no terminator, and strings without escapes are slices of the body.
 * STRICT  control characters in strings, lone surrogates, bad UTF-8 (overlong, surrogates, above U+10FFFF), leading
 *   zeros, trailing commas, NaN, comments, a byte order mark, numbers beyond the range of double: all refused. A number
 *   too small for a double is its nearest one, maybe zero. Duplicate keys are the business of whoever keeps keys: json_dom.h, decode/.
 * NUMBERS  without fraction and exponent: int64, else uint64, else double; all doubles are correctly rounded. "-0" is
 *   the double -0.0, as an integer would lose its sign.
 * ERRORS  a leaf returns false and keeps the first error in the reader: `what` and the offset `at`.
 * THREADS  one at a time. */
#pragma once
#include "base/buf.h"
#include "base/err.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define JSON_DEPTH_MAX 127 /* objects and arrays inside each other; the stack of the readers above is bounded by it */

struct json_reader {
    const uint8_t *at, *end, *start;
    const char *what; /* static text; NULL: no error yet */
    const uint8_t *what_at;
    struct buf scratch; /* unescaped strings */
};
enum json_number_kind {
    JSON_INT = 1,
    JSON_DOUBLE,
    JSON_UINT,
    JSON_BIG
}; /* JSON_BIG: an integer beyond uint64, as double */
struct json_number {
    enum json_number_kind kind;
    union {
        int64_t i;
        uint64_t u;
        double d;
        uint64_t bits;
    };
};

static inline void json_reader_init(struct json_reader *r, slice body)
{
    static const uint8_t nothing[1];

    if (!body.ptr) /* an empty buffer's: no arithmetic is defined on it */
        body = slice_of(nothing, 0);
    r->start = r->at = body.ptr;
    r->end = body.ptr + body.len;
    r->what = NULL;
    r->what_at = NULL;
}
void json_reader_done(struct json_reader *r); /* frees the scratch memory */
bool json_fail_at(struct json_reader *r, const uint8_t *at, const char *what)
    __attribute__((cold, noinline)); /* false */
static inline size_t json_offset(const struct json_reader *r, const uint8_t *at)
{
    return (size_t)(at - r->start);
}

const uint8_t *json_space_slow(const uint8_t *p, const uint8_t *end);
/* Skips white space; false at the end of the text. The first two tests are what compact and `json.dumps` text need. */
static inline bool json_more(struct json_reader *r)
{
    const uint8_t *p = r->at;

    if (__builtin_expect(p<r->end && * p> ' ', 1))
        return true;
    if (p < r->end && *p == ' ' && p + 1 < r->end && p[1] > ' ') {
        r->at = p + 1;
        return true;
    }
    r->at = p = json_space_slow(p, r->end);
    return p < r->end;
}

bool json_read_string_slow(struct json_reader *r, const uint8_t *from, const uint8_t *p, slice *out);
/* At the byte after the opening quote: reads to the closing one. `*out` lies in the body, or in scratch until the next
 * string. Not NUL-free: "\u0000" is a byte 0. */
static inline bool json_read_string(struct json_reader *r, slice *out)
{
    const uint8_t *from = r->at, *p = from;
#ifdef __SSE2__
    const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\'), control = _mm_set1_epi8(0x1f);
    while (r->end - p >= 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i stop = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, slash)),
                                    _mm_cmpeq_epi8(_mm_min_epu8(v, control), v));
        /* the top bit of every byte that stops us: one of the three, or not ASCII */
        uint32_t mask = (uint32_t)_mm_movemask_epi8(_mm_or_si128(stop, v));
        if (mask == 0) {
            p += 16;
            continue;
        }
        p += __builtin_ctz(mask);
        if (__builtin_expect(*p != '"', 0))
            break;
        *out = (slice){from, (size_t)(p - from)};
        r->at = p + 1;
        return true;
    }
#endif
    return json_read_string_slow(r, from, p, out);
}

bool json_read_number_slow(struct json_reader *r, const uint8_t *from, struct json_number *out);
/* At '-' or a digit. */
bool json_read_number(struct json_reader *r, struct json_number *out);
/* At any byte: one of the three words. `*truth` is set for true and false, `*null` tells which. */
bool json_read_word(struct json_reader *r, bool *null, bool *truth);
/* Reads any one value, checking all but duplicate keys. */
bool json_skip(struct json_reader *r);
/* Is `s` valid UTF-8 (RFC 3629)? */
bool utf8_valid(slice s);
