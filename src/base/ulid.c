#include "base/ulid.h"

static const char alphabet[] = "0123456789abcdefghjkmnpqrstvwxyz";

struct ulid ulid_make(int64_t unix_ms, const uint8_t random[10])
{
    struct ulid u;
    uint64_t hi = 0, lo = 0;

    for (int i = 9; i >= 0; i--, unix_ms >>= 5)
        u.text[i] = alphabet[unix_ms & 31];
    for (int i = 0; i < 5; i++) {
        hi = hi << 8 | random[i];
        lo = lo << 8 | random[5 + i];
    }
    for (int i = 7; i >= 0; i--, hi >>= 5, lo >>= 5) {
        u.text[10 + i] = alphabet[hi & 31];
        u.text[18 + i] = alphabet[lo & 31];
    }
    u.text[ULID_LEN] = 0;
    return u;
}

bool ulid_parse(slice s, struct ulid *out)
{
    if (s.len != ULID_LEN || s.ptr[0] > '7')
        return false;
    for (size_t i = 0; i < ULID_LEN; i++) {
        char c = (char)s.ptr[i];
        if (c >= 'A' && c <= 'Z')
            c = (char)(c | 32);
        if (!c || !memchr(alphabet, c, 32))
            return false;
        out->text[i] = c;
    }
    out->text[ULID_LEN] = 0;
    return true;
}
