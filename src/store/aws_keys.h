/* aws_keys.h: where the keys that sign requests come from, and their renewal before they expire.
 *
 * ORDER  those given; else the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN); else a web identity
 *   (AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN, exchanged at STS); else the profile AWS_PROFILE of the file
 *   AWS_SHARED_CREDENTIALS_FILE or ~/.aws/credentials; else the container's (AWS_CONTAINER_CREDENTIALS_FULL_URI or _RELATIVE_URI); else
 *   the instance's role (IMDSv2, or 1 where allowed). The first that exists is kept: one that exists and fails is an error, not a reason to look on.
 * Keys live in this process only, are wiped when they are replaced, and are in no message.
 * THREADS  any; one renews, the others wait for it. */
#pragma once
#include "os/os.h"
#include "store/aws_sign.h"

struct aws_key_options {
    const char *access_key, *secret_key;  /* NULL: look around */
    const char *region;                   /* of STS; NULL: us-east-1 */
    const char *ca_file;                  /* PEM, for STS; NULL: the system's */
    bool imdsv1_fallback;                 /* where the instance's service knows no session tokens */
    const char *metadata_endpoint;        /* of the instance's role; NULL: http://169.254.169.254 */
    const char *sts_endpoint;             /* NULL: Amazon's, of the region; AWS_ENDPOINT_URL_STS overrides */
    const char *(*env)(const char *name); /* NULL: getenv */
};
struct aws_key_copy { /* owns its bytes */
    struct aws_keys keys;
    struct buf bytes;
};
struct aws_key_source;

struct aws_key_source *aws_key_source_new(struct os *os, const struct aws_key_options *opt); /* nothing is read yet */
void aws_key_source_free(struct aws_key_source *s);
/* The keys of now; `refused`: the server did not take those of before, so renew them. ERR_DENIED: there are none, the message says
 * where it looked; ERR_UNAVAILABLE: whoever gives them does not answer; ERR_INVALID: a file or an answer is no good. */
MUST_CHECK enum err_code aws_key_source_get(struct aws_key_source *s, bool refused, struct aws_key_copy *out,
                                            struct err *err);
/* Both ask the same place in the same way: they are one login. */
bool aws_key_source_same(const struct aws_key_source *a, const struct aws_key_source *b);
void aws_key_copy_done(struct aws_key_copy *c); /* wipes */
