/* files.c: what read_parquet reads, as parameters: of files[i] $2i+1 is the list of paths, $2i+2 the map from field id to column. */
#include "engine/engine_int.h"

void engine_files_sql(size_t index, struct buf *sql)
{
    buf_fmt(sql, "read_parquet($%zu, hive_partitioning=false, schema=$%zu)", 2 * index + 1, 2 * index + 2);
}

void engine_path(struct buf *b, slice path)
{
    for (size_t i = 0; i < path.len; i++) {
        if (memchr("*?[", path.ptr[i], 3))
            buf_fmt(b, "[%c]", path.ptr[i]);
        else
            buf_byte(b, path.ptr[i]);
    }
}

/* Items are destroyed; NULL where one is none: text that is not valid UTF-8. */
static duckdb_value made(duckdb_value out, duckdb_value *items, size_t count)
{
    for (size_t i = 0; i < count; i++)
        duckdb_destroy_value(&items[i]);
    return out;
}

static bool whole(const duckdb_value *items, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!items[i])
            return false;
    return true;
}

static duckdb_value paths_value(const struct engine_files *f)
{
    duckdb_logical_type text = duckdb_create_logical_type(DUCKDB_TYPE_VARCHAR);
    _cleanup_(freep) duckdb_value *items = mem_alloc(f->paths_count * sizeof(*items));
    _cleanup_(buf_done) struct buf path = BUF_INIT;
    duckdb_value list = NULL;

    for (size_t i = 0; i < f->paths_count; i++) {
        path.len = 0;
        engine_path(&path, slice_str(f->paths[i]));
        items[i] = duckdb_create_varchar_length((const char *)path.ptr, path.len);
    }
    if (whole(items, f->paths_count))
        list = duckdb_create_list_value(text, items, f->paths_count);
    duckdb_destroy_logical_type(&text);
    return made(list, items, f->paths_count);
}

static duckdb_logical_type column_type(void)
{
    duckdb_logical_type types[] = {duckdb_create_logical_type(DUCKDB_TYPE_VARCHAR),
                                   duckdb_create_logical_type(DUCKDB_TYPE_VARCHAR),
                                   duckdb_create_logical_type(DUCKDB_TYPE_SQLNULL)};
    const char *names[] = {"name", "type", "default_value"};
    duckdb_logical_type type = duckdb_create_struct_type(types, names, ARRAY_LEN(types));

    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        duckdb_destroy_logical_type(&types[i]);
    return type;
}

static duckdb_value column_value(duckdb_logical_type type, const struct engine_file_column *c)
{
    duckdb_value members[] = {duckdb_create_varchar_length((const char *)c->name.ptr, c->name.len),
                              duckdb_create_varchar(engine_type_name(c->type)), duckdb_create_null_value()};

    duckdb_value out = whole(members, ARRAY_LEN(members)) ? duckdb_create_struct_value(type, members) : NULL;
    return made(out, members, ARRAY_LEN(members));
}

static duckdb_value columns_value(const struct engine_files *f)
{
    duckdb_logical_type id = duckdb_create_logical_type(DUCKDB_TYPE_INTEGER), column = column_type();
    duckdb_logical_type type = duckdb_create_map_type(id, column);
    _cleanup_(freep) duckdb_value *keys = mem_alloc(f->columns_count * sizeof(*keys));
    _cleanup_(freep) duckdb_value *values = mem_alloc(f->columns_count * sizeof(*values));
    duckdb_value map = NULL;

    for (size_t i = 0; i < f->columns_count; i++) {
        keys[i] = duckdb_create_int32((int32_t)f->columns[i].id);
        values[i] = column_value(column, &f->columns[i]);
    }
    if (whole(values, f->columns_count))
        map = duckdb_create_map_value(type, keys, values, f->columns_count);
    duckdb_destroy_logical_type(&type);
    duckdb_destroy_logical_type(&column);
    duckdb_destroy_logical_type(&id);
    return made(made(map, keys, f->columns_count), values, f->columns_count);
}

static enum err_code value_bind(duckdb_prepared_statement stmt, size_t number, duckdb_value value, struct err *err)
{
    duckdb_state state = value ? duckdb_bind_value(stmt, number, value) : DuckDBError;

    duckdb_destroy_value(&value);
    return state == DuckDBSuccess ? ERR_OK : err_set(err, ERR_INVALID, "engine: files and columns cannot be named");
}

enum err_code engine_files_bind(duckdb_prepared_statement stmt, const struct engine_query *q, struct err *err)
{
    for (size_t i = 0; i < q->files_count; i++) {
        TRY(value_bind(stmt, 2 * i + 1, paths_value(&q->files[i]), err));
        TRY(value_bind(stmt, 2 * i + 2, columns_value(&q->files[i]), err));
    }
    return ERR_OK;
}
