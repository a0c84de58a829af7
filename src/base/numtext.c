#include "base/numtext.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "base/err.h"

/* ---- integers */

static const char pairs[] =
    "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748"
    "49505152535455565758596061626364656667686970717273747576777879808182838485868788899091929394959697"
    "9899";
static const uint64_t tens[] = {1,
                                10,
                                100,
                                1000,
                                10000,
                                100000,
                                1000000,
                                10000000,
                                100000000,
                                1000000000,
                                10000000000,
                                100000000000,
                                1000000000000,
                                10000000000000,
                                100000000000000,
                                1000000000000000,
                                10000000000000000,
                                100000000000000000,
                                1000000000000000000,
                                UINT64_C(10000000000000000000)};

static unsigned digits_of(uint64_t v) /* how many; 1 for 0 */
{
    unsigned guess = ((64 - (unsigned)__builtin_clzll(v | 1)) * 1233) >> 12; /* bits * log10(2) */
    return guess + (guess == 0 || v >= tens[guess]);
}

/* The digits of v end at `end`. */
static void put_back(char *end, uint64_t v, unsigned n)
{
    for (; n >= 2; n -= 2, v /= 100)
        memcpy(end -= 2, pairs + v % 100 * 2, 2);
    if (n)
        *--end = (char)('0' + v % 10);
}

char *num_u64(char *out, uint64_t v)
{
    unsigned n = digits_of(v);
    put_back(out + n, v, n);
    return out + n;
}

char *num_i64(char *out, int64_t v)
{
    if (v >= 0)
        return num_u64(out, (uint64_t)v);
    *out = '-';
    return num_u64(out + 1, 0 - (uint64_t)v);
}

char *num_digits(char *out, uint32_t v, unsigned n)
{
    put_back(out + n, v, n);
    return out + n;
}

char *num_u128(char *out, u128 v)
{
    const uint64_t part = UINT64_C(1000000000000000000); /* 10^18 */

    if (v <= UINT64_MAX)
        return num_u64(out, (uint64_t)v);
    out = num_u128(out, v / part);
    put_back(out + 18, (uint64_t)(v % part), 18);
    return out + 18;
}

char *num_i128(char *out, i128 v)
{
    if (v >= 0)
        return num_u128(out, (u128)v);
    *out = '-';
    return num_u128(out + 1, 0 - (u128)v);
}

/* ---- powers of ten: g(k) = ceil(10^k / 2^r) with r such that 2^127 <= g(k) < 2^128 */

#define POW10_MIN (-292)
#define POW10_MAX 324
#define LIMBS 40 /* 32-bit: 10^324 needs 1,077 bits, 2^1216 / 10^292 keeps 246 */

struct pow10 {
    uint64_t hi, lo;
};
static struct pow10 pow10_table[POW10_MAX - POW10_MIN + 1];
static pthread_once_t pow10_once = PTHREAD_ONCE_INIT;

static bool limbs_bit(const uint32_t *limbs, int bit)
{
    return bit >= 0 && (limbs[bit / 32] >> (bit % 32) & 1);
}

/* The top 128 bits of `limbs`, rounded up unless all below is zero and the number is exact. */
static struct pow10 limbs_top(const uint32_t *limbs, bool exact)
{
    int top = LIMBS * 32 - 1;
    u128 g = 0;

    while (!limbs_bit(limbs, top))
        top--;
    for (int i = 0; i < 128; i++)
        g = g << 1 | limbs_bit(limbs, top - i);
    for (int i = top - 128; exact && i >= 0; i--)
        exact = !limbs_bit(limbs, i);
    g += !exact;
    return (struct pow10){(uint64_t)(g >> 64), (uint64_t)g};
}

static void pow10_make(void)
{
    uint32_t n[LIMBS] = {1};

    for (int k = 0; k <= POW10_MAX; k++) {
        pow10_table[k - POW10_MIN] = limbs_top(n, true);
        uint64_t carry = 0;
        for (int i = 0; i < LIMBS; i++, carry >>= 32)
            n[i] = (uint32_t)(carry += (uint64_t)n[i] * 10);
    }
    memset(n, 0, sizeof(n));
    n[LIMBS - 2] = 1; /* floor(floor(a / 10) / 10) is floor(a / 100): one division a step stays exact */
    for (int k = -1; k >= POW10_MIN; k--) {
        uint64_t rest = 0;
        for (int i = LIMBS - 1; i >= 0; i--) {
            rest = rest << 32 | n[i];
            n[i] = (uint32_t)(rest / 10);
            rest %= 10;
        }
        pow10_table[k - POW10_MIN] = limbs_top(n, false);
    }
}

/* ---- doubles */

struct decimal { /* digits * 10^exp */
    uint64_t digits;
    int exp;
};

/* floor(x / 2^n) of the product, its last bit set when the cut part was not zero: enough to compare with quarters. */
static uint64_t product_odd(struct pow10 g, uint64_t c)
{
    uint64_t low = (uint64_t)((u128)g.lo * c >> 64);
    u128 y = (u128)g.hi * c + low;
    return (uint64_t)(y >> 64) | ((uint64_t)y > 1);
}

/* The shortest decimal, and the closest among those, in the rounding interval of c * 2^q; `edge`: c is the least of its binade, the
 * neighbour below is at half the distance. */
static struct decimal shortest(uint64_t c, int q, bool edge)
{
    int k = (q * 1262611 - (edge ? 524031 : 0)) >> 22; /* floor(log10(2^q)), of 3/4 * 2^q on an edge */
    unsigned h = (unsigned)(q + ((-k * 1741647) >> 19) + 1);
    struct pow10 g = pow10_table[-k - POW10_MIN];
    bool odd = c & 1; /* the interval's ends round to even: they belong to even values only */
    uint64_t low = product_odd(g, (4 * c - 2 + edge) << h) + odd;
    uint64_t mid = product_odd(g, (4 * c) << h);
    uint64_t high = product_odd(g, (4 * c + 2) << h) - odd;
    uint64_t s = mid / 4;

    if (s >= 10) { /* one digit less */
        uint64_t t = s / 10;
        bool down = low <= 40 * t, up = 40 * t + 40 <= high;
        if (down != up)
            return (struct decimal){t + up, k + 1};
    }
    bool down = low <= 4 * s, up = 4 * s + 4 <= high;
    if (down != up)
        return (struct decimal){s + up, k};
    uint64_t half = 4 * s + 2;
    return (struct decimal){s + (mid > half || (mid == half && (s & 1))), k};
}

/* ryu's pretty form: positional where 10^-5 <= v < 10^16, else with an exponent. */
static char *decimal_put(char *out, struct decimal d)
{
    while (d.digits % 10 == 0) {
        d.digits /= 10;
        d.exp++;
    }
    int n = (int)digits_of(d.digits), point = n + d.exp; /* digits before the decimal point */
    if (d.exp >= 0 && point <= 16) {
        put_back(out + n, d.digits, (unsigned)n);
        memset(out + n, '0', (size_t)d.exp);
        memcpy(out + point, ".0", 2);
        return out + point + 2;
    }
    if (point > 0 && point <= 16) {
        put_back(out + n + 1, d.digits, (unsigned)n);
        memmove(out, out + 1, (size_t)point);
        out[point] = '.';
        return out + n + 1;
    }
    if (point > -5 && point <= 0) {
        memset(out, '0', (size_t)(2 - point));
        out[1] = '.';
        put_back(out + 2 - point + n, d.digits, (unsigned)n);
        return out + 2 - point + n;
    }
    put_back(out + n + 1, d.digits, (unsigned)n);
    out[0] = out[1];
    out[1] = '.';
    out += n > 1 ? n + 1 : 1;
    *out++ = 'e';
    return num_i64(out, point - 1);
}

/* `bits` of the fraction, `q_min` the exponent of the least subnormal. */
static char *float_put(char *out, bool negative, uint64_t fraction, int exponent, unsigned bits, int q_min)
{
    uint64_t c = exponent ? fraction | UINT64_C(1) << bits : fraction;
    int q = q_min + (exponent ? exponent - 1 : 0);

    if (negative)
        *out++ = '-';
    if (c == 0) {
        memcpy(out, "0.0", 3);
        return out + 3;
    }
    if (q <= 0 && -q <= (int)bits && (c & ((UINT64_C(1) << -q) - 1)) == 0) { /* a whole number: most numbers of logs */
        out = num_u64(out, c >> -q);
        memcpy(out, ".0", 2);
        return out + 2;
    }
    pthread_once(&pow10_once, pow10_make);
    return decimal_put(out, shortest(c, q, fraction == 0 && exponent > 1));
}

char *num_f64(char *out, double v)
{
    uint64_t b;

    memcpy(&b, &v, sizeof(b));
    int exponent = (int)(b >> 52 & 0x7ff);
    DCHECK(exponent != 0x7ff);
    return float_put(out, b >> 63, b & ((UINT64_C(1) << 52) - 1), exponent, 52, -1074);
}

char *num_f32(char *out, float v)
{
    uint32_t b;

    memcpy(&b, &v, sizeof(b));
    int exponent = (int)(b >> 23 & 0xff);
    DCHECK(exponent != 0xff);
    return float_put(out, b >> 31, b & ((1u << 23) - 1), exponent, 23, -149);
}
