/* token.h: OAuth 2 bearer tokens of Google Cloud and of Microsoft Entra, and their renewal before they expire.
 *
 * GOOGLE  the key file given; else that of GOOGLE_APPLICATION_CREDENTIALS; else ~/.config/gcloud/application_default_credentials.json;
 *   else the metadata server. A file is a service account (a signed JWT is exchanged, RFC 7523) or a user (a refresh token).
 * ENTRA  a client's secret; else a federated token (AZURE_FEDERATED_TOKEN_FILE, a workload identity), each with tenant and client from
 *   the settings or AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET; else the machine's managed identity.
 * The first that exists is used: one that exists and fails is an error, not a reason to look on. Tokens live in this process only, are
 * wiped when they are replaced, and are in no message.
 * THREADS  any; one renews, the others wait for it. */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "os/os.h"

enum token_issuer { TOKEN_GOOGLE, TOKEN_ENTRA };
struct token_options {
    enum token_issuer issuer;
    const char *ca_file;                         /* PEM, for who gives them; NULL: the system's */
    const char *key_file;                        /* Google; NULL: look around */
    const char *tenant, *client, *client_secret; /* Entra; NULL: look around */
    const char *metadata_endpoint;               /* NULL: the issuer's of a machine in its cloud */
};
struct token_source;

struct token_source *token_source_new(struct os *os, const struct token_options *opt); /* nothing is read yet */
void token_source_free(struct token_source *s);
/* The token of now, in place of what `out` held; buf_wipe() it. `refused`: the server did not take that of before. ERR_DENIED: there is none, the
 * message says where it looked; ERR_UNAVAILABLE: who gives it does not answer; ERR_INVALID: a file or an answer is no good. */
MUST_CHECK enum err_code token_source_get(struct token_source *s, bool refused, struct buf *out, struct err *err);

/* What a token service answers: {"access_token": "...", "expires_in": 3599}, a number or its text. False: not that. */
bool token_answer_read(slice document, struct buf *token, int64_t *lifetime_s);
