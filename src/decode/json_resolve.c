/* json_resolve.c: cells to columns under the schema of the moment (contract 2.4, 2.5, 2.9).
 *
 * Each entry is asked which of its cells fit the plain column of its name; all others go to siblings named after their JSON
 * kind. In the common case an entry has cells of one class that fit, and its column of cells becomes the column of the batch
 * as it stands, converted in place. Otherwise cells are moved one by one (`route`), and two sources may meet in one column:
 * the first one there wins, and plain values come before siblings. Nothing outside `b` and `grown` is touched before success. */
#include <stdatomic.h>

#include "base/timetext.h"
#include "decode/json_int.h"

#define EXACT_MAX (INT64_C(1) << 53)

struct target { /* a field of the schema, old or new, and its column in this batch once it has one */
    slice name;
    struct type type;
    struct column *column;
};
struct resolve {
    struct decoded *d;
    const struct schema *schema;
    const struct decode_rules *rules;
    struct batch *batch;
    struct target *targets; /* by field index; [0, schema_count) are the schema's */
    size_t count, cap;
    struct map added; /* name -> index of a new one, + 1 */
    uint64_t inexact;
    struct err *err;
};

static uint32_t record_of(const struct decoded *d, uint32_t row)
{
    return (d->record_of_row ? d->record_of_row[row] : row) + 1;
}

/* -- fields ---------------------------------------------------------------------------------------------------------- */

static uint32_t field_find(const struct resolve *r, slice name)
{
    uint32_t field = schema_find(r->schema, name);
    return field != FIELD_NONE ? field : (uint32_t)(uintptr_t)map_get(&r->added, name) - 1;
}

static uint32_t field_add(struct resolve *r, slice name, struct type type)
{
    struct target *t = ARRAY_PUSH(r->targets, r->count, r->cap);

    *t = (struct target){.name = name, .type = type};
    (void)map_put(&r->added, name, (void *)(uintptr_t)r->count);
    return (uint32_t)r->count - 1;
}

static slice sibling_name(struct resolve *r, slice name, const char *suffix)
{
    size_t n = strlen(suffix);
    uint8_t *p = arena_alloc(&r->batch->arena, name.len + n + 1);

    if (name.len)
        memcpy(p, name.ptr, name.len);
    p[name.len] = '_';
    memcpy(p + name.len + 1, suffix, n);
    return (slice){p, name.len + n + 1};
}

static const char *type_text(struct type t)
{
    static const char *const names[] = {"Null", "Boolean",       "Int64",  "UInt64", "Float64",
                                        "Utf8", "Timestamp(ms)", "Date32", "List"};
    return names[t.kind];
}

/* -- one cell to a type ---------------------------------------------------------------------------------------------- */

static const char *cell_kind(enum cell_class class, uint8_t code)
{
    switch (class) {
    case CELL_NUMBER: return code == JSON_INT ? "i64" : code == JSON_UINT ? "u64" : "f64";
    case CELL_TEXT:
    case CELL_TIME: return "string";
    case CELL_BOOL: return "bool";
    case CELL_LIST: return "list";
    case CELL_CLASSES: break;
    }
    return "";
}

static double number_double(struct resolve *r, uint64_t bits, enum json_number_kind code)
{
    struct json_number n = {.bits = bits};

    if (code == JSON_INT) {
        r->inexact += n.i > EXACT_MAX || n.i < -EXACT_MAX;
        return (double)n.i;
    }
    if (code == JSON_UINT) {
        r->inexact++;
        return (double)n.u;
    }
    r->inexact += code == JSON_BIG;
    return n.d;
}

/* Text as a number, for static schemas: the whole of it, in JSON's own spelling. */
static bool text_number(slice s, struct json_number *out)
{
    struct json_reader reader = {0};

    json_reader_init(&reader, s);
    return s.len && (s.ptr[0] == '-' || (s.ptr[0] >= '0' && s.ptr[0] <= '9')) && json_read_number(&reader, out) &&
           reader.at == reader.end;
}

static bool to_int64(uint64_t bits, enum json_number_kind code, int64_t *out)
{
    memcpy(out, &bits, 8);
    return code == JSON_INT;
}

/* The value of a cell as type `t` into `*to` (as wide as the type), for all but lists; false: it does not fit. */
static bool cell_value(struct resolve *r, enum cell_class class, const struct column *c, uint32_t row, struct type t,
                       void *to)
{
    uint8_t code = c->valid[row];
    bool parse = r->rules->static_schema && class == CELL_TEXT;
    slice s = class == CELL_TEXT ? text_slice(&((const struct text *)c->values)[row]) : (slice){0};
    struct json_number n = {.kind = code, .bits = class == CELL_NUMBER ? ((const uint64_t *)c->values)[row] : 0};
    int64_t day;

    switch ((enum type_kind)t.kind) {
    case TYPE_BOOL:
        if (class != CELL_BOOL)
            return false;
        *(uint8_t *)to = ((const uint8_t *)c->values)[row];
        return true;
    case TYPE_FLOAT64:
        if (class != CELL_NUMBER && !(parse && text_number(s, &n)))
            return false;
        *(double *)to = number_double(r, n.bits, n.kind);
        return true;
    case TYPE_INT64: return (class == CELL_NUMBER || (parse && text_number(s, &n))) && to_int64(n.bits, n.kind, to);
    case TYPE_UINT64:
        *(uint64_t *)to = n.u;
        return class == CELL_NUMBER && (code == JSON_UINT || (code == JSON_INT && n.i >= 0));
    case TYPE_UTF8:
        if (class != CELL_TEXT)
            return false;
        *(struct text *)to = ((const struct text *)c->values)[row];
        return true;
    case TYPE_TIMESTAMP:
        if (class == CELL_TIME) {
            *(int64_t *)to = ((const int64_t *)c->values)[row];
            return true;
        }
        return class == CELL_TEXT && instant_parse(s, false, &r->d->instants, to);
    case TYPE_DATE32:
        if (class != CELL_TEXT)
            return false;
        if (!time_parse_date(s, &day)) {
            if (!instant_parse(s, false, &r->d->instants, &day))
                return false;
            day = (day - (day % 86400000000 < 0 ? 86400000000 : 0)) / 86400000000;
        }
        *(int32_t *)to = (int32_t)day;
        return true;
    case TYPE_NULL:
    case TYPE_LIST: break;
    }
    return false;
}

static bool list_fits(uint8_t item, uint8_t into)
{
    return item == TYPE_NULL || item == into || (item == TYPE_INT64 && into == TYPE_FLOAT64);
}

static void list_copy(struct resolve *r, const struct list_cell *list, struct column *to, uint32_t row)
{
    uint32_t at = batch_items(r->batch, to, list->count);
    struct column *item = to->item;

    for (uint32_t i = 0; i < list->count; i++) {
        const struct list_item *v = &list->items[i];
        item->valid[at + i] = v->kind != TYPE_NULL;
        switch ((enum type_kind)v->kind) {
        case TYPE_BOOL: ((uint8_t *)item->values)[at + i] = v->truth; break;
        case TYPE_INT64:
            if (item->type.kind == TYPE_INT64)
                ((int64_t *)item->values)[at + i] = v->i;
            else
                ((double *)item->values)[at + i] = (double)v->i;
            break;
        case TYPE_FLOAT64: ((double *)item->values)[at + i] = v->d; break;
        case TYPE_UTF8: ((struct text *)item->values)[at + i] = v->text; break;
        default: break;
        }
    }
    ((struct list_slot *)to->values)[row] = (struct list_slot){at, list->count};
}

/* -- routes: cells of a column to a field ---------------------------------------------------------------------------- */

static struct column *target_column(struct resolve *r, uint32_t field)
{
    struct target *t = &r->targets[field];

    if (!t->column)
        t->column = batch_add(r->batch, field, t->type);
    return t->column;
}

/* Moves to `field` what fits of the cells whose code is in the mask; what was moved is taken out of `c`. */
static void route(struct resolve *r, enum cell_class class, struct column *c, uint32_t codes, uint32_t field)
{
    struct type type = r->targets[field].type;
    size_t width = type_width(type);

    for (uint32_t row = 0; row < r->batch->rows; row++) {
        uint8_t code = c->valid[row];
        union {
            struct text text;
            uint64_t bits;
        } value;
        if (!code || !(codes & 1u << code))
            continue;
        struct list_cell *list =
            class == CELL_LIST ? r->d->lists[((const struct list_slot *)c->values)[row].offset] : NULL;
        if (list ? type.kind != TYPE_LIST || !list_fits(list->item, type.item)
                 : !cell_value(r, class, c, row, type, &value))
            continue;
        struct column *to = target_column(r, field);
        c->valid[row] = 0;
        if (to->valid[row])
            continue; /* two sources for one column in one row: the first stays */
        if (list)
            list_copy(r, list, to, row);
        else
            memcpy((uint8_t *)to->values + row * width, &value, width);
        to->valid[row] = 1;
    }
}

/* The column of cells becomes the field's column, if it can without looking at each cell. */
static bool adopt(struct resolve *r, enum cell_class class, struct entry *e, uint32_t field)
{
    struct target *t = &r->targets[field];
    struct column *c = e->cells[class];
    uint32_t rows = r->batch->rows;

    if (t->column)
        return false;
    if (class == CELL_NUMBER && t->type.kind == TYPE_FLOAT64) {
        double *values = c->values;
        for (uint32_t row = row_skip(c->valid, 0, rows); row < rows; row = row_skip(c->valid, row + 1, rows)) {
            uint64_t bits;
            if (!c->valid[row])
                continue;
            memcpy(&bits, &values[row], 8);
            values[row] = number_double(r, bits, c->valid[row]);
            c->valid[row] = 1;
        }
    } else if (!(class == CELL_NUMBER && t->type.kind == TYPE_INT64 && e->number_codes == 1u << JSON_INT) &&
               !(class == CELL_TEXT && t->type.kind == TYPE_UTF8) &&
               !(class == CELL_BOOL && t->type.kind == TYPE_BOOL) &&
               !(class == CELL_TIME && t->type.kind == TYPE_TIMESTAMP)) {
        return false;
    }
    if (class == CELL_TIME)
        for (uint32_t row = 0; row < rows; row++)
            c->valid[row] = c->valid[row] != 0; /* no more codes */
    c->type = t->type;
    c->field = field;
    t->column = c;
    e->cells[class] = NULL;
    return true;
}

static uint32_t first_row(const struct column *c, uint32_t rows, uint32_t codes)
{
    for (uint32_t row = row_skip(c->valid, 0, rows); row < rows; row = row_skip(c->valid, row + 1, rows))
        if (c->valid[row] && codes & 1u << c->valid[row])
            return row;
    return FIELD_NONE;
}

static enum err_code mismatch(struct resolve *r, slice name, struct type type, enum cell_class class,
                              const struct column *c, uint32_t row)
{
    return err_set(r->err, ERR_INVALID,
                   "Could not process this event due to mismatch in datatype: field '" SLICE_FMT
                   "' expected %s but got %s value (row %u)",
                   SLICE_ARG(name), type_text(type), cell_kind(class, c->valid[row]), record_of(r->d, row));
}

/* -- entries ---------------------------------------------------------------------------------------------------------- */

static uint8_t lists_item(const struct resolve *r, const struct column *c)
{
    uint8_t item = TYPE_NULL;

    for (uint32_t row = 0; row < r->batch->rows; row++)
        if (c->valid[row]) {
            uint8_t one = r->d->lists[((const struct list_slot *)c->values)[row].offset]->item;
            if (list_fits(item, one))
                item = one;
        }
    return item;
}

/* Is every text of a new column an instant? (strict: with a zone) */
static bool all_instants(struct resolve *r, const struct column *c)
{
    int64_t us;

    for (uint32_t row = 0; row < r->batch->rows; row++)
        if (c->valid[row] &&
            !instant_parse(text_slice(&((const struct text *)c->values)[row]), true, &r->d->instants, &us))
            return false;
    return true;
}

static bool has_cells(const struct resolve *r, const struct column *c)
{
    return first_row(c, r->batch->rows, UINT32_MAX) != FIELD_NONE;
}

/* The type that a new plain column gets, contract 2.4; false: none, all values go to siblings. */
static bool plain_type(struct resolve *r, const struct entry *e, struct type *out)
{
    bool numbers = e->cells[CELL_NUMBER], bools = e->cells[CELL_BOOL];

    *out = (struct type){TYPE_UTF8, TYPE_NULL};
    if (e->cells[CELL_LIST]) {
        *out = (struct type){TYPE_LIST, lists_item(r, e->cells[CELL_LIST])};
    } else if (e->cells[CELL_TEXT]) {
        if (instant_name(e->name) && all_instants(r, e->cells[CELL_TEXT]))
            out->kind = TYPE_TIMESTAMP;
    } else if (numbers && bools) {
        return false;
    } else if (numbers) {
        bool hash = slice_eq(e->name, slice_lit("__series_hash_u64")) &&
                    !(e->number_codes & (1u << JSON_DOUBLE | 1u << JSON_BIG));
        out->kind = hash ? TYPE_UINT64 : TYPE_FLOAT64;
    } else {
        out->kind = TYPE_BOOL;
    }
    return true;
}

/* An event must not carry p_timestamp; where the dataset has data, a plain member of another kind becomes a sibling instead. */
static enum err_code reserved(struct resolve *r, const struct entry *e)
{
    bool refuse_all = schema_count(r->schema) <= 1 || r->rules->static_schema || e->nested;

    for (size_t i = 0; i < CELL_CLASSES; i++)
        for (uint32_t row = 0; e->cells[i] && row < r->batch->rows; row++) {
            int64_t us;
            if (!e->cells[i]->valid[row])
                continue;
            if (refuse_all ||
                cell_value(r, (enum cell_class)i, e->cells[i], row, (struct type){TYPE_TIMESTAMP, TYPE_NULL}, &us))
                return err_set(r->err, ERR_INVALID, "field p_timestamp is a reserved field (row %u)",
                               record_of(r->d, row));
        }
    return ERR_OK;
}

static enum err_code not_in_static_schema(struct resolve *r, const struct entry *e)
{
    uint32_t row = FIELD_NONE;

    for (size_t i = 0; i < CELL_CLASSES; i++)
        if (e->cells[i])
            row = MIN(row, first_row(e->cells[i], r->batch->rows, UINT32_MAX));
    if (row == FIELD_NONE) /* null wherever it is there */
        return err_set(r->err, ERR_INVALID, "Schema mismatch: field '" SLICE_FMT "' is not in the static schema",
                       SLICE_ARG(e->name));
    return err_set(r->err, ERR_INVALID, "Schema mismatch: field '" SLICE_FMT "' is not in the static schema (row %u)",
                   SLICE_ARG(e->name), record_of(r->d, row));
}

/* First pass: what fits the plain column. */
static enum err_code resolve_plain(struct resolve *r, struct entry *e)
{
    uint32_t field = field_find(r, e->name);
    struct type type;
    bool any = false;

    for (size_t i = 0; i < CELL_CLASSES; i++) {
        if (e->cells[i] && !has_cells(r, e->cells[i]))
            e->cells[i] = NULL; /* a later key of the same name took them all away */
        any = any || e->cells[i];
    }
    if (slice_eq(e->name, slice_lit("p_timestamp"))) {
        TRY(reserved(r, e));
        return ERR_OK; /* what is left are siblings */
    }
    if (field == FIELD_NONE) {
        if (r->rules->static_schema)
            return not_in_static_schema(r, e);
        if (!any || !plain_type(r, e, &type))
            return ERR_OK;
        field = field_add(r, e->name, type);
    }
    for (size_t i = 0; i < CELL_CLASSES; i++)
        if (e->cells[i] && !adopt(r, (enum cell_class)i, e, field))
            route(r, (enum cell_class)i, e->cells[i], UINT32_MAX, field);
    return ERR_OK;
}

static enum err_code resolve_sibling(struct resolve *r, struct entry *e, enum cell_class class, uint32_t codes,
                                     struct type type, const char *suffix)
{
    struct column *c = e->cells[class];
    uint32_t row = first_row(c, r->batch->rows, codes), field;
    slice name;

    if (row == FIELD_NONE)
        return ERR_OK;
    if (r->rules->static_schema)
        return mismatch(r, e->name, r->targets[field_find(r, e->name)].type, class, c, row);
    name = sibling_name(r, e->name, suffix);
    field = field_find(r, name);
    if (field == FIELD_NONE)
        field = field_add(r, name, type);
    route(r, class, c, codes, field);
    row = first_row(c, r->batch->rows, codes);
    return row == FIELD_NONE ? ERR_OK : mismatch(r, name, r->targets[field].type, class, c, row);
}

/* Second pass: what did not fit. */
static enum err_code resolve_siblings(struct resolve *r, struct entry *e)
{
    const struct type number = {TYPE_FLOAT64, TYPE_NULL}, boolean = {TYPE_BOOL, TYPE_NULL},
                      text = {TYPE_UTF8, TYPE_NULL};

    if (e->cells[CELL_NUMBER]) {
        TRY(resolve_sibling(r, e, CELL_NUMBER, 1u << JSON_INT, number, "int64"));
        TRY(resolve_sibling(r, e, CELL_NUMBER, 1u << JSON_UINT, number, "uint64"));
        TRY(resolve_sibling(r, e, CELL_NUMBER, 1u << JSON_DOUBLE | 1u << JSON_BIG, number, "float64"));
    }
    if (e->cells[CELL_BOOL])
        TRY(resolve_sibling(r, e, CELL_BOOL, UINT32_MAX, boolean, "bool"));
    if (e->cells[CELL_TEXT])
        TRY(resolve_sibling(r, e, CELL_TEXT, UINT32_MAX, text, "utf8"));
    if (e->cells[CELL_LIST])
        TRY(resolve_sibling(r, e, CELL_LIST, UINT32_MAX, (struct type){TYPE_LIST, lists_item(r, e->cells[CELL_LIST])},
                            "list"));
    return ERR_OK;
}

/* Contract 2.9: the partition's field is in every row, as a text that can be a path element, an integer or a bool. */
static enum err_code check_partition(struct resolve *r)
{
    slice name = r->rules->custom_partition;
    struct entry *e = NULL;

    if (name.len == 0)
        return ERR_OK;
    for (size_t i = 0; i < r->d->entries_count && !e; i++)
        if (slice_eq(r->d->entries[i]->name, name))
            e = r->d->entries[i];
    if (r->batch->rows == 0)
        return err_set(r->err, ERR_INVALID, "Empty data object received");
    for (uint32_t row = 0; row < r->batch->rows; row++) {
        const char *what = "is not part of the log";
        for (size_t i = 0; e && i < CELL_CLASSES; i++) {
            const struct column *c = e->cells[i];
            uint8_t code = c ? c->valid[row] : 0;
            if (code == 0)
                continue;
            what = NULL;
            if (i == CELL_LIST)
                what = "is an array";
            else if (i == CELL_NUMBER && code != JSON_INT && code != JSON_UINT)
                what = "is a floating point number";
            else if (i == CELL_TIME && code == 2)
                what = "contains a period in the value";
            else if (i == CELL_TEXT) {
                slice s = text_slice(&((const struct text *)c->values)[row]);
                if (s.len == 0)
                    what = "is empty or 'null'";
                else if (memchr(s.ptr, '.', s.len))
                    what = "contains a period in the value";
            }
        }
        if (what)
            return err_set(r->err, ERR_INVALID, "Ingestion failed as field " SLICE_FMT " %s (row %u)", SLICE_ARG(name),
                           what, record_of(r->d, row));
    }
    return ERR_OK;
}

/* -- injected columns ------------------------------------------------------------------------------------------------ */

static void inject(struct resolve *r, const struct decode_pair *pair)
{
    const struct type utf8 = {TYPE_UTF8, TYPE_NULL};
    uint32_t field = field_find(r, pair->name);

    if (field != FIELD_NONE && r->targets[field].type.kind != TYPE_UTF8) {
        slice name = sibling_name(r, pair->name, "utf8");
        field = field_find(r, name);
        if (field == FIELD_NONE)
            field = field_add(r, name, utf8);
        else if (r->targets[field].type.kind != TYPE_UTF8)
            return; /* both names taken by other types: the request matters more than its decoration */
    } else if (field == FIELD_NONE) {
        field = field_add(r, arena_copy(&r->batch->arena, pair->name), utf8);
    }
    struct column *c = target_column(r, field);
    struct text text = batch_text(r->batch, pair->value);
    for (uint32_t row = 0; row < r->batch->rows; row++)
        if (!c->valid[row]) {
            ((struct text *)c->values)[row] = text;
            c->valid[row] = 1;
        }
}

static void inject_instant(struct resolve *r)
{
    struct column *c = target_column(r, 0);
    int64_t *values = c->values;

    for (uint32_t row = 0; row < r->batch->rows; row++)
        values[row] = r->rules->p_timestamp_us;
    memset(c->valid, 1, r->batch->rows);
}

static void inject_row_id(struct resolve *r)
{
    struct column *c = batch_add(r->batch, FIELD_ROW_ID, (struct type){TYPE_INT64, TYPE_NULL});
    int64_t *values = c->values;

    for (uint32_t row = 0; row < r->batch->rows; row++)
        values[row] = (int64_t)(r->rules->row_id_base + row);
    memset(c->valid, 1, r->batch->rows);
}

/* -- the whole -------------------------------------------------------------------------------------------------------- */

/* Columns of cells that were emptied go, p_timestamp comes first, and who has nulls is known. */
static void finish_batch(struct resolve *r)
{
    struct batch *b = r->batch;

    for (uint32_t i = b->columns_count; i-- > 0;)
        if (b->columns[i]->field == FIELD_NONE)
            batch_drop(b, i);
    for (uint32_t i = 0; i < b->columns_count; i++) {
        struct column *c = b->columns[i];
        atomic_store_explicit(&c->has_nulls, memchr(c->valid, 0, b->rows) != NULL, memory_order_relaxed);
        if (c->field == 0) {
            memmove(&b->columns[1], &b->columns[0], i * sizeof(*b->columns));
            b->columns[0] = c;
        }
    }
}

static struct schema *grow(const struct resolve *r)
{
    uint32_t have = schema_count(r->schema), more = (uint32_t)r->count - have;
    _cleanup_(freep) struct field *fields = NULL;

    if (more == 0)
        return schema_ref((struct schema *)r->schema); /* the count is all that changes */
    fields = mem_zalloc(more * sizeof(*fields));
    for (uint32_t i = 0; i < more; i++)
        fields[i] = (struct field){.name = r->targets[have + i].name, .type = r->targets[have + i].type};
    return schema_grow(r->schema, fields, more);
}

static enum err_code resolve_entries(struct resolve *r, uint32_t columns_max)
{
    struct decoded *d = r->d;

    TRY(check_partition(r));
    if (d->entries_count == 0 && !r->rules->static_schema)
        r->batch->rows = 0; /* {} and [{}]: nothing to see, contract 2.2 */
    if (r->batch->rows == 0)
        return ERR_OK;
    for (size_t i = 0; i < d->entries_count; i++)
        TRY(resolve_plain(r, d->entries[i]));
    for (size_t i = 0; i < d->entries_count; i++)
        TRY(resolve_siblings(r, d->entries[i]));
    inject_instant(r);
    inject_row_id(r);
    if (!r->rules->static_schema)
        for (uint32_t i = 0; i < r->rules->pairs_count; i++)
            inject(r, &r->rules->pairs[i]);
    if (columns_max && r->count > columns_max && r->count > schema_count(r->schema))
        return err_set(r->err, ERR_INVALID, "dataset would have %zu columns, the limit is %u", r->count, columns_max);
    return ERR_OK;
}

enum err_code decode_resolve(struct decoded *d, const struct schema *schema, const struct decode_options *opt,
                             const struct decode_rules *rules, struct schema **grown, struct batch **out,
                             uint64_t *inexact, struct err *err)
{
    struct resolve r = {.d = d, .schema = schema, .rules = rules, .batch = d->batch, .err = err};
    enum err_code rc;

    r.count = r.cap = schema_count(schema);
    r.targets = mem_zalloc(r.cap * sizeof(*r.targets));
    for (uint32_t i = 0; i < r.count; i++) {
        const struct field *f = schema_field(schema, i);
        r.targets[i] = (struct target){.name = f->name, .type = f->type};
    }
    rc = resolve_entries(&r, opt->columns_max);
    if (rc == ERR_OK) {
        finish_batch(&r);
        *grown = grow(&r);
        *out = move_ptr(d->batch);
        *inexact = r.inexact;
    }
    free(r.targets);
    map_done(&r.added);
    decoded_free(d);
    return rc;
}
