/* write_csv.c: RFC 4180: a header line, CRLF, fields quoted where they must be. A null is an empty field and an empty text is "", as
 * PostgreSQL writes them; nested values are their JSON. */
#include "query/write_int.h"

#include <math.h>

static void put_quoted(struct cursor *c, slice s)
{
    cursor_room(c, 2 * s.len + 2);
    cursor_byte(c, '"');
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '"')
            cursor_byte(c, '"');
        cursor_byte(c, s.ptr[i]);
    }
    cursor_byte(c, '"');
}

static void put_text(struct cursor *c, slice s)
{
    bool quote = s.len == 0;

    for (size_t i = 0; i < s.len && !quote; i++)
        quote = s.ptr[i] == '"' || s.ptr[i] == ',' || s.ptr[i] == '\n' || s.ptr[i] == '\r';
    if (quote) {
        put_quoted(c, s);
        return;
    }
    cursor_room(c, s.len);
    cursor_put(c, s);
}

static void put_nested(struct writer *w, struct cursor *c, const struct write_column *col,
                       const struct engine_vector *v, uint64_t row)
{
    w->scratch.len = 0;
    struct cursor json = cursor_of(&w->scratch);
    write_json_value(w, &json, col, v, row);
    cursor_end(&json);
    put_text(c, buf_view(&w->scratch));
}

static void put_float(struct cursor *c, double v) /* not finite: JSON has no form for it, CSV has */
{
    cursor_put(c, isnan(v) ? slice_lit("NaN") : v > 0 ? slice_lit("Infinity") : slice_lit("-Infinity"));
}

static void put_value(struct writer *w, struct cursor *c, const struct write_column *col, const struct engine_vector *v,
                      uint64_t row)
{
    cursor_room(c, WRITE_SCALAR_MAX);
    switch (col->field->type) {
    case ENGINE_TEXT: put_text(c, text_slice((const struct text *)v->data + row)); return;
    case ENGINE_ENUM: put_text(c, write_enum(col->field, v, row)); return;
    case ENGINE_BLOB: {
        slice s = text_slice((const struct text *)v->data + row);
        s.len ? write_hex(c, s) : put_text(c, s);
        return;
    }
    case ENGINE_LIST:
    case ENGINE_ARRAY:
    case ENGINE_STRUCT:
    case ENGINE_MAP: put_nested(w, c, col, v, row); return;
    case ENGINE_F32:
        if (!isfinite(((const float *)v->data)[row])) {
            put_float(c, (double)((const float *)v->data)[row]);
            return;
        }
        break;
    case ENGINE_F64:
        if (!isfinite(((const double *)v->data)[row])) {
            put_float(c, ((const double *)v->data)[row]);
            return;
        }
        break;
    default: break;
    }
    c->p = (uint8_t *)write_scalar(&w->date, col, v, row, (char *)c->p);
}

static void put_end_of_line(struct cursor *c)
{
    cursor_room(c, 2);
    cursor_put(c, slice_lit("\r\n"));
}

void write_csv_begin(struct writer *w, struct buf *out)
{
    struct cursor c = cursor_of(out);

    for (uint32_t i = 0; i < w->columns_count; i++) {
        cursor_room(&c, 1);
        if (i)
            cursor_byte(&c, ',');
        put_text(&c, w->columns[i].name);
    }
    put_end_of_line(&c);
    cursor_end(&c);
}

void write_csv_rows(struct writer *w, const struct engine_chunk *chunk, uint64_t *row, struct buf *out)
{
    const size_t before = out->len;
    struct cursor c = cursor_of(out);

    for (; *row < chunk->rows && cursor_len(&c) - before < WRITER_PIECE_BYTES; (*row)++) {
        for (uint32_t i = 0; i < w->columns_count; i++) {
            const struct write_column *col = &w->columns[i];
            cursor_room(&c, 3);
            if (i)
                cursor_byte(&c, ',');
            if (engine_valid(&chunk->columns[i], *row) && col->field->type != ENGINE_NULL)
                put_value(w, &c, col, &chunk->columns[i], *row);
            else if (w->columns_count == 1)
                cursor_put(&c,
                           slice_lit("\"\"")); /* an empty line is no record to most readers: a row must not vanish */
        }
        put_end_of_line(&c);
    }
    cursor_end(&c);
}
