/* format.c: bytes of segments and of the header file; see wal_int.h. */
#include "base/hash.h"
#include "wal/wal_int.h"

#define SEGMENT_MAGIC 0x4c415753u /* "SWAL" */
#define RECORD_MAGIC 0x31434552u  /* "REC1" */

void wal_segment_head_put(uint8_t out[WAL_SEGMENT_HEAD], const struct wal_segment_head *h)
{
    memset(out, 0, WAL_SEGMENT_HEAD);
    le32_put(out, SEGMENT_MAGIC);
    le32_put(out + 4, 1);
    le64_put(out + 8, h->number);
    le64_put(out + 16, h->wal_hash);
    le64_put(out + 24, h->prev_number);
    le64_put(out + 32, h->prev_end);
    le32_put(out + 44, crc32c(0, out, 44));
}

bool wal_segment_head_get(slice file, struct wal_segment_head *out)
{
    const uint8_t *p = file.ptr;

    if (file.len < WAL_SEGMENT_HEAD || le32_get(p) != SEGMENT_MAGIC || le32_get(p + 4) != 1 || le32_get(p + 44) != crc32c(0, p, 44))
        return false;
    *out = (struct wal_segment_head){le64_get(p + 8), le64_get(p + 16), le64_get(p + 24), le64_get(p + 32)};
    return true;
}

void wal_record_head_put(uint8_t out[WAL_RECORD_HEAD], const struct os_iov *body, int n, uint64_t body_len, uint64_t segment,
                         uint64_t offset)
{
    le32_put(out + 4, RECORD_MAGIC);
    le64_put(out + 8, body_len);
    le64_put(out + 16, segment);
    le64_put(out + 24, offset);
    uint32_t crc = crc32c(0, out + 4, WAL_RECORD_HEAD - 4);
    for (int i = 0; i < n; i++)
        crc = crc32c(crc, body[i].ptr, body[i].len);
    le32_put(out, crc);
}

bool wal_record_get(slice file, uint64_t segment, uint64_t *offset, slice *body)
{
    uint64_t at = *offset;

    if (at > file.len || file.len - at < WAL_RECORD_HEAD)
        return false;
    const uint8_t *p = file.ptr + at;
    uint64_t len = le64_get(p + 8);
    if (le32_get(p + 4) != RECORD_MAGIC || le64_get(p + 16) != segment || le64_get(p + 24) != at || len > WAL_BODY_BYTES_MAX ||
        len > file.len - at - WAL_RECORD_HEAD)
        return false;
    if (le32_get(p) != crc32c(0, p + 4, WAL_RECORD_HEAD - 4 + (size_t)len))
        return false;
    *body = slice_of(p + WAL_RECORD_HEAD, (size_t)len);
    *offset = at + wal_record_size(len);
    return true;
}

uint64_t wal_torn_bytes(slice file, uint64_t segment, uint64_t offset)
{
    uint64_t torn = 0;

    for (uint64_t at = (offset + 7) & ~UINT64_C(7); at + WAL_RECORD_HEAD <= file.len; at += 8) {
        const uint8_t *p = file.ptr + at;
        if (le32_get(p + 4) != RECORD_MAGIC || le64_get(p + 16) != segment || le64_get(p + 24) != at)
            continue;
        uint64_t len = MIN(le64_get(p + 8), file.len - at - WAL_RECORD_HEAD);
        torn = MAX(torn, at + WAL_RECORD_HEAD + len - offset);
    }
    return torn;
}

void wal_header_print(const struct wal_header *h, struct buf *out)
{
    buf_fmt(out, "sluice-wal 1\nwal_id %s\nlane %s\nsession %s\n", h->wal_id, h->lane[0] ? h->lane : "-",
            h->session[0] ? h->session : "-");
    buf_fmt(out, "crc32c %08x\n", crc32c(0, out->ptr, out->len));
}

/* One "key value" line; '-' stands for empty. */
static bool take_line(slice *text, slice key, char *out, size_t out_size)
{
    const uint8_t *end = text->len ? memchr(text->ptr, '\n', text->len) : NULL;

    if (!end)
        return false;
    slice line = slice_of(text->ptr, (size_t)(end - text->ptr));
    *text = slice_from(*text, line.len + 1);
    if (!slice_starts(line, key) || line.len <= key.len || line.ptr[key.len] != ' ')
        return false;
    slice value = slice_from(line, key.len + 1);
    if (slice_eq(value, slice_lit("-")))
        value.len = 0;
    if (value.len >= out_size || (value.len && memchr(value.ptr, 0, value.len)))
        return false;
    if (value.len)
        memcpy(out, value.ptr, value.len);
    out[value.len] = 0;
    return true;
}

enum err_code wal_header_parse(slice text, struct wal_header *out, struct err *err)
{
    char version[8], crc[16];
    struct wal_header h = {0};
    slice all = text;

    if (take_line(&text, slice_lit("sluice-wal"), version, sizeof(version)) && strcmp(version, "1") == 0 &&
        take_line(&text, slice_lit("wal_id"), h.wal_id, sizeof(h.wal_id)) && take_line(&text, slice_lit("lane"), h.lane, sizeof(h.lane)) &&
        take_line(&text, slice_lit("session"), h.session, sizeof(h.session))) {
        _cleanup_(freep) char *want = mem_fmt("%08x", crc32c(0, all.ptr, all.len - text.len));
        if (take_line(&text, slice_lit("crc32c"), crc, sizeof(crc)) && strcmp(crc, want) == 0 && text.len == 0) {
            *out = h;
            return ERR_OK;
        }
    }
    return err_set(err, ERR_CORRUPT, "the WAL's header file is damaged; restore it from `header.new` or a backup");
}
