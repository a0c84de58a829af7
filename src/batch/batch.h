/* batch.h: rows as columns in memory, from decoder to stage to Parquet.
 *
 * A batch has a fixed capacity in rows, so its arrays never move: one writer may append rows while readers look at rows
 * below a count that was published to them (the stage's open blocks). Columns may be added meanwhile; readers use the
 * columns they saw when they took their view (batch_view).
 * LAYOUT  per column: `valid` one byte a row (1 = value, 0 = null), `values` by type:
 *   BOOL u8 | INT64, TIMESTAMP i64 | UINT64 u64 | FLOAT64 double | DATE32 i32 | UTF8 struct text (16 bytes, the layout of
 *   duckdb_string_t and of Arrow's Utf8View prefix form: <= 12 bytes inline, else 4 bytes prefix and a pointer) |
 *   LIST struct list_slot {offset, len} into `item`, a column with rows of its own.
 *   A null row's value is zeroed.
 * OWNERSHIP  a batch owns all its bytes (arena); it is reference-counted, as queries pin it. Text may point into
 *   memory given with batch_keep().
 * THREADS  one writer; readers by the rule above. */
#pragma once
#include "base/arena.h"
#include "base/err.h"
#include "batch/schema.h"

struct text {
    union {
        struct {
            uint32_t len;
            char inlined[12];
        };
        struct {
            uint32_t far_len; /* the same as len */
            char prefix[4];
            const char *ptr;
        } far;
    };
};
_Static_assert(sizeof(struct text) == 16, "layout of duckdb_string_t");
static inline slice text_slice(const struct text *t)
{
    return (slice){(const uint8_t *)(t->len <= 12 ? t->inlined : t->far.ptr), t->len};
}
static inline struct text text_of(slice s) /* points to s when longer than 12 bytes */
{
    struct text t = {.len = (uint32_t)s.len, .inlined = {0}};
    if (s.len <= 12) {
        if (s.len)
            memcpy(t.inlined, s.ptr, s.len);
    } else {
        memcpy(t.far.prefix, s.ptr, 4);
        t.far.ptr = (const char *)s.ptr;
    }
    return t;
}
struct list_slot {
    uint32_t offset, len;
};
struct column {
    uint32_t field; /* index in the stream's schema; FIELD_NONE while a decoder has not resolved it */
    struct type type;
    bool on_heap; /* batch.c's: `values` and `valid` are one heap block, not arena */
    _Atomic bool
        has_nulls;  /* false: every row below the published count has a value (hint, may be true needlessly); whoever
                               fills `valid` directly sets it */
    uint8_t *valid; /* [rows_cap] */
    void *values;   /* [rows_cap] of the type's width */
    struct column *item;          /* lists */
    uint32_t item_rows, item_cap; /* lists: rows used and room in `item`; item arrays may move, so a batch with lists is
                                     never appended to once readers see it: stage gives such requests their own batch */
};
struct batch {
    _Atomic uint32_t refs;
    uint32_t rows, rows_cap; /* rows: the writer's count */
    uint32_t columns_count;
    size_t columns_cap;
    struct column **columns; /* array may move when a column is added: see batch_view */
    struct arena arena;      /* under the writer */
    size_t bytes;            /* memory held, about; for budgets */
    size_t heap_bytes;       /* batch.c's: of column blocks outside the arena */
    void (*keep_free)(void *keep);
    void *keep; /* e.g. a request body that texts point into */
};

struct batch *batch_new(uint32_t rows_cap);
struct batch *batch_ref(struct batch *b);
void batch_unref(struct batch *b); /* NULL is fine */
DEFINE_CLEANUP(struct batch *, batch_unref)
/* The batch takes `keep` (e.g. a request body that texts point into) and frees it at its end. Once a batch. */
void batch_keep(struct batch *b, void *keep, void (*keep_free)(void *keep));
/* Adds a column, null in every row so far (and until set). */
struct column *batch_add(struct batch *b, uint32_t field, struct type type);
struct column *batch_column(const struct batch *b, uint32_t field); /* NULL if the batch lacks it; linear or hinted */
size_t type_width(struct type t);                                   /* bytes a row in `values` */
/* Doubles the capacity of a batch that no reader has seen (decoders). */
void batch_grow(struct batch *b);
void batch_reserve(struct batch *b, uint32_t rows_cap); /* the same, to at least `rows_cap` */
/* Takes column `index` out of a batch that no reader has seen, and frees it. */
void batch_drop(struct batch *b, uint32_t index);
/* Room for `n` more items in a list column; returns the index of the first, they are null. Item arrays may move. */
uint32_t batch_items(struct batch *b, struct column *list, uint32_t n);
/* Copies bytes beyond 12 into the batch's arena. */
struct text batch_text(struct batch *b, slice s);
/* Appends rows [first, first + count) of `from` to `to`, which has room for them (same schema): columns that `to` lacks are added; texts are
 * copied. Lists: ASSERT. */
void batch_append(struct batch *to, const struct batch *from, uint32_t first, uint32_t count);
bool batch_has_lists(const struct batch *b);

/* What a reader holds: rows [0, rows) of the columns that existed then. The array is the view's own. */
struct batch_view {
    struct batch *batch; /* one reference */
    uint32_t rows;
    uint32_t columns_count;
    struct column **columns;
};
void batch_view_take(struct batch *b, uint32_t rows, struct batch_view *out); /* under the writer's lock */
void batch_view_done(struct batch_view *v);
static inline struct column *batch_view_column(const struct batch_view *v, uint32_t field)
{
    for (uint32_t i = 0; i < v->columns_count; i++)
        if (v->columns[i]->field == field)
            return v->columns[i];
    return NULL;
}
