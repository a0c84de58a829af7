/* json_schema.c: schemas that clients ask for or hand in (contract 3.2 detect, 2.9 static schemas). */
#include "decode/json_int.h"

/* -- detect ----------------------------------------------------------------------------------------------------------- */

static bool has_value(const struct column *c, uint32_t rows)
{
    for (uint32_t row = 0; row < rows; row++)
        if (c->valid[row])
            return true;
    return false;
}

static struct type detected_type(struct decoded *d, const struct entry *e)
{
    const struct column *text = e->cells[CELL_TEXT], *lists = e->cells[CELL_LIST];
    struct type type = {TYPE_NULL, TYPE_NULL};
    unsigned classes = 0;

    for (size_t i = 0; i < CELL_CLASSES; i++)
        classes += e->cells[i] && has_value(e->cells[i], d->batch->rows);
    if (classes == 0)
        return type;
    type.kind = TYPE_UTF8;
    if (classes > 1)
        return type;
    if (text && instant_name(e->name)) {
        bool all = true;
        int64_t us;
        for (uint32_t row = 0; row < d->batch->rows && all; row++)
            all = !text->valid[row] ||
                  instant_parse(text_slice(&((const struct text *)text->values)[row]), true, &d->instants, &us);
        type.kind = all ? TYPE_TIMESTAMP : TYPE_UTF8;
    } else if (lists) {
        type.kind = TYPE_LIST;
        for (size_t i = 0; i < d->lists_count; i++)
            if (d->lists[i]->item != TYPE_NULL)
                type.item = d->lists[i]->item;
    } else if (!text) {
        type.kind = e->cells[CELL_BOOL] ? TYPE_BOOL : TYPE_FLOAT64;
    }
    return type;
}

enum err_code decode_detect(struct decoder *dec, slice body, const struct decode_options *opt, struct buf *out,
                            struct err *err)
{
    struct decoded *d = NULL;

    TRY(decode_json(dec, body, opt, NULL, &d, err));
    if (dec->deep && opt->flatten == DECODE_GENERIC) {
        decoded_free(d);
        return err_set(err, ERR_INVALID, "JSON is too deeply nested (exceeds level %u), cannot flatten",
                       opt->flatten_level);
    }
    buf_str(out, "{\"fields\":[");
    for (size_t i = 0; i < d->entries_count; i++) {
        if (i)
            buf_byte(out, ',');
        field_print(d->entries[i]->name, detected_type(d, d->entries[i]), out);
    }
    buf_str(out, "],\"metadata\":{}}");
    decoded_free(d);
    return ERR_OK;
}

/* -- static schema ------------------------------------------------------------------------------------------------------ */

static bool static_type(slice name, struct type *out)
{
    static const struct {
        const char *name;
        struct type type;
    } types[] = {
        {"int", {TYPE_INT64, TYPE_NULL}},          {"double", {TYPE_FLOAT64, TYPE_NULL}},
        {"float", {TYPE_FLOAT64, TYPE_NULL}},      {"boolean", {TYPE_BOOL, TYPE_NULL}},
        {"string", {TYPE_UTF8, TYPE_NULL}},        {"datetime", {TYPE_TIMESTAMP, TYPE_NULL}},
        {"date", {TYPE_DATE32, TYPE_NULL}},        {"string_list", {TYPE_LIST, TYPE_UTF8}},
        {"int_list", {TYPE_LIST, TYPE_INT64}},     {"double_list", {TYPE_LIST, TYPE_FLOAT64}},
        {"float_list", {TYPE_LIST, TYPE_FLOAT64}}, {"boolean_list", {TYPE_LIST, TYPE_BOOL}},
    };

    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (slice_eq(name, slice_str(types[i].name))) {
            *out = types[i].type;
            return true;
        }
    return false;
}

/* The names are checked after all shapes, as the original does: a wrong shape is 400, a wrong schema 500. */
static enum err_code static_shape(const struct json_value *fields, struct field *out, slice *type_names,
                                  struct err *err)
{
    for (uint32_t i = 0; i < fields->count; i++) {
        const struct json_value *name = json_dom_get(&fields->items[i], "name"),
                                *type = json_dom_get(&fields->items[i], "data_type");
        if (!name || name->kind != DOM_STRING || !type || type->kind != DOM_STRING)
            return err_set(err, ERR_INVALID, "field %u needs a `name` and a `data_type`, both text", i);
        out[i].name = name->string;
        type_names[i] = type->string;
    }
    return ERR_OK;
}

static enum err_code static_check(struct field *fields, const slice *type_names, uint32_t count, slice partition,
                                  struct err *err)
{
    _cleanup_(map_done) struct map seen = MAP_INIT;

    for (uint32_t i = 0; i < count; i++) {
        slice name = fields[i].name;
        if (name.len == 0)
            return err_set(err, ERR_CORRUPT, "field %u has an empty name", i);
        if (slice_eq(name, slice_lit("p_timestamp")))
            return err_set(err, ERR_CORRUPT, "field p_timestamp is a reserved field");
        if (!static_type(type_names[i], &fields[i].type))
            return err_set(err, ERR_CORRUPT, "field '" SLICE_FMT "' has the unknown type '" SLICE_FMT "'",
                           SLICE_ARG(name), SLICE_ARG(type_names[i]));
        if (map_put(&seen, name, &fields[i]))
            return err_set(err, ERR_CORRUPT, "field '" SLICE_FMT "' is there twice", SLICE_ARG(name));
    }
    if (partition.len && !map_get(&seen, partition))
        return err_set(err, ERR_CORRUPT, "custom partition field " SLICE_FMT " is not in the schema",
                       SLICE_ARG(partition));
    return ERR_OK;
}

enum err_code decode_static_schema(slice body, slice partition, struct schema **out, struct err *err)
{
    _cleanup_(arena_done) struct arena arena = ARENA_INIT;
    _cleanup_(schema_unrefp) struct schema *empty = schema_empty();
    const struct json_value *fields;
    struct json_value root;
    struct field *list;
    slice *type_names;

    if (body.len == 0)
        return err_set(err, ERR_CORRUPT, "a static schema needs a body that describes it");
    TRY(json_dom_parse(body, &arena, &root, err));
    fields = json_dom_get(&root, "fields");
    if (!fields || fields->kind != DOM_ARRAY)
        return err_set(err, ERR_INVALID, "missing field `fields`");
    list = arena_zalloc(&arena, fields->count * sizeof(*list));
    type_names = arena_zalloc(&arena, fields->count * sizeof(*type_names));
    TRY(static_shape(fields, list, type_names, err));
    TRY(static_check(list, type_names, fields->count, partition, err));
    *out = schema_grow(empty, list, fields->count);
    return ERR_OK;
}
