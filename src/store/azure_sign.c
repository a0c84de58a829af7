/* azure_sign.c: see azure_sign.h. */
#include "store/azure_sign.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>

#include "base/timetext.h"
#include "store/remote.h"

#include "base/banned.h"

#define SHA256_BYTES 32
#define KEY_BYTES_MAX 256u

void azure_date(int64_t unix_us, char out[AZURE_DATE_TEXT + 1])
{
    static const char days[][4] = {"Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"}; /* 1970-01-01 was a Thursday */
    static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    struct civil c = civil_of(unix_us);
    int64_t day = civil_days(c.year, c.month, c.day);
    char text[TIME_TEXT_MAX * 2];

    (void)snprintf(text, sizeof(text), "%s, %02d %s %04d %02d:%02d:%02d GMT", days[((day % 7) + 7) % 7], c.day,
                   months[c.month - 1], (int)(c.year % 10000), c.hour, c.minute, c.second);
    memcpy(out, text, AZURE_DATE_TEXT);
    out[AZURE_DATE_TEXT] = '\0';
}

void azure_base64(struct buf *out, slice bytes)
{
    buf_reserve(out, bytes.len / 3 * 4 + 8);
    out->len += (size_t)EVP_EncodeBlock(out->ptr + out->len, bytes.ptr, (int)bytes.len);
}

static slice header(const struct azure_request *r, const char *name)
{
    for (size_t i = 0; i < r->headers_count; i++)
        if (strcmp(r->headers[i].name, name) == 0)
            return r->headers[i].value;
    return slice_lit("");
}

static void resource(const struct azure_request *r, slice account, struct buf *out)
{
    _cleanup_(buf_done) struct buf value = BUF_INIT;
    slice rest = r->query;

    buf_byte(out, '/');
    buf_slice(out, account);
    buf_slice(out, r->path);
    while (rest.len) {
        const uint8_t *end = memchr(rest.ptr, '&', rest.len);
        slice pair = slice_head(rest, end ? (size_t)(end - rest.ptr) : rest.len);
        const uint8_t *equals = pair.len ? memchr(pair.ptr, '=', pair.len) : NULL;
        slice name = slice_head(pair, equals ? (size_t)(equals - pair.ptr) : pair.len);
        rest = slice_from(rest, pair.len + 1);
        if (!remote_url_decode(slice_from(pair, name.len + 1), &value))
            value.len = 0; /* we wrote it: it does not happen */
        buf_byte(out, '\n');
        buf_slice(out, name);
        buf_byte(out, ':');
        buf_slice(out, buf_view(&value));
    }
}

void azure_string_to_sign(const struct azure_request *r, slice account, struct buf *out)
{
    static const char *const before[] = {"content-encoding", "content-language"};
    static const char *const after[] = {"content-md5",   "content-type",        "date", "if-modified-since", "if-match",
                                        "if-none-match", "if-unmodified-since", "range"};

    buf_fmt(out, "%s\n", r->method);
    for (size_t i = 0; i < ARRAY_LEN(before); i++)
        buf_fmt(out, SLICE_FMT "\n", SLICE_ARG(header(r, before[i])));
    if (r->body_len)
        buf_fmt(out, "%" PRIu64, r->body_len);
    buf_byte(out, '\n');
    for (size_t i = 0; i < ARRAY_LEN(after); i++)
        buf_fmt(out, SLICE_FMT "\n", SLICE_ARG(header(r, after[i])));
    for (size_t i = 0; i < r->headers_count; i++)
        if (strncmp(r->headers[i].name, "x-ms-", 5) == 0)
            buf_fmt(out, "%s:" SLICE_FMT "\n", r->headers[i].name, SLICE_ARG(r->headers[i].value));
    resource(r, account, out);
}

/* *len: bytes of the key. */
static bool key_decode(slice key, uint8_t out[KEY_BYTES_MAX], int *len)
{
    if (!key.len || key.len % 4 || key.len / 4 * 3 > KEY_BYTES_MAX)
        return false;
    *len = EVP_DecodeBlock(out, key.ptr, (int)key.len);
    if (*len < 0)
        return false;
    for (size_t i = key.len; i > key.len - 2 && key.ptr[i - 1] == '='; i--)
        --*len;
    return true;
}

enum err_code azure_sign(const struct azure_request *r, slice account, slice key, struct buf *out, struct err *err)
{
    _cleanup_(buf_done) struct buf text = BUF_INIT;
    uint8_t secret[KEY_BYTES_MAX], digest[SHA256_BYTES];
    unsigned digest_len = 0;
    int len;

    if (!key_decode(key, secret, &len))
        return err_set(err, ERR_INVALID, "the access key of account " SLICE_FMT " is no base64", SLICE_ARG(account));
    azure_string_to_sign(r, account, &text);
    ASSERT(HMAC(EVP_sha256(), secret, len, text.ptr, text.len, digest, &digest_len) && digest_len == SHA256_BYTES);
    explicit_bzero(secret, sizeof(secret));
    buf_fmt(out, "SharedKey " SLICE_FMT ":", SLICE_ARG(account));
    azure_base64(out, slice_of(digest, sizeof(digest)));
    return ERR_OK;
}
