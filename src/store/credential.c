/* credential.c: see credential.h. */
#include "store/credential.h"

#include "base/banned.h"

#define RENEW_BEFORE_US INT64_C(300000000) /* what ends sooner is renewed */
#define RETRY_US INT64_C(10000000)
#define REPLY_BYTES_MAX (256u << 10)

bool credential_due(const struct credential_age *a, int64_t now_us, bool refused)
{
    bool ends = a->expires_us != CREDENTIAL_NEVER && a->expires_us - RENEW_BEFORE_US < now_us;
    return !a->have || ((ends || refused) && now_us >= a->retry_us);
}

void credential_tried(struct credential_age *a, int64_t now_us)
{
    a->retry_us = now_us + RETRY_US;
}

struct exchange_pool *credential_pool(const char *ca_file)
{
    const struct exchange_options opt = {
        .ca_file = ca_file, .connect_us_max = 2000000, .stall_us_max = 10000000, .exchange_us_max = 20000000};
    return exchange_pool_new(&opt);
}

enum err_code credential_ask(struct exchange_pool *pool, const char *method, const char *url,
                             const struct exchange_header *header, slice body, struct buf *reply, const char *who,
                             struct err *err)
{
    struct exchange x = {.method = method,
                         .url = url,
                         .headers = header,
                         .headers_count = header != NULL,
                         .body = body,
                         .reply_max = REPLY_BYTES_MAX,
                         .reply = reply};
    enum err_code rc = ERR_OK;

    exchange_run(pool, &x, 1);
    if (x.code != ERR_OK)
        rc = err_set(err, ERR_UNAVAILABLE, "credentials of %s: %s", who, x.problem);
    else if (x.status != 200)
        rc = err_set(err, x.status == 429 || x.status >= 500 ? ERR_UNAVAILABLE : ERR_DENIED,
                     "credentials of %s: it answered %ld", who, x.status);
    exchange_done(&x);
    return rc;
}
