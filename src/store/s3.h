/* s3.h: an object store in a bucket of Amazon S3, or of what speaks its protocol (catalog.md section 3).
 *
 * WHAT DECIDES  Nothing is decided by a lost reply: a create that may have happened answers ERR_UNKNOWN, 409 and 5xx too, and the
 *   caller reads back (catalog.md R1, R2). Uploads carry a nonce in their metadata and find out by themselves.
 * RETRIES  Reads, lists, removes and uploads are repeated with full jitter, `Retry-After` obeyed, until `retry_us_max`. Creates are not.
 * CHECKSUMS  Every body is signed by its SHA-256, which the server checks; uploads also bear their crc32c, which reads check again
 *   where the server kept it. An ETag is never taken for a checksum.
 * CLOCK  now_us() is the server's Date and the time since; requests are signed with that time as well, so a wrong clock here is no
 *   reason to be refused. */
#pragma once
#include "store/aws_keys.h"
#include "store/store.h"

struct s3_options {
    const char *bucket;
    const char *prefix;   /* keys begin with it and '/'; "" is the whole bucket */
    const char *region;   /* NULL: us-east-1 */
    const char *endpoint; /* "https://host[:port]"; NULL: Amazon's, of the region */
    bool path_style;      /* bucket in the path instead of the host name: most servers but Amazon's */
    const char *ca_file;  /* PEM; NULL: the system's */
    const char *temp_dir; /* uploads are written here first */
    bool read_only;       /* create, upload and remove answer ERR_DENIED */
    int64_t retry_us_max; /* 0: 30 s */
    int64_t stall_us_max; /* less than 1 KiB/s for this long is a failure; 0: 20 s */
};
/* Nothing is sent. Takes `keys`. ERR_INVALID: a bad bucket name, endpoint or prefix. */
MUST_CHECK enum err_code store_s3_open(struct os *os, const struct s3_options *opt, struct aws_key_source *keys,
                                       struct store **out, struct err *err);
/* "s3://bucket/prefix" in its parts; both borrowed from `url`. ERR_INVALID says what is wrong with it. */
MUST_CHECK enum err_code s3_url_parse(slice url, slice *bucket, slice *prefix, struct err *err);
