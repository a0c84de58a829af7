/* schema.h: the columns of one stream incarnation. A schema only grows: fields are appended, never changed or removed,
 * so a field's index is stable and names a column in every batch of that stream.
 *
 * Values are immutable and reference-counted: growing makes a new one. Equality of names is by exact bytes; the contract's
 * section 2.4 gives the types. THREADS  any (immutable; atomic counts). */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "base/map.h"

enum type_kind {
    TYPE_NULL, /* only as the item of a list that was always empty */
    TYPE_BOOL,
    TYPE_INT64,
    TYPE_UINT64,
    TYPE_FLOAT64,
    TYPE_UTF8,
    TYPE_TIMESTAMP, /* microseconds since 1970 UTC; the contract shows it as Timestamp(Millisecond) */
    TYPE_DATE32,    /* days since 1970 */
    TYPE_LIST,
};
struct type {
    uint8_t kind, item; /* enum type_kind; item is TYPE_NULL unless kind is TYPE_LIST */
};
struct field {
    slice name;
    struct type type;
    uint32_t id;      /* field id in Parquet, from a head append; 0: not given yet */
    uint32_t item_id; /* field id of the list element; 0 if no list or not given */
};
struct schema; /* refcounted, immutable but for ids, which schema_with_ids() gives in a new value */

#define FIELD_NONE UINT32_MAX
/* The hidden column of every row: a number that is unique on a node and grows in the order of acceptance. It is no field of the
 * schema and SELECT * never shows it; in Parquet it is `_row_id` with Iceberg's reserved id (spec v3, row lineage). The
 * cursor of live tail, and what makes "exactly once" checkable. */
#define FIELD_ROW_ID (UINT32_MAX - 1)
#define ROW_ID_NAME "_row_id"
#define ROW_ID_FIELD_ID 2147483540u
struct schema *schema_empty(void); /* p_timestamp alone, as field 0 */
struct schema *schema_ref(struct schema *s);
void schema_unref(struct schema *s); /* NULL is fine */
DEFINE_CLEANUP(struct schema *, schema_unref)
uint32_t schema_count(const struct schema *s);
const struct field *schema_field(const struct schema *s, uint32_t index);
uint32_t schema_find(const struct schema *s, slice name); /* FIELD_NONE if absent */
/* A new schema with `n` more fields appended; names must be new and distinct (ASSERT); bytes are copied. */
struct schema *schema_grow(const struct schema *s, const struct field *more, uint32_t n);
/* The same fields with Parquet field ids: ids[i] and item_ids[i] for field i, schema_count() of each. */
struct schema *schema_with_ids(const struct schema *s, const uint32_t *ids, const uint32_t *item_ids);
bool type_eq(struct type a, struct type b);
const char *type_suffix(struct type t); /* "utf8", "float64", "timestamp_ms", ...: sibling columns, contract 2.4 */
void field_print(slice name, struct type type, struct buf *out); /* one member of "fields" below */
/* The Arrow schema as JSON of contract 3.2, fields sorted by name if `sorted`. */
void schema_print(const struct schema *s, bool sorted, struct buf *out);
