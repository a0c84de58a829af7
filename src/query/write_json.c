/* write_json.c: rows as JSON objects: one array, {"fields","records"}, a row a line, or an array of a chunk's rows a line (contract 5.1). */
#include "query/write_int.h"

static void put_fields(struct writer *w, struct buf *out)
{
    buf_str(out, "{\"fields\":[");
    for (uint32_t i = 0; i < w->columns_count; i++) {
        if (i)
            buf_byte(out, ',');
        buf_json_str(out, w->columns[i].name);
    }
    buf_byte(out, ']');
}

void write_json_begin(struct writer *w, struct buf *out)
{
    bool lines = w->opt.format == QUERY_NDJSON;

    if (w->opt.fields) {
        put_fields(w, out);
        buf_str(out, lines ? "}\n" : ",\"records\":");
    }
    if (!lines)
        buf_byte(out, '[');
}

void write_json_end(struct writer *w, struct buf *out)
{
    if (w->opt.format == QUERY_JSON)
        buf_str(out, w->opt.fields ? "]}" : "]");
}

/* Columns of one name are one member: of the last that has a value (the original's object keeps the last it meets). */
static bool hidden(const struct writer *w, const struct engine_chunk *chunk, uint32_t i, uint64_t row, bool valid)
{
    const struct write_column *col = &w->columns[i];

    if (!valid && col->twin_next >= 0)
        return true;
    if (valid) {
        for (int64_t k = col->twin_next; k >= 0; k = w->columns[k].twin_next)
            if (engine_valid(&chunk->columns[k], row))
                return true;
        return false;
    }
    for (uint32_t k = 0; k < i; k++) /* the last of them, null: another may have a value */
        if (w->columns[k].twin_last == (int64_t)i && engine_valid(&chunk->columns[k], row))
            return true;
    return false;
}

static void put_row(struct writer *w, const struct engine_chunk *chunk, uint64_t row, struct cursor *c)
{
    uint8_t comma = '{';

    for (uint32_t i = 0; i < w->columns_count; i++) {
        const struct write_column *col = &w->columns[i];
        const struct engine_vector *v = &chunk->columns[i];
        bool valid = engine_valid(v, row) && col->field->type != ENGINE_NULL;
        if (!valid && !w->opt.send_null)
            continue;
        if (col->twin_last >= 0 && hidden(w, chunk, i, row, valid))
            continue;
        cursor_key(c, col, comma);
        comma = ',';
        write_json_value(w, c, col, v, row);
    }
    cursor_room(c, 4); /* the bytes between rows too */
    if (comma == '{')
        cursor_byte(c, '{');
    cursor_byte(c, '}');
}

void write_json_rows(struct writer *w, const struct engine_chunk *chunk, uint64_t *row, struct buf *out)
{
    const bool lines = w->opt.format == QUERY_NDJSON, batches = lines && w->opt.batches;

    const size_t before = out->len;

    if (w->rows_before && !lines)
        buf_byte(out, ',');
    w->rows_before = true;
    struct cursor c = cursor_of(out);
    cursor_room(&c, 1);
    if (batches)
        cursor_byte(&c, '[');
    for (uint64_t first = *row; *row < chunk->rows && cursor_len(&c) - before < WRITER_PIECE_BYTES; (*row)++) {
        if (*row > first && (batches || !lines))
            cursor_byte(&c, ',');
        put_row(w, chunk, *row, &c);
        if (lines && !batches)
            cursor_byte(&c, '\n');
    }
    if (batches)
        cursor_put(&c, slice_lit("]\n"));
    cursor_end(&c);
}

void writer_row(struct writer *w, const struct engine_chunk *chunk, uint64_t row, struct buf *out)
{
    struct cursor c = cursor_of(out);
    put_row(w, chunk, row, &c);
    cursor_end(&c);
}
