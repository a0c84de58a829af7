/* aws_sign.c: see aws_sign.h. */
#include "store/aws_sign.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>

#include "base/err.h"
#include "base/timetext.h"

#include "base/banned.h"

#define SHA256_BYTES 32

static void hex(const uint8_t *p, char *out)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < SHA256_BYTES; i++) {
        out[2 * i] = digits[p[i] >> 4];
        out[2 * i + 1] = digits[p[i] & 15];
    }
    out[SHA256_HEX] = '\0';
}

void sha256_hex(slice bytes, char out[SHA256_HEX + 1])
{
    uint8_t digest[SHA256_BYTES];
    unsigned len = 0;

    ASSERT(EVP_Digest(bytes.ptr, bytes.len, digest, &len, EVP_sha256(), NULL) == 1 && len == sizeof(digest));
    hex(digest, out);
}

static void hmac(const uint8_t *key, size_t key_len, slice message, uint8_t out[SHA256_BYTES])
{
    unsigned len = 0;

    ASSERT(HMAC(EVP_sha256(), key, (int)key_len, message.ptr, message.len, out, &len) && len == SHA256_BYTES);
}

void aws_time(int64_t unix_us, char out[AWS_TIME_TEXT + 1])
{
    struct civil c = civil_of(unix_us);
    char text[TIME_TEXT_MAX * 2];

    (void)snprintf(text, sizeof(text), "%04lld%02d%02dT%02d%02d%02dZ", (long long)(c.year % 10000), c.month, c.day,
                   c.hour, c.minute, c.second);
    memcpy(out, text, AWS_TIME_TEXT);
    out[AWS_TIME_TEXT] = '\0';
}

void aws_encode(struct buf *out, slice s, bool path)
{
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.ptr[i];
        bool plain = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
                     c == '.' || c == '_' || c == '~' || (path && c == '/');
        if (plain)
            buf_byte(out, c);
        else
            buf_fmt(out, "%%%02X", c);
    }
}

static void signed_names(const struct aws_request *r, struct buf *out)
{
    for (size_t i = 0; i < r->headers_count; i++) {
        if (i)
            buf_byte(out, ';');
        buf_str(out, r->headers[i].name);
    }
}

static void canonical(const struct aws_request *r, slice names, struct buf *out)
{
    buf_slice(out, r->method);
    buf_byte(out, '\n');
    buf_slice(out, r->path);
    buf_byte(out, '\n');
    buf_slice(out, r->query);
    buf_byte(out, '\n');
    for (size_t i = 0; i < r->headers_count; i++) {
        buf_str(out, r->headers[i].name);
        buf_byte(out, ':');
        buf_slice(out, r->headers[i].value);
        buf_byte(out, '\n');
    }
    buf_byte(out, '\n');
    buf_slice(out, names);
    buf_byte(out, '\n');
    buf_str(out, r->payload);
}

static void signing_key(slice secret, slice day, slice region, slice service, uint8_t key[SHA256_BYTES])
{
    struct buf first = BUF_INIT;

    buf_str(&first, "AWS4");
    buf_slice(&first, secret);
    hmac(first.ptr, first.len, day, key);
    explicit_bzero(first.ptr, first.len);
    buf_done(&first);
    hmac(key, SHA256_BYTES, region, key);
    hmac(key, SHA256_BYTES, service, key);
    hmac(key, SHA256_BYTES, slice_lit("aws4_request"), key);
}

void aws_sign(const struct aws_request *r, const struct aws_keys *keys, slice region, slice service,
              const char time[AWS_TIME_TEXT + 1], struct buf *out)
{
    _cleanup_(buf_done) struct buf names = BUF_INIT;
    _cleanup_(buf_done) struct buf request = BUF_INIT;
    _cleanup_(buf_done) struct buf text = BUF_INIT;
    _cleanup_(buf_done) struct buf scope = BUF_INIT;
    slice day = slice_of(time, 8);
    uint8_t key[SHA256_BYTES], signature[SHA256_BYTES];
    char digest[SHA256_HEX + 1];

    signed_names(r, &names);
    canonical(r, buf_view(&names), &request);
    sha256_hex(buf_view(&request), digest);
    buf_fmt(&scope, SLICE_FMT "/" SLICE_FMT "/" SLICE_FMT "/aws4_request", SLICE_ARG(day), SLICE_ARG(region),
            SLICE_ARG(service));
    buf_fmt(&text, "AWS4-HMAC-SHA256\n%s\n", time);
    buf_slice(&text, buf_view(&scope));
    buf_fmt(&text, "\n%s", digest);
    signing_key(keys->secret_key, day, region, service, key);
    hmac(key, sizeof(key), buf_view(&text), signature);
    explicit_bzero(key, sizeof(key));
    hex(signature, digest);
    buf_str(out, "AWS4-HMAC-SHA256 Credential=");
    buf_slice(out, keys->access_key);
    buf_byte(out, '/');
    buf_slice(out, buf_view(&scope));
    buf_str(out, ", SignedHeaders=");
    buf_slice(out, buf_view(&names));
    buf_fmt(out, ", Signature=%s", digest);
}
