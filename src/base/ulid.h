/* ulid.h: 26 characters of Crockford base32, 48 bits of milliseconds then 80 random bits (the ULID spec). Lower case
 * in object names, upper case where the contract shows one. */
#pragma once
#include "base/slice.h"

#define ULID_LEN 26
struct ulid {
    char text[ULID_LEN + 1]; /* NUL-terminated, lower case */
};
struct ulid ulid_make(int64_t unix_ms, const uint8_t random[10]);
bool ulid_parse(slice s, struct ulid *out); /* either case; false if it is none */
