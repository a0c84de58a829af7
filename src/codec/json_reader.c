/* json_reader.c: the leaves of the JSON reader that are too long to inline. */
#include "codec/json_reader.h"

#include <float.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/banned.h"

void json_reader_done(struct json_reader *r)
{
    buf_done(&r->scratch);
}

bool json_fail_at(struct json_reader *r, const uint8_t *at, const char *what)
{
    if (!r->what) {
        r->what = what;
        r->what_at = at;
    }
    return false;
}

const uint8_t *json_space_slow(const uint8_t *p, const uint8_t *end)
{
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
        p++;
    return p;
}

/* -- strings ------------------------------------------------------------------------------------------------------- */

/* Length of the well-formed sequence at p (its first byte is not ASCII), 0 if there is none: RFC 3629 section 4. */
static unsigned utf8_sequence(const uint8_t *p, const uint8_t *end)
{
    size_t left = (size_t)(end - p);
    uint8_t a = p[0], low = 0x80, high = 0xbf;

    if (a >= 0xc2 && a <= 0xdf)
        return left >= 2 && (p[1] & 0xc0) == 0x80 ? 2 : 0;
    if ((a & 0xf0) == 0xe0) {
        if (a == 0xe0)
            low = 0xa0; /* shorter forms exist */
        else if (a == 0xed)
            high = 0x9f; /* surrogates */
        return left >= 3 && p[1] >= low && p[1] <= high && (p[2] & 0xc0) == 0x80 ? 3 : 0;
    }
    if (a >= 0xf0 && a <= 0xf4) {
        if (a == 0xf0)
            low = 0x90;
        else if (a == 0xf4)
            high = 0x8f; /* U+10FFFF */
        return left >= 4 && p[1] >= low && p[1] <= high && (p[2] & 0xc0) == 0x80 && (p[3] & 0xc0) == 0x80 ? 4 : 0;
    }
    return 0;
}

/* First byte from p on that a string cannot hold as it is: quote, backslash, control character, or bad UTF-8. */
static const uint8_t *plain_end(const uint8_t *p, const uint8_t *end)
{
    for (;;) {
#ifdef __SSE2__
        const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\'), control = _mm_set1_epi8(0x1f);
        while (end - p >= 16) {
            __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
            __m128i stop = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, slash)),
                                        _mm_cmpeq_epi8(_mm_min_epu8(v, control), v));
            uint32_t mask = (uint32_t)_mm_movemask_epi8(_mm_or_si128(stop, v));
            if (mask) {
                p += __builtin_ctz(mask);
                break;
            }
            p += 16;
        }
#endif
        while (p < end && *p < 0x80 && *p >= 0x20 && *p != '"' && *p != '\\')
            p++;
        /* text in other alphabets comes in runs: stay here while it lasts */
        while (p < end && *p >= 0x80) {
            unsigned n = utf8_sequence(p, end);
            if (n == 0)
                return p;
            p += n;
        }
        if (p >= end || *p < 0x20 || *p == '"' || *p == '\\')
            return p;
    }
}

bool utf8_valid(slice s)
{
    const uint8_t *p = s.ptr, *end = s.len ? s.ptr + s.len : s.ptr; /* NULL where it is empty */

    while (p < end) {
        if (*p < 0x80) {
            p++;
            continue;
        }
        unsigned n = utf8_sequence(p, end);
        if (n == 0)
            return false;
        p += n;
    }
    return true;
}

static bool hex4(const uint8_t *p, const uint8_t *end, uint32_t *out)
{
    uint32_t v = 0;

    if (end - p < 4)
        return false;
    for (int i = 0; i < 4; i++) {
        uint8_t c = p[i];
        if (c >= '0' && c <= '9')
            v = v << 4 | (uint32_t)(c - '0');
        else if ((c | 32) >= 'a' && (c | 32) <= 'f')
            v = v << 4 | (uint32_t)((c | 32) - 'a' + 10);
        else
            return false;
    }
    *out = v;
    return true;
}

static size_t utf8_put(uint8_t *to, uint32_t c)
{
    if (c < 0x80) {
        to[0] = (uint8_t)c;
        return 1;
    }
    if (c < 0x800) {
        to[0] = (uint8_t)(0xc0 | c >> 6);
        to[1] = (uint8_t)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        to[0] = (uint8_t)(0xe0 | c >> 12);
        to[1] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
        to[2] = (uint8_t)(0x80 | (c & 0x3f));
        return 3;
    }
    to[0] = (uint8_t)(0xf0 | c >> 18);
    to[1] = (uint8_t)(0x80 | (c >> 12 & 0x3f));
    to[2] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
    to[3] = (uint8_t)(0x80 | (c & 0x3f));
    return 4;
}

/* At the 'u' of an escape. Returns the byte after it, or NULL. */
static const uint8_t *unicode_escape(struct json_reader *r, const uint8_t *p, uint8_t to[4], size_t *len)
{
    uint32_t c, low;

    if (!hex4(p + 1, r->end, &c)) {
        json_fail_at(r, p - 1, "invalid unicode escape");
        return NULL;
    }
    p += 5;
    if (c >= 0xdc00 && c <= 0xdfff) {
        json_fail_at(r, p - 6, "lone surrogate");
        return NULL;
    }
    if (c >= 0xd800 && c <= 0xdbff) {
        if (r->end - p < 6 || p[0] != '\\' || p[1] != 'u' || !hex4(p + 2, r->end, &low) || low < 0xdc00 ||
            low > 0xdfff) {
            json_fail_at(r, p - 6, "lone surrogate");
            return NULL;
        }
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
        p += 6;
    }
    *len = utf8_put(to, c);
    return p;
}

/* `p` is where the inlined scan stopped, [from, p) is plain ASCII. */
bool json_read_string_slow(struct json_reader *r, const uint8_t *from, const uint8_t *p, slice *out)
{
    static const uint8_t escapes[256] = {
        ['"'] = '"', ['\\'] = '\\', ['/'] = '/', ['b'] = '\b', ['f'] = '\f', ['n'] = '\n', ['r'] = '\r', ['t'] = '\t'};
    bool copied = false;

    r->scratch.len = 0;
    for (;;) {
        p = plain_end(p, r->end);
        if (p >= r->end)
            return json_fail_at(r, r->end, "end of text inside a string");
        if (*p == '"')
            break;
        if (*p >= 0x80)
            return json_fail_at(r, p, "bad UTF-8");
        if (*p != '\\')
            return json_fail_at(r, p, "control character inside a string");
        buf_put(&r->scratch, from, (size_t)(p - from));
        copied = true;
        if (++p >= r->end)
            return json_fail_at(r, r->end, "end of text inside a string");
        if (*p == 'u') {
            uint8_t utf8[4];
            size_t n;
            if (!(p = unicode_escape(r, p, utf8, &n)))
                return false;
            buf_put(&r->scratch, utf8, n);
        } else {
            uint8_t c = escapes[*p];
            if (!c)
                return json_fail_at(r, p - 1, "invalid escape");
            buf_byte(&r->scratch, c);
            p++;
        }
        from = p;
    }
    if (copied) {
        buf_put(&r->scratch, from, (size_t)(p - from));
        *out = buf_view(&r->scratch);
    } else {
        *out = (slice){from, (size_t)(p - from)};
    }
    r->at = p + 1;
    return true;
}

/* -- numbers ------------------------------------------------------------------------------------------------------- */

static locale_t c_locale;
static pthread_once_t c_locale_once = PTHREAD_ONCE_INIT;
static void make_c_locale(void)
{
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    ASSERT(c_locale);
}

/* The C library's conversion is correctly rounded (glibc), but wants a terminator and knows locales. */
static double number_by_libc(const uint8_t *from, size_t len)
{
    char text[128], *big = NULL, *s = text;

    pthread_once(&c_locale_once, make_c_locale);
    if (len >= sizeof(text))
        s = big = mem_alloc(len + 1);
    memcpy(s, from, len);
    s[len] = 0;
    double d = strtod_l(s, NULL, c_locale);
    free(big);
    return d;
}

static const double tens[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                              1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

/* digits * 10^exp10, if that can be done exactly rounded with one operation. */
static bool number_fast(uint64_t digits, int64_t exp10, double *out)
{
    if (digits <= UINT64_C(1) << 53 && exp10 >= -22 && exp10 <= 22) {
        /* Clinger 1990: both operands are exact, so the one rounding is the right one */
        *out = exp10 < 0 ? (double)digits / tens[-exp10] : (double)digits * tens[exp10];
        return true;
    }
#if LDBL_MANT_DIG == 64
    /* The same with 64 bits: exact operands up to 10^27. Rounding twice (to 64, then to 53 bits) goes wrong only when the
     * first lands on or next to the middle between two doubles; those go to the C library. */
    static const long double tens_l[] = {1e23L, 1e24L, 1e25L, 1e26L, 1e27L};
    if (digits && exp10 >= -27 && exp10 <= 27) {
        int64_t k = exp10 < 0 ? -exp10 : exp10;
        long double ten = k <= 22 ? (long double)tens[k] : tens_l[k - 23];
        long double v = exp10 < 0 ? (long double)digits / ten : (long double)digits * ten;
        uint64_t mantissa;
        memcpy(&mantissa, &v, 8);
        uint64_t low = mantissa & 0x7ff;
        if (low < 0x3ff || low > 0x401) {
            *out = (double)v;
            return true;
        }
    }
#endif
    return false;
}

static inline bool is_digit(const uint8_t *p, const uint8_t *end)
{
    return p < end && (uint8_t)(*p - '0') < 10;
}

/* Eight digits at once (Lemire, "Quickly parsing eight digits"): true and their value if all are digits. */
static inline bool eight_digits(const uint8_t *p, uint64_t *out)
{
    uint64_t v = le64_get(p);

    if (((v & UINT64_C(0xf0f0f0f0f0f0f0f0)) |
         (((v + UINT64_C(0x0606060606060606)) & UINT64_C(0xf0f0f0f0f0f0f0f0)) >> 4)) != UINT64_C(0x3333333333333333))
        return false;
    v -= UINT64_C(0x3030303030303030);
    v = v * 10 + (v >> 8);
    *out = ((v & UINT64_C(0x000000ff000000ff)) * UINT64_C(0x000f424000000064) +
            ((v >> 16) & UINT64_C(0x000000ff000000ff)) * UINT64_C(0x0000271000000001)) >>
           32;
    return true;
}

/* Exponent after 'e'; values that are far out of range anyway are clamped. Returns the byte after, NULL: no digit. */
static const uint8_t *exponent(const uint8_t *p, const uint8_t *end, int64_t *out)
{
    bool minus = false;
    int64_t e = 0;

    if (p < end && (*p == '+' || *p == '-'))
        minus = *p++ == '-';
    if (!is_digit(p, end))
        return NULL;
    for (; is_digit(p, end); p++)
        if (e < 1000000)
            e = e * 10 + (*p - '0');
    *out = minus ? -e : e;
    return p;
}

bool json_read_number(struct json_reader *r, struct json_number *out)
{
    const uint8_t *from = r->at, *p = from, *end = r->end, *first;
    bool minus = *p == '-', whole = true;
    uint64_t v = 0, eight;
    int64_t exp10 = 0, e;
    size_t digits;

    p += minus;
    if (!is_digit(p, end))
        return json_fail_at(r, p, "expected a digit");
    first = p;
    if (*p == '0') {
        if (is_digit(++p, end))
            return json_fail_at(r, p - 1, "leading zero");
    } else {
        for (; is_digit(p, end); p++)
            v = v * 10 + (uint64_t)(*p - '0'); /* wraps beyond 19 digits: `digits` tells */
    }
    digits = (size_t)(p - first);
    if (p < end && *p == '.') {
        const uint8_t *dot = ++p;
        whole = false;
        if (!is_digit(p, end))
            return json_fail_at(r, p, "expected a digit");
        while (end - p >= 8 && eight_digits(p, &eight)) {
            v = v * 100000000 + eight;
            p += 8;
        }
        for (; is_digit(p, end); p++)
            v = v * 10 + (uint64_t)(*p - '0');
        exp10 = dot - p;
        digits += (size_t)(p - dot);
    }
    if (p < end && (*p | 32) == 'e') {
        whole = false;
        const uint8_t *mark = p;
        if (!(p = exponent(p + 1, end, &e)))
            return json_fail_at(r, mark, "expected a digit in the exponent");
        exp10 += e;
    }
    r->at = p;
    if (__builtin_expect(digits <= 19, 1)) { /* v is exact */
        if (whole && !minus) {
            *out = v <= INT64_MAX ? (struct json_number){.kind = JSON_INT, .i = (int64_t)v}
                                  : (struct json_number){.kind = JSON_UINT, .u = v};
            return true;
        }
        if (whole && v != 0 && v <= UINT64_C(1) << 63) {
            *out = (struct json_number){.kind = JSON_INT, .i = (int64_t)(0 - v)};
            return true;
        }
        out->kind = whole && v != 0 ? JSON_BIG : JSON_DOUBLE;
        if (number_fast(v, exp10, &out->d)) {
            out->d = minus ? -out->d : out->d;
            return true;
        }
    } else if (whole && !minus && digits == 20 && first[0] == '1' && v >= UINT64_C(10000000000000000000)) {
        *out = (struct json_number){.kind = JSON_UINT, .u = v}; /* 20 digits that did not wrap: 10^19 <= v < 2^64 */
        return true;
    }
    return json_read_number_slow(r, from, out);
}

bool json_read_number_slow(struct json_reader *r, const uint8_t *from, struct json_number *out)
{
    size_t len = (size_t)(r->at - from);

    out->kind = JSON_BIG;
    for (size_t i = 0; i < len && out->kind == JSON_BIG; i++)
        if (from[i] == '.' || (from[i] | 32) == 'e')
            out->kind = JSON_DOUBLE;
    out->d = number_by_libc(from, len);
    if (isinf(out->d))
        return json_fail_at(r, from, "number out of range");
    return true;
}

/* -- words and whole values ------------------------------------------------------------------------------------------ */

bool json_read_word(struct json_reader *r, bool *null, bool *truth)
{
    size_t left = (size_t)(r->end - r->at);

    if (left >= 4 && memcmp(r->at, "true", 4) == 0) {
        *null = false;
        *truth = true;
        r->at += 4;
    } else if (left >= 5 && memcmp(r->at, "false", 5) == 0) {
        *null = *truth = false;
        r->at += 5;
    } else if (left >= 4 && memcmp(r->at, "null", 4) == 0) {
        *null = true;
        *truth = false;
        r->at += 4;
    } else {
        return json_fail_at(r, r->at, left ? "expected a value" : "end of text");
    }
    return true;
}

static bool skip_scalar(struct json_reader *r)
{
    struct json_number n;
    bool a, b;
    slice s;

    if (*r->at == '"') {
        r->at++;
        return json_read_string(r, &s);
    }
    if (*r->at == '-' || (*r->at >= '0' && *r->at <= '9'))
        return json_read_number(r, &n);
    return json_read_word(r, &a, &b);
}

bool json_skip(struct json_reader *r)
{
    bool in_object[JSON_DEPTH_MAX + 1];
    unsigned depth = 0;
    slice s;

    for (;;) { /* one value begins here */
        if (!json_more(r))
            return json_fail_at(r, r->end, "end of text");
        if (*r->at == '{' || *r->at == '[') {
            if (depth == JSON_DEPTH_MAX)
                return json_fail_at(r, r->at, "nested too deeply");
            in_object[++depth] = *r->at++ == '{';
            if (!json_more(r))
                return json_fail_at(r, r->end, "end of text");
            if (*r->at != (in_object[depth] ? '}' : ']'))
                goto member;
            r->at++;
            depth--;
        } else if (!skip_scalar(r)) {
            return false;
        }
        for (;; depth--, r->at++) { /* after a value: close what ends here */
            if (depth == 0)
                return true;
            if (!json_more(r))
                return json_fail_at(r, r->end, "end of text");
            if (*r->at == ',')
                break;
            if (*r->at != (in_object[depth] ? '}' : ']'))
                return json_fail_at(r, r->at, in_object[depth] ? "expected ',' or '}'" : "expected ',' or ']'");
        }
        r->at++;
member:
        if (!in_object[depth])
            continue;
        if (!json_more(r) || *r->at != '"')
            return json_fail_at(r, r->at, "expected a key");
        r->at++;
        if (!json_read_string(r, &s))
            return false;
        if (!json_more(r) || *r->at != ':')
            return json_fail_at(r, r->at, "expected ':'");
        r->at++;
    }
}
