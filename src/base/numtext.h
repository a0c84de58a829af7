/* numtext.h: numbers as text without printf: no locale, no allocation, shortest digits that read back as the same double.
 *
 * Doubles by R. Giulietti, "The Schubfach way to render doubles" (2021): three 128-bit products tell which decimals lie in the interval that
 * rounds to the value. Its table of powers of ten is computed at the first use (about 50 us) with plain long arithmetic rather than
 * written down. Each function writes at `out`, which has room, ends with no NUL and returns the end. THREADS any. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define NUM_INT_MAX 20   /* characters of a 64-bit integer with its sign */
#define NUM_I128_MAX 40  /* of a 128-bit one */
#define NUM_FLOAT_MAX 25 /* of a float or double: -1.7976931348623157e308 */

typedef __int128 i128;
typedef unsigned __int128 u128;

char *num_u64(char *out, uint64_t v);
char *num_i64(char *out, int64_t v);
char *num_u128(char *out, u128 v);
char *num_i128(char *out, i128 v);
/* Exactly `n` digits, zeros in front; v < 10^n, n <= 9. */
char *num_digits(char *out, uint32_t v, unsigned n);
/* Finite values, in the form of Rust's serde_json (ryu): "1.0", "0.00001", "1e-6", "1e16", "1.5e300", "-0.0". */
char *num_f64(char *out, double v);
char *num_f32(char *out, float v); /* the shortest that reads back as the same float */
