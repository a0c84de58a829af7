/* json_rows.c: records that hold arrays.
 *
 * EXPLODED (contract 2.3)  Every value stands for a number of rows: a scalar 1, an array the sum of its items, an object the
 *   product of its members. Row i of an object takes row (i mod n) of its first member with n rows, and i / n goes on to
 *   the next: the first array runs fastest, as the original does it. So no product is ever built, rows are written as
 *   they are counted off, and a hostile product is seen before its first row.
 * LISTS  in a body too deep for that, or of a source that never explodes: an array of scalars is a list, an array of
 *   objects a list for each inner name, aligned by index. An array inside a list is kept as its JSON text. */
#include "decode/json_int.h"

/* -- counting --------------------------------------------------------------------------------------------------------- */

static uint64_t capped_mul(uint64_t a, uint64_t b)
{
    uint64_t r;
    return __builtin_mul_overflow(a, b, &r) ? UINT64_MAX : r;
}

static uint64_t capped_add(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* Rows that `v` stands for. Leaves in the tag of a member its rows, in that of an item the rows of all up to it. */
static uint64_t count_rows(struct json_value *v)
{
    uint64_t n;

    if (v->kind == DOM_OBJECT) {
        n = 1;
        for (uint32_t i = 0; i < v->count; i++) {
            v->members[i].value.tag = count_rows(&v->members[i].value);
            n = capped_mul(n, v->members[i].value.tag);
        }
        return n;
    }
    if (v->kind != DOM_ARRAY || v->count == 0)
        return 1;
    n = 0;
    for (uint32_t i = 0; i < v->count; i++) {
        struct json_value *item = &v->items[i];
        uint64_t rows = count_rows(item);
        n = capped_add(n, item->kind == DOM_ARRAY && item->count == 0 ? 0 : rows);
        item->tag = n;
    }
    if (n == 0) { /* nothing but empty arrays: one of them remains */
        v->count = 0;
        return 1;
    }
    return n;
}

/* Notes arrays, and objects that have a member at the depth where exploding ends. */
static void look(struct decoder *d, const struct json_value *v, unsigned depth)
{
    if (v->kind == DOM_ARRAY) {
        if (v->count) {
            d->exploded = true;
            d->tree_next = true;
        }
        for (uint32_t i = 0; i < v->count; i++)
            look(d, &v->items[i], depth);
    } else if (v->kind == DOM_OBJECT) {
        if (v->count && depth + 1 >= d->opt->flatten_level)
            d->deep = true;
        for (uint32_t i = 0; i < v->count; i++)
            look(d, &v->members[i].value, depth + 1);
    }
}

/* -- cells ------------------------------------------------------------------------------------------------------------ */

static enum step put_list(struct decoder *d, struct entry *e, struct list_cell *list)
{
    struct decoded *out = d->out;
    struct column *c = cell_column(d, e, CELL_LIST);
    uint32_t row = out->batch->rows;

    if (!c)
        return STEP_REFUSED;
    ((struct list_slot *)c->values)[row] = (struct list_slot){(uint32_t)out->lists_count, list->count};
    c->valid[row] = 1;
    *ARRAY_PUSH(out->lists, out->lists_count, out->lists_cap) = list;
    return STEP_OK;
}

static struct list_cell *list_new(struct decoder *d, uint32_t count)
{
    size_t size = sizeof(struct list_cell) + count * sizeof(struct list_item);
    struct list_cell *list;

    if (d->opt->bytes_max && d->out->batch->arena.bytes + size > d->opt->bytes_max) {
        (void)refuse(d, ERR_LIMIT, "request is larger than %llu bytes as columns",
                     (unsigned long long)d->opt->bytes_max);
        return NULL;
    }
    list = arena_zalloc(&d->out->batch->arena, size);
    list->count = count;
    return list;
}

/* Text of a tree goes to the batch once, however many rows show it. */
static struct text tree_text(struct decoder *d, struct json_value *v)
{
    if (!v->truth) {
        struct text t = keep_text(d, v->string);
        if (v->string.len > 12)
            v->string = text_slice(&t);
        v->truth = true;
    }
    return text_of(v->string);
}

static enum step put_scalar(struct decoder *d, struct key *k, struct json_value *v)
{
    struct entry *e = key_entry(d, k);
    bool ok = true;

    if (!e)
        return key_step(d);
    switch ((enum dom_kind)v->kind) {
    case DOM_NULL: break;
    case DOM_BOOL: ok = put_bool(d, e, v->truth); break;
    case DOM_NUMBER: ok = put_number(d, e, v->num); break;
    case DOM_STRING:
        if (k->name->hint_time) {
            ok = put_text(d, k, e, v->string);
        } else {
            struct column *c = cell_column(d, e, CELL_TEXT);
            if ((ok = c != NULL)) {
                ((struct text *)c->values)[d->out->batch->rows] = tree_text(d, v);
                c->valid[d->out->batch->rows] = 1;
            }
        }
        break;
    case DOM_ARRAY:
    case DOM_OBJECT: {
        struct list_cell *empty = list_new(d, 0);
        return empty ? put_list(d, e, empty) : STEP_REFUSED;
    }
    }
    return ok ? STEP_OK : STEP_REFUSED;
}

/* -- exploded --------------------------------------------------------------------------------------------------------- */

static struct key *member_key(struct decoder *d, struct node *node, struct json_member *m)
{
    if (!m->tag)
        m->tag = node_key(d, node, m->key);
    return m->tag;
}

static enum step explode_object(struct decoder *d, struct node *node, struct json_value *v, uint64_t index);

static enum step explode_value(struct decoder *d, struct key *k, struct json_value *v, uint64_t index)
{
    while (v->kind == DOM_ARRAY && v->count) { /* to the item that holds row `index` */
        uint32_t low = 0, high = v->count - 1;
        while (low < high) {
            uint32_t middle = low + (high - low) / 2;
            if (index < v->items[middle].tag)
                high = middle;
            else
                low = middle + 1;
        }
        if (low)
            index -= v->items[low - 1].tag;
        v = &v->items[low];
    }
    if (v->kind == DOM_OBJECT) {
        struct node *node = v->count ? key_object(d, k) : NULL;
        if (!node)
            return v->count ? key_step(d) : STEP_OK;
        return explode_object(d, node, v, index);
    }
    d->exploded_bytes += 8 + (v->kind == DOM_STRING ? v->string.len : 0);
    return put_scalar(d, k, v);
}

static enum step explode_object(struct decoder *d, struct node *node, struct json_value *v, uint64_t index)
{
    for (uint32_t i = 0; i < v->count; i++) {
        struct json_member *m = &v->members[i];
        struct key *k = member_key(d, node, m);
        uint64_t rows = m->value.tag;
        enum step step;
        if (!k)
            return key_step(d);
        d->exploded_bytes++;
        if ((step = explode_value(d, k, &m->value, index % rows)) != STEP_OK)
            return step;
        index /= rows;
    }
    return STEP_OK;
}

static void track_records(struct decoder *d)
{
    struct decoded *out = d->out;

    if (d->records_tracked)
        return;
    d->records_tracked = true;
    for (uint32_t i = 0; i < out->batch->rows; i++) {
        if (i >= out->record_cap)
            mem_grow((void **)&out->record_of_row, &out->record_cap, (size_t)i + 1, sizeof(*out->record_of_row));
        out->record_of_row[i] = i;
    }
}

static enum step explode_record(struct decoder *d, struct json_value *record)
{
    uint64_t rows = count_rows(record), have = d->out->batch->rows, before = d->exploded_bytes;
    enum step step;

    if (rows > UINT32_MAX / 2 - have || (d->opt->rows_max && have + rows > d->opt->rows_max))
        return refuse(d, ERR_LIMIT, "arrays explode into more than %u rows",
                      d->opt->rows_max ? d->opt->rows_max : UINT32_MAX / 2);
    if (rows > 1)
        track_records(d);
    for (uint64_t i = 0; i < rows; i++) {
        if (!row_begin(d))
            return STEP_REFUSED;
        if ((step = explode_object(d, d->root, record, i)) != STEP_OK)
            return step;
        row_end(d);
        if (rows > 1 && d->opt->bytes_max && d->exploded_bytes > d->opt->bytes_max)
            return refuse(d, ERR_LIMIT, "arrays explode into more than %llu bytes",
                          (unsigned long long)d->opt->bytes_max);
    }
    if (rows == 1)
        d->exploded_bytes = before;
    return STEP_OK;
}

/* -- lists ------------------------------------------------------------------------------------------------------------ */

/* Item `index` of a list; its type joins the list's. */
static enum step list_put(struct decoder *d, struct key *k, struct list_cell *list, uint32_t index,
                          struct json_value *v)
{
    struct list_item *item = &list->items[index];

    DCHECK(index < list->count);
    switch ((enum dom_kind)v->kind) {
    case DOM_NULL: return STEP_OK;
    case DOM_BOOL: *item = (struct list_item){.kind = TYPE_BOOL, .truth = v->truth}; break;
    case DOM_NUMBER:
        if (v->num.kind == JSON_INT)
            *item = (struct list_item){.kind = TYPE_INT64, .i = v->num.i};
        else
            *item =
                (struct list_item){.kind = TYPE_FLOAT64, .d = v->num.kind == JSON_UINT ? (double)v->num.u : v->num.d};
        break;
    case DOM_STRING: *item = (struct list_item){.kind = TYPE_UTF8, .text = tree_text(d, v)}; break;
    case DOM_ARRAY:
    case DOM_OBJECT: *item = (struct list_item){.kind = TYPE_UTF8, .text = keep_text(d, v->raw)}; break;
    }
    if (list->item == item->kind || (list->item == TYPE_FLOAT64 && item->kind == TYPE_INT64))
        return STEP_OK;
    if (list->item != TYPE_NULL && !(list->item == TYPE_INT64 && item->kind == TYPE_FLOAT64))
        return refuse(d, ERR_INVALID, "list under key '" SLICE_FMT "' mixes %s and %s", SLICE_ARG(k->bytes),
                      type_suffix((struct type){list->item, TYPE_NULL}),
                      type_suffix((struct type){item->kind, TYPE_NULL}));
    list->item = item->kind;
    return STEP_OK;
}

/* The members of item `index` of an array of objects go into the lists of their names. */
static enum step gather_object(struct decoder *d, struct node *node, struct json_value *v, uint32_t index,
                               uint32_t count, uint64_t stamp)
{
    for (uint32_t i = 0; i < v->count; i++) {
        struct json_member *m = &v->members[i];
        struct key *k = member_key(d, node, m);
        enum step step = STEP_OK;
        if (!k)
            return key_step(d);
        if (m->value.kind == DOM_OBJECT) {
            struct node *inner = m->value.count ? key_object(d, k) : NULL;
            if (m->value.count)
                step = inner ? gather_object(d, inner, &m->value, index, count, stamp) : key_step(d);
        } else {
            if (!k->name || k->name->gather_stamp != stamp) { /* first of its name: into the row, filled as we go */
                struct entry *e = key_entry(d, k);
                struct list_cell *list = e ? list_new(d, count) : NULL;
                if (!list)
                    return e ? STEP_REFUSED : key_step(d);
                if ((step = put_list(d, e, list)) != STEP_OK)
                    return step;
                k->name->gather = list;
                k->name->gather_stamp = stamp;
            }
            step = list_put(d, k, k->name->gather, index, &m->value);
        }
        if (step != STEP_OK)
            return step;
    }
    return STEP_OK;
}

static enum step put_array(struct decoder *d, struct key *k, struct json_value *v)
{
    uint32_t objects = 0, nulls = 0;
    struct list_cell *list;
    struct node *node;
    struct entry *e;
    enum step step;

    for (uint32_t i = 0; i < v->count; i++) {
        objects += v->items[i].kind == DOM_OBJECT;
        nulls += v->items[i].kind == DOM_NULL;
    }
    if (objects) {
        uint64_t stamp = ++d->instances;
        if (objects + nulls != v->count)
            return refuse(d, ERR_INVALID,
                          "Found non-object element while flattening array of objects, key '" SLICE_FMT "'",
                          SLICE_ARG(k->bytes));
        if (!(node = key_object(d, k)))
            return key_step(d);
        for (uint32_t i = 0; i < v->count; i++)
            if (v->items[i].kind == DOM_OBJECT &&
                (step = gather_object(d, node, &v->items[i], i, v->count, stamp)) != STEP_OK)
                return step;
        return STEP_OK;
    }
    if (!(e = key_entry(d, k)))
        return key_step(d);
    if (!(list = list_new(d, v->count)))
        return STEP_REFUSED;
    for (uint32_t i = 0; i < v->count; i++)
        if ((step = list_put(d, k, list, i, &v->items[i])) != STEP_OK)
            return step;
    return put_list(d, e, list);
}

static enum step flatten_object(struct decoder *d, struct node *node, struct json_value *v)
{
    for (uint32_t i = 0; i < v->count; i++) {
        struct json_member *m = &v->members[i];
        struct key *k = member_key(d, node, m);
        enum step step = STEP_OK;
        if (!k)
            return key_step(d);
        if (m->value.kind == DOM_OBJECT) {
            struct node *inner = m->value.count ? key_object(d, k) : NULL;
            if (m->value.count)
                step = inner ? flatten_object(d, inner, &m->value) : key_step(d);
        } else if (m->value.kind == DOM_ARRAY) {
            step = put_array(d, k, &m->value);
        } else {
            step = put_scalar(d, k, &m->value);
        }
        if (step != STEP_OK)
            return step;
    }
    return STEP_OK;
}

enum step read_tree(struct decoder *d)
{
    struct json_value record;
    enum step step;

    arena_reset(&d->tree);
    if (!key_object(d, NULL))
        return key_step(d);
    if (!json_dom_read(&d->reader, &d->tree, 0, &record))
        return STEP_JSON;
    look(d, &record, 0);
    if (d->flatten == DECODE_GENERIC)
        return d->deep && d->exploded ? STEP_DEEP : explode_record(d, &record);
    if (!row_begin(d))
        return STEP_REFUSED;
    if ((step = flatten_object(d, d->root, &record)) == STEP_OK)
        row_end(d);
    return step;
}
