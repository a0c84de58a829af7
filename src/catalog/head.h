/* head.h: one version of one stream incarnation (catalog.md section 6), decoded. Immutable once made; a change is a copy that is edited
 * (head_copy), encoded and appended. Files, manifests, filters and the schema are shared by reference.
 *
 *   {"claims","config","deleted","fields"...}: see head_encode(). Unknown members of the object survive a rewrite.
 * THREADS  any (immutable; atomic counts). TESTS catalog_test.c, head_fuzz.c. */
#pragma once
#include "base/arena.h"
#include "catalog/entry.h"
#include "catalog/filter.h"
#include "catalog/manifest.h"

#define HEAD_INLINE_MAX 256u
#define FIELD_ID_TIME 1u

struct head_wm {
    slice lane;
    uint64_t slot; /* records up to here are folded in */
};
struct head_claim { /* a compaction under way: section 8 */
    slice job;      /* nonce of the job, hex */
    uint64_t slot;  /* head slot of the claim: names its outputs */
    int64_t deadline_us;
    slice node, boot; /* whose it is, and of which start of it; empty: made before claims said so */
    slice *inputs;
    size_t inputs_count;
};
struct head_sums {
    uint64_t rows, raw_bytes, file_bytes, files;
};
struct head {
    _Atomic uint32_t refs;
    struct arena arena;
    uint64_t slot;
    struct nonce nonce;
    bool dead;
    bool
        bare; /* in memory only: the store has no head of this incarnation, its name slot says what version 0 is (catalog_int.h, BARE) */
    struct sid sid;
    slice name;
    struct stream_config config; /* slices in the arena */
    struct schema *schema;
    uint32_t schema_id, next_field_id;
    struct head_wm *wm;
    size_t wm_count, wm_cap;
    struct manifest **manifests; /* references */
    size_t manifests_count, manifests_cap;
    struct filter **filters; /* references */
    size_t filters_count, filters_cap;
    struct entry_list files; /* inline */
    struct head_claim *claims;
    size_t claims_count, claims_cap;
    struct head_sums lifetime, deleted;
    json_t *extra; /* members we do not know */
};
struct head *head_new(slice name, const struct sid *sid);
struct head *head_ref(struct head *h);
void head_unref(struct head *h);
DEFINE_CLEANUP(struct head *, head_unref)
struct head *head_copy(const struct head *h);
uint64_t head_wm_get(const struct head *h, slice lane); /* SLOT_NONE: nothing folded */
void head_wm_set(struct head *h, slice lane, uint64_t slot);
static inline bool head_covers(const struct head *h, slice lane, uint64_t slot)
{
    uint64_t wm = head_wm_get(h, lane);
    return wm != SLOT_NONE && slot <= wm;
}
void head_encode(const struct head *h, struct buf *out);
/* Manifests and filters that `old` (may be NULL) names too are shared with it, so that nothing is loaded twice. */
MUST_CHECK enum err_code head_decode(const struct slot *s, const struct head *old, struct head **out, struct err *err);

/* Parts that name slots hold too. */
void config_put(struct buf *out, const struct stream_config *c);
MUST_CHECK enum err_code config_get(struct arena *a, const json_t *o, struct stream_config *out, struct err *err);
void config_copy(struct arena *a, const struct stream_config *from, struct stream_config *to);
bool config_eq(const struct stream_config *a, const struct stream_config *b);
void schema_put(struct buf *out, const struct schema *s, uint32_t id, uint32_t next_field_id);
MUST_CHECK enum err_code schema_get(const json_t *o, struct schema **out, uint32_t *id, uint32_t *next_field_id,
                                    struct err *err);
/* Gives ids from *next to fields without one; p_timestamp is 1. */
struct schema *schema_number(const struct schema *s, uint32_t *next);
