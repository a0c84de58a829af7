/* credential.h: what the sources of credentials share: asking the services that hand them out, and when to ask again. */
#pragma once
#include "store/exchange.h"

#define CREDENTIAL_NEVER INT64_MAX
struct credential_age {
    int64_t expires_us, retry_us; /* wall clock; expires_us CREDENTIAL_NEVER: it does not end */
    bool have;
};
/* Is it time for new ones? Yes, too, when a server refused these, unless it was only just tried. */
bool credential_due(const struct credential_age *a, int64_t now_us, bool refused);
/* A renewal begins: one that fails while the old ones still hold is tried again later. */
void credential_tried(struct credential_age *a, int64_t now_us);

struct exchange_pool *credential_pool(const char *ca_file);
/* One request. ERR_UNAVAILABLE; ERR_DENIED: it answered something else than 200. The answer may hold secrets: buf_wipe() it. */
MUST_CHECK enum err_code credential_ask(struct exchange_pool *pool, const char *method, const char *url,
                                        const struct exchange_header *header, slice body, struct buf *reply,
                                        const char *who, struct err *err);
