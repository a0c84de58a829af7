/* azure_sign.h: the Authorization header of Azure Storage's Shared Key ("Authorize with Shared Key", Blob service, version 2015-02-21 and later).
 *
 *   string to sign = METHOD \n eleven header values, each with \n \n x-ms-name:value\n... /ACCOUNT/PATH \nparameter:value...
 *
 * Pure: bytes in, text out. THREADS any. */
#pragma once
#include "store/exchange.h"

struct azure_request {
    const char *method;
    slice path, query; /* as sent, percent-encoded; the query's parameters sorted by name */
    uint64_t body_len;
    const struct exchange_header *headers; /* lower case, sorted by name; x-ms-date and x-ms-version among them */
    size_t headers_count;
};
void azure_string_to_sign(const struct azure_request *r, slice account, struct buf *out);
/* "SharedKey account:signature". ERR_INVALID: the key is no base64. */
MUST_CHECK enum err_code azure_sign(const struct azure_request *r, slice account, slice key, struct buf *out,
                                    struct err *err);
/* "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110, 5.6.7) */
#define AZURE_DATE_TEXT 29
void azure_date(int64_t unix_us, char out[AZURE_DATE_TEXT + 1]);
void azure_base64(struct buf *out, slice bytes);
