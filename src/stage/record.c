/* record.c: the WAL body of one request. It holds what decoding needs besides the stream's schema, so that a replay under
 * another configuration rebuilds the rows that were acknowledged.
 *
 *   offset size                              offset size
 *        0    1  version, 1                      16    8  p_timestamp, microseconds
 *        1    1  flags: 1 NDJSON, 2 internal,    24   26  sid
 *                4 stale
 *        2    1  enum decode_flatten             50    2  name length
 *        3    1  0                               52    4  0
 *        4    4  flatten level                   56    8  body length
 *        8    4  number of pairs                 64       name; pairs as {u32 name length, u32 value length, name, value}; body
 *       12    4  0
 */
#include "stage/lake_int.h"

#define RECORD_VERSION 1
#define RECORD_HEAD 64

void record_encode(const struct record *r, struct buf *head)
{
    uint8_t h[RECORD_HEAD] = {0}, lens[8];

    h[0] = RECORD_VERSION;
    h[1] = (uint8_t)((r->newline_delimited ? 1 : 0) | (r->internal ? 2 : 0) | (r->stale ? 4 : 0));
    h[2] = r->flatten;
    le32_put(h + 4, r->flatten_level);
    le32_put(h + 8, r->pairs_count);
    le64_put(h + 16, (uint64_t)r->p_timestamp_us);
    memcpy(h + 24, r->sid.text, 26);
    le16_put(h + 50, (uint16_t)r->name.len);
    le64_put(h + 56, r->body.len);
    buf_put(head, h, sizeof(h));
    buf_slice(head, r->name);
    for (uint32_t i = 0; i < r->pairs_count; i++) {
        le32_put(lens, (uint32_t)r->pairs[i].name.len);
        le32_put(lens + 4, (uint32_t)r->pairs[i].value.len);
        buf_put(head, lens, 8);
        buf_slice(head, r->pairs[i].name);
        buf_slice(head, r->pairs[i].value);
    }
}

static bool take(slice *s, size_t len, slice *out)
{
    if (s->len < len)
        return false;
    *out = slice_head(*s, len);
    *s = slice_from(*s, len);
    return true;
}

enum err_code record_decode(slice bytes, struct arena *arena, struct record *out, struct err *err)
{
    slice head, pair;
    struct record r = {0};

    if (!take(&bytes, RECORD_HEAD, &head) || head.ptr[0] != RECORD_VERSION)
        return err_set(err, ERR_CORRUPT, "WAL record: no version %d header", RECORD_VERSION);
    r.newline_delimited = head.ptr[1] & 1;
    r.internal = head.ptr[1] & 2;
    r.stale = head.ptr[1] & 4;
    r.flatten = head.ptr[2];
    r.flatten_level = le32_get(head.ptr + 4);
    r.pairs_count = le32_get(head.ptr + 8);
    r.p_timestamp_us = (int64_t)le64_get(head.ptr + 16);
    memcpy(r.sid.text, head.ptr + 24, 26);
    if (!take(&bytes, le16_get(head.ptr + 50), &r.name) || r.pairs_count > bytes.len / 8)
        return err_set(err, ERR_CORRUPT, "WAL record: name or pairs beyond its end");
    r.pairs = arena_zalloc(arena, r.pairs_count * sizeof(*r.pairs));
    for (uint32_t i = 0; i < r.pairs_count; i++)
        if (!take(&bytes, 8, &pair) || !take(&bytes, le32_get(pair.ptr), &r.pairs[i].name) ||
            !take(&bytes, le32_get(pair.ptr + 4), &r.pairs[i].value))
            return err_set(err, ERR_CORRUPT, "WAL record: pair %u beyond its end", i);
    if (bytes.len != le64_get(head.ptr + 56))
        return err_set(err, ERR_CORRUPT, "WAL record: body of %zu bytes, want %llu", bytes.len,
                       (unsigned long long)le64_get(head.ptr + 56));
    r.body = bytes;
    *out = r;
    return ERR_OK;
}
