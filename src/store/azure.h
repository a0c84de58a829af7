/* azure.h: an object store in a container of Azure Blob Storage. What decides, retries, the clock: remote.h.
 *
 * Requests are signed with the account's key (Shared Key) or bear a token of Entra. Objects are block blobs; the server checks the MD5 of
 * each body, and reads of whole objects are checked against the one it kept. A list can not begin behind a key: what comes before is
 * read and left out, so pages are as large as they may be (5,000; a sequence of the catalog that is collected has some hundred slots, so one page). Markers are
 * opaque by their documents, so none is made up here. Service version 2026-02-06 has a parameter for it; whether its path begins at the container or at the
 * prefix is not written down, and Azurite does not know it: a wrong guess would hide the newest slots. */
#pragma once
#include "store/remote.h"
#include "store/token.h"

struct azure_options {
    struct remote_options remote; /* bucket: the container */
    const char *account;
    const char *endpoint;   /* "https://host[:port][/path]"; NULL: https://ACCOUNT.blob.core.windows.net */
    const char *access_key; /* base64; NULL: tokens */
};
/* Nothing is sent. Takes `tokens`, which are NULL with a key. ERR_INVALID: a bad account, container or endpoint. */
MUST_CHECK enum err_code store_azure_open(struct os *os, const struct azure_options *opt, struct token_source *tokens,
                                          struct store **out, struct err *err);
/* A page of a list, EnumerationResults. */
MUST_CHECK enum err_code azure_list_page(struct remote_page *p, slice document, struct err *err);
