/* jwt.h: JSON Web Tokens signed with RS256 (RFC 7515, RFC 7518 section 3.3), over libcrypto. THREADS any. */
#pragma once
#include "base/buf.h"
#include "base/err.h"

/* header.claims.signature; `header` and `claims` are JSON, `key` a private RSA key in PEM. ERR_INVALID: no such key. */
MUST_CHECK enum err_code jwt_sign(slice header, slice claims, slice key, struct buf *out, struct err *err);
void base64url(struct buf *out, slice bytes); /* without padding */
