/* answers_fuzz.c: any bytes as what a store or a token service answers; the first byte says as what. */
#include "store/azure.h"
#include "store/gcs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool look(void *arg, const struct store_list_item *item)
{
    (void)arg;
    ASSERT(item->key.len && (item->is_prefix || store_key_valid(item->key)));
    return item->key.ptr[0] != 's'; /* stops at some */
}

static void list(enum err_code (*page)(struct remote_page *, slice, struct err *), slice document)
{
    const struct remote r = {.prefix = (char[]){"p/"}};
    struct remote_page p = {.r = &r, .after = slice_lit("b"), .fn = look};

    enum err_code rc = page(&p, document, NULL);
    ASSERT(rc == ERR_OK || p.bad || p.stopped || rc == ERR_CORRUPT);
    buf_done(&p.key);
    buf_done(&p.token);
}

static void token(slice document)
{
    struct buf text = BUF_INIT;
    int64_t lifetime_s;

    if (token_answer_read(document, &text, &lifetime_s))
        ASSERT(text.len && lifetime_s > 0 && !memchr(text.ptr, '\n', text.len));
    buf_done(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    slice document = size ? slice_of(data + 1, size - 1) : (slice){0};

    switch (size ? data[0] : '\0') {
    case 'g': list(gcs_list_page, document); break;
    case 'a': list(azure_list_page, document); break;
    case 't': token(document); break;
    default: break;
    }
    return 0;
}
