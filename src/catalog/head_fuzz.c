/* head_fuzz.c: any JSON object as the body of a head and of a name's slot. A head that is taken is written and read again, to the same
 * bytes. */
#include "catalog/catalog_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool as_slot(enum slot_type type, slice body, struct slot *out)
{
    _cleanup_(buf_done) struct buf bytes = BUF_INIT;
    const struct nonce nonce = {{1}}, prev = {{2}};
    struct err err;

    slot_encode(type, 3, &nonce, &prev, body, &bytes);
    return slot_decode(buf_view(&bytes), type, 3, out, &err) == ERR_OK;
}

static void read_head(slice body)
{
    _cleanup_(buf_done) struct buf first = BUF_INIT, second = BUF_INIT;
    struct head *h = NULL, *again = NULL;
    struct slot s, t;
    struct err err;

    if (!as_slot(SLOT_HEAD, body, &s))
        return;
    enum err_code rc = head_decode(&s, NULL, &h, &err);
    ASSERT(rc == ERR_OK || rc == ERR_CORRUPT || rc == ERR_INVALID);
    if (rc == ERR_OK) {
        head_encode(h, &first);
        ASSERT(as_slot(SLOT_HEAD, buf_view(&first), &t));
        ASSERT(head_decode(&t, h, &again, &err) == ERR_OK);
        head_encode(again, &second);
        ASSERT(slice_eq(buf_view(&first), buf_view(&second)));
        head_unref(again);
        slot_done(&t);
        head_unref(h);
    }
    slot_done(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct name_state state;
    struct slot s;
    struct err err;

    read_head(slice_of(data, size));
    if (as_slot(SLOT_NAME, slice_of(data, size), &s)) {
        enum err_code rc = name_state_get(&s, &state, &err);
        ASSERT(rc == ERR_OK || rc == ERR_CORRUPT || rc == ERR_INVALID);
        slot_done(&s);
    }
    return 0;
}
