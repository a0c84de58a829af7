/* schema.c: a value is one block (header and fields) plus the bytes of all names in an arena of its own and a table
 * from name to index. Growing copies everything: it happens a few times in a stream's life, reading all the time. */
#include "batch/schema.h"

#include <stdatomic.h>

#include "base/arena.h"

struct schema {
    _Atomic uint32_t refs;
    uint32_t count;
    struct field *fields; /* [count], in the arena */
    struct map by_name;   /* name -> index + 1, as a pointer */
    struct arena arena;
};

static void schema_put(struct schema *s, uint32_t at, const struct field *fields, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        struct field *f = &s->fields[at + i];
        *f = fields[i];
        f->name = arena_copy(&s->arena, f->name);
        ASSERT(map_put(&s->by_name, f->name, (void *)(uintptr_t)(at + i + 1)) == NULL);
    }
}

static struct schema *schema_of(const struct schema *old, const struct field *more, uint32_t n)
{
    struct schema *s = mem_zalloc(sizeof(*s));
    uint32_t kept = old ? old->count : 0;

    s->refs = 1;
    s->count = kept + n;
    s->fields = arena_alloc(&s->arena, s->count * sizeof(*s->fields));
    if (old)
        schema_put(s, 0, old->fields, kept);
    if (more)
        schema_put(s, kept, more, n);
    return s;
}

struct schema *schema_empty(void)
{
    const struct field f = {.name = slice_lit("p_timestamp"), .type = {TYPE_TIMESTAMP, TYPE_NULL}};
    return schema_of(NULL, &f, 1);
}

struct schema *schema_grow(const struct schema *s, const struct field *more, uint32_t n)
{
    return schema_of(s, more, n);
}

struct schema *schema_ref(struct schema *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

void schema_unref(struct schema *s)
{
    if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
        return;
    map_done(&s->by_name);
    arena_done(&s->arena);
    free(s);
}

uint32_t schema_count(const struct schema *s)
{
    return s->count;
}

const struct field *schema_field(const struct schema *s, uint32_t index)
{
    ASSERT(index < s->count);
    return &s->fields[index];
}

uint32_t schema_find(const struct schema *s, slice name)
{
    return (uint32_t)(uintptr_t)map_get(&s->by_name, name) - 1; /* absent: 0 - 1 is FIELD_NONE */
}

struct schema *schema_with_ids(const struct schema *s, const uint32_t *ids, const uint32_t *item_ids)
{
    struct schema *new = schema_of(s, NULL, 0);

    for (uint32_t i = 0; i < new->count; i++) {
        new->fields[i].id = ids[i];
        new->fields[i].item_id = item_ids ? item_ids[i] : 0;
    }
    return new;
}

bool type_eq(struct type a, struct type b)
{
    return a.kind == b.kind && (a.kind != TYPE_LIST || a.item == b.item);
}

const char *type_suffix(struct type t)
{
    switch ((enum type_kind)t.kind) {
    case TYPE_NULL: return "null";
    case TYPE_BOOL: return "bool";
    case TYPE_INT64: return "int64";
    case TYPE_UINT64: return "uint64";
    case TYPE_FLOAT64: return "float64";
    case TYPE_UTF8: return "utf8";
    case TYPE_TIMESTAMP: return "timestamp_ms";
    case TYPE_DATE32: return "date";
    case TYPE_LIST: return "list";
    }
    return "unknown";
}

static const char *type_json(uint8_t kind)
{
    switch ((enum type_kind)kind) {
    case TYPE_NULL:
    case TYPE_LIST: return "\"Null\"";
    case TYPE_BOOL: return "\"Boolean\"";
    case TYPE_INT64: return "\"Int64\"";
    case TYPE_UINT64: return "\"UInt64\"";
    case TYPE_FLOAT64: return "\"Float64\"";
    case TYPE_UTF8: return "\"Utf8\"";
    case TYPE_TIMESTAMP: return "{\"Timestamp\":[\"Millisecond\",null]}";
    case TYPE_DATE32: return "\"Date32\"";
    }
    return "\"Null\"";
}

#define FIELD_TAIL ",\"nullable\":true,\"dict_id\":0,\"dict_is_ordered\":false,\"metadata\":{}}"

void field_print(slice name, struct type type, struct buf *out)
{
    buf_str(out, "{\"name\":");
    buf_json_str(out, name);
    buf_str(out, ",\"data_type\":");
    if (type.kind == TYPE_LIST) {
        buf_str(out, "{\"List\":{\"name\":\"item\",\"data_type\":");
        buf_str(out, type_json(type.item));
        buf_str(out, FIELD_TAIL "}");
    } else {
        buf_str(out, type_json(type.kind));
    }
    buf_str(out, FIELD_TAIL);
}

static int by_name(const void *a, const void *b)
{
    return slice_cmp((*(const struct field *const *)a)->name, (*(const struct field *const *)b)->name);
}

void schema_print(const struct schema *s, bool sorted, struct buf *out)
{
    _cleanup_(freep) const struct field **order = mem_alloc(s->count * sizeof(*order));

    for (uint32_t i = 0; i < s->count; i++)
        order[i] = &s->fields[i];
    if (sorted)
        qsort(order, s->count, sizeof(*order), by_name);
    buf_str(out, "{\"fields\":[");
    for (uint32_t i = 0; i < s->count; i++) {
        if (i)
            buf_byte(out, ',');
        field_print(order[i]->name, order[i]->type, out);
    }
    buf_str(out, "],\"metadata\":{}}");
}
