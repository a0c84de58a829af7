/* json_keys.c: from keys to names. See json_int.h. */
#include "decode/json_int.h"

void keys_reset(struct decoder *d)
{
    for (struct node *n = d->nodes; n; n = n->older)
        map_done(&n->keys);
    map_done(&d->names);
    arena_done(&d->keys);
    d->nodes = NULL;
    d->keys_bytes = 0;
    d->root = NULL;
}

static void *keys_alloc(struct decoder *d, size_t size)
{
    d->keys_bytes += size;
    return arena_zalloc(&d->keys, size);
}

enum step key_step(const struct decoder *d)
{
    return d->err.code == ERR_OK ? STEP_KEYS : STEP_REFUSED;
}

static bool name_too_long(struct decoder *d, size_t len)
{
    if (len <= NAME_BYTES_MAX)
        return false;
    (void)refuse(d, ERR_INVALID, "flattened field name is longer than %u bytes", NAME_BYTES_MAX);
    return true;
}

static slice flattened(struct decoder *d, const struct key *k, bool prefix)
{
    size_t a = k->parent->prefix.len, b = k->bytes.len;
    uint8_t *p = keys_alloc(d, a + b + 1);

    if (a)
        memcpy(p, k->parent->prefix.ptr, a);
    if (b)
        memcpy(p + a, k->bytes.ptr, b);
    p[a + b] = '_';
    return (slice){p, a + b + prefix};
}

struct node *key_object(struct decoder *d, struct key *k)
{
    struct node *n;

    if (k ? k->object : d->root)
        return k ? k->object : d->root;
    if (d->keys_bytes > KEYS_BYTES_MAX || (k && name_too_long(d, k->parent->prefix.len + k->bytes.len)))
        return NULL;
    n = keys_alloc(d, sizeof(*n));
    if (k) {
        n->prefix = flattened(d, k, true);
        k->object = n;
    } else {
        d->root = n;
    }
    n->older = d->nodes;
    d->nodes = n;
    return n;
}

static bool needs_escape(slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] < 0x20 || s.ptr[i] == '"' || s.ptr[i] == '\\')
            return true;
    return false;
}

struct key *node_key(struct decoder *d, struct node *node, slice bytes)
{
    struct key *k = map_get(&node->keys, bytes);
    uint8_t *quoted;

    if (k)
        return k;
    if (d->keys_bytes > KEYS_BYTES_MAX)
        return NULL;
    d->keys_bytes += 64; /* about what the tables take for it */
    k = keys_alloc(d, sizeof(*k));
    quoted = keys_alloc(d, bytes.len + 3);
    quoted[0] = '"';
    if (bytes.len)
        memcpy(quoted + 1, bytes.ptr, bytes.len);
    memcpy(quoted + 1 + bytes.len, "\":", 2);
    k->bytes = (slice){quoted + 1, bytes.len};
    k->far = quoted;
    if (!needs_escape(bytes)) {
        k->quoted_len = (uint32_t)bytes.len + 3;
        memcpy(k->quoted, quoted, MIN(k->quoted_len, sizeof(k->quoted)));
    }
    k->parent = node;
    k->at = node->prefix.len ? node->prefix.ptr[0] == '@' : bytes.len && bytes.ptr[0] == '@';
    (void)map_put(&node->keys, k->bytes, k);
    return k;
}

static struct name *key_name(struct decoder *d, struct key *k)
{
    slice text;

    if (k->name)
        return k->name;
    if (d->keys_bytes > KEYS_BYTES_MAX || name_too_long(d, k->parent->prefix.len + k->bytes.len))
        return NULL;
    text = flattened(d, k, false);
    if (k->at)
        ((uint8_t *)text.ptr)[0] = '_'; /* contract 2.3 */
    k->name = map_get(&d->names, text);
    if (!k->name) {
        k->name = keys_alloc(d, sizeof(*k->name));
        k->name->text = text;
        (void)map_put(&d->names, text, k->name);
    }
    return k->name;
}

static struct entry *entry_new(struct decoder *d, struct name *name, bool nested)
{
    struct decoded *out = d->out;
    struct entry *e = arena_zalloc(&out->batch->arena, sizeof(*e));

    e->name = arena_copy(&out->batch->arena, name->text);
    e->nested = nested;
    *ARRAY_PUSH(out->entries, out->entries_count, out->entries_cap) = e;
    name->generation = d->generation;
    name->entry = e;
    if (name->hint_version != d->hint_version) {
        uint32_t field = d->hint ? schema_find(d->hint, name->text) : FIELD_NONE;
        name->hint_version = d->hint_version;
        name->hint_time = field != FIELD_NONE && schema_field(d->hint, field)->type.kind == TYPE_TIMESTAMP;
    }
    return e;
}

static void cell_clear(struct column *c, uint32_t row)
{
    size_t width = type_width(c->type);
    c->valid[row] = 0;
    memset((uint8_t *)c->values + row * width, 0, width);
}

struct entry *key_entry_slow(struct decoder *d, struct key *k)
{
    struct name *name = key_name(d, k);
    struct entry *e;

    if (!name)
        return NULL;
    e = name->generation == d->generation ? name->entry : entry_new(d, name, k->parent->prefix.len > 0);
    if (e->row_stamp == d->row_stamp) { /* two keys of this row flatten to one name */
        if (e->row_key->at != k->at) {
            (void)refuse(d, ERR_INVALID,
                         "Key collision detected: '@" SLICE_FMT "' and '" SLICE_FMT "' would both map to '" SLICE_FMT
                         "'",
                         SLICE_ARG(slice_from(name->text, 1)), SLICE_ARG(name->text), SLICE_ARG(name->text));
            return NULL;
        }
        for (size_t i = 0; i < CELL_CLASSES; i++)
            if (e->cells[i])
                cell_clear(e->cells[i], d->out->batch->rows);
    }
    e->row_stamp = d->row_stamp;
    e->row_key = k;
    return e;
}
