/* slot.h: one numbered object: a 60-byte header, then a canonical JSON body (catalog.md section 10). Pure functions over bytes.
 *
 *   0 magic "SLC1" | 4 type u16 | 6 version u16 | 8 nonce[16] | 24 prev_nonce[16] | 40 seq u64 | 48 body_len u32 | 52 flags u32
 *   56 crc32c u32 over bytes 0-55 and the stored body | 60 body, one zstd frame when flags bit 0
 * Canonical: keys in byte order, no white space, integers within +-2^53. The bucket is untrusted: everything is checked.
 * THREADS  any. TESTS catalog_test.c, slot_fuzz.c. */
#pragma once
#include <jansson.h>

#include "base/buf.h"
#include "base/err.h"

#define SLOT_HEADER_BYTES 60u
#define SLOT_BODY_BYTES_MAX (8u << 20)
#define SLOT_ZSTD_BYTES_MIN 4096u
#define SLOT_DEPTH_MAX 16
#define SLOT_NONE UINT64_MAX

enum slot_type {
    SLOT_CLUSTER = 1,
    SLOT_NAME,
    SLOT_HEAD,
    SLOT_LANE,
    SLOT_CHECKPOINT,
    SLOT_LEASE,
    SLOT_POINT /* backup/ */
};
struct nonce {
    uint8_t bytes[16];
};
struct slot {
    enum slot_type type;
    uint16_t version;
    uint64_t seq;
    struct nonce nonce, prev;
    json_t *body; /* an object; the caller's to json_decref */
};
void slot_encode(enum slot_type type, uint64_t seq, const struct nonce *nonce, const struct nonce *prev, slice body,
                 struct buf *out);
/* ERR_CORRUPT: not a slot of this type and number, or damaged; ERR_INVALID: made by a newer version that this one must not guess. */
MUST_CHECK enum err_code slot_decode(slice bytes, enum slot_type type, uint64_t seq, struct slot *out, struct err *err);
void slot_done(struct slot *s);

static inline bool nonce_eq(const struct nonce *a, const struct nonce *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}
void nonce_hex(const struct nonce *n, char out[33]);
bool nonce_parse(slice hex, struct nonce *out);
/* The first 40 bits in lower-case base32 (Crockford), as file names hold them. */
void nonce_session8(const struct nonce *n, char out[9]);

/* ---- canonical JSON, written by hand because heads are written for every stream: members in any order, sorted at the end */
struct jmember {
    slice key;
    struct buf value;
};
struct jobject {
    struct jmember *items;
    size_t count, cap;
};
struct buf *jobject_put(struct jobject *o, const char *key); /* write the value's text there, before the next put */
void jobject_end(struct jobject *o, struct buf *out);        /* "{...}", keys sorted; empties the object */
void jobject_text(struct jobject *o, const char *key, slice value);
void jobject_int(struct jobject *o, const char *key, int64_t value);
void json_put(struct buf *out, json_t *value); /* canonical text of a decoded value */
void int_put(struct buf *out, int64_t value);

/* Reading: false when absent, of another kind or out of range. Slices live as long as the object. */
bool json_get_text(const json_t *o, const char *key, slice *out);
bool json_get_u64(const json_t *o, const char *key, uint64_t *out);
bool json_get_i64(const json_t *o, const char *key, int64_t *out);
bool json_get_bool(const json_t *o, const char *key);
