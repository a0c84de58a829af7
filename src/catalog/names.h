/* names.h: how streams, sequences and files are called in the bucket (catalog.md section 2). Pure functions. TESTS catalog_test.c, slot_fuzz.c. */
#pragma once
#include "base/buf.h"
#include "catalog/catalog.h"
#include "catalog/slot.h"

#define ENC_NAME_BYTES_MAX 254u
#define CLUSTER_CLOSED "closed" /* member of a cluster slot: why nobody may open this place; a backup, half a restore */

void name_encode(slice name, struct buf *out); /* a-z 0-9 - _ stay, every other byte is ~ and two hex digits */
bool name_decode(slice enc, struct buf *out);  /* false: no encoded name */
bool sid_parse(slice text, struct sid *out);
static inline slice sid_slice(const struct sid *sid)
{
    return (slice){(const uint8_t *)sid->text, 26};
}
uint32_t sid_shard(const struct sid *sid, uint32_t shards);

/* Prefixes of sequences, each with '/' at the end. */
void seq_cluster(struct buf *out);
void seq_lane(struct buf *out, slice lane);
void seq_shard(struct buf *out, uint32_t shard);
void seq_name(struct buf *out, slice name);
void seq_head(struct buf *out, slice name, const struct sid *sid);
void slot_key(struct buf *out, slice prefix, uint64_t slot);
bool slot_number(slice text, uint64_t *out); /* exactly 20 digits */
bool lane_valid(slice lane);                 /* n + digits, or k + hex: no '-' , '/' */

/* A data file: "<dir>/<lane>-<slot>-<session8>-<n>.parquet" or "<dir>/c<slot>-<session8>-<n>.parquet". */
struct file_name {
    slice dir, lane; /* dir with '/' at the end; lane empty: a compaction's output */
    uint64_t slot;
    uint64_t session; /* 40 bits */
    uint32_t n;       /* 24 bits */
};
bool file_name_parse(slice path, struct file_name *out);
void file_name_put(struct buf *out, const struct file_name *f);
/* The name or the value of a custom partition in a path: escaped, and a long one cut. */
#define FILE_VALUE_MAX 100 /* bytes, escaped */
void file_value_put(struct buf *out, slice s);
/* "<head-slot>-<session8>-<n>.slm", and ".slf" */
bool manifest_name_parse(slice name, uint64_t *head_slot);
bool filter_name_parse(slice name, uint64_t *head_slot);
