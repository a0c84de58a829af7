/* slot_fuzz.c: any bytes as a slot, as they are and with a checksum that fits, which a fuzzer does not guess; and any bytes as the key of an
 * object in a listing. What was read is written canonically, and then reads the same. */
#include "base/hash.h"
#include "base/mem.h"
#include "catalog/names.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_slot(slice bytes)
{
    _cleanup_(buf_done) struct buf body = BUF_INIT, again = BUF_INIT, second = BUF_INIT;
    struct slot s, t;
    struct err err;

    if (bytes.len < SLOT_HEADER_BYTES)
        return;
    enum slot_type type = (enum slot_type)le16_get(bytes.ptr + 4);
    enum err_code rc = slot_decode(bytes, type, le64_get(bytes.ptr + 40), &s, &err);
    ASSERT(rc == ERR_OK || rc == ERR_CORRUPT || rc == ERR_INVALID);
    if (rc != ERR_OK)
        return;
    json_put(&body, s.body);
    if (body.len <= SLOT_BODY_BYTES_MAX) {
        slot_encode(type, s.seq, &s.nonce, &s.prev, buf_view(&body), &again);
        ASSERT(slot_decode(buf_view(&again), type, s.seq, &t, &err) == ERR_OK);
        json_put(&second, t.body);
        ASSERT(slice_eq(buf_view(&body), buf_view(&second)) && nonce_eq(&s.nonce, &t.nonce) &&
               nonce_eq(&s.prev, &t.prev));
        slot_done(&t);
    }
    slot_done(&s);
}

static void read_key(slice key)
{
    _cleanup_(buf_done) struct buf text = BUF_INIT;
    struct file_name f, g;
    struct nonce nonce;
    struct sid sid;
    uint64_t slot;

    (void)slot_number(key, &slot);
    (void)manifest_name_parse(key, &slot);
    (void)nonce_parse(key, &nonce);
    (void)sid_parse(key, &sid);
    (void)lane_valid(key);
    if (file_name_parse(key, &f)) {
        file_name_put(&text, &f);
        ASSERT(file_name_parse(buf_view(&text), &g) && g.slot == f.slot && g.session == f.session && g.n == f.n &&
               slice_eq(f.dir, g.dir) && slice_eq(f.lane, g.lane));
    }
    text.len = 0;
    if (name_decode(key, &text)) {
        _cleanup_(buf_done) struct buf enc = BUF_INIT;
        name_encode(buf_view(&text), &enc);
        ASSERT(slice_eq(buf_view(&enc), key));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    read_slot(slice_of(data, size));
    read_key(slice_of(data, size));
    if (size >= SLOT_HEADER_BYTES) {
        uint8_t *mended = mem_alloc(size);
        memcpy(mended, data, size);
        le32_put(mended + 48, (uint32_t)(size - SLOT_HEADER_BYTES));
        le32_put(mended + 56, crc32c(crc32c(0, mended, 56), mended + SLOT_HEADER_BYTES, size - SLOT_HEADER_BYTES));
        read_slot(slice_of(mended, size));
        free(mended);
    }
    return 0;
}
