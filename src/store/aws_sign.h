/* aws_sign.h: AWS Signature Version 4 in an Authorization header ("Signing AWS API requests", IAM User Guide; S3 API Reference,
 * "Signature Calculations for the Authorization Header").
 *
 *   canonical request = METHOD \n PATH \n QUERY \n name:value\n... \n names;... \n SHA-256 of the body
 *   string to sign    = AWS4-HMAC-SHA256 \n TIME \n SCOPE \n SHA-256 of the canonical request
 *
 * Pure: bytes and a time in, text out. Tested against the signatures that AWS publishes. THREADS any. */
#pragma once
#include "base/buf.h"

#define SHA256_HEX 64
#define AWS_TIME_TEXT 16 /* 20130524T000000Z */

struct aws_keys {
    slice access_key, secret_key, session_token; /* the token is empty for long-lived keys */
};
struct aws_header {
    const char *name; /* lower case */
    slice value;      /* without white space at its ends */
};
struct aws_request {
    slice method, path, query;        /* path and query percent-encoded, the query's parameters sorted by name */
    const struct aws_header *headers; /* all that are signed, sorted by name, host and x-amz-date among them */
    size_t headers_count;
    char payload[SHA256_HEX + 1]; /* hex of the body's SHA-256 */
};
/* The value of the Authorization header. `time` is what x-amz-date says. */
void aws_sign(const struct aws_request *r, const struct aws_keys *keys, slice region, slice service,
              const char time[AWS_TIME_TEXT + 1], struct buf *out);
void aws_time(int64_t unix_us, char out[AWS_TIME_TEXT + 1]);
void sha256_hex(slice bytes, char out[SHA256_HEX + 1]);
/* RFC 3986: everything but unreserved characters becomes %XX, upper case; '/' stays where `path`. */
void aws_encode(struct buf *out, slice s, bool path);
