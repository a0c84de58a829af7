/* auth.h: who asks, and may they. Today the root user with Basic credentials (contract 4.1, 4.2); users and roles join behind the
 * same calls. THREADS  any. */
#pragma once
#include "base/err.h"
#include "base/slice.h"

struct auth;
struct auth *auth_new(slice username, slice password); /* of the root user; kept as digests */
void auth_free(struct auth *a);

struct auth_user {
    char name[128];
    bool root;
};
enum auth_result {
    AUTH_OK,
    AUTH_NONE,   /* no or malformed credentials: 401 */
    AUTH_REFUSED /* wrong password or unknown user: 403 (the contract's choice) */
};
/* `authorization`: the header's value, ptr NULL if absent. Compares in constant time. */
enum auth_result auth_check(const struct auth *a, slice authorization, struct auth_user *out);
