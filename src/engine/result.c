/* result.c: the types and vectors of a result in the shapes of engine.h. */
#include "engine/engine_int.h"

static enum engine_type type_of(duckdb_type t)
{
    switch (t) {
    case DUCKDB_TYPE_SQLNULL: return ENGINE_NULL;
    case DUCKDB_TYPE_BOOLEAN: return ENGINE_BOOL;
    case DUCKDB_TYPE_TINYINT: return ENGINE_I8;
    case DUCKDB_TYPE_SMALLINT: return ENGINE_I16;
    case DUCKDB_TYPE_INTEGER: return ENGINE_I32;
    case DUCKDB_TYPE_BIGINT: return ENGINE_I64;
    case DUCKDB_TYPE_HUGEINT: return ENGINE_I128;
    case DUCKDB_TYPE_UTINYINT: return ENGINE_U8;
    case DUCKDB_TYPE_USMALLINT: return ENGINE_U16;
    case DUCKDB_TYPE_UINTEGER: return ENGINE_U32;
    case DUCKDB_TYPE_UBIGINT: return ENGINE_U64;
    case DUCKDB_TYPE_UHUGEINT: return ENGINE_U128;
    case DUCKDB_TYPE_FLOAT: return ENGINE_F32;
    case DUCKDB_TYPE_DOUBLE: return ENGINE_F64;
    case DUCKDB_TYPE_DECIMAL: return ENGINE_DECIMAL;
    case DUCKDB_TYPE_VARCHAR: return ENGINE_TEXT;
    case DUCKDB_TYPE_BLOB: return ENGINE_BLOB;
    case DUCKDB_TYPE_DATE: return ENGINE_DATE;
    case DUCKDB_TYPE_TIME: return ENGINE_TIME;
    case DUCKDB_TYPE_TIMESTAMP:
    case DUCKDB_TYPE_TIMESTAMP_TZ: return ENGINE_TIMESTAMP;
    case DUCKDB_TYPE_TIMESTAMP_S: return ENGINE_TIMESTAMP_S;
    case DUCKDB_TYPE_TIMESTAMP_MS: return ENGINE_TIMESTAMP_MS;
    case DUCKDB_TYPE_TIMESTAMP_NS: return ENGINE_TIMESTAMP_NS;
    case DUCKDB_TYPE_INTERVAL: return ENGINE_INTERVAL;
    case DUCKDB_TYPE_LIST: return ENGINE_LIST;
    case DUCKDB_TYPE_ARRAY: return ENGINE_ARRAY;
    case DUCKDB_TYPE_STRUCT: return ENGINE_STRUCT;
    case DUCKDB_TYPE_MAP: return ENGINE_MAP;
    case DUCKDB_TYPE_UUID: return ENGINE_UUID;
    case DUCKDB_TYPE_ENUM: return ENGINE_ENUM;
    default: return ENGINE_OTHER;
    }
}

static uint8_t width_of(duckdb_type t)
{
    switch (t) {
    case DUCKDB_TYPE_UTINYINT: return 1;
    case DUCKDB_TYPE_SMALLINT:
    case DUCKDB_TYPE_USMALLINT: return 2;
    case DUCKDB_TYPE_INTEGER:
    case DUCKDB_TYPE_UINTEGER: return 4;
    case DUCKDB_TYPE_BIGINT: return 8;
    default: return 16;
    }
}

static void field_fill(struct engine_field *f, duckdb_logical_type type, char *name);

static void child_fill(struct engine_field *f, duckdb_logical_type type, const char *name)
{
    field_fill(f, type, mem_str(slice_str(name)));
    duckdb_destroy_logical_type(&type);
}

static void struct_fill(struct engine_field *f, duckdb_logical_type type)
{
    f->children_count = (uint32_t)duckdb_struct_type_child_count(type);
    f->children = mem_zalloc(f->children_count * sizeof(*f->children));
    for (uint32_t i = 0; i < f->children_count; i++) {
        char *name = duckdb_struct_type_child_name(type, i);
        child_fill(&f->children[i], duckdb_struct_type_child_type(type, i), name);
        duckdb_free(name);
    }
}

static void enum_fill(struct engine_field *f, duckdb_logical_type type)
{
    f->enum_bytes = width_of(duckdb_enum_internal_type(type));
    f->enum_count = duckdb_enum_dictionary_size(type);
    f->enum_names = mem_zalloc(f->enum_count * sizeof(*f->enum_names));
    for (uint32_t i = 0; i < f->enum_count; i++) {
        char *name = duckdb_enum_dictionary_value(type, i);
        f->enum_names[i] = mem_str(slice_str(name));
        duckdb_free(name);
    }
}

static void field_fill(struct engine_field *f, duckdb_logical_type type, char *name)
{
    f->name = name;
    f->type = type_of(duckdb_get_type_id(type));
    switch (f->type) {
    case ENGINE_DECIMAL:
        f->decimal_width = duckdb_decimal_width(type);
        f->decimal_scale = duckdb_decimal_scale(type);
        f->decimal_bytes = width_of(duckdb_decimal_internal_type(type));
        break;
    case ENGINE_LIST:
    case ENGINE_ARRAY:
        f->children_count = 1;
        f->children = mem_zalloc(sizeof(*f->children));
        if (f->type == ENGINE_ARRAY)
            f->array_size = (uint32_t)duckdb_array_type_array_size(type);
        child_fill(f->children,
                   f->type == ENGINE_LIST ? duckdb_list_type_child_type(type) : duckdb_array_type_child_type(type),
                   "item");
        break;
    case ENGINE_MAP:
        f->children_count = 2;
        f->children = mem_zalloc(2 * sizeof(*f->children));
        child_fill(&f->children[0], duckdb_map_type_key_type(type), "key");
        child_fill(&f->children[1], duckdb_map_type_value_type(type), "value");
        break;
    case ENGINE_STRUCT: struct_fill(f, type); break;
    case ENGINE_ENUM: enum_fill(f, type); break;
    default: break;
    }
}

void engine_fields_make(struct engine_result *r)
{
    r->fields_count = (uint32_t)duckdb_column_count(&r->result);
    r->fields = mem_zalloc(r->fields_count * sizeof(*r->fields));
    for (uint32_t i = 0; i < r->fields_count; i++) {
        duckdb_logical_type type = duckdb_column_logical_type(&r->result, i);
        field_fill(&r->fields[i], type, mem_str(slice_str(duckdb_column_name(&r->result, i))));
        duckdb_destroy_logical_type(&type);
    }
}

void engine_fields_free(struct engine_field *fields, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        engine_fields_free(fields[i].children, fields[i].children_count);
        for (uint32_t k = 0; k < fields[i].enum_count; k++)
            free(fields[i].enum_names[k]);
        free(fields[i].enum_names);
        free(fields[i].name);
    }
    free(fields);
}

uint32_t engine_result_fields(const struct engine_result *r, const struct engine_field **out)
{
    *out = r->fields;
    return r->fields_count;
}

static void vector_wrap(struct engine_result *r, const struct engine_field *f, duckdb_vector v, uint64_t size,
                        struct engine_vector *out)
{
    *out =
        (struct engine_vector){.data = duckdb_vector_get_data(v), .valid = duckdb_vector_get_validity(v), .size = size};
    if (!f->children_count)
        return;
    out->children_count = f->children_count;
    out->children = arena_zalloc(&r->arena, f->children_count * sizeof(*out->children));
    switch (f->type) {
    case ENGINE_LIST:
        vector_wrap(r, f->children, duckdb_list_vector_get_child(v), duckdb_list_vector_get_size(v), out->children);
        break;
    case ENGINE_ARRAY:
        vector_wrap(r, f->children, duckdb_array_vector_get_child(v), size * f->array_size, out->children);
        break;
    case ENGINE_MAP: { /* a list of structs {key, value} */
        duckdb_vector entries = duckdb_list_vector_get_child(v);
        uint64_t n = duckdb_list_vector_get_size(v);
        for (uint32_t i = 0; i < 2; i++)
            vector_wrap(r, &f->children[i], duckdb_struct_vector_get_child(entries, i), n, &out->children[i]);
        break;
    }
    default: /* STRUCT */
        for (uint32_t i = 0; i < f->children_count; i++)
            vector_wrap(r, &f->children[i], duckdb_struct_vector_get_child(v, i), size, &out->children[i]);
    }
}

void engine_chunk_wrap(struct engine_result *r)
{
    arena_done(&r->arena);
    r->out.rows = duckdb_data_chunk_get_size(r->chunk);
    r->out.columns = arena_zalloc(&r->arena, r->fields_count * sizeof(*r->out.columns));
    for (uint32_t i = 0; i < r->fields_count; i++)
        vector_wrap(r, &r->fields[i], duckdb_data_chunk_get_vector(r->chunk, i), r->out.rows, &r->out.columns[i]);
}
