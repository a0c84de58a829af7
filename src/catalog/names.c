#include "catalog/names.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/hash.h"
#include "base/ulid.h"
#include "catalog/alnum_table.h"

#include "base/banned.h"

static const char base32[] = "0123456789abcdefghjkmnpqrstvwxyz";

static bool plain(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

void name_encode(slice name, struct buf *out)
{
    for (size_t i = 0; i < name.len; i++) {
        if (plain(name.ptr[i])) {
            buf_byte(out, name.ptr[i]);
        } else {
            buf_byte(out, '~');
            buf_byte(out, (uint8_t) "0123456789abcdef"[name.ptr[i] >> 4]);
            buf_byte(out, (uint8_t) "0123456789abcdef"[name.ptr[i] & 15]);
        }
    }
}

static int hex_digit(uint8_t c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool name_decode(slice enc, struct buf *out)
{
    size_t start = out->len;

    for (size_t i = 0; i < enc.len; i++) {
        uint8_t c = enc.ptr[i];
        if (c == '~') {
            if (enc.len - i < 3 || hex_digit(enc.ptr[i + 1]) < 0 || hex_digit(enc.ptr[i + 2]) < 0)
                goto bad;
            c = (uint8_t)(hex_digit(enc.ptr[i + 1]) << 4 | hex_digit(enc.ptr[i + 2]));
            if (plain(c)) /* one name, one encoding */
                goto bad;
            i += 2;
        } else if (!plain(c)) {
            goto bad;
        }
        buf_byte(out, c);
    }
    if (enc.len)
        return true;
bad:
    out->len = start;
    return false;
}

/* ---- contract 3.1 */

/* One code point, strictly (RFC 3629); 0 bytes: not UTF-8. */
static size_t utf8_next(slice s, uint32_t *out)
{
    uint8_t c = s.ptr[0];
    size_t n = c < 0x80 ? 1 : (c & 0xe0) == 0xc0 ? 2 : (c & 0xf0) == 0xe0 ? 3 : (c & 0xf8) == 0xf0 ? 4 : 0;
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};

    if (n == 0 || n > s.len)
        return 0;
    uint32_t v = n == 1 ? c : c & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((s.ptr[i] & 0xc0) != 0x80)
            return 0;
        v = v << 6 | (s.ptr[i] & 0x3f);
    }
    if (v < least[n] || v > 0x10ffff || (v >= 0xd800 && v < 0xe000))
        return 0;
    *out = v;
    return n;
}

static bool alnum(uint32_t c)
{
    size_t lo = 0, hi = ARRAY_LEN(alnum_ranges);

    if (c < 0x80)
        return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (alnum_ranges[mid].to < c)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < ARRAY_LEN(alnum_ranges) && alnum_ranges[lo].from <= c;
}

static bool reserved(slice name)
{
    static const char *const words[] = {"select", "from",   "where", "group", "by", "order",
                                        "limit",  "offset", "join",  "and",   "sql"};

    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (slice_eq(name, slice_str(words[i])))
            return true;
    return false;
}

static enum err_code name_check(slice name, struct err *err)
{
    _cleanup_(buf_done) struct buf enc = BUF_INIT;
    uint32_t c;

    if (name.len == 0)
        return err_set(err, ERR_INVALID, "Stream name cannot be empty");
    if (slice_eq(name, slice_lit("DEFAULT_TENANT")))
        return err_set(err, ERR_INVALID, "The stream name DEFAULT_TENANT is reserved for internal use");
    for (size_t i = 0, n; i < name.len; i += n) {
        n = utf8_next(slice_from(name, i), &c);
        if (n == 0)
            return err_set(err, ERR_INVALID, "Stream name cannot contain bytes that are not UTF-8");
        if (c == ' ' || (c >= '\t' && c <= '\r'))
            return err_set(err, ERR_INVALID, "Stream name cannot contain whitespace");
        if (!alnum(c) && c != '-' && c != '_')
            return err_set(err, ERR_INVALID, "Stream name cannot contain special character: " SLICE_FMT,
                           SLICE_ARG(slice_of(name.ptr + i, n)));
    }
    if (reserved(name))
        return err_set(err, ERR_INVALID, "SQL keyword cannot be used as stream name");
    name_encode(name, &enc);
    if (enc.len > ENC_NAME_BYTES_MAX)
        return err_set(err, ERR_INVALID, "Stream name cannot be longer than %u bytes as an object's name",
                       ENC_NAME_BYTES_MAX);
    return ERR_OK;
}

enum err_code stream_name_check(slice name, struct err *err)
{
    enum err_code rc = name_check(name, err);

    if (rc != ERR_OK)
        (void)err_wrap(err, "Stream name validation failed"); /* the beginning that clients look for: contract 3.1 */
    return rc;
}

/* ---- keys */

bool sid_parse(slice text, struct sid *out)
{
    struct ulid u;

    if (!ulid_parse(text, &u) || memcmp(u.text, text.ptr, ULID_LEN) != 0) /* lower case only: one spelling */
        return false;
    memcpy(out->text, u.text, sizeof(out->text));
    return true;
}

uint32_t sid_shard(const struct sid *sid, uint32_t shards)
{
    return (uint32_t)(hash64(sid_slice(sid), 0) % shards);
}

void seq_cluster(struct buf *out)
{
    buf_str(out, ".sluice/cluster/");
}

void seq_lane(struct buf *out, slice lane)
{
    buf_str(out, ".sluice/lanes/");
    buf_slice(out, lane);
    buf_byte(out, '/');
}

void seq_shard(struct buf *out, uint32_t shard)
{
    buf_fmt(out, ".sluice/shards/%" PRIu32 "/", shard);
}

void seq_name(struct buf *out, slice name)
{
    buf_str(out, ".sluice/names/");
    name_encode(name, out);
    buf_byte(out, '/');
}

void seq_head(struct buf *out, slice name, const struct sid *sid)
{
    name_encode(name, out);
    buf_byte(out, '/');
    buf_slice(out, sid_slice(sid));
    buf_str(out, "/_head/");
}

void slot_key(struct buf *out, slice prefix, uint64_t slot)
{
    buf_slice(out, prefix);
    buf_fmt(out, "%020" PRIu64, slot);
}

bool slot_number(slice text, uint64_t *out)
{
    return text.len == 20 && slice_u64(text, out) && *out != SLOT_NONE;
}

bool lane_valid(slice lane)
{
    if (lane.len < 2 || lane.len > 23 || (lane.ptr[0] != 'n' && lane.ptr[0] != 'k'))
        return false;
    for (size_t i = 1; i < lane.len; i++)
        if (hex_digit(lane.ptr[i]) < 0 || (lane.ptr[0] == 'n' && lane.ptr[i] > '9'))
            return false;
    return true;
}

/* ---- files */

static bool take_until(slice *s, uint8_t c, slice *out)
{
    const uint8_t *p = s->len ? memchr(s->ptr, c, s->len) : NULL;

    if (!p)
        return false;
    *out = slice_of(s->ptr, (size_t)(p - s->ptr));
    *s = slice_from(*s, out->len + 1);
    return true;
}

static bool session8_parse(slice s, uint64_t *out)
{
    uint64_t v = 0;

    if (s.len != 8)
        return false;
    for (size_t i = 0; i < 8; i++) {
        const char *p = s.ptr[i] ? memchr(base32, s.ptr[i], 32) : NULL;
        if (!p)
            return false;
        v = v << 5 | (uint64_t)(p - base32);
    }
    *out = v;
    return true;
}

bool file_name_parse(slice path, struct file_name *out)
{
    struct file_name f = {.dir = path};
    slice rest, part, slot;
    uint64_t n;

    while (f.dir.len && f.dir.ptr[f.dir.len - 1] != '/')
        f.dir.len--;
    rest = slice_from(path, f.dir.len);
    if (!slice_ends(rest, slice_lit(".parquet")) || f.dir.len == 0)
        return false;
    rest.len -= 8;
    if (!take_until(&rest, '-', &part))
        return false;
    if (part.len == 21 && part.ptr[0] == 'c') {
        slot = slice_from(part, 1);
    } else {
        f.lane = part;
        if (!lane_valid(part) || !take_until(&rest, '-', &slot))
            return false;
    }
    if (!slot_number(slot, &f.slot) || !take_until(&rest, '-', &part) || !session8_parse(part, &f.session))
        return false;
    if (!slice_u64(rest, &n) || n >= 1u << 24 || (rest.len > 1 && rest.ptr[0] == '0'))
        return false;
    f.n = (uint32_t)n;
    *out = f;
    return true;
}

void file_name_put(struct buf *out, const struct file_name *f)
{
    char session[9];

    for (int i = 0; i < 8; i++)
        session[i] = base32[f->session >> (35 - 5 * i) & 31];
    session[8] = 0;
    buf_slice(out, f->dir);
    if (f->lane.len) {
        buf_slice(out, f->lane);
        buf_byte(out, '-');
    } else {
        buf_byte(out, 'c');
    }
    buf_fmt(out, "%020" PRIu64 "-%s-%" PRIu32 ".parquet", f->slot, session, f->n);
}

static bool meta_name_parse(slice name, const char *ending, uint64_t *head_slot)
{
    slice part, end = slice_str(ending);
    uint64_t session, n;

    if (!slice_ends(name, end))
        return false;
    name.len -= end.len;
    return take_until(&name, '-', &part) && slot_number(part, head_slot) && take_until(&name, '-', &part) &&
           session8_parse(part, &session) && slice_u64(name, &n);
}

bool manifest_name_parse(slice name, uint64_t *head_slot)
{
    return meta_name_parse(name, ".slm", head_slot);
}

bool filter_name_parse(slice name, uint64_t *head_slot)
{
    return meta_name_parse(name, ".slf", head_slot);
}

/* A long one is told from others by its hash: file systems take 255 bytes in a path element. */
void file_value_put(struct buf *out, slice s)
{
    size_t from = out->len;

    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.ptr[i];
        if (out->len - from > FILE_VALUE_MAX - 3) {
            buf_fmt(out, "-%016llx", (unsigned long long)hash64(s, 0));
            return;
        }
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_')
            buf_byte(out, c);
        else
            buf_fmt(out, "%%%02X", c);
    }
}
