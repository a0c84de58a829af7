/* auth.c: Basic credentials (RFC 7617) of the root user. Digests are compared, so length and place of a difference do not show. */
#include "auth/auth.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "base/mem.h"

#define DIGEST_BYTES 32
#define CREDENTIALS_BYTES_MAX 1024

struct auth {
    char *name;
    uint8_t user[DIGEST_BYTES], password[DIGEST_BYTES];
};

static void digest(slice s, uint8_t out[DIGEST_BYTES])
{
    unsigned len = DIGEST_BYTES;
    ASSERT(EVP_Digest(s.ptr, s.len, out, &len, EVP_sha256(), NULL) == 1 && len == DIGEST_BYTES);
}

struct auth *auth_new(slice username, slice password)
{
    struct auth *a = mem_zalloc(sizeof(*a));

    a->name = mem_str(username);
    digest(username, a->user);
    digest(password, a->password);
    return a;
}

void auth_free(struct auth *a)
{
    if (!a)
        return;
    OPENSSL_cleanse(a->password, sizeof(a->password));
    free(a->name);
    free(a);
}

static int base64_value(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* RFC 4648 section 4; false if it is none. */
static bool base64_decode(slice s, uint8_t *out, size_t out_max, size_t *len)
{
    uint32_t acc = 0;
    unsigned bits = 0;
    size_t n = 0;

    while (s.len && s.ptr[s.len - 1] == '=')
        s.len--;
    if (s.len % 4 == 1)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        int v = base64_value(s.ptr[i]);
        if (v < 0 || n >= out_max)
            return false;
        acc = acc << 6 | (uint32_t)v;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            out[n++] = (uint8_t)(acc >> bits);
        }
    }
    *len = n;
    return true;
}

enum auth_result auth_check(const struct auth *a, slice authorization, struct auth_user *out)
{
    uint8_t text[CREDENTIALS_BYTES_MAX], user[DIGEST_BYTES], password[DIGEST_BYTES];
    size_t len;

    if (!slice_starts(authorization, slice_lit("Basic ")))
        return AUTH_NONE;
    if (!base64_decode(slice_trim(slice_from(authorization, 6)), text, sizeof(text), &len))
        return AUTH_NONE;
    const uint8_t *colon = len ? memchr(text, ':', len) : NULL;
    if (!colon)
        return AUTH_NONE;
    slice name = slice_trim(slice_of(text, (size_t)(colon - text)));
    digest(name, user);
    digest(slice_trim(slice_from(slice_of(text, len), (size_t)(colon - text) + 1)), password);
    int wrong = CRYPTO_memcmp(user, a->user, DIGEST_BYTES) | CRYPTO_memcmp(password, a->password, DIGEST_BYTES);
    OPENSSL_cleanse(password, sizeof(password));
    OPENSSL_cleanse(text, len);
    if (wrong)
        return AUTH_REFUSED;
    (void)memset(out, 0, sizeof(*out));
    memcpy(out->name, a->name, MIN(strlen(a->name), sizeof(out->name) - 1));
    out->root = true;
    return AUTH_OK;
}
