/* hash.h: xxHash for tables in memory, crc32c (Castagnoli, RFC 3720 B.4) for everything that is kept or sent. */
#pragma once
#include "base/slice.h"

uint64_t hash64(slice s, uint64_t seed);
uint32_t crc32c(uint32_t crc, const void *ptr, size_t len); /* start with 0; chainable */
