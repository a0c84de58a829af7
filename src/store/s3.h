/* s3.h: an object store in a bucket of Amazon S3, or of what speaks its protocol (catalog.md section 3).
 *
 * What decides, retries, the clock: remote.h. Every body is signed by its SHA-256, which the server checks; uploads also bear their
 * crc32c, which reads check again where the server kept it. */
#pragma once
#include "store/aws_keys.h"
#include "store/remote.h"

struct s3_options {
    struct remote_options remote;
    const char *region;   /* NULL: us-east-1 */
    const char *endpoint; /* "https://host[:port]"; NULL: Amazon's, of the region */
    bool no_store;        /* objects bear Cache-Control: no-store */
    bool path_style;      /* bucket in the path instead of the host name: most servers but Amazon's */
};
/* Nothing is sent. Takes `keys`. ERR_INVALID: a bad bucket name, endpoint or prefix. */
MUST_CHECK enum err_code store_s3_open(struct os *os, const struct s3_options *opt, struct aws_key_source *keys,
                                       struct store **out, struct err *err);
