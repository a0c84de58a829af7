/* jwt.c: see jwt.h. */
#include "store/jwt.h"

#include <openssl/evp.h>
#include <openssl/pem.h>

#include "base/banned.h"

#define SIGNATURE_BYTES_MAX 2048u /* of a key of 16,384 bits */

void base64url(struct buf *out, slice bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    for (size_t i = 0; i < bytes.len; i += 3) {
        size_t n = MIN(bytes.len - i, 3u);
        uint32_t v = (uint32_t)bytes.ptr[i] << 16 | (n > 1 ? (uint32_t)bytes.ptr[i + 1] << 8 : 0) |
                     (n > 2 ? bytes.ptr[i + 2] : 0u);
        for (size_t d = 0; d <= n; d++)
            buf_byte(out, (uint8_t)digits[v >> (18 - 6 * d) & 63]);
    }
}

static void bio_free(BIO **b)
{
    (void)BIO_free(*b);
}

static void key_free(EVP_PKEY **k)
{
    EVP_PKEY_free(*k);
}

static void digest_free(EVP_MD_CTX **c)
{
    EVP_MD_CTX_free(*c);
}

static int no_password(char *out, int size, int for_writing, void *arg) /* else libcrypto asks on the terminal */
{
    (void)out;
    (void)size;
    (void)for_writing;
    (void)arg;
    return 0;
}

enum err_code jwt_sign(slice header, slice claims, slice key, struct buf *out, struct err *err)
{
    _cleanup_(bio_free) BIO *pem = BIO_new_mem_buf(key.len ? (const char *)key.ptr : "", (int)MIN(key.len, 1u << 20));
    _cleanup_(digest_free) EVP_MD_CTX *md = EVP_MD_CTX_new();
    uint8_t signature[SIGNATURE_BYTES_MAX];
    size_t len = sizeof(signature);

    ASSERT(pem && md);
    _cleanup_(key_free) EVP_PKEY *pkey = PEM_read_bio_PrivateKey(pem, NULL, no_password, NULL);
    if (!pkey || EVP_PKEY_get_base_id(pkey) != EVP_PKEY_RSA)
        return err_set(err, ERR_INVALID, "the key is no RSA key in PEM");
    out->len = 0;
    base64url(out, header);
    buf_byte(out, '.');
    base64url(out, claims);
    if (EVP_DigestSignInit(md, NULL, EVP_sha256(), NULL, pkey) != 1 ||
        EVP_DigestSign(md, signature, &len, out->ptr, out->len) != 1)
        return err_set(err, ERR_INVALID, "the key does not sign");
    buf_byte(out, '.');
    base64url(out, slice_of(signature, len));
    return ERR_OK;
}
