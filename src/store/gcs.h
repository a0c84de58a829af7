/* gcs.h: an object store in a bucket of Google Cloud Storage. What decides, retries, the clock: remote.h.
 *
 * Creates go through the JSON API, whose condition ifGenerationMatch=0 holds for uploads of one request and, when they are finished, for
 * resumable ones; reads go to /BUCKET/KEY, as an engine's do. Every object has its crc32c: the server checks that of an upload, and
 * reads of whole objects are checked against it. */
#pragma once
#include "store/remote.h"
#include "store/token.h"

struct gcs_options {
    struct remote_options remote;
    const char *endpoint; /* "https://host[:port]"; NULL: Google's */
};
/* Nothing is sent. Takes `tokens`; NULL: no credentials are shown, as emulators want it. ERR_INVALID: a bad bucket name or endpoint. */
MUST_CHECK enum err_code store_gcs_open(struct os *os, const struct gcs_options *opt, struct token_source *tokens,
                                        struct store **out, struct err *err);
/* A page of a list, {"items": [{"name", "size", "updated"}], "prefixes": [...], "nextPageToken"}. */
MUST_CHECK enum err_code gcs_list_page(struct remote_page *p, slice document, struct err *err);
