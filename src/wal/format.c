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

    if (file.len < WAL_SEGMENT_HEAD || le32_get(p) != SEGMENT_MAGIC || le32_get(p + 4) != 1 ||
        le32_get(p + 44) != crc32c(0, p, 44))
        return false;
    *out = (struct wal_segment_head){le64_get(p + 8), le64_get(p + 16), le64_get(p + 24), le64_get(p + 32)};
    return true;
}

uint32_t wal_body_crc(const struct os_iov *body, int n)
{
    uint32_t crc = 0;

    for (int i = 0; i < n; i++)
        crc = crc32c(crc, body[i].ptr, body[i].len);
    return crc;
}

void wal_record_head_put(uint8_t out[WAL_RECORD_HEAD], const struct wal_record_head *h, uint32_t body_crc)
{
    le32_put(out + 4, RECORD_MAGIC);
    le32_put(out + 8, h->body_len);
    le32_put(out + 12, (uint32_t)(h->synced_end / 8));
    le64_put(out + 16, h->pos.segment);
    le64_put(out + 24, h->pos.offset);
    le32_put(out, crc32c(body_crc, out + 4, WAL_RECORD_HEAD - 4));
}

/* Fields of the record that claims to stand at `at`; nothing is checked but that claim and the length. */
static bool record_claim(slice file, uint64_t segment, uint64_t at, struct wal_record_head *out)
{
    if (at > file.len || file.len - at < WAL_RECORD_HEAD)
        return false;
    const uint8_t *p = file.ptr + at;
    if (le32_get(p + 4) != RECORD_MAGIC || le64_get(p + 16) != segment || le64_get(p + 24) != at)
        return false;
    *out = (struct wal_record_head){{segment, at}, le32_get(p + 8), UINT64_C(8) * le32_get(p + 12)};
    return true;
}

static bool record_valid(slice file, const struct wal_record_head *h)
{
    const uint8_t *p = file.ptr + h->pos.offset;

    if (h->body_len > WAL_BODY_BYTES_MAX || h->body_len > file.len - h->pos.offset - WAL_RECORD_HEAD)
        return false;
    return le32_get(p) == crc32c(crc32c(0, p + WAL_RECORD_HEAD, h->body_len), p + 4, WAL_RECORD_HEAD - 4);
}

bool wal_record_get(slice file, uint64_t segment, uint64_t *offset, slice *body)
{
    struct wal_record_head h;

    if (!record_claim(file, segment, *offset, &h) || !record_valid(file, &h))
        return false;
    *body = slice_of(file.ptr + *offset + WAL_RECORD_HEAD, h.body_len);
    *offset += wal_record_size(h.body_len);
    return true;
}

struct wal_tail wal_tail_scan(slice file, uint64_t segment, uint64_t offset)
{
    struct wal_tail tail = {0};
    struct wal_record_head h;

    for (uint64_t at = (offset + 7) & ~UINT64_C(7); at < file.len; at += 8) {
        if (!record_claim(file, segment, at, &h))
            continue;
        uint64_t len = MIN(h.body_len, file.len - at - WAL_RECORD_HEAD);
        tail.torn_bytes = MAX(tail.torn_bytes, at + WAL_RECORD_HEAD + len - offset);
        if (h.synced_end > tail.synced_end && record_valid(file, &h))
            tail.synced_end = h.synced_end;
    }
    return tail;
}

void wal_header_print(const struct wal_header *h, struct buf *out)
{
    buf_fmt(out, "sluice-wal 1\nwal_id %s\nlane %s\nsession %s\n", h->wal_id, h->lane[0] ? h->lane : "-",
            h->session[0] ? h->session : "-");
    if (h->commit_id[0])
        buf_fmt(out, "commit_id %s\nbase %llu\n", h->commit_id, (unsigned long long)h->base);
    if (h->cluster[0])
        buf_fmt(out, "cluster %s\n", h->cluster);
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
    char version[8], crc[16], base[24] = "0";
    struct wal_header h = {0};
    slice all = text;

    if (take_line(&text, slice_lit("sluice-wal"), version, sizeof(version)) && strcmp(version, "1") == 0 &&
        take_line(&text, slice_lit("wal_id"), h.wal_id, sizeof(h.wal_id)) &&
        take_line(&text, slice_lit("lane"), h.lane, sizeof(h.lane)) &&
        take_line(&text, slice_lit("session"), h.session, sizeof(h.session)) &&
        (!slice_starts(text, slice_lit("commit_id ")) ||
         (take_line(&text, slice_lit("commit_id"), h.commit_id, sizeof(h.commit_id)) &&
          take_line(&text, slice_lit("base"), base, sizeof(base)) && h.commit_id[0])) &&
        slice_u64(slice_str(base), &h.base) && (base[0] != '0' || !base[1]) && /* as it is printed, and no other way */
        (!slice_starts(text, slice_lit("cluster ")) ||
         (take_line(&text, slice_lit("cluster"), h.cluster, sizeof(h.cluster)) && h.cluster[0]))) {
        _cleanup_(freep) char *want = mem_fmt("%08x", crc32c(0, all.ptr, all.len - text.len));
        if (take_line(&text, slice_lit("crc32c"), crc, sizeof(crc)) && strcmp(crc, want) == 0 && text.len == 0) {
            *out = h;
            return ERR_OK;
        }
    }
    return err_set(err, ERR_CORRUPT, "the WAL's header file is damaged; restore it from `header.new` or a backup");
}
