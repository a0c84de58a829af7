#include "catalog/slot.h"

#include <inttypes.h>
#include <stdio.h>
#include <zstd.h>

#include "base/hash.h"

#include "base/banned.h"

#define FLAG_ZSTD 1u
#define FLAGS_REQUIRED 0xffff0000u
#define BODY_VERSION 1
#define INT_MAX_EXACT ((int64_t)1 << 53)

static void put_stored(struct buf *out, slice body, uint32_t *flags)
{
    *flags = 0;
    if (body.len > SLOT_ZSTD_BYTES_MIN) {
        size_t bound = ZSTD_compressBound(body.len);
        buf_reserve(out, bound);
        size_t n = ZSTD_compress(out->ptr + out->len, bound, body.ptr, body.len, 1);
        if (!ZSTD_isError(n)) { /* can only fail for want of memory: stored plain then */
            out->len += n;
            *flags = FLAG_ZSTD;
            return;
        }
    }
    buf_slice(out, body);
}

void slot_encode(enum slot_type type, uint64_t seq, const struct nonce *nonce, const struct nonce *prev, slice body,
                 struct buf *out)
{
    uint8_t h[SLOT_HEADER_BYTES] = "SLC1";
    size_t start = out->len;
    uint32_t flags;

    buf_put(out, h, sizeof(h));
    put_stored(out, body, &flags);
    le16_put(h + 4, (uint16_t)type);
    le16_put(h + 6, BODY_VERSION);
    memcpy(h + 8, nonce->bytes, 16);
    if (prev)
        memcpy(h + 24, prev->bytes, 16);
    le64_put(h + 40, seq);
    le32_put(h + 48, (uint32_t)(out->len - start - SLOT_HEADER_BYTES));
    le32_put(h + 52, flags);
    memcpy(out->ptr + start, h, 56);
    uint32_t crc = crc32c(0, h, 56);
    crc = crc32c(crc, out->ptr + start + SLOT_HEADER_BYTES, out->len - start - SLOT_HEADER_BYTES);
    le32_put(out->ptr + start + 56, crc);
}

static bool body_fits(const json_t *v, int depth)
{
    const char *key;
    json_t *item;
    size_t i;

    if (depth > SLOT_DEPTH_MAX)
        return false;
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        json_object_foreach ((json_t *)(uintptr_t)v, key, item)
            if (!body_fits(item, depth + 1))
                return false;
        return true;
    case JSON_ARRAY:
        json_array_foreach (v, i, item)
            if (!body_fits(item, depth + 1))
                return false;
        return true;
    case JSON_INTEGER: return json_integer_value(v) <= INT_MAX_EXACT && json_integer_value(v) >= -INT_MAX_EXACT;
    case JSON_REAL: return false;
    default: return true;
    }
}

/* jansson's parser recurses up to 2,048 levels, which is fine for a stack; our own limit is checked here, before it. */
static bool shallow(slice text)
{
    int depth = 0;
    bool in_text = false;

    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];
        if (in_text) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_text = false;
        } else if (c == '"') {
            in_text = true;
        } else if (c == '{' || c == '[') {
            if (++depth > SLOT_DEPTH_MAX)
                return false;
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    return true;
}

static enum err_code body_decode(slice text, json_t **out, struct err *err)
{
    json_error_t why;

    if (text.len > SLOT_BODY_BYTES_MAX)
        return err_set(err, ERR_CORRUPT, "slot body of %zu bytes", text.len);
    if (!shallow(text))
        return err_set(err, ERR_CORRUPT, "slot body nested deeper than %d", SLOT_DEPTH_MAX);
    /* A name of a column and a value in statistics may hold U+0000, as the client's JSON may. */
    json_t *v = json_loadb((const char *)text.ptr, text.len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
    if (!v)
        return err_set(err, ERR_CORRUPT, "slot body: %s at %d", why.text, why.position);
    if (!json_is_object(v) || !body_fits(v, 1)) {
        json_decref(v);
        return err_set(err, ERR_CORRUPT, "slot body is not an object of integers and texts");
    }
    *out = v;
    return ERR_OK;
}

static enum err_code stored_decode(slice stored, uint32_t flags, json_t **out, struct err *err)
{
    if (!(flags & FLAG_ZSTD))
        return body_decode(stored, out, err);
    unsigned long long size = ZSTD_getFrameContentSize(stored.ptr, stored.len);
    if (size == ZSTD_CONTENTSIZE_UNKNOWN || size == ZSTD_CONTENTSIZE_ERROR || size > SLOT_BODY_BYTES_MAX)
        return err_set(err, ERR_CORRUPT, "slot body: bad zstd frame");
    _cleanup_(freep) uint8_t *text = mem_alloc((size_t)size + 1);
    size_t n = ZSTD_decompress(text, (size_t)size, stored.ptr, stored.len);
    if (ZSTD_isError(n) || n != size)
        return err_set(err, ERR_CORRUPT, "slot body: %s", ZSTD_isError(n) ? ZSTD_getErrorName(n) : "short zstd frame");
    return body_decode(slice_of(text, n), out, err);
}

enum err_code slot_decode(slice bytes, enum slot_type type, uint64_t seq, struct slot *out, struct err *err)
{
    const uint8_t *p = bytes.ptr;
    json_t *body;

    if (bytes.len < SLOT_HEADER_BYTES || memcmp(p, "SLC1", 4) != 0)
        return err_set(err, ERR_CORRUPT, "not a slot");
    if (le32_get(p + 48) != bytes.len - SLOT_HEADER_BYTES)
        return err_set(err, ERR_CORRUPT, "slot of %zu bytes says its body has %u", bytes.len, le32_get(p + 48));
    if (crc32c(crc32c(0, p, 56), p + SLOT_HEADER_BYTES, bytes.len - SLOT_HEADER_BYTES) != le32_get(p + 56))
        return err_set(err, ERR_CORRUPT, "slot checksum");
    if (le16_get(p + 4) != type || le64_get(p + 40) != seq)
        return err_set(err, ERR_CORRUPT, "slot is of type %u number %" PRIu64 ", not %u %" PRIu64, le16_get(p + 4),
                       le64_get(p + 40), (unsigned)type, seq);
    if (le16_get(p + 6) > BODY_VERSION || (le32_get(p + 52) & FLAGS_REQUIRED))
        return err_set(err, ERR_INVALID, "slot of version %u, flags %x: made by a newer Sluice", le16_get(p + 6),
                       le32_get(p + 52));
    TRY(stored_decode(slice_from(bytes, SLOT_HEADER_BYTES), le32_get(p + 52), &body, err));
    *out = (struct slot){.type = type, .version = le16_get(p + 6), .seq = seq, .body = body};
    memcpy(out->nonce.bytes, p + 8, 16);
    memcpy(out->prev.bytes, p + 24, 16);
    return ERR_OK;
}

void slot_done(struct slot *s)
{
    json_decref(s->body);
    s->body = NULL;
}

/* ---- nonces */

void nonce_hex(const struct nonce *n, char out[33])
{
    for (int i = 0; i < 16; i++)
        (void)snprintf(out + 2 * i, 3, "%02x", n->bytes[i]);
}

bool nonce_parse(slice hex, struct nonce *out)
{
    if (hex.len != 32)
        return false;
    for (size_t i = 0; i < 32; i++) {
        uint8_t c = hex.ptr[i];
        uint8_t v = c >= '0' && c <= '9' ? (uint8_t)(c - '0') : c >= 'a' && c <= 'f' ? (uint8_t)(c - 'a' + 10) : 255;
        if (v == 255)
            return false;
        out->bytes[i / 2] = (uint8_t)(i % 2 ? out->bytes[i / 2] | v : v << 4);
    }
    return true;
}

void nonce_session8(const struct nonce *n, char out[9])
{
    uint64_t v = 0;

    for (int i = 0; i < 5; i++)
        v = v << 8 | n->bytes[i];
    for (int i = 7; i >= 0; i--, v >>= 5)
        out[i] = "0123456789abcdefghjkmnpqrstvwxyz"[v & 31];
    out[8] = 0;
}

/* ---- canonical JSON */

struct buf *jobject_put(struct jobject *o, const char *key)
{
    struct jmember *m = ARRAY_PUSH(o->items, o->count, o->cap);
    m->key = slice_str(key);
    return &m->value;
}

static int by_key(const void *a, const void *b)
{
    return slice_cmp(((const struct jmember *)a)->key, ((const struct jmember *)b)->key);
}

void jobject_end(struct jobject *o, struct buf *out)
{
    if (o->count)
        qsort(o->items, o->count, sizeof(*o->items), by_key);
    buf_byte(out, '{');
    for (size_t i = 0; i < o->count; i++) {
        if (i)
            buf_byte(out, ',');
        buf_json_str(out, o->items[i].key);
        buf_byte(out, ':');
        buf_slice(out, buf_view(&o->items[i].value));
        buf_done(&o->items[i].value);
    }
    buf_byte(out, '}');
    free(o->items);
    *o = (struct jobject){0};
}

void int_put(struct buf *out, int64_t value)
{
    char text[24];
    uint64_t v = value < 0 ? (uint64_t)0 - (uint64_t)value : (uint64_t)value;
    size_t at = sizeof(text);

    do
        text[--at] = (char)('0' + v % 10);
    while (v /= 10);
    if (value < 0)
        text[--at] = '-';
    buf_put(out, text + at, sizeof(text) - at);
}

void jobject_text(struct jobject *o, const char *key, slice value)
{
    buf_json_str(jobject_put(o, key), value);
}

void jobject_int(struct jobject *o, const char *key, int64_t value)
{
    int_put(jobject_put(o, key), value);
}

static int dump_to(const char *data, size_t len, void *arg)
{
    buf_put(arg, data, len);
    return 0;
}

void json_put(struct buf *out, json_t *value)
{
    (void)json_dump_callback(value, dump_to, out,
                             JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY); /* dump_to can not fail */
}

bool json_get_text(const json_t *o, const char *key, slice *out)
{
    const json_t *v = json_object_get(o, key);

    if (!json_is_string(v))
        return false;
    *out = slice_of(json_string_value(v), json_string_length(v));
    return true;
}

bool json_get_i64(const json_t *o, const char *key, int64_t *out)
{
    const json_t *v = json_object_get(o, key);

    if (!json_is_integer(v))
        return false;
    *out = json_integer_value(v);
    return true;
}

bool json_get_u64(const json_t *o, const char *key, uint64_t *out)
{
    int64_t v;

    if (!json_get_i64(o, key, &v) || v < 0)
        return false;
    *out = (uint64_t)v;
    return true;
}

bool json_get_bool(const json_t *o, const char *key)
{
    return json_is_true(json_object_get(o, key));
}
