/* batch.c: columns of one batch. A column's `valid` and `values` are one zeroed block: from the heap when large, so that
 * untouched pages cost nothing and batch_grow() gives memory back, from the arena when small, so that a request of one row
 * and twenty fields is a handful of allocations. */
#include "batch/batch.h"

#include <stdatomic.h>

#define COLUMN_BYTES_IN_ARENA_MAX 1024u

struct batch *batch_new(uint32_t rows_cap)
{
    struct batch *b = mem_zalloc(sizeof(*b));
    atomic_init(&b->refs, 1);
    b->rows_cap = rows_cap ? rows_cap : 1;
    return b;
}

struct batch *batch_ref(struct batch *b)
{
    atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
    return b;
}

static void column_free_block(struct column *c)
{
    if (c->on_heap)
        free(c->values);
}

void batch_unref(struct batch *b)
{
    if (!b || atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (uint32_t i = 0; i < b->columns_count; i++) {
        column_free_block(b->columns[i]);
        if (b->columns[i]->item)
            column_free_block(b->columns[i]->item);
    }
    free(b->columns);
    arena_done(&b->arena);
    if (b->keep_free)
        b->keep_free(b->keep);
    free(b);
}

void batch_keep(struct batch *b, void *keep, void (*keep_free)(void *keep))
{
    ASSERT(!b->keep_free);
    b->keep = keep;
    b->keep_free = keep_free;
}

size_t type_width(struct type t)
{
    switch ((enum type_kind)t.kind) {
    case TYPE_NULL:
    case TYPE_BOOL: return 1;
    case TYPE_DATE32: return 4;
    case TYPE_INT64:
    case TYPE_UINT64:
    case TYPE_FLOAT64:
    case TYPE_TIMESTAMP: return 8;
    case TYPE_LIST: return sizeof(struct list_slot);
    case TYPE_UTF8: return sizeof(struct text);
    }
    return 0;
}

static void batch_count_bytes(struct batch *b)
{
    b->bytes = sizeof(*b) + b->arena.bytes + b->heap_bytes + b->columns_cap * sizeof(*b->columns);
}

/* Gives `c` a block for `cap` rows that holds the first `used` rows of its old one; the old block is freed. */
static void column_resize(struct batch *b, struct column *c, uint32_t used, uint32_t old_cap, uint32_t cap)
{
    size_t width = type_width(c->type), size = (size_t)cap * (width + 1);
    bool on_heap = size > COLUMN_BYTES_IN_ARENA_MAX;
    uint8_t *block = on_heap ? mem_zalloc(size) : arena_zalloc(&b->arena, size);
    uint8_t *valid = block + (size_t)cap * width;

    if (used) {
        memcpy(block, c->values, used * width);
        memcpy(valid, c->valid, used);
    }
    if (on_heap)
        b->heap_bytes += size;
    if (c->on_heap)
        b->heap_bytes -= (size_t)old_cap * (width + 1);
    column_free_block(c);
    c->values = block;
    c->valid = valid;
    c->on_heap = on_heap;
}

struct column *batch_add(struct batch *b, uint32_t field, struct type type)
{
    struct column *c = arena_zalloc(&b->arena, sizeof(*c));

    c->field = field;
    c->type = type;
    atomic_init(&c->has_nulls, b->rows > 0);
    column_resize(b, c, 0, 0, b->rows_cap);
    if (type.kind == TYPE_LIST) {
        c->item = arena_zalloc(&b->arena, sizeof(*c->item));
        c->item->field = FIELD_NONE;
        c->item->type = (struct type){type.item, TYPE_NULL};
    }
    if (b->columns_count == b->columns_cap)
        mem_grow((void **)&b->columns, &b->columns_cap, (size_t)b->columns_count + 1, sizeof(*b->columns));
    b->columns[b->columns_count++] = c;
    batch_count_bytes(b);
    return c;
}

struct column *batch_column(const struct batch *b, uint32_t field)
{
    for (uint32_t i = 0; i < b->columns_count; i++)
        if (b->columns[i]->field == field)
            return b->columns[i];
    return NULL;
}

void batch_reserve(struct batch *b, uint32_t rows_cap)
{
    if (rows_cap <= b->rows_cap)
        return;
    for (uint32_t i = 0; i < b->columns_count; i++)
        column_resize(b, b->columns[i], b->rows_cap, b->rows_cap, rows_cap);
    b->rows_cap = rows_cap;
    batch_count_bytes(b);
}

void batch_grow(struct batch *b)
{
    ASSERT(b->rows_cap <= UINT32_MAX / 2);
    batch_reserve(b, b->rows_cap * 2);
}

void batch_drop(struct batch *b, uint32_t index)
{
    struct column *c = b->columns[index];

    for (struct column *block = c; block; block = block->item) {
        if (block->on_heap)
            b->heap_bytes -= (size_t)(block == c ? b->rows_cap : c->item_cap) * (type_width(block->type) + 1);
        column_free_block(block);
    }
    memmove(&b->columns[index], &b->columns[index + 1], (b->columns_count - index - 1) * sizeof(*b->columns));
    b->columns_count--;
    batch_count_bytes(b);
}

uint32_t batch_items(struct batch *b, struct column *list, uint32_t n)
{
    uint32_t first = list->item_rows, need, cap = list->item_cap ? list->item_cap : 4;

    ASSERT(!__builtin_add_overflow(first, n, &need) && need <= UINT32_MAX / 2);
    if (need > list->item_cap) {
        while (cap < need)
            cap *= 2;
        column_resize(b, list->item, first, list->item_cap, cap);
        list->item_cap = cap;
        batch_count_bytes(b);
    }
    list->item_rows = need;
    return first;
}

struct text batch_text(struct batch *b, slice s)
{
    size_t before = b->arena.bytes;

    if (s.len > 12)
        s = arena_copy(&b->arena, s);
    b->bytes += b->arena.bytes - before;
    return text_of(s);
}

/* Rows of one column, after `at` rows of another. What is null is zeroed in both. */
static void column_append(struct batch *to, struct column *dst, uint32_t at, const struct column *src, uint32_t first,
                          uint32_t count)
{
    size_t width = type_width(src->type);

    memcpy((uint8_t *)dst->values + at * width, (const uint8_t *)src->values + first * width, count * width);
    memcpy(dst->valid + at, src->valid + first, count);
    if (src->type.kind != TYPE_UTF8)
        return;
    struct text *texts = (struct text *)dst->values + at;
    for (uint32_t i = 0; i < count; i++)
        if (texts[i].len > 12)
            texts[i] = src->valid[first + i] ? batch_text(to, text_slice(&texts[i])) : (struct text){0};
}

static void note_null(struct column *c)
{
    if (!atomic_load_explicit(&c->has_nulls, memory_order_relaxed)) /* readers share the line: write it once */
        atomic_store_explicit(&c->has_nulls, true, memory_order_relaxed);
}

/* The search goes on where the last one ended, as both batches usually have their columns in the same order. */
static struct column *column_find(const struct batch *b, uint32_t field, uint32_t *hint)
{
    for (uint32_t k = 0; k < b->columns_count; k++) {
        struct column *c = b->columns[*hint];
        *hint = *hint + 1 == b->columns_count ? 0 : *hint + 1;
        if (c->field == field)
            return c;
    }
    return NULL;
}

void batch_append(struct batch *to, const struct batch *from, uint32_t first, uint32_t count)
{
    uint32_t at = to->rows, hint = 0;
    bool fresh = to->columns_count == 0;

    ASSERT(count <= to->rows_cap - at && first <= from->rows && count <= from->rows - first);
    for (uint32_t i = 0; i < from->columns_count; i++) {
        const struct column *src = from->columns[i];
        ASSERT(src->type.kind != TYPE_LIST);
        if (!memchr(src->valid + first, 1, count))
            continue;
        struct column *dst = fresh ? NULL : column_find(to, src->field, &hint);
        if (!dst) {
            dst = batch_add(to, src->field, src->type);
            hint = 0;
        }
        DCHECK(type_eq(dst->type, src->type));
        column_append(to, dst, at, src, first, count);
    }
    for (uint32_t i = 0; i < to->columns_count; i++)
        if (memchr(to->columns[i]->valid + at, 0, count))
            note_null(to->columns[i]);
    to->rows += count;
}

bool batch_has_lists(const struct batch *b)
{
    for (uint32_t i = 0; i < b->columns_count; i++)
        if (b->columns[i]->type.kind == TYPE_LIST)
            return true;
    return false;
}

void batch_view_take(struct batch *b, uint32_t rows, struct batch_view *out)
{
    ASSERT(rows <= b->rows);
    out->batch = batch_ref(b);
    out->rows = rows;
    out->columns_count = b->columns_count;
    out->columns = mem_alloc(b->columns_count * sizeof(*out->columns));
    if (b->columns_count)
        memcpy(out->columns, b->columns, b->columns_count * sizeof(*out->columns));
}

void batch_view_done(struct batch_view *v)
{
    free(v->columns);
    batch_unref(v->batch);
    *v = (struct batch_view){0};
}
